/* mma_place - where operands lie in shared memory: forms of fields and buffers, steps along K, addresses, descriptors. */
#include "codegen/eval.h"
#include "codegen/mma_common.h"
#include "codegen/pipe.h"

/* ---- forms ---- */

static int round_up(int x, int to) { return (x + to - 1) / to * to; }

/* Panels as wide as the widest swizzle that divides a row; 16 bytes without one. */
static void panels(struct mma_form *f, int row_bytes)
{
    f->span = 16;
    f->swizzle = 0;
    for (int s = 128; s >= 32 && !f->swizzle; s /= 2)
        if (row_bytes % s == 0) f->span = f->swizzle = s;
    f->per_panel = f->span / f->bytes;
    f->panel_bytes = round_up(f->rows * f->span, f->swizzle ? 1024 : 128);
}

enum { BUFFER_PAD = 16 }; /* rows or columns along mn are rounded up to this */

int mma_k_size(const struct mma_operand *o)
{
    int n = 1;
    for (int i = 0; i < o->nk; i++) n *= o->k[i]->tile;
    return n;
}

void mma_buffer_form(struct mma_operand *o)
{
    struct mma_form *f = &o->form;
    int mn = round_up(o->size, BUFFER_PAD), k = mma_k_size(o), step = 1;
    *f = (struct mma_form){ .bytes = type_bits(o->type) / 8, .pack = 1, .rows = o->k_major ? mn : k, .cols = o->k_major ? k : mn, .mn_rows = 1 };
    for (int i = o->nk - 1; i >= 0; i--) {
        f->k_rows[i] = step; /* K-major: elements along the row, as all of k is one axis there */
        step *= o->k[i]->tile;
    }
    panels(f, f->cols * f->bytes);
}

static int form_bytes(const struct mma_form *f)
{
    return (f->cols + f->per_panel - 1) / f->per_panel * f->panel_bytes;
}

/* Both majors fit, so that the choice can wait until the tile's own layout is known. */
void mma_reserve_buffer(struct gen *g, struct mma_operand *o)
{
    int bytes = 0;
    for (int major = 0; major < 2; major++) {
        o->k_major = major;
        mma_buffer_form(o);
        if (form_bytes(&o->form) > bytes) bytes = form_bytes(&o->form);
    }
    o->buffer_bytes = bytes;
    o->buffer = gen_smem(g, bytes, 1024);
}

static int axis_rows(const struct gen_field *f, int axis)
{
    int n = 1;
    for (int i = axis + 1; i < f->ir->naxes; i++)
        if (i != f->inner) n *= f->ir->axes[i]->tile;
    return n;
}

/* Position in the field of the argument over x. */
static int arg_of(const struct ir_expr *slot, const struct ir_axis *x)
{
    for (int i = 0; i < slot->nargs; i++)
        if (slot->args[i]->naxes && slot->args[i]->axis == x) return i;
    return -1;
}

