/* sched - running a cluster; between sched.c, grid.c and control.c. */
#ifndef EMU_SCHED_H
#define EMU_SCHED_H

#include "runtime/emu/core.h"

enum emu_cluster_state { EMU_RUNNING, EMU_DONE, EMU_STUCK, EMU_FAILED };

/* Runs about `steps` warp instructions. STUCK: no fragment can run and nothing outstanding could change that. */
enum emu_cluster_state emu_cluster_run(struct emu_cluster *k, uint64_t steps);
/* All threads of the block have ended: its outstanding operations take effect, its tensor memory is checked. */
void emu_cta_end(struct emu_cta *cta);

emu_run_fn emu_run_bra, emu_run_brx, emu_run_exit, emu_run_warpsync;

#endif
