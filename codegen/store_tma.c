/* store_tma - stores of fragments through shared memory and TMA.
 *
 * Fragments scatter a tile: a warp's store of one register touches eight rows by 16 bytes. Here each warp puts its own
 * part of the tile into a small swizzled buffer, panel by panel, and one lane sends each panel off as a box; hardware
 * drops what hangs over the tensor's edge. Where memory allows, two buffers a warp take turns, so that packing goes on
 * while a panel is read.
 *   D[i, j] = e   →   for each panel: wait for the buffer; st.shared; fence.proxy.async; cp.async.bulk.tensor; commit
 *   D[i, j] += e  →   the same with cp.reduce.async.bulk.tensor .add: one addition for each element, as written.
 * Needs: plain coordinates, axes whose tiles end where the tensor does, whole 16 bytes in rows. */
#include "codegen/eval.h"
#include "codegen/pipe.h"

#include <string.h>

enum { PANEL_BYTES = 128, BUFFER_ROWS = 16, SHARE = 6 }; /* the buffers may take a sixth of shared memory */

/* The part of a tile that one warp holds without gaps: on each axis a run of coordinates from 0, made of register and
 * lane digits; register digits with larger strides repeat it. */
struct box {
    const struct layout *lay;
    int run[IR_RANK];      /* by axis of the layout */
    int dim_axis[5];       /* by dimension of the map: axis of the layout, -1: none */
    int inner;             /* axis that runs along the tensor's contiguous dimension */
    int panel, rows;       /* elements along inner in a panel; rows of it */
    int buffers, bytes;    /* of each warp; bytes of one */
};

/* Register digits that would make the run longer than `enough` are left to repeat it. */
static int axis_run(const struct layout *lay, int a, int enough)
{
    int run = 1;
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < lay->n; i++)
            if (lay->digit[i].place != LAY_WARP && lay->digit[i].axis == a && lay->digit[i].stride == run && lay->digit[i].extent > 1 &&
                (lay->digit[i].place == LAY_LANE || run * lay->digit[i].extent <= enough))
                run *= lay->digit[i].extent, more = true;
    }
    return run;
}

static bool runs_hold_lanes(const struct box *b)
{
    for (int i = 0; i < b->lay->n; i++) {
        const struct lay_digit *d = &b->lay->digit[i];
        if (d->axis < 0) {
            if (d->extent > 1 && d->place != LAY_REG) return false;
            continue;
        }
        int run = b->run[d->axis];
        if (d->place == LAY_LANE && d->stride * d->extent > (d->axis == b->inner ? b->panel : run)) return false;
        if (d->place != LAY_LANE && d->stride >= run && d->stride % run) return false;
    }
    return true;
}

/* What of the statement the hardware can do; fills the box. */
static bool plan_box(struct gen *g, const struct ir_stmt *s, const struct layout *lay, struct box *b)
{
    const struct ir_tensor *t = s->tensor;
    int bits = type_bits(t->type), seen = 0;
    *b = (struct box){ .lay = lay };
    if (!target_has(g->target, HAS_TMA) || s->mask || s->mode == MODE_atomic || t->rank > 5 || (bits != 16 && bits != 32)) return false;
    if (s->mode == MODE_add && t->type != TY_f32 && t->type != TY_bf16 && t->type != TY_f16) return false;
    for (int d = 0; d < t->rank; d++) {
        const struct ir_expr *e = s->index.at[d];
        if (!e->naxes && d != t->inner) continue;
        if (e->kind != E_coord || eval_index(lay, e->axis) < 0) return false;
        const struct ir_axis *x = e->axis;
        if (!x->exact && !x->clean) return false;
        int a = eval_index(lay, x);
        if (lay->extent[a] != x->tile) return false;
        seen |= 1 << a;
        if (d == t->inner) b->inner = a;
    }
    if (seen != (1 << lay->naxes) - 1) return false;
    b->rows = 1;
    for (int a = 0; a < lay->naxes; a++) {
        b->run[a] = axis_run(lay, a, a == b->inner ? 256 : BUFFER_ROWS);
        if (a != b->inner) b->rows *= b->run[a];
        if (b->run[a] > 256) return false;
    }
    int most = PANEL_BYTES * 8 / bits;
    for (b->panel = b->run[b->inner] < most ? b->run[b->inner] : most; b->run[b->inner] % b->panel; b->panel /= 2) {}
    int row_bytes = b->panel * bits / 8;
    if (row_bytes != 32 && row_bytes != 64 && row_bytes != 128) return false;
    const struct ir_axis *x = lay->axes[b->inner];
    if (x->align * bits % 128 || ir_divisor(g->fn, t->dim[t->inner]) * bits % 128) return false;
    b->bytes = b->rows * row_bytes;
    b->buffers = 2 * b->bytes * g->role->warps * SHARE <= g->target->smem_bytes ? 2 : 1;
    return b->bytes % 1024 == 0 && b->bytes * g->role->warps * SHARE <= g->target->smem_bytes && runs_hold_lanes(b);
}