static bool field_form(struct gen *g, struct mma_op *op, struct mma_operand *o)
{
    struct gen_field *gf = pipe_field(g, o->field);
    struct mma_form *f = &o->form;
    int pack = gf->elem_bits < 8 ? 8 / gf->elem_bits : 1;
    *f = (struct mma_form){ .bytes = gf->elem_bits * pack / 8, .pack = pack, .span = gf->span, .swizzle = gf->swizzle,
                            .per_panel = gf->per_panel / pack, .panel_bytes = gf->panel_bytes, .rows = gf->rows, .cols = gf->cols / pack };
    const struct ir_expr *inner = o->e->args[gf->inner];
    if (!inner->naxes) {
        gen_error(g, op->s->span, "'%s' is read at one '%s', along which it is contiguous: not a tile that tensor cores read", o->field->name, o->field->axes[gf->inner]->name);
        return false;
    }
    o->k_major = mma_axis_at(o->k, o->nk, inner->axis) >= 0;
    for (int i = 0; i < o->nk; i++) {
        int at = arg_of(o->e, o->k[i]);
        f->k_rows[i] = at == gf->inner ? 0 : axis_rows(gf, at);
    }
    /* mn runs over rows evenly: each axis' step is that of the next times its tile */
    f->mn_rows = 1;
    for (int i = o->nmn - 1, step = 0; i >= 0; i--) {
        int at = arg_of(o->e, o->mn[i]);
        if (at == gf->inner) continue; /* the last one: it was taken in the field's order */
        if (!step) f->mn_rows = step = axis_rows(gf, at);
        else if (axis_rows(gf, at) != step && o->mn[i]->tile > 1) {
            gen_error(g, op->s->span, "the rows of '%s' that this mma reads are not evenly spaced: give the field its axes in the order of the result",
                      o->field->name);
            return false;
        }
        step *= o->mn[i]->tile;
    }
    if (!o->k_major && (!o->nmn || arg_of(o->e, o->mn[o->nmn - 1]) != gf->inner)) {
        gen_error(g, op->s->span, "'%s' is contiguous along '%s', which must be the last axis of its side of the result", o->field->name, inner->axis->name);
        return false;
    }
    return true;
}

/* Bytes past the end of its field that the last tile of an operand lies: the field holds several, and a part of one. */
static int past_tiles(const struct mma_operand *o, const struct gen_field *gf)
{
    int bytes = 0;
    for (int i = 0; i < o->nmn; i++) {
        int at = arg_of(o->e, o->mn[i]), held = at < 0 ? 0 : gf->ir->axes[at]->tile, tile = o->mn[i]->tile;
        if (at >= 0 && at != gf->inner && !o->mn[i]->exact && held > tile && held % tile) bytes += (tile - held % tile) * axis_rows(gf, at) * gf->span;
    }
    return bytes;
}

/* Bytes past the end of its field that an operand is read where the instruction reads more than the tile. */
static int past_field(const struct mma_operand *o, const struct gen_field *gf, int read)
{
    if (read <= o->size) return 0;
    const struct ir_expr *inner = o->e->args[gf->inner];
    bool k_major = inner->naxes && mma_axis_at(o->k, o->nk, inner->axis) >= 0;
    int panels = (read + gf->per_panel - 1) / gf->per_panel;
    if (!k_major) return (panels - gf->panels) * gf->panel_bytes;
    return o->nmn ? (read - o->size) * axis_rows(gf, arg_of(o->e, o->mn[o->nmn - 1])) * gf->span : 0;
}

int mma_reads_past(struct gen *g, const struct gen_field *gf)
{
    struct mma_state *st = mma_state(g);
    int most = 0;
    for (int i = 0; i < st->ops.n; i++) {
        const struct mma_op *op = st->ops.at[i];
        const struct mma_operand *side[2] = { &op->a, &op->b };
        int read[2] = { op->acc->rows_read, op->acc->cols_read };
        for (int k = 0; k < 2; k++) {
            if (side[k]->field != gf->ir) continue;
            int past = past_tiles(side[k], gf) + past_field(side[k], gf, read[k]);
            if (past > most) most = past;
        }
    }
    return most;
}

void mma_slot_pad(struct gen *g, struct gen_pipe *p)
{
    bool stored = false;
    p->pad = 0;
    for (int i = 0; i < p->ir->fields.n; i++) {
        const struct gen_field *gf = p->ir->fields.at[i]->cg;
        int past = gf->offset + gf->bytes + mma_reads_past(g, gf) - p->slot_bytes;
        if (past > p->pad) p->pad = past;
        stored |= gf->plan->sloped || gf->plan->kind == FILL_CP_ASYNC || gf->plan->kind == FILL_COMPUTED;
    }
    if (!stored) return;
    p->slot_bytes += (p->pad + 1023) / 1024 * 1024;
    p->pad = 0;
}

/* ---- steps ---- */

