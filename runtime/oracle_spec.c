/* oracle_spec - evaluates a spec on the host in double precision and holds an output to it. */
#include "runtime/oracle.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_CELLS 4e6 /* of one intermediate tile; larger specs are evaluated in parts */

int64_t oracle_span(const struct interp_tensor *t)
{
    int64_t last = 0;
    for (int i = 0; i < t->rank; i++) {
        if (!t->shape[i]) return 0;
        last += (t->shape[i] - 1) * t->stride[i];
    }
    return last + 1;
}

size_t oracle_bytes(const struct interp_tensor *t)
{
    int bits = type_bits(t->type) == 1 ? 8 : type_bits(t->type);
    return ((size_t)oracle_span(t) * (size_t)bits + 7) / 8;
}

static uint64_t raw(const struct interp_tensor *t, int64_t at)
{
    uint64_t v = 0;
    int bits = type_bits(t->type);
    if (bits == 4) return ((const uint8_t *)t->data)[at / 2] >> (at % 2 * 4) & 15;
    size_t bytes = bits == 1 ? 1 : (size_t)bits / 8;
    memcpy(&v, (const char *)t->data + (size_t)at * bytes, bytes);
    return v;
}

/* One spec's evaluation. */
struct checker {
    const struct ir_fn *fn;
    const struct ir_spec *spec;
    const struct interp_tensor *before, *after;
    uint8_t *covered;
    struct interp_env env, left_env;     /* values read `before`; a left side that sums reads `after` */
    const struct ir_expr *read;          /* the E_read on the left */
    const struct ir_axis *axes[IR_RANK]; /* the left side's axes */
    int64_t lo[IR_RANK], hi[IR_RANK];    /* the part now evaluated */
    int naxes;
    double xx, yy, xy, scale_n, worst;
    struct oracle_verdict v;
};

static void find_axes(struct checker *c, const struct ir_expr *e)
{
    for (int i = 0; i < e->naxes && c->naxes < IR_RANK; i++) {
        int at = 0;
        while (at < c->naxes && c->axes[at] != e->axes[i]) at++;
        if (at == c->naxes) c->axes[c->naxes++] = e->axes[i];
    }
}

/* Axes that other axes' bounds depend on are walked one by one. */
static void find_loops(struct interp_env *env, const struct ir_fn *fn)
{
    for (int i = 0; i < fn->axes.n; i++) {
        const struct ir_axis *x = fn->axes.at[i];
        for (int j = 0; x->lo && j < x->lo->naxes; j++) env->axes[x->lo->axes[j]->id].loops = true;
        for (int j = 0; x->hi && j < x->hi->naxes; j++) env->axes[x->hi->axes[j]->id].loops = true;
    }
}

static void remember_worst(struct checker *c, const int64_t *index, double got, double wanted, double off)
{
    if (!(off > c->worst) && c->v.rank >= 0) return;
    c->worst = off;
    c->v.rank = c->read->nargs;
    for (int i = 0; i < c->v.rank; i++) c->v.worst[i] = index[i];
    c->v.got = got;
    c->v.wanted = wanted;
}

static bool same_exactly(enum type t, union cell got, union cell wanted)
{
    if (!type_is_float(t)) return got.i == wanted.i;
    return got.f == wanted.f || (isnan(got.f) && isnan(wanted.f));
}

static void compare(struct checker *c, enum type t, union cell got, union cell wanted, const int64_t *index)
{
    double x = type_is_float(t) ? got.f : (double)got.i, y = type_is_float(t) ? wanted.f : (double)wanted.i;
    c->v.compared++;
    bool odd = !isfinite(x) || !isfinite(y);
    if (c->spec->exact || odd) {
        if (same_exactly(t, got, wanted)) return;
        c->v.wrong++;
        remember_worst(c, index, x, y, (double)INFINITY);
        return;
    }
    c->xx += x * x;
    c->yy += y * y;
    c->xy += (x - y) * (x - y);
    if (x != y) remember_worst(c, index, x, y, fabs(x - y));
}

/* Evaluates over the current part; every axis is a tile over lo .. hi, or one coordinate. */
static struct tile over_part(struct checker *c, struct interp_env *env, const struct ir_expr *e)
{
    struct tile t = interp_eval(env, e), whole = { .type = t.type };
    for (int i = 0; i < c->naxes; i++)
        if (!env->axes[c->axes[i]->id].single) tile_add_axis(&whole, c->axes[i], env->axes[c->axes[i]->id].extent);
    tile_room(env->scratch, &whole);
    tile_broadcast(&whole, &t);
    return whole;
}

