/* store_tma - stores of fragments through shared memory and TMA.
 *
 * Fragments scatter a tile: a warp's store of one register touches eight rows by 16 bytes. Here each warp puts its own
 * part of the tile into a small swizzled buffer, panel by panel, and one lane sends each panel off as a box; hardware
 * drops what hangs over the tensor's edge. Where memory allows, two buffers a warp take turns, so that packing goes on
 * while a panel is read.
 *   D[i, j] = e   →   for each panel: wait for the buffer; st.shared; fence.proxy.async; cp.async.bulk.tensor; commit
 *   D[i, j] += e  →   the same with cp.reduce.async.bulk.tensor .add: one addition for each element, as written.
 *                     With ahead(D) = 1 boxes of the old values come into the buffers while products run, and the sums leave from
 *                     there: memory adds fewer elements a second than it takes. What finds no buffer is added by memory.
 * Needs: plain coordinates, axes whose tiles end where the tensor does, whole 16 bytes in rows. */
#include "codegen/eval.h"
#include "codegen/mma_common.h"
#include "codegen/pipe.h"

#include <string.h>

/* The buffers may take a sixth of shared memory; a third where the author says how many; what leaves that many slots where they are read ahead. */
enum { PANEL_BYTES = 128, LEAST_PANEL_BYTES = 32, BUFFER_ROWS = 16, SHARE = 6, ASKED_SHARE = 3, LEAST_SLOTS = 3, BARRIERS = 256, MOST_BUFFERS = 8 };

/* The part of a tile that one warp holds without gaps: on each axis a run of coordinates from 0, made of register and
 * lane digits; register digits with larger strides repeat it. */
