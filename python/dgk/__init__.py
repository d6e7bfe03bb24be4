"""dgk - kernels written in a small tile language, on a GPU or on the emulator.

    gemm = dgk.kernel("bf16_gemm.dgk")
    gemm(A=a, B=b, D=d)
"""

import ctypes as _C

from . import _native
from ._kernel import Kernel, default_device, kernel, kernel_path
from ._native import Error

__version__ = _native.lib.dgk_version().decode()
__all__ = ["Error", "Kernel", "default_device", "device_info", "explain", "get_num_sms", "get_pdl", "kernel", "kernel_path", "set_num_sms", "set_pdl",
           "synchronize", "test"]


def device_info(device=None):
    """Name, architecture, target, multiprocessors and memory of "cuda:0", "emu:sm_90a", ..."""
    i = _native.Info()
    _native.lib.dgk_info(_native.context(device or default_device()), _C.byref(i))
    return {"name": i.name.decode(), "arch": i.arch.decode(), "target": i.target.decode(), "sms": i.sms, "emulated": bool(i.emulated),
            "memory_bytes": i.memory_bytes, "smem_bytes": i.smem_bytes}


def set_num_sms(n, device=None):
    """How many multiprocessors kernels with persistent grids may occupy; 0: all."""
    _native.check(_native.lib.dgk_set_sms(_native.context(device or default_device()), n))


def get_num_sms(device=None):
    return _native.lib.dgk_get_sms(_native.context(device or default_device()))


def set_pdl(on, device=None):
    """Whether a kernel may set itself up while the one before it in its stream still runs (programmatic dependent launch)."""
    _native.check(_native.lib.dgk_set_pdl(_native.context(device or default_device()), bool(on)))


def get_pdl(device=None):
    return bool(_native.lib.dgk_get_pdl(_native.context(device or default_device())))


def synchronize(device):
    _native.check(_native.lib.dgk_sync(_native.context(device)))


def test(path, name=None, cases=4, seed=1, **options):
    """Holds a kernel to its spec on random shapes and data; the report as text."""
    return Kernel(path, name, **options).test(cases, seed)


def explain(k, *args, **named):
    """What kernel `k` became for such a call."""
    return k.explain(*args, **named)
