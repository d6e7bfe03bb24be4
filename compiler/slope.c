/* slope - an index as a sum of coordinates, each times a scalar, and a scalar rest: k0*M + i*kg + k. What stands beside a
 * coordinate may be data, so that rows lie as far apart as a table says. */
#include "compiler/slope.h"

static int axis_of(const struct ir_field *f, const struct ir_axis *x)
{
    for (int i = 0; i < f->naxes; i++)
        if (f->axes[i] == x) return i;
    return -1;
}

static struct ir_expr *plus(struct arena *a, struct ir_expr *x, struct ir_expr *y, int sign)
{
    if (!y) return x;
    if (!x) return sign > 0 ? y : ir_unary(a, E_neg, y);
    return ir_binary(a, sign > 0 ? E_add : E_sub, x, y);
}

static bool sum(struct arena *a, const struct ir_field *f, const struct ir_expr *e, struct slopes *s)
{
    struct slopes b;
    if (!slopes_of(a, f, e->args[0], s) || !slopes_of(a, f, e->args[1], &b)) return false;
    for (int i = 0; i < f->naxes; i++) s->by[i] = plus(a, s->by[i], b.by[i], e->kind == E_add ? 1 : -1);
    s->rest = plus(a, s->rest, b.rest, e->kind == E_add ? 1 : -1);
    return true;
}

static bool scaled(struct arena *a, const struct ir_field *f, const struct ir_expr *e, struct slopes *s)
{
    int scalar = e->args[0]->naxes ? 1 : 0;
    struct ir_expr *by = e->args[scalar];
    if (by->naxes || !slopes_of(a, f, e->args[!scalar], s)) return false;
    for (int i = 0; i < f->naxes; i++)
        if (s->by[i]) s->by[i] = ir_binary(a, E_mul, s->by[i], by);
    if (s->rest) s->rest = ir_binary(a, E_mul, s->rest, by);
    return true;
}

bool slopes_of(struct arena *a, const struct ir_field *f, const struct ir_expr *e, struct slopes *s)
{
    *s = (struct slopes){ .rest = e->naxes ? NULL : (struct ir_expr *)e };
    if (!e->naxes) return true;
    if (e->kind == E_add || e->kind == E_sub) return sum(a, f, e, s);
    if (e->kind == E_mul) return scaled(a, f, e, s);
    int axis = e->kind == E_coord ? axis_of(f, e->axis) : -1;
    if (axis >= 0) s->by[axis] = ir_int(a, 1);
    return axis >= 0;
}

/* Largest known divisor of the index at the beginning of every row. */
static int64_t divisor(const struct ir_fn *fn, const struct ir_field *f, const struct slopes *s, int inner)
{
    int64_t d = s->rest ? ir_divisor(fn, s->rest) : 0;
    for (int i = 0; i < f->naxes; i++) {
        int64_t by = s->by[i] ? ir_divisor(fn, s->by[i]) : 0, align = f->axes[i]->align > 0 ? f->axes[i]->align : 1;
        d = gcd(d, i == inner ? by * align : by); /* each row of the tile begins so, not only the first */
    }
    return d;
}

int slopes_unit(const struct ir_fn *fn, const struct ir_field *f, const struct slopes *s, int inner, const struct ir_tensor *t)
{
    int64_t bytes = gcd(divisor(fn, f, s, inner), f->axes[inner]->tile) * type_bits(f->type) / 8;
    return (int)gcd(bytes, t->align);
}
