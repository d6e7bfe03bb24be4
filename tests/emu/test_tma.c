/* Tensor and bulk copies against a host model that places one element at a time. */
#include "tests/emu/run.h"

static const char *const timing_names[] = {"early", "late", "seeded"};

/* A u16 tensor: dim[0] innermost; element at coordinates x is a hash of them. Strides are rounded up to 16 bytes. */
struct tensor {
    int rank;
    uint32_t dim[5], box[5], es[5];
    uint64_t stride[5], bytes; /* stride[i] of dimension i; [0] is 2 */
    uint8_t *data;
};

static void make(struct tensor *t)
{
    t->stride[0] = 2;
    for (int i = 1; i <= t->rank; i++) {
        uint64_t s = t->stride[i - 1] * t->dim[i - 1];
        if (i < t->rank)
            t->stride[i] = (s + 15) / 16 * 16;
        else
            t->bytes = s;
    }
    t->bytes = (t->bytes + 15) / 16 * 16;
    t->data = malloc(t->bytes);
    uint32_t x = 12345;
    for (uint64_t i = 0; i < t->bytes; i++)
        t->data[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
}

static uint16_t at(const struct tensor *t, const int64_t *c, uint16_t fill)
{
    uint64_t a = 0;
    uint16_t v;
    for (int i = 0; i < t->rank; i++) {
        if (c[i] < 0 || c[i] >= (int64_t)t->dim[i])
            return fill;
        a += (uint64_t)c[i] * t->stride[i];
    }
    memcpy(&v, t->data + a, 2);
    return v;
}

/* Byte b of row r in a tile at a 1024-byte boundary: chunks of 16 bytes exchange places within groups of rows. */
static uint32_t place(int swizzle, uint32_t row_bytes, uint32_t r, uint32_t b)
{
    static const uint32_t span[] = {0, 32, 64, 128}, rows[] = {0, 4, 2, 1}, mask[] = {0, 1, 3, 7};
    if (!swizzle)
        return r * row_bytes + b;
    uint32_t turn = r / rows[swizzle] & mask[swizzle];
    return r * span[swizzle] + ((b / 16 ^ turn) * 16) + b % 16;
}

static void encode(struct run *r, const struct tensor *t, uint64_t address, int swizzle, int type, int fill)
{
    struct emu_tensor_map m = {.data_type = type, .rank = t->rank, .swizzle = swizzle, .oob_fill = fill, .address = address};
    uint8_t map[128];
    for (int i = 0; i < t->rank; i++) {
        m.dim[i] = t->dim[i];
        m.box[i] = t->box[i];
        m.element_stride[i] = t->es[i] ? t->es[i] : 1;
        if (i)
            m.stride[i - 1] = t->stride[i];
    }
    claim(emu_encode_tensor_map(r->e, map, &m), "encode: %s", emu_error(r->e));
    run_put(r, map, 128, 64);
}

/* Loads one box at `c` and dumps the tile's shared memory. */
static void load(int timing, struct tensor t, const int *c, int swizzle, int fill)
{
    static const uint32_t span[] = {0, 32, 64, 128};
    make(&t);
    struct run r = run_open(EMU_SM90, (enum emu_timing)timing);
    uint64_t in = emu_alloc(r.e, t.bytes, "tensor");
    emu_write(r.e, in, t.data, t.bytes);
    encode(&r, &t, in, swizzle, 6, fill);
    uint32_t n[5] = {1, 1, 1, 1, 1}, rows = 1;
    for (int i = 0; i < t.rank; i++) {
        uint32_t es = i && t.es[i] ? t.es[i] : 1;
        n[i] = (t.box[i] + es - 1) / es;
        rows *= i ? n[i] : 1;
    }
    uint32_t row_bytes = n[0] * 2, pitch = swizzle ? span[swizzle] : row_bytes, tile = rows * pitch;
    uint64_t out = run_memory(&r, NULL, tile, "out");
    struct buf b = {0}, coords = {0};
    for (int i = 0; i < t.rank; i++)
        buf_printf(&coords, "%s%d", i ? ", " : "", c[i]);
    buf_printf(&b, ".extern .shared .align 1024 .b8 smem[];\n.shared .align 8 .b64 bar;\n"
                   ".entry k(.param .align 64 .b8 map[128], .param .u64 out) {\n .reg .pred %%p<2>; .reg .b32 %%r<4>; .reg .b64 %%d<3>;\n"
                   " mov.u32 %%r0, %%tid.x; setp.ne.u32 %%p0, %%r0, 0; mov.u32 %%r1, smem; shl.b32 %%r2, %%r0, 2;\n"
                   "clear: add.u32 %%r3, %%r1, %%r2; st.shared.u32 [%%r3], 0; add.u32 %%r2, %%r2, 128; setp.lt.u32 %%p1, %%r2, %u; @%%p1 bra clear;\n"
                   " @%%p0 bra ready;\n"
                   " mbarrier.init.shared::cta.b64 [bar], 1; fence.proxy.async.shared::cta; mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], %u;\n"
                   " mov.b64 %%d0, map; cvta.param.u64 %%d0, %%d0;\n"
                   " cp.async.bulk.tensor.%dd.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%%r1], [%%d0, {%s}], [bar];\n"
                   "ready: bar.sync 0;\nw: mbarrier.try_wait.parity.shared::cta.b64 %%p1, [bar], 0; @!%%p1 bra w;\n"
                   " ld.param.u64 %%d1, [out]; shl.b32 %%r2, %%r0, 2;\n"
                   "copy: add.u32 %%r3, %%r1, %%r2; ld.shared.u32 %%r3, [%%r3]; cvt.u64.u32 %%d2, %%r2; add.u64 %%d2, %%d1, %%d2;\n"
                   " st.global.u32 [%%d2], %%r3; add.u32 %%r2, %%r2, 128; setp.lt.u32 %%p1, %%r2, %u; @%%p1 bra copy; ret; }\n",
               tile, rows * row_bytes, t.rank, coords.at, tile);
    r.launch.block[0] = 32;
    r.launch.dynamic_smem = (tile + 127) / 128 * 128;
    bool ok = run_text(&r, header_90, b.at);
    uint8_t *got = malloc(tile);
    emu_read(r.e, out, got, tile);
    int bad = 0;
    for (uint32_t row = 0; ok && row < rows; row++)
        for (uint32_t x = 0; x < n[0]; x++) {
            int64_t where[5] = {c[0] + (int64_t)x};
            uint32_t q = row;
            for (int i = 1; i < t.rank; q /= n[i], i++)
                where[i] = c[i] + (int64_t)(q % n[i]) * (t.es[i] ? t.es[i] : 1);
            uint16_t v, want = at(&t, where, fill ? 0x7FF7 : 0);
            memcpy(&v, got + place(swizzle, row_bytes, row, x * 2), 2);
            bad += v != want;
        }
    claim(ok && !bad, "load rank %d, swizzle %d, %s: %d wrong %s", t.rank, swizzle, timing_names[timing], bad, r.error);
    free(got), free(t.data);
    buf_free(&b), buf_free(&coords);
    emu_close(r.e);
}

static void test_loads(void)
{
    for (int t = 0; t < 3; t++) {
        load(t, (struct tensor){.rank = 1, .dim = {100}, .box = {64}}, (int[]){48}, 0, 0);
        load(t, (struct tensor){.rank = 2, .dim = {100, 30}, .box = {64, 16}}, (int[]){48, 20}, 3, 1);
        load(t, (struct tensor){.rank = 2, .dim = {100, 30}, .box = {64, 16}}, (int[]){-8, -3}, 3, 0);
        load(t, (struct tensor){.rank = 2, .dim = {64, 64}, .box = {16, 24}}, (int[]){16, 5}, 1, 0);
        load(t, (struct tensor){.rank = 2, .dim = {64, 64}, .box = {32, 24}}, (int[]){16, 5}, 2, 0);
        load(t, (struct tensor){.rank = 2, .dim = {64, 64}, .box = {24, 24}}, (int[]){8, 5}, 3, 0);
        load(t, (struct tensor){.rank = 3, .dim = {40, 9, 7}, .box = {16, 4, 5}}, (int[]){32, 7, -1}, 1, 1);
        load(t, (struct tensor){.rank = 3, .dim = {40, 9, 7}, .box = {16, 5, 5}, .es = {1, 2, 1}}, (int[]){8, 1, 0}, 0, 0);
        load(t, (struct tensor){.rank = 4, .dim = {24, 5, 4, 3}, .box = {24, 3, 2, 2}}, (int[]){0, 3, 1, 2}, 2, 0);
        load(t, (struct tensor){.rank = 5, .dim = {16, 3, 4, 3, 5}, .box = {16, 2, 2, 2, 3}}, (int[]){0, 1, 1, 2, 3}, 3, 1);
    }
}

/* A box that hangs over the edge is stored, or added, from shared memory. */
static void store(int timing, bool reduce)
{
    struct tensor t = {.rank = 2, .dim = {40, 20}, .box = {64, 16}};
    make(&t);
    struct run r = run_open(EMU_SM90, (enum emu_timing)timing);
    uint64_t mem = emu_alloc(r.e, t.bytes, "tensor");
    for (uint64_t i = 0; i < t.bytes; i += 2)
        t.data[i + 1] &= 0x3F; /* finite f16 numbers */
    emu_write(r.e, mem, t.data, t.bytes);
    encode(&r, &t, mem, 3, reduce ? 6 : 1, 0);
    struct buf b = {0};
    buf_printf(&b, ".extern .shared .align 1024 .b8 smem[];\n.entry k(.param .align 64 .b8 map[128]) {\n"
                   " .reg .pred %%p<2>; .reg .b32 %%r<5>; .reg .b64 %%d;\n mov.u32 %%r0, %%tid.x; mov.u32 %%r1, smem; shl.b32 %%r2, %%r0, 2;\n"
                   "put: add.u32 %%r3, %%r1, %%r2; or.b32 %%r4, %%r2, 0x3C003C00; st.shared.u32 [%%r3], %%r4; add.u32 %%r2, %%r2, 128;\n"
                   " setp.lt.u32 %%p0, %%r2, 2048; @%%p0 bra put; fence.proxy.async.shared::cta; bar.sync 0; setp.ne.u32 %%p1, %%r0, 0; @%%p1 bra done;\n"
                   " mov.b64 %%d, map; cvta.param.u64 %%d, %%d;\n"
                   " %s [%%d, {16, 12}], [%%r1]; cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0;\n"
                   "done: ret; }\n",
               reduce ? "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group"
                      : "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group");
    r.launch.block[0] = 32;
    r.launch.dynamic_smem = 2048;
    bool ok = run_text(&r, header_90, b.at);
    uint8_t *got = malloc(t.bytes);
    emu_read(r.e, mem, got, t.bytes);
    int bad = 0;
    for (uint32_t y = 0; ok && y < 20; y++)
        for (uint32_t x = 0; x < 40; x++) {
            uint16_t v, old;
            memcpy(&v, got + y * t.stride[1] + x * 2, 2);
            memcpy(&old, t.data + y * t.stride[1] + x * 2, 2);
            bool inside = x >= 16 && y >= 12;
            uint32_t a = inside ? place(3, 128, y - 12, (x - 16) * 2) : 0, word = (a & ~3u) | 0x3C003C00;
            uint16_t mine = a & 2 ? (uint16_t)(word >> 16) : (uint16_t)word;
            uint32_t sum = num_f16_of_f32(num_float_bits(num_float(num_f32_of_f16(old)) + num_float(num_f32_of_f16(mine))));
            bad += v != (!inside ? old : reduce ? sum : mine);
        }
    claim(ok && !bad, "%s, %s: %d wrong %s", reduce ? "reduce" : "store", timing_names[timing], bad, r.error);
    free(got), free(t.data);
    buf_free(&b);
    emu_close(r.e);
}

/* Rank 0 of 2 multicasts to both; both wait on their own barrier. Rank 1's arrives through the same offset. */
static void test_multicast(void)
{
    for (int timing = 0; timing < 3; timing++) {
        struct tensor t = {.rank = 2, .dim = {64, 16}, .box = {64, 8}};
        make(&t);
        struct run r = run_open(EMU_SM90, (enum emu_timing)timing);
        uint64_t in = emu_alloc(r.e, t.bytes, "tensor");
        emu_write(r.e, in, t.data, t.bytes);
        encode(&r, &t, in, 0, 6, 0);
        uint64_t out = run_memory(&r, NULL, 2048, "out");
        r.launch.grid[0] = r.launch.cluster[0] = 2;
        r.launch.block[0] = 32;
        r.launch.dynamic_smem = 1024;
        bool ok = run_text(&r, header_90,
            ".extern .shared .align 1024 .b8 smem[];\n.shared .align 8 .b64 bar;\n"
            ".entry k(.param .align 64 .b8 map[128], .param .u64 out) {\n .reg .pred %p<3>; .reg .b16 %h; .reg .b32 %r<6>; .reg .b64 %d<3>;\n"
            " mov.u32 %r0, %tid.x; setp.ne.u32 %p0, %r0, 0; mov.u32 %r1, smem; mov.u32 %r2, %cluster_ctarank; @%p0 bra ready;\n"
            " mbarrier.init.shared::cta.b64 [bar], 1; fence.mbarrier_init.release.cluster;\n"
            " mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 1024;\n"
            "ready: barrier.cluster.arrive; barrier.cluster.wait; setp.ne.or.u32 %p1, %r2, 0, %p0; @%p1 bra wait;\n"
            " mov.b64 %d0, map; cvta.param.u64 %d0, %d0; mov.b16 %h, 3;\n"
            " cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r1], [%d0, {0, 8}], [bar], %h;\n"
            "wait:\nw: mbarrier.try_wait.parity.shared::cta.b64 %p2, [bar], 0; @!%p2 bra w;\n"
            " ld.param.u64 %d1, [out]; mad.wide.u32 %d1, %r2, 1024, %d1; shl.b32 %r3, %r0, 2;\n"
            "copy: add.u32 %r4, %r1, %r3; ld.shared.u32 %r5, [%r4]; cvt.u64.u32 %d2, %r3; add.u64 %d2, %d1, %d2; st.global.u32 [%d2], %r5;\n"
            " add.u32 %r3, %r3, 128; setp.lt.u32 %p2, %r3, 1024; @%p2 bra copy; ret; }\n");
        uint8_t got[2048];
        emu_read(r.e, out, got, sizeof got);
        claim(ok && !memcmp(got, t.data + 1024, 1024) && !memcmp(got + 1024, t.data + 1024, 1024), "multicast, %s %s",
              timing_names[timing], r.error);
        free(t.data);
        emu_close(r.e);
    }
}

/* What hardware traps on, and what the driver refuses. */
static void test_misuse(void)
{
    static const struct { const char *insn, *want; } rows[] = {
        {"cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [smem], [%d, {4, 0}], [bar]", "no multiple of 16 bytes"},
        {"cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [smem+64], [%d, {0, 0}], [bar]", "not a multiple of 128"},
        {"cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%d, {0, -1}], [smem]", "negative coordinate"},
        {"cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%d, {0, 0, 0}], [smem]", "has rank 2"},
        {"cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%d+64, {0, 0}], [smem]", "of the parameters"},
        {"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [smem], [%d], 24, [bar]", "multiple of 16"},
        {"mbarrier.arrive.shared::cta.b64 _, [bar]; mbarrier.arrive.shared::cta.b64 _, [bar]", NULL},
    };
    for (int i = 0; i < COUNT(rows); i++) {
        struct tensor t = {.rank = 2, .dim = {64, 16}, .box = {64, 8}};
        make(&t);
        struct run r = run_open(EMU_SM90, EMU_EARLY);
        uint64_t in = emu_alloc(r.e, t.bytes, "tensor");
        emu_write(r.e, in, t.data, t.bytes);
        encode(&r, &t, in, 0, 6, 0);
        struct buf b = {0};
        buf_printf(&b, ".extern .shared .align 1024 .b8 smem[];\n.shared .align 8 .b64 bar;\n.entry k(.param .align 64 .b8 map[128]) {\n"
                       " .reg .b64 %%d; mov.b64 %%d, map; cvta.param.u64 %%d, %%d; mbarrier.init.shared::cta.b64 [bar], 1; %s; ret; }\n",
                   rows[i].insn);
        r.launch.dynamic_smem = 2048;
        bool ok = run_text(&r, header_90, b.at);
        claim(rows[i].want ? !ok && strstr(r.error, rows[i].want) : ok, "misuse %d: %s", i, r.error);
        buf_free(&b);
        free(t.data);
        emu_close(r.e);
    }
    struct emu *e = emu_open(&(struct emu_config){.chip = EMU_SM90});
    struct emu_tensor_map good = {.data_type = 9, .rank = 2, .swizzle = 3, .address = 4096, .dim = {64, 64}, .stride = {128},
                                  .box = {64, 8}, .element_stride = {1, 1}}, m = good;
    uint8_t out[128];
    claim(emu_encode_tensor_map(e, out, &m), "a good map: %s", emu_error(e));
    m.box[0] = 72;
    claim(!emu_encode_tensor_map(e, out, &m) && strstr(emu_error(e), "wider than the swizzle"), "wide box: %s", emu_error(e));
    m = good, m.stride[0] = 136;
    claim(!emu_encode_tensor_map(e, out, &m) && strstr(emu_error(e), "stride 136"), "stride: %s", emu_error(e));
    m = good, m.address = 8;
    claim(!emu_encode_tensor_map(e, out, &m) && strstr(emu_error(e), "address"), "address: %s", emu_error(e));
    m = good, m.swizzle = 4;
    claim(!emu_encode_tensor_map(e, out, &m), "a swizzle that this chip lacks");
    emu_close(e);
}

/* What a thread stored must be fenced before a bulk store reads it: by the writer, or by the issuer behind a barrier. */
static void test_proxy_fence(void)
{
    static const struct { const char *writer, *issuer; bool ok; } rows[] = {
        {"", "", false}, {"fence.proxy.async.shared::cta;", "", true}, {"", "fence.proxy.async;", true},
        {"fence.proxy.async.global;", "", false}, {"fence.acq_rel.cta;", "fence.mbarrier_init.release.cluster;", false},
    };
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < COUNT(rows); i++) {
            struct run r = run_open(EMU_SM90, (enum emu_timing)t);
            run_memory(&r, NULL, 256, "out");
            r.launch.block[0] = 64;
            struct buf b = {0};
            buf_printf(&b, ".shared .align 16 .b8 s[256];\n.entry k(.param .u64 out) {\n .reg .pred %%p; .reg .b32 %%r<3>; .reg .b64 %%d;\n"
                           " mov.u32 %%r0, %%tid.x; mov.u32 %%r1, s; mad.lo.u32 %%r1, %%r0, 4, %%r1; st.shared.u32 [%%r1], %%r0; %s bar.sync 0;\n"
                           " setp.ne.u32 %%p, %%r0, 0; @%%p bra done; %s ld.param.u64 %%d, [out];\n"
                           " cp.async.bulk.global.shared::cta.bulk_group [%%d], [s], 256; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;\n"
                           "done: ret; }\n", rows[i].writer, rows[i].issuer);
            bool ok = run_text(&r, header_90, b.at);
            claim(ok == rows[i].ok && (ok || strstr(r.error, "without a fence.proxy.async")), "proxy fence %d, %s: %s", i, timing_names[t],
                  ok ? "ran" : r.error);
            buf_free(&b);
            emu_close(r.e);
        }
}

