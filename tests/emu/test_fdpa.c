/* Dot products recorded on an H200 (every type pair of wgmma and mma.sync) come out of num_mma to the bit; so do the
 * published discriminating example on every chip, and the block-scaled kinds against a direct sum. */
#include "runtime/emu/numerics.h"
#include "tests/emu/hw.h"

#include <dirent.h>
#include <math.h>

static long passed, failed;

static void count(const char *name, long n, long bad)
{
    passed += n - bad;
    failed += bad;
    if (bad) printf("FAIL %-28s %8ld of %8ld differ\n", name, bad, n);
}

struct form {
    uint32_t m, n, k, a, b, d, groups, unit;
    char name[24];
};
/* The files' numbering of types. */
static const struct {
    enum num_type type;
    int size;
} types[] = {{NUM_bf16, 2}, {NUM_f16, 2}, {NUM_tf32, 4}, {NUM_e4m3, 1}, {NUM_e5m2, 1},
             {NUM_s8, 1},   {NUM_u8, 1},  {NUM_f32, 4},  {NUM_s32, 4}};

static uint32_t get(const uint8_t *p, uint32_t type, size_t i)
{
    uint32_t x = 0;
    memcpy(&x, p + i * (size_t)types[type].size, (size_t)types[type].size);
    return x;
}

/* Runs one tile through all its steps; the number of wrong outputs. */
static long tile(const struct form *f, uint32_t mode, uint32_t steps, bool saturate, const uint8_t *A, const uint8_t *B,
                 const uint8_t *C, const uint8_t *D)
{
    uint32_t a[64 * 32], b[8 * 32], cd[64 * 8];
    long bad = 0;
    for (uint32_t i = 0; i < f->m * f->n; i++) cd[i] = mode == 1 ? 0 : get(C, f->d, i);
    for (uint32_t s = 0; s < steps; s++) {
        for (uint32_t i = 0; i < f->m * f->k; i++) a[i] = get(A, f->a, s * f->m * f->k + i);
        for (uint32_t n = 0; n < f->n; n++)
            for (uint32_t k = 0; k < f->k; k++) b[k * 8 + n] = get(B, f->b, (s * f->n + n) * f->k + k);
        struct num_mma j = {.chip = EMU_SM90,
                            .unit = f->unit ? NUM_MMA : NUM_WGMMA,
                            .a_type = types[f->a].type,
                            .b_type = types[f->b].type,
                            .d_type = types[f->d].type,
                            .m = (int)f->m,
                            .n = (int)f->n,
                            .k = (int)f->k,
                            .ld = (int)f->n,
                            .negate = mode == 2 || mode == 3,
                            .saturate = saturate,
                            .a = a,
                            .b = b,
                            .cd = cd};
        if (!num_mma(&j)) return f->m * f->n;
    }
    for (uint32_t i = 0; i < f->m * f->n; i++) bad += cd[i] != get(D, f->d, i);
    return bad;
}

static void recording(const char *folder, const char *name)
{
    char path[300];
    size_t size;
    struct form f;
    snprintf(path, sizeof path, "mma/%s", name);
    uint8_t *data = hw_load(folder, path, &size), *p = data + 64;
    memcpy(&f, data + 8, sizeof f);
    long n = 0, bad = 0;
    for (uint32_t g = 0; g < f.groups; g++) {
        uint32_t h[4]; /* mode, distribution, steps, tiles */
        memcpy(h, p, 16);
        p += 16;
        for (uint32_t t = 0; t < h[3]; t++) {
            const uint8_t *A = p, *B = A + h[2] * f.m * f.k * (uint32_t)types[f.a].size,
                          *C = B + h[2] * f.n * f.k * (uint32_t)types[f.b].size;
            const uint8_t *D = C + f.m * f.n * (uint32_t)types[f.d].size;
            bad += tile(&f, h[0], h[2], strstr(name, "sat") != NULL, A, B, C, D);
            n += f.m * f.n;
            p = (uint8_t *)D + f.m * f.n * (uint32_t)types[f.d].size;
        }
    }
    if (p != data + size) bad++, printf("%s: bytes left over\n", name);
    count(name, n, bad);
    free(data);
}

static void recordings(void)
{
    const char *folder = hw_folder("mma");
    char path[300];
    snprintf(path, sizeof path, "%s/mma", folder);
    DIR *d = opendir(path);
    int files = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        if (strstr(e->d_name, ".bin")) recording(folder, e->d_name), files++;
    if (d) closedir(d);
    count("number of recordings", 37, files == 37 ? 0 : 37);
    hw_clean();
}

/* Xie et al., arXiv 2511.10909, table 8: -2^13*2^10 - 0.5 - 0.25 - 0.125 + 2^23, which is -0.875. */
static void example(enum emu_chip chip, enum num_unit unit, enum num_type t, int k, float want)
{
    static const float x[4] = {-0x1p13f, -0.5f, -0.25f, -0.125f}, y[4] = {0x1p10f, 1, 1, 1};
    uint32_t a[16 * 64] = {0}, b[8 * 64] = {0}, cd[16 * 8] = {0};
    for (int i = 0; i < 4; i++) {
        a[i] = (uint32_t)num_cvt(t, NUM_f32, NUM_RN, 0, num_float_bits(x[i]));
        b[i * 8] = (uint32_t)num_cvt(t, NUM_f32, NUM_RN, 0, num_float_bits(y[i]));
    }
    cd[0] = num_float_bits(0x1p23f);
    struct num_mma j = {.chip = chip,
                        .unit = unit,
                        .a_type = t,
                        .b_type = t,
                        .d_type = NUM_f32,
                        .m = 16,
                        .n = 8,
                        .k = k,
                        .ld = 8,
                        .a = a,
                        .b = b,
                        .cd = cd};
    bool ok = num_mma(&j) && num_float(cd[0]) == want;
    if (!ok)
        printf("example chip %d unit %d type %d: %g, not %g\n", chip, unit, t, (double)num_float(cd[0]), (double)want);
    count("example", 1, !ok);
}

