# The command line: exit statuses, help, spelling, where results go, and what is said when something is wrong.
ASAN_OPTIONS=allocator_may_return_null=1; export ASAN_OPTIONS
K=kernels_dsl/01_copy.dgk
G=kernels_dsl/bf16_gemm.dgk
bad=0
# expect STATUS WORDS COMMAND…: exit status, and words on either stream
expect() {
    status=$1 words=$2; shift 2
    out=$(timeout 60 "$DGC" "$@" 2>&1); rc=$?
    [ $rc = "$status" ] || { echo "dgc $*: exit status $rc, $status wanted: $out"; bad=1; }
    case $out in *"$words"*) ;; *) echo "dgc $*: '$words' wanted in: $out"; bad=1 ;; esac
}
expect 0 "usage: dgc VERB"
expect 0 "--target" compile --help
expect 0 "dgc 0." --version
expect 0 "dgc 0." compile --version
expect 2 "did you mean 'compile'?" complie
expect 2 "did you mean --target?" compile --targt=sm_80 $K
expect 2 "takes no --device" compile --device=emu $K
expect 2 "--target needs a value" compile $K --target
expect 2 "takes no value" compile -v --verbose=yes $K
expect 2 "did you mean 'sm_90a'?" compile --target=sm_90b $K
expect 2 "did you mean 'tokens'?" compile --emit=token $K
expect 2 "one file at a time" compile $K $G
expect 2 "needs a file" run
expect 2 "NAME=VALUE" compile -D OUT $K
expect 2 "cubin" compile --emit=cubin $K
expect 1 "cannot read" compile nothing.dgk
expect 1 "has no kernel 'kopy'" compile --kernel=kopy $K
expect 0 ".target sm_80" compile --target=sm_80 $K
expect 0 ".target sm_120f" compile -arch=sm_121a $K
expect 0 ".entry other(" compile --symbol=other $K
expect 0 "import" compile --emit=tokens $G
expect 0 "kernel" compile --emit=ast $K
expect 0 "codegen" compile --time-passes $K
expect 0 "kernel copy on sm_100a" explain --target=sm_100a $K
expect 0 "sm_103a" targets
expect 0 "emulated" doctor
expect 2 "is no device" run $K --device=gpu X=x.npy
expect 3 "there is no emulated" run $K --device=emu:sm_70 X=x.npy
expect 2 "is no option of the emulator" run $K --device=emu:sm_80,slow X=x.npy
expect 1 "argument 'X' (f32) is missing" run $K
expect 1 "has no argument 'Z'" run $K X='zeros(4, 4)' Z=1
expect 1 "cannot read 'no.npy'" run $K X=no.npy
expect 1 "argument 'X' is i32; the kernel takes f32" run $K X='zeros(4, 4):i32'
expect 1 "argument 'X' has 1 dimensions, [4]; the kernel takes 2" run $K X='zeros(4)'
expect 1 "argument 'B': dimension 1 is 72; K is 64 by argument 'A'" run $G A='ones(8, 64)' B='ones(8, 72)' D='zeros(8, 8)'
expect 1 "bf16_gemm requires N % 8 == 0; here N = 7" run $G A='ones(8, 64)' B='ones(7, 64)' D='zeros(8, 7)'
expect 0 "D: 64 elements, distance" run $G A='ones(8, 63)' B='ones(8, 63)' D='zeros(8, 8)' --align=A=2 --align=B=2 --check
expect 1 "cannot write" run $K X='ones(4, 4)' Y=/no/such/folder/y.npy
expect 0 "Y: f32 [4, 4], 1 to 1" run $K X='ones(4, 4)'

