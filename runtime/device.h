/* device - what a device can do, behind one table: a GPU through its driver, the emulator, or a GPU that is only compiled for. */
#ifndef RUNTIME_DEVICE_H
#define RUNTIME_DEVICE_H

#include "dsl/base.h"
#include "runtime/status.h"

struct device_module; /* code loaded on a device; its type is the device's own */

struct device_props {
    char name[128];   /* "NVIDIA H200", "emulated sm_90a" */
    char arch[16];    /* "sm_90": the compute capability */
    int major, minor; /* of the compute capability */
    int sms;          /* multiprocessors */
    size_t memory_bytes, smem_bytes; /* smem: most dynamic shared memory of a CTA */
    char driver[64];
    bool emulated;
    bool supposed;    /* compiled for, and not here */
};

/* A tensor map, as the driver takes it: dimensions innermost first, strides in bytes from dimension 1 on. */
struct device_map {
    int data_type, rank, swizzle, oob_nan; /* numbers of CUtensorMapDataType and CUtensorMapSwizzle */
    uint64_t address, dim[5], stride[4];
    uint32_t box[5];
};

struct device_launch {
    struct device_module *module;
    const char *symbol;
    uint32_t grid, threads, cluster; /* along x; cluster divides grid */
    uint32_t smem_bytes;
    const void *params;              /* the parameter space as the kernel declares it */
    uint32_t param_bytes;
    const uint32_t *param_offsets;   /* where each parameter begins */
    int n_params;
    void *stream;                    /* a CUstream of the device; NULL: the legacy default stream */
    bool overlap;                    /* it may set itself up while the kernel before it still runs: its code waits for that one */
};

struct device;
struct device_ops {
    void (*close)(struct device *d);
    uint64_t (*alloc)(struct device *d, size_t bytes, const char *name, struct fault *why); /* 0 when it fails */
    void (*release)(struct device *d, uint64_t address);
    enum dgk_status (*write)(struct device *d, uint64_t to, const void *from, size_t bytes, struct fault *why);
    enum dgk_status (*read)(struct device *d, void *to, uint64_t from, size_t bytes, struct fault *why);
    enum dgk_status (*fill)(struct device *d, uint64_t to, int byte, size_t bytes, struct fault *why);
    enum dgk_status (*load)(struct device *d, const void *code, size_t bytes, struct device_module **out, struct fault *why);
    void (*unload)(struct device *d, struct device_module *m);
    enum dgk_status (*encode_map)(struct device *d, void *out128, const struct device_map *m, struct fault *why);
    /* CTAs of this launch that fit the device at once, whole clusters; grid and params are not looked at. */
    enum dgk_status (*resident)(struct device *d, const struct device_launch *l, int *ctas, struct fault *why);
    enum dgk_status (*launch)(struct device *d, const struct device_launch *l, struct fault *why);
    enum dgk_status (*sync)(struct device *d, struct fault *why);
    /* Milliseconds the device spent between the two calls; the second waits. */
    enum dgk_status (*clock_start)(struct device *d, struct fault *why);
    enum dgk_status (*clock_stop)(struct device *d, double *ms, struct fault *why);
    /* Around several calls from a thread of another's program: makes the device current, and what was before again. */
    void *(*enter)(struct device *d);
    void (*leave)(struct device *d, void *before);
    bool (*capturing)(struct device *d, void *stream); /* whether the stream records a graph instead of running */
};

/* For devices that have no contexts to enter, and no streams that record. */
void *device_enter_none(struct device *d);
void device_leave_none(struct device *d, void *before);
bool device_captures_none(struct device *d, void *stream);

struct device {
    const struct device_ops *ops;
    struct device_props props;
};

/* "cuda", "cuda:1", "emu", "emu:sm_90a", "emu:sm_90a,late", "emu:sm_90a,seed=7,sms=8", "board:sm_90a,sms=114"; early, late and seed= say when
 * the emulator's asynchronous operations take effect. `target` is what a bare "emu" emulates (NULL: sm_90a). */
enum dgk_status device_open(struct device **out, const char *spec, const char *target, struct fault *why);
void device_close(struct device *d);

/* The rows of device_open. */
enum dgk_status cuda_open(struct device **out, const char *options, const char *target, struct fault *why);
enum dgk_status emulator_open(struct device **out, const char *options, const char *target, struct fault *why);
enum dgk_status board_open(struct device **out, const char *options, const char *target, struct fault *why);

/* Whether code compiled for `target` runs on the device: "sm_80" on any later one, "sm_90a" on 9.0 only, "sm_120f" on 12.x. */
bool device_runs(const struct device *d, const char *target);
/* "sm_120a" -> 120 and 'a'; 0 when it is no target. */
int device_target_number(const char *target, char *suffix);

/* PTX to a cubin by the driver alone, for machines with a GPU and no ptxas. `ptx` ends in NUL, the cubin is malloc'ed,
 * `log` gets what the driver's assembler reports. */
struct device_link {
    const char *target;
    bool lineinfo;
    char *log;
    size_t log_room;
};
enum dgk_status cuda_link(const char *ptx, size_t n, const struct device_link *o, void **cubin, size_t *bytes, struct fault *why);

#endif
