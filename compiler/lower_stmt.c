/* lower_stmt - statements of roles, iterators and functions. */
#include "compiler/lower.h"

#include <string.h>

struct ir_stmt *lower_emit(struct lower *L, enum ir_stmt_kind k, struct span at)
{
    if (!L->block) { /* a value is being made where no statement may stand: it is dropped, its maker has complained */
        ir_block none = {0};
        return ir_stmt(L->a, &none, k, at);
    }
    return ir_stmt(L->a, L->block, k, at);
}

void lower_let(struct lower *L, struct ir_var *v, struct ir_expr *e, struct span at)
{
    struct ir_stmt *s = lower_emit(L, S_let, at);
    s->var = v;
    s->expr = e;
    vec_push(L->a, &L->defs, s);
}

/* Undeclared indices of this statement run over the dimensions its trees show. */
struct saved_roots {
    const struct node *const *roots;
    int n;
};
static struct saved_roots set_roots(struct lower *L, const struct node *const *roots, int n)
{
    struct saved_roots keep = {L->roots, L->nroots};
    for (int i = 0; i < L->implicit.n; i++) L->implicit.at[i]->active = false;
    L->roots = roots;
    L->nroots = n;
    return keep;
}
static void reset_roots(struct lower *L, struct saved_roots keep)
{
    L->roots = keep.roots;
    L->nroots = keep.n;
}

/* ---- where a value goes ---- */

static struct sym *place_name(struct lower *L, const struct node *n)
{
    struct sym *s = lower_find(L, n->name);
    if (!s) diag_error(L->d, n->span, "nothing called '%s' here", n->name);
    return s;
}

static bool covered(struct lower *L, const struct ir_expr *e, struct ir_axis *const *axes, int n, const char *name, struct span at)
{
    for (int i = 0; i < e->naxes; i++) {
        bool found = false;
        for (int k = 0; k < n; k++) found |= axes[k] == e->axes[i];
        if (found) continue;
        diag_error(L->d, at, "the value differs along '%s', which '%s' does not hold", e->axes[i]->name, name);
        diag_note(L->d, at, "reduce it (sum(%s: ...), max(%s: ...)), or take one: lo(%s)", e->axes[i]->name, e->axes[i]->name, e->axes[i]->name);
        return false;
    }
    return true;
}

/* `e where c else v` as one value; c and v may be absent. */
static struct ir_expr *choose(struct lower *L, struct ir_expr *e, struct ir_expr *c, struct ir_expr *v, struct span at)
{
    if (!c || !v) return e;
    if (is_bad(c) || !lower_unify(L, &e, &v, at)) return lower_bad(L);
    struct ir_expr *args[] = {c, e, v};
    return ir_make(L->a, E_select, e->type, 3, args, at);
}

static void set_var(struct lower *L, const struct node *n, struct sym *s, struct ir_expr *e, bool add)
{
    if (n->kind == N_index && is_bad(lower_expr(L, n))) return; /* wrong axes: said */
    if (add) e = lower_add(L, ir_get(L->a, s->var), e, n->span);
    e = lower_convert(L, e, s->var->type, n->span, s->name);
    if (is_bad(e) || !covered(L, e, s->var->axes, s->var->naxes, s->name, n->span)) return;
    if (!s->mutable) {
        diag_error(L->d, n->span, "'%s' is declared with let: it keeps its value", s->name);
        diag_note(L->d, s->span, "declare it with `var` to change it");
        return;
    }
    lower_let(L, s->var, e, n->span);
}

static void put_shared(struct lower *L, const struct node *n, struct sym *s, struct ir_expr *e, struct ir_expr *mask,
                       enum ir_mode mode, enum ir_reduce op, struct ir_var *old)
{
    if (n->list.n != s->shared->rank) {
        diag_error(L->d, n->span, "'%s' has rank %d, %d indices given", s->name, s->shared->rank, n->list.n);
        return;
    }
    e = lower_convert(L, e, s->shared->type, n->span, s->name);
    struct ir_expr *index[IR_RANK] = {0};
    for (int i = 0; i < n->list.n; i++)
        if (is_bad(index[i] = lower_int(L, n->list.at[i]))) return;
    if (is_bad(e)) return;
    struct ir_stmt *p = lower_emit(L, S_put, n->span);
    p->shared = s->shared;
    p->expr = e;
    p->mask = mask;
    p->mode = mode;
    p->num = op;
    p->var = old;
    for (int i = 0; i < n->list.n; i++) vec_push(L->a, &p->index, index[i]);
}

