/* cost - how long a lowered kernel will take, from its IR alone: no code is generated, nothing is measured.
 *
 * The prologue is run once for the first unit, each role's body is walked with its trip counts, and what it moves and
 * multiplies is divided by what the target's row says a multiprocessor does a cycle. Good enough to rank the variants of
 * one kernel; not a prediction to quote. */
#ifndef COMPILER_COST_H
#define COMPILER_COST_H

#include "compiler/ir.h"
#include "compiler/target.h"

struct cost {
    double us;                 /* the estimate */
    double mma, operands, fill, alu, store, combine; /* cycles of one task: tensor cores, their shared-memory reads, copies in,
                                  arithmetic on registers, copies out, merging of parts */
    double shared;             /* what shared memory takes for operands and copies in, together */
    double adds;               /* what memory takes to add to what is there, while products go on */
    double wait, serial;       /* waits for products that registers need at once; then products, arithmetic and waits in a row */
    double memory_us;          /* floor: every tensor once at the memory's rate, after a start */
    double tasks, waves;
    double flops;              /* of tensor cores, on what exists; 0 where it hangs on data */
    int accum_regs;            /* variables and products in registers of a thread, of the role that has least to spare, */
    int lack_regs;             /* and what its threads have less than those of two warpgroups, as there are more */
    int slot_bytes;            /* one slot of the pipe in the innermost loop, which gets what shared memory is left; */
    int other_bytes;           /* all slots of the other pipes */
};

/* dims: a value for each of fn->dims. sms: multiprocessors the launch may use. */
struct cost cost_estimate(const struct ir_fn *fn, const struct target *t, const int64_t *dims, int sms);

#endif
