/* mma - choice of the tensor-core family; operands matched against fields; addresses and descriptors of what lies in
 * shared memory. */
#include "codegen/mma_common.h"

#include <string.h>

/* ---- state ---- */

struct mma_state *mma_state(struct gen *g)
{
    struct mma_state *st = g->mma;
    if (st && st->l == g->l) return st;
    st = new(g->arena, struct mma_state);
    st->l = g->l;
    st->clean_at = -1;
    g->mma = st;
    return st;
}

struct mma_op *mma_op_of(struct gen *g, const struct ir_stmt *s)
{
    struct mma_state *st = mma_state(g);
    for (int i = 0; i < st->ops.n; i++)
        if (st->ops.at[i]->s == s) return st->ops.at[i];
    return NULL;
}

struct mma_acc *mma_acc_of(struct gen *g, const struct ir_var *v)
{
    struct mma_state *st = mma_state(g);
    for (int i = 0; i < st->accs.n; i++)
        if (st->accs.at[i]->var == v) return st->accs.at[i];
    return NULL;
}

bool mma_straight(struct gen *g, int at)
{
    if (at < 0) return false;
    for (int i = at; i < g->l->code.n; i++)
        if (!g->l->code.at[i].fmt) return false;
    return true;
}

/* ---- operands ---- */

static int axis_at(struct ir_axis *const *axes, int n, const struct ir_axis *x)
{
    for (int i = 0; i < n; i++)
        if (axes[i] == x) return i;
    return -1;
}

static const struct ir_expr *slot_of(const struct ir_expr *e)
{
    if (e->kind == E_cast && e->type == TY_tf32 && e->args[0]->kind == E_slot && e->args[0]->type == TY_f32) e = e->args[0];
    if (e->kind != E_slot) return NULL;
    for (int i = 0; i < e->nargs; i++)
        if (e->args[i]->naxes && e->args[i]->kind != E_coord) return NULL;
    return e;
}

/* The axes of an operand in the order of memory (of the field) or, for a register tile, of the accumulator. */
static int operand_axes(const struct ir_stmt *s, const struct mma_operand *o, struct ir_axis **axes)
{
    int n = 0;
    if (o->field) {
        for (int i = 0; i < o->e->nargs; i++)
            if (o->e->args[i]->naxes) axes[n++] = o->e->args[i]->axis;
        return n;
    }
    for (int i = 0; i < s->var->naxes; i++)
        if (ir_has_axis(o->e, s->var->axes[i])) axes[n++] = s->var->axes[i];
    for (int i = 0; i < o->e->naxes; i++)
        if (axis_at(axes, n, o->e->axes[i]) < 0) axes[n++] = o->e->axes[i];
    return n;
}

static void match_operand(const struct ir_stmt *s, struct mma_operand *o, const struct ir_expr *e, const struct ir_expr *other)
{
    struct ir_axis *axes[IR_RANK];
    const struct ir_expr *slot = slot_of(e);
    *o = (struct mma_operand){ .e = slot ? slot : e, .field = slot ? slot->field : NULL, .type = e->type, .size = 1, .buffer = -1 };
    int n = operand_axes(s, o, axes);
    for (int i = 0; i < n; i++) {
        bool of_var = axis_at(s->var->axes, s->var->naxes, axes[i]) >= 0;
        if (of_var && axes[i]->tile == 1 && ir_has_axis(other, axes[i])) continue; /* one value on both sides */
        if (of_var) o->mn[o->nmn++] = axes[i], o->size *= axes[i]->tile;
        else o->k[o->nk++] = axes[i];
    }
}

static const struct {
    enum type type;
    const char *what;
} mma_types[] = { { TY_bf16, "" }, { TY_f16, "" }, { TY_tf32, "" }, { TY_e4m3, "" }, { TY_e5m2, "" }, { TY_i8, "" }, { TY_u8, "" } };

static bool check_types(struct gen *g, const struct mma_op *op)
{
    enum type a = op->a.type, b = op->b.type;
    bool known_a = false, known_b = false, bytes = type_bits(a) == 8 && type_bits(b) == 8;
    bool ints = !type_is_float(a) && !type_is_float(b);
    for (int i = 0; i < COUNT(mma_types); i++) known_a |= a == mma_types[i].type, known_b |= b == mma_types[i].type;
    if (!known_a || !known_b) {
        gen_error(g, op->s->span, "mma takes bf16, f16, tf32, e4m3, e5m2, i8 or u8; this operand is %s", type_name(known_a ? b : a));
        return false;
    }
    if (a != b && !(bytes && type_is_float(a) == type_is_float(b))) {
        gen_error(g, op->s->span, "the operands of mma are %s and %s; no tensor core multiplies these two, convert one", type_name(a), type_name(b));
        return false;
    }
    if (op->s->var->type != (ints ? TY_i32 : TY_f32)) {
        gen_error(g, op->s->span, "products of %s are summed in %s; '%s' is %s", type_name(a), ints ? "i32" : "f32", op->s->var->name, type_name(op->s->var->type));
        return false;
    }
    return true;
}

