/* Tensor-core families: kernels in the tile IR, for each target, run on the emulator give exactly what the interpreter
 * gives, early, late and in a random order; where ptxas is found, it neither spills nor serialises.
 * With arguments:  test_mma [-p] [-d DEVICE] PATTERN  runs the cases whose name holds PATTERN; -p prints PTX, -d cuda uses a GPU. */
#include "codegen/assemble.h"
#include "codegen/codegen.h"
#include "compiler/interp.h"
#include "runtime/launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;
static bool print_ptx;
static const char *device; /* "cuda": there, instead of on the emulator */

/* ---- templates: words in capitals replaced ---- */

struct word {
    const char *name, *value;
};

static bool word_char(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '$'; }

static char *expand(const char *text, const struct word *w, int n)
{
    struct buf out = { 0 };
    while (*text) {
        size_t len = 1;
        if (word_char(*text)) {
            len = 0;
            while (word_char(text[len])) len++;
        }
        const char *with = NULL;
        for (int i = 0; i < n; i++)
            if (strlen(w[i].name) == len && !strncmp(w[i].name, text, len)) with = w[i].value;
        buf_bytes(&out, with ? with : text, with ? strlen(with) : len);
        text += len;
    }
    return out.at;
}

/* ---- data ---- */

/* Small integers, so that every sum is exact in whatever order. */
static void fill(struct tensor *t, uint32_t seed)
{
    int64_t n = tensor_count(t);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        int v = (int)(seed >> 24) % 5 - 2;
        tensor_set_value(t, i, t->type == TY_u8 ? abs(v) : v);
    }
}

struct args {
    struct tensor in[8], got[8], want[8];
    struct call_arg call[8];
    struct interp_tensor interp[8];
};

static int64_t dim_value(const struct ir_fn *fn, const struct ir_expr *e, const int64_t *dims)
{
    (void)fn;
    int64_t v = 0;
    return e->kind == E_dim ? dims[e->num] : ir_const_int(e, &v) ? v : -1;
}

static void make_args(const struct ir_fn *fn, struct args *a, const int64_t *dims)
{
    struct fault why;
    for (int i = 0; i < fn->tensors.n; i++) {
        const struct ir_tensor *t = fn->tensors.at[i];
        struct tensor *x = &a->in[i];
        *x = (struct tensor){ .type = t->type, .rank = t->rank };
        for (int d = 0; d < t->rank; d++) x->shape[d] = dim_value(fn, t->dim[d], dims);
        tensor_row_major(x);
        tensor_allocate(x, &why);
        fill(x, 77u * (uint32_t)i + 5);
        tensor_copy(&a->got[i], x, TY_none, t->inner, NULL, &why);
        tensor_copy(&a->want[i], x, TY_none, -1, NULL, &why);
        struct tensor *w = &a->want[i];
        a->call[i] = (struct call_arg){ .tensor = &a->got[i], .given = true };
        a->interp[i] = (struct interp_tensor){ .type = t->type, .rank = t->rank, .data = w->data };
        memcpy(a->interp[i].shape, w->shape, sizeof w->shape);
        memcpy(a->interp[i].stride, w->stride, sizeof w->stride);
    }
}

static void free_args(const struct ir_fn *fn, struct args *a)
{
    for (int i = 0; i < fn->tensors.n; i++) tensor_free(&a->in[i]), tensor_free(&a->got[i]), tensor_free(&a->want[i]);
    free(a);
}

static bool same(const struct ir_fn *fn, struct args *a, const char *name, const char *when)
{
    for (int i = 0; i < fn->tensors.n; i++) {
        struct tensor *g = &a->got[i], *w = &a->want[i];
        int64_t index[TENSOR_RANK] = { 0 }, off = 0;
        if (!fn->tensors.at[i]->dir) continue;
        do {
            int64_t at = 0;
            for (int d = 0; d < g->rank; d++) at += index[d] * g->stride[d];
            if (tensor_value(g, at) == tensor_value(w, off)) continue;
            printf("%s, %s: %s[%lld, %lld, ..] is %g, not %g\n", name, when, fn->tensors.at[i]->name, (long long)index[0], (long long)index[1], tensor_value(g, at),
                   tensor_value(w, off));
            return false;
        } while (tensor_next(w, index, &off));
    }
    return true;
}

