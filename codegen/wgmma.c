/* wgmma - Hopper's warpgroup family: operands by descriptors (A possibly from registers), accumulators in registers.
 *
 * A statement becomes  fence, wgmma for each step of 32 bytes along K, commit.  Accumulators are never zeroed by moves
 * inside that stage: a first mma overwrites (scale-d false). Where a slot is read by nothing but mma, one group stays in
 * flight over the end of its scope and the slot before it is released. Whatever reads or writes accumulators waits for
 * all groups first. PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions". */
#include "codegen/mma_common.h"

#include <string.h>

/* ---- plan ---- */

enum { BLOCK_ROWS = 64, MOST_COLS = 256 };

static int ceil_to(int x, int unit) { return (x + unit - 1) / unit; }

static bool is_int(const struct mma_op *op) { return !type_is_float(op->a.type); }

/* Moves the outermost factor of the accumulator's columns from registers to warpgroups. */
static bool split_columns(struct layout *lay, int n)
{
    int last = -1;
    for (int i = 0; i < lay->n; i++)
        if (lay->digit[i].place == LAY_REG) last = i;
    if (n == 1) return true;
    if (last < 0 || lay->digit[last].extent % n) return false;
    struct lay_digit d = lay->digit[last];
    int left = lay->digit[last].extent /= n;
    if (left == 1) memmove(lay->digit + last, lay->digit + last + 1, sizeof d * (size_t)(--lay->n - last));
    lay->digit[lay->n++] = (struct lay_digit){ LAY_WARP, d.axis, n, d.stride * left };
    return true;
}

/* Warpgroups split the rows, blocks of 64 dealt in turn; where there are fewer blocks than warpgroups, the columns too. */
static void place_acc(struct gen *g, struct gen_role *r, struct mma_acc *acc)
{
    int groups = r->warps / 4, blocks = ceil_to(acc->rows, BLOCK_ROWS), atoms = ceil_to(acc->cols, 8);
    acc->wm = groups < blocks ? groups : blocks;
    while (groups % acc->wm || blocks % acc->wm) acc->wm--;
    acc->wn = groups / acc->wm;
    acc->m_atoms = blocks / acc->wm;
    acc->n_atoms = atoms / acc->wn;
    acc->rows_read = blocks * BLOCK_ROWS;
    acc->cols_read = atoms * 8;
    struct layout *lay = layout_wgmma(g->arena, acc->m, acc->nm, acc->n, acc->nn, false, acc->wm, acc->m_atoms);
    acc->layout = lay;
    if (!lay)
        gen_error(g, acc->var->span, "the axes of '%s' do not divide into blocks of 64 x 8 elements: all but the first on each side should have tiles of powers of two (say `by 16`)", acc->var->name);
    else if (atoms % acc->wn || (acc->wn > 1 && acc->m_atoms > 1) || !split_columns(lay, acc->wn))
        gen_error(g, acc->var->span, "'%s' is %d x %d: %d warpgroups cannot share it in blocks of 64 rows or equal parts of its columns", acc->var->name, acc->rows, acc->cols, groups);
}

static int choose_groups(struct gen *g, struct gen_role *r)
{
    struct mma_state *st = mma_state(g);
    bool wanted = false, possible = true;
    for (int i = 0; i < st->accs.n; i++) {
        const struct mma_acc *acc = st->accs.at[i];
        if (acc->role != r) continue;
        wanted |= acc->rows >= 2 * BLOCK_ROWS || acc->rows * acc->cols > BLOCK_ROWS * MOST_COLS / 2;
        possible &= ceil_to(acc->rows, BLOCK_ROWS) % 2 == 0 || (acc->rows <= BLOCK_ROWS && acc->cols % 16 == 0);
    }
    return wanted && possible ? 2 : 1;
}