/* ---- stores to tensors ---- */

struct depends {
    struct lower *L;
    struct laxis *on;
    bool found;
    int depth;
};

static bool descends(const struct lower *L, const struct ir_axis *x, const struct ir_axis *from)
{
    if (x == from) return true;
    if (x->of) return descends(L, x->of, from);
    for (int i = 0; i < L->axes.n; i++) {
        const struct laxis *p = L->axes.at[i]->parent;
        if (L->axes.at[i]->ir == x && p && p->ir != x) return descends(L, p->ir, from);
    }
    return false;
}

static void find_axis(void *ctx, struct ir_expr *e)
{
    struct depends *d = ctx;
    if (d->found) return;
    if (e->axis && descends(d->L, e->axis, d->on->ir)) d->found = true;
    if (e->kind != E_get) return;
    if (d->on->ord && d->on->ord->kind == E_get && d->on->ord->var == e->var) d->found = true;
    if (d->depth > 8) return;
    d->depth++;
    for (int i = 0; i < d->L->defs.n && !d->found; i++)
        if (d->L->defs.at[i]->var == e->var) ir_walk_expr(d->L->defs.at[i]->expr, find_axis, d);
    d->depth--;
}

/* Tasks that differ only along a grid axis must not write the same elements. */
static void check_once(struct lower *L, const struct node *n, const struct ir_stmt *s)
{
    int64_t tiles;
    if (L->has_iter || s->mode == MODE_atomic) return;
    for (int g = 0; g < L->grid.n; g++) {
        struct laxis *x = L->grid.at[g];
        struct depends d = {L, x, false, 0};
        if (x == L->combining || (ir_const_int(axis_tiles(L, x), &tiles) && tiles == 1 && x->cluster <= 1)) continue;
        for (int i = 0; i < s->index.n; i++) ir_walk_expr(s->index.at[i], find_axis, &d);
        if (s->mask) ir_walk_expr(s->mask, find_axis, &d);
        if (d.found) continue;
        diag_error(L->d, n->span, "tasks along '%s' all write %s", x->name, lower_text(L, n->a->span));
        diag_note(L->d, x->span, "index it with %s, or say `combine %s { ... }` to merge the parts, or `atomic %s += ...`",
                  x->name, x->name, lower_text(L, n->a->span));
        return;
    }
}

static bool index_covers(struct lower *L, const struct ir_stmt *s, const struct node *n)
{
    struct ir_axis *axes[2 * IR_RANK];
    int naxes = 0;
    for (int i = 0; i < s->index.n; i++)
        for (int k = 0; k < s->index.at[i]->naxes && naxes < COUNT(axes); k++) axes[naxes++] = s->index.at[i]->axes[k];
    return covered(L, s->expr, axes, naxes, s->tensor->name, n->span) &&
           (!s->mask || covered(L, s->mask, axes, naxes, s->tensor->name, n->span));
}

static void store(struct lower *L, const struct node *n, struct ir_expr *e, struct ir_expr *mask, enum ir_mode mode, enum ir_reduce op)
{
    struct ir_tensor *t;
    struct ir_expr *index[IR_RANK];
    if (!lower_place(L, n->a, &t, index)) return;
    e = lower_convert(L, e, t->type, n->b->span, t->name);
    if (is_bad(e)) return;
    if (t->dir == 0) {
        diag_error(L->d, n->a->span, "'%s' is an input; it cannot be written", t->name);
        diag_note(L->d, t->span, "declared here; say `out` or `inout`");
        return;
    }
    struct ir_stmt probe = {.tensor = t, .expr = e, .mask = mask, .mode = mode};
    for (int i = 0; i < t->rank; i++) vec_push(L->a, &probe.index, index[i]);
    if (!index_covers(L, &probe, n)) return;
    check_once(L, n, &probe);
    struct ir_stmt *s = lower_emit(L, S_store, n->span);
    s->tensor = t;
    s->expr = e;
    s->mask = mask;
    s->mode = mode;
    s->num = op;
    s->boxes = mode == MODE_atomic ? 0 : (int)tune_number(L, "boxes", t->name, 0);
    s->flag = mode == MODE_add && tune_number(L, "ahead", t->name, 0);
    s->index.at = probe.index.at;
    s->index.n = s->index.cap = probe.index.n;
    if (mode == MODE_atomic && type_is_float(t->type)) L->fn->order_dependent = true;
}

/* ---- fills ---- */

