/* tile - arithmetic on dense arrays over axes. */
#include "compiler/tile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct pool_chunk {
    struct pool_chunk *next;
    size_t used, size;
    _Alignas(16) char data[];
};

void *pool_alloc(struct pool *p, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    struct pool_chunk *c = p->head;
    if (c && c->size - c->used >= bytes) goto take;
    if (p->spare && p->spare->size >= bytes) {
        c = p->spare;
        p->spare = NULL;
    } else {
        size_t size = bytes > 1 << 20 ? bytes : 1 << 20;
        c = malloc(sizeof *c + size);
        if (!c) base_oom(bytes);
        c->size = size;
    }
    c->used = 0;
    c->next = p->head;
    p->head = c;
take:
    c->used += bytes;
    return c->data + c->used - bytes;
}

/* Keeps the largest chunk. */
void pool_reset(struct pool *p)
{
    for (struct pool_chunk *c = p->head, *next; c; c = next) {
        next = c->next;
        if (!p->spare || c->size > p->spare->size) {
            free(p->spare);
            p->spare = c;
        } else {
            free(c);
        }
    }
    p->head = NULL;
}

void pool_free(struct pool *p)
{
    pool_reset(p);
    free(p->spare);
    p->spare = NULL;
}

int tile_axis(const struct tile *t, const struct ir_axis *axis)
{
    for (int i = 0; i < t->naxes; i++)
        if (t->axes[i] == axis) return i;
    return -1;
}

void tile_add_axis(struct tile *t, const struct ir_axis *axis, int64_t extent)
{
    int at = 0;
    while (at < t->naxes && t->axes[at]->id < axis->id) at++;
    if ((at < t->naxes && t->axes[at] == axis) || t->naxes == IR_RANK) return;
    for (int i = t->naxes; i > at; i--) {
        t->axes[i] = t->axes[i - 1];
        t->extent[i] = t->extent[i - 1];
    }
    t->axes[at] = axis;
    t->extent[at] = extent;
    t->naxes++;
}

void tile_room(struct pool *p, struct tile *t)
{
    t->n = 1;
    for (int i = 0; i < t->naxes; i++) t->n *= t->extent[i];
    t->at = pool_alloc(p, sizeof *t->at * (size_t)(t->n ? t->n : 1));
}

struct tile tile_scalar(struct pool *p, enum type type)
{
    struct tile t = { .type = type };
    tile_room(p, &t);
    return t;
}

struct tile tile_over(struct pool *p, enum type type, const struct tile *const *args, int n)
{
    struct tile t = { .type = type };
    for (int i = 0; i < n; i++)
        for (int j = 0; j < args[i]->naxes; j++) tile_add_axis(&t, args[i]->axes[j], args[i]->extent[j]);
    tile_room(p, &t);
    return t;
}

void tile_strides(const struct tile *whole, const struct tile *part, int64_t *stride)
{
    for (int i = 0; i < whole->naxes; i++) {
        int at = tile_axis(part, whole->axes[i]);
        stride[i] = at < 0 ? 0 : 1;
        for (int j = at + 1; at >= 0 && j < part->naxes; j++) stride[i] *= part->extent[j];
    }
}

int64_t tile_offset(const struct tile *whole, const int64_t *stride, int64_t at)
{
    int64_t offset = 0;
    for (int i = whole->naxes - 1; i >= 0; i--) {
        offset += at % whole->extent[i] * stride[i];
        at /= whole->extent[i];
    }
    return offset;
}

double tile_round(enum type t, double v)
{
    if (t == TY_f32) return (double)(float)v;
    return type_decode(t, type_encode(t, v));
}

int64_t tile_wrap(enum type t, int64_t v)
{
    switch (t) {
    case TY_bool: return v & 1;
    case TY_i8: return (int8_t)v;
    case TY_u8: return (uint8_t)v;
    case TY_i16: return (int16_t)v;
    case TY_u16: return (uint16_t)v;
    case TY_i32: return (int32_t)v;
    case TY_u32: return (uint32_t)v;
    default: return v;
    }
}

