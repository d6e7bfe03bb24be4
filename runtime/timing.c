/* timing - launches of compiled variants, timed on one set of arguments. See timing.h. */
#include "runtime/timing.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/oracle.h"

enum {
    FLUSH_BYTES = 256 << 20, /* more than any L2 */
    PATTERN = 262139,        /* random elements, again and again: a prime, so that rows differ */
    ROW_BYTES = 16           /* rows begin at multiples of it, as tensor maps want */
};

/* ---- data ------------------------------------------------------------------------------------------------------ */

static double uniform(uint64_t *seed) { return (double)(oracle_random(seed) >> 11) * 0x1p-53; }

static double normal(uint64_t *seed)
{
    double u = 1 - uniform(seed), v = uniform(seed);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* Normal numbers; scales around one; small integers. */
static uint64_t random_bits(enum type t, uint64_t *seed)
{
    if (t == TY_e2m1) return oracle_random(seed) & 15;
    if (t == TY_ue8m0) return 125 + oracle_random(seed) % 5;
    if (type_is_float(t)) return type_encode(t, t == TY_ue4m3 ? fabs(normal(seed)) : normal(seed));
    return t == TY_bool ? oracle_random(seed) & 1 : oracle_random(seed) % 100;
}

static void *make_pattern(enum type t, uint64_t seed, size_t *bytes)
{
    struct tensor p = { .type = t, .rank = 1, .shape = { PATTERN + 1 }, .stride = { 1 } };
    struct fault unused;
    if (tensor_allocate(&p, &unused)) return NULL;
    for (int64_t i = 0; i <= PATTERN; i++) tensor_set_bits(&p, i, random_bits(t, &seed));
    *bytes = (size_t)PATTERN * (size_t)tensor_item_bits(t) / 8;
    return p.data;
}

static enum dgk_status write_pattern(struct device *d, const struct tensor *t, uint64_t seed, struct fault *why)
{
    size_t all = tensor_span(t), piece = 0;
    void *pattern = make_pattern(t->type, seed, &piece);
    enum dgk_status s = pattern ? DGK_OK : fault_set(why, DGK_NO_MEMORY, "no memory for random data");
    for (size_t at = 0; at < all && !s; at += piece) s = d->ops->write(d, t->address + at, pattern, all - at < piece ? all - at : piece, why);
    free(pattern);
    return s;
}

/* Arguments as they are before a call. Inputs once; what a launch changes before each that is looked at. */
static enum dgk_status fill(struct timing *t, bool inputs, struct fault *why)
{
    struct device *d = t->device;
    enum dgk_status s = DGK_OK;
    for (int i = 0; i < t->n && !s; i++) {
        if (!t->tensors[i].rank || (t->dir[i] == IMAGE_IN && !inputs)) continue;
        if (t->dir[i] == IMAGE_OUT) s = d->ops->fill(d, t->tensors[i].address, 0xff, tensor_span(&t->tensors[i]), why);
        else if (t->data[i]) s = d->ops->write(d, t->tensors[i].address, t->data[i], tensor_span(&t->tensors[i]), why);
        else s = write_pattern(d, &t->tensors[i], (uint64_t)i + 1, why);
    }
    return s;
}

/* ---- givens ---------------------------------------------------------------------------------------------------- */

/* The kernel that a given runs, with those of this call's parameters that it has, too. */
struct finder {
    struct arena *arena;
    const struct choose_ask *ask;
};

static struct ir_fn *find_kernel(void *state, const char *name)
{
    const struct finder *f = state;
    const struct compile_options *of = f->ask->options;
    struct node *kernel = dsl_kernel((struct node *)(uintptr_t)f->ask->file, intern(name)); /* only read */
    struct binding *params = new_n(f->arena, struct binding, of->n_params + 1);
    struct compile_options o = { .target = of->target, .params = params };
    struct diag d;
    for (int i = 0; kernel && i < of->n_params; i++)
        for (int k = 0; k < kernel->list.n; k++)
            if (!strcmp(kernel->list.at[k]->name, of->params[i].name)) params[o.n_params++] = of->params[i];
    diag_init(&d, f->arena);
    struct ir_fn *fn = kernel ? compiler_lower(f->arena, &d, f->ask->file, kernel, &o) : NULL;
    if (fn && !d.errors) compiler_passes(f->arena, &d, fn, target_find(o.target));
    return fn && !d.errors ? fn : NULL;
}

static const char *scalar_given(const struct timing_call *c, const char *name)
{
    for (int i = 0; i < c->n_scalars; i++)
        if (!strcmp(c->scalars[i].name, name)) return c->scalars[i].value;
    return NULL;
}

/* Host memory with the layout on the device. */
static enum dgk_status keep_data(struct timing *t, int id, const struct interp_tensor *from, struct fault *why)
{
    struct tensor host = { .type = from->type, .rank = from->rank, .data = from->data }, laid = t->tensors[id];
    int64_t hi[TENSOR_RANK] = { 0 }, li[TENSOR_RANK] = { 0 }, h = 0, l = 0;
    for (int d = 0; d < from->rank; d++) host.shape[d] = from->shape[d], host.stride[d] = from->stride[d];
    enum dgk_status s = tensor_allocate(&laid, why);
    if (s) return s;
    if (tensor_count(&host))
        do tensor_set_bits(&laid, l, tensor_bits(&host, h));
        while (tensor_next(&host, hi, &h) && tensor_next(&laid, li, &l));
    free(t->data[id]);
    t->data[id] = laid.data;
    return DGK_OK;
}

/* A kernel that says how its inputs are made gets such: indices that may be followed, lengths that add up. */
static enum dgk_status take_givens(struct timing *t, const struct timing_call *of, struct fault *why)
{
    const struct ir_fn *fn = of->fn;
    double *scalars = new_n(&t->arena, double, fn->tensors.n + 1);
    struct oracle_case c = { .dims = new_n(&t->arena, int64_t, fn->dims.n + 1), .data = ORACLE_NORMAL, .seed = 1, .scalars = scalars };
    struct finder finder = { &t->arena, of->ask };
    char *error = NULL;
    enum dgk_status s = DGK_OK;
    for (int i = 0; i < fn->dims.n; i++)
        for (int k = 0; k < t->n_dims; k++)
            if (!strcmp(t->dims[k], fn->dims.at[i].name)) c.dims[i] = t->sizes[k];
    for (int i = 0; i < fn->tensors.n; i++) {
        const char *given = scalar_given(of, fn->tensors.at[i]->name);
        scalars[i] = given ? strtod(given, NULL) : (double)NAN;
    }
    if (!oracle_arguments(&t->arena, fn, &c, find_kernel, &finder, &error)) {
        fault_set(why, DGK_UNSUPPORTED, "no arguments could be made: %s", error ? error : "no reason given");
        free(error);
        return DGK_UNSUPPORTED;
    }
    for (int i = 0; i < fn->tensors.n; i++) {
        if (fn->tensors.at[i]->rank || scalar_given(of, fn->tensors.at[i]->name)) continue;
        union cell v = interp_load(&c.before[i], 0);
        bool real = type_is_float(fn->tensors.at[i]->type);
        t->args[i].integer = real ? (int64_t)v.f : v.i, t->args[i].real = real ? v.f : (double)v.i;
    }
    for (int i = 0; i < fn->givens.n && !s; i++)
        if (fn->givens.at[i].tensor->rank) s = keep_data(t, fn->givens.at[i].tensor->id, &c.before[fn->givens.at[i].tensor->id], why);
    return s;
}

/* ---- opening --------------------------------------------------------------------------------------------------- */

static enum dgk_status take_dims(struct timing *t, const struct timing_call *c, struct fault *why)
{
    const struct choose_ask *ask = c->ask;
    t->n_dims = c->image->dims.n;
    t->dims = new_n(&t->arena, const char *, t->n_dims + 1);
    t->sizes = new_n(&t->arena, int64_t, t->n_dims + 1);
    for (int i = 0; i < t->n_dims; i++) {
        t->dims[i] = c->image->dims.at[i];
        t->sizes[i] = c->fn->dims.at[i].value;
        for (int k = 0; k < ask->n_dims && t->sizes[i] < 0; k++)
            if (!strcmp(ask->dims[k], t->dims[i])) t->sizes[i] = ask->sizes[k];
        if (t->sizes[i] < 0) return fault_set(why, DGK_USAGE, "%s is not known; give it with --shape", t->dims[i]);
    }
    return DGK_OK;
}

static void take_scalar(struct call_arg *to, const char *value)
{
    *to = (struct call_arg){ .given = true, .integer = 1, .real = 1 };
    if (value) to->integer = strtoll(value, NULL, 0), to->real = strtod(value, NULL);
}

/* What rows are padded to: what every tensor may be, or no more than the variants ask for. */
static int row_bytes(const struct compile_options *o, const char *name)
{
    for (int i = 0; i < o->n_align; i++)
        if (!strcmp(o->align[i].name, name)) return atoi(o->align[i].value);
    return ROW_BYTES;
}

static enum dgk_status make_tensor(struct timing *t, int i, const struct image_arg *a, const struct compile_options *o, struct fault *why)
{
    struct tensor *x = &t->tensors[i];
    struct hexpr_env env = { .dims = t->sizes };
    int align[TENSOR_RANK], unit = row_bytes(o, a->name) * 8 / tensor_item_bits(a->type);
    *x = (struct tensor){ .type = a->type, .rank = a->rank };
    for (int d = 0; d < a->rank; d++) {
        x->shape[d] = hexpr_eval(&a->dim[d], &env);
        align[d] = unit;
        if (x->shape[d] < 0) return fault_set(why, DGK_BAD_SHAPE, "argument '%s': %s is %" PRId64, a->name, a->dim_text[d], x->shape[d]);
    }
    tensor_layout(x, a->inner, align);
    x->address = t->device->ops->alloc(t->device, tensor_span(x) + 256, a->name, why);
    t->bytes += (double)tensor_count(x) * tensor_item_bits(a->type) / 8;
    t->args[i].tensor = x;
    return x->address ? DGK_OK : why->status;
}

static enum dgk_status make_arguments(struct timing *t, const struct timing_call *c, struct fault *why)
{
    enum dgk_status s = DGK_OK;
    t->n = c->image->args.n;
    t->tensors = new_n(&t->arena, struct tensor, t->n + 1);
    t->data = new_n(&t->arena, void *, t->n + 1);
    t->args = new_n(&t->arena, struct call_arg, t->n + 1);
    t->dir = new_n(&t->arena, enum image_dir, t->n + 1);
    t->any = new_n(&t->arena, bool, t->n + 1);
    for (int i = 0; i < c->fn->specs.n; i++) {
        const struct ir_expr *left = c->fn->specs.at[i].left;
        if (c->fn->specs.at[i].other_any) t->any[(left->kind == E_reduce ? left->args[0] : left)->tensor->id] = true;
    }
    for (int i = 0; i < t->n && !s; i++) {
        const struct image_arg *a = &c->image->args.at[i];
        t->dir[i] = a->dir;
        take_scalar(&t->args[i], scalar_given(c, a->name));
        if (a->rank) s = make_tensor(t, i, a, c->ask->options, why);
    }
    return s;
}

enum dgk_status timing_open(struct timing *t, struct device *d, const struct timing_call *c, struct fault *why)
{
    enum dgk_status s;
    *t = (struct timing){ .device = d, .sms = c->ask->sms < d->props.sms ? c->ask->sms : 0 };
    if ((s = take_dims(t, c, why)) || (s = make_arguments(t, c, why))) return s;
    if (c->fn->givens.n && (s = take_givens(t, c, why))) return s;
    if (!d->props.emulated) t->flush = d->ops->alloc(d, FLUSH_BYTES, "memory to flush the cache", why);
    return fill(t, true, why);
}

void timing_close(struct timing *t)
{
    if (!t->device) return;
    for (int i = 0; i < t->n; i++) {
        if (t->tensors[i].address) t->device->ops->release(t->device, t->tensors[i].address);
        free(t->data[i]);
    }
    if (t->flush) t->device->ops->release(t->device, t->flush);
    arena_free(&t->arena);
    t->device = NULL;
}

/* ---- launches -------------------------------------------------------------------------------------------------- */

static enum dgk_status prepare(struct timing *t, const struct image *im, struct device_module *m, struct call *c, struct fault *why)
{
    enum dgk_status s;
    launch_open(c, im, t->device);
    c->sms = t->sms;
    memcpy(c->args, t->args, sizeof *c->args * (size_t)t->n);
    for (int i = 0; i < im->dims.n; i++)
        for (int k = 0; k < t->n_dims; k++)
            if (!strcmp(im->dims.at[i], t->dims[k])) launch_fix(c, i, t->sizes[k]);
    if ((s = launch_bind(c, why)) || (s = launch_place(c, why))) return s;
    return launch_prepare(c, m, why);
}

static enum dgk_status time_one(struct timing *t, struct call *c, double *us, struct fault *why)
{
    const struct device_ops *ops = t->device->ops;
    double ms = 0;
    enum dgk_status s = t->flush ? ops->fill(t->device, t->flush, 0, FLUSH_BYTES, why) : DGK_OK;
    if (s || (s = ops->clock_start(t->device, why)) || (s = launch_run(c, why)) || (s = ops->clock_stop(t->device, &ms, why))) return s;
    *us = ms * 1e3;
    return DGK_OK;
}

enum dgk_status timing_run(struct timing *t, const struct image *im, struct device_module *m, int launches, double *us, struct fault *why)
{
    struct call c;
    enum dgk_status s = prepare(t, im, m, &c, why);
    if (!s && !t->device->props.emulated && !(s = launch_run(&c, why))) s = t->device->ops->sync(t->device, why);
    for (int i = 0; i < launches && !s; i++) s = time_one(t, &c, &us[i], why);
    launch_end(&c);
    return s;
}

static enum dgk_status read_outputs(struct timing *t, void **out, struct fault *why)
{
    enum dgk_status s = t->device->ops->sync(t->device, why);
    for (int i = 0; i < t->n && !s; i++) {
        size_t bytes = tensor_span(&t->tensors[i]);
        if (!t->tensors[i].rank || t->dir[i] == IMAGE_IN) continue;
        out[i] = malloc(bytes + 1);
        s = out[i] ? t->device->ops->read(t->device, out[i], t->tensors[i].address, bytes, why) : fault_set(why, DGK_NO_MEMORY, "no memory for a result");
    }
    return s;
}

enum dgk_status timing_result(struct timing *t, const struct image *im, struct device_module *m, void **out, struct fault *why)
{
    struct call c;
    memset(out, 0, sizeof *out * (size_t)t->n);
    enum dgk_status s = fill(t, false, why);
    if (s) return s;
    s = prepare(t, im, m, &c, why);
    if (!s && !(s = launch_run(&c, why))) s = read_outputs(t, out, why);
    launch_end(&c);
    return s;
}

void timing_free_result(const struct timing *t, void **result)
{
    for (int i = 0; i < t->n; i++) {
        free(result[i]);
        result[i] = NULL;
    }
}

/* ---- comparing ------------------------------------------------------------------------------------------------- */

static double distance(const struct tensor *layout, void *x, void *y)
{
    struct tensor a = *layout, b = *layout;
    int64_t index[TENSOR_RANK] = { 0 }, at = 0;
    double off = 0, size = 0;
    a.data = x, b.data = y;
    if (!tensor_count(&a) || !memcmp(x, y, tensor_span(&a))) return 0;
    do {
        if (tensor_bits(&a, at) == tensor_bits(&b, at)) {
            double v = type_is_float(a.type) ? tensor_value(&a, at) : 0;
            if (isfinite(v)) size += 2 * v * v;
            continue;
        }
        if (!type_is_float(a.type)) return INFINITY;
        double v = tensor_value(&a, at), w = tensor_value(&b, at);
        if (v == w || (isnan(v) && isnan(w))) continue;
        off += (v - w) * (v - w), size += v * v + w * w;
    } while (tensor_next(&a, index, &at));
    return off == 0 ? 0 : size > 0 && isfinite(off) ? off / size : (double)INFINITY;
}

double timing_distance(const struct timing *t, void *const *x, void *const *y)
{
    double most = 0;
    for (int i = 0; i < t->n; i++) {
        if (!x[i] || !y[i] || t->any[i]) continue;
        double d = distance(&t->tensors[i], x[i], y[i]);
        if (!(d <= most)) most = d;
    }
    return most;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double timing_median(double *us, int n)
{
    qsort(us, (size_t)n, sizeof *us, by_value);
    return n ? n % 2 ? us[n / 2] : (us[n / 2 - 1] + us[n / 2]) / 2 : (double)INFINITY;
}
