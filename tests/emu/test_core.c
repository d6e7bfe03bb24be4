/* The emulator's machine: divergence, barriers, memory, clusters, and the reports of what went wrong. */
#include "tests/emu/run.h"

/* Every test runs with every timing where that could matter. */
static const char *const timing_names[] = {"early", "late", "seeded"};

/* The run must fail with a report that holds `want`. */
static void fails(struct run *r, const char *header, const char *body, const char *want, const char *what)
{
    bool ok = run_text(r, header, body);
    claim(!ok && strstr(r->error, want), "%s: wanted a report with '%s', got: %s", what, want, ok ? "success" : r->error);
    emu_close(r->e);
}

static void load_fails(const char *header, const char *body, const char *want)
{
    struct run r = run_open(EMU_SM90, EMU_EARLY);
    fails(&r, header, body, want, "load");
}

/* ---- parsing ---- */

static void test_parsing(void)
{
    load_fails(header_80, ".entry k() { .reg .b32 %r; add.u31 %r, %r, %r; ret; }", "4:28: error");
    load_fails(header_80, ".entry k() { foo.bar; }", "unknown instruction");
    load_fails(header_80, ".entry k() { .reg .b32 %r; mov.u32 %r, %q; }", "unknown register '%q'");
    load_fails(header_80, ".entry k() { .reg .b64 %r; add.u32 %r, %r, %r; }", "has 64 bits where 32 are wanted");
    load_fails(header_80, ".entry k() { .reg .b32 %r; add.u32 %r, %r; }", "operand 3 is missing");
    load_fails(header_80, ".entry k() { .reg .b32 %r; add.u32 %r, %r, %r, %r; }", "operand 4 is one too many");
    load_fails(header_80, ".entry k() { bra nowhere; }", "unknown label 'nowhere'");
    load_fails(header_80, ".entry k() { .reg .b32 %r; ld.global.L9::magic.u32 %r, [0]; }", "unknown or misplaced modifier");
    load_fails(header_80, ".entry k() { .reg .b32 %r, %r; }", "declared twice");
    load_fails(header_80, ".entry k() { bar.sync 16; }", "there are 0 to 15");
    load_fails(header_80, ".entry k() { wgmma.fence.sync.aligned; }", "not available on target sm_80");
    load_fails(".version 8.8\n.target sm_100a\n.address_size 64\n", ".entry k() { ret; }", "does not run on an sm_90 chip");
    load_fails(header_80, ".entry k() { .reg .f32 %f; add.f32 %f, %f, 1; }", "integer for a .f32 operand");
    load_fails(header_80, ".entry k() { .reg .f32 %f; add.rn.f32 %f, %f, 0f3F8000; }", "8 hexadecimal digits");
    load_fails(header_80, ".entry k() { .reg .b32 %r; mov.u32 %r, 99999999999999999999; }", "beyond 64 bits");
    load_fails(header_80, ".entry k() {", "'}' is missing");
    load_fails("", "", "expected .version");
    load_fails(header_80, "/* no end", "comment without end");
}

/* ---- control ---- */

/* Lanes take 0..31 turns; a value is summed per lane; inner scopes and labels may repeat names. */
static void test_divergence(void)
{
    for (int t = 0; t < 3; t++) {
        struct run r = run_open(EMU_SM90, (enum emu_timing)t);
        uint64_t out = run_memory(&r, NULL, 128, "out");
        uint32_t got[32];
        r.launch.block[0] = 32;
        bool ok = run_text(&r, header_80,
            ".entry k(.param .u64 out) {\n .reg .pred %p; .reg .b32 %r<4>; .reg .b64 %d<2>;\n"
            " mov.u32 %r0, %tid.x; mov.u32 %r1, 0; mov.u32 %r2, 0;\n"
            "loop: setp.ge.u32 %p, %r1, %r0; @%p bra done; add.u32 %r2, %r2, %r1; add.u32 %r1, %r1, 1; bra.uni loop;\n"
            "done: bar.warp.sync 0xffffffff; { .reg .b32 %r0; mov.u32 %r0, 1000; add.u32 %r2, %r2, %r0; }\n"
            " { bra over; over: { bra.uni over2; over2: } }\n"
            " shfl.sync.idx.b32 %r3, %r2, 31, 31, 0xffffffff; sub.u32 %r2, %r3, %r2;\n"
            " ld.param.u64 %d0, [out]; mad.wide.u32 %d1, %r0, 4, %d0; st.global.u32 [%d1], %r2; ret; }\n");
        emu_read(r.e, out, got, 128);
        int bad = 0;
        for (uint32_t i = 0; ok && i < 32; i++)
            bad += got[i] != 31 * 30 / 2 - i * (i - (i > 0)) / 2;
        claim(ok && !bad, "divergence, %s: %d wrong, %s", timing_names[t], bad, r.error);
        emu_close(r.e);
    }
}

