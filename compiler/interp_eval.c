/* interp_eval - expressions of the tile IR as dense tiles. */
#define _GNU_SOURCE
#include "compiler/interp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t load_bits(const void *data, int64_t at, int width)
{
    uint64_t v = 0;
    if (width == 4) return ((const uint8_t *)data)[at / 2] >> (at % 2 * 4) & 15;
    if (width == 1) return ((const uint8_t *)data)[at] != 0;
    memcpy(&v, (const char *)data + at * (width / 8), (size_t)(width / 8));
    return v;
}

/* Floating formats whose exponent field moves into an f32's: the value is that f32 times a power of two. */
static double shifted(uint32_t magnitude, int shift, double scale, bool negative)
{
    uint32_t b = magnitude << shift;
    float f;
    memcpy(&f, &b, 4);
    return (negative ? -(double)f : (double)f) * scale;
}

static double decode(enum type t, uint64_t bits)
{
    uint32_t b = (uint32_t)bits;
    float f;
    switch (t) {
    case TY_f32:
        memcpy(&f, &b, 4);
        return (double)f;
    case TY_bf16:
        b <<= 16;
        memcpy(&f, &b, 4);
        return (double)f;
    case TY_f16:
        if ((b & 0x7c00) != 0x7c00) return shifted(b & 0x7fff, 13, 0x1p112, b >> 15 & 1);
        break;
    case TY_e4m3:
        if ((b & 0x7f) != 0x7f) return shifted(b & 0x7f, 20, 0x1p120, b >> 7 & 1);
        break;
    case TY_e5m2:
        if ((b & 0x7c) != 0x7c) return shifted(b & 0x7f, 21, 0x1p112, b >> 7 & 1);
        break;
    default: break;
    }
    return type_decode(t, bits);
}

union cell interp_load(const struct interp_tensor *t, int64_t at)
{
    union cell c;
    uint64_t bits = load_bits(t->data, at, type_bits(t->type));
    if (type_is_float(t->type)) c.f = decode(t->type, bits);
    else c.i = tile_wrap(t->type, (int64_t)bits);
    return c;
}

void interp_store(const struct interp_tensor *t, int64_t at, union cell value)
{
    int width = type_bits(t->type);
    uint64_t bits = type_is_float(t->type) ? type_encode(t->type, value.f) : (uint64_t)value.i;
    if (width == 4) {
        uint8_t *b = (uint8_t *)t->data + at / 2;
        *b = (uint8_t)(at % 2 ? (*b & 15) | bits << 4 : (*b & 0xf0) | (bits & 15));
    } else {
        memcpy((char *)t->data + at * (width == 1 ? 1 : width / 8), &bits, (size_t)(width == 1 ? 1 : width / 8));
    }
}

void interp_env_init(struct interp_env *v, const struct ir_fn *fn, const struct interp_tensor *args, const int64_t *dims)
{
    *v = (struct interp_env){ .fn = fn, .args = args, .dims = dims, .units = 1 };
    v->axes = calloc((size_t)fn->axes.n + 1, sizeof *v->axes);
    v->scratch = calloc(1, sizeof *v->scratch);
    for (int i = 0; i < fn->axes.n; i++) {
        const struct ir_axis *x = fn->axes.at[i];
        v->axes[i].extent = v->axes[i].limit = x->tile;
    }
}

void interp_env_free(struct interp_env *v)
{
    pool_free(v->scratch);
    free(v->scratch);
    free(v->axes);
    free(v->error);
    v->scratch = NULL;
    v->axes = NULL;
    v->error = NULL;
}

void interp_fail(struct interp_env *v, struct span at, const char *fmt, ...)
{
    va_list ap;
    if (v->error) return;
    va_start(ap, fmt);
    if (vasprintf(&v->error, fmt, ap) < 0) v->error = NULL;
    va_end(ap);
    v->error_at = at;
}

/* Window axes follow the axis they are of. */
static int64_t origin(struct interp_env *v, const struct ir_axis *x)
{
    return x->of ? floor_div(origin(v, x->of), x->div) : v->axes[x->id].origin;
}

