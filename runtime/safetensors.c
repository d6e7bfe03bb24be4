/* safetensors - reads one tensor of a .safetensors file, and writes files of several. The header's JSON is parsed
 * strictly: what the format does not allow is refused, so that a damaged file is never half understood.
 * Format: 8 bytes length of the header, the header, the data of all tensors without gaps. */
#include "runtime/tensor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_MAX = 100 * 1000 * 1000 }; /* the format's own limit */

static const struct {
    const char *name;
    struct stored as;
} dtypes[] = {
    { "F64", { STORED_F64, TY_none } },     { "F32", { STORED_TYPE, TY_f32 } },   { "F16", { STORED_TYPE, TY_f16 } },
    { "BF16", { STORED_TYPE, TY_bf16 } },   { "I64", { STORED_TYPE, TY_i64 } },   { "I32", { STORED_TYPE, TY_i32 } },
    { "I16", { STORED_TYPE, TY_i16 } },     { "I8", { STORED_TYPE, TY_i8 } },     { "U64", { STORED_TYPE, TY_u64 } },
    { "U32", { STORED_TYPE, TY_u32 } },     { "U16", { STORED_TYPE, TY_u16 } },   { "U8", { STORED_TYPE, TY_u8 } },
    { "BOOL", { STORED_TYPE, TY_bool } },   { "F8_E4M3", { STORED_TYPE, TY_e4m3 } }, { "F8_E5M2", { STORED_TYPE, TY_e5m2 } },
    { "F8_E8M0", { STORED_TYPE, TY_ue8m0 } }, { "F4", { STORED_TYPE, TY_e2m1 } },
    { "F32", { STORED_TYPE, TY_tf32 } },    { "U8", { STORED_TYPE, TY_ue4m3 } }, /* only written */
};

static const struct stored *find_dtype(const char *name)
{
    for (int i = 0; i < COUNT(dtypes); i++)
        if (!strcmp(dtypes[i].name, name)) return &dtypes[i].as;
    return NULL;
}

/* ---- JSON, as much of it as a header has --------------------------------------------------------------------- */

struct json {
    const char *start, *at, *end;
    struct arena *arena;
    const char *wrong; /* the first thing that is not as it should be; NULL while all is well */
};

static bool json_fail(struct json *j, const char *what)
{
    if (!j->wrong) j->wrong = arena_printf(j->arena, "%s at byte %td of the header", what, j->at - j->start);
    return false;
}

static void json_blanks(struct json *j)
{
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r')) j->at++;
}

static bool json_eat(struct json *j, char c)
{
    json_blanks(j);
    if (j->at == j->end || *j->at != c) return false;
    j->at++;
    return true;
}

static bool json_want(struct json *j, char c)
{
    char what[] = "'?' wanted";
    what[1] = c;
    return json_eat(j, c) || json_fail(j, what);
}

static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef", *d = p[i] ? strchr(digits, p[i] >= 'A' && p[i] <= 'F' ? p[i] + 32 : p[i]) : NULL;
        if (!d) return -1;
        v = v * 16 + (int)(d - digits);
    }
    return v;
}

