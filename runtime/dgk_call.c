/* dgk_call - calls. The first of its shapes, strides and types is bound and checked in full and leaves an entry: the
 * parameters as they were sent. Later ones find it by those numbers, put in the addresses, and launch. */
#include "runtime/dgk_inside.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRIES_MAX = 8192 }; /* shapes remembered; beyond, all are forgotten */

/* ---- keys ---------------------------------------------------------------------------------------------------- */

static inline int64_t *put_tensor(int64_t *key, const dgk_tensor *t)
{
    *key++ = (int64_t)t->type | (int64_t)t->place << 8 | (int64_t)t->rank << 16 | (int64_t)(t->data == 0) << 24 | (int64_t)(t->data & -t->data & 15) << 32;
    for (int d = 0; d < t->rank; d++) *key++ = t->shape[d];
    for (int d = 0; d < t->rank; d++) *key++ = t->stride[d];
    return key;
}

/* Everything but addresses, of which their alignment counts, and the values of floating scalars. */
static int make_key(const struct dgk_kernel *k, const dgk_value *values, int n, int64_t *key)
{
    int64_t *at = key;
    *at++ = k->context->sms;
    for (int i = 0; i < n; i++) {
        const dgk_value *v = &values[i];
        if (v->tensor) at = put_tensor(at, v->tensor);
        else if (i < k->n_args && type_is_float(k->args[i].type)) *at++ = v->given;
        else *at++ = v->given, *at++ = v->integer;
    }
    return (int)(at - key);
}

static uint64_t hash_key(const int64_t *key, int n)
{
    uint64_t h = 0x9e3779b97f4a7c15u;
    for (int i = 0; i < n; i++) h = (h ^ (uint64_t)key[i]) * 0xff51afd7ed558ccdu, h ^= h >> 32;
    return h;
}

static struct entry *find_entry(const struct dgk_kernel *k, const int64_t *key, int n, uint64_t h)
{
    if (!k->cap_entries) return NULL;
    for (struct entry *e = k->entries[h & (uint64_t)(k->cap_entries - 1)]; e; e = e->next)
        if (e->hash == h && e->n_key == n && !memcmp(e->key, key, sizeof *key * (size_t)n)) return e;
    return NULL;
}

static void forget_entries(struct dgk_kernel *k)
{
    for (int i = 0; i < k->cap_entries; i++) {
        for (struct entry *e = k->entries[i], *next; e; e = next) {
            next = e->next;
            entry_free(e);
        }
        k->entries[i] = NULL;
    }
    k->n_entries = 0;
}

static bool grow_entries(struct dgk_kernel *k)
{
    int cap = k->cap_entries ? k->cap_entries * 4 : 64;
    struct entry **wider = calloc((size_t)cap, sizeof *wider);
    if (!wider) return false;
    for (int i = 0; i < k->cap_entries; i++)
        for (struct entry *e = k->entries[i], *next; e; e = next) {
            struct entry **slot = &wider[e->hash & (uint64_t)(cap - 1)];
            next = e->next;
            e->next = *slot;
            *slot = e;
        }
    free(k->entries);
    k->entries = wider;
    k->cap_entries = cap;
    return true;
}

static bool keep_entry(struct dgk_kernel *k, struct entry *e, const int64_t *key, int n, uint64_t h)
{
    if (k->n_entries >= ENTRIES_MAX) forget_entries(k);
    if (k->n_entries >= k->cap_entries && !grow_entries(k)) return false;
    e->key = malloc(sizeof *key * (size_t)n);
    if (!e->key) return false;
    memcpy(e->key, key, sizeof *key * (size_t)n);
    e->n_key = n;
    e->hash = h;
    struct entry **slot = &k->entries[h & (uint64_t)(k->cap_entries - 1)];
    e->next = *slot;
    *slot = e;
    k->n_entries++;
    return true;
}

/* ---- making an entry ----------------------------------------------------------------------------------------- */

