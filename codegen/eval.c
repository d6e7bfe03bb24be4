/* eval - what the evaluation of expressions remembers while a role is emitted. */
#include "codegen/eval.h"

#include <string.h>

static void count_binds(struct eval *v, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->kind == S_bind) {
            v->bound[s->axis->id] = v->binds[s->axis->id]++ ? NULL : s;
        }
        count_binds(v, &s->body);
        count_binds(v, &s->other);
    }
}

static int most_id(const struct ir_fn *fn)
{
    int n = 0;
    for (int i = 0; i < fn->axes.n; i++) n = fn->axes.at[i]->id > n ? fn->axes.at[i]->id : n;
    return n;
}

/* A new role starts with nothing cached; shared arrays keep their places through an attempt. */
struct eval *eval_of(struct gen *g)
{
    struct eval *old = g->eval;
    if (old && old->l == g->l && old->role == g->role) return old;
    struct eval *v = new (g->arena, struct eval);
    v->l = g->l;
    v->role = g->role;
    v->role_start = g->l->code.n;
    v->bound = new_n(g->arena, const struct ir_stmt *, most_id(g->fn) + 1);
    v->binds = new_n(g->arena, int, most_id(g->fn) + 1);
    v->bind_regs = new_n(g->arena, struct opd, 2 * (most_id(g->fn) + 1));
    v->window = new_n(g->arena, struct opd, most_id(g->fn) + 1);
    count_binds(v, &g->fn->task);
    if (g->role) count_binds(v, &g->role->ir->body);
    if (old && old->l == g->l) v->shared_at = old->shared_at;
    else {
        v->shared_at = new_n(g->arena, int, g->fn->shared.n + 1);
        for (int i = 0; i < g->fn->shared.n; i++) v->shared_at[i] = -1;
    }
    g->each = NULL;
    return g->eval = v;
}

struct opd eval_window(struct gen *g, const struct ir_axis *x)
{
    if (x->of) return lir_div(g->l, eval_window(g, x->of), opd_imm(x->div), false);
    struct opd whole = eval_of(g)->window[x->id];
    return opd_none(whole) ? gen_origin(g, x) : whole;
}

static bool holds(const ir_block *b, const struct ir_stmt *s)
{
    for (int i = 0; i < b->n; i++)
        if (b->at[i] == s || holds(&b->at[i]->body, s) || holds(&b->at[i]->other, s)) return true;
    return false;
}

/* Whether s runs after w each time w did: it stands after it in the same block. */
static bool follows(const ir_block *b, const struct ir_stmt *w, const struct ir_stmt *s)
{
    for (int i = 0, seen = 0; i < b->n; i++) {
        if (b->at[i] == s) return seen;
        seen |= b->at[i] == w;
        if (follows(&b->at[i]->body, w, s) || follows(&b->at[i]->other, w, s)) return true;
    }
    return false;
}

struct opd eval_from(struct gen *g, const struct ir_axis *x, const struct ir_axis *window)
{
    struct eval *v = eval_of(g);
    const struct ir_stmt *s = x->of || window->of ? NULL : v->bound[x->id], *w = s ? v->bound[window->id] : NULL;
    bool walked = s && w && !(opd_none(v->window[x->id]) && opd_none(v->window[window->id]));
    int64_t by;
    /* both are bound once, the axis after its window: the difference is what its binding says */
    if (w && !walked && (holds(&g->fn->task, w) || follows(&g->role->ir->body, w, s))) {
        const struct ir_expr *e = s->expr;
        if (e->kind == E_origin && e->axis == window) return opd_imm(0);
        if (e->kind == E_add && e->args[0]->kind == E_origin && e->args[0]->axis == window && ir_const_int(e->args[1], &by)) return opd_imm(by);
    }
    return lir_sub(g->l, gen_origin(g, x), eval_window(g, window));
}

int eval_mark(struct gen *g)
{
    return eval_of(g)->lane_parts.n;
}

void eval_release(struct gen *g, int mark)
{
    eval_of(g)->lane_parts.n = mark;
}

struct opd eval_bound(struct gen *g, const struct ir_axis *x)
{
    for (const struct ir_block_at *b = g->each; b; b = b->outer)
        for (int i = 0; i < b->n; i++)
            if (b->axes[i] == x) return b->at[i];
    return (struct opd){ 0 };
}

const struct ir_axis *eval_find(struct ir_axis *const *axes, int n, const struct ir_axis *x)
{
    for (int i = 0; i < n; i++)
        if (axes[i] == x) return x;
    return NULL;
}

int eval_add_axes(struct gen *g, const struct ir_expr *e, struct ir_axis **out, int n)
{
    for (int i = 0; e && i < e->naxes; i++) {
        struct ir_axis *x = e->axes[i];
        if (eval_find(out, n, x) || !opd_none(eval_bound(g, x))) continue;
        int at = n++;
        for (; at > 0 && out[at - 1]->id > x->id; at--) out[at] = out[at - 1];
        out[at] = x;
    }
    return n;
}

int eval_axes(struct gen *g, const struct ir_expr *e, struct ir_axis **out)
{
    return eval_add_axes(g, e, out, 0);
}

/* ---- lane and warp parts */

