/* compiler - checked tree to tile IR. */
#ifndef COMPILER_COMPILER_H
#define COMPILER_COMPILER_H

#include "compiler/ir.h"
#include "compiler/target.h"
#include "dsl/dsl.h"

/* A choice by name: a kernel parameter (OUT = "f32", ACC = "1"), a dimension to specialise (N = "4096"), or a tune value
 * (BM = "128", "slots(c)" = "2", "math.warps" = "4x2"). */
struct binding {
    const char *name, *value;
};

struct compile_options {
    const char *target;
    const struct binding *params; /* kernel parameters and dimensions; absent parameters take their first alternative */
    int n_params;
    const struct binding *tune;   /* absent tune values take the first choice that fits */
    int n_tune;
    const struct binding *inner;  /* tensor name to dimension number that has stride 1; absent: the first listed in inner(...), else the last */
    int n_inner;
    const struct binding *align;  /* tensor name to bytes: no more alignment of its address and strides is relied on; absent: IR_ALIGN */
    int n_align;
};

/* Lowers one kernel for one target: parameters bound, tune values chosen, iterators, fns and orders inlined, views
 * expanded, windows resolved; the result is verified. NULL when d has errors. */
struct ir_fn *compiler_lower(struct arena *a, struct diag *d, const struct node *file, const struct node *kernel,
                             const struct compile_options *o);

/* Passes after lowering, in order (compiler/passes.def); each prints under --emit=NAME. */
void compiler_passes(struct arena *a, struct diag *d, struct ir_fn *fn, const struct target *t);

/* All choices of a tune value that hold for the target, in order of preference; for explain and tune. */
struct tune_value {
    const char *name;             /* "BM", "slots(c)", "math.warpgroups" */
    VEC(const char *) choices;
};
typedef VEC(struct tune_value) tune_space;
tune_space compiler_tune_space(struct arena *a, struct diag *d, const struct node *kernel, const struct compile_options *o);

#endif
