"""Functions whose calls are recorded: the first call of its kind runs in Python, later ones as one call of the native path.

    @recorded
    def gemm(a, b, d):
        ... checks, views, new tensors, kernels ...

A call is of the kind of an earlier one where its tensors have the same types, shapes, strides and devices and overlap alike, and
all other arguments are equal. What it did is replayed if it was nothing but views, new tensors without contents, and kernels;
any other operator of torch seen in it has such calls go through Python for ever. A function may read nothing else that changes:
who changes a setting calls `forget`."""

import ctypes as C
import functools
import sys
import threading

from . import _native as N

_now = threading.local()
LEAVES, MADE = 24, 8  # of _record.c


def current():
    """The recording of this thread; None: nothing is recorded."""
    return getattr(_now, "recording", None)


def forget():
    """Settings that recorded functions read have changed."""
    if N.fast:
        N.fast.forget()


def _range(t):
    """The first byte of a tensor and one past its last; None for one without elements."""
    if t.numel() == 0:
        return None
    last = sum((n - 1) * s for n, s in zip(t.shape, t.stride()))
    return t.data_ptr(), t.data_ptr() + (last + 1) * t.element_size()


@functools.lru_cache(maxsize=None)
def _quick_empty(kind):
    """empty_strided(shape, strides, dtype) as torch.compile's code calls it, on the current device of this kind; None: torch has no such function."""
    try:
        from torch._C._dynamo import guards
    except ImportError:
        return None
    return getattr(guards, f"_empty_strided_{kind}", None)


def _same(t, x):
    """A tensor comes back from an operator as another object."""
    return type(t) is type(x) and (t.data_ptr(), t.shape, t.stride(), t.dtype) == (x.data_ptr(), x.shape, x.stride(), x.dtype)


class Recording:
    """What one call does, as the steps of a recipe."""

    def __init__(self, leaves):
        self.leaves, self.made, self.steps, self.whole = leaves, [], [], True

    def give_up(self):
        self.whole = False

    def make(self, t):
        """A new tensor without contents; kept to the end, so that no other takes its place in memory."""
        torch, form = sys.modules["torch"], (tuple(t.shape), tuple(t.stride()))
        self.made.append(t)
        self.steps.append((t.device.index or 0, torch.empty_strided, form, {"dtype": t.dtype, "device": t.device}, _quick_empty(t.device.type), (*form, t.dtype)))

    def _source(self, address):
        for base, tensors in ((0, self.leaves), (LEAVES, self.made)):
            for i, t in enumerate(tensors):
                r = _range(t)
                if r and r[0] <= address < r[1]:
                    return base + i, address - r[0]
        return None

    def launch(self, loaded, values, device):
        """A kernel that was launched with `values` on the current stream of `device`."""
        places, tensors = [], (N.Tensor * max(len(values), 1))()
        for slot, v in enumerate(values):
            if not v.tensor:
                continue
            t = v.tensor.contents
            source = self._source(t.data) if t.data and 0 not in t.shape[:t.rank] else (-1, 0)
            if source is None or t.place != N.DEVICE:
                return self.give_up()
            tensors[len(places)] = t
            places.append((slot, *source))
        bytes_of = C.sizeof(N.Tensor) * len(places)
        self.steps.append((loaded.handle.value, int(device[5:]), bytes(values), bytes(tensors)[:bytes_of], tuple(places)))

    def result(self, out):
        """The number of what the call returned; None: it cannot be made again."""
        if out is None:
            return -1
        for base, tensors in ((0, self.leaves), (LEAVES, self.made)):
            for i, t in enumerate(tensors):
                if t is out or base and _same(t, out):
                    return base + i
        return None

    def recipe(self, out):
        number = self.result(out)
        if not self.whole or number is None or len(self.made) > MADE:
            return None
        return tuple(self.steps), number


@functools.lru_cache(maxsize=1)
def _watch():
    """A mode of torch that shows a recording every operator."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            out = op(*args, **(kwargs or {}))
            recording = current()
            name = op.name().partition(".")[0]
            if name in ("aten::empty", "aten::empty_strided", "aten::new_empty", "aten::new_empty_strided", "aten::empty_like"):
                recording.make(out)
            elif not op.is_view:
                recording.give_up()
            return out
    return Watch


class _Recorded(N.fast.Recorded if N.fast else object):
    def __init__(self, function):
        functools.update_wrapper(self, function)
        self._of(function)

    def _record(self, leaves, args, named):
        """(result, recipe): the call as Python makes it, and what it did."""
        _now.recording = recording = Recording(leaves)
        N.fast.recording(1)
        try:
            with _watch()():
                out = self.__wrapped__(*args, **(named or {}))
        finally:
            N.fast.recording(-1)
            _now.recording = None
        return out, recording.recipe(out)

    def __reduce__(self):
        return self.__qualname__

    def __repr__(self):
        return f"<recorded function {self.__module__}.{self.__qualname__}>"


def recorded(function):
    """`function`, its calls recorded where the native call path was built."""
    return _Recorded(function) if N.fast else function
