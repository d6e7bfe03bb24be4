"""What a call may be given: torch tensors, numpy arrays, anything with DLPack; each described by a native Tensor."""

import ctypes as C
import sys

from ._native import DEVICE, HOST, RANK, TYPES, Tensor, check, lib

# names of dtypes as torch and numpy (ml_dtypes) write them
_BY_NAME = {
    "float32": "f32", "float16": "f16", "bfloat16": "bf16", "float8_e4m3fn": "e4m3", "float8_e5m2": "e5m2", "float8_e8m0fnu": "ue8m0",
    "int8": "i8", "uint8": "u8", "int16": "i16", "uint16": "u16", "int32": "i32", "uint32": "u32", "int64": "i64", "uint64": "u64",
    "bool": "bool", "float4_e2m1fn_x2": "u8", "float4_e2m1fn": "e2m1",
}
_torch_types = {}


def type_of(dtype):
    """The number of a torch or numpy dtype."""
    known = _torch_types.get(dtype)
    if known is None:
        name = str(dtype).rpartition(".")[2]
        if name not in _BY_NAME:
            raise TypeError(f"dgk has no type for {dtype}")
        known = _torch_types[dtype] = TYPES[_BY_NAME[name]]
    return known


def _of_torch(t):
    shape, stride, rank = t.shape, t.stride(), t.dim()
    if rank > RANK:
        raise TypeError(f"{rank} dimensions; at most {RANK} are possible")
    device = t.device
    out = Tensor(t.data_ptr(), type_of(t.dtype), DEVICE if device.type == "cuda" else HOST, rank)
    out.shape[:rank] = shape
    out.stride[:rank] = stride
    return out, f"cuda:{device.index}" if device.type == "cuda" else None


def _of_numpy(a):
    if a.dtype.byteorder == ">":
        raise TypeError("this array is big-endian")
    size = a.dtype.itemsize
    if any(s % size for s in a.strides):
        raise TypeError("a stride of this array is no multiple of its elements")
    out = Tensor(a.ctypes.data, type_of(a.dtype), HOST, a.ndim)
    out.shape[:a.ndim] = a.shape
    out.stride[:a.ndim] = [s // size for s in a.strides]
    return out, None


class _DLDevice(C.Structure):
    _fields_ = [("type", C.c_int32), ("id", C.c_int32)]


class _DLTensor(C.Structure):
    _fields_ = [("data", C.c_void_p), ("device", _DLDevice)]


C.pythonapi.PyCapsule_GetPointer.restype = C.c_void_p
C.pythonapi.PyCapsule_GetPointer.argtypes = [C.py_object, C.c_char_p]


def _of_dlpack(x):
    capsule = x.__dlpack__(stream=None) if x.__dlpack_device__()[0] == 2 else x.__dlpack__()
    p = C.pythonapi.PyCapsule_GetPointer(capsule, b"dltensor")
    out = Tensor()
    check(lib.dgk_from_dlpack(C.byref(out), p))
    dl = _DLTensor.from_address(p)
    out._keep = capsule
    return out, f"cuda:{dl.device.id}" if out.place == DEVICE else None


def describe(x):
    """(Tensor, device): device is "cuda:N", or None for memory of the host."""
    kind = type(x).__module__
    if kind == "numpy":
        return _of_numpy(x)
    if hasattr(x, "data_ptr") and hasattr(x, "stride"):
        return _of_torch(x)
    if hasattr(x, "__dlpack__"):
        return _of_dlpack(x)
    raise TypeError(f"a tensor is wanted (torch, numpy or DLPack), this is {type(x).__name__}")


def is_tensor(x):
    return hasattr(x, "data_ptr") or hasattr(x, "__dlpack__") or type(x).__module__ == "numpy" and hasattr(x, "ctypes")


def current_stream(device):
    """The stream that torch works on now, on "cuda:N"; 0 where torch is not in use."""
    torch = sys.modules.get("torch")
    if torch is None:
        return 0
    return torch._C._cuda_getCurrentRawStream(int(device[5:]))


def empty_like_of(x, shape, type_number):
    """A new array beside x: of its library, on its device."""
    if type(x).__module__ == "numpy":
        import numpy
        names = {TYPES[v]: k for k, v in _BY_NAME.items() if v != "u8"}
        names.update({TYPES["u8"]: "uint8", TYPES["bf16"]: "uint16", TYPES["e4m3"]: "uint8", TYPES["e5m2"]: "uint8", TYPES["ue8m0"]: "uint8"})
        return numpy.zeros(shape, dtype=names[type_number])
    import torch
    names = {TYPES[v]: k for k, v in _BY_NAME.items() if v != "u8"}
    names[TYPES["u8"]] = "uint8"
    return torch.empty(shape, dtype=getattr(torch, names[type_number]), device=x.device)
