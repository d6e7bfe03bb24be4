/* mbarrier - the barrier object in shared memory: phase, pending arrivals, pending bytes.
 *
 * PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier". The object's state lives beside shared
 * memory; its 8 bytes count as never written, so that an ordinary load of them is an error. A token's bit 63 is the
 * phase's parity, bits 62:43 minus the pending count; a wait by token looks at the parity only, as hardware does. */
#include "runtime/emu/core.h"

#include <stdlib.h>

enum { COUNT_MAX = (1 << 20) - 1 };

/* ---- objects ---- */

static struct emu_mbar *find(struct emu_cta *c, uint32_t offset)
{
    for (int i = 0; i < c->n_mbar; i++)
        if (c->mbar[i].offset == offset)
            return &c->mbar[i];
    return NULL;
}

static struct emu_mbar *live(const struct emu_who *who, struct emu_cta *c, uint32_t offset)
{
    struct emu_mbar *m = find(c, offset);
    if (m && m->live) {
        if (emu_race_seen(who->w, m->maker, m->made))
            return m;
        emu_fault_who(
            who,
            "race: uses the mbarrier at shared 0x%x, which another warp initialises (PTX line %u); no barrier orders "
            "the two",
            offset, m->init_at ? m->init_at->line : 0);
        return NULL;
    }
    emu_fault_who(who, "shared 0x%x of cta (%u,%u,%u) holds no initialised mbarrier", offset, c->ctaid[0], c->ctaid[1],
                  c->ctaid[2]);
    return NULL;
}

static struct emu_mbar *make(struct emu_cta *c, uint32_t offset)
{
    struct emu_mbar *m = find(c, offset);
    if (m)
        return m;
    if (c->n_mbar == c->cap_mbar) {
        c->cap_mbar = c->cap_mbar ? c->cap_mbar * 2 : 16;
        c->mbar = realloc(c->mbar, (size_t)c->cap_mbar * sizeof *c->mbar);
        if (!c->mbar)
            abort();
    }
    c->mbar[c->n_mbar] = (struct emu_mbar){.offset = offset};
    return &c->mbar[c->n_mbar++];
}

static void clear_init(struct emu_cta *c, uint32_t offset)
{
    c->smem_init[offset / 64] &= ~((uint64_t)0xFF << offset % 64);
}

static void check(struct emu_cta *c, struct emu_mbar *m)
{
    if (m->pending || m->tx)
        return;
    m->phase++;
    m->pending = m->expected;
    m->tx_done = 0;
    emu_race_complete(c->cluster, &m->arrivals, &m->done);
    m->arrived_before |= m->arrived_warps;
    m->arrived_warps = 0;
    emu_progress(c->cluster);
}

static uint64_t token_of(const struct emu_mbar *m)
{
    return (m->phase & 1) << 63 | (uint64_t)(-m->pending & COUNT_MAX) << 43;
}

static void note_arrival(const struct emu_who *who, struct emu_cta *c, struct emu_mbar *m)
{
    if (who->w->cta == c)
        m->arrived_warps |= (uint64_t)1 << (who->w->id & 63);
}

static bool take(const struct emu_who *who, struct emu_cta *c, struct emu_mbar *m, uint32_t n)
{
    if (n > m->pending)
        return emu_fault_who(who, "%u arrivals at the mbarrier at shared 0x%x, which expects %u more in phase %llu", n,
                             m->offset, m->pending, (unsigned long long)m->phase);
    m->pending -= n;
    note_arrival(who, c, m);
    emu_race_release(who->w, &m->arrivals);
    c->cluster->quiet_since = c->cluster->stats.warp_steps;
    check(c, m);
    return true;
}

bool emu_mbar_arrive(const struct emu_who *who, struct emu_cta *c, uint32_t offset, uint32_t n, uint64_t *token)
{
    struct emu_mbar *m = live(who, c, offset);
    if (!m)
        return false;
    if (token)
        *token = token_of(m);
    return take(who, c, m, n);
}

static bool add_tx(const struct emu_who *who, struct emu_mbar *m, int64_t bytes)
{
    m->tx += bytes;
    if (m->tx > COUNT_MAX || m->tx < -COUNT_MAX)
        return emu_fault_who(who, "the mbarrier at shared 0x%x would wait for %lld bytes; at most %d are possible",
                             m->offset, (long long)m->tx, COUNT_MAX);
    return true;
}

bool emu_mbar_expect_tx(const struct emu_who *who, struct emu_cta *c, uint32_t offset, int64_t bytes)
{
    struct emu_mbar *m = live(who, c, offset);
    return m && add_tx(who, m, bytes);
}

