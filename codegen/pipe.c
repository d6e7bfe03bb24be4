/* pipe - rings of slots in shared memory: full and empty barriers, produce, fill and consume.
 *
 * A pipe of depth n has n slots, n full and n empty mbarriers. A producer waits for empty[i] (parity phase ^ 1, so that the
 * first round passes), fills the slot and arrives on full[i]; a consumer waits for full[i] (parity phase), reads, and
 * arrives on empty[i]. Index and phase live in registers of each role and go on over tasks. */
#include "codegen/eval.h"
#include "codegen/pipe.h"

#include <string.h>

/* ---- barriers ---- */

int gen_barrier(struct gen *g, int count)
{
    struct gen_barrier b = { gen_smem(g, 8, 8), count };
    vec_push(g->arena, &g->barriers, b);
    return b.offset;
}

static void init_barrier(struct gen *g, int offset, int count)
{
    lir_emit(g->l, "mbarrier.init.shared.b64 [%r+%d], %d", g->smem, offset, count);
}

/* Boxes are copied by maps made of it, not by it. */
static bool is_template(struct gen *g, int map)
{
    for (int i = 0; i < g->fn->pipes.n; i++)
        for (int k = 0; k < g->fn->pipes.at[i]->fields.n; k++) {
            const struct gen_field *f = g->fn->pipes.at[i]->fields.at[k]->cg;
            if (f->map == map) return f->plan->made;
        }
    return false;
}

/* Run by one thread at entry. Every gen_barrier must have been asked for by now: families do so in plan. */
void pipe_init(struct gen *g)
{
    for (int i = 0; i < g->fn->pipes.n; i++) {
        struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        for (int k = 0; k < p->depth; k++) {
            init_barrier(g, p->full + 8 * k, p->full_count);
            init_barrier(g, p->empty + 8 * k, p->empty_count);
        }
    }
    for (int i = 0; i < g->barriers.n; i++) init_barrier(g, g->barriers.at[i].offset, g->barriers.at[i].count);
    if (target_has(g->target, HAS_CLUSTER)) lir_emit(g->l, "fence.mbarrier_init.release.cluster");
    for (int i = 0; i < g->image->maps.n; i++)
        if (!is_template(g, i)) lir_emit(g->l, "prefetch.param.tensormap [map%d]", i);
}

static void wait_barrier(struct gen *g, struct opd address, struct opd parity, bool cluster)
{
    struct lir *l = g->l;
    struct opd done = lir_reg(l, RC_PRED);
    int again = lir_label(l);
    lir_place(l, again);
    const char *wait = cluster ? "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64" : target_has(g->target, HAS_TMA) ? "mbarrier.try_wait.parity.shared::cta.b64" : "mbarrier.test_wait.parity.shared.b64";
    lir_emit(l, "%s %r, [%r], %r", wait, done, address, parity);
    lir_emit(l, "@!%r bra %l", done, again);
}

void gen_wait_barrier(struct gen *g, struct opd address, struct opd parity) { wait_barrier(g, address, parity, false); }

static struct opd barrier_address(struct gen *g, int offset, struct opd index)
{
    return lir_add(g->l, lir_add(g->l, g->smem, lir_shl(g->l, index, 3)), opd_imm(offset));
}

struct opd pipe_empty_barrier(struct gen *g, struct gen_pipe *p, struct opd index) { return barrier_address(g, p->empty, index); }

/* ---- state ---- */

static struct opd first_slot(struct gen *g, const struct gen_pipe *p) { return lir_add(g->l, g->smem, opd_imm(p->offset)); }

void pipe_begin_role(struct gen *g)
{
    for (int i = 0; i < g->fn->pipes.n; i++) {
        struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        p->inside = false;
        p->index = lir_reg(g->l, RC_B32);
        p->phase = lir_reg(g->l, RC_B32);
        lir_set(g->l, p->index, opd_imm(0));
        lir_set(g->l, p->phase, opd_imm(0));
        p->next = (struct opd){ 0 };
        if (p->depth == 1 || p->ir->home || !g->family || !g->family->async) continue; /* mma.sync's roles have no register to spare */
        p->next = lir_reg(g->l, RC_B32);
        lir_set(g->l, p->next, first_slot(g, p));
    }
}

