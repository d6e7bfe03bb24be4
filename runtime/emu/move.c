/* move - mov with packing and unpacking, cvt, cvta and what asks about addresses. */
#include "runtime/emu/core.h"

/* ---- mov ---- */

static enum emu_next run_mov32(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    uint32_t *d = emu_row(w, in->d);
    const uint32_t *a = emu_row(w, in->a);
    if (mask == ~0u)
        memmove(d, a, 128);
    else
        FOR_LANES(l, mask)
            d[l] = a[l];
    return EMU_NEXT;
}

static enum emu_next run_mov64(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    FOR_LANES(l, mask)
        emu_row64(w, in->d)[l] = emu_row64(w, in->a)[l];
    return EMU_NEXT;
}

static enum emu_next run_mov128(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    FOR_LANES(l, mask) {
        emu_row64(w, in->d)[l] = emu_row64(w, in->a)[l];
        emu_row64(w, in->d + 2)[l] = emu_row64(w, in->a + 2)[l];
    }
    return EMU_NEXT;
}

struct pack_insn {
    int n, bits; /* of one element */
    const uint32_t *row;
};

static void put_bits(uint64_t v[2], int at, int bits, uint64_t x)
{
    v[at / 64] |= (bits == 64 ? x : x & (((uint64_t)1 << bits) - 1)) << at % 64;
}

static enum emu_next run_pack(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct pack_insn *x = in->x;
    int total = x->n * x->bits;
    FOR_LANES(l, mask) {
        uint64_t v[2] = {0, 0};
        for (int i = 0; i < x->n; i++)
            put_bits(v, i * x->bits, x->bits, x->bits == 64 ? emu_row64(w, x->row[i])[l] : emu_row(w, x->row[i])[l]);
        if (total <= 32)
            emu_row(w, in->d)[l] = (uint32_t)v[0];
        else
            emu_row64(w, in->d)[l] = v[0];
        if (total == 128)
            emu_row64(w, in->d + 2)[l] = v[1];
    }
    return EMU_NEXT;
}

static enum emu_next run_unpack(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct pack_insn *x = in->x;
    int total = x->n * x->bits;
    FOR_LANES(l, mask) {
        uint64_t v[2] = {total <= 32 ? emu_row(w, in->a)[l] : emu_row64(w, in->a)[l],
                         total == 128 ? emu_row64(w, in->a + 2)[l] : 0};
        for (int i = 0; i < x->n; i++) {
            uint64_t e = v[i * x->bits / 64] >> i * x->bits % 64;
            if (x->bits == 64)
                emu_row64(w, x->row[i])[l] = e;
            else
                emu_row(w, x->row[i])[l] = (uint32_t)e & (uint32_t)(((uint64_t)1 << x->bits) - 1);
        }
    }
    return EMU_NEXT;
}

static enum emu_next run_movp(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    emu_set_pred(w, in->d, mask, emu_pred(w, in->a, in->u8[0]));
    return EMU_NEXT;
}

static enum emu_type bits_type(int bits)
{
    return bits == 8 ? EMU_T_B8 : bits == 16 ? EMU_T_B16 : bits == 32 ? EMU_T_B32 : bits == 64 ? EMU_T_B64 : EMU_T_B128;
}

static bool decode_pack(struct emu_decode *d, struct emu_insn *in, int bits, bool pack)
{
    struct pack_insn *x = new(d->arena, struct pack_insn);
    struct emu_raw *vec = emu_operand(d, pack ? 1 : 0);
    x->n = vec->n;
    if (x->n < 1 || bits % x->n || bits / x->n < 8)
        return emu_bad(d, "%d elements do not make %d bits", x->n, bits);
    x->bits = bits / x->n;
    in->x = x;
    in->run = pack ? run_pack : run_unpack;
    return pack ? emu_dst(d, 0, bits, &in->d) && emu_src_vec(d, 1, x->n, bits_type(x->bits), &x->row, NULL)
                : emu_dst_vec(d, 0, x->n, x->bits, &x->row, NULL) && emu_src(d, 1, bits_type(bits), &in->a);
}

