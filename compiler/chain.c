/* chain - several accumulators in flight: products of the next sub-tiles are issued before the last ones are read.
 *
 *   for r { bind r; mma x = a * b[r]; y = f(x); L[r] = y }          three trips, slots(x) = 2
 *     →  bind r0; mma x = ...   bind r1; mma x' = ...   bind r0; y = f(x);  L = y
 *        bind r2; mma x = ...   bind r1; y = f(x'); L = y    bind r2; y = f(x); L = y
 *
 *
 *   for k { bind k; consume q { mma p = q.a * q.b; c = fma(p, f, c) } }               four trips at most, slots(p) = 2
 *     →  if there are four { bind k0; consume q { mma p = ... }    bind k1; consume q { mma p' = ... }    bind k0; c = fma(p, f, c)
 *                            bind k2; consume q { mma p = ... }    bind k1; c = fma(p', f, c)            ... }
 *        else for k { bind k; consume q { mma p = ... } c = fma(p, f, c) }
 *
 * The tensor core works on one accumulator while the other's drain. Done where the author asks for more than one slot of
 * an accumulator that the body overwrites, the trips are few and known, and the body does nothing but bind, multiply, set
 * variables of its own and store. Trips past the loop's limit are run, too: what they compute does not exist; but not where
 * they would consume. There what reads the product may read neither the slot, which is let go meanwhile, nor change what the
 * products read.
 * Needs: promoted products (a chain holds their partial sums), pipes found free of deadlock. Leaves: no such loop; axes bound
 * anew for each part. */
#include "compiler/passes.h"

enum { MOST_TRIPS = 8 };