static void lower_fill(struct lower *L, const struct node *n, struct sym *s)
{
    if (s->field->pipe != L->producing) {
        diag_error(L->d, n->span, "'%s' is a field of pipe '%s'; it is set in `produce %s { ... }`", s->name, s->field->pipe->name,
                   s->field->pipe->name);
        return;
    }
    for (int i = 0; n->a->kind == N_index && i < n->a->list.n; i++) {
        const struct node *k = n->a->list.at[i];
        struct laxis *x = lower_axis_name(L, k->kind == N_binary ? k->a : k);
        if (n->a->list.n == s->naxes && x && (x == s->axes[i] || k->kind == N_binary)) continue;
        diag_error(L->d, n->a->span, "'%s' holds [%s]", s->name, lower_axes_text(L, s->axes, s->naxes));
        diag_note(L->d, s->span, "declared here; `%s = ...` without indices means the same", s->name);
        return;
    }
    L->filling = s;
    struct ir_expr *e = lower_expr(L, n->b), *c = n->c ? lower_cond(L, n->c) : NULL;
    struct ir_expr *v = n->d ? lower_expr(L, n->d) : c ? ir_int(L->a, 0) : NULL;
    L->filling = NULL;
    if (is_bad(e) || (v && is_bad(v))) return;
    e = lower_convert(L, choose(L, e, c, v, n->span), s->field->type, n->b->span, s->name);
    if (is_bad(e) || !covered(L, e, s->field->axes, s->field->naxes, s->name, n->b->span)) return;
    struct ir_stmt *f = lower_emit(L, S_fill, n->span);
    f->field = s->field;
    f->expr = e;
}

/* ---- assignment ---- */

static void lower_assign(struct lower *L, const struct node *n)
{
    struct sym *s = place_name(L, n->a);
    if (!s) return;
    if (s->kind == SYM_field) {
        lower_fill(L, n, s);
        return;
    }
    struct ir_expr *e = lower_expr(L, n->b), *c = n->c ? lower_cond(L, n->c) : NULL, *v = n->d ? lower_expr(L, n->d) : NULL;
    if (is_bad(e) || (c && is_bad(c)) || (v && is_bad(v))) return;
    switch (s->kind) {
    case SYM_var:
        if (c && !v) v = ir_get(L->a, s->var); /* where without else: the others keep their value */
        set_var(L, n->a, s, choose(L, e, c, v, n->span), n->flag);
        return;
    case SYM_shared:
        if (n->flag) e = lower_add(L, lower_expr(L, n->a), e, n->span);
        if (!is_bad(e)) put_shared(L, n->a, s, choose(L, e, c, v, n->span), v ? NULL : c, MODE_set, RED_sum, NULL);
        return;
    case SYM_tensor: case SYM_view:
        store(L, n, choose(L, e, c, v, n->span), v ? NULL : c, n->flag ? MODE_add : MODE_set, RED_sum);
        return;
    default:
        diag_error(L->d, n->a->span, "'%s' cannot be set", s->name);
        if (s->kind == SYM_expr) diag_note(L->d, s->span, "declare it with `var` to change it");
    }
}

static bool atomic_op(struct lower *L, const struct node *n, enum ir_reduce *op)
{
    static const struct { const char *name; enum ir_reduce op; } ops[] = {
        {"max", RED_max}, {"min", RED_min}, {"and", RED_and}, {"or", RED_or}, {"xor", RED_xor}, {"exch", RED_exch}, {"add", RED_sum},
    };
    *op = RED_sum;
    if (!n->text) return true;
    for (int i = 0; i < COUNT(ops); i++)
        if (!strcmp(ops[i].name, n->text)) {
            *op = ops[i].op;
            return true;
        }
    diag_error(L->d, n->span, "no atomic operation '%s'", n->text);
    diag_note(L->d, n->span, "there are max, min, and, or, xor, exch, and `atomic x += ...`");
    return false;
}

static void fetch(struct lower *L, const struct node *n, struct ir_expr *e, enum ir_reduce op, struct ir_var *old)
{
    struct ir_tensor *t;
    struct ir_expr *index[IR_RANK];
    if (!lower_place(L, n->a, &t, index)) return;
    old->type = t->type;
    e = lower_convert(L, e, t->type, n->b->span, t->name);
    if (is_bad(e)) return;
    struct ir_stmt *s = lower_emit(L, S_fetch, n->span);
    s->tensor = t;
    s->expr = e;
    s->num = op;
    s->mode = MODE_atomic;
    s->var = old;
    for (int i = 0; i < t->rank; i++) vec_push(L->a, &s->index, index[i]);
    L->fn->order_dependent = true;
}

