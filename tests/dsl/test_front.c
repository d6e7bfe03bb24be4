/* The front end says what it should about every wrong source, nothing about a right one, and survives broken ones.
 *
 * tests/errors/NAME.dgk         "// ERROR: text" stands on each line that has an error, and nowhere else
 * tests/errors/golden/NAME.dgk  what is printed about it, caret lines and all, is NAME.expect
 * tests/dsl/NAME.dgk            its tree is NAME.expect
 * Every message in the sources of dsl/ is said by one of these. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compiler/target.h"
#include "dsl/dsl.h"
#include "dsl/front.h"
#include "dsl/parse.h"

static int passed, failed;

static void claim(bool ok, const char *what, const char *path, const char *detail)
{
    if (ok) passed++;
    else failed++, printf("FAIL %s: %s %s\n", path, what, detail ? detail : "");
}

static char said[1 << 20]; /* all messages said so far, one a line */
static size_t said_n;

static void remember(const struct diag *d)
{
    for (int i = 0; i < d->msgs.n; i++) {
        size_t n = strlen(d->msgs.at[i].text);
        if (said_n + n + 2 > sizeof said) return;
        memcpy(said + said_n, d->msgs.at[i].text, n);
        said_n += n;
        said[said_n++] = '\n';
    }
}

static const char *const dirs[] = { "kernels_dsl" };

/* One source through parser and checker. */
struct run {
    struct arena arena;
    struct diag diag;
    struct node *file;
};

static void run_text(struct run *r, const char *path, const char *text, size_t n)
{
    memset(r, 0, sizeof *r);
    diag_init(&r->diag, &r->arena);
    r->file = dsl_parse_text(&r->arena, &r->diag, path, text, n, dirs, 1);
    dsl_check(&r->arena, &r->diag, r->file);
}

static void run_end(struct run *r)
{
    arena_free(&r->arena);
}

/* The text after "// ERROR:" on line `line` of text, or NULL. */
static bool wanted(const char *text, int line, char *out, size_t room)
{
    for (int l = 1; l < line && text; l++) {
        text = strchr(text, '\n');
        if (text) text++;
    }
    if (!text) return false;
    const char *end = strchr(text, '\n'), *at = strstr(text, "// ERROR: ");
    if (!at || (end && at > end)) return false;
    at += strlen("// ERROR: ");
    size_t n = end ? (size_t)(end - at) : strlen(at);
    if (n >= room) n = room - 1;
    memcpy(out, at, n);
    out[n] = 0;
    return true;
}

static void errors_on_their_lines(const char *path, const char *text, size_t n)
{
    struct run r;
    run_text(&r, path, text, n);
    remember(&r.diag);
    bool met[4096] = { false };
    char want[512];
    for (int i = 0; i < r.diag.msgs.n; i++) {
        struct diag_msg *m = &r.diag.msgs.at[i];
        if (m->level != DIAG_ERROR) continue;
        int line = 0, col;
        diag_where(&r.diag, m->span.lo, &line, &col);
        bool ok = wanted(text, line, want, sizeof want) && strstr(m->text, want);
        if (ok && line < 4096) met[line] = true;
        else claim(false, "unexpected error:", path, m->text);
    }
    int lines = 1;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    for (int l = 1; l <= lines && l < 4096; l++)
        if (wanted(text, l, want, sizeof want)) claim(met[l], "not said:", path, want);
    run_end(&r);
}

static void same_output(const char *path, const char *text, size_t n)
{
    struct run r;
    struct buf out = { 0 };
    run_text(&r, path, text, n);
    remember(&r.diag);
    if (r.diag.msgs.n) diag_print(&r.diag, &out, DIAG_PLAIN);
    else ast_print(r.file, &out);
    char name[512], *expect = NULL;
    snprintf(name, sizeof name, "%.*s.expect", (int)(strlen(path) - 4), path);
    if (!read_file(name, &expect, NULL)) claim(false, "has no .expect beside it", path, NULL);
    else claim(out.at && !strcmp(out.at, expect), "differs from .expect; it is now:\n", path, out.at);
    free(expect);
    buf_free(&out);
    run_end(&r);
}

