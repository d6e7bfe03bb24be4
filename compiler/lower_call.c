/* lower_call - built-in functions, intrinsics, and the inlining of the author's own. */
#include "compiler/lower.h"

#include <math.h>
#include <string.h>

#define MAX_ARGS 8
#define MAX_CALLS 32 /* inlined bodies inside one another: more is recursion */

/* ---- built-in functions ---- */

typedef struct ir_expr *builtin_fn(struct lower *L, const struct node *n, enum ir_expr_kind k);

static bool lower_args(struct lower *L, const struct node *n, struct ir_expr **args)
{
    bool ok = true;
    for (int i = 0; i < n->list.n && i < MAX_ARGS; i++) ok &= !is_bad(args[i] = lower_expr(L, n->list.at[i]));
    return ok;
}

static struct ir_expr *not_float(struct lower *L, const struct node *n, enum type t)
{
    diag_error(L->d, n->span, "%s works on f32, this value is %s", n->name, type_name(t));
    diag_note(L->d, n->span, "write f32(...) to convert it");
    return lower_bad(L);
}

static struct ir_expr *float_arg(struct lower *L, const struct node *n)
{
    struct ir_expr *x = lower_expr(L, n->list.at[0]);
    if (is_bad(x) || x->type == TY_f32) return x;
    return x->kind == E_const ? lower_convert(L, x, TY_f32, n->span, n->name) : not_float(L, n, x->type);
}

static struct ir_expr *float_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    struct ir_expr *x = float_arg(L, n);
    return is_bad(x) ? x : ir_make(L->a, k, TY_f32, 1, &x, n->span);
}

static struct ir_expr *exp_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    struct ir_expr *x = float_arg(L, n);
    if (is_bad(x)) return x;
    x = ir_binary(L->a, E_mul, x, ir_real(L->a, TY_f32, (double)(float)M_LOG2E));
    return ir_make(L->a, k, TY_f32, 1, &x, n->span);
}

static struct ir_expr *same_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    struct ir_expr *x = lower_expr(L, n->list.at[0]);
    if (is_bad(x)) return x;
    if (type_is_float(x->type) && x->type != TY_f32) return not_float(L, n, x->type);
    return ir_make(L->a, k, x->type, 1, &x, n->span);
}

static struct ir_expr *fold_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    struct ir_expr *args[MAX_ARGS];
    if (!lower_args(L, n, args)) return lower_bad(L);
    struct ir_expr *e = args[0];
    for (int i = 1; i < n->list.n; i++) {
        struct ir_expr *pair[] = {e, args[i]};
        if (!lower_unify(L, &pair[0], &pair[1], n->span)) return lower_bad(L);
        if (type_is_float(pair[0]->type) && pair[0]->type != TY_f32) return not_float(L, n, pair[0]->type);
        e = ir_make(L->a, k, pair[0]->type, 2, pair, n->span);
    }
    return e;
}

static struct ir_expr *fma_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    struct ir_expr *args[MAX_ARGS];
    if (!lower_args(L, n, args)) return lower_bad(L);
    for (int i = 0; i < 3; i++) {
        if (args[i]->kind == E_const) args[i] = lower_convert(L, args[i], TY_f32, n->span, n->name);
        if (args[i]->type != TY_f32) return not_float(L, n, args[i]->type);
    }
    return ir_make(L->a, k, TY_f32, 3, args, n->span);
}

static struct ir_expr *select_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    struct ir_expr *args[] = {lower_cond(L, n->list.at[0]), lower_expr(L, n->list.at[1]), lower_expr(L, n->list.at[2])};
    if (is_bad(args[0]) || !lower_unify(L, &args[1], &args[2], n->span)) return lower_bad(L);
    return ir_make(L->a, k, args[1]->type, 3, args, n->span);
}

static struct ir_expr *cdiv_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    struct ir_expr *x = lower_int(L, n->list.at[0]), *y = lower_int(L, n->list.at[1]);
    if (is_bad(x) || is_bad(y)) return lower_bad(L);
    int64_t by;
    if (ir_const_int(y, &by) && by > 0 && ir_divisor(L->fn, x) % by == 0) return ir_binary(L->a, k, x, y);
    struct ir_expr *up = ir_binary(L->a, E_sub, ir_binary(L->a, E_add, x, y), ir_int(L->a, 1));
    return ir_binary(L->a, k, up, y);
}

static struct ir_expr *bits_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    struct ir_expr *x = lower_expr(L, n->list.at[0]);
    if (is_bad(x)) return x;
    int b = type_bits(x->type);
    return ir_make(L->a, k, b <= 8 ? TY_u8 : b == 16 ? TY_u16 : b == 32 ? TY_u32 : TY_u64, 1, &x, n->span);
}

