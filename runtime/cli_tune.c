/* cli_tune - dgc tune: measures variants of a kernel on shapes; merges what several machines measured.
 *
 * A launch that fails may take the device with it, and one that never ends keeps it: then the process begins anew in its
 * own place (execv), and goes on after that variant, which is on disk as bad. */
#define _GNU_SOURCE
#include "runtime/cli.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/tune.h"

enum { BUDGET = 60, LAUNCH_SECONDS = 30, MOST_RESTARTS = 20, SHOWN = 5, BAR = 24 };

struct tuning {
    struct cli *cli;
    struct cli_call call;
    bool tty;
    int shape;            /* number of the one at hand */
    double said;          /* when a line of progress was printed last */
    enum tune_stage stage;
    struct buf json;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- beginning anew -------------------------------------------------------------------------------------------- */

static char **own_words; /* of the command line, ready for a signal handler */

static void read_own_words(struct arena *a)
{
    char *text;
    size_t n, at = 0, count = 0;
    if (!read_file("/proc/self/cmdline", &text, &n)) return;
    char **words = new_n(a, char *, n + 2), *kept = arena_strndup(a, text, n);
    memcpy(kept, text, n);
    free(text);
    for (; at < n; at += strlen(kept + at) + 1) words[count++] = kept + at;
    own_words = count ? words : NULL;
}

static int restarts(void)
{
    const char *v = getenv("DGC_TUNE_RESTARTS");
    return v ? atoi(v) : 0;
}

static void begin_anew(int sig)
{
    static const char text[] = "\ndgc: a launch failed or did not end; going on after it\n";
    (void)sig;
    if (write(2, text, sizeof text - 1) < 0 || !own_words) _exit(1);
    execv("/proc/self/exe", own_words);
    _exit(1);
}

static void prepare_restart(struct arena *a)
{
    char count[16];
    struct sigaction act = { .sa_handler = begin_anew, .sa_flags = SA_NODEFER };
    if (restarts() >= MOST_RESTARTS) return;
    read_own_words(a);
    snprintf(count, sizeof count, "%d", restarts() + 1);
    setenv("DGC_TUNE_RESTARTS", count, 1);
    sigaction(SIGALRM, &act, NULL);
}

static void guard(void *state, bool on)
{
    (void)state;
    if (own_words) alarm(on ? LAUNCH_SECONDS : 0);
}

/* ---- progress -------------------------------------------------------------------------------------------------- */

static const char *const stage_names[] = { "compiling", "timing", "compiling around the best", "checking" };

static void bar(char *to, int done, int of)
{
    int full = of ? done * BAR / of : BAR;
    for (int i = 0; i < BAR; i++) to[i] = i < full ? '#' : '.';
    to[BAR] = 0;
}

/* A bar that is drawn over where there is a terminal; else a line for each stage, and every few seconds. */
static void progress(void *state, const struct tune_progress *p)
{
    struct tuning *t = state;
    char drawn[BAR + 1], best[32] = "", shapes[40] = "";
    double when = now();
    bool turn = p->stage != t->stage;
    if (!turn && when - t->said < (t->tty ? 0.1 : 5) && !(p->done == p->of && t->tty)) return;
    t->said = when;
    t->stage = p->stage;
    if (isfinite(p->best_us)) snprintf(best, sizeof best, ", best %.1f us", p->best_us);
    if (t->call.shapes.n > 1) snprintf(shapes, sizeof shapes, "%d/%d ", t->shape + 1, t->call.shapes.n);
    bar(drawn, p->done, p->of);
    if (t->tty) fprintf(stderr, "\r%s[%s] %s %d/%d%s, %d:%02d left\033[K", shapes, drawn, stage_names[p->stage], p->done, p->of, best, (int)p->left / 60, (int)p->left % 60);
    else fprintf(stderr, "%s%s %d of %d%s, %d s left\n", shapes, stage_names[p->stage], p->done, p->of, best, (int)p->left);
}

static void end_progress(const struct tuning *t)
{
    if (t->tty) fprintf(stderr, "\r\033[K");
}

/* ---- showing --------------------------------------------------------------------------------------------------- */

static int count_bad(const struct tune_result *r)
{
    int n = 0;
    for (int i = 0; i < r->rows.n; i++) n += r->rows.at[i].state == TUNEDB_BAD;
    return n;
}

/* Fastest first; the first that was checked is what calls will get. */
static const struct tune_row *winner(const struct tune_result *r)
{
    for (int i = 0; i < r->rows.n; i++)
        if (r->rows.at[i].state == TUNEDB_CHECKED) return &r->rows.at[i];
    return NULL;
}

static void print_row(const struct tune_row *r, const struct tune_result *all, const struct tune_row *won)
{
    char model[32] = "-";
    if (r->estimate > 0 && isfinite(r->estimate)) snprintf(model, sizeof model, "%.1f", r->estimate);
    if (r->state == TUNEDB_BAD) printf("%9s %9s %5s  %s: %s\n", "bad", model, "", r->values, r->why);
    else printf("%9.1f %9s %5d  %s", r->us, model, r->count, r->values);
    if (r->state == TUNEDB_BAD) return;
    if (r == won && isfinite(all->standard_us)) printf("  <- kept, %.2f times as fast as untuned", all->standard_us / r->us);
    else if (r == won) printf("  <- kept");
    if (r->standard) printf("  (untuned)");
    printf("\n");
}

static void print_result(const struct tuning *t, const struct cli_shape *shape, const struct tune_result *r)
{
    const struct tune_row *won = winner(r);
    printf("%s %s on %s, compiled for %s: %d variants, %d bad, %d known before%s\n", t->call.kernel->name, shape->text, t->call.device->props.name,
           t->call.target->name, r->rows.n, count_bad(r), r->known, r->out_of_time ? "; the budget is spent" : "");
    printf("%9s %9s %5s\n", "us", "model", "count");
    for (int i = 0, shown = 0; i < r->rows.n; i++) {
        const struct tune_row *row = &r->rows.at[i];
        if (t->cli->verbose || row == won || row->standard || (shown < SHOWN && row->state != TUNEDB_BAD)) print_row(row, r, won), shown++;
    }
    fflush(stdout);
}

static void put_json(struct tuning *t, const struct cli_shape *shape, const struct tune_result *r)
{
    static const char *const states[] = { "timed", "checked", "bad" };
    struct buf *out = &t->json;
    buf_printf(out, "%s\n {\"shape\": ", t->shape ? "," : "");
    cli_json_pairs(out, shape->text, ' ');
    buf_printf(out, ", \"known\": %d, \"rows\": [", r->known);
    for (int i = 0; i < r->rows.n; i++) {
        const struct tune_row *row = &r->rows.at[i];
        buf_printf(out, "%s\n  {\"values\": ", i ? "," : "");
        cli_json_pairs(out, row->values, ';');
        buf_printf(out, ", \"state\": \"%s\", \"untuned\": %s, \"count\": %d", states[row->state], row->standard ? "true" : "false", row->count);
        if (row->state == TUNEDB_BAD) {
            buf_printf(out, ", \"why\": ");
            cli_json_text(out, row->why);
        } else {
            buf_printf(out, ", \"us\": %.3f, \"model_us\": %.3f", row->us, isfinite(row->estimate) ? row->estimate : 0);
        }
        buf_printf(out, "}");
    }
    buf_printf(out, "]}");
}

/* ---- tuning ---------------------------------------------------------------------------------------------------- */

static int read_shard(const struct cli *c, struct tune_ask *ask)
{
    char rest;
    if (!c->shard) return 0;
    if (sscanf(c->shard, "%d/%d%c", &ask->shard, &ask->shards, &rest) == 2 && ask->shards > 0 && ask->shard >= 0 && ask->shard < ask->shards) return 0;
    return cli_usage("--shard=%s: I/N is wanted, with I from 0 to N - 1", c->shard);
}

/* "60" or "60s" */
static int read_budget(const struct cli *c, double *to)
{
    char *end;
    *to = BUDGET;
    if (!c->budget) return 0;
    *to = strtod(c->budget, &end);
    if (end != c->budget && (!*end || !strcmp(end, "s")) && *to >= 0) return 0;
    return cli_usage("--budget=%s: seconds are wanted", c->budget);
}

static int tune_shape(struct tuning *t, const struct tune_ask *like, const struct cli_shape *shape)
{
    struct tune_ask ask = *like;
    struct tune_result r;
    struct fault why = { 0 };
    ask.call = cli_call_ask(&t->call, shape);
    ask.scalars = shape->scalars.at, ask.n_scalars = shape->scalars.n;
    t->stage = (enum tune_stage)-1;
    enum dgk_status s = tune_call(&ask, &r, &why);
    end_progress(t);
    if (r.device_lost && own_words) begin_anew(0);
    if (r.device_lost) return cli_usage("a launch failed and took the device with it; run this again, it goes on after that variant");
    if (s) return cli_fail(&why);
    if (!t->cli->json || *t->cli->json) print_result(t, shape, &r);
    put_json(t, shape, &r);
    return winner(&r) ? 0 : 1;
}

static int tune_all(struct tuning *t)
{
    struct cli *c = t->cli;
    struct assemble_options assemble = cli_assemble_options(c);
    struct tune_ask ask = { .path = t->call.unit.path, .import_dirs = c->imports.at, .n_import_dirs = c->imports.n, .device = t->call.device,
                            .assemble = &assemble, .again = c->again, .state = t, .progress = progress, .guard = guard };
    int rc = read_shard(c, &ask), worst = 0;
    if (rc || (rc = read_budget(c, &ask.budget))) return rc;
    ask.most = c->candidates ? atoi(c->candidates) : 0;
    ask.threads = c->jobs ? atoi(c->jobs) : 0;
    buf_printf(&t->json, "{\"kernel\": \"%s\", \"device\": \"%s\", \"target\": \"%s\", \"shapes\": [", t->call.kernel->name, t->call.device->props.name,
               t->call.target->name);
    for (t->shape = 0; t->shape < t->call.shapes.n; t->shape++) {
        rc = tune_shape(t, &ask, &t->call.shapes.at[t->shape]);
        worst = rc > worst ? rc : worst;
    }
    buf_printf(&t->json, "\n]}\n");
    rc = c->json ? cli_json_write(c->json, &t->json) : 0;
    return rc ? rc : worst;
}

static int merge(const struct cli *c)
{
    char folder[4096];
    int damaged = 0;
    if (c->files.n < 2) return cli_usage("dgc tune merge needs folders of measurements, as $DGC_TUNE_DB names one");
    if (!tunedb_folder(folder, sizeof folder)) return cli_usage("there is no folder to merge into; set DGC_TUNE_DB");
    for (int i = 1; i < c->files.n; i++) {
        struct tunedb_merged m = tunedb_merge(c->files.at[i]);
        if (m.missing) return cli_usage("cannot read the folder '%s'", c->files.at[i]);
        printf("%s: %d added, %d known as well, %d damaged\n", c->files.at[i], m.added, m.kept, m.damaged);
        damaged += m.damaged;
    }
    printf("in %s\n", folder);
    return damaged > 0;
}

int cli_verb_tune(struct cli *c)
{
    struct tuning t = { .cli = c, .tty = isatty(2) };
    if (!strcmp(c->files.at[0], "merge")) return merge(c);
    if (c->files.n > 1) return cli_usage("one file at a time; '%s' is a second", c->files.at[1]);
    int rc = cli_call_open(&t.call, c, NULL);
    if (!rc && !t.call.device->props.emulated) prepare_restart(&c->arena);
    if (!rc) rc = tune_all(&t);
    cli_call_close(&t.call);
    buf_free(&t.json);
    return rc;
}
