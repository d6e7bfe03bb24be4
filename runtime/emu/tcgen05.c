/* tcgen05 - matrix products into tensor memory, copies into it, commits (PTX ISA, "TensorCore 5th Generation Family").
 *
 * One thread issues; what it issues takes effect in order. With .cta_group::2 two blocks of the cluster, whose ranks
 * differ in the lowest bit, hold half of A's rows and of B's columns each, and half of D. */
#include "runtime/emu/tensor.h"
#include "runtime/emu/tmem.h"

#include <math.h>
#include <stdlib.h>

/* ---- kinds ---- */

enum kind { KIND_F16, KIND_TF32, KIND_F8F6F4, KIND_I8, KIND_MXF8F6F4, KIND_MXF4, KIND_MXF4NVF4, KINDS };
static const char *const kind_names[] = {"kind::f16",      "kind::tf32", "kind::f8f6f4",   "kind::i8",
                                         "kind::mxf8f6f4", "kind::mxf4", "kind::mxf4nvf4", NULL};
enum { NO_TYPE = NUM_TYPES };
static const struct {
    int k, bits; /* one instruction's k; bits of an element's place in memory */
    bool scaled, dense_fp4;
    int type[6]; /* by the instruction descriptor's number */
} kinds[KINDS] = {
    [KIND_F16]      = {16, 16, false, false, {NUM_f16, NUM_bf16, NO_TYPE, NO_TYPE, NO_TYPE, NO_TYPE}},
    [KIND_TF32]     = {8, 32, false, false, {NO_TYPE, NO_TYPE, NUM_tf32, NO_TYPE, NO_TYPE, NO_TYPE}},
    [KIND_F8F6F4]   = {32, 8, false, false, {NUM_e4m3, NUM_e5m2, NO_TYPE, NUM_e2m3, NUM_e3m2, NUM_e2m1}},
    [KIND_I8]       = {32, 8, false, false, {NUM_u8, NUM_s8, NO_TYPE, NO_TYPE, NO_TYPE, NO_TYPE}},
    [KIND_MXF8F6F4] = {32, 8, true, false, {NUM_e4m3, NUM_e5m2, NO_TYPE, NUM_e2m3, NUM_e3m2, NUM_e2m1}},
    [KIND_MXF4]     = {64, 4, true, true, {NO_TYPE, NUM_e2m1, NO_TYPE, NO_TYPE, NO_TYPE, NO_TYPE}},
    [KIND_MXF4NVF4] = {64, 4, true, true, {NO_TYPE, NUM_e2m1, NO_TYPE, NO_TYPE, NO_TYPE, NO_TYPE}},
};

struct mma {
    enum kind kind;
    int group, block; /* k per scale byte */
    bool a_in_tmem, has_mask, enable_neg;
    struct emu_addr d, a, scale_a, scale_b;
    uint32_t a_desc, b_desc, idesc, enable;
    const uint32_t *mask; /* rows of lanes not to write */
    int64_t scale_d;      /* D times 2^-scale_d first */
};

/* One issued product. */
struct product {
    struct tmem_issue issue;
    const struct mma *x;
    struct emu_cta *cta[2]; /* the blocks that take part, even rank first */
    int m, n;
    enum num_type a_type, b_type, d_type, scale_type;
    bool negate, saturate, accumulate;
    struct smem_operand a, b;
    uint32_t d, a_tmem, scale_a, scale_b; /* tensor memory addresses */
    int id_a, id_b;
    uint32_t mask[8];
};

static bool fail(const struct product *p, const char *what, unsigned value)
{
    emu_fault(p->issue.warp, p->issue.in, -1, "%s: %u", what, value);
    return false;
}

/* ---- the instruction descriptor ---- */

static bool take_types(struct product *p, uint32_t desc)
{
    enum kind k = p->x->kind;
    uint32_t a = desc >> 7 & 7, b = desc >> 10 & 7;
    if (a > 5 || kinds[k].type[a] == NO_TYPE)
        return fail(p, "instruction descriptor: type of A that this kind does not have", a);
    if (b > 5 || kinds[k].type[b] == NO_TYPE)
        return fail(p, "instruction descriptor: type of B that this kind does not have", b);
    p->a_type = (enum num_type)kinds[k].type[a];
    p->b_type = (enum num_type)kinds[k].type[b];
    if (k == KIND_F16 && a != b) return fail(p, "instruction descriptor: A and B of different types; type of B", b);
    return true;
}