static void plan(struct gen *g, struct gen_role *r)
{
    struct mma_state *st = mma_state(g);
    mma_match_role(g, r);
    r->warps = r->ir->warps_m * (r->ir->warps_n ? r->ir->warps_n : 1);
    if (!r->warps) r->warps = 4 * choose_groups(g, r);
    if (r->warps % 4) {
        gen_error(g, r->ir->span, "role '%s' has %d warps; wgmma works in warpgroups of 4", r->ir->name, r->warps);
        return;
    }
    for (int i = 0; i < st->accs.n; i++)
        if (st->accs.at[i]->role == r) place_acc(g, r, st->accs.at[i]);
    for (int i = 0; i < st->ops.n; i++) {
        struct mma_op *op = st->ops.at[i];
        if (op->role != r) continue;
        if (!op->b.field) mma_reserve_buffer(g, &op->b);
        if (!op->a.field && type_bits(op->a.type) != 16) mma_reserve_buffer(g, &op->a);
    }
}

/* ---- which groups are newer than an accumulator's ---- */

static bool is_commit(const struct lir_insn *i) { return i->fmt && !strncmp(i->fmt, "wgmma.commit_group", 18); }

static bool commits_between(const struct gen *g, int from, int to)
{
    for (int i = from; i < to; i++)
        if (is_commit(&g->l->code.at[i])) return true;
    return false;
}

/* Position of the first branch to the label from `from` on, before `to`; -1: none. */
static int branch_to(struct gen *g, int label, int from, int to)
{
    const char *name = arena_printf(g->arena, "bra $L%d", label);
    for (int i = from; i < to; i++) {
        const char *at = g->l->code.at[i].fmt ? strstr(g->l->code.at[i].fmt, name) : NULL;
        if (at && !at[strlen(name)]) return i;
    }
    return -1;
}

/* Whether whoever is here came through position `at`, through every commit in between, each once: labels in between are
 * joins of branches from in between or heads of loops that end in between, and neither skips nor repeats a commit. */
static bool steady(struct gen *g, int at)
{
    int now = g->l->code.n;
    for (int i = at; i < now; i++) {
        const struct lir_insn *in = &g->l->code.at[i];
        if (in->fmt) continue;
        if (branch_to(g, in->label, 0, at) >= 0) return false;
        int before = branch_to(g, in->label, at, i), after = branch_to(g, in->label, i, now);
        if (before < 0 && after < 0) return false; /* the head of a loop that is not over */
        if (before >= 0 && commits_between(g, before, i)) return false;
        if (after >= 0 && commits_between(g, i, after)) return false;
    }
    return true;
}

/* ---- slots released one step late ---- */

static bool late_body(struct gen *g, const ir_block *b)
{
    bool any = false;
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        const struct mma_op *op = s->kind == S_mma ? mma_op_of(g, s) : NULL;
        if (s->kind == S_bind || (s->kind == S_let && !s->var->naxes)) continue;
        if (!op || !op->a.field || !op->b.field) return false;
        any = true;
    }
    return any;
}

/* Whether every consume of the pipe in this block does nothing but mma: 1 yes, 0 no, -1 there is none. */
static int late_everywhere(struct gen *g, const ir_block *b, const struct ir_pipe *p)
{
    int all = -1;
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        int here = s->kind == S_consume && s->pipe == p ? late_body(g, &s->body) : -1;
        int in[2] = { late_everywhere(g, &s->body, p), late_everywhere(g, &s->other, p) };
        for (int k = 0; k < 2; k++)
            if (in[k] >= 0) here = here == 0 ? 0 : in[k];
        if (here >= 0) all = all == 0 ? 0 : here;
    }
    return all;
}

static struct mma_late *late_of(struct gen *g, const struct ir_pipe *p)
{
    struct mma_state *st = mma_state(g);
    for (int i = 0; i < st->late.n; i++)
        if (st->late.at[i].pipe == p && st->late.at[i].role == g->role) return &st->late.at[i];
    return NULL;
}

