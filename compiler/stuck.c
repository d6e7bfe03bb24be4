/* stuck - roles cannot wait for one another forever.
 *
 * The skeleton of a kernel is what its roles do to pipes: acquire, commit, wait, release, under loops and conditions. It is run,
 * two tasks long, with every trip count that depends on data in {0, 1, 2, slots + 1} and every condition both ways; the same
 * loop (over the same axis, or between the same bounds) and the same condition count alike in all roles. As each pipe has one
 * producer and each role is sequential, the order in which roles take turns does not matter: the first stuck state is the only
 * one. It becomes an error that names both lines. */
#include "compiler/passes.h"

#include <string.h>

#define MAX_KEYS 24
#define MAX_RUNS 3000
#define MAX_STEPS 20000 /* of a role, in one run */
#define MAX_ROLES 32

/* A loop or condition whose outcome data decide. */
struct key {
    const struct ir_stmt *stmt;
    bool is_if;
    int choices, value;
};

enum step_kind { STEP_acquire, STEP_commit, STEP_wait, STEP_release };
struct step {
    enum step_kind kind;
    const struct ir_pipe *pipe;
    struct span span;
};
typedef VEC(struct step) steps;

struct skeleton {
    struct pass_state *p;
    struct arena scratch;
    struct key keys[MAX_KEYS];
    int nkeys, most;         /* slots of the deepest pipe */
    bool too_large;
    steps trace[MAX_ROLES];
    int at[MAX_ROLES];
    int *produced, *begun;   /* by pipe */
    int (*waited)[MAX_ROLES], (*released)[MAX_ROLES]; /* by pipe and role */
    bool (*consumes)[MAX_ROLES];
};

static int depth_of(const struct ir_pipe *p) { return p->depth ? p->depth : 2; }

/* ---- which loops and conditions are the same ---- */

struct definition {
    const struct ir_var *var;
    const struct ir_stmt *let;
    int n;
};

static void find_lets(struct definition *d, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        if (b->at[i]->var == d->var) d->let = b->at[i], d->n++;
        find_lets(d, &b->at[i]->body);
        find_lets(d, &b->at[i]->other);
    }
}

static const struct ir_expr *only_value(const struct ir_fn *fn, const struct ir_var *v)
{
    struct definition d = {.var = v};
    find_lets(&d, &fn->task);
    for (int i = 0; i < fn->roles.n; i++) find_lets(&d, &fn->roles.at[i]->body);
    return d.n == 1 && d.let->kind == S_let ? d.let->expr : NULL;
}

/* Equal wherever both are evaluated for the same task: lets are looked through. */
static bool alike(const struct ir_fn *fn, const struct ir_expr *x, const struct ir_expr *y, int depth)
{
    if (ir_same(x, y)) return true;
    if (depth > 8) return false;
    if (x->kind == E_get && y->kind == E_get) {
        const struct ir_expr *p = only_value(fn, x->var), *q = only_value(fn, y->var);
        return p && q && alike(fn, p, q, depth + 1);
    }
    if (x->kind != y->kind || x->type != y->type || x->nargs != y->nargs || !x->nargs || x->num != y->num || x->axis != y->axis ||
        x->tensor != y->tensor || x->field != y->field || x->shared != y->shared || x->kind == E_call)
        return false;
    for (int i = 0; i < x->nargs; i++)
        if (!alike(fn, x->args[i], y->args[i], depth + 1)) return false;
    return true;
}

static bool same_stmt(const struct ir_fn *fn, const struct ir_stmt *x, const struct ir_stmt *y)
{
    if (x->kind != y->kind) return false;
    if (x->kind != S_for) return alike(fn, x->expr, y->expr, 0);
    if (x->axis || y->axis) return x->axis == y->axis;
    return alike(fn, x->expr, y->expr, 0) && alike(fn, x->expr2, y->expr2, 0) && alike(fn, x->step, y->step, 0);
}

static bool has_pipe(const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->kind == S_produce || s->kind == S_consume || has_pipe(&s->body) || has_pipe(&s->other)) return true;
    }
    return false;
}

static bool fixed_trips(const struct ir_stmt *s, int *n)
{
    int64_t lo, hi, step;
    if (s->kind != S_for || !ir_const_int(s->expr, &lo) || !ir_const_int(s->expr2, &hi) || !ir_const_int(s->step, &step)) return false;
    if (step < 1 || ceil_div(hi - lo, step) > 64) return false;
    *n = hi > lo ? (int)ceil_div(hi - lo, step) : 0;
    return true;
}

