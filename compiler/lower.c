/* lower - the checked tree of one kernel to its tile IR, for one target, with parameters and tune values fixed. */
#include "compiler/lower.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ATTEMPTS 400 /* choices of tune values tried */
#define MAX_TUNINGS 64

/* ---- names ---- */

struct sym *lower_name(struct lower *L, const char *name, enum sym_kind kind, struct span at)
{
    struct sym *s = new(L->a, struct sym);
    s->name = name;
    s->kind = kind;
    s->span = at;
    s->next = L->scope;
    L->scope = s;
    return s;
}

/* In a spec an axis' name is an index letter of its own. */
struct sym *lower_find(struct lower *L, const char *name)
{
    for (struct sym *s = L->scope; s; s = s->next)
        if (s->name == name && !(L->in_spec && s->kind == SYM_axis && !s->axis->range)) return s;
    return NULL;
}

void lower_name_expr(struct lower *L, const char *name, struct ir_expr *e, struct span at)
{
    lower_name(L, name, SYM_expr, at)->expr = e;
}

const struct node *lower_top(struct lower *L, enum node_kind kind, const char *name)
{
    const struct node *files[64] = {L->file};
    int n = 1;
    for (int f = 0; f < n; f++)
        for (int i = 0; i < files[f]->list.n; i++) {
            const struct node *k = files[f]->list.at[i];
            if (k->kind == kind && k->name == name) return k;
            if (k->kind == N_import && k->a && n < COUNT(files)) files[n++] = k->a;
        }
    return NULL;
}

const char *lower_text(struct lower *L, struct span at)
{
    const struct source_file *f = diag_where(L->d, at.lo, NULL, NULL);
    if (!f || at.hi < at.lo || at.hi > f->base + f->size) return "?";
    return arena_strndup(L->a, f->text + (at.lo - f->base), at.hi - at.lo);
}

enum type lower_type(struct lower *L, const struct node *n)
{
    if (n->type != TY_none) return n->type;
    struct sym *s = n->text ? lower_find(L, intern(n->text)) : NULL;
    if (s && s->kind == SYM_type) return s->type;
    diag_error(L->d, n->span, "'%s' is no type", n->text ? n->text : "?");
    return TY_none;
}

static void set_text(struct lower *L, const char *key, const char *value)
{
    vec_push(L->a, &L->fn->settings, arena_printf(L->a, "%s = %s", key, value));
}

/* ---- parameters ---- */

static const char *option(const struct compile_options *o, const char *name)
{
    for (int i = 0; i < o->n_params; i++)
        if (!strcmp(o->params[i].name, name)) return o->params[i].value;
    return NULL;
}

static const char *alternative_text(struct lower *L, const struct node *n)
{
    return n->kind == N_typename ? type_name(n->type) : n->kind == N_int ? arena_printf(L->a, "%lld", (long long)n->num) : n->name;
}

static void bind_param(struct lower *L, const struct node *p)
{
    const char *want = option(L->o, p->name), *list = "";
    const struct node *pick = want ? NULL : p->list.at[0];
    for (int i = 0; i < p->list.n; i++) {
        const char *text = alternative_text(L, p->list.at[i]);
        list = arena_printf(L->a, "%s%s%s", list, i ? ", " : "", text);
        if (want && !strcmp(want, text)) pick = p->list.at[i];
    }
    char *rest = "";
    long long v = want ? strtoll(want, &rest, 0) : 0;
    bool number = want && *want && !*rest;
    if (!pick && number && p->list.n == 1 && p->list.at[0]->kind == N_int) { /* one number is a default, not a list */
        lower_name_expr(L, p->name, ir_int(L->a, v), p->span);
        set_text(L, p->name, want);
        return;
    }
    if (!pick) {
        diag_error(L->d, p->span, "'%s' cannot be %s", p->name, want);
        diag_note(L->d, p->span, "it is one of %s", list);
        pick = p->list.at[0];
    }
    if (pick->kind == N_int) lower_name_expr(L, p->name, ir_int(L->a, pick->num), p->span);
    else if (pick->kind == N_typename) lower_name(L, p->name, SYM_type, p->span)->type = pick->type;
    else lower_name(L, p->name, SYM_word, p->span)->word = pick->name;
    set_text(L, p->name, alternative_text(L, pick));
}

/* ---- dimensions and tensors ---- */

