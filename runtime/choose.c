/* choose - tune values for a call, by the cost model: every promising variant is lowered and estimated, the best that
 * also generates code is taken. Nothing is measured, so the same ask gets the same answer anywhere. */
#include "runtime/choose.h"

#include "codegen/codegen.h"
#include "compiler/cost.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_KEYS = 32, MOST_PRODUCT = 320, MOST_TRIED = 1024, MOST_GENERATED = 12, LEAST_SLOTS = 3, RESERVE_BYTES = 24 * 1024, ACCUM_REGS = 208 };

struct variant {
    uint8_t at[MOST_KEYS]; /* by key: index into its choices */
    double us;
};

struct search {
    const struct choose_ask *ask;
    const struct target *target;
    tune_space space;
    bool open[MOST_KEYS];  /* the model tells this key's choices apart, and the call leaves them free */
    struct variant *tried;
    int n;
};

static bool fixed(const struct compile_options *o, const char *name)
{
    for (int i = 0; i < o->n_tune; i++)
        if (!strcmp(o->tune[i].name, name)) return true;
    return false;
}

/* Tile extents, splits and widths; not what steers overlap (slots, deal, unroll, clusters): there the author's first choice holds. */
static bool modelled(const char *name)
{
    const char *dot = strchr(name, '.');
    return !strchr(name, '(') && (!dot || !strncmp(dot, ".warp", 5));
}

static int bindings(const struct search *s, const struct variant *v, struct binding *out)
{
    int n = 0;
    for (int i = 0; i < s->ask->options->n_tune; i++) out[n++] = s->ask->options->tune[i];
    for (int k = 0; k < s->space.n; k++)
        if (s->open[k]) out[n++] = (struct binding){ s->space.at[k].name, s->space.at[k].choices.at[v->at[k]] };
    return n;
}

/* Sizes in the order of the lowered kernel's dimensions. */
static void order_dims(const struct choose_ask *ask, const struct ir_fn *fn, int64_t *out)
{
    for (int i = 0; i < fn->dims.n; i++) {
        out[i] = fn->dims.at[i].value >= 0 ? fn->dims.at[i].value : 1;
        for (int k = 0; k < ask->n_dims; k++)
            if (!strcmp(ask->dims[k], fn->dims.at[i].name)) out[i] = ask->sizes[k];
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

static double estimate(struct search *s, const struct variant *v)
{
    struct arena a = { 0 };
    struct diag d;
    double us = INFINITY;
    struct ir_fn *fn = lower(s, &a, &d, v);
    if (fn) {
        int64_t *dims = new_n(&a, int64_t, fn->dims.n + 1);
        order_dims(s->ask, fn, dims);
        struct cost c = cost_estimate(fn, s->target, dims, s->ask->sms);
        bool fits = c.accum_regs <= ACCUM_REGS && c.slot_bytes * 2 + RESERVE_BYTES <= s->target->smem_bytes;
        /* Few slots hide little latency: a fifth more for each one short of what it takes. */
        double slots = c.slot_bytes ? (double)(s->target->smem_bytes - RESERVE_BYTES) / c.slot_bytes : LEAST_SLOTS;
        if (fits) us = c.us * (slots < LEAST_SLOTS ? 1 + 0.2 * (LEAST_SLOTS - slots) : 1);
    }
    arena_free(&a);
    return us;
}

/* Estimates v unless it was before; returns its place among those tried, -1 when there is no room. */
static int try_variant(struct search *s, const struct variant *v)
{
    for (int i = 0; i < s->n; i++)
        if (!memcmp(s->tried[i].at, v->at, sizeof v->at)) return i;
    if (s->n == MOST_TRIED) return -1;
    s->tried[s->n] = *v;
    s->tried[s->n].us = estimate(s, v);
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

/* Keys for the full product: widest first, as long as the product stays small. */
static void choose_product(const struct search *s, bool *in)
{
    for (double product = 1;;) {
        int widest = -1;
        for (int k = 0; k < s->space.n; k++)
            if (s->open[k] && !in[k] && s->space.at[k].choices.n > 1 && product * s->space.at[k].choices.n <= MOST_PRODUCT &&
                (widest < 0 || s->space.at[k].choices.n > s->space.at[widest].choices.n)) widest = k;
        if (widest < 0) return;
        in[widest] = true;
        product *= s->space.at[widest].choices.n;
    }
}

static int by_time(const void *a, const void *b)
{
    double x = ((const struct variant *)a)->us, y = ((const struct variant *)b)->us;
    return x < y ? -1 : x > y;
}

static bool generates(struct search *s, const struct variant *v)
{
    struct arena a = { 0 };
    struct diag d;
    struct ir_fn *fn = lower(s, &a, &d, v);
    bool ok = fn && codegen_kernel(&a, &d, fn, NULL) && !d.errors;
    arena_free(&a);
    return ok;
}

int choose_tune(const struct choose_ask *ask, struct binding *out, int room)
{
    struct diag d;
    struct search s = { .ask = ask, .target = target_find(ask->options->target) };
    bool in[MOST_KEYS] = { false };
    int n = 0;
    diag_init(&d, ask->arena);
    if (!s.target) return 0;
    s.space = compiler_tune_space(ask->arena, &d, ask->kernel, ask->options);
    if (s.space.n > MOST_KEYS || d.errors) return 0;
    for (int k = 0; k < s.space.n; k++) {
        s.open[k] = modelled(s.space.at[k].name) && !fixed(ask->options, s.space.at[k].name) && s.space.at[k].choices.n > 1;
        n += s.open[k];
    }
    if (!n) return 0;
    s.tried = calloc(MOST_TRIED, sizeof *s.tried);
    if (!s.tried) base_oom(MOST_TRIED * sizeof *s.tried);
    choose_product(&s, in);
    try_product(&s, (struct variant){ .us = 0 }, in, 0);
    descend(&s);
    qsort(s.tried, (size_t)s.n, sizeof *s.tried, by_time);
    n = 0;
    for (int i = 0; i < s.n && i < MOST_GENERATED && isfinite(s.tried[i].us); i++) {
        if (!generates(&s, &s.tried[i])) continue;
        for (int k = 0; k < s.space.n && n < room; k++)
            if (s.open[k]) out[n++] = (struct binding){ s.space.at[k].name, s.space.at[k].choices.at[s.tried[i].at[k]] };
        break;
    }
    free(s.tried);
    return n;
}
