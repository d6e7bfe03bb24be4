/* tcgen05: products of every kind into tensor memory, over several K steps, with A in shared or tensor memory, one block
 * or a pair, block scales copied by tcgen05.cp; all shapes of tcgen05.ld and tcgen05.st; then what must be refused. */
#include "runtime/emu/numerics.h"
#include "tests/emu/image.h"
#include "tests/emu/kernel.h"

enum kind { F16, TF32, F8F6F4, I8, MXF8F6F4, MXF4, MXF4NVF4 };
static const struct { const char *name; int k, bits; bool scaled; } kinds[] = {
    {"f16", 16, 16, false}, {"tf32", 8, 32, false}, {"f8f6f4", 32, 8, false}, {"i8", 32, 8, false},
    {"mxf8f6f4.block_scale.block32", 32, 8, true}, {"mxf4.block_scale.block32", 64, 4, true}, {"mxf4nvf4.block_scale", 64, 4, true},
};

struct shape {
    enum kind kind;
    enum num_type a, b, d;
    int m, n, steps, group;
    bool a_mn, b_mn, a_tmem;
    int a_span, b_span;
    bool overwrite, negate;
    int block; /* of scales */
    enum num_type scale;
    int disable; /* a lane that is not written, -1: none */
};
static const struct shape shapes[] = {
    {F16, NUM_bf16, NUM_bf16, NUM_f32, 128, 128, 4, 1, false, false, false, 128, 128, true, false, 0, 0, -1},
    {F16, NUM_bf16, NUM_bf16, NUM_f32, 128, 256, 4, 1, false, false, false, 128, 64, false, true, 0, 0, 5},
    {F16, NUM_f16, NUM_f16, NUM_f16, 128, 48, 2, 1, true, true, false, 128, 32, false, false, 0, 0, -1},
    {F16, NUM_f16, NUM_f16, NUM_f32, 64, 72, 4, 1, false, true, false, 64, 16, false, false, 0, 0, -1},
    {F16, NUM_bf16, NUM_bf16, NUM_f32, 128, 64, 3, 1, false, false, true, 128, 128, true, false, 0, 0, -1},
    {F16, NUM_bf16, NUM_bf16, NUM_f32, 64, 64, 2, 1, false, false, true, 128, 16, false, false, 0, 0, -1},
    {TF32, NUM_tf32, NUM_tf32, NUM_f32, 128, 64, 4, 1, false, false, false, 128, 16, false, false, 0, 0, -1},
    {TF32, NUM_tf32, NUM_tf32, NUM_f32, 128, 64, 4, 1, true, true, false, 128, 128, true, false, 0, 0, -1},
    {F8F6F4, NUM_e4m3, NUM_e5m2, NUM_f32, 128, 96, 4, 1, false, false, false, 128, 128, false, false, 0, 0, -1},
    {F8F6F4, NUM_e4m3, NUM_e4m3, NUM_f16, 128, 128, 4, 1, true, true, false, 128, 64, true, false, 0, 0, -1},
    {F8F6F4, NUM_e2m1, NUM_e3m2, NUM_f32, 128, 64, 2, 1, false, false, false, 64, 64, false, false, 0, 0, -1},
    {I8, NUM_s8, NUM_u8, NUM_s32, 128, 64, 4, 1, false, false, false, 128, 128, false, false, 0, 0, -1},
    {MXF8F6F4, NUM_e4m3, NUM_e5m2, NUM_f32, 128, 128, 4, 1, false, false, false, 128, 128, true, false, 32, NUM_ue8m0, -1},
    {MXF8F6F4, NUM_e2m3, NUM_e2m1, NUM_f32, 128, 64, 2, 1, false, false, false, 64, 64, true, false, 32, NUM_ue8m0, -1},
    {MXF4, NUM_e2m1, NUM_e2m1, NUM_f32, 128, 128, 2, 1, false, false, false, 128, 128, true, false, 32, NUM_ue8m0, -1},
    {MXF4NVF4, NUM_e2m1, NUM_e2m1, NUM_f32, 128, 96, 4, 1, false, false, false, 128, 128, false, false, 16, NUM_ue4m3, -1},
    {MXF4NVF4, NUM_e2m1, NUM_e2m1, NUM_f32, 128, 64, 2, 1, false, false, false, 64, 64, true, false, 32, NUM_ue8m0, -1},
    {F16, NUM_bf16, NUM_bf16, NUM_f32, 256, 128, 4, 2, false, false, false, 128, 128, true, false, 0, 0, -1},
    {F16, NUM_bf16, NUM_bf16, NUM_f32, 128, 64, 2, 2, false, true, false, 128, 64, false, false, 0, 0, -1},
    {F8F6F4, NUM_e4m3, NUM_e4m3, NUM_f32, 256, 64, 2, 2, false, false, false, 64, 64, true, false, 0, 0, -1},
    {MXF8F6F4, NUM_e4m3, NUM_e4m3, NUM_f32, 256, 128, 4, 2, false, false, false, 128, 128, true, false, 32, NUM_ue8m0, -1},
};

