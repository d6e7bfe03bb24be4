/* dsl - reads a file and what it imports, each once. */
#include "dsl/dsl.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "dsl/front.h"

struct read_file {
    const char *real; /* the resolved path, so that two ways to one file are one file */
    struct node *file;
};

struct reader {
    struct arena *arena;
    struct diag *diag;
    const char *const *dirs;
    int dir_count;
    VEC(struct read_file) done;
};

static struct node *read_text(struct reader *r, const char *path, const char *text, size_t size);

static const char *real_path(struct arena *a, const char *path)
{
    char *p = realpath(path, NULL);
    const char *out = arena_strndup(a, p ? p : path, strlen(p ? p : path));
    free(p);
    return out;
}

/* The folder of the importing file, then each import folder: the first that has the file. */
static bool find(struct reader *r, const char *importer, const char *name, const char **path, char **text, size_t *size)
{
    const char *slash = strrchr(importer, '/');
    int folder = slash ? (int)(slash - importer) + 1 : 0;
    *path = name[0] == '/' ? name : arena_printf(r->arena, "%.*s%s", folder, importer, name);
    if (read_file(*path, text, size)) return true;
    for (int i = 0; i < r->dir_count && name[0] != '/'; i++) {
        *path = arena_printf(r->arena, "%s/%s", r->dirs[i], name);
        if (read_file(*path, text, size)) return true;
    }
    return false;
}

static void read_import(struct reader *r, const char *importer, struct node *import)
{
    const char *path;
    char *text;
    size_t size;
    if (!find(r, importer, import->text, &path, &text, &size)) {
        diag_error(r->diag, import->name_span, "cannot read '%s': %s", import->text, strerror(errno));
        if (r->dir_count)
            diag_note(r->diag, import->name_span, "looked beside %s and in %d import folder%s", importer, r->dir_count, r->dir_count == 1 ? "" : "s");
        import->flag = 1;
        return;
    }
    const char *real = real_path(r->arena, path);
    for (int i = 0; i < r->done.n && !import->a; i++)
        if (!strcmp(r->done.at[i].real, real)) import->a = r->done.at[i].file;
    if (!import->a) import->a = read_text(r, path, text, size);
    free(text);
}

static struct node *read_text(struct reader *r, const char *path, const char *text, size_t size)
{
    struct front f = { .arena = r->arena, .diag = r->diag, .size = (uint32_t)size };
    f.base = diag_add_file(r->diag, path, text, size);
    f.text = r->diag->files.at[r->diag->files.n - 1].text;
    if (size > 1 << 24) {
        diag_error(r->diag, (struct span){ f.base, f.base + 1 }, "this file has %zu bytes; 16 MiB is the most", size);
        return ast_make(r->arena, (struct node){ .kind = N_file, .flag = 1 });
    }
    front_parse(&f);
    struct read_file done = { real_path(r->arena, path), f.file };
    vec_push(r->arena, &r->done, done);
    for (int i = 0; i < f.file->list.n; i++)
        if (f.file->list.at[i]->kind == N_import) read_import(r, path, f.file->list.at[i]);
    return f.file;
}

struct node *dsl_parse_text(struct arena *a, struct diag *d, const char *path, const char *text, size_t size,
                            const char *const *import_dirs, int n)
{
    struct reader r = { .arena = a, .diag = d, .dirs = import_dirs, .dir_count = n };
    return read_text(&r, path, text, size);
}

struct node *dsl_parse_file(struct arena *a, struct diag *d, const char *path, const char *const *import_dirs, int n)
{
    char *text;
    size_t size;
    if (!read_file(path, &text, &size)) {
        diag_error(d, (struct span){ 0, 0 }, "cannot read '%s': %s", path, strerror(errno));
        return ast_make(a, (struct node){ .kind = N_file, .flag = 1 });
    }
    struct node *file = dsl_parse_text(a, d, path, text, size, import_dirs, n);
    free(text);
    return file;
}

/* Imports may form a ring: `depth` ends the walk, as no sensible chain is longer. */
static struct node *find_kernel(struct node *file, const char *name, int depth)
{
    struct node *found = NULL;
    for (int i = 0; i < file->list.n; i++) {
        struct node *n = file->list.at[i];
        if (n->kind == N_kernel && (!name || !strcmp(n->name, name))) found = n;
    }
    for (int i = 0; i < file->list.n && !found && name && depth < 16; i++)
        if (file->list.at[i]->kind == N_import && file->list.at[i]->a) found = find_kernel(file->list.at[i]->a, name, depth + 1);
    return found;
}

struct node *dsl_kernel(struct node *file, const char *name)
{
    return find_kernel(file, name, 0);
}