/* The next slot's address is worked out with its index, so that it is there when the slot is. */
static void advance(struct gen *g, struct gen_pipe *p)
{
    struct lir *l = g->l;
    if (p->depth == 1) {
        lir_emit(l, "xor.b32 %r, %r, 1", p->phase, p->phase);
        return;
    }
    struct opd wrap = lir_reg(l, RC_PRED);
    lir_emit(l, "add.s32 %r, %r, 1", p->index, p->index);
    lir_emit(l, "setp.eq.s32 %r, %r, %d", wrap, p->index, p->depth);
    lir_emit(l, "selp.b32 %r, 0, %r, %r", p->index, p->index, wrap);
    lir_emit(l, "@%r xor.b32 %r, %r, 1", wrap, p->phase, p->phase);
    if (opd_none(p->next)) return;
    struct opd first = first_slot(g, p);
    lir_emit(l, "add.s32 %r, %r, %d", p->next, p->next, p->slot_bytes);
    lir_emit(l, "selp.b32 %r, %r, %r, %r", p->next, first, p->next, wrap);
}

/* What threads of both CTAs of a pair stored before they arrived is seen, too. */
static void wait_full(struct gen *g, struct gen_pipe *p)
{
    bool stored = p->by_threads || (p->ir->home && p->flags >= 0);
    wait_barrier(g, barrier_address(g, p->full, p->held), p->phase, p->paired && stored);
}

static struct opd slot_base(struct gen *g, struct gen_pipe *p)
{
    if (opd_none(p->next)) return lir_add(g->l, lir_add(g->l, g->smem, lir_mul(g->l, p->held, opd_imm(p->slot_bytes))), opd_imm(p->offset));
    struct opd r = lir_reg(g->l, RC_B32);
    lir_set(g->l, r, p->next);
    return r;
}

static struct opd held_index(struct gen *g, struct gen_pipe *p)
{
    if (p->depth == 1) return opd_imm(0);
    struct opd r = lir_reg(g->l, RC_B32);
    lir_set(g->l, r, p->index);
    return r;
}

struct opd pipe_field_base(struct gen *g, const struct ir_field *f)
{
    struct gen_field *gf = f->cg;
    struct gen_pipe *p = f->pipe->cg;
    return lir_add(g->l, p->base, opd_imm(gf->offset));
}

/* Where row r of scales lies among words: 4 (r % 32) + r / 32 in each 128. */
static struct opd scale_row(struct gen *g, struct opd row)
{
    struct lir *l = g->l;
    struct opd block = lir_and(l, row, opd_imm(~127)), lane = lir_shl(l, lir_and(l, row, opd_imm(31)), 2);
    return lir_or(l, lir_or(l, block, lane), lir_and(l, lir_shr_u(l, row, 5), opd_imm(3)));
}

/* Byte offset in the field of (row, col), swizzled. */
static struct opd element_offset(struct gen *g, const struct gen_field *f, struct opd row, struct opd col)
{
    struct lir *l = g->l;
    if (f->scales) row = scale_row(g, row);
    struct opd in_panel = col, off = opd_imm(0);
    if (!pipe_in_one_panel(f)) {
        off = lir_mul(l, lir_div(l, col, opd_imm(f->per_panel), true), opd_imm(f->panel_bytes));
        in_panel = lir_mod(l, col, opd_imm(f->per_panel), true);
    }
    struct opd byte = f->elem_bits == 4 ? lir_shr_u(l, in_panel, 1) : lir_mul(l, in_panel, opd_imm(f->elem_bits / 8));
    struct opd line = lir_add(l, lir_mul(l, row, opd_imm(f->span)), byte);
    if (f->swizzle) {
        struct opd bits = lir_and(l, lir_shr_u(l, line, 7), opd_imm(f->swizzle / 16 - 1));
        line = lir_xor(l, line, lir_shl(l, bits, 4));
    }
    return lir_add(l, off, line);
}

static struct opd flat_row(struct gen *g, const struct gen_field *f, const struct opd *rel)
{
    struct opd row = opd_imm(0);
    for (int i = 0; i < f->ir->naxes; i++)
        if (i != f->inner) row = lir_add(g->l, lir_mul(g->l, row, opd_imm(f->ir->axes[i]->tile)), rel[i]);
    return row;
}

