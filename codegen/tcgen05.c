/* tcgen05 - Blackwell's family: operands by descriptors, accumulators in tensor memory, one thread issues.
 *
 * Roles come split (compiler/split.c): one warp issues and commits, the drain's warps read. Where a role stayed whole its
 * first thread issues its mma and commits slots back to their pipes; the other warps only follow. To read an
 * accumulator the issuer commits to a barrier, all warps wait for it and load their lanes; they meet before anything may
 * overwrite it. Row m of an accumulator is lane m % 128, further blocks of 128 rows take further columns; with 64 rows,
 * each warp finds 16 of them in its first lanes. Where two CTAs multiply together (pair.c), the first one's thread issues and
 * commits for both. PTX ISA, "Tensorcore 5th Generation Instructions". */
#include "codegen/tcgen05.h"
#include "compiler/scales.h"

enum { BLOCK_ROWS = 128, MOST_COLS = 256, COLUMN_UNIT = 16, LEAST_COLUMNS = 32, ALL_COLUMNS = 512, LANE_BUDGET = 128, MOST_LOADED = 64 };

static int ceil_to(int x, int unit) { return (x + unit - 1) / unit; }
static int block_rows(const struct mma_acc *acc) { return acc->rows <= 64 ? 64 : BLOCK_ROWS; }
static int blocks(const struct mma_acc *acc) { return ceil_to(acc->rows, BLOCK_ROWS); }
static int padded(const struct mma_acc *acc) { return ceil_to(acc->cols, COLUMN_UNIT) * COLUMN_UNIT; }

/* CTAs that multiply together. */
static int group(const struct gen *g) { return g->pair ? 2 : 1; }

/* ---- plan ---- */

static bool has_axes_of(const struct ir_var *v, const struct ir_var *acc)
{
    for (int i = 0; i < acc->naxes; i++)
        if (mma_axis_at(v->axes, v->naxes, acc->axes[i]) < 0) return false;
    return true;
}

/* Two warpgroups where one would hold too much of the accumulators, and of what is computed from them element by element. */
static int choose_warps(struct gen *g, struct gen_role *r)
{
    struct mma_state *st = mma_state(g);
    int elements = 0;
    bool divides = true;
    for (int i = 0; i < st->accs.n; i++) {
        struct mma_acc *acc = st->accs.at[i];
        if (acc->role != r) continue;
        for (int k = 0; k < g->fn->vars.n; k++)
            if (has_axes_of(g->fn->vars.at[k], acc->var)) elements += acc->cols * blocks(acc);
        divides &= acc->cols % 2 == 0 && layout_tmem(g->arena, acc->m, acc->nm, acc->n, acc->nn, 8);
    }
    return elements >= LANE_BUDGET && divides ? 8 : 4;
}

/* warps: those that read it */
static void place_acc(struct gen *g, int warps, struct mma_acc *acc)
{
    struct mma_tmem *t = &mma_state(g)->tmem;
    acc->layout = layout_tmem(g->arena, acc->m, acc->nm, acc->n, acc->nn, warps);
    acc->column = t->used;
    acc->rows_read = blocks(acc) * block_rows(acc);
    acc->cols_read = padded(acc);
    t->used += acc->places * acc->place_columns;
    if (acc->layout) acc->nregs = layout_regs(acc->layout);
    else
        gen_error(g, acc->var->span, "the axes of '%s' do not divide into lanes of tensor memory: all but the first on each side should have tiles of powers of two (say `by 16`)", acc->var->name);
    if (t->used > ALL_COLUMNS)
        gen_error(g, acc->var->span, "'%s' takes columns %d to %d of tensor memory, which has %d: smaller tiles, or fewer accumulators", acc->var->name, acc->column,
                  t->used - 1, ALL_COLUMNS);
}

static struct gen_role *role_of(struct gen *g, const struct ir_role *ir)
{
    for (int i = 0; i < g->roles.n; i++)
        if (g->roles.at[i].ir == ir) return &g->roles.at[i];
    return NULL;
}

/* Whether the accumulator goes from site to site in one place: a pipe of it says so. */
static bool one_place(const struct gen *g, const struct ir_var *v)
{
    for (int i = 0; i < g->fn->pipes.n; i++)
        if (g->fn->pipes.at[i]->home == v && g->fn->pipes.at[i]->depth == 1) return true;
    return false;
}