static int small(enum num_type t, uint32_t *seed)
{
    int v = (int)(kernel_random(seed) % 5);
    return t == NUM_u8 ? v : v - 2;
}

static uint32_t encode(enum num_type t, int v)
{
    if (t == NUM_s8 || t == NUM_u8) return (uint32_t)v & 255;
    return t == NUM_s32 ? (uint32_t)v : (uint32_t)num_cvt(t, NUM_f32, NUM_RP, 0, num_float_bits((float)v));
}

static uint64_t descriptor(const struct image *i)
{
    uint64_t mode = i->atom_32 ? 1 : i->span == 128 ? 2 : i->span == 64 ? 4 : i->span == 32 ? 6 : 0;
    return mode << 61 | 1ull << 46 | (uint64_t)(i->sbo >> 4) << 32 | (uint64_t)(i->lbo >> 4) << 16;
}

static uint32_t type_number(enum kind k, enum num_type t)
{
    static const uint32_t of[NUM_TYPES] = {
        [NUM_f16] = 0,  [NUM_bf16] = 1, [NUM_tf32] = 2, [NUM_e4m3] = 0, [NUM_e5m2] = 1,
        [NUM_e2m3] = 3, [NUM_e3m2] = 4, [NUM_e2m1] = 5, [NUM_u8] = 0,   [NUM_s8] = 1};
    return k >= MXF4 ? 1 : of[t];
}

static uint32_t idesc(const struct shape *s, int step)
{
    uint32_t d = type_number(s->kind, s->a) << 7 | type_number(s->kind, s->b) << 10 | (uint32_t)s->negate << 13 |
                 (uint32_t)s->a_mn << 15 | (uint32_t)s->b_mn << 16 | (uint32_t)s->n >> 3 << 17;
    if (!s->block) return d | (uint32_t)s->m >> 4 << 24 | (s->d == NUM_f32 ? 1u : s->d == NUM_s32 ? 2u : 0u) << 4;
    int bytes = kinds[s->kind].k / s->block;
    uint32_t id = (uint32_t)(step * bytes % 4);
    return d | (uint32_t)s->m >> 7 << 27 | (s->scale == NUM_ue8m0 ? 1u << 23 : 0) | id << 4 | id << 29;
}

/* Elements narrower than a byte under f8f6f4: 16 of them at the front of each 16 bytes. */
static void put_element(const struct image *i, uint8_t *data, int mn, int k, enum num_type t, uint32_t v)
{
    int w = num_bits(t);
    if (i->bits != 8 || w >= 8) {
        image_put(i, data, mn, k, v);
        return;
    }
    for (int b = 0; b < w; b++) {
        int bit, at = k % 16 * w + b;
        uint32_t slot = image_at(i, mn, k - k % 16, &bit);
        data[slot + (uint32_t)at / 8] |= (uint8_t)((v >> b & 1) << at % 8);
    }
}

enum { SCALES = 512 * 8 }; /* bytes of one operand's scales: up to 256 rows, four K groups of 4 bytes */

struct problem {
    struct shape s;
    struct image a, b;
    int k, k_step, rows, cols, n_d; /* rows of A and columns of B in a block; words of D in a lane */
    uint32_t bytes;                 /* of a block's shared memory image */
    uint8_t image[2 * 128 * 1024];
    uint32_t a_tmem[128 * 32], cd[2 * 128 * 256], want[2 * 128 * 256];
    uint32_t scale_at; /* offset of the scales in the image */
};

