/* copy - cp.async and the one-dimensional bulk copies; st.async and red.async.
 *
 * PTX ISA, "Data Movement and Conversion Instructions: Asynchronous copy". */
#include "runtime/emu/copy.h"

#include <stdlib.h>

/* ---- groups ---- */

struct group_wait {
    const struct emu_warp *w;
    enum emu_async_kind kind;
    uint32_t mask, limit[32]; /* groups with a smaller number must be done */
    bool all;
};

static bool in_group(const struct emu_async *op, const void *arg)
{
    const struct group_wait *g = arg;
    uint32_t lanes = op->lanes & g->mask;
    if (op->kind != g->kind || op->who.w != g->w || !lanes || op->group == UINT32_MAX)
        return false;
    return g->all || (int32_t)(g->limit[__builtin_ctz(lanes)] - op->group) > 0;
}

static enum emu_next wait_groups(struct emu_warp *w, enum emu_async_kind kind, const uint32_t *groups, uint32_t mask,
                                 uint32_t n, bool all, bool read_only)
{
    struct group_wait g = {.w = w, .kind = kind, .mask = mask, .all = all};
    for (int l = 0; l < 32; l++)
        g.limit[l] = groups[l] > n ? groups[l] - n : 0;
    return emu_async_force(w->cta->cluster, in_group, &g, read_only) ? EMU_NEXT : EMU_FAULT;
}

/* ---- cp.async ---- */

struct cp_insn {
    struct emu_addr to, from;
    enum emu_space from_space;
    uint32_t size, src_size; /* bytes; row */
    bool has_src_size, has_ignore, neg;
    uint32_t ignore;
};
struct cp_op {
    uint32_t size, bytes[32], offset[32];
    uint64_t from[32];
    uint8_t data[32][16];
};

static bool cp_read(struct emu_async *op)
{
    struct cp_op *c = (struct cp_op *)op->payload;
    FOR_LANES(l, op->lanes) {
        struct emu_who who = op->who;
        who.lane = (int)l;
        memset(c->data[l], 0, 16);
        if (c->bytes[l] && !emu_gmem_read(&who, c->from[l], c->data[l], c->bytes[l]))
            return false;
    }
    return true;
}

static bool cp_write(struct emu_async *op)
{
    struct cp_op *c = (struct cp_op *)op->payload;
    FOR_LANES(l, op->lanes) {
        struct emu_who who = op->who;
        who.lane = (int)l;
        if (!emu_smem_write(&who, op->who.w->cta, c->offset[l], c->data[l], c->size))
            return false;
    }
    return true;
}

static bool cp_lane(struct emu_warp *w, const struct emu_insn *in, uint32_t l, struct cp_op *c)
{
    const struct cp_insn *x = in->x;
    const struct emu_who *who = EMU_WHO(w, in, l);
    struct emu_cta *cta;
    uint64_t to = emu_addr_of(w, &x->to, l);
    if (to >= EMU_SHARED_WINDOW)
        to -= EMU_SHARED_WINDOW;
    if (!emu_smem_at(who, EMU_SHARED_CTA, (uint32_t)to, x->size, &cta, &c->offset[l]))
        return false;
    c->from[l] = emu_addr_of(w, &x->from, l);
    c->bytes[l] = x->size;
    if (x->has_src_size && emu_row(w, x->src_size)[l] < x->size)
        c->bytes[l] = emu_row(w, x->src_size)[l];
    if (x->has_ignore && (emu_pred(w, x->ignore, x->neg) >> l & 1))
        c->bytes[l] = 0;
    if (c->from[l] & (x->size - 1))
        return emu_fault_who(who, "misaligned: address 0x%llx is not a multiple of %u", (unsigned long long)c->from[l],
                             x->size);
    return !emu_async_is_late(w->cta->cluster) || emu_smem_poison(who, cta, c->offset[l], x->size);
}

