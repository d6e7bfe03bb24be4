/* tile - tile expressions, element by element in a layout; reductions; moves between layouts. */
#include "codegen/eval.h"

#include <assert.h>
#include <string.h>

/* A register tile variable: where its elements live. */
struct tile_var {
    const struct layout *lay; /* NULL: not decided yet */
    struct opd *regs;
    bool busy;                /* being decided: its own lets say nothing about it */
};

static struct tile_var *tile_var(struct gen *g, struct ir_var *v)
{
    if (!v->cg) v->cg = new (g->arena, struct tile_var);
    return v->cg;
}

/* An accumulator that the instruction family keeps. */
static bool in_family(struct gen *g, struct ir_var *v)
{
    return v->accum && g->family && g->role->has_mma && g->family->layout(g, v); /* NULL: no mma sums into it */
}

static bool covers(const struct layout *lay, struct ir_axis *const *axes, int n)
{
    for (int i = 0; i < n; i++)
        if (eval_index(lay, axes[i]) < 0) return false;
    return true;
}

/* ---- coordinates and bounds */

struct opd gen_coord(struct gen *g, const struct layout *lay, int r, int a)
{
    struct opd rel = lir_add(g->l, eval_lane_part(g, lay, a), opd_imm(layout_reg_offset(lay, r, a)));
    return lir_add(g->l, gen_origin(g, lay->axes[a]), rel);
}

/* Coordinates relative to the origin that exist: the tile's, up to the limit. None: all that the layout covers. */
static struct opd axis_bound(struct gen *g, const struct layout *lay, int a)
{
    const struct ir_axis *x = lay->axes[a];
    bool over = x->tile > 0 && lay->extent[a] > x->tile;
    if (x->exact) return over ? opd_imm(x->tile) : (struct opd){ 0 };
    struct opd left = lir_sub(g->l, gen_limit(g, x), gen_origin(g, x));
    return over ? lir_min(g->l, left, opd_imm(x->tile)) : left;
}

void inside_start(struct gen *g, struct inside *in, const struct layout *lay)
{
    *in = (struct inside){ .lay = lay };
    for (int a = 0; a < lay->naxes; a++) in->bound[a] = axis_bound(g, lay, a);
}

static int most_of_lanes(const struct layout *lay, int a)
{
    int most = 0;
    for (int i = 0; i < lay->n; i++)
        if (lay->digit[i].place != LAY_REG && lay->digit[i].axis == a) most += (lay->digit[i].extent - 1) * lay->digit[i].stride;
    return most;
}

struct opd inside_axis(struct gen *g, struct inside *in, int r, int a)
{
    int at = layout_reg_offset(in->lay, r, a);
    if (opd_none(in->bound[a])) return opd_imm(1);
    if (in->bound[a].kind == OPD_IMM && at + most_of_lanes(in->lay, a) < in->bound[a].imm) return opd_imm(1);
    for (int i = 0; i < in->known.n; i++)
        if (in->known.at[i].axis == a && in->known.at[i].at == at) return in->known.at[i].p;
    struct inside_known k = { a, at, lir_cmp(g->l, "lt", lir_add(g->l, eval_lane_part(g, in->lay, a), opd_imm(at)), in->bound[a]) };
    vec_push(g->arena, &in->known, k);
    return k.p;
}

struct opd inside_all(struct gen *g, struct inside *in, int r)
{
    struct opd p = opd_imm(1);
    for (int a = 0; a < in->lay->naxes; a++) p = lir_pand(g->l, p, inside_axis(g, in, r, a));
    return p;
}

struct opd gen_inside(struct gen *g, const struct layout *lay, int r)
{
    struct inside in;
    inside_start(g, &in, lay);
    return inside_all(g, &in, r);
}

struct opd gen_first_copy(struct gen *g, const struct layout *lay)
{
    struct opd p = opd_imm(1);
    for (int i = 0; i < lay->n; i++)
        if (lay->digit[i].place != LAY_REG && lay->digit[i].axis < 0) p = lir_pand(g->l, p, lir_cmp(g->l, "eq", eval_digit(g, lay, i), opd_imm(0)));
    return p;
}

/* ---- layouts */

static const struct layout *var_layout(struct gen *g, struct ir_var *v);

static const struct layout *anchor_reduce(struct gen *g, const struct ir_expr *e)
{
    struct ir_axis *axes[IR_RANK];
    const struct layout *a = gen_anchor(g, e->args[0]);
    int n = eval_axes(g, e, axes);
    return a && covers(a, axes, n) ? layout_project(g->arena, a, axes, n) : NULL;
}

static const struct layout *anchor_map(struct gen *g, const struct ir_expr *e)
{
    struct ir_axis *axes[IR_RANK];
    int n = eval_axes(g, e, axes);
    for (int i = 0; i < e->nargs; i++) {
        const struct layout *a = gen_anchor(g, e->args[i]);
        if (a && covers(a, axes, n)) return a;
    }
    return NULL;
}

