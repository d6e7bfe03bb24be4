/* A matrix of mn x k elements as shared memory holds it for wgmma and tcgen05, built as TMA would: dense tiles whose
 * 16-byte chunks are then permuted. Written from the canonical layouts of the PTX manual, apart from the emulator's code. */
#ifndef TESTS_EMU_IMAGE_H
#define TESTS_EMU_IMAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct image {
    int mn, k, bits;   /* elements; bits of one */
    bool mn_major;
    int span;          /* 16: no swizzle; 32, 64, 128 */
    bool atom_32;      /* 128-byte rows of 32-byte atoms */
    uint32_t lbo, sbo, bytes; /* made by image_plan */
};

static inline void image_plan(struct image *i)
{
    uint32_t rows = i->atom_32 ? 4 : 8, line = (uint32_t)(i->mn_major ? i->mn : i->k) * (uint32_t)i->bits / 8,
             other = (uint32_t)(i->mn_major ? i->k : i->mn);
    uint32_t span = (uint32_t)i->span, panels = (line + span - 1) / span, panel = other * span;
    i->bytes = (panels * panel + 1023) & ~1023u;
    if (!i->mn_major) {
        i->lbo = span == 16 ? panel : 16;
        i->sbo = 8 * span;
    } else if (span == 16) {
        i->lbo = 128;
        i->sbo = panel;
    } else {
        i->lbo = panel;
        i->sbo = rows * span;
    }
}

/* Byte offset and bit of element (mn, k). */
static inline uint32_t image_at(const struct image *i, int mn, int k, int *bit)
{
    uint32_t span = (uint32_t)i->span, inner = (uint32_t)(i->mn_major ? mn : k) * (uint32_t)i->bits,
             outer = (uint32_t)(i->mn_major ? k : mn);
    uint32_t byte = inner / 8, rows = (uint32_t)(i->mn_major ? i->k : i->mn),
             at = byte / span * rows * span + outer * span + byte % span;
    *bit = (int)(inner % 8);
    if (i->atom_32) return at ^ (at >> 7 & 3) << 5;
    return at ^ (at >> 7 & (span / 16 - 1)) << 4;
}

static inline void image_put(const struct image *i, uint8_t *data, int mn, int k, uint32_t v)
{
    int bit;
    uint32_t at = image_at(i, mn, k, &bit);
    for (int b = 0; b < i->bits; b += 8) {
        if (i->bits < 8) data[at] |= (uint8_t)(v << bit);
        else data[at + (uint32_t)b / 8] = (uint8_t)(v >> b);
    }
}

/* Where the descriptor starts for the 32 bytes of k that begin with element k. */
static inline uint32_t image_step(const struct image *i, int k)
{
    uint32_t byte = (uint32_t)k * (uint32_t)i->bits / 8, span = (uint32_t)i->span;
    if (i->mn_major) return span == 16 ? (uint32_t)k / 8 * i->lbo : (uint32_t)k * span;
    return span == 16 ? byte / 16 * i->lbo : byte / span * (uint32_t)i->mn * span + byte % span;
}

#endif