int64_t interp_limit(struct interp_env *v, const struct ir_axis *x)
{
    return x->of ? floor_div(interp_limit(v, x->of) - 1, x->div) + 1 : v->axes[x->id].limit;
}

static bool is_single(const struct interp_env *v, const struct ir_axis *x)
{
    return x->of ? is_single(v, x->of) : v->axes[x->id].single;
}

static int64_t element(const struct interp_env *v, const struct ir_axis *x)
{
    return x->of ? floor_div(element(v, x->of), x->div) : v->axes[x->id].element;
}

static int64_t extent(const struct interp_env *v, const struct ir_axis *x)
{
    return x->of ? x->tile : v->axes[x->id].extent;
}

/* How many coordinates of the current tile exist. */
static int64_t valid(struct interp_env *v, const struct ir_axis *x)
{
    int64_t n = interp_limit(v, x) - origin(v, x), most = extent(v, x);
    return n < 0 ? 0 : n < most ? n : most;
}

void interp_whole_range(struct interp_env *v, const struct ir_axis *x)
{
    struct interp_axis *s = &v->axes[x->id];
    if (!x->lo || !x->hi) return;
    s->origin = interp_eval_int(v, x->lo);
    s->limit = interp_eval_int(v, x->hi);
    s->extent = s->limit > s->origin ? s->limit - s->origin : 0;
}

static struct tile int_tile(struct interp_env *v, enum type t, int64_t value)
{
    struct tile r = tile_scalar(v->scratch, t);
    r.at[0].i = value;
    return r;
}

static struct tile poison_scalar(struct interp_env *v, enum type t)
{
    struct tile r = tile_scalar(v->scratch, t);
    r.at[0] = tile_poison(t);
    return r;
}

#define EVAL(name) static struct tile eval_##name(struct interp_env *v, const struct ir_expr *e)

EVAL(const)
{
    struct tile r = tile_scalar(v->scratch, e->type);
    if (type_is_float(e->type)) r.at[0].f = v->wide && e->type == TY_f32 ? e->real : tile_round(e->type, e->real);
    else r.at[0].i = e->num;
    return r;
}

EVAL(dim) { return int_tile(v, TY_i32, v->dims[e->num]); }

EVAL(arg)
{
    struct tile r = tile_scalar(v->scratch, e->type);
    r.at[0] = interp_load(&v->args[e->tensor->id], 0);
    return r;
}

EVAL(unit) { (void)e; return int_tile(v, TY_i32, v->unit); }
EVAL(units) { (void)e; return int_tile(v, TY_i32, v->units); }
EVAL(rank) { (void)e; return int_tile(v, TY_i32, v->rank); }
EVAL(thread) { (void)e; return int_tile(v, TY_i32, v->thread); }

EVAL(coord)
{
    const struct ir_axis *x = e->axis;
    if (is_single(v, x)) return int_tile(v, TY_i32, element(v, x));
    struct tile r = { .type = TY_i32 };
    tile_add_axis(&r, x, extent(v, x));
    tile_room(v->scratch, &r);
    for (int64_t i = 0; i < r.n; i++) r.at[i].i = origin(v, x) + i;
    return r;
}

EVAL(origin) { return int_tile(v, TY_i32, origin(v, e->axis)); }
EVAL(limit) { return int_tile(v, TY_i32, interp_limit(v, e->axis)); }

/* A variable, at the current element of the axes that are walked one by one. */
EVAL(get)
{
    const struct tile *t = &v->vars[e->var->id];
    struct tile r = { .type = t->type };
    int64_t base = 0, stride[IR_RANK], span = 1;
    if (!t->at) return poison_scalar(v, e->type);
    for (int i = t->naxes - 1; i >= 0; i--) {
        if (!is_single(v, t->axes[i])) tile_add_axis(&r, t->axes[i], t->extent[i]);
        span *= t->extent[i];
    }
    if (r.naxes == t->naxes) return *t;
    for (int i = 0; i < t->naxes; i++) {
        span /= t->extent[i];
        if (is_single(v, t->axes[i])) base += (element(v, t->axes[i]) - origin(v, t->axes[i])) * span;
    }
    tile_room(v->scratch, &r);
    tile_strides(&r, t, stride);
    if (base < 0 || base >= t->n) return poison_scalar(v, t->type);
    for (int64_t i = 0; i < r.n; i++) r.at[i] = t->at[base + tile_offset(&r, stride, i)];
    return r;
}

