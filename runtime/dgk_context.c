/* dgk_context - devices as programs open them: memory, workspaces, forks, the text of failures. */
#include "runtime/dgk_inside.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "compiler/target.h"

int dgk_abi(void) { return DGK_ABI; }
const char *dgk_version(void) { return DGK_VERSION; }

/* ---- failures ------------------------------------------------------------------------------------------------ */

static _Thread_local struct fault last;

struct fault *fault_here(void)
{
    last.text[0] = 0;
    last.status = DGK_OK;
    return &last;
}

const char *dgk_error(void) { return last.text; }
const char *dgk_status_name(int status) { return status_name((enum dgk_status)status); }

/* ---- forks ---------------------------------------------------------------------------------------------------- *
 * A driver's state does not survive fork(): the child would hang or crash in its first call. Each process has a number;
 * a context remembers that of the process which opened it. */

static unsigned generation;
static void count_fork(void) { generation++; }
static void watch_forks(void) { pthread_atfork(NULL, NULL, count_fork); }

bool forked(const struct dgk_context *c, struct fault *why)
{
    if (c->generation == generation || c->device->props.emulated) return false;
    fault_set(why, DGK_FORKED, "this process was forked after %s was opened, and a CUDA driver cannot be used in the child; start "
              "processes before the first use of the device, or by spawn instead of fork (Python: multiprocessing.set_start_method(\"spawn\"))",
              c->spec);
    return true;
}

/* ---- open, close --------------------------------------------------------------------------------------------- */

/* The newest target of the table that the device runs. */
static const struct target *best_target(const struct device *d)
{
    int n, number = 0;
    const struct target *all = target_all(&n), *best = NULL;
    for (int i = 0; i < n; i++) {
        char suffix;
        int k = device_target_number(all[i].name, &suffix);
        if (device_runs(d, all[i].ptx_target) && device_runs(d, all[i].name) && k >= number) best = &all[i], number = k;
    }
    return best;
}

/* An emulator or a board of sm_120a is one of that very target. */
static const struct target *named_target(const char *spec)
{
    const char *at = strstr(spec, "sm_");
    char name[16] = "";
    if (at) snprintf(name, sizeof name, "%.*s", (int)strcspn(at, ","), at);
    return *name ? target_find(name) : NULL;
}

static enum dgk_status open_device(struct dgk_context *c, struct fault *why)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    c->generation = generation;
    enum dgk_status s = device_open(&c->device, c->spec, NULL, why);
    if (s) return s;
    const char *forced = getenv("DGC_TARGET");
    if (c->device->props.emulated || c->device->props.supposed) c->target = named_target(c->spec);
    else if (forced && *forced) c->target = target_find(forced);
    if (!c->target) c->target = best_target(c->device);
    if (c->target) return DGK_OK;
    return fault_set(why, DGK_UNSUPPORTED, "%s (%s) runs none of dgc's targets", c->device->props.name, c->device->props.arch);
}

int dgk_open(dgk_context **out, const char *device)
{
    struct fault *why = fault_here();
    const char *named = getenv("DGC_DEVICE");
    struct dgk_context *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return (int)fault_set(why, DGK_NO_MEMORY, "no memory for a context");
    snprintf(c->spec, sizeof c->spec, "%s", device && *device ? device : named && *named ? named : "cuda:0");
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_init(&c->serial, NULL);
    enum dgk_status s = open_device(c, why);
    if (s) {
        device_close(c->device);
        pthread_mutex_destroy(&c->lock);
        pthread_mutex_destroy(&c->serial);
        free(c);
        return (int)s;
    }
    *out = c;
    return DGK_OK;
}

static void free_spaces(struct dgk_context *c)
{
    const struct device_ops *ops = c->device->ops;
    struct workspace *next;
    for (struct workspace *w = c->spaces; w; w = next) {
        next = w->next;
        if (w->scratch) ops->release(c->device, w->scratch);
        if (w->counters) ops->release(c->device, w->counters);
        free(w);
    }
    if (c->captured.scratch) ops->release(c->device, c->captured.scratch);
    if (c->captured.counters) ops->release(c->device, c->captured.counters);
    for (int i = 0; i < c->outgrown.n; i++) ops->release(c->device, c->outgrown.at[i]);
}

void dgk_close(dgk_context *c)
{
    if (!c) return;
    struct fault why;
    if (!forked(c, &why)) { /* in a forked child nothing of the driver may be touched */
        void *before = c->device->ops->enter(c->device);
        c->device->ops->sync(c->device, &why);
        while (c->kernels) dgk_unload(c->kernels);
        free_spaces(c);
        c->device->ops->leave(c->device, before);
        device_close(c->device);
    }
    arena_free(&c->arena);
    pthread_mutex_destroy(&c->lock);
    pthread_mutex_destroy(&c->serial);
    free(c);
}

void dgk_info(dgk_context *c, dgk_device_info *out)
{
    const struct device_props *p = &c->device->props;
    *out = (dgk_device_info){ .sms = p->sms, .emulated = p->emulated, .memory_bytes = p->memory_bytes, .smem_bytes = p->smem_bytes };
    snprintf(out->name, sizeof out->name, "%s", p->name);
    snprintf(out->arch, sizeof out->arch, "%s", p->arch);
    snprintf(out->target, sizeof out->target, "%s", c->target->name);
}

int dgk_set_sms(dgk_context *c, int sms)
{
    struct fault *why = fault_here();
    if (sms < 0 || sms > c->device->props.sms)
        return (int)fault_set(why, DGK_BAD_ARGUMENT, "%d multiprocessors: %s has %d (0 means all)", sms, c->device->props.name, c->device->props.sms);
    c->sms = sms;
    return DGK_OK;
}

