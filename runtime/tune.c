/* tune - successive halving over the variants of one call. See tune.h. */
#include "runtime/tune.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "codegen/codegen.h"
#include "runtime/module.h"

enum {
    MOST = 64,         /* candidates, unless told */
    FINALISTS = 4,     /* timed at length and checked */
    LAUNCHES = 3,      /* of a turn */
    PASSES = 2,        /* turns of a round */
    FINAL_PASSES = 5,
    SAMPLES = 512,     /* kept for a median */
    AROUND_ROUNDS = 3
};
#define COMPILE_SHARE 0.5 /* of the budget, for compiling the first candidates */
#define HOPELESS 3.0      /* times the best so far: one turn is enough */
#define KNOWN_SLOW 1.15   /* times the best on disk: not measured again */
#define GAIN 1.005        /* what a neighbour must win to become the best */
#define FLOAT_DISTANCE 1e-5 /* between variants that sum in another order, where a spec allows less, */
#define NO_SPEC_DISTANCE 1e-3 /* or there is none */

struct candidate {
    struct arena arena;      /* of the compilation */
    const struct binding *at;
    int n;
    const char *values;
    double estimate;
    struct image *image;
    struct ir_fn *fn;
    void *cubin;
    size_t bytes;
    struct device_module *module;
    double samples[SAMPLES], us;
    int count;
    enum tunedb_state state;
    char why[400];
    bool standard, ready, compiled, out; /* compiled: tried, ready: worked; out: dropped from the race */
};

