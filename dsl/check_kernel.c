/* check_kernel - a kernel's head and items: parameters, arguments, axes, the grid, views, lets. */
#include <string.h>

#include "dsl/check.h"

/* Parameters and arguments */

static const char *alternative_kind(const struct node *n)
{
    return n->kind == N_typename ? "a type" : n->kind == N_int ? "a number" : "a word";
}

static void one_param(struct check *c, struct node *p)
{
    struct sym *s = check_declare(c, SYM_param, p->name, p->name_span, p);
    s->ty.type = p->list.at[0]->kind == N_int ? TY_i32 : TY_none;
    for (int i = 0; i < p->list.n; i++) {
        struct node *x = p->list.at[i], *first = p->list.at[0];
        if (x->kind != first->kind) {
            diag_error(c->diag, x->span, "the alternatives of '%s' are of one kind; this is %s, the first is %s", p->name, alternative_kind(x), alternative_kind(first));
            diag_note(c->diag, first->span, "the first alternative");
            x->kind = first->kind;
            x->type = first->type;
        }
        for (int k = 0; k < i; k++)
            if (check_same(x, p->list.at[k])) diag_error(c->diag, x->span, "'%s' stands twice among the alternatives of '%s'", check_text(c, x), p->name);
    }
}

static void one_arg(struct check *c, struct node *a)
{
    struct sym *s = check_declare(c, SYM_arg, a->name, a->name_span, a);
    s->ty = check_word_type(c, a->type, a->text, a->span);
    s->dims = a->list;
    if (!a->list.n && a->flag) diag_error(c->diag, a->span, "a number comes in; '%s' is %s without dimensions", a->name, a->flag == 1 ? "out" : "inout");
    if (a->list.n > 8) diag_error(c->diag, a->span, "a tensor has at most 8 dimensions, '%s' has %d", a->name, a->list.n);
}

/* A plain name among the dimensions declares that dimension, once; N/GN only uses names. */
static void plain_dims(struct check *c, struct node *a)
{
    for (int i = 0; i < a->list.n; i++) {
        struct node *d = a->list.at[i];
        if (d->kind != N_name || check_find(c, d->name)) continue;
        struct sym *s = check_declare(c, SYM_dim, d->name, d->span, d);
        s->ty.type = TY_i32;
        d->decl = d;
    }
}

static void names_in(struct node *n, void *ctx)
{
    struct check *c = ctx;
    if (n->kind != N_name) return;
    if (check_find(c, n->name)) return;
    struct node use = *n;
    check_use(c, &use);
    diag_note(c->diag, n->span, "a dimension is known from a tensor that has it as a dimension of its own, such as A[%s]", n->name);
}

static void use_dims(struct check *c, struct node *a)
{
    for (int i = 0; i < a->list.n; i++) {
        struct node *d = a->list.at[i];
        if (d->kind != N_name) check_walk(d, names_in, c);
        check_integer(c, d, "a dimension");
    }
    for (int i = 0; i < a->list2.n; i++) {
        bool one = false;
        for (int k = 0; k < a->list.n; k++) one |= check_same(a->list2.at[i], a->list.at[k]);
        if (one) continue;
        diag_error(c->diag, a->list2.at[i]->span, "inner names dimensions of '%s'; '%s' is none", a->name, check_text(c, a->list2.at[i]));
        diag_note(c->diag, a->name_span, "declared here");
    }
}

static void head(struct check *c)
{
    struct node *k = c->kernel;
    c->place = IN_HOST;
    for (int i = 0; i < k->list.n; i++) one_param(c, k->list.at[i]);
    for (int i = 0; i < k->list2.n; i++) plain_dims(c, k->list2.at[i]);
    for (int i = 0; i < k->list2.n; i++) one_arg(c, k->list2.at[i]);
    for (int i = 0; i < k->list2.n; i++) use_dims(c, k->list2.at[i]);
    for (int i = 0; i < k->a->list.n; i++) check_truth(c, k->a->list.at[i]->a, "require");
}

/* Declaring what the items name, in any order */

static void declare_fields(struct check *c, struct node *pipe)
{
    for (int i = 0; i < pipe->list.n; i++) {
        struct node *f = pipe->list.at[i];
        struct sym *s = check_declare(c, SYM_field, f->name, f->name_span, f);
        s->ty = check_word_type(c, f->type, f->text, f->span);
        s->dims = f->list;
        s->pipe = pipe;
        f->decl = pipe;
    }
}