# What a command line gets wrong, before anything is done.
expect 2 "is given twice" run $K X='ones(4, 4)' X='ones(4, 4)'
expect 2 "a whole number" compile --inner=A=x $G
expect 2 "a whole number is wanted" test $K --cases=abc
expect 2 "a whole number is wanted" test $K --cases=-1
expect 2 "at least 1" test $K --cases=0
expect 2 "a whole number is wanted" test $K --seed=x
expect 2 "a whole number" test $K --shape=M=-4
expect 2 "at least 1" run $K X='ones(4, 4)' --repeat=0
expect 2 "auto, always or never" compile $K --color=sometimes
expect 2 "a name of letters" compile $K --symbol='a b'
expect 2 "takes no 'x'" targets x
expect 2 "ptxas or gpu" doctor --has=luck
expect 2 "results go to" run $K X='ones(4, 4)' Y='ones(4, 5)'
expect 2 "'-4' is no size" run $K X='randn(-4, 4)'
expect 1 "no memory for a tensor" run $K X='zeros(99999999, 99999999)'
expect 1 "'OUT' cannot be f99" compile $G -DOUT=f99
expect 1 "no parameter or dimension 'NOPE'" compile $G -DNOPE=1
expect 1 "no tune value 'NOPE'" compile $G --set=NOPE=1
expect 1 "'BM' cannot be 'banana'" compile $G --set=BM=banana
expect 1 "'BM' cannot be 7; for sm_90a its set is {128, 64, 256, 16, 32}" compile $G --set=BM=7
expect 1 "'math.warpgroups' cannot be 9; for sm_90a its set is {2, 1}" compile $G --set=math.warpgroups=9
expect 1 "'cache(B)' cannot be often; for sm_90a its set is {normal, stream}" compile $G '--set=cache(B)=often'
expect 0 "ntid 384" compile $G --set=math.warpgroups=2
expect 1 "'BM' cannot be 7" test $G --target=sm_80 --device=ir --set=BM=7
expect 2 "has no dimension 'Q'; it has M, K, N" test $G --shape=Q=7
expect 1 "has no tensor 'Q'" compile $G --inner=Q=1
expect 1 "dimension 7 of 'A' cannot" compile $G --inner=A=7
expect 1 "has no tensor 'Q'" compile $G --align=Q=4
expect 1 "'A' cannot be aligned to 3 bytes; 1, 2, 4, 8 and 16 are possible" compile $G --align=A=3
expect 0 "alignment of 'A': 4 bytes and no more" explain $G --target=sm_90a --align=A=4
expect 0 "alignment of 'A': 2 bytes and no more" explain $G --target=sm_90a --align=A=1
expect 0 "cache(KV)=stream" test kernels_dsl/paged_mqa_logits.dgk --kernel=paged_mqa_logits --target=sm_90a --device=ir --cases=1 '--set=cache(KV)=stream'
expect 0 "align(A)=1" test $G --target=sm_80 --device=ir --cases=1 --align=A=1

# Files that are not what they should be.
: > "$T/empty.dgk"; head -c 3000 "$DGC" > "$T/noise.dgk"; printf 'kernel k(in f32 X[M], out f32 Y[M]) { axis i' > "$T/cut.dgk"
expect 1 "has no kernel" compile "$T/empty.dgk"
expect 1 "is no part of the language" compile "$T/noise.dgk"
expect 1 "the end of the file" compile "$T/cut.dgk"
expect 1 "Is a directory" compile "$T"
: > "$T/empty.npy"; printf '\223NUMPY\001\000v\000{' > "$T/cut.npy"
printf '\010\000\000\000\000\000\000\000{"a":1}}' > "$T/bad.safetensors"
# npy NAME TYPE SHAPE BYTES
npy() { { printf '\223NUMPY\001\000\166\000%-117s\n' "{'descr': '$2', 'fortran_order': False, 'shape': $3, }"; head -c "$4" /dev/zero; } > "$T/$1.npy"; }
npy complex '<c8' '(2, 2)' 32
npy short '<f4' '(4, 8)' 100
npy big '>f4' '(4, 8)' 128
npy negative '<f4' '(-4, 8)' 128
npy huge '<f4' '(1099511627776, 1099511627776)' 128
npy fine '<f4' '(4, 8)' 128
expect 0 "Y: f32 [4, 8]" run $K X="$T/fine.npy"
expect 1 "is no .npy file" run $K X="$T/empty.npy"
expect 1 "ends inside its header" run $K X="$T/cut.npy"
expect 1 "no counterpart" run $K X="$T/complex.npy"
expect 1 "need 128" run $K X="$T/short.npy"
expect 1 "big-endian" run $K X="$T/big.npy"
expect 1 "malformed header" run $K X="$T/negative.npy"
expect 1 "overflows" run $K X="$T/huge.npy"
expect 1 "malformed header" run $K X="$T/bad.safetensors:a"

