/* Recorded results: where they are and how a file is read. HW_VECTORS names a folder with other ones (mma/ cvt/ approx/). */
#ifndef TESTS_EMU_HW_H
#define TESTS_EMU_HW_H

#include "dsl/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Unpacks tests/hw/NAME.tar.xz once and returns the folder that holds NAME/. */
static inline const char *hw_folder(const char *name)
{
    static char command[256];
    const char *given = getenv("HW_VECTORS");
    if (given) return given;
    if (system("command -v xz tar >/dev/null")) {
        printf("skipped: recordings of %s (xz or tar is missing)\n", name);
        exit(77);
    }
    snprintf(command, sizeof command, "mkdir -p build/hw/%d && tar -C build/hw/%d -xJf tests/hw/%s.tar.xz",
             (int)getpid(), (int)getpid(), name);
    if (system(command)) {
        printf("cannot unpack tests/hw/%s.tar.xz\n", name);
        exit(1);
    }
    snprintf(command, sizeof command, "build/hw/%d", (int)getpid());
    return command;
}

static inline void hw_clean(void)
{
    char command[64];
    if (getenv("HW_VECTORS")) return;
    snprintf(command, sizeof command, "rm -rf build/hw/%d", (int)getpid());
    if (system(command)) printf("cannot remove build/hw/%d\n", (int)getpid());
}

static inline void *hw_load(const char *folder, const char *name, size_t *n)
{
    char path[1024], *data;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!read_file(path, &data, n)) {
        printf("cannot read %s\n", path);
        exit(1);
    }
    return data;
}

#endif