static bool take_result(struct product *p, uint32_t desc)
{
    enum kind k = p->x->kind;
    uint32_t d = desc >> 4 & 3;
    if (kinds[k].scaled) {
        p->d_type = NUM_f32;
        p->id_b = (int)(desc >> 4 & 3);
        p->id_a = (int)(desc >> 29 & 3);
        p->scale_type = desc >> 23 & 1 ? NUM_ue8m0 : NUM_ue4m3;
        if (k != KIND_MXF4NVF4 && p->scale_type != NUM_ue8m0)
            return fail(p, "instruction descriptor: scale type; ue8m0 (1) is wanted", 0);
        if (p->scale_type == NUM_ue4m3 && p->x->block != 16)
            return fail(p, "instruction descriptor: ue4m3 scales go with .block16, not with blocks of",
                        (unsigned)p->x->block);
        int bytes = kinds[k].k / p->x->block;
        if (p->id_a % bytes || p->id_b % bytes)
            return fail(p, "instruction descriptor: scale id; it must be a multiple of the bytes used",
                        (unsigned)(p->id_a % bytes ? p->id_a : p->id_b));
        return true;
    }
    p->d_type = d == 0 ? NUM_f16 : d == 1 ? NUM_f32 : NUM_s32;
    p->saturate = k == KIND_I8 && desc >> 3 & 1;
    bool ok =
        k == KIND_I8 ? d == 2 : d == 1 || (d == 0 && (k == KIND_F8F6F4 || (k == KIND_F16 && p->a_type == NUM_f16)));
    return ok || fail(p, "instruction descriptor: type of D that does not go with this kind", d);
}

static bool shape_ok(const struct product *p)
{
    int m = p->m, n = p->n, step = p->x->group == 1 ? 8 : 16;
    if (p->x->kind == KIND_I8) step = p->x->group == 2 ? 32 : n > 24 ? 16 : 8;
    if (kinds[p->x->kind].bits == 8 && p->b.mn_major && step < 16 * p->x->group) step = 16 * p->x->group;
    bool m_ok = p->x->group == 2 ? m == 128 || m == 256 : kinds[p->x->kind].scaled ? m == 128 : m == 64 || m == 128;
    if (!m_ok) return fail(p, "instruction descriptor: M that this form does not have", (unsigned)m);
    if (n < step || n > 256 || n % step)
        return fail(p, "instruction descriptor: N that this form does not have", (unsigned)n);
    return true;
}

static bool take_idesc(struct product *p, uint32_t desc)
{
    bool scaled = kinds[p->x->kind].scaled;
    uint32_t unused = scaled ? 0x8700004Fu : 0xE0800047u;
    if (!scaled && p->x->kind != KIND_I8) unused |= 8;
    if (desc & unused) {
        emu_fault(p->issue.warp, p->issue.in, -1, "instruction descriptor 0x%08x: bits 0x%08x must be zero here", desc,
                  desc & unused);
        return false;
    }
    p->m = (int)(desc >> 24 & 31) * 16;
    p->n = (int)(desc >> 17 & 63) * 8;
    p->negate = (desc >> 13 ^ desc >> 14) & 1;
    p->a.mn_major = desc >> 15 & 1;
    p->b.mn_major = desc >> 16 & 1;
    if (!take_types(p, desc) || !take_result(p, desc)) return false;
    if (p->x->kind == KIND_I8 && desc >> 13 & 3)
        return fail(p, "instruction descriptor: negation of integers", desc >> 13 & 3);
    if (kinds[p->x->kind].dense_fp4 && desc >> 15 & 3)
        return fail(p, "instruction descriptor: fp4 operands are K-major only; transpose bits", desc >> 15 & 3);
    if (p->x->a_in_tmem && p->a.mn_major)
        return fail(p, "instruction descriptor: A in tensor memory cannot be transposed", 1);
    return shape_ok(p);
}

/* ---- shared memory descriptors ---- */

static bool take_descriptor(const struct emu_who *who, uint64_t desc, struct smem_operand *o)
{
    static const int modes[] = {SWIZZLE_NONE, SWIZZLE_128_ATOM_32, SWIZZLE_128, -1, SWIZZLE_64, -1, SWIZZLE_32, -1};
    o->start = (uint32_t)(desc & 0x3FFF) << 4;
    o->lbo = (uint32_t)(desc >> 16 & 0x3FFF) << 4;
    o->sbo = (uint32_t)(desc >> 32 & 0x3FFF) << 4;
    o->base = (uint32_t)(desc >> 49 & 7);
    int mode = modes[desc >> 61];
    if ((desc >> 46 & 7) != 1)
        return emu_fault_who(who, "descriptor 0x%016llx: bits 48:46 are %u; 1 is wanted", (unsigned long long)desc,
                             (unsigned)(desc >> 46 & 7));
    if (desc & 0x1FF00000C000C000ull)
        return emu_fault_who(who, "descriptor 0x%016llx has bits set in its unused fields", (unsigned long long)desc);
    if (mode < 0) return emu_fault_who(who, "descriptor 0x%016llx: no such swizzle", (unsigned long long)desc);
    o->swizzle = (enum swizzle)mode;
    bool wide_mn = o->mn_major && o->bits == 32;
    if (wide_mn != (o->swizzle == SWIZZLE_128_ATOM_32))
        return emu_fault_who(who,
                             "descriptor 0x%016llx: 32-bit elements by rows of mn, and they alone, take the 128-byte "
                             "swizzle of 32-byte atoms",
                             (unsigned long long)desc);
    return true;
}

