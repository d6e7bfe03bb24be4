/* The public interface on the emulator: kernels from text, variants read off a call's tensors, entries found again, plans,
 * strided and host tensors, and what each kind of wrong call is told. */
#include "runtime/dgk.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;

static void check(int ok, const char *what)
{
    if (!ok) printf("FAILED: %s (last error: %s)\n", what, dgk_error());
    ok ? passed++ : failed++;
}

static const char scale[] =
    "kernel scale<T = f32 | i32, P = 1>(in T X[M, N] inner(N | M), in i32 s, out T Y[M, N]) require M % 2 == 0 {\n"
    "    spec Y[i, j] = X[i, j] * T(s) + T(P) exact;\n"
    "    axis i = M by 16, j = N by 32;\n"
    "    grid (i, j);\n"
    "    role work { Y[i, j] = X[i, j] * T(s) + T(P); }\n"
    "}\n";
static const char whole[] =
    "kernel rows(in f32 X[M, N], out f32 Y[M]) {\n"
    "    spec Y[i] = sum(j: X[i, j]) tol 1e-6;\n"
    "    axis i = M by 8, j = N;\n"
    "    grid (i);\n"
    "    role work { Y[i] = sum(j: X[i, j]); }\n"
    "}\n";

static const char wide[] =
    "kernel more(in f32 X[M, N], out f32 Y[M, N]) require N % 4 == 0 {\n"
    "    spec Y[i, j] = X[i, j] + f32(1) exact;\n"
    "    axis i = M by 64, j = N by 32;\n"
    "    grid (i, j);\n"
    "    role work { Y[i, j] = X[i, j] + f32(1); }\n"
    "}\n";

static dgk_tensor matrix(void *data, int place, const char *type, int64_t m, int64_t n)
{
    dgk_tensor t = { .data = (uint64_t)(uintptr_t)data, .type = dgk_type(type), .place = place, .rank = 2, .shape = { m, n }, .stride = { n, 1 } };
    return t;
}

static dgk_counts counts(dgk_kernel *k)
{
    dgk_counts c;
    dgk_count(k, &c);
    return c;
}

static int wrong(const float *y, const float *x, int n, float s, float p)
{
    int bad = 0;
    for (int i = 0; i < n; i++) bad += y[i] != x[i] * s + p;
    return bad;
}

static void host(dgk_context *c)
{
    enum { M = 34, N = 50 };
    static float x[M * N], y[M * N], xt[M * N];
    dgk_kernel *k;
    for (int i = 0; i < M * N; i++) x[i] = (float)(i % 97);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) xt[j * M + i] = x[i * N + j];
    check(dgk_load_text(c, "scale.dgk", scale, strlen(scale), NULL, &k) == 0, "a kernel from text");
    check(dgk_slots(k) == 7 && dgk_slot_find(k, "P") == 4 && dgk_slot_find(k, "N") == 6 && dgk_slot_find(k, "Q") == -1, "its slots have names");
    dgk_tensor tx = matrix(x, DGK_HOST, "f32", M, N), ty = matrix(y, DGK_HOST, "f32", M, N);
    dgk_value v[] = { dgk_of(&tx), dgk_int(3), dgk_of(&ty), { 0 }, dgk_int(2) };
    check(dgk_call(k, v, 4, NULL) == 0 && !wrong(y, x, M * N, 3, 1), "a call on host memory; the parameter has its default");
    check(dgk_call(k, v, 5, NULL) == 0 && !wrong(y, x, M * N, 3, 2), "an integer parameter by number");
    check(counts(k).compiled == 2, "which is a variant of its own");
    tx.data = (uint64_t)(uintptr_t)xt, tx.stride[0] = 1, tx.stride[1] = M;
    check(dgk_call(k, v, 5, NULL) == 0 && !wrong(y, x, M * N, 3, 2) && counts(k).compiled == 3, "strides say which dimension is inner");
    char *text;
    check(dgk_check(k, v, 5, &text) == 0 && strstr(text, "as the spec says"), "a call held to its spec");
    dgk_release(text);
    check(dgk_explain(k, v, 5, &text) == 0 && strstr(text, "scale"), "explained");
    dgk_release(text);

    ty.shape[1] = N + 1;
    check(dgk_call(k, v, 5, NULL) != 0 && strstr(dgk_error(), "argument 'Y'") && strstr(dgk_error(), "51"), "a wrong size is named");
    ty.shape[1] = N;
    ty.type = dgk_type("i32");
    check(dgk_call(k, v, 5, NULL) != 0 && strstr(dgk_error(), "T is f32 by another argument"), "types that disagree");
    ty.type = tx.type = dgk_type("f16");
    check(dgk_call(k, v, 5, NULL) != 0 && strstr(dgk_error(), "takes f32, i32"), "a type that is no alternative");
    ty.type = tx.type = dgk_type("f32");
    tx.shape[0] = ty.shape[0] = 33;
    check(dgk_call(k, v, 5, NULL) != 0 && strstr(dgk_error(), "requires M % 2 == 0"), "a condition in the author's words");
    check(dgk_call(k, v, 2, NULL) != 0 && strstr(dgk_error(), "'Y'"), "a missing output");
    v[1] = dgk_of(&tx);
    check(dgk_call(k, v, 5, NULL) != 0 && strstr(dgk_error(), "number"), "a tensor for a number");
    dgk_unload(k);
}

