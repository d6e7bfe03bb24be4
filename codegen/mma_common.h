/* mma_common - what the tensor-core families share: operands matched against fields, steps along K, shared addresses.
 *
 * An mma statement is read as  D[m, n] += A[m, k] * B[n, k]  with m, n, k each a few axes flattened (the last fastest).
 * An operand is a field of a slot, read where it lies, or a register tile; a register tile that the family cannot take
 * from registers is first copied to a buffer in shared memory that has the same form as a field. */
#ifndef CODEGEN_MMA_COMMON_H
#define CODEGEN_MMA_COMMON_H

#include "codegen/gen.h"

enum { MMA_STEP_BYTES = 32 }; /* every instruction here reads 32 bytes along K of each row */

/* Where the elements of an operand lie: panels of `span` bytes by rows, as in struct gen_field.
 *   K-major:  row = mn * mn_rows + rows of outer k axes, col = the fast k axis
 *   MN-major: row = k axes' rows + rows of outer mn axes, col = the last mn axis */
struct mma_form {
    int bytes, span, swizzle, per_panel, panel_bytes, rows, cols;
    int pack;                 /* elements of the operand in one of the form's: 2 where 4-bit ones lie in bytes, else 1 */
    int mn_rows;              /* K-major: rows from one mn to the next. MN-major: rows from one outer mn to the next */
    int k_rows[IR_RANK];      /* rows a step of each k axis; 0 for the contiguous one */
};

struct mma_operand {
    const struct ir_expr *e;  /* with a conversion to tf32 taken off where the field holds f32: the tensor core truncates */
    const struct ir_field *field; /* NULL: a register tile */
    enum type type;
    struct ir_axis *mn[IR_RANK], *k[IR_RANK];
    int nmn, nk, size;        /* size: elements along mn */
    bool k_major;
    struct mma_form form;
    int buffer, buffer_bytes; /* register tiles: shared offset of the copy, -1: none */
};

/* An accumulator. Registers of the register families are in the order of `layout`. */
struct mma_acc {
    struct ir_var *var;
    struct gen_role *role;
    struct ir_axis *m[IR_RANK], *n[IR_RANK];
    int nm, nn, rows, cols;   /* rows, cols: the tile's size */
    int rows_read, cols_read; /* what descriptors of A and B cover: rounded up; 0: nothing is read through descriptors */
    int wm, wn;               /* warps (mma.sync) or warpgroups (wgmma) along M and N */
    int m_atoms, n_atoms;     /* mma.sync: atoms of a warp, 16 rows and 8 columns; wgmma: blocks of 64 rows, atoms of 8 columns */
    int column;               /* tcgen05: first column in tensor memory */
    int places, place_columns; /* tcgen05: slots of the pipe whose home it is, columns from one to the next */
    struct opd place;         /* columns before the slot held; imm 0 where there is one place */
    struct opd filled;        /* predicate: the slot being read holds a value, else zero */
    const struct layout *layout;
    struct opd *regs;
    int nregs;
    struct opd keep;          /* predicate: holds a value; false: zero, and the next mma overwrites */
    int committed_at;         /* wgmma: length of the code after its last group's commit, 0: none */
    int read_at;              /* tcgen05: length of the code when `regs` were loaded, -1: they do not hold the value */
    int written_at;           /* length of the code when an mma or a write last gave it a value, -1: none yet */
};

/* A step of MMA_STEP_BYTES along K: coordinates on the k axes of operand a, in its order. */
struct mma_step {
    int at[IR_RANK];
};

/* Block scales of an mma (mma.sync), read at once: for each step and group of `per` atoms a register. */
struct mma_scale_side {
    int per, groups;          /* per 0: one register for all */
    struct opd *word;         /* [step][group] */
};
struct mma_scales {
    struct mma_scale_side side[2];
};

struct mma_op {
    struct ir_stmt *s;
    struct gen_role *role;
    struct mma_acc *acc;
    struct mma_operand a, b;  /* a on the M side */
    int step_k;               /* elements along K of a step */
    int fast;                 /* index into the operands' k of the axis that a step walks: the last, once prepared */
    VEC(struct mma_step) steps;
    struct mma_scales scales; /* mma.sync: of the statement, once they are read */
    int scale_column;         /* tcgen05: first column of its block scales in tensor memory; those of a, then of b, for each slot of their pipe */
};

/* A pipe whose slot is released one step late, when the wgmma reading it has completed. */
struct mma_late {
    struct ir_pipe *pipe;
    struct gen_role *role;
    struct opd pending, index;
};

/* tcgen05: one allocation a CTA; a barrier a role, on which its mma's completion is awaited. */
struct mma_tmem {
    int used, columns, address; /* columns given out, and allocated; shared offset of the allocation's address */
    VEC(struct gen_role *) roles;
    VEC(int) barriers;
    /* of the role being emitted */
    struct opd base, barrier, parity, issue; /* issue: predicate, true in the thread that issues */
};

