/* float - add sub mul fma div rcp sqrt min max neg abs and the approximate functions, on f32 f64 f16 bf16 and packs.
 *
 * Rounding other than the host's goes through a double rounded to odd, from which one more rounding is exact: a double
 * has more than twice the bits of an f32, plus two. PTX ISA, "Floating Point Instructions". NaN results are canonical.
 */
#include "runtime/emu/core.h"

#include <fenv.h>
#include <math.h>

/* a * b + c must round twice */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif

enum float_op {
    F_ADD,
    F_SUB,
    F_MUL,
    F_FMA,
    F_DIV,
    F_RCP,
    F_SQRT,
    F_MIN,
    F_MAX,
    F_NEG,
    F_ABS,
    F_COPYSIGN,
    F_APPROX,
    F_DIV_APPROX,
    F_DIV_FULL,
    F_RCP64,
    F_RSQRT64
};
struct float_insn {
    enum float_op op;
    enum num_round round;
    bool ftz, sat, relu, nan, xorsign, absolute;
    enum emu_type elem,
        in_elem; /* in_elem: of the multiplied or first operand; a 16-bit type with an f32 result: mixed */
    int pack;                    /* elements in an operand */
    int nsrc;
    uint32_t (*fn)(uint32_t x, bool ftz);
};

/* ---- odd rounding ---- */

static double next_odd(double r, double err)
{
    uint64_t b = num_double_bits(r);
    if (err == 0 || (b & 1) || r == 0 || isinf(r) || isnan(r))
        return r;
    /* the exact value lies between r and its neighbour on err's side; the one of both with an odd last bit is the
     * neighbour */
    return num_double((err > 0) == (r > 0) ? b + 1 : b - 1);
}

/* a + b: exact when it fits, else odd. Arguments are within an f32 product's range, so nothing over- or underflows. */
static double add_odd(double a, double b)
{
    double s = a + b;
    if (isinf(s) || isnan(s))
        return s;
    double bb = s - a;
    return next_odd(s, (a - (s - bb)) + (b - bb));
}
static double div_odd(double a, double b)
{
    double q = a / b;
    if (isinf(q) || isnan(q) || q == 0 || isinf(b))
        return q;
    double r = fma(-q, b, a);
    return next_odd(q, (r > 0) == (b > 0) ? fabs(r) : -fabs(r));
}
static double sqrt_odd(double a)
{
    double q = sqrt(a);
    if (isinf(q) || isnan(q) || q == 0)
        return q;
    return next_odd(q, fma(-q, q, a));
}

/* ---- elements ---- */

static const enum num_type num_of[EMU_T_COUNT] = {[EMU_T_F16] = NUM_f16, [EMU_T_BF16] = NUM_bf16, [EMU_T_F32] = NUM_f32,
                                                  [EMU_T_F64] = NUM_f64};

static uint32_t flush(uint32_t x) { return x & 0x7F800000 ? x : x & 0x80000000; }

static double widen(enum emu_type t, uint32_t x, bool ftz)
{
    if (t == EMU_T_F16) {
        if (ftz && !(x & 0x7C00))
            x &= 0x8000;
        return (double)num_float(num_f32_of_f16(x));
    }
    return (double)num_float(t == EMU_T_BF16 ? x << 16 : ftz ? flush(x) : x);
}

static uint32_t canonical_nan(enum emu_type t) { return t == EMU_T_F32 ? 0x7FFFFFFF : 0x7FFF; }

/* A result below the smallest normal number when rounded with an unbounded exponent becomes zero. */
static uint32_t flush_result(const struct float_insn *x, double v, uint32_t r)
{
    uint32_t sign = x->elem == EMU_T_F32 ? 0x80000000 : 0x8000;
    int smallest = x->elem == EMU_T_F16 ? -14 : -126;
    uint32_t wide = (uint32_t)num_cvt(x->elem == EMU_T_F16 ? NUM_f16 : NUM_f32, NUM_f64, x->round, 0,
                                      num_double_bits(x->elem == EMU_T_F16 ? ldexp(v, 12) : ldexp(v, 60)));
    double got = x->elem == EMU_T_F16 ? ldexp((double)num_float(num_f32_of_f16(wide)), -12)
                                      : ldexp((double)num_float(wide), -60);
    return fabs(got) < ldexp(1, smallest) ? r & sign : r;
}

