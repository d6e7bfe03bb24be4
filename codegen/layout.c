/* layout - layouts as digits: the constructors, projections and printing. */
#include "codegen/layout.h"

#include <assert.h>
#include <string.h>

static int digits_product(const struct layout *l, enum lay_place place)
{
    int n = 1;
    for (int i = 0; i < l->n; i++)
        if (l->digit[i].place == place) n *= l->digit[i].extent;
    return n;
}

int layout_regs(const struct layout *l)
{
    return digits_product(l, LAY_REG);
}

int layout_warps(const struct layout *l)
{
    return digits_product(l, LAY_WARP);
}

int layout_reg_offset(const struct layout *l, int r, int a)
{
    int at = 0;
    for (int i = 0; i < l->n && l->digit[i].place == LAY_REG; i++) {
        const struct lay_digit *d = &l->digit[i];
        if (d->axis == a) at += r % d->extent * d->stride;
        r /= d->extent;
    }
    return at;
}

static const struct ir_axis *digit_axis(const struct layout *l, int i)
{
    return l->digit[i].axis < 0 ? NULL : l->axes[l->digit[i].axis];
}

bool layout_equal(const struct layout *a, const struct layout *b)
{
    if (a == b) return true;
    if (a->n != b->n) return false;
    for (int i = 0; i < a->n; i++) {
        const struct lay_digit *x = &a->digit[i], *y = &b->digit[i];
        if (x->place != y->place || x->extent != y->extent || digit_axis(a, i) != digit_axis(b, i)) return false;
        if (x->axis >= 0 && x->stride != y->stride) return false;
    }
    return true;
}

bool layout_replicated(const struct layout *l)
{
    for (int i = 0; i < l->n; i++)
        if (l->digit[i].place != LAY_REG && l->digit[i].axis < 0) return true;
    return false;
}

/* Appends a digit; one that continues the digit before it is joined to it, so that equal layouts have equal digits. */
static void add(struct layout *l, enum lay_place place, int axis, int extent, int stride)
{
    struct lay_digit *last = l->n ? &l->digit[l->n - 1] : NULL;
    if (extent == 1) return;
    if (axis < 0) stride = 0;
    if (last && last->place == place && last->axis == axis && stride == last->stride * last->extent) {
        last->extent *= extent;
        return;
    }
    assert(l->n < LAY_DIGITS);
    l->digit[l->n++] = (struct lay_digit){ (uint8_t)place, (int8_t)axis, extent, stride };
}

/* extent[a] = one more than the largest coordinate the digits reach. */
static struct layout *finish(struct layout *l)
{
    for (int a = 0; a < l->naxes; a++) {
        l->extent[a] = 1;
        for (int i = 0; i < l->n; i++)
            if (l->digit[i].axis == a) l->extent[a] += (l->digit[i].extent - 1) * l->digit[i].stride;
    }
    return l;
}

static int axis_index(struct ir_axis *const *axes, int n, const struct ir_axis *x)
{
    for (int i = 0; i < n; i++)
        if (axes[i] == x) return i;
    return -1;
}

static struct layout *start(struct arena *a, struct ir_axis *const *axes, int n)
{
    struct layout *l = new (a, struct layout);
    assert(n <= IR_RANK);
    l->naxes = n;
    for (int i = 0; i < n; i++) l->axes[i] = axes[i];
    return l;
}

/* Takes the next factor of two, or more up to `most`, off a register digit; NULL: none is left. */
static struct lay_digit *take_digit(struct lay_digit *regs, int n, int most, struct lay_digit *part)
{
    for (int i = 0; i < n; i++) {
        int f = regs[i].extent & -regs[i].extent;
        if (f < 2) continue;
        if (f > most) f = most;
        *part = (struct lay_digit){ LAY_LANE, regs[i].axis, f, regs[i].stride };
        regs[i].extent /= f;
        regs[i].stride *= f;
        return part;
    }
    return NULL;
}

