/* chain - several accumulators in flight: products of the next sub-tiles are issued before the last ones are read.
 *
 *   for r { bind r; mma x = a * b[r]; y = f(x); L[r] = y }          three trips, slots(x) = 2
 *     →  bind r0; mma x = ...   bind r1; mma x' = ...   bind r0; y = f(x);  L = y
 *        bind r2; mma x = ...   bind r1; y = f(x'); L = y    bind r2; y = f(x); L = y
 *
 * The tensor core works on one accumulator while the other's drain. Done where the author asks for more than one slot of
 * an accumulator that the body overwrites, the trips are few and known, and the body does nothing but bind, multiply, set
 * variables of its own and store. Trips past the loop's limit are run, too: what they compute does not exist.
 * Needs: promoted products (a chain holds their partial sums). Leaves: no such loop; axes bound anew for each part. */
#include "compiler/passes.h"

enum { MOST_TRIPS = 8 };

struct chain {
    struct pass_state *p;
    const struct ir_stmt *loop;
    struct ir_var *from[MOST_TRIPS], *to[MOST_TRIPS]; /* accumulators and their second copies */
    int n;
};

/* x + c → c; x → 0; for a known x. -1: something else. */
static int64_t above(const struct ir_expr *e, const struct ir_expr *x)
{
    int64_t c;
    if (ir_same(e, x)) return 0;
    if (e->kind == E_add && ir_same(e->args[0], x) && ir_const_int(e->args[1], &c)) return c;
    if (e->kind == E_add && ir_same(e->args[1], x) && ir_const_int(e->args[0], &c)) return c;
    return -1;
}

/* How many trips the loop makes at most; 0: not known. Its end may be the least of several. */
static int most_trips(const struct ir_stmt *s)
{
    int64_t step, a, b;
    if (!s->axis || !s->step || !ir_const_int(s->step, &step) || step <= 0) return 0;
    if (ir_const_int(s->expr, &a) && ir_const_int(s->expr2, &b)) return b > a ? (int)((b - a + step - 1) / step) : 0;
    int64_t span = above(s->expr2, s->expr);
    for (int i = 0; span < 0 && s->expr2->kind == E_min && i < 2; i++) span = above(s->expr2->args[i], s->expr);
    return span > 0 ? (int)((span + step - 1) / step) : 0;
}

static bool reads_var(const struct ir_expr *e, const struct ir_var *v)
{
    if (!e) return false;
    if (e->kind == E_get && e->var == v) return true;
    for (int i = 0; i < e->nargs; i++)
        if (reads_var(e->args[i], v)) return true;
    return false;
}

static bool stmt_reads(const struct ir_stmt *s, const struct ir_var *v)
{
    struct ir_expr *const own[] = { s->expr, s->expr2, s->expr3, s->mask, s->step };
    for (int i = 0; i < COUNT(own); i++)
        if (reads_var(own[i], v)) return true;
    for (int i = 0; i < s->index.n; i++)
        if (reads_var(s->index.at[i], v)) return true;
    return false;
}

/* Every variable set in the body is set before it is read there. */
static bool own_variables(const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_var *v = b->at[i]->var;
        bool set = false;
        for (int k = 0; v && k <= i && !set; k++) {
            if (stmt_reads(b->at[k], v)) return false;
            set = b->at[k]->var == v;
        }
    }
    return true;
}

static bool plain_body(const struct ir_stmt *loop, int *products)
{
    for (int i = 0; i < loop->body.n; i++) {
        const struct ir_stmt *s = loop->body.at[i];
        bool ok = s->kind == S_bind || s->kind == S_let || (s->kind == S_store && s->mode == MODE_set);
        if (s->kind == S_mma) {
            ok = !s->flag && !s->factors.n && s->var->slots > 1;
            ++*products;
        }
        if (!ok) return false;
    }
    return own_variables(&loop->body);
}