static void add_dim(struct lower *L, const struct node *n)
{
    if (lower_find(L, n->name)) return;
    struct ir_dim d = {.name = n->name, .value = -1, .multiple = 1};
    const char *given = option(L->o, n->name);
    struct ir_expr *e;
    if (given) {
        char *rest;
        d.value = strtoll(given, &rest, 0);
        if (!*given || *rest || d.value < 0 || d.value > INT32_MAX) {
            diag_error(L->d, n->span, "dimension '%s' cannot be %s", n->name, given);
            d.value = 1;
        }
        set_text(L, n->name, given);
        e = ir_int(L->a, d.value);
    } else {
        e = ir_leaf(L->a, E_dim, NULL);
        e->num = L->fn->dims.n;
    }
    vec_push(L->a, &L->fn->dims, d);
    lower_name_expr(L, n->name, e, n->span);
}

static void find_dims(struct lower *L, const struct node *n)
{
    if (!n) return;
    if (n->kind == N_name) add_dim(L, n);
    find_dims(L, n->a);
    find_dims(L, n->b);
    find_dims(L, n->c);
    for (int i = 0; i < n->list.n; i++) find_dims(L, n->list.at[i]);
}

static void choose_inner(struct lower *L, struct ir_tensor *t, const struct node *n)
{
    t->inner = t->rank - 1;
    t->inner_choices = t->rank ? 1 << t->inner : 0;
    for (int k = 0; k < n->list2.n; k++) {
        int found = -1;
        for (int i = 0; i < t->rank; i++)
            if (ast_same(n->list2.at[k], n->list.at[i])) found = i;
        if (found < 0) {
            diag_error(L->d, n->list2.at[k]->span, "inner(...) names a dimension of '%s'; '%s' is none", t->name, lower_text(L, n->list2.at[k]->span));
            return;
        }
        if (k == 0) {
            t->inner = found;
            t->inner_choices = 0;
        }
        t->inner_choices |= 1 << found;
    }
    for (int i = 0; i < L->o->n_inner; i++) {
        if (strcmp(L->o->inner[i].name, t->name)) continue;
        int dim = atoi(L->o->inner[i].value);
        if (dim >= 0 && dim < t->rank && t->inner_choices >> dim & 1) t->inner = dim;
        else {
            diag_error(L->d, t->span, "dimension %s of '%s' cannot be the one with stride 1", L->o->inner[i].value, t->name);
            diag_note(L->d, t->span, "inner(...) lists those that can");
        }
    }
}

/* Elements lie at multiples of themselves, whatever is given. */
static void choose_align(struct lower *L, struct ir_tensor *t)
{
    int least = type_bits(t->type) < 8 ? 1 : type_bits(t->type) / 8;
    t->align = IR_ALIGN;
    for (int i = 0; i < L->o->n_align; i++) {
        if (strcmp(L->o->align[i].name, t->name)) continue;
        int bytes = atoi(L->o->align[i].value);
        t->align = bytes < least ? least : bytes;
        if (bytes >= 1 && bytes <= IR_ALIGN && !(bytes & (bytes - 1))) continue;
        diag_error(L->d, t->span, "'%s' cannot be aligned to %s bytes; 1, 2, 4, 8 and %d are possible", t->name, L->o->align[i].value, IR_ALIGN);
        t->align = IR_ALIGN;
    }
}

static void add_tensor(struct lower *L, const struct node *n)
{
    struct ir_tensor *t = new(L->a, struct ir_tensor);
    t->name = n->name;
    t->id = L->fn->tensors.n;
    t->dir = n->flag;
    t->type = lower_type(L, n);
    t->span = n->name_span.hi ? n->name_span : n->span;
    if (n->list.n > IR_RANK) diag_error(L->d, t->span, "'%s' has %d dimensions, at most %d are possible", t->name, n->list.n, IR_RANK);
    for (int i = 0; i < n->list.n && i < IR_RANK; i++) {
        t->dim[t->rank] = lower_scalar(L, n->list.at[i]);
        t->dim_text[t->rank++] = lower_text(L, n->list.at[i]->span);
    }
    choose_inner(L, t, n);
    choose_align(L, t);
    vec_push(L->a, &L->fn->tensors, t);
    if (t->rank) {
        lower_name(L, t->name, SYM_tensor, t->span)->tensor = t;
        return;
    }
    struct ir_expr *e = ir_leaf(L->a, E_arg, NULL);
    e->type = t->type;
    e->tensor = t;
    lower_name_expr(L, t->name, e, t->span);
}

