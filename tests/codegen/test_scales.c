/* Block scales: which products keep them in the instruction, in which form, and that each row, column and granule gets its own:
 * random shapes and data against the spec, over types, granules, orders of the scales in memory, tiles and warps. */
#include "codegen/assemble.h"
#include "codegen/codegen.h"
#include "compiler/compiler.h"
#include "runtime/oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
enum { PROGRAMS = 12 };
#else
enum { PROGRAMS = 40 };
#endif

static int passed, failed;
static char path[] = "/tmp/dgc_scales_XXXXXX";

/* ga, gb: granules along k, 0: that side has no scales. rows: coordinates along n that share a scale of B. */
struct product {
    const char *a, *b, *scale;
    int ga, gb, rows, bm, bn, bk;
    const char *warps;
    bool flip, direct;        /* direct: scales are read from memory, not through a pipe */
};

static const char PROGRAM[] =
    "kernel g(in %s A[M, K], in %s SA[cdiv(K, %d), M] inner(M | cdiv(K, %d)),\n"
    "         in %s B[N, K], in %s SB[cdiv(N, %d), cdiv(K, %d)] inner(cdiv(K, %d) | cdiv(N, %d)), out f32 D[M, N])\n"
    "    require K %% 256 == 0 && M %% 16 == 0 && N %% 16 == 0\n"
    "{\n"
    "    spec D[i, j] = sum(k: f32(A[i, k]) * f32(B[j, k])%s%s) tol 1e-9;\n"
    "    on sm_120a { role math(warps = {%s}); %s }\n"
    "    on sm_100a { %s }\n"
    "    axis i = M by %d, j = N by %d, k = K by %d;\n"
    "    grid (i, j);\n"
    "    pipe ab[auto] { %s a[i, k]; %s b[j, k]; }\n"
    "    pipe sf[2] { %s sa[k/%d, i]; %s sb[j/%d, k/%d]; }\n"
    "    role load { for k { produce ab { a = A[i, k]; b = B[j, k]; } produce sf { sa = SA[k/%d, i]; sb = SB[j/%d, k/%d]; } } }\n"
    "    role math {\n"
    "        accum f32 c[i, j] = 0;\n"
    "        for k consume ab consume sf mma c[i, j] += a[i, k] * b[j, k]%s%s;\n"
    "        D[i, j] = c[i, j];\n"
    "    }\n"
    "}\n";

static void write_program(const struct product *p)
{
    char text[4096], sa[2][64] = { "" }, sb[2][64] = { "" };
    int ga = p->ga ? p->ga : 32, gb = p->gb ? p->gb : 32;
    if (p->ga) {
        snprintf(sa[0], sizeof sa[0], " * f32(SA[k/%d, i])", ga);
        snprintf(sa[1], sizeof sa[1], " * %s[k/%d, i]", p->direct ? "SA" : "sa", ga);
    }
    if (p->gb) {
        snprintf(sb[0], sizeof sb[0], " * f32(SB[j/%d, k/%d])", p->rows, gb);
        snprintf(sb[1], sizeof sb[1], " * %s[j/%d, k/%d]", p->direct ? "SB" : "sb", p->rows, gb);
    }
    int n = snprintf(text, sizeof text, PROGRAM, p->a, p->scale, ga, ga, p->b, p->scale, p->rows, gb, gb, p->rows, sa[0], sb[0],
                     p->warps, p->flip ? "flip(c) = 1;" : "", p->flip ? "flip(c) = 1;" : "", p->bm, p->bn, p->bk, p->a, p->b, p->scale, ga, p->scale, p->rows, gb, ga, p->rows, gb, sa[1], sb[1]);
    write_file(path, text, (size_t)n);
}

/* ---- forms ---- */