static uint32_t narrow(const struct float_insn *x, double v)
{
    if (isnan(v))
        return x->sat ? 0 : canonical_nan(x->elem);
    if (x->sat)
        v = v > 1 ? 1 : v > 0 ? v : 0;
    uint32_t r = (uint32_t)num_cvt(num_of[x->elem], NUM_f64, x->round, 0, num_double_bits(v));
    if (x->ftz && fabs(v) < (x->elem == EMU_T_F16 ? 0x1p-13 : 0x1p-125))
        r = flush_result(x, v, r);
    uint32_t sign = x->elem == EMU_T_F32 ? 0x80000000 : 0x8000;
    return x->relu && (r & sign) ? 0 : r;
}

static double sum(double a, double b, enum num_round r)
{
    double s = add_odd(a, b);
    if (s != 0 || isnan(s))
        return s;
    return (signbit(a) && signbit(b)) || (r == NUM_RM && signbit(a) != signbit(b)) ? -0.0 : 0.0;
}

/* min and max on bits: NaN loses, -0 < +0. */
static uint32_t pick_bits(const struct float_insn *x, uint32_t a, uint32_t b, enum emu_type t)
{
    uint32_t sign = t == EMU_T_F32 ? 0x80000000 : 0x8000, inf = t == EMU_T_F32   ? 0x7F800000
                                                                : t == EMU_T_F16 ? 0x7C00
                                                                                 : 0x7F80;
    if (x->ftz) {
        a = a & inf ? a : a & sign;
        b = b & inf ? b : b & sign;
    }
    uint32_t flip = x->xorsign ? (a ^ b) & sign : 0;
    if (x->xorsign)
        a &= ~sign, b &= ~sign;
    bool na = (a & ~sign) > inf, nb = (b & ~sign) > inf;
    if (na || nb)
        return (x->nan || (na && nb)) ? canonical_nan(t) : (na ? b : a) ^ flip;
    int32_t ka = a & sign ? -(int32_t)(a & ~sign) - 1 : (int32_t)a,
            kb = b & sign ? -(int32_t)(b & ~sign) - 1 : (int32_t)b;
    return ((ka > kb) == (x->op == F_MAX) ? a : b) ^ flip;
}

static uint32_t unary_bits(const struct float_insn *x, uint32_t a)
{
    uint32_t sign = x->elem == EMU_T_F32 ? 0x80000000 : 0x8000;
    uint32_t inf = x->elem == EMU_T_F32 ? 0x7F800000 : x->elem == EMU_T_F16 ? 0x7C00 : 0x7F80;
    if ((a & ~sign) > inf)
        return canonical_nan(x->elem);
    if (x->ftz && !(a & inf))
        a &= sign;
    return x->op == F_NEG ? a ^ sign : a & ~sign;
}

/* One element of up to 32 bits. */
static uint32_t one(const struct float_insn *x, uint32_t a, uint32_t b, uint32_t c)
{
    enum emu_type ta = x->in_elem, tb = x->op == F_FMA || x->op == F_MUL ? x->in_elem : x->elem;
    switch (x->op) {
    case F_MIN: case F_MAX: {
        if (x->absolute)
            a &= 0x7FFFFFFF, b &= 0x7FFFFFFF, c &= 0x7FFFFFFF;
        uint32_t r = pick_bits(x, a, b, x->elem);
        if (x->nsrc == 3)
            r = pick_bits(x, r, c, x->elem);
        uint32_t sign = x->elem == EMU_T_F32 ? 0x80000000 : 0x8000;
        return x->relu && (r & sign) ? 0 : r;
    }
    case F_NEG: case F_ABS:
        return unary_bits(x, a);
    case F_COPYSIGN:
        return (a & 0x80000000) | (b & 0x7FFFFFFF);
    case F_APPROX:
        return x->fn(a, x->ftz);
    case F_DIV_APPROX:
        return num_div_approx(a, b, x->ftz);
    case F_DIV_FULL:
        return num_div_full(a, b, x->ftz);
    default:
        break;
    }
    double A = widen(ta, a, x->ftz), B = widen(tb, b, x->ftz), C = widen(x->elem, c, x->ftz);
    switch (x->op) {
    case F_ADD: return narrow(x, sum(A, B, x->round));
    case F_SUB: return narrow(x, sum(A, -B, x->round));
    case F_MUL: return narrow(x, A * B);
    case F_FMA: return narrow(x, sum(A * B, C, x->round));
    case F_DIV: return narrow(x, div_odd(A, B));
    case F_RCP: return narrow(x, div_odd(1, A));
    case F_SQRT: return narrow(x, sqrt_odd(A));
    default: return 0;
    }
}