/* The word of D[m][n] in what the kernel stores: [block][lane][column]. */
static int word_of(const struct problem *p, int m, int n)
{
    const struct shape *s = &p->s;
    int block = s->group == 2 ? m / p->rows : 0, lane = m % p->rows, column = n;
    if (s->group == 1 && s->m == 64) lane = m / 16 * 32 + m % 16;
    if (s->group == 2 && s->m == 128) lane += 64 * (n / (s->n / 2)), column = n % (s->n / 2);
    return (block * 128 + lane) * p->n_d + column;
}

/* Scale s of row r: 512 bytes for 128 rows and 4 scales, row r % 32 of 16 bytes (PTX ISA, "Scale factor layout"). */
static uint8_t *scale_at(uint8_t *base, int rows, int r, int s)
{
    return base + (s / 4 * ((rows + 127) / 128) + r / 128) * 512 + r % 32 * 16 + r % 128 / 32 * 4 + s % 4;
}

static void make(struct problem *p, uint32_t *seed)
{
    const struct shape *s = &p->s;
    static int A[256][256], B[256][256], SA[256][16], SB[256][16];
    p->k_step = kinds[s->kind].k;
    p->k = p->k_step * s->steps;
    p->rows = s->m / s->group;
    p->cols = s->n / s->group;
    p->n_d = s->group == 2 && s->m == 128 ? s->n / 2 : s->n;
    bool wide = s->kind == TF32;
    p->a = (struct image){.mn = p->rows,
                          .k = p->k,
                          .bits = kinds[s->kind].bits,
                          .mn_major = s->a_mn,
                          .span = s->a_span,
                          .atom_32 = wide && s->a_mn};
    p->b = (struct image){.mn = p->cols,
                          .k = p->k,
                          .bits = kinds[s->kind].bits,
                          .mn_major = s->b_mn,
                          .span = s->b_span,
                          .atom_32 = wide && s->b_mn};
    image_plan(&p->a);
    image_plan(&p->b);
    p->scale_at = p->a.bytes + p->b.bytes;
    p->bytes = p->scale_at + (s->block ? 2 * SCALES : 0);
    memset(p->image, 0, sizeof p->image);
    memset(p->a_tmem, 0, sizeof p->a_tmem);
    memset(p->want, 0, sizeof p->want);
    int n_scales = s->block ? p->k / s->block : 1;
    for (int r = 0; r < 256; r++)
        for (int i = 0; i < n_scales; i++)
            SA[r][i] = s->block ? 1 << kernel_random(seed) % 3 : 1,
            SB[r][i] = s->block ? 1 << kernel_random(seed) % 3 : 1;
    for (int c = 0; c < s->group && s->block; c++) {
        uint8_t *base = p->image + (uint32_t)c * p->bytes + p->scale_at;
        for (int i = 0; i < n_scales; i++) {
            for (int r = 0; r < p->rows; r++)
                *scale_at(base, p->rows, r, i) = (uint8_t)encode(s->scale, SA[c * p->rows + r][i]);
            for (int r = 0; r < s->n; r++) *scale_at(base + SCALES, s->n, r, i) = (uint8_t)encode(s->scale, SB[r][i]);
        }
    }
    for (int m = 0; m < s->m; m++)
        for (int k = 0; k < p->k; k++) {
            uint32_t v = encode(s->a, A[m][k] = small(s->a, seed));
            put_element(&p->a, p->image + (uint32_t)(m / p->rows) * p->bytes, m % p->rows, k, s->a, v);
            int lane = s->m == 64 ? m / 16 * 32 + m % 16 : m % 128, e = 32 / p->a.bits;
            if (s->a_tmem) p->a_tmem[lane * 32 + k / e] |= v << k % e * p->a.bits;
        }
    for (int n = 0; n < s->n; n++)
        for (int k = 0; k < p->k; k++)
            put_element(&p->b, p->image + (uint32_t)(n / p->cols) * p->bytes + p->a.bytes, n % p->cols, k, s->b,
                        encode(s->b, B[n][k] = small(s->b, seed)));
    for (int i = 0; i < COUNT(p->cd); i++) p->cd[i] = encode(s->d, 3);
    for (int m = 0; m < s->m; m++)
        for (int n = 0; n < s->n; n++) {
            int c = (int)(kernel_random(seed) % 17) - 8, sum = s->overwrite ? 0 : c, w = word_of(p, m, n);
            for (int k = 0; k < p->k; k++)
                sum += (s->negate ? -1 : 1) * A[m][k] * B[n][k] *
                       (s->block ? SA[m][k / s->block] * SB[n][k / s->block] : 1);
            p->cd[w] = encode(s->d, c);
            p->want[w] = encode(s->d, w / p->n_d == s->disable ? c : sum);
        }
}

