"""What every family measures with: torch, dgk's kernels, the peers, the timer, the ceilings of the chip.

A launch is timed by two events around it, on a cold L2: 256 MB are written before the first event. So that the interval holds
time of the device alone, each round begins with some of these writes back to back, and the host enqueues the whole round while the
device is busy with them: what a call costs on the host (20 to 40 us for some peers) is then spent before the device comes to its events.
Every round is held to that: had the device passed the first event before the host was done, the round is thrown away and the next begins
with twice as many writes. Sides take turns within a round, and every round begins with another one."""

import gc
import importlib.util
import os
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
FLUSH_BYTES = 256 << 20
MOST_WRITES = 512  # before a round; a side that still waits for the device is timed as it is, and its row says so


def import_peer(path=None):
    """DeepGEMM itself, where it is installed or at `path`: not the package of the same name that comes with dgk."""
    if path:
        sys.path.insert(0, str(path))
    try:
        import deep_gemm
        if hasattr(deep_gemm, "_C") and ROOT not in pathlib.Path(deep_gemm.__file__).resolve().parents:
            return deep_gemm
        why = f"{deep_gemm.__file__} is dgk's own package"
    except Exception as e:
        why = f"{type(e).__name__}: {str(e).strip().splitlines()[-1] if str(e).strip() else ''}"
    for name in [n for n in sys.modules if n.partition(".")[0] == "deep_gemm"]:
        del sys.modules[name]
    print(f"DeepGEMM is not measured: {why}", file=sys.stderr)
    return None


