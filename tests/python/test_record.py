"""Recorded functions: replayed calls launch what the function itself would, on the tensors of that call, and only where nothing but
their memory has changed. On a driver that runs nothing, with tensors of the host that pass for a GPU's; the library's calls are
taken down instead of made."""

from programs import run_on_no_driver

PROGRAM = r'''
import ctypes as C, sys
sys.path.insert(0, sys.argv[1] + "/python")
try:
    import torch
    torch.Tensor.__dlpack_c_exchange_api__
except (ImportError, AttributeError):
    print("skip: needs torch with an exchange table of DLPack")
    raise SystemExit
import dgk
from dgk import _kernel, _native as N, _record, _tensor
assert N.fast, "the extension was not built"

# ---- torch's exchange table, saying that every tensor lies on cuda:0, but those that are astray ------------------
astray = []
class Table(C.Structure):
    _fields_ = [("version", C.c_uint32 * 2), ("previous", C.c_void_p), ("other", C.c_void_p * 3), ("view", C.c_void_p), ("stream", C.c_void_p)]
get, new = C.pythonapi.PyCapsule_GetPointer, C.pythonapi.PyCapsule_New
get.restype, get.argtypes = C.c_void_p, [C.py_object, C.c_char_p]
new.restype, new.argtypes = C.py_object, [C.c_void_p, C.c_void_p, C.c_void_p]
NAME = C.create_string_buffer(b"dlpack_exchange_api")
VIEW, STREAM = C.PYFUNCTYPE(C.c_int, C.py_object, C.c_void_p), C.PYFUNCTYPE(C.c_int, C.c_int32, C.c_int32, C.POINTER(C.c_void_p))
inner_view = VIEW(Table.from_address(get(torch.Tensor.__dlpack_c_exchange_api__, NAME.value)).view)
def view(x, out):
    status = inner_view(x, out)
    C.c_int32.from_address(out + 8).value = 2
    C.c_int32.from_address(out + 12).value = int(any(x is t for t in astray))
    return status
def stream(kind, device, out):
    out[0] = 0x55
    return 0
view, stream = VIEW(view), STREAM(stream)
table = Table((1, 3), None, (None, None, None), C.cast(view, C.c_void_p), C.cast(stream, C.c_void_p))
torch.Tensor.__dlpack_c_exchange_api__ = new(C.addressof(table), C.addressof(NAME), None)
of_torch = _tensor._of_torch
def on_cuda(t):
    out, _ = of_torch(t)
    out.place = N.DEVICE
    return out, "cuda:0"
_tensor._of_torch, _kernel.current_stream = on_cuda, lambda device: 0x55

# ---- launches, taken down -------------------------------------------------------------------------------------------
seen, refuse = [], [0]
def note(k, values, n, stream):
    parts = []
    for v in values[:n]:
        t = v.tensor.contents if v.tensor else None
        parts.append((t.data, t.type, t.rank, tuple(t.shape[:t.rank]), tuple(t.stride[:t.rank])) if t else (v.integer, v.real, v.given))
    seen.append((k, tuple(parts), stream))
    return refuse[0]
CALL = C.CFUNCTYPE(C.c_int, C.c_void_p, N.VALUES, C.c_int, C.c_void_p)
replayed = CALL(lambda k, values, n, stream: note(k, values, n, stream))
N.lib.dgk_call = lambda k, values, n, stream: note(k.value, values, n, stream)
address = {n: C.cast(getattr(N.lib, n), C.c_void_p).value for n in ("dgk_from_dlpack", "dgk_error", "dgk_status_name")}
N.fast.setup(N.Error, C.cast(replayed, C.c_void_p).value, *address.values())
import deep_gemm as dg

def launches(f, args, named):
    """What f launched, with the addresses of new tensors told by order, and what it gave back."""
    seen.clear()
    flat = [t for a in (*args, *named.values()) for t in (a if isinstance(a, tuple) else (a,)) if isinstance(t, torch.Tensor)]
    out = f(*args, **named)
    new, plain = {}, []
    for k, parts, stream in seen:
        row = []
        for p in parts:
            if len(p) == 5 and p[0] and not any(t.data_ptr() <= p[0] < t.data_ptr() + max(1, t.untyped_storage().nbytes()) for t in flat):
                p = (f"new {new.setdefault(p[0], len(new))}", *p[1:])
            row.append(p)
        plain.append((k, tuple(row), stream))
    is_new = isinstance(out, torch.Tensor) and new.get(out.data_ptr())
    return plain, out if out is None else (tuple(out.shape), out.stride(), out.dtype, is_new)

def same(name, make, times=3, recorded=True, **named):
    """make() gives the arguments, in new memory each time."""
    f, ran = getattr(dg, name), []
    f._of(lambda *args, **named: (ran.append(1), f.__wrapped__(*args, **named))[1])
    keep = [make() for _ in range(times)]
    launches(f, keep[0], named)
    for args in keep:
        got, want = launches(f, args, named), launches(f.__wrapped__, args, named)
        assert got == want, (name, got, want)
    assert not ran if recorded else len(ran) == times, name

half = lambda *s: torch.zeros(s, dtype=torch.bfloat16)
byte = lambda *s: torch.zeros(s, dtype=torch.float8_e4m3fn)
full = lambda *s: torch.zeros(s)
word = lambda *s: torch.zeros(s, dtype=torch.int32)
def accumulating():
    c = full(64, 128)
    return half(64, 512), half(128, 512), c, c
rows, blocks = (lambda: (byte(128, 512), full(128, 4))), (lambda: (byte(256, 512), full(2, 4)))
groups = lambda: (byte(2, 128, 512), full(2, 1, 4))

same("bf16_gemm_nt", lambda: (half(64, 512), half(128, 512), half(64, 128)))
same("bf16_gemm_nn", lambda: (half(64, 512), half(512, 128), half(64, 128)))
same("bf16_gemm_nt", accumulating)
same("bf16_gemm_nt", lambda: (half(64, 512), half(128, 512), full(64, 128), full(64, 128)), recorded=False)     # c is copied
same("bf16_gemm_nt", lambda: (half(64, 512)[:, :256], half(128, 512)[:, 256:], half(64, 128)))
same("fp8_gemm_nt", lambda: (rows(), blocks(), half(128, 256)))
same("fp8_gemm_nt", lambda: (rows(), (byte(256, 512), full(256, 4)), full(128, 256), None, (1, 1, 128)))
same("fp8_gemm_nt", lambda: ((byte(128, 640), full(128, 5)), (byte(256, 640), full(2, 5)), half(128, 256)))
same("fp8_gemm_nt", lambda: ((byte(128, 512), full(4, 128).T), blocks(), half(128, 256)), recipe=(1, 128, 128))
same("fp8_gemm_nt_skip_head_mid", lambda: (rows(), blocks(), half(128, 320), (128, 64, 128)))
same("fp8_mqa_logits", lambda: (byte(16, 32, 64), (byte(256, 64), full(256)), full(16, 32), word(16), word(16)))
same("fp8_fp4_mqa_logits", lambda: ((byte(16, 32, 64), None), (byte(256, 64), full(256)), full(16, 32), word(16), word(16), False, 100), logits_dtype=torch.bfloat16)
same("get_paged_mqa_logits_metadata", lambda: (word(4, 1), 64, 132))
same("fp8_paged_mqa_logits", lambda: (byte(4, 1, 64, 128), torch.zeros((20, 64, 1, 132), dtype=torch.uint8), full(4, 64), word(4, 1), word(4, 5), word(133, 2), 300))
same("get_paged_mqa_logits_metadata", lambda: (word(4, 1), 64, 132, word(4)))
same("fp8_paged_mqa_logits", lambda: (byte(4, 1, 64, 128), torch.zeros((20, 64, 1, 132), dtype=torch.uint8), full(4, 64), word(4, 1), word(4, 5), word(133, 2), 300,
                                      False, word(4)))
same("get_mn_major_tma_aligned_tensor", lambda: (full(64, 4),))
same("get_mn_major_tma_aligned_tensor", lambda: (full(2, 65, 5),))
same("m_grouped_fp8_gemm_nt_masked", lambda: ((byte(2, 64, 512), full(2, 64, 4)), groups(), half(2, 64, 128), word(2), 4))
same("m_grouped_fp8_gemm_nt_masked", lambda: ((byte(2, 64, 512), full(2, 4, 64).transpose(1, 2)), groups(), half(2, 64, 128), word(2), 4))
same("m_grouped_bf16_gemm_nt_contiguous", lambda: (half(256, 64), half(2, 64, 64), half(256, 64), word(256)))
same("tf32_hc_prenorm_gemm", lambda: (half(16, 64), full(8, 64), full(16, 8), full(16)))
same("fp8_einsum", lambda: ("bhr,hdr->bhd", (byte(4, 2, 512), full(4, 2, 4)), groups(), half(4, 2, 128)))

def sliced():  # two arguments in one memory, and between them what another layout of the same shapes would put elsewhere
    both = torch.zeros(2 * 64 * 512, dtype=torch.bfloat16).view(2, 64, 512)
    return both[0], both[1], half(64, 64)
same("bf16_gemm_nt", sliced)
same("bf16_gemm_nt", lambda: (half(64, 512), half(64, 512), half(64, 64)))
x = half(64, 512)
same("bf16_gemm_nt", lambda: (x, x, half(64, 64)))
same("bf16_gemm_nt", lambda: (torch.nn.Parameter(half(64, 512)), half(128, 512), half(64, 128)))

# an argument that is returned, empty results, settings, more shapes than are kept
t = dg.get_mn_major_tma_aligned_tensor(full(64, 4))
assert dg.get_mn_major_tma_aligned_tensor(t) is t and dg.get_mn_major_tma_aligned_tensor(t) is t
for _ in range(3):
    launches(dg.bf16_gemm_nt, (half(0, 64), half(8, 64), half(0, 8)), {})
    assert not seen
who = word(2)
for alignment in (128, 64, 128):
    dg.set_mk_alignment_for_contiguous_layout(alignment)
    args = half(256, 64), half(2, 64, 64), half(256, 64), who
    for _ in range(3):
        plain, _ = launches(dg.m_grouped_bf16_gemm_nt_contiguous, args, dict(use_psum_layout=True))
        assert (alignment, float(alignment), 1) in plain[0][1], plain

# new tensors come from torch's quick function; from the usual one once that has made one on another device, or could not
from torch._C._dynamo import guards
usual, quick = torch.empty_strided, guards._empty_strided_cpu
def made_by(quickly):
    made, count = [], [0, 0]
    def counted(which, f):
        def call(*args, **named):
            count[which] += 1
            made.append(f(*args, **named))
            return made[-1]
        return call
    torch.empty_strided, guards._empty_strided_cpu = counted(0, usual), counted(1, quickly)
    _record._quick_empty.cache_clear()
    _record.forget()
    for _ in range(4):
        out = dg.get_paged_mqa_logits_metadata(word(4, 1), 64, 132)
    assert out is made[-1] and out.dtype == torch.int32 and tuple(out.shape) == (133, 2)
    return count
def far(*form):
    astray.append(quick(*form))
    return astray[-1]
def refused(*form):
    raise RuntimeError("no memory")
assert made_by(quick) == [0, 3] and made_by(far) == [3, 1] and len(astray) == 1 and made_by(refused) == [3, 1]
torch.empty_strided, guards._empty_strided_cpu = usual, quick
_record._quick_empty.cache_clear()
_record.forget()

dg.set_compile_mode(1)
args = half(64, 512), half(128, 512), half(64, 128)
launches(dg.bf16_gemm_nt, args, {})
assert not seen
dg.set_compile_mode(0)
launches(dg.bf16_gemm_nt, args, {})
assert len(seen) == 1
for n in range(8, 8 * 5000, 8):
    dg.get_paged_mqa_logits_metadata(word(1, 1), 64, n)
same("get_paged_mqa_logits_metadata", lambda: (word(1, 1), 64, 16))

# refusals come out as they do from Python, and leave nothing behind
for wrong in ((half(64, 512), half(128, 256), half(64, 128)), (half(64, 512), half(128, 512), half(64, 64)), (full(64, 512), half(128, 512), half(64, 128))):
    for _ in range(2):
        try:
            dg.bf16_gemm_nt(*wrong)
            raise SystemExit("not refused")
        except RuntimeError as e:
            assert "Assertion error (deep_gemm, " in str(e), e
refuse[0] = 3
for f in (dg.bf16_gemm_nt, lambda *a: dg.fp8_gemm_nt(rows(), blocks(), half(128, 256))):
    try:
        f(*args)
        raise SystemExit("not refused")
    except dgk.Error as e:
        assert e.status
refuse[0] = 0
assert _record.current() is None

import inspect, pickle, threading
assert list(inspect.signature(dg.bf16_gemm_nt).parameters) == ["a", "b", "d", "c", "compiled_dims"]
assert pickle.loads(pickle.dumps(dg.bf16_gemm_nt)) is dg.bf16_gemm_nt
def many():
    for i in range(300):
        dg.fp8_gemm_nt(rows(), blocks(), half(128, 256))
        dg.get_paged_mqa_logits_metadata(word(1, 1), 64, 8 * (i % 50 + 1))
        if i % 50 == 0:
            _record.forget()
threads = [threading.Thread(target=many) for _ in range(8)]
[t.start() for t in threads], [t.join() for t in threads]
print("ok")
'''


def test_replayed_calls(tmp_path):
    assert run_on_no_driver(PROGRAM, tmp_path, DGC_DEVICE="cuda:0").endswith("ok\n")
