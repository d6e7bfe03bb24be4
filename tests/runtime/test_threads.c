/* 32 threads open devices, load, compile, call, plan and let go, side by side: with kernels of their own and with one that all
 * share, on the emulator. `make threads` runs this under ThreadSanitizer. */
#include "runtime/dgk.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 32, ROUNDS = 3, M = 16, N = 32 };

static const char source[] =
    "kernel scale<P = 1>(in f32 X[M, N], in i32 s, out f32 Y[M, N]) {\n"
    "    spec Y[i, j] = X[i, j] * f32(s) + f32(P) exact;\n"
    "    axis i = M by 16, j = N by 32;\n"
    "    grid (i, j);\n"
    "    role work { Y[i, j] = X[i, j] * f32(s) + f32(P); }\n"
    "}\n";

struct job {
    dgk_context *shared;
    dgk_kernel *kernel;
    int number, bad;
};

static dgk_tensor matrix(float *data)
{
    return (dgk_tensor){ .data = (uint64_t)(uintptr_t)data, .type = dgk_type("f32"), .rank = 2, .shape = { M, N }, .stride = { N, 1 } };
}

/* One call with parameter p: compiled where nobody did before. */
static int call(dgk_kernel *k, int p)
{
    float x[M * N], y[M * N];
    dgk_tensor tx = matrix(x), ty = matrix(y);
    dgk_value v[] = { dgk_of(&tx), dgk_int(3), dgk_of(&ty), dgk_int(p) };
    int bad = 0;
    for (int i = 0; i < M * N; i++) x[i] = (float)(i % 50), y[i] = 0;
    if (dgk_call(k, v, 4, NULL)) return 1;
    for (int i = 0; i < M * N; i++) bad += y[i] != x[i] * 3 + (float)p;
    return bad != 0;
}

static int wrong_call(dgk_kernel *k, int number)
{
    float x[M * N];
    char name[32];
    dgk_tensor tx = matrix(x);
    tx.rank = number % 2 ? 1 : 3;
    dgk_value v[] = { dgk_of(&tx), dgk_int(3), dgk_of(&tx), dgk_int(1) };
    snprintf(name, sizeof name, "has %d dimensions", tx.rank);
    return !dgk_call(k, v, 4, NULL) || !strstr(dgk_error(), name); /* the text is this thread's own */
}

static int planned(dgk_context *c, dgk_kernel *k)
{
    float zeros[M * N] = { 0 };
    uint64_t a = dgk_alloc(c, sizeof zeros);
    dgk_tensor t = { .data = a, .type = dgk_type("f32"), .place = DGK_DEVICE, .rank = 2, .shape = { M, N }, .stride = { N, 1 } };
    dgk_value v[] = { dgk_of(&t), dgk_int(1), dgk_of(&t), dgk_int(1) };
    dgk_plan *p;
    if (!a || dgk_write(c, a, zeros, sizeof zeros) || dgk_plan_call(k, v, 4, &p)) return 1;
    int bad = dgk_run(p, NULL, 0, NULL) != 0;
    dgk_plan_free(p);
    dgk_free(c, a);
    return bad;
}

static void *work(void *arg)
{
    struct job *j = arg;
    for (int r = 0; r < ROUNDS; r++) {
        dgk_context *c = NULL;
        dgk_kernel *k = NULL;
        dgk_counts n;
        j->bad += call(j->kernel, (j->number + r) % 7) + wrong_call(j->kernel, j->number) + planned(j->shared, j->kernel);
        dgk_count(j->kernel, &n);
        if (dgk_open(&c, j->number % 2 ? "emu:sm_80" : "emu:sm_90a") || dgk_load_text(c, "scale.dgk", source, strlen(source), NULL, &k)) j->bad++;
        else j->bad += call(k, r);
        if (k) dgk_unload(k);
        if (c) dgk_close(c);
    }
    return NULL;
}

int main(void)
{
    static struct job jobs[THREADS];
    pthread_t threads[THREADS];
    dgk_context *c;
    dgk_kernel *k;
    int bad = 0;
    char folder[] = "/tmp/dgk-threads-XXXXXX", command[64];
    if (!mkdtemp(folder)) return 1;
    unsetenv("DGC_DISABLE_CACHE");
    setenv("DGC_CACHE_DIR", folder, 1); /* they meet there, too */
    if (dgk_open(&c, "emu:sm_90a") || dgk_load_text(c, "scale.dgk", source, strlen(source), NULL, &k)) return printf("%s\n0 passed, 1 failed\n", dgk_error()), 1;
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){ c, k, i, 0 };
        if (pthread_create(&threads[i], NULL, work, &jobs[i])) return printf("0 passed, 1 failed\n"), 1;
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL), bad += jobs[i].bad;
    dgk_counts n;
    dgk_count(k, &n);
    if (bad) printf("FAILED: %d wrong results of %d threads\n", bad, THREADS);
    if (n.compiled + n.from_cache != 7) printf("FAILED: 7 variants were made %d times\n", (int)(n.compiled + n.from_cache));
    bad = (bad != 0) + (n.compiled + n.from_cache != 7);
    dgk_unload(k);
    dgk_close(c);
    snprintf(command, sizeof command, "rm -r %s", folder);
    (void)!system(command);
    printf("%d passed, %d failed\n", 2 - bad, bad);
    return bad;
}
