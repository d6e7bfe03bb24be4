/* ranked - what differs between the CTAs of a cluster. */
#ifndef CODEGEN_RANKED_H
#define CODEGEN_RANKED_H

#include "codegen/gen.h"

struct rank_scan {
    bool *axes, *vars; /* by id: depends on the CTA's rank */
    bool changed;
};

struct rank_scan ranked_scan(struct gen *g);
/* Whether CTAs of a cluster may find different values of e. */
bool ranked(const struct rank_scan *rs, const struct ir_expr *e);

#endif
