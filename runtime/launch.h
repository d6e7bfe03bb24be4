/* launch - one call of a compiled kernel: dimensions bound and checked, arguments placed, maps encoded, launched. */
#ifndef RUNTIME_LAUNCH_H
#define RUNTIME_LAUNCH_H

#include "codegen/image.h"
#include "runtime/device.h"
#include "runtime/tensor.h"

/* An argument of a call. A tensor with `data` lies on the host: it is copied to the device and back, in the layout that
 * the image wants. One with `address` lies on the device and must have that layout. */
struct call_arg {
    struct tensor *tensor; /* NULL for a scalar */
    int64_t integer;       /* the scalar: of integer type, */
    double real;           /* or of floating type */
    bool given;
    bool later;            /* an inout tensor that the caller makes between bind and place, like an output */
};

/* Where an argument lies on the device while the call lasts. */
struct call_place {
    uint64_t address;
    struct tensor staged; /* host arguments: the layout on the device, and the bytes as sent */
    bool ours;
};

struct call {
    struct arena arena;
    const struct image *image;
    struct device *device;
    struct call_arg *args;      /* image.args.n of them */
    struct call_place *places;
    int64_t *dims;
    bool *known;                /* dims[i] has a value */
    int *from;                  /* dims[i] came from this argument */
    int64_t (*strides)[IMAGE_RANK], *scalars;
    bool keep_outputs;          /* what a kernel leaves unwritten of an output stays as the caller held it */
    int sms;                    /* multiprocessors a persistent grid may occupy; 0: all */
    int64_t units;              /* CTAs (clusters, where there are any) that fit the device at once */
    char *params;               /* aligned to 64 bytes */
    uint32_t *offsets;
    uint64_t scratch, counters;
    struct device_launch launch;
};

/* The steps of a call, in order; each returns the first failure. launch_end frees everything, after any of them.
 *   open    an empty call; fill call.args (tensors not yet given stay NULL)
 *   bind    dims from the shapes of given tensors; every size, type, rank, stride, alignment and `require` checked
 *   shape   the shape an argument must have, once dims are bound (for outputs that the caller allocates after bind)
 *   place   memory on the device, host arguments copied to it
 *   prepare grid, scratch, counters, parameters and tensor maps
 *   run     one launch, without waiting; may be repeated
 *   fetch   waits, and copies outputs back to host arguments */
void launch_open(struct call *c, const struct image *image, struct device *device);
void launch_fix(struct call *c, int dim, int64_t value); /* before bind: a dimension that the code was compiled for */
enum dgk_status launch_bind(struct call *c, struct fault *why);
enum dgk_status launch_shape(struct call *c, int arg, int64_t *shape, struct fault *why);
enum dgk_status launch_place(struct call *c, struct fault *why);
enum dgk_status launch_prepare(struct call *c, struct device_module *m, struct fault *why);
/* What launch_prepare consists of, for those who keep the results: units and grid; parameters and maps; one map. */
enum dgk_status launch_grid(struct call *c, struct device_module *m, struct fault *why);
enum dgk_status launch_params(struct call *c, struct fault *why);
enum dgk_status launch_map(struct call *c, const struct image_map *im, struct device_map *m, struct fault *why);
enum dgk_status launch_run(struct call *c, struct fault *why);
enum dgk_status launch_fetch(struct call *c, struct fault *why);
void launch_end(struct call *c);

/* All of the above for arguments that are all given; image.args.n of them. `m` is the image's code on `device`. */
enum dgk_status launch_call(struct device *device, struct device_module *m, const struct image *image,
                            const struct call_arg *args, struct fault *why);

/* Checks a tensor map against the rules of cuTensorMapEncodeTiled (PTX ISA, Tensor-map; CUDA driver API), naming what
 * breaks them. `name` is the argument's. */
enum dgk_status launch_check_map(const struct device_map *m, int item_bytes, const char *name, struct fault *why);

#endif
