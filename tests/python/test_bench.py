"""bench/: shapes, marks, tables, merging, plots; the timer on a model of a device; and, where torch is installed, a dry run."""

import contextlib
import importlib.util
import io
import json
import os
import pathlib
import subprocess
import sys
import types

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import lab  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402

FAMILIES = run.modules(run.FAMILIES)


def row(family, us, shape=None, **more):
    return {"family": family, "shape": shape or {}, "flop": 10 ** 9, "bytes": 10 ** 6, "us": {s: [t] if not isinstance(t, list) else t for s, t in us.items()},
            "difference": {"dgc": 1e-9}, "failed": {}, **more}


# ---- shapes ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", run.FAMILIES)
def test_shapes(name):
    f = FAMILIES[name]
    shapes = list(f.shapes())
    keys = [tuple(s.items()) for s in shapes]
    assert len(set(keys)) == len(keys) and all(set(s) == set(f.DEFAULT) for s in shapes + f.DRY)
    assert 0 < sum(map(f.quick, shapes)) <= len(shapes)
    assert {p[0] for p in f.PEERS} and f.PEAK in ("bf16_tflops", "fp8_tflops")


def test_shapes_are_deepgemms():
    bf16 = list(FAMILIES["bf16"].shapes())
    assert len(bf16) == 5 * (7 * 2 + 2) + 9 * 3
    assert {"layout": "tn", "m": 129280, "n": 4096, "k": 7168, "out": "f32", "acc": 1} in bf16
    assert {"layout": "nn", "m": 4096, "n": 7168, "k": 2112, "out": "bf16", "acc": 0} in bf16
    assert len(list(FAMILIES["mqa_logits"].shapes())) == 2 ** 5 * 3
    paged = FAMILIES["paged_mqa_logits"]
    assert max(s["batch"] * s["context"] for s in paged.shapes()) == 32 << 20
    assert paged.notes() == ["paged_mqa_logits: batch 4096 with context 32768 is left out, more than 32 Mi tokens"]


def chosen(*argv):
    return run.selection(run.arguments().parse_args(list(argv)), FAMILIES)


def test_parts_make_the_whole():
    whole, parts = chosen(), [chosen("--part", f"{i}/3") for i in range(3)]
    assert sum(map(len, parts)) == len(whole)
    assert all(w in parts[i % 3] for i, w in enumerate(whole))


def test_choice():
    assert chosen("--where", "m=1,acc=1") and all(s["m"] == 1 and s["acc"] == 1 for _, s in chosen("--where", "m=1,acc=1"))
    assert len(chosen("--quick")) < len(chosen())
    o = run.arguments().parse_args(["bf16", "--shape", "m=8,n=16,k=32"])
    assert run.selection(o, {"bf16": FAMILIES["bf16"]}) == [("bf16", {"layout": "nt", "m": 8, "n": 16, "k": 32, "out": "bf16", "acc": 0})]
    with pytest.raises(SystemExit, match="bf16 has no x"):
        run.selection(run.arguments().parse_args(["--shape", "x=1"]), FAMILIES)


@pytest.mark.parametrize("argv", [["bf17"], ["--part", "2/2"], ["--part", "1"], ["--fix", "BM"], ["--where", "m"]])
def test_wrong_arguments(argv):
    with pytest.raises(SystemExit), contextlib.redirect_stderr(io.StringIO()) as said:
        run.main(argv)
    assert "error" in said.getvalue()


# ---- marks -------------------------------------------------------------------------------------------------------------

def test_speedup():
    rows = [row("f", {"dgc": 10, "p": 20}, {"m": 1}), row("f", {"dgc": 10, "p": 5}, {"m": 2}), row("f", {"p": 5}, {"m": 1}), row("f", {"dgc": 5}, {"m": 1})]
    assert report.speedup("p")(rows) == [2, 0.5]
    assert report.speedup("p", m=lambda m: m < 2)(rows) == [2]
    assert report.geomean(report.speedup("p")(rows)) == 1
    both = [row("f", {"dgc": 10, "p": 20, "q": 8})]
    assert report.speedup(("p", "q"))(both) == [0.8] and report.speedup(("q", "nobody"))(both) == [0.8]
    assert report.time_of(row("f", {"dgc": [9, 1, 2]}), "dgc") == 2