static const struct form {
    const char *target, *holds, *lacks; /* in the PTX */
    struct product p;
} forms[] = {
    { "sm_120a", "kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e4m3.e4m3", "fma.rn.f32", { "e4m3", "e4m3", "ue8m0", 32, 32, 1, 64, 64, 128, "4x1", false, false } },
    { "sm_121a", "kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e5m2.e4m3", "fma.rn.f32", { "e5m2", "e4m3", "ue8m0", 128, 32, 1, 64, 64, 128, "4x1", false, false } },
    { "sm_120a", "kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e4m3.e4m3", "fma.rn.f32", { "e4m3", "e4m3", "ue8m0", 128, 128, 128, 128, 128, 128, "4x2", false, false } },
    { "sm_120a", "m16n8k64.row.col.kind::mxf4.block_scale.scale_vec::2X", "mxf8f6f4", { "e2m1", "e2m1", "ue8m0", 32, 32, 1, 128, 128, 128, "4x2", false, false } },
    { "sm_121a", "m16n8k64.row.col.kind::mxf4.block_scale.scale_vec::2X", "mxf8f6f4", { "e2m1", "e2m1", "ue8m0", 32, 128, 1, 64, 64, 128, "4x1", true, false } },
    { "sm_120a", "m16n8k64.row.col.kind::mxf4.block_scale.scale_vec::2X", "cvt.rn.f16x2", { "e2m1", "e2m1", "ue8m0", 0, 0, 1, 64, 64, 128, "4x1", false, false } },
    { "sm_120a", "kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e2m1.e4m3", "fma.rn.f32", { "e2m1", "e4m3", "ue8m0", 32, 32, 1, 64, 64, 128, "4x1", false, false } },
    { "sm_121a", "kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e5m2.e2m1", "fma.rn.f32", { "e5m2", "e2m1", "ue8m0", 32, 32, 1, 128, 128, 128, "4x2", false, false } },
    { "sm_120a", "kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e2m1.e2m1", "mxf4.", { "e2m1", "e2m1", "ue8m0", 32, 32, 1, 64, 64, 32, "4x1", false, false } },  /* a tile of k too short for 64 */
    { "sm_100a", "kind::mxf8f6f4.block_scale.scale_vec::1X", "fma.rn.f32", { "e4m3", "e4m3", "ue8m0", 32, 32, 1, 128, 128, 128, "4x1", false, false } },
    { "sm_103a", "kind::mxf8f6f4.block_scale.scale_vec::1X", "fma.rn.f32", { "e5m2", "e4m3", "ue8m0", 128, 0, 1, 128, 96, 256, "4x1", true, false } },
    { "sm_100a", "kind::mxf4.block_scale.scale_vec::2X", "fma.rn.f32", { "e2m1", "e2m1", "ue8m0", 32, 128, 128, 128, 256, 128, "4x1", false, true } },
    { "sm_103a", "kind::mxf8f6f4.block_scale.scale_vec::1X", "mxf4.", { "e2m1", "e4m3", "ue8m0", 32, 32, 1, 128, 64, 128, "4x1", false, false } },        /* fp4 beside fp8 is widened */
    { "sm_100a", "kind::mxf8f6f4.block_scale.scale_vec::1X", "mxf4.", { "e2m1", "e2m1", "ue8m0", 32, 32, 1, 128, 64, 32, "4x1", false, false } },          /* a tile of k too short for 64 */
    { "sm_100a", "kind::mxf4nvf4.block_scale.scale_vec::4X", "fma.rn.f32", { "e2m1", "e2m1", "ue4m3", 16, 16, 1, 128, 128, 128, "4x1", false, false } },
    { "sm_103a", "kind::mxf4nvf4.block_scale.scale_vec::4X", "fma.rn.f32", { "e2m1", "e2m1", "ue4m3", 16, 64, 16, 64, 128, 256, "4x1", true, false } },
    { "sm_100a", "fma.rn.f32", "block_scale", { "e4m3", "e4m3", "ue8m0", 32, 32, 1, 64, 64, 128, "4x1", false, false } },  /* 64 rows: tensor memory has scales of 128 */
    { "sm_100a", "fma.rn.f32", "block_scale", { "e4m3", "e4m3", "f32", 128, 128, 1, 128, 64, 128, "4x1", false, false } },
    { "sm_120a", "fma.rn.f32", "mxf4.", { "e4m3", "e4m3", "f32", 128, 128, 1, 64, 64, 128, "4x1", false, false } },      /* f32 scales: in registers */
    { "sm_89", "fma.rn.f32", "block_scale", { "e4m3", "e4m3", "ue8m0", 32, 32, 1, 64, 64, 128, "4x1", false, false } },
};

