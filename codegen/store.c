/* store - stores to tensors and to shared arrays, atomics. */
#include "codegen/eval.h"

#include <string.h>

/* ---- atomics */

static const struct atomic {
    const char *name;
    char kind; /* 's': signed or unsigned by type; 'u': unsigned whatever the type; 'b': bits */
} atomics[RED_COUNT] = {
    [RED_sum] = { "add", 'u' }, [RED_max] = { "max", 's' }, [RED_min] = { "min", 's' }, [RED_any] = { "or", 'b' },
    [RED_all] = { "and", 'b' }, [RED_and] = { "and", 'b' }, [RED_or] = { "or", 'b' },   [RED_xor] = { "xor", 'b' },
    [RED_exch] = { "exch", 'b' },
};

/* "add.u32", with what it says to the L2 cache; NULL with an error where there is no such atomic operation. */
static const char *atomic_op(struct gen *g, enum ir_reduce op, enum type t, struct opd policy, struct span at)
{
    const char *hint = gen_hint(policy);
    int bits = type_bits(t);
    const struct atomic *a = &atomics[op];
    if (bits >= 32 && a->kind == 'b') return arena_printf(g->arena, "%s%s.b%d", a->name, hint, bits);
    if (t == TY_f32 && op == RED_sum) return arena_printf(g->arena, "add%s.f32", hint);
    if (t == TY_f16 && op == RED_sum) return arena_printf(g->arena, "add.noftz%s.f16", hint);
    if (t == TY_bf16 && op == RED_sum && target_has(g->target, HAS_TMA)) return arena_printf(g->arena, "add.noftz%s.bf16", hint);
    if (bits >= 32 && !type_is_float(t))
        return arena_printf(g->arena, "%s%s.%c%d", a->name, hint, a->kind == 's' && type_kind(t) == TYPE_INT ? 's' : 'u', bits);
    gen_error(g, at, "%s has no atomic %s of %s; use i32, u32 or f32 (f32: add only)", g->target->name, a->name, type_name(t));
    return NULL;
}

/* ---- stores of tiles */

/* A store being emitted. */
struct store {
    struct ir_stmt *s;
    const struct layout *lay, *value_lay, *mask_lay;
    struct opd *value, *mask, once;
    enum type type;
};

/* The guards of elements r .. r + n - 1 are one and the same. */
static bool inside_together(struct gen *g, const struct inside *in, int r, int n)
{
    for (int a = 0; a < in->lay->naxes; a++) {
        const struct ir_axis *x = in->lay->axes[a];
        int first = layout_reg_offset(in->lay, r, a);
        bool same = true;
        for (int i = 1; i < n; i++) same &= layout_reg_offset(in->lay, r + i, a) == first;
        if (same || opd_none(in->bound[a])) continue;
        int64_t lanes = eval_lane_divisor(in->lay, a);
        if (first % n || lanes % n || (x->tile > 0 && x->tile % n)) return false;
        if (!x->exact && in->bound[a].kind != OPD_IMM && (x->of || x->align % n || eval_limit_divisor(g, x) % n)) return false;
    }
    return true;
}

static bool masked_together(const struct store *st, int r, int n)
{
    for (int i = 1; i < n && st->mask; i++)
        if (layout_project_reg(st->lay, st->mask_lay, r) != layout_project_reg(st->lay, st->mask_lay, r + i)) return false;
    return true;
}

static void store_values(const struct store *st, int r, int n, struct opd *out)
{
    for (int i = 0; i < n; i++) out[i] = st->value[layout_project_reg(st->lay, st->value_lay, r + i)];
}

static void add_and_store(struct gen *g, struct store *st, struct access *a, int r, int n, struct opd p, struct opd *v)
{
    struct opd old[128];
    access_load(g, a, r, n, p, old);
    for (int i = 0; i < n; i++) v[i] = scalar_binary(g, E_add, st->type, old[i], v[i]);
    access_store(g, a, r, n, p, v);
}

