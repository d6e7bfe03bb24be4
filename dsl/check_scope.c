/* check_scope - names: scopes, declarations, and what an unknown name may have meant. */
#include "dsl/check.h"

#include <string.h>

static const char *const sym_what[] = {
#define SYM(kind, what) what,
    SYMS(SYM)
#undef SYM
};

const char *check_sym_what(const struct sym *s)
{
    return sym_what[s->kind];
}

bool check_set_has(const struct sym_set *set, const struct sym *s)
{
    for (int i = 0; i < set->list.n; i++)
        if (set->list.at[i] == s) return true;
    return false;
}

void check_set_add(struct check *c, struct sym_set *set, struct sym *s)
{
    if (!check_set_has(set, s)) vec_push(c->arena, &set->list, s);
}

void check_set_join(struct check *c, struct sym_set *to, const struct sym_set *from)
{
    for (int i = 0; i < from->list.n; i++) check_set_add(c, to, from->list.at[i]);
}

const char *check_set_text(struct check *c, const struct sym_set *set)
{
    const char *text = "";
    for (int i = 0; i < set->list.n; i++) text = arena_printf(c->arena, "%s%s%s", text, i ? ", " : "", set->list.at[i]->name);
    return text;
}

void check_open(struct check *c, struct scope *s)
{
    *s = (struct scope){ .up = c->scope };
    c->scope = s;
}

void check_close(struct check *c)
{
    c->scope = c->scope->up;
}

/* What an outer declaration is to this place. A spec speaks of the problem: tiles and tasks mean nothing to it. */
static bool visible(const struct sym *s, enum place place)
{
    switch (s->kind) {
    case SYM_axis: case SYM_task: case SYM_field: case SYM_shared: case SYM_accum: case SYM_tile:
        return !(place & (IN_SPEC | IN_GIVEN | IN_CHECK | IN_HOST));
    case SYM_let: case SYM_var:
        return !(place & (IN_SPEC | IN_GIVEN | IN_HOST));
    case SYM_tune: return !(place & (IN_SPEC | IN_GIVEN | IN_CHECK));
    case SYM_view: return !(place & IN_HOST);
    default: return true;
    }
}

static struct sym *find_any(const struct check *c, const char *name)
{
    for (struct scope *s = c->scope; s; s = s->up)
        for (int i = 0; i < s->syms.n; i++)
            if (s->syms.at[i]->name == name) return s->syms.at[i];
    return NULL;
}

struct sym *check_find(struct check *c, const char *name)
{
    struct sym *s = find_any(c, name);
    return s && visible(s, c->place) ? s : NULL;
}

/* A letter is local to a sum, view or spec and may hide what the kernel calls by that name; other names may not. */
static struct sym *clash(struct check *c, enum sym_kind kind, const char *name)
{
    if (kind == SYM_letter) {
        for (int i = 0; i < c->scope->syms.n; i++)
            if (c->scope->syms.at[i]->name == name && c->scope->syms.at[i]->kind != SYM_bad) return c->scope->syms.at[i];
        return NULL;
    }
    struct sym *s = check_find(c, name);
    bool idle = s && s->kind == SYM_field && c->place != IN_KERNEL && c->place != IN_HOST && c->filling != s->pipe;
    for (int i = 0; idle && i < c->held.n; i++) idle = c->held.at[i] != s->pipe;
    return s && s->kind != SYM_bad && !idle ? s : NULL; /* a field may be hidden where its slot is not at hand */
}

struct sym *check_declare(struct check *c, enum sym_kind kind, const char *name, struct span at, struct node *node)
{
    struct sym *first = clash(c, kind, name);
    if (first) {
        diag_error(c->diag, at, "'%s' is declared a second time", name);
        diag_note(c->diag, first->at, "it is %s, declared here", check_sym_what(first));
    }
    struct sym *s = new(c->arena, struct sym);
    *s = (struct sym){ .name = name, .kind = kind, .decl = node, .node = node, .at = at };
    if (!first) vec_push(c->arena, &c->scope->syms, s); /* else the name keeps its first meaning */
    return s;
}

/* The nearest of all the names that could stand here. */
static const char *nearest(struct check *c, const char *name)
{
    VEC(const char *) names = { 0 };
    for (struct scope *s = c->scope; s; s = s->up)
        for (int i = 0; i < s->syms.n; i++)
            if (s->syms.at[i]->kind != SYM_bad && visible(s->syms.at[i], c->place)) vec_push(c->arena, &names, s->syms.at[i]->name);
    return diag_nearest(name, names.at, names.n);
}

