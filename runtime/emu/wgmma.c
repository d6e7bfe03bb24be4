/* wgmma - matrix products of a warpgroup: operands in shared memory or registers, results in registers, asynchronous.
 *
 * Accumulators in flight live in a shadow of their registers; the registers themselves hold NaN patterns until the wait
 * that covers the last product on them, so that reading too early shows. Writing them, or the registers of A, before that
 * wait is a fault; so is a product on accumulators that were written since the last wgmma.fence (PTX ISA, "Asynchronous
 * warpgroup level matrix instructions"). */
#include "runtime/emu/tensor.h"

#include <stdlib.h>

struct wgmma {
    enum num_type a_type, b_type, d_type;
    int n, k, bits; /* bits of an element of A and B */
    bool negate, saturate, a_in_registers, a_mn_major, b_mn_major, scale_d_neg;
    uint32_t a_desc, b_desc, scale_d; /* rows; predicate */
    const uint32_t *a, *d;            /* rows */
    int n_d;
};

/* ---- state ---- */

struct shadow {
    int in_flight;
    bool known;         /* `value` is what the last product left there */
    uint64_t fence;     /* number of wgmma.fence before that */
    uint32_t value[32];
};
struct state {
    uint64_t fences;    /* these four of the warpgroup's first warp alone */
    uint32_t committed; /* groups */
    int open;           /* products in no group yet */
    uint32_t *slot;     /* by row: 1 + number of its shadow, 0: none yet */
    struct shadow *shadow;
    int n, cap;
};

static struct state *state_of(struct emu_warp *w)
{
    if (!w->wgmma) w->wgmma = calloc(1, sizeof(struct state));
    if (!w->wgmma) base_oom(sizeof(struct state));
    return w->wgmma;
}

static struct emu_warp *first_warp(struct emu_warp *w)
{
    return &w->cta->warp[w->id & ~3];
}

static void *grown(void *p, size_t bytes)
{
    p = realloc(p, bytes);
    if (!p) base_oom(bytes);
    return p;
}

/* The shadow of a row. Pointers to others are void afterwards. */
static struct shadow *shadow_of(struct emu_warp *w, uint32_t row)
{
    struct state *s = state_of(w);
    if (!s->slot) {
        size_t bytes = sizeof *s->slot * w->cta->cluster->grid->entry->rows;
        memset(s->slot = grown(NULL, bytes), 0, bytes);
    }
    if (!s->slot[row]) {
        if (s->n == s->cap)
            s->shadow = grown(s->shadow, sizeof *s->shadow * (size_t)(s->cap = s->cap ? 2 * s->cap : 64));
        s->shadow[s->n] = (struct shadow){0};
        s->slot[row] = (uint32_t)++s->n;
    }
    return &s->shadow[s->slot[row] - 1];
}

void emu_wgmma_warp_end(struct emu_warp *w)
{
    struct state *s = w->wgmma;
    if (!s) return;
    free(s->slot);
    free(s->shadow);
    free(s);
    w->wgmma = NULL;
}

/* ---- descriptors ---- */

/* The value of a row that must be the same in all lanes of the warpgroup. */
static bool uniform64(struct emu_warp *w, const struct emu_insn *in, uint32_t row, const char *what, uint64_t *v)
{
    *v = emu_row64(first_warp(w), row)[0];
    for (int i = 0; i < 4; i++) {
        struct emu_warp *x = first_warp(w) + i;
        for (int l = 0; l < 32; l++)
            if (emu_row64(x, row)[l] != *v)
                return emu_fault(x, in, l, "%s is 0x%llx here and 0x%llx in the warpgroup's first lane", what,
                                 (unsigned long long)emu_row64(x, row)[l], (unsigned long long)*v), false;
    }
    return true;
}

