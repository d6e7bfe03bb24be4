# dgc tune and dgc bench on the emulator, whose clock counts steps: the same numbers every time.
G=kernels_dsl/bf16_gemm.dgk
SHAPE="--device emu:sm_90a --shape M=64,N=128,K=128"
DGC_TUNE_DB=$T/db; export DGC_TUNE_DB
unset DGC_TUNE
bad=0
# expect STATUS WORDS COMMAND…: exit status, and words on stdout
expect() {
    status=$1 words=$2; shift 2
    out=$(timeout 100 "$DGC" "$@" 2>"$T/err"); rc=$?
    [ $rc = "$status" ] || { echo "dgc $*: exit status $rc, $status wanted: $out $(cat "$T/err")"; bad=1; }
    case "$out $(cat "$T/err")" in *"$words"*) ;; *) echo "dgc $*: '$words' wanted in: $out $(cat "$T/err")"; bad=1 ;; esac
}
fail() { echo "$*"; bad=1; }

# What is wrong with a command line.
expect 2 "does not say how large K is" bench $G --device emu --shape M=64,N=128
expect 2 "bf16_gemm has no dimension 'k'; it has M, K, N" bench $G --device emu --shape M=64,N=128,k=128
expect 2 "a size is wanted" bench $G --device emu --shape M=64,N=128,K=many
expect 2 "NAME=SIZE" bench $G --device emu --shape 64,128,128
expect 2 "I/N is wanted" tune $G $SHAPE --shard 2/2
expect 2 "seconds are wanted" tune $G $SHAPE --budget soon
expect 2 "needs folders" tune merge
expect 2 "cannot read the folder" tune merge "$T/nothing"
expect 1 "cannot read" bench $G --device emu --shapes "$T/nothing"

# Untuned: the model's choice. Tuned: what was measured, until it is switched off; what the command line sets, always.
expect 0 "(model)" bench $G $SHAPE
expect 0 "<- kept" tune $G $SHAPE --candidates 5
expect 0 "(tuned)" bench $G $SHAPE
tuned=$(echo "$out" | sed -n 's/.*  \(BM=.*\) (tuned)/\1/p')
DGC_TUNE=off; export DGC_TUNE
expect 0 "(model)" bench $G $SHAPE
unset DGC_TUNE
expect 0 "BM=128;BN=64" bench $G $SHAPE --set BM=128 --set BN=64
expect 0 "(model)" bench $G --device emu:sm_90a --shape M=64,N=128,K=64
expect 0 "as the spec says" run $G --device emu:sm_90a --check -v A='randn(64, 128)' B='randn(128, 128, seed=1)' D='zeros(64, 128)'
expect 0 "$(echo "$tuned" | sed 's/;.*//')" run $G --device emu:sm_90a -v A='randn(64, 128)' B='randn(128, 128, seed=1)' D='zeros(64, 128)'

# Again: what is known is not measured anew, and no slower variant is kept.
expect 0 "known before" tune $G $SHAPE --candidates 5
case $out in *" 0 known before"*) fail "nothing was remembered: $out" ;; esac
first=$(echo "$out" | sed -n 's/ *\([0-9.]*\) .*<- kept.*/\1/p')
expect 0 " 0 known before" tune $G $SHAPE --candidates 5 --again

# Explain: which variant a call gets and why, without a device or with one, and what was measured on it.
EXPLAIN="explain $G --target sm_90a --shape M=4096,N=4096,K=7168"
expect 0 "call bf16_gemm M=4096 K=7168 N=4096 for sm_90a" $EXPLAIN
for words in "BM=128;BN=256;BK=64;SK=1;math.warpgroups=2;cluster(s)=1 (model)" "us: 512 tasks in 4 rounds" "of one task: mma " ", combine 0" "next " "BM = 128, BN = 256"; do
    case $out in *"$words"*) ;; *) fail "explain: '$words' wanted in: $out" ;; esac
