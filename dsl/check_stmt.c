/* check_stmt - statements: where each may stand, what may be assigned, scopes of blocks. */
#include <string.h>

#include "dsl/check.h"

enum { THREADS = IN_THREAD, CODE = IN_ROLE | IN_COMBINE | IN_THREAD | IN_FN | IN_ITER | IN_CHECK };

/* Names of variables */

static struct sym *declare_scalar(struct check *c, enum sym_kind kind, const char *name, struct span at, struct node *node, struct info value)
{
    struct sym *s = check_declare(c, kind, name, at, node);
    s->ty = value.ty;
    s->ty.literal = false;
    return s;
}

void check_results(struct check *c, struct node *n)
{
    struct node *callee = n->a->kind == N_call ? check_callable(c, n->a->name) : NULL;
    if (!callee || callee->kind != N_fn) {
        if (n->a->kind != N_call || callee) diag_error(c->diag, n->a->span, "'let (a, b) =' takes the results of a fn; this is no call of one");
        else check_expr(c, n->a);
        return;
    }
    check_call_args(c, n->a, callee);
    int results = check_returns(callee);
    if (results == n->list.n) return;
    diag_error(c->diag, n->span, "'%s' gives %d result%s, %d names are here", n->a->name, results, results == 1 ? "" : "s", n->list.n);
    diag_note(c->diag, callee->name_span, "'%s' is declared here", n->a->name);
}

static struct info old_value(struct check *c, struct node *n)
{
    struct info value;
    struct sym *target = NULL;
    check_left(c, n->a->a, true, &value, &target);
    struct info v = check_expr(c, n->a->b);
    if (!value.bad) check_stored(c, target->name, value.ty, v, n->a->b);
    if (value.free.list.n && value.free.list.at[0]->kind == SYM_axis)
        diag_error(c->diag, n->span, "the old value of an atomic is one number; this is a tile");
    return value;
}

static void stmt_let(struct check *c, struct node *n)
{
    struct info value = { 0 };
    if (n->list.n > 1) check_results(c, n);
    else value = n->a->kind == N_atomic ? old_value(c, n) : check_number(c, n->a, "a let");
    for (int i = 0; i < n->list.n; i++) {
        struct node *name = n->list.at[i];
        name->decl = n;
        declare_scalar(c, SYM_let, name->name, name->span, name, value);
    }
}

static void stmt_var(struct check *c, struct node *n)
{
    struct info value = check_number(c, n->a, "a var");
    declare_scalar(c, SYM_var, n->name, n->name_span, n, value);
}

/* Declares the axes of a tile: distinct names of axes that have a current tile. */
static void tile_axes(struct check *c, struct node *n, struct sym_set *over)
{
    for (int i = 0; i < n->list.n; i++) {
        struct node *x = n->list.at[i];
        if (x->kind != N_name) {
            diag_error(c->diag, x->span, "a tile is declared over axes; this is an expression");
            diag_note(c->diag, x->span, "windows such as j/128 exist in slots of pipes");
            check_expr(c, x);
            continue;
        }
        struct sym *s = check_use(c, x);
        if (s->kind == SYM_bad) continue;
        if (s->kind != SYM_axis) {
            diag_error(c->diag, x->span, "a tile is declared over axes; '%s' is %s", x->name, check_sym_what(s));
            continue;
        }
        check_expr(c, x);
        if (check_set_has(over, s)) diag_error(c->diag, x->span, "axis '%s' stands twice", x->name);
        check_set_add(c, over, s);
    }
}

static void only_over(struct check *c, struct info *value, const struct sym_set *over, struct span at)
{
    for (int i = 0; i < value->free.list.n && !value->bad; i++) {
        struct sym *s = value->free.list.at[i];
        if (s->kind == SYM_letter || check_set_has(over, s)) continue;
        diag_error(c->diag, at, "'%s' stands on the right but not on the left", s->name);
        diag_note(c->diag, at, "reduce over it: sum(%s: ...), or give the left side this index", s->name);
        value->bad = true;
    }
}