static struct ir_expr *count_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    struct ir_expr *x = lower_expr(L, n->list.at[0]);
    if (is_bad(x)) return x;
    if (type_is_float(x->type)) {
        diag_error(L->d, n->span, "%s works on integers, this value is %s", n->name, type_name(x->type));
        diag_note(L->d, n->span, "bits(...) gives the bits of a float");
        return lower_bad(L);
    }
    return ir_make(L->a, k, TY_i32, 1, &x, n->span);
}

static struct ir_expr *leaf_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    if (L->in_spec && (k == E_unit || k == E_units)) diag_error(L->d, n->span, "a spec says what a kernel computes, not by whom: '%s' has no value in it", n->name);
    struct ir_expr *e = ir_leaf(L->a, k, NULL);
    e->span = n->span;
    return e;
}

static struct laxis *axis_arg(struct lower *L, const struct node *n)
{
    struct laxis *x = lower_axis_name(L, n->list.at[0]);
    if (x) return x;
    diag_error(L->d, n->list.at[0]->span, "%s(...) takes the name of an axis", n->name);
    return NULL;
}

static struct laxis *bound_arg(struct lower *L, const struct node *n)
{
    struct laxis *x = axis_arg(L, n);
    if (!x || x->bound) return x;
    diag_error(L->d, n->span, "axis '%s' has no current tile here", x->name);
    diag_note(L->d, x->span, "walk it with `for %s`, or name it in the grid", x->name);
    return NULL;
}

static struct ir_expr *lo_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    (void)k;
    struct laxis *x = bound_arg(L, n);
    return x ? axis_origin(L, x) : lower_bad(L);
}

static struct ir_expr *hi_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    (void)k;
    struct laxis *x = bound_arg(L, n);
    return x ? axis_end(L, x) : lower_bad(L);
}

static struct ir_expr *ord_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    (void)k;
    struct laxis *x = bound_arg(L, n);
    return !x ? lower_bad(L) : x->ord ? x->ord : ir_int(L->a, 0);
}

static struct ir_expr *tiles_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    (void)k;
    struct laxis *x = axis_arg(L, n);
    return x ? axis_tiles(L, x) : lower_bad(L);
}

static struct ir_expr *span_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    (void)k;
    struct laxis *x = axis_arg(L, n);
    if (!x) return lower_bad(L);
    axis_tile(L, x);
    return ir_int(L->a, (int64_t)x->ir->tile * (x->cluster > 1 ? x->cluster : 1));
}

/* One description for all calls of an intrinsic in a kernel; blank when new. */
static struct ir_intrinsic *named_intrinsic(struct lower *L, const char *name)
{
    for (int i = 0; i < L->intrinsics.n; i++)
        if (L->intrinsics.at[i]->name == name) return L->intrinsics.at[i];
    struct ir_intrinsic *r = new(L->a, struct ir_intrinsic);
    r->name = name;
    vec_push(L->a, &L->intrinsics, r);
    return r;
}

static struct ir_expr *rand_call(struct lower *L, const struct node *n, enum ir_expr_kind k)
{
    struct ir_expr *args[] = {lower_int(L, n->list.at[0]), lower_int(L, n->list.at[1])};
    if (is_bad(args[0]) || is_bad(args[1])) return lower_bad(L);
    if (!L->in_spec) {
        diag_error(L->d, n->span, "rand(...) has a meaning in `given` only");
        return lower_bad(L);
    }
    struct ir_expr *e = ir_make(L->a, k, TY_i32, 2, args, n->span);
    e->intrinsic = named_intrinsic(L, intern("rand"));
    *e->intrinsic = (struct ir_intrinsic){.name = intern("rand"), .text = "", .result = TY_i32, .nargs = 2, .args = {TY_i32, TY_i32}};
    return e;
}

static const struct {
    const char *name;
    int fewest, most;
    builtin_fn *run;
    enum ir_expr_kind kind;
} builtins[] = {
#define BUILTIN(name, fewest, most, run, kind, meaning) {#name, fewest, most, run, kind},
#include "compiler/builtins.def"
};

static bool wrong_count(struct lower *L, const struct node *n, int fewest, int most)
{
    if (n->list.n >= fewest && n->list.n <= most) return false;
    diag_error(L->d, n->span, "'%s' takes %d argument%s, %d given", n->name, fewest, fewest == 1 ? "" : "s", n->list.n);
    return true;
}

/* ---- intrinsics ---- */

