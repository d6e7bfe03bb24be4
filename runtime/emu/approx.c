/* approx - the special-function unit of sm_90 to the bit, and the sequences that ptxas builds around it.
 *
 * The unit evaluates a quadratic on one of 64 or so pieces. The square is cut short: of its partial products, the columns
 * below its upper 15 bits are never formed. The sum is exact and truncated once. Fitted to recordings of an H200 and
 * equal to it for all 2^32 arguments of every function, and for 2^32 pairs of each division. Other generations differ by
 * an unknown last bit; the emulator uses these tables for all of them. */
#include "runtime/emu/numerics.h"
#include "runtime/emu/approx_tables.h"

#include <math.h>

enum {
    NAN_F32 = 0x7FFFFFFF,
    INF_F32 = 0x7F800000,
    NEG_INF_F32 = (int)0xFF800000,
    LEAST_NORMAL = 0x00800000,
    MAGNITUDE = 0x7FFFFFFF
};
#define SIGN 0x80000000u

/* ---- the unit ---- */

/* The upper 15 bits of the square of an n-bit number, from partial products of columns 2n-15 and up alone. */
static uint32_t short_square(uint32_t x, int n)
{
    int drop = 2 * n - 15;
    uint64_t sum = 0;
    for (uint32_t rest = x; rest; rest &= rest - 1) {
        int j = __builtin_ctz(rest),
            low = drop - 1 - j > j + 1 ? drop - 1 - j : j + 1; /* lowest partner whose column counts */
        if (2 * j >= drop) sum += (uint64_t)1 << 2 * j;
        if (low < n) sum += (uint64_t)(x >> low) << (low + j + 1);
    }
    return (uint32_t)(sum >> drop);
}

/* c0 * 2^s + c1*l + c2*l^2, l of 17 bits, in units of 2^-17 of c1's. */
static int64_t quadratic(const int32_t *c, int s, uint32_t l)
{
    return (int64_t)c[0] * ((int64_t)1 << s) + (int64_t)c[1] * l + (int64_t)c[2] * short_square(l, 17) * 4;
}

/* w * 2^unit, truncated. */
static uint32_t pack(uint32_t sign, uint64_t w, int unit)
{
    if (!w) return sign;
    int k = 63 - __builtin_clzll(w);
    uint32_t m = (uint32_t)(k >= 23 ? w >> (k - 23) : w << (23 - k));
    return sign | (uint32_t)(k + unit + 127) << 23 | (m & 0x7FFFFF);
}

static uint32_t unit_ex2(uint32_t x)
{
    uint32_t a = x & MAGNITUDE, m = (a & 0x7FFFFF) | 0x800000;
    int e = (int)(a >> 23) - 127;
    if (a > INF_F32) return NAN_F32;
    if (a < LEAST_NORMAL) return 0x3F800000; /* subnormal arguments count as zero */
    if (e >= 8) return x >> 31 ? 0 : INF_F32;
    uint32_t v = e >= 0 ? m << e : e > -24 ? m >> -e : 0, f = v & 0x7FFFFF; /* 23 bits of fraction */
    int i = (int)(v >> 23);
    if (x >> 31) {
        i = -i;
        if (f) i--, f = ~f & 0x7FFFFF; /* ones' complement */
    }
    int64_t y = quadratic(ex2_table[f >> 17], 15, f & 0x1FFFF) + 24456;
    i += 127;
    return i >= 255 ? INF_F32 : i <= 0 ? 0 : (uint32_t)i << 23 | ((uint32_t)(y >> 17) & 0x7FFFFF);
}

static uint32_t unit_rcp(uint32_t x)
{
    uint32_t a = x & MAGNITUDE, s = x & SIGN, m = a & 0x7FFFFF, l = m & 0xFFFF;
    int e = (int)(a >> 23);
    if (a > INF_F32) return NAN_F32;
    if (a == INF_F32) return s;
    if (e == 0) return s | INF_F32;
    if (m == 0) return e >= 254 ? s : s | (uint32_t)(254 - e) << 23;
    if (e >= 253) return s; /* the result would be subnormal */
    const int32_t *c = rcp_table[m >> 16];
    int64_t y = (int64_t)c[0] * (1 << 14) + (int64_t)c[1] * l + (int64_t)c[2] * short_square(l, 16) * 2 + 4046;
    return s | (uint32_t)(253 - e) << 23 | ((uint32_t)(y >> 16) & 0x7FFFFF);
}

