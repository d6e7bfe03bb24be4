/* The cache gives back what was put under the same whole key, takes a damaged, truncated or foreign entry for none, and
 * never stands in the way where it cannot write. */
#include "runtime/module.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int passed, failed;
static char folder[] = "/tmp/dgc-cache-XXXXXX";

static void check(bool ok, const char *what)
{
    if (!ok) printf("FAILED: %s\n", what);
    ok ? passed++ : failed++;
}

static bool finds(const char *key, const char *data)
{
    void *got;
    size_t n;
    if (!module_cache_get(key, strlen(key), &got, &n)) return false;
    bool same = n == strlen(data) && !memcmp(got, data, n);
    free(got);
    return same;
}

/* The only file of the cache. */
static const char *entry(void)
{
    static char path[512];
    DIR *d = opendir(folder);
    path[0] = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') snprintf(path, sizeof path, "%s/%.200s", folder, e->d_name);
    if (d) closedir(d);
    return path;
}

static void damage(size_t at, size_t keep)
{
    char *file;
    size_t n;
    if (!read_file(entry(), &file, &n)) return;
    if (at < n) file[at] ^= 1;
    write_file(entry(), file, keep < n ? keep : n);
    free(file);
}

int main(void)
{
    if (!mkdtemp(folder)) return 1;
    unsetenv("DGC_DISABLE_CACHE");
    setenv("DGC_CACHE_DIR", folder, 1);
    check(!finds("key", "data"), "an empty cache has nothing");
    module_cache_put("key", 3, "data", 4);
    check(finds("key", "data"), "what was put is found");
    check(!finds("kez", "data"), "another key is not");
    char *file;
    size_t n, bad = 0;
    read_file(entry(), &file, &n);
    free(file);
    for (size_t i = 0; i < n; i++) {
        damage(i, n);
        bad += finds("key", "data");
        damage(i, n);
    }
    check(bad == 0 && finds("key", "data"), "no entry with a flipped bit is taken");
    for (size_t keep = 0; keep < n; keep++) {
        module_cache_put("key", 3, "data", 4);
        damage(n, keep);
        bad += finds("key", "data");
    }
    check(bad == 0, "no truncated entry is taken");
    module_cache_put("key", 3, "data", 4);
    check(finds("key", "data"), "a damaged entry is made anew");
    setenv("DGC_DISABLE_CACHE", "1", 1);
    check(!finds("key", "data"), "a cache that is off has nothing");
    unsetenv("DGC_DISABLE_CACHE");
    setenv("DGC_CACHE_DIR", "/dev/null/place", 1);
    module_cache_put("key", 3, "data", 4);
    check(!finds("key", "data"), "a cache that cannot be written is passed over");
    unlink(entry());
    rmdir(folder);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
