/* convert - casts between element types: by one instruction where the target has it, else exactly by integer code. */
#include "codegen/eval.h"

static bool is_fp8(enum type t)
{
    return t == TY_e4m3 || t == TY_e5m2;
}

static struct opd emit2(struct gen *g, const char *fmt, enum reg_class c, struct opd x)
{
    struct opd d = lir_reg(g->l, c);
    lir_emit(g->l, fmt, d, x);
    return d;
}

static struct opd emit3(struct gen *g, const char *fmt, enum reg_class c, struct opd x, struct opd y)
{
    struct opd d = lir_reg(g->l, c);
    lir_emit(g->l, fmt, d, x, y);
    return d;
}

static void split16(struct gen *g, struct opd word, struct opd *out)
{
    out[0] = lir_reg(g->l, RC_B16);
    out[1] = lir_reg(g->l, RC_B16);
    lir_emit(g->l, "mov.b32 %R, %r", out, 2, word);
}

static struct opd join16(struct gen *g, struct opd low, struct opd high)
{
    struct opd in[2] = { lir_in_reg(g->l, low, RC_B16), lir_in_reg(g->l, high, RC_B16) }, d = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "mov.b32 %r, %R", d, in, 2);
    return d;
}

/* ---- to f32 */

static struct opd from_f16(struct gen *g, struct opd x)
{
    return emit2(g, "cvt.f32.f16 %r, %r", RC_B32, x);
}

/* A narrow float's bits moved to where an f16 has them, then scaled by the difference of the biases: exact. */
static struct opd by_f16_bits(struct gen *g, struct opd x, int magnitude, int sign, int shift, float scale)
{
    struct lir *l = g->l;
    struct opd w = scalar_to_b32(g, TY_e4m3, x);
    struct opd h = lir_shl(l, lir_and(l, w, opd_imm(magnitude)), shift);
    if (sign) h = lir_or(l, h, lir_shl(l, lir_and(l, w, opd_imm(sign)), 8));
    struct opd f = from_f16(g, scalar_from_b32(g, TY_f16, h));
    return scale == 1 ? f : emit3(g, "mul.rn.f32 %r, %r, %r", RC_B32, f, opd_f32(scale));
}

static struct opd e4m3_by_bits(struct gen *g, struct opd x, bool has_sign)
{
    struct opd w = lir_and(g->l, scalar_to_b32(g, TY_e4m3, x), opd_imm(0x7f));
    struct opd f = by_f16_bits(g, x, 0x7f, has_sign ? 0x80 : 0, 7, 256);
    return lir_sel(g->l, lir_cmp(g->l, "eq", w, opd_imm(0x7f)), opd_imm(0x7fffffff), f, RC_B32);
}

static struct opd from_fp8(struct gen *g, enum type t, struct opd x)
{
    if (!target_has(g->target, HAS_CVT_FP8))
        return t == TY_e4m3 ? e4m3_by_bits(g, x, true) : by_f16_bits(g, x, 0x7f, 0x80, 8, 1);
    struct opd h[2], w = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "cvt.rn.f16x2.%s %r, %r", t == TY_e4m3 ? "e4m3x2" : "e5m2x2", w, x);
    split16(g, w, h);
    return from_f16(g, h[0]);
}

/* The eight magnitudes of e2m1 as bytes, 0 .5 1 1.5 2 3 4 6: prmt looks them up. As e4m3, and as the upper byte of f16. */
static const struct byte_table {
    uint32_t low, high;
} e2m1_as_e4m3 = { 0x3c383000, 0x4c484440 }, e2m1_as_f16 = { 0x3e3c3800, 0x46444240 };

static struct opd e2m1_byte(struct gen *g, const struct byte_table *t, struct opd x)
{
    struct lir *l = g->l;
    struct opd w = scalar_to_b32(g, TY_e2m1, x), d = lir_reg(l, RC_B32), at = lir_in_reg(l, lir_and(l, w, opd_imm(7)), RC_B32);
    lir_emit(l, "prmt.b32 %r, %r, %r, %r", d, lir_in_reg(l, opd_imm(t->low), RC_B32), lir_in_reg(l, opd_imm(t->high), RC_B32), at);
    return lir_or(l, lir_and(l, d, opd_imm(0xff)), lir_shl(l, lir_and(l, w, opd_imm(8)), 4));
}

