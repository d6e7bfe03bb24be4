/* Runs PTX on the emulator and makes claims about what comes out. */
#ifndef TESTS_EMU_RUN_H
#define TESTS_EMU_RUN_H

#include "runtime/emu/emu.h"
#include "runtime/emu/numerics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;

static inline void claim(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline void claim(bool ok, const char *fmt, ...)
{
    va_list ap;
    passed += ok;
    failed += !ok;
    if (ok)
        return;
    printf("FAIL ");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

/* A launch: parameters are appended with run_u64, run_u32, run_map in the order of the entry's. */
struct run {
    struct emu *e;
    struct emu_launch launch;
    struct emu_stats stats;
    uint8_t params[1024];
    size_t at;
    char error[8192]; /* of the last run_text */
};

static inline struct run run_open(enum emu_chip chip, enum emu_timing timing)
{
    struct run r = {.e = emu_open(&(struct emu_config){.chip = chip, .timing = timing, .seed = 11, .step_limit = 1 << 24, .sms = 8})};
    r.launch.grid[0] = r.launch.block[0] = 1;
    return r;
}
static inline void run_put(struct run *r, const void *p, size_t n, size_t align)
{
    r->at = (r->at + align - 1) / align * align;
    memcpy(r->params + r->at, p, n);
    r->at += n;
}
static inline void run_u32(struct run *r, uint32_t v) { run_put(r, &v, 4, 4); }
static inline void run_u64(struct run *r, uint64_t v) { run_put(r, &v, 8, 8); }
/* Device memory with these contents, as a parameter; NULL leaves it uninitialised. */
static inline uint64_t run_memory(struct run *r, const void *data, size_t n, const char *name)
{
    uint64_t a = emu_alloc(r->e, n, name);
    if (data)
        emu_write(r->e, a, data, n);
    run_u64(r, a);
    return a;
}

static const char header_80[] = ".version 8.8\n.target sm_80\n.address_size 64\n";
static const char header_90[] = ".version 8.8\n.target sm_90a\n.address_size 64\n";
static const char header_100[] = ".version 8.8\n.target sm_100a\n.address_size 64\n";

/* True when the text loads and runs to its end; otherwise r->error says why. The parameters are used up. */
static inline bool run_text(struct run *r, const char *header, const char *body)
{
    struct buf b = {0};
    buf_printf(&b, "%s%s", header, body);
    struct emu_module *m = emu_load(r->e, b.at, b.n);
    r->launch.params = r->params;
    r->launch.param_bytes = r->at;
    bool ok = m && emu_run(r->e, m, &r->launch, &r->stats);
    snprintf(r->error, sizeof r->error, "%s", ok ? "" : emu_error(r->e));
    emu_unload(r->e, m);
    buf_free(&b);
    r->at = 0;
    return ok;
}

#endif
