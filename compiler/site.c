/* site - what each site of a split role keeps of the role's program.
 *
 * Statements with effects belong to one site. Around them stand loops, conditions and scopes of consume, and scalars that
 * these need: each site keeps what its own statements need, found by going over the program until nothing is added. A site
 * that reads a pipe takes all of its slots. */
#include "compiler/split.h"

#include <string.h>

/* ---- pieces of programs */

struct ir_pipe *site_pipe(struct pass_state *p, const char *name, struct ir_var *home, struct span at)
{
    struct ir_pipe *pipe = new(p->arena, struct ir_pipe);
    pipe->name = intern(name);
    for (int i = 0, twin = 1; i < p->fn->pipes.n; i++)
        if (p->fn->pipes.at[i]->name == pipe->name) pipe->name = intern(arena_printf(p->arena, "%s.%d", name, ++twin)), i = -1;
    pipe->id = p->fn->pipes.n;
    pipe->home = home;
    pipe->span = at;
    vec_push(p->arena, &p->fn->pipes, pipe);
    return pipe;
}

struct ir_field *site_field(struct pass_state *p, struct ir_pipe *pipe, const char *name, enum type t, struct ir_axis *const *axes, int n)
{
    struct ir_field *f = new(p->arena, struct ir_field);
    f->name = intern(name);
    f->type = t;
    f->naxes = n;
    memcpy(f->axes, axes, sizeof *axes * (size_t)n);
    f->pipe = pipe;
    f->span = pipe->span;
    for (int i = 0; i < p->fn->pipes.n; i++) f->id += p->fn->pipes.at[i]->fields.n;
    vec_push(p->arena, &pipe->fields, f);
    return f;
}

struct ir_expr *site_slot(struct pass_state *p, struct ir_field *f)
{
    struct ir_expr *at[IR_RANK];
    for (int i = 0; i < f->naxes; i++) at[i] = ir_leaf(p->arena, E_coord, f->axes[i]);
    struct ir_expr *e = ir_make(p->arena, E_slot, f->type, f->naxes, at, f->span);
    e->field = f;
    return e;
}

struct ir_stmt *site_scope(struct pass_state *p, ir_block *b, enum ir_stmt_kind kind, struct ir_pipe *pipe, struct span at)
{
    struct ir_stmt *s = ir_stmt(p->arena, b, kind, at);
    s->pipe = pipe;
    return s;
}

void site_fill(struct pass_state *p, struct ir_stmt *produce, struct ir_field *f, struct ir_expr *e)
{
    struct ir_stmt *s = ir_stmt(p->arena, &produce->body, S_fill, produce->span);
    s->field = f;
    s->expr = e;
}

struct ir_stmt *site_head(struct pass_state *p, const struct ir_stmt *s, ir_block *out)
{
    struct ir_stmt *t = ir_stmt(p->arena, out, s->kind, s->span);
    *t = *s;
    t->body = t->other = (ir_block){0};
    return t;
}

struct ir_role *site_role(struct pass_state *p, const struct ir_role *of, const char *name, int after)
{
    struct ir_role *r = new(p->arena, struct ir_role);
    r->name = intern(arena_printf(p->arena, "%s.%s", of->name, name));
    r->span = of->span;
    vec_push(p->arena, &p->fn->roles, r);
    for (int i = p->fn->roles.n - 1; i > after + 1; i--) p->fn->roles.at[i] = p->fn->roles.at[i - 1];
    p->fn->roles.at[after + 1] = r;
    for (int i = 0; i < p->fn->roles.n; i++) p->fn->roles.at[i]->id = i;
    return r;
}

/* ---- what a site keeps */

struct site {
    struct arena *a;
    bool issues, changed;
    bool *used, *reads;       /* by variable, by pipe: what is kept needs it */
};

static void need(struct site *x, bool *flag)
{
    x->changed |= !*flag;
    *flag = true;
}

static void need_expr(void *ctx, struct ir_expr *e)
{
    struct site *x = ctx;
    if (e->kind == E_get) need(x, &x->used[e->var->id]);
    if (e->kind == E_slot) need(x, &x->reads[e->field->pipe->id]);
}

static bool has_effect(const struct ir_expr *e)
{
    if (e->kind == E_call && e->intrinsic->effect) return true;
    for (int i = 0; i < e->nargs; i++)
        if (has_effect(e->args[i])) return true;
    return false;
}

