/* warp - instructions through which the lanes of a warp talk: shfl, vote, match, redux, elect, activemask. */
#include "runtime/emu/core.h"

/* The lanes named by the member mask must be here together. EMU_NEXT when they are; else the handler returns this. */
static enum emu_next gather(struct emu_warp *w, const struct emu_insn *in, uint32_t row, uint32_t mask,
                            uint32_t *members)
{
    uint32_t lane = (uint32_t)__builtin_ctz(mask);
    *members = emu_row(w, row)[lane];
    FOR_LANES(l, mask) {
        if (!(emu_row(w, row)[l] >> l & 1))
            return emu_fault(w, in, (int)l, "the lane is not in its own member mask 0x%08x", emu_row(w, row)[l]);
        if (emu_row(w, row)[l] != *members && (emu_row(w, row)[l] & *members))
            return emu_fault(w, in, (int)l, "member masks 0x%08x and 0x%08x overlap", *members, emu_row(w, row)[l]);
    }
    if (!emu_gathered(w, in, *members, mask))
        return EMU_BLOCK;
    *members &= mask;
    return EMU_NEXT;
}

/* ---- shfl ---- */

enum { SHFL_UP, SHFL_DOWN, SHFL_BFLY, SHFL_IDX };
struct shfl_insn {
    int mode;
    uint32_t p, members;
};

static uint32_t source_lane(int mode, uint32_t lane, uint32_t b, uint32_t c, bool *valid)
{
    uint32_t bval = b & 31, clamp = c & 31, segment = c >> 8 & 31;
    uint32_t max = (lane & segment) | (clamp & ~segment), min = lane & segment;
    int j;
    switch (mode) {
    case SHFL_UP:
        j = (int)lane - (int)bval;
        *valid = j >= (int)max;
        break;
    case SHFL_DOWN:
        j = (int)(lane + bval);
        *valid = j <= (int)max;
        break;
    case SHFL_BFLY:
        j = (int)(lane ^ bval);
        *valid = j <= (int)max;
        break;
    default:
        j = (int)(min | (bval & ~segment));
        *valid = j <= (int)max;
    }
    return *valid ? (uint32_t)j : lane;
}

static enum emu_next run_shfl(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct shfl_insn *x = in->x;
    uint32_t members, v[32], ok = 0;
    enum emu_next r = gather(w, in, x->members, mask, &members);
    if (r != EMU_NEXT)
        return r;
    memcpy(v, emu_row(w, in->a), sizeof v);
    FOR_LANES(l, mask) {
        bool valid;
        uint32_t from = source_lane(x->mode, l, emu_row(w, in->b)[l], emu_row(w, in->c)[l], &valid);
        if (valid && !(mask >> from & 1))
            return emu_fault(w, in, (int)l, "shfl reads lane %u, which does not take part", from);
        emu_row(w, in->d)[l] = v[from];
        ok |= (uint32_t)valid << l;
    }
    emu_set_pred(w, x->p, mask, ok);
    return EMU_NEXT;
}

bool emu_decode_shfl(struct emu_decode *d, struct emu_insn *in)
{
    static const char *const modes[] = {"up", "down", "bfly", "idx", NULL};
    struct shfl_insn *x = new(d->arena, struct shfl_insn);
    struct emu_raw *r = emu_operand(d, 0);
    if (!emu_mod(d, "sync"))
        return emu_bad(d, "shfl without .sync is not available on these targets");
    x->mode = emu_mod_one_of(d, modes);
    x->p = EMU_P_SINK;
    in->x = x;
    in->run = run_shfl;
    if (x->mode < 0 || !emu_mod(d, "b32"))
        return emu_bad(d, "a mode and .b32 are wanted");
    return r && emu_raw_dst(d, r, 32, &in->d) && (!r->pair || emu_raw_dst_pred(d, r->pair, &x->p)) &&
           emu_src(d, 1, EMU_T_B32, &in->a) && emu_src(d, 2, EMU_T_B32, &in->b) && emu_src(d, 3, EMU_T_B32, &in->c) &&
           emu_src(d, 4, EMU_T_B32, &x->members);
}

/* ---- vote ---- */

enum { VOTE_ALL, VOTE_ANY, VOTE_UNI, VOTE_BALLOT };

