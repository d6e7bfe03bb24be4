/* sched - runs warps: fragments within a warp, warps within a cluster.
 *
 * Threads of a warp that are at the same instruction form a fragment. The fragment with the lowest program counter
 * runs, equal ones merge; one that must wait is parked and another runs, so that every thread makes progress in the end
 * (PTX ISA, "Independent Thread Scheduling"). A parked fragment is asked again when the cluster's epoch has changed. */
#include "runtime/emu/sched.h"

enum { QUANTUM = 256, GIVE_UPS = 64, ASYNC_AGE = 200000 };

/* ---- fragments ---- */

static void remove_frag(struct emu_warp *w, int i)
{
    w->frag[i] = w->frag[--w->nfrag];
    if (w->cur == w->nfrag)
        w->cur = i;
}

static struct emu_frag *add_frag(struct emu_warp *w, uint32_t mask, uint32_t pc)
{
    struct emu_frag *f = &w->frag[w->nfrag++];
    *f = (struct emu_frag){.mask = mask, .pc = pc};
    return f;
}

/* Joins others that stand at the current fragment's instruction and have not begun it. */
static void merge(struct emu_warp *w)
{
    for (int i = 0; i < w->nfrag; i++) {
        struct emu_frag *f = &w->frag[w->cur];
        if (i == w->cur || w->frag[i].pc != f->pc || w->frag[i].armed || f->armed)
            continue;
        f->mask |= w->frag[i].mask;
        remove_frag(w, i);
        i = -1;
    }
}

static bool runnable(const struct emu_warp *w, const struct emu_frag *f)
{
    return !f->parked || f->expired || f->parked_epoch != w->cta->cluster->epoch;
}

/* The runnable fragment with the lowest pc, or when the last one used up its time the next above it. -1: none. */
static int pick(struct emu_warp *w)
{
    int best = -1, wrap = -1;
    uint32_t last = w->rotate && w->cur < w->nfrag ? w->frag[w->cur].pc : 0;
    for (int i = 0; i < w->nfrag; i++) {
        if (!runnable(w, &w->frag[i]))
            continue;
        if (wrap < 0 || w->frag[i].pc < w->frag[wrap].pc)
            wrap = i;
        if (w->rotate && w->frag[i].pc > last && (best < 0 || w->frag[i].pc < w->frag[best].pc))
            best = i;
    }
    return best >= 0 ? best : wrap;
}

static void park(struct emu_warp *w, uint32_t mask)
{
    struct emu_frag *f = &w->frag[w->cur];
    uint32_t rest = f->mask & ~mask;
    f->mask = mask;
    f->parked = true;
    f->expired = false;
    f->parked_epoch = w->cta->cluster->epoch;
    if (rest)
        add_frag(w, rest, f->pc + 1);
}

bool emu_gathered(struct emu_warp *w, const struct emu_insn *in, uint32_t members, uint32_t mask)
{
    (void)in;
    if (!(members & w->live & ~mask))
        return true;
    w->frag[w->cur].wait = (struct emu_wait){.kind = EMU_WAIT_LANES, .text = "a warp-wide instruction"};
    return false;
}

void emu_exit_lanes(struct emu_warp *w, uint32_t mask)
{
    struct emu_cta *c = w->cta;
    uint32_t n = (uint32_t)__builtin_popcount(mask);
    w->live &= ~mask;
    c->live_threads -= n;
    c->cluster->live_threads -= n;
    emu_barrier_exit(w, mask);
    emu_progress(c->cluster);
}

/* ---- control instructions ---- */

enum emu_next emu_run_bra(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    struct emu_frag *f = &w->frag[w->cur];
    uint32_t rest = f->mask & ~mask;
    if (rest) {
        f->mask = mask;
        add_frag(w, rest, f->pc + 1);
    }
    w->frag[w->cur].pc = in->target;
    return EMU_JUMP;
}

enum emu_next emu_run_exit(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    (void)in;
    struct emu_frag *f = &w->frag[w->cur];
    f->mask &= ~mask;
    f->pc++;
    if (!f->mask)
        remove_frag(w, w->cur);
    emu_exit_lanes(w, mask);
    return EMU_JUMP;
}

