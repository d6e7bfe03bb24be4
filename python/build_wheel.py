"""A build backend of one page (PEP 517): make builds the library, this packs it with the Python files and the kernels.

Nothing is downloaded. The tools that make needs are a C compiler, flex and bison; an installed wheel needs none of them."""

import base64
import hashlib
import os
import pathlib
import platform
import subprocess
import sys
import tarfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAME, VERSION = "dgk", "0.1.0"
INFO = f"{NAME}-{VERSION}.dist-info"
METADATA = f"""Metadata-Version: 2.1
Name: {NAME}
Version: {VERSION}
Summary: Kernels in a small tile language, compiled to PTX, on GPUs and on an emulator
Requires-Python: >=3.9
"""


def _tag():
    return f"py3-none-linux_{platform.machine()}"


def _make():
    env = dict(os.environ, PYTHON=sys.executable)
    subprocess.run(["make", "-s", "lib"], cwd=ROOT, env=env, check=True)
    r = subprocess.run(["make", "-s", "python"], cwd=ROOT, env=env)
    if r.returncode:
        print("dgk: the native call path was not built (are Python's headers installed?); calls go through ctypes", file=sys.stderr)


def _files(editable=False):
    """(name in the wheel, bytes)"""
    if editable:
        yield "dgk.pth", (str(ROOT / "python") + "\n").encode()
        return
    for package in ("dgk", "deep_gemm"):
        for p in sorted((ROOT / "python" / package).rglob("*.py")):
            yield str(p.relative_to(ROOT / "python")), p.read_bytes()
    for p in sorted((ROOT / "kernels_dsl").glob("*.dgk")):
        yield f"dgk/kernels/{p.name}", p.read_bytes()
    yield "dgk/libdgk.so", (ROOT / "build/libdgk.so").read_bytes()
    fast = ROOT / "build/_fast.abi3.so"
    if fast.exists():
        yield "dgk/_fast.abi3.so", fast.read_bytes()


def _pack(folder, editable=False):
    _make()
    name = f"{NAME}-{VERSION}-{_tag()}.whl"
    record = []

    def add(z, path, data):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(data)}")
        info = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
        info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (0o755 if path.endswith(".so") else 0o644) << 16
        z.writestr(info, data)

    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as z:
        for path, data in _files(editable):
            add(z, path, data)
        add(z, f"{INFO}/METADATA", METADATA.encode())
        add(z, f"{INFO}/WHEEL", f"Wheel-Version: 1.0\nGenerator: dgk\nRoot-Is-Purelib: false\nTag: {_tag()}\n".encode())
        z.writestr(f"{INFO}/RECORD", "\n".join(record + [f"{INFO}/RECORD,,"]) + "\n")
    return name


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return _pack(wheel_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return _pack(wheel_directory, editable=True)


def build_sdist(sdist_directory, config_settings=None):
    name = f"{NAME}-{VERSION}.tar.gz"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    with tarfile.open(pathlib.Path(sdist_directory) / name, "w:gz") as t:
        for f in filter(None, files):
            if (ROOT / f).is_file():
                t.add(ROOT / f, f"{NAME}-{VERSION}/{f}")
    return name


def get_requires_for_build_wheel(config_settings=None):
    return []


get_requires_for_build_editable = get_requires_for_build_sdist = get_requires_for_build_wheel
