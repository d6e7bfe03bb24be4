/* fdpa - the tensor cores' truncated fused dot product and add, and the integer one.
 *
 * Operands are decoded once per instruction into significands (small integers held as floats) and exponents. A product
 * of two significands is exact in a float; multiplying it by a power of two and converting to an integer truncates it
 * toward zero exactly as the hardware aligns it. Eight columns are computed side by side in vectors of the compiler. */
#include "runtime/emu/numerics.h"

#include <math.h>
#include <string.h>

/* One body for every x86-64, the widest one picked when the program starts. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define WIDEST __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define WIDEST
#endif

typedef int32_t v_int __attribute__((vector_size(32)));
typedef float v_float __attribute__((vector_size(32)));
typedef double v_double __attribute__((vector_size(64)));
typedef int64_t v_long __attribute__((vector_size(64)));
typedef int64_t v_half __attribute__((vector_size(32))); /* a v_int seen as four words */

/* Exponents of what is not an ordinary number. They dominate any sum of exponents in this order. */
enum { EXP_ZERO = -8192, EXP_INF = 1 << 20, EXP_NAN = 1 << 24, EXP_SPECIAL = 1 << 19, EXP_SURELY_NAN = 1 << 23 };

enum finish { RZ_F32, RZ_E8M13, RN_F16 };
enum style { PLAIN, EMULATED, GROUPS };
enum input { TF32 = 1, HALF = 2, FP8 = 4, FP6 = 8, FP4 = 16 };
enum {
    AMPERE = 1 << EMU_SM80, ADA = 1 << EMU_SM89, HOPPER = 1 << EMU_SM90, BLACKWELL = 1 << EMU_SM100 | 1 << EMU_SM103,
    GEFORCE = 1 << EMU_SM120 | 1 << EMU_SM121, SINCE_HOPPER = HOPPER | BLACKWELL | GEFORCE
};

struct model {
    int chips, units, inputs;
    enum num_type d_type;
    int length, keep, floor;
    enum finish finish;
    enum style style;
};
static const struct model models[] = {
#define ROW(chips, units, inputs, d, length, keep, floor, finish, style) \
    {chips, units, inputs, d, length, keep, floor, finish, style},
#include "runtime/emu/fdpa.def"
};

static int input_class(enum num_type t)
{
    switch (t) {
    case NUM_tf32: return TF32;
    case NUM_f16: case NUM_bf16: return HALF;
    case NUM_e4m3: case NUM_e5m2: return FP8;
    case NUM_e2m3: case NUM_e3m2: return FP6;
    case NUM_e2m1: return FP4;
    default: return 0;
    }
}

static const struct model *find_model(const struct num_mma *j)
{
    int in = input_class(j->a_type) | input_class(j->b_type);
    if (!input_class(j->a_type) || !input_class(j->b_type)) return NULL;
    for (int i = 0; i < COUNT(models); i++) {
        const struct model *m = &models[i];
        if (m->chips >> j->chip & 1 && m->units & j->unit && !(in & ~m->inputs) && m->d_type == j->d_type &&
            (m->style == GROUPS) == j->exact_groups)
            return m;
    }
    return NULL;
}

/* ---- operands ---- */

struct operand {
    float *mant;  /* signed significand; the value is mant * 2^(exp - fraction bits) */
    int32_t *exp;
};

WIDEST static void decode(enum num_type t, const uint32_t *raw, int n, const struct operand *o)
{
    const struct num_format f = num_formats[t];
    int frac = f.frac, low = f.low, bias = f.bias, sign_at = f.exp + f.frac;
    uint32_t frac_mask = (1u << frac) - 1, mag_mask = (1u << sign_at) - 1, top = (uint32_t)f.top, inf = (uint32_t)f.inf;
    for (int i = 0; i < n; i++) {
        uint32_t x = raw[i] >> low, mag = x & mag_mask;
        int32_t field = (int32_t)(mag >> frac), sig = (int32_t)(mag & frac_mask) | (field ? 1 << frac : 0);
        int32_t e = (field ? field : 1) - bias;
        e = sig ? e : EXP_ZERO;
        e = mag > top ? (mag == inf ? EXP_INF : EXP_NAN) : e;
        o->mant[i] = (float)(x >> sign_at & 1 ? -sig : sig);
        o->exp[i] = e;
    }
}

