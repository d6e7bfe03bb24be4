/* lower - what the files of the lowering share. Private to compiler/.
 *
 *   lower.c        the kernel: parameters, dimensions, tensors, the order in which its items are taken
 *   lower_tune.c   tune values and mapping words: choices, and the first that keeps the kernel legal
 *   lower_axis.c   axes, their tiles and ranges, loops over them, what is proven of them
 *   lower_task.c   the grid: task numbers to tiles, orders and iterators inlined
 *   lower_expr.c   expressions; lower_call.c built-in functions, calls inlined
 *   lower_stmt.c   statements of roles; lower_mma.c the operands and factors of a product
 *   lower_spec.c   specs and givens
 *
 * Names are looked up here, not through node.decl: an inlined body means something else at each place it is inlined. */
#ifndef COMPILER_LOWER_H
#define COMPILER_LOWER_H

#include "compiler/compiler.h"

/* An axis as declared, and what is known of it while its scope is lowered. */
struct laxis {
    const char *name;
    struct node *node;          /* declaration; NULL for an axis made here */
    struct ir_axis *ir;
    struct laxis *parent;       /* it walks the current tile of this axis */
    struct ir_expr *lo, *hi;    /* its range, where it has no parent */
    struct ir_expr *parts;      /* split: how many; else NULL */
    struct ir_expr *ord;        /* while bound: number of the current tile or part */
    struct ir_expr *origin, *limit; /* while bound: constants that stand for E_origin, E_limit; else NULL */
    int64_t granule;            /* split: parts are multiples of it */
    int cluster;                /* CTAs that share its neighbouring tiles */
    struct ir_expr *number;     /* clustered: the cluster's tile number */
    bool ranged;                /* lo, hi are known */
    bool resolving;             /* its range is being worked out: needing it again is a cycle */
    bool bound;                 /* it has a current tile here */
    bool scalar;                /* its tile is one coordinate: a number, in no tile's type */
    bool element;               /* inside `each`: its coordinate is the element's */
    bool range;                 /* of a spec: the whole range at once */
    bool grid;
    bool active;
    struct span span;
};

enum sym_kind {
    SYM_expr,    /* a constant, dimension, scalar argument or immutable let: expr */
    SYM_type,    /* a type parameter: type */
    SYM_word,    /* a parameter that is a name: word */
    SYM_var,     /* a tile or mutable scalar: var; axes as declared */
    SYM_axis, SYM_tensor, SYM_shared, SYM_field, SYM_pipe, SYM_view,
    SYM_single   /* the tile of an `each`, inside it: expr is the element; axes as declared */
};
struct sym {
    struct sym *next;
    const char *name;
    enum sym_kind kind;
    struct span span;           /* declaration */
    struct ir_expr *expr;
    enum type type;
    const char *word;
    struct ir_var *var;
    struct laxis *axis;
    struct ir_tensor *tensor;
    struct ir_shared *shared;
    struct ir_field *field;
    struct ir_pipe *pipe;
    struct node *node;          /* view */
    struct laxis *axes[IR_RANK]; /* var, field: all axes, those of one coordinate too */
    int naxes;
    bool mutable;
};

/* One tune value or mapping word, its choices in order of preference. */
struct choice {
    int64_t num, n;             /* n != 0: the shape num x n */
    const char *word;           /* a name (cache = stream) */
    const char *text;
};
struct tuning {
    const char *key;            /* "BM", "slots(c)", "math.warps" */
    const char *word, *subject; /* "slots", "c"; "warps", "math"; word NULL: a tune name */
    struct node *set;
    const char *given;          /* value from the options */
    VEC(struct choice) choices;
    int pick;
    struct span span;
};

struct lower {
    struct arena *a;
    struct diag *d;
    const struct target *target;
    const struct compile_options *o;
    const struct node *file;
    const struct node *kernel;
    struct ir_fn *fn;

    struct sym *scope;
    struct sym *file_scope;     /* what inlined bodies see besides their parameters: nothing of the kernel */
    struct sym *kernel_scope;   /* names of the kernel, as its roles see them */
    ir_block *block;            /* where statements go; NULL: only values may be made (specs, conditions of loops) */
    VEC(struct laxis *) axes;   /* declared ones, in order */
    VEC(struct laxis *) implicit; /* undeclared indices met so far; `active` ones have a meaning in this statement */
    VEC(struct tuning) tunings;
    VEC(struct ir_intrinsic *) intrinsics;
    VEC(struct laxis *) grid;

    const struct sym *filling;  /* the field whose value is being lowered */
    struct laxis *combining;    /* the axis of the enclosing combine */
    bool combining_parts;       /* it really has parts: reductions over it become E_parts */
    struct ir_pipe *producing;
    const struct node *const *roots;  /* trees in which the extent of an undeclared index may be found */
    int nroots;
    bool in_spec;               /* indices are whole ranges */
    int calls;                  /* depth of inlining */
    bool has_iter, yielded;     /* tasks come from an iterator; its yield has been met */
    const struct node *grid_node;
    VEC(struct ir_stmt *) defs; /* every let, for questions about what a variable depends on */
    const int *picks;           /* choices to try, by tuning */
    const char *unfit;          /* why this choice of tune values is not legal; NULL: it is */
};

/* Scopes: keep = L->scope; ...; L->scope = keep. */
struct sym *lower_name(struct lower *L, const char *name, enum sym_kind kind, struct span at);
struct sym *lower_find(struct lower *L, const char *name);
void lower_name_expr(struct lower *L, const char *name, struct ir_expr *e, struct span at);
const struct node *lower_top(struct lower *L, enum node_kind kind, const char *name); /* fn, iter, intrinsic of the file */
enum type lower_type(struct lower *L, const struct node *n);       /* of an arg, field, tile, cast: type or type parameter */
const char *lower_text(struct lower *L, struct span at);           /* the source between */
const char *lower_show(struct lower *L, const struct ir_expr *e);  /* a short expression, for messages */

