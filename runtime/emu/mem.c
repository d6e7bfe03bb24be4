/* mem - ld and st of every width. Lanes' addresses are turned into host pointers first, all checked; then data move. */
#include "runtime/emu/core.h"

struct mem_insn {
    enum emu_space space;
    struct emu_addr at;
    int n, bytes;       /* elements of the vector; bytes of one */
    int reg_bits;       /* width of the registers */
    bool sign, sync;    /* sync: acquire or release */
    bool strong;        /* takes part in no race */
    const uint32_t *row;
};

/* ---- addresses to pointers ---- */

static inline bool bits_set(const uint64_t *init, uint64_t at, uint32_t n)
{
    uint64_t mask = (((uint64_t)1 << n) - 1) << at % 64; /* n <= 32 and aligned: within one word */
    return (__atomic_load_n(&init[at / 64], __ATOMIC_RELAXED) & mask) == mask;
}
static inline void set_bits(uint64_t *init, uint64_t at, uint32_t n)
{
    uint64_t mask = (((uint64_t)1 << n) - 1) << at % 64;
    if ((__atomic_load_n(&init[at / 64], __ATOMIC_RELAXED) & mask) != mask)
        __atomic_fetch_or(&init[at / 64], mask, __ATOMIC_RELAXED);
}

/* All lanes within one array of `size` bytes that begins at `base`? Then the pointers are set and the bits of `init`
 * kept. */
static bool within(const uint64_t *a, uint32_t mask, uint64_t base, uint64_t first, uint64_t end, uint32_t n,
                   uint32_t align, unsigned use, bool check, uint8_t *data, uint64_t *init, uint8_t **p)
{
    if (end < first + n)
        return false;
    uint64_t room = end - first - n;
    FOR_LANES(l, mask) {
        uint64_t at = a[l] - base;
        if (at - first > room || (at & (align - 1)))
            return false;
        if (init && check && (use & EMU_READ) && !bits_set(init, at, n))
            return false;
        p[l] = data + at;
    }
    if (init && (use & EMU_WRITE))
        FOR_LANES(l, mask)
            set_bits(init, a[l] - base, n);
    return true;
}

/* The same in the block's own shared memory. */
static bool within_shared(struct emu_warp *w, const struct emu_insn *in, const uint64_t *a, uint32_t mask,
                          uint64_t window, uint32_t n, unsigned use, uint8_t **p)
{
    struct emu_cta *c = w->cta;
    uint64_t base = window + ((uint64_t)c->rank << EMU_RANK_SHIFT);
    if (!within(a, mask, base, EMU_SMEM_FIRST, c->smem_end, n, n, use, emu_checked(c->cluster), c->smem, c->smem_init,
                p))
        return false;
    if (c->cells && !(use & (EMU_STRONG | EMU_QUIET)))
        FOR_LANES(l, mask)
            if (!emu_race_access(EMU_WHO(w, in, l), c, (uint32_t)(a[l] - base), n, use & EMU_WRITE))
                return false;
    if (use & EMU_WRITE)
        FOR_LANES(l, mask) {
            emu_note_write(c, w, l, (uint32_t)(a[l] - base));
            if (n > 16)
                emu_note_write(c, w, l, (uint32_t)(a[l] - base) + 16);
        }
    return true;
}

static bool pointers(struct emu_warp *w, const struct emu_insn *in, enum emu_space space, const struct emu_addr *at,
                     uint32_t mask, uint32_t n, unsigned use, uint8_t **p)
{
    uint64_t a[32];
    if (at->wide) {
        const emu_u64 *r = emu_row64(w, at->row);
        for (int l = 0; l < 32; l++)
            a[l] = r[l] + (uint64_t)at->offset;
    } else {
        const uint32_t *r = emu_row(w, at->row);
        for (int l = 0; l < 32; l++)
            a[l] = (uint32_t)(r[l] + (uint32_t)at->offset);
    }
    uint32_t align = n;
    struct emu_cta *c = w->cta;
    if (space == EMU_SHARED_CTA || space == EMU_SHARED_CLUSTER) {
        if (within_shared(w, in, a, mask, 0, n, use, p))
            return true;
    } else if (space == EMU_GENERIC && a[__builtin_ctz(mask)] - EMU_SHARED_WINDOW < EMU_WINDOW_BYTES) {
        if (within_shared(w, in, a, mask, EMU_SHARED_WINDOW, n, use, p))
            return true;
    } else if (space <= EMU_GLOBAL || space == EMU_CONST) {
        struct emu_block *b = w->hit;
        uint64_t first = a[__builtin_ctz(mask)];
        if (!b || first - b->address >= b->bytes)
            b = emu_find_block(c->cluster->grid->emu, first);
        if (b &&
            within(a, mask, b->address, 0, b->bytes, n, align, use, emu_checked(c->cluster), b->data, b->init, p)) {
            w->hit = b;
            return true;
        }
    }
    if (c->cluster->failed)
        return false;
    FOR_LANES(l, mask)
        if (!(p[l] = emu_mem_at(EMU_WHO(w, in, l), space, a[l], n, align, use)))
            return false;
    return true;
}

