/* scales - factors that the tensor core applies itself stay with the mma, all granules of a tile at once.
 *
 *   for k.1 = k by 32: mma c += a[@i, @k.1], b[@j, @k.1] times sa[origin(k.1)/32, @i]
 *     →   mma c += a[@i, @k], b[@j, @k] times sa[@'k/32', @i]        with 'k/32' a window axis of k
 *
 * Where the target has block-scaled products, each factor is a ue8m0 number of one operand alone, and granules are whole
 * blocks of 32; of fp4 operands in tensor memory's products, also a ue4m3 number and 16. Where these read scales from tensor memory, stage brings them there. What does not fit is left as it was, for
 * promote. */
#include "compiler/scales.h"
#include "compiler/split.h"

#include <string.h>

static bool var_has(const struct ir_var *v, const struct ir_axis *x)
{
    for (int i = 0; i < v->naxes; i++)
        if (v->axes[i] == x) return true;
    return false;
}

static bool narrow(enum type t) { return t == TY_e4m3 || t == TY_e5m2 || t == TY_e2m1; }

/* The scale that e is, widened or not; tiles are read where they lie. NULL: e is something else. */
static struct ir_expr *scale_of(struct ir_expr *e)
{
    if (e->kind == E_cast && e->type == TY_f32) e = e->args[0];
    return (e->type == TY_ue8m0 || e->type == TY_ue4m3) && (!e->naxes || e->kind == E_slot || e->kind == E_read) ? e : NULL;
}

/* Of the factor's axes: bit 0, the result's first side is among them, bit 1 its second. -1: an axis that no scale can have. */
static int sides_of(const struct ir_stmt *s, const struct ir_expr *f)
{
    int sides = 0;
    for (int i = 0; i < f->naxes; i++) {
        const struct ir_axis *x = f->axes[i];
        bool first = ir_has_axis(s->expr, x), second = ir_has_axis(s->expr2, x);
        if (var_has(s->var, x)) {
            if (x->tile > 1 && first == second) return -1;
            if (x->tile > 1) sides |= first ? 1 : 2;
        } else if (!x->of || x->div % scale_block(f->type) || var_has(s->var, x->of) || !ir_has_axis(s->expr, x->of)) return -1;
    }
    return sides;
}

/* First those that belong to a side, then the numbers that either side may take. */
static bool deal(const struct ir_stmt *s, struct scales *out, bool any)
{
    for (int i = 0; i < s->factors.n; i++) {
        struct ir_expr *f = scale_of(s->factors.at[i]);
        int sides = f ? sides_of(s, f) : -1;
        if (sides < 0 || sides == 3) return false;
        if (any != !sides) continue;
        struct ir_expr **to = sides == 1 || (!sides && !out->first) ? &out->first : &out->second;
        if (*to) return false;
        *to = f;
    }
    return true;
}

/* Both operands and the factors are of the right kind; which factor is whose. */
static bool scalable(const struct ir_stmt *s, struct scales *out)
{
    *out = (struct scales){ 0 };
    if (!s->factors.n || s->var->type != TY_f32 || !narrow(s->expr->type) || !narrow(s->expr2->type)) return false;
    return deal(s, out, false) && deal(s, out, true) && !(out->first && out->second && out->first->type != out->second->type);
}

static bool fine(const struct scales *f) { return (f->first ? f->first : f->second)->type == TY_ue4m3; }

static bool staged(const struct ir_stmt *s)
{
    for (int i = 0; i < s->factors.n; i++)
        if (s->factors.at[i]->kind != E_slot || !s->factors.at[i]->field->pipe->scales) return false;
    return s->factors.n > 0;
}

bool scales_applied(const struct target *t, const struct ir_stmt *s, struct scales *out)
{
    struct scales mine;
    if (!out) out = &mine;
    if (target_has(t, HAS_TCGEN05_SCALE)) return staged(s) && scalable(s, out);
    return target_has(t, HAS_MMA_BLOCK_SCALE) && scalable(s, out) && !fine(out);
}

