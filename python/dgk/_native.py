"""libdgk through ctypes: structures and prototypes of runtime/dgk.h."""

import ctypes as C
import os
import pathlib
import threading

RANK = 8
HOST, DEVICE = 0, 1
TENSOR, SCALAR, PARAM, DIM = range(4)


class Error(RuntimeError):
    """A call that libdgk refused; `status` is its name, "BAD_SHAPE"."""

    def __init__(self, text, status):
        super().__init__(text)
        self.status = status


class Tensor(C.Structure):
    _fields_ = [("data", C.c_uint64), ("type", C.c_int32), ("place", C.c_int32), ("rank", C.c_int32), ("reserved", C.c_int32),
                ("shape", C.c_int64 * RANK), ("stride", C.c_int64 * RANK)]


class Value(C.Structure):
    _fields_ = [("tensor", C.POINTER(Tensor)), ("integer", C.c_int64), ("real", C.c_double), ("given", C.c_int32), ("reserved", C.c_int32)]


class Slot(C.Structure):
    _fields_ = [("name", C.c_char_p), ("kind", C.c_int32), ("writes", C.c_int32), ("type", C.c_int32), ("rank", C.c_int32)]


class Options(C.Structure):
    _fields_ = [("kernel", C.c_char_p), ("fixed", C.POINTER(C.c_char_p)), ("n_fixed", C.c_int), ("import_dirs", C.POINTER(C.c_char_p)),
                ("n_import_dirs", C.c_int), ("specialize", C.c_char_p), ("symbol", C.c_char_p)]


class Info(C.Structure):
    _fields_ = [("name", C.c_char * 128), ("arch", C.c_char * 16), ("target", C.c_char * 16), ("sms", C.c_int32), ("emulated", C.c_int32),
                ("memory_bytes", C.c_uint64), ("smem_bytes", C.c_uint64)]


class Counts(C.Structure):
    _fields_ = [(n, C.c_uint64) for n in ("calls", "prepared", "compiled", "from_cache", "encoded_maps")]


P, PP, S, I = C.c_void_p, C.POINTER(C.c_void_p), C.c_char_p, C.c_int
VALUES = C.POINTER(Value)
_PROTOTYPES = {
    "dgk_abi": (I, []), "dgk_version": (S, []), "dgk_error": (S, []), "dgk_status_name": (S, [I]),
    "dgk_open": (I, [PP, S]), "dgk_close": (None, [P]), "dgk_info": (None, [P, C.POINTER(Info)]),
    "dgk_set_sms": (I, [P, I]), "dgk_get_sms": (I, [P]), "dgk_set_pdl": (I, [P, I]), "dgk_get_pdl": (I, [P]), "dgk_sync": (I, [P]),
    "dgk_type": (I, [S]), "dgk_type_name": (S, [I]), "dgk_type_bits": (I, [I]), "dgk_from_dlpack": (I, [C.POINTER(Tensor), P]),
    "dgk_load": (I, [P, S, C.POINTER(Options), PP]), "dgk_load_text": (I, [P, S, S, C.c_size_t, C.POINTER(Options), PP]), "dgk_unload": (None, [P]),
    "dgk_slots": (I, [P]), "dgk_slot_at": (I, [P, I, C.POINTER(Slot)]),
    "dgk_call": (I, [P, VALUES, I, P]), "dgk_prepare": (I, [P, VALUES, I]), "dgk_shape": (I, [P, VALUES, I, I, C.POINTER(C.c_int64)]),
    "dgk_explain": (I, [P, VALUES, I, PP]), "dgk_check": (I, [P, VALUES, I, PP]), "dgk_test": (I, [P, I, C.c_uint64, PP]),
    "dgk_release": (None, [P]), "dgk_count": (None, [P, C.POINTER(Counts)]),
}


def _candidates():
    here = pathlib.Path(__file__).resolve().parent
    named = os.environ.get("DGK_LIBRARY")
    if named:
        yield named
        return
    yield str(here / "libdgk.so")
    yield str(here.parent.parent / "build" / "libdgk.so")
    yield "libdgk.so.0"


def _open():
    tried = []
    for path in _candidates():
        try:
            lib = C.CDLL(path)
        except OSError as e:
            tried.append(str(e))
            continue
        for name, (result, arguments) in _PROTOTYPES.items():
            f = getattr(lib, name)
            f.restype, f.argtypes = result, arguments
        if lib.dgk_abi() != 1:
            raise ImportError(f"{path} has ABI {lib.dgk_abi()}; this package needs 1")
        lib.path = path
        return lib
    raise ImportError("libdgk.so was not found; build it with make, or name it in $DGK_LIBRARY:\n" + "\n".join(tried))


lib = _open()


def check(status):
    if status:
        raise Error(lib.dgk_error().decode(errors="replace"), lib.dgk_status_name(status).decode())


def text_of(pointer):
    """The text a call left at `pointer`, which is freed."""
    text = C.cast(pointer, C.c_char_p).value or b""
    lib.dgk_release(pointer)
    return text.decode(errors="replace")


TYPES = {n: lib.dgk_type(n.encode()) for n in
         "bool i8 u8 i16 u16 i32 u32 i64 u64 f32 tf32 f16 bf16 e4m3 e5m2 e2m1 ue8m0 ue4m3".split()}
NAMES = {v: k for k, v in TYPES.items()}

# ---- the native call path, where it was built ------------------------------------------------------------------------


def _find_fast():
    """dgk._fast, beside this file or where make puts it; None: calls go through ctypes."""
    import importlib.util
    import sys
    here = pathlib.Path(__file__).resolve().parent
    for path in (here / "_fast.abi3.so", here.parent.parent / "build" / "_fast.abi3.so"):
        if os.environ.get("DGK_NO_EXTENSION") or not path.exists():
            continue
        spec = importlib.util.spec_from_file_location("dgk._fast", path)
        try:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        except ImportError:
            continue
        if module.ABI != 1:
            continue
        address = {n: C.cast(getattr(lib, n), C.c_void_p).value for n in ("dgk_call", "dgk_from_dlpack", "dgk_error", "dgk_status_name")}
        module.setup(Error, *address.values())
        sys.modules["dgk._fast"] = module
        return module
    return None


fast = _find_fast()

# ---- contexts: one a device and process ------------------------------------------------------------------------------

_contexts = {}
_lock = threading.Lock()


def _forget():
    """In a forked child: contexts of emulators still work, those of a GPU tell so when they are used."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)


def context(device):
    c = _contexts.get(device)
    if c is None:
        with _lock:
            c = _contexts.get(device)
            if c is None:
                c = C.c_void_p()
                check(lib.dgk_open(C.byref(c), device.encode()))
                _contexts[device] = c
    return c
