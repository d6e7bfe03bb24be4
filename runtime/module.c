/* module - a compiled kernel's code on a device, and the cache of assembled code.
 *
 * A cache entry is one file that holds its whole key, so that neither a collision nor a half-written or damaged file can
 * be taken for the code asked for: magic, sizes, key, data, checksum. It is written beside its place and renamed. */
#include "runtime/module.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "compiler/target.h"

/* ---- the cache ----------------------------------------------------------------------------------------------- */

struct entry_header {
    char magic[8];
    uint64_t key_bytes, data_bytes, checksum;
};
static const char magic[8] = "dgc\0cub1";

static uint64_t hash(uint64_t h, const void *p, size_t n) /* FNV-1a */
{
    for (size_t i = 0; i < n; i++) h = (h ^ ((const unsigned char *)p)[i]) * 1099511628211u;
    return h;
}
enum { HASH_SEED = 0x2325 };

bool module_cache_folder(char *to, size_t room)
{
    const char *off = getenv("DGC_DISABLE_CACHE"), *named = getenv("DGC_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (off && *off && strcmp(off, "0")) return false;
    if (named && *named) snprintf(to, room, "%s", named);
    else if (xdg && *xdg) snprintf(to, room, "%s/dgc", xdg);
    else if (home && *home) snprintf(to, room, "%s/.cache/dgc", home);
    else return false;
    return true;
}

static bool entry_path(const char *key, size_t n, char *to, size_t room)
{
    char folder[3900];
    if (!module_cache_folder(folder, sizeof folder)) return false;
    snprintf(to, room, "%s/%016llx%016llx.cubin", folder, (unsigned long long)hash(HASH_SEED, key, n),
             (unsigned long long)hash(hash(HASH_SEED, "2", 1), key, n));
    return true;
}

/* Makes every folder above the file. */
static void make_folders(char *path)
{
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(path, 0777);
        *p = '/';
    }
}

static bool entry_matches(const char *file, size_t size, const char *key, size_t n)
{
    struct entry_header h;
    if (size < sizeof h) return false;
    memcpy(&h, file, sizeof h);
    return !memcmp(h.magic, magic, sizeof magic) && h.key_bytes == n && h.data_bytes == size - sizeof h - n && size - sizeof h >= n &&
           !memcmp(file + sizeof h, key, n) && hash(HASH_SEED, file + sizeof h + n, h.data_bytes) == h.checksum;
}

bool module_cache_get(const char *key, size_t n, void **data, size_t *bytes)
{
    char path[4096], *file;
    size_t size;
    if (!entry_path(key, n, path, sizeof path) || !read_file(path, &file, &size)) return false;
    bool ok = entry_matches(file, size, key, n);
    if (ok) {
        *bytes = size - sizeof(struct entry_header) - n;
        *data = malloc(*bytes + 1);
        if (*data) memcpy(*data, file + sizeof(struct entry_header) + n, *bytes);
        ok = *data != NULL;
    }
    free(file);
    return ok;
}

void module_cache_put(const char *key, size_t n, const void *data, size_t bytes)
{
    char path[4096];
    struct buf b = { 0 };
    struct entry_header h = { .key_bytes = n, .data_bytes = bytes, .checksum = hash(HASH_SEED, data, bytes) };
    if (!entry_path(key, n, path, sizeof path)) return;
    memcpy(h.magic, magic, sizeof magic);
    make_folders(path);
    buf_bytes(&b, &h, sizeof h);
    buf_bytes(&b, key, n);
    buf_bytes(&b, data, bytes);
    write_file(path, b.at, b.n); /* what cannot be kept is made again */
    buf_free(&b);
}

/* ---- assembling ---------------------------------------------------------------------------------------------- */

bool module_driver_assembles(const char *ptx, size_t n, const char *target, bool line_info, void **cubin, size_t *bytes, struct buf *log)
{
    char report[8192] = "";
    struct fault why = { 0 };
    struct device_link o = { target, line_info, report, sizeof report - 1 };
    enum dgk_status s = cuda_link(ptx, n, &o, cubin, bytes, &why);
    buf_printf(log, "%s%s", report, s && s != DGK_NO_DRIVER ? why.text : "");
    return s == DGK_OK;
}

