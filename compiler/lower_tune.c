/* lower_tune - tune values and mapping words: what may be chosen, and what is.
 *
 * `tune` lists hold for every target, `on` lists for theirs; a later list replaces an earlier one of the same name, and one
 * `on` the target itself replaces one `on` a target it is like. Choices stand in order of preference. */
#include "compiler/lower.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tuning *find_key(struct lower *L, const char *key)
{
    for (int i = 0; i < L->tunings.n; i++)
        if (L->tunings.at[i].key == key) return &L->tunings.at[i];
    return NULL;
}

static void add(struct lower *L, const char *key, const char *word, const char *subject, struct node *set, struct span at)
{
    struct tuning *t = find_key(L, intern(key));
    if (!t) {
        struct tuning blank = {.key = intern(key), .word = word, .subject = subject};
        vec_push(L->a, &L->tunings, blank);
        t = &L->tunings.at[L->tunings.n - 1];
    }
    t->set = set;
    t->span = at;
}

/* A role's width is given in one way: the later word replaces the earlier one. */
static void forget_other_width(struct lower *L, const char *role, const char *word)
{
    const char *other = !strcmp(word, "warps") ? "warpgroups" : !strcmp(word, "warpgroups") ? "warps" : NULL;
    struct tuning *t = other ? find_key(L, intern(arena_printf(L->a, "%s.%s", role, other))) : NULL;
    if (!t) return;
    int i = (int)(t - L->tunings.at);
    memmove(t, t + 1, sizeof *t * (size_t)(L->tunings.n - i - 1));
    L->tunings.n--;
}

static void add_role(struct lower *L, const char *role, const nodes *settings)
{
    for (int i = 0; i < settings->n; i++) {
        struct node *s = settings->at[i];
        forget_other_width(L, role, s->name);
        add(L, arena_printf(L->a, "%s.%s", role, s->name), s->name, role, s->a, s->span);
    }
}

static void add_settings(struct lower *L, const nodes *list)
{
    for (int i = 0; i < list->n; i++) {
        struct node *s = list->at[i];
        if (!strcmp(s->name, "role")) add_role(L, s->text, &s->list);
        else if (s->text) add(L, arena_printf(L->a, "%s(%s)", s->name, s->text), s->name, s->text, s->a, s->span);
        else add(L, s->name, NULL, NULL, s->a, s->span);
    }
}

static bool names_target(struct lower *L, const struct node *on, bool itself)
{
    for (int i = 0; i < on->list.n; i++) {
        const char *name = on->list.at[i]->name;
        bool same = !strcmp(name, L->target->name);
        if (itself ? same : !same && target_matches(L->target, name)) return true;
    }
    return false;
}

static void give_from_options(struct lower *L)
{
    for (int i = 0; i < L->o->n_tune; i++) {
        struct tuning *t = find_key(L, intern(L->o->tune[i].name));
        if (t) {
            t->given = L->o->tune[i].value;
            continue;
        }
        const char *list = "";
        for (int k = 0; k < L->tunings.n; k++) list = arena_printf(L->a, "%s%s%s", list, k ? ", " : "", L->tunings.at[k].key);
        diag_error(L->d, L->kernel->name_span, "kernel '%s' has no tune value '%s' for %s", L->kernel->name, L->o->tune[i].name, L->target->name);
        diag_note(L->d, L->kernel->name_span, "it has %s", *list ? list : "none");
    }
}

void tune_collect(struct lower *L)
{
    const nodes *items = &L->kernel->b->list;
    for (int i = 0; i < items->n; i++)
        if (items->at[i]->kind == N_role) add_role(L, items->at[i]->name, &items->at[i]->list);
    for (int i = 0; i < items->n; i++)
        if (items->at[i]->kind == N_tune) add_settings(L, &items->at[i]->list);
    for (int itself = 0; itself < 2; itself++)
        for (int i = 0; i < items->n; i++)
            if (items->at[i]->kind == N_on && names_target(L, items->at[i], itself)) add_settings(L, &items->at[i]->list2);
    give_from_options(L);
}

/* ---- choices ---- */

