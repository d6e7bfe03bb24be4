/* timing - one call's arguments on a device, filled with random data, and launches of compiled variants on them. */
#ifndef RUNTIME_TIMING_H
#define RUNTIME_TIMING_H

#include "runtime/choose.h"
#include "runtime/launch.h"

struct timing {
    struct arena arena;
    struct device *device;
    int n;                     /* arguments */
    struct tensor *tensors;    /* on the device; rows as far apart as any variant may want them */
    void **data;               /* what an argument begins with, where the kernel's `given` lines say; else NULL: random */
    struct call_arg *args;
    enum image_dir *dir;
    bool *any;                 /* parts of it may hold anything, by a spec */
    const char **dims;         /* names, and */
    int64_t *sizes;            /* their values */
    int n_dims;
    int sms;                   /* multiprocessors to occupy; 0: all */
    double bytes;              /* of all tensors */
    uint64_t flush;            /* written before each launch, so that L2 holds nothing of the call; 0: nothing is */
};

/* The image is any variant's: all have the same signature. `fn` is what it was made from: its givens are run on the host.
 * `ask` names the sizes, and the file for kernels that givens run; `scalars` the values of scalar arguments (others: 1). */
struct timing_call {
    const struct choose_ask *ask;
    const struct ir_fn *fn;
    const struct image *image;
    const struct binding *scalars;
    int n_scalars;
};
enum dgk_status timing_open(struct timing *t, struct device *d, const struct timing_call *c, struct fault *why);
void timing_close(struct timing *t);

/* One untimed launch, then `launches` timed ones with a cold L2, in microseconds each. */
enum dgk_status timing_run(struct timing *t, const struct image *im, struct device_module *m, int launches, double *us, struct fault *why);

/* What one launch makes of fresh arguments: the bytes of every output, malloc'ed, in the order of the arguments. */
enum dgk_status timing_result(struct timing *t, const struct image *im, struct device_module *m, void **out, struct fault *why);
/* How far apart two results are: the largest 1 - 2<x,y>/(<x,x> + <y,y>) of an output of floats; infinite where integers differ.
 * An output of which a spec says `else any` is not compared. */
double timing_distance(const struct timing *t, void *const *x, void *const *y);
void timing_free_result(const struct timing *t, void **result);

double timing_median(double *us, int n); /* sorts us */

#endif