/* Both sides must contract the same axes, and nothing else may be left over. */
static bool check_axes(struct gen *g, const struct mma_op *op)
{
    const struct ir_stmt *s = op->s;
    const struct mma_operand *side[2] = { &op->a, &op->b };
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < side[i]->nk; k++)
            if (axis_at(side[!i]->k, side[!i]->nk, side[i]->k[k]) < 0) {
                gen_error(g, s->span, "axis '%s' is summed over here, but only one operand of mma has it", side[i]->k[k]->name);
                return false;
            }
    for (int i = 0; i < op->a.nmn; i++)
        if (axis_at(op->b.mn, op->b.nmn, op->a.mn[i]) >= 0) {
            gen_error(g, s->span, "axis '%s' is in both operands and in the result, with a tile of %d; one mma takes one value of it: say `by 1`",
                      op->a.mn[i]->name, op->a.mn[i]->tile);
            return false;
        }
    if (!op->a.nk) {
        gen_error(g, s->span, "the operands of mma share no axis that is summed over");
        return false;
    }
    return true;
}

/* The fast k axis comes last in both operands: the contiguous one where there is one. The accumulator's axes are those of
 * its operands, M then N. */
static void order_k(struct mma_operand *first, struct mma_operand *second)
{
    memcpy(second->k, first->k, sizeof first->k);
}

static struct mma_acc *accumulator(struct gen *g, struct mma_op *op)
{
    struct mma_state *st = mma_state(g);
    struct mma_acc *acc = mma_acc_of(g, op->s->var);
    if (!acc) {
        acc = new(g->arena, struct mma_acc);
        acc->var = op->s->var;
        acc->role = op->role;
        acc->written_at = acc->read_at = -1;
        acc->nm = op->a.nmn, acc->nn = op->b.nmn;
        acc->rows = op->a.size, acc->cols = op->b.size;
        memcpy(acc->m, op->a.mn, sizeof acc->m);
        memcpy(acc->n, op->b.mn, sizeof acc->n);
        for (int i = 0; i < acc->var->naxes; i++) { /* an axis of one value, on both sides or neither */
            struct ir_axis *x = acc->var->axes[i];
            if (axis_at(acc->m, acc->nm, x) < 0 && axis_at(acc->n, acc->nn, x) < 0) {
                memmove(acc->m + 1, acc->m, sizeof *acc->m * (size_t)acc->nm++);
                acc->m[0] = x;
            }
        }
        vec_push(g->arena, &st->accs, acc);
        return acc;
    }
    bool same = acc->rows == op->a.size && acc->cols == op->b.size;
    for (int i = 0; same && i < op->b.nmn; i++) same = acc->n[i] == op->b.mn[i];
    for (int i = 0; same && i < op->a.nmn; i++) same = acc->m[acc->nm - op->a.nmn + i] == op->a.mn[i];
    if (!same)
        gen_error(g, op->s->span, "'%s' is summed into from operands that hold its axes in another order or on another side", acc->var->name);
    return acc;
}

static void match(struct gen *g, struct gen_role *r, struct ir_stmt *s)
{
    struct mma_state *st = mma_state(g);
    struct mma_op *op = new(g->arena, struct mma_op);
    op->s = s;
    op->role = r;
    struct ir_expr *a = s->var->flip ? s->expr2 : s->expr, *b = s->var->flip ? s->expr : s->expr2;
    match_operand(s, &op->a, a, b);
    match_operand(s, &op->b, b, a);
    if (!check_types(g, op) || !check_axes(g, op)) return;
    if (op->a.field) order_k(&op->a, &op->b);
    else order_k(&op->b, &op->a);
    op->acc = accumulator(g, op);
    vec_push(g->arena, &st->ops, op);
}

static void match_block(struct gen *g, struct gen_role *r, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        if (b->at[i]->kind == S_mma) match(g, r, b->at[i]);
        match_block(g, r, &b->at[i]->body);
        match_block(g, r, &b->at[i]->other);
    }
}