/* An asynchronous operation may signal a barrier only when the initialising thread has fenced its mbarrier.init. */
static bool init_fenced(const struct emu_who *who, const struct emu_cta *c, const struct emu_mbar *m)
{
    const struct emu_cluster *k = c->cluster;
    const struct emu_warp *w = &k->cta[m->maker / (uint32_t)c->nwarps].warp[m->maker % (uint32_t)c->nwarps];
    if (!who->async || !emu_checked(k) || w->init_fenced > m->made_step)
        return true;
    return emu_fault_who(
        who,
        "signals the mbarrier at shared 0x%x, whose initialisation (PTX line %u) no fence.mbarrier_init or "
        "fence.proxy.async follows",
        m->offset, m->init_at ? m->init_at->line : 0);
}

bool emu_mbar_complete_tx(const struct emu_who *who, struct emu_cta *c, uint32_t offset, int64_t bytes)
{
    struct emu_mbar *m = live(who, c, offset);
    if (!m || !init_fenced(who, c, m) || !add_tx(who, m, -bytes))
        return false;
    m->tx_done += (uint64_t)bytes;
    m->last_tx = who->in;
    if (!m->pending && m->tx < 0)
        return emu_fault_who(who, "the mbarrier at shared 0x%x got %lld bytes more than it expects in phase %llu",
                             m->offset, (long long)-m->tx, (unsigned long long)m->phase);
    check(c, m);
    return true;
}

/* ---- instructions ---- */

enum mbar_op { M_INIT, M_INVAL, M_EXPECT, M_COMPLETE, M_ARRIVE, M_ARRIVE_TX, M_DROP, M_DROP_TX, M_CP_ARRIVE };
struct mbar_insn {
    enum mbar_op op;
    enum emu_space space;
    struct emu_addr at;
    uint32_t n;      /* row: count, bytes, token or parity */
    bool has_n, no_complete, parity, no_inc, test;
    uint32_t d;      /* token's row, or the predicate */
};

static bool place(struct emu_warp *w, const struct emu_insn *in, const struct mbar_insn *x, uint32_t lane,
                  struct emu_cta **c, uint32_t *offset)
{
    const struct emu_who *who = EMU_WHO(w, in, lane);
    uint64_t a = emu_addr_of(w, &x->at, lane);
    enum emu_space space = x->space;
    if (space == EMU_GENERIC) {
        if (a - EMU_SHARED_WINDOW >= EMU_WINDOW_BYTES)
            return emu_fault_who(who, "0x%llx is no address in shared memory", (unsigned long long)a);
        a -= EMU_SHARED_WINDOW;
        space = EMU_SHARED_CLUSTER;
    }
    return emu_smem_at(who, space, (uint32_t)a, 8, c, offset);
}

static bool do_init(const struct emu_who *who, struct emu_cta *c, uint32_t offset, uint32_t n)
{
    struct emu_mbar *m = make(c, offset);
    if (m->live)
        return emu_fault_who(who, "the mbarrier at shared 0x%x is initialised while it lives (first at PTX line %u)",
                             offset, m->init_at ? m->init_at->line : 0);
    if (!n || n > COUNT_MAX)
        return emu_fault_who(who, "an mbarrier's count must be 1 to %d, got %u", COUNT_MAX, n);
    uint64_t zero = 0;
    if (!emu_smem_write(who, c, offset, &zero, 8))
        return false;
    clear_init(c, offset);
    free(m->arrivals);
    free(m->done);
    emu_race_forget(c, offset, 8);
    *m = (struct emu_mbar){.offset = offset, .expected = n, .pending = n, .live = true, .init_at = who->in};
    emu_race_stamp(who->w, &m->maker, &m->made);
    m->made_step = c->cluster->stats.warp_steps;
    return true;
}

static bool do_drop(const struct emu_who *who, struct emu_cta *c, struct emu_mbar *m, uint32_t n)
{
    if (n > m->expected)
        return emu_fault_who(who, "arrive_drop of %u from an mbarrier that expects %u", n, m->expected);
    m->expected -= n;
    return take(who, c, m, n);
}

static bool do_one(const struct emu_who *who, const struct mbar_insn *x, struct emu_cta *c, uint32_t offset, uint32_t n,
                   uint64_t *token)
{
    if (x->op == M_INIT)
        return do_init(who, c, offset, n);
    struct emu_mbar *m = live(who, c, offset);
    if (!m)
        return false;
    *token = token_of(m);
    switch (x->op) {
    case M_INVAL:
        m->live = false;
        return true;
    case M_EXPECT:
        return add_tx(who, m, n);
    case M_COMPLETE:
        return emu_mbar_complete_tx(who, c, offset, n);
    case M_ARRIVE_TX:
        return add_tx(who, m, n) && take(who, c, m, 1);
    case M_DROP_TX:
        return add_tx(who, m, n) && do_drop(who, c, m, 1);
    case M_DROP:
        return do_drop(who, c, m, x->has_n ? n : 1);
    default:
        if (x->no_complete && n >= m->pending && !m->tx)
            return emu_fault_who(who, "arrive.noComplete would complete the phase");
        return take(who, c, m, x->has_n ? n : 1);
    }
}