/* ---- one case ---- */

static bool assembles(const struct image *im, const char *name)
{
    void *cubin = NULL;
    size_t n = 0;
    struct assemble_report report = { 0 };
    struct buf log = { 0 };
    enum assemble_result r = assemble(im->ptx, im->ptx_bytes, &(struct assemble_options){ .target = im->target, .timeout_ms = 60000 }, &cubin, &n, &report, &log);
    if (r != ASSEMBLE_OK && r != ASSEMBLE_NONE) printf("%s: ptxas: %s\n", name, log.at ? log.at : "fails");
    else if (print_ptx && r == ASSEMBLE_OK) fprintf(stderr, "%s: %d registers, %.0f ms\n", name, report.registers, report.ms);
    free(cubin);
    buf_free(&log);
    return r == ASSEMBLE_OK || r == ASSEMBLE_NONE;
}

static bool runs(const struct ir_fn *fn, const struct image *im, const char *name, const int64_t *dims, const char *timing)
{
    struct fault why = { 0 };
    struct device *dev;
    struct device_module *m = NULL;
    struct args *a = calloc(1, sizeof *a);
    char spec[64], *error = NULL;
    bool ok = false;
    if (device) snprintf(spec, sizeof spec, "%s", device);
    else snprintf(spec, sizeof spec, "emu:%s,%s,sms=2", im->target, timing);
    make_args(fn, a, dims);
    if (!interp_run(fn, a->interp, fn->tensors.n, dims, 2, &error)) printf("%s: interpreter: %s\n", name, error);
    else if (device_open(&dev, spec, im->target, &why) != DGK_OK) printf("%s: %s\n", name, why.text);
    else {
        if (device && !device_runs(dev, im->target)) ok = true;
        else if (dev->ops->load(dev, im->ptx, im->ptx_bytes, &m, &why) != DGK_OK || launch_call(dev, m, im, a->call, &why) != DGK_OK)
            printf("%s, %s: %s\n", name, timing, why.text);
        else ok = same(fn, a, name, timing);
        if (m) dev->ops->unload(dev, m);
        device_close(dev);
    }
    free(error);
    free_args(fn, a);
    return ok;
}

static void check(const char *file, const char *name, const struct word *w, int n, const int64_t *dims)
{
    struct arena a = { 0 };
    struct diag d;
    char *text, path[256];
    size_t size;
    snprintf(path, sizeof path, "tests/codegen/mma/%s.ir", file);
    diag_init(&d, &a);
    if (!read_file(path, &text, &size)) {
        printf("%s: cannot be read\n", path);
        failed++;
        return;
    }
    char *ir = expand(text, w, n);
    free(text);
    struct ir_fn *fn = ir_parse(&a, &d, path, ir, strlen(ir));
    struct buf explain = { 0 };
    struct image *im = fn ? codegen_kernel(&a, &d, fn, &(struct codegen_options){ .explain = &explain }) : NULL;
    bool ok = im != NULL;
    if (!im) {
        struct buf out = { 0 };
        diag_print(&d, &out, DIAG_PLAIN);
        printf("%s: %s\n", name, out.at ? out.at : "no image");
        buf_free(&out);
    } else {
        if (print_ptx) fprintf(stderr, "%s\n%s\n", explain.at, im->ptx);
        ok = device || assembles(im, name);
        static const char *const timings[] = { "early", "late", "seed=1", "seed=2" };
        for (int i = 0; i < (device ? 1 : COUNT(timings)) && ok; i++) ok = runs(fn, im, name, dims, timings[i]);
    }
    ok ? passed++ : failed++;
    buf_free(&explain);
    free(ir);
    arena_free(&a);
}

/* ---- cases ---- */