static void begin_late(struct gen *g)
{
    struct mma_state *st = mma_state(g);
    for (int i = 0; i < g->fn->pipes.n; i++) {
        struct ir_pipe *p = g->fn->pipes.at[i];
        if (pipe_of(g, p)->depth < 2 || late_everywhere(g, &g->role->ir->body, p) != 1) continue;
        struct mma_late late = { p, g->role, lir_reg(g->l, RC_PRED), lir_reg(g->l, RC_B32) };
        lir_set(g->l, late.pending, opd_imm(0));
        lir_set(g->l, late.index, opd_imm(0));
        vec_push(g->arena, &st->late, late);
    }
}

static void release_late(struct gen *g, struct mma_late *late)
{
    pipe_release(g, pipe_of(g, late->pipe), late->index, late->pending);
}

/* Waits for every group and releases what it read. Nothing is emitted where nothing can be in flight. */
static void flush(struct gen *g)
{
    struct mma_state *st = mma_state(g);
    if (mma_straight(g, st->clean_at)) return;
    lir_emit(g->l, "wgmma.wait_group.sync.aligned 0");
    for (int i = 0; i < st->late.n; i++) {
        if (st->late.at[i].role != g->role) continue;
        release_late(g, &st->late.at[i]);
        lir_set(g->l, st->late.at[i].pending, opd_imm(0));
    }
    st->clean_at = g->l->code.n;
}

static bool read_by_descriptor(const struct gen_pipe *p)
{
    for (int i = 0; i < p->ir->fields.n; i++)
        if (((struct gen_field *)p->ir->fields.at[i]->cg)->async_read) return true;
    return false;
}

static void consume_end(struct gen *g, struct gen_pipe *p)
{
    struct mma_late *late = late_of(g, p->ir);
    if (!late) {
        if (read_by_descriptor(p)) flush(g);
        pipe_release(g, p, p->held, opd_imm(1));
        return;
    }
    lir_emit(g->l, "wgmma.wait_group.sync.aligned 1");
    release_late(g, late);
    lir_set(g->l, late->index, p->held);
    lir_set(g->l, late->pending, opd_imm(1));
}

/* ---- begin ---- */

static bool check_major(struct gen *g, const struct mma_op *op, const struct mma_operand *o)
{
    if (!o->field || o->k_major || type_bits(o->type) == 16) return true;
    gen_error(g, op->s->span, "'%s' holds %s contiguous along '%s'; wgmma reads %s contiguous along what is summed over only (16-bit types either way)", o->field->name,
              type_name(o->type), o->mn[o->nmn - 1]->name, type_name(o->type));
    return false;
}

/* Columns of one instruction: all of a warpgroup's when they fit, else equal parts. */
static int columns(const struct mma_op *op)
{
    int cols = op->acc->n_atoms * 8, parts = ceil_to(cols, MOST_COLS), unit = is_int(op) && cols > 32 ? 16 : 8;
    while (cols % parts || cols / parts % unit) {
        if (++parts > cols / 8) return 8;
    }
    return cols / parts;
}

static void check_op(struct gen *g, struct mma_op *op)
{
    bool parts = op->acc->wn > 1 || columns(op) < op->acc->n_atoms * 8;
    if (op->a.field || op->a.buffer >= 0)
        if (!check_major(g, op, &op->a) || !mma_check_descriptor(g, op, &op->a, BLOCK_ROWS)) return;
    if (check_major(g, op, &op->b)) mma_check_descriptor(g, op, &op->b, parts ? columns(op) : op->b.form.per_panel);
}

/* Where a product that is made anew lives: its one mma and all that reads it stand in one block. */
struct life {
    const ir_block *block;
    int from, to;
};

static bool find_life(const ir_block *b, const struct ir_var *v, struct life *life)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        bool here = s->var == v;
        if (here && (s->kind != S_mma || s->flag || life->block)) return false;
        if (here) *life = (struct life){ b, i, i };
        else if (life->block == b && ir_reads(s, v)) life->to = i;
        else if (life->block != b && ir_reads(s, v) && !s->body.n && !s->other.n) return false;
        if (!find_life(&s->body, v, life) || !find_life(&s->other, v, life)) return false;
    }
    return true;
}

