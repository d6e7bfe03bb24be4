/* cuda - an NVIDIA GPU through its driver, which is found at run time: nothing of CUDA is needed to build or start.
 * Prototypes are our own, after the CUDA driver API reference (12.x, 13.x); numbers of enumerators are in the enums below. */
#include "runtime/device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef int CUdevice;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUlinkState_st *CUlinkState;

struct cu_attribute { /* CUlaunchAttribute: the union is 64 bytes */
    int id, pad;
    union {
        char bytes[64];
        unsigned dim[3];
        int on;
    } value;
};
struct cu_config { /* CUlaunchConfig */
    unsigned grid[3], block[3], smem_bytes;
    CUstream stream;
    struct cu_attribute *attributes;
    unsigned n_attributes;
};

enum { CU_ATTRIBUTE_CLUSTER_DIMENSION = 4, CU_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION = 6, ATTRIBUTES = 2 };
enum { CU_VERSION_GRAPH_OVERLAP = 12030 }; /* the first whose graphs know overlapping launches: edges of kind programmatic */
enum { CU_SMS = 16, CU_CAPABILITY_MAJOR = 75, CU_CAPABILITY_MINOR = 76, CU_SMEM_OPTIN = 97 };
enum { CU_FUNC_MAX_DYNAMIC_SMEM = 8, CU_FUNC_NON_PORTABLE_CLUSTER = 14 };
enum { CU_JIT_INFO_LOG = 3, CU_JIT_INFO_LOG_BYTES, CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BYTES, CU_JIT_TARGET = 9,
       CU_JIT_LOG_VERBOSE = 12, CU_JIT_LINE_INFO = 13 };
enum { CU_JIT_INPUT_PTX = 1, CU_TARGET_ACCELERATED = 0x10000, CU_TARGET_FAMILY = 0x20000 };
enum { CU_L2_PROMOTION_256B = 3 };

/* Every entry point we call: name in the library, whether an old driver may lack it, arguments. */
#define ENTRY_POINTS                                                                                                    \
    ENTRY(cuInit, true, (unsigned flags))                                                                               \
    ENTRY(cuDriverGetVersion, true, (int *version))                                                                     \
    ENTRY(cuGetErrorName, true, (CUresult r, const char **text))                                                        \
    ENTRY(cuGetErrorString, true, (CUresult r, const char **text))                                                      \
    ENTRY(cuDeviceGetCount, true, (int *n))                                                                             \
    ENTRY(cuDeviceGet, true, (CUdevice *d, int ordinal))                                                                \
    ENTRY(cuDeviceGetName, true, (char *name, int room, CUdevice d))                                                    \
    ENTRY(cuDeviceGetAttribute, true, (int *value, int attribute, CUdevice d))                                          \
    ENTRY(cuDeviceTotalMem_v2, true, (size_t *bytes, CUdevice d))                                                       \
    ENTRY(cuDevicePrimaryCtxRetain, true, (CUcontext *c, CUdevice d))                                                   \
    ENTRY(cuDevicePrimaryCtxRelease_v2, true, (CUdevice d))                                                             \
    ENTRY(cuCtxGetCurrent, true, (CUcontext *c))                                                                        \
    ENTRY(cuStreamIsCapturing, true, (CUstream s, int *status))                                                         \
    ENTRY(cuCtxSetCurrent, true, (CUcontext c))                                                                         \
    ENTRY(cuCtxSynchronize, true, (void))                                                                               \
    ENTRY(cuMemAlloc_v2, true, (uint64_t *p, size_t n))                                                                 \
    ENTRY(cuMemFree_v2, true, (uint64_t p))                                                                             \
    ENTRY(cuMemcpyHtoD_v2, true, (uint64_t to, const void *from, size_t n))                                             \
    ENTRY(cuMemcpyDtoH_v2, true, (void *to, uint64_t from, size_t n))                                                   \
    ENTRY(cuMemsetD8_v2, true, (uint64_t to, unsigned char byte, size_t n))                                             \
    ENTRY(cuModuleLoadDataEx, true, (CUmodule *m, const void *code, unsigned n, int *options, void **values))           \
    ENTRY(cuModuleUnload, true, (CUmodule m))                                                                           \
    ENTRY(cuModuleGetFunction, true, (CUfunction *f, CUmodule m, const char *name))                                     \
    ENTRY(cuFuncSetAttribute, true, (CUfunction f, int attribute, int value))                                           \
    ENTRY(cuOccupancyMaxActiveBlocksPerMultiprocessor, true, (int *n, CUfunction f, int threads, size_t smem))          \
    ENTRY(cuEventCreate, true, (CUevent *e, unsigned flags))                                                            \
    ENTRY(cuEventRecord, true, (CUevent e, CUstream s))                                                                 \
    ENTRY(cuEventSynchronize, true, (CUevent e))                                                                        \
    ENTRY(cuEventElapsedTime, true, (float *ms, CUevent from, CUevent to))                                              \
    ENTRY(cuEventDestroy_v2, true, (CUevent e))                                                                         \
    ENTRY(cuLinkCreate_v2, true, (unsigned n, int *options, void **values, CUlinkState *s))                             \
    ENTRY(cuLinkAddData_v2, true, (CUlinkState s, int kind, void *data, size_t bytes, const char *name, unsigned n,     \
                                   int *options, void **values))                                                       \
    ENTRY(cuLinkComplete, true, (CUlinkState s, void **cubin, size_t *bytes))                                           \
    ENTRY(cuLinkDestroy, true, (CUlinkState s))                                                                         \
    ENTRY(cuLaunchKernelEx, false, (const struct cu_config *c, CUfunction f, void **params, void **extra))              \
    ENTRY(cuOccupancyMaxActiveClusters, false, (int *n, CUfunction f, const struct cu_config *c))                       \
    ENTRY(cuTensorMapEncodeTiled, false, (void *map, int type, uint32_t rank, void *address, const uint64_t *dim,       \
                                          const uint64_t *stride, const uint32_t *box, const uint32_t *element_stride,  \
                                          int interleave, int swizzle, int l2_promotion, int oob_fill))

