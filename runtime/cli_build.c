/* cli_build - dgc build: compiles ahead of time what a list names, so that no program has to. A line with sizes stands for the
 * call that libdgk would make of them, and goes libdgk's own way into the cache; one without names a variant, and leaves its code. */
#include "runtime/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/dgk_inside.h"

/* ---- calls --------------------------------------------------------------------------------------------------- */

/* One call to prepare: contiguous tensors of some sizes, at addresses where nothing is. */
struct prospect {
    struct cli *cli;
    const struct cli_call *call;
    const struct cli_shape *shape;
    struct dgk_kernel *kernel;
    dgk_tensor tensors[SLOTS_MAX];
    dgk_value values[SLOTS_MAX];
};

enum { ANYWHERE = 1 << 20 }; /* an address of every alignment */

static const char *named(const bindings *b, const char *name)
{
    for (int i = b->n - 1; i >= 0; i--)
        if (!strcmp(b->at[i].name, name)) return b->at[i].value;
    return NULL;
}

/* The dimension with stride 1: as asked, else the last, where the kernel takes that, else what the kernel prefers. */
static int inner_of(const struct prospect *p, const struct slot_arg *a)
{
    const char *asked = named(&p->cli->inner, a->name);
    if (asked) return atoi(asked);
    for (int c = 0; c < a->n_inner; c++)
        if (a->inner[c] == a->rank - 1) return a->rank - 1;
    return a->n_inner ? a->inner[0] : 0;
}

static int64_t size_of(const struct prospect *p, const char *name)
{
    for (int i = 0; i < p->call->dims.n; i++)
        if (!strcmp(p->call->dims.at[i], name)) return p->shape->sizes[i];
    return -1;
}

static void give_scalar(struct prospect *p, int i)
{
    const char *text = named(&p->shape->scalars, p->kernel->args[i].name);
    p->values[i] = type_is_float(p->kernel->args[i].type) ? dgk_real(text ? strtod(text, NULL) : 0) : dgk_int(text ? strtoll(text, NULL, 0) : 0);
}

/* As --align says: an address and strides that are multiples of so many bytes, and of no more. */
static void give_tensor(struct prospect *p, int i, enum type type, const int64_t *shape)
{
    const struct slot_arg *a = &p->kernel->args[i];
    const char *asked = named(&p->cli->align, a->name);
    int bytes = asked ? atoi(asked) : 0, bits = tensor_item_bits(type), pad[IMAGE_RANK];
    struct tensor t = { .type = type, .rank = a->rank };
    for (int d = 0; d < a->rank; d++) {
        t.shape[d] = shape[d];
        pad[d] = bytes * 8 > bits ? bytes * 8 / bits : 1;
    }
    tensor_layout(&t, inner_of(p, a), pad);
    dgk_tensor *to = &p->tensors[i];
    *to = (dgk_tensor){ .data = (uint64_t)ANYWHERE * (uint64_t)(i + 1) + (uint64_t)(bytes < IR_ALIGN ? bytes : 0), .type = (int32_t)type,
                        .place = DGK_DEVICE, .rank = a->rank };
    memcpy(to->shape, t.shape, sizeof to->shape);
    memcpy(to->stride, t.stride, sizeof to->stride);
    p->values[i] = dgk_of(to);
}

/* The variant for tensors aligned at will says what shape each has; a call looks at it first, too. */
static enum dgk_status any_variant(struct prospect *p, struct wanted *w, struct variant **v, struct fault *why)
{
    struct dgk_kernel *k = p->kernel;
    dgk_value sizes[SLOTS_MAX] = { 0 };
    for (int i = 0; i < k->n_dims; i++) sizes[k->n_args + k->n_params + i] = dgk_int(size_of(p, k->dims[i].name));
    enum dgk_status s = variant_want(k, sizes, k->n_args + k->n_params + k->n_dims, w, why);
    for (int i = 0; i < k->n_args; i++) {
        const struct slot_arg *arg = &k->args[i];
        w->inner[i] = inner_of(p, arg);
        if (arg->param >= 0) w->param_type[arg->param] = w->type[i]; /* as a tensor of this type says */
    }
    return s ? s : variant_find(k, w, true, v, NULL, why);
}

