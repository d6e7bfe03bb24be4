/* choose - tune values for a call: measured ones where there are any, else by the cost model: every promising variant is
 * lowered and estimated, the best that also generates code is taken. The model measures nothing, so the same ask gets the
 * same answer anywhere. */
#include "runtime/choose.h"

#include "codegen/codegen.h"
#include "runtime/tunedb.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_KEYS = 32,
    MOST_PRODUCT = 512,       /* variants estimated all; beyond, one key at a time */
    MOST_TRIED = 1024,
    MOST_PROMISING = 24,
    FEW_CHOICES = 2,
    MOST_GENERATED = 12,
    LEAST_SLOTS = 3,
    RESERVE_BYTES = 24 * 1024, /* of shared memory, for barriers and the store's staging */
    ACCUM_REGS = 208,         /* of the 232 that threads of two warpgroups have; */
    LEAST_REGS = 30,          /* beside them, of those that the kernel's width leaves a thread */
    FACTOR_REGS = 8           /* of them, where products are scaled, for the factors */
};
#define ALIKE 1.005           /* estimates this close are no better than each other: the author's order decides */
#define STEP_ASIDE 1.03       /* what leaving the author's first choice counts where the model has no opinion */

struct variant {
    uint8_t at[MOST_KEYS]; /* by key: index into its choices */
    int aside;             /* how far from the author's first choices */
    double us;
};

struct search {
    const struct choose_ask *ask;
    const struct target *target;
    tune_space space;
    bool open[MOST_KEYS];  /* the model tells this key's choices apart, and the call leaves them free */
    bool late[MOST_KEYS];  /* it does, but no other choice hangs on it: weighed for the variants that are taken */
    const char *parts[MOST_KEYS]; /* "cluster(s)": the key that says how many parts s is cut in */
    struct arena scratch;  /* of one estimate */
    struct variant *tried;
    int n;
};

static bool fixed(const struct compile_options *o, const char *name)
{
    for (int i = 0; i < o->n_tune; i++)
        if (!strcmp(o->tune[i].name, name)) return true;
    return false;
}

/* Of "cluster(s)", s an axis cut in parts, where the parts meet: the axis. */
static const struct node *parts_meet(const struct node *kernel, const char *name)
{
    size_t n = strlen("cluster(");
    for (int i = 0; i < kernel->b->list.n && !strncmp(name, "cluster(", n); i++) {
        const struct node *x = kernel->b->list.at[i];
        if (x->kind == N_axis && x->c && !strncmp(name + n, x->name, strlen(x->name)) && name[n + strlen(x->name)] == ')') return x;
    }
    return NULL;
}

/* Tile extents, splits and where their parts meet, widths; not what steers overlap (slots, deal, unroll, other clusters): there
 * the author's first choice holds. */
static bool modelled(const struct node *kernel, const char *name)
{
    const char *dot = strchr(name, '.');
    return parts_meet(kernel, name) || (!strchr(name, '(') && (!dot || !strncmp(dot, ".warp", 5)));
}

static int bindings(const struct search *s, const struct variant *v, struct binding *out)
{
    int n = 0;
    for (int i = 0; i < s->ask->options->n_tune; i++) out[n++] = s->ask->options->tune[i];
    for (int k = 0; k < s->space.n; k++)
        if (s->open[k] || s->late[k]) out[n++] = (struct binding){ s->space.at[k].name, s->space.at[k].choices.at[v->at[k]] };
    return n;
}

/* Sizes in the order of the lowered kernel's dimensions; no more than kernels count to, calls with more are refused. */
static void order_dims(const struct choose_ask *ask, const struct ir_fn *fn, int64_t *out)
{
    for (int i = 0; i < fn->dims.n; i++) {
        out[i] = fn->dims.at[i].value >= 0 ? fn->dims.at[i].value : 1;
        for (int k = 0; k < ask->n_dims; k++)
            if (!strcmp(ask->dims[k], fn->dims.at[i].name) && ask->sizes[k] >= 0) out[i] = ask->sizes[k] < INT32_MAX ? ask->sizes[k] : INT32_MAX;
    }
}

