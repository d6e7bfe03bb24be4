/* Element-wise code: each kernel of tests/codegen/tile/, on one GPU of every family, does on the emulator what its spec says.
 * With arguments:  test_tile FILE.dgk [TARGET [DEVICE]]  tests one file. */
#include "runtime/oracle.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;

static void test_file(const char *path, const char *target, const char *device, int cases)
{
    char emulated[64];
    struct buf out = { 0 };
    snprintf(emulated, sizeof emulated, "emu:%s", target);
    const struct oracle_options o = { .path = path, .target = target, .device = device ? device : emulated, .seed = 1, .cases = cases };
    struct oracle_result r = oracle_test(&o, &out);
    if (r.failed) printf("%s", out.at ? out.at : path);
    passed += r.groups - r.failed;
    failed += r.failed;
    buf_free(&out);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv)
{
    static const char *const targets[] = { "sm_80", "sm_90a", "sm_100a", "sm_120a" };
    const char *folder = "tests/codegen/tile";
    char *path[64];
    int n = 0;
    DIR *d = argc > 1 ? NULL : opendir(folder);
    for (struct dirent *e; d && n < COUNT(path) && (e = readdir(d));) {
        if (!strstr(e->d_name, ".dgk")) continue;
        path[n] = malloc(strlen(folder) + strlen(e->d_name) + 2);
        sprintf(path[n++], "%s/%s", folder, e->d_name);
    }
    if (d) closedir(d);
    qsort(path, (size_t)n, sizeof *path, by_name);
    for (int i = 0; i < n; i++)
        for (int t = 0; t < COUNT(targets); t++) test_file(path[i], targets[t], NULL, t ? 1 : 2);
    if (argc > 1) test_file(argv[1], argc > 2 ? argv[2] : "sm_90a", argc > 3 ? argv[3] : NULL, 4);
    for (int i = 0; i < n; i++) free(path[i]);
    failed += argc == 1 && !n;
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