/* atomic place += value; `old`, unless NULL, receives what was there. */
static void lower_atomic(struct lower *L, const struct node *n, struct ir_var *old)
{
    enum ir_reduce op;
    struct sym *s = place_name(L, n->a);
    struct ir_expr *e = lower_expr(L, n->b);
    if (!s || is_bad(e) || !atomic_op(L, n, &op)) return;
    if (s->kind == SYM_shared) {
        if (old) {
            old->type = s->shared->type;
            L->fn->order_dependent = true;
        }
        put_shared(L, n->a, s, e, NULL, MODE_atomic, op, old);
    } else if (s->kind == SYM_tensor || s->kind == SYM_view) {
        if (old) fetch(L, n, e, op, old);
        else store(L, n, e, NULL, MODE_atomic, op);
    } else {
        diag_error(L->d, n->a->span, "'%s' is neither a tensor nor a shared array", s->name);
        diag_note(L->d, n->span, "atomic is for what several threads may reach");
    }
}

/* ---- declarations ---- */

static struct sym *name_var(struct lower *L, struct ir_var *v, const char *name, struct span at, bool mutable)
{
    struct sym *s = lower_name(L, name, SYM_var, at);
    s->var = v;
    s->mutable = mutable;
    v->span = at;
    return s;
}

static void lower_let_stmt(struct lower *L, const struct node *n)
{
    const struct node *first = n->list.at[0];
    if (n->a->kind == N_atomic) {
        struct ir_var *v = ir_new_var(L->a, L->fn, first->name, TY_i32);
        lower_atomic(L, n->a, v);
        v->multiple = 1;
        name_var(L, v, first->name, first->span, false);
        return;
    }
    if (n->list.n == 1) {
        struct ir_expr *e = lower_expr(L, n->a);
        lower_name_expr(L, first->name, lower_keep(L, first->name, e), first->span);
        return;
    }
    struct ir_expr *out[IR_RANK] = {0};
    int got = n->a->kind == N_call ? lower_inline(L, n->a, NULL, 0, out, IR_RANK) : 1;
    if (got >= 0 && got != n->list.n) diag_error(L->d, n->span, "%d names for %d value%s", n->list.n, got, got == 1 ? "" : "s");
    for (int i = 0; i < n->list.n; i++) {
        struct ir_expr *e = i < got && out[i] ? out[i] : lower_bad(L);
        lower_name_expr(L, n->list.at[i]->name, lower_keep(L, n->list.at[i]->name, e), n->list.at[i]->span);
    }
}

static void lower_var(struct lower *L, const struct node *n)
{
    struct ir_expr *e = lower_expr(L, n->a);
    struct ir_var *v = ir_new_var(L->a, L->fn, n->name, is_bad(e) ? TY_i32 : e->type == TY_bool ? TY_bool : e->type);
    for (int i = 0; i < e->naxes; i++) v->axes[v->naxes++] = e->axes[i];
    name_var(L, v, n->name, n->name_span, true);
    if (!is_bad(e)) lower_let(L, v, e, n->span);
}

static struct sym *declare_tile(struct lower *L, const struct node *n)
{
    enum type t = lower_type(L, n);
    if (t == TY_none) return NULL;
    struct ir_var *v = ir_new_var(L->a, L->fn, n->name, t);
    struct sym *s = name_var(L, v, n->name, n->name_span.hi ? n->name_span : n->span, true);
    for (int i = 0; i < n->list.n && i < IR_RANK; i++) {
        struct laxis *x = lower_axis_name(L, n->list.at[i]);
        if (!x || !x->ir->tile) {
            diag_error(L->d, n->list.at[i]->span, "a tile is declared over axes with tiles; '%s' is none", lower_text(L, n->list.at[i]->span));
            L->scope = s->next;
            return NULL;
        }
        s->axes[s->naxes++] = x;
        if (!x->scalar) v->axes[v->naxes++] = x->ir;
    }
    return s;
}

static void lower_accum(struct lower *L, const struct node *n)
{
    struct sym *s = declare_tile(L, n);
    if (!s) return;
    s->var->accum = true;
    s->var->slots = (int)tune_number(L, "slots", n->name, 1);
    s->var->flip = tune_number(L, "flip", n->name, 0) != 0;
    struct ir_expr *e = n->a ? lower_expr(L, n->a) : NULL;
    if (!e || is_bad(e)) return;
    e = lower_convert(L, e, s->var->type, n->a->span, n->name);
    if (!is_bad(e) && covered(L, e, s->var->axes, s->var->naxes, n->name, n->a->span)) lower_let(L, s->var, e, n->span);
}