/* A barrier's initialisation must be fenced before a copy signals it. */
static void test_init_fence(void)
{
    static const struct { const char *fence; bool ok; } rows[] = {
        {"", false}, {"fence.acq_rel.cta;", false}, {"fence.mbarrier_init.release.cluster;", true}, {"fence.proxy.async;", true},
    };
    static const uint32_t in[4] = {1, 2, 3, 4};
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < COUNT(rows); i++) {
            struct run r = run_open(EMU_SM90, (enum emu_timing)t);
            run_memory(&r, in, sizeof in, "in");
            struct buf b = {0};
            buf_printf(&b, ".shared .align 16 .b8 s[16];\n.shared .align 8 .b64 bar;\n.entry k(.param .u64 in) {\n .reg .pred %%p; .reg .b64 %%d;\n"
                           " ld.param.u64 %%d, [in]; mbarrier.init.shared::cta.b64 [bar], 1; %s mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 16;\n"
                           " cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [s], [%%d], 16, [bar];\n"
                           "w: mbarrier.try_wait.parity.shared::cta.b64 %%p, [bar], 0; @!%%p bra w; ret; }\n", rows[i].fence);
            bool ok = run_text(&r, header_90, b.at);
            claim(ok == rows[i].ok && (ok || strstr(r.error, "whose initialisation")), "init fence %d, %s: %s", i, timing_names[t],
                  ok ? "ran" : r.error);
            buf_free(&b);
            emu_close(r.e);
        }
}

