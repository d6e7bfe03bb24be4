#!/usr/bin/env python3
"""deep_gemm and dgk on a real GPU against torch: every dense GEMM form, logits, scales, graphs, streams, operators; and how long
calls take on the host. One command, a table last.

    python3 tests/gpu/check.py            quick
    python3 tests/gpu/check.py --long     with the large shapes of DeepGEMM's own tests
    python3 tests/gpu/check.py bf16 mqa   only checks whose name contains one of these words"""

import os
import pathlib
import subprocess
import sys
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

import torch  # noqa: E402

import deep_gemm  # noqa: E402
import dgk  # noqa: E402
from deep_gemm.testing import calc_diff  # noqa: E402
from deep_gemm.utils.math import align, per_block_cast_to_fp8, per_custom_dims_cast_to_fp8, per_token_cast_to_fp8  # noqa: E402

LONG = "--long" in sys.argv
WORDS = [w for w in sys.argv[1:] if not w.startswith("--")]
rows = []
NK = [(2112, 7168), (576, 7168), (4096, 7168), (7168, 2048)] + ([(24576, 1536), (32768, 512), (7168, 16384)] if LONG else [])
MS = [1, 128, 4096] if LONG else [1, 77, 128, 512]


def check(f):
    name = f.__name__
    if WORDS and not any(w in name for w in WORDS):
        return
    t = time.perf_counter()
    try:
        said = f() or "ok"
        torch.cuda.synchronize()
        ok = True
    except Exception as e:
        text = str(e).strip().splitlines()
        said, ok = f"{type(e).__name__}: {text[0] if text else ''}"[:150], False
        traceback.print_exc()
    rows.append((name, ok, said, time.perf_counter() - t))


def near(x, y, tolerance, what):
    d = float(calc_diff(x, y))
    assert d < tolerance, f"{what}: differs by {d:.3g}, more than {tolerance}"
    return d


def bf(*shape):
    return torch.randn(shape, device="cuda", dtype=torch.bfloat16)


@check
def bf16_gemm():
    worst = 0
    for n, k in NK:
        for m in MS:
            a, b = bf(m, k), bf(n, k)
            want = a.float() @ b.float().T
            for out in (torch.bfloat16, torch.float32):
                d = torch.empty((m, n), device="cuda", dtype=out)
                deep_gemm.bf16_gemm_nt(a, b, d)
                worst = max(worst, near(d, want, 1e-5, f"nt {m},{n},{k} {out}"))
            c = torch.randn((m, n), device="cuda")
            d = c.clone()
            deep_gemm.bf16_gemm_nt(a, b, d, c=d)
            worst = max(worst, near(d, want + c, 1e-5, f"c {m},{n},{k}"))
    return f"{len(NK) * len(MS) * 3} cases, largest difference {worst:.1e}"


@check
def bf16_layouts():
    for m, n, k in ((256, 384, 512), (4096, 576, 1024)):
        a, b = bf(m, k), bf(n, k)
        want = a.float() @ b.float().T
        for name, x, y in (("nn", a, b.T.contiguous()), ("tn", a.T.contiguous(), b.T.contiguous()), ("tt", a.T.contiguous(), b)):
            d = torch.empty((m, n), device="cuda", dtype=torch.bfloat16)
            getattr(deep_gemm, f"bf16_gemm_{name}")(x, y, d)
            near(d, want, 1e-5, name)


@check
def bf16_empty():
    d = torch.ones((4, 8), device="cuda")
    deep_gemm.bf16_gemm_nt(bf(0, 64), bf(8, 64), torch.empty((0, 8), device="cuda"))
    deep_gemm.bf16_gemm_nt(bf(4, 0), bf(8, 0), d)
    assert (d == 0).all()


@check
def fp8_gemm_1d2d():
    worst = 0
    for n, k in NK:
        for m in MS:
            a, b = bf(m, k), bf(n, k)
            d = torch.empty((m, n), device="cuda", dtype=torch.bfloat16)
            deep_gemm.fp8_gemm_nt(per_token_cast_to_fp8(a, False), per_block_cast_to_fp8(b, False), d)
            worst = max(worst, near(d, a.float() @ b.float().T, 1e-3, f"{m},{n},{k}"))
    return f"largest difference {worst:.1e}"


