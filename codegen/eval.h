/* eval - what the evaluation of expressions remembers while a role is emitted; private to scalar.c, tile.c, access.c,
 * stmt.c, store.c, combine.c and eval.c. */
#ifndef CODEGEN_EVAL_H
#define CODEGEN_EVAL_H

#include "codegen/gen.h"

/* Axes bound to single coordinates: inside `each`, innermost first. */
struct ir_block_at {
    struct ir_block_at *outer;
    const struct layout *lay; /* of the tile walked; NULL: none */
    int reg;                  /* the register of lay whose element this is */
    int n;
    struct ir_axis *axes[IR_RANK];
    struct opd at[IR_RANK];
};

struct inside;

/* A tile's elements in shared memory, over its axes. */
struct tile_buffer {
    int naxes;
    struct ir_axis *axes[IR_RANK];
    int pitch[IR_RANK], bytes, elements; /* elements from one coordinate to the next; bytes of one; how many there are */
};

/* Tile variables that the parts of a combine saved, while E_parts reads them back. */
struct parts_saved {
    struct ir_var *var;
    const struct layout *lay; /* the registers it is saved from */
    int offset;               /* bytes in the part's block, of its first element */
    struct tile_buffer words; /* in a cluster: where elements lie */
    int wide;                 /* elsewhere: registers that lie side by side */
    struct opd lanes;         /* and this thread's place among them */
    struct inside *in;        /* which elements exist: of the registers saved; in a cluster, of those asked for last */
};
struct parts_at {
    VEC(struct parts_saved) saved;
    struct opd first;         /* 64-bit address of part 0's block; in a cluster: the own one's in shared memory */
    int bytes;                /* of a block */
    struct opd parts;
    int64_t count;            /* how many; 0: known to the kernel only */
    int threads;
    int shares;               /* CTAs that share the body's work, each with its part of the tile; 0: one CTA does it all */
    struct opd now;           /* block of the part being read; none outside E_parts */
};

/* The lane and warp part of a coordinate, computed once where it is first needed in a block. */
struct lane_part {
    struct lay_digit digit[LAY_DIGITS];
    int n;
    struct opd value;
};

/* A loop being emitted: where its code begins. A scope of consume: the loops around it. */
struct loop_at {
    int number, at;
};
struct hoist_scope {
    const struct ir_pipe *pipe;
    int loops;
};

struct eval {
    const struct lir *l;      /* of the attempt and role this state belongs to */
    const struct gen_role *role;
    bool thread_level;        /* inside par or each: every thread runs on its own */
    struct parts_at *parts;
    VEC(struct lane_part) lane_parts;
    int lane_parts_from;      /* those before belong to other warp numbers (combine_cluster.c) */
    VEC(struct loop_at) loops;
    VEC(struct hoist_scope) scopes;
    int loop_numbers, role_start; /* where the role's code begins */
    const struct ir_stmt **bound; /* by axis id: the one S_bind that sets it, NULL: none or several */
    int *binds;               /* by axis id: how many S_bind of the role set it */
    struct opd *bind_regs;    /* by axis id, two each: of axes that are bound in several places */
    struct opd *window;       /* by axis id: origin of the whole tile, while a part of it is walked (walk_tile); none otherwise */
    int *shared_at;           /* by id: offset of a shared array, -1: not placed */
};
struct eval *eval_of(struct gen *g);
/* Origin of the tile that slots are windows on: gen_origin, but of the whole tile while a part of it is walked. */
struct opd eval_window(struct gen *g, const struct ir_axis *x);
/* Origin of x less that of the window it lies in: a constant where the binding says so. */
struct opd eval_from(struct gen *g, const struct ir_axis *x, const struct ir_axis *window);
/* What is cached between these two is dropped: code in between runs under a condition. */
int eval_mark(struct gen *g);
void eval_release(struct gen *g, int mark);
/* The coordinate that `each` bound the axis to; none outside. */
struct opd eval_bound(struct gen *g, const struct ir_axis *x);
/* Axes of e that are not bound by `each`, in order. */
int eval_axes(struct gen *g, const struct ir_expr *e, struct ir_axis **out);
/* Adds the axes of e, in order of id, to the n at out. */
int eval_add_axes(struct gen *g, const struct ir_expr *e, struct ir_axis **out, int n);
/* Relative coordinate that this thread's lane and warp give on axis a of lay. */
struct opd eval_lane_part(struct gen *g, const struct layout *lay, int a);
/* Value of digit i of lay (a lane or warp digit). */
struct opd eval_digit(struct gen *g, const struct layout *lay, int i);
/* Largest number that divides the lane part on axis a; 0: it is always 0. */
int64_t eval_lane_divisor(const struct layout *lay, int a);
/* Proven: the limit of axis x is at most the value of e. */
bool eval_limit_within(struct gen *g, const struct ir_axis *x, const struct ir_expr *e);
bool eval_limit_is(struct gen *g, const struct ir_axis *x, const struct ir_expr *e); /* proven: it is the value of e */
/* Largest known divisor of the limit of x. */
int64_t eval_limit_divisor(struct gen *g, const struct ir_axis *x);
const struct ir_axis *eval_find(struct ir_axis *const *axes, int n, const struct ir_axis *x);
static inline int eval_index(const struct layout *lay, const struct ir_axis *x)
{
    for (int a = 0; a < lay->naxes; a++)
        if (lay->axes[a] == x) return a;
    return -1;
}

