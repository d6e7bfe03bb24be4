/* choose - tune values for a call: which of a kernel's variants suits its shape and the device. */
#ifndef RUNTIME_CHOOSE_H
#define RUNTIME_CHOOSE_H

#include "compiler/compiler.h"
#include "runtime/device.h"

struct choose_ask {
    struct arena *arena;                   /* for whatever the answer points to */
    const struct node *file, *kernel;
    const struct compile_options *options; /* what is fixed: parameters, compiled-in dimensions, tune values, inner dimensions */
    const char *const *dims;               /* every dimension of the call, */
    const int64_t *sizes;                  /* and its value */
    int n_dims;
    const struct device_props *device;
    int sms;                               /* multiprocessors the call may occupy */
};

/* Fills out[] with tune values and returns how many; what is left out takes the compiler's first choice that fits. The
 * same ask must get the same answer: variants are found again by it. Asked once for each new shape. */
int choose_tune(const struct choose_ask *ask, struct binding *out, int room);

#endif
