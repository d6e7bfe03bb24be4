/* race - the clocks of a cluster are made and freed with it; between race.c and grid.c. */
#ifndef EMU_RACE_H
#define EMU_RACE_H

#include "runtime/emu/core.h"

bool emu_race_start(struct emu_cluster *k);
void emu_race_end(struct emu_cluster *k);

#endif
