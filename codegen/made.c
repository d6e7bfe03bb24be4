/* made - tensor maps that the role that copies makes itself, of rows whose beginning and pitch are data.
 *
 *   produce { a = A[k0*M + i*kg + k]; }   →   where a task begins: the rows' beginning, pitch and ends; where they are not the map's,
 *                                                 tensormap.replace in shared memory, a copy of it in global memory, an acquire
 *                                             produce { boxes at (k, i), as of any tensor }
 *
 * The host encodes a template: type, box, swizzle. Each CTA has two maps for each field, used in turn: copies of the task before
 * may be on their way with one while the other is made. Coordinates are those of the axes, the map ends where they do, and so what
 * lies past them comes as zeros. What an index says outside of the tensor is 0, too, and no map knows where that is: a task of whose
 * tile a part lies there is copied by cp.async (fill_rows.c). PTX ISA, "tensormap.replace", "tensormap.cp_fenceproxy",
 * "membar / fence: proxy.tensormap"; FACTS 3.3.
 *
 * Needs: a flat tensor; an index with slopes that a task does not change; a role that only copies, by TMA; one warp of it runs. */
#include "codegen/pipe.h"
#include "compiler/slope.h"

#include <string.h>

enum { MAP_BYTES = 128, IN_TURN = 2 };

/* Coordinates of an axis in one task. tile: its only tile is bound by the task. */
struct span_of {
    struct ir_expr *lo, *hi;
    bool tile;
};

struct made {
    int number, buffer;                 /* among the kernel's; where the map is edited in shared memory */
    struct slopes slopes;
    struct span_of span[IR_RANK];       /* by axis of the field */
    struct opd map, both;               /* generic address of the map in use; the sum of the two it may be */
    struct wanted {
        struct opd base, pitch[IR_RANK], end[IR_RANK]; /* what a map says: bytes, and coordinates, by axis */
    } now, next;                        /* that in use; that of the task at hand */
};

/* ---- which fields ---- */

static void find_binds(const ir_block *b, const struct ir_axis *x, struct ir_expr *lo, int *n, struct span_of *s)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *at = b->at[i];
        if (at->kind == S_bind && at->axis == x) *n += 1, *s = (struct span_of){ lo, at->expr2, false };
        find_binds(&at->body, x, at->kind == S_for && at->axis == x ? at->expr : lo, n, s);
        find_binds(&at->other, x, lo, n, s);
    }
}

/* A number that the task fixes, before the role's body begins. */
static bool of_task(struct gen *g, const struct gen_role *r, const struct ir_expr *e)
{
    struct span_of s;
    int n = 0;
    switch ((int)e->kind) {
    case E_read: case E_slot: case E_element: case E_coord: case E_call: case E_reduce: case E_parts: case E_thread: case E_rank: return false;
    case E_get: return !e->var->naxes && !ir_sets(&r->ir->body, e->var);
    case E_origin: case E_limit: find_binds(&r->ir->body, e->axis, NULL, &n, &s); return !n && !e->axis->of;
    default:
        for (int i = 0; i < e->nargs; i++)
            if (!of_task(g, r, e->args[i])) return false;
        return true;
    }
}

/* False where it is not known, or changes within a task. An axis within another begins no earlier, and ends where that says. */
static bool find_span(struct gen *g, const struct gen_role *r, struct ir_axis *x, struct span_of *s)
{
    int n = 0, bound = 0;
    struct span_of outer;
    find_binds(&r->ir->body, x, NULL, &n, s);
    find_binds(&g->fn->task, x, NULL, &bound, &outer);
    if (x->of || n > 1 || n + bound == 0) return false;
    if (!n) {
        *s = (struct span_of){ ir_leaf(g->arena, E_origin, x), ir_leaf(g->arena, E_limit, x), true };
        return true;
    }
    if (!s->lo) return false;
    if (s->lo->kind == E_origin && s->lo->axis != x && find_span(g, r, s->lo->axis, &outer)) s->lo = outer.lo;
    if (s->hi->kind == E_limit && s->hi->axis != x && find_span(g, r, s->hi->axis, &outer)) s->hi = outer.hi;
    return of_task(g, r, s->lo) && of_task(g, r, s->hi);
}