/* ---- f64 ---- */

static double f64_pick(double a, double b, bool max)
{
    if (isnan(a) || isnan(b))
        return isnan(a) ? b : a;
    if (a == b)
        return signbit(a) == max ? b : a;
    return (a > b) == max ? a : b;
}

/* rcp.approx.ftz.f64, rsqrt.approx.ftz.f64: seeds for iterations, of which only the upper word counts. Hardware's 20
 * bits are not modelled to the last one. */
static double seed(double x, bool root)
{
    if (fabs(x) < 0x1p-1022)
        x = copysign(0, x);
    double r = root ? 1 / sqrt(x) : 1 / x;
    return isnan(r) ? num_double(0x7FFFFFFF00000000ull) : num_double(num_double_bits(r) & 0xFFFFFFFF00000000ull);
}

static double one_f64(const struct float_insn *x, double a, double b, double c)
{
    static const int modes[] = {
        [NUM_RN] = FE_TONEAREST, [NUM_RZ] = FE_TOWARDZERO, [NUM_RM] = FE_DOWNWARD, [NUM_RP] = FE_UPWARD};
    volatile double A = a, B = b, C = c, r = 0;
    if (x->op == F_RCP64 || x->op == F_RSQRT64)
        return seed(a, x->op == F_RSQRT64);
    if (x->round != NUM_RN)
        fesetround(modes[x->round]);
    switch (x->op) {
    case F_ADD: r = A + B; break;
    case F_SUB: r = A - B; break;
    case F_MUL: r = A * B; break;
    case F_FMA: r = fma(A, B, C); break;
    case F_DIV: r = A / B; break;
    case F_RCP: r = 1 / A; break;
    case F_SQRT: r = sqrt(A); break;
    case F_MIN: case F_MAX: r = f64_pick(A, B, x->op == F_MAX); break;
    case F_NEG: r = -A; break;
    case F_ABS: r = fabs(A); break;
    case F_COPYSIGN: r = copysign(B, A); break;
    default: break;
    }
    if (x->round != NUM_RN)
        fesetround(FE_TONEAREST);
    return isnan(r) && x->op < F_NEG ? num_double(0x7FFFFFFFFFFFFFFFull) : r;
}

/* ---- rows ---- */

static enum emu_next run_f64(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    FOR_LANES(l, mask)
    emu_row64(w, in->d)[l] =
        num_double_bits(one_f64(in->x, num_double(emu_row64(w, in->a)[l]), num_double(emu_row64(w, in->b)[l]),
                                num_double(emu_row64(w, in->c)[l])));
    return EMU_NEXT;
}

static enum emu_next run_scalar(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct float_insn *x = in->x;
    const uint32_t *a = emu_row(w, in->a), *b = emu_row(w, in->b), *c = emu_row(w, in->c);
    uint32_t *d = emu_row(w, in->d);
    FOR_LANES(l, mask)
        d[l] = one(x, a[l], b[l], c[l]);
    return EMU_NEXT;
}