/* Lane 0 spins on a flag in shared memory that lane 1 sets later in program order: independent progress. */
static void test_spin_within_warp(void)
{
    struct run r = run_open(EMU_SM90, EMU_EARLY);
    r.launch.block[0] = 32;
    bool ok = run_text(&r, header_80,
        ".shared .u32 flag;\n.entry k() {\n .reg .pred %p, %q; .reg .b32 %r<3>;\n"
        " mov.u32 %r0, %laneid; setp.eq.u32 %p, %r0, 0; @%p st.shared.u32 [flag], 0; bar.warp.sync 0xffffffff; @!%p bra set;\n"
        "spin: ld.volatile.shared.u32 %r1, [flag]; setp.eq.u32 %q, %r1, 0; @%q bra spin; bra done;\n"
        "set: st.volatile.shared.u32 [flag], 1;\ndone: ret; }\n");
    claim(ok, "a spinning lane lets the others run: %s", r.error);
    emu_close(r.e);
}

static void test_brx(void)
{
    struct run r = run_open(EMU_SM90, EMU_EARLY);
    uint32_t got[32];
    uint64_t out = run_memory(&r, NULL, 128, "out");
    r.launch.block[0] = 32;
    bool ok = run_text(&r, header_80,
        ".entry k(.param .u64 out) {\n .reg .b32 %r<3>; .reg .b64 %d;\n mov.u32 %r0, %laneid; and.b32 %r1, %r0, 3;\n"
        "ts: .branchtargets L0, L1, L2, L1;\n brx.idx %r1, ts;\nL0: mov.u32 %r2, 100; bra out_;\nL1: mov.u32 %r2, 200; bra out_;\n"
        "L2: mov.u32 %r2, 300;\nout_: ld.param.u64 %d, [out]; mad.wide.u32 %d, %r0, 4, %d; st.global.u32 [%d], %r2; }\n");
    emu_read(r.e, out, got, 128);
    int bad = 0;
    static const uint32_t want[] = {100, 200, 300, 200};
    for (int i = 0; i < 32; i++)
        bad += got[i] != want[i & 3];
    claim(ok && !bad, "brx.idx: %d wrong %s", bad, r.error);
    emu_close(r.e);
}

/* Functions are read in at their calls; recursion is refused, an assertion that failed is a fault. */
static void test_calls(void)
{
    struct run r = run_open(EMU_SM90, EMU_EARLY);
    uint32_t got[32];
    uint64_t out = run_memory(&r, NULL, 128, "out");
    r.launch.block[0] = 32;
    bool ok = run_text(&r, header_80,
        ".func (.param .b32 res) twice(.param .b32 a);\n.entry k(.param .u64 out) {\n .reg .pred %p; .reg .b32 %r<4>; .reg .b64 %d;\n"
        " mov.u32 %r0, %laneid; mov.u32 %r2, 7; setp.gt.u32 %p, %r0, 9;\n"
        " { .param .b32 x; .param .b32 y; st.param.b32 [x], %r0; call.uni (y), twice, (x); ld.param.b32 %r1, [y]; }\n"
        " { .param .b32 x; .param .b32 y; st.param.b32 [x], %r1; st.param.b32 [y], 5; @%p call (y), twice, (x); ld.param.b32 %r2, [y]; }\n"
        " ld.param.u64 %d, [out]; mad.wide.u32 %d, %r0, 4, %d; st.global.u32 [%d], %r2; ret; }\n"
        ".func (.param .b32 res) twice(.param .b32 a) {\n .reg .pred %p; .reg .b32 %r0; ld.param.b32 %r0, [a]; setp.gt.u32 %p, %r0, 40;\n"
        " st.param.b32 [res], %r0; @%p ret; add.u32 %r0, %r0, %r0; st.param.b32 [res], %r0; ret; }\n");
    emu_read(r.e, out, got, 128);
    int bad = 0;
    for (uint32_t i = 0; i < 32; i++) {
        uint32_t once = i * 2, want = i > 9 ? (once > 40 ? once : once * 2) : 5;
        bad += got[i] != want;
    }
    claim(ok && !bad, "calls: %d wrong %s", bad, r.error);
    emu_close(r.e);
    load_fails(header_80, ".func f() { call f; ret; }\n.entry k() { call f; ret; }", "nested too deeply");
    load_fails(header_80, ".extern .func f();\n.entry k() { call f; ret; }", "does not define this function");
    r = run_open(EMU_SM90, EMU_EARLY);
    fails(&r, header_80, ".extern .func __assertfail();\n.entry k() { call __assertfail; ret; }", "assertion of the kernel's source failed", "assert");
}

