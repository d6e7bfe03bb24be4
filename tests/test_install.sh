# make install under DESTDIR: a C program finds the library by pkg-config's file, and dgc runs the kernels that came with it.
grep -q __asan_init "$DGC" && { echo "a library with a sanitizer is not installed"; exit 77; }
X=$(mkdir -p "$T/x" && cd "$T/x" && pwd)
mkdir -p "$T/built" && cp -Rp Makefile dsl compiler codegen runtime kernels_dsl "$T/built/"
B=$(dirname "$DGC")
for f in dsl compiler codegen runtime dgc libdgk.a libdgk.so; do mkdir -p "$T/built/build"; cp -Rp "$B/$f" "$T/built/build/"; done
make -s -C "$T/built" install DESTDIR="$X" PREFIX=/opt/dgc > "$T/log" 2>&1 || { cat "$T/log"; exit 1; }
P=$X/opt/dgc
cat > "$T/k.c" <<'E2'
#include <dgk.h>
#include <stdio.h>
int main(void)
{
    dgk_context *c;
    if (dgk_open(&c, "emu:sm_90a")) return puts(dgk_error()), 1;
    dgk_close(c);
    return 0;
}
E2
flags=$(sed -n "s|\${prefix}|$P|g; s/^Cflags: //p; s/^Libs: //p" "$P/lib/pkgconfig/dgk.pc")
# shellcheck disable=SC2086
cc "$T/k.c" $flags -o "$T/k" && LD_LIBRARY_PATH=$P/lib "$T/k" || { echo "a program cannot use the installed library: $flags"; exit 1; }
"$P/bin/dgc" test "$P/share/dgc/kernels_dsl/bf16_gemm.dgk" --target=sm_90a --device=emu --cases=1 -DACC=0 -DOUT=bf16