static enum emu_next run_pair16(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct float_insn *x = in->x;
    const uint32_t *a = emu_row(w, in->a), *b = emu_row(w, in->b), *c = emu_row(w, in->c);
    uint32_t *d = emu_row(w, in->d);
    FOR_LANES(l, mask)
        d[l] = one(x, a[l] & 0xFFFF, b[l] & 0xFFFF, c[l] & 0xFFFF) | one(x, a[l] >> 16, b[l] >> 16, c[l] >> 16) << 16;
    return EMU_NEXT;
}

static enum emu_next run_pair32(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct float_insn *x = in->x;
    const emu_u64 *a = emu_row64(w, in->a), *b = emu_row64(w, in->b), *c = emu_row64(w, in->c);
    emu_u64 *d = emu_row64(w, in->d);
    FOR_LANES(l, mask)
        d[l] = one(x, (uint32_t)a[l], (uint32_t)b[l], (uint32_t)c[l]) |
               (uint64_t)one(x, (uint32_t)(a[l] >> 32), (uint32_t)(b[l] >> 32), (uint32_t)(c[l] >> 32)) << 32;
    return EMU_NEXT;
}

/* Fast f32, rounded to nearest, without .sat: all lanes are computed, those of the mask kept. n values (32, or 64 for
 * f32x2, whose rows are pairs of f32). exact 2^-126 under .ftz may stand for something a little below: redone slowly.
 */
static void keep(uint32_t *d, const uint32_t *r, uint32_t mask, int n)
{
    if (mask == ~0u) {
        memcpy(d, r, (size_t)n * 4);
        return;
    }
    for (int i = 0; i < n; i++)
        d[i] = mask >> (n == 64 ? i / 2 : i) & 1 ? r[i] : d[i];
}

#define FAST(name, value)                                                                                                  \
    static EMU_HOT void lanes_##name(const emu_f32 *a, const emu_f32 *b, const emu_f32 *c, uint32_t *out, int n)           \
    {                                                                                                                      \
        (void)b, (void)c;                                                                                                  \
        for (int i = 0; i < n; i++) {                                                                                      \
            float r = (value);                                                                                             \
            uint32_t u;                                                                                                    \
            memcpy(&u, &r, 4);                                                                                             \
            out[i] = r != r ? 0x7FFFFFFF : u;                                                                              \
        }                                                                                                                  \
    }
FAST(add, a[i] + b[i])
FAST(sub, a[i] - b[i])
FAST(mul, a[i] * b[i])
FAST(fma, __builtin_fmaf(a[i], b[i], c[i]))
FAST(div, a[i] / b[i])

typedef void lanes_fn(const emu_f32 *, const emu_f32 *, const emu_f32 *, uint32_t *, int);
static lanes_fn *const fast_lanes[] = {
    [F_ADD] = lanes_add, [F_SUB] = lanes_sub, [F_MUL] = lanes_mul, [F_FMA] = lanes_fma, [F_DIV] = lanes_div};

static EMU_HOT void flush_lanes(const uint32_t *from, uint32_t *to, int n)
{
    for (int i = 0; i < n; i++)
        to[i] = from[i] & 0x7F800000 ? from[i] : from[i] & 0x80000000;
}

static EMU_HOT uint32_t flush_results(uint32_t *r, int n)
{
    uint32_t edge = 0;
    for (int i = 0; i < n; i++) {
        edge |= (r[i] & 0x7FFFFFFF) == 0x00800000;
        r[i] = r[i] & 0x7F800000 ? r[i] : r[i] & 0x80000000;
    }
    return edge;
}

static enum emu_next run_fast(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct float_insn *x = in->x;
    int n = x->pack == 2 ? 64 : 32;
    uint32_t out[64], s[3][64];
    const uint32_t *src[3] = {emu_row(w, in->a), emu_row(w, in->b), emu_row(w, in->c)};
    if (x->ftz)
        for (int i = 0; i < 3; i++) {
            flush_lanes(src[i], s[i], n);
            src[i] = s[i];
        }
    fast_lanes[x->op]((const emu_f32 *)src[0], (const emu_f32 *)src[1], (const emu_f32 *)src[2], out, n);
    if (x->ftz && flush_results(out, n) && x->op >= F_MUL)
        for (int i = 0; i < n; i++)
            if ((out[i] & 0x7FFFFFFF) == 0x00800000)
                out[i] = one(x, src[0][i], src[1][i], src[2][i]);
    keep(emu_row(w, in->d), out, mask, n);
    return EMU_NEXT;
}