/* An e4m3 subnormal is a normal f16: shift the significand up to where f16 has it. */
static void normalise(const struct operand *o, int n, float least)
{
    for (int i = 0; i < n; i++)
        while (o->mant[i] != 0 && fabsf(o->mant[i]) < least) o->mant[i] *= 2, o->exp[i]--;
}

/* ---- one block of `length` products ---- */

/* |v| is an exact sum; the result is truncated to `frac` fraction bits, subnormals included. */
static uint32_t finish_truncated(double v, int frac)
{
    if (v == 0) return 0;
    uint32_t sign = v < 0 ? 0x80000000u : 0;
    uint64_t bits = num_double_bits(v);
    int e = (int)(bits >> 52 & 0x7FF) - 1023;
    if (e > 127) return sign | 0x7F800000u;
    if (e >= -126)
        return sign | (uint32_t)(e + 127) << 23 | (uint32_t)(bits >> (52 - frac) & ((1u << frac) - 1)) << (23 - frac);
    uint32_t q = (uint32_t)ldexp(fabs(v), 126 + frac) << (23 - frac);
    return q ? sign | q : 0;
}

static uint32_t finish_f16(double v)
{
    if (v == 0) return 0;
    uint32_t sign = v < 0 ? 0x8000u : 0;
    uint64_t bits = num_double_bits(v), sig = (bits & (((uint64_t)1 << 52) - 1)) | (uint64_t)1 << 52;
    int e = (int)(bits >> 52 & 0x7FF) - 1023, shift = e < -14 ? 42 + (-14 - e) : 42;
    if (e > 15) return sign | 0x7C00;
    if (shift > 53) return 0;
    uint64_t q = sig >> shift, rest = sig & (((uint64_t)1 << shift) - 1), half = (uint64_t)1 << (shift - 1);
    q += rest > half || (rest == half && (q & 1));
    uint32_t r = (uint32_t)((e < -14 ? 0 : (uint64_t)(e + 14) << 10) + q);
    return r ? sign | (r > 0x7C00 ? 0x7C00 : r) : 0;
}

static uint32_t finish_one(enum finish f, double v)
{
    return f == RN_F16 ? finish_f16(v) : finish_truncated(v, f == RZ_F32 ? 23 : 13);
}

/* A lane in which an infinity or NaN takes part. a: k terms apart by 1, b: by 8. */
static uint32_t special(const struct model *md, int k, const float *am, const int32_t *ae, const float *bm,
                        const int32_t *be, int c_exp, bool c_negative)
{
    bool nan = c_exp >= EXP_SURELY_NAN, inf[2] = {false, false};
    if (c_exp >= EXP_SPECIAL) inf[c_negative] = true;
    for (int i = 0; i < k; i++) {
        int x = ae[i], y = be[8 * i];
        if (x + y < EXP_SPECIAL) continue;
        if (x + y >= EXP_SURELY_NAN || am[i] == 0 || bm[8 * i] == 0) nan = true;
        else inf[(am[i] < 0) != (bm[8 * i] < 0)] = true;
    }
    bool half = md->finish == RN_F16;
    if (nan || (inf[0] && inf[1])) return half ? 0x7FFF : 0x7FFFFFFF;
    return half ? 0x7C00u | (uint32_t)inf[1] << 15 : 0x7F800000u | (uint32_t)inf[1] << 31;
}

/* k products starting at operand position k0, for all m rows and n columns; `stride` is the operands' k. */
struct block {
    const struct model *model;
    int m, n, stride, k0, k, frac; /* frac: fraction bits of a product of significands */
    const struct operand *a, *b;
    uint32_t *cd;
    int ld;
};

#define V_MAX(a, b) (((a) & ((a) > (b))) | ((b) & ~((a) > (b))))
#define V_ALL(x) ((v_int){0} + (x))
#define INLINE static inline __attribute__((always_inline))

/* Eight lanes of one row: the addend, the largest exponent, the exact sum. Vectors go by pointer: by value their passing
 * would depend on what the compiler may assume of the machine. */
