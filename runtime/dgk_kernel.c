/* dgk_kernel - a kernel read once: its tree, its signature, and what the caller fixed. */
#include "runtime/dgk_inside.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

/* ---- signature ----------------------------------------------------------------------------------------------- */

static int find_param(const struct dgk_kernel *k, const char *name)
{
    for (int i = 0; i < k->n_params; i++)
        if (!strcmp(k->params[i].name, name)) return i;
    return -1;
}

static int find_dim(const struct dgk_kernel *k, const char *name)
{
    for (int i = 0; i < k->n_dims; i++)
        if (!strcmp(k->dims[i].name, name)) return i;
    return -1;
}

static bool too_many(const struct dgk_kernel *k) { return k->n_args + k->n_params + k->n_dims >= SLOTS_MAX; }

/* Every name in a dimension's expression that is no parameter is a dimension of the kernel. */
static void add_dims(struct dgk_kernel *k, const struct node *n)
{
    if (!n || too_many(k)) return;
    if (n->kind == N_name && find_param(k, n->name) < 0 && find_dim(k, n->name) < 0) k->dims[k->n_dims++] = (struct slot_dim){ .name = n->name };
    add_dims(k, n->a);
    add_dims(k, n->b);
    add_dims(k, n->c);
    for (int i = 0; i < n->list.n; i++) add_dims(k, n->list.at[i]);
}

static void add_inner(struct slot_arg *a)
{
    for (int c = 0; c < a->node->list2.n; c++)
        for (int d = 0; d < a->rank; d++)
            if (ast_same(a->node->list2.at[c], a->node->list.at[d]) && a->n_inner < IMAGE_RANK) a->inner[a->n_inner++] = d;
    if (!a->n_inner && a->rank) a->inner[a->n_inner++] = a->rank - 1;
}

static void add_arg(struct dgk_kernel *k, const struct node *n)
{
    struct slot_arg *a = &k->args[k->n_args++];
    *a = (struct slot_arg){ .name = n->name, .node = n, .dir = n->flag, .rank = n->list.n, .type = n->type, .param = -1, .fixed_inner = -1 };
    if (n->type == TY_none && n->text) a->param = find_param(k, intern(n->text));
    for (int d = 0; d < a->rank && d < IMAGE_RANK; d++) {
        add_dims(k, n->list.at[d]);
        a->dim[d] = n->list.at[d]->kind == N_name ? find_dim(k, n->list.at[d]->name) : -1;
    }
    add_inner(a);
}

static enum dgk_status read_signature(struct dgk_kernel *k, struct fault *why)
{
    k->params = new_n(&k->arena, struct slot_param, SLOTS_MAX);
    k->args = new_n(&k->arena, struct slot_arg, SLOTS_MAX);
    k->dims = new_n(&k->arena, struct slot_dim, SLOTS_MAX);
    for (int i = 0; i < k->node->list.n && !too_many(k); i++) {
        const struct node *p = k->node->list.at[i];
        k->params[k->n_params++] = (struct slot_param){ .name = p->name, .node = p, .is_type = p->list.n && p->list.at[0]->kind == N_typename };
    }
    for (int i = 0; i < k->node->list2.n && !too_many(k); i++) add_arg(k, k->node->list2.at[i]);
    return too_many(k) ? fault_set(why, DGK_UNSUPPORTED, "%s has more than %d arguments, parameters and dimensions", k->node->name, SLOTS_MAX - 1) : DGK_OK;
}

/* ---- options ------------------------------------------------------------------------------------------------- */

static bool fix_inner(struct dgk_kernel *k, const char *name, const char *value)
{
    size_t n = strlen(name);
    if (strncmp(name, "inner(", 6) || name[n - 1] != ')') return false;
    for (int i = 0; i < k->n_args; i++)
        if (strlen(k->args[i].name) == n - 7 && !strncmp(k->args[i].name, name + 6, n - 7)) k->args[i].fixed_inner = atoi(value);
    return true;
}

