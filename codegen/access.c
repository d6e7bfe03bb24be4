/* access - many elements of a tensor at once: linear indices, shared pointers, guards, vectors.
 *
 * An index that is a linear form of coordinates becomes a base (per thread) and a constant per register, so that all
 * registers share a few pointers and most bounds checks. Other indices (looked up in tables) are evaluated for each
 * distinct element. */
#include "codegen/eval.h"

#include <assert.h>
#include <string.h>

/* ---- linear forms */

static bool linear_coord(struct gen *g, const struct ir_axis *x, struct linear *out)
{
    out->uniform = gen_origin(g, x);
    out->divisor = x->of ? (x->of->align % x->div ? 1 : x->of->align / x->div) : x->align > 0 ? x->align : 1;
    if (out->uniform.kind == OPD_IMM) out->divisor = out->uniform.imm;
    out->n = 1;
    out->axes[0] = (struct ir_axis *)x;
    out->coef[0] = 1;
    out->plain = x;
    return true;
}

static bool linear_sum(struct gen *g, struct linear *a, const struct linear *b, int sign)
{
    a->uniform = sign > 0 ? lir_add(g->l, a->uniform, b->uniform) : lir_sub(g->l, a->uniform, b->uniform);
    a->divisor = gcd(a->divisor, b->divisor);
    a->plain = NULL;
    for (int i = 0; i < b->n; i++) {
        int at = 0;
        while (at < a->n && a->axes[at] != b->axes[i]) at++;
        if (at == IR_RANK) return false;
        if (at == a->n) a->axes[a->n] = b->axes[i], a->coef[a->n++] = 0;
        a->coef[at] += sign * b->coef[i];
    }
    return true;
}

static void linear_scale(struct gen *g, struct linear *a, int64_t by)
{
    a->uniform = lir_mul(g->l, a->uniform, opd_imm(by));
    a->divisor *= by;
    if (by != 1) a->plain = NULL;
    for (int i = 0; i < a->n; i++) a->coef[i] *= (int)by;
}

/* The part that varies lies in 0 .. size - 1. */
static bool varies_below(const struct linear *a, int64_t size)
{
    int64_t most = 0;
    for (int i = 0; i < a->n; i++) {
        if (a->coef[i] < 0) return false;
        most += (int64_t)a->coef[i] * (a->axes[i]->tile - 1);
    }
    return most < size;
}

/* (c*q + v) / c = q and % c = v where 0 <= v < c: a tile inside one page, or one granule of scales. */
static bool linear_quotient(struct gen *g, enum ir_expr_kind k, struct linear *a, int64_t c)
{
    if (c <= 0 || a->divisor % c || !varies_below(a, c)) return false;
    a->plain = NULL;
    if (k == E_mod) {
        a->uniform = opd_imm(0);
        a->divisor = 0;
        return true;
    }
    a->uniform = lir_div(g->l, a->uniform, opd_imm(c), false);
    a->divisor /= c;
    a->n = 0;
    return true;
}

static bool linear_binary(struct gen *g, const struct ir_expr *e, struct linear *out)
{
    struct linear b;
    int64_t c;
    if (e->kind == E_add || e->kind == E_sub)
        return linear_of(g, e->args[0], out) && linear_of(g, e->args[1], &b) && linear_sum(g, out, &b, e->kind == E_add ? 1 : -1);
    bool left = ir_const_int(e->args[0], &c);
    if (!left && !ir_const_int(e->args[1], &c)) return false;
    if (c > 1 << 20 || c < -(1 << 20) || !linear_of(g, e->args[left ? 1 : 0], out)) return false;
    if (e->kind == E_mul) linear_scale(g, out, c);
    return e->kind == E_mul || (!left && linear_quotient(g, e->kind, out, c));
}

bool linear_of(struct gen *g, const struct ir_expr *e, struct linear *out)
{
    struct ir_axis *axes[IR_RANK];
    memset(out, 0, sizeof *out);
    if (type_is_float(e->type) || type_bits(e->type) != 32) return false;
    if (!eval_axes(g, e, axes)) {
        out->uniform = gen_scalar(g, e);
        out->divisor = out->uniform.kind == OPD_IMM ? out->uniform.imm : ir_divisor(g->fn, e);
        return true;
    }
    switch ((int)e->kind) {
    case E_coord: return linear_coord(g, e->axis, out);
    case E_cast: return type_bits(e->args[0]->type) == 32 && linear_of(g, e->args[0], out);
    case E_neg:
        if (!linear_of(g, e->args[0], out)) return false;
        linear_scale(g, out, -1);
        return true;
    case E_add: case E_sub: case E_mul: case E_div: case E_mod: return linear_binary(g, e, out);
    default: return false;
    }
}

