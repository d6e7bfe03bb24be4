/* Conversions recorded on an H200: num_cvt gives the same bits for every one, and its fast forms agree with it. */
#include "runtime/emu/numerics.h"
#include "tests/emu/hw.h"

static long passed, failed;

static void count(const char *name, long n, long bad)
{
    passed += n - bad;
    failed += bad;
    if (bad) printf("FAIL %-28s %8ld of %8ld differ\n", name, bad, n);
}

enum source { F32, SMALL, ALL16 };
/* A file of outputs of `bytes` each. pair: the 16-bit argument is two elements, the 32-bit result too. */
static const struct {
    const char *name;
    enum source source;
    int bytes;
    enum num_type to, from;
    enum num_round round;
    int flags;
    bool pair;
} files[] = {
    {"bf16_rn_f16", ALL16, 2, NUM_bf16, NUM_f16, NUM_RN, 0, false},
    {"bf16_rn_f32", F32, 2, NUM_bf16, NUM_f32, NUM_RN, 0, false},
    {"bf16_rn_relu_f32", F32, 2, NUM_bf16, NUM_f32, NUM_RN, NUM_RELU, false},
    {"bf16_rn_s16", ALL16, 2, NUM_bf16, NUM_s16, NUM_RN, 0, false},
    {"bf16_rn_u16", ALL16, 2, NUM_bf16, NUM_u16, NUM_RN, 0, false},
    {"bf16_rn_s32", SMALL, 2, NUM_bf16, NUM_s32, NUM_RN, 0, false},
    {"bf16_rn_u32", SMALL, 2, NUM_bf16, NUM_u32, NUM_RN, 0, false},
    {"bf16_rn_satfinite_f32", F32, 2, NUM_bf16, NUM_f32, NUM_RN, NUM_SATFINITE, false},
    {"bf16_rz_f32", F32, 2, NUM_bf16, NUM_f32, NUM_RZ, 0, false},
    {"e4m3_f16", ALL16, 1, NUM_e4m3, NUM_f16, NUM_RN, NUM_SATFINITE, false},
    {"e4m3_f32", F32, 1, NUM_e4m3, NUM_f32, NUM_RN, NUM_SATFINITE, false},
    {"e4m3_relu_f16", ALL16, 1, NUM_e4m3, NUM_f16, NUM_RN, NUM_SATFINITE | NUM_RELU, false},
    {"e4m3_relu_f32", F32, 1, NUM_e4m3, NUM_f32, NUM_RN, NUM_SATFINITE | NUM_RELU, false},
    {"e5m2_f16", ALL16, 1, NUM_e5m2, NUM_f16, NUM_RN, NUM_SATFINITE, false},
    {"e5m2_f32", F32, 1, NUM_e5m2, NUM_f32, NUM_RN, NUM_SATFINITE, false},
    {"e5m2_relu_f16", ALL16, 1, NUM_e5m2, NUM_f16, NUM_RN, NUM_SATFINITE | NUM_RELU, false},
    {"e5m2_relu_f32", F32, 1, NUM_e5m2, NUM_f32, NUM_RN, NUM_SATFINITE | NUM_RELU, false},
    {"f16_rn_bf16", ALL16, 2, NUM_f16, NUM_bf16, NUM_RN, 0, false},
    {"f16_rn_f32", F32, 2, NUM_f16, NUM_f32, NUM_RN, 0, false},
    {"f16_rn_ftz_f32", SMALL, 2, NUM_f16, NUM_f32, NUM_RN, NUM_FTZ, false},
    {"f16_rn_relu_f32", F32, 2, NUM_f16, NUM_f32, NUM_RN, NUM_RELU, false},
    {"f16_rn_s16", ALL16, 2, NUM_f16, NUM_s16, NUM_RN, 0, false},
    {"f16_rn_u16", ALL16, 2, NUM_f16, NUM_u16, NUM_RN, 0, false},
    {"f16_rn_s32", SMALL, 2, NUM_f16, NUM_s32, NUM_RN, 0, false},
    {"f16_rn_satfinite_f32", F32, 2, NUM_f16, NUM_f32, NUM_RN, NUM_SATFINITE, false},
    {"f16_rz_f32", F32, 2, NUM_f16, NUM_f32, NUM_RZ, 0, false},
    {"f16x2_e4m3x2", ALL16, 4, NUM_f16, NUM_e4m3, NUM_RN, 0, true},
    {"f16x2_e5m2x2", ALL16, 4, NUM_f16, NUM_e5m2, NUM_RN, 0, true},
    {"f16x2_relu_e4m3x2", ALL16, 4, NUM_f16, NUM_e4m3, NUM_RN, NUM_RELU, true},
    {"f16x2_relu_e5m2x2", ALL16, 4, NUM_f16, NUM_e5m2, NUM_RN, NUM_RELU, true},
    {"f32_bf16", ALL16, 4, NUM_f32, NUM_bf16, NUM_RN, 0, false},
    {"f32_f16", ALL16, 4, NUM_f32, NUM_f16, NUM_RN, 0, false},
    {"f32_ftz_f32", SMALL, 4, NUM_f32, NUM_f32, NUM_RN, NUM_FTZ, false},
    {"f32_sat_f32", SMALL, 4, NUM_f32, NUM_f32, NUM_RN, NUM_SAT, false},
    {"f32_rmi_f32", SMALL, 4, NUM_f32, NUM_f32, NUM_RM, NUM_INTEGRAL, false},
    {"f32_rni_f32", SMALL, 4, NUM_f32, NUM_f32, NUM_RN, NUM_INTEGRAL, false},
    {"f32_rpi_f32", SMALL, 4, NUM_f32, NUM_f32, NUM_RP, NUM_INTEGRAL, false},
    {"f32_rzi_f32", SMALL, 4, NUM_f32, NUM_f32, NUM_RZ, NUM_INTEGRAL, false},
    {"f32_rn_s32", SMALL, 4, NUM_f32, NUM_s32, NUM_RN, 0, false},
    {"f32_rn_u32", SMALL, 4, NUM_f32, NUM_u32, NUM_RN, 0, false},
    {"f32_rz_s32", SMALL, 4, NUM_f32, NUM_s32, NUM_RZ, 0, false},
    {"s16_rni_f32", SMALL, 2, NUM_s16, NUM_f32, NUM_RN, 0, false},
    {"s32_rmi_f32", SMALL, 4, NUM_s32, NUM_f32, NUM_RM, 0, false},
    {"s32_rpi_f32", SMALL, 4, NUM_s32, NUM_f32, NUM_RP, 0, false},
    {"s32_rni_f32", F32, 4, NUM_s32, NUM_f32, NUM_RN, 0, false},
    {"s32_rzi_f32", F32, 4, NUM_s32, NUM_f32, NUM_RZ, 0, false},
    {"s32_rni_f16", ALL16, 4, NUM_s32, NUM_f16, NUM_RN, 0, false},
    {"s32_rzi_f16", ALL16, 4, NUM_s32, NUM_f16, NUM_RZ, 0, false},
    {"s32_rni_bf16", ALL16, 4, NUM_s32, NUM_bf16, NUM_RN, 0, false},
    {"s32_rzi_bf16", ALL16, 4, NUM_s32, NUM_bf16, NUM_RZ, 0, false},
    {"s64_rzi_f32", SMALL, 8, NUM_s64, NUM_f32, NUM_RZ, 0, false},
    {"u64_rzi_f32", SMALL, 8, NUM_u64, NUM_f32, NUM_RZ, 0, false},
    {"s8_rni_f32", SMALL, 4, NUM_s8, NUM_f32, NUM_RN, 0, false},
    {"s8_rni_sat_f32", SMALL, 4, NUM_s8, NUM_f32, NUM_RN, NUM_SAT, false},
    {"u8_rni_f32", SMALL, 4, NUM_u8, NUM_f32, NUM_RN, 0, false},
    {"u32_rni_f32", SMALL, 4, NUM_u32, NUM_f32, NUM_RN, 0, false},
    {"u32_rzi_f32", F32, 4, NUM_u32, NUM_f32, NUM_RZ, 0, false},
    {"tf32_rn_f32", F32, 4, NUM_tf32, NUM_f32, NUM_RN, 0, false},
    {"tf32_rn_relu_f32", SMALL, 4, NUM_tf32, NUM_f32, NUM_RN, NUM_RELU, false},
    {"tf32_rna_f32", F32, 4, NUM_tf32, NUM_f32, NUM_RNA, 0, false},
    {"tf32_rna_satfinite_f32", SMALL, 4, NUM_tf32, NUM_f32, NUM_RNA, NUM_SATFINITE, false},
    {"tf32_rz_f32", F32, 4, NUM_tf32, NUM_f32, NUM_RZ, 0, false},
};

