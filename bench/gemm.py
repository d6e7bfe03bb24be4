#!/usr/bin/env python3
"""bf16 GEMM, D = A B^T, beside cuBLAS (torch.matmul) and, where it can be imported, DeepGEMM: in one process, on the same random
data, interleaved, with a cold L2 before every launch. Results are checked first; a wrong kernel is not timed.

    python3 bench/gemm.py                            the default shapes
    python3 bench/gemm.py 4096,4096,7168 ...         these: M,N,K
    python3 bench/gemm.py --set deepgemm             the shapes of DeepGEMM's own tests
    python3 bench/gemm.py --fix BM=128 --fix BN=256  with tune values of one's own

Prints a table, last of all; --json FILE writes every number."""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]


def peer():
    """DeepGEMM itself, when it is installed: not the package of the same name that comes with dgk."""
    try:
        import deep_gemm
        return None if str(ROOT) in str(deep_gemm.__file__) or not hasattr(deep_gemm, "_C") else deep_gemm
    except Exception:
        return None


DEEP = peer()
sys.modules.pop("deep_gemm", None) if DEEP is None else None
sys.path.insert(0, str(ROOT / "python"))

import torch  # noqa: E402

import dgk  # noqa: E402

DEFAULT = [(4096, 4096, 7168), (8192, 8192, 8192)]
DEEPGEMM_NK = [(2112, 7168), (576, 7168), (24576, 1536), (32768, 512), (7168, 16384), (4096, 7168), (7168, 2048)]
DEEPGEMM = [(m, n, k) for m in (1, 128, 4096) for n, k in DEEPGEMM_NK]


def difference(x, y):
    """1 - 2<x,y>/(<x,x> + <y,y>), in blocks of rows."""
    xy = xx = 0.0
    for a, b in zip(x.split(1024), y.split(1024)):
        a, b = a.double(), b.double()
        xy += (a * b).sum().item()
        xx += (a * a + b * b).sum().item()
    return 1 - 2 * xy / xx if xx else 0.0


def reference(a, b):
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    d = torch.matmul(a.float(), b.float().T)
    torch.backends.cuda.matmul.allow_tf32 = before
    return d


