/* board - a GPU that is not here: its target, its architecture and how many multiprocessors it has, so that calls for it are
 * decided and compiled as on it. Code "loads", everything fits, and nothing runs. "board:sm_90a", "board:sm_90a,sms=114". */
#include "runtime/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compiler/target.h"

static enum dgk_status refuse(struct device *d, struct fault *why)
{
    return fault_set(why, DGK_NO_DEVICE, "%s is not here: calls are compiled for it, and nothing runs", d->props.name);
}

static void board_close(struct device *d) { free(d); }

static uint64_t board_alloc(struct device *d, size_t bytes, const char *name, struct fault *why)
{
    (void)bytes, (void)name;
    refuse(d, why);
    return 0;
}

static void board_release(struct device *d, uint64_t address) { (void)d, (void)address; }

static enum dgk_status board_write(struct device *d, uint64_t to, const void *from, size_t bytes, struct fault *why)
{
    (void)to, (void)from, (void)bytes;
    return refuse(d, why);
}

static enum dgk_status board_read(struct device *d, void *to, uint64_t from, size_t bytes, struct fault *why)
{
    (void)to, (void)from, (void)bytes;
    return refuse(d, why);
}

static enum dgk_status board_fill(struct device *d, uint64_t to, int byte, size_t bytes, struct fault *why)
{
    (void)to, (void)byte, (void)bytes;
    return refuse(d, why);
}

static enum dgk_status board_load(struct device *d, const void *code, size_t bytes, struct device_module **out, struct fault *why)
{
    (void)code, (void)bytes, (void)why;
    *out = (struct device_module *)d; /* looked at by nobody */
    return DGK_OK;
}

static void board_unload(struct device *d, struct device_module *m) { (void)d, (void)m; }

static enum dgk_status board_encode_map(struct device *d, void *out128, const struct device_map *m, struct fault *why)
{
    (void)d, (void)m, (void)why;
    memset(out128, 0, 128);
    return DGK_OK;
}

static enum dgk_status board_resident(struct device *d, const struct device_launch *l, int *ctas, struct fault *why)
{
    int cluster = l->cluster ? (int)l->cluster : 1;
    (void)why;
    *ctas = d->props.sms / cluster * cluster;
    return DGK_OK;
}

static enum dgk_status board_launch(struct device *d, const struct device_launch *l, struct fault *why)
{
    (void)l;
    return refuse(d, why);
}

static enum dgk_status board_sync(struct device *d, struct fault *why)
{
    (void)d, (void)why;
    return DGK_OK;
}

static enum dgk_status board_clock_stop(struct device *d, double *ms, struct fault *why)
{
    *ms = 0;
    return refuse(d, why);
}

static const struct device_ops ops = {
    board_close, board_alloc, board_release, board_write, board_read, board_fill, board_load, board_unload, board_encode_map, board_resident,
    board_launch, board_sync, board_sync, board_clock_stop, device_enter_none, device_leave_none, device_captures_none,
};

/* "sm_90a,sms=114"; without a number, as many multiprocessors as the target's usual board has. */
enum dgk_status board_open(struct device **out, const char *options, const char *target, struct fault *why)
{
    char name[16], suffix = 0, *end = "";
    int n = (int)strcspn(options, ",");
    snprintf(name, sizeof name, "%.*s", n ? n : 15, n ? options : target ? target : "sm_90a");
    const struct target *t = target_find(name);
    long sms = t ? t->sms : 0;
    if (!t) return fault_set(why, DGK_NO_DEVICE, "'%s' is no target; dgc targets lists them", name);
    if (options[n] && (strncmp(options + n, ",sms=", 5) || (sms = strtol(options + n + 5, &end, 10)) < 1 || sms > 100000 || *end))
        return fault_set(why, DGK_USAGE, "'%s' is no option of a board; there is sms=N", options + n + 1);
    struct device *d = calloc(1, sizeof *d);
    if (!d) return fault_set(why, DGK_NO_MEMORY, "no memory for a board");
    int number = device_target_number(name, &suffix);
    d->ops = &ops;
    d->props = (struct device_props){ .major = number / 10, .minor = number % 10, .sms = (int)sms, .smem_bytes = (size_t)t->smem_bytes,
                                        .supposed = true };
    snprintf(d->props.name, sizeof d->props.name, "a board of %s", name);
    snprintf(d->props.arch, sizeof d->props.arch, "sm_%d", number);
    *out = d;
    return DGK_OK;
}
