/* mma_scales - block scales as mma.sync takes them: which lane gives the scale of which row or column.
 *
 * With lane = 4g + q: the lanes q = 2t and 2t + 1 give the scales of rows g and g + 8 of A where the instruction's thread id
 * is t, the lane q = t that of column g of B. So one register holds the scales of two atoms along M or of four along N. Of its
 * bytes, a K of 64 in two blocks uses the lowest two, one block the lowest. PTX ISA, "Block scaling for mma.sync". */
#include "codegen/eval.h"
#include "codegen/mma_common.h"
#include "compiler/scales.h"

#include <assert.h>

enum { UE8M0_ONE = 0x7f };

/* The scales of one side: which coordinates they are of, and where they are. */
struct side {
    struct gen *g;
    const struct mma_op *op;
    const struct ir_expr *e;
    struct ir_axis *granule[IR_RANK]; /* e's window axes of contracted axes */
    int ngranules, all;               /* all: granules of a tile, over all of these axes */
    const struct layout *lay, *own;   /* own: over e's axes alone */
    struct opd *value;                /* in own */
    struct opd *word;                 /* by register of lay, once it is needed */
};

static const struct layout *side_layout(struct side *s, bool b, int *per)
{
    const struct mma_acc *acc = s->op->acc;
    int atoms = b ? acc->n_atoms : acc->m_atoms;
    for (*per = b ? 4 : 2; *per > 1 && *per / 2 >= atoms;) *per /= 2;
    for (;; *per /= 2) { /* axes that do not divide into several atoms divide into one */
        const struct layout *lay = layout_scales(s->g->arena, b ? acc->n : acc->m, b ? acc->nn : acc->nm, s->granule, s->ngranules, b, acc->wm, acc->wn, atoms, *per);
        if (lay || *per == 1) return lay;
    }
}

static bool is_result(const struct mma_acc *acc, const struct ir_axis *x)
{
    return mma_axis_at(acc->m, acc->nm, x) >= 0 || mma_axis_at(acc->n, acc->nn, x) >= 0;
}

static bool read_side(struct side *s, bool b, int *per)
{
    s->all = 1;
    for (int i = 0; i < s->e->naxes; i++) {
        if (is_result(s->op->acc, s->e->axes[i])) continue;
        s->granule[s->ngranules++] = s->e->axes[i];
        s->all *= s->e->axes[i]->tile;
    }
    s->lay = side_layout(s, b, per);
    if (!s->lay) {
        gen_error(s->g, s->op->s->span, "the axes of these scales do not divide into atoms of 8 rows");
        return false;
    }
    s->own = layout_project(s->g->arena, s->lay, s->e->axes, s->e->naxes);
    s->word = new_n(s->g->arena, struct opd, layout_regs(s->lay));
    if (s->e->naxes) s->value = gen_tile(s->g, s->e, s->own);
    return true;
}

/* The granule of the block that is `block` times 32 coordinates into a step. */
static int granule_of(const struct side *s, int step, int block)
{
    int at = 0;
    for (int i = 0; i < s->ngranules; i++) {
        const struct ir_axis *w = s->granule[i];
        int k = mma_axis_at(s->op->a.k, s->op->a.nk, w->of);
        int c = s->op->steps.at[step].at[k] + (k == s->op->fast ? block * SCALE_BLOCK : 0);
        at = at * w->tile + c / w->div;
    }
    return at;
}

static struct opd scale_word(struct side *s, int group, int granule)
{
    int r = group * s->all + granule;
    if (!opd_none(s->word[r])) return s->word[r];
    struct opd x = s->e->naxes ? s->value[layout_project_reg(s->lay, s->own, r)] : gen_scalar(s->g, s->e);
    return s->word[r] = lir_in_reg(s->g->l, scalar_to_b32(s->g, TY_ue8m0, x), RC_B32);
}

static struct opd two_bytes(struct gen *g, struct opd low, struct opd high)
{
    struct opd d = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "prmt.b32 %r, %r, %r, %x", d, low, high, (uint64_t)0x5540); /* the bytes 0 of both; the upper half is not used */
    return d;
}

static void load_side(struct gen *g, struct mma_op *op, const struct ir_expr *e, bool b, struct mma_scale_side *out)
{
    int atoms = b ? op->acc->n_atoms : op->acc->m_atoms, blocks = op->step_k / SCALE_BLOCK;
    struct side s = { .g = g, .op = op, .e = e };
    *out = (struct mma_scale_side){ .per = atoms, .groups = 1, .word = new_n(g->arena, struct opd, op->steps.n * atoms) };
    if (!e) {
        struct opd one = lir_in_reg(g->l, opd_imm(UE8M0_ONE * 0x01010101), RC_B32);
        out->per = 0;
        for (int i = 0; i < op->steps.n; i++) out->word[i] = one;
        return;
    }
    if (!read_side(&s, b, &out->per)) return;
    out->groups = (atoms + out->per - 1) / out->per;
    for (int i = 0; i < op->steps.n * out->groups; i++) {
        int step = i / out->groups, group = i % out->groups;
        out->word[i] = scale_word(&s, group, granule_of(&s, step, 0));
        if (blocks > 1) out->word[i] = two_bytes(g, out->word[i], scale_word(&s, group, granule_of(&s, step, 1)));
    }
}

struct mma_scales mma_scales_load(struct gen *g, struct mma_op *op)
{
    struct scales f = { 0 };
    struct mma_scales sc;
    bool applied = scales_applied(g->target, op->s, &f);
    assert(applied == (op->s->factors.n > 0)); /* promote left no others */
    (void)applied;
    bool flip = op->s->var->flip;
    load_side(g, op, flip ? f.second : f.first, false, &sc.side[0]);
    load_side(g, op, flip ? f.first : f.second, true, &sc.side[1]);
    return sc;
}

struct opd mma_scale(const struct mma_scales *sc, bool b, int step, int atom, int *thread)
{
    const struct mma_scale_side *s = &sc->side[b];
    *thread = s->per ? atom % s->per : 0;
    return s->word[step * s->groups + (s->per ? atom / s->per : 0)];
}