struct opd pipe_offset(struct gen *g, const struct ir_field *f, const struct opd *rel)
{
    const struct gen_field *gf = f->cg;
    return element_offset(g, gf, flat_row(g, gf, rel), rel[gf->inner]);
}

struct opd pipe_element(struct gen *g, const struct ir_field *f, const struct opd *rel)
{
    return lir_add(g->l, pipe_field_base(g, f), pipe_offset(g, f, rel));
}

/* ---- produce ---- */

/* The index at the window's origin: coordinates of axes become origins. */
static struct opd index_start(struct gen *g, const struct ir_expr *e)
{
    if (!e->naxes) return gen_scalar(g, e);
    if (e->kind == E_coord) return gen_origin(g, e->axis);
    struct opd a = index_start(g, e->args[0]), b = index_start(g, e->args[1]);
    return e->kind == E_add ? lir_add(g->l, a, b) : lir_sub(g->l, a, b);
}

static struct opd is_issuer(struct gen *g)
{
    return g->role->single ? opd_imm(1) : lir_cmp(g->l, "eq", g->role->thread, opd_imm(0));
}

static void guard(struct gen *g, struct opd pred, int *skip)
{
    *skip = -1;
    if (pred.kind == OPD_IMM) return;
    *skip = lir_label(g->l);
    lir_emit(g->l, "@!%r bra %l", pred, *skip);
}

static void unguard(struct gen *g, int skip)
{
    if (skip >= 0) lir_place(g->l, skip);
}

/* One lane of each warp, once all of it is done. */
static void arrive_full(struct gen *g, struct gen_pipe *p)
{
    lir_emit(g->l, "bar.warp.sync 0xffffffff");
    if (p->paired) {
        lir_emit(g->l, "@%r mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r]", gen_elect(g), p->full_pair);
        return;
    }
    struct opd first = gen_elect(g), state = lir_reg(g->l, RC_B64);
    lir_emit(g->l, "@%r mbarrier.arrive.shared.b64 %r, [%r]", first, state, p->full_now);
}

/* The slot is an accumulator's place. Where products fill it, their completion arrives. */
static void produce_acc(struct gen *g, struct ir_stmt *s)
{
    struct gen_pipe *p = s->pipe->cg;
    p->held = held_index(g, p);
    gen_wait_barrier(g, barrier_address(g, p->empty, p->held), lir_xor(g->l, p->phase, opd_imm(1)));
    p->full_now = barrier_address(g, p->full, p->held);
    p->inside = true;
    g->family->slot_begin(g, p);
    gen_block(g, &s->body);
    g->family->slot_end(g, p);
    if (!g->role->has_mma) arrive_full(g, p);
    p->inside = false;
    advance(g, p);
}

static void consume_acc(struct gen *g, struct ir_stmt *s)
{
    struct gen_pipe *p = s->pipe->cg;
    p->held = held_index(g, p);
    wait_full(g, p);
    p->inside = true;
    g->family->slot_begin(g, p);
    gen_block(g, &s->body);
    g->family->slot_end(g, p);
    p->inside = false;
    pipe_release(g, p, p->held, opd_imm(1));
    advance(g, p);
}

/* The drain's registers become what products add to. */
static void fill_acc(struct gen *g, struct ir_stmt *s)
{
    struct ir_var *v = s->field->pipe->home;
    struct ir_axis *axes[IR_RANK];
    const struct layout *lay = g->family->layout(g, v);
    if (g->role->has_mma) return; /* it lies there */
    struct opd *x = gen_tile(g, s->expr, lay), *all = new_n(g->arena, struct opd, layout_regs(lay));
    const struct layout *mine = layout_project(g->arena, lay, axes, eval_axes(g, s->expr, axes));
    for (int r = 0; r < layout_regs(lay); r++) all[r] = x[layout_project_reg(lay, mine, r)];
    g->family->slot_write(g, v, all);
}

/* ---- pieces whose place is looked up ---- */

/* Where the pieces of a field lie in its tensor when its axis begins at `origin`: coordinates of piece after piece. They may be
 * looked up in memory, so they are asked for before the slot is waited for. */
