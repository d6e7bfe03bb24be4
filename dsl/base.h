/* base - arenas, interned names, growable buffers: the floor everything stands on. */
#ifndef DSL_BASE_H
#define DSL_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An arena hands out zeroed memory and frees it all at once. One per compilation; a pass that needs scratch opens its
 * own. `limit` bounds the bytes it may hold (0: no bound); past it, or when malloc fails, base_oom is called. */
struct arena {
    struct arena_chunk *head;
    size_t used, limit;
};

void *arena_alloc(struct arena *a, size_t bytes);
void arena_free(struct arena *a);
void arena_reset(struct arena *a);      /* as good as new; keeps its memory for what comes next */
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *arena_vprintf(struct arena *a, const char *fmt, va_list ap);

#define new(a, T) ((T *)arena_alloc((a), sizeof(T)))
#define new_n(a, T, n) ((T *)arena_alloc((a), sizeof(T) * (size_t)(n)))

/* Interned names: equal strings are equal pointers. The table is process wide, locked, and never freed. */
const char *intern(const char *s);
const char *intern_n(const char *s, size_t n);

/* A growable array in an arena: VEC(struct node *) v; vec_push(a, &v, x); v.at[i], v.n. Old storage stays in the arena. */
#define VEC(T) struct { T *at; int n, cap; }
#define vec_push(a, v, x) (vec_grow((a), (void **)&(v)->at, (v)->n, &(v)->cap, sizeof *(v)->at), (v)->at[(v)->n++] = (x))
void vec_grow(struct arena *a, void **at, int n, int *cap, size_t item);

/* A growable byte buffer on the heap, always NUL-terminated once written to. */
struct buf {
    char *at;
    size_t n, cap;
};
void buf_bytes(struct buf *b, const void *p, size_t n);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_free(struct buf *b);

/* Whole files. read_file returns false with errno set; *out is NUL-terminated and free()d by the caller.
 * write_file writes a temporary beside `path` and renames it, so that no half-written file is ever seen; what is
 * there and no file (a device, a pipe) is written to. */
bool read_file(const char *path, char **out, size_t *n);
bool write_file(const char *path, const void *data, size_t n);

/* Called when memory or an arena's limit is exhausted; prints and exits unless the program sets another handler,
 * which must not return. */
extern void (*base_oom)(size_t bytes);

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))
static inline int64_t floor_div(int64_t a, int64_t b) { int64_t q = a / b; return q - (a % b != 0 && (a < 0) != (b < 0)); }
static inline int64_t floor_mod(int64_t a, int64_t b) { return a - floor_div(a, b) * b; }
/* Greatest common divisor of the magnitudes; gcd(0, x) = |x|. */
static inline int64_t gcd(int64_t a, int64_t b)
{
    a = a < 0 ? -a : a;
    b = b < 0 ? -b : b;
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}
static inline int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

#endif
