/* slot - reads of the slot held now, by ordinary loads from shared memory.
 *
 * Elements that lie next to each other in a row's 16-byte chunk share an address: a chunk is never split by a swizzle.
 *
 * A coordinate is what the thread adds (origin, lane, warp) plus a constant of the register. A swizzle is linear in the bits of
 * the offset, by exclusive or: where the two have no bit in common, swizzled offsets of both are xored to give that of the sum.
 * Bits that the thread's part cannot have add as well as they xor, so that they go into the instruction's constant offset:
 * addresses differ by the few bits that both have. */
#include "codegen/eval.h"

#include <string.h>

/* One coordinate of the field, relative to its window: base + k[r], or value[r]. */
struct slot_dim {
    bool linear;
    struct opd base, *value;
    uint32_t bits;            /* those that base may have */
    int64_t divisor;          /* of all coordinates with k[r] = 0, constant part and all */
    int *k;
    int axis;                 /* of the layout, where the coordinate is `from` + that axis'; -1: it is not */
    struct opd from;
};
struct slot_chunk {
    int key[IR_RANK + 1];     /* coordinates, -1; or 0s and, of an address that is split, the bits flipped */
    struct opd at;
};
struct slot_access {
    const struct ir_field *field;
    const struct gen_field *place;
    const struct layout *lay;
    int regs;
    struct slot_dim dim[IR_RANK];
    VEC(struct slot_chunk) chunks;
    struct opd split;         /* the offset that the thread's part of the coordinates gives, where addresses are split */
};

/* ---- bits that a number may have */

static uint32_t bits_from_lowest(uint32_t a) { return ~(a & -a) + 1; }

static uint32_t bits_add(uint32_t a, uint32_t b) { return a & b ? bits_from_lowest(a | b) : a | b; }

static uint32_t bits_times(uint32_t a, int64_t by)
{
    uint32_t low = (uint32_t)by & -(uint32_t)by;
    return (int64_t)low == by ? a * low : bits_from_lowest((a & -a) * low);
}

/* Of a multiple of n; 0: the number is 0. */
static uint32_t bits_multiple(int64_t n) { return bits_from_lowest((uint32_t)n); }

static uint32_t bits_of_lanes(const struct layout *lay, int axis)
{
    uint32_t all = 0;
    for (int i = 0; i < lay->n; i++) {
        const struct lay_digit *d = &lay->digit[i];
        uint32_t below = 1;
        while (below < (uint32_t)d->extent) below *= 2;
        if (d->place != LAY_REG && d->axis == axis) all = bits_add(all, bits_times(below - 1, d->stride));
    }
    return all;
}

/* ---- coordinates */

/* Uniform part of an index less the window's origin. */
static struct opd from_origin(struct gen *g, const struct linear *f, const struct ir_axis *x, int64_t *divisor)
{
    struct opd origin = eval_window(g, x);
    const struct ir_axis *root = x->of ? x->of : x;
    bool whole = opd_none(eval_of(g)->window[root->id]);
    if ((f->plain == x && whole) || (origin.kind == f->uniform.kind && origin.id == f->uniform.id && origin.imm == f->uniform.imm)) {
        *divisor = 0;
        return opd_imm(0);
    }
    int64_t align = x->of ? (x->of->align % x->div ? 1 : x->of->align / x->div) : x->align > 0 ? x->align : 1;
    *divisor = gcd(f->divisor, origin.kind == OPD_IMM ? origin.imm : align);
    if (f->plain && whole && !x->of) return eval_from(g, f->plain, x);
    return lir_sub(g->l, f->uniform, origin);
}

/* A coordinate divided by a constant is the same over whole stretches of the tile:  with every origin a multiple of `step`,
 * (origin + c) / div = (origin + c - c % step) / div  for step = gcd(div, origin's divisor). Where no lane or warp leaves
 * the stretch of its registers, one value serves all of a stretch. */
struct stretch {
    int64_t step, div;
    int axis;                 /* of the layout */
    struct linear form;
};