/* The next product is issued into a second place while the first is read, as far as there is room: two each, or as many as
 * asked for. Roles that come later keep theirs: several get one place an accumulator. */
static void choose_places(struct gen *g, struct gen_role *r)
{
    struct mma_state *st = mma_state(g);
    int total = st->tmem.used, issuers = 0;
    for (int i = 0; i < g->roles.n; i++) issuers += g->roles.at[i].has_mma;
    for (int i = 0; i < st->accs.n; i++) {
        struct mma_acc *acc = st->accs.at[i];
        if (acc->role != r) continue;
        acc->places = 1;
        acc->place = opd_imm(0);
        total += acc->place_columns = blocks(acc) * padded(acc);
    }
    for (int i = 0; r->ir->drain && issuers == 1 && i < st->accs.n; i++) {
        struct mma_acc *acc = st->accs.at[i];
        int most = acc->var->slots > 2 ? acc->var->slots : 2;
        if (acc->role != r || one_place(g, acc->var)) continue;
        for (; acc->places < most && total + acc->place_columns <= ALL_COLUMNS; acc->places++) total += acc->place_columns;
    }
}

static int places(struct gen *g, struct ir_var *v) { return mma_acc_of(g, v)->places; }

static void plan(struct gen *g, struct gen_role *r)
{
    struct mma_state *st = mma_state(g);
    struct mma_tmem *t = &st->tmem;
    struct gen_role *reader = r->ir->drain ? role_of(g, r->ir->drain) : r;
    mma_match_role(g, r);
    reader->warps = reader->ir->warps_m * (reader->ir->warps_n ? reader->ir->warps_n : 1);
    if (!reader->warps) reader->warps = choose_warps(g, r);
    if (reader->warps % 4) {
        gen_error(g, reader->ir->span, "role '%s' has %d warps; tensor memory is read by groups of 4, a quarter of its lanes each", reader->ir->name, reader->warps);
        return;
    }
    reader->drains = reader != r;
    for (int i = 0; i < st->ops.n; i++) {
        struct mma_op *op = st->ops.at[i];
        if (op->role != r) continue;
        op->scale_column = t->used;
        t->used += tcgen05_scale_columns(op);
    }
    choose_places(g, r);
    for (int i = 0; i < st->accs.n; i++)
        if (st->accs.at[i]->role == r) place_acc(g, reader->warps, st->accs.at[i]);
    if (r->ir->whole)
        gen_cost(g, r->ir->span, "role '%s' waits for its own products: it is not split into a site that issues and one that drains, as %s", r->ir->name, r->ir->whole);
    for (int i = 0; i < st->ops.n; i++) {
        struct mma_op *op = st->ops.at[i];
        if (op->role != r) continue;
        if (!op->a.field) mma_reserve_buffer(g, &op->a);
        if (!op->b.field) mma_reserve_buffer(g, &op->b);
    }
    if (!t->roles.n) t->address = gen_smem(g, 16, 16);
    vec_push(g->arena, &t->roles, r);
    vec_push(g->arena, &t->barriers, gen_barrier(g, 1));
    for (t->columns = LEAST_COLUMNS; t->columns < t->used; t->columns *= 2) {}
}

/* ---- tensor memory ---- */

/* Runs `body` on the CTA's first warp. */
static int first_warp(struct gen *g)
{
    struct opd tid = lir_reg(g->l, RC_B32);
    int skip = lir_label(g->l);
    lir_emit(g->l, "mov.u32 %r, %%tid.x", tid);
    lir_emit(g->l, "@%r bra %l", lir_cmp(g->l, "ge", tid, opd_imm(32)), skip);
    lir_emit(g->l, "bar.warp.sync 0xffffffff");
    return skip;
}

static void setup(struct gen *g)
{
    struct mma_tmem *t = &mma_state(g)->tmem;
    int skip = first_warp(g);
    struct opd to = lir_add(g->l, g->smem, opd_imm(t->address));
    lir_emit(g->l, "tcgen05.alloc.cta_group::%d.sync.aligned.shared::cta.b32 [%r], %d", group(g), to, t->columns);
    lir_emit(g->l, "tcgen05.relinquish_alloc_permit.cta_group::%d.sync.aligned", group(g));
    lir_place(g->l, skip);
    lir_emit(g->l, "tcgen05.fence::before_thread_sync");
}