@check
def fp8_gemm_1d1d():
    for m, n, k in ((128, 4096, 7168), (4096, 2112, 1024)):
        a, b, c = bf(m, k), bf(n, k), torch.randn((m, n), device="cuda")
        d = c.clone()
        deep_gemm.fp8_gemm_nt(per_token_cast_to_fp8(a, False), per_token_cast_to_fp8(b, False), d, c=d, recipe=(1, 1, 128))
        near(d, a.float() @ b.float().T + c, 1e-3, f"{m},{n},{k}")


@check
def cublaslt():
    for m, n, k in ((128, 2112, 7168), (1, 576, 1024)):
        a, b = bf(m, k), bf(n, k)
        want = a.float() @ b.float().T
        d = torch.empty((m, n), device="cuda", dtype=torch.bfloat16)
        deep_gemm.cublaslt_gemm_nt(a, b, d)
        near(d, want, 1e-5, "nt")
        deep_gemm.cublaslt_gemm_nn(a, b.T.contiguous(), d)
        near(d, want, 1e-5, "nn")
        c = torch.randn((m, n), device="cuda")
        e = c.clone()
        deep_gemm.cublaslt_gemm_nt(a, b, e, c=e)
        near(e, want + c, 1e-5, "c")


@check
def scales():
    for mn, k, g in ((4096, 7168, 1), (4097, 7296, 2), (8192, 128, 4), (4097, 128, 1)):
        s = torch.randn((g, mn, -(-k // 128)), device="cuda").abs() if g > 1 else torch.rand((mn, -(-k // 128)), device="cuda")
        t = deep_gemm.get_mn_major_tma_aligned_tensor(s)
        assert torch.equal(t, s) and t.stride(-2) == 1 and t.stride(-1) == deep_gemm.get_tma_aligned_size(mn, 4)
        deep_gemm.testing.assert_bitwise_equal(t.contiguous(), s, "scales")
        p = torch.pow(2.0, torch.randint(-20, 20, s.shape, device="cuda").float())
        w = deep_gemm.get_mn_major_tma_aligned_packed_ue8m0_tensor(p)
        padded = torch.zeros((*s.shape[:-1], align(s.shape[-1], 4)), dtype=torch.int32, device="cuda")
        padded[..., :s.shape[-1]] = p.view(torch.int32) >> 23
        q = padded.view(*s.shape[:-1], -1, 4)
        assert torch.equal(w, q[..., 0] | q[..., 1] << 8 | q[..., 2] << 16 | q[..., 3] << 24)


def logits_want(q, k, w, scale):
    """[n, keys] of fp8 q [n, heads, dim] and k [keys, dim]"""
    x = torch.einsum("nhc,tc->nht", q.float(), k.float()).relu_()
    return torch.einsum("nht,nh->nt", x, w) * scale


@check
def mqa_logits():
    for seq, seq_kv, heads, dim in ((512, 4096, 64, 128), (300, 2000, 32, 128), (128, 1024, 32, 64)):
        q, kv, w = bf(seq, heads, dim).to(torch.float8_e4m3fn), bf(seq_kv, dim), torch.randn((seq, heads), device="cuda")
        kf, sf = per_custom_dims_cast_to_fp8(kv, (0,), False)
        ks = torch.randint(0, seq_kv // 2, (seq,), device="cuda", dtype=torch.int32)
        ke = torch.randint(seq_kv // 2, seq_kv + 1, (seq,), device="cuda", dtype=torch.int32)
        got = deep_gemm.fp8_mqa_logits(q, (kf, sf), w, ks, ke)
        t = torch.arange(seq_kv, device="cuda")[None]
        inside = (t >= ks[:, None]) & (t < ke[:, None])
        want = logits_want(q, kf, w, sf)
        assert torch.equal(torch.isneginf(got), ~inside), "-inf outside, and only there"
        near(got[inside], want[inside], 5e-6, f"{seq},{seq_kv},{heads},{dim}")
        assert all(torch.equal(got, deep_gemm.fp8_mqa_logits(q, (kf, sf), w, ks, ke)) for _ in range(5)), "not repeatable"
        short = deep_gemm.fp8_mqa_logits(q, (kf, sf), w, ks, ke, clean_logits=False, max_seqlen_k=int((ke - ks).max()))
        i = seq // 2
        near(short[i, :int(ke[i] - ks[i])], want[i, int(ks[i]):int(ke[i])], 5e-6, "compressed")


def paged_case(batch, next_n, heads, dim, average, block=64):
    lens = torch.randint(int(0.7 * average), int(1.3 * average), (batch,), device="cuda", dtype=torch.int32)
    pages = -(-int(lens.max()) // block)
    blocks = batch * pages
    kv, w = bf(blocks * block, dim), torch.randn((batch * next_n, heads), device="cuda")
    kf, sf = per_custom_dims_cast_to_fp8(kv, (0,), False)
    cache = torch.empty((blocks, block * (dim + 4)), device="cuda", dtype=torch.uint8)
    cache[:, :block * dim] = kf.view(torch.uint8).view(blocks, -1)
    cache[:, block * dim:] = sf.view(torch.uint8).view(blocks, -1)
    table = torch.randperm(blocks, device="cuda", dtype=torch.int32).view(batch, pages)
    q = bf(batch, next_n, heads, dim).to(torch.float8_e4m3fn)
    return q, cache.view(blocks, block, 1, dim + 4), w, lens[:, None].expand(batch, next_n).contiguous(), table, kf.view(blocks, block, dim), sf.view(blocks, block)


@check
def paged_mqa_logits():
    for batch, next_n, heads, average in ((16, 1, 64, 2000), (7, 2, 64, 3000), (64, 2, 32, 500), (3, 4, 64, 1000)):
        q, cache, w, lens, table, kf, sf = paged_case(batch, next_n, heads, 128, average)
        n = int(lens.max())
        meta = deep_gemm.get_paged_mqa_logits_metadata(lens, 64, deep_gemm.get_num_sms())
        got = deep_gemm.fp8_paged_mqa_logits(q, cache, w, lens, table, meta, n)
        for b in range(0, batch, max(1, batch // 8)):
            m = int(lens[b, -1])
            want = logits_want(q[b], kf[table[b].long()].view(-1, 128)[:m], w.view(batch, next_n, heads)[b], sf[table[b].long()].view(-1)[:m])
            near(got[b * next_n:(b + 1) * next_n, :m], want, 5e-6, f"batch {batch}, next_n {next_n}, row {b}")


def varlen_case(counts, heads, average):
    """Requests of `counts` tokens; the tokens before a request's last one see fewer keys."""
    counts = torch.tensor(counts, device="cuda")
    *_, cache, _, last, table, kf, sf = paged_case(len(counts), 1, heads, 128, average)
    many = counts.repeat_interleave(counts)
    place = torch.arange(len(many), device="cuda") - (counts.cumsum(0) - counts).repeat_interleave(counts)
    lens = (last.repeat_interleave(counts, 0) - (many - 1 - place)[:, None]).clamp(min=0).to(torch.int32).contiguous()
    who = torch.arange(len(counts), device="cuda", dtype=torch.int32).repeat_interleave(counts)
    q, w = bf(len(many), 1, heads, 128).to(torch.float8_e4m3fn), torch.randn((len(many), heads), device="cuda")
    return q, cache, w, lens, table.repeat_interleave(counts, 0), who, kf, sf


def held_to_requests(got, q, w, lens, table, who, kf, sf, what):
    ends = [i + 1 for i in range(len(who)) if i + 1 == len(who) or who[i] != who[i + 1]]
    for a, e in list(zip([0, *ends], ends))[::max(1, len(ends) // 12)]:
        n = int(lens[e - 1])
        want = logits_want(q[a:e, 0], kf[table[a].long()].view(-1, 128)[:n], w[a:e], sf[table[a].long()].view(-1)[:n])
        n and near(got[a:e, :n], want, 5e-6, f"{what}, tokens {a} to {e}")


@check
def paged_mqa_logits_varlen():
    for requests, most, heads, average in ((16, 6, 64, 2000), (200, 10, 32, 700), (3, 40, 64, 1000), (1, 1, 64, 300), (700, 8, 16, 150)):
        q, cache, w, lens, table, who, *keys = varlen_case(torch.randint(1, most + 1, (requests,)).tolist(), heads, average)
        n = int(lens.max())
        meta = deep_gemm.get_paged_mqa_logits_metadata(lens, 64, deep_gemm.get_num_sms(), indices=who)
        call = lambda: deep_gemm.fp8_paged_mqa_logits(q, cache, w, lens, table, meta, n, indices=who)  # noqa: B023
        held_to_requests(call(), q, w, lens, table, who, *keys, f"{requests} requests")
        again = [call().masked_fill(torch.arange(n, device="cuda") >= lens, 0) for _ in range(5)]
        assert all(torch.equal(again[0], x) for x in again), "not repeatable"


@check
def paged_varlen_graph():
    """A graph follows indices and lengths that change between replays; padding has no keys."""
    q, cache, w, lens, table, who, *keys = varlen_case([3, 1, 6, 2, 20, 4], 64, 1000)
    n = int(lens.max())

    def step():
        meta = deep_gemm.get_paged_mqa_logits_metadata(lens, 64, deep_gemm.get_num_sms(), indices=who)
        return deep_gemm.fp8_paged_mqa_logits(q, cache, w, lens, table, meta, n, indices=who)

    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = step()
    for counts in ([3, 1, 6, 2, 20, 4], [36], [1] * 36, [5, 5, 5, 5]):
        who.fill_(-1)
        who[:sum(counts)] = torch.arange(len(counts), device="cuda", dtype=torch.int32).repeat_interleave(torch.tensor(counts, device="cuda"))
        lens.copy_(torch.where(who < 0, 0, torch.randint(1, n + 1, (36,), device="cuda", dtype=torch.int32))[:, None])
        graph.replay()
        torch.cuda.synchronize()
        held_to_requests(out, q, w, lens, table, who, *keys, f"{counts}")


@check
def tf32_hc_prenorm():
    for m, n, k in ((13, 24, 7168), (137, 24, 7680)):
        a, b = bf(m, k), torch.randn((n, k), device="cuda")
        d, s = torch.empty((m, n), device="cuda"), torch.empty((m,), device="cuda")
        deep_gemm.tf32_hc_prenorm_gemm(a, b, d, s)
        near(d, a.float() @ b.T, 1e-5, "d")
        near(s, a.float().square().sum(1), 1e-6, "sqr_sum")


@check
def m_grouped_masked():
    g, rows_, n, k = 4, 256, 1024, 512
    a, b = bf(g, rows_, k), bf(g, n, k)
    fa, sa = per_token_cast_to_fp8(a.view(-1, k), False)
    pairs = [per_block_cast_to_fp8(x, False) for x in b]
    fb, sb = torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])
    used = torch.tensor([0, 5, 200, 256], device="cuda", dtype=torch.int32)
    d = torch.zeros((g, rows_, n), device="cuda", dtype=torch.bfloat16)
    deep_gemm.m_grouped_fp8_gemm_nt_masked((fa.view(g, rows_, k), sa.view(g, rows_, -1)), (fb, sb), d, used, 120)
    for i in range(1, g):
        near(d[i, :used[i]], (a[i].float() @ b[i].float().T)[:used[i]], 1e-3, f"group {i}")


@check
def m_grouped_bf16():
    g, n, k = 4, 1024, 512
    a, b = bf(g * 256, k), bf(g, n, k)
    who = torch.arange(g, device="cuda", dtype=torch.int32).repeat_interleave(256)
    d = torch.empty((g * 256, n), device="cuda", dtype=torch.bfloat16)
    want = torch.cat([a[i * 256:(i + 1) * 256].float() @ b[i].float().T for i in range(g)])
    deep_gemm.m_grouped_bf16_gemm_nt_contiguous(a, b, d, who)
    near(d, want, 1e-5, "contiguous")
    deep_gemm.m_grouped_bf16_gemm_nn_contiguous(a, b.transpose(1, 2).contiguous(), d, who)
    near(d, want, 1e-5, "nn")
    ends = torch.tensor([200, 500, 768, 1024], device="cuda", dtype=torch.int32)
    deep_gemm.m_grouped_bf16_gemm_nt_contiguous(a, b, d, ends, use_psum_layout=True)
    start = 0
    for i, end in enumerate(ends.tolist()):
        near(d[start:end], a[start:end].float() @ b[i].float().T, 1e-5, f"psum {i}")
        start = align(end, 128)


@check
def fp8_einsum():
    b, h, d, r = 32, 8, 1024, 4096
    x, w = bf(b, h, r), bf(h, d, r)
    fx, sx = per_token_cast_to_fp8(x.view(-1, r), False)
    pairs = [per_block_cast_to_fp8(v, False) for v in w]
    out = torch.empty((b, h, d), device="cuda", dtype=torch.bfloat16)
    deep_gemm.fp8_einsum("bhr,hdr->bhd", (fx.view(b, h, r), sx.view(b, h, -1)), (torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])), out)
    near(out, torch.einsum("bhr,hdr->bhd", x.float(), w.float()), 1e-3, "bhr,hdr->bhd")


@check
def cuda_graphs():
    a, b, d = bf(128, 7168), bf(576, 7168), torch.empty((128, 576), device="cuda", dtype=torch.bfloat16)
    q, cache, w, lens, table, *_ = paged_case(8, 1, 64, 128, 1000)
    n = int(lens.max())

    def step():
        deep_gemm.bf16_gemm_nt(a, b, d)
        meta = deep_gemm.get_paged_mqa_logits_metadata(lens, 64, deep_gemm.get_num_sms())
        return deep_gemm.fp8_paged_mqa_logits(q, cache, w, lens, table, meta, n)

    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = step()
    want = step().clone()
    wanted = d.clone()
    d.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(d, wanted)
    m = int(lens[3, 0])
    assert torch.equal(out[3, :m], want[3, :m])
    x = bf(128, 640)
    try:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            dgk.kernel("bf16_gemm.dgk")(A=x, B=x, D=torch.empty((128, 128), device="cuda"))
        raise AssertionError("an unknown kernel was captured")
    except dgk.Error as e:
        assert e.status == "CAPTURING", e


@check
def streams():
    a, b = bf(256, 1024), bf(512, 1024)
    want = a.float() @ b.float().T
    for _ in range(4):
        with torch.cuda.stream(torch.cuda.Stream()):
            d = torch.empty((256, 512), device="cuda", dtype=torch.bfloat16)
            deep_gemm.bf16_gemm_nt(a, b, d)
            torch.cuda.current_stream().synchronize()
        near(d, want, 1e-5, "stream")


@check
def operators():
    from dgk import torch_ops
    torch_ops.register_deep_gemm()
    a, b, d = bf(64, 256), bf(128, 256), torch.empty((64, 128), device="cuda")
    torch.ops.dgk.bf16_gemm_nt(a, b, d)
    near(d, a.float() @ b.float().T, 1e-5, "torch.ops.dgk.bf16_gemm_nt")
    copy = torch_ops.register("dgkcheck::copy", dgk.kernel("01_copy.dgk"))
    y = torch.empty((64, 128), device="cuda")
    copy(d, y)
    assert torch.equal(d, y)


@check
def num_sms():
    deep_gemm.set_num_sms(16)
    try:
        a, b, d = bf(512, 512), bf(512, 512), torch.empty((512, 512), device="cuda")
        deep_gemm.bf16_gemm_nt(a, b, d)
        near(d, a.float() @ b.float().T, 1e-5, "16 multiprocessors")
    finally:
        deep_gemm.set_num_sms(0)


def bf16_chain(m, n, k):
    """A pair of GEMMs, each on what the other left, and that."""
    x, y, b, c = bf(m, k), torch.empty((m, n), device="cuda", dtype=torch.bfloat16), bf(n, k) * k ** -0.5, bf(k, n) * n ** -0.5
    first = x.clone()

    def begin():
        x.copy_(first), y.fill_(float("nan"))

    def pair():
        deep_gemm.bf16_gemm_nt(x, b, y)
        deep_gemm.bf16_gemm_nt(y, c, x)
    return begin, pair, x


def fp8_chain(m, n, k):
    """The same of calls that are two launches where k / 128 is no multiple of 4: scales laid out anew, then the GEMM; sums are kept."""
    a, b = per_token_cast_to_fp8(bf(m, k), False), per_block_cast_to_fp8(bf(n, k), False)
    d = torch.empty((m, n), device="cuda", dtype=torch.float32)

    def begin():
        d.zero_()

    def pair():
        deep_gemm.fp8_gemm_nt(a, b, d, c=d, recipe=(1, 128, 128))
        deep_gemm.fp8_gemm_nt(a, b, d, c=d, recipe=(1, 128, 128))
    return begin, pair, d


def chain_of(begin, pair, out, pairs=50):
    """Twice: what `pairs` of them leave, and the microseconds a pair takes on the device; launched, and as a graph."""
    begin(), pair()
    found, graph = [], torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        begin()
        for _ in range(pairs):
            pair()

    def launched():
        begin()
        for _ in range(pairs):
            pair()
    for f in (launched, graph.replay):
        best = 1e9
        for _ in range(4):
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            f()
            stop.record()
            torch.cuda.synchronize()
            best = min(best, start.elapsed_time(stop) * 1e3 / pairs)
        found.append((out.clone(), best))
    return found


@check
def pdl():
    """Launches that overlap leave the bits that others leave."""
    for make, shape in ((bf16_chain, (1, 2112, 7168)), (bf16_chain, (128, 2112, 7168)), (bf16_chain, (128, 4096, 7168)), (bf16_chain, (4096, 2112, 7168)),
                        (fp8_chain, (128, 2112, 7296)), (fp8_chain, (64, 576, 640))):
        chain, times = make(*shape), []
        plain = chain_of(*chain)
        deep_gemm.set_pdl(True)
        try:
            over = chain_of(*chain)
        finally:
            deep_gemm.set_pdl(False)
        for way, (x, before), (y, after) in zip(("launched", "graph"), plain, over):
            deep_gemm.testing.assert_bitwise_equal(x, y, f"{make.__name__} {shape} {way}")
            assert torch.isfinite(y).all()
            times.append(f"{way} {before:.2f} us, overlapping {after:.2f} us")
        print(f"pdl: {make.__name__} {shape}: a pair {'; '.join(times)}")


def host_us(f, n=300):
    best = 1e9
    for _ in range(7):
        torch.cuda.synchronize()
        t = time.perf_counter()
        for _ in range(n):
            f()
        best = min(best, (time.perf_counter() - t) / n * 1e6)
        torch.cuda.synchronize()
    return best


def families():
    """name: (calls of new tensors of the same shapes, the most microseconds of host time a call may take)"""
    f8 = lambda *shape: bf(*shape).to(torch.float8_e4m3fn)
    ones = lambda *shape: torch.rand(shape, device="cuda") + 0.5
    word = lambda *values: torch.tensor(values, device="cuda", dtype=torch.int32)
    half = lambda *shape: torch.zeros(shape, device="cuda", dtype=torch.bfloat16)
    m, n, k = 64, 128, 512
    out = {}

    def add(name, make, most=5.0):
        out[name] = make, most

    def gemm(function, *tensors):
        d = tensors[-1]
        return lambda: (function(*tensors), d)[1]

    kernel = dgk.kernel("bf16_gemm.dgk")
    add("dgk kernel", lambda: (lambda a, b, d: lambda: (kernel(A=a, B=b, D=d), d)[1])(bf(m, k), bf(n, k), half(m, n)))
    add("bf16_gemm_nt", lambda: gemm(deep_gemm.bf16_gemm_nt, bf(m, k), bf(n, k), half(m, n)))
    add("bf16_gemm_nn", lambda: gemm(deep_gemm.bf16_gemm_nn, bf(m, k), bf(k, n), half(m, n)))
    add("fp8_gemm_nt, scales ready", lambda: gemm(deep_gemm.fp8_gemm_nt, (f8(m, k), deep_gemm.get_mn_major_tma_aligned_tensor(ones(m, k // 128))),
                                                  (f8(n, k), ones(1, k // 128)), half(m, n)))
    add("fp8_gemm_nt, row-major scales", lambda: gemm(deep_gemm.fp8_gemm_nt, (f8(m, k), ones(m, k // 128)), (f8(n, k), ones(1, k // 128)), half(m, n)))
    for name, lie in (("row-major scales", lambda s: s), ("scales ready", deep_gemm.get_mn_major_tma_aligned_tensor)):
        add(f"m_grouped_fp8 masked, {name}", lambda lie=lie: gemm(lambda a, b, w, d: deep_gemm.m_grouped_fp8_gemm_nt_masked(a, b, d, w, 64),
                                                                  (f8(2, m, k), lie(ones(2, m, k // 128))), (f8(2, n, k), ones(2, 1, k // 128)),
                                                                  word(m, m), half(2, m, n)))
    add("m_grouped_bf16 contiguous", lambda: gemm(lambda a, b, w, d: deep_gemm.m_grouped_bf16_gemm_nt_contiguous(a, b, d, w), bf(256, k), bf(2, n, k),
                                                  word(*[0] * 128, *[1] * 128), half(256, n)))
    add("k_grouped_bf16 tn", lambda: gemm(lambda a, b, w, d: deep_gemm.k_grouped_bf16_gemm_tn_contiguous(a, b, d, None, w, d), bf(256, m), bf(256, n),
                                          word(128, 128), torch.zeros((2, m, n), device="cuda")))
    add("einsum bhr,hdr->bhd", lambda: gemm(lambda *t: deep_gemm.einsum("bhr,hdr->bhd", *t), bf(m, 2, k), bf(2, n, k), half(m, 2, n)))
    add("fp8_einsum bhr,hdr->bhd", lambda: gemm(lambda *t: deep_gemm.fp8_einsum("bhr,hdr->bhd", *t), (f8(m, 2, k), ones(m, 2, k // 128)),
                                                (f8(2, n, k), ones(2, 1, k // 128)), half(m, 2, n)))
    add("tf32_hc_prenorm_gemm", lambda: gemm(lambda a, b, s, d: deep_gemm.tf32_hc_prenorm_gemm(a, b, d, s), bf(m, k), torch.randn((24, k), device="cuda"),
                                             torch.zeros(m, device="cuda"), torch.zeros((m, 24), device="cuda")))
    add("fp8_gemm_nt_skip_head_mid", lambda: gemm(lambda a, b, d: deep_gemm.fp8_gemm_nt_skip_head_mid(a, b, d, (128, 64, 128)), (f8(m, k), ones(m, k // 128)),
                                                  (f8(256, k), ones(2, k // 128)), half(m, 320)))
    add("transposed scales", lambda: (lambda s: lambda: deep_gemm.get_mn_major_tma_aligned_tensor(s))(ones(m, 8)))

    def logits():
        q, kv, sf, w = f8(m, 32, 64), f8(k, 64), ones(k), ones(m, 32)
        first, last = torch.zeros(m, device="cuda", dtype=torch.int32), torch.full((m,), k, device="cuda", dtype=torch.int32)
        return lambda: deep_gemm.fp8_mqa_logits(q, (kv, sf), w, first, last)

    def paged():
        q, cache, w, lens, table, *_ = paged_case(4, 1, 64, 128, 500)
        lens.fill_(320)
        meta = deep_gemm.get_paged_mqa_logits_metadata(lens, 64, deep_gemm.get_num_sms())
        cache, table = torch.cat([cache] * 2)[:64].contiguous(), table[:, :5].contiguous() % 20
        return lambda: deep_gemm.fp8_paged_mqa_logits(q, cache, w, lens, table, meta, 320)

    def varlen():
        q, cache, w, lens, table, who, *_ = varlen_case([2, 1, 3], 64, 500)
        lens.fill_(320)
        meta = deep_gemm.get_paged_mqa_logits_metadata(lens, 64, deep_gemm.get_num_sms(), indices=who)
        cache, table = torch.cat([cache] * 3)[:64].contiguous(), table[:, :5].contiguous() % 20
        return lambda: deep_gemm.fp8_paged_mqa_logits(q, cache, w, lens, table, meta, 320, indices=who)

    add("fp8_mqa_logits", logits, 6.5)
    add("fp8_paged_mqa_logits, indices", varlen, 7.0)
    add("fp8_paged_mqa_logits", paged, 6.5)
    add("paged metadata", lambda: (lambda lens: lambda: deep_gemm.get_paged_mqa_logits_metadata(lens, 64, 132))(word(300, 500, 700).unsqueeze(1)))
    a, b, d = bf(m, k), bf(n, k), half(m, n)
    add("(torch.matmul)", lambda: lambda: torch.matmul(a, b.T, out=d), 1e9)
    return out


def plain(f):
    """What f gives where everything runs in Python."""
    if not dgk._native.fast:
        return f()
    dgk._native.fast.recording(1)
    try:
        return f()
    finally:
        dgk._native.fast.recording(-1)


@check
def replayed():
    """The third call of each family, on memory of its own, is what Python makes of it."""
    for name, (make, _) in families().items():
        calls = [make() for _ in range(3)]
        got = [f().clone() for f in calls][-1]
        if name.startswith("k_grouped"):  # it adds to what is there: begin anew
            continue
        assert torch.equal(got, plain(calls[-1])), name
    return f"{len(families())} families"


host_times = []


@check
def host_time():
    late = []
    for name, (make, most) in families().items():
        f = make()
        us = host_us(f)
        host_times.append((name, us, most))
        if us > most:
            late.append(f"{name} {us:.1f} us")
    assert not late, "more than wanted: " + ", ".join(late)


FIRST = """
import sys, time
sys.path.insert(0, sys.argv[1])
import torch
a = torch.randn((128, 7168), device="cuda", dtype=torch.bfloat16); b = torch.randn((int(sys.argv[2]), 7168), device="cuda", dtype=torch.bfloat16)
d = torch.empty((128, int(sys.argv[2])), device="cuda", dtype=torch.bfloat16)
torch.cuda.synchronize()
import dgk
dgk._native.context("cuda:0")
k = dgk.kernel("bf16_gemm.dgk")
t = time.perf_counter(); k(A=a, B=b, D=d); torch.cuda.synchronize()
print((time.perf_counter() - t) * 1e3, k.counts()["compiled"])
"""


@check
def first_calls():
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        env = dict(os.environ, DGC_CACHE_DIR=folder)

        def run(n):
            r = subprocess.run([sys.executable, "-c", FIRST, str(ROOT / "python"), str(n)], env=env, capture_output=True, text=True, check=True)
            return r.stdout.split()
        cold, warm, other = run(2112), run(2112), run(576)
    return f"cold {float(cold[0]):.0f} ms (<= 150), new process with a warm cache {float(warm[0]):.1f} ms (<= 5, compiled {warm[1]}), another n {float(other[0]):.0f} ms"


p = torch.cuda.get_device_properties(0)
print(f"\n{p.name}, torch {torch.__version__}, {dgk._native.lib.path}, {'native' if dgk._native.fast else 'ctypes'} calls")
for name, ok, said, seconds in rows:
    print(f"{'ok  ' if ok else 'FAIL'} {name:<20} {seconds:6.1f} s  {said}")
if host_times:
    print("\nmicroseconds of host time a call" + ("" if dgk._native.fast else ", through ctypes"))
for name, us, most in host_times:
    print(f"  {name:<32} {us:6.1f}" + (f"   (<= {most:.0f})" if most < 1e9 else ""))
bad = sum(not ok for _, ok, _, _ in rows)
print(f"{len(rows) - bad} passed, {bad} failed")
sys.exit(bad != 0)
