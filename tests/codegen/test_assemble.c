/* The assembler is found by release, its report is read, a spill and a serialised wgmma are told apart from clean code, a
 * hanging one is stopped, and a machine without one is told what to install. */
#include "codegen/assemble.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int passed, failed;

static void check(bool ok, const char *what)
{
    if (!ok) printf("FAILED: %s\n", what);
    ok ? passed++ : failed++;
}

static const char good[] = ".version 8.0\n.target sm_80\n.address_size 64\n"
                           ".visible .entry k(.param .u64 p)\n{\n.reg .b64 a;\nld.param.u64 a, [p];\nst.global.u32 [a], 1;\nret;\n}\n";

static enum assemble_result run(const char *ptx, const struct assemble_options *o, struct assemble_report *r, struct buf *log, size_t *bytes)
{
    void *cubin;
    log->n = 0;
    enum assemble_result result = assemble(ptx, strlen(ptx), o, &cubin, bytes, r, log);
    if (*bytes) check(!memcmp(cubin, "\177ELF", 4), "a cubin is an ELF file");
    free(cubin);
    return result;
}

static void test_reports(void)
{
    struct assemble_report r;
    check(!assemble_read_report("ptxas info    : Function properties for k\n    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
                                "ptxas info    : Used 168 registers, used 3 barriers, 1024 bytes smem\n", &r) &&
              r.registers == 168 && r.barriers == 3 && r.smem_bytes == 1024 && r.stack_bytes == 0, "a clean report");
    check(assemble_read_report("    16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads\n", &r) && r.spill_store_bytes == 12 &&
              r.spill_load_bytes == 8 && r.stack_bytes == 16 && r.registers == -1, "a spill");
    check(assemble_read_report("ptxas info : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized", &r), "C7510");
    check(!assemble_read_report("ptxas info : (C7x) (C8510)", &r), "other codes are no fault");
    check(assemble_release_for("8.0") == 1200 && assemble_release_for("8.6") == 1207 && assemble_release_for("8.8") == 1209 &&
              assemble_release_for("99.9") > 1302, "releases");
}

static void test_spawn(void)
{
    struct buf out = { 0 };
    check(assemble_spawn((char *[]){ "sh", "-c", "echo out; echo err >&2; exit 7", NULL }, 5000, &out) == 7 && !strcmp(out.at, "out\nerr\n"),
          "both streams and the status");
    check(assemble_spawn((char *[]){ "/nonexistent/tool", NULL }, 5000, &out) == -1, "a tool that is not there");
    check(assemble_spawn((char *[]){ "sleep", "30", NULL }, 100, &out) == -2, "a tool that hangs");
    buf_free(&out);
}

/* A ptxas of our own making: says release 11.0. */
static void test_old_one(void)
{
    char folder[] = "/tmp/dgc-asm-XXXXXX", path[64], release[32], got[4096];
    if (!mkdtemp(folder)) return;
    snprintf(path, sizeof path, "%s/ptxas", folder);
    static const char script[] = "#!/bin/sh\necho 'Cuda compilation tools, release 11.0, V11.0.1'\n";
    write_file(path, script, sizeof script - 1);
    chmod(path, 0755);
    char *old_path = strdup(getenv("PATH")), wide[8192];
    snprintf(wide, sizeof wide, "%s:%s", folder, old_path);
    setenv("PATH", wide, 1);
    check(assemble_find(NULL, NULL, got, sizeof got, release, sizeof release) && (!strcmp(got, path) || getenv("CUDA_HOME") || getenv("CUDA_PATH")),
          "the first on PATH where any will do");
    check(!assemble_find(NULL, "8.8", got, sizeof got, release, sizeof release) || strcmp(got, path), "an old one does not hide a new one");
    setenv("PATH", old_path, 1);
    free(old_path);
    unlink(path), rmdir(folder);
}

static void test_ptxas(void)
{
    char path[4096], release[32];
    struct assemble_report r;
    struct buf log = { 0 };
    size_t bytes;
    if (!assemble_find(NULL, "8.0", path, sizeof path, release, sizeof release)) {
        printf("skipped: ptxas (none here)\n");
        return;
    }
    struct assemble_options o = { .line_info = true };
    check(run(good, &o, &r, &log, &bytes) == ASSEMBLE_OK && bytes && r.registers > 0 && strstr(r.by, path), "good PTX assembles");
    check(run(".version 8.0\n.target sm_80\n.address_size 64\n.entry k() { bad; }\n", &o, &r, &log, &bytes) == ASSEMBLE_REFUSED && !bytes &&
              strstr(log.at, "error"), "bad PTX is refused with the assembler's words");
    o.extra = "--no-such-option";
    check(run(good, &o, &r, &log, &bytes) == ASSEMBLE_REFUSED, "options reach the assembler");
    o = (struct assemble_options){ .ptxas = "/nonexistent/ptxas" };
    check(run(good, &o, &r, &log, &bytes) == ASSEMBLE_NONE && strstr(log.at, "/nonexistent/ptxas"), "a named one is taken or nothing is");
    buf_free(&log);
}

static void test_nvjitlink(void)
{
    struct assemble_report r;
    struct buf log = { 0 };
    size_t bytes;
    struct assemble_options o = { .ptxas = "nvjitlink" };
    enum assemble_result result = run(good, &o, &r, &log, &bytes);
    if (result == ASSEMBLE_NONE) printf("skipped: nvJitLink (none here)\n");
    else check(result == ASSEMBLE_OK && r.registers > 0 && strstr(r.by, "nvJitLink"), "nvJitLink assembles");
    buf_free(&log);
}

static void test_none(void)
{
    static const char future[] = ".version 99.0\n.target sm_999a\n.address_size 64\n";
    struct assemble_report r;
    struct buf log = { 0 };
    size_t bytes;
    check(run(future, &(struct assemble_options){ 0 }, &r, &log, &bytes) == ASSEMBLE_NONE && strstr(log.at, "pip install 'nvidia-cuda-nvcc"),
          "what to install");
    buf_free(&log);
}

int main(void)
{
    char *named = getenv("DGC_PTXAS") ? strdup(getenv("DGC_PTXAS")) : NULL;
    unsetenv("DGC_PTXAS");
    test_reports();
    test_spawn();
    test_old_one();
    if (named) setenv("DGC_PTXAS", named, 1);
    free(named);
    test_ptxas();
    unsetenv("DGC_PTXAS");
    test_nvjitlink();
    test_none();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