static int store_map(struct gen *g, const struct ir_stmt *s, struct box *b)
{
    const struct ir_tensor *t = s->tensor;
    int order[5], walks[IR_RANK];
    for (int d = 0; d < t->rank; d++) walks[d] = s->index.at[d]->naxes ? eval_index(b->lay, s->index.at[d]->axis) : -1;
    struct image_map m = pipe_map(g, t, walks, b->panel * type_bits(t->type) / 8, order);
    for (int i = 0; i < m.rank; i++) {
        int axis = walks[order[i]];
        b->dim_axis[i] = axis >= 0 ? axis : -1 - order[i];
        if (axis >= 0) m.box[i] = (uint32_t)(i == 0 ? b->panel : b->run[axis]);
    }
    pipe_need_alignment(g, t);
    vec_push(g->arena, &g->image->maps, m);
    return g->image->maps.n - 1;
}

/* What the digits of one place add to the coordinate on axis a. */
static struct opd part_of(struct gen *g, const struct layout *lay, int a, enum lay_place place)
{
    struct opd sum = opd_imm(0);
    for (int i = 0; i < lay->n; i++)
        if (lay->digit[i].place == place && lay->digit[i].axis == a && lay->digit[i].extent > 1)
            sum = lir_add(g->l, sum, lir_mul(g->l, eval_digit(g, lay, i), opd_imm(lay->digit[i].stride)));
    return sum;
}

/* Row, within the panel, that the non-inner coordinates `at` (by axis, relative to the runs) come to. */
static int flat_row(const struct box *b, const int *at)
{
    int row = 0;
    for (int a = 0; a < b->lay->naxes; a++)
        if (a != b->inner) row = row * b->run[a] + at[a];
    return row;
}

struct sender {
    struct gen *g;
    const struct ir_stmt *s;
    const struct box *b;
    int map, next;          /* buffer used next */
    struct opd buffers, row, col; /* this warp's; the lane's part of row and column */
};

/* Address of (row, col) of the panel for this lane: constants xor into the swizzle only through the row's low bits. */
static struct opd panel_address(struct sender *sd, int buffer, int row, int col)
{
    struct gen *g = sd->g;
    struct lir *l = g->l;
    int bytes = type_bits(sd->s->tensor->type) / 8, span = sd->b->panel * bytes;
    struct opd r = lir_add(l, sd->row, opd_imm(row)), c = lir_mul(l, lir_add(l, sd->col, opd_imm(col)), opd_imm(bytes));
    struct opd line = lir_add(l, lir_mul(l, r, opd_imm(span)), c);
    struct opd bits = lir_and(l, lir_shr_u(l, line, 7), opd_imm(span / 16 - 1));
    line = lir_xor(l, line, lir_shl(l, bits, 4));
    return lir_add(l, lir_add(l, sd->buffers, line), opd_imm(buffer * sd->b->bytes));
}

/* How many registers from r on lie side by side in the panel and fit one store of at most 16 bytes. */
static int side_by_side(const struct box *b, int r, int bits)
{
    int n = 1, regs = layout_regs(b->lay), most = 128 / bits, lanes = b->panel;
    for (int i = 0; i < b->lay->n; i++)
        if (b->lay->digit[i].place == LAY_LANE && b->lay->digit[i].axis == b->inner && b->lay->digit[i].extent > 1 && b->lay->digit[i].stride < lanes)
            lanes = b->lay->digit[i].stride;
    for (; n * 2 <= most && r + n * 2 <= regs && n * 2 <= lanes; n *= 2)
        for (int k = 1; k < n * 2; k++)
            for (int a = 0; a < b->lay->naxes; a++)
                if (layout_reg_offset(b->lay, r + k, a) != layout_reg_offset(b->lay, r, a) + (a == b->inner ? k : 0)) return n;
    while (layout_reg_offset(b->lay, r, b->inner) % n) n /= 2;
    return n;
}