static bool stretches(struct gen *g, const struct slot_access *a, const struct ir_expr *index, struct stretch *s)
{
    int64_t within = 0;
    if (index->kind != E_div || !ir_const_int(index->args[1], &s->div) || s->div < 2) return false;
    if (!linear_of(g, index->args[0], &s->form) || s->form.n != 1 || s->form.coef[0] != 1) return false;
    s->step = gcd(s->div, s->form.divisor);
    s->axis = eval_index(a->lay, s->form.axes[0]);
    for (int i = 0; i < a->lay->n; i++) {
        const struct lay_digit *d = &a->lay->digit[i];
        if (d->place != LAY_REG && d->axis == s->axis && d->stride % s->step) within += (int64_t)(d->extent - 1) * d->stride;
    }
    for (int r = 0; r < a->regs; r++)
        if (layout_reg_offset(a->lay, r, s->axis) % s->step + within >= s->step) return false;
    return true;
}

static void plan_stretches(struct gen *g, struct slot_access *a, int i, const struct stretch *s)
{
    struct slot_dim *d = &a->dim[i];
    struct opd from = s->form.uniform, origin = eval_window(g, a->field->axes[i]);
    int *seen = new_n(g->arena, int, a->regs), n = 0;
    for (int k = 0; k < a->lay->n; k++) {
        const struct lay_digit *x = &a->lay->digit[k];
        if (x->place != LAY_REG && x->axis == s->axis && x->stride % s->step == 0) from = lir_mad(g->l, eval_digit(g, a->lay, k), opd_imm(x->stride), from);
    }
    d->value = new_n(g->arena, struct opd, a->regs);
    for (int r = 0; r < a->regs; r++) {
        int at = (int)(layout_reg_offset(a->lay, r, s->axis) / s->step), k = 0;
        while (k < n && seen[k] != at) k++;
        d->k[r] = k;
        if (k < n) continue;
        seen[n++] = at;
        struct opd q = lir_div(g->l, lir_add(g->l, from, opd_imm(at * s->step)), opd_imm(s->div), false);
        d->value[k] = lir_sub(g->l, q, origin);
    }
}

static void plan_dim(struct gen *g, struct slot_access *a, int i, const struct ir_expr *index)
{
    struct stretch s;
    struct slot_dim *d = &a->dim[i];
    const struct ir_axis *x = a->field->axes[i];
    struct ir_axis *axes[IR_RANK];
    struct linear f;
    d->k = new_n(g->arena, int, a->regs);
    d->linear = linear_of(g, index, &f);
    d->axis = d->linear && f.n == 1 && f.coef[0] == 1 ? eval_index(a->lay, f.axes[0]) : -1;
    if (d->linear) {
        d->base = d->from = from_origin(g, &f, x, &d->divisor);
        bool fixed = d->from.kind == OPD_IMM;
        d->bits = fixed ? 0 : bits_multiple(d->divisor);
        for (int r = 0; r < a->regs && fixed; r++) d->k[r] = (int)d->from.imm;
        if (fixed) d->base = opd_imm(0);
        for (int j = 0; j < f.n; j++) {
            int axis = eval_index(a->lay, f.axes[j]);
            d->bits = bits_add(d->bits, bits_times(bits_of_lanes(a->lay, axis), f.coef[j]));
            d->base = lir_mad(g->l, eval_lane_part(g, a->lay, axis), opd_imm(f.coef[j]), d->base);
            d->divisor = gcd(d->divisor, f.coef[j] * eval_lane_divisor(a->lay, axis));
            for (int r = 0; r < a->regs; r++) d->k[r] += f.coef[j] * layout_reg_offset(a->lay, r, axis);
        }
        return;
    }
    if (stretches(g, a, index, &s)) {
        plan_stretches(g, a, i, &s);
        return;
    }
    struct opd *v = gen_tile(g, index, a->lay), origin = eval_window(g, x);
    struct layout *mine = layout_project(g->arena, a->lay, axes, eval_axes(g, index, axes));
    d->value = new_n(g->arena, struct opd, layout_regs(mine));
    for (int r = 0; r < layout_regs(mine); r++) d->value[r] = lir_sub(g->l, v[r], origin);
    for (int r = 0; r < a->regs; r++) d->k[r] = layout_project_reg(a->lay, mine, r);
}

