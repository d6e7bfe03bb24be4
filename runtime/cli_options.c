/* cli_options - reads a command line by the tables of cli.def, and prints help from them. */
#include "runtime/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *arguments, *summary;
} verb_rows[] = {
#define VERB(name, arguments, summary) { #name, arguments, summary },
#include "runtime/cli.def"
};

enum option_kind { FLAG, TEXT, MAYBE, LIST, PAIR, SIZES, WHOLE, COUNTS, NAME };
#define ON(verb) (1u << VERB_##verb)
static const struct option {
    const char *name;
    char letter;
    enum option_kind kind;
    size_t field;
    unsigned verbs;
    const char *value, *meaning;
} option_rows[] = {
#define OPTION(name, letter, kind, field, verbs, value, meaning) \
    { name, letter, kind, offsetof(struct cli, field), verbs, value, meaning },
#include "runtime/cli.def"
};

static const struct {
    const char *name, *meaning;
} variable_rows[] = {
#define VARIABLE(name, meaning) { name, meaning },
#include "runtime/cli.def"
};

/* ---- help ---------------------------------------------------------------------------------------------------- */

static void overview(struct buf *out)
{
    buf_printf(out, "dgc compiles tile kernels (.dgk) to PTX and runs them, on GPUs and on an emulator.\n\nusage: dgc VERB [OPTIONS] …\n\n");
    for (int i = 0; i < VERB_COUNT; i++) buf_printf(out, "  %-8s %s\n", verb_rows[i].name, verb_rows[i].summary);
    buf_printf(out, "\nenvironment:\n");
    for (int i = 0; i < COUNT(variable_rows); i++) buf_printf(out, "  %-18s %s\n", variable_rows[i].name, variable_rows[i].meaning);
    buf_printf(out, "\ndgc VERB --help shows the options of a verb.\n"
                    "exit status: 0 ok, 1 errors or mismatch, 2 usage, 3 nothing to run or assemble with, 70 internal error\n");
}

static void option_help(struct buf *out, const struct option *o)
{
    char left[80], letter[8] = "    ";
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(left, sizeof left, o->kind == MAYBE ? "%s--%s[=%s]" : *o->value ? "%s--%s=%s" : "%s--%s", letter, o->name, o->value);
    buf_printf(out, "  %-32s %s\n", left, o->meaning);
}

void cli_help(struct buf *out, enum cli_verb verb)
{
    if (verb == VERB_COUNT || verb == VERB_help) {
        overview(out);
        return;
    }
    buf_printf(out, "usage: dgc %s [OPTIONS] %s\n%s\n\n", verb_rows[verb].name, verb_rows[verb].arguments, verb_rows[verb].summary);
    for (int i = 0; i < COUNT(option_rows); i++)
        if (option_rows[i].verbs >> verb & 1) option_help(out, &option_rows[i]);
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

static int find_verb(const char *name)
{
    for (int i = 0; i < VERB_COUNT; i++)
        if (!strcmp(verb_rows[i].name, name)) return i;
    return -1;
}

static int no_verb(const char *name)
{
    const char *names[VERB_COUNT];
    for (int i = 0; i < VERB_COUNT; i++) names[i] = verb_rows[i].name;
    const char *near = diag_nearest(name, names, VERB_COUNT);
    if (near) return cli_usage("'%s' is no verb; did you mean '%s'?", name, near);
    return cli_usage("'%s' is no verb; see dgc help", name);
}

static bool no_option(const struct cli *c, const char *name)
{
    const char *names[COUNT(option_rows)];
    int n = 0;
    for (int i = 0; i < COUNT(option_rows); i++) {
        if (option_rows[i].verbs >> c->verb & 1) names[n++] = option_rows[i].name;
        else if (!strcmp(option_rows[i].name, name)) return cli_usage("dgc %s takes no --%s", verb_rows[c->verb].name, name), false;
    }
    const char *near = diag_nearest(name, names, n);
    if (near) cli_usage("there is no option --%s; did you mean --%s?", name, near);
    else cli_usage("there is no option --%s; see dgc %s --help", name, verb_rows[c->verb].name);
    return false;
}

static bool pair(struct cli *c, bindings *to, const char *option, const char *text)
{
    const char *eq = strchr(text, '=');
    if (!eq || eq == text) return cli_usage("%s '%s': NAME=VALUE is wanted", option, text), false;
    struct binding b = { intern_n(text, (size_t)(eq - text)), eq + 1 };
    vec_push(&c->arena, to, b);
    return true;
}

static bool is_whole(const char *s)
{
    size_t n = strlen(s);
    return n && n < 19 && strspn(s, "0123456789") == n;
}

static bool is_name(const char *s)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    return *s && strspn(s, letters) == strlen(s) && strspn(s, "0123456789") == 0;
}

/* Whether a value is of the option's kind; says what is wrong with it. */
static bool fits(const struct option *o, const char *value)
{
    const char *number = o->kind == SIZES ? strchr(value, '=') : NULL;
    if (number && number != value && !is_whole(number + 1)) return cli_usage("--%s=%s: %s is wanted, N a whole number", o->name, value, o->value), false;
    if ((o->kind == WHOLE || o->kind == COUNTS) && !is_whole(value)) return cli_usage("--%s=%s: a whole number is wanted", o->name, value), false;
    if (o->kind == COUNTS && strspn(value, "0") == strlen(value)) return cli_usage("--%s=%s: at least 1 is wanted", o->name, value), false;
    if (o->kind == NAME && !is_name(value)) return cli_usage("--%s=%s: a name of letters, digits and _ is wanted", o->name, value), false;
    return true;
}

