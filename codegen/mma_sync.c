/* mma_sync - the mma.sync family: operands by ldmatrix from swizzled slots (or from registers), m16n8 accumulators.
 *
 * A warp computes m_atoms x n_atoms atoms of 16 x 8. One ldmatrix.x4 brings an A atom, or B for two atoms, for a step of 32
 * bytes along K, whatever the type: a fragment register holds bytes 4q .. 4q+3 of a 16-byte row (q = lane % 4). Where the
 * contiguous axis is M or N, .trans does the same for 16-bit types, and 32-bit ones are loaded one by one.
 * PTX ISA, "Matrix fragments for mma.m16n8k16" and its neighbours, "ldmatrix". */
#include "codegen/eval.h"
#include "codegen/mma_common.h"

#include <string.h>

/* ---- plan ---- */

enum { ACC_BUDGET = 128, MOST_WARPS = 8 };

static int ceil_to(int x, int unit) { return (x + unit - 1) / unit; }

static void split_acc(struct mma_acc *acc, int wm, int wn)
{
    acc->wm = wm, acc->wn = wn;
    acc->m_atoms = ceil_to(acc->rows, 16 * wm);
    acc->n_atoms = ceil_to(acc->cols, 8 * wn);
}

/* Fragments read per step: what a split costs. Rows or columns beyond the tile are work for nothing. */
static int split_cost(const struct mma_acc *acc, int wm, int wn)
{
    int rows = ceil_to(acc->rows, 16 * wm) * 16, cols = ceil_to(acc->cols, 8 * wn) * 8;
    int waste = rows * wm * cols * wn - acc->rows * acc->cols;
    return rows + cols + waste / 16;
}

static struct layout *split_layout(struct gen *g, struct mma_acc *acc, int wm, int wn)
{
    split_acc(acc, wm, wn);
    return layout_mma(g->arena, acc->m, acc->nm, acc->n, acc->nn, wm, wn, acc->m_atoms, acc->n_atoms);
}

/* The split asked for where the tile is tall and wide enough; else the cheapest of as many warps along which the axes
 * divide. False: there is none. */
static bool choose_split(struct gen *g, struct mma_acc *acc, int warps, int asked_m, int asked_n)
{
    int best = 0;
    if (!asked_n) asked_n = 1;
    bool fits = asked_m * asked_n == warps && acc->rows >= 16 * asked_m && acc->cols >= 8 * asked_n;
    if (fits && split_layout(g, acc, asked_m, asked_n)) best = asked_m;
    for (int wm = 1; wm <= warps && !(fits && best == asked_m); wm++) {
        if (warps % wm || !split_layout(g, acc, wm, warps / wm)) continue;
        if (!best || split_cost(acc, wm, warps / wm) < split_cost(acc, best, warps / best)) best = wm;
    }
    if (best) acc->layout = split_layout(g, acc, best, warps / best);
    return best;
}

static int role_elements(struct gen *g, const struct gen_role *r)
{
    struct mma_state *st = mma_state(g);
    int n = 0;
    for (int i = 0; i < st->accs.n; i++)
        if (st->accs.at[i]->role == r) n += st->accs.at[i]->rows * st->accs.at[i]->cols;
    return n;
}

/* On targets whose own family takes no fewer than 64 rows, the accumulator that has fewer is why this one was chosen. */
static void note_family(struct gen *g, const struct mma_acc *acc)
{
    const char *own = target_has(g->target, HAS_TCGEN05) ? "tcgen05" : target_has(g->target, HAS_WGMMA) ? "wgmma" : NULL;
    if (own && acc->rows < 64)
        gen_cost(g, acc->var->span, "'%s' has %d rows, %s takes 64 or more: the kernel uses mma.sync; a taller tile or flip(%s) would do", acc->var->name, acc->rows, own, acc->var->name);
}