union cell tile_poison(enum type t)
{
    union cell c;
    if (type_is_float(t)) c.f = (double)NAN;
    else c.i = tile_wrap(t, (int64_t)0xA5A5A5A5A5A5A5A5u);
    return c;
}

/* Casts. Floats to integers truncate and saturate, a NaN is 0. */
static int64_t float_to_int(enum type t, double v)
{
    int bits = type_bits(t);
    if (t == TY_bool) return v != 0;
    if (isnan(v)) return 0;
    bool is_signed = type_kind(t) == TYPE_INT;
    double least = is_signed ? -ldexp(1, bits - 1) : 0, past = ldexp(1, is_signed ? bits - 1 : bits);
    if (v <= least) return (int64_t)least;
    if (v >= past) return bits == 64 ? (is_signed ? INT64_MAX : -1) : (int64_t)past - 1;
    return v >= 9223372036854775808.0 ? (int64_t)(uint64_t)v : (int64_t)v;
}

/* To nearest, ties away from zero: what cvt.rna.tf32 does. */
static double round_tf32(double v)
{
    float f = (float)v;
    uint32_t b;
    if (!isfinite(v)) return v;
    memcpy(&b, &f, 4);
    b = (b + 0x1000) & ~0x1fffu;
    memcpy(&f, &b, 4);
    return (double)f;
}

static double int_to_double(enum type from, int64_t v)
{
    return from == TY_u64 ? (double)(uint64_t)v : (double)v;
}

static union cell cast(enum type from, enum type to, union cell c, bool wide)
{
    union cell r;
    if (type_is_float(to)) {
        r.f = type_is_float(from) ? c.f : int_to_double(from, c.i);
        if (to == TY_tf32) r.f = round_tf32(r.f);
        else if (!wide || to != TY_f32) r.f = tile_round(to, r.f);
    } else if (type_is_float(from)) {
        r.i = float_to_int(to, c.f);
    } else {
        r.i = to == TY_bool ? c.i != 0 : tile_wrap(to, c.i);
    }
    return r;
}

/* Bits of a value, or the value of bits. */
static union cell bits(enum type from, enum type to, union cell c)
{
    union cell r;
    if (type_is_float(to)) r.f = type_decode(to, (uint64_t)c.i);
    else r.i = tile_wrap(to, type_is_float(from) ? (int64_t)type_encode(from, c.f) : c.i);
    return r;
}

static double float_min(double x, double y)
{
    if (isnan(x)) return y;
    if (isnan(y)) return x;
    return x < y || (x == y && signbit(x)) ? x : y;
}

static double float_max(double x, double y)
{
    if (isnan(x)) return y;
    if (isnan(y)) return x;
    return x > y || (x == y && !signbit(x)) ? x : y;
}

static bool int_less(enum type t, int64_t x, int64_t y)
{
    return t == TY_u64 ? (uint64_t)x < (uint64_t)y : x < y;
}

static int64_t int_div(enum type t, int64_t x, int64_t y)
{
    if (y == 0) return -1;
    if (t == TY_u64) return (int64_t)((uint64_t)x / (uint64_t)y);
    if (y == -1) return (int64_t)(0 - (uint64_t)x);
    return floor_div(x, y);
}

static int64_t int_mod(enum type t, int64_t x, int64_t y)
{
    if (y == 0) return x;
    if (t == TY_u64) return (int64_t)((uint64_t)x % (uint64_t)y);
    if (y == -1) return 0;
    return floor_mod(x, y);
}

static int64_t shift_right(enum type t, int64_t x, int64_t by)
{
    if (by < 0 || by >= type_bits(t)) return type_kind(t) == TYPE_INT && x < 0 ? -1 : 0;
    return t == TY_u64 ? (int64_t)((uint64_t)x >> by) : x >> by;
}

static int64_t shift_left(enum type t, int64_t x, int64_t by)
{
    return by < 0 || by >= type_bits(t) ? 0 : (int64_t)((uint64_t)x << by);
}

static int64_t leading_zeros(enum type t, int64_t x)
{
    int n = 0;
    for (int b = type_bits(t) - 1; b >= 0 && !((uint64_t)x >> b & 1); b--) n++;
    return n;
}

