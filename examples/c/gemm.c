/* Multiplies two matrices with kernels_dsl/bf16_gemm.dgk, on a GPU where there is one, else on the emulator.
 *
 *     cc -Iruntime examples/c/gemm.c -Lbuild -ldgk -Wl,-rpath,$PWD/build -o /tmp/gemm && /tmp/gemm
 *     cc examples/c/gemm.c $(pkg-config --cflags --libs dgk) -o gemm        where libdgk is installed */
#include <dgk.h> /* -Iruntime in the source tree */
#include <stdio.h>
#include <stdlib.h>

enum { M = 128, N = 64, K = 256 };

static void must(int status)
{
    if (!status) return;
    fprintf(stderr, "%s: %s\n", dgk_status_name(status), dgk_error());
    exit(1);
}

/* A row-major tensor on the device, filled from `data`. */
static dgk_tensor upload(dgk_context *c, const char *type, int64_t rows, int64_t columns, const void *data)
{
    dgk_tensor t = { .type = dgk_type(type), .place = DGK_DEVICE, .rank = 2, .shape = { rows, columns }, .stride = { columns, 1 } };
    size_t bytes = (size_t)(rows * columns * dgk_type_bits(t.type) / 8);
    t.data = dgk_alloc(c, bytes);
    if (!t.data) must(1);
    if (data) must(dgk_write(c, t.data, data, bytes));
    return t;
}

int main(void)
{
    static uint16_t ones[M * K];
    static float d[M * N];
    dgk_context *c;
    dgk_device_info info;
    for (int i = 0; i < M * K; i++) ones[i] = 0x3f80; /* 1 in bf16 */
    if (dgk_open(&c, "cuda:0")) must(dgk_open(&c, "emu:sm_90a"));
    dgk_info(c, &info);

    dgk_tensor ta = upload(c, "bf16", M, K, ones), tb = upload(c, "bf16", N, K, ones), td = upload(c, "f32", M, N, NULL);
    dgk_plan *plan;
    must(dgk_gemm(c, &ta, &tb, &td, 0, &plan)); /* everything that takes time happens here */
    must(dgk_run(plan, NULL, 0, NULL));         /* this only launches */
    must(dgk_read(c, d, td.data, sizeof d));
    printf("%s: D[0, 0] = %g, D[%d, %d] = %g; %d was wanted\n", info.name, d[0], M - 1, N - 1, d[M * N - 1], K);
    dgk_plan_free(plan);
    dgk_close(c);
    return d[0] != K;
}
