/* lower_axis - axes: tiles, ranges, loops over them, and what is proven of them.
 *
 * A tile of an axis that walks another one's tile begins where that one begins plus a multiple of its own extent. From the
 * extents along this chain, the divisibility facts of `require` and the constants follow: alignment of every origin, whether a
 * tile can reach past its range (exact), and whether it does so only where tensors end (clean). */
#include "compiler/lower.h"

#include <string.h>

static struct laxis *new_axis(struct lower *L, const char *name, struct span at)
{
    struct laxis *x = new(L->a, struct laxis);
    struct ir_axis *ir = new(L->a, struct ir_axis);
    x->name = name;
    x->span = at;
    x->ir = ir;
    ir->name = name;
    ir->id = L->fn->axes.n;
    ir->align = 1;
    ir->span = at;
    vec_push(L->a, &L->fn->axes, ir);
    return x;
}

void axis_declare(struct lower *L, struct node *n)
{
    struct sym *parent = n->a->kind == N_name && !n->b ? lower_find(L, n->a->name) : NULL;
    struct laxis *x = new_axis(L, n->name, n->name_span.hi ? n->name_span : n->span);
    x->node = n;
    x->parent = parent && parent->kind == SYM_axis ? parent->axis : NULL;
    x->cluster = (int)tune_number(L, "cluster", n->name, 1);
    lower_name(L, n->name, SYM_axis, x->span)->axis = x;
    vec_push(L->a, &L->axes, x);
}

/* ---- extents ---- */

static void no_number(struct lower *L, struct laxis *x, const struct node *what)
{
    const char *text = lower_text(L, what->span);
    diag_error(L->d, x->span, "the tile of '%s' needs a number; '%s' is none at compile time", x->name, text);
    if (x->node->d) diag_note(L->d, what->span, "give '%s' a value with the call that compiles the kernel", text);
    else diag_note(L->d, x->span, "say `axis %s = %s by ...`, or specialise %s", x->name, text, text);
    x->ir->tile = 1;
}

static void tile_by(struct lower *L, struct laxis *x)
{
    int64_t v;
    if (!lower_static(L, x->node->d, &v)) no_number(L, x, x->node->d);
    else if (v < 1 || v > 1 << 20) diag_error(L->d, x->node->d->span, "a tile of %lld coordinates is not possible", (long long)v);
    else if (x->node->c) x->granule = v;
    else x->ir->tile = (int)v;
}

static void tile_whole(struct lower *L, struct laxis *x)
{
    int64_t lo = 0, hi;
    if (x->node->b && !lower_static(L, x->node->a, &lo)) no_number(L, x, x->node->a);
    else if (!lower_static(L, x->node->b ? x->node->b : x->node->a, &hi)) no_number(L, x, x->node->b ? x->node->b : x->node->a);
    else if (hi - lo < 1 || hi - lo > 1 << 20) {
        diag_error(L->d, x->span, "axis '%s' holds %lld coordinates", x->name, (long long)(hi - lo));
        x->ir->tile = 1;
    } else x->ir->tile = (int)(hi - lo);
}

/* An axis whose tile is the whole tile of the one it walks is that one, by another name. */
static void share_tile(struct lower *L, struct laxis *x)
{
    axis_tile(L, x->parent);
    if (x->parent->ir->tile != x->ir->tile || x->parent->cluster > 1) return;
    x->ir = x->parent->ir;
    x->scalar = x->parent->scalar;
}

void axis_tile(struct lower *L, struct laxis *x)
{
    if (x->ir->tile || x->granule || !x->node) return;
    if (x->node->d) tile_by(L, x);
    else if (x->node->c) x->granule = 1;
    else if (x->parent) {
        axis_tile(L, x->parent);
        x->ir->tile = x->parent->ir->tile;
        if (!x->ir->tile) {
            diag_error(L->d, x->span, "the tile of '%s' needs a number: say `axis %s = %s by ...`", x->name, x->name, x->parent->name);
            x->ir->tile = 1;
        }
    } else tile_whole(L, x);
    x->scalar = x->ir->tile == 1 && x->cluster <= 1;
    if (x->parent) share_tile(L, x);
}

static void has_read(void *ctx, struct ir_expr *e)
{
    if (e->kind == E_read) *(bool *)ctx = true;
}

/* A bound that reads memory is read once. */
static struct ir_expr *keep_bound(struct lower *L, const char *name, const char *which, struct ir_expr *e)
{
    bool reads = false;
    ir_walk_expr(e, has_read, &reads);
    return reads ? lower_keep(L, intern(arena_printf(L->a, "%s.%s", name, which)), e) : e;
}