/* A load that nobody waits for is a mistake that late timing finds. */
static void test_unwaited(void)
{
    static const uint32_t in[4] = {1, 2, 3, 4};
    struct run r = run_open(EMU_SM90, EMU_LATE);
    run_memory(&r, in, sizeof in, "in");
    bool ok = run_text(&r, header_90,
        ".shared .align 16 .b8 s[16];\n.shared .align 8 .b64 bar;\n.entry k(.param .u64 in) {\n .reg .b64 %d; ld.param.u64 %d, [in];\n"
        " mbarrier.init.shared::cta.b64 [bar], 1; mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 16;\n"
        " cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [s], [%d], 16, [bar]; ret; }\n");
    claim(!ok && strstr(r.error, "nothing in it waited"), "a load nobody waits for: %s", r.error);
    emu_close(r.e);
}

/* gather4 takes four rows; replacing fields of a map in shared memory and copying it to global memory works. */
static void test_gather_and_replace(void)
{
    struct tensor t = {.rank = 2, .dim = {64, 32}, .box = {64, 1}};
    make(&t);
    struct run r = run_open(EMU_SM100, EMU_LATE);
    uint64_t in = emu_alloc(r.e, t.bytes, "tensor");
    emu_write(r.e, in, t.data, t.bytes);
    encode(&r, &t, in, 0, 6, 0);
    uint64_t scratch = run_memory(&r, NULL, 128, "scratch"), out = run_memory(&r, NULL, 512, "out");
    (void)scratch;
    r.launch.block[0] = 32;
    r.launch.dynamic_smem = 1024;
    bool ok = run_text(&r, header_100,
        ".extern .shared .align 1024 .b8 smem[];\n.shared .align 128 .b8 copy[128];\n.shared .align 8 .b64 bar;\n"
        ".entry k(.param .align 64 .b8 map[128], .param .u64 scratch, .param .u64 out) {\n"
        " .reg .pred %p<3>; .reg .b32 %r<6>; .reg .b64 %d<5>;\n mov.u32 %r0, %tid.x; setp.eq.u32 %p0, %r0, 0;\n"
        " mul.lo.u32 %r1, %r0, 4; mov.u32 %r2, copy; add.u32 %r2, %r2, %r1; cvt.u64.u32 %d0, %r1; mov.b64 %d1, map; cvta.param.u64 %d1, %d1;\n"
        " add.u64 %d1, %d1, %d0; ld.b32 %r3, [%d1]; st.shared.b32 [%r2], %r3; bar.sync 0;\n"
        " @%p0 tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [copy], 1, 20; bar.warp.sync 0xffffffff; ld.param.u64 %d2, [scratch];\n"
        " tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%d2], [copy], 128;\n"
        " fence.proxy.tensormap::generic.acquire.gpu [%d2], 128; setp.ne.u32 %p1, %r0, 0; @%p1 bra ready;\n"
        " mbarrier.init.shared::cta.b64 [bar], 1; fence.mbarrier_init.release.cluster;\n"
        " mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 512;\n"
        " cp.async.bulk.tensor.2d.shared::cta.global.tile::gather4.mbarrier::complete_tx::bytes [smem], [%d2, {0, 7, 3, 25, 0}], [bar];\n"
        "ready: bar.sync 0;\nw: mbarrier.try_wait.parity.shared::cta.b64 %p2, [bar], 0; @!%p2 bra w;\n"
        " shl.b32 %r4, %r0, 4; mov.u32 %r5, smem; add.u32 %r5, %r5, %r4; ld.shared.v2.b64 {%d3, %d4}, [%r5];\n"
        " ld.param.u64 %d2, [out]; cvt.u64.u32 %d0, %r4; add.u64 %d2, %d2, %d0; st.global.v2.b64 [%d2], {%d3, %d4}; ret; }\n");
    uint8_t got[512], zero[128] = {0};
    emu_read(r.e, out, got, sizeof got);
    claim(ok && !memcmp(got, t.data + 7 * 128, 128) && !memcmp(got + 128, t.data + 3 * 128, 128) && !memcmp(got + 256, zero, 128) &&
              !memcmp(got + 384, t.data, 128), "gather4 through an edited map %s", r.error);
    free(t.data);
    emu_close(r.e);
}

