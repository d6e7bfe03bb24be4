/* check_call - calls: functions of the language, of the author, and instructions. */
#include <string.h>

#include "dsl/check.h"

enum builtin_where { ANY, AXIS, TASK, GIVEN, THREAD };
/* Where a function may be called that has no meaning elsewhere. */
static const struct {
    enum place place;
    const char *name;
} only[] = { [TASK] = { IN_ITER | IN_FN, "an iter or a fn" }, [GIVEN] = { IN_GIVEN, "given" }, [THREAD] = { IN_THREAD, "par and each" } };

enum builtin_type { NONE, JOIN, F32, I32, BOOL, BITS };
static const struct builtin {
    const char *name;
    int least, most, where;
    enum builtin_type type;
} builtins[] = {
#define BUILTIN(name, least, most, where, type, meaning) { #name, least, most, where, type },
#include "dsl/builtins.def"
};

static const struct builtin *builtin_find(const char *name)
{
    for (int i = 0; i < COUNT(builtins); i++)
        if (!strcmp(builtins[i].name, name)) return &builtins[i];
    return NULL;
}

static bool count_args(struct check *c, struct node *n, int least, int most)
{
    int got = n->list.n;
    if (got >= least && (most < 0 || got <= most)) return true;
    if (least == most) diag_error(c->diag, n->span, "'%s' takes %d argument%s, %d given", n->name, least, least == 1 ? "" : "s", got);
    else diag_error(c->diag, n->span, "'%s' takes at least %d arguments, %d given", n->name, least, got);
    return false;
}

static struct info axis_call(struct check *c, struct node *n)
{
    struct info out = { .ty = ty_of(TY_i32) };
    struct node *x = n->list.at[0];
    struct sym *s = x->kind == N_name ? check_use(c, x) : NULL;
    if (s && s->kind == SYM_bad) return bad_info();
    if (!s || s->kind != SYM_axis) {
        diag_error(c->diag, x->span, "'%s' takes an axis%s%s", n->name, s ? "; this is " : "", s ? check_sym_what(s) : "");
        if (!s) check_expr(c, x);
        return bad_info();
    }
    x->decl = s->decl;
    bool tile = strcmp(n->name, "tiles") && strcmp(n->name, "span");
    if (tile && !check_has_tile(s)) {
        diag_error(c->diag, x->span, "axis '%s' has no current tile here", x->name);
        diag_note(c->diag, s->at, "declared here; put it into the grid, or write 'for %s' around", x->name);
        out.bad = true;
    }
    return out;
}

/* A tensor by its name, where an iter or a test takes one whole. */
static struct info tensor_arg(struct check *c, struct node *x)
{
    struct sym *s = x->kind == N_name ? check_find(c, x->name) : NULL;
    if (!s || !s->dims.n) return check_expr(c, x);
    x->decl = s->decl;
    return (struct info){ 0 };
}

static struct info builtin_call(struct check *c, struct node *n, const struct builtin *b)
{
    bool allowed = b->where == ANY || b->where == AXIS || (c->place & only[b->where].place) != 0;
    if (!allowed) diag_error(c->diag, n->span, "'%s' is called in %s only", n->name, only[b->where].name);
    if (!count_args(c, n, b->least, b->most)) {
        for (int i = 0; i < n->list.n; i++) tensor_arg(c, n->list.at[i]);
        return bad_info();
    }
    if (b->where == AXIS) return axis_call(c, n);
    struct info out = { .bad = !allowed };
    for (int i = 0; i < n->list.n; i++) {
        struct info x = !allowed ? tensor_arg(c, n->list.at[i]) : check_expr(c, n->list.at[i]);
        check_merge(c, &out, &x);
        struct node two = { .span = n->span, .a = n->list.at[0], .b = n->list.at[i] };
        if (b->type == JOIN && !out.bad) out.ty = i ? check_join(c, &two, out.ty, x.ty, &out.bad) : x.ty;
        if (b->type == BITS) out.ty = ty_of(!x.ty.type ? TY_none : type_bits(x.ty.type) <= 8 ? TY_u8 : type_bits(x.ty.type) == 16 ? TY_u16
                                              : type_bits(x.ty.type) == 64 ? TY_u64 : TY_u32);
        bool wants_float = b->type == F32;
        if (wants_float && !out.bad && ty_known(x.ty) && !x.ty.literal && (ty_is_integer(x.ty) || !check_has_arithmetic(x.ty))) {
            diag_error(c->diag, n->list.at[i]->span, "'%s' takes f32, this is %s; write f32(...)", n->name, check_ty_text(c, x.ty));
            out.bad = true;
        }
    }
    if (b->type == JOIN && !out.bad && b->least == 1 && !check_has_arithmetic(out.ty)) {
        diag_error(c->diag, n->span, "there is no arithmetic on %s; write f32(...)", check_ty_text(c, out.ty));
        out.bad = true;
    }
    if (b->type == F32) out.ty = ty_of(TY_f32);
    if (b->type == I32) out.ty = ty_of(TY_i32);
    return out;
}

