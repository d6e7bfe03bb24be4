/* target - what a GPU can do: the questions passes ask. The answers are rows of codegen/targets.def. */
#ifndef COMPILER_TARGET_H
#define COMPILER_TARGET_H

#include "dsl/base.h"
#include "dsl/types.h"

/* Abilities, a bit each. */
enum {
    HAS_MMA_SYNC = 1 << 0,     /* mma.sync on bf16, f16, tf32, s8 */
    HAS_MMA_FP8 = 1 << 1,      /* mma.sync on fp8 in hardware */
    HAS_MMA_BLOCK_SCALE = 1 << 2, /* mma.sync with block scales, fp4 */
    HAS_WGMMA = 1 << 3,
    HAS_TCGEN05 = 1 << 4,
    HAS_TMA = 1 << 5,          /* tensor and bulk copies, mbarrier with transaction counts, try_wait */
    HAS_CLUSTER = 1 << 6,      /* clusters, distributed shared memory, multicast */
    HAS_SETMAXNREG = 1 << 7,
    HAS_STMATRIX = 1 << 8,
    HAS_CVT_FP8 = 1 << 9,      /* cvt to and from e4m3, e5m2 */
    HAS_CVT_FP4 = 1 << 10,     /* cvt to and from e2m1, ue8m0 */
    HAS_PDL = 1 << 11,         /* griddepcontrol */
    HAS_RED_VECTOR = 1 << 12,  /* red.global.v2/v4.f32 */
    HAS_TCGEN05_SCALE = 1 << 13, /* tcgen05.mma with block scales in tensor memory, fp4 */
    HAS_TENSORMAP = 1 << 14,   /* tensormap.replace */
};

struct target {
    const char *name;          /* "sm_90a" */
    const char *like;          /* tune blocks written `on` this target hold for it too; NULL: none */
    const char *ptx_target;    /* what .target says: sm_121a may be compiled as its family, sm_120f */
    const char *ptx_version;   /* .version */
    unsigned has;
    int smem_bytes;            /* most dynamic shared memory of a CTA */
    int max_regs;              /* per thread */
    int sms;                   /* of the usual board; for estimates only, like the next three */
    int tensor_flops;          /* a cycle and multiprocessor, 16-bit operands */
    int mhz, gbs;              /* clock under load; memory bandwidth in GB/s */
    const char *boards;        /* "H100, H200" */
};

const struct target *target_find(const char *name); /* NULL when unknown */
const struct target *target_all(int *n);            /* the table, in order */
static inline bool target_has(const struct target *t, unsigned ability) { return (t->has & ability) == ability; }
/* Whether an `on NAME` block applies to t: NAME is t, or what t is like. */
bool target_matches(const struct target *t, const char *name);

#endif
