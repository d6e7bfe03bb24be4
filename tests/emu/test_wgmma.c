/* wgmma over several K steps: every input type, both majors, every swizzle, A in registers, signs, chains, all three
 * timings; small integers, so that the sum is exact. Then what goes wrong without fences and waits. */
#include "runtime/emu/numerics.h"
#include "tests/emu/image.h"
#include "tests/emu/kernel.h"

struct shape {
    enum num_type a, b, d;
    int n, steps;
    bool a_mn, b_mn, a_regs;
    int a_span, b_span;
    int sign_a, sign_b;
    bool overwrite; /* the first step has scale-d false */
};
static const struct shape shapes[] = {
    {NUM_bf16, NUM_bf16, NUM_f32, 64, 4, false, false, false, 128, 128, 1, 1, false},
    {NUM_bf16, NUM_bf16, NUM_f32, 8, 1, false, false, false, 32, 32, 1, 1, true},
    {NUM_bf16, NUM_bf16, NUM_f32, 256, 4, false, false, false, 128, 128, 1, 1, true},
    {NUM_bf16, NUM_bf16, NUM_f32, 24, 4, false, true, false, 64, 128, 1, -1, false},
    {NUM_bf16, NUM_bf16, NUM_f32, 128, 4, true, true, false, 128, 64, 1, 1, false},
    {NUM_bf16, NUM_bf16, NUM_f32, 128, 2, true, false, false, 32, 32, -1, -1, false},
    {NUM_f16, NUM_f16, NUM_f16, 72, 2, false, false, false, 16, 16, 1, 1, false},
    {NUM_f16, NUM_f16, NUM_f32, 40, 2, true, true, false, 16, 16, -1, 1, true},
    {NUM_f16, NUM_f16, NUM_f16, 16, 4, false, true, true, 128, 32, 1, 1, false},
    {NUM_bf16, NUM_bf16, NUM_f32, 96, 3, false, false, true, 128, 128, 1, 1, true},
    {NUM_tf32, NUM_tf32, NUM_f32, 48, 4, false, false, false, 128, 64, 1, 1, false},
    {NUM_tf32, NUM_tf32, NUM_f32, 32, 2, false, false, true, 128, 16, 1, 1, false},
    {NUM_e4m3, NUM_e4m3, NUM_f32, 128, 4, false, false, false, 128, 128, 1, 1, true},
    {NUM_e4m3, NUM_e5m2, NUM_f32, 104, 2, false, false, false, 64, 32, 1, -1, false},
    {NUM_e5m2, NUM_e5m2, NUM_f16, 16, 2, false, false, true, 64, 64, 1, 1, false},
    {NUM_s8, NUM_u8, NUM_s32, 112, 4, false, false, false, 128, 16, 1, 1, false},
    {NUM_u8, NUM_s8, NUM_s32, 24, 2, false, false, true, 128, 32, 1, 1, true},
};

static int small(enum num_type t, uint32_t *seed)
{
    int v = (int)(kernel_random(seed) % 5);
    return t == NUM_u8 ? v : v - 2;
}

static uint32_t encode(enum num_type t, int v)
{
    if (t == NUM_s8 || t == NUM_u8) return (uint32_t)v & 255;
    return t == NUM_s32 ? (uint32_t)v : (uint32_t)num_cvt(t, NUM_f32, NUM_RN, 0, num_float_bits((float)v));
}

static uint64_t descriptor(const struct image *i)
{
    uint64_t mode = i->span == 128 ? 1 : i->span == 64 ? 2 : i->span == 32 ? 3 : 0;
    return mode << 62 | (uint64_t)(i->sbo >> 4) << 32 | (uint64_t)(i->lbo >> 4) << 16;
}

struct problem {
    struct shape s;
    struct image a, b;
    int k, k_step, n_d; /* all of k; of one wgmma; registers of D */
    uint8_t image[128 * 1024];
    uint32_t a_regs[128 * 4 * 8], cd[128 * 128], want[128 * 128];
};

