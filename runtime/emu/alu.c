/* alu - integer and logic instructions: alu.def, and those with more operands than three. */
#include "runtime/emu/core.h"

#include <stdlib.h>

/* ---- one value ---- */

__extension__ typedef unsigned __int128 emu_u128;
__extension__ typedef __int128 emu_s128;

static inline int32_t sat_s32(int64_t x) { return x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : (int32_t)x; }
static inline uint64_t mul_hi_u64(uint64_t a, uint64_t b) { return (uint64_t)((emu_u128)a * b >> 64); }
static inline uint64_t mul_hi_s64(int64_t a, int64_t b) { return (uint64_t)((emu_s128)a * b >> 64); }
static inline uint32_t div_s32(int32_t a, int32_t b)
{
    return !b ? ~0u : b == -1 ? 0u - (uint32_t)a : (uint32_t)(a / b);
}
static inline uint64_t div_s64(int64_t a, int64_t b)
{
    return !b ? ~(uint64_t)0 : b == -1 ? 0 - (uint64_t)a : (uint64_t)(a / b);
}
static inline uint32_t top_bit(uint64_t a) { return a ? 63 - (uint32_t)__builtin_clzll(a) : ~0u; }

static inline uint64_t reverse(uint64_t x)
{
    x = (x >> 1 & 0x5555555555555555ull) | (x & 0x5555555555555555ull) << 1;
    x = (x >> 2 & 0x3333333333333333ull) | (x & 0x3333333333333333ull) << 2;
    x = (x >> 4 & 0x0F0F0F0F0F0F0F0Full) | (x & 0x0F0F0F0F0F0F0F0Full) << 4;
    return __builtin_bswap64(x);
}

static inline uint32_t pair_u16(uint32_t a, uint32_t b, bool max)
{
    uint32_t lo = ((a & 0xFFFF) > (b & 0xFFFF)) == max ? a & 0xFFFF : b & 0xFFFF;
    uint32_t hi = (a >> 16 > b >> 16) == max ? a >> 16 : b >> 16;
    return hi << 16 | lo;
}
static inline uint32_t pair_s16(uint32_t a, uint32_t b, bool max)
{
    return pair_u16(a ^ 0x80008000u, b ^ 0x80008000u, max) ^ 0x80008000u;
}

/* Bits pos .. pos+len-1, the rest filled with the sign. PTX ISA "bfe". */
static inline uint64_t bfe(uint64_t a, uint32_t pos, uint32_t len, uint32_t bits, bool sign)
{
    uint32_t top = pos + len - 1 < bits - 1 ? pos + len - 1 : bits - 1;
    uint64_t s = sign && len ? a >> top & 1 : 0;
    uint64_t v = pos >= bits ? 0 : a >> pos;
    if (len < 64)
        v &= ((uint64_t)1 << len) - 1;
    uint32_t got = pos >= bits ? 0 : len < bits - pos ? len : bits - pos;
    return s && got < 64 ? v | ~(uint64_t)0 << got : v;
}

/* PTX ISA "bmsk": ones in b bits from a on. */
static inline uint32_t bmsk(uint32_t a, uint32_t b, bool wrap)
{
    if (wrap)
        a &= 31, b &= 31;
    if (a > 31 || !b)
        return 0;
    uint64_t ones = b > 31 ? 0xFFFFFFFFull : ((uint64_t)1 << b) - 1;
    return (uint32_t)(ones << a);
}

/* PTX ISA "szext": keeps the low b bits of a, extended. */
static inline uint32_t szext(uint32_t a, uint32_t b, bool sign, bool wrap)
{
    if (wrap)
        b &= 31;
    if (b > 31)
        return a;
    if (!b)
        return 0;
    uint32_t v = a & (((uint32_t)1 << b) - 1);
    return sign && (v >> (b - 1) & 1) ? v | ~(((uint32_t)1 << b) - 1) : v;
}

/* PTX ISA "fns": position of the n-th set bit from `base`, upward or downward. */
static inline uint32_t fns(uint32_t mask, uint32_t base, int32_t n)
{
    if (base > 31)
        return ~0u;
    if (!n)
        return mask >> base & 1 ? base : ~0u;
    int step = n > 0 ? 1 : -1;
    int64_t left = n > 0 ? n : -(int64_t)n;
    for (int i = (int)base; i >= 0 && i < 32; i += step)
        if ((mask >> i & 1) && --left == 0)
            return (uint32_t)i;
    return ~0u;
}