static uint32_t unit_rsq(uint32_t x)
{
    uint32_t a = x & MAGNITUDE, m = a & 0x7FFFFF;
    int e = (int)(a >> 23), odd = !(e & 1), half = (e - 127 - odd) / 2;
    if (a > INF_F32) return NAN_F32;
    if (e == 0) return (x & SIGN) | INF_F32;
    if (x >> 31) return NAN_F32;
    if (a == INF_F32) return 0;
    if (m == 0 && !odd) return (uint32_t)(127 - half) << 23;
    int64_t y = quadratic(rsq_table[odd << 6 | m >> 17], 15, m & 0x1FFFF) + 32766;
    return (uint32_t)(126 - half) << 23 | ((uint32_t)(y >> 17) & 0x7FFFFF);
}

static uint32_t unit_sqrt(uint32_t x)
{
    uint32_t a = x & MAGNITUDE, m = a & 0x7FFFFF, l = m & 0x1FFFF;
    int e = (int)(a >> 23), odd = !(e & 1), half = (e - 127 - odd) / 2;
    if (a > INF_F32) return NAN_F32;
    if (e == 0) return x & SIGN;
    if (x >> 31) return NAN_F32;
    if (a == INF_F32) return a;
    const int32_t *c = sqrt_table[odd << 6 | m >> 17];
    int64_t y = (int64_t)c[0] * (1 << 15) + (int64_t)c[1] * l + (int64_t)c[2] * short_square(l, 17) * 2 + 32767;
    return (uint32_t)(127 + half) << 23 | ((uint32_t)(y >> 17) & 0x7FFFFF);
}

static uint32_t unit_lg2(uint32_t x)
{
    uint32_t a = x & MAGNITUDE, m = a & 0x7FFFFF;
    int e = (int)(a >> 23) - 127;
    if (a > INF_F32) return NAN_F32;
    if (a < LEAST_NORMAL) return (uint32_t)NEG_INF_F32;
    if (x >> 31) return NAN_F32;
    if (a == INF_F32) return a;
    if (x == 0x3F800000) return 0;
    int64_t y =
        ((quadratic(lg2_table[m >> 17], 14, m & 0x1FFFF) + 3348) >> 4) + e * ((int64_t)1 << 36); /* units of 2^-36 */
    return y >= 0 ? pack(0, (uint64_t)y, -36) : pack(SIGN, (uint64_t)~y, -36);
}

static uint32_t unit_tanh(uint32_t x)
{
    /* by exponent from 2^-8 on: log2 of the binade's pieces, its first row */
    static const uint8_t log_pieces[11] = {0, 0, 0, 1, 1, 2, 2, 2, 3, 4, 3},
                         first[11] = {0, 1, 2, 3, 5, 7, 11, 15, 19, 27, 43};
    uint32_t a = x & MAGNITUDE, s = x & SIGN, m = a & 0x7FFFFF;
    int e = (int)(a >> 23) - 127;
    if (a > INF_F32) return NAN_F32;
    if (e < -8) return x; /* subnormals too */
    if (e > 2) return s | 0x3F800000;
    int k = log_pieces[e + 8];
    const int32_t *row = tanh_table[first[e + 8] + (m >> (23 - k))];
    return pack(s, (uint64_t)quadratic(row, 17, m >> (6 - k) & 0x1FFFF), -41);
}

/* SIN (ahead = 0) or COS (ahead = 1 quarter); x counts turns. */
static uint32_t unit_turns(uint32_t x, uint32_t ahead)
{
    uint32_t a = x & MAGNITUDE, s = ahead ? 0 : x & SIGN, m = (a & 0x7FFFFF) | 0x800000;
    int e = (int)(a >> 23) - 125;
    if (a >= INF_F32) return NAN_F32;
    uint32_t u; /* 25 bits of fraction */
    if (a < LEAST_NORMAL || e >= 25 || e <= -24) u = 0;
    else u = e >= 0 ? (uint32_t)((uint64_t)m << e & 0x1FFFFFF) : m >> -e;
    uint32_t quarter = (u >> 23) + ahead, f = u & 0x7FFFFF;
    if (quarter & 1) f = ~f & 0x7FFFFF;
    if (quarter & 2) s ^= SIGN;
    return pack(s, (uint64_t)quadratic(sin_table[f >> 17], 15, f & 0x1FFFF), -41);
}

/* ---- the multiplications around it ---- */

static uint32_t mul(uint32_t a, uint32_t b)
{
    float p = num_float(a) * num_float(b);
    return p != p ? NAN_F32 : num_float_bits(p);
}

static uint32_t flush(uint32_t a)
{
    return a & INF_F32 ? a : a & SIGN;
}

/* Flushed when below 2^-126 after rounding to 24 bits with an unbounded exponent. */
static uint32_t mul_ftz(uint32_t a, uint32_t b)
{
    a = flush(a);
    b = flush(b);
    uint32_t p = mul(a, b);
    bool rounded_up = fabs((double)num_float(a) * (double)num_float(b)) < 0x1p-126 - 0x1p-151;
    return (p & MAGNITUDE) == LEAST_NORMAL && rounded_up ? p & SIGN : flush(p);
}