static bool lives_beside(struct gen *g, const struct mma_acc *x, const struct mma_acc *y)
{
    struct life a = { 0 }, b = { 0 };
    if (!find_life(&g->role->ir->body, x->var, &a) || !find_life(&g->role->ir->body, y->var, &b)) return true;
    return !a.block || a.block != b.block || (a.from <= b.to && b.from <= a.to);
}

/* Registers of accumulators before number i that none which lives beside i holds; NULL: there are none. ptxas would keep
 * those of the next strip's product apart: they are the operand of an instruction that may add to them. */
static struct opd *free_registers(struct gen *g, int i)
{
    struct mma_state *st = mma_state(g);
    struct mma_acc *acc = st->accs.at[i];
    for (int k = 0; k < i; k++) {
        struct mma_acc *other = st->accs.at[k];
        if (other->role != g->role || other->nregs != acc->nregs) continue;
        bool free = true;
        for (int n = 0; n < i; n++)
            if (st->accs.at[n]->role == g->role && st->accs.at[n]->regs == other->regs) free &= !lives_beside(g, st->accs.at[n], acc);
        if (free) return other->regs;
    }
    return NULL;
}

static void begin_role(struct gen *g)
{
    struct mma_state *st = mma_state(g);
    for (int i = 0; i < st->accs.n; i++) {
        struct mma_acc *acc = st->accs.at[i];
        if (acc->role != g->role || !acc->layout) continue;
        acc->nregs = layout_regs(acc->layout);
        acc->regs = free_registers(g, i);
        if (!acc->regs) {
            acc->regs = new_n(g->arena, struct opd, acc->nregs);
            for (int r = 0; r < acc->nregs; r++) acc->regs[r] = lir_reg(g->l, RC_B32);
        }
        acc->keep = lir_reg(g->l, RC_PRED);
        lir_set(g->l, acc->keep, opd_imm(0));
    }
    for (int i = 0; i < st->ops.n; i++) {
        struct mma_op *op = st->ops.at[i];
        if (op->role == g->role && mma_prepare(g, op)) check_op(g, op);
    }
    if (g->failed) return;
    begin_late(g);
    st->clean_at = g->l->code.n;
}

/* ---- mma ---- */

static uint32_t swizzle_code(int swizzle) { return swizzle == 128 ? 1 : swizzle == 64 ? 2 : swizzle == 32 ? 3 : 0; }

static struct opd describe(struct gen *g, struct mma_op *op, struct mma_operand *o, struct opd group, int group_mn)
{
    struct lir *l = g->l;
    int lbo, sbo;
    mma_descriptor_strides(o, &lbo, &sbo);
    struct opd at = lir_add(l, mma_address(g, op, o), lir_mul(l, group, opd_imm(mma_mn_bytes(o, group_mn))));
    return mma_descriptor(g, mma_descriptor_low(g, at, lbo), (uint32_t)((sbo & 0x3ffff) >> 4) | swizzle_code(o->form.swizzle) << 30);
}

/* In 64 bits: the assembler then keeps both halves together, where halves put together anew are moved for each instruction. */
static struct opd advance(struct gen *g, struct opd d, int bytes) { return lir_add64(g->l, d, opd_imm(bytes >> 4)); }

static const struct wgmma_type {
    enum type type;
    const char *name, *acc;
    int k;
    const char *tail; /* operands after scale-d: signs, and transposes where there are any */
} wgmma_types[] = {
    { TY_bf16, "bf16", "f32", 16, ", 1, 1" }, { TY_f16, "f16", "f32", 16, ", 1, 1" },  { TY_tf32, "tf32", "f32", 8, ", 1, 1" },
    { TY_e4m3, "e4m3", "f32", 32, ", 1, 1" }, { TY_e5m2, "e5m2", "f32", 32, ", 1, 1" }, { TY_i8, "s8", "s32", 32, "" },
    { TY_u8, "u8", "s32", 32, "" },
};

