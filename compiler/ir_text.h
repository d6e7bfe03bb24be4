/* ir_text - what the printer and the parser of the tile IR agree on. Private to the two.
 *
 * The text is a list of declarations, then the task prologue and the roles:
 *
 *   kernel gemm for sm_90a;
 *   dim M; dim K multiple 8; dim N = 4096;
 *   tensor in bf16 A[$M, $K] ("M", "K") inner 1 of 3; tensor in f32 S[$M, $K] inner 1 of 2 align 4;
 *   axis i tile 128 align 128; axis 'j/128' of j div 128 tile 2; axis x from 0 to $M;
 *   var f32 c[i, j] accum slots 2 flip; shared i32 hist[2048]; pipe ab depth 4; pipe x scales; field bf16 ab.a[i, k];
 *   task { bind i at unit * 128 to $M; body; }
 *   role math warps 4x2 { consume ab { mma c += ab.a[@i, @k], ab.b[@j, @k]; } }
 *
 * $M is a dimension, @i the coordinate tile of an axis, pipe.field[...] a slot, `e :: type` a type that the operands do
 * not give. Names that are no identifiers, or are words of this text, stand in quotes; a second entity of the same name
 * is written name#number. */
#ifndef COMPILER_IR_TEXT_H
#define COMPILER_IR_TEXT_H

#include "compiler/ir.h"

#define IR_TEXT_UNARY 10 /* binds tighter than every infix operator */

/* The type an expression has when nothing is written, from its kind, operands and entities; TY_none: always written. */
enum type ir_text_type(const struct ir_expr *e);
/* Whether a name can stand without quotes. */
bool ir_text_plain(const char *name);
const char *ir_text_kind(enum ir_expr_kind k);

#endif