static struct sym *declare_tile(struct check *c, enum sym_kind kind, struct node *n)
{
    struct sym *s = check_declare(c, kind, n->name, n->name_span, n);
    s->ty = check_word_type(c, n->type, n->text, n->span);
    s->dims = n->list;
    s->role = c->role;
    return s;
}

static void stmt_tile(struct check *c, struct node *n)
{
    struct sym_set over = { 0 };
    tile_axes(c, n, &over);
    struct info value = check_expr(c, n->a);
    only_over(c, &value, &over, n->a->span);
    check_mask(c, n->c, &over);
    struct info other = check_expr(c, n->d);
    only_over(c, &other, &over, n->span);
    if (n->c && !n->d) {
        diag_error(c->diag, n->span, "a tile has a value everywhere: 'where' needs an 'else' here");
    }
    struct sym *s = declare_tile(c, SYM_tile, n);
    check_stored(c, n->name, s->ty, value, n->a);
    if (n->d) check_stored(c, n->name, s->ty, other, n->d);
}

static void stmt_accum(struct check *c, struct node *n)
{
    struct sym_set over = { 0 };
    tile_axes(c, n, &over);
    struct info value = check_expr(c, n->a);
    only_over(c, &value, &over, n->span);
    struct sym *s = declare_tile(c, SYM_accum, n);
    if (n->a) check_stored(c, n->name, s->ty, value, n->a);
    if (s->ty.type && s->ty.type != TY_f32 && s->ty.type != TY_f16 && s->ty.type != TY_i32)
        diag_error(c->diag, n->span, "an accumulator is f32, f16 or i32, not %s", type_name(s->ty.type));
}

static void stmt_shared(struct check *c, struct node *n)
{
    for (int i = 0; i < n->list.n; i++) check_integer(c, n->list.at[i], "an extent");
    struct sym *s = check_declare(c, SYM_shared, n->name, n->name_span, n);
    s->ty = check_word_type(c, n->type, n->text, n->span);
    s->dims = n->list;
}

/* Left sides */

static struct info left_name(struct check *c, struct node *n, struct sym **target)
{
    struct sym *s = check_use(c, n);
    n->decl = s->decl;
    *target = s;
    struct info out = { .ty = s->ty, .bad = s->kind == SYM_bad };
    if (out.bad) return out;
    bool whole = s->dims.n && (s->kind == SYM_tile || s->kind == SYM_accum || s->kind == SYM_arg || s->kind == SYM_shared || s->kind == SYM_view || s->kind == SYM_field);
    if (whole && s->kind != SYM_field) {
        diag_error(c->diag, n->span, "'%s' is %s; it is assigned with its indices", n->name, check_sym_what(s));
        out.bad = true;
    }
    return out;
}

static void not_assignable(struct check *c, struct node *left, struct sym *s)
{
    diag_error(c->diag, left->name_span, "'%s' is %s, it cannot be assigned", left->name, check_sym_what(s));
    if (s->kind == SYM_let) diag_note(c->diag, s->at, "declared here; a var can change");
    else if (s->kind == SYM_field) diag_note(c->diag, s->at, "declared here; fields are filled in 'produce %s { }'", s->pipe->name);
    else if (s->at.hi) diag_note(c->diag, s->at, "declared here");
}

static bool may_write(struct check *c, struct node *left, struct sym *s, bool adds)
{
    struct sym *arg = s->kind == SYM_view ? s->base : s;
    switch (s->kind) {
    case SYM_var: case SYM_shared: case SYM_tile: case SYM_accum: return true;
    case SYM_arg: case SYM_view:
        if (!arg) return false;
        if (c->place & (IN_FN | IN_ITER | IN_CHECK)) {
            diag_error(c->diag, left->name_span, "'%s' is stored to by roles only", left->name);
            return false;
        }
        if (arg->node->flag == 0) {
            diag_error(c->diag, left->name_span, "'%s' is in: it cannot be written", arg->name);
            diag_note(c->diag, arg->at, "declared here; out or inout makes it writable");
            return false;
        }
        if (adds && arg->node->flag == 1) {
            diag_error(c->diag, left->name_span, "'%s' is out: += reads what it holds", arg->name);
            diag_note(c->diag, arg->at, "declared here; inout makes it readable");
            return false;
        }
        return true;
    default: not_assignable(c, left, s); return false;
    }
}

