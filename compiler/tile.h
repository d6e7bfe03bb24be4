/* tile - dense arrays over axes, and the arithmetic of the tile IR on them, for the interpreter. Written to be read
 * against ops.def: every operation rounds to the type of its result, one element at a time. */
#ifndef COMPILER_TILE_H
#define COMPILER_TILE_H

#include "compiler/ir.h"

/* One element: `f` for floating types (the exact value), `i` for the others (bool: 0 or 1). */
union cell {
    double f;
    int64_t i;
};

/* Elements row by row, the last axis fastest; axes in order of their ids. A scalar has no axes and one element. */
struct tile {
    enum type type;
    int naxes;
    const struct ir_axis *axes[IR_RANK];
    int64_t extent[IR_RANK];
    int64_t n;
    union cell *at;
};

/* Memory that is given back all at once and kept for the next use. Not zeroed. */
struct pool {
    struct pool_chunk *head, *spare;
};
void *pool_alloc(struct pool *p, size_t bytes);
void pool_reset(struct pool *p);
void pool_free(struct pool *p);

struct tile tile_scalar(struct pool *p, enum type t);
/* An uninitialised tile over the axes of a and b. */
struct tile tile_over(struct pool *p, enum type t, const struct tile *const *args, int n);
void tile_add_axis(struct tile *t, const struct ir_axis *axis, int64_t extent); /* before tile_room */
void tile_room(struct pool *p, struct tile *t);
int tile_axis(const struct tile *t, const struct ir_axis *axis); /* its place, or -1 */

/* For each dimension of `whole`, how far apart its neighbours lie in `part`; 0 where part lacks the axis. */
void tile_strides(const struct tile *whole, const struct tile *part, int64_t *stride);
/* Offset in an array with these strides of the element that has number `at` in `whole`. */
int64_t tile_offset(const struct tile *whole, const int64_t *stride, int64_t at);

/* r[...] = kind(args[0], args[1], ...) with operands repeated along axes they lack. `wide`: f32 results stay doubles. */
struct tile tile_map(struct pool *p, enum ir_expr_kind kind, enum type type, const struct tile *args, int n, bool wide);
/* Along axis number `dim`, of which only the first `valid` elements count. */
struct tile tile_reduce(struct pool *p, enum ir_reduce op, const struct tile *t, int dim, int64_t valid, bool wide);
/* a op b for one element, as an atomic does it. */
union cell tile_combine(enum ir_reduce op, enum type type, union cell a, union cell b, bool wide);
/* Repeats src over the axes of dst. */
void tile_broadcast(struct tile *dst, const struct tile *src);

/* The nearest value of a type; integers wrap. */
double tile_round(enum type t, double v);
int64_t tile_wrap(enum type t, int64_t v);
/* What memory holds before anything is written to it: NaN, or a number nobody means. */
union cell tile_poison(enum type t);

/* r[batch, m, n] = sum over k of a[batch, m, k] * b[batch, k, n], in double precision; every array packed. */
void tile_contract(double *r, const double *a, const double *b, int64_t batch, int64_t m, int64_t n, int64_t k);
/* Packs t as doubles, its axes in the order given; axes it lacks have extent 1 in `order` or are repeated. valid[i]: how
 * many elements of order[i] are taken. */
void tile_pack(double *out, const struct tile *t, const struct ir_axis *const *order, const int64_t *valid, int n);

#endif
