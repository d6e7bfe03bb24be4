"""Tables and marks from the rows of a run. Pure arithmetic: works anywhere, on any number of merged files.

A row: {"family", "shape": {...}, "flop", "bytes", "floor_us", "copy_us", "us": {side: [microseconds of every round]}, "difference": {side: ...},
"failed": {side: why}}. floor_us is what the chip's measured ceilings allow, copy_us the bytes alone at the rate of a copy."""

import json
import math
import pathlib
import statistics

# ---- rows ------------------------------------------------------------------------------------------------------------


def key_of(row):
    return row["family"], tuple(sorted(row["shape"].items()))


def merge(files):
    """Runs and rows of all files; of a shape that was measured twice the later row that did not fail."""
    runs, rows = [], {}
    for f in files:
        data = json.loads(pathlib.Path(f).read_text())
        runs += data["runs"]
        for row in data["rows"]:
            old = rows.get(key_of(row))
            if old is None or time_of(row, "dgc") or not time_of(old, "dgc"):
                rows[key_of(row)] = row
    return {"runs": runs, "rows": list(rows.values())}


def time_of(row, side):
    """The median of a side, or of the quickest of several; None where it was not timed."""
    if isinstance(side, tuple):
        return min((t for t in (time_of(row, s) for s in side) if t), default=None)
    us = row.get("us", {}).get(side)
    return statistics.median(us) if us else None


def spread_of(row, side):
    """Half of what the middle half of the rounds spans, as a share of the median: smaller differences mean nothing."""
    us = row.get("us", {}).get(side, ())
    if len(us) < 4:
        return None
    low, middle, high = statistics.quantiles(us, n=4, method="inclusive")
    return (high - low) / 2 / middle


def percent(x, width, digits=0):
    return f"{x * 100:>{width - 1}.{digits}f}%" if x is not None else f"{'-':>{width}}"


def geomean(x):
    return math.exp(sum(map(math.log, x)) / len(x)) if x else None


# ---- values that marks are set on ------------------------------------------------------------------------------------


def speedup(peer, ours="dgc", **where):
    """How many times quicker than the peer, for every shape that fits `where`: a value, or a function of it."""
    def values(rows):
        return [time_of(r, peer) / time_of(r, ours) for r in rows if fits(r, where) and time_of(r, peer) and time_of(r, ours)]
    return values


def copy_share(ours="dgc", **where):
    """Of the rate of a copy, bytes counted once."""
    def values(rows):
        return [r["copy_us"] / time_of(r, ours) for r in rows if fits(r, where) and r.get("copy_us") and time_of(r, ours)]
    return values


def between(name, over, under, ours="dgc"):
    """Time at shape[name] = over, divided by the time of the same shape with name = under."""
    def values(rows):
        times = {key_of(r): time_of(r, ours) for r in rows}
        pairs = ((times[k], times.get((k[0], tuple(sorted({**dict(k[1]), name: under}.items()))))) for k in times if dict(k[1]).get(name) == over)
        return [a / b for a, b in pairs if a and b]
    return values


def fits(row, where):
    return all(w(row["shape"].get(n)) if callable(w) else row["shape"].get(n) == w for n, w in where.items())


class Mark:
    """text, statistic ("geomean", "lowest", "highest"), bound: (">=", 1.1), ("<=", 1.15), or None where the value is only of interest."""

    def __init__(self, text, statistic, bound, values):
        self.text, self.statistic, self.bound, self.values = text, statistic, bound, values

    def measure(self, rows):
        """(value, lowest, highest, count, met); value None where nothing was measured, met None without value or bound."""
        v = self.values(rows)
        if not v:
            return None, None, None, 0, None
        value = {"geomean": geomean, "lowest": min, "highest": max}[self.statistic](v)
        met = None if not self.bound else value >= self.bound[1] if self.bound[0] == ">=" else value <= self.bound[1]
        return value, min(v), max(v), len(v), met


# ---- text ------------------------------------------------------------------------------------------------------------


def columns_of(rows, peers):
    """Sides that were timed in any of the rows, dgc first, in the order of `peers`: (side, title, the side it is compared with)."""
    found = {s for r in rows for s in r.get("us", {})}
    tuned = [(s, s.replace("_", " "), s[:-len("_tuned")]) for s in sorted(found) if s.endswith("_tuned")]
    return [c for c in list(peers) + tuned if c[0] in found]


def number(x, width, digits):
    return f"{x:>{width}.{digits}f}" if x is not None else f"{'-':>{width}}"