static struct opd allocation(struct gen *g)
{
    struct opd at = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "ld.shared.b32 %r, [%r+%d]", at, g->smem, mma_state(g)->tmem.address);
    return at;
}

static void teardown(struct gen *g)
{
    int skip = first_warp(g);
    lir_emit(g->l, "tcgen05.dealloc.cta_group::%d.sync.aligned.b32 %r, %d", group(g), allocation(g), mma_state(g)->tmem.columns);
    lir_place(g->l, skip);
}

/* ---- begin ---- */

static bool check_major(struct gen *g, const struct mma_op *op, const struct mma_operand *o)
{
    if (o->k_major || type_bits(o->type) != 32) return true;
    gen_error(g, op->s->span, "'%s' holds tf32 contiguous along '%s'; tcgen05 reads it contiguous along what is summed over", o->field ? o->field->name : "the operand",
              o->mn[o->nmn - 1]->name);
    return false;
}

static int columns(const struct mma_acc *acc)
{
    int cols = padded(acc), parts = ceil_to(cols, MOST_COLS);
    while (cols % parts || cols / parts % COLUMN_UNIT) parts++;
    return cols / parts;
}

static void check_op(struct gen *g, struct mma_op *op)
{
    if (op->s->factors.n && tcgen05_scale_type(op) == TY_ue4m3 && op->a.type != TY_e2m1)
        gen_error(g, op->s->span, "ue4m3 scales are for fp4 that lies along what is summed over; these operands are widened to %s", type_name(op->a.type));
    bool parts = columns(op->acc) < padded(op->acc);
    if (!check_major(g, op, &op->a) || !check_major(g, op, &op->b)) return;
    if (mma_check_descriptor(g, op, &op->a, block_rows(op->acc))) mma_check_descriptor(g, op, &op->b, parts ? columns(op->acc) : op->b.form.per_panel);
}

static void begin_role(struct gen *g)
{
    struct lir *l = g->l;
    struct mma_state *st = mma_state(g);
    struct mma_tmem *t = &st->tmem;
    lir_emit(l, "tcgen05.fence::after_thread_sync");
    t->base = allocation(g);
    if (g->role->drains) return;
    for (int i = 0; i < t->roles.n; i++)
        if (t->roles.at[i] == g->role) t->barrier = lir_add(l, g->smem, opd_imm(t->barriers.at[i]));
    t->parity = lir_reg(l, RC_B32);
    lir_set(l, t->parity, opd_imm(0));
    t->issue = lir_cmp(l, "eq", g->role->thread, opd_imm(0));
    for (int i = 0; i < st->accs.n; i++) {
        struct mma_acc *acc = st->accs.at[i];
        if (acc->role != g->role || !acc->layout) continue;
        acc->keep = lir_reg(l, RC_PRED);
        lir_set(l, acc->keep, opd_imm(0));
    }
    for (int i = 0; i < st->ops.n; i++) {
        struct mma_op *op = st->ops.at[i];
        if (op->role == g->role && mma_prepare(g, op)) check_op(g, op);
    }
    st->clean_at = l->code.n;
}

/* ---- completion ---- */

static void commit(struct gen *g, struct opd barrier)
{
    if (g->pair) {
        lir_emit(g->l, "bar.warp.sync 0xffffffff"); /* none of the warp waits for a phase that this may end twice */
        lir_emit(g->l, "@%r tcgen05.commit.cta_group::2.mbarrier::arrive::one.shared::cluster.multicast::cluster.b64 [%r], %r", mma_state(g)->tmem.issue, barrier,
                 lir_in_reg(g->l, opd_imm(3), RC_B16));
        return;
    }
    lir_emit(g->l, "@%r tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%r]", mma_state(g)->tmem.issue, barrier);
}

