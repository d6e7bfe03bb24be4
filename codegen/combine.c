/* combine - one result out of the parts of an axis, in the kernel that made the parts.
 *
 * Every part writes the variables that the body reduces over the parts to its block of scratch memory, as its threads hold
 * them; a counter says who came last. The last part reads all blocks in the order of the parts and runs the body: the
 * result does not depend on who was last. The counter wraps to 0 by itself. What lies outside an axis' limit stays where it
 * is. Parts that are the CTAs of a cluster meet in shared memory instead (combine_cluster.c). */
#include "codegen/eval.h"

#include <string.h>

/* ---- which variables */

static bool is_saved(const struct parts_at *p, const struct ir_var *v)
{
    for (int i = 0; i < p->saved.n; i++)
        if (p->saved.at[i].var == v) return true;
    return false;
}

static void find_in_expr(struct gen *g, const struct ir_stmt *combine, const struct ir_expr *e, bool inside, struct parts_at *p)
{
    if (!e) return;
    inside |= e->kind == E_parts;
    if (inside && e->kind == E_get && !is_saved(p, e->var) && !ir_sets(&combine->body, e->var)) {
        struct parts_saved s = { .var = e->var };
        if (type_bits(e->var->type) == 64) gen_error(g, e->var->span, "'%s' is of 64 bits; what parts hand over has at most 32", e->var->name);
        vec_push(g->arena, &p->saved, s);
    }
    for (int i = 0; i < e->nargs; i++) find_in_expr(g, combine, e->args[i], inside, p);
}

static void find_in_block(struct gen *g, const struct ir_stmt *combine, const ir_block *b, struct parts_at *p)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        const struct ir_expr *e[] = { s->expr, s->expr2, s->expr3, s->mask, s->step };
        for (int k = 0; k < COUNT(e); k++) find_in_expr(g, combine, e[k], false, p);
        for (int k = 0; k < s->index.n; k++) find_in_expr(g, combine, s->index.at[k], false, p);
        find_in_block(g, combine, &s->body, p);
        find_in_block(g, combine, &s->other, p);
    }
}

void combine_find(struct gen *g, const struct ir_stmt *combine, struct parts_at *p) { find_in_block(g, combine, &combine->body, p); }

/* ---- blocks in scratch memory: for each variable, pair of registers by pair, a place for each thread */

enum { WORD = 4 };

static int place_saved(struct gen *g, struct parts_at *p)
{
    int bytes = 0;
    for (int i = 0; i < p->saved.n; i++) {
        struct parts_saved *s = &p->saved.at[i];
        s->lay = s->var->naxes ? gen_var_layout(g, s->var) : layout_blocked(g->arena, NULL, 0, 0, 1, g->role->warps);
        s->wide = layout_regs(s->lay) % 2 ? 1 : 2;
        s->offset = bytes;
        s->lanes = lir_mul_wide(g->l, g->role->thread, opd_imm(s->wide * WORD));
        s->in = new (g->arena, struct inside);
        inside_start(g, s->in, s->lay);
        bytes = (bytes + layout_regs(s->lay) * p->threads * WORD + 15) / 16 * 16;
    }
    return bytes;
}

struct opd *combine_current(struct gen *g, const struct parts_saved *s)
{
    struct ir_expr get = { .kind = E_get, .type = s->var->type, .var = s->var, .naxes = s->var->naxes };
    for (int i = 0; i < s->var->naxes; i++) get.axes[i] = s->var->axes[i];
    return gen_tile(g, &get, s->lay);
}

static int place_of(const struct parts_saved *s, const struct parts_at *p, int r) { return s->offset + r * p->threads * WORD; }

/* gen_tile answers in the order of the axes' ids, the variable's layout may list them otherwise: registers are the same.
 * Registers side by side exist where the first of them does, as coordinates grow with their numbers. */
static void save(struct gen *g, const struct parts_saved *s, const struct parts_at *p, struct opd block)
{
    struct opd *x = combine_current(g, s), at = lir_add64(g->l, block, s->lanes), words[2];
    for (int r = 0; r < layout_regs(s->lay); r += s->wide) {
        for (int i = 0; i < s->wide; i++) words[i] = scalar_to_b32(g, s->var->type, x[r + i]);
        access_words_store(g, "global", TY_u32, s->wide, inside_all(g, s->in, r), at, place_of(s, p, r), words);
    }
}

static struct opd *read_back(struct gen *g, const struct parts_saved *s, const struct parts_at *p)
{
    int n = layout_regs(s->lay);
    struct opd *out = new_n(g->arena, struct opd, n), at = lir_add64(g->l, p->now, s->lanes), words[2];
    for (int r = 0; r < n; r += s->wide) {
        access_words_load(g, "global", TY_u32, s->wide, inside_all(g, s->in, r), at, place_of(s, p, r), words);
        for (int i = 0; i < s->wide; i++) out[r + i] = scalar_from_b32(g, s->var->type, words[i]);
    }
    return out;
}

