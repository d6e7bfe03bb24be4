/* compare - setp, set, selp, slct. */
#include "runtime/emu/core.h"

#include <math.h>

/* Comparisons in the order of their table; the ...U forms are true when an operand is NaN. */
enum cmp {
    C_EQ,
    C_NE,
    C_LT,
    C_LE,
    C_GT,
    C_GE,
    C_EQU,
    C_NEU,
    C_LTU,
    C_LEU,
    C_GTU,
    C_GEU,
    C_NUM,
    C_NAN,
    C_LO,
    C_LS,
    C_HI,
    C_HS
};
static const char *const cmp_names[] = {"eq",  "ne",  "lt",  "le",  "gt", "ge", "equ", "neu", "ltu", "leu",
                                        "gtu", "geu", "num", "nan", "lo", "ls", "hi",  "hs",  NULL};

#define CMP_LOOP(T, ROW, op)                                                                                               \
    {                                                                                                                      \
        const ROW *a = (const ROW *)pa, *b = (const ROW *)pb;                                                              \
        for (int l = 0; l < 32; l++)                                                                                       \
            m |= (uint32_t)((T)a[l] op(T) b[l]) << l;                                                                      \
        return m;                                                                                                          \
    }
#define CMP_FN(name, T, ROW)                                                                                               \
    static uint32_t cmp_##name(enum cmp c, const void *pa, const void *pb)                                                 \
    {                                                                                                                      \
        uint32_t m = 0;                                                                                                    \
        switch (c) {                                                                                                       \
        case C_EQ: CMP_LOOP(T, ROW, ==)                                                                                    \
        case C_NE: CMP_LOOP(T, ROW, !=)                                                                                    \
        case C_LT: case C_LO: CMP_LOOP(T, ROW, <)                                                                          \
        case C_LE: case C_LS: CMP_LOOP(T, ROW, <=)                                                                         \
        case C_GT: case C_HI: CMP_LOOP(T, ROW, >)                                                                          \
        case C_GE: case C_HS: CMP_LOOP(T, ROW, >=)                                                                         \
        default: return m;                                                                                                 \
        }                                                                                                                  \
    }
CMP_FN(u16, uint16_t, emu_u32)
CMP_FN(s16, int16_t, emu_u32)
CMP_FN(u32, uint32_t, emu_u32)
CMP_FN(s32, int32_t, emu_u32)
CMP_FN(u64, uint64_t, emu_u64)
CMP_FN(s64, int64_t, emu_u64)

/* Ordered comparisons on doubles, which hold every smaller type exactly; the unordered ones are the opposite's
 * negation. */
static bool ordered(enum cmp c, double a, double b)
{
    switch (c) {
    case C_EQ: return a == b;
    case C_NE: return a < b || a > b;
    case C_LT: return a < b;
    case C_LE: return a <= b;
    case C_GT: return a > b;
    case C_GE: return a >= b;
    default: return false;
    }
}
static bool cmp_double(enum cmp c, double a, double b)
{
    bool nan = isnan(a) || isnan(b);
    if (c == C_NUM || c == C_NAN)
        return nan == (c == C_NAN);
    return c >= C_EQU ? nan || ordered(c - C_EQU + C_EQ, a, b) : ordered(c, a, b);
}

static double value(enum emu_type t, struct emu_warp *w, uint32_t row, uint32_t l, bool ftz, int half)
{
    if (t == EMU_T_F64)
        return num_double(emu_row64(w, row)[l]);
    uint32_t x = emu_row(w, row)[l] >> (half ? 16 : 0);
    if (t == EMU_T_F16)
        x = num_f32_of_f16(ftz && !(x & 0x7C00) ? x & 0x8000 : x & 0xFFFF);
    else if (t == EMU_T_BF16)
        x = x << 16;
    else if (ftz && !(x & 0x7F800000))
        x &= 0x80000000;
    return (double)num_float(x);
}

struct cmp_insn {
    enum cmp cmp;
    enum emu_type t, dt; /* dt: of set's result */
    int combine;         /* -1, or and, or, xor */
    bool ftz, pack;
    uint32_t p, q, c;
    bool neg;
};

