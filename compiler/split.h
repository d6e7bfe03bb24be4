/* split - what takes roles apart into sites that talk through pipes: split.c and stage.c, over site.c. */
#ifndef COMPILER_SPLIT_H
#define COMPILER_SPLIT_H

#include "compiler/passes.h"

/* Whether roles that multiply are split: accumulators live in tensor memory, and none is too small for it. */
bool split_wanted(const struct pass_state *p);
/* Rows of an mma's M side, or of the other. */
int split_rows(const struct ir_stmt *mma, bool other);

/* Takes from each site what only the other needs: loops, conditions and consumes with nothing of its own inside, scalars it
 * does not read. `role` is what both come from. NULL; or why it cannot be: the issuer needs what only registers know. */
const char *site_prune(struct pass_state *p, const ir_block *role, ir_block *issue, ir_block *drain);

/* A pipe without fields yet (another of that name makes it name.2), a field of it, what a slot of it holds there: read at the field's own axes. */
struct ir_pipe *site_pipe(struct pass_state *p, const char *name, struct ir_var *home, struct span at);
struct ir_field *site_field(struct pass_state *p, struct ir_pipe *pipe, const char *name, enum type t, struct ir_axis *const *axes, int n);
struct ir_expr *site_slot(struct pass_state *p, struct ir_field *f);

/* Statements appended: produce or consume of a pipe; a fill inside produce; s without what is inside it. */
struct ir_stmt *site_scope(struct pass_state *p, ir_block *b, enum ir_stmt_kind kind, struct ir_pipe *pipe, struct span at);
void site_fill(struct pass_state *p, struct ir_stmt *produce, struct ir_field *f, struct ir_expr *e);
struct ir_stmt *site_head(struct pass_state *p, const struct ir_stmt *s, ir_block *out);

/* A new role of one more site of `of`, "of.name", behind the role number `after`. */
struct ir_role *site_role(struct pass_state *p, const struct ir_role *of, const char *name, int after);
static inline bool site_loops(const struct ir_stmt *s) { return s->kind == S_for || s->kind == S_while; }

#endif
