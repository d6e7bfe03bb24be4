/* check - the checker's front: files, functions, iters; messages in the order of the source. */
#include "dsl/check.h"

#include <stdlib.h>
#include <string.h>

#include "dsl/dsl.h"

/* All files a file imports, itself first. */
static void collect(struct check *c, struct node *file, nodes *files)
{
    for (int i = 0; i < files->n; i++)
        if (files->at[i] == file) return;
    vec_push(c->arena, files, file);
    for (int i = 0; i < file->list.n; i++)
        if (file->list.at[i]->kind == N_import && file->list.at[i]->a) collect(c, file->list.at[i]->a, files);
}

static const char *callable_what(const struct node *n)
{
    return n->kind == N_fn ? "a fn" : n->kind == N_iter ? "an iter" : n->kind == N_kernel ? "a kernel" : "an intrinsic";
}

static void add_callable(struct check *c, struct node *n)
{
    struct node *first = check_callable(c, n->name);
    if (first) {
        diag_error(c->diag, n->name_span, "'%s' is declared a second time", n->name);
        diag_note(c->diag, first->name_span, "it is %s, declared here", callable_what(first));
    } else {
        vec_push(c->arena, &c->callables, n);
    }
}

/* Functions and iters */

static void declare_parms(struct check *c, struct node *n)
{
    for (int i = 0; i < n->list.n; i++) {
        struct node *p = n->list.at[i];
        for (int k = 0; k < p->list.n; k++) {
            struct node *d = p->list.at[k];
            if (d->kind != N_name || check_find(c, d->name)) continue;
            bool parm = false;
            for (int j = 0; j < n->list.n; j++) parm |= n->list.at[j]->name == d->name;
            if (parm) continue;
            d->decl = d;
            check_declare(c, SYM_dim, d->name, d->span, d)->ty.type = TY_i32;
        }
    }
    for (int i = 0; i < n->list.n; i++) {
        struct node *p = n->list.at[i];
        struct sym *s = check_declare(c, SYM_parm, p->name, p->name_span, p);
        s->dims = p->list;
        s->ty.type = p->type;
    }
    for (int i = 0; i < n->list.n; i++)
        for (int k = 0; k < n->list.at[i]->list.n; k++) check_integer(c, n->list.at[i]->list.at[k], "a dimension");
}

struct tally {
    int yields;
    struct node *second;
};
static void tally_node(struct node *n, void *ctx)
{
    struct tally *t = ctx;
    if (n->kind == N_yield && t->yields++) t->second = n;
}

static void one_yield(struct check *c, struct node *iter)
{
    struct tally t = { 0 };
    check_walk(iter->a, tally_node, &t);
    if (t.yields == 1) return;
    if (!t.yields) {
        diag_error(c->diag, iter->name_span, "iter '%s' never yields", iter->name);
        return;
    }
    diag_error(c->diag, t.second->name_span, "an iter has one yield; this is another");
    diag_note(c->diag, iter->name_span, "'%s' is inlined into every role, and its yield becomes the role's body: compute the values, then yield once", iter->name);
}

/* Does every path through n come to a return? */
static bool ends(const struct node *n)
{
    if (!n) return false;
    for (int i = 0; n->kind == N_block && i < n->list.n; i++)
        if (ends(n->list.at[i])) return true;
    if (n->kind == N_if) return ends(n->b) && ends(n->c);
    return n->kind == N_return;
}

static void no_return_in(struct node *n, void *ctx)
{
    struct check *c = ctx;
    if (n->kind == N_return) diag_error(c->diag, n->name_span, "a return stands in no loop; functions are inlined");
}

static void loops_in(struct node *n, void *ctx)
{
    if (n->kind == N_for || n->kind == N_while) check_walk(n->b, no_return_in, ctx);
}

/* What comes after a return, or returns another number of values. */
struct returns {
    struct check *c;
    struct node *first;
};
static void one_return(struct node *n, void *ctx)
{
    struct returns *r = ctx;
    if (n->kind == N_block)
        for (int i = 0; i + 1 < n->list.n; i++)
            if (ends(n->list.at[i])) {
                diag_error(r->c->diag, n->list.at[i + 1]->span, "nothing after a return is run");
                diag_note(r->c->diag, n->list.at[i]->span, "every path returns here");
                break;
            }
    if (n->kind != N_return) return;
    if (!r->first) r->first = n;
    if (r->first->list.n == n->list.n) return;
    diag_error(r->c->diag, n->span, "this returns %d value%s, another return %d", n->list.n, n->list.n == 1 ? "" : "s", r->first->list.n);
    diag_note(r->c->diag, r->first->span, "the other is here");
}

static void all_returns(struct check *c, struct node *fn)
{
    struct returns r = { c, NULL };
    check_walk(fn->a, one_return, &r);
    check_walk(fn->a, loops_in, c);
    if (!r.first) diag_error(c->diag, fn->name_span, "fn '%s' returns nothing", fn->name);
    else if (!ends(fn->a)) diag_error(c->diag, fn->name_span, "fn '%s' does not end in a return on every path", fn->name);
}