static int64_t place(const struct interp_tensor *t, const int64_t *index)
{
    int64_t at = 0;
    for (int i = 0; i < t->rank; i++) {
        if (index[i] < 0 || index[i] >= t->shape[i]) return -1;
        at += index[i] * t->stride[i];
    }
    return at;
}

/* One element of the left side: wanted under `where` or else. (Others may be another index' elements: see
 * oracle_untouched.) */
static void check_element(struct checker *c, const struct tile *value, const struct tile *where, const struct tile *other,
                          const struct tile *index, const struct tile *sum, int64_t i)
{
    const struct interp_tensor *t = &c->after[c->read->tensor->id];
    int64_t at_index[IR_RANK];
    for (int d = 0; d < c->read->nargs; d++) at_index[d] = index[d].at[i].i;
    bool wanted = !where || where->at[i].i;
    if (sum) {
        if (wanted) compare(c, value->type, sum->at[i], value->at[i], at_index);
        return;
    }
    int64_t at = place(t, at_index);
    if (at < 0) return;
    if (c->covered && (wanted || c->spec->other || c->spec->other_any)) c->covered[at] = 1;
    if (wanted) compare(c, t->type, interp_load(t, at), value->at[i], at_index);
    else if (c->spec->other) compare(c, t->type, interp_load(t, at), other->at[i], at_index);
}

static void check_part(struct checker *c)
{
    const struct ir_expr zero = { .kind = E_const, .type = TY_i32 };
    struct tile value = over_part(c, &c->env, c->spec->value), where, other, sum, index[IR_RANK];
    if (c->spec->where) where = over_part(c, &c->env, c->spec->where);
    if (c->spec->other) other = over_part(c, &c->env, c->spec->other);
    bool sums = c->spec->left->kind == E_reduce;
    if (sums) sum = over_part(c, &c->left_env, c->spec->left);
    for (int d = 0; d < c->read->nargs; d++) {
        if (sums && ir_has_axis(c->read->args[d], c->spec->left->axis)) index[d] = over_part(c, &c->env, &zero);
        else index[d] = over_part(c, &c->env, c->read->args[d]);
    }
    for (int64_t i = 0; i < value.n && !c->env.error; i++)
        check_element(c, &value, c->spec->where ? &where : NULL, c->spec->other ? &other : NULL, index, sums ? &sum : NULL, i);
    pool_reset(c->env.scratch);
    pool_reset(c->left_env.scratch);
}

static void set_range(struct interp_env *env, const struct ir_axis *x, int64_t lo, int64_t hi)
{
    struct interp_axis *s = &env->axes[x->id];
    s->origin = lo;
    s->limit = hi;
    s->extent = hi - lo;
}

static void set_single(struct interp_env *env, const struct ir_axis *x, bool single, int64_t element)
{
    env->axes[x->id].single = single;
    env->axes[x->id].element = element;
}

/* The size of the largest tile that evaluating a part would build. */
static double part_room(struct checker *c)
{
    double n = interp_room(&c->env, c->spec->value, NULL), m = c->spec->where ? interp_room(&c->env, c->spec->where, NULL) : 0;
    return n > m ? n : m;
}

/* Walks the left axes from number `at`: one by one where others depend on them, else in parts that fit. */
static void walk(struct checker *c, int at)
{
    if (c->env.error || c->left_env.error) return;
    if (at < c->naxes) {
        const struct ir_axis *x = c->axes[at];
        interp_whole_range(&c->env, x);
        int64_t lo = c->env.axes[x->id].origin, hi = c->env.axes[x->id].limit;
        if (hi <= lo) return;
        set_range(&c->left_env, x, lo, hi);
        if (!c->env.axes[x->id].loops) {
            walk(c, at + 1);
            return;
        }
        for (int64_t i = lo; i < hi; i++) {
            set_single(&c->env, x, true, i);
            set_single(&c->left_env, x, true, i);
            walk(c, at + 1);
        }
        set_single(&c->env, x, false, 0);
        set_single(&c->left_env, x, false, 0);
        return;
    }
    for (int i = 0; i < c->naxes; i++) {
        struct interp_axis *s = &c->env.axes[c->axes[i]->id];
        if (s->single || s->extent < 2 || part_room(c) <= MOST_CELLS) continue;
        int64_t lo = s->origin, hi = s->limit, middle = lo + (hi - lo) / 2;
        for (int half = 0; half < 2; half++) {
            set_range(&c->env, c->axes[i], half ? middle : lo, half ? hi : middle);
            set_range(&c->left_env, c->axes[i], half ? middle : lo, half ? hi : middle);
            walk(c, c->naxes);
        }
        set_range(&c->env, c->axes[i], lo, hi);
        set_range(&c->left_env, c->axes[i], lo, hi);
        return;
    }
    check_part(c);
}