/* ---- shared-memory banks: wavefronts of one access, 32 banks of 4 bytes ---- */

static void count_banks(struct emu_warp *w, uint8_t *const *p, uint32_t mask, uint32_t n)
{
    struct emu_stats *s = &w->cta->cluster->stats;
    int per = n >= 16 ? 8 : n == 8 ? 16 : 32; /* lanes that one wavefront serves at most */
    for (int from = 0; from < 32; from += per) {
        uint32_t part = per == 32 ? mask : mask & (((1u << per) - 1) << from);
        uint8_t count[32] = {0}, worst = 0;
        uint64_t seen[32];
        if (!part)
            continue;
        FOR_LANES(l, part) {
            for (uint32_t b = 0; b < (n < 4 ? 1 : n / 4); b++) {
                uint64_t word = ((uint64_t)(uintptr_t)(p[l] - w->cta->smem) + b * 4) / 4;
                uint32_t bank = word & 31;
                if (count[bank] && seen[bank] == word)
                    continue;
                seen[bank] = word;
                if (++count[bank] > worst)
                    worst = count[bank];
            }
        }
        s->bank_wavefronts += worst;
    }
    s->bank_requests++;
}

/* ---- ld, st ---- */

static enum emu_next run_ld(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct mem_insn *x = in->x;
    uint8_t *p[32];
    if (!pointers(w, in, x->space, &x->at, mask, (uint32_t)(x->n * x->bytes), EMU_READ | (x->strong ? EMU_STRONG : 0),
                  p))
        return EMU_FAULT;
    if (x->strong)
        emu_race_strong(w);
    if (x->space == EMU_SHARED_CTA)
        count_banks(w, p, mask, (uint32_t)(x->n * x->bytes));
    for (int i = 0; i < x->n; i++) {
        uint32_t *d = emu_row(w, x->row[i]);
        emu_u64 *d64 = emu_row64(w, x->row[i]);
        int at = i * x->bytes;
        switch (x->bytes) {
        case 4:
            if (x->reg_bits > 32)
                FOR_LANES(l, mask) {
                    uint32_t v;
                    memcpy(&v, p[l] + at, 4);
                    d64[l] = x->sign ? (uint64_t)(int32_t)v : v;
                }
            else
                FOR_LANES(l, mask)
                    memcpy(&d[l], p[l] + at, 4);
            break;
        case 8:
            FOR_LANES(l, mask)
                memcpy(&d64[l], p[l] + at, 8);
            break;
        case 16:
            FOR_LANES(l, mask) {
                memcpy(&d64[l], p[l] + at, 8);
                memcpy(&emu_row64(w, x->row[i] + 2)[l], p[l] + at + 8, 8);
            }
            break;
        default:
            FOR_LANES(l, mask) {
                uint16_t v = 0;
                memcpy(&v, p[l] + at, (size_t)x->bytes);
                uint64_t wide = x->sign ? (uint64_t)(x->bytes == 1 ? (int8_t)v : (int16_t)v) : v;
                if (x->reg_bits > 32)
                    d64[l] = wide;
                else
                    d[l] = x->reg_bits == 32 ? (uint32_t)wide : (uint16_t)wide;
            }
        }
    }
    if (x->sync)
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return EMU_NEXT;
}

/* The bytes that a lane stores. */
static void stored_bytes(struct emu_warp *w, const struct mem_insn *x, uint32_t l, uint8_t *out)
{
    for (int i = 0; i < x->n; i++) {
        uint64_t v[2] = {x->reg_bits > 32 ? emu_row64(w, x->row[i])[l] : emu_row(w, x->row[i])[l],
                         x->bytes == 16 ? emu_row64(w, x->row[i] + 2)[l] : 0};
        memcpy(out + i * x->bytes, v, (size_t)x->bytes);
    }
}

/* Races of a store to the block's own shared memory. Several threads may store the same value to one place: such a
 * store changes nothing and is not looked at. */
