/* mma - mma.sync: gathers the fragments of a warp into matrices, multiplies, spreads the result.
 *
 * Lane l = 4g + q. With e elements in a register, part p of register r is A[g + 8*(r%2)][q*e + p + 4*e*(r/2)] and
 * B[q*e + p + 4*e*r][g]; register i of C and D is [g + 8*(i/2)][2q + i%2] (PTX ISA, "Matrix fragments for mma.m16n8k*"). */
#include "runtime/emu/tensor.h"

enum kind { KIND_NONE, KIND_F8F6F4, KIND_MXF8F6F4, KIND_MXF4, KIND_MXF4NVF4 };
static const char *const kind_names[] = {"kind::f8f6f4", "kind::mxf8f6f4", "kind::mxf4", "kind::mxf4nvf4", NULL};

#define BIT(t) (1u << NUM_##t)
#define FP8 (BIT(e4m3) | BIT(e5m2))
#define FP6 (BIT(e3m2) | BIT(e2m3))
static const struct form {
    int k;
    enum kind kind;
    uint32_t inputs, results;
    int container, block;
    uint32_t scales;
    enum emu_need need;
} forms[] = {
#define FORM(k, kind, inputs, results, container, block, scales, need) \
    {k, kind, inputs, results, container, block, scales, need},
#include "runtime/emu/mma.def"
};

struct mma {
    const struct form *form;
    enum num_type a_type, b_type, d_type, scale_type;
    bool saturate;
    const uint32_t *a, *b, *c, *d;
    const uint32_t *scale_a, *scale_b, *id_a, *id_b; /* scales; {byte id, thread id} */
};

/* One element as the container holds it. e2m1 of the f8f6f4 kinds lies in bits 5..2 of its byte. */
static uint32_t element(const struct mma *x, enum num_type t, uint32_t part)
{
    if (x->form->container != 8) return part;
    return t == NUM_e2m1 ? part >> 2 & 15 : num_bits(t) == 6 ? part & 63 : part;
}

static void gather_a(struct emu_warp *w, const struct mma *x, uint32_t *a)
{
    int bits = x->form->container, e = 32 / bits, k = x->form->k, regs = 16 * k * bits / 32 / 32;
    uint32_t mask = bits == 32 ? ~0u : (1u << bits) - 1;
    for (int r = 0; r < regs; r++) {
        const uint32_t *row = emu_row(w, x->a[r]);
        for (int l = 0; l < 32; l++) {
            uint32_t *to = a + (l / 4 + 8 * (r % 2)) * k + l % 4 * e + 4 * e * (r / 2);
            for (int p = 0; p < e; p++) to[p] = element(x, x->a_type, row[l] >> p * bits & mask);
        }
    }
}

static void gather_b(struct emu_warp *w, const struct mma *x, uint32_t *b)
{
    int bits = x->form->container, e = 32 / bits, regs = 8 * x->form->k * bits / 32 / 32;
    uint32_t mask = bits == 32 ? ~0u : (1u << bits) - 1;
    for (int r = 0; r < regs; r++) {
        const uint32_t *row = emu_row(w, x->b[r]);
        for (int l = 0; l < 32; l++)
            for (int p = 0; p < e; p++)
                b[(l % 4 * e + p + 4 * e * r) * 8 + l / 4] = element(x, x->b_type, row[l] >> p * bits & mask);
    }
}

static void gather_c(struct emu_warp *w, const struct mma *x, uint32_t cd[16][8])
{
    if (x->d_type == NUM_f16) {
        for (int p = 0; p < 2; p++)
            for (int l = 0; l < 32; l++) {
                uint32_t v = emu_row(w, x->c[p])[l];
                cd[l / 4 + 8 * p][l % 4 * 2] = v & 0xFFFF;
                cd[l / 4 + 8 * p][l % 4 * 2 + 1] = v >> 16;
            }
        return;
    }
    for (int i = 0; i < 4; i++)
        for (int l = 0; l < 32; l++) cd[l / 4 + 8 * (i / 2)][l % 4 * 2 + i % 2] = emu_row(w, x->c[i])[l];
}

static void spread_d(struct emu_warp *w, const struct mma *x, uint32_t cd[16][8])
{
    if (x->d_type == NUM_f16) {
        for (int p = 0; p < 2; p++)
            for (int l = 0; l < 32; l++) {
                const uint32_t *v = &cd[l / 4 + 8 * p][l % 4 * 2];
                emu_row(w, x->d[p])[l] = v[0] | v[1] << 16;
            }
        return;
    }
    for (int i = 0; i < 4; i++)
        for (int l = 0; l < 32; l++) emu_row(w, x->d[i])[l] = cd[l / 4 + 8 * (i / 2)][l % 4 * 2 + i % 2];
}