/* ---- tensor memory that a product touches ---- */

/* The lanes of a block that hold rows of D, and of A: 16 a bit. */
static uint32_t lanes_of(const struct product *p, uint32_t address)
{
    if (p->x->group == 1 && p->m == 64) return address >> 16 & 16 ? 0xAA : 0x55;
    return 0xFF;
}

static bool address_ok(const struct product *p, uint32_t address, const char *what)
{
    uint32_t lane = address >> 16;
    if (lane == 0 || (lane == 16 && p->m == 64 && p->x->group == 1)) return true;
    emu_fault(p->issue.warp, p->issue.in, -1, "%s at lane %u of tensor memory; it begins at lane 0%s", what, lane,
              p->m == 64 ? " or 16" : "");
    return false;
}

static struct tmem_region region_d(const struct product *p)
{
    return (struct tmem_region){(int)(p->d & 0xFFFF), p->x->group == 2 && p->m == 128 ? p->n / 2 : p->n,
                                lanes_of(p, p->d)};
}

static struct tmem_region region_a(const struct product *p)
{
    return (struct tmem_region){(int)(p->a_tmem & 0xFFFF), 8, lanes_of(p, p->a_tmem)}; /* 32 bytes of k */
}

static struct tmem_region region_scales(uint32_t address, int rows)
{
    return (struct tmem_region){(int)(address & 0xFFFF), (rows + 31) / 32, 0xFF};
}

/* Regions that are read. */
static int regions_read(const struct product *p, struct tmem_region r[3])
{
    int n = 0;
    if (p->x->a_in_tmem) r[n++] = region_a(p);
    if (kinds[p->x->kind].scaled) {
        r[n++] = region_scales(p->scale_a, p->m / p->x->group);
        r[n++] = region_scales(p->scale_b, p->n);
    }
    return n;
}

static bool begin_tmem(const struct emu_who *who, const struct product *p)
{
    struct tmem_region r[3], d = region_d(p);
    int n = regions_read(p, r);
    for (int c = 0; c < p->x->group; c++) {
        if (!tmem_allocated(who, p->cta[c], &d)) return false;
        if (tmem_busy(p->cta[c], &d, TMEM_LOADING))
            return emu_fault_who(who, "D overwrites columns that a tcgen05.ld in flight still reads: tcgen05.wait::ld "
                                      "is missing before the barrier");
        if (tmem_busy(p->cta[c], &d, TMEM_STORING))
            return emu_fault_who(who, "D lies where a tcgen05.st is in flight: tcgen05.wait::st is missing");
        for (int i = 0; i < n; i++) {
            if (!tmem_allocated(who, p->cta[c], &r[i])) return false;
            if (tmem_busy(p->cta[c], &r[i], TMEM_STORING))
                return emu_fault_who(
                    who, "reads tensor memory while a tcgen05.st to it is in flight: tcgen05.wait::st is missing");
        }
    }
    for (int c = 0; c < p->x->group && p->issue.late; c++) tmem_count(p->cta[c], &d, TMEM_WRITING, 1);
    return true;
}

/* ---- effect ---- */

/* A of one block from its tensor memory: row m in the lane that holds row m of D, elements packed along the columns. */
static void read_a_tmem(const struct product *p, struct emu_cta *cta, int rows, uint32_t *out)
{
    const struct tmem *t = tmem_of(cta);
    int bits = kinds[p->x->kind].bits, k = kinds[p->x->kind].k, column = (int)(p->a_tmem & 0xFFFF),
        lane0 = (int)(p->a_tmem >> 16);
    uint32_t mask = bits == 32 ? ~0u : (1u << bits) - 1;
    bool spread = p->x->group == 1 && p->m == 64;
    for (int m = 0; m < rows; m++)
        for (int i = 0; i < k; i++) {
            int lane = lane0 + (spread ? 32 * (m / 16) + m % 16 : m);
            uint32_t v = t->cell[lane][column + i * bits / 32] >> i * bits % 32 & mask;
            if (bits == 8 && p->a_type == NUM_e2m1) v = v >> 2 & 15; /* as mma.sync has it in a byte */
            else if (bits == 8 && num_bits(p->a_type) == 6) v &= 63;
            out[m * k + i] = v;
        }
}

