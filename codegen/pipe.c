/* pipe - rings of slots in shared memory: layout of fields, full and empty barriers, produce, fill and consume.
 *
 * A pipe of depth n has n slots, n full and n empty mbarriers. A producer waits for empty[i] (parity phase ^ 1, so that the
 * first round passes), fills the slot and arrives on full[i]; a consumer waits for full[i] (parity phase), reads, and
 * arrives on empty[i]. Index and phase live in registers of each role and go on over tasks. How a field is filled:
 *   TMA       a plain read of a tensor, one box a panel; the barrier counts its bytes
 *   cp.async  the same without TMA: 16-byte chunks dealt to the producer's threads
 *   computed  anything else: registers, then st.shared (and a proxy fence where the async proxy reads the slot) */
#include "codegen/gen.h"

#include <string.h>

enum fill_kind { FILL_TMA, FILL_CP_ASYNC, FILL_COMPUTED };

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

struct field_use {
    struct ir_stmt *fill;
    struct gen_role *producer;
    struct ir_axis *contracted; /* axis of the field that an mma contracts */
    bool mma;
};

struct scan {
    struct gen *g;
    struct gen_role *role;
    struct field_use *uses; /* by field id */
};

static void scan_expr(struct scan *sc, const struct ir_expr *e)
{
    if (!e) return;
    if (e->kind == E_slot) ((struct gen_field *)e->field->cg)->generic_read = true;
    for (int i = 0; i < e->nargs; i++) scan_expr(sc, e->args[i]);
}

static bool var_has_axis(const struct ir_var *v, const struct ir_axis *x)
{
    for (int i = 0; i < v->naxes; i++)
        if (v->axes[i] == x) return true;
    return false;
}

/* A slot read as it lies: every index is the coordinate of the field's own axis, or of an axis nested in it. */
static bool plain_slot(const struct ir_expr *e)
{
    if (e->kind != E_slot) return false;
    for (int i = 0; i < e->nargs; i++)
        if (e->args[i]->kind != E_coord) return false;
    return true;
}

static void scan_operand(struct scan *sc, struct ir_stmt *s, const struct ir_expr *e)
{
    if (!plain_slot(e)) {
        scan_expr(sc, e);
        return;
    }
    struct gen_field *f = e->field->cg;
    struct field_use *u = &sc->uses[e->field->id];
    u->mma = true;
    for (int i = 0; i < e->nargs; i++)
        if (!var_has_axis(s->var, e->args[i]->axis)) u->contracted = e->field->axes[i];
    if (sc->g->family->async) f->async_read = true;
    else f->generic_read = true;
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
        for (int k = 0; k < s->factors.n; k++) scan_expr(sc, s->factors.at[k]);
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

/* Index of the field's axis that walks each tensor dimension. False when the fill is not a plain box of the tensor. */
static bool plain_box(const struct ir_field *f, const struct ir_expr *e, int *walks)
{
    int seen = 0;
    if (e->kind != E_read || e->type != f->type) return false;
    for (int d = 0; d < e->nargs; d++) {
        walks[d] = walked_axis(f, e->args[d]);
        if (walks[d] == -2 || (walks[d] >= 0 && seen & 1 << walks[d])) return false;
        if (walks[d] >= 0) seen |= 1 << walks[d];
    }
    return seen == (1 << f->naxes) - 1;
}

/* The index at the window's origin: coordinates of axes become origins. */
static struct opd index_start(struct gen *g, const struct ir_expr *e)
{
    if (!e->naxes) return gen_scalar(g, e);
    if (e->kind == E_coord) return gen_origin(g, e->axis);
    struct opd a = index_start(g, e->args[0]), b = index_start(g, e->args[1]);
    return e->kind == E_add ? lir_add(g->l, a, b) : lir_sub(g->l, a, b);
}

/* Largest known divisor of that index. */
static int64_t start_divisor(struct gen *g, const struct ir_expr *e)
{
    if (!e->naxes) return ir_divisor(g->fn, e);
    if (e->kind == E_coord) return e->axis->align;
    int64_t a = start_divisor(g, e->args[0]), b = start_divisor(g, e->args[1]);
    while (b) {
        int64_t r = a % b;
        a = b, b = r;
    }
    return a;
}

/* ---- what differs between the CTAs of a cluster ---- */

struct rank_scan {
    bool *axes, *vars; /* by id: depends on the CTA's rank */
    bool changed;
};

static bool ranked(const struct rank_scan *rs, const struct ir_expr *e)
{
    if (!e) return false;
    if (e->kind == E_rank) return true;
    if (e->kind == E_get && rs->vars[e->var->id]) return true;
    const struct ir_axis *x = e->kind == E_coord || e->kind == E_origin || e->kind == E_limit ? e->axis : NULL;
    for (; x; x = x->of)
        if (rs->axes[x->id]) return true;
    for (int i = 0; i < e->nargs; i++)
        if (ranked(rs, e->args[i])) return true;
    return false;
}

static void mark(struct rank_scan *rs, bool *flag, bool on)
{
    rs->changed |= on && !*flag;
    *flag |= on;
}

static void ranked_stmts(struct rank_scan *rs, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        bool on = ranked(rs, s->expr) || ranked(rs, s->expr2);
        if (s->kind == S_bind) mark(rs, &rs->axes[s->axis->id], on);
        else if (s->var && !s->var->naxes) mark(rs, &rs->vars[s->var->id], on);
        ranked_stmts(rs, &s->body);
        ranked_stmts(rs, &s->other);
    }
}