/* ---- barriers ---- */

/* Two warps of four talk through barriers 1 (arrive and sync) and 2; bar.red counts. */
static void test_named_barriers(void)
{
    for (int t = 0; t < 3; t++) {
        struct run r = run_open(EMU_SM90, (enum emu_timing)t);
        uint32_t got[2];
        uint64_t out = run_memory(&r, NULL, 8, "out");
        r.launch.block[0] = 128;
        bool ok = run_text(&r, header_80,
            ".shared .u32 x;\n.entry k(.param .u64 out) {\n .reg .pred %p<4>; .reg .b32 %r<5>; .reg .b64 %d;\n"
            " mov.u32 %r0, %tid.x; shr.u32 %r1, %r0, 5; setp.eq.u32 %p0, %r1, 0; setp.eq.u32 %p1, %r1, 3; setp.eq.u32 %p2, %r0, 96;\n"
            " @%p0 bra first; @%p1 bra last; bra join;\n"
            "first: bar.sync 1, 64; bra join;\n"
            "last: @%p2 st.shared.u32 [x], 77; bar.arrive 1, 64;\n"
            "join: setp.lt.u32 %p3, %r0, 50; bar.red.popc.u32 %r2, 0, %p3; ld.param.u64 %d, [out]; setp.eq.u32 %p0, %r0, 0;\n"
            " @%p0 ld.shared.u32 %r3, [x]; @%p0 st.global.u32 [%d], %r2; @%p0 st.global.u32 [%d+4], %r3; ret; }\n");
        emu_read(r.e, out, got, 8);
        claim(ok && got[0] == 50 && got[1] == 77, "named barriers, %s: %u %u %s", timing_names[t], got[0], got[1], r.error);
        emu_close(r.e);
    }
    struct run r = run_open(EMU_SM90, EMU_EARLY);
    r.launch.block[0] = 64;
    fails(&r, header_80, ".entry k() { .reg .pred %p; .reg .b32 %r; mov.u32 %r, %tid.x; setp.lt.u32 %p, %r, 32; @%p bar.sync 3, 64; }",
          "waits at barrier 3: 32 of 64 threads have come", "a barrier nobody else comes to");
    r = run_open(EMU_SM90, EMU_EARLY);
    r.launch.block[0] = 32;
    fails(&r, header_80, ".entry k() { .reg .pred %p; .reg .b32 %r; mov.u32 %r, %tid.x; setp.lt.u32 %p, %r, 16; @%p bar.sync 0; }",
          "differs among the warp's lanes", "a divergent .aligned instruction");
}

