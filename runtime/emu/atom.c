/* atom - atom, red, and the arithmetic of reductions that bulk copies share.
 *
 * Clusters may run on several host threads, so elements of up to 8 bytes are changed by compare-and-swap on the host.
 */
#include "runtime/emu/atom.h"

#include <pthread.h>

static pthread_mutex_t wide_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- arithmetic ---- */

static const char *const op_names[] = {"add", "min", "max", "inc", "dec", "and", "or", "xor", "exch", "cas", NULL};

static uint64_t sign_extend(uint64_t v, int bits)
{
    return bits == 64 ? v : (uint64_t)((int64_t)(v << (64 - bits)) >> (64 - bits));
}

static uint32_t flush(uint32_t x) { return x & 0x7F800000 ? x : x & 0x80000000; }

static uint32_t add_f32(uint32_t a, uint32_t b, bool ftz)
{
    if (ftz)
        a = flush(a), b = flush(b);
    float f = num_float(a) + num_float(b);
    uint32_t r = f != f ? 0x7FFFFFFF : num_float_bits(f);
    return ftz ? flush(r) : r;
}

static double wide16(enum emu_type t, uint64_t x)
{
    return (double)num_float(t == EMU_T_F16 ? num_f32_of_f16((uint32_t)x) : (uint32_t)x << 16);
}

/* f16 and bf16: the sum of two is exact in a double, or rounds the same (bf16's far exponents). */
static uint64_t add_16(enum emu_type t, uint64_t a, uint64_t b)
{
    double x = wide16(t, a), y = wide16(t, b), s = x + y;
    if (s != s)
        return 0x7FFF;
    return num_cvt(t == EMU_T_F16 ? NUM_f16 : NUM_bf16, NUM_f64, NUM_RN, 0, num_double_bits(s));
}

static uint64_t pick_float(enum emu_type t, uint64_t a, uint64_t b, bool max)
{
    uint64_t sign = t == EMU_T_F32 ? 0x80000000 : 0x8000, inf = t == EMU_T_F32   ? 0x7F800000
                                                                : t == EMU_T_F16 ? 0x7C00
                                                                                 : 0x7F80;
    bool na = (a & ~sign) > inf, nb = (b & ~sign) > inf;
    if (na || nb)
        return na && nb ? (t == EMU_T_F32 ? 0x7FFFFFFF : 0x7FFF) : na ? b : a;
    int64_t ka = a & sign ? -(int64_t)(a & ~sign) - 1 : (int64_t)a,
            kb = b & sign ? -(int64_t)(b & ~sign) - 1 : (int64_t)b;
    return (ka > kb) == max ? a : b;
}

static uint64_t float_op(const struct emu_atom *x, uint64_t a, uint64_t b)
{
    if (x->op == ATOM_ADD) {
        if (x->elem == EMU_T_F64)
            return num_double_bits(num_double(a) + num_double(b));
        return x->elem == EMU_T_F32 ? add_f32((uint32_t)a, (uint32_t)b, x->ftz) : add_16(x->elem, a, b);
    }
    return pick_float(x->elem, a, b, x->op == ATOM_MAX);
}

uint64_t emu_atom_apply(const struct emu_atom *x, uint64_t a, uint64_t b, uint64_t c)
{
    enum emu_class cls = emu_types[x->elem].cls;
    int bits = emu_types[x->elem].bits;
    if (cls == EMU_C_F)
        return float_op(x, a, b);
    bool is_signed = cls == EMU_C_S;
    int64_t sa = (int64_t)sign_extend(a, bits), sb = (int64_t)sign_extend(b, bits);
    switch (x->op) {
    case ATOM_ADD: return a + b;
    case ATOM_MIN: return (is_signed ? sa < sb : a < b) ? a : b;
    case ATOM_MAX: return (is_signed ? sa > sb : a > b) ? a : b;
    case ATOM_INC: return a >= b ? 0 : a + 1;
    case ATOM_DEC: return !a || a > b ? b : a - 1;
    case ATOM_AND: return a & b;
    case ATOM_OR: return a | b;
    case ATOM_XOR: return a ^ b;
    case ATOM_EXCH: return b;
    case ATOM_CAS: return a == b ? c : a;
    }
    return a;
}