static struct ir_fn *lower(struct search *s, struct arena *a, struct diag *d, const struct variant *v)
{
    struct binding *tune = new_n(a, struct binding, s->ask->options->n_tune + MOST_KEYS);
    struct compile_options o = *s->ask->options;
    diag_init(d, a);
    o.tune = tune;
    o.n_tune = bindings(s, v, tune);
    struct ir_fn *fn = compiler_lower(a, d, s->ask->file, s->ask->kernel, &o);
    if (fn && !d->errors) compiler_passes(a, d, fn, s->target);
    return d->errors ? NULL : fn;
}

struct cost choose_cost(const struct choose_ask *ask, const struct ir_fn *fn)
{
    const struct target *t = target_find(ask->options->target);
    struct arena scratch = { 0 };
    int64_t *dims = new_n(&scratch, int64_t, fn->dims.n + 1);
    order_dims(ask, fn, dims);
    struct cost c = cost_estimate(fn, t, dims, ask->sms);
    arena_free(&scratch);
    bool fits = c.accum_regs + c.lack_regs + (c.serial > 0 ? FACTOR_REGS : 0) <= ACCUM_REGS;
    fits &= c.slot_bytes * 2 + c.other_bytes + RESERVE_BYTES <= t->smem_bytes;
    /* Few slots hide little latency: a fifth more for each one short of what it takes. */
    double slots = c.slot_bytes ? (double)(t->smem_bytes - RESERVE_BYTES - c.other_bytes) / c.slot_bytes : LEAST_SLOTS;
    c.us = fits ? c.us * (slots < LEAST_SLOTS ? 1 + 0.2 * (LEAST_SLOTS - slots) : 1) : (double)INFINITY;
    return c;
}

static double estimate(struct search *s, const struct variant *v)
{
    struct diag d;
    struct ir_fn *fn = lower(s, &s->scratch, &d, v);
    double us = fn ? choose_cost(s->ask, fn).us : (double)INFINITY;
    arena_reset(&s->scratch);
    return us;
}

static const char *value_of(const struct search *s, const struct variant *v, const char *name)
{
    for (int k = 0; k < s->space.n; k++)
        if (s->open[k] && !strcmp(s->space.at[k].name, name)) return s->space.at[k].choices.at[v->at[k]];
    for (int i = 0; i < s->ask->options->n_tune; i++)
        if (!strcmp(s->ask->options->tune[i].name, name)) return s->ask->options->tune[i].value;
    return "1";
}

/* Where parts meet in clusters, each CTA of one is a part; other clusters do nothing for them. */
static bool sensible(const struct search *s, const struct variant *v)
{
    for (int k = 0; k < s->space.n; k++) {
        if (!s->open[k] || !s->parts[k]) continue;
        const char *cluster = s->space.at[k].choices.at[v->at[k]];
        if (strcmp(cluster, "1") && strcmp(cluster, value_of(s, v, s->parts[k]))) return false;
    }
    return true;
}

bool choose_estimate(const struct choose_ask *ask, struct cost *out)
{
    struct arena a = { 0 };
    struct diag d;
    const struct target *t = target_find(ask->options->target);
    diag_init(&d, &a);
    struct ir_fn *fn = t ? compiler_lower(&a, &d, ask->file, ask->kernel, ask->options) : NULL;
    if (fn && !d.errors) compiler_passes(&a, &d, fn, t);
    bool ok = fn && !d.errors;
    if (ok) *out = choose_cost(ask, fn);
    arena_free(&a);
    return ok;
}

/* Where parts meet follows from how many there are: that is no step of its own. */
static int steps_aside(const struct search *s, const struct variant *v)
{
    int n = 0;
    for (int k = 0; k < s->space.n; k++) n += s->parts[k] ? 0 : v->at[k];
    return n;
}

