# A stranger's four changes, each an edit of one place, in a copy of the tree: another tile, another epilogue, another GPU,
# another instruction. docs/porting.md and docs/design.md say where; this shows that the one place is enough.
B=$(dirname "$DGC")
N=${B#"$PWD/"} # the build folder's name is in the lists of what depends on what
mkdir -p "$T/copy/$N"
C=$(cd "$T/copy" && pwd)
cp -Rp Makefile dsl compiler codegen runtime kernels_dsl "$C/"
# what is built already is taken along, so that an edit costs what it costs the author
for f in dsl compiler codegen runtime; do cp -Rp "$B/$f" "$C/$N/"; done
cp -p "$B/dgc" "$C/$N/"
bad=0
D=$C/$N/dgc
# edit FILE SED: exactly one line changes
edit() {
    cp -p "$C/$1" "$T/before"
    sed "$2" "$T/before" > "$C/$1"
    changed=$(diff "$T/before" "$C/$1" | grep -c '^>')
    [ "$changed" = 1 ] || { echo "$1: $changed lines changed by $2"; bad=1; }
}
# says WORDS COMMAND…: succeeds, and the output has these words
says() {
    words=$1; shift
    out=$( (cd "$C" && timeout 200 "$@") 2>&1) || { echo "$*: exit status $?"; echo "$out" | tail -5; bad=1; return; }
    case $out in *"$words"*) ;; *) echo "$*: '$words' wanted in: $out"; bad=1 ;; esac
}
build() { make -s -C "$C" "B=$N" "$N/dgc" ${MAKE_EXTRA:+EXTRA="$MAKE_EXTRA"} > "$T/make" 2>&1 || { cat "$T/make"; bad=1; }; }
grep -q __asan_init "$DGC" && MAKE_EXTRA="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"

# 1. Another tile: the first value of a set is the default.
edit kernels_dsl/bf16_gemm.dgk '/on sm_90a/s/BN = {256, /BN = {96, /'
says "b[j:96, k:64]" "$D" explain --target=sm_90a kernels_dsl/bf16_gemm.dgk
says "0 failed" "$D" test kernels_dsl/bf16_gemm.dgk --target=sm_90a --device=emu --cases=1 -DOUT=bf16 -DACC=0

# 2. Another epilogue: a function that the body and the spec share. In the body alone it is found out.
edit kernels_dsl/07_gemm_bias_gelu.dgk 's/^fn gelu(x) {.*/fn gelu(x) { return max(x, 0.0); }/'
says "0 failed" "$D" test kernels_dsl/07_gemm_bias_gelu.dgk --target=sm_80,sm_90a,sm_100a --device=emu --cases=1
edit kernels_dsl/07_gemm_bias_gelu.dgk 's/OUT(gelu(c\[i, j\] + BIAS\[j\]))/OUT(c[i, j] + BIAS[j])/'
(cd "$C" && timeout 200 "$D" test kernels_dsl/07_gemm_bias_gelu.dgk --target=sm_80 --device=emu --cases=1) > "$T/out" 2>&1
[ $? = 1 ] || { echo "an epilogue unlike its spec passes"; cat "$T/out"; bad=1; }

# 3. Another GPU: a row of the target table.
row='TARGET(sm_86, "sm_80", sm_86, "8.0", AMPERE, 101376, 84, 512, 1700, 936, "RTX 3090, A40")'
edit codegen/targets.def "/^TARGET(sm_80,/a\\
$row"
build
says "sm_86" "$D" targets
says ".target sm_86" "$D" compile --target=sm_86 kernels_dsl/bf16_gemm.dgk
says "0 failed" "$D" test kernels_dsl/bf16_gemm.dgk --target=sm_86 --device=emu --cases=1 -DOUT=bf16 -DACC=0
"$DGC" doctor --has=ptxas >/dev/null && says "" "$D" compile --target=sm_86 kernels_dsl/bf16_gemm.dgk -o "$C/k.cubin"

# 4. Another instruction: declared where it is used, unknown to the compiler.
cat > "$C/kernels_dsl/fast.dgk" <<X
intrinsic f32 fast_tanh(f32 x) = "tanh.approx.f32 %0, %1;";
kernel fast(in f32 X[M], out f32 Y[M])
{
    spec Y[i] = tanh(X[i]) tol 1e-3;
    axis i = M by 256;
    grid (i);
    role work { Y[i] = fast_tanh(X[i]); }
}
X
says "tanh.approx.f32" "$D" compile kernels_dsl/fast.dgk
says "0 failed" "$D" test kernels_dsl/fast.dgk --target=sm_90a --device=emu --cases=2
exit $bad
