/* The cache gives back what was put under the same whole key; takes a damaged, truncated, foreign, linked or unsafe entry for
 * none and heals; never stands in the way where it cannot write; and serves processes that write the same entry at once. */
#include "runtime/cache.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
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
    if (!cache_get(key, strlen(key), &got, &n)) return false;
    bool same = n == strlen(data) && !memcmp(got, data, n);
    free(got);
    return same;
}

static void put(const char *key, const char *data) { cache_put(key, strlen(key), data, strlen(data), "note"); }

static int files(char *first)
{
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && ++n && first) sprintf(first, "%s/%.200s", folder, e->d_name);
    if (d) closedir(d);
    return n;
}

/* Flips a bit at `at`, keeps `keep` bytes. */
static void damage(const char *path, size_t at, size_t keep)
{
    char *file;
    size_t n;
    if (!read_file(path, &file, &n)) return;
    if (at < n) file[at] ^= 1;
    FILE *f = fopen(path, "wb");
    fwrite(file, 1, keep < n ? keep : n, f);
    fclose(f);
    free(file);
}

static void damaged(void)
{
    char path[512], *file;
    size_t n, bad = 0;
    put("key", "data");
    check(finds("key", "data") && !finds("kez", "data"), "what was put is found, under its key");
    check(files(path) == 1, "an entry is one file");
    read_file(path, &file, &n);
    free(file);
    for (size_t i = 0; i < n; i++) {
        put("key", "data");
        damage(path, i, n);
        bad += finds("key", "data");
    }
    check(!bad, "no entry with a flipped bit is taken");
    for (size_t keep = 0; keep < n; keep++) {
        put("key", "data");
        damage(path, n, keep);
        bad += finds("key", "data");
    }
    check(!bad, "no truncated entry is taken");
    check(files(NULL) == 0, "and each was taken away");
    put("key", "data");
    check(finds("key", "data"), "a damaged entry is made anew");

    char other[600];
    snprintf(other, sizeof other, "%s.real", folder);
    rename(path, other);
    check(!symlink(other, path) && !finds("key", "data"), "a link is not followed");
    unlink(path);
    rename(other, path);
    check(finds("key", "data"), "the file itself is read");
    chmod(path, 0666);
    check(!finds("key", "data"), "a file that others may write is not");
    unlink(path);
}

static void unsafe(void)
{
    char text[4400];
    put("key", "data");
    chmod(folder, 0777);
    check(!finds("key", "data") && cache_unsafe(folder, text, sizeof text) && strstr(text, "others may write"), "a folder that others may write is not used");
    put("other", "data");
    chmod(folder, 0700);
    check(finds("key", "data") && !finds("other", "data"), "not for writing, either");
    check(!cache_unsafe(folder, text, sizeof text), "below /tmp, whose sticky bit keeps others out, is safe");
    if (geteuid() == 0) {
        check(!chown(folder, 12345, 12345) && (!finds("key", "data") || 0), "nor is one of another user");
        (void)!chown(folder, 0, 0);
    }
}

static void elsewhere(void)
{
    char shared[64];
    setenv("DGC_DISABLE_CACHE", "1", 1);
    check(!finds("key", "data"), "a cache that is off has nothing");
    unsetenv("DGC_DISABLE_CACHE");
    setenv("DGC_CACHE_DIR", "/proc/no/such/place", 1);
    put("key", "data");
    check(!finds("key", "data"), "a cache that cannot be written is passed over");
    snprintf(shared, sizeof shared, "%s/deep/er", folder);
    setenv("DGC_CACHE_DIR", shared, 1);
    put("key", "data");
    struct stat st;
    check(finds("key", "data") && !stat(shared, &st) && (st.st_mode & 0777) == 0700, "folders are made, for this user alone");
    setenv("DGC_CACHE_SHARED", folder, 1);
    setenv("DGC_CACHE_DIR", "/proc/no/such/place", 1);
    setenv("DGC_CACHE_DIR", folder, 1);
    put("common", "data");
    setenv("DGC_CACHE_DIR", shared, 1);
    check(finds("common", "data"), "a second folder is read");
    unsetenv("DGC_CACHE_SHARED");
    setenv("DGC_CACHE_DIR", folder, 1);
}

/* Eight processes write and read the same entries; nobody ever sees a wrong one. */
static void together(void)
{
    enum { PROCESSES = 8, ROUNDS = 150, BYTES = 20000 };
    int bad = 0, status;
    fflush(stdout);
    for (int p = 0; p < PROCESSES; p++) {
        if (fork()) continue;
        static char data[BYTES + 1];
        for (int i = 0; i < ROUNDS; i++) {
            char key[16];
            void *got;
            size_t n;
            snprintf(key, sizeof key, "key%d", i % 5);
            memset(data, 'a' + i % 5, BYTES);
            cache_put(key, strlen(key), data, BYTES, "together");
            if (cache_get(key, strlen(key), &got, &n)) {
                if (n != BYTES || memcmp(got, data, n)) _exit(1);
                free(got);
            }
        }
        _exit(0);
    }
    for (int p = 0; p < PROCESSES; p++) wait(&status), bad += !WIFEXITED(status) || WEXITSTATUS(status);
    check(!bad, "processes that write the same entries at once");
    int left = 0;
    char path[512];
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) left += e->d_name[0] == '.' && e->d_name[1] && e->d_name[1] != '.';
    if (d) closedir(d);
    check(!left && files(path) >= 5, "no temporary file is left");
}

static bool count(void *state, const struct cache_item *item)
{
    int *n = state;
    n[0]++, n[1] += item->sound && !strcmp(item->note, "together");
    return true;
}

static void listed(void)
{
    int n[2] = { 0 };
    check(cache_each(true, count, n) && n[0] > 5 && n[1] == 5, "entries are listed with their notes");
    check(!cache_remove("../etc/passwd") && !cache_remove(""), "only entries are removed");
}

int main(void)
{
    char command[128];
    struct sha256 h = sha256_of("abc", 3);
    check(h.at[0] == 0xba && h.at[1] == 0x78 && h.at[31] == 0xad, "SHA-256 of abc");
    h = sha256_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56);
    check(h.at[0] == 0x24 && h.at[1] == 0x8d && h.at[31] == 0xc1, "of 56 bytes");
    if (!mkdtemp(folder)) return 1;
    unsetenv("DGC_DISABLE_CACHE"), unsetenv("DGC_CACHE_SHARED");
    setenv("DGC_CACHE_DIR", folder, 1);
    check(!finds("key", "data"), "an empty cache has nothing");
    damaged();
    unsafe();
    elsewhere();
    together();
    listed();
    snprintf(command, sizeof command, "rm -r %s", folder);
    (void)!system(command);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