const struct layout *gen_anchor(struct gen *g, const struct ir_expr *e)
{
    struct ir_axis *axes[IR_RANK];
    if (!e || !eval_axes(g, e, axes)) return NULL;
    switch ((int)e->kind) {
    case E_get: return var_layout(g, e->var);
    case E_reduce: return anchor_reduce(g, e);
    case E_parts: return combine_is_shared(g) ? NULL : gen_anchor(g, e->args[0]);
    case E_slot: return e->field->pipe->home ? g->family->layout(g, e->field->pipe->home) : NULL;
    case E_read: case E_element: return NULL;
    default: return anchor_map(g, e);
    }
}

/* ---- values that lanes share out */

/* e holds a reduction as large as itself: where lanes reduce together, each can end up with results of its own. */
bool tile_spreads(const struct ir_expr *e, int naxes)
{
    if (e->kind == E_reduce) return e->naxes == naxes;
    for (int i = 0; i < e->nargs; i++)
        if (tile_spreads(e->args[i], naxes)) return true;
    return false;
}

struct broad {
    const struct ir_var *v;
    bool found;
};

static bool holds_var(const struct ir_expr *e, const struct ir_var *v)
{
    if (e->kind == E_get && e->var == v) return true;
    for (int i = 0; i < e->nargs; i++)
        if (holds_var(e->args[i], v)) return true;
    return false;
}

static void note_broad(void *ctx, struct ir_expr *e)
{
    struct broad *b = ctx;
    for (int i = 0; i < e->nargs && !b->found; i++) b->found = e->args[i]->naxes < e->naxes && holds_var(e->args[i], b->v);
}

static bool feeds_mma(const ir_block *b, const struct ir_var *v)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->kind == S_mma && (holds_var(s->expr, v) || holds_var(s->expr2, v))) return true;
        if (feeds_mma(&s->body, v) || feeds_mma(&s->other, v)) return true;
    }
    return false;
}

/* v is nowhere spread over a larger tile, which would need its values in every lane again. */
static bool stays_thin(struct gen *g, const struct ir_var *v)
{
    struct broad b = { .v = v };
    ir_walk(&g->role->ir->body, note_broad, &b);
    return !b.found && !feeds_mma(&g->role->ir->body, v);
}

/* Looks through the role for a definition that has an anchor. *open: some of them depend on a variable being decided. */
static const struct layout *find_anchor(struct gen *g, const ir_block *b, struct ir_var *v)
{
    const struct layout *found = NULL;
    for (int i = 0; i < b->n && !found; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->kind == S_let && s->var == v) {
            const struct layout *a = gen_anchor(g, s->expr);
            if (a && covers(a, v->axes, v->naxes)) found = layout_project(g->arena, a, v->axes, v->naxes);
            if (found && tile_spreads(s->expr, v->naxes) && stays_thin(g, v)) found = layout_spread(g->arena, found);
        }
        if (!found) found = find_anchor(g, &s->body, v);
        if (!found) found = find_anchor(g, &s->other, v);
    }
    return found;
}

/* Of a variable: decided, or what its definitions in this role lead to; NULL while they lead to none. */
static const struct layout *var_layout(struct gen *g, struct ir_var *v)
{
    if (in_family(g, v)) return g->family->layout(g, v);
    struct tile_var *t = tile_var(g, v);
    if (t->lay || t->busy) return t->lay;
    t->busy = true;
    t->lay = find_anchor(g, &g->role->ir->body, v);
    t->busy = false;
    return t->lay;
}

/* Where lanes should run along: the inner axis of the first tensor or field read, and how many elements fit in 16 bytes. */
struct hint {
    const struct ir_axis *inner;
    int vec;
};

static int slot_vector(const struct gen_field *f)
{
    int vec = 128 / f->elem_bits;
    while (vec > 1 && f->cols % vec) vec /= 2;
    return vec;
}

static bool find_hint(struct gen *g, const struct ir_expr *e, struct hint *h)
{
    struct ir_axis *axes[IR_RANK];
    const struct ir_expr *index = NULL;
    int vec = 1;
    if (e->kind == E_read && e->nargs) {
        index = e->args[e->tensor->inner];
        vec = gen_row_vector(g, e->tensor);
    } else if (e->kind == E_slot && e->nargs) {
        index = e->args[pipe_field(g, e->field)->inner];
        vec = slot_vector(pipe_field(g, e->field));
    }
    if (index && eval_axes(g, index, axes)) {
        *h = (struct hint){ axes[0], index->kind == E_coord ? vec : 1 };
        return true;
    }
    for (int i = 0; i < e->nargs; i++)
        if (find_hint(g, e->args[i], h)) return true;
    return false;
}

const struct ir_axis *tile_reads_along(struct gen *g, const struct ir_expr *e)
{
    struct hint h = { NULL, 1 };
    return find_hint(g, e, &h) ? h.inner : NULL;
}

static int64_t tile_size(struct ir_axis *const *axes, int n)
{
    int64_t size = 1;
    for (int i = 0; i < n; i++) size *= axes[i]->tile > 0 ? axes[i]->tile : 1;
    return size;
}

enum { WORDS_AT_ONCE = 4 };

