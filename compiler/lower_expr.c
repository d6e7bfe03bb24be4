/* lower_expr - expressions of the tree to expressions of the IR. */
#include "compiler/lower.h"

#include <math.h>
#include <string.h>

struct ir_expr *lower_bad(struct lower *L)
{
    struct ir_expr *e = new(L->a, struct ir_expr);
    e->kind = E_const;
    return e;
}

bool is_bad(const struct ir_expr *e) { return e->type == TY_none; }

static struct ir_expr *at_span(struct ir_expr *e, struct span at)
{
    if (!e->span.hi) e->span = at;
    return e;
}

/* ---- types ---- */

/* A constant, or a choice between constants. */
static bool is_literal(const struct ir_expr *e)
{
    return e->kind == E_const || (e->kind == E_select && is_literal(e->args[1]) && is_literal(e->args[2]));
}

/* A constant takes the type asked for, where it can. */
static struct ir_expr *retype(struct lower *L, const struct ir_expr *e, enum type t)
{
    if (e->kind == E_select) {
        struct ir_expr *args[] = {e->args[0], retype(L, e->args[1], t), retype(L, e->args[2], t)};
        return ir_make(L->a, E_select, t, 3, args, e->span);
    }
    struct ir_expr *c = type_is_float(t) ? ir_real(L->a, t, type_is_float(e->type) ? e->real : (double)e->num)
                                         : ir_int(L->a, e->num);
    c->type = t;
    c->span = e->span;
    return c;
}

/* The type two integers meet in: their own, else at least 32 bits, unsigned if one of that width is. */
static enum type meet(enum type x, enum type y)
{
    if (x == y) return x;
    enum type wide = type_bits(x) >= type_bits(y) ? x : y, other = wide == x ? y : x;
    if (type_bits(wide) < 32) return TY_i32;
    if (type_bits(wide) == type_bits(other) && type_kind(other) == TYPE_UINT) return other;
    return wide;
}

static void float_mismatch(struct lower *L, enum type x, enum type y, struct span at)
{
    diag_error(L->d, at, "%s meets %s here", type_name(x), type_name(y));
    diag_note(L->d, at, "types of values never change by themselves; write %s(...) around one of them",
              type_is_float(x) ? type_name(x) : type_name(y));
}

/* Gives both the same type. False with a message where they have none. */
bool lower_unify(struct lower *L, struct ir_expr **x, struct ir_expr **y, struct span at)
{
    if (is_bad(*x) || is_bad(*y)) return false;
    enum type p = (*x)->type, q = (*y)->type;
    if (p == q) return true;
    bool fp = type_is_float(p), fq = type_is_float(q);
    if (is_literal(*y) && (fp || !fq)) *y = retype(L, *y, p);
    else if (is_literal(*x) && (fq || !fp)) *x = retype(L, *x, q);
    else if (!fp && !fq) {
        enum type t = meet(p, q);
        *x = ir_cast(L->a, t, *x);
        *y = ir_cast(L->a, t, *y);
    } else {
        float_mismatch(L, p, q, at);
        return false;
    }
    return true;
}

/* A value for a place of type t: constants and integers adapt, everything else needs a cast. */
struct ir_expr *lower_convert(struct lower *L, struct ir_expr *e, enum type t, struct span at, const char *into)
{
    if (is_bad(e) || e->type == t || t == TY_none) return e;
    if (is_literal(e) && (type_is_float(t) || !type_is_float(e->type))) return retype(L, e, t);
    if (!type_is_float(t) && !type_is_float(e->type)) return at_span(ir_cast(L->a, t, e), at);
    diag_error(L->d, at, "'%s' holds %s, the value is %s", into, type_name(t), type_name(e->type));
    diag_note(L->d, at, "write %s(...) to convert it", type_name(t));
    return lower_bad(L);
}

static bool need_f32(struct lower *L, const struct ir_expr *e, const char *what, struct span at)
{
    if (!type_is_float(e->type) || e->type == TY_f32) return true;
    diag_error(L->d, at, "%s works on f32, this value is %s", what, type_name(e->type));
    diag_note(L->d, at, "write f32(...) to widen it, exactly");
    return false;
}

