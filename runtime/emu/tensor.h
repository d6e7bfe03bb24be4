/* tensor - what the tensor-core handlers share: names of element types, matrices in shared memory by descriptor. */
#ifndef EMU_TENSOR_H
#define EMU_TENSOR_H

#include "runtime/emu/core.h"

/* The next modifier as an element type of a tensor core; false when it is none (nothing is taken then). */
bool tensor_type(struct emu_decode *d, enum num_type *t);
/* Shapes such as m16n8k32: all three numbers, or false without taking anything. */
bool tensor_shape(struct emu_decode *d, int *m, int *n, int *k);
/* Takes "sync" "aligned"; an error otherwise. */
bool tensor_sync_aligned(struct emu_decode *d);
/* Every lane of the warp must be here. False after a fault. */
bool tensor_whole_warp(struct emu_warp *w, const struct emu_insn *in, uint32_t mask);

/* One operand of wgmma or tcgen05.mma, mn rows (columns of B) by 32 bytes of k, named by a 64-bit descriptor (PTX ISA,
 * "Shared memory descriptor"). */
enum swizzle { SWIZZLE_NONE, SWIZZLE_32, SWIZZLE_64, SWIZZLE_128, SWIZZLE_128_ATOM_32 };
struct smem_operand {
    uint32_t start, lbo, sbo, base;
    enum swizzle swizzle;
    bool mn_major;
    int mn, k;      /* elements */
    int bits;       /* of an element as it lies in memory: 4 (two a byte), 8, 16, 32 */
    bool slots_of_16; /* fp4 and fp6 in 16-byte slots of 16 elements */
    int element_bits; /* in such a slot: 4 or 6 */
};
/* Reads all elements, a word each: out[mn * k_elements + k], or for `columns` out[((mn / 8) * k_elements + k) * 8 + mn % 8]. */
bool smem_operand_read(const struct emu_who *who, struct emu_cta *cta, const struct smem_operand *o, bool columns,
                       uint32_t *out);
/* The address that the hardware reads: the permutation of the operand's swizzle, on the absolute address. */
uint32_t smem_swizzle(enum swizzle s, uint32_t base, uint32_t address);

#endif
