"""dgk.kernel on numpy arrays and the emulator."""

import os
import subprocess

import numpy as np
import pytest

import dgk
from conftest import ROOT

SCALE = """
kernel scale<T = f32 | i32, P = 1>(in T X[M, N] inner(N | M), in i32 s, out T Y[M, N]) require M % 2 == 0 {
    spec Y[i, j] = X[i, j] * T(s) + T(P) exact;
    axis i = M by 16, j = N by 32;
    grid (i, j);
    role work { Y[i, j] = X[i, j] * T(s) + T(P); }
}
"""


@pytest.fixture
def scale():
    return dgk.kernel("scale.dgk", text=SCALE)


def test_call(scale):
    x = np.arange(34 * 50, dtype=np.float32).reshape(34, 50)
    y = np.zeros_like(x)
    assert scale(X=x, s=3, Y=y) is None
    assert (y == 3 * x + 1).all()
    scale(x, 3, y, P=2)
    assert (y == 3 * x + 2).all()
    assert scale.counts()["compiled"] == 2


def test_nothing_is_compiled_after_dgc_build(tmp_path, monkeypatch):
    monkeypatch.setenv("DGC_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "scale.dgk").write_text(SCALE)
    (tmp_path / "list").write_text(f"{tmp_path}/scale.dgk --shape M=34,N=50 -DT=i32\n")
    subprocess.run([ROOT / "build/dgc", "build", tmp_path / "list"], check=True)
    k = dgk.kernel(tmp_path / "scale.dgk")
    x = np.ones((34, 50), np.int32)
    k(x, 3, np.zeros_like(x))
    assert k.counts()["compiled"] == 0
    k(x, 3, np.zeros_like(x), P=2)
    assert k.counts()["compiled"] == 1


def test_types_follow_the_arrays(scale):
    x = np.arange(64, dtype=np.int32).reshape(2, 32)
    y = np.zeros_like(x)
    scale(X=x, s=7, Y=y)
    assert (y == 7 * x + 1).all()


def test_strides_follow_the_arrays(scale):
    x = np.arange(34 * 50, dtype=np.float32).reshape(50, 34).T
    y = np.zeros((34, 50), np.float32)
    scale(X=x, s=2, Y=y)
    assert (y == 2 * x + 1).all()


def test_outputs_are_made(scale):
    x = np.ones((2, 32), np.float32)
    y = scale(X=x, s=4, T="f32")
    assert y.shape == x.shape and (y == 5).all()


def test_errors(scale):
    x = np.ones((3, 32), np.float32)
    with pytest.raises(dgk.Error, match=r"requires M % 2 == 0; here M = 3") as e:
        scale(X=x, s=1, Y=np.zeros_like(x))
    assert e.value.status == "REQUIRE"
    with pytest.raises(dgk.Error, match="argument 'Y'"):
        scale(X=x[:2], s=1, Y=x)
    with pytest.raises(TypeError, match="no argument 'Z'"):
        scale(X=x, Z=x)
    with pytest.raises(TypeError, match="float64"):
        scale(X=x.astype(np.float64), s=1, Y=x)
    with pytest.raises(dgk.Error, match="nothing.dgk"):
        dgk.kernel("nothing.dgk")(X=x)


def test_check_and_explain(scale):
    x = np.ones((2, 32), np.float32)
    assert "as the spec says" in scale.check(X=x, s=1, Y=np.zeros_like(x))
    assert "scale" in scale.explain(X=x, s=1, Y=np.zeros_like(x))


def bf16(x):
    return (np.asarray(x, np.float32).view(np.uint32) >> 16).astype(np.uint16)


@pytest.mark.parametrize("target", ["sm_80", "sm_90a", "sm_100a", "sm_120a"])
def test_gemm_on_every_family(target):
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-3, 4, s).astype(np.float32) for s in ((70, 64), (40, 64)))
    d = np.zeros((70, 40), np.float32)
    dgk.kernel("bf16_gemm.dgk", device=f"emu:{target}")(A=bf16(a), B=bf16(b), D=d)
    assert (d == a @ b.T).all()


def test_random_shapes():
    assert "copy" in dgk.test("01_copy.dgk", cases=1)


def test_sms():
    n = dgk.get_num_sms()
    dgk.set_num_sms(2)
    assert dgk.get_num_sms() == 2
    dgk.set_num_sms(0)
    assert dgk.get_num_sms() == n
    with pytest.raises(dgk.Error):
        dgk.set_num_sms(10000)


def test_a_folder_of_kernels_goes_first(tmp_path):
    import subprocess
    import sys
    (tmp_path / "01_copy.dgk").write_text(SCALE)
    program = "import dgk; print(dgk.kernel_path('01_copy.dgk'), dgk.kernel_path('02_transpose.dgk').exists())"
    env = dict(os.environ, DGK_KERNELS=str(tmp_path), PYTHONPATH=os.pathsep.join(sys.path))
    out = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True).stdout
    assert out.split() == [str(tmp_path / "01_copy.dgk"), "True"]
