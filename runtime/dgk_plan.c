/* dgk_plan - calls with everything decided but the addresses; and what a kernel says and shows of itself: explain, check, test. */
#include "runtime/dgk_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/oracle.h"

struct dgk_plan {
    struct dgk_kernel *kernel;
    struct entry *entry;
    uint64_t scratch, counters;
    uint64_t addresses[SLOTS_MAX];
};

/* ---- plans --------------------------------------------------------------------------------------------------- */

static enum dgk_status own_memory(struct dgk_plan *p, struct fault *why)
{
    struct device *d = p->kernel->context->device;
    struct entry *e = p->entry;
    if (!e->launch.grid) return DGK_OK;
    if (e->scratch > 0 && !(p->scratch = d->ops->alloc(d, (size_t)e->scratch, "scratch", why))) return why->status;
    if (e->counters > 0 && !(p->counters = d->ops->alloc(d, (size_t)e->counters, "counters", why))) return why->status;
    enum dgk_status s = p->counters ? d->ops->fill(d, p->counters, 0, (size_t)e->counters, why) : DGK_OK;
    if (!s && p->counters) s = d->ops->sync(d, why);
    entry_put_workspace(e, p->scratch, p->counters, e->params);
    return s;
}

static enum dgk_status make_plan(struct dgk_plan *p, const dgk_value *values, int n, struct fault *why)
{
    struct dgk_kernel *k = p->kernel;
    enum dgk_status s = entry_make(k, values, n, true, &p->entry, why);
    if (s || (s = own_memory(p, why))) return s;
    entry_addresses(k, values, n, p->addresses);
    return p->entry->launch.grid ? entry_fill(k, p->entry, p->addresses, values, p->entry->params, true, why) : DGK_OK;
}

int dgk_plan_call(dgk_kernel *k, const dgk_value *values, int n, dgk_plan **out)
{
    struct fault *why = fault_here();
    enum dgk_status s = DGK_FORKED;
    *out = NULL;
    if (forked(k->context, why) || (s = check_values(k, values, &n, why))) return (int)s;
    for (int i = 0; i < n; i++)
        if (values[i].tensor && values[i].tensor->place == DGK_HOST)
            return (int)fault_set(why, DGK_BAD_ARGUMENT, "a plan's tensors lie on the device; '%s' is on the host", k->args[i].name);
    struct dgk_plan *p = calloc(1, sizeof *p);
    if (!p) return (int)fault_set(why, DGK_NO_MEMORY, "no memory for a plan");
    p->kernel = k;
    void *before = kernel_begin(k);
    s = make_plan(p, values, n, why);
    kernel_end(k, before);
    if (s) dgk_plan_free(p);
    else *out = p;
    return (int)s;
}

/* The parameters are filled on the stack, so that threads may run one plan at once, on addresses of their own. */
static enum dgk_status run_elsewhere(const dgk_plan *p, const uint64_t *addresses, int n, struct device_launch *l, struct fault *why)
{
    uint64_t all[SLOTS_MAX];
    memcpy(all, p->addresses, sizeof all);
    for (int i = 0; i < n && i < p->kernel->n_args; i++)
        if (addresses[i]) all[i] = addresses[i];
    memcpy((char *)l->params, p->entry->params, p->entry->variant->image->param_bytes);
    return entry_fill(p->kernel, p->entry, all, NULL, (char *)l->params, false, why);
}

int dgk_run(dgk_plan *p, const uint64_t *addresses, int n, void *stream)
{
    _Alignas(64) char params[4096 + 64];
    struct fault *why = fault_here();
    struct dgk_context *c = p->kernel->context;
    struct device_launch l = p->entry->launch;
    enum dgk_status s = DGK_OK;
    if (forked(c, why)) return DGK_FORKED;
    if (!l.grid) return DGK_OK;
    l.stream = stream;
    l.overlap = context_overlaps(c);
    if (addresses) {
        if (p->entry->variant->image->param_bytes > sizeof params) return (int)fault_set(why, DGK_UNSUPPORTED, "more than 4 KiB of parameters");
        l.params = params;
        if (c->device->props.emulated) pthread_mutex_lock(&c->serial);
        s = run_elsewhere(p, addresses, n, &l, why);
        if (c->device->props.emulated) pthread_mutex_unlock(&c->serial);
        if (s) return (int)s;
    }
    if (c->device->props.emulated) pthread_mutex_lock(&c->serial);
    void *before = c->device->ops->enter(c->device);
    s = c->device->ops->launch(c->device, &l, why);
    c->device->ops->leave(c->device, before);
    if (c->device->props.emulated) pthread_mutex_unlock(&c->serial);
    return (int)s;
}