static bool on_target(struct lower *L, const struct node *x, const struct node *n)
{
    if (!x->list2.n) return true;
    for (int i = 0; i < x->list2.n; i++)
        if (target_matches(L->target, x->list2.at[i]->name)) return true;
    diag_error(L->d, n->span, "intrinsic '%s' does not exist on %s", x->name, L->target->name);
    diag_note(L->d, x->span, "declared here with the targets that have it");
    return false;
}

static struct ir_expr *intrinsic_call(struct lower *L, const struct node *n, const struct node *x)
{
    struct ir_expr *args[MAX_ARGS];
    if (wrong_count(L, n, x->list.n, x->list.n) || !on_target(L, x, n) || !lower_args(L, n, args)) return lower_bad(L);
    struct ir_intrinsic *r = named_intrinsic(L, x->name);
    *r = (struct ir_intrinsic){.name = x->name, .text = x->text, .result = x->type, .nargs = x->list.n, .effect = x->flag};
    for (int i = 0; i < x->list.n; i++) {
        r->args[i] = x->list.at[i]->type;
        args[i] = lower_convert(L, args[i], r->args[i], n->list.at[i]->span, x->list.at[i]->name);
        if (is_bad(args[i])) return args[i];
    }
    struct ir_expr *e = ir_make(L->a, E_call, x->type, x->list.n, args, n->span);
    e->intrinsic = r;
    return e;
}

/* ---- fn: the body in place of the call ---- */

/* A tensor or shared array goes by its name; its dimensions' names become the sizes. */
static bool pass_by_name(struct lower *L, struct sym *outer, const struct node *arg, const struct node *parm)
{
    struct sym *keep = L->scope;
    L->scope = outer;
    struct sym *s = arg->kind == N_name ? lower_find(L, arg->name) : NULL;
    L->scope = keep;
    if (!s || (s->kind != SYM_tensor && s->kind != SYM_shared && s->kind != SYM_view)) return false;
    if (s->kind == SYM_tensor && s->tensor->rank == 0) return false;
    struct sym *alias = lower_name(L, parm->name, s->kind, s->span);
    struct sym *next = alias->next;
    *alias = *s;
    alias->name = parm->name;
    alias->next = next;
    int rank = s->kind == SYM_tensor ? s->tensor->rank : s->kind == SYM_shared ? s->shared->rank : 0;
    struct ir_expr *const *dim = s->kind == SYM_tensor ? s->tensor->dim : s->kind == SYM_shared ? s->shared->dim : NULL;
    if (rank && parm->list.n && parm->list.n != rank)
        diag_error(L->d, arg->span, "'%s' wants a tensor of rank %d, '%s' has rank %d", parm->name, parm->list.n, arg->name, rank);
    else
        for (int i = 0; i < rank && i < parm->list.n; i++)
            if (parm->list.at[i]->kind == N_name) lower_name_expr(L, parm->list.at[i]->name, dim[i], arg->span);
    return true;
}

bool lower_bind_args(struct lower *L, struct sym *outer, const struct node *call, const struct node *f,
                     struct ir_expr *const *first, int nfirst, int skip)
{
    if (call->list.n - skip + nfirst != f->list.n) {
        diag_error(L->d, call->span, "'%s' takes %d arguments, %d given", f->name, f->list.n, call->list.n - skip + nfirst);
        diag_note(L->d, f->name_span.hi ? f->name_span : f->span, "declared here");
        return false;
    }
    struct sym *inner = L->scope;
    bool ok = true;
    for (int i = 0; i < f->list.n; i++) {
        const struct node *parm = f->list.at[i];
        if (i < nfirst) {
            lower_name_expr(L, parm->name, first[i], call->span);
            continue;
        }
        const struct node *arg = call->list.at[i - nfirst + skip];
        if (pass_by_name(L, outer, arg, parm)) continue;
        if (parm->list.n) {
            diag_error(L->d, arg->span, "'%s' wants a tensor here", f->name);
            ok = false;
            continue;
        }
        inner = L->scope;
        L->scope = outer;
        struct ir_expr *e = lower_expr(L, arg);
        ok &= !is_bad(e);
        e = lower_keep(L, parm->name, e);
        L->scope = inner;
        lower_name_expr(L, parm->name, e, arg->span);
    }
    return ok;
}

static int tail(struct lower *L, const nodes *list, int at, struct ir_expr **out, int max);

static int return_values(struct lower *L, const struct node *n, struct ir_expr **out, int max)
{
    int k = 0;
    for (; k < n->list.n && k < max; k++) out[k] = lower_expr(L, n->list.at[k]);
    return k;
}

