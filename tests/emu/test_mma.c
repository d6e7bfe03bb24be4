/* mma.sync in every form, with fragments laid out by the host from the tables of the PTX manual: small integers, so that
 * every model of accumulation gives the exact sum. ldmatrix, stmatrix and movmatrix move what the tables say. */
#include "runtime/emu/numerics.h"
#include "tests/emu/kernel.h"

#include <math.h>

struct form {
    const char *text, *target; /* the name from the shape on */
    enum emu_chip chip;
    int k, bits;               /* of a container */
    enum num_type a, b, d;
    int block;                 /* k per scale, 0: none */
    enum num_type scale;
};
static const struct form forms[] = {
    {"m16n8k4.row.col.f32.tf32.tf32.f32", "sm_80", EMU_SM80, 4, 32, NUM_tf32, NUM_tf32, NUM_f32, 0, 0},
    {"m16n8k8.row.col.f32.tf32.tf32.f32", "sm_80", EMU_SM80, 8, 32, NUM_tf32, NUM_tf32, NUM_f32, 0, 0},
    {"m16n8k8.row.col.f32.bf16.bf16.f32", "sm_80", EMU_SM80, 8, 16, NUM_bf16, NUM_bf16, NUM_f32, 0, 0},
    {"m16n8k16.row.col.f32.bf16.bf16.f32", "sm_80", EMU_SM80, 16, 16, NUM_bf16, NUM_bf16, NUM_f32, 0, 0},
    {"m16n8k16.row.col.f32.f16.f16.f32", "sm_80", EMU_SM90, 16, 16, NUM_f16, NUM_f16, NUM_f32, 0, 0},
    {"m16n8k16.row.col.f16.f16.f16.f16", "sm_80", EMU_SM120, 16, 16, NUM_f16, NUM_f16, NUM_f16, 0, 0},
    {"m16n8k8.row.col.f16.f16.f16.f16", "sm_80", EMU_SM80, 8, 16, NUM_f16, NUM_f16, NUM_f16, 0, 0},
    {"m16n8k16.row.col.s32.s8.u8.s32", "sm_80", EMU_SM80, 16, 8, NUM_s8, NUM_u8, NUM_s32, 0, 0},
    {"m16n8k32.row.col.satfinite.s32.s8.s8.s32", "sm_80", EMU_SM89, 32, 8, NUM_s8, NUM_s8, NUM_s32, 0, 0},
    {"m16n8k64.row.col.s32.s4.u4.s32", "sm_80", EMU_SM80, 64, 4, NUM_s4, NUM_u4, NUM_s32, 0, 0},
    {"m16n8k32.row.col.f32.e4m3.e5m2.f32", "sm_89", EMU_SM89, 32, 8, NUM_e4m3, NUM_e5m2, NUM_f32, 0, 0},
    {"m16n8k32.row.col.f32.e4m3.e4m3.f32", "sm_90", EMU_SM90, 32, 8, NUM_e4m3, NUM_e4m3, NUM_f32, 0, 0},
    {"m16n8k16.row.col.f16.e5m2.e4m3.f16", "sm_90", EMU_SM90, 16, 8, NUM_e5m2, NUM_e4m3, NUM_f16, 0, 0},
    {"m16n8k32.row.col.kind::f8f6f4.f32.e2m1.e3m2.f32", "sm_120a", EMU_SM120, 32, 8, NUM_e2m1, NUM_e3m2, NUM_f32, 0, 0},
    {"m16n8k32.row.col.kind::f8f6f4.f16.e2m3.e4m3.f16", "sm_120a", EMU_SM120, 32, 8, NUM_e2m3, NUM_e4m3, NUM_f16, 0, 0},
    {"m16n8k32.row.col.kind::mxf8f6f4.block_scale.f32.e4m3.e2m1.f32.ue8m0", "sm_120a", EMU_SM120, 32, 8, NUM_e4m3, NUM_e2m1, NUM_f32, 32, NUM_ue8m0},
    {"m16n8k32.row.col.kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e5m2.e5m2.f32.ue8m0", "sm_121a", EMU_SM121, 32, 8, NUM_e5m2, NUM_e5m2, NUM_f32, 32, NUM_ue8m0},
    {"m16n8k64.row.col.kind::mxf4.block_scale.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0", "sm_120a", EMU_SM120, 64, 4, NUM_e2m1, NUM_e2m1, NUM_f32, 32, NUM_ue8m0},
    {"m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3", "sm_120a", EMU_SM120, 64, 4, NUM_e2m1, NUM_e2m1, NUM_f32, 16, NUM_ue4m3},
    {"m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0", "sm_120a", EMU_SM120, 64, 4, NUM_e2m1, NUM_e2m1, NUM_f32, 32, NUM_ue8m0},
};

