/* barrier - named barriers of a block, the cluster's barrier, the gathering of a warpgroup.
 *
 * Named barriers count whole warps as 32 threads; a warp counts once all its live lanes have come. */
#include "runtime/emu/core.h"

/* ---- completion ---- */

static uint32_t live_warps(const struct emu_cta *c)
{
    uint32_t n = 0;
    for (int i = 0; i < c->nwarps; i++)
        n += c->warp[i].live != 0;
    return n;
}

static void check_complete(struct emu_cta *c, struct emu_named_barrier *b)
{
    uint32_t want = b->expected ? b->expected : live_warps(c) * 32;
    if (!b->arrived || b->arrived < want)
        return;
    b->result_popc = b->popc;
    b->result_votes = b->votes;
    b->arrived = b->expected = b->popc = b->votes = 0;
    memset(b->lanes, 0, sizeof b->lanes);
    b->generation++;
    emu_race_complete(c->cluster, &b->arrivals, &b->done);
    emu_progress(c->cluster);
}

static void check_warp(struct emu_warp *w, struct emu_named_barrier *b)
{
    if (!b->lanes[w->id] || (w->live & ~b->lanes[w->id]))
        return;
    b->lanes[w->id] = 0;
    b->arrived += 32;
    check_complete(w->cta, b);
}

static void cluster_arrive(struct emu_cluster *k, uint32_t threads)
{
    k->barrier_missing -= threads;
    if (k->barrier_missing)
        return;
    k->barrier_phase++;
    emu_race_complete(k, &k->arrivals, &k->done);
    k->barrier_missing = k->live_threads;
    emu_progress(k);
}

void emu_barrier_exit(struct emu_warp *w, uint32_t lanes)
{
    struct emu_cta *c = w->cta;
    for (int i = 0; i < 16; i++) {
        check_warp(w, &c->bar[i]);
        if (!c->bar[i].expected)
            check_complete(c, &c->bar[i]);
    }
    uint32_t missing = (uint32_t)__builtin_popcount(lanes & ~w->cluster_arrived);
    if (missing)
        cluster_arrive(c->cluster, missing);
}

/* ---- bar, barrier ---- */

enum bar_kind { BAR_SYNC, BAR_ARRIVE, BAR_POPC, BAR_AND, BAR_OR };
struct bar_insn {
    enum bar_kind kind;
    uint32_t id, count; /* rows */
    bool has_count;
    uint32_t d, p;
    bool neg;
};

static void bar_result(struct emu_warp *w, const struct bar_insn *x, const struct emu_named_barrier *b, uint32_t mask)
{
    if (x->kind == BAR_POPC)
        FOR_LANES(l, mask)
            emu_row(w, x->d)[l] = b->result_popc;
    else if (x->kind == BAR_AND)
        emu_set_pred(w, x->d, mask, b->result_popc == b->result_votes ? ~0u : 0);
    else if (x->kind == BAR_OR)
        emu_set_pred(w, x->d, mask, b->result_popc ? ~0u : 0);
}

static enum emu_next bar_arrive(struct emu_warp *w, const struct emu_insn *in, const struct bar_insn *x,
                                struct emu_named_barrier *b, uint32_t mask)
{
    uint32_t lane = (uint32_t)__builtin_ctz(mask);
    uint32_t count = x->has_count ? emu_row(w, x->count)[lane] : 0;
    if (count % 32 || (x->has_count && !count))
        return emu_fault(w, in, (int)lane, "barrier count %u is no positive multiple of 32", count);
    if (count > (uint32_t)w->cta->nwarps * 32)
        return emu_fault(w, in, (int)lane, "barrier count %u, but the block has %u threads", count, w->cta->nthreads);
    if (b->arrived && b->expected != count)
        return emu_fault(w, in, (int)lane, "barrier %u is used with counts %u and %u at once",
                         (uint32_t)(b - w->cta->bar), b->expected, count);
    b->expected = count;
    b->popc += (uint32_t)__builtin_popcount(emu_pred(w, x->p, x->neg) & mask);
    b->votes += (uint32_t)__builtin_popcount(mask);
    b->lanes[w->id] |= mask;
    w->frag[w->cur].ticket = b->generation;
    emu_race_release(w, &b->arrivals);
    check_warp(w, b);
    return EMU_NEXT;
}

static enum emu_next run_bar(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct bar_insn *x = in->x;
    struct emu_frag *f = &w->frag[w->cur];
    uint32_t id = emu_row(w, x->id)[__builtin_ctz(mask)];
    if (id >= 16)
        return emu_fault(w, in, -1, "barrier %u; there are 0 to 15", id);
    struct emu_named_barrier *b = &w->cta->bar[id];
    if (!f->armed && bar_arrive(w, in, x, b, mask) == EMU_FAULT)
        return EMU_FAULT;
    if (x->kind == BAR_ARRIVE)
        return EMU_NEXT;
    f->armed = true;
    if (b->generation == f->ticket) {
        f->wait = (struct emu_wait){.kind = EMU_WAIT_BAR, .at = id};
        return EMU_BLOCK;
    }
    emu_race_acquire(w, b->done);
    bar_result(w, x, b, mask);
    return EMU_NEXT;
}