static enum emu_next run_vote(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    uint32_t members;
    enum emu_next r = gather(w, in, in->b, mask, &members);
    if (r != EMU_NEXT)
        return r;
    uint32_t p = emu_pred(w, in->a, in->u8[1]) & members;
    if (in->u8[0] == VOTE_BALLOT)
        FOR_LANES(l, mask)
            emu_row(w, in->d)[l] = p;
            else emu_set_pred(w, in->d, mask,
                              (in->u8[0] == VOTE_ALL   ? p == members
                               : in->u8[0] == VOTE_ANY ? p != 0
                                                       : p == 0 || p == members)
                                  ? ~0u
                                  : 0);
            return EMU_NEXT;
}

bool emu_decode_vote(struct emu_decode *d, struct emu_insn *in)
{
    static const char *const modes[] = {"all", "any", "uni", "ballot", NULL};
    bool neg;
    if (!emu_mod(d, "sync"))
        return emu_bad(d, "vote without .sync is not available on these targets");
    int mode = emu_mod_one_of(d, modes);
    in->run = run_vote;
    in->u8[0] = (uint8_t)mode;
    if (mode < 0 || !emu_mod(d, mode == VOTE_BALLOT ? "b32" : "pred"))
        return emu_bad(d, "a mode and type are wanted");
    if (!(mode == VOTE_BALLOT ? emu_dst(d, 0, 32, &in->d) : emu_dst_pred(d, 0, &in->d)) ||
        !emu_src_pred(d, 1, &in->a, &neg))
        return false;
    in->u8[1] = neg;
    return emu_src(d, 2, EMU_T_B32, &in->b);
}

/* ---- match ---- */

static enum emu_next run_match(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    bool all = in->u8[0], wide = in->u8[1];
    uint32_t members, same[32], ok = 0;
    enum emu_next r = gather(w, in, in->b, mask, &members);
    if (r != EMU_NEXT)
        return r;
    FOR_LANES(l, mask) {
        same[l] = 0;
        FOR_LANES(k, members)
            same[l] |= (uint32_t)(wide ? emu_row64(w, in->a)[l] == emu_row64(w, in->a)[k]
                                       : emu_row(w, in->a)[l] == emu_row(w, in->a)[k]) << k;
        if (all && same[l] != members)
            same[l] = 0;
        ok |= (uint32_t)(same[l] == members) << l;
    }
    FOR_LANES(l, mask)
        emu_row(w, in->d)[l] = same[l];
    emu_set_pred(w, in->c, mask, ok);
    return EMU_NEXT;
}

bool emu_decode_match(struct emu_decode *d, struct emu_insn *in)
{
    bool any = emu_mod(d, "any"), all = !any && emu_mod(d, "all");
    struct emu_raw *r = emu_operand(d, 0);
    in->run = run_match;
    in->u8[0] = all;
    in->c = EMU_P_SINK;
    if ((!any && !all) || !emu_mod(d, "sync"))
        return emu_bad(d, ".any.sync or .all.sync is wanted");
    enum emu_type t = emu_mod_type(d);
    if (t != EMU_T_B32 && t != EMU_T_B64)
        return emu_bad(d, ".b32 or .b64 is wanted");
    in->u8[1] = t == EMU_T_B64;
    return r && emu_raw_dst(d, r, 32, &in->d) && (!r->pair || (all && emu_raw_dst_pred(d, r->pair, &in->c))) &&
           emu_src(d, 1, t, &in->a) && emu_src(d, 2, EMU_T_B32, &in->b);
}

/* ---- activemask, elect ---- */

static enum emu_next run_activemask(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    FOR_LANES(l, mask)
        emu_row(w, in->d)[l] = mask;
    return EMU_NEXT;
}

bool emu_decode_activemask(struct emu_decode *d, struct emu_insn *in)
{
    in->run = run_activemask;
    if (!emu_mod(d, "b32"))
        return emu_bad(d, ".b32 is wanted");
    return emu_dst(d, 0, 32, &in->d);
}