static enum emu_next run_mbar(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct mbar_insn *x = in->x;
    FOR_LANES(l, mask) {
        struct emu_cta *c;
        uint32_t offset;
        uint64_t token = 0;
        if (!place(w, in, x, l, &c, &offset) || !do_one(EMU_WHO(w, in, l), x, c, offset, emu_row(w, x->n)[l], &token))
            return EMU_FAULT;
        if (x->op >= M_ARRIVE)
            emu_row64(w, x->d)[l] = token;
    }
    return EMU_NEXT;
}

static enum emu_next run_wait(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct mbar_insn *x = in->x;
    struct emu_frag *f = &w->frag[w->cur];
    uint32_t done = 0;
    struct emu_wait wait = {.kind = EMU_WAIT_MBAR};
    FOR_LANES(l, mask) {
        uint32_t offset;
        if (!place(w, in, x, l, &wait.cta, &offset))
            return EMU_FAULT;
        struct emu_mbar *m = live(EMU_WHO(w, in, l), wait.cta, offset);
        if (!m)
            return EMU_FAULT;
        wait.at = offset;
        wait.parity = x->parity ? emu_row(w, x->n)[l] : (uint32_t)(emu_row64(w, x->n)[l] >> 63);
        if (wait.parity > 1)
            return emu_fault(w, in, (int)l, "phase parity %u is neither 0 nor 1", wait.parity);
        done |= (uint32_t)((m->phase & 1) != wait.parity) << l;
        if ((m->phase & 1) != wait.parity)
            emu_race_acquire(w, m->done);
    }
    if (!done && !f->expired) {
        f->wait = wait;
        return EMU_BLOCK;
    }
    emu_set_pred(w, x->d, mask, done);
    return EMU_NEXT;
}

static enum emu_next run_pending(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    FOR_LANES(l, mask)
        emu_row(w, in->d)[l] = (uint32_t)(-(emu_row64(w, in->a)[l] >> 43) & COUNT_MAX);
    return EMU_NEXT;
}

/* ---- decoding ---- */

static bool mod_space(struct emu_decode *d, struct mbar_insn *x)
{
    x->space = EMU_GENERIC;
    if (emu_mod(d, "shared") || emu_mod(d, "shared::cta"))
        x->space = EMU_SHARED_CTA;
    else if (emu_mod(d, "shared::cluster"))
        x->space = EMU_SHARED_CLUSTER;
    return emu_mod(d, "b64") || emu_bad(d, ".b64 is wanted");
}

static struct mbar_insn *new_insn(struct emu_decode *d, struct emu_insn *in, enum mbar_op op)
{
    struct mbar_insn *x = new(d->arena, struct mbar_insn);
    x->op = op;
    x->n = EMU_ROW_ZERO;
    in->x = x;
    in->run = run_mbar;
    return x;
}

bool emu_decode_mbar_init(struct emu_decode *d, struct emu_insn *in)
{
    struct mbar_insn *x = new_insn(d, in, M_INIT);
    return mod_space(d, x) && emu_mem(d, 0, &x->at) && emu_src(d, 1, EMU_T_U32, &x->n);
}

bool emu_decode_mbar_inval(struct emu_decode *d, struct emu_insn *in)
{
    struct mbar_insn *x = new_insn(d, in, M_INVAL);
    return mod_space(d, x) && emu_mem(d, 0, &x->at);
}

static bool decode_tx(struct emu_decode *d, struct emu_insn *in, enum mbar_op op)
{
    struct mbar_insn *x = new_insn(d, in, op);
    emu_mod_sem_scope(d);
    return mod_space(d, x) && emu_mem(d, 0, &x->at) && emu_src(d, 1, EMU_T_U32, &x->n);
}
bool emu_decode_mbar_expect(struct emu_decode *d, struct emu_insn *in) { return decode_tx(d, in, M_EXPECT); }
bool emu_decode_mbar_complete(struct emu_decode *d, struct emu_insn *in) { return decode_tx(d, in, M_COMPLETE); }