static void push(struct lower *L, struct tuning *t, struct choice c)
{
    if (!c.text) c.text = c.n ? arena_printf(L->a, "%lldx%lld", (long long)c.num, (long long)c.n)
                              : c.word ? c.word : arena_printf(L->a, "%lld", (long long)c.num);
    for (int i = 0; i < t->choices.n; i++)
        if (!strcmp(t->choices.at[i].text, c.text)) return;
    vec_push(L->a, &t->choices, c);
}

static bool not_known(struct lower *L, const struct tuning *t, const struct node *n)
{
    diag_error(L->d, n->span, "a choice of '%s' must be known at compile time; '%s' is not", t->key, lower_text(L, n->span));
    diag_note(L->d, n->span, "specialise the dimensions it is made of, or give %s with the call", t->key);
    return false;
}

/* Each returns the part of the set that is not known at compile time; NULL: all of it is. */
static const struct node *push_range(struct lower *L, struct tuning *t, const struct node *n, int64_t times)
{
    int64_t lo, hi, step = 1;
    if (!lower_static(L, n->a, &lo)) return n->a;
    if (!lower_static(L, n->b, &hi)) return n->b;
    if (n->c && !lower_static(L, n->c, &step)) return n->c;
    for (int64_t v = lo; step > 0 && v <= hi && t->choices.n < 4096; v += step) push(L, t, (struct choice){.num = v * times});
    return NULL;
}

static const struct node *push_node(struct lower *L, struct tuning *t, const struct node *n, int64_t times)
{
    int64_t v;
    if (n->kind == N_range) return push_range(L, t, n, times);
    if (n->kind == N_shape) push(L, t, (struct choice){.num = n->num, .n = (int64_t)n->real});
    else if (lower_static(L, n, &v)) push(L, t, (struct choice){.num = v * times});
    else if (n->kind == N_name && t->word && !lower_find(L, n->name)) push(L, t, (struct choice){.word = n->name});
    else return n;
    return NULL;
}

static const struct node *push_set(struct lower *L, struct tuning *t)
{
    int64_t times = 1;
    const struct node *unknown = t->set->a && !lower_static(L, t->set->a, &times) ? t->set->a : NULL;
    for (int i = 0; !unknown && i < t->set->list.n; i++) unknown = push_node(L, t, t->set->list.at[i], times);
    return unknown;
}

/* A size below one is no choice. */
static void drop_empty(struct tuning *t)
{
    int n = 0;
    for (int i = 0; i < t->choices.n; i++)
        if (t->word || t->choices.at[i].num > 0) t->choices.at[n++] = t->choices.at[i];
    t->choices.n = n;
}

/* ---- given with the call ---- */

static bool read_given(struct lower *L, const struct tuning *t, struct choice *c)
{
    long long m, n;
    int end = 0;
    char *rest;
    *c = (struct choice){ .n = 0 };
    if (sscanf(t->given, "%lldx%lld%n", &m, &n, &end) == 2 && !t->given[end]) return c->num = m, c->n = n, true;
    c->num = strtoll(t->given, &rest, 0);
    if (*t->given && !*rest) return true;
    c->num = 0;
    if (t->word) return c->word = intern(t->given), true;
    diag_error(L->d, t->span, "'%s' cannot be '%s', which is no whole number", t->key, t->given);
    return false;
}

static bool not_in_set(struct lower *L, const struct tuning *t)
{
    struct buf list = { 0 };
    for (int i = 0; i < t->choices.n; i++) buf_printf(&list, "%s%s", i ? ", " : "", t->choices.at[i].text);
    diag_error(L->d, t->span, "'%s' cannot be %s; for %s its set is {%s}", t->key, t->given, L->target->name, list.at ? list.at : "");
    buf_free(&list);
    return false;
}

/* The given value is the only choice. It must be one of the author's, as far as these are known at compile time. */
static bool take_given(struct lower *L, struct tuning *t, bool known)
{
    struct choice c;
    bool found = !known;
    if (!read_given(L, t, &c)) return false;
    for (int i = 0; i < t->choices.n; i++) {
        const struct choice *x = &t->choices.at[i];
        found |= x->num == c.num && x->n == c.n && x->word == c.word;
    }
    if (!found) return not_in_set(L, t);
    t->choices.n = 0;
    push(L, t, c);
    return true;
}

