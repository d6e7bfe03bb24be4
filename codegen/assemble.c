/* assemble - finds an assembler of PTX, runs it, and reads its report. */
#define _GNU_SOURCE /* pipe2 */
#include "codegen/assemble.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* ---- processes ----------------------------------------------------------------------------------------------- */

/* Reads until the other end closes or time is up; false when it is. */
static bool drain(int fd, double until, struct buf *out)
{
    char block[4096];
    for (;;) {
        double left = until - now_ms();
        struct pollfd p = { fd, POLLIN, 0 };
        if (left <= 0) return false;
        int ready = poll(&p, 1, (int)left + 1);
        if (ready < 0 && errno != EINTR) return true;
        if (ready <= 0) continue;
        ssize_t n = read(fd, block, sizeof block);
        if (n == 0) return true;
        if (n > 0) buf_bytes(out, block, (size_t)n);
        else if (errno != EINTR) return true;
    }
}

static int start(char *const argv[], int to, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    if (posix_spawn_file_actions_init(&files)) return -1;
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, to, 1);
    posix_spawn_file_actions_adddup2(&files, to, 2);
    int failed = posix_spawnp(pid, argv[0], &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    return failed;
}

int assemble_spawn(char *const argv[], int timeout_ms, struct buf *out)
{
    int fd[2], status = 0;
    pid_t pid;
    if (pipe2(fd, O_CLOEXEC)) return -1;
    int failed = start(argv, fd[1], &pid);
    close(fd[1]);
    if (failed) {
        close(fd[0]);
        buf_printf(out, "cannot start %s: %s\n", argv[0], strerror(failed));
        return -1;
    }
    bool ended = drain(fd[0], now_ms() + timeout_ms, out);
    close(fd[0]);
    if (!ended) kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    if (!ended) return -2;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- where an assembler may be ------------------------------------------------------------------------------- */

/* PTX ISA versions and the CUDA release that brought each (PTX ISA, Release Notes). */
static const struct {
    int isa, release;
} releases[] = {
    { 700, 1100 }, { 701, 1101 }, { 702, 1102 }, { 703, 1103 }, { 704, 1104 }, { 705, 1105 }, { 706, 1106 }, { 707, 1107 },
    { 708, 1108 }, { 800, 1200 }, { 801, 1201 }, { 802, 1202 }, { 803, 1203 }, { 804, 1204 }, { 805, 1205 }, { 806, 1207 },
    { 807, 1208 }, { 808, 1209 }, { 900, 1300 }, { 901, 1301 }, { 902, 1302 },
};

static int dotted(const char *text)
{
    int major = 0, minor = 0;
    return sscanf(text, "%d.%d", &major, &minor) >= 1 ? major * 100 + minor : 0;
}

int assemble_release_for(const char *isa)
{
    int want = dotted(isa);
    for (int i = 0; i < COUNT(releases); i++)
        if (releases[i].isa >= want) return releases[i].release;
    return releases[COUNT(releases) - 1].release + 1;
}

/* Folders below a site-packages folder that wheels put ptxas and nvJitLink into. */
static const char *const wheel_bins[] = { "nvidia/cu13/bin", "nvidia/cu12/bin", "nvidia/cuda_nvcc/bin",
                                          "triton/backends/nvidia/bin", "torch/bin" };
static const char *const wheel_libs[] = { "nvidia/cu13/lib", "nvidia/cu12/lib", "nvidia/nvjitlink/lib" };

/* What the search knows; `see` is told of each file that exists and returns true to end the search. */
struct search {
    bool (*see)(struct search *s, const char *path);
    const char *forced;
    int want;             /* release wanted, 0: any */
    char *path, *release; /* the one taken */
    size_t room, release_room;
    struct buf *list;
    bool named;           /* the file was named by the user: it is taken or nothing is */
};

static bool executable(const char *path) { return access(path, X_OK) == 0; }

static bool try_file(struct search *s, const char *folder, const char *file)
{
    char path[4096];
    if (!folder || !*folder) return false;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return executable(path) && s->see(s, path);
}

static bool try_below(struct search *s, const char *base)
{
    for (int i = 0; i < COUNT(wheel_bins); i++) {
        char folder[4096];
        snprintf(folder, sizeof folder, "%s/%s", base, wheel_bins[i]);
        if (try_file(s, folder, "ptxas-blackwell") || try_file(s, folder, "ptxas")) return true;
    }
    return false;
}

/* Calls `visit` with each part of a list separated by `separator`. */
static bool each_part(struct search *s, const char *list, char separator, bool (*visit)(struct search *, const char *))
{
    for (const char *p = list, *end; p && *p; p = *end ? end + 1 : NULL) {
        end = strchr(p, separator);
        if (!end) end = p + strlen(p);
        char part[4096];
        snprintf(part, sizeof part, "%.*s", (int)(end - p), p);
        if (*part && visit(s, part)) return true;
    }
    return false;
}

static bool visit_bin(struct search *s, const char *folder) { return try_file(s, folder, "ptxas"); }

static bool try_python(struct search *s, bool (*visit)(struct search *, const char *))
{
    struct buf paths = { 0 };
    char *argv[] = { "python3", "-c", "import sys; print('\\n'.join(p for p in sys.path if p))", NULL };
    bool found = assemble_spawn(argv, 10000, &paths) == 0 && each_part(s, paths.at, '\n', visit);
    buf_free(&paths);
    return found;
}

static bool try_glob(struct search *s, const char *pattern, bool (*visit)(struct search *, const char *))
{
    glob_t g;
    bool found = false;
    if (glob(pattern, 0, NULL, &g)) return false;
    for (size_t i = g.gl_pathc; i-- > 0 && !found;) found = visit(s, g.gl_pathv[i]);
    globfree(&g);
    return found;
}

static bool try_home(struct search *s, const char *variable)
{
    char folder[4096];
    const char *home = getenv(variable);
    if (!home || !*home) return false;
    snprintf(folder, sizeof folder, "%s/bin", home);
    return visit_bin(s, folder);
}

static bool look(struct search *s)
{
    const char *named = s->forced && *s->forced ? s->forced : getenv("DGC_PTXAS");
    if (named && *named) {
        s->named = true;
        return s->see(s, named);
    }
    return try_home(s, "CUDA_HOME") || try_home(s, "CUDA_PATH") || each_part(s, getenv("PATH"), ':', visit_bin) ||
           try_python(s, try_below) || try_home(s, "CONDA_PREFIX") || try_glob(s, "/usr/local/cuda*/bin", visit_bin);
}

/* "Cuda compilation tools, release 13.0, V13.0.88" -> "13.0" */
static bool read_release(const char *path, char *release, size_t room)
{
    struct buf said = { 0 };
    char *argv[] = { (char *)path, "--version", NULL };
    const char *at = assemble_spawn(argv, 20000, &said) == 0 && said.at ? strstr(said.at, "release ") : NULL;
    if (at) snprintf(release, room, "%.*s", (int)strspn(at + 8, "0123456789."), at + 8);
    buf_free(&said);
    return at != NULL;
}

static bool see_first(struct search *s, const char *path)
{
    if (!read_release(path, s->release, s->release_room)) return false;
    if (dotted(s->release) < s->want && !s->named) return false; /* an old one must not hide a good one after it */
    snprintf(s->path, s->room, "%s", path);
    return true;
}

static bool see_all(struct search *s, const char *path)
{
    char release[32];
    if (s->list->at && strstr(s->list->at, path)) return false;
    if (read_release(path, release, sizeof release)) buf_printf(s->list, "%s (%s)\n", path, release);
    return false;
}

bool assemble_find(const char *forced, const char *isa, char *path, size_t room, char *release, size_t release_room)
{
    struct search s = { .see = see_first, .forced = forced, .want = isa ? assemble_release_for(isa) : 0, .path = path, .room = room,
                        .release = release, .release_room = release_room };
    return look(&s);
}

void assemble_list(struct buf *out)
{
    struct search s = { .see = see_all, .list = out };
    buf_bytes(out, "", 0);
    look(&s);
}

/* ---- reports ------------------------------------------------------------------------------------------------- */

static int number_before(const char *text, const char *words)
{
    const char *at = strstr(text, words);
    if (!at) return -1;
    const char *p = at;
    while (p > text && isdigit((unsigned char)p[-1])) p--;
    return p == at ? -1 : atoi(p);
}

static bool has_c75(const char *text)
{
    for (const char *p = text; (p = strstr(p, "(C75")); p++)
        if (isdigit((unsigned char)p[4]) && isdigit((unsigned char)p[5]) && p[6] == ')') return true;
    return false;
}

bool assemble_read_report(const char *text, struct assemble_report *r)
{
    const char *used = strstr(text, ": Used ");
    r->registers = used ? atoi(used + 7) : -1;
    r->stack_bytes = number_before(text, " bytes stack frame");
    r->spill_store_bytes = number_before(text, " bytes spill stores");
    r->spill_load_bytes = number_before(text, " bytes spill loads");
    r->smem_bytes = number_before(text, " bytes smem");
    r->barriers = -1;
    if (used && strstr(used, "used ")) r->barriers = atoi(strstr(used, "used ") + 5);
    return r->spill_store_bytes > 0 || r->spill_load_bytes > 0 || has_c75(text);
}

/* ---- ptxas --------------------------------------------------------------------------------------------------- */

/* The word after a directive that begins a line: ".version 8.6" -> "8.6". */
static bool directive(const char *ptx, const char *name, char *to, size_t room)
{
    size_t n = strlen(name);
    for (const char *p = ptx; p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
        p += strspn(p, " \t");
        if (strncmp(p, name, n) || !isspace((unsigned char)p[n])) continue;
        p += n + strspn(p + n, " \t");
        snprintf(to, room, "%.*s", (int)strcspn(p, " \t\r\n,;"), p);
        return true;
    }
    return false;
}

struct job {
    const char *ptx;
    size_t n;
    const struct assemble_options *o;
    char isa[16], target[32];
    void **cubin;
    size_t *bytes;
    struct assemble_report *report;
    struct buf *log;
};

/* The words of `extra`, in place, behind argv[n]. */
static void add_words(char **argv, int n, int room, char *extra)
{
    char *save = NULL;
    for (char *word = strtok_r(extra, " \t", &save); word && n < room - 1; word = strtok_r(NULL, " \t", &save)) argv[n++] = word;
    argv[n] = NULL;
}

static enum assemble_result judge(const struct job *j, bool bad)
{
    if (!bad || j->o->accept_bad_code) return ASSEMBLE_OK;
    return ASSEMBLE_BAD_CODE;
}

static enum assemble_result run_ptxas(const struct job *j, const char *ptxas, const char *in, const char *out)
{
    char gpu[64], *extra = strdup(j->o->extra ? j->o->extra : ""), *argv[64];
    int n = 0;
    snprintf(gpu, sizeof gpu, "--gpu-name=%s", j->target);
    argv[n++] = (char *)ptxas;
    argv[n++] = "-v";
    argv[n++] = gpu;
    if (j->o->line_info) argv[n++] = "--generate-line-info";
    argv[n++] = "-o";
    argv[n++] = (char *)out;
    argv[n++] = (char *)in;
    add_words(argv, n, COUNT(argv), extra);
    size_t said = j->log->n;
    double from = now_ms();
    int rc = assemble_spawn(argv, j->o->timeout_ms ? j->o->timeout_ms : 120000, j->log);
    j->report->ms = now_ms() - from;
    free(extra);
    if (rc == -2) buf_printf(j->log, "%s did not end within %.0f s and was stopped\n", ptxas, j->report->ms / 1e3);
    if (rc < 0 || rc > 128) return rc == 255 ? ASSEMBLE_REFUSED : ASSEMBLE_BROKEN;
    if (rc) return ASSEMBLE_REFUSED;
    char *cubin = NULL;
    if (!read_file(out, &cubin, j->bytes)) {
        buf_printf(j->log, "%s wrote no cubin\n", ptxas);
        return ASSEMBLE_BROKEN;
    }
    *j->cubin = cubin;
    return judge(j, assemble_read_report(j->log->at ? j->log->at + said : "", j->report));
}

static enum assemble_result by_ptxas(const struct job *j, const char *ptxas)
{
    char folder[4096], in[4200], out[4200];
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/dgc-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(folder)) {
        buf_printf(j->log, "cannot make a folder like %s: %s\n", folder, strerror(errno));
        return ASSEMBLE_BROKEN;
    }
    snprintf(in, sizeof in, "%s/kernel.ptx", folder);
    snprintf(out, sizeof out, "%s/kernel.cubin", folder);
    enum assemble_result r = ASSEMBLE_BROKEN;
    if (write_file(in, j->ptx, j->n)) r = run_ptxas(j, ptxas, in, out);
    else buf_printf(j->log, "cannot write %s: %s\n", in, strerror(errno));
    unlink(in), unlink(out), rmdir(folder);
    return r;
}