/* ---- scalar.c */
struct opd scalar_const(enum type t, double real, int64_t num);
/* One operation by kind, both operands of type t. */
struct opd scalar_binary(struct gen *g, enum ir_expr_kind k, enum type t, struct opd a, struct opd b);
struct opd scalar_reg(struct gen *g, struct opd o, enum type t);       /* in a register of t's class */
struct opd scalar_reduce(struct gen *g, enum ir_reduce op, enum type t, struct opd a, struct opd b);
struct opd scalar_identity(enum ir_reduce op, enum type t);
struct opd scalar_to_b32(struct gen *g, enum type t, struct opd x);    /* any value of up to 32 bits, zero-extended */
struct opd scalar_from_b32(struct gen *g, enum type t, struct opd x);
/* A new register that holds x; later changes of x's register do not reach it. */
struct opd scalar_copy(struct gen *g, struct opd x, enum type t);
/* Shared memory, one element: type's width (bool and e2m1: a byte), at [addr + offset]. */
int scalar_bytes(enum type t);
struct opd scalar_load_shared(struct gen *g, enum type t, struct opd addr, int offset, struct opd guard);
void scalar_store_shared(struct gen *g, enum type t, struct opd addr, int offset, struct opd v, struct opd guard);
/* Element of a shared array, 0 outside it. */
struct opd scalar_load_element(struct gen *g, const struct ir_shared *s, const struct opd *index);
/* Shared address of an element of a shared array. */
struct opd scalar_shared_address(struct gen *g, const struct ir_shared *s, const struct opd *index);

/* ---- access.c: many elements of a tensor or slot at once */
/* An index as a linear form of relative coordinates:  uniform + sum of coef * (coordinate - origin). */
struct linear {
    struct opd uniform;
    int64_t divisor;          /* of uniform; 0: it is 0 */
    int n;
    struct ir_axis *axes[IR_RANK];
    int coef[IR_RANK];
    const struct ir_axis *plain; /* the index is this axis' coordinate itself; NULL: more than that */
};
/* One dimension of an access in a layout: base + k[r], or value[r] where the index is no linear form. */
struct access_dim {
    bool linear;
    struct linear form;
    struct opd base;          /* uniform and lane parts */
    int64_t divisor;          /* of base */
    int *k;                   /* by register: what it adds; without a form, equal numbers mean equal values */
    struct opd *value;        /* by register, where there is no form */
    struct opd size;          /* of the tensor in this dimension */
};
struct access_pointer {
    int key[IR_RANK];         /* k of each dimension; -1 where it is in the offset */
    struct opd at;
};
struct access_guard {
    int dim, key;
    struct opd p;
};
struct access {
    const struct ir_tensor *tensor;
    const struct layout *lay;
    int regs, rank;
    struct access_dim dim[IR_RANK];
    struct opd base;          /* 64-bit address of base coordinates of the linear dimensions */
    VEC(struct access_pointer) pointers;
    VEC(struct access_guard) guards;
};
/* lay: over all axes that the indices have. */
struct access *access_plan(struct gen *g, const struct ir_tensor *t, struct ir_expr *const *index, const struct layout *lay);
/* Register r's element address: a pointer and a constant byte offset. For types below a byte, of the byte. */
struct opd access_address(struct gen *g, struct access *a, int r, int *offset);
/* Predicate: the element lies in the tensor. inside: dimensions indexed by a plain axis are known to be below its limit. */
struct opd access_guard(struct gen *g, struct access *a, int r, bool below_limits);
/* How many registers from r on (a power of two) lie next to each other in memory, aligned to their size and, where
 * `guarded`, in or out of the tensor together. Records the alignment asked of the argument. */
