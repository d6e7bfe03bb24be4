/* types - element types: names, widths, and exact conversion of one value on the host. */
#ifndef DSL_TYPES_H
#define DSL_TYPES_H

#include "dsl/base.h"

enum type {
    TY_none, /* unknown, or the type of an erroneous expression */
#define TYPE(name, bits, kind, ptx, meaning) TY_##name,
#include "dsl/types.def"
    TY_COUNT
};
enum type_kind { TYPE_INT, TYPE_UINT, TYPE_FLOAT };

const char *type_name(enum type t);       /* "bf16" */
int type_bits(enum type t);
enum type_kind type_kind(enum type t);    /* bool is TYPE_INT */
enum type type_find(const char *name);    /* TY_none when there is none */
static inline bool type_is_float(enum type t) { return t && type_kind(t) == TYPE_FLOAT; }

/* Floating types: the value of stored bits, and the bits nearest to a value (ties to even; narrow types saturate as
 * PTX's satfinite forms do; ue8m0 rounds up (.rp)). e2m1: the low four bits. */
double type_decode(enum type t, uint64_t bits);
uint64_t type_encode(enum type t, double value);

#endif