bool axis_parts(struct lower *L, struct laxis *x)
{
    if (x->parts || !x->node || !x->node->c) return true;
    struct ir_expr *parts = lower_scalar(L, x->node->c);
    x->parts = is_bad(parts) ? ir_int(L->a, 1) : keep_bound(L, x->name, "parts", parts);
    return !is_bad(parts);
}

bool axis_range(struct lower *L, struct laxis *x)
{
    if (x->ranged || x->parent) return true;
    if (x->resolving) {
        diag_error(L->d, x->span, "the range of axis '%s' depends on itself", x->name);
        return false;
    }
    x->resolving = true;
    struct node *n = x->node;
    struct ir_expr *lo = n->b ? lower_scalar(L, n->a) : ir_int(L->a, 0), *hi = lower_scalar(L, n->b ? n->b : n->a);
    bool ok = axis_parts(L, x) && !is_bad(lo) && !is_bad(hi);
    x->resolving = false;
    x->ranged = true;
    x->lo = ok ? keep_bound(L, x->name, "lo", lo) : ir_int(L->a, 0);
    x->hi = ok ? keep_bound(L, x->name, "hi", hi) : ir_int(L->a, 1);
    return ok;
}

/* ---- facts ---- */

static int64_t step_of(const struct laxis *x) { return x->parts ? x->granule : x->ir->tile; }

static const struct laxis *root_of(const struct laxis *x)
{
    while (x->parent) x = x->parent;
    return x;
}

/* Tiles of x begin at multiples of its extent from the start of the whole range, and reach past a tile of an axis above it
 * only where the whole range ends. */
static bool nests_evenly(const struct laxis *x)
{
    for (; x->parent; x = x->parent)
        if (step_of(x) == 0 || step_of(x->parent) % step_of(x)) return false;
    return true;
}

static bool is_exact(struct lower *L, const struct laxis *x)
{
    const struct laxis *root = root_of(x), *p = x->parent;
    int64_t tile = x->ir->tile;
    if (!tile) return false;
    if (p && p->ir->tile && p->ir->exact && p->ir->tile % tile == 0) return true;
    if (!root->lo || !nests_evenly(x)) return false;
    if (tile == 1 && x->cluster <= 1) return true;
    int64_t whole = tile * (x->cluster > 1 ? x->cluster : 1);
    return ir_divisor(L->fn, ir_binary(L->a, E_sub, root->hi, root->lo)) % whole == 0;
}

static void axis_facts(struct lower *L, struct laxis *x)
{
    int64_t from = x->parent ? x->parent->ir->align : x->lo ? ir_divisor(L->fn, x->lo) : 1;
    int64_t align = gcd(step_of(x), from);
    x->ir->align = align > 0 && align < 1 << 30 ? (int)align : 1;
    x->ir->exact = is_exact(L, x);
}

int axis_distinct(int tile, int64_t align, int64_t div)
{
    int64_t g = gcd(div, align > 0 ? align : div);
    return (int)((div - g + tile - 1) / div) + 1;
}

/* ---- the current tile ---- */

static struct ir_expr *leaf(struct lower *L, enum ir_expr_kind k, struct laxis *x)
{
    struct ir_expr *known = k == E_origin ? x->origin : x->limit;
    return known ? known : ir_leaf(L->a, k, x->ir);
}

static bool need_bound(struct lower *L, struct laxis *x, struct span at)
{
    if (x->bound || x->range) return true;
    diag_error(L->d, at, "axis '%s' has no current tile here", x->name);
    if (x->ir->tile || x->parts) diag_note(L->d, x->span, "walk it with `for %s ...`, or name it in the grid", x->name);
    return false;
}

struct ir_expr *axis_coord(struct lower *L, struct laxis *x, struct span at)
{
    if (!need_bound(L, x, at)) return lower_bad(L);
    if (x->parts && !x->range) {
        diag_error(L->d, at, "'%s' is split into parts: it is no index", x->name);
        diag_note(L->d, x->span, "walk a part with an axis of its own (`axis k = %s by ...`); ord(%s) is the part's number", x->name, x->name);
        return lower_bad(L);
    }
    struct ir_expr *e = x->scalar ? leaf(L, E_origin, x) : ir_leaf(L->a, E_coord, x->ir);
    if (x->element && e->kind == E_coord) e->naxes = 0;
    return e;
}

