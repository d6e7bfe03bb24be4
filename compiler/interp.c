/* interp - statements, pipes and roles. The roles of a CTA are coroutines: each runs until it waits for a pipe, or ends.
 * CTAs run one after another, so that what must not depend on their order can be seen not to. */
#define _GNU_SOURCE
#include "compiler/interp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define STACK_BYTES (1 << 20)
#define AUTO_DEPTH 2          /* of pipes whose depth the compiler chooses */
#define MOST_STEPS 400000000  /* statements of one role, past which it is said not to end */

/* A pipe of a CTA. A slot is free when every consuming role has released it. */
struct ring {
    const struct ir_pipe *pipe;
    int depth, n_consumers;
    struct interp_slot *slots;
    int64_t produced;
    int64_t *waited, *released; /* by role; -1 where the role does not consume it */
};

/* Parts of one tile of a combine. */
struct group {
    struct group *next;
    const struct ir_stmt *stmt;
    int64_t tile, rank, total, arrived;
    struct interp_part *parts; /* by part number; vars by ir_var.id */
};

struct machine {
    const struct ir_fn *fn;
    struct interp_tensor *args;
    const int64_t *dims;
    struct pool pool;          /* of the CTA that runs */
    struct ring *rings;
    struct interp_shared *shared;
    struct role *roles;
    struct group *groups;
    ucontext_t scheduler;
    bool progress;
    char *error;
    struct span error_at;
};

struct role {
    struct machine *m;
    const struct ir_role *ir;  /* NULL: loose statements */
    int number;
    struct interp_env env;
    struct interp_slot **slots;
    ucontext_t context;
    void *stack;
    struct pool held;          /* tiles that `each` walks */
    int holds;
    bool done;
    int64_t steps;
    const struct ir_stmt *waits; /* the produce or consume it stands at */
};

static void exec_block(struct role *r, const ir_block *b);

/* Ends the role for good: the machine stops when it sees the error. */
static void stop_on_error(struct role *r)
{
    if (!r->env.error) return;
    r->done = true;
    if (r->ir) swapcontext(&r->context, &r->m->scheduler);
}

#define FAIL(r, at, ...) (interp_fail(&(r)->env, at, __VA_ARGS__), stop_on_error(r))

static struct tile eval(struct role *r, const struct ir_expr *e)
{
    struct tile t = interp_eval(&r->env, e);
    stop_on_error(r);
    return t;
}

static int64_t eval_int(struct role *r, const struct ir_expr *e)
{
    int64_t v = interp_eval_int(&r->env, e);
    stop_on_error(r);
    return v;
}

/* variables */

static struct tile *var_room(struct role *r, const struct ir_var *var)
{
    struct tile *t = &r->env.vars[var->id];
    if (t->at) return t;
    t->type = var->type;
    for (int i = 0; i < var->naxes; i++) tile_add_axis(t, var->axes[i], var->axes[i]->of ? var->axes[i]->tile : r->env.axes[var->axes[i]->id].extent);
    tile_room(&r->m->pool, t);
    for (int64_t i = 0; i < t->n; i++) t->at[i] = tile_poison(t->type);
    return t;
}

static void set_cell(struct role *r, const struct ir_var *var, union cell value)
{
    struct tile *t = var_room(r, var);
    for (int64_t i = 0; i < t->n; i++) t->at[i] = value;
}

static void set_int(struct role *r, const struct ir_var *var, int64_t value)
{
    set_cell(r, var, (union cell){ .i = value });
}

static bool covers(const struct tile *t, const struct tile *part)
{
    for (int i = 0; i < part->naxes; i++)
        if (tile_axis(t, part->axes[i]) < 0) return false;
    return true;
}

static void exec_let(struct role *r, const struct ir_stmt *s)
{
    struct tile value = eval(r, s->expr), *t = var_room(r, s->var);
    if (!covers(t, &value)) FAIL(r, s->span, "'%s' is set to a tile with an axis that it lacks", s->var->name);
    tile_broadcast(t, &value);
}

static void exec_bind(struct role *r, const struct ir_stmt *s)
{
    struct interp_axis *x = &r->env.axes[s->axis->id];
    int64_t at = eval_int(r, s->expr), end = eval_int(r, s->expr2);
    if (s->axis->align > 1 && at % s->axis->align)
        FAIL(r, s->span, "axis '%s' begins at %lld, which is no multiple of %d", s->axis->name, (long long)at, s->axis->align);
    x->origin = at;
    x->limit = end;
    if (s->axis->exact && s->axis->tile && at < end && at + s->axis->tile > end)
        FAIL(r, s->span, "axis '%s' is said to be exact, but its tile at %lld ends at %lld", s->axis->name, (long long)at, (long long)end);
}

