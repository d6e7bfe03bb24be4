/* lir - building, folding and printing the low-level IR. */
#include "codegen/lir.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* id of a constant that is printed as an f32 (0f3F800000): PTX wants that spelling in floating instructions. */
enum { FLOAT_CONSTANT = -1 };

struct opd lir_reg(struct lir *l, enum reg_class c)
{
    return (struct opd){ .kind = OPD_REG, .cls = (uint8_t)c, .id = ++l->nregs[c] };
}

struct opd opd_f32(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    return (struct opd){ .kind = OPD_IMM, .cls = RC_B32, .id = FLOAT_CONSTANT, .imm = bits };
}

/* ---- instructions */

/* The text being put together, and its operands. */
struct draft {
    struct lir *l;
    VEC(char) text;
    VEC(struct opd) args;
};

static void draft_text(struct draft *d, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) vec_push(d->l->arena, &d->text, s[i]);
}

static void draft_string(struct draft *d, const char *s)
{
    draft_text(d, s, strlen(s));
}

static void draft_opd(struct draft *d, struct opd o)
{
    char hole = LIR_HOLE;
    assert(o.kind != OPD_NONE);
    draft_text(d, &hole, 1);
    vec_push(d->l->arena, &d->args, o);
}

static void draft_list(struct draft *d, const struct opd *o, int n)
{
    draft_string(d, "{");
    for (int i = 0; i < n; i++) {
        if (i) draft_string(d, ", ");
        draft_opd(d, o[i]);
    }
    draft_string(d, "}");
}

/* Special registers whose names begin like a directive of lir_emit. Returns the length of the name, 0: none here. */
static size_t special_register(const char *s)
{
    static const char *const names[] = { "%laneid", "%lanemask_", "%smid", "%dynamic_smem_size" };
    for (int i = 0; i < COUNT(names); i++)
        if (!strncmp(s, names[i], strlen(names[i]))) return strlen(names[i]);
    return 0;
}

static void draft_directive(struct draft *d, char letter, va_list *ap)
{
    char number[32] = "";
    switch (letter) {
    case 'r': draft_opd(d, va_arg(*ap, struct opd)); return;
    case 'o': {
        struct opd last = va_arg(*ap, struct opd);
        if (opd_none(last)) return;
        draft_string(d, ", ");
        draft_opd(d, last);
        return;
    }
    case 'R': {
        const struct opd *list = va_arg(*ap, const struct opd *);
        draft_list(d, list, va_arg(*ap, int));
        return;
    }
    case 's': draft_string(d, va_arg(*ap, const char *)); return;
    case 'd': snprintf(number, sizeof number, "%d", va_arg(*ap, int)); break;
    case 'D': snprintf(number, sizeof number, "%" PRId64, va_arg(*ap, int64_t)); break;
    case 'x': snprintf(number, sizeof number, "0x%" PRIx64, va_arg(*ap, uint64_t)); break;
    case 'l': snprintf(number, sizeof number, "$L%d", va_arg(*ap, int)); break;
    default: snprintf(number, sizeof number, "%%%c", letter); break;
    }
    draft_string(d, number);
}

static void push(struct lir *l, const char *text, struct opd *args, int nargs)
{
    struct lir_insn in = { .fmt = text, .args = args, .nargs = nargs, .span = l->span };
    vec_push(l->arena, &l->code, in);
}

/* A guard known when the code is made needs no predicate: "@1 x" is x, "@0 x" nothing. Returns false to drop it all. */
static bool fold_guard(struct draft *d, const char **text, int *skip)
{
    bool negated = d->text.at[0] == '@' && d->text.at[1] == '!';
    *text = d->text.at;
    *skip = 0;
    if (d->text.at[0] != '@' || !d->args.n || d->args.at[0].kind != OPD_IMM) return true;
    if ((d->args.at[0].imm != 0) == negated) return false;
    *text = strchr(d->text.at, ' ') + 1;
    *skip = 1;
    return true;
}

void lir_emit(struct lir *l, const char *fmt, ...)
{
    struct draft d = { .l = l };
    va_list ap;
    va_start(ap, fmt);
    for (const char *s = fmt; *s;) {
        size_t n = *s == '%' ? special_register(s) : strcspn(s, "%");
        if (n) draft_text(&d, s, n), s += n;
        else if (s[1] == '%') draft_text(&d, s, 1), s += 2;
        else draft_directive(&d, s[1], &ap), s += 2;
    }
    va_end(ap);
    draft_text(&d, "", 1);
    const char *text;
    int skip;
    if (fold_guard(&d, &text, &skip)) push(l, text, d.args.at + skip, d.args.n - skip);
}

