/* tunedb - measured tune values on disk. See tunedb.h. */
#include "runtime/tunedb.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/dgk.h"

#define HEAD "dgc tune 1\n"

static const char *const state_names[] = { "timed", "checked", "bad" };

static uint64_t hash(const char *p, size_t n) /* FNV-1a */
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 1099511628211u;
    return h;
}

/* ---- keys ------------------------------------------------------------------------------------------------------ */

static const char *value_of(const struct binding *list, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(list[i].name, name)) return list[i].value;
    return NULL;
}

/* Everything but other kernels that the kernel's text may use: functions and iterators, also of imports. */
static void print_sources(const struct node *file, struct buf *out, int depth)
{
    for (int i = 0; file && i < file->list.n && depth < 16; i++) {
        const struct node *n = file->list.at[i];
        if (n->kind == N_import) print_sources(n->a, out, depth + 1);
        else if (n->kind != N_kernel) ast_print(n, out);
    }
}

static uint64_t source_hash(const struct choose_ask *ask)
{
    struct buf text = { 0 };
    ast_print(ask->kernel, &text);
    print_sources(ask->file, &text, 0);
    uint64_t h = hash(text.at, text.n);
    buf_free(&text);
    return h;
}

/* A parameter left out has its first alternative. */
static void put_params(const struct choose_ask *ask, struct buf *b)
{
    buf_printf(b, "params");
    for (int i = 0; i < ask->kernel->list.n; i++) {
        const struct node *p = ask->kernel->list.at[i], *first = p->list.n ? p->list.at[0] : NULL;
        const char *given = value_of(ask->options->params, ask->options->n_params, p->name);
        if (given) buf_printf(b, " %s=%s", p->name, given);
        else if (first && first->kind == N_typename) buf_printf(b, " %s=%s", p->name, type_name(first->type));
        else if (first && first->kind == N_int) buf_printf(b, " %s=%" PRId64, p->name, first->num);
        else if (first && first->name) buf_printf(b, " %s=%s", p->name, first->name);
    }
    buf_printf(b, "\n");
}

static bool same_text(const struct node *x, const struct node *y)
{
    struct buf a = { 0 }, b = { 0 };
    ast_print(x, &a);
    ast_print(y, &b);
    bool same = a.at && b.at && !strcmp(a.at, b.at);
    buf_free(&a);
    buf_free(&b);
    return same;
}

/* The dimension with stride 1 of each tensor that leaves a choice. */
static void put_inner(const struct choose_ask *ask, struct buf *b)
{
    buf_printf(b, "inner");
    for (int i = 0; i < ask->kernel->list2.n; i++) {
        const struct node *arg = ask->kernel->list2.at[i];
        const char *given = value_of(ask->options->inner, ask->options->n_inner, arg->name);
        int first = arg->list.n - 1;
        if (arg->list2.n < 2 && !given) continue;
        for (int d = arg->list.n - 1; arg->list2.n && d >= 0; d--)
            if (same_text(arg->list2.at[0], arg->list.at[d])) first = d;
        buf_printf(b, " %s=%d", arg->name, given ? atoi(given) : first);
    }
    buf_printf(b, "\n");
}

static void put_align(const struct compile_options *o, struct buf *b)
{
    for (int i = 0; i < o->n_align; i++) buf_printf(b, "%s %s=%s%s", i ? "" : "align", o->align[i].name, o->align[i].value, i + 1 == o->n_align ? "\n" : "");
}

struct named_size {
    const char *name;
    int64_t size;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct named_size *)a)->name, ((const struct named_size *)b)->name);
}

static bool put_sizes(const struct choose_ask *ask, struct buf *b)
{
    struct named_size *all = new_n(ask->arena, struct named_size, ask->n_dims + 1);
    for (int i = 0; i < ask->n_dims; i++) {
        all[i] = (struct named_size){ ask->dims[i], ask->sizes[i] };
        if (all[i].size < 0) return false;
    }
    qsort(all, (size_t)ask->n_dims, sizeof *all, by_name);
    buf_printf(b, "shape");
    for (int i = 0; i < ask->n_dims; i++) buf_printf(b, " %s=%" PRId64, all[i].name, all[i].size);
    buf_printf(b, "\n");
    return true;
}