static bool decode_descriptor(const struct emu_who *who, uint64_t desc, struct smem_operand *o)
{
    static const enum swizzle modes[] = {SWIZZLE_NONE, SWIZZLE_128, SWIZZLE_64, SWIZZLE_32};
    o->start = (uint32_t)(desc & 0x3FFF) << 4;
    o->lbo = (uint32_t)(desc >> 16 & 0x3FFF) << 4;
    o->sbo = (uint32_t)(desc >> 32 & 0x3FFF) << 4;
    o->base = (uint32_t)(desc >> 49 & 7);
    o->swizzle = modes[desc >> 62];
    if (desc & 0x3FF1C000C000C000ull)
        return emu_fault_who(who, "descriptor 0x%016llx has bits set in its unused fields", (unsigned long long)desc);
    return true;
}

/* ---- one product ---- */

struct product {
    struct emu_warp *first;
    const struct emu_insn *in;
    struct smem_operand a, b;
    bool accumulate, late;
    uint32_t a_copy[4][4][32]; /* [warp][register][lane], as they were at issue */
};

/* Element of the accumulator that register i of lane l of warp v holds. */
static int acc_row(int v, int l, int i) { return 16 * v + l / 4 + 8 * (i / 2 % 2); }
static int acc_col(int l, int i) { return 8 * (i / 4) + l % 4 * 2 + i % 2; }

static void spread_acc(const struct wgmma *x, int v, int r, const uint32_t *value, uint32_t *cd)
{
    for (int l = 0; l < 32; l++) {
        if (x->d_type == NUM_f16) {
            uint32_t *to = cd + acc_row(v, l, 2 * r) * x->n + acc_col(l, 2 * r);
            to[0] = value[l] & 0xFFFF;
            to[1] = value[l] >> 16;
        } else {
            cd[acc_row(v, l, r) * x->n + acc_col(l, r)] = value[l];
        }
    }
}

static void gather_acc(const struct wgmma *x, int v, int r, uint32_t *value, const uint32_t *cd)
{
    for (int l = 0; l < 32; l++) {
        if (x->d_type == NUM_f16) {
            const uint32_t *from = cd + acc_row(v, l, 2 * r) * x->n + acc_col(l, 2 * r);
            value[l] = from[0] | from[1] << 16;
        } else {
            value[l] = cd[acc_row(v, l, r) * x->n + acc_col(l, r)];
        }
    }
}

/* A as mma.sync holds it, 16 rows further down for each warp. */
static void gather_a(const struct wgmma *x, const struct product *p, uint32_t *a)
{
    int e = 32 / x->bits;
    uint32_t mask = x->bits == 32 ? ~0u : (1u << x->bits) - 1;
    for (int v = 0; v < 4; v++)
        for (int r = 0; r < 4; r++)
            for (int l = 0; l < 32; l++)
                for (int i = 0; i < e; i++)
                    a[(16 * v + l / 4 + 8 * (r % 2)) * x->k + l % 4 * e + i + 4 * e * (r / 2)] =
                        p->a_copy[v][r][l] >> i * x->bits & mask;
}

static bool a_unchanged(const struct product *p, const struct wgmma *x)
{
    for (int v = 0; v < 4; v++)
        for (int r = 0; r < 4; r++) {
            const uint32_t *now = emu_row(p->first + v, x->a[r]);
            for (int l = 0; l < 32; l++)
                if (now[l] != p->a_copy[v][r][l])
                    return emu_fault(p->first + v, p->in, l,
                                     "register %d of A was written before the wait for this wgmma", r),
                           false;
        }
    return true;
}

static bool finish_registers(struct product *p, const struct wgmma *x, const uint32_t *cd)
{
    for (int v = 0; v < 4; v++)
        for (int r = 0; r < x->n_d; r++) {
            struct emu_warp *w = p->first + v;
            struct shadow *s = shadow_of(w, x->d[r]);
            uint32_t *reg = emu_row(w, x->d[r]);
            gather_acc(x, v, r, s->value, cd);
            s->known = true;
            s->fence = state_of(p->first)->fences;
            if (p->late) {
                for (int l = 0; l < 32; l++)
                    if (reg[l] != ~0u)
                        return emu_fault(w, p->in, l,
                                         "accumulator register %d was written before the wait for this wgmma", r),
                               false;
                if (--s->in_flight) continue;
            }
            memcpy(reg, s->value, sizeof s->value);
        }
    return true;
}