static void give(struct call *c, struct tensor *tensors, const struct dgk_kernel *k, const struct wanted *w, const dgk_value *values, int n)
{
    for (int i = 0; i < k->n_args && i < c->image->args.n; i++) {
        const dgk_value *v = i < n ? &values[i] : NULL;
        if (!v) continue;
        c->args[i].integer = v->integer;
        c->args[i].real = v->real;
        c->args[i].given = v->given && !v->tensor;
        if (v->tensor && tensor_as(&tensors[i], v->tensor, w->type[i])) c->args[i].tensor = &tensors[i];
    }
}

static enum dgk_status outputs_given(const struct call *c, struct fault *why)
{
    for (int i = 0; i < c->image->args.n; i++) {
        const struct image_arg *a = &c->image->args.at[i];
        if (a->rank && !c->args[i].tensor) return fault_set(why, DGK_BAD_ARGUMENT, "argument '%s', a tensor of %s, is missing", a->name, type_name(a->type));
    }
    return DGK_OK;
}

/* Dimensions that a call names as numbers hold for it, too. */
static enum dgk_status dims_agree(const struct call *c, const struct dgk_kernel *k, const struct wanted *w, struct fault *why)
{
    for (int i = 0; i < k->n_dims; i++)
        for (int d = 0; d < c->image->dims.n; d++)
            if (w->size[i] >= 0 && c->known[d] && !strcmp(c->image->dims.at[d], k->dims[i].name) && c->dims[d] != w->size[i])
                return fault_set(why, DGK_BAD_SHAPE, "%s is %" PRId64 " by argument '%s', and %" PRId64 " by the call", k->dims[i].name, c->dims[d],
                                 c->image->args.at[c->from[d]].name, w->size[i]);
    return DGK_OK;
}

static size_t aligned(size_t n) { return (n + 63) & ~(size_t)63; }

/* One block of memory: the entry, its parameters, offsets and maps. */
static struct entry *new_entry(const struct image *im)
{
    size_t params = aligned(im->param_bytes + 8), offsets = aligned(sizeof(uint32_t) * (size_t)(im->params.n + 1));
    char *block = calloc(1, aligned(sizeof(struct entry)) + params + offsets + sizeof(struct entry_map) * (size_t)(im->maps.n + 1) + 64);
    if (!block) return NULL;
    struct entry *e = (struct entry *)(((uintptr_t)block + 63) & ~(uintptr_t)63);
    e->owned = block;
    e->params = (char *)e + aligned(sizeof *e);
    e->offsets = (uint32_t *)(e->params + params);
    e->maps = (struct entry_map *)((char *)e->offsets + offsets);
    return e;
}

void entry_free(struct entry *e)
{
    free(e->key);
    free(e->owned);
}

static enum dgk_status note_maps(struct call *c, struct entry *e, struct fault *why)
{
    const struct image *im = c->image;
    for (int i = 0; i < im->params.n; i++) {
        const struct image_param *p = &im->params.at[i];
        if (p->kind != PARAM_MAP) continue;
        struct entry_map *m = &e->maps[e->n_maps++];
        m->arg = im->maps.at[p->arg].arg;
        m->offset = p->offset;
        enum dgk_status s = launch_map(c, &im->maps.at[p->arg], &m->map, why);
        if (s) return s;
        m->delta = m->map.address - c->places[m->arg].address;
    }
    return DGK_OK;
}

static enum dgk_status fill_entry(struct dgk_kernel *k, struct call *c, struct entry *e, struct variant *v, struct fault *why)
{
    struct hexpr_env env = { c->dims, (const int64_t (*)[IMAGE_RANK])c->strides, c->scalars, 0 };
    enum dgk_status s = launch_grid(c, v->module, why);
    if (s) return s;
    env.units = c->units;
    e->variant = v;
    e->scratch = hexpr_eval(&c->image->scratch_bytes, &env);
    e->counters = hexpr_eval(&c->image->counter_bytes, &env);
    if (c->launch.grid && ((s = launch_params(c, why)) || (s = note_maps(c, e, why)))) return s;
    if (c->launch.grid) {
        memcpy(e->params, c->params, c->image->param_bytes);
        memcpy(e->offsets, c->offsets, sizeof *e->offsets * (size_t)c->image->params.n);
    }
    e->launch = c->launch;
    e->launch.params = e->params;
    e->launch.param_offsets = e->offsets;
    k->counts.prepared++;
    return DGK_OK;
}

