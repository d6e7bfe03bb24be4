"""Kernels as torch operators stay in the graph of torch.compile, and say what they write."""

from programs import ROOT, run

PROGRAM = r'''
import sys
sys.path.insert(0, sys.argv[1] + "/python")
try:
    import torch
    torch.library.opcheck
except (ImportError, AttributeError):
    print("skip: needs torch")
    raise SystemExit
import dgk
from dgk import torch_ops
torch_ops.register_deep_gemm()
copy = torch_ops.register("mine::copy", dgk.kernel("01_copy.dgk"))
x = torch.randn(16, 32)
torch.library.opcheck(torch.ops.mine.copy.default, (x, torch.empty_like(x)))

def f(a, b, x):
    d, y = a.new_empty((a.shape[0], b.shape[0])), torch.empty_like(x)
    torch.ops.dgk.bf16_gemm_nt(a * 2, b, d)
    copy(x, y)
    return d.relu().float().sum() + y

def logits(q, k, s, w, first, last):
    return torch.ops.dgk.fp8_mqa_logits(q, k, s, w, first, last) + 1

def paged(q, cache, w, lens, table, who):
    meta = torch.ops.dgk.get_paged_mqa_logits_metadata(lens, 64, 132, who)
    return torch.ops.dgk.fp8_paged_mqa_logits(q, cache, w, lens, table, meta, 64, who)[:, :3] + 1

a, b = torch.randn(16, 64, dtype=torch.bfloat16), torch.randn(8, 64, dtype=torch.bfloat16)
byte = lambda *s: torch.randn(s).to(torch.float8_e4m3fn)
word = lambda v: torch.full((4,), v, dtype=torch.int32)
for function, args in ((f, (a, b, x)), (logits, (byte(4, 32, 64), byte(128, 64), torch.rand(128), torch.rand(4, 32), word(3), word(100))),
                       (paged, (byte(4, 1, 32, 64), torch.zeros((4, 64, 1, 68), dtype=torch.uint8), torch.rand(4, 32), word(3).view(4, 1), word(1).view(4, 1), word(7)))):
    torch._dynamo.reset()
    got = torch.compile(function, fullgraph=True, backend="aot_eager")(*args)
    assert torch.equal(got, function(*args)), function
print("ok")
'''


def test_operators_in_a_graph():
    env = {"DGC_DEVICE": "emu:sm_90a", "PYTHONPATH": str(ROOT / "python")}
    assert run("-c", PROGRAM, str(ROOT), **env).endswith("ok\n")
    assert "largest difference" in run(str(ROOT / "examples/python/compiled.py"), **env)
