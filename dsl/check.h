/* check - what the parts of the checker share. Private to dsl/. */
#ifndef DSL_CHECK_H
#define DSL_CHECK_H

#include "dsl/ast.h"

/* Kinds of names:  SYM(kind, what messages call it) */
#define SYMS(SYM)                          \
    SYM(bad, "an unknown name")            \
    SYM(param, "a parameter")              \
    SYM(dim, "a dimension")                \
    SYM(arg, "an argument")                \
    SYM(tune, "a tuning value")            \
    SYM(axis, "an axis")                   \
    SYM(task, "a value of the task")       \
    SYM(field, "a field of a pipe")        \
    SYM(view, "a view")                    \
    SYM(shared, "a shared variable")       \
    SYM(accum, "an accumulator")           \
    SYM(tile, "a tile")                    \
    SYM(let, "a let")                      \
    SYM(var, "a var")                      \
    SYM(loop, "a loop's variable")         \
    SYM(letter, "an index")                \
    SYM(parm, "a parameter")
enum sym_kind {
#define SYM(kind, what) SYM_##kind,
    SYMS(SYM)
#undef SYM
    SYM_COUNT
};

/* The type of a value: an element type, a type parameter's name, or neither (unknown). A literal takes any type. */
struct ty {
    enum type type;
    struct node *param;
    bool literal;
};

struct sym {
    const char *name;
    enum sym_kind kind;
    struct node *decl;       /* what node.decl of a use becomes */
    struct node *node;       /* the declaration: arg, axis, field ... */
    struct node *pipe;       /* of a field */
    struct node *role;       /* of a tile, accumulator, var of a role */
    struct span at;
    struct ty ty;
    nodes dims;              /* what its indices are, in number and for messages */
    struct sym *parent;      /* axis k = kk by 128: kk */
    struct sym *base;        /* view: the argument it maps to */
    bool unit;               /* axis: by 1, so a number and not a tile */
    bool in_grid, fixed;     /* axis: in the grid; always has a current tile (no by, or at) */
    int walked;              /* axis: for loops around the place now looked at */
    bool written, task_bound; /* argument: some role stores to it; view: depends on the task */
};

struct scope {
    struct scope *up;
    VEC(struct sym *) syms;
};

/* Where a piece of source stands decides what it may say. */
enum place {
    IN_HOST = 1,     /* require, dimensions, sets: numbers of the call */
    IN_SPEC = 2,
    IN_GIVEN = 4,
    IN_CHECK = 8,    /* spec check { } */
    IN_KERNEL = 16,  /* axes, lets, views, the grid */
    IN_ROLE = 32,
    IN_COMBINE = 64,
    IN_THREAD = 128, /* inside par or each */
    IN_FN = 256,
    IN_ITER = 512,
};

struct sym_set {
    VEC(struct sym *) list;
};

/* What is known of an expression: its type, and the axes over which it is a tile. `whole`: those that index something
 * undivided (k, not k/128): they make it an operand of an mma. */
struct info {
    struct ty ty;
    struct sym_set free, whole;
    bool bad; /* an error was reported: ask nothing more of it */
};

struct pipe_use {
    struct node *pipe, *role, *stmt;
    const char *loops; /* "kk k": the axes walked around it */
    bool produces;
};

struct check {
    struct arena *arena;
    struct diag *diag;
    nodes callables;      /* fn, iter, intrinsic, kernel of all files */
    struct scope *scope;
    enum place place;
    struct node *kernel, *role, *fn;
    struct node *grid;
    nodes roles;
    VEC(struct sym *) grid_axes;
    nodes held;           /* pipes being consumed around this place */
    struct node *filling; /* pipe being produced */
    struct sym *combining; /* axis of the combine around this place */
    VEC(struct pipe_use) uses;
    VEC(struct sym *) loops;     /* axes walked around this place, outermost first */
    VEC(struct sym *) elsewhere; /* tiles, accumulators, lets of all roles, for hints */
    int depth;
};

bool check_set_has(const struct sym_set *set, const struct sym *s);
void check_set_add(struct check *c, struct sym_set *set, struct sym *s);
void check_set_join(struct check *c, struct sym_set *to, const struct sym_set *from);
const char *check_set_text(struct check *c, const struct sym_set *set); /* "i, k" */