/* Element loops of stores: all tiles of a statement, over the union of their axes. */
struct elements {
    struct tile whole, value, mask, index[IR_RANK];
    int64_t at_value[IR_RANK], at_mask[IR_RANK], at_index[IR_RANK][IR_RANK];
    int n_index;
    bool has_mask;
};

static void open_elements(struct role *r, const struct ir_stmt *s, struct elements *x)
{
    const struct tile *list[IR_RANK + 2];
    int n = 0;
    x->n_index = s->index.n;
    x->has_mask = s->mask != NULL;
    x->value = eval(r, s->expr);
    list[n++] = &x->value;
    if (s->mask) {
        x->mask = eval(r, s->mask);
        list[n++] = &x->mask;
    }
    for (int i = 0; i < s->index.n; i++) {
        x->index[i] = eval(r, s->index.at[i]);
        list[n++] = &x->index[i];
    }
    x->whole = tile_over(r->env.scratch, s->expr->type, list, n);
    tile_strides(&x->whole, &x->value, x->at_value);
    if (s->mask) tile_strides(&x->whole, &x->mask, x->at_mask);
    for (int i = 0; i < s->index.n; i++) tile_strides(&x->whole, &x->index[i], x->at_index[i]);
}

/* Whether element `at` exists and is wanted; its value and indices. */
static bool element(struct role *r, const struct elements *x, int64_t at, union cell *value, int64_t *index)
{
    int64_t rest = at;
    for (int i = x->whole.naxes - 1; i >= 0; i--) {
        const struct ir_axis *axis = x->whole.axes[i];
        int64_t origin = axis->of ? floor_div(r->env.axes[axis->of->id].origin, axis->div) : r->env.axes[axis->id].origin;
        if (origin + rest % x->whole.extent[i] >= interp_limit(&r->env, axis)) return false;
        rest /= x->whole.extent[i];
    }
    if (x->has_mask && !x->mask.at[tile_offset(&x->whole, x->at_mask, at)].i) return false;
    *value = x->value.at[tile_offset(&x->whole, x->at_value, at)];
    for (int i = 0; i < x->n_index; i++) index[i] = x->index[i].at[tile_offset(&x->whole, x->at_index[i], at)].i;
    return true;
}

static int64_t tensor_place(const struct interp_tensor *t, const int64_t *index)
{
    int64_t at = 0;
    for (int i = 0; i < t->rank; i++) {
        if (index[i] < 0 || index[i] >= t->shape[i]) return -1;
        at += index[i] * t->stride[i];
    }
    return at;
}

static union cell as_type(enum type t, union cell c)
{
    if (type_is_float(t)) c.f = tile_round(t, c.f);
    else c.i = tile_wrap(t, c.i);
    return c;
}

static void exec_store(struct role *r, const struct ir_stmt *s)
{
    struct elements x;
    union cell value;
    int64_t index[IR_RANK];
    struct interp_tensor *t = &r->m->args[s->tensor->id];
    open_elements(r, s, &x);
    for (int64_t i = 0; i < x.whole.n; i++) {
        if (!element(r, &x, i, &value, index)) continue;
        int64_t at = tensor_place(t, index);
        if (at < 0) continue;
        if (s->mode != MODE_set)
            value = tile_combine(s->mode == MODE_add ? RED_sum : (enum ir_reduce)s->num, t->type, interp_load(t, at), value, false);
        interp_store(t, at, as_type(t->type, value));
    }
}

static void exec_fetch(struct role *r, const struct ir_stmt *s)
{
    struct elements x;
    union cell value;
    int64_t index[IR_RANK];
    struct interp_tensor *t = &r->m->args[s->tensor->id];
    open_elements(r, s, &x);
    if (x.whole.n != 1) FAIL(r, s->span, "an atomic that returns its old value works on one element, this is a tile");
    if (!element(r, &x, 0, &value, index)) return;
    int64_t at = tensor_place(t, index);
    if (at < 0) FAIL(r, s->span, "an atomic on '%s' outside of it", s->tensor->name);
    union cell old = interp_load(t, at);
    interp_store(t, at, tile_combine((enum ir_reduce)s->num, t->type, old, value, false));
    set_cell(r, s->var, old);
}

