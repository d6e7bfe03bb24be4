/* grid - one launch: checks it, makes the clusters that fit on the device, runs them on host threads until all are
 * done. */
#include "runtime/emu/parse.h"
#include "runtime/emu/race.h"
#include "runtime/emu/sched.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { SLICE = 50000, QUIET_STEPS = 1 << 25, MAX_THREADS = 64, IDLE_ROUNDS = 2000 };

/* ---- blocks and warps ---- */

static void fill_registers(struct emu_warp *w, const struct emu_entry *e)
{
    memset(w->r, 0xFF, (size_t)e->rows * 128);
    memset(emu_row(w, EMU_ROW_ZERO), 0, 4 * 128);
    w->p[EMU_P_TRUE] = ~0u;
    for (int i = 0; i < e->constants.n; i++) {
        const struct emu_constant *c = &e->constants.at[i];
        uint64_t v = c->lo + (c->shared ? (uint64_t)w->cta->rank << EMU_RANK_SHIFT : 0);
        for (uint32_t l = 0; l < 32; l++) {
            if (c->rows == 1)
                emu_row(w, c->row)[l] = (uint32_t)v;
            else
                emu_row64(w, c->row)[l] = v;
            if (c->rows == 4)
                emu_row64(w, c->row + 2)[l] = c->hi;
        }
    }
    for (int i = 0; i < e->sregs.n; i++) {
        int id = e->sregs.at[i].id, bits = emu_types[emu_sregs[id].type].bits;
        uint32_t row = e->sregs.at[i].row;
        for (uint32_t l = 0; l < 32; l++) {
            uint64_t v = emu_sreg_value(w, id, l);
            if (bits == 1)
                w->p[row] = v ? ~0u : 0;
            else if (bits == 64)
                emu_row64(w, row)[l] = v;
            else
                emu_row(w, row)[l] = (uint32_t)v;
        }
    }
}

static uint32_t entry_registers(const struct emu_grid *g)
{
    const struct emu_entry *e = g->entry;
    uint32_t threads = g->ntid[0] * g->ntid[1] * g->ntid[2];
    if (e->maxnreg)
        return e->maxnreg;
    if (e->minnctapersm && (e->has_maxntid || e->has_reqntid)) {
        uint32_t n = 65536 / (e->minnctapersm * threads) & ~7u;
        return n > 255 ? 255 : n;
    }
    return 0; /* not known: setmaxnreg is dropped by the assembler */
}

static bool cta_start(struct emu_cta *c, struct emu_cluster *k, uint32_t rank)
{
    const struct emu_grid *g = k->grid;
    const struct emu_entry *e = g->entry;
    c->cluster = k;
    c->rank = rank;
    c->ctaid[0] = k->id3[0] * g->cluster[0] + rank % g->cluster[0];
    c->ctaid[1] = k->id3[1] * g->cluster[1] + rank / g->cluster[0] % g->cluster[1];
    c->ctaid[2] = k->id3[2] * g->cluster[2] + rank / g->cluster[0] / g->cluster[1];
    c->smem_end = g->smem_end;
    c->smem = malloc(g->smem_end + 64);
    c->smem_init = calloc(g->smem_end / 64 + 2, 8);
    c->smem_writer = calloc(g->smem_end / 16 + 2, 8);
    c->nthreads = c->live_threads = g->ntid[0] * g->ntid[1] * g->ntid[2];
    c->nwarps = (int)(c->nthreads + 31) / 32;
    c->warp = calloc((size_t)c->nwarps, sizeof *c->warp);
    if (!c->smem || !c->smem_init || !c->smem_writer || !c->warp)
        return false;
    memset(c->smem, 0xFF, g->smem_end);
    k->live_threads += c->nthreads;
    for (int i = 0; i < c->nwarps; i++) {
        struct emu_warp *w = &c->warp[i];
        uint32_t left = c->nthreads - (uint32_t)i * 32;
        w->cta = c;
        w->id = i;
        w->lanes = w->live = left >= 32 ? ~0u : (1u << left) - 1;
        w->r = aligned_alloc(128, (size_t)e->rows * 128);
        w->p = calloc(e->preds, 4);
        w->local = e->local_bytes ? calloc(32, e->local_bytes) : NULL;
        if (!w->r || !w->p || (e->local_bytes && !w->local))
            return false;
        w->maxnreg = entry_registers(g);
        w->frag[0] = (struct emu_frag){.mask = w->lanes};
        w->nfrag = 1;
        fill_registers(w, e);
    }
    return true;
}

