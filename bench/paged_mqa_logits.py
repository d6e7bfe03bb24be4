"""Scores of a sparse-attention indexer while decoding: keys in pages of 64, 132 bytes each (128 of fp8, a scale), their number random
between 0.7 and 1.3 of `context`. The schedule is made before, by either side's own kernel, and is not timed."""

from lab import difference
from report import Mark, between, copy_share, speedup

TITLE = "paged logits of the indexer, fp8, D = 128; DeepGEMM (next_n 1 and 2); GB/s against a copy's"
PEERS = [("deepgemm", "DeepGEMM us", "dgc")]
PEAK = "fp8_tflops"
TOLERANCE = 5e-6
PAGE, DIM, MOST_TOKENS, CHECKED = 64, 128, 32 << 20, 8  # tokens in all, as in DeepGEMM's tests; sequences held to the reference
CHUNK = 1 << 20                                         # tokens made at once


def shape(batch, next_n, H, context):
    return {"batch": batch, "next_n": next_n, "H": H, "context": context}


DEFAULT = shape(256, 1, 64, 8192)


def all_shapes():
    return [shape(b, n, h, c) for c in (8192, 32768) for b in (64, 256, 4096) for h in (64, 32) for n in (1, 2, 3, 4)]


def shapes():
    return [s for s in all_shapes() if s["batch"] * s["context"] <= MOST_TOKENS]


def notes():
    left = sorted({(s["batch"], s["context"]) for s in all_shapes()} - {(s["batch"], s["context"]) for s in shapes()})
    return [f"paged_mqa_logits: batch {b} with context {c} is left out, more than {MOST_TOKENS >> 20} Mi tokens" for b, c in left]


def quick(s):
    return s["batch"] == 256 or s["batch"] == 64 and s["H"] == 64 and s["context"] == 32768 or s["batch"] == 4096 and s["next_n"] == 1


DRY = [shape(3, 2, 32, 100), shape(3, 3, 32, 100)]

MARKS = [
    Mark("over DeepGEMM", "geomean", (">=", 1.05), speedup("deepgemm")),
    Mark("share of a copy's bandwidth, context 32768", "geomean", (">=", 0.92), copy_share(context=32768)),
    Mark("share of a copy's bandwidth, context 8192", "geomean", None, copy_share(context=8192)),
    Mark("time of next_n = 3 over next_n = 2", "geomean", ("<=", 1.15), between("next_n", 3, 2)),
    Mark("time of next_n = 4 over next_n = 2", "geomean", None, between("next_n", 4, 2)),
    Mark("over DeepGEMM, context 8192", "geomean", None, speedup("deepgemm", context=8192)),
    Mark("over DeepGEMM, context 32768", "geomean", None, speedup("deepgemm", context=32768)),
]


def page_table(torch, pages):
    """int32 [batch, most]: pages[b] numbers of its own for each sequence, out of one shuffled pool; 0 after them."""
    total, device = int(pages.sum()), pages.device
    pool = torch.randperm(total, device=device)
    first = (pages.cumsum(0) - pages).unsqueeze(1)
    column = torch.arange(int(pages.max()), device=device)
    numbers = pool[(first + column).clamp(max=total - 1)]
    return torch.where(column < pages.unsqueeze(1), numbers, 0).to(torch.int32)


