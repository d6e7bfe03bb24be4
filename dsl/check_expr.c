/* check_expr - expressions: names, arities, types as far as they are known, and over which axes a value is a tile. */
#include <string.h>

#include "dsl/check.h"

enum { DEEPEST = 500 };

void check_merge(struct check *c, struct info *to, const struct info *from)
{
    check_set_join(c, &to->free, &from->free);
    check_set_join(c, &to->whole, &from->whole);
    to->bad |= from->bad;
}

static const char *axes_text(struct check *c, const struct sym_set *s)
{
    return arena_printf(c->arena, "[%s]", check_set_text(c, s));
}

/* Names */

/* An axis has a current tile where the grid gives it one, where a for walks it, and where it is one whole tile. */
bool check_has_tile(const struct sym *axis)
{
    return axis->in_grid || axis->fixed || axis->walked;
}

static void use_axis(struct check *c, struct node *n, struct sym *s, struct info *out)
{
    if (!check_has_tile(s)) {
        diag_error(c->diag, n->name_span, "axis '%s' has no current tile here", n->name);
        diag_note(c->diag, s->at, "declared here; put it into the grid, or write 'for %s' around", n->name);
        out->bad = true;
    } else if (s->node->c && c->combining != s) {
        diag_error(c->diag, n->name_span, "axis '%s' is split into parts, it is no index", n->name);
        diag_note(c->diag, s->at, "declared here; ord(%s) is the number of the part, 'axis k = %s by ...' walks it", n->name, n->name);
        out->bad = true;
    } else if (c->combining == s) {
        diag_error(c->diag, n->name_span, "inside 'combine %s' all parts of '%s' are there; it has no current tile", n->name, n->name);
        diag_note(c->diag, n->name_span, "reduce over it: sum(%s: ...)", n->name);
        out->bad = true;
    }
    if (s->unit) return;
    check_set_add(c, &out->free, s);
    check_set_add(c, &out->whole, s);
}

static struct info wrong_kind(struct check *c, struct node *n, struct sym *s)
{
    if (s->kind == SYM_field || s->kind == SYM_tile || s->kind == SYM_accum || s->kind == SYM_arg || s->kind == SYM_view ||
        s->kind == SYM_shared || s->kind == SYM_parm) {
        const char *dims = "";
        for (int i = 0; i < s->dims.n; i++) dims = arena_printf(c->arena, "%s%s%s", dims, i ? ", " : "", check_text(c, s->dims.at[i]));
        diag_error(c->diag, n->name_span, "'%s' is %s over [%s]; it is read with its indices", n->name, check_sym_what(s), dims);
    }
    return bad_info();
}

static struct info param_value(struct check *c, struct node *n, struct sym *s)
{
    struct node *first = s->node->list.n ? s->node->list.at[0] : NULL;
    if (first && first->kind == N_typename) {
        diag_error(c->diag, n->name_span, "'%s' is a type; a value of it is written %s(x)", n->name, n->name);
        return bad_info();
    }
    return (struct info){ .ty = ty_of(first && first->kind == N_int ? TY_i32 : TY_none) };
}

static struct info name_value(struct check *c, struct node *n)
{
    if (n->name == intern("inf")) return (struct info){ .ty = { .type = TY_f32, .literal = true } };
    struct sym *s = check_find(c, n->name);
    if (!s && check_param_word(c, n->name)) {
        n->decl = check_param_word(c, n->name);
        return (struct info){ 0 };
    }
    if (!s) s = check_use(c, n);
    n->decl = s->decl;
    struct info out = { .ty = s->ty };
    switch (s->kind) {
    case SYM_bad: return bad_info();
    case SYM_param: return param_value(c, n, s);
    case SYM_axis: out.ty = ty_of(TY_i32); use_axis(c, n, s, &out); return out;
    case SYM_letter:
        out.ty = ty_of(TY_i32);
        check_set_add(c, &out.free, s);
        check_set_add(c, &out.whole, s);
        return out;
    case SYM_dim: case SYM_tune: case SYM_task: out.ty = ty_of(TY_i32); return out;
    case SYM_arg:
        if (s->node->flag == 1 && !s->dims.n) return out;
        return s->dims.n ? wrong_kind(c, n, s) : out;
    case SYM_field: case SYM_view: case SYM_accum: case SYM_tile: return wrong_kind(c, n, s);
    case SYM_shared: case SYM_parm: return s->dims.n ? wrong_kind(c, n, s) : out;
    default: return out;
    }
}

