/* pipe_plan - decides for each pipe, before any code: how its fields are filled, how they lie in shared memory, what a
 * cluster shares, how many slots there are, who arrives on its barriers. */
#include "codegen/pipe.h"

#include "codegen/eval.h"
#include "codegen/ranked.h"
#include "compiler/slope.h"

#include <string.h>

struct gen_field *pipe_field(struct gen *g, const struct ir_field *f)
{
    (void)g;
    return f->cg;
}

struct gen_pipe *pipe_of(struct gen *g, const struct ir_pipe *p)
{
    (void)g;
    return p->cg;
}

/* ---- who fills and reads what ---- */

struct scan {
    struct gen *g;
    struct gen_role *role;
    struct field_use *uses; /* by field id */
};

static void scan_expr(struct scan *sc, const struct ir_expr *e)
{
    if (!e) return;
    if (e->kind == E_slot) {
        struct gen_field *f = e->field->cg;
        f->generic_read = f->valued = true;
    }
    for (int i = 0; i < e->nargs; i++) scan_expr(sc, e->args[i]);
}

static bool var_has_axis(const struct ir_var *v, const struct ir_axis *x)
{
    for (int i = 0; i < v->naxes; i++)
        if (v->axes[i] == x) return true;
    return false;
}

/* A slot read as it lies: every index is a scalar, the coordinate of the field's own axis, or of an axis nested in it. */
static bool plain_slot(const struct ir_expr *e)
{
    if (e->kind != E_slot) return false;
    for (int i = 0; i < e->nargs; i++)
        if (e->args[i]->naxes && e->args[i]->kind != E_coord) return false;
    return true;
}

static void scan_operand(struct scan *sc, struct ir_stmt *s, const struct ir_expr *e)
{
    if (e->kind == E_cast && e->type == TY_tf32 && e->args[0]->type == TY_f32) e = e->args[0]; /* rounded on the way (field_map, mma_sync.c) where it can be */
    if (!plain_slot(e)) {
        scan_expr(sc, e);
        return;
    }
    struct gen_field *f = e->field->cg;
    struct field_use *u = &sc->uses[e->field->id];
    u->mma = true;
    for (int i = 0; i < e->nargs; i++)
        if (e->args[i]->naxes && !var_has_axis(s->var, e->args[i]->axis)) u->contracted = e->field->axes[i];
    if (sc->g->family->async) f->async_read = true;
    else f->generic_read = true;
}

static void scan_factor(struct scan *sc, const struct ir_expr *e)
{
    if (e->kind == E_slot && e->field->pipe->scales) ((struct gen_field *)e->field->cg)->async_read = true;
    else scan_expr(sc, e);
}

static void scan_stmts(struct scan *sc, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        if (s->kind == S_fill) {
            sc->uses[s->field->id].fill = s;
            sc->uses[s->field->id].producer = sc->role;
            scan_expr(sc, s->expr);
        } else if (s->kind == S_mma) {
            scan_operand(sc, s, s->expr);
            scan_operand(sc, s, s->expr2);
        } else {
            scan_expr(sc, s->expr);
            scan_expr(sc, s->expr2);
        }
        scan_expr(sc, s->expr3);
        scan_expr(sc, s->mask);
        scan_expr(sc, s->step);
        for (int k = 0; k < s->index.n; k++) scan_expr(sc, s->index.at[k]);
        for (int k = 0; k < s->factors.n; k++) scan_factor(sc, s->factors.at[k]);
        scan_stmts(sc, &s->body);
        scan_stmts(sc, &s->other);
    }
}

/* ---- which fills the hardware can do ---- */

/* Which axis of the field index e walks with slope 1 (the rest being a scalar); -1: none (a scalar), -2: something else. */
static int walked_axis(const struct ir_field *f, const struct ir_expr *e)
{
    if (!e->naxes) return -1;
    if (e->kind == E_coord) {
        for (int i = 0; i < f->naxes; i++)
            if (f->axes[i] == e->axis) return i;
        return -2;
    }
    if (e->kind == E_add) {
        if (!e->args[1]->naxes) return walked_axis(f, e->args[0]);
        if (!e->args[0]->naxes) return walked_axis(f, e->args[1]);
    }
    if (e->kind == E_sub && !e->args[1]->naxes) return walked_axis(f, e->args[0]);
    return -2;
}