static void place_acc(struct gen *g, struct gen_role *r, struct mma_acc *acc)
{
    note_family(g, acc);
    if (!choose_split(g, acc, r->warps, r->ir->warps_m, r->ir->warps_n))
        gen_error(g, acc->var->span, "the axes of '%s' do not divide into atoms of 16 x 8 elements: all but the first on each side should have tiles of powers of two (say `by 16`)", acc->var->name);
}

static bool from_registers(const struct mma_operand *o) { return !o->field && o->buffer < 0; }

static void plan(struct gen *g, struct gen_role *r)
{
    struct mma_state *st = mma_state(g);
    mma_match_role(g, r);
    r->warps = r->ir->warps_m * (r->ir->warps_n ? r->ir->warps_n : 1);
    if (!r->warps) r->warps = role_elements(g, r) > 4 * 32 * ACC_BUDGET / 2 ? MOST_WARPS : 4;
    for (int i = 0; i < st->accs.n; i++)
        if (st->accs.at[i]->role == r) place_acc(g, r, st->accs.at[i]);
    for (int i = 0; i < st->ops.n; i++) {
        struct mma_op *op = st->ops.at[i];
        if (op->role != r) continue;
        if (!op->b.field) mma_reserve_buffer(g, &op->b);
        if (!op->a.field && type_bits(op->a.type) != 16) mma_reserve_buffer(g, &op->a);
    }
}

/* ---- begin ---- */

static bool check_operand(struct gen *g, const struct mma_op *op, const struct mma_operand *o)
{
    int bits = type_bits(o->type);
    if (!o->field || o->k_major || bits > 8) return true;
    gen_error(g, op->s->span, "'%s' holds %d-bit elements contiguous along '%s'; mma.sync reads %d-bit operands contiguous along what is summed over", o->field->name,
              bits, o->mn[o->nmn - 1]->name, bits);
    return false;
}

static void begin_role(struct gen *g)
{
    struct mma_state *st = mma_state(g);
    for (int i = 0; i < st->accs.n; i++) {
        struct mma_acc *acc = st->accs.at[i];
        if (acc->role != g->role || !acc->layout) continue;
        acc->nregs = layout_regs(acc->layout);
        acc->regs = new_n(g->arena, struct opd, acc->nregs);
        for (int r = 0; r < acc->nregs; r++) acc->regs[r] = lir_reg(g->l, RC_B32);
    }
    for (int i = 0; i < st->ops.n; i++) {
        struct mma_op *op = st->ops.at[i];
        if (op->role == g->role && mma_prepare(g, op)) (void)(check_operand(g, op, &op->a) && check_operand(g, op, &op->b));
    }
}

/* ---- fragments ---- */

/* How the fragments of one operand are read: addresses are base[i] + constants. */
struct reader {
    struct gen *g;
    const struct mma_op *op;
    const struct mma_operand *o;
    bool side_b;
    int atoms, stride;          /* fragments of a warp; elements along mn from one to the next (16: A atoms, B pairs) */
    struct opd base, start;     /* where the tile begins: mma_base */
    struct opd first;           /* first mn of the warp */
    struct opd lane_mn, lane_k; /* this lane's row of ldmatrix: element along mn; along K, in units of 16 bytes (K-major) or rows */
    bool unpack;                /* two elements a byte, where the instruction takes one */
    bool clamp;                 /* some lanes would read past the tile */
    VEC(struct opd) offset[8];  /* by row of the step % 8: this lane's offset for each fragment, -- or the one they share */
    VEC(struct opd) row[8];
};

/* Index of the warp along M (side A) or N. */
static struct opd warp_along(struct gen *g, const struct mma_acc *acc, bool n)
{
    struct lir *l = g->l;
    if (n) return acc->wn == 1 ? opd_imm(0) : lir_div(l, g->role->warp, opd_imm(acc->wm), true);
    return acc->wm == 1 ? opd_imm(0) : lir_mod(l, g->role->warp, opd_imm(acc->wm), true);
}

/* Lanes 8j .. 8j+7 give the rows of matrix j. A: matrices 0, 1 are rows 0-7, 8-15 of the atom, 2, 3 the same 16 bytes on.
 * B: matrices 0, 1 are the two halves of the step of the first atom, 2, 3 of the second. */