enum mistake {
    NONE, NO_DEALLOC, NO_COMMIT_WAIT, NO_WAIT_LD, NO_WAIT_ST, BAD_IDESC_M, BAD_IDESC_N, BAD_DESC, BAD_LANE, BAD_COLUMN,
    TWO_THREADS, BAD_COUNT, GROW, AFTER_RELINQUISH, MIXED
};

/* Columns: D from 0, A from 256 (kernels with A in tensor memory have N up to 128), scales from 384 and 448. */
enum { COL_A = 256, COL_SCALE_A = 384, COL_SCALE_B = 448 };

static void begin(struct buf *b, const struct problem *p, enum mistake m)
{
    int g = p->s.group;
    kernel_begin(b, "sm_100a", 3, 128);
    buf_printf(b, ".shared .align 8 .b8 bar[8];\n.shared .align 8 .b8 slot[8];\n");
    buf_printf(b,
               "mov.u32 %%r0, %%tid.x;\nmov.u32 %%r1, smem;\nshl.b32 %%r2, %%r0, 4;\nmov.u32 %%r8, "
               "%%cluster_ctarank;\nmul.wide.u32 %%d9, %%r8, %u;\n",
               p->bytes);
    buf_printf(b, "add.s64 %%d0, %%d0, %%d9;\nshr.u32 %%r9, %%r0, 5;\n");
    buf_printf(b, "COPY:\ncvt.u64.u32 %%d10, %%r2;\nadd.s64 %%d11, %%d0, %%d10;\nld.global.v4.b32 {%%r4, %%r5, %%r6, "
                  "%%r7}, [%%d11];\n");
    buf_printf(
        b,
        "add.s32 %%r3, %%r1, %%r2;\nst.shared.v4.b32 [%%r3], {%%r4, %%r5, %%r6, %%r7};\nadd.s32 %%r2, %%r2, 2048;\n");
    buf_printf(b, "setp.lt.u32 %%q1, %%r2, %u;\n@%%q1 bra COPY;\nfence.proxy.async;\n", p->bytes);
    buf_printf(b, "mov.u32 %%r11, bar;\nmov.u32 %%r12, slot;\nsetp.eq.u32 %%q2, %%r0, 0;\n@%%q2 "
                  "mbarrier.init.shared.b64 [%%r11], 1;\n");
    buf_printf(b, "fence.mbarrier_init.release.cluster;\nsetp.ne.u32 %%q3, %%r9, 0;\n@%%q3 bra ALLOCATED;\n");
    if (m == AFTER_RELINQUISH) buf_printf(b, "tcgen05.relinquish_alloc_permit.cta_group::%d.sync.aligned;\n", g);
    if (m == BAD_COUNT) buf_printf(b, "mov.u32 %%r13, 48;\n");
    else buf_printf(b, "mov.u32 %%r13, %d;\n", m == GROW ? 32 : m == BAD_COLUMN ? 64 : 512);
    buf_printf(b, "tcgen05.alloc.cta_group::%d.sync.aligned.shared::cta.b32 [%%r12], %%r13;\n", g);
    if (m == GROW) buf_printf(b, "tcgen05.alloc.cta_group::%d.sync.aligned.shared::cta.b32 [%%r12], 64;\n", g);
    if (m != MIXED) buf_printf(b, "tcgen05.relinquish_alloc_permit.cta_group::%d.sync.aligned;\n", g);
    buf_printf(b, "ALLOCATED:\nbarrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\nld.shared.b32 %%r14, "
                  "[%%r12];\nshl.b32 %%r15, %%r9, 21;\n");
    /* %r14: address of tensor memory; %r15: the warp's lanes */
    buf_printf(b,
               "add.s32 %%r16, %%r14, %%r15;\nmad.lo.s32 %%r17, %%r8, 128, %%r0;\nmul.wide.u32 %%d10, %%r17, "
               "%d;\nadd.s64 %%d12, %%d1, %%d10;\n",
               4 * p->n_d);
}