/* ---- nvJitLink (prototypes after its documentation; input type 2 is PTX) ------------------------------------- */

struct nvjitlink {
    void *library;
    int (*nvJitLinkCreate)(void **handle, uint32_t n, const char **options);
    int (*nvJitLinkDestroy)(void **handle);
    int (*nvJitLinkAddData)(void *handle, int type, const void *data, size_t size, const char *name);
    int (*nvJitLinkComplete)(void *handle);
    int (*nvJitLinkGetLinkedCubinSize)(void *handle, size_t *size);
    int (*nvJitLinkGetLinkedCubin)(void *handle, void *cubin);
    int (*nvJitLinkGetErrorLogSize)(void *handle, size_t *size);
    int (*nvJitLinkGetErrorLog)(void *handle, char *log);
    int (*nvJitLinkGetInfoLogSize)(void *handle, size_t *size);
    int (*nvJitLinkGetInfoLog)(void *handle, char *log);
    int (*nvJitLinkVersion)(unsigned *major, unsigned *minor);
};

static bool bind_nvjitlink(struct nvjitlink *l)
{
    bool all = true;
#define BIND(name) all = (*(void **)&l->name = dlsym(l->library, #name)) && all
    BIND(nvJitLinkCreate), BIND(nvJitLinkDestroy), BIND(nvJitLinkAddData), BIND(nvJitLinkComplete);
    BIND(nvJitLinkGetLinkedCubinSize), BIND(nvJitLinkGetLinkedCubin), BIND(nvJitLinkGetErrorLogSize), BIND(nvJitLinkGetErrorLog);
    BIND(nvJitLinkGetInfoLogSize), BIND(nvJitLinkGetInfoLog), BIND(nvJitLinkVersion);
#undef BIND
    return all;
}

