/* hint - what accesses to tensors tell the L2 cache: policies made once a role, in front of its tasks, named by every access. */
#include "codegen/gen.h"

#include <assert.h>

struct opd gen_policy(struct gen *g, const struct ir_tensor *t)
{
    struct opd policy = g->role->policy[t->cache];
    assert(t->cache == CACHE_normal || !opd_none(policy));
    return policy;
}

const char *gen_hint(struct opd policy) { return opd_none(policy) ? "" : ".L2::cache_hint"; }

static void see_read(void *ctx, struct ir_expr *e)
{
    bool *used = ctx;
    if (e->kind == E_read) used[e->tensor->cache] = true;
}

static void see_accesses(const ir_block *b, bool *used)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        ir_walk_stmt(s, see_read, used);
        if (s->tensor) used[s->tensor->cache] = true;
        see_accesses(&s->body, used);
        see_accesses(&s->other, used);
    }
}

void hint_begin_role(struct gen *g)
{
    static const char *const priorities[] = {
#define CACHE(word, priority, meaning) priority,
#include "dsl/cache.def"
    };
    bool used[CACHE_COUNT] = { false };
    see_accesses(&g->fn->task, used);
    see_accesses(&g->role->ir->body, used);
    for (int i = CACHE_normal + 1; i < CACHE_COUNT; i++) {
        if (!used[i]) continue;
        g->role->policy[i] = lir_reg(g->l, RC_B64);
        lir_emit(g->l, "createpolicy.fractional.%s.b64 %r, 1.0", priorities[i], g->role->policy[i]);
    }
}
