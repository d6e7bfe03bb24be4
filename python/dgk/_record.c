/* _record - calls of Python functions that end in kernels: the first of its kind is written down, later ones are replayed.
 *
 * A call's key is everything that it may depend on but the bytes of its tensors: their types, shapes, strides and devices, how
 * their memory overlaps, and all other arguments. Its recipe is the tensors it made and the kernels it launched, each tensor as
 * "so far into that one". dgk/_record.py writes recipes, and only of calls that did nothing else. */
#include "python/dgk/_fast.h"

enum { WORDS = 512, LEAVES = 24, MADE = 8, NESTED = 4, RECIPES_MAX = 4096, BUCKETS = 256 };
enum word { W_TENSOR = 1, W_NONE, W_INT, W_REAL, W_TEXT, W_SEQUENCE, W_NAME, W_SAME, W_TYPE };

/* ---- keys ---------------------------------------------------------------------------------------------------- */

struct key {
    int64_t words[WORDS];
    int n, n_leaves;
    struct {
        uint64_t low, high; /* the bytes between its first and its last element */
        PyObject *object;
    } leaf[LEAVES];
};

static bool put(struct key *k, int64_t word)
{
    if (k->n < WORDS) k->words[k->n] = word;
    return k->n++ < WORDS;
}

/* Where the tensor's memory meets that of an earlier one, how far apart they begin is part of the key. */
static bool put_overlaps(struct key *k)
{
    int last = k->n_leaves - 1;
    uint64_t low = k->leaf[last].low, high = k->leaf[last].high;
    for (int i = 0; i < last; i++)
        if (low < k->leaf[i].high && k->leaf[i].low < high && !(put(k, W_SAME | i << 8) && put(k, (int64_t)(low - k->leaf[i].low)))) return false;
    return true;
}

static bool put_tensor(struct key *k, PyObject *x, const struct dl_exchange *table)
{
    struct dl_tensor t;
    if (k->n_leaves == LEAVES) return false;
    if (table->view(x, &t)) {
        PyErr_Clear();
        return false;
    }
    if (t.device.type != DL_CUDA || t.ndim > DGK_RANK || !t.strides) return false;
    uint64_t at = (uint64_t)(uintptr_t)t.data + t.byte_offset, bytes = (uint64_t)t.dtype.bits * t.dtype.lanes / 8, end = at;
    bool empty = false;
    put(k, W_TENSOR | t.ndim << 8 | (int64_t)t.device.id << 16 | (int64_t)t.dtype.code << 32 | (int64_t)t.dtype.bits << 40 | (int64_t)t.dtype.lanes << 48);
    put(k, (int64_t)(at & 15) | (int64_t)(at == 0) << 8);
    for (int i = 0; i < t.ndim; i++) {
        if (!put(k, t.shape[i]) || !put(k, t.strides[i])) return false;
        end += (uint64_t)((t.shape[i] - 1) * t.strides[i]) * bytes;
        empty |= !t.shape[i];
    }
    k->leaf[k->n_leaves].low = at;
    k->leaf[k->n_leaves].high = empty ? at : end + (bytes ? bytes : 1);
    k->leaf[k->n_leaves++].object = x;
    return put_overlaps(k);
}

static bool put_text(struct key *k, PyObject *x, enum word kind)
{
    Py_ssize_t n = 0;
    const char *at = PyUnicode_AsUTF8AndSize(x, &n);
    if (!at) return PyErr_Clear(), false;
    if (n > 8 * WORDS || !put(k, kind | (int64_t)n << 8)) return false;
    for (; n > 0; n -= 8, at += 8) {
        int64_t word = 0;
        memcpy(&word, at, n < 8 ? (size_t)n : 8);
        if (!put(k, word)) return false;
    }
    return true;
}

static bool put_any(struct key *k, PyObject *x, int depth);

static bool put_sequence(struct key *k, PyObject *x, int depth)
{
    bool tuple = PyTuple_Check(x);
    Py_ssize_t n = tuple ? PyTuple_Size(x) : PyList_Size(x);
    if (depth == NESTED || !put(k, W_SEQUENCE | (int64_t)tuple << 8 | (int64_t)n << 16)) return false;
    for (Py_ssize_t i = 0; i < n; i++)
        if (!put_any(k, tuple ? PyTuple_GetItem(x, i) : PyList_GetItem(x, i), depth + 1)) return false;
    return true;
}

static bool put_int(struct key *k, PyObject *x)
{
    long long v = PyLong_AsLongLong(x);
    if (v == -1 && PyErr_Occurred()) return PyErr_Clear(), false;
    return put(k, W_INT | (int64_t)PyBool_Check(x) << 8) && put(k, v);
}