static inline uint32_t prmt(uint32_t a, uint32_t b, uint32_t c)
{
    uint64_t both = (uint64_t)b << 32 | a;
    uint32_t d = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t s = c >> 4 * i & 15, byte = (uint32_t)(both >> 8 * (s & 7)) & 0xFF;
        if (s & 8)
            byte = byte & 0x80 ? 0xFF : 0;
        d |= byte << 8 * i;
    }
    return d;
}
static inline uint32_t prmt_ecl(uint32_t c)
{
    uint32_t s = 0;
    for (uint32_t i = 0; i < 4; i++)
        s |= (i > c ? i : c) << 4 * i;
    return s;
}
static inline uint32_t prmt_ecr(uint32_t c)
{
    uint32_t s = 0;
    for (uint32_t i = 0; i < 4; i++)
        s |= (i < c ? i : c) << 4 * i;
    return s;
}

static inline uint32_t dp4a(uint32_t a, uint32_t b, uint32_t c, bool as, bool bs)
{
    for (int i = 0; i < 32; i += 8) {
        int32_t x = as ? (int8_t)(a >> i) : (int32_t)(a >> i & 0xFF);
        int32_t y = bs ? (int8_t)(b >> i) : (int32_t)(b >> i & 0xFF);
        c += (uint32_t)(x * y);
    }
    return c;
}
static inline uint32_t vabsdiff4(uint32_t a, uint32_t b, uint32_t c)
{
    for (int i = 0; i < 32; i += 8)
        c += (uint32_t)abs((int)(a >> i & 0xFF) - (int)(b >> i & 0xFF));
    return c;
}

static inline uint32_t vabsdiff4_each(uint32_t a, uint32_t b)
{
    uint32_t d = 0;
    for (int i = 0; i < 32; i += 8)
        d |= (uint32_t)abs((int)(a >> i & 0xFF) - (int)(b >> i & 0xFF)) << i;
    return d;
}

/* ---- rows ---- */

#define ROW_u16 emu_u32
#define ROW_s16 emu_u32
#define ROW_u32 emu_u32
#define ROW_s32 emu_u32
#define ROW_u64 emu_u64
#define ROW_s64 emu_u64
#define ROW_none emu_u32
#define VAL_u16 uint16_t
#define VAL_s16 int16_t
#define VAL_u32 uint32_t
#define VAL_s32 int32_t
#define VAL_u64 uint64_t
#define VAL_s64 int64_t
#define VAL_none uint32_t
#define OUT_u16 uint16_t
#define OUT_s16 uint16_t
#define OUT_u32 uint32_t
#define OUT_s32 uint32_t
#define OUT_u64 uint64_t
#define OUT_s64 uint64_t

