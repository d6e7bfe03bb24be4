#!/usr/bin/env python3
"""A GEMM on torch tensors: on a GPU, or on the CPU through the emulator.

    PYTHONPATH=python python3 examples/python/gemm_torch.py"""

import torch

import dgk

device = "cuda" if torch.cuda.is_available() else "cpu"
a, b = (torch.randn(shape, dtype=torch.bfloat16, device=device) for shape in ((128, 256), (64, 256)))
d = torch.empty((128, 64), dtype=torch.float32, device=device)
gemm = dgk.kernel("bf16_gemm.dgk")
gemm(A=a, B=b, D=d)
print("largest difference", (d - a.float() @ b.float().T).abs().max().item())
bt = b.T.contiguous()
gemm(A=a, B=bt.T, D=d)  # K-major or N-major: the strides say which, and each is a variant
print("largest difference", (d - a.float() @ b.float().T).abs().max().item())