struct box {
    const struct layout *lay;
    int run[IR_RANK];      /* by axis of the layout */
    int dim_axis[5];       /* by dimension of the map: axis of the layout, -1: none */
    int inner;             /* axis that runs along the tensor's contiguous dimension */
    int panel, rows;       /* elements along inner in a panel, at most; rows of it */
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

/* The panel of a run of columns that holds column `at`: as wide as the widest, towards the end half as wide and half again, to where
 * the run ends. */
struct columns {
    int from, width;
};

static struct columns columns_of(const struct box *b, int at)
{
    struct columns c = { 0, b->panel };
    int run = b->run[b->inner];
    while (at >= c.from + c.width || c.from + c.width > run) {
        if (c.from + c.width > run) c.width /= 2;
        else c.from += c.width;
    }
    return c;
}

static bool runs_hold_lanes(const struct box *b)
{
    int least = columns_of(b, b->run[b->inner] - 1).width;
    for (int i = 0; i < b->lay->n; i++) {
        const struct lay_digit *d = &b->lay->digit[i];
        if (d->axis < 0) {
            if (d->extent > 1 && d->place != LAY_REG) return false;
            continue;
        }
        int run = b->run[d->axis];
        if (d->place == LAY_LANE && d->stride * d->extent > (d->axis == b->inner ? least : run)) return false;
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
    if (!target_has(g->target, HAS_TMA) || s->mask || s->mode == MODE_atomic || t->rank > 5 || t->align < IR_ALIGN || (bits != 16 && bits != 32)) return false;
    if (s->mode == MODE_add && t->type != TY_f32 && t->type != TY_bf16 && t->type != TY_f16) return false;
    for (int d = 0; d < t->rank; d++) {
        const struct ir_expr *e = s->index.at[d];
        if (!e->naxes && d != t->inner) continue;
        if (e->kind != E_coord || eval_index(lay, e->axis) < 0) return false;
        const struct ir_axis *x = e->axis;
        if (!x->exact && !x->clean && !eval_limit_is(g, x, t->dim[d])) return false;
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
    if (b->run[b->inner] * bits % (LEAST_PANEL_BYTES * 8)) return false;
    for (b->panel = PANEL_BYTES * 8 / bits; b->panel > b->run[b->inner]; b->panel /= 2) {}
    const struct ir_axis *x = lay->axes[b->inner];
    if (x->align * bits % 128 || ir_divisor(g->fn, t->dim[t->inner]) * bits % 128) return false;
    b->bytes = b->rows * b->panel * bits / 8;
    int share = s->boxes ? ASKED_SHARE : SHARE;
    for (b->buffers = s->boxes ? s->boxes : 2; b->buffers > 1 && b->buffers * b->bytes * g->role->warps * share > g->target->smem_bytes;) b->buffers--;
    return b->bytes % 1024 == 0 && b->bytes * g->role->warps * SHARE <= g->target->smem_bytes && runs_hold_lanes(b);
}

static int store_map(struct gen *g, const struct ir_stmt *s, struct box *b, int width)
{
    const struct ir_tensor *t = s->tensor;
    int order[5], walks[IR_RANK];
    for (int d = 0; d < t->rank; d++) walks[d] = s->index.at[d]->naxes ? eval_index(b->lay, s->index.at[d]->axis) : -1;
    struct image_map m = pipe_map(g, t, walks, width * type_bits(t->type) / 8, order);
    for (int i = 0; i < m.rank; i++) {
        int axis = walks[order[i]];
        b->dim_axis[i] = axis >= 0 ? axis : -1 - order[i];
        if (axis >= 0) m.box[i] = (uint32_t)(i == 0 ? width : b->run[axis]);
    }
    gen_need_alignment(g, t, IR_ALIGN);
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

/* One of the boxes that a warp's part of the tile is sent in. */
struct panel {
    int base[IR_RANK]; /* by axis of the layout: where its run begins */
    struct columns columns;
    int map;
};

enum { MOST_SPAN = 128, LINE = 16 };

struct sender {
    struct gen *g;
    const struct ir_stmt *s;
    const struct box *b;
    int next;               /* buffer used next */
    struct opd buffers, row, col; /* this warp's; the lane's part of row and column */
    struct opd lane, at[MOST_SPAN / LINE]; /* address of the lane's part in buffer 0; with a constant column, by its multiples of 16 bytes */
    bool old;               /* the buffer holds the old values */
};

/* Bytes of a row, rounded up to a power of two, that a lane's part and n elements from there reach into. */
static int lane_reach(const struct box *b, int n, int bytes)
{
    int most = n, low = LINE;
    for (int i = 0; i < b->lay->n; i++)
        if (b->lay->digit[i].place == LAY_LANE && b->lay->digit[i].axis == b->inner) most += (b->lay->digit[i].extent - 1) * b->lay->digit[i].stride;
    while (low < most * bytes) low *= 2;
    return low;
}

/* Where a row is a whole pattern of the swizzle, the lane's address is made once: a constant column flips bits that it does not have, a
 * constant number of patterns is an offset. */
static bool swizzled_once(const struct sender *sd, int width, int row, int col, int n)
{
    int bytes = type_bits(sd->s->tensor->type) / 8;
    return width * bytes == MOST_SPAN && row % 8 == 0 && col * bytes % lane_reach(sd->b, n, bytes) == 0;
}

static struct opd lane_address(struct sender *sd, int col)
{
    struct lir *l = sd->g->l;
    int bytes = type_bits(sd->s->tensor->type) / 8, line = col * bytes / LINE;
    if (opd_none(sd->lane)) {
        struct opd swizzle = lir_shl(l, lir_and(l, sd->row, opd_imm(7)), 4);
        struct opd in_row = lir_xor(l, lir_mul(l, sd->col, opd_imm(bytes)), swizzle);
        sd->lane = lir_add(l, lir_add(l, sd->buffers, lir_mul(l, sd->row, opd_imm(MOST_SPAN))), in_row);
    }
    if (opd_none(sd->at[line])) sd->at[line] = lir_xor(l, sd->lane, opd_imm(line * LINE));
    return sd->at[line];
}

/* Address of n elements from (row, col) of a panel on, for this lane, less *offset. */
static struct opd panel_address(struct sender *sd, int buffer, int width, int row, int col, int n, int *offset)
{
    struct gen *g = sd->g;
    struct lir *l = g->l;
    int bytes = type_bits(sd->s->tensor->type) / 8, span = width * bytes;
    *offset = buffer * sd->b->bytes;
    if (swizzled_once(sd, width, row, col, n)) {
        *offset += row * span;
        return lane_address(sd, col);
    }
    struct opd r = lir_add(l, sd->row, opd_imm(row)), c = lir_mul(l, lir_add(l, sd->col, opd_imm(col)), opd_imm(bytes));
    struct opd line = lir_add(l, lir_mul(l, r, opd_imm(span)), c);
    struct opd bits = lir_and(l, lir_shr_u(l, line, 7), opd_imm(span / 16 - 1));
    line = lir_xor(l, line, lir_shl(l, bits, 4));
    return lir_in_reg(l, lir_add(l, sd->buffers, line), RC_B32);
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

/* Coordinates of a panel's box, and the map's address. */
static struct opd panel_place(struct sender *sd, const struct panel *p, struct opd *coord)
{
    struct gen *g = sd->g;
    struct lir *l = g->l;
    const struct image_map *m = &g->image->maps.at[p->map];
    struct opd map = lir_reg(l, RC_B64);
    for (int i = 0; i < m->rank; i++) {
        int a = sd->b->dim_axis[i];
        if (a < 0) coord[i] = gen_scalar(g, sd->s->index.at[-1 - a]);
        else {
            struct opd warp = lir_add(l, gen_origin(g, sd->b->lay->axes[a]), part_of(g, sd->b->lay, a, LAY_WARP));
            coord[i] = lir_add(l, warp, opd_imm(p->base[a] + (i == 0 ? p->columns.from : 0)));
        }
        coord[i] = lir_in_reg(l, coord[i], RC_B32);
    }
    lir_emit(l, "mov.b64 %r, map%d", map, p->map);
    lir_emit(l, "cvta.param.u64 %r, %r", map, map);
    return map;
}

static struct opd buffer_address(struct sender *sd, int buffer)
{
    return lir_in_reg(sd->g->l, lir_add(sd->g->l, sd->buffers, opd_imm(buffer * sd->b->bytes)), RC_B32);
}

static void send(struct sender *sd, const struct panel *p)
{
    struct gen *g = sd->g;
    struct lir *l = g->l;
    struct opd coord[5];
    bool add = sd->s->mode == MODE_add && !sd->old;
    int skip = lir_label(l), rank = g->image->maps.at[p->map].rank;
    struct opd policy = gen_policy(g, sd->s->tensor);
    lir_emit(l, "fence.proxy.async.shared::cta");
    lir_emit(l, "bar.warp.sync 0xffffffff");
    lir_emit(l, "@!%r bra %l", gen_elect(g), skip);
    struct opd map = panel_place(sd, p, coord);
    lir_emit(l, "%s.%dd.global.shared::cta%s.tile.bulk_group%s [%r, %R], [%r]%o", add ? "cp.reduce.async.bulk.tensor" : "cp.async.bulk.tensor", rank,
             add ? ".add" : "", gen_hint(policy), map, coord, rank, buffer_address(sd, sd->next), policy);
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

static bool in_panel(const struct box *b, int r, const struct panel *p)
{
    for (int a = 0; a < b->lay->naxes; a++) {
        int off = layout_reg_offset(b->lay, r, a);
        if (off - off % b->run[a] != p->base[a] || (a == b->inner && columns_of(b, off % b->run[a]).from != p->columns.from)) return false;
    }
    return true;
}

/* In the order of their first registers; those of one width share a map. */
static int list_panels(struct gen *g, const struct ir_stmt *s, struct box *b, struct panel **out)
{
    int regs = layout_regs(b->lay), n = 0;
    bool *done = new_n(g->arena, bool, regs);
    *out = new_n(g->arena, struct panel, regs);
    for (int r = 0; r < regs; r++) {
        struct panel *p = &(*out)[n];
        if (done[r]) continue;
        p->columns = columns_of(b, layout_reg_offset(b->lay, r, b->inner) % b->run[b->inner]);
        for (int a = 0; a < b->lay->naxes; a++) p->base[a] = layout_reg_offset(b->lay, r, a) / b->run[a] * b->run[a];
        for (int k = r; k < regs; k++) done[k] |= in_panel(b, k, p);
        int same = 0;
        while (same < n && (*out)[same].columns.width != p->columns.width) same++;
        p->map = same < n ? (*out)[same].map : store_map(g, s, b, p->columns.width);
        n++;
    }
    return n;
}

/* x += old, rounded once: 16-bit floats exactly but for the last step, in f32. */
static void add_old(struct gen *g, enum type t, int n, const struct opd *old, struct opd *x)
{
    struct opd sum[2];
    for (int k = 0; k < n; k += 2) {
        for (int i = 0; i < 2 && k + i < n; i++)
            sum[i] = scalar_binary(g, E_add, TY_f32, gen_cast(g, TY_f32, t, old[k + i]), gen_cast(g, TY_f32, t, x[k + i]));
        if (k + 1 < n) gen_cast2(g, t, TY_f32, sum, x + k);
        else x[k] = gen_cast(g, t, TY_f32, sum[0]);
    }
}

static struct opd panel_register(struct sender *sd, const struct panel *p, int r, int n, int *offset)
{
    const struct box *b = sd->b;
    int at[IR_RANK] = { 0 };
    for (int a = 0; a < b->lay->naxes; a++) at[a] = layout_reg_offset(b->lay, r, a) - p->base[a];
    return panel_address(sd, sd->next, p->columns.width, flat_row(b, at), at[b->inner] - p->columns.from, n, offset);
}

/* The loads come first, all together: behind a store they would wait for it. */
static struct opd *read_panel(struct sender *sd, const struct panel *p)
{
    enum type t = sd->s->tensor->type;
    int regs = layout_regs(sd->b->lay), n, offset;
    struct opd *old = new_n(sd->g->arena, struct opd, regs);
    for (int r = 0; r < regs; r += n) {
        n = side_by_side(sd->b, r, type_bits(t));
        if (!in_panel(sd->b, r, p)) continue;
        struct opd from = panel_register(sd, p, r, n, &offset);
        access_words_load(sd->g, "shared", t, n, opd_imm(1), from, offset, old + r);
    }
    return old;
}

static void fill_panel(struct sender *sd, const struct panel *p, const struct opd *v, const struct layout *mine)
{
    struct gen *g = sd->g;
    const struct box *b = sd->b;
    enum type t = sd->s->tensor->type;
    struct opd *old = sd->old ? read_panel(sd, p) : NULL;
    int regs = layout_regs(b->lay), n, offset;
    for (int r = 0; r < regs; r += n) {
        n = side_by_side(b, r, type_bits(t));
        if (!in_panel(b, r, p)) continue;
        struct opd x[16], to = panel_register(sd, p, r, n, &offset);
        for (int k = 0; k < n; k++) x[k] = v[layout_project_reg(b->lay, mine, r + k)];
        if (old) add_old(g, t, n, old + r, x);
        access_words_store(g, "shared", t, n, opd_imm(1), to, offset, x);
    }
}

/* More buffers where memory was left over: a whole tile may wait there for its way out. */
static void more_buffers(struct gen *g, struct box *b)
{
    int each = b->bytes * g->role->warps;
    while (g->stage_spare >= each && b->buffers < MOST_BUFFERS) {
        g->stage_spare -= each;
        b->buffers++;
    }
}

static int stage_buffers(struct gen *g, struct box *b)
{
    struct gen_role *r = g->role;
    bool same = r->stage_bytes && r->stage_bytes % b->bytes == 0 && r->stage_bytes / b->bytes >= b->buffers;
    if (same) b->buffers = r->stage_bytes / b->bytes;
    if (!r->stage_bytes) more_buffers(g, b);
    if (r->stage_bytes < b->bytes * b->buffers) {
        r->stage_bytes = b->bytes * b->buffers;
        r->stage = gen_smem(g, r->stage_bytes * r->warps, 1024);
        same = false;
    }
    if (!same || !mma_straight(g, r->stage_at)) r->stage_at = -1; /* nothing is known of what is on its way */
    return r->stage;
}

static struct sender sender_of(struct gen *g, const struct ir_stmt *s, const struct box *b, int stage)
{
    struct lir *l = g->l;
    struct sender sd = { .g = g, .s = s, .b = b };
    sd.buffers = lir_add(l, lir_add(l, g->smem, opd_imm(stage)), lir_mul(l, g->role->warp, opd_imm(b->buffers * b->bytes)));
    sd.row = opd_imm(0);
    for (int a = 0; a < b->lay->naxes; a++)
        if (a != b->inner) sd.row = lir_add(l, lir_mul(l, sd.row, opd_imm(b->run[a])), part_of(g, b->lay, a, LAY_LANE));
    sd.col = part_of(g, b->lay, b->inner, LAY_LANE);
    return sd;
}

/* ---- old values read ahead */

/* Of one statement of a role: it adds to boxes that came in while products ran. */
struct store_ahead {
    const struct ir_stmt *s;
    struct box box;           /* buffers: as many as are read ahead */
    struct panel *panels;
    int n;                    /* all of them */
    int stage, barrier;       /* the warps' buffers, their barriers one after another */
    struct opd phase, pending; /* of the barriers; 1: this task's boxes have not been asked for */
    bool placed;              /* a place to ask for them was found behind a product */
};

struct uses {
    const struct ir_tensor *tensor;
    int n;
};

static void count_use(void *ctx, struct ir_expr *e)
{
    struct uses *u = ctx;
    u->n += e->kind == E_read && e->tensor == u->tensor;
}

static int count_stores(const ir_block *b, const struct ir_tensor *t)
{
    int n = 0;
    for (int i = 0; i < b->n; i++)
        n += (b->at[i]->kind == S_store && b->at[i]->tensor == t) + count_stores(&b->at[i]->body, t) + count_stores(&b->at[i]->other, t);
    return n;
}

/* No other statement reads or writes the tensor. */
static bool alone(const struct gen *g, const struct ir_tensor *t)
{
    struct uses u = { t, 0 };
    ir_walk_fn(g->fn, count_use, &u);
    for (int i = 0; i < g->fn->roles.n; i++) u.n += count_stores(&g->fn->roles.at[i]->body, t);
    return u.n == 1;
}

static bool binds(const ir_block *b, const struct ir_axis *x)
{
    while (x->of) x = x->of;
    for (int i = 0; i < b->n; i++)
        if ((b->at[i]->kind == S_bind && b->at[i]->axis == x) || binds(&b->at[i]->body, x) || binds(&b->at[i]->other, x)) return true;
    return false;
}

/* Its place is known as soon as the task is: no axis of it is walked in the role, no index is computed there. */
static bool placed_by_task(const struct ir_role *r, const struct ir_stmt *s)
{
    for (int i = 0; i < s->index.n; i++) {
        const struct ir_expr *e = s->index.at[i];
        if (e->naxes ? e->kind != E_coord || binds(&r->body, e->axis) : e->kind != E_const && e->kind != E_get) return false;
        if (!e->naxes && e->kind == E_get)
            for (int k = 0; k < r->body.n; k++)
                if (r->body.at[k]->var == e->var) return false;
    }
    return true;
}

/* NULL: it is planned. */
static const char *plan_ahead(struct gen *g, const struct ir_stmt *s)
{
    struct gen_role *r = g->role;
    struct store_ahead *a = new (g->arena, struct store_ahead);
    const struct layout *lay = store_layout(g, s);
    *a = (struct store_ahead){ .s = s };
    if (!alone(g, s->tensor)) return "another statement uses it";
    if (!placed_by_task(r->ir, s)) return "where it lies is not known when the task begins";
    if (s->expr->type != s->tensor->type || !gen_anchor(g, s->expr) || !plan_box(g, s, lay, &a->box)) return "its tile does not leave in boxes";
    int n = a->n = list_panels(g, s, &a->box, &a->panels), most = (pipe_room(g, LEAST_SLOTS) - BARRIERS) / (a->box.bytes * r->warps);
    a->box.buffers = n < most ? n : most;
    if (a->box.buffers < 1) return "beside the slots there is no room for a box a warp";
    a->stage = gen_smem(g, a->box.buffers * a->box.bytes * r->warps, 1024);
    a->barrier = gen_barrier(g, 1);
    for (int w = 1; w < r->warps; w++) gen_barrier(g, 1);
    r->ahead = a;
    return NULL;
}

void store_plan(struct gen *g)
{
    struct eval *before = g->eval;
    for (int i = 0; i < g->roles.n; i++) {
        g->role = &g->roles.at[i];
        for (int k = 0; k < g->role->ir->body.n && !g->role->ahead; k++) {
            const struct ir_stmt *s = g->role->ir->body.at[k];
            const char *why = s->kind == S_store && s->mode == MODE_add && s->flag ? plan_ahead(g, s) : NULL;
            if (why) gen_cost(g, s->span, "'%s' is not read ahead: %s", s->tensor->name, why);
        }
    }
    g->role = NULL;
    g->eval = before;
}

void store_begin_role(struct gen *g)
{
    struct store_ahead *a = g->role->ahead;
    if (!a) return;
    a->placed = false;
    a->phase = lir_reg(g->l, RC_B32);
    a->pending = lir_reg(g->l, RC_B32);
    lir_set(g->l, a->phase, opd_imm(0));
}

static struct opd own_barrier(struct gen *g, const struct store_ahead *a)
{
    struct lir *l = g->l;
    return lir_in_reg(l, lir_add(l, lir_add(l, g->smem, opd_imm(a->barrier)), lir_shl(l, g->role->warp, 3)), RC_B32);
}

/* One lane of each warp, once what the buffers held has left. */
static void ask(struct gen *g, struct store_ahead *a)
{
    struct lir *l = g->l;
    int skip = lir_label(l), none = lir_label(l), mark = eval_mark(g), bytes = 0;
    struct opd coord[5];
    lir_emit(l, "@%r bra %l", lir_cmp(l, "eq", a->pending, opd_imm(0)), none);
    lir_set(l, a->pending, opd_imm(0));
    lir_emit(l, "@!%r bra %l", gen_elect(g), skip);
    struct sender sd = sender_of(g, a->s, &a->box, a->stage);
    struct opd barrier = own_barrier(g, a), policy = gen_policy(g, a->s->tensor);
    for (int n = 0; n < a->box.buffers; n++) bytes += a->box.rows * a->panels[n].columns.width * type_bits(a->s->tensor->type) / 8;
    lir_emit(l, "cp.async.bulk.wait_group.read 0");
    lir_emit(l, "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r], %d", barrier, bytes);
    for (int n = 0; n < a->box.buffers; n++) {
        struct opd map = panel_place(&sd, &a->panels[n], coord);
        int rank = g->image->maps.at[a->panels[n].map].rank;
        lir_emit(l, "cp.async.bulk.tensor.%dd.%s.global.tile.mbarrier::complete_tx::bytes%s [%r], [%r, %R], [%r]%o", rank,
                 pipe_landing(g), gen_hint(policy), buffer_address(&sd, n), map, coord, rank, barrier, policy);
    }
    lir_place(l, skip);
    lir_emit(l, "bar.warp.sync 0xffffffff");
    lir_place(l, none);
    eval_release(g, mark);
}

static bool consumes_slots(const ir_block *b)
{
    for (int i = 0; i < b->n; i++)
        if ((b->at[i]->kind == S_consume && !b->at[i]->pipe->home) || consumes_slots(&b->at[i]->body) || consumes_slots(&b->at[i]->other)) return true;
    return false;
}

void store_task(struct gen *g)
{
    struct store_ahead *a = g->role->ahead;
    if (!a) return;
    lir_set(g->l, a->pending, opd_imm(1));
    if (!consumes_slots(&g->role->ir->body)) store_meanwhile(g);
}

void store_meanwhile(struct gen *g)
{
    struct store_ahead *a = g->role->ahead;
    if (!a || a->placed) return;
    a->placed = true;
    ask(g, a);
}

static void await_old(struct gen *g, struct store_ahead *a)
{
    ask(g, a); /* if nothing was consumed */
    gen_wait_barrier(g, own_barrier(g, a), a->phase);
    lir_set(g->l, a->phase, lir_xor(g->l, a->phase, opd_imm(1)));
}

/* ---- the statement */

bool store_by_tma(struct gen *g, struct ir_stmt *s, const struct layout *lay)
{
    struct box own;
    struct store_ahead *a = g->role->ahead && g->role->ahead->s == s ? g->role->ahead : NULL;
    struct panel *panels = a ? a->panels : NULL;
    struct box *b = a ? &a->box : &own;
    if (!a && !plan_box(g, s, lay, &own)) return false;
    int n = a ? a->n : list_panels(g, s, b, &panels), stage = a ? a->stage : stage_buffers(g, &own);
    struct sender sd = sender_of(g, s, b, stage);
    bool follows = !a && g->role->stage_at >= 0; /* the buffers are in turn from the store before */
    sd.next = follows ? g->role->stage_next : 0;
    struct opd *v = gen_tile(g, s->expr, b->lay);
    struct layout *mine = layout_project(g->arena, b->lay, s->expr->axes, s->expr->naxes);
    if (a) await_old(g, a);
    for (int i = 0; i < n; i++) {
        sd.old = a && i < b->buffers;
        if (!sd.old) wait_buffer(&sd, i == 0 && !follows);
        fill_panel(&sd, &panels[i], v, mine);
        send(&sd, &panels[i]);
    }
    g->role->stage_next = sd.next;
    g->role->stage_at = a ? -1 : g->l->code.n;
    return true;
}

void store_finish(struct gen *g)
{
    if (g->role->stage_bytes || g->role->ahead) lir_emit(g->l, "@%r cp.async.bulk.wait_group 0", gen_elect(g));
}

void store_explain(const struct gen *g, struct buf *out)
{
    for (int i = 0; i < g->roles.n; i++) {
        const struct store_ahead *a = g->roles.at[i].ahead;
        if (!a) continue;
        buf_printf(out, "  store %s     of %d boxes a warp %d are read ahead, at most %d bytes each", a->s->tensor->name, a->n, a->box.buffers, a->box.bytes);
        buf_printf(out, a->n > a->box.buffers ? "; memory adds to the others\n" : "\n");
    }
}