bool tune_choices(struct lower *L, struct tuning *t)
{
    const struct node *unknown = push_set(L, t);
    drop_empty(t);
    if (t->given) return take_given(L, t, !unknown);
    if (unknown) return not_known(L, t, unknown);
    if (t->choices.n) return true;
    diag_error(L->d, t->span, "'%s' has no choice that is possible", t->key);
    return false;
}

const struct choice *tune_mapping(struct lower *L, const char *word, const char *subject)
{
    for (int i = 0; i < L->tunings.n; i++) {
        struct tuning *t = &L->tunings.at[i];
        if (t->word && t->choices.n && !strcmp(t->word, word) && !strcmp(t->subject, subject)) return &t->choices.at[t->pick];
    }
    return NULL;
}

int64_t tune_number(struct lower *L, const char *word, const char *subject, int64_t otherwise)
{
    const struct choice *c = tune_mapping(L, word, subject);
    return c && !c->word ? c->num : otherwise;
}

/* ---- does it fit ---- */

static int64_t field_bytes(const struct ir_field *f)
{
    int64_t n = 1;
    for (int i = 0; i < f->naxes; i++) n *= f->axes[i]->tile;
    return (n * type_bits(f->type) + 7) / 8;
}

static bool pipes_fit(struct lower *L)
{
    int64_t bytes = 0;
    for (int p = 0; p < L->fn->pipes.n; p++) {
        const struct ir_pipe *pipe = L->fn->pipes.at[p];
        int64_t slot = 0;
        for (int f = 0; f < pipe->fields.n; f++) slot += (field_bytes(pipe->fields.at[f]) + 127) / 128 * 128;
        bytes += slot * (pipe->depth ? pipe->depth : 1);
    }
    if (bytes + 1024 <= L->target->smem_bytes) return true;
    L->unfit = arena_printf(L->a, "its pipes need %lld bytes of shared memory with one slot where the depth is auto, %s has %d",
                            (long long)bytes, L->target->name, L->target->smem_bytes);
    return false;
}

static int64_t var_elements(const struct ir_var *v)
{
    int64_t n = 1;
    for (int i = 0; i < v->naxes; i++) n *= v->axes[i]->tile;
    return n;
}

/* Rows of a product that is made anew each time, 0: it is no such, or its rows are not one axis. */
static int fresh_rows(const ir_block *b, const struct ir_var *v)
{
    int rows = 0;
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->kind == S_mma && s->var == v && !s->flag) rows = v->axes[0]->tile;
        int in = fresh_rows(&s->body, v), other = fresh_rows(&s->other, v);
        rows = rows > in ? rows : in;
        rows = rows > other ? rows : other;
    }
    return rows;
}

/* Accumulators in registers share them with everything else: about 200 a thread are theirs, in eight warps unless told. Where
 * warpgroups multiply, a fresh product takes those of a strip of 64 rows a warpgroup (strips.c). */
static bool accumulators_fit(struct lower *L)
{
    int64_t elements = 0;
    int warps = 8;
    if (target_has(L->target, HAS_TCGEN05)) return true;
    for (int i = 0; i < L->fn->roles.n; i++) {
        const struct ir_role *r = L->fn->roles.at[i];
        if (r->warps_m * r->warps_n > warps) warps = r->warps_m * r->warps_n;
    }
    for (int i = 0; i < L->fn->vars.n; i++) {
        const struct ir_var *v = L->fn->vars.at[i];
        int rows = 0, strip = 16 * warps;
        if (!v->accum) continue;
        for (int k = 0; target_has(L->target, HAS_WGMMA) && k < L->fn->roles.n; k++) rows += fresh_rows(&L->fn->roles.at[k]->body, v);
        elements += rows > strip && rows % strip == 0 ? var_elements(v) / rows * strip : var_elements(v);
    }
    int each = warps <= 8 ? 200 : 1888 / warps - 36; /* more warps have less: 64K registers are shared out */
    if (elements <= (int64_t)warps * 32 * each) return true;
    L->unfit = arena_printf(L->a, "its accumulators hold %lld elements, more than %d warps have registers for", (long long)elements, warps);
    return false;
}

bool lower_fits(struct lower *L) { return pipes_fit(L) && accumulators_fit(L); }
