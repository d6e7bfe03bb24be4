"""fp8 GEMM grouped along K, added to fp32: weight gradients of experts, of DeepGEMM's test_fp8_fp4. Blocks [m, k of the group] lie one
behind the other; how long each is are data of the device."""

from dense import Case, shape
from fp8_1d2d import spread
from report import Mark, speedup

TITLE = "D[g] += A[g] B[g]^T in fp32, fp8, scales 1 x 128 of both, each group with a k of its own; DeepGEMM"
PEERS = [("deepgemm", "DeepGEMM us", "dgc")]
PEAK = "fp8_tflops"
DEFAULT = {"g": 4, "m": 4096, "n": 7168, "k": 8192}
TOLERANCE = 1e-4


def shapes():
    for g, k in ((4, 8192), (8, 4096), (16, 2048)):
        for m, n in ((4096, 7168), (7168, 2048)):
            yield {"g": g, "m": m, "n": n, "k": k}


def quick(s):
    return True


DRY = [{"g": 3, "m": 72, "n": 40, "k": 256}]

MARKS = [Mark("over DeepGEMM", "geomean", (">=", 1.0), speedup("deepgemm"))]


def case(lab, s):
    t, cast = lab.torch, lab.own.utils.math
    lengths = [max(1, round(s["k"] * (0.7 + 0.6 * x) / 128)) * 128 for x in t.rand(s["g"]).tolist()]
    (a, sa, wide_a), (b, sb, wide_b) = (operand(lab, cast, s[rows], lengths) for rows in ("m", "n"))
    want = t.cat([lab.product(x, y) for x, y in zip(wide_a, wide_b)])
    del wide_a, wide_b
    sizes, grid = t.tensor(lengths, dtype=t.int32, device=lab.device), (s["g"], s["m"], s["n"])
    calls = {}
    for name, k in lab.ours("dgc", "k_grouped.dgk", "k_grouped_fp8_nt").items():
        calls[name] = lambda d, k=k: k(A=a, SA=sa, B=b, SB=sb, KS=sizes, D=d.view(grid))
    if lab.peer:
        calls["deepgemm"] = lambda d: lab.peer.k_grouped_fp8_gemm_nt_contiguous((a, sa.T), (b, sb.T), d.view(grid), lengths, sizes, d.view(grid))
    whole = {**shape("nt", s["g"] * s["m"], s["n"], sum(lengths) / s["g"], "f32", 1)}
    return Case(lab, whole, want, (a, b, sa, sb), calls, TOLERANCE)


def operand(lab, cast, rows, lengths):
    """Blocks in a row, scales [k / 128, rows] of all, and what each block stands for."""
    blocks = [cast.per_token_cast_to_fp8(lab.randn(rows, k), False) for k in lengths]
    return (lab.torch.cat([x.reshape(-1) for x, _ in blocks]), lab.torch.cat([f.T for _, f in blocks]).contiguous(),
            [x.float() * spread(f, x) for x, f in blocks])
