/* lir - low-level IR: PTX instructions over virtual registers, in one straight list with labels; and its printer.
 * Integer arithmetic on constants folds while it is built, so that generators need not look for constants themselves. */
#ifndef CODEGEN_LIR_H
#define CODEGEN_LIR_H

#include "dsl/base.h"
#include "dsl/diag.h"

/* Register classes. Values of 32 bits or fewer that are not f16/bf16/bytes live in B32; PTX lets .b32 registers hold
 * .f32, .s32 and .u32 alike. */
enum reg_class { RC_PRED, RC_B16, RC_B32, RC_B64, RC_COUNT };

/* An operand: a register, or a constant. */
enum opd_kind { OPD_NONE, OPD_REG, OPD_IMM };
struct opd {
    uint8_t kind, cls;
    int id;        /* register number, > 0 */
    int64_t imm;   /* bits of floats; predicates: 0 or 1 */
};

enum { LIR_HOLE = '\1' }; /* stands in an instruction's text where its next operand is printed */
struct lir_insn {
    const char *fmt;    /* NULL: a label */
    struct opd *args;
    int nargs, label;
    int hoist;          /* number of the loop in front of which it may run (hoist.c); 0: where it stands */
    struct span span;
};

struct lir {
    struct arena *arena;
    VEC(struct lir_insn) code;
    int nregs[RC_COUNT], nlabels;
    struct span span;   /* given to each instruction emitted; the generator keeps it at the current statement */
};

struct opd lir_reg(struct lir *l, enum reg_class c);
static inline struct opd opd_imm(int64_t v) { return (struct opd){ .kind = OPD_IMM, .imm = v }; }
struct opd opd_f32(float v);
static inline bool opd_is(struct opd o, int64_t v) { return o.kind == OPD_IMM && o.imm == v; }
static inline bool opd_none(struct opd o) { return o.kind == OPD_NONE; }

/* Appends one instruction; fmt is PTX text without the final ';' in which
 *   %r  an operand (struct opd by value)      %R  a brace list: const struct opd *, int n -> {%r1, %r2}
 *   %o  a last operand, with the comma before it, or nothing where it is none
 *   %d  int    %D  int64_t    %x  uint64_t as 0x..    %l  label (int)    %s  const char *
 * e.g. lir_emit(l, "ld.shared.b32 %r, [%r+%d]", dst, addr, 16);  lir_emit(l, "@%r bra %l", p, loop);
 * A constant where the instruction needs a register must be moved first (lir_mov). */
void lir_emit(struct lir *l, const char *fmt, ...);
/* The same with the operands in an array: text holds %0 .. %9 where args[0] .. args[9] go. */
void lir_emit_args(struct lir *l, const char *text, const struct opd *args, int n);
int lir_label(struct lir *l);              /* a fresh label, not yet placed */
void lir_place(struct lir *l, int label);
void lir_comment(struct lir *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A register that holds o (o itself when it already is one). */
struct opd lir_in_reg(struct lir *l, struct opd o, enum reg_class c);
void lir_set(struct lir *l, struct opd dst, struct opd src); /* mov into an existing register */

/* 32-bit signed integer arithmetic, folded: constants in, constant out; x+0, x*1, x*2^n, x/2^n, x%2^n simplified.
 * div and mod floor; operands known to be non-negative may say so to get a shift or unsigned division. */
struct opd lir_add(struct lir *l, struct opd a, struct opd b);
struct opd lir_sub(struct lir *l, struct opd a, struct opd b);
struct opd lir_mul(struct lir *l, struct opd a, struct opd b);
struct opd lir_mad(struct lir *l, struct opd a, struct opd b, struct opd c);
struct opd lir_div(struct lir *l, struct opd a, struct opd b, bool non_negative);
struct opd lir_mod(struct lir *l, struct opd a, struct opd b, bool non_negative);
struct opd lir_min(struct lir *l, struct opd a, struct opd b);
struct opd lir_max(struct lir *l, struct opd a, struct opd b);
struct opd lir_and(struct lir *l, struct opd a, struct opd b);
struct opd lir_or(struct lir *l, struct opd a, struct opd b);
struct opd lir_xor(struct lir *l, struct opd a, struct opd b);
struct opd lir_shl(struct lir *l, struct opd a, int n);
struct opd lir_shr_u(struct lir *l, struct opd a, int n);
/* predicates; cmp is "lt" "le" "eq" "ne" "ge" "gt", signed 32-bit. Constant predicates are OPD_IMM 0 or 1. */
struct opd lir_cmp(struct lir *l, const char *cmp, struct opd a, struct opd b);
struct opd lir_pand(struct lir *l, struct opd a, struct opd b);
struct opd lir_por(struct lir *l, struct opd a, struct opd b);
struct opd lir_pnot(struct lir *l, struct opd a);
struct opd lir_sel(struct lir *l, struct opd p, struct opd a, struct opd b, enum reg_class c); /* p ? a : b */
/* 64-bit: base + (sign-extended 32-bit index) * scale; address arithmetic for global memory */
struct opd lir_add64(struct lir *l, struct opd a, struct opd b);
struct opd lir_mul_wide(struct lir *l, struct opd a, struct opd b);  /* s32 * s32 -> s64 */
struct opd lir_mul64(struct lir *l, struct opd a, struct opd b);
struct opd lir_widen(struct lir *l, struct opd a);                   /* s32 -> s64 */

/* What stands around the instructions of an entry. */
struct lir_entry {
    const char *symbol, *ptx_version, *ptx_target;
    const char *const *param_decl; /* ".param .u64 A" ... */
    int nparams, threads, min_ctas, cluster;
    bool line_info;
    const char *const *globals;    /* module-level declarations besides the dynamic shared memory `smem` */
    int nglobals;
};
/* The whole PTX module. d gives .file and .loc their paths and lines (NULL: none). */
void lir_print(const struct lir *l, const struct lir_entry *e, const struct diag *d, struct buf *out);

#endif
