/* The operators as plans, on the emulator: results, accumulation, empty dimensions, running on other addresses. */
#include "runtime/dgk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;
static dgk_context *c;

static void check(int ok, const char *what)
{
    if (!ok) printf("FAILED: %s (last error: %s)\n", what, dgk_error());
    ok ? passed++ : failed++;
}

/* A new row-major tensor on the device; data NULL: zeros. */
static dgk_tensor make(const char *type, const void *data, int rank, int64_t a, int64_t b, int64_t d)
{
    dgk_tensor t = { .type = dgk_type(type), .place = DGK_DEVICE, .rank = rank, .shape = { a, b, d } };
    int64_t n = 1;
    for (int i = rank - 1; i >= 0; i--) t.stride[i] = n, n *= t.shape[i];
    size_t bytes = (size_t)(n * dgk_type_bits(t.type) / 8);
    void *zero = calloc(1, bytes + 1);
    t.data = bytes ? dgk_alloc(c, bytes) : 0;
    if (bytes) dgk_write(c, t.data, data ? data : zero, bytes);
    free(zero);
    return t;
}

static uint16_t bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return (uint16_t)(u >> 16);
}

static int run(dgk_plan *p, const uint64_t *at, int n) { return dgk_run(p, at, n, NULL); }

enum { M = 40, N = 24, K = 64 };

static float a[M * K], b[N * K];

static float product(int i, int j, int depth)
{
    float s = 0;
    for (int k = 0; k < depth; k++) s += a[i * depth + k] * b[j * depth + k];
    return s;
}

static int right_to(const dgk_tensor *d, float times, int depth)
{
    static float got[M * N];
    int bad = 0;
    dgk_read(c, got, d->data, sizeof got);
    for (int i = 0; i < M * N; i++) bad += got[i] != times * product(i / N, i % N, depth);
    return !bad;
}

static int right(const dgk_tensor *d, float times) { return right_to(d, times, K); }

static void gemm(void)
{
    static uint16_t ha[M * K], hb[N * K];
    for (int i = 0; i < M * K; i++) ha[i] = bf16(a[i] = (float)(i * 7 % 5 - 2));
    for (int i = 0; i < N * K; i++) hb[i] = bf16(b[i] = (float)(i * 3 % 7 - 3));
    dgk_tensor ta = make("bf16", ha, 2, M, K, 1), tb = make("bf16", hb, 2, N, K, 1), td = make("f32", NULL, 2, M, N, 1), te = make("f32", NULL, 2, M, N, 1);
    dgk_plan *p;
    check(!dgk_gemm(c, &ta, &tb, &td, 0, &p) && !run(p, NULL, 0) && right(&td, 1), "gemm");
    check(!run(p, (uint64_t[]){ 0, 0, te.data }, 3) && right(&te, 1), "on another output");
    dgk_plan_free(p);
    check(!dgk_gemm(c, &ta, &tb, &td, 1, &p) && !run(p, NULL, 0) && right(&td, 2), "added to what is there");
    dgk_plan_free(p);
    dgk_tensor ea = make("bf16", NULL, 2, M, 0, 1), eb = make("bf16", NULL, 2, N, 0, 1);
    check(!dgk_gemm(c, &ea, &eb, &td, 0, &p) && !run(p, NULL, 0) && right(&td, 0), "k = 0: zeros");
    dgk_plan_free(p);
    check(!dgk_gemm(c, &ea, &eb, &te, 1, &p) && !run(p, NULL, 0) && right(&te, 1), "k = 0, accumulating: as it was");
    dgk_plan_free(p);
    dgk_tensor none = make("bf16", NULL, 2, 0, K, 1), empty = make("f32", NULL, 2, 0, N, 1);
    check(!dgk_gemm(c, &none, &tb, &empty, 0, &p) && !run(p, NULL, 0), "m = 0: nothing");
    dgk_plan_free(p);
    ta.shape[1] = ta.stride[0] = tb.shape[1] = tb.stride[0] = K - 1;
    check(!dgk_gemm(c, &ta, &tb, &td, 0, &p) && !run(p, NULL, 0) && right_to(&td, 1, K - 1), "an odd k: rows of no whole 16 bytes");
    dgk_plan_free(p);
    ta.shape[1] = ta.stride[0] = K;
    tb.shape[1] = K - 8;
    check(dgk_gemm(c, &ta, &tb, &td, 0, &p) && !p && strstr(dgk_error(), "K is 64 by argument 'A'"), "shapes that do not fit");
}

