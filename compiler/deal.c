/* deal - a role's warps form teams that take turns over the trips of a loop.
 *
 *   role math (8 warps) { consume q { for t { bind t; consume ks { ... } } } }          deal(t) = 2
 *     →  role math.0 (4 warps) { consume q { for t { if turn 0 { bind t; consume ks { ... } } else { consume ks { } } } } }
 *        role math.1 (4 warps)   the same with turn 1
 *
 * While one team waits for its products or for memory, the other is at work on the next slot: nothing keeps them in step. A
 * team passes the other's slots by, as soon as they are full. Done where trips do not need each other: what a trip sets is not
 * read by the next, nor after the loop, and nothing is written outside of the loop.
 * Needs: products as they will be (promoted). Leaves: roles with variables of their own. */
#include "compiler/split.h"

struct teams {
    struct pass_state *p;
    struct ir_role *role;
    struct ir_stmt *loop;
    VEC(struct ir_var *) from, to;   /* variables of the first team, and of the one being made */
};

/* ---- whether trips are on their own ---- */

static struct ir_stmt *find_loop(const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        struct ir_stmt *in = s->kind == S_for && s->deal > 1 ? s : find_loop(&s->body);
        if (!in) in = find_loop(&s->other);
        if (in) return in;
    }
    return NULL;
}

static bool writes(const struct ir_stmt *s)
{
    switch (s->kind) {
    case S_let: case S_bind: case S_consume: case S_for: case S_while: case S_if: return false;
    default: return true;
    }
}

/* Statements outside of the loop that have effects: every team would. */
static bool writes_outside(const ir_block *b, const struct ir_stmt *loop)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s == loop) continue;
        if (writes(s) || writes_outside(&s->body, loop) || writes_outside(&s->other, loop)) return true;
    }
    return false;
}

/* In the order of the block, v is set by a statement of it before anything in it reads v. */
static bool set_first(const ir_block *b, const struct ir_var *v)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->var == v && (s->kind == S_let || (s->kind == S_mma && !s->flag)) && !ir_reads(s, v)) return true;
        if (s->kind == S_consume && set_first(&s->body, v)) return true;
        if (ir_reads(s, v) || s->var == v) return false;
    }
    return true;
}

static bool trips_apart(const ir_block *in, const ir_block *body)
{
    for (int i = 0; i < in->n; i++) {
        const struct ir_stmt *s = in->at[i];
        if (s->var && s->kind != S_for && !set_first(body, s->var)) return false;
        if (!trips_apart(&s->body, body) || !trips_apart(&s->other, body)) return false;
    }
    return true;
}

static const char *cannot(const struct teams *t)
{
    const struct ir_role *r = t->role;
    int warps = r->warps_m * (r->warps_n ? r->warps_n : 1), least = target_has(t->p->target, HAS_WGMMA) ? 4 : 1;
    if (!warps) return "the role's width is not said";
    if (warps % (t->loop->deal * least)) return least == 4 ? "the role's warpgroups cannot be shared out" : "the role's warps cannot be shared out";
    if (writes_outside(&r->body, t->loop)) return "the role writes outside of the loop";
    if (!trips_apart(&t->loop->body, &t->loop->body)) return "a trip reads what the one before has set";
    return NULL;
}

/* ---- a team ---- */

static struct ir_var *own(struct teams *t, struct ir_var *v, int team)
{
    if (!team) return v;
    for (int i = 0; i < t->from.n; i++)
        if (t->from.at[i] == v) return t->to.at[i];
    return NULL;
}

static void own_all(struct teams *t, const ir_block *b, int team)
{
    struct arena *a = t->p->arena;
    for (int i = 0; i < b->n; i++) {
        struct ir_var *v = b->at[i]->var;
        if (v && !own(t, v, 1)) {
            vec_push(a, &t->from, v);
            vec_push(a, &t->to, ir_var_like(a, t->p->fn, arena_printf(a, "%s.%d", v->name, team), v));
        }
        own_all(t, &b->at[i]->body, team);
        own_all(t, &b->at[i]->other, team);
    }
}