/* The axis whose coordinates a step of 32 bytes walks: the contiguous one of a K-major operand, else the last. */
static int fast_axis(const struct mma_op *op)
{
    const struct mma_operand *side[2] = { &op->a, &op->b };
    for (int i = 0; i < 2; i++)
        for (int k = 0; side[i]->field && side[i]->k_major && k < side[i]->nk; k++)
            if (!side[i]->form.k_rows[k]) return k;
    return op->a.nk - 1;
}

static void move_to_end(struct mma_operand *o, int i)
{
    struct ir_axis *x = o->k[i];
    int rows = o->form.k_rows[i];
    for (; i + 1 < o->nk; i++) o->k[i] = o->k[i + 1], o->form.k_rows[i] = o->form.k_rows[i + 1];
    o->k[i] = x;
    o->form.k_rows[i] = rows;
}

/* The wider operand of two fills the step. 4-bit ones make two blocks of 32 where these lie side by side. */
static int step_elements(const struct mma_op *op)
{
    int a = type_bits(op->a.type), b = type_bits(op->b.type), bits = a > b ? a : b, n = MMA_STEP_BYTES * 8 / bits;
    return bits == 4 && op->a.k[op->fast]->tile % n ? n / 2 : n;
}

static bool find_steps(struct gen *g, struct mma_op *op)
{
    int fast = op->fast, per_step = op->step_k = step_elements(op), total = 1;
    const struct mma_operand *side[2] = { &op->a, &op->b };
    op->steps.n = 0;
    for (int i = 0; i < 2; i++)
        if (side[i]->field && side[i]->k_major && side[i]->form.k_rows[fast]) {
            gen_error(g, op->s->span, "'%s' and '%s' are contiguous along different axes that are both summed over", op->a.field->name, op->b.field->name);
            return false;
        }
    if (op->a.k[fast]->tile % per_step) {
        gen_error(g, op->s->span, "the tile of '%s' is %d; mma of %s sums over multiples of %d", op->a.k[fast]->name, op->a.k[fast]->tile, type_name(op->a.type), per_step);
        return false;
    }
    for (int i = 0; i < op->a.nk; i++) total *= op->a.k[i]->tile / (i == fast ? per_step : 1);
    for (int n = 0; n < total; n++) {
        struct mma_step st = { { 0 } };
        int rest = n, tile = op->a.k[fast]->tile / per_step;
        st.at[fast] = rest % tile * per_step;
        rest /= tile;
        for (int i = op->a.nk - 1; i >= 0; i--) {
            if (i == fast) continue;
            st.at[i] = rest % op->a.k[i]->tile;
            rest /= op->a.k[i]->tile;
        }
        vec_push(g->arena, &op->steps, st);
    }
    return true;
}

bool mma_prepare(struct gen *g, struct mma_op *op)
{
    struct mma_operand *side[2] = { &op->a, &op->b };
    for (int i = 0; i < 2; i++)
        if (side[i]->field && !field_form(g, op, side[i])) return false;
    op->fast = fast_axis(op);
    for (int i = 0; i < 2; i++) move_to_end(side[i], op->fast);
    op->fast = op->a.nk - 1;
    for (int i = 0; i < 2; i++)
        if (side[i]->buffer >= 0) mma_buffer_form(side[i]);
    return find_steps(g, op);
}

void mma_step_place(const struct mma_op *op, const struct mma_operand *o, int step, int *row, int *col)
{
    *row = *col = 0;
    for (int i = 0; i < o->nk; i++) {
        int at = op->steps.at[step].at[i];
        if (!o->field && o->k_major) *col += at * o->form.k_rows[i];
        else if (!o->form.k_rows[i]) *col += at / o->form.pack;
        else *row += at * o->form.k_rows[i];
    }
}

/* ---- addresses ---- */

/* Where the tile begins within the field, along argument i: the argument's origin less the window's. */
static struct opd arg_start(struct gen *g, const struct mma_operand *o, int i)
{
    const struct ir_expr *arg = o->e->args[i];
    struct ir_axis *window = o->field->axes[i];
    if (arg->naxes && arg->axis == window) return opd_imm(0);
    if (arg->naxes) return eval_from(g, arg->axis, window);
    return lir_sub(g->l, gen_scalar(g, arg), gen_origin(g, window));
}