bool emu_decode_mov(struct emu_decode *d, struct emu_insn *in)
{
    enum emu_type t = emu_mod_type(d);
    int bits = emu_types[t].bits;
    if (t == EMU_T_PRED) {
        bool neg;
        in->run = run_movp;
        if (!emu_dst_pred(d, 0, &in->d) || !emu_src_pred(d, 1, &in->a, &neg))
            return false;
        in->u8[0] = neg;
        return true;
    }
    if (t == EMU_T_NONE || bits < 16 || (emu_types[t].cls == EMU_C_V && bits != 32))
        return emu_bad(d, "no type that mov takes");
    if (d->nop > 1 && d->op[1].kind == EMU_RAW_VEC)
        return decode_pack(d, in, bits, true);
    if (d->nop > 0 && d->op[0].kind == EMU_RAW_VEC)
        return decode_pack(d, in, bits, false);
    in->run = bits <= 32 ? run_mov32 : bits == 64 ? run_mov64 : run_mov128;
    return emu_dst(d, 0, bits, &in->d) && emu_src(d, 1, t, &in->a);
}

/* ---- cvt ---- */

struct cvt_insn {
    enum num_type to, from;
    enum num_round round;
    int flags, n;             /* n: elements */
    int to_bits, from_bits;   /* of one element */
    int dst_bits, src_bits;   /* of the registers */
    bool two_sources, sign;
};

static const uint8_t num_types[EMU_T_COUNT] = {
    [EMU_T_U8] = NUM_u8,     [EMU_T_U16] = NUM_u16,   [EMU_T_U32] = NUM_u32,    [EMU_T_U64] = NUM_u64,
    [EMU_T_S8] = NUM_s8,     [EMU_T_S16] = NUM_s16,   [EMU_T_S32] = NUM_s32,    [EMU_T_S64] = NUM_s64,
    [EMU_T_F16] = NUM_f16,   [EMU_T_BF16] = NUM_bf16, [EMU_T_F32] = NUM_f32,    [EMU_T_F64] = NUM_f64,
    [EMU_T_TF32] = NUM_tf32, [EMU_T_E4M3] = NUM_e4m3, [EMU_T_E5M2] = NUM_e5m2,  [EMU_T_E2M1] = NUM_e2m1,
    [EMU_T_E2M3] = NUM_e2m3, [EMU_T_E3M2] = NUM_e3m2, [EMU_T_UE8M0] = NUM_ue8m0};

static uint64_t src_value(struct emu_warp *w, uint32_t row, int bits, uint32_t l)
{
    return bits <= 32 ? emu_row(w, row)[l] : emu_row64(w, row)[l];
}

static void put_value(struct emu_warp *w, uint32_t row, int bits, uint32_t l, uint64_t v)
{
    if (bits == 64)
        emu_row64(w, row)[l] = v;
    else
        emu_row(w, row)[l] = bits == 32 ? (uint32_t)v : (uint32_t)v & ((1u << bits) - 1);
}

static enum emu_next run_cvt(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct cvt_insn *x = in->x;
    uint64_t from_mask = x->from_bits == 64 ? ~(uint64_t)0 : ((uint64_t)1 << x->from_bits) - 1;
    FOR_LANES(l, mask) {
        uint64_t v = num_cvt(x->to, x->from, x->round, x->flags, src_value(w, in->a, x->src_bits, l) & from_mask);
        if (x->sign && x->to_bits < x->dst_bits) {
            v &= ((uint64_t)1 << x->to_bits) - 1;
            v |= v >> (x->to_bits - 1) & 1 ? ~(uint64_t)0 << x->to_bits : 0;
        }
        put_value(w, in->d, x->dst_bits, l, v);
    }
    return EMU_NEXT;
}

/* Packed results and packed sources. Of two sources the first goes to the upper half. */
static enum emu_next run_cvt_pair(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct cvt_insn *x = in->x;
    int shift = x->to_bits == 6 ? 8 : x->to_bits, from_shift = x->from_bits == 6 ? 8 : x->from_bits;
    uint64_t from_mask = ((uint64_t)1 << from_shift) - 1;
    if (x->from_bits == 64)
        from_mask = ~(uint64_t)0;
    FOR_LANES(l, mask) {
        uint64_t a = src_value(w, in->a, x->src_bits, l);
        uint64_t hi = x->two_sources ? a : a >> from_shift & from_mask;
        uint64_t lo = x->two_sources ? src_value(w, in->b, x->src_bits, l) : a & from_mask;
        uint64_t v =
            num_cvt(x->to, x->from, x->round, x->flags, hi) << shift | num_cvt(x->to, x->from, x->round, x->flags, lo);
        put_value(w, in->d, x->dst_bits, l, v);
    }
    return EMU_NEXT;
}

