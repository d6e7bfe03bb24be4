/* scales - which factors of an mma the tensor core applies itself: block-scaled products. */
#ifndef COMPILER_SCALES_H
#define COMPILER_SCALES_H

#include "compiler/passes.h"

enum { SCALE_BLOCK = 32, FINE_BLOCK = 16 }; /* coordinates of a contracted axis that share a scale: the least, of ue8m0 and of ue4m3 */
static inline int scale_block(enum type t) { return t == TY_ue4m3 ? FINE_BLOCK : SCALE_BLOCK; }

/* The ue8m0 (for fp4 also ue4m3) factor of an mma's first operand and of its second; NULL: that side has none. */
struct scales {
    struct ir_expr *first, *second;
};

/* Whether s multiplies 8- or 4-bit floats, has factors, and the tensor cores of t apply them all. A factor then may have
 * window axes of the contracted axes (k/32) beside axes of the result. */
bool scales_applied(const struct target *t, const struct ir_stmt *s, struct scales *out);
/* The axis that s sums over, where tensor cores would apply its factors, read from tensor memory, once they are brought there; else NULL. */
struct ir_axis *scales_stageable(const struct pass_state *p, const struct ir_stmt *s, struct scales *out);
/* The window axis of/div, made where there is none. */
struct ir_axis *scales_window(struct pass_state *p, struct ir_axis *of, int div);
/* Whether products on t take what e2m1 operands s has as they lie in memory, two a byte. */
bool scales_packed(const struct target *t, const struct ir_stmt *s);

#endif