static struct layout *blocked_for(struct gen *g, struct ir_axis *const *axes, int n, struct hint h)
{
    int inner = n - 1, threads = 32 * g->role->warps;
    for (int i = 0; i < n; i++)
        if (axes[i] == h.inner) inner = i;
    if (combine_is_shared(g) && h.vec > WORDS_AT_ONCE) h.vec = WORDS_AT_ONCE; /* lanes side by side read what lies side by side */
    while (h.vec > 1 && tile_size(axes, n) / h.vec < threads) h.vec /= 2; /* rather a thread more than a wider access */
    return layout_blocked(g->arena, axes, n, inner, h.vec, g->role->warps);
}

const struct layout *tile_layout(struct gen *g, const struct ir_expr *e, struct ir_axis *const *axes, int n, const struct ir_axis *inner, int vec)
{
    const struct layout *a = gen_anchor(g, e);
    struct hint h = { inner, vec };
    if (a && covers(a, axes, n)) return layout_project(g->arena, a, axes, n);
    if (!inner && e) find_hint(g, e, &h);
    return blocked_for(g, axes, n, h);
}

const struct layout *gen_var_layout(struct gen *g, struct ir_var *v)
{
    const struct layout *lay = var_layout(g, v);
    if (!lay) lay = tile_var(g, v)->lay = blocked_for(g, v->axes, v->naxes, (struct hint){ NULL, 1 });
    return lay;
}

/* ---- moves */

static struct tile_buffer buffer_for(enum type t, const struct layout *a, const struct layout *b)
{
    struct tile_buffer u = { .naxes = a->naxes, .bytes = scalar_bytes(t), .elements = 1 };
    for (int i = a->naxes - 1; i >= 0; i--) {
        int other = b ? b->extent[eval_index(b, a->axes[i])] : 0;
        u.axes[i] = a->axes[i];
        u.pitch[i] = u.elements;
        u.elements *= a->extent[i] > other ? a->extent[i] : other;
    }
    return u;
}

/* lay's own axis order may differ from the buffer's. */
struct opd tile_buffer_base(struct gen *g, const struct tile_buffer *u, const struct layout *lay, struct opd start)
{
    for (int i = 0; i < u->naxes; i++)
        start = lir_mad(g->l, eval_lane_part(g, lay, eval_index(lay, u->axes[i])), opd_imm(u->pitch[i] * u->bytes), start);
    return lir_in_reg(g->l, start, RC_B32);
}

int tile_buffer_offset(const struct tile_buffer *u, const struct layout *lay, int r)
{
    int at = 0;
    for (int i = 0; i < u->naxes; i++) at += layout_reg_offset(lay, r, eval_index(lay, u->axes[i])) * u->pitch[i] * u->bytes;
    return at;
}

static bool same_threads(const struct layout *a, const struct layout *b)
{
    struct layout x = *a, y = *b;
    int n[2] = { 0, 0 };
    for (int i = 0; i < a->n; i++)
        if (a->digit[i].place != LAY_REG) x.digit[n[0]++] = a->digit[i];
    for (int i = 0; i < b->n; i++)
        if (b->digit[i].place != LAY_REG) y.digit[n[1]++] = b->digit[i];
    x.n = n[0];
    y.n = n[1];
    return layout_equal(&x, &y);
}

/* The register of `from` that holds what register r of `to` should; -1: none. */
static int find_reg(const struct layout *from, const struct layout *to, int r)
{
    int n = layout_regs(from);
    for (int f = 0; f < n; f++) {
        bool same = true;
        for (int a = 0; a < to->naxes && same; a++)
            same = layout_reg_offset(from, f, eval_index(from, to->axes[a])) == layout_reg_offset(to, r, a);
        if (same) return f;
    }
    return -1;
}

static struct opd *move_registers(struct gen *g, const struct opd *v, const struct layout *from, const struct layout *to)
{
    int n = layout_regs(to);
    struct opd *out = new_n(g->arena, struct opd, n);
    for (int r = 0; r < n; r++) {
        int f = find_reg(from, to, r);
        out[r] = f < 0 ? opd_imm(0) : v[f]; /* nothing of the tile: past its end */
    }
    return out;
}

static bool all_same_constant(const struct opd *v, int n)
{
    for (int i = 0; i < n; i++)
        if (v[i].kind != OPD_IMM || v[i].imm != v[0].imm) return false;
    return true;
}

static void only_together(struct gen *g, const char *what)
{
    if (eval_of(g)->thread_level) gen_error(g, g->l->span, "%s takes all threads of the role; it cannot stand inside `par` or `each`", what);
}

static struct opd *move_through_memory(struct gen *g, enum type t, const struct opd *v, const struct layout *from, const struct layout *to)
{
    struct tile_buffer u = buffer_for(t, from, to);
    int n = layout_regs(to);
    struct opd *out = new_n(g->arena, struct opd, n), scratch = gen_scratch(g, u.elements * u.bytes), first = gen_first_copy(g, from);
    only_together(g, "a move between layouts");
    gen_cost(g, g->l->span, "a tile of %d %s moves between layouts through shared memory", u.elements, type_name(t));
    gen_role_sync(g);
    struct opd base = tile_buffer_base(g, &u, from, scratch);
    for (int r = 0; r < layout_regs(from); r++) scalar_store_shared(g, t, base, tile_buffer_offset(&u, from, r), v[r], first);
    gen_role_sync(g);
    base = tile_buffer_base(g, &u, to, scratch);
    for (int r = 0; r < n; r++) out[r] = scalar_load_shared(g, t, base, tile_buffer_offset(&u, to, r), opd_imm(1));
    return out;
}