struct lanes {
    v_int c, c_sig, c_exp, largest;
    v_double sum;
};

INLINE bool any(const v_int *mask)
{
    v_half h = (v_half)*mask;
    return h[0] | h[1] | h[2] | h[3];
}

/* Significand and exponent of C, an f32 or in its low half an f16. */
INLINE void split_addend(struct lanes *l, bool half)
{
    const int at = half ? 10 : 23, bias = half ? 15 : 127, ones = half ? 0x1F : 0xFF;
    v_int field = (l->c >> at) & ones, frac = l->c & ((1 << at) - 1);
    v_int sig = frac | ((field != 0) & (1 << at)), e = (field - (field == 0)) - bias, odd = field == ones;
    e = ((sig != 0) & e) | ((sig == 0) & EXP_ZERO);
    l->c_sig = sig;
    l->c_exp = (~odd & e) | (odd & (((frac == 0) & EXP_INF) | ((frac != 0) & EXP_NAN)));
}

INLINE void find_largest(struct lanes *l, int floor, int k, const int32_t *ae, const v_int *be)
{
    v_int most = V_MAX(l->c_exp, V_ALL(floor));
    for (int i = 0; i < k; i++) {
        v_int e = be[i] + ae[i];
        most = V_MAX(e, most);
    }
    l->largest = most;
}

/* The addend as an integer in units of 2^(largest - keep). A power of two is built in the exponent field of a float; when
 * it would be too small to count, it is zero. */
INLINE void cut_addend(struct lanes *l, int keep, bool half)
{
    v_int at = V_ALL(keep + 127 - (half ? 10 : 23)) - l->largest + l->c_exp;
    at &= ~(at >> 31);
    v_int sign = (half ? l->c << 16 : l->c) & INT32_MIN;
    v_float mant = (v_float)((v_int)__builtin_convertvector(l->c_sig, v_float) | sign);
    v_int term = __builtin_convertvector(mant * (v_float)(at << 23), v_int);
    l->sum = __builtin_convertvector(term, v_double);
}

/* Adds the products, cut the same way. Sixteen of them and no more fit 32 bits. `frac`: fraction bits of a product. */
INLINE void add_products(struct lanes *l, int keep, int frac, int k, const float *am, const int32_t *ae,
                         const v_float *bm, const v_int *be)
{
    v_int unit = V_ALL(keep + 127 - frac) - l->largest;
    for (int first = 0; first < k; first += 16) {
        v_int sum = {0};
        int end = first + 16 < k ? first + 16 : k;
        for (int i = first; i < end; i++) {
            v_int at = be[i] + ae[i] + unit;
            at &= ~(at >> 31);
            sum += __builtin_convertvector(bm[i] * am[i] * (v_float)(at << 23), v_int);
        }
        l->sum += __builtin_convertvector(sum, v_double);
    }
}

/* The sum in its own unit, rounded. An f32 is a double cut short, unless it is subnormal: then one by one. */
INLINE void round_lanes(struct lanes *l, const struct model *md, uint32_t *cd)
{
    v_long scale = (__builtin_convertvector(l->largest, v_long) + (1023 - md->keep)) << 52;
    v_double v = l->sum * (v_double)scale;
    v_int small = l->largest < -90;
    if (md->finish == RN_F16 || any(&small)) {
        for (int i = 0; i < 8; i++) cd[i] = finish_one(md->finish, v[i]);
        return;
    }
    v_long kept = (v_long)v & -((int64_t)1 << (md->finish == RZ_F32 ? 29 : 39));
    v_float f = __builtin_convertvector((v_double)kept, v_float);
    memcpy(cd, &f, sizeof f);
}

