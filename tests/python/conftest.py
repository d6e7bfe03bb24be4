"""The package is taken from the source tree, with the library that make built; the emulator stands in for a GPU."""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))
os.environ.setdefault("DGC_DEVICE", "emu:sm_90a")