struct ir_expr *axis_origin(struct lower *L, struct laxis *x)
{
    return leaf(L, E_origin, x);
}

struct ir_expr *axis_end(struct lower *L, struct laxis *x)
{
    if (!x->ir->tile) return leaf(L, E_limit, x);
    struct ir_expr *end = ir_binary(L->a, E_add, leaf(L, E_origin, x), ir_int(L->a, x->ir->tile));
    return x->ir->exact ? end : ir_binary(L->a, E_min, end, leaf(L, E_limit, x));
}

void axis_settle(struct lower *L)
{
    for (int i = 0; i < L->axes.n; i++) axis_facts(L, L->axes.at[i]);
}

void axis_bind(struct lower *L, struct laxis *x, struct ir_expr *origin, struct ir_expr *limit, struct ir_expr *ord)
{
    axis_facts(L, x);
    struct ir_stmt *s = lower_emit(L, S_bind, x->span);
    s->axis = x->ir;
    s->expr = origin;
    s->expr2 = limit;
    x->bound = true;
    x->ord = ord;
    x->origin = origin->kind == E_const ? origin : NULL;
    x->limit = limit->kind == E_const || limit->kind == E_dim ? limit : NULL;
}

bool axis_is_whole(struct lower *L, struct laxis *x)
{
    int64_t n;
    return !x->parent && !x->parts && x->lo && ir_const_int(ir_binary(L->a, E_sub, x->hi, x->lo), &n) && n > 0 && n <= x->ir->tile;
}

void axis_bind_whole(struct lower *L, struct laxis *x) { axis_bind(L, x, x->lo, x->hi, ir_int(L->a, 0)); }

/* Part p of [lo, hi): nearly equal shares of whole granules. */
static struct ir_expr *part_begin(struct lower *L, struct laxis *x, struct ir_expr *p)
{
    struct ir_expr *g = ir_int(L->a, x->granule), *up = ir_int(L->a, x->granule - 1);
    struct ir_expr *granules = ir_binary(L->a, E_div, ir_binary(L->a, E_add, ir_binary(L->a, E_sub, x->hi, x->lo), up), g);
    struct ir_expr *first = ir_binary(L->a, E_div, ir_binary(L->a, E_mul, p, granules), x->parts);
    return ir_binary(L->a, E_add, x->lo, ir_binary(L->a, E_mul, first, g));
}

void axis_bind_part(struct lower *L, struct laxis *x, struct ir_expr *p)
{
    int64_t parts;
    if (ir_const_int(x->parts, &parts) && parts == 1) {
        axis_bind(L, x, x->lo, x->hi, ir_int(L->a, 0));
        return;
    }
    struct ir_expr *next = ir_binary(L->a, E_add, p, ir_int(L->a, 1));
    struct ir_expr *end = ir_binary(L->a, E_min, part_begin(L, x, next), x->hi);
    axis_bind(L, x, part_begin(L, x, p), end, p);
}

struct ir_expr *axis_tiles(struct lower *L, struct laxis *x)
{
    axis_tile(L, x);
    if (!axis_parts(L, x) || (!x->parts && !axis_range(L, x))) return lower_bad(L);
    struct ir_expr *n, *tile = ir_int(L->a, x->ir->tile);
    if (x->parts) n = x->parts;
    else if (x->parent && !x->parent->bound) {
        diag_error(L->d, x->span, "how many tiles of '%s' there are is not known here", x->name);
        return lower_bad(L);
    } else {
        struct ir_expr *lo = x->parent ? axis_origin(L, x->parent) : x->lo, *hi = x->parent ? axis_end(L, x->parent) : x->hi;
        struct ir_expr *extent = ir_binary(L->a, E_sub, hi, lo);
        int64_t d = ir_divisor(L->fn, extent);
        if (d % x->ir->tile) extent = ir_binary(L->a, E_add, extent, ir_int(L->a, x->ir->tile - 1));
        n = ir_binary(L->a, E_div, extent, tile);
    }
    if (x->cluster <= 1) return n;
    return ir_binary(L->a, E_div, ir_binary(L->a, E_add, n, ir_int(L->a, x->cluster - 1)), ir_int(L->a, x->cluster));
}