WIDEST static void run_block(const struct block *p)
{
    const struct model *md = p->model;
    const bool half = md->finish == RN_F16;
    for (int nb = 0; nb < p->n / 8; nb++) {
        const v_float *bm = (const v_float *)p->b->mant + nb * p->stride + p->k0;
        const v_int *be = (const v_int *)p->b->exp + nb * p->stride + p->k0;
        for (int m = 0; m < p->m; m++) {
            const float *am = p->a->mant + m * p->stride + p->k0;
            const int32_t *ae = p->a->exp + m * p->stride + p->k0;
            uint32_t *cd = p->cd + m * p->ld + nb * 8;
            struct lanes l;
            memcpy(&l.c, cd, sizeof l.c);
            split_addend(&l, half);
            find_largest(&l, md->floor, p->k, ae, be);
            cut_addend(&l, md->keep, half);
            add_products(&l, md->keep, p->frac, p->k, am, ae, bm, be);
            round_lanes(&l, md, cd);
            v_int infinite = l.largest >= EXP_SPECIAL;
            if (!any(&infinite)) continue;
            for (int i = 0; i < 8; i++)
                if (infinite[i])
                    cd[i] = special(md, p->k, am, ae, (const float *)bm + i, (const int32_t *)be + i, l.c_exp[i],
                                    l.c[i] >> (half ? 15 : 31) & 1);
        }
    }
}

/* ---- mxf4, mxf4nvf4: groups of sixteen products are summed exactly, then scaled ---- */

enum { GROUP = 16 };

/* A scale as significand (3 fraction bits) and exponent. */
struct scale {
    int sig, exp;
    bool nan;
};

static struct scale decode_scale(enum num_type t, uint8_t byte)
{
    if (t == NUM_ue8m0) return (struct scale){8, byte - 127, byte == 0xFF};
    int field = byte >> 3 & 15, frac = byte & 7; /* the sign bit is not looked at */
    return (struct scale){field ? 8 | frac : frac, (field ? field : 1) - 7, field == 15 && frac == 7};
}

/* value * 2^shift, cut toward zero */
static int64_t cut(int64_t value, int shift)
{
    if (shift >= 0) return value * ((int64_t)1 << shift);
    return shift < -62 ? 0 : value < 0 ? -(-value >> -shift) : value >> -shift;
}

/* One output from its groups' sums, which count quarters since e2m1 counts halves. x, y: the groups' scales of A and B. */
static uint32_t finish_groups(const struct model *md, int groups, const struct scale *x, const struct scale *y,
                              const int32_t (*sum)[8], const int32_t (*used)[8], int lane, uint32_t c)
{
    int E = md->floor, exps[NUM_MAX_K / GROUP], c_field = (int)(c >> 23 & 0xFF);
    int c_sig = (int)(c & 0x7FFFFF) | (c_field ? 1 << 23 : 0), c_exp = (c_field ? c_field : 1) - 127;
    bool nan = c_field == 0xFF && c & 0x7FFFFF;
    for (int g = 0; g < groups; g++) {
        nan |= x[g].nan || y[g].nan;
        exps[g] = used[g][lane] && x[g].sig && y[g].sig ? x[g].exp + y[g].exp : EXP_ZERO;
        if (exps[g] > E) E = exps[g];
    }
    if (nan) return 0x7FFFFFFF;
    if (c_field == 0xFF) return c;
    if (c_sig && c_exp > E) E = c_exp;
    int64_t total = c_sig ? cut(c >> 31 ? -c_sig : c_sig, md->keep - 23 + c_exp - E) : 0;
    for (int g = 0; g < groups; g++)
        total += cut((int64_t)sum[g][lane] * x[g].sig * y[g].sig, md->keep - 8 + exps[g] - E);
    return finish_one(md->finish, (double)total * num_double((uint64_t)(E - md->keep + 1023) << 52));
}

/* Whole halves: e2m1 decodes to integers with exponents 0..2. */
static void to_halves(const struct operand *o, int n)
{
    for (int i = 0; i < n; i++) o->mant[i] = o->mant[i] == 0 ? 0 : ldexpf(o->mant[i], o->exp[i]);
}

/* Sums of the groups of one row and eight columns, and whether any product in them is not zero. */
WIDEST static void sum_groups(int groups, const float *a, const float *b, int32_t (*sum)[8], int32_t (*used)[8])
{
    for (int g = 0; g < groups; g++) {
        v_float s = {0}, magnitude = {0};
        for (int k = g * GROUP; k < (g + 1) * GROUP; k++) {
            v_float product = ((const v_float *)b)[k] * a[k];
            s += product;
            magnitude += product * product;
        }
        v_int whole = __builtin_convertvector(s, v_int), some = magnitude != 0;
        memcpy(sum[g], &whole, sizeof whole);
        memcpy(used[g], &some, sizeof some);
    }
}