struct opd *combine_saved(struct gen *g, struct ir_var *v, const struct layout **lay)
{
    struct parts_at *p = eval_of(g)->parts;
    for (int i = 0; p && !opd_none(p->now) && i < p->saved.n; i++) {
        struct parts_saved *s = &p->saved.at[i];
        if (s->var != v) continue;
        if (p->shares) return combine_remote(g, s, p->now, *lay);
        *lay = s->lay;
        return read_back(g, s, p);
    }
    return NULL;
}

/* ---- the body's reductions over the parts */

bool combine_is_shared(struct gen *g) { return eval_of(g)->parts && eval_of(g)->parts->shares; }

enum { MOST_AT_ONCE = 8, REGISTERS = 160 };

/* Parts whose loads are all under way before the first of them is added: as many as registers and the number of parts allow. */
static int at_once(const struct parts_at *p, int regs)
{
    int n = MOST_AT_ONCE;
    while (n > 1 && (regs * (n + 1) > REGISTERS || (p->count && p->count % n))) n--;
    return n;
}

struct sum {
    const struct ir_expr *e;  /* E_parts */
    const struct layout *lay, *mine; /* of the result, of what is reduced */
    struct opd *acc;
};

/* x[i], for all i, changes places with x[i ^ bits]: by halves, quarters, ... */
static void unscramble(struct gen *g, struct opd **x, int n, int regs, enum reg_class c, struct opd bits)
{
    struct lir *l = g->l;
    for (int bit = 1; bit < n; bit *= 2) {
        struct opd swap = lir_cmp(l, "ne", lir_and(l, bits, opd_imm(bit)), opd_imm(0));
        for (int i = 0; i < n; i++)
            for (int r = 0; r < regs && !(i & bit); r++) {
                struct opd low = x[i][r], high = x[i ^ bit][r];
                x[i][r] = lir_sel(l, swap, high, low, c);
                x[i ^ bit][r] = lir_sel(l, swap, low, high, c);
            }
    }
}

/* scrambled: block i is that of part i ^ scrambled. Parts are added in their order all the same. */
static void add_parts(struct gen *g, const struct sum *m, const struct opd *blocks, int n, struct opd scrambled)
{
    struct parts_at *p = eval_of(g)->parts;
    struct opd *x[MOST_AT_ONCE], outer = p->now;
    enum ir_reduce op = (enum ir_reduce)m->e->num;
    int regs = layout_regs(m->mine);
    for (int i = 0; i < n; i++) {
        p->now = blocks[i];
        x[i] = memcpy(new_n(g->arena, struct opd, regs), gen_tile(g, m->e->args[0], m->lay), sizeof *x[i] * (size_t)regs);
    }
    p->now = outer;
    if (!opd_is(scrambled, 0)) unscramble(g, x, n, regs, gen_class(m->e->args[0]->type), scrambled);
    for (int i = 0; i < n; i++)
        for (int r = 0; r < layout_regs(m->lay); r++)
            lir_set(g->l, m->acc[r], scalar_reduce(g, op, m->e->type, m->acc[r], x[i][layout_project_reg(m->lay, m->mine, r)]));
}

/* for (; i + n <= parts; i += n); where n divides their number there are n to begin with. */
static void add_in_turn(struct gen *g, const struct sum *m, struct opd block, struct opd i, int n)
{
    const struct parts_at *p = eval_of(g)->parts;
    struct lir *l = g->l;
    bool sure = p->count && p->count % n == 0;
    int top = lir_label(l), end = lir_label(l), mark = eval_mark(g);
    struct opd blocks[MOST_AT_ONCE];
    lir_place(l, top);
    if (!sure) lir_emit(l, "@%r bra %l", lir_cmp(l, "gt", lir_add(l, i, opd_imm(n)), p->parts), end);
    for (int k = 0; k < n; k++) blocks[k] = lir_add64(l, block, opd_imm((int64_t)k * p->bytes));
    add_parts(g, m, blocks, n, opd_imm(0));
    eval_release(g, mark);
    if (p->count != n) {
        lir_set(l, block, lir_add64(l, block, opd_imm((int64_t)n * p->bytes)));
        lir_set(l, i, lir_add(l, i, opd_imm(n)));
        lir_emit(l, "@%r bra %l", sure ? lir_cmp(l, "lt", i, p->parts) : opd_imm(1), top);
    }
    lir_place(l, end);
}

static void add_from_memory(struct gen *g, const struct sum *m)
{
    const struct parts_at *p = eval_of(g)->parts;
    struct opd block = lir_reg(g->l, RC_B64), i = lir_reg(g->l, RC_B32);
    int n = at_once(p, layout_regs(m->lay));
    lir_set(g->l, block, p->first);
    lir_set(g->l, i, opd_imm(0));
    add_in_turn(g, m, block, i, n);
    if (!p->count && n > 1) add_in_turn(g, m, block, i, 1);
}

