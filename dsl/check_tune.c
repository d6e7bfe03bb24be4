/* check_tune - tuning values and what steers the mapping. */
#include <string.h>

#include "dsl/check.h"

/* The target table lies to the right of this folder; where it is linked in, targets are checked by it. */
struct target;
extern const struct target *target_find(const char *name) __attribute__((weak));

/* What mapping words speak of. */
static bool is_grid_axis(struct check *c, const char *name)
{
    struct sym *s = check_find(c, name);
    return s && s->kind == SYM_axis && (s->in_grid || s->fixed);
}
static bool is_axis(struct check *c, const char *name)
{
    struct sym *s = check_find(c, name);
    return s && s->kind == SYM_axis;
}
static bool is_axis_or_tasks(struct check *c, const char *name)
{
    return is_axis(c, name) || !strcmp(name, "tasks");
}
static bool is_role(struct check *c, const char *name)
{
    for (int i = 0; i < c->roles.n; i++)
        if (!strcmp(c->roles.at[i]->name, name)) return true;
    return false;
}
struct finds {
    const char *name;
    bool found;
};
static void finds_accum(struct node *n, void *ctx)
{
    struct finds *f = ctx;
    f->found |= n->kind == N_accum && !strcmp(n->name, f->name);
}
static bool is_accum(struct check *c, const char *name)
{
    struct finds f = { name, false };
    for (int i = 0; i < c->roles.n; i++) check_walk(c->roles.at[i]->a, finds_accum, &f);
    return f.found;
}
static bool is_tensor(struct check *c, const char *name)
{
    struct sym *s = check_find(c, name);
    return s && s->kind == SYM_arg && s->dims.n;
}

static const struct {
    const char *word;
    bool (*fits)(struct check *, const char *);
    const char *wants;
} mappings[] = {
    { "role", is_role, "a role" },
    { "cluster", is_grid_axis, "an axis of the grid" },
    { "deal", is_axis_or_tasks, "an axis, or tasks" },
    { "unroll", is_axis, "an axis" },
    { "slots", is_accum, "an accumulator" },
    { "flip", is_accum, "an accumulator" },
    { "cache", is_tensor, "a tensor" },
    { "ahead", is_tensor, "a tensor" },
    { "boxes", is_tensor, "a tensor" },
};
static const char *const cache_words[] = {
#define CACHE(word, priority, meaning) #word,
#include "dsl/cache.def"
};

static void set(struct check *c, struct node *n, bool words)
{
    for (int i = 0; n && i < n->list.n; i++) {
        struct node *x = n->list.at[i];
        if (x->kind == N_shape) continue;
        if (x->kind == N_range) {
            check_integer(c, x->a, "a bound");
            check_integer(c, x->b, "a bound");
            check_positive(c, x->c, "a step");
            if (x->a->kind == N_int && x->b->kind == N_int && x->a->num > x->b->num)
                diag_error(c->diag, x->span, "this range is empty: %lld is more than %lld", (long long)x->a->num, (long long)x->b->num);
            continue;
        }
        if (!words) {
            check_integer(c, x, "a choice");
            continue;
        }
        bool known = false;
        for (int k = 0; k < COUNT(cache_words); k++) known |= x->kind == N_name && !strcmp(x->name, cache_words[k]);
        if (!known) diag_error(c->diag, x->span, "a tensor is cached as stream, keep or normal");
    }
    if (n && n->a) check_positive(c, n->a, "a factor");
}

static void mapping(struct check *c, struct node *s)
{
    const char *names[COUNT(mappings)];
    for (int i = 0; i < COUNT(mappings); i++) {
        names[i] = mappings[i].word;
        if (strcmp(s->name, mappings[i].word)) continue;
        c->place = IN_KERNEL;
        if (!mappings[i].fits(c, s->text)) diag_error(c->diag, s->name_span, "%s speaks of %s; '%s' is none", s->name, mappings[i].wants, s->text);
        c->place = IN_HOST;
        check_role_width(c, &s->list);
        for (int k = 0; k < s->list.n; k++) set(c, s->list.at[k]->a, false);
        set(c, s->a, !strcmp(s->name, "cache"));
        return;
    }
    const char *near = diag_nearest(s->name, names, COUNT(mappings));
    diag_error(c->diag, s->name_span, "there is no mapping '%s'%s%s%s", s->name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    if (!near) diag_note(c->diag, s->name_span, "role, cluster, deal, unroll, slots, flip, cache, ahead and boxes steer the mapping");
}

void check_setting(struct check *c, struct node *s, bool declares)
{
    c->place = IN_HOST;
    if (s->text) {
        mapping(c, s);
    } else {
        struct sym *t = check_find(c, s->name);
        if (!declares && (!t || t->kind != SYM_tune)) {
            const char *names[64];
            int n = 0;
            ITEMS(c, tune, u)
            for (int i = 0; i < u->list.n && n < 64; i++)
                if (!u->list.at[i]->text) names[n++] = u->list.at[i]->name;
            const char *near = diag_nearest(s->name, names, n);
            diag_error(c->diag, s->name_span, "'%s' is not a tuning value%s%s%s", s->name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
            if (!near) diag_note(c->diag, s->name_span, "'tune %s = ...' declares it", s->name);
        }
        set(c, s->a, false);
    }
    c->place = IN_KERNEL;
}

void check_on(struct check *c, struct node *n)
{
    for (int i = 0; i < n->list.n; i++) {
        const char *name = n->list.at[i]->name;
        if (!target_find || target_find(name)) continue;
        diag_error(c->diag, n->list.at[i]->span, "there is no target '%s'", name);
        diag_note(c->diag, n->list.at[i]->span, "'dgc targets' lists them");
    }
    for (int i = 0; i < n->list2.n; i++) check_setting(c, n->list2.at[i], false);
}