static enum dgk_status fix(struct dgk_kernel *k, const char *text, struct fault *why)
{
    const char *eq = strchr(text, '=');
    if (!eq) return fault_set(why, DGK_USAGE, "'%s' fixes nothing; write NAME=VALUE", text);
    const char *name = arena_strndup(&k->arena, text, (size_t)(eq - text)), *value = arena_strndup(&k->arena, eq + 1, strlen(eq + 1));
    int p = find_param(k, name), d = find_dim(k, name);
    if (p >= 0) k->params[p].fixed = value;
    else if (d >= 0) k->dims[d].fixed = value, k->dims[d].compiled_in = true;
    else if (!fix_inner(k, name, value)) {
        struct binding b = { name, value };
        vec_push(&k->arena, &k->tune, b);
    }
    return DGK_OK;
}

static enum dgk_status specialize(struct dgk_kernel *k, const char *list, struct fault *why)
{
    for (const char *p = list; p && *p;) {
        size_t n = strcspn(p, ", ");
        const char *name = arena_strndup(&k->arena, p, n);
        int d = find_dim(k, name);
        if (n && d < 0) return fault_set(why, DGK_USAGE, "%s has no dimension '%s' to specialise", k->node->name, name);
        if (n) k->dims[d].compiled_in = true;
        p += n + (p[n] != 0);
    }
    return DGK_OK;
}

static enum dgk_status take_options(struct dgk_kernel *k, const dgk_options *o, struct fault *why)
{
    enum dgk_status s = DGK_OK;
    for (int i = 0; i < o->n_fixed && !s; i++) s = fix(k, o->fixed[i], why);
    if (o->symbol) k->symbol = arena_strndup(&k->arena, o->symbol, strlen(o->symbol));
    return s ? s : specialize(k, o->specialize, why);
}

/* ---- loading ------------------------------------------------------------------------------------------------- */

/* Where the kernels that come with dgc may lie: for imports of "grid.dgk" from anywhere. */
static void add_import_dirs(struct dgk_kernel *k, const dgk_options *o)
{
    const char *named = getenv("DGC_IMPORT_PATH");
    for (int i = 0; i < o->n_import_dirs; i++) {
        const char *dir = arena_strndup(&k->arena, o->import_dirs[i], strlen(o->import_dirs[i]));
        vec_push(&k->arena, &k->import_dirs, dir);
    }
    if (named && *named) vec_push(&k->arena, &k->import_dirs, arena_strndup(&k->arena, named, strlen(named)));
}

static enum dgk_status said(const struct dgk_kernel *k, struct fault *why)
{
    struct buf out = { 0 };
    diag_print(&k->diag, &out, DIAG_PLAIN);
    fault_set(why, DGK_BAD_FILE, "%s", out.at ? out.at : "the kernel has errors");
    size_t n = strlen(why->text);
    if (n && why->text[n - 1] == '\n') why->text[n - 1] = 0;
    buf_free(&out);
    return DGK_BAD_FILE;
}

static enum dgk_status read_source(struct dgk_kernel *k, const char *text, size_t bytes, const dgk_options *o, struct fault *why)
{
    diag_init(&k->diag, &k->arena);
    add_import_dirs(k, o);
    struct node *file = text ? dsl_parse_text(&k->arena, &k->diag, k->path, text, bytes, k->import_dirs.at, k->import_dirs.n)
                             : dsl_parse_file(&k->arena, &k->diag, k->path, k->import_dirs.at, k->import_dirs.n);
    if (!k->diag.errors) dsl_check(&k->arena, &k->diag, file);
    if (k->diag.errors) return said(k, why);
    k->file = file;
    k->node = dsl_kernel(file, o->kernel ? intern(o->kernel) : NULL);
    if (!k->node) return fault_set(why, DGK_BAD_ARGUMENT, "%s has no kernel%s%s%s", k->path, o->kernel ? " '" : "", o->kernel ? o->kernel : "", o->kernel ? "'" : "");
    enum dgk_status s = read_signature(k, why);
    return s ? s : take_options(k, o, why);
}

