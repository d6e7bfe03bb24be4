/* ir - building the tile IR, and questions about single expressions. */
#include "compiler/ir.h"

#include <string.h>

static const struct {
    const char *name;
    int nargs;
} exprs[E_COUNT] = {
#define EXPR(name, nargs, meaning) [E_##name] = {#name, nargs},
#define STMT(name, slots, meaning)
#include "compiler/ops.def"
};
static const char *const stmts[S_COUNT] = {
#define EXPR(name, nargs, meaning)
#define STMT(name, slots, meaning) [S_##name] = #name,
#include "compiler/ops.def"
};

const char *ir_expr_name(enum ir_expr_kind k) { return exprs[k].name; }
int ir_expr_nargs(enum ir_expr_kind k) { return exprs[k].nargs; }
const char *ir_stmt_name(enum ir_stmt_kind k) { return stmts[k]; }

void ir_add_axis(struct ir_expr *e, struct ir_axis *axis)
{
    int at = 0;
    while (at < e->naxes && e->axes[at]->id < axis->id) at++;
    if (at < e->naxes && e->axes[at] == axis) return;
    if (e->naxes == IR_RANK) return; /* the verifier reports it: the type lacks an axis of an operand */
    memmove(&e->axes[at + 1], &e->axes[at], sizeof e->axes[0] * (size_t)(e->naxes - at));
    e->axes[at] = axis;
    e->naxes++;
}

static void drop_axis(struct ir_expr *e, const struct ir_axis *axis)
{
    int n = 0;
    for (int i = 0; i < e->naxes; i++)
        if (e->axes[i] != axis) e->axes[n++] = e->axes[i];
    e->naxes = n;
}

static struct ir_expr *fresh(struct arena *a, enum ir_expr_kind k, enum type t)
{
    struct ir_expr *e = new(a, struct ir_expr);
    e->kind = k;
    e->type = t;
    return e;
}

struct ir_expr *ir_int(struct arena *a, int64_t v)
{
    struct ir_expr *e = fresh(a, E_const, TY_i32);
    e->num = v;
    return e;
}

struct ir_expr *ir_real(struct arena *a, enum type t, double v)
{
    struct ir_expr *e = fresh(a, E_const, t);
    e->real = v;
    return e;
}

struct ir_expr *ir_leaf(struct arena *a, enum ir_expr_kind k, struct ir_axis *axis)
{
    struct ir_expr *e = fresh(a, k, TY_i32);
    e->axis = axis;
    if (k == E_coord) ir_add_axis(e, axis);
    return e;
}

struct ir_expr *ir_get(struct arena *a, struct ir_var *v)
{
    struct ir_expr *e = fresh(a, E_get, v->type);
    e->var = v;
    for (int i = 0; i < v->naxes; i++) ir_add_axis(e, v->axes[i]);
    return e;
}

/* Unfolded: the caller fills tensor, field, ... before ir_fold may look. */
struct ir_expr *ir_make(struct arena *a, enum ir_expr_kind k, enum type t, int n, struct ir_expr *const *args, struct span at)
{
    struct ir_expr *e = fresh(a, k, t);
    e->span = at;
    e->nargs = n;
    e->args = new_n(a, struct ir_expr *, n ? n : 1);
    for (int i = 0; i < n; i++) {
        e->args[i] = args[i];
        for (int j = 0; j < args[i]->naxes; j++) ir_add_axis(e, args[i]->axes[j]);
    }
    return exprs[k].nargs > 0 && k != E_reduce && k != E_parts ? ir_fold(a, e) : e;
}

static enum type unary_type(enum ir_expr_kind k, const struct ir_expr *x)
{
    return k == E_popc || k == E_clz ? TY_i32 : x->type;
}

struct ir_expr *ir_unary(struct arena *a, enum ir_expr_kind k, struct ir_expr *x)
{
    return ir_make(a, k, unary_type(k, x), 1, &x, x->span);
}

static bool compares(enum ir_expr_kind k)
{
    return k == E_lt || k == E_le || k == E_eq || k == E_ne;
}

struct ir_expr *ir_binary(struct arena *a, enum ir_expr_kind k, struct ir_expr *x, struct ir_expr *y)
{
    struct ir_expr *args[] = {x, y};
    return ir_make(a, k, compares(k) ? TY_bool : x->type, 2, args, x->span.hi ? x->span : y->span);
}

