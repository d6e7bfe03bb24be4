/* Scalar and packed arithmetic, integer operations and reductions, through PTX, against results recorded on an H200. */
#include "runtime/emu/emu.h"
#include "tests/emu/hw.h"

#include <string.h>

static int passed, failed;
static const char *folder;

/* One kernel: d[i] = INSTRUCTION(a[i], b[i], c[i]) for elements of `bytes` bytes. */
static char *kernel_text(const char *insn, int bytes, const char *reg)
{
    struct buf b = {0};
    const char *load = bytes == 2 ? "b16" : "b32";
    buf_printf(&b, ".version 8.8\n.target sm_90\n.address_size 64\n"
                   ".visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 pd)\n{\n"
                   "    .reg .%s %%a, %%b, %%c, %%d;\n    .reg .b64 %%p<5>;\n    .reg .b32 %%t<4>;\n"
                   "    mov.u32 %%t0, %%tid.x;\n    mov.u32 %%t1, %%ctaid.x;\n    mad.lo.u32 %%t0, %%t1, 256, %%t0;\n", reg);
    static const char names[] = "abcd";
    for (int i = 0; i < 4; i++)
        buf_printf(&b, "    ld.param.u64 %%p%d, [p%c];\n    mad.wide.u32 %%p%d, %%t0, %d, %%p%d;\n", i, names[i], i, bytes, i);
    for (int i = 0; i < 3; i++)
        buf_printf(&b, "    ld.global.%s %%%c, [%%p%d];\n", load, names[i], i);
    buf_printf(&b, "    %s;\n    st.global.%s [%%p3], %%d;\n    ret;\n}\n", insn, load);
    return b.at;
}

static uint64_t put(struct emu *e, const void *data, size_t n, const char *name)
{
    uint64_t a = emu_alloc(e, n, name);
    emu_write(e, a, data, n);
    return a;
}

static void count(const char *what, const uint8_t *got, const uint8_t *want, size_t n, size_t bytes)
{
    int bad = 0;
    for (size_t i = 0; i < n; i += bytes)
        if (memcmp(got + i, want + i, bytes) && bad++ < 2) {
            uint32_t g = 0, w = 0;
            memcpy(&g, got + i, bytes);
            memcpy(&w, want + i, bytes);
            printf("%s: element %zu is %08x, the GPU gave %08x\n", what, i / bytes, g, w);
        }
    if (bad)
        printf("%s: %d differ\n", what, bad);
    passed += !bad;
    failed += bad != 0;
}

static bool run(struct emu *e, const char *text, const void *params, size_t bytes, uint32_t blocks, const char *what)
{
    struct emu_module *m = emu_load(e, text, strlen(text));
    struct emu_launch l = {.grid = {blocks}, .block = {256}, .params = params, .param_bytes = bytes};
    bool ok = m && emu_run(e, m, &l, NULL);
    if (!ok) {
        printf("%s: %s\n", what, emu_error(e));
        failed++;
    }
    emu_unload(e, m);
    return ok;
}

static void check(struct emu *e, const char *input, const char *output, const char *insn, int bytes, const char *reg)
{
    size_t n, m;
    char path[128];
    uint8_t *in = hw_load(folder, input, &n);
    snprintf(path, sizeof path, "arith/%s.bin", output);
    uint8_t *want = hw_load(folder, path, &m), *got = malloc(m);
    size_t third = n / 3;
    struct { uint64_t a, b, c, d; } p = {put(e, in, third, "a"), put(e, in + third, third, "b"), put(e, in + 2 * third, third, "c"),
                                         emu_alloc(e, m, "d")};
    char *text = kernel_text(insn, bytes, reg);
    if (run(e, text, &p, sizeof p, (uint32_t)(m / (size_t)bytes / 256), output) && emu_read(e, p.d, got, m))
        count(output, got, want, m, (size_t)bytes);
    free(text);
    emu_free(e, p.a), emu_free(e, p.b), emu_free(e, p.c), emu_free(e, p.d);
    free(in), free(want), free(got);
}