static void put_utf8(struct buf *b, unsigned c)
{
    unsigned char u[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    for (size_t i = n; i-- > 1; c >>= 6) u[i] = (unsigned char)(0x80 | (c & 63));
    u[0] = (unsigned char)(lead[n] | c);
    buf_bytes(b, u, n);
}

/* After "\u": four hex digits, or two such of a surrogate pair. */
static bool json_unicode(struct json *j, struct buf *b)
{
    int c = j->end - j->at >= 4 ? hex4(j->at) : -1;
    if (c < 0) return json_fail(j, "bad \\u escape");
    j->at += 4;
    if (c >= 0xdc00 && c < 0xe000) return json_fail(j, "half a surrogate pair");
    if (c >= 0xd800 && c < 0xdc00) {
        int low = j->end - j->at >= 6 && j->at[0] == '\\' && j->at[1] == 'u' ? hex4(j->at + 2) : -1;
        if (low < 0xdc00 || low >= 0xe000) return json_fail(j, "half a surrogate pair");
        j->at += 6;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    if (c == 0) return json_fail(j, "NUL in a name");
    put_utf8(b, (unsigned)c);
    return true;
}

static bool json_escape(struct json *j, struct buf *b)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (j->at == j->end) return json_fail(j, "string without end");
    char c = *j->at++;
    if (c == 'u') return json_unicode(j, b);
    const char *p = c ? strchr(from, c) : NULL;
    if (!p) return json_fail(j, "unknown escape");
    buf_bytes(b, &to[p - from], 1);
    return true;
}

/* Bytes of a well-formed UTF-8 sequence at p (RFC 3629), 0 if it is none. */
static int utf8_length(const unsigned char *p, const unsigned char *end)
{
    int n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;
    if (!n || end - p < n) return 0;
    for (int i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

static const char *json_string(struct json *j)
{
    struct buf b = { 0 };
    const char *result = NULL;
    if (!json_want(j, '"')) return NULL;
    buf_bytes(&b, "", 0);
    while (j->at < j->end && *j->at != '"') {
        int n = utf8_length((const unsigned char *)j->at, (const unsigned char *)j->end);
        if (!n) { json_fail(j, "bad UTF-8"); goto out; }
        if ((unsigned char)*j->at < 0x20) { json_fail(j, "control character in a string"); goto out; }
        if (*j->at != '\\') {
            buf_bytes(&b, j->at, (size_t)n);
            j->at += n;
        } else {
            j->at++;
            if (!json_escape(j, &b)) goto out;
        }
    }
    if (j->at == j->end) json_fail(j, "string without end");
    else j->at++, result = arena_strndup(j->arena, b.at, b.n);
out:
    buf_free(&b);
    return result;
}

static bool json_size(struct json *j, int64_t *v)
{
    json_blanks(j);
    const char *first = j->at;
    for (*v = 0; j->at < j->end && *j->at >= '0' && *j->at <= '9'; j->at++)
        if (__builtin_mul_overflow(*v, 10, v) || __builtin_add_overflow(*v, *j->at - '0', v)) return json_fail(j, "number too large");
    if (j->at == first) return json_fail(j, "whole number wanted");
    if (*first == '0' && j->at - first > 1) return json_fail(j, "number with a leading zero");
    if (j->at < j->end && strchr(".eE", *j->at)) return json_fail(j, "whole number wanted");
    return true;
}

/* "[a, b, …]", at most `room`. */
static bool json_sizes(struct json *j, int64_t *v, int room, int *n, const char *too_many)
{
    *n = 0;
    if (!json_want(j, '[')) return false;
    if (json_eat(j, ']')) return true;
    do {
        if (*n == room) return json_fail(j, too_many);
        if (!json_size(j, &v[(*n)++])) return false;
    } while (json_eat(j, ','));
    return json_want(j, ']');
}

/* ---- the header ---------------------------------------------------------------------------------------------- */

struct entry {
    const char *name, *dtype;
    int64_t shape[TENSOR_RANK], offset[2];
    int rank;
};
struct header {
    VEC(struct entry) entries;
};

static bool parse_metadata(struct json *j)
{
    if (!json_want(j, '{')) return false;
    if (json_eat(j, '}')) return true;
    do
        if (!json_string(j) || !json_want(j, ':') || !json_string(j)) return false;
    while (json_eat(j, ','));
    return json_want(j, '}');
}

static bool parse_entry(struct json *j, struct entry *e)
{
    int offsets = -1;
    e->rank = -1;
    if (!json_want(j, '{')) return false;
    do {
        const char *key = json_string(j);
        if (!key || !json_want(j, ':')) return false;
        if (!strcmp(key, "dtype") && !e->dtype) {
            if (!(e->dtype = json_string(j))) return false;
        } else if (!strcmp(key, "shape") && e->rank < 0) {
            if (!json_sizes(j, e->shape, TENSOR_RANK, &e->rank, "more than 8 dimensions")) return false;
        } else if (!strcmp(key, "data_offsets") && offsets < 0) {
            if (!json_sizes(j, e->offset, 2, &offsets, "more than two offsets")) return false;
        } else {
            return json_fail(j, "unknown or repeated key");
        }
    } while (json_eat(j, ','));
    if (!json_want(j, '}')) return false;
    return (e->dtype && e->rank >= 0 && offsets == 2) || json_fail(j, "entry without dtype, shape or two data_offsets");
}

static bool parse_header(struct json *j, struct header *h)
{
    bool metadata = false;
    if (!json_want(j, '{')) return false;
    if (!json_eat(j, '}')) {
        do {
            struct entry e = { .name = json_string(j) };
            if (!e.name || !json_want(j, ':')) return false;
            if (!strcmp(e.name, "__metadata__")) {
                if (metadata || !parse_metadata(j)) return json_fail(j, "second __metadata__");
                metadata = true;
                continue;
            }
            if (!parse_entry(j, &e)) return false;
            vec_push(j->arena, &h->entries, e);
        } while (json_eat(j, ','));
        if (!json_want(j, '}')) return false;
    }
    json_blanks(j);
    return j->at == j->end || json_fail(j, "text after the end");
}

static int by_offset(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->offset[0] != y->offset[0]) return x->offset[0] < y->offset[0] ? -1 : 1;
    return x->offset[1] < y->offset[1] ? -1 : x->offset[1] > y->offset[1];
}

static int by_name(const void *a, const void *b) { return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name); }

/* Every entry: a known type, as many bytes as its shape needs, no two of one name; together all of the data, no gap. */
static enum dgk_status check_entries(struct header *h, int64_t data_bytes, struct fault *why)
{
    int64_t at = 0;
    if (h->entries.n) qsort(h->entries.at, (size_t)h->entries.n, sizeof *h->entries.at, by_name);
    for (int i = 1; i < h->entries.n; i++)
        if (!by_name(&h->entries.at[i - 1], &h->entries.at[i]))
            return fault_set(why, DGK_BAD_FILE, "has two tensors '%s'", h->entries.at[i].name);
    if (h->entries.n) qsort(h->entries.at, (size_t)h->entries.n, sizeof *h->entries.at, by_offset);
    for (int i = 0; i < h->entries.n; i++) {
        struct entry *e = &h->entries.at[i];
        const struct stored *s = find_dtype(e->dtype);
        int64_t count = 1;
        size_t bytes;
        if (!s) return fault_set(why, DGK_BAD_FILE, "has tensor '%s' of the unknown type '%s'", e->name, e->dtype);
        for (int d = 0; d < e->rank; d++)
            if (__builtin_mul_overflow(count, e->shape[d], &count)) return fault_set(why, DGK_BAD_FILE, "has tensor '%s' whose size overflows", e->name);
        if (stored_bytes(*s, count, &bytes)) return fault_set(why, DGK_BAD_FILE, "has tensor '%s' whose size overflows", e->name);
        if (e->offset[1] < e->offset[0] || e->offset[1] > data_bytes)
            return fault_set(why, DGK_BAD_FILE, "has tensor '%s' at bytes %" PRId64 " to %" PRId64 ", outside its %" PRId64 " bytes of data",
                             e->name, e->offset[0], e->offset[1], data_bytes);
        if ((size_t)(e->offset[1] - e->offset[0]) != bytes)
            return fault_set(why, DGK_BAD_FILE, "has tensor '%s' of %" PRId64 " bytes; its shape and type need %zu", e->name,
                             e->offset[1] - e->offset[0], bytes);
        if (e->offset[0] != at)
            return fault_set(why, DGK_BAD_FILE, "has a gap or an overlap before tensor '%s': it begins at byte %" PRId64 ", %" PRId64 " wanted",
                             e->name, e->offset[0], at);
        at = e->offset[1];
    }
    if (at != data_bytes) return fault_set(why, DGK_BAD_FILE, "has %" PRId64 " bytes of data after its last tensor", data_bytes - at);
    return DGK_OK;
}

static enum dgk_status read_header(FILE *f, struct arena *arena, struct header *h, int64_t *data_at, struct fault *why)
{
    unsigned char length[8];
    if (fseeko(f, 0, SEEK_END)) return fault_set(why, DGK_BAD_FILE, "cannot be read: %s", strerror(errno));
    int64_t size = ftello(f);
    uint64_t n = 0;
    rewind(f);
    if (fread(length, 1, 8, f) != 8) return fault_set(why, DGK_BAD_FILE, "is no safetensors file: it has %" PRId64 " bytes", size);
    for (int i = 8; i-- > 0;) n = n << 8 | length[i];
    if (n > HEADER_MAX) return fault_set(why, DGK_BAD_FILE, "is no safetensors file: a header of %" PRIu64 " bytes", n);
    if ((int64_t)n > size - 8) return fault_set(why, DGK_BAD_FILE, "ends inside its header of %" PRIu64 " bytes", n);
    char *text = arena_alloc(arena, n + 1);
    if (fread(text, 1, n, f) != n) return fault_set(why, DGK_BAD_FILE, "cannot be read: %s", strerror(errno));
    struct json j = { text, text, text + n, arena, NULL };
    if (n && *text != '{') json_fail(&j, "'{' wanted");
    if (j.wrong || !parse_header(&j, h)) return fault_set(why, DGK_BAD_FILE, "has a malformed header: %s", j.wrong);
    *data_at = 8 + (int64_t)n;
    return check_entries(h, size - *data_at, why);
}

static const struct entry *find_entry(const struct header *h, const char *name)
{
    for (int i = 0; i < h->entries.n; i++)
        if (name ? !strcmp(h->entries.at[i].name, name) : h->entries.n == 1) return &h->entries.at[i];
    return NULL;
}

static enum dgk_status no_entry(const struct header *h, const char *name, struct fault *why)
{
    struct buf names = { 0 };
    for (int i = 0; i < h->entries.n && i < 9; i++)
        buf_printf(&names, "%s%s", i ? ", " : "", i < 8 ? h->entries.at[i].name : "…");
    if (name) fault_set(why, DGK_BAD_FILE, "has no tensor '%s'; it has %s", name, names.n ? names.at : "none");
    else fault_set(why, DGK_BAD_FILE, "has %d tensors; append which: \":NAME\" of %s", h->entries.n, names.n ? names.at : "none");
    buf_free(&names);
    return DGK_BAD_FILE;
}

static enum dgk_status read_from(FILE *f, struct arena *arena, struct tensor *t, const char *name, enum type as, struct fault *why)
{
    struct header h = { 0 };
    int64_t data_at = 0;
    enum dgk_status s = read_header(f, arena, &h, &data_at, why);
    if (s) return s;
    const struct entry *e = find_entry(&h, name);
    if (!e) return no_entry(&h, name, why);
    size_t n = (size_t)(e->offset[1] - e->offset[0]);
    char *bytes = malloc(n + 1);
    if (!bytes) return fault_set(why, DGK_NO_MEMORY, "has tensor '%s' of %zu bytes: no memory", e->name, n);
    if (fseeko(f, data_at + e->offset[0], SEEK_SET) || fread(bytes, 1, n, f) != n) {
        free(bytes);
        return fault_set(why, DGK_BAD_FILE, "cannot be read: %s", strerror(errno));
    }
    struct stored stored = *find_dtype(e->dtype);
    t->rank = e->rank;
    t->type = stored.type;
    memcpy(t->shape, e->shape, sizeof t->shape);
    tensor_row_major(t);
    return tensor_from_stored(t, stored, bytes, as, why);
}

enum dgk_status safetensors_read(struct tensor *t, const char *path, const char *name, enum type as, struct fault *why)
{
    *t = (struct tensor){ 0 };
    FILE *f = fopen(path, "rb");
    if (!f) return fault_set(why, DGK_BAD_FILE, "cannot read '%s': %s", path, strerror(errno));
    struct arena arena = { 0 };
    enum dgk_status s = read_from(f, &arena, t, name, as, why);
    arena_free(&arena);
    fclose(f);
    if (s) fault_prefix(why, "'%s' ", path);
    return s;
}

/* ---- writing ------------------------------------------------------------------------------------------------- */

static void put_json_string(struct buf *b, const char *s)
{
    buf_printf(b, "\"");
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') buf_printf(b, "\\%c", *s);
        else if ((unsigned char)*s < 0x20) buf_printf(b, "\\u%04x", *s);
        else buf_bytes(b, s, 1);
    }
    buf_printf(b, "\"");
}

