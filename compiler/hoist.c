/* hoist - single elements of inputs that are read again and again are read once, before.
 *
 *   for t { y = t <= LEN[b] ? ... : ... }                     →   x = LEN[b]; for t { y = t <= x ? ... : ... }
 *   fill k = K[PT[b, n], @t]; fill v = V[PT[b, n], @t]        →   x = PT[b, n]; fill k = K[x, @t]; fill v = V[x, @t]
 *
 * Inputs do not change while a kernel runs, and a read outside a tensor gives 0, so a read may come early, or without need.
 * Tiles stay where they are: in a variable they would have a layout of their own, and move at every use. What fills a slot is a
 * copy, not a read. Leaves: expressions outside the loop untouched (nodes are shared; changed ones are copied). */
#include "compiler/passes.h"

#include <string.h>

struct hoist {
    struct pass_state *p;
    bool *vars, *axes;               /* by id: changes inside the loop */
    int nvars;
    ir_block *before;                /* where reads go */
    bool only;                       /* only those already there are replaced */
    VEC(struct ir_expr *) reads;     /* read before this loop ... */
    VEC(struct ir_var *) held;       /* ... into these */
};

/* ---- what a loop changes ---- */

static void mark_stmt(struct hoist *h, const struct ir_stmt *s);

static void mark_block(struct hoist *h, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) mark_stmt(h, b->at[i]);
}

static void mark_stmt(struct hoist *h, const struct ir_stmt *s)
{
    if (s->var) h->vars[s->var->id] = true;
    if (s->axis && (s->kind == S_bind || s->kind == S_for)) h->axes[s->axis->id] = true;
    for (int i = 0; i < s->axes.n; i++) h->axes[s->axes.at[i]->id] = true;
    mark_block(h, &s->body);
    mark_block(h, &s->other);
}

static bool stays(const struct hoist *h, const struct ir_expr *e)
{
    if (e->kind == E_slot || e->kind == E_element || e->kind == E_parts || e->kind == E_call || e->kind == E_thread) return false;
    if (e->kind == E_get && e->var->id < h->nvars && h->vars[e->var->id]) return false;
    for (const struct ir_axis *x = e->axis; x; x = x->of)
        if (h->axes[x->id]) return false;
    for (int i = 0; i < e->nargs; i++)
        if (!stays(h, e->args[i])) return false;
    return true;
}

/* ---- rewriting ---- */

static struct ir_expr *read_before(struct hoist *h, struct ir_expr *e)
{
    struct arena *a = h->p->arena;
    for (int i = 0; i < h->reads.n; i++)
        if (ir_same(h->reads.at[i], e)) return ir_get(a, h->held.at[i]);
    if (h->only) return NULL;
    struct ir_var *v = ir_new_var(a, h->p->fn, arena_printf(a, "%s.read", e->tensor->name), e->type);
    v->multiple = 1;
    v->span = e->span;
    struct ir_stmt *s = ir_stmt(a, h->before, S_let, e->span);
    s->var = v;
    s->expr = e;
    vec_push(a, &h->reads, e);
    vec_push(a, &h->held, v);
    return ir_get(a, v);
}

static struct ir_expr *rewrite(struct hoist *h, struct ir_expr *e)
{
    if (!e || !e->nargs) return e;
    if (e->kind == E_read && !e->naxes && e->tensor->dir == 0 && stays(h, e)) {
        struct ir_expr *held = read_before(h, e);
        if (held) return held;
    }
    struct ir_expr *copy = NULL;
    for (int i = 0; i < e->nargs; i++) {
        struct ir_expr *x = rewrite(h, e->args[i]);
        if (x == e->args[i]) continue;
        if (!copy) {
            copy = new(h->p->arena, struct ir_expr);
            *copy = *e;
            copy->args = new_n(h->p->arena, struct ir_expr *, e->nargs);
            memcpy(copy->args, e->args, sizeof *e->args * (size_t)e->nargs);
        }
        copy->args[i] = x;
    }
    return copy ? copy : e;
}

static void rewrite_args(struct hoist *h, struct ir_expr **e)
{
    if ((*e)->kind != E_read) {
        *e = rewrite(h, *e);
        return;
    }
    struct ir_expr probe = **e;
    probe.kind = E_fma; /* any kind that is no read: its operands are rewritten, itself it stays */
    struct ir_expr *x = rewrite(h, &probe);
    if (x == &probe) return;
    x->kind = E_read;
    *e = x;
}

static void rewrite_block(struct hoist *h, ir_block *b);

