/* cli - the dgc command: one verb, its options, its exit status. */
#include "runtime/cli.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int (*const verbs[])(struct cli *c) = {
#define VERB(name, arguments, summary) [VERB_##name] = cli_verb_##name,
#include "runtime/cli.def"
};

int cli_fail(const struct fault *why)
{
    fflush(stdout);
    fprintf(stderr, "dgc: error: %s\n", why->text);
    return status_exit(why->status);
}

int cli_usage(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "dgc: error: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    return status_exit(DGK_USAGE);
}

bool cli_color(const struct cli *c)
{
    const char *no = getenv("NO_COLOR"), *force = getenv("CLICOLOR_FORCE"), *term = getenv("TERM");
    if (c->color && !strcmp(c->color, "always")) return true;
    if (c->color && !strcmp(c->color, "never")) return false;
    if (no && *no) return false;
    if (force && *force && strcmp(force, "0")) return true;
    return isatty(2) && term && strcmp(term, "dumb");
}

/* A fault of our own ends with the status that says so; what is known goes to stderr with async-safe calls only. */
static void on_crash(int sig)
{
    static const char text[] = "dgc: internal error: this is a fault of dgc, not of your kernel. Please report it with the command "
                               "line and the file.\n";
    (void)sig;
    if (write(2, text, sizeof text - 1) < 0) _exit(71);
    _exit(70);
}

int main(int argc, char **argv)
{
    struct cli c = { 0 };
#ifndef __SANITIZE_ADDRESS__
    signal(SIGABRT, on_crash);
    signal(SIGSEGV, on_crash);
    signal(SIGFPE, on_crash);
#else
    (void)on_crash;
#endif
    int rc = status_exit(DGK_USAGE);
    if (cli_parse(&c, argc, argv)) rc = verbs[c.verb](&c);
    arena_free(&c.arena);
    if (fflush(stdout) || ferror(stdout)) {
        perror("dgc: error: stdout");
        if (!rc) rc = 1;
    }
    return rc;
}
