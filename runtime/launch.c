/* launch - binds, checks, places and launches one call of a compiled kernel. */
#include "runtime/launch.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void launch_open(struct call *c, const struct image *image, struct device *device)
{
    int n = image->args.n + 1, dims = image->dims.n + 1;
    *c = (struct call){ .image = image, .device = device };
    c->args = new_n(&c->arena, struct call_arg, n);
    c->places = new_n(&c->arena, struct call_place, n);
    c->strides = arena_alloc(&c->arena, sizeof *c->strides * (size_t)n);
    c->scalars = new_n(&c->arena, int64_t, n);
    c->dims = new_n(&c->arena, int64_t, dims);
    c->known = new_n(&c->arena, bool, dims);
    c->from = new_n(&c->arena, int, dims);
}

static struct hexpr_env env_of(const struct call *c)
{
    return (struct hexpr_env){ c->dims, (const int64_t (*)[IMAGE_RANK])c->strides, c->scalars, c->units };
}

static int64_t eval(const struct call *c, const struct hexpr *e)
{
    struct hexpr_env env = env_of(c);
    return hexpr_eval(e, &env);
}

static const struct image_arg *arg_of(const struct call *c, int i) { return &c->image->args.at[i]; }

/* ---- bind ---------------------------------------------------------------------------------------------------- */

static enum dgk_status check_kind(struct call *c, int i, struct fault *why)
{
    const struct image_arg *a = arg_of(c, i);
    const struct tensor *t = c->args[i].tensor;
    char shape[160];
    if (a->rank == 0)
        return c->args[i].given ? DGK_OK : fault_set(why, DGK_BAD_ARGUMENT, "argument '%s', a scalar %s, is missing", a->name, type_name(a->type));
    if (!t) return a->dir == IMAGE_OUT || c->args[i].later ? DGK_OK : fault_set(why, DGK_BAD_ARGUMENT, "argument '%s', a tensor of %s, is missing", a->name, type_name(a->type));
    if (t->type != a->type)
        return fault_set(why, DGK_BAD_ARGUMENT, "argument '%s' is %s; the kernel takes %s (append \":%s\" to convert)", a->name,
                         type_name(t->type), type_name(a->type), type_name(a->type));
    if (t->rank != a->rank)
        return fault_set(why, DGK_BAD_ARGUMENT, "argument '%s' has %d dimensions, %s; the kernel takes %d", a->name, t->rank,
                         tensor_shape_text(t, shape, sizeof shape), a->rank);
    return DGK_OK;
}

static enum dgk_status bind_names(struct call *c, int i, struct fault *why)
{
    const struct image_arg *a = arg_of(c, i);
    const struct tensor *t = c->args[i].tensor;
    for (int d = 0; t && d < a->rank; d++) {
        int s = a->dim_symbol[d];
        if (s < 0) continue;
        if (c->known[s] && c->dims[s] != t->shape[d] && c->from[s] < 0)
            return fault_set(why, DGK_BAD_SHAPE, "argument '%s': dimension %d is %" PRId64 "; this kernel was compiled for %s = %" PRId64, a->name, d,
                             t->shape[d], c->image->dims.at[s], c->dims[s]);
        if (c->known[s] && c->dims[s] != t->shape[d])
            return fault_set(why, DGK_BAD_SHAPE, "argument '%s': dimension %d is %" PRId64 "; %s is %" PRId64 " by argument '%s'", a->name, d,
                             t->shape[d], c->image->dims.at[s], c->dims[s], arg_of(c, c->from[s])->name);
        if (!c->known[s]) c->from[s] = i;
        c->known[s] = true;
        c->dims[s] = t->shape[d];
    }
    return DGK_OK;
}

static enum dgk_status check_known(const struct call *c, struct fault *why)
{
    for (int s = 0; s < c->image->dims.n; s++)
        if (!c->known[s]) return fault_set(why, DGK_BAD_ARGUMENT, "no argument that was given determines %s; fix it when compiling (-D %s=1)", c->image->dims.at[s], c->image->dims.at[s]);
    return DGK_OK;
}

