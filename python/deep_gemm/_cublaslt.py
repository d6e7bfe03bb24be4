"""cuBLASLt through its C interface, found where torch or the system has it."""

import ctypes as C
import functools

from ._common import device_of, get_num_sms, require, torch
from ._gemm import _accumulates

R_32F, R_16F, R_16BF, R_8F_E4M3 = 0, 2, 14, 28
COMPUTE_32F_FAST_TF32 = 77
DESC_TRANSA, DESC_TRANSB, DESC_SM_COUNT_TARGET = 3, 4, 15
PREF_MAX_WORKSPACE = 1
OP_N, OP_T = 0, 1
WORKSPACE_BYTES = 32 << 20
TYPES = {"float32": R_32F, "float16": R_16F, "bfloat16": R_16BF, "float8_e4m3fn": R_8F_E4M3}


class _Algo(C.Structure):
    _fields_ = [("data", C.c_uint64 * 8)]


class _Heuristic(C.Structure):
    _fields_ = [("algo", _Algo), ("workspace", C.c_size_t), ("state", C.c_int), ("waves", C.c_float), ("reserved", C.c_int * 4)]


@functools.lru_cache(maxsize=1)
def _library():
    for name in ("libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"):
        try:
            return C.CDLL(name)
        except OSError:
            continue
    raise NotImplementedError("cublaslt_gemm: libcublasLt.so is not on this machine; bf16_gemm_nt is the nearest alternative")


def _call(name, *args):
    status = getattr(_library(), name)(*args)
    require(status == 0, f"{name} returned {status}")


@functools.lru_cache(maxsize=None)
def _handle(device):
    h = C.c_void_p()
    _call("cublasLtCreate", C.byref(h))
    return h


@functools.lru_cache(maxsize=None)
def _workspace(device):
    return torch().empty(WORKSPACE_BYTES, dtype=torch().uint8, device=device)


def _layout(kind, rows, columns, leading):
    p = C.c_void_p()
    _call("cublasLtMatrixLayoutCreate", C.byref(p), C.c_int(kind), C.c_uint64(rows), C.c_uint64(columns), C.c_int64(leading))
    return p


@functools.lru_cache(maxsize=4096)
def _plan(device, sms, m, n, k, types, transposed, leading, beta):
    """Descriptor, layouts and algorithm of D^T[n, m] = op(B) op(A), column-major."""
    desc, pref = C.c_void_p(), C.c_void_p()
    _call("cublasLtMatmulDescCreate", C.byref(desc), C.c_int(COMPUTE_32F_FAST_TF32), C.c_int(R_32F))
    for what, value in ((DESC_TRANSA, transposed[0]), (DESC_TRANSB, transposed[1]), (DESC_SM_COUNT_TARGET, sms)):
        v = C.c_int32(value)
        _call("cublasLtMatmulDescSetAttribute", desc, C.c_int(what), C.byref(v), C.c_size_t(4))
    layouts = (_layout(types[1], *((k, n) if transposed[0] else (n, k)), leading[1]), _layout(types[0], *((m, k) if transposed[1] else (k, m)), leading[0]),
               _layout(types[2], n, m, leading[2]))
    _call("cublasLtMatmulPreferenceCreate", C.byref(pref))
    size = C.c_size_t(WORKSPACE_BYTES)
    _call("cublasLtMatmulPreferenceSetAttribute", pref, C.c_int(PREF_MAX_WORKSPACE), C.byref(size), C.c_size_t(8))
    best, found = _Heuristic(), C.c_int()
    _call("cublasLtMatmulAlgoGetHeuristic", _handle(device), desc, layouts[0], layouts[1], layouts[2], layouts[2], pref, C.c_int(1), C.byref(best),
          C.byref(found))
    require(found.value == 1, "cuBLASLt knows no algorithm for these matrices")
    return desc, layouts, best.algo


def _major(x):
    """(whether the last dimension is contiguous, the other's stride)"""
    if x.stride(1) == 1 or x.shape[1] == 1:
        return True, max(x.stride(0), x.shape[1])
    require(x.stride(0) == 1, "one of two strides is 1")
    return False, x.stride(1)


def cublaslt_gemm_nt(a, b, d, c=None):
    m, k = a.shape
    n = b.shape[0]
    acc = _accumulates(m, n, k, d, c)
    if acc is None:
        return
    device = device_of(a)
    require(device.startswith("cuda"), "cuBLASLt needs a GPU")
    (a_rows, lda), (b_rows, ldb), (_, ldd) = _major(a), _major(b), _major(d)
    types = tuple(TYPES[str(x.dtype).rpartition(".")[2]] for x in (a, b, d))
    with torch().cuda.device(a.device):
        desc, layouts, algo = _plan(device, get_num_sms(), m, n, k, types, (OP_T if b_rows else OP_N, OP_N if a_rows else OP_T), (lda, ldb, ldd), acc)
        alpha, beta, space = C.c_float(1), C.c_float(acc), _workspace(device)
        stream = torch().cuda.current_stream().cuda_stream
        _call("cublasLtMatmul", _handle(device), desc, C.byref(alpha), C.c_void_p(b.data_ptr()), layouts[0], C.c_void_p(a.data_ptr()), layouts[1],
              C.byref(beta), C.c_void_p(d.data_ptr()), layouts[2], C.c_void_p(d.data_ptr()), layouts[2], C.byref(algo), C.c_void_p(space.data_ptr()),
              C.c_size_t(WORKSPACE_BYTES), C.c_void_p(stream))


def cublaslt_gemm_nn(a, b, d, c=None):
    cublaslt_gemm_nt(a, b.transpose(0, 1), d, c)


def cublaslt_gemm_tn(a, b, d, c=None):
    cublaslt_gemm_nt(a.transpose(0, 1), b.transpose(0, 1), d, c)


def cublaslt_gemm_tt(a, b, d, c=None):
    cublaslt_gemm_nt(a.transpose(0, 1), b, d, c)