/* A ring of mbarriers between a producing and a consuming warp; phases wrap often. */
static void test_mbarrier_ring(void)
{
    for (int t = 0; t < 3; t++) {
        struct run r = run_open(EMU_SM90, (enum emu_timing)t);
        uint32_t got = 0;
        uint64_t out = run_memory(&r, NULL, 4, "out");
        r.launch.block[0] = 64;
        bool ok = run_text(&r, header_90,
            ".shared .align 8 .b64 full[2], empty[2];\n.shared .u32 slot[2];\n.entry k(.param .u64 out) {\n"
            " .reg .pred %p<4>; .reg .b32 %r<9>; .reg .b64 %d;\n"
            " mov.u32 %r0, %tid.x; setp.ne.u32 %p0, %r0, 0; @%p0 bra ready;\n"
            " mbarrier.init.shared::cta.b64 [full], 1; mbarrier.init.shared::cta.b64 [full+8], 1;\n"
            " mbarrier.init.shared::cta.b64 [empty], 32; mbarrier.init.shared::cta.b64 [empty+8], 32;\n"
            "ready: bar.sync 0; mov.u32 %r1, 0; mov.u32 %r2, 0; setp.ge.u32 %p1, %r0, 32;\n"
            "loop: and.b32 %r3, %r1, 1; shr.u32 %r4, %r1, 1; and.b32 %r4, %r4, 1; mov.u32 %r5, full; mov.u32 %r6, slot;\n"
            " shl.b32 %r7, %r3, 3; add.u32 %r5, %r5, %r7; mov.u32 %r8, empty; add.u32 %r8, %r8, %r7;\n"
            " shl.b32 %r7, %r3, 2; add.u32 %r6, %r6, %r7; @%p1 bra consume;\n"
            " xor.b32 %r4, %r4, 1;\nw0: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r8], %r4; @!%p2 bra w0;\n"
            " setp.eq.u32 %p3, %r0, 0; @%p3 st.shared.u32 [%r6], %r1; @%p3 mbarrier.arrive.shared::cta.b64 _, [%r5]; bra next;\n"
            "consume:\nw1: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r5], %r4; @!%p2 bra w1;\n"
            " ld.shared.u32 %r7, [%r6]; mad.lo.u32 %r2, %r2, 3, %r7; mbarrier.arrive.shared::cta.b64 _, [%r8];\n"
            "next: add.u32 %r1, %r1, 1; setp.lt.u32 %p2, %r1, 20; @%p2 bra loop;\n"
            " setp.eq.u32 %p3, %r0, 63; ld.param.u64 %d, [out]; @%p3 st.global.u32 [%d], %r2; ret; }\n");
        uint32_t want = 0;
        for (uint32_t i = 0; i < 20; i++)
            want = want * 3 + i;
        emu_read(r.e, out, &got, 4);
        claim(ok && got == want, "mbarrier ring, %s: %u, wanted %u %s", timing_names[t], got, want, r.error);
        emu_close(r.e);
    }
}

#define MBAR(body) ".shared .align 8 .b64 bar;\n.entry k() { .reg .pred %p; .reg .b32 %r; .reg .b64 %d;\n" body "}\n"

static void test_mbarrier_misuse(void)
{
    static const struct { const char *body, *want; } rows[] = {
        {MBAR("mbarrier.arrive.shared::cta.b64 _, [bar];"), "no initialised mbarrier"},
        {MBAR("mbarrier.init.shared::cta.b64 [bar], 0;"), "count must be 1 to"},
        {MBAR("mbarrier.init.shared::cta.b64 [bar], 1; mbarrier.init.shared::cta.b64 [bar], 1;"), "initialised while it lives"},
        {MBAR("mbarrier.init.shared::cta.b64 [bar], 2; mbarrier.arrive.shared::cta.b64 _, [bar], 3;"), "expects 2 more"},
        {MBAR("mbarrier.init.shared::cta.b64 [bar], 1; ld.shared.b64 %d, [bar];"), "holds a live mbarrier"},
        {MBAR("mbarrier.init.shared::cta.b64 [bar+4], 1;"), "not a multiple of 8"},
        {MBAR("mbarrier.init.shared::cta.b64 [bar], 1; mbarrier.inval.shared::cta.b64 [bar];"
              "mbarrier.test_wait.parity.shared::cta.b64 %p, [bar], 0;"), "no initialised mbarrier"},
        {MBAR("mbarrier.init.shared::cta.b64 [bar], 1; mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 1048575;"
              "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 1;"), "at most 1048575"},
        {MBAR("mbarrier.init.shared::cta.b64 [bar], 3; mbarrier.arrive.shared::cta.b64 _, [bar];\n"
              "w: mbarrier.try_wait.parity.shared::cta.b64 %p, [bar], 0; @!%p bra w;"), "2 of 3 arrivals missing"},
        {MBAR("mbarrier.init.shared::cta.b64 [bar], 1; mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 4096;\n"
              "w: mbarrier.try_wait.parity.shared::cta.b64 %p, [bar], 0; @!%p bra w;"), "4096 bytes missing"},
    };
    for (int i = 0; i < COUNT(rows); i++) {
        struct run r = run_open(EMU_SM90, EMU_EARLY);
        fails(&r, header_90, rows[i].body, rows[i].want, "mbarrier");
    }
}

/* ---- memory ---- */