/* `if c return x;` at the end of a body: a choice between what is returned. */
static int tail_if(struct lower *L, const struct node *n, const nodes *list, int at, struct ir_expr **out, int max)
{
    struct ir_expr *c = lower_cond(L, n->a), *other[MAX_ARGS];
    nodes then = {.at = (struct node **)&n->b, .n = 1}, rest = {.at = (struct node **)&n->c, .n = 1};
    if (is_bad(c)) return -1;
    if (c->kind == E_const && c->num) return tail(L, &then, 0, out, max);
    struct sym *keep = L->scope;
    int k = c->kind == E_const ? -2 : tail(L, &then, 0, out, max);
    L->scope = keep;
    int m = n->c ? tail(L, &rest, 0, other, max) : tail(L, list, at + 1, other, max);
    L->scope = keep;
    if (k == -2) {
        for (int i = 0; i < m; i++) out[i] = other[i];
        return m;
    }
    if (k != m) return -1;
    for (int i = 0; i < k; i++) {
        if (!lower_unify(L, &out[i], &other[i], n->span)) return -1;
        struct ir_expr *args[] = {c, out[i], other[i]};
        out[i] = ir_make(L->a, E_select, out[i]->type, 3, args, n->span);
    }
    return k;
}

static bool returns(const struct node *n)
{
    if (n->kind == N_return) return true;
    if (n->kind == N_if) return returns(n->b);
    return n->kind == N_block && n->list.n && returns(n->list.at[n->list.n - 1]);
}

/* The values a list of statements returns from `at` on: their number, or -1. */
static int tail(struct lower *L, const nodes *list, int at, struct ir_expr **out, int max)
{
    for (int i = at; i < list->n; i++) {
        const struct node *s = list->at[i];
        if (s->kind == N_return) return return_values(L, s, out, max);
        if (s->kind == N_block && returns(s)) return tail(L, &s->list, 0, out, max);
        if (s->kind == N_if && returns(s)) return tail_if(L, s, list, i, out, max);
        lower_stmt(L, s);
    }
    return -1;
}

/* Inlines a call of the author's function: `first` stand before the call's arguments (the first of which is dropped when
 * there are any: the axis that an order names). The number of results, or -1 with a message. */
int lower_inline(struct lower *L, const struct node *call, struct ir_expr *const *first, int nfirst, struct ir_expr **out, int max)
{
    const struct node *f = lower_top(L, N_fn, call->name);
    if (!f) {
        diag_error(L->d, call->name_span.hi ? call->name_span : call->span, "no function called '%s'", call->name);
        return -1;
    }
    if (L->calls >= MAX_CALLS) {
        diag_error(L->d, call->span, "'%s' calls itself", call->name);
        diag_note(L->d, f->span, "functions are put in place of their calls, so none may lead back to itself");
        return -1;
    }
    struct sym *outer = L->scope;
    L->scope = L->file_scope;
    L->calls++;
    int n = -1;
    if (lower_bind_args(L, outer, call, f, first, nfirst, nfirst ? 1 : 0)) {
        int before = L->d->errors;
        n = tail(L, &f->a->list, 0, out, max);
        if (n < 0 && L->d->errors == before) diag_error(L->d, f->span, "'%s' does not end in a return on every path", f->name);
        for (int i = 0; i < n; i++)
            if (is_bad(out[i])) n = -1;
    }
    L->calls--;
    L->scope = outer;
    return n;
}

static struct ir_expr *own_call(struct lower *L, const struct node *n)
{
    struct ir_expr *out[MAX_ARGS];
    int k = lower_inline(L, n, NULL, 0, out, MAX_ARGS);
    if (k == 1) return out[0];
    if (k > 1) {
        diag_error(L->d, n->span, "'%s' gives %d results; one is needed here", n->name, k);
        diag_note(L->d, n->span, "take them apart: let (a, b) = %s(...)", n->name);
    }
    return lower_bad(L);
}

struct ir_expr *lower_call(struct lower *L, const struct node *n)
{
    const struct node *x = lower_top(L, N_intrinsic, n->name);
    if (lower_top(L, N_fn, n->name)) return own_call(L, n);
    if (x) return intrinsic_call(L, n, x);
    for (int i = 0; i < COUNT(builtins); i++)
        if (!strcmp(builtins[i].name, n->name))
            return wrong_count(L, n, builtins[i].fewest, builtins[i].most) ? lower_bad(L) : builtins[i].run(L, n, builtins[i].kind);
    const char *names[COUNT(builtins)];
    for (int i = 0; i < COUNT(builtins); i++) names[i] = builtins[i].name;
    const char *near = diag_nearest(n->name, names, COUNT(builtins));
    diag_error(L->d, n->name_span.hi ? n->name_span : n->span, "no function called '%s'", n->name);
    if (near) diag_note(L->d, n->span, "did you mean '%s'?", near);
    return lower_bad(L);
}
