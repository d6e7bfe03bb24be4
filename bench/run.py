#!/usr/bin/env python3
"""dgk's kernels beside cuBLASLt and, where it is installed, DeepGEMM: one process, the same random data, interleaved launches, a cold
L2 before each, medians. Results are checked first; a wrong kernel is not timed.

    python3 bench/run.py                                   every family
    python3 bench/run.py bf16 mqa_logits --quick           two families, the telling half of their shapes
    python3 bench/run.py bf16 --shape m=8192,n=8192,k=8192 a shape of one's own
    python3 bench/run.py bf16 --where m=4096 --fix BM=128  only these shapes, with a tune value of one's own
    python3 bench/run.py --part 0/2 --json a.json          half of it; --part 1/2 --json b.json: the other half, in another call
    python3 bench/run.py --merge a.json b.json             the table and the marks of both
    python3 bench/run.py --dry                             tiny shapes on the emulator: does the command work? Times mean nothing

Prints a table for each family and the marks, last of all. Results are on disk (--json) after each shape, so an interrupted run keeps them.
DeepGEMM compiles about 2 s for each new shape; with DG_JIT_CACHE_DIR on a disk that stays it does so once."""

import argparse
import importlib
import json
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import report  # noqa: E402

FAMILIES = ["bf16", "fp8_1d2d", "fp8_1d1d", "k_grouped", "mqa_logits", "paged_mqa_logits", "paged_varlen"]


def modules(names):
    return {n: importlib.import_module(n) for n in names}


# ---- which shapes ----------------------------------------------------------------------------------------------------

def pairs(text):
    """"m=1,out=f32" as {"m": 1, "out": "f32"}"""
    out = {}
    for item in text.split(","):
        name, found, value = item.partition("=")
        if not found:
            raise argparse.ArgumentTypeError(f"{item!r}: NAME=VALUE is wanted")
        out[name] = int(value) if value.lstrip("-").isdigit() else value
    return out


def part(text):
    i, _, n = text.partition("/")
    if not (i.isdigit() and n.isdigit() and int(i) < int(n)):
        raise argparse.ArgumentTypeError(f"{text!r}: I/N is wanted, I from 0 to N - 1")
    return int(i), int(n)


def own_shape(name, family, given):
    unknown = set(given) - set(family.DEFAULT)
    if unknown:
        raise SystemExit(f"{name} has no {', '.join(sorted(unknown))}; its shapes have {', '.join(family.DEFAULT)}")
    return {**family.DEFAULT, **given}


def selection(o, families):
    """[(family, shape)], in order, of this part."""
    out = []
    for name, f in families.items():
        if o.dry:
            shapes = f.DRY
        elif o.shape:
            shapes = [own_shape(name, f, s) for s in o.shape]
        else:
            shapes = [s for s in f.shapes() if not o.quick or f.quick(s)]
        out += [(name, s) for s in shapes if all(s.get(k) == v for w in o.where for k, v in w.items())]
    i, n = o.part or (0, 1)
    return out[i::n]


# ---- one shape -------------------------------------------------------------------------------------------------------

def first_line(e):
    lines = str(e).strip().splitlines()
    return f"{type(e).__name__}: {lines[0] if lines else ''}"


def check_sides(lab, case, row):
    """The sides whose results are right."""
    good = {}
    for side, f in case.sides.items():
        t = time.perf_counter()
        try:
            lab.last = None
            d = case.check(side)
            lab.settle()
            values = lab.last_values()
        except Exception as e:
            row["failed"][side] = first_line(e)
            continue
        row["check_ms"][side] = round((time.perf_counter() - t) * 1e3, 1)
        row["difference"][side] = d
        if values is not None:
            row["values"][side] = values
        if d is None or d <= case.tolerance:
            good[side] = f
        else:
            row["failed"][side] = f"wrong: differs by {d:.3g}, more than {case.tolerance}"
    return good


def floors(row, ceilings, peak):
    """What the chip's measured ceilings allow, us; the largest of products and bytes."""
    if "copy_gbs" in ceilings:
        row["copy_us"] = row["bytes"] / ceilings["copy_gbs"] * 1e-3
        row["floor_us"] = max(row["copy_us"], row["flop"] / ceilings.get(peak, float("inf")) * 1e-6)


def measure(lab, name, family, shape):
    row = {"family": name, "shape": shape, "difference": {}, "failed": {}, "check_ms": {}, "values": {}, "us": {}}
    lab.torch.manual_seed(0)  # the same lengths of a batch, whatever else a shape has
    try:
        case = family.case(lab, shape)
    except Exception as e:
        row["error"] = first_line(e)
        return row
    row["flop"], row["bytes"] = case.flop, case.bytes
    floors(row, lab.ceilings, family.PEAK)
    good = check_sides(lab, case, row)
    if "dgc" in good:
        us, row["ahead"] = lab.timer(good)
        row["us"] = {side: [round(t, 3) for t in times] for side, times in us.items()}
    return row