static union cell *shared_cell(struct role *r, const struct ir_stmt *s, const int64_t *index)
{
    struct interp_shared *x = &r->m->shared[s->shared->id];
    int64_t at = 0;
    for (int i = 0; i < x->rank; i++) {
        if (index[i] < 0 || index[i] >= x->shape[i]) {
            FAIL(r, s->span, "'%s' is written at %lld of %lld", s->shared->name, (long long)index[i], (long long)x->shape[i]);
            return &x->at[0];
        }
        at = at * x->shape[i] + index[i];
    }
    return &x->at[at];
}

static void exec_put(struct role *r, const struct ir_stmt *s)
{
    struct elements x;
    union cell value;
    int64_t index[IR_RANK];
    open_elements(r, s, &x);
    for (int64_t i = 0; i < x.whole.n; i++) {
        if (!element(r, &x, i, &value, index)) continue;
        union cell *to = shared_cell(r, s, index), old = *to;
        if (s->mode == MODE_set) *to = value;
        else *to = tile_combine(s->mode == MODE_add ? RED_sum : (enum ir_reduce)s->num, s->shared->type, old, value, false);
        if (s->var) set_cell(r, s->var, old);
    }
}

/* pipes */

static void wait_here(struct role *r, const struct ir_stmt *s)
{
    r->waits = s;
    swapcontext(&r->context, &r->m->scheduler);
    r->waits = NULL;
}

static bool has_free_slot(const struct ring *g, int n_roles)
{
    for (int i = 0; i < n_roles; i++)
        if (g->released[i] >= 0 && g->produced - g->released[i] >= g->depth) return false;
    return g->n_consumers > 0 || g->produced < g->depth;
}

static void poison_slot(const struct interp_slot *slot, int n)
{
    for (int f = 0; f < n; f++)
        for (int64_t i = 0; i < slot->fields[f].n; i++) slot->fields[f].at[i] = tile_poison(slot->fields[f].type);
}

static void exec_produce(struct role *r, const struct ir_stmt *s)
{
    struct ring *g = &r->m->rings[s->pipe->id];
    while (!has_free_slot(g, r->m->fn->roles.n)) wait_here(r, s);
    struct interp_slot *slot = &g->slots[g->produced % g->depth], *outer = r->slots[s->pipe->id];
    poison_slot(slot, s->pipe->fields.n);
    r->slots[s->pipe->id] = slot;
    exec_block(r, &s->body);
    r->slots[s->pipe->id] = outer;
    g->produced++;
    r->m->progress = true;
}

static void exec_consume(struct role *r, const struct ir_stmt *s)
{
    struct ring *g = &r->m->rings[s->pipe->id];
    while (g->produced <= g->waited[r->number]) wait_here(r, s);
    struct interp_slot *slot = &g->slots[g->waited[r->number]++ % g->depth], *outer = r->slots[s->pipe->id];
    r->slots[s->pipe->id] = slot;
    r->m->progress = true;
    exec_block(r, &s->body);
    r->slots[s->pipe->id] = outer;
    g->released[r->number]++;
    r->m->progress = true;
}

/* Elements at or past an axis' limit do not exist: they stay poison, whatever was computed for them. */
static void exec_fill(struct role *r, const struct ir_stmt *s)
{
    int f = 0;
    while (s->field->pipe->fields.at[f] != s->field) f++;
    struct tile value = eval(r, s->expr);
    struct interp_slot *slot = r->slots[s->field->pipe->id];
    if (!slot) {
        FAIL(r, s->span, "'%s' is filled outside of produce", s->field->name);
        return;
    }
    struct tile *t = &slot->fields[f];
    if (!covers(t, &value)) FAIL(r, s->span, "'%s' is filled with a tile with an axis that it lacks", s->field->name);
    tile_broadcast(t, &value);
    int64_t first[IR_RANK], end[IR_RANK];
    for (int d = 0; d < s->field->naxes; d++) {
        const struct ir_axis *x = s->field->axes[d];
        int dim = tile_axis(t, x);
        first[dim] = x->of ? floor_div(r->env.axes[x->of->id].origin, x->div) : r->env.axes[x->id].origin;
        end[dim] = interp_limit(&r->env, x) - first[dim];
        slot->origin[f][d] = first[dim];
    }
    for (int64_t i = 0; i < t->n; i++) {
        int64_t rest = i;
        bool there = true;
        for (int d = t->naxes - 1; d >= 0; d--) {
            there &= rest % t->extent[d] < end[d];
            rest /= t->extent[d];
        }
        if (!there) t->at[i] = tile_poison(t->type);
    }
}