static bool combines(const ir_block *b)
{
    for (int i = 0; i < b->n; i++)
        if (b->at[i]->kind == S_combine || combines(&b->at[i]->body) || combines(&b->at[i]->other)) return true;
    return false;
}

static bool uses_scratch(const struct gen *g)
{
    for (int i = 0; i < g->fn->roles.n; i++)
        if (combines(&g->fn->roles.at[i]->body)) return true;
    return false;
}

struct made *made_plan(struct gen *g, const struct ir_field *f, const struct ir_expr *read, const struct gen_role *r)
{
    struct made m = { 0 };
    if (!target_has(g->target, HAS_TMA | HAS_TENSORMAP) || read->tensor->rank != 1 || f->naxes > 5 || uses_scratch(g)) return NULL;
    slopes_of(g->arena, f, read->args[0], &m.slopes);
    if (m.slopes.rest && !of_task(g, r, m.slopes.rest)) return NULL;
    for (int i = 0; i < f->naxes; i++)
        if (!of_task(g, r, m.slopes.by[i]) || !find_span(g, r, f->axes[i], &m.span[i])) return NULL;
    struct made *kept = new(g->arena, struct made);
    *kept = m;
    return kept;
}

static bool makes(const struct gen_field *f) { return f->plan && f->plan->made; }

/* By TMA alone, in a role that does nothing else: its first warp then makes the maps and copies. */
static bool role_makes(const struct gen_role *r) { return r->single && !r->consumes && !r->has_mma && pipe_only_fills(&r->ir->body); }

static void take_back(struct gen *g, struct gen_field *f)
{
    f->plan->kind = f->plan->unit >= 4 ? FILL_CP_ASYNC : FILL_COMPUTED;
    f->plan->made = NULL;
    f->generic_write = f->plan->kind == FILL_COMPUTED;
    pipe_of(g, f->ir->pipe)->producer->single = false;
}

/* What the host encodes: dimensions as the field's axes, the contiguous one first, then the last; sizes and strides stand for others. */
static int template(struct gen *g, struct gen_field *f, const struct ir_tensor *t)
{
    struct image_map m = { .arg = t->id, .type = t->type, .swizzle = f->swizzle, .pack = 1 };
    f->map_order[m.rank++] = f->inner;
    for (int i = f->ir->naxes - 1; i >= 0; i--)
        if (i != f->inner) f->map_order[m.rank++] = i;
    for (int i = 0; i < m.rank; i++) {
        m.size[i] = hexpr_const(g->arena, 1);
        m.stride[i] = hexpr_const(g->arena, i ? IR_ALIGN : 1);
        m.box[i] = (uint32_t)(i ? pipe_box_rows(pipe_held(f, f->map_order[i])) : f->per_panel);
    }
    if (m.type == TY_f32 && !f->valued) m.type = TY_tf32;
    vec_push(g->arena, &g->image->maps, m);
    return g->image->maps.n - 1;
}

/* Two maps for each field and CTA: as many CTAs as run at once, or as there are tasks. */
static struct hexpr workspace(struct gen *g, int maps)
{
    bool persistent = g->fn->persistent || !g->fn->tasks;
    struct hexpr ctas = gen_host_expr(g, persistent ? NULL : g->fn->tasks, g->fn->span, "the number of tasks");
    return hexpr_then(g->arena, ctas, HEX_MUL, (int64_t)maps * IN_TURN * MAP_BYTES * (g->fn->cluster > 1 ? g->fn->cluster : 1));
}

/* One that is taken back takes others of its role along. */
static void keep_or_take_back(struct gen *g, struct gen_field *f)
{
    if (!role_makes(pipe_of(g, f->ir->pipe)->producer)) take_back(g, f);
}

static void settle(struct gen *g, struct gen_field *f)
{
    struct gen_pipe *p = pipe_of(g, f->ir->pipe);
    f->map = template(g, f, f->plan->made_of);
    f->plan->made->number = g->maps_made++;
    p->makes = p->producer->makes = true;
}