@pytest.mark.parametrize("statistic, bound, value, met", [("geomean", (">=", 1.0), 1.0, True), ("lowest", (">=", 0.51), 0.5, False), ("highest", ("<=", 2.0), 2.0, True),
                                                          ("highest", ("<=", 1.9), 2.0, False), ("geomean", None, 1.0, None)])
def test_mark(statistic, bound, value, met):
    rows = [row("f", {"dgc": 1, "p": 2}), row("f", {"dgc": 2, "p": 1})]
    m = report.Mark("over p", statistic, bound, report.speedup("p"))
    assert m.measure(rows) == (pytest.approx(value), 0.5, 2, 2, met)
    assert m.measure([]) == (None, None, None, 0, None)


@pytest.mark.parametrize("flop, moved, floor", [(800 * 10 ** 6, 4 * 10 ** 6, 1.0), (800 * 10 ** 6, 8 * 10 ** 6, 2.0), (2400 * 10 ** 6, 8 * 10 ** 6, 3.0)])
def test_floors(flop, moved, floor):
    r = {"flop": flop, "bytes": moved}
    run.floors(r, {"copy_gbs": 4000, "bf16_tflops": 800}, "bf16_tflops")
    assert r["floor_us"] == pytest.approx(floor) and r["copy_us"] == pytest.approx(moved / 4e6)
    run.floors(r := {"flop": flop, "bytes": moved}, {}, "bf16_tflops")
    assert "floor_us" not in r


def test_spread():
    assert report.spread_of(row("f", {"dgc": [8, 9, 10, 11, 12]}), "dgc") == pytest.approx(0.1)
    assert report.spread_of(row("f", {"dgc": [10]}), "dgc") is None and report.spread_of(row("f", {}), "dgc") is None


def test_next_n_and_bandwidth():
    rows = [row("paged_mqa_logits", {"dgc": t}, {"batch": b, "next_n": n, "H": 64, "context": 32768}, copy_us=9.3)
            for b, n, t in ((64, 2, 10), (64, 3, 11), (256, 2, 20), (256, 3, 26), (64, 1, 10), (4096, 3, 5))]
    assert report.between("next_n", 3, 2)(rows) == [1.1, 1.3]
    marks = {m.text: m.measure(rows) for m in FAMILIES["paged_mqa_logits"].MARKS}
    assert marks["time of next_n = 3 over next_n = 2"][4] is False
    assert report.copy_share(context=32768)(rows[:1]) == [0.93] and report.copy_share(context=8192)(rows) == []


# ---- tables, merging, the command ----------------------------------------------------------------------------------------

def files(tmp_path):
    s = FAMILIES["bf16"].DEFAULT
    good = row("bf16", {"dgc": [90, 95, 100, 105, 110], "cublaslt": 110.0, "deepgemm": 120.0}, s, floor_us=80)
    bad = {**row("bf16", {}, s), "failed": {"dgc": "wrong: differs by 0.5"}}
    other = row("bf16", {"dgc": 10.0, "cublaslt": 9.0}, {**s, "m": 1}, floor_us=5)
    out = []
    for name, rows in (("a", [good]), ("b", [bad, other])):
        out.append(tmp_path / f"{name}.json")
        run.save(out[-1], {"runs": [{"device": "chip " + name, "ceilings": {"copy_gbs": 4000, "bf16_tflops": 800}}], "rows": rows})
    return list(map(str, out))


def test_merge(tmp_path):
    data = report.merge(files(tmp_path))
    assert len(data["runs"]) == 2 and len(data["rows"]) == 2
    assert report.time_of(data["rows"][0], "dgc") == 100, "a failure does not replace a measurement"
    assert len(report.merge(files(tmp_path)[::-1])["rows"]) == 2