static bool store_races(struct emu_warp *w, const struct emu_insn *in, const struct mem_insn *x, uint8_t *const *p,
                        uint32_t mask)
{
    struct emu_cta *c = w->cta;
    uint32_t n = (uint32_t)(x->n * x->bytes);
    FOR_LANES(l, mask) {
        uint8_t v[32];
        if ((uintptr_t)p[l] - (uintptr_t)c->smem >= c->smem_end)
            continue;
        stored_bytes(w, x, l, v);
        if (memcmp(p[l], v, n) && !emu_race_access(EMU_WHO(w, in, l), c, (uint32_t)(p[l] - c->smem), n, true))
            return false;
    }
    return true;
}

static enum emu_next run_st(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct mem_insn *x = in->x;
    uint8_t *p[32];
    if (!pointers(w, in, x->space, &x->at, mask, (uint32_t)(x->n * x->bytes),
                  EMU_WRITE | (x->strong ? EMU_STRONG : EMU_QUIET), p))
        return EMU_FAULT;
    if (w->cta->cells && !x->strong && !store_races(w, in, x, p, mask))
        return EMU_FAULT;
    if (x->strong)
        emu_race_strong(w);
    if (x->space == EMU_SHARED_CTA)
        count_banks(w, p, mask, (uint32_t)(x->n * x->bytes));
    if (x->sync)
        __atomic_thread_fence(__ATOMIC_RELEASE);
    for (int i = 0; i < x->n; i++) {
        const uint32_t *s = emu_row(w, x->row[i]);
        const emu_u64 *s64 = emu_row64(w, x->row[i]);
        int at = i * x->bytes;
        switch (x->bytes) {
        case 4:
            if (x->reg_bits > 32)
                FOR_LANES(l, mask) {
                    uint32_t v = (uint32_t)s64[l];
                    memcpy(p[l] + at, &v, 4);
                }
            else
                FOR_LANES(l, mask)
                    memcpy(p[l] + at, &s[l], 4);
            break;
        case 8:
            FOR_LANES(l, mask)
                memcpy(p[l] + at, &s64[l], 8);
            break;
        case 16:
            FOR_LANES(l, mask) {
                memcpy(p[l] + at, &s64[l], 8);
                memcpy(p[l] + at + 8, &emu_row64(w, x->row[i] + 2)[l], 8);
            }
            break;
        default:
            FOR_LANES(l, mask) {
                uint16_t v = x->reg_bits > 32 ? (uint16_t)s64[l] : (uint16_t)s[l];
                memcpy(p[l] + at, &v, (size_t)x->bytes);
            }
        }
    }
    w->cta->cluster->quiet_since = w->cta->cluster->stats.warp_steps;
    return EMU_NEXT;
}

/* ---- decoding ---- */

static const char *const sem_names[] = {"weak", "relaxed", "acquire", "release", "volatile", "mmio", NULL};
static const char *const scope_names[] = {"cta", "cluster", "gpu", "sys", NULL};
static const char *const space_names[] = {"global", "shared", "shared::cta", "shared::cluster", "param", "param::entry",
                                          "const",  "local",  NULL};
static const enum emu_space spaces[] = {EMU_GLOBAL, EMU_SHARED_CTA, EMU_SHARED_CTA, EMU_SHARED_CLUSTER,
                                        EMU_PARAM,  EMU_PARAM,      EMU_CONST,      EMU_LOCAL};
static const char *const cache_names[] = {"nc",
                                          "ca",
                                          "cg",
                                          "cs",
                                          "lu",
                                          "cv",
                                          "wb",
                                          "wt",
                                          "L1::evict_normal",
                                          "L1::evict_unchanged",
                                          "L1::evict_first",
                                          "L1::evict_last",
                                          "L1::no_allocate",
                                          "L2::evict_normal",
                                          "L2::evict_first",
                                          "L2::evict_last",
                                          "L2::64B",
                                          "L2::128B",
                                          "L2::256B",
                                          NULL};

/* Arguments of calls are .param variables of the body: they lie in local memory. */
static bool argument_space(struct mem_insn *x)
{
    if (x->space == EMU_PARAM && x->at.local)
        x->space = EMU_LOCAL;
    return true;
}