static bool decode_arrive(struct emu_decode *d, struct emu_insn *in, bool drop)
{
    struct mbar_insn *x = new_insn(d, in, drop ? M_DROP : M_ARRIVE);
    bool tx = emu_mod(d, "expect_tx");
    if (tx)
        x->op = drop ? M_DROP_TX : M_ARRIVE_TX;
    else
        x->no_complete = emu_mod(d, "noComplete");
    emu_mod_sem_scope(d);
    if (!mod_space(d, x))
        return false;
    x->has_n = d->nop > 2;
    if (tx && !x->has_n)
        return emu_bad(d, "the byte count is missing");
    if ((tx || (x->has_n && !x->no_complete)) && !emu_need(d, EMU_NEED_90, "this form of mbarrier.arrive"))
        return false;
    if (x->space == EMU_SHARED_CLUSTER && d->nop && d->op[0].kind != EMU_RAW_SINK)
        return emu_bad(d, "an arrival at another block's barrier yields no state; write '_'");
    return emu_dst(d, 0, 64, &x->d) && emu_mem(d, 1, &x->at) && (!x->has_n || emu_src(d, 2, EMU_T_U32, &x->n));
}
bool emu_decode_mbar_arrive(struct emu_decode *d, struct emu_insn *in) { return decode_arrive(d, in, false); }
bool emu_decode_mbar_drop(struct emu_decode *d, struct emu_insn *in) { return decode_arrive(d, in, true); }

static bool decode_wait(struct emu_decode *d, struct emu_insn *in)
{
    struct mbar_insn *x = new_insn(d, in, M_ARRIVE);
    uint32_t hint;
    x->parity = emu_mod(d, "parity");
    emu_mod_sem_scope(d);
    in->run = run_wait;
    if (!mod_space(d, x) || !emu_dst_pred(d, 0, &x->d) || !emu_mem(d, 1, &x->at) ||
        !emu_src(d, 2, x->parity ? EMU_T_U32 : EMU_T_B64, &x->n))
        return false;
    if (x->space == EMU_SHARED_CLUSTER)
        return emu_bad(d, "nobody can wait on another block's barrier");
    return d->nop < 4 || emu_src(d, 3, EMU_T_U32, &hint);
}
bool emu_decode_mbar_test(struct emu_decode *d, struct emu_insn *in) { return decode_wait(d, in); }
bool emu_decode_mbar_try(struct emu_decode *d, struct emu_insn *in)
{
    return emu_need(d, EMU_NEED_90, "mbarrier.try_wait") && decode_wait(d, in);
}

bool emu_decode_mbar_pending(struct emu_decode *d, struct emu_insn *in)
{
    in->run = run_pending;
    if (!emu_mod(d, "b64"))
        return emu_bad(d, ".b64 is wanted");
    return emu_dst(d, 0, 32, &in->d) && emu_src(d, 1, EMU_T_B64, &in->a);
}

/* ---- cp.async.mbarrier.arrive ---- */

struct cp_arrive {
    uint32_t offset[32];
    struct emu_cta *cta[32];
};

static bool cp_arrive_write(struct emu_async *op)
{
    struct cp_arrive *a = (struct cp_arrive *)op->payload;
    FOR_LANES(l, op->lanes) {
        struct emu_who who = op->who;
        who.lane = (int)l;
        if (!emu_mbar_arrive(&who, a->cta[l], a->offset[l], 1, NULL))
            return false;
    }
    return true;
}

static enum emu_next run_cp_arrive(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct mbar_insn *x = in->x;
    struct cp_arrive a;
    uint32_t last = 0;
    FOR_LANES(l, mask) {
        if (!place(w, in, x, l, &a.cta[l], &a.offset[l]))
            return EMU_FAULT;
        struct emu_mbar *m = live(EMU_WHO(w, in, l), a.cta[l], a.offset[l]);
        if (!m)
            return EMU_FAULT;
        if (!x->no_inc && m->pending++ >= COUNT_MAX)
            return emu_fault(w, in, (int)l, "the mbarrier's pending count overflows");
        last = l;
    }
    struct emu_async *op = emu_async_new(EMU_WHO(w, in, -1), EMU_ASYNC_CP, sizeof a);
    memcpy(op->payload, &a, sizeof a);
    op->write = cp_arrive_write;
    op->order = emu_cp_order(w);
    op->lanes = mask;
    op->group = UINT32_MAX; /* waits for groups do not concern it */
    op->mbar_cta = a.cta[last];
    op->mbar = a.offset[last];
    return emu_async_issue(op) ? EMU_NEXT : EMU_FAULT;
}

bool emu_decode_cp_async_mbarrier(struct emu_decode *d, struct emu_insn *in)
{
    struct mbar_insn *x = new_insn(d, in, M_CP_ARRIVE);
    x->no_inc = emu_mod(d, "noinc");
    in->run = run_cp_arrive;
    return mod_space(d, x) && emu_mem(d, 0, &x->at);
}