/* A value the lanes can exchange: bools as 0 and 1, narrow floats as f32. */
static enum type exchange_type(enum type t)
{
    if (t == TY_bool) return TY_i32;
    return gen_class(t) == RC_B16 ? TY_f32 : t;
}

static struct opd shuffle32(struct gen *g, struct opd x, int mask)
{
    struct opd d = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "shfl.sync.bfly.b32 %r, %r, %d, 31, 0xffffffff", d, lir_in_reg(g->l, x, RC_B32), mask);
    return d;
}

static struct opd shuffle(struct gen *g, struct opd x, int mask)
{
    if (x.cls != RC_B64) return shuffle32(g, x, mask);
    struct opd half[2] = { lir_reg(g->l, RC_B32), lir_reg(g->l, RC_B32) }, d = lir_reg(g->l, RC_B64);
    lir_emit(g->l, "mov.b64 %R, %r", half, 2, x);
    for (int i = 0; i < 2; i++) half[i] = shuffle32(g, half[i], mask);
    lir_emit(g->l, "mov.b64 %r, %R", d, half, 2);
    return d;
}

struct reduction {
    enum ir_reduce op;
    enum type type;           /* in which it is done */
    const struct layout *lay, *out; /* of the body, of the result */
    int axis;                 /* index in lay */
};

/* Digit of a layout that a bit of the lane number belongs to, and what the bit moves along its axis; NULL: along none. */
static const struct lay_digit *lane_digit(const struct layout *l, int bit, int *step)
{
    int weight = 1;
    for (int i = 0; i < l->n; i++) {
        const struct lay_digit *d = &l->digit[i];
        if (d->place != LAY_LANE) continue;
        if (1 << bit < weight * d->extent) {
            *step = d->stride * ((1 << bit) / weight);
            return d->axis < 0 ? NULL : d;
        }
        weight *= d->extent;
    }
    return NULL;
}

/* Of two registers of `from`, of which one lies `step` further along the axis: the further one's number; -1: there is none. */
static int register_beyond(const struct layout *from, int r, int axis, int step)
{
    for (int f = 0; f < layout_regs(from); f++) {
        bool same = true;
        for (int a = 0; a < from->naxes && same; a++)
            same = layout_reg_offset(from, f, a) == layout_reg_offset(from, r, a) + (a == axis ? step : 0);
        if (same) return f;
    }
    return -1;
}

/* One bit of the lane number is given registers: lanes where it is set keep the further one of each pair, others the nearer.
 * With an operation, what the other lane of the two holds of the one that is kept is joined to it. */
static void deal_bit(struct gen *g, const struct layout *from, struct opd *v, bool *live, int bit, int axis, int step, const struct reduction *d)
{
    struct opd set = lir_cmp(g->l, "ne", lir_and(g->l, g->role->lane, opd_imm(1 << bit)), opd_imm(0));
    for (int r = 0; r < layout_regs(from); r++) {
        int f = live[r] ? register_beyond(from, r, axis, step) : -1;
        if (f < 0 || !live[f]) continue;
        enum reg_class cls = v[r].kind == OPD_REG ? v[r].cls : v[f].kind == OPD_REG ? v[f].cls : RC_B32;
        struct opd keep = lir_sel(g->l, set, v[f], v[r], cls);
        if (d) keep = scalar_reduce(g, d->op, d->type, scalar_reg(g, keep, d->type), shuffle(g, scalar_reg(g, lir_sel(g->l, set, v[r], v[f], cls), d->type), 1 << bit));
        v[r] = keep;
        live[f] = false;
    }
}

/* Values in `from`, of which several lanes hold copies (or, with an operation, parts), as `to` = layout_spread(from) deals them. */
static struct opd *deal(struct gen *g, struct opd *v, const struct layout *from, const struct layout *to, const struct reduction *d)
{
    int n = layout_regs(from), regs = layout_regs(to), step;
    bool *live = new_n(g->arena, bool, n);
    struct opd *out = new_n(g->arena, struct opd, regs);
    for (int r = 0; r < n; r++) live[r] = true;
    for (int bit = 0; bit < 5; bit++) {
        const struct lay_digit *t = lane_digit(to, bit, &step), *was = d ? lane_digit(d->lay, bit, &(int){ 0 }) : NULL;
        if (t && !lane_digit(from, bit, &(int){ 0 })) deal_bit(g, from, v, live, bit, t->axis, step, was ? d : NULL);
    }
    for (int r = 0; r < regs; r++) out[r] = v[find_reg(from, to, r)];
    return out;
}

