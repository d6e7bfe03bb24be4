/* cache - what was compiled once, kept in files. An entry is found by its whole content (SHA-256 of the key) and proves
 * itself (SHA-256 of key and data), so a damaged, half-written or foreign file is as none at all. Whatever goes wrong with
 * the cache costs a compilation, never a call: entries are made in memory and used from there. */
#ifndef RUNTIME_CACHE_H
#define RUNTIME_CACHE_H

#include "dsl/base.h"

struct sha256 {
    unsigned char at[32];
};
struct sha256 sha256_of(const void *p, size_t n);

/* A digest of the sources that dgc and libdgk are built of, made by the Makefile: it begins the key of what they compile, so that
 * programs, however they are linked, share it with each other, and none with another release. */
extern const char cache_stamp[];

/* The folder: $DGC_CACHE_DIR, $XDG_CACHE_HOME/dgc, ~/.cache/dgc; false when it is off ($DGC_DISABLE_CACHE) or there is none. */
bool cache_folder(char *to, size_t room);

/* Data kept under this key, malloc'ed. Also looked for in $DGC_CACHE_SHARED, a folder that is only read. */
bool cache_get(const void *key, size_t n, void **data, size_t *bytes);
/* `note` is one line that `dgc cache ls` shows. */
void cache_put(const void *key, size_t n, const void *data, size_t bytes, const char *note);

/* Why the folder is not used, or NULL: it or a folder above belongs to another user, or others may write to it. The text is
 * `room` bytes of the caller's. */
const char *cache_unsafe(const char *folder, char *text, size_t room);

struct cache_item {
    char name[65]; /* 64 hexadecimal digits */
    char note[256];
    uint64_t bytes;
    int64_t used;  /* seconds since 1970: when it was last read or written */
    bool sound;    /* it proves itself */
};
/* Every entry of the folder, in no order; `see` returns false to stop. Entries are verified only if asked. */
bool cache_each(bool verify, bool (*see)(void *state, const struct cache_item *item), void *state);
bool cache_remove(const char *name);
/* Takes away what writers that were killed left behind: temporary files older than so many seconds. How many there were. */
int cache_sweep(int64_t seconds);

#endif
