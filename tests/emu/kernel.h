/* Runs one PTX text on the emulator with some buffers as its 64-bit parameters, in order. */
#ifndef TESTS_EMU_KERNEL_H
#define TESTS_EMU_KERNEL_H

#include "runtime/emu/emu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int passed, failed;

static inline void claim(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline void claim(bool ok, const char *fmt, ...)
{
    va_list ap;
    if (ok) {
        passed++;
        return;
    }
    if (++failed > 20) return;
    printf("FAIL ");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

struct kernel_buffer {
    void *data;
    size_t bytes;
};

/* True when it ran; otherwise *error (freed by the caller) holds the report. Buffers are read back. */
static inline bool kernel_run(enum emu_chip chip, enum emu_timing timing, const char *ptx, uint32_t threads,
                              uint32_t cluster, uint32_t smem, const struct kernel_buffer *buffer, int n, char **error)
{
    struct emu_config config = {.chip = chip, .timing = timing, .seed = 7, .threads = 1, .step_limit = 20000000};
    struct emu *e = emu_open(&config);
    uint64_t address[8];
    const char *dump = getenv("KERNEL_DUMP"); /* a folder that gets the texts, to be assembled */
    if (dump) {
        char path[256];
        snprintf(path, sizeof path, "%s/%d_%d.ptx", dump, (int)getpid(), passed + failed);
        write_file(path, ptx, strlen(ptx));
    }
    for (int i = 0; i < n; i++) {
        address[i] = emu_alloc(e, buffer[i].bytes, "buffer");
        emu_write(e, address[i], buffer[i].data, buffer[i].bytes);
    }
    struct emu_module *m = emu_load(e, ptx, strlen(ptx));
    struct emu_launch l = {.grid = {cluster, 1, 1},
                           .block = {threads, 1, 1},
                           .cluster = {cluster, 1, 1},
                           .dynamic_smem = smem,
                           .params = address,
                           .param_bytes = sizeof *address * (size_t)n};
    struct emu_stats stats;
    bool ok = m && emu_run(e, m, &l, &stats);
    *error = ok ? NULL : strdup(emu_error(e) ? emu_error(e) : "");
    for (int i = 0; ok && i < n; i++) emu_read(e, address[i], buffer[i].data, buffer[i].bytes);
    if (m) emu_unload(e, m);
    emu_close(e);
    return ok;
}

/* The header of a module with one entry of `params` 64-bit parameters, loaded to %p0 ...; registers %r, %d, %f, %q (predicates). */
static inline void kernel_begin(struct buf *b, const char *target, int params, int threads)
{
    buf_printf(
        b, ".version 8.8\n.target %s\n.address_size 64\n.extern .shared .align 1024 .b8 smem[];\n.visible .entry k(",
        target);
    for (int i = 0; i < params; i++) buf_printf(b, "%s.param .u64 p%d", i ? ", " : "", i);
    buf_printf(
        b,
        ")\n.reqntid %d, 1, 1\n{\n.reg .b32 %%r<600>;\n.reg .b64 %%d<64>;\n.reg .pred %%q<16>;\n.reg .b16 %%h<16>;\n",
        threads);
    for (int i = 0; i < params; i++) buf_printf(b, "ld.param.u64 %%d%d, [p%d];\n", i, i);
}

static inline void kernel_end(struct buf *b)
{
    buf_printf(b, "ret;\n}\n");
}

/* {%rFIRST, ...} of n registers. */
static inline void kernel_regs(struct buf *b, int first, int n)
{
    buf_printf(b, "{");
    for (int i = 0; i < n; i++) buf_printf(b, "%s%%r%d", i ? ", " : "", first + i);
    buf_printf(b, "}");
}

static inline uint32_t kernel_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

#endif
