/* oracle_data - random arguments for a test: shapes with tails, strides with gaps, data that shows mistakes. */
#define _GNU_SOURCE
#include "runtime/oracle.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014). */
uint64_t oracle_random(uint64_t *seed)
{
    uint64_t z = *seed += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static int64_t below(uint64_t *seed, int64_t n) { return n > 0 ? (int64_t)(oracle_random(seed) % (uint64_t)n) : 0; }
static double uniform(uint64_t *seed) { return (double)(oracle_random(seed) >> 11) * 0x1p-53; }

static double normal(uint64_t *seed)
{
    double u = 1 - uniform(seed), v = uniform(seed);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* dimensions */

static int64_t eval_int(const struct ir_fn *fn, const struct interp_tensor *args, const int64_t *dims, const struct ir_expr *e, bool *ok)
{
    struct interp_env env;
    interp_env_init(&env, fn, args, dims);
    int64_t v = interp_eval_int(&env, e);
    *ok &= !env.error;
    interp_env_free(&env);
    return v;
}

static bool reads_args(const struct ir_expr *e)
{
    if (e->kind == E_arg || e->kind == E_read || e->kind == E_unit || e->kind == E_units) return true;
    for (int i = 0; i < e->nargs; i++)
        if (reads_args(e->args[i])) return true;
    return false;
}

/* Whether a sum's bounds hang on arguments or on other indices. */
static bool bounds_read(const struct ir_expr *e)
{
    if (e->kind == E_reduce && e->axis->lo && (reads_args(e->axis->lo) || reads_args(e->axis->hi) || e->axis->lo->naxes || e->axis->hi->naxes)) return true;
    for (int i = 0; i < e->nargs; i++)
        if (bounds_read(e->args[i])) return true;
    return false;
}

/* dim >= e and dim <= e, inside of conjunctions: moves a dimension that is out of bounds to the nearest that is not. */
static void clamp(const struct ir_fn *fn, const struct ir_expr *e, int64_t *dims)
{
    bool ok = true;
    for (int side = 0; side < 2; side++) {
        const struct ir_expr *d = e->args[side];
        if (d->kind != E_dim || fn->dims.at[d->num].value >= 0) continue;
        int64_t v = eval_int(fn, NULL, dims, e->args[!side], &ok), m = fn->dims.at[d->num].multiple, less = e->kind == E_lt;
        if (!ok) continue;
        if (m < 1) m = 1;
        if (side == 0 && dims[d->num] > v - less) dims[d->num] = floor_div(v - less, m) * m;
        if (side == 1 && dims[d->num] < v + less) dims[d->num] = ceil_div(v + less, m) * m;
    }
}

/* dim == expression, in either order and inside of conjunctions, gives the dimension. */
static void solve(const struct ir_fn *fn, const struct ir_expr *e, int64_t *dims)
{
    bool ok = true;
    if (e->kind == E_and) {
        solve(fn, e->args[0], dims);
        solve(fn, e->args[1], dims);
    }
    if ((e->kind == E_lt || e->kind == E_le) && !reads_args(e)) clamp(fn, e, dims);
    if (e->kind != E_eq || reads_args(e)) return;
    for (int side = 0; side < 2; side++) {
        const struct ir_expr *d = e->args[side];
        if (d->kind != E_dim || fn->dims.at[d->num].value >= 0) continue;
        int64_t v = eval_int(fn, NULL, dims, e->args[!side], &ok);
        if (ok) dims[d->num] = v;
        return;
    }
}

static bool meets(const struct ir_fn *fn, const int64_t *dims)
{
    bool ok = true;
    for (int i = 0; i < fn->requires.n; i++)
        if (!reads_args(fn->requires.at[i]) && !eval_int(fn, NULL, dims, fn->requires.at[i], &ok)) return false;
    for (int i = 0; i < fn->dims.n; i++)
        if (dims[i] < 0 || dims[i] % (fn->dims.at[i].multiple > 1 ? fn->dims.at[i].multiple : 1)) return false;
    for (int i = 0; i < fn->tensors.n; i++)
        for (int d = 0; d < fn->tensors.at[i]->rank; d++)
            if (eval_int(fn, NULL, dims, fn->tensors.at[i]->dim[d], &ok) <= 0) return false;
    return ok;
}

/* A tile of some axis: sizes around its multiples show mistakes at edges. */
static int64_t random_tile(const struct ir_fn *fn, uint64_t *seed)
{
    for (int tries = 0; tries < 8 && fn->axes.n; tries++) {
        const struct ir_axis *x = fn->axes.at[below(seed, fn->axes.n)];
        if (x->tile > 1 && !x->of) return x->tile;
    }
    return 16;
}

static int64_t random_dim(const struct ir_fn *fn, const struct ir_dim *d, uint64_t *seed)
{
    int64_t t = random_tile(fn, seed), n;
    switch (below(seed, 9)) {
    case 0: n = 1 + below(seed, 4); break;
    case 1: n = t; break;
    case 2: n = t - 1; break;
    case 3: n = t + 1; break;
    case 4: n = 2 * t; break;
    case 5: n = t + 1 + below(seed, 2 * t); break;
    case 6: n = t * (4 + below(seed, 8)) + below(seed, 3) - 1; break; /* long enough to go around a pipe */
    default: n = 1 + below(seed, t + t / 2 + 8); break;
    }
    int64_t m = d->multiple > 1 ? d->multiple : 1;
    n = ceil_div(n, m) * m;
    return n > 0 ? n : m;
}

/* Elements of all arguments, and a share of the work of evaluating the specs. */
static double cost(const struct ir_fn *fn, const int64_t *dims)
{
    double n = 0, all = 1, work = 0;
    bool ok = true;
    for (int i = 0; i < fn->tensors.n; i++) {
        double size = 1;
        for (int d = 0; d < fn->tensors.at[i]->rank; d++) size *= (double)eval_int(fn, NULL, dims, fn->tensors.at[i]->dim[d], &ok);
        n += size;
    }
    for (int i = 0; i < fn->dims.n; i++) all *= (double)(dims[i] > 0 ? dims[i] : 1);
    if (!fn->specs.n && fn->dims.n <= 3) n += all / 64;
    struct interp_env env;
    interp_env_init(&env, fn, NULL, dims);
    env.contracts = true;
    for (int i = 0; i < fn->axes.n; i++) {
        const struct ir_axis *x = fn->axes.at[i];
        if (x->lo && x->hi && !reads_args(x->lo) && !reads_args(x->hi) && !x->lo->naxes && !x->hi->naxes) interp_whole_range(&env, x);
    }
    for (int i = 0; i < fn->specs.n; i++) {
        const struct ir_expr *left = fn->specs.at[i].left;
        if (bounds_read(fn->specs.at[i].value)) interp_room(&env, left, &work), work *= 512; /* a guess at the sums' length */
        else interp_room(&env, fn->specs.at[i].value, &work);
        n += work / 64;
    }
    interp_env_free(&env);
    return n;
}

/* A tensor of distinct values needs a range that is wide enough. */
static void widen(const struct ir_fn *fn, int64_t *dims)
{
    bool ok = true;
    for (int i = 0; i < fn->givens.n; i++) {
        const struct ir_given *g = &fn->givens.at[i];
        if (g->kind != GIVEN_distinct || g->hi->kind != E_dim || fn->dims.at[g->hi->num].value >= 0) continue;
        int64_t n = 1;
        for (int d = 0; d < g->tensor->rank; d++) n *= eval_int(fn, NULL, dims, g->tensor->dim[d], &ok);
        if (dims[g->hi->num] < n) dims[g->hi->num] = n;
    }
}

bool oracle_dims(const struct ir_fn *fn, uint64_t *seed, double budget, int64_t *dims)
{
    for (int tries = 0; tries < 3000; tries++) {
        double shrink = tries < 1000 ? 1 : tries < 2000 ? 0.5 : 0.2; /* smaller, when nothing fits */
        for (int i = 0; i < fn->dims.n; i++) {
            const struct ir_dim *d = &fn->dims.at[i];
            int64_t m = d->multiple > 1 ? d->multiple : 1, n = random_dim(fn, d, seed);
            n = ceil_div((int64_t)((double)n * shrink), m) * m;
            dims[i] = d->value >= 0 ? d->value : n > 0 ? n : m;
        }
        for (int i = 0; i < fn->requires.n; i++) solve(fn, fn->requires.at[i], dims);
        widen(fn, dims);
        if (meets(fn, dims) && cost(fn, dims) <= (tries < 2000 ? budget : 4 * budget)) return true; /* fixed dimensions may be large */
    }
    return false;
}

/* memory */

/* Strides of a tensor whose dimension `inner` is contiguous: the others outward, rows apart by a multiple of 16 bytes,
 * sometimes by more; by an odd multiple of `align` bytes where that is less. */
static void random_strides(struct interp_tensor *t, int inner, int align, uint64_t *seed)
{
    int64_t step;
    int unit = align * 8 / (type_bits(t->type) == 1 ? 8 : type_bits(t->type));
    bool packed = below(seed, 3) == 0, odd = align < IR_ALIGN;
    t->stride[inner] = 1;
    step = t->shape[inner];
    for (int d = t->rank - 1; d >= 0; d--) {
        if (d == inner) continue;
        if (odd) step = (ceil_div(step, unit) | 1) * unit;
        else if (!packed) step = ceil_div(step, unit) * unit + unit * below(seed, 2);
        else if (type_bits(t->type) == 4) step = ceil_div(step, 2) * 2;
        t->stride[d] = step;
        step *= t->shape[d];
    }
}

static void poison(struct interp_tensor *t)
{
    memset(t->data, type_is_float(t->type) ? 0xFF : 0xA5, oracle_bytes(t));
}

static void open_tensor(struct arena *a, const struct ir_fn *fn, const struct ir_tensor *from, const int64_t *dims,
                        struct interp_tensor *t, uint64_t *seed)
{
    bool ok = true;
    *t = (struct interp_tensor){ .type = from->type, .rank = from->rank };
    for (int d = 0; d < t->rank; d++) t->shape[d] = eval_int(fn, NULL, dims, from->dim[d], &ok);
    if (t->rank) random_strides(t, from->inner, from->align, seed);
    t->data = arena_alloc(a, oracle_bytes(t) + 16);
    poison(t);
}

struct interp_tensor *oracle_copy(struct arena *a, const struct ir_fn *fn, const struct interp_tensor *args)
{
    struct interp_tensor *copy = new_n(a, struct interp_tensor, fn->tensors.n + 1);
    for (int i = 0; i < fn->tensors.n; i++) {
        copy[i] = args[i];
        copy[i].data = arena_alloc(a, oracle_bytes(&args[i]) + 16);
        memcpy(copy[i].data, args[i].data, oracle_bytes(&args[i]));
    }
    return copy;
}

/* data */

static double random_float(enum type t, enum oracle_data data, uint64_t *seed)
{
    if (t == TY_ue8m0) return ldexp(1, (int)below(seed, 5) - 2);
    if (t == TY_e2m1) return type_decode(t, (uint64_t)below(seed, 16));
    double v;
    switch (data) {
    case ORACLE_EXACT: v = (double)(below(seed, 9) - 4); break;
    case ORACLE_CANCEL: v = (oracle_random(seed) & 1 ? 1 : -1) * (8 + normal(seed)); break;
    default: v = normal(seed);
    }
    return t == TY_ue4m3 ? fabs(v) : v;
}

static union cell random_cell(enum type t, enum oracle_data data, uint64_t *seed)
{
    union cell c;
    if (type_is_float(t)) c.f = random_float(t, data, seed);
    else if (t == TY_bool) c.i = below(seed, 2);
    else if (type_kind(t) == TYPE_UINT) c.i = below(seed, type_bits(t) == 8 ? 256 : 1000);
    else c.i = below(seed, 201) - 100;
    return c;
}

/* Calls each(state, offset, index) for every element. */
struct walk {
    int64_t index[IR_RANK], offset;
};
static bool next(const struct interp_tensor *t, struct walk *w)
{
    for (int d = t->rank - 1; d >= 0; d--) {
        w->offset += t->stride[d];
        if (++w->index[d] < t->shape[d]) return true;
        w->offset -= w->index[d] * t->stride[d];
        w->index[d] = 0;
    }
    return false;
}

static int64_t count(const struct interp_tensor *t)
{
    int64_t n = 1;
    for (int d = 0; d < t->rank; d++) n *= t->shape[d];
    return n;
}

static void fill_random(const struct interp_tensor *t, enum oracle_data data, uint64_t *seed)
{
    struct walk w = { .offset = 0 };
    if (!count(t)) return;
    do interp_store(t, w.offset, random_cell(t->type, data, seed));
    while (next(t, &w));
}

/* givens */

static double rand_hook(void *state, double lo, double hi)
{
    uint64_t *seed = state;
    if (lo == floor(lo) && hi == floor(hi)) return lo + (double)below(seed, (int64_t)(hi - lo));
    return lo + uniform(seed) * (hi - lo);
}

static bool given_expr(const struct ir_fn *fn, struct oracle_case *c, const struct ir_given *g, char **error)
{
    const struct interp_tensor *t = &c->before[g->tensor->id];
    struct interp_env env;
    struct walk w = { .offset = 0 };
    interp_env_init(&env, fn, c->before, c->dims);
    env.rand = rand_hook;
    env.rand_state = &c->seed;
    for (int d = 0; d < g->axes.n; d++) env.axes[g->axes.at[d]->id].single = true;
    if (count(t)) do {
        for (int d = 0; d < g->axes.n; d++) env.axes[g->axes.at[d]->id].element = w.index[d];
        struct tile v = interp_eval(&env, g->value);
        if (!env.error) {
            union cell cell = v.at[0];
            if (type_is_float(t->type) && !type_is_float(v.type)) cell.f = (double)v.at[0].i;
            if (!type_is_float(t->type) && type_is_float(v.type)) cell.i = (int64_t)v.at[0].f;
            interp_store(t, w.offset, cell);
        }
        pool_reset(env.scratch);
    } while (!env.error && next(t, &w));
    *error = env.error ? strdup(env.error) : NULL;
    interp_env_free(&env);
    return !*error;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* n of the numbers lo .. hi - 1, in random order, no two alike: the front of a shuffled list. */
static void distinct(int64_t *out, int64_t n, int64_t lo, int64_t hi, uint64_t *seed)
{
    int64_t all = hi - lo, *list = malloc(sizeof *list * (size_t)(all + 1));
    for (int64_t i = 0; i < all; i++) list[i] = lo + i;
    for (int64_t i = 0; i < n; i++) {
        int64_t j = i + below(seed, all - i);
        out[i] = list[j];
        list[j] = list[i];
    }
    free(list);
}

static bool given_list(const struct ir_fn *fn, struct oracle_case *c, const struct ir_given *g, char **error)
{
    const struct interp_tensor *t = &c->before[g->tensor->id];
    bool ok = true;
    int64_t lo = eval_int(fn, c->before, c->dims, g->lo, &ok), hi = eval_int(fn, c->before, c->dims, g->hi, &ok), n = count(t);
    if (!ok || (g->kind == GIVEN_distinct && (hi - lo < n || hi - lo > 1 << 26))) {
        if (asprintf(error, "given %s: %lld distinct numbers are asked for between %lld and %lld", g->tensor->name, (long long)n,
                     (long long)lo, (long long)hi) < 0) *error = NULL;
        return false;
    }
    int64_t *values = malloc(sizeof *values * (size_t)(n + 1)), i = 0;
    if (g->kind == GIVEN_distinct) distinct(values, n, lo, hi, &c->seed);
    else {
        for (int64_t k = 0; k < n; k++) values[k] = lo + below(&c->seed, hi - lo + 1);
        qsort(values, (size_t)n, sizeof *values, by_value);
    }
    struct walk w = { .offset = 0 };
    if (n) do {
        union cell cell = { .i = values[i] };
        if (type_is_float(t->type)) cell.f = (double)values[i];
        interp_store(t, w.offset, cell);
        i++;
    } while (next(t, &w));
    free(values);
    return true;
}

static int tensor_named(const struct ir_fn *fn, const char *name)
{
    for (int i = 0; i < fn->tensors.n; i++)
        if (!strcmp(fn->tensors.at[i]->name, name)) return i;
    return -1;
}

/* Dimensions of the other kernel, from the shapes of what it is given. */
static void bind_dims(const struct ir_fn *fn, const struct interp_tensor *args, int64_t *dims)
{
    for (int i = 0; i < fn->dims.n; i++) dims[i] = fn->dims.at[i].value >= 0 ? fn->dims.at[i].value : 1;
    for (int i = 0; i < fn->tensors.n; i++)
        for (int d = 0; d < fn->tensors.at[i]->rank; d++)
            if (fn->tensors.at[i]->dim[d]->kind == E_dim) dims[fn->tensors.at[i]->dim[d]->num] = args[i].shape[d];
}

/* X = run other(A, B): the arguments named are the other kernel's inputs in order, X is its first output. */
static bool given_run(const struct ir_fn *fn, struct oracle_case *c, const struct ir_given *g, oracle_find_kernel *find,
                      void *state, char **error)
{
    struct ir_fn *other = find ? find(state, g->kernel) : NULL;
    if (!other) {
        if (asprintf(error, "given %s: no kernel '%s' to run", g->tensor->name, g->kernel) < 0) *error = NULL;
        return false;
    }
    struct interp_tensor *args = calloc((size_t)other->tensors.n + 1, sizeof *args);
    int64_t *dims = calloc((size_t)other->dims.n + 1, sizeof *dims);
    int next_arg = 0;
    bool placed = false, ok = true;
    for (int i = 0; i < other->tensors.n && ok; i++) {
        int from = -1;
        if (other->tensors.at[i]->dir != 0 && !placed) {
            from = g->tensor->id;
            placed = true;
        } else if (next_arg < g->args.n) {
            from = tensor_named(fn, g->args.at[next_arg++]);
        }
        ok = from >= 0;
        if (ok) args[i] = c->before[from];
    }
    bind_dims(other, args, dims);
    if (ok) ok = interp_run(other, args, other->tensors.n, dims, 4, error);
    else if (asprintf(error, "given %s: '%s' takes other arguments", g->tensor->name, g->kernel) < 0) *error = NULL;
    free(args);
    free(dims);
    return ok;
}

/* A summing exact spec is exact on small integers only. */
static bool sums_floats(const struct ir_expr *e)
{
    if (e->kind == E_reduce && e->num == RED_sum && type_is_float(e->type)) return true;
    for (int i = 0; i < e->nargs; i++)
        if (sums_floats(e->args[i])) return true;
    return false;
}

static bool needs_exact(const struct ir_fn *fn)
{
    for (int i = 0; i < fn->specs.n; i++)
        if (fn->specs.at[i].exact && sums_floats(fn->specs.at[i].value)) return true;
    return false;
}

bool oracle_arguments(struct arena *a, const struct ir_fn *fn, struct oracle_case *c, oracle_find_kernel *find, void *state, char **error)
{
    struct oracle_case copy = *c, *out = c; /* the caller's keeps its seed, to name the case */
    c = &copy;
    *error = NULL;
    if (needs_exact(fn)) c->data = ORACLE_EXACT;
    c->before = new_n(a, struct interp_tensor, fn->tensors.n + 1);
    for (int i = 0; i < fn->tensors.n; i++) {
        const struct ir_tensor *t = fn->tensors.at[i];
        open_tensor(a, fn, t, c->dims, &c->before[i], &c->seed);
        if (t->dir != 1) fill_random(&c->before[i], t->rank ? c->data : ORACLE_NORMAL, &c->seed);
        /* A number that stands alone is a length or a size more often than not. */
        if (!t->rank && !type_is_float(t->type)) interp_store(&c->before[i], 0, (union cell){ .i = 1 + below(&c->seed, 64) });
        if (t->rank || !c->scalars || isnan(c->scalars[i])) continue;
        union cell told = { .f = c->scalars[i] };
        if (!type_is_float(t->type)) told.i = (int64_t)c->scalars[i];
        interp_store(&c->before[i], 0, told);
    }
    for (int i = 0; i < fn->givens.n && !*error; i++) {
        const struct ir_given *g = &fn->givens.at[i];
        if (g->kind == GIVEN_expr) given_expr(fn, c, g, error);
        else if (g->kind == GIVEN_run) given_run(fn, c, g, find, state, error);
        else given_list(fn, c, g, error);
    }
    out->before = c->before;
    out->data = c->data;
    return !*error;
}