/* Estimates v unless it was before, or cannot be of use; returns -1 when there is no room. */
static int try_variant(struct search *s, const struct variant *v)
{
    for (int i = 0; i < s->n; i++)
        if (!memcmp(s->tried[i].at, v->at, sizeof v->at)) return i;
    if (!sensible(s, v)) return 0;
    if (s->n == MOST_TRIED) return -1;
    s->tried[s->n] = *v;
    s->tried[s->n].us = estimate(s, v);
    s->tried[s->n].aside = steps_aside(s, v);
    return s->n++;
}

/* All combinations of the keys in `in`, the others as in v. */
static void try_product(struct search *s, struct variant v, const bool *in, int key)
{
    while (key < s->space.n && !in[key]) key++;
    if (key == s->space.n) {
        try_variant(s, &v);
        return;
    }
    for (int c = 0; c < s->space.at[key].choices.n && c < 256; c++) {
        v.at[key] = (uint8_t)c;
        try_product(s, v, in, key + 1);
    }
}

static const struct variant *best(const struct search *s)
{
    const struct variant *b = NULL;
    for (int i = 0; i < s->n; i++)
        if (isfinite(s->tried[i].us) && (!b || s->tried[i].us < b->us)) b = &s->tried[i];
    return b;
}

/* One key at a time from the best so far, until nothing improves. */
static void descend(struct search *s)
{
    for (int round = 0; round < 3; round++) {
        const struct variant *from = best(s);
        double before = from ? from->us : INFINITY;
        for (int k = 0; k < s->space.n; k++) {
            struct variant v = { 0 };
            if (!s->open[k]) continue;
            if (best(s)) v = *best(s);
            for (int c = 0; c < s->space.at[k].choices.n && c < 256; c++) {
                v.at[k] = (uint8_t)c;
                if (try_variant(s, &v) < 0) return;
            }
        }
        const struct variant *now = best(s);
        if (!now || !(now->us < before)) return;
    }
}

/* How many times as many variants a key makes. Clusters in which parts meet are as large as there are parts, or none. */
static double width(const struct search *s, int key) { return s->parts[key] ? 2 : s->space.at[key].choices.n; }

/* Keys for the full product: what changes how tiles end, for the best tile hangs on it; then widest first, as long as the product
 * stays small. */
static void choose_product(const struct search *s, bool *in)
{
    double product = 1;
    for (int k = 0; k < s->space.n; k++)
        if (s->open[k] && !strncmp(s->space.at[k].name, "ahead(", 6)) in[k] = true, product *= width(s, k);
    for (;;) {
        int widest = -1;
        for (int k = 0; k < s->space.n; k++) {
            if (!s->open[k] || in[k] || product * width(s, k) > MOST_PRODUCT) continue;
            double more = widest < 0 ? 1 : width(s, k) - width(s, widest);
            if (more > 0 || (more == 0 && s->parts[k])) widest = k;
        }
        if (widest < 0) return;
        in[widest] = true;
        product *= width(s, widest);
    }
}

/* Faster first; of equals, what stands earlier in the author's lists. */
static int by_time(const void *a, const void *b)
{
    const struct variant *x = a, *y = b;
    if (x->us != y->us) return x->us < y->us ? -1 : 1;
    if (x->aside != y->aside) return x->aside - y->aside;
    return memcmp(x->at, y->at, sizeof x->at);
}

/* Those about as fast as the first come in the author's order. */
static int by_order(const void *a, const void *b)
{
    const struct variant *x = a, *y = b;
    return x->aside != y->aside ? x->aside - y->aside : by_time(a, b);
}

static void rank(struct search *s)
{
    int alike = 0;
    qsort(s->tried, (size_t)s->n, sizeof *s->tried, by_time);
    while (alike < s->n && s->tried[alike].us <= s->tried[0].us * ALIKE && isfinite(s->tried[alike].us)) alike++;
    qsort(s->tried, (size_t)alike, sizeof *s->tried, by_order);
}

static bool generates(struct search *s, const struct variant *v)
{
    struct arena a = { 0 };
    struct diag d;
    struct ir_fn *fn = lower(s, &a, &d, v);
    int registers = 0;
    struct codegen_options o = { .registers = &registers };
    bool ok = fn && codegen_kernel(&a, &d, fn, &o) && !d.errors;
    if (ok) ok = choose_cost(s->ask, fn).accum_regs + LEAST_REGS <= registers;
    arena_free(&a);
    return ok;
}

