/* clc - clusterlaunchcontrol: a running cluster takes over the next one that has not started.
 *
 * PTX ISA, "clusterlaunchcontrol.try_cancel", "clusterlaunchcontrol.query_cancel". The answer of 16 bytes is opaque;
 * here it is the first block's coordinates and 1, or zeros. */
#include "runtime/emu/core.h"

struct cancel_insn {
    struct emu_addr to, mbar;
    bool all; /* every block of the cluster gets the answer */
};
struct cancel_op {
    uint32_t answer[4], to, mbar, ctas;
};

/* The next cluster of the grid, if there is one. */
static bool take(struct emu_cluster *k, uint32_t answer[4])
{
    struct emu_grid *g = k->grid;
    uint32_t id = __atomic_fetch_add(&g->next_cluster, 1, __ATOMIC_RELAXED);
    if (id >= g->n_clusters) {
        __atomic_fetch_sub(&g->next_cluster, 1, __ATOMIC_RELAXED);
        return false;
    }
    answer[0] = id % g->nclusters[0] * g->cluster[0];
    answer[1] = id / g->nclusters[0] % g->nclusters[1] * g->cluster[1];
    answer[2] = id / g->nclusters[0] / g->nclusters[1] * g->cluster[2];
    answer[3] = 1;
    return true;
}

static bool cancel_write(struct emu_async *op)
{
    struct cancel_op *c = (struct cancel_op *)op->payload;
    for (uint32_t i = 0; i < op->cluster->size; i++)
        if ((c->ctas >> i & 1) && (!emu_smem_write(&op->who, &op->cluster->cta[i], c->to, c->answer, 16) ||
                                   !emu_mbar_complete_tx(&op->who, &op->cluster->cta[i], c->mbar, 16)))
            return false;
    return true;
}

static bool cancel_lane(struct emu_warp *w, const struct emu_insn *in, uint32_t l)
{
    const struct cancel_insn *x = in->x;
    const struct emu_who *who = EMU_WHO(w, in, l);
    struct cancel_op c = {.ctas = x->all ? (1u << w->cta->cluster->size) - 1 : 1u << w->cta->rank};
    struct emu_cta *cta;
    if (!emu_smem_at(who, EMU_SHARED_CTA, emu_shared_address(w, &x->to, l), 16, &cta, &c.to) ||
        !emu_smem_at(who, EMU_SHARED_CTA, emu_shared_address(w, &x->mbar, l), 8, &cta, &c.mbar))
        return false;
    take(w->cta->cluster, c.answer);
    struct emu_async *op = emu_async_new(who, EMU_ASYNC_BULK_LOAD, sizeof c);
    memcpy(op->payload, &c, sizeof c);
    op->write = cancel_write;
    op->lanes = 1u << l;
    op->ctas = c.ctas;
    op->mbar_cta = w->cta;
    op->mbar = c.mbar;
    return emu_async_issue(op);
}

static enum emu_next run_cancel(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    FOR_LANES(l, mask)
        if (!cancel_lane(w, in, l))
            return EMU_FAULT;
    return EMU_NEXT;
}

bool emu_decode_try_cancel(struct emu_decode *d, struct emu_insn *in)
{
    struct cancel_insn *x = new(d->arena, struct cancel_insn);
    if (!emu_mod(d, "async"))
        return emu_bad(d, ".async is wanted");
    emu_mod(d, "shared::cta");
    if (!emu_mod(d, "mbarrier::complete_tx::bytes"))
        return emu_bad(d, ".mbarrier::complete_tx::bytes is wanted");
    x->all = emu_mod(d, "multicast::cluster::all");
    if (x->all && !emu_need(d, EMU_NEED_BLACK, ".multicast::cluster::all"))
        return false;
    in->x = x;
    in->run = run_cancel;
    return (emu_mod(d, "b128") || emu_bad(d, ".b128 is wanted")) && emu_mem(d, 0, &x->to) && emu_mem(d, 1, &x->mbar);
}

/* ---- reading the answer ---- */

static uint32_t word(struct emu_warp *w, uint32_t row, int i, uint32_t l)
{
    return (uint32_t)(emu_row64(w, row + (i > 1 ? 2 : 0))[l] >> (i & 1 ? 32 : 0));
}

static enum emu_next run_is_canceled(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    uint32_t r = 0;
    FOR_LANES(l, mask)
        r |= (uint32_t)(word(w, in->a, 3, l) == 1) << l;
    emu_set_pred(w, in->d, mask, r);
    return EMU_NEXT;
}

/* get_first_ctaid: u8[0] components from u8[1] on into the rows at x */
static enum emu_next run_first(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const uint32_t *rows = in->x;
    FOR_LANES(l, mask) {
        if (word(w, in->a, 3, l) != 1)
            return emu_fault(w, in, (int)l, "asks for the block of a cancellation that failed");
        for (int i = 0; i < in->u8[0]; i++)
            emu_row(w, rows[i])[l] = i == 3 ? 0 : word(w, in->a, in->u8[1] + i, l);
    }
    return EMU_NEXT;
}

bool emu_decode_query_cancel(struct emu_decode *d, struct emu_insn *in)
{
    static const char *const parts[] = {"get_first_ctaid::x", "get_first_ctaid::y", "get_first_ctaid::z", NULL};
    const uint32_t *rows;
    if (emu_mod(d, "is_canceled")) {
        in->run = run_is_canceled;
        if (!emu_mod(d, "pred") || !emu_mod(d, "b128"))
            return emu_bad(d, ".pred.b128 is wanted");
        return emu_dst_pred(d, 0, &in->d) && emu_src(d, 1, EMU_T_B128, &in->a);
    }
    int part = emu_mod_one_of(d, parts);
    bool all = part < 0 && emu_mod(d, "get_first_ctaid") && emu_mod(d, "v4");
    if ((part < 0 && !all) || !emu_mod(d, "b32") || !emu_mod(d, "b128"))
        return emu_bad(d, "no such form of query_cancel");
    in->run = run_first;
    in->u8[0] = all ? 4 : 1;
    in->u8[1] = all ? 0 : (uint8_t)part;
    if (!emu_dst_vec(d, 0, in->u8[0], 32, &rows, NULL) || !emu_src(d, 1, EMU_T_B128, &in->a))
        return false;
    in->x = rows;
    return true;
}
