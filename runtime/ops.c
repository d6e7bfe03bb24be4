/* ops - the operators of dgk.h: which kernel of which file, and its arguments. */
#define _GNU_SOURCE /* dladdr */
#include "runtime/dgk_inside.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum operator { OP_gemm, OP_fp8_gemm, OP_mqa_logits, OP_paged_metadata, OP_paged_logits, OP_varlen_metadata, OP_varlen_logits, OP_transpose, OP_pack, OP_END };

static const struct {
    const char *file, *kernel, *symbol;
} rows[OP_END] = {
    [OP_gemm] = { "bf16_gemm.dgk", "bf16_gemm", "dgk_bf16_gemm" },
    [OP_fp8_gemm] = { "fp8_gemm.dgk", "fp8_gemm", "dgk_fp8_gemm_" },
    [OP_mqa_logits] = { "mqa_logits.dgk", "mqa_logits", "dgk_mqa_logits" },
    [OP_paged_metadata] = { "paged_mqa_logits.dgk", "paged_plan", "dgk_paged_schedule" },
    [OP_paged_logits] = { "paged_mqa_logits.dgk", "paged_mqa_logits", "dgk_paged_mqa_logits" },
    [OP_varlen_metadata] = { "paged_mqa_logits.dgk", "paged_plan_varlen", "dgk_paged_schedule_varlen" },
    [OP_varlen_logits] = { "paged_mqa_logits.dgk", "paged_mqa_logits_varlen", "dgk_paged_mqa_logits_varlen" },
    [OP_transpose] = { "scales.dgk", "transpose_sf", "dgk_transpose_fp32" },
    [OP_pack] = { "scales.dgk", "pack_ue8m0", "dgk_pack_fp32_into_ue8m0" },
};

/* The folder of this library, or of the program it is linked into. */
static void own_folder(char *to, size_t room)
{
    Dl_info info;
    char real[4096];
    *to = 0;
    if (!dladdr((const void *)(uintptr_t)&own_folder, &info) || !info.dli_fname || !realpath(info.dli_fname, real)) return;
    char *slash = strrchr(real, '/');
    if (slash) *slash = 0;
    snprintf(to, room, "%s", real);
}

static enum dgk_status find_file(const char *name, char *to, size_t room, struct fault *why)
{
    static const char *const beside[] = { "kernels", "../share/dgc/kernels_dsl", "../kernels_dsl", "../../kernels_dsl" };
    const char *named = getenv("DGK_KERNELS");
    char own[4096];
    snprintf(to, room, "%s/%s", named ? named : "", name);
    if (named && *named) return access(to, R_OK) ? fault_set(why, DGK_BAD_FILE, "$DGK_KERNELS has no %s", name) : DGK_OK;
    own_folder(own, sizeof own);
    for (int i = 0; i < COUNT(beside); i++) {
        snprintf(to, room, "%s/%s/%s", own, beside[i], name);
        if (!access(to, R_OK)) return DGK_OK;
    }
    return fault_set(why, DGK_BAD_FILE, "%s was found neither beside %s nor in ../share/dgc/kernels_dsl; name the folder in $DGK_KERNELS", name, own);
}

/* Loading may happen twice when two threads come first at once; one of the two stays unused until the context is closed. */
static enum dgk_status find_kernel(dgk_context *c, enum operator op, dgk_kernel **out)
{
    char path[9000];
    dgk_options o = { .kernel = rows[op].kernel, .symbol = rows[op].symbol };
    if ((*out = __atomic_load_n(&c->operators[op], __ATOMIC_ACQUIRE))) return DGK_OK;
    enum dgk_status s = find_file(rows[op].file, path, sizeof path, fault_here());
    if (s || (s = (enum dgk_status)dgk_load(c, path, &o, out))) return s;
    __atomic_store_n(&c->operators[op], *out, __ATOMIC_RELEASE);
    return DGK_OK;
}

struct number {
    const char *name;
    int64_t value;
};

