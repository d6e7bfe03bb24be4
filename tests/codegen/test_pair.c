/* Pairs of CTAs: which products of a cluster of two become one of twice the rows, why others do not, that the PTX is accepted,
 * and that random shapes, tiles, types and scales give what the spec says, in every order. */
#include "codegen/assemble.h"
#include "codegen/codegen.h"
#include "compiler/compiler.h"
#include "runtime/oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
enum { PROGRAMS = 8 };
#else
enum { PROGRAMS = 24 };
#endif

static int passed, failed;
static char path[] = "/tmp/dgc_pair_XXXXXX";

struct product {
    const char *type, *cluster;
    int bm, bn, bk;
    bool flip, across, scales, also; /* across: B is contiguous along n; also: its elements are read by the drain, too */
};

static const char PROGRAM[] =
    "kernel g(in %s A[M, K], in %s B[%s], in ue8m0 SA[K/32, M], in ue8m0 SB[N, K/32], out f32 D[M, N]%s) require K %% 128 == 0 && M %% 16 == 0 && N %% 16 == 0\n"
    "{\n"
    "    spec D[i, j] = sum(k: f32(A[i, k]) * f32(B[%s])%s) tol 1e-6;\n"
    "    on sm_100a { cluster(%s: 2); flip(c) = %d; }\n"
    "    axis i = M by %d, j = N by %d, k = K by %d;\n"
    "    grid persistent (i, j);\n"
    "    pipe ab[auto] { %s a[i, k]; %s b[%s]; }\n"
    "    role load { for k produce ab { a = A[i, k]; b = B[%s]; } }\n"
    "    role math {\n"
    "        accum f32 c[i, j] = 0;\n"
    "        %s\n"
    "        for k consume ab { mma c[i, j] += a[i, k] * b[%s]%s; %s }\n"
    "        D[i, j] = c[i, j];\n"
    "        %s\n"
    "    }\n"
    "}\n";

static void write_program(const struct product *p)
{
    char text[4096];
    const char *b = p->across ? "k, j" : "j, k";
    int n = snprintf(text, sizeof text, PROGRAM, p->type, p->type, p->across ? "K, N" : "N, K", p->also ? ", inout f32 Q[N]" : "", b,
                     p->scales ? " * f32(SA[k/32, i]) * f32(SB[j, k/32])" : "", p->cluster, p->flip, p->bm, p->bn, p->bk, p->type, p->type, b, b,
                     p->also ? "f32 q[j] = 0;" : "", b, p->scales ? " * SA[k/32, i] * SB[j, k/32]" : "", p->also ? "q[j] += sum(k: f32(b[j, k]));" : "",
                     p->also ? "atomic Q[j] += q[j];" : "");
    write_file(path, text, (size_t)n);
}

/* ---- forms ---- */

static const char TOGETHER[] = ", pairs of CTAs: one product has the rows of both";

static const struct form {
    const char *says; /* explain */
    struct product p;
} forms[] = {
    { TOGETHER, { "bf16", "i", 128, 256, 64, false, false, false, false } },
    { TOGETHER, { "bf16", "i", 256, 64, 64, false, false, false, false } },
    { TOGETHER, { "e4m3", "j", 64, 128, 128, true, false, false, false } },
    { TOGETHER, { "e4m3", "i", 128, 96, 128, false, false, true, false } },
    { TOGETHER, { "e2m1", "i", 128, 128, 128, false, false, true, false } },
    { "no pairs of CTAs: the second operand is not the same for both", { "bf16", "j", 128, 128, 64, false, false, false, false } },
    { TOGETHER, { "bf16", "i", 128, 128, 64, false, true, false, false } },
    { "no pairs of CTAs: the second operand does not come by TMA in two halves", { "bf16", "i", 128, 48, 64, false, false, false, false } },
    { "no pairs of CTAs: a product has not whole blocks of 128 rows", { "bf16", "i", 64, 128, 64, false, false, false, false } },
    { "no pairs of CTAs: an operand is read by others, too", { "bf16", "i", 128, 64, 64, false, false, false, true } },
};

