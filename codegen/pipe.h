/* pipe - what pipe_plan.c decides and pipe.c emits. */
#ifndef CODEGEN_PIPE_H
#define CODEGEN_PIPE_H

#include "codegen/gen.h"

/* How a field is filled:
 *   TMA       a plain read of a tensor, one box a panel; the barrier counts its bytes
 *   cp.async  the same without TMA, or rows that lie as far apart as data say: 16-byte chunks dealt to the producer's threads
 *   computed  anything else: registers, then st.shared (and a proxy fence where the async proxy reads the slot)
 *   acc       the slot is an accumulator's place: products fill it, or the drain's registers */
enum fill_kind { FILL_TMA, FILL_CP_ASYNC, FILL_COMPUTED, FILL_ACC };

struct field_plan {
    enum fill_kind kind;
    int walks[IR_RANK]; /* by dimension of the tensor read: which of the field's axes walks it, -1: none */
    int piece_axis;     /* TMA: this axis of the field is copied `piece` coordinates at a time, each box from a place of its own: */
    int piece;          /* the index looks it up, as in K[PT[t / PS], t % PS]. 0: in one box */
    int unit;           /* bytes that rows in memory are aligned to and made of: what cp.async moves at a time */
    struct made *made;  /* TMA: by a map that the role makes itself, of this tensor (made.c); NULL: by one of the host's */
    const struct ir_tensor *made_of;
    bool sloped;        /* rows of the inner dimension are not a dimension apart but what the index says, k0*M + i*kg + k (compiler/slope.h) */
};

/* What a field is filled by and read as. */
struct field_use {
    struct ir_stmt *fill;
    struct gen_role *producer;
    struct ir_axis *contracted; /* axis of the field that an mma contracts */
    bool mma;
};

/* How the field is filled with e: by boxes or pieces that the hardware copies, where all of its rows, origins along them
 * and (checked at launch) strides are whole pieces: of 16 bytes, or of what the tensor is aligned to. */
struct field_plan pipe_plan_fill(struct gen *g, const struct ir_field *f, const struct ir_expr *e);
bool pipe_consumed(const ir_block *b, const struct ir_pipe *p);

/* Decides whether the two CTAs of a cluster multiply together (pair.c). Before fields have their layouts. */
void pair_plan(struct gen *g, const struct field_use *uses);

/* Decides whether second operands have their rows woven (weave.c). As early. */
void weave_plan(struct gen *g, const struct field_use *uses);
/* Gives a woven field's map, with the dimensions of pipe_map, one more: what the last row axis walks counts as two. */
void weave_map(struct gen *g, struct image_map *m, int *order);
/* Where a box begins along dimension i of such a map, for a coordinate of the tensor's. */
struct opd weave_start(struct gen *g, int i, struct opd at);

/* Fills a slot's field with computed elements (fill.c). */
void fill_computed(struct gen *g, const struct gen_field *f, const struct ir_stmt *s);

/* A thread's copy of a unit of t: `bytes` of it, the rest zeros. */
void pipe_cp_async(struct gen *g, const struct ir_tensor *t, struct opd to, struct opd from, int unit, struct opd bytes);

/* Fills it by cp.async where its rows are sloped (fill_rows.c). */
void fill_rows(struct gen *g, const struct gen_field *f, const struct ir_stmt *s);

/* Tensor maps of sloped rows that role r makes itself (made.c). NULL: it cannot. After all fields are planned: whether their roles
 * do; before roles have warps. */
struct made *made_plan(struct gen *g, const struct ir_field *f, const struct ir_expr *read, const struct gen_role *r);
void made_settle(struct gen *g);
void made_place(struct gen *g);                      /* after the slots */
struct opd made_address(const struct gen_field *f);  /* of the map in use, generic */
void made_by_threads(struct gen *g, const struct gen_field *f, const struct ir_stmt *s); /* a tile that does not come by the map */
struct opd made_bytes(struct gen *g, const struct gen_pipe *p); /* that copies of the slot will bring; another slot is under way */

/* Bytes that boxes bring to a field. */
int pipe_box_bytes(const struct gen_field *f);

/* The field's slowest row axis (index into its axes): cut where a box is too tall, or shared by a cluster. -1: none. */
int pipe_slowest_axis(const struct gen_field *f);

/* Coordinates of an axis of the field that a slot of this CTA holds. */
int pipe_held(const struct gen_field *f, int axis);

/* Rows of a box: all, or equal parts of what is too tall for one, in whole swizzle patterns; 0: there are none. */
int pipe_box_rows(int rows);

/* A descriptor of t without its boxes (all 1): the inner dimension, then those that an axis walks (walks[d] >= 0), the last
 * axis first, then those that stand still (-1). order[i]: the tensor's dimension behind the map's i. */
struct image_map pipe_map(struct gen *g, const struct ir_tensor *t, const int *walks, int swizzle, int *order);
/* State space that bulk copies into this CTA name. */
const char *pipe_landing(const struct gen *g);

#endif