void lir_emit_args(struct lir *l, const char *text, const struct opd *args, int n)
{
    struct draft d = { .l = l };
    for (const char *s = text; *s; s++) {
        int i = s[0] == '%' && s[1] >= '0' && s[1] <= '9' ? s[1] - '0' : -1;
        if (i < 0) draft_text(&d, s, 1);
        else assert(i < n), draft_opd(&d, args[i]), s++;
    }
    draft_text(&d, "", 1);
    push(l, d.text.at, d.args.at, d.args.n);
}

int lir_label(struct lir *l)
{
    return ++l->nlabels;
}

void lir_place(struct lir *l, int label)
{
    struct lir_insn in = { .label = label, .span = l->span };
    vec_push(l->arena, &l->code, in);
}

void lir_comment(struct lir *l, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    push(l, arena_printf(l->arena, "// %s", arena_vprintf(l->arena, fmt, ap)), NULL, 0);
    va_end(ap);
}

/* ---- moves */

static const char *const mov_of[RC_COUNT] = { "mov.pred %r, %r", "mov.b16 %r, %r", "mov.b32 %r, %r", "mov.b64 %r, %r" };

void lir_set(struct lir *l, struct opd dst, struct opd src)
{
    assert(dst.kind == OPD_REG && (src.kind == OPD_IMM || src.cls == dst.cls));
    if (src.kind == OPD_REG && src.id == dst.id) return;
    if (src.kind == OPD_IMM) src.id = 0;
    lir_emit(l, mov_of[dst.cls], dst, src);
}

struct opd lir_in_reg(struct lir *l, struct opd o, enum reg_class c)
{
    if (o.kind == OPD_REG) return o;
    struct opd d = lir_reg(l, c);
    lir_set(l, d, o);
    return d;
}

/* ---- arithmetic */

static bool both(struct opd a, struct opd b)
{
    return a.kind == OPD_IMM && b.kind == OPD_IMM;
}

/* n where v = 2^n, else -1. */
static int log2_of(struct opd o)
{
    if (o.kind != OPD_IMM || o.imm <= 0 || (o.imm & (o.imm - 1))) return -1;
    return __builtin_ctzll((uint64_t)o.imm);
}

static struct opd imm32(int64_t v)
{
    return opd_imm((int32_t)(uint32_t)v);
}

static struct opd binary(struct lir *l, const char *fmt, enum reg_class c, struct opd a, struct opd b)
{
    struct opd d = lir_reg(l, c);
    lir_emit(l, fmt, d, a, b);
    return d;
}

/* As binary, for instructions that take a constant as their second operand only. */
static struct opd binary_r(struct lir *l, const char *fmt, enum reg_class c, struct opd a, struct opd b)
{
    return binary(l, fmt, c, lir_in_reg(l, a, c), b);
}

static void constant_last(struct opd *a, struct opd *b)
{
    if (a->kind != OPD_IMM) return;
    struct opd t = *a;
    *a = *b;
    *b = t;
}

struct opd lir_add(struct lir *l, struct opd a, struct opd b)
{
    if (both(a, b)) return imm32(a.imm + b.imm);
    constant_last(&a, &b);
    return opd_is(b, 0) ? a : binary(l, "add.s32 %r, %r, %r", RC_B32, a, b);
}

struct opd lir_sub(struct lir *l, struct opd a, struct opd b)
{
    if (both(a, b)) return imm32(a.imm - b.imm);
    if (b.kind == OPD_IMM) return lir_add(l, a, imm32(-b.imm));
    return binary_r(l, "sub.s32 %r, %r, %r", RC_B32, a, b);
}

struct opd lir_mul(struct lir *l, struct opd a, struct opd b)
{
    if (both(a, b)) return imm32(a.imm * b.imm);
    constant_last(&a, &b);
    if (opd_is(b, 0)) return b;
    if (opd_is(b, 1)) return a;
    if (log2_of(b) > 0) return lir_shl(l, a, log2_of(b));
    return binary(l, "mul.lo.s32 %r, %r, %r", RC_B32, a, b);
}