bool tunedb_key(const struct choose_ask *ask, struct tunedb_key *out)
{
    struct buf b = { 0 };
    const struct compile_options *o = ask->options;
    buf_printf(&b, "kernel %s\n", ask->kernel->name);
    put_params(ask, &b);
    put_inner(ask, &b);
    put_align(o, &b);
    bool known = put_sizes(ask, &b);
    buf_printf(&b, "device %s, %d multiprocessors\ntarget %s\nfixed", ask->device->name, ask->sms, o->target);
    for (int i = 0; i < o->n_tune; i++) buf_printf(&b, " %s=%s", o->tune[i].name, o->tune[i].value);
    buf_printf(&b, "\n");
    out->call = arena_strndup(ask->arena, b.at, b.n);
    out->made_by = arena_printf(ask->arena, "source %016" PRIx64 "\ncompiler %s\n", source_hash(ask), DGK_VERSION);
    buf_free(&b);
    return known;
}

/* ---- folders --------------------------------------------------------------------------------------------------- */

bool tunedb_folder(char *to, size_t room)
{
    const char *named = getenv("DGC_TUNE_DB"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (named && *named) snprintf(to, room, "%s", named);
    else if (xdg && *xdg) snprintf(to, room, "%s/dgc/tune", xdg);
    else if (home && *home) snprintf(to, room, "%s/.local/state/dgc/tune", home);
    else return false;
    return true;
}

static void make_folders(char *path)
{
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(path, 0777);
        *p = '/';
    }
}

/* One folder for each call, one file in it for each variant. */
static bool call_folder(const char *call, char *to, size_t room)
{
    char base[3800];
    if (!tunedb_folder(base, sizeof base)) return false;
    snprintf(to, room, "%s/%016" PRIx64, base, hash(call, strlen(call)));
    return true;
}

/* ---- entries as text ------------------------------------------------------------------------------------------- */

static void print_entry(struct buf *b, const char *call, const char *made_by, const struct tunedb_entry *e)
{
    buf_printf(b, "%s%s%svalues %s\nus %.3f\ncount %d\nstate %s\n", HEAD, call, made_by, e->values, e->us, e->count, state_names[e->state]);
    buf_printf(b, "hash %016" PRIx64 "\n", hash(b->at, b->n));
}

/* A file taken apart: the lines before "source" are the call, the next two made_by. */
struct parsed {
    const char *call, *made_by;
    struct tunedb_entry entry;
};

static bool whole(const char *text, size_t n)
{
    enum { LAST = 5 + 16 + 1 };
    uint64_t h;
    if (n < LAST + strlen(HEAD) || strlen(text) != n || strncmp(text, HEAD, strlen(HEAD))) return false;
    const char *last = text + n - LAST;
    return last[-1] == '\n' && sscanf(last, "hash %16" SCNx64, &h) == 1 && last[LAST - 1] == '\n' && h == hash(text, (size_t)(last - text));
}

static const char *line(const char *text, const char *word)
{
    const char *at = strstr(text, word);
    return at ? at + strlen(word) : NULL;
}

static bool parse_entry(struct arena *a, const char *text, size_t n, struct parsed *out)
{
    if (!whole(text, n)) return false;
    const char *call = text + strlen(HEAD), *made = strstr(call, "\nsource "), *values = line(call, "\nvalues ");
    const char *us = line(call, "\nus "), *count = line(call, "\ncount "), *state = line(call, "\nstate ");
    if (!made || !values || !us || !count || !state || values < made) return false;
    out->call = arena_strndup(a, call, (size_t)(made + 1 - call));
    out->made_by = arena_strndup(a, made + 1, (size_t)(values - strlen("values ") - made - 1));
    out->entry = (struct tunedb_entry){ .values = arena_strndup(a, values, strcspn(values, "\n")), .us = strtod(us, NULL), .count = atoi(count) };
    for (int i = 0; i < COUNT(state_names); i++)
        if (!strncmp(state, state_names[i], strlen(state_names[i]))) out->entry.state = (enum tunedb_state)i;
    return true;
}

static bool read_entry(struct arena *a, const char *path, struct parsed *out)
{
    char *text;
    size_t n;
    if (!read_file(path, &text, &n)) return false;
    bool ok = parse_entry(a, text, n, out);
    free(text);
    return ok;
}

/* ---- reading and writing --------------------------------------------------------------------------------------- */

static bool is_entry(const char *name)
{
    size_t n = strlen(name);
    return n > 5 && !strcmp(name + n - 5, ".tune");
}

