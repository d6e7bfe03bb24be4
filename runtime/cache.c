/* cache - see cache.h. A file: magic, sizes, note, key, data, SHA-256 of all that. It is written beside its place, flushed
 * and renamed; it is read through the folder's descriptor, without following links, and only if it is this user's or root's
 * and nobody else may write to it. Modification times matter only to prune. */
#include "runtime/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- SHA-256 (FIPS 180-4) ------------------------------------------------------------------------------------ */

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turn(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void sha_block(uint32_t *h, const unsigned char *p)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++) w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3, b = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t e = turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25), a = turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22);
        uint32_t x = s[7] + e + ((s[4] & s[5]) ^ (~s[4] & s[6])) + round_constants[i] + w[i];
        uint32_t y = a + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += x;
        s[0] = x + y;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
}

struct sha256 sha256_of(const void *data, size_t n)
{
    uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
    const unsigned char *p = data;
    unsigned char tail[128] = { 0 };
    size_t whole = n / 64 * 64, rest = n - whole, end = rest < 56 ? 64 : 128;
    struct sha256 out;
    for (size_t i = 0; i < whole; i += 64) sha_block(h, p + i);
    if (rest) memcpy(tail, p + whole, rest);
    tail[rest] = 0x80;
    for (int i = 0; i < 8; i++) tail[end - 1 - (size_t)i] = (unsigned char)((uint64_t)n * 8 >> 8 * i);
    for (size_t i = 0; i < end; i += 64) sha_block(h, tail + i);
    for (int i = 0; i < 32; i++) out.at[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
    return out;
}

/* ---- folders ------------------------------------------------------------------------------------------------- */

bool cache_folder(char *to, size_t room)
{
    const char *off = getenv("DGC_DISABLE_CACHE"), *named = getenv("DGC_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (off && *off && strcmp(off, "0")) return false;
    if (named && *named) n = snprintf(to, room, "%s", named);
    else if (xdg && *xdg == '/') n = snprintf(to, room, "%s/dgc", xdg);
    else if (home && *home == '/') n = snprintf(to, room, "%s/.cache/dgc", home);
    return n > 0 && (size_t)n < room;
}

/* Nobody but this user and root can change what is in it; others may where the sticky bit keeps them from each other's files. */
static const char *folder_fault(const char *path, bool last, char *text, size_t room)
{
    struct stat st;
    if (stat(path, &st)) snprintf(text, room, "%s: %s", path, strerror(errno));
    else if (!S_ISDIR(st.st_mode)) snprintf(text, room, "%s is no folder", path);
    else if (st.st_uid != geteuid() && st.st_uid != 0) snprintf(text, room, "%s belongs to another user", path);
    else if ((st.st_mode & 022) && (last || !(st.st_mode & S_ISVTX))) snprintf(text, room, "others may write to %s (mode %03o)", path, st.st_mode & 0777u);
    else return NULL;
    return text;
}

const char *cache_unsafe(const char *folder, char *text, size_t room)
{
    char path[4096], *real = realpath(folder, path);
    if (!real) {
        snprintf(text, room, "%s: %s", folder, strerror(errno));
        return text;
    }
    const char *fault = folder_fault(path, true, text, room);
    for (char *slash; !fault && (slash = strrchr(path, '/'));) {
        slash[slash == path] = 0; /* the root keeps its slash */
        fault = folder_fault(path, false, text, room);
        if (slash == path) break;
    }
    return fault;
}

/* Makes the folder and those above it, for this user alone. */
static void make_folders(const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", folder);
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(path, 0700);
        *p = '/';
    }
    mkdir(path, 0700);
}

/* The folder's descriptor; -1 when it is not to be used. */
static int open_folder(const char *folder, bool make)
{
    char text[4400];
    if (make) make_folders(folder);
    if (cache_unsafe(folder, text, sizeof text)) return -1;
    return open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* ---- entries ------------------------------------------------------------------------------------------------- */

struct header {
    char magic[8];
    uint64_t key_bytes, data_bytes;
    char note[256];
};
static const char magic[8] = "dgc\0ent1";

static void name_of(const void *key, size_t n, char *to)
{
    struct sha256 h = sha256_of(key, n);
    for (int i = 0; i < 32; i++) snprintf(to + 2 * i, 3, "%02x", h.at[i]);
}

static bool is_name(const char *s)
{
    return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

/* A regular file that only its owner, this user or root, can have written. */
static bool read_entry(int folder, const char *name, char **out, size_t *n)
{
    struct stat st;
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    bool ok = !fstat(fd, &st) && S_ISREG(st.st_mode) && (st.st_uid == geteuid() || st.st_uid == 0) && !(st.st_mode & 022) && st.st_size > 0 &&
              st.st_size < (off_t)1 << 30 && (*out = malloc((size_t)st.st_size));
    size_t got = 0;
    for (ssize_t r; ok && got < (size_t)st.st_size; got += (size_t)r) {
        r = read(fd, *out + got, (size_t)st.st_size - got);
        if (r < 0 && errno == EINTR) r = 0;
        else if (r <= 0) {
            free(*out);
            ok = false;
            break;
        }
    }
    close(fd);
    *n = got;
    return ok;
}

/* Whether a file is whole and holds what it says. */
static bool is_sound(const char *file, size_t n, struct header *h)
{
    if (n < sizeof *h + 32) return false;
    memcpy(h, file, sizeof *h);
    size_t body = n - sizeof *h - 32;
    if (memcmp(h->magic, magic, sizeof magic) || h->key_bytes > body || h->data_bytes != body - h->key_bytes) return false;
    struct sha256 sum = sha256_of(file, n - 32);
    return !memcmp(sum.at, file + n - 32, 32);
}

static bool get_from(const char *where, const void *key, size_t n, void **data, size_t *bytes)
{
    char name[65], *file;
    struct header h;
    size_t size;
    int folder = open_folder(where, false);
    if (folder < 0) return false;
    name_of(key, n, name);
    bool found = read_entry(folder, name, &file, &size), ok = false;
    if (found) {
        ok = is_sound(file, size, &h) && h.key_bytes == n && !memcmp(file + sizeof h, key, n);
        if (!ok) unlinkat(folder, name, 0);
        if (ok && (ok = (*data = malloc(h.data_bytes + 1)) != NULL)) memcpy(*data, file + sizeof h + n, *bytes = h.data_bytes);
        free(file);
    }
    close(folder);
    return ok;
}

bool cache_get(const void *key, size_t n, void **data, size_t *bytes)
{
    char where[4096];
    const char *shared = getenv("DGC_CACHE_SHARED");
    if (!cache_folder(where, sizeof where)) return false;
    return get_from(where, key, n, data, bytes) || (shared && *shared && get_from(shared, key, n, data, bytes));
}

static bool write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t r = write(fd, p, n);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return false;
        p += r, n -= (size_t)r;
    }
    return true;
}

static void put_file(int folder, const char *name, const struct buf *b)
{
    static unsigned count;
    char temporary[128];
    snprintf(temporary, sizeof temporary, ".%.16s.%ld.%u", name, (long)getpid(), __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED));
    int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return;
    bool ok = write_all(fd, b->at, b->n) && !fsync(fd);
    ok &= !close(fd);
    if (!ok || renameat(folder, temporary, folder, name)) unlinkat(folder, temporary, 0);
}

