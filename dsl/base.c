/* base - arenas, interned names, growable buffers, whole files. */
#include "dsl/base.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void oom_exit(size_t bytes)
{
    fprintf(stderr, "dgc: out of memory (%zu bytes wanted)\n", bytes);
    exit(70);
}

void (*base_oom)(size_t bytes) = oom_exit;

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    _Alignas(16) char data[];
};

static struct arena_chunk *add_chunk(struct arena *a, size_t size)
{
    if (a->limit && a->used + size > a->limit) base_oom(size);
    struct arena_chunk *c = calloc(1, sizeof *c + size);
    if (!c) base_oom(size);
    c->size = size;
    c->next = a->head;
    a->head = c;
    a->used += size;
    return c;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    struct arena_chunk *c = a->head;
    if (!c || c->size - c->used < bytes) c = add_chunk(a, bytes > 65536 - 64 ? bytes : 65536 - 64);
    void *p = c->data + c->used;
    c->used += bytes;
    return p;
}

void arena_free(struct arena *a)
{
    for (struct arena_chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    a->head = NULL;
    a->used = 0;
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *c = a->head;
    size_t all = a->used;
    if (c && !c->next) {
        memset(c->data, 0, c->used);
        c->used = 0;
    } else if (c) {
        arena_free(a);
        add_chunk(a, all);
    }
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    char *p = arena_alloc(a, n + 1);
    memcpy(p, s, n);
    return p;
}

char *arena_vprintf(struct arena *a, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    char *p = arena_alloc(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    return p;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *p = arena_vprintf(a, fmt, ap);
    va_end(ap);
    return p;
}

void vec_grow(struct arena *a, void **at, int n, int *cap, size_t item)
{
    if (n < *cap) return;
    int wider = *cap ? *cap * 2 : 8;
    void *p = arena_alloc(a, item * (size_t)wider);
    if (n) memcpy(p, *at, item * (size_t)n);
    *at = p;
    *cap = wider;
}

/* Open addressing over strings kept in one arena; grows at half full. */
static struct {
    pthread_mutex_t lock;
    struct arena arena;
    const char **slot;
    size_t n, cap;
} names = { .lock = PTHREAD_MUTEX_INITIALIZER };

static size_t hash_bytes(const char *s, size_t n)
{
    size_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return h;
}

static const char **find_slot(const char *s, size_t n)
{
    size_t i = hash_bytes(s, n) & (names.cap - 1);
    while (names.slot[i] && (strncmp(names.slot[i], s, n) || names.slot[i][n])) i = (i + 1) & (names.cap - 1);
    return &names.slot[i];
}

static void names_grow(void)
{
    const char **old = names.slot;
    size_t old_cap = names.cap;
    names.cap = old_cap ? old_cap * 2 : 1024;
    names.slot = calloc(names.cap, sizeof *names.slot);
    if (!names.slot) base_oom(names.cap * sizeof *names.slot);
    for (size_t i = 0; i < old_cap; i++)
        if (old[i]) *find_slot(old[i], strlen(old[i])) = old[i];
    free(old);
}

const char *intern_n(const char *s, size_t n)
{
    pthread_mutex_lock(&names.lock);
    if (names.n * 2 >= names.cap) names_grow();
    const char **slot = find_slot(s, n);
    if (!*slot) {
        *slot = arena_strndup(&names.arena, s, n);
        names.n++;
    }
    const char *name = *slot;
    pthread_mutex_unlock(&names.lock);
    return name;
}

const char *intern(const char *s) { return intern_n(s, strlen(s)); }

static void buf_room(struct buf *b, size_t n)
{
    if (b->n + n + 1 <= b->cap) return;
    size_t cap = b->cap ? b->cap : 256;
    while (cap < b->n + n + 1) cap *= 2;
    char *p = realloc(b->at, cap);
    if (!p) base_oom(cap);
    b->at = p;
    b->cap = cap;
}

void buf_bytes(struct buf *b, const void *p, size_t n)
{
    buf_room(b, n);
    if (n) memcpy(b->at + b->n, p, n);
    b->n += n;
    b->at[b->n] = 0;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    buf_room(b, (size_t)n);
    vsnprintf(b->at + b->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->n += (size_t)n;
}

void buf_free(struct buf *b)
{
    free(b->at);
    *b = (struct buf){ 0 };
}

bool read_file(const char *path, char **out, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    struct buf b = { 0 };
    char block[65536];
    size_t got;
    buf_bytes(&b, "", 0);
    while ((got = fread(block, 1, sizeof block, f)) > 0) buf_bytes(&b, block, got);
    int failed = ferror(f) ? errno : 0;
    fclose(f);
    if (failed) {
        buf_free(&b);
        errno = failed;
        return false;
    }
    *out = b.at;
    if (n) *n = b.n;
    return true;
}

/* A terminal, a pipe, /dev/null: what is no file is written to, and never replaced by one. */
static bool write_through(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f) return false;
    bool ok = fwrite(data, 1, n, f) == n;
    return fclose(f) == 0 && ok;
}

bool write_file(const char *path, const void *data, size_t n)
{
    struct stat there;
    if (!stat(path, &there) && !S_ISREG(there.st_mode)) return write_through(path, data, n);
    struct buf tmp = { 0 };
    buf_printf(&tmp, "%s.tmp%ld", path, (long)getpid());
    FILE *f = fopen(tmp.at, "wb");
    bool ok = f && fwrite(data, 1, n, f) == n;
    if (f && fclose(f)) ok = false;
    if (ok && rename(tmp.at, path)) ok = false;
    if (!ok) {
        int why = errno;
        if (f) unlink(tmp.at);
        errno = why;
    }
    buf_free(&tmp);
    return ok;
}
