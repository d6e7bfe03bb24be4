/* oracle - dgc test: choices of parameters, random cases, the interpreter and a device, each held to the spec. */
#include "runtime/oracle.h"

#include "codegen/codegen.h"
#include "runtime/launch.h"
#include "runtime/module.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_BINDINGS 64
#define EMULATED_BUDGET 60000  /* elements and steps of one case, see oracle_dims */
#define DEVICE_BUDGET 400000
#define TUNED_GROUPS 2         /* beyond the choices of parameters: random tune values, in the last for tensors that lie anyhow */
#define ATTEMPTS 8             /* at sizes and tune values that compile */
#define GROUP_SECONDS 10       /* past it, one case a device is enough */
#define UNITS 3                /* of a persistent kernel in the interpreter: few, so that each does many tasks */

struct test {
    const struct oracle_options *o;
    struct buf *out;
    struct oracle_result *result;
    struct arena arena;
    struct diag diag;
    struct node *file;
    double until;              /* seconds of the clock, or 0 */
};

/* One choice of parameters of one kernel. */
struct group {
    struct test *t;
    struct node *kernel;
    struct binding params[MOST_BINDINGS], inner[MOST_BINDINGS], align[MOST_BINDINGS], tune[MOST_BINDINGS];
    int n_params, n_inner, n_align, n_tune;
    bool tuned;                /* tune values are picked at random: a pick that does not fit is no mistake */
    uint64_t seed;
    struct ir_fn *early, *fn;  /* as lowered, and after the passes */
    struct image *image;
    struct buf devices;        /* names of what agreed */
    double distance;
    int cases;
    bool failed;
    bool unseen;               /* the interpreter cannot run it, and there is no device to do so */
    double until;              /* past it, one case a device is enough */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool uses_device(const struct test *t) { return t->o->device && strcmp(t->o->device, "ir"); }

static bool out_of_time(const struct test *t) { return t->until && now() > t->until; }

__attribute__((format(printf, 2, 3)))
static void say(struct test *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = arena_vprintf(&t->arena, fmt, ap);
    va_end(ap);
    buf_bytes(t->out, text, strlen(text));
}

static void say_name(const struct group *g)
{
    say(g->t, "%s", g->kernel->name);
    for (int i = 0; i < g->n_params; i++) say(g->t, " %s=%s", g->params[i].name, g->params[i].value);
    for (int i = 0; i < g->n_inner; i++) say(g->t, " inner(%s)=%s", g->inner[i].name, g->inner[i].value);
    for (int i = 0; i < g->n_align; i++) say(g->t, " align(%s)=%s", g->align[i].name, g->align[i].value);
    for (int i = 0; g->tuned && i < g->n_tune; i++) say(g->t, " %s=%s", g->tune[i].name, g->tune[i].value);
}

static void say_dims(const struct group *g, const struct oracle_case *c)
{
    for (int i = 0; i < g->fn->dims.n; i++) say(g->t, "%s%s=%lld", i ? " " : "", g->fn->dims.at[i].name, (long long)c->dims[i]);
}

/* First failure of a group: its name once, then what. */
static void say_failed(struct group *g, const struct oracle_case *c, const char *by, const char *what)
{
    if (!g->failed) {
        say(g->t, "FAIL ");
        say_name(g);
        say(g->t, " on %s\n", g->t->o->target);
    }
    say(g->t, "     %s", by);
    if (c) {
        say(g->t, ", ");
        say_dims(g, c);
        say(g->t, " data=%d seed=%llu", (int)c->data, (unsigned long long)c->seed);
    }
    say(g->t, ": %s\n", what);
    g->failed = true;
}

/* choices */

static const char *find(const struct binding *list, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(list[i].name, name)) return list[i].value;
    return NULL;
}

static void bind(struct group *g, const char *name, const char *value)
{
    if (g->n_params < MOST_BINDINGS && !find(g->params, g->n_params, name))
        g->params[g->n_params++] = (struct binding){ name, value };
}

static const char *alternative(struct arena *a, const struct node *n)
{
    return n->kind == N_typename ? type_name(n->type) : n->kind == N_int ? arena_printf(a, "%lld", (long long)n->num) : n->name;
}