static void examples(void)
{
    example(EMU_SM80, NUM_MMA, NUM_f16, 16, -0.5f);
    example(EMU_SM89, NUM_MMA, NUM_f16, 16, -0.5f);
    example(EMU_SM90, NUM_MMA, NUM_f16, 16, -0.75f);
    example(EMU_SM90, NUM_WGMMA, NUM_f16, 16, -0.75f);
    example(EMU_SM90, NUM_WGMMA, NUM_e5m2, 32, 0.0f);
    example(EMU_SM89, NUM_MMA, NUM_e5m2, 32, 0.0f);
    example(EMU_SM100, NUM_TCGEN05, NUM_f16, 16, -0.75f);
    example(EMU_SM100, NUM_TCGEN05, NUM_e5m2, 32, -0.75f);
    example(EMU_SM120, NUM_MMA, NUM_e5m2, 32, -0.75f);
}

/* Random fp4 with scales: small enough that the model is exact, so that a plain sum in doubles must agree. */
static void scaled(enum emu_chip chip, enum num_unit unit, bool groups, enum num_type t, enum num_type scale, int k,
                   int block)
{
    uint32_t a[16 * 64], b[8 * 64], cd[16 * 8], seed = 12345;
    uint8_t sa[16 * 4], sb[8 * 4];
    long bad = 0;
    for (int round = 0; round < 20; round++) {
#define DRAW(n) ((seed = seed * 1664525 + 1013904223) >> 8) % (n)
        uint32_t patterns = t == NUM_e2m1 ? 16 : t == NUM_e4m3 ? 0x70 : 64;
        for (int i = 0; i < 16 * k; i++) a[i] = DRAW(patterns);
        for (int i = 0; i < 8 * k; i++) b[i] = DRAW(patterns);
        for (int i = 0; i < 16 * k / block; i++)
            sa[i] = (uint8_t)(scale == NUM_ue8m0 ? 125 + DRAW(4) : 0x30 + DRAW(16));
        for (int i = 0; i < 8 * k / block; i++) sb[i] = (uint8_t)(scale == NUM_ue8m0 ? 125 + DRAW(4) : 0x30 + DRAW(16));
        for (int i = 0; i < 16 * 8; i++) cd[i] = num_float_bits((float)(DRAW(64)));
        double want[16 * 8];
        for (int m = 0; m < 16; m++)
            for (int n = 0; n < 8; n++) {
                double s = (double)num_float(cd[m * 8 + n]);
                for (int i = 0; i < k; i++) {
                    double x = num_double(num_cvt(NUM_f64, t, NUM_RN, 0, a[m * k + i])),
                           y = num_double(num_cvt(NUM_f64, t, NUM_RN, 0, b[i * 8 + n]));
                    double u = num_double(num_cvt(NUM_f64, scale, NUM_RN, 0, sa[m * (k / block) + i / block]));
                    double v = num_double(num_cvt(NUM_f64, scale, NUM_RN, 0, sb[n * (k / block) + i / block]));
                    s += x * y * u * v;
                }
                want[m * 8 + n] = s;
            }
        struct num_mma j = {.chip = chip,
                            .unit = unit,
                            .a_type = t,
                            .b_type = t,
                            .d_type = NUM_f32,
                            .scale_type = scale,
                            .m = 16,
                            .n = 8,
                            .k = k,
                            .ld = 8,
                            .block = block,
                            .exact_groups = groups,
                            .a = a,
                            .b = b,
                            .scale_a = sa,
                            .scale_b = sb,
                            .cd = cd};
        if (!num_mma(&j)) bad += 128;
        for (int i = 0; i < 128; i++) {
            double got = (double)num_float(cd[i]), gap = fabs(got - want[i]);
            bad += groups ? gap > fabs(want[i]) * 0x1p-23 : gap > 1e-2 + fabs(want[i]) * 0x1p-20;
        }
    }
    count("block scales", 20 * 128, bad > 20 * 128 ? 20 * 128 : bad);
}

int main(void)
{
    recordings();
    examples();
    scaled(EMU_SM120, NUM_MMA, true, NUM_e2m1, NUM_ue4m3, 64, 16);
    scaled(EMU_SM120, NUM_MMA, true, NUM_e2m1, NUM_ue8m0, 64, 32);
    scaled(EMU_SM100, NUM_TCGEN05, true, NUM_e2m1, NUM_ue8m0, 64, 16);
    scaled(EMU_SM120, NUM_MMA, false, NUM_e4m3, NUM_ue8m0, 32, 32);
    scaled(EMU_SM100, NUM_TCGEN05, false, NUM_e3m2, NUM_ue8m0, 32, 32);
    scaled(EMU_SM120, NUM_MMA, false, NUM_e2m3, NUM_ue8m0, 32, 32);
    printf("%ld passed, %ld failed\n", passed, failed);
    return failed != 0;
}
