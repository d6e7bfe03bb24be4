/* fill_rows - slots that threads copy with cp.async, of rows that lie as far apart as the data say.
 *
 * A row of the tile is cut into units that neighbouring lanes copy; a thread's next unit lies a fixed number of rows below its
 * last. So a row's address is worked out once a slot, and each further unit takes an add of a pitch. What lies outside of the
 * tensor becomes zero through cp.async's source size. */
#include "codegen/eval.h"
#include "codegen/pipe.h"
#include "compiler/slope.h"

/* The unit that this thread copies now. */
struct unit {
    struct opd at[IR_RANK];    /* indices into the tensor */
    struct opd from, to;       /* global and shared address */
};

struct rows {
    struct gen *g;
    const struct gen_field *f;
    const struct ir_tensor *t;
    struct slopes slopes[IR_RANK];              /* by dimension */
    struct opd start[IR_RANK], by[IR_RANK][IR_RANK]; /* the tile's first element; what an axis of the field adds */
    int units_row, per_unit, threads;
};

/* All of it is worked out, wherever the unit lies. */
static void locate(const struct rows *r, struct opd number, struct unit *u)
{
    struct lir *l = r->g->l;
    const struct ir_field *f = r->f->ir;
    struct opd rel[IR_RANK], rest = lir_div(l, number, opd_imm(r->units_row), true);
    for (int i = f->naxes - 1, left = r->f->rows; i >= 0; i--) {
        if (i == r->f->inner) continue;
        left /= f->axes[i]->tile;
        rel[i] = left > 1 ? lir_mod(l, rest, opd_imm(f->axes[i]->tile), true) : rest;
        rest = left > 1 ? lir_div(l, rest, opd_imm(f->axes[i]->tile), true) : opd_imm(0);
    }
    rel[r->f->inner] = lir_mul(l, lir_mod(l, number, opd_imm(r->units_row), true), opd_imm(r->per_unit));
    u->from = gen_tensor_pointer(r->g, r->t);
    for (int d = 0; d < r->t->rank; d++) {
        u->at[d] = r->start[d];
        for (int i = 0; i < f->naxes; i++) u->at[d] = lir_mad(l, rel[i], r->by[d][i], u->at[d]);
        struct opd elements = lir_mul64(l, lir_widen(l, u->at[d]), gen_stride(r->g, r->t, d));
        u->from = lir_add64(l, u->from, lir_mul64(l, elements, opd_imm(r->f->elem_bits / 8)));
    }
    u->to = pipe_element(r->g, f, rel);
}

/* How far a thread's next unit lies below its last: whole swizzle patterns. 0: that differs. */
static int rows_down(const struct rows *r)
{
    int down = r->threads % r->units_row ? 0 : r->threads / r->units_row;
    return r->f->ir->naxes == 2 && (!r->f->swizzle || down % 8 == 0) ? down : 0;
}

/* What a step of so many rows adds to the indices, and in bytes to the address. */
struct step {
    struct opd at[IR_RANK], from;
    int to;
};

static struct step step_of(const struct rows *r, int down)
{
    struct lir *l = r->g->l;
    struct step s = { .from = opd_imm(0), .to = down * r->f->span };
    for (int d = 0; d < r->t->rank && down; d++) {
        s.at[d] = lir_mul(l, r->by[d][!r->f->inner], opd_imm(down));
        struct opd elements = lir_mul64(l, lir_widen(l, s.at[d]), gen_stride(r->g, r->t, d));
        s.from = lir_add64(l, s.from, lir_mul64(l, elements, opd_imm(r->f->elem_bits / 8)));
    }
    return s;
}

static void step_down(const struct rows *r, const struct step *s, struct unit *u)
{
    struct lir *l = r->g->l;
    for (int d = 0; d < r->t->rank; d++) u->at[d] = lir_add(l, u->at[d], s->at[d]);
    u->from = lir_add64(l, u->from, s->from);
    u->to = lir_add(l, u->to, opd_imm(s->to));
}

