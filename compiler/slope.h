/* slope - indices that are sums of coordinates times scalars. */
#ifndef COMPILER_SLOPE_H
#define COMPILER_SLOPE_H

#include "compiler/ir.h"

/* by[i]: what stands before the coordinate of the field's axis i, NULL: it does not occur. rest: what is added; NULL: nothing. */
struct slopes {
    struct ir_expr *by[IR_RANK], *rest;
};

/* False where e is no such sum over the field's own axes. */
bool slopes_of(struct arena *a, const struct ir_field *f, const struct ir_expr *e, struct slopes *s);
/* Bytes that every row of a tile begins at a multiple of in t, and is made of, when rows walk the axis `inner`. */
int slopes_unit(const struct ir_fn *fn, const struct ir_field *f, const struct slopes *s, int inner, const struct ir_tensor *t);

#endif