/* Waits, in every warp, for all mma issued. The warps must meet before the next commit: none may miss a phase. */
static void flush(struct gen *g)
{
    struct mma_state *st = mma_state(g);
    struct mma_tmem *t = &st->tmem;
    if (mma_straight(g, st->clean_at)) return;
    commit(g, t->barrier);
    gen_wait_barrier(g, t->barrier, t->parity);
    lir_emit(g->l, "xor.b32 %r, %r, 1", t->parity, t->parity);
    lir_emit(g->l, "tcgen05.fence::after_thread_sync");
    st->clean_at = g->l->code.n;
}

static void consume_end(struct gen *g, struct gen_pipe *p)
{
    if (p->commit_releases) commit(g, pipe_empty_barrier(g, p, p->held));
    if (!p->paired) pipe_release(g, p, p->held, opd_imm(1));
}

/* ---- mma ---- */

static const struct tcgen05_type {
    enum type type;
    const char *kind;
    uint32_t format, acc; /* of the instruction descriptor */
} tcgen05_types[] = {
    { TY_bf16, "f16", 1, 1 },    { TY_f16, "f16", 0, 1 }, { TY_tf32, "tf32", 2, 1 }, { TY_e4m3, "f8f6f4", 0, 1 },
    { TY_e5m2, "f8f6f4", 1, 1 }, { TY_i8, "i8", 1, 2 },   { TY_u8, "i8", 0, 2 },     { TY_e2m1, "mxf4", 1, 1 },
};

static const struct tcgen05_type *tcgen05_type(enum type t)
{
    for (int i = 0; i < COUNT(tcgen05_types); i++)
        if (tcgen05_types[i].type == t) return &tcgen05_types[i];
    return NULL;
}

/* PTX ISA, "Instruction descriptor": A's type 9:7, B's 12:10, transposes 15 and 16, N / 8 22:17, M / 16 28:24. D's type 5:4;
 * with block scales these bits are the id of B's, 30:29 that of A's, and bit 23 tells ue8m0 from ue4m3. */
static uint32_t instruction_descriptor(const struct mma_op *op, int rows, int cols, int id_a, int id_b)
{
    const struct tcgen05_type *a = tcgen05_type(op->a.type), *b = tcgen05_type(op->b.type);
    uint32_t scales = op->s->factors.n ? (uint32_t)id_b << 4 | (uint32_t)id_a << 29 | (uint32_t)(tcgen05_scale_type(op) == TY_ue8m0) << 23 : a->acc << 4;
    return scales | a->format << 7 | b->format << 10 | (uint32_t)!op->a.k_major << 15 | (uint32_t)!op->b.k_major << 16 | (uint32_t)cols / 8 << 17 |
           (uint32_t)rows / 16 << 24;
}

static uint32_t swizzle_code(int swizzle) { return swizzle == 128 ? 2 : swizzle == 64 ? 4 : swizzle == 32 ? 6 : 0; }

struct descriptor {
    struct opd low;
    uint32_t high;
};

/* PTX ISA, "Shared memory descriptor": SBO 45:32, constant 1 at 46, swizzle 63:61. */
static struct descriptor describe(struct gen *g, struct mma_op *op, struct mma_operand *o)
{
    int lbo, sbo;
    mma_descriptor_strides(o, &lbo, &sbo);
    return (struct descriptor){ mma_descriptor_low(g, mma_address(g, op, o), lbo), (uint32_t)((sbo & 0x3ffff) >> 4) | 1u << 14 | swizzle_code(o->form.swizzle) << 29 };
}

static struct opd advance(struct gen *g, struct descriptor d, int bytes)
{
    return mma_descriptor(g, lir_add(g->l, d.low, opd_imm(bytes >> 4)), d.high);
}

/* One instruction: the block of rows and the part of columns that begin at row, col; in a step. */
struct part {
    int step, row, col, rows, cols;
    struct opd d, a, b, keep;
};

static const char *scaled_kind(const struct mma_op *op)
{
    return op->a.type != TY_e2m1 ? "mxf8f6f4" : tcgen05_scale_type(op) == TY_ue8m0 ? "mxf4" : "mxf4nvf4";
}

