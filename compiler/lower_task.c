/* lower_task - the grid: which tiles a task holds.
 *
 *   grid (i, j)                 task = unit; j = task % tiles(j), i = task / tiles(j)
 *   grid persistent (i, j)      for task = unit, task < tasks, task += units { ... }
 *   ... order f(i, args)        (i, j) = f(task, tiles(i), tiles(j), args); of one axis, i = f(task, tiles(i), args)
 *   ... in it(args)             the iterator's statements, with `yield (a, b)` become: names = a, b; the rest
 *
 * The rest is what depends on the task: axes placed by it, lets, and `body`, where each role's program stands. */
#include "compiler/lower.h"

#include <string.h>

static const struct node *grid_of(const struct node *kernel)
{
    for (int i = 0; i < kernel->b->list.n; i++)
        if (kernel->b->list.at[i]->kind == N_grid) return kernel->b->list.at[i];
    return NULL;
}

static struct laxis *find_axis(struct lower *L, const char *name)
{
    for (int i = 0; i < L->axes.n; i++)
        if (L->axes.at[i]->name == name) return L->axes.at[i];
    return NULL;
}

/* ---- what stands after the tiles are known ---- */

static void place_axis(struct lower *L, struct laxis *x)
{
    axis_tile(L, x);
    if (x->bound || !axis_range(L, x)) return;
    if (x->node->list.n) {
        struct ir_expr *at = lower_scalar(L, x->node->list.at[0]);
        if (!is_bad(at)) axis_bind_tile(L, x, lower_keep(L, intern(arena_printf(L->a, "%s.at", x->name)), at));
    } else if (!x->node->d && !x->node->c && axis_is_whole(L, x)) axis_bind_whole(L, x);
}

static void push_view(struct lower *L, struct node *n)
{
    lower_name(L, n->name, SYM_view, n->span)->node = n;
}

/* Whether lets or ranges of the kernel look at the tile of x. */
static bool looks_at(const struct lower *L, const struct laxis *x)
{
    for (int i = 0; i < L->kernel->b->list.n; i++) {
        const struct node *n = L->kernel->b->list.at[i];
        bool nested = n->kind == N_axis && n->a->kind == N_name && n->a->name == x->name;
        if ((n->kind == N_let || n->kind == N_axis) && !nested && axis_mentions(n, x->name)) return true;
    }
    return false;
}

/* While the kernel's lets and ranges are lowered, the clustered axis stands for what the whole cluster covers. */
static struct sym *enter_span(struct lower *L)
{
    for (int i = 0; i < L->axes.n; i++) {
        struct laxis *x = L->axes.at[i];
        if (x->cluster <= 1 || !x->number || x->parts || !looks_at(L, x)) continue;
        struct sym *s = lower_name(L, x->name, SYM_axis, x->span);
        s->axis = axis_span(L, x, x->number);
        return s;
    }
    return NULL;
}

static void leave_span(struct lower *L, struct sym *span)
{
    if (!span) return;
    struct sym **at = &L->scope;
    while (*at != span) at = &(*at)->next;
    *at = span->next;
}

static void lower_rest(struct lower *L)
{
    bool after = false;
    struct sym *span = enter_span(L);
    for (int i = 0; i < L->kernel->b->list.n; i++) {
        struct node *n = L->kernel->b->list.at[i];
        if (n->kind == N_grid) after = true;
        else if (n->kind == N_axis) place_axis(L, find_axis(L, n->name));
        else if (n->kind == N_let && after) lower_stmt(L, n);
        else if (n->kind == N_view) push_view(L, n);
    }
    leave_span(L, span);
    axis_settle(L);
    lower_emit(L, S_body, L->grid_node->span);
    L->kernel_scope = L->scope;
}

/* ---- tasks by number ---- */

static void reads_data(void *ctx, struct ir_expr *e)
{
    if (e->kind == E_read || e->kind == E_get) *(bool *)ctx = true;
}

