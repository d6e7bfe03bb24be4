/* cli - the dgc command: what its verbs share. The verbs and options are rows of cli.def. */
#ifndef RUNTIME_CLI_H
#define RUNTIME_CLI_H

#include "codegen/assemble.h"
#include "codegen/codegen.h"
#include "compiler/compiler.h"
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
    bindings params, tune, inner, outs, shapes;
    words imports;
    words said;      /* messages already printed */
    const char *target, *kernel, *output, *emit, *symbol, *ptxas, *ptxas_options, *save_temps, *device, *repeat, *cases, *seconds, *seed, *has, *days, *color;
    bool line_info, allow_spills, time_passes, check, verbose, help, version;
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

/* Compares what a call left in its arguments with the specs of u->fn, a line a spec into `out`; false if one differs. */
bool cli_check(const struct unit *u, const struct call *call, const struct tensor *before, const struct tensor *after, struct buf *out);

#endif