/* A map that a kernel edits: used without an acquire, and written again while a copy goes by it, it is a fault. */
static bool edited(struct run *r, const char *acquire, const char *again)
{
    struct tensor t = {.rank = 2, .dim = {64, 32}, .box = {64, 4}};
    char text[2048];
    make(&t);
    *r = run_open(EMU_SM90, EMU_LATE);
    uint64_t in = emu_alloc(r->e, t.bytes, "tensor");
    emu_write(r->e, in, t.data, t.bytes);
    free(t.data);
    encode(r, &t, in, 0, 1, 0);
    run_memory(r, NULL, 128, "scratch");
    r->launch.block[0] = 32;
    r->launch.dynamic_smem = 1024;
    snprintf(text, sizeof text,
        ".extern .shared .align 1024 .b8 smem[];\n.shared .align 128 .b8 copy[128];\n.shared .align 8 .b64 bar;\n"
        ".entry k(.param .align 64 .b8 map[128], .param .u64 scratch) {\n"
        " .reg .pred %%p<3>; .reg .b32 %%r<6>; .reg .b64 %%d<5>;\n mov.u32 %%r0, %%tid.x; setp.eq.u32 %%p0, %%r0, 0;\n"
        " mul.lo.u32 %%r1, %%r0, 4; mov.u32 %%r2, copy; add.u32 %%r2, %%r2, %%r1; cvt.u64.u32 %%d0, %%r1; mov.b64 %%d1, map; cvta.param.u64 %%d1, %%d1;\n"
        " add.u64 %%d1, %%d1, %%d0; ld.b32 %%r3, [%%d1]; st.shared.b32 [%%r2], %%r3; bar.warp.sync 0xffffffff; ld.param.u64 %%d2, [scratch];\n"
        " @%%p0 mbarrier.init.shared::cta.b64 [bar], 1; @%%p0 fence.mbarrier_init.release.cluster; bar.warp.sync 0xffffffff;\n"
        " tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%%d2], [copy], 128;\n %s\n"
        " @%%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 512;\n"
        " @%%p0 cp.async.bulk.tensor.2d.shared::cta.global.tile.mbarrier::complete_tx::bytes [smem], [%%d2, {0, 0}], [bar];\n %s\n"
        "w: mbarrier.try_wait.parity.shared::cta.b64 %%p2, [bar], 0; @!%%p2 bra w; %s ret; }\n",
        acquire, *again == '!' ? "" : again, *again == '!' ? again + 1 : "");
    return run_text(r, header_90, text);
}

