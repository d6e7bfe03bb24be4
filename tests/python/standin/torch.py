"""A stand-in for torch where it is not installed: as much of its tensors as deep_gemm's functions use, on numpy, on the CPU.
Narrow floats are held as their bits; `float()` decodes them."""

import types

import numpy as np


class dtype:
    def __init__(self, name, kind):
        self.name, self.np = name, np.dtype(kind)

    def __repr__(self):
        return f"torch.{self.name}"

    __str__ = __repr__


float32, float16, bfloat16 = dtype("float32", "f4"), dtype("float16", "f2"), dtype("bfloat16", "u2")
float8_e4m3fn, int8, uint8, int32, int64 = (dtype(n, k) for n, k in
                                             (("float8_e4m3fn", "u1"), ("int8", "i1"), ("uint8", "u1"), ("int32", "i4"), ("int64", "i8")))
bool = dtype("bool", "?")
cpu = types.SimpleNamespace(type="cpu", index=None)


class cuda:
    @staticmethod
    def is_available():
        return False


def _e4m3(bits):
    bits = np.arange(256) if bits is None else bits
    e, f = (bits >> 3) & 15, bits & 7
    v = np.where(e == 0, f / 8 * 2.0 ** -6, (1 + f / 8) * 2.0 ** (e.astype(float) - 7))
    return np.where(bits & 128, -v, v)


E4M3 = _e4m3(None)
POSITIVE = E4M3[:127]