/* What can be said of constants before anything runs. */
static bool check_constants(struct emu_decode *d, int id, int count)
{
    if (emu_is_imm(d, id) && d->op[id].bits >= 16)
        return emu_bad(d, "barrier %llu; there are 0 to 15", (unsigned long long)d->op[id].bits);
    if (count && emu_is_imm(d, count) && (!d->op[count].bits || d->op[count].bits % 32))
        return emu_bad(d, "barrier count %llu is no positive multiple of 32", (unsigned long long)d->op[count].bits);
    return true;
}

static bool decode_bar(struct emu_decode *d, struct emu_insn *in, bool aligned)
{
    static const char *const kinds[] = {"sync", "arrive", "red", NULL};
    static const char *const reds[] = {"popc", "and", "or", NULL};
    struct bar_insn *x = new(d->arena, struct bar_insn);
    emu_mod(d, "cta");
    int kind = emu_mod_one_of(d, kinds), at = 0;
    if (kind < 0)
        return emu_bad(d, ".sync, .arrive or .red is wanted");
    x->kind = (enum bar_kind)kind;
    x->p = EMU_P_FALSE;
    bool more = d->nop > 1;
    if (kind == 2) {
        int red = emu_mod_one_of(d, reds);
        if (red < 0)
            return emu_bad(d, ".popc, .and or .or is wanted");
        x->kind = (enum bar_kind)(BAR_POPC + red);
        more = d->nop > 3;
        emu_mod(d, "aligned");
        if (!(red ? emu_mod(d, "pred") && emu_dst_pred(d, 0, &x->d) : emu_mod(d, "u32") && emu_dst(d, 0, 32, &x->d)) ||
            !emu_src_pred(d, d->nop - 1, &x->p, &x->neg))
            return false;
        at = 1;
    } else if (emu_mod(d, "aligned")) {
        aligned = true;
    }
    if (!emu_src(d, at, EMU_T_U32, &x->id))
        return false;
    x->has_count = more;
    if (kind == 1 && !more)
        return emu_bad(d, ".arrive needs a count");
    if (more && !emu_src(d, at + 1, EMU_T_U32, &x->count))
        return false;
    in->aligned = aligned;
    in->x = x;
    in->run = run_bar;
    return check_constants(d, at, more ? at + 1 : 0);
}

bool emu_decode_bar(struct emu_decode *d, struct emu_insn *in) { return decode_bar(d, in, true); }
bool emu_decode_barrier(struct emu_decode *d, struct emu_insn *in) { return decode_bar(d, in, false); }

/* ---- barrier.cluster ---- */

static enum emu_next run_cluster_arrive(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    if (w->cluster_arrived & mask)
        return emu_fault(w, in, __builtin_ctz(w->cluster_arrived & mask),
                         "arrives at the cluster barrier twice without a wait between");
    w->cluster_arrived |= mask;
    FOR_LANES(l, mask)
        w->cluster_ticket[l] = w->cta->cluster->barrier_phase;
    emu_race_release(w, &w->cta->cluster->arrivals);
    cluster_arrive(w->cta->cluster, (uint32_t)__builtin_popcount(mask));
    return EMU_NEXT;
}

static enum emu_next run_cluster_wait(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    if (mask & ~w->cluster_arrived)
        return emu_fault(w, in, __builtin_ctz(mask & ~w->cluster_arrived),
                         "waits at the cluster barrier without an arrive before");
    FOR_LANES(l, mask)
        if (w->cluster_ticket[l] == w->cta->cluster->barrier_phase) {
            w->frag[w->cur].wait = (struct emu_wait){.kind = EMU_WAIT_CLUSTER};
            return EMU_BLOCK;
        }
    w->cluster_arrived &= ~mask;
    emu_race_acquire(w, w->cta->cluster->done);
    return EMU_NEXT;
}

bool emu_decode_cluster_arrive(struct emu_decode *d, struct emu_insn *in)
{
    static const char *const sems[] = {"release", "relaxed", NULL};
    emu_mod_one_of(d, sems);
    in->aligned = emu_mod(d, "aligned");
    in->run = run_cluster_arrive;
    return true;
}

bool emu_decode_cluster_wait(struct emu_decode *d, struct emu_insn *in)
{
    emu_mod(d, "acquire");
    in->aligned = emu_mod(d, "aligned");
    in->run = run_cluster_wait;
    return true;
}

/* ---- warpgroups ---- */

enum emu_next emu_warpgroup_sync(struct emu_warp *w, const struct emu_insn *in, uint32_t mask, bool *last)
{
    struct emu_frag *f = &w->frag[w->cur];
    int g = w->id / 4;
    *last = false;
    if (f->armed && w->cta->wgsync[g].generation != f->ticket)
        return EMU_NEXT;
    if (f->armed)
        return emu_block(w, "waits for the other warps of its warpgroup");
    if (mask != w->lanes)
        return emu_fault(w, in, -1, "a warpgroup's instruction needs all 32 lanes; here are 0x%08x", mask);
    if (w->cta->wgsync[g].count && w->cta->wgsync[g].in != in)
        return emu_fault(w, in, -1, "the warps of a warpgroup are at different instructions: another is at PTX line %u",
                         w->cta->wgsync[g].in->line);
    w->cta->wgsync[g].in = in;
    if (++w->cta->wgsync[g].count == 4) {
        w->cta->wgsync[g].count = 0;
        w->cta->wgsync[g].generation++;
        emu_progress(w->cta->cluster);
        *last = true;
        return EMU_NEXT;
    }
    f->armed = true;
    f->ticket = w->cta->wgsync[g].generation;
    return emu_block(w, "waits for the other warps of its warpgroup");
}