static enum emu_next run_cp(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct cp_insn *x = in->x;
    while (mask) { /* lanes in the same group make one operation */
        uint32_t group = w->cp_groups[__builtin_ctz(mask)], lanes = 0;
        struct cp_op c;
        c.size = x->size;
        FOR_LANES(l, mask)
            lanes |= (uint32_t)(w->cp_groups[l] == group) << l;
        mask &= ~lanes;
        FOR_LANES(l, lanes)
            if (!cp_lane(w, in, l, &c))
                return EMU_FAULT;
        struct emu_async *op = emu_async_new(EMU_WHO(w, in, -1), EMU_ASYNC_CP, sizeof c);
        memcpy(op->payload, &c, sizeof c);
        op->read = cp_read;
        op->write = cp_write;
        op->lanes = lanes;
        op->group = group;
        op->order = emu_cp_order(w);
        if (!emu_async_issue(op))
            return EMU_FAULT;
    }
    return EMU_NEXT;
}

bool emu_decode_cp_async(struct emu_decode *d, struct emu_insn *in)
{
    static const char *const hints[] = {"L2::64B", "L2::128B", "L2::256B", NULL};
    struct cp_insn *x = new(d->arena, struct cp_insn);
    bool ca = emu_mod(d, "ca"), cg = !ca && emu_mod(d, "cg"), policy;
    int64_t size;
    uint32_t row;
    if ((!ca && !cg) || !(emu_mod(d, "shared") || emu_mod(d, "shared::cta")) || !emu_mod(d, "global"))
        return emu_bad(d, "cp.async.ca|cg.shared.global is wanted");
    policy = emu_mod(d, "L2::cache_hint");
    emu_mod_one_of(d, hints);
    in->x = x;
    in->run = run_cp;
    if (!emu_mem(d, 0, &x->to) || !emu_mem(d, 1, &x->from) || !emu_imm(d, 2, &size))
        return false;
    if (size != 16 && (cg || (size != 4 && size != 8)))
        return emu_bad(d, "cp.async.%s of %lld bytes", ca ? "ca" : "cg", (long long)size);
    x->size = (uint32_t)size;
    int more = d->nop - 3 - policy;
    if (policy && !emu_src(d, d->nop - 1, EMU_T_B64, &row))
        return false;
    if (more < 1)
        return true;
    struct emu_raw *r = &d->op[3];
    x->has_ignore = r->kind == EMU_RAW_REG && r->reg && r->reg->type == EMU_T_PRED;
    x->has_src_size = !x->has_ignore;
    return x->has_ignore ? emu_src_pred(d, 3, &x->ignore, &x->neg) : emu_src(d, 3, EMU_T_U32, &x->src_size);
}

static enum emu_next run_cp_commit(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    (void)in;
    FOR_LANES(l, mask)
        w->cp_groups[l]++;
    return EMU_NEXT;
}
static enum emu_next run_cp_wait(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    return wait_groups(w, EMU_ASYNC_CP, w->cp_groups, mask, (uint32_t)in->imm, in->u8[0], false);
}

bool emu_decode_cp_commit(struct emu_decode *d, struct emu_insn *in)
{
    (void)d;
    in->run = run_cp_commit;
    return true;
}
bool emu_decode_cp_wait(struct emu_decode *d, struct emu_insn *in)
{
    in->run = run_cp_wait;
    return emu_imm(d, 0, &in->imm);
}
bool emu_decode_cp_wait_all(struct emu_decode *d, struct emu_insn *in)
{
    (void)d;
    in->run = run_cp_wait;
    in->u8[0] = true;
    return true;
}

/* ---- bulk groups ---- */

static enum emu_next run_bulk_commit(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    (void)in;
    FOR_LANES(l, mask)
        w->bulk_groups[l]++;
    return EMU_NEXT;
}
static enum emu_next run_bulk_wait(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    return wait_groups(w, EMU_ASYNC_BULK_STORE, w->bulk_groups, mask, (uint32_t)in->imm, false, in->u8[0]);
}

bool emu_decode_bulk_commit(struct emu_decode *d, struct emu_insn *in)
{
    (void)d;
    in->run = run_bulk_commit;
    return true;
}
bool emu_decode_bulk_wait(struct emu_decode *d, struct emu_insn *in)
{
    in->run = run_bulk_wait;
    in->u8[0] = emu_mod(d, "read");
    return emu_imm(d, 0, &in->imm);
}

/* ---- receivers: the blocks that get data and signal ---- */

