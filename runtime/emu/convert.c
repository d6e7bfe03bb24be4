/* convert - every cvt, element by element, in integers. */
#include "runtime/emu/numerics.h"

const struct num_format num_formats[NUM_TYPES] = {
    /*           bits exp frac low bias   top         inf         nan        */
    [NUM_f16]   = {16, 5, 10, 0,  15,   0x7BFF,     0x7C00,     0x7FFF},
    [NUM_bf16]  = {16, 8, 7,  0,  127,  0x7F7F,     0x7F80,     0x7FFF},
    [NUM_tf32]  = {32, 8, 10, 13, 127,  0x3FBFF,    0x3FC00,    0x3FFFF},
    [NUM_f32]   = {32, 8, 23, 0,  127,  0x7F7FFFFF, 0x7F800000, 0x7FFFFFFF},
    [NUM_f64]   = {64, 11, 52, 0, 1023, 0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0x7FFFFFFFFFFFFFFF},
    [NUM_e4m3]  = {8, 4, 3, 0, 7, 0x7E, 0, 0x7F},
    [NUM_e5m2]  = {8, 5, 2, 0, 15, 0x7B, 0x7C, 0x7F},
    [NUM_e2m3]  = {6, 2, 3, 0, 1, 0x1F, 0, 0},
    [NUM_e3m2]  = {6, 3, 2, 0, 3, 0x1F, 0, 0},
    [NUM_e2m1]  = {4, 2, 1, 0, 1, 0x7, 0, 0},
    [NUM_ue8m0] = {8, 8, 0, 0, 127, 0xFE, 0, 0xFF},
    [NUM_ue4m3] = {8, 4, 3, 0, 7, 0x7E, 0, 0x7F},
    [NUM_s4] = {.bits = 4}, [NUM_u4] = {.bits = 4}, [NUM_s8] = {.bits = 8}, [NUM_u8] = {.bits = 8},
    [NUM_s16] = {.bits = 16}, [NUM_u16] = {.bits = 16}, [NUM_s32] = {.bits = 32}, [NUM_u32] = {.bits = 32},
    [NUM_s64] = {.bits = 64}, [NUM_u64] = {.bits = 64},
};

int num_bits(enum num_type t)
{
    return num_formats[t].bits;
}

bool num_is_float(enum num_type t)
{
    return num_formats[t].exp != 0;
}

bool num_is_signed(enum num_type t)
{
    return t == NUM_s4 || t == NUM_s8 || t == NUM_s16 || t == NUM_s32 || t == NUM_s64;
}

/* An exact value: sig * 2^exp. */
enum class { FINITE, INFINITE, NOT_A_NUMBER };
struct value {
    enum class class;
    bool negative;
    int exp;
    uint64_t sig;
};

static uint64_t low_bits(uint64_t x, int n)
{
    return n >= 64 ? x : x & (((uint64_t)1 << n) - 1);
}

static struct value unpack_integer(enum num_type t, uint64_t bits)
{
    int n = num_bits(t);
    uint64_t x = low_bits(bits, n);
    bool negative = num_is_signed(t) && x >> (n - 1) & 1;
    return (struct value){FINITE, negative, 0, negative ? low_bits(0 - x, n) : x};
}

static struct value unpack(enum num_type t, uint64_t bits)
{
    const struct num_format *f = &num_formats[t];
    if (!f->exp) return unpack_integer(t, bits);
    if (t == NUM_ue8m0)
        return (struct value){(bits & 0xFF) == 0xFF ? NOT_A_NUMBER : FINITE, false, (int)(bits & 0xFF) - 127, 1};
    bits >>= f->low;
    uint64_t mag = low_bits(bits, f->exp + f->frac), frac = low_bits(mag, f->frac);
    int field = (int)(mag >> f->frac);
    struct value v = {FINITE, t != NUM_ue4m3 && (bits >> (f->exp + f->frac) & 1),
                      (field ? field : 1) - f->bias - f->frac, field ? frac | (uint64_t)1 << f->frac : frac};
    if (mag > f->top) v.class = mag == f->inf ? INFINITE : NOT_A_NUMBER;
    return v;
}