done
[ "$(echo "$out" | grep -c ' us: BM=')" = 5 ] || fail "five more candidates wanted: $out"
expect 0 "(tuned)" explain $G --target sm_90a $SHAPE
case $out in *"on emulated sm_90a"*"checked: the best in "*) ;; *) fail "explain knows nothing of what was measured: $out" ;; esac
expect 0 "measured   nothing" explain $G --target sm_90a --device emu:sm_90a --shape M=64,N=128,K=64
expect 0 "on a board of sm_90a with 114 multiprocessors, which is not here" explain $G --target sm_90a --device board:sm_90a,sms=114 --shape M=64,N=128,K=64
expect 0 "on a board of sm_90a with 132 multiprocessors, which is not here" explain $G --target sm_90a --device emu:sm_80 --shape M=64,N=128,K=64
expect 0 "one variant is for every size" explain kernels_dsl/01_copy.dgk --target sm_80 --device emu:sm_80 --shape M=64,N=128
expect 2 "has no dimension 'Q'" $EXPLAIN,Q=1

# Several shapes from a file; every number as JSON.
printf '# small ones\nM=64, N=64 K=64\n\nM=8 N=16 K=64   # ragged\n' > "$T/shapes"
expect 0 "M=8 K=64 N=16" bench $G --device emu:sm_90a --shapes "$T/shapes"
expect 0 "" tune kernels_dsl/01_copy.dgk --device emu:sm_90a --shape M=32,N=32 --json="$T/tune.json"
expect 0 "" bench $G --device emu:sm_90a --shapes "$T/shapes" --json="$T/bench.json"
if command -v python3 >/dev/null; then
    python3 -c '
import json, sys
b, t = (json.load(open(p)) for p in sys.argv[1:])
assert [r["shape"]["M"] for r in b["rows"]] == [64, 8] and all(r["us"] > 0 and r["values"]["BM"] for r in b["rows"]), b
assert t["shapes"][0]["rows"][0]["state"] == "checked" and t["shapes"][0]["rows"][0]["untuned"], t
' "$T/bench.json" "$T/tune.json" || fail "the JSON is not what it should be"
fi

# Two shards see different candidates; merged, the better of both is found. The numbers are the same on any machine.
for i in 0 1; do
    DGC_TUNE_DB=$T/part$i
    expect 0 "" tune $G $SHAPE --candidates 8 --shard $i/2
done
DGC_TUNE_DB=$T/whole
expect 0 "added" tune merge "$T/part0" "$T/part1"
expect 0 '"from": "tuned"' bench $G $SHAPE --json
best=$(cat $(find "$T/part0" "$T/part1" -name '*.tune' | xargs grep -l '^state checked') | sed -n 's/^us //p' | sort -n | head -1)
case $out in *"\"us\": $best"*) ;; *) fail "the best of two shards took $best, merged: $out" ;; esac
DGC_TUNE_DB=$T/db

# A kernel whose givens make its inputs, scalars among them; one that must know its sizes.
expect 0 "PITCH=64" bench kernels_dsl/m_grouped.dgk -D LAYOUT=masked --device emu:sm_90a --shape R=128,K=128,Z=2,RZ=64,G=2,N=128,X=2,PITCH=64
expect 0 "T=128" bench kernels_dsl/10_attention.dgk --device emu:sm_90a --shape M=64,T=128

# Words are tried, though the model does not tell them apart, and come back from the database.
C="tests/codegen/cache_threads.dgk --kernel rows --device emu:sm_90a --shape M=64,N=128"
expect 0 "cache(X)=normal;cache(Y)=keep" tune $C
expect 0 "cache(X)=" bench $C

# A damaged database is no obstacle.
find "$T/db" -name '*.tune' | while read -r f; do echo x >> "$f"; done
expect 0 "(model)" bench $G $SHAPE
expect 1 "damaged" tune merge "$T/db"
exit $bad