struct opd *tile_move(struct gen *g, enum type t, const struct opd *v, const struct layout *from, const struct layout *to)
{
    if (layout_equal(from, to)) return (struct opd *)v;
    if (layout_equal(layout_spread(g->arena, from), to)) {
        struct opd *copy = new_n(g->arena, struct opd, layout_regs(from));
        for (int r = 0; r < layout_regs(from); r++) copy[r] = v[r];
        return deal(g, copy, from, to, NULL);
    }
    if (same_threads(from, to) || all_same_constant(v, layout_regs(from))) {
        if (same_threads(from, to)) return move_registers(g, v, from, to);
        struct opd *out = new_n(g->arena, struct opd, layout_regs(to));
        for (int r = 0; r < layout_regs(to); r++) out[r] = v[0];
        return out;
    }
    return move_through_memory(g, t, v, from, to);
}

/* ---- variables */

static struct opd *var_registers(struct gen *g, struct ir_var *v)
{
    struct tile_var *t = tile_var(g, v);
    int n = layout_regs(gen_var_layout(g, v));
    if (t->regs) return t->regs;
    t->regs = new_n(g->arena, struct opd, n);
    for (int r = 0; r < n; r++) t->regs[r] = lir_reg(g->l, gen_class(v->type));
    return t->regs;
}

int tile_registers(struct gen *g)
{
    bool told = g->family && g->role->has_mma && g->family->registers;
    int n = told ? g->family->registers(g) : 0;
    for (int i = 0; i < g->fn->vars.n; i++) {
        struct ir_var *v = g->fn->vars.at[i];
        if (!v->naxes) continue;
        if (in_family(g, v)) n += told ? 0 : layout_regs(g->family->layout(g, v));
        else if (v->cg && tile_var(g, v)->regs) n += layout_regs(tile_var(g, v)->lay);
    }
    return n;
}

static struct opd *tile_get(struct gen *g, const struct ir_expr *e, const struct layout *want)
{
    struct ir_var *v = e->var;
    const struct layout *have = want;
    struct opd *x = combine_saved(g, v, &have);
    if (!x) {
        have = gen_var_layout(g, v);
        x = in_family(g, v) ? g->family->read(g, v) : var_registers(g, v);
    }
    return tile_move(g, v->type, x, have, want);
}

struct opd tile_element(struct gen *g, const struct ir_expr *e)
{
    struct ir_block_at *here = g->each, *b = here;
    while (b && (!b->lay || !covers(b->lay, e->axes, e->naxes))) b = b->outer;
    const struct layout *lay = b ? layout_project(g->arena, b->lay, e->axes, e->naxes) : NULL;
    if (!b || !layout_equal(lay, gen_var_layout(g, e->var))) {
        gen_error(g, e->span, "'%s' is a tile; a single value of it is known only inside `each` over it", e->var->name);
        return opd_imm(0);
    }
    g->each = b->outer;
    struct opd x = gen_tile(g, e, lay)[layout_project_reg(b->lay, lay, b->reg)];
    g->each = here;
    return x;
}

/* Sets registers at once: a value may be one of the variable's own. */
void gen_tile_let(struct gen *g, struct ir_stmt *s)
{
    struct ir_var *v = s->var;
    struct ir_axis *axes[IR_RANK];
    if (in_family(g, v) && s->expr->kind == E_const && s->expr->real == 0 && s->expr->num == 0) {
        g->family->write(g, v, NULL);
        return;
    }
    if (in_family(g, v) && s->expr->kind == E_slot && s->expr->field->pipe->home == v) {
        g->family->slot_adopt(g, v);
        return;
    }
    if (!var_layout(g, v)) tile_var(g, v)->lay = tile_layout(g, s->expr, v->axes, v->naxes, NULL, 1);
    const struct layout *lay = gen_var_layout(g, v);
    struct opd *x = gen_tile(g, s->expr, lay);
    const struct layout *mine = layout_project(g->arena, lay, axes, eval_axes(g, s->expr, axes));
    int n = layout_regs(lay);
    struct opd *all = new_n(g->arena, struct opd, n);
    for (int r = 0; r < n; r++) all[r] = x[layout_project_reg(lay, mine, r)];
    if (in_family(g, v)) {
        g->family->write(g, v, all);
        return;
    }
    struct opd *regs = var_registers(g, v);
    for (int r = 0; r < n; r++) lir_set(g->l, regs[r], all[r]);
}

/* ---- reductions */

static void reduce_registers(struct gen *g, const struct reduction *d, const struct opd *x, const struct layout *mine, enum type t, struct opd *acc)
{
    struct inside in;
    inside_start(g, &in, d->lay);
    for (int r = 0; r < layout_regs(d->lay); r++) {
        int to = layout_project_reg(d->lay, d->out, r);
        struct opd p = inside_axis(g, &in, r, d->axis), v = x[layout_project_reg(d->lay, mine, r)];
        v = gen_cast(g, d->type, t, v);
        v = lir_sel(g->l, p, v, scalar_identity(d->op, d->type), gen_class(d->type));
        acc[to] = opd_none(acc[to]) ? v : scalar_reduce(g, d->op, d->type, acc[to], v);
    }
}

/* A sum of products: each product is added as it is formed, rounded once. */
static bool sums_products(const struct reduction *d, const struct ir_expr *body)
{
    return d->op == RED_sum && body->kind == E_mul && body->type == TY_f32 && d->type == TY_f32;
}

