/* types - the table of element types, and exact conversion of one value on the host. */
#include "dsl/types.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    int bits;
    enum type_kind kind;
} types[TY_COUNT] = {
    [TY_none] = {"none", 0, TYPE_INT},
#define TYPE(name, bits, kind, ptx, meaning) [TY_##name] = {#name, bits, TYPE_##kind},
#include "dsl/types.def"
};

const char *type_name(enum type t)
{
    return types[t].name;
}

int type_bits(enum type t)
{
    return types[t].bits;
}

enum type_kind type_kind(enum type t)
{
    return types[t].kind;
}

enum type type_find(const char *name)
{
    for (int t = TY_none + 1; t < TY_COUNT; t++)
        if (!strcmp(types[t].name, name)) return (enum type)t;
    return TY_none;
}

/* How a floating type stores sign, exponent and fraction. `top` is the largest finite magnitude, `nan` the pattern that a
 * NaN becomes; `inf` the pattern of infinity, or 0 where values beyond the largest saturate. `low` unused low bits. */
struct format {
    int exp, frac, bias, low;
    bool has_sign;
    uint64_t top, nan, inf;
};

static const struct format formats[TY_COUNT] = {
    /*            exp frac bias low sign  top         nan         inf     */
    [TY_f32]   = {8,  23,  127, 0,  true,  0x7F7FFFFF, 0x7FFFFFFF, 0x7F800000},
    [TY_tf32]  = {8,  10,  127, 13, true,  0x3FBFF,    0x3FFFF,    0x3FC00},
    [TY_f16]   = {5,  10,  15,  0,  true,  0x7BFF,     0x7FFF,     0x7C00},
    [TY_bf16]  = {8,  7,   127, 0,  true,  0x7F7F,     0x7FFF,     0x7F80},
    [TY_e4m3]  = {4,  3,   7,   0,  true,  0x7E,       0x7F,       0},
    [TY_e5m2]  = {5,  2,   15,  0,  true,  0x7B,       0x7F,       0},
    [TY_e2m1]  = {2,  1,   1,   0,  true,  0x7,        0x7,        0},
    [TY_ue4m3] = {4,  3,   7,   0,  false, 0x7E,       0x7F,       0},
};

double type_decode(enum type t, uint64_t bits)
{
    if (t == TY_ue8m0) return (bits & 0xFF) == 0xFF ? (double)NAN : ldexp(1.0, (int)(bits & 0xFF) - 127);
    const struct format *f = &formats[t];
    bits >>= f->low;
    uint64_t magnitude = bits & ((1ull << (f->exp + f->frac)) - 1), frac = magnitude & ((1ull << f->frac) - 1);
    int exp = (int)(magnitude >> f->frac);
    bool negative = f->has_sign && (bits >> (f->exp + f->frac) & 1);
    double v;
    if (magnitude > f->top && f->inf && magnitude == f->inf) v = (double)INFINITY;
    else if (t == TY_e5m2 && magnitude == 0x7C) v = (double)INFINITY;
    else if (magnitude > f->top) v = (double)NAN;
    else if (exp == 0) v = ldexp((double)frac, 1 - f->bias - f->frac);
    else v = ldexp((double)(frac | 1ull << f->frac), exp - f->bias - f->frac);
    return negative ? -v : v;
}

/* The next power of two up, of the magnitude: PTX's cvt.rp.satfinite. */
static uint64_t encode_ue8m0(double value)
{
    if (isnan(value)) return 0xFF;
    value = fabs(value);
    if (value > ldexp(1.0, 127)) return 0xFE;
    if (value <= ldexp(1.0, -127)) return 0;
    int e;
    double m = frexp(value, &e); /* value = m * 2^e, m in [0.5, 1) */
    return (uint64_t)(e - (m == 0.5) + 127);
}

/* Rounds to a whole number, ties to even, whatever rounding mode the program runs under; 0 <= x < 2^52. */
static uint64_t round_even(double x)
{
    uint64_t whole = (uint64_t)x;
    double rest = x - (double)whole;
    return whole + (rest > 0.5 || (rest == 0.5 && (whole & 1)));
}

uint64_t type_encode(enum type t, double value)
{
    if (t == TY_ue8m0) return encode_ue8m0(value);
    const struct format *f = &formats[t];
    uint64_t sign = f->has_sign && signbit(value) ? 1ull << (f->exp + f->frac) : 0;
    if (isnan(value)) return f->nan << f->low | (f->low ? (1ull << f->low) - 1 : 0);
    if (!f->has_sign && value < 0) return 0;
    uint64_t most = f->inf ? f->inf : f->top;
    double x = fabs(value);
    if (isinf(x)) return (sign | most) << f->low;
    int e = 0;
    frexp(x, &e);
    e--; /* x in [2^e, 2^(e+1)) */
    int least = 1 - f->bias;
    if (x == 0 || e < least) e = least;
    if (e > f->bias + 1) return (sign | most) << f->low;
    uint64_t units = round_even(ldexp(x, f->frac - e)); /* of 2^(e-frac) */
    /* A subnormal keeps exponent field 0; a carry out of the fraction moves into the exponent by itself. */
    uint64_t magnitude = units + ((uint64_t)(e - least) << f->frac);
    return (sign | (magnitude > f->top ? most : magnitude)) << f->low;
}