static void *calls(void *arg)
{
    dgk_value *v = arg;
    dgk_kernel *k = *(dgk_kernel **)&v[7];
    for (int i = 0; i < 20; i++)
        if (dgk_call(k, v, 3, NULL)) return "failed";
    return NULL;
}

static void device(dgk_context *c)
{
    enum { M = 32, N = 64, BYTES = M * N * 4 };
    static float x[M * N], y[M * N];
    dgk_kernel *k;
    for (int i = 0; i < M * N; i++) x[i] = (float)(i % 89);
    uint64_t a = dgk_alloc(c, BYTES), b = dgk_alloc(c, BYTES), b2 = dgk_alloc(c, BYTES);
    check(a && b && !dgk_write(c, a, x, BYTES), "memory of the device");
    check(dgk_load_text(c, "scale.dgk", scale, strlen(scale), NULL, &k) == 0, "loaded");
    dgk_tensor tx = matrix((void *)(uintptr_t)a, DGK_DEVICE, "f32", M, N), ty = matrix((void *)(uintptr_t)b, DGK_DEVICE, "f32", M, N);
    dgk_value v[8] = { dgk_of(&tx), dgk_int(5), dgk_of(&ty) };
    for (int i = 0; i < 3; i++) check(dgk_call(k, v, 3, NULL) == 0, "a call on device memory");
    check(!dgk_read(c, y, b, BYTES) && !wrong(y, x, M * N, 5, 1), "its result");
    check(counts(k).compiled == 1 && counts(k).prepared == 1 && counts(k).calls == 3, "compiled once, bound once, launched three times");
    ty.data = b2;
    check(dgk_call(k, v, 3, NULL) == 0 && !dgk_read(c, y, b2, BYTES) && !wrong(y, x, M * N, 5, 1) && counts(k).prepared == 1, "another address: the same entry");
    tx.shape[0] = ty.shape[0] = 16;
    check(dgk_call(k, v, 3, NULL) == 0 && counts(k).prepared == 2 && counts(k).compiled == 1, "another shape: bound again, not compiled");
    tx.shape[0] = ty.shape[0] = 0;
    tx.data = ty.data = 0;
    check(dgk_call(k, v, 3, NULL) == 0, "empty tensors without memory");
    tx = matrix((void *)(uintptr_t)a, DGK_DEVICE, "f32", M, N), ty = matrix((void *)(uintptr_t)b, DGK_DEVICE, "f32", M, N);

    dgk_plan *p;
    check(dgk_plan_call(k, v, 3, &p) == 0, "a plan");
    memset(y, 0, sizeof y);
    dgk_write(c, b, y, BYTES), dgk_write(c, b2, y, BYTES);
    check(dgk_run(p, NULL, 0, NULL) == 0 && !dgk_read(c, y, b, BYTES) && !wrong(y, x, M * N, 5, 1), "runs on its addresses");
    uint64_t at[] = { 0, 0, b2 };
    check(dgk_run(p, at, 3, NULL) == 0 && !dgk_read(c, y, b2, BYTES) && !wrong(y, x, M * N, 5, 1), "and on others");
    dgk_plan_free(p);

    pthread_t t[3];
    void *said;
    int bad = 0;
    memcpy(&v[7], &k, sizeof k);
    for (int i = 0; i < 3; i++) pthread_create(&t[i], NULL, calls, v);
    for (int i = 0; i < 3; i++) pthread_join(t[i], &said), bad += said != NULL;
    check(!bad, "three threads");
    dgk_unload(k);
    dgk_free(c, a), dgk_free(c, b), dgk_free(c, b2);
}