/* The one axis that s sums over, if it is whole blocks of `unit`, and what lies past its end counts as zero; else NULL. */
static struct ir_axis *contracted(const struct ir_stmt *s, const struct ir_expr *side, int unit)
{
    struct ir_axis *k = NULL;
    for (int i = 0; i < side->naxes; i++) {
        struct ir_axis *x = side->axes[i];
        if (var_has(s->var, x)) continue;
        if (k || x->tile % unit || !(x->exact || x->clean)) return NULL;
        k = x;
    }
    return k;
}

/* A product reads the scales of whole 128 rows, and up to 256 columns at a time: PTX ISA, "tcgen05.mma", shapes of block-scaled kinds. */
struct ir_axis *scales_stageable(const struct pass_state *p, const struct ir_stmt *s, struct scales *out)
{
    enum { MOST_ROWS_OF_HALF = 64, MOST_COLS = 256 };
    int rows = split_rows(s, false), cols = split_rows(s, true);
    if (!target_has(p->target, HAS_TCGEN05_SCALE) || !split_wanted(p) || rows <= MOST_ROWS_OF_HALF || (cols > MOST_COLS && cols % MOST_COLS)) return NULL;
    if (staged(s) || !scalable(s, out)) return NULL;
    if (!fine(out)) return contracted(s, s->expr, SCALE_BLOCK);
    return s->expr->type == TY_e2m1 && s->expr2->type == TY_e2m1 ? contracted(s, s->expr, 2 * SCALE_BLOCK) : NULL;
}

bool scales_packed(const struct target *t, const struct ir_stmt *s)
{
    const struct ir_expr *side[] = { s->expr, s->expr2 };
    bool tmem = target_has(t, HAS_TCGEN05_SCALE);
    if (!narrow(s->expr->type) || !narrow(s->expr2->type)) return false;
    if (tmem ? !staged(s) || side[0]->type != side[1]->type : !target_has(t, HAS_MMA_BLOCK_SCALE)) return false;
    for (int i = 0; i < COUNT(side); i++)
        if ((side[i]->type == TY_e2m1 && side[i]->kind != E_slot) || !contracted(s, side[i], tmem ? 2 * SCALE_BLOCK : SCALE_BLOCK)) return false;
    return true;
}

/* ---- granules joined ---- */

struct ir_axis *scales_window(struct pass_state *p, struct ir_axis *of, int div)
{
    struct ir_fn *fn = p->fn;
    for (int i = 0; i < fn->axes.n; i++)
        if (fn->axes.at[i]->of == of && fn->axes.at[i]->div == div) return fn->axes.at[i];
    struct ir_axis *w = new(p->arena, struct ir_axis);
    *w = (struct ir_axis){ .name = intern(arena_printf(p->arena, "%s/%d", of->name, div)), .id = fn->axes.n, .tile = of->tile / div, .of = of,
                           .div = div, .exact = of->exact, .clean = of->clean, .align = of->align / div, .span = of->span };
    vec_push(p->arena, &fn->axes, w);
    return w;
}

struct join {
    struct pass_state *p;
    struct ir_axis *whole, *part; /* k, k.1 */
    bool failed;
};

/* origin(k.1) / div: what it is of k. A granule holds whole tiles of k, or a tile whole granules. */
static struct ir_expr *granule(struct join *j, struct ir_expr *e)
{
    int64_t div;
    struct arena *a = j->p->arena;
    if (e->kind != E_div || e->args[0]->kind != E_origin || e->args[0]->axis != j->part || !ir_const_int(e->args[1], &div)) return NULL;
    int tile = j->whole->tile, align = j->whole->align;
    if (div < 1 || div % FINE_BLOCK) return NULL;
    if (div >= tile && div % tile == 0 && align % tile == 0)
        return ir_binary(a, E_div, ir_leaf(a, E_origin, j->whole), ir_int(a, div));
    if (tile % div || align % div) return NULL;
    return ir_leaf(a, E_coord, scales_window(j->p, j->whole, (int)div));
}

/* What is said of k.1, said of k. */
static struct ir_expr *of_whole(void *ctx, struct ir_expr *e)
{
    struct join *j = ctx;
    struct ir_expr *g = granule(j, e);
    if (g || e->axis != j->part) return g;
    j->failed |= e->kind != E_coord;
    return ir_leaf(j->p->arena, E_coord, j->whole);
}