/* Whether choice c of a key that the product left out may do more for v than for others: where parts meet, all or none; widths. */
static bool worth_trying(const struct search *s, const struct variant *v, int key, int c)
{
    if (!s->parts[key]) return s->space.at[key].choices.n <= FEW_CHOICES;
    return !strcmp(s->space.at[key].choices.at[c], value_of(s, v, s->parts[key]));
}

/* The most promising once more, with what the product left out. */
static void try_left_out(struct search *s, const bool *in)
{
    for (int k = 0; k < s->space.n; k++) {
        if (!s->open[k] || in[k]) continue;
        qsort(s->tried, (size_t)s->n, sizeof *s->tried, by_time);
        for (int i = 0, n = s->n < MOST_PROMISING ? s->n : MOST_PROMISING; i < n; i++) {
            struct variant v = s->tried[i];
            for (int c = 0; c < s->space.at[k].choices.n && c < 256; c++) {
                if (!worth_trying(s, &v, k, c)) continue;
                v.at[k] = (uint8_t)c;
                try_variant(s, &v);
            }
        }
    }
}

static bool adds(const ir_block *b)
{
    for (int i = 0; i < b->n; i++)
        if ((b->at[i]->kind == S_store && b->at[i]->mode == MODE_add) || adds(&b->at[i]->body) || adds(&b->at[i]->other)) return true;
    return false;
}

/* Whether the kernel, as it is called here, adds to what a tensor holds. */
static bool adds_to_tensors(struct search *s)
{
    struct diag d;
    struct variant first = { .us = 0 };
    struct ir_fn *fn = lower(s, &s->scratch, &d, &first);
    bool any = false;
    for (int i = 0; fn && i < fn->roles.n; i++) any |= adds(&fn->roles.at[i]->body);
    arena_reset(&s->scratch);
    return any;
}

static void open_keys(struct search *s)
{
    const struct choose_ask *ask = s->ask;
    int ahead = -1;
    for (int k = 0; k < s->space.n; k++) {
        const char *name = s->space.at[k].name;
        const struct node *cut = parts_meet(ask->kernel, name);
        bool free_here = !fixed(ask->options, name) && s->space.at[k].choices.n > 1;
        s->open[k] = free_here && modelled(ask->kernel, name);
        s->late[k] = free_here && !strncmp(name, "cache(", 6);
        s->parts[k] = cut && cut->c->kind == N_name ? cut->c->name : NULL;
        if (free_here && !strncmp(name, "ahead(", 6)) ahead = k;
    }
    if (ahead >= 0) s->open[ahead] = adds_to_tensors(s);
}

/* v with the best choices of late keys. */
static struct variant settled(struct search *s, struct variant v)
{
    for (int k = 0; k < s->space.n; k++) {
        struct variant other = v;
        for (int c = 0; s->late[k] && c < s->space.at[k].choices.n && c < 256; c++) {
            other.at[k] = (uint8_t)c;
            other.us = estimate(s, &other);
            if (other.us < v.us) v = other;
        }
    }
    return v;
}

/* Estimates what is promising, best first. False: there is nothing to choose. */
static bool search(struct search *s, const struct choose_ask *ask)
{
    struct diag d;
    bool in[MOST_KEYS] = { false };
    *s = (struct search){ .ask = ask, .target = target_find(ask->options->target) };
    diag_init(&d, ask->arena);
    if (!s->target) return false;
    s->space = compiler_tune_space(ask->arena, &d, ask->kernel, ask->options);
    if (s->space.n > MOST_KEYS || d.errors) return false;
    open_keys(s);
    s->tried = calloc(MOST_TRIED, sizeof *s->tried);
    if (!s->tried) base_oom(MOST_TRIED * sizeof *s->tried);
    choose_product(s, in);
    try_product(s, (struct variant){ .us = 0 }, in, 0);
    try_left_out(s, in);
    descend(s);
    rank(s);
    arena_reset(&s->scratch);
    return true;
}