/* Tensors in the order of the kernel's arguments, then parameters by name. */
static int plan(dgk_context *c, enum operator op, const dgk_tensor *const *tensors, int n, const struct number *numbers, int n_numbers, dgk_plan **out)
{
    dgk_value values[SLOTS_MAX] = { 0 };
    dgk_kernel *k;
    *out = NULL;
    enum dgk_status s = find_kernel(c, op, &k);
    if (s) return (int)s;
    for (int i = 0; i < n; i++) values[i] = dgk_of(tensors[i]);
    for (int i = 0; i < n_numbers; i++) {
        int slot = dgk_slot_find(k, numbers[i].name);
        if (slot >= 0) values[slot] = dgk_int(numbers[i].value);
    }
    return dgk_plan_call(k, values, dgk_slots(k), out);
}

#define PLAN(op, ...) plan(c, op, (const dgk_tensor *const[]){ __VA_ARGS__ }, COUNT(((const dgk_tensor *const[]){ __VA_ARGS__ })), numbers, COUNT(numbers), out)

int dgk_gemm(dgk_context *c, const dgk_tensor *a, const dgk_tensor *b, const dgk_tensor *d, int accumulate, dgk_plan **out)
{
    const struct number numbers[] = { { "ACC", accumulate != 0 } };
    return PLAN(OP_gemm, a, b, d);
}

int dgk_fp8_gemm(dgk_context *c, const dgk_tensor *a, const dgk_tensor *sa, const dgk_tensor *b, const dgk_tensor *sb, const dgk_tensor *d, int gran_n,
                 int gran_k, int accumulate, dgk_plan **out)
{
    const struct number numbers[] = { { "GN", gran_n }, { "G", gran_k }, { "ACC", accumulate != 0 } };
    return PLAN(OP_fp8_gemm, a, sa, b, sb, d);
}

int dgk_mqa_logits(dgk_context *c, const dgk_tensor *q, const dgk_tensor *kv, const dgk_tensor *sf, const dgk_tensor *weights, const dgk_tensor *start,
                   const dgk_tensor *end, const dgk_tensor *logits, int compressed, int clean, dgk_plan **out)
{
    const struct number numbers[] = { { "COMP", compressed != 0 }, { "CLEAN", clean != 0 } };
    return PLAN(OP_mqa_logits, q, kv, sf, weights, start, end, logits);
}

int dgk_paged_mqa_metadata(dgk_context *c, const dgk_tensor *lens, const dgk_tensor *metadata, dgk_plan **out)
{
    const struct number numbers[] = { { "SPLIT", 256 } };
    return PLAN(OP_paged_metadata, lens, metadata);
}

int dgk_paged_mqa_logits(dgk_context *c, const dgk_tensor *q, const dgk_tensor *kv, const dgk_tensor *sf, const dgk_tensor *weights, const dgk_tensor *lens,
                         const dgk_tensor *table, const dgk_tensor *metadata, const dgk_tensor *logits, dgk_plan **out)
{
    const struct number numbers[] = { { "NN", q->rank > 1 ? q->shape[1] : 1 }, { "SPLIT", 256 } };
    return PLAN(OP_paged_logits, q, kv, sf, weights, lens, table, metadata, logits);
}

int dgk_paged_mqa_metadata_varlen(dgk_context *c, const dgk_tensor *lens, const dgk_tensor *indices, const dgk_tensor *metadata, dgk_plan **out)
{
    const struct number numbers[] = { { "SPLIT", 256 } };
    return PLAN(OP_varlen_metadata, lens, indices, metadata);
}

int dgk_paged_mqa_logits_varlen(dgk_context *c, const dgk_tensor *q, const dgk_tensor *kv, const dgk_tensor *sf, const dgk_tensor *weights,
                                const dgk_tensor *lens, const dgk_tensor *indices, const dgk_tensor *table, const dgk_tensor *metadata,
                                const dgk_tensor *logits, dgk_plan **out)
{
    const struct number numbers[] = { { "SPLIT", 256 } };
    return PLAN(OP_varlen_logits, q, kv, sf, weights, lens, indices, table, metadata, logits);
}

int dgk_transpose_scales(dgk_context *c, const dgk_tensor *scales, const dgk_tensor *to, dgk_plan **out)
{
    const struct number numbers[] = { { "", 0 } };
    return PLAN(OP_transpose, scales, to);
}

int dgk_pack_ue8m0(dgk_context *c, const dgk_tensor *scales, const dgk_tensor *packed, dgk_plan **out)
{
    const struct number numbers[] = { { "", 0 } };
    return PLAN(OP_pack, scales, packed);
}