struct gemm {
    const char *file, *target, *type;
    int bm, bn, bk, a_inner, b_inner, m, n, k;
    const char *warps, *flip;
} gemms[] = {
    { "gemm", "sm_80", "bf16", 64, 64, 64, 1, 1, 100, 80, 192, "", "" },
    { "gemm", "sm_80", "f16", 32, 48, 32, 1, 1, 40, 56, 96, "", "" },
    { "gemm", "sm_80", "bf16", 64, 64, 32, 0, 1, 104, 80, 96, "", "" },
    { "gemm", "sm_80", "bf16", 64, 64, 32, 1, 0, 100, 80, 96, "", "" },
    { "gemm", "sm_80", "bf16", 64, 128, 32, 0, 0, 104, 136, 96, "warps 2 by 4", "" },
    { "gemm", "sm_80", "tf32", 64, 64, 32, 1, 1, 100, 80, 96, "", "" },
    { "gemm", "sm_80", "tf32", 32, 32, 32, 0, 0, 40, 48, 96, "", "" },
    { "gemm", "sm_80", "i8", 64, 64, 64, 1, 1, 100, 80, 192, "", "" },
    { "gemm", "sm_80", "e4m3", 32, 64, 64, 1, 1, 40, 80, 192, "", "" },
    { "gemm", "sm_80", "e5m2", 32, 64, 64, 1, 1, 40, 80, 192, "", "" },
    { "gemm", "sm_80", "bf16", 16, 24, 32, 1, 1, 20, 30, 64, "warps 1 by 1", "" },
    { "gemm", "sm_80", "bf16", 64, 16, 64, 1, 1, 100, 20, 192, "", "flip" },
    { "gemm", "sm_89", "e4m3", 64, 64, 64, 1, 1, 100, 80, 192, "", "" },
    { "gemm", "sm_90a", "bf16", 128, 64, 64, 1, 1, 200, 80, 192, "", "" },
    { "gemm", "sm_90a", "f16", 64, 128, 64, 1, 1, 100, 136, 256, "warps 4 by 1", "" },
    { "gemm", "sm_90a", "bf16", 64, 64, 64, 0, 1, 104, 80, 192, "", "" },
    { "gemm", "sm_90a", "bf16", 128, 64, 64, 1, 0, 200, 80, 192, "", "" },
    { "gemm", "sm_90a", "bf16", 128, 128, 32, 0, 0, 200, 136, 192, "", "" },
    { "gemm", "sm_90a", "tf32", 64, 64, 32, 1, 1, 100, 80, 96, "", "" },
    { "gemm", "sm_90a", "e4m3", 64, 64, 128, 1, 1, 100, 80, 384, "", "" },
    { "gemm", "sm_90a", "e5m2", 128, 24, 64, 1, 1, 130, 30, 192, "", "" },
    { "gemm", "sm_90a", "i8", 64, 48, 64, 1, 1, 100, 80, 192, "", "" },
    { "gemm", "sm_90a", "u8", 64, 48, 64, 1, 1, 100, 80, 192, "", "" },
    { "gemm", "sm_90a", "bf16", 64, 256, 64, 1, 1, 70, 300, 128, "warps 8 by 1", "" },
    { "gemm", "sm_90a", "bf16", 256, 64, 64, 1, 1, 300, 80, 128, "warps 8 by 1", "" },
    { "gemm", "sm_90a", "bf16", 16, 128, 64, 1, 1, 20, 200, 192, "", "flip" },
    { "gemm", "sm_90a", "bf16", 32, 64, 64, 1, 1, 40, 80, 192, "", "" },
    { "gemm", "sm_90a", "bf16", 64, 64, 16, 1, 1, 70, 70, 48, "", "" },
    { "gemm", "sm_100a", "bf16", 128, 64, 64, 1, 1, 200, 80, 192, "", "" },
    { "gemm", "sm_100a", "bf16", 64, 64, 64, 1, 1, 100, 80, 192, "", "" },
    { "gemm", "sm_100a", "f16", 128, 256, 64, 1, 1, 130, 264, 128, "", "" },
    { "gemm", "sm_100a", "bf16", 256, 64, 64, 1, 1, 300, 80, 128, "", "" },
    { "gemm", "sm_100a", "bf16", 128, 64, 64, 0, 0, 200, 80, 192, "", "" },
    { "gemm", "sm_100a", "tf32", 128, 32, 32, 1, 1, 130, 40, 96, "", "" },
    { "gemm", "sm_100a", "e4m3", 128, 64, 128, 1, 1, 200, 80, 384, "", "" },
    { "gemm", "sm_100a", "e5m2", 128, 64, 64, 0, 0, 208, 80, 192, "", "" },
    { "gemm", "sm_100a", "i8", 128, 64, 64, 1, 1, 200, 80, 192, "", "" },
    { "gemm", "sm_100a", "bf16", 16, 128, 64, 1, 1, 20, 200, 192, "", "flip" },
    { "gemm", "sm_103a", "bf16", 128, 96, 64, 1, 1, 130, 100, 128, "", "" },
    { "gemm", "sm_120a", "bf16", 128, 64, 64, 1, 1, 200, 80, 192, "warps 4 by 2", "" },
    { "gemm", "sm_120a", "e4m3", 64, 64, 64, 1, 1, 100, 80, 192, "", "" },
    { "gemm", "sm_120a", "bf16", 64, 64, 32, 0, 0, 104, 80, 96, "", "" },
    { "gemm", "sm_121a", "tf32", 64, 64, 32, 1, 1, 100, 80, 96, "", "" },
    { "ragged", "sm_80", "bf16", 64, 64, 64, 1, 1, 100, 80, 192, "", "" },
    { "ragged", "sm_80", "f16", 64, 64, 64, 0, 0, 104, 80, 192, "", "" },
    { "ragged", "sm_80", "tf32", 64, 64, 32, 0, 1, 100, 80, 192, "", "" },
    { "ragged", "sm_90a", "bf16", 128, 64, 64, 1, 1, 200, 80, 192, "", "" },
    { "ragged", "sm_90a", "bf16", 64, 64, 64, 0, 0, 104, 80, 192, "", "" },
    { "ragged", "sm_90a", "e4m3", 64, 64, 64, 1, 1, 104, 80, 192, "", "" },
    { "ragged", "sm_100a", "bf16", 128, 64, 64, 1, 0, 200, 80, 192, "", "" },
    { "gemm", "sm_90a", "bf16", 32, 96, 64, 1, 1, 70, 200, 192, "", "flip" },
    { "gemm", "sm_100a", "bf16", 32, 96, 64, 1, 1, 70, 200, 192, "", "flip" },
    { "gemm", "sm_100a", "e4m3", 64, 240, 64, 1, 1, 70, 300, 192, "", "flip" },
    { "pair", "sm_90a", "bf16", 64, 64, 64, 1, 1, 200, 136, 192, "", "" },
    { "pair", "sm_90a", "bf16", 64, 128, 64, 0, 0, 200, 136, 192, "", "" },
    { "pair", "sm_100a", "bf16", 128, 64, 64, 1, 1, 200, 136, 192, "", "" },
    { "pair", "sm_100a", "bf16", 128, 64, 64, 0, 0, 264, 136, 192, "", "" },
    { "pair", "sm_120a", "bf16", 64, 64, 64, 0, 1, 200, 136, 192, "", "" },
    { "promote", "sm_80", "bf16", 64, 64, 64, 1, 1, 100, 80, 192, "", "" },
    { "promote", "sm_90a", "e4m3", 128, 128, 128, 1, 1, 100, 80, 384, "", "" },
    { "promote", "sm_90a", "e4m3", 64, 128, 128, 1, 1, 100, 80, 384, "", "" },
    { "promote", "sm_100a", "e4m3", 128, 64, 128, 1, 1, 200, 80, 384, "", "" },
    { "promote", "sm_100a", "bf16", 64, 64, 64, 1, 1, 200, 80, 384, "", "" },
    { "promote", "sm_120a", "e4m3", 64, 64, 128, 1, 1, 100, 80, 384, "", "" },
};

