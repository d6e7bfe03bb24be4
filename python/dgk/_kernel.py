"""Kernels as Python callables."""

import ctypes as C
import os
import pathlib
import threading

from . import _native as N
from . import _record
from ._tensor import current_stream, describe, empty_like_of, is_tensor

_HERE = pathlib.Path(__file__).resolve().parent
_KERNEL_DIRS = [pathlib.Path(d) for d in [os.environ.get("DGK_KERNELS")] if d] + [_HERE / "kernels", _HERE.parent.parent / "kernels_dsl"]


def default_device():
    """Where kernels run on memory of the host: $DGC_DEVICE, else the emulator."""
    return os.environ.get("DGC_DEVICE") or "emu:sm_90a"


def kernel_path(path):
    """`path` as it is, or among the kernels that come with dgk."""
    p = pathlib.Path(path)
    if p.exists() or p.is_absolute():
        return p
    for d in _KERNEL_DIRS:
        if (d / p).exists():
            return d / p
    return p


def _strings(items):
    a = (C.c_char_p * max(len(items), 1))()
    a[:len(items)] = [s.encode() for s in items]
    return a


class _Loaded:
    """One dgk_kernel: of one device, with one set of fixed values."""

    def __init__(self, owner, device, fixed):
        self.context = N.context(device)
        self.device = device
        self.handle = C.c_void_p()
        texts = [f"{k}={v}" for k, v in fixed]
        dirs = [str(d) for d in owner.import_dirs]
        o = N.Options(owner.name.encode() if owner.name else None, _strings(texts), len(texts), _strings(dirs), len(dirs),
                      owner.specialize.encode() if owner.specialize else None, owner.symbol.encode() if owner.symbol else None)
        if owner.text is not None:
            t = owner.text.encode()
            N.check(N.lib.dgk_load_text(self.context, owner.path.encode(), t, len(t), C.byref(o), C.byref(self.handle)))
        else:
            N.check(N.lib.dgk_load(self.context, owner.path.encode(), C.byref(o), C.byref(self.handle)))
        self.slots = []
        for i in range(N.lib.dgk_slots(self.handle)):
            s = N.Slot()
            N.check(N.lib.dgk_slot_at(self.handle, i, C.byref(s)))
            self.slots.append((s.name.decode(), s.kind, s.writes, s.type, s.rank))
        self.index = {s[0]: i for i, s in enumerate(self.slots)}
        self.n_arguments = sum(s[1] in (N.TENSOR, N.SCALAR) for s in self.slots)
        self.outputs = [i for i, s in enumerate(self.slots) if s[1] == N.TENSOR and s[2] == 1]


class _Plain:
    """Calls where the native call path was not built."""

    def __call__(self, *args, **named):
        return self._call(*args, **named)


