/* layout - which thread holds which element of a tile, as digits (extent : stride).
 *
 * A layout maps (register, lane, warp of the role) to coordinates, relative to the tile's origin, on its axes. Each of
 * the three numbers is written in mixed radix; each digit moves along one axis by `stride` per step, or along none
 * (axis -1: the element is replicated over that digit). Digits are listed fastest first within their number.
 * Example, accumulator of mma m16n8 over [i, j]:  reg: 2 of j:1, 2 of i:8;  lane: 4 of j:2, 8 of i:1.
 * Two layouts are interchangeable when all digits agree. The family is closed: what the constructors below make, and
 * projections of these. */
#ifndef CODEGEN_LAYOUT_H
#define CODEGEN_LAYOUT_H

#include "compiler/ir.h"

enum lay_place { LAY_REG, LAY_LANE, LAY_WARP };
struct lay_digit {
    uint8_t place;
    int8_t axis;      /* index into layout.axes, -1: replicated */
    int extent, stride;
};
#define LAY_DIGITS 32
struct layout {
    int naxes;
    struct ir_axis *axes[IR_RANK];
    int extent[IR_RANK];      /* coordinates covered on each axis; may exceed the axis' tile (then the excess is masked) */
    int n;
    struct lay_digit digit[LAY_DIGITS]; /* registers first, then lanes, then warps */
};

int layout_regs(const struct layout *l);   /* elements a thread holds */
int layout_warps(const struct layout *l);  /* product of warp digits' extents */
/* Coordinate on axis a (index into axes) that the register digits add for register r. */
int layout_reg_offset(const struct layout *l, int r, int a);
bool layout_equal(const struct layout *a, const struct layout *b);
/* Drops the axes not listed: register digits of a dropped axis vanish, lane and warp digits become replicated. */
struct layout *layout_project(struct arena *a, const struct layout *l, struct ir_axis *const *axes, int n);
/* For register r of `full`, the register of layout_project(full, axes) that holds the same element's projection. */
int layout_project_reg(const struct layout *full, const struct layout *proj, int r);
/* What several lanes hold alike is dealt out among them: factors of two of the register digits, fastest first, take the places of
 * lane digits that move along no axis. l itself where there is nothing to deal. */
const struct layout *layout_spread(struct arena *a, const struct layout *l);
bool layout_replicated(const struct layout *l);  /* some lane or warp digit moves along no axis */

/* Coalesced: consecutive lanes along `inner` (index into axes), each thread `vec` consecutive elements of it, then the
 * other axes, then warps; whatever does not fit in threads goes to registers. Extents are rounded up to powers of two in
 * lanes and warps; small tiles are replicated over warps and lanes. */
struct layout *layout_blocked(struct arena *a, struct ir_axis *const *axes, int n, int inner, int vec, int warps);
/* The same with `vec` consecutive elements along one axis in a thread and consecutive lanes along another: for copies that
 * turn a tile around. */
struct layout *layout_turned(struct arena *a, struct ir_axis *const *axes, int n, int vec_axis, int vec, int lane_axis, int warps);
/* Accumulator fragments: M flattened over m_axes (last fastest), N over n_axes. A warp's atom is 16 x 8 (mma D fragment).
 * mma.sync: warps wm x wn (M fastest), each warp m_atoms*16 rows (contiguous) and n_atoms*8 columns.
 * NULL when a digit does not split over the axes (extents not dividing). */
struct layout *layout_mma(struct arena *a, struct ir_axis *const *m_axes, int nm, struct ir_axis *const *n_axes, int nn,
                          int wm, int wn, int m_atoms, int n_atoms);
/* Block scales of mma.sync, of A (b: of B), over its side's axes and then granules along K: a scale for each of a warp's
 * `atoms` of 16 rows (8 columns), `per` (1, 2 for A; 1, 2, 4 for B) of them in the lanes of one register. Registers: granules, then
 * groups of `per` atoms. NULL as above. */
struct layout *layout_scales(struct arena *a, struct ir_axis *const *axes, int n, struct ir_axis *const *granules, int ng,
                             bool b, int wm, int wn, int atoms, int per);
/* wgmma D: warpgroup w holds rows of blocks of 64, its warps 16 rows each; m_blocks blocks of 64 per warpgroup,
 * `groups` warpgroups along M (block b of group w covers rows (b*groups + w)*64 ..), N columns. woven: of the last N axis, pairs
 * are outermost (weave.c). */
struct layout *layout_wgmma(struct arena *a, struct ir_axis *const *m_axes, int nm, struct ir_axis *const *n_axes, int nn,
                            bool woven, int groups, int m_blocks);
/* tcgen05.ld 32x32b: lane + 32*(warp%4) is the row, registers are columns. With 8 warps the second four take the second half
 * of the columns; or of each value of the outer axes, where half of all does not divide. layout_tmem_run: columns in a row
 * that one group of four takes. */
struct layout *layout_tmem(struct arena *a, struct ir_axis *const *m_axes, int nm, struct ir_axis *const *n_axes, int nn, int warps);
int layout_tmem_run(struct ir_axis *const *n_axes, int nn, int warps);

void layout_print(const struct layout *l, struct buf *out); /* "reg (2:j*1 2:i*8 ..) lane (..) warp (..)" */

#endif