static struct ir_expr *joined(struct join *j, struct ir_expr *e) { return ir_map(j->p->arena, e, of_whole, j); }

/* Every binding of x begins at 0: it has one tile. */
static bool begins_at_0(const ir_block *b, const struct ir_axis *x)
{
    int64_t from;
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->kind == S_bind && s->axis == x && !(ir_const_int(s->expr, &from) && !from)) return false;
        if (!begins_at_0(&s->body, x) || !begins_at_0(&s->other, x)) return false;
    }
    return true;
}

static bool has_one_tile(const struct ir_fn *fn, const struct ir_axis *x)
{
    bool one = begins_at_0(&fn->task, x);
    for (int i = 0; i < fn->roles.n; i++) one &= begins_at_0(&fn->roles.at[i]->body, x);
    return one;
}

/* Of the field that e reads, the axis that has the part; the loop goes over its only tile. */
static struct ir_axis *only_tile(const struct join *j, const struct ir_expr *e, int64_t end)
{
    for (int i = 0; e->kind == E_slot && i < e->nargs; i++) {
        struct ir_axis *x = e->field->axes[i];
        if (e->args[i]->kind == E_coord && e->args[i]->axis == j->part && x->tile == end && has_one_tile(j->p->fn, x)) return x;
    }
    return NULL;
}

static bool is_origin(const struct ir_expr *e, const struct ir_axis *x) { return e->kind == E_origin && e->axis == x; }

/* The loop takes one whole tile of an axis, part by part, and does nothing but one mma. */
static bool is_split(const struct ir_stmt *s, struct join *j)
{
    int64_t step, from, end;
    if (s->kind != S_for || !s->axis || s->body.n != 2 || !s->step || !ir_const_int(s->step, &step)) return false;
    const struct ir_stmt *bind = s->body.at[0], *mma = s->body.at[1];
    if (mma->kind != S_mma || !mma->flag || !mma->factors.n || bind->kind != S_bind || bind->axis != s->axis || step != s->axis->tile) return false;
    if (bind->expr->kind != E_get || bind->expr->var != s->var) return false;
    j->part = s->axis;
    if (ir_const_int(s->expr, &from)) j->whole = !from && ir_const_int(s->expr2, &end) ? only_tile(j, mma->expr, end) : NULL;
    else if (s->expr->kind == E_origin && s->expr2->kind == E_add && is_origin(s->expr2->args[0], s->expr->axis)) {
        j->whole = s->expr->axis;
        if (!ir_const_int(s->expr2->args[1], &end) || end != j->whole->tile) return false;
    }
    return j->whole != NULL;
}

static bool applicable(const struct pass_state *p, const struct ir_stmt *mma)
{
    struct scales f;
    return scales_applied(p->target, mma, NULL) || scales_stageable(p, mma, &f);
}

/* The mma over the whole tile; NULL: the loop stays. */
static struct ir_stmt *join_loop(struct pass_state *p, const struct ir_stmt *loop)
{
    struct join j = { .p = p };
    struct scales f;
    if (!(p->target->has & (HAS_MMA_BLOCK_SCALE | HAS_TCGEN05_SCALE)) || !is_split(loop, &j)) return NULL;
    const struct ir_stmt *mma = loop->body.at[1];
    if (!scalable(mma, &f)) return NULL;
    struct ir_stmt *s = new(p->arena, struct ir_stmt);
    *s = *mma;
    s->expr = joined(&j, mma->expr);
    s->expr2 = joined(&j, mma->expr2);
    memset(&s->factors, 0, sizeof s->factors);
    for (int i = 0; i < mma->factors.n; i++) vec_push(p->arena, &s->factors, joined(&j, mma->factors.at[i]));
    return !j.failed && applicable(p, s) ? s : NULL;
}

static void join_block(struct pass_state *p, ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = join_loop(p, b->at[i]);
        if (s) b->at[i] = s;
        join_block(p, &b->at[i]->body);
        join_block(p, &b->at[i]->other);
    }
}

void pass_scales(struct pass_state *p)
{
    for (int i = 0; i < p->fn->roles.n; i++) join_block(p, &p->fn->roles.at[i]->body);
}