struct driver {
    void *library;
#define ENTRY(name, needed, arguments) CUresult (*name) arguments;
    ENTRY_POINTS
#undef ENTRY
};

struct device_module {
    CUmodule module;
    char symbol[256]; /* the entry that was prepared last, and for how much shared memory */
    CUfunction function;
    uint32_t smem_bytes, cluster;
};

struct cuda {
    struct device device;
    struct driver cu;
    CUdevice ordinal;
    CUcontext context;
    CUevent start, stop;
    int version;
};

static struct cuda *of(struct device *d) { return (struct cuda *)d; }

static enum dgk_status failed(const struct driver *cu, CUresult r, enum dgk_status s, const char *call, struct fault *why)
{
    const char *name = NULL, *text = NULL;
    cu->cuGetErrorName(r, &name);
    cu->cuGetErrorString(r, &text);
    return fault_set(why, s, "%s: %s (%d): %s", call, name ? name : "unknown error", r, text ? text : "no description");
}

/* Evaluates a driver call and leaves the function with `status` when it fails. */
#define TRY(cu, status, name, ...)                                                    \
    do {                                                                              \
        CUresult r_ = (cu)->name(__VA_ARGS__);                                        \
        if (r_) return failed((cu), r_, (status), #name, why);                        \
    } while (0)

static enum dgk_status find_driver(struct driver *cu, struct fault *why)
{
    cu->library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!cu->library) return fault_set(why, DGK_NO_DRIVER, "no CUDA driver here (%s); run on --device emu, or install NVIDIA's driver", dlerror());
    const char *missing = NULL;
#define ENTRY(name, needed, arguments)                                                                      \
    *(void **)&cu->name = dlsym(cu->library, #name);                                                        \
    if (!cu->name && (needed)) missing = #name;
    ENTRY_POINTS
#undef ENTRY
    if (!missing) return DGK_OK;
    dlclose(cu->library);
    return fault_set(why, DGK_NO_DRIVER, "the CUDA driver has no %s: it is older than CUDA 11.0", missing);
}

static enum dgk_status start_driver(struct driver *cu, struct fault *why)
{
    enum dgk_status s = find_driver(cu, why);
    if (s) return s;
    CUresult r = cu->cuInit(0);
    if (!r) return DGK_OK;
    failed(cu, r, DGK_NO_DEVICE, "cuInit", why);
    dlclose(cu->library);
    return DGK_NO_DEVICE;
}

static enum dgk_status use(struct cuda *c, struct fault *why)
{
    CUcontext now = NULL;
    if (!c->cu.cuCtxGetCurrent(&now) && now == c->context) return DGK_OK;
    TRY(&c->cu, DGK_NO_DEVICE, cuCtxSetCurrent, c->context);
    return DGK_OK;
}

static void cuda_close(struct device *d)
{
    struct cuda *c = of(d);
    if (c->context) {
        c->cu.cuCtxSetCurrent(c->context);
        if (c->start) c->cu.cuEventDestroy_v2(c->start);
        if (c->stop) c->cu.cuEventDestroy_v2(c->stop);
        c->cu.cuDevicePrimaryCtxRelease_v2(c->ordinal);
    }
    dlclose(c->cu.library);
    free(c);
}

static uint64_t cuda_alloc(struct device *d, size_t bytes, const char *name, struct fault *why)
{
    struct cuda *c = of(d);
    uint64_t p = 0;
    if (use(c, why)) return 0;
    CUresult r = c->cu.cuMemAlloc_v2(&p, bytes ? bytes : 1);
    if (!r) return p;
    failed(&c->cu, r, DGK_NO_MEMORY, "cuMemAlloc", why);
    fault_prefix(why, "%zu bytes for '%s': ", bytes, name);
    return 0;
}

static void cuda_release(struct device *d, uint64_t p)
{
    struct cuda *c = of(d);
    c->cu.cuCtxSetCurrent(c->context);
    c->cu.cuMemFree_v2(p);
}

static enum dgk_status cuda_write(struct device *d, uint64_t to, const void *from, size_t n, struct fault *why)
{
    enum dgk_status s = use(of(d), why);
    if (s || !n) return s;
    TRY(&of(d)->cu, DGK_LAUNCH, cuMemcpyHtoD_v2, to, from, n);
    return DGK_OK;
}

static enum dgk_status cuda_read(struct device *d, void *to, uint64_t from, size_t n, struct fault *why)
{
    enum dgk_status s = use(of(d), why);
    if (s || !n) return s;
    TRY(&of(d)->cu, DGK_LAUNCH, cuMemcpyDtoH_v2, to, from, n);
    return DGK_OK;
}

static enum dgk_status cuda_fill(struct device *d, uint64_t to, int byte, size_t n, struct fault *why)
{
    enum dgk_status s = use(of(d), why);
    if (s || !n) return s;
    TRY(&of(d)->cu, DGK_LAUNCH, cuMemsetD8_v2, to, (unsigned char)byte, n);
    return DGK_OK;
}

/* PTX (which must end in NUL) or a cubin; PTX is assembled by the driver. */
static enum dgk_status cuda_load(struct device *d, const void *code, size_t n, struct device_module **out, struct fault *why)
{
    struct cuda *c = of(d);
    enum dgk_status s = use(c, why);
    if (s) return s;
    struct device_module *m = calloc(1, sizeof *m);
    char *text = malloc(n + 1), log[4096] = "";
    if (!m || !text) {
        free(m), free(text);
        return fault_set(why, DGK_NO_MEMORY, "no memory for a module of %zu bytes", n);
    }
    memcpy(text, code, n);
    text[n] = 0;
    int options[] = { CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BYTES };
    void *values[] = { log, (void *)(uintptr_t)(sizeof log - 1) };
    CUresult r = c->cu.cuModuleLoadDataEx(&m->module, text, 2, options, values);
    free(text);
    if (!r) return *out = m, DGK_OK;
    free(m);
    failed(&c->cu, r, DGK_BAD_PTX, "cuModuleLoadDataEx", why);
    size_t used = strlen(why->text);
    if (*log) snprintf(why->text + used, sizeof why->text - used, "\n%s", log);
    return DGK_BAD_PTX;
}

static void cuda_unload(struct device *d, struct device_module *m)
{
    struct cuda *c = of(d);
    c->cu.cuCtxSetCurrent(c->context);
    c->cu.cuModuleUnload(m->module);
    free(m);
}

static enum dgk_status cuda_encode_map(struct device *d, void *out128, const struct device_map *m, struct fault *why)
{
    struct cuda *c = of(d);
    static const uint32_t ones[5] = { 1, 1, 1, 1, 1 };
    _Alignas(64) char map[128];
    if (!c->cu.cuTensorMapEncodeTiled) return fault_set(why, DGK_UNSUPPORTED, "this driver knows no tensor maps: CUDA 12.0 or later is needed");
    enum dgk_status s = use(c, why);
    if (s) return s;
    TRY(&c->cu, DGK_BAD_BOX, cuTensorMapEncodeTiled, map, m->data_type, (uint32_t)m->rank, (void *)(uintptr_t)m->address, m->dim,
        m->stride, m->box, ones, 0, m->swizzle, CU_L2_PROMOTION_256B, m->oob_nan);
    memcpy(out128, map, sizeof map);
    return DGK_OK;
}

/* The entry, allowed its shared memory and cluster size; kept until another is asked for. */
static enum dgk_status prepare(struct cuda *c, const struct device_launch *l, struct fault *why)
{
    struct device_module *m = l->module;
    if (m->function && !strcmp(m->symbol, l->symbol) && m->smem_bytes == l->smem_bytes && m->cluster == l->cluster) return DGK_OK;
    m->function = NULL;
    TRY(&c->cu, DGK_LAUNCH, cuModuleGetFunction, &m->function, m->module, l->symbol);
    if (l->smem_bytes > 48 * 1024)
        TRY(&c->cu, DGK_LAUNCH, cuFuncSetAttribute, m->function, CU_FUNC_MAX_DYNAMIC_SMEM, (int)l->smem_bytes);
    if (l->cluster > 8) TRY(&c->cu, DGK_LAUNCH, cuFuncSetAttribute, m->function, CU_FUNC_NON_PORTABLE_CLUSTER, 1);
    snprintf(m->symbol, sizeof m->symbol, "%s", l->symbol);
    m->smem_bytes = l->smem_bytes;
    m->cluster = l->cluster;
    return DGK_OK;
}

static struct cu_config config(const struct device_launch *l, bool overlap, struct cu_attribute *at)
{
    unsigned n = 0;
    if (l->cluster > 1) at[n++] = (struct cu_attribute){ .id = CU_ATTRIBUTE_CLUSTER_DIMENSION, .value.dim = { l->cluster, 1, 1 } };
    if (overlap) at[n++] = (struct cu_attribute){ .id = CU_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, .value.on = 1 };
    return (struct cu_config){ { l->grid, 1, 1 }, { l->threads, 1, 1 }, l->smem_bytes, l->stream, at, n };
}

static enum dgk_status cuda_resident(struct device *d, const struct device_launch *l, int *ctas, struct fault *why)
{
    struct cuda *c = of(d);
    enum dgk_status s = use(c, why);
    if (s || (s = prepare(c, l, why))) return s;
    int n = 0;
    if (l->cluster > 1 && c->cu.cuOccupancyMaxActiveClusters) {
        struct cu_attribute at[ATTRIBUTES];
        struct cu_config cfg = config(l, false, at);
        cfg.grid[0] = l->cluster; /* any whole number of clusters */
        TRY(&c->cu, DGK_LAUNCH, cuOccupancyMaxActiveClusters, &n, l->module->function, &cfg);
        *ctas = n * (int)l->cluster;
    } else {
        TRY(&c->cu, DGK_LAUNCH, cuOccupancyMaxActiveBlocksPerMultiprocessor, &n, l->module->function, (int)l->threads, l->smem_bytes);
        *ctas = n * d->props.sms;
    }
    if (*ctas) return DGK_OK;
    return fault_set(why, DGK_LAUNCH, "'%s' does not fit a multiprocessor of %s: %u threads, %u bytes of shared memory, clusters of %u",
                     l->symbol, d->props.name, l->threads, l->smem_bytes, l->cluster);
}

static bool capturing(struct cuda *c, void *stream)
{
    int status = 0;
    return !c->cu.cuStreamIsCapturing(stream, &status) && status != 0;
}

static bool overlaps(struct cuda *c, const struct device_launch *l)
{
    return l->overlap && (c->version >= CU_VERSION_GRAPH_OVERLAP || !capturing(c, l->stream));
}

static enum dgk_status cuda_launch(struct device *d, const struct device_launch *l, struct fault *why)
{
    struct cuda *c = of(d);
    enum dgk_status s = use(c, why);
    if (s || (s = prepare(c, l, why))) return s;
    if (!c->cu.cuLaunchKernelEx) return fault_set(why, DGK_UNSUPPORTED, "this driver has no cuLaunchKernelEx: CUDA 12.0 or later is needed");
    void *params[256];
    if (l->n_params > COUNT(params)) return fault_set(why, DGK_LAUNCH, "%d parameters; at most %d", l->n_params, COUNT(params));
    for (int i = 0; i < l->n_params; i++) params[i] = (char *)l->params + l->param_offsets[i];
    struct cu_attribute at[ATTRIBUTES];
    struct cu_config cfg = config(l, overlaps(c, l), at);
    TRY(&c->cu, DGK_LAUNCH, cuLaunchKernelEx, &cfg, l->module->function, params, NULL);
    return DGK_OK;
}

static enum dgk_status cuda_sync(struct device *d, struct fault *why)
{
    enum dgk_status s = use(of(d), why);
    if (s) return s;
    CUresult r = of(d)->cu.cuCtxSynchronize();
    return r ? failed(&of(d)->cu, r, DGK_LAUNCH, "cuCtxSynchronize", why) : DGK_OK;
}

static enum dgk_status cuda_clock_start(struct device *d, struct fault *why)
{
    struct cuda *c = of(d);
    enum dgk_status s = use(c, why);
    if (s) return s;
    if (!c->start) TRY(&c->cu, DGK_LAUNCH, cuEventCreate, &c->start, 0);
    if (!c->stop) TRY(&c->cu, DGK_LAUNCH, cuEventCreate, &c->stop, 0);
    TRY(&c->cu, DGK_LAUNCH, cuEventRecord, c->start, NULL);
    return DGK_OK;
}

static enum dgk_status cuda_clock_stop(struct device *d, double *ms, struct fault *why)
{
    struct cuda *c = of(d);
    float elapsed = 0;
    enum dgk_status s = use(c, why);
    if (s) return s;
    TRY(&c->cu, DGK_LAUNCH, cuEventRecord, c->stop, NULL);
    TRY(&c->cu, DGK_LAUNCH, cuEventSynchronize, c->stop);
    TRY(&c->cu, DGK_LAUNCH, cuEventElapsedTime, &elapsed, c->start, c->stop);
    *ms = (double)elapsed;
    return DGK_OK;
}

static void *cuda_enter(struct device *d)
{
    CUcontext before = NULL;
    of(d)->cu.cuCtxGetCurrent(&before);
    if (before != of(d)->context) of(d)->cu.cuCtxSetCurrent(of(d)->context);
    return before;
}

static void cuda_leave(struct device *d, void *before)
{
    if (before && before != of(d)->context) of(d)->cu.cuCtxSetCurrent(before);
}

static bool cuda_capturing(struct device *d, void *stream) { return capturing(of(d), stream); }

static const struct device_ops ops = {
    cuda_close, cuda_alloc, cuda_release, cuda_write, cuda_read, cuda_fill, cuda_load, cuda_unload, cuda_encode_map,
    cuda_resident, cuda_launch, cuda_sync, cuda_clock_start, cuda_clock_stop, cuda_enter, cuda_leave, cuda_capturing,
};

static int attribute(struct cuda *c, int which)
{
    int v = 0;
    c->cu.cuDeviceGetAttribute(&v, which, c->ordinal);
    return v;
}

static void read_props(struct cuda *c)
{
    struct device_props *p = &c->device.props;
    c->cu.cuDeviceGetName(p->name, sizeof p->name, c->ordinal);
    c->cu.cuDriverGetVersion(&c->version);
    c->cu.cuDeviceTotalMem_v2(&p->memory_bytes, c->ordinal);
    p->major = attribute(c, CU_CAPABILITY_MAJOR);
    p->minor = attribute(c, CU_CAPABILITY_MINOR);
    p->sms = attribute(c, CU_SMS);
    p->smem_bytes = (size_t)attribute(c, CU_SMEM_OPTIN);
    snprintf(p->arch, sizeof p->arch, "sm_%d%d", p->major % 100, p->minor % 10);
    snprintf(p->driver, sizeof p->driver, "CUDA %d.%d", c->version / 1000, c->version % 1000 / 10);
}

static enum dgk_status open_ordinal(struct cuda *c, const char *options, struct fault *why)
{
    char *end;
    long want = strtol(options, &end, 10);
    int n = 0;
    if (*end || want < 0) return fault_set(why, DGK_USAGE, "'cuda:%s' is no device; write cuda:0", options);
    TRY(&c->cu, DGK_NO_DEVICE, cuDeviceGetCount, &n);
    if (want >= n) return fault_set(why, DGK_NO_DEVICE, "there is no cuda:%ld; this machine has %d", want, n);
    TRY(&c->cu, DGK_NO_DEVICE, cuDeviceGet, &c->ordinal, (int)want);
    TRY(&c->cu, DGK_NO_DEVICE, cuDevicePrimaryCtxRetain, &c->context, c->ordinal);
    read_props(c);
    return use(c, why);
}

enum dgk_status cuda_open(struct device **out, const char *options, const char *target, struct fault *why)
{
    (void)target;
    struct cuda *c = calloc(1, sizeof *c);
    if (!c) return fault_set(why, DGK_NO_MEMORY, "no memory for a device");
    enum dgk_status s = start_driver(&c->cu, why);
    if (s) {
        free(c);
        return s;
    }
    c->device.ops = &ops;
    s = open_ordinal(c, options, why);
    if (s) cuda_close(&c->device);
    else *out = &c->device;
    return s;
}

/* ---- the driver as an assembler ------------------------------------------------------------------------------ */

static int jit_target(const char *target)
{
    char suffix;
    int n = device_target_number(target, &suffix);
    return n + (suffix == 'a' ? CU_TARGET_ACCELERATED : suffix == 'f' ? CU_TARGET_FAMILY : 0);
}

static enum dgk_status link_text(struct cuda *c, const char *ptx, size_t n, const struct device_link *o, void **cubin, size_t *bytes,
                                 struct fault *why)
{
    int options[] = { CU_JIT_INFO_LOG, CU_JIT_INFO_LOG_BYTES, CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BYTES, CU_JIT_LOG_VERBOSE,
                      CU_JIT_LINE_INFO, CU_JIT_TARGET };
    char errors[4096] = "";
    void *values[] = { o->log, (void *)(uintptr_t)o->log_room, errors, (void *)(uintptr_t)(sizeof errors - 1), (void *)1,
                       (void *)(uintptr_t)o->lineinfo, (void *)(uintptr_t)jit_target(o->target) };
    CUlinkState state;
    void *code;
    TRY(&c->cu, DGK_UNSUPPORTED, cuLinkCreate_v2, COUNT(options), options, values, &state);
    CUresult r = c->cu.cuLinkAddData_v2(state, CU_JIT_INPUT_PTX, (void *)(uintptr_t)ptx, n + 1, "kernel.ptx", 0, NULL, NULL);
    if (!r) r = c->cu.cuLinkComplete(state, &code, bytes);
    enum dgk_status s = DGK_OK;
    if (r) {
        failed(&c->cu, r, DGK_BAD_PTX, "cuLinkComplete", why);
        size_t used = strlen(why->text);
        snprintf(why->text + used, sizeof why->text - used, "\n%s", errors);
        s = DGK_BAD_PTX;
    } else if (!(*cubin = malloc(*bytes))) {
        s = fault_set(why, DGK_NO_MEMORY, "no memory for a cubin of %zu bytes", *bytes);
    } else {
        memcpy(*cubin, code, *bytes);
    }
    c->cu.cuLinkDestroy(state);
    return s;
}

enum dgk_status cuda_link(const char *ptx, size_t n, const struct device_link *o, void **cubin, size_t *bytes, struct fault *why)
{
    struct device *d;
    enum dgk_status s = cuda_open(&d, "0", NULL, why);
    if (s) return s;
    s = link_text(of(d), ptx, n, o, cubin, bytes, why);
    device_close(d);
    return s;
}