class Kernel(N.fast.Callable if N.fast else _Plain):
    """A kernel of a .dgk file. Calling it launches it: `k(A=a, B=b, D=d)`, on the current stream of the tensors' device.

    Arguments are torch tensors, numpy arrays or anything with DLPack; scalars, integer parameters and dimensions are numbers;
    a parameter that is a type, and tune values, may be given as strings (`OUT="f32"`, `BM=128`). Outputs that are left out are
    allocated beside the first tensor and returned."""

    def __init__(self, path=None, name=None, *, text=None, device=None, import_dirs=(), specialize=None, symbol=None, **fixed):
        self.path = str(kernel_path(path)) if text is None else (path or "kernel.dgk")
        self.text, self.name, self.device = text, name, device
        self.import_dirs = [*import_dirs, *_KERNEL_DIRS]
        self.specialize, self.symbol = specialize, symbol
        self.fixed = tuple(sorted((k, _word(v)) for k, v in fixed.items()))
        self._loaded = {}
        self._lock = threading.Lock()

    def __repr__(self):
        return f"dgk.kernel({self.path!r}{f', {self.name!r}' if self.name else ''})"

    def _of(self, device, extra=()):
        key = (device, extra)
        k = self._loaded.get(key)
        if k is None:
            with self._lock:
                k = self._loaded.get(key)
                if k is None:
                    k = self._loaded[key] = _Loaded(self, device, tuple(dict(self.fixed + extra).items()))
                    if N.fast and not extra and device.startswith("cuda:"):
                        self._bind(int(device[5:]), k.handle.value, tuple(s[0] for s in k.slots), tuple(s[1] == N.TENSOR for s in k.slots))
        return k

    # ---- one call -----------------------------------------------------------------------------------------------

    def _values(self, args, named, allocate=True):
        """(loaded, values, device of the tensors or None, things to keep alive, outputs made here)"""
        tensors, device = {}, None
        extra = []
        for where, items in ((0, enumerate(args)), (1, named.items())):
            for key, x in items:
                if is_tensor(x):
                    t, d = describe(x)
                    if d:
                        if device and d != device:
                            raise ValueError(f"argument {key!r} is on {d}, another on {device}")
                        device = d
                    tensors[key] = t
                elif isinstance(x, str):
                    extra.append((key, x))
        k = self._of(self.device or device or default_device(), tuple(sorted(extra)))
        unknown = [n for n in named if n not in k.index and not isinstance(named[n], str)]
        if unknown:
            if any(is_tensor(named[n]) or isinstance(named[n], float) for n in unknown):
                raise TypeError(f"{self!r} has no argument {unknown[0]!r}; it has {', '.join(s[0] for s in k.slots)}")
            extra += [(n, _word(named[n])) for n in unknown]
            k = self._of(k.device, tuple(sorted(extra)))
        if len(args) > k.n_arguments:
            raise TypeError(f"{self!r} takes {k.n_arguments} arguments, {len(args)} were given")
        values = (N.Value * len(k.slots))()
        for where, items in ((0, enumerate(args)), (1, named.items())):
            for key, x in items:
                i = key if where == 0 else k.index.get(key)
                if i is None or isinstance(x, str) or x is None:
                    continue
                if where == 1 and i < len(args):
                    raise TypeError(f"argument {key!r} is given twice")
                v = values[i]
                v.given = 1
                if key in tensors:
                    v.tensor = C.pointer(tensors[key])
                else:
                    v.integer, v.real = int(x), float(x)
        made = {}
        missing = [i for i in k.outputs if not values[i].given] if allocate else []
        if missing:
            near = next((x for x in [*args, *named.values()] if is_tensor(x)), None)
            made = self._allocate(k, values, missing, near, dict(self.fixed + tuple(extra)))
            for i, x in made.items():
                tensors[f"+{i}"] = t = describe(x)[0]
                values[i].tensor, values[i].given = C.pointer(t), 1
        return k, values, device, tensors, made

    def _allocate(self, k, values, missing, near, fixed):
        made = {}
        for i in missing:
            name, _, _, number, rank = k.slots[i]
            shape = (C.c_int64 * N.RANK)()
            N.check(N.lib.dgk_shape(k.handle, values, len(k.slots), i, shape))
            if not number:
                words = [v for v in fixed.values() if v in N.TYPES]
                if len(words) != 1:
                    raise TypeError(f"output {name!r} has no type of its own: pass it, or fix the parameter that is its type")
                number = N.TYPES[words[0]]
            made[i] = empty_like_of(near, list(shape[:rank]), number)
        return made

    def _call(self, *args, stream=None, **named):
        k, values, device, keep, made = self._values(args, named)
        recording = _record.current()
        if recording is not None:
            recording.launch(k, values, device) if device and stream is None else recording.give_up()
        if stream is None:
            stream = current_stream(device) if device else 0
        N.check(N.lib.dgk_call(k.handle, values, len(k.slots), stream))
        out = list(made.values())
        return None if not out else out[0] if len(out) == 1 else tuple(out)

    def prepare(self, *args, **named):
        """Compiles what such a call needs; launches nothing."""
        k, values, *keep = self._values(args, named, allocate=False)
        if _record.current() is not None:
            _record.current().give_up()
        N.check(N.lib.dgk_prepare(k.handle, values, len(k.slots)))

    def check(self, *args, **named):
        """Runs the call on arrays of the host and holds the results to the kernel's spec; the report as text."""
        k, values, *keep = self._values(args, named)
        p = C.c_void_p()
        status = N.lib.dgk_check(k.handle, values, len(k.slots), C.byref(p))
        text = N.text_of(p)
        N.check(status)
        return text

    def explain(self, *args, **named):
        """What the kernel became for such a call."""
        k, values, *keep = self._values(args, named, allocate=False)
        p = C.c_void_p()
        N.check(N.lib.dgk_explain(k.handle, values, len(k.slots), C.byref(p)))
        return N.text_of(p)

    def test(self, cases=4, seed=1, device=None):
        """Random shapes and data against the kernel's spec; the report as text. Raises dgk.Error where they differ."""
        k = self._of(device or self.device or default_device())
        p = C.c_void_p()
        status = N.lib.dgk_test(k.handle, cases, seed, C.byref(p))
        if not status:
            return N.text_of(p)
        N.check(status)

    def counts(self, device=None):
        """How often it was called, bound, compiled, found in the cache: of all devices, or of one."""
        total = dict.fromkeys(("calls", "prepared", "compiled", "from_cache", "encoded_maps"), 0)
        for (d, _), k in self._loaded.items():
            c = N.Counts()
            N.lib.dgk_count(k.handle, C.byref(c))
            for n in total:
                total[n] += getattr(c, n) if device in (None, d) else 0
        return total


def _word(v):
    return ("1" if v else "0") if isinstance(v, bool) else str(v)


def kernel(path=None, name=None, **options):
    """The kernel `name` (default: the last) of a .dgk file, or of text=...; see Kernel."""
    return Kernel(path, name, **options)