/* Dimensions that an expression names. */
static void dims_in(struct group *g, const struct node *n, const char *const *dims, int n_dims, uint64_t *found)
{
    if (!n) return;
    for (int i = 0; n->kind == N_name && i < n_dims; i++)
        if (dims[i] == n->name) *found |= 1ull << i;
    const struct node *parts[] = { n->a, n->b, n->c, n->d };
    for (int i = 0; i < COUNT(parts); i++) dims_in(g, parts[i], dims, n_dims, found);
    for (int i = 0; i < n->list.n; i++) dims_in(g, n->list.at[i], dims, n_dims, found);
}

static int arg_dims(const struct node *kernel, const char **dims)
{
    int n = 0;
    for (int i = 0; i < kernel->list2.n; i++)
        for (int d = 0; d < kernel->list2.at[i]->list.n; d++) {
            const struct node *e = kernel->list2.at[i]->list.at[d];
            int at = 0;
            if (e->kind != N_name) continue;
            while (at < n && dims[at] != e->name) at++;
            if (at == n && n < 64) dims[n++] = e->name;
        }
    return n;
}

/* Dimensions whose value a tile's extent needs: whole axes, tile sizes, tune values. */
static void static_dims(struct group *g, const struct node *n, const char *const *dims, int n_dims, uint64_t *found)
{
    if (!n) return;
    if (n->kind == N_axis) {
        if (!n->d && !n->b && !n->c) dims_in(g, n->a, dims, n_dims, found);
        dims_in(g, n->d, dims, n_dims, found);
    }
    if (n->kind == N_tune || n->kind == N_on) {
        dims_in(g, n, dims, n_dims, found);
        for (int i = 0; i < n->list2.n; i++) dims_in(g, n->list2.at[i], dims, n_dims, found);
    }
    for (int i = 0; n->kind == N_block && i < n->list.n; i++) static_dims(g, n->list.at[i], dims, n_dims, found);
}

/* Parameters of choice number `choice`: alternatives in turn, so that as many choices as the longest list cover all. */
static void choose(struct group *g, int choice, int attempt)
{
    static const int sizes[] = { 64, 128, 32, 16, 256, 4 };
    const struct oracle_options *o = g->t->o;
    const char *dims[64];
    int n_dims = arg_dims(g->kernel, dims);
    uint64_t fixed = 0;
    g->n_params = g->n_inner = 0;
    for (int i = 0; i < o->n_params; i++) bind(g, o->params[i].name, o->params[i].value);
    for (int i = 0; i < g->kernel->list.n; i++) {
        const struct node *p = g->kernel->list.at[i];
        bind(g, p->name, alternative(&g->t->arena, p->list.at[(choice + (choice ? i : 0)) % p->list.n]));
    }
    static_dims(g, g->kernel->b, dims, n_dims, &fixed);
    for (int i = 0; i < n_dims; i++)
        if (fixed >> i & 1) bind(g, dims[i], arena_printf(&g->t->arena, "%d", sizes[(attempt + i * (attempt / COUNT(sizes))) % COUNT(sizes)]));
    for (int i = 0; i < g->kernel->list2.n; i++) {
        const struct node *arg = g->kernel->list2.at[i];
        if (arg->list2.n < 2 || find(o->inner, o->n_inner, arg->name) || g->n_inner == MOST_BINDINGS) continue;
        const struct node *want = arg->list2.at[(choice >> (i % 3)) % arg->list2.n];
        for (int d = 0; d < arg->list.n; d++) {
            struct buf x = { 0 }, y = { 0 };
            ast_print(want, &x);
            ast_print(arg->list.at[d], &y);
            bool same = x.at && y.at && !strcmp(x.at, y.at);
            buf_free(&x);
            buf_free(&y);
            if (!same) continue;
            g->inner[g->n_inner++] = (struct binding){ arg->name, arena_printf(&g->t->arena, "%d", d) };
            break;
        }
    }
    for (int i = 0; i < o->n_inner && g->n_inner < MOST_BINDINGS; i++) g->inner[g->n_inner++] = o->inner[i];
    g->n_align = 0;
    for (int i = 0; i < o->n_align && g->n_align < MOST_BINDINGS; i++) g->align[g->n_align++] = o->align[i];
}

