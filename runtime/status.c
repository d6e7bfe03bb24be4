/* status - names, meanings and exit codes from status.def; the text of a failure. */
#include "runtime/status.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *meaning;
    int exit;
} rows[] = {
#define STATUS(name, exit, meaning) { #name, meaning, exit },
#include "runtime/status.def"
};

enum dgk_status fault_set(struct fault *f, enum dgk_status s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    f->status = s;
    vsnprintf(f->text, sizeof f->text, fmt, ap);
    va_end(ap);
    return s;
}

void fault_prefix(struct fault *f, const char *fmt, ...)
{
    char words[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    size_t n = strlen(words), old = strlen(f->text), room = sizeof f->text - 1;
    if (old > room - n) old = room - n;
    memmove(f->text + n, f->text, old);
    memcpy(f->text, words, n);
    f->text[n + old] = 0;
}

const char *status_name(enum dgk_status s) { return s < DGK_STATUS_COUNT ? rows[s].name : "?"; }
const char *status_meaning(enum dgk_status s) { return s < DGK_STATUS_COUNT ? rows[s].meaning : "?"; }
int status_exit(enum dgk_status s) { return s < DGK_STATUS_COUNT ? rows[s].exit : 70; }
