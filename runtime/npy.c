/* npy - numpy's .npy files (NEP 1, format versions 1 to 3): one tensor, little-endian, either order of dimensions. */
#include "runtime/tensor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What numpy calls the types; the first row of a type is the one written. */
static const struct {
    const char *descr;
    struct stored as;
} descrs[] = {
    { "<f8", { STORED_F64, TY_none } },  { "<f4", { STORED_TYPE, TY_f32 } },  { "<f2", { STORED_TYPE, TY_f16 } },
    { "|b1", { STORED_TYPE, TY_bool } }, { "|i1", { STORED_TYPE, TY_i8 } },   { "|u1", { STORED_TYPE, TY_u8 } },
    { "<i2", { STORED_TYPE, TY_i16 } },  { "<u2", { STORED_TYPE, TY_u16 } },  { "<i4", { STORED_TYPE, TY_i32 } },
    { "<u4", { STORED_TYPE, TY_u32 } },  { "<i8", { STORED_TYPE, TY_i64 } },  { "<u8", { STORED_TYPE, TY_u64 } },
    { "|V1", { STORED_RAW, TY_u8 } },    { "|V2", { STORED_RAW, TY_u16 } },   { "<V2", { STORED_RAW, TY_u16 } },
    { "<i1", { STORED_TYPE, TY_i8 } },   { "<u1", { STORED_TYPE, TY_u8 } },   { "<b1", { STORED_TYPE, TY_bool } },
};

static const struct stored *find_descr(const char *descr)
{
    for (int i = 0; i < COUNT(descrs); i++)
        if (!strcmp(descrs[i].descr, descr)) return &descrs[i].as;
    return NULL;
}

/* The header is a Python dict of three keys; a cursor walks it. */
struct header {
    const char *at;
    char descr[16];
    bool fortran, has_descr, has_order, has_shape;
};

static void blanks(struct header *h) { h->at += strspn(h->at, " \t\n\r"); }

static bool eat(struct header *h, const char *text)
{
    blanks(h);
    if (strncmp(h->at, text, strlen(text))) return false;
    h->at += strlen(text);
    return true;
}

static bool quoted(struct header *h, char *to, size_t room)
{
    blanks(h);
    char quote = *h->at;
    if (quote != '\'' && quote != '"') return false;
    const char *end = strchr(h->at + 1, quote);
    if (!end || (size_t)(end - h->at) > room) return false;
    memcpy(to, h->at + 1, (size_t)(end - h->at - 1));
    to[end - h->at - 1] = 0;
    h->at = end + 1;
    return true;
}

static bool shape_tuple(struct header *h, struct tensor *t)
{
    if (!eat(h, "(")) return false;
    while (!eat(h, ")")) {
        blanks(h);
        char *end;
        errno = 0;
        long long v = strtoll(h->at, &end, 10);
        if (end == h->at || errno || v < 0 || t->rank == TENSOR_RANK) return false;
        h->at = end;
        t->shape[t->rank++] = v;
        if (!eat(h, ",") && *h->at != ')') return false;
    }
    return true;
}

static bool entry(struct header *h, struct tensor *t)
{
    char key[24];
    if (!quoted(h, key, sizeof key) || !eat(h, ":")) return false;
    if (!strcmp(key, "descr") && !h->has_descr) return h->has_descr = true, quoted(h, h->descr, sizeof h->descr);
    if (!strcmp(key, "fortran_order") && !h->has_order) {
        h->has_order = true;
        return (h->fortran = eat(h, "True")) || eat(h, "False");
    }
    if (!strcmp(key, "shape") && !h->has_shape) return h->has_shape = true, shape_tuple(h, t);
    return false;
}

static bool parse_header(struct header *h, struct tensor *t)
{
    if (!eat(h, "{")) return false;
    while (!eat(h, "}"))
        if (!entry(h, t) || (!eat(h, ",") && *h->at != '}')) return false;
    blanks(h);
    return !*h->at && h->has_descr && h->has_order && h->has_shape;
}

/* Bytes 0..5 magic, 6..7 version, then the header's length: 2 bytes in version 1, 4 after. */
static enum dgk_status find_header(const char *file, size_t n, size_t *from, size_t *length, struct fault *why)
{
    const unsigned char *u = (const unsigned char *)file;
    if (n < 10 || memcmp(file, "\x93NUMPY", 6)) return fault_set(why, DGK_BAD_FILE, "is no .npy file: its first bytes are not \\x93NUMPY");
    if (u[6] < 1 || u[6] > 3) return fault_set(why, DGK_BAD_FILE, "has format version %d.%d; 1.0 to 3.0 are known", u[6], u[7]);
    *from = u[6] == 1 ? 10 : 12;
    *length = u[8] + 256u * u[9];
    if (u[6] > 1 && n >= 12) *length += ((size_t)u[10] << 16) + ((size_t)u[11] << 24);
    if (*from + *length > n) return fault_set(why, DGK_BAD_FILE, "ends inside its header");
    return DGK_OK;
}

