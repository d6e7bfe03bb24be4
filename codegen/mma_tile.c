/* mma_tile - operands that are computed: register tiles copied to shared memory or packed into A fragments; and slots whose
 * tail past a limit is zeroed. */
#include "codegen/eval.h"
#include "codegen/mma_common.h"

/* ---- register tiles through shared memory ---- */

/* MN-major where neighbouring registers hold neighbours along mn, so that pairs are stored together. */
static bool prefers_mn(const struct mma_operand *o, const struct layout *lay)
{
    if (type_bits(o->type) != 16 || !lay->n || lay->digit[0].place != LAY_REG || lay->digit[0].stride != 1) return false;
    return o->nmn && lay->digit[0].axis >= 0 && lay->axes[lay->digit[0].axis] == o->mn[o->nmn - 1];
}

static const struct layout *layout_of_operand(struct gen *g, const struct mma_operand *o)
{
    struct ir_axis *axes[IR_RANK];
    const struct layout *lay = gen_anchor(g, o->e);
    int n = 0, covered = 0;
    for (int i = 0; i < o->nmn; i++) axes[n++] = o->mn[i];
    for (int i = 0; i < o->nk; i++) axes[n++] = o->k[i];
    for (int i = 0; lay && i < n; i++) covered += mma_axis_at(lay->axes, lay->naxes, axes[i]) >= 0;
    if (lay && covered == n) return layout_project(g->arena, lay, axes, n);
    return layout_blocked(g->arena, axes, n, n - 1, 16 / (type_bits(o->type) / 8), g->role->warps);
}

/* Row and column of register r of a part of the tile. */
static void buffer_place(struct gen *g, const struct mma_operand *o, const struct layout *lay, const struct opd *start, int r, struct opd *row, struct opd *col,
                         struct opd *inside)
{
    struct lir *l = g->l;
    struct opd flat[2] = { opd_imm(0), opd_imm(0) };
    *inside = opd_imm(1);
    for (int a = 0; a < lay->naxes; a++) {
        struct opd rel = lir_add(l, lir_add(l, eval_lane_part(g, lay, a), opd_imm(layout_reg_offset(lay, r, a))), start[a]);
        int side = a >= o->nmn;
        flat[side] = lir_add(l, lir_mul(l, flat[side], opd_imm(lay->axes[a]->tile)), rel);
        if (lay->extent[a] > lay->axes[a]->tile) *inside = lir_pand(l, *inside, lir_cmp(l, "lt", rel, opd_imm(lay->axes[a]->tile)));
    }
    *row = flat[!o->k_major ? 1 : 0];
    *col = flat[o->k_major ? 1 : 0];
}

/* What lies past the limit of a contracted axis counts as zero. */
struct opd mma_k_inside(struct gen *g, const struct mma_operand *o, const struct layout *lay, int r)
{
    struct opd in = opd_imm(1);
    for (int i = 0; i < o->nk; i++)
        if (!o->k[i]->exact) in = lir_pand(g->l, in, lir_cmp(g->l, "lt", gen_coord(g, lay, r, o->nmn + i), gen_limit(g, o->k[i])));
    return in;
}

static struct opd pack2(struct gen *g, struct opd lo, struct opd hi)
{
    struct opd d = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "mov.b32 %r, {%r, %r}", d, lir_in_reg(g->l, lo, RC_B16), lir_in_reg(g->l, hi, RC_B16));
    return d;
}

/* How many registers from each multiple of this number on lie side by side in a row, within 16 bytes: one store. */
static int store_width(const struct mma_operand *o, const struct layout *lay)
{
    const struct lay_digit *d = &lay->digit[0];
    int inner = o->k_major ? lay->naxes - 1 : o->nmn - 1, n = 128 / type_bits(o->type);
    if (!lay->n || d->place != LAY_REG || d->axis != inner || d->stride != 1) return 1;
    while (d->extent % n || lay->axes[inner]->tile % n || eval_lane_divisor(lay, inner) % n) n /= 2;
    for (int r = 0; r < layout_regs(lay); r += n)
        while (layout_reg_offset(lay, r, inner) % n) n /= 2;
    return n;
}

/* The value of register r, zero past a contracted axis' limit. */
static struct opd tile_value(struct gen *g, const struct mma_operand *o, const struct layout *lay, int r, struct opd x)
{
    struct opd in = mma_k_inside(g, o, lay, r);
    return opd_is(in, 1) ? x : lir_sel(g->l, in, x, opd_imm(0), gen_class(o->type));
}

