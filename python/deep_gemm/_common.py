"""What every function needs: kernels loaded once, the device of a tensor, assertions in the words callers know."""

import functools
import sys

import dgk
from dgk import _native
from dgk._record import forget


def torch():
    """torch, imported when it is first needed: this package loads without it and touches no device at import."""
    import torch as module
    return module


def require(condition, text):
    if not condition:
        raise RuntimeError(f"Assertion error (deep_gemm, {sys._getframe(1).f_code.co_name}): {text}")


def device_of(t):
    d = t.device
    return f"cuda:{d.index or 0}" if d.type == "cuda" else dgk.default_device()


@functools.lru_cache(maxsize=None)
def arch_major(device):
    return int(dgk.device_info(device)["arch"][3:]) // 10


@functools.lru_cache(maxsize=None)
def kernel(path, name=None, symbol=None, fixed=()):
    return dgk.kernel(path, name, symbol=symbol, **dict(fixed))


def ceil_div(x, y):
    return -(-x // y)


def align(x, y):
    return ceil_div(x, y) * y


@functools.lru_cache(maxsize=None)
def _name_of(dtype):
    return str(dtype).rpartition(".")[2]


def dtype_is(t, name):
    return _name_of(t.dtype) == name


def is_fp4(t):
    return dtype_is(t, "int8") or dtype_is(t, "float4_e2m1fn_x2")


# ---- settings ----------------------------------------------------------------------------------------------------------

class Settings:
    num_sms = 0
    tc_util = 0
    ignore_compile_dims = False
    block_multiple = (1, 1)
    mk_alignment = 128
    compile_mode = 0


settings = Settings()


def change(**values):
    """New settings: what was recorded under the old ones is forgotten."""
    for name, value in values.items():
        setattr(settings, name, value)
    forget()


def current_device():
    t = sys.modules.get("torch")
    if t is not None and t.cuda.is_available():
        return f"cuda:{t.cuda.current_device()}"
    return dgk.default_device()


def set_num_sms(new_num_sms):
    require(0 <= new_num_sms <= dgk.device_info(current_device())["sms"], "0 <= new_num_sms <= num_sms")
    dgk.set_num_sms(new_num_sms, current_device())
    change(num_sms=new_num_sms)


def get_num_sms():
    return dgk.get_num_sms(current_device())


def set_tc_util(new_tc_util):
    require(0 <= new_tc_util <= 100, "0 <= new_tc_util <= 100")
    change(tc_util=new_tc_util)


def get_tc_util():
    return settings.tc_util or 100


def set_pdl(new_enable_pdl):
    dgk.set_pdl(new_enable_pdl, current_device())


def get_pdl():
    return dgk.get_pdl(current_device())


def set_ignore_compile_dims(new_value):
    change(ignore_compile_dims=bool(new_value))


def set_block_size_multiple_of(new_value):
    m, n = (new_value, new_value) if isinstance(new_value, int) else new_value
    require(m > 0 and n > 0, "block sizes are positive")
    change(block_multiple=(m, n))


def set_mk_alignment_for_contiguous_layout(new_value):
    require(new_value > 0, "new_value > 0")
    change(mk_alignment=new_value)


def get_mk_alignment_for_contiguous_layout():
    return settings.mk_alignment


def get_theoretical_mk_alignment_for_contiguous_layout(expected_m=None, num_groups=None):
    if expected_m is not None and num_groups:
        expected_m = ceil_div(expected_m, num_groups)
    major = arch_major(current_device())
    if major == 12:
        return 64 if expected_m is not None and expected_m <= 64 else 128
    if major != 10:
        return 128
    return 224 if expected_m is None else next((a for a in range(32, 224, 32) if a >= expected_m), 224)


get_m_alignment_for_contiguous_layout = get_k_alignment_for_contiguous_layout = get_mk_alignment_for_contiguous_layout


def set_compile_mode(mode):
    """1: calls compile what they need and launch nothing."""
    change(compile_mode=mode)


def get_compile_mode():
    return settings.compile_mode


def init(library_root_path=None, cuda_home=None):
    """Kept for callers that initialise by hand: nothing is needed here."""


def launch(k, **named):
    for name, x in named.items():
        if x is None:
            raise TypeError(f"{k!r}: argument {name!r} is None")
    if settings.compile_mode:
        return k.prepare(**named)
    return k(**named)


Error = _native.Error