static void lane_part(struct reader *rd)
{
    struct lir *l = rd->g->l;
    struct opd lane = rd->g->role->lane, in8 = lir_and(l, lane, opd_imm(7));
    struct opd bit3 = lir_and(l, lir_shr_u(l, lane, 3), opd_imm(1)), bit4 = lir_shr_u(l, lane, 4);
    struct opd mn_half = rd->side_b ? bit4 : bit3, k_half = rd->side_b ? bit3 : bit4;
    if (rd->o->k_major) {
        rd->lane_mn = lir_add(l, in8, lir_shl(l, mn_half, 3));
        rd->lane_k = k_half;
    } else {
        rd->lane_mn = lir_shl(l, mn_half, 3);
        rd->lane_k = lir_add(l, in8, lir_shl(l, k_half, 3));
    }
}

/* Where elements are unpacked: fragments are 8 rows, lane 4g + q reads bytes 2q, 2q + 1 of halves of a row's 16. */
static void unpacked_part(struct reader *rd)
{
    struct lir *l = rd->g->l;
    struct opd lane = rd->g->role->lane;
    rd->base = lir_add(l, rd->base, lir_shl(l, lir_and(l, lane, opd_imm(3)), 1));
    rd->lane_mn = lir_shr_u(l, lane, 2);
    rd->lane_k = opd_imm(0);
    rd->stride = 8;
    rd->atoms *= 2;
}

static struct reader reader_start(struct gen *g, struct mma_op *op, struct mma_operand *o, bool side_b)
{
    struct mma_acc *acc = op->acc;
    struct reader rd = { .g = g, .op = op, .o = o, .side_b = side_b, .stride = 16 };
    int warps = side_b ? acc->wn : acc->wm, per_warp = side_b ? acc->n_atoms * 8 : acc->m_atoms * 16;
    rd.atoms = side_b ? ceil_to(acc->n_atoms, 2) : acc->m_atoms;
    rd.clamp = (warps - 1) * per_warp + rd.atoms * 16 > o->size;
    rd.base = mma_base(g, op, o, &rd.start);
    rd.first = lir_mul(g->l, warp_along(g, acc, side_b), opd_imm(per_warp));
    rd.unpack = o->form.pack > 1 && op->step_k / o->form.pack * o->form.bytes < MMA_STEP_BYTES;
    if (rd.unpack) gen_cost(g, op->s->span, "'%s' is unpacked as it is read: this product takes an element of it a byte", o->field->name);
    if (rd.unpack) unpacked_part(&rd);
    else lane_part(&rd);
    return rd;
}

/* Element along mn of this lane in fragment i; lanes past the tile read its last rows again. */
static struct opd lane_mn(struct reader *rd, int i)
{
    struct lir *l = rd->g->l;
    struct opd mn = lir_add(l, lir_add(l, rd->first, rd->lane_mn), opd_imm(i * rd->stride));
    int last = rd->o->k_major ? rd->o->size - 1 : (rd->o->size - 1) / 8 * 8;
    return rd->clamp ? lir_min(l, mn, opd_imm(last < 0 ? 0 : last)) : mn;
}

/* MN-major: the contiguous axis and what is outside it, which takes other rows. */
static void split_mn(struct reader *rd, struct opd mn, struct opd *row, struct opd *col)
{
    struct lir *l = rd->g->l;
    const struct mma_operand *o = rd->o;
    int inner = o->field ? o->mn[o->nmn - 1]->tile : o->size;
    *col = mn, *row = opd_imm(0);
    if (inner >= o->size) return;
    *col = lir_mod(l, mn, opd_imm(inner), true);
    *row = lir_mul(l, lir_div(l, mn, opd_imm(inner), true), opd_imm(o->form.mn_rows));
}