/* ---- planning */

static void plan_linear(struct gen *g, struct access *a, struct access_dim *d)
{
    const struct linear *f = &d->form;
    d->linear = true;
    d->base = f->uniform;
    d->divisor = f->divisor;
    for (int i = 0; i < f->n; i++) {
        int axis = eval_index(a->lay, f->axes[i]);
        assert(axis >= 0);
        d->base = lir_mad(g->l, eval_lane_part(g, a->lay, axis), opd_imm(f->coef[i]), d->base);
        d->divisor = gcd(d->divisor, f->coef[i] * eval_lane_divisor(a->lay, axis));
        for (int r = 0; r < a->regs; r++) d->k[r] += f->coef[i] * layout_reg_offset(a->lay, r, axis);
    }
}

static void plan_values(struct gen *g, struct access *a, struct access_dim *d, const struct ir_expr *index)
{
    struct ir_axis *axes[IR_RANK];
    int n = eval_axes(g, index, axes);
    struct layout *mine = layout_project(g->arena, a->lay, axes, n);
    struct opd *v = gen_tile(g, index, a->lay);
    d->value = new_n(g->arena, struct opd, a->regs);
    for (int r = 0; r < a->regs; r++) {
        d->k[r] = layout_project_reg(a->lay, mine, r);
        d->value[r] = gen_cast(g, TY_i32, index->type, v[d->k[r]]);
    }
}

static bool in_offset(const struct access *a, int d)
{
    return d == a->tensor->inner && a->dim[d].linear;
}

/* Bytes of n elements times a stride. */
static struct opd stride_bytes(struct gen *g, const struct access *a, int d, struct opd n)
{
    int bits = type_bits(a->tensor->type);
    struct opd stride = gen_stride(g, a->tensor, d);
    if (n.kind == OPD_IMM && bits >= 8) return lir_mul64(g->l, stride, opd_imm(n.imm * (bits / 8)));
    struct opd at = lir_mul64(g->l, lir_widen(g->l, n), stride);
    if (bits >= 8) return lir_mul64(g->l, at, opd_imm(bits / 8));
    if (at.kind == OPD_IMM) return opd_imm(at.imm / 2);
    struct opd half = lir_reg(g->l, RC_B64);
    lir_emit(g->l, "shr.s64 %r, %r, 1", half, at);
    return half;
}

void gen_need_alignment(struct gen *g, const struct ir_tensor *t, int bytes)
{
    struct image_arg *arg = &g->image->args.at[t->id];
    int elements = bytes * 8 / type_bits(t->type);
    if (arg->base_align < bytes) arg->base_align = bytes;
    for (int d = 0; d < t->rank; d++)
        if (d != t->inner && arg->align[d] < elements) arg->align[d] = elements;
}

int gen_row_vector(struct gen *g, const struct ir_tensor *t)
{
    int n = t->align * 8 / type_bits(t->type);
    int64_t whole = ir_divisor(g->fn, t->dim[t->inner]);
    while (n > 1 && whole % n) n /= 2;
    return n;
}

/* Two to a byte: bytes are whole where the inner index starts even. */
static void check_pairs(struct gen *g, const struct access *a, struct span at)
{
    const struct access_dim *d = &a->dim[a->tensor->inner];
    if (type_bits(a->tensor->type) >= 8) return;
    if (!d->linear || d->divisor % 2)
        gen_error(g, at, "'%s' holds two elements a byte; its inner index must begin at an even coordinate here", a->tensor->name);
    gen_need_alignment(g, a->tensor, 1);
}

struct access *access_plan(struct gen *g, const struct ir_tensor *t, struct ir_expr *const *index, const struct layout *lay)
{
    struct access *a = new (g->arena, struct access);
    *a = (struct access){ .tensor = t, .lay = lay, .regs = layout_regs(lay), .rank = t->rank };
    for (int d = 0; d < t->rank; d++) {
        a->dim[d].k = new_n(g->arena, int, a->regs);
        if (linear_of(g, index[d], &a->dim[d].form)) plan_linear(g, a, &a->dim[d]);
        else plan_values(g, a, &a->dim[d], index[d]);
        a->dim[d].size = gen_scalar(g, t->dim[d]);
    }
    a->base = gen_tensor_pointer(g, t);
    for (int d = 0; d < t->rank; d++)
        if (a->dim[d].linear) a->base = lir_add64(g->l, a->base, stride_bytes(g, a, d, a->dim[d].base));
    check_pairs(g, a, t->rank ? index[0]->span : t->span);
    return a;
}

/* ---- addresses */