static enum dgk_status give(struct prospect *p, struct fault *why)
{
    struct wanted w;
    struct variant *v;
    struct call c;
    int64_t shape[IMAGE_RANK];
    enum dgk_status s = any_variant(p, &w, &v, why);
    if (s) return s;
    launch_open(&c, v->image, p->kernel->context->device);
    for (int d = 0; d < v->image->dims.n; d++)
        if (size_of(p, v->image->dims.at[d]) >= 0) launch_fix(&c, d, size_of(p, v->image->dims.at[d]));
    for (int i = 0; i < p->kernel->n_args && !s; i++) {
        if (!p->kernel->args[i].rank) give_scalar(p, i);
        else if (!(s = launch_shape(&c, i, shape, why))) give_tensor(p, i, w.type[i], shape);
    }
    launch_end(&c);
    return s;
}

static int prepare(struct prospect *p)
{
    struct fault why = { 0 };
    struct dgk_kernel *k = p->kernel;
    dgk_counts before = k->counts;
    if (give(p, &why)) return cli_fail(&why);
    int s = dgk_prepare(k, p->values, k->n_args);
    if (s) {
        fault_set(&why, (enum dgk_status)s, "%s, %s: %s", k->node->name, p->shape->text, dgk_error());
        return cli_fail(&why);
    }
    bool compiled = k->counts.compiled > before.compiled;
    printf("%-24s %-8s %s: %s\n", k->node->name, k->context->target->name, p->shape->text, compiled ? "compiled" : "was there");
    return 0;
}

/* ---- a line with sizes --------------------------------------------------------------------------------------- */

/* Where such calls run: the device named or at hand, where libdgk compiles for `t` on it (NULL: for whatever it does); else the
 * target's usual board. NULL: none, and said. */
static dgk_context *open_context(const struct cli *c, const struct target *t)
{
    dgk_context *x;
    struct fault why;
    char board[32];
    int s = dgk_open(&x, c->device ? c->device : "cuda:0");
    if (!s && (!t || x->target == t)) return x;
    if (!s) dgk_close(x);
    snprintf(board, sizeof board, "board:%s", t ? t->name : "sm_90a");
    if ((s && c->device) || dgk_open(&x, board)) {
        fault_set(&why, (enum dgk_status)s, "%s", dgk_error());
        cli_fail(&why);
        return NULL;
    }
    return x;
}

/* What the line fixes: what -D and --set name. */
static dgk_kernel *load(dgk_context *x, struct cli *c)
{
    words fixed = { 0 };
    dgk_kernel *k;
    struct fault why;
    const bindings *from[] = { &c->params, &c->tune };
    for (int b = 0; b < COUNT(from); b++)
        for (int i = 0; i < from[b]->n; i++) {
            const char *text = arena_printf(&c->arena, "%s=%s", from[b]->at[i].name, from[b]->at[i].value);
            vec_push(&c->arena, &fixed, text);
        }
    dgk_options o = { .kernel = c->kernel, .fixed = fixed.at, .n_fixed = fixed.n, .import_dirs = c->imports.at, .n_import_dirs = c->imports.n,
                      .symbol = c->symbol };
    int s = dgk_load(x, c->files.at[0], &o, &k);
    if (!s) return k;
    fault_set(&why, (enum dgk_status)s, "%s", dgk_error());
    cli_fail(&why);
    return NULL;
}

