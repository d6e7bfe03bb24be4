/* space - what a kernel's roles hold in registers, from its IR alone. See space.h. */
#include "compiler/space.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double space_elements(struct ir_axis *const *axes, int n)
{
    double all = 1;
    for (int i = 0; i < n; i++) all *= axes[i]->tile > 0 ? axes[i]->tile : 1;
    return all;
}

int space_warps(const struct ir_role *r, const struct ir_fn *fn, const struct target *t)
{
    int warps = r->warps_m * (r->warps_n ? r->warps_n : 1), rows = 0;
    if (warps) return warps;
    for (int i = 0; i < fn->vars.n; i++)
        if (fn->vars.at[i]->accum && fn->vars.at[i]->naxes && fn->vars.at[i]->axes[0]->tile > rows) rows = fn->vars.at[i]->axes[0]->tile;
    return t->has & HAS_WGMMA && rows < 128 ? 4 : 8;
}

enum {
    REGS_A_LANE = 2048,        /* a multiprocessor's registers over 32 lanes, */
    SPENT_REGS = 160,          /* those of four warps that only copy, */
    TWO_WARPGROUPS_REGS = 236, /* and what eight warps have of the rest; */
    MOST_REGS = 250,           /* of a thread */
    STORE_REGS = 72,           /* of a thread, for a store that packs values and has no plain way: it adds, or its rows are */
    EVEN_BYTES = 64            /* no multiple of these */
};

/* What a role's warps hold in registers: variables, and the largest of the products that are made anew by each turn of a
 * loop, of which there are one at a time or as many as asked for. */
struct space {
    char *seen;              /* by the variable's id */
    bool apart;              /* products lie in tensor memory: one slot's at a time comes to registers */
    double held, fresh;
    const bool *rows;         /* by axis */
    const struct ir_tensor *reads[8]; /* by stores inside loops: what each thread keeps of them, beside the rows of products */
    int n_reads, read, packed;        /* registers of a thread; packed: when products are done */
};

static double var_elements(const struct ir_var *v) { return v->naxes > 1 ? space_elements(v->axes, v->naxes) : 0; }

static void see_fresh(struct space *s, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *m = b->at[i];
        if (m->kind == S_mma && !m->flag) {
            s->seen[m->var->id] = 1;
            s->fresh = fmax(s->fresh, var_elements(m->var) * (m->var->slots > 1 && !s->apart ? m->var->slots : 1));
        }
        see_fresh(s, &m->body);
        see_fresh(s, &m->other);
    }
}

static void see_read(void *ctx, struct ir_expr *x)
{
    struct space *s = ctx;
    if (x->kind != E_read || !x->naxes || s->n_reads == COUNT(s->reads)) return;
    for (int i = 0; i < s->n_reads; i++)
        if (s->reads[i] == x->tensor) return;
    for (int i = 0; i < x->naxes; i++)
        if (s->rows[x->axes[i]->id]) return;
    s->reads[s->n_reads++] = x->tensor;
    s->read += (int)space_elements(x->axes, x->naxes);
}

static bool awkward(const struct ir_stmt *store)
{
    const struct ir_expr *x = store->expr;
    int bits = type_bits(store->tensor->type);
    if (bits >= 32 || !x->naxes) return false;
    return store->mode == MODE_add || x->axes[x->naxes - 1]->tile * bits / 8 % EVEN_BYTES;
}

static void see_stores(struct space *s, const ir_block *b, bool in_loop)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *m = b->at[i];
        bool loop = in_loop || m->kind == S_for || m->kind == S_while;
        if (m->kind == S_store && in_loop) ir_walk_stmt(m, see_read, s);
        if (m->kind == S_store && !in_loop && awkward(m)) s->packed = STORE_REGS;
        see_stores(s, &m->body, loop);
        see_stores(s, &m->other, loop);
    }
}

static void see_held(void *ctx, struct ir_expr *e)
{
    struct space *s = ctx;
    if (e->kind != E_get || s->seen[e->var->id]) return;
    s->seen[e->var->id] = 1;
    s->held += var_elements(e->var);
}

void space_measure(const struct ir_fn *fn, const struct target *t, const bool *rows, struct cost *c)
{
    char *seen = malloc((size_t)fn->vars.n + 1);
    if (!seen) base_oom((size_t)fn->vars.n + 1);
    for (int r = 0; r < fn->roles.n; r++) {
        const struct ir_role *role = fn->roles.at[r];
        if (role->drain) continue; /* it only issues them */
        struct space s = { .rows = rows, .apart = t->has & HAS_TCGEN05, .seen = memset(seen, 0, (size_t)fn->vars.n + 1) };
        see_fresh(&s, &role->body);
        ir_walk(&role->body, see_held, &s);
        if (s.held + s.fresh > 0) see_stores(&s, &role->body, false);
        int warps = space_warps(role, fn, t), has = (REGS_A_LANE - SPENT_REGS) / warps;
        if (has > MOST_REGS) has = MOST_REGS;
        int held = (int)(s.held / (warps * 32)), fresh = (int)(s.fresh / (warps * 32)) + s.read;
        int regs = held + (fresh > s.packed ? fresh : s.packed), lack = TWO_WARPGROUPS_REGS - has;
        if (regs + lack > c->accum_regs + c->lack_regs) c->accum_regs = regs, c->lack_regs = lack;
    }
    free(seen);
}
