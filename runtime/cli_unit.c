/* cli_unit - one file compiled for one target, its messages printed once. */
#include "runtime/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void stage_begin(struct unit *u) { u->ms = now_ms(); }

static void stage_end(struct unit *u, const char *name)
{
    if (u->cli->time_passes) fprintf(stderr, "%-10s %8.2f ms\n", name, now_ms() - u->ms);
}

/* What was printed before: the same message about the same place is said once, though several targets meet it. */
static bool said_before(struct cli *c, const char *text)
{
    for (int i = 0; i < c->said.n; i++)
        if (!strcmp(c->said.at[i], text)) return true;
    const char *kept = arena_strndup(&c->arena, text, strlen(text));
    vec_push(&c->arena, &c->said, kept);
    return false;
}

bool unit_report(struct unit *u)
{
    struct buf out = { 0 };
    if (u->diag.msgs.n && !u->quiet) {
        diag_print(&u->diag, &out, cli_color(u->cli) ? DIAG_COLOR : DIAG_PLAIN);
        fflush(stdout);
        if (out.at && !said_before(u->cli, out.at)) fputs(out.at, stderr);
        buf_free(&out);
        u->diag.msgs.n = 0;
    }
    return u->diag.errors > 0;
}

bool unit_open(struct unit *u, struct cli *c, const char *path)
{
    *u = (struct unit){ .cli = c, .path = path };
    diag_init(&u->diag, &u->arena);
    stage_begin(u);
    u->file = dsl_parse_file(&u->arena, &u->diag, path, c->imports.at, c->imports.n);
    stage_end(u, "parse");
    if (!u->diag.errors) {
        stage_begin(u);
        dsl_check(&u->arena, &u->diag, u->file);
        stage_end(u, "check");
    }
    return !unit_report(u);
}

void unit_close(struct unit *u) { arena_free(&u->arena); }

nodes unit_kernels(struct unit *u)
{
    nodes all = { 0 };
    const char *want = u->cli->kernel;
    bool every = want && !strcmp(want, "all");
    const char *names[64];
    int n = 0;
    for (int i = 0; i < u->file->list.n; i++) {
        struct node *k = u->file->list.at[i];
        if (k->kind != N_kernel) continue;
        if (every) vec_push(&u->arena, &all, k);
        if (n < COUNT(names)) names[n++] = k->name;
    }
    if (every) return all;
    struct node *k = dsl_kernel(u->file, want ? intern(want) : NULL);
    if (k) {
        vec_push(&u->arena, &all, k);
    } else if (want) {
        const char *near = diag_nearest(want, names, n);
        fprintf(stderr, "dgc: error: %s has no kernel '%s'%s%s%s\n", u->path, want, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    } else {
        fprintf(stderr, "dgc: error: %s has no kernel\n", u->path);
    }
    return all;
}

static struct compile_options options(const struct unit *u, const struct target *t)
{
    const struct cli *c = u->cli;
    if (u->options) return *u->options;
    return (struct compile_options){ .target = t->name, .params = c->params.at, .n_params = c->params.n, .tune = c->tune.at,
                                     .n_tune = c->tune.n, .inner = c->inner.at, .n_inner = c->inner.n, .align = c->align.at, .n_align = c->align.n };
}

struct ir_fn *unit_lower(struct unit *u, const struct node *kernel, const struct target *t, bool passes)
{
    struct compile_options o = options(u, t);
    stage_begin(u);
    struct ir_fn *fn = compiler_lower(&u->arena, &u->diag, u->file, kernel, &o);
    stage_end(u, "lower");
    if (unit_report(u) || !fn || !passes) return u->diag.errors ? NULL : fn;
    stage_begin(u);
    compiler_passes(&u->arena, &u->diag, fn, t);
    stage_end(u, "passes");
    return unit_report(u) ? NULL : fn;
}

static void save(const struct unit *u, const struct image *im, const char *suffix, const void *data, size_t n)
{
    const char *folder = u->cli->save_temps;
    char path[4096];
    mkdir(*folder ? folder : ".", 0777);
    snprintf(path, sizeof path, "%s/%s.%s.%s", *folder ? folder : ".", im->kernel, im->target, suffix);
    if (!write_file(path, data, n)) fprintf(stderr, "dgc: warning: cannot write '%s': %s\n", path, strerror(errno));
}

static void save_ir(const struct unit *u, const struct ir_fn *fn, const struct image *im)
{
    struct buf ir = { 0 };
    ir_print(fn, &ir);
    if (ir.at) save(u, im, "ir", ir.at, ir.n);
    buf_free(&ir);
}

struct image *unit_compile(struct unit *u, const struct node *kernel, const struct target *t, struct buf *explain)
{
    struct ir_fn *fn = unit_lower(u, kernel, t, true);
    if (!fn) return NULL;
    struct codegen_options o = { .symbol = u->cli->symbol, .line_info = u->cli->line_info, .explain = explain };
    stage_begin(u);
    struct image *im = codegen_kernel(&u->arena, &u->diag, fn, &o);
    stage_end(u, "codegen");
    if (unit_report(u) || !im) return NULL;
    u->fn = fn;
    if (u->cli->save_temps) {
        save_ir(u, fn, im);
        save(u, im, "ptx", im->ptx, im->ptx_bytes);
    }
    return im;
}

struct assemble_options cli_assemble_options(const struct cli *c)
{
    return (struct assemble_options){ .ptxas = c->ptxas, .extra = c->ptxas_options, .line_info = c->line_info, .accept_bad_code = c->allow_spills,
                                      .driver = module_driver_assembles };
}

/* ---- targets ------------------------------------------------------------------------------------------------- */

static bool listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (!strncmp(p, name, n) && (!p[n] || p[n] == ',')) return true;
    return false;
}

static bool all_known(const char *list)
{
    int n;
    const struct target *all = target_all(&n);
    const char *names[64];
    for (int i = 0; i < n; i++) names[i] = all[i].name;
    for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        char word[64];
        snprintf(word, sizeof word, "%.*s", (int)strcspn(p, ","), p);
        if (target_find(word)) continue;
        const char *near = diag_nearest(word, names, n);
        if (near) cli_usage("'%s' is no target; did you mean '%s'? (dgc targets lists them)", word, near);
        else cli_usage("'%s' is no target; dgc targets lists them", word);
        return false;
    }
    return true;
}

target_list cli_targets(struct cli *c, const char *otherwise)
{
    target_list list = { 0 };
    const char *want = c->target ? c->target : otherwise;
    int n;
    const struct target *all = target_all(&n);
    bool every = !strcmp(want, "all");
    if (!every && !all_known(want)) return list;
    for (int i = 0; i < n; i++)
        if (every || listed(want, all[i].name)) vec_push(&c->arena, &list, &all[i]);
    return list;
}
