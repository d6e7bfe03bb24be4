#!/bin/sh
# make diff: the PTX of every kernel and target, of this tree against the last commit's (or of $1, any commit).
set -eu
cd "$(dirname "$0")/.."
commit=${1:-HEAD}
W=build/diff
rm -rf $W/tree $W/old $W/new
mkdir -p $W/tree $W/old $W/new
git archive "$commit" | tar x -C $W/tree
make -s -j"$(nproc)" all
make -s -C $W/tree -j"$(nproc)" build/dgc

# emit DGC TREE TO: one file a kernel and target; what does not compile is a file with the message.
emit() {
    for k in "$2"/kernels_dsl/*.dgk; do
        grep -q '^kernel' "$k" || continue
        for t in $("$1" targets | awk 'NR > 1 { print $1 }'); do
            name=$(basename "$k" .dgk).$t
            (cd "$2" && timeout 60 "$1" compile --kernel=all --target="$t" --emit=ptx "kernels_dsl/$(basename "$k")") > "$3/$name.ptx" 2> "$3/$name.err" || true
            [ -s "$3/$name.err" ] || rm "$3/$name.err"
        done
    done
}
emit "$PWD/$W/tree/build/dgc" $W/tree "$PWD/$W/old"
emit "$PWD/build/dgc" . "$PWD/$W/new"
diff -ruN $W/old $W/new > $W/all.diff || true
diff -rqN $W/old $W/new | awk '{ print $2 }' | sed "s|$W/old/||" > $W/changed || true
diffstat=$(grep -c '^[-+][^-+]' $W/all.diff || true)
if [ -s $W/changed ]; then
    cat $W/changed
    echo "$(wc -l < $W/changed) of $(ls $W/new | wc -l) files differ from $commit, $diffstat lines; see $W/all.diff"
else
    echo "all $(ls $W/new | wc -l) files are as in $commit"
fi