enum dgk_status entry_make(struct dgk_kernel *k, const dgk_value *values, int n, bool may_compile, struct entry **out, struct fault *why)
{
    struct wanted w;
    struct variant *v;
    struct call c;
    struct tensor tensors[SLOTS_MAX];
    enum dgk_status s;
    *out = NULL;
    if ((s = variant_want(k, values, n, &w, why)) || (s = variant_find(k, &w, may_compile, &v, NULL, why)) || (s = variant_load(k, v, why))) return s;
    launch_open(&c, v->image, k->context->device);
    c.sms = k->context->sms;
    give(&c, tensors, k, &w, values, n);
    for (int i = 0; i < c.image->args.n; i++) c.places[i].address = c.args[i].tensor ? c.args[i].tensor->address : 0;
    struct entry *e = new_entry(v->image);
    if (!e) s = fault_set(why, DGK_NO_MEMORY, "no memory for a call");
    if (s || (s = outputs_given(&c, why)) || (s = launch_bind(&c, why)) || (s = dims_agree(&c, k, &w, why)) || (s = fill_entry(k, &c, e, v, why))) {
        if (e) entry_free(e);
        e = NULL;
    }
    arena_free(&c.arena);
    *out = e;
    return s;
}

/* ---- launching an entry -------------------------------------------------------------------------------------- */

static enum dgk_status misaligned(const struct image_arg *a, uint64_t address, struct fault *why)
{
    return fault_set(why, DGK_BAD_ALIGNMENT, "argument '%s' begins at 0x%" PRIx64 ", which is not aligned to %d bytes", a->name, address, a->base_align);
}

static inline void put_scalar(const struct image *im, const struct image_param *p, const dgk_value *v, char *to)
{
    enum type t = im->args.at[p->arg].type;
    uint64_t bits = type_is_float(t) ? type_encode(t, v->real) : (uint64_t)v->integer;
    memcpy(to + p->offset, &bits, p->bytes < 8 ? p->bytes : 8);
}

/* A map is encoded again only where its tensor moved. */
static enum dgk_status fill_maps(struct dgk_kernel *k, struct entry *e, const uint64_t *addresses, char *params, bool keep, struct fault *why)
{
    struct device *d = k->context->device;
    for (int i = 0; i < e->n_maps; i++) {
        struct entry_map *m = &e->maps[i];
        uint64_t address = addresses[m->arg] + m->delta;
        if (address == m->map.address) continue;
        struct device_map moved = m->map;
        moved.address = address;
        enum dgk_status s = d->ops->encode_map(d, params + m->offset, &moved, why);
        if (s) return s;
        if (keep) {
            m->map.address = address;
            k->counts.encoded_maps++;
        }
    }
    return DGK_OK;
}

enum dgk_status entry_fill(struct dgk_kernel *k, struct entry *e, const uint64_t *addresses, const dgk_value *values, char *params, bool keep,
                           struct fault *why)
{
    const struct image *im = e->variant->image;
    for (int i = 0; i < im->args.n; i++) {
        const struct image_arg *a = &im->args.at[i];
        if (a->rank && a->base_align > 1 && addresses[i] % (uint64_t)a->base_align) return misaligned(a, addresses[i], why);
    }
    for (int i = 0; i < im->params.n; i++) {
        const struct image_param *p = &im->params.at[i];
        if (p->kind == PARAM_POINTER) memcpy(params + p->offset, &addresses[p->arg], 8);
        else if (p->kind == PARAM_SCALAR && values) put_scalar(im, p, &values[p->arg], params);
    }
    return fill_maps(k, e, addresses, params, keep, why);
}

void entry_put_workspace(const struct entry *e, uint64_t scratch, uint64_t counters, char *params)
{
    const struct image *im = e->variant->image;
    for (int i = 0; i < im->params.n; i++) {
        const struct image_param *p = &im->params.at[i];
        if (p->kind == PARAM_SCRATCH) memcpy(params + p->offset, &scratch, 8);
        else if (p->kind == PARAM_COUNTERS) memcpy(params + p->offset, &counters, 8);
    }
}

void entry_addresses(const struct dgk_kernel *k, const dgk_value *values, int n, uint64_t *out)
{
    for (int i = 0; i < k->n_args; i++) out[i] = i >= n || !values[i].tensor ? 0 : values[i].tensor->data ? values[i].tensor->data : 256;
}

