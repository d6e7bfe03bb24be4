/* cli_call - what bench and tune begin with: a kernel, a device, and the shapes to call it with. */
#include "runtime/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tunedb.h"

enum { MOST_VALUES = 64 };

const struct target *cli_best_target(const struct device *d)
{
    int n, best = -1, number = 0;
    const struct target *all = target_all(&n);
    for (int i = 0; i < n; i++) {
        char suffix;
        int k = device_target_number(all[i].name, &suffix);
        if (device_runs(d, all[i].name) && k >= number) best = i, number = k;
    }
    return best < 0 ? NULL : &all[best];
}

/* ---- names ----------------------------------------------------------------------------------------------------- */

static bool has_word(const words *list, const char *name)
{
    for (int i = 0; i < list->n; i++)
        if (!strcmp(list->at[i], name)) return true;
    return false;
}

static bool is_param(const struct node *kernel, const char *name)
{
    for (int i = 0; i < kernel->list.n; i++)
        if (!strcmp(kernel->list.at[i]->name, name)) return true;
    return false;
}

static void names_in(struct arena *a, const struct node *kernel, const struct node *n, words *out)
{
    if (!n) return;
    if (n->kind == N_name && !is_param(kernel, n->name) && !has_word(out, n->name)) vec_push(a, out, n->name);
    names_in(a, kernel, n->a, out);
    names_in(a, kernel, n->b, out);
    names_in(a, kernel, n->c, out);
    for (int i = 0; i < n->list.n; i++) names_in(a, kernel, n->list.at[i], out);
}

void cli_kernel_dims(struct arena *a, const struct node *kernel, words *out)
{
    for (int i = 0; i < kernel->list2.n; i++)
        for (int d = 0; d < kernel->list2.at[i]->list.n; d++) names_in(a, kernel, kernel->list2.at[i]->list.at[d], out);
}

static bool is_scalar(const struct node *kernel, const char *name)
{
    for (int i = 0; i < kernel->list2.n; i++)
        if (!kernel->list2.at[i]->list.n && !strcmp(kernel->list2.at[i]->name, name)) return true;
    return false;
}

/* ---- shapes ---------------------------------------------------------------------------------------------------- */

int cli_no_dimension(const char *whose, const char *name, const words *dims)
{
    struct buf list = { 0 };
    for (int i = 0; i < dims->n; i++) buf_printf(&list, "%s%s", i ? ", " : "", dims->at[i]);
    int rc = cli_usage("%s has no dimension '%s'; it has %s", whose, name, list.at ? list.at : "none");
    buf_free(&list);
    return rc;
}

static int take_pair(struct cli_call *k, struct cli_shape *s, const char *name, const char *value)
{
    char *end;
    for (int i = 0; i < k->dims.n; i++) {
        if (strcmp(k->dims.at[i], name)) continue;
        errno = 0;
        s->sizes[i] = strtoll(value, &end, 0);
        if (*end || end == value || errno || s->sizes[i] < 0) return cli_usage("%s=%s: a size is wanted", name, value);
        return 0;
    }
    if (!is_scalar(k->kernel, name)) return cli_no_dimension(k->kernel->name, name, &k->dims);
    struct binding b = { name, value };
    vec_push(&k->unit.arena, &s->scalars, b);
    return 0;
}

static int take_pairs(struct cli_call *k, struct cli_shape *s, const char *text)
{
    char *copy = arena_strndup(&k->unit.arena, text, strlen(text)), *save = NULL;
    int rc = 0;
    for (char *word = strtok_r(copy, ", \t\r", &save); word && !rc; word = strtok_r(NULL, ", \t\r", &save)) {
        char *eq = strchr(word, '=');
        if (!eq || eq == word) return cli_usage("'%s': a shape is NAME=SIZE, several with commas between", word);
        *eq = 0;
        rc = take_pair(k, s, intern(word), eq + 1);
    }
    return rc;
}