/* r: those that this role fills; NULL: all. */
static void each_field(struct gen *g, const struct gen_role *r, void (*act)(struct gen *g, struct gen_field *f))
{
    for (int i = 0; i < g->fn->pipes.n; i++) {
        struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        for (int k = 0; (!r || p->producer == r) && k < p->ir->fields.n; k++)
            if (makes(p->ir->fields.at[k]->cg)) act(g, p->ir->fields.at[k]->cg);
    }
}

void made_settle(struct gen *g)
{
    g->maps_made = 0;
    each_field(g, NULL, keep_or_take_back);
    each_field(g, NULL, keep_or_take_back);
    each_field(g, NULL, settle);
    if (g->maps_made) g->image->scratch_bytes = workspace(g, g->maps_made);
}

static void place(struct gen *g, struct gen_field *f) { f->plan->made->buffer = gen_smem(g, MAP_BYTES, MAP_BYTES); }

void made_place(struct gen *g) { each_field(g, NULL, place); }

/* ---- code ---- */

struct opd made_address(const struct gen_field *f) { return f->plan->made->map; }

/* A lane takes a word of the template to shared memory. */
static void take_template(struct gen *g, const struct gen_field *f)
{
    struct lir *l = g->l;
    struct opd from = lir_reg(l, RC_B64), word = lir_reg(l, RC_B32), at = lir_shl(l, g->role->lane, 2);
    lir_emit(l, "mov.b64 %r, map%d", from, f->map);
    lir_emit(l, "cvta.param.u64 %r, %r", from, from);
    lir_emit(l, "ld.b32 %r, [%r]", word, lir_add64(l, from, lir_widen(l, at)));
    lir_emit(l, "st.shared.b32 [%r+%d], %r", lir_add(l, g->smem, at), f->plan->made->buffer, word);
}

/* Nothing is known of the map yet: no tensor begins at 0. */
static void begin_map(struct gen *g, struct gen_field *f)
{
    struct lir *l = g->l;
    struct made *m = f->plan->made;
    struct opd cta = lir_reg(l, RC_B32), both = lir_reg(l, RC_B64);
    take_template(g, f);
    lir_emit(l, "mov.u32 %r, %%ctaid.x", cta);
    struct opd number = lir_add(l, lir_mul(l, cta, opd_imm(g->maps_made * IN_TURN)), opd_imm(m->number * IN_TURN));
    lir_set(l, m->map = lir_reg(l, RC_B64), lir_add64(l, g->scratch_memory, lir_mul_wide(l, number, opd_imm(MAP_BYTES))));
    lir_emit(l, "add.s64 %r, %r, %r", both, m->map, m->map);
    m->both = lir_add64(l, both, opd_imm(MAP_BYTES));
    lir_set(l, m->now.base = lir_reg(l, RC_B64), opd_imm(0));
    for (int i = 0; i < f->ir->naxes; i++) {
        lir_set(l, m->now.end[i] = lir_reg(l, RC_B32), opd_imm(0));
        if (i != f->inner) lir_set(l, m->now.pitch[i] = lir_reg(l, RC_B64), opd_imm(0));
    }
}

static void each_pipe(struct gen *g, void (*act)(struct gen *g, struct gen_pipe *p))
{
    for (int i = 0; i < g->fn->pipes.n; i++) {
        struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        if (p->makes && p->producer == g->role) act(g, p);
    }
}

static void none_since(struct gen *g, struct gen_pipe *p) { lir_set(g->l, p->since, opd_imm(0)); }

static void begin_pipe(struct gen *g, struct gen_pipe *p)
{
    p->since = lir_reg(g->l, RC_B32);
    none_since(g, p);
}

void made_begin_role(struct gen *g)
{
    if (!g->role->makes) return;
    each_field(g, g->role, begin_map);
    each_pipe(g, begin_pipe);
    lir_set(g->l, g->role->fits = lir_reg(g->l, RC_B32), opd_imm(0));
}

static struct opd compare64(struct gen *g, const char *how, struct opd a, struct opd b)
{
    struct opd p = lir_reg(g->l, RC_PRED);
    lir_emit(g->l, "setp.%s.s64 %r, %r, %r", how, p, lir_in_reg(g->l, a, RC_B64), b);
    return p;
}

