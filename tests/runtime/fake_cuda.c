/* A CUDA driver that runs nothing: two devices of sm_90, memory of the host, launches that are recorded. Built by
 * test_dgk_cuda.c as libcuda.so.1, so that what libdgk does with a driver can be tested where there is none. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct attribute {
    int id, pad;
    union {
        char bytes[64];
        int first;
    } value;
};
struct config {
    unsigned grid[3], block[3], smem;
    void *stream;
    struct attribute *attributes;
    unsigned n;
};

/* What tests look at. */
int fake_launches, fake_maps, fake_loads, fake_switches, fake_allocs, fake_capturing, fake_inits;
int fake_version = 13000;
int fake_cluster, fake_overlap; /* attributes 4 and 6 of the last launch: clusters of so many along x, programmatic stream serialization */
void *fake_stream;
unsigned fake_grid;
uint64_t fake_first_param;

static __thread char *current;
static char contexts[2];

int cuInit(unsigned f) { (void)f; fake_inits++; return 0; }
int cuDriverGetVersion(int *v) { *v = fake_version; return 0; }
int cuGetErrorName(int r, const char **t) { (void)r; *t = "CUDA_ERROR_FAKE"; return 0; }
int cuGetErrorString(int r, const char **t) { (void)r; *t = "a fake error"; return 0; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return 0; }
int cuDeviceGetName(char *name, int room, int d) { (void)d; strncpy(name, "a fake GPU", (size_t)room); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d)
{
    (void)d;
    *v = a == 16 ? 132 : a == 75 ? 9 : a == 76 ? 0 : a == 97 ? 232448 : 0;
    return 0;
}
int cuDeviceTotalMem_v2(size_t *n, int d) { (void)d; *n = (size_t)1 << 36; return 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { *c = &contexts[d]; return 0; }
int cuDevicePrimaryCtxRelease_v2(int d) { (void)d; return 0; }
int cuCtxGetCurrent(void **c) { *c = current; return 0; }
int cuCtxSetCurrent(void *c) { current = c; fake_switches++; return 0; }
int cuCtxSynchronize(void) { return 0; }
int cuStreamIsCapturing(void *s, int *status) { (void)s; *status = fake_capturing; return 0; }
int cuMemAlloc_v2(uint64_t *p, size_t n)
{
    if (fake_capturing) return 900;
    fake_allocs++;
    *p = (uint64_t)(uintptr_t)aligned_alloc(256, (n + 255) / 256 * 256);
    return 0;
}
int cuMemFree_v2(uint64_t p) { free((void *)(uintptr_t)p); return 0; }
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t n) { memcpy((void *)(uintptr_t)to, from, n); return 0; }
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t n) { memcpy(to, (void *)(uintptr_t)from, n); return 0; }
int cuMemsetD8_v2(uint64_t to, unsigned char b, size_t n) { memset((void *)(uintptr_t)to, b, n); return 0; }
int cuModuleLoadDataEx(void **m, const void *code, unsigned n, int *o, void **v) { (void)code, (void)n, (void)o, (void)v; fake_loads++; *m = &fake_loads; return 0; }
int cuModuleUnload(void *m) { (void)m; return 0; }
int cuModuleGetFunction(void **f, void *m, const char *name) { (void)m, (void)name; *f = &fake_launches; return 0; }
int cuFuncSetAttribute(void *f, int a, int v) { (void)f, (void)a, (void)v; return 0; }
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, void *f, int t, size_t s) { (void)f, (void)t, (void)s; *n = 1; return 0; }
int cuOccupancyMaxActiveClusters(int *n, void *f, const struct config *c) { (void)f, (void)c; *n = 66; return 0; }
int cuEventCreate(void **e, unsigned f) { (void)f; *e = &fake_inits; return 0; }
int cuEventRecord(void *e, void *s) { (void)e, (void)s; return 0; }
int cuEventSynchronize(void *e) { (void)e; return 0; }
int cuEventElapsedTime(float *ms, void *a, void *b) { (void)a, (void)b; *ms = 1; return 0; }
int cuEventDestroy_v2(void *e) { (void)e; return 0; }
int cuLinkCreate_v2(unsigned n, int *o, void **v, void **s) { (void)n, (void)o, (void)v; *s = &fake_loads; return 0; }
int cuLinkAddData_v2(void *s, int k, void *d, size_t b, const char *name, unsigned n, int *o, void **v)
{
    (void)s, (void)k, (void)d, (void)b, (void)name, (void)n, (void)o, (void)v;
    return 0;
}
int cuLinkComplete(void *s, void **c, size_t *n) { (void)s; *c = "\177ELF fake"; *n = 10; return 0; }
int cuLinkDestroy(void *s) { (void)s; return 0; }
int cuLaunchKernelEx(const struct config *c, void *f, void **params, void **extra)
{
    (void)f, (void)extra;
    fake_launches++;
    fake_stream = c->stream;
    fake_grid = c->grid[0];
    fake_cluster = fake_overlap = 0;
    for (unsigned i = 0; i < c->n; i++) {
        const struct attribute *a = &c->attributes[i];
        if (a->id != 4 && a->id != 6) return 1;
        *(a->id == 4 ? &fake_cluster : &fake_overlap) = a->value.first;
    }
    if (params[0]) memcpy(&fake_first_param, params[0], 8);
    return 0;
}
int cuTensorMapEncodeTiled(void *map, int type, uint32_t rank, void *at, const uint64_t *dim, const uint64_t *stride, const uint32_t *box,
                           const uint32_t *step, int i, int s, int l, int o)
{
    (void)type, (void)rank, (void)dim, (void)stride, (void)box, (void)step, (void)i, (void)s, (void)l, (void)o;
    fake_maps++;
    memset(map, 0, 128);
    memcpy(map, &at, 8);
    return 0;
}