static struct opd e2m1_to_f16(struct gen *g, struct opd x)
{
    return scalar_from_b32(g, TY_f16, lir_shl(g->l, e2m1_byte(g, &e2m1_as_f16, x), 8));
}

static struct opd from_ue8m0(struct gen *g, struct opd x)
{
    struct lir *l = g->l;
    struct opd w = scalar_to_b32(g, TY_ue8m0, x), f = lir_shl(l, w, 23);
    f = lir_sel(l, lir_cmp(l, "eq", w, opd_imm(0)), opd_imm(0x00400000), f, RC_B32);
    return lir_sel(l, lir_cmp(l, "eq", w, opd_imm(255)), opd_imm(0x7fffffff), f, RC_B32);
}

static struct opd float_to_f32(struct gen *g, enum type from, struct opd x)
{
    x = scalar_reg(g, x, from);
    switch ((int)from) {
    case TY_f16: return from_f16(g, x);
    case TY_bf16: return join16(g, opd_imm(0), x);
    case TY_e4m3: case TY_e5m2: return from_fp8(g, from, x);
    case TY_ue4m3: return e4m3_by_bits(g, x, false);
    case TY_e2m1: return from_f16(g, e2m1_to_f16(g, x));
    case TY_ue8m0: return from_ue8m0(g, x);
    default: return x;
    }
}

/* ---- from f32 */

/* How a narrow float is made of an f32's bits. */
struct narrow_format {
    int frac, bias, top, nan; /* fraction bits, bias, largest magnitude's code, code of NaN */
    int sign;                 /* bit of the sign, -1: none */
};
static const struct narrow_format narrow_formats[TY_COUNT] = {
    [TY_e4m3] = { 3, 7, 0x7e, 0x7f, 7 },
    [TY_e5m2] = { 2, 15, 0x7b, 0x7f, 7 },
    [TY_e2m1] = { 1, 1, 7, 7, 3 },
    [TY_ue4m3] = { 3, 7, 0x7e, 0x7f, -1 },
};

/* Rounds to nearest even, saturates. Normal numbers by integer rounding of the f32's bits, subnormal ones by adding 1.5 * 2^23. */
static struct opd narrow_by_bits(struct gen *g, enum type to, struct opd x)
{
    const struct narrow_format *f = &narrow_formats[to];
    struct lir *l = g->l;
    int drop = 23 - f->frac;
    struct opd magnitude = lir_and(l, x, opd_imm(0x7fffffff));
    struct opd odd = lir_and(l, lir_shr_u(l, magnitude, drop), opd_imm(1));
    struct opd rounded = lir_add(l, lir_add(l, magnitude, opd_imm((1 << (drop - 1)) - 1)), odd);
    struct opd normal = lir_sub(l, lir_shr_u(l, rounded, drop), opd_imm((127 - f->bias) << f->frac));
    float unit = (float)(1ll << (f->bias - 1 + f->frac));
    struct opd units = emit3(g, "mul.rn.f32 %r, %r, %r", RC_B32, magnitude, opd_f32(unit));
    struct opd small = lir_sub(l, emit3(g, "add.rn.f32 %r, %r, %r", RC_B32, units, opd_f32(12582912.0f)), opd_imm(0x4b400000));
    struct opd least = opd_imm((int64_t)(128 - f->bias) << 23); /* the smallest normal, as f32 bits */
    struct opd code = lir_min(l, lir_sel(l, lir_cmp(l, "lt", magnitude, least), small, normal, RC_B32), opd_imm(f->top));
    if (f->sign >= 0) code = lir_or(l, code, lir_shl(l, lir_shr_u(l, x, 31), f->sign));
    else code = lir_sel(l, lir_cmp(l, "lt", x, opd_imm(0)), opd_imm(0), code, RC_B32);
    code = lir_sel(l, lir_cmp(l, "gt", magnitude, opd_imm(0x7f800000)), opd_imm(f->nan), code, RC_B32);
    return scalar_from_b32(g, to, code);
}

