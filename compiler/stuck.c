/* stuck - runs the skeleton of produce and consume. */
#include "compiler/passes.h"

void pass_stuck(struct pass_state *p)
{
    (void)p;
}
