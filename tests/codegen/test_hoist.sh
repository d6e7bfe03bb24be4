# What is the same in every trip leaves the loop around asynchronous products: row pointers of stores, what lanes add to addresses,
# and loads once for all strips of an unrolled loop that read the same.
# The innermost loop that holds them: from a label to the branch back to it.
loop() {
    awk '/^\$L[0-9]+:/ { at[substr($1, 1, length($1) - 1)] = NR }
         { line[NR] = $0 }
         /wgmma.mma_async/ { if (!first) first = NR; last = NR }
         match($0, /bra \$L[0-9]+/) {
             top = substr($0, RSTART + 4, RLENGTH - 4)
             if (first && NR > last && top in at && at[top] < first) { for (i = at[top]; i <= NR; i++) print line[i]; exit }
         }' "$1"
}
# The kernel with the tiles that show it, which need not be those it has of its own.
sed -e 's/^    on sm_90a .*/    on sm_90a { BR = {2, 8}; BS = BR; BT = {256, 512};/' -e 's/role math(warpgroups = 2); role fill/role math(warpgroups = {2, 4}); role fill/' \
    kernels_dsl/mqa_logits.dgk >"$T/tiles.dgk"
compile() {
    out=$1; shift
    "$DGC" compile "$T/tiles.dgk" -I kernels_dsl --kernel=mqa_logits --target=sm_90a -D CLEAN=0 -D COMP=0 -D C=64 "$@" -o "$out.ptx" || exit 1
    loop "$out.ptx" >"$out"
    [ "$(grep -c wgmma.mma_async "$out")" -gt 0 ] || { echo "no loop around products in $out.ptx"; exit 1; }
}
bad=0
never() { if n=$(grep -c "$2" "$1"); then echo "$n of '$2' in the loop of $1.ptx"; bad=1; fi; }
compile "$T/strips" -D H=32 --set=BR=8 --set=BS=8 --set=BT=512 --set=math.warpgroups=2
never "$T/strips" ld.global
compile "$T/rows" -D H=64 --set=BR=2 --set=BS=2 --set=BT=256 --set=math.warpgroups=4
never "$T/rows" mul.lo.s64
never "$T/rows" mad.lo
exit $bad