/* The next power of two up. */
static struct opd to_ue8m0(struct gen *g, struct opd x)
{
    struct lir *l = g->l;
    struct opd m = lir_and(l, x, opd_imm(0x7fffffff));
    struct opd up = lir_min(l, lir_shr_u(l, lir_add(l, m, opd_imm(0x7fffff)), 23), opd_imm(0xfe));
    up = lir_sel(l, lir_cmp(l, "le", m, opd_imm(0x00400000)), opd_imm(0), up, RC_B32);
    up = lir_sel(l, lir_cmp(l, "gt", m, opd_imm(0x7f800000)), opd_imm(0xff), up, RC_B32);
    return scalar_from_b32(g, TY_ue8m0, up);
}

static const char *fp8_pair(enum type t)
{
    return t == TY_e4m3 ? "e4m3x2" : "e5m2x2";
}

static struct opd to_fp8(struct gen *g, enum type to, struct opd x)
{
    struct opd d = lir_reg(g->l, RC_B16);
    lir_emit(g->l, "cvt.rn.satfinite.%s.f32 %r, %r, %r", fp8_pair(to), d, lir_in_reg(g->l, opd_imm(0), RC_B32), x);
    return d;
}

static struct opd f32_to_float(struct gen *g, enum type to, struct opd x)
{
    x = scalar_reg(g, x, TY_f32);
    switch ((int)to) {
    case TY_f16: return emit2(g, "cvt.rn.f16.f32 %r, %r", RC_B16, x);
    case TY_bf16: return emit2(g, "cvt.rn.bf16.f32 %r, %r", RC_B16, x);
    case TY_tf32: return emit2(g, "cvt.rna.tf32.f32 %r, %r", RC_B32, x);
    case TY_e4m3: case TY_e5m2: return target_has(g->target, HAS_CVT_FP8) ? to_fp8(g, to, x) : narrow_by_bits(g, to, x);
    case TY_e2m1: case TY_ue4m3: return narrow_by_bits(g, to, x);
    case TY_ue8m0: return to_ue8m0(g, x);
    default: return x;
    }
}

/* ---- integers */

static const char *int_suffix(enum type t)
{
    bool wide = type_bits(t) == 64;
    return type_kind(t) == TYPE_INT ? (wide ? "s64" : "s32") : (wide ? "u64" : "u32");
}

/* Integers below 32 bits: the low bits, extended again. */
static struct opd wrap(struct gen *g, enum type t, struct opd x)
{
    struct opd d = lir_reg(g->l, RC_B32);
    if (type_bits(t) >= 32) return x;
    lir_emit(g->l, "bfe.%s %r, %r, 0, %d", type_kind(t) == TYPE_INT ? "s32" : "u32", d, x, type_bits(t));
    return d;
}

static bool fits(enum type to, enum type from)
{
    int extra = type_kind(to) == TYPE_INT && type_kind(from) == TYPE_UINT;
    return type_bits(to) >= type_bits(from) + extra && (type_kind(to) == TYPE_INT || type_kind(from) == TYPE_UINT);
}

static struct opd int_to_int(struct gen *g, enum type to, enum type from, struct opd x)
{
    struct opd d = lir_reg(g->l, RC_B64);
    if (x.kind == OPD_IMM && type_bits(to) >= 32) return type_bits(to) == 32 && to == TY_i32 ? opd_imm((int32_t)x.imm) : to == TY_u32 ? opd_imm((uint32_t)x.imm) : x;
    x = scalar_reg(g, x, from);
    if (type_bits(to) == 64) {
        if (type_bits(from) == 64) return x;
        lir_emit(g->l, type_kind(from) == TYPE_INT ? "cvt.s64.s32 %r, %r" : "cvt.u64.u32 %r, %r", d, x);
        return d;
    }
    if (type_bits(from) == 64) x = emit2(g, "cvt.u32.u64 %r, %r", RC_B32, x);
    return fits(to, from) ? x : wrap(g, to, x);
}