static void test_memory_faults(void)
{
    static const struct { const char *body, *want; } rows[] = {
        {".entry k(.param .u64 a) { .reg .b32 %r; .reg .b64 %d; ld.param.u64 %d, [a]; ld.global.u32 %r, [%d+64]; }",
         "byte 64 of 'a', which has 64"},
        {".entry k(.param .u64 a) { .reg .b32 %r; .reg .b64 %d; ld.param.u64 %d, [a]; ld.global.u32 %r, [%d+-4]; }", "byte -4 of 'a'"},
        {".entry k(.param .u64 a) { .reg .b32 %r; .reg .b64 %d; ld.param.u64 %d, [a]; ld.global.u32 %r, [%d+2]; }", "misaligned"},
        {".entry k(.param .u64 a) { .reg .b32 %r; ld.global.u32 %r, [0]; }", "out of bounds"},
        {".entry k(.param .u64 a) { .reg .b32 %r; ld.param.u32 %r, [a+8]; }", "of the parameters, which have 8"},
        {".shared .u32 s[4];\n.entry k(.param .u64 a) { st.shared.u32 [s+16], 1; }", "byte 16 of 's'"},
        {".shared .u32 s[4];\n.entry k(.param .u64 a) { .reg .b32 %r; ld.shared.u32 %r, [s+4]; }", "never written"},
        {".entry k(.param .u64 a) { .reg .b64 %d, %e; mov.b64 %d, a; cvta.param.u64 %d, %d; st.u32 [%d], 0; }", "kernel's parameters"},
        {".entry k(.param .u64 a) { trap; }", "trap"},
        {".file 1 \"x.src\"\n.entry k(.param .u64 a) {\n.loc 1 42 7\n trap; }", "source: x.src:42"},
    };
    for (int i = 0; i < COUNT(rows); i++) {
        struct run r = run_open(EMU_SM90, EMU_EARLY);
        uint8_t zero[64] = {0};
        run_memory(&r, zero, 64, "a");
        fails(&r, header_90, rows[i].body, rows[i].want, "memory");
    }
    struct run r = run_open(EMU_SM90, EMU_EARLY);
    run_memory(&r, NULL, 64, "fresh");
    fails(&r, header_90, ".entry k(.param .u64 a) { .reg .b32 %r; .reg .b64 %d; ld.param.u64 %d, [a]; ld.global.u32 %r, [%d+8]; }",
          "byte 8 of 'fresh', which was never written", "memory");
}

/* Bytes, halves, vectors, generic and local addresses, module variables. */
static void test_memory_widths(void)
{
    struct run r = run_open(EMU_SM90, EMU_EARLY);
    uint8_t in[32];
    uint32_t got[12];
    for (int i = 0; i < 32; i++)
        in[i] = (uint8_t)(0x80 + i);
    run_memory(&r, in, 32, "in");
    uint64_t out = run_memory(&r, NULL, 48, "out");
    bool ok = run_text(&r, header_80,
        ".const .align 4 .u32 table[3] = {5, 6, 7};\n.global .align 8 .f32 g[2] = {1.5, 0f40000000};\n.shared .align 16 .b8 s[32];\n"
        ".entry k(.param .u64 a, .param .u64 b) {\n .local .align 8 .b8 stack[16];\n .reg .b16 %h<4>; .reg .b32 %r<12>; .reg .b64 %d<6>;\n"
        " ld.param.u64 %d0, [a]; ld.param.u64 %d1, [b];\n"
        " ld.global.s8 %r0, [%d0+1]; ld.global.u8 %r1, [%d0+1]; ld.global.u16 %h0, [%d0+2]; cvt.u32.u16 %r2, %h0;\n"
        " ld.global.v4.u8 {%h0, %h1, %h2, %h3}, [%d0+4]; cvt.u32.u16 %r3, %h3;\n"
        " ld.global.v2.b64 {%d2, %d3}, [%d0+16]; st.shared.v2.b64 [s+16], {%d2, %d3}; mov.u64 %d4, s; cvta.shared.u64 %d4, %d4;\n"
        " ld.u32 %r4, [%d4+20]; ld.const.u32 %r5, [table+8]; ld.global.u32 %r6, [g+4];\n"
        " mov.u64 %d5, stack; cvta.local.u64 %d5, %d5; st.u32 [%d5+4], 99; ld.local.u32 %r7, [stack+4];\n"
        " mov.b64 {%r8, %r9}, %d2; mov.b64 %d2, {%r9, %r8}; cvt.u32.u64 %r10, %d2; mov.u32 %r11, table;\n"
        " st.global.v4.u32 [%d1], {%r0, %r1, %r2, %r3}; st.global.v4.u32 [%d1+16], {%r4, %r5, %r6, %r7};\n"
        " st.global.v4.u32 [%d1+32], {%r8, %r9, %r10, %r7}; ret; }\n");
    static const uint32_t want[12] = {0xFFFFFF81, 0x81, 0x8382, 0x87, 0x97969594, 7, 0x40000000, 99, 0x93929190, 0x97969594, 0x97969594, 99};
    emu_read(r.e, out, got, 48);
    for (int i = 0; i < 12; i++)
        claim(ok && got[i] == want[i], "memory widths: word %d is %08x, wanted %08x %s", i, got[i], want[i], r.error);
    emu_close(r.e);
}