/* Scale bytes of 16 rows and 8 columns. Thread id a names the pair of lanes q = 2a, 2a+1 that hold rows g and g + 8; thread
 * id b the lane q that holds column g. Byte id: the first byte used. */
static bool gather_scales(struct emu_warp *w, const struct emu_insn *in, uint8_t *scale_a, uint8_t *scale_b)
{
    const struct mma *x = in->x;
    int n = x->form->k / x->form->block;
    uint32_t byte_a = emu_row(w, x->id_a[0])[0], thread_a = emu_row(w, x->id_a[1])[0];
    uint32_t byte_b = emu_row(w, x->id_b[0])[0], thread_b = emu_row(w, x->id_b[1])[0];
    if (byte_a % (uint32_t)n || byte_a + (uint32_t)n > 4 || byte_b % (uint32_t)n || byte_b + (uint32_t)n > 4)
        return emu_fault(w, in, -1, "scale byte ids %u and %u; %d bytes are used, from a multiple of %d on", byte_a,
                         byte_b, n, n),
               false;
    if (thread_a > 1 || thread_b > 3)
        return emu_fault(w, in, -1, "scale thread ids %u and %u; 0..1 and 0..3 are possible", thread_a, thread_b),
               false;
    for (uint32_t g = 0; g < 8; g++)
        for (uint32_t i = 0; i < (uint32_t)n; i++) {
            const uint32_t *a = emu_row(w, x->scale_a[0]), *b = emu_row(w, x->scale_b[0]);
            scale_a[g * (uint32_t)n + i] = (uint8_t)(a[4 * g + 2 * thread_a] >> 8 * (byte_a + i));
            scale_a[(g + 8) * (uint32_t)n + i] = (uint8_t)(a[4 * g + 2 * thread_a + 1] >> 8 * (byte_a + i));
            scale_b[g * (uint32_t)n + i] = (uint8_t)(b[4 * g + thread_b] >> 8 * (byte_b + i));
        }
    return true;
}

static enum emu_next run_mma(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct mma *x = in->x;
    uint32_t a[16 * 64], b[8 * 64], cd[16][8];
    uint8_t scale_a[16 * 4], scale_b[8 * 4];
    if (!tensor_whole_warp(w, in, mask)) return EMU_FAULT;
    gather_a(w, x, a);
    gather_b(w, x, b);
    gather_c(w, x, cd);
    struct num_mma j = {.chip = w->cta->cluster->grid->emu->config.chip,
                        .unit = NUM_MMA,
                        .a_type = x->a_type,
                        .b_type = x->b_type,
                        .d_type = x->d_type,
                        .m = 16,
                        .n = 8,
                        .k = x->form->k,
                        .ld = 8,
                        .saturate = x->saturate,
                        .a = a,
                        .b = b,
                        .cd = &cd[0][0]};
    if (x->form->block) {
        if (!gather_scales(w, in, scale_a, scale_b)) return EMU_FAULT;
        j.block = x->form->block;
        j.scale_type = x->scale_type;
        j.scale_a = scale_a;
        j.scale_b = scale_b;
        j.exact_groups = x->form->kind != KIND_MXF8F6F4;
    }
    if (!num_mma(&j)) return emu_fault(w, in, -1, "this chip has no such instruction");
    spread_d(w, x, cd);
    w->cta->cluster->stats.mma_count++;
    return EMU_NEXT;
}

/* ---- decoding ---- */

static bool all_in(uint32_t set, enum num_type t)
{
    return set >> t & 1;
}

/* The row that fits; rows that differ in what they need come with the smaller need first. */
static const struct form *find_form(struct emu_decode *d, const struct mma *x, int k, enum kind kind, int block)
{
    const struct form *found = NULL;
    for (int i = 0; i < COUNT(forms); i++) {
        const struct form *f = &forms[i];
        if (f->k != k || f->kind != kind || f->block != block || !all_in(f->inputs, x->a_type) ||
            !all_in(f->inputs, x->b_type))
            continue;
        if (!all_in(f->results, x->d_type) || (block && !all_in(f->scales, x->scale_type))) continue;
        found = f;
        if (emu_target_has(d->module, f->need)) return f;
    }
    return found;
}