static struct opd *piece_starts(struct gen *g, const struct gen_field *f, const struct ir_stmt *s, struct opd origin)
{
    const struct image_map *m = &g->image->maps.at[f->map];
    const struct field_plan *plan = f->plan;
    struct ir_axis *x = f->ir->axes[plan->piece_axis];
    int n = x->tile / plan->piece;
    struct opd *at = new_n(g->arena, struct opd, n * m->rank);
    for (int b = 0; b < n; b++) {
        struct ir_block_at bound = { .outer = g->each, .n = 1, .axes = { x }, .at = { lir_add(g->l, origin, opd_imm(b * plan->piece)) } };
        for (int i = 0; i < m->rank; i++) {
            const struct ir_expr *e = s->expr->args[f->map_order[i]];
            bool there = e->naxes == 1 && e->axes[0] == x;
            if (there) g->each = &bound;
            at[b * m->rank + i] = lir_in_reg(g->l, there ? gen_scalar(g, e) : index_start(g, e), RC_B32);
            g->each = bound.outer;
        }
    }
    return at;
}

static struct gen_field *pieces_of(const struct ir_stmt *fill)
{
    struct gen_field *f = fill->kind == S_fill && !fill->field->pipe->home ? fill->field->cg : NULL;
    return f && f->plan->kind == FILL_TMA && f->plan->piece ? f : NULL;
}

static int piece_numbers(struct gen *g, const struct gen_field *f)
{
    return f->ir->axes[f->plan->piece_axis]->tile / f->plan->piece * g->image->maps.at[f->map].rank;
}

struct sets {
    const ir_block *body;
    const struct ir_axis *walked;
    bool found;
};

static bool sets_in(const ir_block *b, const struct ir_var *v, const struct ir_axis *x)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if ((v && s->var == v) || (x && s->kind == S_bind && s->axis == x)) return true;
        if (sets_in(&s->body, v, x) || sets_in(&s->other, v, x)) return true;
    }
    return false;
}

static void note_set(void *ctx, struct ir_expr *e)
{
    struct sets *c = ctx;
    const struct ir_axis *x = e->axis;
    while (x && x->of) x = x->of;
    c->found |= e->kind == E_slot || e->kind == E_element || (e->var && sets_in(c->body, e->var, NULL)) || (x && x != c->walked && sets_in(c->body, NULL, x));
}

/* The loop's only walk of the axis, a tile a trip, and nothing else it sets is in the index. */
static bool can_look_ahead(const struct ir_stmt *loop, const struct gen_field *f, const struct ir_stmt *fill)
{
    int64_t step;
    const struct ir_axis *x = f->ir->axes[f->plan->piece_axis];
    struct sets c = { &loop->body, x, false };
    if (loop->axis != x || !loop->step || !ir_const_int(loop->step, &step) || step != x->tile) return false;
    for (int i = 0; i < fill->expr->nargs; i++) ir_walk_expr(fill->expr->args[i], note_set, &c);
    return !c.found;
}

/* What a slot's pieces are looked up for is known a trip before: the loop over them looks up the next one's first, and copies
 * go on meanwhile. lo: where the loop begins. */
void pipe_look_ahead(struct gen *g, const struct ir_stmt *loop, struct opd lo)
{
    for (int i = 0; i < loop->body.n; i++) {
        const struct ir_stmt *p = loop->body.at[i];
        for (int k = 0; p->kind == S_produce && k < p->body.n; k++) {
            struct gen_field *f = pieces_of(p->body.at[k]);
            if (!f || !can_look_ahead(loop, f, p->body.at[k])) continue;
            int n = piece_numbers(g, f);
            struct opd *first = piece_starts(g, f, p->body.at[k], lo);
            f->ahead = new_n(g->arena, struct opd, n);
            for (int c = 0; c < n; c++) lir_set(g->l, f->ahead[c] = lir_reg(g->l, RC_B32), first[c]);
        }
    }
}

void pipe_looked(const struct ir_stmt *loop)
{
    for (int i = 0; i < loop->body.n; i++)
        for (int k = 0; loop->body.at[i]->kind == S_produce && k < loop->body.at[i]->body.n; k++) {
            struct gen_field *f = pieces_of(loop->body.at[i]->body.at[k]);
            if (f) f->ahead = NULL;
        }
}

