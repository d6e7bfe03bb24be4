/* check_spec - what a kernel means, and how its test inputs are made. */
#include "dsl/check.h"

static void letters_in(struct node *n, void *ctx)
{
    struct check *c = ctx;
    if (n->kind != N_name || check_find(c, n->name) || check_param_word(c, n->name) || n->name == intern("inf")) return;
    n->decl = n;
    check_declare(c, SYM_letter, n->name, n->span, n)->ty.type = TY_i32;
}

/* Names of a left side that nothing declares are its indices: they run over what they index. */
static void left_letters(struct check *c, struct node *left)
{
    struct node *x = left->kind == N_reduce ? left->a : left;
    for (int i = 0; i < x->list.n && x->kind == N_index; i++) check_walk(x->list.at[i], letters_in, c);
}

static void when(struct check *c, const nodes *list)
{
    enum place before = c->place;
    c->place = IN_HOST;
    for (int i = 0; i < list->n; i++) check_truth(c, list->at[i], "when");
    c->place = before;
}

static bool is_any(const struct node *n)
{
    return n && n->kind == N_name && n->name == intern("any");
}

/* else any, else (c ? v : any): `any` says that the element is not compared. */
static void else_value(struct check *c, struct node *n, struct sym *target, struct ty ty)
{
    if (!n || is_any(n)) return;
    if (n->kind == N_cond && (is_any(n->b) || is_any(n->c))) {
        check_truth(c, n->a, "'?'");
        else_value(c, n->b, target, ty);
        else_value(c, n->c, target, ty);
        return;
    }
    struct info v = check_expr(c, n);
    if (target) check_stored(c, target->name, ty, v, n);
}

void check_spec(struct check *c, struct node *n)
{
    c->place = IN_SPEC;
    when(c, &n->list);
    struct scope outer, scope;
    check_open(c, &outer);
    struct node *left = n->a;
    if (left->kind == N_reduce) {
        for (int i = 0; i < left->list.n; i++) {
            struct node *b = left->list.at[i];
            check_declare(c, SYM_letter, b->name, b->name_span, b)->ty.type = TY_i32;
            if (b->a) check_integer(c, b->a->a, "a bound"), check_integer(c, b->a->b, "a bound");
        }
        left = left->a;
    }
    check_open(c, &scope);
    if (left->kind != N_index) {
        diag_error(c->diag, n->a->span, "the left side of a spec is an output with its indices: D[i, j]");
    } else {
        left_letters(c, left);
        struct info l = check_index(c, left, true);
        struct sym *s = check_find(c, left->name), *arg = s && s->kind == SYM_view ? s->base : s;
        if (!l.bad && arg && (arg->kind != SYM_arg || arg->node->flag == 0)) {
            diag_error(c->diag, left->name_span, "a spec says what an output holds; '%s' is %s", left->name, arg->kind == SYM_arg ? "in" : check_sym_what(arg));
            diag_note(c->diag, arg->at, "declared here");
        }
        struct info v = check_expr(c, n->b);
        bool narrow = n->a->kind == N_reduce && type_is_float(l.ty.type) && l.ty.type != TY_f32;
        if (narrow) diag_error(c->diag, n->a->span, "there is no sum of %s; a spec of sums is of f32 outputs", type_name(l.ty.type));
        else if (!l.bad) check_stored(c, s->name, l.ty, v, n->b);
        if (n->c) check_truth(c, n->c, "where");
        else_value(c, n->d, l.bad ? NULL : s, l.ty);
    }
    check_close(c);
    check_close(c);
    c->place = IN_KERNEL;
}

static void run_call(struct check *c, struct node *call)
{
    struct node *k = check_callable(c, call->name);
    if (!k || k->kind != N_kernel) {
        VEC(const char *) names = { 0 };
        for (int i = 0; i < c->callables.n; i++)
            if (c->callables.at[i]->kind == N_kernel) vec_push(c->arena, &names, c->callables.at[i]->name);
        const char *near = diag_nearest(call->name, names.at, names.n);
        diag_error(c->diag, call->name_span, "there is no kernel '%s'%s%s%s", call->name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
        return;
    }
    call->decl = k;
    int ins = 0;
    for (int i = 0; i < k->list2.n; i++) ins += k->list2.at[i]->flag == 0;
    if (ins != call->list.n) {
        diag_error(c->diag, call->span, "kernel '%s' takes %d input%s, %d given", k->name, ins, ins == 1 ? "" : "s", call->list.n);
        diag_note(c->diag, k->name_span, "declared here");
    }
    for (int i = 0; i < call->list.n; i++) {
        struct node *x = call->list.at[i];
        struct sym *s = x->kind == N_name ? check_use(c, x) : NULL;
        if (s) x->decl = s->decl;
        if (s && (s->kind == SYM_bad || s->kind == SYM_arg)) continue;
        diag_error(c->diag, x->span, "run takes arguments of this kernel by name");
    }
}

void check_given(struct check *c, struct node *n)
{
    c->place = IN_GIVEN;
    when(c, &n->list);
    struct scope scope;
    check_open(c, &scope);
    struct node *left = n->a;
    left_letters(c, left);
    struct sym *s;
    for (int i = 0; i < left->list.n; i++)
        if (left->list.at[i]->kind != N_name) {
            diag_error(c->diag, left->list.at[i]->span, "an index on the left of given is a name");
            check_close(c);
            c->place = IN_KERNEL;
            return;
        }
    if (left->kind == N_index) {
        check_index(c, left, true);
        s = check_find(c, left->name);
    } else {
        s = check_use(c, left);
        left->decl = s->decl;
    }
    if (s && s->kind != SYM_bad && (s->kind != SYM_arg || s->node->flag == 1)) {
        diag_error(c->diag, left->name_span, "given says how an input is made; '%s' is %s", left->name, s->kind == SYM_arg ? "out" : check_sym_what(s));
        diag_note(c->diag, s->at, "declared here");
    }
    if (n->flag) {
        run_call(c, n->b);
    } else {
        struct info v = check_expr(c, n->b);
        if (s && s->kind == SYM_arg && type_is_float(v.ty.type) && s->ty.type && !type_is_float(s->ty.type))
            check_stored(c, s->name, s->ty, v, n->b);
    }
    check_close(c);
    c->place = IN_KERNEL;
}

void check_speccheck(struct check *c, struct node *n)
{
    c->place = IN_CHECK;
    check_block(c, n->a);
    c->place = IN_KERNEL;
}