#define ALU(name, fn, D, TA, TB, TC, value)                                                                                \
    static EMU_HOT enum emu_next run_##fn(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)                    \
    {                                                                                                                      \
        ROW_##D *d = (ROW_##D *)emu_row(w, in->d);                                                                         \
        const ROW_##TA *a = (const ROW_##TA *)emu_row(w, in->a);                                                           \
        const ROW_##TB *b = (const ROW_##TB *)emu_row(w, in->b);                                                           \
        const ROW_##TC *c = (const ROW_##TC *)emu_row(w, in->c);                                                           \
        if (mask == ~0u) {                                                                                                 \
            EMU_IVDEP for (int l = 0; l < 32; l++)                                                              \
            {                                                                                                              \
                VAL_##TA A = (VAL_##TA)a[l];                                                                               \
                VAL_##TB B = (VAL_##TB)b[l];                                                                               \
                VAL_##TC C = (VAL_##TC)c[l];                                                                               \
                (void)A, (void)B, (void)C;                                                                                 \
                d[l] = (OUT_##D)(value);                                                                                   \
            }                                                                                                              \
            return EMU_NEXT;                                                                                               \
        }                                                                                                                  \
        FOR_LANES(l, mask)                                                                                                 \
        {                                                                                                                  \
            VAL_##TA A = (VAL_##TA)a[l];                                                                                   \
            VAL_##TB B = (VAL_##TB)b[l];                                                                                   \
            VAL_##TC C = (VAL_##TC)c[l];                                                                                   \
            (void)A, (void)B, (void)C;                                                                                     \
            d[l] = (OUT_##D)(value);                                                                                       \
        }                                                                                                                  \
        return EMU_NEXT;                                                                                                   \
    }
#include "runtime/emu/alu.def"

#define T_u16 EMU_T_U16
#define T_s16 EMU_T_S16
#define T_u32 EMU_T_U32
#define T_s32 EMU_T_S32
#define T_u64 EMU_T_U64
#define T_s64 EMU_T_S64
#define T_none EMU_T_NONE
static const struct alu_row {
    const char *name;
    emu_run_fn *run;
    enum emu_type d, a, b, c;
} alu_rows[] = {
#define ALU(name, fn, D, TA, TB, TC, value) {name, run_##fn, T_##D, T_##TA, T_##TB, T_##TC},
#include "runtime/emu/alu.def"
};

bool emu_decode_alu(struct emu_decode *d, struct emu_insn *in)
{
    for (int i = 0; i < COUNT(alu_rows); i++) {
        const struct alu_row *r = &alu_rows[i];
        if (strcmp(r->name, d->text))
            continue;
        d->at = d->nmod;
        in->run = r->run;
        in->b = in->c = EMU_ROW_ZERO;
        return emu_dst(d, 0, emu_types[r->d].bits, &in->d) && emu_src(d, 1, r->a, &in->a) &&
               (r->b == EMU_T_NONE || emu_src(d, 2, r->b, &in->b)) &&
               (r->c == EMU_T_NONE || emu_src(d, 3, r->c, &in->c));
    }
    return emu_bad(d, "no such form of this instruction is emulated");
}

/* Opcodes that exist for integers and floats: the type decides. */
bool emu_decode_arith(struct emu_decode *d, struct emu_insn *in)
{
    for (int i = 0; i < d->nmod; i++) {
        enum emu_type t = EMU_T_NONE;
        for (int k = 1; k < EMU_T_COUNT; k++)
            if (!strcmp(emu_types[k].name, d->mod[i]))
                t = (enum emu_type)k;
        enum emu_class c = emu_types[emu_types[t].elem].cls;
        if (t != EMU_T_NONE && c == EMU_C_F)
            return emu_decode_float(d, in);
    }
    return emu_decode_alu(d, in);
}

/* ---- predicates: and.pred, or.pred, xor.pred, not.pred, mov.pred ---- */

enum { P_AND, P_OR, P_XOR, P_NOT };

static enum emu_next run_pred(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    uint32_t a = emu_pred(w, in->a, in->u8[1]), b = emu_pred(w, in->b, in->u8[2]);
    uint32_t v = in->u8[0] == P_AND ? a & b : in->u8[0] == P_OR ? a | b : in->u8[0] == P_XOR ? a ^ b : ~a;
    emu_set_pred(w, in->d, mask, v);
    return EMU_NEXT;
}

bool emu_decode_logic(struct emu_decode *d, struct emu_insn *in)
{
    static const char *const ops[] = {"and.pred", "or.pred", "xor.pred", "not.pred", NULL};
    for (int i = 0; ops[i]; i++) {
        bool na = false, nb = false;
        if (strcmp(ops[i], d->text))
            continue;
        d->at = d->nmod;
        in->run = run_pred;
        in->b = EMU_P_FALSE;
        if (!emu_dst_pred(d, 0, &in->d) || !emu_src_pred(d, 1, &in->a, &na) ||
            (i != P_NOT && !emu_src_pred(d, 2, &in->b, &nb)))
            return false;
        in->u8[0] = (uint8_t)i;
        in->u8[1] = na;
        in->u8[2] = nb;
        return true;
    }
    return emu_decode_alu(d, in);
}

/* ---- lop3, bfi, carry ---- */

static EMU_HOT enum emu_next run_lop3(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    emu_u32 *d = emu_row(w, in->d);
    const emu_u32 *a = emu_row(w, in->a), *b = emu_row(w, in->b), *c = emu_row(w, in->c);
    uint32_t t[8];
    for (int i = 0; i < 8; i++)
        t[i] = in->imm >> i & 1 ? ~0u : 0;
    for (int l = 0; l < 32; l++) {
        uint32_t A = a[l], B = b[l], C = c[l];
        uint32_t v = (~A & ~B & ~C & t[0]) | (~A & ~B & C & t[1]) | (~A & B & ~C & t[2]) | (~A & B & C & t[3]) |
                     (A & ~B & ~C & t[4]) | (A & ~B & C & t[5]) | (A & B & ~C & t[6]) | (A & B & C & t[7]);
        d[l] = mask >> l & 1 ? v : d[l];
    }
    return EMU_NEXT;
}

bool emu_decode_lop3(struct emu_decode *d, struct emu_insn *in)
{
    in->run = run_lop3;
    if (!emu_mod(d, "b32"))
        return emu_bad(d, ".b32 is wanted");
    return emu_dst(d, 0, 32, &in->d) && emu_src(d, 1, EMU_T_B32, &in->a) && emu_src(d, 2, EMU_T_B32, &in->b) &&
           emu_src(d, 3, EMU_T_B32, &in->c) && emu_imm(d, 4, &in->imm);
}

/* bfi d, a (field), b (into), c (position), length in imm's row */
static enum emu_next run_bfi(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    bool wide = in->u8[0];
    uint32_t bits = wide ? 64 : 32;
    FOR_LANES(l, mask) {
        uint32_t pos = emu_row(w, in->c)[l] & 255, len = emu_row(w, (uint32_t)in->imm)[l] & 255;
        uint64_t a = wide ? emu_row64(w, in->a)[l] : emu_row(w, in->a)[l],
                 b = wide ? emu_row64(w, in->b)[l] : emu_row(w, in->b)[l];
        uint64_t field = pos >= bits ? 0 : (len >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << len) - 1) << pos;
        uint64_t v = pos >= bits ? b : (b & ~field) | (a << pos & field);
        if (wide)
            emu_row64(w, in->d)[l] = v;
        else
            emu_row(w, in->d)[l] = (uint32_t)v;
    }
    return EMU_NEXT;
}

bool emu_decode_bfi(struct emu_decode *d, struct emu_insn *in)
{
    uint32_t len;
    enum emu_type t = emu_mod_type(d);
    if (t != EMU_T_B32 && t != EMU_T_B64)
        return emu_bad(d, ".b32 or .b64 is wanted");
    in->run = run_bfi;
    in->u8[0] = t == EMU_T_B64;
    if (!emu_dst(d, 0, emu_types[t].bits, &in->d) || !emu_src(d, 1, t, &in->a) || !emu_src(d, 2, t, &in->b) ||
        !emu_src(d, 3, EMU_T_U32, &in->c) || !emu_src(d, 4, EMU_T_U32, &len))
        return false;
    in->imm = len;
    return true;
}

/* add.cc addc sub.cc subc mad.lo.cc madc: the carry is a predicate of its own per warp. */
static enum emu_next run_carry(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    bool wide = in->u8[0], subtract = in->u8[1], takes = in->u8[2], sets = in->u8[3];
    int mul = in->u8[4];
    FOR_LANES(l, mask) {
        uint64_t a = wide ? emu_row64(w, in->a)[l] : emu_row(w, in->a)[l],
                 b = wide ? emu_row64(w, in->b)[l] : emu_row(w, in->b)[l];
        emu_u128 x = a, y = b;
        uint32_t carry = takes ? w->carry >> l & 1 : 0;
        if (mul) {
            bool is_signed = in->u8[5];
            emu_u128 p = is_signed && !wide ? (emu_u128)((int64_t)(int32_t)a * (int32_t)b)
                                  : is_signed        ? (emu_u128)((emu_s128)(int64_t)a * (int64_t)b)
                                                     : x * y;
            x = mul == 2 ? p >> (wide ? 64 : 32) : p;
            x = wide ? (uint64_t)x : (uint32_t)x;
            y = wide ? emu_row64(w, in->c)[l] : emu_row(w, in->c)[l];
        }
        emu_u128 r = subtract ? x - y - carry : x + y + carry;
        if (sets)
            w->carry = (w->carry & ~(1u << l)) | (uint32_t)(r >> (wide ? 64 : 32) & 1) << l;
        if (wide)
            emu_row64(w, in->d)[l] = (uint64_t)r;
        else
            emu_row(w, in->d)[l] = (uint32_t)r;
    }
    return EMU_NEXT;
}

/* half: which half of the product is added to, 0 without a product. */
static bool decode_carry(struct emu_decode *d, struct emu_insn *in, bool subtract, bool takes, int half)
{
    in->u8[3] = emu_mod(d, "cc") || strstr(d->text, ".cc.");
    enum emu_type t = emu_mod_type(d);
    if (emu_types[t].bits < 32)
        return emu_bad(d, "no such form of this instruction is emulated");
    in->u8[0] = emu_types[t].bits == 64;
    in->u8[1] = subtract;
    in->u8[2] = takes;
    in->u8[4] = (uint8_t)half;
    in->u8[5] = emu_types[t].cls == EMU_C_S;
    in->run = run_carry;
    return emu_dst(d, 0, emu_types[t].bits, &in->d) && emu_src(d, 1, t, &in->a) && emu_src(d, 2, t, &in->b) &&
           (!half || emu_src(d, 3, t, &in->c));
}
bool emu_decode_add_cc(struct emu_decode *d, struct emu_insn *in) { return decode_carry(d, in, false, false, 0); }
bool emu_decode_addc(struct emu_decode *d, struct emu_insn *in) { return decode_carry(d, in, false, true, 0); }
bool emu_decode_sub_cc(struct emu_decode *d, struct emu_insn *in) { return decode_carry(d, in, true, false, 0); }
bool emu_decode_subc(struct emu_decode *d, struct emu_insn *in) { return decode_carry(d, in, true, true, 0); }
bool emu_decode_mad_lo_cc(struct emu_decode *d, struct emu_insn *in) { return decode_carry(d, in, false, false, 1); }
bool emu_decode_mad_hi_cc(struct emu_decode *d, struct emu_insn *in) { return decode_carry(d, in, false, false, 2); }
bool emu_decode_madc_lo(struct emu_decode *d, struct emu_insn *in) { return decode_carry(d, in, false, true, 1); }
bool emu_decode_madc_hi(struct emu_decode *d, struct emu_insn *in) { return decode_carry(d, in, false, true, 2); }