static enum emu_next run_cvt_bf16x2(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    uint32_t *d = emu_row(w, in->d);
    const uint32_t *a = emu_row(w, in->a), *b = emu_row(w, in->b);
    FOR_LANES(l, mask)
        d[l] = num_bf16_of_f32(a[l]) << 16 | num_bf16_of_f32(b[l]);
    return EMU_NEXT;
}

/* Integer to integer without saturation: take the low bits, extend. */
static enum emu_next run_cvt_int(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct cvt_insn *x = in->x;
    int s = 64 - x->from_bits, t = 64 - x->to_bits;
    bool from_signed = num_is_signed(x->from), to_signed = x->sign;
    FOR_LANES(l, mask) {
        uint64_t v = src_value(w, in->a, x->src_bits, l) << s;
        v = from_signed ? (uint64_t)((int64_t)v >> s) : v >> s;
        v <<= t;
        put_value(w, in->d, x->dst_bits, l, to_signed ? (uint64_t)((int64_t)v >> t) : v >> t);
    }
    return EMU_NEXT;
}

static void cvt_mods(struct emu_decode *d, struct cvt_insn *x, bool *rounded)
{
    static const struct { const char *name; enum num_round round; int flags;
    } mods[] = {{"rn", NUM_RN, 0},
                {"rz", NUM_RZ, 0},
                {"rm", NUM_RM, 0},
                {"rp", NUM_RP, 0},
                {"rna", NUM_RNA, 0},
                {"rni", NUM_RN, NUM_INTEGRAL},
                {"rzi", NUM_RZ, NUM_INTEGRAL},
                {"rmi", NUM_RM, NUM_INTEGRAL},
                {"rpi", NUM_RP, NUM_INTEGRAL},
                {"ftz", NUM_RN, NUM_FTZ},
                {"sat", NUM_RN, NUM_SAT},
                {"satfinite", NUM_RN, NUM_SATFINITE},
                {"relu", NUM_RN, NUM_RELU}};
    bool found;
    do {
        found = false;
        for (int i = 0; i < COUNT(mods) && !found; i++) {
            if (!emu_mod(d, mods[i].name))
                continue;
            found = true;
            if (i < 9)
                x->round = mods[i].round, *rounded = true;
            x->flags |= mods[i].flags;
        }
    } while (found);
}

static bool is_int(enum emu_type t) { return emu_types[t].cls == EMU_C_U || emu_types[t].cls == EMU_C_S; }

/* Which types narrow ones are made from: two f32, or a packed pair. */
static bool narrow_from(enum emu_type to, enum emu_type from)
{
    if (from == EMU_T_F32)
        return true;
    return to == EMU_T_UE8M0 ? from == EMU_T_BF16 : from == EMU_T_F16 && to != EMU_T_E2M3 && to != EMU_T_E3M2;
}

/* What the element types demand of target and modifiers. */
static bool check_cvt(struct emu_decode *d, const struct cvt_insn *x, enum emu_type to, enum emu_type from,
                      bool rounded)
{
    bool narrow = emu_types[to].bits < 16 && !is_int(to), from_narrow = emu_types[from].bits < 16 && !is_int(from);
    bool fp8 = to == EMU_T_E4M3 || to == EMU_T_E5M2 || from == EMU_T_E4M3 || from == EMU_T_E5M2;
    if ((narrow || from_narrow) && !emu_need(d, fp8 ? EMU_NEED_89 : EMU_NEED_BLACK, "this conversion"))
        return false;
    if ((narrow || from_narrow) && x->n != 2)
        return emu_bad(d, "narrow types are converted in pairs (.x2)");
    if ((narrow && !narrow_from(to, from)) || (from_narrow && to != (from == EMU_T_UE8M0 ? EMU_T_BF16 : EMU_T_F16)))
        return emu_bad(d, "there is no conversion from .%s to .%s", emu_types[from].name, emu_types[to].name);
    if (narrow && to != EMU_T_UE8M0 && !(x->flags & NUM_SATFINITE))
        return emu_bad(d, ".satfinite is mandatory for .%s", emu_types[to].name);
    if (to == EMU_T_TF32 && (from != EMU_T_F32 || (x->round != NUM_RNA && !emu_need(d, EMU_NEED_90, "cvt.rn.tf32"))))
        return false;
    if (to == EMU_T_TF32 && x->round != NUM_RNA && (x->flags & NUM_SATFINITE) &&
        !emu_need(d, EMU_NEED_100, "cvt.satfinite.tf32"))
        return false;
    if (((is_int(to) && from == EMU_T_BF16) || (is_int(from) && to == EMU_T_BF16)) &&
        !emu_need(d, EMU_NEED_90, "a conversion between bf16 and integers"))
        return false;
    if ((is_int(to) != is_int(from) || (emu_types[to].bits < emu_types[from].bits && !is_int(to))) && !rounded)
        return emu_bad(d, "a rounding modifier is mandatory for .%s from .%s", emu_types[to].name,
                       emu_types[from].name);
    return true;
}

