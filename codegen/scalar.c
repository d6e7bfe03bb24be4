/* scalar - operations and conversions on single values, and scalar expressions. */
#include "codegen/eval.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum reg_class gen_class(enum type t)
{
    if (t == TY_bool) return RC_PRED;
    if (type_bits(t) == 64) return RC_B64;
    return type_is_float(t) && type_bits(t) <= 16 ? RC_B16 : RC_B32;
}

struct opd scalar_reg(struct gen *g, struct opd o, enum type t)
{
    return lir_in_reg(g->l, o, gen_class(t));
}

struct opd scalar_copy(struct gen *g, struct opd x, enum type t)
{
    if (x.kind == OPD_IMM) return x;
    struct opd d = lir_reg(g->l, gen_class(t));
    lir_set(g->l, d, x);
    return d;
}

struct opd scalar_const(enum type t, double real, int64_t num)
{
    if (!type_is_float(t)) return opd_imm(num);
    if (t == TY_f32 || t == TY_tf32) return opd_f32((float)real);
    return opd_imm((int64_t)type_encode(t, real));
}

/* ---- operations */

static const struct op_text {
    const char *f, *s, *u;
} op_text[E_COUNT] = {
#define PTX_OP(kind, f, s, u) [E_##kind] = { f, s, u },
#include "codegen/ptx_ops.def"
};

static bool is_compare(enum ir_expr_kind k)
{
    return k == E_lt || k == E_le || k == E_eq || k == E_ne;
}

static enum reg_class result_class(enum ir_expr_kind k, enum type t)
{
    if (is_compare(k)) return RC_PRED;
    return k == E_popc || k == E_clz ? RC_B32 : gen_class(t);
}

static int width(enum type t)
{
    return type_bits(t) == 64 ? 64 : 32;
}

/* One instruction of the table on n operands of type t (32 or 64 bits wide). */
static struct opd one(struct gen *g, enum ir_expr_kind k, enum type t, const struct opd *a, int n)
{
    const struct op_text *row = &op_text[k];
    const char *text = type_is_float(t) ? row->f : type_kind(t) == TYPE_INT ? row->s : row->u;
    struct opd d = lir_reg(g->l, result_class(k, t)), x[3];
    assert(text);
    for (int i = 0; i < n; i++) x[i] = i == n - 1 && n > 1 ? a[i] : scalar_reg(g, a[i], t);
    if (n == 1) lir_emit(g->l, "%s%d %r, %r", text, width(t), d, x[0]);
    else if (n == 2) lir_emit(g->l, "%s%d %r, %r, %r", text, width(t), d, x[0], x[1]);
    else lir_emit(g->l, "%s%d %r, %r, %r, %r", text, width(t), d, x[0], x[1], x[2]);
    return d;
}

static struct opd on_bools(struct gen *g, enum ir_expr_kind k, const struct opd *a)
{
    struct lir *l = g->l;
    switch ((int)k) {
    case E_not: return lir_pnot(l, a[0]);
    case E_and: return lir_pand(l, a[0], a[1]);
    case E_or: return lir_por(l, a[0], a[1]);
    case E_min: return lir_pand(l, a[0], a[1]);
    case E_max: return lir_por(l, a[0], a[1]);
    case E_eq: return lir_sel(l, a[0], a[1], lir_pnot(l, a[1]), RC_PRED);
    default: return lir_sel(l, a[0], lir_pnot(l, a[1]), a[1], RC_PRED); /* xor, ne */
    }
}

static const char *compare_name(enum ir_expr_kind k)
{
    return k == E_lt ? "lt" : k == E_le ? "le" : k == E_eq ? "eq" : "ne";
}