bool emu_receivers(struct emu_warp *w, const struct emu_insn *in, uint32_t lane, const struct emu_copy_mods *x,
                   struct emu_receivers *r)
{
    const struct emu_who *who = EMU_WHO(w, in, lane);
    struct emu_cta *to, *bar;
    uint64_t a = emu_addr_of(w, &x->to, lane), b = emu_addr_of(w, &x->mbar, lane);
    a = a >= EMU_SHARED_WINDOW ? a - EMU_SHARED_WINDOW : a;
    b = b >= EMU_SHARED_WINDOW ? b - EMU_SHARED_WINDOW : b;
    enum emu_space space = x->to_space;
    if (!emu_smem_at(who, space, (uint32_t)a, 16, &to, &r->offset) ||
        !emu_smem_at(who, space, (uint32_t)b, 8, &bar, &r->mbar))
        return false;
    r->ctas = 1u << to->rank;
    if (x->multicast) {
        r->ctas = emu_row(w, x->mask)[lane] & 0xFFFF;
        if (!r->ctas || r->ctas >> w->cta->cluster->size)
            return emu_fault_who(who, "multicast mask 0x%x in a cluster of %u", r->ctas, w->cta->cluster->size);
    }
    if (to != bar && !x->pair)
        return emu_fault_who(who, "the mbarrier is in block %u of the cluster, the data go to block %u", bar->rank,
                             to->rank);
    r->flip = x->pair ? (to->rank ^ bar->rank) & 1 : 0;
    if (x->pair && (to->rank ^ bar->rank) > 1)
        return emu_fault_who(who,
                             "the mbarrier is in block %u of the cluster, neither the data's block %u nor its peer",
                             bar->rank, to->rank);
    if (x->pair && x->multicast)
        r->flip = 2 + (bar->rank & 1);
    return true;
}

bool emu_signal(const struct emu_who *who, const struct emu_receivers *r, int64_t bytes)
{
    struct emu_cluster *k = who->w->cta->cluster;
    for (uint32_t i = 0; i < k->size; i++) {
        if (!(r->ctas >> i & 1))
            continue;
        uint32_t at = r->flip >= 2 ? (i & ~1u) | (r->flip & 1) : i ^ r->flip;
        if (!emu_mbar_complete_tx(who, &k->cta[at], r->mbar, bytes))
            return false;
    }
    return true;
}

/* ---- bulk copies ---- */

enum bulk_way { TO_SHARED, SHARED_TO_SHARED, TO_GLOBAL };
struct bulk_insn {
    struct emu_copy_mods mods;
    enum bulk_way way;
    bool reduce, cp_mask;
    struct emu_atom atom;
    struct emu_addr from;
    uint32_t size, byte_mask; /* rows */
};
struct bulk_op {
    const struct bulk_insn *x;
    struct emu_receivers r;
    uint64_t to, from; /* global addresses, or the source's shared offset */
    uint32_t size;
    uint32_t byte_mask;
    uint8_t data[];
};

static bool bulk_read(struct emu_async *op)
{
    struct bulk_op *b = (struct bulk_op *)op->payload;
    if (b->x->way == TO_SHARED)
        return emu_gmem_read(&op->who, b->from, b->data, b->size);
    return emu_smem_read(&op->who, op->who.w->cta, (uint32_t)b->from, b->data, b->size);
}

static bool reduce_all(const struct emu_who *who, const struct emu_atom *x, uint8_t *p, const uint8_t *from, uint32_t n)
{
    uint32_t size = (uint32_t)emu_types[x->elem].bits / 8;
    (void)who;
    for (uint32_t i = 0; i < n; i += size) {
        uint64_t v = 0;
        memcpy(&v, from + i, size);
        emu_atom_element(x, p + i, v, 0);
    }
    return true;
}

static bool put_shared(struct emu_async *op, struct emu_cta *cta)
{
    struct bulk_op *b = (struct bulk_op *)op->payload;
    if (!b->x->reduce)
        return emu_smem_write(&op->who, cta, b->r.offset, b->data, b->size);
    uint8_t *p = emu_mem_at(&op->who, EMU_SHARED_CLUSTER, cta->rank << EMU_RANK_SHIFT | b->r.offset, b->size, 16,
                            EMU_READ | EMU_WRITE);
    return p && reduce_all(&op->who, &b->x->atom, p, b->data, b->size);
}