static void store_tile(struct gen *g, const struct mma_operand *o, const struct layout *lay, const struct opd *start, const struct opd *v)
{
    struct lir *l = g->l;
    const struct layout *own = layout_project(g->arena, lay, o->e->axes, o->e->naxes);
    struct opd base = lir_add(l, g->smem, opd_imm(o->buffer)), one = gen_first_copy(g, lay), side[16];
    int n = layout_regs(lay), width = store_width(o, lay);
    for (int r = 0; r < n; r += width) {
        struct opd row, col, inside;
        for (int i = 0; i < width; i++) side[i] = tile_value(g, o, lay, r + i, v[layout_project_reg(lay, own, r + i)]);
        buffer_place(g, o, lay, start, r, &row, &col, &inside);
        struct opd to = lir_in_reg(l, lir_add(l, base, mma_offset(g, &o->form, row, col)), RC_B32);
        access_words_store(g, "shared", o->type, width, lir_pand(l, inside, one), to, 0, side);
    }
}

static void store_part(struct gen *g, void *ctx, const struct layout *lay, const struct opd *start)
{
    const struct mma_operand *o = ctx;
    store_tile(g, o, lay, start, gen_tile(g, o->e, lay));
}

/* What comes from slots or tensors alone is worked on part by part; what is computed from register tiles is had whole,
 * before the wait. */
void mma_fill_buffer(struct gen *g, struct mma_op *op, struct mma_operand *o, void (*flush)(struct gen *g))
{
    const struct layout *lay = layout_of_operand(g, o);
    const struct opd whole[IR_RANK] = { opd_imm(0), opd_imm(0), opd_imm(0), opd_imm(0), opd_imm(0), opd_imm(0), opd_imm(0), opd_imm(0) };
    struct opd *v = gen_anchor(g, o->e) ? gen_tile(g, o->e, lay) : NULL;
    o->k_major = !prefers_mn(o, lay);
    mma_buffer_form(o);
    gen_cost(g, op->s->span, "an operand of mma goes through %d bytes of shared memory: it is computed in registers", o->buffer_bytes);
    if (flush) flush(g);
    gen_role_sync(g); /* what read the buffer before has completed in every warp */
    if (v) store_tile(g, o, lay, whole, v);
    else walk_tile(g, lay, 2, store_part, o);
    if (g->family->async) lir_emit(g->l, "fence.proxy.async.shared::cta");
    gen_role_sync(g);
}

/* ---- A from registers ---- */

/* Register r of the fragment holds rows +8 for odd r, and the step's second half for r >= 2; in the accumulator's order
 * these are the pairs of atoms 2 * step and 2 * step + 1. */
struct opd *mma_register_fragments(struct gen *g, struct mma_op *op, const struct layout *lay, int blocks)
{
    const struct mma_operand *a = &op->a;
    int atoms = op->steps.n * 2;
    if (!lay) {
        gen_error(g, op->s->span, "the axes of this operand do not divide into atoms of 16 x 16 elements");
        return NULL;
    }
    struct opd *v = gen_tile(g, a->e, lay), *out = new_n(g->arena, struct opd, op->steps.n * blocks * 4);
    const struct layout *own = layout_project(g->arena, lay, a->e->axes, a->e->naxes);
    for (int s = 0; s < op->steps.n; s++)
        for (int i = 0; i < blocks * 4; i++) {
            struct opd pair[2];
            for (int h = 0; h < 2; h++) {
                int at = (i / 4 * atoms + 2 * s + i % 4 / 2) * 4 + i % 2 * 2 + h;
                pair[h] = tile_value(g, a, lay, at, v[layout_project_reg(lay, own, at)]);
            }
            out[s * blocks * 4 + i] = pack2(g, pair[0], pair[1]);
        }
    return out;
}

/* ---- what lies past the limit of a contracted axis ---- */

/* The operand cut into chunks of 16 bytes along its contiguous axis, dealt to the role's threads. */
struct chunk {
    struct opd row, col, k;   /* of its first element; k: the flat index along K */
};

static struct chunk chunk_at(struct gen *g, const struct mma_operand *o, struct opd n)
{
    struct lir *l = g->l;
    const struct mma_form *f = &o->form;
    int per = 16 / f->bytes, in_row = o->k_major ? mma_k_size(o) / per : (o->size + per - 1) / per;
    struct opd first = lir_mul(l, lir_mod(l, n, opd_imm(in_row), true), opd_imm(per)), other = lir_div(l, n, opd_imm(in_row), true);
    struct chunk c = { .k = o->k_major ? first : other, .col = o->k_major ? opd_imm(0) : first };
    c.row = o->k_major ? lir_mul(l, other, opd_imm(f->mn_rows)) : opd_imm(0);
    struct opd rest = c.k;
    for (int i = o->nk - 1; i >= 0; i--) {
        struct opd at = i ? lir_mod(l, rest, opd_imm(o->k[i]->tile), true) : rest;
        rest = lir_div(l, rest, opd_imm(o->k[i]->tile), true);
        if (f->k_rows[i]) c.row = lir_add(l, c.row, lir_mul(l, at, opd_imm(f->k_rows[i])));
        else c.col = at;
    }
    return c;
}