/* Rounded toward zero. */
static uint32_t mul_rz(uint32_t a, uint32_t b)
{
    return (uint32_t)num_cvt(NUM_f32, NUM_f64, NUM_RZ, 0, num_double_bits((double)num_float(a) * (double)num_float(b)));
}

static bool is_small(uint32_t x)
{
    return (x & MAGNITUDE) < LEAST_NORMAL;
}

static bool is_large(uint32_t x) /* above 2^126 */
{
    return (x & MAGNITUDE) > 0x7E800000 && (x & MAGNITUDE) <= INF_F32;
}

enum {
    TWO_24 = 0x4B800000,
    TWO_12 = 0x45800000,
    TWO_M12 = 0x39800000,
    HALF = 0x3F000000,
    QUARTER = 0x3E800000,
    ONE = 0x3F800000,
    TURNS_PER_RADIAN = 0x3E22F983
};

/* ---- PTX instructions ---- */

uint32_t num_ex2(uint32_t x, bool ftz)
{
    if (ftz || !(num_float(x) < -126.0f)) return unit_ex2(x);
    uint32_t y = unit_ex2(mul(x, HALF));
    return mul(y, y);
}

uint32_t num_lg2(uint32_t x, bool ftz)
{
    if (ftz || !is_small(x)) return unit_lg2(x);
    float y = num_float(unit_lg2(mul(x, TWO_24))) - 24.0f;
    return y != y ? NAN_F32 : num_float_bits(y);
}

uint32_t num_rcp(uint32_t x, bool ftz)
{
    if (ftz) return unit_rcp(x);
    uint32_t k = is_large(x) ? QUARTER : is_small(x) ? TWO_24 : ONE;
    return mul(unit_rcp(mul(x, k)), k);
}

uint32_t num_rsqrt(uint32_t x, bool ftz)
{
    return ftz || !is_small(x) ? unit_rsq(x) : mul(unit_rsq(mul(x, TWO_24)), TWO_12);
}

uint32_t num_sqrt(uint32_t x, bool ftz)
{
    return ftz || !is_small(x) ? unit_sqrt(x) : mul(unit_sqrt(mul(x, TWO_24)), TWO_M12);
}

uint32_t num_tanh(uint32_t x)
{
    return unit_tanh(x);
}

uint32_t num_sin(uint32_t x)
{
    return unit_turns(mul_rz(x, TURNS_PER_RADIAN), 0);
}

uint32_t num_cos(uint32_t x)
{
    return unit_turns(mul_rz(x, TURNS_PER_RADIAN), 1);
}

uint32_t num_div_approx(uint32_t x, uint32_t y, bool ftz)
{
    if (ftz) return mul_ftz(x, unit_rcp(y));
    if (is_small(y)) x = mul(x, TWO_24), y = mul(y, TWO_24);
    return mul(unit_rcp(y), x);
}

uint32_t num_div_full(uint32_t x, uint32_t y, bool ftz)
{
    if (ftz) {
        if (is_large(y)) x = mul_ftz(x, QUARTER), y = mul_ftz(y, QUARTER);
        return mul_ftz(unit_rcp(y), x);
    }
    uint32_t k = is_large(y) ? QUARTER : TWO_24;
    if (is_large(y) || is_small(y)) x = mul(x, k), y = mul(y, k);
    return mul(unit_rcp(y), x);
}

/* 16-bit forms are the f32 function of the widened argument, truncated to the format. */
static uint32_t cut_bf16(uint32_t y)
{
    return (y & MAGNITUDE) > INF_F32 ? 0x7FFF : y >> 16;
}

static uint32_t cut_f16(uint32_t y)
{
    uint32_t s = y >> 16 & 0x8000, a = y & MAGNITUDE;
    int e = (int)(a >> 23) - 127;
    if (a > INF_F32) return 0x7FFF;
    if (e >= 16) return s | 0x7C00;
    if (e >= -14) return s | (uint32_t)(e + 15) << 10 | (a >> 13 & 0x3FF);
    return s | (e < -25 ? 0 : ((a & 0x7FFFFF) | 0x800000) >> (-1 - e));
}

uint32_t num_ex2_f16(uint32_t h) { return cut_f16(unit_ex2(num_f32_of_f16(h))); }
uint32_t num_ex2_bf16(uint32_t h) { return cut_bf16(unit_ex2(num_f32_of_bf16(h))); }
uint32_t num_tanh_f16(uint32_t h) { return cut_f16(unit_tanh(num_f32_of_f16(h))); }
uint32_t num_tanh_bf16(uint32_t h) { return cut_bf16(unit_tanh(num_f32_of_bf16(h))); }