int dgk_get_sms(dgk_context *c) { return c->sms ? c->sms : c->device->props.sms; }

int dgk_set_pdl(dgk_context *c, int on)
{
    fault_here();
    c->pdl = on != 0;
    return DGK_OK;
}

int dgk_get_pdl(dgk_context *c) { return c->pdl; }

bool context_overlaps(const struct dgk_context *c) { return c->pdl && target_has(c->target, HAS_PDL); }

/* ---- memory -------------------------------------------------------------------------------------------------- */

/* Every call into the device: not in a forked child, on its own context, one at a time on the emulator. */
static bool begin(struct dgk_context *c, void **before, struct fault *why)
{
    if (forked(c, why)) return false;
    if (c->device->props.emulated) pthread_mutex_lock(&c->serial);
    *before = c->device->ops->enter(c->device);
    return true;
}

static void end(struct dgk_context *c, void *before)
{
    c->device->ops->leave(c->device, before);
    if (c->device->props.emulated) pthread_mutex_unlock(&c->serial);
}

uint64_t dgk_alloc(dgk_context *c, size_t bytes)
{
    void *before;
    struct fault *why = fault_here();
    if (!begin(c, &before, why)) return 0;
    uint64_t p = c->device->ops->alloc(c->device, bytes, "memory", why);
    end(c, before);
    return p;
}

void dgk_free(dgk_context *c, uint64_t address)
{
    void *before;
    if (!address || !begin(c, &before, fault_here())) return;
    c->device->ops->release(c->device, address);
    end(c, before);
}

int dgk_write(dgk_context *c, uint64_t to, const void *from, size_t bytes)
{
    void *before;
    struct fault *why = fault_here();
    if (!begin(c, &before, why)) return DGK_FORKED;
    enum dgk_status s = c->device->ops->write(c->device, to, from, bytes, why);
    end(c, before);
    return (int)s;
}

int dgk_read(dgk_context *c, void *to, uint64_t from, size_t bytes)
{
    void *before;
    struct fault *why = fault_here();
    if (!begin(c, &before, why)) return DGK_FORKED;
    enum dgk_status s = c->device->ops->sync(c->device, why);
    if (!s) s = c->device->ops->read(c->device, to, from, bytes, why);
    end(c, before);
    return (int)s;
}

int dgk_sync(dgk_context *c)
{
    void *before;
    struct fault *why = fault_here();
    if (!begin(c, &before, why)) return DGK_FORKED;
    enum dgk_status s = c->device->ops->sync(c->device, why);
    end(c, before);
    return (int)s;
}

/* ---- workspaces ---------------------------------------------------------------------------------------------- */

static size_t at_least(size_t have, size_t want)
{
    size_t n = have ? have : 4096;
    while (n < want) n *= 2;
    return n;
}

static enum dgk_status grow(struct dgk_context *c, uint64_t *at, size_t *have, size_t want, const char *name, bool zero, struct fault *why)
{
    const struct device_ops *ops = c->device->ops;
    if (*have >= want) return DGK_OK;
    size_t bytes = at_least(*have, want);
    uint64_t p = ops->alloc(c->device, bytes, name, why);
    enum dgk_status s = p ? DGK_OK : why->status;
    if (p && zero) (void)((s = ops->fill(c->device, p, 0, bytes, why)) || (s = ops->sync(c->device, why)));
    if (s) return s;
    if (*at) vec_push(&c->arena, &c->outgrown, *at);
    *at = p;
    *have = bytes;
    return DGK_OK;
}

static enum dgk_status fit(struct dgk_context *c, struct workspace *w, size_t scratch, size_t counters, struct fault *why)
{
    enum dgk_status s = grow(c, &w->scratch, &w->scratch_bytes, scratch, "scratch", false, why);
    return s ? s : grow(c, &w->counters, &w->counter_bytes, counters, "counters", true, why);
}

static struct workspace *of_stream(struct dgk_context *c, void *stream)
{
    for (struct workspace *w = c->spaces; w; w = w->next)
        if (w->stream == stream) return w;
    struct workspace *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    *w = (struct workspace){ .next = c->spaces, .stream = stream };
    return c->spaces = w;
}

static enum dgk_status find_space(struct dgk_context *c, void *stream, size_t scratch, size_t counters, struct workspace **out, struct fault *why)
{
    *out = &c->captured;
    if (!c->device->ops->capturing(c->device, stream)) {
        enum dgk_status s = fit(c, &c->captured, scratch, counters, why); /* so that a later capture finds it */
        if (s) return s;
        *out = of_stream(c, stream);
        return *out ? fit(c, *out, scratch, counters, why) : fault_set(why, DGK_NO_MEMORY, "no memory for a workspace");
    }
    if (c->captured.scratch_bytes >= scratch && c->captured.counter_bytes >= counters) return DGK_OK;
    return fault_set(why, DGK_CAPTURING, "this call needs %zu bytes of scratch memory, which cannot be allocated while a graph is captured; "
                     "run it once with the same shapes before the capture", scratch);
}

enum dgk_status workspace_find(struct dgk_context *c, void *stream, size_t scratch, size_t counters, uint64_t *scratch_at,
                               uint64_t *counters_at, struct fault *why)
{
    struct workspace *w;
    pthread_mutex_lock(&c->lock);
    enum dgk_status s = find_space(c, stream, scratch, counters, &w, why);
    if (!s) *scratch_at = w->scratch, *counters_at = w->counters;
    pthread_mutex_unlock(&c->lock);
    return s;
}