static struct opd make_pointer(struct gen *g, struct access *a, int r)
{
    struct opd at = a->base;
    for (int d = 0; d < a->rank; d++) {
        if (in_offset(a, d)) continue;
        struct opd step = a->dim[d].linear ? opd_imm(a->dim[d].k[r]) : a->dim[d].value[r];
        at = lir_add64(g->l, at, stride_bytes(g, a, d, step));
    }
    return at;
}

struct opd access_address(struct gen *g, struct access *a, int r, int *offset)
{
    struct access_pointer p = { .at = { 0 } };
    int inner = a->tensor->inner;
    *offset = a->rank && in_offset(a, inner) ? (int)floor_div((int64_t)a->dim[inner].k[r] * type_bits(a->tensor->type), 8) : 0;
    for (int d = 0; d < a->rank; d++) p.key[d] = in_offset(a, d) ? -1 : a->dim[d].k[r];
    for (int i = 0; i < a->pointers.n; i++)
        if (!memcmp(a->pointers.at[i].key, p.key, sizeof p.key)) return a->pointers.at[i].at;
    p.at = make_pointer(g, a, r);
    vec_push(g->arena, &a->pointers, p);
    return p.at;
}

/* ---- bounds */

static bool dim_constant(struct gen *g, const struct ir_expr *e, int64_t *v)
{
    if (ir_const_int(e, v)) return true;
    if (e->kind != E_dim || g->fn->dims.at[e->num].value < 0) return false;
    *v = g->fn->dims.at[e->num].value;
    return true;
}

/* Known when the code is made to lie inside: by the numbers, or because tiles of the axis do. */
static bool proven_inside(struct gen *g, const struct access *a, int d, bool below_limits)
{
    const struct access_dim *x = &a->dim[d];
    const struct linear *f = &x->form;
    int64_t size, least = 0, most = 0;
    if (!x->linear) return false;
    if (f->plain && (below_limits || (f->plain->exact && a->lay->extent[eval_index(a->lay, f->plain)] <= f->plain->tile)) &&
        eval_limit_within(g, f->plain, a->tensor->dim[d]))
        return true;
    if (f->uniform.kind != OPD_IMM || !dim_constant(g, a->tensor->dim[d], &size)) return false;
    least = most = f->uniform.imm;
    for (int i = 0; i < f->n; i++) {
        int64_t reach = (int64_t)f->coef[i] * (a->lay->extent[eval_index(a->lay, f->axes[i])] - 1);
        *(reach < 0 ? &least : &most) += reach;
    }
    return least >= 0 && most < size;
}

static struct opd dim_guard(struct gen *g, struct access *a, int d, int r)
{
    struct access_dim *x = &a->dim[d];
    for (int i = 0; i < a->guards.n; i++)
        if (a->guards.at[i].dim == d && a->guards.at[i].key == x->k[r]) return a->guards.at[i].p;
    struct access_guard n = { d, x->k[r], lir_reg(g->l, RC_PRED) };
    struct opd at = x->linear ? lir_add(g->l, x->base, opd_imm(x->k[r])) : x->value[r];
    lir_emit(g->l, "setp.lt.u32 %r, %r, %r", n.p, lir_in_reg(g->l, at, RC_B32), x->size);
    vec_push(g->arena, &a->guards, n);
    return n.p;
}

struct opd access_guard(struct gen *g, struct access *a, int r, bool below_limits)
{
    struct opd p = opd_imm(1);
    for (int d = 0; d < a->rank; d++)
        if (!proven_inside(g, a, d, below_limits)) p = lir_pand(g->l, p, dim_guard(g, a, d, r));
    return p;
}

/* ---- vectors */

static bool run_of(const struct access *a, int r, int n)
{
    int inner = a->tensor->inner;
    if (r + n > a->regs || !a->dim[inner].linear) return false;
    for (int i = 1; i < n; i++)
        for (int d = 0; d < a->rank; d++)
            if (a->dim[d].k[r + i] != a->dim[d].k[r] + (d == inner ? i : 0)) return false;
    return a->dim[inner].k[r] % n == 0 && a->dim[inner].divisor % n == 0;
}

int access_run(struct gen *g, struct access *a, int r, bool guarded)
{
    const struct ir_tensor *t = a->tensor;
    int bits = type_bits(t->type), n = t->align * 8 / bits;
    if (!a->rank) return 1;
    int64_t whole = ir_divisor(g->fn, t->dim[t->inner]);
    for (; n > 1; n /= 2) {
        if (!run_of(a, r, n)) continue;
        if ((a->rank > 1 || guarded) && whole % n) continue;
        gen_need_alignment(g, t, n * bits / 8);
        return n;
    }
    return 1;
}