/* torch.dtype, whose objects are equal only to themselves; NULL without torch. */
static PyObject *dtype_type(void)
{
    static PyObject *found;
    PyObject *name = found ? NULL : PyUnicode_FromString("torch"), *torch = name ? PyImport_GetModule(name) : NULL;
    if (torch) found = PyObject_GetAttrString(torch, "dtype");
    PyErr_Clear();
    Py_XDECREF(torch);
    Py_XDECREF(name);
    return found;
}

static bool put_any(struct key *k, PyObject *x, int depth)
{
    const struct dl_exchange *table;
    double real;
    int64_t bits;
    if (x == Py_None) return put(k, W_NONE);
    if (PyLong_Check(x)) return put_int(k, x);
    if (PyTuple_Check(x) || PyList_Check(x)) return put_sequence(k, x, depth);
    if (PyUnicode_Check(x)) return put_text(k, x, W_TEXT);
    if (PyFloat_Check(x)) return real = PyFloat_AsDouble(x), memcpy(&bits, &real, 8), put(k, W_REAL) && put(k, bits);
    if ((PyObject *)Py_TYPE(x) == dtype_type()) return put(k, W_TYPE) && put(k, (int64_t)(intptr_t)x);
    return (table = exchange_of(x)) && put_tensor(k, x, table);
}

static bool make_key(struct key *k, PyObject *args, PyObject *named)
{
    PyObject *name, *x;
    Py_ssize_t at = 0;
    k->n = k->n_leaves = 0;
    if (!put_sequence(k, args, 0)) return false;
    while (named && PyDict_Next(named, &at, &name, &x))
        if (!put_text(k, name, W_NAME) || !put_any(k, x, 1)) return false;
    return k->n_leaves > 0;
}

static uint64_t hash_of(const struct key *k)
{
    uint64_t h = 0x9e3779b97f4a7c15u;
    for (int i = 0; i < k->n; i++) h = (h ^ (uint64_t)k->words[i]) * 0xff51afd7ed558ccdu, h ^= h >> 32;
    return h;
}

/* ---- recipes ------------------------------------------------------------------------------------------------- */

struct step {
    PyObject *make, *args, *named;   /* a tensor is made: make(*args, **named); or, where make is NULL, a kernel launched */
    PyObject *quickly, *quick_args;  /* the same in less time, but perhaps on another device; NULL: there is no such function */
    dgk_kernel *kernel;
    int device, n_values, n_places;
    dgk_value values[SLOTS];
    dgk_tensor *tensors;
    struct place {
        int slot, source; /* source: the argument it lies in, or LEAVES + the number of a tensor made before; -1: it has no memory */
        int64_t offset;   /* bytes */
    } places[SLOTS];
};

struct recipe {
    struct recipe *next;
    uint64_t hash;
    int64_t *words;
    int n_words, users, n_steps;
    int result; /* as place.source; -1: None */
    bool known; /* there are steps; else such calls go through Python */
    bool dead;  /* forgotten; the last user frees it */
    struct step *steps;
    PyObject *owner; /* what the steps borrow from */
};

typedef struct {
    PyObject_HEAD
    PyObject *function;
    int generation, n;
    struct recipe *buckets[BUCKETS];
} Recorded;

static void recipe_free(struct recipe *r)
{
    if (!r) return;
    for (int i = 0; i < r->n_steps; i++) PyMem_Free(r->steps[i].tensors);
    Py_XDECREF(r->owner);
    PyMem_Free(r->steps);
    PyMem_Free(r->words);
    PyMem_Free(r);
}

static void forget_all(Recorded *f)
{
    f->n = 0;
    for (int i = 0; i < BUCKETS; i++)
        for (struct recipe *r = f->buckets[i], *next; r; r = next) {
            next = r->next;
            r->dead = true;
            if (!r->users) recipe_free(r);
        }
    memset(f->buckets, 0, sizeof f->buckets);
}

static struct recipe *find(Recorded *f, const struct key *k, uint64_t h)
{
    for (struct recipe *r = f->buckets[h % BUCKETS]; r; r = r->next)
        if (r->hash == h && r->n_words == k->n && !memcmp(r->words, k->words, sizeof *k->words * (size_t)k->n)) return r;
    return NULL;
}

/* ---- recipes from Python ------------------------------------------------------------------------------------- */