/* Indices */

static const char *dims_text(struct check *c, const nodes *dims)
{
    const char *text = "";
    for (int i = 0; i < dims->n; i++) text = arena_printf(c->arena, "%s%s%s", text, i ? ", " : "", check_text(c, dims->at[i]));
    return text;
}

static struct info one_index(struct check *c, struct node *n)
{
    struct info i = check_expr(c, n);
    if (!i.bad && ty_known(i.ty) && !ty_is_integer(i.ty)) {
        diag_error(c->diag, n->span, "an index is an integer, this is %s", check_ty_text(c, i.ty));
        i.bad = true;
    }
    return i;
}

/* A tile is read by the axes it is declared over, in their order. */
static void tile_indices(struct check *c, struct node *n, struct sym *s, struct info *out)
{
    bool same = true;
    for (int i = 0; i < n->list.n; i++) {
        struct node *x = n->list.at[i];
        struct info one = check_expr(c, x);
        check_merge(c, out, &one);
        if (x->kind != N_name || x->name != s->dims.at[i]->name) same = false;
    }
    if (same || out->bad) return;
    out->bad = true;
    diag_error(c->diag, n->span, "'%s' holds [%s]; it is used here with [%s]", n->name, dims_text(c, &s->dims), dims_text(c, &n->list));
    diag_note(c->diag, s->at, "declared here; write %s[%s]", n->name, dims_text(c, &s->dims));
}

/* c = 512 is held whole: an axis e = 512, by 64 or whole, has its coordinates there too. */
static bool spans_part(const struct sym *axis, const struct sym *whole)
{
    const struct node *x = axis->node, *w = whole->node;
    return !w->d && !w->c && check_same(x->a, w->a) && check_same(x->b, w->b) && !x->c;
}

/* The position of a slot holds the tile of some axis: an index over it, or over an axis inside it, stays in the slot. */
static void field_index(struct check *c, struct node *n, struct sym *s, int at, struct info *out)
{
    struct node *x = n->list.at[at], *d = s->dims.at[at];
    struct info one = one_index(c, x);
    check_merge(c, out, &one);
    if (one.bad) return;
    struct node *declared = d;
    while (declared->kind == N_binary) declared = declared->a;
    if (declared->kind != N_name) return;
    struct sym *axis = check_find(c, declared->name);
    if (!axis || axis->kind != SYM_axis) return;
    for (int i = 0; i < one.free.list.n; i++) {
        struct sym *used = one.free.list.at[i];
        if (used->kind == SYM_axis && !check_axis_within(used, axis) && !spans_part(used, axis)) {
            out->bad = true;
            return;
        }
    }
}

static void field_indices(struct check *c, struct node *n, struct sym *s, struct info *out)
{
    bool before = out->bad;
    for (int i = 0; i < n->list.n; i++) {
        int errors = c->diag->errors;
        field_index(c, n, s, i, out);
        if (c->diag->errors != errors) before = true;
    }
    if (!out->bad || before) return;
    diag_error(c->diag, n->span, "'%s' holds [%s]; it is read here with [%s]", n->name, dims_text(c, &s->dims), dims_text(c, &n->list));
    diag_note(c->diag, s->at, "declared here; a slot is read by the axes it holds, or by axes inside them");
}

static bool field_is_held(struct check *c, struct node *n, struct sym *s)
{
    if (c->filling == s->pipe) {
        diag_error(c->diag, n->name_span, "'%s' is being filled here, it cannot be read", n->name);
        return false;
    }
    for (int i = 0; i < c->held.n; i++)
        if (c->held.at[i] == s->pipe) return true;
    diag_error(c->diag, n->name_span, "'%s' is a field of pipe '%s', which is not consumed here", n->name, s->pipe->name);
    diag_note(c->diag, s->at, "declared here; write 'consume %s' around what reads it", s->pipe->name);
    return false;
}

