/* stmt - statements: variables, bindings, control flow, and code that each thread runs on its own. */
#include "codegen/eval.h"

#include <string.h>

/* ---- variables and bindings */

static struct opd scalar_variable(struct gen *g, const struct ir_var *v)
{
    struct opd *r = &g->vars[v->id];
    if (r->kind != OPD_REG) *r = lir_reg(g->l, gen_class(v->type));
    return *r;
}

static void set_scalar(struct gen *g, const struct ir_var *v, struct opd x)
{
    lir_set(g->l, scalar_variable(g, v), x);
}

static void stmt_let(struct gen *g, struct ir_stmt *s)
{
    if (s->var->naxes || s->var->accum) gen_tile_let(g, s);
    else set_scalar(g, s->var, gen_cast(g, s->var->type, s->expr->type, gen_scalar(g, s->expr)));
}

/* An axis bound in one place is what its expressions say there; one bound in several has registers of its own. */
static struct opd bind_to(struct gen *g, struct opd *keep, struct opd x, bool once)
{
    if (once) return x.kind == OPD_REG ? scalar_copy(g, x, TY_i32) : x;
    if (keep->kind != OPD_REG) *keep = lir_reg(g->l, RC_B32);
    lir_set(g->l, *keep, x);
    return *keep;
}

static void stmt_bind(struct gen *g, struct ir_stmt *s)
{
    struct eval *v = eval_of(g);
    int id = s->axis->id;
    struct opd lo = gen_scalar(g, s->expr), hi = gen_scalar(g, s->expr2);
    bool once = v->binds[id] <= 1;
    g->origin[id] = bind_to(g, &v->bind_regs[2 * id], lo, once);
    g->limit[id] = bind_to(g, &v->bind_regs[2 * id + 1], hi, once);
}

/* ---- control flow */

static void guarded_block(struct gen *g, const ir_block *b)
{
    int mark = eval_mark(g);
    gen_block(g, b);
    eval_release(g, mark);
}

static void stmt_if(struct gen *g, struct ir_stmt *s)
{
    struct opd p = gen_scalar(g, s->expr);
    if (p.kind == OPD_IMM) {
        gen_block(g, p.imm ? &s->body : &s->other);
        return;
    }
    int other = lir_label(g->l), end = lir_label(g->l);
    lir_emit(g->l, "@!%r bra %l", p, other);
    guarded_block(g, &s->body);
    if (s->other.n) lir_emit(g->l, "bra %l", end);
    lir_place(g->l, other);
    guarded_block(g, &s->other);
    lir_place(g->l, end);
}

static void stmt_while(struct gen *g, struct ir_stmt *s)
{
    int top = lir_label(g->l), end = lir_label(g->l), mark = eval_mark(g);
    lir_place(g->l, top);
    lir_emit(g->l, "@!%r bra %l", gen_scalar(g, s->expr), end);
    gen_block(g, &s->body);
    eval_release(g, mark);
    lir_emit(g->l, "bra %l", top);
    lir_place(g->l, end);
}

/* The test stands at the bottom, once more at the top where the range may be empty. Unrolled copies keep their tests: trip
 * counts need not divide. */
static void counted_loop(struct gen *g, struct opd i, struct opd hi, struct opd step, int copies, const ir_block *body)
{
    struct lir *l = g->l;
    int top = lir_label(l), end = lir_label(l), mark = eval_mark(g);
    lir_emit(l, "@%r bra %l", lir_cmp(l, "ge", i, hi), end);
    hoist_loop(g);
    lir_place(l, top);
    for (int c = 0; c < copies; c++) {
        gen_block(g, body);
        eval_release(g, mark);
        lir_emit(l, "add.s32 %r, %r, %r", i, i, step);
        if (c + 1 < copies) lir_emit(l, "@%r bra %l", lir_cmp(l, "ge", i, hi), end);
        else lir_emit(l, "@%r bra %l", lir_cmp(l, "lt", i, hi), top);
    }
    hoist_loop_end(g);
    lir_place(l, end);
}

static bool from_data(struct gen *g, const struct ir_expr *e);

static bool set_from_data(struct gen *g, const ir_block *b, const struct ir_var *v)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->var == v && (s->kind != S_let || from_data(g, s->expr)) && s->kind != S_for) return true;
        if (set_from_data(g, &s->body, v) || set_from_data(g, &s->other, v)) return true;
    }
    return false;
}

