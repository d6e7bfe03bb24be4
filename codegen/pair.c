/* pair - two CTAs of a cluster that multiply together: one tcgen05.mma of twice the rows, .cta_group::2.
 *
 * Each CTA holds its own rows of the first operand, half of the second, and its own rows of the result in its tensor memory.
 * The first CTA's issuer waits for the slots of both, multiplies, and commits to the barriers of both; the other's has
 * nothing to do. So arrivals on full barriers of operands, and on empty ones of accumulators, go to the first CTA from both.
 * It saves loading and holding half of the second operand. PTX ISA, "tcgen05.mma", "CTA pair".
 *
 * It is done in clusters of two wherever it can be: where both multiply by the same second operand, which copies bring whole. */
#include "codegen/mma_common.h"
#include "codegen/pipe.h"
#include "codegen/ranked.h"

struct opd pair_first(struct gen *g, struct opd address)
{
    struct opd there = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "mapa.shared::cluster.u32 %r, %r, 0", there, lir_in_reg(g->l, address, RC_B32));
    return there;
}

struct pair_scan {
    struct gen *g;
    const struct field_use *uses;
    struct rank_scan ranks;
    const struct gen_role *issuer;
};

/* ---- conditions: NULL, or what is wrong ---- */

static bool same_control(const struct pair_scan *ps, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        bool controls = s->kind == S_for || s->kind == S_while || s->kind == S_if;
        if (controls && (ranked(&ps->ranks, s->expr) || ranked(&ps->ranks, s->expr2) || ranked(&ps->ranks, s->step))) return false;
        if (!same_control(ps, &s->body) || !same_control(ps, &s->other)) return false;
    }
    return true;
}

static const char *why_not_role(struct pair_scan *ps)
{
    struct gen *g = ps->g;
    for (int i = 0; i < g->roles.n; i++) {
        const struct gen_role *r = &g->roles.at[i];
        if (!r->has_mma) continue;
        if (ps->issuer || !r->ir->drain) return ps->issuer ? "several roles multiply" : "the role that multiplies is not split";
        ps->issuer = r;
    }
    return same_control(ps, &g->fn->task) && same_control(ps, &ps->issuer->ir->body) ? NULL : "how often they multiply may differ";
}

/* The axis of the second operand's field to cut in halves: of rows along what is summed over the slowest, which must be the
 * operand's; else the one that they run along. The product reads all of the field's rows or columns. -1: it cannot be cut. */
static int cut_axis(struct pair_scan *ps, const struct mma_operand *b)
{
    enum { HALF_UNIT = 32, HALF_BYTES = 32 };
    const struct ir_field *f = b->field;
    const struct ir_stmt *fill = ps->uses[f->id].fill;
    struct field_plan plan = { .kind = FILL_COMPUTED };
    int slowest = -1;
    if (fill) plan = pipe_plan_fill(ps->g, f, fill->expr);
    if (b->size % HALF_UNIT || plan.kind != FILL_TMA || plan.piece) return -1;
    int inner = plan.walks[fill->expr->tensor->inner];
    for (int i = 0; i < f->naxes; i++) {
        const struct ir_expr *arg = b->e->args[i];
        bool contracted = arg->naxes && mma_axis_at(b->k, b->nk, arg->axis) >= 0;
        if (!contracted && !(arg->naxes && arg->axis == f->axes[i])) return -1;
        if (i == inner && !contracted) return f->axes[i]->tile == b->size && b->size * type_bits(f->type) % (2 * 8 * HALF_BYTES) == 0 ? i : -1;
        if (i != inner && slowest < 0) slowest = contracted ? IR_RANK : i;
    }
    return slowest >= 0 && slowest < IR_RANK && f->axes[slowest]->tile % 2 == 0 ? slowest : -1;
}

static const char *why_not_op(struct pair_scan *ps, const struct mma_op *op)
{
    enum { BLOCK_ROWS = 128, MOST_COLS = 256 };
    struct gen *g = ps->g;
    if (op->a.size % BLOCK_ROWS) return "a product has not whole blocks of 128 rows";
    if (op->b.size > MOST_COLS) return "a product has more than 256 columns";
    if (!op->a.field || !op->b.field) return "an operand is no slot";
    if (pipe_field(g, op->a.field)->generic_read || pipe_field(g, op->b.field)->generic_read) return "an operand is read by others, too";
    for (int i = 0; i < op->a.nk; i++)
        if (!op->a.k[i]->exact && !op->a.k[i]->clean) return "what is summed over may end inside a tile";
    const struct ir_stmt *fill = ps->uses[op->b.field->id].fill;
    if (!fill || ranked(&ps->ranks, fill->expr)) return "the second operand is not the same for both";
    return cut_axis(ps, &op->b) >= 0 ? NULL : "the second operand does not come by TMA in two halves";
}

static const char *why_not_pipe(struct pair_scan *ps, const struct ir_pipe *p)
{
    struct gen *g = ps->g;
    bool mine = pipe_consumed(&ps->issuer->ir->body, p);
    if (p->home) return mine ? "an accumulator is changed in registers between products" : NULL;
    for (int i = 0; i < g->roles.n && mine; i++)
        if (&g->roles.at[i] != ps->issuer && pipe_consumed(&g->roles.at[i].ir->body, p)) return "a slot is read by others than the products";
    return NULL;
}

static const char *why_not(struct pair_scan *ps)
{
    struct mma_state *st = mma_state(ps->g);
    const char *why = why_not_role(ps);
    for (int i = 0; i < st->ops.n && !why; i++) {
        why = why_not_op(ps, st->ops.at[i]);
        for (int k = 0; k < st->ops.n && !why; k++)
            if (st->ops.at[k]->a.field == st->ops.at[i]->b.field) why = "a slot is the first operand of one product and the second of another";
    }
    for (int i = 0; i < ps->g->fn->pipes.n && !why; i++) why = why_not_pipe(ps, ps->g->fn->pipes.at[i]);
    return why;
}

/* ---- the plan ---- */

void pair_plan(struct gen *g, const struct field_use *uses)
{
    struct pair_scan ps = { .g = g, .uses = uses };
    struct mma_state *st = mma_state(g);
    g->pair = false;
    g->no_pair = NULL;
    if (g->fn->cluster != 2 || g->family != &tcgen05_family || g->failed) return;
    ps.ranks = ranked_scan(g);
    g->no_pair = why_not(&ps);
    if (g->no_pair) return;
    g->pair = true;
    for (int i = 0; i < st->ops.n; i++) pipe_field(g, st->ops.at[i]->b.field)->half = cut_axis(&ps, &st->ops.at[i]->b);
    for (int i = 0; i < g->fn->pipes.n; i++) {
        struct ir_pipe *p = g->fn->pipes.at[i];
        pipe_of(g, p)->paired = p->home || pipe_consumed(&ps.issuer->ir->body, p);
    }
}
