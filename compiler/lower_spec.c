/* lower_spec - what a kernel means, and how a test fills its inputs. Indices are whole ranges here: an undeclared one runs over
 * the dimension it indexes. */
#include "compiler/lower.h"

#include <string.h>

struct spec_state {
    struct sym *scope;
    ir_block *block;
    const struct node *const *roots;
    int nroots;
};

static struct spec_state enter(struct lower *L, const struct node *const *roots, int n)
{
    struct spec_state keep = {L->scope, L->block, L->roots, L->nroots};
    for (int i = 0; i < L->implicit.n; i++) L->implicit.at[i]->active = false;
    L->block = NULL;
    L->in_spec = true;
    L->roots = roots;
    L->nroots = n;
    return keep;
}

static void leave(struct lower *L, struct spec_state keep)
{
    L->in_spec = false;
    L->scope = keep.scope;
    L->block = keep.block;
    L->roots = keep.roots;
    L->nroots = keep.nroots;
}

static struct ir_tensor *written(const struct ir_expr *left)
{
    while (left->kind == E_reduce) left = left->args[0];
    return left->kind == E_read ? left->tensor : NULL;
}

void lower_spec(struct lower *L, const struct node *n)
{
    if (!lower_when(L, &n->list)) return;
    const struct node *roots[] = {n->a, n->b, n->c, n->d};
    struct spec_state keep = enter(L, roots, COUNT(roots));
    struct ir_spec s = {.exact = n->flag, .tol = n->real, .span = n->span};
    s.left = lower_expr(L, n->a);
    s.value = lower_expr(L, n->b);
    s.where = n->c ? lower_cond(L, n->c) : NULL;
    const struct node *other = n->d;
    while (other && other->kind == N_cond) { /* else (CLEAN ? -inf : any) */
        int64_t c;
        if (!lower_static(L, other->a, &c)) break;
        other = c ? other->b : other->c;
    }
    s.other_any = other && other->kind == N_name && !strcmp(other->name, "any");
    s.other = other && !s.other_any ? lower_expr(L, other) : NULL;
    bool ok = !is_bad(s.left) && !is_bad(s.value) && !(s.where && is_bad(s.where)) && !(s.other && is_bad(s.other));
    struct ir_tensor *t = ok ? written(s.left) : NULL;
    if (ok && !t) diag_error(L->d, n->a->span, "a spec says what an output holds: its left side is a tensor, or a sum over one");
    else if (ok && t->dir == 0) diag_error(L->d, n->a->span, "'%s' is an input: it has no spec", t->name);
    else if (ok) {
        s.value = lower_convert(L, s.value, s.left->type, n->b->span, t->name);
        if (s.other) s.other = lower_convert(L, s.other, s.left->type, n->d->span, t->name);
        if (!is_bad(s.value) && !(s.other && is_bad(s.other))) vec_push(L->a, &L->fn->specs, s);
    }
    leave(L, keep);
}

/* given T = distinct(a, b), sorted(a, b); T[x] = value; T = run kernel(A, B) */
static bool given_run(struct lower *L, const struct node *n, struct ir_given *g)
{
    g->kind = GIVEN_run;
    g->kernel = n->b->name;
    for (int i = 0; i < n->b->list.n; i++) {
        if (n->b->list.at[i]->kind != N_name) {
            diag_error(L->d, n->b->list.at[i]->span, "run takes tensors by name");
            return false;
        }
        vec_push(L->a, &g->args, n->b->list.at[i]->name);
    }
    return true;
}

static bool given_set(struct lower *L, const struct node *n, struct ir_given *g)
{
    g->kind = strcmp(n->b->name, "distinct") ? GIVEN_sorted : GIVEN_distinct;
    if (n->b->list.n != 2) {
        diag_error(L->d, n->b->span, "'%s' takes the first value and the one after the last", n->b->name);
        return false;
    }
    g->lo = lower_scalar(L, n->b->list.at[0]);
    g->hi = lower_scalar(L, n->b->list.at[1]);
    return !is_bad(g->lo) && !is_bad(g->hi);
}

static bool given_value(struct lower *L, const struct node *n, struct ir_given *g)
{
    for (int i = 0; n->a->kind == N_index && i < n->a->list.n; i++) {
        const struct node *k = n->a->list.at[i];
        if (k->kind != N_name) {
            diag_error(L->d, k->span, "an index on the left of given is a plain name");
            return false;
        }
        struct laxis *x = axis_infer(L, k->name, k->span);
        if (!x) return false;
        vec_push(L->a, &g->axes, x->ir);
    }
    g->value = lower_convert(L, lower_expr(L, n->b), g->tensor->type, n->b->span, g->tensor->name);
    return !is_bad(g->value);
}

void lower_given(struct lower *L, const struct node *n)
{
    if (!lower_when(L, &n->list)) return;
    struct sym *s = lower_find(L, n->a->name);
    bool scalar = s && s->kind == SYM_expr && s->expr->kind == E_arg;
    if (!s || (s->kind != SYM_tensor && !scalar)) {
        diag_error(L->d, n->a->span, "'%s' is no argument of this kernel", n->a->name);
        return;
    }
    const struct node *roots[] = {n->a, n->b};
    struct spec_state keep = enter(L, roots, COUNT(roots));
    struct ir_given g = {.tensor = scalar ? s->expr->tensor : s->tensor, .span = n->span};
    bool set = n->b->kind == N_call && (!strcmp(n->b->name, "distinct") || !strcmp(n->b->name, "sorted"));
    bool ok = n->flag ? given_run(L, n, &g) : set ? given_set(L, n, &g) : given_value(L, n, &g);
    if (ok) vec_push(L->a, &L->fn->givens, g);
    leave(L, keep);
}
