"""The deep_gemm package on the emulator: on torch where it is installed, else on the stand-in."""

import importlib.util
import inspect
import pathlib
import sys

import numpy as np
import pytest

if importlib.util.find_spec("torch") is None:
    sys.path.append(str(pathlib.Path(__file__).parent / "standin"))
torch = pytest.importorskip("torch")

import deep_gemm  # noqa: E402
import dgk  # noqa: E402

rng = np.random.default_rng(5)


def numbers(*shape):
    return rng.integers(-3, 4, shape).astype(np.float32)


def tensor(x, kind):
    return torch.tensor(x, dtype=torch.float32).to(kind) if kind in (torch.bfloat16, torch.float8_e4m3fn) else torch.tensor(x, dtype=kind)


def value(t):
    return np.asarray(t.float().numpy())


def close(x, y, tolerance):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return 1 - 2 * (x * y).sum() / (x * x + y * y).sum() < tolerance


# ---- bf16 --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("layout", ["nt", "nn", "tn", "tt"])
def test_bf16_layouts(layout):
    m, n, k = 72, 48, 64
    a, b = numbers(m, k), numbers(n, k)
    ta = tensor(a if layout[0] == "n" else np.ascontiguousarray(a.T), torch.bfloat16)
    tb = tensor(b if layout[1] == "t" else np.ascontiguousarray(b.T), torch.bfloat16)
    d = torch.empty((m, n), dtype=torch.float32)
    assert getattr(deep_gemm, f"bf16_gemm_{layout}")(ta, tb, d) is None
    assert (value(d) == a @ b.T).all()


def test_bf16_accumulates():
    a, b, c = numbers(16, 64), numbers(24, 64), numbers(16, 24)
    ta, tb, tc = tensor(a, torch.bfloat16), tensor(b, torch.bfloat16), tensor(c, torch.float32)
    d = torch.empty((16, 24), dtype=torch.float32)
    deep_gemm.bf16_gemm_nt(ta, tb, d, c=tc)
    assert (value(d) == a @ b.T + c).all()
    deep_gemm.bf16_gemm_nt(ta, tb, d, c=d)
    assert (value(d) == 2 * (a @ b.T) + c).all()


def test_empty():
    d = torch.ones((4, 8), dtype=torch.float32)
    deep_gemm.bf16_gemm_nt(torch.empty((0, 64), dtype=torch.bfloat16), torch.empty((8, 64), dtype=torch.bfloat16), torch.empty((0, 8), dtype=torch.float32))
    deep_gemm.bf16_gemm_nt(torch.empty((4, 0), dtype=torch.bfloat16), torch.empty((8, 0), dtype=torch.bfloat16), d)
    assert (value(d) == 0).all()
    c = torch.ones((4, 8), dtype=torch.float32)
    deep_gemm.bf16_gemm_nt(torch.empty((4, 0), dtype=torch.bfloat16), torch.empty((8, 0), dtype=torch.bfloat16), d, c)
    assert (value(d) == 1).all()


def test_wrong_shapes():
    with pytest.raises(RuntimeError, match="Assertion error.*a has k = 64, b has k = 32"):
        deep_gemm.bf16_gemm_nt(torch.empty((4, 64), dtype=torch.bfloat16), torch.empty((8, 32), dtype=torch.bfloat16), torch.empty((4, 8), dtype=torch.float32))


# ---- fp8 ---------------------------------------------------------------------------------------------------------------

def scaled(x, s, rows, gran=128):
    """x times the scale of each block of `rows` x gran."""
    return x * np.repeat(np.repeat(s, rows, 0), gran, 1)[:x.shape[0], :x.shape[1]]