/* scopes: check_scope.c */
void check_open(struct check *c, struct scope *s);
void check_close(struct check *c);
/* Declares a name; a second declaration in the same or an outer scope is an error with a note at the first. Never NULL. */
struct sym *check_declare(struct check *c, enum sym_kind kind, const char *name, struct span at, struct node *node);
/* The name as seen from this place: NULL if there is none, or it may not be used here. */
struct sym *check_find(struct check *c, const char *name);
/* The same, and an error with the nearest name when there is none; reported once a scope. */
struct sym *check_use(struct check *c, struct node *n);
const char *check_sym_what(const struct sym *s);
struct node *check_callable(struct check *c, const char *name);
struct node *check_param_word(struct check *c, const char *name);
/* k lies in kk, or is kk. */
bool check_axis_within(const struct sym *axis, const struct sym *outer);

/* types: check_type.c */
static inline struct ty ty_of(enum type t) { return (struct ty){ .type = t }; }
static inline bool ty_known(struct ty t) { return t.type || t.param; }
static inline bool ty_is_float(struct ty t) { return type_is_float(t.type); }
static inline bool ty_is_integer(struct ty t) { return t.type && !type_is_float(t.type); }
struct ty check_word_type(struct check *c, enum type type, const char *text, struct span at);
const char *check_ty_text(struct check *c, struct ty t);
const char *check_cast_name(struct ty t); /* what converts to t: "bf16", "OUT" */
bool check_has_arithmetic(struct ty t);
/* The type of x op y, n's a and b; says what is wrong with them otherwise. */
struct ty check_join(struct check *c, struct node *n, struct ty x, struct ty y, bool *bad);
/* May a value of type `from` be stored where `to` is? Says so otherwise. */
void check_stored(struct check *c, const char *name, struct ty to, struct info from, struct node *value);

/* expressions: check_expr.c */
static inline struct info bad_info(void) { return (struct info){ .bad = true }; }
void check_merge(struct check *c, struct info *to, const struct info *from);
/* An axis has a current tile where the grid gives it one, where a for walks it, and where it is one whole tile. */
bool check_has_tile(const struct sym *axis);
struct info check_expr(struct check *c, struct node *n);
struct info check_number(struct check *c, struct node *n, const char *what);  /* one number, not a tile */
struct info check_integer(struct check *c, struct node *n, const char *what); /* one integer */
void check_truth(struct check *c, struct node *n, const char *what);          /* one truth value */
/* A mask may be a tile over the axes of `over`. */
void check_mask(struct check *c, struct node *n, const struct sym_set *over);
struct info check_index(struct check *c, struct node *n, bool left);

/* check_mma.c: the factors of a product, casts and all; left: the axes of its left side, NULL if that is in error. */
void check_mma_value(struct check *c, struct node *n, const struct sym_set *left);

/* calls: check_call.c */
struct info check_call(struct check *c, struct node *n);
struct info check_call_args(struct check *c, struct node *call, struct node *callee);
int check_returns(struct node *fn); /* how many results */

/* statements: check_stmt.c */
void check_block(struct check *c, struct node *block);
void check_stmt(struct check *c, struct node *n);
void check_results(struct check *c, struct node *let); /* let (a, b) = f(x) */
void check_left(struct check *c, struct node *left, bool adds, struct info *out, struct sym **target);

/* roles and pipes: check_role.c */
void check_roles(struct check *c);
void check_role_width(struct check *c, const nodes *settings); /* (warps = 4x2) */
void check_produce(struct check *c, struct node *n);
void check_consume(struct check *c, struct node *n);

/* specs: check_spec.c; tuning: check_tune.c */
void check_spec(struct check *c, struct node *n);
void check_speccheck(struct check *c, struct node *n);
void check_given(struct check *c, struct node *n);
void check_setting(struct check *c, struct node *s, bool declares);
void check_on(struct check *c, struct node *n);

/* the items of a kernel: check_kernel.c */
/* for (each item n of this kind) */
#define ITEMS(c, k, x)                                  \
    for (int x##_i = 0; x##_i < (c)->kernel->b->list.n; x##_i++) \
        for (struct node *x = (c)->kernel->b->list.at[x##_i]; x && x->kind == N_##k; x = NULL)
void check_positive(struct check *c, struct node *n, const char *what); /* an integer, at least 1 where it is written out */
void check_kernel(struct check *c, struct node *kernel);

/* Calls f for n and everything under it. */
void check_walk(struct node *n, void (*f)(struct node *n, void *ctx), void *ctx);
bool check_same(const struct node *x, const struct node *y); /* written alike */
const char *check_text(struct check *c, const struct node *n); /* as written in the source */

#endif