static void put_key(struct buf *key, const char *ptx, size_t n, const struct assemble_options *o)
{
    char path[4096] = "", release[32] = "";
    assemble_find(o->ptxas, NULL, path, sizeof path, release, sizeof release);
    buf_printf(key, "%s|%s|%s|%s|%d|%d\n", path, release, o->target ? o->target : "", o->extra ? o->extra : "", o->line_info, o->accept_bad_code);
    buf_bytes(key, ptx, n);
}

static enum dgk_status result_status(enum assemble_result r, const struct buf *log, struct fault *why)
{
    const char *said = log->at ? log->at : "";
    switch (r) {
    case ASSEMBLE_OK: return DGK_OK;
    case ASSEMBLE_REFUSED: return fault_set(why, DGK_BAD_PTX, "the assembler refuses this PTX:\n%s", said);
    case ASSEMBLE_BAD_CODE:
        return fault_set(why, DGK_BAD_CODE, "the assembler spilled registers or serialised tensor-core instructions (--allow-spills accepts it):\n%s", said);
    case ASSEMBLE_NONE: return fault_set(why, DGK_NO_ASSEMBLER, "%s", said);
    default: return fault_set(why, DGK_NO_ASSEMBLER, "the assembler could not do its work:\n%s", said);
    }
}

enum dgk_status module_assemble(const char *ptx, size_t n, const struct assemble_options *o, void **cubin, size_t *bytes,
                                struct assemble_report *report, struct buf *log, struct fault *why)
{
    static const struct assemble_options none;
    struct assemble_options with = o ? *o : none;
    struct assemble_report unasked;
    struct buf key = { 0 }, said = { 0 };
    bool cached = !report && !log && !with.save_ptx; /* a cubin from the cache has no report */
    if (!with.driver) with.driver = module_driver_assembles;
    enum dgk_status s = DGK_OK;
    if (cached) put_key(&key, ptx, n, &with);
    if (!cached || !module_cache_get(key.at, key.n, cubin, bytes)) {
        s = result_status(assemble(ptx, n, &with, cubin, bytes, report ? report : &unasked, &said), &said, why);
        if (!s && cached) module_cache_put(key.at, key.n, *cubin, *bytes);
        if (s) {
            free(*cubin);
            *cubin = NULL;
        }
    }
    if (log && said.at) buf_printf(log, "%s", said.at);
    buf_free(&key);
    buf_free(&said);
    return s;
}

enum dgk_status module_load(struct device *d, const struct image *im, const struct assemble_options *o, struct device_module **out,
                            struct assemble_report *report, struct fault *why)
{
    const struct target *t = target_find(im->target);
    void *cubin;
    size_t bytes;
    if (report) *report = (struct assemble_report){ -1, -1, -1, -1, -1, -1, 0, "" };
    if (!device_runs(d, t ? t->ptx_target : im->target))
        return fault_set(why, DGK_UNSUPPORTED, "%s (%s) does not run code for %s", d->props.name, d->props.arch, im->target);
    if (d->props.emulated) return d->ops->load(d, im->ptx, im->ptx_bytes, out, why);
    /* Code for an earlier chip runs as PTX only: a cubin is made for the chip at hand. */
    struct assemble_options here = o ? *o : (struct assemble_options){ 0 };
    char suffix = 0;
    if (device_target_number(t ? t->ptx_target : im->target, &suffix) && !suffix) here.target = d->props.arch;
    enum dgk_status s = module_assemble(im->ptx, im->ptx_bytes, &here, &cubin, &bytes, report, NULL, why);
    if (s == DGK_NO_ASSEMBLER) return d->ops->load(d, im->ptx, im->ptx_bytes, out, why);
    if (s) return s;
    s = d->ops->load(d, cubin, bytes, out, why);
    free(cubin);
    return s;
}