static void look_up(struct gen *g, struct gen_field *f, const struct ir_stmt *fill)
{
    struct ir_axis *x = f->ir->axes[f->plan->piece_axis];
    int n = piece_numbers(g, f);
    if (!f->ahead) {
        f->starts = piece_starts(g, f, fill, gen_origin(g, x));
        return;
    }
    f->starts = new_n(g->arena, struct opd, n);
    for (int c = 0; c < n; c++) lir_set(g->l, f->starts[c] = lir_reg(g->l, RC_B32), f->ahead[c]);
    struct opd *next = piece_starts(g, f, fill, lir_add(g->l, gen_origin(g, x), opd_imm(x->tile)));
    for (int c = 0; c < n; c++) lir_set(g->l, f->ahead[c], next[c]);
}

/* Where a task's tile may be copied by threads in place of boxes, the slot's one arrival comes when all of the warp is done. */
static void expect_made(struct gen *g, struct gen_pipe *p)
{
    struct opd bytes = made_bytes(g, p);
    lir_emit(g->l, "@%r mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r], %r", is_issuer(g), lir_in_reg(g->l, p->full_now, RC_B32), bytes);
}

static void arrive_made(struct gen *g, struct gen_pipe *p)
{
    struct opd state = lir_reg(g->l, RC_B64);
    lir_emit(g->l, "@%r mbarrier.arrive.shared.b64 %r, [%r]", is_issuer(g), state, p->full_now);
}

void gen_produce(struct gen *g, struct ir_stmt *s)
{
    struct gen_pipe *p = s->pipe->cg;
    struct lir *l = g->l;
    int skip;
    if (p->ir->home) {
        produce_acc(g, s);
        return;
    }
    p->held = held_index(g, p);
    for (int i = 0; i < s->body.n; i++)
        if (pieces_of(s->body.at[i])) look_up(g, pieces_of(s->body.at[i]), s->body.at[i]);
    /* Where one thread fills the slot, only it waits: another might come a round late and miss the phase. A warp that makes maps keeps
     * in step. */
    guard(g, p->by_threads || p->by_cp_async || g->role->makes ? opd_imm(1) : is_issuer(g), &skip);
    gen_wait_barrier(g, barrier_address(g, p->empty, p->held), lir_xor(l, p->phase, opd_imm(1)));
    unguard(g, skip);
    p->base = slot_base(g, p);
    p->full_now = barrier_address(g, p->full, p->held);
    if (p->paired) p->full_pair = pair_first(g, p->full_now);
    p->inside = true;
    if (p->makes) expect_made(g, p);
    else if (p->by_tma) { /* a pair's first CTA expects what is copied to both */
        guard(g, p->paired ? lir_pand(l, is_issuer(g), lir_cmp(l, "eq", g->cta_rank, opd_imm(0))) : is_issuer(g), &skip);
        lir_emit(l, "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r], %d", lir_in_reg(l, p->full_now, RC_B32), p->tx_bytes * (p->paired ? 2 : 1));
        unguard(g, skip);
    }
    gen_block(g, &s->body);
    if (g->role->makes) lir_emit(l, "bar.warp.sync 0xffffffff");
    if (p->makes) arrive_made(g, p);
    if (p->by_cp_async) lir_emit(l, "cp.async.mbarrier.arrive.noinc.shared.b64 [%r]", p->full_now);
    if (p->by_threads) {
        bool fence = false;
        for (int k = 0; k < p->ir->fields.n; k++) {
            struct gen_field *f = p->ir->fields.at[k]->cg;
            fence |= f->generic_write && f->async_read;
        }
        if (fence) lir_emit(l, "fence.proxy.async.shared::cta");
        arrive_full(g, p);
    }
    p->inside = false;
    advance(g, p);
}

/* Where clusters are the rule, their form; ptxas spends a stack slot on it for sm_120. */
const char *pipe_landing(const struct gen *g) { return g->target->has & (HAS_WGMMA | HAS_TCGEN05) ? "shared::cluster" : "shared::cta"; }

