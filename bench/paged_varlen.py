"""Paged logits of requests with varying numbers of tokens (`indices`), 1 to `most` of each; keys as in paged_mqa_logits.py. Beside them the
same tokens as requests of their own, which read the keys anew for every token: `dgc_rows`. Schedules are made before and not timed."""

from paged_mqa_logits import DIM, MOST_TOKENS, PAGE, PEAK, TOLERANCE, cache, page_table, sample, split, worst_distance  # noqa: F401
from report import Mark, copy_share, speedup

TITLE = "paged logits with indices, fp8, D = 128; the same tokens as requests of their own; DeepGEMM (sm_100); GB/s against a copy's"
PEERS = [("dgc_rows", "a row each us", "dgc"), ("deepgemm", "DeepGEMM us", "dgc")]


def shape(requests, most, H, context):
    return {"requests": requests, "most": most, "H": H, "context": context}


DEFAULT = shape(256, 6, 64, 8192)


def shapes():
    every = [shape(r, m, h, c) for c in (2048, 8192, 32768) for r in (64, 256, 1024) for h in (64, 32) for m in (1, 3, 6, 10)]
    return [s for s in every if s["requests"] * s["context"] <= MOST_TOKENS // 4]


def quick(s):
    return s["requests"] == 256 and s["context"] == 8192


DRY = [shape(4, 3, 32, 100)]

MARKS = [
    Mark("over a row each, up to 6 tokens", "geomean", None, speedup("dgc_rows", most=6)),
    Mark("over a row each, one token", "geomean", None, speedup("dgc_rows", most=1)),
    Mark("over DeepGEMM", "geomean", None, speedup("deepgemm")),
    Mark("share of a copy's bandwidth, up to 3 tokens", "geomean", None, copy_share(most=3)),
]


class Case:
    def __init__(self, lab, s):
        t = lab.torch
        self.lab, self.tolerance = lab, TOLERANCE
        requests, most, heads, context = s.values()
        last = t.randint(int(0.7 * context), int(1.3 * context), (requests,), device=lab.device, dtype=t.int32)
        counts = t.randint(1, most + 1, (requests,), device=lab.device)
        self.ends = counts.cumsum(0).tolist()
        tokens, pages = self.ends[-1], -(-last // PAGE)
        self.who = t.arange(requests, device=lab.device, dtype=t.int32).repeat_interleave(counts)
        self.lens = last.repeat_interleave(counts)
        self.table = page_table(t, pages).repeat_interleave(counts, 0)
        self.cache = cache(lab, int(pages.sum()))
        self.q = lab.randn(tokens, heads, DIM).to(t.float8_e4m3fn)
        self.w = lab.randn(tokens, heads, dtype="float32")
        read, written = int(last.sum()), int(self.lens.sum())
        self.flop = 2 * written * heads * DIM
        self.bytes = self.q.numel() + 4 * self.w.numel() + read * (DIM + 4) + 4 * written
        self.width = int(pages.max()) * PAGE
        self.out = lab.empty(tokens, -(-self.width // 256) * 256)[:, :self.width]
        self.values, self.scales = split(t, self.cache)
        self.meta, self.rows_meta = lab.empty(lab.sms() + 1, 2, dtype="int32"), lab.empty(lab.sms() + 1, 2, dtype="int32")
        lab.dgk.kernel("paged_mqa_logits.dgk", "paged_plan_varlen")(LEN=self.lens, IDX=self.who, META=self.meta)
        lab.plan(LEN=self.lens.unsqueeze(1), META=self.rows_meta)
        own, rows = lab.ours("dgc", "paged_mqa_logits.dgk", "paged_mqa_logits_varlen"), lab.ours("dgc_rows", "paged_mqa_logits.dgk", "paged_mqa_logits")
        self.sides = {side: lambda k=k: self._own(k) for side, k in own.items()} | {side: lambda k=k: self._rows(k) for side, k in rows.items()}
        if lab.peer and (lab.dry or t.cuda.get_device_capability()[0] == 10):
            self._add_peer(lab.peer)

    def _own(self, kernel):
        kernel(Q=self.q, KV=self.values, SK=self.scales, W=self.w, LEN=self.lens, IDX=self.who, PT=self.table, META=self.meta, L=self.out)
        return self.out

    def _rows(self, kernel):
        kernel(Q=self.q.unsqueeze(1), KV=self.values, SK=self.scales, W=self.w.unsqueeze(1), LEN=self.lens.unsqueeze(1), PT=self.table,
               META=self.rows_meta, L=self.out.unsqueeze(1), NN=1)
        return self.out

    def _add_peer(self, peer):
        lens = self.lens.unsqueeze(1)
        meta = peer.get_paged_mqa_logits_metadata(lens, PAGE, peer.get_num_sms(), indices=self.who)
        self.sides["deepgemm"] = lambda: peer.fp8_fp4_paged_mqa_logits((self.q.unsqueeze(1), None), self.cache, self.w, lens, self.table, meta, self.width,
                                                                       indices=self.who)

    def check(self, side):
        """The largest distance of some requests, first and last among them."""
        self.out.fill_(float("nan"))
        got, runs = self.sides[side](), list(zip([0, *self.ends], self.ends))
        some = (runs[i] for i in sample(len(runs)))
        return worst_distance(self, ((a, int(self.lens[a]), self.q[a:e], self.w[a:e], got[a:e]) for a, e in some))


def case(lab, s):
    return Case(lab, s)
