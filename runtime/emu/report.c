/* report - what went wrong, where: faults and deadlocks in words. */
#include "runtime/emu/core.h"

#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void put_instruction(struct buf *b, const struct emu_module *m, const struct emu_insn *in)
{
    if (!in || !in->line)
        return;
    const char *s = m->text + m->line_start.at[in->line - 1];
    while (*s == ' ' || *s == '\t')
        s++;
    int n = (int)strcspn(s, "\r\n");
    buf_printf(b, "ptx line %u: %.*s", in->line, n > 160 ? 160 : n, s);
    if (in->src_line) {
        const char *file = (int)in->src_file < m->files.n ? m->files.at[in->src_file] : NULL;
        buf_printf(b, "\n    source: %s:%u", file ? file : "?", in->src_line);
    }
}

/* False when another thread's error came first. */
static bool first_error(struct emu_grid *g)
{
    if (g->failed)
        return false;
    g->failed = true;
    g->emu->error.n = 0;
    return true;
}

static void put_place(struct buf *b, const struct emu_warp *w, int lane)
{
    const struct emu_cta *c = w->cta;
    buf_printf(b, "cta (%u,%u,%u) warp %d", c->ctaid[0], c->ctaid[1], c->ctaid[2], w->id);
    if (lane >= 0)
        buf_printf(b, " lane %d", lane);
}

static void vfault(struct emu_warp *w, const struct emu_insn *in, int lane, const char *fmt, va_list ap)
{
    struct emu_grid *g = w->cta->cluster->grid;
    pthread_mutex_lock(&lock);
    if (first_error(g)) {
        struct buf *b = &g->emu->error;
        char text[1024];
        vsnprintf(text, sizeof text, fmt, ap);
        buf_printf(b, "fault in %s, ", g->entry->name);
        put_place(b, w, lane);
        buf_printf(b, ": %s\n    ", text);
        put_instruction(b, g->module, in);
    }
    pthread_mutex_unlock(&lock);
    w->cta->cluster->failed = true;
}

enum emu_next emu_fault(struct emu_warp *w, const struct emu_insn *in, int lane, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfault(w, in, lane, fmt, ap);
    va_end(ap);
    return EMU_FAULT;
}

bool emu_fault_who(const struct emu_who *who, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfault(who->w, who->in, who->lane, fmt, ap);
    va_end(ap);
    return false;
}

enum emu_next emu_block(struct emu_warp *w, const char *text)
{
    w->frag[w->cur].wait = (struct emu_wait){.kind = EMU_WAIT_TEXT, .text = text};
    return EMU_BLOCK;
}

/* ---- deadlocks ---- */

/* The name of the shared variable that holds an offset. */
static void put_shared(struct buf *b, const struct emu_entry *e, uint32_t at)
{
    for (int i = 0; i < e->symbols.n; i++) {
        const struct emu_symbol *s = &e->symbols.at[i];
        if (s->space != EMU_SHARED_CTA || at < s->address || (!s->dynamic && at >= s->address + s->bytes))
            continue;
        buf_printf(b, "%s+%u", s->name, (uint32_t)(at - s->address));
        return;
    }
    buf_printf(b, "shared 0x%x", at);
}

/* "; what: warps 0-3 7" */
static void put_warps(struct buf *b, const char *what, uint64_t warps)
{
    if (!warps)
        return;
    buf_printf(b, "; %s: warp%s", what, warps & (warps - 1) ? "s" : "");
    for (int i = 0; i < 64; i++) {
        int last = i;
        if (!(warps >> i & 1))
            continue;
        while (last < 63 && (warps >> (last + 1) & 1))
            last++;
        buf_printf(b, last > i ? " %d-%d" : " %d", i, last);
        i = last;
    }
}

