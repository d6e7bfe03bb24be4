/* cost_expr - what the cost model makes of expressions: their values, where those are known, and the work that they are. */
#include "compiler/cost_env.h"

#include "compiler/space.h"

#include <math.h>

static struct known axis_at(const struct env *e, const struct ir_axis *x, bool end)
{
    if (!x->of) return end ? e->axes[x->id].limit : e->axes[x->id].origin;
    struct known k = axis_at(e, x->of, end);
    if (k.is) k.v = end ? (double)ceil_div((int64_t)k.v, x->div) : (double)floor_div((int64_t)k.v, x->div);
    return k;
}

static struct known eval_binary(enum ir_expr_kind k, double a, double b)
{
    int64_t x = (int64_t)a, y = (int64_t)b;
    switch (k) {
    case E_add: return known_as(a + b);
    case E_sub: return known_as(a - b);
    case E_mul: return known_as(a * b);
    case E_div: return y ? known_as((double)floor_div(x, y)) : unknown;
    case E_mod: return y ? known_as((double)floor_mod(x, y)) : unknown;
    case E_min: return known_as(a < b ? a : b);
    case E_max: return known_as(a > b ? a : b);
    case E_lt: return known_as(a < b);
    case E_le: return known_as(a <= b);
    case E_eq: return known_as(a == b);
    case E_ne: return known_as(a != b);
    case E_and: return known_as((double)(x & y));
    case E_or: return known_as((double)(x | y));
    case E_shl: return known_as((double)(x << (y & 31)));
    case E_shr: return known_as((double)(x >> (y & 31)));
    default: return unknown;
    }
}

struct known cost_eval(const struct env *e, const struct ir_expr *x)
{
    if (!x || x->naxes) return unknown;
    switch (x->kind) {
    case E_const: return known_as(type_is_float(x->type) ? x->real : (double)x->num);
    case E_dim: return known_as((double)e->dims[x->num]);
    case E_rank: return (struct known){ .is = true, .ranked = true };
    case E_unit: return known_as(0);
    case E_units: return known_as(1);
    case E_get: return e->vars[x->var->id];
    case E_origin: return axis_at(e, x->axis, false);
    case E_limit: return axis_at(e, x->axis, true);
    case E_cast: return cost_eval(e, x->args[0]);
    case E_select: {
        struct known c = cost_eval(e, x->args[0]);
        return c.is ? cost_eval(e, x->args[c.v ? 1 : 2]) : unknown;
    }
    default: break;
    }
    if (x->kind == E_reduce) return (struct known){ .rows = x->axis->tile };
    if (x->nargs != 2) return unknown;
    struct known a = cost_eval(e, x->args[0]), b = cost_eval(e, x->args[1]), r = a.is && b.is ? eval_binary(x->kind, a.v, b.v) : unknown;
    if (x->kind == E_min && a.is != b.is) r = (struct known){ .bounded = true, .v = a.is ? a.v : b.v };
    r.ranked = a.ranked || b.ranked;
    r.rows = a.rows > b.rows ? a.rows : b.rows;
    return r;
}

static int rate_of(enum ir_expr_kind k)
{
    switch (k) {
    case E_exp2: case E_log2: case E_rcp: case E_rsqrt: case E_tanh: return SPECIAL_RATE;
    case E_min: case E_max: return HALF_RATE;
    default: return 1;
    }
}

/* Where one value of a slot is for several of an axis' elements: a thread looks up and loads one for every run of them. */
static double runs(const struct ir_expr *at)
{
    int64_t by;
    if (at->kind != E_div || at->args[0]->kind != E_coord || at->args[0]->axis->tile <= 0 || !ir_const_int(at->args[1], &by)) return 0;
    return (double)at->args[0]->axis->tile / (double)gcd(at->args[0]->axis->tile, by);
}

static int bound_at(const struct env *e, const struct ir_expr *x)
{
    int depth = 0;
    if (x->kind == E_coord || x->kind == E_origin) {
        const struct ir_axis *at = x->axis;
        while (at->of) at = at->of;
        depth = e->axes[at->id].depth;
    }
    for (int i = 0; i < x->nargs; i++) {
        int d = bound_at(e, x->args[i]);
        if (d > depth) depth = d;
    }
    return depth;
}

/* It was read once, before the loop. */
static bool read_before(const struct env *e, const struct ir_expr *slot)
{
    return bound_at(e, slot) < e->depth && e->consumed[slot->field->pipe->id] < e->depth;
}

static double gathers(const struct ir_expr *slot)
{
    double n = 0;
    for (int i = 0; i < slot->nargs; i++) n += runs(slot->args[i]);
    return n;
}

/* Cycles of reading a slot into registers: what lies along a product's columns every warp reads all of. */
static double column_reads(const struct env *e, const struct ir_expr *slot)
{
    bool cols = false;
    for (int i = 0; i < slot->naxes; i++) {
        if (e->rows[slot->axes[i]->id]) return 0;
        cols |= e->cols[slot->axes[i]->id];
    }
    return !cols || slot->field->pipe->home ? 0 : space_elements(slot->axes, slot->naxes) * e->role_warps * SLOT_READ;
}

/* Shared memory's cycles for what x reads of slots. */
double cost_slot_reads(const struct env *e, const struct ir_expr *x)
{
    double n = 0;
    if (!x || !x->naxes) return 0;
    if (x->kind == E_slot) return read_before(e, x) || gathers(x) > 0 ? 0 : column_reads(e, x);
    for (int i = 0; i < x->nargs; i++) n += cost_slot_reads(e, x->args[i]);
    return n;
}

static double slot_operations(const struct env *e, const struct ir_expr *slot)
{
    double n = gathers(slot);
    if (read_before(e, slot)) return 0;
    return n > 0 ? n * GATHER_OPS * 32 * e->role_warps : column_reads(e, slot) * LANES;
}

/* How many different values x has along an axis: what a slot holds once for a run of elements is worked on once. */
static double different(const struct ir_expr *x, const struct ir_axis *a)
{
    double n = 1;
    if (!ir_has_axis(x, a)) return 1;
    if (x->kind <= E_element && x->kind != E_slot) return a->tile;
    for (int i = 0; i < x->nargs; i++) {
        double one = x->kind == E_slot && ir_has_axis(x->args[i], a) ? runs(x->args[i]) : different(x->args[i], a);
        n = fmax(n, one > 0 ? one : a->tile);
    }
    return n;
}

/* Operations on registers that evaluating x takes, one for each value. */
double cost_operations(const struct env *e, const struct ir_expr *x)
{
    if (!x || !x->naxes) return 0;
    double n = x->kind > E_element && x->kind != E_cast ? rate_of(x->kind) : 0;
    for (int i = 0; i < x->naxes && n > 0; i++) n *= different(x, x->axes[i]);
    if (x->kind == E_reduce) n = x->args[0]->kind == E_mul ? 0 : space_elements(x->args[0]->axes, x->args[0]->naxes); /* or one with the product */
    if (x->kind == E_slot) return slot_operations(e, x);
    for (int i = 0; i < x->nargs; i++) n += cost_operations(e, x->args[i]);
    return n;
}