static const struct wgmma_type *wgmma_type(enum type t)
{
    for (int i = 0; i < COUNT(wgmma_types); i++)
        if (wgmma_types[i].type == t) return &wgmma_types[i];
    return NULL;
}

/* ", 1, 1, 0, 1": signs, and which operands are turned. A in registers never is. */
static const char *tail(struct gen *g, const struct mma_op *op, bool a_regs)
{
    const struct wgmma_type *t = wgmma_type(op->a.type);
    if (type_bits(t->type) != 16) return t->tail;
    if (a_regs) return arena_printf(g->arena, "%s, %d", t->tail, !op->b.k_major);
    return arena_printf(g->arena, "%s, %d, %d", t->tail, !op->a.k_major, !op->b.k_major);
}

struct stage {
    struct mma_op *op;
    struct opd a, b;          /* descriptors of the first step */
    const struct opd *fragments; /* A from registers, else NULL */
    const char *tail;
};

static void emit_wgmma(struct gen *g, const struct stage *sg, int step, int block, int col, struct opd scale_d)
{
    struct mma_op *op = sg->op;
    struct mma_acc *acc = op->acc;
    const struct wgmma_type *ta = wgmma_type(op->a.type), *tb = wgmma_type(op->b.type);
    int cols = columns(op);
    const struct opd *d = acc->regs + (block * acc->n_atoms + col / 8) * 4;
    struct opd b = advance(g, sg->b, mma_step_bytes(op, &op->b, step) + mma_mn_bytes(&op->b, col));
    const char *name = arena_printf(g->arena, "wgmma.mma_async.sync.aligned.m64n%dk%d.%s.%s.%s", cols, ta->k, ta->acc, ta->name, tb->name);
    if (sg->fragments) {
        const struct opd *a = sg->fragments + (step * acc->m_atoms + block) * 4;
        lir_emit(g->l, "%s %R, %R, %r, %r%s", name, d, cols / 2, a, 4, b, scale_d, sg->tail);
    } else {
        struct opd a = advance(g, sg->a, mma_step_bytes(op, &op->a, step) + mma_mn_bytes(&op->a, block * acc->wm * BLOCK_ROWS));
        lir_emit(g->l, "%s %R, %r, %r, %r%s", name, d, cols / 2, a, b, scale_d, sg->tail);
    }
}

/* A's tile in the accumulator's rows: every warpgroup that shares them holds them. */
static struct opd *fragments(struct gen *g, struct mma_op *op)
{
    struct mma_acc *acc = op->acc;
    struct layout *lay = layout_wgmma(g->arena, op->a.mn, op->a.nmn, op->a.k, op->a.nk, false, acc->wm, acc->m_atoms);
    if (lay && acc->wn > 1) lay->digit[lay->n++] = (struct lay_digit){ LAY_WARP, -1, acc->wn, 0 };
    return mma_register_fragments(g, op, lay, acc->m_atoms);
}

static void emit_stage(struct gen *g, const struct stage *sg, struct opd first)
{
    struct mma_op *op = sg->op;
    int cols = columns(op);
    lir_emit(g->l, "wgmma.fence.sync.aligned");
    for (int step = 0; step < op->steps.n; step++)
        for (int block = 0; block < op->acc->m_atoms; block++)
            for (int col = 0; col < op->acc->n_atoms * 8; col += cols) emit_wgmma(g, sg, step, block, col, step ? opd_imm(1) : first);
    lir_emit(g->l, "wgmma.commit_group.sync.aligned");
}

