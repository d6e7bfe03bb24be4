/* emu - runs PTX text on the CPU: one chip of a chosen generation, deterministic from a seed.
 *
 * The emulator is an independent witness of the compiler: it sees PTX text, launch parameters and tensor maps, never the
 * compiler's IR, and includes nothing but dsl/base.h and dsl/diag.h. It decodes descriptors, swizzles and fragments by
 * its own code, written from the PTX manual. Unknown opcodes, modifiers and state spaces are errors, never ignored. */
#ifndef EMU_H
#define EMU_H

#include "dsl/base.h"

/* The chip that executes: its arithmetic, not the PTX's target. sm_80 PTX on EMU_SM90 rounds as an H100 does. */
enum emu_chip { EMU_SM80, EMU_SM89, EMU_SM90, EMU_SM100, EMU_SM103, EMU_SM120, EMU_SM121, EMU_CHIPS };

/* When asynchronous operations (TMA, cp.async, wgmma, tcgen05, bulk stores) take effect.
 * EARLY at issue; LATE only when a wait forces them (sources read then; destinations poisoned from issue to completion);
 * SEEDED at a random point between, and warps are scheduled in a random order. */
enum emu_timing { EMU_EARLY, EMU_LATE, EMU_SEEDED };

struct emu;        /* a device: global memory, tensor maps, settings */
struct emu_module; /* parsed, decoded PTX */

struct emu_config {
    enum emu_chip chip;
    enum emu_timing timing;
    uint64_t seed;
    int sms;             /* what the host reports as multiprocessor count; CTAs resident at once. 0: 4 */
    uint64_t step_limit; /* warp instructions of one launch before it is called a livelock; 0: 2^40 */
    int threads;         /* host threads that run clusters side by side; 0: as many as there are cores */
    bool unchecked;      /* no reports of races in shared memory, missing proxy fences and uninitialised reads */
    int capability;      /* 86: what PTX is held against, where a board computes like another's chip; 0: the chip's own */
};

struct emu *emu_open(const struct emu_config *c);
void emu_close(struct emu *e);
/* Timing and seed may be changed between launches. */
void emu_set_timing(struct emu *e, enum emu_timing t, uint64_t seed);

/* The text of the last failure of this device (parse error with line and column; fault, deadlock or limit report with
 * CTA, warp, PTX line and, where .loc gives one, the source line). Valid until the next call. */
const char *emu_error(const struct emu *e);

/* Global memory. Addresses are device addresses, not host pointers; allocations are 256-byte aligned with guard gaps
 * around them; `name` is used in reports. Fresh memory counts as uninitialised until written. 0 when it fails. */
uint64_t emu_alloc(struct emu *e, size_t bytes, const char *name);
bool emu_free(struct emu *e, uint64_t address);
bool emu_write(struct emu *e, uint64_t address, const void *from, size_t bytes);
bool emu_read(struct emu *e, uint64_t address, void *to, size_t bytes);
bool emu_fill(struct emu *e, uint64_t address, int byte, size_t bytes);

/* cuTensorMapEncodeTiled by our own record: fills 128 bytes that a kernel takes as a parameter. Arguments and checks
 * are the driver's (CUDA driver API, cuTensorMapEncodeTiled: data types 0..15, swizzle 0..6, innermost dimension first, strides in bytes for dimension 1
 * outward). Returns false with emu_error set where the driver would refuse. */
struct emu_tensor_map {
    int data_type, rank, interleave, swizzle, l2_promotion, oob_fill;
    uint64_t address, dim[5], stride[4];
    uint32_t box[5], element_stride[5];
};
bool emu_encode_tensor_map(struct emu *e, void *out128, const struct emu_tensor_map *m);

/* Parses and decodes a PTX module. NULL with emu_error set. `target` in the module decides what is accepted (an sm_90a
 * instruction in an sm_80 module is an error; so is wgmma on a chip that lacks it). */
struct emu_module *emu_load(struct emu *e, const char *ptx, size_t n);
void emu_unload(struct emu *e, struct emu_module *m);

struct emu_launch {
    const char *entry; /* NULL: the only entry of the module */
    uint32_t grid[3], block[3], cluster[3];
    uint32_t dynamic_smem;
    const void *params; /* the parameter space, laid out as the entry declares it */
    size_t param_bytes;
};
/* Counters of one launch; what tests and `dgc explain` look at. */
struct emu_stats {
    uint64_t warp_steps, tma_bytes, mma_count, bank_wavefronts, bank_requests;
    double seconds;
};
/* Runs to the end. false with emu_error set: fault, deadlock, or step limit. */
bool emu_run(struct emu *e, struct emu_module *m, const struct emu_launch *l, struct emu_stats *stats);

#endif