/* All coordinates of the task's tile are such as a map takes, and lie in the tensor. */
static struct opd fits(struct gen *g, const struct gen_field *f, struct opd rest, const struct opd *by)
{
    struct lir *l = g->l;
    const struct made *m = f->plan->made;
    struct opd low = lir_widen(l, rest), high = low, good = opd_imm(1);
    for (int i = 0; i < f->ir->naxes; i++) {
        struct opd lo = gen_scalar(g, m->span[i].lo), hi = m->next.end[i];
        if (m->span[i].tile) hi = lir_min(l, hi, lir_add(l, lo, opd_imm(f->ir->axes[i]->tile)));
        low = lir_add64(l, low, lir_mul_wide(l, lo, by[i]));
        high = lir_add64(l, high, lir_mul_wide(l, lir_sub(l, hi, opd_imm(1)), by[i]));
        good = lir_pand(l, good, lir_cmp(l, "ge", lo, opd_imm(0)));
        if (i != f->inner) good = lir_pand(l, good, lir_cmp(l, "gt", by[i], opd_imm(0)));
    }
    struct opd size = lir_widen(l, gen_scalar(g, f->plan->made_of->dim[0]));
    good = lir_pand(l, good, compare64(g, "ge", low, opd_imm(0)));
    return lir_pand(l, good, compare64(g, "lt", high, lir_in_reg(l, size, RC_B64)));
}

static struct opd want(struct gen *g, const struct gen_field *f)
{
    struct lir *l = g->l;
    struct made *m = f->plan->made;
    struct opd rest = m->slopes.rest ? gen_scalar(g, m->slopes.rest) : opd_imm(0), by[IR_RANK], bytes = opd_imm(f->elem_bits / 8);
    m->next.base = lir_add64(l, gen_tensor_pointer(g, f->plan->made_of), lir_mul64(l, lir_widen(l, rest), bytes));
    for (int i = 0; i < f->ir->naxes; i++) {
        by[i] = gen_scalar(g, m->slopes.by[i]);
        m->next.end[i] = lir_in_reg(l, lir_max(l, gen_scalar(g, m->span[i].hi), opd_imm(1)), RC_B32);
        if (i != f->inner) m->next.pitch[i] = lir_in_reg(l, lir_mul64(l, lir_widen(l, by[i]), bytes), RC_B64);
    }
    return fits(g, f, rest, by);
}

static struct opd differs(struct gen *g, const struct gen_field *f)
{
    const struct made *m = f->plan->made;
    struct opd p = compare64(g, "ne", m->next.base, m->now.base);
    for (int i = 0; i < f->ir->naxes; i++) {
        p = lir_por(g->l, p, lir_cmp(g->l, "ne", m->next.end[i], m->now.end[i]));
        if (i != f->inner) p = lir_por(g->l, p, compare64(g, "ne", m->next.pitch[i], m->now.pitch[i]));
    }
    return p;
}

/* The maps that are to be edited were in use before those in use now. Their copies have landed if every slot was taken anew since;
 * else all that are on their way are waited for. */
static void wait_landed(struct gen *g, struct gen_pipe *p)
{
    struct lir *l = g->l;
    int again = lir_label(l), done = lir_label(l);
    struct opd slot = lir_reg(l, RC_B32);
    lir_emit(l, "@%r bra %l", lir_cmp(l, "ge", p->since, opd_imm(p->depth)), done);
    lir_set(l, slot, opd_imm(0));
    lir_place(l, again);
    struct opd earlier = lir_sel(l, lir_cmp(l, "lt", slot, p->index), opd_imm(0), opd_imm(1), RC_B32); /* of the round before this one */
    gen_wait_barrier(g, lir_add(l, lir_add(l, g->smem, lir_shl(l, slot, 3)), opd_imm(p->full)), lir_xor(l, p->phase, earlier));
    lir_emit(l, "add.s32 %r, %r, 1", slot, slot);
    lir_emit(l, "@%r bra %l", lir_cmp(l, "lt", slot, opd_imm(p->depth)), again);
    lir_place(l, done);
}