/* The tile (or part) with this number; a cluster's number names neighbouring tiles, one for each of its CTAs. */
void axis_bind_tile(struct lower *L, struct laxis *x, struct ir_expr *number)
{
    if (!axis_range(L, x)) return;
    if (x->cluster > 1) {
        x->number = number;
        struct ir_expr *first = ir_binary(L->a, E_mul, number, ir_int(L->a, x->cluster));
        number = lower_keep(L, intern(arena_printf(L->a, "%s.tile", x->name)),
                            ir_binary(L->a, E_add, first, ir_leaf(L->a, E_rank, NULL)));
    }
    if (x->parts) {
        axis_bind_part(L, x, number);
        return;
    }
    struct ir_expr *at = ir_binary(L->a, E_mul, number, ir_int(L->a, x->ir->tile));
    axis_bind(L, x, ir_binary(L->a, E_add, x->lo, at), x->hi, number);
}

/* The tiles of x that a cluster's CTAs hold together, as one tile: what the kernel's lets see, so that whatever follows from
 * them is the same in every CTA of the cluster. */
struct laxis *axis_span(struct lower *L, struct laxis *x, struct ir_expr *number)
{
    struct laxis *all = new_axis(L, intern(arena_printf(L->a, "%s.span", x->name)), x->span);
    all->ir->tile = x->ir->tile * x->cluster;
    all->lo = x->lo;
    all->hi = x->hi;
    all->ranged = true;
    axis_bind_tile(L, all, number);
    return all;
}

/* ---- loops ---- */

static void walk_parts(struct lower *L, struct laxis *x, struct node *body, struct span at)
{
    struct ir_stmt *s = lower_emit(L, S_for, at);
    s->var = ir_new_var(L->a, L->fn, arena_printf(L->a, "%s.part", x->name), TY_i32);
    s->expr = ir_int(L->a, 0);
    s->expr2 = x->parts;
    s->step = ir_int(L->a, 1);
    ir_block *keep = L->block;
    L->block = &s->body;
    axis_bind_part(L, x, ir_get(L->a, s->var));
    lower_stmt(L, body);
    L->block = keep;
}

/* Where the tiles of x end: its own range, or the current tile of the axis it walks. */
static void walk_range(struct lower *L, struct laxis *x, struct ir_expr **lo, struct ir_expr **hi, struct ir_expr **limit)
{
    if (!x->parent) {
        *lo = x->lo;
        *hi = *limit = x->hi;
        return;
    }
    *lo = axis_origin(L, x->parent);
    *hi = axis_end(L, x->parent);
    *limit = nests_evenly(x) ? leaf(L, E_limit, x->parent) : *hi;
}

static void walk_tiles(struct lower *L, struct laxis *x, struct node *body, struct span at)
{
    struct ir_expr *lo, *hi, *limit;
    int64_t extent;
    walk_range(L, x, &lo, &hi, &limit);
    if (x->parent && x->ir == x->parent->ir) {
        x->origin = x->parent->origin;
        x->limit = x->parent->limit;
        x->ord = ir_int(L->a, 0);
        x->bound = true;
        lower_stmt(L, body);
        return;
    }
    if (ir_const_int(ir_binary(L->a, E_sub, hi, lo), &extent) && extent > 0 && extent <= x->ir->tile) {
        axis_bind(L, x, lo, limit, ir_int(L->a, 0));
        lower_stmt(L, body);
        return;
    }
    struct ir_stmt *s = lower_emit(L, S_for, at);
    s->var = ir_new_var(L->a, L->fn, arena_printf(L->a, "%s.at", x->name), TY_i32);
    s->axis = x->ir;
    s->expr = lo;
    s->expr2 = hi;
    s->step = ir_int(L->a, x->ir->tile);
    s->num = tune_number(L, "unroll", x->name, 0);
    s->deal = (int)tune_number(L, "deal", x->name, 0);
    ir_block *keep = L->block;
    L->block = &s->body;
    struct ir_expr *pos = ir_get(L->a, s->var);
    struct ir_expr *ord = ir_binary(L->a, E_div, ir_binary(L->a, E_sub, pos, lo), ir_int(L->a, x->ir->tile));
    axis_bind(L, x, pos, limit, ord);
    lower_stmt(L, body);
    L->block = keep;
}

void axis_walk(struct lower *L, struct laxis *x, struct node *body, struct span at)
{
    if (x->parent && !need_bound(L, x->parent, at)) return;
    if (x->bound) {
        diag_error(L->d, at, "axis '%s' already has a current tile here", x->name);
        diag_note(L->d, x->span, x->grid ? "the grid gives each task its tile" : "it is being walked, or held whole");
        return;
    }
    axis_tile(L, x);
    if (!axis_range(L, x)) return;
    struct sym *keep = L->scope;
    if (x->parts) walk_parts(L, x, body, at);
    else walk_tiles(L, x, body, at);
    L->scope = keep;
    x->bound = false;
    x->origin = x->limit = x->ord = NULL;
}

