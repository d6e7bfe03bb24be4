# The command line: exit statuses, help, spelling, where results go, and what is said when something is wrong.
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
expect 1 "bf16_gemm requires K % 8 == 0 && N % 8 == 0; here K = 63, N = 8" run $G A='ones(8, 63)' B='ones(8, 63)' D='zeros(8, 8)'
expect 1 "cannot write" run $K X='ones(4, 4)' Y=/no/such/folder/y.npy
expect 0 "Y: f32 [4, 4], 1 to 1" run $K X='ones(4, 4)'

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

# One file a target; nothing is left half written.
expect 0 "" compile $K --target=sm_80,sm_90a -o "$T/k.ptx"
[ -s "$T/k.sm_80.ptx" ] && [ -s "$T/k.sm_90a.ptx" ] || { echo "no file a target: $(ls "$T")"; bad=1; }
expect 1 "cannot write" compile $K -o /no/such/folder/k.ptx
expect 0 "" compile $K --save-temps="$T/temps"
[ -s "$T/temps/copy.sm_90a.ptx" ] && [ -s "$T/temps/copy.sm_90a.ir" ] || { echo "no temps: $(ls "$T/temps")"; bad=1; }
[ -z "$(find "$T" -mindepth 1 -name '*.tmp*')" ] || { echo "left behind: $(find "$T" -mindepth 1 -name '*.tmp*')"; bad=1; }
exit $bad