/* Many blocks add to one word and take tickets; host threads run side by side. */
static void test_atomics(void)
{
    struct run r = run_open(EMU_SM90, EMU_EARLY);
    uint32_t zero[4] = {0}, got[4];
    uint64_t out = run_memory(&r, zero, 16, "out");
    r.launch.grid[0] = 50;
    r.launch.block[0] = 128;
    bool ok = run_text(&r, header_80,
        ".entry k(.param .u64 out) {\n .reg .pred %p; .reg .b32 %r<4>; .reg .b64 %d;\n ld.param.u64 %d, [out]; mov.u32 %r0, %tid.x;\n"
        " atom.global.add.u32 %r1, [%d], 1; red.global.max.u32 [%d+4], %r1; atom.global.inc.u32 %r2, [%d+8], 9;\n"
        "again: atom.global.cas.b32 %r3, [%d+12], 0, 1; setp.ne.u32 %p, %r3, 0; @%p bra again; atom.global.exch.b32 %r3, [%d+12], 0; ret; }\n");
    emu_read(r.e, out, got, 16);
    claim(ok && got[0] == 6400 && got[1] == 6399 && got[2] == 6400 % 10 && !got[3], "atomics: %u %u %u %u %s", got[0], got[1], got[2],
          got[3], r.error);
    emu_close(r.e);
}

/* ---- cp.async ---- */

/* Without the wait, late timing shows the poison; with it, every timing gives the data. */
static void test_cp_async(void)
{
    uint32_t in[64], got[64];
    for (uint32_t i = 0; i < 64; i++)
        in[i] = i * i;
    for (int t = 0; t < 3; t++)
        for (int wait = 0; wait < 2; wait++) {
            struct run r = run_open(EMU_SM90, (enum emu_timing)t);
            run_memory(&r, in, sizeof in, "in");
            uint64_t out = run_memory(&r, NULL, sizeof got, "out");
            struct buf b = {0};
            buf_printf(&b, ".shared .align 16 .b8 s[256];\n.entry k(.param .u64 in, .param .u64 out) {\n .reg .pred %%p; .reg .b32 %%r<8>; .reg .b64 %%d<4>;\n"
                           " mov.u32 %%r0, %%tid.x; mov.u32 %%r1, s; shl.b32 %%r2, %%r0, 4; add.u32 %%r1, %%r1, %%r2; cvt.u64.u32 %%d2, %%r2;\n"
                           " ld.param.u64 %%d0, [in]; ld.param.u64 %%d1, [out]; add.u64 %%d0, %%d0, %%d2; add.u64 %%d1, %%d1, %%d2;\n"
                           " mov.u32 %%r3, 16; setp.eq.u32 %%p, %%r0, 15; @%%p mov.u32 %%r3, 8;\n"
                           " cp.async.cg.shared.global [%%r1], [%%d0], 16, %%r3; cp.async.commit_group; %s\n"
                           " ld.shared.v4.u32 {%%r4, %%r5, %%r6, %%r7}, [%%r1]; st.global.v4.u32 [%%d1], {%%r4, %%r5, %%r6, %%r7}; ret; }\n",
                       wait ? "cp.async.wait_group 0;" : "");
            r.launch.block[0] = 16;
            bool ok = run_text(&r, header_80, b.at);
            emu_read(r.e, out, got, sizeof got);
            int bad = 0;
            for (uint32_t i = 0; i < 64; i++)
                bad += got[i] != (i < 62 ? in[i] : 0);
            if (wait || t != EMU_SEEDED)
                claim(ok && (bad == 0) == (wait || t == EMU_EARLY), "cp.async, %s, %s wait: %d wrong %s", timing_names[t],
                      wait ? "with" : "without", bad, r.error);
            buf_free(&b);
            emu_close(r.e);
        }
}

/* ---- races ---- */