tunedb_entries tunedb_read(struct arena *a, const struct tunedb_key *key, bool others)
{
    tunedb_entries all = { 0 };
    char folder[3900], path[4200];
    DIR *d = call_folder(key->call, folder, sizeof folder) ? opendir(folder) : NULL;
    for (struct dirent *f; d && (f = readdir(d));) {
        struct parsed p;
        snprintf(path, sizeof path, "%s/%s", folder, f->d_name);
        if (!is_entry(f->d_name) || !read_entry(a, path, &p) || strcmp(p.call, key->call)) continue;
        p.entry.other = strcmp(p.made_by, key->made_by);
        if (!p.entry.other || others) vec_push(a, &all, p.entry);
    }
    if (d) closedir(d);
    return all;
}

static bool entry_path(const char *call, const char *made_by, const char *values, char *to, size_t room)
{
    char folder[3900];
    struct buf b = { 0 };
    if (!call_folder(call, folder, sizeof folder)) return false;
    buf_printf(&b, "%s%s", made_by, values);
    snprintf(to, room, "%s/%016" PRIx64 ".tune", folder, hash(b.at, b.n));
    buf_free(&b);
    return true;
}

static bool write_parts(const char *call, const char *made_by, const struct tunedb_entry *e)
{
    char path[4200];
    struct buf b = { 0 };
    if (!entry_path(call, made_by, e->values, path, sizeof path)) return false;
    make_folders(path);
    print_entry(&b, call, made_by, e);
    bool ok = write_file(path, b.at, b.n);
    buf_free(&b);
    return ok;
}

bool tunedb_write(const struct tunedb_key *key, const struct tunedb_entry *e) { return write_parts(key->call, key->made_by, e); }

/* ---- the best -------------------------------------------------------------------------------------------------- */

int tunedb_values(struct arena *a, const char *text, struct binding *out, int room)
{
    int n = 0;
    while (*text && n < room) {
        size_t item = strcspn(text, ";"), name = strcspn(text, "=");
        if (name < item) out[n++] = (struct binding){ arena_strndup(a, text, name), arena_strndup(a, text + name + 1, item - name - 1) };
        text += item + (text[item] != 0);
    }
    return n;
}

/* Own measurements before others', then the faster one, then by text: the same answer whatever the order on disk. */
static bool better(const struct tunedb_entry *x, const struct tunedb_entry *y)
{
    if (!y) return true;
    if (x->other != y->other) return !x->other;
    return x->us != y->us ? x->us < y->us : strcmp(x->values, y->values) < 0;
}

int tunedb_best(const struct choose_ask *ask, struct binding *out, int room)
{
    const char *mode = getenv("DGC_TUNE");
    char folder[3900];
    struct tunedb_key key;
    const struct tunedb_entry *best = NULL;
    if ((mode && !strcmp(mode, "off")) || !tunedb_folder(folder, sizeof folder) || access(folder, R_OK) || !tunedb_key(ask, &key)) return 0;
    tunedb_entries all = tunedb_read(ask->arena, &key, mode && !strcmp(mode, "force"));
    for (int i = 0; i < all.n; i++)
        if (all.at[i].state == TUNEDB_CHECKED && better(&all.at[i], best)) best = &all.at[i];
    return best ? tunedb_values(ask->arena, best->values, out, room) : 0;
}

/* ---- merging --------------------------------------------------------------------------------------------------- */

static void merge_file(const char *path, struct tunedb_merged *m)
{
    struct arena a = { 0 };
    struct parsed in, have;
    char to[4200];
    if (!read_entry(&a, path, &in)) {
        m->damaged++;
    } else if (entry_path(in.call, in.made_by, in.entry.values, to, sizeof to)) {
        bool known = read_entry(&a, to, &have) &&
                     (have.entry.state != in.entry.state ? have.entry.state > in.entry.state : have.entry.count >= in.entry.count);
        if (known) m->kept++;
        else m->added += write_parts(in.call, in.made_by, &in.entry);
    }
    arena_free(&a);
}

static void merge_folder(const char *from, int depth, struct tunedb_merged *m)
{
    DIR *d = opendir(from);
    char path[4200];
    if (!d && depth == 0) m->missing = true;
    for (struct dirent *f; d && (f = readdir(d));) {
        if (f->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", from, f->d_name);
        if (is_entry(f->d_name)) merge_file(path, m);
        else if (depth == 0) merge_folder(path, 1, m);
    }
    if (d) closedir(d);
}

struct tunedb_merged tunedb_merge(const char *from)
{
    struct tunedb_merged m = { 0 };
    merge_folder(from, 0, &m);
    return m;
}
