/* check_expr - expressions: names, arities, types as far as they are known, and over which axes a value is a tile. */
#include <string.h>

#include "dsl/check.h"

enum { DEEPEST = 500 };

enum builtin_where { ANY, AXIS, TASK, GIVEN, THREAD };
/* Where a function may be called that has no meaning elsewhere. */
static const struct {
    enum place place;
    const char *name;
} only[] = { [TASK] = { IN_ITER, "an iter" }, [GIVEN] = { IN_GIVEN, "given" }, [THREAD] = { IN_THREAD, "par and each" } };

enum builtin_type { NONE, JOIN, F32, I32, BOOL, BITS };
static const struct builtin {
    const char *name;
    int least, most, where;
    enum builtin_type type;
} builtins[] = {
#define BUILTIN(name, least, most, where, type, meaning) { #name, least, most, where, type },
#include "dsl/builtins.def"
};

static const struct builtin *builtin_find(const char *name)
{
    for (int i = 0; i < COUNT(builtins); i++)
        if (!strcmp(builtins[i].name, name)) return &builtins[i];
    return NULL;
}

/* Types */

static struct ty of_type(enum type t)
{
    return (struct ty){ .type = t };
}

static bool known(struct ty t)
{
    return t.type || t.param;
}

static bool is_float(struct ty t)
{
    return type_is_float(t.type);
}

static bool is_integer(struct ty t)
{
    return t.type && !type_is_float(t.type);
}

/* Arithmetic is done in f32 and on integers; narrower values are converted by name. */
static bool has_arithmetic(struct ty t)
{
    if (t.param) {
        for (int i = 0; i < t.param->list.n; i++)
            if (!has_arithmetic(of_type(t.param->list.at[i]->type))) return false;
        return true;
    }
    return !t.type || t.literal || t.type == TY_f32 || !type_is_float(t.type);
}

const char *check_ty_text(struct check *c, struct ty t)
{
    if (!t.param) return t.type ? type_name(t.type) : "unknown";
    const char *text = arena_printf(c->arena, "%s (", t.param->name);
    for (int i = 0; i < t.param->list.n; i++)
        text = arena_printf(c->arena, "%s%s%s", text, i ? " | " : "", type_name(t.param->list.at[i]->type));
    return arena_printf(c->arena, "%s)", text);
}

/* What to write to convert to t: "bf16", "OUT". */
static const char *cast_name(struct ty t)
{
    return t.param ? t.param->name : type_name(t.type);
}

