/* matrix - ldmatrix, stmatrix and movmatrix (PTX ISA, "Warp-level matrix load/store/transpose instructions").
 *
 * Rows of 16 bytes in shared memory, addresses from the lanes in turn. Lane l = 4g + q of a fragment holds bytes 4q .. 4q+3
 * of row g; `trans` gives it the same bytes of the transposed matrix. */
#include "runtime/emu/tensor.h"

/* ---- modifiers that all tensor-core instructions share ---- */

static const struct { const char *name; enum num_type type; } type_names[] = {
    {"f16", NUM_f16}, {"bf16", NUM_bf16}, {"tf32", NUM_tf32}, {"f32", NUM_f32}, {"e4m3", NUM_e4m3}, {"e5m2", NUM_e5m2},
    {"e2m3", NUM_e2m3}, {"e3m2", NUM_e3m2}, {"e2m1", NUM_e2m1}, {"ue8m0", NUM_ue8m0}, {"ue4m3", NUM_ue4m3}, {"s4", NUM_s4},
    {"u4", NUM_u4}, {"s8", NUM_s8}, {"u8", NUM_u8}, {"s32", NUM_s32},
};

bool tensor_type(struct emu_decode *d, enum num_type *t)
{
    const char *name = emu_mod_peek(d);
    for (int i = 0; name && i < COUNT(type_names); i++)
        if (!strcmp(name, type_names[i].name)) {
            *t = type_names[i].type;
            emu_mod_take(d);
            return true;
        }
    return false;
}

static bool number_after(const char **s, char letter, int *n)
{
    if (**s != letter || (*s)[1] < '0' || (*s)[1] > '9') return false;
    *n = 0;
    for (++*s; **s >= '0' && **s <= '9' && *n < 10000; ++*s) *n = *n * 10 + (**s - '0');
    return true;
}

bool tensor_shape(struct emu_decode *d, int *m, int *n, int *k)
{
    const char *s = emu_mod_peek(d);
    if (!s || !number_after(&s, 'm', m) || !number_after(&s, 'n', n) || !number_after(&s, 'k', k) || *s) return false;
    emu_mod_take(d);
    return true;
}

bool tensor_sync_aligned(struct emu_decode *d)
{
    return (emu_mod(d, "sync") && emu_mod(d, "aligned")) || emu_bad(d, "'.sync.aligned' is wanted here");
}

bool tensor_whole_warp(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    if (mask == ~0u) return true;
    emu_fault(w, in, -1, "all 32 lanes of the warp must execute this together; only those of mask 0x%08x do", mask);
    return false;
}

/* ---- the three instructions ---- */

enum pack { PACK_NONE, PACK_4, PACK_6 }; /* 16 elements of 4 or 6 bits at the front of a 16-byte row */
struct matrix_move {
    struct emu_addr address;
    int count, rows; /* matrices; rows of each, with an address of their own */
    bool trans, bytes;
    enum pack pack;
    const uint32_t *reg;
};

typedef uint8_t row16[16];

/* The lanes' rows: `n` addresses, one a lane from lane 0 up. */
static bool row_addresses(struct emu_warp *w, const struct emu_insn *in, const struct matrix_move *x, int n,
                          struct emu_cta **cta, uint32_t *at)
{
    for (int i = 0; i < n; i++) {
        const struct emu_who who = {w, in, i, false};
        uint32_t address = emu_shared_address(w, &x->address, (uint32_t)i);
        if (!emu_smem_at(&who, EMU_SHARED_CTA, address, 16, cta, &at[i])) return false;
    }
    return true;
}

/* Eight rows at a time go through the banks: the more of them share a group of four banks, the longer it takes. */
static void count_banks(struct emu_warp *w, const uint32_t *at, int n)
{
    struct emu_stats *s = &w->cta->cluster->stats;
    for (int i = 0; i < n; i += 8) {
        int load[8] = {0}, most = 0;
        for (int j = i; j < i + 8 && j < n; j++) {
            int *l = &load[at[j] >> 4 & 7];
            if (++*l > most) most = *l;
        }
        s->bank_requests++;
        s->bank_wavefronts += (uint64_t)most;
    }
}

