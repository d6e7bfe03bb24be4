/* Approximate functions recorded on an H200 come out to the bit. */
#include "runtime/emu/numerics.h"
#include "tests/emu/hw.h"

static long passed, failed;

static void count(const char *name, long n, long bad)
{
    passed += n - bad;
    failed += bad;
    if (bad) printf("FAIL %-28s %8ld of %8ld differ\n", name, bad, n);
}

static void function(const char *folder, const char *name, uint32_t (*fn)(uint32_t, bool), uint32_t (*plain)(uint32_t),
                     bool ftz)
{
    char path[300];
    size_t n, m;
    uint32_t *x = hw_load(folder, "approx/in_approx.bin", &n);
    snprintf(path, sizeof path, "approx/approx_%s%s.bin", name, ftz ? "_ftz" : "");
    uint32_t *y = hw_load(folder, path, &m);
    long bad = m != n;
    for (size_t i = 0; i < m / 4 && !bad; i++) bad += (fn ? fn(x[i], ftz) : plain(x[i])) != y[i];
    count(path, (long)n / 4, bad);
    free(x);
    free(y);
}

static void half(const char *folder, const char *name, uint32_t (*fn)(uint32_t))
{
    char path[300];
    size_t m;
    snprintf(path, sizeof path, "cvt/cvt_%s.bin", name);
    uint16_t *y = hw_load(folder, path, &m);
    long bad = m != 131072;
    for (uint32_t i = 0; i < 65536 && !bad; i++) bad += fn(i) != y[i];
    count(name, 65536, bad);
    free(y);
}

/* Only a folder of one's own (HW_VECTORS) has arith/: pairs for the divisions. */
static void division(const char *folder, const char *name, uint32_t (*fn)(uint32_t, uint32_t, bool), bool ftz)
{
    char path[300];
    size_t n, m;
    uint32_t *x = hw_load(folder, "arith/in_arith_f32.bin", &n);
    snprintf(path, sizeof path, "arith/arith_%s.bin", name);
    uint32_t *y = hw_load(folder, path, &m);
    long bad = 0;
    for (size_t i = 0; i < m / 4; i++) bad += fn(x[i], x[m / 4 + i], ftz) != y[i];
    count(name, (long)m / 4, bad);
    free(x);
    free(y);
}

int main(void)
{
    const char *folder = hw_folder("approx");
    static const struct { const char *name; uint32_t (*fn)(uint32_t, bool); } fns[] = {
        {"ex2", num_ex2}, {"lg2", num_lg2}, {"rcp", num_rcp}, {"rsqrt", num_rsqrt}, {"sqrt", num_sqrt}};
    for (int i = 0; i < COUNT(fns); i++)
        for (int ftz = 0; ftz < 2; ftz++) function(folder, fns[i].name, fns[i].fn, NULL, ftz);
    function(folder, "tanh", NULL, num_tanh, false);
    for (int ftz = 0; ftz < 2; ftz++) {
        function(folder, "sin", NULL, num_sin, ftz);
        function(folder, "cos", NULL, num_cos, ftz);
    }
    folder = hw_folder("cvt");
    half(folder, "ex2_approx_f16", num_ex2_f16);
    half(folder, "ex2_approx_ftz_bf16", num_ex2_bf16);
    half(folder, "tanh_approx_f16", num_tanh_f16);
    half(folder, "tanh_approx_bf16", num_tanh_bf16);
    if (getenv("HW_VECTORS")) {
        division(folder, "div_approx_f32", num_div_approx, false);
        division(folder, "div_approx_ftz_f32", num_div_approx, true);
        division(folder, "div_full_f32", num_div_full, false);
    }
    hw_clean();
    count("division of 6 by 3", 1, num_div_full(0x40C00000, 0x40400000, true) != 0x40000000);
    printf("%ld passed, %ld failed\n", passed, failed);
    return failed != 0;
}
