/* fold - constants meet at compile time, and operations that change nothing vanish.
 *   3 + 4  →  7      x * 1  →  x      (x * 8) / 4  →  x * 2      true ? a : b  →  a
 * Results are those of the device: integers wrap at their width, division floors, f32 rounds to nearest even. Approximate
 * functions (exp2, rsqrt, ...) are never folded: only the device knows their bits. */
#include "compiler/ir.h"

#include <math.h>

static int64_t wrap(enum type t, uint64_t v)
{
    int bits = type_bits(t);
    if (t == TY_bool) return v != 0;
    if (bits == 64) return (int64_t)v;
    v &= (1ull << bits) - 1;
    bool negative = type_kind(t) == TYPE_INT && v >> (bits - 1);
    return negative ? (int64_t)(v | ~0ull << bits) : (int64_t)v;
}

static double round_to(enum type t, double v)
{
    return isnan(v) ? v : type_decode(t, type_encode(t, v));
}

static struct ir_expr *constant(struct arena *a, const struct ir_expr *like, int64_t num, double real)
{
    struct ir_expr *e = type_is_float(like->type) ? ir_real(a, like->type, round_to(like->type, real))
                                                  : ir_int(a, wrap(like->type, (uint64_t)num));
    e->type = like->type;
    e->span = like->span;
    return e;
}

static bool is_const(const struct ir_expr *e) { return e->kind == E_const; }

/* Integers of two constants; false where it has no value (division by zero). */
static bool int_op(enum ir_expr_kind k, enum type t, int64_t x, int64_t y, int64_t *r)
{
    bool is_unsigned = type_kind(t) == TYPE_UINT;
    switch ((int)k) {
    case E_add: *r = (int64_t)((uint64_t)x + (uint64_t)y); return true;
    case E_sub: *r = (int64_t)((uint64_t)x - (uint64_t)y); return true;
    case E_mul: *r = (int64_t)((uint64_t)x * (uint64_t)y); return true;
    case E_div:
        if (y == 0 || (y == -1 && x == INT64_MIN)) return false;
        *r = is_unsigned ? (int64_t)((uint64_t)x / (uint64_t)y) : floor_div(x, y);
        return true;
    case E_mod:
        if (y == 0 || y == -1) return false;
        *r = is_unsigned ? (int64_t)((uint64_t)x % (uint64_t)y) : floor_mod(x, y);
        return true;
    case E_min: *r = x < y ? x : y; return true;
    case E_max: *r = x > y ? x : y; return true;
    case E_and: *r = x & y; return true;
    case E_or: *r = x | y; return true;
    case E_xor: *r = x ^ y; return true;
    case E_shl: *r = y < 0 || y > 63 ? 0 : (int64_t)((uint64_t)x << y); return true;
    case E_shr: *r = y < 0 || y > 63 ? 0 : is_unsigned ? (int64_t)((uint64_t)x >> y) : x >> y; return true;
    case E_lt: *r = x < y; return true;
    case E_le: *r = x <= y; return true;
    case E_eq: *r = x == y; return true;
    case E_ne: *r = x != y; return true;
    default: return false;
    }
}

static bool real_op(enum ir_expr_kind k, double x, double y, double *r, int64_t *truth)
{
    switch ((int)k) {
    case E_add: *r = x + y; return true;
    case E_sub: *r = x - y; return true;
    case E_mul: *r = x * y; return true;
    case E_div: *r = x / y; return true;
    case E_min: *r = fmin(x, y); return true;
    case E_max: *r = fmax(x, y); return true;
    case E_lt: *truth = x < y; return true;
    case E_le: *truth = x <= y; return true;
    case E_eq: *truth = x == y; return true;
    case E_ne: *truth = x != y; return true;
    default: return false;
    }
}

static struct ir_expr *fold_two(struct arena *a, struct ir_expr *e)
{
    const struct ir_expr *x = e->args[0], *y = e->args[1];
    int64_t num = 0;
    double real = 0;
    bool ok = type_is_float(x->type) ? real_op(e->kind, x->real, y->real, &real, &num)
                                     : int_op(e->kind, x->type, x->num, y->num, &num);
    return ok ? constant(a, e, num, real) : e;
}

static struct ir_expr *cast_const(struct arena *a, struct ir_expr *e)
{
    const struct ir_expr *x = e->args[0];
    bool from = type_is_float(x->type), to = type_is_float(e->type);
    if (from && !to) {
        if (!(fabs(x->real) < 1e9)) return e;
        return constant(a, e, (int64_t)x->real, 0);
    }
    return constant(a, e, x->num, from ? x->real : (double)x->num);
}

