/* ir - the tile IR: one kernel for one target, parameters and tune values fixed.
 *
 * A kernel is a task prologue (fn->task: loops over tasks, lets, bindings of grid axes, one `body` statement) and roles:
 * sequential programs that run their body once for each task and talk through pipes only. Every role runs its own copy of
 * the prologue.
 *
 * Bounds are the meaning. An axis has a static tile extent; at any point its current tile covers coordinates
 * origin .. origin + tile - 1 of the problem, of which those >= limit do not exist: a store skips them, a reduction
 * ignores them, as mma operands they count as 0. Reads outside a tensor give 0, stores outside it are dropped. */
#ifndef COMPILER_IR_H
#define COMPILER_IR_H

#include "dsl/base.h"
#include "dsl/diag.h"
#include "dsl/types.h"

#define IR_RANK 8

enum ir_expr_kind {
#define EXPR(name, nargs, meaning) E_##name,
#define STMT(name, slots, meaning)
#include "compiler/ops.def"
    E_COUNT
};
enum ir_stmt_kind {
#define EXPR(name, nargs, meaning)
#define STMT(name, slots, meaning) S_##name,
#include "compiler/ops.def"
    S_COUNT
};
enum ir_reduce { RED_sum, RED_max, RED_min, RED_any, RED_all, RED_and, RED_or, RED_xor, RED_exch, RED_COUNT };
enum ir_mode { MODE_set, MODE_add, MODE_atomic };

struct ir_expr;
struct ir_stmt;

/* A range of coordinates and its tile. */
struct ir_axis {
    const char *name;       /* "k"; window axes "j/128" */
    int id;
    int tile;               /* coordinates a tile spans; 0: no static extent (a split axis, a spec's range): never in a tile's type */
    struct ir_axis *of;     /* window axis: coordinate = coordinate of `of` / div (floor); origin and limit follow from it. Else NULL */
    int div;
    bool exact;             /* proven: tiles never reach past limit */
    bool clean;             /* proven: where a tile reaches past limit, every tensor indexed by it ends there too
                               (so zero fill by the hardware is right for a contracted axis) */
    int align;              /* every origin is a multiple of this (>= 1) */
    struct ir_expr *lo, *hi; /* a spec's range axis: the whole range. Else NULL */
    struct span span;
};

struct ir_dim {
    const char *name;
    int64_t value;          /* the constant it was specialised to, or -1: a run-time number */
    int multiple;           /* it is a multiple of this (from require), >= 1 */
};

/* What is expected of a tensor's bytes in the L2 cache. */
enum ir_cache {
#define CACHE(word, priority, meaning) CACHE_##word,
#include "dsl/cache.def"
    CACHE_COUNT
};

enum { IR_ALIGN = 16 }; /* bytes: what the widest copies and accesses take */

struct ir_tensor {
    const char *name;
    int id, dir;            /* dir: 0 in, 1 out, 2 inout */
    enum type type;
    int rank;               /* 0: a scalar argument */
    struct ir_expr *dim[IR_RANK]; /* sizes: scalars over E_dim and constants */
    const char *dim_text[IR_RANK];
    int inner;              /* the dimension with stride 1 */
    int inner_choices;      /* bit set of dimensions that may be inner (as declared) */
    int align;              /* bytes, 1 to IR_ALIGN: code may rely on the address and every stride but the inner being multiples */
    enum ir_cache cache;
    struct span span;
};

struct ir_shared {
    const char *name;
    int id;
    enum type type;
    int rank;               /* 0: a scalar */
    struct ir_expr *dim[IR_RANK]; /* must be constant after lowering, or run-time (dynamic shared memory) when rank is 1 */
    struct span span;
};

/* A mutable variable: a scalar, a register tile, or an accumulator. */
struct ir_var {
    const char *name;       /* unique in the kernel: "c", "t0", "u.2" */
    int id;
    enum type type;
    int naxes;
    struct ir_axis *axes[IR_RANK];
    bool accum;             /* target of mma */
    int slots;              /* accumulators: copies in flight asked for (slots(c) = 2), else 1 */
    bool flip;              /* second operand on the M side */
    int64_t multiple;       /* >= 1: set once where it is declared, to a multiple of this; 0: set again, or not known */
    struct span span;
    void *cg;               /* codegen's own */
};

struct ir_field {
    const char *name;
    int id;
    enum type type;
    int naxes;
    struct ir_axis *axes[IR_RANK]; /* plain or window axes, in the order declared */
    struct ir_pipe *pipe;
    struct span span;
    void *cg;
};

