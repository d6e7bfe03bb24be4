/* tensor - memory, elements, layouts and conversion; what a command line names. */
#include "runtime/tensor.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int tensor_item_bits(enum type t) { return t == TY_bool ? 8 : type_bits(t); }

int64_t tensor_count(const struct tensor *t)
{
    int64_t n = 1;
    for (int d = 0; d < t->rank; d++) n *= t->shape[d];
    return n;
}

int tensor_alignment(const struct tensor *t, int inner)
{
    uint64_t bits = t->address * 8 | 128; /* a multiple of what all of these are */
    for (int d = 0; d < t->rank; d++)
        if (d != inner && t->shape[d] > 1) bits |= (uint64_t)t->stride[d] * (uint64_t)tensor_item_bits(t->type);
    return (int)((bits & -bits) / 8);
}

size_t tensor_span(const struct tensor *t)
{
    int64_t last = 0;
    for (int d = 0; d < t->rank; d++) {
        if (t->shape[d] == 0) return 0;
        last += (t->shape[d] - 1) * t->stride[d];
    }
    return ((size_t)(last + 1) * (size_t)tensor_item_bits(t->type) + 7) / 8;
}

void tensor_layout(struct tensor *t, int inner, const int *align)
{
    if (inner < 0) inner = t->rank - 1;
    int64_t step = 1;
    for (int i = 0, d; i < t->rank; i++) {
        d = i == 0 ? inner : t->rank - i - (t->rank - i <= inner);
        if (i && align && align[d] > 1) step = ceil_div(step, align[d]) * align[d];
        t->stride[d] = step;
        step *= t->shape[d] > 0 ? t->shape[d] : 1;
    }
}

void tensor_row_major(struct tensor *t) { tensor_layout(t, -1, NULL); }

bool tensor_contiguous(const struct tensor *t)
{
    struct tensor dense = *t;
    tensor_row_major(&dense);
    for (int d = 0; d < t->rank; d++)
        if (t->shape[d] > 1 && t->stride[d] != dense.stride[d]) return false;
    return true;
}

const char *tensor_shape_text(const struct tensor *t, char *to, size_t room)
{
    size_t n = 0;
    for (int d = 0; d < t->rank && n < room; d++)
        n += (size_t)snprintf(to + n, room - n, "%s%" PRId64, d ? ", " : "[", t->shape[d]);
    if (n < room) snprintf(to + n, room - n, t->rank ? "]" : "[]");
    return to;
}

enum dgk_status tensor_allocate(struct tensor *t, struct fault *why)
{
    size_t bytes = tensor_span(t);
    t->owned = t->data = calloc(bytes + 1, 1);
    if (!t->data) return fault_set(why, DGK_NO_MEMORY, "no memory for a tensor of %zu bytes", bytes);
    return DGK_OK;
}

void tensor_free(struct tensor *t)
{
    free(t->owned);
    t->owned = t->data = NULL;
}

uint64_t tensor_bits(const struct tensor *t, int64_t at)
{
    const unsigned char *p = t->data;
    switch (tensor_item_bits(t->type)) {
    case 4: return p[at / 2] >> (at & 1) * 4 & 15;
    case 8: return p[at];
    case 16: { uint16_t v; memcpy(&v, p + at * 2, 2); return v; }
    case 32: { uint32_t v; memcpy(&v, p + at * 4, 4); return v; }
    default: { uint64_t v; memcpy(&v, p + at * 8, 8); return v; }
    }
}

void tensor_set_bits(struct tensor *t, int64_t at, uint64_t bits)
{
    unsigned char *p = t->data;
    int width = tensor_item_bits(t->type);
    if (width == 4) p[at / 2] = (unsigned char)((p[at / 2] & 0xf0 >> (at & 1) * 4) | (bits & 15) << (at & 1) * 4);
    else memcpy(p + at * (width / 8), &bits, (size_t)width / 8); /* little-endian, as every host of these devices */
}

static double int_value(enum type type, uint64_t bits)
{
    int unused = 64 - tensor_item_bits(type);
    if (type == TY_bool) return bits != 0;
    if (type_kind(type) == TYPE_UINT) return (double)bits;
    return (double)((int64_t)(bits << unused) >> unused);
}