/* Rows of an odd length, views that begin an element later: variants that rely on less, beside the one that does not. */
static void alignment(dgk_context *c)
{
    enum { M = 16, N = 32, PITCH = 40, BYTES = (M * PITCH + 4) * 4 };
    static const struct { int offset, pitch, compiled; const char *what; } cases[] = {
        { 0, N, 1, "rows of whole 16 bytes" },    { 0, 33, 2, "rows of an odd length: a variant more" }, { 4, 36, 2, "a view that begins an element later" },
        { 8, 34, 3, "in steps of 8 bytes" },      { 16, 36, 3, "a view, 16 bytes later" },               { 0, PITCH, 3, "and rows of whole 16 bytes again" },
        { 12, 39, 3, "the odd one was kept" } };
    static float x[M * PITCH + 4], y[M * N];
    dgk_kernel *k;
    uint64_t a = dgk_alloc(c, BYTES), b = dgk_alloc(c, BYTES);
    for (int i = 0; i < M * PITCH + 4; i++) x[i] = (float)i;
    check(a && b && !dgk_write(c, a, x, BYTES) && dgk_load_text(c, "wide.dgk", wide, strlen(wide), NULL, &k) == 0, "a kernel that reads 16 bytes at once");
    dgk_tensor tx = matrix(NULL, DGK_DEVICE, "f32", M, N), ty = matrix((void *)(uintptr_t)b, DGK_DEVICE, "f32", M, N);
    dgk_value v[] = { dgk_of(&tx), dgk_of(&ty) };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        int bad = 0;
        tx.data = a + (uint64_t)cases[n].offset, tx.stride[0] = cases[n].pitch;
        check(dgk_call(k, v, 2, NULL) == 0 && !dgk_read(c, y, b, sizeof y), cases[n].what);
        for (int i = 0; i < M * N; i++) bad += y[i] != x[cases[n].offset / 4 + i / N * cases[n].pitch + i % N] + 1;
        check(!bad && counts(k).compiled == (uint64_t)cases[n].compiled, cases[n].what);
    }
    uint64_t prepared = counts(k).prepared;
    tx.data = a, tx.stride[0] = N;
    check(dgk_call(k, v, 2, NULL) == 0 && counts(k).prepared == prepared, "the aligned call is found as it was");
    char *text;
    check(dgk_explain(k, v, 2, &text) == 0 && !strstr(text, "alignment of"), "which relies on all of it");
    dgk_release(text);
    tx.data = a + 4;
    check(dgk_explain(k, v, 2, &text) == 0 && strstr(text, "alignment of 'X': 4 bytes and no more") && !strstr(strstr(text, "kernel more") + 1, "kernel more"), "and the other says on what");
    dgk_release(text);
    tx.data = a + 2;
    check(dgk_call(k, v, 2, NULL) != 0 && strstr(dgk_error(), "'X'") && strstr(dgk_error(), "not aligned to 4 bytes"), "an element lies at a multiple of its size");
    dgk_unload(k);
    dgk_free(c, a), dgk_free(c, b);
}

