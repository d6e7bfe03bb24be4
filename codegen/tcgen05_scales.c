/* tcgen05_scales - block scales as tcgen05.mma takes them: from tensor memory, copied there from slots of a pipe (compiler/stage.c).
 *
 * A row has a byte for each 32 coordinates along K (16, of ue4m3). 128 rows by 4 bytes are 512 bytes of the slot and 4 columns: row r is lane
 * r % 32 of column r / 32, in all four groups of 32 lanes. Further rows take the next columns, further bytes those after them.
 * PTX ISA, "tcgen05.mma", "Scale factor" layouts. */
#include "codegen/tcgen05.h"
#include "compiler/scales.h"

enum { BLOCK_ROWS = 128, BLOCK_COLUMNS = 4, BLOCK_BYTES = 512, WORD = 4, LANES = 32 };

static const struct ir_field *field_of(const struct mma_op *op, bool b)
{
    return op->s->factors.at[b != op->s->var->flip]->field; /* stage put them in the order of the operands */
}

enum type tcgen05_scale_type(const struct mma_op *op) { return field_of(op, false)->type; }

static int words(const struct mma_op *op)
{
    const struct ir_field *f = field_of(op, false);
    return (f->axes[f->naxes - 1]->tile + WORD - 1) / WORD;
}

static int blocks(const struct mma_op *op, bool b)
{
    int rows = b ? op->b.size : op->a.size;
    return (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
}

static int slot_columns(const struct mma_op *op) { return words(op) * (blocks(op, false) + blocks(op, true)) * BLOCK_COLUMNS; }

int tcgen05_scale_columns(const struct mma_op *op)
{
    return op->s->factors.n ? field_of(op, false)->pipe->depth * slot_columns(op) : 0;
}

/* Rows of 16 bytes, 8 of them after another, not swizzled: SBO is 128. PTX ISA, "Shared memory descriptor". */
static void copy_side(struct gen *g, const struct mma_op *op, bool b, struct opd to)
{
    const uint32_t high = 128 >> 4 | 1u << 14;
    struct opd low = mma_descriptor_low(g, pipe_field_base(g, field_of(op, b)), 0);
    for (int i = 0; i < words(op) * blocks(op, b); i++) {
        struct opd from = mma_descriptor(g, lir_add(g->l, low, opd_imm(i * (BLOCK_BYTES >> 4))), high);
        lir_emit(g->l, "tcgen05.cp.cta_group::%d.32x128b.warpx4 [%r], %r", g->pair ? 2 : 1, lir_add(g->l, to, opd_imm(i * BLOCK_COLUMNS)), from);
    }
}

struct tcgen05_scales tcgen05_copy_scales(struct gen *g, const struct mma_op *op)
{
    struct lir *l = g->l;
    const struct gen_pipe *p = field_of(op, false)->pipe->cg;
    struct tcgen05_scales s = { .blocks = { blocks(op, false), blocks(op, true) } };
    s.base[0] = lir_add(l, lir_add(l, mma_state(g)->tmem.base, lir_mul(l, p->held, opd_imm(slot_columns(op)))), opd_imm(op->scale_column));
    s.base[1] = lir_add(l, s.base[0], opd_imm(words(op) * s.blocks[0] * BLOCK_COLUMNS));
    for (int b = 0; b < 2; b++) copy_side(g, op, b, s.base[b]);
    return s;
}

struct opd tcgen05_scale(struct gen *g, const struct mma_op *op, const struct tcgen05_scales *s, bool b, int step, int mn, int *id)
{
    int block = op->steps.at[step].at[op->fast] / scale_block(tcgen05_scale_type(op));
    *id = block % WORD;
    return lir_add(g->l, s->base[b], opd_imm(block / WORD * s->blocks[b] * BLOCK_COLUMNS + mn / LANES));
}
