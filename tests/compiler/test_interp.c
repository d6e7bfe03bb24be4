/* The interpreter of the tile IR: hand-made kernels give what their specs say, in every order of units, and a GEMM what a
 * plain loop gives; mistakes in pipes, combines and assertions are reported. */
#include "runtime/oracle.h"

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

static struct ir_fn *load(struct arena *a, const char *path)
{
    struct diag d;
    struct buf out = { 0 };
    char *text;
    size_t n;
    diag_init(&d, a);
    if (!read_file(path, &text, &n)) return NULL;
    struct ir_fn *fn = ir_parse(a, &d, path, text, n);
    diag_print(&d, &out, DIAG_PLAIN);
    if (out.n) printf("%s", out.at);
    buf_free(&out);
    free(text);
    return fn;
}

/* Random cases of a kernel; its specs hold after a run of the interpreter. */
static void against_spec(const char *path, int cases)
{
    struct arena a = { 0 };
    struct ir_fn *fn = load(&a, path);
    uint64_t seed = 7;
    for (int i = 0; fn && i < cases; i++) {
        struct oracle_case c = { .dims = new_n(&a, int64_t, fn->dims.n + 1), .data = (enum oracle_data)(i % ORACLE_DATA_COUNT), .seed = (uint64_t)i };
        char *error = NULL;
        struct span at;
        check(oracle_dims(fn, &seed, 40000, c.dims), "dimensions are found");
        if (!oracle_arguments(&a, fn, &c, NULL, NULL, &error)) {
            printf("%s: %s\n", path, error);
            check(false, "arguments");
            break;
        }
        struct interp_tensor *after = oracle_copy(&a, fn, c.before);
        bool ran = interp_run_ordered(fn, after, fn->tensors.n, c.dims, 3, (enum interp_order)(i % 3), &error, &at);
        if (!ran) printf("%s: %s\n", path, error);
        free(error);
        check(ran, path);
        for (int s = 0; s < fn->specs.n && ran; s++) {
            struct oracle_verdict v = oracle_check_spec(fn, s, c.before, after, c.dims, NULL);
            struct buf out = { 0 };
            oracle_print_verdict(&v, &out);
            if (!v.ok || !v.compared) printf("%s, case %d: %s\n", path, i, out.at);
            check(v.ok && v.compared > 0, path);
            free(v.error);
            buf_free(&out);
        }
    }
    check(fn != NULL, path);
    arena_free(&a);
}

/* The same GEMM in a plain loop, and its time. */
static void against_loop(void)
{
    struct arena a = { 0 };
    struct ir_fn *fn = load(&a, "tests/compiler/ir/gemm.ir");
    int64_t dims[3] = { 250, 256, 248 };
    struct oracle_case c = { .dims = dims, .data = ORACLE_NORMAL, .seed = 3 };
    char *error = NULL;
    if (!fn || !oracle_arguments(&a, fn, &c, NULL, NULL, &error)) {
        check(false, "gemm.ir");
        return;
    }
    clock_t start = clock();
    check(interp_run(fn, c.before, 3, dims, 7, &error), "gemm runs");
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    check(seconds < 5, "a 256 x 256 x 256 GEMM takes well under a second");
    const struct interp_tensor *A = &c.before[0], *B = &c.before[1], *D = &c.before[2];
    bool same = true;
    for (int64_t i = 0; i < dims[0]; i++)
        for (int64_t j = 0; j < dims[1]; j++) {
            double sum = 0;
            for (int64_t k = 0; k < dims[2]; k++)
                sum += interp_load(A, i * A->stride[0] + k).f * interp_load(B, j * B->stride[0] + k).f;
            double got = interp_load(D, i * D->stride[0] + j).f;
            same &= fabs(got - sum) <= fabs(sum) / 256 + 1e-4;
        }
    check(same, "gemm equals a plain loop");
    arena_free(&a);
}

