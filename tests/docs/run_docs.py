"""Runs the examples of documents.  run_docs.py FILE.md …   in a scratch folder; $DGC is the compiler, $ROOT the tree.

```dgk            a whole file: it must parse, check, and be what its spec says; with a name after the word it is kept for the commands that follow
```dgk rejected   a whole file that must be rejected
```console        "$ command", then its output: … stands for any text within a line, a line … for any lines
Other blocks are not run. Links to files, and names of files in `code`, must exist.
"""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(os.environ["ROOT"])
DGC = os.environ["DGC"]
FOLDERS = "dsl compiler codegen runtime kernels_dsl tests docs python bench editors examples".split()
wrong = 0
done = 0


def fail(path, line, text):
    global wrong
    wrong += 1
    print(f"{path}:{line}: {text}")


def blocks(text):
    """(line, words after the fence, content) of every fenced block."""
    begin = None
    for number, line in enumerate(text.split("\n"), 1):
        if begin is None and line.startswith("```"):
            begin, words, content = number, line[3:].split(), []
        elif begin is not None and line.startswith("```"):
            yield begin, words, "\n".join(content) + "\n"
            begin = None
        elif begin is not None:
            content.append(line)


def run(command):
    r = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=280)
    out = r.stdout.decode(errors="replace").replace(str(ROOT) + "/", "")
    return r.returncode, re.sub(r"^==\d+==WARNING: ASan doesn't fully support.*\n", "", out, flags=re.M)


def matches(expected, got):
    pattern = ""
    for line in expected:
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(re.sub(r"\s+", " ", p)) for p in line.rstrip().split("…")) + r" ?\n"
    got = "\n".join(re.sub(r"\s+", " ", line) for line in got.split("\n"))
    return re.fullmatch(pattern.replace(r"\ ", " "), got if not got or got.endswith("\n") else got + "\n")


def kernel(path, line, words, content):
    name = words[1] if len(words) > 1 and words[1] != "rejected" else "block.dgk"
    pathlib.Path(name).write_text(content)
    rc, out = run(f'"{DGC}" compile --emit=ast --kernel=all -I "{ROOT}/kernels_dsl" {name}')
    if rc != (1 if "rejected" in words else 0):
        fail(path, line, f"exit status {rc} of this block\n{out}")
    elif rc == 0 and re.search(r"^kernel\b", content, re.M):
        rc, out = run(f'"{DGC}" test {name} --kernel=all -I "{ROOT}/kernels_dsl" --device=emu --target=sm_80,sm_90a,sm_100a --cases=1')
        if rc:
            fail(path, line, f"not what its spec says\n{out}")


def console(path, line, content):
    commands = re.split(r"^\$ ", content, flags=re.M)[1:]
    for c in commands:
        command, _, expected = c.partition("\n")
        rc, out = run(command)
        expected = expected.rstrip("\n").split("\n") if expected.strip() else []
        if not matches(expected, out):
            fail(path, line, f"$ {command}\n--- exit status {rc}, and prints\n{out}")


def document(path):
    global done
    text = (ROOT / path).read_text()
    for line, words, content in blocks(text):
        kind = words[0] if words else ""
        if kind == "dgk":
            kernel(path, line, words, content)
        elif kind == "console":
            console(path, line, content)
        else:
            continue
        done += 1
    for number, line in enumerate(text.split("\n"), 1):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", line):
            if not ((ROOT / path).parent / target).exists():
                fail(path, number, f"there is no {target}")
        for name in re.findall(r"`([\w./-]+)`", line):
            if name.split("/")[0] in FOLDERS and "/" in name and not (ROOT / name).exists() and name == name.lower():
                fail(path, number, f"there is no {name}")


for name in sys.argv[1:]:
    document(name)
print(f"{done} examples of {len(sys.argv) - 1} documents, {wrong} wrong")
sys.exit(wrong > 0)