static void rewrite_stmt(struct hoist *h, struct ir_stmt *s)
{
    if (s->kind == S_fill) rewrite_args(h, &s->expr);
    else s->expr = rewrite(h, s->expr);
    s->expr2 = rewrite(h, s->expr2);
    s->expr3 = rewrite(h, s->expr3);
    s->mask = rewrite(h, s->mask);
    s->step = rewrite(h, s->step);
    for (int i = 0; i < s->index.n; i++) s->index.at[i] = rewrite(h, s->index.at[i]);
    for (int i = 0; i < s->factors.n; i++) s->factors.at[i] = rewrite(h, s->factors.at[i]);
    rewrite_block(h, &s->body);
    rewrite_block(h, &s->other);
}

static void rewrite_block(struct hoist *h, ir_block *b)
{
    for (int i = 0; i < b->n; i++) rewrite_stmt(h, b->at[i]);
}

/* ---- loops, the outermost first ---- */

static void hoist_block(struct pass_state *p, ir_block *b);

static void hoist_loop(struct pass_state *p, struct ir_stmt *s, ir_block *before)
{
    struct arena scratch = {0};
    struct hoist h = {.p = p, .before = before};
    h.nvars = p->fn->vars.n;
    h.vars = new_n(&scratch, bool, h.nvars + 1);
    h.axes = new_n(&scratch, bool, p->fn->axes.n + 1);
    mark_stmt(&h, s);
    if (s->kind == S_while) s->expr = rewrite(&h, s->expr);
    rewrite_block(&h, &s->body);
    arena_free(&scratch);
}

/* ---- reads that statements of one block share ---- */

struct uses {
    struct hoist *h;
    struct ir_expr *fill;            /* the copy of a fill: no read */
    VEC(struct ir_expr *) reads;
    VEC(int) times;
    bool first;                      /* in the first statement: new ones are noted */
};

/* One number of an input. */
static bool reads_number(const struct ir_expr *e) { return e->kind == E_read && !e->naxes && e->tensor->dir == 0; }

static void note(void *ctx, struct ir_expr *e)
{
    struct uses *u = ctx;
    if (!reads_number(e) || e == u->fill || !stays(u->h, e)) return;
    for (int i = 0; i < u->reads.n; i++)
        if (ir_same(u->reads.at[i], e)) {
            u->times.at[i]++;
            return;
        }
    if (!u->first) return;
    vec_push(u->h->p->arena, &u->reads, e);
    vec_push(u->h->p->arena, &u->times, 1);
}

static void note_block(struct uses *u, struct ir_stmt *const *at, int n)
{
    for (int i = 0; i < n; i++) {
        u->fill = at[i]->kind == S_fill ? at[i]->expr : NULL;
        ir_walk_stmt(at[i], note, u);
        note_block(u, at[i]->body.at, at[i]->body.n);
        note_block(u, at[i]->other.at, at[i]->other.n);
    }
}

static void note_any(void *ctx, struct ir_expr *e)
{
    bool *any = ctx;
    *any |= reads_number(e);
}

/* Reads of the first of n statements that these n make more than once: before it. */
static void share(struct pass_state *p, struct ir_stmt **at, int n, ir_block *before)
{
    bool any = false;
    ir_walk_whole(at[0], note_any, &any);
    if (!any) return;
    struct arena scratch = {0};
    struct hoist h = {.p = p, .before = before};
    struct uses u = {.h = &h, .first = true};
    h.nvars = p->fn->vars.n;
    h.vars = new_n(&scratch, bool, h.nvars + 1);
    h.axes = new_n(&scratch, bool, p->fn->axes.n + 1);
    for (int i = 0; i < n; i++) mark_stmt(&h, at[i]);
    note_block(&u, at, 1);
    u.first = false;
    if (u.reads.n) note_block(&u, at + 1, n - 1);
    for (int i = 0; i < u.reads.n; i++)
        if (u.times.at[i] > 1) read_before(&h, u.reads.at[i]);
    h.only = true;
    if (h.reads.n)
        for (int i = 0; i < n; i++) rewrite_stmt(&h, at[i]);
    arena_free(&scratch);
}

static void hoist_block(struct pass_state *p, ir_block *b)
{
    ir_block out = {0};
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        if (s->kind == S_for || s->kind == S_while || s->kind == S_par) hoist_loop(p, s, &out);
        share(p, b->at + i, b->n - i, &out);
        vec_push(p->arena, &out, s);
        hoist_block(p, &s->body);
        hoist_block(p, &s->other);
    }
    *b = out;
}

void pass_hoist(struct pass_state *p)
{
    hoist_block(p, &p->fn->task);
    for (int i = 0; i < p->fn->roles.n; i++) hoist_block(p, &p->fn->roles.at[i]->body);
}
