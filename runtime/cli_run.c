/* cli_run - dgc run: one call of a kernel on tensors from files. */
#include "runtime/cli.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/tensor.h"

/* Everything of one run. */
struct job {
    struct cli *c;
    struct unit unit;
    struct device *device;
    struct device_module *module;
    struct image *image;
    struct call call;
    struct tensor *tensors; /* one an argument, in the order of the image */
    struct tensor *before;  /* --check: inout arguments as they were */
    const char **to;        /* where each result goes, or NULL */
    bool opened, called;
};

static enum dgk_status find_device(struct job *j, const struct target **t, struct fault *why)
{
    const char *spec = j->c->device ? j->c->device : "emu";
    enum dgk_status s = device_open(&j->device, spec, j->c->target, why);
    if (s) return s;
    *t = j->c->target ? target_find(j->c->target) : cli_best_target(j->device);
    if (!*t && j->c->target) return fault_set(why, DGK_USAGE, "'%s' is no target; dgc targets lists them", j->c->target);
    if (!*t) return fault_set(why, DGK_UNSUPPORTED, "%s (%s) runs none of dgc's targets", j->device->props.name, j->device->props.arch);
    return DGK_OK;
}

/* ---- arguments ----------------------------------------------------------------------------------------------- */

static const char *value_of(const bindings *b, const char *name)
{
    for (int i = 0; i < b->n; i++)
        if (!strcmp(b->at[i].name, name)) return b->at[i].value;
    return NULL;
}

static enum dgk_status check_names(const struct job *j, const bindings *b, struct fault *why)
{
    const char *names[64];
    int n = j->image->args.n < COUNT(names) ? j->image->args.n : COUNT(names);
    for (int i = 0; i < n; i++) names[i] = j->image->args.at[i].name;
    for (int k = 0; k < b->n; k++) {
        bool known = false;
        for (int i = 0; i < j->image->args.n; i++) known |= !strcmp(j->image->args.at[i].name, b->at[k].name);
        if (known) continue;
        const char *near = diag_nearest(b->at[k].name, names, n);
        return fault_set(why, DGK_BAD_ARGUMENT, "%s has no argument '%s'%s%s%s", j->image->kernel, b->at[k].name, near ? "; did you mean '" : "",
                         near ? near : "", near ? "'?" : "");
    }
    return DGK_OK;
}

static enum dgk_status read_scalar(struct call_arg *to, const struct image_arg *a, const char *text, struct fault *why)
{
    char *end;
    errno = 0;
    if (type_is_float(a->type)) to->real = strtod(text, &end);
    else to->integer = strtoll(text, &end, 0), to->real = (double)to->integer;
    if (*end || end == text || errno) return fault_set(why, DGK_BAD_ARGUMENT, "argument '%s' is a scalar %s; '%s' is none", a->name, type_name(a->type), text);
    to->given = true;
    return DGK_OK;
}

static bool is_npy(const char *path)
{
    size_t n = strlen(path);
    return n > 4 && !strcmp(path + n - 4, ".npy");
}

static enum dgk_status read_argument(struct job *j, int i, struct fault *why)
{
    const struct image_arg *a = &j->image->args.at[i];
    const char *text = value_of(&j->c->calls, a->name);
    j->to[i] = value_of(&j->c->outs, a->name);
    if (j->to[i] && a->dir == IMAGE_IN) return fault_set(why, DGK_BAD_ARGUMENT, "argument '%s' is read only; --out has nothing to write", a->name);
    if (a->dir == IMAGE_OUT) {
        if (text) j->to[i] = text;
        return DGK_OK;
    }
    if (!text) return fault_set(why, DGK_BAD_ARGUMENT, "argument '%s' (%s) is missing; write %s=FILE.npy, or a generator", a->name, type_name(a->type), a->name);
    if (a->rank == 0) return read_scalar(&j->call.args[i], a, text, why);
    if (a->dir == IMAGE_INOUT && is_npy(text)) { /* updated in place; a new file begins as zeros */
        if (!j->to[i]) j->to[i] = text;
        if ((j->call.args[i].later = access(text, F_OK) != 0)) return DGK_OK;
    }
    enum dgk_status s = tensor_load(&j->tensors[i], text, a->type, -1, NULL, why);
    if (s) return fault_prefix(why, "argument '%s': ", a->name), s;
    struct tensor *t = &j->tensors[i]; /* .npy has no bf16 and no fp8: unsigned integers of their width are their bits */
    if (type_kind(t->type) == TYPE_UINT && type_is_float(a->type) && type_bits(t->type) == type_bits(a->type)) t->type = a->type;
    j->call.args[i].tensor = t;
    return DGK_OK;
}