static void one_fn(struct check *c, struct node *n)
{
    struct scope scope;
    c->fn = n;
    c->place = n->kind == N_iter ? IN_ITER : IN_FN;
    check_open(c, &scope);
    declare_parms(c, n);
    for (int i = 0; i < n->list2.n; i++) n->list2.at[i]->decl = n;
    check_block(c, n->a);
    check_close(c);
    if (n->kind == N_iter) one_yield(c, n);
    else all_returns(c, n);
    c->fn = NULL;
}

/* Functions are inlined, so none may lead back to itself. */

struct recursion {
    struct check *c;
    nodes path, done;
    bool found;
};
static void visit_fn(struct recursion *r, struct node *fn);

static void visit_call(struct node *n, void *ctx)
{
    struct recursion *r = ctx;
    struct node *fn = n->kind == N_call ? check_callable(r->c, n->name) : NULL;
    if (!fn || fn->kind != N_fn || r->found) return;
    for (int i = 0; i < r->path.n; i++) {
        if (r->path.at[i] != fn) continue;
        r->found = true;
        diag_error(r->c->diag, n->name_span, "'%s' calls itself%s; functions are inlined and cannot", n->name, i == r->path.n - 1 ? "" : " by way of others");
        diag_note(r->c->diag, fn->name_span, "declared here; a loop is: while c { }, for x in a .. b { }");
        return;
    }
    visit_fn(r, fn);
}

static void visit_fn(struct recursion *r, struct node *fn)
{
    for (int i = 0; i < r->done.n; i++)
        if (r->done.at[i] == fn) return;
    vec_push(r->c->arena, &r->path, fn);
    check_walk(fn->a, visit_call, r);
    r->path.n--;
    vec_push(r->c->arena, &r->done, fn);
}

static void no_recursion(struct check *c)
{
    struct recursion r = { .c = c };
    for (int i = 0; i < c->callables.n; i++)
        if (c->callables.at[i]->kind == N_fn) visit_fn(&r, c->callables.at[i]);
}

/* The template names %0, the result, and %1 .. for the arguments. */
static void one_intrinsic(struct check *c, struct node *n)
{
    for (int i = 0; i < n->list.n; i++)
        for (int k = 0; k < i; k++)
            if (n->list.at[k]->name == n->list.at[i]->name) {
                diag_error(c->diag, n->list.at[i]->name_span, "'%s' is declared a second time", n->list.at[i]->name);
                diag_note(c->diag, n->list.at[k]->name_span, "it is a parameter, declared here");
            }
    bool result = false;
    for (const char *s = n->text; *s; s++) {
        if (*s != '%') continue;
        if (s[1] < '0' || s[1] > '9') continue; /* %laneid and the like are PTX's own */
        int k = atoi(s + 1);
        result |= k == 0;
        if (k > n->list.n) diag_error(c->diag, n->name_span, "the instruction names %%%d, but '%s' has %d argument%s", k, n->name, n->list.n, n->list.n == 1 ? "" : "s");
    }
    if (!result) diag_error(c->diag, n->name_span, "the instruction of '%s' does not name its result, %%0", n->name);
}

/* Messages in the order of the source: an error moves with its notes. */

struct group {
    int at, n;
    uint32_t lo;
};

static int by_place(const void *x, const void *y)
{
    const struct group *a = x, *b = y;
    return a->lo != b->lo ? (a->lo < b->lo ? -1 : 1) : a->at - b->at;
}

static void sort_messages(struct arena *a, struct diag *d, int first)
{
    int n = d->msgs.n - first, groups = 0;
    if (n < 2) return;
    struct group *g = new_n(a, struct group, n);
    struct diag_msg *copy = new_n(a, struct diag_msg, n);
    memcpy(copy, d->msgs.at + first, sizeof *copy * (size_t)n);
    for (int i = 0; i < n; i++) {
        if (copy[i].level == DIAG_NOTE && groups) g[groups - 1].n++;
        else g[groups++] = (struct group){ i, 1, copy[i].span.lo };
    }
    qsort(g, (size_t)groups, sizeof *g, by_place);
    struct diag_msg *to = d->msgs.at + first;
    for (int i = 0; i < groups; i++)
        for (int k = 0; k < g[i].n; k++) *to++ = copy[g[i].at + k];
}

void dsl_check(struct arena *a, struct diag *d, struct node *file)
{
    struct check c = { .arena = a, .diag = d };
    nodes files = { 0 };
    collect(&c, file, &files);
    for (int i = 0; i < files.n; i++)
        if (files.at[i]->flag) return; /* what a syntax error swallowed would be missed everywhere */
    for (int i = 0; i < file->list.n; i++)
        if (file->list.at[i]->kind == N_import && file->list.at[i]->flag) return;
    int first = d->msgs.n;
    for (int i = 0; i < files.n; i++)
        for (int k = 0; k < files.at[i]->list.n; k++)
            if (files.at[i]->list.at[k]->kind != N_import) add_callable(&c, files.at[i]->list.at[k]);
    for (int i = 0; i < files.n; i++)
        for (int k = 0; k < files.at[i]->list.n; k++) {
            struct node *n = files.at[i]->list.at[k];
            if (n->kind == N_fn || n->kind == N_iter) one_fn(&c, n);
            else if (n->kind == N_intrinsic) one_intrinsic(&c, n);
            else if (n->kind == N_kernel) check_kernel(&c, n);
        }
    no_recursion(&c);
    sort_messages(a, d, first);
}