static void make(struct problem *p, uint32_t *seed)
{
    const struct shape *s = &p->s;
    int bits = num_bits(s->a), e = 32 / bits;
    static int A[64][128], B[256][128];
    p->k_step = 256 / bits;
    p->k = p->k_step * s->steps;
    p->n_d = s->d == NUM_f16 ? s->n / 4 : s->n / 2;
    p->a = (struct image){.mn = 64, .k = p->k, .bits = bits, .mn_major = s->a_mn, .span = s->a_span};
    p->b = (struct image){.mn = s->n, .k = p->k, .bits = bits, .mn_major = s->b_mn, .span = s->b_span};
    image_plan(&p->a);
    image_plan(&p->b);
    memset(p->image, 0, sizeof p->image);
    memset(p->a_regs, 0, sizeof p->a_regs);
    for (int m = 0; m < 64; m++)
        for (int k = 0; k < p->k; k++) {
            uint32_t v = encode(s->a, A[m][k] = small(s->a, seed));
            int in = k % p->k_step, r = in / (4 * e) * 2 + m % 16 / 8, thread = m / 16 * 32 + m % 8 * 4 + in / e % 4;
            image_put(&p->a, p->image, m, k, v);
            p->a_regs[(thread * s->steps + k / p->k_step) * 4 + r] |= v << in % e * bits;
        }
    for (int n = 0; n < s->n; n++)
        for (int k = 0; k < p->k; k++)
            image_put(&p->b, p->image + p->a.bytes, n, k, encode(s->b, B[n][k] = small(s->b, seed)));
    memset(p->cd, 0, sizeof p->cd);
    memset(p->want, 0, sizeof p->want);
    for (int m = 0; m < 64; m++)
        for (int n = 0; n < s->n; n++) {
            int c = (int)(kernel_random(seed) % 17) - 8, sum = s->overwrite ? 0 : c,
                sign = s->d == NUM_s32 ? 1 : s->sign_a * s->sign_b;
            for (int k = 0; k < p->k; k++) sum += sign * A[m][k] * B[n][k];
            int thread = m / 16 * 32 + m % 8 * 4 + n % 8 / 2, i = n / 8 * 4 + m % 16 / 8 * 2 + n % 2;
            int word = s->d == NUM_f16 ? thread * p->n_d + i / 2 : thread * p->n_d + i,
                shift = s->d == NUM_f16 ? 16 * (i % 2) : 0;
            p->cd[word] |= encode(s->d, c) << shift;
            p->want[word] |= encode(s->d, sum) << shift;
        }
}

enum mistake { NONE, NO_FENCE, NO_WAIT, EARLY_READ, EARLY_WRITE, STALE_FENCE, BAD_BITS };

static void begin(struct buf *b, const struct problem *p)
{
    kernel_begin(b, "sm_90a", 3, 128);
    buf_printf(b, "mov.u32 %%r0, %%tid.x;\nmov.u32 %%r1, smem;\nshl.b32 %%r2, %%r0, 4;\n");
    buf_printf(b, "COPY:\ncvt.u64.u32 %%d10, %%r2;\nadd.s64 %%d11, %%d0, %%d10;\nld.global.v4.b32 {%%r4, %%r5, %%r6, "
                  "%%r7}, [%%d11];\n");
    buf_printf(
        b,
        "add.s32 %%r3, %%r1, %%r2;\nst.shared.v4.b32 [%%r3], {%%r4, %%r5, %%r6, %%r7};\nadd.s32 %%r2, %%r2, 2048;\n");
    buf_printf(b, "setp.lt.u32 %%q1, %%r2, %u;\n@%%q1 bra COPY;\nfence.proxy.async;\nbar.sync 0;\n",
               p->a.bytes + p->b.bytes);
    buf_printf(b, "mul.wide.u32 %%d10, %%r0, %d;\nadd.s64 %%d12, %%d1, %%d10;\n", 4 * p->n_d);
    for (int i = 0; i < p->n_d; i++) buf_printf(b, "ld.global.b32 %%r%d, [%%d12+%d];\n", 100 + i, 4 * i);
    if (!p->s.a_regs) return;
    buf_printf(b, "mul.wide.u32 %%d10, %%r0, %d;\nadd.s64 %%d13, %%d2, %%d10;\n", 16 * p->s.steps);
    for (int i = 0; i < 4 * p->s.steps; i++) buf_printf(b, "ld.global.b32 %%r%d, [%%d13+%d];\n", 20 + i, 4 * i);
}

static void put_descriptor(struct buf *b, int reg, uint32_t offset, uint64_t constant)
{
    buf_printf(
        b,
        "add.s32 %%r10, %%r1, %u;\nshr.u32 %%r10, %%r10, 4;\nand.b32 %%r10, %%r10, 16383;\ncvt.u64.u32 %%d%d, %%r10;\n",
        offset, reg);
    buf_printf(b, "or.b64 %%d%d, %%d%d, 0x%llx;\n", reg, reg, (unsigned long long)constant);
}

