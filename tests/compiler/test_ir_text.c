/* The text of the tile IR: each file in tests/compiler/ir/ prints as it stands; broken text is refused with its line. */
#include "compiler/ir.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;

static void check(bool ok, const char *what)
{
    if (ok) passed++;
    else {
        failed++;
        printf("wrong: %s\n", what);
    }
}

static void differ(const char *path, const char *want, const char *got)
{
    size_t i = 0;
    while (want[i] && want[i] == got[i]) i++;
    while (i && want[i - 1] != '\n') i--;
    printf("%s\n  wanted %.*s\n  got    %.*s\n", path, (int)strcspn(want + i, "\n"), want + i, (int)strcspn(got + i, "\n"), got + i);
}

static void roundtrip(const char *path)
{
    struct arena a = { 0 };
    struct diag d;
    char *text;
    size_t n;
    diag_init(&d, &a);
    if (!read_file(path, &text, &n)) {
        check(false, path);
        return;
    }
    struct ir_fn *fn = ir_parse(&a, &d, path, text, n);
    struct buf out = { 0 };
    if (fn) ir_print(fn, &out);
    else diag_print(&d, &out, DIAG_PLAIN);
    bool same = fn && !strcmp(out.at, text);
    if (!same) differ(path, text, out.at);
    check(same, path);
    /* No prefix of it may crash the parser, and few may pass. */
    for (size_t cut = 0; cut < n; cut += 13) {
        struct arena b = { 0 };
        struct diag e;
        diag_init(&e, &b);
        struct ir_fn *part = ir_parse(&b, &e, path, text, cut);
        if (!part != (e.errors > 0)) check(false, "a cut text: errors and result disagree");
        arena_free(&b);
    }
    buf_free(&out);
    free(text);
    arena_free(&a);
}

static void refuses(const char *text, const char *where)
{
    struct arena a = { 0 };
    struct diag d;
    struct buf out = { 0 };
    diag_init(&d, &a);
    struct ir_fn *fn = ir_parse(&a, &d, "t.ir", text, strlen(text));
    diag_print(&d, &out, DIAG_PLAIN);
    bool ok = !fn && out.at && strstr(out.at, where);
    if (!ok) printf("%s -> %s\n", text, out.at ? out.at : "(nothing)");
    check(ok, where);
    buf_free(&out);
    arena_free(&a);
}

int main(void)
{
    DIR *dir = opendir("tests/compiler/ir");
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char path[512];
        size_t n = strlen(e->d_name);
        if (n < 4 || strcmp(e->d_name + n - 3, ".ir")) continue;
        snprintf(path, sizeof path, "tests/compiler/ir/%s", e->d_name);
        roundtrip(path);
    }
    if (dir) closedir(dir);
    else check(false, "tests/compiler/ir");
    refuses("kernel k for sm_80;\nvar f32 x[q];\n", "t.ir:2:11: error: no axis is called 'q'");
    refuses("kernel k for sm_80;\nrole r { x = 1; }\n", "t.ir:2:10: error: no variable is called 'x'");
    refuses("kernel k for sm_80;\nvar i32 x;\nrole r { x = 1 + ; }\n", "t.ir:3:18: error: expression expected");
    refuses("kernel k for sm_80;\nvar i32 x;\nrole r { x = 1 }\n", "t.ir:3:16: error: ';' expected");
    refuses("kernel k for sm_80;\nvar f33 x;\n", "t.ir:2:5: error: type expected");
    refuses("kernel k for sm_80;\nrole r { fly; }\n", "t.ir:2:10: error: statement expected");
    refuses("kernel k for sm_80;\npipe p;\nrole r { fill p.a = 1; }\n", "pipe 'p' has no field 'a'");
    refuses("kernel k for sm_80;\ntensor in f32 X[8] inner 0 of 1 cache often;\n", "t.ir:2:39: error: normal, stream or keep expected");
    refuses("dim M;\n", "no 'kernel' line");
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