/* e depends on coordinates of x only through x / n: the n, 0 where it depends on them otherwise. Others than x do not occur. */
static int64_t stretch(const struct ir_expr *e, const struct ir_axis *x)
{
    int64_t n = 0;
    if (!e->naxes) return INT64_MAX;
    if (e->naxes != 1 || e->axes[0] != x || e->kind == E_coord || e->kind == E_get || e->kind == E_slot) return 0;
    if (e->kind == E_div && e->args[0]->kind == E_coord && ir_const_int(e->args[1], &n)) return n;
    for (int i = 0; i < e->nargs; i++) {
        int64_t m = stretch(e->args[i], x);
        n = i ? (n == INT64_MAX ? m : m == INT64_MAX ? n : gcd(n, m)) : m;
        if (!m) return 0;
    }
    return n;
}

/* Whether the index says the same over stretches of one of the field's axes, or runs from 0 up in each: what one box can do,
 * as long as it stays in a stretch. Notes which, and how long they are. */
static bool pieces(const struct ir_field *f, const struct ir_expr *e, struct field_plan *plan, int *walk)
{
    int axis = -1;
    int64_t n = 0;
    for (int i = 0; i < f->naxes; i++)
        if (e->naxes == 1 && f->axes[i] == e->axes[0]) axis = i;
    if (axis < 0 || f->axes[axis]->of || (plan->piece && plan->piece_axis != axis)) return false;
    bool runs = e->kind == E_mod && e->args[0]->kind == E_coord && ir_const_int(e->args[1], &n);
    if (!runs) n = stretch(e, f->axes[axis]);
    if (n < 1 || n > 1 << 20) return false;
    *walk = runs ? axis : -1;
    plan->piece = plan->piece ? (int)gcd(plan->piece, n) : (int)n;
    plan->piece_axis = axis;
    return true;
}

/* Index of the field's axis that walks each tensor dimension. False when the fill is not a box of the tensor, or boxes. */
static bool plain_box(const struct ir_field *f, const struct ir_expr *e, struct field_plan *plan)
{
    int seen = 0, *walks = plan->walks;
    if (e->kind != E_read || e->type != f->type) return false;
    for (int d = 0; d < e->nargs; d++) {
        walks[d] = walked_axis(f, e->args[d]);
        if (walks[d] == -2 && !pieces(f, e->args[d], plan, &walks[d])) return false;
        if (walks[d] >= 0 && seen & 1 << walks[d]) return false;
        if (walks[d] >= 0) seen |= 1 << walks[d];
    }
    if (plan->piece) {
        const struct ir_axis *x = f->axes[plan->piece_axis];
        plan->piece = (int)gcd(gcd(plan->piece, x->tile), x->align);
        if (plan->piece == x->tile) plan->piece = x->tile; /* one box, but its place is looked up */
    }
    return seen == (1 << f->naxes) - 1;
}

/* Largest known divisor of that index. */
static int64_t start_divisor(struct gen *g, const struct ir_expr *e)
{
    if (!e->naxes) return ir_divisor(g->fn, e);
    if (e->kind == E_coord) return e->axis->align;
    return gcd(start_divisor(g, e->args[0]), start_divisor(g, e->args[1]));
}

/* ---- what the CTAs of a cluster share ---- */

/* How many CTAs can share the loading of a field: all of the cluster when none of its coordinates depends on the rank and
 * its slowest rows divide into parts of whole swizzle patterns. */
static int sharers(struct gen *g, const struct gen_field *f, const struct ir_expr *read, const int *walks)
{
    int n = g->fn->cluster;
    if (n <= 1 || (g->family && target_has(g->target, HAS_TCGEN05))) return 1;
    struct rank_scan rs = ranked_scan(g);
    if (ranked(&rs, read)) return 1;
    for (int i = 0; i < f->ir->naxes; i++) {
        if (i == f->inner) continue;
        bool walked = false;
        for (int d = 0; d < read->nargs; d++) walked |= walks[d] == i;
        int tile = f->ir->axes[i]->tile;
        return walked && tile % n == 0 && f->rows / n % 8 == 0 && tile / n <= 256 ? n : 1;
    }
    return 1;
}

/* ---- layout of a field ---- */