static enum dgk_status check_sizes(struct call *c, int i, struct fault *why)
{
    const struct image_arg *a = arg_of(c, i);
    const struct tensor *t = c->args[i].tensor;
    for (int d = 0; t && d < a->rank; d++) {
        int64_t want = eval(c, &a->dim[d]);
        if (t->shape[d] != want)
            return fault_set(why, DGK_BAD_SHAPE, "argument '%s': dimension %d is %" PRId64 "; %s is %" PRId64, a->name, d, t->shape[d],
                             a->dim_text[d] ? a->dim_text[d] : "the kernel's", want);
    }
    return DGK_OK;
}

/* There is memory, and no element lies further than addresses go; a negative stride is for tensors that are copied. */
static enum dgk_status check_memory(struct call *c, int i, struct fault *why)
{
    const struct image_arg *a = arg_of(c, i);
    const struct tensor *t = c->args[i].tensor;
    const int64_t most = INT64_C(1) << 52;
    bool empty = false;
    if (!t || a->rank == 0) return DGK_OK;
    for (int d = 0; d < t->rank; d++) empty |= t->shape[d] <= 0;
    if (empty) return DGK_OK;
    if (!t->data && !t->address) return fault_set(why, DGK_BAD_ARGUMENT, "argument '%s' has no memory", a->name);
    for (int d = 0; d < t->rank; d++) {
        int64_t far = t->stride[d];
        if (t->shape[d] > 1 && (far > most / t->shape[d] || far < (t->data ? -most / t->shape[d] : 0)))
            return fault_set(why, DGK_BAD_STRIDE, "argument '%s': dimension %d has stride %" PRId64 "; no memory goes that far", a->name, d, far);
    }
    return DGK_OK;
}

/* Only of tensors on the device: those of the host are laid out as wanted on their way. */
static enum dgk_status check_layout(struct call *c, int i, struct fault *why)
{
    const struct image_arg *a = arg_of(c, i);
    const struct tensor *t = c->args[i].tensor;
    if (!t || t->data || !t->address || a->rank == 0) return DGK_OK;
    if (t->shape[a->inner] > 1 && t->stride[a->inner] != 1)
        return fault_set(why, DGK_BAD_STRIDE, "argument '%s': dimension %d has stride %" PRId64 "; this kernel was compiled for stride 1 there",
                         a->name, a->inner, t->stride[a->inner]);
    for (int d = 0; d < a->rank; d++)
        if (d != a->inner && t->shape[d] > 1 && a->align[d] > 1 && t->stride[d] % a->align[d])
            return fault_set(why, DGK_BAD_STRIDE, "argument '%s': dimension %d has stride %" PRId64 ", no multiple of %d", a->name, d, t->stride[d],
                             a->align[d]);
    if (a->base_align > 1 && t->address % (uint64_t)a->base_align)
        return fault_set(why, DGK_BAD_ALIGNMENT, "argument '%s' begins at 0x%" PRIx64 ", which is not aligned to %d bytes", a->name, t->address,
                         a->base_align);
    return DGK_OK;
}

static void note_strides(struct call *c, int i)
{
    const struct image_arg *a = arg_of(c, i);
    const struct tensor *t = c->args[i].tensor;
    struct tensor *staged = &c->places[i].staged;
    if (a->rank == 0) return;
    *staged = (struct tensor){ .type = a->type, .rank = a->rank };
    for (int d = 0; d < a->rank; d++) staged->shape[d] = eval(c, &a->dim[d]);
    tensor_layout(staged, a->inner, a->align);
    if (t && !t->data && t->address) memcpy(staged->stride, t->stride, sizeof staged->stride);
    memcpy(c->strides[i], staged->stride, sizeof c->strides[i]);
}