/* Small whole numbers that every type has. */
static int small(enum num_type t, uint32_t *seed)
{
    int v = (int)(kernel_random(seed) % 5);
    return t == NUM_u8 || t == NUM_u4 ? v : v - 2;
}

/* The element in its container. */
static uint32_t encode(enum num_type t, int v, int container)
{
    if (!num_is_float(t)) return (uint32_t)v & ((1u << num_bits(t)) - 1);
    uint32_t bits = (uint32_t)num_cvt(t, NUM_f32, NUM_RN, 0, num_float_bits((float)v));
    return t == NUM_e2m1 && container == 8 ? bits << 2 : bits;
}

static uint32_t encode_result(enum num_type t, int v)
{
    return t == NUM_s32 ? (uint32_t)v : (uint32_t)num_cvt(t, NUM_f32, NUM_RN, 0, num_float_bits((float)v));
}

/* Lane and register of A[row][k] (or, with row < 8, of B[k][row]), the manual's formulas read backwards. */
static void put(uint32_t *regs, const struct form *f, bool is_a, int row, int k, uint32_t v)
{
    int e = 32 / f->bits, part = k % e, group = k / e % 4, high = k / (4 * e);
    int r = is_a ? 2 * high + row / 8 : high, lane = row % 8 * 4 + group;
    regs[r * 32 + lane] |= v << part * f->bits;
}

struct problem {
    uint32_t a[4 * 32], b[2 * 32], c[4 * 32], scale[2 * 32], d[4 * 32];
    int want[16][8];
};

static void make(const struct form *f, struct problem *p, uint32_t *seed, int byte_a, int thread_a, int byte_b,
                 int thread_b)
{
    int A[16][64], B[8][64], n = f->block ? f->k / f->block : 1, sa[16][4], sb[8][4];
    memset(p, 0, sizeof *p);
    for (int i = 0; i < 64; i++) p->scale[i] = 0x7B7A7978 + kernel_random(seed) % 2; /* lanes and bytes nobody names */
    for (int m = 0; m < 16; m++)
        for (int s = 0; s < n; s++) {
            sa[m][s] = f->block ? 1 << kernel_random(seed) % 3 : 1;
            uint32_t *w = &p->scale[m % 8 * 4 + 2 * thread_a + m / 8];
            int at = 8 * (byte_a + s);
            *w = (*w & ~(255u << at)) | (uint32_t)num_cvt(f->scale, NUM_f32, NUM_RP, 0, num_float_bits((float)sa[m][s])) << at;
        }
    for (int j = 0; j < 8; j++)
        for (int s = 0; s < n; s++) {
            sb[j][s] = f->block ? 1 << kernel_random(seed) % 3 : 1;
            uint32_t *w = &p->scale[32 + j * 4 + thread_b];
            int at = 8 * (byte_b + s);
            *w = (*w & ~(255u << at)) | (uint32_t)num_cvt(f->scale, NUM_f32, NUM_RP, 0, num_float_bits((float)sb[j][s])) << at;
        }
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < f->k; k++) put(p->a, f, true, m, k, encode(f->a, A[m][k] = small(f->a, seed), f->bits));
    for (int j = 0; j < 8; j++)
        for (int k = 0; k < f->k; k++) put(p->b, f, false, j, k, encode(f->b, B[j][k] = small(f->b, seed), f->bits));
    for (int m = 0; m < 16; m++)
        for (int j = 0; j < 8; j++) {
            int c = (int)(kernel_random(seed) % 17) - 8, lane = m % 8 * 4 + j / 2, r = m / 8 * 2 + j % 2;
            if (f->d == NUM_f16) p->c[r / 2 * 32 + lane] |= encode_result(f->d, c) << 16 * (r % 2);
            else p->c[r * 32 + lane] = encode_result(f->d, c);
            p->want[m][j] = c;
            for (int k = 0; k < f->k; k++)
                p->want[m][j] += A[m][k] * B[j][k] * (f->block ? sa[m][k / f->block] * sb[j][k / f->block] : 1);
        }
}