static int count_choices(const struct node *kernel)
{
    int most = 1;
    for (int i = 0; i < kernel->list.n; i++)
        if (kernel->list.at[i]->list.n > most) most = kernel->list.at[i]->list.n;
    for (int i = 0; i < kernel->list2.n; i++)
        if (kernel->list2.at[i]->list2.n > 1 && most < 4) most = 4;
    return most;
}

/* compiling */

static struct compile_options compile_options(const struct group *g)
{
    const struct oracle_options *o = g->t->o;
    return (struct compile_options){ .target = o->target, .params = g->params, .n_params = g->n_params, .tune = g->tuned ? g->tune : o->tune,
                                     .n_tune = g->tuned ? g->n_tune : o->n_tune, .inner = g->inner, .n_inner = g->n_inner,
                                     .align = g->align, .n_align = g->n_align };
}

static struct ir_fn *lower(struct group *g, struct diag *d, bool passes)
{
    struct compile_options o = compile_options(g);
    struct ir_fn *fn = compiler_lower(&g->t->arena, d, g->t->file, g->kernel, &o);
    if (fn && passes && !d->errors) compiler_passes(&g->t->arena, d, fn, target_find(o.target));
    return d->errors ? NULL : fn;
}

/* Messages of an attempt share the files of the whole. */
static void open_messages(struct test *t, struct diag *d)
{
    *d = t->diag;
    d->msgs.at = NULL;
    d->msgs.n = d->msgs.cap = 0;
    d->errors = d->warnings = 0;
}

static void show_messages(struct group *g, struct diag *d, const char *word)
{
    struct buf text = { 0 };
    diag_print(d, &text, DIAG_PLAIN);
    say(g->t, "%s ", word);
    say_name(g);
    say(g->t, " on %s:\n%s", g->t->o->target, text.at ? text.at : "");
    buf_free(&text);
}

/* A random choice for about half of the tune values; what the caller fixed stays. */
static void pick_tune(struct group *g)
{
    const struct oracle_options *o = g->t->o;
    struct compile_options options = compile_options(g);
    struct diag d;
    open_messages(g->t, &d);
    tune_space space = compiler_tune_space(&g->t->arena, &d, g->kernel, &options);
    g->n_tune = 0;
    for (int i = 0; i < o->n_tune && i < MOST_BINDINGS; i++) g->tune[g->n_tune++] = o->tune[i];
    for (int i = 0; i < space.n && g->n_tune < MOST_BINDINGS; i++) {
        const struct tune_value *v = &space.at[i];
        if (v->choices.n < 2 || oracle_random(&g->seed) % 2 || find(g->tune, g->n_tune, v->name)) continue;
        g->tune[g->n_tune++] = (struct binding){ v->name, v->choices.at[oracle_random(&g->seed) % (uint64_t)v->choices.n] };
    }
}

/* Tensors that lie anyhow, about half of them and at least one: views that begin an element later, rows of odd lengths. */
static void pick_align(struct group *g)
{
    static const char *const bytes[] = { "1", "1", "4", "8" };
    const nodes *args = &g->kernel->list2;
    int at = (int)(oracle_random(&g->seed) % (uint64_t)(args->n + 1));
    for (int i = 0; i < args->n && g->n_align < MOST_BINDINGS; i++) {
        const struct node *arg = args->at[(at + i) % args->n];
        if (!arg->list.n || find(g->align, g->n_align, arg->name) || (g->n_align && oracle_random(&g->seed) % 2)) continue;
        g->align[g->n_align++] = (struct binding){ arg->name, bytes[oracle_random(&g->seed) % COUNT(bytes)] };
    }
}

static struct image *generate(struct group *g, struct diag *d)
{
    open_messages(g->t, d);
    struct ir_fn *fn = lower(g, d, true);
    return fn ? codegen_kernel(&g->t->arena, d, fn, NULL) : NULL;
}

/* Whether a kernel with picked tune values compiles to the end. */
static bool fits(struct group *g)
{
    struct diag d;
    g->image = generate(g, &d);
    return g->image != NULL;
}

