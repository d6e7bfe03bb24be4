/* cli_cache - dgc cache: what is kept. */
#include "runtime/cli.h"

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
