/* module - a compiled kernel's code on a device: assembled once, then found in the cache. */
#include "runtime/module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compiler/target.h"
#include "runtime/cache.h"

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

/* What decides a cubin: the PTX, the options, and the assembler's release, not where it lies. */
static void put_key(struct buf *key, const char *ptx, size_t n, const struct assemble_options *o)
{
    char path[4096] = "", release[32] = "";
    assemble_find(o->ptxas, NULL, path, sizeof path, release, sizeof release);
    buf_printf(key, "cubin|%s|%s|%s|%d|%d\n", *release ? release : o->ptxas ? o->ptxas : "", o->target ? o->target : "", o->extra ? o->extra : "",
               o->line_info, o->accept_bad_code);
    buf_bytes(key, ptx, n);
}

/* "cubin fp8_gemm sm_90a": for those who list the cache. */
static void put_note(struct buf *note, const char *ptx, const struct assemble_options *o)
{
    const char *entry = strstr(ptx, ".entry"), *target = strstr(ptx, ".target");
    int name = entry ? (int)strspn(entry + 6, " \t") : 0, word = target ? (int)strcspn(target + 8, " ,\n") : 0;
    buf_printf(note, "cubin %.*s %.*s%s%s", entry ? (int)strcspn(entry + 6 + name, " (\n") : 0, entry ? entry + 6 + name : "", word, target ? target + 8 : "",
               o->target ? " for " : "", o->target ? o->target : "");
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
    struct buf key = { 0 }, said = { 0 }, note = { 0 };
    bool cached = !report && !log && !with.save_ptx; /* a cubin from the cache has no report */
    if (!with.driver) with.driver = module_driver_assembles;
    enum dgk_status s = DGK_OK;
    if (cached) put_key(&key, ptx, n, &with);
    if (!cached || !cache_get(key.at, key.n, cubin, bytes)) {
        s = result_status(assemble(ptx, n, &with, cubin, bytes, report ? report : &unasked, &said), &said, why);
        if (!s && cached) put_note(&note, ptx, &with);
        if (!s && cached) cache_put(key.at, key.n, *cubin, *bytes, note.at);
        if (s) {
            free(*cubin);
            *cubin = NULL;
        }
    }
    if (log && said.at) buf_printf(log, "%s", said.at);
    buf_free(&key);
    buf_free(&said);
    buf_free(&note);
    return s;
}

enum dgk_status module_runs(const struct device *d, const struct image *im, struct fault *why)
{
    const struct target *t = target_find(im->target);
    if (device_runs(d, t ? t->ptx_target : im->target)) return DGK_OK;
    return fault_set(why, DGK_UNSUPPORTED, "%s (%s) does not run code for %s", d->props.name, d->props.arch, im->target);
}

enum dgk_status module_cubin(struct device *d, const struct image *im, const struct assemble_options *o, void **cubin, size_t *bytes,
                             struct assemble_report *report, struct fault *why)
{
    /* Code for an earlier chip runs as PTX only: a cubin is made for the chip at hand. */
    const struct target *t = target_find(im->target);
    struct assemble_options here = o ? *o : (struct assemble_options){ 0 };
    char suffix = 0;
    if (device_target_number(t ? t->ptx_target : im->target, &suffix) && !suffix) here.target = d->props.arch;
    return module_assemble(im->ptx, im->ptx_bytes, &here, cubin, bytes, report, NULL, why);
}

enum dgk_status module_load(struct device *d, const struct image *im, const struct assemble_options *o, struct device_module **out,
                            struct assemble_report *report, struct fault *why)
{
    void *cubin;
    size_t bytes;
    if (report) *report = (struct assemble_report){ -1, -1, -1, -1, -1, -1, 0, "" };
    enum dgk_status s = module_runs(d, im, why);
    if (s) return s;
    if (d->props.emulated) return d->ops->load(d, im->ptx, im->ptx_bytes, out, why);
    s = module_cubin(d, im, o, &cubin, &bytes, report, why);
    if (s == DGK_NO_ASSEMBLER) return d->ops->load(d, im->ptx, im->ptx_bytes, out, why);
    if (s) return s;
    s = d->ops->load(d, cubin, bytes, out, why);
    free(cubin);
    return s;
}
