/* atom - what a reduction does to one element; for atom.c, copy.c and tma.c. */
#ifndef EMU_ATOM_H
#define EMU_ATOM_H

#include "runtime/emu/core.h"

enum emu_atom_op { ATOM_ADD, ATOM_MIN, ATOM_MAX, ATOM_INC, ATOM_DEC, ATOM_AND, ATOM_OR, ATOM_XOR, ATOM_EXCH, ATOM_CAS };
struct emu_atom {
    enum emu_atom_op op;
    enum emu_type elem;
    bool ftz; /* f32 add flushes subnormals: atom and red on global memory */
};
/* a: in memory; b, c: operands. Bits, zero-extended. */
uint64_t emu_atom_apply(const struct emu_atom *x, uint64_t a, uint64_t b, uint64_t c);
/* Changes the element at p (aligned to its size, 2 to 8 bytes) and returns what was there. */
uint64_t emu_atom_element(const struct emu_atom *x, uint8_t *p, uint64_t b, uint64_t c);
bool emu_atom_allowed(enum emu_atom_op op, enum emu_type elem);

#endif