/* The value is read before the name exists: f32 top[m] = max(top[m], ...) means the outer one. */
static void lower_tile(struct lower *L, const struct node *n)
{
    struct ir_expr *e = lower_expr(L, n->a), *c = n->c ? lower_cond(L, n->c) : NULL, *v = n->d ? lower_expr(L, n->d) : NULL;
    struct sym *s = declare_tile(L, n);
    if (!s || is_bad(e) || (c && is_bad(c)) || (v && is_bad(v))) return;
    if (c && !v) {
        diag_error(L->d, n->c->span, "a new tile needs a value everywhere");
        diag_note(L->d, n->c->span, "say what it holds elsewhere: where ... else 0");
        return;
    }
    e = lower_convert(L, choose(L, e, c, v, n->span), s->var->type, n->a->span, n->name);
    if (!is_bad(e) && covered(L, e, s->var->axes, s->var->naxes, n->name, n->a->span)) lower_let(L, s->var, e, n->span);
}

/* ---- control ---- */

static void lower_inside(struct lower *L, ir_block *b, const struct node *n)
{
    ir_block *keep = L->block;
    struct sym *scope = L->scope;
    L->block = b;
    lower_stmt(L, n);
    L->block = keep;
    L->scope = scope;
}

static void lower_for_range(struct lower *L, const struct node *n)
{
    struct ir_expr *lo = lower_scalar(L, n->a->a), *hi = lower_scalar(L, n->a->b);
    struct ir_expr *step = n->a->c ? lower_scalar(L, n->a->c) : ir_int(L->a, 1);
    if (is_bad(lo) || is_bad(hi) || is_bad(step)) return;
    struct ir_stmt *s = lower_emit(L, S_for, n->span);
    s->var = ir_new_var(L->a, L->fn, n->name, TY_i32);
    s->var->span = n->name_span;
    s->var->multiple = 1;
    s->expr = lo;
    s->expr2 = hi;
    s->step = step;
    s->num = tune_number(L, "unroll", n->name, 0);
    struct sym *keep = L->scope;
    lower_name_expr(L, n->name, ir_get(L->a, s->var), n->name_span);
    lower_inside(L, &s->body, n->b);
    L->scope = keep;
}

static void lower_for(struct lower *L, const struct node *n)
{
    if (n->a) {
        lower_for_range(L, n);
        return;
    }
    struct sym *s = lower_find(L, n->name);
    if (s && s->kind == SYM_axis) axis_walk(L, s->axis, n->b, n->span);
    else {
        diag_error(L->d, n->name_span, "'%s' is no axis", n->name);
        diag_note(L->d, n->span, "`for x in lo .. hi` counts; `for k` walks the tiles of a declared axis");
    }
}

/* A condition as one truth value. No statement may stand before a loop's condition: it is evaluated again and again. */
static struct ir_expr *lower_truth(struct lower *L, const struct node *n, bool again)
{
    ir_block *keep = L->block;
    if (again) L->block = NULL;
    struct ir_expr *e = lower_cond(L, n);
    L->block = keep;
    if (is_bad(e) || !e->naxes) return e;
    diag_error(L->d, n->span, "one truth value is needed here; this differs along '%s'", e->axes[0]->name);
    diag_note(L->d, n->span, "mask a tile with `where`, or reduce the condition: any(%s: ...), all(%s: ...)", e->axes[0]->name, e->axes[0]->name);
    return lower_bad(L);
}

static void lower_if(struct lower *L, const struct node *n)
{
    struct ir_expr *c = lower_truth(L, n->a, false);
    if (is_bad(c)) return;
    struct sym *keep = L->scope;
    if (c->kind == E_const) { /* known at compile time: the other side may make no sense */
        if (c->num) lower_stmt(L, n->b);
        else if (n->c) lower_stmt(L, n->c);
        L->scope = keep;
        return;
    }
    struct ir_stmt *s = lower_emit(L, S_if, n->span);
    s->expr = c;
    lower_inside(L, &s->body, n->b);
    if (n->c) lower_inside(L, &s->other, n->c);
}

static void lower_while(struct lower *L, const struct node *n)
{
    struct ir_expr *c = lower_truth(L, n->a, true);
    if (is_bad(c)) return;
    struct ir_stmt *s = lower_emit(L, S_while, n->span);
    s->expr = c;
    lower_inside(L, &s->body, n->b);
}