def rate(amount, us, scale):
    return amount / us * scale if us and amount else None


def table(family, rows, peers, title):
    """Lines: a shape in each, time and rates of dgc, then time of every peer and how many times quicker dgc is."""
    names = list(dict.fromkeys(n for r in rows for n in r["shape"]))
    width = {n: max(len(n), *(len(str(r["shape"].get(n, ""))) for r in rows)) for n in names}
    columns = columns_of(rows, peers)
    head = "  ".join(f"{n:>{width[n]}}" for n in names) + f"  {'dgc us':>9} {'+-':>5} {'TFLOPS':>6} {'GB/s':>5} {'roof':>5}"
    head += "".join(f"  {title:>{max(9, len(title))}}" + (f" {'x':>5}" if against else "") for _, title, against in columns) + "  difference"
    lines = [f"{family}: {title}", head]
    for r in rows:
        line = "  ".join(f"{str(r['shape'].get(n, '')):>{width[n]}}" for n in names)
        us = time_of(r, "dgc")
        if not us:
            lines.append(f"{line}  {r.get('failed', {}).get('dgc', r.get('error', 'not timed'))[:110]}")
            continue
        line += f"  {us:>9.1f} {percent(spread_of(r, 'dgc'), 5, 1)} {number(rate(r['flop'], us, 1e-6), 6, 0)} {number(rate(r['bytes'], us, 1e-3), 5, 0)} "
        line += percent(r["floor_us"] / us if r.get("floor_us") else None, 5)
        for side, title, against in columns:
            t, base = time_of(r, side), time_of(r, against) if against else None
            line += f"  {number(t, max(9, len(title)), 1)}" + (f" {number(t / base if t and base else None, 5, 2)}" if against else "")
        worst = max((d for s, d in r.get("difference", {}).items() if s.startswith("dgc") and d is not None), default=None)
        line += f"  {worst:>10.1e}" if worst is not None else ""
        line += "".join(f"  {s}: {why[:60]}" for s, why in r.get("failed", {}).items()) + ("" if r.get("ahead", True) else "  held up by the host")
        lines.append(line)
    return lines


def marks_table(marks, rows):
    """marks: {family: [Mark]}. A line each: value, range, mark, whether it is met."""
    lines = [f"{'family':<17} {'mark':<62} {'value':>6}  {'lowest':>6} {'highest':>7} {'of':>4}  {'mark':>7}"]
    for family, several in marks.items():
        own = [r for r in rows if r["family"] == family]
        for m in several if own else ():
            value, low, high, n, met = m.measure(own)
            bound = f"{m.bound[0]} {m.bound[1]:.2f}" if m.bound else ""
            said = "" if not m.bound else "not measured" if value is None else "met" if met else "MISSED"
            lines.append(f"{family:<17} {m.text + ', ' + m.statistic:<62} {number(value, 6, 3)}  {number(low, 6, 3)} {number(high, 7, 3)} {n:>4}  {bound:>7}  {said}")
    return lines


def heading(runs):
    lines = []
    for r in runs:
        line = f"{r.get('device')}, torch {r.get('torch')}, {r.get('rounds')} rounds, tune {'/'.join(r.get('tune', []))}"
        line += f", DeepGEMM {r['deepgemm']['version']}" if r.get("deepgemm") else ", no DeepGEMM"
        line += "".join(f", {n.replace('_', ' ')} {v:.{0 if v >= 100 else 1}f}" for n, v in r.get("ceilings", {}).items())
        line += f", fixed {r['fixed']}" if r.get("fixed") else ""
        lines.append(line + (f", part {r['part']}" if r.get("part") else "") + f", {r.get('date')}")
    return lines


def text(data, families):
    """Everything, marks last. families: {name: module with TITLE, PEERS, MARKS}."""
    lines = heading(data["runs"])
    for name, f in families.items():
        own = [r for r in data["rows"] if r["family"] == name]
        if own:
            lines += [""] + table(name, own, f.PEERS, f.TITLE)
    notes = list(dict.fromkeys(n for r in data["runs"] for n in r.get("notes", [])))
    lines += [""] + notes if notes else []
    both = geomean(speedup("dgc", "dgc_tuned")(data["rows"]))
    if both:
        lines += ["", f"tuned over the model alone: {both:.3f}"]
    return "\n".join(lines + [""] + marks_table({n: f.MARKS for n, f in families.items()}, data["rows"]))