static bool store(struct cli *c, const struct option *o, const char *value)
{
    char *field = (char *)c + o->field;
    if (!fits(o, value)) return false;
    switch (o->kind) {
    case FLAG: *(bool *)field = true; return true;
    case TEXT:
    case WHOLE:
    case COUNTS:
    case NAME:
    case MAYBE: *(const char **)field = value; return true;
    case LIST: vec_push(&c->arena, (words *)field, value); return true;
    case SIZES:
    case PAIR: return pair(c, (bindings *)field, o->name, value);
    }
    return false;
}

struct reader {
    struct cli *c;
    int argc, at;
    char **argv;
};

/* The option's value: after '=', or the next word. */
static bool apply(struct reader *r, const struct option *o, const char *attached, const char *shown)
{
    if (o->kind == FLAG && attached) return cli_usage("%s takes no value", shown), false;
    if (o->kind == FLAG || o->kind == MAYBE) return store(r->c, o, attached ? attached : "");
    if (!attached && r->at == r->argc) return cli_usage("%s needs a value, %s", shown, o->value), false;
    return store(r->c, o, attached ? attached : r->argv[r->at++]);
}

static bool long_option(struct reader *r, const char *word)
{
    const char *eq = strchr(word, '=');
    size_t n = eq ? (size_t)(eq - word) : strlen(word);
    char name[64], shown[80];
    snprintf(name, sizeof name, "%.*s", (int)n, word);
    snprintf(shown, sizeof shown, "--%s", name);
    for (int i = 0; i < COUNT(option_rows); i++)
        if (option_rows[i].verbs >> r->c->verb & 1 && !strcmp(option_rows[i].name, name)) return apply(r, &option_rows[i], eq ? eq + 1 : NULL, shown);
    return no_option(r->c, name);
}

static bool letter_option(struct reader *r, const char *word)
{
    const char shown[] = { '-', *word, 0 };
    /* as other compilers spell them */
    if (!strcmp(word, "lineinfo") || !strncmp(word, "arch=", 5)) return long_option(r, word);
    for (int i = 0; i < COUNT(option_rows); i++)
        if (option_rows[i].verbs >> r->c->verb & 1 && option_rows[i].letter == *word)
            return apply(r, &option_rows[i], word[1] ? word + 1 + (word[1] == '=') : NULL, shown);
    return cli_usage("there is no option %s; see dgc %s --help", shown, verb_rows[r->c->verb].name), false;
}

/* The last ARGUMENT=VALUE is the first of its name. */
static bool once(const struct cli *c)
{
    const char *name = c->calls.at[c->calls.n - 1].name;
    for (int i = 0; i < c->calls.n - 1; i++)
        if (c->calls.at[i].name == name) return cli_usage("argument '%s' is given twice", name), false;
    return true;
}

static bool operand(struct reader *r, const char *word)
{
    struct cli *c = r->c;
    if (c->verb == VERB_run && c->files.n && strchr(word, '=')) return pair(c, &c->calls, "run", word) && once(c);
    vec_push(&c->arena, &c->files, word);
    return true;
}

static bool read_words(struct reader *r)
{
    bool only_operands = false;
    while (r->at < r->argc) {
        const char *word = r->argv[r->at++];
        bool ok;
        if (only_operands || word[0] != '-' || !word[1]) ok = operand(r, word);
        else if (!strcmp(word, "--")) ok = only_operands = true;
        else ok = word[1] == '-' ? long_option(r, word + 2) : letter_option(r, word + 1);
        if (!ok) return false;
    }
    return true;
}

static bool wants_file(const struct cli *c)
{
    const char *wanted = verb_rows[c->verb].arguments;
    return *wanted && *wanted != '['; /* what is in brackets may be left out */
}

/* Environment variables stand for options that were not given. */
static void from_environment(struct cli *c)
{
    const char *v;
    if (!c->ptxas_options && (v = getenv("DGC_PTXAS_OPTIONS")) && *v) c->ptxas_options = v;
    if (!c->device && (v = getenv("DGC_DEVICE")) && *v) c->device = v;
    if (!c->target && (v = getenv("DGC_TARGET")) && *v) c->target = v;
}

bool cli_parse(struct cli *c, int argc, char **argv)
{
    c->verb = VERB_help;
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) return true;
    if (!strcmp(argv[1], "--version")) return c->version = true;
    int verb = find_verb(argv[1]);
    if (verb < 0) {
        no_verb(argv[1]);
        return false;
    }
    c->verb = (enum cli_verb)verb;
    struct reader r = { c, argc, 2, argv };
    if (!read_words(&r)) return false;
    if (c->version) c->verb = VERB_help;
    if (c->help) {
        vec_push(&c->arena, &c->files, argv[1]);
        c->files.at[0] = argv[1];
        c->verb = VERB_help;
    }
    from_environment(c);
    if (c->color && strcmp(c->color, "auto") && strcmp(c->color, "always") && strcmp(c->color, "never"))
        return cli_usage("--color=%s: auto, always or never is wanted", c->color), false;
    if (!*verb_rows[c->verb].arguments && c->files.n) return cli_usage("dgc %s takes no '%s'", argv[1], c->files.at[0]), false;
    if (wants_file(c) && !c->files.n) return cli_usage("dgc %s needs a file; see dgc %s --help", argv[1], argv[1]), false;
    if (wants_file(c) && c->verb != VERB_test && c->verb != VERB_tune && c->files.n > 1) return cli_usage("one file at a time; '%s' is a second", c->files.at[1]), false;
    return true;
}

int cli_help_named(const struct cli *c, struct buf *out)
{
    int verb = c->files.n ? find_verb(c->files.at[0]) : VERB_COUNT;
    if (verb < 0) return no_verb(c->files.at[0]);
    cli_help(out, (enum cli_verb)verb);
    return 0;
}