static void declare_tunes(struct check *c, struct node *tune)
{
    for (int i = 0; i < tune->list.n; i++) {
        struct node *x = tune->list.at[i];
        if (x->text) continue;
        struct sym *s = check_declare(c, SYM_tune, x->name, x->name_span, x);
        s->ty.type = TY_i32;
    }
}

static void declare_items(struct check *c)
{
    ITEMS(c, tune, t) declare_tunes(c, t);
    ITEMS(c, axis, a)
    {
        struct sym *s = check_declare(c, SYM_axis, a->name, a->name_span, a);
        s->ty.type = TY_i32;
        s->unit = a->d && a->d->kind == N_int && a->d->num == 1;
        s->fixed = !a->d || a->list.n;
    }
    ITEMS(c, view, v)
    {
        struct sym *s = check_declare(c, SYM_view, v->name, v->name_span, v);
        s->dims = v->list;
    }
    ITEMS(c, pipe, p) declare_fields(c, p);
    ITEMS(c, role, r) vec_push(c->arena, &c->roles, r);
    ITEMS(c, grid, g)
    {
        if (c->grid) {
            diag_error(c->diag, g->name_span, "a kernel has one grid");
            diag_note(c->diag, c->grid->name_span, "the first is here");
        } else {
            c->grid = g;
        }
    }
    for (int i = 0; c->grid && c->grid->b && i < c->grid->list.n; i++) {
        struct node *x = c->grid->list.at[i];
        x->decl = c->grid;
        check_declare(c, SYM_task, x->name, x->span, x)->ty.type = TY_i32;
    }
}

/* lets and shared variables are declared last, so that their values may name the rest in any order. */
static void declare_lets(struct check *c)
{
    ITEMS(c, let, l)
    for (int i = 0; i < l->list.n; i++) {
        struct node *x = l->list.at[i];
        x->decl = l;
        check_declare(c, SYM_let, x->name, x->span, x);
    }
}

static void link_axes(struct check *c)
{
    ITEMS(c, axis, a)
    {
        struct sym *s = check_find(c, a->name), *p = a->a->kind == N_name && !a->b ? check_find(c, a->a->name) : NULL;
        if (s && s->kind == SYM_axis && p && p->kind == SYM_axis) s->parent = p;
    }
    for (int i = 0; c->grid && !c->grid->b && i < c->grid->list.n; i++) {
        struct sym *s = check_find(c, c->grid->list.at[i]->name);
        if (s && s->kind == SYM_axis) s->in_grid = true;
    }
}

/* Circles: what a let, an axis or a view is made of may not need it. */

struct circle {
    struct check *c;
    VEC(const struct node *) path, done;
    bool found;
};

static struct node *declared_item(struct check *c, const char *name)
{
    struct sym *s = check_find(c, name);
    if (!s || !s->node) return NULL;
    if (s->kind == SYM_axis || s->kind == SYM_view) return s->node;
    return s->kind == SYM_let ? s->node->decl : NULL;
}

static void visit(struct circle *k, struct node *item);

static void visit_name(struct node *n, void *ctx)
{
    struct circle *k = ctx;
    if (k->found || (n->kind != N_name && n->kind != N_index)) return;
    struct node *item = declared_item(k->c, n->name);
    if (!item) return;
    for (int i = 0; i < k->path.n; i++) {
        if (k->path.at[i] != item) continue;
        k->found = true;
        diag_error(k->c->diag, n->name_span, "'%s' is declared in terms of itself", n->name);
        for (int j = i + 1; j < k->path.n; j++) diag_note(k->c->diag, k->path.at[j]->name_span, "by way of this");
        return;
    }
    visit(k, item);
}

static void visit(struct circle *k, struct node *item)
{
    for (int i = 0; i < k->done.n; i++)
        if (k->done.at[i] == item) return;
    vec_push(k->c->arena, &k->path, item);
    check_walk(item->a, visit_name, k);
    check_walk(item->b, visit_name, k);
    check_walk(item->c, visit_name, k);
    check_walk(item->d, visit_name, k);
    k->path.n--;
    vec_push(k->c->arena, &k->done, item);
}