/* Scale bytes of `rows` rows: byte s of row m lies in column m / 32, lane m % 32, the same in all four groups of lanes. With
 * M = 128 over two blocks the halves of B's columns lie in the halves of the lanes. */
static bool read_scales(const struct product *p, struct emu_cta *cta, uint32_t address, int rows, int id, bool halves,
                        uint8_t *out)
{
    const struct tmem *t = tmem_of(cta);
    int n = kinds[p->x->kind].k / p->x->block, column = (int)(address & 0xFFFF);
    for (int r = 0; r < rows; r++) {
        int part = halves ? r / (rows / 2) : 0, at = halves ? r % (rows / 2) : r, first = part ? 2 : 0,
            groups = halves ? 2 : 4;
        uint32_t word = t->cell[32 * first + at % 32][column + at / 32];
        uint32_t used = (n == 4 ? ~0u : (1u << 8 * n) - 1) << 8 * id;
        for (int g = first + 1; g < first + groups; g++)
            if ((t->cell[32 * g + at % 32][column + at / 32] ^ word) & used)
                return fail(p, "scales are not repeated in all groups of 32 lanes; column",
                            (unsigned)(column + at / 32));
        for (int s = 0; s < n; s++) out[r * n + s] = (uint8_t)(word >> 8 * (id + s));
    }
    return true;
}

/* Lane and column of D[m][n] of one block, m within the block (PTX ISA, "Data path layout organization"). */
static uint32_t *cell_of(const struct product *p, struct tmem *t, int m, int n)
{
    int column = (int)(p->d & 0xFFFF), lane = m;
    if (p->x->group == 1 && p->m == 64) lane = (int)(p->d >> 16) + 32 * (m / 16) + m % 16;
    if (p->x->group == 2 && p->m == 128) {
        lane = m + 64 * (n / (p->n / 2));
        n %= p->n / 2;
    }
    return &t->cell[lane][column + n];
}

static uint32_t scaled_down(const struct product *p, uint32_t v)
{
    if (p->d_type == NUM_f16)
        return num_f16_of_f32(num_float_bits(ldexpf(num_float(num_f32_of_f16(v)), -(int)p->x->scale_d)));
    return num_float_bits(ldexpf(num_float(v), -(int)p->x->scale_d));
}

static void load_d(const struct product *p, struct tmem *t, int rows, uint32_t *cd)
{
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < p->n; n++) {
            uint32_t v = p->accumulate ? *cell_of(p, t, m, n) : 0;
            if (p->d_type == NUM_f16) v &= 0xFFFF;
            cd[m * p->n + n] = p->x->scale_d && p->accumulate ? scaled_down(p, v) : v;
        }
}

static void store_d(const struct product *p, struct tmem *t, int block, int rows, const uint32_t *cd)
{
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < p->n; n++) {
            uint32_t *cell = cell_of(p, t, m, n);
            int lane = (int)(cell - t->cell[0]) / TMEM_COLUMNS + 128 * block;
            if (!(p->mask[lane / 32] >> lane % 32 & 1)) *cell = cd[m * p->n + n];
        }
}

/* The rows of one block, with all columns of B. */
static bool block_product(const struct product *p, const struct emu_who *who, int block, const uint32_t *b)
{
    struct emu_cta *cta = p->cta[block];
    int rows = p->m / p->x->group, k = kinds[p->x->kind].k;
    uint32_t a[NUM_MAX_M * 64], cd[NUM_MAX_M * NUM_MAX_N];
    uint8_t scale_a[NUM_MAX_M * 4], scale_b[NUM_MAX_N * 4];
    struct smem_operand oa = p->a;
    oa.mn = rows;
    if (p->x->a_in_tmem) read_a_tmem(p, cta, rows, a);
    else if (!smem_operand_read(who, cta, &oa, false, a)) return false;
    struct num_mma j = {.chip = cta->cluster->grid->emu->config.chip,
                        .unit = NUM_TCGEN05,
                        .a_type = p->a_type,
                        .b_type = p->b_type,
                        .d_type = p->d_type,
                        .m = rows,
                        .n = p->n,
                        .k = k,
                        .ld = p->n,
                        .negate = p->negate,
                        .saturate = p->saturate,
                        .a = a,
                        .b = b,
                        .cd = cd};
    if (kinds[p->x->kind].scaled) {
        bool halves = p->x->group == 2 && p->m == 128;
        if (!read_scales(p, cta, p->scale_a, rows, p->id_a, false, scale_a) ||
            !read_scales(p, cta, p->scale_b, p->n, p->id_b, halves, scale_b))
            return false;
        j.scale_a = scale_a;
        j.scale_b = scale_b;
        j.block = p->x->block;
        j.scale_type = p->scale_type;
        j.exact_groups = kinds[p->x->kind].dense_fp4;
    }
    load_d(p, tmem_of(cta), rows, cd);
    if (!num_mma(&j)) return fail(p, "this chip has no such instruction; chip", (unsigned)j.chip);
    store_d(p, tmem_of(cta), block, rows, cd);
    return true;
}