static int opened(const struct search *s)
{
    int n = 0;
    for (int k = 0; k < s->space.n; k++) n += s->open[k];
    return n;
}

static struct choose_candidate publish(const struct search *s, const bool *is_free, const struct variant *v)
{
    struct choose_candidate c = { .us = v->us };
    c.at = new_n(s->ask->arena, struct binding, s->space.n + 1);
    for (int k = 0; k < s->space.n; k++)
        if (s->open[k] || is_free[k] || (s->late[k] && v->at[k])) c.at[c.n++] = (struct binding){ s->space.at[k].name, s->space.at[k].choices.at[v->at[k]] };
    return c;
}

int choose_ranking(const struct choose_ask *ask, struct choose_candidate *out, int room)
{
    static const bool none[MOST_KEYS];
    struct search s;
    int n = 0;
    if (!search(&s, ask)) return 0;
    for (int i = 0; opened(&s) && i < s.n && i < MOST_GENERATED && n < room && isfinite(s.tried[i].us); i++) {
        if (!generates(&s, &s.tried[i])) continue;
        struct variant v = settled(&s, s.tried[i]);
        out[n++] = publish(&s, none, &v);
    }
    arena_free(&s.scratch);
    free(s.tried);
    return n;
}

int choose_tune(const struct choose_ask *ask, struct binding *out, int room)
{
    struct choose_candidate best;
    int n = choose_ranking(ask, &best, 1) ? best.n : 0;
    if (n > room) n = room;
    for (int i = 0; i < n; i++) out[i] = best.at[i];
    return n;
}

int choose_for_call(const struct choose_ask *ask, struct binding *out, int room)
{
    int n = tunedb_best(ask, out, room);
    return n > 0 ? n : choose_tune(ask, out, room);
}

/* ---- candidates to measure ------------------------------------------------------------------------------------- */

struct candidates {
    struct search *s;
    struct variant *at;
    int n, room;
    bool free_key[MOST_KEYS]; /* the call leaves it free; the model has no opinion */
};

static void add_candidate(struct candidates *c, struct variant v, double penalty)
{
    if (c->n == c->room) return;
    v.us *= penalty;
    v.aside = steps_aside(c->s, &v);
    c->at[c->n++] = v;
}

/* v, and v with one or two of the free keys at other choices than the author's first. */
static void add_around(struct candidates *c, const struct variant *v)
{
    add_candidate(c, *v, 1);
    for (int k = 0; k < c->s->space.n; k++)
        for (int x = 1; c->free_key[k] && x < c->s->space.at[k].choices.n && x < 256; x++) {
            struct variant one = *v;
            one.at[k] = (uint8_t)x;
            add_candidate(c, one, STEP_ASIDE);
            for (int l = k + 1; l < c->s->space.n; l++)
                for (int y = 1; c->free_key[l] && y < c->s->space.at[l].choices.n && y < 256; y++) {
                    struct variant two = one;
                    two.at[l] = (uint8_t)y;
                    add_candidate(c, two, STEP_ASIDE * STEP_ASIDE);
                }
        }
}

int choose_candidates(const struct choose_ask *ask, struct choose_candidate *out, int room)
{
    struct search s;
    struct candidates c = { .s = &s, .room = room * 64 + 64 };
    if (!search(&s, ask)) return 0;
    for (int k = 0; k < s.space.n; k++)
        c.free_key[k] = !s.open[k] && !fixed(ask->options, s.space.at[k].name) && s.space.at[k].choices.n > 1;
    c.at = calloc((size_t)c.room, sizeof *c.at);
    if (!c.at) base_oom((size_t)c.room * sizeof *c.at);
    for (int i = 0; i < s.n && i < room && isfinite(s.tried[i].us); i++) add_around(&c, &s.tried[i]);
    qsort(c.at, (size_t)c.n, sizeof *c.at, by_time);
    int n = c.n < room ? c.n : room;
    for (int i = 0; i < n; i++) out[i] = publish(&s, c.free_key, &c.at[i]);
    free(c.at);
    free(s.tried);
    arena_free(&s.scratch);
    return n;
}