struct ir_expr *lower_add(struct lower *L, struct ir_expr *x, struct ir_expr *y, struct span at)
{
    if (!lower_unify(L, &x, &y, at)) return lower_bad(L);
    struct ir_expr *args[] = {x, y};
    return ir_make(L->a, E_add, x->type, 2, args, at);
}

/* ---- names ---- */

struct laxis *lower_axis_name(struct lower *L, const struct node *n)
{
    if (n->kind != N_name) return NULL;
    struct sym *s = lower_find(L, n->name);
    return s && s->kind == SYM_axis ? s->axis : NULL;
}

static struct ir_expr *var_value(struct lower *L, const struct sym *s, const struct node *n)
{
    return at_span(ir_get(L->a, s->var), n->span);
}

static struct ir_expr *inf(struct lower *L, const struct node *n)
{
    return at_span(ir_real(L->a, TY_f32, (double)INFINITY), n->span);
}

static struct ir_expr *unknown_name(struct lower *L, const struct node *n)
{
    if (!strcmp(n->name, "inf")) return inf(L, n);
    struct laxis *x = L->nroots ? axis_infer(L, n->name, n->span) : NULL;
    if (x) return axis_coord(L, x, n->span);
    diag_error(L->d, n->span, "no value called '%s' here", n->name);
    return lower_bad(L);
}

static struct ir_expr *shared_value(struct lower *L, struct ir_shared *sh, int n, struct ir_expr **args, struct span at)
{
    struct ir_expr *e = ir_make(L->a, E_element, sh->type, n, args, at);
    e->shared = sh;
    return e;
}

static struct ir_expr *lower_name_value(struct lower *L, const struct node *n)
{
    struct sym *s = lower_find(L, n->name);
    if (!s) return unknown_name(L, n);
    switch (s->kind) {
    case SYM_expr: return s->expr;
    case SYM_var: return var_value(L, s, n);
    case SYM_single: return s->expr;
    case SYM_axis: return axis_coord(L, s->axis, n->span);
    case SYM_shared:
        if (s->shared->rank == 0) return shared_value(L, s->shared, 0, NULL, n->span);
        diag_error(L->d, n->span, "'%s' is an array of rank %d: it needs an index", n->name, s->shared->rank);
        return lower_bad(L);
    case SYM_tensor:
        diag_error(L->d, n->span, "'%s' is a tensor of rank %d: it needs indices", n->name, s->tensor->rank);
        return lower_bad(L);
    default:
        diag_error(L->d, n->span, "'%s' is not a value", n->name);
        return lower_bad(L);
    }
}

/* ---- indexed values ---- */

struct ir_expr *lower_int(struct lower *L, const struct node *n)
{
    struct ir_expr *e = lower_expr(L, n);
    if (is_bad(e)) return e;
    if (type_is_float(e->type)) {
        diag_error(L->d, n->span, "an index is an integer, this is %s", type_name(e->type));
        return lower_bad(L);
    }
    return ir_cast(L->a, TY_i32, e);
}

struct ir_expr *lower_scalar(struct lower *L, const struct node *n)
{
    struct ir_expr *e = lower_int(L, n);
    if (is_bad(e) || !e->naxes) return e;
    diag_error(L->d, n->span, "one number is needed here; this differs along '%s'", e->axes[0]->name);
    diag_note(L->d, n->span, "lo(%s) is the first coordinate of the current tile; min(%s: ...) and max(%s: ...) reduce over it",
              e->axes[0]->name, e->axes[0]->name, e->axes[0]->name);
    return lower_bad(L);
}

static bool wrong_count(struct lower *L, const struct node *n, int want)
{
    if (n->list.n == want) return false;
    diag_error(L->d, n->span, "'%s' has %d %s, %d given", n->name, want, want == 1 ? "index" : "indices", n->list.n);
    return true;
}

static bool place_of_view(struct lower *L, const struct node *n, struct sym *view, struct ir_tensor **t, struct ir_expr **index)
{
    if (wrong_count(L, n, view->node->list.n)) return false;
    struct ir_expr *args[IR_RANK];
    for (int i = 0; i < n->list.n; i++)
        if (is_bad(args[i] = lower_int(L, n->list.at[i]))) return false;
    struct sym *keep = L->scope;
    L->scope = view;
    for (int i = 0; i < n->list.n; i++) lower_name_expr(L, view->node->list.at[i]->name, args[i], n->span);
    bool ok = lower_place(L, view->node->a, t, index);
    L->scope = keep;
    return ok;
}