/* One copy: a box of the map at `coord` to byte `at` of the field. */
static void copy_box(struct gen *g, const struct gen_field *f, struct opd map, const struct opd *coord, struct opd to)
{
    struct lir *l = g->l;
    struct gen_pipe *p = f->ir->pipe->cg;
    int rank = g->image->maps.at[f->map].rank;
    struct opd policy = gen_policy(g, g->fn->tensors.at[g->image->maps.at[f->map].arg]);
    if (f->share > 1)
        lir_emit(l, "cp.async.bulk.tensor.%dd.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster%s [%r], [%r, %R], [%r], %r%o", rank,
                 gen_hint(policy), to, map, coord, rank, p->full_now, lir_in_reg(l, opd_imm((1 << f->share) - 1), RC_B16), policy);
    else
        lir_emit(l, "cp.async.bulk.tensor.%dd.%s.global.tile.mbarrier::complete_tx::bytes%s%s [%r], [%r, %R], [%r]%o", rank, pipe_landing(g),
                 p->paired ? ".cta_group::2" : "", gen_hint(policy), to, map, coord, rank, p->paired ? p->full_pair : p->full_now, policy);
}

static struct opd map_address(struct gen *g, const struct gen_field *f)
{
    if (f->plan->made) return made_address(f);
    struct opd map = lir_reg(g->l, RC_B64);
    lir_emit(g->l, "mov.b64 %r, map%d", map, f->map);
    lir_emit(g->l, "cvta.param.u64 %r, %r", map, map);
    return map;
}

static void fill_pieces(struct gen *g, const struct gen_field *f)
{
    struct lir *l = g->l;
    const struct image_map *m = &g->image->maps.at[f->map];
    const struct field_plan *plan = f->plan;
    struct opd base = pipe_field_base(g, f->ir), map = map_address(g, f);
    int n = f->ir->axes[plan->piece_axis]->tile / plan->piece;
    int bytes = plan->piece_axis == f->inner ? plan->piece * f->elem_bits / 8 : f->panel_bytes / n;
    for (int panel = 0; panel < f->panels; panel++)
        for (int b = 0; b < n; b++) {
            struct opd coord[5];
            memcpy(coord, f->starts + b * m->rank, sizeof *coord * (size_t)m->rank);
            coord[0] = lir_in_reg(l, lir_add(l, coord[0], opd_imm(panel * f->per_panel)), RC_B32);
            copy_box(g, f, map, coord, lir_in_reg(l, lir_add(l, base, opd_imm(panel * f->panel_bytes + b * bytes)), RC_B32));
        }
}

/* The field's axis behind dimension i of its map, -1: none. */
static int map_axis(const struct gen_field *f, int i) { return f->plan->made ? f->map_order[i] : f->plan->walks[f->map_order[i]]; }

static void fill_tma(struct gen *g, const struct gen_field *f, const struct ir_stmt *s)
{
    struct lir *l = g->l;
    const struct image_map *m = &g->image->maps.at[f->map];
    const struct field_plan *plan = f->plan;
    struct opd start[5], coord[5], base = pipe_field_base(g, f->ir), part = opd_imm(0);
    int skip, slow = 0;
    guard(g, is_issuer(g), &skip);
    if (plan->piece) {
        fill_pieces(g, f);
        unguard(g, skip);
        return;
    }
    struct opd map = map_address(g, f);
    for (int i = 0; i < m->rank; i++) {
        int axis = map_axis(f, i);
        start[i] = lir_in_reg(l, plan->made ? gen_origin(g, f->ir->axes[axis]) : index_start(g, s->expr->args[f->map_order[i]]), RC_B32);
        if (f->woven) start[i] = weave_start(g, i, start[i]);
        if (axis >= 0 && axis == f->half) start[i] = lir_in_reg(l, lir_add(l, start[i], lir_mul(l, g->cta_rank, opd_imm(pipe_held(f, axis)))), RC_B32);
        if (axis < 0 || !i) continue;
        if (pipe_held(f, axis) / f->share > 256) slow = i; /* the slowest rows, in several boxes */
        if (f->share > 1 && axis == pipe_slowest_axis(f)) {           /* this CTA's part of what the cluster shares */
            part = lir_mul(l, g->cta_rank, opd_imm(f->panel_bytes / f->share));
            start[i] = lir_in_reg(l, lir_add(l, start[i], lir_mul(l, g->cta_rank, opd_imm(f->ir->axes[axis]->tile / f->share))), RC_B32);
        }
    }
    int tall = slow ? f->ir->axes[map_axis(f, slow)]->tile : 1, boxes = tall / pipe_box_rows(tall);
    base = lir_add(l, base, part);
    for (int panel = 0; panel < f->panels; panel++)
        for (int b = 0; b < boxes; b++) {
            memcpy(coord, start, sizeof coord);
            coord[0] = lir_in_reg(l, lir_add(l, start[0], opd_imm(panel * f->per_panel)), RC_B32);
            if (slow) coord[slow] = lir_in_reg(l, lir_add(l, start[slow], opd_imm(b * pipe_box_rows(tall))), RC_B32);
            int at = panel * f->panel_bytes + b * (f->rows / boxes * f->span);
            copy_box(g, f, map, coord, lir_in_reg(l, lir_add(l, base, opd_imm(at)), RC_B32));
        }
    unguard(g, skip);
}