/* Rows of `span` bytes; wide rows are cut into panels of the swizzle's span. Rows of at most 256 elements are what a TMA box takes. */
static void field_layout(struct gen_field *f, bool swizzled, int least_rows)
{
    struct ir_field *ir = f->ir;
    f->elem_bits = type_bits(ir->type);
    f->cols = ir->naxes ? pipe_held(f, f->inner) : 1; /* no axes: one element */
    f->rows = 1;
    for (int i = 0; i < ir->naxes; i++)
        if (i != f->inner) f->rows *= pipe_held(f, i);
    int row_bytes = f->cols * f->elem_bits / 8;
    f->swizzle = 0;
    if (swizzled && f->rows >= least_rows)
        for (int s = 128; s >= 32 && !f->swizzle; s /= 2)
            if (row_bytes % s == 0) f->swizzle = s;
    if (f->swizzle) {
        f->span = f->swizzle;
        f->per_panel = f->swizzle * 8 / f->elem_bits;
    } else {
        f->per_panel = f->cols;
        for (int n = 2; f->per_panel > 256; n++)
            if (f->cols % n == 0) f->per_panel = f->cols / n;
        f->span = (f->per_panel * f->elem_bits / 8 + 15) / 16 * 16;
    }
    f->panels = (f->cols + f->per_panel - 1) / f->per_panel;
    f->panel_bytes = f->rows * f->span;
    int align = f->swizzle ? 1024 : 128;
    if (f->panels > 1) f->panel_bytes = f->rows == 1 && !f->swizzle ? f->panel_bytes : (f->panel_bytes + align - 1) / align * align;
    f->bytes = (f->panels * f->panel_bytes + align - 1) / align * align;
}

/* What tcgen05.cp.32x128b takes: for each 128 rows and 4 columns 512 bytes. PTX ISA, "Scale factor layout" of tcgen05.mma. */
static void scales_layout(struct gen_field *f)
{
    enum { BLOCK_ROWS = 128, WORD = 4 };
    const struct ir_field *ir = f->ir;
    f->scales = true;
    f->inner = ir->naxes - 1;
    f->elem_bits = 8;
    f->rows = 1;
    for (int i = 0; i < f->inner; i++) f->rows *= ir->axes[i]->tile;
    f->cols = ir->axes[f->inner]->tile;
    f->span = WORD;
    f->per_panel = f->cols < WORD ? f->cols : WORD;
    f->panels = (f->cols + WORD - 1) / WORD;
    f->panel_bytes = (f->rows + BLOCK_ROWS - 1) / BLOCK_ROWS * BLOCK_ROWS * WORD;
    f->bytes = f->panels * f->panel_bytes;
}

enum { MOST_BOXES = 16, BOX_ALIGN = 128 };

/* Pieces must begin where a box may: at whole swizzle patterns of 8 rows, and multiples of 128 bytes. Other axes stand within. */
static bool pieces_fit(const struct ir_field *f, const struct field_plan *plan, int inner)
{
    int axis = plan->piece_axis, bytes = plan->piece * type_bits(f->type) / 8;
    if (!plan->piece) return true;
    if (f->axes[axis]->tile / plan->piece > MOST_BOXES || plan->piece > 256) return false;
    if (axis == inner) return f->naxes == 1 && bytes % BOX_ALIGN == 0 && f->axes[axis]->tile <= 256;
    for (int i = 0; i < axis; i++)
        if (i != inner) return false; /* the slowest rows, so that a piece's lie together */
    return plan->piece % 8 == 0;
}

/* The widest unit, in bytes, that the field's rows and their origins in memory are made of; 0: not even whole bytes. */
static int row_unit(struct gen *g, const struct ir_field *f, const struct ir_expr *e, const struct field_plan *plan)
{
    int inner = plan->walks[e->tensor->inner], unit = e->tensor->align;
    int64_t bits = f->axes[inner]->tile * (int64_t)type_bits(f->type);
    bool looked_up = plan->piece && plan->piece_axis == inner;
    if (!looked_up) bits = gcd(bits, start_divisor(g, e->args[e->tensor->inner]) * type_bits(f->type));
    while (bits % (8 * unit)) {
        if (unit == 1) return 0;
        unit /= 2;
    }
    return unit;
}

int pipe_box_rows(int rows)
{
    if (rows <= 256) return rows;
    for (int n = 2; n <= rows / 8; n++)
        if (rows % n == 0 && rows / n <= 256 && rows / n % 8 == 0) return rows / n;
    return 0;
}

/* Whether all rows but the slowest fit a box; those are cut into several. */
static bool fits_boxes(const struct ir_field *f, int inner)
{
    for (int i = 0, first = 1; i < f->naxes; i++) {
        if (i == inner) continue;
        if (f->axes[i]->tile > 256 && (!first || !pipe_box_rows(f->axes[i]->tile))) return false;
        first = 0;
    }
    return true;
}

