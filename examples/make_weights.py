#!/usr/bin/env python3
"""Writes examples/weights.safetensors: two small layers in bf16, the same bytes every time. Needs nothing but python3."""
import json
import struct
import sys


def numbers(seed):
    """A 64-bit linear congruential generator (Knuth, MMIX), the upper half of its state, uniform in [-1, 1)."""
    while True:
        seed = (seed * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
        yield (seed >> 32) / 2.0**31 - 1


def bf16(value):
    """The bits of the bf16 nearest to a value, ties to even."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def tensor(shape, seed):
    count = 1
    for size in shape:
        count *= size
    source = numbers(seed)
    scale = 3 * shape[-1] ** -0.5  # four uniforms: rows of length about 2, as trained weights have them
    values = (sum(next(source) for _ in range(4)) / 4 * scale for _ in range(count))
    return struct.pack(f"<{count}H", *(bf16(v) for v in values))


layers = {"layers.0.weight": (256, 512), "layers.1.weight": (128, 256)}
header, data = {"__metadata__": {"made_by": "examples/make_weights.py"}}, b""
for seed, (name, shape) in enumerate(layers.items()):
    part = tensor(shape, seed)
    header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [len(data), len(data) + len(part)]}
    data += part
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
with open(sys.argv[1] if len(sys.argv) > 1 else "examples/weights.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + data)