/* mma: contraction over the axes that the result lacks. A factor that still has such an axis scales an operand. */

static int contracted(const struct tile *a, const struct tile *b, const struct tile *result, const struct ir_axis **k)
{
    int n = 0;
    for (int i = 0; i < a->naxes; i++)
        if (tile_axis(result, a->axes[i]) < 0) k[n++] = a->axes[i];
    for (int i = 0; i < b->naxes; i++)
        if (tile_axis(result, b->axes[i]) < 0 && tile_axis(a, b->axes[i]) < 0) k[n++] = b->axes[i];
    return n;
}

static struct tile as_double(struct role *r, const struct tile *t)
{
    return tile_map(r->env.scratch, E_cast, TY_f32, t, 1, true);
}

static struct tile times(struct role *r, const struct tile *a, const struct tile *b)
{
    struct tile both[2] = { as_double(r, a), as_double(r, b) };
    return tile_map(r->env.scratch, E_mul, TY_f32, both, 2, true);
}

/* A factor by granules of contracted axes, over these axes themselves. */
static struct tile by_coordinate(struct role *r, const struct tile *f)
{
    struct tile all = { .type = f->type };
    for (int i = 0; i < f->naxes; i++) {
        const struct ir_axis *x = f->axes[i]->of ? f->axes[i]->of : f->axes[i];
        tile_add_axis(&all, x, f->axes[i]->of ? r->env.axes[x->id].extent : f->extent[i]);
    }
    tile_room(r->env.scratch, &all);
    for (int64_t e = 0; e < all.n; e++) {
        int64_t rest = e, at[IR_RANK], from = 0;
        for (int d = all.naxes - 1; d >= 0; d--) at[d] = rest % all.extent[d], rest /= all.extent[d];
        for (int i = 0; i < f->naxes; i++) {
            const struct ir_axis *x = f->axes[i], *of = x->of ? x->of : x;
            int64_t c = at[tile_axis(&all, of)], origin = r->env.axes[of->id].origin;
            if (x->of) c = floor_div(origin + c, x->div) - floor_div(origin, x->div);
            from = from * f->extent[i] + c;
        }
        all.at[e] = f->at[from];
    }
    return all;
}

static bool by_granules(const struct tile *f, const struct tile *result)
{
    for (int i = 0; i < f->naxes; i++)
        if (f->axes[i]->of && tile_axis(result, f->axes[i]) < 0) return true;
    return false;
}

static void exec_mma(struct role *r, const struct ir_stmt *s)
{
    struct tile a = eval(r, s->expr), b = eval(r, s->expr2), *c = var_room(r, s->var), scale = { 0 };
    const struct ir_axis *k[2 * IR_RANK];
    for (int i = 0; i < s->factors.n; i++) {
        struct tile f = eval(r, s->factors.at[i]);
        if (by_granules(&f, c)) f = by_coordinate(r, &f);
        struct tile *to = covers(c, &f) ? &scale : covers(&a, &f) ? &a : &b;
        *to = to->at ? times(r, to, &f) : f;
    }
    struct tile sum = interp_contract(&r->env, &a, &b, k, contracted(&a, &b, c, k));
    if (scale.at) sum = times(r, &sum, &scale);
    struct tile all = *c;
    tile_room(r->env.scratch, &all);
    tile_broadcast(&all, &sum);
    for (int64_t i = 0; i < c->n; i++) {
        if (!type_is_float(c->type)) c->at[i].i = tile_wrap(c->type, (s->flag ? c->at[i].i : 0) + (int64_t)all.at[i].f);
        else c->at[i].f = tile_round(c->type, (s->flag ? c->at[i].f : 0) + all.at[i].f);
    }
}

/* control */

static void exec_for(struct role *r, const struct ir_stmt *s)
{
    int64_t from = eval_int(r, s->expr), to = eval_int(r, s->expr2), step = s->step ? eval_int(r, s->step) : 1;
    if (step <= 0) FAIL(r, s->span, "a loop with step %lld", (long long)step);
    for (int64_t i = from; i < to && step > 0; i += step) {
        set_int(r, s->var, i);
        exec_block(r, &s->body);
    }
}

static void exec_while(struct role *r, const struct ir_stmt *s)
{
    while (eval_int(r, s->expr)) exec_block(r, &s->body);
}