/* Every code of the narrow types, as memory holds it. */
static void loads(void)
{
    static const enum type types[] = { TY_bf16, TY_f16, TY_e4m3, TY_e5m2, TY_ue8m0, TY_ue4m3 };
    for (int i = 0; i < COUNT(types); i++) {
        int wrong = 0;
        for (uint64_t code = 0; code < 1ull << type_bits(types[i]); code++) {
            struct interp_tensor t = { .type = types[i], .data = &code };
            double got = interp_load(&t, 0).f, want = type_decode(types[i], code);
            wrong += !(got == want || (isnan(got) && isnan(want))) || (!isnan(want) && signbit(got) != signbit(want));
        }
        check(!wrong, type_name(types[i]));
    }
}

/* A kernel that must fail with this text. */
static void fails(const char *body, const char *want)
{
    struct arena a = { 0 };
    struct diag d;
    struct buf text = { 0 }, out = { 0 };
    char *error = NULL;
    diag_init(&d, &a);
    buf_printf(&text, "kernel k for sm_80;\naxis i tile 4;\naxis s;\nvar i32 n;\nvar f32 t[i];\nshared i32 h[4];\n"
                      "pipe p depth 2;\nfield f32 p.f[i];\npipe q depth 1;\nfield f32 q.f[i];\ntasks 2;\n"
                      "task { bind i at 0 to 4; body; }\n%s", body);
    struct ir_fn *fn = ir_parse(&a, &d, "t.ir", text.at, text.n);
    diag_print(&d, &out, DIAG_PLAIN);
    if (!fn) printf("%s", out.at);
    bool ran = fn && interp_run(fn, NULL, 0, NULL, 2, &error);
    if (!error || !strstr(error, want)) printf("%s -> %s\n", body, error ? error : "(nothing)");
    check(fn && !ran && error && strstr(error, want), want);
    free(error);
    buf_free(&text);
    buf_free(&out);
    arena_free(&a);
}

int main(void)
{
    against_spec("tests/compiler/ir/gemm.ir", 9);
    against_spec("tests/compiler/ir/fp8_scaled.ir", 9);
    against_spec("tests/compiler/ir/splitk.ir", 9);
    against_spec("tests/compiler/ir/threads.ir", 9);
    against_loop();
    loads();
    fails("role a { for n = 0 .. 3 { produce p { fill p.f = 1.0; } } }\nrole b { for n = 0 .. 4 { consume p { t = p.f[@i]; } } }\n",
          "deadlock: every role waits; role a has ended; role b to consume slot 3 of pipe p, 3 produced");
    fails("role a { for n = 0 .. 5 { produce p { fill p.f = 1.0; } } }\nrole b { for n = 0 .. 4 { consume p { t = p.f[@i]; } } }\n",
          "pipe p: 5 slots are produced, role b consumes 4");
    fails("role a { produce p { fill p.f = 1.0; } produce p { fill p.f = 1.0; } produce p { fill p.f = 1.0; } produce q { fill q.f = 1.0; } }\n"
          "role b { consume q { t = q.f[@i]; } consume p { t = p.f[@i]; } consume p { t = p.f[@i]; } consume p { t = p.f[@i]; } }\n",
          "role a to produce slot 2 of pipe p, which has 2; role b to consume slot 0 of pipe q, 0 produced");
    fails("role a { assert unit < 1, \"only one unit\"; }\n", "assertion failed: only one unit, in role a");
    fails("role a { put h[4] = 1; }\n", "'h' is written at 4 of 4");
    fails("role a { n = h[0 - 1]; }\n", "'h' is read at -1, outside of it");
    fails("role a { t = 0.0; combine s part 0 of 3 at unit { n = 1; } }\n", "combine: 1 of 3 parts of tile 1 came");
    fails("role a { t = 0.0; combine s part 0 of 3 at 0 { n = 1; } }\n", "part 0 of tile 0 comes twice");
    fails("role a { t = p.f[@i]; }\n", "'f' is read outside of produce and consume");
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