static bool has_tensor(const struct lower *L, const char *name)
{
    for (int i = 0; i < L->fn->tensors.n; i++)
        if (!strcmp(L->fn->tensors.at[i]->name, name) && L->fn->tensors.at[i]->rank) return true;
    return false;
}

static void check_tensors(struct lower *L, const struct binding *named, int n)
{
    for (int i = 0; i < n; i++)
        if (!has_tensor(L, named[i].name)) diag_error(L->d, L->kernel->name_span, "kernel '%s' has no tensor '%s'", L->kernel->name, named[i].name);
}

static void check_options(struct lower *L)
{
    check_tensors(L, L->o->inner, L->o->n_inner);
    check_tensors(L, L->o->align, L->o->n_align);
    for (int i = 0; i < L->o->n_params; i++) {
        const char *name = L->o->params[i].name, *list = "";
        bool found = false;
        for (int k = 0; k < L->kernel->list.n; k++) {
            list = arena_printf(L->a, "%s%s%s", list, k ? ", " : "", L->kernel->list.at[k]->name);
            found |= !strcmp(L->kernel->list.at[k]->name, name);
        }
        for (int k = 0; k < L->fn->dims.n; k++) {
            list = arena_printf(L->a, "%s%s%s", list, *list ? ", " : "", L->fn->dims.at[k].name);
            found |= !strcmp(L->fn->dims.at[k].name, name);
        }
        if (found) continue;
        diag_error(L->d, L->kernel->name_span, "kernel '%s' has no parameter or dimension '%s'", L->kernel->name, name);
        diag_note(L->d, L->kernel->name_span, "it has %s", list);
    }
}

/* ---- require: a host check, and a fact ---- */

static void learn(struct lower *L, const struct ir_expr *e)
{
    int64_t zero, m;
    if (e->kind == E_and && e->type == TY_bool) {
        learn(L, e->args[0]);
        learn(L, e->args[1]);
        return;
    }
    if (e->kind != E_eq || !ir_const_int(e->args[1], &zero) || zero || e->args[0]->kind != E_mod) return;
    const struct ir_expr *mod = e->args[0];
    if (mod->args[0]->kind != E_dim || !ir_const_int(mod->args[1], &m) || m < 1 || m > 1 << 24) return;
    struct ir_dim *d = &L->fn->dims.at[mod->args[0]->num];
    int64_t x = d->multiple, y = m;
    while (y) {
        int64_t r = x % y;
        x = y;
        y = r;
    }
    d->multiple = (int)(d->multiple / x * m);
}

static void add_require(struct lower *L, const struct node *n)
{
    struct ir_expr *e = lower_cond(L, n->a);
    if (is_bad(e)) return;
    if (e->kind == E_const && !e->num) {
        diag_error(L->d, n->span, "this does not hold for the sizes given: %s", n->text);
        return;
    }
    if (e->kind == E_const) return;
    learn(L, e);
    vec_push(L->a, &L->fn->requires, e);
    vec_push(L->a, &L->fn->require_text, n->text);
    vec_push(L->a, &L->fn->require_span, n->span);
}

bool lower_begin(struct lower *L)
{
    const struct node *k = L->kernel;
    L->fn = new(L->a, struct ir_fn);
    L->fn->name = k->name;
    L->fn->target = L->target->name;
    L->fn->span = k->name_span.hi ? k->name_span : k->span;
    L->fn->cluster = 1;
    for (int i = 0; i < k->list.n; i++) bind_param(L, k->list.at[i]);
    for (int i = 0; i < k->list2.n; i++)
        for (int d = 0; d < k->list2.at[i]->list.n; d++) find_dims(L, k->list2.at[i]->list.at[d]);
    for (int i = 0; i < k->list2.n; i++) add_tensor(L, k->list2.at[i]);
    check_options(L);
    for (int i = 0; k->a && i < k->a->list.n; i++) add_require(L, k->a->list.at[i]);
    return !L->d->errors;
}

/* ---- tune values ---- */

static bool pick_values(struct lower *L)
{
    tune_collect(L);
    for (int i = 0; i < L->tunings.n && i < MAX_TUNINGS; i++) {
        struct tuning *t = &L->tunings.at[i];
        if (!tune_choices(L, t)) return false;
        t->pick = L->picks && L->picks[i] < t->choices.n ? L->picks[i] : 0;
        const struct choice *c = &t->choices.at[t->pick];
        if (!t->word) lower_name_expr(L, intern(t->key), ir_int(L->a, c->num), t->span);
        set_text(L, t->key, c->text);
    }
    return !L->d->errors;
}