/* By the map that the role made, or by threads where it made none of this task's tile. */
static void fill_made(struct gen *g, const struct gen_field *f, const struct ir_stmt *s)
{
    struct lir *l = g->l;
    int threads = lir_label(l), done = lir_label(l), mark = eval_mark(g);
    lir_emit(l, "@%r bra %l", lir_cmp(l, "eq", g->role->fits, opd_imm(0)), threads);
    fill_tma(g, f, s);
    lir_emit(l, "bra %l", done);
    lir_place(l, threads);
    eval_release(g, mark);
    made_by_threads(g, f, s);
    lir_place(l, done);
    eval_release(g, mark);
}

/* See pipe.h. */
void pipe_cp_async(struct gen *g, const struct ir_tensor *t, struct opd to, struct opd from, int unit, struct opd bytes)
{
    struct opd policy = gen_policy(g, t), count = lir_in_reg(g->l, bytes, RC_B32);
    lir_emit(g->l, "cp.async.%s.shared.global%s [%r], [%r], %d, %r%o", unit == 16 ? "cg" : "ca", gen_hint(policy), to, from, unit, count, policy);
}

/* Units of the field in row order, dealt to the producer's threads. What lies outside the tensor becomes zero
 * through cp.async's source size. */
static void fill_cp_async(struct gen *g, const struct gen_field *f, const struct ir_stmt *s)
{
    struct lir *l = g->l;
    const struct field_plan *plan = f->plan;
    const struct ir_expr *read = s->expr;
    const struct ir_tensor *t = read->tensor;
    int threads = g->role->warps * 32, per_chunk = plan->unit * 8 / f->elem_bits, chunks_row = f->cols / per_chunk, chunks = f->rows * chunks_row;
    struct opd start[IR_RANK], size[IR_RANK];
    for (int d = 0; d < t->rank; d++) {
        start[d] = index_start(g, read->args[d]);
        size[d] = gen_scalar(g, t->dim[d]);
    }
    for (int first = 0; first < chunks; first += threads) {
        struct opd n = lir_add(l, g->role->thread, opd_imm(first)), rel[IR_RANK];
        struct opd row = lir_div(l, n, opd_imm(chunks_row), true), rest = row;
        rel[f->inner] = lir_mul(l, lir_mod(l, n, opd_imm(chunks_row), true), opd_imm(per_chunk));
        for (int i = f->ir->naxes - 1, left = f->rows; i >= 0; i--) {
            if (i == f->inner) continue;
            int tile = f->ir->axes[i]->tile;
            left /= tile;
            rel[i] = left > 1 ? lir_mod(l, rest, opd_imm(tile), true) : rest;
            rest = left > 1 ? lir_div(l, rest, opd_imm(tile), true) : opd_imm(0);
        }
        struct opd inside = opd_imm(1), address = gen_tensor_pointer(g, t), bytes = opd_imm(plan->unit);
        for (int d = 0; d < t->rank; d++) {
            struct opd c = plan->walks[d] < 0 ? start[d] : lir_add(l, start[d], rel[plan->walks[d]]);
            inside = lir_pand(l, inside, lir_cmp(l, "lt", c, size[d]));
            inside = lir_pand(l, inside, lir_cmp(l, "ge", c, opd_imm(0)));
            if (d == t->inner) {
                struct opd left = lir_mul(l, lir_sub(l, size[d], c), opd_imm(f->elem_bits / 8));
                bytes = lir_min(l, left, opd_imm(plan->unit));
            }
            struct opd step = d == t->inner ? lir_widen(l, c) : lir_mul64(l, lir_widen(l, c), gen_stride(g, t, d));
            address = lir_add64(l, address, lir_mul64(l, step, opd_imm(f->elem_bits / 8)));
        }
        bytes = lir_sel(l, inside, bytes, opd_imm(0), RC_B32);
        address = lir_sel(l, inside, address, gen_tensor_pointer(g, t), RC_B64);
        struct opd to = pipe_element(g, f->ir, rel);
        struct opd busy = chunks - first < threads ? lir_cmp(l, "lt", n, opd_imm(chunks)) : opd_imm(1);
        int skip;
        guard(g, busy, &skip);
        pipe_cp_async(g, t, to, address, plan->unit, bytes);
        unguard(g, skip);
    }
}

