/* strips - a tile of more rows than the warpgroups' instructions take at once is worked on a strip of rows at a time.
 *
 *   mma p = a[@i], b; c = fma(p, f, c)       i: 256 rows, two warpgroups of 64
 *     →  mma p.0 = a[@i.0], b;  c.0 = fma(p.0, f, c.0);   mma p.1 = a[@i.1], b;  c.1 = fma(p.1, f, c.1)
 *
 * Only one strip's fresh product is held in registers at a time (with slots(p) = 2 the next strip's product is issued before the
 * last is read), where all of it would take as many as the sums do. Done for roles that read a product made anew by each turn
 * of a loop, on targets whose warpgroups hold accumulators in registers. Everything in the role that is said of the axis is
 * said of its strips then; a role that says more of the axis than lets, products and stores (a reduction along it) stays whole.
 * Needs: promoted products. Leaves: strips, bound where the axis is, or at the top of the role, instead of the axis in the types
 * of its values. */
#include "compiler/passes.h"

enum { BLOCK_ROWS = 64, MOST_STRIPS = 8, WORTH_HALVING = 4 };

struct strips {
    struct pass_state *p;
    struct ir_axis *whole, *part[MOST_STRIPS];
    int n, rows;
    bool bound;                      /* in the role itself */
    VEC(struct ir_var *) from;       /* variables over the axis ... */
    VEC(struct ir_var **) to;        /* ... and theirs of each strip */
};

/* ---- which axis ---- */

static int strip_rows(const struct ir_role *r)
{
    int warps = r->warps_m * (r->warps_n ? r->warps_n : 1);
    return BLOCK_ROWS * (warps >= 4 ? warps / 4 : 2);
}

static bool var_has(const struct ir_var *v, const struct ir_axis *x)
{
    for (int i = 0; i < v->naxes; i++)
        if (v->axes[i] == x) return true;
    return false;
}

/* The one axis of a product's rows, when it has several strips; NULL otherwise. */
static struct ir_axis *rows_axis(const struct ir_stmt *mma, int rows)
{
    const struct ir_expr *a = mma->var->flip ? mma->expr2 : mma->expr;
    struct ir_axis *found = NULL;
    for (int i = 0; i < a->naxes; i++) {
        if (!var_has(mma->var, a->axes[i])) continue;
        if (found) return NULL;
        found = a->axes[i];
    }
    if (!found || found->of || found->tile % rows || found->tile / rows < 2 || found->tile / rows > MOST_STRIPS) return NULL;
    return found;
}

static struct ir_axis *fresh_rows(const ir_block *b, int rows, bool in_loop)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        bool loop = in_loop || s->kind == S_for || s->kind == S_while;
        struct ir_axis *x = s->kind == S_mma && !s->flag && in_loop ? rows_axis(s, rows) : NULL;
        if (!x) x = fresh_rows(&s->body, rows, loop);
        if (!x) x = fresh_rows(&s->other, rows, loop);
        if (x) return x;
    }
    return NULL;
}

/* ---- whether all that is said of it can be said of strips ---- */

struct said {
    const struct ir_axis *of;
    bool any, more;                  /* of the axis; more than strips can say */
};

static void note(void *ctx, struct ir_expr *e)
{
    struct said *s = ctx;
    for (int i = 0; i < e->naxes; i++) {
        s->any |= e->axes[i] == s->of;
        s->more |= e->axes[i]->of == s->of;
    }
    s->more |= (e->kind == E_reduce || e->kind == E_parts) && e->axis == s->of;
}

static struct said says(const struct ir_stmt *s, const struct ir_axis *x)
{
    struct said it = { .of = x };
    ir_walk_stmt(s, note, &it);
    if (s->var) it.any |= var_has(s->var, x);
    return it;
}

static bool can_split(const ir_block *b, const struct ir_axis *x)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        struct said it = says(s, x);
        bool leaf = s->kind == S_let || s->kind == S_mma || s->kind == S_store;
        if (it.more || (it.any && !leaf)) return false;
        for (int k = 0; k < s->axes.n; k++)
            if (s->axes.at[k] == x) return false;
        if (!can_split(&s->body, x) || !can_split(&s->other, x)) return false;
    }
    return true;
}

/* ---- copies ---- */

static struct ir_var *var_of(struct strips *t, struct ir_var *v, int part)
{
    struct arena *a = t->p->arena;
    if (!var_has(v, t->whole)) return v;
    for (int i = 0; i < t->from.n; i++)
        if (t->from.at[i] == v) return t->to.at[i][part];
    struct ir_var **to = new_n(a, struct ir_var *, t->n);
    for (int k = 0; k < t->n; k++) {
        to[k] = ir_var_like(a, t->p->fn, arena_printf(a, "%s.%d", v->name, k), v);
        for (int i = 0; i < v->naxes; i++)
            if (v->axes[i] == t->whole) to[k]->axes[i] = t->part[k];
    }
    vec_push(a, &t->from, v);
    vec_push(a, &t->to, to);
    return to[part];
}

static struct ir_expr *copy_expr(struct strips *t, struct ir_expr *e, int part)
{
    if (!e) return NULL;
    struct arena *a = t->p->arena;
    struct ir_expr *x = new(a, struct ir_expr);
    *x = *e;
    x->naxes = 0;
    for (int i = 0; i < e->naxes; i++) ir_add_axis(x, e->axes[i] == t->whole ? t->part[part] : e->axes[i]);
    if (e->kind == E_coord && e->axis == t->whole) x->axis = t->part[part];
    if (e->var) x->var = var_of(t, e->var, part);
    if (e->nargs) x->args = new_n(a, struct ir_expr *, e->nargs);
    for (int i = 0; i < e->nargs; i++) x->args[i] = copy_expr(t, e->args[i], part);
    return x;
}

