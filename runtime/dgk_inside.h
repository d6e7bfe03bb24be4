/* dgk_inside - what the files of libdgk's public half share.
 *
 *   dgk_context.c  devices, memory, workspaces, the text of failures
 *   dgk_tensor.c   types by number, DLPack, tensors that stand for other types
 *   dgk_kernel.c   kernels: read once, their signature
 *   dgk_variant.c  a kernel compiled for one choice of types, layouts, compiled-in sizes and tune values
 *   dgk_call.c     calls: the first of a shape is bound and checked, later ones only launch
 *   dgk_plan.c     calls with everything decided; checks and tests
 *   ops.c          the operators: which kernel, which arguments */
#ifndef RUNTIME_DGK_INSIDE_H
#define RUNTIME_DGK_INSIDE_H

#include <pthread.h>

#include "runtime/choose.h"
#include "runtime/dgk.h"
#include "runtime/launch.h"
#include "runtime/module.h"

enum { OPERATORS_MAX = 16, SLOTS_MAX = 64, KEY_MAX = SLOTS_MAX * (4 + 2 * DGK_RANK) + 2 };

/* ---- failures (dgk_context.c) ---- */

struct fault *fault_here(void);  /* this thread's, emptied */
bool forked(const struct dgk_context *c, struct fault *why);

/* ---- contexts ---- */

/* Memory that kernels of one stream share: each leaves its counters as it found them, zero. */
struct workspace {
    struct workspace *next;
    void *stream;
    uint64_t scratch, counters;
    size_t scratch_bytes, counter_bytes;
};

struct dgk_context {
    pthread_mutex_t lock;          /* of the workspaces and the list of kernels */
    pthread_mutex_t serial;        /* of an emulator, while it is used; taken after a kernel's, before `lock` */
    struct device *device;
    const struct target *target;
    unsigned generation;           /* of the process that opened it */
    int sms;
    bool pdl;
    struct workspace *spaces;
    struct workspace captured;     /* what captured graphs use */
    VEC(uint64_t) outgrown;        /* graphs may still hold them: freed with the context */
    struct arena arena;
    struct dgk_kernel *kernels;
    struct dgk_kernel *operators[OPERATORS_MAX]; /* ops.c: loaded when first used */
    char spec[128];
};

/* Whether a launch may overlap with the one before: asked for, and the code waits. */
bool context_overlaps(const struct dgk_context *c);

/* Memory for a launch on this stream: grown outside of captures only. */
enum dgk_status workspace_find(struct dgk_context *c, void *stream, size_t scratch, size_t counters, uint64_t *scratch_at,
                               uint64_t *counters_at, struct fault *why);

/* ---- tensors (dgk_tensor.c) ---- */

/* The tensor as one of `want`: itself, or its bits where it counts bytes that hold the narrow type. False: neither. */
bool tensor_as(struct tensor *out, const struct dgk_tensor *in, enum type want);
bool type_stands_for(enum type in, enum type want);

/* ---- kernels (dgk_kernel.c) ---- */

struct slot_param {
    const char *name;
    const struct node *node;
    const char *fixed; /* its value, where the options fix it */
    bool is_type;
};
struct slot_arg {
    const char *name;
    const struct node *node;
    int dir, rank;
    enum type type;          /* TY_none: that of parameter `param` */
    int param;
    int inner[IMAGE_RANK], n_inner; /* dimensions that may have stride 1, in order of preference */
    int fixed_inner;         /* by the options; -1: by the strides */
    int dim[IMAGE_RANK];     /* index into dims where it is a plain name; else -1 */
};
struct slot_dim {
    const char *name;
    const char *fixed;
    bool compiled_in;        /* its value is part of a variant */
};

struct entry;
struct variant;

/* What the model chose for one question. */
struct memo {
    struct memo *next;
    const char *asked, *answer;
};

struct dgk_kernel {
    struct dgk_kernel *next;
    struct dgk_context *context;
    pthread_mutex_t lock;
    struct arena arena;
    struct diag diag;
    const char *path, *symbol;
    const struct node *file, *node;
    bool from_text;
    struct slot_arg *args;
    struct slot_param *params;
    struct slot_dim *dims;
    int n_args, n_params, n_dims;
    VEC(struct binding) tune;
    VEC(const char *) import_dirs;
    struct variant *variants;
    struct memo *memos;
    struct entry **entries;
    int n_entries, cap_entries;
    dgk_counts counts;
};

/* ---- variants (dgk_variant.c) ---- */

struct variant {
    struct variant *next;
    char *key;
    struct arena arena;
    struct image *image;
    struct ir_fn *fn;               /* NULL when the image came from the cache */
    struct device_module *module;   /* NULL until first loaded */
    bool cached;                    /* it came from the cache, */
    const void *code;               /* with its cubin, or NULL */
    size_t code_bytes;
};

/* What decides a variant, worked out from a call. */
struct wanted {
    enum type type[SLOTS_MAX];      /* of each argument */
    int inner[SLOTS_MAX];
    int lies[SLOTS_MAX];            /* bytes that the tensor on the device is aligned to, up to 16 */
    int align[SLOTS_MAX];           /* of them, what the variant may rely on */
    int64_t param[SLOTS_MAX];       /* integer parameters; INT64_MIN: not given */
    enum type param_type[SLOTS_MAX];
    int64_t size[SLOTS_MAX];        /* of each dimension; -1: no argument says */
};

enum dgk_status variant_want(struct dgk_kernel *k, const dgk_value *values, int n, struct wanted *w, struct fault *why);
/* The variant for it: found, or compiled. `explain` asks for a new compilation that only fills it. */
enum dgk_status variant_find(struct dgk_kernel *k, const struct wanted *w, bool may_compile, struct variant **out, struct buf *explain,
                             struct fault *why);
enum dgk_status variant_load(struct dgk_kernel *k, struct variant *v, struct fault *why);
void variant_free(struct dgk_kernel *k, struct variant *v);

/* ---- calls (dgk_call.c) ---- */

/* A call of known shapes and strides: all but the addresses. */
struct entry_map {
    struct device_map map;
    uint64_t delta;          /* from the argument's address to the map's */
    int arg;
    uint32_t offset;         /* of the map in the parameters */
};
struct entry {
    struct entry *next;
    uint64_t hash;
    int64_t *key;
    int n_key;
    struct variant *variant;
    struct device_launch launch;
    char *params;            /* aligned to 64 bytes; as sent last */
    uint32_t *offsets;
    struct entry_map *maps;
    int n_maps;
    int64_t scratch, counters;
    void *owned;
};

/* Around whatever uses the kernel and its device. */
void *kernel_begin(struct dgk_kernel *k);
void kernel_end(struct dgk_kernel *k, void *before);

enum dgk_status check_values(const struct dgk_kernel *k, const dgk_value *values, int *n, struct fault *why);
enum dgk_status entry_make(struct dgk_kernel *k, const dgk_value *values, int n, bool may_compile, struct entry **out, struct fault *why);
void entry_free(struct entry *e);
/* Puts addresses, scalars (values NULL: as they are) and maps into params, which has the layout of e->params and its
 * contents. keep: params are e->params, and e remembers where the maps point. */
enum dgk_status entry_fill(struct dgk_kernel *k, struct entry *e, const uint64_t *addresses, const dgk_value *values, char *params, bool keep,
                           struct fault *why);
void entry_put_workspace(const struct entry *e, uint64_t scratch, uint64_t counters, char *params);
/* The address of each argument; of an empty tensor without memory, one that nothing is read from. */
void entry_addresses(const struct dgk_kernel *k, const dgk_value *values, int n, uint64_t *out);

#endif