/* ---- words and elements */

/* Bytes of a word for n elements of t. */
static int word_bytes(enum type t, int n)
{
    int bytes = type_bits(t) * n / 8;
    return type_bits(t) == 64 ? 8 : bytes >= 4 ? 4 : bytes < 1 ? 1 : bytes;
}

static enum reg_class word_class(int bytes)
{
    return bytes == 8 ? RC_B64 : bytes == 4 ? RC_B32 : RC_B16;
}

static struct opd emit_bits(struct gen *g, enum type t, struct opd word, int lo, int bits)
{
    struct opd d = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "bfe.%s %r, %r, %d, %d", type_kind(t) == TYPE_INT ? "s32" : "u32", d, word, lo, bits);
    return d;
}

static struct opd emit_low8(struct gen *g, const char *fmt, struct opd x)
{
    struct opd d = lir_reg(g->l, RC_B16);
    lir_emit(g->l, fmt, d, x);
    return d;
}

/* 16-bit halves of a word; a word of 16 bits or fewer is one half. */
static void halves(struct gen *g, struct opd word, struct opd *out)
{
    out[0] = word;
    if (word.cls == RC_B16) return;
    out[0] = lir_reg(g->l, RC_B16);
    out[1] = lir_reg(g->l, RC_B16);
    lir_emit(g->l, "mov.b32 %R, %r", out, 2, word);
}

static void unpack_word(struct gen *g, enum type t, struct opd word, int n, struct opd *out)
{
    int bits = type_bits(t);
    struct opd h[2];
    if (!type_is_float(t) || bits == 4) {
        struct opd wide = word.cls == RC_B16 ? scalar_to_b32(g, TY_f16, word) : word;
        for (int i = 0; i < n; i++) {
            out[i] = emit_bits(g, t == TY_e2m1 ? TY_u8 : t, wide, i * bits, bits);
            if (t == TY_e2m1) out[i] = scalar_from_b32(g, t, out[i]);
        }
        return;
    }
    halves(g, word, h);
    for (int i = 0; i < n; i++) {
        if (bits == 16) out[i] = h[i];
        else if (n == 1) out[i] = h[0];
        else out[i] = emit_low8(g, i % 2 ? "shr.u16 %r, %r, 8" : "and.b16 %r, %r, 255", h[i / 2]);
    }
}

void access_unpack(struct gen *g, enum type t, const struct opd *words, int n, struct opd *out)
{
    int bytes = word_bytes(t, n), each = bytes * 8 / type_bits(t) < n ? bytes * 8 / type_bits(t) : n;
    for (int i = 0; i < n; i += each) {
        if (type_bits(t) >= 32) out[i] = words[i];
        else unpack_word(g, t, words[i / each], each, out + i);
    }
}

static struct opd join_bytes(struct gen *g, struct opd low, struct opd high)
{
    struct opd up = lir_reg(g->l, RC_B16), a = lir_reg(g->l, RC_B16), d = lir_reg(g->l, RC_B16);
    lir_emit(g->l, "shl.b16 %r, %r, 8", up, lir_in_reg(g->l, high, RC_B16));
    lir_emit(g->l, "and.b16 %r, %r, 255", a, lir_in_reg(g->l, low, RC_B16));
    lir_emit(g->l, "or.b16 %r, %r, %r", d, up, a);
    return d;
}

/* Integers, and nibbles: shifted into place one by one. */
static struct opd pack_bits(struct gen *g, enum type t, const struct opd *v, int n, int bytes)
{
    int bits = type_bits(t);
    struct opd word = opd_imm(0);
    for (int i = 0; i < n; i++) {
        struct opd x = lir_and(g->l, scalar_to_b32(g, t, v[i]), opd_imm((1ll << bits) - 1));
        word = lir_or(g->l, word, lir_shl(g->l, x, i * bits));
    }
    word = lir_in_reg(g->l, word, RC_B32);
    return bytes == 4 ? word : scalar_from_b32(g, TY_f16, word);
}

static struct opd pack_word(struct gen *g, enum type t, const struct opd *v, int n, int bytes)
{
    struct opd h[2];
    if (!type_is_float(t) || type_bits(t) == 4) return pack_bits(g, t, v, n, bytes);
    if (n == 1 && type_bits(t) == 16) return lir_in_reg(g->l, v[0], RC_B16);
    if (n == 1) return emit_low8(g, "and.b16 %r, %r, 255", lir_in_reg(g->l, v[0], RC_B16));
    for (int i = 0; i < bytes / 2; i++) h[i] = type_bits(t) == 16 ? lir_in_reg(g->l, v[i], RC_B16) : join_bytes(g, v[2 * i], v[2 * i + 1]);
    if (bytes == 2) return h[0];
    struct opd d = lir_reg(g->l, RC_B32);
    lir_emit(g->l, "mov.b32 %r, %R", d, h, 2);
    return d;
}

