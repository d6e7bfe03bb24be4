/* tcgen05 - between tcgen05.c and tcgen05_scales.c: products whose block scales tensor memory holds. */
#ifndef CODEGEN_TCGEN05_H
#define CODEGEN_TCGEN05_H

#include "codegen/mma_common.h"

/* Columns that the scales of op take: all slots of their pipe; 0 without scales. */
int tcgen05_scale_columns(const struct mma_op *op);

/* Of what type they are. */
enum type tcgen05_scale_type(const struct mma_op *op);

/* The scales of one product. Tensor memory is `base` plus a constant for each. */
struct tcgen05_scales {
    struct opd base[2];       /* of A, of B: the slot held now */
    int blocks[2];            /* of 128 rows */
};
/* Issues the copies of a slot's scales; products issued later find them there. */
struct tcgen05_scales tcgen05_copy_scales(struct gen *g, const struct mma_op *op);
/* Where a product finds the scales of row (b: column) mn in a step, and which byte of a word is its first. */
struct opd tcgen05_scale(struct gen *g, const struct mma_op *op, const struct tcgen05_scales *s, bool b, int step, int mn, int *id);

#endif