static bool effect(struct emu_async *op)
{
    struct product *p = (struct product *)op->payload;
    const struct wgmma *x = p->in->x;
    struct emu_cta *cta = p->first->cta;
    uint32_t a[64 * 32], b[256 * 32], cd[64 * 256];
    if (p->late && !p->first->live)
        return emu_fault(p->first, p->in, -1, "the warpgroup ended without waiting for this wgmma"), false;
    if (x->a_in_registers) {
        if (p->late && !a_unchanged(p, x)) return false;
        gather_a(x, p, a);
    } else if (!smem_operand_read(&op->who, cta, &p->a, false, a)) {
        return false;
    }
    if (!smem_operand_read(&op->who, cta, &p->b, true, b)) return false;
    if (p->accumulate) {
        for (int v = 0; v < 4; v++)
            for (int r = 0; r < x->n_d; r++) spread_acc(x, v, r, shadow_of(p->first + v, x->d[r])->value, cd);
    } else {
        memset(cd, 0, sizeof *cd * (size_t)(64 * x->n));
    }
    struct num_mma j = {.chip = cta->cluster->grid->emu->config.chip,
                        .unit = NUM_WGMMA,
                        .a_type = x->a_type,
                        .b_type = x->b_type,
                        .d_type = x->d_type,
                        .m = 64,
                        .n = x->n,
                        .k = x->k,
                        .ld = x->n,
                        .negate = x->negate,
                        .saturate = x->saturate,
                        .a = a,
                        .b = b,
                        .cd = cd};
    if (!num_mma(&j)) return emu_fault(p->first, p->in, -1, "this chip has no such instruction"), false;
    cta->cluster->stats.mma_count++;
    return finish_registers(p, x, cd);
}

/* Registers at issue: the accumulators' values move to their shadows. */
static bool begin_registers(struct product *p, const struct wgmma *x)
{
    uint64_t fences = state_of(p->first)->fences;
    for (int v = 0; v < 4; v++)
        for (int r = 0; r < x->n_d; r++) {
            struct emu_warp *w = p->first + v;
            struct shadow *s = shadow_of(w, x->d[r]);
            uint32_t *reg = emu_row(w, x->d[r]);
            if (!s->in_flight) {
                if (p->accumulate && s->known && s->fence == fences && memcmp(s->value, reg, sizeof s->value))
                    return emu_fault(w, p->in, -1, "accumulator register %d was written since the last wgmma.fence", r),
                           false;
                memcpy(s->value, reg, sizeof s->value);
            }
            if (p->late) {
                if (!s->in_flight++) memset(reg, 0xFF, sizeof s->value);
                else
                    for (int l = 0; l < 32; l++)
                        if (reg[l] != ~0u)
                            return emu_fault(w, p->in, l,
                                             "accumulator register %d was written while an earlier wgmma is in flight",
                                             r),
                                   false;
            }
        }
    for (int v = 0; x->a_in_registers && v < 4; v++)
        for (int r = 0; r < 4; r++) memcpy(p->a_copy[v][r], emu_row(p->first + v, x->a[r]), sizeof p->a_copy[v][r]);
    return true;
}

static bool scale_d(struct emu_warp *w, const struct emu_insn *in, bool *accumulate)
{
    const struct wgmma *x = in->x;
    *accumulate = emu_pred(first_warp(w), x->scale_d, x->scale_d_neg) & 1;
    for (int v = 0; v < 4; v++)
        if (emu_pred(first_warp(w) + v, x->scale_d, x->scale_d_neg) != (*accumulate ? ~0u : 0))
            return emu_fault(first_warp(w) + v, in, -1, "scale-d differs among the warpgroup's lanes"), false;
    return true;
}