static bool load_nvjitlink(struct nvjitlink *l, const char *path)
{
    l->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!l->library) return false;
    if (bind_nvjitlink(l)) return true;
    dlclose(l->library);
    l->library = NULL;
    return false;
}

struct library_search {
    struct search search;
    struct nvjitlink *library;
};

static bool visit_library(struct search *s, const char *path) { return load_nvjitlink(((struct library_search *)s)->library, path); }

static bool visit_site(struct search *s, const char *site)
{
    for (int i = 0; i < COUNT(wheel_libs); i++) {
        char pattern[4200];
        snprintf(pattern, sizeof pattern, "%s/%s/libnvJitLink.so.1?", site, wheel_libs[i]);
        if (try_glob(s, pattern, visit_library)) return true;
    }
    return false;
}

static bool find_nvjitlink(struct nvjitlink *l)
{
    struct library_search s = { .library = l };
    return load_nvjitlink(l, "libnvJitLink.so.13") || load_nvjitlink(l, "libnvJitLink.so.12") || try_python(&s.search, visit_site) ||
           try_glob(&s.search, "/usr/local/cuda*/lib64/libnvJitLink.so.1?", visit_library);
}

static void take_log(void *handle, int (*size)(void *, size_t *), int (*get)(void *, char *), struct buf *log)
{
    size_t n = 0;
    if (size(handle, &n) || n < 2) return;
    char *text = calloc(n + 1, 1);
    if (text && !get(handle, text)) buf_printf(log, "%s\n", text);
    free(text);
}

