/* widen - operands of a type the tensor core does not take are widened, exactly, where they are produced.
 *
 *   field e2m1 b[j, k]; fill b = B[@j, @k]   →   field e4m3 b[j, k]; fill b = e4m3(B[@j, @k])
 *
 * Every e2m1 value is an e4m3 value. A slot read as bits keeps its type. */
#include "compiler/passes.h"

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

static void take_operand(struct widening *w, const struct ir_expr *e, struct span at)
{
    if (e->kind != E_slot || e->type != TY_e2m1 || is_wide(w, e->field) || w->n == MAX_WIDE || read_as_bits(w, e->field)) return;
    w->fields[w->n++] = e->field;
    diag_remark(w->p->diag, at, "'%s' is held as e4m3, exactly: the products made for %s take no e2m1", e->field->name, w->p->target->name);
}

static void find_operands(struct widening *w, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->kind == S_mma) {
            take_operand(w, s->expr, s->span);
            take_operand(w, s->expr2, s->span);
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
    for (int i = 0; i < p->fn->roles.n; i++) find_operands(&w, &p->fn->roles.at[i]->body);
    if (!w.n) return;
    ir_walk_fn(p->fn, retype_slot, &w);
    for (int i = 0; i < p->fn->roles.n; i++) widen_fills(&w, &p->fn->roles.at[i]->body);
    for (int i = 0; i < w.n; i++) w.fields[i]->type = TY_e4m3;
}
