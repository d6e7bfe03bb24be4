/* cli_compile - dgc compile: any stage of a kernel, into files or to stdout. */
#include "runtime/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A stage of compilation that --emit can name: what it puts into `out`; the exit status. */
struct emit {
    const char *name;
    int (*put)(struct unit *u, const struct node *kernel, const struct target *t, struct buf *out);
    bool per_target, per_kernel, binary;
};

static int put_tokens(struct unit *u, const struct node *kernel, const struct target *t, struct buf *out)
{
    (void)kernel, (void)t;
    struct source_file f = u->diag.files.at[0];
    dsl_print_tokens(&u->diag, f.path, f.text, f.size, out);
    return 0;
}

static int put_ast(struct unit *u, const struct node *kernel, const struct target *t, struct buf *out)
{
    (void)kernel, (void)t;
    ast_print(u->file, out);
    return 0;
}

static int put_ir(struct unit *u, const struct node *kernel, const struct target *t, struct buf *out)
{
    struct ir_fn *fn = unit_lower(u, kernel, t, false);
    if (fn) ir_print(fn, out);
    return fn ? 0 : 1;
}

static int put_lowered(struct unit *u, const struct node *kernel, const struct target *t, struct buf *out)
{
    struct ir_fn *fn = unit_lower(u, kernel, t, true);
    if (fn) ir_print(fn, out);
    return fn ? 0 : 1;
}

static int put_ptx(struct unit *u, const struct node *kernel, const struct target *t, struct buf *out)
{
    struct image *im = unit_compile(u, kernel, t, NULL);
    if (im) buf_bytes(out, im->ptx, im->ptx_bytes);
    return im ? 0 : 1;
}

static void say_report(const struct image *im, const struct assemble_report *r)
{
    fprintf(stderr, "%s %s: %s, %d registers, %d bytes of stack, %d bytes spilled, %.0f ms\n", im->kernel, im->target, r->by, r->registers,
            r->stack_bytes, r->spill_store_bytes, r->ms);
}

static int put_cubin(struct unit *u, const struct node *kernel, const struct target *t, struct buf *out)
{
    struct image *im = unit_compile(u, kernel, t, NULL);
    struct assemble_options o = cli_assemble_options(u->cli);
    struct assemble_report report;
    struct fault why = { 0 };
    void *cubin;
    size_t bytes;
    if (!im) return 1;
    o.target = t->name;
    bool asked = u->cli->verbose || u->cli->time_passes;
    if (module_assemble(im->ptx, im->ptx_bytes, &o, &cubin, &bytes, asked ? &report : NULL, NULL, &why)) {
        fault_prefix(&why, "%s %s: ", im->kernel, im->target);
        return cli_fail(&why);
    }
    if (u->cli->verbose) say_report(im, &report);
    if (u->cli->time_passes) fprintf(stderr, "%-10s %8.2f ms\n", "assemble", report.ms);
    buf_bytes(out, cubin, bytes);
    free(cubin);
    return 0;
}

static const struct emit emits[] = {
    { "tokens", put_tokens, false, false, false }, { "ast", put_ast, false, false, false }, { "ir", put_ir, true, true, false },
    { "lowered", put_lowered, true, true, false }, { "ptx", put_ptx, true, true, false },   { "cubin", put_cubin, true, true, true },
};

static const struct emit *find_emit(const char *name)
{
    const char *names[COUNT(emits)];
    for (int i = 0; i < COUNT(emits); i++) {
        if (!strcmp(emits[i].name, name)) return &emits[i];
        names[i] = emits[i].name;
    }
    const char *near = diag_nearest(name, names, COUNT(emits));
    if (near) cli_usage("--emit=%s: there is no such stage; did you mean '%s'?", name, near);
    else cli_usage("--emit=%s: there is no such stage; there are tokens, ast, ir, lowered, ptx, cubin", name);
    return NULL;
}

static const char *suffix_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    return dot ? dot : path + strlen(path);
}

/* What is asked for: --emit, else the suffix of -o, else PTX. */
static const struct emit *wanted(const struct cli *c)
{
    if (c->emit) return find_emit(c->emit);
    const char *suffix = c->output ? suffix_of(c->output) : "";
    for (int i = 0; i < COUNT(emits); i++)
        if (*suffix && !strcmp(emits[i].name, suffix + 1)) return &emits[i];
    return find_emit("ptx");
}

/* "out.ptx" -> "out.fp8_gemm.sm_90a.ptx", with the parts that tell results apart. */
static const char *place(struct cli *c, const char *kernel, const char *target)
{
    const char *suffix = suffix_of(c->output);
    return arena_printf(&c->arena, "%.*s%s%s%s%s%s", (int)(suffix - c->output), c->output, kernel ? "." : "", kernel ? kernel : "", target ? "." : "",
                        target ? target : "", suffix);
}

static bool to_file(const struct cli *c) { return c->output && strcmp(c->output, "-"); }

static int deliver(const struct buf *out, const char *path)
{
    if (!path) {
        fwrite(out->at ? out->at : "", 1, out->n, stdout);
        return 0;
    }
    if (write_file(path, out->at ? out->at : "", out->n)) return 0;
    struct fault why;
    fault_set(&why, DGK_BAD_FILE, "cannot write '%s': %s", path, strerror(errno));
    return cli_fail(&why);
}

/* Every kernel asked for, for one target (NULL: the stage has none). */
static int compile_for(struct cli *c, const struct emit *e, const struct target *t, bool many_targets)
{
    struct unit u;
    int rc = 0;
    if (!unit_open(&u, c, c->files.at[0])) {
        unit_close(&u);
        return 1;
    }
    nodes kernels = unit_kernels(&u);
    if (!kernels.n && e->per_kernel) rc = 1;
    for (int i = 0; i < (e->per_kernel ? kernels.n : 1); i++) {
        struct buf out = { 0 };
        const struct node *k = e->per_kernel ? kernels.at[i] : NULL;
        int failed = e->put(&u, k, t, &out);
        if (!failed) failed = deliver(&out, to_file(c) ? place(c, kernels.n > 1 && k ? k->name : NULL, many_targets ? t->name : NULL) : NULL);
        if (failed > rc) rc = failed;
        buf_free(&out);
    }
    unit_close(&u);
    return rc;
}

int cli_verb_compile(struct cli *c)
{
    const struct emit *e = wanted(c);
    if (!e) return status_exit(DGK_USAGE);
    if (!e->per_target) return compile_for(c, e, NULL, false);
    target_list targets = cli_targets(c, "sm_90a");
    if (!targets.n) return status_exit(DGK_USAGE);
    if (e->binary && !to_file(c)) {
        bool one = targets.n == 1 && !(c->kernel && !strcmp(c->kernel, "all"));
        if (!one) return cli_usage("cubins need a place: -o FILE.cubin");
        if (!c->output) return cli_usage("a cubin needs a place: -o FILE (or -o - for stdout)");
    }
    int rc = 0;
    for (int i = 0; i < targets.n; i++) {
        int failed = compile_for(c, e, targets.at[i], targets.n > 1 && to_file(c));
        if (failed > rc) rc = failed;
    }
    return rc;
}