/* The start along the contiguous axis: whole panels go to the address, what begins inside one to *start. */
static struct opd inner_start(struct gen *g, struct mma_op *op, struct mma_operand *o, int i, struct opd at, struct opd *start)
{
    struct lir *l = g->l;
    struct gen_field *gf = pipe_field(g, o->field);
    int tile = o->e->args[i]->naxes ? o->e->args[i]->axis->tile : 1;
    if (tile % gf->per_panel && gf->per_panel % tile)
        gen_error(g, op->s->span, "a tile of %d along '%s' neither fills nor divides the slot's panels of %d", tile, o->field->axes[i]->name, gf->per_panel);
    if (tile % gf->per_panel) *start = gf->panels > 1 ? lir_mod(l, at, opd_imm(gf->per_panel), true) : at;
    if (gf->panels == 1) return opd_imm(0);
    return lir_mul(l, lir_div(l, at, opd_imm(gf->per_panel), true), opd_imm(gf->panel_bytes));
}

struct opd mma_base(struct gen *g, struct mma_op *op, struct mma_operand *o, struct opd *start)
{
    struct lir *l = g->l;
    *start = opd_imm(0);
    if (!o->field) return lir_add(l, g->smem, opd_imm(o->buffer));
    struct gen_field *gf = pipe_field(g, o->field);
    struct opd base = pipe_field_base(g, o->field), row = opd_imm(0);
    int step = 0;
    for (int i = 0; i < o->e->nargs; i++) {
        struct opd at = arg_start(g, o, i);
        if (opd_is(at, 0)) continue;
        if (i == gf->inner) {
            base = lir_add(l, base, inner_start(g, op, o, i, at, start));
            if (o->form.pack > 1) *start = lir_div(l, *start, opd_imm(o->form.pack), true);
            continue;
        }
        int rows = axis_rows(gf, i);
        step |= (o->e->args[i]->naxes ? o->e->args[i]->axis->tile : 1) * rows;
        row = lir_add(l, row, lir_mul(l, at, opd_imm(rows)));
    }
    if (gf->swizzle && step % 8)
        gen_error(g, op->s->span, "'%s' is read from a row that is not a multiple of 8: tensor cores cannot begin there", o->field->name);
    return lir_add(l, base, lir_mul(l, row, opd_imm(gf->span)));
}

struct opd mma_address(struct gen *g, struct mma_op *op, struct mma_operand *o)
{
    struct opd start, base = mma_base(g, op, o, &start);
    return lir_add(g->l, base, lir_mul(g->l, start, opd_imm(o->form.bytes)));
}

struct opd mma_swizzle(struct gen *g, const struct mma_form *f, struct opd row)
{
    struct lir *l = g->l;
    if (!f->swizzle) return opd_imm(0);
    struct opd line = lir_shr_u(l, lir_mul(l, row, opd_imm(f->span)), 7);
    return lir_shl(l, lir_and(l, line, opd_imm(f->swizzle / 16 - 1)), 4);
}

struct opd mma_offset(struct gen *g, const struct mma_form *f, struct opd row, struct opd col)
{
    struct lir *l = g->l;
    struct opd panel = lir_mul(l, lir_div(l, col, opd_imm(f->per_panel), true), opd_imm(f->panel_bytes));
    struct opd byte = lir_mul(l, lir_mod(l, col, opd_imm(f->per_panel), true), opd_imm(f->bytes));
    struct opd in_row = lir_xor(l, byte, mma_swizzle(g, f, row));
    return lir_add(l, lir_add(l, panel, lir_mul(l, row, opd_imm(f->span))), in_row);
}

/* ---- descriptors ---- */