/* Inputs of 16 and 32 bits, and 4-bit integers, cannot be mixed. */
static bool mixable(enum num_type a, enum num_type b)
{
    return a == b || (num_bits(a) <= 8 && num_bits(b) <= 8 && num_is_float(a) == num_is_float(b));
}

/* {byte id, thread id}: what is written as numbers is checked here, registers when they are used. */
static bool ids_ok(struct emu_decode *d, int i, int bytes, uint64_t most_thread)
{
    const struct emu_raw *r = &d->op[i];
    if (i >= d->nop || r->kind != EMU_RAW_VEC || r->n != 2)
        return emu_bad(d, "{byte id, thread id} is wanted as operand %d", i + 1);
    if (r->elem[0].kind == EMU_RAW_INT && (r->elem[0].bits % (uint64_t)bytes || r->elem[0].bits > 3))
        return emu_bad(d, "scale byte id %llu; %d bytes are used, from a multiple of %d on",
                       (unsigned long long)r->elem[0].bits, bytes, bytes);
    if (r->elem[1].kind == EMU_RAW_INT && r->elem[1].bits > most_thread)
        return emu_bad(d, "scale thread id %llu; 0 to %llu are possible", (unsigned long long)r->elem[1].bits,
                       (unsigned long long)most_thread);
    return true;
}

static bool decode_scales(struct emu_decode *d, struct mma *x)
{
    int bytes = x->form->k / x->form->block;
    return ids_ok(d, 5, bytes, 1) && ids_ok(d, 7, bytes, 3) &&
           emu_src_vec(d, 4, 1, EMU_T_B32, &x->scale_a, NULL) && emu_src_vec(d, 5, 2, EMU_T_U16, &x->id_a, NULL) &&
           emu_src_vec(d, 6, 1, EMU_T_B32, &x->scale_b, NULL) && emu_src_vec(d, 7, 2, EMU_T_U16, &x->id_b, NULL);
}

bool emu_decode_mma(struct emu_decode *d, struct emu_insn *in)
{
    static const char *const vec_names[] = {"scale_vec::1X", "scale_vec::2X", "scale_vec::4X", NULL};
    struct mma *x = new(d->arena, struct mma);
    int m, n, k, vec = -1;
    enum num_type c_type;
    if (!tensor_sync_aligned(d)) return false;
    if (!tensor_shape(d, &m, &n, &k) || m != 16 || n != 8) return emu_bad(d, "the shapes are m16n8kK");
    if (!emu_mod(d, "row") || !emu_mod(d, "col")) return emu_bad(d, "'.row.col' is wanted here");
    enum kind kind = (enum kind)(emu_mod_one_of(d, kind_names) + 1);
    bool scaled = kind >= KIND_MXF8F6F4;
    if (scaled && !emu_mod(d, "block_scale")) return emu_bad(d, "'.block_scale' is wanted here");
    if (scaled) vec = emu_mod_one_of(d, vec_names);
    x->saturate = emu_mod(d, "satfinite");
    if (!tensor_type(d, &x->d_type) || !tensor_type(d, &x->a_type) || !tensor_type(d, &x->b_type) ||
        !tensor_type(d, &c_type))
        return emu_bad(d, "four element types are wanted: of D, A, B and C");
    if (scaled && !tensor_type(d, &x->scale_type)) return emu_bad(d, "a type of scales is wanted");
    if (c_type != x->d_type || !mixable(x->a_type, x->b_type))
        return emu_bad(d, "these element types do not go together");
    if (vec < 0 && kind == KIND_MXF4NVF4) return emu_bad(d, "'.scale_vec::2X' or '.scale_vec::4X' is wanted");
    int block = !scaled ? 0 : vec < 0 ? 32 : k >> vec;
    if (!(x->form = find_form(d, x, k, kind, block))) return emu_bad(d, "no such form of mma");
    if (!emu_need(d, x->form->need, "this form of mma")) return false;
    if (x->saturate && x->d_type != NUM_s32) return emu_bad(d, "'.satfinite' goes with integers");
    int results = x->d_type == NUM_f16 ? 2 : 4, words = k * x->form->container / 32;
    in->x = x;
    in->aligned = true;
    in->run = run_mma;
    return emu_dst_vec(d, 0, results, 32, &x->d, NULL) && emu_src_vec(d, 1, words / 2, EMU_T_B32, &x->a, NULL) &&
           emu_src_vec(d, 2, words / 4, EMU_T_B32, &x->b, NULL) && emu_src_vec(d, 3, results, EMU_T_B32, &x->c, NULL) &&
           (!scaled || decode_scales(d, x));
}