/* The scale of every group of every row, [row][group]. */
static void group_scales(const struct num_mma *j, const uint8_t *bytes, int rows, struct scale *out)
{
    int groups = j->k / GROUP, per_scale = j->block / GROUP;
    for (int r = 0; r < rows; r++)
        for (int g = 0; g < groups; g++)
            out[r * groups + g] = decode_scale(j->scale_type, bytes[r * (j->k / j->block) + g / per_scale]);
}

static void run_groups(const struct model *md, const struct num_mma *j, const struct operand *a,
                       const struct operand *b)
{
    enum { MOST = NUM_MAX_K / GROUP };
    struct scale x[NUM_MAX_M * MOST], y[NUM_MAX_N * MOST];
    int groups = j->k / GROUP;
    to_halves(a, j->m * j->k);
    to_halves(b, j->n * j->k);
    group_scales(j, j->scale_a, j->m, x);
    group_scales(j, j->scale_b, j->n, y);
    for (int n = 0; n < j->n; n += 8)
        for (int m = 0; m < j->m; m++) {
            _Alignas(32) int32_t sum[MOST][8], used[MOST][8];
            sum_groups(groups, a->mant + m * j->k, b->mant + n * j->k, sum, used);
            uint32_t *cd = j->cd + m * j->ld + n;
            for (int l = 0; l < 8; l++)
                cd[l] = finish_groups(md, groups, x + m * groups, y + (n + l) * groups, (const int32_t(*)[8])sum,
                                      (const int32_t(*)[8])used, l, cd[l]);
        }
}

/* ---- fp8 on chips whose mma.sync has none ---- */

/* k / 2 even first, then k / 2 odd. `step`: words per k. */
static void split_k(const uint32_t *from, uint32_t *to, int rows, int k, int step)
{
    for (int r = 0; r < rows; r++)
        for (int i = 0, even = 0, odd = k / 2; i < k; i++) {
            int at = i >> 1 & 1 ? odd++ : even++;
            memcpy(to + (r * k + at) * step, from + (r * k + i) * step, sizeof *to * (size_t)step);
        }
}

/* f16 + f16, to nearest even. The sum of two f16 is exact in a double. */
static uint32_t add_f16(uint32_t x, uint32_t y)
{
    double s = (double)num_float(num_f32_of_f16(x)) + (double)num_float(num_f32_of_f16(y));
    if (s != s) return 0x7FFF;
    if (isinf(s)) return s < 0 ? 0xFC00 : 0x7C00;
    return s == 0 ? x & y & 0x8000 : finish_f16(s);
}

static uint32_t add_f32(uint32_t x, uint32_t y)
{
    float s = num_float(x) + num_float(y);
    return s != s ? 0x7FFFFFFF : num_float_bits(s);
}

/* ---- integers ---- */

static int32_t integer(enum num_type t, uint32_t x)
{
    switch (t) {
    case NUM_s8: return (int8_t)x;
    case NUM_u8: return (uint8_t)x;
    case NUM_s4: return (int32_t)(x << 28) >> 28;
    default: return x & 15;
    }
}

WIDEST static void integer_rows(const int32_t *a, const int32_t *b, int m, int n, int k, int ld, bool saturate,
                                uint32_t *cd)
{
    for (int nb = 0; nb < n / 8; nb++)
        for (int i = 0; i < m; i++) {
            v_int sum = {0};
            for (int t = 0; t < k; t++) {
                v_int y;
                memcpy(&y, b + (nb * k + t) * 8, sizeof y);
                sum += y * a[i * k + t];
            }
            for (int l = 0; l < 8; l++) {
                uint32_t *d = cd + i * ld + nb * 8 + l;
                int64_t s = (int64_t)(int32_t)*d + sum[l];
                if (saturate) s = s > INT32_MAX ? INT32_MAX : s < INT32_MIN ? INT32_MIN : s;
                *d = (uint32_t)s;
            }
        }
}

