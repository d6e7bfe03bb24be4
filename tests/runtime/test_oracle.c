/* The oracle finds mistakes: each kernel in tests/runtime/broken/ fails with the words of its WANT line, each kernel of the
 * ladder holds, and the evaluation of specs agrees with plain loops. */
#include "runtime/oracle.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int passed, failed;

static void check(bool ok, const char *what)
{
    if (ok) passed++;
    else {
        failed++;
        printf("wrong: %s\n", what);
    }
}

static struct oracle_result run(const char *path, struct buf *out, int cases)
{
    struct oracle_options o = { .path = path, .target = "sm_90a", .device = "ir", .seed = 5, .cases = cases };
    return oracle_test(&o, out);
}

static void finds(const char *path)
{
    char *text;
    struct buf out = { 0 };
    if (!read_file(path, &text, NULL)) {
        check(false, path);
        return;
    }
    char *want = strstr(text, "// WANT: ");
    want = want ? want + 9 : text;
    want[strcspn(want, "\n")] = 0;
    struct oracle_result r = run(path, &out, 6);
    bool ok = r.failed + r.skipped > 0 && strstr(out.at, want);
    if (!ok) printf("%s: wanted '%s', got\n%s", path, want, out.at);
    check(ok, path);
    buf_free(&out);
    free(text);
}

static void holds(const char *path)
{
    struct buf out = { 0 };
    struct oracle_result r = run(path, &out, 3);
    if (r.failed || r.skipped || !r.cases) printf("%s", out.at);
    check(!r.failed && !r.skipped && r.cases > 0, path);
    buf_free(&out);
}

static void each_file(const char *folder, const char *begins, void (*test)(const char *))
{
    struct dirent **list;
    int n = scandir(folder, &list, NULL, alphasort), found = 0;
    for (int i = 0; i < n; i++) {
        char path[512];
        size_t length = strlen(list[i]->d_name);
        bool wanted = length > 4 && !strcmp(list[i]->d_name + length - 4, ".dgk") && strchr(begins, list[i]->d_name[0]);
        snprintf(path, sizeof path, "%s/%s", folder, list[i]->d_name);
        if (wanted) test(path);
        found += wanted;
        free(list[i]);
    }
    if (n >= 0) free(list);
    check(found > 0, folder);
}

/* A GEMM's spec over 300 x 300 x 300, against a plain loop: right, and well under a second. */
static void large_spec(void)
{
    static const char text[] =
        "kernel g for sm_80;\ndim M; dim N; dim K;\n"
        "tensor in bf16 A[$M, $K] inner 1 of 2; tensor in f32 S[$M] inner 0 of 1; tensor in bf16 B[$N, $K] inner 1 of 2; tensor out f32 D[$M, $N] inner 1 of 2;\n"
        "axis i from 0 to $M; axis j from 0 to $N; axis k from 0 to $K;\n"
        "spec D[@i, @j] = sum(k: f32(A[@i, @k]) * f32(B[@j, @k]) * S[@i]) tol 1e-12;\n"
        "task { body; }\n";
    struct arena a = { 0 };
    struct diag d;
    char *error = NULL;
    diag_init(&d, &a);
    struct ir_fn *fn = ir_parse(&a, &d, "g.ir", text, strlen(text));
    int64_t dims[3] = { 300, 300, 300 };
    struct oracle_case c = { .dims = dims, .data = ORACLE_NORMAL, .seed = 11 };
    if (!fn || !oracle_arguments(&a, fn, &c, NULL, NULL, &error)) {
        check(false, "the GEMM's spec is read");
        return;
    }
    const struct interp_tensor *A = &c.before[0], *S = &c.before[1], *B = &c.before[2], *D = &c.before[3];
    double *x = new_n(&a, double, 300 * 300), *y = new_n(&a, double, 300 * 300);
    for (int64_t i = 0; i < 300; i++)
        for (int64_t k = 0; k < 300; k++) {
            x[i * 300 + k] = interp_load(A, i * A->stride[0] + k).f * interp_load(S, i).f;
            y[i * 300 + k] = interp_load(B, i * B->stride[0] + k).f;
        }
    for (int64_t i = 0; i < 300; i++)
        for (int64_t j = 0; j < 300; j++) {
            union cell sum = { .f = 0 };
            for (int64_t k = 0; k < 300; k++) sum.f += x[i * 300 + k] * y[j * 300 + k];
            interp_store(D, i * D->stride[0] + j, sum);
        }
    clock_t start = clock();
    struct oracle_verdict v = oracle_check_spec(fn, 0, c.before, c.before, dims, NULL);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    check(v.ok && v.compared == 300 * 300 && v.distance < 1e-12, "the GEMM's spec agrees with a loop");
    check(seconds < 10, "a spec over 300 x 300 x 300 takes well under a second");
    /* One element off by a little, and one never written. */
    union cell wrong = interp_load(D, 7 * D->stride[0] + 11);
    wrong.f += 1;
    interp_store(D, 7 * D->stride[0] + 11, wrong);
    v = oracle_check_spec(fn, 0, c.before, c.before, dims, NULL);
    check(!v.ok && v.worst[0] == 7 && v.worst[1] == 11, "the wrong element is named");
    interp_store(D, 9 * D->stride[0] + 2, (union cell){ .f = (double)NAN });
    v = oracle_check_spec(fn, 0, c.before, c.before, dims, NULL);
    check(!v.ok && v.wrong == 1 && v.worst[0] == 9 && v.worst[1] == 2, "an element that is NaN is named");
    arena_free(&a);
}

int main(void)
{
    large_spec();
    each_file("tests/runtime/broken", "abcdefghijklmnopqrstuvwxyz", finds);
    each_file("kernels_dsl", "01", holds);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
