/* dgk_variant - a kernel compiled for one choice of types, inner dimensions, compiled-in sizes and tune values; each of them
 * read off a call's arguments. */
#include "runtime/dgk_inside.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/codegen.h"
#include "runtime/tunedb.h"
#include "runtime/cache.h"
#include "runtime/cache_image.h"

/* ---- what a call wants --------------------------------------------------------------------------------------- */

static const struct node *alternative(const struct slot_param *p, int i) { return p->node->list.at[i]; }

/* The type among a parameter's alternatives that a tensor's type is or stands for. */
static enum type pick_type(const struct slot_param *p, enum type in)
{
    for (int i = 0; i < p->node->list.n; i++)
        if (alternative(p, i)->type == in) return in;
    for (int i = 0; i < p->node->list.n; i++)
        if (alternative(p, i)->kind == N_typename && type_stands_for(in, alternative(p, i)->type)) return alternative(p, i)->type;
    return TY_none;
}

static enum dgk_status bad_type(const struct dgk_kernel *k, const struct slot_arg *a, enum type in, struct fault *why)
{
    char list[256] = "";
    const struct slot_param *p = a->param >= 0 ? &k->params[a->param] : NULL;
    for (int i = 0; p && i < p->node->list.n; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", type_name(alternative(p, i)->type));
    return fault_set(why, DGK_BAD_ARGUMENT, "argument '%s' is %s; %s takes %s", a->name, type_name(in), k->node->name, p ? list : type_name(a->type));
}

static enum dgk_status want_type(const struct dgk_kernel *k, int i, const dgk_value *v, struct wanted *w, struct fault *why)
{
    const struct slot_arg *a = &k->args[i];
    w->type[i] = a->type;
    if (a->param < 0) {
        if (v && v->tensor && !type_stands_for((enum type)v->tensor->type, a->type)) return bad_type(k, a, (enum type)v->tensor->type, why);
        return DGK_OK;
    }
    enum type *shared = &w->param_type[a->param];
    const struct slot_param *p = &k->params[a->param];
    if (p->fixed) *shared = type_find(p->fixed);
    if (!v || !v->tensor) {
        w->type[i] = *shared ? *shared : alternative(p, 0)->type;
        return DGK_OK;
    }
    enum type in = (enum type)v->tensor->type, t = *shared && type_stands_for(in, *shared) ? *shared : pick_type(p, in);
    if (t == TY_none) return bad_type(k, a, in, why);
    if (*shared && *shared != t)
        return fault_set(why, DGK_BAD_ARGUMENT, "argument '%s' is %s; %s is %s by another argument or option", a->name, type_name(in), p->name, type_name(*shared));
    *shared = w->type[i] = t;
    return DGK_OK;
}

/* The dimension that has stride 1; of several, the one the kernel prefers. */
static int inner_of(const struct slot_arg *a, const dgk_tensor *t)
{
    if (a->fixed_inner >= 0) return a->fixed_inner;
    for (int c = 0; t && t->rank == a->rank && c < a->n_inner; c++)
        if (t->stride[a->inner[c]] == 1) return a->inner[c];
    return a->rank ? a->inner[0] : 0;
}

static enum dgk_status want_numbers(const struct dgk_kernel *k, const dgk_value *values, int n, struct wanted *w, struct fault *why)
{
    for (int i = 0; i < k->n_params; i++) {
        int slot = k->n_args + i;
        w->param[i] = INT64_MIN;
        if (slot >= n || !values[slot].given) continue;
        if (k->params[i].is_type) return fault_set(why, DGK_BAD_ARGUMENT, "%s is a type: it follows from the arguments, or from an option", k->params[i].name);
        w->param[i] = values[slot].integer;
    }
    for (int i = 0; i < k->n_dims; i++) {
        int slot = k->n_args + k->n_params + i;
        w->size[i] = slot < n && values[slot].given ? values[slot].integer : k->dims[i].fixed ? strtoll(k->dims[i].fixed, NULL, 0) : -1;
    }
    return DGK_OK;
}

enum dgk_status variant_want(struct dgk_kernel *k, const dgk_value *values, int n, struct wanted *w, struct fault *why)
{
    memset(w, 0, sizeof *w);
    for (int i = 0; i < SLOTS_MAX; i++) w->lies[i] = w->align[i] = IR_ALIGN;
    enum dgk_status s = want_numbers(k, values, n, w, why);
    for (int i = 0; i < k->n_args && !s; i++) {
        const struct slot_arg *a = &k->args[i];
        const dgk_value *v = i < n ? &values[i] : NULL;
        struct tensor t;
        if ((s = want_type(k, i, v, w, why)) || !v || !v->tensor) continue;
        w->inner[i] = inner_of(a, v->tensor);
        if (!tensor_as(&t, v->tensor, w->type[i])) return bad_type(k, a, (enum type)v->tensor->type, why);
        if (!t.data) w->lies[i] = tensor_alignment(&t, w->inner[i]);
        for (int d = 0; d < a->rank && d < t.rank; d++)
            if (a->dim[d] >= 0 && w->size[a->dim[d]] < 0) w->size[a->dim[d]] = t.shape[d];
    }
    for (int i = 0; i < k->n_args && !s; i++) /* arguments not given: what others decided since */
        if (k->args[i].param >= 0 && w->param_type[k->args[i].param]) w->type[i] = w->param_type[k->args[i].param];
    return s;
}

/* ---- the cache ------------------------------------------------------------------------------------------------ *
 * Three kinds of entries: what was chosen for a shape, which sizes a variant must know, and a variant's image with its cubin.
 * The key of each is everything it follows from: the sources that this libdgk was built of, the kernel's, the choices, the
 * target, and what names an assembler. A newer ptxas or driver alone does not make old entries wrong: the one is asked for what
 * is compiled from now on, and what the other refuses is assembled again. */

static bool cache_key(const struct dgk_kernel *k, const char *kind, const char *choices, struct buf *key)
{
    const char *ptxas = getenv("DGC_PTXAS"), *options = getenv("DGC_PTXAS_OPTIONS");
    const struct device_props *p = &k->context->device->props;
    if (!*cache_stamp) return false;
    buf_printf(key, "%s|%s|%s|%s|%s|%s|%s|%s|%s|%s\n", kind, cache_stamp, k->node->name, k->symbol ? k->symbol : "", k->context->target->name, p->arch,
               p->emulated ? "emu" : "", ptxas ? ptxas : "", options ? options : "", choices);
    for (int i = 0; i < k->diag.files.n; i++) {
        buf_printf(key, "|%u\n", k->diag.files.at[i].size);
        buf_bytes(key, k->diag.files.at[i].text, k->diag.files.at[i].size);
    }
    return true;
}

/* ---- bindings ------------------------------------------------------------------------------------------------- */

struct choices {
    struct arena arena;
    VEC(struct binding) params, tune, inner, align;
    struct compile_options options;
};

enum choice { PARAM, TUNE, INNER, ALIGN };

static void put(struct choices *c, const char *name, const char *value, enum choice which)
{
    struct binding b = { name, value };
    switch (which) {
    case PARAM: vec_push(&c->arena, &c->params, b); break;
    case TUNE: vec_push(&c->arena, &c->tune, b); break;
    case INNER: vec_push(&c->arena, &c->inner, b); break;
    case ALIGN: vec_push(&c->arena, &c->align, b); break;
    }
}

static void put_params(struct choices *c, const struct dgk_kernel *k, const struct wanted *w)
{
    for (int i = 0; i < k->n_params; i++) {
        const struct slot_param *p = &k->params[i];
        if (w->param_type[i]) put(c, p->name, type_name(w->param_type[i]), PARAM);
        else if (p->fixed) put(c, p->name, p->fixed, PARAM);
        else if (w->param[i] != INT64_MIN) put(c, p->name, arena_printf(&c->arena, "%" PRId64, w->param[i]), PARAM);
    }
    for (int i = 0; i < k->n_dims; i++)
        if (k->dims[i].compiled_in && w->size[i] >= 0) put(c, k->dims[i].name, arena_printf(&c->arena, "%" PRId64, w->size[i]), PARAM);
}

static void settle(struct choices *c, const struct dgk_kernel *k)
{
    c->options = (struct compile_options){ k->context->target->name, c->params.at, c->params.n, c->tune.at, c->tune.n, c->inner.at, c->inner.n,
                                            c->align.at, c->align.n };
}

/* The sizes that the model sees keep seven leading bits, rounded up: near shapes share a choice, and so a variant. Those that no
 * memory holds are refused later, as they are. */
static int64_t rounded(int64_t size)
{
    int64_t step = 1;
    if (size < 128 || size > INT64_MAX / 2) return size;
    while (size / step >= 128) step *= 2;
    return ceil_div(size, step) * step;
}

static void print_bindings(struct buf *b, const struct binding *at, int n)
{
    for (int i = 0; i < n; i++) buf_printf(b, "%s=%s;", at[i].name, at[i].value);
    buf_printf(b, "|");
}

static struct memo *find_memo(struct dgk_kernel *k, const char *asked)
{
    for (struct memo *m = k->memos; m; m = m->next)
        if (!strcmp(m->asked, asked)) return m;
    return NULL;
}

static const char *kept_choice(const struct dgk_kernel *k, const char *asked, struct arena *a)
{
    struct buf key = { 0 };
    void *data;
    size_t n;
    const char *found = NULL;
    if (cache_key(k, "choice", asked, &key) && cache_get(key.at, key.n, &data, &n)) {
        found = arena_strndup(a, data, n);
        free(data);
    }
    buf_free(&key);
    return found;
}

static void keep_choice(const struct dgk_kernel *k, const char *asked, const char *answer)
{
    struct buf key = { 0 }, note = { 0 };
    buf_printf(&note, "choice %s %s %s", k->node->name, k->context->target->name, asked);
    if (cache_key(k, "choice", asked, &key)) cache_put(key.at, key.n, answer, strlen(answer), note.at);
    buf_free(&key);
    buf_free(&note);
}

/* What the model says for these sizes: asked once, remembered here and in the cache. */
static const char *answer(struct choices *c, struct dgk_kernel *k, const struct wanted *w, int sms)
{
    const char *names[SLOTS_MAX];
    int64_t sizes[SLOTS_MAX];
    struct binding chosen[SLOTS_MAX];
    struct buf asked = { 0 }, text = { 0 };
    print_bindings(&asked, c->params.at, c->params.n);
    print_bindings(&asked, c->tune.at, c->tune.n);
    print_bindings(&asked, c->inner.at, c->inner.n);
    for (int i = 0; i < k->n_dims; i++) {
        names[i] = k->dims[i].name;
        sizes[i] = k->dims[i].compiled_in ? w->size[i] : rounded(w->size[i]);
        buf_printf(&asked, "%s=%" PRId64 ";", names[i], sizes[i]);
    }
    buf_printf(&asked, "|%d", sms);
    struct memo *m = find_memo(k, asked.at);
    if (!m) {
        m = new(&k->arena, struct memo);
        m->asked = arena_strndup(&k->arena, asked.at, asked.n);
        m->answer = kept_choice(k, m->asked, &k->arena);
        m->next = k->memos;
        k->memos = m;
    }
    if (!m->answer) {
        struct choose_ask ask = { &c->arena, k->file, k->node, &c->options, names, sizes, k->n_dims, &k->context->device->props, sms };
        int n = choose_tune(&ask, chosen, COUNT(chosen));
        for (int i = 0; i < n; i++) buf_printf(&text, "%s=%s\n", chosen[i].name, chosen[i].value);
        m->answer = arena_strndup(&k->arena, text.at ? text.at : "", text.n);
        keep_choice(k, m->asked, m->answer);
    }
    buf_free(&asked);
    buf_free(&text);
    return m->answer;
}

/* What was measured for exactly these sizes; false: nothing was. */
static bool put_tuned(struct choices *c, const struct dgk_kernel *k, const struct wanted *w, int sms)
{
    const char *names[SLOTS_MAX];
    struct binding chosen[SLOTS_MAX];
    for (int i = 0; i < k->n_dims; i++) names[i] = k->dims[i].name;
    struct choose_ask ask = { &c->arena, k->file, k->node, &c->options, names, w->size, k->n_dims, &k->context->device->props, sms };
    int n = tunedb_best(&ask, chosen, COUNT(chosen));
    for (int i = 0; i < n; i++) put(c, chosen[i].name, chosen[i].value, TUNE);
    return n > 0;
}

static void put_tune(struct choices *c, struct dgk_kernel *k, const struct wanted *w)
{
    for (int i = 0; i < k->tune.n; i++) put(c, k->tune.at[i].name, k->tune.at[i].value, TUNE);
    settle(c, k);
    int sms = k->context->sms ? k->context->sms : k->context->device->props.sms;
    if (put_tuned(c, k, w, sms)) return;
    c->options.n_align = 0; /* what the shape gets, however its tensors lie */
    if (c->align.n && put_tuned(c, k, w, sms)) return;
    for (const char *at = answer(c, k, w, sms), *eq, *end; *at; at = end + 1) {
        end = at + strcspn(at, "\n");
        eq = at + strcspn(at, "=");
        if (!*end || eq >= end) break;
        const char *name = arena_strndup(&c->arena, at, (size_t)(eq - at));
        bool fixed = false;
        for (int j = 0; j < k->tune.n; j++) fixed |= !strcmp(k->tune.at[j].name, name);
        if (!fixed) put(c, name, arena_strndup(&c->arena, eq + 1, (size_t)(end - eq - 1)), TUNE);
    }
}

static void choose(struct choices *c, struct dgk_kernel *k, const struct wanted *w)
{
    put_params(c, k, w);
    for (int i = 0; i < k->n_args; i++)
        if (k->args[i].rank && (k->args[i].n_inner > 1 || k->args[i].fixed_inner >= 0)) put(c, k->args[i].name, arena_printf(&c->arena, "%d", w->inner[i]), INNER);
    for (int i = 0; i < k->n_args; i++)
        if (w->align[i] < IR_ALIGN) put(c, k->args[i].name, arena_printf(&c->arena, "%d", w->align[i]), ALIGN);
    put_tune(c, k, w);
    settle(c, k);
}

static char *key_of(const struct choices *c)
{
    struct buf b = { 0 };
    print_bindings(&b, c->params.at, c->params.n);
    print_bindings(&b, c->tune.at, c->tune.n);
    print_bindings(&b, c->inner.at, c->inner.n);
    if (c->align.n) print_bindings(&b, c->align.at, c->align.n);
    return b.at;
}

/* ---- compiling ------------------------------------------------------------------------------------------------ */

static enum dgk_status said(const struct diag *d, struct fault *why)
{
    struct buf out = { 0 };
    diag_print(d, &out, DIAG_PLAIN);
    fault_set(why, DGK_UNSUPPORTED, "%s", out.at ? out.at : "the kernel does not compile");
    size_t n = strlen(why->text);
    if (n && why->text[n - 1] == '\n') why->text[n - 1] = 0;
    buf_free(&out);
    return DGK_UNSUPPORTED;
}

/* Names of dimensions in [at, end) become compiled-in; how many were not before. */
static int compile_in(struct dgk_kernel *k, const struct wanted *w, const char *at, const char *end)
{
    int more = 0;
    while (at < end) {
        size_t n = 0;
        while (at + n < end && (isalnum((unsigned char)at[n]) || at[n] == '_')) n++;
        for (int i = 0; n && i < k->n_dims; i++)
            if (strlen(k->dims[i].name) == n && !strncmp(k->dims[i].name, at, n) && !k->dims[i].compiled_in && w->size[i] >= 0)
                k->dims[i].compiled_in = true, more++;
        at += n ? n : 1;
    }
    return more;
}

/* Lowering says of some sizes that it needs their number: those are part of the variant from now on. True: worth another try. */
static bool needs_numbers(struct dgk_kernel *k, const struct wanted *w, const struct diag *d)
{
    int more = 0;
    for (int i = 0; i < d->msgs.n; i++) {
        const struct diag_msg *m = &d->msgs.at[i];
        if (m->level != DIAG_ERROR || (!strstr(m->text, "needs a number") && !strstr(m->text, "known at compile time"))) continue;
        more += compile_in(k, w, m->text, m->text + strlen(m->text));
        const struct source_file *f = diag_where(d, m->span.lo, NULL, NULL);
        if (f && m->span.hi <= f->base + f->size) more += compile_in(k, w, f->text + (m->span.lo - f->base), f->text + (m->span.hi - f->base));
    }
    return more > 0;
}

static void free_variant(struct variant *v)
{
    arena_free(&v->arena);
    free(v->key);
    free(v);
}

void variant_free(struct dgk_kernel *k, struct variant *v)
{
    if (v->module) k->context->device->ops->unload(k->context->device, v->module);
    free_variant(v);
}

/* The sizes that lowering of this variant asked for before: "M,K"; kept, so that it is not lowered only to ask again. */
static bool needs_known(struct dgk_kernel *k, const struct wanted *w, const char *choices)
{
    struct buf key = { 0 };
    void *data;
    size_t n;
    int more = 0;
    if (cache_key(k, "sizes", choices, &key) && cache_get(key.at, key.n, &data, &n)) {
        more = compile_in(k, w, data, (const char *)data + n);
        free(data);
    }
    buf_free(&key);
    return more > 0;
}

static void keep_needs(const struct dgk_kernel *k, const char *choices)
{
    struct buf key = { 0 }, names = { 0 }, note = { 0 };
    for (int i = 0; i < k->n_dims; i++)
        if (k->dims[i].compiled_in) buf_printf(&names, "%s%s", names.n ? "," : "", k->dims[i].name);
    buf_printf(&note, "sizes %s %s %s", k->node->name, k->context->target->name, choices);
    if (names.n && cache_key(k, "sizes", choices, &key)) cache_put(key.at, key.n, names.at, names.n, note.at);
    buf_free(&key);
    buf_free(&names);
    buf_free(&note);
}

static struct variant *compile_once(struct dgk_kernel *k, const struct choices *c, struct diag *d, struct buf *explain)
{
    struct variant *v = calloc(1, sizeof *v);
    if (!v) return NULL;
    *d = k->diag; /* its files; messages of its own */
    d->arena = &v->arena;
    memset(&d->msgs, 0, sizeof d->msgs);
    d->errors = d->warnings = 0;
    v->fn = compiler_lower(&v->arena, d, k->file, k->node, &c->options);
    if (v->fn && !d->errors) compiler_passes(&v->arena, d, v->fn, k->context->target);
    struct codegen_options o = { .symbol = k->symbol, .explain = explain };
    if (v->fn && !d->errors) v->image = codegen_kernel(&v->arena, d, v->fn, &o);
    return v;
}

static struct variant *look_up(const struct dgk_kernel *k, const char *key)
{
    for (struct variant *v = k->variants; v; v = v->next)
        if (!strcmp(v->key, key)) return v;
    return NULL;
}

static struct variant *from_cache(struct dgk_kernel *k, const char *choices)
{
    struct buf key = { 0 };
    void *data = NULL;
    size_t n;
    struct variant *v = NULL;
    if (cache_key(k, "variant", choices, &key) && cache_get(key.at, key.n, &data, &n) && (v = calloc(1, sizeof *v))) {
        char *kept = arena_alloc(&v->arena, n + 1);
        memcpy(kept, data, n);
        v->image = image_unpack(&v->arena, kept, n, &v->code, &v->code_bytes);
        v->cached = true;
        if (!v->image) free_variant(v), v = NULL;
    }
    if (v) k->counts.from_cache++;
    free(data);
    buf_free(&key);
    return v;
}

static void to_cache(const struct dgk_kernel *k, const struct variant *v, const void *code, size_t bytes)
{
    struct buf key = { 0 }, data = { 0 }, note = { 0 };
    buf_printf(&note, "%s %s %s", v->image->kernel, v->image->target, v->key);
    if (cache_key(k, "variant", v->key, &key)) {
        image_pack(v->image, code, bytes, &data);
        cache_put(key.at, key.n, data.at, data.n, note.at);
    }
    buf_free(&key);
    buf_free(&data);
    buf_free(&note);
}

/* What was just compiled, without code: what came from the cache is there, perhaps with it. */
static void keep(const struct dgk_kernel *k, struct variant *v)
{
    if (!v->cached) to_cache(k, v, NULL, 0);
}

/* One look at the variants, and one compilation: DGK_OK with *out NULL asks for another, with more compiled in. */
static enum dgk_status attempt(struct dgk_kernel *k, const struct wanted *w, bool may_compile, struct variant **out, struct buf *explain,
                               struct fault *why)
{
    struct choices c = { 0 };
    struct diag d;
    choose(&c, k, w);
    char *key = key_of(&c);
    enum dgk_status s = DGK_OK;
    *out = explain ? NULL : look_up(k, key);
    if (*out) {
        free(key);
    } else if (!explain && needs_known(k, w, key)) {
        free(key);
    } else if (!may_compile) {
        free(key);
        s = fault_set(why, DGK_CAPTURING, "%s was not called with these types and layouts before, and nothing is compiled while a graph is captured; "
                      "call it once (or dgk_prepare it) before the capture", k->node->name);
    } else {
        struct variant *v = explain ? NULL : from_cache(k, key);
        d.errors = 0;
        if (!v) v = compile_once(k, &c, &d, explain);
        if (!v) s = fault_set(why, DGK_NO_MEMORY, "no memory for a variant");
        if (v && v->image && !d.errors) {
            v->key = key;
            *out = v;
            if (!explain) { /* an explained one is the asker's */
                v->next = k->variants;
                k->variants = v;
                k->counts.compiled += !v->cached;
            }
        } else {
            if (v && !needs_numbers(k, w, &d)) s = said(&d, why);
            else if (v) keep_needs(k, key);
            free(key);
            if (v) free_variant(v);
        }
    }
    arena_free(&c.arena);
    return s;
}

/* Tensors that do not lie as the variant asks: another may rely on no more than they give. An element must lie at a multiple
 * of its size, two of four bits in one byte. False: this variant is the one. */
static bool loosen(const struct image *im, struct wanted *w)
{
    bool more = false;
    for (int i = 0; i < im->args.n; i++) {
        const struct image_arg *a = &im->args.at[i];
        int bits = tensor_item_bits(a->type), least = bits < 8 ? 1 : bits / 8, give = w->lies[i] < least ? least : w->lies[i];
        if (!a->rank || give >= a->base_align || give >= w->align[i]) continue;
        w->align[i] = give;
        more = true;
    }
    return more;
}

enum dgk_status variant_find(struct dgk_kernel *k, const struct wanted *wanted, bool may_compile, struct variant **out, struct buf *explain,
                             struct fault *why)
{
    struct wanted w = *wanted;
    enum dgk_status s = DGK_OK;
    *out = NULL;
    while (!*out && !s) {
        s = attempt(k, &w, may_compile, out, explain, why);
        if (s || !*out || !loosen((*out)->image, &w)) continue;
        if (explain) variant_free(k, *out), explain->n = 0;
        else keep(k, *out); /* it is asked for again, to say so: its code is not */
        *out = NULL;
    }
    return s;
}

static enum dgk_status load_assembled(struct dgk_kernel *k, struct variant *v, struct fault *why)
{
    static const struct assemble_options options = { .accept_bad_code = true, .driver = module_driver_assembles };
    struct device *d = k->context->device;
    void *cubin;
    size_t bytes;
    enum dgk_status s = module_cubin(d, v->image, &options, &cubin, &bytes, NULL, why);
    if (s == DGK_NO_ASSEMBLER) { /* the driver takes PTX, too */
        s = d->ops->load(d, v->image->ptx, v->image->ptx_bytes, &v->module, why);
        if (!s) keep(k, v);
        return s;
    }
    if (s) return s;
    s = d->ops->load(d, cubin, bytes, &v->module, why);
    if (!s) to_cache(k, v, cubin, bytes);
    free(cubin);
    return s;
}

enum dgk_status variant_load(struct dgk_kernel *k, struct variant *v, struct fault *why)
{
    struct device *d = k->context->device;
    if (v->module) return DGK_OK;
    enum dgk_status s = module_runs(d, v->image, why);
    if (s) return s;
    if (!d->props.emulated) {
        if (v->code && !d->ops->load(d, v->code, v->code_bytes, &v->module, why)) return DGK_OK;
        return load_assembled(k, v, why);
    }
    s = d->ops->load(d, v->image->ptx, v->image->ptx_bytes, &v->module, why);
    if (!s) keep(k, v);
    return s;
}