/* Rows that are not a dimension of the tensor apart: its inner index has slopes; the others walk an axis or none. */
static bool sloped_rows(struct gen *g, const struct ir_field *f, const struct ir_expr *e, struct field_plan *plan, struct slopes *inner)
{
    struct slopes s;
    int seen = 0;
    if (e->kind != E_read || e->type != f->type || type_bits(f->type) < 8) return false;
    const struct ir_tensor *t = e->tensor;
    for (int d = 0; d < t->rank; d++) {
        int64_t one;
        plan->walks[d] = d == t->inner ? -1 : walked_axis(f, e->args[d]);
        if (type_bits(e->args[d]->type) != 32 || plan->walks[d] < -1 || !slopes_of(g->arena, f, e->args[d], &s)) return false;
        for (int i = 0; i < f->naxes; i++) {
            if (!s.by[i]) continue;
            if (seen >> i & 1) return false;
            seen |= 1 << i;
            if (d == t->inner && plan->walks[d] < 0 && ir_const_int(s.by[i], &one) && one == 1) plan->walks[d] = i;
        }
        if (d == t->inner) *inner = s;
    }
    if (plan->walks[t->inner] < 0 || seen != (1 << f->naxes) - 1) return false;
    return plan->sloped = true;
}

/* cp.async moves 4, 8 or 16 bytes. Threads read what it brought: for tensor cores that read by descriptors a fence would be
 * needed once it is there (sloped rows have it). */
static bool by_units(struct gen *g, const struct ir_field *f, const struct field_plan *plan)
{
    const struct gen_field *gf = f->cg;
    return plan->unit >= 4 && !plan->piece && !gf->async_read && !pipe_of(g, f->pipe)->paired && type_bits(f->type) >= 8;
}

/* Whole units only: where tensor cores read the slot by descriptors, those that wait for it fence (gen_consume). */
static struct field_plan plan_sloped(struct gen *g, const struct ir_field *f, const struct ir_expr *e)
{
    struct field_plan p = { .kind = FILL_COMPUTED };
    struct slopes s;
    if (!sloped_rows(g, f, e, &p, &s)) return p;
    p.unit = slopes_unit(g->fn, f, &s, p.walks[e->tensor->inner], e->tensor);
    if (p.unit >= 4 && !pipe_of(g, f->pipe)->paired) p.kind = FILL_CP_ASYNC;
    return p;
}

struct field_plan pipe_plan_fill(struct gen *g, const struct ir_field *f, const struct ir_expr *e)
{
    struct field_plan p = { .kind = FILL_COMPUTED };
    if (!plain_box(f, e, &p)) return plan_sloped(g, f, e);
    const struct ir_tensor *t = e->tensor;
    int inner = p.walks[t->inner];
    p.unit = inner < 0 ? type_bits(f->type) / 8 : row_unit(g, f, e, &p);
    if (target_has(g->target, HAS_TMA) && inner >= 0 && t->rank <= 5 && p.unit == IR_ALIGN && pieces_fit(f, &p, inner) && fits_boxes(f, inner)) p.kind = FILL_TMA;
    else if (by_units(g, f, &p)) p.kind = FILL_CP_ASYNC;
    return p;
}

int pipe_held(const struct gen_field *f, int axis) { return f->ir->axes[axis]->tile / (axis == f->half ? 2 : 1); }

int pipe_slowest_axis(const struct gen_field *f)
{
    for (int i = 0; i < f->ir->naxes; i++)
        if (i != f->inner) return i;
    return -1;
}

/* See pipe.h. */
struct image_map pipe_map(struct gen *g, const struct ir_tensor *t, const int *walks, int swizzle, int *order)
{
    struct image_map m = { .arg = t->id, .type = t->type, .swizzle = swizzle, .pack = 1 };
    order[m.rank++] = t->inner;
    for (int axis = IR_RANK - 1; axis >= -1; axis--)
        for (int d = 0; d < t->rank; d++)
            if (d != t->inner && walks[d] == axis) order[m.rank++] = d;
    for (int i = 0; i < m.rank; i++) {
        struct hexpr_code *c = new(g->arena, struct hexpr_code);
        *c = i ? (struct hexpr_code){ HEX_STRIDE, t->id * 16 + order[i] } : (struct hexpr_code){ HEX_CONST, 1 };
        m.size[i] = g->image->args.at[t->id].dim[order[i]];
        m.stride[i] = (struct hexpr){ c, 1 };
        m.box[i] = 1;
    }
    return m;
}

static int field_map(struct gen *g, const struct gen_field *f, const struct ir_expr *read, const int *walks, int *order)
{
    struct image_map m = pipe_map(g, read->tensor, walks, f->swizzle, order);
    m.box[0] = (uint32_t)f->per_panel;
    for (int i = 1; i < m.rank; i++) {
        int axis = walks[order[i]];
        if (axis < 0) continue;
        int tile = pipe_held(f, axis) / (axis == pipe_slowest_axis(f) ? f->share : 1);
        if (f->plan->piece && axis == f->plan->piece_axis) tile = f->plan->piece;
        m.box[i] = (uint32_t)pipe_box_rows(tile);
    }
    if (f->plan->piece && f->plan->piece_axis == f->inner) m.box[0] = (uint32_t)f->plan->piece;
    if (f->woven) weave_map(g, &m, order);
    if (m.type == TY_f32 && !f->valued) m.type = TY_tf32; /* rounded on the way: tensor cores truncate */
    vec_push(g->arena, &g->image->maps, m);
    return g->image->maps.n - 1;
}

