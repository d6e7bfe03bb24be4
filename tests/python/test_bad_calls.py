"""Every wrong call of deep_gemm and dgk raises, names what is wrong, and leaves its output alone: a good call of each function, and
what can be wrong about each of its arguments."""

import importlib.util
import pathlib
import sys

import pytest

if importlib.util.find_spec("torch") is None:
    sys.path.append(str(pathlib.Path(__file__).parent / "standin"))
torch = pytest.importorskip("torch")

import deep_gemm  # noqa: E402
import dgk  # noqa: E402


def half(*shape):
    return torch.zeros(shape, dtype=torch.bfloat16)


def byte(*shape):
    return torch.zeros(shape, dtype=torch.float8_e4m3fn)


def full(*shape):
    return torch.ones(shape, dtype=torch.float32)


def word(*shape):
    return torch.zeros(shape, dtype=torch.int32)


def rows(m=128, k=256):
    return byte(m, k), full(m, k // 128)


def blocks(n=256, k=256):
    return byte(n, k), full(n // 128, k // 128)


def groups(g=2, n=128, k=256):
    return byte(g, n, k), full(g, n // 128, k // 128)


# function: its arguments; tensors stand where a call would pass them
GOOD = {
    "bf16_gemm_nt": lambda: [half(64, 128), half(32, 128), half(64, 32)],
    "bf16_gemm_nn": lambda: [half(64, 128), half(128, 32), half(64, 32)],
    "fp8_gemm_nt": lambda: [rows(), blocks(), half(128, 256)],
    "fp8_gemm_nt_skip_head_mid": lambda: [rows(), blocks(), half(128, 320), (128, 64, 128)],
    "m_grouped_fp8_gemm_nt_contiguous": lambda: [rows(), groups(), half(128, 128), word(128)],
    "m_grouped_fp8_gemm_nt_masked": lambda: [(byte(2, 64, 256), full(2, 64, 2)), groups(), half(2, 64, 128), word(2), 8],
    "m_grouped_bf16_gemm_nt_contiguous": lambda: [half(128, 64), half(2, 64, 64), half(128, 64), word(128)],
    "m_grouped_bf16_gemm_nt_masked": lambda: [half(2, 64, 64), half(2, 32, 64), half(2, 64, 32), word(2), 8],
    "fp8_mqa_logits": lambda: [byte(4, 32, 64), (byte(128, 64), full(128)), full(4, 32), word(4), word(4)],
    "fp8_paged_mqa_logits": lambda: [byte(4, 1, 32, 64), torch.zeros((4, 64, 1, 68), dtype=torch.uint8), full(4, 32), word(4, 1), word(4, 2), word(5, 2), 64],
    "get_paged_mqa_logits_metadata": lambda: [word(4, 1), 64, 4],
    "tf32_hc_prenorm_gemm": lambda: [half(8, 64), full(8, 64), full(8, 8), full(8)],
    "get_mn_major_tma_aligned_tensor": lambda: [full(64, 8)],
    "get_mn_major_tma_aligned_packed_ue8m0_tensor": lambda: [full(64, 8)],
}


def wrong_tensors(t):
    """(what is wrong, something like t that is wrong)"""
    yield "None", None
    yield "a number", 3
    yield "text", "tensor"
    yield "float16", torch.zeros(tuple(t.shape), dtype=torch.float16)
    yield "int64", torch.zeros(tuple(t.shape), dtype=torch.int64)
    yield "a dimension more", t.unsqueeze(0).unsqueeze(0)
    for d in range(t.dim()):
        shape = list(t.shape)
        shape[d] += 3
        yield f"dimension {d} of {shape[d]}", torch.zeros(shape, dtype=t.dtype)


def wrong_calls(args):
    for i, x in enumerate(args):
        if isinstance(x, tuple) and hasattr(x[0], "stride"):
            for j, t in enumerate(x):
                for what, bad in wrong_tensors(t):
                    yield f"argument {i}[{j}]: {what}", [*args[:i], tuple(bad if n == j else y for n, y in enumerate(x)), *args[i + 1:]]
            yield f"argument {i}: no pair", [*args[:i], x[0], *args[i + 1:]]
        elif hasattr(x, "stride"):
            for what, bad in wrong_tensors(x):
                yield f"argument {i}: {what}", [*args[:i], bad, *args[i + 1:]]


# What is right after all: sizes that nothing else tells, groups and pages that nobody asks for.
RIGHT = {
    ("fp8_paged_mqa_logits", "argument 4: dimension 1 of 5"), ("fp8_paged_mqa_logits", "argument 5: dimension 0 of 8"),
    ("fp8_paged_mqa_logits", "argument 1: dimension 0 of 7"), ("fp8_paged_mqa_logits", "argument 1: dimension 1 of 67"),
    ("m_grouped_bf16_gemm_nt_contiguous", "argument 1: dimension 0 of 5"),
    ("get_paged_mqa_logits_metadata", "argument 0: dimension 0 of 7"),
    ("get_paged_mqa_logits_metadata", "argument 0: dimension 1 of 4"), ("get_mn_major_tma_aligned_tensor", "argument 0: dimension 0 of 67"),
    ("get_mn_major_tma_aligned_tensor", "argument 0: dimension 1 of 11"), ("get_mn_major_tma_aligned_packed_ue8m0_tensor", "argument 0: dimension 0 of 67"),
    ("get_mn_major_tma_aligned_packed_ue8m0_tensor", "argument 0: dimension 1 of 11"),
}
count = [0]


@pytest.mark.parametrize("name", GOOD)
def test_deep_gemm(name):
    f = getattr(deep_gemm, name)
    f(*GOOD[name]())
    accepted = []
    for what, args in wrong_calls(GOOD[name]()):
        if (name, what) in RIGHT:
            continue
        count[0] += 1
        try:
            f(*args)
        except (RuntimeError, TypeError, ValueError, NotImplementedError, AttributeError, IndexError) as e:
            assert str(e), what
        else:
            accepted.append(what)
    f(*GOOD[name]())
    assert not accepted, f"{name} accepts {accepted}"


def test_indices():
    accepted = []
    calls = {name: GOOD[name]() for name in ("fp8_paged_mqa_logits", "get_paged_mqa_logits_metadata")}
    long = word(8)[::2]
    assert not long.is_contiguous()
    for name, args in calls.items():
        f = getattr(deep_gemm, name)
        f(*args, indices=word(4))
        for what, bad in [*wrong_tensors(word(4)), ("with gaps", long)]:
            if bad is not None:
                count[0] += 1
                with pytest.raises(RuntimeError, match=r"indices is int32 \[4\], contiguous"):
                    f(*args, indices=bad)
        for what, bad_args in wrong_calls(args):
            if (name, what) not in RIGHT or name != "fp8_paged_mqa_logits":
                count[0] += 1
                try:
                    f(*bad_args, indices=word(4))
                except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
                    pass
                else:
                    accepted.append((name, what))
    assert not accepted
    with pytest.raises(RuntimeError, match="indices go with next_n = 1, a row for each token; context_lens is .4, 2."):
        deep_gemm.get_paged_mqa_logits_metadata(word(4, 2), 64, 4, indices=word(4))
    two = [byte(4, 2, 32, 64), calls["fp8_paged_mqa_logits"][1], full(8, 32), word(4, 2), *calls["fp8_paged_mqa_logits"][4:]]
    with pytest.raises(RuntimeError, match="indices go with next_n = 1, a row for each token; context_lens is .4, 2."):
        deep_gemm.fp8_paged_mqa_logits(*two, indices=word(4))


def test_names():
    for name in GOOD:
        with pytest.raises(TypeError):
            getattr(deep_gemm, name)(*GOOD[name](), nonsense=1)
        with pytest.raises(TypeError):
            getattr(deep_gemm, name)()
        count[0] += 2


def test_dgk():
    k = dgk.kernel("bf16_gemm.dgk")
    args = dict(A=half(64, 128), B=half(32, 128), D=half(64, 32))
    k(**args)
    for slot in args:
        for what, bad in wrong_tensors(args[slot]):
            if slot == "D" and what == "None":
                continue
            count[0] += 1
            with pytest.raises((dgk.Error, TypeError)) as e:
                k(**{**args, slot: bad})
            assert str(e.value), (slot, what)
    k(**args)


def test_enough():
    assert count[0] >= 300 or count[0] == 0, f"only {count[0]} wrong calls"
