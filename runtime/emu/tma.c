/* tma - tensor copies: a box of a tensor of rank 1 to 5 between global memory and swizzled shared memory.
 *
 * PTX ISA, "cp.async.bulk.tensor", "Tensors". What hardware traps on is a fault here: an innermost coordinate that is
 * no multiple of 16 bytes, a shared address that is none of 128, a store at a negative coordinate. */
#include "runtime/emu/copy.h"
#include "runtime/emu/tensormap.h"

enum tma_kind { TMA_LOAD, TMA_STORE, TMA_REDUCE };
struct tma_insn {
    enum tma_kind kind;
    struct emu_copy_mods mods; /* to: the shared side, also of stores */
    enum emu_atom_op op;
    bool rows4;                /* gather4, scatter4 */
    int rank;
    struct emu_addr map;
    uint32_t coord[5];
};
struct tma_op {
    const struct tma_insn *x;
    uint64_t map_at;
    struct emu_map map;
    struct emu_receivers r;
    int32_t coord[5];
    uint32_t rows, row_bytes, pitch; /* in shared memory */
    uint8_t data[];
};

/* ---- shapes ---- */

/* Elements really moved along dimension i. */
static uint32_t extent(const struct tma_op *t, int i)
{
    const struct emu_map *m = &t->map;
    if (t->x->rows4 && i)
        return i == 1 ? 4 : 1;
    return i == 0 ? m->box[0] : (m->box[i] + m->element_stride[i] - 1u) / m->element_stride[i];
}

static bool shape(const struct emu_who *who, struct tma_op *t)
{
    static const uint32_t spans[] = {0, 32, 64, 128, 128, 128, 128};
    const struct emu_map *m = &t->map;
    if (m->rank != t->x->rank)
        return emu_fault_who(who, "the tensor map has rank %d, the instruction %d", m->rank, t->x->rank);
    t->rows = 1;
    for (int i = 1; i < m->rank; i++)
        t->rows *= extent(t, i);
    t->row_bytes = m->data_type >= EMU_MAP_U4_SPREAD ? m->box[0] : m->box[0] * (uint32_t)emu_map_bits(m->data_type) / 8;
    t->pitch = spans[m->swizzle] ? spans[m->swizzle] : t->row_bytes;
    if (t->row_bytes > t->pitch || t->row_bytes % 16)
        return emu_fault_who(who, "a box row of %u bytes under a swizzle of %u", t->row_bytes, t->pitch);
    int64_t first = (int64_t)t->coord[0] * emu_map_bits(m->data_type);
    if (floor_mod(first, m->data_type >= EMU_MAP_U4_SPREAD ? 128 * emu_map_bits(m->data_type) : 128))
        return emu_fault_who(who, "innermost coordinate %d is no multiple of 16 bytes", t->coord[0]);
    for (int i = 0; i < m->rank && t->x->kind != TMA_LOAD; i++)
        if (t->coord[i] < 0)
            return emu_fault_who(who, "a tensor store at a negative coordinate, %d of dimension %d", t->coord[i], i);
    return true;
}

/* Where byte `at` of the tile lies: address bits are permuted in units of 16 or 32 bytes. */
static uint32_t swizzled(int mode, uint32_t a)
{
    switch (mode) {
    case 1: return a ^ (a >> 7 & 1) << 4;
    case 2: return a ^ (a >> 7 & 3) << 4;
    case 3: return a ^ (a >> 7 & 7) << 4;
    case 4: return a ^ (a >> 7 & 3) << 5;
    case 5: return (a ^ (a >> 7 & 3) << 5) ^ (a >> 7 & 1) << 3;
    case 6: return a ^ (a >> 7 & 1) << 6;
    default: return a;
    }
}

/* Coordinates of row r; false when it lies outside the tensor. *address: of element 0 of that row of the tensor. */
static bool row_place(const struct tma_op *t, uint32_t r, uint64_t *address)
{
    const struct emu_map *m = &t->map;
    *address = m->address;
    if (t->x->rows4) {
        int64_t c = t->coord[1 + r];
        *address += (uint64_t)c * m->stride[0];
        return c >= 0 && c <= (int64_t)m->dim[1];
    }
    for (int i = 1; i < m->rank; i++) {
        uint32_t n = extent(t, i);
        int64_t c = (int64_t)t->coord[i] + (int64_t)(r % n) * m->element_stride[i];
        if (c < 0 || c > (int64_t)m->dim[i])
            return false;
        *address += (uint64_t)c * m->stride[i - 1];
        r /= n;
    }
    return true;
}