bool emu_decode_cvt(struct emu_decode *d, struct emu_insn *in)
{
    struct cvt_insn *x = new(d->arena, struct cvt_insn);
    bool rounded = false;
    cvt_mods(d, x, &rounded);
    enum emu_type t = emu_mod_type(d), f = emu_mod_type(d), to = emu_types[t].elem, from = emu_types[f].elem;
    enum emu_class ct = emu_types[to].cls, cf = emu_types[from].cls;
    if (t == EMU_T_NONE || f == EMU_T_NONE || ct == EMU_C_B || cf == EMU_C_B || ct == EMU_C_P || cf == EMU_C_P)
        return emu_bad(d, "two types are wanted");
    x->n = emu_types[t].cls == EMU_C_V || emu_types[f].cls == EMU_C_V ? 2 : 1;
    x->two_sources = x->n == 2 && emu_types[f].cls != EMU_C_V;
    x->to = (enum num_type)num_types[to];
    x->from = (enum num_type)num_types[from];
    x->to_bits = emu_types[to].bits;
    x->from_bits = emu_types[from].bits;
    x->sign = ct == EMU_C_S;
    in->x = x;
    in->run = x->n == 2 ? run_cvt_pair : run_cvt;
    if (!check_cvt(d, x, to, from, rounded))
        return false;
    if (x->n == 2 && !x->flags && x->round == NUM_RN && to == EMU_T_BF16 && from == EMU_T_F32)
        in->run = run_cvt_bf16x2;
    if (x->n == 1 && is_int(to) && is_int(from) && !x->flags)
        in->run = run_cvt_int;
    int dst_min = x->n == 2 ? emu_types[t].bits : x->to_bits;
    enum emu_type st = x->n == 2 ? (x->two_sources ? from : bits_type(emu_types[f].bits)) : from;
    if (!emu_dst_wide(d, 0, dst_min, &in->d, &x->dst_bits) || !emu_src_wide(d, 1, st, &in->a, &x->src_bits))
        return false;
    return !x->two_sources || emu_src_wide(d, 2, st, &in->b, &x->src_bits);
}

/* ---- addresses ---- */

static uint64_t window(enum emu_space s)
{
    return s == EMU_SHARED_CTA || s == EMU_SHARED_CLUSTER ? EMU_SHARED_WINDOW : s == EMU_LOCAL ? EMU_LOCAL_WINDOW
         : s == EMU_PARAM ? EMU_PARAM_WINDOW : 0;
}

static enum emu_next run_cvta(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    bool wide = in->u8[0];
    FOR_LANES(l, mask) {
        uint64_t v = (wide ? emu_row64(w, in->a)[l] : emu_row(w, in->a)[l]) + (uint64_t)in->imm;
        if (wide)
            emu_row64(w, in->d)[l] = v;
        else
            emu_row(w, in->d)[l] = (uint32_t)v;
    }
    return EMU_NEXT;
}

static bool mod_any_space(struct emu_decode *d, enum emu_space *s)
{
    static const char *const names[] = {"global", "shared", "shared::cta", "shared::cluster", "param", "param::entry",
                                        "const",  "local",  NULL};
    static const enum emu_space spaces[] = {EMU_GLOBAL, EMU_SHARED_CTA, EMU_SHARED_CTA, EMU_SHARED_CLUSTER,
                                            EMU_PARAM,  EMU_PARAM,      EMU_CONST,      EMU_LOCAL};
    int i = emu_mod_one_of(d, names);
    if (i < 0)
        return emu_bad(d, "a state space is wanted");
    *s = spaces[i];
    return true;
}