const struct layout *layout_spread(struct arena *a, const struct layout *l)
{
    struct lay_digit regs[LAY_DIGITS], lanes[5 * LAY_DIGITS], part;
    struct layout *out = start(a, (struct ir_axis *const *)l->axes, l->naxes);
    int nregs = 0, nlanes = 0, dealt = 0;
    for (int i = 0; i < l->n; i++)
        if (l->digit[i].place == LAY_REG) regs[nregs++] = l->digit[i];
    for (int i = 0; i < l->n; i++) {
        struct lay_digit d = l->digit[i];
        if (d.place != LAY_LANE) continue;
        while (d.axis < 0 && d.extent > 1 && d.extent % 2 == 0 && take_digit(regs, nregs, d.extent & -d.extent, &part)) {
            lanes[nlanes++] = part;
            d.extent /= part.extent;
            dealt++;
        }
        if (d.extent > 1) lanes[nlanes++] = d;
    }
    if (!dealt) return l;
    for (int i = 0; i < nregs; i++) add(out, LAY_REG, regs[i].axis, regs[i].extent, regs[i].stride);
    for (int i = 0; i < nlanes; i++) add(out, LAY_LANE, lanes[i].axis, lanes[i].extent, lanes[i].stride);
    for (int i = 0; i < l->n; i++)
        if (l->digit[i].place == LAY_WARP) add(out, LAY_WARP, l->digit[i].axis, l->digit[i].extent, l->digit[i].stride);
    return finish(out);
}

struct layout *layout_project(struct arena *a, const struct layout *l, struct ir_axis *const *axes, int n)
{
    struct layout *p = start(a, axes, n);
    for (int i = 0; i < l->n; i++) {
        const struct lay_digit *d = &l->digit[i];
        int axis = d->axis < 0 ? -1 : axis_index(axes, n, l->axes[d->axis]);
        if (axis >= 0 || d->place != LAY_REG) add(p, d->place, axis, d->extent, d->stride);
    }
    finish(p);
    for (int i = 0; i < n; i++) {
        int from = axis_index(l->axes, l->naxes, axes[i]);
        assert(from >= 0);
        p->extent[i] = l->extent[from];
    }
    return p;
}

int layout_project_reg(const struct layout *full, const struct layout *proj, int r)
{
    int to = 0, step = 1;
    for (int i = 0; i < full->n && full->digit[i].place == LAY_REG; i++) {
        const struct lay_digit *d = &full->digit[i];
        int v = r % d->extent;
        r /= d->extent;
        if (d->axis < 0 || axis_index(proj->axes, proj->naxes, full->axes[d->axis]) < 0) continue;
        to += v * step;
        step *= d->extent;
    }
    return to;
}

/* ---- blocked */

static int round_pow2(int x)
{
    int p = 1;
    while (p < x) p *= 2;
    return p;
}

/* The digits of one number being handed out: how many values are left, and the digits so far, fastest first. */
struct share {
    enum lay_place place;
    int left;
};

/* The part of `left` that goes to an axis with `need` steps left to cover: the largest divisor up to need, rounded up to a
 * power of two. */
static int portion(int left, int need)
{
    int most = round_pow2(need), best = 1;
    for (int d = 1; d <= left && d <= most; d++)
        if (left % d == 0) best = d;
    return best;
}

/* How far each axis is covered while a blocked layout is built: the next stride, and the steps still needed. */
struct cover {
    int stride[IR_RANK], need[IR_RANK];
};

static void take(struct layout *l, struct cover *c, struct share *s, int axis)
{
    int n = portion(s->left, c->need[axis]);
    add(l, s->place, axis, n, c->stride[axis]);
    c->stride[axis] *= n;
    c->need[axis] = (c->need[axis] + n - 1) / n;
    s->left /= n;
}

static void keep_regs(struct layout *l, struct cover *c, int axis)
{
    add(l, LAY_REG, axis, c->need[axis], c->stride[axis]);
}

struct layout *layout_turned(struct arena *a, struct ir_axis *const *axes, int n, int vec_axis, int vec, int lane_axis, int warps)
{
    struct layout *l = start(a, axes, n), *threads = start(a, axes, n);
    struct cover c;
    struct share lanes = { LAY_LANE, 32 }, ws = { LAY_WARP, warps };
    for (int i = 0; i < n; i++) c.stride[i] = 1, c.need[i] = axes[i]->tile > 0 ? axes[i]->tile : 1;
    if (n) {
        while (vec > 1 && c.need[vec_axis] % vec) vec /= 2;
        add(l, LAY_REG, vec_axis, vec, 1);
        c.stride[vec_axis] = vec;
        c.need[vec_axis] /= vec;
        take(threads, &c, &lanes, lane_axis);
    }
    for (int i = n - 1; i >= 0; i--)
        if (i != lane_axis) take(threads, &c, &lanes, i);
    add(threads, LAY_LANE, -1, lanes.left, 0);
    /* Warps go to the outer axes first: reductions along the inner one then stay inside a warp. */
    for (int i = 0; i < n; i++)
        if (i != lane_axis) take(threads, &c, &ws, i);
    if (n) take(threads, &c, &ws, lane_axis);
    add(threads, LAY_WARP, -1, ws.left, 0);
    if (n) keep_regs(l, &c, lane_axis);
    for (int i = n - 1; i >= 0; i--)
        if (i != lane_axis) keep_regs(l, &c, i);
    for (int i = 0; i < threads->n; i++) {
        const struct lay_digit *d = &threads->digit[i];
        add(l, d->place, d->axis, d->extent, d->stride);
    }
    return finish(l);
}