/* K-major: row and the xor that the 16-byte chunk of the step meets. Computed once for each residue of the step's row. */
static void rows_k_major(struct reader *rd, int residue)
{
    struct gen *g = rd->g;
    const struct mma_form *f = &rd->o->form;
    if (rd->row[residue].n) return;
    for (int i = 0; i < (rd->clamp ? rd->atoms : 1); i++) {
        struct opd row = lir_add(g->l, lir_mul(g->l, lane_mn(rd, i), opd_imm(f->mn_rows)), opd_imm(residue));
        struct opd chunk = lir_xor(g->l, lir_shl(g->l, rd->lane_k, 4), mma_swizzle(g, f, row));
        struct opd at = lir_add(g->l, rd->base, lir_mul(g->l, row, opd_imm(f->span)));
        vec_push(g->arena, &rd->row[residue], at);
        vec_push(g->arena, &rd->offset[residue], chunk);
    }
}

static struct opd address_k_major(struct reader *rd, int i, int row, int col, int *imm)
{
    struct lir *l = rd->g->l;
    const struct mma_form *f = &rd->o->form;
    int residue = row % 8, k = rd->clamp ? i : 0;
    rows_k_major(rd, residue);
    *imm = (row - residue) * f->span + col / f->per_panel * f->panel_bytes + (rd->clamp ? 0 : i * rd->stride * f->mn_rows * f->span);
    struct opd in_row = lir_mul(l, lir_add(l, rd->start, opd_imm(col % f->per_panel)), opd_imm(f->bytes));
    struct opd chunk = lir_xor(l, rd->offset[residue].at[k], in_row);
    return lir_add(l, rd->row[residue].at[k], chunk);
}

static struct opd address_mn_major(struct reader *rd, int i, int row, int *imm)
{
    struct gen *g = rd->g;
    const struct mma_form *f = &rd->o->form;
    int residue = row % 8;
    for (int k = rd->row[residue].n; k <= i; k++) {
        struct opd outer, col;
        split_mn(rd, lane_mn(rd, k), &outer, &col);
        struct opd lane_row = lir_mul(g->l, rd->lane_k, opd_imm(f->k_rows[rd->op->fast]));
        struct opd at = mma_offset(g, f, lir_add(g->l, lir_add(g->l, outer, lane_row), opd_imm(residue)), lir_add(g->l, col, rd->start));
        vec_push(g->arena, &rd->row[residue], lir_add(g->l, rd->base, at));
    }
    *imm = (row - residue) * f->span;
    return rd->row[residue].at[i];
}

/* 32-bit elements contiguous along M or N: fragment register r of lane 4g + q is element (g + 8*(r%2 or 0), q + 4*..). */
static void load_words(struct reader *rd, int i, int row, struct opd *out, int n)
{
    struct gen *g = rd->g;
    struct lir *l = g->l;
    const struct mma_operand *o = rd->o;
    struct opd gq = lir_shr_u(l, g->role->lane, 2), q = lir_and(l, g->role->lane, opd_imm(3));
    for (int r = 0; r < n; r++) {
        int dm = rd->side_b ? r / 2 * 8 : r % 2 * 8, dk = rd->side_b ? r % 2 * 4 : r / 2 * 4;
        struct opd outer, col, mn = lir_add(l, lir_add(l, rd->first, gq), opd_imm(i * rd->stride + dm));
        if (rd->clamp) mn = lir_min(l, mn, opd_imm(o->size - 1));
        split_mn(rd, mn, &outer, &col);
        struct opd k_row = lir_mul(l, lir_add(l, q, opd_imm(dk)), opd_imm(o->form.k_rows[rd->op->fast]));
        struct opd at = mma_offset(g, &o->form, lir_add(l, lir_add(l, outer, k_row), opd_imm(row)), lir_add(l, col, rd->start));
        out[r] = lir_reg(l, RC_B32);
        lir_emit(l, "ld.shared.b32 %r, [%r]", out[r], lir_add(l, rd->base, at));
    }
}

