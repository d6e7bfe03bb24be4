/* mma - choice of the tensor-core family; statements matched: which operand on which side, which accumulator. */
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

int mma_axis_at(struct ir_axis *const *axes, int n, const struct ir_axis *x)
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
        if (mma_axis_at(axes, n, o->e->axes[i]) < 0) axes[n++] = o->e->axes[i];
    return n;
}

static void match_operand(const struct ir_stmt *s, struct mma_operand *o, const struct ir_expr *e, const struct ir_expr *other)
{
    struct ir_axis *axes[IR_RANK];
    const struct ir_expr *slot = slot_of(e);
    *o = (struct mma_operand){ .e = slot ? slot : e, .field = slot ? slot->field : NULL, .type = e->type, .size = 1, .buffer = -1 };
    int n = operand_axes(s, o, axes);
    for (int i = 0; i < n; i++) {
        bool of_var = mma_axis_at(s->var->axes, s->var->naxes, axes[i]) >= 0;
        if (of_var && axes[i]->tile == 1 && ir_has_axis(other, axes[i])) continue; /* one value on both sides */
        if (of_var) o->mn[o->nmn++] = axes[i], o->size *= axes[i]->tile;
        else o->k[o->nk++] = axes[i];
    }
}

static const struct {
    enum type type;
    const char *what;
} mma_types[] = { { TY_bf16, "" }, { TY_f16, "" }, { TY_tf32, "" }, { TY_e4m3, "" }, { TY_e5m2, "" }, { TY_i8, "" }, { TY_u8, "" } };

/* Two fp4 a byte are taken from slots alone. */
static bool is_packed(struct gen *g, const struct mma_operand *o)
{
    return o->type == TY_e2m1 && o->field && g->target->has & (HAS_MMA_BLOCK_SCALE | HAS_TCGEN05_SCALE);
}

static bool check_types(struct gen *g, const struct mma_op *op)
{
    enum type a = op->a.type, b = op->b.type;
    bool known_a = is_packed(g, &op->a), known_b = is_packed(g, &op->b), bytes = type_bits(a) <= 8 && type_bits(b) <= 8;
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
            if (mma_axis_at(side[!i]->k, side[!i]->nk, side[i]->k[k]) < 0) {
                gen_error(g, s->span, "axis '%s' is summed over here, but only one operand of mma has it", side[i]->k[k]->name);
                return false;
            }
    for (int i = 0; i < op->a.nmn; i++)
        if (mma_axis_at(op->b.mn, op->b.nmn, op->a.mn[i]) >= 0) {
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
            if (mma_axis_at(acc->m, acc->nm, x) < 0 && mma_axis_at(acc->n, acc->nn, x) < 0) {
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