void cache_put(const void *key, size_t n, const void *data, size_t bytes, const char *note)
{
    char where[4096], name[65];
    struct buf b = { 0 };
    struct header h = { .key_bytes = n, .data_bytes = bytes };
    if (!cache_folder(where, sizeof where)) return;
    int folder = open_folder(where, true);
    if (folder < 0) return;
    memcpy(h.magic, magic, sizeof magic);
    snprintf(h.note, sizeof h.note, "%s", note ? note : "");
    buf_bytes(&b, &h, sizeof h);
    buf_bytes(&b, key, n);
    buf_bytes(&b, data, bytes);
    struct sha256 sum = sha256_of(b.at, b.n);
    buf_bytes(&b, sum.at, sizeof sum.at);
    name_of(key, n, name);
    put_file(folder, name, &b);
    buf_free(&b);
    close(folder);
}

/* ---- looking at it -------------------------------------------------------------------------------------------- */

static bool look_at(int folder, const char *name, bool verify, struct cache_item *item)
{
    struct stat st;
    struct header h;
    char *file;
    size_t n;
    *item = (struct cache_item){ 0 };
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode)) return false;
    memcpy(item->name, name, 64);
    item->bytes = (uint64_t)st.st_size;
    item->used = st.st_mtime > st.st_atime ? st.st_mtime : st.st_atime;
    if (!verify || !read_entry(folder, name, &file, &n)) return true;
    item->sound = is_sound(file, n, &h);
    if (item->sound) snprintf(item->note, sizeof item->note, "%.255s", h.note);
    free(file);
    return true;
}

bool cache_each(bool verify, bool (*see)(void *state, const struct cache_item *item), void *state)
{
    char where[4096];
    struct cache_item item;
    int folder = cache_folder(where, sizeof where) ? open_folder(where, false) : -1;
    DIR *d = folder < 0 ? NULL : fdopendir(folder);
    if (!d) return false;
    for (struct dirent *e; (e = readdir(d));)
        if (is_name(e->d_name) && look_at(folder, e->d_name, verify, &item) && !see(state, &item)) break;
    closedir(d);
    return true;
}

bool cache_remove(const char *name)
{
    char where[4096];
    int folder = is_name(name) && cache_folder(where, sizeof where) ? open_folder(where, false) : -1;
    if (folder < 0) return false;
    bool ok = !unlinkat(folder, name, 0);
    close(folder);
    return ok;
}

/* ".0123456789abcdef.PID.N", as put_file names them. */
static bool is_temporary(const char *s)
{
    return s[0] == '.' && strspn(s + 1, "0123456789abcdef") == 16 && s[17] == '.';
}

int cache_sweep(int64_t seconds)
{
    char where[4096];
    struct stat st;
    int swept = 0, folder = cache_folder(where, sizeof where) ? open_folder(where, false) : -1;
    DIR *d = folder < 0 ? NULL : fdopendir(folder);
    if (!d) return 0;
    for (struct dirent *e; (e = readdir(d));)
        if (is_temporary(e->d_name) && !fstatat(folder, e->d_name, &st, AT_SYMLINK_NOFOLLOW) && (int64_t)st.st_mtime + seconds < (int64_t)time(NULL))
            swept += !unlinkat(folder, e->d_name, 0);
    closedir(d);
    return swept;
}