static enum dgk_status make_outputs(struct job *j, struct fault *why)
{
    for (int i = 0; i < j->image->args.n; i++) {
        const struct image_arg *a = &j->image->args.at[i];
        struct tensor *t = &j->tensors[i];
        enum dgk_status s;
        if (a->dir != IMAGE_OUT && !j->call.args[i].later) continue;
        *t = (struct tensor){ .type = a->type, .rank = a->rank };
        if ((s = launch_shape(&j->call, i, t->shape, why))) return s;
        tensor_row_major(t);
        if ((s = tensor_allocate(t, why))) return s;
        j->call.args[i].tensor = t;
    }
    return DGK_OK;
}

/* ---- dimensions that a kernel must know when it is compiled --------------------------------------------------- */

/* The sizes of the dimensions that are plain names in the signature, from the shapes of the call's tensors and from -D;
 * -1 where nothing says. */
struct sizes {
    words names;
    int64_t *at;
};

static void size_from(struct sizes *s, const char *name, int64_t size)
{
    for (int i = 0; i < s->names.n; i++)
        if (!strcmp(s->names.at[i], name)) s->at[i] = size;
}

static struct sizes call_sizes(struct cli *c, const struct node *kernel)
{
    struct sizes s = { .at = NULL };
    struct fault unused;
    cli_kernel_dims(&c->arena, kernel, &s.names);
    s.at = new_n(&c->arena, int64_t, s.names.n + 1);
    for (int i = 0; i < s.names.n; i++) s.at[i] = -1;
    for (int i = 0; i < kernel->list2.n; i++) {
        const struct node *arg = kernel->list2.at[i];
        const char *text = value_of(&c->calls, arg->name);
        struct tensor t;
        if (!text || !arg->list.n || arg->flag == 1 || tensor_load(&t, text, TY_f32, -1, NULL, &unused)) continue;
        for (int d = 0; d < arg->list.n && d < t.rank; d++)
            if (arg->list.at[d]->kind == N_name) size_from(&s, arg->list.at[d]->name, t.shape[d]);
        tensor_free(&t);
    }
    for (int i = 0; i < c->params.n; i++) size_from(&s, c->params.at[i].name, strtoll(c->params.at[i].value, NULL, 0));
    return s;
}

static void bind_sizes(struct cli *c, const struct sizes *s)
{
    for (int i = 0; i < s->names.n; i++) {
        struct binding b = { s->names.at[i], arena_printf(&c->arena, "%" PRId64, s->at[i]) };
        if (s->at[i] >= 0 && !value_of(&c->params, b.name)) vec_push(&c->arena, &c->params, b);
    }
}

/* Tune values for a call of these sizes, unless the command line has some. */
static void choose_values(struct job *j, const struct node *kernel, const struct target *t, const struct sizes *s)
{
    struct cli *c = j->c;
    struct binding chosen[64];
    struct compile_options o = { .target = t->name, .params = c->params.at, .n_params = c->params.n, .inner = c->inner.at, .n_inner = c->inner.n,
                                 .align = c->align.at, .n_align = c->align.n };
    if (c->tune.n) return;
    for (int i = 0; i < s->names.n; i++)
        if (s->at[i] < 0) return;
    struct choose_ask ask = { &c->arena, j->unit.file, kernel, &o, s->names.at, s->at, s->names.n, &j->device->props, j->device->props.sms };
    int n = choose_for_call(&ask, chosen, COUNT(chosen));
    for (int i = 0; i < n; i++) {
        vec_push(&c->arena, &c->tune, chosen[i]);
        if (c->verbose) fprintf(stderr, "%s%s=%s%s", i ? ", " : "", chosen[i].name, chosen[i].value, i + 1 == n ? "\n" : "");
    }
}