/* An access tensor[args...]: the elements' places in memory, -1 where an index lies outside. Each argument gives its share
 * of the place, for itself; they are added up row by row. */
struct access {
    struct tile whole;               /* over the axes of all arguments */
    int64_t *place;
};

struct share {
    int64_t *at, stride[IR_RANK], offset, step;
};

static void add_row(const struct share *s, int n, int64_t length, int64_t *place)
{
    int64_t fixed = 0;
    const struct share *moving[IR_RANK];
    int n_moving = 0;
    for (int i = 0; i < n; i++) {
        if (s[i].step) moving[n_moving++] = &s[i];
        else if (s[i].at[s[i].offset] < 0) fixed = -1;
        else if (fixed >= 0) fixed += s[i].at[s[i].offset];
    }
    for (int64_t k = 0; k < length; k++) {
        int64_t p = fixed;
        for (int i = 0; i < n_moving && p >= 0; i++) {
            int64_t one = moving[i]->at[moving[i]->offset + k * moving[i]->step];
            p = one < 0 ? -1 : p + one;
        }
        place[k] = p;
    }
}

/* first, shape, stride: by dimension of the memory; indices count from first. */
static struct access open_access(struct interp_env *v, const struct ir_expr *e, const int64_t *first, const int64_t *shape, const int64_t *stride)
{
    struct access x;
    struct tile args[IR_RANK];
    const struct tile *list[IR_RANK];
    struct share shares[IR_RANK];
    for (int i = 0; i < e->nargs; i++) {
        args[i] = interp_eval(v, e->args[i]);
        list[i] = &args[i];
    }
    x.whole = tile_over(v->scratch, e->type, list, e->nargs);
    x.place = pool_alloc(v->scratch, sizeof *x.place * (size_t)(x.whole.n + 1));
    for (int i = 0; i < e->nargs; i++) {
        tile_strides(&x.whole, &args[i], shares[i].stride);
        shares[i].at = pool_alloc(v->scratch, sizeof *shares[i].at * (size_t)(args[i].n + 1));
        shares[i].step = x.whole.naxes ? shares[i].stride[x.whole.naxes - 1] : 0;
        for (int64_t k = 0; k < args[i].n; k++) {
            int64_t index = args[i].at[k].i - (first ? first[i] : 0);
            shares[i].at[k] = index >= 0 && index < shape[i] ? index * stride[i] : -1;
        }
    }
    int64_t row = x.whole.naxes ? x.whole.extent[x.whole.naxes - 1] : 1;
    for (int64_t at = 0; at < x.whole.n; at += row) {
        for (int i = 0; i < e->nargs; i++) shares[i].offset = tile_offset(&x.whole, shares[i].stride, at);
        add_row(shares, e->nargs, row, x.place + at);
    }
    return x;
}

EVAL(read)
{
    const struct interp_tensor *t = &v->args[e->tensor->id];
    struct access x = open_access(v, e, NULL, t->shape, t->stride);
    const union cell zero = type_is_float(e->type) ? (union cell){ .f = 0 } : (union cell){ .i = 0 };
    for (int64_t i = 0; i < x.whole.n; i++) x.whole.at[i] = x.place[i] >= 0 ? interp_load(t, x.place[i]) : zero;
    return x.whole;
}

static int field_number(const struct ir_field *f)
{
    int i = 0;
    while (f->pipe->fields.at[i] != f) i++;
    return i;
}