static EMU_HOT void lanes_pick(const emu_u32 *a, const emu_u32 *b, uint32_t *out, uint32_t max)
{
    for (int i = 0; i < 32; i++) {
        uint32_t A = a[i], B = b[i];
        uint32_t na = (A & 0x7FFFFFFF) > 0x7F800000, nb = (B & 0x7FFFFFFF) > 0x7F800000;
        int32_t ka = (int32_t)(A ^ (uint32_t)((int32_t)A >> 31) >> 1),
                kb = (int32_t)(B ^ (uint32_t)((int32_t)B >> 31) >> 1);
        uint32_t r = (uint32_t)(ka > kb) == max ? A : B;
        r = na ? B : nb ? A : r;
        out[i] = na & nb ? 0x7FFFFFFF : r;
    }
}

static enum emu_next run_fast_pick(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct float_insn *x = in->x;
    uint32_t out[32];
    lanes_pick(emu_row(w, in->a), emu_row(w, in->b), out, x->op == F_MAX);
    keep(emu_row(w, in->d), out, mask, 32);
    return EMU_NEXT;
}

/* ---- decoding ---- */

static void float_mods(struct emu_decode *d, struct float_insn *x)
{
    static const char *const rounds[] = {"rn", "rz", "rm", "rp", NULL};
    for (;;) {
        int r = emu_mod_one_of(d, rounds);
        if (r >= 0)
            x->round = (enum num_round)r;
        else if (emu_mod(d, "ftz"))
            x->ftz = true;
        else if (emu_mod(d, "sat"))
            x->sat = true;
        else if (emu_mod(d, "relu"))
            x->relu = true;
        else if (emu_mod(d, "NaN"))
            x->nan = true;
        else if (emu_mod(d, "xorsign"))
            x->xorsign = emu_mod(d, "abs");
        else if (emu_mod(d, "abs"))
            x->absolute = true;
        else
            return;
    }
}

static bool float_types(struct emu_decode *d, struct float_insn *x)
{
    enum emu_type t = emu_mod_type(d), u;
    x->elem = x->in_elem = emu_types[t].elem;
    if (x->elem != EMU_T_F16 && x->elem != EMU_T_BF16 && x->elem != EMU_T_F32 && x->elem != EMU_T_F64)
        return emu_bad(d, "no floating type that this instruction takes");
    x->pack = emu_types[t].cls == EMU_C_V ? 2 : 1;
    if (x->elem == EMU_T_F32 && x->pack == 2 && !emu_need(d, EMU_NEED_100, "f32x2 arithmetic"))
        return false;
    u = emu_mod_type(d);
    if (u == EMU_T_NONE)
        return true;
    if (t != EMU_T_F32 || (u != EMU_T_F16 && u != EMU_T_BF16) ||
        !emu_need(d, EMU_NEED_100, "mixed precision arithmetic"))
        return emu_bad(d, "no such pair of types");
    x->in_elem = u;
    return true;
}

/* What some operations demand of the target beyond their types. */
static bool float_target(struct emu_decode *d, const struct float_insn *x)
{
    bool late_bf16 = x->op == F_ADD || x->op == F_SUB || x->op == F_MUL || x->op == F_APPROX;
    if (x->elem == EMU_T_BF16 && late_bf16 && !emu_need(d, EMU_NEED_90, "this instruction on bf16"))
        return false;
    return !x->xorsign || d->module->sm >= 86 || emu_bad(d, ".xorsign.abs is available from sm_86 on");
}