class Tensor:
    """array: a strided numpy view of elements in the dtype's own representation."""

    def __init__(self, array, kind):
        self.a, self.dtype, self.device = array, kind, cpu

    shape = property(lambda s: s.a.shape)
    T = property(lambda s: Tensor(s.a.T, s.dtype))

    def stride(self, d=None):
        all_ = tuple(s // self.a.itemsize for s in self.a.strides)
        return all_ if d is None else all_[d]

    def dim(self):
        return self.a.ndim

    def numel(self):
        return self.a.size

    def element_size(self):
        return self.a.itemsize

    def data_ptr(self):
        return self.a.__array_interface__["data"][0]

    def _root(self):
        """The contiguous array that owns the memory; numpy keeps stand-ins of its own between a strided view and it."""
        r = self.a
        while r.base is not None:
            up = r.base if isinstance(r.base, np.ndarray) else getattr(r.base, "keep", getattr(r.base, "base", None))
            if up is None:
                break
            r = up
        assert r.flags.c_contiguous or r.flags.f_contiguous
        return r

    def storage_offset(self):
        return (self.data_ptr() - self._root().__array_interface__["data"][0]) // self.a.itemsize

    def is_contiguous(self):
        return self.a.flags.c_contiguous

    def contiguous(self):
        return self if self.is_contiguous() else Tensor(np.ascontiguousarray(self.a), self.dtype)

    def transpose(self, i, j):
        return Tensor(self.a.swapaxes(i, j), self.dtype)

    def unsqueeze(self, d):
        return Tensor(np.expand_dims(self.a, d), self.dtype)

    def __getitem__(self, i):
        return Tensor(self.a[i], self.dtype)

    def as_strided(self, shape, stride, offset=None):
        root, size = self._root(), self.a.itemsize
        at = self.storage_offset() if offset is None else offset
        last = at + sum((n - 1) * s for n, s in zip(shape, stride)) + 1
        assert 0 in shape or last * size <= root.nbytes, "as_strided within its memory"
        start = root.__array_interface__["data"][0] + at * size
        return Tensor(np.asarray(_Memory(start, shape, [s * size for s in stride], self.a.dtype, root)), self.dtype)

    def view(self, *to):
        if isinstance(to[0], dtype):
            kind, size = to[0], self.a.itemsize
            assert self.stride(-1) == 1 or self.shape[-1] == 1, "the last dimension is contiguous"
            n = self.shape[-1] * size // kind.np.itemsize
            if size == kind.np.itemsize:
                return Tensor(self.a.view(kind.np), kind)
            holder = _Memory(self.data_ptr(), self.shape[:-1] + (n,), self.a.strides[:-1] + (kind.np.itemsize,), kind.np, self._root())
            return Tensor(np.asarray(holder), kind)
        shape = to[0] if isinstance(to[0], (tuple, list)) else to
        r = self.a.reshape(shape)
        assert r.size == 0 or np.shares_memory(r, self.a), "a view needs no copy"
        return Tensor(r, self.dtype)

    def reshape(self, *to):
        return Tensor(self.a.reshape(to[0] if isinstance(to[0], (tuple, list)) else to), self.dtype)

    def expand(self, *to):
        return Tensor(np.broadcast_to(self.a, to), self.dtype)

    def float(self):
        if self.dtype is float8_e4m3fn:
            return Tensor(E4M3[self.a].astype(np.float32), float32)
        if self.dtype is bfloat16:
            return Tensor((self.a.astype(np.uint32) << 16).view(np.float32), float32)
        return Tensor(self.a.astype(np.float32), float32)

    def to(self, kind):
        return Tensor(_encode(self.float().a if self.dtype in (float8_e4m3fn, bfloat16) else self.a, kind), kind)

    def copy_(self, x):
        self.a[...] = x.a if x.dtype is self.dtype else x.to(self.dtype).a
        return self

    def zero_(self):
        self.a[...] = 0
        return self

    def numpy(self):
        return self.float().a if self.dtype in (float8_e4m3fn, bfloat16) else self.a

    def tolist(self):
        return self.a.tolist()

    def index_select(self, d, index):
        return Tensor(np.take(self.a, index.a, axis=d), self.dtype)

    def _with(self, x, f):
        return Tensor(f(self.a, x.a if isinstance(x, Tensor) else x), self.dtype)

    def __rshift__(self, x):
        return self._with(x, np.right_shift)

    def __lshift__(self, x):
        return self._with(x, np.left_shift)

    def __and__(self, x):
        return self._with(x, np.bitwise_and)

    def __or__(self, x):
        return self._with(x, np.bitwise_or)

    def __floordiv__(self, x):
        return self._with(x, np.floor_divide)

    def __setitem__(self, i, x):
        self.a[i] = x.a if isinstance(x, Tensor) else x


class _Memory:
    """Memory seen as another type; `keep` owns it."""

    def __init__(self, address, shape, strides, kind, keep):
        self.keep = keep
        self.__array_interface__ = {"data": (address, False), "shape": tuple(shape), "strides": tuple(strides), "typestr": kind.str, "version": 3}


def _encode(x, kind):
    if kind is bfloat16:
        b = np.ascontiguousarray(x, np.float32).view(np.uint32)
        return ((b + 0x7fff + ((b >> 16) & 1)) >> 16).astype(np.uint16)
    if kind is float8_e4m3fn:
        x = np.clip(np.asarray(x, np.float64), -448, 448)
        i = np.searchsorted((POSITIVE[1:] + POSITIVE[:-1]) / 2, np.abs(x))
        return (i | (128 * (x < 0))).astype(np.uint8)
    return np.asarray(x).astype(kind.np)


def tensor(x, dtype=float32, device=None):
    return Tensor(_encode(x, dtype), dtype)


def empty(*shape, dtype=float32, device=None):
    shape = shape[0] if isinstance(shape[0], (tuple, list)) else shape
    return Tensor(np.full(shape, 123, dtype.np), dtype)


def zeros(*shape, dtype=float32, device=None):
    return empty(*shape, dtype=dtype).zero_()


def ones(*shape, dtype=float32, device=None):
    t = empty(*shape, dtype=dtype)
    t.a[...] = _encode(np.ones(()), dtype)
    return t


def empty_strided(shape, stride, dtype=float32, device=None):
    n = 1 + sum((s - 1) * t for s, t in zip(shape, stride))
    return Tensor(np.zeros(n, dtype.np), dtype).as_strided(shape, stride)


def arange(n, device=None):
    return Tensor(np.arange(n), int64)


def cat(parts, dim=0):
    return Tensor(np.concatenate([p.a for p in parts], dim), parts[0].dtype)