void gen_fill(struct gen *g, struct ir_stmt *s)
{
    struct gen_field *f = s->field->cg;
    switch (f->plan->kind) {
    case FILL_TMA: f->plan->made ? fill_made(g, f, s) : fill_tma(g, f, s); break;
    case FILL_CP_ASYNC: f->plan->sloped ? fill_rows(g, f, s) : fill_cp_async(g, f, s); break;
    case FILL_COMPUTED: fill_computed(g, f, s); break;
    case FILL_ACC: fill_acc(g, s); break;
    }
}

/* ---- consume ---- */

void pipe_release(struct gen *g, struct gen_pipe *p, struct opd index, struct opd pred)
{
    struct lir *l = g->l;
    lir_emit(l, "bar.warp.sync 0xffffffff");
    struct opd barrier = barrier_address(g, p->empty, index);
    if (p->multicast) { /* lane i tells CTA i */
        struct opd mine = lir_pand(l, lir_cmp(l, "lt", g->role->lane, opd_imm(g->fn->cluster)), pred), there = lir_reg(l, RC_B32);
        lir_emit(l, "@%r mapa.shared::cluster.u32 %r, %r, %r", mine, there, barrier, g->role->lane);
        lir_emit(l, "@%r mbarrier.arrive.shared::cluster.b64 _, [%r]", mine, there);
        return;
    }
    struct opd first = lir_pand(l, gen_elect(g), pred), state = lir_reg(l, RC_B64);
    if (p->paired) lir_emit(l, "@%r mbarrier.arrive.shared::cluster.b64 _, [%r]", first, pair_first(g, barrier));
    else lir_emit(l, "@%r mbarrier.arrive.shared.b64 %r, [%r]", first, state, barrier);
}

/* What threads copied is seen by tensor cores that read it through descriptors once one who knows it to be there has fenced:
 * cp.async ends after the thread that began it went on, so that is who waited for it. PTX ISA, "Async proxy". */
static void fence_copied(struct gen *g, const struct gen_pipe *p)
{
    bool fence = false;
    for (int k = 0; k < p->ir->fields.n; k++) {
        const struct gen_field *f = p->ir->fields.at[k]->cg;
        fence |= f->plan->kind == FILL_CP_ASYNC && f->async_read;
    }
    if (fence) lir_emit(g->l, "fence.proxy.async.shared::cta");
}

void gen_consume(struct gen *g, struct ir_stmt *s)
{
    struct gen_pipe *p = s->pipe->cg;
    if (p->ir->home) {
        consume_acc(g, s);
        return;
    }
    p->held = held_index(g, p);
    p->base = slot_base(g, p);
    wait_full(g, p);
    fence_copied(g, p);
    p->inside = true;
    gen_block(g, &s->body);
    p->inside = false;
    if (g->role->has_mma) g->family->consume_end(g, p);
    else pipe_release(g, p, p->held, opd_imm(1));
    advance(g, p);
    store_meanwhile(g);
}