class Timer:
    """Medians of interleaved launches, L2 flushed before each."""

    def __init__(self, rounds):
        self.rounds = rounds
        self.flush = torch.empty(int(256e6) // 4, dtype=torch.int32, device="cuda")

    def __call__(self, runs):
        events = {n: [] for n in runs}
        for f in runs.values():
            f(), f()
        torch.cuda.synchronize()
        for _ in range(self.rounds):
            for name, f in runs.items():
                begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                self.flush.zero_()
                begin.record()
                f()
                end.record()
                events[name].append((begin, end))
            torch.cuda.synchronize()
        return {n: statistics.median(b.elapsed_time(e) for b, e in es) * 1e3 for n, es in events.items()}


def host_time(f, n=200):
    """Microseconds of the host a call, launch included; the device is let to finish now and then, untimed."""
    best = float("inf")
    for _ in range(5):
        torch.cuda.synchronize()
        t = time.perf_counter()
        for _ in range(n // 5):
            f()
        best = min(best, (time.perf_counter() - t) / (n // 5) * 1e6)
    torch.cuda.synchronize()
    return best


def one(kernel, timer, m, n, k, out, tolerance):
    a = torch.randn((m, k), device="cuda", dtype=torch.bfloat16)
    b = torch.randn((n, k), device="cuda", dtype=torch.bfloat16)
    row = {"m": m, "n": n, "k": k, "out": str(out).rpartition(".")[2], "flop": 2 * m * n * k}
    d = torch.full((m, n), float("nan"), device="cuda", dtype=out)
    c = torch.empty_like(d)
    t = time.perf_counter()
    try:
        kernel(A=a, B=b, D=d)
        torch.cuda.synchronize()
    except Exception as e:
        row["error"] = str(e)
        return row
    row["first_call_ms"] = (time.perf_counter() - t) * 1e3
    row["difference"] = difference(d, reference(a, b))
    runs = {"dgk": lambda: kernel(A=a, B=b, D=d)}
    if not row["difference"] <= tolerance:
        row["error"] = f"wrong: differs by {row['difference']:.3g}, more than {tolerance}"
        return row
    first = d.clone()
    kernel(A=a, B=b, D=d)
    row["repeatable"] = torch.equal(first, d)
    if out == torch.bfloat16:
        runs["cublas"] = lambda: torch.matmul(a, b.T, out=c)
    if DEEP:
        runs["deepgemm"] = lambda: DEEP.bf16_gemm_nt(a, b, c)
    row["us"] = timer(runs)
    if m * n * k <= 1 << 33:
        row["host_us"] = host_time(runs["dgk"])
    return row


def table(rows, fixed):
    p = torch.cuda.get_device_properties(0)
    print(f"\nbf16 GEMM on {p.name}, {p.multi_processor_count} multiprocessors, torch {torch.__version__}{', ' + ' '.join(fixed) if fixed else ''}")
    print(f"{'M':>6} {'N':>6} {'K':>6}  {'dgk us':>9} {'TFLOPS':>7}  {'cuBLAS us':>9} {'TFLOPS':>7}  {'dgk/cuBLAS':>10}"
          + (f"  {'DeepGEMM us':>11} {'dgk/DG':>7}" if DEEP else "") + "  difference")
    ratios = []
    for r in rows:
        head = f"{r['m']:>6} {r['n']:>6} {r['k']:>6}"
        if "error" in r:
            print(head, " ", r["error"].strip().splitlines()[0][:110])
            continue
        us, speed = r["us"], lambda t: r["flop"] / t * 1e-6
        line = f"{head}  {us['dgk']:>9.1f} {speed(us['dgk']):>7.0f}"
        if "cublas" in us:
            ratios.append(us["cublas"] / us["dgk"])
            line += f"  {us['cublas']:>9.1f} {speed(us['cublas']):>7.0f}  {ratios[-1]:>10.3f}"
        if "deepgemm" in us:
            line += f"  {us['deepgemm']:>11.1f} {us['deepgemm'] / us['dgk']:>7.3f}"
        print(line + f"  {r['difference']:.1e}" + ("" if r["repeatable"] else " NOT REPEATABLE"))
    if ratios:
        print(f"speed relative to cuBLAS: geometric mean {statistics.geometric_mean(ratios):.3f}, lowest {min(ratios):.3f}, highest {max(ratios):.3f}, "
              f"of {len(ratios)} shapes; {sum('error' in r for r in rows)} failed")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("shapes", nargs="*", help="M,N,K")
    p.add_argument("--set", choices=["default", "deepgemm", "all"], default="default")
    p.add_argument("--kernel", default="bf16_gemm.dgk")
    p.add_argument("--fix", action="append", default=[], metavar="NAME=VALUE")
    p.add_argument("--specialize", help="dimensions compiled in, as in N,K")
    p.add_argument("--out", choices=["bf16", "f32"], default="bf16")
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--tolerance", type=float, default=1e-5)
    p.add_argument("--json")
    o = p.parse_args()
    shapes = [tuple(int(x) for x in s.replace("x", ",").split(",")) for s in o.shapes]
    if not shapes:
        shapes = {"default": DEFAULT, "deepgemm": DEEPGEMM, "all": DEFAULT + DEEPGEMM}[o.set]
    torch.manual_seed(0)
    kernel = dgk.kernel(o.kernel, specialize=o.specialize, **dict(f.split("=", 1) for f in o.fix))
    timer = Timer(o.rounds)
    rows = []
    for m, n, k in shapes:
        rows.append(one(kernel, timer, m, n, k, torch.bfloat16 if o.out == "bf16" else torch.float32, o.tolerance))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        torch.cuda.empty_cache()
    if o.json:
        p = torch.cuda.get_device_properties(0)
        head = {"device": p.name, "torch": torch.__version__, "cuda": torch.version.cuda, "fixed": o.fix, "rounds": o.rounds,
                "library": dgk._native.lib.path, "date": time.strftime("%Y-%m-%d %H:%M:%S")}
        pathlib.Path(o.json).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(o.json).write_text(json.dumps({"run": head, "rows": rows}, indent=1) + os.linesep)
    table(rows, o.fix)
    return 0 if not any("error" in r for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