/* Coordinates outside the slot's window do not exist: whatever depends on them must be masked, and the poison shows it. */
EVAL(slot)
{
    int64_t shape[IR_RANK], stride[IR_RANK];
    struct interp_slot *s = v->slots ? v->slots[e->field->pipe->id] : NULL;
    if (!s) {
        interp_fail(v, e->span, "'%s' is read outside of produce and consume", e->field->name);
        return poison_scalar(v, e->type);
    }
    int f = field_number(e->field);
    const struct tile *t = &s->fields[f];
    for (int d = 0; d < e->nargs; d++) {
        int dim = tile_axis(t, e->field->axes[d]);
        shape[d] = t->extent[dim];
        stride[d] = 1;
        for (int j = dim + 1; j < t->naxes; j++) stride[d] *= t->extent[j];
    }
    struct access x = open_access(v, e, s->origin[f], shape, stride);
    for (int64_t i = 0; i < x.whole.n; i++) x.whole.at[i] = x.place[i] >= 0 ? t->at[x.place[i]] : tile_poison(e->type);
    return x.whole;
}

EVAL(element)
{
    int64_t stride[IR_RANK], step = 1;
    const struct interp_shared *s = &v->shared[e->shared->id];
    for (int d = s->rank - 1; d >= 0; d--) {
        stride[d] = step;
        step *= s->shape[d];
    }
    struct access x = open_access(v, e, NULL, s->shape, stride);
    for (int64_t i = 0; i < x.whole.n; i++) {
        if (x.place[i] < 0 && !v->quiet) {
            interp_fail(v, e->span, "'%s' is read at %lld, outside of it", e->shared->name, (long long)interp_eval_int(v, e->args[0]));
            return poison_scalar(v, e->type);
        }
        x.whole.at[i] = x.place[i] >= 0 ? s->at[x.place[i]] : tile_poison(e->type);
    }
    return x.whole;
}

static struct tile eval_map(struct interp_env *v, const struct ir_expr *e)
{
    struct tile args[3];
    for (int i = 0; i < e->nargs && i < 3; i++) args[i] = interp_eval(v, e->args[i]);
    return tile_map(v->scratch, e->kind, e->type, args, e->nargs, v->wide);
}

/* Only the chosen side's reads count. */
EVAL(select)
{
    struct tile args[3] = { interp_eval(v, e->args[0]) };
    if (args[0].n == 1 && !args[0].naxes) return interp_eval(v, e->args[args[0].at[0].i ? 1 : 2]);
    v->quiet++;
    args[1] = interp_eval(v, e->args[1]);
    args[2] = interp_eval(v, e->args[2]);
    v->quiet--;
    return tile_map(v->scratch, E_select, e->type, args, 3, v->wide);
}

EVAL(call)
{
    if (v->rand && !strcmp(e->intrinsic->name, "rand") && e->nargs == 2) {
        struct tile lo = interp_eval(v, e->args[0]), hi = interp_eval(v, e->args[1]), r = tile_scalar(v->scratch, e->type);
        bool f = type_is_float(lo.type);
        double x = v->rand(v->rand_state, f ? lo.at[0].f : (double)lo.at[0].i, f ? hi.at[0].f : (double)hi.at[0].i);
        if (type_is_float(e->type)) r.at[0].f = x;
        else r.at[0].i = (int64_t)floor(x);
        return r;
    }
    interp_fail(v, e->span, "the interpreter cannot run the intrinsic '%s'", e->intrinsic->name);
    return poison_scalar(v, e->type);
}

/* Sums of products: sum(k: a * b * ...) without building the product over all axes. */

static int factors_of(const struct ir_expr *e, const struct ir_expr **out, int n, int most)
{
    if (e->kind == E_mul && type_is_float(e->type)) return factors_of(e->args[1], out, factors_of(e->args[0], out, n, most), most);
    if (n < most) out[n] = e;
    return n + 1;
}

static struct tile product(struct interp_env *v, const struct tile *a, const struct tile *b)
{
    struct tile args[2] = { *a, *b };
    return tile_map(v->scratch, E_mul, a->type, args, 2, v->wide);
}

static double volume(const struct tile *a, const struct tile *b)
{
    double n = 1;
    for (int i = 0; i < a->naxes; i++) n *= (double)a->extent[i];
    for (int i = 0; b && i < b->naxes; i++)
        if (tile_axis(a, b->axes[i]) < 0) n *= (double)b->extent[i];
    return n;
}