@pytest.mark.parametrize("m, n, k", [(33, 192, 256), (64, 128, 640), (20, 64, 512)])
def test_fp8_blocks(m, n, k):
    a, b = numbers(m, k), numbers(n, k)
    sa, sb = 2.0 ** rng.integers(-2, 3, (m, k // 128)), 2.0 ** rng.integers(-2, 3, (-(-n // 128), k // 128))
    d = torch.empty((m, n), dtype=torch.bfloat16)
    deep_gemm.fp8_gemm_nt((tensor(a, torch.float8_e4m3fn), tensor(sa, torch.float32)), (tensor(b, torch.float8_e4m3fn), tensor(sb, torch.float32)), d)
    assert close(value(d), scaled(a, sa, 1) @ scaled(b, sb, 128).T, 1e-5)


def test_fp8_rows_accumulate():
    m, n, k = 16, 64, 256
    a, b, c = numbers(m, k), numbers(n, k), numbers(m, n)
    sa, sb = 2.0 ** rng.integers(-2, 3, (m, k // 128)), 2.0 ** rng.integers(-2, 3, (n, k // 128))
    d = tensor(c, torch.float32)
    deep_gemm.fp8_fp4_gemm_nt([tensor(a, torch.float8_e4m3fn), tensor(sa, torch.float32)], [tensor(b, torch.float8_e4m3fn), tensor(sb, torch.float32)],
                              d, c=d, recipe=(1, 1, 128))
    assert close(value(d), scaled(a, sa, 1) @ scaled(b, sb, 1).T + c, 1e-6)


E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


@pytest.mark.parametrize("fp4", [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("packed", [False, True])
def test_fp4(fp4, packed):
    rows, k, values, pairs, grans = (40, 64), 256, [], [], [32 if f else 128 for f in fp4]
    for n, f, g in zip(rows, fp4, grans):
        scale = 2.0 ** rng.integers(-2, 3, (n, k // g))
        if f:
            codes = rng.integers(0, 16, (n, k))
            x, t = E2M1[codes], torch.tensor((codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8).view(np.int8), dtype=torch.int8)
        else:
            x = numbers(n, k)
            t = tensor(x, torch.float8_e4m3fn)
        sf = tensor(scale, torch.float32)
        values.append(x * np.repeat(scale, g, 1))
        pairs.append((t, deep_gemm.get_mn_major_tma_aligned_packed_ue8m0_tensor(sf) if packed else sf))
    d = torch.empty((rows[0], rows[1]), dtype=torch.float32)
    deep_gemm.fp8_fp4_gemm_nt(*pairs, d, recipe_a=(1, grans[0]), recipe_b=(1, grans[1]))
    assert close(value(d), values[0] @ values[1].T, 1e-6)
    with pytest.raises(NotImplementedError, match=r"FP4 operands and c on sm_\d+x.*nearest"):
        deep_gemm.fp8_fp4_gemm_nt(*pairs, d, d, recipe_a=(1, grans[0]), recipe_b=(1, grans[1]))


def test_fp4_says_what_is_near():
    x, s = torch.zeros((8, 64), dtype=torch.int8), torch.ones((8, 1), dtype=torch.float32)
    with pytest.raises(NotImplementedError, match=r"FP4 operands that are not K-major on sm_\d+x.*nearest"):
        deep_gemm.fp8_fp4_gemm_nn((x, s), (x, s), torch.empty((8, 8), dtype=torch.float32))


# ---- scales ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(36, 8), (37, 8), (37, 5), (2, 37, 8), (36, 1), (37, 1), (2, 37, 1), (1, 5)])
def test_transposed_scales(shape):
    s = rng.random(shape).astype(np.float32)
    t = deep_gemm.get_mn_major_tma_aligned_tensor(tensor(s, torch.float32))
    assert (value(t) == s).all() and t.stride(-2) == 1 and t.stride(-1) == deep_gemm.get_tma_aligned_size(shape[-2], 4)
    assert len(shape) == 2 or t.stride(0) == t.stride(-1) * shape[-1]
    assert deep_gemm.get_mn_major_tma_aligned_tensor(t) is t


@pytest.mark.parametrize("shape", [(36, 8), (37, 7), (2, 37, 5)])
def test_packed_scales(shape):
    e = rng.integers(-20, 20, shape)
    p = deep_gemm.get_mn_major_tma_aligned_packed_ue8m0_tensor(tensor(2.0 ** e, torch.float32))
    words = -(-shape[-1] // 4)
    want = np.zeros(shape[:-1] + (words * 4,), np.int64)
    want[..., :shape[-1]] = e + 127
    want = (want.reshape(shape[:-1] + (words, 4)) << np.array([0, 8, 16, 24])).sum(-1).astype(np.uint32).astype(np.int32)
    assert p.dtype == torch.int32 and (np.asarray(p.numpy()) == want).all() and p.stride(-2) == 1


@pytest.mark.parametrize("gran_k, alignment, ks, psum", [(128, 128, (256, 0, 640, 128), False), (32, 32, (96, 160, 32), False),
                                                         (32, 32, (96, 100, 30), True), (32, 224, (96, 0, 250, 30), True)])
def test_packed_scales_of_k_groups(gran_k, alignment, ks, psum):
    mn, granules = 36, [-(-k // gran_k) for k in ks]
    e = [rng.integers(-20, 20, (n, mn)) for n in granules]
    want = []
    for x in e:
        padded = np.zeros((-(-len(x) // 4) * 4, mn), np.int64)
        padded[:len(x)] = x + 127
        want.append((padded.reshape(-1, 4, mn) << np.array([0, 8, 16, 24])[:, None]).sum(1))
    want, ends, end = np.concatenate(want).astype(np.uint32).astype(np.int32), [], 0
    for k in ks:
        end = (-(-end // alignment) * alignment if psum else 0) + k
        ends.append(end)
    sf, sizes = tensor(2.0 ** np.concatenate(e), torch.float32), tensor(np.array(ends, np.int32), torch.int32)
    for given in (list(ks), None, []):
        p = deep_gemm.get_k_grouped_mn_major_tma_aligned_packed_ue8m0_tensor(sf, sizes, given, gran_k, alignment, use_psum_layout=psum)
        assert p.dtype == torch.int32 and p.shape[0] >= len(want) and (given is None or not given or p.shape[0] == len(want))
        assert (np.asarray(p.numpy())[:len(want)] == want).all()


def test_required_layout():
    s = tensor(2.0 ** rng.integers(-3, 3, (40, 2)), torch.float32)
    if deep_gemm.testing.get_arch_major() >= 10:
        assert deep_gemm.transform_sf_into_required_layout(s, 40, 256, (1, 128, 128), is_sfa=True).dtype == torch.int32
        return
    t = deep_gemm.transform_sf_into_required_layout(s, 40, 256, (1, 128, 128), is_sfa=True)
    assert t.stride(0) == 1 and (value(t) == value(s)).all()
    assert deep_gemm.transform_sf_into_required_layout(s[:1], 128, 256, (128, 128)).shape == (1, 2)
    with pytest.raises(RuntimeError, match="is_sfa"):
        deep_gemm.transform_sf_into_required_layout(s, 40, 256, (1, 128, 128))


# ---- attention ---------------------------------------------------------------------------------------------------------

def test_mqa_logits():
    seq, seq_kv, heads, dim = 6, 300, 32, 64
    q, kv, w, s = numbers(seq, heads, dim), numbers(seq_kv, dim), numbers(seq, heads), 2.0 ** rng.integers(-2, 2, seq_kv)
    ks, ke = rng.integers(0, 100, seq).astype(np.int32), rng.integers(100, 300, seq).astype(np.int32)
    args = (tensor(q, torch.float8_e4m3fn), (tensor(kv, torch.float8_e4m3fn), tensor(s, torch.float32)), tensor(w, torch.float32),
            tensor(ks, torch.int32), tensor(ke, torch.int32))
    logits = deep_gemm.fp8_mqa_logits(*args)
    t = np.arange(seq_kv)[None]
    inside = (t >= ks[:, None]) & (t < ke[:, None])
    want = np.einsum("sht,sh->st", np.maximum(np.einsum("shc,tc->sht", q, kv), 0), w) * s
    assert tuple(logits.shape) == (seq, seq_kv) and logits.stride(0) % 256 == 0
    assert np.isneginf(value(logits)[~inside]).all() and close(value(logits)[inside], want[inside], 1e-6)
    short = value(deep_gemm.fp8_mqa_logits(*args, clean_logits=False, max_seqlen_k=int((ke - ks).max())))
    assert all(close(short[i, :ke[i] - ks[i]], want[i, ks[i]:ke[i]], 1e-6) for i in range(seq))


def paged_cache(kv, s):
    """The bytes of a cache: the values of a block's keys, then their scales."""
    blocks, block, dim = kv.shape
    packed = np.zeros((blocks, block * (dim + 4)), np.uint8)
    packed[:, :block * dim] = np.asarray(tensor(kv, torch.float8_e4m3fn).view(torch.uint8).numpy()).reshape(blocks, -1)
    packed[:, block * dim:] = s.view(np.uint8).reshape(blocks, -1)
    return tensor(packed, torch.uint8).view(blocks, block, 1, dim + 4)


@pytest.mark.parametrize("next_n", [1, 2])
def test_paged_mqa_logits(next_n):
    batch, heads, dim, block, blocks, pages = 3, 32, 64, 64, 20, 6
    q, kv, w = numbers(batch, next_n, heads, dim), numbers(blocks, block, dim), numbers(batch * next_n, heads)
    s = (2.0 ** rng.integers(-2, 2, (blocks, block))).astype(np.float32)
    lens = np.array([[10] * next_n, [300] * next_n, [64] * next_n], np.int32)
    table = rng.permutation(blocks)[:batch * pages].reshape(batch, pages).astype(np.int32)
    cache = paged_cache(kv, s)
    lengths, pt = tensor(lens, torch.int32), tensor(table, torch.int32)
    meta = deep_gemm.get_paged_mqa_logits_metadata(lengths, block, deep_gemm.get_num_sms())
    assert tuple(meta.shape) == (deep_gemm.get_num_sms() + 1, 2)
    logits = deep_gemm.fp8_paged_mqa_logits(tensor(q, torch.float8_e4m3fn), cache, tensor(w, torch.float32), lengths, pt, meta, 1000)
    short = deep_gemm.fp8_fp4_paged_mqa_logits((tensor(q, torch.float8_e4m3fn), None), cache, tensor(w, torch.float32), lengths, pt, meta, 1000,
                                               logits_dtype=torch.bfloat16)
    assert tuple(logits.shape) == tuple(short.shape) == (batch * next_n, 1000) and short.dtype == torch.bfloat16 and short.stride(0) % 512 == 0
    for b in range(batch):
        n = lens[b, -1]
        keys, scale = kv[table[b]].reshape(-1, dim)[:n], s[table[b]].reshape(-1)[:n]
        want = np.einsum("nht,nh->nt", np.maximum(np.einsum("nhc,tc->nht", q[b], keys), 0), w.reshape(batch, next_n, heads)[b]) * scale
        assert close(value(logits)[b * next_n:(b + 1) * next_n, :n], want, 1e-6)
        assert close(value(short)[b * next_n:(b + 1) * next_n, :n], want, 3e-5)


def runs(indices):
    """(first token, one past the last) of each request."""
    starts = [i for i in range(len(indices)) if i == 0 or indices[i] != indices[i - 1]]
    return list(zip(starts, [*starts[1:], len(indices)]))


def shuffled(*counts):
    """Requests of so many tokens: numbers that are not sorted and come again later."""
    names = [-1, 7, 3]
    return [names[i % 3] for i, n in enumerate(counts) for _ in range(n)]


VARLEN = {
    "one token": ([5], [300]),
    "one request": ([2] * 37, range(270, 307)),
    "a request each": (range(9), [1, 700, 256, 257, 0, 64, 63, 65, 511]),
    "no keys": ([0, 0, 1, 2, 2], [0] * 5),
    "no keys here and there": ([0, 0, 1, 2, 2, 3], [9, 0, 0, 300, 301, 0]),
    "padding": ([4, 4, 4, 6, 6, -1, -1, -1, -1], [598, 599, 600, 30, 31, 0, 0, 0, 0]),
    "negative lengths": ([4, 4, -1, -1, 5], [80, 81, -1, -1000, 20]),
    "the last token's length": ([1, 1, 1, 0, 0], [500, 3, 90, 10, 400]),
    "longer than a segment": (shuffled(17, 1, 33, 16, 2), [400] * 69),
    **{f"random {i}": (shuffled(*rng.integers(1, 9, 12)), None) for i in range(3)},
}


@pytest.mark.parametrize("heads, dim", [(64, 128), (32, 64), (8, 32)])
@pytest.mark.parametrize("name", VARLEN)
def test_paged_mqa_logits_varlen(name, heads, dim):
    indices, lens = VARLEN[name]
    indices, block, blocks, pages = np.array(indices, np.int32), 64, 30, 12
    tokens = len(indices)
    lens = rng.integers(0, 700, tokens).astype(np.int32) if lens is None else np.array(lens, np.int32)
    q, kv, w = numbers(tokens, 1, heads, dim), numbers(blocks, block, dim), numbers(tokens, heads)
    s = (2.0 ** rng.integers(-2, 2, (blocks, block))).astype(np.float32)
    table = np.full((tokens, pages), -1, np.int32)                 # -1 where there is no page, and in rows that nothing asks for
    for a, e in runs(indices):
        used = -(-max(0, lens[e - 1]) // block)
        table[a, :used] = rng.integers(0, blocks, used)
    cache, one, lengths, pt = paged_cache(kv, s), tensor(indices, torch.int32), tensor(lens, torch.int32).view(tokens, 1), tensor(table, torch.int32)
    meta = deep_gemm.get_paged_mqa_logits_metadata(lengths, block, deep_gemm.get_num_sms(), indices=one)
    assert tuple(meta.shape) == (deep_gemm.get_num_sms() + 1, 2)
    args = cache, tensor(w, torch.float32), lengths, pt, meta, 720
    logits = deep_gemm.fp8_paged_mqa_logits(tensor(q, torch.float8_e4m3fn), *args, indices=one)
    short = deep_gemm.fp8_fp4_paged_mqa_logits((tensor(q, torch.float8_e4m3fn), None), *args, logits_dtype=torch.bfloat16, indices=one)
    assert tuple(logits.shape) == tuple(short.shape) == (tokens, 720) and short.dtype == torch.bfloat16 and short.stride(0) % 512 == 0
    for a, e in runs(indices):
        n = max(0, lens[e - 1])
        keys, scale = kv[table[a]].reshape(-1, dim)[:n], s[table[a]].reshape(-1)[:n]
        want = np.einsum("nht,nh->nt", np.maximum(np.einsum("nhc,tc->nht", q[a:e, 0], keys), 0), w[a:e]) * scale
        assert n == 0 or close(value(logits)[a:e, :n], want, 1e-6) and close(value(short)[a:e, :n], want, 3e-5), (a, e)


def test_paged_metadata_varlen():
    """Any number of tokens; the shares begin one after another at what a request's tokens read, and are about alike."""
    for tokens, most in ((0, 1), (1, 1), (5000, 6), (9000, 40), (4097, 4097)):
        indices = np.repeat(np.arange(tokens), rng.integers(1, most + 1, tokens))[:tokens].astype(np.int32) if most < tokens else np.zeros(tokens, np.int32)
        lens = rng.integers(-100, 2000, tokens).astype(np.int32)
        meta = deep_gemm.get_paged_mqa_logits_metadata(tensor(lens, torch.int32).view(tokens, 1), 64, 132, indices=tensor(indices, torch.int32)).numpy()
        begins, done = {}, 0                                        # segments of 16 tokens; a split costs its tokens, in pairs, and one for its keys
        for a, e in runs(indices):
            for i in range(a, e, 16):
                cost = -(-min(16, e - i) // 2) * 2 + 1
                begins[i] = done, cost
                done += cost * -(-max(0, int(lens[e - 1])) // 256)
        at = [begins[t][0] + p * begins[t][1] for t, p in meta.tolist()] if tokens else [0] * 133
        assert at[0] == 0 and at[-1] == done and at == sorted(at)
        assert all(0 <= p * (done // 132) + min(p, done % 132) - x < 17 for p, x in enumerate(at)), "shares are even but for a split"


# ---- others ------------------------------------------------------------------------------------------------------------

def test_hc_prenorm():
    a, b = numbers(13, 128), numbers(24, 128)
    d, q = torch.empty((13, 24), dtype=torch.float32), torch.empty((13,), dtype=torch.float32)
    deep_gemm.tf32_hc_prenorm_gemm(tensor(a, torch.bfloat16), tensor(b, torch.float32), d, q)
    assert (value(d) == a @ b.T).all() and (value(q) == (a * a).sum(1)).all()


def test_einsum():
    a, b = numbers(5, 2, 64), numbers(2, 32, 64)
    d = torch.empty((5, 2, 32), dtype=torch.bfloat16)
    deep_gemm.einsum("bhr,hdr->bhd", tensor(a, torch.bfloat16), tensor(b, torch.bfloat16), d)
    assert close(value(d), np.einsum("bhr,hdr->bhd", a, b), 1e-5)


def test_einsum_of_turned_weights():
    a, b = numbers(5, 2, 64), numbers(2, 64, 40)
    d = torch.empty((5, 2, 40), dtype=torch.bfloat16)
    deep_gemm.einsum("bhd,hdr->bhr", tensor(a, torch.bfloat16), tensor(b, torch.bfloat16), d)
    assert close(value(d), np.einsum("bhd,hdr->bhr", a, b), 1e-5)


@pytest.mark.parametrize("k", [128, 512, 640])
def test_columns_between_heads_stay(k):
    m, n = 64, 256
    a, b, sa, sb = numbers(m, k), numbers(n, k), 2.0 ** rng.integers(-2, 3, (m, k // 128)), 2.0 ** rng.integers(-2, 3, (n // 128, k // 128))
    d = torch.zeros((m, 320), dtype=torch.bfloat16)
    deep_gemm.fp8_gemm_nt_skip_head_mid((tensor(a, torch.float8_e4m3fn), tensor(sa, torch.float32)),
                                        (tensor(b, torch.float8_e4m3fn), tensor(sb, torch.float32)), d, (128, 64, 128))
    want = scaled(a, sa, 1) @ scaled(b, sb, 128).T
    assert close(value(d)[:, :128], want[:, :128], 1e-5) and (value(d)[:, 128:192] == 0).all() and close(value(d)[:, 192:], want[:, 128:], 1e-5)


def turned(s):
    """The same scales, M-major."""
    return tensor(np.ascontiguousarray(s.swapaxes(-1, -2)), torch.float32).transpose(s.ndim - 2, s.ndim - 1)


@pytest.mark.parametrize("rows, k", [(128, 128), (72, 512), (72, 640), (70, 640)])
@pytest.mark.parametrize("lie", [lambda s: tensor(s, torch.float32), turned])
def test_masked_groups(rows, k, lie):
    g, n = 2, 128
    a, b = numbers(g, rows, k), numbers(g, n, k)
    sa, sb = 2.0 ** rng.integers(-2, 3, (g, rows, k // 128)), np.ones((g, 1, k // 128))
    d = torch.zeros((g, rows, n), dtype=torch.bfloat16)
    used = np.array([5, 70], np.int32)
    deep_gemm.m_grouped_fp8_gemm_nt_masked((tensor(a, torch.float8_e4m3fn), lie(sa)), (tensor(b, torch.float8_e4m3fn), tensor(sb, torch.float32)),
                                           d, tensor(used, torch.int32), 64)
    for i in range(g):
        assert close(value(d)[i, :used[i]], (scaled(a[i], sa[i], 1) @ b[i].T)[:used[i]], 1e-5)


@pytest.mark.parametrize("k, launches", [(512, 1), (640, 2)])
def test_scales_in_rows_are_read_as_they_lie(monkeypatch, k, launches):
    seen, call = [], dgk.Kernel._call
    monkeypatch.setattr(dgk.Kernel, "_call", lambda self, *args, **named: (seen.append(self.path), call(self, *args, **named))[1])
    a, b, s = torch.zeros((64, k), dtype=torch.float8_e4m3fn), torch.zeros((256, k), dtype=torch.float8_e4m3fn), torch.ones((64, k // 128), dtype=torch.float32)
    blocks, d = torch.ones((2, k // 128), dtype=torch.float32), torch.empty((64, 256), dtype=torch.bfloat16)
    deep_gemm.fp8_gemm_nt((a, s), (b, blocks), d)
    assert len(seen) == launches
    deep_gemm.fp8_gemm_nt_skip_head_mid((a, s), (b, blocks), torch.empty((64, 320), dtype=torch.bfloat16), (128, 64, 128))
    assert len(seen) == 2 * launches
    deep_gemm.fp8_einsum("bhr,hdr->bhd", (a.view(32, 2, k), s.view(32, 2, k // 128)), (b.view(2, 128, k), blocks.view(2, 1, k // 128)),
                         torch.empty((32, 2, 128), dtype=torch.bfloat16))
    assert len(seen) == 3 * launches


@pytest.mark.parametrize("form", ["nt", "nn"])
def test_contiguous_groups(form):
    g, n, k = 2, 64, 64
    a, b = numbers(3 * 128, k), numbers(g, n, k)
    who = np.repeat([1, 0, -1], 128).astype(np.int32)
    a[who < 0] = 0
    d = torch.zeros((3 * 128, n), dtype=torch.bfloat16)
    tb = tensor(b if form == "nt" else np.ascontiguousarray(b.swapaxes(1, 2)), torch.bfloat16)
    getattr(deep_gemm, f"m_grouped_bf16_gemm_{form}_contiguous")(tensor(a, torch.bfloat16), tb, d, tensor(who, torch.int32))
    assert all(close(value(d)[i * 128:(i + 1) * 128], a[i * 128:(i + 1) * 128] @ b[e].T, 1e-5) for i, e in ((0, 1), (1, 0)))
    assert (value(d)[256:] == 0).all()


def test_masked_bf16_groups():
    g, rows, n, k = 2, 64, 64, 64
    a, b, used = numbers(g, rows, k), numbers(g, n, k), np.array([64, 9], np.int32)
    d = torch.zeros((g, rows, n), dtype=torch.bfloat16)
    deep_gemm.m_grouped_bf16_gemm_nt_masked(tensor(a, torch.bfloat16), tensor(b, torch.bfloat16), d, tensor(used, torch.int32), 30)
    assert all(close(value(d)[i, :used[i]], (a[i] @ b[i].T)[:used[i]], 1e-5) for i in range(g))


@pytest.mark.parametrize("r", [256, 512])
def test_fp8_einsum(r):
    b, h, d = 5, 2, 192
    x, w = numbers(b, h, r), numbers(h, d, r)
    sx, sw = 2.0 ** rng.integers(-2, 3, (b, h, r // 128)), 2.0 ** rng.integers(-2, 3, (h, 2, r // 128))
    out = torch.empty((b, h, d), dtype=torch.bfloat16)
    deep_gemm.fp8_einsum("bhr,hdr->bhd", (tensor(x, torch.float8_e4m3fn), tensor(sx, torch.float32)), (tensor(w, torch.float8_e4m3fn), tensor(sw, torch.float32)), out)
    want = np.einsum("bhr,hdr->bhd", x * np.repeat(sx, 128, 2), w * np.repeat(np.repeat(sw, 128, 1)[:, :d], 128, 2))
    assert close(value(out), want, 1e-5)
    with pytest.raises(NotImplementedError, match=r"fp8_einsum.*sm_\d+x.*nearest"):
        deep_gemm.fp8_einsum("bhd,hdr->bhr", (out, out), (out, out), out)


def test_every_name_is_there():
    for name in """fp8_gemm_nt fp8_einsum m_grouped_bf16_gemm_nt_masked k_grouped_fp8_gemm_tn_contiguous fp8_fp4_mega_moe SymmBuffer cublaslt_gemm_nt
                   transform_weights_for_mega_moe get_symm_buffer_for_mega_moe per_token_cast_to_fp8 set_num_sms set_pdl get_tc_util""".split():
        assert hasattr(deep_gemm, name), name
    assert "mma_type" in inspect.signature(deep_gemm.get_symm_buffer_for_mega_moe).parameters
    with pytest.raises(NotImplementedError, match=r"k_grouped_fp8_gemm_tn_contiguous.*sm_\d+x.*nearest alternative"):
        deep_gemm.k_grouped_fp8_gemm_tn_contiguous(None, None, None)


def test_symbols(monkeypatch):
    """A profiler finds the one kernel of a function by the part of its name that DeepGEMM's has."""
    seen = []
    monkeypatch.setattr(dgk.Kernel, "_call", lambda self, **named: seen.append(self.symbol))
    half, byte, full = (lambda *shape, kind=kind: torch.zeros(shape, dtype=kind) for kind in (torch.bfloat16, torch.float8_e4m3fn, torch.float32))
    word = lambda *shape: torch.zeros(shape, dtype=torch.int32)
    rows, blocks = (byte(128, 128), full(128, 1)), (byte(2, 128, 128), full(2, 1, 1))
    calls = {
        "bf16_gemm": [lambda: deep_gemm.bf16_gemm_nt(half(8, 64), half(8, 64), half(8, 8)),
                      lambda: deep_gemm.m_grouped_bf16_gemm_nt_contiguous(half(128, 64), half(2, 64, 64), half(128, 64), word(128)),
                      lambda: deep_gemm.m_grouped_bf16_gemm_nt_masked(half(2, 64, 64), half(2, 64, 64), half(2, 64, 64), word(2), 4),
                      lambda: deep_gemm.k_grouped_bf16_gemm_tn_contiguous(half(64, 64), half(64, 64), full(2, 64, 64), None, word(2), full(2, 64, 64))],
        "gemm_": [lambda: deep_gemm.fp8_gemm_nt(rows, rows, half(128, 128), recipe=(1, 1, 128)),
                  lambda: deep_gemm.fp8_gemm_nt(rows, (byte(128, 128), full(1, 1)), half(128, 128)),
                  lambda: deep_gemm.m_grouped_fp8_gemm_nt_contiguous(rows, blocks, half(128, 128), word(128)),
                  lambda: deep_gemm.m_grouped_fp8_gemm_nt_masked((byte(2, 64, 128), full(2, 64, 1)), blocks, half(2, 64, 128), word(2), 4),
                  lambda: deep_gemm.k_grouped_fp8_gemm_nt_contiguous((byte(8192), full(64, 1)), (byte(8192), full(64, 1)), full(1, 64, 64), None, word(1),
                                                                     full(1, 64, 64)),
                  lambda: deep_gemm.fp8_gemm_nt_skip_head_mid(rows, (byte(256, 128), full(2, 1)), half(128, 320), (128, 64, 128)),
                  lambda: deep_gemm.fp8_einsum("bhr,hdr->bhd", (byte(4, 2, 128), full(4, 2, 1)), blocks, half(4, 2, 128))],
        "gemm": [lambda: deep_gemm.einsum("bhr,hdr->bhd", half(4, 2, 64), half(2, 64, 64), half(4, 2, 64))],
        "bmn_bnk_mn_gemm_impl": [lambda: deep_gemm.einsum("bmk,bnk->mn", half(2, 64, 64), half(2, 64, 64), full(64, 64))],
        "tf32_hc_prenorm_gemm": [lambda: deep_gemm.tf32_hc_prenorm_gemm(half(8, 64), full(8, 64), full(8, 8), full(8))],
        "transpose": [lambda: deep_gemm.get_mn_major_tma_aligned_tensor(full(64, 8))],
        "pack_fp32_into_ue8m0": [lambda: deep_gemm.get_mn_major_tma_aligned_packed_ue8m0_tensor(full(64, 8)),
                                 lambda: deep_gemm.get_k_grouped_mn_major_tma_aligned_packed_ue8m0_tensor(full(8, 64), word(2), [512, 512])],
        "mqa_logits": [lambda: deep_gemm.fp8_mqa_logits(byte(4, 32, 64), (byte(64, 64), full(64)), full(4, 32), word(4), word(4))],
        "paged_mqa_logits": [lambda: deep_gemm.fp8_paged_mqa_logits(byte(4, 1, 32, 64), torch.zeros((4, 64, 1, 68), dtype=torch.uint8), full(4, 32), word(4, 1),
                                                                    word(4, 1), word(5, 2), 64, indices=indices) for indices in (None, word(4))],
    }
    for part, functions in calls.items():
        for f in functions:
            seen.clear()
            f()
            assert sum(part in s for s in seen) == 1, (part, seen)
    seen.clear()
    deep_gemm.get_paged_mqa_logits_metadata(word(4, 1), 64, 4)
    deep_gemm.get_paged_mqa_logits_metadata(word(4, 1), 64, 4, word(4))
    assert not any("mqa_logits" in s for s in seen)


def test_bitwise_equal():
    if not hasattr(torch, "unravel_index"):
        pytest.skip("needs torch itself")
    x = torch.zeros((3, 4))
    y = x.clone()
    deep_gemm.testing.assert_bitwise_equal(x, y)
    deep_gemm.testing.assert_bitwise_equal(x[:, :1].as_strided((3, 1), (1, 5)), y[:, :1].as_strided((3, 1), (1, 9)))
    y[1, 2] = -0.0
    with pytest.raises(AssertionError, match=r"two runs: 1 of 12 elements differ; the first is \[1, 2\]: 0.0 is not -0.0"):
        deep_gemm.testing.assert_bitwise_equal(x, y, "two runs")


def test_settings():
    n = deep_gemm.get_num_sms()
    deep_gemm.set_num_sms(2)
    assert deep_gemm.get_num_sms() == 2 == dgk.get_num_sms()
    deep_gemm.set_num_sms(0)
    assert deep_gemm.get_num_sms() == n
    deep_gemm.set_pdl(True)
    assert deep_gemm.get_pdl() and dgk.get_pdl()
    deep_gemm.set_pdl(False)
    assert not deep_gemm.get_pdl() and not dgk.get_pdl()
    assert deep_gemm.get_tc_util() == 100 and deep_gemm.get_mk_alignment_for_contiguous_layout() == 128
    major = deep_gemm.testing.get_arch_major()
    assert deep_gemm.get_theoretical_mk_alignment_for_contiguous_layout(expected_m=10, num_groups=2) == {9: 128, 10: 32, 12: 64}.get(major, 128)


def test_compile_mode():
    deep_gemm.set_compile_mode(1)
    d = torch.ones((16, 8), dtype=torch.float32)
    deep_gemm.bf16_gemm_nt(tensor(numbers(16, 64), torch.bfloat16), tensor(numbers(8, 64), torch.bfloat16), d)
    deep_gemm.set_compile_mode(0)
    assert (value(d) == 1).all()