static bool right_count(struct check *c, struct node *n, struct sym *s)
{
    if (s->dims.n == n->list.n) return true;
    if (!s->dims.n) {
        diag_error(c->diag, n->span, "'%s' is %s, one number; it has no indices", n->name, check_sym_what(s));
    } else {
        diag_error(c->diag, n->span, "'%s' has %d %s, %d %s given", n->name, s->dims.n, s->dims.n == 1 ? "index" : "indices", n->list.n,
                   n->list.n == 1 ? "is" : "are");
        diag_note(c->diag, s->at, "declared here over [%s]", dims_text(c, &s->dims));
    }
    for (int i = 0; i < n->list.n; i++) check_expr(c, n->list.at[i]);
    return false;
}

struct info check_index(struct check *c, struct node *n, bool left)
{
    struct sym *s = check_use(c, n);
    n->decl = s->decl;
    if (s->kind == SYM_bad) {
        for (int i = 0; i < n->list.n; i++) check_expr(c, n->list.at[i]);
        return bad_info();
    }
    if (!right_count(c, n, s)) return bad_info();
    struct info out = { .ty = s->ty };
    bool tile = s->kind == SYM_tile || s->kind == SYM_accum;
    if (s->kind == SYM_field && !left && !field_is_held(c, n, s)) out.bad = true;
    if (s->kind == SYM_arg && !left && s->node->flag == 1 && (c->place & (IN_ROLE | IN_COMBINE | IN_THREAD | IN_KERNEL))) {
        diag_error(c->diag, n->name_span, "'%s' is out: it cannot be read", n->name);
        diag_note(c->diag, s->at, "declared here; inout makes it both");
        out.bad = true;
    }
    if (s->kind == SYM_view && s->task_bound && (c->place & (IN_SPEC | IN_GIVEN | IN_CHECK))) {
        diag_error(c->diag, n->name_span, "view '%s' depends on the task; a spec knows no tasks", n->name);
        out.bad = true;
    }
    if (tile) {
        tile_indices(c, n, s, &out);
    } else if (s->kind == SYM_field) {
        field_indices(c, n, s, &out);
    } else {
        for (int i = 0; i < n->list.n; i++) {
            struct info one = one_index(c, n->list.at[i]);
            check_merge(c, &out, &one);
        }
    }
    return out;
}

static struct info index_value(struct check *c, struct node *n)
{
    return check_index(c, n, false);
}

/* Operators */

static struct info constant(struct check *c, struct node *n)
{
    (void)c;
    return (struct info){ .ty = { .type = n->kind == N_int ? TY_i32 : TY_f32, .literal = true } };
}

static struct info cast_value(struct check *c, struct node *n)
{
    struct info x = check_expr(c, n->a);
    x.ty = check_word_type(c, n->type, n->text, n->name_span);
    return x;
}

static struct info unary_value(struct check *c, struct node *n)
{
    struct info x = check_expr(c, n->a);
    if (x.bad) return x;
    if (n->flag == '~' && ty_known(x.ty) && !ty_is_integer(x.ty)) {
        diag_error(c->diag, n->span, "'~' needs an integer, this is %s", check_ty_text(c, x.ty));
        x.bad = true;
    } else if (n->flag == '-' && !check_has_arithmetic(x.ty)) {
        diag_error(c->diag, n->span, "there is no arithmetic on %s; write f32(...)", check_ty_text(c, x.ty));
        x.bad = true;
    }
    if (n->flag == '!') x.ty = ty_of(TY_bool);
    return x;
}

static bool needs_integers(enum ast_op op)
{
    return op == OP_MOD || op == OP_SHL || op == OP_SHR || op == OP_AND || op == OP_OR || op == OP_XOR;
}

static bool divides(struct check *c, struct node *n)
{
    bool by = n->flag == OP_DIV || n->flag == OP_MOD;
    if (!by || n->b->kind != N_int || n->b->num != 0) return true;
    diag_error(c->diag, n->span, "division by zero");
    return false;
}

static bool compares(enum ast_op op)
{
    return op >= OP_LT && op <= OP_NE;
}