/* (kernel, device, values, tensors, ((slot, source, offset), …)): values and tensors are the bytes of such arrays. */
static bool read_launch(struct step *s, PyObject *from)
{
    unsigned long long kernel;
    const char *values, *tensors;
    Py_ssize_t value_bytes, tensor_bytes;
    PyObject *places;
    if (!PyArg_ParseTuple(from, "Kiy#y#O!", &kernel, &s->device, &values, &value_bytes, &tensors, &tensor_bytes, &PyTuple_Type, &places)) return false;
    s->kernel = (dgk_kernel *)(uintptr_t)kernel;
    s->n_values = (int)(value_bytes / (Py_ssize_t)sizeof(dgk_value));
    s->n_places = (int)PyTuple_Size(places);
    if (s->n_values > SLOTS || s->n_places > SLOTS || tensor_bytes != s->n_places * (Py_ssize_t)sizeof(dgk_tensor)) return false;
    memcpy(s->values, values, (size_t)value_bytes);
    if (!(s->tensors = PyMem_Malloc((size_t)tensor_bytes + 1))) return false;
    memcpy(s->tensors, tensors, (size_t)tensor_bytes);
    for (int i = 0; i < s->n_places; i++) {
        struct place *p = &s->places[i];
        long long offset;
        if (!PyArg_ParseTuple(PyTuple_GetItem(places, i), "iiL", &p->slot, &p->source, &offset)) return false;
        p->offset = offset;
        if (p->slot < 0 || p->slot >= s->n_values || p->source >= LEAVES + MADE) return false;
    }
    return true;
}

/* (device, make, args, named, quickly, args), or a launch. */
static bool read_step(struct step *s, PyObject *from)
{
    if (PyTuple_Size(from) != 6) return read_launch(s, from);
    if (!PyArg_ParseTuple(from, "iOOOOO", &s->device, &s->make, &s->args, &s->named, &s->quickly, &s->quick_args)) return false;
    if (s->quickly == Py_None) s->quickly = NULL;
    return true;
}

static bool read_recipe(struct recipe *r, PyObject *from)
{
    PyObject *steps;
    if (from == Py_None) return true;
    if (!PyArg_ParseTuple(from, "O!i", &PyTuple_Type, &steps, &r->result)) return false;
    int n = (int)PyTuple_Size(steps);
    Py_INCREF(from);
    r->owner = from;
    r->known = true;
    if (!(r->steps = PyMem_Calloc((size_t)n + 1, sizeof *r->steps))) return false;
    for (; r->n_steps < n; r->n_steps++)
        if (!read_step(&r->steps[r->n_steps], PyTuple_GetItem(steps, r->n_steps))) return PyMem_Free(r->steps[r->n_steps].tensors), false;
    return true;
}

static void keep(Recorded *f, const struct key *k, uint64_t h, PyObject *from)
{
    struct recipe *r = PyMem_Calloc(1, sizeof *r);
    if (r) r->words = PyMem_Malloc(sizeof *k->words * (size_t)k->n);
    if (!r || !r->words || !read_recipe(r, from)) {
        PyErr_Clear();
        recipe_free(r);
        return;
    }
    if (f->n++ >= RECIPES_MAX) forget_all(f);
    memcpy(r->words, k->words, sizeof *k->words * (size_t)k->n);
    r->n_words = k->n;
    r->hash = h;
    r->next = f->buckets[h % BUCKETS];
    f->buckets[h % BUCKETS] = r;
}

/* ---- replaying ----------------------------------------------------------------------------------------------- */

struct run {
    uint64_t at[LEAVES + MADE];
    PyObject *made[MADE];
    int n_made;
    const struct dl_exchange *table;
};

/* x, where it lies on the step's device; else it goes. */
static PyObject *there(PyObject *x, const struct step *s, struct dl_tensor *t)
{
    const struct dl_exchange *table = x ? exchange_of(x) : NULL;
    if (table && !table->view(x, t) && t->device.type == DL_CUDA && t->device.id == s->device) return x;
    if (x && !PyErr_Occurred()) PyErr_SetString(PyExc_RuntimeError, "a new tensor has no memory that a kernel could use");
    Py_XDECREF(x);
    return NULL;
}

/* What went wrong the quick way is not tried again. */
static bool run_make(struct run *u, struct step *s)
{
    struct dl_tensor t;
    PyObject *x = s->quickly ? there(PyObject_Call(s->quickly, s->quick_args, NULL), s, &t) : NULL;
    if (!x) PyErr_Clear(), s->quickly = NULL, x = there(PyObject_Call(s->make, s->args, s->named), s, &t);
    if (!x) return false;
    u->at[LEAVES + u->n_made] = (uint64_t)(uintptr_t)t.data + t.byte_offset;
    u->made[u->n_made++] = x;
    return true;
}

