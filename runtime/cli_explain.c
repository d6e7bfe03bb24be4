/* cli_explain - dgc explain: what a kernel became on each target; for calls of given sizes, which variant they get and why. */
#include "runtime/cli.h"

#include <stdio.h>
#include <stdlib.h>

#include "runtime/tune.h"
#include "runtime/tunedb.h"

enum { NEXT = 5 };

/* ---- one kernel ------------------------------------------------------------------------------------------------ */

static void explain_code(struct cli *c, const struct image *im)
{
    struct assemble_options o = cli_assemble_options(c);
    struct assemble_report r;
    struct fault why = { 0 };
    void *cubin;
    size_t bytes;
    o.accept_bad_code = true;
    if (module_assemble(im->ptx, im->ptx_bytes, &o, &cubin, &bytes, &r, NULL, &why)) return;
    printf("  assembled  %d registers, %d bytes of stack, %d bytes of spills, by %s in %.0f ms\n", r.registers, r.stack_bytes,
           r.spill_store_bytes > 0 ? r.spill_store_bytes : 0, r.by, r.ms);
    free(cubin);
}

static int explain_kernel(struct unit *u, const struct node *kernel, const struct target *t)
{
    struct buf text = { 0 };
    const struct image *im = unit_compile(u, kernel, t, &text);
    if (text.at) fputs(text.at, stdout);
    if (im) explain_code(u->cli, im);
    buf_free(&text);
    return im ? 0 : 1;
}

static int explain_for(struct cli *c, const struct target *t)
{
    struct unit u;
    int rc = unit_open(&u, c, c->files.at[0]) ? 0 : 1;
    nodes kernels = { 0 };
    if (!rc) kernels = unit_kernels(&u);
    if (!kernels.n) rc = 1;
    for (int i = 0; i < kernels.n; i++) rc |= explain_kernel(&u, kernels.at[i], t);
    unit_close(&u);
    return rc;
}

/* ---- calls ----------------------------------------------------------------------------------------------------- */

static void show_call(const struct cli_call *k, const struct cli_shape *shape)
{
    const struct device_props *p = &k->props;
    printf("call %s %s for %s, ", k->kernel->name, shape->text, k->target->name);
    printf("on %s with %d multiprocessors%s\n", p->name, p->sms, p->supposed ? ", which is not here" : "");
}

/* What was measured for this very call; the fastest that was checked is what it gets. */
static void show_measured(const struct choose_ask *ask)
{
    struct tunedb_key key;
    tunedb_entries all = { 0 };
    int checked = 0, bad = 0;
    double best = 0;
    if (!ask->device->supposed && tunedb_key(ask, &key)) all = tunedb_read(ask->arena, &key, false);
    for (int i = 0; i < all.n; i++) {
        const struct tunedb_entry *e = &all.at[i];
        if (e->state == TUNEDB_CHECKED && (!checked || e->us < best)) best = e->us;
        checked += e->state == TUNEDB_CHECKED;
        bad += e->state == TUNEDB_BAD;
    }
    if (!all.n) printf("  measured   nothing\n");
    else printf("  measured   %d variants, %d bad, %d checked", all.n, bad, checked);
    if (checked) printf(": the best in %.1f us", best);
    if (all.n) printf("\n");
}

static void show_cost(const struct choose_ask *ask)
{
    struct cost c;
    if (!choose_estimate(ask, &c)) return;
    printf("  model      %.1f us: %.0f tasks in %.0f round%s; memory alone would take %.1f us\n", c.us, c.tasks, c.waves, c.waves == 1 ? "" : "s", c.memory_us);
    printf("  cycles     of one task: mma %.0f, operands %.0f, fill %.0f, alu %.0f, wait %.0f, serial %.0f, store %.0f, combine %.0f\n", c.mma, c.operands,
           c.fill, c.alu, c.wait, c.serial, c.store, c.combine);
}

static void show_next(const struct choose_ask *ask)
{
    struct choose_candidate list[NEXT + 1];
    int n = choose_ranking(ask, list, NEXT + 1);
    for (int i = 1; i < n; i++) printf("  %-10s %.1f us: %s\n", i == 1 ? "next" : "", list[i].us, tune_values_text(ask->arena, list[i].at, list[i].n));
}

static int explain_call(struct cli_call *k, const struct cli_shape *shape)
{
    struct choose_ask ask = cli_call_ask(k, shape), chosen = ask;
    const char *from = cli_call_choose(&chosen);
    show_call(k, shape);
    if (chosen.options->n_tune) printf("  chosen     %s (%s)\n", tune_values_text(ask.arena, chosen.options->tune, chosen.options->n_tune), from);
    else printf("  chosen     nothing: one variant is for every size\n");
    show_measured(&ask);
    show_cost(&chosen);
    show_next(&ask);
    k->unit.options = chosen.options;
    return explain_kernel(&k->unit, k->kernel, k->target);
}

static int explain_calls(struct cli *c, const struct target *t)
{
    struct cli_call k;
    int rc = cli_call_open(&k, c, t);
    for (int i = 0; i < k.shapes.n && !rc; i++) rc = explain_call(&k, &k.shapes.at[i]);
    cli_call_close(&k);
    return rc;
}

int cli_verb_explain(struct cli *c)
{
    target_list targets = cli_targets(c, "all");
    if (!targets.n) return status_exit(DGK_USAGE);
    bool calls = c->shape_list.n || c->shapes_file;
    int rc = 0;
    for (int i = 0; i < targets.n && rc != status_exit(DGK_USAGE); i++) {
        int failed = calls ? explain_calls(c, targets.at[i]) : explain_for(c, targets.at[i]);
        if (failed > rc) rc = failed;
    }
    return rc;
}
