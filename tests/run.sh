#!/bin/sh
# Runs every test and ends with "N passed, N failed, N skipped".  tests/run.sh [build folder] [words: tests whose name has one of them]
#
# tests/**/test_*.c    a program that prints "N passed, M failed"; "skipped: NAME (why)" lines are counted; exit 77 skips it whole
# tests/**/test_*.sh   a script, run with $DGC and a scratch folder $T; "skipped: " as above; exit 77 skips, its last line says why
# tests/**/*.dgk       one claim in a file, in its comments:
#     RUN: args        dgc's arguments; without a verb, "compile". The file's name comes after the verb. More lines, more runs.
#     CHECK: text      in this order in the output       CHECK-NOT: text   nowhere in it
#     ERROR: text      an error on this very line, saying this; any other error fails the test
#     REQUIRES: word   ptxas, gpu, python3: skipped where it is missing
#     NAME.expect      beside NAME.dgk: the whole output, exactly
set -u
cd "$(dirname "$0")/.." || exit 3
B=${1:-build}
DGC=$B/dgc; [ -x "$DGC" ] || DGC=$PWD/$B/dgc
case $DGC in /*) ;; *) DGC=$PWD/$DGC ;; esac
export DGC NO_COLOR=1 LC_ALL=C

# has WORD: can this machine do it?
has() {
    case $1 in
    ptxas) "$DGC" doctor --has=ptxas >/dev/null 2>&1 ;;
    gpu) "$DGC" doctor --has=gpu >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# The checks of one .dgk: its source, then the output of its runs. Prints what is wrong, nothing when all is well.
check() {
    awk -v path="$1" '
    function trim(s) { sub(/^[ \t]+/, "", s); sub(/[ \t\r]+$/, "", s); return s }
    function wants(line, key,   at, rest, cut) {     # "… // KEY: text // …" -> text
        at = index(line, "// " key ":"); if (!at) return ""
        rest = substr(line, at + length(key) + 4); cut = index(rest, "//")
        if (cut) rest = substr(rest, 1, cut - 1)
        return trim(rest)
    }
    FNR == NR {
        if ((w = wants($0, "CHECK")) != "") { check[++checks] = w; check_line[checks] = FNR }
        if ((w = wants($0, "CHECK-NOT")) != "") { never[++nevers] = w; never_line[nevers] = FNR }
        if ((w = wants($0, "ERROR")) != "") { error[FNR] = w; errors++ }
        next
    }
    {
        for (i = 1; i <= nevers; i++) if (index($0, never[i])) print path ":" never_line[i] ": found, though it must not be: " $0
        from = $0
        while (at < checks && (p = index(from, check[at + 1]))) { at++; from = substr(from, p + length(check[at])) }
        if (match($0, /:[0-9]+:[0-9]+: error: /) || $0 ~ /^dgc: error: /) {
            split(substr($0, RSTART + 1), part, ":"); line = part[1] + 0
            if (index($0, path ":") == 1 && (line in error) && index($0, error[line])) met[line] = 1
            else print "unexpected: " $0
        }
    }
    END {
        if (at < checks) print path ":" check_line[at + 1] ": not found in the output after the checks above: " check[at + 1]
        for (line in error) if (!(line in met)) print path ":" line ": no such error here: " error[line]
    }' "$1" "$2"
}

# one TEST: runs it and writes "passed failed skipped" and what to show into $R.
one() {
    name=$1; safe=$(printf %s "$name" | tr / _); out=$R/$safe.out; T=$R/$safe.tmp; export T
    verdict() { echo "$1" > "$R/$safe.count"; }
    say() { echo "$@" >> "$R/$safe.say"; }
    case $name in
    *.c)
        exe=$B/${name%.c}
        [ -x "$exe" ] || { verdict "0 1 0"; say "FAIL $name: does not build"; return; }
        timeout 600 "$exe" > "$out" 2>&1 < /dev/null; rc=$?
        skips=$(grep -c '^skipped: ' "$out"); grep '^skipped: ' "$out" | sed 's/^skipped: /skip /' >> "$R/$safe.say"
        if [ $rc = 77 ]; then
            [ "$skips" = 0 ] && { skips=1; say "skip $name"; }
            verdict "0 0 $skips"; return
        fi
        set -- $(sed -n 's/.*\([^0-9]\|^\)\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed.*/\2 \3/p' "$out" | tail -1)
        if [ $# != 2 ]; then set -- 0 1; say "FAIL $name: no closing line, exit status $rc"; tail -20 "$out" >> "$R/$safe.say"
        elif [ $rc != 0 ] || [ "$2" != 0 ]; then
            [ "$2" = 0 ] && set -- "$1" 1
            say "FAIL $name: exit status $rc"; tail -30 "$out" >> "$R/$safe.say"
        fi
        verdict "$1 $2 $skips" ;;
    *.sh)
        mkdir -p "$T"
        timeout 600 sh "$name" > "$out" 2>&1 < /dev/null; rc=$?
        skips=$(grep -c '^skipped: ' "$out"); grep '^skipped: ' "$out" | sed 's/^skipped: /skip /' >> "$R/$safe.say"
        case $rc in
        0) verdict "1 0 $skips" ;;
        77) verdict "0 0 1"; say "skip $name: $(tail -1 "$out")" ;;
        *) verdict "0 1 0"; say "FAIL $name: exit status $rc"; tail -30 "$out" >> "$R/$safe.say" ;;
        esac ;;
    *.dgk)
        for need in $(sed -n 's|.*// REQUIRES: *||p' "$name"); do
            has "$need" || { verdict "0 0 1"; say "skip $name: no $need here"; return; }
        done
        : > "$out"; bad=
        sed -n 's|^.*// RUN: *||p' "$name" > "$out.runs"
        while IFS= read -r args; do
            case $args in -*|'') verb=compile ;; *) verb=${args%% *}; args=${args#"$verb"} ;; esac
            eval "timeout 120 \"\$DGC\" $verb \"\$name\" $args" >> "$out" 2>&1 < /dev/null; rc=$?
            if grep -q '// ERROR:' "$name"; then [ $rc = 1 ] || bad="$bad exit status $rc, 1 wanted;"
            else [ $rc = 0 ] || bad="$bad exit status $rc;"; fi
        done < "$out.runs"
        wrong=$(check "$name" "$out")
        golden=${name%.dgk}.expect
        if [ -f "$golden" ] && ! cmp -s "$golden" "$out"; then wrong="$wrong
$(diff "$golden" "$out" | head -20)"; fi
        if [ -n "$bad$wrong" ]; then
            verdict "0 1 0"; say "FAIL $name:$bad"; [ -n "$wrong" ] && say "$wrong"
            [ -n "$bad" ] && tail -12 "$out" >> "$R/$safe.say"
        else verdict "1 0 0"; fi ;;
    esac
}

if [ "${1:-}" = --one ]; then B=$2; R=$3; DGC=$DGC_ABS; export DGC; one "$4"; exit 0; fi

R=$B/results; rm -rf "$R"; mkdir -p "$R"
[ $# -gt 0 ] && shift
. tests/need.sh
need_ptxas "$DGC"
need_python
{ find tests -name 'test_*.c'; find tests -name 'test_*.sh'
  find tests -name '*.dgk' | xargs -r grep -l '// RUN:' /dev/null; } | sort > "$R/list"
if [ $# -gt 0 ]; then
    for word; do grep -F -- "$word" "$R/list"; done | sort -u > "$R/some"
    mv "$R/some" "$R/list"
fi
DGC_ABS=$DGC xargs -r -P "$(nproc 2>/dev/null || echo 2)" -n 1 sh tests/run.sh --one "$B" "$R" < "$R/list"

cat "$R"/*.say 2>/dev/null
cat "$R"/*.count 2>/dev/null | awk -v tests="$(wc -l < "$R/list")" '
    { p += $1; f += $2; s += $3 }
    END { if (NR != tests) f += tests - NR; printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 }'