/* A copy into a block that has ended was waited for by nobody: its bytes would land in another block's memory. */
static void check_unwaited(struct emu_cta *c)
{
    for (struct emu_async *op = c->cluster->head; op; op = op->next)
        if (op->ctas >> c->rank & 1) {
            emu_fault_who(&op->who,
                          "cta (%u,%u,%u) has ended before the bytes of this copy came: nothing in it waited for them",
                          c->ctaid[0], c->ctaid[1], c->ctaid[2]);
            return;
        }
}

void emu_cta_end(struct emu_cta *c)
{
    struct emu_cluster *k = c->cluster;
    c->ended = true;
    check_unwaited(c);
    /* what is outstanding stays until the cluster's last thread has ended */
    while (!k->live_threads && k->head && !k->failed)
        if (!emu_async_step(k, false))
            k->failed = true;
    if (!k->failed && !emu_tcgen05_cta_end(&c->warp[0], c))
        k->failed = true;
}

static void cta_free(struct emu_cta *c)
{
    for (int i = 0; i < c->nwarps && c->warp; i++) {
        struct emu_warp *w = &c->warp[i];
        if (w->cta) {
            emu_wgmma_warp_end(w);
            emu_tcgen05_warp_end(w);
        }
        free(w->r);
        free(w->p);
        free(w->local);
    }
    if (c->tmem)
        emu_tcgen05_cta_free(c);
    free(c->warp);
    free(c->smem);
    free(c->smem_init);
    free(c->smem_writer);
    free(c->mbar);
}

/* ---- clusters ---- */

static void cluster_free(struct emu_cluster *k)
{
    while (k->head) {
        struct emu_async *op = k->head;
        k->head = op->next;
        if (op->drop)
            op->drop(op);
        free(op);
    }
    emu_race_end(k);
    for (uint32_t i = 0; i < k->size && k->cta; i++)
        cta_free(&k->cta[i]);
    free(k->cta);
    free(k);
}

static struct emu_cluster *cluster_new(struct emu_grid *g, uint32_t id, uint32_t slot)
{
    struct emu_cluster *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->grid = g;
    k->id = id;
    k->slot = slot;
    k->size = g->cluster[0] * g->cluster[1] * g->cluster[2];
    k->id3[0] = id % g->nclusters[0];
    k->id3[1] = id / g->nclusters[0] % g->nclusters[1];
    k->id3[2] = id / g->nclusters[0] / g->nclusters[1];
    k->tail = &k->head;
    k->rng = g->emu->config.seed * 0x9E3779B97F4A7C15ull + id * 0xD1B54A32D192ED03ull + 1;
    k->cta = calloc(k->size, sizeof *k->cta);
    for (uint32_t i = 0; k->cta && i < k->size; i++)
        if (!cta_start(&k->cta[i], k, i)) {
            cluster_free(k);
            return NULL;
        }
    if (!k->cta) {
        free(k);
        return NULL;
    }
    k->barrier_missing = k->live_threads;
    if (!emu_race_start(k)) {
        cluster_free(k);
        return NULL;
    }
    return k;
}

/* ---- workers: each runs its share of the places on the device ---- */

struct worker {
    struct emu_grid *grid;
    uint32_t first, stride, slots;
    struct emu_stats stats;
};

static void add_stats(struct emu_stats *to, const struct emu_stats *s)
{
    to->warp_steps += s->warp_steps;
    to->tma_bytes += s->tma_bytes;
    to->mma_count += s->mma_count;
    to->bank_wavefronts += s->bank_wavefronts;
    to->bank_requests += s->bank_requests;
}

static bool refill(struct worker *w, struct emu_cluster **slot, uint32_t place)
{
    struct emu_grid *g = w->grid;
    uint32_t id = __atomic_fetch_add(&g->next_cluster, 1, __ATOMIC_RELAXED);
    if (id >= g->n_clusters) {
        __atomic_fetch_sub(&g->next_cluster, 1, __ATOMIC_RELAXED);
        return false;
    }
    *slot = cluster_new(g, id, place);
    if (!*slot) {
        g->failed = true;
        emu_set_error(g->emu, "out of memory for cluster %u", id);
    }
    return *slot != NULL;
}

