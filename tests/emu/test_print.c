/* vprintf on the emulator, with formats as C compilers pass them: ints of 4 bytes, the rest of 8, each aligned to its size. */
#include "tests/emu/run.h"

#include <unistd.h>

/* What a body that calls vprintf(format, values) writes to stdout. */
static bool prints(const char *format, const char *stores, char *out, size_t room, struct run *r)
{
    struct buf b = { 0 };
    buf_printf(&b, ".extern .func (.param .b32 r) vprintf (.param .b64 f, .param .b64 v);\n.global .align 1 .b8 name[3] = {65, 66, 0};\n"
                   ".global .align 1 .b8 text[%d] = {", (int)strlen(format) + 1);
    for (const char *c = format; *c; c++) buf_printf(&b, "%d, ", *c);
    buf_printf(&b, "0};\n.entry k() {\n.local .align 8 .b8 at[32];\n.reg .b64 %%d<3>;\n%s\n"
                   "mov.u64 %%d1, text;\nmov.u64 %%d2, at;\ncvta.local.u64 %%d2, %%d2;\n"
                   "{ .param .b64 f; .param .b64 v; .param .b32 r;\nst.param.b64 [f], %%d1;\nst.param.b64 [v], %%d2;\ncall (r), vprintf, (f, v); }\nret;\n}\n", stores);
    FILE *file = tmpfile();
    fflush(stdout);
    int keep = dup(1);
    dup2(fileno(file), 1);
    bool ok = run_text(r, header_80, b.at);
    fflush(stdout);
    dup2(keep, 1);
    close(keep);
    rewind(file);
    out[fread(out, 1, room - 1, file)] = 0;
    fclose(file);
    buf_free(&b);
    return ok;
}

static void shows(const char *format, const char *stores, const char *want)
{
    struct run r = run_open(EMU_SM80, EMU_EARLY);
    char got[256];
    claim(prints(format, stores, got, sizeof got, &r) && !strcmp(got, want), "'%s': '%s', '%s' wanted; %s", format, got, want, r.error);
    emu_close(r.e);
}

int main(void)
{
    struct run r = run_open(EMU_SM80, EMU_EARLY);
    char got[256];
    shows("plain 100%%\n", "", "plain 100%\n");
    shows("%d|%5u|%x", "st.local.b32 [at], -7; st.local.b32 [at+4], 42; st.local.b32 [at+8], 0xffffffff;", "-7|   42|ffffffff");
    shows("%d %lld %c", "st.local.b32 [at], 1; st.local.b64 [at+8], -3; st.local.b32 [at+16], 90;", "1 -3 Z");
    shows("%.2f %g", "st.local.b64 [at], 0x3ff8000000000000; st.local.b64 [at+8], 0x7ff0000000000000;", "1.50 inf");
    shows("<%s>", "mov.u64 %d1, name; st.local.b64 [at], %d1;", "<AB>");
    claim(!prints("%n", "", got, sizeof got, &r) && strstr(r.error, "no conversion"), "%%n is refused: %s", r.error);
    claim(!prints("%s", "st.local.b64 [at], 16;", got, sizeof got, &r), "a text that is nowhere is a fault");
    emu_close(r.e);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