static struct ir_expr *own_get(void *ctx, struct ir_expr *e)
{
    struct teams *t = ctx;
    struct ir_var *v = e->kind == E_get ? own(t, e->var, 1) : NULL;
    return v ? ir_get(t->p->arena, v) : NULL;
}

static struct ir_expr *theirs(void *ctx, struct ir_expr *e)
{
    struct teams *t = ctx;
    return ir_map(t->p->arena, e, own_get, t);
}

static struct ir_expr *as_it_is(void *ctx, struct ir_expr *e)
{
    (void)ctx;
    return e;
}

static struct ir_stmt *copy_stmt(struct teams *t, const struct ir_stmt *s, int team);

static ir_block copy_block(struct teams *t, const ir_block *b, int team)
{
    ir_block out = { 0 };
    for (int i = 0; i < b->n; i++) vec_push(t->p->arena, &out, copy_stmt(t, b->at[i], team));
    return out;
}

/* The trip's number modulo the teams is this one's. */
static struct ir_expr *turn(struct teams *t, const struct ir_stmt *loop, int team)
{
    struct arena *a = t->p->arena;
    struct ir_expr *trip = ir_binary(a, E_div, ir_binary(a, E_sub, ir_get(a, loop->var), loop->expr), loop->step ? loop->step : ir_int(a, 1));
    return ir_binary(a, E_eq, ir_binary(a, E_mod, trip, ir_int(a, loop->deal)), ir_int(a, team));
}

static void pass_by(struct teams *t, const ir_block *from, ir_block *out)
{
    for (int i = 0; i < from->n; i++)
        if (from->at[i]->kind == S_consume) site_scope(t->p, out, S_consume, from->at[i]->pipe, from->at[i]->span);
}

static void take_turns(struct teams *t, struct ir_stmt *loop, int team)
{
    struct arena *a = t->p->arena;
    ir_block body = { 0 }, mine = { 0 };
    int first = 0; /* bindings and scalars go before */
    while (first < loop->body.n && loop->body.at[first]->kind != S_consume) vec_push(a, &body, loop->body.at[first++]);
    for (int i = first; i < loop->body.n; i++) vec_push(a, &mine, loop->body.at[i]);
    struct ir_stmt *s = ir_stmt(a, &body, S_if, loop->span);
    s->expr = turn(t, loop, team);
    s->body = mine;
    pass_by(t, &mine, &s->other);
    loop->body = body;
    loop->deal = 0;
}

static struct ir_stmt *copy_stmt(struct teams *t, const struct ir_stmt *s, int team)
{
    struct ir_stmt *c = ir_map_stmt(t->p->arena, s, team ? theirs : as_it_is, t);
    if (s->var) c->var = own(t, s->var, team);
    c->body = copy_block(t, &s->body, team);
    c->other = copy_block(t, &s->other, team);
    if (s == t->loop) take_turns(t, c, team);
    return c;
}

/* ---- the pass ---- */

static void deal_role(struct pass_state *p, int number)
{
    struct ir_role *r = p->fn->roles.at[number];
    struct teams t = { .p = p, .role = r, .loop = find_loop(&r->body) };
    if (!t.loop || (r->undealt = cannot(&t))) return;
    int n = t.loop->deal, warps = r->warps_m * (r->warps_n ? r->warps_n : 1);
    ir_block whole = r->body;
    for (int team = n - 1; team >= 0; team--) {
        struct ir_role *one = team ? site_role(p, r, arena_printf(p->arena, "%d", team), number) : r;
        t.from.n = t.to.n = 0;
        if (team) own_all(&t, &whole, team);
        one->warps_m = warps / n;
        one->warps_n = 1;
        one->body = copy_block(&t, &whole, team);
    }
    r->name = intern(arena_printf(p->arena, "%s.0", r->name));
}

void pass_deal(struct pass_state *p)
{
    if (target_has(p->target, HAS_TCGEN05)) return; /* there sites take turns by themselves */
    for (int i = p->fn->roles.n - 1; i >= 0; i--) deal_role(p, i);
}