/* red.global, in vectors of f32 where the target has them. */
static void atomic_store(struct gen *g, struct store *st, struct access *a, int r, int n, struct opd p, const struct opd *v)
{
    struct opd policy = gen_policy(g, a->tensor);
    const char *op = atomic_op(g, (enum ir_reduce)st->s->num, st->type, policy, st->s->span);
    int offset;
    if (!op) return;
    if (n > 1 && st->type == TY_f32 && st->s->num == RED_sum && target_has(g->target, HAS_RED_VECTOR)) {
        struct opd words[4];
        access_pack(g, st->type, v, n, words);
        struct opd at = access_address(g, a, r, &offset);
        lir_emit(g->l, "@%r red.relaxed.gpu.global.v%d.f32.add%s [%r+%d], %R%o", p, n, gen_hint(policy), at, offset, words, n, policy);
        return;
    }
    for (int i = 0; i < n; i++) {
        struct opd at = access_address(g, a, r + i, &offset);
        lir_emit(g->l, "@%r red.relaxed.gpu.global.%s [%r+%d], %r%o", p, op, at, offset, scalar_reg(g, v[i], st->type), policy);
    }
}

/* All registers, with the guards that `in` and the access ask for. */
static void store_all(struct gen *g, struct store *st, struct access *a, struct inside *in)
{
    struct opd v[128];
    for (int r = 0, n; r < a->regs; r += n) {
        struct opd p = lir_pand(g->l, st->once, inside_all(g, in, r));
        if (st->mask) p = lir_pand(g->l, p, st->mask[layout_project_reg(st->lay, st->mask_lay, r)]);
        struct opd bounds = access_guard(g, a, r, true);
        n = access_run(g, a, r, !opd_is(bounds, 1));
        while (n > 1 && (!inside_together(g, in, r, n) || !masked_together(st, r, n))) n /= 2;
        if (n == 1 && type_bits(st->type) < 8) {
            gen_error(g, st->s->span, "'%s' holds two elements a byte; they must be stored in pairs: both inside or both outside", a->tensor->name);
            return;
        }
        p = lir_pand(g->l, p, bounds);
        store_values(st, r, n, v);
        if (st->s->mode == MODE_add) add_and_store(g, st, a, r, n, p, v);
        else if (st->s->mode == MODE_atomic) atomic_store(g, st, a, r, n, p, v);
        else access_store(g, a, r, n, p, v);
    }
}

/* Whole tiles: no axis ends inside. What the layout covers beyond the tile stays out. imm 1 where that is always so. */
static struct opd whole_tile(struct gen *g, const struct inside *in, struct inside *whole)
{
    struct opd p = opd_imm(1);
    *whole = (struct inside){ .lay = in->lay };
    for (int a = 0; a < in->lay->naxes; a++) {
        const struct ir_axis *x = in->lay->axes[a];
        bool over = x->tile > 0 && in->lay->extent[a] > x->tile;
        if (over) whole->bound[a] = opd_imm(x->tile);
        if (opd_none(in->bound[a]) || x->exact) continue;
        struct opd end = lir_add(g->l, gen_origin(g, x), opd_imm(over ? x->tile : in->lay->extent[a]));
        p = lir_pand(g->l, p, lir_cmp(g->l, "le", end, gen_limit(g, x)));
    }
    return p;
}

/* A tile of many registers is stored by one of two copies of the code: without bounds checks where it lies inside. */
enum { FEW_REGISTERS = 4 };

static void store_both_ways(struct gen *g, struct store *st, struct access *a, struct inside *in)
{
    struct inside whole;
    struct opd p = a->regs >= FEW_REGISTERS ? whole_tile(g, in, &whole) : opd_imm(1);
    if (p.kind == OPD_IMM) {
        store_all(g, st, a, in);
        return;
    }
    int slow = lir_label(g->l), end = lir_label(g->l), mark = eval_mark(g);
    struct access fast = *a;
    lir_emit(g->l, "@!%r bra %l", p, slow);
    store_all(g, st, &fast, &whole);
    eval_release(g, mark);
    lir_emit(g->l, "bra %l", end);
    lir_place(g->l, slow);
    store_all(g, st, a, in);
    eval_release(g, mark);
    lir_place(g->l, end);
}

