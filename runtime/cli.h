/* cli - the dgc command: what its verbs share. The verbs and options are rows of cli.def. */
#ifndef RUNTIME_CLI_H
#define RUNTIME_CLI_H

#include "codegen/assemble.h"
#include "codegen/codegen.h"
#include "compiler/compiler.h"
#include "runtime/choose.h"
#include "runtime/device.h"
#include "runtime/launch.h"
#include "runtime/module.h"

#define DGC_VERSION "0.1.0"

enum cli_verb {
#define VERB(name, arguments, summary) VERB_##name,
#include "runtime/cli.def"
    VERB_COUNT
};

typedef VEC(struct binding) bindings;
typedef VEC(const char *) words;

/* A command line, read. */
struct cli {
    struct arena arena;
    enum cli_verb verb;
    words files;     /* what is no option: files, or a verb after help */
    bindings calls;  /* ARGUMENT=VALUE after the file of `run` */
    bindings params, tune, inner, align, outs, shapes;
    words imports, shape_list;
    words said;      /* messages already printed */
    const char *target, *kernel, *output, *emit, *symbol, *ptxas, *ptxas_options, *save_temps, *device, *repeat, *cases, *seconds, *seed, *has, *days, *color,
        *shapes_file, *json, *budget, *candidates, *jobs, *shard;
    bool line_info, allow_spills, time_passes, check, again, verbose, help, version;
};

/* Reads argv into c. false: usage error, already said on stderr. */
bool cli_parse(struct cli *c, int argc, char **argv);
void cli_help(struct buf *out, enum cli_verb verb); /* VERB_COUNT: the overview */
int cli_help_named(const struct cli *c, struct buf *out); /* of the verb that is c's first operand */

/* One function a verb; each returns the exit status. */
#define VERB(name, arguments, summary) int cli_verb_##name(struct cli *c);
#include "runtime/cli.def"

/* Prints "dgc: error: TEXT" and returns the status' exit code. */
int cli_fail(const struct fault *why);
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool cli_color(const struct cli *c);

/* The targets that --target, $DGC_TARGET or `otherwise` name, in the table's order; empty and said when one is unknown. */
typedef VEC(const struct target *) target_list;
target_list cli_targets(struct cli *c, const char *otherwise);

/* ---- compiling (cli_unit.c) ---------------------------------------------------------------------------------- */

/* A file being compiled for one target: its own arena and messages. */
struct unit {
    struct cli *cli;
    struct arena arena;
    struct diag diag;
    const char *path;
    struct node *file;
    struct ir_fn *fn; /* what unit_compile compiled last */
    const struct compile_options *options; /* instead of the command line's; NULL: those */
    double ms;        /* when the stage began, for --time-passes */
    bool quiet;       /* messages are counted, not printed: an attempt */
};

bool unit_open(struct unit *u, struct cli *c, const char *path); /* parsed and checked; false: errors, reported */
void unit_close(struct unit *u);
/* Prints messages not yet printed, each only once a process. true when there are errors. */
bool unit_report(struct unit *u);
/* The kernels of the file itself that --kernel names; empty and said when there is none. */
nodes unit_kernels(struct unit *u);
struct ir_fn *unit_lower(struct unit *u, const struct node *kernel, const struct target *t, bool passes);
/* The compiled kernel; NULL: errors, reported. `explain` may be NULL. */
struct image *unit_compile(struct unit *u, const struct node *kernel, const struct target *t, struct buf *explain);
struct assemble_options cli_assemble_options(const struct cli *c);

/* ---- timing (cli_call.c) --------------------------------------------------------------------------------------- */

/* The target of the table that suits a device best: the newest that it runs; NULL: none. */
const struct target *cli_best_target(const struct device *d);

/* One --shape: sizes of the kernel's dimensions, values of its scalars. */
struct cli_shape {
    const char *text;      /* "M=4096 N=4096 K=7168" */
    int64_t *sizes;        /* in the order of cli_call.dims */
    bindings scalars;
};

/* A kernel on a device, and the shapes to call it with. */
struct cli_call {
    struct unit unit;
    struct device *device;
    const struct target *target;
    const struct node *kernel;
    struct compile_options options;
    struct device_props props; /* of the device, or of the one supposed */
    words dims;
    VEC(struct cli_shape) shapes;
    bool opened;
};

/* 0, or the exit status of what went wrong, said. With a target to suppose a device for, none need be there, and none is opened. */
int cli_call_open(struct cli_call *k, struct cli *c, const struct target *supposed);
void cli_call_close(struct cli_call *k);
/* What to choose tune values for. Sizes that a kernel must know to be compiled are among its parameters then. */
struct choose_ask cli_call_ask(struct cli_call *k, const struct cli_shape *shape);
/* Adds to ask->options the values that such a call gets; where they are from: "tuned", "model" or "given". */
const char *cli_call_choose(struct choose_ask *ask);
void cli_json_text(struct buf *out, const char *text);                     /* in quotes */
void cli_json_pairs(struct buf *out, const char *text, char between);      /* "M=1 N=2" as an object */
int cli_json_write(const char *path, const struct buf *json);              /* "" is stdout; the exit status */
/* Every name in the arguments' dimensions that is no parameter. */
void cli_kernel_dims(struct arena *a, const struct node *kernel, words *out);
int cli_no_dimension(const char *whose, const char *name, const words *dims); /* says so; the exit status */

/* Compares what a call left in its arguments with the specs of u->fn, a line a spec into `out`; false if one differs. */
bool cli_check(const struct unit *u, const struct call *call, const struct tensor *before, const struct tensor *after, struct buf *out);

#endif