/* 16-bit operands may lie either way: as they are read from memory, where one of the field's axes is contiguous there. */
static bool either_major(struct gen *g, struct gen_field *f, const struct ir_expr *e)
{
    const struct ir_axis *along = type_bits(f->ir->type) == 16 ? tile_reads_along(g, e) : NULL;
    for (int i = 0; i < f->ir->naxes; i++)
        if (f->ir->axes[i] == along) f->inner = i;
    return along && f->ir->axes[f->inner] == along;
}

/* Whether a slot holds a value once this block has run, whatever the trip counts. */
static bool always_held(const ir_block *b, const struct ir_var *v)
{
    bool held = false;
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->var == v && s->kind == S_mma) held = true;
        else if (s->var == v && s->kind == S_let) held = s->expr->kind == E_slot;
        else if (s->kind == S_consume) held |= always_held(&s->body, v);
    }
    return held;
}

static bool always_filled(const ir_block *b, const struct ir_pipe *p)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->kind == S_produce && s->pipe == p && !always_held(&s->body, p->home)) return false;
        if (!always_filled(&s->body, p) || !always_filled(&s->other, p)) return false;
    }
    return true;
}

/* Slots in tensor memory: nothing but barriers and flags in shared memory. */
static void plan_home(struct gen_pipe *p, struct field_use *u, struct field_plan *plan)
{
    struct gen_field *f = p->ir->fields.at[0]->cg;
    plan->kind = FILL_ACC;
    f->plan = plan;
    f->map = -1;
    f->share = 1;
    p->producer = u->producer;
    p->flags = !p->producer->has_mma || always_filled(&p->producer->ir->body, p->ir) ? -1 : 0;
}

static void say_computed(struct gen *g, const struct gen_field *f, const struct ir_stmt *fill)
{
    const struct ir_expr *e = fill->expr;
    if (e->kind != E_read) return;
    if (e->tensor->align < IR_ALIGN)
        gen_cost(g, fill->span, "'%s' is copied through registers: '%s' is aligned to %d bytes", f->ir->name, e->tensor->name, e->tensor->align);
    else
        gen_cost(g, fill->span, "'%s' is copied through registers: not whole 16-byte rows of a box of the tensor", f->ir->name);
}

/* Sloped rows come by TMA where the role that fills the field can make a map of them. */
static void plan_made(struct gen *g, const struct ir_field *f, const struct field_use *u, struct field_plan *plan)
{
    const struct ir_expr *read = u->fill->expr;
    if (plan->kind != FILL_CP_ASYNC || !plan->sloped || plan->unit != IR_ALIGN || !fits_boxes(f, plan->walks[read->tensor->inner])) return;
    plan->made = made_plan(g, f, read, u->producer);
    plan->made_of = read->tensor;
    if (plan->made) plan->kind = FILL_TMA;
}

static void plan_field(struct gen *g, struct gen_field *f, struct field_use *u)
{
    struct field_plan *plan = f->plan = new(g->arena, struct field_plan);
    f->map = -1;
    f->share = 1;
    if (!u->fill) {
        gen_error(g, f->ir->span, "field '%s' of pipe '%s' is never filled", f->ir->name, f->ir->pipe->name);
        return;
    }
    if (f->ir->pipe->scales) {
        plan->kind = FILL_COMPUTED;
        f->generic_write = true;
        scales_layout(f);
        return;
    }
    *plan = pipe_plan_fill(g, f->ir, u->fill->expr);
    plan_made(g, f->ir, u, plan);
    f->inner = f->ir->naxes ? f->ir->naxes - 1 : 0;
    int along = plan->kind == FILL_COMPUTED ? -1 : plan->walks[u->fill->expr->tensor->inner];
    if (along >= 0) f->inner = along;
    else if (u->contracted && !either_major(g, f, u->fill->expr))
        for (int i = 0; i < f->ir->naxes; i++)
            if (f->ir->axes[i] == u->contracted) f->inner = i; /* K-major */
    f->generic_write = plan->kind == FILL_COMPUTED;
    field_layout(f, u->mma || plan->kind == FILL_TMA, u->mma || g->woven ? 2 : 8); /* a few rows have no conflicts of banks to avoid, but where lanes read a row each */
    if (plan->kind == FILL_COMPUTED) {
        say_computed(g, f, u->fill);
        return;
    }
    gen_need_alignment(g, u->fill->expr->tensor, plan->unit);
    if (plan->made) return;
    if (plan->kind == FILL_TMA && !plan->piece) f->share = sharers(g, f, u->fill->expr, plan->walks);
    if (plan->kind == FILL_TMA) f->map = field_map(g, f, u->fill->expr, plan->walks, f->map_order);
}