struct ty check_word_type(struct check *c, enum type type, const char *text, struct span at)
{
    if (!text) return of_type(type);
    const char *names[64 + TY_COUNT];
    int n = 0;
    for (int i = 0; c->kernel && i < c->kernel->list.n && n < 64; i++) {
        struct node *p = c->kernel->list.at[i];
        if (p->list.at[0]->kind != N_typename) {
            if (strcmp(p->name, text)) continue;
            diag_error(c->diag, at, "parameter '%s' stands for numbers or words, not for types", text);
            diag_note(c->diag, p->name_span, "declared here; %s = f32 | bf16 would make it a type", text);
            return of_type(TY_none);
        }
        names[n++] = p->name;
        if (!strcmp(p->name, text)) return (struct ty){ .param = p };
    }
    for (int t = TY_none + 1; t < TY_COUNT; t++) names[n++] = type_name((enum type)t);
    const char *near = diag_nearest(text, names, n);
    diag_error(c->diag, at, "there is no type '%s'%s%s%s", text, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    return of_type(TY_none);
}

/* The type of x op y, both arithmetic; says what is wrong with them otherwise. */
static struct ty join(struct check *c, struct node *n, struct ty x, struct ty y, bool *bad)
{
    struct ty both[2] = { x, y };
    for (int i = 0; i < 2; i++) {
        if (has_arithmetic(both[i])) continue;
        *bad = true;
        diag_error(c->diag, i == 0 && n->a ? n->a->span : n->b ? n->b->span : n->span, "there is no arithmetic on %s; write f32(...)",
                   check_ty_text(c, both[i]));
        return of_type(TY_none);
    }
    if (!known(x) || !known(y)) return of_type(TY_none);
    if (x.literal && y.literal) return is_float(x) ? x : y;
    bool mixed = (x.literal ? is_float(x) && is_integer(y) : y.literal ? is_float(y) && is_integer(x)
                  : is_float(x) != is_float(y) && x.param == y.param);
    if (mixed) {
        *bad = true;
        diag_error(c->diag, n->span, "%s and %s do not mix; write f32(...) around the integer", check_ty_text(c, x), check_ty_text(c, y));
        return of_type(TY_none);
    }
    if (x.literal) return y;
    if (y.literal) return x;
    if (x.param != y.param) {
        *bad = true;
        diag_error(c->diag, n->span, "%s and %s do not mix; write f32(...)", check_ty_text(c, x), check_ty_text(c, y));
        return of_type(TY_none);
    }
    if (x.param) return x;
    if (type_bits(x.type) < 32) x = of_type(TY_i32);
    if (type_bits(y.type) < 32) y = of_type(TY_i32);
    if (type_bits(x.type) != type_bits(y.type)) return type_bits(x.type) > type_bits(y.type) ? x : y;
    return type_kind(x.type) == TYPE_UINT ? x : y;
}

void check_stored(struct check *c, const char *name, struct ty to, struct info from, struct node *value)
{
    if (from.bad || !known(to) || !known(from.ty)) return;
    if (from.ty.literal && (is_integer(from.ty) || !is_integer(to))) return;
    if (to.param == from.ty.param && to.type == from.ty.type) return;
    if (is_integer(to) && is_integer(from.ty) && type_bits(from.ty.type) <= type_bits(to.type)) return;
    if (is_integer(to) && is_integer(from.ty) && from.ty.type == TY_i32 && value->kind == N_cond) return;
    diag_error(c->diag, value->span, "'%s' holds %s, this is %s; write %s(...)", name, check_ty_text(c, to), check_ty_text(c, from.ty),
               cast_name(to));
}

/* Helpers on infos */

static struct info bad_info(void)
{
    return (struct info){ .bad = true };
}

static void merge(struct check *c, struct info *to, const struct info *from)
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
static bool has_tile(const struct sym *axis)
{
    return axis->in_grid || axis->fixed || axis->walked;
}

static void use_axis(struct check *c, struct node *n, struct sym *s, struct info *out)
{
    if (!has_tile(s)) {
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
    return (struct info){ .ty = of_type(first && first->kind == N_int ? TY_i32 : TY_none) };
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
    case SYM_axis: out.ty = of_type(TY_i32); use_axis(c, n, s, &out); return out;
    case SYM_letter:
        out.ty = of_type(TY_i32);
        check_set_add(c, &out.free, s);
        check_set_add(c, &out.whole, s);
        return out;
    case SYM_dim: case SYM_tune: case SYM_task: out.ty = of_type(TY_i32); return out;
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
    if (!i.bad && known(i.ty) && !is_integer(i.ty)) {
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
        merge(c, out, &one);
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
    merge(c, out, &one);
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
            merge(c, &out, &one);
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
    if (n->flag == '~' && known(x.ty) && !is_integer(x.ty)) {
        diag_error(c->diag, n->span, "'~' needs an integer, this is %s", check_ty_text(c, x.ty));
        x.bad = true;
    } else if (n->flag == '-' && !has_arithmetic(x.ty)) {
        diag_error(c->diag, n->span, "there is no arithmetic on %s; write f32(...)", check_ty_text(c, x.ty));
        x.bad = true;
    }
    if (n->flag == '!') x.ty = of_type(TY_bool);
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
    merge(c, &out, &x);
    merge(c, &out, &y);
    if (n->flag == OP_DIV || n->flag == OP_MOD) out.whole = (struct sym_set){ 0 };
    if (!divides(c, n)) out.bad = true;
    if (out.bad) return out;
    if (needs_integers((enum ast_op)n->flag)) {
        struct ty t = is_float(x.ty) ? x.ty : y.ty;
        if (is_float(t)) {
            diag_error(c->diag, n->span, "'%s' needs integers, this is %s", ast_op_text((enum ast_op)n->flag), check_ty_text(c, t));
            out.bad = true;
            return out;
        }
    }
    if (n->flag == OP_LAND || n->flag == OP_LOR) {
        out.ty = of_type(TY_bool);
        struct ty t = is_float(x.ty) ? x.ty : y.ty;
        if (is_float(t)) {
            diag_error(c->diag, n->span, "'%s' joins truth values, this is %s", ast_op_text((enum ast_op)n->flag), check_ty_text(c, t));
            out.bad = true;
        }
        return out;
    }
    out.ty = join(c, n, x.ty, y.ty, &out.bad);
    if (compares((enum ast_op)n->flag)) out.ty = of_type(TY_bool);
    return out;
}

static struct info cond_value(struct check *c, struct node *n)
{
    struct info when = check_expr(c, n->a), x = check_expr(c, n->b), y = check_expr(c, n->c), out = { 0 };
    merge(c, &out, &when);
    merge(c, &out, &x);
    merge(c, &out, &y);
    if (out.bad) return out;
    struct node both = { .span = n->span, .a = n->b, .b = n->c };
    bool same = x.ty.type == y.ty.type && x.ty.param == y.ty.param;
    out.ty = same ? x.ty : join(c, &both, x.ty, y.ty, &out.bad);
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
    if (s != c->combining && !has_tile(s)) {
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
    if (!out.bad && known(out.ty) && !has_arithmetic(out.ty)) {
        diag_error(c->diag, n->a->span, "there is no arithmetic on %s; write f32(...)", check_ty_text(c, out.ty));
        out.bad = true;
    }
    if (n->name == intern("any") || n->name == intern("all")) out.ty = of_type(TY_bool);
    out.ty.literal = false;
    return out;
}

/* Calls */

static bool count_args(struct check *c, struct node *n, int least, int most)
{
    int got = n->list.n;
    if (got >= least && (most < 0 || got <= most)) return true;
    if (least == most) diag_error(c->diag, n->span, "'%s' takes %d argument%s, %d given", n->name, least, least == 1 ? "" : "s", got);
    else diag_error(c->diag, n->span, "'%s' takes at least %d arguments, %d given", n->name, least, got);
    return false;
}

static struct info axis_call(struct check *c, struct node *n)
{
    struct info out = { .ty = of_type(TY_i32) };
    struct node *x = n->list.at[0];
    struct sym *s = x->kind == N_name ? check_use(c, x) : NULL;
    if (s && s->kind == SYM_bad) return bad_info();
    if (!s || s->kind != SYM_axis) {
        diag_error(c->diag, x->span, "'%s' takes an axis%s%s", n->name, s ? "; this is " : "", s ? check_sym_what(s) : "");
        if (!s) check_expr(c, x);
        return bad_info();
    }
    x->decl = s->decl;
    bool tile = strcmp(n->name, "tiles") && strcmp(n->name, "span");
    if (tile && !has_tile(s)) {
        diag_error(c->diag, x->span, "axis '%s' has no current tile here", x->name);
        diag_note(c->diag, s->at, "declared here; put it into the grid, or write 'for %s' around", x->name);
        out.bad = true;
    }
    return out;
}

/* A tensor by its name, where an iter or a test takes one whole. */
static struct info tensor_arg(struct check *c, struct node *x)
{
    struct sym *s = x->kind == N_name ? check_find(c, x->name) : NULL;
    if (!s || !s->dims.n) return check_expr(c, x);
    x->decl = s->decl;
    return (struct info){ 0 };
}

static struct info builtin_call(struct check *c, struct node *n, const struct builtin *b)
{
    bool allowed = b->where == ANY || b->where == AXIS || c->place == only[b->where].place;
    if (!allowed) diag_error(c->diag, n->span, "'%s' is called in %s only", n->name, only[b->where].name);
    if (!count_args(c, n, b->least, b->most)) {
        for (int i = 0; i < n->list.n; i++) tensor_arg(c, n->list.at[i]);
        return bad_info();
    }
    if (b->where == AXIS) return axis_call(c, n);
    struct info out = { .bad = !allowed };
    for (int i = 0; i < n->list.n; i++) {
        struct info x = !allowed ? tensor_arg(c, n->list.at[i]) : check_expr(c, n->list.at[i]);
        merge(c, &out, &x);
        struct node two = { .span = n->span, .a = n->list.at[0], .b = n->list.at[i] };
        if (b->type == JOIN && !out.bad) out.ty = i ? join(c, &two, out.ty, x.ty, &out.bad) : x.ty;
        if (b->type == BITS) out.ty = of_type(!x.ty.type ? TY_none : type_bits(x.ty.type) <= 8 ? TY_u8 : type_bits(x.ty.type) == 16 ? TY_u16
                                              : type_bits(x.ty.type) == 64 ? TY_u64 : TY_u32);
        bool wants_float = b->type == F32;
        if (wants_float && !out.bad && known(x.ty) && !x.ty.literal && (is_integer(x.ty) || !has_arithmetic(x.ty))) {
            diag_error(c->diag, n->list.at[i]->span, "'%s' takes f32, this is %s; write f32(...)", n->name, check_ty_text(c, x.ty));
            out.bad = true;
        }
    }
    if (b->type == JOIN && !out.bad && b->least == 1 && !has_arithmetic(out.ty)) {
        diag_error(c->diag, n->span, "there is no arithmetic on %s; write f32(...)", check_ty_text(c, out.ty));
        out.bad = true;
    }
    if (b->type == F32) out.ty = of_type(TY_f32);
    if (b->type == I32) out.ty = of_type(TY_i32);
    return out;
}

/* Arguments of a fn, iter or intrinsic: as many as it takes, tensors where it indexes them. */
struct info check_call_args(struct check *c, struct node *call, struct node *callee)
{
    struct info out = { 0 };
    call->decl = callee;
    if (!count_args(c, call, callee->list.n, callee->list.n)) {
        diag_note(c->diag, callee->name_span, "'%s' is declared here", callee->name);
        for (int i = 0; i < call->list.n; i++) tensor_arg(c, call->list.at[i]);
        return bad_info();
    }
    for (int i = 0; i < call->list.n; i++) {
        struct node *x = call->list.at[i], *p = callee->list.at[i];
        if (!p->list.n) {
            struct info one = check_expr(c, x);
            merge(c, &out, &one);
            if (p->type) check_stored(c, p->name, of_type(p->type), one, x);
            continue;
        }
        struct sym *s = x->kind == N_name ? check_use(c, x) : NULL;
        if (s && s->kind == SYM_bad) { out.bad = true; continue; }
        if (!s || s->dims.n != p->list.n) {
            diag_error(c->diag, x->span, "'%s' takes a tensor with %d %s here", callee->name, p->list.n, p->list.n == 1 ? "dimension" : "dimensions");
            diag_note(c->diag, p->span, "declared here");
            out.bad = true;
            continue;
        }
        x->decl = s->decl;
    }
    return out;
}

static void count_return(struct node *n, void *ctx)
{
    if (n->kind == N_return) *(int *)ctx = n->list.n;
}

int check_returns(struct node *fn)
{
    int n = 1;
    check_walk(fn->a, count_return, &n);
    return n;
}

static struct info unknown_call(struct check *c, struct node *n)
{
    VEC(const char *) names = { 0 };
    for (int i = 0; i < COUNT(builtins); i++) vec_push(c->arena, &names, builtins[i].name);
    for (int i = 0; i < c->callables.n; i++) vec_push(c->arena, &names, c->callables.at[i]->name);
    const char *near = diag_nearest(n->name, names.at, names.n);
    if (type_find(n->name) == TY_none)
        diag_error(c->diag, n->name_span, "there is no function '%s'%s%s%s", n->name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    for (int i = 0; i < n->list.n; i++) tensor_arg(c, n->list.at[i]);
    return bad_info();
}

static struct info call_value(struct check *c, struct node *n)
{
    struct node *callee = check_callable(c, n->name);
    const struct builtin *b = builtin_find(n->name);
    if (!callee && b) return builtin_call(c, n, b);
    if (!callee) return unknown_call(c, n);
    if (callee->kind == N_iter || callee->kind == N_kernel) {
        diag_error(c->diag, n->name_span, "'%s' is %s; it is not called in an expression", n->name, callee->kind == N_iter ? "an iter" : "a kernel");
        diag_note(c->diag, n->name_span, callee->kind == N_iter ? "an iter gives a grid its tasks: grid (...) in %s(...)" : "given x = run %s(...)", n->name);
        return bad_info();
    }
    struct info out = check_call_args(c, n, callee);
    if (callee->kind == N_intrinsic) {
        out.ty = of_type(callee->type);
    } else if (!out.bad && check_returns(callee) != 1) {
        diag_error(c->diag, n->span, "'%s' gives %d results; take them with let (a, b) = %s(...)", n->name, check_returns(callee), n->name);
        out.bad = true;
    }
    return out;
}

static struct info (*const value_of[N_COUNT])(struct check *c, struct node *n) = {
    [N_int] = constant,       [N_float] = constant,     [N_name] = name_value, [N_index] = index_value,
    [N_call] = call_value,    [N_reduce] = reduce_value, [N_cast] = cast_value,    [N_unary] = unary_value,
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
    if (!i.bad && known(i.ty) && !is_integer(i.ty)) {
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
    } else if (is_float(i.ty)) {
        diag_error(c->diag, n->span, "%s takes a truth value, this is %s", what, check_ty_text(c, i.ty));
    }
}

void check_mask(struct check *c, struct node *n, const struct sym_set *over)
{
    if (!n) return;
    struct info i = check_expr(c, n);
    if (i.bad) return;
    if (is_float(i.ty)) diag_error(c->diag, n->span, "'where' takes a truth value, this is %s", check_ty_text(c, i.ty));
    for (int k = 0; k < i.free.list.n; k++) {
        if (check_set_has(over, i.free.list.at[k])) continue;
        diag_error(c->diag, n->span, "'%s' stands in the mask but not on the left", i.free.list.at[k]->name);
        return;
    }
}

/* mma */

static void factors_of(struct check *c, struct node *n, nodes *out)
{
    if (n->kind == N_binary && n->flag == OP_MUL) {
        factors_of(c, n->a, out);
        factors_of(c, n->b, out);
    } else {
        vec_push(c->arena, out, n);
    }
}

/* Which types meet in one instruction: 16-bit floats of one kind, tf32, the 8-bit and narrower floats among each other, bytes. */
static int operand_class(enum type t)
{
    switch (t) {
    case TY_f16: return 1;
    case TY_bf16: return 2;
    case TY_tf32: return 3;
    case TY_e4m3: case TY_e5m2: case TY_e2m1: return 4;
    case TY_i8: case TY_u8: return 5;
    default: return 0;
    }
}

static void operand_types(struct check *c, struct node *x, struct node *y, struct ty tx, struct ty ty)
{
    struct node *both[2] = { x, y };
    struct ty tys[2] = { tx, ty };
    for (int i = 0; i < 2; i++) {
        if (!tys[i].type || operand_class(tys[i].type)) continue;
        diag_error(c->diag, both[i]->span, "an operand of mma cannot be %s", check_ty_text(c, tys[i]));
        if (tys[i].type == TY_f32) diag_note(c->diag, both[i]->span, "write tf32(...), bf16(...) or f16(...) around it");
        return;
    }
    if (tx.type && ty.type && operand_class(tx.type) != operand_class(ty.type)) {
        diag_error(c->diag, y->span, "the operands of mma are %s and %s; no tensor core multiplies these", check_ty_text(c, tx), check_ty_text(c, ty));
        diag_note(c->diag, y->span, "convert one of them, for example %s(...)", cast_name(type_bits(tx.type) > type_bits(ty.type) ? tx : ty));
    }
}

void check_mma_value(struct check *c, struct node *n, const struct sym_set *left)
{
    nodes factors = { 0 };
    factors_of(c, n, &factors);
    if (!left) {
        for (int i = 0; i < factors.n; i++) check_expr(c, factors.at[i]);
        return;
    }
    struct info info[16];
    struct sym_set summed = { 0 }, all = { 0 };
    bool bad = false;
    if (factors.n > 16) {
        diag_error(c->diag, n->span, "an mma has at most 16 factors, these are %d", factors.n);
        return;
    }
    for (int i = 0; i < factors.n; i++) {
        info[i] = check_expr(c, factors.at[i]);
        bad |= info[i].bad;
        check_set_join(c, &all, &info[i].free);
        for (int k = 0; k < info[i].free.list.n; k++)
            if (!check_set_has(left, info[i].free.list.at[k])) check_set_add(c, &summed, info[i].free.list.at[k]);
    }
    if (bad) return;
    if (factors.n < 2) {
        diag_error(c->diag, n->span, "an mma is a product of two operands and perhaps scales; this is one factor");
        return;
    }
    if (!summed.list.n) {
        diag_error(c->diag, n->span, "nothing is contracted here: every axis of the factors is on the left");
        diag_note(c->diag, n->span, "an axis that stands on the right only is summed over; without one, write a plain assignment");
        return;
    }
    int operand[16], operands = 0;
    for (int i = 0; i < factors.n; i++) {
        bool carries = false;
        for (int k = 0; k < summed.list.n; k++) carries |= check_set_has(&info[i].whole, summed.list.at[k]);
        if (carries) operand[operands++] = i;
    }
    if (operands != 2) {
        diag_error(c->diag, n->span, "%s factor%s carr%s '%s' undivided; an mma has two such operands", operands == 0 ? "no" : operands == 1 ? "only one" :
                   arena_printf(c->arena, "%d", operands), operands < 2 ? "" : "s", operands < 2 ? "ies" : "y", check_set_text(c, &summed));
        diag_note(c->diag, n->span, "the operands are the factors that hold the contracted axis itself; scales hold it divided (k/128) or not at all");
        return;
    }
    for (int k = 0; k < left->list.n; k++) {
        if (check_set_has(&info[operand[0]].free, left->list.at[k]) || check_set_has(&info[operand[1]].free, left->list.at[k])) continue;
        diag_error(c->diag, n->span, "'%s' of the left side is in neither operand", left->list.at[k]->name);
        return;
    }
    operand_types(c, factors.at[operand[0]], factors.at[operand[1]], info[operand[0]].ty, info[operand[1]].ty);
}