/* What cannot use the target's tensor cores is refused under the statement. */
static const struct refusal {
    struct gemm gemm;
    const char *says;
} refusals[] = {
    { { "gemm", "sm_90a", "e4m3", 64, 64, 64, 0, 1, 0, 0, 0, "", "" }, "wgmma reads e4m3 contiguous along what is summed over only" },
    { { "gemm", "sm_90a", "tf32", 64, 64, 32, 1, 0, 0, 0, 0, "", "" }, "wgmma reads tf32 contiguous along what is summed over only" },
    { { "gemm", "sm_80", "i8", 64, 64, 64, 0, 1, 0, 0, 0, "", "" }, "mma.sync reads 8-bit operands contiguous along what is summed over" },
    { { "gemm", "sm_100a", "tf32", 128, 64, 32, 0, 1, 0, 0, 0, "", "" }, "tcgen05 reads it contiguous along what is summed over" },
    { { "gemm", "sm_90a", "bf16", 64, 64, 8, 1, 1, 0, 0, 0, "", "" }, "the tile of 'k' is 8; mma of bf16 sums over multiples of 16" },
    { { "gemm", "sm_90a", "bf16", 64, 64, 64, 1, 1, 0, 0, 0, "warps 6 by 1", "" }, "wgmma works in warpgroups of 4" },
    { { "gemm", "sm_100a", "bf16", 128, 64, 64, 1, 1, 0, 0, 0, "warps 2 by 1", "" }, "tensor memory is read by groups of 4" },
    { { "gemm", "sm_90a", "bf16", 64, 24, 64, 1, 0, 0, 0, 0, "", "" }, "rows of 'b' are 48 bytes; tensor cores read rows of a multiple of 32 bytes" },
    { { "gemm", "sm_90a", "bf16", 192, 64, 64, 1, 1, 0, 0, 0, "warps 8 by 1", "" }, "2 warpgroups cannot share it" },
    { { "gemm", "sm_100a", "bf16", 256, 512, 16, 1, 1, 0, 0, 0, "", "" }, "columns 0 to 1023 of tensor memory, which has 512" },
    { { "gemm", "sm_80", "f32", 64, 64, 32, 1, 1, 0, 0, 0, "", "" }, "mma takes bf16, f16, tf32, e4m3, e5m2, i8 or u8; this operand is f32" },
};

