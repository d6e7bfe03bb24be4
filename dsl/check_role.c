/* check_role - roles, and the pipes between them: who fills a slot, who reads it, under which loops. */
#include <string.h>

#include "dsl/check.h"

/* Sets n->decl to the pipe n names; an error and NULL if there is none. */
static void find_pipe(struct check *c, struct node *n)
{
    const char *names[64];
    int count = 0;
    nodes *items = &c->kernel->b->list;
    for (int i = 0; i < items->n; i++) {
        if (items->at[i]->kind != N_pipe) continue;
        if (items->at[i]->name == n->name) {
            n->decl = items->at[i];
            return;
        }
        if (count < 64) names[count++] = items->at[i]->name;
    }
    const char *near = diag_nearest(n->name, names, count);
    diag_error(c->diag, n->name_span, "there is no pipe '%s'%s%s%s", n->name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static const char *loops_text(struct check *c)
{
    const char *text = "";
    for (int i = 0; i < c->loops.n; i++) text = arena_printf(c->arena, "%s%s%s", text, i ? " " : "", c->loops.at[i]->name);
    return text;
}

/* Axes walked around a place that lie outside any slot of the pipe still count: a slot is acquired once a trip. */
static void record(struct check *c, struct node *n, bool produces)
{
    struct pipe_use use = { n->decl, c->role, n, loops_text(c), produces };
    vec_push(c->arena, &c->uses, use);
}

static struct sym *field_of(struct check *c, struct node *pipe, const char *name)
{
    struct sym *s = check_find(c, name);
    return s && s->kind == SYM_field && s->pipe == pipe ? s : NULL;
}

static void unknown_field(struct check *c, struct node *pipe, struct node *left)
{
    const char *names[64];
    int n = 0;
    for (int i = 0; i < pipe->list.n && n < 64; i++) names[n++] = pipe->list.at[i]->name;
    const char *near = diag_nearest(left->name, names, n);
    diag_error(c->diag, left->name_span, "pipe '%s' has no field '%s'%s%s%s", pipe->name, left->name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    diag_note(c->diag, pipe->name_span, "produce assigns the fields of this pipe and nothing else");
}

/* The axes a slot's field spans, from its declaration. */
static struct sym_set field_axes(struct check *c, struct sym *s)
{
    struct sym_set over = { 0 };
    for (int i = 0; i < s->dims.n; i++) {
        struct node *d = s->dims.at[i];
        while (d->kind == N_binary) d = d->a;
        struct sym *axis = d->kind == N_name ? check_find(c, d->name) : NULL;
        if (axis && axis->kind == SYM_axis) check_set_add(c, &over, axis);
    }
    return over;
}

static void fill(struct check *c, struct node *pipe, struct node *n)
{
    struct sym *s = field_of(c, pipe, n->a->name);
    if (!s) {
        unknown_field(c, pipe, n->a);
        check_expr(c, n->b);
        return;
    }
    n->a->decl = s->decl;
    if (n->flag) diag_error(c->diag, n->span, "a field is filled with '='; a slot holds nothing to add to");
    bool alike = n->a->kind == N_name || n->a->list.n == s->dims.n;
    for (int i = 0; alike && n->a->kind == N_index && i < s->dims.n; i++) alike = check_same(n->a->list.at[i], s->dims.at[i]);
    if (!alike) {
        diag_error(c->diag, n->a->span, "'%s' is filled whole, with the indices it is declared with", s->name);
        diag_note(c->diag, s->at, "declared here");
    } else if (n->a->kind == N_index) {
        for (int i = 0; i < n->a->list.n; i++) check_expr(c, n->a->list.at[i]);
    }
    struct info value = check_expr(c, n->b), other = check_expr(c, n->d);
    struct sym_set over = field_axes(c, s);
    for (int i = 0; i < value.free.list.n && !value.bad; i++) {
        struct sym *axis = value.free.list.at[i];
        if (axis->kind != SYM_axis || check_set_has(&over, axis)) continue;
        diag_error(c->diag, n->b->span, "'%s' is in the value, but slot '%s' does not hold it", axis->name, s->name);
        diag_note(c->diag, s->at, "declared here");
        value.bad = true;
    }
    check_mask(c, n->c, &over);
    check_stored(c, s->name, s->ty, value, n->b);
    if (n->d) check_stored(c, s->name, s->ty, other, n->d);
}

static bool pipe_allowed(struct check *c, struct node *n)
{
    if (!n->decl) return false;
    for (int i = 0; i < c->held.n; i++)
        if (c->held.at[i] == n->decl) {
            diag_error(c->diag, n->name_span, "pipe '%s' is consumed around this place already", n->name);
            return false;
        }
    return true;
}

void check_produce(struct check *c, struct node *n)
{
    find_pipe(c, n);
    if (!pipe_allowed(c, n)) return;
    record(c, n, true);
    struct node *pipe = n->decl, *before = c->filling;
    c->filling = pipe;
    for (int i = 0; i < n->a->list.n; i++) {
        struct node *x = n->a->list.at[i];
        if (x->kind == N_assign) {
            fill(c, pipe, x);
            for (int k = 0; k < i; k++) {
                struct node *first = n->a->list.at[k];
                if (first->kind != N_assign || first->a->name != x->a->name) continue;
                diag_error(c->diag, x->a->span, "field '%s' is filled twice", x->a->name);
                diag_note(c->diag, first->a->span, "here first");
            }
        } else {
            diag_error(c->diag, x->span, "produce holds assignments to the fields of '%s' and nothing else", pipe->name);
            diag_note(c->diag, x->span, "compute before it, and write 'field = value'");
        }
    }
    for (int i = 0; i < pipe->list.n; i++) {
        bool filled = false;
        for (int k = 0; k < n->a->list.n; k++) {
            struct node *x = n->a->list.at[k];
            filled |= x->kind == N_assign && x->a->name == pipe->list.at[i]->name;
        }
        if (filled) continue;
        diag_error(c->diag, n->name_span, "field '%s' of pipe '%s' is not filled", pipe->list.at[i]->name, pipe->name);
        diag_note(c->diag, pipe->list.at[i]->name_span, "declared here; every produce fills all fields");
    }
    c->filling = before;
}

void check_consume(struct check *c, struct node *n)
{
    find_pipe(c, n);
    bool allowed = pipe_allowed(c, n);
    if (allowed) record(c, n, false);
    if (n->decl) vec_push(c->arena, &c->held, n->decl);
    struct scope scope;
    check_open(c, &scope);
    check_stmt(c, n->a);
    check_close(c);
    if (n->decl) c->held.n--;
}

/* Roles */

static const char *const widths[] = { "warps", "warpgroups" };

void check_role_width(struct check *c, const nodes *settings)
{
    for (int i = 0; i < settings->n; i++) {
        struct node *s = settings->at[i];
        if (!strcmp(s->name, "warps") || !strcmp(s->name, "warpgroups")) continue;
        const char *near = diag_nearest(s->name, widths, COUNT(widths));
        diag_error(c->diag, s->name_span, "a role has no '%s'%s%s%s", s->name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
        if (!near) diag_note(c->diag, s->name_span, "warps = 4, warps = 4x2 and warpgroups = 2 say how wide it is");
    }
}

/* Tiles and accumulators of all roles, for hints about names that exist elsewhere. */
struct gather {
    struct check *c;
    struct node *role;
};
static void gather_name(struct node *n, void *ctx)
{
    struct gather *g = ctx;
    if (n->kind != N_tile && n->kind != N_accum && n->kind != N_var) return;
    struct sym *s = new(g->c->arena, struct sym);
    *s = (struct sym){ .name = n->name, .kind = n->kind == N_tile ? SYM_tile : n->kind == N_accum ? SYM_accum : SYM_var,
                       .at = n->name_span, .role = g->role, .decl = n, .node = n };
    vec_push(g->c->arena, &g->c->elsewhere, s);
}

static void one_role(struct check *c, struct node *role)
{
    c->role = role;
    c->place = IN_HOST;
    for (int i = 0; i < role->list2.n; i++) check_truth(c, role->list2.at[i], "when");
    check_role_width(c, &role->list);
    c->place = IN_ROLE;
    check_block(c, role->a);
    c->role = NULL;
    c->place = IN_KERNEL;
}

static void one_pipe(struct check *c, struct node *pipe)
{
    struct pipe_use *first = NULL, *reader = NULL;
    for (int i = 0; i < c->uses.n; i++) {
        struct pipe_use *u = &c->uses.at[i];
        if (u->pipe != pipe) continue;
        if (u->produces && !first) first = u;
        else if (u->produces && first->role != u->role) {
            diag_error(c->diag, u->stmt->name_span, "pipe '%s' is produced in two roles, '%s' and '%s'", pipe->name, first->role->name, u->role->name);
            diag_note(c->diag, first->stmt->name_span, "here first; one role fills a pipe");
        }
        if (!u->produces) reader = u;
    }
    if (!first && !reader) diag_error(c->diag, pipe->name_span, "pipe '%s' is never used", pipe->name);
    else if (!first) diag_error(c->diag, pipe->name_span, "pipe '%s' is consumed but never produced", pipe->name);
    else if (!reader) diag_error(c->diag, pipe->name_span, "pipe '%s' is produced but never consumed: its producer would wait for ever", pipe->name);
    for (int i = 0; i < c->uses.n && first; i++) {
        struct pipe_use *u = &c->uses.at[i];
        if (u->pipe != pipe || u->produces) continue;
        if (u->role == first->role) {
            diag_error(c->diag, u->stmt->name_span, "role '%s' both produces and consumes pipe '%s'", u->role->name, pipe->name);
            diag_note(c->diag, first->stmt->name_span, "produced here; a pipe leads from one role to others");
            continue;
        }
        bool agrees = false;
        for (int k = 0; k < c->uses.n; k++) {
            struct pipe_use *p = &c->uses.at[k];
            agrees |= p->pipe == pipe && p->produces && !strcmp(p->loops, u->loops);
        }
        if (agrees) continue;
        diag_error(c->diag, u->stmt->name_span, "pipe '%s' is consumed once for each [%s], but produced once for each [%s]", pipe->name, u->loops, first->loops);
        diag_note(c->diag, first->stmt->name_span, "produced here; both sides walk the same axes");
    }
}

void check_roles(struct check *c)
{
    for (int i = 0; i < c->roles.n; i++) {
        struct gather g = { c, c->roles.at[i] };
        check_walk(c->roles.at[i]->a, gather_name, &g);
        for (int k = 0; k < i; k++) {
            if (c->roles.at[k]->name != c->roles.at[i]->name) continue;
            diag_error(c->diag, c->roles.at[i]->name_span, "role '%s' is declared a second time", c->roles.at[i]->name);
            diag_note(c->diag, c->roles.at[k]->name_span, "it is a role, declared here");
        }
    }
    for (int i = 0; i < c->roles.n; i++) one_role(c, c->roles.at[i]);
    nodes *items = &c->kernel->b->list;
    for (int i = 0; i < items->n; i++)
        if (items->at[i]->kind == N_pipe) one_pipe(c, items->at[i]);
}