static struct info binary_value(struct check *c, struct node *n)
{
    struct info x = check_expr(c, n->a), y = check_expr(c, n->b), out = { 0 };
    check_merge(c, &out, &x);
    check_merge(c, &out, &y);
    if (n->flag == OP_DIV || n->flag == OP_MOD) out.whole = (struct sym_set){ 0 };
    if (!divides(c, n)) out.bad = true;
    if (out.bad) return out;
    if (needs_integers((enum ast_op)n->flag)) {
        struct ty t = ty_is_float(x.ty) ? x.ty : y.ty;
        if (ty_is_float(t)) {
            diag_error(c->diag, n->span, "'%s' needs integers, this is %s", ast_op_text((enum ast_op)n->flag), check_ty_text(c, t));
            out.bad = true;
            return out;
        }
    }
    if (n->flag == OP_LAND || n->flag == OP_LOR) {
        out.ty = ty_of(TY_bool);
        struct ty t = ty_is_float(x.ty) ? x.ty : y.ty;
        if (ty_is_float(t)) {
            diag_error(c->diag, n->span, "'%s' joins truth values, this is %s", ast_op_text((enum ast_op)n->flag), check_ty_text(c, t));
            out.bad = true;
        }
        return out;
    }
    out.ty = check_join(c, n, x.ty, y.ty, &out.bad);
    if (compares((enum ast_op)n->flag)) out.ty = ty_of(TY_bool);
    return out;
}

static struct info cond_value(struct check *c, struct node *n)
{
    struct info when = check_expr(c, n->a), x = check_expr(c, n->b), y = check_expr(c, n->c), out = { 0 };
    check_merge(c, &out, &when);
    check_merge(c, &out, &x);
    check_merge(c, &out, &y);
    if (out.bad) return out;
    struct node both = { .span = n->span, .a = n->b, .b = n->c };
    bool same = x.ty.type == y.ty.type && x.ty.param == y.ty.param;
    out.ty = same ? x.ty : check_join(c, &both, x.ty, y.ty, &out.bad);
    out.ty.literal = x.ty.literal && y.ty.literal;
    return out;
}

/* Reductions */

/* Binds one name of sum(k: ...): a range's variable, an axis, or an index of a spec. */
static struct sym *bind(struct check *c, struct node *b)
{
    if (b->a) {
        check_integer(c, b->a->a, "a bound");
        check_integer(c, b->a->b, "a bound");
        struct sym *s = check_declare(c, SYM_letter, b->name, b->name_span, b);
        return s;
    }
    struct sym *s = check_find(c, b->name);
    if (!s || s->kind != SYM_axis) return check_declare(c, SYM_letter, b->name, b->name_span, b);
    b->decl = s->decl;
    if (s != c->combining && !check_has_tile(s)) {
        diag_error(c->diag, b->name_span, "axis '%s' has no current tile here", b->name);
        diag_note(c->diag, s->at, "declared here; put it into the grid, or write 'for %s' around", b->name);
    }
    return s;
}