static void column_major(struct tensor *t)
{
    int64_t step = 1;
    for (int d = 0; d < t->rank; d++) {
        t->stride[d] = step;
        step *= t->shape[d] > 0 ? t->shape[d] : 1;
    }
}

static int64_t safe_count(const struct tensor *t)
{
    int64_t n = 1;
    for (int d = 0; d < t->rank; d++)
        if (__builtin_mul_overflow(n, t->shape[d], &n)) return -1;
    return n;
}

static enum dgk_status parse(struct tensor *t, const char *file, size_t n, enum type as, struct fault *why)
{
    size_t from = 0, length = 0, want = 0;
    enum dgk_status s = find_header(file, n, &from, &length, why);
    if (s) return s;
    char *text = strndup(file + from, length);
    struct header h = { .at = text };
    bool ok = strlen(text) == length && parse_header(&h, t);
    free(text);
    if (!ok) return fault_set(why, DGK_BAD_FILE, "has a malformed header");
    const struct stored *stored = find_descr(h.descr);
    if (!stored && *h.descr == '>') return fault_set(why, DGK_BAD_FILE, "is big-endian ('%s'); save it as '<%s'", h.descr, h.descr + 1);
    if (!stored) return fault_set(why, DGK_BAD_FILE, "holds items of numpy type '%s', which has no counterpart here", h.descr);
    if (stored_bytes(*stored, safe_count(t), &want)) return fault_set(why, DGK_BAD_FILE, "has a shape whose size overflows");
    if (n - from - length != want)
        return fault_set(why, DGK_BAD_FILE, "has %zu bytes of data; its shape and type need %zu", n - from - length, want);
    char *bytes = malloc(want + 1);
    if (!bytes) return fault_set(why, DGK_NO_MEMORY, "no memory for %zu bytes", want);
    memcpy(bytes, file + from + length, want);
    h.fortran ? column_major(t) : tensor_row_major(t);
    return tensor_from_stored(t, *stored, bytes, as, why);
}

enum dgk_status npy_read(struct tensor *t, const char *path, enum type as, struct fault *why)
{
    char *file;
    size_t n;
    *t = (struct tensor){ 0 };
    if (!read_file(path, &file, &n)) return fault_set(why, DGK_BAD_FILE, "cannot read '%s': %s", path, strerror(errno));
    enum dgk_status s = parse(t, file, n, as, why);
    free(file);
    if (s) fault_prefix(why, "'%s' ", path);
    return s;
}

static const char *written_descr(enum type type)
{
    for (int i = 0; i < COUNT(descrs); i++)
        if (descrs[i].as.kind == STORED_TYPE && descrs[i].as.type == type) return descrs[i].descr;
    return type == TY_tf32 ? "<f4" : type_bits(type) == 16 ? "<u2" : "|u1";
}

enum dgk_status npy_write(const struct tensor *t, const char *path, struct fault *why)
{
    struct tensor dense;
    enum dgk_status s = tensor_copy(&dense, t, TY_none, -1, NULL, why);
    if (s) return s;
    struct buf b = { 0 };
    buf_bytes(&b, "\x93NUMPY\1\0\0\0", 10);
    buf_printf(&b, "{'descr': '%s', 'fortran_order': False, 'shape': (", written_descr(t->type));
    for (int d = 0; d < t->rank; d++)
        buf_printf(&b, "%" PRId64 "%s", t->shape[d] / (t->type == TY_e2m1 && d == t->rank - 1 ? 2 : 1),
                   d + 1 < t->rank ? ", " : t->rank == 1 ? "," : "");
    buf_printf(&b, "), }");
    while ((b.n + 1) % 64) buf_bytes(&b, " ", 1);
    buf_bytes(&b, "\n", 1);
    b.at[8] = (char)((b.n - 10) & 255);
    b.at[9] = (char)((b.n - 10) >> 8);
    buf_bytes(&b, dense.data, tensor_span(&dense));
    if (!write_file(path, b.at, b.n)) s = fault_set(why, DGK_BAD_FILE, "cannot write '%s': %s", path, strerror(errno));
    buf_free(&b);
    tensor_free(&dense);
    return s;
}
