/* split - where accumulators live in tensor memory, a role that multiplies becomes two that talk through pipes only.
 *
 *   role math {                              role math {                          role math.issue of math {
 *       c = 0                                    consume c.full { c = c.full.c }       produce c.full {
 *       for k consume ab mma c += a * b          D = c                                     c = 0
 *       D = c                            →   }                                             for k consume ab mma c += a * b
 *   }                                                                                      fill c.full.c = c
 *                                                                                      }
 *                                                                                  }
 *
 * The one site issues products, the other does everything on registers; the next task's products overlap the last one's
 * epilogue. Both are the role's own program, less what is the other's; the accumulator's value is handed over where the
 * program goes from products to anything else (c.full), and back where products add to what was changed in registers
 * (c.back). An operand that is no slot is computed by the one and read by the other: a pipe of its own. As all hand-overs
 * come from one sequential order, they cannot wait for one another.
 *
 * Needs: promoted products. Leaves: pipes with a `home`, whose slots are the accumulator's places in tensor memory, and a
 * role with `drain` after each one that was split. Where the shape is not handled the role stays whole and says why. */
#include "compiler/split.h"

#include <string.h>

/* An accumulator and its pipes. */
struct ring {
    struct ir_var *var;
    struct ir_pipe *full, *back;
    bool open;                /* inside a run: all that touches it is the issuer's */
    bool away;                /* handed over and not taken yet */
};

/* Neighbouring statements of a block that only multiply into an accumulator: one produce. */
struct run {
    struct ring *ring;
    int start, end, zero;     /* first and last statement; the one that zeroes the accumulator before, -1: none */
    bool back;                /* adds to what the drain holds */
};
typedef VEC(struct run) runs;

struct split {
    struct pass_state *p;
    struct ir_role *role;
    VEC(struct ring *) rings;
    const char *why;          /* it cannot be done */
};

enum { MOST_ROWS_OF_MMA_SYNC = 63 };

static void give_up(struct split *sp, const char *why)
{
    if (!sp->why) sp->why = why;
}

/* ---- what touches an accumulator */

enum { BY_ISSUE = 1, BY_DRAIN = 2, BY_ZERO = 4 };

struct find {
    const struct ir_var *var;
    bool found;
};

static void find_get(void *ctx, struct ir_expr *e)
{
    struct find *f = ctx;
    f->found |= e->kind == E_get && e->var == f->var;
}

static bool is_zero(const struct ir_stmt *s)
{
    return s->kind == S_let && s->expr->kind == E_const && s->expr->real == 0 && s->expr->num == 0;
}

static int touches(const struct ir_stmt *s, const struct ir_var *v)
{
    struct find f = {v, false};
    ir_walk_stmt(s, find_get, &f);
    int by = f.found ? BY_DRAIN : 0;
    if (s->var == v) by |= s->kind == S_mma ? BY_ISSUE : is_zero(s) ? BY_ZERO : BY_DRAIN;
    for (int i = 0; i < s->body.n; i++) by |= touches(s->body.at[i], v);
    for (int i = 0; i < s->other.n; i++) by |= touches(s->other.at[i], v);
    return by;
}

/* The first thing that happens to v here gives it a new value, whatever it held. */
static bool begins_anew(const struct ir_stmt *s, const struct ir_var *v)
{
    if (s->var == v && s->kind == S_mma) return !s->flag;
    if (s->var == v) return is_zero(s);
    for (int i = 0; s->kind == S_consume && i < s->body.n; i++)
        if (touches(s->body.at[i], v)) return begins_anew(s->body.at[i], v);
    return false;
}

static bool only_issue(int by) { return by & BY_ISSUE && !(by & BY_DRAIN); }

/* ---- where the value is: taken by the drain as late as can be, so that its registers are free until then */

/* Whether v is away after b, when it is before. A run leaves it away, the drain's use takes it. */
static bool ends_away(const ir_block *b, const struct ir_var *v, bool away)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        int by = touches(s, v);
        if (!by) continue;
        if (only_issue(by)) away = true;
        else if (!(by & BY_ISSUE)) away = false; /* a zero before a run, too: the run follows */
        else if (s->kind == S_consume) away = ends_away(&s->body, v, away);
        else if (site_loops(s)) away = away && ends_away(&s->body, v, true);
        else away = ends_away(&s->body, v, away) && ends_away(&s->other, v, away);
    }
    return away;
}