/* Every grid axis a store does not name is a set of tasks that write the same elements. */
struct names_axis {
    struct sym *axis;
    struct check *c;
    bool found;
};
static void find_axis(struct node *n, void *ctx)
{
    struct names_axis *f = ctx;
    struct sym *s = n->kind == N_name ? check_find(f->c, n->name) : NULL;
    if (s && s->kind == SYM_axis && check_axis_within(s, f->axis)) f->found = true;
}

static void written_once(struct check *c, struct node *left)
{
    for (int i = 0; i < c->grid_axes.n; i++) {
        struct names_axis f = { c->grid_axes.at[i], c, false };
        if (f.axis == c->combining) continue;
        for (int k = 0; k < left->list.n; k++) check_walk(left->list.at[k], find_axis, &f);
        if (f.found) continue;
        diag_error(c->diag, left->span, "tasks along '%s' all write %s", f.axis->name, check_text(c, left));
        diag_note(c->diag, left->span, "'combine %s { }' merges their results in a fixed order, 'atomic' in any order", f.axis->name);
        return;
    }
}

void check_left(struct check *c, struct node *left, bool atomic, struct info *out, struct sym **target)
{
    struct sym *s = NULL;
    if (left->kind == N_name) {
        *out = left_name(c, left, &s);
    } else {
        *out = check_index(c, left, true);
        s = check_find(c, left->name);
    }
    *target = s;
    if (out->bad || !s || s->kind == SYM_bad) {
        out->bad = true;
        if (s && s->kind == SYM_arg) s->written = true;
        return;
    }
    out->bad |= !may_write(c, left, s, atomic);
    struct sym *arg = s->kind == SYM_view ? s->base : s->kind == SYM_arg ? s : NULL;
    if (arg) arg->written = true;
}

static void stmt_assign(struct check *c, struct node *n)
{
    struct info left;
    struct sym *target;
    check_left(c, n->a, n->flag, &left, &target);
    struct info value = check_expr(c, n->b), other = check_expr(c, n->d);
    if (left.bad) return;
    bool stores = target->kind == SYM_arg || target->kind == SYM_view;
    only_over(c, &value, &left.free, n->b->span);
    only_over(c, &other, &left.free, n->span);
    check_mask(c, n->c, &left.free);
    check_stored(c, target->name, left.ty, value, n->b);
    if (n->d) check_stored(c, target->name, left.ty, other, n->d);
    if (stores) written_once(c, n->a);
    if (n->flag && target->kind == SYM_shared && c->place == IN_THREAD) {
        diag_error(c->diag, n->span, "several threads add to '%s' at once; write atomic %s += ...", target->name, check_text(c, n->a));
    }
    if (n->c && target->kind == SYM_var) diag_error(c->diag, n->c->span, "'where' masks tiles and tensors; for a var write if");
}

static void stmt_atomic(struct check *c, struct node *n)
{
    static const char *const ops[] = { "max", "min", "and", "or", "xor", "exch" };
    struct info left;
    struct sym *target;
    check_left(c, n->a, true, &left, &target);
    bool known = !n->text;
    for (int i = 0; i < COUNT(ops); i++) known |= n->text && !strcmp(n->text, ops[i]);
    if (!known) {
        diag_error(c->diag, n->name_span, "there is no 'atomic %s'", n->text);
        diag_note(c->diag, n->name_span, "atomic x += v, and atomic max, min, and, or, xor, exch x = v exist");
    }
    struct info value = check_expr(c, n->b);
    if (left.bad) return;
    only_over(c, &value, &left.free, n->b->span);
    check_stored(c, target->name, left.ty, value, n->b);
    if (target->kind != SYM_arg && target->kind != SYM_view && target->kind != SYM_shared)
        diag_error(c->diag, n->a->span, "'%s' is %s; atomic works on tensors and shared variables", target->name, check_sym_what(target));
}

