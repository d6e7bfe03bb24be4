/* The cost model ranks variants as an H200 does: each row was timed there (median of launches with a cold L2). For every
 * shape the variant it takes for best is within a few percent of the best that was timed, what is clearly slower is
 * said to be slower, and what it chooses without being told is as good by its own measure. */
#include "runtime/choose.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SMS = 132 };
#define NEAR 1.04   /* of the best timed */
#define CLEARLY 1.2 /* slower: the model must say so */
#define OFF 1.2     /* between an estimate and its time */

static int passed, failed;

static void check(bool ok, const char *what, const char *about)
{
    if (!ok) printf("FAILED: %s: %s\n", what, about);
    ok ? passed++ : failed++;
}

enum kernel { bf16, fp8 };
static const struct {
    const char *path, *params, *inner;
} kernels[] = {
    [bf16] = { "kernels_dsl/bf16_gemm.dgk", "", "" },
    [fp8] = { "kernels_dsl/fp8_gemm.dgk", "G=128,GN=128", "SB=1" },
};

static const struct timed {
    enum kernel kernel;
    int64_t m, n, k;
    const char *values;
    double us;
} rows[] = {
    { bf16, 8192, 8192, 8192, "BM=128,BN=256", 1374 },
    { bf16, 4096, 4096, 7168, "BM=128,BN=256", 294 },
    { bf16, 4096, 4096, 7168, "BM=256,BN=128", 297 },
    { bf16, 4096, 4096, 7168, "BM=128,BN=128", 312 },
    { bf16, 4096, 4096, 7168, "BM=256,BN=192", 319 },
    { bf16, 4096, 4096, 7168, "BM=128,BN=192", 332 },
    { bf16, 4096, 7168, 2048, "BM=128,BN=256", 157 },
    { bf16, 4096, 7168, 2048, "BM=128,BN=128", 162 },
    { bf16, 128, 4096, 7168, "BM=64,BN=64", 23.8 },
    { bf16, 128, 4096, 7168, "BM=128,BN=64", 23.9 },
    { bf16, 128, 4096, 7168, "BM=128,BN=64,SK=2", 24.2 },
    { bf16, 128, 4096, 7168, "BM=128,BN=32", 24.7 },
    { bf16, 128, 4096, 7168, "BM=128,BN=128,SK=4", 27.4 },
    { bf16, 128, 4096, 7168, "BM=128,BN=128", 39 },
    { bf16, 128, 4096, 7168, "BM=128,BN=256", 71 },
    { bf16, 128, 24576, 1536, "BM=128,BN=64", 25.1 },
    { bf16, 128, 24576, 1536, "BM=128,BN=96", 25.7 },
    { bf16, 128, 24576, 1536, "BM=128,BN=192", 26.0 },
    { bf16, 128, 2112, 7168, "BM=128,BN=64,SK=4", 15.4 },
    { bf16, 128, 2112, 7168, "BM=128,BN=32,SK=2", 15.4 },
    { fp8, 4096, 4096, 7168, "BM=128,BN=128,math.warpgroups=2", 248 },
    { fp8, 4096, 4096, 7168, "BM=128,BN=160,math.warpgroups=2", 258 },
    { fp8, 4096, 4096, 7168, "BM=128,BN=112,math.warpgroups=2", 263 },
    { fp8, 4096, 4096, 7168, "BM=128,BN=96,math.warpgroups=2", 276 },
    { fp8, 4096, 4096, 7168, "BM=256,BN=64,math.warpgroups=2", 297 },
    { fp8, 4096, 4096, 7168, "BM=128,BN=64,math.warpgroups=2", 319 },
    { fp8, 4096, 4096, 7168, "BM=64,BN=128,math.warpgroups=1", 322 },
    { fp8, 128, 4096, 7168, "BM=128,BN=64,SK=2,math.warpgroups=2", 19.2 },
    { fp8, 128, 4096, 7168, "BM=64,BN=64,math.warpgroups=1", 19.6 },
    { fp8, 128, 4096, 7168, "BM=128,BN=32,math.warpgroups=2", 19.8 },
    { fp8, 128, 4096, 7168, "BM=128,BN=64,math.warpgroups=2", 23.7 },
};

static int split(struct arena *a, const char *text, struct binding *out)
{
    int n = 0;
    while (*text) {
        size_t item = strcspn(text, ","), name = strcspn(text, "=");
        out[n++] = (struct binding){ arena_strndup(a, text, name), arena_strndup(a, text + name + 1, item - name - 1) };
        text += item + (text[item] != 0);
    }
    return n;
}

/* A call of one row's kernel and shape. */
struct call {
    struct arena arena;
    struct diag diag;
    struct binding params[8], tune[16], inner[8];
    struct compile_options options;
    const char *dims[3];
    int64_t sizes[3];
    struct device_props props;
    struct choose_ask ask;
};