static void exec_if(struct role *r, const struct ir_stmt *s)
{
    exec_block(r, eval_int(r, s->expr) ? &s->body : &s->other);
}

static void exec_par(struct role *r, const struct ir_stmt *s)
{
    int64_t from = eval_int(r, s->expr), to = eval_int(r, s->expr2);
    for (int64_t i = from; i < to; i++) {
        set_int(r, s->var, i);
        exec_block(r, &s->body);
    }
}

static void exec_scan(struct role *r, const struct ir_stmt *s)
{
    int64_t from = eval_int(r, s->expr), to = eval_int(r, s->expr2);
    union cell sum = { .i = 0 };
    if (type_is_float(s->shared->type)) sum.f = 0;
    for (int64_t i = from; i < to; i++) {
        set_int(r, s->var, i);
        struct tile t = eval(r, s->expr3);
        sum = tile_combine(RED_sum, s->shared->type, sum, t.at[0], false);
        *shared_cell(r, s, &i) = sum;
        pool_reset(r->env.scratch);
    }
}

static void each_element(struct role *r, const struct ir_stmt *s, const struct tile *value)
{
    if (s->var) {
        int64_t at = 0;
        for (int i = 0; i < value->naxes; i++) {
            const struct interp_axis *x = &r->env.axes[value->axes[i]->id];
            at = at * value->extent[i] + x->element - x->origin;
        }
        set_cell(r, s->var, value->at[at]);
    }
    if (!s->mask || eval_int(r, s->mask)) exec_block(r, &s->body);
}

static void each_axis(struct role *r, const struct ir_stmt *s, const struct tile *value, int at)
{
    if (at == s->axes.n) {
        each_element(r, s, value);
        return;
    }
    struct interp_axis *x = &r->env.axes[s->axes.at[at]->id];
    for (int64_t i = 0; i < x->extent && x->origin + i < x->limit; i++) {
        x->single = true;
        x->element = x->origin + i;
        each_axis(r, s, value, at + 1);
    }
    x->single = false;
}

static void exec_each(struct role *r, const struct ir_stmt *s)
{
    struct tile value = eval(r, s->expr), kept = value;
    tile_room(&r->held, &kept); /* the scratch memory goes with the statements inside */
    memcpy(kept.at, value.at, sizeof *kept.at * (size_t)kept.n);
    r->holds++;
    each_axis(r, s, &kept, 0);
    if (!--r->holds) pool_reset(&r->held);
}

/* combine */

static struct group *find_group(struct machine *m, const struct ir_stmt *s, int64_t tile, int64_t rank, int64_t total)
{
    for (struct group *g = m->groups; g; g = g->next)
        if (g->stmt == s && g->tile == tile && g->rank == rank) return g;
    struct group *g = calloc(1, sizeof *g);
    *g = (struct group){ .next = m->groups, .stmt = s, .tile = tile, .rank = rank, .total = total };
    g->parts = calloc((size_t)total, sizeof *g->parts);
    return m->groups = g;
}

static void drop_group(struct machine *m, struct group *group)
{
    struct group **at = &m->groups;
    while (*at != group) at = &(*at)->next;
    *at = group->next;
    for (int64_t p = 0; p < group->total; p++) {
        for (int i = 0; group->parts[p].vars && i < m->fn->vars.n; i++) free(group->parts[p].vars[i].at);
        free(group->parts[p].vars);
    }
    free(group->parts);
    free(group);
}

static void save_part(struct role *r, struct interp_part *part)
{
    int n = r->m->fn->vars.n;
    part->vars = calloc((size_t)n + 1, sizeof *part->vars);
    for (int i = 0; i < n; i++) {
        const struct tile *t = &r->env.vars[i];
        part->vars[i] = *t;
        if (!t->at) continue;
        part->vars[i].at = malloc(sizeof *t->at * (size_t)(t->n + 1));
        memcpy(part->vars[i].at, t->at, sizeof *t->at * (size_t)t->n);
    }
}

static void mark_set(const ir_block *b, bool *set)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->var) set[s->var->id] = true;
        mark_set(&s->body, set);
        mark_set(&s->other, set);
    }
}