/* i32, where constants fold. Returns none for what the table does as well. */
static struct opd on_i32(struct gen *g, enum ir_expr_kind k, const struct opd *a)
{
    struct lir *l = g->l;
    switch ((int)k) {
    case E_add: return lir_add(l, a[0], a[1]);
    case E_sub: return lir_sub(l, a[0], a[1]);
    case E_mul: return lir_mul(l, a[0], a[1]);
    case E_div: return lir_div(l, a[0], a[1], false);
    case E_mod: return lir_mod(l, a[0], a[1], false);
    case E_min: return lir_min(l, a[0], a[1]);
    case E_max: return lir_max(l, a[0], a[1]);
    case E_and: return lir_and(l, a[0], a[1]);
    case E_or: return lir_or(l, a[0], a[1]);
    case E_xor: return lir_xor(l, a[0], a[1]);
    case E_neg: return lir_sub(l, opd_imm(0), a[0]);
    case E_fma: return lir_mad(l, a[0], a[1], a[2]);
    case E_lt: case E_le: case E_eq: case E_ne: return lir_cmp(l, compare_name(k), a[0], a[1]);
    default: return (struct opd){ 0 };
    }
}

/* Floor division and modulus of i64 from the truncating ones. */
static struct opd on_i64_floor(struct gen *g, enum ir_expr_kind k, const struct opd *a)
{
    struct lir *l = g->l;
    struct opd b = scalar_reg(g, a[1], TY_i64), x[2] = { scalar_reg(g, a[0], TY_i64), b }, zero = opd_imm(0);
    struct opd r = one(g, E_mod, TY_i64, x, 2), signs[2] = { r, b };
    struct opd s = one(g, E_xor, TY_i64, signs, 2);
    struct opd odd = lir_pand(l, one(g, E_lt, TY_i64, (struct opd[]){ s, zero }, 2), one(g, E_ne, TY_i64, (struct opd[]){ r, zero }, 2));
    if (k == E_mod) return lir_sel(l, odd, lir_add64(l, r, b), r, RC_B64);
    struct opd q = one(g, E_div, TY_i64, x, 2);
    return lir_sel(l, odd, lir_add64(l, q, opd_imm(-1)), q, RC_B64);
}

/* Values of types below 32 bits live in 32-bit registers, extended as their type says. */
static struct opd narrow(struct gen *g, enum type t, struct opd x)
{
    int bits = type_bits(t);
    if (bits >= 32 || t == TY_bool) return x;
    if (x.kind == OPD_IMM) {
        int64_t low = x.imm & ((1ll << bits) - 1);
        return opd_imm(type_kind(t) == TYPE_INT && low >> (bits - 1) ? low - (1ll << bits) : low);
    }
    if (type_kind(t) == TYPE_UINT) return lir_and(g->l, x, opd_imm((1ll << bits) - 1));
    struct opd d = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "bfe.s32 %r, %r, 0, %d", d, x, bits);
    return d;
}

static bool is_shift(enum ir_expr_kind k)
{
    return k == E_shl || k == E_shr;
}

static struct opd on_ints(struct gen *g, enum ir_expr_kind k, enum type t, const struct opd *a, int n)
{
    struct opd x[3];
    for (int i = 0; i < n; i++) x[i] = a[i];
    if (is_shift(k) && width(t) == 64) x[1] = gen_cast(g, TY_u32, TY_i64, x[1]);
    if (k == E_abs && type_kind(t) == TYPE_UINT) return x[0];
    struct opd r = { 0 };
    if (t == TY_i32 || (type_bits(t) < 32 && !is_shift(k))) r = on_i32(g, k, x);
    if (opd_none(r) && t == TY_i64 && (k == E_div || k == E_mod)) r = on_i64_floor(g, k, x);
    if (opd_none(r)) r = one(g, k, t, x, n);
    return is_compare(k) || k == E_popc || k == E_clz ? r : narrow(g, t, r);
}

/* Floats below 32 bits are worked on in f32: exact but for the final rounding (24 bits suffice for twice 11). */
static struct opd on_floats(struct gen *g, enum ir_expr_kind k, enum type t, const struct opd *a, int n)
{
    struct opd x[3];
    bool wide = t == TY_f32 || t == TY_tf32;
    for (int i = 0; i < n; i++) x[i] = wide ? a[i] : gen_cast(g, TY_f32, t, a[i]);
    struct opd r = one(g, k, TY_f32, x, n);
    return wide || is_compare(k) ? r : gen_cast(g, t, TY_f32, r);
}

static struct opd operate(struct gen *g, enum ir_expr_kind k, enum type t, const struct opd *a, int n)
{
    if (t == TY_bool) return on_bools(g, k, a);
    return type_is_float(t) ? on_floats(g, k, t, a, n) : on_ints(g, k, t, a, n);
}