/* The axis that walks the tensor's inner dimension, and the widest store that may be possible. */
static const struct ir_axis *inner_axis(struct gen *g, const struct ir_stmt *s, int *vec)
{
    const struct ir_tensor *t = s->tensor;
    struct ir_axis *axes[IR_RANK];
    const struct ir_expr *index = t->rank ? s->index.at[t->inner] : NULL;
    *vec = 1;
    if (!index || !eval_axes(g, index, axes)) return NULL;
    if (index->kind == E_coord) *vec = gen_row_vector(g, t);
    return axes[0];
}

static int statement_axes(struct gen *g, const struct ir_stmt *s, struct ir_axis **axes)
{
    int n = eval_axes(g, s->expr, axes);
    for (int i = 0; i < s->index.n; i++) n = eval_add_axes(g, s->index.at[i], axes, n);
    return eval_add_axes(g, s->mask, axes, n);
}

const struct layout *store_layout(struct gen *g, const struct ir_stmt *s)
{
    struct ir_axis *axes[IR_RANK];
    int n = statement_axes(g, s, axes), vec;
    const struct ir_axis *inner = inner_axis(g, s, &vec);
    const struct layout *lay = tile_layout(g, s->expr, axes, n, inner, vec);
    return !eval_of(g)->thread_level && tile_spreads(s->expr, n) ? layout_spread(g->arena, lay) : lay;
}

void gen_store(struct gen *g, struct ir_stmt *s)
{
    struct ir_axis *some[IR_RANK];
    struct store st = { .s = s, .type = s->tensor->type, .lay = store_layout(g, s) };
    struct inside in;
    if (!eval_of(g)->thread_level && s->expr->type == st.type && gen_anchor(g, s->expr) && store_by_tma(g, s, st.lay)) return;
    st.value = gen_tile(g, s->expr, st.lay);
    st.value_lay = layout_project(g->arena, st.lay, some, eval_axes(g, s->expr, some));
    if (s->expr->type != st.type)
        for (int r = 0; r < layout_regs(st.value_lay); r++) st.value[r] = gen_cast(g, st.type, s->expr->type, st.value[r]);
    if (s->mask) {
        st.mask = gen_tile(g, s->mask, st.lay);
        st.mask_lay = layout_project(g->arena, st.lay, some, eval_axes(g, s->mask, some));
    }
    struct access *a = access_plan(g, s->tensor, s->index.at, st.lay);
    st.once = eval_of(g)->thread_level && !st.lay->naxes ? opd_imm(1) : gen_first_copy(g, st.lay);
    inside_start(g, &in, st.lay);
    store_both_ways(g, &st, a, &in);
}

/* ---- single elements: shared arrays, atomics that return the old value */

/* Code that one thread runs, or in par and each every thread. */
struct solo {
    int skip;
    bool alone;
};

static struct solo solo_begin(struct gen *g)
{
    struct solo s = { -1, !eval_of(g)->thread_level };
    if (!s.alone) return s;
    gen_role_sync(g);
    s.skip = lir_label(g->l);
    lir_emit(g->l, "@!%r bra %l", lir_cmp(g->l, "eq", g->role->thread, opd_imm(0)), s.skip);
    return s;
}

/* The one thread's result reaches all. Needs a place in the exchange buffer. */
static struct opd solo_end(struct gen *g, struct solo s, enum type t, struct opd result)
{
    bool share = s.alone && !opd_none(result);
    struct opd scratch = share ? gen_scratch(g, 8) : opd_imm(0);
    if (share) scalar_store_shared(g, t, scratch, 0, result, opd_imm(1));
    if (s.alone) lir_place(g->l, s.skip);
    if (s.alone) gen_role_sync(g);
    return share ? scalar_load_shared(g, t, scratch, 0, opd_imm(1)) : result;
}