def cache(lab, pages):
    """uint8 [pages, PAGE, 1, DIM + 4] of random keys: the values of a page, then their scales."""
    t = lab.torch
    out = lab.empty(pages, PAGE * (DIM + 4), dtype="uint8")
    for i in range(0, pages, CHUNK // PAGE):
        n = min(CHUNK // PAGE, pages - i)
        values, scales = lab.own.utils.math.per_custom_dims_cast_to_fp8(lab.randn(n * PAGE, DIM), (0,), False)
        out[i:i + n, :PAGE * DIM] = values.view(t.uint8).view(n, -1)
        out[i:i + n, PAGE * DIM:] = scales.view(n, PAGE).view(t.uint8)
    return out.view(pages, PAGE, 1, DIM + 4)


def split(t, pages):
    """Values [pages, PAGE, DIM] and scales [pages, PAGE] of a cache, in place."""
    flat = pages.view(-1, PAGE * (DIM + 4))
    return flat[:, :PAGE * DIM].unflatten(1, (PAGE, DIM)).view(t.float8_e4m3fn), flat[:, PAGE * DIM:].view(t.float32)


def sample(n):
    """CHECKED of n numbers, or fewer, first and last among them."""
    return sorted({round(i * (n - 1) / (CHECKED - 1)) for i in range(CHECKED)})


def worst_distance(case, rows):
    """The largest distance of rows, each (row of the page table, keys, queries, weights, results); NaN where one is."""
    worst = 0.0
    for row, n, q, w, got in rows:
        numbers = case.table[row, :-(-n // PAGE)].long()
        keys, scales = case.values[numbers].reshape(-1, DIM)[:n], case.scales[numbers].reshape(-1)[:n]
        d = difference(got[:, :n], case.lab.scores(q, keys, w) * scales)
        if d != d:
            return d
        worst = max(worst, d)
    return worst


class Case:
    def __init__(self, lab, s):
        t = lab.torch
        self.lab, self.s, self.tolerance = lab, s, TOLERANCE
        batch, next_n, heads, context = s.values()
        last = t.randint(int(0.7 * context), int(1.3 * context), (batch,), device=lab.device, dtype=t.int32)
        self.lens = ((last.unsqueeze(1) + 1) * t.rand((batch, next_n), device=lab.device)).to(t.int32)
        self.lens[:, -1] = last
        pages = -(-last // PAGE)
        self.width = int(pages.max()) * PAGE
        self.table = page_table(t, pages)
        self.cache = cache(lab, int(pages.sum()))
        self.q = lab.randn(batch, next_n, heads, DIM).to(t.float8_e4m3fn)
        self.w = lab.randn(batch * next_n, heads, dtype="float32")
        tokens = int(last.sum())
        self.flop = 2 * tokens * next_n * heads * DIM
        self.bytes = self.q.numel() + 4 * self.w.numel() + tokens * (DIM + 4 + 4 * next_n)
        stride = -(-self.width // 256) * 256
        self.out = lab.empty(batch * next_n, stride)[:, :self.width]
        self.values, self.scales = split(t, self.cache)
        self.sides = {side: lambda k=k: self._own(k) for side, k in lab.ours("dgc", "paged_mqa_logits.dgk", "paged_mqa_logits").items()}
        self.meta = lab.empty(lab.sms() + 1, 2, dtype="int32")
        lab.plan(LEN=self.lens, META=self.meta)
        if lab.peer and next_n <= 2:
            self._add_peer(lab.peer)

    def _own(self, kernel):
        s = self.s
        kernel(Q=self.q, KV=self.values, SK=self.scales, W=self.w.view(s["batch"], s["next_n"], s["H"]), LEN=self.lens, PT=self.table, META=self.meta,
               L=self.out.unflatten(0, (s["batch"], s["next_n"])), NN=s["next_n"])
        return self.out

    def _add_peer(self, peer):
        meta = peer.get_paged_mqa_logits_metadata(self.lens, PAGE, peer.get_num_sms())
        self.sides["deepgemm"] = lambda: peer.fp8_fp4_paged_mqa_logits((self.q, None), self.cache, self.w, self.lens, self.table, meta, self.width)

    def check(self, side):
        """The largest distance of some sequences, first and last among them."""
        s = self.s
        self.out.fill_(float("nan"))
        got = self.sides[side]().unflatten(0, (s["batch"], s["next_n"]))
        w = self.w.view(s["batch"], s["next_n"], s["H"])
        return worst_distance(self, ((b, int(self.lens[b, -1]), self.q[b], w[b], got[b]) for b in sample(s["batch"])))


def case(lab, s):
    return Case(lab, s)