static bool run_launch(struct run *u, const struct step *s)
{
    dgk_value values[SLOTS];
    dgk_tensor tensors[SLOTS];
    void *stream = NULL;
    int status;
    memcpy(values, s->values, sizeof *values * (size_t)s->n_values);
    memcpy(tensors, s->tensors, sizeof *tensors * (size_t)s->n_places);
    for (int i = 0; i < s->n_places; i++) {
        const struct place *p = &s->places[i];
        tensors[i].data = p->source < 0 ? 0 : u->at[p->source] + (uint64_t)p->offset;
        values[p->slot].tensor = &tensors[i];
    }
    if (u->table->stream(DL_CUDA, s->device, &stream)) return false;
    Py_BEGIN_ALLOW_THREADS
    status = lib.call(s->kernel, values, s->n_values, stream);
    Py_END_ALLOW_THREADS
    if (status) fail(status);
    return !status;
}

static PyObject *replay(struct recipe *r, const struct key *k)
{
    struct run u = { .n_made = 0, .table = exchange_of(k->leaf[0].object) };
    PyObject *result = NULL;
    bool ok = true;
    for (int i = 0; i < k->n_leaves; i++) u.at[i] = k->leaf[i].low;
    r->users++;
    for (int i = 0; i < r->n_steps && ok; i++) ok = r->steps[i].make ? run_make(&u, &r->steps[i]) : run_launch(&u, &r->steps[i]);
    if (ok) {
        result = r->result < 0 ? Py_None : r->result < LEAVES ? k->leaf[r->result].object : u.made[r->result - LEAVES];
        Py_INCREF(result);
    }
    for (int i = 0; i < u.n_made; i++) Py_DECREF(u.made[i]);
    if (!--r->users && r->dead) recipe_free(r);
    return result;
}

/* ---- the type ------------------------------------------------------------------------------------------------ */

static PyObject *record_name;

/* self._record(leaves, args, named) gives the result and a recipe, or None where there is none. */
static PyObject *record(Recorded *f, const struct key *k, uint64_t h, PyObject *args, PyObject *named)
{
    PyObject *leaves = PyTuple_New(k->n_leaves), *both, *result = NULL;
    if (!leaves) return NULL;
    for (int i = 0; i < k->n_leaves; i++) {
        Py_INCREF(k->leaf[i].object);
        PyTuple_SetItem(leaves, i, k->leaf[i].object);
    }
    both = PyObject_CallMethodObjArgs((PyObject *)f, record_name, leaves, args, named ? named : Py_None, NULL);
    Py_DECREF(leaves);
    if (both && PyTuple_Check(both) && PyTuple_Size(both) == 2) {
        result = PyTuple_GetItem(both, 0);
        Py_INCREF(result);
        keep(f, k, h, PyTuple_GetItem(both, 1));
    }
    Py_XDECREF(both);
    return result;
}

static PyObject *recorded_call(PyObject *self, PyObject *args, PyObject *named)
{
    Recorded *f = (Recorded *)self;
    struct key k;
    if (!f->function) return PyErr_SetString(PyExc_RuntimeError, "a recorded function without its function"), NULL;
    if (lib.recordings || !make_key(&k, args, named)) return PyObject_Call(f->function, args, named);
    if (f->generation != lib.generation) forget_all(f), f->generation = lib.generation;
    uint64_t h = hash_of(&k);
    struct recipe *r = find(f, &k, h);
    if (!r) return record(f, &k, h, args, named);
    return r->known ? replay(r, &k) : PyObject_Call(f->function, args, named);
}

/* _of(function): the function that is recorded. */
static PyObject *recorded_of(PyObject *self, PyObject *function)
{
    Recorded *f = (Recorded *)self;
    Py_INCREF(function);
    Py_XDECREF(f->function);
    f->function = function;
    Py_RETURN_NONE;
}

static void recorded_dealloc(PyObject *self)
{
    Recorded *f = (Recorded *)self;
    PyTypeObject *type = Py_TYPE(self);
    forget_all(f);
    Py_XDECREF(f->function);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef recorded_methods[] = {
    { "_of", recorded_of, METH_O, "_of(function)" },
    { NULL, NULL, 0, NULL },
};
static PyType_Slot recorded_slots[] = {
    { Py_tp_call, (void *)recorded_call },
    { Py_tp_dealloc, (void *)recorded_dealloc },
    { Py_tp_methods, recorded_methods },
    { 0, NULL },
};
PyType_Spec recorded_spec = { "dgk._fast.Recorded", sizeof(Recorded), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, recorded_slots };

bool record_init(void) { return (record_name = PyUnicode_InternFromString("_record")) != NULL; }