struct tuner {
    const struct tune_ask *ask;
    struct arena *arena;
    struct tunedb_key key;
    tunedb_entries known;
    VEC(struct candidate *) all;
    struct timing timing;
    bool opened, checked_standard;
    void **wanted;           /* what the standard computes */
    double begun, until, best_us;
    int alive;
    bool lost;
    pthread_mutex_t lock;    /* of next, done and the progress line, while threads compile */
    int next, done, end;
    double compile_until, stage_begun;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool out_of_time(const struct tuner *t) { return t->until > 0 && now() > t->until; }

static void show(struct tuner *t, enum tune_stage stage, int done, int of)
{
    double spent = now() - t->stage_begun, left = done ? spent / done * (of - done) : 0;
    if (t->until > 0 && left > t->until - now()) left = t->until > now() ? t->until - now() : 0;
    struct tune_progress p = { stage, done, of, t->alive, t->best_us, left };
    if (t->ask->progress) t->ask->progress(t->ask->state, &p);
}

const char *tune_values_text(struct arena *a, const struct binding *at, int n)
{
    struct buf b = { 0 };
    buf_bytes(&b, "", 0);
    for (int i = 0; i < n; i++) buf_printf(&b, "%s%s=%s", i ? ";" : "", at[i].name, at[i].value);
    const char *text = arena_strndup(a, b.n ? b.at : "", b.n);
    buf_free(&b);
    return text;
}

/* ---- compiling ------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3)))
static void bad(struct candidate *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->why, sizeof c->why, fmt, ap);
    va_end(ap);
    c->state = TUNEDB_BAD;
    c->ready = false;
    c->out = true;
}

static void bad_message(struct candidate *c, const struct diag *d)
{
    for (int i = 0; i < d->msgs.n; i++)
        if (d->msgs.at[i].level == DIAG_ERROR) {
            bad(c, "%s", d->msgs.at[i].text);
            return;
        }
    bad(c, "it does not compile");
}

/* Reads the source anew: trees are not shared among threads. */
static bool compile_ptx(const struct tune_ask *ask, struct candidate *c)
{
    struct diag d;
    struct compile_options o = *ask->call.options;
    struct binding *tune = new_n(&c->arena, struct binding, o.n_tune + c->n + 1);
    diag_init(&d, &c->arena);
    for (int i = 0; i < o.n_tune; i++) tune[i] = o.tune[i];
    for (int i = 0; i < c->n; i++) tune[o.n_tune++] = c->at[i];
    o.tune = tune;
    struct node *file = dsl_parse_file(&c->arena, &d, ask->path, ask->import_dirs, ask->n_import_dirs);
    if (!d.errors) dsl_check(&c->arena, &d, file);
    struct node *kernel = d.errors ? NULL : dsl_kernel(file, intern(ask->call.kernel->name));
    c->fn = kernel ? compiler_lower(&c->arena, &d, file, kernel, &o) : NULL;
    if (c->fn && !d.errors) compiler_passes(&c->arena, &d, c->fn, target_find(o.target));
    if (c->fn && !d.errors) c->image = codegen_kernel(&c->arena, &d, c->fn, NULL);
    if (!c->image || d.errors) bad_message(c, &d);
    return c->image && !d.errors;
}

/* As module_load would: what has its code in the cache then starts at once. */
static bool assemble_ptx(const struct tune_ask *ask, struct candidate *c)
{
    struct fault why = { 0 };
    struct assemble_options o = *ask->assemble;
    const struct target *t = target_find(c->image->target);
    char suffix = 0;
    if (ask->device->props.emulated) return true;
    if (t && device_target_number(t->ptx_target, &suffix) && !suffix) o.target = ask->device->props.arch;
    enum dgk_status s = module_assemble(c->image->ptx, c->image->ptx_bytes, &o, &c->cubin, &c->bytes, NULL, NULL, &why);
    if (s && s != DGK_NO_ASSEMBLER) bad(c, "%s", why.text);
    return !s || s == DGK_NO_ASSEMBLER;
}

static void compile_one(struct tuner *t, struct candidate *c)
{
    c->compiled = true;
    c->ready = compile_ptx(t->ask, c) && assemble_ptx(t->ask, c);
    if (c->fn) c->estimate = choose_cost(&t->ask->call, c->fn).us;
}

static void *compile_some(void *state)
{
    struct tuner *t = state;
    pthread_mutex_lock(&t->lock);
    while (t->next < t->end && !(t->compile_until > 0 && now() > t->compile_until)) {
        struct candidate *c = t->all.at[t->next++];
        pthread_mutex_unlock(&t->lock);
        if (!c->out && !c->compiled) compile_one(t, c);
        pthread_mutex_lock(&t->lock);
        t->done++;
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void remember(struct tuner *t, const struct candidate *c)
{
    struct tunedb_entry e = { c->values, isfinite(c->us) ? c->us : 0, c->count, c->state, false };
    if (c->count || c->state == TUNEDB_BAD) tunedb_write(&t->key, &e);
}

/* Candidates from `first` on, by as many threads as there are cores; this thread shows how far they are. */
static void compile_all(struct tuner *t, int first, enum tune_stage stage)
{
    pthread_t threads[64];
    long cores = t->ask->threads > 0 ? t->ask->threads : sysconf(_SC_NPROCESSORS_ONLN);
    int n = 0, todo = t->all.n - first;
    if (cores > COUNT(threads)) cores = COUNT(threads);
    t->next = first, t->end = t->all.n, t->done = 0, t->stage_begun = now();
    while (n < cores && n < todo && !pthread_create(&threads[n], NULL, compile_some, t)) n++;
    if (!n) compile_some(t);
    for (bool busy = n > 0; busy;) {
        struct timespec pause = { 0, 50000000 };
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&t->lock);
        int done = t->done;
        busy = done < todo && !(t->compile_until > 0 && now() > t->compile_until);
        pthread_mutex_unlock(&t->lock);
        show(t, stage, done, todo);
    }
    for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
    for (int i = first; i < t->all.n; i++) {
        struct candidate *c = t->all.at[i];
        if (!c->compiled) c->out = true; /* no time for it */
        if (c->compiled && c->state == TUNEDB_BAD) remember(t, c);
    }
}

/* ---- candidates ------------------------------------------------------------------------------------------------ */

static struct candidate *find(const struct tuner *t, const char *values)
{
    for (int i = 0; i < t->all.n; i++)
        if (!strcmp(t->all.at[i]->values, values)) return t->all.at[i];
    return NULL;
}

static struct candidate *add(struct tuner *t, const struct binding *at, int n)
{
    const char *values = tune_values_text(t->arena, at, n);
    struct candidate *c = find(t, values);
    if (c) return c;
    c = calloc(1, sizeof *c);
    if (!c) base_oom(sizeof *c);
    c->at = at, c->n = n, c->values = values, c->us = INFINITY;
    vec_push(t->arena, &t->all, c);
    return c;
}

/* What is chosen when nothing was measured, with every other key at its first choice: the first candidate. */
static void add_standard(struct tuner *t, const struct choose_candidate *like)
{
    struct binding chosen[64];
    int n = choose_tune(&t->ask->call, chosen, COUNT(chosen));
    struct binding *at = new_n(t->arena, struct binding, (like ? like->n : 0) + n + 1);
    struct diag d;
    diag_init(&d, t->arena);
    tune_space space = compiler_tune_space(t->arena, &d, t->ask->call.kernel, t->ask->call.options);
    int count = 0;
    for (int i = 0; like && i < like->n; i++) {
        const char *value = NULL;
        for (int k = 0; k < space.n && !value; k++)
            if (!strcmp(space.at[k].name, like->at[i].name)) value = space.at[k].choices.at[0];
        for (int k = 0; k < n; k++)
            if (!strcmp(chosen[k].name, like->at[i].name)) value = chosen[k].value;
        at[count++] = (struct binding){ like->at[i].name, value };
    }
    add(t, at, count)->standard = true;
}

static bool mine(const struct tune_ask *ask, int i) { return ask->shards < 2 || i % ask->shards == ask->shard; }

/* Measurements on disk: bad ones and slow ones need no more. */
static void recall(struct tuner *t, int first)
{
    double best = INFINITY;
    for (int i = 0; i < t->known.n; i++)
        if (t->known.at[i].state != TUNEDB_BAD && t->known.at[i].us < best) best = t->known.at[i].us;
    for (int i = first; i < t->all.n; i++) {
        struct candidate *c = t->all.at[i];
        for (int k = 0; k < t->known.n; k++) {
            const struct tunedb_entry *e = &t->known.at[k];
            if (strcmp(e->values, c->values)) continue;
            c->state = e->state;
            c->count = e->count;
            c->us = e->state == TUNEDB_BAD ? (double)INFINITY : e->us;
            if (e->state == TUNEDB_BAD) snprintf(c->why, sizeof c->why, "found bad before");
            c->out = e->state == TUNEDB_BAD || (e->us > best * KNOWN_SLOW && !c->standard);
        }
    }
}

static int by_known_us(const void *a, const void *b)
{
    const struct tunedb_entry *x = a, *y = b;
    return x->us != y->us ? (x->us > y->us) - (x->us < y->us) : strcmp(x->values, y->values);
}

/* The best of earlier runs go on, wherever they were found. */
static void add_known(struct tuner *t)
{
    int added = 0;
    if (t->known.n) qsort(t->known.at, (size_t)t->known.n, sizeof *t->known.at, by_known_us);
    for (int i = 0; i < t->known.n && added < FINALISTS; i++) {
        struct binding *at = new_n(t->arena, struct binding, 64);
        if (t->known.at[i].state == TUNEDB_BAD) continue;
        add(t, at, tunedb_values(t->arena, t->known.at[i].values, at, 64));
        added++;
    }
}

static void add_candidates(struct tuner *t)
{
    int room = t->ask->most > 0 ? t->ask->most : MOST;
    struct choose_candidate *all = new_n(t->arena, struct choose_candidate, room + 1);
    int n = choose_candidates(&t->ask->call, all, room);
    add_standard(t, n ? &all[0] : NULL);
    for (int i = 0; i < n; i++)
        if (mine(t->ask, i)) add(t, all[i].at, all[i].n);
    add_known(t);
}

/* ---- timing ---------------------------------------------------------------------------------------------------- */

static bool load(struct tuner *t, struct candidate *c)
{
    struct device *d = t->ask->device;
    struct fault why = { 0 };
    if (c->module) return true;
    if (d->ops->load(d, c->cubin ? c->cubin : c->image->ptx, c->cubin ? c->bytes : c->image->ptx_bytes, &c->module, &why)) bad(c, "%s", why.text);
    return c->module != NULL;
}

static enum dgk_status open_timing(struct tuner *t, const struct candidate *c, struct fault *why)
{
    struct timing_call call = { &t->ask->call, c->fn, c->image, t->ask->scalars, t->ask->n_scalars };
    t->opened = true;
    return timing_open(&t->timing, t->ask->device, &call, why);
}

/* A failed launch may have taken the device with it: what is written now would be lost, so nothing more is tried. */
static void launch_failed(struct tuner *t, struct candidate *c, const struct fault *why)
{
    struct fault unused;
    bad(c, "%s", why->text);
    remember(t, c);
    if (why->status == DGK_LAUNCH && !t->ask->device->props.emulated && t->ask->device->ops->sync(t->ask->device, &unused)) t->lost = true;
}

/* A median of everything so far; of old samples the later ones stay. */
static void take_samples(struct candidate *c, const double *us, int n)
{
    double sorted[SAMPLES];
    for (int i = 0; i < n; i++) c->samples[c->count++ % SAMPLES] = us[i];
    int have = c->count < SAMPLES ? c->count : SAMPLES;
    memcpy(sorted, c->samples, sizeof *sorted * (size_t)have);
    c->us = timing_median(sorted, have);
    if (c->state == TUNEDB_BAD) c->state = TUNEDB_TIMED;
}

static void turn(struct tuner *t, struct candidate *c)
{
    bool first = !c->module, emulated = t->ask->device->props.emulated;
    double us[LAUNCHES];
    int n = emulated ? 1 : LAUNCHES;
    struct fault why = { 0 };
    if (c->out || !c->ready || t->lost || (emulated && c->module) || !load(t, c)) return;
    if (first) {
        if (c->count) c->count = 0, c->us = INFINITY; /* measured by another run: begin anew, under today's conditions */
        struct tunedb_entry doubt = { c->values, 0, 0, TUNEDB_BAD, false };
        if (t->ask->guard && !emulated) tunedb_write(&t->key, &doubt); /* should it never end, the next run knows */
        if (t->ask->guard) t->ask->guard(t->ask->state, true);
    }
    enum dgk_status s = timing_run(&t->timing, c->image, c->module, n, us, &why);
    if (first && t->ask->guard) t->ask->guard(t->ask->state, false);
    if (s) {
        launch_failed(t, c, &why);
        return;
    }
    take_samples(c, us, n);
    if (first) remember(t, c);
    if (c->us < t->best_us) t->best_us = c->us;
}

static int by_us(const void *a, const void *b)
{
    const struct candidate *x = *(struct candidate *const *)a, *y = *(struct candidate *const *)b;
    if (x->out != y->out) return x->out - y->out;
    return x->us != y->us ? (x->us > y->us) - (x->us < y->us) : strcmp(x->values, y->values);
}

static void drop(struct tuner *t, struct candidate *c)
{
    remember(t, c);
    c->out = true;
    if (!c->standard && c->module) {
        t->ask->device->ops->unload(t->ask->device, c->module);
        c->module = NULL;
        c->ready = false;
    }
}

static int count_alive(struct tuner *t)
{
    t->alive = 0;
    for (int i = 0; i < t->all.n; i++) t->alive += !t->all.at[i]->out && t->all.at[i]->ready;
    return t->alive;
}

/* Turns for all that are in the race, in the same order each pass, so that drifts of the clock meet them alike. */
static void round_of_turns(struct tuner *t, int passes, bool cut)
{
    int of = count_alive(t) * passes, done = 0;
    t->stage_begun = now();
    for (int p = 0; p < passes && !t->lost; p++)
        for (int i = 0; i < t->all.n && !t->lost; i++) {
            struct candidate *c = t->all.at[i];
            if (c->out || !c->ready) continue;
            turn(t, c);
            show(t, TUNE_TIMING, ++done < of ? done : of, of);
            if (cut && !c->out && !c->standard && c->us > t->best_us * HOPELESS) drop(t, c);
            if (out_of_time(t) && t->best_us < INFINITY && i + 1 == t->all.n) return;
        }
}

static void halve(struct tuner *t)
{
    for (bool first = true; count_alive(t) > FINALISTS && !t->lost && (first || !out_of_time(t)); first = false) {
        round_of_turns(t, PASSES, true);
        int keep = (count_alive(t) + 1) / 2;
        if (keep < FINALISTS) keep = FINALISTS;
        qsort(t->all.at, (size_t)t->all.n, sizeof *t->all.at, by_us);
        for (int i = 0, n = 0; i < t->all.n; i++) {
            struct candidate *c = t->all.at[i];
            if (c->out || !c->ready) continue;
            if (n++ >= keep && !c->standard) drop(t, c);
        }
        if (t->ask->device->props.emulated) break; /* the same time whenever it runs */
    }
    if (!t->lost) round_of_turns(t, FINAL_PASSES, false);
    qsort(t->all.at, (size_t)t->all.n, sizeof *t->all.at, by_us);
}

/* ---- checking -------------------------------------------------------------------------------------------------- */

static double allowed(const struct candidate *c)
{
    double most = c->fn->specs.n ? FLOAT_DISTANCE : NO_SPEC_DISTANCE;
    for (int i = 0; i < c->fn->specs.n; i++)
        if (c->fn->specs.at[i].tol * 2 > most) most = c->fn->specs.at[i].tol * 2;
    return most;
}

static void check_one(struct tuner *t, struct candidate *c)
{
    struct fault why = { 0 };
    void **got = new_n(t->arena, void *, t->timing.n + 1);
    if (c->state == TUNEDB_CHECKED || !c->ready || !load(t, c)) return;
    enum dgk_status s = timing_result(&t->timing, c->image, c->module, got, &why);
    if (s) {
        launch_failed(t, c, &why);
    } else if (!t->wanted) {
        t->wanted = got;
        c->state = TUNEDB_CHECKED;
        remember(t, c);
        return;
    } else {
        double off = timing_distance(&t->timing, got, t->wanted);
        if (off <= allowed(c)) c->state = TUNEDB_CHECKED;
        else bad(c, "its result differs from the standard's by %.2g", off);
        remember(t, c);
    }
    timing_free_result(&t->timing, got);
}

/* The standard first: what it computes is what the others must. */
static void check_finalists(struct tuner *t)
{
    for (int i = 0; i < t->all.n && !t->wanted && !t->lost; i++)
        if (t->all.at[i]->standard && t->all.at[i]->ready) t->all.at[i]->state = TUNEDB_TIMED, check_one(t, t->all.at[i]);
    t->stage_begun = now();
    int n = count_alive(t), done = 0;
    for (int i = 0; i < t->all.n && !t->lost; i++)
        if (!t->all.at[i]->out && t->all.at[i]->ready) {
            if (!t->all.at[i]->standard) check_one(t, t->all.at[i]);
            show(t, TUNE_CHECKING, ++done < n ? done : n, n);
        }
    qsort(t->all.at, (size_t)t->all.n, sizeof *t->all.at, by_us);
}

/* ---- around the best ------------------------------------------------------------------------------------------- */

static struct candidate *best(const struct tuner *t)
{
    struct candidate *b = NULL;
    for (int i = 0; i < t->all.n; i++) {
        struct candidate *c = t->all.at[i];
        if (c->ready && !c->out && isfinite(c->us) && (!b || c->us < b->us)) b = c;
    }
    return b;
}

/* Every variant that differs from the best in one value. */
static void add_neighbours(struct tuner *t, const struct candidate *of)
{
    struct diag d;
    diag_init(&d, t->arena);
    tune_space space = compiler_tune_space(t->arena, &d, t->ask->call.kernel, t->ask->call.options);
    for (int k = 0; k < of->n; k++)
        for (int s = 0; s < space.n; s++) {
            if (strcmp(space.at[s].name, of->at[k].name)) continue;
            for (int x = 0; x < space.at[s].choices.n && x < 32; x++) {
                struct binding *at = new_n(t->arena, struct binding, of->n + 1);
                for (int i = 0; i < of->n; i++) at[i] = of->at[i];
                at[k].value = space.at[s].choices.at[x];
                add(t, at, of->n);
            }
        }
}

static void search_around(struct tuner *t)
{
    for (int round = 0; round < AROUND_ROUNDS && !t->lost && !out_of_time(t); round++) {
        struct candidate *from = best(t);
        int first = t->all.n;
        if (!from || (t->ask->shards > 1)) return;
        double before = from->us;
        add_neighbours(t, from);
        recall(t, first);
        t->compile_until = t->until;
        compile_all(t, first, TUNE_AROUND);
        halve(t);
        from = best(t);
        if (!from || from->us * GAIN > before) return;
    }
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

static int by_state(const void *a, const void *b)
{
    const struct tune_row *x = a, *y = b;
    if ((x->state == TUNEDB_BAD) != (y->state == TUNEDB_BAD)) return (x->state == TUNEDB_BAD) - (y->state == TUNEDB_BAD);
    return x->us != y->us ? (x->us > y->us) - (x->us < y->us) : strcmp(x->values, y->values);
}

static void publish(struct tuner *t, struct tune_result *out)
{
    out->standard_us = INFINITY;
    out->device_lost = t->lost;
    out->out_of_time = out_of_time(t);
    for (int i = 0; i < t->all.n; i++) {
        const struct candidate *c = t->all.at[i];
        if (!c->count && c->state != TUNEDB_BAD) continue; /* there was no time for it */
        struct tune_row r = { c->values, c->us, c->estimate, c->count, c->state, c->standard, arena_strndup(t->arena, c->why, strlen(c->why)) };
        if (c->standard) out->standard_us = c->us;
        vec_push(t->arena, &out->rows, r);
    }
    if (out->rows.n) qsort(out->rows.at, (size_t)out->rows.n, sizeof *out->rows.at, by_state);
}

static enum dgk_status race(struct tuner *t, struct fault *why)
{
    const struct candidate *any = NULL;
    t->compile_until = t->ask->budget > 0 ? t->begun + t->ask->budget * COMPILE_SHARE : 0;
    compile_all(t, 0, TUNE_COMPILING);
    for (int i = 0; i < t->all.n && !any; i++) any = t->all.at[i]->ready ? t->all.at[i] : NULL;
    if (!any) return fault_set(why, DGK_UNSUPPORTED, "no variant compiles: %s", t->all.n && *t->all.at[0]->why ? t->all.at[0]->why : "there was no time");
    enum dgk_status s = open_timing(t, any, why);
    if (s) return s;
    halve(t);
    search_around(t);
    check_finalists(t);
    for (int i = 0; i < t->all.n; i++)
        if (!t->all.at[i]->out) remember(t, t->all.at[i]);
    return DGK_OK;
}

static void close_tuner(struct tuner *t)
{
    for (int i = 0; i < t->all.n; i++) {
        struct candidate *c = t->all.at[i];
        if (c->module) t->ask->device->ops->unload(t->ask->device, c->module);
        free(c->cubin);
        arena_free(&c->arena);
        free(c);
    }
    if (t->wanted) timing_free_result(&t->timing, t->wanted);
    if (t->opened) timing_close(&t->timing);
    pthread_mutex_destroy(&t->lock);
}

enum dgk_status tune_call(const struct tune_ask *ask, struct tune_result *out, struct fault *why)
{
    struct tuner t = { .ask = ask, .arena = ask->call.arena, .begun = now(), .best_us = INFINITY };
    *out = (struct tune_result){ .standard_us = INFINITY };
    if (!tunedb_key(&ask->call, &t.key)) return fault_set(why, DGK_USAGE, "a size is missing; --shape must name every dimension of %s", ask->call.kernel->name);
    pthread_mutex_init(&t.lock, NULL);
    if (ask->budget > 0) t.until = t.begun + ask->budget;
    if (!ask->again) t.known = tunedb_read(t.arena, &t.key, false);
    add_candidates(&t);
    recall(&t, 0);
    for (int i = 0; i < t.all.n; i++) out->known += t.all.at[i]->count > 0 || t.all.at[i]->state == TUNEDB_BAD;
    enum dgk_status s = race(&t, why);
    publish(&t, out);
    close_tuner(&t);
    return s;
}