/* A loop, perhaps in scopes of consume, that finds v away and leaves it away. */
static bool keeps_away(const struct ir_stmt *s, const struct ir_var *v)
{
    if (site_loops(s)) return ends_away(&s->body, v, true);
    for (int i = 0; s->kind == S_consume && i < s->body.n; i++)
        if (touches(s->body.at[i], v)) return keeps_away(s->body.at[i], v);
    return false;
}

/* ---- runs of a block */

/* A zero that only a loop follows which finds the value away is the issuer's: a run of its own. */
static void end_run(struct split *sp, const ir_block *b, int i, struct run *r, runs *out)
{
    bool mixed = i < b->n && touches(b->at[i], r->ring->var) & BY_ISSUE;
    if (r->start < 0 && r->zero >= 0 && mixed && keeps_away(b->at[i], r->ring->var)) r->start = r->end = r->zero;
    if (r->start >= 0) vec_push(sp->p->arena, out, *r);
    *r = (struct run){.ring = r->ring, .start = -1, .zero = -1};
}

static void runs_of(struct split *sp, const ir_block *b, struct ring *g, runs *out)
{
    struct run r = {.ring = g, .start = -1, .zero = -1};
    for (int i = 0; i <= b->n; i++) {
        int by = i < b->n ? touches(b->at[i], g->var) : BY_DRAIN;
        if (!by) continue;
        if (by == BY_ZERO && b->at[i]->kind == S_let && r.start < 0) r.zero = i;
        else if (only_issue(by)) {
            if (r.start < 0) r.start = i, r.back = r.zero < 0 && !begins_anew(b->at[i], g->var);
            r.end = i;
        } else end_run(sp, b, i, &r, out);
    }
}

/* Two runs of a block follow one another or lie in one another: where they cross, the first ends later if it may. */
static void untangle(struct split *sp, const ir_block *b, runs *all)
{
    for (int i = 0; i < all->n; i++)
        for (int k = 0; k < all->n; k++) {
            struct run *x = &all->at[i], *y = &all->at[k];
            if (!(x->start < y->start && y->start <= x->end && x->end < y->end)) continue;
            for (int s = x->end + 1; s <= y->end; s++)
                if (touches(b->at[s], x->ring->var)) give_up(sp, "the products into two accumulators begin and end by turns");
            x->end = y->end;
            i = k = -1;
            if (sp->why) return;
            break;
        }
}

/* Outer before inner. */
static bool before(const struct run *x, const struct run *y)
{
    return x->start != y->start ? x->start < y->start : x->end > y->end;
}

static runs find_runs(struct split *sp, const ir_block *b)
{
    runs all = {0};
    for (int i = 0; i < sp->rings.n; i++)
        if (!sp->rings.at[i]->open) runs_of(sp, b, sp->rings.at[i], &all);
    untangle(sp, b, &all);
    for (int i = 1; i < all.n; i++)
        for (int k = i; k > 0 && before(&all.at[k], &all.at[k - 1]); k--) {
            struct run r = all.at[k];
            all.at[k] = all.at[k - 1];
            all.at[k - 1] = r;
        }
    return all;
}

/* ---- pipes */

/* Of one field. */
static struct ir_pipe *new_pipe(struct split *sp, const char *name, struct ir_var *home, enum type t, struct ir_axis *const *axes, int n, struct span at)
{
    struct ir_pipe *pipe = site_pipe(sp->p, name, home, at);
    site_field(sp->p, pipe, home ? home->name : intern("x"), t, axes, n);
    return pipe;
}

static struct ir_expr *slot_of(struct split *sp, const struct ir_pipe *pipe) { return site_slot(sp->p, pipe->fields.at[0]); }

static struct ir_stmt *scope(struct split *sp, ir_block *b, enum ir_stmt_kind kind, struct ir_pipe *pipe, struct span at)
{
    return site_scope(sp->p, b, kind, pipe, at);
}

static void fill(struct split *sp, struct ir_stmt *produce, struct ir_expr *e) { site_fill(sp->p, produce, produce->pipe->fields.at[0], e); }

/* v = what the slot holds */
static void take(struct split *sp, ir_block *b, struct ir_pipe *pipe, struct span at)
{
    struct ir_stmt *let = ir_stmt(sp->p->arena, &scope(sp, b, S_consume, pipe, at)->body, S_let, at);
    let->var = pipe->home;
    let->expr = slot_of(sp, pipe);
}

/* The drain has the value from here on. */
static void bring(struct split *sp, struct ring *g, ir_block *drain, struct span at)
{
    if (g->away) take(sp, drain, g->full, at);
    g->away = false;
}

/* ---- runs, in both sites */