struct opd scalar_binary(struct gen *g, enum ir_expr_kind k, enum type t, struct opd a, struct opd b)
{
    return operate(g, k, t, (struct opd[]){ a, b }, 2);
}

/* The bits of x as another type of the same width. */
static struct opd bits_as(struct gen *g, enum type to, enum type from, struct opd x)
{
    if (x.kind == OPD_IMM) return to == TY_f32 ? (struct opd){ .kind = OPD_IMM, .cls = RC_B32, .id = -1, .imm = x.imm } : opd_imm(x.imm);
    if (gen_class(to) == gen_class(from)) return x;
    return gen_class(to) == RC_B32 ? scalar_to_b32(g, from, x) : scalar_from_b32(g, to, x);
}

static struct opd call_intrinsic(struct gen *g, const struct ir_expr *e, const struct opd *args)
{
    const struct ir_intrinsic *in = e->intrinsic;
    struct opd x[IR_RANK + 2];
    size_t n = strlen(in->text);
    x[0] = lir_reg(g->l, gen_class(in->result));
    for (int i = 0; i < e->nargs; i++) x[i + 1] = scalar_reg(g, args[i], in->args[i]);
    while (n && strchr("; \n\t", in->text[n - 1])) n--;
    lir_emit_args(g->l, arena_strndup(g->arena, in->text, n), x, e->nargs + 1);
    return x[0];
}

struct opd gen_op(struct gen *g, const struct ir_expr *e, const struct opd *args)
{
    switch ((int)e->kind) {
    case E_cast: return gen_cast(g, e->type, e->args[0]->type, args[0]);
    case E_bits: return bits_as(g, e->type, e->args[0]->type, args[0]);
    case E_select: return lir_sel(g->l, args[0], args[1], args[2], gen_class(e->type));
    case E_call: return call_intrinsic(g, e, args);
    default: return operate(g, e->kind, e->args[0]->type, args, e->nargs);
    }
}

/* ---- reductions, pairwise */

static const struct {
    enum ir_expr_kind op;
} reduces[RED_COUNT] = {
    [RED_sum] = { E_add }, [RED_max] = { E_max }, [RED_min] = { E_min }, [RED_any] = { E_or },
    [RED_all] = { E_and }, [RED_and] = { E_and }, [RED_or] = { E_or },   [RED_xor] = { E_xor },
};

struct opd scalar_reduce(struct gen *g, enum ir_reduce op, enum type t, struct opd a, struct opd b)
{
    return scalar_binary(g, reduces[op].op, t, a, b);
}

static int64_t int_bound(enum type t, bool most)
{
    int bits = type_bits(t);
    if (type_kind(t) == TYPE_UINT) return !most ? 0 : bits == 64 ? -1 : (1ll << bits) - 1;
    return most ? (int64_t)((1ull << (bits - 1)) - 1) : -(int64_t)((1ull << (bits - 1)) - 1) - 1;
}

struct opd scalar_identity(enum ir_reduce op, enum type t)
{
    if (op == RED_all) return opd_imm(1);
    if (op == RED_and) return opd_imm(t == TY_bool ? 1 : -1);
    if (op != RED_max && op != RED_min) return scalar_const(t, 0, 0);
    if (t == TY_bool) return opd_imm(op == RED_min);
    if (!type_is_float(t)) return opd_imm(int_bound(t, op == RED_min));
    return scalar_const(t, op == RED_max ? -(double)INFINITY : (double)INFINITY, 0);
}

/* ---- elements in 32-bit registers and in shared memory */

struct opd scalar_to_b32(struct gen *g, enum type t, struct opd x)
{
    if (t == TY_bool) return lir_sel(g->l, x, opd_imm(1), opd_imm(0), RC_B32);
    if (gen_class(t) != RC_B16 || x.kind == OPD_IMM) return x;
    struct opd d = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "cvt.u32.u16 %r, %r", d, x);
    return d;
}

struct opd scalar_from_b32(struct gen *g, enum type t, struct opd x)
{
    if (t == TY_bool) return lir_cmp(g->l, "ne", x, opd_imm(0));
    if (gen_class(t) != RC_B16 || x.kind == OPD_IMM) return x;
    struct opd d = lir_reg(g->l, RC_B16);
    lir_emit(g->l, "cvt.u16.u32 %r, %r", d, x);
    return d;
}

