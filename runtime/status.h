/* status - what libdgk's functions return, and the text of what went wrong. */
#ifndef RUNTIME_STATUS_H
#define RUNTIME_STATUS_H

#include <stdarg.h>

enum dgk_status {
#define STATUS(name, exit, meaning) DGK_##name,
#include "runtime/status.def"
    DGK_STATUS_COUNT
};

/* The last failure, filled by whoever fails first; lives with the caller. */
struct fault {
    enum dgk_status status;
    char text[8192];
};

/* Fills `f` and returns `s`, so that a check reads: if (bad) return fault_set(why, DGK_BAD_SHAPE, "…", …); */
enum dgk_status fault_set(struct fault *f, enum dgk_status s, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts words before the text that is there: "A=b.npy: " + text. */
void fault_prefix(struct fault *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const char *status_name(enum dgk_status s);    /* "BAD_SHAPE" */
const char *status_meaning(enum dgk_status s);
int status_exit(enum dgk_status s);            /* the exit code of a command that ends with it */

#endif