struct opd lir_mad(struct lir *l, struct opd a, struct opd b, struct opd c)
{
    constant_last(&a, &b);
    if (both(a, b) || opd_is(b, 0) || opd_is(b, 1) || opd_is(c, 0)) return lir_add(l, lir_mul(l, a, b), c);
    struct opd d = lir_reg(l, RC_B32);
    lir_emit(l, "mad.lo.s32 %r, %r, %r, %r", d, a, b, c);
    return d;
}

/* Truncating quotient to floor: one less where the remainder is not zero and differs in sign from the divisor. */
static struct opd floor_quotient(struct lir *l, struct opd a, struct opd b)
{
    struct opd q = binary(l, "div.s32 %r, %r, %r", RC_B32, a, b);
    struct opd r = lir_sub(l, a, lir_mul(l, q, b));
    struct opd wrong = lir_cmp(l, "lt", lir_xor(l, r, b), opd_imm(0));
    struct opd down = lir_pand(l, wrong, lir_cmp(l, "ne", r, opd_imm(0)));
    return lir_sel(l, down, lir_sub(l, q, opd_imm(1)), q, RC_B32);
}

struct opd lir_div(struct lir *l, struct opd a, struct opd b, bool non_negative)
{
    if (both(a, b) && b.imm) return imm32(floor_div(a.imm, b.imm));
    if (opd_is(b, 1)) return a;
    int n = log2_of(b);
    if (n > 0) return binary(l, non_negative ? "shr.u32 %r, %r, %r" : "shr.s32 %r, %r, %r", RC_B32, a, opd_imm(n));
    a = lir_in_reg(l, a, RC_B32);
    return non_negative ? binary(l, "div.u32 %r, %r, %r", RC_B32, a, b) : floor_quotient(l, a, b);
}

struct opd lir_mod(struct lir *l, struct opd a, struct opd b, bool non_negative)
{
    if (both(a, b) && b.imm) return imm32(floor_mod(a.imm, b.imm));
    if (opd_is(b, 1)) return opd_imm(0);
    if (log2_of(b) > 0) return lir_and(l, a, opd_imm(b.imm - 1));
    a = lir_in_reg(l, a, RC_B32);
    if (non_negative) return binary(l, "rem.u32 %r, %r, %r", RC_B32, a, b);
    return lir_sub(l, a, lir_mul(l, floor_quotient(l, a, b), b));
}

struct opd lir_min(struct lir *l, struct opd a, struct opd b)
{
    if (both(a, b)) return a.imm < b.imm ? a : b;
    constant_last(&a, &b);
    return binary(l, "min.s32 %r, %r, %r", RC_B32, a, b);
}

struct opd lir_max(struct lir *l, struct opd a, struct opd b)
{
    if (both(a, b)) return a.imm > b.imm ? a : b;
    constant_last(&a, &b);
    return binary(l, "max.s32 %r, %r, %r", RC_B32, a, b);
}

struct opd lir_and(struct lir *l, struct opd a, struct opd b)
{
    if (both(a, b)) return imm32(a.imm & b.imm);
    constant_last(&a, &b);
    if (opd_is(b, 0)) return b;
    return opd_is(b, -1) ? a : binary(l, "and.b32 %r, %r, %r", RC_B32, a, b);
}

struct opd lir_or(struct lir *l, struct opd a, struct opd b)
{
    if (both(a, b)) return imm32(a.imm | b.imm);
    constant_last(&a, &b);
    return opd_is(b, 0) ? a : binary(l, "or.b32 %r, %r, %r", RC_B32, a, b);
}

struct opd lir_xor(struct lir *l, struct opd a, struct opd b)
{
    if (both(a, b)) return imm32(a.imm ^ b.imm);
    constant_last(&a, &b);
    return opd_is(b, 0) ? a : binary(l, "xor.b32 %r, %r, %r", RC_B32, a, b);
}

struct opd lir_shl(struct lir *l, struct opd a, int n)
{
    if (a.kind == OPD_IMM) return imm32((int64_t)((uint64_t)a.imm << n));
    return n ? binary(l, "shl.b32 %r, %r, %r", RC_B32, a, opd_imm(n)) : a;
}