/* Returns the block that the run's statements go to. */
static ir_block *open_run(struct split *sp, const ir_block *b, const struct run *r, ir_block *issue, ir_block *drain)
{
    struct ring *g = r->ring;
    struct ir_var *v = g->var;
    struct span at = b->at[r->start]->span;
    struct arena *a = sp->p->arena;
    bring(sp, g, drain, at);
    if (!g->full) g->full = new_pipe(sp, arena_printf(a, "%s.full", v->name), v, v->type, v->axes, v->naxes, v->span);
    if (r->back && !g->back) {
        g->back = new_pipe(sp, arena_printf(a, "%s.back", v->name), v, v->type, v->axes, v->naxes, v->span);
        g->back->depth = g->full->depth = 1; /* one place in tensor memory, which goes to and fro */
    }
    struct ir_stmt *produce = scope(sp, issue, S_produce, g->full, at);
    if (r->back) {
        fill(sp, scope(sp, drain, S_produce, g->back, at), ir_get(a, v));
        take(sp, &produce->body, g->back, at);
    }
    if (r->zero >= 0) {
        struct ir_stmt *zero = new(a, struct ir_stmt);
        *zero = *b->at[r->zero];
        vec_push(a, &produce->body, zero);
    }
    g->open = true;
    return &produce->body;
}

static void close_run(struct split *sp, const ir_block *b, const struct run *r, ir_block *issue)
{
    struct ir_stmt *s = ir_stmt(sp->p->arena, issue, S_fill, b->at[r->end]->span);
    s->field = r->ring->full->fields.at[0];
    s->expr = ir_get(sp->p->arena, r->ring->var);
    r->ring->open = false;
    r->ring->away = true;
}

/* ---- products */

static const struct ir_expr *truncated(const struct ir_expr *e)
{
    return e->kind == E_cast && e->type == TY_tf32 && e->args[0]->type == TY_f32 ? e->args[0] : e; /* the tensor core truncates */
}

/* A slot as it lies: what tensor cores read themselves. */
static bool plain_slot(const struct ir_expr *e)
{
    e = truncated(e);
    if (e->kind != E_slot) return false;
    for (int i = 0; i < e->nargs; i++)
        if (e->args[i]->naxes && e->args[i]->kind != E_coord) return false;
    return true;
}

static bool var_has(const struct ir_var *v, const struct ir_axis *x)
{
    for (int i = 0; i < v->naxes; i++)
        if (v->axes[i] == x) return true;
    return false;
}

/* The axis summed over along which both operands are to be contiguous: the last one of the other operand, if that is a slot. */
static struct ir_axis *fast_axis(const struct ir_stmt *s, const struct ir_expr *e, const struct ir_expr *other)
{
    struct ir_axis *fast = NULL;
    for (int i = 0; i < e->naxes; i++)
        if (!var_has(s->var, e->axes[i])) fast = e->axes[i];
    other = truncated(other);
    for (int i = 0; other->kind == E_slot && i < other->nargs; i++)
        if (other->args[i]->naxes && ir_has_axis(e, other->args[i]->axis) && !var_has(s->var, other->args[i]->axis)) fast = other->args[i]->axis;
    return fast;
}

/* Axes summed over, those of the result, the fast one. */
static int operand_axes(const struct ir_stmt *s, const struct ir_expr *e, const struct ir_expr *other, struct ir_axis **axes)
{
    struct ir_axis *fast = fast_axis(s, e, other);
    int n = 0;
    for (int i = 0; i < e->naxes; i++)
        if (!var_has(s->var, e->axes[i]) && e->axes[i] != fast) axes[n++] = e->axes[i];
    for (int i = 0; i < s->var->naxes; i++)
        if (ir_has_axis(e, s->var->axes[i])) axes[n++] = s->var->axes[i];
    if (fast) axes[n++] = fast;
    return n;
}

/* What lies past the limit of an axis summed over counts as zero. */
static struct ir_expr *cut(struct split *sp, const struct ir_stmt *s, struct ir_expr *e)
{
    struct arena *a = sp->p->arena;
    for (int i = 0; i < e->naxes; i++) {
        struct ir_axis *x = e->axes[i];
        if (var_has(s->var, x) || x->exact) continue;
        struct ir_expr *in = ir_binary(a, E_lt, ir_leaf(a, E_coord, x), ir_leaf(a, E_limit, x));
        struct ir_expr *zero = type_is_float(e->type) ? ir_real(a, e->type, 0) : ir_cast(a, e->type, ir_int(a, 0));
        e = ir_make(a, E_select, e->type, 3, (struct ir_expr *[]){in, e, zero}, e->span);
    }
    return e;
}