static enum dgk_status launch_entry(struct dgk_kernel *k, struct entry *e, const dgk_value *values, int n, void *stream, struct fault *why)
{
    uint64_t addresses[SLOTS_MAX], scratch = 0, counters = 0;
    enum dgk_status s;
    if (!e->launch.grid) return DGK_OK; /* nothing to do for empty results */
    entry_addresses(k, values, n, addresses);
    if ((s = entry_fill(k, e, addresses, values, e->params, true, why))) return s;
    if (e->scratch > 0 || e->counters > 0) {
        s = workspace_find(k->context, stream, e->scratch > 0 ? (size_t)e->scratch : 0, e->counters > 0 ? (size_t)e->counters : 0, &scratch, &counters, why);
        if (s) return s;
        entry_put_workspace(e, scratch, counters, e->params);
    }
    e->launch.stream = stream;
    e->launch.overlap = context_overlaps(k->context);
    struct device *d = k->context->device;
    return d->ops->launch(d, &e->launch, why);
}

static enum dgk_status prepared(struct dgk_kernel *k, const dgk_value *values, int n, void *stream, struct entry **out, struct fault *why)
{
    int64_t key[KEY_MAX];
    int words = make_key(k, values, n, key);
    uint64_t h = hash_key(key, words);
    if ((*out = find_entry(k, key, words, h))) return DGK_OK;
    enum dgk_status s = entry_make(k, values, n, !k->context->device->ops->capturing(k->context->device, stream), out, why);
    if (s) return s;
    if (keep_entry(k, *out, key, words, h)) return DGK_OK;
    entry_free(*out);
    return fault_set(why, DGK_NO_MEMORY, "no memory for a call");
}

/* ---- tensors of the host ------------------------------------------------------------------------------------- */

/* A call on tensors of the host, checked in full, before anything is copied. What it leaves in `c` is for launch_end. */
static enum dgk_status bind_host(struct dgk_kernel *k, const dgk_value *values, int n, struct call *c, struct tensor *tensors, struct variant **v,
                                 struct fault *why)
{
    struct wanted w;
    enum dgk_status s;
    if ((s = variant_want(k, values, n, &w, why)) || (s = variant_find(k, &w, true, v, NULL, why)) || (s = variant_load(k, *v, why))) return s;
    launch_open(c, (*v)->image, k->context->device);
    c->sms = k->context->sms;
    c->keep_outputs = true;
    give(c, tensors, k, &w, values, n);
    if (!(s = outputs_given(c, why)) && !(s = launch_bind(c, why)) && !(s = dims_agree(c, k, &w, why))) return DGK_OK;
    launch_end(c);
    return s;
}

/* Copied there, launched, copied back; addresses of the device stand among them as they are. */
static enum dgk_status call_host(struct dgk_kernel *k, const dgk_value *values, int n, struct fault *why)
{
    struct variant *v;
    struct call c;
    struct tensor tensors[SLOTS_MAX];
    enum dgk_status s = bind_host(k, values, n, &c, tensors, &v, why);
    if (s) return s;
    if (!(s = launch_place(&c, why)) && !(s = launch_prepare(&c, v->module, why)) && !(s = launch_run(&c, why))) s = launch_fetch(&c, why);
    launch_end(&c);
    return s;
}

static enum dgk_status prepare_host(struct dgk_kernel *k, const dgk_value *values, int n, struct fault *why)
{
    struct variant *v;
    struct call c;
    struct tensor tensors[SLOTS_MAX];
    enum dgk_status s = bind_host(k, values, n, &c, tensors, &v, why);
    if (!s) launch_end(&c);
    return s;
}

/* ---- the public calls ---------------------------------------------------------------------------------------- */

static bool any_host(const dgk_value *values, int n)
{
    for (int i = 0; i < n; i++)
        if (values[i].tensor && values[i].tensor->place == DGK_HOST) return true;
    return false;
}

