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

/* Whether the device runs code for the image's target; and the image's cubin for a GPU. */
enum dgk_status module_runs(const struct device *d, const struct image *im, struct fault *why);
enum dgk_status module_cubin(struct device *d, const struct image *im, const struct assemble_options *o, void **cubin, size_t *bytes,
                             struct assemble_report *report, struct fault *why);

/* Assembles, through the cache. *cubin is malloc'ed; log may be NULL. */
enum dgk_status module_assemble(const char *ptx, size_t n, const struct assemble_options *o, void **cubin, size_t *bytes,
                                struct assemble_report *report, struct buf *log, struct fault *why);

/* The driver as an assembler, for struct assemble_options. */
bool module_driver_assembles(const char *ptx, size_t n, const char *target, bool line_info, void **cubin, size_t *bytes, struct buf *log);

#endif