/* Every CTA begins with another part, or all would ask one CTA's memory at a time. */
static void add_from_cluster(struct gen *g, const struct sum *m)
{
    struct parts_at *p = eval_of(g)->parts;
    struct opd blocks[MOST_AT_ONCE], bits = opd_imm(0);
    int n = at_once(p, layout_regs(m->lay));
    if (n > 1 && !(n & (n - 1))) bits = lir_and(g->l, g->cta_rank, opd_imm(n - 1));
    for (int i = 0; i < p->saved.n; i++) p->saved.at[i].in = NULL;
    for (int i = 0; i < p->count; i += n) {
        for (int k = 0; k < n; k++) {
            blocks[k] = lir_reg(g->l, RC_B32);
            lir_emit(g->l, "mapa.shared::cluster.u32 %r, %r, %r", blocks[k], p->first, lir_xor(g->l, bits, opd_imm(i + k)));
        }
        add_parts(g, m, blocks, n, bits);
    }
}

struct opd *combine_parts(struct gen *g, const struct ir_expr *e, const struct layout *lay)
{
    struct ir_axis *axes[IR_RANK];
    int n = layout_regs(lay);
    struct sum m = { e, lay, layout_project(g->arena, lay, axes, eval_axes(g, e->args[0], axes)), new_n(g->arena, struct opd, n) };
    if (!eval_of(g)->parts) {
        gen_error(g, e->span, "a reduction over parts stands outside `combine`");
        for (int r = 0; r < n; r++) m.acc[r] = opd_imm(0);
        return m.acc;
    }
    for (int r = 0; r < n; r++) {
        m.acc[r] = lir_reg(g->l, gen_class(e->type));
        lir_set(g->l, m.acc[r], scalar_identity((enum ir_reduce)e->num, e->type));
    }
    if (combine_is_shared(g)) add_from_cluster(g, &m);
    else add_from_memory(g, &m);
    return m.acc;
}

/* ---- the statement */

/* As many blocks, and counters, as there are tasks: a tile's parts are tasks of their own. */
static struct hexpr times_tasks(struct gen *g, struct span at, int bytes)
{
    struct hexpr tasks = gen_host_expr(g, g->fn->tasks, at, "the number of parts");
    return hexpr_then(g->arena, tasks, HEX_MUL, (int64_t)bytes * (g->fn->cluster > 1 ? g->fn->cluster : 1));
}

static struct opd arrive(struct gen *g, struct opd tile, struct opd parts)
{
    struct lir *l = g->l;
    struct opd scratch = gen_scratch(g, 4), old = lir_reg(l, RC_B32), first = lir_cmp(l, "eq", g->role->thread, opd_imm(0));
    int skip = lir_label(l);
    lir_emit(l, "fence.acq_rel.gpu");
    gen_role_sync(g);
    lir_emit(l, "@!%r bra %l", first, skip);
    struct opd at = lir_add64(l, g->counter_memory, lir_mul_wide(l, tile, opd_imm(4)));
    lir_emit(l, "atom.acq_rel.gpu.global.inc.u32 %r, [%r], %r", old, at, lir_in_reg(l, lir_sub(l, parts, opd_imm(1)), RC_B32));
    lir_emit(l, "st.shared.b32 [%r], %r", scratch, old);
    lir_place(l, skip);
    gen_role_sync(g);
    struct opd all = lir_reg(l, RC_B32);
    lir_emit(l, "ld.shared.b32 %r, [%r]", all, scratch);
    lir_emit(l, "fence.acq_rel.gpu");
    return lir_cmp(l, "eq", all, lir_sub(l, parts, opd_imm(1)));
}

static void over_memory(struct gen *g, struct ir_stmt *s)
{
    struct lir *l = g->l;
    struct eval *v = eval_of(g);
    struct parts_at *p = new (g->arena, struct parts_at);
    p->threads = 32 * g->role->warps;
    combine_find(g, s, p);
    if (g->image->scratch_bytes.n) {
        gen_error(g, s->span, "a second `combine` in one kernel; put what is merged into one block");
        return;
    }
    p->bytes = place_saved(g, p);
    g->image->scratch_bytes = times_tasks(g, s->span, p->bytes);
    g->image->counter_bytes = times_tasks(g, s->span, 4);

    struct opd part = gen_scalar(g, s->expr), parts = scalar_copy(g, gen_scalar(g, s->expr2), TY_i32), tile = gen_scalar(g, s->expr3);
    p->parts = parts;
    if (!ir_const_int(s->expr2, &p->count)) p->count = 0;
    p->first = lir_add64(l, g->scratch_memory, lir_mul_wide(l, lir_mul(l, tile, parts), opd_imm(p->bytes)));
    struct opd mine = lir_add64(l, p->first, lir_mul_wide(l, part, opd_imm(p->bytes)));
    for (int i = 0; i < p->saved.n; i++) save(g, &p->saved.at[i], p, mine);
    struct opd last = arrive(g, tile, parts);
    int skip = lir_label(l), mark = eval_mark(g);
    lir_emit(l, "@!%r bra %l", last, skip);
    v->parts = p;
    gen_block(g, &s->body);
    v->parts = NULL;
    eval_release(g, mark);
    lir_place(l, skip);
}

void gen_combine(struct gen *g, struct ir_stmt *s)
{
    if (!combine_over_cluster(g, s)) over_memory(g, s);
}