struct ir_pipe {
    const char *name;
    int id;
    int depth, most;        /* slots; 0: auto, as many as fit, but at most `most` unless 0 */
    struct ir_var *home;    /* its slots are this accumulator's places in tensor memory: its one field is the accumulator's value,
                               handed from one site of a split role to the other (split.c). NULL: slots in shared memory */
    bool scales;            /* its fields hold block scales as tensor memory has them, for one mma (stage.c) */
    VEC(struct ir_field *) fields;
    struct span span;
    void *cg;
};

struct ir_intrinsic {
    const char *name, *text; /* PTX template: %0 result, %1.. arguments */
    enum type result;
    int nargs;
    enum type args[IR_RANK];
    bool effect;
};

struct ir_expr {
    enum ir_expr_kind kind;
    enum type type;         /* TY_bool for conditions */
    int naxes;
    struct ir_axis *axes[IR_RANK]; /* in order of ir_axis.id; empty for scalars */
    int nargs;
    struct ir_expr **args;
    int64_t num;
    double real;
    struct ir_axis *axis;   /* coord, origin, limit, reduce, parts */
    struct ir_var *var;
    struct ir_tensor *tensor;
    struct ir_field *field;
    struct ir_shared *shared;
    struct ir_intrinsic *intrinsic;
    struct span span;
};

typedef VEC(struct ir_stmt *) ir_block;

struct ir_stmt {
    enum ir_stmt_kind kind;
    struct span span;
    struct ir_expr *expr, *expr2, *expr3, *mask, *step;
    VEC(struct ir_expr *) index;   /* store, put, fetch; print's arguments */
    VEC(struct ir_expr *) factors; /* mma */
    struct ir_var *var;
    struct ir_axis *axis;
    VEC(struct ir_axis *) axes;    /* each */
    struct ir_tensor *tensor;
    struct ir_shared *shared;
    struct ir_pipe *pipe;
    struct ir_field *field;
    enum ir_mode mode;
    int64_t num;                   /* atomics: enum ir_reduce; for: unroll factor, 0 = none asked */
    int deal;                      /* for: teams of the role's warps that take turns, 0: none asked for */
    int boxes;                     /* store: buffers a warp that boxes of it leave from, where it leaves so; 0: the compiler's choice */
    bool flag;                     /* mma: accumulate; store: what is added to is read ahead */
    const char *text;
    ir_block body, other;
};

struct ir_role {
    const char *name;
    int id;
    int warps_m, warps_n;   /* width asked for in warps (M x N of its tiles), 0: the compiler's choice */
    struct ir_role *drain;  /* this role only multiplies, for that one, which holds everything else (split.c); NULL: a role of the author's */
    const char *undealt;    /* why its warps form no teams though asked to (deal.c); NULL: nothing to say */
    const char *whole;      /* why the role multiplies itself where accumulators live in tensor memory; NULL: nothing to say */
    ir_block body;
    struct span span;
};

/* What the kernel means; evaluated on the host by the interpreter, in double precision.  tensor[index] = value where cond else other */
struct ir_spec {
    struct ir_expr *left;   /* E_read of an out or inout tensor, or a reduce(sum) of one, over range axes */
    struct ir_expr *value, *where, *other;
    bool other_any;         /* `else any`: such elements may hold anything */
    bool exact;
    double tol;             /* bound on 1 - 2<x,y>/(<x,x>+<y,y>), the measure of similarity of two arrays */
    struct span span;
};

/* How a test fills an input. */
enum ir_given_kind { GIVEN_expr, GIVEN_distinct, GIVEN_sorted, GIVEN_run };
struct ir_given {
    struct ir_tensor *tensor;
    enum ir_given_kind kind;
    VEC(struct ir_axis *) axes;   /* left side's indices, range axes; empty: the whole tensor */
    struct ir_expr *value;        /* GIVEN_expr; may hold E_call of the built-in `rand` (intrinsic name "rand", args lo, hi exclusive) */
    struct ir_expr *lo, *hi;      /* distinct, sorted */
    const char *kernel;           /* run: name of the kernel; args: tensors by name */
    VEC(const char *) args;
    struct span span;
};

struct ir_fn {
    const char *name;
    const char *target;     /* "sm_90a" */
    VEC(struct ir_dim) dims;
    VEC(struct ir_tensor *) tensors; /* arguments, in order; scalars among them */
    VEC(struct ir_axis *) axes;
    VEC(struct ir_var *) vars;
    VEC(struct ir_shared *) shared;
    VEC(struct ir_pipe *) pipes;
    VEC(struct ir_role *) roles;
    VEC(struct ir_expr *) requires;
    VEC(const char *) require_text;
    VEC(struct span) require_span;
    VEC(struct ir_spec) specs;
    VEC(struct ir_given) givens;
    ir_block check;         /* spec check: statements run by the interpreter after the kernel */

