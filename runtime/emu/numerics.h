/* numerics - what the hardware computes, to the bit: conversions, approximate functions, tensor-core dot products.
 *
 * Everything here works on bits in integers and keeps no state; all of it assumes that the host's rounding mode is to
 * nearest even. Files: convert.c (num_cvt*), approx.c (num_ex2 .. num_div_full), fdpa.c (num_mma). */
#ifndef EMU_NUMERICS_H
#define EMU_NUMERICS_H

#include "runtime/emu/emu.h"

/* ---- element types ---- */

enum num_type {
    NUM_f16, NUM_bf16, NUM_tf32, NUM_f32, NUM_f64, NUM_e4m3, NUM_e5m2, NUM_e2m3, NUM_e3m2, NUM_e2m1, NUM_ue8m0,
    NUM_ue4m3, NUM_s4, NUM_u4, NUM_s8, NUM_u8, NUM_s16, NUM_u16, NUM_s32, NUM_u32, NUM_s64, NUM_u64, NUM_TYPES
};

/* A floating format: fraction bits `frac` below exponent bits `exp`; a tf32 lies 13 bits up in its word (`low`).
 * `top`: largest finite magnitude; `inf`: its infinity, 0 where it has none; `nan`: its canonical NaN, 0 for none. */
struct num_format {
    int8_t bits, exp, frac, low;
    int16_t bias;
    uint64_t top, inf, nan;
};
extern const struct num_format num_formats[NUM_TYPES];
int num_bits(enum num_type t); /* width in a packed register: tf32 32, e2m1 4, e2m3 6 ... */
bool num_is_float(enum num_type t);
bool num_is_signed(enum num_type t); /* of an integer type */

/* ---- cvt ---- */

enum num_round { NUM_RN, NUM_RZ, NUM_RM, NUM_RP, NUM_RNA };
enum num_cvt_flags {
    NUM_FTZ = 1,       /* f32 subnormals, argument and result, become zeros */
    NUM_SAT = 2,       /* to a float: clamp to [0, 1], NaN to 0; to an integer: clamp (done in any case from floats) */
    NUM_SATFINITE = 4, /* beyond the largest finite, infinities too: the largest */
    NUM_RELU = 8,      /* negative results become +0, NaN the canonical NaN */
    NUM_INTEGRAL = 16, /* float to float of the same type: round to an integral value (.rni .rzi .rmi .rpi) */
};
/* One element. Integer arguments are read from their low bits, results come zero extended (s8: sign extended to 32
 * bits, as cvt leaves them in a wider register). Conversions into fp8, fp6 and fp4 saturate whether asked or not, as
 * PTX demands. PTX ISA "cvt". */
uint64_t num_cvt(enum num_type to, enum num_type from, enum num_round r, int flags, uint64_t bits);

static inline float num_float(uint32_t b) { union { uint32_t u; float f; } x = {b}; return x.f; }
static inline uint32_t num_float_bits(float f) { union { float f; uint32_t u; } x = {f}; return x.u; }
static inline double num_double(uint64_t b) { union { uint64_t u; double f; } x = {b}; return x.f; }
static inline uint64_t num_double_bits(double f) { union { double f; uint64_t u; } x = {f}; return x.u; }

/* Fast forms of what kernels do all the time; equal to num_cvt. */
uint32_t num_f32_of_f16(uint32_t h);                            /* NaN becomes canonical */
static inline uint32_t num_f32_of_bf16(uint32_t h) { return h << 16; } /* keeps a NaN's payload */
uint32_t num_f16_of_f32(uint32_t x);                            /* nearest even */
uint32_t num_bf16_of_f32(uint32_t x);                           /* nearest even */

/* ---- approximate functions, f32 bits in and out: sm_90's tables ---- */

uint32_t num_ex2(uint32_t x, bool ftz);
uint32_t num_lg2(uint32_t x, bool ftz);
uint32_t num_rcp(uint32_t x, bool ftz);
uint32_t num_rsqrt(uint32_t x, bool ftz);
uint32_t num_sqrt(uint32_t x, bool ftz);
uint32_t num_tanh(uint32_t x);
uint32_t num_sin(uint32_t x);
uint32_t num_cos(uint32_t x);
uint32_t num_div_approx(uint32_t x, uint32_t y, bool ftz);
uint32_t num_div_full(uint32_t x, uint32_t y, bool ftz);
/* 16-bit forms: ex2.approx.f16, ex2.approx.ftz.bf16, tanh.approx.f16, tanh.approx.bf16 */
uint32_t num_ex2_f16(uint32_t h);
uint32_t num_ex2_bf16(uint32_t h);
uint32_t num_tanh_f16(uint32_t h);
uint32_t num_tanh_bf16(uint32_t h);

/* ---- tensor cores ---- */

enum num_unit { NUM_MMA = 1, NUM_WGMMA = 2, NUM_TCGEN05 = 4 };

/* One matrix product D = C + A*B as one instruction computes it.
 *   a        [m][k] element bits, one a word     b     [n/8][k][8] element bits: eight columns side by side
 *   scale_a  [m][k/block] bytes, or NULL         scale_b  [n][k/block]
 *   cd       [m][ld] f32, s32 or (low half) f16 bits: C on entry, D on return; ld >= n
 * n is a multiple of 8. negate: products count negatively. fp4 operands come as plain nibbles, fp6 in the low 6 bits.
 * False where the chip has no such instruction. */
struct num_mma {
    enum emu_chip chip;
    enum num_unit unit;
    enum num_type a_type, b_type, d_type; /* d_type: NUM_f32, NUM_f16, NUM_s32 */
    enum num_type scale_type;             /* NUM_ue8m0 or NUM_ue4m3 */
    int m, n, k, ld, block;
    bool negate, saturate, exact_groups;  /* exact_groups: the mxf4 and mxf4nvf4 kinds */
    const uint32_t *a, *b;
    const uint8_t *scale_a, *scale_b;
    uint32_t *cd;
};
enum { NUM_MAX_M = 128, NUM_MAX_N = 256, NUM_MAX_K = 96 };
bool num_mma(const struct num_mma *job);

#endif