/* Whether e depends on what memory holds: the assembler cannot know then that all threads have the same value. */
static bool from_data(struct gen *g, const struct ir_expr *e)
{
    if (e->kind == E_read || e->kind == E_slot || e->kind == E_element || e->kind == E_reduce || e->kind == E_call) return true;
    if (e->kind == E_get) return e->var->multiple > 0 && (set_from_data(g, &g->fn->task, e->var) || set_from_data(g, &g->role->ir->body, e->var));
    for (int i = 0; i < e->nargs; i++)
        if (from_data(g, e->args[i])) return true;
    return false;
}

/* A loop's bound: the same in all threads, said so that the assembler sees it. Addresses and descriptors of the loop stay in
 * uniform registers then. */
static struct opd bound(struct gen *g, const struct ir_expr *e)
{
    struct opd x = gen_scalar(g, e), same;
    if (x.kind == OPD_IMM || eval_of(g)->thread_level || g->role->single || !from_data(g, e)) return x;
    same = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "shfl.sync.idx.b32 %r, %r, 0, 31, 0xffffffff", same, x);
    return same;
}

static void stmt_for(struct gen *g, struct ir_stmt *s)
{
    struct opd lo = bound(g, s->expr), hi = scalar_copy(g, bound(g, s->expr2), TY_i32);
    struct opd step = s->step ? scalar_copy(g, gen_scalar(g, s->step), TY_i32) : opd_imm(1);
    if (lo.kind == OPD_IMM && hi.kind == OPD_IMM && lo.imm >= hi.imm) return;
    set_scalar(g, s->var, lo);
    pipe_look_ahead(g, s, scalar_variable(g, s->var));
    counted_loop(g, scalar_variable(g, s->var), hi, step, s->num > 1 ? (int)s->num : 1, &s->body);
    pipe_looked(s);
}

/* ---- each thread on its own */

static int role_threads(const struct gen *g)
{
    return 32 * g->role->warps;
}

static void stmt_par(struct gen *g, struct ir_stmt *s)
{
    struct eval *v = eval_of(g);
    if (v->thread_level) {
        gen_error(g, s->span, "`par` inside `par` or `each`: the threads are shared out already; say `for`");
        return;
    }
    struct opd lo = gen_scalar(g, s->expr), hi = scalar_copy(g, gen_scalar(g, s->expr2), TY_i32);
    gen_role_sync(g);
    set_scalar(g, s->var, lir_add(g->l, lo, g->role->thread));
    v->thread_level = true;
    counted_loop(g, scalar_variable(g, s->var), hi, opd_imm(role_threads(g)), 1, &s->body);
    v->thread_level = false;
    gen_role_sync(g);
}

/* Inclusive sum over the lanes of a warp. */
static struct opd warp_scan(struct gen *g, enum type t, struct opd x)
{
    struct lir *l = g->l;
    for (int d = 1; d < 32; d *= 2) {
        struct opd y = lir_reg(l, RC_B32), from = lir_reg(l, RC_PRED);
        lir_emit(l, "shfl.sync.up.b32 %r|%r, %r, %d, 0, 0xffffffff", y, from, lir_in_reg(l, x, RC_B32), d);
        x = lir_sel(l, from, scalar_binary(g, E_add, t, x, y), x, RC_B32);
    }
    return x;
}

/* Adds to *before the totals of the warps below this one, to *carry those of all. */
static void add_totals(struct gen *g, enum type t, struct opd scratch, struct opd *before, struct opd carry)
{
    struct opd all = carry;
    for (int w = 0; w < g->role->warps; w++) {
        struct opd x = scalar_load_shared(g, t, scratch, 4 * w, opd_imm(1));
        struct opd p = lir_cmp(g->l, "gt", g->role->warp, opd_imm(w));
        *before = lir_sel(g->l, p, scalar_binary(g, E_add, t, *before, x), *before, RC_B32);
        all = scalar_binary(g, E_add, t, all, x);
    }
    lir_set(g->l, carry, all);
}

