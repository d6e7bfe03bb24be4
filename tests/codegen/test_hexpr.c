/* Host expressions evaluate with flooring division and print as they would be written. */
#include "codegen/image.h"

#include <stdio.h>
#include <string.h>

static int passed, failed;

static void want(struct hexpr_code *code, int n, int64_t value, const char *text)
{
    const char *dims[] = { "M", "N" };
    struct image_arg args[2] = { { .name = "A" }, { .name = "n" } };
    struct image im = { 0 };
    im.dims.at = dims, im.dims.n = 2;
    im.args.at = args, im.args.n = 2;
    int64_t strides[2][IMAGE_RANK] = { { 256, 1 } }, scalars[2] = { 0, -7 }, values[2] = { 300, 512 };
    struct hexpr_env env = { values, (const int64_t (*)[IMAGE_RANK])strides, scalars, 132 };
    struct hexpr e = { code, n };
    struct buf b = { 0 };
    hexpr_print(&e, &im, &b);
    int64_t got = hexpr_eval(&e, &env);
    bool ok = got == value && !strcmp(b.at, text);
    if (!ok) printf("%s = %lld, wanted %s = %lld\n", b.at, (long long)got, text, (long long)value);
    ok ? passed++ : failed++;
    buf_free(&b);
}
#define WANT(value, text, ...) want((struct hexpr_code[]){ __VA_ARGS__ }, COUNT(((struct hexpr_code[]){ __VA_ARGS__ })), value, text)

int main(void)
{
    WANT(6, "cdiv(M, 128) * cdiv(N, 256)", { HEX_DIM, 0 }, { HEX_CONST, 128 }, { HEX_CDIV, 0 }, { HEX_DIM, 1 }, { HEX_CONST, 256 },
         { HEX_CDIV, 0 }, { HEX_MUL, 0 });
    WANT(-4, "n / 2", { HEX_SCALAR, 1 }, { HEX_CONST, 2 }, { HEX_DIV, 0 });
    WANT(1, "n % 2", { HEX_SCALAR, 1 }, { HEX_CONST, 2 }, { HEX_MOD, 0 });
    WANT(256, "stride(A, 0)", { HEX_STRIDE, 0 });
    WANT(132, "min(units, M)", { HEX_UNITS, 0 }, { HEX_DIM, 0 }, { HEX_MIN, 0 });
    WANT(1, "(M + 1) * 2 < N * 2 && !(M == N)", { HEX_DIM, 0 }, { HEX_CONST, 1 }, { HEX_ADD, 0 }, { HEX_CONST, 2 }, { HEX_MUL, 0 },
         { HEX_DIM, 1 }, { HEX_CONST, 2 }, { HEX_MUL, 0 }, { HEX_LT, 0 }, { HEX_DIM, 0 }, { HEX_DIM, 1 }, { HEX_EQ, 0 },
         { HEX_NOT, 0 }, { HEX_AND, 0 });
    WANT(100, "M - (N - 312)", { HEX_DIM, 0 }, { HEX_DIM, 1 }, { HEX_CONST, 312 }, { HEX_SUB, 0 }, { HEX_SUB, 0 });
    WANT(512, "(M < N ? N : M)", { HEX_DIM, 0 }, { HEX_DIM, 1 }, { HEX_LT, 0 }, { HEX_DIM, 1 }, { HEX_DIM, 0 }, { HEX_SELECT, 0 });
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