static void exec_combine(struct role *r, const struct ir_stmt *s)
{
    int64_t part = eval_int(r, s->expr), total = eval_int(r, s->expr2), tile = eval_int(r, s->expr3);
    if (part < 0 || part >= total) {
        FAIL(r, s->span, "combine: part %lld of %lld", (long long)part, (long long)total);
        return;
    }
    bool over_cluster = r->m->fn->cluster_axis == s->axis;
    struct group *g = find_group(r->m, s, tile, over_cluster ? 0 : r->env.rank, total);
    if (g->total != total || g->parts[part].vars) {
        FAIL(r, s->span, "combine: part %lld of tile %lld comes twice, or the number of parts changes", (long long)part, (long long)tile);
        return;
    }
    save_part(r, &g->parts[part]);
    if (++g->arrived < total) return;
    r->env.parts = g->parts;
    r->env.n_parts = (int)total;
    bool *own = calloc((size_t)r->m->fn->vars.n + 1, sizeof *own);
    mark_set(&s->body, own);
    r->env.part_own = own;
    exec_block(r, &s->body);
    r->env.parts = NULL;
    r->env.part_own = NULL;
    free(own);
    drop_group(r->m, g);
}

static void exec_body(struct role *r, const struct ir_stmt *s)
{
    (void)s;
    if (r->ir) exec_block(r, &r->ir->body);
}

static void exec_assert(struct role *r, const struct ir_stmt *s)
{
    if (!eval_int(r, s->expr)) FAIL(r, s->span, "assertion failed: %s", s->text ? s->text : "");
}

static void print_tile(const struct tile *t)
{
    for (int64_t j = 0; j < t->n; j++) {
        if (j) fputc(' ', stderr);
        if (type_is_float(t->type)) fprintf(stderr, "%g", t->at[j].f);
        else fprintf(stderr, type_kind(t->type) == TYPE_UINT ? "%llu" : "%lld", (long long)t->at[j].i);
    }
}

static void exec_print(struct role *r, const struct ir_stmt *s)
{
    int next = 0;
    for (const char *c = s->text ? s->text : ""; *c; c++) {
        if (*c != '%' || c[1] == '%') {
            fputc(*c, stderr);
            c += *c == '%';
        } else if (next < s->index.n) {
            struct tile t = eval(r, s->index.at[next++]);
            print_tile(&t);
        }
    }
    fputc('\n', stderr);
}

static void (*const exec[E_COUNT + S_COUNT])(struct role *, const struct ir_stmt *) = {
#define EXPR(name, nargs, meaning)
#define STMT(name, slots, meaning) [S_##name] = exec_##name,
#include "compiler/ops.def"
};

static void exec_block(struct role *r, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        if (r->env.error) return;
        if (++r->steps > MOST_STEPS) FAIL(r, b->at[i]->span, "the kernel does not end");
        exec[b->at[i]->kind](r, b->at[i]);
        pool_reset(r->env.scratch);
    }
}

/* machine */

static bool consumes(const ir_block *b, const struct ir_pipe *pipe)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if ((s->kind == S_consume && s->pipe == pipe) || consumes(&s->body, pipe) || consumes(&s->other, pipe)) return true;
    }
    return false;
}

static void make_slot(struct machine *m, const struct ir_pipe *pipe, struct interp_slot *slot)
{
    slot->fields = pool_alloc(&m->pool, sizeof *slot->fields * (size_t)pipe->fields.n);
    slot->origin = pool_alloc(&m->pool, sizeof *slot->origin * (size_t)pipe->fields.n);
    for (int f = 0; f < pipe->fields.n; f++) {
        const struct ir_field *field = pipe->fields.at[f];
        slot->fields[f] = (struct tile){ .type = field->type };
        for (int d = 0; d < field->naxes; d++) tile_add_axis(&slot->fields[f], field->axes[d], field->axes[d]->tile);
        tile_room(&m->pool, &slot->fields[f]);
        memset(slot->origin[f], 0, sizeof slot->origin[f]);
    }
}

static void make_rings(struct machine *m)
{
    const struct ir_fn *fn = m->fn;
    m->rings = pool_alloc(&m->pool, sizeof *m->rings * (size_t)(fn->pipes.n + 1));
    for (int i = 0; i < fn->pipes.n; i++) {
        struct ring *g = &m->rings[i];
        *g = (struct ring){ .pipe = fn->pipes.at[i], .depth = fn->pipes.at[i]->depth ? fn->pipes.at[i]->depth : AUTO_DEPTH };
        g->slots = pool_alloc(&m->pool, sizeof *g->slots * (size_t)g->depth);
        for (int d = 0; d < g->depth; d++) make_slot(m, g->pipe, &g->slots[d]);
        g->waited = pool_alloc(&m->pool, sizeof *g->waited * (size_t)(fn->roles.n + 1));
        g->released = pool_alloc(&m->pool, sizeof *g->released * (size_t)(fn->roles.n + 1));
        for (int r = 0; r < fn->roles.n; r++) {
            bool mine = consumes(&fn->roles.at[r]->body, g->pipe);
            g->waited[r] = g->released[r] = mine ? 0 : -1;
            g->n_consumers += mine;
        }
    }
}

