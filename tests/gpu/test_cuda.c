/* A real GPU: memory, modules, parameters, clusters, tensor maps, timing, and the driver's words when something is wrong. */
#include "runtime/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;
static struct fault why;

static void check(bool ok, const char *what)
{
    if (!ok) printf("FAILED: %s (last message: %s)\n", what, why.text);
    ok ? passed++ : failed++;
    why.text[0] = 0;
}

/* p[ctaid * ntid + tid] = x + rank in the cluster; .target is put in front. */
static const char body[] =
    ".address_size 64\n"
    ".visible .entry k(.param .u64 p, .param .u32 x)\n{\n"
    ".reg .b64 %a, %o; .reg .b32 %t, %c, %n, %v, %r;\n"
    "ld.param.u64 %a, [p]; ld.param.u32 %v, [x]; cvta.to.global.u64 %a, %a;\n"
    "mov.u32 %t, %tid.x; mov.u32 %c, %ctaid.x; mov.u32 %n, %ntid.x;\n"
    "mad.lo.s32 %t, %c, %n, %t; mul.wide.u32 %o, %t, 4; add.s64 %a, %a, %o;\n"
    "RANK\n"
    "add.s32 %v, %v, %r; st.global.u32 [%a], %v; ret;\n}\n";

static char *kernel(const char *header, const char *rank)
{
    static char text[4096];
    const char *at = strstr(body, "RANK");
    snprintf(text, sizeof text, "%s%.*s%s%s", header, (int)(at - body), body, rank, at + 4);
    return text;
}

static void test_memory(struct device *d)
{
    unsigned char out[1000], back[1000];
    for (int i = 0; i < 1000; i++) out[i] = (unsigned char)(i * 7);
    uint64_t p = d->ops->alloc(d, 1000, "block", &why);
    check(p && p % 256 == 0, "an allocation, aligned");
    check(!d->ops->write(d, p, out, 1000, &why) && !d->ops->read(d, back, p, 1000, &why) && !memcmp(out, back, 1000), "there and back");
    check(!d->ops->fill(d, p + 10, 0xee, 20, &why) && !d->ops->read(d, back, p, 1000, &why) && back[9] == out[9] && back[10] == 0xee &&
              back[29] == 0xee && back[30] == out[30], "filled in the middle");
    check(!d->ops->alloc(d, (size_t)1 << 50, "too much", &why) && strstr(why.text, "too much") && strstr(why.text, "CUDA_ERROR_OUT_OF_MEMORY"),
          "too much is refused by name");
    d->ops->release(d, p);
}

/* Runs k over `grid` CTAs of 32 threads and gives the values of thread 0 of each CTA. */
static bool run(struct device *d, const void *code, size_t n, unsigned grid, unsigned cluster, uint32_t x, uint32_t *values, double *ms)
{
    struct device_module *m;
    if (d->ops->load(d, code, n, &m, &why)) return false;
    uint32_t *all = malloc(grid * 32 * 4), offsets[] = { 0, 8 };
    uint64_t p = d->ops->alloc(d, grid * 32 * 4, "out", &why);
    char params[16];
    memcpy(params, &p, 8), memcpy(params + 8, &x, 4);
    struct device_launch l = { .module = m, .symbol = "k", .grid = grid, .threads = 32, .cluster = cluster, .params = params, .param_bytes = 12,
                               .param_offsets = offsets, .n_params = 2 };
    int resident = 0;
    bool ok = !d->ops->resident(d, &l, &resident, &why) && resident >= d->props.sms / 2 && resident % (int)cluster == 0;
    ok = ok && !d->ops->clock_start(d, &why) && !d->ops->launch(d, &l, &why) && !d->ops->clock_stop(d, ms, &why) && !d->ops->sync(d, &why) &&
         !d->ops->read(d, all, p, grid * 32 * 4, &why);
    for (unsigned i = 0; ok && i < grid; i++) values[i] = all[i * 32];
    d->ops->release(d, p);
    d->ops->unload(d, m);
    free(all);
    return ok;
}