/* Four nibbles, each to bits 5..2 of a byte. PTX ISA, "Packing format used in MMA with .kind::mxf8f6f4". */
static struct opd spread_nibbles(struct gen *g, struct opd x)
{
    struct lir *l = g->l;
    struct opd w = lir_reg(l, RC_B32), even = lir_shl(l, x, 2), odd = lir_shr_u(l, x, 2);
    lir_emit(l, "prmt.b32 %r, %r, %r, %x", w, even, odd, (uint64_t)0x5140); /* a byte of each in turn */
    return lir_and(l, w, opd_imm(0x3c3c3c3c));
}

static void load_unpacked(struct reader *rd, int i, int row, int col, struct opd *out, int n)
{
    for (int r = 0; r < n; r++) {
        int imm, rows8 = rd->side_b ? r / 2 : r % 2, half = rd->side_b ? r % 2 : r / 2;
        struct opd at = address_k_major(rd, i * 2 + rows8, row, col, &imm), x = lir_reg(rd->g->l, RC_B32);
        lir_emit(rd->g->l, "ld.shared.u16 %r, [%r+%d]", x, at, imm + half * 8);
        out[r] = spread_nibbles(rd->g, x);
    }
}

/* To tf32 what lies there as f32: tensor cores would truncate. */
static void round_words(struct reader *rd, struct opd *words, int n)
{
    const struct gen_field *f = rd->o->field ? rd->o->field->cg : NULL; /* NULL: what registers held, and rounded */
    if (rd->o->form.bytes != 4 || !f || (f->map >= 0 && rd->g->image->maps.at[f->map].type == TY_tf32)) return;
    for (int r = 0; r < n; r++) {
        struct opd x = words[r];
        words[r] = lir_reg(rd->g->l, RC_B32);
        lir_emit(rd->g->l, "cvt.rna.tf32.f32 %r, %r", words[r], x);
    }
}

/* Four registers: an A atom, or B of two atoms. n = 2: B of one atom, the last of an odd number. */
static void load_fragment(struct reader *rd, int step, int i, struct opd *out, int n)
{
    struct lir *l = rd->g->l;
    int row, col, imm;
    mma_step_place(rd->op, rd->o, step, &row, &col);
    if (!rd->o->k_major && rd->o->form.bytes == 4) {
        load_words(rd, i, row, out, n);
        round_words(rd, out, n);
        return;
    }
    if (rd->unpack) {
        load_unpacked(rd, i, row, col, out, n);
        return;
    }
    struct opd at = rd->o->k_major ? address_k_major(rd, i, row, col, &imm) : address_mn_major(rd, i, row, &imm);
    for (int r = 0; r < n; r++) out[r] = lir_reg(l, RC_B32);
    lir_emit(l, "ldmatrix.sync.aligned.m8n8.x%d%s.shared.b16 %R, [%r+%d]", n, rd->o->k_major ? "" : ".trans", out, n, at, imm);
    round_words(rd, out, n);
}

/* ---- A from registers: what was computed in the accumulator's fragment is an A fragment once narrowed to 16 bits ---- */

/* All A fragments of the tile, [step][atom][4]. The tile's K is one axis cut into atoms of 8 columns. */
static struct opd *register_fragments(struct gen *g, struct mma_op *op)
{
    const struct mma_operand *a = &op->a;
    struct mma_acc *acc = op->acc;
    struct layout *lay = layout_mma(g->arena, a->mn, a->nmn, a->k, a->nk, acc->wm, 1, acc->m_atoms, op->steps.n * 2);
    if (lay && acc->wn > 1) lay->digit[lay->n++] = (struct lay_digit){ LAY_WARP, -1, acc->wn, 0 };
    return mma_register_fragments(g, op, lay, acc->m_atoms);
}

/* ---- fp8 where the tensor cores have none: four bytes become two pairs of f16, exactly ---- */

/* e4m3: sign, exponent and fraction moved to their places in an f16 are off by 2^8 in scale. NaN (0x7f) comes out as 480,
 * the one value with a carry out of its bits + 1: a bit more of exponent makes it NaN. e5m2 is the upper byte of an f16. */