static void note_elsewhere(struct check *c, struct node *n)
{
    for (int i = 0; i < c->elsewhere.n; i++) {
        struct sym *s = c->elsewhere.at[i];
        if (s->name != n->name) continue;
        if (s->role == c->role) diag_note(c->diag, s->at, "%s of this name is declared here, in another block", check_sym_what(s));
        else diag_note(c->diag, s->at, "role '%s' has %s of this name; a role sees another's values through pipes only", s->role->name, check_sym_what(s));
        return;
    }
}

struct sym *check_use(struct check *c, struct node *n)
{
    struct sym *s = find_any(c, n->name);
    if (s && visible(s, c->place)) return s;
    struct span at = n->name_span;
    if (s && (c->place & (IN_SPEC | IN_GIVEN | IN_CHECK | IN_HOST))) {
        diag_error(c->diag, at, "'%s' is %s, which is not known here", n->name, check_sym_what(s));
        diag_note(c->diag, s->at, c->place == IN_HOST ? "declared here; this place knows parameters and dimensions only"
                                                      : "declared here; a spec speaks of whole tensors, not of tiles and tasks");
    } else {
        const char *near = nearest(c, n->name);
        diag_error(c->diag, at, "'%s' is not declared%s%s%s", n->name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
        if (!near) note_elsewhere(c, n);
    }
    struct sym *bad = new(c->arena, struct sym); /* so that the next use is silent */
    *bad = (struct sym){ .name = n->name, .kind = SYM_bad, .at = at };
    vec_push(c->arena, &c->scope->syms, bad);
    return bad;
}

struct node *check_callable(struct check *c, const char *name)
{
    for (int i = 0; i < c->callables.n; i++)
        if (c->callables.at[i]->name == name) return c->callables.at[i];
    return NULL;
}

/* LAYOUT == masked: a word that some parameter can be. */
struct node *check_param_word(struct check *c, const char *name)
{
    for (int i = 0; c->kernel && i < c->kernel->list.n; i++) {
        nodes *alts = &c->kernel->list.at[i]->list;
        for (int k = 0; k < alts->n; k++)
            if (alts->at[k]->kind == N_name && alts->at[k]->name == name) return alts->at[k];
    }
    return NULL;
}

bool check_axis_within(const struct sym *axis, const struct sym *outer)
{
    for (int i = 0; axis && i < 64; i++, axis = axis->parent)
        if (axis == outer) return true;
    return false;
}

void check_walk(struct node *n, void (*f)(struct node *n, void *ctx), void *ctx)
{
    if (!n) return;
    f(n, ctx);
    check_walk(n->a, f, ctx);
    check_walk(n->b, f, ctx);
    check_walk(n->c, f, ctx);
    check_walk(n->d, f, ctx);
    for (int i = 0; i < n->list.n; i++) check_walk(n->list.at[i], f, ctx);
    for (int i = 0; i < n->list2.n; i++) check_walk(n->list2.at[i], f, ctx);
}

static bool same_list(const nodes *x, const nodes *y)
{
    if (x->n != y->n) return false;
    for (int i = 0; i < x->n; i++)
        if (!check_same(x->at[i], y->at[i])) return false;
    return true;
}

bool check_same(const struct node *x, const struct node *y)
{
    if (!x || !y) return x == y;
    bool texts = x->text == y->text || (x->text && y->text && !strcmp(x->text, y->text));
    return x->kind == y->kind && x->flag == y->flag && x->type == y->type && x->name == y->name && texts && x->num == y->num &&
           x->real == y->real && check_same(x->a, y->a) && check_same(x->b, y->b) && check_same(x->c, y->c) &&
           check_same(x->d, y->d) && same_list(&x->list, &y->list) && same_list(&x->list2, &y->list2);
}

const char *check_text(struct check *c, const struct node *n)
{
    for (int i = 0; i < c->diag->files.n; i++) {
        struct source_file *f = &c->diag->files.at[i];
        if (n->span.lo >= f->base && n->span.hi <= f->base + f->size)
            return arena_strndup(c->arena, f->text + (n->span.lo - f->base), n->span.hi - n->span.lo);
    }
    return "";
}
