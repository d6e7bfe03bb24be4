/* copy - what bulk and tensor copies share: who receives data and signals. Between copy.c and tma.c. */
#ifndef EMU_COPY_H
#define EMU_COPY_H

#include "runtime/emu/atom.h"

struct emu_copy_mods {
    struct emu_addr to, mbar;
    enum emu_space to_space;
    bool multicast, pair; /* pair: .cta_group::2 */
    uint32_t mask;        /* row */
};
/* Data go to `offset` of each block of the bit mask, a signal to `mbar` of the same blocks. flip: 1 the peer's barrier,
 * 2 or 3 the even or odd block's of each pair. */
struct emu_receivers {
    uint32_t ctas, offset, mbar, flip;
};
bool emu_receivers(struct emu_warp *w, const struct emu_insn *in, uint32_t lane, const struct emu_copy_mods *x,
                   struct emu_receivers *r);
bool emu_signal(const struct emu_who *who, const struct emu_receivers *r, int64_t bytes);
/* .OP[.noftz].TYPE of a reduction */
bool emu_mod_reduction(struct emu_decode *d, struct emu_atom *a);

#endif