/* ---- shared memory ---- */

enum side { SIDE_READ, SIDE_WRITE, SIDE_POISON };

/* Moves the dense tile in t->data from or to the swizzled one, 16 bytes (8 where halves are swapped) at a time. */
static bool shared_side(const struct emu_who *who, struct tma_op *t, struct emu_cta *cta, enum side side)
{
    uint32_t unit = t->map.swizzle == 5 ? 8 : t->map.swizzle ? 16 : t->row_bytes;
    for (uint32_t r = 0; r < t->rows; r++)
        for (uint32_t j = 0; j < t->row_bytes; j += unit) {
            uint32_t at = swizzled(t->map.swizzle, t->r.offset + r * t->pitch + j);
            size_t k = (size_t)r * t->row_bytes + j;
            if (!(side == SIDE_READ    ? emu_smem_read(who, cta, at, t->data + k, unit)
                  : side == SIDE_WRITE ? emu_smem_write(who, cta, at, t->data + k, unit)
                                       : emu_smem_poison(who, cta, at, unit)))
                return false;
        }
    return true;
}

/* ---- loads ---- */

static void fill(const struct tma_op *t, uint8_t *p, size_t n)
{
    static const uint8_t nan[2] = {0xF7, 0x7F};
    for (size_t i = 0; i < n; i++)
        p[i] = t->map.fill ? nan[i & 1] : 0;
}

/* Packed elements spread over slots of 16 bytes: 8 or 12 bytes of data each. */
static bool load_spread(struct emu_async *op, struct tma_op *t, uint64_t address, uint8_t *p)
{
    uint32_t slot = t->map.data_type == EMU_MAP_U4_SPREAD ? 8 : 12;
    address += (uint64_t)(int64_t)t->coord[0] / 16 * slot;
    for (uint32_t i = 0; i < t->map.box[0]; i += 16) {
        memset(p + i, 0, 16);
        if ((int64_t)t->coord[0] + i <= (int64_t)t->map.dim[0] && t->coord[0] >= 0 &&
            !emu_gmem_read(&op->who, address + i / 16 * slot, p + i, slot))
            return false;
    }
    return true;
}

static bool load_row(struct emu_async *op, struct tma_op *t, uint32_t r)
{
    int bits = emu_map_bits(t->map.data_type);
    uint8_t *p = t->data + (size_t)r * t->row_bytes;
    uint64_t address;
    fill(t, p, t->row_bytes);
    if (!row_place(t, r, &address))
        return true;
    if (t->map.data_type >= EMU_MAP_U4_SPREAD)
        return load_spread(op, t, address, p);
    int64_t lo = t->coord[0], hi = lo + t->map.box[0], end = (int64_t)t->map.dim[0] + 1;
    int64_t from = lo < 0 ? 0 : lo, to = hi < end ? hi : end;
    if (from >= to)
        return true;
    return emu_gmem_read(&op->who, address + (uint64_t)(from * bits / 8), p + (from - lo) * bits / 8,
                         (uint32_t)((to - from) * bits / 8));
}

static bool tma_load_read(struct emu_async *op)
{
    struct tma_op *t = (struct tma_op *)op->payload;
    for (uint32_t r = 0; r < t->rows; r++)
        if (!load_row(op, t, r))
            return false;
    if (t->map.data_type == 11 || t->map.data_type == 12) /* tf32: rounded on the way */
        for (size_t i = 0; i < (size_t)t->rows * t->row_bytes; i += 4) {
            uint32_t v;
            memcpy(&v, t->data + i, 4);
            v = (uint32_t)num_cvt(NUM_tf32, NUM_f32, NUM_RN, 0, v);
            memcpy(t->data + i, &v, 4);
        }
    return true;
}

static bool tma_load_write(struct emu_async *op)
{
    struct tma_op *t = (struct tma_op *)op->payload;
    struct emu_cluster *k = op->cluster;
    for (uint32_t i = 0; i < k->size; i++)
        if ((t->r.ctas >> i & 1) && !shared_side(&op->who, t, &k->cta[i], SIDE_WRITE))
            return false;
    k->stats.tma_bytes += (uint64_t)t->rows * t->row_bytes;
    return emu_signal(&op->who, &t->r, (int64_t)t->rows * t->row_bytes);
}

