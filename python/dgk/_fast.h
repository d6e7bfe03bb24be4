/* _fast.h - what the files of the native call path share: DLPack's structures, the library's functions, tensors of Python. */
#ifndef DGK_FAST_H
#define DGK_FAST_H
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030a0000
#endif
#include <Python.h>

#include <stdbool.h>
#include <string.h>

#include "runtime/dgk.h"

struct dl_device {
    int32_t type, id;
};
struct dl_tensor {
    void *data;
    struct dl_device device;
    int32_t ndim;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
};
struct dl_exchange {
    struct {
        uint32_t major, minor;
        void *previous;
    } header;
    void *allocate, *from_object, *to_object;
    int (*view)(void *object, struct dl_tensor *out);
    int (*stream)(int32_t device_type, int32_t device, void **out);
};
enum { DL_CUDA = 2, DEVICES = 64, SLOTS = 64 };

/* Functions of the library that _native has opened, and what was looked up once. */
struct library {
    int (*call)(dgk_kernel *, const dgk_value *, int, void *);
    int (*from_dlpack)(dgk_tensor *, const void *);
    const char *(*error)(void);
    const char *(*status_name)(int);
    PyObject *exception, *call_name, *table_name, *dict_name;
    PyTypeObject *types[2]; /* of tensors: the types seen last, and their tables */
    const struct dl_exchange *tables[2];
    int seen;
    int recordings;  /* threads that record a call now: kernels are called through Python, which takes it down */
    int generation;  /* of settings: what was recorded under others is forgotten */
};
extern struct library lib;

/* The exchange table of x's type; NULL when it has none. */
const struct dl_exchange *exchange_of(PyObject *x);
/* Raises dgk.Error with the library's text. */
PyObject *fail(int status);

extern PyType_Spec recorded_spec;
bool record_init(void);
#endif