static struct ir_var *second(struct chain *c, struct ir_var *v)
{
    for (int i = 0; i < c->n; i++)
        if (c->from[i] == v) return c->to[i];
    struct ir_var *w = ir_new_var(c->p->arena, c->p->fn, arena_printf(c->p->arena, "%s.next", v->name), v->type);
    for (int i = 0; i < v->naxes; i++) w->axes[w->naxes++] = v->axes[i];
    w->accum = v->accum;
    w->slots = v->slots;
    w->flip = v->flip;
    w->span = v->span;
    c->from[c->n] = v;
    c->to[c->n++] = w;
    return w;
}

/* Copies e for trip u: the loop's counter becomes its value, accumulators of odd trips their second copies. */
static struct ir_expr *copy_expr(struct chain *c, struct ir_expr *e, int u)
{
    if (!e) return NULL;
    if (e->kind == E_get && e->var == c->loop->var) {
        int64_t step = 0;
        ir_const_int(c->loop->step, &step);
        return ir_binary(c->p->arena, E_add, c->loop->expr, ir_int(c->p->arena, step * u));
    }
    struct ir_expr *x = new(c->p->arena, struct ir_expr);
    *x = *e;
    if (e->kind == E_get && e->var->accum && u % 2) x->var = second(c, e->var);
    if (e->nargs) x->args = new_n(c->p->arena, struct ir_expr *, e->nargs);
    for (int i = 0; i < e->nargs; i++) x->args[i] = copy_expr(c, e->args[i], u);
    return x;
}

static void copy_stmt(struct chain *c, const struct ir_stmt *s, int u, ir_block *out)
{
    struct ir_stmt *t = new(c->p->arena, struct ir_stmt);
    *t = *s;
    t->expr = copy_expr(c, s->expr, u);
    t->expr2 = copy_expr(c, s->expr2, u);
    t->expr3 = copy_expr(c, s->expr3, u);
    t->mask = copy_expr(c, s->mask, u);
    t->index.n = t->index.cap = 0;
    t->index.at = NULL;
    for (int i = 0; i < s->index.n; i++) vec_push(c->p->arena, &t->index, copy_expr(c, s->index.at[i], u));
    if (s->var && s->var->accum && u % 2) t->var = second(c, s->var);
    vec_push(c->p->arena, out, t);
}

/* The binds and products of trip u, or its binds and everything else. */
static void copy_part(struct chain *c, int u, bool products, ir_block *out)
{
    for (int i = 0; i < c->loop->body.n; i++) {
        const struct ir_stmt *s = c->loop->body.at[i];
        if (s->kind == S_bind || (s->kind == S_mma) == products) copy_stmt(c, s, u, out);
    }
}

static bool products_need_lets(const ir_block *b)
{
    for (int i = 0; i < b->n; i++)
        for (int k = 0; b->at[i]->kind == S_mma && k < b->n; k++)
            if (b->at[k]->kind == S_let && stmt_reads(b->at[i], b->at[k]->var)) return true;
    return false;
}

static bool chained(struct pass_state *p, struct ir_stmt *s, ir_block *out)
{
    int trips = s->kind == S_for ? most_trips(s) : 0, products = 0;
    if (trips < 2 || trips > MOST_TRIPS || !plain_body(s, &products) || products != 1 || products_need_lets(&s->body)) return false;
    struct chain c = { .p = p, .loop = s };
    copy_part(&c, 0, true, out);
    for (int u = 0; u < trips; u++) {
        if (u + 1 < trips) copy_part(&c, u + 1, true, out);
        copy_part(&c, u, false, out);
    }
    return true;
}

static void chain_block(struct pass_state *p, ir_block *b)
{
    ir_block out = { 0 };
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        chain_block(p, &s->body);
        chain_block(p, &s->other);
        if (!chained(p, s, &out)) vec_push(p->arena, &out, s);
    }
    *b = out;
}

void pass_chain(struct pass_state *p)
{
    if (!target_has(p->target, HAS_WGMMA)) return; /* elsewhere products are not in flight beside arithmetic of the same warps */
    for (int i = 0; i < p->fn->roles.n; i++) chain_block(p, &p->fn->roles.at[i]->body);
}