/* A run of elements: d[i] = kind(a[i * step[0]], b[i * step[1]], c[i * step[2]]). */
struct run {
    enum ir_expr_kind kind;
    enum type type, from; /* of the result, of the operands */
    bool wide;
    int64_t n, step[3];
    union cell *d;
    const union cell *arg[3];
};

#define X (a[i * r->step[0]])
#define Y (b[i * r->step[1]])
#define Z (c[i * r->step[2]])
#define FLOAT(op, e) case E_##op: for (int64_t i = 0; i < r->n; i++) d[i].f = (e); return true;
#define INT(op, e) case E_##op: for (int64_t i = 0; i < r->n; i++) d[i].i = (e); return true;
#define ARGS const union cell *a = r->arg[0], *b = r->arg[1], *c = r->arg[2]; union cell *d = r->d; (void)b, (void)c

static bool run_float(const struct run *r)
{
    ARGS;
    switch ((int)r->kind) {
    FLOAT(neg, -X.f)
    FLOAT(add, X.f + Y.f)
    FLOAT(sub, X.f - Y.f)
    FLOAT(mul, X.f * Y.f)
    FLOAT(div, X.f / Y.f)
    FLOAT(mod, X.f - floor(X.f / Y.f) * Y.f)
    FLOAT(min, float_min(X.f, Y.f))
    FLOAT(max, float_max(X.f, Y.f))
    FLOAT(fma, r->type == TY_f32 && !r->wide ? (double)fmaf((float)X.f, (float)Y.f, (float)Z.f) : fma(X.f, Y.f, Z.f))
    FLOAT(abs, fabs(X.f))
    FLOAT(exp2, exp2(X.f))
    FLOAT(log2, log2(X.f))
    FLOAT(rcp, 1 / X.f)
    FLOAT(rsqrt, 1 / sqrt(X.f))
    FLOAT(sqrt, sqrt(X.f))
    FLOAT(tanh, tanh(X.f))
    FLOAT(sin, sin(X.f))
    FLOAT(cos, cos(X.f))
    default: return false;
    }
}

static bool run_int(const struct run *r)
{
    enum type t = r->from;
    ARGS;
    switch ((int)r->kind) {
    INT(neg, (int64_t)(0 - (uint64_t)X.i))
    INT(not, r->type == TY_bool ? !X.i : ~X.i)
    INT(add, (int64_t)((uint64_t)X.i + (uint64_t)Y.i))
    INT(sub, (int64_t)((uint64_t)X.i - (uint64_t)Y.i))
    INT(mul, (int64_t)((uint64_t)X.i * (uint64_t)Y.i))
    INT(div, int_div(t, X.i, Y.i))
    INT(mod, int_mod(t, X.i, Y.i))
    INT(min, int_less(t, X.i, Y.i) ? X.i : Y.i)
    INT(max, int_less(t, X.i, Y.i) ? Y.i : X.i)
    INT(and, X.i & Y.i)
    INT(or, X.i | Y.i)
    INT(xor, X.i ^ Y.i)
    INT(shl, shift_left(t, X.i, Y.i))
    INT(shr, shift_right(t, X.i, Y.i))
    INT(fma, (int64_t)((uint64_t)X.i * (uint64_t)Y.i + (uint64_t)Z.i))
    INT(abs, X.i < 0 ? -X.i : X.i)
    INT(popc, __builtin_popcountll((uint64_t)X.i & (~0ull >> (64 - type_bits(t)))))
    INT(clz, leading_zeros(t, X.i))
    default: return false;
    }
}

static bool run_compare(const struct run *r)
{
    ARGS;
    if (type_is_float(r->from)) {
        switch ((int)r->kind) {
        INT(lt, X.f < Y.f)
        INT(le, X.f <= Y.f)
        INT(eq, X.f == Y.f)
        INT(ne, X.f != Y.f)
        default: return false;
        }
    }
    switch ((int)r->kind) {
    INT(lt, int_less(r->from, X.i, Y.i))
    INT(le, !int_less(r->from, Y.i, X.i))
    INT(eq, X.i == Y.i)
    INT(ne, X.i != Y.i)
    default: return false;
    }
}