/* ---- stores and reductions ---- */

static bool tma_store_read(struct emu_async *op)
{
    struct tma_op *t = (struct tma_op *)op->payload;
    return shared_side(&op->who, t, op->who.w->cta, SIDE_READ);
}

static enum emu_type reduce_type(int data_type)
{
    static const enum emu_type t[EMU_MAP_TYPES] = {
        [2] = EMU_T_U32, [3] = EMU_T_S32, [4] = EMU_T_U64,  [5] = EMU_T_S64,
        [6] = EMU_T_F16, [7] = EMU_T_F32, [9] = EMU_T_BF16, [10] = EMU_T_F32};
    return t[data_type];
}

static bool reduce_row(struct emu_async *op, struct tma_op *t, uint64_t address, const uint8_t *p, uint32_t n)
{
    struct emu_atom a = {.op = t->x->op, .elem = reduce_type(t->map.data_type), .ftz = t->map.data_type == 10};
    if (a.op >= ATOM_AND)
        a.elem = emu_types[a.elem].bits == 64 ? EMU_T_B64 : EMU_T_B32;
    if (a.elem == EMU_T_NONE || !emu_atom_allowed(a.op, a.elem))
        return emu_fault_who(&op->who, "the tensor's element type has no such reduction");
    uint32_t size = (uint32_t)emu_types[a.elem].bits / 8;
    uint8_t *g = emu_mem_at(&op->who, EMU_GLOBAL, address, n, 16, EMU_READ | EMU_WRITE | EMU_UNCHECKED);
    for (uint32_t i = 0; g && i < n; i += size) {
        uint64_t v = 0;
        memcpy(&v, p + i, size);
        emu_atom_element(&a, g + i, v, 0);
    }
    return g != NULL;
}

/* Rows are cut in units of 16 bytes: some of the row's padding may be written, as hardware does, but not beyond the
 * allocation. */
static bool store_row(struct emu_async *op, struct tma_op *t, uint32_t r)
{
    int bits = emu_map_bits(t->map.data_type);
    const uint8_t *p = t->data + (size_t)r * t->row_bytes;
    uint64_t address;
    if (!row_place(t, r, &address))
        return true;
    int64_t lo = (int64_t)t->coord[0] * bits / 8, end = (((int64_t)t->map.dim[0] + 1) * bits + 7) / 8;
    if (lo >= end)
        return true;
    int64_t n = end - lo < t->row_bytes ? (end - lo + 15) / 16 * 16 : t->row_bytes;
    struct emu_block *b = emu_find_block(op->cluster->grid->emu, address + (uint64_t)lo);
    if (b && address + (uint64_t)(lo + n) > b->address + b->bytes && address + (uint64_t)end <= b->address + b->bytes)
        n = end - lo;
    if (t->x->kind == TMA_REDUCE)
        return reduce_row(op, t, address + (uint64_t)lo, p, (uint32_t)n);
    return emu_gmem_write(&op->who, address + (uint64_t)lo, p, (uint32_t)n);
}

static bool tma_store_write(struct emu_async *op)
{
    struct tma_op *t = (struct tma_op *)op->payload;
    op->cluster->stats.tma_bytes += (uint64_t)t->rows * t->row_bytes;
    if (t->map.data_type == EMU_MAP_U4_SPREAD || t->map.data_type == EMU_MAP_U6_SPREAD)
        return emu_fault_who(&op->who, "stores of spread packed elements are not emulated");
    for (uint32_t r = 0; r < t->rows; r++)
        if (!store_row(op, t, r))
            return false;
    return true;
}

/* ---- issue ---- */

static bool store_source(struct emu_warp *w, const struct emu_insn *in, uint32_t l, const struct tma_insn *x,
                         struct emu_receivers *r)
{
    struct emu_cta *cta;
    uint64_t a = emu_addr_of(w, &x->mods.to, l);
    a = a >= EMU_SHARED_WINDOW ? a - EMU_SHARED_WINDOW : a;
    return emu_smem_at(EMU_WHO(w, in, l), EMU_SHARED_CTA, (uint32_t)a, 1, &cta, &r->offset);
}

