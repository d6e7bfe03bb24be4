"""Scores of a sparse-attention indexer over a row of keys: L[s, t] = sk[t] * sum(h: w[s, h] * max(0, q[s, h] . kv[t])), KS <= t < KE.
cp: key ranges of one rank of a context-parallel group, as DeepGEMM's tests make them; else causal ones. clean: exact -inf outside."""

from report import Mark, speedup

TITLE = "logits of the indexer, fp8, fp32 out; DeepGEMM, with its second kernel where rows are cleaned"
PEERS = [("deepgemm", "DeepGEMM us", "dgc")]
PEAK = "fp8_tflops"
TOLERANCE = 5e-6
SCORES_BYTES = 1 << 30  # of the reference at once


def shape(S, T, H, D, cp=0, clean=0):
    return {"S": S, "T": T, "H": H, "D": D, "cp": cp, "clean": clean}


DEFAULT = shape(2048, 8192, 64, 128)


def shapes():
    for clean in (0, 1):
        for d in (128, 64, 32):
            for h in (64, 32):
                for s in (2048, 8192):
                    for t in (8192, 65536):
                        for cp in (0, 1):
                            yield shape(s, t, h, d, cp, clean)


def quick(s):
    return s["T"] == 8192 and s["cp"] == s["clean"] or s["T"] == 65536 and s["S"] == 2048 and s["cp"] == 1


DRY = [shape(8, 256, 32, 32, 0, 0), shape(8, 256, 32, 64, 1, 1)]

MARKS = [
    Mark("over DeepGEMM, not cleaned, D = 128", "geomean", (">=", 1.2), speedup("deepgemm", D=128, clean=0)),
    Mark("over DeepGEMM, not cleaned, D = 64", "geomean", (">=", 1.15), speedup("deepgemm", D=64, clean=0)),
    Mark("over DeepGEMM, not cleaned, D = 32", "geomean", (">=", 1.1), speedup("deepgemm", D=32, clean=0)),
    Mark("over DeepGEMM, exact -inf", "geomean", (">=", 1.25), speedup("deepgemm", clean=1)),
    Mark("over DeepGEMM, not cleaned, H = 64", "geomean", None, speedup("deepgemm", H=64, clean=0)),
    Mark("over DeepGEMM, not cleaned, H = 32", "geomean", None, speedup("deepgemm", H=32, clean=0)),
]


def key_ranges(torch, s, device):
    """KS, KE int32 [S]. cp: the rank's two chunks of queries, one from each end of the sequence."""
    rows = torch.arange(s["S"], dtype=torch.int32, device=device)
    if not s["cp"]:
        return torch.zeros_like(rows), rows + (s["T"] - s["S"])
    chunk, ranks = s["S"] // 2, s["T"] // s["S"]
    rank = ranks // 3
    return torch.zeros_like(rows), torch.where(rows < chunk, rows + rank * chunk, rows - chunk + (ranks * 2 - 1 - rank) * chunk)


def row_stride(t):
    """Elements between rows of the result: DeepGEMM's own, so that both write alike."""
    return -(-(t + 256) // 256) * 256


class Case:
    def __init__(self, lab, s):
        t = lab.torch
        self.lab, self.s, self.tolerance = lab, s, TOLERANCE
        self.q = lab.randn(s["S"], s["H"], s["D"]).to(t.float8_e4m3fn)
        self.kv, self.sk = lab.own.utils.math.per_custom_dims_cast_to_fp8(lab.randn(s["T"], s["D"]), (0,), False)
        self.w = lab.randn(s["S"], s["H"], dtype="float32")
        self.ks, self.ke = key_ranges(t, s, lab.device)
        pairs = int((self.ke - self.ks).clamp(0).sum())
        self.flop = 2 * pairs * s["H"] * s["D"]
        inputs = (self.q, self.kv, self.sk, self.w, self.ks, self.ke)
        self.bytes = sum(x.numel() * x.element_size() for x in inputs) + 4 * (s["S"] * s["T"] if s["clean"] else pairs)
        self.out = lab.empty(-(-s["S"] // 4) * 4, row_stride(s["T"]))[:s["S"], :s["T"]]
        self.sides = {side: lambda k=k: self._own(k) for side, k in lab.ours("dgc", "mqa_logits.dgk", "mqa_logits").items()}
        if lab.peer:
            self.sides["deepgemm"] = lambda: lab.peer.fp8_fp4_mqa_logits((self.q, None), (self.kv, self.sk), self.w, self.ks, self.ke,
                                                                         clean_logits=bool(s["clean"]))

    def _own(self, kernel):
        kernel(Q=self.q, KV=self.kv, SK=self.sk, W=self.w, KS=self.ks, KE=self.ke, L=self.out, COMP=0, CLEAN=self.s["clean"])
        return self.out

    def check(self, side):
        """Rows in blocks: the products of all heads are 64 times as large as the result."""
        t, s = self.lab.torch, self.s
        self.out.fill_(float("nan"))
        got = self.sides[side]()
        xy = xx = 0.0
        step, keys = max(1, SCORES_BYTES // (4 * s["H"] * s["T"])), t.arange(s["T"], device=self.lab.device)
        for i in range(0, s["S"], step):
            rows = slice(i, i + step)
            inside = (keys >= self.ks[rows, None]) & (keys < self.ke[rows, None])
            want = (self.lab.scores(self.q[rows], self.kv, self.w[rows]) * self.sk)[inside].double()
            if s["clean"] and not t.equal(t.isneginf(got[rows]), ~inside):
                raise ValueError("-inf is not everywhere outside, or is inside")
            part = got[rows][inside].double()
            xy += (part * want).sum().item()
            xx += (part * part + want * want).sum().item()
        return 1 - 2 * xy / xx


def case(lab, s):
    return Case(lab, s)