struct strip {
    struct strips *t;
    int part;
};

static struct ir_expr *of_strip(void *ctx, struct ir_expr *e)
{
    struct strip *of = ctx;
    return copy_expr(of->t, e, of->part);
}

static struct ir_stmt *copy_stmt(struct strips *t, const struct ir_stmt *s, int part)
{
    struct ir_stmt *c = ir_map_stmt(t->p->arena, s, of_strip, &(struct strip){ t, part });
    if (s->var) c->var = var_of(t, s->var, part);
    return c;
}

/* Statements from..to of the block that are (product: fresh products; else: all others), of one strip. */
static void copy_some(struct strips *t, const ir_block *b, int from, int to, int part, bool product, ir_block *out)
{
    for (int i = from; i < to; i++)
        if ((b->at[i]->kind == S_mma && !b->at[i]->flag) == product) vec_push(t->p->arena, out, copy_stmt(t, b->at[i], part));
}

/* The run makes its products anew and ends with what is stored of them: nothing of a strip is left for later. */
static bool from_product_to_store(const ir_block *b, int from, int to)
{
    bool stores = false;
    for (int i = from; i < to; i++) {
        if (b->at[i]->kind == S_mma && b->at[i]->flag) return false;
        stores |= b->at[i]->kind == S_store;
    }
    return stores;
}

/* Where a strip's statements go that has nothing to do when the axis ends before it. */
static ir_block *unless_past(struct strips *t, int part, ir_block *out)
{
    struct arena *a = t->p->arena;
    if (t->whole->exact) return out;
    struct ir_stmt *s = ir_stmt(a, out, S_if, t->whole->span);
    s->expr = ir_binary(a, E_lt, ir_leaf(a, E_origin, t->part[part]), ir_leaf(a, E_limit, t->part[part]));
    return &s->body;
}

/* A run of statements about the axis, strip after strip; the second half of them where the axis reaches it. (A condition for each
 * strip would keep its product from beginning while the strip before is stored.) With a second place for the product it begins with,
 * the next strip's product is issued before the last is read. */
static void copy_run(struct strips *t, const ir_block *b, int from, int to, ir_block *out)
{
    bool ahead = b->at[from]->kind == S_mma && !b->at[from]->flag && b->at[from]->var->slots > 1;
    for (int i = from + 1; i < to; i++) ahead &= b->at[i]->kind != S_mma;
    ir_block *into = out;
    bool whole = t->n >= WORTH_HALVING && from_product_to_store(b, from, to);
    if (ahead) copy_some(t, b, from, to, 0, true, out);
    for (int part = 0; part < t->n; part++) {
        if (!ahead) {
            if (whole && part == t->n / 2) into = unless_past(t, part, out);
            for (int i = from; i < to; i++) vec_push(t->p->arena, into, copy_stmt(t, b->at[i], part));
            continue;
        }
        if (part + 1 < t->n) copy_some(t, b, from, to, part + 1, true, out);
        copy_some(t, b, from, to, part, false, out);
    }
}

static void bind_parts(struct strips *t, ir_block *out)
{
    struct arena *a = t->p->arena;
    for (int k = 0; k < t->n; k++) {
        struct ir_stmt *s = ir_stmt(a, out, S_bind, t->whole->span);
        s->axis = t->part[k];
        s->expr = ir_binary(a, E_add, ir_leaf(a, E_origin, t->whole), ir_int(a, (int64_t)t->rows * k));
        s->expr2 = ir_leaf(a, E_limit, t->whole);
    }
}

static void split_block(struct strips *t, ir_block *b)
{
    ir_block out = { 0 };
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        if (!says(s, t->whole).any) {
            split_block(t, &s->body);
            split_block(t, &s->other);
            vec_push(t->p->arena, &out, s);
            if (s->kind != S_bind || s->axis != t->whole) continue;
            t->bound = true;
            bind_parts(t, &out);
            continue;
        }
        int to = i + 1;
        while (to < b->n && says(b->at[to], t->whole).any) to++;
        copy_run(t, b, i, to, &out);
        i = to - 1;
    }
    *b = out;
}

/* ---- the pass ---- */

static void make_parts(struct strips *t)
{
    struct arena *a = t->p->arena;
    struct ir_fn *fn = t->p->fn;
    for (int k = 0; k < t->n; k++) {
        struct ir_axis *x = new(a, struct ir_axis);
        *x = *t->whole;
        x->name = intern(arena_printf(a, "%s.%d", t->whole->name, k));
        x->id = fn->axes.n;
        x->tile = t->rows;
        x->align = t->whole->align % t->rows ? 1 : t->rows;
        t->part[k] = x;
        vec_push(a, &fn->axes, x);
    }
}

static void split_role(struct pass_state *p, struct ir_role *r)
{
    int rows = strip_rows(r);
    struct ir_axis *x = fresh_rows(&r->body, rows, false);
    if (!x || !can_split(&r->body, x)) return;
    struct strips t = { .p = p, .whole = x, .n = x->tile / rows, .rows = rows };
    make_parts(&t);
    split_block(&t, &r->body);
    if (t.bound) return;
    ir_block body = { 0 };
    bind_parts(&t, &body);
    for (int i = 0; i < r->body.n; i++) vec_push(p->arena, &body, r->body.at[i]);
    r->body = body;
}

void pass_strips(struct pass_state *p)
{
    if (!target_has(p->target, HAS_WGMMA)) return;
    for (int i = 0; i < p->fn->roles.n; i++) split_role(p, p->fn->roles.at[i]);
}