/* ---- depths ---- */

static int loop_depth(const ir_block *b, const struct ir_pipe *p, int depth)
{
    int most = -1;
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        int here = s->kind == S_produce && s->pipe == p ? depth : -1;
        int in = loop_depth(&s->body, p, depth + (s->kind == S_for || s->kind == S_while));
        if (in > here) here = in;
        in = loop_depth(&s->other, p, depth);
        if (in > here) here = in;
        if (here > most) most = here;
    }
    return most;
}

enum { MOST_SLOTS = 16, ENOUGH_SLOTS = 4, LITTLE = 128 }; /* enough: of the innermost pipe, before others get a second */

static int pipe_bytes(const struct gen_pipe *p, int depth) { return p->slot_bytes * depth + p->pad + 1024; }

/* Deepest nest of loops around its produce. */
static int pipe_nest(const struct gen *g, const struct ir_pipe *p)
{
    int nest = -1;
    for (int r = 0; r < g->fn->roles.n; r++) {
        int n = loop_depth(&g->fn->roles.at[r]->body, p, 0);
        if (n > nest) nest = n;
    }
    return nest;
}

static int first_depth(const struct gen *g, const struct ir_pipe *p, int slots)
{
    return p->depth ? p->depth : pipe_nest(g, p) > 0 && p->most != 1 ? slots : 1;
}

int pipe_room(const struct gen *g, int slots)
{
    int room = g->target->smem_bytes - g->smem_used - g->smem_reserve - 2048;
    for (int i = 0; i < g->fn->pipes.n; i++) {
        const struct ir_pipe *p = g->fn->pipes.at[i];
        if (!p->home) room -= pipe_bytes(p->cg, first_depth(g, p, slots));
    }
    return room;
}

/* What a task reads once can come while the task before is still at work: a second slot, if the innermost pipe can spare it. Not
 * where warps read fragments: the last tile of a slot may reach into the next. */
static void ahead_of_tasks(struct gen *g, struct gen_pipe *inner, int spare)
{
    for (int i = 0; i < g->fn->pipes.n; i++) {
        struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        if (p->ir->depth || p->ir->home || p->depth != 1 || pipe_nest(g, p->ir) != 0 || !p->slot_bytes) continue;
        while (spare < p->slot_bytes && inner->depth > ENOUGH_SLOTS) inner->depth--, spare += inner->slot_bytes;
        if (spare < p->slot_bytes) continue;
        spare -= p->slot_bytes;
        p->depth = 2;
    }
}

/* Pipes that say `auto` get two slots, those never produced in a loop one; what memory is left goes to the innermost. */
static void choose_depths(struct gen *g)
{
    int room = pipe_room(g, 2), best = -1;
    struct gen_pipe *inner = NULL;
    for (int i = 0; i < g->fn->pipes.n; i++) {
        struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        int nest = pipe_nest(g, p->ir);
        if (p->ir->home) {
            p->depth = p->ir->depth ? p->ir->depth : g->family->places(g, p->ir->home);
            continue;
        }
        p->depth = first_depth(g, p->ir, 2);
        bool operand = p->producer && p->producer->drains; /* filled at the rate of products: two slots are enough */
        if (!p->ir->depth && !operand && nest > best && nest > 0) best = nest, inner = p;
    }
    if (inner && room > 0 && inner->slot_bytes) {
        int more = room / inner->slot_bytes, most = inner->ir->most && inner->ir->most < MOST_SLOTS ? inner->ir->most : MOST_SLOTS;
        inner->depth = inner->depth + more > most ? most : inner->depth + more;
        if (g->fn->persistent && g->family && g->family->async) ahead_of_tasks(g, inner, room - (inner->depth - 2) * inner->slot_bytes);
    }
    for (int n = 0, all = g->fn->pipes.n; n < 2 * all && room < 0; n++) { /* what a drain fills first */
        struct gen_pipe *p = g->fn->pipes.at[n % all]->cg;
        if (p->ir->depth || p->ir->home || p->depth == 1 || (n < all && !(p->producer && p->producer->drains))) continue;
        room += p->slot_bytes;
        p->depth = 1;
    }
    if (room < 0 && !g->failed) {
        gen_error(g, g->fn->span, "the pipes need %d bytes more shared memory than the %d a CTA has on %s", -room, g->target->smem_bytes, g->target->name);
        pipe_note_budget(g);
    }
}