static bool mma_effect(struct emu_async *op)
{
    const struct product *p = (const struct product *)op->payload;
    int group = p->x->group, per_block = p->n / group, k = kinds[p->x->kind].k;
    uint32_t b[NUM_MAX_N * 64];
    struct smem_operand ob = p->b;
    struct tmem_region d = region_d(p);
    ob.mn = per_block;
    for (int c = 0; c < group; c++)
        if (!smem_operand_read(&op->who, p->cta[c], &ob, true, b + c * per_block * k)) return false;
    for (int c = 0; c < group; c++)
        if (!block_product(p, &op->who, c, b)) return false;
    for (int c = 0; c < group && p->issue.late; c++) tmem_count(p->cta[c], &d, TMEM_WRITING, -1);
    op->cluster->stats.mma_count++;
    return true;
}

/* ---- issue ---- */

/* The one lane that issues; -1 after a fault. */
static int issuing_lane(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    if (!(mask & (mask - 1))) return __builtin_ctz(mask);
    emu_fault(w, in, -1, "one thread issues this; the lanes of mask 0x%08x do", mask);
    return -1;
}

static uint64_t order_of(const struct emu_warp *w, int lane)
{
    return 2 + (uint64_t)(uintptr_t)w + (uint64_t)lane;
}

/* The blocks of the pair, or the own one. */
static void take_blocks(struct emu_warp *w, int group, struct emu_cta *cta[2])
{
    struct emu_cta *own = w->cta;
    cta[0] = group == 2 ? &own->cluster->cta[own->rank & ~1u] : own;
    cta[1] = group == 2 ? cta[0] + 1 : own;
}

static bool both_groups(const struct emu_who *who, int group, struct emu_cta *cta[2])
{
    for (int c = 0; c < group; c++)
        if (!tmem_group(who, cta[c], group)) return false;
    return true;
}

static void set_places(struct smem_operand *o, enum kind k, enum num_type t)
{
    o->bits = kinds[k].bits;
    o->k = kinds[k].k;
    o->slots_of_16 = kinds[k].bits == 8 && num_bits(t) < 8;
    o->element_bits = num_bits(t);
}

static bool fill_product(struct product *p, const struct emu_who *who)
{
    struct emu_warp *w = who->w;
    const struct mma *x = p->x;
    uint32_t lane = (uint32_t)who->lane;
    if (!take_idesc(p, emu_row(w, x->idesc)[lane])) return false;
    set_places(&p->a, x->kind, p->a_type);
    set_places(&p->b, x->kind, p->b_type);
    p->d = (uint32_t)emu_addr_of(w, &x->d, lane);
    p->accumulate = emu_pred(w, x->enable, x->enable_neg) >> lane & 1;
    if (!address_ok(p, p->d, "D")) return false;
    if (x->a_in_tmem) {
        p->a_tmem = (uint32_t)emu_addr_of(w, &x->a, lane);
        if (!address_ok(p, p->a_tmem, "A")) return false;
        if (lanes_of(p, p->a_tmem) != lanes_of(p, p->d))
            return emu_fault_who(who, "A and D lie in different lanes of tensor memory");
    } else if (!take_descriptor(who, emu_row64(w, x->a_desc)[lane], &p->a)) {
        return false;
    }
    if (!take_descriptor(who, emu_row64(w, x->b_desc)[lane], &p->b)) return false;
    if (kinds[x->kind].scaled) {
        p->scale_a = (uint32_t)emu_addr_of(w, &x->scale_a, lane);
        p->scale_b = (uint32_t)emu_addr_of(w, &x->scale_b, lane);
        if ((p->scale_a | p->scale_b) >> 16) return emu_fault_who(who, "scales begin at lane 0 of tensor memory");
    }
    for (int i = 0; x->has_mask && i < 4 * x->group; i++) p->mask[i] = emu_row(w, x->mask[i])[lane];
    return begin_tmem(who, p);
}