/* lower_tune.c */
void tune_collect(struct lower *L);
bool tune_choices(struct lower *L, struct tuning *t);              /* evaluates the set in the scope of now */
const struct choice *tune_mapping(struct lower *L, const char *word, const char *subject); /* what was picked; NULL: nothing said */
int64_t tune_number(struct lower *L, const char *word, const char *subject, int64_t otherwise);
bool lower_fits(struct lower *L);                                  /* estimates of shared memory and registers */

/* lower.c: parameters and dimensions only; tune_collect next. */
bool lower_begin(struct lower *L);

/* lower_axis.c */
void axis_declare(struct lower *L, struct node *n);
void axis_tile(struct lower *L, struct laxis *x);                  /* its static extent; an error where there is none */
bool axis_range(struct lower *L, struct laxis *x);                 /* lo, hi, parts */
bool axis_parts(struct lower *L, struct laxis *x);                 /* parts alone, of a split axis */
struct laxis *axis_implicit(struct lower *L, const char *name, struct ir_expr *lo, struct ir_expr *hi, struct span at);
struct laxis *axis_span(struct lower *L, struct laxis *x, struct ir_expr *number);
bool axis_mentions(const struct node *n, const char *name);        /* whether the name stands in this tree */
struct laxis *axis_sub(struct lower *L, struct laxis *of, int tile, struct span at);
struct ir_axis *axis_window(struct lower *L, struct laxis *of, int div, struct span at);
struct ir_expr *axis_tiles(struct lower *L, struct laxis *x);      /* how many tiles, or parts; clusters' tiles where it is clustered */
void axis_bind(struct lower *L, struct laxis *x, struct ir_expr *origin, struct ir_expr *limit, struct ir_expr *ord);
void axis_bind_part(struct lower *L, struct laxis *x, struct ir_expr *p);
void axis_bind_tile(struct lower *L, struct laxis *x, struct ir_expr *number);
void axis_bind_whole(struct lower *L, struct laxis *x);            /* one tile that holds the whole range */
bool axis_is_whole(struct lower *L, struct laxis *x);
void axis_walk(struct lower *L, struct laxis *x, struct node *body, struct span at);
struct ir_expr *axis_coord(struct lower *L, struct laxis *x, struct span at);
struct ir_expr *axis_origin(struct lower *L, struct laxis *x);
struct ir_expr *axis_end(struct lower *L, struct laxis *x);        /* of the current tile, clipped */
int axis_distinct(int tile, int64_t align, int64_t div);           /* values of x / div over a tile */
void axis_settle(struct lower *L);                                 /* facts of all axes, once their ranges are known */
void axis_prove_clean(struct lower *L);
struct laxis *axis_infer(struct lower *L, const char *name, struct span at); /* of an undeclared index: the dimension it runs over */

/* lower_task.c */
void lower_task(struct lower *L);
void lower_yield(struct lower *L, const struct node *n);

/* lower_expr.c */
struct ir_expr *lower_expr(struct lower *L, const struct node *n);
struct ir_expr *lower_int(struct lower *L, const struct node *n);       /* an i32 scalar or tile */
struct ir_expr *lower_scalar(struct lower *L, const struct node *n);    /* an integer with no axes */
struct ir_expr *lower_cond(struct lower *L, const struct node *n);      /* bool */
bool lower_static(struct lower *L, const struct node *n, int64_t *v);   /* a compile-time integer; no message */
bool lower_when(struct lower *L, const nodes *when);                    /* a `when` list: true where it holds or is absent */
struct ir_expr *lower_bad(struct lower *L);                             /* erroneous: raises no second message */
bool is_bad(const struct ir_expr *e);
struct ir_expr *lower_convert(struct lower *L, struct ir_expr *e, enum type t, struct span at, const char *into);
struct ir_expr *lower_add(struct lower *L, struct ir_expr *x, struct ir_expr *y, struct span at); /* `+=` */
bool lower_unify(struct lower *L, struct ir_expr **x, struct ir_expr **y, struct span at);
struct ir_expr *lower_keep(struct lower *L, const char *name, struct ir_expr *e); /* in a variable, unless it costs nothing */
struct laxis *lower_axis_name(struct lower *L, const struct node *n);   /* the axis a bare name stands for, or NULL */
/* Indices of a tensor or view, as they stand for a store or read: out_tensor and its coordinates. */
bool lower_place(struct lower *L, const struct node *n, struct ir_tensor **tensor, struct ir_expr **index);
const char *lower_axes_text(struct lower *L, struct laxis *const *axes, int n);

/* lower_call.c */
struct ir_expr *lower_call(struct lower *L, const struct node *n);
bool lower_bind_args(struct lower *L, struct sym *outer, const struct node *call, const struct node *f,
                     struct ir_expr *const *first, int nfirst, int skip);
int lower_inline(struct lower *L, const struct node *call, struct ir_expr *const *first, int nfirst, struct ir_expr **out, int max);

/* lower_stmt.c */
void lower_stmt(struct lower *L, const struct node *n);
void lower_block(struct lower *L, const struct node *n);
struct ir_stmt *lower_emit(struct lower *L, enum ir_stmt_kind k, struct span at);
void lower_let(struct lower *L, struct ir_var *v, struct ir_expr *e, struct span at);

/* lower_mma.c */
void lower_mma(struct lower *L, const struct node *n);

/* lower_spec.c */
void lower_spec(struct lower *L, const struct node *n);
void lower_given(struct lower *L, const struct node *n);

#endif
