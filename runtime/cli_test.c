/* cli_test - dgc test: kernels held to their specs, for every target asked for. */
#include "runtime/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/oracle.h"

static struct oracle_options options(const struct cli *c, const struct assemble_options *assemble, const char *path, const char *target, const char *device)
{
    bool every = c->kernel && !strcmp(c->kernel, "all");
    return (struct oracle_options){
        .path = path, .import_dirs = c->imports.at, .n_import_dirs = c->imports.n, .kernel = every ? NULL : c->kernel,
        .target = target, .device = device, .params = c->params.at, .n_params = c->params.n, .tune = c->tune.at, .n_tune = c->tune.n,
        .shapes = c->shapes.at, .n_shapes = c->shapes.n, .inner = c->inner.at, .n_inner = c->inner.n, .align = c->align.at, .n_align = c->align.n,
        .seed = c->seed ? strtoull(c->seed, NULL, 0) : 0, .cases = c->cases ? atoi(c->cases) : 0,
        .seconds = c->seconds ? atof(c->seconds) : 0, .verbose = c->verbose, .assemble = assemble,
    };
}

static bool is_tested(const struct cli *c, const struct node *n)
{
    return n->kind == N_kernel && (!c->kernel || !strcmp(c->kernel, "all") || !strcmp(c->kernel, n->name));
}

/* Whether each --shape fixes a dimension of some kernel that is tested; else the exit status, said. */
static int check_shapes(struct cli *c, const char *path)
{
    struct unit u;
    words dims = { 0 };
    int rc = unit_open(&u, c, path) ? 0 : 1;
    for (int i = 0; i < u.file->list.n && !rc; i++)
        if (is_tested(c, u.file->list.at[i])) cli_kernel_dims(&u.arena, u.file->list.at[i], &dims);
    for (int i = 0; i < c->shapes.n && !rc; i++) {
        bool found = false;
        for (int k = 0; k < dims.n; k++) found |= dims.at[k] == c->shapes.at[i].name;
        if (!found) rc = cli_no_dimension(path, c->shapes.at[i].name, &dims);
    }
    unit_close(&u);
    return rc;
}

static void test_one(const struct cli *c, const char *path, const char *target, const char *device, struct oracle_result *sum)
{
    struct assemble_options assemble = cli_assemble_options(c);
    struct oracle_options o = options(c, &assemble, path, target, device);
    struct buf out = { 0 };
    struct oracle_result r = oracle_test(&o, &out);
    if (out.at) fputs(out.at, stdout);
    fflush(stdout);
    buf_free(&out);
    sum->groups += r.groups, sum->cases += r.cases, sum->failed += r.failed, sum->skipped += r.skipped;
}

/* Keeps the targets that the device runs; "ir" needs none. */
static int drop_others(struct cli *c, const char *device, target_list *targets)
{
    struct device *d;
    struct fault why = { 0 };
    int kept = 0;
    if (!strcmp(device, "ir") || !strcmp(device, "emu")) return 0;
    enum dgk_status s = device_open(&d, device, NULL, &why);
    if (s) return cli_fail(&why);
    for (int i = 0; i < targets->n; i++) {
        if (device_runs(d, targets->at[i]->ptx_target)) targets->at[kept++] = targets->at[i];
        else if (c->verbose) printf("skipped: %s (%s does not run it)\n", targets->at[i]->name, d->props.name);
    }
    targets->n = kept;
    fault_set(&why, DGK_UNSUPPORTED, "%s (%s) runs none of the targets asked for", d->props.name, d->props.arch);
    device_close(d);
    return kept ? 0 : cli_fail(&why);
}

int cli_verb_test(struct cli *c)
{
    const char *device = c->device ? c->device : "emu";
    target_list targets = cli_targets(c, "all");
    struct oracle_result sum = { 0 };
    if (!targets.n) return status_exit(DGK_USAGE);
    int rc = drop_others(c, device, &targets);
    for (int i = 0; c->shapes.n && i < c->files.n && !rc; i++) rc = check_shapes(c, c->files.at[i]);
    if (rc) return rc;
    for (int i = 0; i < c->files.n; i++)
        for (int k = 0; k < targets.n; k++) test_one(c, c->files.at[i], targets.at[k]->name, device, &sum);
    printf("%d cases of %d kernels, %d failed, %d skipped\n", sum.cases, sum.groups, sum.failed, sum.skipped);
    return sum.failed ? status_exit(DGK_MISMATCH) : 0;
}