static void put_descriptor(struct buf *b, int reg, uint32_t offset, uint64_t constant)
{
    buf_printf(
        b,
        "add.s32 %%r20, %%r1, %u;\nshr.u32 %%r20, %%r20, 4;\nand.b32 %%r20, %%r20, 16383;\ncvt.u64.u32 %%d%d, %%r20;\n",
        offset, reg);
    buf_printf(b, "or.b64 %%d%d, %%d%d, 0x%llx;\n", reg, reg, (unsigned long long)constant);
}

/* C, and A where it belongs there, into tensor memory, 8 columns at a time. */
static void fill_tmem(struct buf *b, const struct problem *p, enum mistake m)
{
    for (int c = 0; c < p->n_d; c += 8) {
        for (int i = 0; i < 8; i++) buf_printf(b, "ld.global.b32 %%r%d, [%%d12+%d];\n", 100 + i, 4 * (c + i));
        buf_printf(b, "add.s32 %%r21, %%r16, %d;\ntcgen05.st.sync.aligned.32x32b.x8.b32 [%%r21], ", c);
        kernel_regs(b, 100, 8);
        buf_printf(b, ";\n");
    }
    if (p->s.a_tmem) buf_printf(b, "mul.wide.u32 %%d10, %%r0, 128;\nadd.s64 %%d13, %%d2, %%d10;\n");
    for (int c = 0; p->s.a_tmem && c < 32; c += 8) {
        for (int i = 0; i < 8; i++) buf_printf(b, "ld.global.b32 %%r%d, [%%d13+%d];\n", 100 + i, 4 * (c + i));
        buf_printf(b, "add.s32 %%r21, %%r16, %d;\ntcgen05.st.sync.aligned.32x32b.x8.b32 [%%r21], ", COL_A + c);
        kernel_regs(b, 100, 8);
        buf_printf(b, ";\n");
    }
    if (m != NO_WAIT_ST) buf_printf(b, "tcgen05.wait::st.sync.aligned;\n");
    buf_printf(b, "tcgen05.fence::before_thread_sync;\nbarrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;"
                  "\ntcgen05.fence::after_thread_sync;\n");
}

/* Scales: one copy for each 128 rows and 4 scales. */
static void copy_scales(struct buf *b, const struct problem *p, int group_of_4)
{
    for (int side = 0; side < 2; side++) {
        int rows = side ? p->s.n : p->rows, blocks = (rows + 127) / 128;
        for (int i = 0; i < blocks; i++) {
            put_descriptor(b, 22, p->scale_at + (uint32_t)(side * SCALES + (group_of_4 * blocks + i) * 512),
                           1ull << 46 | 8ull << 32);
            buf_printf(b, "add.s32 %%r21, %%r14, %d;\ntcgen05.cp.cta_group::%d.32x128b.warpx4 [%%r21], %%d22;\n",
                       (side ? COL_SCALE_B : COL_SCALE_A) + 4 * i, p->s.group);
        }
    }
}