static enum emu_next run_mma(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    int lane = issuing_lane(w, in, mask);
    const struct mma *x = in->x;
    const struct emu_who who = {w, in, lane, false};
    struct emu_cta *cta[2];
    if (lane < 0) return EMU_FAULT;
    take_blocks(w, x->group, cta);
    if (x->group == 2 && w->cta->cluster->size % 2)
        return emu_fault(w, in, lane, ".cta_group::2 in a cluster of %u blocks", w->cta->cluster->size);
    if (!both_groups(&who, x->group, cta)) return EMU_FAULT;
    struct emu_async *op = emu_async_new(&who, EMU_ASYNC_TCGEN05, sizeof(struct product));
    struct product *p = (struct product *)op->payload;
    p->issue = (struct tmem_issue){TMEM_MMA, w, in, emu_async_is_late(w->cta->cluster)};
    p->x = x;
    memcpy(p->cta, cta, sizeof cta);
    if (!fill_product(p, &who)) {
        free(op);
        return EMU_FAULT;
    }
    op->write = mma_effect;
    op->order = order_of(w, lane);
    return emu_async_issue(op) ? EMU_NEXT : EMU_FAULT;
}

/* ---- tcgen05.cp ---- */

enum copy_shape { CP_128x256b, CP_128x128b, CP_64x128b_02_13, CP_64x128b_01_23, CP_32x128b_x4, CP_SHAPES };
static const struct {
    const char *name, *copies;
    int rows, bytes;
    int8_t from[4]; /* by group of 32 lanes: the group of 32 rows that it gets */
} copies[CP_SHAPES] = {
    [CP_128x256b]      = {"128x256b", NULL, 128, 32, {0, 1, 2, 3}},
    [CP_128x128b]      = {"128x128b", NULL, 128, 16, {0, 1, 2, 3}},
    [CP_64x128b_02_13] = {"64x128b", "warpx2::02_13", 64, 16, {0, 1, 0, 1}},
    [CP_64x128b_01_23] = {"64x128b", "warpx2::01_23", 64, 16, {0, 0, 1, 1}},
    [CP_32x128b_x4]    = {"32x128b", "warpx4", 32, 16, {0, 0, 0, 0}},
};

struct copy {
    enum copy_shape shape;
    int group;
    struct emu_addr to;
    uint32_t desc;
};
struct copy_op {
    struct tmem_issue issue;
    const struct copy *x;
    struct emu_cta *cta[2];
    struct smem_operand from;
    struct tmem_region to;
};

static bool cp_effect(struct emu_async *a)
{
    const struct copy_op *op = (const struct copy_op *)a->payload;
    int bytes = copies[op->x->shape].bytes;
    uint32_t byte[128 * 32];
    for (int c = 0; c < op->x->group; c++) {
        struct tmem *t = tmem_of(op->cta[c]);
        if (!smem_operand_read(&a->who, op->cta[c], &op->from, false, byte)) return false;
        for (int lane = 0; lane < TMEM_LANES; lane++)
            for (int i = 0; i < bytes / 4; i++) {
                const uint32_t *b = byte + (32 * copies[op->x->shape].from[lane / 32] + lane % 32) * bytes + 4 * i;
                t->cell[lane][op->to.column + i] = b[0] | b[1] << 8 | b[2] << 16 | b[3] << 24;
            }
        if (op->issue.late) tmem_count(op->cta[c], &op->to, TMEM_WRITING, -1);
    }
    return true;
}

static bool fill_copy(struct copy_op *op, const struct emu_who *who)
{
    uint32_t to = (uint32_t)emu_addr_of(who->w, &op->x->to, (uint32_t)who->lane);
    op->from = (struct smem_operand){.mn = copies[op->x->shape].rows, .k = copies[op->x->shape].bytes, .bits = 8};
    op->to = (struct tmem_region){(int)(to & 0xFFFF), copies[op->x->shape].bytes / 4, 0xFF};
    if (to >> 16) return emu_fault_who(who, "tcgen05.cp to lane %u of tensor memory; it begins at lane 0", to >> 16);
    if (!take_descriptor(who, emu_row64(who->w, op->x->desc)[who->lane], &op->from)) return false;
    for (int c = 0; c < op->x->group; c++) {
        if (!tmem_allocated(who, op->cta[c], &op->to)) return false;
        if (tmem_busy(op->cta[c], &op->to, TMEM_LOADING) || tmem_busy(op->cta[c], &op->to, TMEM_STORING))
            return emu_fault_who(who, "tcgen05.cp overwrites columns on which a tcgen05.ld or tcgen05.st is in flight");
    }
    for (int c = 0; c < op->x->group && op->issue.late; c++) tmem_count(op->cta[c], &op->to, TMEM_WRITING, 1);
    return true;
}

