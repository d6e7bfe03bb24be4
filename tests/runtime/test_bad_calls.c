/* Every wrong call is refused with a text that names the argument, writes nothing, and leaves the kernel as it was: a good call of
 * two kernels, and all that can be wrong about each of its values. */
#include "runtime/dgk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;

static void check(int ok, const char *what, const char *name, int64_t how)
{
    if (!ok) printf("FAILED: %s of %s, %lld (last error: %s)\n", what, name, (long long)how, dgk_error());
    ok ? passed++ : failed++;
}

enum { SLOTS = 16 };
struct call {
    dgk_kernel *k;
    const char *names[SLOTS];
    dgk_tensor tensors[SLOTS];
    dgk_value values[SLOTS];
    int n;
};

static int run(struct call *c)
{
    for (int i = 0; i < c->n; i++)
        if (c->values[i].tensor) c->values[i].tensor = &c->tensors[i];
    return dgk_call(c->k, c->values, c->n, NULL);
}

/* Refused, and said of whom. */
static void refused(struct call c, int slot, const char *what, int64_t how)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "'%s'", c.names[slot]);
    int s = run(&c);
    check(s != 0, what, c.names[slot], how);
    check(s == 0 || (*dgk_error() && *dgk_status_name(s)), "a text", c.names[slot], how);
    if (s && strcmp(what, "condition") && !strstr(dgk_error(), quoted) && !strstr(dgk_error(), "by argument") && !strstr(dgk_error(), "requires"))
        check(0, "the argument's name in the text", c.names[slot], how);
    dgk_value *v = c.values;
    dgk_plan *p = NULL;
    char *text = NULL;
    for (int i = 0; i < c.n; i++)
        if (v[i].tensor) v[i].tensor = &c.tensors[i];
    check(dgk_prepare(c.k, v, c.n) != 0 || !strcmp(what, "address"), "preparing it", c.names[slot], how);
    check(dgk_plan_call(c.k, v, c.n, &p) != 0 && !p, "a plan", c.names[slot], how);
    if (dgk_check(c.k, v, c.n, &text) == 0) check(0, "checking it", c.names[slot], how);
    dgk_release(text);
}

static void wrong_types(const struct call *good, int slot)
{
    for (int type = -1; type < 40; type++) {
        struct call c = *good;
        if (type == c.tensors[slot].type) continue;
        c.tensors[slot].type = type;
        const char *name = dgk_type_name(type);
        if (name && (!strcmp(name, "u16") || !strcmp(name, "i16"))) continue; /* they hold the bits */
        if (name && !strcmp(name, "f32") && slot == 2) continue;                   /* D may be f32, too */
        refused(c, slot, "type", type);
    }
}

static void wrong_shapes(const struct call *good, int slot)
{
    static const int64_t sizes[] = { -1, -4096, 1, 7, 100, INT64_C(1) << 31, INT64_C(1) << 40, INT64_MAX, INT64_MIN };
    static const int64_t strides[] = { INT64_C(1) << 50, INT64_C(1) << 60, INT64_MAX, INT64_MIN };
    const dgk_tensor *t = &good->tensors[slot];
    for (int rank = -1; rank <= DGK_RANK + 2; rank++) {
        struct call c = *good;
        if (rank == t->rank) continue;
        c.tensors[slot].rank = rank;
        refused(c, slot, "rank", rank);
    }
    for (int d = 0; d < t->rank; d++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct call c = *good;
            c.tensors[slot].shape[d] = sizes[i];
            refused(c, slot, "size", sizes[i]);
        }
        for (size_t i = 0; i < sizeof strides / sizeof *strides; i++) {
            struct call c = *good;
            c.tensors[slot].stride[d] = strides[i];
            refused(c, slot, "stride", strides[i]);
        }
    }
}

static void wrong_values(const struct call *good, int slot)
{
    struct call c = *good;
    c.values[slot] = dgk_int(3);
    refused(c, slot, "number", 3);
    c.values[slot] = (dgk_value){ 0 };
    refused(c, slot, "nothing", 0);
    c = *good;
    c.tensors[slot].data = 0;
    refused(c, slot, "address", 0);
    for (int place = 2; place < 5; place++) {
        c = *good;
        c.tensors[slot].place = place;
        refused(c, slot, "place", place);
    }
    c = *good;
    c.n = slot;
    refused(c, slot, "missing", slot);
}

static int again(const struct call *good)
{
    struct call c = *good;
    return run(&c) == 0;
}

static struct call gemm_call(dgk_context *c, char *memory)
{
    static const int64_t shape[3][2] = { { 64, 128 }, { 32, 128 }, { 64, 32 } };
    struct call g = { .names = { "A", "B", "D" }, .n = 3 };
    if (dgk_load(c, "kernels_dsl/bf16_gemm.dgk", NULL, &g.k)) printf("%s\n", dgk_error());
    for (int i = 0; i < 3; i++) {
        g.tensors[i] = (dgk_tensor){ .data = (uint64_t)(uintptr_t)(memory + i * 65536), .type = dgk_type("bf16"), .rank = 2,
                                     .shape = { shape[i][0], shape[i][1] }, .stride = { shape[i][1], 1 } };
        g.values[i] = dgk_of(&g.tensors[i]);
    }
    return g;
}

int main(void)
{
    dgk_context *c;
    char *memory = aligned_alloc(4096, 4 * 65536);
    setenv("DGC_DISABLE_CACHE", "1", 1);
    if (!memory || dgk_open(&c, "emu:sm_90a")) return printf("%s\n0 passed, 1 failed\n", dgk_error()), 1;
    memset(memory, 0, 4 * 65536);
    struct call good = gemm_call(c, memory);
    check(again(&good), "a good call", "bf16_gemm", 0);
    for (int slot = 0; slot < 3; slot++) {
        wrong_types(&good, slot);
        wrong_shapes(&good, slot);
        wrong_values(&good, slot);
        check(again(&good), "a good call after", good.names[slot], slot);
    }
    int clean = 1;
    for (int i = 0; i < 65536; i++) clean &= !memory[2 * 65536 + i] && !memory[3 * 65536 + i];
    check(clean, "memory as it was", "D", 0);
    dgk_unload(good.k);
    dgk_close(c);
    free(memory);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