/* Compiled for any shape, or, where a kernel does not allow that, for the shapes of this call. */
static bool compile(struct job *j, const struct target *t)
{
    if (!unit_open(&j->unit, j->c, j->c->files.at[0])) return false;
    nodes kernels = unit_kernels(&j->unit);
    if (!kernels.n) return false;
    struct sizes sizes = call_sizes(j->c, kernels.at[0]);
    choose_values(j, kernels.at[0], t, &sizes);
    j->unit.quiet = true;
    if ((j->image = unit_compile(&j->unit, kernels.at[0], t, NULL))) {
        j->unit.quiet = false;
        return !unit_report(&j->unit);
    }
    bind_sizes(j->c, &sizes);
    unit_close(&j->unit);
    if (!unit_open(&j->unit, j->c, j->c->files.at[0])) return false;
    kernels = unit_kernels(&j->unit);
    if (kernels.n) choose_values(j, kernels.at[0], t, &sizes);
    return kernels.n && (j->image = unit_compile(&j->unit, kernels.at[0], t, NULL));
}

/* ---- results ------------------------------------------------------------------------------------------------- */

static void summarize(const char *name, const struct tensor *t)
{
    int64_t index[TENSOR_RANK] = { 0 }, at = 0, n = tensor_count(t), nans = 0;
    double low = INFINITY, high = -INFINITY, sum = 0;
    char shape[160];
    if (n)
        do {
            double v = tensor_value(t, at);
            if (v != v) { nans++; continue; }
            low = v < low ? v : low, high = v > high ? v : high, sum += v;
        } while (tensor_next(t, index, &at));
    printf("%s: %s %s", name, type_name(t->type), tensor_shape_text(t, shape, sizeof shape));
    if (n > nans) printf(", %g to %g, mean %g", low, high, sum / (double)(n - nans));
    if (nans) printf(", %" PRId64 " NaN", nans);
    printf("\n");
}

/* "out.safetensors:D" -> the length of the path part, and the name; 0 when it is no such file. */
static size_t safetensors_path(const char *to, const char *fallback, const char **name)
{
    const char *at = strstr(to, ".safetensors");
    if (!at) return 0;
    size_t n = (size_t)(at - to) + strlen(".safetensors");
    *name = to[n] == ':' ? to + n + 1 : fallback;
    return to[n] == ':' || !to[n] ? n : 0;
}

/* All results that go to one .safetensors file are written together. */
static enum dgk_status write_safetensors(struct job *j, int first, size_t length, struct fault *why)
{
    VEC(struct named_tensor) all = { 0 };
    char *path = arena_strndup(&j->c->arena, j->to[first], length);
    for (int i = first; i < j->image->args.n; i++) {
        struct named_tensor n = { NULL, &j->tensors[i] };
        if (!j->to[i] || safetensors_path(j->to[i], j->image->args.at[i].name, &n.name) != length || strncmp(j->to[i], path, length)) continue;
        vec_push(&j->c->arena, &all, n);
        if (i != first) j->to[i] = "";
    }
    return safetensors_write(path, all.at, all.n, why);
}

static enum dgk_status write_result(struct job *j, int i, struct fault *why)
{
    const struct image_arg *a = &j->image->args.at[i];
    const char *to = j->to[i], *name;
    if (a->dir == IMAGE_IN) return DGK_OK;
    if (!to) return summarize(a->name, &j->tensors[i]), DGK_OK;
    if (!*to) return DGK_OK; /* written with another */
    size_t n = safetensors_path(to, a->name, &name), length = strlen(to);
    if (n) return write_safetensors(j, i, n, why);
    if (length > 4 && !strcmp(to + length - 4, ".npy")) return npy_write(&j->tensors[i], to, why);
    return fault_set(why, DGK_USAGE, "'%s': results go to FILE.npy or FILE.safetensors:NAME", to);
}

/* ---- the run ------------------------------------------------------------------------------------------------- */