/* One turn of every cluster of the worker. Returns how many are left; *moved when one ran. */
static int turn(struct worker *w, struct emu_cluster **slot, bool *moved, struct emu_cluster **stuck)
{
    int left = 0;
    for (uint32_t i = 0; i < w->slots && !w->grid->failed; i++) {
        if (!slot[i] && !refill(w, &slot[i], w->first + i * w->stride))
            continue;
        struct emu_cluster *k = slot[i];
        enum emu_cluster_state s = emu_cluster_run(k, SLICE);
        left++;
        if (s == EMU_STUCK) {
            *stuck = k;
            continue;
        }
        if (s == EMU_RUNNING && k->stats.warp_steps - k->quiet_since > QUIET_STEPS)
            *stuck = k;
        else
            *moved = true;
        if (s == EMU_DONE) {
            add_stats(&w->stats, &k->stats);
            cluster_free(k);
            slot[i] = NULL;
        }
    }
    return left;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct emu_cluster **slot = calloc(w->slots, sizeof *slot);
    int idle = 0;
    while (slot && !w->grid->failed) {
        bool moved = false;
        struct emu_cluster *stuck = NULL;
        if (!turn(w, slot, &moved, &stuck))
            break;
        if (moved || w->grid->failed) {
            idle = 0;
            continue;
        }
        if (++idle > (w->grid->parallel ? IDLE_ROUNDS : 1)) {
            bool spins = stuck->stats.warp_steps - stuck->quiet_since > QUIET_STEPS;
            emu_report_stuck(stuck, spins ? "livelock" : "deadlock");
        } else if (w->grid->parallel) {
            usleep(500);
        }
    }
    for (uint32_t i = 0; slot && i < w->slots; i++)
        if (slot[i])
            cluster_free(slot[i]);
    free(slot);
    return NULL;
}

static void run_workers(struct emu_grid *g, uint32_t places, struct emu_stats *stats)
{
    long n = g->emu->config.threads ? g->emu->config.threads : sysconf(_SC_NPROCESSORS_ONLN);
    if (n > (long)places)
        n = (long)places;
    if (n > MAX_THREADS)
        n = MAX_THREADS;
    if (n < 1)
        n = 1;
    struct worker w[MAX_THREADS];
    pthread_t id[MAX_THREADS];
    bool started[MAX_THREADS] = {false};
    g->parallel = n > 1;
    for (long i = 0; i < n; i++)
        w[i] = (struct worker){.grid = g, .first = (uint32_t)i, .stride = (uint32_t)n,
                               .slots = (places - (uint32_t)i + (uint32_t)n - 1) / (uint32_t)n};
    for (long i = 1; i < n; i++)
        started[i] = pthread_create(&id[i], NULL, work, &w[i]) == 0;
    work(&w[0]);
    for (long i = 1; i < n; i++)
        if (started[i])
            pthread_join(id[i], NULL);
        else
            work(&w[i]);
    for (long i = 0; i < n; i++)
        add_stats(stats, &w[i].stats);
}

/* ---- launches ---- */