static struct opd widen_pair(struct gen *g, enum type t, struct opd word, int pair)
{
    struct lir *l = g->l;
    struct opd x = lir_reg(l, RC_B32);
    lir_emit(l, "prmt.b32 %r, %r, 0, %x", x, word, (uint64_t)(pair ? 0x3424 : 0x1404)); /* bytes to the upper half of each f16 */
    if (t == TY_e5m2) return x;
    struct opd sign = lir_and(l, x, opd_imm((int32_t)0x80008000u)), rest = lir_and(l, x, opd_imm(0x7f007f00));
    struct opd nan = lir_and(l, lir_shr_u(l, lir_add(l, rest, opd_imm(0x01000100)), 2), opd_imm(0x20002000));
    struct opd h = lir_reg(l, RC_B32), scale = lir_in_reg(l, opd_imm(0x5c005c00), RC_B32); /* 2^8 twice */
    lir_emit(l, "mul.rn.f16x2 %r, %r, %r", h, lir_shr_u(l, rest, 1), scale);
    return lir_or(l, lir_or(l, h, sign), nan);
}

/* ---- the instruction ---- */

static const struct sync_type {
    enum type type;
    const char *name, *acc;
    int k;
} sync_types[] = {
    { TY_bf16, "bf16", "f32", 16 }, { TY_f16, "f16", "f32", 16 },   { TY_tf32, "tf32", "f32", 8 }, { TY_e4m3, "e4m3", "f32", 32 },
    { TY_e5m2, "e5m2", "f32", 32 }, { TY_i8, "s8", "s32", 32 },     { TY_u8, "u8", "s32", 32 },     { TY_e2m1, "e2m1", "f32", 32 },
};

static const struct sync_type *sync_type(enum type t)
{
    for (int i = 0; i < COUNT(sync_types); i++)
        if (sync_types[i].type == t) return &sync_types[i];
    return NULL;
}

/* fp8 and fp4 where products have scales. Without factors these are 1: the plain form of fp8 runs at half the rate. */
static bool is_scaled(struct gen *g, const struct mma_op *op)
{
    return target_has(g->target, HAS_MMA_BLOCK_SCALE) && type_is_float(op->a.type) && type_bits(op->a.type) <= 8;
}

/* The product of atom m, n in a step: D = A B + C */
struct atom {
    int step, m, n;
    const struct opd *d, *a, *b, *c;
};

static void emit_scaled(struct gen *g, const struct mma_op *op, const struct atom *x)
{
    const char *kind = op->step_k == 64 ? "kind::mxf4.block_scale.scale_vec::2X" : "kind::mxf8f6f4.block_scale.scale_vec::1X";
    int thread_a, thread_b;
    struct opd scale_a = mma_scale(&op->scales, false, x->step, x->m, &thread_a), scale_b = mma_scale(&op->scales, true, x->step, x->n, &thread_b);
    lir_emit(g->l, "mma.sync.aligned.m16n8k%d.row.col.%s.f32.%s.%s.f32.ue8m0 %R, %R, %R, %R, {%r}, {0, %d}, {%r}, {0, %d}", op->step_k, kind,
             sync_type(op->a.type)->name, sync_type(op->b.type)->name, x->d, 4, x->a, 4, x->b, 2, x->c, 4, scale_a, thread_a, scale_b, thread_b);
}

static void emit_mma(struct gen *g, const struct mma_op *op, const struct atom *x)
{
    const struct sync_type *ta = sync_type(op->a.type), *tb = sync_type(op->b.type);
    if (is_scaled(g, op)) {
        emit_scaled(g, op, x);
        return;
    }
    lir_emit(g->l, "mma.sync.aligned.m16n8k%d.row.col.%s.%s.%s.%s %R, %R, %R, %R", ta->k, ta->acc, ta->name, tb->name, ta->acc, x->d, 4, x->a, 4, x->b, 2, x->c, 4);
}

/* fp8 is an instruction from sm_89 on (in hardware or as ptxas' own sequence). */
static bool must_widen(struct gen *g, const struct mma_op *op)
{
    return type_is_float(op->a.type) && type_bits(op->a.type) == 8 && !target_has(g->target, HAS_CVT_FP8);
}