/* The tensor and coordinates that A[i, k], or a view of it, stands for. */
bool lower_place(struct lower *L, const struct node *n, struct ir_tensor **t, struct ir_expr **index)
{
    struct sym *s = lower_find(L, n->name);
    if (s && s->kind == SYM_view) return place_of_view(L, n, s, t, index);
    if (!s || s->kind != SYM_tensor) {
        diag_error(L->d, n->span, "'%s' is no tensor", n->name);
        return false;
    }
    if (wrong_count(L, n, s->tensor->rank)) return false;
    *t = s->tensor;
    bool ok = true;
    for (int i = 0; i < n->list.n; i++) ok &= !is_bad(index[i] = lower_int(L, n->list.at[i]));
    return ok;
}

static struct ir_expr *tensor_value(struct lower *L, const struct node *n)
{
    struct ir_tensor *t;
    struct ir_expr *index[IR_RANK];
    if (!lower_place(L, n, &t, index)) return lower_bad(L);
    struct ir_expr *e = ir_make(L->a, E_read, t->type, t->rank, index, n->span);
    e->tensor = t;
    return e;
}

/* An axis of one coordinate is not part of the slot, unless nothing else is. */
static bool in_slot(const struct sym *s, int i)
{
    for (int k = 0; k < s->field->naxes; k++)
        if (s->axes[i] && s->field->axes[k] == s->axes[i]->ir) return true;
    return false;
}

static struct ir_expr *field_value(struct lower *L, const struct node *n, const struct sym *s)
{
    if (wrong_count(L, n, s->naxes)) return lower_bad(L);
    struct ir_expr *args[IR_RANK];
    int nargs = 0;
    for (int i = 0; i < s->naxes; i++) {
        struct ir_expr *e = lower_int(L, n->list.at[i]);
        if (is_bad(e)) return e;
        if (in_slot(s, i) && nargs < s->field->naxes) args[nargs++] = e;
    }
    struct ir_expr *e = ir_make(L->a, E_slot, s->field->type, nargs, args, n->span);
    e->field = s->field;
    return e;
}

const char *lower_axes_text(struct lower *L, struct laxis *const *axes, int n)
{
    char *t = "";
    for (int i = 0; i < n; i++) t = arena_printf(L->a, "%s%s%s", t, i ? ", " : "", axes[i] ? axes[i]->name : "?");
    return t;
}

/* A tile is read and set with the axes it was declared with, in that order. */
static bool same_axes(struct lower *L, const struct node *n, const struct sym *s)
{
    bool same = n->list.n == s->naxes;
    for (int i = 0; same && i < s->naxes; i++) {
        struct laxis *x = lower_axis_name(L, n->list.at[i]);
        if (!x && n->list.at[i]->kind == N_name && L->nroots && !lower_find(L, n->list.at[i]->name))
            x = axis_infer(L, n->list.at[i]->name, n->list.at[i]->span);
        same = x && x->ir == s->axes[i]->ir;
    }
    if (same) return true;
    struct span inside = {n->list.n ? n->list.at[0]->span.lo : n->span.lo, n->list.n ? n->list.at[n->list.n - 1]->span.hi : n->span.hi};
    diag_error(L->d, n->span, "'%s' holds [%s]; here it is used with [%s]", n->name, lower_axes_text(L, s->axes, s->naxes),
               lower_text(L, inside));
    diag_note(L->d, s->span, "declared here; a tile is read with the axes it was declared with");
    return false;
}

