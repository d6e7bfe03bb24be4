"""fp8 GEMM, A scaled per row and 128 of k, B per 128 x 128, bf16 results: DeepGEMM's test_fp8_fp4 shapes. Scales of A are timed as
they are best (M-major, aligned) and row-major as a quantiser leaves them, which costs DeepGEMM a transposition in every call."""

from dense import BACKWARD_M, MS, NK, Case, m_up_to_128, operands, shape
from report import Mark, speedup

TITLE = "D = A B^T, fp8, scales 1 x 128 and 128 x 128; DeepGEMM; torch._scaled_mm without block scales, fast accumulation"
PEERS = [("deepgemm", "DeepGEMM us", "dgc"), ("dgc_rows", "rows: dgc us", None), ("deepgemm_rows", "rows: DeepGEMM us", "dgc_rows"),
         ("unscaled", "unscaled us", "dgc")]
PEAK = "fp8_tflops"
DEFAULT = shape("nt", 4096, 4096, 7168)
TOLERANCE = 1e-4  # of the product of what was quantised


def shapes():
    for m in MS:
        for n, k in NK:
            yield shape("nt", m, n, k)
    for n, k in NK:
        yield {**shape("nt", BACKWARD_M, k, n), "layout": "dgrad"}
        yield {**shape("nt", n, BACKWARD_M, k), "layout": "wgrad"}


def quick(s):
    return s["layout"] == "nt" and s["m"] in (1, 128, 4096)


DRY = [shape("nt", 8, 128, 512), shape("nt", 1, 136, 512)]

MARKS = [
    Mark("over DeepGEMM, scales ready, m <= 128", "geomean", (">=", 1.15), speedup("deepgemm", layout="nt", m=m_up_to_128)),
    Mark("over DeepGEMM, scales ready, m = 4096", "geomean", (">=", 1.03), speedup("deepgemm", layout="nt", m=4096)),
    Mark("over DeepGEMM, row-major scales, all shapes", "geomean", (">=", 1.2), speedup("deepgemm_rows", "dgc_rows")),
    Mark("over DeepGEMM, scales ready, m = 512", "geomean", None, speedup("deepgemm", layout="nt", m=512)),
    Mark("over DeepGEMM, scales ready, dgrad", "geomean", None, speedup("deepgemm", layout="dgrad")),
    Mark("over DeepGEMM, scales ready, wgrad bf16", "geomean", None, speedup("deepgemm", layout="wgrad")),
    Mark("over the unscaled product, m = 4096", "geomean", None, speedup("unscaled", layout="nt", m=4096)),
]


def spread(sf, like):
    """Scales of 1 x 128 or 128 x 128 for every element of `like`."""
    m, k = like.shape
    rows = sf if sf.shape[0] == m else sf.repeat_interleave(128, 0)[:m]
    return rows.repeat_interleave(128, 1)[:, :k]


def unscaled(lab, a, b, out):
    """torch._scaled_mm: the chip's rate without block scales."""
    one = lab.torch.ones((), device=lab.device)
    return lambda d: lab.torch._scaled_mm(a, b.T, one, one, out_dtype=out, use_fast_accum=True)


def case(lab, s):
    cast = lab.own.utils.math
    x, y = operands(lab, s)
    (a, rows), (b, blocks) = cast.per_token_cast_to_fp8(x, False), cast.per_block_cast_to_fp8(y, False)
    del x, y
    want = lab.product(a.float() * spread(rows, a), b.float() * spread(blocks, b))
    ready = lab.mn_major(rows)
    calls = {}
    for side, sa in (("dgc", ready), ("dgc_rows", rows)):
        for name, k in lab.ours(side, "fp8_gemm.dgk").items():
            calls[name] = lambda d, k=k, sa=sa: k(A=a, SA=sa.T, B=b, SB=blocks, D=d, GN=128, G=128, ACC=0)
    if lab.peer:
        for side, sa in (("deepgemm", ready), ("deepgemm_rows", rows)):
            calls[side] = lambda d, sa=sa: lab.peer.fp8_gemm_nt((a, sa), (b, blocks), d, disable_ue8m0_cast=True)
    if not lab.dry:
        calls["unscaled"] = unscaled(lab, a, b, lab.torch.bfloat16)
    return Case(lab, s, want, (a, b, rows, blocks), calls, TOLERANCE, ("unscaled",))