static bool grid_axes(struct lower *L, const struct node *g)
{
    bool ok = true;
    for (int i = 0; i < g->list.n; i++) {
        const struct node *n = g->list.at[i];
        struct laxis *x = lower_axis_name(L, n);
        if (!x) {
            diag_error(L->d, n->span, "'%s' is no axis", n->name);
            diag_note(L->d, g->span, "a grid names axes, or what an iterator yields: grid (%s, ...) in f(...)", n->name);
            ok = false;
            continue;
        }
        x->grid = true;
        axis_tile(L, x);
        if (x->parent) {
            diag_error(L->d, n->span, "'%s' walks the tiles of '%s': it cannot be an axis of the grid", x->name, x->parent->name);
            ok = false;
        } else ok &= x->node->c ? axis_parts(L, x) : axis_range(L, x);
        vec_push(L->a, &L->grid, x);
    }
    return ok;
}

static bool count_tasks(struct lower *L, struct ir_expr **count)
{
    struct ir_expr *tasks = ir_int(L->a, 1);
    for (int i = 0; i < L->grid.n; i++) {
        bool data = false;
        struct laxis *x = L->grid.at[i];
        struct ir_expr *n = axis_tiles(L, x);
        if (is_bad(n)) return false;
        ir_walk_expr(n, reads_data, &data);
        if (data) {
            diag_error(L->d, x->span, "how many tiles '%s' has depends on data", x->name);
            diag_note(L->d, L->grid_node->span, "the host must know the number of tasks: deal them out by an iterator (`grid ... in f(...)`)");
            return false;
        }
        tasks = ir_binary(L->a, E_mul, tasks, n);
        count[i] = lower_keep(L, intern(arena_printf(L->a, "%s.tiles", x->name)), n);
    }
    L->fn->tasks = tasks;
    return true;
}

static struct ir_expr *tile_number(struct lower *L, const struct laxis *x, struct ir_expr *e)
{
    return lower_keep(L, intern(arena_printf(L->a, "%s.tile", x->name)), e);
}

static bool is_one(const struct ir_expr *e)
{
    int64_t n;
    return ir_const_int(e, &n) && n == 1;
}

/* Row-major numbers of the grid's axes from `from` on out of u, the last fastest. */
static void split_number(struct lower *L, struct ir_expr *u, struct ir_expr **count, int from, struct ir_expr **tile)
{
    int first = from;
    while (first < L->grid.n && is_one(count[first])) first++;
    for (int i = L->grid.n; i-- > from;) {
        if (is_one(count[i])) tile[i] = ir_int(L->a, 0);
        else if (i == first) tile[i] = u;
        else {
            tile[i] = ir_binary(L->a, E_mod, u, count[i]);
            u = lower_keep(L, "rest", ir_binary(L->a, E_div, u, count[i]));
        }
    }
}

/* order f(i, args): the two first axes by f, the others slowest. */
static bool ordered_tiles(struct lower *L, const struct node *order, struct ir_expr *u, struct ir_expr **count, struct ir_expr **tile)
{
    struct laxis *first = order->list.n ? lower_axis_name(L, order->list.at[0]) : NULL;
    int axes = L->grid.n < 2 ? 1 : 2;
    if (!L->grid.n || !first || (first != L->grid.at[0] && first != L->grid.at[axes - 1])) {
        diag_error(L->d, order->span, "an order takes one of the grid's first two axes as its first argument");
        diag_note(L->d, order->span, "order %s(%s, ...)", order->name, L->grid.n ? L->grid.at[0]->name : "i");
        return false;
    }
    int p = first == L->grid.at[0] ? 0 : 1, q = 1 - p;
    bool more = false;
    for (int i = 2; i < L->grid.n; i++) more |= !is_one(count[i]);
    struct ir_expr *slow = u;
    if (more) {
        struct ir_expr *plane = lower_keep(L, "plane", ir_binary(L->a, E_mul, count[0], count[1]));
        slow = lower_keep(L, "rest", ir_binary(L->a, E_div, u, plane));
        u = lower_keep(L, "task", ir_binary(L->a, E_mod, u, plane));
    }
    split_number(L, slow, count, 2, tile);
    struct ir_expr *args[] = {u, count[p], axes > 1 ? count[q] : NULL}, *out[2];
    int n = lower_inline(L, order, args, 1 + axes, out, axes);
    if (n != axes) {
        if (n >= 0) diag_error(L->d, order->span, "'%s' gives %d results; this order gives %d", order->name, n, axes);
        return false;
    }
    tile[p] = out[0];
    if (axes > 1) tile[q] = out[1];
    return true;
}