/* Whether the assembler takes the image's code: for a GPU always, on the emulator where one is named. */
static enum dgk_status assembles(const struct group *g, struct device *d, struct fault *why)
{
    const struct assemble_options *o = g->t->o->assemble;
    void *cubin = NULL;
    size_t bytes;
    enum dgk_status s = DGK_OK;
    if (!d->props.emulated) s = module_cubin(d, g->image, o, &cubin, &bytes, NULL, why);
    else if (o && o->ptxas) s = module_assemble(g->image->ptx, g->image->ptx_bytes, o, &cubin, &bytes, NULL, NULL, why);
    free(cubin);
    return s;
}

/* Bytes that the assembler spills of picked tune values: such a pick is no mistake of the kernel or the compiler. */
static int spilled_bytes(const struct group *g)
{
    struct fault *why = new(&g->t->arena, struct fault);
    struct assemble_report r = { .spill_store_bytes = 0 };
    struct device *d;
    if (!uses_device(g->t) || device_open(&d, g->t->o->device, g->t->o->target, why)) return 0;
    if (assembles(g, d, why) == DGK_BAD_CODE) assemble_read_report(why->text, &r);
    device_close(d);
    return r.spill_store_bytes > r.spill_load_bytes ? r.spill_store_bytes : r.spill_load_bytes;
}

static bool lower_both(struct group *g, struct diag *d)
{
    open_messages(g->t, d);
    g->early = lower(g, d, false);
    g->fn = g->early ? lower(g, d, true) : NULL;
    return g->fn != NULL;
}

/* Random tune values that compile to the end, perhaps for tensors that lie anyhow; false when none is found, which is no mistake. */
static bool compile_tuned(struct group *g, int choice, bool anyhow)
{
    struct diag d;
    choose(g, choice, 0);
    if (anyhow) pick_align(g);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        pick_tune(g);
        if ((!g->n_tune && !g->n_align) || !fits(g)) continue;
        int spilled = spilled_bytes(g);
        if (spilled <= 0) return lower_both(g, &d);
        say(g->t, "skip ");
        say_name(g);
        say(g->t, " on %s: skipped (spills %d bytes)\n", g->t->o->target, spilled);
        g->t->result->skipped++;
    }
    return false;
}

/* Whether it is the caller's tune values that do not compile. */
static bool without_values(const struct group *g)
{
    struct group bare = *g;
    struct diag d;
    bare.tuned = true;
    bare.n_tune = 0;
    open_messages(g->t, &d);
    return g->t->o->n_tune && lower(&bare, &d, true);
}

/* Sizes that we chose ourselves may be too large for the chip: the first that fit, else the first. */
static bool compile(struct group *g, int choice)
{
    struct diag d;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        choose(g, choice, attempt);
        bool chosen = g->n_params > g->t->o->n_params + g->kernel->list.n;
        if ((!chosen || !uses_device(g->t) || fits(g)) && lower_both(g, &d)) return true;
        if (!chosen) break;
    }
    choose(g, choice, 0);
    if (lower_both(g, &d)) return true; /* its error comes with the code generator */
    g->failed = without_values(g);
    show_messages(g, &d, g->failed ? "FAIL" : "skip");
    return false;
}

/* Kernels that givens run. */
static struct ir_fn *find_kernel(void *state, const char *name)
{
    struct group *g = state, other = *g;
    struct diag d;
    other.kernel = dsl_kernel(g->t->file, intern(name));
    if (!other.kernel) return NULL;
    other.n_params = other.n_inner = other.n_align = other.n_tune = 0;
    other.tuned = true; /* by its own first choices: values of the command line are the tested kernel's */
    for (int i = 0; i < g->n_params; i++) { /* what both have is the same */
        bool known = false;
        for (int k = 0; k < other.kernel->list.n; k++) known |= !strcmp(other.kernel->list.at[k]->name, g->params[i].name);
        if (known) other.params[other.n_params++] = g->params[i];
    }
    open_messages(g->t, &d);
    return lower(&other, &d, true);
}

/* judging */