/* "M = 100, K = 96": the values a condition speaks of. */
static void put_values(const struct call *c, const struct hexpr *e, struct buf *b)
{
    uint64_t seen = 0;
    for (int i = 0; i < e->n; i++) {
        const struct hexpr_code *h = &e->at[i];
        if (h->op == HEX_DIM && h->v < 64 && !(seen >> h->v & 1)) {
            buf_printf(b, "%s%s = %" PRId64, b->n ? ", " : "", c->image->dims.at[h->v], c->dims[h->v]);
            seen |= (uint64_t)1 << h->v;
        } else if (h->op == HEX_SCALAR) {
            buf_printf(b, "%s%s = %" PRId64, b->n ? ", " : "", arg_of(c, (int)h->v)->name, c->scalars[h->v]);
        } else if (h->op == HEX_STRIDE) {
            buf_printf(b, "%sstride(%s, %d) = %" PRId64, b->n ? ", " : "", arg_of(c, (int)(h->v / 16))->name, (int)(h->v % 16),
                       c->strides[h->v / 16][h->v % 16]);
        }
    }
}

static enum dgk_status check_requires(const struct call *c, struct fault *why)
{
    for (int i = 0; i < c->image->requires.n; i++) {
        const struct image_require *r = &c->image->requires.at[i];
        if (eval(c, &r->cond)) continue;
        struct buf values = { 0 };
        put_values(c, &r->cond, &values);
        fault_set(why, DGK_REQUIRE, "%s requires %s; here %s", c->image->kernel, r->text, values.n ? values.at : "it does not hold");
        buf_free(&values);
        return DGK_REQUIRE;
    }
    return DGK_OK;
}

void launch_fix(struct call *c, int dim, int64_t value)
{
    c->dims[dim] = value;
    c->known[dim] = true;
    c->from[dim] = -1;
}

enum dgk_status launch_bind(struct call *c, struct fault *why)
{
    enum dgk_status s = DGK_OK;
    int n = c->image->args.n;
    for (int i = 0; i < n; i++) {
        c->scalars[i] = type_is_float(arg_of(c, i)->type) ? (int64_t)c->args[i].real : c->args[i].integer;
        if ((s = check_kind(c, i, why)) || (s = bind_names(c, i, why))) return s;
    }
    if ((s = check_known(c, why))) return s;
    for (int i = 0; i < n; i++)
        if ((s = check_sizes(c, i, why)) || (s = check_memory(c, i, why)) || (s = check_layout(c, i, why))) return s;
    for (int i = 0; i < n; i++) note_strides(c, i);
    return check_requires(c, why);
}

enum dgk_status launch_shape(struct call *c, int i, int64_t *shape, struct fault *why)
{
    const struct image_arg *a = arg_of(c, i);
    for (int d = 0; d < a->rank; d++)
        if ((shape[d] = eval(c, &a->dim[d])) < 0)
            return fault_set(why, DGK_BAD_SHAPE, "argument '%s': %s is %" PRId64, a->name, a->dim_text[d], shape[d]);
    return DGK_OK;
}

/* ---- place --------------------------------------------------------------------------------------------------- */

/* Outputs begin as NaN patterns, so that what a kernel leaves unwritten shows; or as the caller holds them. */
static enum dgk_status fill_or_send(struct call *c, int i, size_t bytes, struct fault *why)
{
    struct call_place *p = &c->places[i];
    const struct device_ops *ops = c->device->ops;
    if (arg_of(c, i)->dir == IMAGE_OUT && !c->keep_outputs) return ops->fill(c->device, p->address, 0xff, bytes, why);
    struct tensor laid;
    const struct image_arg *a = arg_of(c, i);
    enum dgk_status s = tensor_copy(&laid, c->args[i].tensor, TY_none, a->inner, a->align, why);
    if (s) return s;
    s = ops->write(c->device, p->address, laid.data, bytes, why);
    tensor_free(&laid);
    return s;
}

static enum dgk_status place_one(struct call *c, int i, struct fault *why)
{
    const struct image_arg *a = arg_of(c, i);
    const struct tensor *t = c->args[i].tensor;
    struct call_place *p = &c->places[i];
    if (a->rank == 0) return DGK_OK;
    if (!t) return fault_set(why, DGK_BAD_ARGUMENT, "argument '%s' has no memory", a->name);
    if (t->address && !t->data) {
        p->address = t->address;
        return DGK_OK;
    }
    size_t bytes = tensor_span(&p->staged);
    p->address = c->device->ops->alloc(c->device, bytes, a->name, why);
    if (!p->address) return why->status;
    p->ours = true;
    return bytes ? fill_or_send(c, i, bytes, why) : DGK_OK;
}

