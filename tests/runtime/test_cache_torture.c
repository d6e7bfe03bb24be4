/* The cache under what a cluster does to it: 64 processes of 16 threads at once, a kill at every system call of a write, 100000
 * flipped bits, disks that are full, folders that cannot be written, are links, or are not there. Nobody ever sees a wrong entry,
 * and whatever happens the next call puts it right. */
#define _GNU_SOURCE
#include "runtime/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int passed, failed;
static char folder[64] = "/dev/shm/dgc-torture-XXXXXX"; /* in memory, where there is such a place */

static void check(bool ok, const char *what)
{
    if (!ok) printf("FAILED: %s\n", what);
    ok ? passed++ : failed++;
}

/* 1: the right data, 0: none, -1: something else. */
static int get(const char *key, const char *data, size_t n)
{
    void *got;
    size_t bytes;
    if (!cache_get(key, strlen(key), &got, &bytes)) return 0;
    bool same = bytes == n && !memcmp(got, data, n);
    free(got);
    return same ? 1 : -1;
}

static void put(const char *key, const char *data, size_t n) { cache_put(key, strlen(key), data, n, "torture"); }

/* The number of entries, or of temporary files; the name of one of them. */
static int files(bool temporary, char *name)
{
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && (e->d_name[0] == '.') == temporary && ++n && name) sprintf(name, "%s/%.200s", folder, e->d_name);
    if (d) closedir(d);
    return n;
}

static void clear(void)
{
    char name[512];
    while ((files(false, name) || files(true, name)) && !remove(name)) continue;
}

/* What a child says by its exit status. */
static int child_says(int (*what)(void))
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (!child) _exit(what());
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* ---- many at once -------------------------------------------------------------------------------------------- */

enum { PROCESSES = 64, THREADS = 16, KEYS = 5, BYTES = 5000 };

static void *crowd_member(void *arg)
{
    char data[BYTES], key[8];
    intptr_t seed = (intptr_t)arg, bad = 0;
    for (int i = 0; i < 8; i++) {
        int k = (int)(seed + i) % KEYS;
        snprintf(key, sizeof key, "key%d", k);
        memset(data, 'a' + k, sizeof data);
        if ((seed + i) % 6 == 0) put(key, data, sizeof data);
        bad += get(key, data, sizeof data) < 0;
    }
    return (void *)bad;
}

static int crowd_process(void)
{
    pthread_t t[THREADS];
    void *bad;
    int all = 0;
    for (intptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&t[i], NULL, crowd_member, (void *)(i * 7 + getpid()))) return 2;
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], &bad), all += bad != NULL;
    return all != 0;
}

static void crowd(void)
{
    int status, bad = 0;
    fflush(stdout);
    for (int p = 0; p < PROCESSES; p++)
        if (!fork()) _exit(crowd_process());
    while (wait(&status) > 0) bad += !WIFEXITED(status) || WEXITSTATUS(status);
    check(!bad, "64 processes of 16 threads read what was written, or nothing");
    check(files(false, NULL) == KEYS && !files(true, NULL), "they leave an entry a key, and nothing beside");
    clear();
}

/* ---- killed at every system call ----------------------------------------------------------------------------- */

static const char half[] = "data that is there as a whole or not at all";

/* Lets a child write an entry, up to its stop number n at a system call; false when it came to its end before. */
static bool killed_at(int n)
{
    int status;
    pid_t child = fork();
    if (!child) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0)) _exit(77);
        raise(SIGSTOP);
        put("half", half, sizeof half);
        _exit(0);
    }
    waitpid(child, &status, 0);
    for (int i = 0; i < n && WIFSTOPPED(status); i++) {
        ptrace(PTRACE_SYSCALL, child, 0, 0);
        waitpid(child, &status, 0);
    }
    if (!WIFSTOPPED(status)) return false;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return true;
}

static int may_trace(void) { return ptrace(PTRACE_TRACEME, 0, 0, 0) ? 1 : 0; }

static void killed(void)
{
    int n = 1, bad = 0, healed = 0, there = 0, age = files(true, NULL);
    if (child_says(may_trace)) {
        printf("skipped: kills at system calls (ptrace is not permitted here)\n");
        return;
    }
    fflush(stdout);
    for (; n < 2000 && killed_at(n); n++) {
        int found = get("half", half, sizeof half);
        bad += found < 0, there += found > 0;
        put("half", half, sizeof half);
        healed += get("half", half, sizeof half) > 0;
        char name[512];
        while (files(false, name) && !unlink(name)) continue;
    }
    check(n > 20 && n < 2000 && !bad, "killed at any system call, a write leaves the whole entry or none");
    check(healed == n - 1 && there > 0, "and the next write succeeds");
    check(files(true, NULL) > age, "what it leaves beside …");
    check(cache_sweep(3600) == 0 && files(true, NULL) > age, "… is kept while its writer may live,");
    check(cache_sweep(-1) > 0 && files(true, NULL) == 0, "and swept away later");
    clear();
}

/* ---- damage -------------------------------------------------------------------------------------------------- */

