/* walk - every expression and statement under a block, and equality of expressions. */
#include "compiler/ir.h"

#include <string.h>

static void walk_expr(struct ir_expr *e, ir_visit *visit, void *ctx)
{
    if (!e) return;
    visit(ctx, e);
    for (int i = 0; i < e->nargs; i++) walk_expr(e->args[i], visit, ctx);
}

void ir_walk_expr(struct ir_expr *e, ir_visit *visit, void *ctx) { walk_expr(e, visit, ctx); }

void ir_walk_stmt(const struct ir_stmt *s, ir_visit *visit, void *ctx)
{
    struct ir_expr *const own[] = {s->expr, s->expr2, s->expr3, s->mask, s->step};
    for (int i = 0; i < COUNT(own); i++) walk_expr(own[i], visit, ctx);
    for (int i = 0; i < s->index.n; i++) walk_expr(s->index.at[i], visit, ctx);
    for (int i = 0; i < s->factors.n; i++) walk_expr(s->factors.at[i], visit, ctx);
}

void ir_walk_whole(const struct ir_stmt *s, ir_visit *visit, void *ctx)
{
    ir_walk_stmt(s, visit, ctx);
    ir_walk(&s->body, visit, ctx);
    ir_walk(&s->other, visit, ctx);
}

void ir_walk(const ir_block *b, ir_visit *visit, void *ctx)
{
    for (int i = 0; i < b->n; i++) ir_walk_whole(b->at[i], visit, ctx);
}

void ir_walk_fn(const struct ir_fn *fn, ir_visit *visit, void *ctx)
{
    ir_walk(&fn->task, visit, ctx);
    for (int i = 0; i < fn->roles.n; i++) ir_walk(&fn->roles.at[i]->body, visit, ctx);
}

struct got {
    const struct ir_var *var;
    bool any;
};

static void note_get(void *ctx, struct ir_expr *e)
{
    struct got *g = ctx;
    g->any |= e->kind == E_get && e->var == g->var;
}

bool ir_reads(const struct ir_stmt *s, const struct ir_var *v)
{
    struct got g = { v, false };
    ir_walk_whole(s, note_get, &g);
    return g.any;
}

bool ir_sets(const ir_block *b, const struct ir_var *v)
{
    for (int i = 0; i < b->n; i++)
        if (b->at[i]->var == v || ir_sets(&b->at[i]->body, v) || ir_sets(&b->at[i]->other, v)) return true;
    return false;
}

struct ir_expr *ir_map(struct arena *a, struct ir_expr *e, ir_replace *with, void *ctx)
{
    struct ir_expr *r = with(ctx, e);
    if (r || !e->nargs) return r ? r : e;
    struct ir_expr *copy = new(a, struct ir_expr);
    *copy = *e;
    copy->naxes = 0;
    copy->args = new_n(a, struct ir_expr *, e->nargs);
    for (int i = 0; i < e->nargs; i++) {
        copy->args[i] = ir_map(a, e->args[i], with, ctx);
        for (int k = 0; k < copy->args[i]->naxes; k++)
            if (e->kind != E_reduce || copy->args[i]->axes[k] != e->axis) ir_add_axis(copy, copy->args[i]->axes[k]);
    }
    return copy;
}

struct ir_stmt *ir_map_stmt(struct arena *a, const struct ir_stmt *s, ir_change *with, void *ctx)
{
    struct ir_stmt *c = new(a, struct ir_stmt);
    *c = *s;
    struct ir_expr **own[] = { &c->expr, &c->expr2, &c->expr3, &c->mask, &c->step };
    for (int i = 0; i < COUNT(own); i++)
        if (*own[i]) *own[i] = with(ctx, *own[i]);
    memset(&c->index, 0, sizeof c->index);
    memset(&c->factors, 0, sizeof c->factors);
    for (int i = 0; i < s->index.n; i++) vec_push(a, &c->index, with(ctx, s->index.at[i]));
    for (int i = 0; i < s->factors.n; i++) vec_push(a, &c->factors, with(ctx, s->factors.at[i]));
    return c;
}

bool ir_same(const struct ir_expr *x, const struct ir_expr *y)
{
    if (x == y) return true;
    if (x->kind != y->kind || x->type != y->type || x->nargs != y->nargs || x->num != y->num || x->axis != y->axis) return false;
    if (x->var != y->var || x->tensor != y->tensor || x->field != y->field || x->shared != y->shared) return false;
    if (x->kind == E_const && type_is_float(x->type) && !(x->real == y->real)) return false;
    if (x->kind == E_call) return false;
    for (int i = 0; i < x->nargs; i++)
        if (!ir_same(x->args[i], y->args[i])) return false;
    return true;
}