enum dgk_status launch_place(struct call *c, struct fault *why)
{
    enum dgk_status s = DGK_OK;
    for (int i = 0; i < c->image->args.n && !s; i++) s = place_one(c, i, why);
    return s;
}

/* ---- tensor maps --------------------------------------------------------------------------------------------- */

/* CUtensorMapDataType of each type; types without one travel as unsigned integers of their width. */
static int map_type(enum type t)
{
    static const signed char number[TY_COUNT] = {
        [TY_bool] = 0, [TY_i8] = 0, [TY_u8] = 0, [TY_i16] = 1, [TY_u16] = 1, [TY_u32] = 2, [TY_i32] = 3, [TY_u64] = 4, [TY_i64] = 5,
        [TY_f16] = 6,  [TY_f32] = 7, [TY_bf16] = 9, [TY_tf32] = 11, [TY_e2m1] = 13,
    };
    return number[t];
}

static int map_swizzle(int bytes) { return bytes == 128 ? 3 : bytes == 64 ? 2 : bytes == 32 ? 1 : 0; }

enum dgk_status launch_check_map(const struct device_map *m, int item_bytes, const char *name, struct fault *why)
{
    static const int span[] = { 0, 32, 64, 128 };
    if (m->rank < 1 || m->rank > 5) return fault_set(why, DGK_BAD_BOX, "tensor map of '%s': rank %d; 1 to 5 are possible", name, m->rank);
    if (m->address % 16) return fault_set(why, DGK_BAD_ALIGNMENT, "tensor map of '%s': address 0x%" PRIx64 " is not aligned to 16 bytes", name, m->address);
    for (int d = 0; d < m->rank; d++) {
        if (m->dim[d] < 1 || m->dim[d] > (uint64_t)1 << 32)
            return fault_set(why, DGK_BAD_SHAPE, "tensor map of '%s': size %" PRIu64 " of dimension %d; 1 to 2^32 are possible", name, m->dim[d], d);
        if (m->box[d] < 1 || m->box[d] > 256)
            return fault_set(why, DGK_BAD_BOX, "tensor map of '%s': box of %u in dimension %d; 1 to 256 are possible", name, m->box[d], d);
        if (d && (m->stride[d - 1] % 16 || m->stride[d - 1] >= (uint64_t)1 << 40))
            return fault_set(why, DGK_BAD_STRIDE, "tensor map of '%s': stride of %" PRIu64 " bytes in dimension %d; it must be a multiple of 16 below 2^40",
                             name, m->stride[d - 1], d);
    }
    if (item_bytes && m->box[0] * (unsigned)item_bytes % 16)
        return fault_set(why, DGK_BAD_BOX, "tensor map of '%s': rows of %u bytes in shared memory; a multiple of 16 is needed", name,
                         m->box[0] * (unsigned)item_bytes);
    if (item_bytes && m->swizzle > 0 && m->swizzle < 4 && (int)m->box[0] * item_bytes > span[m->swizzle])
        return fault_set(why, DGK_BAD_BOX, "tensor map of '%s': rows of %u bytes are wider than the swizzle of %d", name,
                         m->box[0] * (unsigned)item_bytes, span[m->swizzle]);
    return DGK_OK;
}

enum dgk_status launch_map(struct call *c, const struct image_map *im, struct device_map *m, struct fault *why)
{
    const char *name = arg_of(c, im->arg)->name;
    int pack = im->pack > 1 ? im->pack : 1, bits = tensor_item_bits(im->type) * pack;
    int64_t offset_bits = eval(c, &im->offset) * tensor_item_bits(im->type);
    *m = (struct device_map){ .data_type = pack > 1 ? 0 : map_type(im->type), .rank = im->rank, .swizzle = map_swizzle(im->swizzle) };
    m->address = c->places[im->arg].address + (uint64_t)(offset_bits / 8);
    for (int d = 0; d < im->rank; d++) {
        int64_t size = eval(c, &im->size[d]), stride = d ? eval(c, &im->stride[d]) : 1;
        if (d == 0 && size % pack) return fault_set(why, DGK_BAD_SHAPE, "argument '%s': %" PRId64 " elements of its inner dimension are no whole bytes", name, size);
        m->dim[d] = (uint64_t)(d == 0 ? size / pack : size);
        if (size <= 0) m->dim[d] = 1; /* nothing is copied from an empty tensor; the map must still be a map */
        m->box[d] = im->box[d] / (d == 0 ? (uint32_t)pack : 1);
        if (d == 0) continue;
        m->stride[d - 1] = (uint64_t)(stride * tensor_item_bits(im->type) / 8);
        if (size <= 1) m->stride[d - 1] = (m->stride[d - 1] + 15) & ~(uint64_t)15; /* never stepped */
    }
    return launch_check_map(m, bits / 8, name, why);
}

