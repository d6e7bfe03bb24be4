/* Every kernel of kernels_dsl/ does what its spec says: the interpreter and the emulator (early, late, two random orders),
 * for the ladder on every target, for the others on one target of each tensor-core family. */
#include "runtime/oracle.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
enum { SECONDS = 2, FAMILIES = 2 }; /* slower by ten: less of it */
#else
enum { SECONDS = 4, FAMILIES = 4 };
#endif

static const char *const families[] = { "sm_90a", "sm_120a", "sm_100a", "sm_80" };
static int passed, failed;

static void test(const char *path, const char *target)
{
    struct buf out = { 0 };
    struct oracle_options o = { .path = path, .target = target, .device = "emu", .seed = 1, .cases = 2, .seconds = SECONDS };
    struct oracle_result r = oracle_test(&o, &out);
    bool ok = !r.failed && !r.skipped && r.cases > 0;
    passed += ok;
    failed += !ok;
    int shown = 0; /* the first mistake is enough */
    for (const char *line = out.at; !ok && *line && shown < 4; line += strcspn(line, "\n"), line += *line == '\n')
        if (strncmp(line, "ok ", 3)) printf("%.*s\n", (int)strcspn(line, "\n"), line), shown++;
    buf_free(&out);
}

static bool is_kernel_file(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && !strcmp(name + n - 4, ".dgk") && strcmp(name, "grid.dgk");
}

int main(void)
{
    struct dirent **list;
    int n = scandir("kernels_dsl", &list, NULL, alphasort), n_targets;
    const struct target *targets = target_all(&n_targets);
    for (int i = 0; i < n; i++) {
        char path[512];
        snprintf(path, sizeof path, "kernels_dsl/%s", list[i]->d_name);
        bool ladder = list[i]->d_name[0] == '0' || list[i]->d_name[0] == '1';
        for (int t = 0; is_kernel_file(list[i]->d_name) && t < (ladder ? n_targets : FAMILIES); t++)
            test(path, ladder ? targets[t].name : families[t]);
        free(list[i]);
    }
    if (n >= 0) free(list);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
