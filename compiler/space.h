/* space - what a kernel's roles hold in registers, before code is generated. */
#ifndef COMPILER_SPACE_H
#define COMPILER_SPACE_H

#include "compiler/cost.h"

/* Elements of a tile over these axes. */
double space_elements(struct ir_axis *const *axes, int n);
/* How many warps run the role. */
int space_warps(const struct ir_role *r, const struct ir_fn *fn, const struct target *t);
/* Fills c->accum_regs and c->lack_regs. rows: by axis, whether it is rows of a product. */
void space_measure(const struct ir_fn *fn, const struct target *t, const bool *rows, struct cost *c);

#endif