static void issue_part(struct gen *g, const struct mma_op *op, const struct tcgen05_scales *scales, const struct part *p)
{
    struct lir *l = g->l;
    const char *kind = tcgen05_type(op->a.type)->kind;
    int id_a = 0, id_b = 0;
    if (!scales) {
        struct opd idesc = lir_in_reg(l, opd_imm((int32_t)instruction_descriptor(op, p->rows * group(g), p->cols, 0, 0)), RC_B32);
        lir_emit(l, "tcgen05.mma.cta_group::%d.kind::%s [%r], %r, %r, %r, %r", group(g), kind, p->d, p->a, p->b, idesc, p->keep);
        return;
    }
    struct opd sa = tcgen05_scale(g, op, scales, false, p->step, p->row, &id_a), sb = tcgen05_scale(g, op, scales, true, p->step, p->col, &id_b);
    struct opd idesc = lir_in_reg(l, opd_imm((int32_t)instruction_descriptor(op, p->rows * group(g), p->cols, id_a, id_b)), RC_B32);
    lir_emit(l, "tcgen05.mma.cta_group::%d.kind::%s.block_scale.scale_vec::%dX [%r], %r, %r, %r, [%r], [%r], %r", group(g), scaled_kind(op),
             op->step_k / scale_block(tcgen05_scale_type(op)), p->d, p->a, p->b, idesc, sa, sb, p->keep);
}

static void issue(struct gen *g, struct mma_op *op, struct opd first)
{
    struct lir *l = g->l;
    struct mma_acc *acc = op->acc;
    struct tcgen05_scales held;
    const struct tcgen05_scales *scales = op->s->factors.n ? &held : NULL;
    struct part p = { .cols = columns(acc), .rows = block_rows(acc) };
    struct descriptor da = describe(g, op, &op->a), db = describe(g, op, &op->b);
    struct opd on = lir_in_reg(l, opd_imm(1), RC_PRED);
    first = lir_in_reg(l, first, RC_PRED);
    if (scales) held = tcgen05_copy_scales(g, op);
    for (p.step = 0; p.step < op->steps.n; p.step++)
        for (p.row = 0; p.row < acc->rows; p.row += p.rows)
            for (p.col = 0; p.col < padded(acc); p.col += p.cols) {
                p.a = advance(g, da, mma_step_bytes(op, &op->a, p.step) + mma_mn_bytes(&op->a, p.row));
                p.b = advance(g, db, mma_step_bytes(op, &op->b, p.step) + mma_mn_bytes(&op->b, p.col));
                p.d = lir_add(l, lir_add(l, mma_state(g)->tmem.base, acc->place), opd_imm(acc->column + p.row / p.rows * padded(acc) + p.col));
                p.keep = p.step ? on : first;
                issue_part(g, op, scales, &p);
            }
}

static void mma(struct gen *g, struct ir_stmt *s)
{
    struct mma_state *st = mma_state(g);
    struct mma_op *op = mma_op_of(g, s);
    struct lir *l = g->l;
    if (!op || g->failed) return;
    if (op->a.buffer >= 0) mma_fill_buffer(g, op, &op->a, flush);
    if (op->b.buffer >= 0) mma_fill_buffer(g, op, &op->b, flush);
    mma_zero_tails(g, op);
    int skip = lir_label(l);
    lir_emit(l, "@!%r bra %l", st->tmem.issue, skip);
    lir_emit(l, "tcgen05.fence::after_thread_sync");
    issue(g, op, s->flag ? op->acc->keep : opd_imm(0));
    lir_place(l, skip);
    lir_set(l, op->acc->keep, opd_imm(1));
    st->clean_at = op->acc->read_at = -1;
    op->acc->written_at = l->code.n;
}

/* ---- accumulators as registers ---- */

/* Columns in a row that four warps hold: layout_tmem. */
static int run_of(const struct gen *g, const struct mma_acc *acc) { return layout_tmem_run(acc->n, acc->nn, g->role->warps); }

/* Address of this warp's lanes of its column c of block b. */
static struct opd lanes(struct gen *g, const struct mma_acc *acc, int block, int c)
{
    struct lir *l = g->l;
    int groups = g->role->warps / 4, run = run_of(g, acc), column = c / run * run * groups + c % run;
    struct opd at = lir_add(l, mma_state(g)->tmem.base, lir_shl(l, lir_and(l, g->role->warp, opd_imm(3)), 21));
    if (groups > 1) at = lir_add(l, at, lir_mul(l, lir_shr_u(l, g->role->warp, 2), opd_imm(run)));
    return lir_add(l, lir_add(l, at, acc->place), opd_imm(acc->column + block * padded(acc) + column));
}