struct chain {
    struct pass_state *p;
    const struct ir_stmt *loop;
    struct ir_var *product, *second; /* what is made anew by each trip; where odd trips make it */
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

/* Every variable set in the body is set before it is read there. */
static bool own_variables(const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_var *v = b->at[i]->var;
        bool set = false;
        for (int k = 0; v && k <= i && !set; k++) {
            if (ir_reads(b->at[k], v)) return false;
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

static struct chain begin(struct pass_state *p, const struct ir_stmt *loop, struct ir_var *v)
{
    return (struct chain){ .p = p, .loop = loop, .product = v, .second = ir_var_like(p->arena, p->fn, arena_printf(p->arena, "%s.next", v->name), v) };
}

/* Copies e for trip u: the loop's counter becomes its value, the product of odd trips its second place. */
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
    if (e->kind == E_get && e->var == c->product && u % 2) x->var = c->second;
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
    if (s->var && s->var == c->product && u % 2) t->var = c->second;
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
            if (b->at[k]->kind == S_let && ir_reads(b->at[i], b->at[k]->var)) return true;
    return false;
}

static const struct ir_stmt *product_of(const ir_block *b)
{
    for (int i = 0; i < b->n; i++)
        if (b->at[i]->kind == S_mma) return b->at[i];
    return NULL;
}

static bool chained(struct pass_state *p, struct ir_stmt *s, ir_block *out)
{
    int trips = s->kind == S_for ? most_trips(s) : 0, products = 0;
    if (trips < 2 || trips > MOST_TRIPS || !plain_body(s, &products) || products != 1 || products_need_lets(&s->body)) return false;
    struct chain c = begin(p, s, product_of(&s->body)->var);
    copy_part(&c, 0, true, out);
    for (int u = 0; u < trips; u++) {
        if (u + 1 < trips) copy_part(&c, u + 1, true, out);
        copy_part(&c, u, false, out);
    }
    return true;
}

/* ---- products of slots ---- */

struct slot_reads {
    const struct ir_pipe *pipe;
    bool any;
};

static void note_slot(void *ctx, struct ir_expr *e)
{
    struct slot_reads *r = ctx;
    r->any |= e->field && e->field->pipe == r->pipe;
}

static bool reads_slot(const struct ir_stmt *s, const struct ir_pipe *pipe)
{
    struct slot_reads r = { .pipe = pipe };
    ir_walk_stmt(s, note_slot, &r);
    return r.any;
}

/* Whether what `let` sets is read by the loop's binds or its product, which run before it then. */
static bool needed_early(const struct ir_stmt *loop, const struct ir_stmt *product, const struct ir_stmt *let)
{
    for (int i = 0; i < loop->body.n; i++)
        if (loop->body.at[i]->kind == S_bind && ir_reads(loop->body.at[i], let->var)) return true;
    return ir_reads(product, let->var);
}

/* The consume that ends the loop's body, after binds: one product made anew in two places, then values made of it. NULL: it
 * is not so. */
static const struct ir_stmt *consumed(const struct ir_stmt *loop)
{
    int n = loop->body.n;
    const struct ir_stmt *q = n ? loop->body.at[n - 1] : NULL;
    if (!q || q->kind != S_consume || q->body.n < 2) return NULL;
    for (int i = 0; i < n - 1; i++)
        if (loop->body.at[i]->kind != S_bind) return NULL;
    const struct ir_stmt *product = q->body.at[0];
    if (product->kind != S_mma || product->flag || product->factors.n || product->var->slots < 2) return NULL;
    for (int i = 1; i < q->body.n; i++) {
        const struct ir_stmt *s = q->body.at[i];
        if (s->kind != S_let || s->var == product->var || reads_slot(s, q->pipe) || needed_early(loop, product, s)) return NULL;
    }
    return q;
}

static void copy_binds(struct chain *c, int u, ir_block *out)
{
    for (int i = 0; i < c->loop->body.n; i++)
        if (c->loop->body.at[i]->kind == S_bind) copy_stmt(c, c->loop->body.at[i], u, out);
}

static void copy_product(struct chain *c, const struct ir_stmt *q, int u, ir_block *out)
{
    copy_binds(c, u, out);
    copy_stmt(c, q, u, out);
    struct ir_stmt *own = out->at[out->n - 1];
    own->body = (ir_block){ 0 };
    copy_stmt(c, q->body.at[0], u, &own->body);
}

static void copy_uses(struct chain *c, const struct ir_stmt *q, int u, ir_block *out)
{
    copy_binds(c, u, out);
    for (int i = 1; i < q->body.n; i++) copy_stmt(c, q->body.at[i], u, out);
}

/* The loop as it was, but that what is made of the product is made when the slot was let go. */
static struct ir_stmt *one_by_one(struct pass_state *p, const struct ir_stmt *loop, const struct ir_stmt *q)
{
    struct ir_stmt *plain = new (p->arena, struct ir_stmt), *own = new (p->arena, struct ir_stmt);
    *plain = *loop;
    *own = *q;
    plain->body = own->body = (ir_block){ 0 };
    vec_push(p->arena, &own->body, q->body.at[0]);
    for (int i = 0; i < loop->body.n - 1; i++) vec_push(p->arena, &plain->body, loop->body.at[i]);
    vec_push(p->arena, &plain->body, own);
    for (int i = 1; i < q->body.n; i++) vec_push(p->arena, &plain->body, q->body.at[i]);
    return plain;
}

static bool chained_slots(struct pass_state *p, struct ir_stmt *s, ir_block *out)
{
    int trips = s->kind == S_for ? most_trips(s) : 0;
    const struct ir_stmt *q = trips < 2 || trips > MOST_TRIPS ? NULL : consumed(s);
    if (!q) return false;
    struct arena *a = p->arena;
    struct chain c = begin(p, s, q->body.at[0]->var);
    struct ir_stmt *all = ir_stmt(a, out, S_if, s->span);
    int64_t step = 0;
    ir_const_int(s->step, &step);
    all->expr = ir_binary(a, E_lt, ir_binary(a, E_add, s->expr, ir_int(a, step * (trips - 1))), s->expr2);
    copy_product(&c, q, 0, &all->body);
    for (int u = 0; u < trips; u++) {
        if (u + 1 < trips) copy_product(&c, q, u + 1, &all->body);
        copy_uses(&c, q, u, &all->body);
    }
    vec_push(a, &all->other, one_by_one(p, s, q));
    return true;
}

static void chain_block(struct pass_state *p, ir_block *b)
{
    ir_block out = { 0 };
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        chain_block(p, &s->body);
        chain_block(p, &s->other);
        if (!chained(p, s, &out) && !chained_slots(p, s, &out)) vec_push(p->arena, &out, s);
    }
    *b = out;
}

void pass_chain(struct pass_state *p)
{
    if (!target_has(p->target, HAS_WGMMA)) return; /* elsewhere products are not in flight beside arithmetic of the same warps */
    for (int i = 0; i < p->fn->roles.n; i++) chain_block(p, &p->fn->roles.at[i]->body);
}
