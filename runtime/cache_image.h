/* cache_image - an image and its assembled code as bytes, for the cache. */
#ifndef RUNTIME_CACHE_IMAGE_H
#define RUNTIME_CACHE_IMAGE_H

#include "codegen/image.h"

/* Appends to `out`. code may be NULL: none. */
void image_pack(const struct image *im, const void *code, size_t code_bytes, struct buf *out);
/* NULL when the bytes are no image. *code points into `at`, or is NULL. */
struct image *image_unpack(struct arena *a, const void *at, size_t n, const void **code, size_t *code_bytes);

#endif