/* ---- axes made here ---- */

static void bind_first(struct lower *L, struct laxis *x)
{
    ir_block at_start = {0}, *keep = L->block;
    L->block = &at_start;
    axis_bind_whole(L, x);
    L->block = keep;
    ir_block *task = &L->fn->task;
    vec_push(L->a, task, NULL);
    memmove(&task->at[1], &task->at[0], sizeof task->at[0] * (size_t)(task->n - 1));
    task->at[0] = at_start.at[0];
}

/* A range of its own: in a spec the whole of it at once, in a kernel one tile, so it must be constant. */
struct laxis *axis_implicit(struct lower *L, const char *name, struct ir_expr *lo, struct ir_expr *hi, struct span at)
{
    int64_t extent;
    bool known = ir_const_int(ir_binary(L->a, E_sub, hi, lo), &extent);
    if (!L->in_spec && (!known || extent < 1 || extent > 1 << 20)) {
        diag_error(L->d, at, "the extent of '%s' must be known at compile time", name);
        diag_note(L->d, at, "declare an axis with a tile (`axis %s = ... by ...`) and walk it, or specialise the dimension", name);
        return NULL;
    }
    struct laxis *x = new_axis(L, name, at);
    x->lo = lo;
    x->hi = hi;
    x->ranged = true;
    if (L->in_spec) {
        x->range = true;
        x->ir->lo = lo;
        x->ir->hi = hi;
        return x;
    }
    x->ir->tile = (int)extent;
    x->scalar = extent == 1;
    bind_first(L, x);
    return x;
}

struct laxis *axis_sub(struct lower *L, struct laxis *of, int tile, struct span at)
{
    struct laxis *x = new_axis(L, intern(arena_printf(L->a, "%s.%d", of->name, L->fn->axes.n)), at);
    x->parent = of;
    x->ir->tile = tile;
    vec_push(L->a, &L->axes, x);
    return x;
}

struct ir_axis *axis_window(struct lower *L, struct laxis *of, int div, struct span at)
{
    for (int i = 0; i < L->fn->axes.n; i++)
        if (L->fn->axes.at[i]->of == of->ir && L->fn->axes.at[i]->div == div) return L->fn->axes.at[i];
    struct ir_axis *w = new_axis(L, intern(arena_printf(L->a, "%s/%d", of->name, div)), at)->ir;
    w->of = of->ir;
    w->div = div;
    w->tile = axis_distinct(of->ir->tile, of->ir->align, div);
    w->exact = of->ir->exact && of->ir->tile % div == 0 && of->ir->align % div == 0;
    int64_t align = of->ir->align % div ? 1 : of->ir->align / div;
    w->align = align > 0 ? (int)align : 1;
    return w;
}

/* ---- undeclared indices ---- */

enum { USE_BARE, USE_DIVIDED, USE_WITHIN, USES };

bool axis_mentions(const struct node *n, const char *name)
{
    if (!n) return false;
    if (n->kind == N_name) return n->name == name;
    for (int i = 0; i < n->list.n; i++)
        if (axis_mentions(n->list.at[i], name)) return true;
    return axis_mentions(n->a, name) || axis_mentions(n->b, name) || axis_mentions(n->c, name);
}

/* How index expression n uses the name, and the number of its values for each value of n. */
static bool uses(struct lower *L, const struct node *n, const char *name, int use, int64_t *times)
{
    *times = 1;
    if (use == USE_BARE) return n->kind == N_name && n->name == name;
    if (use == USE_DIVIDED)
        return n->kind == N_binary && n->flag == OP_DIV && n->a->kind == N_name && n->a->name == name && lower_static(L, n->b, times);
    bool quotient = n->kind == N_binary && (n->flag == OP_DIV || n->flag == OP_MOD);
    return !quotient && n->kind != N_name && axis_mentions(n, name);
}

static struct ir_expr *extent_in(struct lower *L, const struct node *n, const char *name, int use);