static enum emu_next run_cp(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    int lane = issuing_lane(w, in, mask);
    const struct copy *x = in->x;
    const struct emu_who who = {w, in, lane, false};
    struct emu_cta *cta[2];
    if (lane < 0) return EMU_FAULT;
    take_blocks(w, x->group, cta);
    if (x->group == 2 && w->cta->cluster->size % 2)
        return emu_fault(w, in, lane, ".cta_group::2 in a cluster of %u blocks", w->cta->cluster->size);
    if (!both_groups(&who, x->group, cta)) return EMU_FAULT;
    struct emu_async *a = emu_async_new(&who, EMU_ASYNC_TCGEN05, sizeof(struct copy_op));
    struct copy_op *op = (struct copy_op *)a->payload;
    *op = (struct copy_op){.issue = {TMEM_CP, w, in, emu_async_is_late(w->cta->cluster)}, .x = x, .cta = {cta[0], cta[1]}};
    if (!fill_copy(op, &who)) {
        free(a);
        return EMU_FAULT;
    }
    a->write = cp_effect;
    a->order = order_of(w, lane);
    return emu_async_issue(a) ? EMU_NEXT : EMU_FAULT;
}

/* ---- tcgen05.commit ---- */

struct commit {
    struct emu_addr mbar;
    uint32_t mask; /* row of the multicast's mask */
    int group;
    bool multicast;
};
struct commit_op {
    struct tmem_issue issue;
    uint32_t blocks; /* bit i: the barrier of block i of the cluster */
};

static bool commit_effect(struct emu_async *a)
{
    const struct commit_op *op = (const struct commit_op *)a->payload;
    for (uint32_t i = 0; i < a->cluster->size; i++) {
        uint64_t token;
        if (op->blocks >> i & 1 && !emu_mbar_arrive(&a->who, &a->cluster->cta[i], a->mbar, 1, &token)) return false;
    }
    return true;
}

static enum emu_next run_commit(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    int lane = issuing_lane(w, in, mask);
    const struct commit *x = in->x;
    const struct emu_who who = {w, in, lane, false};
    struct emu_cta *cta;
    uint32_t offset;
    if (lane < 0 || !tmem_group(&who, w->cta, x->group)) return EMU_FAULT;
    uint32_t address = emu_shared_address(w, &x->mbar, (uint32_t)lane);
    if (!emu_smem_at(&who, EMU_SHARED_CLUSTER, address, 8, &cta, &offset)) return EMU_FAULT;
    struct emu_async *a = emu_async_new(&who, EMU_ASYNC_TCGEN05, sizeof(struct commit_op));
    struct commit_op *op = (struct commit_op *)a->payload;
    op->issue = (struct tmem_issue){TMEM_COMMIT, w, in, emu_async_is_late(w->cta->cluster)};
    op->blocks = x->multicast ? emu_row(w, x->mask)[lane] & 0xFFFF : 1u << cta->rank;
    a->mbar_cta = x->multicast && op->blocks
                      ? &w->cta->cluster->cta[__builtin_ctz(op->blocks) % (int)w->cta->cluster->size]
                      : cta;
    a->mbar = offset;
    a->write = commit_effect;
    a->order = order_of(w, lane);
    if (op->blocks >> w->cta->cluster->size) {
        emu_fault(w, in, lane, "multicast mask 0x%x in a cluster of %u blocks", op->blocks, w->cta->cluster->size);
        free(a);
        return EMU_FAULT;
    }
    return emu_async_issue(a) ? EMU_NEXT : EMU_FAULT;
}

/* ---- decoding ---- */

static bool decode_block(struct emu_decode *d, struct mma *x)
{
    static const char *const names[] = {"block32", "block16", "scale_vec::1X", "scale_vec::2X", "scale_vec::4X", NULL};
    if (!emu_mod(d, "block_scale")) return emu_bad(d, "'.block_scale' is wanted here");
    int i = emu_mod_one_of(d, names), k = kinds[x->kind].k;
    if (i < 0 && x->kind == KIND_MXF4NVF4) return emu_bad(d, "'.block16' or '.block32' is wanted here");
    if (i >= 2 && d->module->suffix != 'a')
        return emu_bad(d, "'.scale_vec' is available on exactly one chip's targets; '.block16' and '.block32' on all");
    x->block = i < 0 || i == 0 ? 32 : i == 1 ? 16 : k >> (i - 2);
    if (x->block != 32 && !(x->kind == KIND_MXF4NVF4 && x->block == 16))
        return emu_bad(d, "this kind has no such blocks of scales");
    return true;
}