/* Multiplies factors, cheapest pair first, until two are left, or all whose product is no larger than one of them. */
static int merge_factors(struct interp_env *v, struct tile *f, int n)
{
    for (;;) {
        int best_i = -1, best_j = -1;
        double best = 0;
        for (int i = 0; i < n; i++)
            for (int j = i + 1; j < n; j++) {
                double grown = volume(&f[i], &f[j]) / (double)(f[i].n > f[j].n ? f[i].n : f[j].n);
                if (best_i < 0 || grown < best) best = grown, best_i = i, best_j = j;
            }
        if (best_i < 0 || (n == 2 && best > 1) || n == 1) return n;
        f[best_i] = product(v, &f[best_i], &f[best_j]);
        f[best_j] = f[--n];
    }
}

/* The arrays of a contraction: which axes, in which order, and how far each is taken. */
struct packing {
    const struct ir_axis *axes[3 * IR_RANK];
    int64_t size[3 * IR_RANK];
    int naxes;
};

static void pack_axis(struct packing *p, const struct ir_axis *x, int64_t size)
{
    p->axes[p->naxes] = x;
    p->size[p->naxes++] = size;
}

static bool is_among(const struct ir_axis *x, const struct ir_axis *const *list, int n)
{
    for (int i = 0; i < n; i++)
        if (list[i] == x) return true;
    return false;
}

/* Adds the axes of t, but the contracted ones, that `other` has (or has not). Returns how many elements they span. */
static int64_t pack_axes(struct packing *p, const struct tile *t, const struct tile *other, bool shared, const struct ir_axis *const *k, int nk)
{
    int64_t n = 1;
    for (int i = 0; i < t->naxes; i++) {
        if (is_among(t->axes[i], k, nk) || (tile_axis(other, t->axes[i]) >= 0) != shared) continue;
        pack_axis(p, t->axes[i], t->extent[i]);
        n *= t->extent[i];
    }
    return n;
}

static double *packed(struct interp_env *v, const struct tile *t, const struct packing *p)
{
    int64_t n = 1;
    for (int i = 0; i < p->naxes; i++) n *= p->size[i];
    double *out = pool_alloc(v->scratch, sizeof *out * (size_t)(n + 1));
    tile_pack(out, t, p->axes, p->size, p->naxes);
    return out;
}

struct tile interp_contract(struct interp_env *v, const struct tile *a, const struct tile *b, const struct ir_axis *const *k, int nk)
{
    struct packing pa = { 0 }, pb = { 0 }, pr = { 0 };
    int64_t batch = pack_axes(&pa, a, b, true, k, nk), n_k = 1;
    pack_axes(&pb, a, b, true, k, nk); /* the same order on both sides */
    pack_axes(&pr, a, b, true, k, nk);
    int64_t m = pack_axes(&pa, a, b, false, k, nk);
    pack_axes(&pr, a, b, false, k, nk);
    for (int i = 0; i < nk; i++) {
        pack_axis(&pa, k[i], valid(v, k[i]));
        pack_axis(&pb, k[i], valid(v, k[i]));
        n_k *= valid(v, k[i]);
    }
    int64_t n = pack_axes(&pb, b, a, false, k, nk);
    pack_axes(&pr, b, a, false, k, nk);
    double *out = pool_alloc(v->scratch, sizeof *out * (size_t)(batch * m * n + 1));
    tile_contract(out, packed(v, a, &pa), packed(v, b, &pb), batch, m, n, n_k);
    struct tile r = { .type = TY_f32 };
    int64_t stride[IR_RANK];
    for (int i = 0; i < pr.naxes; i++) tile_add_axis(&r, pr.axes[i], pr.size[i]);
    tile_room(v->scratch, &r);
    for (int i = 0; i < r.naxes; i++) { /* r has its axes in the order of ids */
        int at = 0;
        while (pr.axes[at] != r.axes[i]) at++;
        stride[i] = 1;
        for (int j = at + 1; j < pr.naxes; j++) stride[i] *= pr.size[j];
    }
    for (int64_t i = 0; i < r.n; i++) r.at[i].f = out[tile_offset(&r, stride, i)];
    return r;
}