/* Rounds toward zero and saturates; a NaN becomes 0. */
static uint64_t int_bits(enum type type, double v)
{
    int bits = type_bits(type);
    if (type == TY_bool) return v != 0;
    if (v != v) return 0;
    if (type_kind(type) == TYPE_UINT) return v <= 0 ? 0 : v >= ldexp(1, bits) ? UINT64_MAX >> (64 - bits) : (uint64_t)v;
    if (v >= ldexp(1, bits - 1)) return UINT64_MAX >> (65 - bits);
    if (v < -ldexp(1, bits - 1)) return (uint64_t)1 << (bits - 1);
    return (uint64_t)(int64_t)v;
}

static double decode(enum type t, uint64_t bits) { return type_is_float(t) ? type_decode(t, bits) : int_value(t, bits); }
static uint64_t encode(enum type t, double v) { return type_is_float(t) ? type_encode(t, v) : int_bits(t, v); }

double tensor_value(const struct tensor *t, int64_t at) { return decode(t->type, tensor_bits(t, at)); }
void tensor_set_value(struct tensor *t, int64_t at, double v) { tensor_set_bits(t, at, encode(t->type, v)); }

bool tensor_next(const struct tensor *t, int64_t *index, int64_t *offset)
{
    for (int d = t->rank; d-- > 0;) {
        *offset += t->stride[d];
        if (++index[d] < t->shape[d]) return true;
        *offset -= t->stride[d] * t->shape[d];
        index[d] = 0;
    }
    return false;
}

static int64_t place(const struct tensor *t, const int64_t *index)
{
    int64_t at = 0;
    for (int d = 0; d < t->rank; d++) at += index[d] * t->stride[d];
    return at;
}

static void copy_elements(struct tensor *to, const struct tensor *from)
{
    int64_t index[TENSOR_RANK] = { 0 }, at = 0;
    if (tensor_count(from) == 0) return;
    bool same = to->type == from->type, ints = !type_is_float(to->type) && !type_is_float(from->type);
    do {
        uint64_t bits = tensor_bits(from, at);
        if (ints && !same && type_kind(from->type) == TYPE_INT && from->type != TY_bool) {
            int unused = 64 - tensor_item_bits(from->type);
            bits = (uint64_t)((int64_t)(bits << unused) >> unused); /* wide integers stay exact */
        }
        if (!same && (!ints || to->type == TY_bool)) bits = encode(to->type, decode(from->type, bits));
        tensor_set_bits(to, place(to, index), bits);
    } while (tensor_next(from, index, &at));
}

enum dgk_status tensor_copy(struct tensor *to, const struct tensor *from, enum type type, int inner, const int *align,
                            struct fault *why)
{
    *to = (struct tensor){ .type = type ? type : from->type, .rank = from->rank };
    memcpy(to->shape, from->shape, sizeof to->shape);
    tensor_layout(to, inner, align);
    enum dgk_status s = tensor_allocate(to, why);
    if (s) return s;
    if (to->type == from->type && tensor_contiguous(to) && tensor_contiguous(from)) memcpy(to->data, from->data, tensor_span(from));
    else copy_elements(to, from);
    return DGK_OK;
}

/* ---- elements as files store them ---------------------------------------------------------------------------- */

int stored_bytes(struct stored s, int64_t count, size_t *bytes)
{
    int bits = s.kind == STORED_F64 ? 64 : tensor_item_bits(s.type);
    if (count < 0 || count > (INT64_MAX - 7) / bits) return -1;
    *bytes = ((size_t)count * (size_t)bits + 7) / 8;
    return 0;
}

/* Types that numpy has no name for travel as unsigned integers. */
static bool stands_for(struct stored s, enum type as)
{
    if (s.kind == STORED_F64 || !type_is_float(as) || as == TY_f32 || as == TY_f16) return false;
    if (s.type == TY_f32) return as == TY_tf32;
    if (type_kind(s.type) != TYPE_UINT && !(s.type == TY_i8 && as != TY_bf16)) return false;
    return type_bits(as) == type_bits(s.type) || (as == TY_e2m1 && type_bits(s.type) == 8);
}

static enum dgk_status from_f64(struct tensor *t, double *bytes, enum type as, struct fault *why)
{
    if (!as) {
        free(bytes);
        return fault_set(why, DGK_BAD_FILE, "holds f64, which kernels do not have; append a type to convert, \":f32\"");
    }
    struct tensor source = *t;
    source.type = TY_u64; /* for its width */
    source.data = bytes;
    t->type = as;
    tensor_row_major(t);
    enum dgk_status s = tensor_allocate(t, why);
    int64_t index[TENSOR_RANK] = { 0 }, at = 0;
    if (!s && tensor_count(t))
        do tensor_set_value(t, place(t, index), bytes[at]);
        while (tensor_next(&source, index, &at));
    free(bytes);
    return s;
}

