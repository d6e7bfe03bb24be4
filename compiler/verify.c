/* verify - what every pass must leave true of a kernel's tile IR. A failure is a mistake of the compiler: it prints what is
 * wrong, where, after which pass, and aborts.
 *
 *   - every expression has the operands its row of ops.def asks for, and a type that covers their axes
 *   - a variable is set with no more axes than it has; indices count like the rank of what they index
 *   - conditions, bounds and origins are scalars; conditions are bool
 *   - produce fills each field of its pipe once; fills stand only there
 *   - S_body stands in the task prologue, once */
#include "compiler/ir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct verifier {
    const struct ir_fn *fn;
    const char *after;
    const struct ir_stmt *stmt;
    const struct ir_axis *single[4 * IR_RANK]; /* axes of enclosing `each`: numbers inside */
    int nsingle;
    int bodies;
    bool in_task;
};

static void fail(const struct verifier *v, const char *what, const char *name)
{
    fprintf(stderr, "dgc: internal error: after %s, kernel %s, %s (bytes %u..%u): %s%s%s\n", v->after, v->fn->name,
            v->stmt ? ir_stmt_name(v->stmt->kind) : "declarations", v->stmt ? v->stmt->span.lo : 0,
            v->stmt ? v->stmt->span.hi : 0, what, name ? " " : "", name ? name : "");
    abort();
}
#define NEED(cond, what, name) do { if (!(cond)) fail(v, what, name); } while (0)

static bool is_single(const struct verifier *v, const struct ir_axis *axis)
{
    for (int i = 0; i < v->nsingle; i++)
        if (v->single[i] == axis) return true;
    return false;
}

static bool among(struct ir_axis *const *axes, int n, const struct ir_axis *axis)
{
    for (int i = 0; i < n; i++)
        if (axes[i] == axis) return true;
    return false;
}

static void check_leaf(const struct verifier *v, const struct ir_expr *e)
{
    switch ((int)e->kind) {
    case E_dim: NEED(e->num >= 0 && e->num < v->fn->dims.n, "a dimension that is not there", NULL); break;
    case E_arg: NEED(e->tensor && e->tensor->rank == 0, "arg of what is not a scalar", NULL); break;
    case E_get: NEED(e->var, "get without a variable", NULL); break;
    case E_coord: case E_origin: case E_limit: case E_reduce: case E_parts:
        NEED(e->axis, "no axis in", ir_expr_name(e->kind));
        break;
    case E_read: NEED(e->tensor && e->nargs == e->tensor->rank, "read with another rank", e->tensor ? e->tensor->name : ""); break;
    case E_slot: NEED(e->field && e->nargs == e->field->naxes, "slot with another rank", e->field ? e->field->name : ""); break;
    case E_element: NEED(e->shared && e->nargs == e->shared->rank, "element with another rank", e->shared ? e->shared->name : ""); break;
    case E_call: NEED(e->intrinsic, "call without an intrinsic", NULL); break;
    default: break;
    }
}

static void check_expr(const struct verifier *v, const struct ir_expr *e)
{
    NEED(e, "a missing expression", NULL);
    NEED(e->kind < E_COUNT, "an unknown operation", NULL);
    NEED(e->type != TY_none, "no type in", ir_expr_name(e->kind));
    int want = ir_expr_nargs(e->kind);
    NEED(want < 0 || want == e->nargs, "another number of operands than the operation has:", ir_expr_name(e->kind));
    check_leaf(v, e);
    for (int i = 1; i < e->naxes; i++) NEED(e->axes[i - 1]->id < e->axes[i]->id, "axes out of order in", ir_expr_name(e->kind));
    for (int i = 0; i < e->naxes; i++) NEED(e->axes[i]->id < v->fn->axes.n, "an axis that the kernel lacks:", e->axes[i]->name);
    for (int i = 0; i < e->nargs; i++) {
        check_expr(v, e->args[i]);
        for (int j = 0; j < e->args[i]->naxes; j++) {
            struct ir_axis *axis = e->args[i]->axes[j];
            bool gone = e->kind == E_reduce && e->axis == axis;
            NEED(gone || among(e->axes, e->naxes, axis) || is_single(v, axis), "a type without its operand's axis", axis->name);
        }
    }
    if (e->kind == E_select) NEED(e->args[0]->type == TY_bool, "select by what is not a condition", NULL);
}