/* Elements of a 16-byte chunk that the inner coordinate is known to begin at a multiple of. */
static int chunk_of(const struct slot_access *a)
{
    const struct slot_dim *d = &a->dim[a->place->inner];
    int n = 128 / a->place->elem_bits;
    if (!d->linear) return 1;
    while (n > 1 && d->divisor % n) n /= 2;
    return n;
}

/* The offset of register r is that of the thread's part and a constant: `within` is added to it, after the bits `flip` are flipped. */
static bool is_split(struct gen *g, const struct slot_access *a, int r, int *flip, int *within)
{
    const struct gen_field *f = a->place;
    bool one = pipe_in_one_panel(f), flat = one && !f->swizzle && f->elem_bits >= 8;
    struct opd k[IR_RANK] = { opd_imm(0) };
    uint32_t row = 0, line, low = f->swizzle ? (uint32_t)f->swizzle * 8 - 1 : 0; /* bits that a swizzle looks at, and those below */
    int64_t rows = 0, pitch = 1;
    for (int i = a->field->naxes - 1; i >= 0; i--) {
        const struct slot_dim *d = &a->dim[i];
        if (!d->linear || (d->k[r] < 0 && !flat)) return false;
        k[i] = opd_imm(d->k[r]);
        if (i == f->inner) continue;
        row = bits_add(row, bits_times(d->bits, pitch));
        rows += d->k[r] * pitch;
        pitch *= a->field->axes[i]->tile;
    }
    uint32_t col = a->dim[f->inner].bits, cols = (uint32_t)a->dim[f->inner].k[r], panel = (uint32_t)f->per_panel;
    if (f->scales || (!one && (panel & (panel - 1) || col & cols & (panel - 1)))) return false;
    if (!one) col &= panel - 1, cols &= panel - 1;
    line = bits_add(bits_times(row, f->span), (uint32_t)((uint64_t)col * (uint32_t)f->elem_bits / 8));
    if (line & low & ((uint32_t)rows * (uint32_t)f->span + cols * (uint32_t)f->elem_bits / 8)) return false;
    uint32_t chunks = f->swizzle ? (uint32_t)f->swizzle - 16 : 0;
    *within = (int)pipe_offset(g, a->field, k).imm;
    *flip = (int)((line | line >> 3) & chunks) & *within;
    *within -= *flip;
    return true;
}

static struct opd known_chunk(const struct slot_access *a, const struct slot_chunk *c)
{
    for (int i = 0; i < a->chunks.n; i++)
        if (!memcmp(a->chunks.at[i].key, c->key, sizeof c->key)) return a->chunks.at[i].at;
    return (struct opd){ 0 };
}

static struct opd make_chunk(struct gen *g, struct slot_access *a, const int *key)
{
    struct opd rel[IR_RANK] = { opd_imm(0) }, offset = a->split;
    for (int i = 0; i < a->field->naxes; i++)
        rel[i] = a->dim[i].linear ? lir_add(g->l, a->dim[i].base, opd_imm(key[i])) : a->dim[i].value[key[i]];
    if (key[IR_RANK] < 0 || opd_none(offset)) offset = pipe_offset(g, a->field, rel);
    if (key[IR_RANK] >= 0) a->split = offset, offset = lir_xor(g->l, offset, opd_imm(key[IR_RANK]));
    return lir_in_reg(g->l, lir_add(g->l, pipe_field_base(g, a->field), offset), RC_B32);
}

static struct opd chunk_address(struct gen *g, struct slot_access *a, int r, int chunk, int *offset)
{
    struct slot_chunk c = { .at = { 0 } };
    int inner = a->place->inner, flip = 0, within = a->dim[inner].linear ? (int)floor_mod(a->dim[inner].k[r], chunk) : 0;
    bool split = is_split(g, a, r, &flip, offset);
    if (!split) *offset = within * a->place->elem_bits / 8;
    for (int i = 0; i < a->field->naxes && !split; i++) c.key[i] = a->dim[i].k[r] - (i == inner ? within : 0);
    c.key[IR_RANK] = split ? flip : -1;
    c.at = known_chunk(a, &c);
    if (opd_none(c.at)) {
        c.at = make_chunk(g, a, c.key);
        vec_push(g->arena, &a->chunks, c);
    }
    return c.at;
}

