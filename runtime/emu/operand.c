/* operand - matrices in shared memory as wgmma and tcgen05.mma read them: descriptor, major, swizzle.
 *
 * Where element (mn, k) lies before the swizzle permutes 16-byte chunks (PTX ISA, "Strides" and "Canonical layouts";
 * S is the swizzle's span of 32, 64 or 128 bytes, e the bytes of an element):
 *   K-major, swizzled    (mn/8)*SBO + (mn%8)*S + k*e
 *   K-major, plain       (mn/8)*SBO + (mn%8)*16 + (k*e/16)*LBO + k*e%16
 *   MN-major, swizzled   (mn*e/S)*LBO + mn*e%S + (k%8)*S + (k/8)*SBO
 *   MN-major, plain      (mn*e/16)*SBO + mn*e%16 + (k%8)*16 + (k/8)*LBO
 *   MN-major, 32-byte atoms: the swizzled one with groups of 4 k */
#include "runtime/emu/tensor.h"

static const struct { uint32_t span, mask, shift; } swizzles[] = {
    [SWIZZLE_NONE] = {16, 0, 4}, [SWIZZLE_32] = {32, 1, 4}, [SWIZZLE_64] = {64, 3, 4}, [SWIZZLE_128] = {128, 7, 4}, [SWIZZLE_128_ATOM_32] = {128, 3, 5},
};

uint32_t smem_swizzle(enum swizzle s, uint32_t base, uint32_t address)
{
    return address ^ ((((address >> 7) - base) & swizzles[s].mask) << swizzles[s].shift);
}

/* Address of the 16-byte chunk that begins with byte `mn_byte` of a line of mn, or `k_byte` of a row of k. */
static uint32_t chunk_k_major(const struct smem_operand *o, uint32_t mn, uint32_t k_byte)
{
    uint32_t span = swizzles[o->swizzle].span;
    uint32_t a = o->start + mn / 8 * o->sbo + mn % 8 * span + (o->swizzle ? k_byte : k_byte / 16 * o->lbo);
    return smem_swizzle(o->swizzle, o->base, a);
}

static uint32_t chunk_mn_major(const struct smem_operand *o, uint32_t mn_byte, uint32_t k)
{
    uint32_t span = swizzles[o->swizzle].span, rows = o->swizzle == SWIZZLE_128_ATOM_32 ? 4 : 8;
    uint32_t panel = o->swizzle ? o->lbo : o->sbo, group = o->swizzle ? o->sbo : o->lbo;
    uint32_t a = o->start + mn_byte / span * panel + mn_byte % span + k % rows * span + k / rows * group;
    return smem_swizzle(o->swizzle, o->base, a);
}

/* Elements of one chunk, a word each; how many there are. */
static int spread_chunk(const struct smem_operand *o, const uint8_t *chunk, uint32_t *out)
{
    if (o->slots_of_16) {
        for (int i = 0; i < 16; i++) {
            int bit = i * o->element_bits, word = chunk[bit / 8] | chunk[bit / 8 + 1] << 8;
            out[i] = (uint32_t)word >> bit % 8 & ((1u << o->element_bits) - 1);
        }
        return 16;
    }
    switch (o->bits) {
    case 4:
        for (int i = 0; i < 32; i++) out[i] = chunk[i / 2] >> 4 * (i % 2) & 15;
        return 32;
    case 8:
        for (int i = 0; i < 16; i++) out[i] = chunk[i];
        return 16;
    case 16:
        for (int i = 0; i < 8; i++) out[i] = (uint32_t)(chunk[2 * i] | chunk[2 * i + 1] << 8);
        return 8;
    default:
        memcpy(out, chunk, 16);
        return 4;
    }
}

bool smem_operand_read(const struct emu_who *who, struct emu_cta *cta, const struct smem_operand *o, bool columns,
                       uint32_t *out)
{
    int per_chunk = 128 / o->bits, lines = o->mn_major ? o->k : o->mn,
        chunks = (o->mn_major ? o->mn : o->k) / per_chunk;
    int rest = (o->mn_major ? o->mn : o->k) % per_chunk; /* N = 8 of 8-bit columns is half a chunk */
    for (int line = 0; line < lines; line++)
        for (int c = 0; c < chunks + (rest != 0); c++) {
            uint32_t byte = 16 * (uint32_t)c, word[32];
            uint8_t chunk[17] = {0};
            uint32_t at =
                o->mn_major ? chunk_mn_major(o, byte, (uint32_t)line) : chunk_k_major(o, (uint32_t)line, byte);
            if (!emu_smem_read(who, cta, at & 0x3FFFF, chunk, c < chunks ? 16 : (uint32_t)(rest * o->bits / 8)))
                return false;
            spread_chunk(o, chunk, word);
            int first = c * per_chunk, n = c < chunks ? per_chunk : rest;
            for (int i = 0; i < n; i++) {
                int mn = o->mn_major ? first + i : line, k = o->mn_major ? line : first + i;
                out[columns ? (mn / 8 * o->k + k) * 8 + mn % 8 : mn * o->k + k] = word[i];
            }
        }
    return true;
}