static const char *number(char *to, int v)
{
    sprintf(to, "%d", v);
    return to;
}

enum { GEMM_WORDS = 12 };

/* The words of the gemm templates; text is where numbers go. */
static void gemm_words(const struct gemm *c, struct word *w, char (*text)[16])
{
    bool ints = c->type[0] == 'i' || c->type[0] == 'u';
    const struct word all[GEMM_WORDS] = {
        { "TARGET", c->target }, { "TYPE", c->type }, { "ACC", ints ? "i32" : "f32" }, { "ZERO", ints ? "0" : "0.0" }, { "BM", number(text[0], c->bm) },
        { "BN", number(text[1], c->bn) }, { "BK", number(text[2], c->bk) }, { "AINNER", number(text[3], c->a_inner) },
        { "BINNER", number(text[4], c->b_inner) }, { "WARPS", c->warps }, { "FLIP", c->flip }, { "FACTOR", ints ? "3" : "0.5" },
    };
    memcpy(w, all, sizeof all);
}

static void gemm_case(const struct gemm *c, const char *pattern)
{
    char name[128], text[5][16];
    struct word w[GEMM_WORDS];
    snprintf(name, sizeof name, "%s %s %s %dx%dx%d %c%c%s%s%s", c->file, c->target, c->type, c->bm, c->bn, c->bk, c->a_inner ? 'k' : 'm', c->b_inner ? 'k' : 'n',
             *c->warps ? " " : "", c->warps, c->flip);
    if (pattern && !strstr(name, pattern)) return;
    gemm_words(c, w, text);
    check(c->file, name, w, GEMM_WORDS, (int64_t[]){ c->m, c->n, c->k, c->k - 40 + 5 });
}

static void refusal_case(const struct refusal *r, const char *pattern)
{
    char text[5][16];
    struct word w[GEMM_WORDS];
    struct arena a = { 0 };
    struct diag d;
    char *source;
    size_t size;
    struct buf out = { 0 };
    if (pattern && !strstr(r->says, pattern)) return;
    gemm_words(&r->gemm, w, text);
    diag_init(&d, &a);
    if (!read_file("tests/codegen/mma/gemm.ir", &source, &size)) abort();
    char *ir = expand(source, w, GEMM_WORDS);
    struct ir_fn *fn = ir_parse(&a, &d, "gemm.ir", ir, strlen(ir));
    bool refused = fn && !codegen_kernel(&a, &d, fn, &(struct codegen_options){ 0 });
    diag_print(&d, &out, DIAG_PLAIN);
    bool ok = refused && out.at && strstr(out.at, r->says) && strstr(out.at, "gemm.ir:");
    if (!ok) printf("wanted: %s\ngot: %s\n", r->says, out.at ? out.at : "no error");
    ok ? passed++ : failed++;
    buf_free(&out);
    free(source);
    free(ir);
    arena_free(&a);
}

