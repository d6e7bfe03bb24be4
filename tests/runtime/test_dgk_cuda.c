/* What libdgk does with a driver, on a fake one: launches on the caller's stream, maps encoded again only when a tensor moved,
 * nothing compiled or allocated while a graph is captured, launches that overlap where asked, the caller's device left current, two devices, forks, and how long
 * a call takes on the host. */
#include "runtime/dgk.h"
#include "tests/runtime/fake_cuda.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int passed, failed;

static void check(int ok, const char *what)
{
    if (!ok) printf("FAILED: %s (last error: %s)\n", what, dgk_error());
    ok ? passed++ : failed++;
}

static void *fake;
static int *number(const char *name) { return dlsym(fake, name); }

enum { M = 512, N = 512, K = 512 };

static dgk_tensor matrix(uint64_t at, const char *type, int64_t m, int64_t n)
{
    return (dgk_tensor){ .data = at, .type = dgk_type(type), .place = DGK_DEVICE, .rank = 2, .shape = { m, n }, .stride = { n, 1 } };
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void calls(dgk_context *c, dgk_kernel *k)
{
    uint64_t a = dgk_alloc(c, M * K * 2), b = dgk_alloc(c, N * K * 2), d = dgk_alloc(c, M * N * 2), a2 = dgk_alloc(c, M * K * 2);
    dgk_tensor ta = matrix(a, "bf16", M, K), tb = matrix(b, "bf16", N, K), td = matrix(d, "bf16", M, N);
    dgk_value v[] = { dgk_of(&ta), dgk_of(&tb), dgk_of(&td) };
    void *stream = (void *)0x1234;
    check(dgk_call(k, v, 3, stream) == 0 && *number("fake_launches") == 1, "a call launches");
    check(*(void **)dlsym(fake, "fake_stream") == stream, "on the caller's stream");
    int maps = *number("fake_maps");
    check(dgk_call(k, v, 3, stream) == 0 && *number("fake_maps") == maps, "the same tensors: no map is encoded");
    ta.data = a2;
    check(dgk_call(k, v, 3, stream) == 0 && *number("fake_maps") == maps + 1, "one moved: one map");
    int loads = *number("fake_loads");
    ta.data = a2 + 1;
    check(dgk_call(k, v, 3, stream) != 0 && strstr(dgk_error(), "argument 'A'") && strstr(dgk_error(), "not aligned to 2 bytes"), "an address that no element has");
    ta.data = a2 + 2;
    check(dgk_call(k, v, 3, stream) == 0 && *number("fake_loads") == loads + 1, "one that boxes do not take: another variant");
    ta.data = a;

    unsigned *grid = dlsym(fake, "fake_grid");
    check(dgk_set_sms(c, 4) == 0 && dgk_call(k, v, 3, stream) == 0 && *grid <= 4, "a persistent grid keeps to the multiprocessors it may use");
    dgk_set_sms(c, 0);

    *number("fake_capturing") = 1;
    check(dgk_call(k, v, 3, stream) == 0, "a known call is captured");
    td.type = dgk_type("f32");
    check(dgk_call(k, v, 3, stream) != 0 && strstr(dgk_error(), "captured") && strstr(dgk_error(), "before"), "an unknown one is refused with advice");
    *number("fake_capturing") = 0;
    td.type = dgk_type("bf16");

    double best = 1e9;
    int before = *number("fake_launches");
    for (int r = 0; r < 20; r++) {
        double t = now_us();
        for (int i = 0; i < 1000; i++) dgk_call(k, v, 3, stream);
        t = (now_us() - t) / 1000;
        best = t < best ? t : best;
    }
    printf("a call takes %.2f us on the host, the driver's part not counted\n", best);
    check(best < 2 && *number("fake_launches") == before + 20000, "less than 2 us");

    dgk_plan *p;
    check(dgk_plan_call(k, v, 3, &p) == 0, "a plan");
    int allocs = *number("fake_allocs"), launches = *number("fake_launches");
    *number("fake_capturing") = 1;
    check(dgk_run(p, NULL, 0, stream) == 0 && *number("fake_allocs") == allocs && *number("fake_launches") == launches + 1, "run allocates nothing");
    *number("fake_capturing") = 0;
    dgk_plan_free(p);
    dgk_free(c, a), dgk_free(c, b), dgk_free(c, d), dgk_free(c, a2);
}

/* Split-K sums parts through scratch memory and counters. */
static void scratch(dgk_context *c)
{
    const char *fixed[] = { "SK=4", "BM=128", "BN=128", "cluster(i)=1", "cluster(s)=1", "flip(c)=0" };
    dgk_options o = { .fixed = fixed, .n_fixed = 6 };
    dgk_kernel *k;
    uint64_t at = dgk_alloc(c, 1 << 20);
    dgk_tensor ta = matrix(at, "bf16", 128, 1024), tb = matrix(at, "bf16", 128, 1024), td = matrix(at, "bf16", 128, 128);
    dgk_value v[] = { dgk_of(&ta), dgk_of(&tb), dgk_of(&td) };
    check(dgk_load(c, "kernels_dsl/bf16_gemm.dgk", &o, &k) == 0 && dgk_prepare(k, v, 3) == 0, "a kernel with scratch memory");
    *number("fake_capturing") = 1;
    check(dgk_call(k, v, 3, NULL) != 0 && strstr(dgk_error(), "scratch"), "it cannot be captured before its first call");
    *number("fake_capturing") = 0;
    int allocs = *number("fake_allocs");
    check(dgk_call(k, v, 3, NULL) == 0 && *number("fake_allocs") > allocs, "which allocates");
    allocs = *number("fake_allocs");
    check(dgk_call(k, v, 3, NULL) == 0 && *number("fake_allocs") == allocs, "once");
    *number("fake_capturing") = 1;
    check(dgk_call(k, v, 3, (void *)0x99) == 0, "then it can, on another stream");
    *number("fake_capturing") = 0;
    dgk_unload(k);
    dgk_free(c, at);
}

/* The attribute of launches that may overlap: in a call, in a plan, beside clusters; asked for at each launch. */
static void overlaps(dgk_context *c)
{
    const char *fixed[] = { "cluster(i)=2" };
    dgk_options o = { .fixed = fixed, .n_fixed = 1 };
    dgk_kernel *k;
    dgk_plan *p;
    uint64_t at = dgk_alloc(c, M * K * 2);
    dgk_tensor t = matrix(at, "bf16", M, K);
    dgk_value v[] = { dgk_of(&t), dgk_of(&t), dgk_of(&t) };
    const int *overlap = number("fake_overlap"), *cluster = number("fake_cluster");
    check(dgk_load(c, "kernels_dsl/bf16_gemm.dgk", &o, &k) == 0 && dgk_plan_call(k, v, 3, &p) == 0, "a kernel of clusters");
    check(!dgk_get_pdl(c) && dgk_call(k, v, 3, NULL) == 0 && !*overlap && *cluster == 2, "launches do not overlap unless asked");
    check(dgk_set_pdl(c, 1) == 0 && dgk_get_pdl(c) && dgk_call(k, v, 3, NULL) == 0 && *overlap == 1 && *cluster == 2, "a call that was made before overlaps when asked");
    *number("fake_capturing") = 1;
    check(dgk_call(k, v, 3, NULL) == 0 && *overlap == 1, "in a graph, too");
    *number("fake_capturing") = 0;
    check(dgk_run(p, NULL, 0, NULL) == 0 && *overlap == 1, "and a plan that was made before");
    check(dgk_run(p, (uint64_t[]){ at, at, at }, 3, NULL) == 0 && *overlap == 1, "on other addresses");
    check(dgk_set_pdl(c, 0) == 0 && dgk_run(p, NULL, 0, NULL) == 0 && !*overlap && dgk_call(k, v, 3, NULL) == 0 && !*overlap, "and no longer");
    dgk_plan_free(p);
    dgk_unload(k);
    dgk_free(c, at);
}

/* Code that does not wait, and graphs of a driver that knows no such edges, never overlap. */
static void never_overlaps(const char *target, int version, int capturing, const char *what)
{
    dgk_context *c;
    dgk_kernel *k;
    const int was = *number("fake_version");
    if (target) setenv("DGC_TARGET", target, 1);
    *number("fake_version") = version;
    check(dgk_open(&c, "cuda:1") == 0 && dgk_load(c, "kernels_dsl/01_copy.dgk", NULL, &k) == 0 && dgk_set_pdl(c, 1) == 0, "opened to overlap");
    unsetenv("DGC_TARGET");
    *number("fake_version") = was;
    uint64_t at = dgk_alloc(c, 4096);
    dgk_tensor x = matrix(at, "f32", 16, 64);
    dgk_value v[] = { dgk_of(&x), dgk_of(&x) };
    check(dgk_call(k, v, 2, NULL) == 0 && *number("fake_overlap") == !target, "outside of a graph, code that waits overlaps");
    *number("fake_capturing") = capturing;
    check(dgk_call(k, v, 2, NULL) == 0 && *number("fake_overlap") == 0, what);
    *number("fake_capturing") = 0;
    dgk_free(c, at);
    dgk_close(c);
}

static void devices(dgk_context *c0)
{
    dgk_context *c1;
    dgk_kernel *k;
    check(dgk_open(&c1, "cuda:1") == 0 && dgk_load(c1, "kernels_dsl/01_copy.dgk", NULL, &k) == 0, "a second device");
    int (*get)(void **), (*set)(void *);
    *(void **)&get = dlsym(fake, "cuCtxGetCurrent"), *(void **)&set = dlsym(fake, "cuCtxSetCurrent");
    void *mine = (void *)0x77, *now;
    set(mine);
    uint64_t p = dgk_alloc(c1, 4096), q = dgk_alloc(c0, 4096);
    dgk_tensor x = matrix(p, "f32", 16, 64), y = matrix(p, "f32", 16, 64);
    dgk_value v[] = { dgk_of(&x), dgk_of(&y) };
    check(dgk_call(k, v, 2, NULL) == 0, "called");
    get(&now);
    check(now == mine, "the caller's device is current again");
    dgk_free(c1, p), dgk_free(c0, q);
    dgk_close(c1);
    check(dgk_open(&c1, "cuda:7") != 0 && strstr(dgk_error(), "this machine has 2"), "one that is not there");
}

static void forks(dgk_kernel *k)
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        dgk_tensor t = matrix(256, "bf16", M, K);
        dgk_value v[] = { dgk_of(&t), dgk_of(&t), dgk_of(&t) };
        int s = dgk_call(k, v, 3, NULL);
        _exit(s && !strcmp(dgk_status_name(s), "FORKED") && strstr(dgk_error(), "spawn") ? 0 : 1);
    }
    check(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status), "a forked child gets an error, not a hang");
}

int main(int argc, char **argv)
{
    dgk_context *c;
    dgk_kernel *k;
    (void)argc;
    if (with_fake(argv)) return 1;
    if (dgk_open(&c, "cuda:0")) return printf("%s\n0 passed, 1 failed\n", dgk_error()), 1;
    fake = dlopen("libcuda.so.1", RTLD_NOW);
    check(dgk_load(c, "kernels_dsl/bf16_gemm.dgk", NULL, &k) == 0, "loaded");
    calls(c, k);
    scratch(c);
    overlaps(c);
    never_overlaps("sm_80", 13000, 0, "code of sm_80 does not wait and does not overlap");
    never_overlaps(NULL, 12020, 1, "nor does a graph's launch on CUDA 12.2");
    devices(c);
    forks(k);
    dgk_close(c);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