/* A row as it is loaded: narrow elements are spread to one a byte. */
static void unpack(enum pack p, row16 row)
{
    row16 packed;
    if (p == PACK_NONE) return;
    memcpy(packed, row, 16);
    int bits = p == PACK_4 ? 4 : 6;
    for (int i = 0; i < 16; i++) {
        int bit = i * bits, word = packed[bit / 8] | packed[bit / 8 + 1] << 8;
        row[i] = (uint8_t)(word >> bit % 8 & ((1 << bits) - 1));
    }
}

/* The word that a lane gets of one 8-row matrix. */
static uint32_t piece_of_8x8(row16 *m, bool trans, int g, int q)
{
    uint32_t v;
    if (!trans) {
        memcpy(&v, m[g] + 4 * q, 4);
        return v;
    }
    return (uint32_t)(m[2 * q][2 * g] | m[2 * q][2 * g + 1] << 8 | m[2 * q + 1][2 * g] << 16) |
           (uint32_t)m[2 * q + 1][2 * g + 1] << 24;
}

/* Four bytes of column c of a matrix of 16 rows: the transposed matrix's row. */
static uint32_t column_piece(row16 *m, int c, int q)
{
    return (uint32_t)(m[4 * q][c] | m[4 * q + 1][c] << 8 | m[4 * q + 2][c] << 16) | (uint32_t)m[4 * q + 3][c] << 24;
}

static enum emu_next run_ldmatrix(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct matrix_move *x = in->x;
    int n = x->count * x->rows;
    uint32_t at[32];
    row16 row[32];
    struct emu_cta *cta;
    if (!tensor_whole_warp(w, in, mask) || !row_addresses(w, in, x, n, &cta, at)) return EMU_FAULT;
    for (int i = 0; i < n; i++) {
        if (!emu_smem_read(EMU_WHO(w, in, i), cta, at[i], row[i], 16)) return EMU_FAULT;
        unpack(x->pack, row[i]);
    }
    count_banks(w, at, n);
    for (int j = 0; j < x->count; j++)
        for (int l = 0; l < 32; l++) {
            int g = l / 4, q = l % 4;
            if (x->rows == 8) {
                emu_row(w, x->reg[j])[l] = piece_of_8x8(row + 8 * j, x->trans, g, q);
            } else {
                emu_row(w, x->reg[2 * j])[l] = column_piece(row + 16 * j, g, q);
                emu_row(w, x->reg[2 * j + 1])[l] = column_piece(row + 16 * j, g + 8, q);
            }
        }
    return EMU_NEXT;
}

/* Where a lane's word of matrix j goes: the reverse of loading. Byte matrices are 16 x 8, stored by columns. */
static void put_piece(row16 *m, const struct matrix_move *x, int g, int q, uint32_t v)
{
    if (x->bytes) {
        for (int b = 0; b < 4; b++) m[2 * q + b % 2][g + 8 * (b / 2)] = (uint8_t)(v >> 8 * b);
    } else if (!x->trans) {
        memcpy(m[g] + 4 * q, &v, 4);
    } else {
        memcpy(m[2 * q] + 2 * g, &v, 2);
        v >>= 16;
        memcpy(m[2 * q + 1] + 2 * g, &v, 2);
    }
}

static enum emu_next run_stmatrix(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct matrix_move *x = in->x;
    int n = x->count * 8;
    uint32_t at[32];
    row16 row[32];
    struct emu_cta *cta;
    if (!tensor_whole_warp(w, in, mask) || !row_addresses(w, in, x, n, &cta, at)) return EMU_FAULT;
    for (int j = 0; j < x->count; j++)
        for (int l = 0; l < 32; l++) put_piece(row + 8 * j, x, l / 4, l % 4, emu_row(w, x->reg[j])[l]);
    count_banks(w, at, n);
    for (int i = 0; i < n; i++)
        if (!emu_smem_write(EMU_WHO(w, in, i), cta, at[i], row[i], 16)) return EMU_FAULT;
    return EMU_NEXT;
}

static enum emu_next run_movmatrix(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    row16 m[8];
    if (!tensor_whole_warp(w, in, mask)) return EMU_FAULT;
    for (int l = 0; l < 32; l++) memcpy(m[l / 4] + 4 * (l % 4), &emu_row(w, in->a)[l], 4);
    for (int l = 0; l < 32; l++) emu_row(w, in->d)[l] = piece_of_8x8(m, true, l / 4, l % 4);
    return EMU_NEXT;
}