static void load(struct buf *b, int param, int first, int n)
{
    for (int i = 0; i < n; i++) buf_printf(b, "ld.global.b32 %%r%d, [%%d%d+%d];\n", first + i, 10 + param, 128 * i);
}

static void write_kernel(struct buf *b, const struct form *f, int byte_a, int thread_a, int byte_b, int thread_b)
{
    int words = f->k * f->bits / 32, results = f->d == NUM_f16 ? 2 : 4;
    kernel_begin(b, f->target, 5, 32);
    buf_printf(b, "mov.u32 %%r0, %%tid.x;\nmul.wide.u32 %%d9, %%r0, 4;\n");
    for (int i = 0; i < 5; i++) buf_printf(b, "add.s64 %%d%d, %%d%d, %%d9;\n", 10 + i, i);
    load(b, 0, 10, words / 2);
    load(b, 1, 20, words / 4);
    load(b, 2, 30, results);
    load(b, 3, 40, 2);
    buf_printf(b, "mma.sync.aligned.%s ", f->text);
    kernel_regs(b, 50, results);
    buf_printf(b, ", ");
    kernel_regs(b, 10, words / 2);
    buf_printf(b, ", ");
    kernel_regs(b, 20, words / 4);
    buf_printf(b, ", ");
    kernel_regs(b, 30, results);
    if (f->block) buf_printf(b, ", {%%r40}, {%d, %d}, {%%r41}, {%d, %d}", byte_a, thread_a, byte_b, thread_b);
    buf_printf(b, ";\n");
    for (int i = 0; i < results; i++) buf_printf(b, "st.global.b32 [%%d14+%d], %%r%d;\n", 128 * i, 50 + i);
    kernel_end(b);
}

static void form(const struct form *f, uint32_t *seed)
{
    struct problem p;
    struct buf b = {0};
    char *error;
    int n = f->block ? f->k / f->block : 1, bad = 0;
    int byte_a = f->block ? 4 - n : 0, byte_b = 0, thread_a = (int)(kernel_random(seed) % 2),
        thread_b = (int)(kernel_random(seed) % 4);
    make(f, &p, seed, byte_a, thread_a, byte_b, thread_b);
    write_kernel(&b, f, byte_a, thread_a, byte_b, thread_b);
    struct kernel_buffer buffers[] = {
        {p.a, sizeof p.a}, {p.b, sizeof p.b}, {p.c, sizeof p.c}, {p.scale, sizeof p.scale}, {p.d, sizeof p.d}};
    bool ok = kernel_run(f->chip, EMU_EARLY, b.at, 32, 1, 0, buffers, 5, &error);
    claim(ok, "mma %s: %s", f->text, ok ? "" : error);
    for (int m = 0; ok && m < 16; m++)
        for (int j = 0; j < 8; j++) {
            int lane = m % 8 * 4 + j / 2, r = m / 8 * 2 + j % 2;
            uint32_t got = f->d == NUM_f16 ? p.d[r / 2 * 32 + lane] >> 16 * (r % 2) & 0xFFFF : p.d[r * 32 + lane];
            bad += got != encode_result(f->d, p.want[m][j]);
        }
    claim(!bad, "mma %s: %d of 128 differ", f->text, bad);
    free(error);
    buf_free(&b);
}

/* ---- matrices through registers ---- */

/* Loads `smem` from parameter 0 (512 bytes or more), runs `body` with the lane's row address in %r1, stores `n` registers
 * from %r10 on, and the shared memory behind them. */
