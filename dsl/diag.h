/* diag - source files, spans, and messages at the author's line. */
#ifndef DSL_DIAG_H
#define DSL_DIAG_H

#include "dsl/base.h"

/* A byte range of one source set. Positions of all files of a compilation share one number line: file i covers
 * [base_i, base_i + size_i], so that a span alone says which file it lies in. {0, 0} is "no place". */
struct span {
    uint32_t lo, hi;
};

struct source_file {
    const char *path;
    const char *text; /* NUL-terminated */
    uint32_t base, size;
};

enum diag_level { DIAG_ERROR, DIAG_WARNING, DIAG_NOTE, DIAG_REMARK };

struct diag_msg {
    enum diag_level level;
    struct span span;
    const char *text;
};

/* The files of one compilation and what was said about them. Messages are kept in order; notes follow their error.
 * More than `error_limit` errors (default 20) end with one line that says so. */
struct diag {
    struct arena *arena;
    VEC(struct source_file) files;
    VEC(struct diag_msg) msgs;
    int errors, warnings, error_limit;
    const char *tool; /* printed where there is no place; default "dgc" */
};

void diag_init(struct diag *d, struct arena *a);
/* Adds a file and returns the base position of its first byte. The text is copied. */
uint32_t diag_add_file(struct diag *d, const char *path, const char *text, size_t n);

void diag_error(struct diag *d, struct span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void diag_warning(struct diag *d, struct span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void diag_note(struct diag *d, struct span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void diag_remark(struct diag *d, struct span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* File, 1-based line and column of a position; NULL when it is no place. Columns count bytes, a tab is one. */
const struct source_file *diag_where(const struct diag *d, uint32_t pos, int *line, int *col);

enum diag_color { DIAG_PLAIN, DIAG_COLOR };
/* Prints all messages:  path:line:col: error: text / source line / caret and tildes. */
void diag_print(const struct diag *d, struct buf *out, enum diag_color color);

/* The closest of `n` names to `name` within a third of its length, for "did you mean"; NULL if none. */
const char *diag_nearest(const char *name, const char *const *names, int n);

#endif
