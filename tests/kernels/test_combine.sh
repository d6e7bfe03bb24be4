#!/bin/sh
# The parts of a sum give the same bits whether they meet in a cluster's shared memory or in global memory, whatever the tile holds.
pass=0; fail=0
k=kernels_dsl/bf16_gemm.dgk
for shape in 1,72,520 64,200,1096; do
    IFS=, read -r m n kk <<S
$shape
S
    for way in "OUT=bf16 SK=4 flip(c)=0" "OUT=f32 SK=8 flip(c)=1" "OUT=f32 SK=2 flip(c)=0"; do
        set -- $way
        sk=${2#SK=}
        for c in 1 $sk; do
            "$DGC" run $k --device=emu:sm_90a -D "$1" --set "$2" --set "$3" --set BM=64 --set BN=64 --set "cluster(s)=$c" \
                "A=randn($m, $kk)" "B=randn($n, $kk)" "D=zeros($m, $n)" --out=D=$T/D$c.npy >$T/log$c 2>&1 || cat $T/log$c
        done
        if cmp -s $T/D1.npy $T/D$sk.npy; then pass=$((pass + 1)); else fail=$((fail + 1)); echo "$shape $way: bits differ"; fi
        rm -f $T/D*.npy
    done
done

# What += adds to gives the same bits whether memory adds or registers do, in boxes all of which or some of which were read ahead.
for way in "64,200,520 OUT=bf16 BM=128" "100,256,136 OUT=f32 BM=256" "100,256,64 OUT=f32 BM=64"; do
    set -- $way
    IFS=, read -r m n kk <<S
$1
S
    for c in 0 1; do
        "$DGC" run $k --device=emu:sm_90a -D ACC=1 -D "$2" --set "$3" --set BN=128 --set "ahead(D)=$c" --set SK=1 \
            "A=randn($m, $kk)" "B=randn($n, $kk)" "D=randn($m, $n)" --out=D=$T/D$c.npy >$T/log$c 2>&1 || cat $T/log$c
    done
    if cmp -s $T/D0.npy $T/D1.npy; then pass=$((pass + 1)); else fail=$((fail + 1)); echo "$way: bits differ"; fi
    rm -f $T/D*.npy
done
echo "$pass passed, $fail failed"
[ $fail -eq 0 ]