static struct key *key_of(struct skeleton *k, const struct ir_stmt *s)
{
    for (int i = 0; i < k->nkeys; i++)
        if (same_stmt(k->p->fn, k->keys[i].stmt, s)) return &k->keys[i];
    return NULL;
}

static void collect(struct skeleton *k, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        int n;
        bool decides = s->kind == S_if || s->kind == S_while || (s->kind == S_for && !fixed_trips(s, &n));
        if (decides && (has_pipe(&s->body) || has_pipe(&s->other)) && !key_of(k, s)) {
            if (k->nkeys == MAX_KEYS) {
                k->too_large = true;
                return;
            }
            k->keys[k->nkeys++] = (struct key){.stmt = s, .is_if = s->kind == S_if, .choices = s->kind == S_if ? 2 : 4};
        }
        collect(k, &s->body);
        collect(k, &s->other);
    }
}

/* ---- a role's steps under one choice ---- */

static void add_step(struct skeleton *k, steps *t, enum step_kind kind, const struct ir_stmt *s)
{
    if (t->n >= MAX_STEPS) {
        k->too_large = true;
        return;
    }
    struct step x = {kind, s->pipe, s->span};
    vec_push(&k->scratch, t, x);
}

static int trips(struct skeleton *k, const struct ir_stmt *s)
{
    int n;
    if (fixed_trips(s, &n)) return n;
    const struct key *key = key_of(k, s);
    if (!key) return 1;
    return key->value < 3 ? key->value : k->most + 1;
}

static void unfold(struct skeleton *k, steps *t, const ir_block *b)
{
    for (int i = 0; i < b->n && !k->too_large; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->kind == S_produce || s->kind == S_consume) {
            bool make = s->kind == S_produce;
            add_step(k, t, make ? STEP_acquire : STEP_wait, s);
            unfold(k, t, &s->body);
            add_step(k, t, make ? STEP_commit : STEP_release, s);
        } else if (s->kind == S_if) {
            const struct key *key = key_of(k, s);
            unfold(k, t, key && !key->value ? &s->other : &s->body);
        } else if (has_pipe(&s->body)) {
            bool loop = s->kind == S_for || s->kind == S_while;
            for (int n = loop ? trips(k, s) : 1; n > 0; n--) unfold(k, t, &s->body);
        }
    }
}

/* ---- running ---- */

static int slowest(const struct skeleton *k, int pipe)
{
    int least = k->begun[pipe] + 1, roles = k->p->fn->roles.n;
    for (int r = 0; r < roles; r++)
        if (k->consumes[pipe][r] && k->released[pipe][r] < least) least = k->released[pipe][r];
    return least;
}

static bool can_step(const struct skeleton *k, int role, const struct step *s)
{
    int p = s->pipe->id;
    if (s->kind == STEP_acquire) return k->begun[p] - slowest(k, p) < depth_of(s->pipe);
    return s->kind != STEP_wait || k->waited[p][role] < k->produced[p];
}

static void take_step(struct skeleton *k, int role, const struct step *s)
{
    int p = s->pipe->id;
    switch (s->kind) {
    case STEP_acquire: k->begun[p]++; break;
    case STEP_commit: k->produced[p]++; break;
    case STEP_wait: k->waited[p][role]++; break;
    case STEP_release: k->released[p][role]++; break;
    }
}

static const char *choice_text(struct skeleton *k)
{
    const char *t = "";
    for (int i = 0; i < k->nkeys; i++) {
        const struct key *key = &k->keys[i];
        int n = key->value < 3 ? key->value : k->most + 1;
        const char *what = key->stmt->axis ? key->stmt->axis->name : key->stmt->kind == S_for ? key->stmt->var->name : "a while";
        const char *one = key->is_if ? arena_printf(&k->scratch, "a condition is %s", key->value ? "true" : "false")
                                     : arena_printf(&k->scratch, "the loop over %s runs %d time%s", what, n, n == 1 ? "" : "s");
        t = arena_printf(&k->scratch, "%s%s%s", t, i ? ", " : "", one);
    }
    return *t ? t : "always";
}

static void report_wait(struct skeleton *k, int role, bool first)
{
    const struct ir_role *r = k->p->fn->roles.at[role];
    const steps *t = &k->trace[role];
    if (k->at[role] < t->n) {
        const struct step *s = &t->at[k->at[role]];
        const char *what = s->kind == STEP_acquire ? "a free slot" : "the next slot";
        if (first) diag_error(k->p->diag, s->span, "role '%s' waits here forever for %s of pipe '%s'", r->name, what, s->pipe->name);
        else diag_note(k->p->diag, s->span, "while role '%s' waits here for %s of pipe '%s'", r->name, what, s->pipe->name);
    } else if (!first) diag_note(k->p->diag, r->span, "while role '%s' has ended", r->name);
}

