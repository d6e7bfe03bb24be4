/* tunedb - what was measured: a folder of small text files, one for each variant of a kernel on one shape and one GPU.
 *
 * $DGC_TUNE_DB, else $XDG_STATE_HOME/dgc/tune, else ~/.local/state/dgc/tune. Files are written beside their place and
 * renamed, hold their whole key and end with a checksum: writers at the same time lose nothing, a damaged file is as none
 * at all, and folders of several machines are merged by copying. */
#ifndef RUNTIME_TUNEDB_H
#define RUNTIME_TUNEDB_H

#include "runtime/choose.h"

/* What a measurement belongs to. */
struct tunedb_key {
    const char *call;   /* kernel, parameters, layouts, sizes, device, target, values fixed by the caller: a line each */
    const char *made_by; /* source and compiler: measurements of others do not count, unless asked for */
};

enum tunedb_state {
    TUNEDB_TIMED,   /* its result was not compared with another variant's */
    TUNEDB_CHECKED, /* it was, and agrees */
    TUNEDB_BAD      /* does not compile, does not run, or is wrong */
};

struct tunedb_entry {
    const char *values; /* "BM=128;BN=256": every tune value that the call leaves open, in the kernel's order */
    double us;          /* median of one launch; an emulator counts a thousand steps of its warps as one */
    int count;          /* launches measured */
    enum tunedb_state state;
    bool other;         /* of another source or compiler (only where those were asked for) */
};
typedef VEC(struct tunedb_entry) tunedb_entries;

bool tunedb_folder(char *to, size_t room); /* false: there is none */
/* False when a size is not known: nothing can be looked up. */
bool tunedb_key(const struct choose_ask *ask, struct tunedb_key *out);
/* Every whole entry of the key, in no order. `others`: those made from other sources or by other compilers, too. */
tunedb_entries tunedb_read(struct arena *a, const struct tunedb_key *key, bool others);
bool tunedb_write(const struct tunedb_key *key, const struct tunedb_entry *e);
/* "BM=128;BN=256" taken apart; how many. */
int tunedb_values(struct arena *a, const char *text, struct binding *out, int room);
/* Values of the fastest checked entry, unless $DGC_TUNE is "off"; "force" takes those of other sources and compilers, too.
 * Returns how many values, 0 when there is no entry. */
int tunedb_best(const struct choose_ask *ask, struct binding *out, int room);

/* Adds every whole entry of another folder; of two for the same variant the one that knows more stays: bad before checked
 * before timed, then more launches. */
struct tunedb_merged {
    int added, kept, damaged;
    bool missing; /* no such folder */
};
struct tunedb_merged tunedb_merge(const char *from);

#endif
