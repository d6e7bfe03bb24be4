# The Python packages against the library that make built: every test under tests/python, on the emulator where there is no GPU.
[ -n "${PYTHON:-}" ] || { echo "no Python with numpy and pytest here"; exit 77; }
library=$(dirname "$DGC")/libdgk.so
grep -q __asan_init "$library" && { echo "a Python cannot load a library with a sanitizer"; exit 77; }
timeout 550 "$PYTHON" -m pytest -q -x -rs -p no:cacheprovider tests/python > "$T/out" 2>&1
rc=$?
sed 's/^SKIPPED \[[0-9]*\] /skipped: /' "$T/out"
exit $rc