static void choose_handler(struct emu_insn *in, const struct float_insn *x)
{
    bool plain = x->elem == EMU_T_F32 && x->in_elem == EMU_T_F32 && x->round == NUM_RN && !x->sat && !x->relu;
    if (x->elem == EMU_T_F64)
        in->run = run_f64;
    else if (plain && x->op < COUNT(fast_lanes) && fast_lanes[x->op])
        in->run = run_fast;
    else if (plain && (x->op == F_MIN || x->op == F_MAX) && x->nsrc == 2 && !x->nan && !x->xorsign && !x->ftz &&
             !x->absolute)
        in->run = run_fast_pick;
    else
        in->run = x->pack == 1 ? run_scalar : x->elem == EMU_T_F32 ? run_pair32 : run_pair16;
}

static bool float_operands(struct emu_decode *d, struct emu_insn *in, const struct float_insn *x)
{
    int bits = emu_types[x->elem].bits * x->pack;
    enum emu_type t = bits == 16 ? EMU_T_B16 : bits == 32 ? (x->pack == 2 ? EMU_T_B32 : EMU_T_F32)
                    : x->pack == 2 ? EMU_T_B64 : EMU_T_F64;
    enum emu_type ta = x->in_elem != x->elem ? EMU_T_B16 : t, tb = x->op == F_FMA || x->op == F_MUL ? ta : t;
    in->b = in->c = EMU_ROW_ZERO;
    return emu_dst(d, 0, bits, &in->d) && emu_src(d, 1, ta, &in->a) && (x->nsrc < 2 || emu_src(d, 2, tb, &in->b)) &&
           (x->nsrc < 3 || emu_src(d, 3, t, &in->c));
}

static bool decode_float_op(struct emu_decode *d, struct emu_insn *in, enum float_op op, int nsrc)
{
    struct float_insn *x = new(d->arena, struct float_insn);
    x->op = op;
    x->nsrc = nsrc;
    float_mods(d, x);
    if (!float_types(d, x))
        return false;
    if ((op == F_MIN || op == F_MAX) && d->nop == 4) {
        x->nsrc = 3;
        if (!emu_need(d, EMU_NEED_100, "min and max of three"))
            return false;
    }
    if (x->absolute && (x->nsrc != 3 || x->elem != EMU_T_F32))
        return emu_bad(d, ".abs belongs to min.f32 and max.f32 of three");
    if (!float_target(d, x))
        return false;
    in->x = x;
    choose_handler(in, x);
    return float_operands(d, in, x);
}

bool emu_decode_float(struct emu_decode *d, struct emu_insn *in)
{
    static const struct { const char *name; enum float_op op; int nsrc;
    } rows[] = {
        {"add.", F_ADD, 2}, {"sub.", F_SUB, 2}, {"mul.", F_MUL, 2},   {"fma.", F_FMA, 3}, {"mad.", F_FMA, 3},
        {"min.", F_MIN, 2}, {"max.", F_MAX, 2}, {"neg.", F_NEG, 1},   {"abs.", F_ABS, 1}, {"copysign.", F_COPYSIGN, 2},
        {"div.", F_DIV, 2}, {"rcp.", F_RCP, 1}, {"sqrt.", F_SQRT, 1},
    };
    for (int i = 0; i < COUNT(rows); i++)
        if (!strncmp(d->text, rows[i].name, strlen(rows[i].name)))
            return decode_float_op(d, in, rows[i].op, rows[i].nsrc);
    return emu_bad(d, "no such floating-point instruction is emulated");
}

/* FN.approx[.ftz].type, div.approx, div.full; the exact forms go the other way. */
static uint32_t tanh_f32(uint32_t x, bool ftz) { (void)ftz; return num_tanh(x); }
static uint32_t sin_f32(uint32_t x, bool ftz) { return num_sin(ftz ? flush(x) : x); }
static uint32_t cos_f32(uint32_t x, bool ftz) { return num_cos(ftz ? flush(x) : x); }
static uint32_t ex2_f16(uint32_t x, bool ftz) { (void)ftz; return num_ex2_f16(x); }
static uint32_t ex2_bf16(uint32_t x, bool ftz) { (void)ftz; return num_ex2_bf16(x); }
static uint32_t tanh_f16(uint32_t x, bool ftz) { (void)ftz; return num_tanh_f16(x); }
static uint32_t tanh_bf16(uint32_t x, bool ftz) { (void)ftz; return num_tanh_bf16(x); }