#define MOST_FACTORS 12

/* One reduction of sum over k of e, e a product. */
static bool sum_of_product(struct interp_env *v, const struct ir_expr *e, const struct ir_axis *k, struct tile *r)
{
    const struct ir_expr *list[MOST_FACTORS];
    struct tile f[MOST_FACTORS];
    int n = factors_of(e, list, 0, MOST_FACTORS);
    if (n < 2 || n > MOST_FACTORS || !type_is_float(e->type)) return false;
    for (int i = 0; i < n; i++) f[i] = interp_eval(v, list[i]);
    n = merge_factors(v, f, n);
    if (n == 1) {
        int dim = tile_axis(&f[0], k);
        if (dim < 0) return false;
        *r = tile_reduce(v->scratch, RED_sum, &f[0], dim, valid(v, k), v->wide);
        return true;
    }
    if (tile_axis(&f[0], k) < 0 || tile_axis(&f[1], k) < 0) return false;
    *r = interp_contract(v, &f[0], &f[1], &k, 1);
    r->type = e->type;
    for (int64_t i = 0; !v->wide && i < r->n; i++) r->at[i].f = tile_round(r->type, r->at[i].f);
    return true;
}

/* Coordinate by coordinate, where bounds of axes inside depend on this one. */
static struct tile reduce_by_one(struct interp_env *v, const struct ir_expr *e)
{
    struct interp_axis *x = &v->axes[e->axis->id];
    int64_t from = x->origin, to = x->limit;
    struct tile total = { 0 };
    x->single = true;
    for (int64_t i = from; i < to; i++) {
        x->element = i;
        struct tile t = interp_eval(v, e->args[0]);
        if (i == from) {
            total = t;
            continue;
        }
        const struct tile *both[2] = { &total, &t };
        struct tile sum = tile_over(v->scratch, e->type, both, 2), other = sum;
        tile_room(v->scratch, &other);
        tile_broadcast(&sum, &total);
        tile_broadcast(&other, &t);
        for (int64_t j = 0; j < sum.n; j++)
            sum.at[j] = tile_combine((enum ir_reduce)e->num, e->type, sum.at[j], other.at[j], v->wide);
        total = sum;
    }
    x->single = false;
    if (to > from) return total;
    struct tile none = { .type = e->type };
    tile_add_axis(&none, e->axis, 0);
    tile_room(v->scratch, &none);
    return tile_reduce(v->scratch, (enum ir_reduce)e->num, &none, 0, 0, v->wide);
}

EVAL(reduce)
{
    struct tile t, r;
    if (e->axis->lo) interp_whole_range(v, e->axis);
    if (v->axes[e->axis->id].loops) return reduce_by_one(v, e);
    if (v->contracts && e->num == RED_sum && sum_of_product(v, e->args[0], e->axis, &r)) return r;
    t = interp_eval(v, e->args[0]);
    int dim = tile_axis(&t, e->axis);
    if (dim < 0) { /* the same for every coordinate */
        struct tile wide = t;
        const struct tile *list[1] = { &t };
        wide = tile_over(v->scratch, t.type, list, 1);
        tile_add_axis(&wide, e->axis, extent(v, e->axis));
        tile_room(v->scratch, &wide);
        tile_broadcast(&wide, &t);
        t = wide;
        dim = tile_axis(&t, e->axis);
    }
    return tile_reduce(v->scratch, (enum ir_reduce)e->num, &t, dim, valid(v, e->axis), v->wide);
}

/* A part's variables, but for those that the body of combine sets: these are what they are now. */
static struct tile *part_vars(struct interp_env *v, const struct tile *now, int part)
{
    struct tile *mixed = pool_alloc(v->scratch, sizeof *mixed * (size_t)(v->fn->vars.n + 1));
    for (int i = 0; i < v->fn->vars.n; i++) mixed[i] = v->part_own[i] ? now[i] : v->parts[part].vars[i];
    return mixed;
}