static struct ir_expr *first_task(struct lower *L, const struct node *g)
{
    struct ir_expr *unit = ir_leaf(L->a, E_unit, NULL);
    if (!g->flag) return unit;
    struct ir_stmt *s = lower_emit(L, S_for, g->span);
    s->var = ir_new_var(L->a, L->fn, "task", TY_i32);
    s->var->multiple = 1;
    s->expr = unit;
    s->expr2 = L->fn->tasks;
    s->step = ir_leaf(L->a, E_units, NULL);
    L->block = &s->body;
    return ir_get(L->a, s->var);
}

static void numbered(struct lower *L, const struct node *g)
{
    struct ir_expr *count[IR_RANK], *tile[IR_RANK];
    if (g->list.n > IR_RANK || !grid_axes(L, g) || !count_tasks(L, count)) return;
    ir_block *keep = L->block;
    struct ir_expr *u = first_task(L, g);
    if (g->a) {
        if (!ordered_tiles(L, g->a, u, count, tile)) return;
    } else split_number(L, u, count, 0, tile);
    for (int i = 0; i < L->grid.n; i++) axis_bind_tile(L, L->grid.at[i], tile_number(L, L->grid.at[i], tile[i]));
    lower_rest(L);
    L->block = keep;
}

/* ---- tasks by an iterator ---- */

void lower_yield(struct lower *L, const struct node *n)
{
    const struct node *g = L->grid_node;
    struct ir_expr *out[2 * IR_RANK];
    if (L->yielded) {
        diag_error(L->d, n->span, "an iterator has one yield");
        diag_note(L->d, g->span, "each role's program stands where the yield is");
        return;
    }
    L->yielded = true;
    if (!L->has_iter || n->list.n != g->list.n || n->list.n > COUNT(out)) {
        diag_error(L->d, n->span, "yield gives %d values, the grid names %d", n->list.n, g->list.n);
        diag_note(L->d, g->span, "the grid");
        return;
    }
    for (int i = 0; i < n->list.n; i++) out[i] = lower_scalar(L, n->list.at[i]);
    struct sym *inner = L->scope;
    L->scope = L->kernel_scope;
    for (int i = 0; i < n->list.n; i++)
        lower_name_expr(L, g->list.at[i]->name, lower_keep(L, g->list.at[i]->name, out[i]), g->list.at[i]->span);
    lower_rest(L);
    L->scope = inner;
}

static void iterated(struct lower *L, const struct node *g)
{
    struct sym *s = lower_find(L, g->b->name);
    const char *name = s && s->kind == SYM_word ? s->word : g->b->name;
    const struct node *it = lower_top(L, N_iter, name);
    L->has_iter = true;
    if (!it) {
        diag_error(L->d, g->b->name_span.hi ? g->b->name_span : g->b->span, "no iterator called '%s'", name);
        return;
    }
    L->kernel_scope = L->scope;
    struct sym *outer = L->scope;
    L->scope = L->file_scope;
    if (lower_bind_args(L, outer, g->b, it, NULL, 0, 0)) lower_block(L, it->a);
    L->scope = outer;
    if (!L->yielded && !L->d->errors) diag_error(L->d, it->span, "iterator '%s' does not yield", name);
}

void lower_task(struct lower *L)
{
    const struct node *g = grid_of(L->kernel);
    if (!g) {
        diag_error(L->d, L->kernel->name_span.hi ? L->kernel->name_span : L->kernel->span, "kernel '%s' has no grid", L->kernel->name);
        diag_note(L->d, L->kernel->span, "`grid (i, j);` names the axes whose tiles are tasks, `grid ();` says there is one task");
        return;
    }
    L->grid_node = g;
    L->fn->persistent = g->flag;
    L->block = &L->fn->task;
    L->kernel_scope = L->scope;
    for (int i = 0; L->kernel->b->list.at[i] != g; i++)
        if (L->kernel->b->list.at[i]->kind == N_let) lower_stmt(L, L->kernel->b->list.at[i]);
    if (g->b) iterated(L, g);
    else numbered(L, g);
    L->block = NULL;
    L->scope = L->kernel_scope;
}