struct opd lir_shr_u(struct lir *l, struct opd a, int n)
{
    if (a.kind == OPD_IMM) return imm32((uint32_t)a.imm >> n);
    return n ? binary(l, "shr.u32 %r, %r, %r", RC_B32, a, opd_imm(n)) : a;
}

/* ---- predicates */

static const struct compare {
    const char *name, *swapped;
    bool less, equal, greater; /* what it holds for */
} compares[] = {
    { "lt", "gt", true, false, false }, { "le", "ge", true, true, false },  { "gt", "lt", false, false, true },
    { "ge", "le", false, true, true },  { "eq", "eq", false, true, false }, { "ne", "ne", true, false, true },
};

static const struct compare *compare_find(const char *name)
{
    for (int i = 0; i < COUNT(compares); i++)
        if (!strcmp(compares[i].name, name)) return &compares[i];
    assert(!"no such comparison");
    return NULL;
}

struct opd lir_cmp(struct lir *l, const char *cmp, struct opd a, struct opd b)
{
    const struct compare *c = compare_find(cmp);
    if (both(a, b)) return opd_imm(a.imm < b.imm ? c->less : a.imm > b.imm ? c->greater : c->equal);
    if (a.kind == OPD_IMM) constant_last(&a, &b), cmp = c->swapped;
    struct opd p = lir_reg(l, RC_PRED);
    lir_emit(l, "setp.%s.s32 %r, %r, %r", cmp, p, a, b);
    return p;
}

struct opd lir_pand(struct lir *l, struct opd a, struct opd b)
{
    constant_last(&a, &b);
    if (b.kind == OPD_IMM) return b.imm ? a : b;
    return binary(l, "and.pred %r, %r, %r", RC_PRED, a, b);
}

struct opd lir_por(struct lir *l, struct opd a, struct opd b)
{
    constant_last(&a, &b);
    if (b.kind == OPD_IMM) return b.imm ? b : a;
    return binary(l, "or.pred %r, %r, %r", RC_PRED, a, b);
}

struct opd lir_pnot(struct lir *l, struct opd a)
{
    if (a.kind == OPD_IMM) return opd_imm(!a.imm);
    struct opd p = lir_reg(l, RC_PRED);
    lir_emit(l, "not.pred %r, %r", p, a);
    return p;
}

struct opd lir_sel(struct lir *l, struct opd p, struct opd a, struct opd b, enum reg_class c)
{
    if (p.kind == OPD_IMM) return p.imm ? a : b;
    if (c == RC_PRED) return lir_por(l, lir_pand(l, p, a), lir_pand(l, lir_pnot(l, p), b));
    if (both(a, b) && a.imm == b.imm) return a;
    static const char *const fmt[RC_COUNT] = { "", "selp.b16 %r, %r, %r, %r", "selp.b32 %r, %r, %r, %r", "selp.b64 %r, %r, %r, %r" };
    struct opd d = lir_reg(l, c);
    if (a.kind == OPD_IMM) a.id = 0;
    if (b.kind == OPD_IMM) b.id = 0;
    lir_emit(l, fmt[c], d, a, b, p);
    return d;
}

/* ---- 64 bits */

struct opd lir_add64(struct lir *l, struct opd a, struct opd b)
{
    if (both(a, b)) return opd_imm((int64_t)((uint64_t)a.imm + (uint64_t)b.imm));
    constant_last(&a, &b);
    return opd_is(b, 0) ? a : binary(l, "add.s64 %r, %r, %r", RC_B64, a, b);
}

struct opd lir_mul_wide(struct lir *l, struct opd a, struct opd b)
{
    if (both(a, b)) return opd_imm(a.imm * b.imm);
    constant_last(&a, &b);
    if (opd_is(b, 0)) return b;
    if (opd_is(b, 1)) return lir_widen(l, a);
    return binary(l, "mul.wide.s32 %r, %r, %r", RC_B64, a, b);
}

struct opd lir_mul64(struct lir *l, struct opd a, struct opd b)
{
    if (both(a, b)) return opd_imm((int64_t)((uint64_t)a.imm * (uint64_t)b.imm));
    constant_last(&a, &b);
    if (opd_is(b, 0)) return b;
    if (opd_is(b, 1)) return a;
    if (log2_of(b) > 0) return binary(l, "shl.b64 %r, %r, %r", RC_B64, a, opd_imm(log2_of(b)));
    return binary(l, "mul.lo.s64 %r, %r, %r", RC_B64, a, b);
}

