/* diag - source files, spans, and messages at the author's line. */
#include "dsl/diag.h"

#include <stdio.h>
#include <string.h>

void diag_init(struct diag *d, struct arena *a)
{
    *d = (struct diag){ .arena = a, .error_limit = 20, .tool = "dgc" };
}

uint32_t diag_add_file(struct diag *d, const char *path, const char *text, size_t n)
{
    struct source_file f = { .path = arena_strndup(d->arena, path, strlen(path)), .text = arena_strndup(d->arena, text, n), .size = (uint32_t)n };
    f.base = d->files.n ? d->files.at[d->files.n - 1].base + d->files.at[d->files.n - 1].size + 1 : 1;
    vec_push(d->arena, &d->files, f);
    return f.base;
}

static void say(struct diag *d, enum diag_level level, struct span at, const char *fmt, va_list ap)
{
    bool follows = level == DIAG_NOTE;
    if (d->error_limit && (d->errors > d->error_limit || (d->errors == d->error_limit && !follows))) {
        if (level == DIAG_ERROR) d->errors++;
        return;
    }
    struct diag_msg m = { level, at, arena_vprintf(d->arena, fmt, ap) };
    vec_push(d->arena, &d->msgs, m);
    d->errors += level == DIAG_ERROR;
    d->warnings += level == DIAG_WARNING;
}

#define SAY(name, level)                                                \
    void name(struct diag *d, struct span at, const char *fmt, ...)     \
    {                                                                   \
        va_list ap;                                                     \
        va_start(ap, fmt);                                              \
        say(d, level, at, fmt, ap);                                     \
        va_end(ap);                                                     \
    }
SAY(diag_error, DIAG_ERROR)
SAY(diag_warning, DIAG_WARNING)
SAY(diag_note, DIAG_NOTE)
SAY(diag_remark, DIAG_REMARK)
#undef SAY

const struct source_file *diag_where(const struct diag *d, uint32_t pos, int *line, int *col)
{
    for (int i = 0; i < d->files.n; i++) {
        const struct source_file *f = &d->files.at[i];
        if (pos < f->base || pos > f->base + f->size) continue;
        int l = 1;
        uint32_t start = 0;
        for (uint32_t p = 0; p < pos - f->base; p++)
            if (f->text[p] == '\n') l++, start = p + 1;
        if (line) *line = l;
        if (col) *col = (int)(pos - f->base - start) + 1;
        return f;
    }
    return NULL;
}

static void print_line(const struct source_file *f, struct span at, struct buf *out)
{
    uint32_t lo = at.lo - f->base, hi = at.hi > at.lo ? at.hi - f->base : lo + 1, start = lo, end = lo;
    while (start > 0 && f->text[start - 1] != '\n') start--;
    while (end < f->size && f->text[end] != '\n') end++;
    buf_printf(out, "%.*s\n", (int)(end - start), f->text + start);
    for (uint32_t p = start; p < lo; p++) buf_printf(out, "%c", f->text[p] == '\t' ? '\t' : ' ');
    buf_printf(out, "^");
    for (uint32_t p = lo + 1; p < hi && p < end; p++) buf_printf(out, "~");
    buf_printf(out, "\n");
}

void diag_print(const struct diag *d, struct buf *out, enum diag_color color)
{
    static const struct { const char *word, *paint; } level[] = {
        [DIAG_ERROR] = { "error", "\033[1;31m" },
        [DIAG_WARNING] = { "warning", "\033[1;35m" },
        [DIAG_NOTE] = { "note", "\033[1;36m" },
        [DIAG_REMARK] = { "remark", "\033[1;34m" },
    };
    for (int i = 0; i < d->msgs.n; i++) {
        const struct diag_msg *m = &d->msgs.at[i];
        int line, col;
        const struct source_file *f = m->span.lo ? diag_where(d, m->span.lo, &line, &col) : NULL;
        if (f) buf_printf(out, "%s:%d:%d: ", f->path, line, col);
        else buf_printf(out, "%s: ", d->tool);
        if (color == DIAG_COLOR) buf_printf(out, "%s%s:\033[0m %s\n", level[m->level].paint, level[m->level].word, m->text);
        else buf_printf(out, "%s: %s\n", level[m->level].word, m->text);
        if (f) print_line(f, m->span, out);
    }
    if (d->error_limit && d->errors > d->error_limit) buf_printf(out, "%s: %d more errors are not shown\n", d->tool, d->errors - d->error_limit);
}

/* Edit distance with adjacent swaps, rows kept short: names are. */
static int distance(const char *a, const char *b)
{
    int n = (int)strlen(a), m = (int)strlen(b), row[3][64];
    if (n > 60 || m > 60) return 99;
    for (int j = 0; j <= m; j++) row[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = row[i % 3], *up = row[(i + 2) % 3], *upup = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = up[j - 1] + (a[i - 1] != b[j - 1]);
            if (up[j] + 1 < best) best = up[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && upup[j - 2] + 1 < best) best = upup[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[n % 3][m];
}

const char *diag_nearest(const char *name, const char *const *names, int n)
{
    if (strlen(name) < 2) return NULL; /* one letter is near to every other */
    int limit = ((int)strlen(name) + 2) / 3, best = limit + 1;
    const char *found = NULL;
    for (int i = 0; i < n; i++) {
        int d = names[i] ? distance(name, names[i]) : 99;
        if (d > 0 && d < best) best = d, found = names[i];
    }
    return found;
}