static void judge_untouched(struct group *g, const struct oracle_case *c, const struct interp_tensor *after, uint8_t *const *covered, const char *by)
{
    for (int i = 0; i < g->fn->tensors.n; i++) {
        int64_t first[IR_RANK], n;
        struct buf text = { 0 };
        if (!covered[i] || !(n = oracle_untouched(&c->before[i], &after[i], covered[i], first))) continue;
        buf_printf(&text, "%s: %lld elements are written that no spec speaks of, the first [", g->fn->tensors.at[i]->name, (long long)n);
        for (int d = 0; d < after[i].rank; d++) buf_printf(&text, "%s%lld", d ? ", " : "", (long long)first[d]);
        buf_printf(&text, "]");
        say_failed(g, c, by, text.at);
        buf_free(&text);
    }
}

/* Whether every spec of the kernel holds; says which does not. */
static bool judge(struct group *g, const struct ir_fn *fn, const struct oracle_case *c, struct interp_tensor *after, const char *by)
{
    bool ok = true;
    char *error = NULL;
    struct span at;
    uint8_t **covered = new_n(&g->t->arena, uint8_t *, fn->tensors.n + 1);
    for (int i = 0; i < fn->specs.n; i++) {
        const struct ir_expr *left = fn->specs.at[i].left;
        int id = (left->kind == E_reduce ? left->args[0] : left)->tensor->id;
        if (!covered[id]) covered[id] = arena_alloc(&g->t->arena, (size_t)oracle_span(&after[id]) + 1);
    }
    for (int i = 0; i < fn->specs.n; i++) {
        struct oracle_verdict v = oracle_check_spec(fn, i, c->before, after, c->dims, covered);
        struct buf text = { 0 };
        oracle_print_verdict(&v, &text);
        if (!v.ok) say_failed(g, c, by, text.at);
        if (v.distance > g->distance) g->distance = v.distance;
        ok &= v.ok;
        free(v.error);
        buf_free(&text);
    }
    if (ok) judge_untouched(g, c, after, covered, by);
    if (fn->check.n && !interp_check(fn, after, c->dims, &error, &at)) {
        say_failed(g, c, by, arena_printf(&g->t->arena, "spec check: %s", error));
        free(error);
    }
    return ok && !g->failed;
}

/* Kernels without a spec: the device against the interpreter. */
static bool agree(struct group *g, const struct oracle_case *c, const struct interp_tensor *want, const struct interp_tensor *got, const char *by)
{
    for (int i = 0; i < g->fn->tensors.n; i++) {
        double off = 0, size = 0;
        if (g->fn->tensors.at[i]->dir == 0) continue;
        for (int64_t k = 0, n = oracle_span(&want[i]); k < n; k++) {
            union cell x = interp_load(&want[i], k), y = interp_load(&got[i], k);
            double a = type_is_float(want[i].type) ? x.f : (double)x.i, b = type_is_float(want[i].type) ? y.f : (double)y.i;
            if (a == b || (isnan(a) && isnan(b))) continue;
            off += isfinite(a - b) ? (a - b) * (a - b) : (double)INFINITY;
            size += a * a + b * b;
        }
        if (off <= 1e-4 * size) continue;
        say_failed(g, c, by, arena_printf(&g->t->arena, "%s differs from the interpreter's", g->fn->tensors.at[i]->name));
        return false;
    }
    return true;
}

static struct interp_tensor *interpret(struct group *g, const struct ir_fn *fn, const struct oracle_case *c, enum interp_order order, const char *by)
{
    struct interp_tensor *after = oracle_copy(&g->t->arena, fn, c->before);
    char *error = NULL;
    struct span at = { 0, 0 };
    if (interp_run_ordered(fn, after, fn->tensors.n, c->dims, UNITS, order, &error, &at)) {
        judge(g, fn, c, after, by);
        return after;
    }
    int line = 0, column = 0;
    const struct source_file *f = diag_where(&g->t->diag, at.lo, &line, &column);
    say_failed(g, c, by, f ? arena_printf(&g->t->arena, "%s:%d:%d: %s", f->path, line, column, error) : error);
    free(error);
    return NULL;
}

/* the device */

static void to_tensor(struct tensor *t, const struct interp_tensor *from)
{
    *t = (struct tensor){ .type = from->type, .rank = from->rank, .data = from->data };
    for (int d = 0; d < from->rank; d++) {
        t->shape[d] = from->shape[d];
        t->stride[d] = from->stride[d];
    }
}