struct opd lir_widen(struct lir *l, struct opd a)
{
    if (a.kind == OPD_IMM) return a;
    struct opd d = lir_reg(l, RC_B64);
    lir_emit(l, "cvt.s64.s32 %r, %r", d, a);
    return d;
}

/* ---- printing */

static const char reg_letter[RC_COUNT] = { 'p', 'h', 'r', 'd' };
static const char *const reg_decl[RC_COUNT] = { ".pred", ".b16", ".b32", ".b64" };

static void print_opd(struct opd o, struct buf *out)
{
    if (o.kind == OPD_REG) buf_printf(out, "%%%c%d", reg_letter[o.cls], o.id);
    else if (o.id == FLOAT_CONSTANT) buf_printf(out, "0f%08" PRIX32, (uint32_t)o.imm);
    else buf_printf(out, "%" PRId64, o.imm);
}

static void print_insn(const struct lir_insn *in, struct buf *out)
{
    if (!in->fmt) {
        buf_printf(out, "$L%d:\n", in->label);
        return;
    }
    bool comment = !strncmp(in->fmt, "//", 2);
    int arg = 0;
    buf_printf(out, "\t");
    for (const char *s = in->fmt; *s;) {
        size_t n = strcspn(s, (char[]){ LIR_HOLE, 0 });
        buf_bytes(out, s, n);
        s += n;
        if (*s == LIR_HOLE) print_opd(in->args[arg++], out), s++;
    }
    buf_printf(out, comment ? "\n" : ";\n");
}

/* .file lines are numbered from 1 in the order of the sources. */
static void print_files(const struct diag *d, struct buf *out)
{
    for (int i = 0; i < d->files.n; i++) buf_printf(out, ".file %d \"%s\"\n", i + 1, d->files.at[i].path);
}

struct place {
    int file, line;
};

static struct place place_of(const struct diag *d, uint32_t pos)
{
    struct place p = { 0, 0 };
    const struct source_file *f = pos ? diag_where(d, pos, &p.line, NULL) : NULL;
    if (f) p.file = (int)(f - d->files.at) + 1;
    return p;
}

static void print_code(const struct lir *l, const struct diag *d, struct buf *out)
{
    struct place last = { 0, 0 };
    uint32_t last_pos = 0;
    for (int i = 0; i < l->code.n; i++) {
        const struct lir_insn *in = &l->code.at[i];
        if (d && in->span.lo && in->span.lo != last_pos && in->fmt) {
            struct place p = place_of(d, last_pos = in->span.lo);
            if (p.file && (p.file != last.file || p.line != last.line)) buf_printf(out, "\t.loc %d %d 1\n", p.file, p.line);
            if (p.file) last = p;
        }
        print_insn(in, out);
    }
}

static void print_header(const struct lir_entry *e, struct buf *out)
{
    buf_printf(out, ".version %s\n.target %s\n.address_size 64\n\n", e->ptx_version, e->ptx_target);
    buf_printf(out, ".extern .shared .align 1024 .b8 smem[];\n");
    for (int i = 0; i < e->nglobals; i++) buf_printf(out, "%s\n", e->globals[i]);
}

static void print_signature(const struct lir_entry *e, struct buf *out)
{
    buf_printf(out, "\n.visible .entry %s(", e->symbol);
    for (int i = 0; i < e->nparams; i++) buf_printf(out, "%s\n\t%s", i ? "," : "", e->param_decl[i]);
    buf_printf(out, ")\n.reqntid %d, 1, 1\n", e->threads);
    if (e->min_ctas) buf_printf(out, ".minnctapersm %d\n", e->min_ctas);
    if (e->cluster > 1) buf_printf(out, ".reqnctapercluster %d, 1, 1\n", e->cluster);
}

void lir_print(const struct lir *l, const struct lir_entry *e, const struct diag *d, struct buf *out)
{
    bool lines = d && e->line_info;
    print_header(e, out);
    if (lines) print_files(d, out);
    print_signature(e, out);
    buf_printf(out, "{\n");
    for (int c = 0; c < RC_COUNT; c++)
        if (l->nregs[c]) buf_printf(out, "\t.reg %s %%%c<%d>;\n", reg_decl[c], reg_letter[c], l->nregs[c] + 1);
    print_code(l, lines ? d : NULL, out);
    buf_printf(out, "}\n");
}