static void scales(void)
{
    enum { R = 36, Q = 8 };
    static float s[R * Q], t[R * Q];
    static uint8_t packed[R * Q];
    int bad = 0;
    for (int i = 0; i < R * Q; i++) s[i] = ldexpf(1, i % 30 - 15);
    dgk_tensor ts = make("f32", s, 3, 1, R, Q), tt = make("f32", NULL, 3, 1, Q, R), tp = make("u8", NULL, 3, 1, Q / 4, R);
    dgk_plan *p;
    check(!dgk_transpose_scales(c, &ts, &tt, &p) && !run(p, NULL, 0) && !dgk_read(c, t, tt.data, sizeof t), "transpose");
    dgk_plan_free(p);
    for (int i = 0; i < R; i++)
        for (int j = 0; j < Q; j++) bad += t[j * R + i] != s[i * Q + j];
    tp.data = dgk_alloc(c, sizeof packed);
    tp.rank = 4, tp.shape[3] = 4;
    tp.stride[0] = R * Q, tp.stride[1] = R * 4, tp.stride[2] = 4, tp.stride[3] = 1;
    check(!bad && !dgk_pack_ue8m0(c, &ts, &tp, &p) && !run(p, NULL, 0) && !dgk_read(c, packed, tp.data, sizeof packed), "pack");
    dgk_plan_free(p);
    for (int i = 0; i < R; i++)
        for (int j = 0; j < Q; j++) bad += packed[(j / 4 * R + i) * 4 + j % 4] != 127 + (i * Q + j) % 30 - 15;
    check(!bad, "packed exponents");
}

static void fp8(void)
{
    enum { F = 128 };
    static uint8_t ones[F * F];
    static float sa[F], sb[4] = { 3 }, got[F * F];
    int bad = 0;
    memset(ones, 0x38, sizeof ones);
    for (int i = 0; i < F; i++) sa[i] = (float)(i % 4 + 1);
    dgk_tensor ta = make("e4m3", ones, 2, F, F, 1), tb = make("e4m3", ones, 2, F, F, 1), tsa = make("f32", sa, 2, 1, F, 1), tsb = make("f32", sb, 2, 1, 4, 1);
    dgk_tensor td = make("f32", NULL, 2, F, F, 1);
    tsb.shape[1] = 1;
    dgk_plan *p;
    check(!dgk_fp8_gemm(c, &ta, &tsa, &tb, &tsb, &td, 128, 128, 0, &p) && !run(p, NULL, 0) && !dgk_read(c, got, td.data, sizeof got), "fp8 gemm");
    dgk_plan_free(p);
    for (int i = 0; i < F * F; i++) bad += got[i] != 128 * 3 * (float)(i / F % 4 + 1);
    check(!bad, "its result");
}

/* A scale for each 128 x 128 of B, in rows of five: nothing that boxes take. */
static void block_scales(void)
{
    enum { ROWS = 8, COLUMNS = 136, BLOCKS = 5, DEPTH = 128 * BLOCKS };
    static uint8_t ones[COLUMNS * DEPTH];
    static float sa[BLOCKS * ROWS], sb[2 * BLOCKS], got[ROWS * COLUMNS];
    int bad = 0;
    memset(ones, 0x38, sizeof ones);
    for (int i = 0; i < BLOCKS * ROWS; i++) sa[i] = (float)(i % 3 + 1);
    for (int i = 0; i < 2 * BLOCKS; i++) sb[i] = (float)(i + 1);
    dgk_tensor ta = make("e4m3", ones, 2, ROWS, DEPTH, 1), tb = make("e4m3", ones, 2, COLUMNS, DEPTH, 1), td = make("f32", NULL, 2, ROWS, COLUMNS, 1);
    dgk_tensor tsa = make("f32", sa, 2, BLOCKS, ROWS, 1), tsb = make("f32", sb, 2, 2, BLOCKS, 1);
    dgk_plan *p;
    check(!dgk_fp8_gemm(c, &ta, &tsa, &tb, &tsb, &td, 128, 128, 0, &p) && !run(p, NULL, 0) && !dgk_read(c, got, td.data, sizeof got), "scales in rows of five");
    dgk_plan_free(p);
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        float sum = 0;
        for (int k = 0; k < BLOCKS; k++) sum += 128 * sa[k * ROWS + i / COLUMNS] * sb[i % COLUMNS / 128 * BLOCKS + k];
        bad += got[i] != sum;
    }
    check(!bad, "its result");
}