/* Reductions: memory before, operand, memory after. `vector` elements an instruction. */
static void check_red(struct emu *e, const char *name, const char *insn, int vector, bool shared)
{
    size_t n;
    char path[128];
    struct buf b = {0};
    snprintf(path, sizeof path, "arith/%s.bin", name);
    uint8_t *data = hw_load(folder, path, &n), *got = malloc(n / 3);
    size_t third = n / 3;
    struct { uint64_t m, v; } p = {put(e, data, third, "memory"), put(e, data + third, third, "operand")};
    static const char *const loads[] = {"", "ld.global.b32 %r0, [%q1]", "ld.global.v2.b32 {%r0, %r1}, [%q1]", "",
                                        "ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%q1]"};
    buf_printf(&b, ".version 8.8\n.target sm_90\n.address_size 64\n.shared .align 16 .b8 s[1024];\n"
                   ".visible .entry k(.param .u64 pm, .param .u64 pv)\n{\n    .reg .b32 %%r<4>, %%t<4>;\n    .reg .b64 %%q<2>;\n"
                   "    mov.u32 %%t0, %%tid.x;\n    mov.u32 %%t1, %%ctaid.x;\n    mad.lo.u32 %%t0, %%t1, 256, %%t0;\n"
                   "    mov.u32 %%t2, s;\n    mov.u32 %%t3, %%tid.x;\n    mad.lo.u32 %%t2, %%t3, 4, %%t2;\n"
                   "    ld.param.u64 %%q0, [pm];\n    ld.param.u64 %%q1, [pv];\n"
                   "    mad.wide.u32 %%q0, %%t0, %d, %%q0;\n    mad.wide.u32 %%q1, %%t0, %d, %%q1;\n    %s;\n",
               4 * vector, 4 * vector, loads[vector]);
    if (shared)
        buf_printf(&b, "    ld.global.b32 %%r1, [%%q0];\n    st.shared.b32 [%%t2], %%r1;\n");
    buf_printf(&b, "    %s;\n", insn);
    if (shared)
        buf_printf(&b, "    ld.shared.b32 %%r1, [%%t2];\n    st.global.b32 [%%q0], %%r1;\n");
    buf_printf(&b, "    ret;\n}\n");
    if (run(e, b.at, &p, sizeof p, (uint32_t)(third / 4 / (size_t)vector / 256), name) && emu_read(e, p.m, got, third))
        count(name, got, data + 2 * third, third, 4);
    emu_free(e, p.m), emu_free(e, p.v);
    buf_free(&b);
    free(data), free(got);
}

/* Bulk reductions: 1 KiB a thread block. */
static void check_bulk(struct emu *e, const char *name, const char *type)
{
    size_t n;
    char path[128];
    struct buf b = {0};
    snprintf(path, sizeof path, "arith/%s.bin", name);
    uint8_t *data = hw_load(folder, path, &n), *got = malloc(n / 3);
    size_t third = n / 3;
    struct { uint64_t m, v; } p = {put(e, data, third, "memory"), put(e, data + third, third, "operand")};
    buf_printf(&b, ".version 8.8\n.target sm_90\n.address_size 64\n.shared .align 16 .b8 s[1024];\n"
                   ".visible .entry k(.param .u64 pm, .param .u64 pv)\n{\n    .reg .pred %%p;\n    .reg .b32 %%r, %%t<4>;\n"
                   "    .reg .b64 %%q<2>;\n    mov.u32 %%t0, %%tid.x;\n    mov.u32 %%t1, %%ctaid.x;\n    mov.u32 %%t2, s;\n"
                   "    mad.lo.u32 %%t3, %%t0, 4, %%t2;\n    mad.lo.u32 %%t0, %%t1, 256, %%t0;\n    ld.param.u64 %%q0, [pm];\n"
                   "    ld.param.u64 %%q1, [pv];\n    mad.wide.u32 %%q1, %%t0, 4, %%q1;\n    mad.wide.u32 %%q0, %%t1, 1024, %%q0;\n"
                   "    ld.global.b32 %%r, [%%q1];\n    st.shared.b32 [%%t3], %%r;\n    fence.proxy.async.shared::cta;\n"
                   "    bar.sync 0;\n    mov.u32 %%t0, %%tid.x;\n    setp.eq.u32 %%p, %%t0, 0;\n    @!%%p bra done;\n"
                   "    cp.reduce.async.bulk.global.shared::cta.bulk_group.add.%s [%%q0], [%%t2], 1024;\n"
                   "    cp.async.bulk.commit_group;\n    cp.async.bulk.wait_group 0;\ndone:\n    ret;\n}\n", type);
    if (run(e, b.at, &p, sizeof p, (uint32_t)(third / 1024), name) && emu_read(e, p.m, got, third))
        count(name, got, data + 2 * third, third, 4);
    emu_free(e, p.m), emu_free(e, p.v);
    buf_free(&b);
    free(data), free(got);
}