def test_merged_text(tmp_path, capsys):
    assert run.main(["--merge", *files(tmp_path), "--json", str(tmp_path / "joint.json")]) == 0
    out = capsys.readouterr().out
    assert "chip a" in out and "chip b" in out and out.index("cuBLASLt us") < out.index("over cuBLASLt")
    line = next(x for x in out.splitlines() if " 4096  4096  7168 " in x)
    assert line.split()[6:] == ["100.0", "5.0%", "10", "10", "80%", "110.0", "1.10", "120.0", "1.20", "1.0e-09"]
    assert [x.split()[-1] for x in out.splitlines() if "over cuBLASLt, all shapes" in x] == ["MISSED"]  # sqrt(1.1 * 0.9) < 1
    assert len(json.loads((tmp_path / "joint.json").read_text())["rows"]) == 2


def test_failures_are_told(tmp_path, capsys):
    assert run.main(["--merge", files(tmp_path)[1]]) == 1
    assert "wrong: differs by 0.5" in capsys.readouterr().out


def test_tuned_beside_untuned():
    rows = [row("bf16", {"dgc": 12.0, "dgc_tuned": 10.0}, FAMILIES["bf16"].DEFAULT)]
    said = report.text({"runs": [], "rows": rows}, FAMILIES)
    assert "dgc tuned" in said and "1.20" in said and "tuned over the model alone: 1.200" in said


def test_plots(tmp_path):
    pytest.importorskip("matplotlib")
    import plot
    a, b = files(tmp_path)
    assert plot.main([a, b, "--out", str(tmp_path / "plots")]) == 0
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == ["bf16-ratio.png", "bf16-roofline.png"]
    assert all(p.stat().st_size > 5000 for p in (tmp_path / "plots").iterdir())


# ---- the timer, on a model of a device -----------------------------------------------------------------------------------

class Device:
    """A host and a device that works off a queue; microseconds."""

    def __init__(self):
        self.host = self.free = 0.0
        self.log = []

    def launch(self, what, host_us, device_us):
        self.host += host_us
        self.free = max(self.free, self.host) + device_us
        self.log.append(what)

    def torch(self):
        device = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                device.launch("event", 1, 0)
                self.at = device.free

            def query(self):
                return self.at <= device.host

            def elapsed_time(self, end):
                return (end.at - self.at) * 1e-3

        def synchronize():
            device.host = max(device.host, device.free)

        scratch = types.SimpleNamespace(zero_=lambda: device.launch("flush", 4, 60))
        return types.SimpleNamespace(cuda=types.SimpleNamespace(Event=Event, synchronize=synchronize), empty=lambda *a, **k: scratch, int32=0)


def timed(sides, **options):
    d = Device()
    timer = lab.EventTimer(d.torch(), **{"rounds": 5, **options})
    us, ahead = timer({s: lambda s=s, c=c: d.launch(s, *c) for s, c in sides.items()})
    return us, ahead, d, timer


def test_host_time_is_not_counted():
    us, ahead, d, timer = timed({"quick": (1, 10), "slow host": (300, 12), "two": (40, 30)})
    assert ahead and us == {"quick": [pytest.approx(10)] * 5, "slow host": [pytest.approx(12)] * 5, "two": [pytest.approx(30)] * 5}


def test_more_is_queued_until_the_host_is_ahead():
    us, ahead, d, timer = timed({"very slow host": (5000, 10)})
    assert ahead and timer.writes > 16 and us["very slow host"] == [pytest.approx(10)] * 5
    us, ahead, d, timer = timed({"hopeless": (10 ** 6, 10)})
    assert not ahead and len(us["hopeless"]) == 5, "and the row says so"


def test_every_launch_is_cold_and_begins_in_turn():
    us, ahead, d, timer = timed({"a": (1, 1), "b": (1, 1)}, rounds=4)
    runs = "".join({"event": "", "flush": "."}.get(w, w) for w in d.log)
    assert runs.replace("." * timer.writes, "|").split("|")[1:] == [".a.b", ".a.b", ".b.a", ".a.b", ".b.a"]