static bool put_global(struct emu_async *op)
{
    struct bulk_op *b = (struct bulk_op *)op->payload;
    if (b->x->reduce) {
        uint8_t *p = emu_mem_at(&op->who, EMU_GLOBAL, b->to, b->size, 16, EMU_READ | EMU_WRITE);
        return p && reduce_all(&op->who, &b->x->atom, p, b->data, b->size);
    }
    if (!b->x->cp_mask)
        return emu_gmem_write(&op->who, b->to, b->data, b->size);
    for (uint32_t i = 0; i < b->size; i++)
        if ((b->byte_mask >> i % 16 & 1) && !emu_gmem_write(&op->who, b->to + i, b->data + i, 1))
            return false;
    return true;
}

static bool bulk_write(struct emu_async *op)
{
    struct bulk_op *b = (struct bulk_op *)op->payload;
    struct emu_cluster *k = op->cluster;
    k->stats.tma_bytes += b->size;
    if (b->x->way == TO_GLOBAL)
        return put_global(op);
    for (uint32_t i = 0; i < k->size; i++)
        if ((b->r.ctas >> i & 1) && !put_shared(op, &k->cta[i]))
            return false;
    return emu_signal(&op->who, &b->r, b->size);
}

static bool bulk_lane(struct emu_warp *w, const struct emu_insn *in, uint32_t l)
{
    const struct bulk_insn *x = in->x;
    const struct emu_who *who = EMU_WHO(w, in, l);
    struct emu_cta *cta;
    uint32_t size = emu_row(w, x->size)[l], offset;
    uint64_t from = emu_addr_of(w, &x->from, l), to = emu_addr_of(w, &x->mods.to, l);
    struct emu_receivers r = {0};
    if (size % 16 || size > 1u << 20)
        return emu_fault_who(who, "a bulk copy of %u bytes; a multiple of 16 is wanted", size);
    if (x->way != TO_SHARED) {
        from = from >= EMU_SHARED_WINDOW ? from - EMU_SHARED_WINDOW : from;
        if (!emu_smem_at(who, EMU_SHARED_CTA, (uint32_t)from, 16, &cta, &offset))
            return false;
        from = offset;
    } else if (from % 16) {
        return emu_fault_who(who, "misaligned: address 0x%llx is not a multiple of 16", (unsigned long long)from);
    }
    if (x->way == TO_GLOBAL && to % 16)
        return emu_fault_who(who, "misaligned: address 0x%llx is not a multiple of 16", (unsigned long long)to);
    if (x->way != TO_GLOBAL && !emu_receivers(w, in, l, &x->mods, &r))
        return false;
    if (x->way != TO_GLOBAL && !x->reduce && emu_async_is_late(w->cta->cluster))
        for (uint32_t i = 0; i < w->cta->cluster->size; i++)
            if ((r.ctas >> i & 1) && !emu_smem_poison(who, &w->cta->cluster->cta[i], r.offset, size))
                return false;
    struct emu_async *op = emu_async_new(who, x->way == TO_GLOBAL ? EMU_ASYNC_BULK_STORE : EMU_ASYNC_BULK_LOAD,
                                         sizeof(struct bulk_op) + size);
    struct bulk_op *b = (struct bulk_op *)op->payload;
    *b = (struct bulk_op){.x = x, .r = r, .to = to, .from = from, .size = size};
    b->byte_mask = x->cp_mask ? emu_row(w, x->byte_mask)[l] : 0;
    op->read = bulk_read;
    op->write = bulk_write;
    op->lanes = 1u << l;
    op->group = w->bulk_groups[l];
    if (x->way != TO_GLOBAL) {
        op->ctas = r.ctas;
        op->mbar_cta = &w->cta->cluster->cta[__builtin_ctz(r.ctas)];
        op->mbar = r.mbar;
    }
    return emu_async_issue(op);
}

static enum emu_next run_bulk(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    FOR_LANES(l, mask)
        if (!bulk_lane(w, in, l))
            return EMU_FAULT;
    return EMU_NEXT;
}