/* Of the unit, what lies in the tensor. */
static struct opd bytes_inside(const struct rows *r, const struct unit *u, int unit)
{
    struct lir *l = r->g->l;
    struct opd inside = opd_imm(1), bytes = opd_imm(unit);
    for (int d = 0; d < r->t->rank; d++) {
        struct opd size = gen_scalar(r->g, r->t->dim[d]), below = lir_reg(l, RC_PRED);
        lir_emit(l, "setp.lt.u32 %r, %r, %r", below, lir_in_reg(l, u->at[d], RC_B32), size);
        inside = lir_pand(l, inside, below);
        if (d != r->t->inner || ir_divisor(r->g->fn, r->t->dim[d]) % r->per_unit == 0) continue;
        bytes = lir_min(l, lir_mul(l, lir_sub(l, size, u->at[d]), opd_imm(r->f->elem_bits / 8)), bytes);
    }
    return lir_sel(l, inside, bytes, opd_imm(0), RC_B32);
}

/* number: the unit's, in row order, where it may be past the last; else none. */
static void copy_unit(const struct rows *r, const struct unit *u, int unit, struct opd number)
{
    struct lir *l = r->g->l;
    struct opd bytes = bytes_inside(r, u, unit);
    int skip = opd_none(number) ? -1 : lir_label(l);
    if (skip >= 0) lir_emit(l, "@%r bra %l", lir_cmp(l, "ge", number, opd_imm(r->f->rows * r->units_row)), skip);
    pipe_cp_async(r->g, r->t, u->to, u->from, unit, bytes);
    if (skip >= 0) lir_place(l, skip);
}

static void find_rows(struct rows *r, const struct ir_expr *read)
{
    struct gen *g = r->g;
    const struct ir_field *f = r->f->ir;
    for (int d = 0; d < r->t->rank; d++) {
        struct slopes *s = &r->slopes[d];
        slopes_of(g->arena, f, read->args[d], s);
        r->start[d] = s->rest ? gen_scalar(g, s->rest) : opd_imm(0);
        for (int i = 0; i < f->naxes; i++) {
            r->by[d][i] = s->by[i] ? gen_scalar(g, s->by[i]) : opd_imm(0);
            if (s->by[i]) r->start[d] = lir_mad(g->l, gen_origin(g, f->axes[i]), r->by[d][i], r->start[d]);
        }
    }
}

/* Few threads take many turns: a loop. */
static void copy_in_turns(const struct rows *r, int unit, int units)
{
    struct lir *l = r->g->l;
    struct opd number = lir_reg(l, RC_B32);
    struct unit u;
    int again = lir_label(l), mark = eval_mark(r->g);
    lir_set(l, number, r->g->role->thread);
    lir_place(l, again);
    locate(r, number, &u);
    copy_unit(r, &u, unit, units % r->threads ? number : (struct opd){ 0 });
    lir_emit(l, "add.s32 %r, %r, %d", number, number, r->threads);
    lir_emit(l, "@%r bra %l", lir_cmp(l, "lt", number, opd_imm(units)), again);
    eval_release(r->g, mark);
}

enum { MOST_TURNS = 24 };

void fill_rows(struct gen *g, const struct gen_field *f, const struct ir_stmt *s)
{
    int unit = f->plan->unit, per_unit = unit * 8 / f->elem_bits, units = f->rows * (f->cols / per_unit);
    struct rows r = { .g = g, .f = f, .t = s->expr->tensor, .units_row = f->cols / per_unit, .per_unit = per_unit, .threads = g->role->warps * 32 };
    struct unit u;
    find_rows(&r, s->expr);
    if (units > r.threads * MOST_TURNS) {
        copy_in_turns(&r, unit, units);
        return;
    }
    int down = rows_down(&r);
    struct step step = step_of(&r, down);
    for (int first = 0; first < units; first += r.threads) {
        struct opd number = { 0 };
        if (!first || !down || units - first < r.threads) number = lir_add(g->l, g->role->thread, opd_imm(first));
        if (first && down) step_down(&r, &step, &u);
        else locate(&r, number, &u);
        copy_unit(&r, &u, unit, units - first < r.threads ? number : (struct opd){ 0 });
    }
}