static const char *written_dtype(enum type type)
{
    for (int i = 0; i < COUNT(dtypes); i++)
        if (dtypes[i].as.kind == STORED_TYPE && dtypes[i].as.type == type) return dtypes[i].name;
    return "U8";
}

static void put_entry(struct buf *b, const struct named_tensor *e, size_t from, size_t to)
{
    put_json_string(b, e->name);
    buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", written_dtype(e->tensor->type));
    for (int d = 0; d < e->tensor->rank; d++) buf_printf(b, "%s%" PRId64, d ? "," : "", e->tensor->shape[d]);
    buf_printf(b, "],\"data_offsets\":[%zu,%zu]}", from, to);
}

/* Wide types first, then by name, as the reference writer orders them, so that every tensor is aligned. */
static int by_width(const void *a, const void *b)
{
    const struct named_tensor *x = a, *y = b;
    int wx = tensor_item_bits(x->tensor->type), wy = tensor_item_bits(y->tensor->type);
    return wx != wy ? wy - wx : strcmp(x->name, y->name);
}

enum dgk_status safetensors_write(const char *path, const struct named_tensor *all, int n, struct fault *why)
{
    struct buf header = { 0 }, data = { 0 }, file = { 0 };
    struct named_tensor *sorted = malloc(sizeof *sorted * (size_t)(n + 1));
    enum dgk_status s = DGK_OK;
    if (!sorted) return fault_set(why, DGK_NO_MEMORY, "no memory to write '%s'", path);
    if (n) memcpy(sorted, all, sizeof *sorted * (size_t)n);
    qsort(sorted, (size_t)n, sizeof *sorted, by_width);
    buf_printf(&header, "{");
    for (int i = 0; i < n && !s; i++) {
        struct tensor dense;
        if ((s = tensor_copy(&dense, sorted[i].tensor, TY_none, -1, NULL, why))) break;
        size_t from = data.n;
        buf_bytes(&data, dense.data, tensor_span(&dense));
        if (i) buf_printf(&header, ",");
        put_entry(&header, &sorted[i], from, data.n);
        tensor_free(&dense);
    }
    buf_printf(&header, "}");
    while (header.n % 8) buf_bytes(&header, " ", 1);
    for (int i = 0; i < 8; i++) buf_bytes(&file, &(unsigned char){ (unsigned char)((uint64_t)header.n >> 8 * i) }, 1);
    buf_bytes(&file, header.at, header.n);
    if (data.n) buf_bytes(&file, data.at, data.n);
    if (!s && !write_file(path, file.at, file.n)) s = fault_set(why, DGK_BAD_FILE, "cannot write '%s': %s", path, strerror(errno));
    buf_free(&header);
    buf_free(&data);
    buf_free(&file);
    free(sorted);
    return s;
}
