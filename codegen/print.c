/* print - `print` in compiled code: vprintf, which every driver has for kernels (PTX: a function that the module declares and does
 * not define; its values lie one behind the other in local memory, each here 8 bytes). */
#include "codegen/eval.h"

#include <string.h>

/* A value as vprintf takes it: a double or 64 bits of an integer. */
static struct opd value(struct gen *g, const struct ir_expr *e)
{
    struct opd x = gen_scalar(g, e);
    if (!type_is_float(e->type)) return scalar_reg(g, gen_cast(g, type_kind(e->type) == TYPE_UINT ? TY_u64 : TY_i64, e->type, x), TY_i64);
    struct opd d = lir_reg(g->l, RC_B64);
    lir_emit(g->l, "cvt.f64.f32 %r, %r", d, scalar_reg(g, gen_cast(g, TY_f32, e->type, x), TY_f32));
    return d;
}

static const char *conversion(enum type t)
{
    return type_is_float(t) ? "%g" : type_kind(t) == TYPE_UINT ? "%llu" : "%lld";
}

/* Text with a single % for each value, to printf's: the same conversions, a line's end, and a zero; declared as numbers. */
static const char *declare_format(struct gen *g, const struct ir_stmt *s, int number)
{
    struct buf text = { 0 }, out = { 0 };
    int next = 0;
    for (const char *c = s->text ? s->text : ""; *c; c++) {
        if (*c != '%' || c[1] == '%' || next == s->index.n) buf_bytes(&text, c, 1);
        else buf_printf(&text, "%s", conversion(s->index.at[next++]->type));
        if (*c == '%' && c[1] == '%') buf_bytes(&text, c++, 1);
    }
    buf_bytes(&text, "\n", 2);
    buf_printf(&out, ".global .align 1 .b8 print%d[%d] = {", number, (int)text.n);
    for (size_t i = 0; i < text.n; i++) buf_printf(&out, "%s%d", i ? ", " : "", (unsigned char)text.at[i]);
    buf_printf(&out, "};");
    const char *kept = arena_strndup(g->arena, out.at, out.n);
    buf_free(&text);
    buf_free(&out);
    return kept;
}

/* Which thread prints: at thread level each that comes here, else the first of the role. */
static struct opd printing(struct gen *g)
{
    if (eval_of(g)->thread_level || g->role->single) return opd_imm(1);
    return lir_cmp(g->l, "eq", g->role->thread, opd_imm(0));
}

static struct opd generic_address(struct gen *g, const char *space, const char *name, int number)
{
    struct opd at = lir_reg(g->l, RC_B64), d = lir_reg(g->l, RC_B64);
    lir_emit(g->l, "mov.u64 %r, %s%d", at, name, number);
    lir_emit(g->l, "cvta.%s.u64 %r, %r", space, d, at);
    return d;
}

static void call_vprintf(struct gen *g, const struct opd *v, int n, int number)
{
    struct lir *l = g->l;
    lir_emit(l, ".local .align 8 .b8 printed%d[%d]", number, n ? 8 * n : 8);
    for (int i = 0; i < n; i++) lir_emit(l, "st.local.b64 [printed%d+%d], %r", number, 8 * i, v[i]);
    lir_emit(l, ".param .b64 format%d", number);
    lir_emit(l, ".param .b64 values%d", number);
    lir_emit(l, ".param .b32 status%d", number);
    lir_emit(l, "st.param.b64 [format%d], %r", number, generic_address(g, "global", "print", number));
    lir_emit(l, "st.param.b64 [values%d], %r", number, generic_address(g, "local", "printed", number));
    lir_emit(l, "call (status%d), vprintf, (format%d, values%d)", number, number, number);
}

void gen_print(struct gen *g, struct ir_stmt *s)
{
    static const char vprintf_declared[] = ".extern .func (.param .b32 status) vprintf (.param .b64 format, .param .b64 values);";
    struct opd *v = new_n(g->arena, struct opd, s->index.n + 1), p = printing(g);
    int skip = lir_label(g->l), number = g->module.n ? g->module.n - 1 : 0;
    if (!g->module.n) vec_push(g->arena, &g->module, (const char *)vprintf_declared);
    const char *format = declare_format(g, s, number);
    vec_push(g->arena, &g->module, format);
    for (int i = 0; i < s->index.n; i++) v[i] = value(g, s->index.at[i]);
    if (!opd_is(p, 1)) lir_emit(g->l, "@!%r bra %l", p, skip);
    call_vprintf(g, v, s->index.n, number);
    lir_place(g->l, skip);
}