static bool link_cubin(const struct job *j, const struct nvjitlink *l, void *handle)
{
    if (l->nvJitLinkAddData(handle, 2, j->ptx, j->n + 1, "kernel.ptx") || l->nvJitLinkComplete(handle) ||
        l->nvJitLinkGetLinkedCubinSize(handle, j->bytes) || !(*j->cubin = malloc(*j->bytes)))
        return false;
    return l->nvJitLinkGetLinkedCubin(handle, *j->cubin) == 0;
}

static enum assemble_result by_nvjitlink(const struct job *j)
{
    struct nvjitlink l = { 0 };
    unsigned major = 0, minor = 0;
    char arch[64];
    void *handle;
    if (!find_nvjitlink(&l)) return ASSEMBLE_NONE;
    l.nvJitLinkVersion(&major, &minor);
    snprintf(arch, sizeof arch, "-arch=%s", j->target);
    const char *options[] = { arch, "-verbose", "-lineinfo" };
    enum assemble_result r = ASSEMBLE_NONE;
    size_t said = j->log->n;
    double from = now_ms();
    if ((int)(major * 100 + minor) >= assemble_release_for(j->isa) && !l.nvJitLinkCreate(&handle, j->o->line_info ? 3 : 2, options)) {
        bool ok = link_cubin(j, &l, handle);
        take_log(handle, l.nvJitLinkGetInfoLogSize, l.nvJitLinkGetInfoLog, j->log);
        take_log(handle, l.nvJitLinkGetErrorLogSize, l.nvJitLinkGetErrorLog, j->log);
        j->report->ms = now_ms() - from;
        snprintf(j->report->by, sizeof j->report->by, "nvJitLink (%u.%u)", major, minor);
        r = ok ? judge(j, j->log->n > said && assemble_read_report(j->log->at + said, j->report)) : ASSEMBLE_REFUSED;
        l.nvJitLinkDestroy(&handle);
    }
    return r; /* the library stays loaded: it is not made to be unloaded */
}