/* ---- prepare ------------------------------------------------------------------------------------------------- */

static void put_scalar(struct call *c, const struct image_param *p, char *to)
{
    enum type t = arg_of(c, p->arg)->type;
    uint64_t bits = type_is_float(t) ? type_encode(t, c->args[p->arg].real) : (uint64_t)c->args[p->arg].integer;
    memcpy(to, &bits, p->bytes < 8 ? p->bytes : 8);
}

static enum dgk_status put_param(struct call *c, const struct image_param *p, struct fault *why)
{
    char *to = c->params + p->offset;
    struct device_map m;
    enum dgk_status s;
    switch (p->kind) {
    case PARAM_POINTER: memcpy(to, &c->places[p->arg].address, 8); return DGK_OK;
    case PARAM_DIM:
        if (c->dims[p->arg] > INT32_MAX) return fault_set(why, DGK_BAD_SHAPE, "%s is %" PRId64 "; it must be below 2^31", c->image->dims.at[p->arg], c->dims[p->arg]);
        memcpy(to, &(int32_t){ (int32_t)c->dims[p->arg] }, 4);
        return DGK_OK;
    case PARAM_STRIDE: memcpy(to, &c->strides[p->arg][p->dim], 8); return DGK_OK;
    case PARAM_SCALAR: put_scalar(c, p, to); return DGK_OK;
    case PARAM_MAP:
        s = launch_map(c, &c->image->maps.at[p->arg], &m, why);
        return s ? s : c->device->ops->encode_map(c->device, to, &m, why);
    case PARAM_SCRATCH: memcpy(to, &c->scratch, 8); return DGK_OK;
    case PARAM_COUNTERS: memcpy(to, &c->counters, 8); return DGK_OK;
    }
    return DGK_OK;
}

enum dgk_status launch_params(struct call *c, struct fault *why)
{
    const struct image *im = c->image;
    char *raw = arena_alloc(&c->arena, im->param_bytes + 128);
    c->params = raw + (64 - (uintptr_t)raw % 64) % 64;
    c->offsets = new_n(&c->arena, uint32_t, im->params.n + 1);
    enum dgk_status s = DGK_OK;
    for (int i = 0; i < im->params.n && !s; i++) {
        c->offsets[i] = im->params.at[i].offset;
        s = put_param(c, &im->params.at[i], why);
    }
    return s;
}

/* How many CTAs work at once: what fits, no more an SM than the kernel asks for, whole clusters. */
static enum dgk_status find_units(struct call *c, struct fault *why)
{
    const struct image *im = c->image;
    int cluster = im->cluster ? (int)im->cluster : 1, fit;
    int sms = c->sms > 0 && c->sms < c->device->props.sms ? c->sms : c->device->props.sms;
    int wanted = sms * (im->ctas_per_sm ? im->ctas_per_sm : 1);
    enum dgk_status s = c->device->ops->resident(c->device, &c->launch, &fit, why);
    if (s) return s;
    if (fit > wanted) fit = wanted;
    c->units = fit / cluster > 0 ? fit / cluster : 1;
    return DGK_OK;
}

static enum dgk_status find_grid(struct call *c, struct fault *why)
{
    const struct image *im = c->image;
    int64_t cluster = im->cluster ? im->cluster : 1, tasks = eval(c, &im->tasks);
    if (im->persistent && tasks > c->units * cluster) tasks = c->units * cluster;
    if (tasks < 0 || tasks > INT32_MAX) return fault_set(why, DGK_LAUNCH, "%s would need %" PRId64 " CTAs; at most 2^31 - 1 are possible", im->kernel, tasks);
    c->launch.grid = (uint32_t)((tasks + cluster - 1) / cluster * cluster);
    return DGK_OK;
}