int access_run(struct gen *g, struct access *a, int r, bool guarded);
/* Loads `n` elements into out; 0 where the guard fails. */
void access_load(struct gen *g, struct access *a, int r, int n, struct opd guard, struct opd *out);
void access_store(struct gen *g, struct access *a, int r, int n, struct opd guard, const struct opd *v);
bool linear_of(struct gen *g, const struct ir_expr *e, struct linear *out);
/* n adjacent elements at [at + offset] of a state space, by one instruction; 0 where the guard fails. */
void access_words_load(struct gen *g, const char *space, enum type t, int n, struct opd guard, struct opd at, int offset, struct opd *out);
void access_words_store(struct gen *g, const char *space, enum type t, int n, struct opd guard, struct opd at, int offset, const struct opd *v);
/* Words of 1, 2, 4 or 8 bytes to elements and back; n elements of type t. */
void access_unpack(struct gen *g, enum type t, const struct opd *words, int n, struct opd *out);
int access_pack(struct gen *g, enum type t, const struct opd *v, int n, struct opd *words);

/* ---- tile.c */
/* Layout for a statement over these axes: the anchor of e where it has them all, else blocked along `inner` (NULL: along
 * what e reads) with `vec` elements a thread. */
const struct layout *tile_layout(struct gen *g, const struct ir_expr *e, struct ir_axis *const *axes, int n, const struct ir_axis *inner, int vec);
/* e, of so many axes, holds a reduction as large as itself: a layout_spread of its layout leaves each lane results of its own. */
bool tile_spreads(const struct ir_expr *e, int naxes);
/* The axis along which what e reads first is contiguous in memory; NULL: it reads nothing. */
const struct ir_axis *tile_reads_along(struct gen *g, const struct ir_expr *e);
/* Values in `from` (over the axes of both) as `to` holds them. */
struct opd *tile_move(struct gen *g, enum type t, const struct opd *v, const struct layout *from, const struct layout *to);
/* Registers that tile variables and accumulators take in a thread, as far as they are known. */
int tile_registers(struct gen *g);
/* Address of this thread's coordinates in a buffer; byte offset of a register from it. */
struct opd tile_buffer_base(struct gen *g, const struct tile_buffer *u, const struct layout *lay, struct opd start);
int tile_buffer_offset(const struct tile_buffer *u, const struct layout *lay, int r);
/* The element of a tile variable that the innermost `each` stands on. */
struct opd tile_element(struct gen *g, const struct ir_expr *e);

/* Which elements of a layout exist; comparisons are made once. */
struct inside_known {
    int axis, at;
    struct opd p;
};
struct inside {
    const struct layout *lay;
    struct opd bound[IR_RANK]; /* relative coordinates below it exist; none: all do */
    VEC(struct inside_known) known;
};
void inside_start(struct gen *g, struct inside *in, const struct layout *lay);
struct opd inside_axis(struct gen *g, struct inside *in, int r, int a);
struct opd inside_all(struct gen *g, struct inside *in, int r);

/* ---- slot.c: elements of the slot held now, in a layout over exactly e's axes */
struct opd *slot_read(struct gen *g, const struct ir_expr *e, const struct layout *lay);

/* ---- fill.c */
/* A tile in parts of few registers a thread: loops around `part`, with the origins of the axes they walk at the part.
 * start: where it begins, relative to the tile, by axis of lay. vec > 1: the first digit stays whole. */
typedef void walk_part(struct gen *g, void *ctx, const struct layout *lay, const struct opd *start);
void walk_tile(struct gen *g, const struct layout *lay, int vec, walk_part *part, void *ctx);

/* ---- hoist.c */
void hoist_consume(struct gen *g, const struct ir_pipe *p);
void hoist_consume_end(struct gen *g);
void hoist_loop(struct gen *g);      /* right before the label that the loop jumps back to */
void hoist_loop_end(struct gen *g);  /* after the jump */
bool hoist_arithmetic(const struct lir_insn *in); /* nothing but its operands matters, and no memory is read */
int hoist_room(struct gen *g);       /* registers of a thread that tiles and the work at hand leave */
/* Code from here on reads the pipe's slot; NULL: an input. */
void hoist_mark(struct gen *g, const struct ir_pipe *p, int from);

/* ---- combine.c, combine_cluster.c */
struct opd *combine_parts(struct gen *g, const struct ir_expr *e, const struct layout *lay);
/* The tile of the statement at hand is shared out to the cluster's CTAs: values come in whatever layout is asked for. */
bool combine_is_shared(struct gen *g);
/* A variable as the part being read saved it, in the layout *lay if that costs nothing, else in the one that *lay becomes.
 * NULL: it is not among the saved. */
struct opd *combine_saved(struct gen *g, struct ir_var *v, const struct layout **lay);
/* The variables that the body reduces over the parts. */
void combine_find(struct gen *g, const struct ir_stmt *combine, struct parts_at *p);
struct opd *combine_current(struct gen *g, const struct parts_saved *s);
/* False, with nothing emitted, where the parts do not meet in a cluster. */
bool combine_over_cluster(struct gen *g, struct ir_stmt *s);
struct opd *combine_remote(struct gen *g, struct parts_saved *s, struct opd block, const struct layout *want);

#endif