static void sum_products(struct gen *g, const struct reduction *d, const struct ir_expr *body, struct opd *acc)
{
    struct ir_axis *axes[IR_RANK];
    const struct layout *mine[2];
    struct opd *x[2];
    struct inside in;
    const struct ir_expr fma = { .kind = E_fma, .type = TY_f32, .nargs = 3, .args = (struct ir_expr *[]){ (struct ir_expr *)body, body->args[0], body->args[1] } };
    for (int i = 0; i < 2; i++) {
        x[i] = gen_tile(g, body->args[i], d->lay);
        mine[i] = layout_project(g->arena, d->lay, axes, eval_axes(g, body->args[i], axes));
    }
    inside_start(g, &in, d->lay);
    for (int r = 0; r < layout_regs(d->lay); r++) {
        int to = layout_project_reg(d->lay, d->out, r);
        struct opd p = inside_axis(g, &in, r, d->axis), a = x[0][layout_project_reg(d->lay, mine[0], r)], b = x[1][layout_project_reg(d->lay, mine[1], r)];
        struct opd before = opd_none(acc[to]) ? opd_f32(0) : acc[to];
        struct opd v = opd_none(acc[to]) ? scalar_binary(g, E_mul, TY_f32, a, b) : gen_op(g, &fma, (struct opd[]){ a, b, before });
        acc[to] = lir_sel(g->l, p, v, before, RC_B32);
    }
}

/* Lanes add up what they hold. Where the result is wanted spread over them (want), each ends up with its own share. */
static bool reduce_spread(struct gen *g, const struct reduction *d, struct opd **acc, const struct layout *want)
{
    if (layout_equal(d->out, want) || !layout_equal(layout_spread(g->arena, d->out), want)) return false;
    for (int bit = 0; bit < 5; bit++) { /* bits that keep copies first: all of them hold parts of the axis */
        int step;
        const struct lay_digit *t = lane_digit(d->lay, bit, &step);
        if (!t || t->axis != d->axis || lane_digit(want, bit, &step)) continue;
        for (int r = 0; r < layout_regs(d->out); r++)
            (*acc)[r] = scalar_reduce(g, d->op, d->type, scalar_reg(g, (*acc)[r], d->type), shuffle(g, scalar_reg(g, (*acc)[r], d->type), 1 << bit));
    }
    *acc = deal(g, *acc, d->out, want, d);
    return true;
}

static void reduce_lanes(struct gen *g, const struct reduction *d, struct opd *acc)
{
    int weight = 1;
    for (int i = 0; i < d->lay->n; i++) {
        const struct lay_digit *t = &d->lay->digit[i];
        if (t->place != LAY_LANE) continue;
        for (int s = 1; t->axis == d->axis && s < t->extent; s *= 2)
            for (int r = 0; r < layout_regs(d->out); r++) {
                acc[r] = scalar_reg(g, acc[r], d->type);
                acc[r] = scalar_reduce(g, d->op, d->type, acc[r], shuffle(g, acc[r], weight * s));
            }
        weight *= t->extent;
    }
}

static bool across_warps(const struct reduction *d)
{
    for (int i = 0; i < d->lay->n; i++)
        if (d->lay->digit[i].place == LAY_WARP && d->lay->digit[i].axis == d->axis) return true;
    return false;
}

/* The warp's number among those that hold parts of the same element, and how many there are. */
static struct opd warp_part(struct gen *g, const struct reduction *d, int *parts)
{
    struct opd at = opd_imm(0);
    *parts = 1;
    for (int i = 0; i < d->lay->n; i++) {
        const struct lay_digit *t = &d->lay->digit[i];
        if (t->place != LAY_WARP || t->axis != d->axis) continue;
        at = lir_mad(g->l, eval_digit(g, d->lay, i), opd_imm(*parts), at);
        *parts *= t->extent;
    }
    return at;
}

/* One thread of each warp part speaks for an element. */
static struct opd speaks(struct gen *g, const struct reduction *d)
{
    struct opd p = opd_imm(1);
    for (int i = 0; i < d->lay->n; i++) {
        const struct lay_digit *t = &d->lay->digit[i];
        if ((t->place == LAY_LANE && (t->axis < 0 || t->axis == d->axis)) || (t->place == LAY_WARP && t->axis < 0))
            p = lir_pand(g->l, p, lir_cmp(g->l, "eq", eval_digit(g, d->lay, i), opd_imm(0)));
    }
    return p;
}

static void reduce_warps(struct gen *g, const struct reduction *d, struct opd *acc)
{
    int parts, n = layout_regs(d->out);
    struct opd part = warp_part(g, d, &parts);
    if (parts == 1) return;
    only_together(g, "this reduction");
    struct tile_buffer u = buffer_for(d->type, d->out, NULL);
    struct opd scratch = gen_scratch(g, u.elements * u.bytes * parts), speaker = speaks(g, d);
    gen_role_sync(g);
    struct opd base = tile_buffer_base(g, &u, d->out, scratch);
    struct opd to = lir_in_reg(g->l, lir_mad(g->l, part, opd_imm(u.elements * u.bytes), base), RC_B32);
    for (int r = 0; r < n; r++) scalar_store_shared(g, d->type, to, tile_buffer_offset(&u, d->out, r), acc[r], speaker);
    gen_role_sync(g);
    for (int r = 0; r < n; r++)
        for (int p = 0; p < parts; p++) {
            int at = tile_buffer_offset(&u, d->out, r) + p * u.elements * u.bytes;
            struct opd x = scalar_load_shared(g, d->type, base, at, opd_imm(1));
            acc[r] = p ? scalar_reduce(g, d->op, d->type, acc[r], x) : x;
        }
}