static bool move(const char *target, enum emu_chip chip, const char *body, int n, uint8_t *image, uint32_t *out,
                 uint8_t *image_after)
{
    struct buf b = {0};
    char *error;
    kernel_begin(&b, target, 3, 32);
    buf_printf(&b, ".shared .align 1024 .b8 tile[512];\n");
    buf_printf(&b, "mov.u32 %%r0, %%tid.x;\nmov.u32 %%r2, tile;\nshl.b32 %%r3, %%r0, 4;\nadd.s32 %%r1, %%r2, %%r3;\n");
    buf_printf(&b, "mul.wide.u32 %%d9, %%r0, 16;\nadd.s64 %%d10, %%d0, %%d9;\nadd.s64 %%d12, %%d2, %%d9;\n");
    buf_printf(&b, "mul.wide.u32 %%d9, %%r0, 4;\nadd.s64 %%d11, %%d1, %%d9;\n");
    buf_printf(&b, "ld.global.v4.b32 {%%r4, %%r5, %%r6, %%r7}, [%%d10];\nst.shared.v4.b32 [%%r1], {%%r4, %%r5, %%r6, "
                   "%%r7};\nbar.sync 0;\n");
    for (int i = 0; i < 4; i++) buf_printf(&b, "mov.b32 %%r%d, 0;\n", 10 + i);
    buf_printf(&b, "%s\nbar.sync 0;\n", body);
    for (int i = 0; i < n; i++) buf_printf(&b, "st.global.b32 [%%d11+%d], %%r%d;\n", 128 * i, 10 + i);
    buf_printf(
        &b,
        "ld.shared.v4.b32 {%%r4, %%r5, %%r6, %%r7}, [%%r1];\nst.global.v4.b32 [%%d12], {%%r4, %%r5, %%r6, %%r7};\n");
    kernel_end(&b);
    struct kernel_buffer buffers[] = {{image, 512}, {out, 512}, {image_after, 512}};
    bool ok = kernel_run(chip, EMU_EARLY, b.at, 32, 1, 0, buffers, 3, &error);
    claim(ok, "%s: %s", body, ok ? "" : error);
    free(error);
    buf_free(&b);
    return ok;
}

static void matrices(void)
{
    uint8_t image[512], after[512];
    uint32_t out[128];
    int bad = 0;
    for (int i = 0; i < 512; i++) image[i] = (uint8_t)(i * 7 + i / 16);
#define BYTE(row, b) image[(row) * 16 + (b)]
    memset(out, 0, sizeof out);
    if (move("sm_80", EMU_SM80, "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%r1];", 4, image,
             out, after))
        for (int j = 0; j < 4; j++)
            for (int l = 0; l < 32; l++)
                for (int i = 0; i < 4; i++)
                    bad += (uint8_t)(out[j * 32 + l] >> 8 * i) != BYTE(8 * j + l / 4, l % 4 * 4 + i);
    claim(!bad, "ldmatrix: %d differ", bad);
    bad = 0;
    if (move("sm_80", EMU_SM80, "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r10, %r11}, [%r1];", 2, image, out,
             after))
        for (int j = 0; j < 2; j++)
            for (int l = 0; l < 32; l++)
                for (int i = 0; i < 4; i++)
                    bad += (uint8_t)(out[j * 32 + l] >> 8 * i) != BYTE(8 * j + l % 4 * 2 + i / 2, l / 4 * 2 + i % 2);
    claim(!bad, "ldmatrix.trans: %d differ", bad);
    bad = 0;
    if (move("sm_100a", EMU_SM100, "ldmatrix.sync.aligned.m16n16.x2.trans.shared.b8 {%r10, %r11, %r12, %r13}, [%r1];",
             4, image, out, after))
        for (int r = 0; r < 4; r++)
            for (int l = 0; l < 32; l++)
                for (int i = 0; i < 4; i++)
                    bad +=
                        (uint8_t)(out[r * 32 + l] >> 8 * i) != BYTE(16 * (r / 2) + l % 4 * 4 + i, l / 4 + 8 * (r % 2));
    claim(!bad, "ldmatrix b8: %d differ", bad);
    bad = 0;
    if (move("sm_120a", EMU_SM120, "ldmatrix.sync.aligned.m8n16.x1.shared.b8x16.b6x16_p32 {%r10}, [%r1];", 1, image,
             out, after))
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++) {
                int at = 6 * (l % 4 * 4 + i), v = (BYTE(l / 4, at / 8) | BYTE(l / 4, at / 8 + 1) << 8) >> at % 8 & 63;
                bad += (int)(out[l] >> 8 * i & 255) != v;
            }
    claim(!bad, "ldmatrix 6 bits: %d differ", bad);
    bad = 0;
    if (move("sm_80", EMU_SM80,
             "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r10}, [%r1];\nmovmatrix.sync.aligned.m8n8.trans.b16 %r11, "
             "%r10;",
             2, image, out, after))
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++)
                bad += (uint8_t)(out[32 + l] >> 8 * i) != BYTE(l % 4 * 2 + i / 2, l / 4 * 2 + i % 2);
    claim(!bad, "movmatrix: %d differ", bad);
    bad = 0;
    if (move("sm_90", EMU_SM90,
             "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%r1];\n"
             "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%r1], {%r10, %r11, %r12, %r13};",
             1, image, out, after))
        for (int r = 0; r < 32; r++)
            for (int i = 0; i < 16; i++) bad += after[r * 16 + i] != BYTE(r / 8 * 8 + i / 2, r % 8 * 2 + i % 2);
    claim(!bad, "stmatrix.trans: %d differ", bad);
    bad = 0;
    if (move("sm_100a", EMU_SM100,
             "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r10}, [%r1];\n"
             "stmatrix.sync.aligned.m16n8.x1.trans.shared.b8 [%r1], {%r10};",
             1, image, out, after))
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++)
                bad += after[(l % 4 * 2 + i % 2) * 16 + l / 4 + 8 * (i / 2)] != BYTE(l / 4, l % 4 * 4 + i);
    claim(!bad, "stmatrix b8: %d differ", bad);
}