static void lower_par(struct lower *L, const struct node *n)
{
    struct ir_expr *lo = lower_scalar(L, n->a->a), *hi = lower_scalar(L, n->a->b);
    if (is_bad(lo) || is_bad(hi)) return;
    struct ir_stmt *s = lower_emit(L, S_par, n->span);
    s->var = ir_new_var(L->a, L->fn, n->name, TY_i32);
    s->var->span = n->name_span;
    s->var->multiple = 1;
    s->expr = lo;
    s->expr2 = hi;
    struct sym *keep = L->scope;
    lower_name_expr(L, n->name, ir_get(L->a, s->var), n->name_span);
    lower_inside(L, &s->body, n->b);
    L->scope = keep;
}

static void lower_scan(struct lower *L, const struct node *n)
{
    struct ir_expr *lo = lower_scalar(L, n->a->a), *hi = lower_scalar(L, n->a->b);
    struct sym *to = place_name(L, n->b), *keep = L->scope;
    if (!to || is_bad(lo) || is_bad(hi)) return;
    bool plain = to->kind == SYM_shared && to->shared->rank == 1 && n->b->list.n == 1 && n->b->list.at[0]->kind == N_name &&
                 n->b->list.at[0]->name == n->name;
    if (!plain) {
        diag_error(L->d, n->b->span, "a scan fills a shared array of rank 1 at its own index");
        diag_note(L->d, n->span, "scan %s in ... x[%s] = ...;", n->name, n->name);
        return;
    }
    struct ir_var *v = ir_new_var(L->a, L->fn, n->name, TY_i32);
    v->multiple = 1;
    lower_name_expr(L, n->name, ir_get(L->a, v), n->name_span);
    ir_block *block = L->block;
    L->block = NULL;
    struct ir_expr *e = lower_convert(L, lower_expr(L, n->c), to->shared->type, n->c->span, to->name);
    L->block = block;
    L->scope = keep;
    if (is_bad(e)) return;
    struct ir_stmt *s = lower_emit(L, S_scan, n->span);
    s->var = v;
    s->expr = lo;
    s->expr2 = hi;
    s->shared = to->shared;
    s->expr3 = e;
}

/* ---- each ---- */

static void name_element(struct lower *L, const struct laxis *x)
{
    struct laxis *element = new(L->a, struct laxis);
    *element = *x;
    element->element = true;
    lower_name(L, x->name, SYM_axis, x->span)->axis = element;
}

static void lower_each(struct lower *L, const struct node *n)
{
    struct sym *of = lower_find(L, n->text), *keep = L->scope;
    if (!of || of->kind != SYM_var || !of->naxes) {
        diag_error(L->d, n->name_span, "'%s' is no tile", n->text);
        return;
    }
    bool same = n->list.n == of->naxes;
    for (int i = 0; same && i < n->list.n; i++) same = lower_axis_name(L, n->list.at[i]) == of->axes[i];
    if (!same) {
        diag_error(L->d, n->name_span, "'%s' holds [%s]", n->text, lower_axes_text(L, of->axes, of->naxes));
        diag_note(L->d, of->span, "declared here; each names its axes in this order");
        return;
    }
    struct ir_expr *mask = n->a ? lower_cond(L, n->a) : NULL;
    if (mask && (is_bad(mask) || !covered(L, mask, of->var->axes, of->var->naxes, n->text, n->a->span))) return;
    struct ir_stmt *s = lower_emit(L, S_each, n->span);
    s->expr = ir_get(L->a, of->var);
    s->mask = mask;
    s->var = ir_new_var(L->a, L->fn, arena_printf(L->a, "%s.each", n->text), of->var->type);
    s->var->multiple = 1;
    for (int i = 0; i < of->var->naxes; i++) vec_push(L->a, &s->axes, of->var->axes[i]);
    for (int i = 0; i < of->naxes; i++) name_element(L, of->axes[i]);
    struct sym *one = lower_name(L, n->text, SYM_single, of->span);
    one->expr = ir_get(L->a, s->var);
    one->naxes = of->naxes;
    memcpy(one->axes, of->axes, sizeof of->axes);
    lower_inside(L, &s->body, n->b);
    L->scope = keep;
}

/* ---- pipes ---- */

static struct ir_pipe *find_pipe(struct lower *L, const struct node *n)
{
    struct sym *s = lower_find(L, n->name);
    if (s && s->kind == SYM_pipe) return s->pipe;
    diag_error(L->d, n->name_span, "no pipe called '%s'", n->name);
    return NULL;
}

