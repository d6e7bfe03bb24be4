# The Python packages on the emulator: pytest and numpy of build/venv, else of python3. Torch is taken where it is installed.
case $DGC in */check/*) echo "a sanitized library cannot be loaded into Python"; exit 77 ;; esac
root=$(cd "$(dirname "$0")/../.." && pwd)
for python in "$root/build/venv/bin/python" python3; do
    "$python" -c 'import numpy, pytest' 2>/dev/null && break
    python=
done
[ -n "$python" ] || { echo "needs numpy and pytest: python3 -m venv build/venv && build/venv/bin/pip install numpy pytest"; exit 77; }
make -s -C "$root" python >/dev/null 2>&1  # the tests of the native call path are skipped where it cannot be built
cd "$root" && DGC_CACHE_DIR=$T/cache exec timeout 300 "$python" -m pytest -q -p no:cacheprovider tests/python