/* Sizes by -D first; --shape may repeat, but not change them. */
static int add_shape(struct cli_call *k, const char *text)
{
    struct arena *a = &k->unit.arena;
    struct cli_shape s = { .sizes = new_n(a, int64_t, k->dims.n + 1) };
    struct buf b = { 0 };
    int rc = 0;
    for (int i = 0; i < k->dims.n; i++) s.sizes[i] = -1;
    if ((rc = take_pairs(k, &s, text))) return rc;
    for (int i = 0; i < k->options.n_params && !rc; i++) {
        const struct binding *p = &k->options.params[i];
        if (!is_param(k->kernel, p->name)) rc = take_pair(k, &s, p->name, p->value);
    }
    for (int i = 0; i < k->dims.n && !rc; i++) {
        if (s.sizes[i] < 0) rc = cli_usage("'%s' does not say how large %s is; %s has %s", *text ? text : "--shape", k->dims.at[i], k->kernel->name, k->dims.at[i]);
        buf_printf(&b, "%s%s=%" PRId64, i ? " " : "", k->dims.at[i], s.sizes[i]);
    }
    for (int i = 0; i < s.scalars.n && !rc; i++) buf_printf(&b, " %s=%s", s.scalars.at[i].name, s.scalars.at[i].value);
    s.text = arena_strndup(a, b.at ? b.at : "", b.n);
    buf_free(&b);
    if (!rc) vec_push(a, &k->shapes, s);
    return rc;
}

static int read_shapes(struct cli_call *k, const char *path)
{
    char *text, *save = NULL;
    size_t n;
    int rc = 0;
    struct fault why = { 0 };
    if (!read_file(path, &text, &n)) {
        fault_set(&why, DGK_BAD_FILE, "cannot read '%s': %s", path, strerror(errno));
        return cli_fail(&why);
    }
    for (char *line = strtok_r(text, "\n", &save); line && !rc; line = strtok_r(NULL, "\n", &save)) {
        line[strcspn(line, "#")] = 0;
        if (line[strspn(line, " \t\r,")]) rc = add_shape(k, line);
    }
    free(text);
    return rc;
}

static int take_shapes(struct cli_call *k)
{
    const struct cli *c = k->unit.cli;
    int rc = c->shapes_file ? read_shapes(k, c->shapes_file) : 0;
    for (int i = 0; i < c->shape_list.n && !rc; i++) rc = add_shape(k, c->shape_list.at[i]);
    return rc || k->shapes.n ? rc : add_shape(k, ""); /* all by -D, or none are needed */
}

/* ---- opening --------------------------------------------------------------------------------------------------- */

/* An emulator's clock shows steps of its warps: the same wherever it runs. */
static enum dgk_status open_device(struct cli_call *k, struct fault *why)
{
    struct cli *c = k->unit.cli;
    const char *spec = c->device ? c->device : "cuda:0";
    if (!strncmp(spec, "emu", 3)) spec = arena_printf(&c->arena, "%s%sclock=steps", spec, strchr(spec, ':') ? "," : ":");
    enum dgk_status s = device_open(&k->device, spec, c->target, why);
    if (s) return s;
    k->target = c->target ? target_find(c->target) : cli_best_target(k->device);
    if (!k->target && c->target) return fault_set(why, DGK_USAGE, "'%s' is no target; dgc targets lists them", c->target);
    if (!k->target) return fault_set(why, DGK_UNSUPPORTED, "%s (%s) runs none of dgc's targets", k->device->props.name, k->device->props.arch);
    k->props = k->device->props;
    return DGK_OK;
}

/* The chip that calls for `t` are chosen for: the device at hand if it runs them, else the target's usual board. */
static enum dgk_status suppose_device(struct cli_call *k, const struct target *t, struct fault *why)
{
    struct cli *c = k->unit.cli;
    struct device *d;
    enum dgk_status s = device_open(&d, c->device ? c->device : "cuda:0", t->name, why);
    if (s && c->device) return s;
    bool runs = !s && device_runs(d, t->ptx_target);
    if (!s && !runs) device_close(d);
    if (!runs && (s = board_open(&d, t->name, NULL, why))) return s;
    k->target = t;
    k->props = d->props;
    device_close(d);
    return DGK_OK;
}

int cli_call_open(struct cli_call *k, struct cli *c, const struct target *supposed)
{
    struct fault why = { 0 };
    *k = (struct cli_call){ .opened = true };
    if (!unit_open(&k->unit, c, c->files.at[0])) return 1;
    nodes kernels = unit_kernels(&k->unit);
    if (!kernels.n) return 1;
    if (kernels.n > 1) return cli_usage("one kernel at a time; --kernel=all is too many");
    k->kernel = kernels.at[0];
    if (supposed ? suppose_device(k, supposed, &why) : open_device(k, &why)) return cli_fail(&why);
    k->options = (struct compile_options){ .target = k->target->name, .params = c->params.at, .n_params = c->params.n, .tune = c->tune.at,
                                           .n_tune = c->tune.n, .inner = c->inner.at, .n_inner = c->inner.n, .align = c->align.at, .n_align = c->align.n };
    cli_kernel_dims(&k->unit.arena, k->kernel, &k->dims);
    return take_shapes(k);
}

