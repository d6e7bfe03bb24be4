"""Reads machine code: the main loop of a cubin, and what its instructions are for.

The main loop is the innermost loop (no other loop with tensor instructions inside) that has most tensor instructions. A loop is a branch back to
an instruction that all ways to the branch pass, and what lies between the two; what the assembler puts out of line, as a wait that must be
repeated, is not in it.

    python3 tests/report/sass.py FILE.cubin …      each one's main loop by kind of instruction"""

import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys

# Kinds, in order: the first whose beginning fits. Beginnings of nvdisasm's mnemonics.
KINDS = [
    ("tensor", ("HMMA", "QMMA", "OMMA", "IMMA", "DMMA", "HGMMA", "QGMMA", "UTCHMMA", "UTCQMMA", "UTCOMMA")),
    ("shared", ("LDSM", "LDS", "STS", "STSM", "ATOMS")),
    ("memory", ("LDG", "STG", "LD.", "ST.", "LDL", "STL", "LDC", "LDCU", "UTMA", "UBLKCP", "RED", "ATOM")),
    ("barrier", ("SYNCS", "BAR", "WARPSYNC", "DEPBAR", "MEMBAR", "FENCE", "ELECT", "BSSY", "BSYNC", "VOTE", "WARPGROUP", "YIELD", "NANOSLEEP")),
    ("convert", ("F2F", "F2I", "I2F", "F2FP", "I2I", "PRMT", "HADD2.F32", "F2IP", "I2FP")),
    ("float", ("FADD", "FMUL", "FFMA", "FMNMX", "FSEL", "FSETP", "MUFU", "HFMA2", "HMUL2", "HADD2", "FADD2", "FFMA2", "FMUL2", "DADD", "SHFL", "REDUX")),
    ("jump", ("BRA", "EXIT", "CALL", "RET", "BRX", "JMP", "PLOP3", "UPLOP3", "NOP")),
    ("integer", ("",)),
]
LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(@!?U?P[0-9T]+\s+)?([A-Z][A-Z0-9_.]*)\b(.*?);")
LABEL = re.compile(r"^(\.L_x?_?\d+):")
TARGET = re.compile(r"(?:(!?U?P[0-9T]+), )?`\((\.L_x?_?\d+)\)")

Instruction = collections.namedtuple("Instruction", "address op target goes_on")  # target: a label or None; goes_on: to what stands behind it


def find_nvdisasm():
    """$NVDISASM, a CUDA toolkit's, or a Python package's; None where there is none."""
    here = pathlib.Path(__file__).resolve().parents[2]
    places = [os.environ.get("NVDISASM"), shutil.which("nvdisasm"), "/usr/local/cuda/bin/nvdisasm"]
    places += sorted(str(p) for p in here.glob("build/venv/lib/python3*/site-packages/nvidia/cu13/bin/nvdisasm"))
    return next((p for p in places if p and os.access(p, os.X_OK)), None)


def instructions(cubin):
    """The instructions of the cubin's first function, and {label: address}."""
    text = subprocess.run([find_nvdisasm(), "-c", str(cubin)], capture_output=True, text=True, check=True).stdout
    return parse(text)


def parse(text):
    code, labels, waiting, here = [], {}, [], False
    for line in text.splitlines():
        if line.lstrip().startswith(".section"):
            if code:
                break
            here = ".text." in line
        if label := LABEL.match(line):
            waiting.append(label[1])
        elif here and (m := LINE.search(line)):
            address, guard, op = int(m[1], 16), m[2], m[3]
            labels.update({name: address for name in waiting})
            waiting = []
            target = TARGET.search(m[4]) if op.startswith(("BRA", "JMP")) else None
            always = (target and not target[1]) or op.startswith(("EXIT", "RET"))
            code.append(Instruction(address, op, target and target[2], bool(guard) or not always))
    return code, labels


def kind_of(mnemonic):
    return next(kind for kind, starts in KINDS if mnemonic.startswith(starts))


def dominators(code, labels):
    """{address: addresses that all ways from the entry to it pass}, for the first instructions of blocks; and the block of each instruction."""
    starts = {code[0].address} | set(labels.values()) | {b.address for a, b in zip(code, code[1:]) if a.target or not a.goes_on}
    block_of, before, now = {}, collections.defaultdict(set), None
    for i in code:
        now = i.address if i.address in starts else now
        block_of[i.address] = now
    for i, behind in zip(code, code[1:] + [None]):
        if i.target in labels:
            before[labels[i.target]].add(block_of[i.address])
        if i.goes_on and behind and behind.address in starts:
            before[behind.address].add(block_of[i.address])
    blocks = sorted(set(block_of.values()))
    dom = {b: set(blocks) for b in blocks}
    dom[blocks[0]] = {blocks[0]}
    changed = True
    while changed:
        changed = False
        for b in blocks[1:]:
            new = {b} | (set.intersection(*(dom[p] for p in before[b])) if before[b] else set())
            changed |= new != dom[b]
            dom[b] = new
    return dom, block_of


def main_loop(code, labels):
    """The instructions of the main loop; [] where no loop has a tensor instruction."""
    tensor = [i.address for i in code if kind_of(i.op) == "tensor"]
    dom, block_of = dominators(code, labels)
    back = [(labels[i.target], i.address) for i in code if i.target in labels and labels[i.target] in dom[block_of[i.address]]]
    loops = {l: n for l in back if (n := sum(l[0] <= a <= l[1] for a in tensor))}
    inner = {l: n for l, n in loops.items() if not any(o != l and l[0] <= o[0] and o[1] <= l[1] for o in loops)}
    if not inner:
        return []
    lo, hi = max(inner, key=lambda l: inner[l])
    return [i for i in code if lo <= i.address <= hi]


def counts(loop):
    """{kind: how many}, "all" among them. Filler (NOP) is no instruction of ours: it is left out."""
    n = collections.Counter(kind_of(i.op) for i in loop if i.op != "NOP")
    n["all"] = sum(n.values())
    return n


if __name__ == "__main__":
    for path in sys.argv[1:]:
        n = counts(main_loop(*instructions(path)))
        share = 100 * n["tensor"] / n["all"] if n["all"] else 0
        print(f"{path}: {share:.1f} % tensor;", ", ".join(f"{k} {n[k]}" for k, _ in KINDS if n[k]), f"of {n['all']}")
