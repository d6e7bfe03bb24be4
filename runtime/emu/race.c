/* race - finds unordered accesses to shared memory by happens-before: every warp has a clock vector.
 *
 * A warp's own clock grows whenever it publishes its past (arrives at a barrier, does an atomic); an access is noted
 * with the warp and its clock, a later one by another warp must have seen that clock. Lanes of a warp count as one.
 * Ordering through atomics and fences is taken generously, address or not, so that what is reported is a race. After
 * FastTrack (Flanagan and Freund, PLDI 2009), with at most two readers remembered. */
#include "runtime/emu/race.h"

#include <stdlib.h>

/* A word of shared memory. Warps are numbered from 1 through the cluster; 0: none. Masks are of the word's bytes. */
struct emu_cell {
    uint32_t write_clock, read_clock[2];
    uint16_t writer, reader[2];
    uint8_t write_mask, read_mask[2];
};

static uint32_t warps_of(const struct emu_cluster *k) { return k->size * (uint32_t)k->cta[0].nwarps; }
static uint32_t index_of(const struct emu_warp *w) { return w->cta->rank * (uint32_t)w->cta->nwarps + (uint32_t)w->id; }

bool emu_race_start(struct emu_cluster *k)
{
    if (!emu_checked(k))
        return true;
    uint32_t n = warps_of(k);
    for (uint32_t i = 0; i < k->size; i++) {
        k->cta[i].cells = calloc(k->cta[i].smem_end / 4 + 8, sizeof(struct emu_cell));
        if (!k->cta[i].cells)
            return false;
        for (int j = 0; j < k->cta[i].nwarps; j++) {
            struct emu_warp *w = &k->cta[i].warp[j];
            if (!(w->clock = calloc(n, 4)))
                return false;
            w->clock[index_of(w)] = 1;
        }
    }
    return true;
}

void emu_race_end(struct emu_cluster *k)
{
    free(k->arrivals);
    free(k->done);
    free(k->strong);
    for (uint32_t i = 0; i < k->size && k->cta; i++) {
        struct emu_cta *c = &k->cta[i];
        for (int j = 0; j < 16; j++) {
            free(c->bar[j].arrivals);
            free(c->bar[j].done);
        }
        for (int j = 0; j < c->n_mbar; j++) {
            free(c->mbar[j].arrivals);
            free(c->mbar[j].done);
        }
        for (int j = 0; j < c->nwarps && c->warp; j++)
            free(c->warp[j].clock);
        free(c->cells);
    }
}

/* ---- clocks ---- */

static void join(uint32_t *to, const uint32_t *from, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        to[i] = to[i] > from[i] ? to[i] : from[i];
}

void emu_race_release(struct emu_warp *w, uint32_t **to)
{
    if (!w->clock)
        return;
    uint32_t n = warps_of(w->cta->cluster);
    if (!*to && !(*to = calloc(n, 4)))
        return;
    join(*to, w->clock, n);
    w->clock[index_of(w)]++;
}

void emu_race_acquire(struct emu_warp *w, const uint32_t *from)
{
    if (w->clock && from)
        join(w->clock, from, warps_of(w->cta->cluster));
}

void emu_race_complete(struct emu_cluster *k, uint32_t **arrivals, uint32_t **done)
{
    if (!*arrivals)
        return;
    uint32_t n = warps_of(k);
    if (!*done && !(*done = calloc(n, 4)))
        return;
    join(*done, *arrivals, n);
}

void emu_race_stamp(const struct emu_warp *w, uint32_t *maker, uint32_t *made)
{
    *maker = index_of(w);
    *made = w->clock ? w->clock[*maker] : 0;
}

bool emu_race_seen(const struct emu_warp *w, uint32_t maker, uint32_t made)
{
    return !w->clock || w->clock[maker] >= made;
}

/* ---- accesses ---- */

static bool report(const struct emu_who *who, const struct emu_cta *cta, uint32_t offset, const char *mine,
                   const char *theirs, uint32_t other)
{
    uint32_t per = (uint32_t)cta->nwarps;
    return emu_fault_who(who, "race: %s shared 0x%x, which warp %u%s %s; no barrier orders the two", mine, offset,
                         (other - 1) % per, (other - 1) / per == who->w->cta->rank ? "" : " of another block", theirs);
}

static bool check_readers(const struct emu_who *who, const struct emu_cta *cta, const struct emu_cell *c, uint32_t at,
                          uint8_t mask, uint16_t me)
{
    for (int i = 0; i < 2; i++)
        if (c->reader[i] && c->reader[i] != me && (c->read_mask[i] & mask) &&
            who->w->clock[c->reader[i] - 1] < c->read_clock[i])
            return report(who, cta, at, "writes", "read", c->reader[i]);
    return true;
}

static void note_read(struct emu_cell *c, const struct emu_warp *w, uint8_t mask, uint16_t me)
{
    int i = c->reader[0] == me || !c->reader[0] || w->clock[c->reader[0] - 1] >= c->read_clock[0] ? 0 : 1;
    bool same = c->reader[i] == me && c->read_clock[i] == w->clock[me - 1];
    c->read_mask[i] = same ? c->read_mask[i] | mask : mask;
    c->reader[i] = me;
    c->read_clock[i] = w->clock[me - 1];
}

static bool access_word(const struct emu_who *who, struct emu_cta *cta, uint32_t at, uint8_t mask, bool write)
{
    struct emu_cell *c = &cta->cells[at / 4];
    uint16_t me = (uint16_t)(index_of(who->w) + 1);
    if (c->writer && c->writer != me && (c->write_mask & mask) && who->w->clock[c->writer - 1] < c->write_clock)
        return report(who, cta, at, write ? "writes" : "reads", "wrote", c->writer);
    if (!write) {
        note_read(c, who->w, mask, me);
        return true;
    }
    if (!check_readers(who, cta, c, at, mask, me))
        return false;
    bool same = c->writer == me && c->write_clock == who->w->clock[me - 1];
    c->write_mask = same ? c->write_mask | mask : mask;
    c->writer = me;
    c->write_clock = who->w->clock[me - 1];
    c->reader[0] = c->reader[1] = 0;
    return true;
}

bool emu_race_access(const struct emu_who *who, struct emu_cta *cta, uint32_t offset, uint32_t n, bool write)
{
    if (!cta->cells)
        return true;
    for (uint32_t at = offset & ~3u; at < offset + n; at += 4) {
        uint8_t mask = 0xF;
        if (at < offset)
            mask = (uint8_t)(mask << (offset - at) & 0xF);
        if (at + 4 > offset + n)
            mask &= (uint8_t)(0xF >> (at + 4 - offset - n));
        if (!access_word(who, cta, at, mask, write))
            return false;
    }
    return true;
}

void emu_race_forget(struct emu_cta *cta, uint32_t offset, uint32_t n)
{
    if (cta->cells && n)
        memset(&cta->cells[offset / 4], 0, ((offset + n + 3) / 4 - offset / 4) * sizeof(struct emu_cell));
}