/* The bound on single elements that goes with a bound on the whole: a wrong element may hide in a large array. */
static bool worst_is_far(const struct checker *c)
{
    double rms = sqrt(c->yy / (double)(c->v.compared ? c->v.compared : 1)), size = fabs(c->v.wanted);
    return isfinite(c->worst) && c->worst > 10 * sqrt(2 * c->v.tol) * (size > rms ? size : rms);
}

static void conclude(struct checker *c)
{
    struct oracle_verdict *v = &c->v;
    char *error = c->env.error ? c->env.error : c->left_env.error;
    if (error) v->error = strdup(error);
    v->distance = c->xx + c->yy > 0 ? c->xy / (c->xx + c->yy) : 0; /* equals 1 - 2<x,y>/(<x,x>+<y,y>), without cancelling */
    v->ok = !v->error && !v->wrong && v->distance <= v->tol && !worst_is_far(c);
    if (v->rank < 0) v->rank = 0;
}

struct oracle_verdict oracle_check_spec(const struct ir_fn *fn, int n, const struct interp_tensor *before,
                                        const struct interp_tensor *after, const int64_t *dims, uint8_t *const *covered)
{
    struct checker c = { .fn = fn, .spec = &fn->specs.at[n], .before = before, .after = after };
    c.read = c.spec->left->kind == E_reduce ? c.spec->left->args[0] : c.spec->left;
    c.v = (struct oracle_verdict){ .rank = -1, .tol = c.spec->exact ? 0 : c.spec->tol, .tensor = c.read->tensor->name };
    c.worst = -1;
    interp_env_init(&c.env, fn, before, dims);
    interp_env_init(&c.left_env, fn, after, dims);
    c.env.wide = c.left_env.wide = !c.spec->exact;
    c.env.contracts = true;
    find_loops(&c.env, fn);
    find_loops(&c.left_env, fn);
    for (int i = 0; i < c.read->nargs; i++) find_axes(&c, c.read->args[i]);
    find_axes(&c, c.spec->value);
    if (c.spec->where) find_axes(&c, c.spec->where);
    if (c.spec->left->kind == E_reduce) { /* the summed axis is none of the left side's */
        int k = 0;
        for (int i = 0; i < c.naxes; i++)
            if (c.axes[i] != c.spec->left->axis) c.axes[k++] = c.axes[i];
        c.naxes = k;
    }
    c.covered = covered ? covered[c.read->tensor->id] : NULL;
    if (c.covered && c.spec->left->kind == E_reduce) memset(c.covered, 1, (size_t)oracle_span(&after[c.read->tensor->id]));
    walk(&c, 0);
    conclude(&c);
    interp_env_free(&c.env);
    interp_env_free(&c.left_env);
    return c.v;
}

void oracle_print_verdict(const struct oracle_verdict *v, struct buf *out)
{
    if (v->error) {
        buf_printf(out, "%s: %s", v->tensor, v->error);
        return;
    }
    buf_printf(out, "%s: %lld elements", v->tensor, (long long)v->compared);
    if (v->wrong) buf_printf(out, ", %lld wrong", (long long)v->wrong);
    if (v->tol > 0) buf_printf(out, ", distance %.3g of %.3g", v->distance, v->tol);
    if (v->ok || !v->rank) return;
    buf_printf(out, "; worst %s[", v->tensor);
    for (int i = 0; i < v->rank; i++) buf_printf(out, "%s%lld", i ? ", " : "", (long long)v->worst[i]);
    buf_printf(out, "] is %.9g, wanted %.9g", v->got, v->wanted);
}

int64_t oracle_untouched(const struct interp_tensor *before, const struct interp_tensor *after, const uint8_t *covered, int64_t *first)
{
    int64_t n = oracle_span(after), changed = 0, at = 0;
    for (int64_t i = 0; i < n; i++) {
        if ((covered && covered[i]) || raw(before, i) == raw(after, i)) continue;
        if (!changed++) at = i;
    }
    /* Largest stride first gives the indices; a place in the gap between rows has none, and ends up past a row's end. */
    uint64_t done = 0;
    for (int k = 0; changed && k < after->rank; k++) {
        int d = -1;
        for (int i = 0; i < after->rank; i++)
            if (!(done >> i & 1) && (d < 0 || after->stride[i] > after->stride[d] || (after->stride[i] == after->stride[d] && after->shape[i] > after->shape[d]))) d = i;
        done |= 1ull << d;
        first[d] = at / after->stride[d];
        at %= after->stride[d];
    }
    return changed;
}
