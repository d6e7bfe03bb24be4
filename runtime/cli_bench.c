/* cli_bench - dgc bench: times what a call would run, on each shape. */
#include "runtime/cli.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/timing.h"
#include "runtime/tune.h"

enum { LAUNCHES = 30, MOST_LAUNCHES = 100000 };

/* One shape, timed. */
struct timed {
    const struct cli_shape *shape;
    const char *values, *from; /* tune values; "tuned", "model" or "given" */
    double us, least_us, model_us, tflops, gbs;
    const char *error;
};

struct bench {
    struct cli *cli;
    struct cli_call call;
    int launches;
    double *us;
    VEC(struct timed) rows;
    bool failed;
};

/* ---- one shape ------------------------------------------------------------------------------------------------- */

static struct image *compile(struct bench *b, const struct choose_ask *ask, struct ir_fn **fn)
{
    struct unit *u = &b->call.unit;
    *fn = compiler_lower(&u->arena, &u->diag, ask->file, ask->kernel, ask->options);
    if (*fn && !u->diag.errors) compiler_passes(&u->arena, &u->diag, *fn, b->call.target);
    struct image *im = *fn && !u->diag.errors ? codegen_kernel(&u->arena, &u->diag, *fn, NULL) : NULL;
    return unit_report(u) ? NULL : im;
}

static enum dgk_status launches(struct bench *b, const struct choose_ask *ask, struct ir_fn *fn, struct image *im, struct timed *row, struct fault *why)
{
    struct assemble_options o = cli_assemble_options(b->cli);
    struct timing_call call = { ask, fn, im, row->shape->scalars.at, row->shape->scalars.n };
    struct device_module *m = NULL;
    struct timing t = { .device = NULL };
    enum dgk_status s = module_load(b->call.device, im, &o, &m, NULL, why);
    if (!s && !(s = timing_open(&t, b->call.device, &call, why))) s = timing_run(&t, im, m, b->launches, b->us, why);
    if (!s) {
        row->us = timing_median(b->us, b->launches);
        row->least_us = b->us[0];
        row->gbs = b->call.device->props.emulated ? 0 : t.bytes / row->us * 1e-3;
    }
    timing_close(&t);
    if (m) b->call.device->ops->unload(b->call.device, m);
    return s;
}

static void time_shape(struct bench *b, const struct cli_shape *shape)
{
    struct timed row = { .shape = shape };
    struct choose_ask ask = cli_call_ask(&b->call, shape);
    struct fault why = { 0 };
    struct cost cost = { 0 };
    struct ir_fn *fn;
    row.from = cli_call_choose(&ask);
    row.values = tune_values_text(ask.arena, ask.options->tune, ask.options->n_tune);
    struct image *im = compile(b, &ask, &fn);
    if (!im) {
        row.error = "it does not compile";
    } else if (launches(b, &ask, fn, im, &row, &why)) {
        row.error = arena_strndup(ask.arena, why.text, strlen(why.text));
    } else if (choose_estimate(&ask, &cost)) {
        row.model_us = cost.us;
        row.tflops = b->call.device->props.emulated ? 0 : cost.flops / row.us * 1e-6;
    }
    b->failed |= row.error != NULL;
    vec_push(&b->call.unit.arena, &b->rows, row);
}

/* ---- showing --------------------------------------------------------------------------------------------------- */

static void print_number(double v, const char *format)
{
    if (v > 0 && isfinite(v)) printf(format, v);
    else printf("%8s", "-");
}

static void print_table(const struct bench *b)
{
    int width = 5;
    for (int i = 0; i < b->rows.n; i++) width = (int)strlen(b->rows.at[i].shape->text) > width ? (int)strlen(b->rows.at[i].shape->text) : width;
    printf("%s on %s, compiled for %s; median of %d launches%s\n", b->call.kernel->name, b->call.device->props.name, b->call.target->name, b->launches,
           b->call.device->props.emulated ? ", a thousand steps of its warps as one microsecond" : ", cold cache");
    printf("%-*s %8s %8s %8s %8s %8s  values\n", width, "shape", "us", "least", "model", "TFLOPS", "GB/s");
    for (int i = 0; i < b->rows.n; i++) {
        const struct timed *r = &b->rows.at[i];
        printf("%-*s ", width, r->shape->text);
        if (r->error) {
            printf("%s\n", r->error);
            continue;
        }
        printf("%8.1f %8.1f ", r->us, r->least_us);
        print_number(r->model_us, "%8.1f");
        printf(" ");
        print_number(r->tflops, "%8.1f");
        printf(" ");
        print_number(r->gbs, "%8.1f");
        printf("  %s (%s)\n", *r->values ? r->values : "none", r->from);
    }
}

static void put_json(struct buf *out, const struct bench *b)
{
    buf_printf(out, "{\"kernel\": \"%s\", \"device\": \"%s\", \"target\": \"%s\", \"launches\": %d, \"rows\": [", b->call.kernel->name,
               b->call.device->props.name, b->call.target->name, b->launches);
    for (int i = 0; i < b->rows.n; i++) {
        const struct timed *r = &b->rows.at[i];
        buf_printf(out, "%s\n {\"shape\": ", i ? "," : "");
        cli_json_pairs(out, r->shape->text, ' ');
        buf_printf(out, ", \"values\": ");
        cli_json_pairs(out, r->values, ';');
        buf_printf(out, ", \"from\": \"%s\"", r->from);
        if (r->error) {
            buf_printf(out, ", \"error\": ");
            cli_json_text(out, r->error);
        } else {
            buf_printf(out, ", \"us\": %.3f, \"least_us\": %.3f, \"model_us\": %.3f, \"tflops\": %.3f, \"gbs\": %.3f", r->us, r->least_us,
                       isfinite(r->model_us) ? r->model_us : 0, r->tflops, r->gbs);
        }
        buf_printf(out, "}");
    }
    buf_printf(out, "\n]}\n");
}

static int show(const struct bench *b)
{
    struct buf json = { 0 };
    const char *to = b->cli->json;
    if (!to || *to) print_table(b);
    if (!to) return 0;
    put_json(&json, b);
    int rc = cli_json_write(to, &json);
    buf_free(&json);
    return rc;
}

int cli_verb_bench(struct cli *c)
{
    struct bench b = { .cli = c, .launches = c->repeat ? atoi(c->repeat) : LAUNCHES };
    int rc = cli_call_open(&b.call, c, NULL);
    if (!rc && (b.launches < 1 || b.launches > MOST_LAUNCHES)) rc = cli_usage("--repeat=%s: 1 to %d launches", c->repeat, MOST_LAUNCHES);
    if (!rc && b.call.device->props.emulated) b.launches = 1; /* the same time whenever it runs */
    b.us = rc ? NULL : new_n(&c->arena, double, b.launches);
    for (int i = 0; i < b.call.shapes.n && !rc; i++) time_shape(&b, &b.call.shapes.at[i]);
    if (!rc) rc = show(&b);
    cli_call_close(&b.call);
    return rc ? rc : b.failed;
}