def import_own():
    """dgk's deep_gemm under another name, beside the peer: its casts, its cuBLASLt."""
    where = ROOT / "python" / "deep_gemm"
    spec = importlib.util.spec_from_file_location("dgk_deep_gemm", where / "__init__.py", submodule_search_locations=[str(where)])
    module = sys.modules["dgk_deep_gemm"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def difference(x, y):
    """1 - 2<x,y>/(<x,x> + <y,y>), in blocks of rows; nan where either holds one."""
    xy = xx = 0.0
    for a, b in zip(x.split(1024), y.split(1024)):
        a, b = a.double(), b.double()
        xy += (a * b).sum().item()
        xx += (a * a + b * b).sum().item()
    return 1 - 2 * xy / xx if xx else 0.0


class EventTimer:
    """Microseconds of each round for each side, interleaved; `launches` in a row are one interval's average, without a flush between."""

    def __init__(self, torch, rounds, launches=1, flush=True):
        self.torch, self.rounds, self.launches, self.flush = torch, rounds, launches, flush
        self.scratch = torch.empty(FLUSH_BYTES // 4, dtype=torch.int32, device="cuda")
        self.writes = 16

    def _round(self, sides):
        """One interval a side, and whether the host was done before the device began."""
        spans = {}
        for _ in range(self.writes):
            self.scratch.zero_()
        for name, f in sides:
            begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
            if self.flush:
                self.scratch.zero_()
            begin.record()
            for _ in range(self.launches):
                f()
            end.record()
            spans[name] = begin, end
        ahead = not next(iter(spans.values()))[0].query()
        self.torch.cuda.synchronize()
        return {name: b.elapsed_time(e) * 1e3 / self.launches for name, (b, e) in spans.items()}, ahead

    def __call__(self, sides):
        us, order, ahead = {name: [] for name in sides}, list(sides.items()), True
        self._round(order)
        while order and len(us[order[0][0]]) < self.rounds:
            spans, ahead = self._round(order)
            if not ahead and self.writes < MOST_WRITES:
                self.writes *= 2
                continue
            for name, t in spans.items():
                us[name].append(t)
            order = order[1:] + order[:1]
        return us, ahead


class HostTimer:
    """For dry runs on the emulator, where times mean nothing."""

    def __init__(self, rounds):
        self.rounds = rounds

    def __call__(self, sides):
        us = {name: [] for name in sides}
        for _ in range(self.rounds):
            for name, f in sides.items():
                t = time.perf_counter()
                f()
                us[name].append((time.perf_counter() - t) * 1e6)
        return us, True


class Own:
    """One of dgk's kernels, chosen in one way; the lab knows which was called last, and with what."""

    def __init__(self, lab, kernel, mode):
        self.lab, self.kernel, self.mode = lab, kernel, mode

    def __call__(self, **arguments):
        os.environ["DGC_TUNE"] = self.mode
        self.lab.last = self, arguments
        return self.kernel(**arguments)

    def values(self, arguments):
        """The tune values such a call gets."""
        os.environ["DGC_TUNE"] = self.mode
        lines = (line.split(None, 1) for line in self.kernel.explain(**arguments).splitlines())
        return next((words[1] for words in lines if words and words[0] == "values"), "")


class Lab:
    """One process's measurements. dry: tensors of the host, kernels on the emulator, no peers."""

    def __init__(self, *, dry=False, peer_path=None, rounds=20, launches=1, flush=True, fixed=None, modes=("off",)):
        self.peer = None if dry else import_peer(peer_path)
        sys.path.insert(0, str(ROOT / "python"))  # after the peer was found: its name is the same as that of dgk's own package
        import torch
        import dgk
        self.torch, self.dgk, self.own = torch, dgk, import_own()
        self.dry, self.fixed, self.modes = dry, dict(fixed or {}), tuple(modes)
        self.device = "cpu" if dry else "cuda"
        self.cublas = self.peer or self.own
        self._kernels, self.last = {}, None
        self.timer = HostTimer(1) if dry else EventTimer(torch, rounds, launches, flush)
        self.ceilings = {} if dry else self._measure_ceilings()

    # ---- kernels ----------------------------------------------------------------------------------------------------

    def ours(self, side, path, name=None):
        """{side: kernel}: as the cost model has it, or with what was tuned ("SIDE_tuned" where both are asked for)."""
        out = {}
        for mode in self.modes:
            key = path, name, mode
            if key not in self._kernels:
                self._kernels[key] = Own(self, self.dgk.kernel(path, name, **self.fixed), mode)
            out[side if mode == self.modes[0] else f"{side}_tuned"] = self._kernels[key]
        return out

    def last_values(self):
        """Tune values of the kernel of dgk's that was called since this was asked last; None where none was."""
        last, self.last = self.last, None
        return last[0].values(last[1]) if last else None

    def plan(self, **arguments):
        """The schedule of paged logits, by its own kernel."""
        self.dgk.kernel("paged_mqa_logits.dgk", "paged_plan")(**arguments)

    def sms(self):
        return self.dgk.get_num_sms("cuda:0" if self.device == "cuda" else self.dgk.default_device())

    # ---- data -------------------------------------------------------------------------------------------------------

    def randn(self, *shape, dtype="bfloat16"):
        return self.torch.randn(shape, device=self.device, dtype=getattr(self.torch, dtype))

    def empty(self, *shape, dtype="float32"):
        return self.torch.empty(shape, device=self.device, dtype=getattr(self.torch, dtype))

    def mn_major(self, sf):
        """[mn, k] with stride 1 along mn and whole 16 bytes between columns: scales as a GEMM wants them."""
        mn, k = sf.shape
        out = self.torch.empty_strided((mn, k), (1, -(-mn // 4) * 4), dtype=sf.dtype, device=sf.device)
        return out.copy_(sf)

    def product(self, a, b):
        """a b^T in full fp32."""
        before = self.torch.backends.cuda.matmul.allow_tf32
        self.torch.backends.cuda.matmul.allow_tf32 = False
        d = a.float() @ b.float().T
        self.torch.backends.cuda.matmul.allow_tf32 = before
        return d

    def scores(self, q, k, w):
        """[n, keys] of fp8 q [n, heads, dim] and k [keys, dim]: fp8 is exact in tf32, sums are fp32."""
        before = self.torch.backends.cuda.matmul.allow_tf32
        self.torch.backends.cuda.matmul.allow_tf32 = True
        n, heads, dim = q.shape
        x = (q.float().reshape(n * heads, dim) @ k.float().T).relu_().view(n, heads, -1)
        self.torch.backends.cuda.matmul.allow_tf32 = before
        return self.torch.bmm(w.unsqueeze(1), x).squeeze(1)

    def settle(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def tidy(self):
        self.last = None
        gc.collect()  # cases hold functions that hold them
        if self.device == "cuda":
            self.torch.cuda.empty_cache()

    # ---- the chip ---------------------------------------------------------------------------------------------------

    def _measure_ceilings(self, n=8192, most=4 << 30):
        """bf16 and fp8 products of n^3 by cuBLAS, TFLOPS; a copy, GB/s read and written; an interval with nothing in it, us: with the
        timer that times everything else."""
        t = self.torch
        size = min(most, t.cuda.mem_get_info()[0] // 8) if self.device == "cuda" else most
        x, y = (self.empty(size, dtype="uint8") for _ in range(2))
        x.random_()
        out = {"empty_us": self._median(lambda: None), "copy_gbs": 2 * size / self._median(lambda: y.copy_(x)) * 1e-3}
        del x, y
        a, b, d = self.randn(n, n), self.randn(n, n), self.empty(n, n, dtype="bfloat16")
        out["bf16_tflops"] = 2 * n ** 3 / self._median(lambda: t.matmul(a, b.T, out=d)) * 1e-6
        try:
            a8, b8, one = a.to(t.float8_e4m3fn), b.to(t.float8_e4m3fn), t.ones((), device=self.device)
            call = lambda: t._scaled_mm(a8, b8.T, one, one, out_dtype=t.bfloat16, use_fast_accum=True)  # noqa: E731
            out["fp8_tflops"] = 2 * n ** 3 / self._median(call) * 1e-6
        except (RuntimeError, AttributeError) as e:
            print(f"no fp8 ceiling: {str(e).splitlines()[0]}", file=sys.stderr)
        return out

    def _median(self, f):
        f()
        return statistics.median(self.timer({"f": f})[0]["f"])

    def describe(self):
        t = self.torch
        out = {"torch": t.__version__, "cuda": t.version.cuda, "library": self.dgk._native.lib.path, "dgk": self.dgk.__version__, "fixed": self.fixed,
               "tune": list(self.modes), "ceilings": self.ceilings, "date": time.strftime("%Y-%m-%d %H:%M:%S"),
               "cublaslt": "DeepGEMM's" if self.peer else "dgk's deep_gemm"}
        if self.device == "cuda":
            p = t.cuda.get_device_properties(0)
            out.update(device=p.name, multiprocessors=p.multi_processor_count, memory=p.total_memory, rounds=self.timer.rounds,
                       launches=self.timer.launches, flush=FLUSH_BYTES if self.timer.flush else 0)
        else:
            out.update(device=f"{self.dgk.device_info()['name']} (times mean nothing)", rounds=self.timer.rounds)
        if self.peer:
            out["deepgemm"] = {"version": getattr(self.peer, "__version__", "unknown"), "path": str(pathlib.Path(self.peer.__file__).parent)}
        return out
