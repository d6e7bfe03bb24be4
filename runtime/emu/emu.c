/* emu - the device: settings, global memory, loading of modules. */
#include "runtime/emu/emu.h"
#include "runtime/emu/parse.h"

#include <stdio.h>
#include <stdlib.h>

enum { GUARD_BYTES = 65536 };

struct emu *emu_open(const struct emu_config *c)
{
    struct emu *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->config = *c;
    if (!e->config.sms)
        e->config.sms = 4;
    if (!e->config.step_limit)
        e->config.step_limit = (uint64_t)1 << 40;
    e->next_address = 0x700000000000ull;
    return e;
}

static void block_free(struct emu_block *b)
{
    free(b->data);
    free(b->init);
    free(b->name);
    free(b);
}

void emu_close(struct emu *e)
{
    if (!e)
        return;
    for (int i = 0; i < e->n_block; i++)
        block_free(e->block[i]);
    free(e->block);
    buf_free(&e->error);
    free(e);
}

void emu_set_timing(struct emu *e, enum emu_timing t, uint64_t seed)
{
    e->config.timing = t;
    e->config.seed = seed;
}

const char *emu_error(const struct emu *e) { return e->error.n ? e->error.at : ""; }

void emu_set_error(struct emu *e, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    e->error.n = 0;
    buf_printf(&e->error, "%s", text);
}

/* ---- allocations ---- */

/* Index of the first block whose address lies above. */
static int above(const struct emu *e, uint64_t address)
{
    int lo = 0, hi = e->n_block;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (e->block[mid]->address <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct emu_block *emu_find_block(const struct emu *e, uint64_t address)
{
    int i = above(e, address);
    if (!i)
        return NULL;
    struct emu_block *b = e->block[i - 1];
    return address - b->address < b->bytes ? b : NULL;
}

static struct emu_block *block_new(size_t bytes, const char *name)
{
    struct emu_block *b = calloc(1, sizeof *b);
    size_t words = bytes / 64 + 1;
    if (!b)
        return NULL;
    b->data = bytes > SIZE_MAX / 2 ? NULL : malloc(bytes + 64);
    b->init = calloc(words, 8);
    b->name = strdup(name ? name : "memory");
    b->bytes = bytes;
    if (!b->data || !b->init || !b->name) {
        block_free(b);
        return NULL;
    }
    memset(b->data, 0xFF, bytes); /* a NaN in every float type until written */
    return b;
}

uint64_t emu_alloc(struct emu *e, size_t bytes, const char *name)
{
    e->error.n = 0;
    if (!bytes)
        bytes = 1;
    if (e->n_block == e->cap_block) {
        int cap = e->cap_block ? e->cap_block * 2 : 16;
        struct emu_block **p = realloc(e->block, (size_t)cap * sizeof *p);
        if (!p) {
            emu_set_error(e, "out of memory");
            return 0;
        }
        e->block = p;
        e->cap_block = cap;
    }
    struct emu_block *b = block_new(bytes, name);
    if (!b) {
        emu_set_error(e, "out of memory: %zu bytes for '%s'", bytes, name ? name : "memory");
        return 0;
    }
    b->address = e->next_address;
    e->next_address = (e->next_address + bytes + GUARD_BYTES + 1023) & ~(uint64_t)1023;
    e->block[e->n_block++] = b; /* addresses only grow, so the list stays sorted */
    return b->address;
}

bool emu_free(struct emu *e, uint64_t address)
{
    e->error.n = 0;
    int i = above(e, address) - 1;
    if (i < 0 || e->block[i]->address != address) {
        emu_set_error(e, "0x%llx is no allocation's address", (unsigned long long)address);
        return false;
    }
    block_free(e->block[i]);
    memmove(&e->block[i], &e->block[i + 1], (size_t)(e->n_block - i - 1) * sizeof *e->block);
    e->n_block--;
    return true;
}

static struct emu_block *host_range(struct emu *e, uint64_t address, size_t bytes)
{
    e->error.n = 0;
    struct emu_block *b = emu_find_block(e, address);
    if (b && bytes <= b->bytes - (address - b->address))
        return b;
    emu_set_error(e, "%zu bytes at 0x%llx are not within one allocation", bytes, (unsigned long long)address);
    return NULL;
}

static void mark_written(struct emu_block *b, uint64_t at, size_t bytes)
{
    if (!b->init)
        return;
    if (!at && bytes == b->bytes) {
        free(b->init);
        b->init = NULL;
        return;
    }
    for (uint64_t i = at; i < at + bytes;) {
        if (i % 64 == 0 && at + bytes - i >= 64) {
            b->init[i / 64] = ~(uint64_t)0;
            i += 64;
        } else {
            b->init[i / 64] |= (uint64_t)1 << i % 64;
            i++;
        }
    }
}

bool emu_write(struct emu *e, uint64_t address, const void *from, size_t bytes)
{
    if (!bytes)
        return true;
    struct emu_block *b = host_range(e, address, bytes);
    if (!b)
        return false;
    memcpy(b->data + (address - b->address), from, bytes);
    mark_written(b, address - b->address, bytes);
    return true;
}

bool emu_read(struct emu *e, uint64_t address, void *to, size_t bytes)
{
    if (!bytes)
        return true;
    struct emu_block *b = host_range(e, address, bytes);
    if (b)
        memcpy(to, b->data + (address - b->address), bytes);
    return b != NULL;
}

bool emu_fill(struct emu *e, uint64_t address, int byte, size_t bytes)
{
    if (!bytes)
        return true;
    struct emu_block *b = host_range(e, address, bytes);
    if (!b)
        return false;
    memset(b->data + (address - b->address), byte, bytes);
    mark_written(b, address - b->address, bytes);
    return true;
}

/* ---- modules ---- */

struct emu_module *emu_load(struct emu *e, const char *ptx, size_t n)
{
    e->error.n = 0;
    if (memchr(ptx, 0, n) && strlen(ptx) + 1 < n) {
        emu_set_error(e, "ptx: the text holds a zero byte");
        return NULL;
    }
    struct emu_module *m = calloc(1, sizeof *m);
    if (!m) {
        emu_set_error(e, "out of memory");
        return NULL;
    }
    m->emu = e;
    m->text = arena_strndup(&m->arena, ptx, n);
    if (!emu_parse(m)) {
        if (!e->error.n)
            emu_set_error(e, "ptx: the module was refused");
        struct buf keep = e->error;
        e->error = (struct buf){0};
        emu_unload(e, m);
        buf_free(&e->error);
        e->error = keep;
        return NULL;
    }
    return m;
}

void emu_unload(struct emu *e, struct emu_module *m)
{
    if (!m)
        return;
    for (int i = 0; i < m->allocations.n; i++)
        emu_free(e, m->allocations.at[i]);
    arena_free(&m->arena);
    free(m);
}