/* Names that lowering asks for are resolved: every index and name of a role. */
static int unresolved;
static void resolved(struct node *n)
{
    if (!n) return;
    bool word = n->kind == N_name && (n->name == intern("inf") || n->name == intern("any"));
    if ((n->kind == N_name || n->kind == N_index) && !n->decl && !word) unresolved++, printf("unresolved: %s\n", n->name);
    resolved(n->a), resolved(n->b), resolved(n->c), resolved(n->d);
    for (int i = 0; i < n->list.n; i++) resolved(n->list.at[i]);
}

static void right_source(const char *path, const char *text, size_t n)
{
    struct run r;
    struct buf out = { 0 };
    run_text(&r, path, text, n);
    if (r.diag.msgs.n) diag_print(&r.diag, &out, DIAG_PLAIN);
    claim(!r.diag.msgs.n, "has messages:\n", path, out.at);
    unresolved = 0;
    for (int i = 0; i < r.file->list.n && !r.diag.errors; i++) {
        struct node *k = r.file->list.at[i];
        for (int j = 0; k->kind == N_kernel && j < k->b->list.n; j++)
            if (k->b->list.at[j]->kind == N_role) resolved(k->b->list.at[j]->a);
    }
    claim(!unresolved, "has names without a declaration", path, NULL);
    buf_free(&out);
    run_end(&r);
}

/* Truncated at every 7th byte, and with bytes changed: no crash, no hang, and never an error about nothing. */
static void broken(const char *path, const char *text, size_t n)
{
    char *copy = malloc(n + 1);
    struct run r;
    struct buf out = { 0 };
    unsigned seed = 12345;
    for (size_t cut = 0; cut < n; cut += 7) {
        run_text(&r, path, text, cut);
        diag_print(&r.diag, &out, DIAG_PLAIN);
        out.n = 0;
        run_end(&r);
    }
    for (int round = 0; round < 60; round++) {
        memcpy(copy, text, n + 1);
        for (int k = 0; k <= round % 4; k++) {
            seed = seed * 1664525 + 1013904223;
            size_t at = seed / 7 % n;
            seed = seed * 1664525 + 1013904223;
            copy[at] = round % 3 ? (char)(seed >> 24) : text[seed / 3 % n];
        }
        run_text(&r, path, copy, n);
        diag_print(&r.diag, &out, DIAG_PLAIN);
        ast_print(r.file, &out);
        out.n = 0;
        run_end(&r);
    }
    claim(true, "survives", path, NULL);
    buf_free(&out);
    free(copy);
}

/* Each block marked dgk in a page is a whole file without messages. */
static void page(const char *path)
{
    char *text, name[512];
    int n = 0;
    if (!read_file(path, &text, NULL)) {
        claim(false, "cannot be read", path, NULL);
        return;
    }
    for (char *at = text; (at = strstr(at, "```dgk\n")) != NULL; n++) {
        char *end = strstr(at += strlen("```dgk\n"), "```");
        if (!end) break;
        snprintf(name, sizeof name, "%s, example %d", path, n + 1);
        right_source(name, at, (size_t)(end - at));
        at = end + 3;
    }
    claim(n > 0, "has no examples", path, NULL);
    free(text);
}

static int in_folder(const char *folder, void (*f)(const char *path, const char *text, size_t n))
{
    struct dirent **list;
    int n = scandir(folder, &list, NULL, alphasort), done = 0;
    for (int i = 0; i < n; i++) {
        size_t len = strlen(list[i]->d_name);
        char path[512], *text;
        size_t size;
        snprintf(path, sizeof path, "%s/%s", folder, list[i]->d_name);
        if (len > 4 && !strcmp(list[i]->d_name + len - 4, ".dgk") && read_file(path, &text, &size)) {
            f(path, text, size);
            free(text);
            done++;
        }
        free(list[i]);
    }
    free(n < 0 ? NULL : list);
    return done;
}

/* Does a printf format say this line? Each conversion stands for any text. */
static bool says(const char *fmt, const char *line, const char *end)
{
    if (!*fmt) return line == end;
    if (fmt[0] == '%' && fmt[1] == '%') return line < end && *line == '%' && says(fmt + 2, line + 1, end);
    if (fmt[0] == '%') {
        const char *rest = fmt + 1 + strspn(fmt + 1, "0123456789.*lz");
        for (const char *p = line; p <= end; p++)
            if (says(rest + 1, p, end)) return true;
        return false;
    }
    return line < end && *fmt == *line && says(fmt + 1, line + 1, end);
}

