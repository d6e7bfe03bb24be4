/* passes - what a pass receives. */
#ifndef COMPILER_PASSES_H
#define COMPILER_PASSES_H

#include "compiler/ir.h"
#include "compiler/target.h"

struct pass_state {
    struct arena *arena;
    struct diag *diag;
    struct ir_fn *fn;
    const struct target *target;
};

#define PASS(name, what) void pass_##name(struct pass_state *p);
#include "compiler/passes.def"

#endif