/* sig * 2^-shift as an integer. */
static uint64_t round_off(uint64_t sig, int shift, enum num_round r, bool negative)
{
    if (shift <= 0) return sig << -shift;
    uint64_t q = shift > 63 ? 0 : sig >> shift, rest = shift > 63 ? sig : low_bits(sig, shift);
    int above; /* of rest against one half: -1 less, 0 equal, 1 more */
    if (shift > 64) above = -1;
    else {
        uint64_t half = (uint64_t)1 << (shift - 1);
        above = rest > half ? 1 : rest == half ? 0 : -1;
    }
    switch (r) {
    case NUM_RZ: return q;
    case NUM_RM: return q + (rest && negative);
    case NUM_RP: return q + (rest && !negative);
    case NUM_RNA: return q + (above >= 0);
    default: return q + (above > 0 || (above == 0 && (q & 1)));
    }
}

static bool toward_zero(enum num_round r, bool negative)
{
    return r == NUM_RZ || (r == NUM_RM && !negative) || (r == NUM_RP && negative);
}

/* The next power of two up (rp) or down (rz), of the magnitude. */
static uint64_t pack_ue8m0(struct value v, enum num_round r, int flags)
{
    uint64_t beyond = flags & NUM_SATFINITE ? 0xFE : 0xFF;
    if (v.class == NOT_A_NUMBER) return 0xFF;
    if (v.class == INFINITE) return beyond;
    if (!v.sig) return 0;
    int msb = 63 - __builtin_clzll(v.sig), e = v.exp + msb + 127;
    if (r == NUM_RP && low_bits(v.sig, msb)) e++;
    return e < 0 ? 0 : e > 254 ? beyond : (uint64_t)e;
}

static uint64_t pack_float(enum num_type t, struct value v, enum num_round r, int flags)
{
    const struct num_format *f = &num_formats[t];
    if (t == NUM_ue8m0) return pack_ue8m0(v, r, flags);
    bool saturate = flags & NUM_SATFINITE || f->bits <= 8;
    uint64_t sign = v.negative ? (uint64_t)1 << (f->exp + f->frac) : 0, mag;
    if (v.class == NOT_A_NUMBER) return (f->nan ? f->nan : f->top) << f->low;
    if (v.class == INFINITE) {
        mag = saturate || !f->inf ? f->top : f->inf;
    } else if (!v.sig) {
        mag = 0;
    } else {
        int least = 1 - f->bias, e = v.exp + 63 - __builtin_clzll(v.sig);
        if (e < least) e = least;
        if (e > f->bias + 1) mag = UINT64_MAX >> 1;
        else mag = round_off(v.sig, e - f->frac - v.exp, r, v.negative) + ((uint64_t)(e - least) << f->frac);
        if (mag > f->top) mag = saturate || !f->inf || toward_zero(r, v.negative) ? f->top : f->inf;
    }
    if (flags & NUM_RELU && v.negative) return 0;
    if (flags & NUM_FTZ && t == NUM_f32 && mag < (uint64_t)1 << 23) mag = 0;
    return (sign | mag) << f->low;
}

/* What cvt leaves in a register: the value extended to 32 bits. */
static uint64_t extend(enum num_type t, uint64_t x)
{
    int n = num_bits(t);
    x = low_bits(x, n);
    if (n < 32 && num_is_signed(t) && x >> (n - 1) & 1) x |= 0xFFFFFFFFu & ~low_bits(~(uint64_t)0, n);
    return x;
}

