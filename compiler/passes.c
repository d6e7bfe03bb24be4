/* passes - runs the pipeline of passes.def; the IR is verified after each row. */
#include "compiler/passes.h"

void compiler_passes(struct arena *a, struct diag *d, struct ir_fn *fn, const struct target *t)
{
    struct pass_state p = {a, d, fn, t};
#define PASS(name, what) pass_##name(&p); ir_verify(fn, #name);
#include "compiler/passes.def"
}