# What the machine lacks: status 3, and nothing written.
expect 3 "is no ptxas that runs" compile $K --ptxas=/nonexistent -o "$T/none.cubin"
expect 3 "is no ptxas that runs" compile $K --ptxas=/bin/true -o "$T/none.cubin"
[ ! -e "$T/none.cubin" ] || { echo "a cubin without an assembler"; bad=1; }
"$DGC" doctor --has=gpu > /dev/null || expect 3 "cuda" run $K X='ones(4, 4)' --device=cuda:7

# After an error, what was there is still there; what is no file stays what it is.
echo before > "$T/kept.ptx"
expect 1 "" compile "$T/cut.dgk" -o "$T/kept.ptx"
[ "$(cat "$T/kept.ptx")" = before ] || { echo "kept.ptx was written in spite of an error"; bad=1; }
ln -sf /dev/null "$T/null"; ln -sf /dev/full "$T/full"
expect 0 "" compile $K -o "$T/null"
[ -c "$T/null" ] || { echo "/dev/null would be replaced by a file"; bad=1; }
if [ -c /dev/full ]; then
    expect 1 "cannot write" compile $K -o "$T/full"
    "$DGC" compile $K > /dev/full 2> "$T/err"; [ $? = 1 ] || { echo "a full disk under stdout is no error: $(cat "$T/err")"; bad=1; }
fi

# dgc's own time from text to PTX, the assembler not counted; the best of some runs, as others share the machine.
if ! grep -q __asan_init "$DGC"; then
    best=$(for i in 1 2 3 4 5 6 7 8; do
        "$DGC" compile $G --time-passes -o "$T/timed.ptx" 2>&1 | awk '/ ms$/ { s += $2 } END { print s }'; done | sort -n | head -1)
    [ -n "$best" ] && awk "BEGIN { exit !($best > 0 && $best < 10) }" || { echo "text to PTX takes $best ms, less than 10 wanted"; bad=1; }
fi

# Results in files, from one run into the next; two emulated chips agree.
expect 0 "as the spec says" run $G --device emu:sm_80 A='randn(40, 64)' B='randn(24, 64, seed=1)' D='zeros(40, 24)' -DOUT=f32 --out D="$T/d.npy" --check
expect 0 "" run $G --device emu:sm_120a A='randn(40, 64)' B='randn(24, 64, seed=1)' D="$T/d.npy" -DOUT=f32
expect 0 "" run $K X="$T/d.npy" Y="$T/y.safetensors:part.one"
expect 0 "Y: f32 [40, 24]" run $K X="$T/y.safetensors:part.one"
expect 1 "has no tensor 'part.two'; it has part.one" run $K X="$T/y.safetensors:part.two"

# An inout file that is not there begins as zeros; one that is, is updated in place.
for acc in 0 1; do
    expect 0 "as the spec says" run $G --check -D ACC=$acc "A=rand(16,64):bf16" "B=rand(8,64):bf16" D="$T/inout.npy"
    [ -s "$T/inout.npy" ] || { echo "no inout.npy"; bad=1; }
done

# One file a target; nothing is left half written. "-" is stdout, for every kernel and target.
expect 0 ".entry " compile kernels_dsl/scales.dgk --kernel=all -o - --target=sm_90a,sm_100a
[ "$(echo "$out" | grep -c '\.entry')" -ge 4 ] && [ -z "$(ls | grep '^-')" ] || { echo "not all on stdout"; bad=1; }
expect 2 "cubins need a place" compile kernels_dsl/m_grouped.dgk --kernel=all --emit=cubin -o -
expect 0 "" compile $K --target=sm_80,sm_90a -o "$T/k.ptx"
[ -s "$T/k.sm_80.ptx" ] && [ -s "$T/k.sm_90a.ptx" ] || { echo "no file a target: $(ls "$T")"; bad=1; }
expect 1 "cannot write" compile $K -o /no/such/folder/k.ptx
expect 0 "" compile $K --save-temps="$T/temps"
[ -s "$T/temps/copy.sm_90a.ptx" ] && [ -s "$T/temps/copy.sm_90a.ir" ] || { echo "no temps: $(ls "$T/temps")"; bad=1; }
[ -z "$(find "$T" -mindepth 1 -name '*.tmp*')" ] || { echo "left behind: $(find "$T" -mindepth 1 -name '*.tmp*')"; bad=1; }
exit $bad