void pipe_note_budget(struct gen *g)
{
    for (int i = 0; i < g->fn->pipes.n; i++) {
        struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        if (!p->ir->home) diag_note(g->diag, p->ir->span, "pipe '%s': %d slots of %d bytes", p->ir->name, p->depth, p->slot_bytes);
    }
}

static void place_pipe(struct gen *g, struct gen_pipe *p)
{
    if (!p->ir->home) p->offset = gen_smem(g, p->slot_bytes * p->depth + p->pad, 1024);
    else if (!p->flags) p->flags = gen_smem(g, 4 * p->depth, 4);
    p->full = gen_smem(g, 8 * p->depth, 8);
    p->empty = gen_smem(g, 8 * p->depth, 8);
}

static void new_pipe(struct gen *g, struct ir_pipe *ir)
{
    struct gen_pipe *p = new(g->arena, struct gen_pipe);
    p->ir = ir;
    ir->cg = p;
    for (int k = 0; k < ir->fields.n; k++) {
        struct gen_field *f = new(g->arena, struct gen_field);
        f->ir = ir->fields.at[k];
        f->half = -1;
        ir->fields.at[k]->cg = f;
    }
}

static int count_fields(const struct ir_fn *fn)
{
    int n = 0;
    for (int i = 0; i < fn->pipes.n; i++)
        for (int k = 0; k < fn->pipes.at[i]->fields.n; k++)
            if (fn->pipes.at[i]->fields.at[k]->id >= n) n = fn->pipes.at[i]->fields.at[k]->id + 1;
    return n;
}

static bool reduces(const struct ir_expr *e)
{
    if (!e) return false;
    if (e->kind == E_reduce) return true;
    for (int i = 0; i < e->nargs; i++)
        if (reduces(e->args[i])) return true;
    return false;
}

static bool reduces_any(const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (reduces(s->expr) || reduces(s->expr2) || reduces(s->expr3) || reduces(s->step)) return true;
        if (reduces_any(&s->body) || reduces_any(&s->other)) return true;
    }
    return false;
}

/* Elements a role writes to its slots itself, at most for one of its fields. */
static int64_t written_by(const struct gen *g, const struct gen_role *r)
{
    int64_t most = 0;
    for (int i = 0; i < g->fn->pipes.n; i++) {
        const struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        for (int k = 0; p->producer == r && k < p->ir->fields.n; k++) {
            const struct gen_field *f = p->ir->fields.at[k]->cg;
            int64_t n = (int64_t)f->rows * f->cols;
            if (f->plan->kind != FILL_TMA && n > most) most = n;
        }
    }
    return most;
}

/* A producing role that does anything but fill runs on all its threads; a reduction takes whole warps, one will do; so it
 * does where little is written. */
static void choose_producers(struct gen *g)
{
    for (int i = 0; i < g->roles.n; i++) {
        struct gen_role *r = &g->roles.at[i];
        if (!r->produces || r->consumes || r->has_mma || !pipe_only_fills(&r->ir->body)) {
            r->single = false;
            continue;
        }
        if (r->single && !r->makes && !reduces_any(&g->fn->task) && !reduces_any(&r->ir->body)) continue;
        if (r->single || (!r->ir->warps_m && written_by(g, r) <= LITTLE)) r->warps = 1;
        r->single = false;
    }
}

/* Whether tensor cores that read past a field may meet what threads wrote and did not fence. */
static bool meets_unfenced(const struct gen_pipe *p)
{
    bool pieces = false, computed = false, fenced = false;
    for (int k = 0; k < p->ir->fields.n; k++) {
        const struct gen_field *f = p->ir->fields.at[k]->cg;
        pieces |= f->plan->kind == FILL_CP_ASYNC || f->plan->sloped;
        computed |= f->generic_write;
        fenced |= f->generic_write && f->async_read;
    }
    return pieces || (computed && !fenced);
}

static void place_fields(struct gen *g, struct gen_pipe *p)
{
    bool apart = meets_unfenced(p);
    for (int k = 0; k < p->ir->fields.n; k++) {
        struct gen_field *f = p->ir->fields.at[k]->cg;
        f->offset = (p->slot_bytes + 1023) / 1024 * 1024;
        if (!f->swizzle) f->offset = (p->slot_bytes + 127) / 128 * 128;
        p->slot_bytes = f->offset + f->bytes + (apart ? mma_reads_past(g, f) : 0);
    }
    p->slot_bytes = (p->slot_bytes + 1023) / 1024 * 1024;
}