enum emu_next emu_run_brx(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const uint32_t *target = in->x;
    struct emu_frag f = w->frag[w->cur];
    uint32_t index[32];
    memcpy(index, emu_row(w, in->a), sizeof index);
    FOR_LANES(l, mask)
        if (index[l] >= in->b)
            return emu_fault(w, in, (int)l, "branch index %u, the table has %u targets", index[l], in->b);
    remove_frag(w, w->cur);
    if (f.mask & ~mask)
        add_frag(w, f.mask & ~mask, f.pc + 1);
    while (mask) {
        uint32_t pc = target[index[__builtin_ctz(mask)]], same = 0;
        FOR_LANES(l, mask)
            same |= (uint32_t)(target[index[l]] == pc) << l;
        add_frag(w, same, pc);
        mask &= ~same;
    }
    w->cur = 0;
    return EMU_JUMP;
}

/* bar.warp.sync: the members may stand at different ones; the last to come releases them all. */
enum emu_next emu_run_warpsync(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct emu_insn *code = w->cta->cluster->grid->entry->code;
    struct emu_frag *f = &w->frag[w->cur];
    if (f->armed && !f->ticket)
        return EMU_NEXT;
    uint32_t members = emu_row(w, in->a)[__builtin_ctz(mask)], come = mask;
    f->armed = true;
    f->ticket = (uint64_t)1 << 32 | members;
    for (int i = 0; i < w->nfrag; i++)
        if (i != w->cur && w->frag[i].armed && w->frag[i].ticket == f->ticket &&
            code[w->frag[i].pc].run == emu_run_warpsync)
            come |= w->frag[i].mask;
    if (!(members & mask))
        return emu_fault(w, in, __builtin_ctz(mask), "the lane is not in its own member mask 0x%08x", members);
    if (members & w->live & ~come) {
        f->wait = (struct emu_wait){.kind = EMU_WAIT_LANES, .text = "bar.warp.sync"};
        return EMU_BLOCK;
    }
    uint64_t ticket = f->ticket;
    uint32_t pc = f->pc;
    for (int i = 0; i < w->nfrag; i++) {
        struct emu_frag *o = &w->frag[i];
        if (i == w->cur || !o->armed || o->ticket != ticket || code[o->pc].run != emu_run_warpsync)
            continue;
        if (o->pc != pc) {
            o->ticket = 0;
            continue;
        }
        w->frag[w->cur].mask |= o->mask;
        remove_frag(w, i);
        i = -1;
    }
    emu_progress(w->cta->cluster);
    return EMU_NEXT;
}

/* ---- a warp's turn ---- */

static void blocked_by_lanes(struct emu_warp *w, const struct emu_insn *in)
{
    (void)in;
    w->frag[w->cur].wait = (struct emu_wait){.kind = EMU_WAIT_LANES, .text = "an .aligned instruction"};
}

/* One instruction of the current fragment. */
static enum emu_next step(struct emu_warp *w, const struct emu_insn *code)
{
    struct emu_frag *f = &w->frag[w->cur];
    const struct emu_insn *in = &code[f->pc];
    uint32_t mask = f->mask & emu_pred(w, in->guard, in->guard_neg);
    if (!mask) {
        f->pc++;
        return EMU_NEXT;
    }
    if (in->aligned && !f->armed) {
        if (f->mask != w->live) {
            blocked_by_lanes(w, in);
            park(w, f->mask);
            return EMU_BLOCK;
        }
        if (mask != f->mask)
            return emu_fault(w, in, -1,
                             "an .aligned instruction under a predicate that differs among the warp's lanes");
    }
    enum emu_next r = in->run(w, in, mask);
    if (r == EMU_NEXT) {
        f->pc++;
        f->parked = f->armed = f->expired = false;
        f->wait.kind = EMU_WAIT_NONE;
    } else if (r == EMU_BLOCK) {
        park(w, mask);
    }
    return r;
}

