"""Programs that a test runs in a Python of their own."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*command, timeout=200, **env):
    """What Python prints for these arguments; a variable that is None is not set. "skip: WHY" at its head skips the test."""
    env = {k: v for k, v in {**os.environ, **env}.items() if v is not None}
    r = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, timeout=timeout)
    if r.stdout.startswith("skip: "):
        pytest.skip(r.stdout[6:].strip())
    assert r.returncode == 0, r.stderr
    return r.stdout


def run_on_no_driver(program, folder, **env):
    """The same of a program's text, by the native call path on a CUDA driver that runs nothing, built in `folder`."""
    if not (ROOT / "build" / "_fast.abi3.so").exists():
        pytest.skip("the extension was not built (make python)")
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", ROOT / "tests/runtime/fake_cuda.c"], check=True)
    return run("-c", program, str(ROOT), LD_LIBRARY_PATH=str(folder), DGC_DISABLE_CACHE="1", DGC_PTXAS="driver", **env)