void pipe_plan(struct gen *g)
{
    struct ir_fn *fn = g->fn;
    struct scan sc = { .g = g, .uses = new_n(g->arena, struct field_use, count_fields(fn) + 1) };
    for (int i = 0; i < fn->pipes.n; i++) new_pipe(g, fn->pipes.at[i]);
    for (int i = 0; i < g->roles.n; i++) {
        sc.role = &g->roles.at[i];
        scan_stmts(&sc, &sc.role->ir->body);
    }
    for (int i = 0; i < g->roles.n; i++)
        g->roles.at[i].single = g->roles.at[i].produces && !g->roles.at[i].consumes && !g->roles.at[i].has_mma;
    pair_plan(g, sc.uses);
    weave_plan(g, sc.uses);
    for (int i = 0; i < fn->pipes.n; i++) {
        struct gen_pipe *p = fn->pipes.at[i]->cg;
        for (int k = 0; k < p->ir->fields.n; k++) {
            struct gen_field *f = p->ir->fields.at[k]->cg;
            struct field_use *u = &sc.uses[f->ir->id];
            if (p->ir->home) {
                plan_home(p, u, new(g->arena, struct field_plan));
                continue;
            }
            plan_field(g, f, u);
            if (!u->producer) continue;
            p->producer = u->producer;
            if (f->plan->kind != FILL_TMA) u->producer->single = false;
        }
        if (!p->ir->home) place_fields(g, p);
    }
    made_settle(g);
    choose_producers(g);
    if (g->failed) return;
    for (int i = 0; i < fn->pipes.n; i++) mma_slot_pad(g, fn->pipes.at[i]->cg);
    combine_plan(g);
    store_plan(g);
    choose_depths(g);
    for (int i = 0; i < fn->pipes.n; i++) place_pipe(g, fn->pipes.at[i]->cg);
    made_place(g);
}

bool pipe_only_fills(const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        switch (s->kind) {
        case S_produce: case S_fill: case S_for: case S_while: case S_if: case S_bind: break;
        case S_let: if (s->var->naxes) return false; break;
        default: return false;
        }
        if (!pipe_only_fills(&s->body) || !pipe_only_fills(&s->other)) return false;
    }
    return true;
}

/* ---- arrival counts ---- */

bool pipe_consumed(const ir_block *b, const struct ir_pipe *p)
{
    for (int i = 0; i < b->n; i++)
        if ((b->at[i]->kind == S_consume && b->at[i]->pipe == p) || pipe_consumed(&b->at[i]->body, p) || pipe_consumed(&b->at[i]->other, p)) return true;
    return false;
}

int pipe_box_bytes(const struct gen_field *f) { return f->panels * f->rows * f->per_panel * f->elem_bits / 8; }

void pipe_counts(struct gen *g)
{
    bool commits = target_has(g->target, HAS_TCGEN05) && g->family; /* slots are released by the tensor core itself */
    for (int i = 0; i < g->fn->pipes.n; i++) {
        struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        bool tma = false, cp = false, computed = false, async = false;
        for (int k = 0; k < p->ir->fields.n; k++) {
            struct gen_field *f = p->ir->fields.at[k]->cg;
            enum fill_kind kind = f->plan->kind;
            tma |= kind == FILL_TMA, cp |= kind == FILL_CP_ASYNC, computed |= kind == FILL_COMPUTED;
            async |= f->async_read;
            p->multicast |= f->share > 1;
            if (kind == FILL_TMA) p->tx_bytes += pipe_box_bytes(f);
        }
        if (p->ir->home) /* the commit, and the flag's own arrival */
            computed = false, p->full_count = p->producer->has_mma ? p->flags < 0 ? 1 : 2 : p->producer->warps;
        else p->full_count = tma + (cp ? p->producer->warps * 32 : 0) + (computed ? p->producer->warps * (p->paired ? 2 : 1) : 0);
        for (int r = 0; r < g->roles.n; r++) {
            struct gen_role *role = &g->roles.at[r];
            if (!pipe_consumed(&role->ir->body, p->ir)) continue;
            /* every warp arrives beside the commit, so that none falls a round behind */
            if (p->paired) p->empty_count += p->ir->home ? 2 * role->warps : 1; /* the drains of both; the commit alone */
            else if (commits && role->has_mma && async) p->empty_count += 1 + role->warps;
            else p->empty_count += role->warps;
        }
        if (p->multicast) p->empty_count *= g->fn->cluster;
        p->by_tma = tma, p->by_cp_async = cp, p->by_threads = computed;
        p->commit_releases = commits && async;
        if (!p->empty_count) gen_error(g, p->ir->span, "pipe '%s' is never consumed", p->ir->name);
    }
}

