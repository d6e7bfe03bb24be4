/* codegen - lowered kernel to PTX and launch description. */
#ifndef CODEGEN_CODEGEN_H
#define CODEGEN_CODEGEN_H

#include "codegen/image.h"
#include "compiler/ir.h"

struct codegen_options {
    const char *symbol;   /* name of the entry; NULL: the kernel's name */
    bool line_info;       /* .loc lines, so that profilers and debuggers show the source */
    int *registers;       /* receives how many a thread may have, of the role that may have most; NULL: not asked */
    struct buf *explain;  /* receives what each role, pipe and tile became; NULL: not asked */
};

/* Compiles a lowered kernel for the target it was lowered for. NULL when d has errors. */
struct image *codegen_kernel(struct arena *a, struct diag *d, struct ir_fn *fn, const struct codegen_options *o);

#endif
