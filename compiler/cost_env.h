/* cost_env - what the cost model assumes, and what it knows while it walks a kernel. */
#ifndef COMPILER_COST_ENV_H
#define COMPILER_COST_ENV_H

#include "compiler/cost.h"

/* What the model assumes of every chip; fitted on an H200, where it ranks what was timed (tests/runtime/test_choose.c).
 * docs/tuning.md tells each term's meaning. */
#define OPERAND_BYTES 128     /* a cycle, shared memory to tensor cores; */
#define WRITE_BYTES 158       /* and meanwhile, what copies bring */
#define LATENCY_CYCLES 2140   /* of a copy in, from memory: no more comes than slots have on their way */
#define SLOTS_BYTES (200.0 * 1024) /* of shared memory, for slots; */
#define MOST_SLOTS 16         /* and how many at most */
#define FILL_BYTES 100        /* a cycle, L2 into one multiprocessor */
#define OUTSIDE 1.6           /* times a byte inside of a tensor, one of a tile that lies outside */
#define UNIT_CYCLES 0.3       /* for each cp.async that threads of a multiprocessor issue: 8 instructions of each of 32 lanes, by four warps; */
#define ELEMENT_CYCLES 1.15   /* for each element that they bring through registers */
#define STORE_BYTES 80        /* a cycle, out of one multiprocessor */
#define BOX_BYTES 32          /* of a row, the narrowest box that it leaves in; */
#define DIRECT_BYTES 10.5     /* a cycle, what threads store themselves */
#define LANES 128             /* f32 operations a cycle */
#define HALF_RATE 2           /* operations that take two */
#define SPECIAL_RATE 8        /* those of the special units: a quarter of the lanes, and more */
#define GATHER_OPS 24         /* of a thread, to look up and load one value of a slot */
#define LOOP_STORE_OPS 54     /* for each element stored while products go on: address, bounds, exchange among lanes */
#define STORE_WAIT 60         /* cycles for each that a thread stores so, which other warpgroups use */
#define SLOT_READ 0.16        /* cycles a warp for each value that it reads from a slot */
#define WAIT_CYCLES 30        /* for each product that registers need: latency of the tensor cores */
#define SLOT_CYCLES 54        /* for each slot that a role takes while it needs products, */
#define CROWD_CYCLES 230      /* and more for each warpgroup past the second, with which it is shared */
#define TASK_CYCLES 1720      /* before the first product and after the last, where nothing overlaps */
#define COMBINE_CYCLES 5850   /* parts through memory: fence, counter, and waiting for the others */
#define PART_BYTES 55         /* a cycle, of parts read back */
#define MEET_CYCLES 3980      /* parts that meet in a cluster: arrivals at each other's barriers, and waiting for the last */
#define NEAR_BYTES 12         /* a cycle, parts read from the cluster's shared memory */
#define LAUNCH_CYCLES 5300
#define RAMP_US 0.7           /* until the first bytes are there */
#define MEMORY_SHARE 0.92     /* of the bus's rate, reached */
#define ADD_BYTES 5.8         /* a cycle, that memory adds to what is there for each multiprocessor, while all do */
#define AHEAD_BYTES 13        /* a cycle, read ahead, added to and stored: memory's rate, both ways */
#define FEW_READS 2.2         /* of each byte of a tensor: as good as once, */
#define STREAMED 0.95         /* and what it takes of memory's time then if nobody keeps it in L2 */
#define AGAIN 0.64            /* of what few clusters read again, where it is more */
#define KEPT_BYTES 15000000   /* than L2 keeps: what memory brings again */
#define LINE_BYTES 128        /* of memory */
#define FIRST_BYTES 8         /* a cycle, of the first slot, until the first product can start */
#define HIDDEN_SHARE 0.042    /* of what runs side by side with something longer, felt all the same */
#define GROUP_SMS 18          /* multiprocessors of one group (GPC), at most */
#define UNKNOWN_TRIPS 8       /* of a loop whose bounds are data */
#define OTHER_ROWS 4          /* a range that is the union of n rows' own covers (n + this) / (n + this + 1) of what there is, */
#define TORN_ENDS 0.5         /* and so much of a tile more */

struct known {
    bool is, bounded;                    /* bounded: not known, but at most v */
    bool ranked;                         /* differs between the CTAs of a cluster */
    double v, rows;                      /* rows: over how many rows' own values a reduction took it */
};

struct place {
    struct known origin, limit;
    int depth;                           /* of loops around where it was bound */
};

struct env {
    const struct ir_fn *fn;
    const struct target *t;
    const int64_t *dims;
    struct known *vars;                  /* by id */
    struct place *axes;                  /* by id */
    bool *rows, *cols;                   /* by axis: of a product, of whose rows each warp has its own */
    int *consumed;                       /* by pipe: how many loops are around where its slot was taken; */
    double *taken;                       /* how many slots were, in one task */
    struct cost *c;
    double times;                        /* how often the statement at hand runs in one task */
    int role_warps;
    bool body;                           /* the prologue has reached S_body */
    bool guessed;                        /* some loop's trips are not known */
    const struct ir_var *unread;         /* the latest product that this role needs while it goes on, until it is read */
    double products, flying;             /* of those, all; issued while the one before was not read */
    double slots;                        /* of pipes that it has consumed */
    int depth;                           /* of loops */
    double first_bytes;                  /* that must be there for the first product */
    double thread_cycles;                /* of what threads copy for one task */
    double fill_bytes;                   /* of one task; */
    double *drawn;                       /* by tensor: of its bytes */
};

static inline struct known known_as(double v) { return (struct known){ .is = true, .v = v }; }
static const struct known unknown = { .is = false };

/* cost_expr.c */
struct known cost_eval(const struct env *e, const struct ir_expr *x);
double cost_operations(const struct env *e, const struct ir_expr *x); /* on registers that evaluating x takes, one for each value */
double cost_slot_reads(const struct env *e, const struct ir_expr *x); /* shared memory's cycles for what x reads of slots */

#endif