static struct info reduce_value(struct check *c, struct node *n)
{
    static const char *const names[] = { "sum", "max", "min", "any", "all" };
    bool fine = false;
    for (int i = 0; i < COUNT(names); i++) fine |= !strcmp(n->name, names[i]);
    if (!fine) {
        const char *near = diag_nearest(n->name, names, COUNT(names));
        diag_error(c->diag, n->name_span, "there is no reduction '%s'%s%s%s", n->name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
        diag_note(c->diag, n->name_span, "sum, max, min, any and all reduce");
    }
    struct scope scope;
    check_open(c, &scope);
    struct sym *bound[16];
    int count = 0;
    for (int i = 0; i < n->list.n && count < 16; i++) bound[count++] = bind(c, n->list.at[i]);
    struct info body = check_expr(c, n->a), out = { .ty = body.ty, .bad = body.bad || !fine };
    check_close(c);
    for (int i = 0; i < body.free.list.n; i++) {
        struct sym *s = body.free.list.at[i];
        bool removed = false;
        for (int k = 0; k < count; k++) removed |= s == bound[k];
        if (removed) continue;
        check_set_add(c, &out.free, s);
        if (check_set_has(&body.whole, s)) check_set_add(c, &out.whole, s);
    }
    for (int k = 0; k < count && !out.bad; k++) {
        bool parts = bound[k] == c->combining;
        bool number = bound[k]->unit;
        if (check_set_has(&body.free, bound[k]) || parts || number) continue;
        struct node *b = n->list.at[k];
        diag_error(c->diag, b->span, "'%s' does not occur in what is reduced over it", b->name);
        if (bound[k]->kind == SYM_axis && bound[k]->in_grid)
            diag_note(c->diag, b->span, "'%s' is an axis of the grid: its tiles lie in other tasks, 'combine %s' brings them together", b->name, b->name);
        out.bad = true;
    }
    if (!out.bad && ty_known(out.ty) && !check_has_arithmetic(out.ty)) {
        diag_error(c->diag, n->a->span, "there is no arithmetic on %s; write f32(...)", check_ty_text(c, out.ty));
        out.bad = true;
    }
    if (n->name == intern("any") || n->name == intern("all")) out.ty = ty_of(TY_bool);
    out.ty.literal = false;
    return out;
}

static struct info (*const value_of[N_COUNT])(struct check *c, struct node *n) = {
    [N_int] = constant,       [N_float] = constant,     [N_name] = name_value, [N_index] = index_value,
    [N_call] = check_call,    [N_reduce] = reduce_value, [N_cast] = cast_value,    [N_unary] = unary_value,
    [N_binary] = binary_value, [N_cond] = cond_value,
};

struct info check_expr(struct check *c, struct node *n)
{
    if (!n) return (struct info){ 0 };
    if (++c->depth > DEEPEST) {
        if (c->depth == DEEPEST + 1) diag_error(c->diag, n->span, "this expression is nested too deeply; name its parts with let");
        c->depth--;
        return bad_info();
    }
    struct info i = value_of[n->kind] ? value_of[n->kind](c, n) : bad_info();
    c->depth--;
    return i;
}

/* Demands on an expression */

struct info check_number(struct check *c, struct node *n, const char *what)
{
    struct info i = check_expr(c, n);
    bool tile = false;
    for (int k = 0; k < i.free.list.n; k++) tile |= i.free.list.at[k]->kind == SYM_axis;
    if (tile && !i.bad) {
        diag_error(c->diag, n->span, "%s is one number; this is a tile over %s", what, axes_text(c, &i.free));
        diag_note(c->diag, n->span, "reduce it, or declare a tile: f32 x[%s] = ...", check_set_text(c, &i.free));
        i.bad = true;
    }
    return i;
}

struct info check_integer(struct check *c, struct node *n, const char *what)
{
    struct info i = check_number(c, n, what);
    if (!i.bad && ty_known(i.ty) && !ty_is_integer(i.ty)) {
        diag_error(c->diag, n->span, "%s is an integer, this is %s", what, check_ty_text(c, i.ty));
        i.bad = true;
    }
    return i;
}

void check_truth(struct check *c, struct node *n, const char *what)
{
    struct info i = check_expr(c, n);
    bool tile = false;
    for (int k = 0; k < i.free.list.n; k++) tile |= i.free.list.at[k]->kind == SYM_axis;
    if (i.bad) return;
    if (tile) {
        diag_error(c->diag, n->span, "%s takes one truth value; this is a tile over %s", what, axes_text(c, &i.free));
        diag_note(c->diag, n->span, "mask element by element: x[...] = value where condition");
    } else if (ty_is_float(i.ty)) {
        diag_error(c->diag, n->span, "%s takes a truth value, this is %s", what, check_ty_text(c, i.ty));
    }
}

void check_mask(struct check *c, struct node *n, const struct sym_set *over)
{
    if (!n) return;
    struct info i = check_expr(c, n);
    if (i.bad) return;
    if (ty_is_float(i.ty)) diag_error(c->diag, n->span, "'where' takes a truth value, this is %s", check_ty_text(c, i.ty));
    for (int k = 0; k < i.free.list.n; k++) {
        if (check_set_has(over, i.free.list.at[k])) continue;
        diag_error(c->diag, n->span, "'%s' stands in the mask but not on the left", i.free.list.at[k]->name);
        return;
    }
}