static uint64_t pack_integer(enum num_type t, struct value v, enum num_round r)
{
    int n = num_bits(t);
    bool is_signed = num_is_signed(t);
    if (v.class == NOT_A_NUMBER) return n == 64 ? (uint64_t)1 << 63 : 0;
    uint64_t most = is_signed    ? low_bits(~(uint64_t)0, n - 1) + v.negative
                    : v.negative ? 0
                                 : low_bits(~(uint64_t)0, n),
             q;
    if (v.class == INFINITE) q = most;
    else if (!v.sig) q = 0;
    else if (v.exp + 63 - __builtin_clzll(v.sig) > 63) q = most;
    else q = round_off(v.sig, -v.exp, r, v.negative);
    if (q > most) q = most;
    return extend(t, v.negative ? 0 - q : q);
}

static struct value to_integral(struct value v, enum num_round r)
{
    if (v.class != FINITE || v.exp >= 0) return v;
    v.sig = round_off(v.sig, -v.exp, r, v.negative);
    v.exp = 0;
    return v;
}

static struct value clamp_to_one(struct value v)
{
    if (v.class == NOT_A_NUMBER || v.negative) return (struct value){0};
    bool above = v.class == INFINITE || (v.sig && v.exp + 63 - __builtin_clzll(v.sig) >= 0);
    return above ? (struct value){.sig = 1} : v;
}

/* Rounding to tf32 with ties away is integer code on the chips, and treats NaN as any other pattern. */
static uint64_t tf32_rna(uint32_t x, int flags)
{
    if ((x & 0x7FFFFFFF) < 0x7F800000) x += 0x1000;
    x &= 0xFFFFE000;
    if (flags & NUM_SATFINITE && (x & 0x7F800000) == 0x7F800000) x -= 0x2000;
    return x;
}

uint64_t num_cvt(enum num_type to, enum num_type from, enum num_round r, int flags, uint64_t bits)
{
    bool to_float = num_is_float(to), from_float = num_is_float(from);
    if (to == NUM_tf32 && r == NUM_RNA) return tf32_rna((uint32_t)bits, flags);
    if (to == NUM_f32 && from == NUM_bf16 && !flags) return num_f32_of_bf16((uint32_t)bits & 0xFFFF);
    if (!to_float && !from_float && !(flags & NUM_SAT)) {
        struct value v = unpack_integer(from, bits);
        return extend(to, v.negative ? 0 - v.sig : v.sig);
    }
    struct value v = unpack(from, bits);
    if (flags & NUM_FTZ && from == NUM_f32 && v.class == FINITE && v.sig < (uint64_t)1 << 23) v.sig = 0;
    if (!to_float) return pack_integer(to, v, r);
    if (flags & NUM_INTEGRAL) v = to_integral(v, r);
    if (flags & NUM_SAT) v = clamp_to_one(v);
    return pack_float(to, v, r, flags);
}

/* ---- the same, for what kernels do all the time ---- */

uint32_t num_f32_of_f16(uint32_t h)
{
    uint32_t sign = (h & 0x8000) << 16, mag = h & 0x7FFF;
    if (mag > 0x7C00) return 0x7FFFFFFF;
    if (mag >= 0x7C00) return sign | 0x7F800000;
    if (mag >= 0x400) return sign | ((mag << 13) + ((uint32_t)112 << 23));
    return sign | num_float_bits((float)mag * 0x1p-24f);
}

uint32_t num_bf16_of_f32(uint32_t x)
{
    if ((x & 0x7FFFFFFF) > 0x7F800000) return 0x7FFF;
    return (x + 0x7FFF + (x >> 16 & 1)) >> 16;
}

uint32_t num_f16_of_f32(uint32_t x)
{
    uint32_t sign = x >> 16 & 0x8000, mag = x & 0x7FFFFFFF;
    if (mag > 0x7F800000) return 0x7FFF;
    if (mag >= 0x477FF000) return sign | 0x7C00; /* 65520 and more */
    if (mag < 0x38800000) { /* below 2^-14: adding 1/2 leaves units of 2^-24 */
        return sign | (num_float_bits(num_float(mag) + 0.5f) - 0x3F000000);
    }
    return sign | ((mag + 0xFFF + (mag >> 13 & 1) - ((uint32_t)112 << 23)) >> 13);
}