static bool was_said(const char *fmt)
{
    for (const char *line = said; *line;) {
        const char *end = strchr(line, '\n');
        if (says(fmt, line, end)) return true;
        line = end + 1;
    }
    return false;
}

/* The string literal after a diag_error( ... , with its escapes undone. */
static void every_message_in(const char *path)
{
    /* Faults of the machine rather than of a source: a file of 16 MiB, a path that cannot be opened. */
    static const char *const beyond[] = { "this file has", "cannot read" };
    char *text, fmt[1024];
    if (!read_file(path, &text, NULL)) {
        claim(false, "cannot be read", path, NULL);
        return;
    }
    for (char *at = text; (at = strstr(at, "diag_error(")) != NULL; at++) {
        char *q = strchr(at, '"'), *stop = strchr(at, ';');
        if (!q || (stop && q > stop)) continue;
        size_t n = 0;
        for (q++; *q != '"' && n + 1 < sizeof fmt; q++) {
            if (*q == '\\') q++;
            fmt[n++] = *q;
        }
        fmt[n] = 0;
        bool skip = false;
        for (int i = 0; i < COUNT(beyond); i++) skip |= !strncmp(fmt, beyond[i], strlen(beyond[i]));
        if (!skip) claim(was_said(fmt), "no test says:", path, fmt);
    }
    free(text);
}

/* Editors and the reference list the words of the language: the same words. */
static bool has_word(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++) {
        bool starts = at == text || !strchr("abcdefghijklmnopqrstuvwxyz_0123456789", at[-1]);
        if (starts && (!at[n] || !strchr("abcdefghijklmnopqrstuvwxyz_0123456789", at[n]))) return true;
    }
    return false;
}

static void words_listed_in(const char *path)
{
    static const char *const builtins[] = {
#define BUILTIN(name, least, most, where, type, meaning) #name,
#include "dsl/builtins.def"
    };
    char *text;
    if (!read_file(path, &text, NULL)) {
        claim(false, "cannot be read", path, NULL);
        return;
    }
    bool all = true;
    for (int t = KERNEL; t <= PRINT; t++)
        if (!has_word(text, front_token_name(t))) all = false, printf("%s lacks '%s'\n", path, front_token_name(t));
    for (int t = TY_none + 1; t < TY_COUNT; t++)
        if (!has_word(text, type_name((enum type)t))) all = false, printf("%s lacks '%s'\n", path, type_name((enum type)t));
    for (int i = 0; i < COUNT(builtins); i++)
        if (!has_word(text, builtins[i])) all = false, printf("%s lacks '%s'\n", path, builtins[i]);
    claim(all, "does not list every word", path, NULL);
    free(text);
}

int main(void)
{
    claim(target_find("sm_90a") != NULL, "is no target", "sm_90a", NULL); /* and links the table that `on` is checked by */
    int errors = in_folder("tests/errors", errors_on_their_lines);
    claim(errors >= 170, "has fewer sources than it had", "tests/errors", NULL);
    in_folder("tests/errors/golden", same_output);
    in_folder("tests/dsl", same_output);
    static const char *const sources[] = { "dsl/lex.l", "dsl/parse.y", "dsl/dsl.c", "dsl/check.c", "dsl/check_scope.c", "dsl/check_expr.c",
                                           "dsl/check_stmt.c", "dsl/check_role.c", "dsl/check_kernel.c", "dsl/check_type.c", "dsl/check_call.c",
                                           "dsl/check_mma.c", "dsl/check_spec.c", "dsl/check_tune.c" };
    for (int i = 0; i < COUNT(sources); i++) every_message_in(sources[i]);
    claim(in_folder("kernels_dsl", right_source) > 10, "has no kernels", "kernels_dsl", NULL);
    page("docs/language.md");
    words_listed_in("docs/language.md");
    words_listed_in("editors/vim/syntax/dgk.vim");
    words_listed_in("editors/vscode/syntaxes/dgk.tmLanguage.json");
    in_folder("kernels_dsl", broken);
    in_folder("tests/dsl", broken);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