static void put_mbar(struct buf *b, const struct emu_grid *g, const struct emu_wait *w)
{
    const struct emu_mbar *m = NULL;
    for (int i = 0; i < w->cta->n_mbar; i++)
        if (w->cta->mbar[i].offset == w->at && w->cta->mbar[i].live)
            m = &w->cta->mbar[i];
    buf_printf(b, "at mbarrier ");
    put_shared(b, g->entry, w->at);
    if (w->cta->cluster->size > 1)
        buf_printf(b, " of rank %u", w->cta->rank);
    if (!m)
        return;
    buf_printf(b, " parity %u (it is in phase %llu)\n        %u of %u arrivals missing", w->parity,
               (unsigned long long)m->phase, m->pending, m->expected);
    if (m->tx)
        buf_printf(b, ", %lld bytes missing (%llu came)", (long long)m->tx, (unsigned long long)m->tx_done);
    put_warps(b, "arrived", m->arrived_warps);
    put_warps(b, "arrived in earlier phases only", m->arrived_before & ~m->arrived_warps);
    if (m->tx && m->last_tx) {
        buf_printf(b, "\n        the last bytes came from ");
        put_instruction(b, g->module, m->last_tx);
    }
}

static void put_wait(struct buf *b, const struct emu_grid *g, const struct emu_warp *w, const struct emu_frag *f)
{
    switch (f->wait.kind) {
    case EMU_WAIT_MBAR:
        put_mbar(b, g, &f->wait);
        return;
    case EMU_WAIT_BAR: {
        const struct emu_named_barrier *n = &w->cta->bar[f->wait.at];
        buf_printf(b, "at barrier %u: %u of %u threads have come", f->wait.at, n->arrived,
                   n->expected ? n->expected : w->cta->live_threads);
        return;
    }
    case EMU_WAIT_CLUSTER:
        buf_printf(b, "at the cluster barrier: %u threads are missing", w->cta->cluster->barrier_missing);
        return;
    case EMU_WAIT_LANES:
        buf_printf(b, "for the other lanes of the warp, at %s", f->wait.text);
        return;
    case EMU_WAIT_TEXT:
        buf_printf(b, "%s", f->wait.text);
        return;
    case EMU_WAIT_NONE:
        buf_printf(b, "runs without end");
        return;
    }
}

static bool same_wait(const struct emu_warp *a, const struct emu_warp *b)
{
    const struct emu_frag *f = &a->frag[0], *g = &b->frag[0];
    return a->nfrag == 1 && b->nfrag == 1 && f->pc == g->pc && f->mask == a->lanes && g->mask == b->lanes &&
           f->wait.kind == g->wait.kind && f->wait.cta == g->wait.cta && f->wait.at == g->wait.at &&
           f->wait.parity == g->wait.parity;
}

/* Warps first .. last of a block that wait alike. */
static void put_stuck(struct buf *b, const struct emu_grid *g, const struct emu_cta *c, int first, int last)
{
    const struct emu_warp *w = &c->warp[first];
    for (int f = 0; f < w->nfrag; f++) {
        buf_printf(b, "\n  cta (%u,%u,%u) ", c->ctaid[0], c->ctaid[1], c->ctaid[2]);
        buf_printf(b, last > first ? "warps %d-%d" : "warp %d", first, last);
        if (w->frag[f].mask != w->lanes)
            buf_printf(b, " lanes %08x", w->frag[f].mask);
        buf_printf(b, w->frag[f].wait.kind == EMU_WAIT_TEXT || !w->frag[f].wait.kind ? " "
                      : last > first                                                 ? " wait "
                                                                                     : " waits ");
        put_wait(b, g, w, &w->frag[f]);
        buf_printf(b, "\n      ");
        put_instruction(b, g->module, &g->entry->code[w->frag[f].pc]);
    }
}

void emu_report_stuck(struct emu_cluster *k, const char *what)
{
    struct emu_grid *g = k->grid;
    static const char *const timing[] = {"early", "late", "seeded"};
    pthread_mutex_lock(&lock);
    if (first_error(g)) {
        struct buf *b = &g->emu->error;
        buf_printf(b, "%s in %s after %llu warp steps (%s timing, seed %llu), %d asynchronous operations outstanding",
                   what, g->entry->name, (unsigned long long)k->stats.warp_steps, timing[g->emu->config.timing],
                   (unsigned long long)g->emu->config.seed, k->n_async);
        for (uint32_t c = 0; c < k->size; c++)
            for (int i = 0, last; i < k->cta[c].nwarps; i = last + 1) {
                for (last = i; last + 1 < k->cta[c].nwarps && same_wait(&k->cta[c].warp[i], &k->cta[c].warp[last + 1]);)
                    last++;
                put_stuck(b, g, &k->cta[c], i, last);
            }
    }
    pthread_mutex_unlock(&lock);
    k->failed = true;
}