static enum dgk_status find_memory(struct call *c, struct fault *why)
{
    const struct device_ops *ops = c->device->ops;
    int64_t scratch = eval(c, &c->image->scratch_bytes), counters = eval(c, &c->image->counter_bytes);
    if (scratch > 0 && !(c->scratch = ops->alloc(c->device, (size_t)scratch, "scratch", why))) return why->status;
    if (counters <= 0) return DGK_OK;
    if (!(c->counters = ops->alloc(c->device, (size_t)counters, "counters", why))) return why->status;
    return ops->fill(c->device, c->counters, 0, (size_t)counters, why);
}

enum dgk_status launch_grid(struct call *c, struct device_module *m, struct fault *why)
{
    const struct image *im = c->image;
    c->launch = (struct device_launch){ .module = m, .symbol = im->symbol, .threads = im->threads, .cluster = im->cluster ? im->cluster : 1,
                                        .smem_bytes = im->smem_bytes, .param_bytes = im->param_bytes, .n_params = im->params.n };
    enum dgk_status s = find_units(c, why);
    return s ? s : find_grid(c, why);
}

enum dgk_status launch_prepare(struct call *c, struct device_module *m, struct fault *why)
{
    enum dgk_status s;
    if ((s = launch_grid(c, m, why)) || (s = find_memory(c, why)) || (s = launch_params(c, why))) return s;
    c->launch.params = c->params;
    c->launch.param_offsets = c->offsets;
    return DGK_OK;
}

enum dgk_status launch_run(struct call *c, struct fault *why)
{
    return c->launch.grid ? c->device->ops->launch(c->device, &c->launch, why) : DGK_OK;
}

/* ---- fetch --------------------------------------------------------------------------------------------------- */

static void spread(struct tensor *to, const struct tensor *from)
{
    int64_t ti[TENSOR_RANK] = { 0 }, fi[TENSOR_RANK] = { 0 }, t = 0, f = 0;
    if (!tensor_count(to)) return;
    do tensor_set_bits(to, t, tensor_bits(from, f));
    while (tensor_next(from, fi, &f) && tensor_next(to, ti, &t));
}

static enum dgk_status fetch_one(struct call *c, int i, struct fault *why)
{
    struct call_place *p = &c->places[i];
    struct tensor got = p->staged;
    size_t bytes = tensor_span(&got);
    if (arg_of(c, i)->dir == IMAGE_IN || arg_of(c, i)->rank == 0 || !p->ours || !bytes) return DGK_OK;
    enum dgk_status s = tensor_allocate(&got, why);
    if (s) return s;
    s = c->device->ops->read(c->device, got.data, p->address, bytes, why);
    if (!s) spread(c->args[i].tensor, &got);
    tensor_free(&got);
    return s;
}

enum dgk_status launch_fetch(struct call *c, struct fault *why)
{
    enum dgk_status s = c->device->ops->sync(c->device, why);
    for (int i = 0; i < c->image->args.n && !s; i++) s = fetch_one(c, i, why);
    return s;
}

void launch_end(struct call *c)
{
    const struct device_ops *ops = c->device->ops;
    for (int i = 0; i < c->image->args.n; i++)
        if (c->places[i].ours) ops->release(c->device, c->places[i].address);
    if (c->scratch) ops->release(c->device, c->scratch);
    if (c->counters) ops->release(c->device, c->counters);
    arena_free(&c->arena);
}

enum dgk_status launch_call(struct device *device, struct device_module *m, const struct image *image, const struct call_arg *args,
                            struct fault *why)
{
    struct call c;
    enum dgk_status s;
    launch_open(&c, image, device);
    memcpy(c.args, args, sizeof *args * (size_t)image->args.n);
    if (!(s = launch_bind(&c, why)) && !(s = launch_place(&c, why)) && !(s = launch_prepare(&c, m, why)) && !(s = launch_run(&c, why)))
        s = launch_fetch(&c, why);
    launch_end(&c);
    return s;
}
