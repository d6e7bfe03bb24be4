/* module - a compiled kernel's code on a device. */
#ifndef RUNTIME_MODULE_H
#define RUNTIME_MODULE_H

#include "codegen/assemble.h"
#include "codegen/image.h"
#include "runtime/device.h"

/* Loads the image's code: PTX on the emulator; on a GPU a cubin from the cache or the assembler, or PTX where there is no
 * assembler but the driver's. `o` and `report` may be NULL. A cache that cannot be read or written is passed over. */
enum dgk_status module_load(struct device *d, const struct image *im, const struct assemble_options *o, struct device_module **out,
                            struct assemble_report *report, struct fault *why);

/* Assembles, through the cache. *cubin is malloc'ed; log may be NULL. */
enum dgk_status module_assemble(const char *ptx, size_t n, const struct assemble_options *o, void **cubin, size_t *bytes,
                                struct assemble_report *report, struct buf *log, struct fault *why);

/* The folder of the cache: $DGC_CACHE_DIR, $XDG_CACHE_HOME/dgc, ~/.cache/dgc; false when it is off ($DGC_DISABLE_CACHE)
 * or there is none. */
bool module_cache_folder(char *to, size_t room);
/* An entry of the cache, found by its whole key. A damaged one is as none at all. */
bool module_cache_get(const char *key, size_t n, void **data, size_t *bytes);
void module_cache_put(const char *key, size_t n, const void *data, size_t bytes);

/* The driver as an assembler, for struct assemble_options. */
bool module_driver_assembles(const char *ptx, size_t n, const char *target, bool line_info, void **cubin, size_t *bytes, struct buf *log);

#endif
