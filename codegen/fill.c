/* fill - slots that the producing role computes: registers, then st.shared; and tiles worked on part by part.
 *
 * A thread works on a few vectors at a time; a loop walks the rest of the tile, so that neither code nor registers grow with
 * it. While the loop runs, the origin of the axis it walks is that of the part. */
#include "codegen/eval.h"
#include "codegen/pipe.h"

/* Elements a thread holds at a time. */
enum { FILL_ELEMENTS = 32 };

/* A part of the tile after the other, along one axis. */
struct walk {
    int axis, times, step;
};

/* Lanes along what is read, where that is not how the slot lies: loads coalesce, stores are still vectors. */
static struct layout *fill_layout(struct gen *g, const struct gen_field *f, const struct ir_stmt *s)
{
    const struct ir_field *ir = f->ir;
    const struct ir_axis *along = tile_reads_along(g, s->expr);
    int lanes = f->inner, vec = 128 / f->elem_bits;
    for (int i = 0; i < ir->naxes; i++)
        if (ir->axes[i] == along) lanes = i;
    while (vec > 1 && f->per_panel % vec) vec /= 2;
    return layout_turned(g->arena, ir->axes, ir->naxes, f->inner, vec, lanes, g->role->warps);
}

/* Takes a factor out of the last register digit that may be walked. */
static bool split_digit(struct layout *lay, int vec, struct walk *w)
{
    int regs = layout_regs(lay), first = vec > 1;
    for (int i = lay->n - 1; i >= first; i--) {
        struct lay_digit *d = &lay->digit[i];
        if (d->place != LAY_REG || d->axis < 0) continue;
        const struct ir_axis *x = lay->axes[d->axis];
        if (x->of || lay->extent[d->axis] > x->tile) continue;
        int times = 2;
        while (times < d->extent && (regs / times > FILL_ELEMENTS || d->extent % times)) times++;
        *w = (struct walk){ d->axis, times, d->stride * (d->extent / times) };
        d->extent /= times;
        lay->extent[d->axis] -= w->step * (times - 1);
        if (d->extent > 1) return true;
        for (lay->n--; i < lay->n; i++) lay->digit[i] = lay->digit[i + 1];
        return true;
    }
    return false;
}

struct computed {
    const struct gen_field *field;
    const struct ir_stmt *s;
};

static void fill_part(struct gen *g, void *ctx, const struct layout *lay, const struct opd *start)
{
    const struct gen_field *f = ((struct computed *)ctx)->field;
    const struct ir_stmt *s = ((struct computed *)ctx)->s;
    struct lir *l = g->l;
    enum type t = f->ir->type;
    struct ir_axis *axes[IR_RANK];
    struct opd *v = gen_tile(g, s->expr, lay), elements[128];
    struct layout *mine = layout_project(g->arena, lay, axes, eval_axes(g, s->expr, axes));
    int n = layout_regs(lay), vec = lay->n && lay->digit[0].place == LAY_REG && lay->digit[0].axis == f->inner && lay->digit[0].stride == 1 ? lay->digit[0].extent : 1;
    while (vec * f->elem_bits > 128 || (vec > 1 && f->per_panel % vec)) vec /= 2;
    vec &= -vec; /* a power of two: rows are whole numbers of these */
    if (vec * f->elem_bits < 8) gen_error(g, s->span, "'%s' holds two elements a byte; its inner axis must have an even extent", f->ir->name);
    struct opd one = gen_first_copy(g, lay);
    for (int r = 0; r < n; r += vec) {
        struct opd rel[IR_RANK] = { opd_imm(0) }, ok = one;
        for (int a = 0; a < f->ir->naxes; a++) {
            struct opd at = lir_add(l, eval_lane_part(g, lay, a), opd_imm(layout_reg_offset(lay, r, a)));
            rel[a] = lir_add(l, at, start[a]);
            if (lay->extent[a] > f->ir->axes[a]->tile) ok = lir_pand(l, ok, lir_cmp(l, "lt", rel[a], opd_imm(f->ir->axes[a]->tile)));
        }
        for (int i = 0; i < vec; i++) elements[i] = gen_cast(g, t, s->expr->type, v[layout_project_reg(lay, mine, r + i)]);
        struct opd to = lir_in_reg(l, pipe_element(g, f->ir, rel), RC_B32);
        access_words_store(g, "shared", t, vec, ok, to, 0, elements);
    }
}

struct walking {
    struct layout *lay;
    struct walk at[8];
    int n;
    walk_part *part;
    void *ctx;
    struct opd start[IR_RANK]; /* where the part begins, relative to the tile */
};

/* for each part along at[i], at[i + 1], ... */
static void walk_along(struct gen *g, struct walking *w, int i)
{
    if (i == w->n) {
        w->part(g, w->ctx, w->lay, w->start);
        return;
    }
    struct lir *l = g->l;
    const struct walk *along = &w->at[i];
    struct ir_axis *x = w->lay->axes[along->axis];
    struct opd by = lir_reg(l, RC_B32), origin = g->origin[x->id], before = w->start[along->axis];
    struct opd *window = &eval_of(g)->window[x->id], kept = *window;
    int top = lir_label(l), align = x->align, mark = eval_mark(g);
    if (opd_none(kept)) *window = gen_origin(g, x);
    lir_set(l, by, opd_imm(0));
    lir_place(l, top);
    w->start[along->axis] = lir_add(l, before, by);
    g->origin[x->id] = lir_add(l, gen_origin(g, x), by);
    x->align = (int)gcd(align > 0 ? align : 1, along->step);
    walk_along(g, w, i + 1);
    x->align = align;
    g->origin[x->id] = origin;
    *window = kept;
    w->start[along->axis] = before;
    eval_release(g, mark);
    lir_emit(l, "add.s32 %r, %r, %d", by, by, along->step);
    lir_emit(l, "@%r bra %l", lir_cmp(l, "lt", by, opd_imm(along->step * along->times)), top);
}

void walk_tile(struct gen *g, const struct layout *lay, int vec, walk_part *part, void *ctx)
{
    struct walking w = { .lay = new(g->arena, struct layout), .part = part, .ctx = ctx };
    *w.lay = *lay;
    for (int a = 0; a < IR_RANK; a++) w.start[a] = opd_imm(0);
    while (w.n < COUNT(w.at) && layout_regs(w.lay) > FILL_ELEMENTS && split_digit(w.lay, vec, &w.at[w.n])) w.n++;
    walk_along(g, &w, 0);
}

/* Of a tile that registers hold: each thread stores what it has. */
static const struct layout *own_layout(struct gen *g, const struct gen_field *f, const struct ir_stmt *s)
{
    const struct layout *lay = g->role->drains ? gen_anchor(g, s->expr) : NULL;
    for (int a = 0; lay && a < f->ir->naxes; a++)
        if (eval_index(lay, f->ir->axes[a]) < 0) return NULL;
    return lay ? layout_project(g->arena, lay, f->ir->axes, f->ir->naxes) : NULL;
}

void fill_computed(struct gen *g, const struct gen_field *f, const struct ir_stmt *s)
{
    struct computed c = { f, s };
    const struct layout *lay = own_layout(g, f, s);
    if (lay) {
        struct opd start[IR_RANK];
        for (int a = 0; a < IR_RANK; a++) start[a] = opd_imm(0);
        fill_part(g, &c, lay, start);
        return;
    }
    lay = fill_layout(g, f, s);
    bool vec = lay->n && lay->digit[0].axis == f->inner && lay->digit[0].stride == 1;
    walk_tile(g, lay, vec ? 2 : 1, fill_part, &c);
}