/* An operand in registers: the drain fills a slot with it. Returns the block in which the product can read it. */
static ir_block *hand_operand(struct split *sp, const struct ir_stmt *s, struct ir_expr **e, const struct ir_expr *other, ir_block *issue, ir_block *drain)
{
    if (plain_slot(*e)) return issue;
    struct ir_axis *axes[IR_RANK];
    int n = operand_axes(s, *e, other, axes);
    struct ir_pipe *pipe = new_pipe(sp, arena_printf(sp->p->arena, "%s.operand", s->var->name), NULL, (*e)->type, axes, n, s->span);
    fill(sp, scope(sp, drain, S_produce, pipe, s->span), cut(sp, s, *e));
    *e = slot_of(sp, pipe);
    (*e)->span = s->span;
    return &scope(sp, issue, S_consume, pipe, s->span)->body;
}

static void emit_mma(struct split *sp, const struct ir_stmt *s, ir_block *issue, ir_block *drain)
{
    struct ir_stmt *t = new(sp->p->arena, struct ir_stmt);
    *t = *s;
    for (int i = 0; i < s->factors.n; i++)
        if (!plain_slot(s->factors.at[i])) give_up(sp, "a product has factors");
    issue = hand_operand(sp, s, &t->expr, s->expr2, issue, drain);
    issue = hand_operand(sp, s, &t->expr2, s->expr, issue, drain);
    vec_push(sp->p->arena, issue, t);
}

/* ---- statements */

static bool has_mma(const struct ir_stmt *s)
{
    bool any = s->kind == S_mma;
    for (int i = 0; i < s->body.n; i++) any |= has_mma(s->body.at[i]);
    for (int i = 0; i < s->other.n; i++) any |= has_mma(s->other.at[i]);
    return any;
}

static void emit_block(struct split *sp, const ir_block *b, ir_block *issue, ir_block *drain);

static struct ring *ring_of(struct split *sp, const struct ir_var *v)
{
    for (int i = 0; i < sp->rings.n; i++)
        if (sp->rings.at[i]->var == v) return sp->rings.at[i];
    return NULL;
}

/* Before s: brings what its expressions use, and what loops and conditions would bring or not by turns. */
static void bring_for(struct split *sp, const struct ir_stmt *s, bool taken, ir_block *drain)
{
    for (int i = 0; i < sp->rings.n; i++) {
        struct ring *g = sp->rings.at[i];
        int by = g->open ? 0 : touches(s, g->var);
        if (!by || (by == BY_ZERO && taken)) continue;
        struct find f = {g->var, false};
        ir_walk_stmt(s, find_get, &f);
        bool inside = by & BY_ISSUE && (s->kind == S_consume || s->kind == S_if || (site_loops(s) && ends_away(&s->body, g->var, true)));
        if (f.found || !inside) bring(sp, g, drain, s->span);
    }
}

static void emit_loop(struct split *sp, const struct ir_stmt *s, struct ir_stmt *issue, struct ir_stmt *drain)
{
    bool *away = new_n(sp->p->arena, bool, sp->rings.n);
    for (int i = 0; i < sp->rings.n; i++) away[i] = sp->rings.at[i]->away;
    emit_block(sp, &s->body, &issue->body, &drain->body);
    for (int i = 0; i < sp->rings.n; i++) {
        if (!away[i]) bring(sp, sp->rings.at[i], &drain->body, s->span);
        if (away[i] != sp->rings.at[i]->away) give_up(sp, "a loop takes an accumulator that it does not hand over again");
    }
}

static void emit_if(struct split *sp, const struct ir_stmt *s, struct ir_stmt *issue, struct ir_stmt *drain)
{
    bool *away = new_n(sp->p->arena, bool, 2 * sp->rings.n), *then = away + sp->rings.n;
    for (int i = 0; i < sp->rings.n; i++) away[i] = sp->rings.at[i]->away;
    emit_block(sp, &s->body, &issue->body, &drain->body);
    for (int i = 0; i < sp->rings.n; i++) {
        then[i] = sp->rings.at[i]->away;
        sp->rings.at[i]->away = away[i];
    }
    emit_block(sp, &s->other, &issue->other, &drain->other);
    for (int i = 0; i < sp->rings.n; i++) {
        struct ring *g = sp->rings.at[i];
        if (then[i] == g->away) continue;
        g->away = true;
        bring(sp, g, then[i] ? &drain->body : &drain->other, s->span);
    }
}