static enum dgk_status reinterpret(struct tensor *t, enum type from, enum type as, struct fault *why)
{
    t->type = as;
    if (type_bits(as) == type_bits(from)) return DGK_OK;
    if (t->rank == 0 || t->stride[t->rank - 1] != 1)
        return fault_set(why, DGK_BAD_FILE, "bytes of e2m1 pairs must have the last dimension contiguous");
    for (int d = 0; d < t->rank; d++) t->stride[d] *= d == t->rank - 1 ? 1 : 2;
    t->shape[t->rank - 1] *= 2;
    return DGK_OK;
}

enum dgk_status tensor_from_stored(struct tensor *t, struct stored s, void *bytes, enum type as, struct fault *why)
{
    if (s.kind == STORED_F64) return from_f64(t, bytes, as, why);
    t->type = s.type;
    t->owned = t->data = bytes;
    if (!as || as == s.type) {
        if (s.kind != STORED_RAW) return DGK_OK;
        tensor_free(t);
        return fault_set(why, DGK_BAD_FILE, "holds raw %d-bit items without a type; append one, \":bf16\"", type_bits(s.type));
    }
    enum dgk_status status;
    if (stands_for(s, as)) {
        status = reinterpret(t, s.type, as, why);
        if (status) tensor_free(t);
        return status;
    }
    if (s.kind == STORED_RAW) {
        tensor_free(t);
        return fault_set(why, DGK_BAD_FILE, "holds raw %d-bit items, which cannot be %s", type_bits(s.type), type_name(as));
    }
    struct tensor converted;
    status = tensor_copy(&converted, t, as, -1, NULL, why);
    tensor_free(t);
    *t = converted;
    return status;
}

/* ---- generators ---------------------------------------------------------------------------------------------- */

static uint64_t random_bits(uint64_t *state) /* splitmix64 (Steele, Lea, Flood 2014) */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double uniform(uint64_t *state) { return (double)(random_bits(state) >> 11) * 0x1p-53; }

/* The sum of twelve uniforms: close to normal, and the same on every libm. */
static double normal(uint64_t *state)
{
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += uniform(state);
    return sum;
}

static double make_rand(uint64_t *state, int64_t i, double lo, double hi) { (void)i; return lo + (hi - lo) * uniform(state); }
static double make_randn(uint64_t *state, int64_t i, double lo, double hi) { (void)i, (void)lo, (void)hi; return normal(state); }
static double make_zeros(uint64_t *state, int64_t i, double lo, double hi) { (void)state, (void)i, (void)lo, (void)hi; return 0; }
static double make_ones(uint64_t *state, int64_t i, double lo, double hi) { (void)state, (void)i, (void)lo, (void)hi; return 1; }
static double make_arange(uint64_t *state, int64_t i, double lo, double hi) { (void)state, (void)hi; return lo + (double)i; }

static const struct generator {
    const char *name;
    double (*make)(uint64_t *state, int64_t i, double lo, double hi);
} generators[] = {
    { "rand", make_rand }, { "randn", make_randn }, { "zeros", make_zeros }, { "ones", make_ones }, { "arange", make_arange },
};

static const struct generator *find_generator(const char *name, size_t n)
{
    for (int i = 0; i < COUNT(generators); i++)
        if (strlen(generators[i].name) == n && !strncmp(generators[i].name, name, n)) return &generators[i];
    return NULL;
}

void tensor_generate(struct tensor *t, const char *name, uint64_t seed, double lo, double hi)
{
    const struct generator *g = find_generator(name, strlen(name));
    int64_t index[TENSOR_RANK] = { 0 }, at = 0, i = 0;
    if (!g || tensor_count(t) == 0) return;
    do tensor_set_value(t, at, g->make(&seed, i++, lo, hi));
    while (tensor_next(t, index, &at));
}

/* ---- what a command line names ------------------------------------------------------------------------------- */

struct recipe {
    uint64_t seed;
    double lo, hi;
    bool has_shape, has_hi;
};

