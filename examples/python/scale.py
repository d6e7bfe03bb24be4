#!/usr/bin/env python3
"""A kernel of one's own on numpy arrays: written, held to its spec, explained, called. No GPU is needed.

    PYTHONPATH=python python3 examples/python/scale.py"""

import numpy as np

import dgk

SOURCE = """
kernel scale<T = f32 | bf16>(in T X[M, N], in f32 s, out T Y[M, N]) {
    spec Y[i, j] = T(f32(X[i, j]) * s) exact;
    axis i = M by 16, j = N by 64;
    grid (i, j);
    role work { Y[i, j] = T(f32(X[i, j]) * s); }
}
"""

scale = dgk.kernel("scale.dgk", text=SOURCE)
x = np.arange(12, dtype=np.float32).reshape(3, 4)
y = np.zeros_like(x)
scale(X=x, s=0.5, Y=y)
print(y)
print(scale(X=x, s=2, T="f32"))  # an output that is left out is made and returned
print(scale.check(X=x, s=3, Y=y).strip())
print(scale.explain(X=x, s=3, Y=y).strip())
for target in ("sm_80", "sm_100a", "sm_120a"):
    y[:] = 0
    dgk.kernel("scale.dgk", text=SOURCE, device=f"emu:{target}")(X=x, s=0.5, Y=y)
    print(target, (y == x / 2).all())