/* A block of one element a thread at a time: scan in the warp, totals of the warps through memory, carry into the next. */
static void stmt_scan(struct gen *g, struct ir_stmt *s)
{
    struct lir *l = g->l;
    struct eval *v = eval_of(g);
    enum type t = s->shared->type;
    if (type_bits(t) != 32) {
        gen_error(g, s->span, "scan sums i32, u32 or f32; '%s' holds %s", s->shared->name, type_name(t));
        return;
    }
    struct opd base = scalar_copy(g, lir_in_reg(l, gen_scalar(g, s->expr), RC_B32), TY_i32), hi = scalar_copy(g, gen_scalar(g, s->expr2), TY_i32);
    struct opd carry = lir_reg(l, RC_B32), scratch = gen_scratch(g, 4 * g->role->warps), i = scalar_variable(g, s->var);
    int top = lir_label(l), end = lir_label(l), mark = eval_mark(g);
    lir_set(l, carry, scalar_const(t, 0, 0));
    gen_role_sync(g);
    lir_place(l, top);
    lir_emit(l, "@%r bra %l", lir_cmp(l, "ge", base, hi), end);
    lir_set(l, i, lir_add(l, base, g->role->thread));
    struct opd mine = lir_cmp(l, "lt", i, hi), x = lir_reg(l, RC_B32);
    int skip = lir_label(l);
    lir_set(l, x, scalar_const(t, 0, 0));
    lir_emit(l, "@!%r bra %l", mine, skip);
    v->thread_level = true;
    lir_set(l, x, gen_scalar(g, s->expr3));
    v->thread_level = false;
    eval_release(g, mark);
    lir_place(l, skip);
    struct opd sum = warp_scan(g, t, x), before = lir_reg(l, RC_B32);
    struct opd slot = lir_in_reg(l, lir_add(l, scratch, lir_shl(l, g->role->warp, 2)), RC_B32);
    scalar_store_shared(g, t, slot, 0, sum, lir_cmp(l, "eq", g->role->lane, opd_imm(31)));
    gen_role_sync(g);
    lir_set(l, before, carry);
    add_totals(g, t, scratch, &before, carry);
    struct opd at = scalar_shared_address(g, s->shared, &i);
    scalar_store_shared(g, t, at, 0, scalar_binary(g, E_add, t, before, sum), mine);
    gen_role_sync(g);
    lir_emit(l, "add.s32 %r, %r, %d", base, base, role_threads(g));
    lir_emit(l, "bra %l", top);
    eval_release(g, mark);
    lir_place(l, end);
}

/* ---- the rest */

static void stmt_consume(struct gen *g, struct ir_stmt *s)
{
    hoist_consume(g, s->pipe);
    gen_consume(g, s);
    hoist_consume_end(g);
}

static void stmt_mma(struct gen *g, struct ir_stmt *s)
{
    g->family->mma(g, s);
}

static void stmt_body(struct gen *g, struct ir_stmt *s)
{
    (void)s;
    store_task(g);
    made_task(g);
    gen_block(g, &g->role->ir->body);
    if (g->role->has_mma && g->family->task_end) g->family->task_end(g);
}

static void stmt_assert(struct gen *g, struct ir_stmt *s)
{
    struct opd p = gen_scalar(g, s->expr);
    lir_comment(g->l, "assert %s", s->text ? s->text : "");
    lir_emit(g->l, "@%r trap", lir_pnot(g->l, p));
}

#define stmt_store gen_store
#define stmt_put gen_put
#define stmt_fetch gen_fetch
#define stmt_produce gen_produce
#define stmt_fill gen_fill
#define stmt_each gen_each
#define stmt_print gen_print
#define stmt_combine gen_combine

static void (*const gen_of[S_COUNT])(struct gen *, struct ir_stmt *) = {
#define EXPR(name, nargs, meaning)
#define STMT(name, slots, meaning) [S_##name] = stmt_##name,
#include "compiler/ops.def"
};

void gen_stmt(struct gen *g, struct ir_stmt *s)
{
    struct span before = g->l->span;
    if (s->span.lo) g->l->span = s->span;
    eval_of(g);
    gen_of[s->kind](g, s);
    g->l->span = before;
}

void gen_block(struct gen *g, const ir_block *b)
{
    int mark = eval_mark(g);
    for (int i = 0; i < b->n; i++) gen_stmt(g, b->at[i]);
    eval_release(g, mark);
}
