/* choose - tune values for a call: which of a kernel's variants suits its shape and the device. */
#ifndef RUNTIME_CHOOSE_H
#define RUNTIME_CHOOSE_H

#include "compiler/compiler.h"
#include "compiler/cost.h"
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
 * same ask must get the same answer: variants are found again by it. Asked once for each new shape.
 *   choose_for_call  what was measured for this very call (runtime/tunedb.h), else what the model takes for best
 *   choose_tune      the model alone */
int choose_for_call(const struct choose_ask *ask, struct binding *out, int room);
int choose_tune(const struct choose_ask *ask, struct binding *out, int room);

/* What the model says of the values in ask->options; us is infinite where they cannot fit. False: they do not compile. */
bool choose_estimate(const struct choose_ask *ask, struct cost *out);
struct cost choose_cost(const struct choose_ask *ask, const struct ir_fn *fn); /* of a kernel that is lowered already */

/* Variants worth measuring, the most promising first: at most `room`. A value for every key the ask leaves open. */
struct choose_candidate {
    struct binding *at;
    int n;
    double us; /* the model's estimate, and a little for each step off the author's first choices */
};
int choose_candidates(const struct choose_ask *ask, struct choose_candidate *out, int room);
/* The same by the model alone: values it tells apart, the first is choose_tune's. None where it has nothing to choose. */
int choose_ranking(const struct choose_ask *ask, struct choose_candidate *out, int room);

#endif