static void test_edited(void)
{
    static const char acquire[] = "fence.proxy.tensormap::generic.acquire.gpu [%d2], 128;";
    static const char again[] = "!bar.warp.sync 0xffffffff; tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%d2], [copy], 128;";
    struct run r;
    bool ok = edited(&r, acquire, "");
    claim(ok, "an edited map, acquired: %s", r.error);
    emu_close(r.e);
    ok = edited(&r, "", "");
    claim(!ok && strstr(r.error, "no fence.proxy.tensormap::generic.acquire followed"), "an edited map, not acquired: %s", r.error);
    emu_close(r.e);
    ok = edited(&r, "fence.proxy.tensormap::generic.release.gpu;", "");
    claim(!ok && strstr(r.error, "no fence.proxy.tensormap::generic.acquire followed"), "an edited map, released only: %s", r.error);
    emu_close(r.e);
    ok = edited(&r, acquire, again + 1);
    claim(!ok && strstr(r.error, "is on its way"), "a map written while it is in use: %s", r.error);
    emu_close(r.e);
    ok = edited(&r, acquire, again);
    claim(ok, "a map written when its copy has landed: %s", r.error);
    emu_close(r.e);
}

/* One-dimensional copies: in, to the neighbour, out. Late timing must not change what comes out. */
static void test_bulk(void)
{
    for (int timing = 0; timing < 3; timing++) {
        struct run r = run_open(EMU_SM90, (enum emu_timing)timing);
        uint32_t in[64], got[64];
        for (uint32_t i = 0; i < 64; i++)
            in[i] = i * 3 + 1;
        run_memory(&r, in, sizeof in, "in");
        uint64_t out = run_memory(&r, NULL, sizeof got, "out");
        r.launch.grid[0] = r.launch.cluster[0] = 2;
        bool ok = run_text(&r, header_90,
            ".shared .align 16 .b8 a[128], b[128];\n.shared .align 8 .b64 bar[2];\n.entry k(.param .u64 in, .param .u64 out) {\n"
            " .reg .pred %p; .reg .b32 %r<6>; .reg .b64 %d<3>;\n mov.u32 %r0, %cluster_ctarank; xor.b32 %r1, %r0, 1; mov.u32 %r2, b; mov.u32 %r3, bar;\n"
            " mapa.shared::cluster.u32 %r4, %r2, %r1; mapa.shared::cluster.u32 %r5, %r3, %r1;\n"
            " mbarrier.init.shared::cta.b64 [bar], 1; mbarrier.init.shared::cta.b64 [bar+8], 1; fence.mbarrier_init.release.cluster;\n"
            " mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 128; mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar+8], 128;\n"
            " barrier.cluster.arrive; barrier.cluster.wait; ld.param.u64 %d0, [in]; ld.param.u64 %d1, [out]; mad.wide.u32 %d0, %r0, 128, %d0;\n"
            " mad.wide.u32 %d1, %r0, 128, %d1;\n"
            " cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [a], [%d0], 128, [bar+8];\n"
            "w: mbarrier.try_wait.parity.shared::cta.b64 %p, [bar+8], 0; @!%p bra w;\n"
            " cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r4], [a], 128, [%r5];\n"
            "v: mbarrier.try_wait.parity.shared::cta.b64 %p, [bar], 0; @!%p bra v;\n"
            " cp.async.bulk.global.shared::cta.bulk_group [%d1], [b], 128; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;\n"
            " barrier.cluster.arrive; barrier.cluster.wait; ret; }\n");
        emu_read(r.e, out, got, sizeof got);
        int bad = 0;
        for (uint32_t i = 0; i < 64; i++)
            bad += got[i] != in[i ^ 32];
        claim(ok && !bad, "bulk copies, %s: %d wrong %s", timing_names[timing], bad, r.error);
        emu_close(r.e);
    }
}

int main(void)
{
    test_loads();
    for (int t = 0; t < 3; t++) {
        store(t, false);
        store(t, true);
    }
    test_multicast();
    test_misuse();
    test_gather_and_replace();
    test_edited();
    test_bulk();
    test_proxy_fence();
    test_unwaited();
    test_init_fence();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