bool emu_decode_approx(struct emu_decode *d, struct emu_insn *in)
{
    static const struct { const char *name; enum emu_type t; uint32_t (*fn)(uint32_t, bool);
    } rows[] = {
        {"ex2", EMU_T_F32, num_ex2},     {"lg2", EMU_T_F32, num_lg2},   {"rcp", EMU_T_F32, num_rcp},
        {"rsqrt", EMU_T_F32, num_rsqrt}, {"sqrt", EMU_T_F32, num_sqrt}, {"tanh", EMU_T_F32, tanh_f32},
        {"sin", EMU_T_F32, sin_f32},     {"cos", EMU_T_F32, cos_f32},   {"ex2", EMU_T_F16, ex2_f16},
        {"ex2", EMU_T_BF16, ex2_bf16},   {"tanh", EMU_T_F16, tanh_f16}, {"tanh", EMU_T_BF16, tanh_bf16},
    };
    bool div = !strncmp(d->text, "div.", 4), full = div && emu_mod(d, "full");
    if (!full && !emu_mod(d, "approx"))
        return emu_decode_arith(d, in);
    struct float_insn *x = new(d->arena, struct float_insn);
    x->op = full ? F_DIV_FULL : div ? F_DIV_APPROX : F_APPROX;
    x->nsrc = div ? 2 : 1;
    float_mods(d, x);
    if (!float_types(d, x))
        return false;
    if (x->elem == EMU_T_F64 && x->ftz && (!strncmp(d->text, "rcp.", 4) || !strncmp(d->text, "rsqrt.", 6))) {
        x->op = d->text[1] == 'c' ? F_RCP64 : F_RSQRT64;
        in->x = x;
        in->run = run_f64;
        return float_operands(d, in, x);
    }
    for (int i = 0; i < COUNT(rows) && !div; i++)
        if (!strncmp(d->text, rows[i].name, strlen(rows[i].name)) && d->text[strlen(rows[i].name)] == '.' &&
            rows[i].t == x->elem)
            x->fn = rows[i].fn;
    if ((!div && !x->fn) || (div && x->elem != EMU_T_F32))
        return emu_bad(d, "no such form of this instruction is emulated");
    if (!float_target(d, x))
        return false;
    in->x = x;
    choose_handler(in, x);
    return float_operands(d, in, x);
}

/* testp.PROPERTY.type p, a */
static enum emu_next run_testp(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    uint32_t r = 0;
    FOR_LANES(l, mask) {
        bool wide = in->u8[1];
        double v = wide ? num_double(emu_row64(w, in->a)[l]) : 0;
        float f = wide ? 0 : num_float(emu_row(w, in->a)[l]);
        int c = wide ? fpclassify(v) : fpclassify(f);
        bool is[] = {c != FP_NAN && c != FP_INFINITE,
                     c == FP_INFINITE,
                     c != FP_NAN,
                     c == FP_NAN,
                     c == FP_NORMAL,
                     c == FP_SUBNORMAL};
        r |= (uint32_t)is[in->u8[0]] << l;
    }
    emu_set_pred(w, in->d, mask, r);
    return EMU_NEXT;
}

bool emu_decode_testp(struct emu_decode *d, struct emu_insn *in)
{
    static const char *const names[] = {"finite", "infinite", "number", "notanumber", "normal", "subnormal", NULL};
    int i = emu_mod_one_of(d, names);
    enum emu_type t = emu_mod_type(d);
    if (i < 0 || (t != EMU_T_F32 && t != EMU_T_F64))
        return emu_bad(d, "no such form of testp");
    in->run = run_testp;
    in->u8[0] = (uint8_t)i;
    in->u8[1] = t == EMU_T_F64;
    return emu_dst_pred(d, 0, &in->d) && emu_src(d, 1, t, &in->a);
}