    ir_block task;          /* every role runs this; S_body stands where its own body goes */
    struct ir_expr *tasks;  /* how many clusters' worth of tasks there are, from dims alone (host); NULL: as many as units */
    bool persistent;
    struct ir_axis *cluster_axis; /* grid axis whose neighbouring tiles share a cluster; NULL: none */
    int cluster;            /* CTAs a cluster, >= 1 */
    VEC(const char *) settings;   /* "BM = 128", ...: what was chosen, for explain */
    bool order_dependent;   /* has atomic stores: results may depend on the order of tasks */
    struct span span;
};

const char *ir_expr_name(enum ir_expr_kind k); /* "add" */
int ir_expr_nargs(enum ir_expr_kind k);        /* -1: any number */
const char *ir_stmt_name(enum ir_stmt_kind k);

/* Building. Constants fold; neutral operations vanish. */
struct ir_expr *ir_int(struct arena *a, int64_t v);                      /* i32 */
struct ir_expr *ir_real(struct arena *a, enum type t, double v);
struct ir_expr *ir_leaf(struct arena *a, enum ir_expr_kind k, struct ir_axis *axis); /* coord, origin, limit, unit, units, thread */
struct ir_expr *ir_get(struct arena *a, struct ir_var *v);
struct ir_expr *ir_make(struct arena *a, enum ir_expr_kind k, enum type t, int n, struct ir_expr *const *args, struct span at);
struct ir_expr *ir_fold(struct arena *a, struct ir_expr *e);             /* an equal, simpler expression, or e itself (fold.c) */
void ir_add_axis(struct ir_expr *e, struct ir_axis *axis);               /* into e's type, in order */
struct ir_expr *ir_unary(struct arena *a, enum ir_expr_kind k, struct ir_expr *x);
struct ir_expr *ir_binary(struct arena *a, enum ir_expr_kind k, struct ir_expr *x, struct ir_expr *y);
struct ir_expr *ir_cast(struct arena *a, enum type t, struct ir_expr *x);
struct ir_expr *ir_reduce(struct arena *a, enum ir_reduce op, struct ir_axis *axis, struct ir_expr *x);
bool ir_const_int(const struct ir_expr *e, int64_t *v);
bool ir_has_axis(const struct ir_expr *e, const struct ir_axis *axis);
/* Largest known divisor of an integer scalar (from constants, dims' multiples, axes' align); >= 1; 0 means it is 0. */
int64_t ir_divisor(const struct ir_fn *fn, const struct ir_expr *e);
struct ir_var *ir_new_var(struct arena *a, struct ir_fn *fn, const char *name, enum type t);
struct ir_var *ir_var_like(struct arena *a, struct ir_fn *fn, const char *name, const struct ir_var *v); /* all as v has it but the name */
struct ir_stmt *ir_stmt(struct arena *a, ir_block *b, enum ir_stmt_kind k, struct span at);

/* Visits (walk.c): every expression, operands too, of a statement alone, with what lies inside it, of a block, of task and roles. */
typedef void ir_visit(void *ctx, struct ir_expr *e);
void ir_walk_expr(struct ir_expr *e, ir_visit *visit, void *ctx);
void ir_walk_stmt(const struct ir_stmt *s, ir_visit *visit, void *ctx);
void ir_walk_whole(const struct ir_stmt *s, ir_visit *visit, void *ctx);
void ir_walk(const ir_block *b, ir_visit *visit, void *ctx);
void ir_walk_fn(const struct ir_fn *fn, ir_visit *visit, void *ctx);
bool ir_reads(const struct ir_stmt *s, const struct ir_var *v); /* it or what lies inside it */
bool ir_sets(const ir_block *b, const struct ir_var *v);        /* some statement in it, or inside of those */
/* A copy of e in which other expressions stand for some: `with` gives them, or NULL to look at the operands. No reductions in e. */
typedef struct ir_expr *ir_replace(void *ctx, struct ir_expr *e);
struct ir_expr *ir_map(struct arena *a, struct ir_expr *e, ir_replace *with, void *ctx);
/* A copy of s alone in which `with` gives each expression, NULL for NULL; variable and blocks are those of s. */
typedef struct ir_expr *ir_change(void *ctx, struct ir_expr *e);
struct ir_stmt *ir_map_stmt(struct arena *a, const struct ir_stmt *s, ir_change *with, void *ctx);
bool ir_same(const struct ir_expr *x, const struct ir_expr *y);          /* the same expression of the same variables */

/* Text: prints, parses back (print(parse(text)) == text), and is verified after each pass. */
void ir_print(const struct ir_fn *fn, struct buf *out);
struct ir_fn *ir_parse(struct arena *a, struct diag *d, const char *path, const char *text, size_t n);
/* Our own mistakes: prints what is wrong and aborts. */
void ir_verify(const struct ir_fn *fn, const char *after);

#endif
