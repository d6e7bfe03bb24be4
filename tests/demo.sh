#!/bin/sh
# make demo: from a bare Debian to a kernel compiled for every target and run on a weight matrix, checked against its spec.
set -eu
cd "$(dirname "$0")/.."
. tests/need.sh
begin=$(date +%s)
step() { printf '\n== %s\n' "$*"; }

step "build"
need gcc:gcc make:make flex:flex bison:bison python3:python3
make -s -j"$(nproc)" all
D=build/dgc
need_ptxas $PWD/$D
K=kernels_dsl/bf16_gemm.dgk
W=examples/weights.safetensors:layers.0.weight

step "$K, one source, for every target"
mkdir -p build/demo
if $D doctor --has=ptxas >/dev/null 2>&1; then
    $D compile $K --target=all -v -o build/demo/bf16_gemm.cubin
else
    echo "no ptxas here: PTX only"
    $D compile $K --target=all -o build/demo/bf16_gemm.ptx
fi
ls -l build/demo | awk 'NF > 8 { printf "%8d bytes  %s\n", $5, $9 }'

step "D = A B^T with B = $W"
devices="emu:sm_80 emu:sm_90a emu:sm_100a emu:sm_120a"
$D doctor --has=gpu >/dev/null 2>&1 && devices="cuda $devices"
worst=0
for device in $devices; do
    echo "-- $device"
    $D run $K --device $device -DOUT=f32 'A=randn(128, 512, seed=1)' B=$W 'D=zeros(128, 256)' --out D=build/demo/D.npy --check --repeat=1 || worst=1
done
printf '\n%d s in all; D lies in build/demo/D.npy. Next: dgc explain %s, dgc test %s, and kernels_dsl/01_copy.dgk to read.\n' \
    $(($(date +%s) - begin)) $K $K
exit $worst