static void open_call(struct call *c, const struct timed *r)
{
    *c = (struct call){ .dims = { "M", "N", "K" }, .sizes = { r->m, r->n, r->k }, .props = { .name = "timed", .sms = SMS } };
    diag_init(&c->diag, &c->arena);
    struct node *file = dsl_parse_file(&c->arena, &c->diag, kernels[r->kernel].path, NULL, 0);
    dsl_check(&c->arena, &c->diag, file);
    c->options = (struct compile_options){ .target = "sm_90a", .params = c->params, .tune = c->tune, .inner = c->inner };
    c->options.n_params = split(&c->arena, kernels[r->kernel].params, c->params);
    c->options.n_inner = split(&c->arena, kernels[r->kernel].inner, c->inner);
    c->ask = (struct choose_ask){ &c->arena, file, dsl_kernel(file, NULL), &c->options, c->dims, c->sizes, 3, &c->props, SMS };
}

static double estimate(struct call *c, const char *values)
{
    struct cost cost;
    c->options.n_tune = split(&c->arena, values, c->tune);
    return choose_estimate(&c->ask, &cost) ? cost.us : (double)INFINITY;
}

static bool same_shape(const struct timed *x, const struct timed *y)
{
    return x->kernel == y->kernel && x->m == y->m && x->n == y->n && x->k == y->k;
}

/* One shape's rows stand together. */
static void check_shape(const struct timed *r, int n)
{
    struct call c;
    double said[COUNT(rows)], best = INFINITY;
    int favourite = 0;
    char about[200];
    open_call(&c, r);
    for (int i = 0; i < n; i++) {
        said[i] = estimate(&c, r[i].values);
        if (said[i] < said[favourite]) favourite = i;
        if (r[i].us < best) best = r[i].us;
        snprintf(about, sizeof about, "%s of %lldx%lldx%lld: %.1f us, %.1f timed", r[i].values, (long long)r->m, (long long)r->n, (long long)r->k, said[i], r[i].us);
        check(said[i] < r[i].us * OFF && said[i] > r[i].us / OFF, "estimate near the time", about);
    }
    snprintf(about, sizeof about, "%s takes %.1f us, the best %.1f", r[favourite].values, r[favourite].us, best);
    check(r[favourite].us <= best * NEAR, "the favourite is among the best", about);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++)
            if (r[i].us > r[k].us * CLEARLY) check(said[i] > said[k], r[i].values, "is slower than another, but not by the model");
    arena_free(&c.arena);
}

/* What is chosen compiles, is the same every time, and by the model no slower than any timed one. */
static void check_choice(const struct timed *r, int n)
{
    struct call c;
    struct binding first[32], second[32];
    char values[512] = "";
    open_call(&c, r);
    int count = choose_tune(&c.ask, first, COUNT(first)), again = choose_tune(&c.ask, second, COUNT(second));
    check(count > 0 && count == again, "something is chosen", r->values);
    for (int i = 0; i < count; i++) {
        check(!strcmp(first[i].name, second[i].name) && !strcmp(first[i].value, second[i].value), "the same each time", first[i].name);
        snprintf(values + strlen(values), sizeof values - strlen(values), "%s%s=%s", i ? "," : "", first[i].name, first[i].value);
    }
    double chosen = estimate(&c, values);
    for (int i = 0; i < n; i++) check(chosen <= estimate(&c, r[i].values) * NEAR, "as fast as what was timed", values);
    arena_free(&c.arena);
}

/* Candidates to measure: the choice's own values come early, none twice, each whole. */
static void check_candidates(const struct timed *r)
{
    enum { MOST = 40 };
    struct choose_candidate all[MOST];
    struct call c;
    open_call(&c, r);
    int n = choose_candidates(&c.ask, all, MOST), twice = 0;
    check(n == MOST, "as many candidates as asked for", r->values);
    for (int i = 0; i < n; i++) {
        check(all[i].n == all[0].n && (i == 0 || all[i].us >= all[i - 1].us), "whole, and in order", r->values);
        for (int k = 0; k < i; k++) {
            bool same = true;
            for (int x = 0; x < all[i].n; x++) same &= !strcmp(all[i].at[x].value, all[k].at[x].value);
            twice += same;
        }
    }
    check(!twice, "no candidate twice", r->values);
    arena_free(&c.arena);
}

int main(void)
{
    for (int i = 0, n; i < COUNT(rows); i += n) {
        for (n = 1; i + n < COUNT(rows) && same_shape(&rows[i], &rows[i + n]);) n++;
        check_shape(&rows[i], n);
        check_choice(&rows[i], n);
        check_candidates(&rows[i]);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
