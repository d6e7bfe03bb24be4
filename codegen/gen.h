/* gen - the code generator's shared state and the seams between its files.
 *
 *   gen.c       plans roles, shared memory and parameters; emits the entry: setup, barrier init, role dispatch
 *   pipe_plan.c pipes: fills, slot layouts, tensor maps, depths;  pipe.c  barriers, produce / fill / consume, addresses
 *   stmt.c      statements: let, bind, for, if, while, par, scan, each, assert;  print.c  print
 *   scalar.c    scalar expressions
 *   tile.c      tile expressions, element by element in a layout; reductions; moves between layouts
 *   fill.c, fill_rows.c  slots that threads fill;  made.c  tensor maps made on the device
 *   hint.c      the L2 cache;  store.c  stores to global memory, atomics;  combine.c  reduction over a grid axis, combine_cluster.c inside a cluster
 *   mma.c       choice of instruction family, operands matched;  mma_place.c, mma_tile.c  where they lie, how they get there;
 *               mma_sync.c, wgmma.c, tcgen05.c  the families;  pair.c  two CTAs that multiply together;  ranked.c  what differs in a cluster
 */
#ifndef CODEGEN_GEN_H
#define CODEGEN_GEN_H

#include "codegen/image.h"
#include "codegen/layout.h"
#include "codegen/lir.h"
#include "compiler/ir.h"
#include "compiler/target.h"

struct mma_family;
struct field_plan;
struct combine;
struct store_ahead;

/* How a role is mapped to warps. */
struct gen_role {
    struct ir_role *ir;
    int warp0, warps;         /* first warp in the CTA, number of warps that run it */
    int slot_warps;           /* warps reserved (a producer beside warpgroups is padded to four) */
    bool single;              /* only TMA fills: one elected thread of one warp runs it */
    bool has_mma, produces, consumes;
    bool makes;               /* makes tensor maps at a task's start (made.c): one warp runs it */
    struct opd fits;          /* not 0: this task's tiles come by these maps, else by threads */
    bool drains;              /* reads accumulators that its issuing site's products fill (ir_role.drain) */
    int regs;                 /* setmaxnreg, 0: none */
    int barrier;              /* named barrier for the role's threads (bar.sync id), >= 1 */
    struct opd warp, lane, thread; /* within the role; uniform warp number via shfl */
    struct opd policy[CACHE_COUNT]; /* of the L2 cache, 64 bits: those that its tensors ask for */
    struct opd scratch;       /* shared address of the role's exchange buffer for moves and reductions */
    int stage, stage_bytes;   /* buffers of TMA stores: offset, bytes a warp */
    struct store_ahead *ahead; /* the store whose old values are read while products run (store_tma.c); NULL: none */
    int stage_next, stage_at; /* the buffer whose turn it is, and the length of the code when the last one was sent */
    int scratch_insn;         /* the instruction that loads it, completed when the size is known */
    int scratch_bytes;        /* how large it must be: the most any use asked for (gen_scratch) */
};

/* Where a field lies in its slot: panels of `span` bytes by rows, swizzled. Element (row, col): byte
 *   (col / per_panel) * panel_bytes + row * span + ((col % per_panel) * bytes ^ swizzle of row)
 * with rows the field's other axes flattened (last fastest) and col the inner axis. Of `scales` the rows lie as tensor memory
 * has them: 32 rows side by side, four of these one behind the other in 16 bytes (scale_row in pipe.c). */