int scalar_bytes(enum type t)
{
    return type_bits(t) < 8 ? 1 : type_bits(t) / 8;
}

/* ".u8" and the like: how an element is loaded so that its register is extended as its type says. */
static const char *load_suffix(enum type t)
{
    static const char *const s[] = { "s8", "s16", "b32", "b64" }, *const u[] = { "u8", "u16", "b32", "b64" };
    int bytes = scalar_bytes(t), i = bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3;
    return type_kind(t) == TYPE_INT && t != TY_bool ? s[i] : u[i];
}

struct opd scalar_load_shared(struct gen *g, enum type t, struct opd addr, int offset, struct opd guard)
{
    struct opd d = lir_reg(g->l, t == TY_bool ? RC_B32 : gen_class(t));
    if (guard.kind == OPD_REG) lir_set(g->l, d, opd_imm(0));
    lir_emit(g->l, "@%r ld.shared.%s %r, [%r+%d]", guard, load_suffix(t), d, addr, offset);
    if (opd_is(guard, 0)) lir_set(g->l, d, opd_imm(0));
    return t == TY_bool ? scalar_from_b32(g, t, d) : d;
}

void scalar_store_shared(struct gen *g, enum type t, struct opd addr, int offset, struct opd v, struct opd guard)
{
    int bits = scalar_bytes(t) * 8;
    struct opd x = t == TY_bool ? scalar_to_b32(g, t, v) : v;
    x = lir_in_reg(g->l, x, t == TY_bool ? RC_B32 : gen_class(t));
    if (bits == 8 && x.cls == RC_B16) { /* a byte goes out of a register that no floating conversion wrote */
        struct opd low = lir_reg(g->l, RC_B16);
        lir_emit(g->l, "and.b16 %r, %r, 255", low, x);
        x = low;
    }
    lir_emit(g->l, "@%r st.shared.b%d [%r+%d], %r", guard, bits, addr, offset, x);
}

/* Shared arrays of run-time size get this much, and a condition that it suffices. */
enum { RUN_TIME_BYTES = 32768 };

static int shared_elements(struct gen *g, const struct ir_shared *s)
{
    int64_t n = 1, d;
    for (int i = 0; i < s->rank; i++) {
        if (ir_const_int(s->dim[i], &d)) n *= d;
        else if (s->dim[i]->kind == E_dim && g->fn->dims.at[s->dim[i]->num].value >= 0) n *= g->fn->dims.at[s->dim[i]->num].value;
        else return -1;
    }
    return (int)n;
}

static void require_room(struct gen *g, const struct ir_shared *s, int elements)
{
    struct image_require r = { .cond = gen_host_expr(g, s->dim[0], s->span, "the size of a shared array"), .span = s->span };
    r.cond = hexpr_then(g->arena, r.cond, HEX_LE, elements);
    r.text = arena_printf(g->arena, "shared %s has at most %d elements", s->name, elements);
    vec_push(g->arena, &g->image->requires, r);
}

static int place_shared(struct gen *g, const struct ir_shared *s)
{
    int n = shared_elements(g, s), bytes = scalar_bytes(s->type);
    if (n < 0 && s->rank != 1) {
        gen_error(g, s->span, "shared array '%s': only an array of one dimension may have a size that is known at run time", s->name);
        n = 1;
    } else if (n < 0) require_room(g, s, n = RUN_TIME_BYTES / bytes);
    return gen_smem(g, n * bytes, 16);
}

struct opd scalar_shared_address(struct gen *g, const struct ir_shared *s, const struct opd *index)
{
    struct eval *v = eval_of(g);
    struct opd at = opd_imm(0);
    if (v->shared_at[s->id] < 0) v->shared_at[s->id] = place_shared(g, s);
    for (int i = 0; i < s->rank; i++) at = lir_mad(g->l, at, i ? gen_scalar(g, s->dim[i]) : opd_imm(0), index[i]);
    at = lir_add(g->l, lir_mul(g->l, at, opd_imm(scalar_bytes(s->type))), opd_imm(v->shared_at[s->id]));
    return lir_in_reg(g->l, lir_add(g->l, g->smem, at), RC_B32);
}

