/* emulator - the CPU emulator of PTX as a device. */
#include "runtime/device.h"
#include "runtime/emu/emu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct emulator {
    struct device device;
    struct emu *emu;
    double seconds; /* spent in launches since clock_start */
    uint64_t steps; /* of all warps, in the same time; what the clock shows when asked for: a nanosecond each */
    bool counts_steps;
};

/* The chip whose arithmetic a compute capability has, and its shared memory. */
static const struct {
    int capability;
    enum emu_chip chip;
    size_t smem_bytes;
} chips[] = {
    { 80, EMU_SM80, 166912 },  { 86, EMU_SM80, 101376 },   { 87, EMU_SM80, 166912 },   { 88, EMU_SM80, 101376 },
    { 89, EMU_SM89, 101376 },  { 90, EMU_SM90, 232448 },   { 100, EMU_SM100, 232448 }, { 103, EMU_SM103, 232448 },
    { 110, EMU_SM100, 232448 }, { 120, EMU_SM120, 101376 }, { 121, EMU_SM121, 101376 },
};

static struct emulator *of(struct device *d) { return (struct emulator *)d; }

static enum dgk_status failed(struct emulator *e, enum dgk_status s, struct fault *why)
{
    const char *text = emu_error(e->emu);
    return fault_set(why, s, "%s", text && *text ? text : "the emulator gives no reason");
}

static void emulator_close(struct device *d)
{
    emu_close(of(d)->emu);
    free(d);
}

static uint64_t emulator_alloc(struct device *d, size_t bytes, const char *name, struct fault *why)
{
    uint64_t p = emu_alloc(of(d)->emu, bytes ? bytes : 1, name);
    if (!p) fault_set(why, DGK_NO_MEMORY, "the emulator has no memory for '%s', %zu bytes", name, bytes);
    return p;
}

static void emulator_release(struct device *d, uint64_t p) { emu_free(of(d)->emu, p); }

static enum dgk_status emulator_write(struct device *d, uint64_t to, const void *from, size_t n, struct fault *why)
{
    return emu_write(of(d)->emu, to, from, n) ? DGK_OK : failed(of(d), DGK_LAUNCH, why);
}

static enum dgk_status emulator_read(struct device *d, void *to, uint64_t from, size_t n, struct fault *why)
{
    return emu_read(of(d)->emu, from, to, n) ? DGK_OK : failed(of(d), DGK_LAUNCH, why);
}

static enum dgk_status emulator_fill(struct device *d, uint64_t to, int byte, size_t n, struct fault *why)
{
    return emu_fill(of(d)->emu, to, byte, n) ? DGK_OK : failed(of(d), DGK_LAUNCH, why);
}

static enum dgk_status emulator_load(struct device *d, const void *code, size_t n, struct device_module **out, struct fault *why)
{
    if (n >= 4 && !memcmp(code, "\177ELF", 4))
        return fault_set(why, DGK_UNSUPPORTED, "the emulator runs PTX; this is a cubin");
    *out = (struct device_module *)emu_load(of(d)->emu, code, n);
    return *out ? DGK_OK : failed(of(d), DGK_BAD_PTX, why);
}

static void emulator_unload(struct device *d, struct device_module *m) { emu_unload(of(d)->emu, (struct emu_module *)m); }

static enum dgk_status emulator_encode_map(struct device *d, void *out128, const struct device_map *m, struct fault *why)
{
    struct emu_tensor_map e = { .data_type = m->data_type, .rank = m->rank, .swizzle = m->swizzle, .l2_promotion = 2,
                                .oob_fill = m->oob_nan, .address = m->address };
    memcpy(e.dim, m->dim, sizeof e.dim);
    memcpy(e.stride, m->stride, sizeof e.stride);
    memcpy(e.box, m->box, sizeof e.box);
    for (int i = 0; i < 5; i++) e.element_stride[i] = 1;
    return emu_encode_tensor_map(of(d)->emu, out128, &e) ? DGK_OK : failed(of(d), DGK_BAD_BOX, why);
}

static enum dgk_status emulator_resident(struct device *d, const struct device_launch *l, int *ctas, struct fault *why)
{
    (void)why;
    int cluster = l->cluster ? (int)l->cluster : 1;
    *ctas = d->props.sms / cluster * cluster;
    if (*ctas == 0) *ctas = cluster;
    return DGK_OK;
}

