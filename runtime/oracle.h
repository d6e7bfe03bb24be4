/* oracle - does a kernel do what its spec says? Random arguments, specs evaluated on the host, results compared. */
#ifndef RUNTIME_ORACLE_H
#define RUNTIME_ORACLE_H

#include "compiler/compiler.h"
#include "compiler/interp.h"

struct assemble_options;

/* specs (oracle_spec.c) */

/* What one spec's comparison found. */
struct oracle_verdict {
    bool ok;
    int64_t compared;      /* elements under `where`, and those with an else value */
    int64_t wrong;         /* exact: other bits. Else: NaN or infinity where there should be none, and the reverse */
    double distance;       /* 1 - 2<x,y>/(<x,x>+<y,y>) over the finite elements */
    double tol;
    int64_t worst[IR_RANK]; /* indices of the element that is farthest off */
    int rank;
    double got, wanted;
    const char *tensor;
    char *error;           /* the spec could not be evaluated; malloc'd */
};

/* Checks spec number `n`: `before` holds the arguments as the kernel found them (outputs full of poison), `after` as it
 * left them. covered[id]: a byte for each element of the memory of output id, set where this spec speaks of it; or NULL. */
struct oracle_verdict oracle_check_spec(const struct ir_fn *fn, int n, const struct interp_tensor *before,
                                        const struct interp_tensor *after, const int64_t *dims, uint8_t *const *covered);
/* One line: what was compared, how far off, which element is worst. */
void oracle_print_verdict(const struct oracle_verdict *v, struct buf *out);
/* How many elements of an output no spec speaks of, or wants left alone, and changed all the same; indices of the first. */
int64_t oracle_untouched(const struct interp_tensor *before, const struct interp_tensor *after, const uint8_t *covered, int64_t *first);
/* Elements from the first to past the last one. */
int64_t oracle_span(const struct interp_tensor *t);
size_t oracle_bytes(const struct interp_tensor *t);

/* arguments (oracle_data.c) */

enum oracle_data { ORACLE_EXACT, ORACLE_NORMAL, ORACLE_CANCEL, ORACLE_DATA_COUNT }; /* small integers; normals; large and opposite */

struct oracle_case {
    int64_t *dims;
    struct interp_tensor *before; /* by ir_tensor.id; scalars, too */
    enum oracle_data data;
    uint64_t seed;
    const double *scalars; /* by ir_tensor.id: what scalar arguments are, before any given; NaN: random. NULL: all random */
};

/* The kernel that `given X = run name(...)` names, lowered; NULL when there is none. */
typedef struct ir_fn *oracle_find_kernel(void *state, const char *name);

/* Random dimensions that meet every requirement and cost at most `budget` elements and steps; false when none is found. */
bool oracle_dims(const struct ir_fn *fn, uint64_t *seed, double budget, int64_t *dims);
/* Arguments for these dimensions: strides, data, then every given in order. Memory comes from `a`. */
bool oracle_arguments(struct arena *a, const struct ir_fn *fn, struct oracle_case *c, oracle_find_kernel *find, void *state, char **error);
/* A copy with memory of its own. */
struct interp_tensor *oracle_copy(struct arena *a, const struct ir_fn *fn, const struct interp_tensor *args);
uint64_t oracle_random(uint64_t *seed);

/* tests (oracle.c) */

struct oracle_options {
    const char *path;
    const char *const *import_dirs;
    int n_import_dirs;
    const char *kernel;            /* NULL: every kernel of the file */
    const char *target;
    const char *device;            /* "emu", "emu:sm_90a", "cuda"; NULL or "ir": the interpreter only */
    const struct binding *params;  /* fixed by the caller; the others vary */
    int n_params;
    const struct binding *tune;
    int n_tune;
    const struct binding *shapes;  /* dimensions that all cases have, not compiled in */
    int n_shapes;
    const struct binding *inner;   /* which dimension has stride 1; the others vary */
    int n_inner;
    const struct binding *align;   /* of tensors, the bytes that code may rely on; the others vary */
    int n_align;
    uint64_t seed;
    int cases;                     /* a group, that is one choice of parameters; 0: 4 */
    double seconds;                /* budget for the whole; 0: none */
    const struct assemble_options *assemble; /* for a GPU; with a ptxas named, for the emulator, too: what it refuses fails. NULL: none named */
    bool verbose;
};

struct oracle_result {
    int groups, cases, failed, skipped;
};

/* Tests every kernel of a file: prints a line per kernel and choice of parameters into `out`, and what went wrong. Errors
 * of the source are in the text, too. failed == 0 means that everything that could be tested agreed. */
struct oracle_result oracle_test(const struct oracle_options *o, struct buf *out);

#endif