static int build_calls(struct cli *c, const struct target *t)
{
    struct cli_call call;
    int rc;
    dgk_context *x = open_context(c, t);
    if (!x) return status_exit(DGK_NO_DEVICE);
    if (!(rc = cli_call_open(&call, c, x->target))) {
        for (int i = 0; i < call.shapes.n; i++) { /* each as a program's first: which sizes must be compiled in is not known yet */
            struct prospect p = { .cli = c, .call = &call, .shape = &call.shapes.at[i], .kernel = load(x, c) };
            int failed = p.kernel ? prepare(&p) : 1;
            if (failed > rc) rc = failed;
            dgk_unload(p.kernel);
        }
    }
    cli_call_close(&call);
    dgk_close(x);
    return rc;
}

/* ---- a line without ------------------------------------------------------------------------------------------ */

/* One variant: PTX, then the cubin, which lands in the cache. The code must be the very one that libdgk asks for. */
static int build_kernel(struct unit *u, const struct node *kernel, const struct target *t)
{
    struct image *im = unit_compile(u, kernel, t, NULL);
    struct assemble_options o = { .accept_bad_code = true, .driver = module_driver_assembles };
    struct fault why = { 0 };
    void *cubin;
    size_t bytes;
    if (!im) return 1;
    if (module_assemble(im->ptx, im->ptx_bytes, &o, &cubin, &bytes, NULL, NULL, &why)) {
        fault_prefix(&why, "%s %s: ", im->kernel, im->target);
        return cli_fail(&why);
    }
    printf("%-24s %-8s %zu bytes\n", im->kernel, im->target, bytes);
    free(cubin);
    return 0;
}

static int build_variants(struct cli *c, const struct target *t)
{
    struct unit u;
    nodes kernels = { 0 };
    if (unit_open(&u, c, c->files.at[0])) kernels = unit_kernels(&u);
    int rc = kernels.n ? 0 : 1;
    for (int k = 0; k < kernels.n; k++) {
        int failed = build_kernel(&u, kernels.at[k], t);
        if (failed > rc) rc = failed;
    }
    unit_close(&u);
    return rc;
}

/* ---- the list ------------------------------------------------------------------------------------------------ */

static int build_line(struct cli *c)
{
    bool calls = c->shape_list.n || c->shapes_file;
    if (calls && !c->target) return build_calls(c, NULL);
    target_list targets = cli_targets(c, "sm_90a");
    int rc = targets.n ? 0 : status_exit(DGK_USAGE);
    for (int i = 0; i < targets.n; i++) {
        int failed = (calls ? build_calls : build_variants)(c, targets.at[i]);
        if (failed > rc) rc = failed;
    }
    return rc;
}

/* A line holds a file and options, those of the command line before them; # begins a comment. */
static int build_words(const struct cli *before, char *line)
{
    char *argv[130] = { "dgc", "build" };
    int n = 2;
    line[strcspn(line, "#\n")] = 0;
    for (char *save = NULL, *w = strtok_r(line, " \t\r", &save); w && n < 129; w = strtok_r(NULL, " \t\r", &save)) argv[n++] = w;
    if (n == 2) return 0;
    struct cli c = *before;
    c.arena = (struct arena){ 0 };
    c.files = (words){ 0 };
    int rc = cli_parse(&c, n, argv) && c.verb == VERB_build ? build_line(&c) : status_exit(DGK_USAGE);
    arena_free(&c.arena);
    return rc;
}

int cli_verb_build(struct cli *c)
{
    char *text, *next;
    struct fault why;
    int rc = 0, number = 1;
    if (!read_file(c->files.at[0], &text, NULL)) {
        fault_set(&why, DGK_BAD_FILE, "cannot read '%s': %s", c->files.at[0], strerror(errno));
        return cli_fail(&why);
    }
    for (char *line = text; line; line = next, number++) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        int failed = build_words(c, line);
        if (failed) fprintf(stderr, "dgc: note: that was line %d of %s\n", number, c->files.at[0]);
        if (failed > rc) rc = failed;
    }
    free(text);
    return rc;
}
