# Beside the largest accumulators the role that lays scales out leaves those who read them their registers: nothing is spilled.
"$DGC" doctor --has=ptxas >/dev/null
[ $? = 3 ] && { echo "no ptxas here"; exit 77; }
for bn in 192 224 256; do
    "$DGC" compile kernels_dsl/fp4_gemm.dgk --target=sm_100a,sm_103a -DTA=e2m1 -DTB=e2m1 --set=BN=$bn -o "$T/$bn.cubin" || exit 1
done