/* Product of the extents of the digits before digit i in its own number. */
static int digit_weight(const struct layout *lay, int i)
{
    int w = 1;
    for (int k = 0; k < i; k++)
        if (lay->digit[k].place == lay->digit[i].place) w *= lay->digit[k].extent;
    return w;
}

static bool digit_is_last(const struct layout *lay, int i)
{
    return i + 1 == lay->n || lay->digit[i + 1].place != lay->digit[i].place;
}

struct opd eval_digit(struct gen *g, const struct layout *lay, int i)
{
    struct opd v = lay->digit[i].place == LAY_LANE ? g->role->lane : g->role->warp;
    v = lir_div(g->l, v, opd_imm(digit_weight(lay, i)), true);
    return digit_is_last(lay, i) ? v : lir_mod(g->l, v, opd_imm(lay->digit[i].extent), true);
}

/* What the lane part depends on: the lane and warp digits of the axis, each with its weight. */
static int part_key(const struct layout *lay, int a, struct lay_digit *key)
{
    int n = 0;
    for (int i = 0; i < lay->n; i++) {
        if (lay->digit[i].place == LAY_REG || lay->digit[i].axis != a) continue;
        key[n] = lay->digit[i];
        key[n].axis = (int8_t)digit_is_last(lay, i);
        key[n].extent += digit_weight(lay, i) * 65536;
        n++;
    }
    return n;
}

static struct opd *cached(struct eval *v, const struct lay_digit *key, int n)
{
    for (int i = v->lane_parts_from; i < v->lane_parts.n; i++) {
        struct lane_part *p = &v->lane_parts.at[i];
        bool same = p->n == n;
        for (int k = 0; k < n && same; k++)
            same = p->digit[k].place == key[k].place && p->digit[k].axis == key[k].axis && p->digit[k].extent == key[k].extent &&
                   p->digit[k].stride == key[k].stride;
        if (same) return &p->value;
    }
    return NULL;
}

struct opd eval_lane_part(struct gen *g, const struct layout *lay, int a)
{
    struct eval *v = eval_of(g);
    struct lane_part p = { .value = opd_imm(0) };
    p.n = part_key(lay, a, p.digit);
    if (!p.n) return p.value;
    struct opd *known = cached(v, p.digit, p.n);
    if (known) return *known;
    for (int i = 0; i < lay->n; i++)
        if (lay->digit[i].place != LAY_REG && lay->digit[i].axis == a)
            p.value = lir_mad(g->l, eval_digit(g, lay, i), opd_imm(lay->digit[i].stride), p.value);
    vec_push(g->arena, &v->lane_parts, p);
    return p.value;
}

int64_t eval_lane_divisor(const struct layout *lay, int a)
{
    int64_t d = 0;
    for (int i = 0; i < lay->n; i++)
        if (lay->digit[i].place != LAY_REG && lay->digit[i].axis == a) d = gcd(d, lay->digit[i].stride);
    return d;
}

/* ---- proofs about limits */

static bool constant(const struct ir_fn *fn, const struct ir_expr *e, int64_t *v)
{
    if (ir_const_int(e, v)) return true;
    if (e->kind != E_dim || fn->dims.at[e->num].value < 0) return false;
    *v = fn->dims.at[e->num].value;
    return true;
}

static bool same(const struct ir_expr *a, const struct ir_expr *b)
{
    if (a == b) return true;
    if (a->kind != b->kind || a->num != b->num || a->axis != b->axis || a->var != b->var || a->tensor != b->tensor || a->nargs != b->nargs)
        return false;
    if (a->kind == E_get || a->kind == E_read || a->kind == E_element || a->kind == E_call) return false; /* may change in between */
    for (int i = 0; i < a->nargs; i++)
        if (!same(a->args[i], b->args[i])) return false;
    return true;
}

static bool at_most(struct gen *g, const struct ir_expr *a, const struct ir_expr *b, int depth)
{
    int64_t x, y;
    if (same(a, b)) return true;
    if (constant(g->fn, a, &x) && constant(g->fn, b, &y)) return x <= y;
    if (depth > 8) return false;
    if (a->kind == E_min) return at_most(g, a->args[0], b, depth + 1) || at_most(g, a->args[1], b, depth + 1);
    if (a->kind == E_limit) {
        const struct ir_stmt *s = eval_of(g)->bound[a->axis->id];
        return s && at_most(g, s->expr2, b, depth + 1);
    }
    return false;
}

bool eval_limit_within(struct gen *g, const struct ir_axis *x, const struct ir_expr *e)
{
    const struct ir_stmt *s = eval_of(g)->bound[x->id];
    int64_t n;
    if (s) return at_most(g, s->expr2, e, 0);
    return !eval_of(g)->binds[x->id] && !x->of && x->tile && constant(g->fn, e, &n) && x->tile <= n;
}

bool eval_limit_is(struct gen *g, const struct ir_axis *x, const struct ir_expr *e)
{
    const struct ir_stmt *s = eval_of(g)->bound[x->id];
    return s && same(s->expr2, e);
}

int64_t eval_limit_divisor(struct gen *g, const struct ir_axis *x)
{
    const struct ir_stmt *s = eval_of(g)->bound[x->id];
    if (s) return ir_divisor(g->fn, s->expr2);
    return eval_of(g)->binds[x->id] || x->of ? 1 : x->tile;
}