static bool check_form(const struct form *f, struct arena *a, struct diag *d)
{
    struct compile_options o = { .target = f->target };
    write_program(&f->p);
    struct node *file = dsl_parse_file(a, d, path, NULL, 0);
    if (!d->errors) dsl_check(a, d, file);
    struct ir_fn *fn = d->errors ? NULL : compiler_lower(a, d, file, dsl_kernel(file, "g"), &o);
    if (fn) compiler_passes(a, d, fn, target_find(f->target));
    struct image *im = fn && !d->errors ? codegen_kernel(a, d, fn, &(struct codegen_options){ 0 }) : NULL;
    if (!im) return false;
    bool ok = strstr(im->ptx, f->holds) && !strstr(im->ptx, f->lacks);
    if (!ok) printf("%s: has no '%s', or '%s'\n", f->target, f->holds, f->lacks);
    void *cubin = NULL;
    size_t n = 0;
    struct assemble_report report = { 0 };
    struct buf log = { 0 };
    enum assemble_result r = assemble(im->ptx, im->ptx_bytes, &(struct assemble_options){ .target = f->target, .timeout_ms = 60000 }, &cubin, &n, &report, &log);
    if (r != ASSEMBLE_OK && r != ASSEMBLE_NONE) printf("%s: ptxas: %s\n", f->target, log.at ? log.at : "fails");
    free(cubin);
    buf_free(&log);
    return ok && (r == ASSEMBLE_OK || r == ASSEMBLE_NONE);
}

static void form(const struct form *f)
{
    struct arena a = { 0 };
    struct diag d;
    diag_init(&d, &a);
    bool ok = check_form(f, &a, &d);
    if (!ok) {
        struct buf out = { 0 };
        diag_print(&d, &out, DIAG_PLAIN);
        printf("%s %s x %s, granules %d and %d: %s\n", f->target, f->p.a, f->p.b, f->p.ga, f->p.gb, out.at ? out.at : "");
        buf_free(&out);
    }
    ok ? passed++ : failed++;
    arena_free(&a);
}

/* ---- numbers ---- */

static int pick(uint64_t *seed, int n) { return (int)(oracle_random(seed) % (uint64_t)n); }

static struct product random_product(uint64_t *seed)
{
    static const char *const types[][2] = { { "e4m3", "e4m3" }, { "e2m1", "e2m1" }, { "e5m2", "e4m3" }, { "e2m1", "e2m1" }, { "e4m3", "e2m1" }, { "e2m1", "e5m2" } };
    static const char *const warps[] = { "4x1", "8x1", "4x2", "2x4", "1x4", "2x2" };
    static const int granules[] = { 32, 32, 64, 128, 256, 0 }, rows[] = { 1, 1, 128, 16 }, tiles[] = { 32, 64, 96, 128 };
    const char *const *t = types[pick(seed, COUNT(types))];
    struct product p = { t[0], t[1], pick(seed, 6) ? "ue8m0" : "f32", granules[pick(seed, COUNT(granules))], granules[pick(seed, COUNT(granules))], rows[pick(seed, COUNT(rows))],
                         tiles[pick(seed, COUNT(tiles))], tiles[pick(seed, COUNT(tiles))], 64 << pick(seed, 3), warps[pick(seed, COUNT(warps))], pick(seed, 4) == 0, pick(seed, 4) == 0 };
    return p;
}

static void numbers(int i)
{
    uint64_t seed = 300 + (uint64_t)i;
    /* one number for a whole side is held in a register across the loop */
    static const struct product number = { "e4m3", "e4m3", "ue8m0", 128, 256, 128, 64, 64, 128, "4x1", false, true };
    static const char *const targets[] = { "sm_121a", "sm_100a", "sm_120a", "sm_103a" };
    struct product p = i ? random_product(&seed) : number;
    if (i & 1) *(p.flip ? &p.bn : &p.bm) = 128 << pick(&seed, 2); /* whole rows of scales in tensor memory */
    if (i % 8 == 5) { /* only tcgen05 has these */
        p.a = p.b = "e2m1", p.scale = "ue4m3", p.direct = false;
        p.ga = p.ga == 32 || !p.ga ? 16 : p.ga, p.gb = p.gb == 32 ? 16 : p.gb;
    }
    struct buf out = { 0 };
    write_program(&p);
    struct oracle_options o = { .path = path, .target = targets[i % COUNT(targets)], .device = "emu", .seed = (uint64_t)i, .cases = 1, .seconds = 3 };
    struct oracle_result r = oracle_test(&o, &out);
    bool ok = !r.failed && !r.skipped && r.cases;
    if (!ok && failed < 5) {
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
    for (int i = 0; i < COUNT(forms) && fd >= 0; i++) form(&forms[i]);
    for (int i = 0; i < PROGRAMS && fd >= 0; i++) numbers(i);
    unlink(path);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || !passed;
}