static bool issue(struct emu_warp *w, const struct emu_insn *in)
{
    const struct wgmma *x = in->x;
    struct emu_warp *first = first_warp(w);
    struct state *s = state_of(first);
    const struct emu_who who = {first, in, -1, false};
    if (!s->fences) return emu_fault(w, in, -1, "wgmma.fence is missing before the first wgmma"), false;
    struct emu_async *op = emu_async_new(&who, EMU_ASYNC_WGMMA, sizeof(struct product));
    struct product *p = (struct product *)op->payload;
    uint64_t desc;
    p->first = first;
    p->in = in;
    p->late = emu_async_is_late(w->cta->cluster);
    p->a = (struct smem_operand){.mn_major = x->a_mn_major, .mn = 64, .k = x->k, .bits = x->bits};
    p->b = (struct smem_operand){.mn_major = x->b_mn_major, .mn = x->n, .k = x->k, .bits = x->bits};
    bool ok = scale_d(w, in, &p->accumulate) &&
              (x->a_in_registers ||
               (uniform64(w, in, x->a_desc, "descriptor of A", &desc) && decode_descriptor(&who, desc, &p->a))) &&
              uniform64(w, in, x->b_desc, "descriptor of B", &desc) && decode_descriptor(&who, desc, &p->b) &&
              begin_registers(p, x);
    if (!ok) {
        free(op);
        return false;
    }
    op->write = effect;
    op->order = 1 + (uint64_t)(uintptr_t)first;
    op->group = s->committed + 1;
    s->open++;
    return emu_async_issue(op);
}

/* ---- instructions ---- */

static enum emu_next run_mma(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    bool last;
    if (!tensor_whole_warp(w, in, mask)) return EMU_FAULT;
    enum emu_next r = emu_warpgroup_sync(w, in, mask, &last);
    if (r != EMU_NEXT || !last) return r;
    return issue(w, in) ? EMU_NEXT : EMU_FAULT;
}

static enum emu_next run_fence(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    bool last;
    enum emu_next r = emu_warpgroup_sync(w, in, mask, &last);
    if (r == EMU_NEXT && last) state_of(first_warp(w))->fences++;
    return r;
}

static enum emu_next run_commit(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    bool last;
    enum emu_next r = emu_warpgroup_sync(w, in, mask, &last);
    if (r == EMU_NEXT && last) {
        state_of(first_warp(w))->committed++;
        state_of(first_warp(w))->open = 0;
    }
    return r;
}

struct covered {
    const struct emu_warp *first;
    int64_t limit;
};

static bool is_covered(const struct emu_async *op, const void *arg)
{
    const struct covered *c = arg;
    return op->kind == EMU_ASYNC_WGMMA && ((const struct product *)op->payload)->first == c->first &&
           (int64_t)op->group <= c->limit;
}

static enum emu_next run_wait(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    bool last;
    enum emu_next r = emu_warpgroup_sync(w, in, mask, &last);
    if (r != EMU_NEXT || !last) return r;
    struct covered c = {first_warp(w), (int64_t)state_of(first_warp(w))->committed - in->imm};
    return emu_async_force(w->cta->cluster, is_covered, &c, false) ? EMU_NEXT : EMU_FAULT;
}

/* ---- decoding ---- */

static bool group_insn(struct emu_decode *d, struct emu_insn *in, emu_run_fn *run)
{
    in->aligned = true;
    in->run = run;
    return tensor_sync_aligned(d);
}

bool emu_decode_wgmma_fence(struct emu_decode *d, struct emu_insn *in) { return group_insn(d, in, run_fence); }
bool emu_decode_wgmma_commit(struct emu_decode *d, struct emu_insn *in) { return group_insn(d, in, run_commit); }
bool emu_decode_wgmma_wait(struct emu_decode *d, struct emu_insn *in)
{
    if (!group_insn(d, in, run_wait) || !emu_imm(d, 0, &in->imm)) return false;
    return (in->imm >= 0 && in->imm <= 7) || emu_bad(d, "0 to 7 groups can be left pending");
}

