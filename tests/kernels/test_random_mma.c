/* Random products on tensor cores: element types, tile sizes, orders of dimensions, splits, computed operands and what
 * follows the sum are drawn at random. On small integers every partial sum is exact, so the emulator must give the spec's
 * very bits, whatever the layouts were. A program that fails is printed. */
#include "runtime/oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
enum { PROGRAMS = 10 };
#else
enum { PROGRAMS = 60 };
#endif

/* On the emulator, and on a Hopper GPU where $DGC_TEST_DEVICE says "cuda". */
static const char *const targets[] = { "sm_90a", "sm_80", "sm_89", "sm_120a", "sm_100a" };

static int pick(uint64_t *seed, int n) { return (int)(oracle_random(seed) % (uint64_t)n); }

/* Types of A and B, what they are multiplied as (NULL: as they are), and whether the rows may be the contiguous ones. */
static const struct {
    const char *a, *b, *as;
    bool either;
} pairs[] = {
    { "bf16", "bf16", NULL, true }, { "f16", "f16", NULL, true },   { "e4m3", "e4m3", NULL, false }, { "e5m2", "e5m2", NULL, false },
    { "e4m3", "bf16", "bf16", false }, { "bf16", "bf16", "bf16", true }, { "f16", "e5m2", "f16", false }, { "e4m3", "e4m3", "f16", false },
    { "f32", "f32", "tf32", false },
};

static const char *const afters[] = { "%s", "%s + R[i]", "%s * 0.5 + C[j]", "max(%s, 0.0)", "min(%s, R[i]) - C[j]", "(i < j ? %s : -1.0)" };

static void operand(struct buf *out, const char *name, const char *index, const char *as, bool doubled)
{
    if (!as) buf_printf(out, "%s[%s]", name, index);
    else if (doubled) buf_printf(out, "%s(f32(%s[%s]) * 2.0)", as, name, index);
    else buf_printf(out, "%s(%s[%s])", as, name, index);
}

static void after(struct buf *out, int which, const char *sum)
{
    char text[128];
    snprintf(text, sizeof text, afters[which], sum);
    buf_printf(out, "%s", text);
}

static void program(uint64_t *seed, struct buf *out)
{
    int pair = pick(seed, COUNT(pairs)), follow = pick(seed, COUNT(afters)), way = pick(seed, 4);
    int bm = 64 << pick(seed, 2), bn = 16 << pick(seed, 4), bk = 32 << pick(seed, 3), sk = way == 1 ? 2 + pick(seed, 3) : 1;
    bool doubled = pairs[pair].as && strcmp(pairs[pair].as, "tf32") && pick(seed, 2), turned = pick(seed, 4) == 0, batched = way == 2, aligned = pick(seed, 4);
    const char *z = batched ? "z, " : "", *zd = batched ? "Z, " : "", *as = pairs[pair].as;
    if (!strcmp(pairs[pair].a, "f32")) bk = 32;
    if (bm + bn > 128 && bk > 64) bk = 64; /* two slots fit the smallest chip */
    buf_printf(out, "kernel g(in %s A[%sM, K]%s, in %s B[%sN, K]%s, in f32 R[M], in f32 C[N], out f32 D[%s%s])\n", pairs[pair].a, zd,
               pairs[pair].either ? " inner(K | M)" : "", pairs[pair].b, zd, pairs[pair].either ? " inner(K | N)" : "", zd, turned ? "N, M" : "M, N");
    if (aligned) buf_printf(out, "    require K %% 16 == 0 && M %% 16 == 0 && N %% 16 == 0\n");
    buf_printf(out, "{\n    spec D[%s%s] = ", z, turned ? "j, i" : "i, j");
    char sum[128];
    snprintf(sum, sizeof sum, "sum(k: f32(A[%si, k]) * f32(B[%sj, k]))%s", z, z, doubled ? " * 2.0" : "");
    after(out, follow, sum);
    buf_printf(out, " exact;\n    axis %si = M by %d, j = N by %d, ", batched ? "z = Z by 1, " : "", bm, bn);
    if (sk > 1) buf_printf(out, "s = K split %d by %d, k = s by %d;\n", sk, bk, bk);
    else buf_printf(out, "k = K by %d;\n", bk);
    buf_printf(out, "    grid %s(%si, j%s);\n", pick(seed, 2) ? "persistent " : "", z, sk > 1 ? ", s" : "");
    buf_printf(out, "    pipe ab[%s] { %s a[i, k]; %s b[j, k]; }\n", pick(seed, 2) ? "auto" : "2", pairs[pair].a, pairs[pair].b);
    buf_printf(out, "    role load { for k produce ab { a = A[%si, k]; b = B[%sj, k]; } }\n", z, z);
    buf_printf(out, "    role math {\n        accum f32 c[i, j] = 0;\n        for k consume ab mma c[i, j] += ");
    operand(out, "a", "i, k", as, doubled);
    buf_printf(out, " * ");
    operand(out, "b", "j, k", as, false);
    buf_printf(out, ";\n        %sD[%s%s] = ", sk > 1 ? "combine s " : "", z, turned ? "j, i" : "i, j");
    after(out, follow, sk > 1 ? "sum(s: c[i, j])" : "c[i, j]");
    buf_printf(out, ";\n    }\n}\n");
}

int main(void)
{
    int passed = 0, failed = 0;
    char path[] = "/tmp/dgc_random_XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) {
        printf("0 passed, 1 failed\n");
        return 1;
    }
    close(fd);
    const char *device = getenv("DGC_TEST_DEVICE") ? getenv("DGC_TEST_DEVICE") : "emu";
    int n_targets = strncmp(device, "emu", 3) ? 3 : COUNT(targets);
    for (int i = 0; i < PROGRAMS; i++) {
        uint64_t seed = 2000 + (uint64_t)i;
        struct buf text = { 0 }, out = { 0 };
        program(&seed, &text);
        write_file(path, text.at, text.n);
        struct oracle_options o = { .path = path, .target = targets[i % n_targets], .device = device, .seed = (uint64_t)i, .cases = 1, .seconds = 3 };
        struct oracle_result r = oracle_test(&o, &out);
        bool ok = !r.failed && !r.skipped && r.cases;
        if (!ok && failed < 5) printf("program %d on %s:\n%s%s", i, o.target, text.at, out.at);
        passed += ok;
        failed += !ok;
        buf_free(&out);
        buf_free(&text);
    }
    unlink(path);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
