/* combine - one result out of the parts of an axis, in the kernel that made the parts.
 *
 * Every part writes the variables that the body reduces over the parts to its block of scratch memory, as its threads hold
 * them; a counter says who came last. The last part reads all blocks in the order of the parts and runs the body: the
 * result does not depend on who was last. The counter wraps to 0 by itself. */
#include "codegen/eval.h"

#include <string.h>

/* ---- which variables */

static bool assigned(const ir_block *b, const struct ir_var *v)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->var == v || assigned(&s->body, v) || assigned(&s->other, v)) return true;
    }
    return false;
}

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
    if (inside && e->kind == E_get && !is_saved(p, e->var) && !assigned(&combine->body, e->var)) {
        struct parts_saved s = { .var = e->var };
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

/* ---- blocks in scratch memory: for each variable, register by register, a word for each thread */

enum { WORD = 4 };

static int place_saved(struct gen *g, struct parts_at *p)
{
    int bytes = 0;
    for (int i = 0; i < p->saved.n; i++) {
        struct parts_saved *s = &p->saved.at[i];
        s->lay = s->var->naxes ? gen_var_layout(g, s->var) : layout_blocked(g->arena, NULL, 0, 0, 1, g->role->warps);
        if (type_bits(s->var->type) == 64) gen_error(g, s->var->span, "'%s' is of 64 bits; what parts hand over has at most 32", s->var->name);
        s->offset = bytes;
        bytes += layout_regs(s->lay) * p->threads * WORD;
    }
    return (bytes + 15) / 16 * 16;
}

static struct opd *current(struct gen *g, const struct parts_saved *s)
{
    struct ir_expr get = { .kind = E_get, .type = s->var->type, .var = s->var, .naxes = s->var->naxes };
    for (int i = 0; i < s->var->naxes; i++) get.axes[i] = s->var->axes[i];
    return gen_tile(g, &get, s->lay);
}

/* gen_tile answers in the order of the axes' ids, the variable's layout may list them otherwise: registers are the same. */
static void save(struct gen *g, const struct parts_saved *s, const struct parts_at *p, struct opd block)
{
    struct opd *x = current(g, s);
    for (int r = 0; r < layout_regs(s->lay); r++) {
        int at = s->offset + r * p->threads * WORD;
        lir_emit(g->l, "st.global.b32 [%r+%d], %r", block, at, lir_in_reg(g->l, scalar_to_b32(g, s->var->type, x[r]), RC_B32));
    }
}

struct opd *combine_saved(struct gen *g, struct ir_var *v)
{
    struct parts_at *p = eval_of(g)->parts;
    for (int i = 0; p && !opd_none(p->now) && i < p->saved.n; i++) {
        const struct parts_saved *s = &p->saved.at[i];
        if (s->var != v) continue;
        int n = layout_regs(s->lay);
        struct opd *out = new_n(g->arena, struct opd, n);
        for (int r = 0; r < n; r++) {
            int at = s->offset + r * p->threads * WORD;
            struct opd x = lir_reg(g->l, RC_B32);
            lir_emit(g->l, "ld.global.b32 %r, [%r+%d]", x, p->now, at);
            out[r] = scalar_from_b32(g, v->type, x);
        }
        return out;
    }
    return NULL;
}

/* ---- the body's reductions over the parts */

struct opd *combine_parts(struct gen *g, const struct ir_expr *e, const struct layout *lay)
{
    struct parts_at *p = eval_of(g)->parts;
    struct lir *l = g->l;
    int n = layout_regs(lay), top = lir_label(l), mark = eval_mark(g);
    struct opd *acc = new_n(g->arena, struct opd, n);
    if (!p) {
        gen_error(g, e->span, "a reduction over parts stands outside `combine`");
        for (int r = 0; r < n; r++) acc[r] = opd_imm(0);
        return acc;
    }
    for (int r = 0; r < n; r++) {
        acc[r] = lir_reg(l, gen_class(e->type));
        lir_set(l, acc[r], scalar_identity((enum ir_reduce)e->num, e->type));
    }
    struct opd block = lir_reg(l, RC_B64), i = lir_reg(l, RC_B32), outer = p->now;
    lir_set(l, block, p->first);
    lir_set(l, i, opd_imm(0));
    lir_place(l, top);
    p->now = block;
    struct opd *x = gen_tile(g, e->args[0], lay);
    struct ir_axis *axes[IR_RANK];
    struct layout *mine = layout_project(g->arena, lay, axes, eval_axes(g, e->args[0], axes));
    p->now = outer;
    for (int r = 0; r < n; r++)
        lir_set(l, acc[r], scalar_reduce(g, (enum ir_reduce)e->num, e->type, acc[r], x[layout_project_reg(lay, mine, r)]));
    lir_emit(l, "add.s64 %r, %r, %r", block, block, p->stride);
    lir_emit(l, "add.s32 %r, %r, 1", i, i);
    lir_emit(l, "@%r bra %l", lir_cmp(l, "lt", i, p->parts), top);
    eval_release(g, mark);
    return acc;
}

/* ---- the statement */

/* As many blocks, and counters, as there are tasks: a tile's parts are tasks of their own. */
static struct hexpr times_tasks(struct gen *g, struct span at, int bytes, int64_t start)
{
    struct hexpr tasks = gen_host_expr(g, g->fn->tasks, at, "the number of parts");
    struct hexpr_code *c = new_n(g->arena, struct hexpr_code, tasks.n + 4);
    if (tasks.n) memcpy(c, tasks.at, sizeof *c * (size_t)tasks.n);
    c[tasks.n] = (struct hexpr_code){ HEX_CONST, (int64_t)bytes * (g->fn->cluster > 1 ? g->fn->cluster : 1) };
    c[tasks.n + 1] = (struct hexpr_code){ HEX_MUL, 0 };
    c[tasks.n + 2] = (struct hexpr_code){ HEX_CONST, start };
    c[tasks.n + 3] = (struct hexpr_code){ HEX_ADD, 0 };
    return (struct hexpr){ c, tasks.n + 4 };
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

void gen_combine(struct gen *g, struct ir_stmt *s)
{
    struct lir *l = g->l;
    struct eval *v = eval_of(g);
    struct parts_at *p = new (g->arena, struct parts_at);
    p->threads = 32 * g->role->warps;
    find_in_block(g, s, &s->body, p);
    if (g->image->scratch_bytes.n) {
        gen_error(g, s->span, "a second `combine` in one kernel; put what is merged into one block");
        return;
    }
    int bytes = place_saved(g, p);
    g->image->scratch_bytes = times_tasks(g, s->span, bytes, 0);
    g->image->counter_bytes = times_tasks(g, s->span, 4, 0);

    struct opd part = gen_scalar(g, s->expr), parts = scalar_copy(g, gen_scalar(g, s->expr2), TY_i32), tile = gen_scalar(g, s->expr3);
    struct opd lanes = lir_add64(l, g->scratch_memory, lir_mul_wide(l, g->role->thread, opd_imm(4)));
    p->stride = lir_in_reg(l, opd_imm(bytes), RC_B64);
    p->parts = parts;
    p->first = lir_add64(l, lanes, lir_mul_wide(l, lir_mul(l, tile, parts), opd_imm(bytes)));
    struct opd mine = lir_add64(l, p->first, lir_mul_wide(l, part, opd_imm(bytes)));
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
