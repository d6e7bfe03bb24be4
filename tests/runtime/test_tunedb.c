/* What was measured is found again by exactly the calls it was measured for; damaged files are as none; writers at the same
 * time lose nothing; folders merge; libdgk's calls get the fastest variant that was checked. */
#include "runtime/tunedb.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/dgk.h"

static int passed, failed;
static char folder[] = "/tmp/dgc-tunedb-XXXXXX";

static void check(bool ok, const char *what)
{
    if (!ok) printf("FAILED: %s\n", what);
    ok ? passed++ : failed++;
}

static const char scale[] =
    "fn half(x) { return x * 0.5; }\n"
    "kernel scale<T = f32 | bf16, P = 1 | 2>(in T X[M, N] inner(N | M), out T Y[M, N]) {\n"
    "    spec Y[i, j] = T(half(f32(X[i, j]))) tol 1e-5;\n"
    "    tune BM = {16, 32, 64};\n"
    "    axis i = M by BM, j = N by 32;\n"
    "    grid (i, j);\n"
    "    role work { Y[i, j] = T(half(f32(X[i, j]))); }\n"
    "}\n";

/* One call of the kernel of a text. */
struct call {
    struct arena arena;
    struct diag diag;
    struct binding params[4], inner[2], tune[2], align[1];
    struct compile_options options;
    const char *dims[2];
    int64_t sizes[2];
    struct device_props props;
    struct choose_ask ask;
    struct tunedb_key key;
    bool keyed;
};

static void open_call(struct call *c, const char *text)
{
    *c = (struct call){ .dims = { "M", "N" }, .sizes = { 64, 64 }, .props = { .name = "emulated sm_90a", .sms = 4 } };
    diag_init(&c->diag, &c->arena);
    struct node *file = dsl_parse_text(&c->arena, &c->diag, "scale.dgk", text, strlen(text), NULL, 0);
    dsl_check(&c->arena, &c->diag, file);
    c->options = (struct compile_options){ .target = "sm_90a", .params = c->params, .inner = c->inner, .tune = c->tune, .align = c->align };
    c->ask = (struct choose_ask){ &c->arena, file, dsl_kernel(file, NULL), &c->options, c->dims, c->sizes, 2, &c->props, 4 };
}

static void close_call(struct call *c) { arena_free(&c->arena); }

static void make_key(struct call *c) { c->keyed = tunedb_key(&c->ask, &c->key); }

static bool same_key(const struct call *a, const struct call *b)
{
    return a->keyed && b->keyed && !strcmp(a->key.call, b->key.call) && !strcmp(a->key.made_by, b->key.made_by);
}

/* A call that differs from the plain one, by what `change` does; whether its key does. */
static bool differs(void (*change)(struct call *c))
{
    struct call a, b;
    open_call(&a, scale);
    open_call(&b, scale);
    change(&b);
    make_key(&a);
    make_key(&b);
    bool same = same_key(&a, &b);
    close_call(&a);
    close_call(&b);
    return !same;
}

static void say_defaults(struct call *c)
{
    c->params[0] = (struct binding){ "T", "f32" }, c->params[1] = (struct binding){ "P", "1" }, c->params[2] = (struct binding){ "M", "64" };
    c->options.n_params = 3;
    c->inner[0] = (struct binding){ "X", "1" };
    c->options.n_inner = 1;
    c->dims[0] = "N", c->dims[1] = "M"; /* named in another order */
}
static void other_param(struct call *c) { c->params[c->options.n_params++] = (struct binding){ "P", "2" }; }
static void other_alignment(struct call *c) { c->align[c->options.n_align++] = (struct binding){ "X", "4" }; }
static void other_inner(struct call *c) { c->inner[c->options.n_inner++] = (struct binding){ "X", "0" }; }
static void other_size(struct call *c) { c->sizes[1] = 65; }
static void other_chip(struct call *c) { c->ask.sms = 3; }
static void other_target(struct call *c) { c->options.target = "sm_80"; }
static void fixed_value(struct call *c) { c->tune[c->options.n_tune++] = (struct binding){ "BM", "16" }; }
static void unknown_size(struct call *c) { c->sizes[0] = -1; }