bool emu_decode_cvta(struct emu_decode *d, struct emu_insn *in)
{
    enum emu_space s = EMU_GENERIC;
    bool back = emu_mod(d, "to");
    if (!mod_any_space(d, &s))
        return false;
    enum emu_type t = emu_mod_type(d);
    if (t != EMU_T_U64 && t != EMU_T_U32)
        return emu_bad(d, ".u64 or .u32 is wanted");
    in->run = run_cvta;
    in->u8[0] = t == EMU_T_U64;
    in->imm = back ? -(int64_t)window(s) : (int64_t)window(s);
    return emu_dst(d, 0, emu_types[t].bits, &in->d) && emu_src(d, 1, t, &in->a);
}

static enum emu_next run_isspacep(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    uint32_t r = 0;
    FOR_LANES(l, mask) {
        uint64_t a = emu_row64(w, in->a)[l], shared = a - EMU_SHARED_WINDOW;
        bool is_shared = shared < EMU_WINDOW_BYTES, other = is_shared || a - EMU_LOCAL_WINDOW < EMU_WINDOW_BYTES ||
                                                            a - EMU_PARAM_WINDOW < EMU_WINDOW_BYTES;
        enum emu_space s = (enum emu_space)in->u8[0];
        bool v = s == EMU_SHARED_CLUSTER ? is_shared
                 : s == EMU_SHARED_CTA   ? is_shared && shared >> EMU_RANK_SHIFT == w->cta->rank
                 : s == EMU_GLOBAL       ? !other
                 : s == EMU_CONST        ? false
                                         : a - window(s) < EMU_WINDOW_BYTES;
        r |= (uint32_t)v << l;
    }
    emu_set_pred(w, in->d, mask, r);
    return EMU_NEXT;
}

bool emu_decode_isspacep(struct emu_decode *d, struct emu_insn *in)
{
    enum emu_space s = EMU_GENERIC;
    if (!mod_any_space(d, &s))
        return false;
    in->run = run_isspacep;
    in->u8[0] = (uint8_t)s;
    return emu_dst_pred(d, 0, &in->d) && emu_src(d, 1, EMU_T_U64, &in->a);
}

/* mapa: the same offset in another block; getctarank: which block an address is of. */
static enum emu_next run_mapa(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    bool wide = in->u8[0];
    FOR_LANES(l, mask) {
        uint64_t a = wide ? emu_row64(w, in->a)[l] - (in->u8[1] ? 0 : EMU_SHARED_WINDOW) : emu_row(w, in->a)[l];
        uint32_t rank = emu_row(w, in->b)[l];
        if (a >= EMU_WINDOW_BYTES)
            return emu_fault(w, in, (int)l, "the address is not in shared memory");
        if (rank >= w->cta->cluster->size)
            return emu_fault(w, in, (int)l, "block %u of a cluster of %u", rank, w->cta->cluster->size);
        uint64_t v = (a & ((1u << EMU_RANK_SHIFT) - 1)) | (uint64_t)rank << EMU_RANK_SHIFT;
        if (wide)
            emu_row64(w, in->d)[l] = v + (in->u8[1] ? 0 : EMU_SHARED_WINDOW);
        else
            emu_row(w, in->d)[l] = (uint32_t)v;
    }
    return EMU_NEXT;
}

static enum emu_next run_ctarank(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    bool wide = in->u8[0];
    FOR_LANES(l, mask) {
        uint64_t a = wide ? emu_row64(w, in->a)[l] - (in->u8[1] ? 0 : EMU_SHARED_WINDOW) : emu_row(w, in->a)[l];
        emu_row(w, in->d)[l] = (uint32_t)(a >> EMU_RANK_SHIFT) & 0xFF;
    }
    return EMU_NEXT;
}

static bool cluster_address(struct emu_decode *d, struct emu_insn *in, enum emu_type *t)
{
    in->u8[1] = emu_mod(d, "shared::cluster");
    *t = emu_mod_type(d);
    if (*t != EMU_T_U32 && *t != EMU_T_U64)
        return emu_bad(d, ".u32 or .u64 is wanted");
    in->u8[0] = *t == EMU_T_U64;
    return emu_src(d, 1, *t, &in->a);
}

bool emu_decode_mapa(struct emu_decode *d, struct emu_insn *in)
{
    enum emu_type t;
    in->run = run_mapa;
    return cluster_address(d, in, &t) && emu_dst(d, 0, emu_types[t].bits, &in->d) && emu_src(d, 2, EMU_T_U32, &in->b);
}

bool emu_decode_getctarank(struct emu_decode *d, struct emu_insn *in)
{
    enum emu_type t;
    in->run = run_ctarank;
    return cluster_address(d, in, &t) && emu_dst(d, 0, 32, &in->d);
}
