/* tune - measures the variants of one call and keeps what was measured (runtime/tunedb.h).
 *
 *   candidates   the model's ranking, cut to a number; compiled ahead by threads
 *   halving      all are timed a little, taking turns; the better half goes on with more launches, until few are left
 *   around       what differs from the best in one value is tried, as long as there is time
 *   checking     the fastest must compute what the untuned choice computes; a wrong one is noted and never chosen
 *
 * A measurement is on disk as soon as a candidate drops out, so that an interrupted run goes on where it was. */
#ifndef RUNTIME_TUNE_H
#define RUNTIME_TUNE_H

#include "codegen/assemble.h"
#include "runtime/choose.h"
#include "runtime/timing.h"
#include "runtime/tunedb.h"

enum tune_stage { TUNE_COMPILING, TUNE_TIMING, TUNE_AROUND, TUNE_CHECKING };

struct tune_progress {
    enum tune_stage stage;
    int done, of;      /* of this stage */
    int alive;         /* candidates still in the race */
    double best_us;    /* so far; infinite before the first */
    double left;       /* seconds this stage will need at this pace, or as the budget allows */
};

struct tune_ask {
    struct choose_ask call;
    const char *path;                  /* each compiling thread reads the source for itself */
    const char *const *import_dirs;
    int n_import_dirs;
    struct device *device;
    const struct assemble_options *assemble;
    double budget;                     /* seconds; 0: no limit */
    int most;                          /* candidates to begin with; 0: 64 */
    int threads;                       /* 0: one a core */
    int shard, shards;                 /* this run's candidates: number i where i % shards == shard; shards 0: all */
    bool again;                        /* measure anew what is known */
    const struct binding *scalars;     /* values of scalar arguments; others are 1 */
    int n_scalars;
    void *state;                       /* for the functions */
    void (*progress)(void *state, const struct tune_progress *p); /* may be NULL; called by several threads, one at a time */
    void (*guard)(void *state, bool on); /* around a variant's first launch, which may never end; may be NULL */
};

struct tune_row {
    const char *values;
    double us, estimate;               /* estimate: the model's; 0 where it was not asked */
    int count;
    enum tunedb_state state;
    bool standard;                     /* what is chosen without measuring */
    const char *why;                   /* of a bad one */
};
struct tune_result {
    VEC(struct tune_row) rows;         /* the fastest first, bad ones last */
    double standard_us;                /* infinite when the standard does not run */
    int known;                         /* candidates whose measurements were on disk */
    bool device_lost;                  /* a launch failed and took the device with it: run again, it goes on after that one */
    bool out_of_time;
};

/* Memory of the result comes from ask->call.arena. */
enum dgk_status tune_call(const struct tune_ask *ask, struct tune_result *out, struct fault *why);

/* "BM=128;BN=256" */
const char *tune_values_text(struct arena *a, const struct binding *at, int n);

#endif