static void set_result(struct gen *g, const struct ir_var *v, struct opd x)
{
    struct opd *r = &g->vars[v->id];
    if (r->kind != OPD_REG) *r = lir_reg(g->l, gen_class(v->type));
    lir_set(g->l, *r, x);
}

static struct opd atomic_element(struct gen *g, const struct ir_stmt *s, const char *space, enum type t, struct opd at, struct opd v, bool returns)
{
    struct opd old = { 0 }, policy = s->tensor ? gen_policy(g, s->tensor) : old;
    const char *op = atomic_op(g, (enum ir_reduce)s->num, t, policy, s->span);
    if (!op) return old;
    v = scalar_reg(g, v, t);
    if (!returns && s->num != RED_exch) {
        lir_emit(g->l, "red.relaxed.%s.%s.%s [%r], %r%o", *space == 's' ? "cta" : "gpu", space, op, at, v, policy);
        return old;
    }
    old = lir_reg(g->l, gen_class(t));
    lir_emit(g->l, "atom.relaxed.%s.%s.%s %r, [%r], %r%o", *space == 's' ? "cta" : "gpu", space, op, old, at, v, policy);
    return old;
}

void gen_put(struct gen *g, struct ir_stmt *s)
{
    struct opd index[IR_RANK], old = { 0 };
    enum type t = s->shared->type;
    for (int i = 0; i < s->index.n; i++) index[i] = gen_scalar(g, s->index.at[i]);
    struct opd v = gen_cast(g, t, s->expr->type, gen_scalar(g, s->expr)), at = scalar_shared_address(g, s->shared, index);
    int mark = eval_mark(g);
    struct solo solo = solo_begin(g);
    if (s->mode == MODE_atomic) old = atomic_element(g, s, "shared", t, at, v, s->var != NULL);
    else {
        if (s->mode == MODE_add) v = scalar_binary(g, E_add, t, scalar_load_shared(g, t, at, 0, opd_imm(1)), v);
        scalar_store_shared(g, t, at, 0, v, opd_imm(1));
    }
    eval_release(g, mark);
    old = solo_end(g, solo, t, s->var ? old : (struct opd){ 0 });
    if (s->var && !opd_none(old)) set_result(g, s->var, old);
}

/* Outside the tensor nothing happens, and the old value is 0. */
void gen_fetch(struct gen *g, struct ir_stmt *s)
{
    const struct ir_tensor *t = s->tensor;
    struct lir *l = g->l;
    struct opd v = gen_scalar(g, s->expr), at = gen_tensor_pointer(g, t), inside = opd_imm(1);
    for (int d = 0; d < s->index.n; d++) {
        struct opd c = lir_in_reg(l, gen_scalar(g, s->index.at[d]), RC_B32), p = lir_reg(l, RC_PRED);
        lir_emit(l, "setp.lt.u32 %r, %r, %r", p, c, gen_scalar(g, t->dim[d]));
        inside = lir_pand(l, inside, p);
        at = lir_add64(l, at, lir_mul64(l, lir_mul64(l, lir_widen(l, c), gen_stride(g, t, d)), opd_imm(type_bits(t->type) / 8)));
    }
    int mark = eval_mark(g), skip = lir_label(l);
    struct solo solo = solo_begin(g);
    struct opd old = lir_reg(l, gen_class(t->type));
    lir_set(l, old, opd_imm(0));
    lir_emit(l, "@%r bra %l", lir_pnot(l, inside), skip);
    struct opd x = atomic_element(g, s, "global", t->type, at, v, true);
    if (!opd_none(x)) lir_set(l, old, x);
    lir_place(l, skip);
    eval_release(g, mark);
    old = solo_end(g, solo, t->type, old);
    if (s->var) set_result(g, s->var, old);
}
