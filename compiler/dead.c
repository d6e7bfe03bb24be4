/* dead - lets whose variable nobody reads vanish, with what only they needed; so do axes' bounds that became constants.
 *
 *   let i.tiles = cdiv(M, 128)   →   (nothing)      where i.tiles is not read
 *
 * Leaves: variables keep their ids; fn->vars still lists the unused ones. */
#include "compiler/passes.h"

#include <string.h>

static void count_use(void *ctx, struct ir_expr *e)
{
    if (e->kind == E_get) ((int *)ctx)[e->var->id]++;
}

/* What fn holds besides its statements. */
static void count_uses(const struct ir_fn *fn, int *uses)
{
    ir_walk_fn(fn, count_use, uses);
    ir_walk(&fn->check, count_use, uses);
    if (fn->tasks) ir_walk_expr(fn->tasks, count_use, uses);
}

static bool has_effect(const struct ir_expr *e)
{
    if (e->kind == E_call && e->intrinsic->effect) return true;
    for (int i = 0; i < e->nargs; i++)
        if (has_effect(e->args[i])) return true;
    return false;
}

static bool sweep(ir_block *b, const int *uses)
{
    int n = 0, before = b->n;
    bool changed = false;
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        if (s->kind == S_let && !uses[s->var->id] && !has_effect(s->expr)) continue;
        changed |= sweep(&s->body, uses) | sweep(&s->other, uses);
        b->at[n++] = s;
    }
    b->n = n;
    return changed || n != before;
}

void pass_dead(struct pass_state *p)
{
    struct ir_fn *fn = p->fn;
    struct arena scratch = {0};
    int *uses = new_n(&scratch, int, fn->vars.n + 1);
    bool changed = true;
    while (changed) {
        memset(uses, 0, sizeof *uses * (size_t)fn->vars.n);
        count_uses(fn, uses);
        changed = sweep(&fn->task, uses);
        for (int i = 0; i < fn->roles.n; i++) changed |= sweep(&fn->roles.at[i]->body, uses);
    }
    arena_free(&scratch);
}
