/* ranked - what differs between the CTAs of a cluster: what depends on their rank. */
#include "codegen/ranked.h"

bool ranked(const struct rank_scan *rs, const struct ir_expr *e)
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

struct rank_scan ranked_scan(struct gen *g)
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