static const struct chain {
    const char *file, *target, *type;
    int bm, bt, m, t;
    const char *warps;
} chains[] = {
    { "chain", "sm_80", "bf16", 64, 64, 100, 136, "" },     { "chain", "sm_80", "f16", 32, 32, 40, 64, "" },
    { "chain", "sm_90a", "bf16", 64, 64, 100, 136, "" },    { "chain", "sm_90a", "bf16", 128, 64, 130, 136, "" },
    { "chain", "sm_90a", "bf16", 64, 64, 100, 136, "warps 8 by 1" }, { "chain", "sm_100a", "bf16", 128, 64, 130, 136, "" },
    { "chain", "sm_100a", "bf16", 64, 64, 100, 136, "" },   { "chain", "sm_120a", "bf16", 64, 64, 100, 136, "" },
    { "chain_t", "sm_80", "bf16", 16, 64, 40, 136, "" },    { "chain_t", "sm_90a", "bf16", 16, 64, 40, 136, "" },
    { "chain_t", "sm_90a", "f16", 64, 128, 100, 136, "" },  { "chain_t", "sm_100a", "bf16", 16, 128, 40, 136, "" },
    { "chain_t", "sm_120a", "bf16", 32, 64, 40, 136, "" },
};

/* Rows of two axes of which one walks part of the slot; two contracted axes. */
static const struct parts {
    const char *target, *type, *acc, *depth;
    int bt;
} parts[] = {
    { "sm_80", "bf16", "f32", "32", 64 },   { "sm_80", "i8", "i32", "64", 32 },      { "sm_90a", "bf16", "f32", "64", 64 },
    { "sm_90a", "e4m3", "f32", "128", 128 }, { "sm_100a", "bf16", "f32", "64", 128 }, { "sm_100a", "e4m3", "f32", "64", 64 },
    { "sm_120a", "e4m3", "f32", "64", 64 },
};

static void parts_case(const struct parts *c, const char *pattern)
{
    char name[128], bt[16];
    snprintf(name, sizeof name, "parts %s %s %d", c->target, c->type, c->bt);
    if (pattern && !strstr(name, pattern)) return;
    const struct word w[] = { { "TARGET", c->target }, { "TYPE", c->type }, { "ACC", c->acc }, { "KD", c->depth }, { "BT", number(bt, c->bt) }, { "WARPS", "" } };
    check("parts", name, w, COUNT(w), (int64_t[]){ 72, 19 });
}

static void chain_case(const struct chain *c, const char *pattern)
{
    char name[128], bm[16], bt[16];
    snprintf(name, sizeof name, "%s %s %s %dx%d%s%s", c->file, c->target, c->type, c->bm, c->bt, *c->warps ? " " : "", c->warps);
    if (pattern && !strstr(name, pattern)) return;
    const struct word w[] = { { "TARGET", c->target }, { "TYPE", c->type }, { "BM", number(bm, c->bm) }, { "BT", number(bt, c->bt) }, { "WARPS", c->warps } };
    check(c->file, name, w, COUNT(w), (int64_t[]){ c->m, c->t });
}

int main(int argc, char **argv)
{
    const char *pattern = NULL;
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "-p")) print_ptx = true;
        else if (!strcmp(argv[i], "-d") && i + 1 < argc) device = argv[++i];
        else pattern = argv[i];
    for (int i = 0; i < COUNT(gemms); i++) gemm_case(&gemms[i], pattern);
    for (int i = 0; i < COUNT(refusals) && !device; i++) refusal_case(&refusals[i], pattern);
    for (int i = 0; i < COUNT(chains); i++) chain_case(&chains[i], pattern);
    for (int i = 0; i < COUNT(parts); i++) parts_case(&parts[i], pattern);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