static void recording(const char *folder, int f, const uint32_t *f32, size_t n_f32, const uint32_t *small,
                      size_t n_small)
{
    char path[300];
    size_t size, n = files[f].source == F32 ? n_f32 : files[f].source == SMALL ? n_small : 65536;
    snprintf(path, sizeof path, "cvt/cvt_%s%s.bin", files[f].name, files[f].source == SMALL ? ".small" : "");
    uint8_t *out = hw_load(folder, path, &size);
    long bad = size != n * (size_t)files[f].bytes;
    for (size_t i = 0; i < n && !bad; i++) {
        uint64_t want = 0, got, x = files[f].source == F32 ? f32[i] : files[f].source == SMALL ? small[i] : i;
        memcpy(&want, out + i * (size_t)files[f].bytes, (size_t)files[f].bytes);
        if (files[f].pair)
            got = num_cvt(files[f].to, files[f].from, files[f].round, files[f].flags, x & 255) |
                  num_cvt(files[f].to, files[f].from, files[f].round, files[f].flags, x >> 8) << 16;
        else got = num_cvt(files[f].to, files[f].from, files[f].round, files[f].flags, x);
        if (files[f].bytes < 4) got &= ((uint64_t)1 << 8 * files[f].bytes) - 1;
        if (got != want && !bad++)
            printf("%s: %#llx -> %#llx, not %#llx\n", files[f].name, (unsigned long long)x, (unsigned long long)got,
                   (unsigned long long)want);
    }
    count(files[f].name, (long)n, bad);
    free(out);
}