static bool run_moves(const struct run *r)
{
    ARGS;
    switch ((int)r->kind) {
    case E_select: for (int64_t i = 0; i < r->n; i++) d[i] = X.i ? Y : Z; return true;
    case E_cast: for (int64_t i = 0; i < r->n; i++) d[i] = cast(r->from, r->type, X, r->wide); return true;
    case E_bits: for (int64_t i = 0; i < r->n; i++) d[i] = bits(r->from, r->type, X); return true;
    default: return false;
    }
}

static void round_run(const struct run *r)
{
    if (type_is_float(r->type)) {
        if (r->type == TY_f32 && r->wide) return;
        if (r->type == TY_f32) {
            for (int64_t i = 0; i < r->n; i++) r->d[i].f = (double)(float)r->d[i].f;
            return;
        }
        for (int64_t i = 0; i < r->n; i++) r->d[i].f = tile_round(r->type, r->d[i].f);
    } else if (r->type == TY_i32) {
        for (int64_t i = 0; i < r->n; i++) r->d[i].i = (int32_t)r->d[i].i;
    } else {
        for (int64_t i = 0; i < r->n; i++) r->d[i].i = tile_wrap(r->type, r->d[i].i);
    }
}

static void run(const struct run *r)
{
    if (run_moves(r) || run_compare(r)) return;
    if (type_is_float(r->type) ? run_float(r) : run_int(r)) round_run(r);
    else for (int64_t i = 0; i < r->n; i++) r->d[i] = tile_poison(r->type);
}

static bool same_shape(const struct tile *a, const struct tile *b)
{
    if (a->naxes != b->naxes) return false;
    for (int i = 0; i < a->naxes; i++)
        if (a->axes[i] != b->axes[i]) return false;
    return true;
}

struct tile tile_map(struct pool *p, enum ir_expr_kind kind, enum type type, const struct tile *args, int n, bool wide)
{
    const struct tile *list[3] = { &args[0], n > 1 ? &args[1] : NULL, n > 2 ? &args[2] : NULL };
    struct tile t = tile_over(p, type, list, n);
    struct run r = { .kind = kind, .type = type, .from = args[0].type, .wide = wide, .d = t.at, .n = t.n };
    int64_t stride[3][IR_RANK];
    bool flat = true;
    for (int i = 0; i < n; i++) {
        r.arg[i] = args[i].at;
        r.step[i] = args[i].n == 1 && !same_shape(&t, &args[i]) ? 0 : 1;
        flat &= args[i].n == 1 || same_shape(&t, &args[i]);
        tile_strides(&t, &args[i], stride[i]);
    }
    if (flat || t.n == 0) {
        if (t.n) run(&r);
        return t;
    }
    int last = t.naxes - 1;
    r.n = t.extent[last];
    for (int i = 0; i < n; i++) r.step[i] = stride[i][last];
    for (int64_t at = 0; at < t.n; at += r.n) {
        for (int i = 0; i < n; i++) r.arg[i] = args[i].at + tile_offset(&t, stride[i], at);
        r.d = t.at + at;
        run(&r);
    }
    return t;
}

static union cell neutral(enum ir_reduce op, enum type t)
{
    union cell c = { .i = 0 };
    bool f = type_is_float(t), is_signed = type_kind(t) == TYPE_INT;
    int width = type_bits(t);
    switch (op) {
    case RED_max:
        if (f) c.f = -(double)INFINITY;
        else c.i = is_signed ? (int64_t)(~0ull << (width - 1)) : 0;
        break;
    case RED_min:
        if (f) c.f = (double)INFINITY;
        else c.i = (int64_t)(~0ull >> (64 - width + is_signed));
        break;
    case RED_all: c.i = 1; break;
    case RED_and: c.i = tile_wrap(t, -1); break;
    default:
        if (f) c.f = 0;
    }
    return c;
}

union cell tile_combine(enum ir_reduce op, enum type t, union cell a, union cell b, bool wide)
{
    static const enum ir_expr_kind kinds[RED_COUNT] = {
        [RED_sum] = E_add, [RED_max] = E_max, [RED_min] = E_min, [RED_any] = E_or, [RED_all] = E_and,
        [RED_and] = E_and, [RED_or] = E_or, [RED_xor] = E_xor,
    };
    if (op == RED_exch) return b;
    union cell d;
    struct run r = { .kind = kinds[op], .type = t, .from = t, .wide = wide, .n = 1, .d = &d, .arg = { &a, &b } };
    run(&r);
    return d;
}