static void put_wgmma(struct buf *b, const struct problem *p, int step, enum mistake mistake)
{
    const struct shape *s = &p->s;
    const char *t = num_bits(s->a) == 16 ? "16" : num_bits(s->a) == 32 ? "8" : "32";
    static const char *const names[NUM_TYPES] = {
        [NUM_f16] = "f16",   [NUM_bf16] = "bf16", [NUM_tf32] = "tf32", [NUM_f32] = "f32", [NUM_e4m3] = "e4m3",
        [NUM_e5m2] = "e5m2", [NUM_s8] = "s8",     [NUM_u8] = "u8",     [NUM_s32] = "s32"};
    put_descriptor(b, 20, image_step(&p->a, step * p->k_step), descriptor(&p->a));
    put_descriptor(b, 21, p->a.bytes + image_step(&p->b, step * p->k_step),
                   descriptor(&p->b) | (mistake == BAD_BITS ? 1ull << 53 : 0));
    buf_printf(b, "setp.ne.u32 %%q2, %d, 0;\n", step > 0 || !s->overwrite);
    buf_printf(b, "wgmma.mma_async.sync.aligned.m64n%dk%s.%s.%s.%s ", s->n, t, names[s->d], names[s->a], names[s->b]);
    kernel_regs(b, 100, p->n_d);
    buf_printf(b, ", ");
    if (s->a_regs) kernel_regs(b, 20 + 4 * step, 4);
    else buf_printf(b, "%%d20");
    buf_printf(b, ", %%d21, %%q2");
    if (s->d != NUM_s32) buf_printf(b, ", %d, %d", s->sign_a, s->sign_b);
    if (num_bits(s->a) == 16 && !s->a_regs) buf_printf(b, ", %d", s->a_mn);
    if (num_bits(s->a) == 16) buf_printf(b, ", %d", s->b_mn);
    buf_printf(b, ";\n");
}

static void write_kernel(struct buf *b, const struct problem *p, enum mistake mistake)
{
    begin(b, p);
    if (mistake != NO_FENCE) buf_printf(b, "wgmma.fence.sync.aligned;\n");
    for (int i = 0; i < p->s.steps; i++) {
        put_wgmma(b, p, i, mistake);
        if (mistake == STALE_FENCE && i == 0)
            buf_printf(b, "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\nmov.b32 %%r101, 0;\n");
    }
    buf_printf(b, "wgmma.commit_group.sync.aligned;\n");
    if (mistake == EARLY_WRITE) buf_printf(b, "mov.b32 %%r100, 0;\n");
    if (mistake == EARLY_READ) buf_printf(b, "st.global.b32 [%%d12], %%r100;\n");
    if (mistake != NO_WAIT) buf_printf(b, "wgmma.wait_group.sync.aligned 0;\n");
    for (int i = mistake == EARLY_READ; i < p->n_d && mistake != NO_WAIT; i++)
        buf_printf(b, "st.global.b32 [%%d12+%d], %%r%d;\n", 4 * i, 100 + i);
    kernel_end(b);
}

static bool run(struct problem *p, enum emu_timing timing, enum mistake mistake, char **error)
{
    struct buf b = {0};
    write_kernel(&b, p, mistake);
    struct kernel_buffer buffers[] = {{p->image, p->a.bytes + p->b.bytes},
                                      {p->cd, sizeof p->cd},
                                      {p->a_regs, sizeof p->a_regs}};
    bool ok = kernel_run(EMU_SM90, timing, b.at, 128, 1, p->a.bytes + p->b.bytes, buffers, 3, error);
    buf_free(&b);
    return ok;
}

static struct problem p;

static void shape(int i, enum emu_timing timing)
{
    uint32_t seed = (uint32_t)i + 1;
    char *error;
    p.s = shapes[i];
    make(&p, &seed);
    bool ok = run(&p, timing, NONE, &error);
    claim(ok, "shape %d timing %d: %s", i, timing, ok ? "" : error);
    int bad = 0;
    for (int w = 0; ok && w < 128 * p.n_d; w++) bad += p.cd[w] != p.want[w];
    claim(!bad, "shape %d timing %d: %d of %d words differ", i, timing, bad, 128 * p.n_d);
    free(error);
}

/* text NULL: it runs, but the result is not the right one. */
static void mistake(enum mistake m, enum emu_timing timing, const char *text)
{
    uint32_t seed = 3;
    char *error;
    p.s = shapes[0];
    make(&p, &seed);
    bool ok = run(&p, timing, m, &error);
    if (text)
        claim(!ok && strstr(error, text), "mistake %d should be reported as '%s': %s", m, text, ok ? "it ran" : error);
    else
        claim(ok && memcmp(p.cd, p.want, sizeof p.cd), "mistake %d should give wrong results: %s", m,
              ok ? "they are right" : error);
    free(error);
}

int main(void)
{
    for (int i = 0; i < COUNT(shapes); i++)
        for (int t = EMU_EARLY; t <= EMU_SEEDED; t++) shape(i, (enum emu_timing)t);
    mistake(NO_FENCE, EMU_EARLY, "wgmma.fence is missing");
    mistake(STALE_FENCE, EMU_EARLY, "written since the last wgmma.fence");
    mistake(STALE_FENCE, EMU_LATE, "written since the last wgmma.fence");
    mistake(NO_WAIT, EMU_LATE, "without waiting");
    mistake(EARLY_READ, EMU_LATE, NULL);
    mistake(EARLY_WRITE, EMU_LATE, "written before the wait");
    mistake(BAD_BITS, EMU_EARLY, "unused fields");
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