static void set_caches(struct lower *L)
{
    static const char *const words[] = {
#define CACHE(word, priority, meaning) #word,
#include "dsl/cache.def"
    };
    for (int i = 0; i < L->fn->tensors.n; i++) {
        struct ir_tensor *t = L->fn->tensors.at[i];
        const struct choice *c = tune_mapping(L, "cache", t->name);
        for (int k = 0; c && k < COUNT(words); k++)
            if (c->word && !strcmp(c->word, words[k])) t->cache = k;
    }
}

static void set_cluster(struct lower *L)
{
    for (int i = 0; i < L->axes.n; i++) {
        struct laxis *x = L->axes.at[i];
        if (x->cluster <= 1) continue;
        if (!target_has(L->target, HAS_CLUSTER)) {
            diag_error(L->d, x->span, "%s has no clusters; cluster(%s: %d) is for targets that have", L->target->name, x->name, x->cluster);
            x->cluster = 1;
        } else if (L->fn->cluster_axis) {
            L->unfit = arena_printf(L->a, "two axes share a cluster, '%s' and '%s'", L->fn->cluster_axis->name, x->name);
            x->cluster = 1;
        } else {
            L->fn->cluster = x->cluster;
            L->fn->cluster_axis = x->ir;
        }
    }
}

/* A nested tile lies within its parent's. Parts of a split axis that share a cluster: as many CTAs divide them, or some CTA
 * would have none. */
static void check_tiles(struct lower *L)
{
    for (int i = 0; i < L->axes.n; i++) {
        const struct laxis *x = L->axes.at[i];
        int64_t parts = 1;
        if (x->parent && x->parent->ir->tile && x->ir->tile > x->parent->ir->tile)
            L->unfit = arena_printf(L->a, "the tile of '%s' (%d) is larger than that of '%s' (%d), in which it walks", x->name, x->ir->tile,
                                    x->parent->name, x->parent->ir->tile);
        if (x->cluster <= 1 || !x->node || !x->node->c || (x->parts && !ir_const_int(x->parts, &parts))) continue;
        if (parts % x->cluster)
            L->unfit = arena_printf(L->a, "the %lld parts of '%s' do not fill clusters of %d", (long long)parts, x->name, x->cluster);
    }
}

/* ---- items ---- */

static struct node *const *items(const struct lower *L, int *n)
{
    *n = L->kernel->b->list.n;
    return L->kernel->b->list.at;
}

static void each_item(struct lower *L, enum node_kind kind, void (*f)(struct lower *, struct node *))
{
    int n;
    struct node *const *at = items(L, &n);
    for (int i = 0; i < n; i++)
        if (at[i]->kind == kind) f(L, at[i]);
}

static void declare_view(struct lower *L, struct node *n) { lower_name(L, n->name, SYM_view, n->span)->node = n; }
static void declare_shared(struct lower *L, struct node *n) { lower_stmt(L, n); }
static void declare_spec(struct lower *L, struct node *n) { lower_spec(L, n); }
static void declare_given(struct lower *L, struct node *n) { lower_given(L, n); }

static void lower_check(struct lower *L, struct node *n)
{
    struct sym *keep = L->scope;
    L->block = &L->fn->check;
    L->in_spec = true;
    lower_stmt(L, n->a);
    L->in_spec = false;
    L->block = NULL;
    L->scope = keep;
}

/* ---- pipes ---- */

/* A field's index: an axis, or axis / granule; NULL with a message if it is neither. `whole` receives the axis as named. */
static struct ir_axis *field_axis(struct lower *L, const struct node *n, struct laxis **whole)
{
    bool divided = n->kind == N_binary && n->flag == OP_DIV;
    int64_t div = 1;
    struct laxis *x = lower_axis_name(L, divided ? n->a : n);
    if (!x || !x->ir->tile) {
        diag_error(L->d, n->span, "a slot is declared by the coordinates it holds; '%s' is no axis with a tile", lower_text(L, n->span));
        diag_note(L->d, n->span, "an axis, or an axis divided by a number: a[i, k], s[k/128]");
        return NULL;
    }
    if (divided && (!lower_static(L, n->b, &div) || div < 1)) {
        diag_error(L->d, n->b->span, "the granule must be known at compile time");
        return NULL;
    }
    *whole = x;
    if (div == 1) return x->ir;
    struct laxis *window = new(L->a, struct laxis);
    *window = *x;
    window->name = intern(lower_text(L, n->span));
    window->ir = axis_window(L, x, (int)div, n->span);
    window->scalar = window->ir->tile == 1;
    *whole = window;
    return window->ir;
}

