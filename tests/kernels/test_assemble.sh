# Every kernel, with its default parameters and with each other choice of one of them, compiles for every target; ptxas
# accepts its PTX, keeps everything in registers and serialises no tensor-core instruction (else dgc compile fails).
"$DGC" doctor --has=ptxas >/dev/null
[ $? = 3 ] && { echo "no ptxas here"; exit 77; }

# "FILE KERNEL [PARAMETER=CHOICE]" for each: the first choice of every parameter is the default.
cases() {
    awk '
    FNR == 1 { text = "" }
    /^kernel / { text = $0; open = 1 }
    open && !/^kernel / { text = text $0 }
    open && /\(/ {
        open = 0; name = text; sub(/^kernel +/, "", name); sub(/[<( ].*/, "", name); print FILENAME, name
        if (!match(text, /^kernel +[A-Za-z_0-9]+ *<[^>]*>/)) next
        list = substr(text, RSTART, RLENGTH); sub(/^[^<]*</, "", list); sub(/>$/, "", list)
        n = split(list, one, /,/)
        for (i = 1; i <= n; i++) {
            split(one[i], side, /=/); gsub(/ /, "", side[1]); m = split(side[2], choice, /\|/)
            for (k = 2; k <= m; k++) { gsub(/ /, "", choice[k]); print FILENAME, name, side[1] "=" choice[k] }
        }
    }' kernels_dsl/*.dgk
}

# one FILE KERNEL [PARAMETER=CHOICE] : nothing when all is well
one() {
    case $2 in # sizes that these kernels must know
    tf32_hc_prenorm_gemm) sizes="-DN=24" ;;
    mqa_logits | mqa_logits_fp4) sizes="-DH=64 -DC=128" ;;
    paged_mqa_logits | paged_mqa_logits_varlen) sizes="-DH=64 -DC=128 -DPS=64" ;;
    paged_attention) sizes="-DG=8 -DD=128 -DPS=64" ;;
    *) sizes= ;;
    esac
    # shellcheck disable=SC2086
    timeout 120 "$DGC" compile "$1" --kernel="$2" $sizes ${3:+-D$3} --target=all -v -o "$T/$2$3.cubin" >"$T/$2$3.log" 2>&1 &&
        ! grep -q ', [1-9][0-9]* bytes of stack' "$T/$2$3.log" && return
    echo "wrong: $1 $2 $3"
    grep -E 'error|, [1-9][0-9]* bytes of stack' "$T/$2$3.log" | sort | uniq -c | head -6
}

# Two at a time: most of the time is ptxas'.
cases >"$T/cases"
half() { awk -v part="$1" 'NR % 2 == part' "$T/cases" | while read -r file kernel choice; do one "$file" "$kernel" "$choice"; done >"$T/said$1"; }
half 0 &
half 1
wait
cat "$T/said0" "$T/said1"
[ "$(wc -l <"$T/cases")" -gt 60 ] && ! [ -s "$T/said0" ] && ! [ -s "$T/said1" ]