struct ir_expr *ir_cast(struct arena *a, enum type t, struct ir_expr *x)
{
    return x->type == t ? x : ir_make(a, E_cast, t, 1, &x, x->span);
}

struct ir_expr *ir_reduce(struct arena *a, enum ir_reduce op, struct ir_axis *axis, struct ir_expr *x)
{
    struct ir_expr *e = ir_make(a, E_reduce, x->type, 1, &x, x->span);
    e->num = op;
    e->axis = axis;
    drop_axis(e, axis);
    return e;
}

bool ir_const_int(const struct ir_expr *e, int64_t *v)
{
    if (!e || e->kind != E_const || type_is_float(e->type)) return false;
    *v = e->num;
    return true;
}

bool ir_has_axis(const struct ir_expr *e, const struct ir_axis *axis)
{
    for (int i = 0; i < e->naxes; i++)
        if (e->axes[i] == axis) return true;
    return false;
}

/* Products stay small enough to be multiplied again: a divisor that is too small is still true. */
static int64_t product(int64_t x, int64_t y)
{
    return x > (1 << 30) || y > (1 << 30) ? (x > y ? x : y) : x * y;
}

static int64_t quotient_divisor(const struct ir_fn *fn, const struct ir_expr *e)
{
    int64_t by, x = ir_divisor(fn, e->args[0]);
    if (!ir_const_int(e->args[1], &by) || by == 0) return 1;
    return x % by == 0 ? x / (by < 0 ? -by : by) : 1;
}

int64_t ir_divisor(const struct ir_fn *fn, const struct ir_expr *e)
{
    int64_t c;
    switch ((int)e->kind) {
    case E_const: return type_is_float(e->type) ? 1 : e->num < 0 ? -e->num : e->num;
    case E_dim: return fn->dims.at[e->num].value >= 0 ? fn->dims.at[e->num].value : fn->dims.at[e->num].multiple;
    case E_origin: return e->axis->align > 0 ? e->axis->align : 1;
    case E_get: return e->var->multiple > 0 ? e->var->multiple : 1;
    case E_neg: case E_cast: return ir_divisor(fn, e->args[0]);
    case E_add: case E_sub: case E_min: case E_max:
        return gcd(ir_divisor(fn, e->args[0]), ir_divisor(fn, e->args[1]));
    case E_mod: return gcd(ir_divisor(fn, e->args[0]), ir_divisor(fn, e->args[1]));
    case E_select: return gcd(ir_divisor(fn, e->args[1]), ir_divisor(fn, e->args[2]));
    case E_mul: return product(ir_divisor(fn, e->args[0]), ir_divisor(fn, e->args[1]));
    case E_shl: return ir_const_int(e->args[1], &c) && c >= 0 && c < 30 ? product(ir_divisor(fn, e->args[0]), 1ll << c) : 1;
    case E_div: return quotient_divisor(fn, e);
    case E_reduce: return e->num == RED_max || e->num == RED_min || e->num == RED_sum ? ir_divisor(fn, e->args[0]) : 1;
    default: return 1;
    }
}

static const char *unique(struct arena *a, const struct ir_fn *fn, const char *name)
{
    const char *found = name;
    for (int n = 2;; n++) {
        int i = 0;
        while (i < fn->vars.n && fn->vars.at[i]->name != found) i++;
        if (i == fn->vars.n) return found;
        found = intern(arena_printf(a, "%s.%d", name, n));
    }
}

struct ir_var *ir_new_var(struct arena *a, struct ir_fn *fn, const char *name, enum type t)
{
    struct ir_var *v = new(a, struct ir_var);
    v->name = unique(a, fn, intern(name));
    v->id = fn->vars.n;
    v->type = t;
    v->slots = 1;
    vec_push(a, &fn->vars, v);
    return v;
}

struct ir_var *ir_var_like(struct arena *a, struct ir_fn *fn, const char *name, const struct ir_var *v)
{
    struct ir_var *w = ir_new_var(a, fn, name, v->type), own = *w;
    *w = *v;
    w->name = own.name;
    w->id = own.id;
    w->cg = NULL;
    return w;
}

struct ir_stmt *ir_stmt(struct arena *a, ir_block *b, enum ir_stmt_kind k, struct span at)
{
    struct ir_stmt *s = new(a, struct ir_stmt);
    s->kind = k;
    s->span = at;
    vec_push(a, b, s);
    return s;
}