struct gen_field {
    struct ir_field *ir;
    int inner;                /* index into ir->axes of the contiguous axis */
    int rows, cols, elem_bits;
    int span, swizzle;        /* swizzle: 0, 32, 64, 128; span = row pitch in bytes */
    int per_panel, panels, panel_bytes;
    int offset, bytes;        /* within the slot; offset is a multiple of 1024 where swizzled, else 128 */
    bool async_read;          /* read by wgmma or tcgen05 through descriptors */
    bool scales;              /* block scales, copied to tensor memory */
    bool generic_read;        /* read by ld.shared or ldmatrix */
    bool valued;              /* its values are read, not only multiplied by tensor cores */
    bool generic_write;       /* filled by st.shared */
    int map;                  /* image map index, -1: not by TMA */
    int map_order[5];         /* the tensor's dimension behind each of the map's */
    bool woven;               /* rows in another order than its axes say (weave.c) */
    int half;                 /* second operand of a pair: the axis of whose tile this CTA holds half, -1: none */
    struct opd *starts;       /* coordinates of its pieces in the tensor, while the slot is filled (pipe.h, field_plan.piece) */
    struct opd *ahead;        /* those of the next slot, in a loop that looks them up a trip before; else NULL */
    int share;                /* CTAs of the cluster that read the same data: each loads a part and multicasts it; 1: none */
    struct field_plan *plan;  /* pipe.h */
};

/* One panel, or several that lie as one would: offsets are linear in the column. */
static inline bool pipe_in_one_panel(const struct gen_field *f)
{
    return f->panels == 1 || (f->rows == 1 && !f->swizzle && f->panel_bytes * 8 == f->per_panel * f->elem_bits);
}

struct gen_pipe {
    struct ir_pipe *ir;
    int depth, slot_bytes, offset; /* offset of slot 0 in shared memory */
    int pad;                  /* bytes past the last slot that tensor cores may read: rows that they round up to */
    int full, empty;          /* offsets of the barrier arrays */
    int flags;                /* pipes with a home: whether each slot holds a value (else zero); -1: they always do */
    int full_count, empty_count, tx_bytes;
    struct gen_role *producer;
    /* state of the role being emitted */
    struct opd index, phase;  /* slot in use next, and its parity (0 at first; producers wait for phase ^ 1) */
    struct opd next;          /* shared address of slot `index`, where it is kept */
    struct opd base;          /* shared address of the slot inside produce or consume */
    struct opd held;          /* index of the slot being produced or consumed */
    struct opd full_now;      /* address of the full barrier being produced */
    struct opd full_pair;     /* paired: that of the first CTA, in the cluster's window */
    bool inside;
    bool by_tma, by_cp_async, by_threads; /* what fills its fields */
    bool makes;               /* some of its fields' tensor maps are made by the role that fills it (made.c) */
    struct opd since;         /* then: slots filled since they were */
    bool multicast;           /* some field is shared by the cluster: releases go to every CTA's empty barrier */
    bool paired;              /* its slots are read or filled by products of a pair: the first CTA's barriers count both CTAs' arrivals */
    bool commit_releases;     /* its slots are released by the tensor core's own arrival (tcgen05.commit) */
};

struct gen_barrier {
    int offset, count;
};

struct gen {
    struct arena *arena;
    struct diag *diag;
    struct ir_fn *fn;
    const struct target *target;
    struct image *image;
    struct lir *l;
    const struct mma_family *family;
    void *mma;                /* the family's own */

    VEC(struct gen_role) roles;
    VEC(struct diag_msg) costs; /* gen_cost's */
    VEC(struct gen_barrier) barriers; /* made by gen_barrier, in plan or setup */
    int tail, tail_regs;      /* from this warp on: roles of one warp, which share a warpgroup; the registers they keep, 0: as at entry */
    struct gen_role *role;    /* being emitted */
    int smem_used;            /* bytes of dynamic shared memory laid out so far */
    struct opd smem;          /* shared address of dynamic shared memory (u32) */
    struct opd cta_rank;      /* in the cluster; imm 0 without clusters */
    struct opd *dims;         /* by dimension index */
    struct opd *origin, *limit; /* by axis id: the current binding */
    struct opd *vars;         /* by var id: scalars' registers */
    struct opd (*strides)[IR_RANK]; /* by tensor id: 64-bit element strides, loaded once */
    struct opd *pointers;     /* by tensor id: 64-bit addresses */
    struct opd *scalars;      /* by tensor id: scalar arguments */
    struct opd scratch_memory, counter_memory; /* 64-bit global addresses (PARAM_SCRATCH, PARAM_COUNTERS) */
    struct ir_block_at *each; /* innermost `each` */
    VEC(const char *) module; /* declarations before the entry */
    struct eval *eval;        /* what evaluation of expressions remembers (codegen/eval.h) */
    struct combine *combine;  /* the combine whose parts meet inside a cluster (combine_cluster.c); NULL: none does */
    bool pair;                /* the two CTAs of a cluster multiply together; the first one's issuer does it (pair.c) */
    const char *no_pair;      /* why they do not, where they might */
    bool woven;               /* some operand's rows are (weave.c) */
    bool failed;
    int maps_made;            /* tensor maps that roles make themselves (made.c) */
    int stage_spare;          /* bytes that were left over, for more buffers of TMA stores; -1: they did not fit */
    int smem_reserve;         /* left free for exchange buffers when depths are chosen: what an earlier attempt needed */
};