void dgk_plan_free(dgk_plan *p)
{
    if (!p) return;
    struct device *d = p->kernel->context->device;
    struct fault why;
    if (!forked(p->kernel->context, &why)) {
        void *before = kernel_begin(p->kernel);
        if (p->scratch || p->counters) d->ops->sync(d, &why); /* a launch may still use them */
        if (p->scratch) d->ops->release(d, p->scratch);
        if (p->counters) d->ops->release(d, p->counters);
        kernel_end(p->kernel, before);
    }
    if (p->entry) entry_free(p->entry);
    free(p);
}

/* ---- explain, test ------------------------------------------------------------------------------------------- */

static char *taken(struct buf *b)
{
    char *text = b->at ? b->at : strdup("");
    *b = (struct buf){ 0 };
    return text;
}

int dgk_explain(dgk_kernel *k, const dgk_value *values, int n, char **text)
{
    struct fault *why = fault_here();
    struct buf out = { 0 };
    struct wanted w;
    struct variant *v = NULL;
    enum dgk_status s = check_values(k, values, &n, why);
    *text = NULL;
    if (s) return (int)s;
    void *before = kernel_begin(k);
    if (!(s = variant_want(k, values, n, &w, why)) && !(s = variant_find(k, &w, true, &v, &out, why))) variant_free(k, v);
    kernel_end(k, before);
    if (!s) *text = taken(&out);
    buf_free(&out);
    return (int)s;
}

int dgk_test(dgk_kernel *k, int cases, uint64_t seed, char **text)
{
    struct fault *why = fault_here();
    struct buf out = { 0 };
    VEC(struct binding) params = { 0 };
    struct arena a = { 0 };
    if (k->from_text) return (int)fault_set(why, DGK_UNSUPPORTED, "only kernels of files are tested; write this one to a file");
    for (int i = 0; i < k->n_params; i++)
        if (k->params[i].fixed) {
            struct binding b = { k->params[i].name, k->params[i].fixed };
            vec_push(&a, &params, b);
        }
    struct oracle_options o = { .path = k->path, .import_dirs = k->import_dirs.at, .n_import_dirs = k->import_dirs.n, .kernel = k->node->name,
                                .target = k->context->target->name, .device = k->context->spec, .params = params.at, .n_params = params.n,
                                .tune = k->tune.at, .n_tune = k->tune.n, .seed = seed, .cases = cases };
    struct oracle_result r = oracle_test(&o, &out);
    arena_free(&a);
    enum dgk_status s = r.failed ? DGK_MISMATCH : DGK_OK;
    if (r.failed) fault_set(why, s, "%s", out.at ? out.at : "the kernel does not do what its spec says");
    if (text) *text = taken(&out);
    buf_free(&out);
    return (int)s;
}

/* ---- check --------------------------------------------------------------------------------------------------- */

static struct interp_tensor view_of(const struct tensor *t)
{
    struct interp_tensor r = { .type = t->type, .rank = t->rank, .data = t->data };
    for (int d = 0; d < t->rank; d++) r.shape[d] = t->shape[d], r.stride[d] = t->stride[d];
    return r;
}

static struct interp_tensor scalar_of(struct arena *a, enum type type, const dgk_value *v)
{
    uint64_t *bits = new(a, uint64_t);
    *bits = type_is_float(type) ? type_encode(type, v->real) : (uint64_t)v->integer;
    return (struct interp_tensor){ .type = type, .data = bits };
}