struct layout *layout_blocked(struct arena *a, struct ir_axis *const *axes, int n, int inner, int vec, int warps)
{
    return layout_turned(a, axes, n, inner, vec, inner, warps);
}

/* ---- fragments */

/* One side of an accumulator: axes, or parts of them, flattened, the last fastest. */
struct side {
    int n;
    struct {
        int axis, extent, stride; /* of the layout; coordinates `stride` apart */
    } part[IR_RANK + 1];
};

/* first: index in the layout of the side's first axis. */
static struct side side_of(struct ir_axis *const *axes, int n, int first)
{
    struct side s = { .n = n };
    for (int i = 0; i < n; i++) s.part[i].axis = first + i, s.part[i].extent = axes[i]->tile, s.part[i].stride = 1;
    return s;
}

/* The last axis in pairs of coordinates: the pairs outermost, which of the two innermost. */
static void weave(struct side *s)
{
    int last = s->n++, axis = s->part[last - 1].axis, extent = s->part[last - 1].extent;
    memmove(s->part + 1, s->part, sizeof s->part[0] * (size_t)(last - 1));
    s->part[0].axis = s->part[last].axis = axis;
    s->part[0].extent = extent / 2;
    s->part[0].stride = s->part[last].extent = 2;
    s->part[last].stride = 1;
}

/* Adds a digit of a flattened side, split where it passes from one part to the next. The outermost part of more than one
 * coordinate may run past its tile (the excess is masked); the others must divide. */
static bool add_flat(struct layout *l, enum lay_place place, const struct side *s, int extent, int stride)
{
    int step = 1, outer = 0;
    while (outer + 1 < s->n && s->part[outer].extent == 1) outer++;
    for (int i = s->n - 1; i >= outer && extent > 1; step *= s->part[i].extent, i--) {
        int size = step * s->part[i].extent;
        if (i > outer && stride >= size) continue;
        if (stride % step) return false;
        if (i > outer && size % stride) return false;
        int n = i > outer && size / stride < extent ? size / stride : extent;
        if (extent % n) return false;
        add(l, place, s->part[i].axis, n, stride / step * s->part[i].stride);
        extent /= n;
        stride *= n;
    }
    return extent == 1 || s->n == 0;
}

static int side_size(struct ir_axis *const *axes, int n)
{
    int size = 1;
    for (int i = 0; i < n; i++) size *= axes[i]->tile;
    return size;
}

/* A digit of a fragment: along M (0) or N (1). */
struct frag_digit {
    enum lay_place place;
    int side, extent, stride;
};

static struct layout *fragment_of(struct arena *a, struct ir_axis *const *m_axes, int nm, struct ir_axis *const *n_axes, int nn, bool woven,
                                  const struct frag_digit *d, int n)
{
    struct layout *l = new (a, struct layout);
    struct side side[2] = { side_of(m_axes, nm, 0), side_of(n_axes, nn, nm) };
    if (woven) weave(&side[1]);
    assert(nm + nn <= IR_RANK);
    l->naxes = nm + nn;
    for (int i = 0; i < nm; i++) l->axes[i] = m_axes[i];
    for (int i = 0; i < nn; i++) l->axes[nm + i] = n_axes[i];
    for (int i = 0; i < n; i++) {
        if (d[i].side < 0) add(l, d[i].place, -1, d[i].extent, 0);
        else if (!add_flat(l, d[i].place, &side[d[i].side], d[i].extent, d[i].stride)) return NULL;
    }
    return finish(l);
}

static struct layout *fragment(struct arena *a, struct ir_axis *const *m_axes, int nm, struct ir_axis *const *n_axes, int nn,
                               const struct frag_digit *d, int n)
{
    return fragment_of(a, m_axes, nm, n_axes, nn, false, d, n);
}

/* Registers within a fragment: two columns, two rows of 8, then atoms along N, then atoms along M. */
struct layout *layout_mma(struct arena *a, struct ir_axis *const *m_axes, int nm, struct ir_axis *const *n_axes, int nn,
                          int wm, int wn, int m_atoms, int n_atoms)
{
    const struct frag_digit d[] = {
        { LAY_REG, 1, 2, 1 },   { LAY_REG, 0, 2, 8 },  { LAY_REG, 1, n_atoms, 8 }, { LAY_REG, 0, m_atoms, 16 },
        { LAY_LANE, 1, 4, 2 },  { LAY_LANE, 0, 8, 1 },
        { LAY_WARP, 0, wm, 16 * m_atoms }, { LAY_WARP, 1, wn, 8 * n_atoms },
    };
    return fragment(a, m_axes, nm, n_axes, nn, d, COUNT(d));
}