static void issue(struct buf *b, const struct problem *p, enum mistake m)
{
    const struct shape *s = &p->s;
    int bytes = s->block ? kinds[s->kind].k / s->block : 0;
    buf_printf(
        b, "setp.%s.u32 %%q4, %%r0, %d;\nsetp.ne.u32 %%q5, %%r8, 0;\nor.pred %%q4, %%q4, %%q5;\n@%%q4 bra ISSUED;\n",
        m == TWO_THREADS ? "gt" : "ne", m == TWO_THREADS);
    for (int i = 0; i < s->steps; i++) {
        uint64_t bad = m == BAD_DESC ? 1ull << 46 : 0;
        uint32_t d = idesc(s, i) ^ (m == BAD_IDESC_M ? 1u << 24 : m == BAD_IDESC_N ? 63u << 17 : 0);
        if (bytes && i * bytes % 4 == 0) copy_scales(b, p, i * bytes / 4);
        put_descriptor(b, 20, image_step(&p->a, i * p->k_step), descriptor(&p->a));
        put_descriptor(b, 21, p->a.bytes + image_step(&p->b, i * p->k_step), descriptor(&p->b) ^ bad);
        buf_printf(b, "setp.ne.u32 %%q6, %d, 0;\nmov.b32 %%r22, 0x%x;\n", i > 0 || !s->overwrite, d);
        buf_printf(b, "add.s32 %%r23, %%r14, %d;\nadd.s32 %%r24, %%r14, %d;\nadd.s32 %%r25, %%r14, %d;\n",
                   COL_A + 8 * i, COL_SCALE_A, COL_SCALE_B);
        buf_printf(b, "tcgen05.mma.cta_group::%d.kind::%s%s [%%r14], ", m == MIXED ? 3 - s->group : s->group,
                   kinds[s->kind].name, s->kind == MXF4NVF4 ? s->block == 16 ? ".block16" : ".block32" : "");
        buf_printf(b, "%s, %%d21, %%r22", s->a_tmem ? "[%r23]" : "%d20");
        if (s->block) buf_printf(b, ", [%%r24], [%%r25]");
        if (s->disable >= 0) {
            for (int r = 0; r < 4; r++) buf_printf(b, "%s%%r%d", r ? ", " : ", {", 30 + r);
            buf_printf(b, "}");
        }
        buf_printf(b, ", %%q6;\n");
    }
    if (s->group == 2) {
        buf_printf(b, "mov.b16 %%h0, "
                      "3;\ntcgen05.commit.cta_group::2.mbarrier::arrive::one.shared::cluster.multicast::cluster.b64 "
                      "[%%r11], %%h0;\n");
    } else {
        buf_printf(b, "tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%%r11];\n");
    }
    buf_printf(b, "ISSUED:\n");
}

static void drain(struct buf *b, const struct problem *p, enum mistake m)
{
    if (m != NO_COMMIT_WAIT)
        buf_printf(b, "WAIT:\nmbarrier.try_wait.parity.shared.b64 %%q7, [%%r11], 0;\n@!%%q7 bra WAIT;\n");
    buf_printf(b, "bar.sync 0;\ntcgen05.fence::after_thread_sync;\n");
    if (m == BAD_LANE) buf_printf(b, "add.s32 %%r16, %%r14, 0x200000;\n");
    for (int c = 0; c < p->n_d; c += 8) {
        buf_printf(b, "add.s32 %%r21, %%r16, %d;\ntcgen05.ld.sync.aligned.32x32b.x8.b32 ", c);
        kernel_regs(b, 100, 8);
        buf_printf(b, ", [%%r21];\n%s", m == NO_WAIT_LD ? "" : "tcgen05.wait::ld.sync.aligned;\n");
        for (int i = 0; i < 8; i++) buf_printf(b, "st.global.b32 [%%d12+%d], %%r%d;\n", 4 * (c + i), 100 + i);
    }
    buf_printf(b,
               "tcgen05.fence::before_thread_sync;\nbarrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n");
    if (m != NO_DEALLOC)
        buf_printf(b, "@%%q3 bra DONE;\ntcgen05.dealloc.cta_group::%d.sync.aligned.b32 %%r14, %d;\nDONE:\n", p->s.group,
                   m == BAD_COLUMN ? 64 : 512);
    kernel_end(b);
}

static bool run(struct problem *p, enum emu_timing timing, enum mistake m, char **error)
{
    struct buf b = {0};
    begin(&b, p, m);
    for (int r = 0; r < 4; r++)
        buf_printf(&b, "mov.b32 %%r%d, %u;\n", 30 + r,
                   p->s.disable >= 0 && p->s.disable / 32 == r ? 1u << p->s.disable % 32 : 0);
    fill_tmem(&b, p, m);
    issue(&b, p, m);
    drain(&b, p, m);
    struct kernel_buffer buffers[] = {{p->image, p->bytes * (size_t)p->s.group},
                                      {p->cd, sizeof p->cd},
                                      {p->a_tmem, sizeof p->a_tmem}};
    bool ok = kernel_run(EMU_SM100, timing, b.at, 128, (uint32_t)p->s.group, p->bytes + 1024, buffers, 3, error);
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
    for (int m = 0; ok && m < p.s.m; m++)
        for (int n = 0; n < p.s.n; n++) bad += p.cd[word_of(&p, m, n)] != p.want[word_of(&p, m, n)];
    claim(!bad, "shape %d timing %d: %d of %d differ", i, timing, bad, p.s.m * p.s.n);
    free(error);
}