static bool poison(const struct emu_who *who, struct tma_op *t)
{
    struct emu_cluster *k = who->w->cta->cluster;
    for (uint32_t i = 0; i < k->size; i++)
        if ((t->r.ctas >> i & 1) && !shared_side(who, t, &k->cta[i], SIDE_POISON))
            return false;
    return true;
}

bool emu_map_busy(const struct emu_cluster *k, uint64_t address)
{
    for (const struct emu_async *op = k->head; op; op = op->next)
        if ((op->write == tma_load_write || op->write == tma_store_write) && ((const struct tma_op *)op->payload)->map_at == address)
            return true;
    return false;
}

static bool tma_lane(struct emu_warp *w, const struct emu_insn *in, uint32_t l)
{
    const struct tma_insn *x = in->x;
    const struct emu_who *who = EMU_WHO(w, in, l);
    struct tma_op t = {.x = x, .map_at = emu_addr_of(w, &x->map, l)};
    if (!emu_map_read(who, t.map_at, &t.map))
        return false;
    for (int i = 0; i < (x->rows4 ? 5 : x->rank); i++)
        t.coord[i] = (int32_t)emu_row(w, x->coord[i])[l];
    if (!(x->kind == TMA_LOAD ? emu_receivers(w, in, l, &x->mods, &t.r) : store_source(w, in, l, x, &t.r)) ||
        !shape(who, &t))
        return false;
    if (t.r.offset % 128)
        return emu_fault_who(who, "misaligned: the tile's shared address 0x%x is not a multiple of 128", t.r.offset);
    if (x->kind == TMA_LOAD && emu_async_is_late(w->cta->cluster) && !poison(who, &t))
        return false;
    size_t bytes = sizeof t + (size_t)t.rows * t.row_bytes;
    struct emu_async *op = emu_async_new(who, x->kind == TMA_LOAD ? EMU_ASYNC_BULK_LOAD : EMU_ASYNC_BULK_STORE, bytes);
    memcpy(op->payload, &t, sizeof t);
    op->read = x->kind == TMA_LOAD ? tma_load_read : tma_store_read;
    op->write = x->kind == TMA_LOAD ? tma_load_write : tma_store_write;
    op->lanes = 1u << l;
    op->group = w->bulk_groups[l];
    if (x->kind == TMA_LOAD) {
        op->ctas = t.r.ctas;
        op->mbar_cta = &w->cta->cluster->cta[__builtin_ctz(t.r.ctas)];
        op->mbar = t.r.mbar;
    }
    return emu_async_issue(op);
}

static enum emu_next run_tma(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    FOR_LANES(l, mask)
        if (!tma_lane(w, in, l))
            return EMU_FAULT;
    return EMU_NEXT;
}

/* ---- decoding ---- */

/* [map, {coordinates}] */
static bool map_operand(struct emu_decode *d, int i, struct tma_insn *x)
{
    struct emu_raw *r = emu_operand(d, i);
    int want = x->rows4 ? 5 : x->rank;
    if (!r || r->kind != EMU_RAW_MEM || r->n != 1 || r->elem[0].kind != EMU_RAW_VEC)
        return r && emu_bad(d, "[map, {coordinates}] is wanted");
    if (r->elem[0].n != want)
        return emu_bad(d, "%d coordinates where %d are wanted", r->elem[0].n, want);
    for (int k = 0; k < want; k++)
        if (!emu_raw_src(d, &r->elem[0].elem[k], EMU_T_S32, &x->coord[k]))
            return false;
    return emu_raw_mem(d, r, &x->map);
}

static bool rank_mod(struct emu_decode *d, struct tma_insn *x)
{
    static const char *const ranks[] = {"1d", "2d", "3d", "4d", "5d", NULL};
    x->rank = emu_mod_one_of(d, ranks) + 1;
    return x->rank || emu_bad(d, "a rank, .1d to .5d, is wanted");
}

static bool mode_mod(struct emu_decode *d, struct tma_insn *x, bool own)
{
    static const char *const im2col[] = {"im2col", "im2col_no_offs", "im2col::w", "im2col::w::128", NULL};
    if (emu_mod_one_of(d, im2col) >= 0)
        return emu_bad(d, "im2col is not emulated");
    if (emu_mod(d, x->kind == TMA_LOAD ? "tile::gather4" : "tile::scatter4")) {
        x->rows4 = true;
        if (x->rank != 2)
            return emu_bad(d, "four rows are moved in .2d tensors");
        return emu_need(d, own && x->kind == TMA_LOAD ? EMU_NEED_100 : EMU_NEED_TC5, "gather4 and scatter4");
    }
    emu_mod(d, "tile");
    return true;
}

