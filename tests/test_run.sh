# The runner of tests fails what is wrong and passes what is right.
mkdir -p "$T/tests"
cp tests/run.sh tests/need.sh "$T/tests/"
good='kernel k(in f32 X[M], out f32 Y[M]) { axis i = M by 32; grid (i); role r { Y[i] = X[i]; } }'
put() { cat > "$T/tests/$1.dgk"; }
# The exact text of an error is the front end's business; the first one it gives is taken for granted here.
put right <<X
// RUN: --emit=ptx --target=sm_80
$good // CHECK: .target sm_80
// CHECK: .entry k
// CHECK-NOT: sm_90
X
put skipped <<X
// REQUIRES: no-such-tool
// RUN: --emit=ptx
X
put wrong_check <<X
// RUN: --emit=ptx --target=sm_80
$good // CHECK: no such text
X
put wrong_order <<X
// RUN: --emit=ptx --target=sm_80
$good // CHECK: .entry k
// CHECK: .target sm_80
X
put wrong_not <<X
// RUN: --emit=ptx --target=sm_80
$good // CHECK-NOT: .target
X
put wrong_error <<X
// RUN: --emit=ptx --target=sm_80
$good // ERROR: nothing of the kind
X
put wrong_status <<X
// RUN: --emit=ptx --target=sm_80
kernel k(in f32 X[M], out f32 Y[M]) { }}
X
put wrong_option <<X
// RUN: --no-such-option
$good
X
printf 'echo fine\n' > "$T/tests/test_right.sh"
printf 'echo "no luck"; exit 77\n' > "$T/tests/test_skip.sh"
printf 'exit 4\n' > "$T/tests/test_wrong.sh"
mkdir -p "$T/build"
ln -sf "$DGC" "$T/build/dgc"
out=$(DGC_OFFLINE=1 sh "$T/tests/run.sh" build 2>&1); rc=$?
[ $rc = 1 ] || { echo "exit status $rc, 1 wanted"; echo "$out"; exit 1; }
for name in wrong_check.dgk wrong_order.dgk wrong_not.dgk wrong_error.dgk wrong_status.dgk wrong_option.dgk test_wrong.sh; do
    echo "$out" | grep -q "FAIL tests/$name" || { echo "not failed: $name"; echo "$out"; exit 1; }
done
echo "$out" | grep -q 'skip tests/skipped.dgk: no no-such-tool here' || { echo "$out"; exit 1; }
[ "$(echo "$out" | tail -1)" = "2 passed, 7 failed, 2 skipped" ] || { echo "$out"; exit 1; }
