/* async - operations that take effect between their issue and a wait: early, late or at random. */
#include "runtime/emu/core.h"

#include <stdlib.h>

/* splitmix64 */
uint32_t emu_random(struct emu_cluster *c, uint32_t n)
{
    uint64_t z = c->rng += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    z ^= z >> 31;
    return n ? (uint32_t)((z >> 32) * n >> 32) : 0;
}

struct emu_async *emu_async_new(const struct emu_who *who, enum emu_async_kind kind, size_t payload_bytes)
{
    struct emu_async *op = calloc(1, sizeof *op + payload_bytes);
    if (!op) {
        base_oom(sizeof *op + payload_bytes);
        abort();
    }
    op->kind = kind;
    op->who = *who;
    op->who.async = kind != EMU_ASYNC_CP;
    op->cluster = who->w->cta->cluster;
    op->issued_at = op->cluster->stats.warp_steps;
    return op;
}

static void drop(struct emu_async *op)
{
    if (op->drop)
        op->drop(op);
    free(op);
}

static bool read_once(struct emu_async *op)
{
    if (op->has_read || !op->read)
        return true;
    op->has_read = true;
    return op->read(op);
}

/* Takes the operation off the queue and lets it take effect. */
static bool finish(struct emu_cluster *c, struct emu_async **at)
{
    struct emu_async *op = *at;
    bool ok = read_once(op);
    *at = op->next;
    if (!*at)
        c->tail = at;
    c->n_async--;
    ok = ok && (!op->write || op->write(op));
    emu_progress(c);
    drop(op);
    return ok;
}

/* The oldest operation that must take effect no later than `op`. */
static struct emu_async **oldest_before(struct emu_cluster *c, struct emu_async **op)
{
    if ((*op)->order)
        for (struct emu_async **at = &c->head; at != op; at = &(*at)->next)
            if ((*at)->order == (*op)->order)
                return at;
    return op;
}

bool emu_async_issue(struct emu_async *op)
{
    struct emu_cluster *c = op->cluster;
    emu_progress(c);
    if (!emu_async_is_late(c)) {
        bool ok = read_once(op) && (!op->write || op->write(op));
        drop(op);
        return ok;
    }
    op->next = NULL;
    *c->tail = op;
    c->tail = &op->next;
    c->n_async++;
    return true;
}

bool emu_async_force(struct emu_cluster *c, bool (*pick)(const struct emu_async *, const void *), const void *arg,
                     bool read_only)
{
    struct emu_async **at = &c->head;
    while (*at) {
        if (!pick(*at, arg)) {
            at = &(*at)->next;
            continue;
        }
        if (read_only) {
            if (!read_once(*at))
                return false;
            at = &(*at)->next;
            continue;
        }
        struct emu_async **first;
        do {
            first = oldest_before(c, at);
            bool last = first == at;
            if (!finish(c, first))
                return false;
            if (last)
                break;
            at = &c->head; /* the queue has changed: find the operation again */
            while (*at && !pick(*at, arg))
                at = &(*at)->next;
        } while (*at);
        at = &c->head;
    }
    return true;
}

static bool waited_for(const struct emu_cluster *c, const struct emu_async *op)
{
    if (!op->mbar_cta)
        return false;
    for (uint32_t i = 0; i < c->size; i++)
        for (int j = 0; j < c->cta[i].nwarps; j++) {
            const struct emu_warp *w = &c->cta[i].warp[j];
            for (int k = 0; k < w->nfrag; k++)
                if (w->frag[k].parked && w->frag[k].wait.kind == EMU_WAIT_MBAR && w->frag[k].wait.cta == op->mbar_cta &&
                    w->frag[k].wait.at == op->mbar)
                    return true;
        }
    return false;
}

bool emu_async_step(struct emu_cluster *c, bool any)
{
    struct emu_async **at = &c->head;
    if (!c->head)
        return true;
    if (any) {
        for (uint32_t n = emu_random(c, (uint32_t)c->n_async); n; n--)
            at = &(*at)->next;
    } else {
        while (*at && !waited_for(c, *at))
            at = &(*at)->next;
        if (!*at)
            at = &c->head;
    }
    return finish(c, oldest_before(c, at));
}
