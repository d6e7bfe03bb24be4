#!/usr/bin/env python3
"""A variant of a kernel, from a file to a call that stays in torch.compile's graph: on a GPU, or on the CPU through the emulator.

    PYTHONPATH=python python3 examples/python/compiled.py"""

import pathlib
import tempfile
import torch

import dgk
from dgk import torch_ops
text = dgk.kernel_path("07_gemm_bias_gelu.dgk").read_text()
path = pathlib.Path(tempfile.mkdtemp()) / "gemm_bias_relu.dgk"  # a copy, with another function of the product
path.write_text(text.replace("fn gelu(x) { return 0.5 * x * (1.0 + tanh(0.7978845608 * (x + 0.044715 * x * x * x))); }", "fn gelu(x) { return max(x, 0.0); }"))
print(dgk.test(path, cases=1).strip().splitlines()[-1])  # it is held to its spec, which changed with it
gemm = torch_ops.register("mine::gemm_bias_relu", dgk.kernel(path))


@torch.compile(fullgraph=True, backend="aot_eager")
def layer(x, w, bias):
    y = x.new_empty((x.shape[0], w.shape[0]))
    gemm(x * 2, w, bias, y)
    return y + 1


device = "cuda" if torch.cuda.is_available() else "cpu"
x, w, bias = (torch.randn(s, device=device) for s in ((64, 128), (32, 128), (32,)))
y = layer(x.bfloat16(), w.bfloat16(), bias)
want = torch.relu(2 * x.bfloat16().float() @ w.bfloat16().float().T + bias) + 1
print("largest difference", (y - want).abs().max().item())