static struct ir_expr *fold_one(struct arena *a, struct ir_expr *e)
{
    const struct ir_expr *x = e->args[0];
    switch ((int)e->kind) {
    case E_neg: return constant(a, e, (int64_t)(0 - (uint64_t)x->num), -x->real);
    case E_not: return constant(a, e, x->type == TY_bool ? !x->num : ~x->num, 0);
    case E_abs: return constant(a, e, x->num < 0 ? -x->num : x->num, fabs(x->real));
    case E_cast: return cast_const(a, e);
    case E_popc: return constant(a, e, __builtin_popcountll((uint64_t)x->num & (~0ull >> (64 - type_bits(x->type)))), 0);
    default: return e;
    }
}

static bool int_is(const struct ir_expr *e, int64_t v)
{
    return is_const(e) && !type_is_float(e->type) && e->num == v;
}
static bool is_one(const struct ir_expr *e)
{
    return is_const(e) && (type_is_float(e->type) ? e->real == 1 : e->num == 1);
}

/* The constant that an integer expression `kind(inner, c)` ends in. */
static bool tail(const struct ir_expr *e, enum ir_expr_kind kind, int64_t *c)
{
    return e->kind == kind && !type_is_float(e->type) && ir_const_int(e->args[1], c);
}

static struct ir_expr *with_const(struct arena *a, enum ir_expr_kind k, struct ir_expr *x, int64_t c)
{
    struct ir_expr *n = ir_int(a, c);
    n->type = x->type;
    n->span = x->span;
    return ir_binary(a, k, x, n);
}

/* Integers only: (x + 1) + 2, (x * 8) / 4, (x * 8) % 4, ... */
static struct ir_expr *fold_chain(struct arena *a, struct ir_expr *e)
{
    int64_t c, d;
    struct ir_expr *x = e->args[0];
    if (type_is_float(e->type) || type_kind(e->type) == TYPE_UINT || !ir_const_int(e->args[1], &d)) return e;
    switch ((int)e->kind) {
    case E_add:
        if (tail(x, E_add, &c)) return with_const(a, E_add, x->args[0], c + d);
        if (tail(x, E_sub, &c)) return with_const(a, E_add, x->args[0], d - c);
        return e;
    case E_sub:
        if (tail(x, E_add, &c)) return with_const(a, E_add, x->args[0], c - d);
        return e;
    case E_mul: return tail(x, E_mul, &c) ? with_const(a, E_mul, x->args[0], c * d) : e;
    case E_div:
        if (tail(x, E_mul, &c) && d > 0 && c % d == 0) return with_const(a, E_mul, x->args[0], c / d);
        if (tail(x, E_div, &c) && d > 0 && c > 0) return with_const(a, E_div, x->args[0], c * d);
        return e;
    case E_mod: return tail(x, E_mul, &c) && d > 0 && c % d == 0 ? constant(a, e, 0, 0) : e;
    default: return e;
    }
}

static bool commutes(enum ir_expr_kind k)
{
    return k == E_add || k == E_mul || k == E_and || k == E_or || k == E_xor;
}

static struct ir_expr *fold_neutral(struct arena *a, struct ir_expr *e)
{
    struct ir_expr *x = e->args[0], *y = e->args[1];
    if (is_const(x) && !is_const(y) && commutes(e->kind) && !type_is_float(e->type)) {
        e->args[0] = y;
        e->args[1] = x;
        x = e->args[0];
        y = e->args[1];
    }
    bool truth = e->type == TY_bool;
    switch ((int)e->kind) {
    case E_add: return int_is(y, 0) ? x : fold_chain(a, e);
    case E_sub: return int_is(y, 0) ? x : fold_chain(a, e);
    case E_mul:
        if (is_one(y)) return x;
        if (is_one(x)) return y;
        return int_is(y, 0) ? constant(a, e, 0, 0) : fold_chain(a, e);
    case E_div: return is_one(y) ? x : fold_chain(a, e);
    case E_mod: return int_is(y, 1) ? constant(a, e, 0, 0) : fold_chain(a, e);
    case E_and:
        if (int_is(y, 0)) return constant(a, e, 0, 0);
        return truth && int_is(y, 1) ? x : e;
    case E_or:
        if (int_is(y, 0)) return x;
        return truth && int_is(y, 1) ? constant(a, e, 1, 0) : e;
    case E_xor: return int_is(y, 0) ? x : e;
    case E_shl: case E_shr: return int_is(y, 0) ? x : e;
    default: return e;
    }
}

struct ir_expr *ir_fold(struct arena *a, struct ir_expr *e)
{
    if (e->kind == E_select) return is_const(e->args[0]) ? e->args[e->args[0]->num ? 1 : 2] : e;
    if (e->nargs == 1) return is_const(e->args[0]) ? fold_one(a, e) : e;
    if (e->nargs != 2 || e->kind == E_read || e->kind == E_slot || e->kind == E_element || e->kind == E_call) return e;
    return is_const(e->args[0]) && is_const(e->args[1]) ? fold_two(a, e) : fold_neutral(a, e);
}