/* One element in memory; returns what was there. */
uint64_t emu_atom_element(const struct emu_atom *x, uint8_t *p, uint64_t b, uint64_t c)
{
#define LOOP(T)                                                                                                            \
    {                                                                                                                      \
        T old = __atomic_load_n((T *)(void *)p, __ATOMIC_SEQ_CST), now;                                                    \
        do                                                                                                                 \
            now = (T)emu_atom_apply(x, old, (T)b, (T)c);                                                                   \
        while (!__atomic_compare_exchange_n((T *)(void *)p, &old, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));        \
        return old;                                                                                                        \
    }
    switch (emu_types[x->elem].bits) {
    case 16: LOOP(uint16_t)
    case 32: LOOP(uint32_t)
    default: LOOP(uint64_t)
    }
#undef LOOP
}

/* ---- rows ---- */

struct atom_insn {
    struct emu_atom atom;
    enum emu_space space;
    struct emu_addr at;
    int n, bytes, pack; /* registers of the vector, bytes of one, elements in one */
    const uint32_t *d, *b, *c;
    bool returns;
};

static uint64_t get(struct emu_warp *w, uint32_t row, int bytes, uint32_t l)
{
    return bytes == 8 ? emu_row64(w, row)[l] : emu_row(w, row)[l];
}

static uint64_t one_register(const struct atom_insn *x, uint8_t *p, uint64_t b, uint64_t c)
{
    if (x->pack == 1)
        return emu_atom_element(&x->atom, p, b, c);
    uint64_t lo = emu_atom_element(&x->atom, p, b & 0xFFFF, 0), hi = emu_atom_element(&x->atom, p + 2, b >> 16, 0);
    return hi << 16 | lo;
}

static enum emu_next run_atom(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct atom_insn *x = in->x;
    uint32_t n = (uint32_t)(x->n * x->bytes);
    FOR_LANES(l, mask) {
        uint8_t *p = emu_mem_at(EMU_WHO(w, in, l), x->space, emu_addr_of(w, &x->at, l), n, n, EMU_READ | EMU_WRITE);
        if (!p)
            return EMU_FAULT;
        for (int i = 0; i < x->n; i++) {
            uint64_t v = one_register(x, p + i * x->bytes, get(w, x->b[i], x->bytes, l),
                                      x->c ? get(w, x->c[i], x->bytes, l) : 0);
            if (x->returns && x->bytes == 8)
                emu_row64(w, x->d[i])[l] = v;
            else if (x->returns)
                emu_row(w, x->d[i])[l] = (uint32_t)v;
        }
    }
    emu_race_strong(w);
    emu_progress(w->cta->cluster);
    return EMU_NEXT;
}

static enum emu_next run_atom128(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct atom_insn *x = in->x;
    FOR_LANES(l, mask) {
        uint8_t *p = emu_mem_at(EMU_WHO(w, in, l), x->space, emu_addr_of(w, &x->at, l), 16, 16, EMU_READ | EMU_WRITE);
        if (!p)
            return EMU_FAULT;
        uint64_t old[2], b[2] = {emu_row64(w, x->b[0])[l], emu_row64(w, x->b[0] + 2)[l]};
        pthread_mutex_lock(&wide_lock);
        memcpy(old, p, 16);
        if (x->atom.op == ATOM_EXCH) {
            memcpy(p, b, 16);
        } else if (old[0] == b[0] && old[1] == b[1]) {
            uint64_t c[2] = {emu_row64(w, x->c[0])[l], emu_row64(w, x->c[0] + 2)[l]};
            memcpy(p, c, 16);
        }
        pthread_mutex_unlock(&wide_lock);
        emu_row64(w, x->d[0])[l] = old[0];
        emu_row64(w, x->d[0] + 2)[l] = old[1];
    }
    emu_progress(w->cta->cluster);
    return EMU_NEXT;
}

/* ---- decoding ---- */

/* Which operations exist for a type. PTX ISA "atom", "red". */
bool emu_atom_allowed(enum emu_atom_op op, enum emu_type elem)
{
    enum emu_class c = emu_types[elem].cls;
    int bits = emu_types[elem].bits;
    switch (op) {
    case ATOM_ADD: return c == EMU_C_U || c == EMU_C_F || (c == EMU_C_S && bits >= 32);
    case ATOM_MIN: case ATOM_MAX: return c == EMU_C_U || c == EMU_C_S || elem == EMU_T_F16 || elem == EMU_T_BF16;
    case ATOM_INC: case ATOM_DEC: return elem == EMU_T_U32;
    default: return c == EMU_C_B;
    }
}