static void flipped(void)
{
    enum { FLIPS = 100000 };
    char path[512], *file;
    size_t n;
    unsigned seed = 12345, taken = 0;
    put("key", "data", 4);
    if (files(false, path) != 1 || !read_file(path, &file, &n)) {
        check(false, "an entry is a file");
        return;
    }
    for (int i = 0; i < FLIPS; i++) {
        seed = seed * 1664525u + 1013904223u;
        size_t at = (seed >> 3) % n;
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        file[at] ^= (char)(1 << (seed >> 29));
        taken += fd < 0 || write(fd, file, n) != (ssize_t)n;
        file[at] ^= (char)(1 << (seed >> 29));
        close(fd);
        taken += get("key", "data", 4) != 0;
    }
    free(file);
    check(!taken, "none of 100000 entries with a flipped bit is taken");
    put("key", "data", 4);
    check(get("key", "data", 4) == 1, "and it heals");
    clear();
}

/* ---- no room, no folder -------------------------------------------------------------------------------------- */

static int no_room(void)
{
    struct rlimit r = { 100, 100 };
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &r);
    put("big", half, sizeof half);
    return get("big", half, sizeof half) != 0 || files(false, NULL) || files(true, NULL);
}

static int full_disk(void)
{
    char small[80], data[40000];
    snprintf(small, sizeof small, "%s/small", folder);
    memset(data, 'x', sizeof data);
    if (mkdir(small, 0700) || unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("none", small, "tmpfs", 0, "size=64k,mode=700"))
        return 77;
    setenv("DGC_CACHE_DIR", small, 1);
    put("one", data, sizeof data);
    put("two", data, sizeof data);
    return get("one", data, sizeof data) != 1 || get("two", data, sizeof data) != 0;
}

static int no_descriptors(void)
{
    struct rlimit r = { 3, 3 };
    put("key", "data", 4);
    setrlimit(RLIMIT_NOFILE, &r);
    put("other", "data", 4);
    return get("key", "data", 4) != 0;
}

static int read_only(void)
{
    char mine[64];
    if (geteuid() == 0 && (setgid(65534) || setuid(65534))) return 77;
    snprintf(mine, sizeof mine, "/tmp/dgc-torture-%d", (int)getpid());
    setenv("DGC_CACHE_DIR", mine, 1);
    put("key", "data", 4);
    chmod(mine, 0500);
    put("other", "data", 4);
    bool ok = get("key", "data", 4) == 1 && get("other", "data", 4) == 0;
    setenv("DGC_CACHE_DIR", folder, 1);
    ok &= get("key", "data", 4) == 0; /* another user's */
    put("key", "data", 4);
    chmod(mine, 0700);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", mine);
    return !ok || system(command);
}

static int no_home(void)
{
    static const char *const homes[] = { NULL, "", "relative/home", "/dev/null", "/no/such/home" };
    int bad = 0;
    unsetenv("DGC_CACHE_DIR"), unsetenv("XDG_CACHE_HOME");
    for (int i = 0; i < 5; i++) {
        if (homes[i]) setenv("HOME", homes[i], 1);
        else unsetenv("HOME");
        if (i == 4 && geteuid() == 0) continue; /* root may make it */
        put("key", "data", 4);
        bad += get("key", "data", 4) != 0;
    }
    return bad;
}

/* DGC_CACHE_DIR as a link to `to`, with the mode of what stands there. */
static bool linked(const char *to, int mode)
{
    char real[128], link[128];
    snprintf(real, sizeof real, "%s/%s", folder, to);
    snprintf(link, sizeof link, "%s/link-%s", folder, to);
    if (mode) mkdir(real, 0700), chmod(real, (mode_t)mode);
    if (symlink(real, link)) return false;
    setenv("DGC_CACHE_DIR", link, 1);
    put("key", "data", 4);
    bool found = get("key", "data", 4) == 1;
    setenv("DGC_CACHE_DIR", folder, 1);
    return found;
}

static void places(void)
{
    char below[256];
    check(child_says(no_room) == 0, "a file that may not grow is no entry, and goes away");
    int full = child_says(full_disk);
    if (full == 77) printf("skipped: a full disk (no file system may be mounted here)\n");
    else check(full == 0, "on a full disk what fits is kept, the rest is not");
    check(child_says(no_descriptors) == 0, "without file descriptors there is no cache");
    check(child_says(read_only) % 77 == 0, "a folder that is read-only is read; another user's is not");
    check(child_says(no_home) == 0, "without a home, or with one that is none, there is no cache");
    clear();
    check(linked("good", 0700), "a link to a folder of one's own is followed");
    check(!linked("open", 0777) && !linked("group", 0770), "one to a folder that others may write is not");
    check(!linked("nowhere", 0), "nor one to nothing");
    snprintf(below, sizeof below, "%s/open/inner", folder);
    mkdir(below, 0700);
    setenv("DGC_CACHE_DIR", below, 1);
    put("key", "data", 4);
    check(get("key", "data", 4) == 0, "nor is a folder in one that others may write");
    setenv("DGC_CACHE_DIR", "/dev/null", 1);
    put("key", "data", 4);
    check(get("key", "data", 4) == 0, "a file is no folder");
    setenv("DGC_CACHE_DIR", folder, 1);
}

int main(void)
{
    alarm(100); /* a hang is a failure */
    char command[128];
    if (!mkdtemp(folder) && !mkdtemp(strcpy(folder, "/tmp/dgc-torture-XXXXXX"))) return 1;
    unsetenv("DGC_DISABLE_CACHE"), unsetenv("DGC_CACHE_SHARED");
    setenv("DGC_CACHE_DIR", folder, 1);
    crowd();
    killed();
    flipped();
    places();
    snprintf(command, sizeof command, "rm -r %s", folder);
    (void)!system(command);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