/* Fragments of one step: A [m_atoms][4], B [n_atoms][2]. */
struct fragments {
    struct opd *a, *b;
    int step;
    bool first; /* the first step of a sum that begins at zero */
};

static const struct opd *atom_of(const struct mma_acc *acc, int m, int n) { return acc->regs + (m * acc->n_atoms + n) * 4; }

static void load_b(struct reader *b, const struct mma_acc *acc, const struct fragments *f, int step, int n)
{
    load_fragment(b, step, n / 2, f->b + n * 2, n + 1 < acc->n_atoms ? 4 : 2);
}

static struct fragments load_a(struct gen *g, const struct mma_op *op, struct reader *a, const struct opd *a_regs, int step)
{
    const struct mma_acc *acc = op->acc;
    struct fragments f = { new_n(g->arena, struct opd, acc->m_atoms * 4), new_n(g->arena, struct opd, acc->n_atoms * 2 + 2), step, !step && !op->s->flag };
    for (int m = 0; m < acc->m_atoms; m++) {
        if (a_regs) memcpy(f.a + m * 4, a_regs + (step * acc->m_atoms + m) * 4, 4 * sizeof *f.a);
        else load_fragment(a, step, m, f.a + m * 4, 4);
    }
    return f;
}

static struct fragments load_step(struct gen *g, const struct mma_op *op, struct reader *a, struct reader *b, const struct opd *a_regs, int step)
{
    struct fragments f = load_a(g, op, a, a_regs, step);
    for (int n = 0; n < op->acc->n_atoms; n += 2) load_b(b, op->acc, &f, step, n);
    return f;
}

/* What an atom's product is added to: the atom, or zero. */
static const struct opd *added_to(struct gen *g, const struct fragments *f, const struct opd *d)
{
    if (!f->first) return d;
    struct opd *zeros = new_n(g->arena, struct opd, 4);
    for (int i = 0; i < 4; i++) zeros[i] = i ? zeros[0] : lir_in_reg(g->l, opd_imm(0), RC_B32);
    return zeros;
}

static void widen(struct gen *g, enum type t, const struct opd *x, int n, int pair, struct opd *out)
{
    for (int r = 0; r < n; r++) out[r] = widen_pair(g, t, x[r], pair);
}

/* Columns from .. to of the step, widened: the low halves of all four-byte groups first, then the high ones. K is permuted
 * alike on both sides. The side with more fragments is widened as it is used, so that few values are alive at a time. */
static void multiply_widened(struct gen *g, const struct mma_op *op, const struct fragments *f, int from, int to)
{
    const struct mma_acc *acc = op->acc;
    bool a_kept = acc->m_atoms * 4 <= (to - from) * 2;
    int kept = a_kept ? acc->m_atoms : to - from, other = a_kept ? to - from : acc->m_atoms, size[2] = { 4, 2 };
    const struct opd *side[2] = { f->a, f->b + from * 2 };
    enum type type[2] = { op->a.type, op->b.type };
    struct opd *wide = new_n(g->arena, struct opd, kept * size[!a_kept]), now[4];
    for (int pair = 0; pair < 2; pair++) {
        widen(g, type[!a_kept], side[!a_kept], kept * size[!a_kept], pair, wide);
        for (int i = 0; i < other; i++) {
            widen(g, type[a_kept], side[a_kept] + i * size[a_kept], size[a_kept], pair, now);
            for (int k = 0; k < kept; k++) {
                const struct opd *d = a_kept ? atom_of(acc, k, from + i) : atom_of(acc, i, from + k), *mine = wide + k * size[!a_kept];
                lir_emit(g->l, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 %R, %R, %R, %R", d, 4, a_kept ? mine : now, 4, a_kept ? now : mine, 2,
                         pair ? d : added_to(g, f, d), 4);
            }
        }
    }
}