static bool mem_mods(struct emu_decode *d, struct mem_insn *x, bool *policy, enum emu_type *t)
{
    static const char *const vecs[] = {"v2", "v4", "v8", NULL};
    int sem = emu_mod_one_of(d, sem_names);
    x->sync = sem == 2 || sem == 3;
    x->strong = sem > 0;
    emu_mod_one_of(d, scope_names);
    int s = emu_mod_one_of(d, space_names);
    x->space = s < 0 ? EMU_GENERIC : spaces[s];
    *policy = false;
    while (emu_mod_one_of(d, cache_names) >= 0 || (!*policy && (*policy = emu_mod(d, "L2::cache_hint"))))
        ;
    int v = emu_mod_one_of(d, vecs);
    *t = emu_mod_type(d);
    if (*t == EMU_T_NONE && emu_mod_peek(d))
        return emu_mods_done(d);
    int bits = emu_types[*t].bits;
    x->n = v < 0 ? 1 : 2 << v;
    x->bytes = bits / 8;
    x->sign = emu_types[*t].cls == EMU_C_S;
    if (bits < 8 || emu_types[*t].cls == EMU_C_P || x->n * bits > 256)
        return emu_bad(d, "no such type and vector");
    if (x->n * bits > 128 && (x->space > EMU_GLOBAL || !emu_need(d, EMU_NEED_100, "an access of 32 bytes")))
        return emu_bad(d, "32 bytes can only be accessed in global memory");
    return true;
}

/* The registers: exactly as wide as the type when a vector, else possibly wider. */
static bool mem_registers(struct emu_decode *d, struct mem_insn *x, int i, enum emu_type t, bool store)
{
    uint32_t *row;
    if (x->n > 1) {
        x->reg_bits = emu_types[t].bits < 16 ? 16 : emu_types[t].bits;
        return store ? emu_src_vec(d, i, x->n, t, &x->row, NULL)
                     : emu_dst_vec(d, i, x->n, emu_types[t].bits, &x->row, NULL);
    }
    x->row = row = new(d->arena, uint32_t);
    struct emu_raw *r = emu_operand(d, i);
    if (r && r->kind == EMU_RAW_VEC && r->n == 1)
        d->op[i] = r->elem[0];
    return store ? emu_src_wide(d, i, t, row, &x->reg_bits) : emu_dst_wide(d, i, emu_types[t].bits, row, &x->reg_bits);
}

bool emu_decode_ld(struct emu_decode *d, struct emu_insn *in)
{
    struct mem_insn *x = new(d->arena, struct mem_insn);
    bool policy;
    enum emu_type t;
    uint32_t row;
    in->x = x;
    in->run = run_ld;
    return mem_mods(d, x, &policy, &t) && mem_registers(d, x, 0, t, false) && emu_mem(d, 1, &x->at) &&
           argument_space(x) && (!policy || emu_src(d, 2, EMU_T_B64, &row));
}

bool emu_decode_ldu(struct emu_decode *d, struct emu_insn *in) { return emu_decode_ld(d, in); }

bool emu_decode_st(struct emu_decode *d, struct emu_insn *in)
{
    struct mem_insn *x = new(d->arena, struct mem_insn);
    bool policy;
    enum emu_type t;
    uint32_t row;
    in->x = x;
    in->run = run_st;
    return mem_mods(d, x, &policy, &t) && emu_mem(d, 0, &x->at) && argument_space(x) &&
           mem_registers(d, x, 1, t, true) && (!policy || emu_src(d, 2, EMU_T_B64, &row));
}

/* st.bulk[.weak][.shared::cta] [a], size, 0 */
static enum emu_next run_st_bulk(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct mem_insn *x = in->x;
    FOR_LANES(l, mask) {
        uint64_t n = emu_row64(w, in->a)[l];
        if (n % 8 || n > UINT32_MAX)
            return emu_fault(w, in, (int)l, "st.bulk of %llu bytes; a multiple of 8 is wanted", (unsigned long long)n);
        uint8_t *p =
            n ? emu_mem_at(EMU_WHO(w, in, l), x->space, emu_addr_of(w, &x->at, l), (uint32_t)n, 8, EMU_WRITE) : NULL;
        if (n && !p)
            return EMU_FAULT;
        if (n)
            memset(p, 0, n);
    }
    return EMU_NEXT;
}

bool emu_decode_st_bulk(struct emu_decode *d, struct emu_insn *in)
{
    struct mem_insn *x = new(d->arena, struct mem_insn);
    int64_t zero;
    emu_mod(d, "weak");
    x->space = emu_mod(d, "shared::cta") ? EMU_SHARED_CTA : EMU_GENERIC;
    in->x = x;
    in->run = run_st_bulk;
    if (!emu_mem(d, 0, &x->at) || !emu_src(d, 1, EMU_T_U64, &in->a) || !emu_imm(d, 2, &zero))
        return false;
    return !zero || emu_bad(d, "st.bulk stores zeros only");
}