static void send(struct sender *sd, const int *base, int panel)
{
    struct gen *g = sd->g;
    struct lir *l = g->l;
    const struct image_map *m = &g->image->maps.at[sd->map];
    struct opd coord[5], map = lir_reg(l, RC_B64);
    int skip = lir_label(l);
    for (int i = 0; i < m->rank; i++) {
        int a = sd->b->dim_axis[i];
        if (a < 0) coord[i] = gen_scalar(g, sd->s->index.at[-1 - a]);
        else coord[i] = lir_add(l, lir_add(l, gen_origin(g, sd->b->lay->axes[a]), part_of(g, sd->b->lay, a, LAY_WARP)), opd_imm(base[a] + (i == 0 ? panel * sd->b->panel : 0)));
        coord[i] = lir_in_reg(l, coord[i], RC_B32);
    }
    lir_emit(l, "fence.proxy.async.shared::cta");
    lir_emit(l, "bar.warp.sync 0xffffffff");
    lir_emit(l, "@!%r bra %l", gen_elect(g), skip);
    lir_emit(l, "mov.b64 %r, map%d", map, sd->map);
    lir_emit(l, "cvta.param.u64 %r, %r", map, map);
    const char *op = sd->s->mode == MODE_add ? "cp.reduce.async.bulk.tensor" : "cp.async.bulk.tensor", *add = sd->s->mode == MODE_add ? ".add" : "";
    lir_emit(l, "%s.%dd.global.shared::cta%s.tile.bulk_group [%r, %R], [%r]", op, m->rank, add, map, coord, m->rank,
             lir_in_reg(l, lir_add(l, sd->buffers, opd_imm(sd->next * sd->b->bytes)), RC_B32));
    lir_emit(l, "cp.async.bulk.commit_group");
    lir_place(l, skip);
    sd->next = (sd->next + 1) % sd->b->buffers;
}

/* The buffer about to be written must have been read by the store before last. */
static void wait_buffer(struct sender *sd, bool first)
{
    struct lir *l = sd->g->l;
    lir_emit(l, "@%r cp.async.bulk.wait_group.read %d", gen_elect(sd->g), first ? 0 : sd->b->buffers - 1);
    lir_emit(l, "bar.warp.sync 0xffffffff");
}

static bool same_run(const struct box *b, int r, const int *base, int panel)
{
    for (int a = 0; a < b->lay->naxes; a++) {
        int off = layout_reg_offset(b->lay, r, a);
        if (off - off % b->run[a] != base[a] || (a == b->inner && off % b->run[a] / b->panel != panel)) return false;
    }
    return true;
}

static void fill_panel(struct sender *sd, const int *base, int panel, const struct opd *v, const struct layout *mine)
{
    struct gen *g = sd->g;
    const struct box *b = sd->b;
    enum type t = sd->s->tensor->type;
    int regs = layout_regs(b->lay), n;
    for (int r = 0; r < regs; r += n) {
        n = side_by_side(b, r, type_bits(t));
        if (!same_run(b, r, base, panel)) continue;
        struct opd x[16];
        int at[IR_RANK] = { 0 };
        for (int k = 0; k < n; k++) x[k] = v[layout_project_reg(b->lay, mine, r + k)];
        for (int a = 0; a < b->lay->naxes; a++) at[a] = layout_reg_offset(b->lay, r, a) - base[a];
        struct opd to = panel_address(sd, sd->next, flat_row(b, at), at[b->inner] % b->panel);
        access_words_store(g, "shared", t, n, opd_imm(1), to, 0, x);
    }
}

static int stage_buffers(struct gen *g, int bytes)
{
    struct gen_role *r = g->role;
    if (r->stage_bytes < bytes) {
        r->stage = gen_smem(g, bytes * r->warps, 1024);
        r->stage_bytes = bytes;
    }
    return r->stage;
}

bool store_by_tma(struct gen *g, struct ir_stmt *s, const struct layout *lay)
{
    struct box b;
    if (!plan_box(g, s, lay, &b)) return false;
    struct lir *l = g->l;
    int each = b.buffers * b.bytes;
    struct sender sd = { .g = g, .s = s, .b = &b };
    sd.map = store_map(g, s, &b);
    sd.buffers = lir_add(l, lir_add(l, g->smem, opd_imm(stage_buffers(g, each))), lir_mul(l, g->role->warp, opd_imm(each)));
    sd.row = opd_imm(0);
    for (int a = 0; a < lay->naxes; a++)
        if (a != b.inner) sd.row = lir_add(l, lir_mul(l, sd.row, opd_imm(b.run[a])), part_of(g, lay, a, LAY_LANE));
    sd.col = part_of(g, lay, b.inner, LAY_LANE);
    struct opd *v = gen_tile(g, s->expr, lay);
    struct layout *mine = layout_project(g->arena, lay, s->expr->axes, s->expr->naxes);

    int regs = layout_regs(lay), sent = 0;
    bool *done = new_n(g->arena, bool, regs);
    for (int r = 0; r < regs; r++) {
        int base[IR_RANK], off = layout_reg_offset(lay, r, b.inner), panel = off % b.run[b.inner] / b.panel;
        if (done[r]) continue;
        for (int a = 0; a < lay->naxes; a++) base[a] = layout_reg_offset(lay, r, a) / b.run[a] * b.run[a];
        for (int k = r; k < regs; k++) done[k] |= same_run(&b, k, base, panel);
        wait_buffer(&sd, sent++ == 0);
        fill_panel(&sd, base, panel, v, mine);
        send(&sd, base, panel);
    }
    return true;
}

void store_finish(struct gen *g)
{
    if (g->role->stage_bytes) lir_emit(g->l, "@%r cp.async.bulk.wait_group 0", gen_elect(g));
}
