/* weave - rows of a second operand in another order, so that what is summed over lies in one thread.
 *
 *   accum x[t, r, h];  mma x[t, r, h] = kv[t, c] * q[r, h, c];  y[t, r] = sum(h: max(x[t, r, h], 0) * w[r, h])
 *
 * Of every eight columns of a fragment a thread has two that lie side by side, and four threads have a row. With columns in the
 * order r, h all four have parts of each sum over h, and exchange them. With h/2, r, h%2 and four r, or a multiple, all columns of a
 * thread are of the same r: nothing is exchanged, and each ends with results of its own. Columns are rows of the second operand in
 * its slot, and TMA puts them there in any order: the dimension that h walks counts as two, of h/2 and of h%2.
 *
 * Done where the accumulator is only summed over h, and the field's one use is to be multiplied so, whole. */
#include "codegen/mma_common.h"
#include "codegen/pipe.h"

#include <string.h>

enum { PAIR = 2, LOW = 1, HIGH = 3 }; /* dimensions of the map: which of two; which pair, behind the other rows */

struct gets {
    const struct ir_var *var;
    const struct ir_axis *h;
    int all, summed;
};

static void count_all(void *ctx, struct ir_expr *e)
{
    struct gets *n = ctx;
    n->all += e->kind == E_get && e->var == n->var;
}

static void count_summed(void *ctx, struct ir_expr *e)
{
    struct gets *n = ctx, inside = *n;
    if (e->kind != E_reduce || ir_has_axis(e, n->h) || !ir_has_axis(e->args[0], n->h)) return;
    inside.all = 0;
    ir_walk_expr(e->args[0], count_all, &inside);
    n->summed += inside.all;
}

static bool only_summed(const struct gen *g, const struct ir_var *v, const struct ir_axis *h)
{
    struct gets n = { v, h, 0, 0 };
    ir_walk_fn(g->fn, count_all, &n);
    ir_walk_fn(g->fn, count_summed, &n);
    return n.all && n.all == n.summed;
}

/* Boxes bring the field, and its axes are the product's columns, whole, then what is summed over. */
static bool comes_whole(struct gen *g, const struct field_use *u, const struct mma_op *op)
{
    const struct mma_operand *b = &op->b;
    const struct ir_field *f = b->field;
    if (!u->fill || pipe_field(g, f)->generic_read || f->naxes != HIGH || b->nmn != PAIR || op->acc->nn != PAIR) return false;
    struct field_plan plan = pipe_plan_fill(g, f, u->fill->expr);
    const struct ir_expr *read = u->fill->expr;
    if (plan.kind != FILL_TMA || plan.piece || plan.sloped || read->tensor->rank >= 5 || plan.walks[read->tensor->inner] != PAIR) return false;
    for (int i = 0; i < PAIR; i++) {
        const struct ir_expr *arg = b->e->args[i];
        if (!arg->naxes || arg->axis != op->acc->n[i] || arg->axis->tile != f->axes[i]->tile) return false;
    }
    return f->axes[1]->exact;
}

/* The layout that the operation's accumulator gets; NULL: it stays as it is. */
static const struct layout *woven(struct gen *g, const struct field_use *u, const struct mma_op *op)
{
    const struct mma_acc *acc = op->acc;
    if (acc->wn != 1 || acc->cols % 8 || !comes_whole(g, u, op)) return NULL;
    int r = acc->n[0]->tile, h = acc->n[1]->tile;
    if (r < 2 || r & (r - 1) || h % PAIR || h < 2 * PAIR || !only_summed(g, acc->var, acc->n[1])) return NULL;
    return layout_wgmma(g->arena, acc->m, acc->nm, acc->n, acc->nn, true, acc->wm, acc->m_atoms);
}

/* All that multiplies by the field, or adds to an accumulator that it makes. */
static bool agreed(struct gen *g, const struct field_use *u, const struct ir_field *f)
{
    struct mma_state *st = mma_state(g);
    bool any = false;
    for (int i = 0; i < st->ops.n; i++) {
        const struct mma_op *op = st->ops.at[i];
        if (op->a.field == f) return false;
        if (op->b.field != f) continue;
        if (!woven(g, u, op)) return false;
        for (int k = 0; k < st->ops.n; k++)
            if (st->ops.at[k]->acc == op->acc && st->ops.at[k]->b.field != f) return false;
        any = true;
    }
    return any;
}

void weave_plan(struct gen *g, const struct field_use *uses)
{
    struct mma_state *st = mma_state(g);
    g->woven = false;
    if (g->failed || g->family != &wgmma_family || g->fn->cluster > 1) return;
    for (int p = 0; p < g->fn->pipes.n; p++)
        for (int k = 0; k < g->fn->pipes.at[p]->fields.n; k++) {
            struct ir_field *f = g->fn->pipes.at[p]->fields.at[k];
            if (!agreed(g, &uses[f->id], f)) continue;
            g->woven = pipe_field(g, f)->woven = true;
            for (int i = 0; i < st->ops.n; i++)
                if (st->ops.at[i]->b.field == f) st->ops.at[i]->acc->layout = woven(g, &uses[f->id], st->ops.at[i]);
        }
}

/* ---- the map */

void weave_map(struct gen *g, struct image_map *m, int *order)
{
    struct hexpr size = m->size[LOW], stride = m->stride[LOW];
    for (int i = m->rank++; i > HIGH; i--) {
        order[i] = order[i - 1];
        m->size[i] = m->size[i - 1];
        m->stride[i] = m->stride[i - 1];
        m->box[i] = m->box[i - 1];
    }
    order[HIGH] = order[LOW];
    m->size[HIGH] = hexpr_then(g->arena, size, HEX_DIV, PAIR);
    m->stride[HIGH] = hexpr_then(g->arena, stride, HEX_MUL, PAIR);
    m->box[HIGH] = m->box[LOW] / PAIR;
    m->size[LOW] = hexpr_const(g->arena, PAIR);
    m->box[LOW] = PAIR;
}

struct opd weave_start(struct gen *g, int i, struct opd at)
{
    if (i == LOW) return lir_in_reg(g->l, opd_imm(0), RC_B32);
    return i == HIGH ? lir_in_reg(g->l, lir_div(g->l, at, opd_imm(PAIR), true), RC_B32) : at;
}