/* Operands behind the instruction descriptor. */
static bool decode_rest(struct emu_decode *d, struct mma *x)
{
    int i = 4;
    if (kinds[x->kind].scaled) {
        if (!emu_mem(d, i, &x->scale_a) || !emu_mem(d, i + 1, &x->scale_b)) return false;
        i += 2;
    } else if (d->nop > i && d->op[i].kind == EMU_RAW_VEC) {
        x->has_mask = true;
        if (!emu_src_vec(d, i++, 4 * x->group, EMU_T_B32, &x->mask, NULL)) return false;
    }
    if (!emu_src_pred(d, i++, &x->enable, &x->enable_neg)) return false;
    if (d->nop <= i || kinds[x->kind].scaled) return true;
    if (x->kind != KIND_F16 && x->kind != KIND_TF32) return emu_bad(d, "D can be scaled with kinds f16 and tf32 alone");
    if (d->module->sm / 10 != 10) return emu_bad(d, "D can be scaled on sm_100 and sm_103 alone");
    if (!emu_imm(d, i, &x->scale_d)) return false;
    return (x->scale_d >= 0 && x->scale_d <= 15) || emu_bad(d, "D can be scaled by 2^-0 to 2^-15");
}

bool emu_decode_tcgen05_mma(struct emu_decode *d, struct emu_insn *in)
{
    static const char *const hints[] = {"collector::a::fill", "collector::a::use", "collector::a::lastuse",
                                        "collector::a::discard", NULL};
    struct mma *x = new(d->arena, struct mma);
    in->x = x;
    in->run = run_mma;
    const char *first = emu_mod_peek(d);
    if (first && (!strcmp(first, "ws") || !strcmp(first, "sp")))
        return emu_bad(d, "tcgen05.mma.%s is not emulated", first);
    if (!(x->group = tmem_take_group(d))) return false;
    int kind = emu_mod_one_of(d, kind_names);
    if (kind < 0) return emu_bad(d, "a kind is wanted here");
    x->kind = (enum kind)kind;
    if (x->kind == KIND_I8 && (d->module->suffix != 'a' || (d->module->sm != 100 && d->module->sm != 110)))
        return emu_bad(d, "kind::i8 is available on sm_100a and sm_110a alone");
    if (kinds[kind].scaled && !decode_block(d, x)) return false;
    emu_mod_one_of(d, hints);
    if (!emu_mem(d, 0, &x->d)) return false;
    x->a_in_tmem = d->nop > 1 && d->op[1].kind == EMU_RAW_MEM;
    if (x->a_in_tmem ? !emu_mem(d, 1, &x->a) : !emu_src(d, 1, EMU_T_B64, &x->a_desc)) return false;
    return emu_src(d, 2, EMU_T_B64, &x->b_desc) && emu_src(d, 3, EMU_T_B32, &x->idesc) && decode_rest(d, x);
}

bool emu_decode_tcgen05_cp(struct emu_decode *d, struct emu_insn *in)
{
    struct copy *x = new(d->arena, struct copy);
    in->x = x;
    in->run = run_cp;
    if (!(x->group = tmem_take_group(d))) return false;
    const char *shape = emu_mod_take(d), *times = emu_mod_peek(d);
    for (int i = 0; shape && i < CP_SHAPES; i++) {
        if (strcmp(copies[i].name, shape) || (copies[i].copies && (!times || strcmp(copies[i].copies, times))))
            continue;
        if (copies[i].copies) emu_mod_take(d);
        x->shape = (enum copy_shape)i;
        return emu_mem(d, 0, &x->to) && emu_src(d, 1, EMU_T_B64, &x->desc);
    }
    return emu_bad(d, "this shape of tcgen05.cp is not emulated");
}

bool emu_decode_tcgen05_commit(struct emu_decode *d, struct emu_insn *in)
{
    struct commit *x = new(d->arena, struct commit);
    in->x = x;
    in->run = run_commit;
    if (!(x->group = tmem_take_group(d))) return false;
    if (!emu_mod(d, "mbarrier::arrive::one")) return emu_bad(d, "'.mbarrier::arrive::one' is wanted here");
    emu_mod(d, "shared::cluster");
    x->multicast = emu_mod(d, "multicast::cluster");
    if (!emu_mod(d, "b64")) return emu_bad(d, "'.b64' is wanted here");
    return emu_mem(d, 0, &x->mbar) && (!x->multicast || emu_src(d, 1, EMU_T_B16, &x->mask));
}

bool emu_decode_tcgen05_shift(struct emu_decode *d, struct emu_insn *in)
{
    (void)in;
    return emu_bad(d, "tcgen05.shift is not emulated");
}