static struct opd *tile_reduce(struct gen *g, const struct ir_expr *e, const struct layout *lay, const struct layout *want)
{
    struct ir_axis *axes[IR_RANK], *mine[IR_RANK], *left[IR_RANK];
    const struct ir_expr *body = e->args[0];
    struct ir_expr reduced = { .naxes = 1, .axes = { e->axis } };
    int n = eval_add_axes(g, &reduced, axes, eval_axes(g, body, axes)), m = eval_axes(g, body, mine), k = eval_axes(g, e, left);
    struct reduction d = { .op = (enum ir_reduce)e->num, .type = exchange_type(e->type) };
    const struct layout *a = gen_anchor(g, body);
    if (a && covers(a, axes, n)) d.lay = layout_project(g->arena, a, axes, n);
    else if (covers(lay, axes, n)) d.lay = layout_project(g->arena, lay, axes, n);
    else d.lay = tile_layout(g, body, axes, n, NULL, 1);
    d.axis = eval_index(d.lay, e->axis);
    d.out = layout_project(g->arena, d.lay, left, k);
    struct opd *acc = new_n(g->arena, struct opd, layout_regs(d.out));
    if (sums_products(&d, body)) sum_products(g, &d, body, acc);
    else reduce_registers(g, &d, gen_tile(g, body, d.lay), layout_project(g->arena, d.lay, mine, m), body->type, acc);
    if (!across_warps(&d) && reduce_spread(g, &d, &acc, want)) d.out = want;
    else {
        reduce_lanes(g, &d, acc);
        reduce_warps(g, &d, acc);
    }
    for (int r = 0; r < layout_regs(d.out); r++) acc[r] = gen_cast(g, e->type, d.type, acc[r]);
    return tile_move(g, e->type, acc, d.out, want);
}

/* ---- reads */

static struct opd *tile_read(struct gen *g, const struct ir_expr *e, const struct layout *lay)
{
    struct access *a = access_plan(g, e->tensor, e->args, lay);
    struct opd *out = new_n(g->arena, struct opd, a->regs);
    for (int r = 0, n; r < a->regs; r += n) {
        struct opd guard = access_guard(g, a, r, false);
        n = access_run(g, a, r, !opd_is(guard, 1));
        access_load(g, a, r, n, guard, out + r);
    }
    return out;
}

/* Arrays in shared memory at tile indices: element by element. */
static struct opd *tile_shared(struct gen *g, const struct ir_expr *e, const struct layout *lay)
{
    int n = layout_regs(lay);
    struct opd *out = new_n(g->arena, struct opd, n), *index[IR_RANK], at[IR_RANK];
    const struct layout *mine[IR_RANK];
    struct ir_axis *axes[IR_RANK];
    for (int d = 0; d < e->nargs; d++) {
        index[d] = gen_tile(g, e->args[d], lay);
        mine[d] = layout_project(g->arena, lay, axes, eval_axes(g, e->args[d], axes));
    }
    for (int r = 0; r < n; r++) {
        for (int d = 0; d < e->nargs; d++) at[d] = index[d][layout_project_reg(lay, mine[d], r)];
        out[r] = scalar_load_element(g, e->shared, at);
    }
    return out;
}

/* ---- maps */

static bool pairs(const struct ir_expr *e)
{
    return e->kind == E_cast && type_is_float(e->type) && type_is_float(e->args[0]->type);
}

/* Whether e waits for the tensor cores. */
static bool waits(struct gen *g, const struct ir_expr *e)
{
    if (e->kind == E_get && in_family(g, e->var)) return true;
    for (int i = 0; i < e->nargs; i++)
        if (waits(g, e->args[i])) return true;
    return false;
}

/* What can be had while the tensor cores work comes first, if there are registers to keep it in; else after the wait. */
enum turn { TURN_FIRST, TURN_WAIT, TURN_LAST };

static enum turn turn_of(struct gen *g, const struct ir_expr *e, const struct layout *lay)
{
    struct ir_axis *axes[IR_RANK];
    int n = eval_axes(g, e, axes);
    if (waits(g, e)) return TURN_WAIT;
    return !n || layout_regs(layout_project(g->arena, lay, axes, n)) <= hoist_room(g) ? TURN_FIRST : TURN_LAST;
}