void gen_plan_shared(struct gen *g)
{
    struct eval *v = eval_of(g);
    for (int i = 0; i < g->fn->shared.n; i++)
        if (v->shared_at[g->fn->shared.at[i]->id] < 0) v->shared_at[g->fn->shared.at[i]->id] = place_shared(g, g->fn->shared.at[i]);
}

/* index < size, both ends at once. */
static struct opd below(struct gen *g, struct opd index, struct opd size)
{
    if (index.kind == OPD_IMM && size.kind == OPD_IMM) return opd_imm(index.imm >= 0 && index.imm < size.imm);
    struct opd p = lir_reg(g->l, RC_PRED);
    lir_emit(g->l, "setp.lt.u32 %r, %r, %r", p, lir_in_reg(g->l, index, RC_B32), size);
    return p;
}

/* An element outside the array is not read: both sides of a choice are evaluated. */
struct opd scalar_load_element(struct gen *g, const struct ir_shared *s, const struct opd *index)
{
    struct opd guard = opd_imm(1);
    for (int i = 0; i < s->rank; i++) guard = lir_pand(g->l, guard, below(g, index[i], gen_scalar(g, s->dim[i])));
    return scalar_load_shared(g, s->type, scalar_shared_address(g, s, index), 0, guard);
}

static struct opd load_element(struct gen *g, const struct ir_expr *e)
{
    struct opd index[IR_RANK];
    for (int i = 0; i < e->nargs; i++) index[i] = gen_scalar(g, e->args[i]);
    return scalar_load_element(g, e->shared, index);
}

/* ---- elements of tensors */

struct opd gen_load(struct gen *g, const struct ir_tensor *t, const struct opd *coord, struct opd guard)
{
    struct lir *l = g->l;
    struct opd at = opd_imm(0), policy = gen_policy(g, t);
    for (int d = 0; d < t->rank; d++) {
        guard = lir_pand(l, guard, below(g, coord[d], gen_scalar(g, t->dim[d])));
        at = lir_add64(l, at, lir_mul64(l, lir_widen(l, coord[d]), gen_stride(g, t, d)));
    }
    if (type_bits(t->type) < 8) {
        struct opd bit = lir_reg(l, RC_B32), byte = lir_reg(l, RC_B64), x = lir_reg(l, RC_B32), h = lir_reg(l, RC_B32);
        at = lir_in_reg(l, at, RC_B64);
        lir_emit(l, "cvt.u32.u64 %r, %r", bit, at);
        lir_emit(l, "shr.s64 %r, %r, 1", byte, at);
        lir_set(l, h, opd_imm(0));
        lir_emit(l, "@%r ld.global%s.u8 %r, [%r]%o", guard, gen_hint(policy), h, lir_add64(l, gen_tensor_pointer(g, t), byte), policy);
        lir_emit(l, "shr.u32 %r, %r, %r", x, h, lir_shl(l, lir_and(l, bit, opd_imm(1)), 2));
        return scalar_from_b32(g, t->type, lir_and(l, x, opd_imm(15)));
    }
    struct opd d = lir_reg(l, gen_class(t->type));
    at = lir_add64(l, gen_tensor_pointer(g, t), lir_mul64(l, at, opd_imm(scalar_bytes(t->type))));
    if (!opd_is(guard, 1)) lir_set(l, d, opd_imm(0));
    lir_emit(l, "@%r ld.global%s.%s %r, [%r]%o", guard, gen_hint(policy), load_suffix(t->type), d, at, policy);
    return d;
}

static struct opd load_scalar(struct gen *g, const struct ir_expr *e)
{
    struct opd coord[IR_RANK];
    int from = g->l->code.n;
    for (int i = 0; i < e->nargs; i++) coord[i] = gen_scalar(g, e->args[i]);
    struct opd x = gen_load(g, e->tensor, coord, opd_imm(1));
    if (!e->tensor->dir) hoist_mark(g, NULL, from);
    return x;
}