def progress(row, i, n):
    said = "  ".join(f"{side} {report.time_of(row, side):.1f} us" for side in row["us"]) or row.get("error", "not timed")
    said += "".join(f"  {side}: {why}" for side, why in row["failed"].items()) + f"  ({row['values'].get('dgc', '')})"
    print(f"[{i}/{n}] {row['family']} {' '.join(f'{k}={v}' for k, v in row['shape'].items())}: {said}", file=sys.stderr, flush=True)


# ---- all of it -------------------------------------------------------------------------------------------------------

def save(path, data):
    """Whole or not at all, whenever the process ends."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(data, indent=None) + "\n")
    os.replace(beside, path)


def run(o, families):
    from lab import Lab
    began = time.monotonic()
    work = selection(o, families)
    if not work:
        raise SystemExit("no shape fits what was asked for")
    modes = ("off", "on") if o.both else ("on",) if o.tuned else ("off",)
    lab = Lab(dry=o.dry, peer_path=o.peer, rounds=o.rounds, launches=o.launches, flush=not o.warm, fixed=dict(f.split("=", 1) for f in o.fix), modes=modes)
    head = lab.describe()
    head.update(part=f"{o.part[0]}/{o.part[1]}" if o.part else None, notes=[n for f in families.values() for n in getattr(f, "notes", list)()])
    data = {"runs": [head], "rows": []}
    for i, (name, shape) in enumerate(work, 1):
        if o.seconds and time.monotonic() - began > o.seconds:
            head["notes"].append(f"{len(work) - i + 1} of {len(work)} shapes were not begun within {o.seconds:g} s")
            break
        data["rows"].append(measure(lab, name, families[name], shape))
        progress(data["rows"][-1], i, len(work))
        lab.tidy()
        if o.json:
            save(o.json, data)
    head["seconds"] = round(time.monotonic() - began, 1)
    return data


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1], formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; all of them")
    p.add_argument("--quick", action="store_true", help="the telling half of the shapes")
    p.add_argument("--where", action="append", type=pairs, default=[], metavar="NAME=VALUE,…", help="only shapes that have these values")
    p.add_argument("--shape", action="append", type=pairs, default=[], metavar="NAME=VALUE,…", help="this shape; what is not named is the family's default")
    p.add_argument("--part", type=part, metavar="I/N", help="every Nth shape, from I; 0/2 and 1/2 make the whole")
    p.add_argument("--fix", action="append", default=[], metavar="NAME=VALUE", help="a tune value of dgk's kernels")
    p.add_argument("--tuned", action="store_true", help="dgk's kernels as dgc tune found them; else as the cost model has them")
    p.add_argument("--both", action="store_true", help="untuned and tuned, side by side")
    p.add_argument("--peer", metavar="PATH", help="where DeepGEMM is installed, if not where Python looks")
    p.add_argument("--rounds", type=int, default=20, help="launches a median is taken of, 20")
    p.add_argument("--launches", type=int, default=1, help="launches in a row that make one interval, 1")
    p.add_argument("--warm", action="store_true", help="no flush of the L2; with --launches 20: back to back")
    p.add_argument("--seconds", type=float, help="begin no shape after this many")
    p.add_argument("--json", metavar="FILE", help="every number")
    p.add_argument("--plots", metavar="FOLDER", help="plots, where matplotlib is installed; bench/plot.py makes them elsewhere")
    p.add_argument("--merge", nargs="+", metavar="FILE", help="measure nothing: show what these files hold together")
    p.add_argument("--list", action="store_true", help="measure nothing: the shapes, one a line")
    p.add_argument("--dry", action="store_true", help="tiny shapes on the emulator")
    return p


def main(argv=None):
    p = arguments()
    o = p.parse_args(argv)
    wrong = [f for f in o.families if f not in FAMILIES]
    if wrong:
        p.error(f"unknown family {wrong[0]}; there are {', '.join(FAMILIES)}")
    if any("=" not in f for f in o.fix):
        p.error("--fix takes NAME=VALUE")
    families = modules(o.families or FAMILIES)
    if o.list:
        for name, shape in selection(o, families):
            print(name, ",".join(f"{k}={v}" for k, v in shape.items()))
        return 0
    data = report.merge(o.merge) if o.merge else run(o, families)
    if o.json:
        save(o.json, data)
    if o.plots:
        import plot
        plot.draw(data, o.plots)
    print(report.text(data, families))
    return 1 if any("dgc" in r["failed"] or "error" in r for r in data["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