/* ---- all of them --------------------------------------------------------------------------------------------- */

static enum assemble_result none(const struct job *j)
{
    int release = assemble_release_for(j->isa);
    buf_printf(j->log, "no assembler for PTX %s (%s) on this machine: ptxas of CUDA %d.%d or later is needed; "
               "install one with: pip install 'nvidia-cuda-nvcc>=13.0'   (or name one with --ptxas=PATH or DGC_PTXAS)\n",
               j->isa, j->target, release / 100, release % 100);
    return ASSEMBLE_NONE;
}

enum assemble_result assemble(const char *ptx, size_t n, const struct assemble_options *o, void **cubin, size_t *bytes,
                              struct assemble_report *report, struct buf *log)
{
    struct job j = { .ptx = ptx, .n = n, .o = o, .isa = "8.0", .cubin = cubin, .bytes = bytes, .report = report, .log = log };
    char path[4096], release[32];
    *report = (struct assemble_report){ -1, -1, -1, -1, -1, -1, 0, "" };
    *cubin = NULL;
    *bytes = 0;
    directive(ptx, ".version", j.isa, sizeof j.isa);
    if (o->target) snprintf(j.target, sizeof j.target, "%s", o->target);
    else if (!directive(ptx, ".target", j.target, sizeof j.target)) snprintf(j.target, sizeof j.target, "sm_80");
    if (o->save_ptx) write_file(o->save_ptx, ptx, n);
    const char *named = o->ptxas && *o->ptxas ? o->ptxas : getenv("DGC_PTXAS");
    bool link_only = named && !strcmp(named, "nvjitlink"), driver_only = named && !strcmp(named, "driver");
    if (!link_only && !driver_only) {
        if (assemble_find(o->ptxas, j.isa, path, sizeof path, release, sizeof release)) {
            snprintf(report->by, sizeof report->by, "%.400s (%s)", path, release);
            return by_ptxas(&j, path);
        }
        if (named && *named) {
            buf_printf(log, "'%s' is no ptxas that runs\n", named);
            return ASSEMBLE_NONE;
        }
    }
    enum assemble_result r = driver_only ? ASSEMBLE_NONE : by_nvjitlink(&j);
    if (r != ASSEMBLE_NONE) return r;
    snprintf(report->by, sizeof report->by, "driver");
    if (o->driver && o->driver(ptx, n, j.target, o->line_info, cubin, bytes, log))
        return judge(&j, log->at && assemble_read_report(log->at, report));
    return none(&j);
}