static void test_kernels(struct device *d)
{
    uint32_t v[8];
    double ms = 0;
    char *ptx = kernel(".version 7.0\n.target sm_70\n", "mov.u32 %r, 0;");
    check(run(d, ptx, strlen(ptx), 4, 1, 42, v, &ms) && v[0] == 42 && v[3] == 42 && ms > 0 && ms < 1000, "PTX, assembled by the driver");
    if (d->props.major >= 9) {
        ptx = kernel(".version 8.0\n.target sm_90\n", "mov.u32 %r, %cluster_ctarank;");
        check(run(d, ptx, strlen(ptx), 8, 4, 100, v, &ms) && v[0] == 100 && v[3] == 103 && v[4] == 100 && v[7] == 103, "clusters of four");
    } else {
        printf("skipped: clusters (needs sm_90)\n");
    }
    struct device_module *m;
    check(d->ops->load(d, ".version 7.0\n.target sm_70\n.address_size 64\n.entry k() { no_such_op; }\n", 75, &m, &why) == DGK_BAD_PTX &&
              strstr(why.text, "CUDA_ERROR_INVALID_PTX") && strstr(why.text, "no_such_op"), "bad PTX is refused with the assembler's words");
}

static void test_link(struct device *d)
{
    char log[4096] = "", target[16];
    void *cubin;
    size_t n;
    uint32_t v[4];
    double ms;
    snprintf(target, sizeof target, "%s", d->props.arch);
    char *ptx = kernel(".version 7.0\n.target sm_70\n", "mov.u32 %r, 1;");
    struct device_link o = { target, true, log, sizeof log - 1 };
    bool ok = !cuda_link(ptx, strlen(ptx), &o, &cubin, &n, &why);
    check(ok, "the driver links PTX");
    if (!ok) return;
    check(!memcmp(cubin, "\177ELF", 4) && strstr(log, "registers"), "to a cubin, with a report");
    check(run(d, cubin, n, 4, 1, 7, v, &ms) && v[3] == 8, "that runs");
    free(cubin);
}

static void test_maps(struct device *d)
{
    if (d->props.major < 9) {
        printf("skipped: tensor maps (need sm_90)\n");
        return;
    }
    char map[128];
    uint64_t p = d->ops->alloc(d, 64 * 256 * 2, "tensor", &why);
    struct device_map m = { .data_type = 9, .rank = 2, .swizzle = 3, .address = p, .dim = { 256, 64 }, .stride = { 512 }, .box = { 64, 64 } };
    check(!d->ops->encode_map(d, map, &m, &why), "a tensor map");
    m.box[0] = 128;
    check(d->ops->encode_map(d, map, &m, &why) == DGK_BAD_BOX && strstr(why.text, "cuTensorMapEncodeTiled"), "one wider than its swizzle is refused");
    d->ops->release(d, p);
}

int main(void)
{
    struct device *d;
    enum dgk_status s = device_open(&d, "cuda:0", NULL, &why);
    if (s == DGK_NO_DRIVER || s == DGK_NO_DEVICE) {
        printf("skipped: tests/gpu/test_cuda.c (%s)\n", why.text);
        return 77;
    }
    check(s == DGK_OK, "cuda:0 opens");
    if (s) return 1;
    printf("%s, %s, %d multiprocessors, %zu bytes of shared memory, driver %s\n", d->props.name, d->props.arch, d->props.sms, d->props.smem_bytes, d->props.driver);
    check(d->props.sms > 0 && d->props.memory_bytes > 0 && d->props.smem_bytes >= 48 * 1024 && device_runs(d, "sm_70"), "its properties");
    test_memory(d);
    test_kernels(d);
    test_link(d);
    test_maps(d);
    device_close(d);
    check(device_open(&d, "cuda:99", NULL, &why) == DGK_NO_DEVICE && strstr(why.text, "there is no cuda:99"), "a GPU that is not there");
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