/* Requests of two, one and three tokens: keys by the last token's length, pages of the first token's row. */
static void varlen(void)
{
    enum { TOKENS = 6, HEADS = 32, DIM = 64, PAGES = 5, PAGE = 64, COLUMNS = 2 * PAGE, SHARES = 7 };
    static const int32_t lens[TOKENS] = { 9, 100, 0, 128, -5, 70 }, indices[TOKENS] = { 3, 3, -1, 3, 3, 3 }, first[TOKENS] = { 0, 0, 2, 3, 3, 3 };
    static const int32_t used[TOKENS] = { 100, 100, 0, 70, 70, 70 };
    static const int32_t table[TOKENS][2] = { { 4, 1 }, { -1, -1 }, { -1, -1 }, { 0, 2 }, { 1, 1 }, { -7, 99 } };
    static uint8_t ones[TOKENS * HEADS * DIM > PAGES * PAGE * DIM ? TOKENS * HEADS * DIM : PAGES * PAGE * DIM];
    static float sf[PAGES * PAGE], w[TOKENS * HEADS], got[TOKENS * COLUMNS], again[TOKENS * COLUMNS];
    int bad = 0;
    memset(ones, 0x38, sizeof ones);
    for (int i = 0; i < PAGES * PAGE; i++) sf[i] = (float)(i % 251 + 1);
    for (int i = 0; i < TOKENS * HEADS; i++) w[i] = (float)(i / HEADS + 1);
    dgk_tensor q = make("e4m3", ones, 3, TOKENS, HEADS, DIM), kv = make("e4m3", ones, 3, PAGES, PAGE, DIM), tsf = make("f32", sf, 2, PAGES, PAGE, 1);
    dgk_tensor tw = make("f32", w, 2, TOKENS, HEADS, 1), len = make("i32", lens, 1, TOKENS, 1, 1), who = make("i32", indices, 1, TOKENS, 1, 1);
    dgk_tensor pt = make("i32", table, 2, TOKENS, 2, 1), meta = make("i32", NULL, 2, SHARES + 1, 2, 1), l = make("f32", NULL, 2, TOKENS, COLUMNS, 1);
    dgk_plan *p;
    check(!dgk_paged_mqa_metadata_varlen(c, &len, &who, &meta, &p) && !run(p, NULL, 0), "a schedule of runs");
    dgk_plan_free(p);
    check(!dgk_paged_mqa_logits_varlen(c, &q, &kv, &tsf, &tw, &len, &who, &pt, &meta, &l, &p) && !run(p, NULL, 0) && !dgk_read(c, got, l.data, sizeof got),
          "paged logits of runs");
    for (int i = 0; i < TOKENS * COLUMNS; i++) {
        int s = i / COLUMNS, t = i % COLUMNS;
        bad += got[i] != (t < used[s] ? sf[table[first[s]][t / PAGE] * PAGE + t % PAGE] * DIM * HEADS * (float)(s + 1) : 0);
    }
    check(!bad, "their result, and nothing else");
    dgk_tensor other = make("f32", NULL, 2, TOKENS, COLUMNS, 1);
    check(!run(p, (uint64_t[]){ 0, 0, 0, 0, 0, 0, 0, 0, other.data }, 9) && !dgk_read(c, again, other.data, sizeof again) && !memcmp(again, got, sizeof got), "on another output");
    dgk_plan_free(p);
    who.shape[0] = TOKENS - 1;
    check(dgk_paged_mqa_metadata_varlen(c, &len, &who, &meta, &p) && !p && strstr(dgk_error(), "'IDX'"), "an index too few");
    check(dgk_paged_mqa_logits_varlen(c, &q, &kv, &tsf, &tw, &len, &who, &pt, &meta, &l, &p) && !p && strstr(dgk_error(), "'IDX'"), "in the logits, too");
    who = make("i64", NULL, 1, TOKENS, 1, 1);
    check(dgk_paged_mqa_logits_varlen(c, &q, &kv, &tsf, &tw, &len, &who, &pt, &meta, &l, &p) && !p && strstr(dgk_error(), "'IDX'"), "indices of 64 bits");
}

int main(void)
{
    setenv("DGC_DISABLE_CACHE", "1", 1);
    setenv("DGK_KERNELS", "kernels_dsl", 1);
    if (dgk_open(&c, "emu:sm_90a")) return printf("%s\n0 passed, 1 failed\n", dgk_error()), 1;
    gemm();
    scales();
    fp8();
    block_scales();
    varlen();
    dgk_close(c);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