/* Which types go together, and the k of 32 bytes. */
static bool types_ok(struct emu_decode *d, struct wgmma *x, int m, int k)
{
    bool fp8 = (x->a_type == NUM_e4m3 || x->a_type == NUM_e5m2) && (x->b_type == NUM_e4m3 || x->b_type == NUM_e5m2);
    bool integer = (x->a_type == NUM_s8 || x->a_type == NUM_u8) && (x->b_type == NUM_s8 || x->b_type == NUM_u8);
    bool same = x->a_type == x->b_type, half = same && x->a_type == NUM_f16;
    bool ok = integer ? x->d_type == NUM_s32 : fp8 || half ? x->d_type == NUM_f32 || x->d_type == NUM_f16 :
              same && (x->a_type == NUM_bf16 || x->a_type == NUM_tf32) && x->d_type == NUM_f32;
    x->bits = num_bits(x->a_type);
    x->k = 256 / x->bits;
    if (!ok) return emu_bad(d, "these element types do not go together");
    if (m != 64 || k != x->k) return emu_bad(d, "the shape must be m64nNk%d for these types", x->k);
    if (x->n < 8 || x->n > 256 || x->n % 8 || (integer && x->n > 24 && x->n % 16))
        return emu_bad(d, "N is a multiple of 8 up to 256, for integers above 24 of 16");
    return true;
}

/* +1 or -1, spelled as an integer or a float. */
static bool sign(struct emu_decode *d, int i, bool *negate)
{
    int64_t v;
    if (!emu_imm(d, i, &v)) return false;
    if (v != 1 && v != -1) return emu_bad(d, "operand %d must be 1 or -1", i + 1);
    *negate ^= v == -1;
    return true;
}

static bool flag(struct emu_decode *d, int i, bool *on)
{
    int64_t v;
    if (!emu_imm(d, i, &v)) return false;
    if (v != 0 && v != 1) return emu_bad(d, "operand %d must be 0 or 1", i + 1);
    *on = v;
    return true;
}

bool emu_decode_wgmma_mma(struct emu_decode *d, struct emu_insn *in)
{
    struct wgmma *x = new(d->arena, struct wgmma);
    int m, k, i = 3;
    if (!tensor_sync_aligned(d)) return false;
    if (!tensor_shape(d, &m, &x->n, &k)) return emu_bad(d, "a shape is wanted");
    if (!tensor_type(d, &x->d_type) || !tensor_type(d, &x->a_type) || !tensor_type(d, &x->b_type))
        return emu_bad(d, "three element types are wanted: of D, A and B");
    x->saturate = emu_mod(d, "satfinite");
    if (!types_ok(d, x, m, k)) return false;
    if (x->saturate && x->d_type != NUM_s32) return emu_bad(d, "'.satfinite' goes with integers");
    x->n_d = x->d_type == NUM_f16 ? x->n / 4 : x->n / 2;
    x->a_in_registers = d->nop > 1 && d->op[1].kind == EMU_RAW_VEC;
    in->x = x;
    in->aligned = true;
    in->run = run_mma;
    if (!emu_dst_vec(d, 0, x->n_d, 32, &x->d, NULL) || !emu_src(d, 2, EMU_T_B64, &x->b_desc)) return false;
    if (x->a_in_registers ? !emu_src_vec(d, 1, 4, EMU_T_B32, &x->a, NULL) : !emu_src(d, 1, EMU_T_B64, &x->a_desc))
        return false;
    if (!emu_src_pred(d, i++, &x->scale_d, &x->scale_d_neg)) return false;
    if (x->d_type == NUM_s32) return true;
    if (!sign(d, i++, &x->negate) || !sign(d, i++, &x->negate)) return false;
    if (x->bits != 16) return true;
    if (!x->a_in_registers && !flag(d, i++, &x->a_mn_major)) return false;
    return flag(d, i, &x->b_mn_major);
}