static enum dgk_status emulator_launch(struct device *d, const struct device_launch *l, struct fault *why)
{
    struct emu_launch e = { .entry = l->symbol, .grid = { l->grid, 1, 1 }, .block = { l->threads, 1, 1 },
                            .cluster = { l->cluster ? l->cluster : 1, 1, 1 }, .dynamic_smem = l->smem_bytes,
                            .params = l->params, .param_bytes = l->param_bytes };
    struct emu_stats stats = { 0 };
    bool ok = emu_run(of(d)->emu, (struct emu_module *)l->module, &e, &stats);
    of(d)->seconds += stats.seconds;
    of(d)->steps += stats.warp_steps;
    return ok ? DGK_OK : failed(of(d), DGK_LAUNCH, why);
}

static enum dgk_status emulator_sync(struct device *d, struct fault *why)
{
    (void)d, (void)why;
    return DGK_OK;
}

static enum dgk_status emulator_clock_start(struct device *d, struct fault *why)
{
    (void)why;
    of(d)->seconds = 0;
    of(d)->steps = 0;
    return DGK_OK;
}

static enum dgk_status emulator_clock_stop(struct device *d, double *ms, struct fault *why)
{
    (void)why;
    *ms = of(d)->counts_steps ? (double)of(d)->steps * 1e-6 : of(d)->seconds * 1e3;
    return DGK_OK;
}

static const struct device_ops ops = {
    emulator_close, emulator_alloc, emulator_release, emulator_write, emulator_read, emulator_fill, emulator_load,
    emulator_unload, emulator_encode_map, emulator_resident, emulator_launch, emulator_sync, emulator_clock_start,
    emulator_clock_stop, device_enter_none, device_leave_none, device_captures_none,
};

static enum dgk_status find_chip(const char *target, struct emu_config *c, struct device_props *p, struct fault *why)
{
    char suffix;
    int n = device_target_number(target, &suffix);
    for (int i = 0; i < COUNT(chips); i++) {
        if (chips[i].capability != n) continue;
        c->chip = chips[i].chip;
        c->capability = n;
        p->smem_bytes = chips[i].smem_bytes;
        p->major = n / 10, p->minor = n % 10;
        snprintf(p->arch, sizeof p->arch, "sm_%d", n);
        snprintf(p->name, sizeof p->name, "emulated %s", target);
        return DGK_OK;
    }
    return fault_set(why, DGK_NO_DEVICE, "there is no emulated '%s'; there are sm_80 to sm_121a", target);
}

static enum dgk_status option(const char *word, struct emu_config *c, bool *counts_steps, struct fault *why)
{
    if (!strcmp(word, "early")) c->timing = EMU_EARLY;
    else if (!strcmp(word, "late")) c->timing = EMU_LATE;
    else if (!strncmp(word, "seed=", 5)) c->timing = EMU_SEEDED, c->seed = strtoull(word + 5, NULL, 0);
    else if (!strncmp(word, "sms=", 4)) c->sms = atoi(word + 4);
    else if (!strncmp(word, "threads=", 8)) c->threads = atoi(word + 8);
    else if (!strncmp(word, "steps=", 6)) c->step_limit = strtoull(word + 6, NULL, 0);
    else if (!strcmp(word, "clock=steps")) *counts_steps = true;
    else return fault_set(why, DGK_USAGE, "'%s' is no option of the emulator; there are early, late, seed=, sms=, threads=, steps=, clock=steps", word);
    return DGK_OK;
}

static enum dgk_status settings(const char *text, const char *target, struct emu_config *c, struct device_props *p, bool *counts_steps,
                                struct fault *why)
{
    char *copy = strdup(text), *save = NULL;
    enum dgk_status s = find_chip(target ? target : "sm_90a", c, p, why);
    for (char *word = strtok_r(copy, ",", &save); word && !s; word = strtok_r(NULL, ",", &save))
        s = strncmp(word, "sm_", 3) ? option(word, c, counts_steps, why) : find_chip(word, c, p, why);
    free(copy);
    return s;
}

enum dgk_status emulator_open(struct device **out, const char *options, const char *target, struct fault *why)
{
    struct emu_config c = { 0 };
    struct emulator *e = calloc(1, sizeof *e);
    if (!e) return fault_set(why, DGK_NO_MEMORY, "no memory for an emulator");
    enum dgk_status s = settings(options, target, &c, &e->device.props, &e->counts_steps, why);
    if (!s && !(e->emu = emu_open(&c))) s = fault_set(why, DGK_NO_MEMORY, "no memory for an emulator");
    if (s) {
        free(e);
        return s;
    }
    e->device.ops = &ops;
    e->device.props.sms = c.sms ? c.sms : 4;
    e->device.props.memory_bytes = (size_t)1 << 34;
    e->device.props.emulated = true;
    snprintf(e->device.props.driver, sizeof e->device.props.driver, "none");
    *out = &e->device;
    return DGK_OK;
}