static uint32_t compare(struct emu_warp *w, const struct emu_insn *in, const struct cmp_insn *x, int half)
{
    const void *a = emu_row(w, in->a), *b = emu_row(w, in->b);
    switch (x->t) {
    case EMU_T_U16: case EMU_T_B16: return cmp_u16(x->cmp, a, b);
    case EMU_T_S16: return cmp_s16(x->cmp, a, b);
    case EMU_T_U32: case EMU_T_B32: return cmp_u32(x->cmp, a, b);
    case EMU_T_S32: return cmp_s32(x->cmp, a, b);
    case EMU_T_U64: case EMU_T_B64: return cmp_u64(x->cmp, a, b);
    case EMU_T_S64: return cmp_s64(x->cmp, a, b);
    default: break;
    }
    uint32_t m = 0;
    for (uint32_t l = 0; l < 32; l++)
        m |=
            (uint32_t)cmp_double(x->cmp, value(x->t, w, in->a, l, x->ftz, half), value(x->t, w, in->b, l, x->ftz, half))
            << l;
    return m;
}

static uint32_t combine(const struct cmp_insn *x, uint32_t m, uint32_t c)
{
    return x->combine == 0 ? m & c : x->combine == 1 ? m | c : x->combine == 2 ? m ^ c : m;
}

static enum emu_next run_setp(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct cmp_insn *x = in->x;
    uint32_t c = x->combine >= 0 ? emu_pred(w, x->c, x->neg) : 0, m = compare(w, in, x, 0);
    uint32_t other = x->pack ? compare(w, in, x, 1) : ~m;
    emu_set_pred(w, x->p, mask, combine(x, m, c));
    emu_set_pred(w, x->q, mask, combine(x, other, c));
    return EMU_NEXT;
}

static enum emu_next run_set(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct cmp_insn *x = in->x;
    uint32_t c = x->combine >= 0 ? emu_pred(w, x->c, x->neg) : 0, lo = combine(x, compare(w, in, x, 0), c);
    uint32_t hi = x->pack ? combine(x, compare(w, in, x, 1), c) : 0;
    uint32_t one = x->dt == EMU_T_F32                             ? 0x3F800000
                   : x->dt == EMU_T_F16 || x->dt == EMU_T_F16X2   ? 0x3C00
                   : x->dt == EMU_T_BF16 || x->dt == EMU_T_BF16X2 ? 0x3F80
                   : emu_types[x->dt].bits == 16 || x->pack       ? 0xFFFF
                                                                  : ~0u;
    FOR_LANES(l, mask)
        emu_row(w, in->d)[l] = (lo >> l & 1 ? one : 0) | (hi >> l & 1 ? one << 16 : 0);
    return EMU_NEXT;
}

static bool cmp_mods(struct emu_decode *d, struct cmp_insn *x)
{
    static const char *const combines[] = {"and", "or", "xor", NULL};
    int c = emu_mod_one_of(d, cmp_names);
    if (c < 0)
        return emu_bad(d, "a comparison is wanted");
    x->cmp = (enum cmp)c;
    x->combine = emu_mod_one_of(d, combines);
    x->ftz = emu_mod(d, "ftz");
    return true;
}

static bool cmp_type(struct emu_decode *d, struct cmp_insn *x)
{
    enum emu_type t = emu_mod_type(d);
    x->pack = emu_types[t].cls == EMU_C_V;
    x->t = emu_types[t].elem;
    enum emu_class c = emu_types[x->t].cls;
    if (t == EMU_T_NONE || c == EMU_C_P || emu_types[x->t].bits < 16 || emu_types[x->t].bits > 64 || x->t == EMU_T_TF32)
        return emu_bad(d, "no type to compare");
    if (c == EMU_C_F ? x->cmp > C_NAN : x->cmp > C_GE && x->cmp < C_LO)
        return emu_bad(d, "comparison .%s does not exist for .%s", cmp_names[x->cmp], emu_types[t].name);
    return true;
}

static bool cmp_operands(struct emu_decode *d, struct emu_insn *in, struct cmp_insn *x)
{
    enum emu_type t = x->pack ? EMU_T_B32 : emu_types[x->t].bits == 16 ? EMU_T_B16 : x->t;
    if (!emu_src(d, 1, t, &in->a) || !emu_src(d, 2, t, &in->b))
        return false;
    in->x = x;
    return x->combine < 0 || emu_src_pred(d, 3, &x->c, &x->neg);
}

