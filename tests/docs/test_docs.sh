# What README.md and docs/ show is true: kernels parse, commands print what is printed there, files exist, docs/cli.md is
# what the tables say.
command -v python3 >/dev/null || { echo "no python3 here"; exit 77; }
bad=0
sh tests/docs/cli.sh "$DGC" > "$T/cli.md"
diff docs/cli.md "$T/cli.md" || { echo "docs/cli.md is old: make docs"; bad=1; }
ROOT=$PWD; export ROOT
unset DGC_TARGET DGC_DEVICE
mkdir -p "$T/run"
cd "$T/run" || exit 1
ln -sfn "$(dirname "$DGC")" build
ln -sfn "$ROOT/kernels_dsl" kernels_dsl
ln -sfn "$ROOT/examples" examples
# shellcheck disable=SC2046
python3 "$ROOT/tests/docs/run_docs.py" README.md $(cd "$ROOT" && ls docs/*.md) || bad=1
exit $bad