/* Formulas: PTX ISA, "Strides" of the matrix descriptor. K-major: rows of mn in groups of 8. MN-major: rows of k. Without
 * a swizzle the unit is 8 rows of 16 bytes. */
void mma_descriptor_strides(const struct mma_operand *o, int *lbo, int *sbo)
{
    const struct mma_form *f = &o->form;
    int group = 8 * f->span * (o->k_major ? f->mn_rows : 1);
    if (o->k_major) {
        *sbo = group;
        *lbo = f->swizzle ? 16 : f->panel_bytes;
    } else if (f->swizzle) {
        *lbo = f->panel_bytes;
        *sbo = group;
    } else {
        *lbo = group;
        *sbo = f->panel_bytes;
    }
}

int mma_step_bytes(const struct mma_op *op, const struct mma_operand *o, int step)
{
    int row, col;
    const struct mma_form *f = &o->form;
    mma_step_place(op, o, step, &row, &col);
    return col / f->per_panel * f->panel_bytes + col % f->per_panel * f->bytes + row * f->span;
}

int mma_mn_bytes(const struct mma_operand *o, int mn)
{
    const struct mma_form *f = &o->form;
    if (o->k_major) return mn * f->mn_rows * f->span;
    return mn / f->per_panel * f->panel_bytes + mn % f->per_panel * f->bytes;
}

/* What a descriptor can express of an operand's form; errors name what would do. */
bool mma_check_descriptor(struct gen *g, const struct mma_op *op, const struct mma_operand *o, int mn_step)
{
    const struct mma_form *f = &o->form;
    const char *name = o->field ? o->field->name : "the operand";
    if (f->span != (f->swizzle ? f->swizzle : 16)) {
        gen_error(g, op->s->span, "rows of '%s' are %d bytes; tensor cores read rows of a multiple of 32 bytes", name, f->cols * f->bytes);
        return false;
    }
    if (o->k_major && f->mn_rows != 1 && o->size > 1) {
        gen_error(g, op->s->span, "rows of '%s' along '%s' lie %d rows apart; tensor cores read them one after the other: put '%s' last among its rows",
                  name, o->mn[o->nmn - 1]->name, f->mn_rows, o->mn[o->nmn - 1]->name);
        return false;
    }
    for (int i = 0; i < op->steps.n; i++) {
        int row, col;
        mma_step_place(op, o, i, &row, &col);
        if (row % 8 == 0 && (o->k_major || f->k_rows[op->fast] == 1)) continue;
        gen_error(g, op->s->span, "'%s' has other rows between those summed over; tensor cores read groups of 8 rows: put the axes summed over %s among its rows",
                  name, o->k_major ? "first" : "last");
        return false;
    }
    if (!o->k_major && (f->per_panel % mn_step && mn_step % f->per_panel)) {
        gen_error(g, op->s->span, "'%s' is contiguous along '%s' in panels of %d; this mma reads %d at a time", name, o->mn[o->nmn - 1]->name, f->per_panel, mn_step);
        return false;
    }
    if (!o->k_major && o->field && o->nmn > 1 && o->mn[o->nmn - 1]->tile != o->size) {
        gen_error(g, op->s->span, "'%s' is contiguous along '%s' and has other axes on the same side of the result: only one is possible there", name, o->mn[o->nmn - 1]->name);
        return false;
    }
    return true;
}

struct opd mma_descriptor_low(struct gen *g, struct opd address, int lbo)
{
    struct opd start = lir_shr_u(g->l, address, 4);
    if (g->fn->cluster > 1) start = lir_and(g->l, start, opd_imm(0x3fff));
    return lir_add(g->l, start, opd_imm((lbo & 0x3ffff) >> 4 << 16));
}

struct opd mma_descriptor(struct gen *g, struct opd low, uint32_t high)
{
    struct opd d = lir_reg(g->l, RC_B64);
    lir_emit(g->l, "mov.b64 %r, {%r, %r}", d, low, lir_in_reg(g->l, opd_imm((int32_t)high), RC_B32));
    return d;
}
