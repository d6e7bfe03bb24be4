/* split - between split.c and site.c. */
#ifndef COMPILER_SPLIT_H
#define COMPILER_SPLIT_H

#include "compiler/passes.h"

/* Takes from each site what only the other needs: loops, conditions and consumes with nothing of its own inside, scalars it
 * does not read. `role` is what both come from. NULL; or why it cannot be: the issuer needs what only registers know. */
const char *site_prune(struct pass_state *p, const ir_block *role, ir_block *issue, ir_block *drain);

#endif