enum dgk_status check_values(const struct dgk_kernel *k, const dgk_value *values, int *n, struct fault *why)
{
    int slots = k->n_args + k->n_params + k->n_dims;
    if (*n > slots) return fault_set(why, DGK_BAD_ARGUMENT, "%d values; %s has %d slots", *n, k->node->name, slots);
    for (int i = 0; i < *n; i++) {
        const dgk_tensor *t = values[i].tensor;
        if (!t) continue;
        if (i >= k->n_args || !k->args[i].rank)
            return fault_set(why, DGK_BAD_ARGUMENT, "'%s' is a number, not a tensor", i < k->n_args ? k->args[i].name : "a parameter or dimension");
        if (t->type <= 0 || t->type >= TY_COUNT || t->rank < 0 || t->rank > DGK_RANK)
            return fault_set(why, DGK_BAD_ARGUMENT, "argument '%s' has type %d and rank %d, which are none", k->args[i].name, t->type, t->rank);
        if (t->place != DGK_HOST && t->place != DGK_DEVICE)
            return fault_set(why, DGK_BAD_ARGUMENT, "argument '%s' has place %d, which is neither the host nor the device", k->args[i].name, t->place);
    }
    return DGK_OK;
}

/* One call of a kernel at a time, and of the emulator, which knows no threads of others. */
void *kernel_begin(struct dgk_kernel *k)
{
    struct device *d = k->context->device;
    pthread_mutex_lock(&k->lock);
    if (d->props.emulated) pthread_mutex_lock(&k->context->serial);
    return d->ops->enter(d);
}

void kernel_end(struct dgk_kernel *k, void *before)
{
    struct device *d = k->context->device;
    d->ops->leave(d, before);
    if (d->props.emulated) pthread_mutex_unlock(&k->context->serial);
    pthread_mutex_unlock(&k->lock);
}

static enum dgk_status call_device(struct dgk_kernel *k, const dgk_value *values, int n, void *stream, struct fault *why)
{
    struct entry *e;
    enum dgk_status s = prepared(k, values, n, stream, &e, why);
    return s ? s : launch_entry(k, e, values, n, stream, why);
}

int dgk_call(dgk_kernel *k, const dgk_value *values, int n, void *stream)
{
    struct fault *why = fault_here();
    enum dgk_status s = DGK_FORKED;
    if (forked(k->context, why) || (s = check_values(k, values, &n, why))) return (int)s;
    void *before = kernel_begin(k);
    k->counts.calls++;
    if (any_host(values, n)) s = call_host(k, values, n, why);
    else s = call_device(k, values, n, stream, why);
    kernel_end(k, before);
    return (int)s;
}

int dgk_prepare(dgk_kernel *k, const dgk_value *values, int n)
{
    struct fault *why = fault_here();
    struct entry *e;
    enum dgk_status s = DGK_FORKED;
    if (forked(k->context, why) || (s = check_values(k, values, &n, why))) return (int)s;
    void *before = kernel_begin(k);
    s = any_host(values, n) ? prepare_host(k, values, n, why) : prepared(k, values, n, NULL, &e, why);
    kernel_end(k, before);
    return (int)s;
}

static enum dgk_status find_shape(struct dgk_kernel *k, const dgk_value *values, int n, int slot, int64_t *shape, struct fault *why)
{
    struct wanted w;
    struct variant *v;
    struct call c;
    struct tensor tensors[SLOTS_MAX];
    enum dgk_status s;
    if (slot < 0 || slot >= k->n_args) return fault_set(why, DGK_BAD_ARGUMENT, "%s has no argument %d", k->node->name, slot);
    if ((s = variant_want(k, values, n, &w, why)) || (s = variant_find(k, &w, true, &v, NULL, why))) return s;
    launch_open(&c, v->image, k->context->device);
    give(&c, tensors, k, &w, values, n);
    if (!(s = launch_bind(&c, why))) s = launch_shape(&c, slot, shape, why);
    arena_free(&c.arena);
    return s;
}

int dgk_shape(dgk_kernel *k, const dgk_value *values, int n, int slot, int64_t *shape)
{
    struct fault *why = fault_here();
    enum dgk_status s = check_values(k, values, &n, why);
    if (s) return (int)s;
    pthread_mutex_lock(&k->lock);
    s = find_shape(k, values, n, slot, shape, why);
    pthread_mutex_unlock(&k->lock);
    return (int)s;
}