def test_back_to_back():
    us, ahead, d, timer = timed({"a": (1, 7)}, rounds=3, launches=10, flush=False)
    assert us["a"] == [pytest.approx(7)] * 3 and d.log.count("a") == 40 and d.log.count("flush") == 4 * timer.writes


# ---- peers ---------------------------------------------------------------------------------------------------------------

PEER = """
import sys; sys.path.insert(0, sys.argv[1])
import lab
peer = lab.import_peer(sys.argv[2] if len(sys.argv) > 2 else None)
print(peer and peer.__version__)
sys.path.insert(0, str(lab.ROOT / "python"))
import dgk
own = lab.import_own()
print(own.__name__, own.utils.math.align(5, 4), own is not peer)
"""


def imported(*paths, **env):
    r = subprocess.run([sys.executable, "-c", PEER, str(ROOT / "bench"), *map(str, paths)], capture_output=True, text=True, check=True, env={**os.environ, **env})
    return r.stdout.split("\n")[:2], r.stderr


def test_peer_and_own_package_side_by_side(tmp_path):
    (tmp_path / "deep_gemm").mkdir()
    (tmp_path / "deep_gemm" / "_C.py").touch()
    (tmp_path / "deep_gemm" / "__init__.py").write_text("from . import _C\n__version__ = 'theirs'\n")
    assert imported(tmp_path)[0] == ["theirs", "dgk_deep_gemm 8 True"]
    assert imported(PYTHONPATH=str(tmp_path))[0][0] == "theirs"


def test_own_package_is_no_peer(tmp_path):
    out, said = imported(PYTHONPATH=str(ROOT / "python"))
    assert out == ["None", "dgk_deep_gemm 8 True"] and "dgk's own package" in said
    (tmp_path / "deep_gemm").mkdir()
    (tmp_path / "deep_gemm" / "__init__.py").write_text("raise ImportError('libcuda is missing')\n")
    out, said = imported(tmp_path)
    assert out == ["None", "dgk_deep_gemm 8 True"] and "ImportError: libcuda is missing" in said


# ---- with torch ------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def dry():
    spec = importlib.util.find_spec("torch")
    if spec is None or "standin" in str(spec.origin):
        pytest.skip("needs torch itself")
    return lab.Lab(dry=True)


def test_difference(dry):
    x = dry.randn(3000, 8, dtype="float32")
    assert lab.difference(x, x) == 0 and lab.difference(x, -x) == 2
    assert lab.difference(x, x * 1.01) == pytest.approx(1 - 2 * 1.01 / (1 + 1.01 ** 2), abs=1e-9)
    y = x.clone()
    y[2999, 7] = float("nan")
    assert not lab.difference(x, y) <= 1


def test_scores(dry):
    t = dry.torch
    q, k, w = t.randn(3, 4, 8), t.randn(20, 8), t.randn(3, 4)
    want = sum((q[:, h] @ k.T).relu() * w[:, h:h + 1] for h in range(4))
    assert t.allclose(dry.scores(q, k, w), want, atol=1e-5)


def test_scales_are_aligned(dry):
    sf = dry.torch.rand(5, 3)
    out = dry.mn_major(sf)
    assert dry.torch.equal(out, sf) and out.stride() == (1, 8)


def test_key_ranges(dry):
    f = FAMILIES["mqa_logits"]
    s = f.shape(8, 48, 32, 32, cp=1)
    ks, ke = f.key_ranges(dry.torch, s, "cpu")
    assert ke.tolist() == [8, 9, 10, 11, 36, 37, 38, 39] and not ks.any()  # rank 2 of 6: chunks 2 and 9 of 12
    assert f.key_ranges(dry.torch, f.shape(4, 10, 32, 32), "cpu")[1].tolist() == [6, 7, 8, 9]


def test_page_table(dry):
    t = dry.torch
    pages = t.tensor([3, 1, 4])
    table = FAMILIES["paged_mqa_logits"].page_table(t, pages)
    used = [table[b, i].item() for b, n in enumerate(pages) for i in range(n)]
    assert table.shape == (3, 4) and sorted(used) == list(range(8)) and table[1, 1:].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", run.FAMILIES)