/* Two warps share a word; what orders them decides. The first stores, the second loads or stores. */
static void test_races(void)
{
    static const struct { const char *first, *between_first, *between_second, *second; bool ok; } rows[] = {
        {"st.shared.u32 [x], 1;", "", "", "ld.shared.u32 %r1, [x];", false},
        {"st.shared.u32 [x], 1;", "bar.sync 0;", "bar.sync 0;", "ld.shared.u32 %r1, [x];", true},
        {"st.shared.u32 [x], 1;", "bar.arrive 1, 64;", "bar.sync 1, 64;", "ld.shared.u32 %r1, [x];", true},
        {"st.shared.u32 [x], 1;", "bar.sync 1, 32;", "bar.sync 2, 32;", "ld.shared.u32 %r1, [x];", false},
        {"ld.shared.u32 %r1, [x];", "", "", "st.shared.u32 [x], 2;", false},
        {"ld.shared.u32 %r1, [x];", "bar.sync 0;", "bar.sync 0;", "st.shared.u32 [x], 2;", true},
        {"st.shared.u32 [x], 1;", "", "", "st.shared.u32 [x], 1;", true}, /* the same value */
        {"st.shared.u32 [x], 1;", "", "", "st.shared.u32 [x], 2;", false},
        {"st.shared.u8 [x], 1;", "", "", "st.shared.u8 [x+1], 2;", true}, /* other bytes */
        {"red.shared.add.u32 [x], 1;", "", "", "red.shared.add.u32 [x], 2;", true},
        {"st.volatile.shared.u32 [x], 1;", "", "", "ld.volatile.shared.u32 %r1, [x];", true},
        {"@%p mbarrier.init.shared.b64 [bar+8], 32;", "", "mbarrier.arrive.shared.b64 _, [bar+8];", "", false},
        {"@%p mbarrier.init.shared.b64 [bar+8], 32;", "bar.sync 0;", "bar.sync 0;", "mbarrier.arrive.shared.b64 _, [bar+8];", true},
        {"st.shared.u32 [x], 1;", "mbarrier.arrive.shared.b64 _, [bar];",
         "w: mbarrier.test_wait.parity.shared.b64 %p, [bar], 0; @!%p bra w;", "ld.shared.u32 %r1, [x];", true},
    };
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < COUNT(rows); i++) {
            struct run r = run_open(EMU_SM90, (enum emu_timing)t);
            struct buf b = {0};
            r.launch.block[0] = 64;
            buf_printf(&b, ".shared .align 8 .b64 bar[2];\n.shared .u32 x;\n.entry k() {\n .reg .pred %%p, %%q; .reg .b32 %%r<2>;\n"
                           " mov.u32 %%r0, %%tid.x; setp.eq.u32 %%p, %%r0, 0; @%%p mbarrier.init.shared.b64 [bar], 32; @%%p st.shared.u32 [x], 9;\n"
                           " bar.sync 0; setp.ge.u32 %%q, %%r0, 32; @%%q bra second;\n %s %s ret;\nsecond: %s %s ret; }\n",
                       rows[i].first, rows[i].between_first, rows[i].between_second, rows[i].second);
            bool ok = run_text(&r, header_80, b.at);
            claim(ok == rows[i].ok && (ok || strstr(r.error, "race: ") || strstr(r.error, "no initialised")), "race %d, %s: %s", i, timing_names[t], ok ? "ran" : r.error);
            buf_free(&b);
            emu_close(r.e);
        }
}

/* ---- clusters ---- */

/* Each block adds its rank to its neighbour's word through shared::cluster memory and signals a remote mbarrier. */
static void test_cluster(void)
{
    for (int t = 0; t < 3; t++) {
        struct run r = run_open(EMU_SM90, (enum emu_timing)t);
        uint32_t got[16];
        uint64_t out = run_memory(&r, NULL, 64, "out");
        r.launch.grid[0] = 16;
        r.launch.cluster[0] = 4;
        r.launch.block[0] = 32;
        bool ok = run_text(&r, header_90,
            ".shared .align 8 .b64 bar;\n.shared .u32 word;\n.entry k(.param .u64 out) {\n .reg .pred %p<2>; .reg .b32 %r<8>; .reg .b64 %d;\n"
            " mov.u32 %r0, %tid.x; setp.eq.u32 %p0, %r0, 0; mov.u32 %r1, %cluster_ctarank;\n"
            " @%p0 mbarrier.init.shared::cta.b64 [bar], 1; @%p0 st.shared.u32 [word], 100; fence.mbarrier_init.release.cluster;\n"
            " barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;\n"
            " add.u32 %r2, %r1, 1; and.b32 %r2, %r2, 3; mov.u32 %r3, word; mov.u32 %r4, bar;\n"
            " mapa.shared::cluster.u32 %r5, %r3, %r2; mapa.shared::cluster.u32 %r6, %r4, %r2;\n"
            " @%p0 atom.shared::cluster.add.u32 %r7, [%r5], %r1; @%p0 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r6];\n"
            "w: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p1, [bar], 0; @!%p1 bra w;\n"
            " ld.shared.u32 %r7, [word]; mov.u32 %r2, %ctaid.x; ld.param.u64 %d, [out]; mad.wide.u32 %d, %r2, 4, %d;\n"
            " @%p0 st.global.u32 [%d], %r7; barrier.cluster.arrive; barrier.cluster.wait; ret; }\n");
        emu_read(r.e, out, got, 64);
        int bad = 0;
        for (uint32_t i = 0; i < 16; i++)
            bad += got[i] != 100 + (i + 3) % 4;
        claim(ok && !bad, "cluster, %s: %d wrong %s", timing_names[t], bad, r.error);
        emu_close(r.e);
    }
    struct run r = run_open(EMU_SM90, EMU_EARLY);
    r.launch.grid[0] = 6;
    r.launch.cluster[0] = 4;
    fails(&r, header_90, ".entry k() { ret; }", "does not divide into clusters", "cluster");
}