/* A float sum is rounded once, at its end: this is the oracle's own rounding, no order of adding is promised. */
struct tile tile_reduce(struct pool *p, enum ir_reduce op, const struct tile *t, int dim, int64_t valid, bool wide)
{
    struct tile r = { .type = t->type };
    int64_t inner = 1, all = t->extent[dim];
    for (int i = 0; i < t->naxes; i++)
        if (i != dim) tile_add_axis(&r, t->axes[i], t->extent[i]);
    for (int i = dim + 1; i < t->naxes; i++) inner *= t->extent[i];
    tile_room(p, &r);
    bool sum = op == RED_sum && type_is_float(t->type);
    for (int64_t o = 0; o < r.n; o += inner) {
        for (int64_t i = 0; i < inner; i++) r.at[o + i] = neutral(op, t->type);
        const union cell *from = t->at + o * all;
        for (int64_t k = 0; k < valid && k < all; k++, from += inner)
            for (int64_t i = 0; i < inner; i++) {
                if (sum) r.at[o + i].f += from[i].f;
                else if (op == RED_max && type_is_float(t->type)) r.at[o + i].f = float_max(r.at[o + i].f, from[i].f);
                else if (op == RED_sum) r.at[o + i].i = tile_wrap(t->type, (int64_t)((uint64_t)r.at[o + i].i + (uint64_t)from[i].i));
                else r.at[o + i] = tile_combine(op, t->type, r.at[o + i], from[i], wide);
            }
    }
    for (int64_t i = 0; sum && !(wide && r.type == TY_f32) && i < r.n; i++) r.at[i].f = tile_round(r.type, r.at[i].f);
    return r;
}

void tile_broadcast(struct tile *dst, const struct tile *src)
{
    int64_t stride[IR_RANK];
    if (same_shape(dst, src)) {
        memcpy(dst->at, src->at, sizeof *dst->at * (size_t)dst->n);
        return;
    }
    tile_strides(dst, src, stride);
    int64_t row = dst->naxes ? dst->extent[dst->naxes - 1] : 1, step = dst->naxes ? stride[dst->naxes - 1] : 0;
    for (int64_t at = 0; at < dst->n; at += row) {
        const union cell *from = src->at + tile_offset(dst, stride, at);
        for (int64_t i = 0; i < row; i++) dst->at[at + i] = from[i * step];
    }
}

void tile_pack(double *out, const struct tile *t, const struct ir_axis *const *order, const int64_t *valid, int n)
{
    int64_t stride[3 * IR_RANK], at[3 * IR_RANK] = { 0 }, offset = 0, total = 1;
    bool is_float = type_is_float(t->type);
    for (int i = 0; i < n; i++) {
        int dim = tile_axis(t, order[i]);
        stride[i] = dim < 0 ? 0 : 1;
        for (int j = dim + 1; dim >= 0 && j < t->naxes; j++) stride[i] *= t->extent[j];
        total *= valid[i];
    }
    for (int64_t k = 0; k < total; k++) {
        out[k] = is_float ? t->at[offset].f : int_to_double(t->type, t->at[offset].i);
        for (int i = n - 1; i >= 0; i--) {
            offset += stride[i];
            if (++at[i] < valid[i]) break;
            offset -= at[i] * stride[i];
            at[i] = 0;
        }
    }
}

void tile_contract(double *r, const double *a, const double *b, int64_t batch, int64_t m, int64_t n, int64_t k)
{
    for (int64_t z = 0; z < batch; z++, a += m * k, b += k * n)
        for (int64_t i = 0; i < m; i++, r += n) {
            for (int64_t j = 0; j < n; j++) r[j] = 0;
            for (int64_t l = 0; l < k; l++) {
                double x = a[i * k + l];
                const double *row = b + l * n;
                for (int64_t j = 0; j < n; j++) r[j] += x * row[j];
            }
        }
}