static bool circles(struct check *c)
{
    struct circle k = { .c = c };
    ITEMS(c, axis, a) visit(&k, a);
    ITEMS(c, let, l) visit(&k, l);
    ITEMS(c, view, v) visit(&k, v);
    return k.found;
}

/* Axes and the grid */

void check_positive(struct check *c, struct node *n, const char *what)
{
    if (!n) return;
    check_integer(c, n, what);
    if (n->kind == N_int && n->num < 1) diag_error(c->diag, n->span, "%s is at least 1", what);
}

static void one_axis(struct check *c, struct node *a)
{
    struct sym *s = check_find(c, a->name);
    bool nested = s && s->parent;
    if (nested) a->a->decl = s->parent->decl;
    else check_integer(c, a->a, a->b ? "a bound" : "an extent");
    if (a->b) check_integer(c, a->b, "a bound");
    check_positive(c, a->c, "a split");
    check_positive(c, a->d, "a tile");
    if (a->list.n) check_integer(c, a->list.at[0], "a position");
    if (!s || s->kind != SYM_axis) return;
    if (a->list.n && !a->d) diag_error(c->diag, a->name_span, "'at' says which tile; axis '%s' has no 'by'", a->name);
    if (a->list.n && c->grid && !c->grid->b) {
        diag_error(c->diag, a->list.at[0]->span, "'at' takes a position from the task; this grid's tasks come without an iter");
        diag_note(c->diag, c->grid->name_span, "grid (...) in some_iter(...) yields positions");
    }
    if (a->c && !s->in_grid && c->grid && !c->grid->b) {
        diag_error(c->diag, a->name_span, "axis '%s' is split over tasks, so it stands in the grid", a->name);
        diag_note(c->diag, c->grid->name_span, "the grid is here");
        s->in_grid = true;
    }
    if (nested && a->d && s->parent->node->d && check_same(a->d, s->parent->node->d) && !s->parent->node->c)
        diag_warning(c->diag, a->name_span, "axis '%s' has the tile of '%s', which it lies in", a->name, s->parent->name);
}