static struct ir_expr *extent_of_index(struct lower *L, const struct node *n, const char *name, int use)
{
    struct sym *s = lower_find(L, n->name);
    int64_t times;
    for (int i = 0; s && i < n->list.n; i++) {
        if (!uses(L, n->list.at[i], name, use, &times)) continue;
        struct ir_expr *e = NULL;
        if (s->kind == SYM_tensor && i < s->tensor->rank) e = s->tensor->dim[i];
        if (s->kind == SYM_view && i < s->node->list.n)
            for (int k = 0; k < USES && !e; k++) e = extent_in(L, s->node->a, s->node->list.at[i]->name, k);
        if (e) return ir_binary(L->a, E_mul, e, ir_int(L->a, times));
    }
    return NULL;
}

static struct ir_expr *extent_in(struct lower *L, const struct node *n, const char *name, int use)
{
    if (!n) return NULL;
    struct ir_expr *e = n->kind == N_index ? extent_of_index(L, n, name, use) : NULL;
    struct node *const sides[] = {n->a, n->b, n->c, n->d};
    for (int i = 0; i < COUNT(sides) && !e; i++) e = extent_in(L, sides[i], name, use);
    for (int i = 0; i < n->list.n && !e; i++) e = extent_in(L, n->list.at[i], name, use);
    return e;
}

static struct laxis *known_implicit(struct lower *L, const char *name, const struct ir_expr *hi)
{
    for (int i = 0; i < L->implicit.n; i++) {
        struct laxis *x = L->implicit.at[i];
        if (x->name == name && x->range == L->in_spec && (hi ? ir_same(x->hi, hi) : x->active)) return x;
    }
    return NULL;
}

static struct ir_expr *declared_extent(struct lower *L, const char *name)
{
    for (int i = 0; i < L->axes.n; i++) {
        struct laxis *x = L->axes.at[i];
        if (x->name == name && !x->parent && !x->node->b && !x->node->c) return lower_int(L, x->node->a);
    }
    return NULL;
}

/* The axis an undeclared index stands for: the whole dimension it runs over, found in the statement's trees. In a spec a name
 * that is used as no index of its own may also be an axis of the kernel, over its whole range. */
struct laxis *axis_infer(struct lower *L, const char *name, struct span at)
{
    struct laxis *x = known_implicit(L, name, NULL);
    if (x) return x;
    struct ir_expr *hi = NULL;
    for (int use = 0; use < USES && !hi; use++)
        for (int i = 0; i < L->nroots && !hi; i++) hi = extent_in(L, L->roots[i], name, use);
    if (!hi && L->in_spec) hi = declared_extent(L, name);
    if (!hi || is_bad(hi)) {
        diag_error(L->d, at, "no value called '%s' here", name);
        return NULL;
    }
    x = known_implicit(L, name, hi);
    if (!x) {
        x = axis_implicit(L, name, ir_int(L->a, 0), hi, at);
        if (!x) return NULL;
        vec_push(L->a, &L->implicit, x);
    }
    x->active = true;
    return x;
}

/* ---- clean ---- */

struct clean {
    struct lower *L;
    struct laxis *x;
    bool clean;
};

static void mentions_coord(void *ctx, struct ir_expr *e)
{
    struct clean *c = ctx;
    if (e->kind == E_coord && e->axis == c->x->ir) c->clean = false;
}

/* An index that is the coordinate itself must run along a dimension that ends with the axis; one that is a quotient of it is a
 * granule's number, and scales what is zero there; anything else may find neighbours. */
static void check_read(void *ctx, struct ir_expr *e)
{
    struct clean *c = ctx;
    if (e->kind != E_read) return;
    for (int i = 0; i < e->nargs; i++) {
        struct ir_expr *k = e->args[i];
        bool bare = k->kind == E_coord && k->axis == c->x->ir, granule = k->kind == E_div && k->args[0]->kind == E_coord;
        if (bare && !ir_same(e->tensor->dim[i], root_of(c->x)->hi)) c->clean = false;
        if (!bare && !granule) ir_walk_expr(k, mentions_coord, c);
    }
}

static bool is_clean(struct lower *L, struct laxis *x)
{
    const struct laxis *root = root_of(x), *p = x->parent;
    int64_t zero;
    if (x->ir->exact) return true;
    if (!x->ir->tile || !nests_evenly(x) || !root->lo || !ir_const_int(root->lo, &zero) || zero != 0) return false;
    if (p && p->ir->tile && !p->ir->clean) return false;
    struct clean c = {L, x, true};
    ir_walk_fn(L->fn, check_read, &c);
    return c.clean;
}

void axis_prove_clean(struct lower *L)
{
    for (int i = 0; i < L->axes.n; i++) L->axes.at[i]->ir->clean = is_clean(L, L->axes.at[i]);
}
