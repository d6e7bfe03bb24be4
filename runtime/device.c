/* device - opens a device by name. */
#include "runtime/device.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *kind;
    enum dgk_status (*open)(struct device **out, const char *options, const char *target, struct fault *why);
} kinds[] = {
    { "emu", emulator_open },
    { "cuda", cuda_open },
    { "board", board_open },
};

enum dgk_status device_open(struct device **out, const char *spec, const char *target, struct fault *why)
{
    size_t n = strcspn(spec, ":");
    for (int i = 0; i < COUNT(kinds); i++)
        if (strlen(kinds[i].kind) == n && !strncmp(kinds[i].kind, spec, n))
            return kinds[i].open(out, spec[n] ? spec + n + 1 : "", target, why);
    return fault_set(why, DGK_USAGE, "'%s' is no device; write cuda, cuda:N, emu, or emu:TARGET with ,late ,early ,seed=N ,sms=N, or board:TARGET with ,sms=N", spec);
}

void device_close(struct device *d)
{
    if (d) d->ops->close(d);
}

int device_target_number(const char *target, char *suffix)
{
    char *end;
    if (strncmp(target, "sm_", 3)) return 0;
    long n = strtol(target + 3, &end, 10);
    if (end == target + 3 || n < 50 || n > 999) return 0;
    if (*end && ((*end != 'a' && *end != 'f') || end[1])) return 0;
    *suffix = *end;
    return (int)n;
}

/* PTX ISA, .target: plain targets run on every later device, 'a' on that one only, 'f' within its family. */
bool device_runs(const struct device *d, const char *target)
{
    char suffix;
    int n = device_target_number(target, &suffix), have = d->props.major * 10 + d->props.minor;
    if (!n) return false;
    if (suffix == 'a') return n == have;
    if (suffix == 'f') return n / 10 == have / 10 && have >= n;
    return have >= n;
}

void *device_enter_none(struct device *d) { return d; }
void device_leave_none(struct device *d, void *before) { (void)d, (void)before; }

bool device_captures_none(struct device *d, void *stream)
{
    (void)d, (void)stream;
    return false;
}