static void check_covered(const struct verifier *v, const struct ir_expr *e, struct ir_axis *const *axes, int n)
{
    for (int i = 0; i < e->naxes; i++)
        NEED(among(axes, n, e->axes[i]) || is_single(v, e->axes[i]), "a value over an axis its place lacks:", e->axes[i]->name);
}

static void check_scalar(const struct verifier *v, const struct ir_expr *e)
{
    check_expr(v, e);
    check_covered(v, e, NULL, 0);
}

static void check_condition(const struct verifier *v, const struct ir_expr *e)
{
    check_scalar(v, e);
    NEED(e->type == TY_bool, "a condition that is not bool", NULL);
}

static void check_block(struct verifier *v, const ir_block *b);

static void check_fills(struct verifier *v, const struct ir_stmt *s)
{
    for (int f = 0; f < s->pipe->fields.n; f++) {
        int n = 0;
        for (int i = 0; i < s->body.n; i++) n += s->body.at[i]->kind == S_fill && s->body.at[i]->field == s->pipe->fields.at[f];
        NEED(n == 1, "a produce that does not fill once the field", s->pipe->fields.at[f]->name);
    }
}

static void check_store(struct verifier *v, const struct ir_stmt *s, int rank, const char *name)
{
    NEED(s->index.n == rank, "stored with another rank:", name);
    for (int i = 0; i < s->index.n; i++) check_expr(v, s->index.at[i]);
    check_expr(v, s->expr);
    if (s->mask) {
        check_expr(v, s->mask);
        NEED(s->mask->type == TY_bool, "a mask that is not bool", NULL);
    }
}

static void check_mma(struct verifier *v, const struct ir_stmt *s)
{
    check_expr(v, s->expr);
    check_expr(v, s->expr2);
    NEED(s->var && s->var->accum, "mma into what is no accumulator", s->var ? s->var->name : "");
    for (int k = 0; k < 2; k++) {
        const struct ir_expr *e = k ? s->expr2 : s->expr, *other = k ? s->expr : s->expr2;
        for (int i = 0; i < e->naxes; i++)
            NEED(among(s->var->axes, s->var->naxes, e->axes[i]) || ir_has_axis(other, e->axes[i]),
                 "mma: neither contracted nor of the result:", e->axes[i]->name);
    }
    for (int i = 0; i < s->factors.n; i++) {
        const struct ir_expr *f = s->factors.at[i];
        check_expr(v, f);
        for (int k = 0; k < f->naxes; k++)
            NEED(among(s->var->axes, s->var->naxes, f->axes[k]) || is_single(v, f->axes[k]) || (f->axes[k]->of && ir_has_axis(s->expr, f->axes[k]->of)),
                 "mma: a factor over an axis that is neither of the result nor a granule of a contracted one:", f->axes[k]->name);
    }
}

static void check_each(struct verifier *v, const struct ir_stmt *s)
{
    check_expr(v, s->expr);
    if (s->mask) check_expr(v, s->mask);
    int keep = v->nsingle;
    for (int i = 0; i < s->axes.n && v->nsingle < COUNT(v->single); i++) v->single[v->nsingle++] = s->axes.at[i];
    check_block(v, &s->body);
    v->nsingle = keep;
}