/* The arguments as they are before (copies of what the kernel changes) or after the call. */
struct state {
    struct tensor tensors[SLOTS_MAX], copies[SLOTS_MAX];
    struct interp_tensor before[SLOTS_MAX], after[SLOTS_MAX];
};

static enum dgk_status look_before(struct dgk_kernel *k, const dgk_value *values, int n, const struct wanted *w, struct state *st, struct arena *a,
                                   struct fault *why)
{
    for (int i = 0; i < k->n_args; i++) {
        if (i >= n || !values[i].given) return fault_set(why, DGK_BAD_ARGUMENT, "argument '%s' is missing", k->args[i].name);
        if (!k->args[i].rank) {
            st->before[i] = st->after[i] = scalar_of(a, w->type[i], &values[i]);
            continue;
        }
        if (!values[i].tensor) return fault_set(why, DGK_BAD_ARGUMENT, "argument '%s' is a number; a tensor is wanted", k->args[i].name);
        if (values[i].tensor->place != DGK_HOST) return fault_set(why, DGK_BAD_ARGUMENT, "a check needs tensors of the host; '%s' is on the device", k->args[i].name);
        tensor_as(&st->tensors[i], values[i].tensor, w->type[i]);
        st->after[i] = st->before[i] = view_of(&st->tensors[i]);
        if (k->args[i].dir != IMAGE_INOUT) continue;
        enum dgk_status s = tensor_copy(&st->copies[i], &st->tensors[i], TY_none, -1, NULL, why);
        if (s) return s;
        st->before[i] = view_of(&st->copies[i]);
    }
    return DGK_OK;
}

static bool compare(const struct ir_fn *fn, const struct state *st, const int64_t *dims, struct buf *out)
{
    bool ok = true;
    for (int i = 0; i < fn->specs.n; i++) {
        struct oracle_verdict v = oracle_check_spec(fn, i, st->before, st->after, dims, NULL);
        oracle_print_verdict(&v, out);
        buf_printf(out, v.ok ? ": as the spec says\n" : ": NOT as the spec says\n");
        ok &= v.ok;
        free(v.error);
    }
    if (!fn->specs.n) buf_printf(out, "%s has no spec to check\n", fn->name);
    return ok;
}

static enum dgk_status check_call(struct dgk_kernel *k, const dgk_value *values, int n, struct state *st, struct arena *a, struct buf *out,
                                  struct fault *why)
{
    struct wanted w;
    struct variant *v;
    int64_t dims[SLOTS_MAX];
    enum dgk_status s;
    struct buf unread = { 0 };
    void *before = kernel_begin(k);
    if (!(s = variant_want(k, values, n, &w, why)) && !(s = variant_find(k, &w, true, &v, &unread, why))) { /* the cache keeps no specs */
        s = look_before(k, values, n, &w, st, a, why);
        kernel_end(k, before);
        if (!s) s = (enum dgk_status)dgk_call(k, values, n, NULL);
        before = kernel_begin(k);
        for (int d = 0; !s && d < v->fn->dims.n; d++) {
            dims[d] = 0;
            for (int i = 0; i < k->n_dims; i++)
                if (!strcmp(k->dims[i].name, v->fn->dims.at[d].name)) dims[d] = w.size[i];
        }
        if (!s && !compare(v->fn, st, dims, out)) s = fault_set(why, DGK_MISMATCH, "%s does not do what its spec says:\n%s", k->node->name, out->at);
        variant_free(k, v);
    }
    kernel_end(k, before);
    buf_free(&unread);
    return s;
}

int dgk_check(dgk_kernel *k, const dgk_value *values, int n, char **text)
{
    struct fault *why = fault_here();
    struct arena a = { 0 };
    struct buf out = { 0 };
    enum dgk_status s = (enum dgk_status)dgk_prepare(k, values, n);
    struct state *st = calloc(1, sizeof *st);
    if (!s) s = st ? check_call(k, values, n, st, &a, &out, why) : fault_set(why, DGK_NO_MEMORY, "no memory for a check");
    for (int i = 0; st && i < k->n_args; i++) tensor_free(&st->copies[i]);
    free(st);
    arena_free(&a);
    if (text) *text = taken(&out);
    buf_free(&out);
    return (int)s;
}
