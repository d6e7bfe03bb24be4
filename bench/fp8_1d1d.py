"""fp8 GEMM, both operands scaled per row and 128 of k, added to fp32: the weight gradients of DeepGEMM's test_fp8_fp4."""

from dense import BACKWARD_M, NK, Case, operands, shape
from fp8_1d2d import PEERS, spread, unscaled  # noqa: F401
from report import Mark, speedup

TITLE = "D += A B^T in fp32, fp8, scales 1 x 128 of both; DeepGEMM; torch._scaled_mm without block scales and without adding"
PEAK = "fp8_tflops"
DEFAULT = shape("nt", 4096, 4096, 7168, "f32", 1)
TOLERANCE = 1e-4


def shapes():
    for n, k in NK:
        yield shape("nt", n, BACKWARD_M, k, "f32", 1)


def quick(s):
    return True


DRY = [shape("nt", 16, 32, 512, "f32", 1)]

MARKS = [
    Mark("over DeepGEMM, scales ready", "geomean", (">=", 1.2), speedup("deepgemm")),
    Mark("over DeepGEMM, row-major scales", "geomean", None, speedup("deepgemm_rows", "dgc_rows")),
]


def case(lab, s):
    cast = lab.own.utils.math
    x, y = operands(lab, s)
    (a, sa), (b, sb) = cast.per_token_cast_to_fp8(x, False), cast.per_token_cast_to_fp8(y, False)
    del x, y
    want = lab.product(a.float() * spread(sa, a), b.float() * spread(sb, b))
    ready, rows = (lab.mn_major(sa), lab.mn_major(sb)), (sa, sb)
    calls = {}
    for side, (p, q) in (("dgc", ready), ("dgc_rows", rows)):
        for name, k in lab.ours(side, "fp8_gemm.dgk").items():
            calls[name] = lambda d, k=k, p=p, q=q: k(A=a, SA=p.T, B=b, SB=q, D=d, GN=1, G=128, ACC=1)
    if lab.peer:
        for side, (p, q) in (("deepgemm", ready), ("deepgemm_rows", rows)):
            calls[side] = lambda d, p=p, q=q: lab.peer.fp8_gemm_nt((a, p), (b, q), d, c=d, recipe=(1, 1, 128), disable_ue8m0_cast=True)
    if not lab.dry:
        calls["unscaled"] = unscaled(lab, a, b, lab.torch.float32)
    return Case(lab, s, want, (a, b, sa, sb), calls, TOLERANCE, ("unscaled",))