static int load(dgk_context *c, const char *path, const char *text, size_t bytes, const dgk_options *o, dgk_kernel **out)
{
    static const dgk_options none;
    struct fault *why = fault_here();
    struct dgk_kernel *k = calloc(1, sizeof *k);
    *out = NULL;
    if (!k) return (int)fault_set(why, DGK_NO_MEMORY, "no memory for a kernel");
    k->context = c;
    k->path = arena_strndup(&k->arena, path, strlen(path));
    k->from_text = text != NULL;
    pthread_mutex_init(&k->lock, NULL);
    enum dgk_status s = read_source(k, text, bytes, o ? o : &none, why);
    pthread_mutex_lock(&c->lock);
    k->next = c->kernels;
    c->kernels = k;
    pthread_mutex_unlock(&c->lock);
    if (s) dgk_unload(k);
    else *out = k;
    return (int)s;
}

int dgk_load(dgk_context *c, const char *path, const dgk_options *options, dgk_kernel **out)
{
    return load(c, path, NULL, 0, options, out);
}

int dgk_load_text(dgk_context *c, const char *name, const char *text, size_t bytes, const dgk_options *options, dgk_kernel **out)
{
    return load(c, name, text, bytes, options, out);
}

static void leave_context(struct dgk_kernel *k)
{
    struct dgk_kernel **at = &k->context->kernels;
    pthread_mutex_lock(&k->context->lock);
    while (*at && *at != k) at = &(*at)->next;
    if (*at) *at = k->next;
    pthread_mutex_unlock(&k->context->lock);
}

void dgk_unload(dgk_kernel *k)
{
    if (!k) return;
    leave_context(k);
    for (int i = 0; i < k->cap_entries; i++)
        for (struct entry *e = k->entries[i], *next; e; e = next) {
            next = e->next;
            entry_free(e);
        }
    free(k->entries);
    for (struct variant *v = k->variants, *next; v; v = next) {
        next = v->next;
        variant_free(k, v);
    }
    pthread_mutex_destroy(&k->lock);
    arena_free(&k->arena);
    free(k);
}

/* ---- slots --------------------------------------------------------------------------------------------------- */

int dgk_slots(dgk_kernel *k) { return k->n_args + k->n_params + k->n_dims; }

int dgk_slot_at(dgk_kernel *k, int i, dgk_slot *out)
{
    *out = (dgk_slot){ 0 };
    if (i < 0 || i >= dgk_slots(k)) return (int)fault_set(fault_here(), DGK_BAD_ARGUMENT, "%s has no slot %d", k->node->name, i);
    if (i < k->n_args) {
        const struct slot_arg *a = &k->args[i];
        *out = (dgk_slot){ a->name, a->rank ? DGK_SLOT_TENSOR : DGK_SLOT_SCALAR, a->dir, (int32_t)a->type, a->rank };
    } else if ((i -= k->n_args) < k->n_params) {
        *out = (dgk_slot){ .name = k->params[i].name, .kind = DGK_SLOT_PARAM };
    } else {
        *out = (dgk_slot){ .name = k->dims[i - k->n_params].name, .kind = DGK_SLOT_DIM };
    }
    return DGK_OK;
}

int dgk_slot_find(dgk_kernel *k, const char *name)
{
    dgk_slot s;
    for (int i = 0; i < dgk_slots(k); i++)
        if (!dgk_slot_at(k, i, &s) && !strcmp(s.name, name)) return i;
    return -1;
}

void dgk_count(dgk_kernel *k, dgk_counts *out)
{
    pthread_mutex_lock(&k->lock);
    *out = k->counts;
    pthread_mutex_unlock(&k->lock);
}

void dgk_release(char *text) { free(text); }