static void report_stuck(struct skeleton *k)
{
    bool first = true;
    for (int r = 0; r < k->p->fn->roles.n; r++) {
        if (k->at[r] >= k->trace[r].n) continue;
        report_wait(k, r, first);
        first = false;
    }
    for (int r = 0; r < k->p->fn->roles.n; r++)
        if (k->at[r] >= k->trace[r].n && has_pipe(&k->p->fn->roles.at[r]->body)) report_wait(k, r, false);
    diag_note(k->p->diag, k->p->fn->span, "this happens when %s", choice_text(k));
}

/* Slots that nobody takes stay for the next task: the roles would drift apart. */
static bool report_left(struct skeleton *k)
{
    const struct ir_fn *fn = k->p->fn;
    for (int p = 0; p < fn->pipes.n; p++)
        for (int r = 0; r < fn->roles.n; r++) {
            if (!k->consumes[p][r] || k->waited[p][r] == k->produced[p]) continue;
            diag_error(k->p->diag, fn->pipes.at[p]->span, "pipe '%s' is filled %d times in two tasks, role '%s' takes %d",
                       fn->pipes.at[p]->name, k->produced[p], fn->roles.at[r]->name, k->waited[p][r]);
            diag_note(k->p->diag, fn->span, "this happens when %s", choice_text(k));
            return true;
        }
    return false;
}

static void reset(struct skeleton *k)
{
    const struct ir_fn *fn = k->p->fn;
    size_t n = (size_t)fn->pipes.n;
    memset(k->produced, 0, sizeof *k->produced * n);
    memset(k->begun, 0, sizeof *k->begun * n);
    memset(k->waited, 0, sizeof *k->waited * n);
    memset(k->released, 0, sizeof *k->released * n);
    for (int r = 0; r < fn->roles.n; r++) {
        k->trace[r].n = k->at[r] = 0;
        for (int task = 0; task < 2; task++) unfold(k, &k->trace[r], &fn->roles.at[r]->body);
    }
}

/* False with an error when the roles get stuck under this choice. */
static bool run(struct skeleton *k)
{
    int roles = k->p->fn->roles.n;
    bool moved = true, ended = true;
    reset(k);
    if (k->too_large) return true;
    while (moved) {
        moved = false;
        for (int r = 0; r < roles; r++)
            while (k->at[r] < k->trace[r].n && can_step(k, r, &k->trace[r].at[k->at[r]])) {
                take_step(k, r, &k->trace[r].at[k->at[r]++]);
                moved = true;
            }
    }
    for (int r = 0; r < roles; r++) ended &= k->at[r] >= k->trace[r].n;
    if (!ended) report_stuck(k);
    return ended && !report_left(k);
}

static bool next_choice(struct skeleton *k)
{
    for (int i = 0; i < k->nkeys; i++) {
        if (++k->keys[i].value < k->keys[i].choices) return true;
        k->keys[i].value = 0;
    }
    return false;
}

static void mark_consumers(struct skeleton *k, int role, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        if (b->at[i]->kind == S_consume) k->consumes[b->at[i]->pipe->id][role] = true;
        mark_consumers(k, role, &b->at[i]->body);
        mark_consumers(k, role, &b->at[i]->other);
    }
}

static void prepare(struct skeleton *k)
{
    const struct ir_fn *fn = k->p->fn;
    struct arena *a = &k->scratch;
    k->produced = new_n(a, int, fn->pipes.n);
    k->begun = new_n(a, int, fn->pipes.n);
    k->waited = arena_alloc(a, sizeof *k->waited * (size_t)fn->pipes.n);
    k->released = arena_alloc(a, sizeof *k->released * (size_t)fn->pipes.n);
    k->consumes = arena_alloc(a, sizeof *k->consumes * (size_t)fn->pipes.n);
    for (int p = 0; p < fn->pipes.n; p++)
        if (depth_of(fn->pipes.at[p]) > k->most) k->most = depth_of(fn->pipes.at[p]);
    for (int r = 0; r < fn->roles.n; r++) {
        mark_consumers(k, r, &fn->roles.at[r]->body);
        collect(k, &fn->roles.at[r]->body);
    }
}

void pass_stuck(struct pass_state *p)
{
    if (!p->fn->pipes.n || p->fn->roles.n > MAX_ROLES) return;
    struct skeleton k = {.p = p};
    prepare(&k);
    for (int n = 0; n < MAX_RUNS && !k.too_large; n++)
        if (!run(&k) || !next_choice(&k)) break;
    arena_free(&k.scratch);
}