void mma_match_role(struct gen *g, struct gen_role *r) { match_block(g, r, &r->ir->body); }

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

static int k_size(const struct mma_operand *o)
{
    int n = 1;
    for (int i = 0; i < o->nk; i++) n *= o->k[i]->tile;
    return n;
}

static void buffer_form(struct mma_operand *o)
{
    struct mma_form *f = &o->form;
    int mn = round_up(o->size, BUFFER_PAD), k = k_size(o), step = 1;
    *f = (struct mma_form){ .bytes = type_bits(o->type) / 8, .rows = o->k_major ? mn : k, .cols = o->k_major ? k : mn, .mn_rows = 1 };
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
        buffer_form(o);
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
    *f = (struct mma_form){ .bytes = gf->elem_bits / 8, .span = gf->span, .swizzle = gf->swizzle, .per_panel = gf->per_panel,
                            .panel_bytes = gf->panel_bytes, .rows = gf->rows, .cols = gf->cols };
    const struct ir_expr *inner = o->e->args[gf->inner];
    if (!inner->naxes) {
        gen_error(g, op->s->span, "'%s' is read at one '%s', along which it is contiguous: not a tile that tensor cores read", o->field->name, o->field->axes[gf->inner]->name);
        return false;
    }
    o->k_major = axis_at(o->k, o->nk, inner->axis) >= 0;
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

static bool find_steps(struct gen *g, struct mma_op *op)
{
    int fast = op->fast, per_step = MMA_STEP_BYTES / (type_bits(op->a.type) / 8), total = 1;
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
        if (side[i]->buffer >= 0) buffer_form(side[i]);
    return find_steps(g, op);
}

void mma_step_place(const struct mma_op *op, const struct mma_operand *o, int step, int *row, int *col)
{
    *row = *col = 0;
    for (int i = 0; i < o->nk; i++) {
        int at = op->steps.at[step].at[i];
        if (!o->field && o->k_major) *col += at * o->form.k_rows[i];
        else if (!o->form.k_rows[i]) *col += at;
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
    struct opd at = arg->naxes ? gen_origin(g, arg->axis) : gen_scalar(g, arg);
    return lir_sub(g->l, at, gen_origin(g, window));
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

/* ---- register tiles through shared memory ---- */

/* MN-major where neighbouring registers hold neighbours along mn, so that pairs are stored together. */
static bool prefers_mn(const struct mma_operand *o, const struct layout *lay)
{
    if (type_bits(o->type) != 16 || !lay->n || lay->digit[0].place != LAY_REG || lay->digit[0].stride != 1) return false;
    return o->nmn && lay->digit[0].axis >= 0 && lay->axes[lay->digit[0].axis] == o->mn[o->nmn - 1];
}

static const struct layout *tile_layout(struct gen *g, const struct mma_operand *o)
{
    struct ir_axis *axes[IR_RANK];
    const struct layout *lay = gen_anchor(g, o->e);
    int n = 0, covered = 0;
    for (int i = 0; i < o->nmn; i++) axes[n++] = o->mn[i];
    for (int i = 0; i < o->nk; i++) axes[n++] = o->k[i];
    for (int i = 0; lay && i < n; i++) covered += axis_at(lay->axes, lay->naxes, axes[i]) >= 0;
    if (lay && covered == n) return layout_project(g->arena, lay, axes, n);
    return layout_blocked(g->arena, axes, n, n - 1, 16 / (type_bits(o->type) / 8), g->role->warps);
}

/* Row and column of register r of the tile's layout. */
static void buffer_place(struct gen *g, const struct mma_operand *o, const struct layout *lay, int r, struct opd *row, struct opd *col, struct opd *inside)
{
    struct lir *l = g->l;
    struct opd flat[2] = { opd_imm(0), opd_imm(0) };
    *inside = opd_imm(1);
    for (int a = 0; a < lay->naxes; a++) {
        struct opd rel = lir_sub(l, gen_coord(g, lay, r, a), gen_origin(g, lay->axes[a]));
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

/* One element as the bits that go to memory. */
static struct opd store_bits(struct gen *g, const struct mma_operand *o, struct opd x)
{
    struct lir *l = g->l;
    if (type_bits(o->type) != 8) return lir_in_reg(l, x, gen_class(o->type));
    struct opd byte = lir_reg(l, RC_B16); /* a copy: ptxas converts when a byte store follows a float conversion */
    lir_emit(l, gen_class(o->type) == RC_B32 ? "cvt.u16.u32 %r, %r" : "and.b16 %r, %r, 255", byte, lir_in_reg(l, x, gen_class(o->type)));
    return byte;
}

void mma_fill_buffer(struct gen *g, struct mma_op *op, struct mma_operand *o, void (*flush)(struct gen *g))
{
    struct lir *l = g->l;
    const struct layout *lay = tile_layout(g, o);
    struct opd *v = gen_tile(g, o->e, lay), base = lir_add(l, g->smem, opd_imm(o->buffer));
    const struct layout *own = layout_project(g->arena, lay, o->e->axes, o->e->naxes);
    o->k_major = !prefers_mn(o, lay);
    buffer_form(o);
    int n = layout_regs(lay), bits = type_bits(o->type);
    gen_cost(g, op->s->span, "an operand of mma goes through %d bytes of shared memory: it is computed in registers", o->buffer_bytes);
    if (flush) flush(g);
    gen_role_sync(g); /* what read the buffer before has completed in every warp */
    for (int r = 0; r < n; r++) {
        struct opd row, col, inside, x = v[layout_project_reg(lay, own, r)], k_in = mma_k_inside(g, o, lay, r);
        buffer_place(g, o, lay, r, &row, &col, &inside);
        if (!opd_is(k_in, 1)) x = lir_sel(l, k_in, x, opd_imm(0), gen_class(o->type));
        struct opd to = lir_add(l, base, mma_offset(g, &o->form, row, col));
        lir_emit(l, "@%r st.shared.b%d [%r], %r", inside, bits, to, store_bits(g, o, x));
    }
    if (g->family->async) lir_emit(l, "fence.proxy.async.shared::cta");
    gen_role_sync(g);
}

/* ---- A from registers ---- */

static struct opd pack2(struct gen *g, struct opd lo, struct opd hi)
{
    struct opd d = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "mov.b32 %r, {%r, %r}", d, lir_in_reg(g->l, lo, RC_B16), lir_in_reg(g->l, hi, RC_B16));
    return d;
}

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
                struct opd in = mma_k_inside(g, a, lay, at), x = v[layout_project_reg(lay, own, at)];
                pair[h] = opd_is(in, 1) ? x : lir_sel(g->l, in, x, opd_imm(0), RC_B16);
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
    int per = 16 / f->bytes, in_row = o->k_major ? k_size(o) / per : (o->size + per - 1) / per;
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
    int chunks = o->k_major ? o->size * (k_size(o) / per) : k_size(o) * ((o->size + per - 1) / per);
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

struct opd mma_descriptor(struct gen *g, struct opd low, uint32_t high)
{
    struct opd d = lir_reg(g->l, RC_B64);
    lir_emit(g->l, "mov.b64 %r, {%r, %r}", d, low, lir_in_reg(g->l, opd_imm((int32_t)high), RC_B32));
    return d;
}

/* ---- accumulators ---- */

void mma_zero_unless_kept(struct gen *g, struct mma_acc *acc, const struct opd *regs, int n)
{
    struct lir *l = g->l;
    if (mma_straight(g, acc->written_at)) return;
    int skip = lir_label(l);
    lir_emit(l, "@%r bra %l", acc->keep, skip);
    for (int i = 0; i < n; i++) lir_set(l, regs[i], opd_imm(0));
    lir_place(l, skip);
}

/* ---- choice ---- */

struct probe {
    int smallest; /* rows of the smallest accumulator's M side */
};

static void probe_block(const ir_block *b, struct probe *p)
{
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        if (s->kind == S_mma) {
            struct mma_operand o;
            struct ir_expr *a = s->var->flip ? s->expr2 : s->expr, *other = s->var->flip ? s->expr : s->expr2;
            match_operand(s, &o, a, other);
            if (!p->smallest || o.size < p->smallest) p->smallest = o.size;
        }
        probe_block(&s->body, p);
        probe_block(&s->other, p);
    }
}

/* The target's own family; where an accumulator has fewer than 64 rows, which is the least that wgmma and tcgen05 compute,
 * mma.sync. */
const struct mma_family *mma_choose(const struct target *t, const struct ir_fn *fn)
{
    struct probe p = { 0 };
    for (int i = 0; i < fn->roles.n; i++) probe_block(&fn->roles.at[i]->body, &p);
    if (p.smallest && p.smallest < 64) return &mma_sync_family;
    if (target_has(t, HAS_TCGEN05)) return &tcgen05_family;
    if (target_has(t, HAS_WGMMA)) return &wgmma_family;
    return &mma_sync_family;
}