/* How many registers from r on follow each other within a chunk. */
static int run_of(const struct slot_access *a, int r, int chunk)
{
    int inner = a->place->inner, n = chunk;
    for (; n > 1; n /= 2) {
        bool good = r + n <= a->regs && a->dim[inner].k[r] % n == 0;
        for (int i = 1; i < n && good; i++)
            for (int d = 0; d < a->field->naxes; d++) good &= a->dim[d].k[r + i] == a->dim[d].k[r] + (d == inner ? i : 0);
        if (good) return n;
    }
    return 1;
}

/* Coordinates that the layout covers beyond the tile are not in the slot; nor are those of a tile, one of several that the
 * slot holds, that reaches past the slot's end. */
static void inside_slot(struct gen *g, struct inside *in, const struct slot_access *a)
{
    *in = (struct inside){ .lay = a->lay };
    for (int i = 0; i < a->lay->naxes; i++)
        if (a->lay->axes[i]->tile > 0 && a->lay->extent[i] > a->lay->axes[i]->tile) in->bound[i] = opd_imm(a->lay->axes[i]->tile);
    for (int i = 0; i < a->field->naxes; i++) {
        const struct slot_dim *d = &a->dim[i];
        const struct ir_axis *x = d->axis < 0 ? NULL : a->lay->axes[d->axis];
        int held = a->field->axes[i]->tile;
        if (x && !x->exact && x->tile > 0 && x->tile < held && held % x->tile) in->bound[d->axis] = lir_min(g->l, lir_sub(g->l, opd_imm(held), d->from), opd_imm(x->tile));
    }
}

/* Registers r .. r + n - 1 are in the tile together. */
static bool together(const struct inside *in, int r, int n)
{
    for (int a = 0; a < in->lay->naxes; a++) {
        bool moves = false;
        for (int i = 1; i < n; i++) moves |= layout_reg_offset(in->lay, r + i, a) != layout_reg_offset(in->lay, r, a);
        if (moves && !opd_none(in->bound[a]) && (in->bound[a].kind != OPD_IMM || in->bound[a].imm % n)) return false;
    }
    return true;
}

/* The first register that holds the same element as r. */
static int same_place(const struct slot_access *a, int r)
{
    for (int i = 0; i < r; i++) {
        bool same = true;
        for (int d = 0; d < a->field->naxes && same; d++) same = a->dim[d].k[i] == a->dim[d].k[r];
        if (same) return i;
    }
    return r;
}

struct opd *slot_read(struct gen *g, const struct ir_expr *e, const struct layout *lay)
{
    struct slot_access *a = new (g->arena, struct slot_access);
    *a = (struct slot_access){ .field = e->field, .place = pipe_field(g, e->field), .lay = lay, .regs = layout_regs(lay) };
    for (int i = 0; i < e->field->naxes; i++) plan_dim(g, a, i, e->args[i]);
    int chunk = chunk_of(a);
    struct opd *out = new_n(g->arena, struct opd, a->regs);
    if (type_bits(e->field->type) < 8 && chunk < 2)
        gen_error(g, e->span, "'%s' holds two elements a byte; they are read here from an odd coordinate", e->field->name);
    struct inside in;
    inside_slot(g, &in, a);
    for (int r = 0, n; r < a->regs; r += n) {
        int offset, twin = same_place(a, r);
        if (twin < r) {
            out[r] = out[twin];
            n = 1;
            continue;
        }
        struct opd at = chunk_address(g, a, r, chunk, &offset), two[2];
        n = run_of(a, r, chunk);
        while (n > 1 && !together(&in, r, n)) n /= 2;
        struct opd guard = inside_all(g, &in, r);
        if (n > 1 || type_bits(e->field->type) >= 8) access_words_load(g, "shared", e->field->type, n, guard, at, offset, out + r);
        else {
            access_words_load(g, "shared", e->field->type, 2, guard, at, offset, two);
            out[r] = two[a->dim[a->place->inner].k[r] & 1];
        }
    }
    return out;
}