/* ---- gen.c */
int gen_smem(struct gen *g, int bytes, int align);            /* reserves shared memory, returns the offset */
/* Asks for `bytes` of the role's exchange buffer; returns its shared address. Users put gen_role_sync around uses. */
struct opd gen_scratch(struct gen *g, int bytes);
void gen_role_sync(struct gen *g);                            /* bar.sync over the role's threads (bar.warp.sync for one warp) */
struct opd gen_tensor_pointer(struct gen *g, const struct ir_tensor *t); /* 64-bit global address */
struct opd gen_stride(struct gen *g, const struct ir_tensor *t, int dim); /* 64-bit, elements; imm 1 for the inner one */
/* The code relies on so many bytes (at most t->align): recorded, for the launch to check. */
void gen_need_alignment(struct gen *g, const struct ir_tensor *t, int bytes);
int gen_row_vector(struct gen *g, const struct ir_tensor *t); /* widest vector, in elements, that rows of t are made of and aligned to */
struct opd gen_elect(struct gen *g);                          /* predicate: one lane of the converged warp (lane 0) */
void gen_error(struct gen *g, struct span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* A host expression from one over dimensions, constants and integer arguments; an error naming `what` otherwise. */
struct hexpr gen_host_expr(struct gen *g, const struct ir_expr *e, struct span at, const char *what);

/* ---- explain.c: what each role, pipe and tile became */
/* Notes something that costs time and that the author did not write: a move between layouts or memories, a copy that the
 * hardware cannot do, a store element by element. Shown by explain, once per source span and text. */
void gen_cost(struct gen *g, struct span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void gen_explain(const struct gen *g, struct buf *out);

/* ---- stmt.c */
void gen_block(struct gen *g, const ir_block *b);
void gen_stmt(struct gen *g, struct ir_stmt *s);

/* ---- print.c */
void gen_print(struct gen *g, struct ir_stmt *s);

/* ---- scalar.c */
struct opd gen_scalar(struct gen *g, const struct ir_expr *e);   /* in the class of its type; predicates for bool */
struct opd gen_origin(struct gen *g, const struct ir_axis *x);   /* of plain and window axes */
struct opd gen_limit(struct gen *g, const struct ir_axis *x);
/* One operation of the expression language on scalars already in operands: shared by scalar.c and tile.c. */
struct opd gen_op(struct gen *g, const struct ir_expr *e, const struct opd *args);
void gen_plan_shared(struct gen *g);                              /* places the shared arrays, before pipes choose depths */
enum reg_class gen_class(enum type t);  /* f16, bf16, 8-bit floats: B16; integers up to 32 bits, f32, tf32: B32; 64 bits: B64; bool: PRED */
struct opd gen_cast(struct gen *g, enum type to, enum type from, struct opd x);
/* Two at a time where the instruction set has pairs (lower element first); out[0..1]. */
void gen_cast2(struct gen *g, enum type to, enum type from, const struct opd *x, struct opd *out);
/* Element of a tensor at scalar coordinates: predicate-safe load (0 outside the tensor when `check`). */
struct opd gen_load(struct gen *g, const struct ir_tensor *t, const struct opd *coord, struct opd guard);

/* ---- tile.c */
/* The layout in which a tile expression is best computed: of the accumulators and variables in it, else NULL. */
const struct layout *gen_anchor(struct gen *g, const struct ir_expr *e);
/* The layout a register tile variable lives in (decided at its first definition, from gen_anchor or blocked). */
const struct layout *gen_var_layout(struct gen *g, struct ir_var *v);
/* Evaluates e in `lay`, whose axes must include e's: one operand per register of layout_project(lay, e's axes). */
struct opd *gen_tile(struct gen *g, const struct ir_expr *e, const struct layout *lay);
/* Scalars: coordinates of register r of lay, absolute, on its axis a. */
struct opd gen_coord(struct gen *g, const struct layout *lay, int r, int a);
/* Predicate: all axes of register r of lay lie below their limits (imm 1 when proven). */
struct opd gen_inside(struct gen *g, const struct layout *lay, int r);
/* True in one of the threads that hold the same element (imm 1 when not replicated). */
struct opd gen_first_copy(struct gen *g, const struct layout *lay);
void gen_tile_let(struct gen *g, struct ir_stmt *s);             /* S_let on a tile variable or accumulator */
void gen_each(struct gen *g, struct ir_stmt *s);

/* ---- store.c, store_tma.c, combine.c, combine_cluster.c */
void gen_store(struct gen *g, struct ir_stmt *s);
/* Emits the store of a tile in `lay` through shared memory and TMA; false, with nothing emitted, where it cannot be. */
bool store_by_tma(struct gen *g, struct ir_stmt *s, const struct layout *lay);
const struct layout *store_layout(struct gen *g, const struct ir_stmt *s); /* that the statement's tile is stored from */
/* Old values that `+=` adds to, read ahead: decided before depths; a role begins, a task begins, a product is under way. */
void store_plan(struct gen *g);
void store_begin_role(struct gen *g);
void store_task(struct gen *g);
void store_meanwhile(struct gen *g);
void store_explain(const struct gen *g, struct buf *out);
void store_finish(struct gen *g);                                /* at a role's end: its TMA stores are done */
void early_role(struct gen *g, int from); /* early.c: over the code of a role, from an instruction on */
void gen_put(struct gen *g, struct ir_stmt *s);
void gen_fetch(struct gen *g, struct ir_stmt *s);
void gen_combine(struct gen *g, struct ir_stmt *s);
void combine_plan(struct gen *g);                                /* parts in shared memory: decided once slots have sizes, before depths */
void combine_begin_role(struct gen *g);
void combine_explain(const struct gen *g, struct buf *out);

/* ---- made.c: a role that makes tensor maps begins; a task of it begins */
void made_begin_role(struct gen *g);
void made_task(struct gen *g);

/* ---- hint.c */
void hint_begin_role(struct gen *g);
/* What accesses to t tell the L2 cache: gen_hint's text in the instruction's name, and the operand, its last (%o of lir_emit).
 * Nothing and none where they leave it to the hardware. */
struct opd gen_policy(struct gen *g, const struct ir_tensor *t);
const char *gen_hint(struct opd policy);

/* ---- pipe.c */
void pipe_plan(struct gen *g);                                   /* fields, depths, barriers, maps; before any code */
int pipe_room(const struct gen *g, int slots);                   /* shared memory left where `auto` pipes in loops have that many slots */
void pipe_counts(struct gen *g);                                 /* arrival counts, once roles have their warps */
void pipe_note_budget(struct gen *g);                            /* notes: where shared memory goes */
void pipe_init(struct gen *g);                                   /* mbarrier.init by one thread */
bool pipe_only_fills(const ir_block *b);
void pipe_begin_role(struct gen *g);                             /* state registers of the role's pipes */
void gen_produce(struct gen *g, struct ir_stmt *s);
void gen_consume(struct gen *g, struct ir_stmt *s);
void gen_fill(struct gen *g, struct ir_stmt *s);                 /* S_fill, inside produce */
struct gen_field *pipe_field(struct gen *g, const struct ir_field *f);
struct gen_pipe *pipe_of(struct gen *g, const struct ir_pipe *p);
struct opd pipe_field_base(struct gen *g, const struct ir_field *f); /* shared address of the field in the slot held now */
/* Bytes from there to the element at coordinates relative to the window's origin; and its shared address. */
struct opd pipe_offset(struct gen *g, const struct ir_field *f, const struct opd *rel);
struct opd pipe_element(struct gen *g, const struct ir_field *f, const struct opd *rel);
/* Arrives on empty[index] of the pipe once per warp of the role (lane 0), under pred (imm 1: always). */
void pipe_release(struct gen *g, struct gen_pipe *p, struct opd index, struct opd pred);
struct opd pipe_empty_barrier(struct gen *g, struct gen_pipe *p, struct opd index); /* shared address */
/* A compiler-made barrier outside pipes: reserves 8 bytes, initialised with `count` at entry. Returns its offset in shared memory. */
int gen_barrier(struct gen *g, int count);
/* The first CTA's, of an address in this CTA's shared memory: in the cluster's window. */
struct opd pair_first(struct gen *g, struct opd address);
/* Spins until the phase with this parity has completed (try_wait, or test_wait below sm_90). */
void gen_wait_barrier(struct gen *g, struct opd address, struct opd parity);

/* ---- mma.c: what an instruction family does. Chosen per target by mma_choose. */
struct mma_family {
    const char *name;
    bool async;               /* operands are read through descriptors, asynchronously */
    /* Fills role->warps (multiple of 4 for warpgroup families) from the statements and the widths asked for, chooses
     * operand layouts and checks shapes and types; errors at the statement, naming what the target has. Before pipe_plan. */
    void (*plan)(struct gen *g, struct gen_role *r);
    void (*setup)(struct gen *g);      /* at entry, all threads: tensor memory allocation */
    void (*teardown)(struct gen *g);   /* before exit, all threads */
    void (*begin_role)(struct gen *g); /* state registers */
    void (*mma)(struct gen *g, struct ir_stmt *s);
    const struct layout *(*layout)(struct gen *g, struct ir_var *acc); /* of the accumulator read as registers */
    struct opd *(*read)(struct gen *g, struct ir_var *acc);  /* waits for what is in flight; elements in that layout */
    void (*write)(struct gen *g, struct ir_var *acc, const struct opd *elements); /* NULL elements: zero */
    int (*registers)(struct gen *g);   /* that the role's accumulators take in a thread; NULL: what their layouts say */
    /* Pipes whose slots are places of an accumulator (ir_pipe.home); NULL where accumulators are registers. */
    int (*places)(struct gen *g, struct ir_var *acc);              /* how many there are */
    void (*slot_begin)(struct gen *g, struct gen_pipe *p);         /* the slot has been waited for */
    void (*slot_end)(struct gen *g, struct gen_pipe *p);           /* before arrivals; where products fill it, with them */
    void (*slot_adopt)(struct gen *g, struct ir_var *acc);         /* the slot held holds what products add to */
    struct opd *(*slot_read)(struct gen *g, struct ir_var *acc);   /* elements in `layout` */
    void (*slot_write)(struct gen *g, struct ir_var *acc, const struct opd *elements);
    /* End of a consume scope. Releases the slot now, or when what still reads it has completed. */
    void (*consume_end)(struct gen *g, struct gen_pipe *p);
    /* End of the role's task: everything in flight is waited for and released. */
    void (*task_end)(struct gen *g);
};
/* Bytes past the end of a field that tensor cores read, for nothing: rows that they round up to. */
int mma_reads_past(struct gen *g, const struct gen_field *f);
/* Sets p->pad, once fields have their places. What threads write has to be fenced before tensor cores read it, were it for
 * nothing: the next slot then stays out of reach. */
void mma_slot_pad(struct gen *g, struct gen_pipe *p);
/* A loop whose slots' pieces are looked up a trip before (pipe.c); lo: where it begins. */
void pipe_look_ahead(struct gen *g, const struct ir_stmt *loop, struct opd lo);
void pipe_looked(const struct ir_stmt *loop);

const struct mma_family *mma_choose(const struct target *t, const struct ir_fn *fn);

#endif