/* The leader is the lowest lane of the mask, as an H200 has it. */
static enum emu_next run_elect(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    uint32_t members;
    enum emu_next r = gather(w, in, in->a, mask, &members);
    if (r != EMU_NEXT)
        return r;
    uint32_t leader = (uint32_t)__builtin_ctz(members);
    FOR_LANES(l, mask)
        emu_row(w, in->d)[l] = leader;
    emu_set_pred(w, in->c, mask, 1u << leader);
    return EMU_NEXT;
}

bool emu_decode_elect(struct emu_decode *d, struct emu_insn *in)
{
    struct emu_raw *r = emu_operand(d, 0);
    in->run = run_elect;
    if (!emu_mod(d, "sync"))
        return emu_bad(d, ".sync is wanted");
    if (!r || !r->pair)
        return emu_bad(d, "two destinations, d|p, are wanted");
    return emu_raw_dst(d, r, 32, &in->d) && emu_raw_dst_pred(d, r->pair, &in->c) && emu_src(d, 1, EMU_T_B32, &in->a);
}

/* ---- redux ---- */

enum { R_ADD, R_MIN, R_MAX, R_AND, R_OR, R_XOR };

static uint32_t reduce_int(int op, bool is_signed, uint32_t a, uint32_t b)
{
    switch (op) {
    case R_ADD: return a + b;
    case R_MIN: return (is_signed ? (int32_t)a < (int32_t)b : a < b) ? a : b;
    case R_MAX: return (is_signed ? (int32_t)a > (int32_t)b : a > b) ? a : b;
    case R_AND: return a & b;
    case R_OR: return a | b;
    default: return a ^ b;
    }
}

static uint32_t reduce_f32(int op, bool nan, uint32_t a, uint32_t b)
{
    bool na = (a & 0x7FFFFFFF) > 0x7F800000, nb = (b & 0x7FFFFFFF) > 0x7F800000;
    if (na || nb)
        return nan || (na && nb) ? 0x7FFFFFFF : na ? b : a;
    int32_t ka = a >> 31 ? (int32_t) ~(a & 0x7FFFFFFF) : (int32_t)a,
            kb = b >> 31 ? (int32_t) ~(b & 0x7FFFFFFF) : (int32_t)b;
    return (ka > kb) == (op == R_MAX) ? a : b;
}

static enum emu_next run_redux(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    uint32_t members, v = 0;
    bool first = true, is_float = in->u8[1] == 2;
    enum emu_next r = gather(w, in, in->b, mask, &members);
    if (r != EMU_NEXT)
        return r;
    FOR_LANES(l, members) {
        uint32_t x = emu_row(w, in->a)[l];
        if (is_float && in->u8[2])
            x &= 0x7FFFFFFF;
        v = first ? x : is_float ? reduce_f32(in->u8[0], in->u8[3], v, x) : reduce_int(in->u8[0], in->u8[1], v, x);
        first = false;
    }
    FOR_LANES(l, mask)
        emu_row(w, in->d)[l] = v;
    return EMU_NEXT;
}

bool emu_decode_redux(struct emu_decode *d, struct emu_insn *in)
{
    static const char *const ops[] = {"add", "min", "max", "and", "or", "xor", NULL};
    if (!emu_mod(d, "sync"))
        return emu_bad(d, ".sync is wanted");
    int op = emu_mod_one_of(d, ops);
    in->u8[2] = emu_mod(d, "abs");
    in->u8[3] = emu_mod(d, "NaN");
    enum emu_type t = emu_mod_type(d);
    bool ok = op >= R_AND ? t == EMU_T_B32 : t == EMU_T_U32 || t == EMU_T_S32 || (t == EMU_T_F32 && op != R_ADD);
    if (op < 0 || !ok || ((in->u8[2] || in->u8[3]) && t != EMU_T_F32))
        return emu_bad(d, "no such form of redux");
    if (t == EMU_T_F32 && !(d->module->sm / 10 == 10 && d->module->suffix))
        return emu_bad(d, "redux.f32 is only available on sm_100f, sm_103f and their like");
    in->run = run_redux;
    in->u8[0] = (uint8_t)op;
    in->u8[1] = t == EMU_T_F32 ? 2 : t == EMU_T_S32;
    return emu_dst(d, 0, 32, &in->d) && emu_src(d, 1, t, &in->a) && emu_src(d, 2, EMU_T_B32, &in->b);
}