static void make_shared(struct machine *m, struct interp_env *env)
{
    const struct ir_fn *fn = m->fn;
    m->shared = pool_alloc(&m->pool, sizeof *m->shared * (size_t)(fn->shared.n + 1));
    for (int i = 0; i < fn->shared.n; i++) {
        const struct ir_shared *s = fn->shared.at[i];
        struct interp_shared *x = &m->shared[i];
        *x = (struct interp_shared){ .type = s->type, .rank = s->rank, .n = 1 };
        for (int d = 0; d < s->rank; d++) x->n *= x->shape[d] = interp_eval_int(env, s->dim[d]);
        x->at = pool_alloc(&m->pool, sizeof *x->at * (size_t)(x->n + 1));
        for (int64_t k = 0; k < x->n; k++) x->at[k] = tile_poison(s->type);
    }
}

static void enter(unsigned lo, unsigned hi)
{
    struct role *r = (struct role *)(uintptr_t)((uint64_t)hi << 32 | lo);
    exec_block(r, &r->m->fn->task);
    r->done = true;
    swapcontext(&r->context, &r->m->scheduler); /* never resumed */
}

static void start_role(struct machine *m, struct role *r, int number, int64_t unit, int64_t units, int64_t rank)
{
    r->m = m;
    r->number = number;
    r->ir = m->fn->roles.at[number];
    r->done = false;
    r->steps = r->holds = 0;
    r->waits = NULL;
    interp_env_init(&r->env, m->fn, m->args, m->dims);
    r->env.unit = unit;
    r->env.units = units;
    r->env.rank = rank;
    r->env.vars = calloc((size_t)m->fn->vars.n + 1, sizeof *r->env.vars);
    r->slots = calloc((size_t)m->fn->pipes.n + 1, sizeof *r->slots);
    r->env.slots = r->slots;
    r->env.shared = m->shared;
    if (!r->stack) r->stack = malloc(STACK_BYTES);
    getcontext(&r->context);
    r->context.uc_stack.ss_sp = r->stack;
    r->context.uc_stack.ss_size = STACK_BYTES;
    uint64_t p = (uint64_t)(uintptr_t)r;
    makecontext(&r->context, (void (*)(void))enter, 2, (unsigned)p, (unsigned)(p >> 32));
}

static void end_role(struct machine *m, struct role *r)
{
    if (r->env.error && !m->error) {
        if (asprintf(&m->error, "%s%s%s", r->env.error, r->ir ? ", in role " : "", r->ir ? r->ir->name : "") < 0) m->error = NULL;
        m->error_at = r->env.error_at;
    }
    free(r->env.vars);
    free(r->slots);
    pool_free(&r->held);
    interp_env_free(&r->env);
}

static void say_deadlock(struct machine *m)
{
    struct buf b = { 0 };
    buf_printf(&b, "deadlock: every role waits");
    for (int i = 0; i < m->fn->roles.n; i++) {
        const struct role *r = &m->roles[i];
        if (r->done) {
            buf_printf(&b, "; role %s has ended", r->ir->name);
            continue;
        }
        const struct ring *g = &m->rings[r->waits->pipe->id];
        if (r->waits->kind == S_produce)
            buf_printf(&b, "; role %s to produce slot %lld of pipe %s, which has %d", r->ir->name, (long long)g->produced, g->pipe->name, g->depth);
        else
            buf_printf(&b, "; role %s to consume slot %lld of pipe %s, %lld produced", r->ir->name, (long long)g->waited[i], g->pipe->name, (long long)g->produced);
        m->error_at = r->waits->span;
    }
    m->error = strdup(b.at);
    buf_free(&b);
}

static void say_left_over(struct machine *m)
{
    for (int i = 0; i < m->fn->pipes.n && !m->error; i++)
        for (int r = 0; r < m->fn->roles.n && !m->error; r++) {
            const struct ring *g = &m->rings[i];
            if (g->released[r] < 0 || g->released[r] == g->produced) continue;
            m->error_at = g->pipe->span;
            if (asprintf(&m->error, "pipe %s: %lld slots are produced, role %s consumes %lld", g->pipe->name, (long long)g->produced,
                         m->fn->roles.at[r]->name, (long long)g->released[r]) < 0) m->error = NULL;
        }
}