static struct opd buffer(struct gen *g, const struct gen_field *f) { return lir_in_reg(g->l, lir_add(g->l, g->smem, opd_imm(f->plan->made->buffer)), RC_B32); }

static void edit(struct gen *g, struct gen_field *f)
{
    struct lir *l = g->l;
    struct made *m = f->plan->made;
    struct opd at = buffer(g, f), one = gen_elect(g);
    lir_set(l, m->now.base, m->next.base);
    lir_emit(l, "@%r tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%r], %r", one, at, m->now.base);
    for (int i = 0; i < f->ir->naxes; i++) {
        int axis = f->map_order[i];
        lir_set(l, m->now.end[axis], m->next.end[axis]);
        lir_emit(l, "@%r tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%r], %d, %r", one, at, i, m->now.end[axis]);
        if (!i) continue;
        lir_set(l, m->now.pitch[axis], m->next.pitch[axis]);
        lir_emit(l, "@%r tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [%r], %d, %r", one, at, i - 1, m->now.pitch[axis]);
    }
}

/* The other of the two maps becomes the one in use. */
static void publish(struct gen *g, struct gen_field *f)
{
    struct opd map = f->plan->made->map;
    lir_emit(g->l, "sub.s64 %r, %r, %r", map, f->plan->made->both, map);
    lir_emit(g->l, "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%r], [%r], %d", map, buffer(g, f), MAP_BYTES);
}

static void acquire(struct gen *g, struct gen_field *f) { lir_emit(g->l, "fence.proxy.tensormap::generic.acquire.gpu [%r], %d", f->plan->made->map, MAP_BYTES); }

static void both(struct gen *g, struct opd *all, struct opd one, bool and)
{
    *all = opd_none(*all) ? one : and ? lir_pand(g->l, *all, one) : lir_por(g->l, *all, one);
}

/* Maps of a role are made together: one task's tiles come by them, or none. */
void made_task(struct gen *g)
{
    struct lir *l = g->l;
    struct opd good = { 0 }, other = { 0 };
    if (!g->role->makes) return;
    lir_comment(l, "tensor maps of this task");
    for (int i = 0; i < g->fn->pipes.n; i++) {
        struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        for (int k = 0; p->producer == g->role && k < p->ir->fields.n; k++) {
            const struct gen_field *f = p->ir->fields.at[k]->cg;
            if (!makes(f)) continue;
            both(g, &good, want(g, f), true);
            both(g, &other, differs(g, f), false);
        }
    }
    int same = lir_label(l);
    lir_set(l, g->role->fits, lir_sel(l, good, opd_imm(1), opd_imm(0), RC_B32));
    lir_emit(l, "@!%r bra %l", lir_pand(l, good, other), same);
    each_pipe(g, wait_landed);
    each_pipe(g, none_since);
    lir_emit(l, "bar.warp.sync 0xffffffff");
    each_field(g, g->role, edit);
    lir_emit(l, "bar.warp.sync 0xffffffff");
    each_field(g, g->role, publish);
    each_field(g, g->role, acquire);
    lir_place(l, same);
}

struct opd made_bytes(struct gen *g, const struct gen_pipe *p)
{
    int made = 0;
    for (int k = 0; k < p->ir->fields.n; k++)
        if (makes(p->ir->fields.at[k]->cg)) made += pipe_box_bytes(p->ir->fields.at[k]->cg);
    lir_emit(g->l, "add.s32 %r, %r, 1", p->since, p->since);
    return lir_sel(g->l, lir_cmp(g->l, "ne", g->role->fits, opd_imm(0)), opd_imm(p->tx_bytes), opd_imm(p->tx_bytes - made), RC_B32);
}

/* By cp.async, waited for and shown to tensor cores here: the slot's barrier counts one arrival. */
void made_by_threads(struct gen *g, const struct gen_field *f, const struct ir_stmt *s)
{
    fill_rows(g, f, s);
    lir_emit(g->l, "cp.async.wait_all");
    if (f->async_read) lir_emit(g->l, "fence.proxy.async.shared::cta");
}
