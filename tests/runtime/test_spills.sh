# dgc test and code that spills: a failure at a kernel's own choices, a skip at tune values picked at random, which are picked again.
K=kernels_dsl/09_split_k_gemm.dgk
DGC_CACHE_DIR=$T/cache; export DGC_CACHE_DIR
cat > "$T/ptxas" <<'END'
#!/bin/sh
# Assembles nothing, and reports spills from the (GOOD + 1)th time on.
for word; do
    case $word in --version) echo "release 13.0, V13.0"; exit 0 ;; esac
    [ "$last" = -o ] && echo cubin > "$word"
    last=$word
done
echo . >> "$COUNT"
[ "$(wc -l < "$COUNT")" -le "$GOOD" ] || echo "8 bytes stack frame, 64 bytes spill stores, 72 bytes spill loads" >&2
END
chmod +x "$T/ptxas"
COUNT=$T/count; export COUNT GOOD
bad=0
# expect STATUS SUMMARY: of dgc test, with an assembler that is good GOOD times
expect() {
    : > "$COUNT"; rm -rf "$T/cache"
    out=$("$DGC" test $K --target=sm_80 --device=emu --cases=1 --ptxas="$T/ptxas" $3 2>&1); rc=$?
    [ $rc = "$1" ] || { echo "exit status $rc, $1 wanted: $out"; bad=1; }
    case $out in *"$2"*) ;; *) echo "'$2' wanted in: $out"; bad=1 ;; esac
}
GOOD=0 expect 1 "FAIL split_k_gemm OUT=f32 on sm_80"
GOOD=2 expect 0 "on sm_80: skipped (spills 72 bytes)"
case $out in *"2 cases of 2 kernels, 0 failed, "[1-9]*" skipped") ;; *) echo "two good ones and skips wanted: $out"; bad=1 ;; esac
GOOD=3 expect 0 "3 cases of 3 kernels, 0 failed"
GOOD=0 expect 0 "4 cases of 4 kernels, 0 failed, 0 skipped" --allow-spills
exit $bad