static void unknown_order(struct check *c, struct node *call)
{
    VEC(const char *) names = { 0 };
    for (int i = 0; i < c->callables.n; i++)
        if (c->callables.at[i]->kind == N_fn) vec_push(c->arena, &names, c->callables.at[i]->name);
    const char *near = diag_nearest(call->name, names.at, names.n);
    diag_error(c->diag, call->name_span, "there is no fn '%s'%s%s%s", call->name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    diag_note(c->diag, call->name_span, "an order f(i, n) is a fn f(u, ti, tj, n) that gives two tile numbers, of a grid of one axis f(u, ti, n) that gives one; grid.dgk has some");
}

/* order f(i, args): the tiles of task u are f(u, tiles(i), tiles(j), args); of a grid of one axis, the tile is f(u, tiles(i), args). */
static void order(struct check *c, struct node *call)
{
    static const char *const results[] = { "", "one result", "two results" };
    int axes = c->grid->list.n < 2 ? 1 : 2;
    struct node *fn = check_callable(c, call->name);
    if (!fn || fn->kind != N_fn) {
        unknown_order(c, call);
        return;
    }
    call->decl = fn;
    if (fn->list.n != call->list.n + axes || check_returns(fn) != axes) {
        diag_error(c->diag, call->span, "an order is a fn of %d arguments with %s; '%s' has %d and %d", call->list.n + axes, results[axes], fn->name, fn->list.n,
                   check_returns(fn));
        diag_note(c->diag, fn->name_span, "declared here; the task's number and the counts of tiles come before the rest");
    }
    struct node *x = call->list.n ? call->list.at[0] : NULL;
    struct sym *s = x && x->kind == N_name ? check_use(c, x) : NULL;
    if (s) x->decl = s->decl;
    bool one = false;
    for (int i = 0; i < c->grid->list.n && i < 2; i++) one |= x && c->grid->list.at[i]->name == x->name;
    if (!s || (s->kind != SYM_bad && !one))
        diag_error(c->diag, x ? x->span : call->span, "an order takes one of the grid's first two axes first");
    for (int i = 1; i < call->list.n; i++) check_positive(c, call->list.at[i], "what an order takes");
}

static void grid_axes(struct check *c, struct node *g)
{
    for (int i = 0; i < g->list.n; i++) {
        struct node *x = g->list.at[i];
        struct sym *s = check_use(c, x);
        x->decl = s->decl;
        if (s->kind == SYM_bad) continue;
        for (int k = 0; k < i; k++)
            if (g->list.at[k]->name == x->name) diag_error(c->diag, x->span, "axis '%s' stands twice in the grid", x->name);
        if (s->kind != SYM_axis) {
            diag_error(c->diag, x->span, "a grid goes over axes; '%s' is %s", x->name, check_sym_what(s));
            diag_note(c->diag, s->at, "declared here; grid (names) in iter(...) names the values of a task");
            continue;
        }
        if (s->parent && !s->parent->in_grid && s->parent->node->d) {
            diag_error(c->diag, x->span, "axis '%s' lies inside '%s', which is not in the grid", x->name, s->parent->name);
            diag_note(c->diag, s->at, "declared here");
            s->in_grid = false;
            continue;
        }
        vec_push(c->arena, &c->grid_axes, s);
    }
}

static void task_count(struct check *c, struct node *g, struct node *iter)
{
    if (iter->list2.n == g->list.n) return;
    diag_error(c->diag, g->name_span, "'%s' yields %d values, the grid names %d", iter->name, iter->list2.n, g->list.n);
    diag_note(c->diag, iter->name_span, "declared here");
}

static void unknown_iter(struct check *c, struct node *call)
{
    VEC(const char *) names = { 0 };
    for (int i = 0; i < c->callables.n; i++)
        if (c->callables.at[i]->kind == N_iter) vec_push(c->arena, &names, c->callables.at[i]->name);
    const char *near = diag_nearest(call->name, names.at, names.n);
    diag_error(c->diag, call->name_span, "there is no iter '%s'%s%s%s", call->name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* LAYOUT(...): every alternative of the parameter is an iter that fits. */
static void one_iter(struct check *c, struct node *g, struct node *call, const char *name)
{
    struct node *iter = check_callable(c, name);
    if (!iter || iter->kind != N_iter) {
        struct node asked = *call;
        asked.name = name;
        if (!iter) unknown_iter(c, &asked);
        else diag_error(c->diag, call->name_span, "'%s' is no iter", name);
        return;
    }
    check_call_args(c, call, iter);
    task_count(c, g, iter);
}

static void grid_source(struct check *c, struct node *g)
{
    struct node *call = g->b;
    struct sym *s = check_find(c, call->name);
    if (!s || s->kind != SYM_param || s->node->list.at[0]->kind != N_name) {
        one_iter(c, g, call, call->name);
        return;
    }
    int errors = c->diag->errors;
    for (int i = 0; i < s->node->list.n && c->diag->errors == errors; i++) one_iter(c, g, call, s->node->list.at[i]->name);
    call->decl = s->decl;
}

static void grid(struct check *c)
{
    if (!c->grid) {
        diag_error(c->diag, c->kernel->name_span, "kernel '%s' has no grid", c->kernel->name);
        diag_note(c->diag, c->kernel->name_span, "grid (i, j); says which tiles are tasks; grid (); is one task");
        ITEMS(c, axis, a)
        {
            struct sym *s = check_find(c, a->name);
            if (s) s->fixed = true; /* so that no use of an axis complains again */
        }
        return;
    }
    if (c->grid->b) grid_source(c, c->grid);
    else grid_axes(c, c->grid);
    if (c->grid->a) order(c, c->grid->a);
}

/* Views */

static void task_names(struct node *n, void *ctx)
{
    struct check *c = ctx;
    if (n->kind != N_name) return;
    struct sym *s = check_find(c, n->name);
    if (s && (s->kind == SYM_task || s->kind == SYM_axis || s->kind == SYM_let || s->kind == SYM_tune)) c->depth = 1;
}

static void one_view(struct check *c, struct node *v)
{
    struct sym *view = check_find(c, v->name);
    struct scope scope;
    check_open(c, &scope);
    for (int i = 0; i < v->list.n; i++) {
        struct node *x = v->list.at[i];
        x->decl = v;
        check_declare(c, SYM_letter, x->name, x->span, x)->ty.type = TY_i32;
    }
    if (v->a->kind != N_index) {
        diag_error(c->diag, v->a->span, "a view maps its indices to a tensor's: %s[...] = A[...]", v->name);
        check_close(c);
        return;
    }
    struct info i = check_index(c, v->a, true);
    struct sym *base = check_find(c, v->a->name);
    if (!i.bad && base->kind != SYM_arg && base->kind != SYM_view) {
        diag_error(c->diag, v->a->name_span, "a view is of a tensor; '%s' is %s", v->a->name, check_sym_what(base));
        base = NULL;
    }
    int depth = c->depth;
    c->depth = 0;
    check_walk(v->a, task_names, c);
    bool task_bound = c->depth;
    c->depth = depth;
    check_close(c);
    if (!view || view->kind != SYM_view || i.bad || !base) return;
    view->base = base->kind == SYM_view ? base->base : base;
    view->ty = base->ty;
    view->task_bound = task_bound || base->task_bound;
}

/* Pipes' declarations: each index of a slot is over one axis. */
static void axes_in(struct node *n, void *ctx)
{
    struct check *c = ctx;
    struct sym *s = n->kind == N_name ? check_find(c, n->name) : NULL;
    if (s) n->decl = s->decl;
    if (s && s->kind == SYM_axis) c->depth++;
}

static void one_pipe(struct check *c, struct node *p)
{
    check_positive(c, p->a, "a depth");
    check_positive(c, p->b, "a depth");
    for (int i = 0; i < p->list.n; i++) {
        struct node *f = p->list.at[i];
        for (int k = 0; k < f->list.n; k++) {
            struct node *x = f->list.at[k];
            struct sym *s = x->kind == N_name ? check_use(c, x) : NULL;
            if (s && s->kind == SYM_bad) continue;
            if (s) x->decl = s->decl;
            int depth = c->depth;
            c->depth = 0;
            check_walk(x, axes_in, c);
            int axes = c->depth;
            c->depth = depth;
            if (axes == 1) continue;
            diag_error(c->diag, x->span, "each index of a slot is over one axis; this one is over %s", axes ? "several" : "none");
            diag_note(c->diag, x->span, "a slot holds the tile of an axis: k, or a window of it: k/128");
        }
    }
}

static void one_let(struct check *c, struct node *n)
{
    struct info v = { 0 };
    if (n->list.n > 1) check_results(c, n);
    else v = check_number(c, n->a, "a let");
    for (int i = 0; i < n->list.n; i++) {
        struct sym *s = check_find(c, n->list.at[i]->name);
        if (s && s->kind == SYM_let && n->list.n == 1) s->ty = v.ty, s->ty.literal = false;
    }
}

static void outputs_written(struct check *c)
{
    for (int i = 0; i < c->kernel->list2.n; i++) {
        struct node *a = c->kernel->list2.at[i];
        struct sym *s = check_find(c, a->name);
        if (a->flag && s && s->kind == SYM_arg && !s->written && a->list.n)
            diag_error(c->diag, a->name_span, "output '%s' is never written", a->name);
    }
}

void check_kernel(struct check *c, struct node *kernel)
{
    struct scope scope;
    c->kernel = kernel;
    c->grid = NULL;
    c->roles = (nodes){ 0 };
    c->uses.n = c->grid_axes.n = c->loops.n = c->held.n = c->elsewhere.n = 0;
    check_open(c, &scope);
    head(c);
    c->place = IN_KERNEL;
    declare_items(c);
    declare_lets(c);
    ITEMS(c, shared, s) check_stmt(c, s);
    link_axes(c);
    if (!circles(c)) {
        ITEMS(c, view, v) one_view(c, v);
        grid(c);
        ITEMS(c, axis, a) one_axis(c, a);
        ITEMS(c, let, l) one_let(c, l);
        ITEMS(c, spec, s) check_spec(c, s);
        ITEMS(c, speccheck, s) check_speccheck(c, s);
        ITEMS(c, given, g) check_given(c, g);
        ITEMS(c, tune, t)
        for (int i = 0; i < t->list.n; i++) check_setting(c, t->list.at[i], true);
        ITEMS(c, on, o) check_on(c, o);
        ITEMS(c, pipe, p) one_pipe(c, p);
        int before = c->diag->errors;
        check_roles(c);
        if (!c->roles.n) diag_error(c->diag, kernel->name_span, "kernel '%s' has no role, so nothing runs", kernel->name);
        else if (c->diag->errors == before) outputs_written(c);
    }
    check_close(c);
    c->kernel = NULL;
}
