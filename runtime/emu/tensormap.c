/* tensormap - makes, checks and edits tensor maps. Rules: CUDA driver API, cuTensorMapEncodeTiled; PTX ISA, "Tensors".
 */
#include "runtime/emu/tensormap.h"

#include <stdio.h>

enum { MAGIC = 0x6D61704Du, BYTES = 128 };

int emu_map_bits(int t)
{
    static const uint8_t bits[EMU_MAP_TYPES] = {8, 16, 32, 32, 64, 64, 16, 32, 64, 16, 32, 32, 32, 4, 4, 6};
    return bits[t];
}

uint32_t emu_map_check(const struct emu_map *m)
{
    struct emu_map copy = *m;
    const uint8_t *p = (const uint8_t *)&copy;
    uint32_t h = 2166136261u;
    copy.check = 0;
    for (size_t i = 0; i < sizeof copy; i++)
        h = (h ^ p[i]) * 16777619u;
    return h;
}

/* ---- encoding ---- */

static bool refuse(struct emu *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(struct emu *e, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    emu_set_error(e, "tensor map refused: %s", text);
    return false;
}

static bool check_dimensions(struct emu *e, const struct emu_tensor_map *m)
{
    uint64_t unit = m->interleave == 2 || m->data_type >= EMU_MAP_U4_SPREAD ? 32 : 16;
    if (m->address % unit)
        return refuse(e, "address 0x%llx is not a multiple of %llu", (unsigned long long)m->address,
                      (unsigned long long)unit);
    for (int i = 0; i < m->rank; i++) {
        if (!m->dim[i] || m->dim[i] > (uint64_t)1 << 32)
            return refuse(e, "extent %llu of dimension %d; 1 to 2^32 are possible", (unsigned long long)m->dim[i], i);
        if (!m->box[i] || m->box[i] > 256)
            return refuse(e, "box extent %u of dimension %d; 1 to 256 are possible", m->box[i], i);
        if (!m->element_stride[i] || m->element_stride[i] > 8)
            return refuse(e, "element stride %u of dimension %d; 1 to 8 are possible", m->element_stride[i], i);
        if (i && (m->stride[i - 1] % unit || m->stride[i - 1] >= (uint64_t)1 << 40))
            return refuse(e, "stride %llu of dimension %d is no multiple of %llu below 2^40",
                          (unsigned long long)m->stride[i - 1], i, (unsigned long long)unit);
    }
    return true;
}

static bool check_box(struct emu *e, const struct emu_tensor_map *m)
{
    static const int spans[] = {0, 32, 64, 128, 128, 128, 128};
    int bytes = m->data_type >= EMU_MAP_U4_SPREAD ? (int)m->box[0] : (int)m->box[0] * emu_map_bits(m->data_type) / 8;
    if (m->interleave == 0 && bytes % 16)
        return refuse(e, "a box row of %d bytes is no multiple of 16", bytes);
    if (m->interleave == 0 && spans[m->swizzle] && bytes > spans[m->swizzle])
        return refuse(e, "a box row of %d bytes is wider than the swizzle's %d", bytes, spans[m->swizzle]);
    if (m->swizzle > 3 && e->config.chip < EMU_SM100)
        return refuse(e, "swizzle mode %d is not available on this chip", m->swizzle);
    if (m->data_type == EMU_MAP_U4 && m->dim[0] % 2)
        return refuse(e, "packed 4-bit elements need an even innermost extent");
    if (m->data_type >= EMU_MAP_U4_SPREAD && (m->dim[0] % 128 || m->box[0] != 128))
        return refuse(
            e, "16-byte slots of packed elements need an innermost extent that is a multiple of 128 and a box of 128");
    return true;
}

bool emu_encode_tensor_map(struct emu *e, void *out128, const struct emu_tensor_map *m)
{
    e->error.n = 0;
    if (e->config.chip < EMU_SM90)
        return refuse(e, "this chip has no tensor maps");
    if (m->rank < 1 || m->rank > 5 || (m->interleave && m->rank < 3))
        return refuse(e, "rank %d", m->rank);
    if (m->data_type < 0 || m->data_type >= EMU_MAP_TYPES || m->interleave < 0 || m->interleave > 2 || m->swizzle < 0 ||
        m->swizzle > 6 || m->oob_fill < 0 || m->oob_fill > 1 || m->l2_promotion < 0 || m->l2_promotion > 3)
        return refuse(e, "type %d, interleave %d, swizzle %d, promotion %d, fill %d: out of range", m->data_type,
                      m->interleave, m->swizzle, m->l2_promotion, m->oob_fill);
    if (m->interleave)
        return refuse(e, "interleaved layouts are not emulated");
    if (m->oob_fill && (m->data_type < 6 || m->data_type >= EMU_MAP_U4))
        return refuse(e, "NaN fill is only possible for floating types");
    if (!check_dimensions(e, m) || !check_box(e, m))
        return false;
    struct emu_map r = {.magic = MAGIC,
                        .address = m->address,
                        .rank = (uint8_t)m->rank,
                        .data_type = (uint8_t)m->data_type,
                        .interleave = (uint8_t)m->interleave,
                        .swizzle = (uint8_t)m->swizzle,
                        .fill = (uint8_t)m->oob_fill};
    for (int i = 0; i < 5; i++) {
        r.dim[i] = i < m->rank ? (uint32_t)(m->dim[i] - 1) : 0;
        r.box[i] = i < m->rank ? (uint16_t)m->box[i] : 1;
        r.element_stride[i] = i < m->rank ? (uint8_t)m->element_stride[i] : 1;
        if (i < 4)
            r.stride[i] = i + 1 < m->rank ? m->stride[i] : 0;
    }
    r.check = emu_map_check(&r);
    memset(out128, 0, BYTES);
    memcpy(out128, &r, sizeof r);
    return true;
}

/* ---- maps that kernels edit ----
 *
 * The tensormap proxy sees an edit only behind a fence: release by who made it (cp_fenceproxy is one), acquire of the address by who
 * uses it. PTX ISA, "membar / fence", proxy.tensormap. Any thread of the block may have acquired it; the last EMU_MAPS are remembered. */

static void stamp(const struct emu_warp *w, struct emu_map *m)
{
    const struct emu_cluster *k = w->cta->cluster;
    m->made = (k->stats.warp_steps + 1) << 24 | ((k->id * k->size + w->cta->rank) & 0xFFFFFF);
    m->check = emu_map_check(m);
}

static bool acquired(const struct emu_cta *c, uint64_t address, uint64_t made)
{
    for (uint32_t i = 0; i < EMU_MAPS && i < c->n_maps; i++)
        if (c->maps[i].address == address && c->maps[i].made == made)
            return true;
    return false;
}

enum emu_next emu_run_map_acquire(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    FOR_LANES(l, mask) {
        struct emu_cta *c = w->cta;
        struct emu_map m;
        uint64_t a = emu_addr_of(w, in->x, l);
        if (!emu_mem_load(EMU_WHO(w, in, l), EMU_GENERIC, a, &m, sizeof m))
            return EMU_FAULT;
        if (acquired(c, a, m.made))
            continue;
        c->maps[c->n_maps % EMU_MAPS].address = a;
        c->maps[c->n_maps++ % EMU_MAPS].made = m.made;
    }
    return EMU_NEXT;
}

bool emu_map_read(const struct emu_who *who, uint64_t address, struct emu_map *m)
{
    if (address % 64)
        return emu_fault_who(who, "tensor map at 0x%llx, which is no multiple of 64", (unsigned long long)address);
    if (!emu_mem_load(who, EMU_GENERIC, address, m, sizeof *m))
        return false;
    if (m->magic != MAGIC || m->check != emu_map_check(m))
        return emu_fault_who(who, "there is no tensor map at 0x%llx", (unsigned long long)address);
    if (m->made && emu_checked(who->w->cta->cluster) && !acquired(who->w->cta, address, m->made))
        return emu_fault_who(who, "the tensor map at 0x%llx was edited by a kernel; no fence.proxy.tensormap::generic.acquire followed",
                             (unsigned long long)address);
    return true;
}

/* Faults where a copy on its way may yet look at the map that is to be written. */
static bool idle(const struct emu_who *who, uint64_t address)
{
    if (!emu_checked(who->w->cta->cluster) || !emu_map_busy(who->w->cta->cluster, address))
        return true;
    return emu_fault_who(who, "the tensor map at 0x%llx is written while a copy that goes by it is on its way", (unsigned long long)address);
}

/* ---- tensormap.replace ---- */

enum field {
    R_ADDRESS,
    R_RANK,
    R_BOX,
    R_DIM,
    R_STRIDE,
    R_ELEMENT_STRIDE,
    R_TYPE,
    R_INTERLEAVE,
    R_SWIZZLE,
    R_ATOMICITY,
    R_FILL
};
static const char *const field_names[] = {
    "global_address", "rank",     "box_dim",           "global_dim",   "global_stride",
    "element_stride", "elemtype", "interleave_layout", "swizzle_mode", "swizzle_atomicity",
    "fill_mode",      NULL};
struct replace_insn {
    enum field field;
    enum emu_space space;
    struct emu_addr at;
    int64_t dim;
};

/* The instruction numbers element types in its own order. */
static uint8_t type_of(uint64_t v)
{
    static const uint8_t t[EMU_MAP_TYPES] = {0, 1, 2, 3, 4, 5, 6, 7, 10, 8, 9, 11, 12, 13, 14, 15};
    return t[v & 15];
}

static void replace(const struct replace_insn *x, struct emu_map *m, uint64_t v)
{
    int d = (int)x->dim;
    switch (x->field) {
    case R_ADDRESS: m->address = v; break;
    case R_RANK: m->rank = (uint8_t)(v + 1); break;
    case R_BOX: m->box[d] = (uint16_t)v; break;
    case R_DIM: m->dim[d] = (uint32_t)v - 1; break;
    case R_STRIDE: m->stride[d & 3] = v; break;
    case R_ELEMENT_STRIDE: m->element_stride[d] = (uint8_t)v; break;
    case R_TYPE: m->data_type = type_of(v); break;
    case R_INTERLEAVE: m->interleave = (uint8_t)v; break;
    case R_SWIZZLE: m->swizzle = (uint8_t)(v & 3); break;
    case R_ATOMICITY: m->swizzle = v ? (uint8_t)(3 + (v & 3)) : 3; break;
    case R_FILL: m->fill = (uint8_t)v; break;
    }
}

static enum emu_next run_replace(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct replace_insn *x = in->x;
    FOR_LANES(l, mask) {
        const struct emu_who *who = EMU_WHO(w, in, l);
        struct emu_map m;
        uint64_t a = emu_addr_of(w, &x->at, l);
        if (a % 64 || !emu_mem_load(who, x->space, a, &m, sizeof m))
            return a % 64 ? emu_fault(w, in, (int)l, "tensor map at 0x%llx, which is no multiple of 64",
                                      (unsigned long long)a)
                          : EMU_FAULT;
        if (m.magic != MAGIC || m.check != emu_map_check(&m))
            return emu_fault(w, in, (int)l, "there is no tensor map at 0x%llx", (unsigned long long)a);
        replace(x, &m, x->field == R_ADDRESS || x->field == R_STRIDE ? emu_row64(w, in->b)[l] : emu_row(w, in->b)[l]);
        m.check = emu_map_check(&m);
        bool shared = x->space == EMU_SHARED_CTA;
        if (!shared)
            stamp(w, &m);
        if ((!shared && !idle(who, a)) || !emu_mem_store(who, x->space, a, &m, sizeof m))
            return EMU_FAULT;
    }
    return EMU_NEXT;
}

bool emu_decode_tensormap_replace(struct emu_decode *d, struct emu_insn *in)
{
    struct replace_insn *x = new(d->arena, struct replace_insn);
    if (!emu_mod(d, "tile"))
        return emu_bad(d, ".tile is wanted");
    int f = emu_mod_one_of(d, field_names);
    x->field = (enum field)f;
    x->space = emu_mod(d, "global") ? EMU_GLOBAL : emu_mod(d, "shared::cta") ? EMU_SHARED_CTA : EMU_GENERIC;
    bool wide = f == R_ADDRESS || f == R_STRIDE, has_dim = f >= R_BOX && f <= R_ELEMENT_STRIDE;
    if (f < 0 || !emu_mod(d, "b1024") || !emu_mod(d, wide ? "b64" : "b32"))
        return emu_bad(d, "no such field and type");
    in->x = x;
    in->run = run_replace;
    if (!emu_mem(d, 0, &x->at) || (has_dim && !emu_imm(d, 1, &x->dim)))
        return false;
    if (x->dim < 0 || x->dim > 4)
        return emu_bad(d, "dimension %lld", (long long)x->dim);
    int at = has_dim ? 2 : 1;
    uint64_t v = emu_is_imm(d, at) ? d->op[at].bits : 0;
    if (f == R_SWIZZLE && v > 3)
        return emu_bad(d, "the swizzle of 96 bytes is not emulated");
    if ((f == R_ATOMICITY || (f == R_TYPE && v > 12)) && !emu_need(d, EMU_NEED_BLACK, "this value"))
        return false;
    return emu_src(d, at, wide ? EMU_T_B64 : EMU_T_B32, &in->b);
}

/* tensormap.cp_fenceproxy: the warp copies 128 bytes from shared to global memory. */
static enum emu_next run_copy(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct emu_addr *a = in->x;
    uint32_t l = (uint32_t)__builtin_ctz(mask);
    uint8_t bytes[BYTES];
    struct emu_map m;
    const struct emu_who *who = EMU_WHO(w, in, l);
    uint64_t to = emu_addr_of(w, &a[0], l);
    if (!emu_mem_load(who, EMU_SHARED_CTA, emu_addr_of(w, &a[1], l), bytes, BYTES) || !idle(who, to))
        return EMU_FAULT;
    memcpy(&m, bytes, sizeof m);
    if (m.magic == MAGIC && m.check == emu_map_check(&m)) {
        stamp(w, &m);
        memcpy(bytes, &m, sizeof m);
    }
    return emu_mem_store(who, EMU_GLOBAL, to, bytes, BYTES) ? EMU_NEXT : EMU_FAULT;
}

bool emu_decode_tensormap_copy(struct emu_decode *d, struct emu_insn *in)
{
    static const char *const mods[] = {"global", "shared::cta", "tensormap::generic", "release"};
    static const char *const scopes[] = {"cta", "cluster", "gpu", "sys", NULL};
    struct emu_addr *a = new_n(d->arena, struct emu_addr, 2);
    int64_t n;
    for (int i = 0; i < COUNT(mods); i++)
        if (!emu_mod(d, mods[i]))
            return emu_bad(d, ".%s is wanted", mods[i]);
    emu_mod_one_of(d, scopes);
    if (!emu_mod(d, "sync") || !emu_mod(d, "aligned"))
        return emu_bad(d, ".sync.aligned is wanted");
    in->aligned = true;
    in->x = a;
    in->run = run_copy;
    return emu_mem(d, 0, &a[0]) && emu_mem(d, 1, &a[1]) && emu_imm(d, 2, &n) &&
           (n == BYTES || emu_bad(d, "128 bytes are copied"));
}
