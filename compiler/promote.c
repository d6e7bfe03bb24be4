/* promote - factors of an mma are applied in registers, where the tensor core does not apply them.
 *
 *   mma c += a * b, factors f, g   →   mma p = a * b
 *                                      c = fma(p, f * g, c)
 *
 * p is a fresh accumulator with the axes of c. Where an mma is its own consumer's only one and has no factors nothing changes.
 * Needs: factors over c's axes only. Leaves: no mma with factors but those that the tensor core applies (scales). */
#include "compiler/passes.h"
#include "compiler/scales.h"

static struct ir_expr *in_f32(struct arena *a, struct ir_expr *e)
{
    return ir_cast(a, TY_f32, e);
}

static struct ir_expr *product_of_factors(struct arena *a, const struct ir_stmt *s)
{
    struct ir_expr *f = NULL;
    for (int i = 0; i < s->factors.n; i++) {
        struct ir_expr *x = in_f32(a, s->factors.at[i]);
        f = f ? ir_binary(a, E_mul, f, x) : x;
    }
    return f;
}

static struct ir_var *partial(struct pass_state *p, const struct ir_var *c)
{
    struct ir_var *v = ir_var_like(p->arena, p->fn, arena_printf(p->arena, "%s.part", c->name), c);
    v->type = TY_f32;
    v->accum = true;
    v->multiple = 0;
    return v;
}

static struct ir_stmt *scaled(struct pass_state *p, struct ir_stmt *s)
{
    struct ir_var *c = s->var, *v = partial(p, c);
    struct ir_expr *f = product_of_factors(p->arena, s), *sum;
    struct ir_expr *args[] = {ir_get(p->arena, v), f, ir_get(p->arena, c)};
    if (s->flag) sum = ir_make(p->arena, E_fma, TY_f32, 3, args, s->span);
    else sum = ir_binary(p->arena, E_mul, args[0], f);
    struct ir_stmt *let = new(p->arena, struct ir_stmt);
    let->kind = S_let;
    let->span = s->span;
    let->var = c;
    let->expr = sum;
    s->var = v;
    s->flag = false;
    s->factors.n = 0;
    return let;
}

static void promote_block(struct pass_state *p, ir_block *b)
{
    ir_block out = {0};
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        promote_block(p, &s->body);
        promote_block(p, &s->other);
        vec_push(p->arena, &out, s);
        if (s->kind == S_mma && s->factors.n && !scales_applied(p->target, s, NULL)) vec_push(p->arena, &out, scaled(p, s));
    }
    *b = out;
}

void pass_promote(struct pass_state *p)
{
    for (int i = 0; i < p->fn->roles.n; i++) promote_block(p, &p->fn->roles.at[i]->body);
}