static void sizes(dgk_context *c)
{
    enum { M = 16, N = 48 };
    static float x[M * N], y[M];
    dgk_kernel *k;
    for (int i = 0; i < M * N; i++) x[i] = 1;
    check(dgk_load_text(c, "rows.dgk", whole, strlen(whole), NULL, &k) == 0, "a kernel whose tile is a whole dimension");
    dgk_tensor tx = matrix(x, DGK_HOST, "f32", M, N), ty = { .data = (uint64_t)(uintptr_t)y, .type = dgk_type("f32"), .rank = 1, .shape = { M }, .stride = { 1 } };
    dgk_value v[] = { dgk_of(&tx), dgk_of(&ty) };
    check(dgk_call(k, v, 2, NULL) == 0 && y[0] == N && y[M - 1] == N, "the size is compiled in, unasked");
    tx.shape[1] = 32, tx.stride[0] = 32;
    check(dgk_call(k, v, 2, NULL) == 0 && y[3] == 32 && counts(k).compiled == 2, "another size is another variant");
    int64_t shape[DGK_RANK];
    check(dgk_shape(k, v, 1, 1, shape) == 0 && shape[0] == M, "the shape of an output");
    dgk_unload(k);
}

static void mistakes(dgk_context *c)
{
    dgk_kernel *k;
    const char *bad = "kernel k(in f32 X[M]) { spec Z[i] = 1; }\n";
    check(dgk_load(c, "/no/such/file.dgk", NULL, &k) != 0 && strstr(dgk_error(), "/no/such/file.dgk"), "a missing file");
    check(dgk_load_text(c, "bad.dgk", bad, strlen(bad), NULL, &k) != 0 && strstr(dgk_error(), "bad.dgk:1:"), "an error at its line");
    dgk_options o = { .kernel = "other" };
    check(dgk_load_text(c, "scale.dgk", scale, strlen(scale), &o, &k) != 0 && strstr(dgk_error(), "'other'"), "a kernel that is not there");
    dgk_context *none;
    check(dgk_open(&none, "gpu") != 0 && !none, "a device that is none");
    check(dgk_set_sms(c, 1000) != 0 && dgk_set_sms(c, 2) == 0 && dgk_get_sms(c) == 2 && dgk_set_sms(c, 0) == 0, "the number of multiprocessors");
}

/* What one process compiled, the next finds: here a second context stands for it. */
static void kept(void)
{
    static float x[32 * 64], y[32 * 64];
    char folder[] = "/tmp/dgk-test-XXXXXX", command[64];
    dgk_counts n[3];
    if (!mkdtemp(folder)) return;
    unsetenv("DGC_DISABLE_CACHE");
    setenv("DGC_CACHE_DIR", folder, 1);
    for (int i = 0; i < 3; i++) {
        dgk_context *c;
        dgk_kernel *k;
        dgk_tensor t = matrix(x, DGK_HOST, "f32", 32, 64), u = matrix(y, DGK_HOST, "f32", 32, 64);
        dgk_value v[] = { dgk_of(&t), dgk_int(2), dgk_of(&u) };
        for (int j = 0; j < 32 * 64; j++) x[j] = (float)j, y[j] = 0;
        dgk_open(&c, i < 2 ? "emu:sm_90a" : "emu:sm_80");
        dgk_load_text(c, "scale.dgk", scale, strlen(scale), NULL, &k);
        check(dgk_call(k, v, 3, NULL) == 0 && !wrong(y, x, 32 * 64, 2, 1), "a call with a cache");
        n[i] = counts(k);
        char *text;
        check(dgk_check(k, v, 3, &text) == 0, "a check, whose spec the cache does not hold");
        dgk_release(text);
        dgk_close(c);
    }
    check(n[0].compiled == 1 && n[0].from_cache == 0, "the first compiles");
    check(n[1].compiled == 0 && n[1].from_cache == 1, "the second does not");
    check(n[2].compiled == 1 && n[2].from_cache == 0, "another target is another entry");
    snprintf(command, sizeof command, "rm -r %s", folder);
    (void)!system(command);
    setenv("DGC_DISABLE_CACHE", "1", 1);
}

int main(void)
{
    dgk_context *c;
    setenv("DGC_DISABLE_CACHE", "1", 1);
    if (dgk_open(&c, "emu:sm_90a")) return printf("%s\n0 passed, 1 failed\n", dgk_error()), 1;
    dgk_device_info info;
    dgk_info(c, &info);
    check(info.emulated && !strcmp(info.target, "sm_90a") && info.sms > 0, "an emulated device");
    host(c);
    device(c);
    alignment(c);
    sizes(c);
    mistakes(c);
    dgk_close(c);
    kept();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
