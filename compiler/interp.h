/* interp - runs a kernel's tile IR on the host: what the kernel means, before any instruction is chosen. It stands between
 * a kernel's spec and its PTX, and is written to be obviously right rather than fast.
 *
 * Rounding: every operation on f32 rounds to f32; an mma, and a sum over an axis, is summed in double precision and rounds
 * once. Approximate functions (exp2, rcp, ...) are exact to f32. What no one wrote is NaN, or a number nobody means. */
#ifndef COMPILER_INTERP_H
#define COMPILER_INTERP_H

#include "compiler/tile.h"

/* An argument. Scalars have rank 0 and one element. Strides in elements; e2m1 elements are half bytes, the one with the
 * lower number in the low nibble. */
struct interp_tensor {
    enum type type;
    int rank;
    int64_t shape[IR_RANK], stride[IR_RANK];
    void *data;
};

union cell interp_load(const struct interp_tensor *t, int64_t offset);
void interp_store(const struct interp_tensor *t, int64_t offset, union cell value);

/* Where expressions take their values from. One per role of a CTA, or per spec. */
struct interp_env {
    const struct ir_fn *fn;
    const struct interp_tensor *args; /* by ir_tensor.id */
    const int64_t *dims;              /* by dimension */
    int64_t unit, units, rank, thread;
    struct interp_axis *axes;         /* by ir_axis.id */
    struct tile *vars;                /* by ir_var.id; their cells are their own, none while unset */
    struct interp_shared *shared;     /* by ir_shared.id */
    struct interp_slot **slots;       /* by ir_pipe.id: the slot now held, or NULL */
    const struct interp_part *parts;  /* inside combine */
    int n_parts;
    const bool *part_own;             /* by ir_var.id: set in the body of combine itself */
    bool wide;                        /* f32 is not rounded: specs */
    int quiet;                        /* > 0: reads outside of shared arrays are no error: their side may not be chosen */
    bool contracts;                   /* sums of products need not build the products: specs */
    struct pool *scratch;
    double (*rand)(void *state, double lo, double hi); /* the built-in of givens; NULL elsewhere */
    void *rand_state;
    char *error;                      /* the first; malloc'd */
    struct span error_at;
};

struct interp_axis {
    int64_t origin, limit, extent;
    bool single;                      /* an enclosing loop walks it one coordinate at a time, now at `element` */
    int64_t element;
    bool loops;                       /* a spec's axis on which other axes' bounds depend */
};

struct interp_shared {
    enum type type;
    int rank;
    int64_t shape[IR_RANK], n;
    union cell *at;
};

struct interp_slot {
    struct tile *fields;              /* in the pipe's order */
    int64_t (*origin)[IR_RANK];       /* where each field's window began when it was filled */
};

struct interp_part {
    struct tile *vars;
};

/* Makes room for axes, with origin 0. Free what it made with interp_env_free. */
void interp_env_init(struct interp_env *v, const struct ir_fn *fn, const struct interp_tensor *args, const int64_t *dims);
void interp_env_free(struct interp_env *v);
/* First error wins. */
void interp_fail(struct interp_env *v, struct span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Value of an expression; lies in v->scratch. Look at v->error afterwards. */
struct tile interp_eval(struct interp_env *v, const struct ir_expr *e);
int64_t interp_eval_int(struct interp_env *v, const struct ir_expr *e);
int64_t interp_limit(struct interp_env *v, const struct ir_axis *x);
/* Sum over the axes k (of both, as far as they exist) of a * b, in double precision; f32, not rounded. */
struct tile interp_contract(struct interp_env *v, const struct tile *a, const struct tile *b, const struct ir_axis *const *k, int nk);
/* The most elements any tile has while e is evaluated; *work (or NULL): how many are computed in all. */
double interp_room(struct interp_env *v, const struct ir_expr *e, double *work);
/* Sets a range axis to its whole range lo .. hi. */
void interp_whole_range(struct interp_env *v, const struct ir_axis *x);

enum interp_order { INTERP_FORWARD, INTERP_BACKWARD, INTERP_SHUFFLED };

/* Runs the kernel. units: how many clusters a persistent kernel has; others have one a task. `order` is that of the units.
 * False with *error (malloc'd: what, and which statement as a byte range) when it deadlocks, an assertion fails, or the
 * kernel does what it may not. */
bool interp_run_ordered(const struct ir_fn *fn, struct interp_tensor *args, int n, const int64_t *dims, int units,
                        enum interp_order order, char **error, struct span *at);
bool interp_run(const struct ir_fn *fn, struct interp_tensor *args, int n, const int64_t *dims, int units, char **error);
/* Runs statements outside of any role (spec check). */
bool interp_check(const struct ir_fn *fn, struct interp_tensor *args, const int64_t *dims, char **error, struct span *at);

#endif