bool emu_decode_setp(struct emu_decode *d, struct emu_insn *in)
{
    struct cmp_insn *x = new(d->arena, struct cmp_insn);
    struct emu_raw *r = emu_operand(d, 0);
    x->q = EMU_P_SINK;
    in->run = run_setp;
    if (!r || !cmp_mods(d, x) || !cmp_type(d, x) || !emu_raw_dst_pred(d, r, &x->p) ||
        (r->pair && !emu_raw_dst_pred(d, r->pair, &x->q)))
        return false;
    return cmp_operands(d, in, x);
}

bool emu_decode_set(struct emu_decode *d, struct emu_insn *in)
{
    struct cmp_insn *x = new(d->arena, struct cmp_insn);
    in->run = run_set;
    if (!cmp_mods(d, x))
        return false;
    x->dt = emu_mod_type(d);
    if (!cmp_type(d, x) || emu_types[x->dt].bits > 32)
        return emu_bad(d, "no such form of set");
    return emu_dst(d, 0, emu_types[x->dt].bits, &in->d) && cmp_operands(d, in, x);
}

/* ---- selp, slct ---- */

static void select_rows(struct emu_warp *w, const struct emu_insn *in, uint32_t mask, uint32_t first)
{
    if (in->u8[0] == 1) {
        uint32_t *d = emu_row(w, in->d);
        const uint32_t *a = emu_row(w, in->a), *b = emu_row(w, in->b);
        for (int l = 0; l < 32; l++) {
            uint32_t v = first >> l & 1 ? a[l] : b[l];
            d[l] = mask >> l & 1 ? v : d[l];
        }
        return;
    }
    emu_u64 *d = emu_row64(w, in->d);
    const emu_u64 *a = emu_row64(w, in->a), *b = emu_row64(w, in->b);
    FOR_LANES(l, mask)
        d[l] = first >> l & 1 ? a[l] : b[l];
}

static enum emu_next run_selp(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    select_rows(w, in, mask, emu_pred(w, in->c, in->u8[1]));
    return EMU_NEXT;
}

static enum emu_next run_slct(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    uint32_t first = 0;
    for (uint32_t l = 0; l < 32; l++) {
        uint32_t c = emu_row(w, in->c)[l];
        bool ge = in->u8[1]
                      ? (c & 0x7FFFFFFF) <= 0x7F800000 && (!(c >> 31) || !(c << 1) || (in->u8[2] && !(c & 0x7F800000)))
                      : (int32_t)c >= 0;
        first |= (uint32_t)ge << l;
    }
    select_rows(w, in, mask, first);
    return EMU_NEXT;
}

static bool select_operands(struct emu_decode *d, struct emu_insn *in, enum emu_type t)
{
    if (emu_types[t].bits < 16 || emu_types[t].bits > 64 || emu_types[t].cls == EMU_C_V)
        return emu_bad(d, "no type to select");
    in->u8[0] = emu_types[t].bits == 64 ? 2 : 1;
    return emu_dst(d, 0, emu_types[t].bits, &in->d) && emu_src(d, 1, t, &in->a) && emu_src(d, 2, t, &in->b);
}

bool emu_decode_selp(struct emu_decode *d, struct emu_insn *in)
{
    bool neg;
    in->run = run_selp;
    if (!select_operands(d, in, emu_mod_type(d)) || !emu_src_pred(d, 3, &in->c, &neg))
        return false;
    in->u8[1] = neg;
    return true;
}

bool emu_decode_slct(struct emu_decode *d, struct emu_insn *in)
{
    in->run = run_slct;
    in->u8[2] = emu_mod(d, "ftz");
    enum emu_type t = emu_mod_type(d), c = emu_mod_type(d);
    if (c != EMU_T_S32 && c != EMU_T_F32)
        return emu_bad(d, "slct compares .s32 or .f32");
    in->u8[1] = c == EMU_T_F32;
    return select_operands(d, in, t) && emu_src(d, 3, c, &in->c);
}