/* Part by part, in order; each step rounds. */
EVAL(parts)
{
    struct tile *here = v->vars, total = { 0 };
    if (!v->parts) {
        interp_fail(v, e->span, "parts outside of combine");
        return poison_scalar(v, e->type);
    }
    for (int i = 0; i < v->n_parts; i++) {
        v->vars = part_vars(v, here, i);
        struct tile t = interp_eval(v, e->args[0]);
        for (int64_t j = 0; i && j < total.n; j++)
            total.at[j] = tile_combine((enum ir_reduce)e->num, e->type, total.at[j], t.at[j], v->wide);
        if (i) continue;
        const struct tile *list[1] = { &t };
        total = tile_over(v->scratch, t.type, list, 1); /* a copy: t may be a variable itself */
        tile_broadcast(&total, &t);
    }
    v->vars = here;
    return total;
}

typedef struct tile eval_fn(struct interp_env *, const struct ir_expr *);
static eval_fn *const evals[] = {
    [E_const] = eval_const, [E_dim] = eval_dim, [E_arg] = eval_arg, [E_unit] = eval_unit, [E_units] = eval_units,
    [E_rank] = eval_rank, [E_thread] = eval_thread, [E_coord] = eval_coord, [E_origin] = eval_origin,
    [E_limit] = eval_limit, [E_get] = eval_get, [E_read] = eval_read, [E_slot] = eval_slot, [E_element] = eval_element,
    [E_select] = eval_select, [E_call] = eval_call, [E_reduce] = eval_reduce, [E_parts] = eval_parts, [E_COUNT] = NULL,
};

struct tile interp_eval(struct interp_env *v, const struct ir_expr *e)
{
    return evals[e->kind] ? evals[e->kind](v, e) : eval_map(v, e);
}

int64_t interp_eval_int(struct interp_env *v, const struct ir_expr *e)
{
    struct tile t = interp_eval(v, e);
    if (t.n != 1) {
        interp_fail(v, e->span, "a number is wanted here, this is a tile of %lld", (long long)t.n);
        return 0;
    }
    return t.at[0].i;
}

/* Counts what interp_eval builds: the axes below each node, contracted axes apart. Returns the axes of e in `t`. */
struct room {
    double most, work;
};

static void room(struct interp_env *v, const struct ir_expr *e, struct tile *t, struct room *sum)
{
    *t = (struct tile){ .type = e->type };
    if (e->kind == E_coord && !is_single(v, e->axis)) tile_add_axis(t, e->axis, extent(v, e->axis));
    if (e->kind == E_reduce && e->axis->lo) interp_whole_range(v, e->axis);
    const struct ir_expr *list[MOST_FACTORS];
    const struct ir_expr *body = e->kind == E_reduce ? e->args[0] : NULL;
    int n = body && v->contracts && e->num == RED_sum ? factors_of(body, list, 0, MOST_FACTORS) : 0;
    bool split = n >= 2 && n <= MOST_FACTORS;
    for (int i = 0; i < (split ? n : e->nargs); i++) {
        struct tile arg;
        room(v, split ? list[i] : e->args[i], &arg, sum);
        for (int j = 0; j < arg.naxes; j++)
            if (!split || arg.axes[j] != e->axis) tile_add_axis(t, arg.axes[j], arg.extent[j]);
    }
    double n_here = volume(t, NULL);
    if (n_here > sum->most) sum->most = n_here;
    sum->work += split ? n_here * (double)extent(v, e->axis) / 8 : n_here; /* a contraction's step is that much cheaper */
    int dim = e->kind == E_reduce ? tile_axis(t, e->axis) : -1;
    if (dim < 0) return;
    for (int i = dim; i + 1 < t->naxes; i++) t->axes[i] = t->axes[i + 1], t->extent[i] = t->extent[i + 1];
    t->naxes--;
}

double interp_room(struct interp_env *v, const struct ir_expr *e, double *work)
{
    struct tile t;
    struct room sum = { .most = 1 };
    room(v, e, &t, &sum);
    if (work) *work = sum.work;
    return sum.most;
}