/* Whether the image takes the tensor as it lies, with whatever gaps its rows have. */
static bool lies_well(const struct image_arg *a, const struct interp_tensor *t)
{
    if (a->rank != t->rank || (t->rank && t->stride[a->inner] != 1)) return false;
    for (int d = 0; d < t->rank; d++)
        if (d != a->inner && a->align[d] > 1 && t->stride[d] % a->align[d]) return false;
    return true;
}

/* Arguments go to the device in the layout they have, where the kernel takes it; else launch_call copies them into another. */
struct passed {
    struct tensor tensor;
    uint64_t memory; /* where it is resident, else 0 */
};

static bool pass(struct device *d, const struct image_arg *a, int align, const struct interp_tensor *from, struct passed *to, struct call_arg *arg,
                 struct fault *why)
{
    arg->given = true;
    if (!from->rank) {
        union cell v = interp_load(from, 0);
        arg->integer = type_is_float(from->type) ? 0 : v.i;
        arg->real = type_is_float(from->type) ? v.f : (double)v.i;
        return true;
    }
    to_tensor(&to->tensor, from);
    arg->tensor = &to->tensor;
    if (!lies_well(a, from)) return true;
    to->memory = d->ops->alloc(d, oracle_bytes(from) + 256, a->name, why);
    to->tensor.data = NULL;
    to->tensor.address = to->memory + (uint64_t)(align < IR_ALIGN ? align : 0); /* aligned as rows are, and no more */
    return to->memory && d->ops->write(d, to->tensor.address, from->data, oracle_bytes(from), why) == DGK_OK;
}

static struct interp_tensor *launch(struct group *g, const struct oracle_case *c, struct device *d, struct device_module *m, const char *by)
{
    const struct ir_fn *fn = g->fn;
    int n = fn->tensors.n;
    struct interp_tensor *after = oracle_copy(&g->t->arena, fn, c->before);
    struct passed *passed = new_n(&g->t->arena, struct passed, n + 1);
    struct call_arg *args = new_n(&g->t->arena, struct call_arg, n + 1);
    struct fault *why = new(&g->t->arena, struct fault);
    bool ok = true;
    for (int i = 0; i < n && ok; i++) ok = pass(d, &g->image->args.at[i], fn->tensors.at[i]->align, &after[i], &passed[i], &args[i], why);
    ok = ok && launch_call(d, m, g->image, args, why) == DGK_OK && d->ops->sync(d, why) == DGK_OK;
    for (int i = 0; i < n; i++) {
        if (!passed[i].memory) continue;
        ok = ok && d->ops->read(d, after[i].data, passed[i].tensor.address, oracle_bytes(&after[i]), why) == DGK_OK;
        d->ops->release(d, passed[i].memory);
    }
    if (ok) return after;
    say_failed(g, c, by, why->text);
    return NULL;
}

/* Whether two runs left the same bits. */
static bool same_bits(const struct ir_fn *fn, const struct interp_tensor *a, const struct interp_tensor *b, const char **tensor)
{
    for (int i = 0; i < fn->tensors.n; i++) {
        *tensor = fn->tensors.at[i]->name;
        if (memcmp(a[i].data, b[i].data, oracle_bytes(&a[i]))) return false;
    }
    return true;
}

static bool is_emulator(const char *device) { return !strncmp(device, "emu", 3) && (device[3] == 0 || device[3] == ':'); }

static struct oracle_case *clone_case(struct arena *a, const struct oracle_case *c)
{
    struct oracle_case *copy = new(a, struct oracle_case);
    *copy = *c;
    return copy;
}

typedef VEC(struct oracle_case *) case_list;
typedef VEC(struct interp_tensor *) result_list;