void cli_call_close(struct cli_call *k)
{
    if (k->opened) unit_close(&k->unit);
    device_close(k->device);
}

/* ---- asking ---------------------------------------------------------------------------------------------------- */

static bool lowers(struct cli_call *k, const struct compile_options *o)
{
    struct arena a = { 0 };
    struct diag d;
    diag_init(&d, &a);
    struct ir_fn *fn = compiler_lower(&a, &d, k->unit.file, k->kernel, o);
    if (fn && !d.errors) compiler_passes(&a, &d, fn, k->target);
    bool ok = fn && !d.errors;
    arena_free(&a);
    return ok;
}

/* Compiled for any size, or, where the kernel does not allow that, for this shape's. */
static void compile_in(struct cli_call *k, const struct cli_shape *shape, struct compile_options *o)
{
    struct arena *a = &k->unit.arena;
    struct binding *all = new_n(a, struct binding, o->n_params + k->dims.n + 1);
    int n = 0;
    if (lowers(k, o)) return;
    for (int i = 0; i < o->n_params; i++) all[n++] = o->params[i];
    for (int i = 0; i < k->dims.n; i++) {
        bool given = false;
        for (int p = 0; p < o->n_params; p++) given |= !strcmp(o->params[p].name, k->dims.at[i]);
        if (!given) all[n++] = (struct binding){ k->dims.at[i], arena_printf(a, "%" PRId64, shape->sizes[i]) };
    }
    o->params = all, o->n_params = n;
}

struct choose_ask cli_call_ask(struct cli_call *k, const struct cli_shape *shape)
{
    struct compile_options *o = new(&k->unit.arena, struct compile_options);
    *o = k->options;
    compile_in(k, shape, o);
    return (struct choose_ask){ &k->unit.arena, k->unit.file, k->kernel, o, k->dims.at, shape->sizes, k->dims.n, &k->props, k->props.sms };
}

const char *cli_call_choose(struct choose_ask *ask)
{
    struct arena *a = ask->arena;
    struct binding chosen[MOST_VALUES], *all = new_n(a, struct binding, MOST_VALUES + ask->options->n_tune);
    struct compile_options *o = new(a, struct compile_options);
    int n = tunedb_best(ask, chosen, MOST_VALUES), total = 0;
    const char *from = n ? "tuned" : ask->options->n_tune ? "given" : "model";
    if (!n) n = choose_tune(ask, chosen, MOST_VALUES);
    *o = *ask->options;
    for (int i = 0; i < o->n_tune; i++) all[total++] = o->tune[i];
    for (int i = 0; i < n; i++) all[total++] = chosen[i];
    o->tune = all, o->n_tune = total;
    ask->options = o;
    return from;
}

/* ---- JSON ------------------------------------------------------------------------------------------------------ */

void cli_json_text(struct buf *out, const char *text)
{
    buf_printf(out, "\"");
    for (; *text; text++) {
        unsigned char ch = (unsigned char)*text;
        if (ch == '"' || ch == '\\') buf_printf(out, "\\%c", ch);
        else if (ch < 32) buf_printf(out, "\\u%04x", ch);
        else buf_bytes(out, text, 1);
    }
    buf_printf(out, "\"");
}

/* "M=4096 N=128" to {"M": 4096, "N": 128}; what is no number is text. */
void cli_json_pairs(struct buf *out, const char *text, char between)
{
    const char *first = text;
    buf_printf(out, "{");
    while (*text) {
        const char *end = strchr(text, between), *eq = strchr(text, '=');
        if (!end) end = text + strlen(text);
        if (!eq || eq > end) break;
        char name[128], value[128], *rest;
        snprintf(name, sizeof name, "%.*s", (int)(eq - text), text);
        snprintf(value, sizeof value, "%.*s", (int)(end - eq - 1), eq + 1);
        if (text != first) buf_printf(out, ", ");
        cli_json_text(out, name);
        buf_printf(out, ": ");
        strtod(value, &rest);
        if (*value && !*rest && strcspn(value, "xXnNiI") == strlen(value)) buf_printf(out, "%s", value);
        else cli_json_text(out, value);
        text = *end ? end + 1 : end;
    }
    buf_printf(out, "}");
}

int cli_json_write(const char *path, const struct buf *json)
{
    struct fault why = { 0 };
    if (!*path) return fwrite(json->at, 1, json->n, stdout) == json->n ? 0 : 1;
    if (write_file(path, json->at, json->n)) return 0;
    fault_set(&why, DGK_BAD_FILE, "cannot write '%s': %s", path, strerror(errno));
    return cli_fail(&why);
}