/* One of "128", "seed=7", "lo=-1", "hi=1" between a generator's parentheses. */
static enum dgk_status recipe_item(struct tensor *t, struct recipe *r, char *item, const char *spec, struct fault *why)
{
    char *end, *eq = strchr(item, '=');
    double value = strtod(eq ? eq + 1 : item, &end);
    while (isspace((unsigned char)*end)) end++;
    if (*end || end == (eq ? eq + 1 : item)) return fault_set(why, DGK_USAGE, "'%s': '%s' is no number", spec, item);
    if (eq && !strncmp(item, "seed=", 5)) r->seed = strtoull(eq + 1, NULL, 0);
    else if (eq && !strncmp(item, "lo=", 3)) r->lo = value;
    else if (eq && !strncmp(item, "hi=", 3)) r->hi = value, r->has_hi = true;
    else if (eq) return fault_set(why, DGK_USAGE, "'%s': '%s' is none of seed=, lo=, hi=", spec, item);
    else {
        if (!r->has_shape) t->rank = 0;
        r->has_shape = true;
        if (t->rank == TENSOR_RANK) return fault_set(why, DGK_USAGE, "'%s' has more than %d dimensions", spec, TENSOR_RANK);
        if (value < 0 || value != floor(value) || value > 0x1p40) return fault_set(why, DGK_USAGE, "'%s': '%s' is no size", spec, item);
        t->shape[t->rank++] = (int64_t)value;
    }
    return DGK_OK;
}

static enum dgk_status load_generator(struct tensor *t, const struct generator *g, const char *spec, const char *items,
                                      enum type type, int rank, const int64_t *shape, struct fault *why)
{
    struct recipe r = { 0 };
    *t = (struct tensor){ .type = type, .rank = rank < 0 ? 0 : rank };
    if (!type) return fault_set(why, DGK_USAGE, "'%s' needs a type, \"%s:f32\"", spec, spec);
    if (rank > 0) memcpy(t->shape, shape, sizeof *shape * (size_t)rank);
    char *copy = strdup(items), *save = NULL;
    *strrchr(copy, ')') = 0;
    enum dgk_status s = DGK_OK;
    for (char *item = strtok_r(copy, ",", &save); item && !s; item = strtok_r(NULL, ",", &save)) {
        while (isspace((unsigned char)*item)) item++;
        if (*item) s = recipe_item(t, &r, item, spec, why);
    }
    free(copy);
    if (s) return s;
    if (!r.has_shape && rank < 0) return fault_set(why, DGK_USAGE, "'%s' needs a shape, \"%s(128, 256)\"", spec, g->name);
    if (!r.has_hi) r.hi = type_is_float(type) ? 1 : type == TY_bool ? 2 : 100;
    tensor_row_major(t);
    s = tensor_allocate(t, why);
    if (!s) tensor_generate(t, g->name, r.seed, r.lo, r.hi);
    return s;
}

/* Cuts ":type" off the end of `text`, which may stand for itself. */
static enum type cut_type(char *text)
{
    char *colon = strrchr(text, ':');
    enum type type = colon ? type_find(colon + 1) : TY_none;
    if (type) *colon = 0;
    return type;
}

static bool ends_in(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && !strcmp(s + n - k, tail);
}

static enum dgk_status load_named(struct tensor *t, char *text, enum type cut, enum type type, int rank, const int64_t *shape,
                                  struct fault *why)
{
    size_t word = strcspn(text, "(");
    const struct generator *g = find_generator(text, word);
    if (g && text[word] == '(' && ends_in(text, ")"))
        return load_generator(t, g, text, text + word + 1, cut ? cut : type, rank, shape, why);
    if (ends_in(text, ".npy")) return npy_read(t, text, cut, why);
    char *name = strstr(text, ".safetensors");
    if (name) {
        name += strlen(".safetensors");
        if (*name == ':') *name++ = 0;
        else if (*name == 0) name = NULL;
        else return fault_set(why, DGK_USAGE, "'%s': a tensor of a file is written FILE.safetensors:NAME", text);
        return safetensors_read(t, text, name, cut, why);
    }
    return fault_set(why, DGK_USAGE, "'%s' names no tensor; write FILE.npy, FILE.safetensors:NAME, or a generator: "
                     "rand(128, 256), randn, zeros, ones, arange", text);
}

enum dgk_status tensor_load(struct tensor *t, const char *spec, enum type type, int rank, const int64_t *shape, struct fault *why)
{
    char *text = strdup(spec);
    *t = (struct tensor){ 0 };
    enum type cut = cut_type(text);
    enum dgk_status s = load_named(t, text, cut, type, rank, shape, why);
    free(text);
    return s;
}