static struct ir_expr *lower_index(struct lower *L, const struct node *n)
{
    struct sym *s = lower_find(L, n->name);
    struct ir_expr *args[IR_RANK];
    if (s && s->kind == SYM_var) return same_axes(L, n, s) ? var_value(L, s, n) : lower_bad(L);
    if (s && s->kind == SYM_single) return same_axes(L, n, s) ? s->expr : lower_bad(L);
    if (s && s->kind == SYM_field) return field_value(L, n, s);
    if (s && s->kind == SYM_shared) {
        if (wrong_count(L, n, s->shared->rank)) return lower_bad(L);
        for (int i = 0; i < n->list.n; i++)
            if (is_bad(args[i] = lower_int(L, n->list.at[i]))) return args[i];
        return shared_value(L, s->shared, n->list.n, args, n->span);
    }
    return tensor_value(L, n);
}

/* ---- operators ---- */

static const struct {
    enum ir_expr_kind kind;
    bool swap, ints, logic;
    const char *what;
} binaries[OP_COUNT] = {
    [OP_ADD] = {E_add, false, false, false, "+"},  [OP_SUB] = {E_sub, false, false, false, "-"},
    [OP_MUL] = {E_mul, false, false, false, "*"},  [OP_DIV] = {E_div, false, false, false, "/"},
    [OP_MOD] = {E_mod, false, true, false, "%"},   [OP_SHL] = {E_shl, false, true, false, "<<"},
    [OP_SHR] = {E_shr, false, true, false, ">>"},  [OP_AND] = {E_and, false, true, false, "&"},
    [OP_OR] = {E_or, false, true, false, "|"},     [OP_XOR] = {E_xor, false, true, false, "^"},
    [OP_LT] = {E_lt, false, false, false, "<"},    [OP_GT] = {E_lt, true, false, false, ">"},
    [OP_LE] = {E_le, false, false, false, "<="},   [OP_GE] = {E_le, true, false, false, ">="},
    [OP_EQ] = {E_eq, false, false, false, "=="},   [OP_NE] = {E_ne, false, false, false, "!="},
    [OP_LAND] = {E_and, false, false, true, "&&"}, [OP_LOR] = {E_or, false, false, true, "||"},
};

static struct ir_expr *to_bool(struct lower *L, struct ir_expr *e, struct span at)
{
    if (is_bad(e) || e->type == TY_bool) return e;
    if (type_is_float(e->type)) {
        diag_error(L->d, at, "a condition is needed; this is %s", type_name(e->type));
        diag_note(L->d, at, "compare it: ... != 0");
        return lower_bad(L);
    }
    struct ir_expr *zero = retype(L, ir_int(L->a, 0), e->type);
    return at_span(ir_binary(L->a, E_ne, e, zero), at);
}

struct ir_expr *lower_cond(struct lower *L, const struct node *n)
{
    return to_bool(L, lower_expr(L, n), n->span);
}

/* LAYOUT == masked: a parameter that is a name is compared by name. */
static bool word_comparison(struct lower *L, const struct node *n, bool *equal)
{
    const struct node *side[] = {n->a, n->b};
    for (int i = 0; i < 2; i++) {
        if (side[i]->kind != N_name) continue;
        struct sym *s = lower_find(L, side[i]->name);
        if (!s || s->kind != SYM_word || side[!i]->kind != N_name) continue;
        struct sym *other = lower_find(L, side[!i]->name);
        *equal = s->word == (other && other->kind == SYM_word ? other->word : side[!i]->name);
        return true;
    }
    return false;
}

/* The axis of which e is a coordinate plus a number; NULL if it is not that. */
static struct ir_axis *shifted_coord(const struct ir_expr *e)
{
    if (e->kind == E_coord && e->naxes) return e->axis;
    if (e->kind != E_add) return NULL;
    if (e->args[0]->naxes == 0) return shifted_coord(e->args[1]);
    return e->args[1]->naxes == 0 ? shifted_coord(e->args[0]) : NULL;
}

static struct ir_expr *first_of(struct lower *L, struct ir_expr *e)
{
    if (e->kind == E_coord) return ir_leaf(L->a, E_origin, e->axis);
    if (!e->naxes) return e;
    return ir_binary(L->a, E_add, first_of(L, e->args[0]), first_of(L, e->args[1]));
}