static void mistake(enum mistake m, enum emu_timing timing, const char *text)
{
    uint32_t seed = 3;
    char *error;
    p.s = shapes[0];
    if (m == NO_WAIT_ST) p.s = shapes[4];
    make(&p, &seed);
    bool ok = run(&p, timing, m, &error);
    if (text)
        claim(!ok && strstr(error, text), "mistake %d should be reported as '%s': %s", m, text, ok ? "it ran" : error);
    else claim(!ok || memcmp(p.cd, p.want, sizeof p.cd), "mistake %d should give wrong results", m);
    free(error);
}

/* ---- shapes of loads and stores ---- */

/* What is stored in one shape, lane and column spelled out in the value, is found by 32x32b where the tables say; and loaded
 * back by the same shape. */
static void move(const char *shape, int times, int regs, bool half_lanes, bool half_words, int (*row)(int, int),
                 int (*column)(int, int), int second)
{
    struct buf b = {0};
    char *error;
    static uint32_t out[128 * 64 + 128 * 16];
    memset(out, 0, sizeof out);
    kernel_begin(&b, "sm_100a", 2, 128);
    buf_printf(&b, ".shared .align 8 .b8 slot[8];\nmov.u32 %%r0, %%tid.x;\nshr.u32 %%r9, %%r0, 5;\nmov.u32 %%r12, "
                   "slot;\nsetp.ne.u32 %%q3, %%r9, 0;\n@%%q3 bra ALLOCATED;\n");
    buf_printf(&b, "tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%%r12], 64;\nALLOCATED:\nbar.sync "
                   "0;\nld.shared.b32 %%r14, [%%r12];\n");
    buf_printf(&b, "shl.b32 %%r15, %%r9, 21;\nadd.s32 %%r16, %%r14, %%r15;\nshl.b32 %%r17, %%r0, 16;\n");
    for (int r = 0; r < regs; r++) buf_printf(&b, "add.s32 %%r%d, %%r17, %d;\n", 100 + r, half_words ? r << 8 | r : r);
    char imm[16] = "", unpack[16] = "", pack[16] = "";
    if (second) snprintf(imm, sizeof imm, ", %d", second);
    if (half_words) snprintf(unpack, sizeof unpack, ".unpack::16b"), snprintf(pack, sizeof pack, ".pack::16b");
    for (int part = 0; part < (half_lanes ? 2 : 1); part++) {
        buf_printf(&b, "add.s32 %%r18, %%r16, 0x%x;\ntcgen05.st.sync.aligned.%s.x%d%s.b32 [%%r18]%s, ", part << 20,
                   shape, times, unpack, imm);
        kernel_regs(&b, 100, regs);
        buf_printf(&b, ";\n");
        for (int r = 0; r < regs; r++) buf_printf(&b, "add.s32 %%r%d, %%r%d, 128;\n", 100 + r, 100 + r);
    }
    buf_printf(&b, "tcgen05.wait::st.sync.aligned;\ntcgen05.ld.sync.aligned.32x32b.x64.b32 ");
    kernel_regs(&b, 200, 64);
    buf_printf(
        &b,
        ", [%%r16];\ntcgen05.wait::ld.sync.aligned;\nmul.wide.u32 %%d10, %%r0, 256;\nadd.s64 %%d11, %%d0, %%d10;\n");
    for (int r = 0; r < 64; r++) buf_printf(&b, "st.global.b32 [%%d11+%d], %%r%d;\n", 4 * r, 200 + r);
    buf_printf(&b, "tcgen05.ld.sync.aligned.%s.x%d%s.b32 ", shape, times, pack);
    kernel_regs(&b, 300, regs);
    buf_printf(
        &b,
        ", [%%r16]%s;\ntcgen05.wait::ld.sync.aligned;\nmul.wide.u32 %%d10, %%r0, 64;\nadd.s64 %%d11, %%d1, %%d10;\n",
        imm);
    for (int r = 0; r < regs; r++) buf_printf(&b, "st.global.b32 [%%d11+%d], %%r%d;\n", 4 * r, 300 + r);
    buf_printf(&b, "bar.sync 0;\n@%%q3 bra DONE;\ntcgen05.dealloc.cta_group::1.sync.aligned.b32 %%r14, 64;\nDONE:\n");
    kernel_end(&b);
    struct kernel_buffer buffers[] = {{out, sizeof *out * 128 * 64}, {out + 128 * 64, sizeof *out * 128 * 16}};
    bool ok = kernel_run(EMU_SM100, EMU_LATE, b.at, 128, 1, 0, buffers, 2, &error);
    claim(ok, "%s: %s", shape, ok ? "" : error);
    int bad = 0;
    for (int t = 0; ok && t < 128; t++)
        for (int r = 0; r < regs; r++) {
            for (int part = 0; part < (half_lanes ? 2 : 1); part++) {
                uint32_t v = ((uint32_t)t << 16) + (uint32_t)(half_words ? r << 8 | r : r) + 128u * (uint32_t)part;
                int lane = t / 32 * 32 + 16 * part + row(r, t % 32), col = column(r, t % 32);
                if (half_words)
                    bad += out[lane * 64 + 2 * col] != (v & 0xFFFF) || out[lane * 64 + 2 * col + 1] != v >> 16;
                else bad += out[lane * 64 + col] != v;
            }
            bad += out[128 * 64 + t * 16 + r] != ((uint32_t)t << 16) + (uint32_t)(half_words ? r << 8 | r : r);
        }
    claim(!bad, "%s: %d differ", shape, bad);
    free(error);
    buf_free(&b);
}