static void mma(struct gen *g, struct ir_stmt *s)
{
    struct mma_state *st = mma_state(g);
    struct mma_op *op = mma_op_of(g, s);
    struct lir *l = g->l;
    if (!op || g->failed) return;
    struct mma_acc *acc = op->acc;
    struct stage sg = { .op = op };
    bool a_regs = !op->a.field && op->a.buffer < 0;
    mma_zero_tails(g, op);
    if (a_regs && !(sg.fragments = fragments(g, op))) return;
    if (op->a.buffer >= 0) mma_fill_buffer(g, op, &op->a, flush);
    if (op->b.buffer >= 0) mma_fill_buffer(g, op, &op->b, flush);
    struct opd group = lir_shr_u(l, g->role->warp, 2);
    struct opd along_m = acc->wm == 1 ? opd_imm(0) : lir_mod(l, group, opd_imm(acc->wm), true);
    struct opd along_n = acc->wn == 1 ? opd_imm(0) : lir_div(l, group, opd_imm(acc->wm), true);
    if (!a_regs) sg.a = describe(g, op, &op->a, along_m, BLOCK_ROWS);
    sg.b = describe(g, op, &op->b, along_n, acc->n_atoms * 8);
    sg.tail = tail(g, op, a_regs);
    emit_stage(g, &sg, s->flag ? acc->keep : opd_imm(0));
    lir_set(l, acc->keep, opd_imm(1));
    st->clean_at = -1;
    acc->written_at = acc->committed_at = l->code.n;
    if (a_regs || op->a.buffer >= 0 || op->b.buffer >= 0) flush(g);
}

/* ---- accumulators ---- */

static const struct layout *layout(struct gen *g, struct ir_var *v)
{
    struct mma_acc *acc = mma_acc_of(g, v);
    return acc ? acc->layout : NULL;
}

static int registers(struct gen *g)
{
    struct mma_state *st = mma_state(g);
    int n = 0;
    for (int i = 0; i < st->accs.n; i++) {
        const struct mma_acc *acc = st->accs.at[i];
        bool shared = acc->role != g->role || !acc->regs;
        for (int k = 0; k < i; k++) shared |= st->accs.at[k]->regs == acc->regs;
        n += shared ? 0 : acc->nregs;
    }
    return n;
}

/* Waits for the accumulator's own group, and leaves newer ones in flight. false when it cannot tell how many these are. */
static bool wait_own_group(struct gen *g, struct mma_acc *acc)
{
    int newer = 0;
    if (acc->committed_at <= 0 || !steady(g, acc->committed_at)) return false;
    for (int i = acc->committed_at; i < g->l->code.n; i++) newer += is_commit(&g->l->code.at[i]);
    if (!newer) return false;
    lir_emit(g->l, "wgmma.wait_group.sync.aligned %d", newer);
    acc->written_at = g->l->code.n;
    return true;
}

static struct opd *read(struct gen *g, struct ir_var *v)
{
    struct mma_acc *acc = mma_acc_of(g, v);
    if (wait_own_group(g, acc)) return acc->regs;
    flush(g);
    mma_zero_unless_kept(g, acc, acc->regs, acc->nregs);
    acc->written_at = mma_state(g)->clean_at = g->l->code.n;
    lir_set(g->l, acc->keep, opd_imm(1));
    return acc->regs;
}

static void write(struct gen *g, struct ir_var *v, const struct opd *elements)
{
    struct mma_acc *acc = mma_acc_of(g, v);
    if (!acc || !acc->regs) return;
    if (elements) flush(g); /* zeroing needs none: the next mma overwrites, in order */
    for (int r = 0; elements && r < acc->nregs; r++) lir_set(g->l, acc->regs[r], elements[r]);
    lir_set(g->l, acc->keep, opd_imm(elements != NULL));
    acc->written_at = elements ? g->l->code.n : -1;
}

static void task_end(struct gen *g) { flush(g); }

const struct mma_family wgmma_family = {
    .name = "wgmma", .async = true, .plan = plan, .begin_role = begin_role, .mma = mma, .layout = layout, .read = read,
    .write = write, .registers = registers, .consume_end = consume_end, .task_end = task_end,
};