static struct opd *tile_map(struct gen *g, const struct ir_expr *e, const struct layout *lay)
{
    struct ir_axis *axes[IR_RANK];
    int n = layout_regs(lay);
    struct opd *out = new_n(g->arena, struct opd, n), **arg = new_n(g->arena, struct opd *, e->nargs + 1);
    const struct layout **mine = new_n(g->arena, const struct layout *, e->nargs + 1);
    struct opd *now = new_n(g->arena, struct opd, e->nargs + 1);
    for (enum turn turn = TURN_FIRST; turn <= TURN_LAST; turn++)
        for (int i = 0; i < e->nargs; i++)
            if (turn_of(g, e->args[i], lay) == turn) arg[i] = gen_tile(g, e->args[i], lay);
    for (int i = 0; i < e->nargs; i++) mine[i] = layout_project(g->arena, lay, axes, eval_axes(g, e->args[i], axes));
    for (int r = 0; r < n; r++) {
        if (pairs(e) && r + 1 < n) {
            gen_cast2(g, e->type, e->args[0]->type, arg[0] + r, out + r);
            r++;
            continue;
        }
        for (int i = 0; i < e->nargs; i++) now[i] = arg[i][layout_project_reg(lay, mine[i], r)];
        out[r] = gen_op(g, e, now);
    }
    return out;
}

static struct opd *tile_coord(struct gen *g, const struct ir_expr *e, const struct layout *lay)
{
    int n = layout_regs(lay);
    struct opd *out = new_n(g->arena, struct opd, n);
    struct opd base = lir_add(g->l, gen_origin(g, e->axis), eval_lane_part(g, lay, 0));
    for (int r = 0; r < n; r++) out[r] = lir_add(g->l, base, opd_imm(layout_reg_offset(lay, r, 0)));
    return out;
}

struct opd *gen_tile(struct gen *g, const struct ir_expr *e, const struct layout *lay)
{
    struct ir_axis *axes[IR_RANK];
    int n = eval_axes(g, e, axes);
    assert(covers(lay, axes, n));
    const struct layout *mine = layout_project(g->arena, lay, axes, n);
    if (e->kind == E_reduce) return tile_reduce(g, e, lay, mine);
    if (e->kind == E_parts) return combine_parts(g, e, mine);
    if (!n) {
        struct opd *one = new (g->arena, struct opd);
        *one = gen_scalar(g, e);
        return one;
    }
    switch ((int)e->kind) {
    case E_coord: return tile_coord(g, e, mine);
    case E_get: return tile_get(g, e, mine);
    case E_read: {
        int from = g->l->code.n;
        struct opd *x = tile_read(g, e, mine);
        if (!e->tensor->dir) hoist_mark(g, NULL, from);
        return x;
    }
    case E_slot: {
        struct ir_var *home = e->field->pipe->home;
        if (home) return tile_move(g, home->type, g->family->slot_read(g, home), g->family->layout(g, home), mine);
        int from = g->l->code.n;
        struct opd *x = slot_read(g, e, mine);
        hoist_mark(g, e->field->pipe, from);
        return x;
    }
    case E_element: return tile_shared(g, e, mine);
    default: return tile_map(g, e, mine);
    }
}

/* ---- each */

static void bind_element(struct gen *g, struct ir_block_at *b, const struct ir_stmt *s, const struct layout *lay, int r)
{
    *b = (struct ir_block_at){ .outer = g->each, .lay = lay, .reg = r };
    for (int i = 0; i < s->axes.n; i++) {
        b->axes[b->n] = s->axes.at[i];
        b->at[b->n++] = gen_coord(g, lay, r, eval_index(lay, s->axes.at[i]));
    }
}

void gen_each(struct gen *g, struct ir_stmt *s)
{
    struct ir_axis *axes[IR_RANK], *mine[IR_RANK];
    int n = eval_axes(g, s->expr, axes), outer = eval_of(g)->thread_level;
    for (int i = 0; i < s->axes.n; i++) {
        struct ir_expr one = { .naxes = 1, .axes = { s->axes.at[i] } };
        n = eval_add_axes(g, &one, axes, n);
    }
    const struct layout *lay = tile_layout(g, s->expr, axes, n, NULL, 1);
    struct opd *x = gen_tile(g, s->expr, lay), *mask = s->mask ? gen_tile(g, s->mask, lay) : NULL, once = gen_first_copy(g, lay);
    const struct layout *xl = layout_project(g->arena, lay, mine, eval_axes(g, s->expr, mine));
    const struct layout *ml = s->mask ? layout_project(g->arena, lay, mine, eval_axes(g, s->mask, mine)) : NULL;
    struct inside in;
    inside_start(g, &in, lay);
    for (int r = 0; r < layout_regs(lay); r++) {
        int skip = lir_label(g->l);
        struct ir_block_at b;
        struct opd p = lir_pand(g->l, once, inside_all(g, &in, r));
        if (mask) p = lir_pand(g->l, p, mask[layout_project_reg(lay, ml, r)]);
        bind_element(g, &b, s, lay, r);
        int mark = eval_mark(g);
        if (!opd_is(p, 1)) lir_emit(g->l, "@!%r bra %l", p, skip);
        if (s->var) {
            struct opd v = x[layout_project_reg(lay, xl, r)];
            if (opd_none(g->vars[s->var->id])) g->vars[s->var->id] = lir_reg(g->l, gen_class(s->var->type));
            lir_set(g->l, g->vars[s->var->id], v);
        }
        eval_of(g)->thread_level = true;
        g->each = &b;
        gen_block(g, &s->body);
        g->each = b.outer;
        eval_of(g)->thread_level = outer;
        eval_release(g, mark);
        lir_place(g->l, skip);
    }
}