/* ---- what must be refused ---- */

static void refused(const char *target, enum emu_chip chip, const char *insn, const char *why)
{
    struct buf b = {0};
    char *error;
    uint32_t x[32];
    kernel_begin(&b, target, 1, 32);
    for (int i = 0; i < 16; i++) buf_printf(&b, "mov.b32 %%r%d, 0;\n", i);
    buf_printf(&b, "%s\n", insn);
    kernel_end(&b);
    struct kernel_buffer buffers[] = {{memset(x, 0, sizeof x), sizeof x}};
    bool ok = kernel_run(chip, EMU_EARLY, b.at, 32, 1, 1024, buffers, 1, &error);
    claim(!ok && strstr(error, why), "'%s' should be refused with '%s': %s", insn, why, ok ? "it ran" : error);
    free(error);
    buf_free(&b);
}

int main(void)
{
    uint32_t seed = 1;
    for (int i = 0; i < COUNT(forms); i++) form(&forms[i], &seed);
    matrices();
    refused("sm_80", EMU_SM80,
            "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%r0,%r1,%r2,%r3}, {%r4,%r5,%r6,%r7}, {%r8,%r9}, "
            "{%r0,%r1,%r2,%r3};",
            "not available");
    refused("sm_100a", EMU_SM100,
            "mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.f32.e2m1.e4m3.f32 {%r0,%r1,%r2,%r3}, {%r4,%r5,%r6,%r7}, "
            "{%r8,%r9}, {%r0,%r1,%r2,%r3};",
            "not available");
    refused("sm_80", EMU_SM80,
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.bf16.f32 {%r0,%r1,%r2,%r3}, {%r4,%r5,%r6,%r7}, {%r8,%r9}, "
            "{%r0,%r1,%r2,%r3};",
            "do not go together");
    refused("sm_80", EMU_SM80,
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r0,%r1,%r2,%r3}, {%r4,%r5}, {%r8,%r9}, "
            "{%r0,%r1,%r2,%r3};",
            "elements");
    refused("sm_80", EMU_SM80,
            "mov.u32 %r1, smem;\nadd.u32 %r1, %r1, 8;\nldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [%r1];",
            "multiple of 16");
    refused("sm_80", EMU_SM80,
            "mov.u32 %r1, %tid.x;\nsetp.eq.u32 %q1, %r1, 3;\n@%q1 movmatrix.sync.aligned.m8n8.trans.b16 %r0, %r1;",
            "aligned");
    refused("sm_90", EMU_SM90, "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r0,%r1}, [%r2];", "not available");
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