int access_pack(struct gen *g, enum type t, const struct opd *v, int n, struct opd *words)
{
    int bytes = word_bytes(t, n), each = bytes * 8 / type_bits(t) < n ? bytes * 8 / type_bits(t) : n, count = 0;
    for (int i = 0; i < n; i += each)
        words[count++] = type_bits(t) >= 32 ? scalar_reg(g, v[i], t) : pack_word(g, t, v + i, each, bytes);
    return count;
}

/* ---- loads and stores */

/* n elements next to each other, moved by one instruction. */
struct piece {
    const char *space;
    enum type type;
    int n;
    struct opd guard, at, policy;
    int offset;
};

static void emit_vector(struct gen *g, const struct piece *p, struct opd *words, bool load)
{
    int bytes = word_bytes(p->type, p->n), count = type_bits(p->type) * p->n / 8 / bytes;
    const char *vec = count <= 1 ? "" : count == 2 ? ".v2" : ".v4";
    const char *name = arena_printf(g->arena, "%s.%s%s%s.b%d", load ? "ld" : "st", p->space, gen_hint(p->policy), vec, bytes * 8);
    if (load && count <= 1) lir_emit(g->l, "@%r %s %r, [%r+%d]%o", p->guard, name, words[0], p->at, p->offset, p->policy);
    else if (load) lir_emit(g->l, "@%r %s %R, [%r+%d]%o", p->guard, name, words, count, p->at, p->offset, p->policy);
    else if (count <= 1) lir_emit(g->l, "@%r %s [%r+%d], %r%o", p->guard, name, p->at, p->offset, words[0], p->policy);
    else lir_emit(g->l, "@%r %s [%r+%d], %R%o", p->guard, name, p->at, p->offset, words, count, p->policy);
}

static void load_piece(struct gen *g, const struct piece *p, struct opd *out)
{
    int bytes = word_bytes(p->type, p->n), count = type_bits(p->type) * p->n / 8 / bytes;
    struct opd words[16];
    for (int i = 0; i < (count < 1 ? 1 : count); i++) {
        words[i] = lir_reg(g->l, word_class(bytes));
        if (!opd_is(p->guard, 1)) lir_set(g->l, words[i], opd_imm(0));
    }
    emit_vector(g, p, words, true);
    access_unpack(g, p->type, words, p->n, out);
}

static void store_piece(struct gen *g, const struct piece *p, const struct opd *v)
{
    struct opd words[16];
    access_pack(g, p->type, v, p->n, words);
    emit_vector(g, p, words, false);
}

void access_words_load(struct gen *g, const char *space, enum type t, int n, struct opd guard, struct opd at, int offset, struct opd *out)
{
    load_piece(g, &(struct piece){ .space = space, .type = t, .n = n, .guard = guard, .at = at, .offset = offset }, out);
}

void access_words_store(struct gen *g, const char *space, enum type t, int n, struct opd guard, struct opd at, int offset, const struct opd *v)
{
    store_piece(g, &(struct piece){ .space = space, .type = t, .n = n, .guard = guard, .at = at, .offset = offset }, v);
}

static struct piece tensor_piece(struct gen *g, struct access *a, int r, int n, struct opd guard)
{
    struct piece p = { .space = "global", .type = a->tensor->type, .n = n, .guard = guard, .policy = gen_policy(g, a->tensor) };
    p.at = access_address(g, a, r, &p.offset);
    return p;
}

/* One nibble of a byte that two elements share. */
static void load_nibble(struct gen *g, struct access *a, int r, struct opd guard, struct opd *out)
{
    struct opd two[2];
    struct piece p = tensor_piece(g, a, r, 2, guard);
    load_piece(g, &p, two);
    *out = two[a->dim[a->tensor->inner].k[r] & 1];
}

void access_load(struct gen *g, struct access *a, int r, int n, struct opd guard, struct opd *out)
{
    if (n == 1 && type_bits(a->tensor->type) < 8) {
        load_nibble(g, a, r, guard, out);
        return;
    }
    struct piece p = tensor_piece(g, a, r, n, guard);
    load_piece(g, &p, out);
}

void access_store(struct gen *g, struct access *a, int r, int n, struct opd guard, const struct opd *v)
{
    struct piece p = tensor_piece(g, a, r, n, guard);
    store_piece(g, &p, v);
}