/* Runs up to `budget` instructions. False when nothing could run. */
static bool run_warp(struct emu_warp *w, int budget)
{
    struct emu_cluster *k = w->cta->cluster;
    const struct emu_insn *code = k->grid->entry->code;
    bool ran = false;
    int first = pick(w);
    if (first < 0)
        return false;
    bool hold = w->rotate && w->nfrag > 1;
    w->cur = first;
    w->rotate = false;
    for (; budget > 0; budget--) {
        if (w->nfrag > 1)
            merge(w);
        enum emu_next r = step(w, code);
        k->stats.warp_steps++;
        if (r == EMU_NEXT || (r == EMU_JUMP && w->nfrag == 1 && w->cur == 0)) {
            ran = true;
            continue;
        }
        if (r == EMU_FAULT || !w->nfrag)
            return true;
        ran |= r == EMU_JUMP;
        if (r == EMU_BLOCK || !hold || w->cur >= w->nfrag) {
            hold = false;
            int i = pick(w);
            if (i < 0)
                return ran;
            w->cur = i;
        }
    }
    w->rotate = true;
    return true;
}

/* ---- a cluster's turn ---- */

/* Fragments that wait with a way out (try_wait, test_wait) get it. False when none has or all gave up often enough. */
static bool expire(struct emu_cluster *k)
{
    bool any = false;
    for (uint32_t c = 0; c < k->size; c++)
        for (int i = 0; i < k->cta[c].nwarps; i++)
            for (int j = 0; j < k->cta[c].warp[i].nfrag; j++) {
                struct emu_frag *f = &k->cta[c].warp[i].frag[j];
                if (f->falses_epoch != k->epoch)
                    f->falses = 0;
                f->falses_epoch = k->epoch;
                if (!f->parked || f->wait.kind != EMU_WAIT_MBAR || ++f->falses > GIVE_UPS)
                    continue;
                f->expired = any = true;
            }
    return any;
}

static bool step_async(struct emu_cluster *k)
{
    if (k->head && k->stats.warp_steps - k->head->issued_at > ASYNC_AGE)
        return emu_async_step(k, false);
    if (k->head && k->grid->emu->config.timing == EMU_SEEDED && !emu_random(k, 4))
        return emu_async_step(k, true);
    return true;
}

/* One round over the warps. */
static bool round_of(struct emu_cluster *k)
{
    bool seeded = k->grid->emu->config.timing == EMU_SEEDED, ran = false;
    for (uint32_t c = 0; c < k->size; c++) {
        struct emu_cta *cta = &k->cta[c];
        int start = seeded ? (int)emu_random(k, (uint32_t)cta->nwarps) : 0;
        for (int i = 0; i < cta->nwarps && !k->failed; i++) {
            struct emu_warp *w = &cta->warp[(start + i) % cta->nwarps];
            if (!w->nfrag || (seeded && !emu_random(k, 4)))
                continue;
            ran |= run_warp(w, seeded ? 1 + (int)emu_random(k, 96) : QUANTUM);
        }
        if (!cta->live_threads && !cta->ended)
            emu_cta_end(cta);
        if (!step_async(k) || k->failed)
            return true;
    }
    return ran;
}

static bool any_runnable(const struct emu_cluster *k)
{
    for (uint32_t c = 0; c < k->size; c++)
        for (int i = 0; i < k->cta[c].nwarps; i++)
            for (int j = 0; j < k->cta[c].warp[i].nfrag; j++)
                if (runnable(&k->cta[c].warp[i], &k->cta[c].warp[i].frag[j]))
                    return true;
    return false;
}

enum emu_cluster_state emu_cluster_run(struct emu_cluster *k, uint64_t steps)
{
    uint64_t end = k->stats.warp_steps + steps;
    bool seeded = k->grid->emu->config.timing == EMU_SEEDED;
    while (k->live_threads && !k->failed && !k->grid->failed) {
        if (k->stats.warp_steps >= k->grid->emu->config.step_limit) {
            emu_report_stuck(k, "step limit reached");
            break;
        }
        if (k->stats.warp_steps >= end)
            return EMU_RUNNING;
        bool ran = round_of(k);
        if (k->failed || !k->live_threads)
            break;
        if ((ran && !seeded) || any_runnable(k))
            continue;
        if (k->head) {
            if (!emu_async_step(k, false))
                k->failed = true;
        } else if (!expire(k)) {
            return EMU_STUCK;
        }
    }
    if (k->failed || k->grid->failed)
        return EMU_FAILED;
    return EMU_DONE;
}