static bool check_form(const struct form *f, const char *target, struct arena *a, struct diag *d)
{
    struct compile_options o = { .target = target };
    struct buf explain = { 0 }, log = { 0 };
    write_program(&f->p);
    struct node *file = dsl_parse_file(a, d, path, NULL, 0);
    if (!d->errors) dsl_check(a, d, file);
    struct ir_fn *fn = d->errors ? NULL : compiler_lower(a, d, file, dsl_kernel(file, "g"), &o);
    if (fn) compiler_passes(a, d, fn, target_find(target));
    struct image *im = fn && !d->errors ? codegen_kernel(a, d, fn, &(struct codegen_options){ .explain = &explain }) : NULL;
    if (!im) return false;
    bool two = strstr(im->ptx, "cta_group::2"), one = strstr(im->ptx, "cta_group::1"), wanted = f->says == TOGETHER;
    bool ok = strstr(explain.at, f->says) && two == wanted && one != wanted;
    if (!ok) printf("%s: '%s' is not said, or not done\n%s", target, f->says, explain.at);
    void *cubin = NULL;
    size_t n = 0;
    struct assemble_report report = { 0 };
    enum assemble_result r = assemble(im->ptx, im->ptx_bytes, &(struct assemble_options){ .target = target, .timeout_ms = 60000 }, &cubin, &n, &report, &log);
    if (r != ASSEMBLE_OK && r != ASSEMBLE_NONE) printf("%s: ptxas: %s\n", target, log.at ? log.at : "fails");
    free(cubin);
    buf_free(&log);
    buf_free(&explain);
    return ok && (r == ASSEMBLE_OK || r == ASSEMBLE_NONE);
}

static void form(const struct form *f, const char *target)
{
    struct arena a = { 0 };
    struct diag d;
    diag_init(&d, &a);
    bool ok = check_form(f, target, &a, &d);
    if (!ok) {
        struct buf out = { 0 };
        diag_print(&d, &out, DIAG_PLAIN);
        printf("%s\n", out.at ? out.at : "");
        buf_free(&out);
    }
    ok ? passed++ : failed++;
    arena_free(&a);
}

/* ---- numbers ---- */

static int pick(uint64_t *seed, int n) { return (int)(oracle_random(seed) % (uint64_t)n); }

static void numbers(int i)
{
    static const char *const types[] = { "bf16", "e4m3", "e2m1", "e4m3" };
    static const int cols[] = { 32, 64, 96, 128, 224, 256 };
    uint64_t seed = 900 + (uint64_t)i;
    struct product p = { .type = types[i % COUNT(types)], .bm = 128, .bk = 64 << pick(&seed, 2), .flip = pick(&seed, 3) == 0, .scales = i % COUNT(types) > 1 };
    p.cluster = p.flip ? "j" : "i";
    p.bn = cols[pick(&seed, COUNT(cols))];
    if (p.flip) p.bm = p.bn, p.bn = 128;
    p.across = i % COUNT(types) == 0 && i & 4;
    struct buf out = { 0 };
    write_program(&p);
    struct oracle_options o = { .path = path, .target = i % 3 ? "sm_100a" : "sm_103a", .device = "emu", .seed = (uint64_t)i, .cases = 1, .seconds = 5 };
    struct oracle_result r = oracle_test(&o, &out);
    bool ok = !r.failed && !r.skipped && r.cases;
    if (!ok && failed < 3) {
        char *text;
        size_t n;
        if (read_file(path, &text, &n)) printf("program %d:\n%.*s%s\n", i, (int)n, text, out.at);
    }
    ok ? passed++ : failed++;
    buf_free(&out);
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd >= 0) close(fd);
    for (int i = 0; i < COUNT(forms) && fd >= 0; i++) form(&forms[i], i % 2 ? "sm_103a" : "sm_100a");
    for (int i = 0; i < PROGRAMS && fd >= 0; i++) numbers(i);
    unlink(path);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || !passed;
}
