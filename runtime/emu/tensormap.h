/* tensormap - our own record in the 128 bytes of a tensor map. Between tensormap.c and tma.c. */
#ifndef EMU_TENSORMAP_H
#define EMU_TENSORMAP_H

#include "runtime/emu/core.h"

/* The real layout is not public; kernels only copy the bytes and edit them with tensormap.replace. dim holds extent - 1. */
struct emu_map {
    uint32_t magic, check;
    uint64_t address, stride[4];
    uint32_t dim[5];
    uint16_t box[5];
    uint8_t element_stride[5], rank, data_type, interleave, swizzle, fill;
    uint64_t made; /* edited by a kernel in global memory: when and by which block; 0: not */
};
uint32_t emu_map_check(const struct emu_map *m);
/* The map at a generic address, checked: one that a kernel edited must have been acquired by a thread of the block since. */
bool emu_map_read(const struct emu_who *who, uint64_t address, struct emu_map *m);
/* fence.proxy.tensormap::generic.acquire of the address. */
enum emu_next emu_run_map_acquire(struct emu_warp *w, const struct emu_insn *in, uint32_t mask);
/* A copy of the cluster that is not done goes by the map at this address (tma.c). */
bool emu_map_busy(const struct emu_cluster *k, uint64_t address);

enum { EMU_MAP_TYPES = 16, EMU_MAP_U4 = 13, EMU_MAP_U4_SPREAD = 14, EMU_MAP_U6_SPREAD = 15 };
/* Bits of an element in global memory. */
int emu_map_bits(int data_type);

#endif