/* Calls ld or st for runs of a power of two of columns: 64 at most, as ptxas wants the registers of one at entry, whatever
 * setmaxnreg adds later (and 128 are all there are where functions are called). With 64 rows the second 16 lanes are given the first ones' columns. */
static void transfer(struct gen *g, const struct mma_acc *acc, const struct opd *regs, bool load)
{
    struct lir *l = g->l;
    int cols = acc->nregs / blocks(acc), run = run_of(g, acc);
    const char *shape = acc->rows <= 64 ? "16x32bx2" : "32x32b", *offset = acc->rows <= 64 ? ", 0" : "";
    for (int block = 0; block < blocks(acc); block++)
        for (int c = 0, n; c < cols; c += n) {
            for (n = MOST_LOADED; n > run - c % run; n /= 2) {}
            const struct opd *r = regs + block * cols + c;
            struct opd at = lanes(g, acc, block, c);
            if (load) lir_emit(l, "tcgen05.ld.sync.aligned.%s.x%d.b32 %R, [%r]%s", shape, n, r, n, at, offset);
            else lir_emit(l, "tcgen05.st.sync.aligned.%s.x%d.b32 [%r]%s, %R", shape, n, at, offset, r, n);
        }
    lir_emit(l, load ? "tcgen05.wait::ld.sync.aligned" : "tcgen05.wait::st.sync.aligned");
}

/* What the warps did to tensor memory comes before what is issued next. */
static void meet(struct gen *g)
{
    lir_emit(g->l, "tcgen05.fence::before_thread_sync");
    gen_role_sync(g);
}

static const struct layout *layout(struct gen *g, struct ir_var *v)
{
    struct mma_acc *acc = mma_acc_of(g, v);
    return acc ? acc->layout : NULL;
}

static struct opd *read(struct gen *g, struct ir_var *v)
{
    struct mma_acc *acc = mma_acc_of(g, v);
    if (mma_straight(g, acc->read_at)) return acc->regs;
    flush(g);
    bool clean = mma_straight(g, mma_state(g)->clean_at);
    acc->regs = new_n(g->arena, struct opd, acc->nregs);
    for (int r = 0; r < acc->nregs; r++) acc->regs[r] = lir_reg(g->l, RC_B32);
    transfer(g, acc, acc->regs, true);
    meet(g);
    mma_zero_unless_kept(g, acc, acc->regs, acc->nregs);
    acc->read_at = g->l->code.n;
    if (clean) mma_state(g)->clean_at = g->l->code.n;
    return acc->regs;
}

static void write(struct gen *g, struct ir_var *v, const struct opd *elements)
{
    struct mma_acc *acc = mma_acc_of(g, v);
    struct lir *l = g->l;
    if (!acc || !acc->layout || g->failed) return;
    if (elements) {
        struct opd *regs = new_n(g->arena, struct opd, acc->nregs);
        flush(g);
        for (int r = 0; r < acc->nregs; r++) regs[r] = lir_in_reg(l, elements[r], RC_B32);
        transfer(g, acc, regs, false);
        meet(g);
    }
    lir_set(l, acc->keep, opd_imm(elements != NULL));
    acc->written_at = elements ? l->code.n : -1;
    acc->read_at = -1;
}

static void task_end(struct gen *g)
{
    if (g->role->ir->drain) return; /* the drain waits for what it reads */
    if (mma_straight(g, mma_state(g)->clean_at)) return;
    flush(g);
    meet(g);
}

/* ---- accumulators as slots, between the sites of a split role ---- */