static void stmt_mma(struct check *c, struct node *n)
{
    struct info left;
    struct sym *target = NULL;
    if (n->a->kind == N_name) {
        left = left_name(c, n->a, &target);
        if (!left.bad) diag_error(c->diag, n->a->span, "the left side of mma is an accumulator; '%s' is %s", n->a->name, check_sym_what(target));
        left.bad = true;
    } else {
        left = check_index(c, n->a, true);
        target = check_find(c, n->a->name);
        if (!left.bad && target->kind != SYM_accum) {
            diag_error(c->diag, n->a->span, "the left side of mma is an accumulator; '%s' is %s", n->a->name, check_sym_what(target));
            if (target->kind == SYM_tile) diag_note(c->diag, target->at, "declared here; write accum f32 %s[...]", n->a->name);
            left.bad = true;
        }
    }
    check_mma_value(c, n->b, left.bad ? NULL : &left.free);
}

/* Control */

static void body(struct check *c, struct node *n)
{
    if (n->kind == N_block) {
        check_block(c, n);
        return;
    }
    struct scope scope;
    check_open(c, &scope);
    check_stmt(c, n);
    check_close(c);
}

static void stmt_block(struct check *c, struct node *n)
{
    if (n->flag) { /* a carrier: several lets of one statement, alone in an if */
        for (int i = 0; i < n->list.n; i++) check_stmt(c, n->list.at[i]);
        return;
    }
    check_block(c, n);
}

static void for_axis(struct check *c, struct node *n)
{
    struct sym *s = check_use(c, n);
    n->decl = s->decl;
    if (s->kind != SYM_axis) {
        if (s->kind != SYM_bad) {
            diag_error(c->diag, n->name_span, "'for %s' walks an axis; '%s' is %s", n->name, n->name, check_sym_what(s));
            diag_note(c->diag, n->name_span, "a loop over numbers is: for x in a .. b");
        }
        body(c, n->b);
        return;
    }
    if (!(c->place & IN_ROLE)) diag_error(c->diag, n->name_span, "an axis is walked in a role, outside combine, par and each");
    else if (s->in_grid) {
        diag_error(c->diag, n->name_span, "axis '%s' is in the grid: a task has one tile of it", n->name);
        diag_note(c->diag, s->at, "declared here");
    } else if (s->walked) {
        diag_error(c->diag, n->name_span, "axis '%s' is being walked already", n->name);
    } else if (!s->node->d) {
        diag_error(c->diag, n->name_span, "axis '%s' has no tiles to walk: it is taken whole", n->name);
        diag_note(c->diag, s->at, "declared here without 'by'");
    } else if (s->parent && !check_has_tile(s->parent) && s->parent->node->d) {
        diag_error(c->diag, n->name_span, "axis '%s' lies inside '%s', which has no current tile here", n->name, s->parent->name);
        diag_note(c->diag, s->at, "declared here; write 'for %s for %s'", s->parent->name, n->name);
    }
    bool again = s->walked++;
    if (!again) vec_push(c->arena, &c->loops, s);
    body(c, n->b);
    if (!again) c->loops.n--;
    s->walked--;
}

static void range_of(struct check *c, struct node *r)
{
    check_integer(c, r->a, "a bound");
    check_integer(c, r->b, "a bound");
    if (!r->c) return;
    check_integer(c, r->c, "a step");
    if (r->c->kind == N_int && r->c->num < 1) diag_error(c->diag, r->c->span, "a step is at least 1");
}

static void over_range(struct check *c, struct node *n)
{
    range_of(c, n->a);
    struct scope scope;
    check_open(c, &scope);
    struct sym *s = check_declare(c, SYM_loop, n->name, n->name_span, n);
    s->ty.type = TY_i32;
    n->decl = n;
    if (n->kind == N_scan) {
        struct info left;
        struct sym *target;
        check_left(c, n->b, false, &left, &target);
        struct info value = check_number(c, n->c, "what scan adds up");
        if (!left.bad && target->kind != SYM_shared) diag_error(c->diag, n->b->span, "scan writes to a shared array; '%s' is %s", n->b->name, check_sym_what(target));
        else if (!left.bad && (n->b->list.n != 1 || n->b->list.at[0]->kind != N_name || n->b->list.at[0]->name != n->name))
            diag_error(c->diag, n->b->span, "scan fills x[%s], one element for each %s", n->name, n->name);
        else if (!left.bad) check_stored(c, target->name, left.ty, value, n->c);
    } else {
        body(c, n->b);
    }
    check_close(c);
}