/* All cases on one device; results of the first device are kept, those of others must have the same bits. */
static void run_device(struct group *g, const char *spec, const char *name, const case_list *cases, const result_list *wanted, result_list *first)
{
    struct fault *why = new(&g->t->arena, struct fault);
    struct device *d = NULL;
    struct device_module *m = NULL;
    if (device_open(&d, spec, g->t->o->target, why) != DGK_OK) {
        say_failed(g, NULL, name, why->text);
        return;
    }
    if ((d->props.emulated && assembles(g, d, why)) || module_load(d, g->image, g->t->o->assemble, &m, NULL, why) != DGK_OK) say_failed(g, NULL, name, why->text);
    for (int i = 0; m && i < cases->n && !g->failed && !out_of_time(g->t); i++) {
        const struct oracle_case *c = cases->at[i];
        const char *tensor = NULL;
        if (i > 0 && now() > g->until) break;
        struct interp_tensor *after = launch(g, c, d, m, name);
        if (!after) break;
        if (g->fn->specs.n || g->fn->check.n) judge(g, g->fn, c, after, name);
        else if (wanted->at[i]) agree(g, c, wanted->at[i], after, name);
        if (i >= first->n) vec_push(&g->t->arena, first, after);
        else if (g->image->deterministic && !same_bits(g->fn, first->at[i], after, &tensor))
            say_failed(g, c, name, arena_printf(&g->t->arena, "%s has other bits than with other timing, though the kernel is deterministic", tensor));
    }
    if (m) d->ops->unload(d, m);
    device_close(d);
    if (!g->failed) buf_printf(&g->devices, "%s%s", g->devices.n ? ", " : "", name);
}

static void run_devices(struct group *g, const case_list *cases, const result_list *wanted)
{
    /* Asynchronous operations take effect early, late, in two random orders; few multiprocessors give a CTA many tasks. */
    static const char *const timings[] = { "early", "late,sms=2", "seed=1,sms=3", "seed=2,sms=1" };
    const char *device = g->t->o->device;
    result_list first = { 0 };
    struct diag d;
    g->image = generate(g, &d);
    if (!g->image) {
        show_messages(g, &d, "FAIL");
        g->failed = true;
        return;
    }
    if (!is_emulator(device) || strchr(device, ',')) {
        run_device(g, device, device, cases, wanted, &first);
        if (!g->failed) run_device(g, device, "again", cases, wanted, &first); /* the same bits twice */
        return;
    }
    for (int i = 0; i < COUNT(timings) && !g->failed && !out_of_time(g->t); i++) {
        const char *spec = arena_printf(&g->t->arena, "%s%s,%s", device, device[3] ? "" : arena_printf(&g->t->arena, ":%s", g->t->o->target), timings[i]);
        run_device(g, spec, arena_printf(&g->t->arena, "emulator %s", timings[i]), cases, wanted, &first);
    }
}

/* one group */

static bool make_case(struct group *g, int number, struct oracle_case *c)
{
    const struct oracle_options *o = g->t->o;
    const char *device = o->device;
    bool emulated = !device || is_emulator(device) || !strcmp(device, "ir");
    char *error = NULL;
    for (int tries = 0; tries < 20; tries++) {
        *c = (struct oracle_case){ .dims = new_n(&g->t->arena, int64_t, g->fn->dims.n + 1) };
        for (int i = 0; i < g->fn->dims.n; i++) { /* fixed for the search, as if compiled in */
            const char *fixed = find(o->shapes, o->n_shapes, g->fn->dims.at[i].name);
            if (fixed) g->fn->dims.at[i].value = g->early->dims.at[i].value = strtoll(fixed, NULL, 0);
        }
        if (!oracle_dims(g->fn, &g->seed, emulated ? EMULATED_BUDGET : DEVICE_BUDGET, c->dims)) {
            say_failed(g, NULL, "arguments", "no random dimensions meet the kernel's requirements");
            return false;
        }
        c->data = (enum oracle_data)(number % ORACLE_DATA_COUNT);
        c->seed = oracle_random(&g->seed) % 1000000;
        free(error);
        if (oracle_arguments(&g->t->arena, g->fn, c, find_kernel, g, &error)) return true;
    }
    say_failed(g, c, "arguments", error);
    free(error);
    return false;
}

static void find_call(void *found, struct ir_expr *e)
{
    if (e->kind == E_call) *(bool *)found = true;
}

/* The interpreter knows the text of an intrinsic, and not what it computes: such a kernel is held to its spec on the device alone. */
static bool interpretable(const struct ir_fn *fn)
{
    bool calls = false;
    ir_walk_fn(fn, find_call, &calls);
    return !calls;
}