static void run_roles(struct machine *m)
{
    int n = m->fn->roles.n;
    bool failed = false;
    for (int left = n; left && !failed;) {
        m->progress = false;
        left = 0;
        for (int i = 0; i < n && !failed; i++) {
            if (m->roles[i].done) continue;
            swapcontext(&m->scheduler, &m->roles[i].context);
            failed = m->roles[i].env.error;
            m->progress |= m->roles[i].done;
            left += !m->roles[i].done;
        }
        if (left && !m->progress && !failed) {
            say_deadlock(m);
            return;
        }
    }
    if (!failed) say_left_over(m);
}

static void run_cta(struct machine *m, int64_t unit, int64_t units, int64_t rank)
{
    struct interp_env env;
    interp_env_init(&env, m->fn, m->args, m->dims);
    make_rings(m);
    make_shared(m, &env);
    interp_env_free(&env);
    for (int i = 0; i < m->fn->roles.n; i++) start_role(m, &m->roles[i], i, unit, units, rank);
    run_roles(m);
    for (int i = 0; i < m->fn->roles.n; i++) end_role(m, &m->roles[i]);
    pool_reset(&m->pool);
}

/* The i-th of n units to run. A shuffle that needs no memory: steps of a fixed odd number that n does not divide. */
static int64_t nth_unit(enum interp_order order, int64_t i, int64_t n)
{
    int64_t step = 0x9E3779B1 % n;
    if (order == INTERP_FORWARD) return i;
    if (order == INTERP_BACKWARD) return n - 1 - i;
    for (;; step++) {
        int64_t a = step, b = n;
        while (b) { int64_t c = a % b; a = b; b = c; }
        if (a == 1) break;
    }
    return (i * step + n / 2) % n;
}

static int64_t count_units(const struct machine *m, int64_t asked)
{
    struct interp_env env;
    if (!m->fn->tasks) return asked;
    interp_env_init(&env, m->fn, m->args, m->dims);
    int64_t tasks = interp_eval_int(&env, m->fn->tasks);
    interp_env_free(&env);
    return m->fn->persistent && asked < tasks ? asked : tasks;
}

bool interp_run_ordered(const struct ir_fn *fn, struct interp_tensor *args, int n, const int64_t *dims, int units,
                        enum interp_order order, char **error, struct span *at)
{
    struct machine m = { .fn = fn, .args = args, .dims = dims };
    (void)n;
    m.roles = calloc((size_t)fn->roles.n + 1, sizeof *m.roles);
    int64_t total = count_units(&m, units);
    int cluster = fn->cluster > 1 ? fn->cluster : 1;
    for (int64_t i = 0; i < total * cluster && !m.error; i++)
        run_cta(&m, nth_unit(order, i / cluster, total), total, i % cluster);
    if (m.groups && !m.error) {
        m.error_at = m.groups->stmt->span;
        if (asprintf(&m.error, "combine: %lld of %lld parts of tile %lld came", (long long)m.groups->arrived,
                     (long long)m.groups->total, (long long)m.groups->tile) < 0) m.error = NULL;
    }
    while (m.groups) drop_group(&m, m.groups);
    for (int i = 0; i < fn->roles.n; i++) free(m.roles[i].stack);
    free(m.roles);
    pool_free(&m.pool);
    *error = m.error;
    if (at) *at = m.error_at;
    return !m.error;
}

bool interp_run(const struct ir_fn *fn, struct interp_tensor *args, int n, const int64_t *dims, int units, char **error)
{
    return interp_run_ordered(fn, args, n, dims, units, INTERP_FORWARD, error, NULL);
}

bool interp_check(const struct ir_fn *fn, struct interp_tensor *args, const int64_t *dims, char **error, struct span *at)
{
    struct machine m = { .fn = fn, .args = args, .dims = dims };
    struct role r = { .m = &m };
    interp_env_init(&r.env, fn, args, dims);
    r.env.vars = calloc((size_t)fn->vars.n + 1, sizeof *r.env.vars);
    r.slots = calloc((size_t)fn->pipes.n + 1, sizeof *r.slots);
    make_shared(&m, &r.env);
    r.env.shared = m.shared;
    exec_block(&r, &fn->check);
    end_role(&m, &r);
    pool_free(&m.pool);
    *error = m.error;
    if (at) *at = m.error_at;
    return !m.error;
}
