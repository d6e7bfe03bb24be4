/* widen - operands of a type the tensor core does not take are widened, exactly, where they are produced.
 *
 *   field e2m1 b[j, k]; fill b = B[@j, @k]   →   field e4m3 b[j, k]; fill b = e4m3(B[@j, @k])
 *
 * Every e2m1 value is an e4m3 value. A slot read as bits keeps its type; so does one that the products take as it lies. */
#include "compiler/passes.h"
#include "compiler/scales.h"

#define MAX_WIDE 64

struct widening {
    struct pass_state *p;
    struct ir_field *fields[MAX_WIDE];
    int n;
    const struct ir_field *asked;
    bool bits;
};

static bool is_wide(const struct widening *w, const struct ir_field *f)
{
    for (int i = 0; i < w->n; i++)
        if (w->fields[i] == f) return true;
    return false;
}

static void look_for_bits(void *ctx, struct ir_expr *e)
{
    struct widening *w = ctx;
    if (e->kind == E_bits && e->args[0]->kind == E_slot && e->args[0]->field == w->asked) w->bits = true;
}

static bool read_as_bits(struct widening *w, const struct ir_field *f)
{
    w->asked = f;
    w->bits = false;
    ir_walk_fn(w->p->fn, look_for_bits, w);
    return w->bits;
}

static const struct ir_stmt *fill_of(const ir_block *b, const struct ir_field *f)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i], *in = fill_of(&s->body, f);
        if (s->kind == S_fill && s->field == f) return s;
        if (!in) in = fill_of(&s->other, f);
        if (in) return in;
    }
    return NULL;
}

/* The slot that e reads is a copy of memory, contiguous there along k. */
static bool lies_along(const struct widening *w, const struct ir_expr *e, const struct ir_axis *k)
{
    const struct ir_stmt *fill = NULL;
    for (int i = 0; i < w->p->fn->roles.n && !fill; i++) fill = fill_of(&w->p->fn->roles.at[i]->body, e->field);
    if (!fill || fill->expr->kind != E_read || fill->expr->type != TY_e2m1) return false;
    const struct ir_expr *index = fill->expr->args[fill->expr->tensor->inner];
    for (int i = 0; i < e->nargs; i++)
        if (e->args[i]->kind == E_coord && e->args[i]->axis == k) return ir_has_axis(index, e->field->axes[i]);
    return false;
}

static bool stays_packed(const struct widening *w, const struct ir_stmt *s, const struct ir_expr *e)
{
    if (e->kind != E_slot || is_wide(w, e->field) || !scales_packed(w->p->target, s)) return false;
    const struct ir_expr *other = e == s->expr ? s->expr2 : s->expr;
    for (int i = 0; i < e->naxes; i++)
        if (ir_has_axis(other, e->axes[i]) && e->axes[i]->tile > 1) return lies_along(w, e, e->axes[i]);
    return false;
}

static void take_operand(struct widening *w, const struct ir_expr *e, struct span at)
{
    if (e->kind != E_slot || e->type != TY_e2m1 || is_wide(w, e->field) || w->n == MAX_WIDE || read_as_bits(w, e->field)) return;
    w->fields[w->n++] = e->field;
    diag_remark(w->p->diag, at, "'%s' is held as e4m3, exactly: the product made of it on %s takes no e2m1", e->field->name, w->p->target->name);
}

static void find_operands(struct widening *w, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->kind == S_mma) {
            if (!stays_packed(w, s, s->expr)) take_operand(w, s->expr, s->span);
            if (!stays_packed(w, s, s->expr2)) take_operand(w, s->expr2, s->span);
        }
        find_operands(w, &s->body);
        find_operands(w, &s->other);
    }
}

static void retype_slot(void *ctx, struct ir_expr *e)
{
    if (e->kind == E_slot && is_wide(ctx, e->field)) e->type = TY_e4m3;
}

static void widen_fills(struct widening *w, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        if (s->kind == S_fill && is_wide(w, s->field)) s->expr = ir_cast(w->p->arena, TY_e4m3, s->expr);
        widen_fills(w, &s->body);
        widen_fills(w, &s->other);
    }
}

void pass_widen(struct pass_state *p)
{
    struct widening w = {.p = p};
    for (int before = -1; before < w.n;) { /* what is widened for one mma is wide for the others */
        before = w.n;
        for (int i = 0; i < p->fn->roles.n; i++) find_operands(&w, &p->fn->roles.at[i]->body);
    }
    if (!w.n) return;
    ir_walk_fn(p->fn, retype_slot, &w);
    for (int i = 0; i < p->fn->roles.n; i++) widen_fills(&w, &p->fn->roles.at[i]->body);
    for (int i = 0; i < w.n; i++) w.fields[i]->type = TY_e4m3;
}
