"""Writes docs/machine-code.md: what the assembler makes of every kernel for chips that are not here, and how much of each kernel hangs on a target.

    python3 tests/report/report.py DGC           the whole page (a ptxas and nvdisasm are needed; make report fetches them)
    python3 tests/report/report.py --lines       the table of lines alone"""

import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import sass  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGETS = ["sm_100a", "sm_103a", "sm_120a"]
HEAD = """# Machine code for chips that are not here

`make report` writes this page from what `dgc explain --shape` says and, for sm_120a, from the machine code. No time is measured: registers, shared
memory and spills say that a variant fits, the share of tensor instructions what a warp does besides.

Each kernel is the variant that the cost model takes for the named call. Shared memory is in bytes; slots are those of its pipes, in the kernel's order.
"""
LOOP = """
## The main loop on sm_120a

What a warp issues per trip of the innermost loop with most tensor instructions, by `tests/report/sass.py` from `nvdisasm`. Addresses, waits and
conversions share the issue slots with tensor instructions: the more of the loop is tensor, the closer to the tensor cores' rate it can get.

The peer is DeepGEMM's branch `nv_dev` (commit a6b593d), instantiated with the tile that its own heuristic takes for the call, compiled by nvcc 13.0
with its own options and read in the same way.

| job | variant | loop | tensor | share | DeepGEMM tile | loop | tensor | share |
|---|---|---|---|---|---|---|---|---|
"""
LINES = """
## Lines

Without comments and blank lines, of the kernel alone; sixty are the most. Target-dependent ones are those of its `on` blocks.

| kernel | lines | on a target |
|---|---|---|
"""


def jobs():
    for line in (HERE / "jobs.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, options, call, peer = (w.strip() for w in line.split("|"))
            file, kernel = name.split()
            yield file, kernel, shlex.split(options), call, peer


def peers():
    rows = (line.split("|") for line in (HERE / "deepgemm.txt").read_text().splitlines() if not line.startswith("#"))
    return {r[0].strip(): [w.strip() for w in r[1:]] for r in rows}


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{shlex.join(command)}:\n{done.stderr}")
    return done.stdout


def explain(dgc, job, target):
    """What explain says of the job's variant: {values, registers, shared, slots, stack, spills}."""
    file, kernel, options, call, _ = job
    text = run([dgc, "explain", f"kernels_dsl/{file}.dgk", f"--kernel={kernel}", f"--target={target}", f"--shape={call}", *options])
    find = lambda pattern: (re.search(pattern, text) or [None, ""])[1]  # noqa: E731
    made = re.search(r"assembled +(\d+) registers, (\d+) bytes of stack, (\d+) bytes of spills, by \S*?ptxas \(([\d.]+)\)", text)
    if not made:
        sys.exit(f"no ptxas: {text}")
    chosen = find(r"chosen +(\S+=\S+) \(")
    return {"values": chosen, "registers": made[1], "stack": made[2], "spills": made[3], "ptxas": made[4],
            "shared": find(r"shared memory: (\d+) of"), "slots": " ".join(re.findall(r"pipe \S+ +(\d+) slots? of", text))}


def loop_of(dgc, job, values):
    file, kernel, options, _, _ = job
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/k.cubin"
        sets = [f"--set={v}" for v in values.split(";") if v]
        run([dgc, "compile", f"kernels_dsl/{file}.dgk", f"--kernel={kernel}", "--target=sm_120a", "-o", out, *options, *sets])
        return sass.counts(sass.main_loop(*sass.instructions(out)))


def share(tensor, everything):
    return f"{100 * int(tensor) / int(everything):.0f} %"


def title(job):
    file, kernel, options, call, _ = job
    chosen = " ".join(o[2:] for o in options if o.startswith("-D"))
    return f"{kernel}{' ' + chosen if chosen else ''}, {call.replace(',', ' ')}"


def code_tables(dgc):
    out, loops, release = [HEAD], [LOOP], None
    known = peers()
    for target in TARGETS:
        out.append(f"\n## {target}\n\n| call | variant | registers | shared memory | slots | spills | stack |{' tensor |' if target == 'sm_120a' else ''}\n"
                   f"|---|---|---|---|---|---|---|{'---|' if target == 'sm_120a' else ''}\n")
        for job in jobs():
            e = explain(dgc, job, target)
            release = e["ptxas"]
            row = [title(job), e["values"].replace(";", " ") or "the only one", e["registers"], e["shared"], e["slots"] or "-", e["spills"], e["stack"]]
            if target == "sm_120a":
                n = loop_of(dgc, job, e["values"])
                row.append(share(n["tensor"], n["all"]) if n["all"] else "-")
                if job[4]:
                    tile, _, _, tensor, everything = known[job[4]]
                    loops.append(f"| {job[4]} | {row[1]} | {n['all']} | {n['tensor']} | {share(n['tensor'], n['all'])} | {tile} | {everything} | {tensor} | "
                                 f"{share(tensor, everything)} |\n")
            out.append("| " + " | ".join(row) + " |\n")
            print(target, title(job), file=sys.stderr)
    out[0] += f"\nAssembled by ptxas {release}.\n"
    return "".join(out) + "".join(loops)


def kernels_of(text):
    """[(name, its lines of code)] of a file."""
    found, depth, opened = [], 0, True
    for line in text.splitlines():
        line = re.sub(r"//.*", "", line).rstrip()
        if m := re.match(r"kernel (\w+)", line):
            found.append((m[1], []))
            depth, opened = 0, False
        if found and line and (depth or not opened):
            found[-1][1].append(line)
            depth += line.count("{") - line.count("}")
            opened |= "{" in line and depth >= 0
    return found


def on_lines(lines):
    n = depth = 0
    for line in lines:
        if depth or re.match(r"\s*on \w+", line):
            n += 1
            depth += line.count("{") - line.count("}")
    return n


def line_table():
    out = [LINES]
    for path in sorted((ROOT / "kernels_dsl").glob("*.dgk")):
        for name, lines in kernels_of(path.read_text()):
            out.append(f"| {path.stem}: {name} | {len(lines)} | {on_lines(lines)} |\n")
    return "".join(out)


if __name__ == "__main__":
    if sys.argv[1:] == ["--lines"]:
        sys.stdout.write(line_table())
    else:
        (ROOT / "docs/machine-code.md").write_text(code_tables(sys.argv[1]) + line_table())