/* What the other site did to the slot comes before what is done now. */
static void slot_begin(struct gen *g, struct gen_pipe *p)
{
    struct lir *l = g->l;
    struct mma_acc *acc = mma_acc_of(g, p->ir->home);
    acc->place = p->depth > 1 ? lir_mul(l, p->held, opd_imm(acc->place_columns)) : opd_imm(0);
    acc->filled = opd_imm(1);
    lir_emit(l, "tcgen05.fence::after_thread_sync");
    if (g->role->has_mma || p->flags < 0 || p->producer == g->role) return;
    struct opd flag = lir_reg(l, RC_B32), at = lir_add(l, lir_add(l, g->smem, lir_shl(l, p->held, 2)), opd_imm(p->flags));
    lir_emit(l, "ld.shared.b32 %r, [%r]", flag, lir_in_reg(l, at, RC_B32));
    acc->filled = lir_cmp(l, "ne", flag, opd_imm(0));
}

/* Whether the slot holds a value; the arrival carries it. To both CTAs of a pair. */
static void tell_flag(struct gen *g, const struct gen_pipe *p, struct opd value)
{
    struct lir *l = g->l;
    struct opd issue = mma_state(g)->tmem.issue, state = lir_reg(l, RC_B64);
    struct opd at = lir_in_reg(l, lir_add(l, lir_add(l, g->smem, lir_shl(l, p->held, 2)), opd_imm(p->flags)), RC_B32);
    for (int cta = 0; cta < group(g) && g->pair; cta++) {
        struct opd there = lir_reg(l, RC_B32), full = lir_reg(l, RC_B32);
        lir_emit(l, "mapa.shared::cluster.u32 %r, %r, %d", there, at, cta);
        lir_emit(l, "mapa.shared::cluster.u32 %r, %r, %d", full, lir_in_reg(l, p->full_now, RC_B32), cta);
        lir_emit(l, "@%r st.shared::cluster.b32 [%r], %r", issue, there, value);
        lir_emit(l, "@%r mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r]", issue, full);
    }
    if (g->pair) return;
    lir_emit(l, "@%r st.shared.b32 [%r], %r", issue, at, value);
    lir_emit(l, "@%r mbarrier.arrive.shared.b64 %r, [%r]", issue, state, p->full_now);
}

static void slot_end(struct gen *g, struct gen_pipe *p)
{
    struct lir *l = g->l;
    struct mma_acc *acc = mma_acc_of(g, p->ir->home);
    if (p->producer != g->role || !g->role->has_mma) {
        lir_emit(l, "tcgen05.fence::before_thread_sync");
        return;
    }
    if (p->flags >= 0) tell_flag(g, p, lir_sel(l, acc->keep, opd_imm(1), opd_imm(0), RC_B32)); /* the commit's arrival: what the products wrote */
    commit(g, p->full_now);
}

static void slot_adopt(struct gen *g, struct ir_var *v) { lir_set(g->l, mma_acc_of(g, v)->keep, opd_imm(1)); }

static struct opd *slot_read(struct gen *g, struct ir_var *v)
{
    struct lir *l = g->l;
    struct mma_acc *acc = mma_acc_of(g, v);
    struct opd *regs = new_n(g->arena, struct opd, acc->nregs);
    for (int r = 0; r < acc->nregs; r++) regs[r] = lir_reg(l, RC_B32);
    transfer(g, acc, regs, true);
    if (opd_is(acc->filled, 1)) return regs;
    int skip = lir_label(l);
    lir_emit(l, "@%r bra %l", acc->filled, skip);
    for (int r = 0; r < acc->nregs; r++) lir_set(l, regs[r], opd_imm(0));
    lir_place(l, skip);
    return regs;
}

static void slot_write(struct gen *g, struct ir_var *v, const struct opd *elements)
{
    struct mma_acc *acc = mma_acc_of(g, v);
    struct opd *regs = new_n(g->arena, struct opd, acc->nregs);
    for (int r = 0; r < acc->nregs; r++) regs[r] = lir_in_reg(g->l, elements[r], RC_B32);
    transfer(g, acc, regs, false);
}

const struct mma_family tcgen05_family = {
    .name = "tcgen05", .async = true, .plan = plan, .setup = setup, .teardown = teardown, .begin_role = begin_role, .mma = mma, .layout = layout,
    .read = read, .write = write, .places = places, .slot_begin = slot_begin, .slot_end = slot_end, .slot_adopt = slot_adopt,
    .slot_read = slot_read, .slot_write = slot_write, .consume_end = consume_end, .task_end = task_end,
};
