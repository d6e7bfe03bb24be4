/* check_mma - products: which factors are operands, which scale, and whether a tensor core multiplies them. */
#include "dsl/check.h"

static void factors_of(struct check *c, struct node *n, nodes *out)
{
    if (n->kind == N_binary && n->flag == OP_MUL) {
        factors_of(c, n->a, out);
        factors_of(c, n->b, out);
    } else {
        vec_push(c->arena, out, n);
    }
}

/* Which types meet in one instruction: 16-bit floats of one kind, tf32, the 8-bit and narrower floats among each other, bytes. */
static int operand_class(enum type t)
{
    switch (t) {
    case TY_f16: return 1;
    case TY_bf16: return 2;
    case TY_tf32: return 3;
    case TY_e4m3: case TY_e5m2: case TY_e2m1: return 4;
    case TY_i8: case TY_u8: return 5;
    default: return 0;
    }
}

static void operand_types(struct check *c, struct node *x, struct node *y, struct ty tx, struct ty ty)
{
    struct node *both[2] = { x, y };
    struct ty tys[2] = { tx, ty };
    for (int i = 0; i < 2; i++) {
        if (!tys[i].type || operand_class(tys[i].type)) continue;
        diag_error(c->diag, both[i]->span, "an operand of mma cannot be %s", check_ty_text(c, tys[i]));
        if (tys[i].type == TY_f32) diag_note(c->diag, both[i]->span, "write tf32(...), bf16(...) or f16(...) around it");
        return;
    }
    if (tx.type && ty.type && operand_class(tx.type) != operand_class(ty.type)) {
        diag_error(c->diag, y->span, "the operands of mma are %s and %s; no tensor core multiplies these", check_ty_text(c, tx), check_ty_text(c, ty));
        diag_note(c->diag, y->span, "convert one of them, for example %s(...)", check_cast_name(type_bits(tx.type) > type_bits(ty.type) ? tx : ty));
    }
}

void check_mma_value(struct check *c, struct node *n, const struct sym_set *left)
{
    nodes factors = { 0 };
    factors_of(c, n, &factors);
    if (!left) {
        for (int i = 0; i < factors.n; i++) check_expr(c, factors.at[i]);
        return;
    }
    struct info info[16];
    struct sym_set summed = { 0 }, all = { 0 };
    bool bad = false;
    if (factors.n > 16) {
        diag_error(c->diag, n->span, "an mma has at most 16 factors, these are %d", factors.n);
        return;
    }
    for (int i = 0; i < factors.n; i++) {
        info[i] = check_expr(c, factors.at[i]);
        bad |= info[i].bad;
        check_set_join(c, &all, &info[i].free);
        for (int k = 0; k < info[i].free.list.n; k++)
            if (!check_set_has(left, info[i].free.list.at[k])) check_set_add(c, &summed, info[i].free.list.at[k]);
    }
    if (bad) return;
    if (factors.n < 2) {
        diag_error(c->diag, n->span, "an mma is a product of two operands and perhaps scales; this is one factor");
        return;
    }
    if (!summed.list.n) {
        diag_error(c->diag, n->span, "nothing is contracted here: every axis of the factors is on the left");
        diag_note(c->diag, n->span, "an axis that stands on the right only is summed over; without one, write a plain assignment");
        return;
    }
    int operand[16], operands = 0;
    for (int i = 0; i < factors.n; i++) {
        bool carries = false;
        for (int k = 0; k < summed.list.n; k++) carries |= check_set_has(&info[i].whole, summed.list.at[k]);
        if (carries) operand[operands++] = i;
    }
    if (operands != 2) {
        diag_error(c->diag, n->span, "%s factor%s carr%s '%s' undivided; an mma has two such operands", operands == 0 ? "no" : operands == 1 ? "only one" :
                   arena_printf(c->arena, "%d", operands), operands < 2 ? "" : "s", operands < 2 ? "ies" : "y", check_set_text(c, &summed));
        diag_note(c->diag, n->span, "the operands are the factors that hold the contracted axis itself; scales hold it divided (k/128) or not at all");
        return;
    }
    for (int k = 0; k < left->list.n; k++) {
        if (check_set_has(&info[operand[0]].free, left->list.at[k]) || check_set_has(&info[operand[1]].free, left->list.at[k])) continue;
        diag_error(c->diag, n->span, "'%s' of the left side is in neither operand", left->list.at[k]->name);
        return;
    }
    operand_types(c, factors.at[operand[0]], factors.at[operand[1]], info[operand[0]].ty, info[operand[1]].ty);
}
