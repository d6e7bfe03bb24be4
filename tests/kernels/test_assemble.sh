# Every kernel compiles for every target, and ptxas accepts its PTX. What spills is named, and no failure.
"$DGC" doctor --has=ptxas >/dev/null
[ $? = 3 ] && { echo "no ptxas here"; exit 77; }
bad=0
for k in kernels_dsl/*.dgk; do
    grep -q '^kernel' "$k" || continue
    for name in $(sed -n 's/^kernel  *\([A-Za-z_0-9]*\).*/\1/p' "$k"); do
        case $name in # sizes that these kernels must know
        tf32_hc_prenorm_gemm) sizes="-DN=24" ;;
        mqa_logits | mqa_logits_fp4) sizes="-DH=64 -DC=128" ;;
        paged_mqa_logits) sizes="-DH=64 -DC=128 -DPS=64" ;;
        paged_attention) sizes="-DG=8 -DD=128 -DPS=64" ;;
        *) sizes= ;;
        esac
        # shellcheck disable=SC2086
        out=$(timeout 120 "$DGC" compile "$k" --kernel="$name" $sizes --target=all -o "$T/k.cubin" 2>&1) && continue
        # shellcheck disable=SC2086
        if timeout 120 "$DGC" compile "$k" --kernel="$name" $sizes --target=all --allow-spills -o "$T/k.cubin" >/dev/null 2>&1; then
            echo "spills: $k $name:$(echo "$out" | sed -n 's/.*error: .* \(sm_[0-9a-f]*\): the assembler spilled.*/ \1/p' | tr -d '\n')"
        else
            echo "wrong: $k $name"
            echo "$out" | grep -E 'error' | sort | uniq -c | head -6
            bad=1
        fi
    done
done
exit $bad
