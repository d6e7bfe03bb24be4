/* _fast - the call path of dgk.Kernel: torch tensors on a GPU to one dgk_call, without ctypes. One binary for every Python
 * from 3.10 on (the limited API). Whatever it does not know, it leaves to Kernel._call: strings, numpy, missing outputs, the
 * first call on a device.
 *
 * Tensors are read through the exchange table that their type publishes (DLPack 1.3, __dlpack_c_exchange_api__), and the
 * current stream too. The structures below are that specification's. */
#include "python/dgk/_fast.h"

struct library lib;

typedef struct {
    PyObject_HEAD
    int n_slots, n_tensors;
    PyObject *names[SLOTS];
    bool is_tensor[SLOTS];
    dgk_kernel *handles[DEVICES];
} Callable;

/* ---- tensors ------------------------------------------------------------------------------------------------- */

/* A type publishes its table itself; of the types that inherit it, torch's Parameter is as plain, others may hold no memory. */
static bool publishes(PyTypeObject *type)
{
    PyObject *d = PyObject_GetAttr((PyObject *)type, lib.dict_name), *name = PyObject_GetAttrString((PyObject *)type, "__name__");
    bool yes = d && PySequence_Contains(d, lib.table_name) == 1;
    if (!yes && name) yes = !PyUnicode_CompareWithASCIIString(name, "Parameter");
    PyErr_Clear();
    Py_XDECREF(d);
    Py_XDECREF(name);
    return yes;
}

const struct dl_exchange *exchange_of(PyObject *x)
{
    PyTypeObject *type = Py_TYPE(x);
    if (type == lib.types[0]) return lib.tables[0];
    if (type == lib.types[1]) return lib.tables[1];
    if (!publishes(type)) return NULL;
    PyObject *capsule = PyObject_GetAttr((PyObject *)type, lib.table_name);
    const struct dl_exchange *t = capsule ? PyCapsule_GetPointer(capsule, "dlpack_exchange_api") : NULL;
    PyErr_Clear();
    Py_XDECREF(capsule);
    if (!t || t->header.major != 1 || !t->view || !t->stream) return NULL;
    int i = lib.seen++ & 1;
    Py_INCREF(type);
    Py_XDECREF(lib.types[i]);
    lib.types[i] = type;
    return lib.tables[i] = t;
}

/* One call being put together. */
struct request {
    Callable *k;
    dgk_value values[SLOTS];
    dgk_tensor tensors[SLOTS];
    const struct dl_exchange *table;
    int device, n_tensors;
};

static bool put_tensor(struct request *r, int slot, PyObject *x)
{
    struct dl_tensor d;
    const struct dl_exchange *t = r->k->is_tensor[slot] ? exchange_of(x) : NULL;
    if (!t) return false;
    if (t->view(x, &d)) {
        PyErr_Clear();
        return false;
    }
    if (d.device.type != DL_CUDA || (r->device >= 0 && d.device.id != r->device) || lib.from_dlpack(&r->tensors[slot], &d)) return false;
    r->device = d.device.id;
    r->table = t;
    r->values[slot] = dgk_of(&r->tensors[slot]);
    r->n_tensors++;
    return true;
}

static bool put(struct request *r, int slot, PyObject *x)
{
    if (r->values[slot].given) return false;
    if (PyLong_Check(x)) {
        long long v = PyLong_AsLongLong(x);
        if (v == -1 && PyErr_Occurred()) {
            PyErr_Clear();
            return false;
        }
        r->values[slot] = dgk_int(v);
        return !r->k->is_tensor[slot];
    }
    if (PyFloat_Check(x)) {
        r->values[slot] = dgk_real(PyFloat_AsDouble(x));
        return !r->k->is_tensor[slot];
    }
    return put_tensor(r, slot, x);
}

static int slot_of(const Callable *k, PyObject *name)
{
    for (int i = 0; i < k->n_slots; i++)
        if (k->names[i] == name) return i;
    for (int i = 0; i < k->n_slots; i++)
        if (!PyUnicode_Compare(k->names[i], name)) return i;
    return -1;
}

static bool collect(struct request *r, PyObject *args, PyObject *named)
{
    Py_ssize_t n = PyTuple_Size(args), at = 0;
    PyObject *name, *x;
    if (n > r->k->n_slots) return false;
    for (Py_ssize_t i = 0; i < n; i++)
        if (!put(r, (int)i, PyTuple_GetItem(args, i))) return false;
    while (named && PyDict_Next(named, &at, &name, &x)) {
        int slot = slot_of(r->k, name);
        if (slot < 0 || !put(r, slot, x)) return false;
    }
    return r->n_tensors == r->k->n_tensors && r->device >= 0 && r->device < DEVICES && r->k->handles[r->device];
}

/* ---- the type ------------------------------------------------------------------------------------------------ */

PyObject *fail(int status)
{
    PyObject *text = PyUnicode_DecodeUTF8(lib.error(), (Py_ssize_t)strlen(lib.error()), "replace"), *e;
    e = text ? PyObject_CallFunction(lib.exception, "Os", text, lib.status_name(status)) : NULL;
    if (e) PyErr_SetObject(lib.exception, e);
    Py_XDECREF(text);
    Py_XDECREF(e);
    return NULL;
}