static void check_stmt(struct verifier *v, const struct ir_stmt *s)
{
    switch ((int)s->kind) {
    case S_let:
        NEED(s->var, "let without a variable", NULL);
        check_expr(v, s->expr);
        NEED(s->expr->type == s->var->type, "let of another type:", s->var->name);
        check_covered(v, s->expr, s->var->axes, s->var->naxes);
        break;
    case S_bind:
        NEED(s->axis, "bind without an axis", NULL);
        check_scalar(v, s->expr);
        check_scalar(v, s->expr2);
        break;
    case S_store:
        check_store(v, s, s->tensor->rank, s->tensor->name);
        NEED(s->tensor->dir != 0, "a store to an input:", s->tensor->name);
        NEED(s->expr->type == s->tensor->type, "stored in another type:", s->tensor->name);
        break;
    case S_put:
        check_store(v, s, s->shared->rank, s->shared->name);
        NEED(s->expr->type == s->shared->type, "stored in another type:", s->shared->name);
        break;
    case S_fetch: check_store(v, s, s->tensor->rank, s->tensor->name); NEED(s->var, "fetch without a variable", NULL); break;
    case S_produce: check_fills(v, s); break;
    case S_fill:
        check_expr(v, s->expr);
        NEED(s->expr->type == s->field->type, "filled with another type:", s->field->name);
        check_covered(v, s->expr, s->field->axes, s->field->naxes);
        break;
    case S_consume: NEED(s->pipe, "consume without a pipe", NULL); break;
    case S_mma: check_mma(v, s); break;
    case S_for: case S_par:
        NEED(s->var, "a loop without a variable", NULL);
        check_scalar(v, s->expr);
        check_scalar(v, s->expr2);
        if (s->kind == S_for) check_scalar(v, s->step);
        break;
    case S_while: case S_if: case S_assert: check_condition(v, s->expr); break;
    case S_scan:
        NEED(s->var && s->shared, "scan without its variable or array", NULL);
        check_scalar(v, s->expr);
        check_scalar(v, s->expr2);
        check_expr(v, s->expr3);
        break;
    case S_each: check_each(v, s); return;
    case S_combine:
        NEED(s->axis, "combine without an axis", NULL);
        check_scalar(v, s->expr);
        check_scalar(v, s->expr2);
        check_scalar(v, s->expr3);
        break;
    case S_body: NEED(v->in_task, "`body` outside the task prologue", NULL); v->bodies++; break;
    case S_print: break;
    default: fail(v, "an unknown statement", NULL);
    }
    check_block(v, &s->body);
    check_block(v, &s->other);
}

static void check_block(struct verifier *v, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *outer = v->stmt;
        v->stmt = b->at[i];
        check_stmt(v, b->at[i]);
        v->stmt = outer;
    }
}

static void check_lists(struct verifier *v)
{
    const struct ir_fn *fn = v->fn;
    for (int i = 0; i < fn->axes.n; i++) {
        const struct ir_axis *x = fn->axes.at[i];
        NEED(x->id == i, "an axis' id is not its place:", x->name);
        NEED(x->align >= 1 && x->tile >= 0, "an axis without alignment:", x->name);
        NEED(!x->of || (x->div >= 1 && x->tile >= 1), "a window axis without division:", x->name);
    }
    for (int i = 0; i < fn->vars.n; i++)
        for (int k = 0; k < fn->vars.at[i]->naxes; k++)
            NEED(fn->vars.at[i]->axes[k]->tile > 0, "a tile over an axis without extent:", fn->vars.at[i]->name);
    for (int i = 0; i < fn->pipes.n; i++)
        for (int k = 0; k < fn->pipes.at[i]->fields.n; k++)
            NEED(fn->pipes.at[i]->fields.at[k]->pipe == fn->pipes.at[i], "a field of another pipe:", fn->pipes.at[i]->fields.at[k]->name);
}

void ir_verify(const struct ir_fn *fn, const char *after)
{
    struct verifier it = {.fn = fn, .after = after}, *v = &it;
    check_lists(v);
    for (int i = 0; i < fn->requires.n; i++) check_condition(v, fn->requires.at[i]);
    if (fn->tasks) check_scalar(v, fn->tasks);
    v->in_task = true;
    check_block(v, &fn->task);
    v->in_task = false;
    NEED(v->bodies == 1, "the task prologue does not hold `body` once", NULL);
    for (int i = 0; i < fn->roles.n; i++) check_block(v, &fn->roles.at[i]->body);
    check_block(v, &fn->check);
}