/* The element type that a bulk reduction or a red.async names. */
bool emu_mod_reduction(struct emu_decode *d, struct emu_atom *a)
{
    static const char *const ops[] = {"add", "min", "max", "inc", "dec", "and", "or", "xor", NULL};
    int op = emu_mod_one_of(d, ops);
    bool noftz = emu_mod(d, "noftz");
    enum emu_type t = emu_mod_type(d);
    if (op < 0 || t == EMU_T_NONE || emu_types[t].cls == EMU_C_V || emu_types[t].bits < 16 ||
        !emu_atom_allowed((enum emu_atom_op)op, t))
        return emu_bad(d, "no such reduction");
    if (noftz != (t == EMU_T_F16 || t == EMU_T_BF16) && op == ATOM_ADD)
        return emu_bad(d, ".noftz belongs to .f16 and .bf16, and only there");
    *a = (struct emu_atom){.op = (enum emu_atom_op)op, .elem = t};
    return true;
}

static bool decode_bulk(struct emu_decode *d, struct emu_insn *in, bool reduce)
{
    struct bulk_insn *x = new(d->arena, struct bulk_insn);
    bool cluster = emu_mod(d, "shared::cluster"), own = !cluster && emu_mod(d, "shared::cta"), policy;
    uint32_t row;
    int at = 3;
    in->x = x;
    in->run = run_bulk;
    x->reduce = reduce;
    x->mods.to_space = own ? EMU_SHARED_CTA : EMU_SHARED_CLUSTER;
    if (cluster || own)
        x->way = emu_mod(d, "global") ? TO_SHARED : emu_mod(d, "shared::cta") ? SHARED_TO_SHARED : TO_GLOBAL;
    else
        x->way = emu_mod(d, "global") && emu_mod(d, "shared::cta") ? TO_GLOBAL : TO_SHARED;
    if ((x->way == TO_GLOBAL) != (!cluster && !own) || (reduce && x->way == TO_SHARED) ||
        (x->way == SHARED_TO_SHARED && !cluster))
        return emu_bad(d, "no such pair of state spaces");
    if (!emu_mod(d, x->way == TO_GLOBAL ? "bulk_group" : "mbarrier::complete_tx::bytes"))
        return emu_bad(d, "the completion mechanism does not fit the state spaces");
    x->mods.multicast = x->way == TO_SHARED && cluster && emu_mod(d, "multicast::cluster");
    policy = emu_mod(d, "L2::cache_hint");
    x->cp_mask = !reduce && x->way == TO_GLOBAL && emu_mod(d, "cp_mask");
    if (reduce && !emu_mod_reduction(d, &x->atom))
        return false;
    if (!emu_mem(d, 0, &x->mods.to) || !emu_mem(d, 1, &x->from) || !emu_src(d, 2, EMU_T_U32, &x->size))
        return false;
    if (x->way != TO_GLOBAL && !emu_mem(d, at++, &x->mods.mbar))
        return false;
    if (x->mods.multicast && !emu_src(d, at++, EMU_T_B16, &x->mods.mask))
        return false;
    if (policy && !emu_src(d, at++, EMU_T_B64, &row))
        return false;
    return !x->cp_mask || (emu_need(d, EMU_NEED_100, ".cp_mask") && emu_src(d, at, EMU_T_B16, &x->byte_mask));
}

bool emu_decode_cp_bulk(struct emu_decode *d, struct emu_insn *in) { return decode_bulk(d, in, false); }
bool emu_decode_cp_reduce_bulk(struct emu_decode *d, struct emu_insn *in) { return decode_bulk(d, in, true); }

static enum emu_next run_nothing(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    (void)w, (void)in, (void)mask;
    return EMU_NEXT;
}

bool emu_decode_bulk_prefetch(struct emu_decode *d, struct emu_insn *in)
{
    struct emu_addr a;
    uint32_t row;
    in->run = run_nothing;
    if (!emu_mod(d, "L2") || !emu_mod(d, "global"))
        return emu_bad(d, ".L2.global is wanted");
    bool policy = emu_mod(d, "L2::cache_hint");
    return emu_mem(d, 0, &a) && emu_src(d, 1, EMU_T_U32, &row) && (!policy || emu_src(d, 2, EMU_T_B64, &row));
}

/* ---- st.async, red.async: a few bytes to another block's shared memory, with a signal ---- */