static bool integer_mma(const struct num_mma *j)
{
    _Alignas(64) int32_t a[NUM_MAX_M * NUM_MAX_K], b[NUM_MAX_N * NUM_MAX_K];
    for (int i = 0; i < j->m * j->k; i++) a[i] = integer(j->a_type, j->a[i]);
    for (int i = 0; i < j->n * j->k; i++) b[i] = integer(j->b_type, j->b[i]);
    integer_rows(a, b, j->m, j->n, j->k, j->ld, j->saturate, j->cd);
    return true;
}

/* ---- the whole instruction ---- */

/* Scale exponents join those of the elements: per block of k one factor, a power of two. */
static void scale_rows(const struct num_mma *j, const struct operand *o, const uint8_t *scales, int rows, bool columns)
{
    int per_row = j->k / j->block;
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < j->k; k++) {
            struct scale s = decode_scale(j->scale_type, scales[r * per_row + k / j->block]);
            int at = columns ? (r / 8 * j->k + k) * 8 + r % 8 : r * j->k + k;
            if (s.nan) o->exp[at] = EXP_NAN, o->mant[at] = 1;
            else o->exp[at] += s.exp;
        }
}

static void run_blocks(const struct model *md, const struct num_mma *j, const struct operand *a,
                       const struct operand *b, uint32_t *cd, int ld)
{
    int length = md->style == EMULATED ? j->k / 2 : md->length;
    struct block p = {.model = md, .m = j->m, .n = j->n, .stride = j->k, .a = a, .b = b, .cd = cd, .ld = ld,
                      .frac = num_formats[j->a_type].frac + num_formats[j->b_type].frac};
    for (p.k0 = 0; p.k0 < j->k; p.k0 += p.k) {
        p.k = j->k - p.k0 < length ? j->k - p.k0 : length;
        run_block(&p);
    }
}

static void run_emulated(const struct model *md, const struct num_mma *j, const struct operand *a,
                         const struct operand *b)
{
    uint32_t h[16 * 8] = {0};
    if (j->a_type == NUM_e4m3) normalise(a, j->m * j->k, 8);
    if (j->b_type == NUM_e4m3) normalise(b, j->n * j->k, 8);
    run_blocks(md, j, a, b, h, 8);
    for (int m = 0; m < j->m; m++)
        for (int n = 0; n < j->n; n++) {
            uint32_t *d = j->cd + m * j->ld + n;
            *d = md->finish == RN_F16 ? add_f16(*d, h[m * 8 + n]) : add_f32(*d, h[m * 8 + n]);
        }
}

bool num_mma(const struct num_mma *j)
{
    if (j->d_type == NUM_s32) return integer_mma(j);
    const struct model *md = find_model(j);
    if (!md) return false;
    _Alignas(64) float a_mant[NUM_MAX_M * NUM_MAX_K], b_mant[NUM_MAX_N * NUM_MAX_K];
    _Alignas(64) int32_t a_exp[NUM_MAX_M * NUM_MAX_K], b_exp[NUM_MAX_N * NUM_MAX_K];
    struct operand a = {a_mant, a_exp}, b = {b_mant, b_exp};
    const uint32_t *a_raw = j->a, *b_raw = j->b;
    uint32_t a_split[16 * 32], b_split[8 * 32];
    if (md->style == EMULATED) {
        split_k(a_raw, a_split, j->m, j->k, 1);
        split_k(b_raw, b_split, j->n / 8, j->k, 8);
        a_raw = a_split;
        b_raw = b_split;
    }
    decode(j->a_type, a_raw, j->m * j->k, &a);
    decode(j->b_type, b_raw, j->n * j->k, &b);
    if (j->negate)
        for (int i = 0; i < j->m * j->k; i++) a_mant[i] = -a_mant[i];
    if (j->scale_a && md->style == PLAIN) {
        scale_rows(j, &a, j->scale_a, j->m, false);
        scale_rows(j, &b, j->scale_b, j->n, true);
    }
    if (md->style == GROUPS) run_groups(md, j, &a, &b);
    else if (md->style == EMULATED) run_emulated(md, j, &a, &b);
    else run_blocks(md, j, &a, &b, j->cd, j->ld);
    return true;
}
