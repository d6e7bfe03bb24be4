/* tmem - the tensor memory of a block: 128 lanes by 512 columns of 32 bits, allocated by columns. */
#ifndef EMU_TMEM_H
#define EMU_TMEM_H

#include "runtime/emu/core.h"

enum { TMEM_LANES = 128, TMEM_COLUMNS = 512, TMEM_HALVES = TMEM_LANES / 16 };

/* Operations between issue and effect, counted for each column and 16 lanes. */
enum tmem_use { TMEM_LOADING, TMEM_STORING, TMEM_WRITING /* by mma or cp */, TMEM_USES };
struct tmem_region {
    int column, columns;
    uint32_t halves; /* bit i: lanes 16i .. 16i+15 */
};
struct tmem_allocation {
    int column, columns;
    struct emu_warp *warp;
    const struct emu_insn *in;
};
struct tmem {
    uint32_t cell[TMEM_LANES][TMEM_COLUMNS];
    uint16_t uses[TMEM_USES][TMEM_COLUMNS][TMEM_HALVES];
    struct tmem_allocation allocation[TMEM_COLUMNS / 32];
    int n_allocations, last_columns, group;
    bool relinquished;
};

struct tmem *tmem_of(struct emu_cta *cta);
/* All instructions of a kernel use the same .cta_group. False after a fault. */
bool tmem_group(const struct emu_who *who, struct emu_cta *cta, int group);
bool tmem_allocated(const struct emu_who *who, struct emu_cta *cta, const struct tmem_region *r);
void tmem_count(struct emu_cta *cta, const struct tmem_region *r, enum tmem_use use, int by);
bool tmem_busy(struct emu_cta *cta, const struct tmem_region *r, enum tmem_use use);
/* .cta_group::1 or ::2, as a number; 0 after an error. */
int tmem_take_group(struct emu_decode *d);

/* What every asynchronous operation of tcgen05 begins with. */
enum tmem_op { TMEM_LD, TMEM_ST, TMEM_MMA, TMEM_CP, TMEM_COMMIT };
struct tmem_issue {
    enum tmem_op op;
    struct emu_warp *warp;
    const struct emu_insn *in;
    bool late;
};

#endif