/* ---- decoding ---- */

static bool count_modifier(struct emu_decode *d, int *count)
{
    static const char *const names[] = {"x1", "x2", "x4", NULL};
    int i = emu_mod_one_of(d, names);
    *count = i < 0 ? 0 : 1 << i;
    return i >= 0 || emu_bad(d, "'.x1', '.x2' or '.x4' is wanted here");
}

static bool shared_space(struct emu_decode *d)
{
    static const char *const names[] = {"shared", "shared::cta", NULL};
    emu_mod_one_of(d, names);
    return true;
}

/* The element type and what it needs; the packed source of unpacking loads. */
static bool element(struct emu_decode *d, struct matrix_move *x)
{
    if (emu_mod(d, "b16")) return true;
    x->bytes = true;
    if (!emu_need(d, EMU_NEED_BLACK, "an 8-bit matrix")) return false;
    if (emu_mod(d, "b8")) return true;
    if (emu_mod(d, "b8x16")) {
        x->pack = emu_mod(d, "b4x16_p64") ? PACK_4 : emu_mod(d, "b6x16_p32") ? PACK_6 : PACK_NONE;
        if (x->pack) return true;
    }
    return emu_bad(d, "unknown element type");
}

bool emu_decode_ldmatrix(struct emu_decode *d, struct emu_insn *in)
{
    struct matrix_move *x = new(d->arena, struct matrix_move);
    static const char *const shapes[] = {"m8n8", "m8n16", "m16n16", NULL};
    if (!tensor_sync_aligned(d)) return false;
    int shape = emu_mod_one_of(d, shapes);
    if (shape < 0) return emu_bad(d, "'.m8n8', '.m8n16' or '.m16n16' is wanted here");
    if (!count_modifier(d, &x->count)) return false;
    x->trans = emu_mod(d, "trans");
    if (!shared_space(d) || !element(d, x)) return false;
    if (shape == 0 && x->bytes) return emu_bad(d, "m8n8 goes with .b16");
    if (shape == 1 && (!x->pack || x->trans)) return emu_bad(d, "m8n16 goes with .b8x16 and without .trans");
    if (shape == 2 && (!x->bytes || !x->trans || x->count == 4))
        return emu_bad(d, "m16n16 goes with .x1 or .x2, .trans and 8 bits");
    x->rows = shape == 2 ? 16 : 8;
    in->x = x;
    in->aligned = true;
    in->run = run_ldmatrix;
    return emu_dst_vec(d, 0, x->count * (shape == 2 ? 2 : 1), 32, &x->reg, NULL) && emu_mem(d, 1, &x->address);
}

bool emu_decode_stmatrix(struct emu_decode *d, struct emu_insn *in)
{
    struct matrix_move *x = new(d->arena, struct matrix_move);
    static const char *const shapes[] = {"m8n8", "m16n8", NULL};
    if (!tensor_sync_aligned(d)) return false;
    int shape = emu_mod_one_of(d, shapes);
    if (shape < 0) return emu_bad(d, "'.m8n8' or '.m16n8' is wanted here");
    if (!count_modifier(d, &x->count)) return false;
    x->trans = emu_mod(d, "trans");
    if (!shared_space(d) || !element(d, x)) return false;
    if (x->pack || (shape == 1) != x->bytes || (x->bytes && !x->trans))
        return emu_bad(d, "m8n8 goes with .b16, m16n8 with .trans and .b8");
    x->rows = 8;
    in->x = x;
    in->aligned = true;
    in->run = run_stmatrix;
    return emu_mem(d, 0, &x->address) && emu_src_vec(d, 1, x->count, EMU_T_B32, &x->reg, NULL);
}

bool emu_decode_movmatrix(struct emu_decode *d, struct emu_insn *in)
{
    if (!tensor_sync_aligned(d)) return false;
    if (!emu_mod(d, "m8n8") || !emu_mod(d, "trans") || !emu_mod(d, "b16"))
        return emu_bad(d, "'.m8n8.trans.b16' is wanted here");
    in->aligned = true;
    in->run = run_movmatrix;
    return emu_dst(d, 0, 32, &in->d) && emu_src(d, 1, EMU_T_B32, &in->a);
}