static struct rank_scan scan_ranks(struct gen *g)
{
    struct rank_scan rs = { 0 };
    int axes = 1, vars = 1;
    for (int i = 0; i < g->fn->axes.n; i++) axes += g->fn->axes.at[i]->id + 1;
    for (int i = 0; i < g->fn->vars.n; i++) vars += g->fn->vars.at[i]->id + 1;
    rs.axes = new_n(g->arena, bool, axes);
    rs.vars = new_n(g->arena, bool, vars);
    do {
        rs.changed = false;
        ranked_stmts(&rs, &g->fn->task);
        for (int i = 0; i < g->fn->roles.n; i++) ranked_stmts(&rs, &g->fn->roles.at[i]->body);
    } while (rs.changed);
    return rs;
}

/* How many CTAs can share the loading of a field: all of the cluster when none of its coordinates depends on the rank and
 * its slowest rows divide into parts of whole swizzle patterns. */
static int sharers(struct gen *g, const struct gen_field *f, const struct ir_expr *read, const int *walks)
{
    int n = g->fn->cluster;
    if (n <= 1 || (g->family && target_has(g->target, HAS_TCGEN05))) return 1;
    struct rank_scan rs = scan_ranks(g);
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
static void field_layout(struct gen_field *f, bool swizzled)
{
    struct ir_field *ir = f->ir;
    f->elem_bits = type_bits(ir->type);
    f->cols = ir->axes[f->inner]->tile;
    f->rows = 1;
    for (int i = 0; i < ir->naxes; i++)
        if (i != f->inner) f->rows *= ir->axes[i]->tile;
    int row_bytes = f->cols * f->elem_bits / 8;
    f->swizzle = 0;
    if (swizzled && f->rows > 1)
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

struct field_plan {
    enum fill_kind kind; /* must stay first: explain reads it */
    int walks[IR_RANK];
};

/* Hardware copies move whole 16 bytes: rows, origins along them, and (checked at launch) strides. */
static enum fill_kind fill_kind(struct gen *g, const struct ir_field *f, const struct ir_expr *e, int *walks)
{
    if (!plain_box(f, e, walks)) return FILL_COMPUTED;
    const struct ir_tensor *t = e->tensor;
    int bits = type_bits(f->type), inner = walks[t->inner];
    if (inner < 0 || t->rank > 5) return FILL_COMPUTED;
    if (f->axes[inner]->tile * bits % 128 || start_divisor(g, e->args[t->inner]) * bits % 128) return FILL_COMPUTED;
    if (!target_has(g->target, HAS_TMA)) return FILL_CP_ASYNC;
    for (int i = 0, first = 1; i < f->naxes; i++) {
        if (i == inner) continue;
        if (f->axes[i]->tile > 256 && !first) return FILL_COMPUTED; /* only the slowest rows are cut into several boxes */
        first = 0;
    }
    return FILL_TMA;
}

static int slowest_axis(const struct gen_field *f)
{
    for (int i = 0; i < f->ir->naxes; i++)
        if (i != f->inner) return i;
    return -1;
}

/* The descriptor: the inner dimension, then the field's rows from fastest to slowest, then dimensions that stand still. */
static int field_map(struct gen *g, const struct gen_field *f, const struct ir_expr *read, const int *walks, int *order)
{
    const struct ir_tensor *t = read->tensor;
    struct image_map m = { .arg = t->id, .type = t->type, .swizzle = f->swizzle, .pack = 1 };
    int n = 0;
    order[n++] = t->inner;
    for (int i = f->ir->naxes - 1; i >= 0; i--)
        for (int d = 0; d < t->rank; d++)
            if (i != f->inner && walks[d] == i) order[n++] = d;
    for (int d = 0; d < t->rank; d++)
        if (d != t->inner && walks[d] < 0) order[n++] = d;
    m.rank = n;
    for (int i = 0; i < n; i++) {
        int d = order[i], axis = walks[d];
        m.size[i] = g->image->args.at[t->id].dim[d];
        struct hexpr_code *c = new(g->arena, struct hexpr_code);
        *c = i ? (struct hexpr_code){ HEX_STRIDE, t->id * 16 + d } : (struct hexpr_code){ HEX_CONST, 1 };
        m.stride[i] = (struct hexpr){ c, 1 };
        int tile = axis < 0 ? 1 : f->ir->axes[axis]->tile;
        if (axis >= 0 && axis == slowest_axis(f)) tile /= f->share;
        m.box[i] = (uint32_t)(i == 0 ? f->per_panel : tile > 256 ? 256 : tile);
    }
    vec_push(g->arena, &g->image->maps, m);
    return g->image->maps.n - 1;
}

static void need_alignment(struct gen *g, const struct ir_tensor *t)
{
    struct image_arg *arg = &g->image->args.at[t->id];
    int elems = 128 / type_bits(t->type);
    if (arg->base_align < 16) arg->base_align = 16;
    for (int d = 0; d < t->rank; d++)
        if (d != t->inner && arg->align[d] < elems) arg->align[d] = elems;
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
    plan->kind = fill_kind(g, f->ir, u->fill->expr, plan->walks);
    f->inner = f->ir->naxes - 1;
    if (plan->kind != FILL_COMPUTED) f->inner = plan->walks[u->fill->expr->tensor->inner];
    else if (u->contracted)
        for (int i = 0; i < f->ir->naxes; i++)
            if (f->ir->axes[i] == u->contracted) f->inner = i; /* K-major */
    f->generic_write = plan->kind == FILL_COMPUTED;
    field_layout(f, u->mma || plan->kind == FILL_TMA);
    if (plan->kind == FILL_COMPUTED) {
        if (u->fill->expr->kind == E_read) gen_cost(g, u->fill->span, "'%s' is copied through registers: not whole 16-byte rows of a box of the tensor", f->ir->name);
        return;
    }
    need_alignment(g, u->fill->expr->tensor);
    if (u->contracted && !u->contracted->clean && !u->contracted->exact)
        gen_error(g, u->fill->span, "'%s' is contracted over '%s', whose last tile may end before the tensor does; what follows would be summed too", f->ir->name, u->contracted->name);
    if (plan->kind == FILL_TMA) f->share = sharers(g, f, u->fill->expr, plan->walks);
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

enum { MOST_SLOTS = 8 };

static int pipe_bytes(const struct gen_pipe *p, int depth) { return p->slot_bytes * depth + 1024; }

/* Pipes that say `auto` get two slots, those never produced in a loop one; what memory is left goes to the innermost. */
static void choose_depths(struct gen *g)
{
    int room = g->target->smem_bytes - g->smem_used - g->smem_reserve - 2048, best = -1;
    struct gen_pipe *inner = NULL;
    for (int i = 0; i < g->fn->pipes.n; i++) {
        struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        int nest = -1;
        for (int r = 0; r < g->fn->roles.n; r++) {
            int n = loop_depth(&g->fn->roles.at[r]->body, p->ir, 0);
            if (n > nest) nest = n;
        }
        p->depth = p->ir->depth ? p->ir->depth : nest > 0 ? 2 : 1;
        room -= pipe_bytes(p, p->depth);
        if (!p->ir->depth && nest > best && nest > 0) best = nest, inner = p;
    }
    if (inner && room > 0 && inner->slot_bytes) {
        int more = room / inner->slot_bytes;
        inner->depth = inner->depth + more > MOST_SLOTS ? MOST_SLOTS : inner->depth + more;
    }
    for (int i = 0; i < g->fn->pipes.n && room < 0; i++) {
        struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        if (p->ir->depth || p->depth == 1) continue;
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
        diag_note(g->diag, p->ir->span, "pipe '%s': %d slots of %d bytes", p->ir->name, p->depth, p->slot_bytes);
    }
}

static void place_pipe(struct gen *g, struct gen_pipe *p)
{
    p->offset = gen_smem(g, p->slot_bytes * p->depth, 1024);
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
    for (int i = 0; i < fn->pipes.n; i++) {
        struct gen_pipe *p = fn->pipes.at[i]->cg;
        for (int k = 0; k < p->ir->fields.n; k++) {
            struct gen_field *f = p->ir->fields.at[k]->cg;
            struct field_use *u = &sc.uses[f->ir->id];
            plan_field(g, f, u);
            if (!u->producer) continue;
            p->producer = u->producer;
            if (((struct field_plan *)f->plan)->kind != FILL_TMA) u->producer->single = false;
            f->offset = (p->slot_bytes + 1023) / 1024 * 1024;
            if (!f->swizzle) f->offset = (p->slot_bytes + 127) / 128 * 128;
            p->slot_bytes = f->offset + f->bytes;
        }
        p->slot_bytes = (p->slot_bytes + 1023) / 1024 * 1024;
    }
    for (int i = 0; i < g->roles.n; i++) { /* a producing role that does anything but fill runs on all its threads */
        struct gen_role *r = &g->roles.at[i];
        if (r->single && !pipe_only_fills(&r->ir->body)) r->single = false;
    }
    if (g->failed) return;
    choose_depths(g);
    for (int i = 0; i < fn->pipes.n; i++) place_pipe(g, fn->pipes.at[i]->cg);
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

static bool consumes_pipe(const ir_block *b, const struct ir_pipe *p)
{
    for (int i = 0; i < b->n; i++)
        if ((b->at[i]->kind == S_consume && b->at[i]->pipe == p) || consumes_pipe(&b->at[i]->body, p) || consumes_pipe(&b->at[i]->other, p)) return true;
    return false;
}

void pipe_counts(struct gen *g)
{
    bool commits = target_has(g->target, HAS_TCGEN05) && g->family; /* slots are released by the tensor core itself */
    for (int i = 0; i < g->fn->pipes.n; i++) {
        struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        bool tma = false, cp = false, computed = false, async = false, generic = false;
        for (int k = 0; k < p->ir->fields.n; k++) {
            struct gen_field *f = p->ir->fields.at[k]->cg;
            enum fill_kind kind = ((struct field_plan *)f->plan)->kind;
            tma |= kind == FILL_TMA, cp |= kind == FILL_CP_ASYNC, computed |= kind == FILL_COMPUTED;
            async |= f->async_read, generic |= f->generic_read;
            p->multicast |= f->share > 1;
            if (kind == FILL_TMA) p->tx_bytes += f->panels * f->rows * f->per_panel * f->elem_bits / 8;
        }
        p->full_count = tma + (cp ? p->producer->warps * 32 : 0) + (computed ? p->producer->warps : 0);
        for (int r = 0; r < g->roles.n; r++) {
            struct gen_role *role = &g->roles.at[r];
            if (!consumes_pipe(&role->ir->body, p->ir)) continue;
            if (commits && role->has_mma && async) p->empty_count += 1 + (generic ? role->warps : 0);
            else p->empty_count += role->warps;
        }
        if (p->multicast) p->empty_count *= g->fn->cluster;
        p->by_tma = tma, p->by_cp_async = cp, p->by_threads = computed;
        p->commit_releases = commits && async;
        if (!p->empty_count) gen_error(g, p->ir->span, "pipe '%s' is never consumed", p->ir->name);
    }
}

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
    for (int i = 0; i < g->image->maps.n; i++) lir_emit(g->l, "prefetch.param.tensormap [map%d]", i);
}

void gen_wait_barrier(struct gen *g, struct opd address, struct opd parity)
{
    struct lir *l = g->l;
    struct opd done = lir_reg(l, RC_PRED);
    int again = lir_label(l);
    lir_place(l, again);
    const char *wait = target_has(g->target, HAS_TMA) ? "mbarrier.try_wait.parity.shared::cta.b64" : "mbarrier.test_wait.parity.shared.b64";
    lir_emit(l, "%s %r, [%r], %r", wait, done, address, parity);
    lir_emit(l, "@!%r bra %l", done, again);
}

static struct opd barrier_address(struct gen *g, int offset, struct opd index)
{
    return lir_add(g->l, lir_add(g->l, g->smem, lir_shl(g->l, index, 3)), opd_imm(offset));
}

struct opd pipe_empty_barrier(struct gen *g, struct gen_pipe *p, struct opd index) { return barrier_address(g, p->empty, index); }

/* ---- state ---- */

void pipe_begin_role(struct gen *g)
{
    for (int i = 0; i < g->fn->pipes.n; i++) {
        struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        p->inside = false;
        p->index = lir_reg(g->l, RC_B32);
        p->phase = lir_reg(g->l, RC_B32);
        lir_set(g->l, p->index, opd_imm(0));
        lir_set(g->l, p->phase, opd_imm(0));
    }
}

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
}

static struct opd slot_base(struct gen *g, struct gen_pipe *p, struct opd index)
{
    return lir_add(g->l, lir_add(g->l, g->smem, lir_mul(g->l, index, opd_imm(p->slot_bytes))), opd_imm(p->offset));
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

/* Byte offset in the field of (row, col), swizzled. */
static struct opd element_offset(struct gen *g, const struct gen_field *f, struct opd row, struct opd col)
{
    struct lir *l = g->l;
    struct opd in_panel = col, off = opd_imm(0);
    if (f->panels > 1) {
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

struct opd pipe_element(struct gen *g, const struct ir_field *f, const struct opd *rel)
{
    struct gen_field *gf = f->cg;
    return lir_add(g->l, pipe_field_base(g, f), element_offset(g, gf, flat_row(g, gf, rel), rel[gf->inner]));
}

/* ---- produce ---- */

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

void gen_produce(struct gen *g, struct ir_stmt *s)
{
    struct gen_pipe *p = s->pipe->cg;
    struct lir *l = g->l;
    p->held = held_index(g, p);
    gen_wait_barrier(g, barrier_address(g, p->empty, p->held), lir_xor(l, p->phase, opd_imm(1)));
    p->base = slot_base(g, p, p->held);
    p->full_now = barrier_address(g, p->full, p->held);
    p->inside = true;
    if (p->by_tma) {
        int skip;
        guard(g, is_issuer(g), &skip);
        lir_emit(l, "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r], %d", lir_in_reg(l, p->full_now, RC_B32), p->tx_bytes);
        unguard(g, skip);
    }
    gen_block(g, &s->body);
    if (p->by_cp_async) lir_emit(l, "cp.async.mbarrier.arrive.noinc.shared.b64 [%r]", p->full_now);
    if (p->by_threads) {
        bool fence = false;
        for (int k = 0; k < p->ir->fields.n; k++) {
            struct gen_field *f = p->ir->fields.at[k]->cg;
            fence |= f->generic_write && f->async_read;
        }
        if (fence) lir_emit(l, "fence.proxy.async.shared::cta");
        lir_emit(l, "bar.warp.sync 0xffffffff");
        struct opd first = gen_elect(g), state = lir_reg(l, RC_B64);
        lir_emit(l, "@%r mbarrier.arrive.shared.b64 %r, [%r]", first, state, p->full_now);
    }
    p->inside = false;
    advance(g, p);
}

static void fill_tma(struct gen *g, const struct gen_field *f, const struct ir_stmt *s)
{
    struct lir *l = g->l;
    struct gen_pipe *p = f->ir->pipe->cg;
    const struct image_map *m = &g->image->maps.at[f->map];
    const struct field_plan *plan = f->plan;
    struct opd start[5], coord[5], base = pipe_field_base(g, f->ir), map = lir_reg(l, RC_B64), part = opd_imm(0);
    int skip, slow = 0;
    guard(g, is_issuer(g), &skip);
    lir_emit(l, "mov.b64 %r, map%d", map, f->map);
    lir_emit(l, "cvta.param.u64 %r, %r", map, map);
    for (int i = 0; i < m->rank; i++) {
        start[i] = lir_in_reg(l, index_start(g, s->expr->args[f->map_order[i]]), RC_B32);
        int axis = plan->walks[f->map_order[i]];
        if (axis < 0 || !i) continue;
        if (f->ir->axes[axis]->tile / f->share > 256) slow = i; /* the slowest rows, in several boxes */
        if (f->share > 1 && axis == slowest_axis(f)) {           /* this CTA's part of what the cluster shares */
            part = lir_mul(l, g->cta_rank, opd_imm(f->panel_bytes / f->share));
            start[i] = lir_in_reg(l, lir_add(l, start[i], lir_mul(l, g->cta_rank, opd_imm(f->ir->axes[axis]->tile / f->share))), RC_B32);
        }
    }
    int boxes = slow ? f->ir->axes[plan->walks[f->map_order[slow]]]->tile / 256 : 1;
    base = lir_add(l, base, part);
    const char *where = target_has(g->target, HAS_WGMMA | HAS_TCGEN05) || f->elem_bits >= 8 ? "shared::cluster" : "shared::cta";
    for (int panel = 0; panel < f->panels; panel++)
        for (int b = 0; b < boxes; b++) {
            memcpy(coord, start, sizeof coord);
            coord[0] = lir_in_reg(l, lir_add(l, start[0], opd_imm(panel * f->per_panel)), RC_B32);
            if (slow) coord[slow] = lir_in_reg(l, lir_add(l, start[slow], opd_imm(b * 256)), RC_B32);
            int at = panel * f->panel_bytes + b * (f->panel_bytes / boxes);
            struct opd to = lir_in_reg(l, lir_add(l, base, opd_imm(at)), RC_B32);
            if (f->share > 1)
                lir_emit(l, "cp.async.bulk.tensor.%dd.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%r], [%r, %R], [%r], %r", m->rank,
                         to, map, coord, m->rank, p->full_now, lir_in_reg(l, opd_imm((1 << f->share) - 1), RC_B16));
            else
                lir_emit(l, "cp.async.bulk.tensor.%dd.%s.global.tile.mbarrier::complete_tx::bytes [%r], [%r, %R], [%r]", m->rank, where,
                         to, map, coord, m->rank, p->full_now);
        }
    unguard(g, skip);
}

/* 16-byte chunks of the field in row order, dealt to the producer's threads. What lies outside the tensor becomes zero
 * through cp.async's source size. */
static void fill_cp_async(struct gen *g, const struct gen_field *f, const struct ir_stmt *s)
{
    struct lir *l = g->l;
    const struct field_plan *plan = f->plan;
    const struct ir_expr *read = s->expr;
    const struct ir_tensor *t = read->tensor;
    int threads = g->role->warps * 32, per_chunk = 128 / f->elem_bits, chunks_row = f->cols / per_chunk, chunks = f->rows * chunks_row;
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
        struct opd inside = opd_imm(1), address = gen_tensor_pointer(g, t), bytes = opd_imm(16);
        for (int d = 0; d < t->rank; d++) {
            struct opd c = plan->walks[d] < 0 ? start[d] : lir_add(l, start[d], rel[plan->walks[d]]);
            inside = lir_pand(l, inside, lir_cmp(l, "lt", c, size[d]));
            inside = lir_pand(l, inside, lir_cmp(l, "ge", c, opd_imm(0)));
            if (d == t->inner) {
                struct opd left = lir_mul(l, lir_sub(l, size[d], c), opd_imm(f->elem_bits / 8));
                bytes = lir_min(l, left, opd_imm(16));
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
        lir_emit(l, "cp.async.cg.shared.global [%r], [%r], 16, %r", to, address, lir_in_reg(l, bytes, RC_B32));
        unguard(g, skip);
    }
}

/* Registers, then the slot: elements in a coalesced layout, stored one by one or in the widest aligned groups. */
static void fill_computed(struct gen *g, const struct gen_field *f, const struct ir_stmt *s)
{
    struct lir *l = g->l;
    int elem_bytes = f->elem_bits / 8 ? f->elem_bits / 8 : 1, vec = 16 / elem_bytes;
    while (vec > 1 && (f->cols % vec || vec > 8)) vec /= 2;
    struct layout *lay = layout_blocked(g->arena, f->ir->axes, f->ir->naxes, f->inner, vec, g->role->warps);
    struct opd *v = gen_tile(g, s->expr, lay);
    struct layout *mine = layout_project(g->arena, lay, s->expr->axes, s->expr->naxes);
    int n = layout_regs(lay);
    for (int r = 0; r < n; r++) {
        struct opd rel[IR_RANK], ok = opd_imm(1);
        for (int a = 0; a < f->ir->naxes; a++) {
            rel[a] = lir_sub(l, gen_coord(g, lay, r, a), gen_origin(g, f->ir->axes[a]));
            if (lay->extent[a] > f->ir->axes[a]->tile) ok = lir_pand(l, ok, lir_cmp(l, "lt", rel[a], opd_imm(f->ir->axes[a]->tile)));
        }
        struct opd x = v[layout_project_reg(lay, mine, r)];
        struct opd to = pipe_element(g, f->ir, rel);
        enum reg_class c = gen_class(f->ir->type);
        int skip;
        guard(g, ok, &skip);
        if (f->elem_bits == 32) lir_emit(l, "st.shared.b32 [%r], %r", to, lir_in_reg(l, x, c));
        else if (f->elem_bits == 64) lir_emit(l, "st.shared.b64 [%r], %r", to, lir_in_reg(l, x, c));
        else if (f->elem_bits == 16) lir_emit(l, "st.shared.b16 [%r], %r", to, lir_in_reg(l, x, c));
        else {
            struct opd byte = lir_reg(l, RC_B16); /* a copy: ptxas converts when a byte store follows a float conversion */
            lir_emit(l, c == RC_B32 ? "cvt.u16.u32 %r, %r" : "and.b16 %r, %r, 255", byte, lir_in_reg(l, x, c));
            lir_emit(l, "st.shared.b8 [%r], %r", to, byte);
        }
        unguard(g, skip);
    }
}

void gen_fill(struct gen *g, struct ir_stmt *s)
{
    struct gen_field *f = s->field->cg;
    switch (((struct field_plan *)f->plan)->kind) {
    case FILL_TMA: fill_tma(g, f, s); break;
    case FILL_CP_ASYNC: fill_cp_async(g, f, s); break;
    case FILL_COMPUTED: fill_computed(g, f, s); break;
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
        lir_emit(l, "mapa.shared::cluster.u32 %r, %r, %r", there, barrier, g->role->lane);
        lir_emit(l, "@%r mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r]", mine, there);
        return;
    }
    struct opd first = lir_pand(l, gen_elect(g), pred), state = lir_reg(l, RC_B64);
    lir_emit(l, "@%r mbarrier.arrive.shared.b64 %r, [%r]", first, state, barrier);
}

void gen_consume(struct gen *g, struct ir_stmt *s)
{
    struct gen_pipe *p = s->pipe->cg;
    p->held = held_index(g, p);
    gen_wait_barrier(g, barrier_address(g, p->full, p->held), p->phase);
    p->base = slot_base(g, p, p->held);
    p->inside = true;
    gen_block(g, &s->body);
    p->inside = false;
    if (g->role->has_mma) g->family->consume_end(g, p);
    else pipe_release(g, p, p->held, opd_imm(1));
    advance(g, p);
}