static void add_field(struct lower *L, struct ir_pipe *p, const struct node *n)
{
    struct ir_field *f = new(L->a, struct ir_field);
    f->name = n->name;
    for (int i = 0; i < L->fn->pipes.n; i++) f->id += L->fn->pipes.at[i]->fields.n; /* unique in the kernel */
    f->type = lower_type(L, n);
    f->pipe = p;
    f->span = n->name_span.hi ? n->name_span : n->span;
    struct sym *s = lower_name(L, intern(arena_printf(L->a, "#%s", n->name)), SYM_field, f->span);
    s->field = f;
    for (int i = 0; i < n->list.n && i < IR_RANK; i++) {
        struct laxis *x = NULL;
        struct ir_axis *ir = field_axis(L, n->list.at[i], &x);
        if (!x) continue;
        s->axes[s->naxes++] = x;
        if (!x->scalar || (!f->naxes && i == n->list.n - 1)) f->axes[f->naxes++] = ir;
    }
    vec_push(L->a, &p->fields, f);
}

/* What stands in a pipe's brackets; 0: nothing. */
static int pipe_depth(struct lower *L, const struct node *pipe, struct node *said)
{
    int64_t depth = 0;
    if (said && (!lower_static(L, said, &depth) || depth < 1 || depth > 64))
        diag_error(L->d, said->span, "the depth of pipe '%s' is a number from 1 to 64, known at compile time, or auto", pipe->name);
    return (int)depth;
}

static void declare_pipe(struct lower *L, struct node *n)
{
    struct ir_pipe *p = new(L->a, struct ir_pipe);
    p->name = n->name;
    p->id = L->fn->pipes.n;
    p->span = n->name_span.hi ? n->name_span : n->span;
    p->depth = pipe_depth(L, n, n->a);
    p->most = pipe_depth(L, n, n->b);
    vec_push(L->a, &L->fn->pipes, p);
    for (int i = 0; i < n->list.n; i++) add_field(L, p, n->list.at[i]);
    lower_name(L, n->name, SYM_pipe, p->span)->pipe = p;
}

/* ---- roles ---- */

static void set_width(struct lower *L, struct ir_role *r)
{
    const struct choice *groups = tune_mapping(L, "warpgroups", r->name), *warps = tune_mapping(L, "warps", r->name);
    if (groups) r->warps_m = (int)groups->num * 4;
    else if (warps) r->warps_m = (int)warps->num;
    r->warps_n = !r->warps_m ? 0 : !groups && warps->n ? (int)warps->n : 1;
    if (r->warps_m * r->warps_n > 32 || r->warps_m < 0 || r->warps_n < 0)
        L->unfit = arena_printf(L->a, "role '%s' would be %d warps wide, at most 32 are possible", r->name, r->warps_m * r->warps_n);
}

static void lower_role(struct lower *L, struct node *n)
{
    if (!lower_when(L, &n->list2)) return;
    struct ir_role *r = new(L->a, struct ir_role);
    r->name = n->name;
    r->id = L->fn->roles.n;
    r->span = n->name_span.hi ? n->name_span : n->span;
    set_width(L, r);
    vec_push(L->a, &L->fn->roles, r);
    struct sym *keep = L->scope;
    L->block = &r->body;
    lower_stmt(L, n->a);
    L->block = NULL;
    L->scope = keep;
}

static void lower_items(struct lower *L)
{
    set_caches(L);
    each_item(L, N_view, declare_view);
    each_item(L, N_axis, axis_declare);
    for (int i = 0; i < L->axes.n; i++) axis_tile(L, L->axes.at[i]);
    if (L->d->errors) return;
    set_cluster(L);
    each_item(L, N_spec, declare_spec);
    each_item(L, N_given, declare_given);
    each_item(L, N_shared, declare_shared);
    each_item(L, N_speccheck, lower_check);
    lower_task(L);
    if (L->d->errors) return;
    check_tiles(L);
    each_item(L, N_pipe, declare_pipe);
    if (L->d->errors) return;
    L->kernel_scope = L->scope;
    each_item(L, N_role, lower_role);
    if (!L->d->errors && !L->fn->roles.n) diag_error(L->d, L->fn->span, "kernel '%s' has no role", L->fn->name);
}

/* ---- attempts ---- */