static void open_fields(struct lower *L, const struct ir_pipe *p)
{
    for (struct sym *s = L->kernel_scope; s; s = s->next) {
        if (s->kind != SYM_field || s->field->pipe != p) continue;
        struct sym *copy = lower_name(L, s->name + 1, SYM_field, s->span); /* kept hidden under "#name" */
        struct sym *next = copy->next;
        const char *name = intern(s->name + 1);
        *copy = *s;
        copy->next = next;
        copy->name = name;
    }
}

static void missing_fills(struct lower *L, const struct ir_stmt *s, const struct node *n)
{
    for (int f = 0; f < s->pipe->fields.n; f++) {
        int filled = 0;
        for (int i = 0; i < s->body.n; i++) filled += s->body.at[i]->kind == S_fill && s->body.at[i]->field == s->pipe->fields.at[f];
        if (filled == 1) continue;
        diag_error(L->d, n->span, filled ? "'%s' is filled %d times" : "'%s' is not filled here", s->pipe->fields.at[f]->name, filled);
        diag_note(L->d, s->pipe->fields.at[f]->span, "declared here; produce fills every field of its slot once");
    }
}

static void lower_produce(struct lower *L, const struct node *n)
{
    struct ir_pipe *p = find_pipe(L, n), *outer = L->producing;
    if (!p) return;
    struct ir_stmt *s = lower_emit(L, S_produce, n->span);
    s->pipe = p;
    struct sym *keep = L->scope;
    open_fields(L, p);
    L->producing = p;
    int errors = L->d->errors;
    lower_inside(L, &s->body, n->a);
    L->producing = outer;
    L->scope = keep;
    if (L->d->errors == errors) missing_fills(L, s, n);
}

static void lower_consume(struct lower *L, const struct node *n)
{
    struct ir_pipe *p = find_pipe(L, n);
    if (!p) return;
    struct ir_stmt *s = lower_emit(L, S_consume, n->span);
    s->pipe = p;
    struct sym *keep = L->scope;
    open_fields(L, p);
    lower_inside(L, &s->body, n->a);
    L->scope = keep;
}

/* ---- combine ---- */

/* The number of the task with the combined axis left out. */
static struct ir_expr *tile_of_others(struct lower *L, const struct laxis *x)
{
    struct ir_expr *e = ir_int(L->a, 0);
    for (int i = 0; i < L->grid.n; i++) {
        struct laxis *g = L->grid.at[i];
        if (g == x) continue;
        struct ir_expr *n = axis_tiles(L, g);
        if (g->cluster > 1) n = ir_binary(L->a, E_mul, n, ir_int(L->a, g->cluster));
        e = ir_binary(L->a, E_add, ir_binary(L->a, E_mul, e, n), g->ord ? g->ord : ir_int(L->a, 0));
    }
    return e;
}

static void lower_combine(struct lower *L, const struct node *n)
{
    struct sym *a = lower_find(L, n->name);
    struct laxis *x = a && a->kind == SYM_axis ? a->axis : NULL, *outer = L->combining;
    struct ir_expr *part, *parts, *tile;
    int64_t count;
    if (!x || (!n->b && !x->grid)) {
        diag_error(L->d, n->name_span, "'%s' is no axis of the grid", n->name);
        diag_note(L->d, n->span, "combine merges what the tasks along a grid axis made");
        return;
    }
    if (outer) {
        diag_error(L->d, n->span, "a combine inside a combine");
        return;
    }
    part = x->ord;
    parts = n->b ? lower_scalar(L, n->b) : axis_tiles(L, x);
    tile = n->c ? lower_scalar(L, n->c) : tile_of_others(L, x);
    if (is_bad(parts) || is_bad(tile)) return;
    if (!n->b && x->cluster > 1) parts = ir_binary(L->a, E_mul, parts, ir_int(L->a, x->cluster));
    L->combining = x;
    L->combining_parts = !(ir_const_int(parts, &count) && count == 1);
    struct sym *keep = L->scope;
    if (!L->combining_parts) lower_stmt(L, n->a);
    else {
        struct ir_stmt *s = lower_emit(L, S_combine, n->span);
        s->axis = x->ir;
        s->expr = part;
        s->expr2 = parts;
        s->expr3 = tile;
        lower_inside(L, &s->body, n->a);
    }
    L->scope = keep;
    L->combining = NULL;
}

/* ---- the rest ---- */