static void run_cases(struct group *g)
{
    bool interpreted = interpretable(g->fn);
    g->unseen = !interpreted && !uses_device(g->t);
    if (g->unseen) return;
    case_list cases = { 0 };
    result_list wanted = { 0 };
    int n = g->t->o->cases ? g->t->o->cases : 4;
    for (int i = 0; i < n && !g->failed && !out_of_time(g->t); i++) {
        struct oracle_case c;
        if (!make_case(g, i, &c)) return;
        if (i == 0 && interpreted) interpret(g, g->early, &c, INTERP_FORWARD, "interpreter, as lowered");
        struct interp_tensor *after = g->failed || !interpreted ? NULL : interpret(g, g->fn, &c, (enum interp_order)(i % 3), "interpreter");
        vec_push(&g->t->arena, &cases, clone_case(&g->t->arena, &c));
        vec_push(&g->t->arena, &wanted, after);
        g->cases++;
    }
    if (!g->failed) buf_printf(&g->devices, interpreted ? "interpreter" : "no interpreter, which knows no intrinsics");
    if (!g->failed && uses_device(g->t)) run_devices(g, &cases, &wanted);
}

static void run_group(struct test *t, struct node *kernel, int choice, bool tuned, bool anyhow)
{
    struct group g = { .t = t, .kernel = kernel, .tuned = tuned, .seed = t->o->seed * 1000003 + (uint64_t)choice };
    if (tuned ? !compile_tuned(&g, choice, anyhow) : !compile(&g, choice)) {
        t->result->groups += !tuned;
        t->result->failed += g.failed;
        t->result->skipped += !tuned && !g.failed;
        return;
    }
    t->result->groups++;
    g.until = now() + GROUP_SECONDS;
    run_cases(&g);
    t->result->cases += g.cases;
    t->result->failed += g.failed;
    if (g.unseen) {
        t->result->skipped++;
        say(t, "skip ");
        say_name(&g);
        say(t, " on %s: the interpreter knows no intrinsics; --device=emu runs them\n", t->o->target);
    } else if (!g.failed) {
        say(t, "ok   ");
        say_name(&g);
        say(t, " on %s: %d cases%s; %s", t->o->target, g.cases, g.fn->specs.n || g.fn->check.n ? "" : " without a spec", g.devices.at);
        if (g.distance > 0) say(t, "; distance %.2g", g.distance);
        say(t, "\n");
    }
    buf_free(&g.devices);
}

static bool wanted_kernel(const struct test *t, const struct node *n)
{
    const char *name = t->o->kernel;
    return n->kind == N_kernel && (!name || !strcmp(name, "all") || !strcmp(name, n->name));
}

struct oracle_result oracle_test(const struct oracle_options *o, struct buf *out)
{
    struct oracle_result result = { 0 };
    struct test t = { .o = o, .out = out, .result = &result, .until = o->seconds > 0 ? now() + o->seconds : 0 };
    buf_bytes(out, "", 0);
    diag_init(&t.diag, &t.arena);
    t.file = dsl_parse_file(&t.arena, &t.diag, o->path, o->import_dirs, o->n_import_dirs);
    if (!t.diag.errors) dsl_check(&t.arena, &t.diag, t.file);
    if (t.diag.errors) {
        diag_print(&t.diag, out, DIAG_PLAIN);
        result.failed = 1;
    }
    int found = 0;
    for (int i = 0; i < t.file->list.n && !t.diag.errors; i++) {
        struct node *kernel = t.file->list.at[i];
        if (!wanted_kernel(&t, kernel)) continue;
        found++;
        int n = count_choices(kernel);
        for (int choice = 0; choice < n + TUNED_GROUPS && !out_of_time(&t); choice++) run_group(&t, kernel, choice, choice >= n, choice == n + TUNED_GROUPS - 1);
    }
    if (!found && !result.failed) {
        say(&t, "%s: no kernel%s%s to test\n", o->path, o->kernel ? " called " : "", o->kernel ? o->kernel : "");
        result.failed = 1;
    }
    arena_free(&t.arena);
    return result;
}