static bool decode_load(struct emu_decode *d, struct emu_insn *in, struct tma_insn *x, bool own)
{
    bool policy, two;
    int at = 3;
    uint32_t row;
    x->mods.to_space = own ? EMU_SHARED_CTA : EMU_SHARED_CLUSTER;
    in->run = run_tma;
    if (!emu_mod(d, "global") || !mode_mod(d, x, own) || !emu_mod(d, "mbarrier::complete_tx::bytes"))
        return emu_bad(d, ".global and .mbarrier::complete_tx::bytes are wanted");
    x->mods.multicast = !own && emu_mod(d, "multicast::cluster");
    two = !own && emu_mod(d, "cta_group::2");
    if ((two || (!own && emu_mod(d, "cta_group::1"))) && !emu_need(d, EMU_NEED_TC5, ".cta_group"))
        return false;
    x->mods.pair = two;
    policy = emu_mod(d, "L2::cache_hint");
    if (!emu_mem(d, 0, &x->mods.to) || !map_operand(d, 1, x) || !emu_mem(d, 2, &x->mods.mbar))
        return false;
    if (x->mods.multicast && !emu_src(d, at++, EMU_T_B16, &x->mods.mask))
        return false;
    return !policy || emu_src(d, at, EMU_T_B64, &row);
}

static bool decode_store(struct emu_decode *d, struct emu_insn *in, struct tma_insn *x)
{
    static const char *const ops[] = {"add", "min", "max", "inc", "dec", "and", "or", "xor", NULL};
    uint32_t row;
    in->run = run_tma;
    if (!emu_mod(d, "shared::cta"))
        return emu_bad(d, ".shared::cta is wanted");
    if (x->kind == TMA_REDUCE) {
        int op = emu_mod_one_of(d, ops);
        if (op < 0)
            return emu_bad(d, "a reduction is wanted");
        x->op = (enum emu_atom_op)op;
    }
    if (!mode_mod(d, x, false) || !emu_mod(d, "bulk_group"))
        return emu_bad(d, ".bulk_group is wanted");
    bool policy = emu_mod(d, "L2::cache_hint");
    return map_operand(d, 0, x) && emu_mem(d, 1, &x->mods.to) && (!policy || emu_src(d, 2, EMU_T_B64, &row));
}

bool emu_decode_tma(struct emu_decode *d, struct emu_insn *in)
{
    struct tma_insn *x = new(d->arena, struct tma_insn);
    in->x = x;
    if (!rank_mod(d, x))
        return false;
    if (emu_mod(d, "global")) {
        x->kind = TMA_STORE;
        return decode_store(d, in, x);
    }
    bool cluster = emu_mod(d, "shared::cluster");
    if (!cluster && !emu_mod(d, "shared::cta"))
        return emu_bad(d, "a destination's state space is wanted");
    return decode_load(d, in, x, !cluster);
}

bool emu_decode_tma_reduce(struct emu_decode *d, struct emu_insn *in)
{
    struct tma_insn *x = new(d->arena, struct tma_insn);
    x->kind = TMA_REDUCE;
    in->x = x;
    return rank_mod(d, x) && (emu_mod(d, "global") || emu_bad(d, ".global is wanted")) && decode_store(d, in, x);
}

/* A prefetch only has its map looked at. */
static enum emu_next run_prefetch(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct tma_insn *x = in->x;
    struct emu_map m;
    FOR_LANES(l, mask)
        if (!emu_map_read(EMU_WHO(w, in, l), emu_addr_of(w, &x->map, l), &m))
            return EMU_FAULT;
    return EMU_NEXT;
}

bool emu_decode_tma_prefetch(struct emu_decode *d, struct emu_insn *in)
{
    struct tma_insn *x = new(d->arena, struct tma_insn);
    uint32_t row;
    in->x = x;
    in->run = run_prefetch;
    if (!rank_mod(d, x) || !emu_mod(d, "L2") || !emu_mod(d, "global") || !mode_mod(d, x, true))
        return emu_bad(d, ".L2.global is wanted");
    bool policy = emu_mod(d, "L2::cache_hint");
    return map_operand(d, 0, x) && (!policy || emu_src(d, 1, EMU_T_B64, &row));
}
