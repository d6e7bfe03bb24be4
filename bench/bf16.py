"""bf16 GEMM in DeepGEMM's test_bf16 shapes: forward (nt), dgrad (nn), wgrad (tn, accumulating in fp32, and bf16)."""

from dense import BACKWARD_M, MS, NK, NK_F32, Case, m_up_to_128, operands, shape
from report import Mark, speedup

TITLE = "D = A B^T (+ D), bf16 operands; cuBLASLt, DeepGEMM"
PEERS = [("cublaslt", "cuBLASLt us", "dgc"), ("deepgemm", "DeepGEMM us", "dgc")]
PEAK = "bf16_tflops"
DEFAULT = shape("nt", 4096, 4096, 7168)
TOLERANCE = 1e-5


def shapes():
    for m in MS:
        for n, k in NK:
            yield shape("nt", m, n, k)
            yield shape("nt", m, n, k, acc=1)
        for n, k in NK_F32:
            yield shape("nt", m, n, k, "f32")
    for n, k in NK + NK_F32:
        yield shape("nn", BACKWARD_M, k, n)
        yield shape("tn", n, BACKWARD_M, k, "f32", 1)
        yield shape("tn", n, BACKWARD_M, k)


def quick(s):
    return s["n"] != 129280 and (s["layout"] != "nt" or s["m"] in (1, 128, 4096) and not s["acc"])


DRY = [shape("nt", 8, 16, 64), shape("nt", 8, 16, 64, "f32"), shape("nn", 16, 32, 64, acc=1), shape("tn", 32, 16, 64, "f32", 1)]

MARKS = [
    Mark("over cuBLASLt, all shapes", "geomean", (">=", 1.0), speedup("cublaslt")),
    Mark("over the quicker of both peers, all shapes", "lowest", (">=", 0.95), speedup(("cublaslt", "deepgemm"))),
    Mark("over DeepGEMM, forward, m <= 128", "geomean", (">=", 1.1), speedup("deepgemm", layout="nt", m=m_up_to_128)),
    Mark("over DeepGEMM, wgrad accumulating in fp32", "geomean", (">=", 1.1), speedup("deepgemm", layout="tn", out="f32")),
    Mark("over cuBLASLt, wgrad accumulating in fp32", "geomean", None, speedup("cublaslt", layout="tn", out="f32")),
    Mark("over DeepGEMM, forward, m = 4096", "geomean", None, speedup("deepgemm", layout="nt", m=4096)),
    Mark("over cuBLASLt, forward, m <= 128", "geomean", None, speedup("cublaslt", layout="nt", m=m_up_to_128)),
    Mark("over cuBLASLt, forward, m = 4096", "geomean", None, speedup("cublaslt", layout="nt", m=4096)),
    Mark("over cuBLASLt, dgrad", "geomean", None, speedup("cublaslt", layout="nn")),
    Mark("over cuBLASLt, wgrad bf16", "geomean", None, speedup("cublaslt", layout="tn", out="bf16")),
]


def case(lab, s):
    a, b = operands(lab, s)
    want = lab.product(a, b)
    if s["layout"][0] == "t":  # the same values, M-major
        a = a.T.contiguous().T
    if s["layout"][1] == "n":
        b = b.T.contiguous().T
    calls = {side: lambda d, k=k: k(A=a, B=b, D=d, ACC=s["acc"]) for side, k in lab.ours("dgc", "bf16_gemm.dgk").items()}
    if not lab.dry:
        calls["cublaslt"] = lambda d: lab.cublas.cublaslt_gemm_nt(a, b, d, c=d if s["acc"] else None)
    elif s["out"] == "bf16" and not s["acc"]:
        calls["cublaslt"] = lambda d: lab.torch.matmul(a, b.T, out=d)
    if lab.peer:
        calls["deepgemm"] = lambda d: lab.peer.bf16_gemm_nt(a, b, d, c=d if s["acc"] else None)
    return Case(lab, s, want, (a, b), calls, TOLERANCE)