static struct opd load_slot(struct gen *g, const struct ir_expr *e)
{
    struct opd rel[IR_RANK] = { opd_imm(0) }; /* a field of one element has no axis to walk */
    for (int i = 0; i < e->nargs; i++) rel[i] = lir_sub(g->l, gen_scalar(g, e->args[i]), eval_window(g, e->field->axes[i]));
    int from = g->l->code.n;
    struct opd x = scalar_load_shared(g, e->field->type, lir_in_reg(g->l, pipe_element(g, e->field, rel), RC_B32), 0, opd_imm(1));
    hoist_mark(g, e->field->pipe, from);
    return x;
}

/* ---- axes */

struct opd gen_origin(struct gen *g, const struct ir_axis *x)
{
    if (x->of) return lir_div(g->l, gen_origin(g, x->of), opd_imm(x->div), false);
    return opd_none(g->origin[x->id]) ? opd_imm(0) : g->origin[x->id];
}

struct opd gen_limit(struct gen *g, const struct ir_axis *x)
{
    if (x->of) return lir_div(g->l, lir_add(g->l, gen_limit(g, x->of), opd_imm(x->div - 1)), opd_imm(x->div), false);
    return opd_none(g->limit[x->id]) ? opd_imm(x->tile) : g->limit[x->id];
}

/* The coordinate `each` bound, of a window axis through the axis it looks at. */
static struct opd bound_coord(struct gen *g, const struct ir_axis *x)
{
    struct opd at = eval_bound(g, x);
    if (opd_none(at) && x->of) {
        at = bound_coord(g, x->of);
        if (!opd_none(at)) at = lir_div(g->l, at, opd_imm(x->div), false);
    }
    return at;
}

/* ---- expressions */

static struct opd special(struct gen *g, const char *name)
{
    struct opd d = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "mov.u32 %r, %s", d, name);
    return d;
}

static struct opd get_scalar(struct gen *g, const struct ir_expr *e)
{
    struct ir_var *v = e->var;
    struct opd *r = &g->vars[v->id];
    if (v->naxes) return tile_element(g, e);
    const struct layout *none = NULL;
    struct opd *kept = combine_saved(g, v, &none);
    if (kept) return kept[0];
    if (opd_none(*r)) *r = lir_reg(g->l, gen_class(v->type));
    return *r;
}

static struct opd reduce_to_scalar(struct gen *g, const struct ir_expr *e)
{
    struct layout *none = layout_blocked(g->arena, NULL, 0, 0, 1, g->role->warps);
    return gen_tile(g, e, none)[0];
}

static struct opd map_scalar(struct gen *g, const struct ir_expr *e)
{
    struct opd *args = new_n(g->arena, struct opd, e->nargs + 1);
    for (int i = 0; i < e->nargs; i++) args[i] = gen_scalar(g, e->args[i]);
    return gen_op(g, e, args);
}

struct opd gen_scalar(struct gen *g, const struct ir_expr *e)
{
    struct opd at;
    switch ((int)e->kind) {
    case E_const: return scalar_const(e->type, e->real, e->num);
    case E_dim: return g->dims[e->num];
    case E_arg: return gen_class(e->type) == RC_B16 || e->type == TY_bool ? scalar_from_b32(g, e->type, g->scalars[e->tensor->id]) : g->scalars[e->tensor->id];
    case E_unit: return lir_div(g->l, special(g, "%ctaid.x"), opd_imm(g->fn->cluster > 1 ? g->fn->cluster : 1), true);
    case E_units: return lir_div(g->l, special(g, "%nctaid.x"), opd_imm(g->fn->cluster > 1 ? g->fn->cluster : 1), true);
    case E_rank: return g->cta_rank;
    case E_thread: return g->role->thread;
    case E_coord:
        at = bound_coord(g, e->axis);
        if (opd_none(at)) gen_error(g, e->span, "a coordinate of '%s' is needed as one number here", e->axis->name);
        return opd_none(at) ? opd_imm(0) : at;
    case E_origin: return eval_window(g, e->axis);
    case E_limit: return gen_limit(g, e->axis);
    case E_get: return get_scalar(g, e);
    case E_read: return load_scalar(g, e);
    case E_slot: return load_slot(g, e);
    case E_element: return load_element(g, e);
    case E_reduce: case E_parts: return reduce_to_scalar(g, e);
    default: return map_scalar(g, e);
    }
}
