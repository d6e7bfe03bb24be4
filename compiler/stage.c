/* stage - scales that products read from tensor memory go there through a pipe of their own.
 *
 *   role math { for k consume ab consume sf mma c += ab.a, ab.b times sf.sa[@k / 128, @i] }
 *     →   role math        { for k consume ab consume c.scales mma c += ab.a, ab.b times c.scales.sa[@i, @'k/32'], c.scales.b[..] }
 *         role math.scales { for k consume sf produce c.scales { fill c.scales.sa = sf.sa[@'k/32' / 4, @i]; fill c.scales.b = 1 } }
 *
 * The new role is the old one's program, less all that is not a scale (site.c); it works ahead of the products. Each row of
 * both operands gets a byte for each 32 coordinates summed over (16, of ue4m3), however wide the granules are.
 * Needs: granules joined (scales). Leaves: pipes with `scales`, each read by one mma. Where scales depend on what only
 * registers know, they stay as they were, for promote. */
#include "compiler/scales.h"
#include "compiler/split.h"

/* Four warps, beside large accumulators one: the registers go to those who read these. */
enum { WARPS = 4, LARGE = 128 * 224 };

struct stage {
    struct pass_state *p;
    struct ir_axis *k, *block; /* of the mma at hand: the axis summed over, its blocks of 32 or 16 */
    enum type type;            /* of its scales */
    int warps;                 /* that lay them out; 0: there are none yet */
};

/* Granules of other widths, of blocks. */
static struct ir_expr *of_blocks(void *ctx, struct ir_expr *e)
{
    struct stage *st = ctx;
    if (e->kind != E_coord || e->axis->of != st->k) return NULL;
    struct ir_expr *at = ir_leaf(st->p->arena, E_coord, st->block);
    return e->axis == st->block ? at : ir_binary(st->p->arena, E_div, at, ir_int(st->p->arena, e->axis->div / st->block->div));
}

static bool var_has(const struct ir_var *v, const struct ir_axis *x)
{
    for (int i = 0; i < v->naxes; i++)
        if (v->axes[i] == x) return true;
    return false;
}

/* The rows of an operand in the order in which the product counts them, then blocks. */
static int row_axes(const struct stage *st, const struct ir_stmt *mma, const struct ir_expr *side, struct ir_axis **axes)
{
    int n = 0;
    for (int i = 0; side->kind == E_slot && i < side->nargs; i++)
        if (side->args[i]->kind == E_coord && var_has(mma->var, side->args[i]->axis)) axes[n++] = side->args[i]->axis;
    for (int i = 0; side->kind != E_slot && i < mma->var->naxes; i++)
        if (ir_has_axis(side, mma->var->axes[i])) axes[n++] = mma->var->axes[i];
    axes[n++] = st->block;
    return n;
}

static const char *name_of(const struct ir_expr *scale, const char *none)
{
    return scale && scale->kind == E_slot ? scale->field->name : scale && scale->kind == E_read ? scale->tensor->name : none;
}

/* Returns the slot that holds the scales of one side. */
static struct ir_expr *hand_over(struct stage *st, const struct ir_stmt *mma, const struct ir_expr *side, struct ir_expr *scale, const char *none, struct ir_stmt *produce)
{
    struct ir_axis *axes[IR_RANK];
    int n = row_axes(st, mma, side, axes);
    const char *name = name_of(scale, none);
    if (produce->pipe->fields.n && produce->pipe->fields.at[0]->name == intern(name)) name = arena_printf(st->p->arena, "%s.2", name);
    struct ir_field *f = site_field(st->p, produce->pipe, name, st->type, axes, n);
    site_fill(st->p, produce, f, scale ? ir_map(st->p->arena, scale, of_blocks, st) : ir_real(st->p->arena, st->type, 1));
    return site_slot(st->p, f);
}

static void stage_mma(struct stage *st, const struct ir_stmt *s, const struct scales *f, ir_block *math, ir_block *scales)
{
    struct pass_state *p = st->p;
    struct ir_pipe *pipe = site_pipe(p, arena_printf(p->arena, "%s.scales", s->var->name), NULL, s->span);
    pipe->scales = true;
    pipe->depth = 2;
    st->type = (f->first ? f->first : f->second)->type;
    st->block = scales_window(p, st->k, scale_block(st->type));
    struct ir_stmt *produce = site_scope(p, scales, S_produce, pipe, s->span), *mma = site_head(p, s, &site_scope(p, math, S_consume, pipe, s->span)->body);
    mma->factors.n = mma->factors.cap = 0;
    vec_push(p->arena, &mma->factors, hand_over(st, s, s->expr, f->first, "a", produce));
    vec_push(p->arena, &mma->factors, hand_over(st, s, s->expr2, f->second, "b", produce));
    if (st->warps != 1) st->warps = split_rows(s, false) * split_rows(s, true) < LARGE ? WARPS : 1;
}

static bool encloses(const struct ir_stmt *s) { return site_loops(s) || s->kind == S_if || s->kind == S_consume; }

static void stage_block(struct stage *st, const ir_block *b, ir_block *math, ir_block *scales)
{
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        struct scales f;
        if (s->kind == S_mma && (st->k = scales_stageable(st->p, s, &f))) {
            stage_mma(st, s, &f, math, scales);
            continue;
        }
        struct ir_stmt *to = site_head(st->p, s, math);
        if (!encloses(s)) {
            *to = *s;
            if (s->kind == S_bind || (s->kind == S_let && !s->var->naxes && !s->var->accum)) site_head(st->p, s, scales);
            continue;
        }
        struct ir_stmt *also = site_head(st->p, s, scales);
        stage_block(st, &s->body, &to->body, &also->body);
        stage_block(st, &s->other, &to->other, &also->other);
    }
}

static void stage_role(struct pass_state *p, int at)
{
    struct ir_role *role = p->fn->roles.at[at];
    struct stage st = { .p = p };
    int pipes = p->fn->pipes.n;
    ir_block math = { 0 }, scales = { 0 };
    stage_block(&st, &role->body, &math, &scales);
    if (!st.warps) return;
    if (site_prune(p, &role->body, &scales, &math)) {
        p->fn->pipes.n = pipes;
        return;
    }
    role->body = math;
    struct ir_role *r = site_role(p, role, "scales", at);
    r->warps_m = st.warps;
    r->warps_n = 1;
    r->body = scales;
}

void pass_stage(struct pass_state *p)
{
    for (int i = p->fn->roles.n - 1; i >= 0; i--) stage_role(p, i);
}