static bool refuse(struct emu *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(struct emu *e, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    emu_set_error(e, "launch refused: %s", text);
    return false;
}

static struct emu_entry *find_entry(struct emu *e, struct emu_module *m, const char *name)
{
    if (!name && m->entries.n == 1)
        return m->entries.at[0];
    for (int i = 0; name && i < m->entries.n; i++)
        if (!strcmp(m->entries.at[i]->name, name))
            return m->entries.at[i];
    if (name)
        refuse(e, "the module has no entry '%s'", name);
    else
        refuse(e, "the module has %d entries; name one", m->entries.n);
    return NULL;
}

static bool check_shape(struct emu *e, const struct emu_entry *en, struct emu_grid *g)
{
    uint32_t threads = g->ntid[0] * g->ntid[1] * g->ntid[2];
    if (g->ntid[0] > 1024 || g->ntid[1] > 1024 || g->ntid[2] > 64 || threads > 1024 || !threads)
        return refuse(e, "a block of %u x %u x %u threads; 1 to 1024 are possible", g->ntid[0], g->ntid[1], g->ntid[2]);
    for (int i = 0; i < 3; i++)
        if (en->has_reqntid && en->reqntid[i] != g->ntid[i])
            return refuse(e, "'%s' requires blocks of %u x %u x %u threads, got %u x %u x %u", en->name, en->reqntid[0],
                          en->reqntid[1], en->reqntid[2], g->ntid[0], g->ntid[1], g->ntid[2]);
    if (en->has_maxntid && threads > en->maxntid[0] * en->maxntid[1] * en->maxntid[2])
        return refuse(e, "'%s' allows at most %u threads a block, got %u", en->name,
                      en->maxntid[0] * en->maxntid[1] * en->maxntid[2], threads);
    uint32_t size = g->cluster[0] * g->cluster[1] * g->cluster[2];
    for (int i = 0; i < 3; i++) {
        if (en->has_reqcluster && g->cluster[i] != en->reqcluster[i])
            return refuse(e, "'%s' requires clusters of %u x %u x %u blocks", en->name, en->reqcluster[0],
                          en->reqcluster[1], en->reqcluster[2]);
        if (!g->nctaid[i] || g->nctaid[i] % g->cluster[i])
            return refuse(e, "a grid of %u x %u x %u blocks does not divide into clusters of %u x %u x %u",
                          g->nctaid[0], g->nctaid[1], g->nctaid[2], g->cluster[0], g->cluster[1], g->cluster[2]);
        g->nclusters[i] = g->nctaid[i] / g->cluster[i];
    }
    if (en->maxclusterrank && size > en->maxclusterrank)
        return refuse(e, "'%s' allows clusters of at most %u blocks", en->name, en->maxclusterrank);
    if (en->explicit_cluster && size == 1 && !en->has_reqcluster)
        return refuse(e, "'%s' wants a cluster shape", en->name);
    if (size > 16 || (size > 1 && e->config.chip < EMU_SM90))
        return refuse(e, "clusters of %u blocks are not possible on this chip", size);
    if ((uint64_t)g->nclusters[0] * g->nclusters[1] * g->nclusters[2] > 1u << 30)
        return refuse(e, "the grid is too large");
    g->n_clusters = g->nclusters[0] * g->nclusters[1] * g->nclusters[2];
    return true;
}

static bool check_memory(struct emu *e, const struct emu_entry *en, const struct emu_launch *l, struct emu_grid *g)
{
    static const uint32_t opt_in[EMU_CHIPS] = {163, 99, 227, 227, 227, 99, 99};
    uint64_t end = (en->uses_dynamic ? en->dynamic_smem_at : en->static_smem) + (uint64_t)l->dynamic_smem;
    if (end - EMU_SMEM_FIRST > opt_in[e->config.chip] * 1024u)
        return refuse(e, "'%s' needs %llu bytes of shared memory, a block has at most %u", en->name,
                      (unsigned long long)(end - EMU_SMEM_FIRST), opt_in[e->config.chip] * 1024u);
    g->smem_end = (uint32_t)end;
    if (l->param_bytes < en->param_bytes)
        return refuse(e, "'%s' has %u bytes of parameters, got %zu", en->name, en->param_bytes, l->param_bytes);
    return true;
}

bool emu_run(struct emu *e, struct emu_module *m, const struct emu_launch *l, struct emu_stats *stats)
{
    e->error.n = 0;
    struct emu_entry *en = find_entry(e, m, l->entry);
    struct emu_stats total = {0};
    struct emu_grid g = {.emu = e, .module = m, .entry = en, .launch = l, .params = l->params};
    if (!en)
        return false;
    for (int i = 0; i < 3; i++) {
        g.ntid[i] = l->block[i] ? l->block[i] : 1;
        g.nctaid[i] = l->grid[i] ? l->grid[i] : 1;
        g.cluster[i] = l->cluster[i] ? l->cluster[i] : en->has_reqcluster ? en->reqcluster[i] : 1;
        if (en->blocks_are_clusters)
            g.nctaid[i] *= g.cluster[i];
    }
    if (!check_shape(e, en, &g) || !check_memory(e, en, l, &g))
        return false;
    e->launches++;
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    uint32_t size = g.cluster[0] * g.cluster[1] * g.cluster[2];
    uint32_t places = (uint32_t)e->config.sms / size;
    if (!places)
        places = 1;
    run_workers(&g, places < g.n_clusters ? places : g.n_clusters, &total);
    clock_gettime(CLOCK_MONOTONIC, &b);
    total.seconds = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
    if (stats)
        *stats = total;
    return !g.failed;
}