static bool attempt(struct lower *L)
{
    if (!lower_begin(L) || !pick_values(L)) return false;
    lower_items(L);
    if (L->d->errors) return false;
    axis_prove_clean(L);
    return !L->unfit && lower_fits(L);
}

static struct lower start(struct arena *a, struct diag *d, const struct node *file, const struct node *kernel,
                          const struct compile_options *o, const struct target *t, const int *picks)
{
    return (struct lower){.a = a, .d = d, .file = file, .kernel = kernel, .o = o, .target = t, .picks = picks};
}

/* The next choice: the value listed last changes first. Mapping words keep their first one, save clusters. */
static bool next_picks(const struct lower *L, int *picks)
{
    for (int i = L->tunings.n < MAX_TUNINGS ? L->tunings.n : MAX_TUNINGS; i-- > 0;) {
        const struct tuning *t = &L->tunings.at[i];
        if (t->word && strcmp(t->word, "cluster")) continue;
        if (picks[i] + 1 < t->choices.n) {
            picks[i]++;
            return true;
        }
        picks[i] = 0;
    }
    return false;
}

static const struct target *find_target(struct diag *d, const struct compile_options *o)
{
    const struct target *t = o->target ? target_find(o->target) : NULL;
    if (!t) diag_error(d, (struct span){0, 0}, "no target called '%s'", o->target ? o->target : "");
    return t;
}

static bool has_error(const struct diag *d, const char *text)
{
    for (int i = 0; i < d->msgs.n; i++)
        if (d->msgs.at[i].level == DIAG_ERROR && !strcmp(d->msgs.at[i].text, text)) return true;
    return false;
}

static const char *first_error(const struct diag *d)
{
    for (int i = 0; i < d->msgs.n; i++)
        if (d->msgs.at[i].level == DIAG_ERROR) return d->msgs.at[i].text;
    return NULL;
}

/* Finds the first choice of tune values that is legal; false: none, and picks is all zero. An error that stays the same
 * whatever is chosen is the author's, not the choice's. */
static bool search(struct arena *keep, struct diag *d, const struct node *file, const struct node *kernel,
                   const struct compile_options *o, const struct target *t, int *picks)
{
    const char *same = NULL;
    int repeated = 0;
    for (int n = 0; n < MAX_ATTEMPTS && repeated < 6; n++) {
        struct arena scratch = {0};
        struct diag quiet;
        diag_init(&quiet, &scratch);
        quiet.files.at = d->files.at;
        quiet.files.n = d->files.n;
        struct lower L = start(&scratch, &quiet, file, kernel, o, t, picks);
        bool ok = attempt(&L);
        const char *error = first_error(&quiet);
        if (error && same && has_error(&quiet, same)) repeated++;
        else same = error ? arena_printf(keep, "%s", error) : NULL, repeated = 0;
        bool more = !ok && next_picks(&L, picks);
        arena_free(&scratch);
        if (ok) return true;
        if (!more) break;
    }
    memset(picks, 0, sizeof *picks * MAX_TUNINGS);
    return false;
}

struct ir_fn *compiler_lower(struct arena *a, struct diag *d, const struct node *file, const struct node *kernel,
                             const struct compile_options *o)
{
    int picks[MAX_TUNINGS] = {0};
    const struct target *t = find_target(d, o);
    if (!t || d->errors) return NULL;
    search(a, d, file, kernel, o, t, picks);
    struct lower L = start(a, d, file, kernel, o, t, picks);
    if (!attempt(&L)) {
        if (!d->errors) {
            diag_error(d, L.fn->span, "no choice of tune values fits %s: %s", t->name, L.unfit);
            diag_note(d, L.fn->span, "this is so for the first choices; smaller tiles or fewer slots may fit");
        }
        return NULL;
    }
    ir_verify(L.fn, "lower");
    return L.fn;
}

tune_space compiler_tune_space(struct arena *a, struct diag *d, const struct node *kernel, const struct compile_options *o)
{
    tune_space space = {0};
    const struct node none = {.kind = N_file};
    const struct target *t = find_target(d, o);
    if (!t) return space;
    struct lower L = start(a, d, &none, kernel, o, t, NULL);
    if (!lower_begin(&L) || !pick_values(&L)) return space;
    for (int i = 0; i < L.tunings.n; i++) {
        struct tune_value v = {.name = L.tunings.at[i].key};
        for (int k = 0; k < L.tunings.at[i].choices.n; k++) vec_push(a, &v.choices, L.tunings.at[i].choices.at[k].text);
        vec_push(a, &space, v);
    }
    return space;
}