static struct opd float_to_int(struct gen *g, enum type to, struct opd x)
{
    struct opd d = lir_reg(g->l, gen_class(to));
    int bits = type_bits(to);
    lir_emit(g->l, "cvt.rzi.%s.f32 %r, %r", int_suffix(to), d, scalar_reg(g, x, TY_f32));
    if (bits >= 32) return d;
    int64_t most = type_kind(to) == TYPE_INT ? (1ll << (bits - 1)) - 1 : (1ll << bits) - 1;
    if (type_kind(to) == TYPE_INT) return lir_max(g->l, lir_min(g->l, d, opd_imm(most)), opd_imm(-most - 1));
    return emit3(g, "min.u32 %r, %r, %r", RC_B32, d, opd_imm(most));
}

static struct opd int_to_f32(struct gen *g, enum type from, struct opd x)
{
    struct opd d = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "cvt.rn.f32.%s %r, %r", int_suffix(from), d, scalar_reg(g, x, from));
    return d;
}

struct opd gen_cast(struct gen *g, enum type to, enum type from, struct opd x)
{
    bool ff = type_is_float(from), ft = type_is_float(to);
    if (to == from) return x;
    if (from == TY_bool) return gen_cast(g, to, TY_i32, scalar_to_b32(g, TY_bool, x));
    if (to == TY_bool) return scalar_binary(g, E_ne, from, x, scalar_const(from, 0, 0));
    if (!ff && !ft) return int_to_int(g, to, from, x);
    if (!ff) return f32_to_float(g, to, int_to_f32(g, from, x));
    if (from == TY_e2m1 && to == TY_f16) return e2m1_to_f16(g, scalar_reg(g, x, from));
    if (from == TY_e2m1 && to == TY_e4m3) return scalar_from_b32(g, to, e2m1_byte(g, &e2m1_as_e4m3, scalar_reg(g, x, from)));
    if (from == TY_e4m3 && to == TY_f16 && !target_has(g->target, HAS_CVT_FP8)) return f32_to_float(g, to, float_to_f32(g, from, x));
    x = float_to_f32(g, from, x);
    return ft ? f32_to_float(g, to, x) : float_to_int(g, to, x);
}

/* ---- pairs */

static struct opd join8(struct gen *g, const struct opd *x)
{
    struct opd high = lir_reg(g->l, RC_B16), d = lir_reg(g->l, RC_B16);
    lir_emit(g->l, "shl.b16 %r, %r, 8", high, lir_in_reg(g->l, x[1], RC_B16));
    lir_emit(g->l, "or.b16 %r, %r, %r", d, high, lir_in_reg(g->l, x[0], RC_B16));
    return d;
}

static void split8(struct gen *g, struct opd pair, struct opd *out)
{
    out[0] = emit2(g, "and.b16 %r, %r, 255", RC_B16, pair);
    out[1] = emit2(g, "shr.u16 %r, %r, 8", RC_B16, pair);
}

void gen_cast2(struct gen *g, enum type to, enum type from, const struct opd *x, struct opd *out)
{
    struct lir *l = g->l;
    bool has_fp8 = target_has(g->target, HAS_CVT_FP8);
    if (from == TY_f32 && (to == TY_bf16 || to == TY_f16)) {
        struct opd w = lir_reg(l, RC_B32);
        lir_emit(l, "cvt.rn.%s.f32 %r, %r, %r", to == TY_bf16 ? "bf16x2" : "f16x2", w, scalar_reg(g, x[1], from), scalar_reg(g, x[0], from));
        split16(g, w, out);
    } else if (from == TY_f32 && is_fp8(to) && has_fp8) {
        struct opd h = lir_reg(l, RC_B16);
        lir_emit(l, "cvt.rn.satfinite.%s.f32 %r, %r, %r", fp8_pair(to), h, scalar_reg(g, x[1], from), scalar_reg(g, x[0], from));
        split8(g, h, out);
    } else if (is_fp8(from) && type_is_float(to) && to != from && has_fp8) {
        struct opd w = lir_reg(l, RC_B32);
        lir_emit(l, "cvt.rn.f16x2.%s %r, %r", fp8_pair(from), w, join8(g, x));
        split16(g, w, out);
        if (to == TY_f16) return;
        struct opd f[2] = { from_f16(g, out[0]), from_f16(g, out[1]) };
        gen_cast2(g, to, TY_f32, f, out);
    } else {
        out[0] = gen_cast(g, to, from, x[0]);
        out[1] = gen_cast(g, to, from, x[1]);
    }
}
