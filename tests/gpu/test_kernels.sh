# Every kernel does what its spec says on the GPU of this machine.
"$DGC" doctor --has=gpu >/dev/null
[ $? = 3 ] && { echo "no GPU here"; exit 77; }
bad=
for k in kernels_dsl/*.dgk; do
    grep -q '^kernel' "$k" || continue
    timeout 120 "$DGC" test "$k" --device cuda --target all --cases 2 --seconds 20 || bad="$bad $k"
done
[ -z "$bad" ] || { echo "wrong:$bad"; exit 1; }
