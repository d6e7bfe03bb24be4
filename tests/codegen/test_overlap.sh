# What is queued for the tensor core, in the PTX: with slots(c) = 2 the next slot's product is issued before the last one is added;
# and nothing that a wait for a slot does not decide stands between the wait and the product.
fp8() { "$DGC" compile kernels_dsl/fp8_gemm.dgk --target=sm_90a -DGN=128 -DG=128 --set BM=64 --set BN=64 --set math.warpgroups=1 --set SK=1 "$@" || exit 1; }
products() { sed '/fma.rn.f32/q' "$1" | grep -c wgmma.commit_group; }
fp8 --set 'slots(c)=1' -o "$T/one.ptx"
fp8 --set 'slots(c)=2' -o "$T/two.ptx"
[ "$(products "$T/one.ptx")" = 1 ] || { echo "slots(c)=1: $(products "$T/one.ptx") products before the first sum"; exit 1; }
[ "$(products "$T/two.ptx")" = 2 ] || { echo "slots(c)=2: $(products "$T/two.ptx") products before the first sum"; exit 1; }
# the first product's fence comes right after the branch that ends its wait
[ "$(grep -B1 -m1 wgmma.fence "$T/one.ptx" | head -1 | grep -c 'bra')" = 1 ] || { grep -B3 -m1 wgmma.fence "$T/one.ptx"; exit 1; }
# K that ends inside the four slots of a window, and shorter than one: the plain loop
"$DGC" test kernels_dsl/fp8_gemm.dgk --target=sm_90a --device=emu -DGN=128 -DG=128 --set 'slots(c)=2' --set BM=64 --set SK=1 --cases=3 > "$T/said" 2>&1 || { tail -5 "$T/said"; exit 1; }
grep -q ' 0 failed, 0 skipped' "$T/said" || { tail -1 "$T/said"; exit 1; }
