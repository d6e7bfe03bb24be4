/* tensor - an array of any element type, rank and strides; on the host or at a device address. */
#ifndef RUNTIME_TENSOR_H
#define RUNTIME_TENSOR_H

#include "dsl/types.h"
#include "runtime/status.h"

enum { TENSOR_RANK = 8 };

/* Shapes and strides count elements; dimension 0 is the outermost as written. `data` or `address` is element [0, …, 0].
 * e2m1 holds two elements a byte (the even one in the low nibble), bool one a byte. */
struct tensor {
    enum type type;
    int rank;
    int64_t shape[TENSOR_RANK], stride[TENSOR_RANK];
    void *data;       /* host, or NULL */
    uint64_t address; /* device, or 0 */
    void *owned;      /* what tensor_free frees */
};

/* Bytes, a power of two of at most 16, that the address and every stride but the inner are multiples of; 0: no whole ones. */
int tensor_alignment(const struct tensor *t, int inner);
int tensor_item_bits(enum type t); /* bits an element takes in memory: 4, 8, 16, 32, 64 */
int64_t tensor_count(const struct tensor *t);
/* Bytes from element 0 to the end of the last one. */
size_t tensor_span(const struct tensor *t);
bool tensor_contiguous(const struct tensor *t);
void tensor_row_major(struct tensor *t); /* sets the strides: last dimension 1 */
/* "[4096, 512]" into a buffer of the caller's; returned for printf. */
const char *tensor_shape_text(const struct tensor *t, char *to, size_t room);

/* New zeroed host memory for t->type, rank, shape and strides as they stand. */
enum dgk_status tensor_allocate(struct tensor *t, struct fault *why);
void tensor_free(struct tensor *t);

/* One element, by its offset in elements from element 0. Values are exact but for integers beyond 2^53. */
uint64_t tensor_bits(const struct tensor *t, int64_t offset);
void tensor_set_bits(struct tensor *t, int64_t offset, uint64_t bits);
double tensor_value(const struct tensor *t, int64_t offset);
void tensor_set_value(struct tensor *t, int64_t offset, double value);

/* Steps `index` to the next element in row-major order and keeps *offset its place; false after the last one.
 * Start from zeros:  do { … } while (tensor_next(t, index, &offset)); a tensor without elements needs a check first. */
bool tensor_next(const struct tensor *t, int64_t *index, int64_t *offset);

/* A copy of `from` in memory of its own: converted to `type` (TY_none: as it is) and laid out with dimension `inner`
 * contiguous (-1: the last) and every other stride a multiple of its `align` (NULL: 1). */
enum dgk_status tensor_copy(struct tensor *to, const struct tensor *from, enum type type, int inner, const int *align,
                            struct fault *why);
/* The strides tensor_copy would give: inner dimension 1, the others outward, padded to `align`. */
void tensor_layout(struct tensor *t, int inner, const int *align);

/* What a command line names:
 *   file.npy   file.safetensors:tensor.name   rand(4, 8, seed=3)  randn(…)  zeros(…)  ones(…)  arange(…)
 * each with an optional ":type" that converts. Unsigned integers of a type's width stand for the raw bits of types that
 * numpy lacks (u16 for bf16, u8 for fp8, two e2m1 a byte along the last dimension).
 * A generator without a shape takes `shape` (rank < 0: none known); without a type, `type`. Files keep their own type. */
enum dgk_status tensor_load(struct tensor *t, const char *spec, enum type type, int rank, const int64_t *shape,
                            struct fault *why);
/* rand, randn, zeros, ones or arange into memory that t already has. rand: uniform in [lo, hi). */
void tensor_generate(struct tensor *t, const char *generator, uint64_t seed, double lo, double hi);

enum dgk_status npy_read(struct tensor *t, const char *path, enum type as, struct fault *why);
enum dgk_status npy_write(const struct tensor *t, const char *path, struct fault *why);

/* name NULL: the only tensor of the file. */
enum dgk_status safetensors_read(struct tensor *t, const char *path, const char *name, enum type as, struct fault *why);
struct named_tensor {
    const char *name;
    const struct tensor *tensor;
};
enum dgk_status safetensors_write(const char *path, const struct named_tensor *all, int n, struct fault *why);

/* Stored elements as a file describes them, before any conversion; shared by the readers. */
enum stored_kind { STORED_TYPE, STORED_F64, STORED_RAW }; /* a type of ours; IEEE binary64; bits without a meaning */
struct stored {
    enum stored_kind kind;
    enum type type; /* STORED_RAW: the unsigned type of its width */
};
int stored_bytes(struct stored s, int64_t count, size_t *bytes); /* 0, or -1 when the size overflows */
/* Turns `bytes` of file data (taken over, even on failure) into a tensor of type `as` (TY_none: as stored).
 * `t` has rank, shape and strides in stored elements. */
enum dgk_status tensor_from_stored(struct tensor *t, struct stored s, void *bytes, enum type as, struct fault *why);

#endif