static bool same_source(const char *from, const char *to, const char *text)
{
    struct call a, b;
    struct buf changed = { 0 };
    const char *at = strstr(text, from);
    buf_printf(&changed, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    open_call(&a, text);
    open_call(&b, changed.at);
    make_key(&a);
    make_key(&b);
    bool same = same_key(&a, &b);
    close_call(&a);
    close_call(&b);
    buf_free(&changed);
    return same;
}

static void keys(void)
{
    check(!differs(say_defaults), "what is said outright is the same as what is left out");
    check(differs(other_param), "another parameter is another call");
    check(differs(other_inner), "another layout is another call");
    check(differs(other_alignment), "less alignment is another call");
    check(differs(other_size), "another size is another call");
    check(differs(other_chip), "fewer multiprocessors are another call");
    check(differs(other_target), "another target is another call");
    check(differs(fixed_value), "with a value fixed it is another call");
    check(differs(unknown_size), "without a size there is no key");
    check(same_source("tune BM", "/* a comment */ tune   BM", scale), "comments and blanks are no part of the source");
    check(!same_source("by 32", "by 64", scale), "the kernel's text is");
    check(!same_source("* 0.5", "* 0.25", scale), "and the functions it calls");
}

/* ---- entries --------------------------------------------------------------------------------------------------- */

static bool put(struct call *c, const char *values, double us, int count, enum tunedb_state state)
{
    struct tunedb_entry e = { values, us, count, state, false };
    return tunedb_write(&c->key, &e);
}

static int entries(struct call *c) { return tunedb_read(&c->arena, &c->key, false).n; }

static bool best_is(struct call *c, const char *want)
{
    struct binding out[4];
    int n = tunedb_best(&c->ask, out, COUNT(out));
    return want ? n == 1 && !strcmp(out[0].name, "BM") && !strcmp(out[0].value, want) : n == 0;
}

static void reading(void)
{
    struct call c, other;
    open_call(&c, scale);
    make_key(&c);
    check(best_is(&c, NULL), "an empty database has nothing");
    check(put(&c, "BM=64", 9, 3, TUNEDB_TIMED) && put(&c, "BM=32", 12.5, 3, TUNEDB_CHECKED) && put(&c, "BM=8", 1, 3, TUNEDB_BAD), "entries are written");
    check(entries(&c) == 3, "and read");
    check(best_is(&c, "32"), "the best is the fastest that was checked");
    check(put(&c, "BM=64", 9, 6, TUNEDB_CHECKED) && entries(&c) == 3 && best_is(&c, "64"), "a second writing replaces the first");
    setenv("DGC_TUNE", "off", 1);
    check(best_is(&c, NULL), "DGC_TUNE=off looks at nothing");
    unsetenv("DGC_TUNE");
    open_call(&other, scale);
    other.sizes[0] = 128;
    make_key(&other);
    check(best_is(&other, NULL), "another size finds nothing");
    close_call(&other);
    char *changed = strdup(scale);
    memcpy(strstr(changed, "0.5"), "0.6", 3);
    open_call(&other, changed);
    check(best_is(&other, NULL), "another source finds nothing");
    setenv("DGC_TUNE", "force", 1);
    check(best_is(&other, "64"), "but with DGC_TUNE=force");
    unsetenv("DGC_TUNE");
    free(changed);
    close_call(&other);
    close_call(&c);
}

/* ---- damage ---------------------------------------------------------------------------------------------------- */

static void visit(const char *in, void (*each)(const char *path, void *state), void *state)
{
    char path[1024];
    struct stat st;
    DIR *d = opendir(in);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (f->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", in, f->d_name);
        if (!stat(path, &st) && S_ISDIR(st.st_mode)) visit(path, each, state);
        else each(path, state);
    }
    if (d) closedir(d);
}

struct damage {
    struct call *call;
    int survived, files;
};

/* Every byte changed, every length: none is read. */
static void damage_file(const char *path, void *state)
{
    struct damage *d = state;
    char *text;
    size_t n;
    int all = entries(d->call);
    if (!read_file(path, &text, &n)) return;
    d->files++;
    for (size_t i = 0; i < n; i++) {
        text[i] ^= 1;
        write_file(path, text, n);
        d->survived += entries(d->call) == all;
        text[i] ^= 1;
        write_file(path, text, i);
        d->survived += entries(d->call) == all;
    }
    write_file(path, "", 0);
    d->survived += entries(d->call) == all;
    write_file(path, text, n);
    d->survived += entries(d->call) != all;
    free(text);
}

static void damaged(void)
{
    struct call c;
    open_call(&c, scale);
    make_key(&c);
    struct damage d = { &c, 0, 0 };
    visit(folder, damage_file, &d);
    check(d.files == 3 && d.survived == 0, "a damaged file is as none");
    close_call(&c);
}

/* ---- writers at the same time, and merging ---------------------------------------------------------------------- */

static void write_many(int who)
{
    struct call c;
    char values[32];
    open_call(&c, scale);
    c.sizes[0] = 1000;
    make_key(&c);
    for (int i = 0; i < 40; i++) {
        snprintf(values, sizeof values, "BM=%d", who % 2 ? i : i + 20);
        put(&c, values, 10 + i, who, TUNEDB_CHECKED);
    }
    close_call(&c);
}

static void together(void)
{
    struct call c;
    for (int i = 0; i < 4; i++)
        if (fork() == 0) write_many(i), _exit(0);
    while (wait(NULL) > 0) {}
    open_call(&c, scale);
    c.sizes[0] = 1000;
    make_key(&c);
    check(entries(&c) == 60, "four writers lose nothing");
    check(best_is(&c, "0") || best_is(&c, "20"), "and the best is found");
    close_call(&c);
}

static void merging(void)
{
    char second[] = "/tmp/dgc-tunedb-XXXXXX", first[sizeof folder];
    struct call c;
    memcpy(first, folder, sizeof folder);
    if (!mkdtemp(second)) return;
    setenv("DGC_TUNE_DB", second, 1);
    open_call(&c, scale);
    make_key(&c);
    put(&c, "BM=64", 11, 2, TUNEDB_TIMED);   /* less was measured than the first knows */
    put(&c, "BM=16", 5, 9, TUNEDB_CHECKED);
    struct tunedb_merged m = tunedb_merge(first);
    check(m.added == 63 && m.kept == 0 && m.damaged == 0 && !m.missing, "all entries come over");
    check(entries(&c) == 4 && best_is(&c, "16"), "beside those that were there");
    m = tunedb_merge(first);
    check(m.added == 0 && m.kept == 63, "a second time nothing is new");
    check(tunedb_merge("/no/such/folder").missing, "a folder that is none is said");
    close_call(&c);
    setenv("DGC_TUNE_DB", first, 1);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", second);
    check(system(command) == 0, "cleared");
}

/* ---- libdgk ---------------------------------------------------------------------------------------------------- */

static bool explains(const char *words)
{
    static float x[64 * 64], y[64 * 64];
    dgk_tensor tx = { .data = (uint64_t)(uintptr_t)x, .type = dgk_type("f32"), .place = DGK_HOST, .rank = 2, .shape = { 64, 64 }, .stride = { 64, 1 } };
    dgk_tensor ty = tx;
    dgk_context *c;
    dgk_kernel *k;
    char *text = NULL;
    ty.data = (uint64_t)(uintptr_t)y;
    dgk_value values[2] = { { .tensor = &tx }, { .tensor = &ty } };
    bool found = false;
    if (dgk_open(&c, "emu:sm_90a")) return false;
    if (!dgk_load_text(c, "scale.dgk", scale, strlen(scale), NULL, &k) && !dgk_explain(k, values, 2, &text)) found = strstr(text, words) != NULL;
    if (!found) printf("'%s' wanted in: %s %s\n", words, text ? text : "", dgk_error());
    dgk_release(text);
    dgk_close(c);
    return found;
}

int main(void)
{
    if (!mkdtemp(folder)) return 1;
    setenv("DGC_TUNE_DB", folder, 1);
    setenv("DGC_DISABLE_CACHE", "1", 1);
    unsetenv("DGC_TUNE");
    keys();
    reading();
    check(explains("BM = 64"), "a call of libdgk gets what was measured");
    damaged();
    together();
    merging();
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    check(system(command) == 0, "cleared");
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
