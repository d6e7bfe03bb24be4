/* dgk_tensor - types by number, DLPack, and tensors whose bytes stand for a type their owner lacks. */
#include "runtime/dgk_inside.h"

#include <string.h>

int dgk_type(const char *name) { return (int)type_find(name); }
const char *dgk_type_name(int type) { return type > 0 && type < TY_COUNT ? type_name((enum type)type) : ""; }
int dgk_type_bits(int type) { return type > 0 && type < TY_COUNT ? tensor_item_bits((enum type)type) : 0; }

/* ---- DLPack, from the public header's description of its structures (version 1.1) ---- */

struct dl_type {
    uint8_t code, bits;
    uint16_t lanes;
};
struct dl_tensor {
    void *data;
    struct {
        int32_t type, id;
    } device;
    int32_t ndim;
    struct dl_type dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
};
enum { DL_INT, DL_UINT, DL_FLOAT, DL_OPAQUE, DL_BFLOAT, DL_COMPLEX, DL_BOOL, DL_E4M3FN = 10, DL_E5M2 = 12, DL_E8M0FNU = 14, DL_E2M1FN = 17 };
enum { DL_CPU = 1, DL_CUDA, DL_CUDA_HOST, DL_CUDA_MANAGED = 13 };

static const struct {
    uint8_t code, bits;
    enum type type;
} dl_types[] = {
    { DL_INT, 8, TY_i8 },      { DL_INT, 16, TY_i16 },     { DL_INT, 32, TY_i32 },   { DL_INT, 64, TY_i64 },      { DL_UINT, 8, TY_u8 },
    { DL_UINT, 16, TY_u16 },   { DL_UINT, 32, TY_u32 },    { DL_UINT, 64, TY_u64 },  { DL_FLOAT, 16, TY_f16 },    { DL_FLOAT, 32, TY_f32 },
    { DL_BFLOAT, 16, TY_bf16 }, { DL_BOOL, 8, TY_bool },   { DL_E4M3FN, 8, TY_e4m3 }, { DL_E5M2, 8, TY_e5m2 },    { DL_E8M0FNU, 8, TY_ue8m0 },
    { DL_E2M1FN, 4, TY_e2m1 },
};

static enum type of_dl(struct dl_type t)
{
    for (int i = 0; i < COUNT(dl_types); i++)
        if (dl_types[i].code == t.code && dl_types[i].bits == t.bits) return dl_types[i].type;
    return TY_none;
}

int dgk_from_dlpack(dgk_tensor *out, const void *dltensor)
{
    const struct dl_tensor *d = dltensor;
    struct fault *why = fault_here();
    enum type t = of_dl(d->dtype);
    bool pairs = t == TY_e2m1 && d->dtype.lanes == 2;
    if (!t || (d->dtype.lanes > 1 && !pairs))
        return (int)fault_set(why, DGK_BAD_ARGUMENT, "DLPack type code %d of %d bits and %d lanes is none of dgk's", d->dtype.code, d->dtype.bits, d->dtype.lanes);
    if (d->ndim < 0 || d->ndim > DGK_RANK) return (int)fault_set(why, DGK_BAD_SHAPE, "%d dimensions; at most %d are possible", d->ndim, DGK_RANK);
    bool host = d->device.type == DL_CPU || d->device.type == DL_CUDA_HOST;
    if (!host && d->device.type != DL_CUDA && d->device.type != DL_CUDA_MANAGED)
        return (int)fault_set(why, DGK_BAD_ARGUMENT, "DLPack device type %d: neither a CPU nor CUDA", d->device.type);
    *out = (dgk_tensor){ .data = (uint64_t)(uintptr_t)d->data + d->byte_offset, .type = pairs ? TY_u8 : t, .place = host ? DGK_HOST : DGK_DEVICE, .rank = d->ndim };
    int64_t dense = 1;
    for (int i = d->ndim - 1; i >= 0; i--) {
        out->shape[i] = d->shape[i];
        out->stride[i] = d->strides ? d->strides[i] : dense;
        dense *= d->shape[i];
    }
    return DGK_OK;
}

/* ---- bytes that stand for another type ---- */

bool type_stands_for(enum type in, enum type want)
{
    if (in == want) return true;
    bool byte = in == TY_u8 || in == TY_i8, half = in == TY_u16 || in == TY_i16, word = in == TY_u32 || in == TY_i32;
    if (want == TY_e2m1) return byte;
    if (type_is_float(want)) return (type_bits(want) == 8 && byte) || (want == TY_bf16 && half);
    if (want == TY_u8 || want == TY_i8) return byte || in == TY_bool || in == TY_ue8m0 || in == TY_e4m3 || in == TY_e5m2;
    return want == TY_bool ? byte : (want == TY_u32 || want == TY_i32) && word;
}

/* Two e2m1 a byte: the inner dimension counts twice as many. */
static bool unpack_pairs(struct tensor *t)
{
    int inner = -1;
    for (int d = 0; d < t->rank; d++)
        if (t->stride[d] == 1) inner = d;
    if (inner < 0) return false;
    for (int d = 0; d < t->rank; d++)
        if (d != inner) t->stride[d] *= 2;
    t->shape[inner] *= 2;
    return true;
}

bool tensor_as(struct tensor *out, const struct dgk_tensor *in, enum type want)
{
    *out = (struct tensor){ .type = (enum type)in->type, .rank = in->rank };
    memcpy(out->shape, in->shape, sizeof out->shape);
    memcpy(out->stride, in->stride, sizeof out->stride);
    if (in->place == DGK_HOST) out->data = (void *)(uintptr_t)in->data;
    else out->address = in->data;
    for (int d = 0; d < in->rank && in->place != DGK_HOST && !in->data; d++)
        if (in->shape[d] == 0) out->address = 256; /* an empty tensor may have no memory; nothing is read there */
    if (!type_stands_for(out->type, want)) return false;
    bool pairs = want == TY_e2m1 && out->type != TY_e2m1;
    out->type = want;
    return !pairs || unpack_pairs(out);
}
