/* Instructions print as PTX, constants fold while they are built, and guards known at compile time vanish. */
#include "codegen/lir.h"

#include <stdio.h>
#include <string.h>

static int passed, failed;
#define CHECK(c) do { if (c) passed++; else failed++, printf("%s:%d: %s\n", __FILE__, __LINE__, #c); } while (0)

static const struct lir_entry entry = {
    .symbol = "k", .ptx_version = "8.0", .ptx_target = "sm_80", .param_decl = (const char *const[]){ ".param .u64 A" }, .nparams = 1, .threads = 128,
};

/* The code printed so far has this text in it. */
static bool has(const struct lir *l, const char *text)
{
    struct buf b = { 0 };
    lir_print(l, &entry, NULL, &b);
    bool found = strstr(b.at, text) != NULL;
    if (!found) printf("no '%s' in:\n%s", text, b.at);
    buf_free(&b);
    return found;
}

static void test_folding(struct lir *l)
{
    struct opd x = lir_reg(l, RC_B32), p = lir_reg(l, RC_PRED);
    int n = l->code.n;
    CHECK(opd_is(lir_add(l, opd_imm(2), opd_imm(3)), 5));
    CHECK(opd_is(lir_add(l, opd_imm(INT32_MAX), opd_imm(1)), INT32_MIN));
    CHECK(lir_add(l, opd_imm(0), x).id == x.id && lir_mul(l, x, opd_imm(1)).id == x.id);
    CHECK(opd_is(lir_mul(l, x, opd_imm(0)), 0));
    CHECK(opd_is(lir_div(l, opd_imm(-7), opd_imm(2), false), -4) && opd_is(lir_mod(l, opd_imm(-7), opd_imm(4), false), 1));
    CHECK(opd_is(lir_mod(l, x, opd_imm(1), false), 0) && lir_div(l, x, opd_imm(1), false).id == x.id);
    CHECK(opd_is(lir_cmp(l, "le", opd_imm(3), opd_imm(3)), 1) && opd_is(lir_cmp(l, "gt", opd_imm(3), opd_imm(3)), 0));
    CHECK(opd_is(lir_pand(l, p, opd_imm(0)), 0) && lir_por(l, opd_imm(0), p).id == p.id);
    CHECK(lir_sel(l, opd_imm(0), opd_imm(7), x, RC_B32).id == x.id);
    CHECK(opd_is(lir_mul_wide(l, opd_imm(1 << 30), opd_imm(8)), 1ll << 33));
    CHECK(opd_is(lir_shr_u(l, opd_imm(-1), 28), 15));
    CHECK(l->code.n == n);
    lir_emit(l, "@%r st.shared.b32 [%r], %r", opd_imm(0), x, x);
    CHECK(l->code.n == n);
}

static void test_text(struct lir *l)
{
    struct opd x = { OPD_REG, RC_B32, 1, 0 }, y = { OPD_REG, RC_B32, 2, 0 }, list[] = { x, y };
    lir_emit(l, "@%r st.shared.b32 [%r+%d], %r", opd_imm(1), x, 16, y);
    CHECK(has(l, "\tst.shared.b32 [%r1+16], %r2;\n"));
    lir_emit(l, "ld.shared.v%d.b32 %R, [%r]", 2, list, 2, x);
    CHECK(has(l, "\tld.shared.v2.b32 {%r1, %r2}, [%r1];\n"));
    lir_emit(l, "ld.global.b32 %r, [%r]%o", x, y, (struct opd){ 0 });
    CHECK(has(l, "\tld.global.b32 %r1, [%r2];\n"));
    lir_emit(l, "st.global.b32 [%r], %r%o", y, x, x);
    CHECK(has(l, "\tst.global.b32 [%r2], %r1, %r1;\n"));
    lir_emit(l, "mov.u32 %r, %laneid", x);
    CHECK(has(l, "\tmov.u32 %r1, %laneid;\n"));
    lir_emit(l, "mov.u32 %r, %tid.x", x);
    CHECK(has(l, "\tmov.u32 %r1, %tid.x;\n"));
    lir_emit(l, "add.rn.f32 %r, %r, %r", x, y, opd_f32(1.5f));
    CHECK(has(l, "\tadd.rn.f32 %r1, %r2, 0f3FC00000;\n"));
    lir_set(l, x, opd_f32(1.0f));
    CHECK(has(l, "\tmov.b32 %r1, 1065353216;\n"));
    lir_div(l, x, opd_imm(8), false);
    CHECK(has(l, "shr.s32"));
    int loop = lir_label(l);
    lir_place(l, loop);
    lir_emit(l, "bra %l", loop);
    CHECK(has(l, "$L1:\n\tbra $L1;\n"));
    lir_comment(l, "row %d", 3);
    CHECK(has(l, "\t// row 3\n"));
    CHECK(has(l, ".visible .entry k(\n\t.param .u64 A)\n.reqntid 128, 1, 1\n{\n"));
}

static void test_lines(struct arena *a)
{
    struct diag d;
    struct lir l = { .arena = a };
    struct lir_entry e = entry;
    struct buf b = { 0 };
    diag_init(&d, a);
    uint32_t base = diag_add_file(&d, "k.dgk", "one\ntwo\n", 8);
    e.line_info = true;
    l.span = (struct span){ base + 4, base + 7 };
    lir_emit(&l, "ret");
    lir_print(&l, &e, &d, &b);
    CHECK(strstr(b.at, ".file 1 \"k.dgk\"\n") && strstr(b.at, "\t.loc 1 2 1\n\tret;\n"));
    buf_free(&b);
}

int main(void)
{
    struct arena a = { 0 };
    struct lir l = { .arena = &a };
    test_folding(&l);
    test_text(&l);
    test_lines(&a);
    arena_free(&a);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