static int row_32(int r, int l) { return (void)r, l; }
static int col_32(int r, int l) { return (void)l, r; }
static int row_64(int r, int l) { return (void)r, l / 4 + 8 * (l & 1); }
static int col_64(int r, int l) { return 2 * r + (l >> 1 & 1); }
static int row_128(int r, int l) { return l / 4 + 8 * (r & 1); }
static int col_128(int r, int l) { return r / 2 * 4 + (l & 3); }
static int row_256(int r, int l) { return l / 4 + 8 * (r >> 1 & 1); }
static int col_256(int r, int l) { return r / 4 * 8 + (l & 3) * 2 + (r & 1); }
static int row_x2(int r, int l) { return (void)r, l & 15; }
static int col_x2(int r, int l) { return r + (l < 16 ? 0 : 20); }

int main(void)
{
    for (int i = 0; i < COUNT(shapes); i++)
        for (int t = EMU_EARLY; t <= EMU_SEEDED; t++) shape(i, (enum emu_timing)t);
    move("32x32b", 16, 16, false, false, row_32, col_32, 0);
    move("32x32b", 8, 8, false, true, row_32, col_32, 0);
    move("16x64b", 16, 16, true, false, row_64, col_64, 0);
    move("16x128b", 8, 16, true, false, row_128, col_128, 0);
    move("16x256b", 4, 16, true, false, row_256, col_256, 0);
    move("16x256b", 1, 4, true, true, row_256, col_256, 0);
    move("16x32bx2", 8, 8, true, false, row_x2, col_x2, 20);
    mistake(NO_DEALLOC, EMU_EARLY, "not deallocated");
    mistake(NO_COMMIT_WAIT, EMU_LATE, "completion was not waited for");
    mistake(NO_WAIT_LD, EMU_LATE, NULL);
    mistake(NO_WAIT_ST, EMU_LATE, "tcgen05.wait::st is missing");
    mistake(BAD_IDESC_M, EMU_EARLY, "M that this form does not have");
    mistake(BAD_IDESC_N, EMU_EARLY, "N that this form does not have");
    mistake(BAD_DESC, EMU_EARLY, "bits 48:46");
    mistake(BAD_LANE, EMU_EARLY, "reaches lanes");
    mistake(BAD_COLUMN, EMU_EARLY, "is not allocated");
    mistake(TWO_THREADS, EMU_EARLY, "one thread issues");
    mistake(BAD_COUNT, EMU_EARLY, "power of two");
    mistake(GROW, EMU_EARLY, "may not grow");
    mistake(AFTER_RELINQUISH, EMU_EARLY, "after tcgen05.relinquish");
    mistake(MIXED, EMU_EARLY, ".cta_group::2 in a cluster of 1");
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