/* A: lanes q = 0, 1 have rows g and g + 8, lanes 2, 3 those of the next atom. B: each q a column g of another atom. */
struct layout *layout_scales(struct arena *a, struct ir_axis *const *axes, int n, struct ir_axis *const *granules, int ng,
                             bool b, int wm, int wn, int atoms, int per)
{
    int size = b ? 8 : 16, most = b ? 4 : 2;
    const struct frag_digit d[] = {
        { LAY_REG, 1, side_size(granules, ng), 1 }, { LAY_REG, 0, (atoms + per - 1) / per, per * size },
        { LAY_LANE, 0, b ? 1 : 2, 8 }, { LAY_LANE, 0, per, size }, { LAY_LANE, -1, most / per, 0 }, { LAY_LANE, 0, 8, 1 },
        { LAY_WARP, b ? -1 : 0, wm, size * atoms }, { LAY_WARP, b ? 0 : -1, wn, size * atoms },
    };
    return fragment(a, axes, n, granules, ng, d, COUNT(d));
}

struct layout *layout_wgmma(struct arena *a, struct ir_axis *const *m_axes, int nm, struct ir_axis *const *n_axes, int nn,
                            bool woven, int groups, int m_blocks)
{
    int n_atoms = (side_size(n_axes, nn) + 7) / 8;
    const struct frag_digit d[] = {
        { LAY_REG, 1, 2, 1 },   { LAY_REG, 0, 2, 8 },  { LAY_REG, 1, n_atoms, 8 }, { LAY_REG, 0, m_blocks, 64 * groups },
        { LAY_LANE, 1, 4, 2 },  { LAY_LANE, 0, 8, 1 },
        { LAY_WARP, 0, 4, 16 }, { LAY_WARP, 0, groups, 64 },
    };
    return fragment_of(a, m_axes, nm, n_axes, nn, woven, d, COUNT(d));
}

int layout_tmem_run(struct ir_axis *const *n_axes, int nn, int warps)
{
    int cols = side_size(n_axes, nn), groups = warps / 4, inner = nn ? n_axes[nn - 1]->tile : 1;
    return groups == 1 || nn < 2 || cols / groups % inner == 0 || inner % groups ? cols / groups : inner / groups;
}

/* 128 rows: a lane each. 64 rows lie in the first 16 lanes of each warp; the others count as copies. More than 128: blocks
 * of 128 one after the other in the registers. */
struct layout *layout_tmem(struct arena *a, struct ir_axis *const *m_axes, int nm, struct ir_axis *const *n_axes, int nn, int warps)
{
    int rows = side_size(m_axes, nm), cols = side_size(n_axes, nn), groups = warps / 4, run = layout_tmem_run(n_axes, nn, warps);
    if (cols % (groups * run)) return NULL;
    bool short_rows = rows <= 64;
    const struct frag_digit d[] = {
        { LAY_REG, 1, run, 1 }, { LAY_REG, 1, cols / groups / run, run * groups }, { LAY_REG, 0, (rows + 127) / 128, 128 },
        { LAY_LANE, 0, short_rows ? 16 : 32, 1 }, { LAY_LANE, -1, short_rows ? 2 : 1, 0 },
        { LAY_WARP, 0, 4, short_rows ? 16 : 32 }, { LAY_WARP, 1, groups, run },
    };
    return fragment(a, m_axes, nm, n_axes, nn, d, COUNT(d));
}

/* ---- printing */

void layout_print(const struct layout *l, struct buf *out)
{
    static const char *const place[] = { "reg", "lane", "warp" };
    for (int p = LAY_REG; p <= LAY_WARP; p++) {
        bool first = true;
        buf_printf(out, "%s%s (", p ? " " : "", place[p]);
        for (int i = 0; i < l->n; i++) {
            const struct lay_digit *d = &l->digit[i];
            if (d->place != p) continue;
            buf_printf(out, "%s%d:", first ? "" : " ", d->extent);
            if (d->axis < 0) buf_printf(out, "*");
            else buf_printf(out, "%s*%d", l->axes[d->axis]->name, d->stride);
            first = false;
        }
        buf_printf(out, ")");
    }
}