static PyObject *slowly(PyObject *self, PyObject *args, PyObject *named)
{
    PyObject *f = PyObject_GetAttr(self, lib.call_name), *result = f ? PyObject_Call(f, args, named) : NULL;
    Py_XDECREF(f);
    return result;
}

static PyObject *callable_call(PyObject *self, PyObject *args, PyObject *named)
{
    struct request r;
    Callable *k = (Callable *)self;
    void *stream = NULL;
    int status;
    if (!k->n_slots || lib.recordings) return slowly(self, args, named);
    r.k = k;
    r.device = -1, r.n_tensors = 0;
    memset(r.values, 0, sizeof *r.values * (size_t)k->n_slots);
    if (!collect(&r, args, named)) return slowly(self, args, named);
    if (r.table->stream(DL_CUDA, r.device, &stream)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = lib.call(k->handles[r.device], r.values, k->n_slots, stream);
    Py_END_ALLOW_THREADS
    if (status) return fail(status);
    Py_RETURN_NONE;
}

/* _bind(device, handle, names, tensors): calls on this device may go straight through. */
static PyObject *callable_bind(PyObject *self, PyObject *args)
{
    Callable *k = (Callable *)self;
    PyObject *names, *tensors;
    int device;
    unsigned long long handle;
    if (!PyArg_ParseTuple(args, "iKO!O!", &device, &handle, &PyTuple_Type, &names, &PyTuple_Type, &tensors)) return NULL;
    Py_ssize_t n = PyTuple_Size(names);
    if (n > SLOTS || PyTuple_Size(tensors) != n || device < 0 || device >= DEVICES) Py_RETURN_NONE;
    if (!k->n_slots)
        for (Py_ssize_t i = 0; i < n; i++) {
            k->names[i] = PyTuple_GetItem(names, i);
            Py_INCREF(k->names[i]);
            PyUnicode_InternInPlace(&k->names[i]);
            k->is_tensor[i] = PyObject_IsTrue(PyTuple_GetItem(tensors, i));
            k->n_tensors += k->is_tensor[i];
        }
    k->n_slots = (int)n;
    k->handles[device] = (dgk_kernel *)(uintptr_t)handle;
    Py_RETURN_NONE;
}

static void callable_dealloc(PyObject *self)
{
    Callable *k = (Callable *)self;
    PyTypeObject *type = Py_TYPE(self);
    for (int i = 0; i < k->n_slots; i++) Py_XDECREF(k->names[i]);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef callable_methods[] = {
    { "_bind", callable_bind, METH_VARARGS, "_bind(device, handle, names, tensors)" },
    { NULL, NULL, 0, NULL },
};
static PyType_Slot callable_slots[] = {
    { Py_tp_call, (void *)callable_call },
    { Py_tp_dealloc, (void *)callable_dealloc },
    { Py_tp_methods, callable_methods },
    { 0, NULL },
};
static PyType_Spec callable_spec = { "dgk._fast.Callable", sizeof(Callable), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, callable_slots };

/* ---- the module ---------------------------------------------------------------------------------------------- */

/* setup(exception, call, from_dlpack, error, status_name): addresses of the library's functions. */
static PyObject *setup(PyObject *self, PyObject *args)
{
    unsigned long long at[4];
    PyObject *exception;
    (void)self;
    if (!PyArg_ParseTuple(args, "OKKKK", &exception, &at[0], &at[1], &at[2], &at[3])) return NULL;
    memcpy(&lib.call, &at[0], sizeof lib.call);
    memcpy(&lib.from_dlpack, &at[1], sizeof lib.from_dlpack);
    memcpy(&lib.error, &at[2], sizeof lib.error);
    memcpy(&lib.status_name, &at[3], sizeof lib.status_name);
    Py_INCREF(exception);
    Py_XDECREF(lib.exception);
    lib.exception = exception;
    Py_RETURN_NONE;
}

/* recording(change): how many threads record. forget(): settings have changed. */
static PyObject *recording(PyObject *self, PyObject *change)
{
    (void)self;
    lib.recordings += (int)PyLong_AsLong(change);
    Py_RETURN_NONE;
}

static PyObject *forget(PyObject *self, PyObject *nothing)
{
    (void)self, (void)nothing;
    lib.generation++;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    { "recording", recording, METH_O, "recording(change)" },
    { "forget", forget, METH_NOARGS, "forget()" },
    { "setup", setup, METH_VARARGS, "setup(exception, call, from_dlpack, error, status_name)" },
    { NULL, NULL, 0, NULL },
};
static struct PyModuleDef module = { PyModuleDef_HEAD_INIT, "dgk._fast", NULL, -1, methods, NULL, NULL, NULL, NULL };

PyMODINIT_FUNC PyInit__fast(void)
{
    PyObject *m = PyModule_Create(&module), *callable = PyType_FromSpec(&callable_spec), *recorded = PyType_FromSpec(&recorded_spec);
    lib.call_name = PyUnicode_InternFromString("_call");
    lib.table_name = PyUnicode_InternFromString("__dlpack_c_exchange_api__");
    lib.dict_name = PyUnicode_InternFromString("__dict__");
    if (!m || !callable || !recorded || !record_init() || PyModule_AddObject(m, "Callable", callable) || PyModule_AddObject(m, "Recorded", recorded) ||
        PyModule_AddIntConstant(m, "ABI", DGK_ABI))
        return NULL;
    return m;
}
