/* After `dgc build` a process compiles nothing for the calls that the list names: on the emulator, on a GPU (a fake driver's), on
 * a GPU when the list was built for a board that was not there; and it compiles once for a call of another variant. */
#include "runtime/dgk.h"
#include "tests/runtime/fake_cuda.h"

#include <string.h>

static int passed, failed;

static void check(int ok, const char *what, const char *where)
{
    if (!ok) printf("FAILED: %s: %s (last error: %s)\n", where, what, dgk_error());
    ok ? passed++ : failed++;
}

/* Tensors of a call, as its line in the list says. Of M = 130 the scales lie in rows that are no whole 16 bytes; hc_prenorm must
 * know sizes, and says so when it is lowered. */
static const struct call {
    const char *path, *options; /* of the line; */
    const char *fixed[2];       /* what of it the program fixes, too; types follow from its tensors */
    struct {
        const char *type;
        int64_t shape[3]; /* of a matrix, the first two */
    } at[5];
} listed[] = {
    { "kernels_dsl/01_copy.dgk", "-DT=bf16 --shape M=64,N=64", { NULL }, { { "bf16", { 64, 64 } }, { "bf16", { 64, 64 } } } },
    { "kernels_dsl/01_copy.dgk", "--shape M=16,N=96", { NULL }, { { "f32", { 16, 96 } }, { "f32", { 16, 96 } } } },
    { "kernels_dsl/03_row_softmax.dgk", "--shape M=16,N=128", { NULL }, { { "f32", { 16, 128 } }, { "f32", { 16, 128 } } } },
    { "kernels_dsl/03_row_softmax.dgk", "--shape M=8,N=100", { NULL }, { { "f32", { 8, 100 } }, { "f32", { 8, 100 } } } },
    { "kernels_dsl/bf16_gemm.dgk", "--shape M=128,N=256,K=128", { NULL },
      { { "bf16", { 128, 128 } }, { "bf16", { 256, 128 } }, { "bf16", { 128, 256 } } } },
    { "kernels_dsl/bf16_gemm.dgk", "-DOUT=f32 --shape M=16,N=64,K=100", { NULL },
      { { "bf16", { 16, 100 } }, { "bf16", { 64, 100 } }, { "f32", { 16, 64 } } } },
    { "kernels_dsl/fp8_gemm.dgk", "-DG=128 --shape M=130,N=128,K=256", { "G=128" },
      { { "e4m3", { 130, 256 } }, { "f32", { 2, 130 } }, { "e4m3", { 128, 256 } }, { "f32", { 128, 2 } }, { "bf16", { 130, 128 } } } },
    { "kernels_dsl/fp8_gemm.dgk", "-DG=128 --set BM=64 --shape M=64,N=128,K=256", { "G=128", "BM=64" },
      { { "e4m3", { 64, 256 } }, { "f32", { 2, 64 } }, { "e4m3", { 128, 256 } }, { "f32", { 128, 2 } }, { "bf16", { 64, 128 } } } },
    { "kernels_dsl/hc_prenorm.dgk", "--shape M=64,K=512,N=24,P=1", { NULL },
      { { "bf16", { 64, 512 } }, { "f32", { 24, 512 } }, { "f32", { 1, 64, 24 } }, { "f32", { 1, 64 } } } },
};
static const struct call other = { "kernels_dsl/bf16_gemm.dgk", NULL, { NULL },
                                   { { "bf16", { 128, 4096 } }, { "bf16", { 4096, 4096 } }, { "f32", { 128, 4096 } } } };
enum { KERNELS = 5, LISTED = sizeof listed / sizeof *listed, MOST = 4096 * 4096 * 2 };
static const char zeros[1 << 17];

/* How many variants a new kernel compiles for its first call; -1: it fails. */
static int compiles(dgk_context *c, const struct call *t, int launch)
{
    dgk_kernel *k;
    dgk_counts counts;
    dgk_tensor tensors[5];
    dgk_value v[5];
    dgk_options o = { .fixed = t->fixed, .n_fixed = !!t->fixed[0] + !!t->fixed[1] };
    int n = 0, s;
    if (dgk_load(c, t->path, &o, &k)) return -1;
    for (; n < 5 && t->at[n].type; n++) {
        const int64_t *z = t->at[n].shape;
        tensors[n] = (dgk_tensor){ .data = dgk_alloc(c, launch ? sizeof zeros : MOST), .type = dgk_type(t->at[n].type), .place = DGK_DEVICE,
                                   .rank = z[2] ? 3 : 2, .shape = { z[0], z[1], z[2] }, .stride = { z[1], 1 } };
        if (z[2]) tensors[n].stride[0] = z[1] * z[2], tensors[n].stride[1] = z[2], tensors[n].stride[2] = 1;
        v[n] = dgk_of(&tensors[n]);
        if (launch) dgk_write(c, tensors[n].data, zeros, sizeof zeros);
    }
    s = launch ? dgk_call(k, v, n, NULL) : dgk_prepare(k, v, n);
    if (!s) s = dgk_sync(c);
    if (s) printf("%s: %s\n", t->path, dgk_error());
    dgk_count(k, &counts);
    for (int i = 0; i < n; i++) dgk_free(c, tensors[i].data);
    dgk_unload(k);
    return s ? -1 : (int)counts.compiled;
}

static void write_list(const char *path)
{
    FILE *f = fopen(path, "w");
    fprintf(f, "# what this test calls\n");
    for (int i = 0; i < LISTED; i++) fprintf(f, "%s %s   # line %d\n", listed[i].path, listed[i].options, i);
    fclose(f);
}

/* The list built for `built`, called on `device`, with a cache of their own. */
static void build_and_call(const char *program, const char *built, const char *device)
{
    char folder[] = "/tmp/dgc-build-XXXXXX", list[64], command[4096], where[128];
    dgk_context *c;
    snprintf(where, sizeof where, "built for %s, called on %s", built, device);
    if (!mkdtemp(folder) || dgk_open(&c, device)) {
        check(0, "a folder and a device", where);
        return;
    }
    setenv("DGC_CACHE_DIR", folder, 1);
    snprintf(list, sizeof list, "%s.list", folder);
    write_list(list);
    int none = 0;
    for (int i = 0; i < LISTED; i++) none += compiles(c, &listed[i], 0);
    check(none >= KERNELS, "an empty cache has none", where);
    snprintf(command, sizeof command, "rm -r %s; %s/../../dgc build --device=%s %s >/dev/null", folder, program, built, list);
    check(!system(command), "dgc build", where);
    for (int i = 0; i < LISTED; i++) check(compiles(c, &listed[i], 1) == 0, listed[i].options, where);
    check(compiles(c, &other, 0) == 1, "a call that is not in the list compiles one", where);
    dgk_close(c);
    snprintf(command, sizeof command, "rm -r %s %s", folder, list);
    (void)!system(command);
}

int main(int argc, char **argv)
{
    char program[4096];
    (void)argc;
    if (with_fake(argv)) return 1;
    unsetenv("DGC_DISABLE_CACHE"), unsetenv("DGC_CACHE_SHARED"), unsetenv("DGC_TARGET");
    setenv("DGC_TUNE", "off", 1);
    snprintf(program, sizeof program, "%s", argv[0]);
    *strrchr(program, '/') = 0;
    build_and_call(program, "emu:sm_90a", "emu:sm_90a");
    build_and_call(program, "emu:sm_80", "emu:sm_80");
    build_and_call(program, "cuda:0", "cuda:0");
    build_and_call(program, "board:sm_90a", "cuda:0");
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