struct mma_state {
    struct lir *l;            /* the attempt this state belongs to */
    VEC(struct mma_op *) ops;
    VEC(struct mma_acc *) accs;
    VEC(struct mma_late) late; /* wgmma */
    int clean_at;             /* length of the code when nothing was in flight for certain, -1: unknown */
    struct mma_tmem tmem;
};

/* ---- mma.c */
struct mma_state *mma_state(struct gen *g);
struct mma_op *mma_op_of(struct gen *g, const struct ir_stmt *s);
struct mma_acc *mma_acc_of(struct gen *g, const struct ir_var *v);

/* Matches every mma of a role: operands, accumulators and their sides. In plan. */
void mma_match_role(struct gen *g, struct gen_role *r);
/* Forms of both operands and the steps along K, once pipes are planned. False after an error. In begin_role. */
bool mma_prepare(struct gen *g, struct mma_op *op);

int mma_axis_at(struct ir_axis *const *axes, int n, const struct ir_axis *x); /* index of x, -1: not there */

/* ---- mma_place.c, mma_tile.c */
int mma_k_size(const struct mma_operand *o);   /* elements along K of the operand's tile */
void mma_buffer_form(struct mma_operand *o);   /* of a register tile's buffer, in o->k_major */
/* Steps along K. Offsets of a step, in rows and in elements of the contiguous axis. */
void mma_step_place(const struct mma_op *op, const struct mma_operand *o, int step, int *row, int *col);
/* Where the operand begins: slot, field and the offset of a tile within the field; or the buffer. *start: elements from
 * there, within the first panel, to its first element (the swizzle applies to their sum with any other column). */
struct opd mma_base(struct gen *g, struct mma_op *op, struct mma_operand *o, struct opd *start);
/* The same as one address, for descriptors: their swizzle is that of address bits. */
struct opd mma_address(struct gen *g, struct mma_op *op, struct mma_operand *o);
/* The xor of byte offsets within a row: (row * span >> 7 & mask) << 4. */
struct opd mma_swizzle(struct gen *g, const struct mma_form *f, struct opd row);
/* Bytes from the first element to (row, col); both may be constants. */
struct opd mma_offset(struct gen *g, const struct mma_form *f, struct opd row, struct opd col);
/* Computes a register tile and writes it to the operand's buffer; all threads of the role, which meet before and after.
 * flush (or NULL) waits for what still reads the buffer; it is called once the tile is computed, before they meet. */
void mma_fill_buffer(struct gen *g, struct mma_op *op, struct mma_operand *o, void (*flush)(struct gen *g));
/* Predicate: register r of a layout over the operand's mn then k axes lies below the limits of the k axes. What does not
 * counts as zero. */
struct opd mma_k_inside(struct gen *g, const struct mma_operand *o, const struct layout *lay, int r);
void mma_reserve_buffer(struct gen *g, struct mma_operand *o);
/* Zeroes what the slots hold past the limit of a contracted axis, where it may not be zero: under a uniform branch, by all
 * threads of the role. */
void mma_zero_tails(struct gen *g, struct mma_op *op);
/* Whether instructions since position `at` of the code ran for certain before what comes next: no label in between. */
bool mma_straight(struct gen *g, int at);
/* Accumulators start as no value; read fills them with zeros where no mma ran. */
void mma_zero_unless_kept(struct gen *g, struct mma_acc *acc, const struct opd *regs, int n);
/* 16-bit A fragments of all steps, [step][block][4], of a tile computed in `lay`: an accumulator layout over the operand's
 * mn and k axes with `blocks` blocks along M. What was an accumulator's fragment is an A fragment once narrowed. */
struct opd *mma_register_fragments(struct gen *g, struct mma_op *op, const struct layout *lay, int blocks);
/* The half of a descriptor that holds the address and LBO. In a cluster the upper bits of a shared address name the CTA. */
struct opd mma_descriptor_low(struct gen *g, struct opd address, int lbo);
/* 64-bit descriptor from its halves. */
struct opd mma_descriptor(struct gen *g, struct opd low, uint32_t high);

/* Block scales: of the statement's factors, 1 for a side without. */
struct mma_scales mma_scales_load(struct gen *g, struct mma_op *op);
/* The register for an atom along M (b: along N) in a step, and the thread id that the instruction names. */
struct opd mma_scale(const struct mma_scales *sc, bool b, int step, int atom, int *thread);

/* Descriptor fields common to wgmma and tcgen05: LBO and SBO in bytes. PTX ISA, "matrix descriptor". */
void mma_descriptor_strides(const struct mma_operand *o, int *lbo, int *sbo);
/* Whether a descriptor can express the operand, mn_step rows or columns at a time; an error that says what would do. */
bool mma_check_descriptor(struct gen *g, const struct mma_op *op, const struct mma_operand *o, int mn_step);
/* Byte offset of a step, and of row or column `mn` (a multiple of 8 rows, or of a panel), for descriptors. */
int mma_step_bytes(const struct mma_op *op, const struct mma_operand *o, int step);
int mma_mn_bytes(const struct mma_operand *o, int mn);

extern const struct mma_family mma_sync_family, wgmma_family, tcgen05_family;

#endif
