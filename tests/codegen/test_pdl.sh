# Programmatic dependent launch: every kernel of a target that has it waits once for the grid before, then lets the next one come,
# and touches nothing of global memory above the wait; targets without it know neither.
cat > "$T/scan.awk" <<'A'
/^\.visible \.entry/ { name = $3; sub(/\(.*/, "", name); waits = starts = 0; kernels++ }
{ sub(/^[ \t]*(@!?%p[0-9]+ )?/, "") }
/^(ld|ldu|st|atom|red|cp|multimem|prefetch|prefetchu|applypriority|discard|tensormap)\./ && want && !waits && !/^(ld|st|atom|red)[a-z.]*\.(param|shared)/ && !/^prefetch\.(param\.)?tensormap/ {
    print name ": before the wait: " $0; bad = 1
}
/^griddepcontrol\.wait;/ { waits++ }
/^griddepcontrol\.launch_dependents;/ { if (!waits) { print name ": the next grid comes before the wait"; bad = 1 } starts++ }
/^}$/ { if (waits != want || starts != want) { print name ": " waits " waits, " starts " starts; " want " wanted"; bad = 1 } }
END { if (!kernels) { print "no kernel"; bad = 1 } exit bad }
A
scan() { # WANT OPTION...
    want=$1; shift
    "$DGC" compile --emit=ptx "$@" > "$T/one.ptx" 2> "$T/said" || { echo "$*:"; head -1 "$T/said"; exit 1; }
    awk -v want="$want" -f "$T/scan.awk" "$T/one.ptx" > "$T/found" || { echo "$*:"; cat "$T/found"; exit 1; }
}
sed '/^#/d; s/|/ | /g' tests/report/jobs.txt > "$T/jobs" # every kernel, with what it needs to know
while read -r file kernel bar options; do
    options=${options%%|*}
    scan 1 --target=sm_90a --kernel="$kernel" $options "kernels_dsl/$file.dgk"
    echo "$kernel" >> "$T/scanned"
done < "$T/jobs"
scan 1 --target=sm_90a --kernel=lay_out_sf kernels_dsl/scales.dgk
echo lay_out_sf >> "$T/scanned"
sed -n 's/^kernel \([a-z0-9_]*\).*/\1/p' kernels_dsl/*.dgk | while read -r kernel; do
    grep -qx "$kernel" "$T/scanned" || { echo "$kernel was not looked at"; exit 1; }
done || exit 1
for t in sm_90a sm_100a sm_103a sm_120a; do scan 1 --target=$t kernels_dsl/bf16_gemm.dgk; done
scan 1 --target=sm_90a --set SK=4 kernels_dsl/bf16_gemm.dgk # scratch memory and counters
scan 1 --target=sm_100a kernels_dsl/fp8_gemm.dgk
for t in sm_80 sm_89; do scan 0 --target=$t kernels_dsl/bf16_gemm.dgk; done

# what the scan finds
scan 1 --target=sm_90a kernels_dsl/01_copy.dgk
sed 's/^\tgriddepcontrol.wait;/\tld.global.b32 %r5, [%d1];\n&/' "$T/one.ptx" > "$T/late.ptx"
sed '/griddepcontrol.wait/d' "$T/one.ptx" > "$T/none.ptx"
for f in late none; do awk -v want=1 -f "$T/scan.awk" "$T/$f.ptx" > "$T/found" && { echo "$f.ptx: nothing was found"; exit 1; }; done
true