static enum dgk_status time_launches(struct job *j, struct fault *why)
{
    const struct device_ops *ops = j->device->ops;
    int n = j->c->repeat ? atoi(j->c->repeat) : 0;
    double ms = 0, best = INFINITY, total = 0;
    enum dgk_status s = DGK_OK;
    for (int i = 0; i < n && !s; i++) {
        if ((s = ops->clock_start(j->device, why)) || (s = launch_run(&j->call, why)) || (s = ops->clock_stop(j->device, &ms, why))) return s;
        best = ms < best ? ms : best;
        total += ms;
    }
    if (n > 0) printf("%s on %s: %.1f us at best, %.1f us on average of %d\n", j->image->kernel, j->device->props.name, best * 1e3, total * 1e3 / n, n);
    return s;
}

static enum dgk_status keep_before(struct job *j, struct fault *why)
{
    enum dgk_status s = DGK_OK;
    for (int i = 0; i < j->image->args.n && !s; i++) {
        if (!j->c->check || j->image->args.at[i].rank == 0) continue;
        if (j->image->args.at[i].dir == IMAGE_INOUT) s = tensor_copy(&j->before[i], &j->tensors[i], TY_none, -1, NULL, why);
        else j->before[i] = j->tensors[i], j->before[i].owned = NULL;
    }
    return s;
}

static enum dgk_status check(const struct job *j, struct fault *why)
{
    struct buf out = { 0 };
    if (!j->c->check) return DGK_OK;
    bool ok = cli_check(&j->unit, &j->call, j->before, j->tensors, &out);
    fputs(out.at, stdout);
    buf_free(&out);
    return ok ? DGK_OK : fault_set(why, DGK_MISMATCH, "%s does not do what its spec says", j->image->kernel);
}

static enum dgk_status load(struct job *j, struct fault *why)
{
    struct assemble_options o = cli_assemble_options(j->c);
    struct assemble_report r;
    enum dgk_status s = module_load(j->device, j->image, &o, &j->module, j->c->verbose ? &r : NULL, why);
    if (!s && j->c->verbose)
        fprintf(stderr, "%s for %s on %s%s%s\n", j->image->kernel, j->image->target, j->device->props.name, *r.by ? ", assembled by " : "", r.by);
    return s;
}

static enum dgk_status run(struct job *j, struct fault *why)
{
    enum dgk_status s;
    int n = j->image->args.n;
    launch_open(&j->call, j->image, j->device);
    j->called = true;
    for (int i = 0; i < j->unit.fn->dims.n; i++)
        if (j->unit.fn->dims.at[i].value >= 0) launch_fix(&j->call, i, j->unit.fn->dims.at[i].value);
    if ((s = check_names(j, &j->c->calls, why)) || (s = check_names(j, &j->c->outs, why))) return s;
    for (int i = 0; i < n; i++)
        if ((s = read_argument(j, i, why))) return s;
    if ((s = launch_bind(&j->call, why)) || (s = make_outputs(j, why)) || (s = keep_before(j, why)) || (s = load(j, why)) || (s = launch_place(&j->call, why)) ||
        (s = launch_prepare(&j->call, j->module, why)) || (s = launch_run(&j->call, why)) || (s = launch_fetch(&j->call, why)))
        return s;
    for (int i = 0; i < n; i++)
        if ((s = write_result(j, i, why))) return s;
    return (s = check(j, why)) ? s : time_launches(j, why);
}

static int run_file(struct job *j, struct fault *why)
{
    const struct target *t = NULL;
    enum dgk_status s = find_device(j, &t, why);
    if (s) return cli_fail(why);
    j->opened = true;
    if (!compile(j, t)) return 1;
    j->tensors = new_n(&j->c->arena, struct tensor, j->image->args.n + 1);
    j->before = new_n(&j->c->arena, struct tensor, j->image->args.n + 1);
    j->to = new_n(&j->c->arena, const char *, j->image->args.n + 1);
    s = run(j, why);
    return s ? cli_fail(why) : 0;
}

int cli_verb_run(struct cli *c)
{
    struct job j = { .c = c };
    struct fault why = { 0 };
    int rc = run_file(&j, &why);
    if (j.called) launch_end(&j.call);
    for (int i = 0; j.image && i < j.image->args.n; i++) tensor_free(&j.tensors[i]), tensor_free(&j.before[i]);
    if (j.module) j.device->ops->unload(j.device, j.module);
    if (j.opened) unit_close(&j.unit);
    device_close(j.device);
    return rc;
}