static void emit_stmt(struct split *sp, struct ir_stmt *s, bool taken, ir_block *issue, ir_block *drain)
{
    bring_for(sp, s, taken, drain);
    struct ring *g = s->kind == S_let ? ring_of(sp, s->var) : NULL;
    bool scalar = s->kind == S_let && !s->var->naxes && !s->var->accum;
    if (s->kind == S_mma) emit_mma(sp, s, issue, drain);
    else if (s->kind == S_for || s->kind == S_while || s->kind == S_if || s->kind == S_consume) {
        struct ir_stmt *i = site_head(sp->p, s, issue), *d = site_head(sp->p, s, drain);
        if (site_loops(s)) emit_loop(sp, s, i, d);
        else emit_if(sp, s, i, d);
    } else if (scalar || s->kind == S_bind) {
        site_head(sp->p, s, issue);
        site_head(sp->p, s, drain);
    } else if (g && (g->open || taken)) {
        if (!taken) vec_push(sp->p->arena, issue, s);
    } else {
        if (has_mma(s)) give_up(sp, "a product stands in code for single threads or in what merges parts");
        vec_push(sp->p->arena, drain, s);
    }
}

static void emit_block(struct split *sp, const ir_block *b, ir_block *issue, ir_block *drain)
{
    runs all = find_runs(sp, b);
    ir_block **into = new_n(sp->p->arena, ir_block *, all.n + 1); /* of the runs that are open, outer first */
    int *which = new_n(sp->p->arena, int, all.n + 1), depth = 0;
    into[0] = issue;
    for (int i = 0; i < b->n && !sp->why; i++) {
        bool taken = false;
        for (int r = 0; r < all.n; r++) {
            taken |= all.at[r].zero == i;
            if (all.at[r].start != i) continue;
            into[depth + 1] = open_run(sp, b, &all.at[r], into[depth], drain);
            which[depth++] = r;
        }
        emit_stmt(sp, b->at[i], taken, into[depth], drain);
        while (depth && all.at[which[depth - 1]].end == i) {
            close_run(sp, b, &all.at[which[depth - 1]], into[depth]);
            depth--;
        }
    }
}

/* ---- the role */

static void find_rings(struct split *sp, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        if (s->kind == S_mma && !ring_of(sp, s->var)) {
            struct ring *g = new(sp->p->arena, struct ring);
            g->var = s->var;
            vec_push(sp->p->arena, &sp->rings, g);
        }
        find_rings(sp, &s->body);
        find_rings(sp, &s->other);
    }
}

static struct ir_role *issuer(struct split *sp, int after)
{
    struct ir_role *r = site_role(sp->p, sp->role, "issue", after);
    r->warps_m = r->warps_n = 1;
    r->drain = sp->role;
    return r;
}

static void split_role(struct pass_state *p, int at)
{
    struct split sp = {.p = p, .role = p->fn->roles.at[at]};
    find_rings(&sp, &sp.role->body);
    if (!sp.rings.n) return;
    int pipes = p->fn->pipes.n;
    ir_block issue = {0}, drain = {0};
    emit_block(&sp, &sp.role->body, &issue, &drain);
    for (int i = 0; i < sp.rings.n; i++) bring(&sp, sp.rings.at[i], &drain, sp.role->span);
    if (!sp.why) sp.why = site_prune(p, &sp.role->body, &issue, &drain);
    if (sp.why) {
        p->fn->pipes.n = pipes;
        sp.role->whole = sp.why;
        return;
    }
    sp.role->body = drain;
    issuer(&sp, at)->body = issue;
}

int split_rows(const struct ir_stmt *mma, bool other)
{
    const struct ir_expr *side = mma->var->flip != other ? mma->expr2 : mma->expr;
    int rows = 1;
    for (int k = 0; k < side->naxes; k++)
        if (var_has(mma->var, side->axes[k])) rows *= side->axes[k]->tile;
    return rows;
}

/* Rows of the smallest accumulator: below 64 tensor memory is not used. */
static int smallest(const ir_block *b, int least)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->kind == S_mma && split_rows(s, false) < least) least = split_rows(s, false);
        least = smallest(&s->body, least);
        least = smallest(&s->other, least);
    }
    return least;
}

bool split_wanted(const struct pass_state *p)
{
    int least = 1 << 30;
    if (!target_has(p->target, HAS_TCGEN05)) return false;
    for (int i = 0; i < p->fn->roles.n; i++) least = smallest(&p->fn->roles.at[i]->body, least);
    return least > MOST_ROWS_OF_MMA_SYNC;
}

void pass_split(struct pass_state *p)
{
    if (!split_wanted(p)) return;
    for (int i = 0; i < p->fn->roles.n; i++)
        if (!p->fn->roles.at[i]->drain) split_role(p, i);
}