/* Keeps the first `bytes` (any number, below 0 is 0) of 16 in shared memory. */
static void keep_bytes(struct gen *g, struct opd address, struct opd bytes)
{
    struct lir *l = g->l;
    struct opd w[4];
    for (int i = 0; i < 4; i++) w[i] = lir_reg(l, RC_B32);
    lir_emit(l, "ld.shared.v4.b32 %R, [%r]", w, 4, address);
    for (int i = 0; i < 4; i++) {
        struct opd mask = lir_reg(l, RC_B32), bits = lir_max(l, lir_shl(l, lir_sub(l, bytes, opd_imm(4 * i)), 3), opd_imm(0));
        lir_emit(l, "shl.b32 %r, %r, %r", mask, lir_in_reg(l, opd_imm(-1), RC_B32), bits); /* shifts past 31 give 0 */
        lir_emit(l, "not.b32 %r, %r", mask, mask);
        w[i] = lir_and(l, w[i], mask);
    }
    lir_emit(l, "st.shared.v4.b32 [%r], %R", address, w, 4);
}

static void zero_chunk(struct gen *g, const struct mma_operand *o, struct opd base, struct opd start, struct opd n, int axis, struct opd valid)
{
    struct lir *l = g->l;
    struct chunk c = chunk_at(g, o, n);
    int after = 1, per = 16 / o->form.bytes, skip = lir_label(l);
    for (int i = axis + 1; i < o->nk; i++) after *= o->k[i]->tile;
    struct opd k = lir_div(l, c.k, opd_imm(after), true);
    if (axis) k = lir_mod(l, k, opd_imm(o->k[axis]->tile), true);
    bool along = o->k_major && !o->form.k_rows[axis]; /* the chunk itself runs along this axis */
    struct opd left = lir_sub(l, valid, k);
    lir_emit(l, "@%r bra %l", lir_cmp(l, "ge", left, opd_imm(along ? per : 1)), skip);
    struct opd address = lir_in_reg(l, lir_add(l, base, mma_offset(g, &o->form, c.row, lir_add(l, c.col, start))), RC_B32);
    keep_bytes(g, address, along ? lir_mul(l, left, opd_imm(o->form.bytes)) : opd_imm(0));
    lir_place(l, skip);
}

static void zero_axis(struct gen *g, struct mma_op *op, struct mma_operand *o, int axis)
{
    struct lir *l = g->l;
    int per = 16 / o->form.bytes, threads = g->role->warps * 32, done = lir_label(l), again = lir_label(l), out = lir_label(l);
    int chunks = o->k_major ? o->size * (mma_k_size(o) / per) : mma_k_size(o) * ((o->size + per - 1) / per);
    struct opd valid = lir_sub(l, gen_limit(g, o->k[axis]), gen_origin(g, o->k[axis])), n = lir_reg(l, RC_B32);
    lir_emit(l, "@%r bra %l", lir_cmp(l, "ge", valid, opd_imm(o->k[axis]->tile)), done);
    struct opd start, base = mma_base(g, op, o, &start);
    lir_set(l, n, g->role->thread);
    lir_place(l, again);
    lir_emit(l, "@%r bra %l", lir_cmp(l, "ge", n, opd_imm(chunks)), out);
    zero_chunk(g, o, base, start, n, axis, valid);
    lir_emit(l, "add.s32 %r, %r, %d", n, n, threads);
    lir_emit(l, "bra %l", again);
    lir_place(l, out);
    if (g->family->async) lir_emit(l, "fence.proxy.async.shared::cta");
    gen_role_sync(g);
    lir_place(l, done);
}

void mma_zero_tails(struct gen *g, struct mma_op *op)
{
    struct mma_operand *side[2] = { &op->a, &op->b };
    for (int i = 0; i < 2; i++)
        for (int k = 0; side[i]->field && k < side[i]->nk; k++)
            if (!side[i]->k[k]->exact && !side[i]->k[k]->clean) zero_axis(g, op, side[i], k);
}