static bool atom_mods(struct emu_decode *d, struct atom_insn *x, bool *policy, enum emu_type *t)
{
    static const char *const spaces[] = {"global", "shared", "shared::cta", "shared::cluster", NULL};
    static const enum emu_space space_of[] = {EMU_GLOBAL, EMU_SHARED_CTA, EMU_SHARED_CTA, EMU_SHARED_CLUSTER};
    static const char *const vecs[] = {"v2", "v4", "v8", NULL};
    static const char *const orders[] = {"relaxed", "acquire", "release", "acq_rel", "cta",
                                         "cluster", "gpu",     "sys",     NULL};
    emu_mod_sem_scope(d);
    int s = emu_mod_one_of(d, spaces), op = -1, v = -1;
    x->space = s < 0 ? EMU_GENERIC : space_of[s];
    *t = EMU_T_NONE;
    *policy = false;
    for (bool more = true; more;) { /* the operation may stand before or behind the order and the type */
        int o = op < 0 ? emu_mod_one_of(d, op_names) : -1;
        more = o >= 0 || emu_mod_one_of(d, orders) >= 0;
        if (o >= 0)
            op = o;
        if (emu_mod(d, "noftz") || (!*policy && (*policy = emu_mod(d, "L2::cache_hint"))))
            more = true;
        int k = v < 0 ? emu_mod_one_of(d, vecs) : -1;
        if (k >= 0)
            v = k, more = true;
        enum emu_type u = *t == EMU_T_NONE ? emu_mod_type(d) : EMU_T_NONE;
        if (u != EMU_T_NONE)
            *t = u, more = true;
    }
    x->n = v < 0 ? 1 : 2 << v;
    x->bytes = emu_types[*t].bits / 8;
    x->pack = emu_types[*t].cls == EMU_C_V ? 2 : 1;
    x->atom = (struct emu_atom){.op = (enum emu_atom_op)op, .elem = emu_types[*t].elem,
                                .ftz = x->space == EMU_GLOBAL || x->space == EMU_GENERIC};
    if (op < 0 || *t == EMU_T_NONE || x->bytes < 2 || (x->bytes == 16 && op < ATOM_EXCH) ||
        !emu_atom_allowed(x->atom.op, x->atom.elem))
        return emu_bad(d, "no such operation and type");
    if (v >= 0 && x->space != EMU_GLOBAL)
        return emu_bad(d, "vectors are only possible in global memory");
    bool late = v >= 0 || x->bytes == 16 || (x->atom.elem == EMU_T_BF16);
    return !late || emu_need(d, EMU_NEED_90, "this form of an atomic");
}

static bool decode_atom(struct emu_decode *d, struct emu_insn *in, bool returns)
{
    struct atom_insn *x = new(d->arena, struct atom_insn);
    bool policy;
    enum emu_type t;
    uint32_t row;
    int at = returns;
    if (!atom_mods(d, x, &policy, &t))
        return false;
    if (!returns && x->atom.op >= ATOM_EXCH)
        return emu_bad(d, "red has no .exch and .cas");
    x->returns = returns;
    in->x = x;
    in->run = x->bytes == 16 ? run_atom128 : run_atom;
    bool cas = x->atom.op == ATOM_CAS;
    enum emu_type reg = x->pack == 2 ? EMU_T_B32 : emu_types[t].bits == 16 ? EMU_T_B16 : t;
    return (!returns || emu_dst_vec(d, 0, x->n, emu_types[t].bits, &x->d, NULL)) && emu_mem(d, at, &x->at) &&
           emu_src_vec(d, at + 1, x->n, reg, &x->b, NULL) && (!cas || emu_src_vec(d, at + 2, 1, reg, &x->c, NULL)) &&
           (!policy || emu_src(d, at + 2 + cas, EMU_T_B64, &row));
}

bool emu_decode_atom(struct emu_decode *d, struct emu_insn *in) { return decode_atom(d, in, true); }
bool emu_decode_red(struct emu_decode *d, struct emu_insn *in) { return decode_atom(d, in, false); }