static void stmt_for(struct check *c, struct node *n)
{
    if (n->a) over_range(c, n);
    else for_axis(c, n);
}

static void in_place(struct check *c, enum place place, struct node *n, void (*f)(struct check *, struct node *))
{
    enum place before = c->place;
    c->place = place;
    f(c, n);
    c->place = before;
}

static void stmt_par(struct check *c, struct node *n)
{
    in_place(c, IN_THREAD, n, over_range);
}

static void stmt_while(struct check *c, struct node *n)
{
    check_truth(c, n->a, "while");
    body(c, n->b);
}

static void stmt_if(struct check *c, struct node *n)
{
    check_truth(c, n->a, "if");
    body(c, n->b);
    if (n->c) body(c, n->c);
}

static void each_body(struct check *c, struct node *n)
{
    if (n->a) check_truth(c, n->a, "where");
    body(c, n->b);
}

/* Inside, the axes' names are the coordinates of one element. */
static void stmt_each(struct check *c, struct node *n)
{
    struct node use = { .kind = N_name, .name = intern(n->text), .span = n->name_span, .name_span = n->name_span };
    struct sym *t = check_use(c, &use);
    bool fine = t->kind == SYM_tile || t->kind == SYM_accum;
    if (!fine && t->kind != SYM_bad) diag_error(c->diag, n->name_span, "'each' goes over the elements of a tile; '%s' is %s", n->text, check_sym_what(t));
    n->decl = t->decl;
    struct scope scope;
    check_open(c, &scope);
    bool same = fine && n->list.n == t->dims.n;
    for (int i = 0; i < n->list.n; i++) {
        struct node *x = n->list.at[i];
        if (same && x->name != t->dims.at[i]->name) same = false;
        x->decl = n;
        struct sym *s = check_declare(c, SYM_letter, x->name, x->span, x);
        s->ty.type = TY_i32;
    }
    if (fine && !same) {
        diag_error(c->diag, n->span, "'each' names the axes of '%s' in their order", n->text);
        diag_note(c->diag, t->at, "declared here");
    }
    in_place(c, IN_THREAD, n, each_body);
    check_close(c);
}

static void combine_body(struct check *c, struct node *n)
{
    body(c, n->a);
}

static void stmt_combine(struct check *c, struct node *n)
{
    struct sym *s = check_use(c, n);
    n->decl = s->decl;
    if (n->b) check_integer(c, n->b, "the number of parts");
    if (n->c) check_integer(c, n->c, "the number of the tile");
    bool task = n->b && (s->kind == SYM_task || s->kind == SYM_let);
    if (s->kind != SYM_bad && !task && (s->kind != SYM_axis || !s->in_grid)) {
        diag_error(c->diag, n->name_span, "'combine' merges over an axis of the grid; '%s' is %s%s", n->name, check_sym_what(s),
                   s->kind == SYM_axis ? " that is not in it" : "");
        diag_note(c->diag, s->at, "declared here");
    }
    if (c->loops.n || c->held.n) {
        diag_error(c->diag, n->name_span, "'combine' stands after the loops of its role, when its tiles are complete");
    }
    struct sym *before = c->combining;
    if (before) diag_error(c->diag, n->name_span, "'combine' inside 'combine'");
    c->combining = s->kind == SYM_bad ? NULL : s;
    in_place(c, IN_COMBINE, n, combine_body);
    c->combining = before;
}

static void stmt_yield(struct check *c, struct node *n)
{
    for (int i = 0; i < n->list.n; i++) check_integer(c, n->list.at[i], "what an iter yields");
    if (n->list.n == c->fn->list2.n) return;
    diag_error(c->diag, n->span, "'%s' yields %d values, %d are here", c->fn->name, c->fn->list2.n, n->list.n);
    diag_note(c->diag, c->fn->name_span, "declared here");
}