/* The first of (coord(k) + n) where the whole tile of k lies within one multiple of `by`; else NULL. */
static struct ir_expr *within_one(struct lower *L, struct ir_expr *x, const struct ir_expr *by)
{
    struct ir_axis *axis = shifted_coord(x);
    if (!axis || axis->tile <= 0 || by->naxes) return NULL;
    struct ir_expr *first = first_of(L, x);
    int64_t c, align = ir_divisor(L->fn, first);
    if (ir_const_int(by, &c)) return c > 0 && axis_distinct(axis->tile, align, c) == 1 ? first : NULL;
    return align % axis->tile == 0 && ir_divisor(L->fn, by) % axis->tile == 0 ? first : NULL;
}

/* x / by, x % by: one quotient for the whole tile, and a coordinate less a number. */
static struct ir_expr *whole_quotient(struct lower *L, enum ast_op op, struct ir_expr *x, struct ir_expr *by)
{
    struct ir_expr *first = within_one(L, x, by);
    if (!first) return NULL;
    int64_t c;
    struct ir_expr *q = ir_binary(L->a, E_div, first, by);
    if (op == OP_DIV) return q;
    bool begins = ir_const_int(by, &c) && ir_divisor(L->fn, first) % c == 0;
    return ir_binary(L->a, E_sub, x, begins ? first : ir_binary(L->a, E_mul, q, by));
}

/* kk/G where the slot being filled has an axis kk/G: the coordinate of that axis. */
static struct ir_expr *window_coord(struct lower *L, const struct ir_expr *x, const struct ir_expr *by)
{
    int64_t c;
    if (!L->filling || x->kind != E_coord || !x->naxes || !ir_const_int(by, &c)) return NULL;
    const struct ir_field *f = L->filling->field;
    for (int i = 0; i < f->naxes; i++)
        if (f->axes[i]->of == x->axis && f->axes[i]->div == c) return ir_leaf(L->a, E_coord, f->axes[i]);
    return NULL;
}

static struct ir_expr *make_binary(struct lower *L, enum ast_op op, struct ir_expr *x, struct ir_expr *y, struct span at)
{
    enum ir_expr_kind k = binaries[op].kind;
    if (binaries[op].swap) {
        struct ir_expr *t = x;
        x = y;
        y = t;
    }
    bool compare = k == E_lt || k == E_le || k == E_eq || k == E_ne;
    struct ir_expr *args[] = {x, y};
    return at_span(ir_make(L->a, k, compare ? TY_bool : x->type, 2, args, at), at);
}

static struct ir_expr *lower_binary(struct lower *L, const struct node *n)
{
    bool equal;
    enum ast_op op = (enum ast_op)n->flag;
    if ((op == OP_EQ || op == OP_NE) && word_comparison(L, n, &equal)) {
        struct ir_expr *e = ir_int(L->a, equal == (op == OP_EQ));
        e->type = TY_bool;
        return e;
    }
    struct ir_expr *x = lower_expr(L, n->a), *y = lower_expr(L, n->b);
    if (is_bad(x) || is_bad(y)) return lower_bad(L);
    if (binaries[op].logic) {
        x = to_bool(L, x, n->a->span);
        y = to_bool(L, y, n->b->span);
        return is_bad(x) || is_bad(y) ? lower_bad(L) : make_binary(L, op, x, y, n->span);
    }
    bool shift = op == OP_SHL || op == OP_SHR;
    if (binaries[op].ints && (type_is_float(x->type) || type_is_float(y->type))) {
        diag_error(L->d, n->span, "'%s' works on integers, not on %s", binaries[op].what,
                   type_name(type_is_float(x->type) ? x->type : y->type));
        return lower_bad(L);
    }
    if (shift) {
        if (type_bits(x->type) < 32) x = ir_cast(L->a, TY_i32, x);
        y = is_literal(y) ? retype(L, y, x->type) : ir_cast(L->a, x->type, y);
    } else if (!lower_unify(L, &x, &y, n->span)) return lower_bad(L);
    if (!need_f32(L, x, binaries[op].what, n->span)) return lower_bad(L);
    if (!type_is_float(x->type) && type_bits(x->type) < 32 && !binaries[op].ints && op <= OP_MOD) {
        x = ir_cast(L->a, TY_i32, x);
        y = ir_cast(L->a, TY_i32, y);
    }
    if ((op == OP_DIV || op == OP_MOD) && !L->in_spec && x->type == TY_i32) {
        struct ir_expr *w = op == OP_DIV ? window_coord(L, x, y) : NULL;
        if (!w) w = whole_quotient(L, op, x, y);
        if (w) return w;
    }
    return make_binary(L, op, x, y, n->span);
}