def test_wrong_results_are_not_timed(dry, name):
    f = FAMILIES[name]

    class Wrong:
        """The kernel, and one element of its result spoilt."""

        def __init__(self, kernel):
            self.kernel = kernel

        def __call__(self, **arguments):
            self.kernel(**arguments)
            d = arguments.get("D", arguments.get("L"))
            d[(-1,) + (0,) * (d.dim() - 1)] = 1e4

    right = run.measure(dry, name, f, f.DRY[0])
    assert right["us"]["dgc"] and right["difference"]["dgc"] <= f.TOLERANCE and not right["failed"]
    honest = dry.ours
    try:
        dry.ours = lambda *a: {s: Wrong(k) for s, k in honest(*a).items()}
        wrong = run.measure(dry, name, f, f.DRY[0])
    finally:
        dry.ours = honest
    assert not wrong["us"] and "wrong: differs" in wrong["failed"]["dgc"]


def test_ceilings(dry):
    c = dry._measure_ceilings(64, 1 << 20)
    assert set(c) == {"empty_us", "copy_gbs", "bf16_tflops", "fp8_tflops"} and all(v > 0 for v in c.values())


def test_lengths_do_not_depend_on_next_n(dry):
    f, lens = FAMILIES["paged_mqa_logits"], []
    for n in (2, 3):
        dry.torch.manual_seed(0)
        lens.append(f.case(dry, f.shape(5, n, 32, 100)).lens[:, -1].tolist())
    assert lens[0] == lens[1] and min(lens[0]) >= 70 and max(lens[0]) < 130 and len(set(lens[0])) > 1


@pytest.mark.parametrize("name", run.FAMILIES)
def test_peers_are_called_rightly(dry, name):
    """dgk's own deep_gemm has DeepGEMM's signatures: it stands in for it."""
    f = FAMILIES[name]
    dry.peer = types.SimpleNamespace(**{n: getattr(dry.own, n) for n in dir(dry.own)})
    dry.peer.get_num_sms = dry.sms
    try:
        rows = [run.measure(dry, name, f, s) for s in f.DRY]
    finally:
        dry.peer = None
    for r in rows:
        wanted = {"deepgemm"} if r["shape"].get("next_n", 1) <= 2 else set()
        wanted |= {side for side, *_ in f.PEERS if side == "deepgemm_rows"}
        assert wanted <= set(r["us"]) and not r["failed"], r["failed"]


def test_tuned_and_untuned(tmp_path, dry, monkeypatch):
    dgc = ROOT / "build" / "dgc"
    if not dgc.exists():
        pytest.skip("needs build/dgc")
    monkeypatch.setenv("DGC_TUNE_DB", str(tmp_path))
    subprocess.run([dgc, "tune", ROOT / "kernels_dsl" / "bf16_gemm.dgk", "--device", "emu:sm_90a", "-D", "OUT=bf16", "-D", "ACC=0", "--shape", "M=8,N=16,K=64",
                    "--candidates", "4"], check=True, capture_output=True)
    both = lab.Lab(dry=True, modes=("off", "on"))
    r = run.measure(both, "bf16", FAMILIES["bf16"], FAMILIES["bf16"].DRY[0])
    assert set(r["us"]) >= {"dgc", "dgc_tuned"} and r["values"]["dgc"] != r["values"]["dgc_tuned"]
    fixed = lab.Lab(dry=True, fixed={"BM": "64", "BN": "64"})
    assert "BM = 64, BN = 64" in run.measure(fixed, "bf16", FAMILIES["bf16"], FAMILIES["bf16"].DRY[0])["values"]["dgc"]


def test_dry_run(dry, tmp_path, capsys):
    out = tmp_path / "dry.json"
    assert run.main(["--dry", "--json", str(out), "--part", "0/2"]) == 0
    data = json.loads(out.read_text())
    assert len(data["rows"]) == len(chosen("--dry", "--part", "0/2")) and data["runs"][0]["part"] == "0/2" and all(r["us"]["dgc"] for r in data["rows"])
    assert "over cuBLASLt" in capsys.readouterr().out