struct remote_insn {
    struct emu_copy_mods mods;
    bool reduce;
    struct emu_atom atom;
    int n, bytes;
    const uint32_t *row;
};
struct remote_op {
    const struct remote_insn *x;
    struct emu_receivers r;
    uint8_t data[16];
};

static bool remote_write(struct emu_async *op)
{
    struct remote_op *b = (struct remote_op *)op->payload;
    uint32_t n = (uint32_t)(b->x->n * b->x->bytes), rank = (uint32_t)__builtin_ctz(b->r.ctas);
    uint8_t *p = emu_mem_at(&op->who, EMU_SHARED_CLUSTER, rank << EMU_RANK_SHIFT | b->r.offset, n, n,
                            b->x->reduce ? EMU_READ | EMU_WRITE : EMU_WRITE);
    if (!p)
        return false;
    if (b->x->reduce)
        reduce_all(&op->who, &b->x->atom, p, b->data, n);
    else
        memcpy(p, b->data, n);
    return emu_signal(&op->who, &b->r, n);
}

static bool remote_lane(struct emu_warp *w, const struct emu_insn *in, uint32_t l)
{
    const struct remote_insn *x = in->x;
    const struct emu_who *who = EMU_WHO(w, in, l);
    struct emu_cta *to, *bar;
    struct remote_op b = {.x = x};
    if (!emu_smem_at(who, EMU_SHARED_CLUSTER, emu_shared_address(w, &x->mods.to, l), (uint32_t)(x->n * x->bytes), &to,
                     &b.r.offset) ||
        !emu_smem_at(who, EMU_SHARED_CLUSTER, emu_shared_address(w, &x->mods.mbar, l), 8, &bar, &b.r.mbar))
        return false;
    if (to != bar)
        return emu_fault_who(who, "the mbarrier is in block %u of the cluster, the data go to block %u", bar->rank,
                             to->rank);
    b.r.ctas = 1u << to->rank;
    for (int i = 0; i < x->n; i++) {
        uint64_t v = x->bytes == 8 ? emu_row64(w, x->row[i])[l] : emu_row(w, x->row[i])[l];
        memcpy(b.data + i * x->bytes, &v, (size_t)x->bytes);
    }
    struct emu_async *op = emu_async_new(who, EMU_ASYNC_BULK_LOAD, sizeof b);
    memcpy(op->payload, &b, sizeof b);
    op->write = remote_write;
    op->lanes = 1u << l;
    op->ctas = b.r.ctas;
    op->mbar_cta = bar;
    op->mbar = b.r.mbar;
    return emu_async_issue(op);
}

static enum emu_next run_remote(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    FOR_LANES(l, mask)
        if (!remote_lane(w, in, l))
            return EMU_FAULT;
    return EMU_NEXT;
}

static bool decode_remote(struct emu_decode *d, struct emu_insn *in, bool reduce)
{
    static const char *const vecs[] = {"v2", "v4", NULL};
    struct remote_insn *x = new(d->arena, struct remote_insn);
    x->reduce = reduce;
    x->n = 1;
    emu_mod_sem_scope(d);
    if (!emu_mod(d, "shared::cluster") || !emu_mod(d, "mbarrier::complete_tx::bytes"))
        return emu_bad(d, ".shared::cluster.mbarrier::complete_tx::bytes is wanted");
    enum emu_type t;
    if (reduce) {
        if (!emu_mod_reduction(d, &x->atom))
            return false;
        t = x->atom.elem;
    } else {
        int v = emu_mod_one_of(d, vecs);
        x->n = v < 0 ? 1 : 2 << v;
        t = emu_mod_type(d);
    }
    x->bytes = emu_types[t].bits / 8;
    if ((x->bytes != 4 && x->bytes != 8) || x->n * x->bytes > 16)
        return emu_bad(d, "no such type and vector");
    in->x = x;
    in->run = run_remote;
    return emu_mem(d, 0, &x->mods.to) && emu_src_vec(d, 1, x->n, t, &x->row, NULL) && emu_mem(d, 2, &x->mods.mbar);
}

bool emu_decode_st_async(struct emu_decode *d, struct emu_insn *in) { return decode_remote(d, in, false); }
bool emu_decode_red_async(struct emu_decode *d, struct emu_insn *in) { return decode_remote(d, in, true); }