static void lower_assert(struct lower *L, const struct node *n)
{
    struct ir_expr *c = lower_cond(L, n->a);
    if (is_bad(c)) return;
    while (c->naxes) c = ir_reduce(L->a, RED_all, c->axes[0], c);
    if (c->kind == E_const && c->num) return;
    struct ir_stmt *s = lower_emit(L, S_assert, n->span);
    s->expr = c;
    s->text = n->text;
}

/* Text in which every % is doubled: a single one stands for a value. */
static const char *percents(struct arena *a, const char *text)
{
    char *out = new_n(a, char, 2 * strlen(text) + 1), *to = out;
    for (; *text; text++) {
        if (*text == '%') *to++ = '%';
        *to++ = *text;
    }
    return out;
}

static void lower_print(struct lower *L, const struct node *n)
{
    struct ir_stmt *s = lower_emit(L, S_print, n->span);
    const char *text = "";
    for (int i = 0; i < n->list.n; i++) {
        const struct node *k = n->list.at[i];
        if (k->kind == N_string) {
            text = arena_printf(L->a, "%s%s", text, percents(L->a, k->text));
            continue;
        }
        struct ir_expr *e = lower_expr(L, k);
        if (is_bad(e)) continue;
        /* each single % stands for the next value; two of them would be a percent sign */
        text = arena_printf(L->a, "%s%s%%", text, i && n->list.at[i - 1]->kind != N_string ? " " : "");
        vec_push(L->a, &s->index, e);
    }
    s->text = text;
}

static void lower_shared(struct lower *L, const struct node *n)
{
    struct ir_shared *sh = new(L->a, struct ir_shared);
    sh->name = n->name;
    sh->id = L->fn->shared.n;
    sh->type = lower_type(L, n);
    sh->span = n->name_span.hi ? n->name_span : n->span;
    for (int i = 0; i < n->list.n && i < IR_RANK; i++) {
        struct ir_expr *e = lower_scalar(L, n->list.at[i]);
        int64_t v;
        if (is_bad(e)) return;
        if (!ir_const_int(e, &v) && n->list.n > 1) {
            diag_error(L->d, n->list.at[i]->span, "an extent of '%s' is not known at compile time", n->name);
            diag_note(L->d, n->span, "only a shared array of rank 1 may be sized by the call");
            return;
        }
        sh->dim[sh->rank++] = e;
    }
    vec_push(L->a, &L->fn->shared, sh);
    lower_name(L, n->name, SYM_shared, sh->span)->shared = sh;
}

void lower_block(struct lower *L, const struct node *n)
{
    struct sym *keep = L->scope;
    for (int i = 0; i < n->list.n; i++) lower_stmt(L, n->list.at[i]);
    L->scope = keep;
}

static void lower_atomic_stmt(struct lower *L, const struct node *n) { lower_atomic(L, n, NULL); }

static void stray_return(struct lower *L, const struct node *n)
{
    diag_error(L->d, n->span, "return stands at the end of a function's path");
}

typedef void stmt_fn(struct lower *L, const struct node *n);
static stmt_fn *const handlers[N_COUNT] = {
    [N_block] = lower_block,     [N_for] = lower_for,         [N_while] = lower_while,   [N_if] = lower_if,
    [N_produce] = lower_produce, [N_consume] = lower_consume, [N_par] = lower_par,       [N_scan] = lower_scan,
    [N_each] = lower_each,       [N_combine] = lower_combine, [N_mma] = lower_mma,       [N_accum] = lower_accum,
    [N_tile] = lower_tile,       [N_assign] = lower_assign,   [N_atomic] = lower_atomic_stmt, [N_let] = lower_let_stmt,
    [N_var] = lower_var,         [N_yield] = lower_yield,     [N_return] = stray_return, [N_assert] = lower_assert,
    [N_print] = lower_print,     [N_shared] = lower_shared,
};

static bool is_compound(enum node_kind k)
{
    return k == N_block || k == N_for || k == N_while || k == N_if || k == N_produce || k == N_consume || k == N_par ||
           k == N_each || k == N_combine;
}

void lower_stmt(struct lower *L, const struct node *n)
{
    if (!handlers[n->kind]) {
        diag_error(L->d, n->span, "this is no statement");
        return;
    }
    if (is_compound(n->kind)) {
        struct saved_roots keep = set_roots(L, NULL, 0);
        handlers[n->kind](L, n);
        reset_roots(L, keep);
        return;
    }
    struct saved_roots keep = set_roots(L, &n, 1);
    handlers[n->kind](L, n);
    reset_roots(L, keep);
}