/* Narrow formats that sm_90 does not have: every value decodes and encodes to itself, in-between values round as told. */
static void narrow(void)
{
    static const struct {
        enum num_type t;
        int bits;
    } all[] = {{NUM_e2m1, 4}, {NUM_e2m3, 6}, {NUM_e3m2, 6}, {NUM_e4m3, 8}};
    for (int i = 0; i < COUNT(all); i++)
        for (uint32_t b = 0; b < 1u << all[i].bits; b++) {
            uint64_t f = num_cvt(NUM_f32, all[i].t, NUM_RN, 0, b), back = num_cvt(all[i].t, NUM_f32, NUM_RN, 0, f);
            bool nan = all[i].t == NUM_e4m3 && (b & 127) == 127;
            count("narrow", 1, nan ? back != 127 : back != b);
        }
    static const struct { enum num_type t; enum num_round r; int flags; float x; uint32_t want; } cases[] = {
        {NUM_e2m1, NUM_RN, 0, 2.5f, 4}, {NUM_e2m1, NUM_RN, 0, 5.0f, 6}, {NUM_e2m1, NUM_RN, 0, 100.0f, 7}, {NUM_e2m1, NUM_RN, 0, -0.25f, 8},
        {NUM_e2m1, NUM_RN, NUM_RELU, -3.0f, 0}, {NUM_e2m1, NUM_RN, 0, 0x1p-1f * 0.5f, 0}, {NUM_e2m3, NUM_RN, 0, 9.0f, 0x1F},
        {NUM_e3m2, NUM_RN, 0, -40.0f, 0x3F}, {NUM_e3m2, NUM_RN, 0, 0x1p-4f, 1}, {NUM_ue8m0, NUM_RP, NUM_SATFINITE, 1.5f, 128},
        {NUM_ue8m0, NUM_RZ, NUM_SATFINITE, 1.5f, 127}, {NUM_ue8m0, NUM_RP, NUM_SATFINITE, -2.0f, 128}, {NUM_ue8m0, NUM_RP, NUM_SATFINITE, 0.0f, 0},
        {NUM_ue8m0, NUM_RP, NUM_SATFINITE, 0x1.8p127f, 0xFE}, {NUM_ue8m0, NUM_RP, 0, 0x1.8p127f, 0xFF}, {NUM_ue8m0, NUM_RP, 0, 0x1p-149f, 0},
    };
    for (int i = 0; i < COUNT(cases); i++)
        count("narrow case", 1,
              num_cvt(cases[i].t, NUM_f32, cases[i].r, cases[i].flags, num_float_bits(cases[i].x)) != cases[i].want);
    count("ue8m0 0 as bf16", 1, num_cvt(NUM_bf16, NUM_ue8m0, NUM_RN, 0, 0) != 0x40);
    count("ue8m0 NaN as bf16", 1, num_cvt(NUM_bf16, NUM_ue8m0, NUM_RN, 0, 255) != 0x7FFF);
    count("e2m1 of NaN", 1, num_cvt(NUM_e2m1, NUM_f32, NUM_RN, 0, 0x7FC00000) != 7);
}

static void fast_forms(void)
{
    long bad = 0, n = 0;
    for (uint64_t x = 0; x < 1ull << 32; x += 4093, n++) {
        bad += num_f16_of_f32((uint32_t)x) != num_cvt(NUM_f16, NUM_f32, NUM_RN, 0, x);
        bad += num_bf16_of_f32((uint32_t)x) != num_cvt(NUM_bf16, NUM_f32, NUM_RN, 0, x);
    }
    for (uint32_t h = 0; h < 65536; h++, n++) bad += num_f32_of_f16(h) != num_cvt(NUM_f32, NUM_f16, NUM_RN, 0, h);
    count("fast forms", n, bad);
}

int main(void)
{
    const char *folder = hw_folder("cvt");
    size_t n, m;
    uint32_t *f32 = hw_load(folder, "cvt/in_f32.bin", &n), *small = hw_load(folder, "cvt/in_f32_small.bin", &m);
    for (int i = 0; i < COUNT(files); i++) recording(folder, i, f32, n / 4, small, m / 4);
    free(f32);
    free(small);
    hw_clean();
    narrow();
    fast_forms();
    printf("%ld passed, %ld failed\n", passed, failed);
    return failed != 0;
}