/* Arguments of a fn, iter or intrinsic: as many as it takes, tensors where it indexes them. */
struct info check_call_args(struct check *c, struct node *call, struct node *callee)
{
    struct info out = { 0 };
    call->decl = callee;
    if (!count_args(c, call, callee->list.n, callee->list.n)) {
        diag_note(c->diag, callee->name_span, "'%s' is declared here", callee->name);
        for (int i = 0; i < call->list.n; i++) tensor_arg(c, call->list.at[i]);
        return bad_info();
    }
    for (int i = 0; i < call->list.n; i++) {
        struct node *x = call->list.at[i], *p = callee->list.at[i];
        if (!p->list.n) {
            struct info one = check_expr(c, x);
            check_merge(c, &out, &one);
            if (p->type) check_stored(c, p->name, ty_of(p->type), one, x);
            continue;
        }
        struct sym *s = x->kind == N_name ? check_use(c, x) : NULL;
        if (s && s->kind == SYM_bad) { out.bad = true; continue; }
        if (!s || s->dims.n != p->list.n) {
            diag_error(c->diag, x->span, "'%s' takes a tensor with %d %s here", callee->name, p->list.n, p->list.n == 1 ? "dimension" : "dimensions");
            diag_note(c->diag, p->span, "declared here");
            out.bad = true;
            continue;
        }
        x->decl = s->decl;
    }
    return out;
}

static void count_return(struct node *n, void *ctx)
{
    if (n->kind == N_return) *(int *)ctx = n->list.n;
}

int check_returns(struct node *fn)
{
    int n = 1;
    check_walk(fn->a, count_return, &n);
    return n;
}

static struct info unknown_call(struct check *c, struct node *n)
{
    VEC(const char *) names = { 0 };
    for (int i = 0; i < COUNT(builtins); i++) vec_push(c->arena, &names, builtins[i].name);
    for (int i = 0; i < c->callables.n; i++) vec_push(c->arena, &names, c->callables.at[i]->name);
    const char *near = diag_nearest(n->name, names.at, names.n);
    if (type_find(n->name) == TY_none)
        diag_error(c->diag, n->name_span, "there is no function '%s'%s%s%s", n->name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    for (int i = 0; i < n->list.n; i++) tensor_arg(c, n->list.at[i]);
    return bad_info();
}

struct info check_call(struct check *c, struct node *n)
{
    struct node *callee = check_callable(c, n->name);
    const struct builtin *b = builtin_find(n->name);
    if (!callee && b) return builtin_call(c, n, b);
    if (!callee) return unknown_call(c, n);
    if (callee->kind == N_iter || callee->kind == N_kernel) {
        diag_error(c->diag, n->name_span, "'%s' is %s; it is not called in an expression", n->name, callee->kind == N_iter ? "an iter" : "a kernel");
        diag_note(c->diag, n->name_span, callee->kind == N_iter ? "an iter gives a grid its tasks: grid (...) in %s(...)" : "given x = run %s(...)", n->name);
        return bad_info();
    }
    struct info out = check_call_args(c, n, callee);
    if (callee->kind == N_intrinsic) {
        out.ty = ty_of(callee->type);
    } else if (!out.bad && check_returns(callee) != 1) {
        diag_error(c->diag, n->span, "'%s' gives %d results; take them with let (a, b) = %s(...)", n->name, check_returns(callee), n->name);
        out.bad = true;
    }
    return out;
}