int main(void)
{
    folder = hw_folder("arith");
    struct emu *e = emu_open(&(struct emu_config){.chip = EMU_SM90});
    static const struct { const char *out, *insn; } f32[] = {
        {"add_rn_f32", "add.rn.f32 %d, %a, %b"}, {"add_rn_ftz_f32", "add.rn.ftz.f32 %d, %a, %b"},
        {"add_rz_f32", "add.rz.f32 %d, %a, %b"}, {"mul_rn_f32", "mul.rn.f32 %d, %a, %b"},
        {"mul_rn_ftz_f32", "mul.rn.ftz.f32 %d, %a, %b"}, {"fma_rn_f32", "fma.rn.f32 %d, %a, %b, %c"},
        {"fma_rn_ftz_f32", "fma.rn.ftz.f32 %d, %a, %b, %c"}, {"fma_rz_f32", "fma.rz.f32 %d, %a, %b, %c"},
        {"div_rn_f32", "div.rn.f32 %d, %a, %b"}, {"div_approx_f32", "div.approx.f32 %d, %a, %b"},
        {"div_approx_ftz_f32", "div.approx.ftz.f32 %d, %a, %b"}, {"div_full_f32", "div.full.f32 %d, %a, %b"},
        {"min_f32", "min.f32 %d, %a, %b"}, {"max_f32", "max.f32 %d, %a, %b"}, {"max_ftz_f32", "max.ftz.f32 %d, %a, %b"},
        {"min_nan_f32", "min.NaN.f32 %d, %a, %b"}, {"max_nan_f32", "max.NaN.f32 %d, %a, %b"},
        {"max_xorsign_f32", "max.xorsign.abs.f32 %d, %a, %b"}, {"copysign_f32", "copysign.f32 %d, %a, %b"},
    };
    static const struct { const char *out, *insn; } f16[] = {
        {"add_rn_f16", "add.rn.f16 %d, %a, %b"}, {"add_rn_ftz_f16", "add.rn.ftz.f16 %d, %a, %b"},
        {"add_sat_f16", "add.sat.f16 %d, %a, %b"}, {"mul_rn_f16", "mul.rn.f16 %d, %a, %b"},
        {"fma_rn_f16", "fma.rn.f16 %d, %a, %b, %c"}, {"fma_rn_relu_f16", "fma.rn.relu.f16 %d, %a, %b, %c"},
        {"min_f16", "min.f16 %d, %a, %b"}, {"max_f16", "max.f16 %d, %a, %b"}, {"max_nan_f16", "max.NaN.f16 %d, %a, %b"},
        {"add_rn_bf16", "add.rn.bf16 %d, %a, %b"}, {"sub_rn_bf16", "sub.rn.bf16 %d, %a, %b"},
        {"mul_rn_bf16", "mul.rn.bf16 %d, %a, %b"}, {"fma_rn_bf16", "fma.rn.bf16 %d, %a, %b, %c"},
        {"fma_rn_relu_bf16", "fma.rn.relu.bf16 %d, %a, %b, %c"}, {"min_bf16", "min.bf16 %d, %a, %b"},
        {"max_bf16", "max.bf16 %d, %a, %b"}, {"min_nan_bf16", "min.NaN.bf16 %d, %a, %b"},
        {"max_nan_bf16", "max.NaN.bf16 %d, %a, %b"},
    };
    static const struct { const char *out, *insn; } ints[] = {
        {"prmt", "prmt.b32 %d, %a, %b, %c"}, {"prmt_f4e", "prmt.b32.f4e %d, %a, %b, %c"},
        {"prmt_b4e", "prmt.b32.b4e %d, %a, %b, %c"}, {"prmt_rc8", "prmt.b32.rc8 %d, %a, %b, %c"},
        {"prmt_ecl", "prmt.b32.ecl %d, %a, %b, %c"}, {"prmt_ecr", "prmt.b32.ecr %d, %a, %b, %c"},
        {"prmt_rc16", "prmt.b32.rc16 %d, %a, %b, %c"}, {"shf_l_wrap", "shf.l.wrap.b32 %d, %a, %b, %c"},
        {"shf_l_clamp", "shf.l.clamp.b32 %d, %a, %b, %c"}, {"shf_r_wrap", "shf.r.wrap.b32 %d, %a, %b, %c"},
        {"shf_r_clamp", "shf.r.clamp.b32 %d, %a, %b, %c"}, {"lop3_96", "lop3.b32 %d, %a, %b, %c, 0x96"},
        {"lop3_ca", "lop3.b32 %d, %a, %b, %c, 0xCA"}, {"dp4a_s", "dp4a.s32.s32 %d, %a, %b, %c"},
        {"dp4a_us", "dp4a.u32.s32 %d, %a, %b, %c"}, {"bfe_u", "bfe.u32 %d, %a, %b, %c"}, {"bfe_s", "bfe.s32 %d, %a, %b, %c"},
        {"bfi", "bfi.b32 %d, %a, %b, %c, 9"}, {"mad_hi", "mad.hi.s32 %d, %a, %b, %c"},
        {"szext_clamp", "szext.clamp.s32 %d, %a, %b"}, {"szext_wrap_u", "szext.wrap.u32 %d, %a, %b"},
        {"bmsk_clamp", "bmsk.clamp.b32 %d, %a, %b"}, {"bmsk_wrap", "bmsk.wrap.b32 %d, %a, %b"},
        {"shl", "shl.b32 %d, %a, %b"}, {"shr_s", "shr.s32 %d, %a, %b"}, {"shr_u", "shr.u32 %d, %a, %b"},
        {"bfind_s", "bfind.s32 %d, %a"}, {"bfind_u", "bfind.u32 %d, %a"}, {"div_s", "div.s32 %d, %a, %b"},
        {"div_u", "div.u32 %d, %a, %b"}, {"rem_s", "rem.s32 %d, %a, %b"}, {"mul24", "mul24.lo.s32 %d, %a, %b"},
        {"fns", "fns.b32 %d, %a, 3, 2"}, {"sad", "sad.s32 %d, %a, %b, %c"}, {"min_relu", "min.relu.s32 %d, %a, %b"},
        {"vabsdiff4", "vabsdiff4.u32.u32.u32.add %d, %a, %b, %c"},
    };
    char name[64];
    for (int i = 0; i < COUNT(f32); i++) {
        snprintf(name, sizeof name, "arith_%s", f32[i].out);
        check(e, "arith/in_arith_f32.bin", name, f32[i].insn, 4, "f32");
    }
    for (int i = 0; i < COUNT(f16); i++) {
        snprintf(name, sizeof name, "arith_%s", f16[i].out);
        check(e, "arith/in_arith_16.bin", name, f16[i].insn, 2, "b16");
    }
    for (int i = 0; i < COUNT(ints); i++) {
        snprintf(name, sizeof name, "int_%s", ints[i].out);
        check(e, "arith/in_int.bin", name, ints[i].insn, 4, "b32");
    }
    check_red(e, "red_global_add_f32", "red.global.add.f32 [%q0], %r0", 1, false);
    check_red(e, "atom_global_add_f32", "atom.global.add.f32 %r1, [%q0], %r0", 1, false);
    check_red(e, "red_shared_add_f32", "red.shared.add.f32 [%t2], %r0", 1, true);
    check_red(e, "red_global_add_f16x2", "red.global.add.noftz.f16x2 [%q0], %r0", 1, false);
    check_red(e, "red_global_add_bf16x2", "red.global.add.noftz.bf16x2 [%q0], %r0", 1, false);
    check_red(e, "red_global_v2_add_f32", "red.global.v2.f32.add [%q0], {%r0, %r1}", 2, false);
    check_red(e, "red_global_v4_add_f32", "red.global.v4.f32.add [%q0], {%r0, %r1, %r2, %r3}", 4, false);
    check_red(e, "red_global_v4_add_bf16x2", "red.global.v4.bf16x2.add.noftz [%q0], {%r0, %r1, %r2, %r3}", 4, false);
    check_red(e, "red_global_v4_max_bf16x2", "red.global.v4.bf16x2.max.noftz [%q0], {%r0, %r1, %r2, %r3}", 4, false);
    check_red(e, "red_global_v4_min_bf16x2", "red.global.v4.bf16x2.min.noftz [%q0], {%r0, %r1, %r2, %r3}", 4, false);
    check_bulk(e, "bulk_add_f32", "f32");
    check_bulk(e, "bulk_add_f16", "noftz.f16");
    check_bulk(e, "bulk_add_bf16", "noftz.bf16");
    emu_close(e);
    hw_clean();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