static void multiply_columns(struct gen *g, const struct mma_op *op, const struct fragments *f, int from, int to)
{
    if (must_widen(g, op)) {
        multiply_widened(g, op, f, from, to);
        return;
    }
    for (int m = 0; m < op->acc->m_atoms; m++)
        for (int n = from; n < to; n++) {
            const struct opd *d = atom_of(op->acc, m, n);
            emit_mma(g, op, &(struct atom){ f->step, m, n, d, f->a + m * 4, f->b + n * 2, added_to(g, f, d) });
        }
}

static void zero(struct gen *g, struct mma_acc *acc)
{
    for (int r = 0; r < acc->nregs; r++) lir_set(g->l, acc->regs[r], opd_imm(0));
}

/* Every fragment is loaded right before it is used. */
static void multiply_lazily(struct gen *g, struct mma_op *op, struct reader *a, struct reader *b, const struct opd *a_regs)
{
    for (int step = 0; step < op->steps.n; step++) {
        struct fragments f = load_a(g, op, a, a_regs, step);
        for (int n = 0; n < op->acc->n_atoms; n += 2) {
            load_b(b, op->acc, &f, step, n);
            multiply_columns(g, op, &f, n, n + 2 < op->acc->n_atoms ? n + 2 : op->acc->n_atoms);
        }
    }
}

/* The next step's fragments are loaded before this one's are multiplied. */
static void multiply_ahead(struct gen *g, struct mma_op *op, struct reader *a, struct reader *b, const struct opd *a_regs)
{
    struct fragments now = load_step(g, op, a, b, a_regs, 0);
    for (int step = 0; step < op->steps.n; step++) {
        struct fragments next = { 0 };
        if (step + 1 < op->steps.n) next = load_step(g, op, a, b, a_regs, step + 1);
        multiply_columns(g, op, &now, 0, op->acc->n_atoms);
        now = next;
    }
}

/* Whether a thread has the registers to hold the fragments of two steps. */
static bool room_ahead(struct gen *g, const struct mma_acc *acc) { return hoist_room(g) >= acc->m_atoms * 4 + acc->n_atoms * 2; }

static void mma(struct gen *g, struct ir_stmt *s)
{
    struct mma_op *op = mma_op_of(g, s);
    if (!op || g->failed) return;
    struct opd *a_regs = NULL;
    mma_zero_tails(g, op);
    if (from_registers(&op->a) && !(a_regs = register_fragments(g, op))) return;
    if (op->a.buffer >= 0) mma_fill_buffer(g, op, &op->a, NULL);
    if (op->b.buffer >= 0) mma_fill_buffer(g, op, &op->b, NULL);
    struct reader a = a_regs ? (struct reader){ 0 } : reader_start(g, op, &op->a, false), b = reader_start(g, op, &op->b, true);
    if (is_scaled(g, op)) op->scales = mma_scales_load(g, op);
    if (g->failed) return;
    (room_ahead(g, op->acc) ? multiply_ahead : multiply_lazily)(g, op, &a, &b, a_regs);
}

/* ---- accumulators ---- */

static const struct layout *layout(struct gen *g, struct ir_var *v)
{
    struct mma_acc *acc = mma_acc_of(g, v);
    return acc ? acc->layout : NULL;
}

static struct opd *read(struct gen *g, struct ir_var *v)
{
    return mma_acc_of(g, v)->regs;
}

static void write(struct gen *g, struct ir_var *v, const struct opd *elements)
{
    struct mma_acc *acc = mma_acc_of(g, v);
    if (!acc || !acc->regs) return;
    if (!elements) zero(g, acc);
    else
        for (int r = 0; r < acc->nregs; r++) lir_set(g->l, acc->regs[r], elements[r]);
}

static void consume_end(struct gen *g, struct gen_pipe *p) { pipe_release(g, p, p->held, opd_imm(1)); }

static void task_end(struct gen *g) { (void)g; }

const struct mma_family mma_sync_family = {
    .name = "mma.sync", .async = false, .plan = plan, .begin_role = begin_role, .mma = mma, .layout = layout, .read = read,
    .write = write, .consume_end = consume_end, .task_end = task_end,
};