static bool is_scalar_let(const struct ir_stmt *s)
{
    return s->kind == S_let && !s->var->naxes && !s->var->accum;
}

static bool encloses(const struct ir_stmt *s)
{
    return s->kind == S_for || s->kind == S_while || s->kind == S_if || s->kind == S_consume;
}

static bool keep_block(struct site *x, ir_block *b, bool cut);

static void need_all(struct site *x, ir_block *b)
{
    ir_walk(b, need_expr, x);
}

static bool keep_stmt(struct site *x, struct ir_stmt *s, bool cut)
{
    bool kept = true;
    if (is_scalar_let(s)) kept = x->used[s->var->id] || (!x->issues && has_effect(s->expr));
    else if (encloses(s)) {
        kept = keep_block(x, &s->body, cut);
        kept |= keep_block(x, &s->other, cut);
        kept |= s->kind == S_consume && x->reads[s->pipe->id];
    }
    if (!kept || cut) return kept;
    ir_walk_stmt(s, need_expr, x);
    if (!encloses(s)) {
        need_all(x, &s->body);
        need_all(x, &s->other);
    }
    return true;
}

static void append(struct site *x, ir_block *out, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) vec_push(x->a, out, b->at[i]);
}

/* Whether anything but bindings is kept. cut: what is not kept goes. */
static bool keep_block(struct site *x, ir_block *b, bool cut)
{
    ir_block out = {0};
    bool any = false;
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        bool kept = keep_stmt(x, s, cut);
        any |= kept && s->kind != S_bind;
        if (kept && s->kind == S_consume && !x->reads[s->pipe->id]) append(x, &out, &s->body);
        else if (kept) vec_push(x->a, &out, s);
    }
    if (cut) *b = out;
    return any;
}

static void settle(struct site *x, ir_block *b)
{
    do {
        x->changed = false;
        keep_block(x, b, false);
    } while (x->changed);
}

/* What the role consumes and neither site reads: the drain takes it. */
static void take_unread(const ir_block *b, const struct site *issue, struct site *drain)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->kind == S_consume && !issue->reads[s->pipe->id]) drain->reads[s->pipe->id] = true;
        take_unread(&s->body, issue, drain);
        take_unread(&s->other, issue, drain);
    }
}

/* ---- what the issuer may know */

struct plan {
    const bool *used;
    bool fails;
};

static void plan_expr(void *ctx, struct ir_expr *e)
{
    struct plan *k = ctx;
    bool tile = e->kind == E_get && (e->var->naxes || e->var->accum);
    k->fails |= tile || e->kind == E_thread || e->kind == E_element || e->kind == E_parts || (e->kind == E_call && e->intrinsic->effect);
}

static void plan_block(struct plan *k, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        if (b->at[i]->kind != S_fill) ir_walk_stmt(b->at[i], plan_expr, k); /* hands an accumulator over */
        plan_block(k, &b->at[i]->body);
        plan_block(k, &b->at[i]->other);
    }
}

/* Variables that the issuer reads are set by lets and loops only: what both sites can do. */
static void plan_setters(struct plan *k, const ir_block *role)
{
    for (int i = 0; i < role->n; i++) {
        const struct ir_stmt *s = role->at[i];
        k->fails |= s->var && k->used[s->var->id] && s->kind != S_let && s->kind != S_for && s->kind != S_mma;
        plan_setters(k, &s->body);
        plan_setters(k, &s->other);
    }
}

const char *site_prune(struct pass_state *p, const ir_block *role, ir_block *issue, ir_block *drain)
{
    struct arena *a = p->arena;
    int vars = p->fn->vars.n + 1, pipes = p->fn->pipes.n + 1;
    struct site of_issue = {.a = a, .issues = true, .used = new_n(a, bool, vars), .reads = new_n(a, bool, pipes)};
    struct site of_drain = {.a = a, .used = new_n(a, bool, vars), .reads = new_n(a, bool, pipes)};
    settle(&of_issue, issue);
    take_unread(role, &of_issue, &of_drain);
    settle(&of_drain, drain);
    keep_block(&of_issue, issue, true);
    keep_block(&of_drain, drain, true);
    struct plan k = {.used = of_issue.used};
    plan_block(&k, issue);
    plan_setters(&k, role);
    return k.fails ? "what guards a product, or bounds its loop, is known to registers only" : NULL;
}
