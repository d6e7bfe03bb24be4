#!/usr/bin/env python3
"""Plots of what bench/run.py wrote, on any machine with matplotlib.

    python3 bench/plot.py RESULT.json … [--out FOLDER]

For each family a roofline (rate against FLOP per byte, with the ceilings that were measured in the same run) and, shape by shape, how many
times quicker than each peer dgc is."""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import report  # noqa: E402

COLORS = {"dgc": "#0b6e4f", "dgc_rows": "#6bbf8f", "dgc_tuned": "#d1495b", "cublaslt": "#3066be", "deepgemm": "#e09f3e", "deepgemm_rows": "#b5651d",
          "unscaled": "#888888"}


def label(shape):
    return " ".join(f"{k}={v}" for k, v in shape.items())


def roofline(plt, family, module, rows, ceilings):
    """None where nothing was timed."""
    timed = [r for r in rows if report.time_of(r, "dgc") and r.get("bytes") and r.get("flop")]
    if not timed:
        return None
    fig, ax = plt.subplots(figsize=(8, 5.5))
    x = [r["flop"] / r["bytes"] for r in timed]
    if ceilings.get("copy_gbs"):
        peak, slope = ceilings.get(module.PEAK), ceilings["copy_gbs"] * 1e-3
        span = [min(x) / 1.5, max(x) * 1.5]
        grid = sorted(span + ([peak / slope] if peak and span[0] < peak / slope < span[1] else []))
        ax.plot(grid, [min(i * slope, peak or float("inf")) for i in grid], color="black", lw=1, label="measured ceilings")
    for side in ["dgc"] + [p[0] for p in module.PEERS]:
        points = [(r["flop"] / r["bytes"], r["flop"] / report.time_of(r, side) * 1e-6) for r in timed if report.time_of(r, side)]
        if points:
            ax.scatter(*zip(*points), s=14, color=COLORS.get(side), alpha=0.8, label=side.replace("_", " "))
    ax.set(xscale="log", yscale="log", xlabel="FLOP per byte", ylabel="TFLOPS", title=f"{family}: {module.TITLE.split(';')[0]}")
    ax.legend(fontsize=8)
    ax.grid(alpha=0.3, which="both")
    return fig


def ratios(plt, family, module, rows):
    """None where no peer was timed."""
    compared = [p for p in report.columns_of(rows, module.PEERS) if p[2]]
    timed = [r for r in rows if any(report.time_of(r, s) and report.time_of(r, ours) for s, _, ours in compared)]
    if not timed:
        return None
    fig, ax = plt.subplots(figsize=(9, 1.5 + 0.16 * len(timed)))
    for side, _, ours in compared:
        both = ((i, report.time_of(r, side), report.time_of(r, ours)) for i, r in enumerate(timed))
        points = [(a / b, i) for i, a, b in both if a and b]
        if points:
            ax.scatter(*zip(*points), s=16, color=COLORS.get(side), label=f"{side} time / {ours} time".replace("_", " "))
    ax.axvline(1, color="black", lw=1)
    ax.set_yticks(range(len(timed)), [label(r["shape"]) for r in timed], fontsize=6)
    ax.set(ylim=(len(timed) - 0.5, -0.5), title=f"{family}: how many times quicker")
    ax.legend(fontsize=8)
    ax.grid(alpha=0.3)
    return fig


def draw(data, folder):
    """Files FOLDER/FAMILY-roofline.png and FAMILY-ratio.png; their paths. Says so and draws nothing where there is no matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("no matplotlib here: write --json, and python3 bench/plot.py draws it where there is one", file=sys.stderr)
        return []
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from run import FAMILIES, modules
    folder, made = pathlib.Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    ceilings = next((r["ceilings"] for r in data["runs"] if r.get("ceilings")), {})
    for name, module in modules(FAMILIES).items():
        rows = [r for r in data["rows"] if r["family"] == name]
        for kind, fig in (("roofline", roofline(plt, name, module, rows, ceilings)), ("ratio", ratios(plt, name, module, rows))):
            if fig:
                made.append(folder / f"{name}-{kind}.png")
                fig.savefig(made[-1], dpi=130, bbox_inches="tight")
                plt.close(fig)
    return made


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("results", nargs="+", metavar="RESULT.json")
    p.add_argument("--out", default="plots", metavar="FOLDER", help="plots")
    o = p.parse_args(argv)
    made = draw(report.merge(o.results), o.out)
    for path in made:
        print(path)
    return 0 if made else 1


if __name__ == "__main__":
    sys.exit(main())