/* Blocks take over others: each block of the grid is done exactly once, whoever does it. */
static void test_launch_control(void)
{
    for (int t = 0; t < 3; t++) {
        struct run r = run_open(EMU_SM100, (enum emu_timing)t);
        uint32_t zero[40] = {0}, got[40];
        uint64_t out = run_memory(&r, zero, sizeof zero, "out");
        r.launch.grid[0] = 10;
        r.launch.grid[1] = 4;
        bool ok = run_text(&r, header_100,
            ".shared .align 16 .b8 answer[16];\n.shared .align 8 .b64 bar;\n.entry k(.param .u64 out) {\n .reg .pred %p; .reg .b32 %r<8>; .reg .b64 %d<2>; .reg .b128 %w;\n"
            " mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ctaid.y; mov.u32 %r5, 0; ld.param.u64 %d0, [out]; mbarrier.init.shared::cta.b64 [bar], 1; fence.mbarrier_init.release.cluster;\n"
            "loop: mad.lo.u32 %r2, %r1, 10, %r0; mad.wide.u32 %d1, %r2, 4, %d0; red.global.add.u32 [%d1], 1;\n"
            " mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 16;\n"
            " clusterlaunchcontrol.try_cancel.async.shared::cta.mbarrier::complete_tx::bytes.b128 [answer], [bar];\n"
            "w: mbarrier.try_wait.parity.shared::cta.b64 %p, [bar], %r5; @!%p bra w; xor.b32 %r5, %r5, 1; ld.shared.b128 %w, [answer];\n"
            " clusterlaunchcontrol.query_cancel.is_canceled.pred.b128 %p, %w; @!%p ret;\n"
            " clusterlaunchcontrol.query_cancel.get_first_ctaid.v4.b32.b128 {%r0, %r1, %r4, _}, %w; fence.proxy.async.shared::cta; bra loop; }\n");
        emu_read(r.e, out, got, sizeof got);
        int bad = 0;
        for (int i = 0; i < 40; i++)
            bad += got[i] != 1;
        claim(ok && !bad, "cluster launch control, %s: %d wrong %s", timing_names[t], bad, r.error);
        emu_close(r.e);
    }
}

/* ---- deadlocks and endless loops end ---- */

static void test_endless(void)
{
    struct run r = {.e = emu_open(&(struct emu_config){.chip = EMU_SM90, .step_limit = 100000})};
    fails(&r, header_80, ".entry k() { l: bra l; }", "step limit reached", "endless loop");
    r = run_open(EMU_SM90, EMU_EARLY);
    r.launch.block[0] = 64;
    fails(&r, header_80,
          ".entry k() { .reg .pred %p; .reg .b32 %r; mov.u32 %r, %tid.x; setp.lt.u32 %p, %r, 32; @%p bra a; bar.sync 1, 64; ret;\n"
          "a: bar.sync 2, 64; ret; }", "waits at barrier 1", "crossed barriers");
}

int main(void)
{
    test_parsing();
    test_divergence();
    test_spin_within_warp();
    test_brx();
    test_calls();
    test_named_barriers();
    test_mbarrier_ring();
    test_mbarrier_misuse();
    test_memory_faults();
    test_memory_widths();
    test_atomics();
    test_cp_async();
    test_races();
    test_cluster();
    test_launch_control();
    test_endless();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