static struct ir_expr *lower_unary(struct lower *L, const struct node *n)
{
    struct ir_expr *x = lower_expr(L, n->a);
    if (is_bad(x)) return x;
    if (n->flag == '!') {
        x = to_bool(L, x, n->span);
        return is_bad(x) ? x : at_span(ir_unary(L->a, E_not, x), n->span);
    }
    if (n->flag == '~' && type_is_float(x->type)) {
        diag_error(L->d, n->span, "'~' works on integers, not on %s", type_name(x->type));
        return lower_bad(L);
    }
    if (x->type == TY_bool) x = ir_cast(L->a, TY_i32, x);
    return at_span(ir_unary(L->a, n->flag == '~' ? E_not : E_neg, x), n->span);
}

/* c ? a : b. Where c is known only the side chosen is looked at: the other may make no sense for these parameters. */
static struct ir_expr *lower_select(struct lower *L, const struct node *n)
{
    struct ir_expr *c = lower_cond(L, n->a);
    if (is_bad(c)) return c;
    if (c->kind == E_const) return lower_expr(L, c->num ? n->b : n->c);
    struct ir_expr *x = lower_expr(L, n->b), *y = lower_expr(L, n->c);
    if (!lower_unify(L, &x, &y, n->span)) return lower_bad(L);
    struct ir_expr *args[] = {c, x, y};
    return ir_make(L->a, E_select, x->type, 3, args, n->span);
}

static struct ir_expr *lower_cast(struct lower *L, const struct node *n)
{
    struct ir_expr *x = lower_expr(L, n->a);
    enum type t = lower_type(L, n);
    if (is_bad(x) || t == TY_none) return lower_bad(L);
    return at_span(ir_cast(L->a, t, x), n->span);
}

static struct ir_expr *lower_literal(struct lower *L, const struct node *n)
{
    struct ir_expr *e = n->kind == N_int ? ir_int(L->a, n->num) : ir_real(L->a, TY_f32, n->real);
    if (n->kind == N_int && (n->num > INT32_MAX || n->num < INT32_MIN))
        e->type = n->num >= 0 && n->num <= UINT32_MAX ? TY_u32 : TY_i64;
    e->span = n->span;
    return e;
}

/* ---- reductions ---- */

static enum ir_reduce reduction(const char *name)
{
    static const char *const names[] = {[RED_sum] = "sum", [RED_max] = "max", [RED_min] = "min", [RED_any] = "any", [RED_all] = "all"};
    for (int i = 0; i < COUNT(names); i++)
        if (!strcmp(names[i], name)) return (enum ir_reduce)i;
    return RED_COUNT;
}

/* The axis a binder stands for: a range of its own, a declared axis, or the dimension an undeclared index runs over. */
static struct laxis *binder_axis(struct lower *L, const struct node *b)
{
    if (b->a) {
        struct ir_expr *lo = lower_int(L, b->a->a), *hi = lower_int(L, b->a->b);
        return is_bad(lo) || is_bad(hi) ? NULL : axis_implicit(L, b->name, lo, hi, b->span);
    }
    struct sym *s = lower_find(L, b->name);
    if (s && s->kind == SYM_axis) return s->axis;
    return axis_infer(L, b->name, b->span);
}

static struct ir_expr *reduce_one(struct lower *L, const struct node *n, enum ir_reduce op, struct laxis *x, struct ir_expr *e)
{
    if (x == L->combining) {
        if (!L->combining_parts) return e;
        struct ir_expr *p = ir_make(L->a, E_parts, e->type, 1, &e, n->span);
        p->num = op;
        p->axis = x->ir;
        return p;
    }
    if (x->scalar) return e;
    if (!x->range && !ir_has_axis(e, x->ir)) {
        if (op != RED_sum) return e;
        diag_error(L->d, n->span, "the value does not differ along '%s'", x->name);
        diag_note(L->d, n->span, "a sum over '%s' would only count its coordinates: write hi(%s) - lo(%s)", x->name, x->name, x->name);
        return lower_bad(L);
    }
    return at_span(ir_reduce(L->a, op, x->ir, e), n->span);
}

