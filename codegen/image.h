/* image - a compiled kernel and everything a host needs to launch it. Made by codegen, used by runtime; plain data, so
 * that it can be written to a cache and read back. */
#ifndef CODEGEN_IMAGE_H
#define CODEGEN_IMAGE_H

#include "dsl/base.h"
#include "dsl/diag.h"
#include "dsl/types.h"

#define IMAGE_RANK 8 /* most dimensions of a tensor argument */

/* A host expression: integers in postfix order over the values of one call. Division floors. */
enum hexpr_op {
    HEX_CONST,  /* push v                                            */
    HEX_DIM,    /* push the value of image.dims[v]                   */
    HEX_STRIDE, /* push stride in elements: argument v / 16, dimension v % 16 */
    HEX_SCALAR, /* push the integer scalar argument v                */
    HEX_UNITS,  /* push the number of CTAs (or clusters) the launch will have: multiprocessors * CTAs per SM */
    HEX_ADD, HEX_SUB, HEX_MUL, HEX_DIV, HEX_MOD, HEX_CDIV, HEX_MIN, HEX_MAX,
    HEX_EQ, HEX_NE, HEX_LT, HEX_LE, HEX_AND, HEX_OR, HEX_NOT,
    HEX_SELECT  /* c a b: c ? a : b                                   */
};
struct hexpr_code {
    enum hexpr_op op;
    int64_t v;
};
struct hexpr {
    struct hexpr_code *at;
    int n;
};

enum image_dir { IMAGE_IN, IMAGE_OUT, IMAGE_INOUT };

/* A tensor or scalar argument, in the order of the source. */
struct image_arg {
    const char *name;
    enum image_dir dir;
    enum type type;
    int rank;                        /* 0: scalar */
    struct hexpr dim[IMAGE_RANK];    /* size of each dimension, in elements */
    const char *dim_text[IMAGE_RANK]; /* as written, for messages */
    int dim_symbol[IMAGE_RANK];      /* index into image.dims where the dimension is a plain name, else -1 */
    int inner;                       /* the dimension this image was compiled to have stride 1 */
    int align[IMAGE_RANK];           /* stride of each other dimension must be a multiple of this many elements (1: free) */
    int base_align;                  /* bytes the data pointer must be aligned to */
    struct span span;
};

enum image_param_kind {
    PARAM_POINTER,  /* arg: device address                                       8 bytes */
    PARAM_DIM,      /* arg: index into dims                                      4 bytes */
    PARAM_STRIDE,   /* arg, dim: stride in elements                              8 bytes */
    PARAM_SCALAR,   /* arg: the scalar, in its type (at least 4 bytes)                   */
    PARAM_MAP,      /* arg: index into maps; a tensor map by value             128 bytes */
    PARAM_SCRATCH,  /* device address of scratch_bytes of memory, contents free  8 bytes */
    PARAM_COUNTERS  /* device address of counter_bytes, zero before the first launch and after each  8 bytes */
};
struct image_param {
    enum image_param_kind kind;
    int arg, dim;
    uint32_t offset, bytes;
};

/* A TMA descriptor the host encodes for each launch; dimensions innermost first. */
struct image_map {
    int arg;
    enum type type;
    int rank;
    struct hexpr offset;     /* elements added to the argument's address */
    struct hexpr size[5];    /* elements */
    struct hexpr stride[5];  /* elements; [0] is 1 */
    uint32_t box[5];
    int swizzle;             /* bytes of the span: 0, 32, 64, 128 */
    int pack;                /* elements a byte that the map treats as one u8 (2 for e2m1 moved as bytes), else 1 */
};

/* A condition a call must meet, with the author's text. */
struct image_require {
    struct hexpr cond;
    const char *text;
    struct span span;
};

struct image {
    const char *kernel;  /* name in the source */
    const char *symbol;  /* name of the entry in the PTX */
    const char *target;  /* "sm_90a" */
    const char *ptx;
    size_t ptx_bytes;

    VEC(const char *) dims;
    VEC(struct image_arg) args;
    VEC(struct image_param) params;
    uint32_t param_bytes;
    VEC(struct image_map) maps;
    VEC(struct image_require) requires;

    struct hexpr tasks;      /* CTAs wanted: one a task, whole clusters */
    bool persistent;         /* launch at most as many as fit the device, rounded down to clusters; the kernel loops */
    int ctas_per_sm;         /* how many of a persistent kernel's CTAs share a multiprocessor */
    uint32_t cluster;        /* CTAs a cluster, along x */
    uint32_t threads;
    uint32_t smem_bytes;     /* dynamic shared memory */
    struct hexpr scratch_bytes, counter_bytes;
    bool deterministic;      /* no result depends on the order of tasks */
};

/* Values for hexpr_eval. */
struct hexpr_env {
    const int64_t *dims;
    const int64_t (*strides)[IMAGE_RANK];
    const int64_t *scalars;
    int64_t units;
};
int64_t hexpr_eval(const struct hexpr *e, const struct hexpr_env *env);
/* A constant; and x, a constant, and what becomes of both: 3 * n is hexpr_then(a, n, HEX_MUL, 3). */
struct hexpr hexpr_const(struct arena *a, int64_t v);
struct hexpr hexpr_then(struct arena *a, struct hexpr x, enum hexpr_op op, int64_t v);
/* "cdiv(M, 128) * cdiv(N, 256)": for explain and messages. */
void hexpr_print(const struct hexpr *e, const struct image *im, struct buf *out);

#endif