static void stmt_return(struct check *c, struct node *n)
{
    for (int i = 0; i < n->list.n; i++) check_expr(c, n->list.at[i]);
}

static void stmt_assert(struct check *c, struct node *n)
{
    if (c->place == IN_CHECK || c->place == IN_THREAD) {
        check_truth(c, n->a, "assert");
        return;
    }
    struct info i = check_expr(c, n->a);
    if (!i.bad && type_is_float(i.ty.type)) diag_error(c->diag, n->a->span, "assert takes a truth value, this is %s", type_name(i.ty.type));
}

static void stmt_print(struct check *c, struct node *n)
{
    for (int i = 0; i < n->list.n; i++)
        if (n->list.at[i]->kind != N_string) check_number(c, n->list.at[i], "what print shows");
}

/* The table of statements: who checks one, where it may stand, what it is called. */
static const struct {
    void (*check)(struct check *, struct node *);
    int where;
    const char *what;
} stmts[N_COUNT] = {
    [N_block]   = { stmt_block, CODE, "a block" },
    [N_for]     = { stmt_for, CODE, "for" },
    [N_while]   = { stmt_while, CODE, "while" },
    [N_if]      = { stmt_if, CODE, "if" },
    [N_produce] = { check_produce, IN_ROLE, "produce" },
    [N_consume] = { check_consume, IN_ROLE, "consume" },
    [N_par]     = { stmt_par, IN_ROLE | IN_COMBINE, "par" },
    [N_scan]    = { over_range, IN_ROLE | IN_COMBINE, "scan" },
    [N_each]    = { stmt_each, IN_ROLE | IN_COMBINE, "each" },
    [N_combine] = { stmt_combine, IN_ROLE | IN_COMBINE, "combine" },
    [N_mma]     = { stmt_mma, IN_ROLE, "mma" },
    [N_accum]   = { stmt_accum, IN_ROLE, "accum" },
    [N_tile]    = { stmt_tile, IN_ROLE | IN_COMBINE, "a tile" },
    [N_shared]  = { stmt_shared, IN_ROLE | IN_KERNEL, "shared" },
    [N_assign]  = { stmt_assign, CODE, "an assignment" },
    [N_atomic]  = { stmt_atomic, IN_ROLE | IN_COMBINE | THREADS, "atomic" },
    [N_let]     = { stmt_let, CODE | IN_KERNEL, "let" },
    [N_var]     = { stmt_var, CODE, "var" },
    [N_yield]   = { stmt_yield, IN_ITER, "yield" },
    [N_return]  = { stmt_return, IN_FN, "return" },
    [N_assert]  = { stmt_assert, IN_ROLE | IN_COMBINE | THREADS | IN_CHECK, "assert" },
    [N_print]   = { stmt_print, IN_ROLE | IN_COMBINE | THREADS | IN_CHECK, "print" },
};

static const char *place_name(enum place p)
{
    switch (p) {
    case IN_COMBINE: return "combine";
    case IN_THREAD: return "par or each";
    case IN_FN: return "a fn";
    case IN_ITER: return "an iter";
    case IN_CHECK: return "spec check";
    default: return "a role";
    }
}

enum { DEEPEST = 200 };

void check_stmt(struct check *c, struct node *n)
{
    if (!stmts[n->kind].check) return;
    if (!(stmts[n->kind].where & c->place)) {
        diag_error(c->diag, n->span.hi - n->span.lo > 200 ? n->name_span : n->span, "'%s' has no place in %s", stmts[n->kind].what, place_name(c->place));
        return;
    }
    if (c->depth > DEEPEST) {
        diag_error(c->diag, n->name_span, "statements are nested too deeply");
        return;
    }
    c->depth++;
    stmts[n->kind].check(c, n);
    c->depth--;
}

void check_block(struct check *c, struct node *n)
{
    struct scope scope;
    check_open(c, &scope);
    for (int i = 0; i < n->list.n; i++) check_stmt(c, n->list.at[i]);
    check_close(c);
}