static struct ir_expr *lower_reduce(struct lower *L, const struct node *n)
{
    enum ir_reduce op = reduction(n->name);
    if (op == RED_COUNT) {
        diag_error(L->d, n->span, "no reduction called '%s'", n->name);
        diag_note(L->d, n->span, "there are sum, max, min, any and all");
        return lower_bad(L);
    }
    struct sym *keep = L->scope;
    struct laxis *axes[IR_RANK];
    int naxes = 0;
    const struct node *const *roots = L->roots;
    int nroots = L->nroots;
    const struct node *inner[1] = {n->a};
    if (!nroots) {
        L->roots = inner;
        L->nroots = 1;
    }
    struct ir_expr *e = lower_bad(L);
    for (int i = 0; i < n->list.n && naxes < IR_RANK; i++) {
        struct laxis *x = binder_axis(L, n->list.at[i]);
        if (!x) goto done;
        axes[naxes++] = x;
        lower_name(L, n->list.at[i]->name, SYM_axis, n->list.at[i]->span)->axis = x;
    }
    e = op == RED_any || op == RED_all ? lower_cond(L, n->a) : lower_expr(L, n->a);
    if (!is_bad(e) && op != RED_any && op != RED_all && !need_f32(L, e, n->name, n->span)) e = lower_bad(L);
    if (!is_bad(e) && type_bits(e->type) < 32 && e->type != TY_bool) e = ir_cast(L->a, TY_i32, e);
    for (int i = naxes; i-- > 0 && !is_bad(e);) e = reduce_one(L, n, op, axes[i], e);
done:
    L->scope = keep;
    L->roots = roots;
    L->nroots = nroots;
    return e;
}

/* ---- everything ---- */

struct ir_expr *lower_expr(struct lower *L, const struct node *n)
{
    switch (n->kind) {
    case N_int: case N_float: return lower_literal(L, n);
    case N_name: return lower_name_value(L, n);
    case N_index: return lower_index(L, n);
    case N_call: return lower_call(L, n);
    case N_reduce: return lower_reduce(L, n);
    case N_cast: return lower_cast(L, n);
    case N_unary: return lower_unary(L, n);
    case N_binary: return lower_binary(L, n);
    case N_cond: return lower_select(L, n);
    default:
        diag_error(L->d, n->span, "this is no value");
        return lower_bad(L);
    }
}

bool lower_static(struct lower *L, const struct node *n, int64_t *v)
{
    struct diag *keep = L->d, quiet;
    ir_block *block = L->block;
    diag_init(&quiet, L->a);
    L->d = &quiet;
    L->block = NULL;
    struct ir_expr *e = lower_expr(L, n);
    L->d = keep;
    L->block = block;
    return !is_bad(e) && ir_const_int(e, v);
}

bool lower_when(struct lower *L, const nodes *when)
{
    int64_t v;
    for (int i = 0; i < when->n; i++) {
        if (!lower_static(L, when->at[i], &v)) {
            diag_error(L->d, when->at[i]->span, "this must be known at compile time");
            diag_note(L->d, when->at[i]->span, "'when' may ask about the kernel's parameters and specialised dimensions");
            return false;
        }
        if (!v) return false;
    }
    return true;
}

/* A value used more than once, or that must be read now: in a variable of its own, unless it is free to repeat. */
struct ir_expr *lower_keep(struct lower *L, const char *name, struct ir_expr *e)
{
    bool is_free = e->kind == E_get ? e->var->multiple >= 1 : e->nargs == 0 && e->kind != E_coord && e->kind != E_element;
    if (is_bad(e) || is_free || !L->block) return e;
    struct ir_var *v = ir_new_var(L->a, L->fn, name, e->type);
    for (int i = 0; i < e->naxes; i++) v->axes[v->naxes++] = e->axes[i];
    v->span = e->span;
    int64_t multiple = type_is_float(e->type) || e->naxes ? 1 : ir_divisor(L->fn, e);
    v->multiple = multiple ? multiple : 1;
    lower_let(L, v, e, e->span);
    return ir_get(L->a, v);
}
