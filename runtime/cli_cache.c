/* cli_cache - dgc cache: what is kept; dgc build: compiles a list of variants ahead of time, so that no program has to. */
#include "runtime/cli.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/cache.h"

/* ---- dgc cache ----------------------------------------------------------------------------------------------- */

struct survey {
    int entries, damaged, removed;
    uint64_t bytes;
    int64_t before; /* prune: entries not used since this time go */
    bool list, all;
};

static bool survey(void *state, const struct cache_item *item)
{
    struct survey *s = state;
    char day[32];
    time_t used = (time_t)item->used;
    strftime(day, sizeof day, "%Y-%m-%d %H:%M", localtime(&used));
    s->entries++;
    s->bytes += item->bytes;
    s->damaged += !item->sound;
    if (s->list) printf("%.16s  %s  %8" PRIu64 "  %s\n", item->name, day, item->bytes, item->sound ? item->note : "damaged: the next call removes it");
    if ((s->all || item->used < s->before) && cache_remove(item->name)) s->removed++;
    return true;
}

static int show_info(const char *folder, const struct survey *s)
{
    char text[4400];
    const char *why = cache_unsafe(folder, text, sizeof text);
    printf("folder     %s\n", folder);
    if (why && s->entries == 0) printf("state      not in use: %s\n", why);
    else printf("state      in use\n");
    printf("entries    %d, %.1f MiB%s\n", s->entries, (double)s->bytes / (1 << 20), s->damaged ? ", some damaged" : "");
    return 0;
}

int cli_verb_cache(struct cli *c)
{
    const char *what = c->files.at[0];
    char folder[4096];
    struct survey s = { 0 };
    bool info = !strcmp(what, "info"), prune = !strcmp(what, "prune"), clear = !strcmp(what, "clear");
    s.list = !strcmp(what, "ls");
    if (!info && !prune && !clear && !s.list) return cli_usage("dgc cache %s: there are ls, info, prune and clear", what);
    if (!cache_folder(folder, sizeof folder)) return cli_usage("the cache is off: DGC_DISABLE_CACHE is set, or there is no HOME");
    int days = c->days ? atoi(c->days) : 30;
    s.all = clear;
    s.before = prune ? (int64_t)time(NULL) - (int64_t)days * 86400 : 0;
    cache_each(s.list || info, survey, &s);
    if (prune || clear) cache_sweep(3600);
    if (info) return show_info(folder, &s);
    if (prune) printf("%d of %d entries were not used for %d days and are gone\n", s.removed, s.entries, days);
    if (clear) printf("%d entries are gone\n", s.removed);
    return 0;
}

/* ---- dgc build ----------------------------------------------------------------------------------------------- */

/* One variant: PTX, then the cubin, which lands in the cache. The code must be the very one that libdgk asks for. */
static int build_kernel(struct unit *u, const struct node *kernel, const struct target *t)
{
    struct image *im = unit_compile(u, kernel, t, NULL);
    struct assemble_options o = { .accept_bad_code = true, .driver = module_driver_assembles };
    struct fault why = { 0 };
    void *cubin;
    size_t bytes;
    if (!im) return 1;
    if (module_assemble(im->ptx, im->ptx_bytes, &o, &cubin, &bytes, NULL, NULL, &why)) {
        fault_prefix(&why, "%s %s: ", im->kernel, im->target);
        return cli_fail(&why);
    }
    printf("%-24s %-8s %zu bytes\n", im->kernel, im->target, bytes);
    free(cubin);
    return 0;
}

static int build_line(struct cli *c)
{
    target_list targets = cli_targets(c, "sm_90a");
    int rc = targets.n ? 0 : status_exit(DGK_USAGE);
    for (int i = 0; i < targets.n; i++) {
        struct unit u;
        int failed = unit_open(&u, c, c->files.at[0]) ? 0 : 1;
        nodes kernels = { 0 };
        if (!failed) kernels = unit_kernels(&u);
        if (!kernels.n) failed = 1;
        for (int k = 0; k < kernels.n; k++) {
            int bad = build_kernel(&u, kernels.at[k], targets.at[i]);
            if (bad > failed) failed = bad;
        }
        if (failed > rc) rc = failed;
        unit_close(&u);
    }
    return rc;
}

/* A line of the manifest holds the words of a `dgc compile`; # begins a comment. */
static int build_words(char *line)
{
    char *argv[130] = { "dgc", "compile" };
    int n = 2;
    line[strcspn(line, "#\n")] = 0;
    for (char *save = NULL, *w = strtok_r(line, " \t\r", &save); w && n < 129; w = strtok_r(NULL, " \t\r", &save)) argv[n++] = w;
    if (n == 2) return 0;
    struct cli c = { 0 };
    int rc = cli_parse(&c, n, argv) && c.verb == VERB_compile ? build_line(&c) : status_exit(DGK_USAGE);
    arena_free(&c.arena);
    return rc;
}

int cli_verb_build(struct cli *c)
{
    char *text, *next;
    struct fault why;
    int rc = 0, number = 1;
    if (!read_file(c->files.at[0], &text, NULL)) {
        fault_set(&why, DGK_BAD_FILE, "cannot read '%s': %s", c->files.at[0], strerror(errno));
        return cli_fail(&why);
    }
    for (char *line = text; line; line = next, number++) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        int failed = build_words(line);
        if (failed) fprintf(stderr, "dgc: note: that was line %d of %s\n", number, c->files.at[0]);
        if (failed > rc) rc = failed;
    }
    free(text);
    return rc;
}
