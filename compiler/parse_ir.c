/* parse_ir - the text form of the tile IR back into memory; the grammar is what print.c writes. Nothing is folded, so that
 * what is read prints as it stood. The first error ends the reading. */
#include "compiler/ir_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum token_kind { TOK_END, TOK_NAME, TOK_INT, TOK_REAL, TOK_STRING, TOK_PUNCT };
struct token {
    enum token_kind kind;
    const char *text; /* names and punctuation interned; strings unescaped */
    bool quoted;      /* a name that is no word */
    int twin;
    int64_t num;
    double real;
    struct span span;
};

struct parser {
    struct arena *a;
    struct diag *d;
    struct ir_fn *fn;
    VEC(struct token) toks;
    VEC(struct ir_intrinsic *) intrinsics;
    int at, axes_declared;
    bool failed;
};

static const struct {
    const char *token;
    enum ir_expr_kind kind;
    int binds;
} infix[] = {
#define INFIX(kind, token, binds) {token, E_##kind, binds},
#include "compiler/ir_text.def"
};
static const char *const reduce_names[] = {
#define REDUCE(name) #name,
#include "compiler/ir_text.def"
};
static const char *const dir_names[] = {
#define DIR(word) #word,
#include "compiler/ir_text.def"
};
static const char *const cache_names[] = {
#define CACHE(word, priority, meaning) #word,
#include "dsl/cache.def"
};
static const char *const puncts[] = { "::", "..", "+=", "<<", "<=", ">>", "==", "!=" };

/* tokens */

static size_t lex_string(struct parser *p, const char *s, struct token *t)
{
    struct buf b = { 0 };
    size_t i = 1;
    buf_bytes(&b, "", 0);
    for (; s[i] && s[i] != '"'; i++) {
        if (s[i] != '\\' || !s[i + 1]) buf_bytes(&b, s + i, 1);
        else if (s[++i] == 'n') buf_bytes(&b, "\n", 1);
        else buf_bytes(&b, s + i, 1);
    }
    t->kind = TOK_STRING;
    t->text = arena_strndup(p->a, b.at, b.n);
    buf_free(&b);
    return s[i] ? i + 1 : i;
}

static size_t lex_name(const char *s, struct token *t)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    size_t n;
    t->kind = TOK_NAME;
    if (*s == '\'') {
        n = 1 + strcspn(s + 1, "'\n");
        t->text = intern_n(s + 1, n - 1);
        t->quoted = true;
        n += s[n] == '\'';
    } else {
        n = strspn(s, letters);
        t->text = intern_n(s, n);
    }
    if (s[n] == '#') {
        char *end;
        t->twin = (int)strtol(s + n + 1, &end, 10);
        n = (size_t)(end - s);
    }
    return n;
}

static size_t lex_number(const char *s, struct token *t)
{
    char *end;
    size_t n = strspn(s, "0123456789");
    t->kind = TOK_INT;
    t->num = (int64_t)strtoull(s, NULL, 10);
    if ((s[n] == '.' && s[n + 1] != '.') || s[n] == 'e') {
        t->kind = TOK_REAL;
        t->real = strtod(s, &end);
        n = (size_t)(end - s);
    }
    return n;
}

static size_t lex_punct(const char *s, struct token *t)
{
    size_t n = 1;
    for (int i = 0; i < COUNT(puncts); i++)
        if (!strncmp(s, puncts[i], 2)) n = 2;
    t->kind = TOK_PUNCT;
    t->text = intern_n(s, n);
    return n;
}

static size_t lex_one(struct parser *p, const char *s, struct token *t)
{
    if (*s == '"') return lex_string(p, s, t);
    if (*s >= '0' && *s <= '9') return lex_number(s, t);
    if (*s == '\'' || *s == '_' || (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z')) return lex_name(s, t);
    return lex_punct(s, t);
}

static void lex(struct parser *p, const char *text, uint32_t base)
{
    const char *s = text;
    for (;;) {
        s += strspn(s, " \t\r\n");
        if (s[0] == '/' && s[1] == '/') {
            s += strcspn(s, "\n");
            continue;
        }
        struct token t = { 0 };
        size_t n = *s ? lex_one(p, s, &t) : 0;
        t.span = (struct span){ base + (uint32_t)(s - text), base + (uint32_t)(s - text) + (uint32_t)n };
        vec_push(p->a, &p->toks, t);
        if (!*s) return;
        s += n;
    }
}

/* looking and taking */

static const struct token *peek(const struct parser *p, int ahead)
{
    int i = p->at + ahead;
    return &p->toks.at[i < 0 ? 0 : i < p->toks.n ? i : p->toks.n - 1];
}

static struct span here(const struct parser *p) { return peek(p, 0)->span; }

static void fail_at(struct parser *p, struct span at, const char *text)
{
    if (!p->failed) diag_error(p->d, at, "%s", text);
    p->failed = true;
    p->at = p->toks.n - 1; /* the end of the text ends every loop */
}

__attribute__((format(printf, 2, 3)))
static void fail(struct parser *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail_at(p, here(p), arena_vprintf(p->a, fmt, ap));
    va_end(ap);
}

static bool is_at(const struct parser *p, int ahead, const char *text)
{
    const struct token *t = peek(p, ahead);
    return (t->kind == TOK_PUNCT || (t->kind == TOK_NAME && !t->quoted)) && !strcmp(t->text, text);
}

static bool is(const struct parser *p, const char *text) { return is_at(p, 0, text); }

static bool take(struct parser *p, const char *text)
{
    if (!is(p, text)) return false;
    p->at++;
    return true;
}

static void want(struct parser *p, const char *text)
{
    if (!take(p, text)) fail(p, "'%s' expected", text);
}

static struct token name(struct parser *p)
{
    struct token t = *peek(p, 0);
    if (t.kind != TOK_NAME) {
        fail(p, "name expected");
        return (struct token){ .text = intern("?") };
    }
    p->at++;
    return t;
}

static int64_t number(struct parser *p)
{
    bool minus = take(p, "-");
    int64_t v = peek(p, 0)->num;
    if (peek(p, 0)->kind != TOK_INT) fail(p, "integer expected");
    else p->at++;
    return minus ? (int64_t)(0 - (uint64_t)v) : v;
}

static const char *string(struct parser *p)
{
    const struct token *t = peek(p, 0);
    if (t->kind != TOK_STRING) {
        fail(p, "string expected");
        return "";
    }
    p->at++;
    return t->text;
}

static int word_of(struct parser *p, const char *const *list, int n, const char *what)
{
    for (int i = 0; i < n; i++)
        if (take(p, list[i])) return i;
    fail(p, "%s expected", what);
    return 0;
}

static bool is_type_name(const struct token *t, enum type *type)
{
    if (t->kind != TOK_NAME || t->quoted) return false;
    *type = type_find(t->text);
    return *type != TY_none || !strcmp(t->text, "none");
}

static enum type type(struct parser *p)
{
    enum type t = TY_none;
    if (!is_type_name(peek(p, 0), &t)) fail(p, "type expected");
    else p->at++;
    return t;
}

/* names to entities: the twin-th of that name */

#define FIND(list, token, result) \
    do { \
        int twin_ = (token).twin; \
        for (int i_ = 0; i_ < (list).n; i_++) \
            if ((list).at[i_]->name == (token).text && twin_-- == 0) (result) = (list).at[i_]; \
    } while (0)
#define ENTITY(fn_name, T, list, what) \
    static T *fn_name(struct parser *p, struct token t) \
    { \
        T *found = NULL; \
        FIND(list, t, found); \
        if (found) return found; \
        fail_at(p, t.span, arena_printf(p->a, "no " what " is called '%s'", t.text)); \
        found = new(p->a, T); \
        found->name = t.text; \
        return found; \
    }
ENTITY(axis_of, struct ir_axis, p->fn->axes, "axis")
ENTITY(var_of, struct ir_var, p->fn->vars, "variable")
ENTITY(tensor_of, struct ir_tensor, p->fn->tensors, "tensor")
ENTITY(shared_of, struct ir_shared, p->fn->shared, "shared array")
ENTITY(pipe_of, struct ir_pipe, p->fn->pipes, "pipe")
ENTITY(role_of, struct ir_role, p->fn->roles, "role")
ENTITY(intrinsic_of, struct ir_intrinsic, p->intrinsics, "intrinsic")

static struct ir_axis *axis(struct parser *p) { return axis_of(p, name(p)); }
static struct ir_var *var(struct parser *p) { return var_of(p, name(p)); }

static struct ir_field *field(struct parser *p)
{
    struct ir_pipe *pipe = pipe_of(p, name(p));
    struct ir_field *found = NULL;
    want(p, ".");
    struct token t = name(p);
    FIND(pipe->fields, t, found);
    if (found) return found;
    fail(p, "pipe '%s' has no field '%s'", pipe->name, t.text);
    found = new(p->a, struct ir_field);
    found->pipe = pipe;
    return found;
}

static bool is_tensor(const struct parser *p, const char *text)
{
    for (int i = 0; i < p->fn->tensors.n; i++)
        if (p->fn->tensors.at[i]->name == text) return true;
    return false;
}

/* expressions */

static struct ir_expr *expr(struct parser *p);
static struct ir_expr *expr_above(struct parser *p, int binds);

static void add_axis(struct ir_expr *e, struct ir_axis *x)
{
    int at = 0;
    while (at < e->naxes && e->axes[at]->id < x->id) at++;
    if ((at < e->naxes && e->axes[at] == x) || e->naxes == IR_RANK) return;
    memmove(&e->axes[at + 1], &e->axes[at], sizeof *e->axes * (size_t)(e->naxes - at));
    e->axes[at] = x;
    e->naxes++;
}

/* Fills in the axes and, where the text says none, the type. */
static struct ir_expr *finish(struct ir_expr *e)
{
    for (int i = 0; i < e->nargs; i++)
        for (int j = 0; j < e->args[i]->naxes; j++)
            if (e->kind != E_reduce || e->args[i]->axes[j] != e->axis) add_axis(e, e->args[i]->axes[j]);
    if (e->kind == E_coord) add_axis(e, e->axis);
    for (int i = 0; e->kind == E_get && i < e->var->naxes; i++) add_axis(e, e->var->axes[i]);
    if (e->type == TY_none) e->type = ir_text_type(e);
    return e;
}

static struct ir_expr *leaf(struct parser *p, enum ir_expr_kind k)
{
    struct ir_expr *e = new(p->a, struct ir_expr);
    e->kind = k;
    e->span = here(p);
    return e;
}

static void set_args(struct parser *p, struct ir_expr *e, struct ir_expr *const *args, int n)
{
    e->args = new_n(p->a, struct ir_expr *, n);
    e->nargs = n;
    for (int i = 0; i < n; i++) e->args[i] = args[i];
}

/* a, b, c close */
static void take_args(struct parser *p, struct ir_expr *e, const char *close)
{
    VEC(struct ir_expr *) args = { 0 };
    while (!is(p, close) && !p->failed) {
        vec_push(p->a, &args, expr(p));
        if (!take(p, ",")) break;
    }
    want(p, close);
    set_args(p, e, args.at, args.n);
}

static struct ir_expr *constant(struct parser *p, bool minus)
{
    struct ir_expr *e = leaf(p, E_const);
    const struct token *t = peek(p, 0);
    p->at++;
    if (t->kind == TOK_INT) {
        e->num = minus ? (int64_t)(0 - (uint64_t)t->num) : t->num;
        e->type = TY_i32;
        return e;
    }
    double v = t->kind == TOK_REAL ? t->real : !strcmp(t->text, "inf") ? (double)INFINITY : (double)NAN;
    e->real = minus ? -v : v;
    e->type = TY_f32;
    return e;
}

static bool is_number(const struct parser *p, int ahead)
{
    const struct token *t = peek(p, ahead);
    return t->kind == TOK_INT || t->kind == TOK_REAL || is_at(p, ahead, "inf") || is_at(p, ahead, "nan");
}

/* sum(axis: e), sum_parts(axis: e) */
static struct ir_expr *over(struct parser *p, int op, bool parts)
{
    struct ir_expr *e = leaf(p, parts ? E_parts : E_reduce);
    e->num = op;
    p->at++;
    want(p, "(");
    e->axis = axis(p);
    want(p, ":");
    struct ir_expr *body = expr(p);
    want(p, ")");
    set_args(p, e, &body, 1);
    return finish(e);
}

/* Which reduction begins here, or -1. */
static int reduction(const struct parser *p, bool *parts)
{
    const struct token *t = peek(p, 0);
    if (t->kind != TOK_NAME || t->quoted || !is_at(p, 1, "(") || peek(p, 2)->kind != TOK_NAME || !is_at(p, 3, ":")) return -1;
    for (int i = 0; i < RED_COUNT; i++) {
        size_t n = strlen(reduce_names[i]);
        if (strncmp(t->text, reduce_names[i], n)) continue;
        *parts = !strcmp(t->text + n, "_parts");
        if (!t->text[n] || *parts) return i;
    }
    return -1;
}

static struct ir_expr *one_axis(struct parser *p, enum ir_expr_kind k)
{
    struct ir_expr *e = leaf(p, k);
    p->at++;
    want(p, "(");
    e->axis = axis(p);
    want(p, ")");
    return finish(e);
}

static struct ir_expr *intrinsic_call(struct parser *p)
{
    struct ir_expr *e = leaf(p, E_call);
    p->at++;
    e->intrinsic = intrinsic_of(p, name(p));
    want(p, "(");
    take_args(p, e, ")");
    return finish(e);
}

/* Kinds written kind(args) in the text. */
static int function(const struct token *t)
{
    for (int k = E_neg; k <= E_clz; k++)
        if (!strcmp(t->text, ir_text_kind((enum ir_expr_kind)k))) return k;
    return -1;
}

static struct ir_expr *indexed(struct parser *p)
{
    struct ir_expr *e = leaf(p, E_slot);
    if (is_at(p, 1, ".")) e->field = field(p);
    else if (is_tensor(p, peek(p, 0)->text)) {
        e->kind = E_read;
        e->tensor = tensor_of(p, name(p));
    } else {
        e->kind = E_element;
        e->shared = shared_of(p, name(p));
    }
    want(p, "[");
    take_args(p, e, "]");
    if (p->failed) e->kind = E_const; /* its entity may be missing */
    return finish(e);
}

static struct ir_expr *named(struct parser *p)
{
    static const struct { const char *word; enum ir_expr_kind kind; } plain[] = {
        {"unit", E_unit}, {"units", E_units}, {"rank", E_rank}, {"thread", E_thread},
    };
    const struct token *t = peek(p, 0);
    bool parts = false;
    enum type ty;
    int k;
    if (t->quoted || t->twin) goto entity;
    for (int i = 0; i < COUNT(plain); i++)
        if (is(p, plain[i].word)) {
            struct ir_expr *e = leaf(p, plain[i].kind);
            p->at++;
            return finish(e);
        }
    if (is(p, "true") || is(p, "false")) {
        struct ir_expr *e = leaf(p, E_const);
        e->num = is(p, "true");
        e->type = TY_bool;
        p->at++;
        return e;
    }
    if (is(p, "call")) return intrinsic_call(p);
    if (is_at(p, 1, "(")) {
        if (is(p, "origin")) return one_axis(p, E_origin);
        if (is(p, "limit")) return one_axis(p, E_limit);
        if (is(p, "arg")) {
            struct ir_expr *e = leaf(p, E_arg);
            p->at += 2;
            e->tensor = tensor_of(p, name(p));
            want(p, ")");
            return finish(e);
        }
        if ((k = reduction(p, &parts)) >= 0) return over(p, k, parts);
        if (is_type_name(t, &ty) || (k = function(t)) >= 0) {
            bool cast = is_type_name(t, &ty);
            struct ir_expr *e = leaf(p, cast ? E_cast : (enum ir_expr_kind)k);
            p->at += 2;
            take_args(p, e, ")");
            if (cast) e->type = ty;
            if (e->nargs == 0) fail(p, "'%s' needs an argument", t->text);
            return p->failed ? leaf(p, E_const) : finish(e);
        }
    }
entity:
    if (is_at(p, 1, "[") || is_at(p, 1, ".")) return indexed(p);
    struct ir_expr *e = leaf(p, E_get);
    e->var = var(p);
    return finish(e);
}

static struct ir_expr *unary(struct parser *p)
{
    struct ir_expr *e = leaf(p, is(p, "-") ? E_neg : E_not);
    p->at++;
    want(p, "(");
    take_args(p, e, ")");
    if (e->nargs != 1) fail(p, "one operand expected");
    return p->failed ? leaf(p, E_const) : finish(e);
}

/* ( e ) or ( c ? a : b ) */
static struct ir_expr *parenthesised(struct parser *p)
{
    struct span at = here(p);
    want(p, "(");
    struct ir_expr *args[3] = { expr(p) };
    if (take(p, "?")) {
        args[1] = expr(p);
        want(p, ":");
        args[2] = expr(p);
    }
    want(p, ")");
    if (!args[1]) return args[0];
    struct ir_expr *e = leaf(p, E_select);
    e->span = at;
    set_args(p, e, args, 3);
    return finish(e);
}

static struct ir_expr *primary(struct parser *p)
{
    struct ir_expr *e;
    if (is_number(p, 0)) return constant(p, false);
    if (is(p, "-") && is_number(p, 1)) {
        p->at++;
        return constant(p, true);
    }
    if (is(p, "-") || is(p, "!")) return unary(p);
    if (is(p, "(")) return parenthesised(p);
    if (is(p, "@")) {
        e = leaf(p, E_coord);
        p->at++;
        e->axis = axis(p);
        return finish(e);
    }
    if (is(p, "$")) {
        e = leaf(p, E_dim);
        p->at++;
        struct token t = name(p);
        for (e->num = 0; e->num < p->fn->dims.n && p->fn->dims.at[e->num].name != t.text;) e->num++;
        if (e->num == p->fn->dims.n) fail(p, "no dimension is called '%s'", t.text);
        return finish(e);
    }
    if (peek(p, 0)->kind == TOK_NAME) return named(p);
    fail(p, "expression expected");
    return leaf(p, E_const);
}

/* e :: type. A constant changes its kind with its type. */
static struct ir_expr *suffixed(struct parser *p)
{
    struct ir_expr *e = primary(p);
    if (!take(p, "::")) return e;
    enum type t = type(p);
    if (e->kind == E_const && type_is_float(t) && !type_is_float(e->type)) e->real = (double)e->num;
    e->type = t;
    return e;
}

static int infix_at(const struct parser *p)
{
    for (int i = 0; i < COUNT(infix); i++)
        if (is(p, infix[i].token)) return i;
    return -1;
}

static struct ir_expr *expr_above(struct parser *p, int binds)
{
    struct ir_expr *e = suffixed(p);
    for (int i; (i = infix_at(p)) >= 0 && infix[i].binds >= binds && !p->failed;) {
        struct ir_expr *both = leaf(p, infix[i].kind);
        p->at++;
        struct ir_expr *args[2] = { e, expr_above(p, infix[i].binds + 1) };
        set_args(p, both, args, 2);
        e = finish(both);
    }
    return e;
}

static struct ir_expr *expr(struct parser *p) { return expr_above(p, 1); }

static struct ir_expr *expr_after(struct parser *p, const char *word) { return take(p, word) ? expr(p) : NULL; }

/* statements */

static void block(struct parser *p, ir_block *b);

static void index_list(struct parser *p, struct ir_stmt *s)
{
    want(p, "[");
    while (!is(p, "]") && !p->failed) {
        vec_push(p->a, &s->index, expr(p));
        if (!take(p, ",")) break;
    }
    want(p, "]");
}

static void axis_list(struct parser *p, struct ir_axis **axes, int *n, const char *open, const char *close)
{
    want(p, open);
    while (!is(p, close) && !p->failed) {
        if (*n == IR_RANK) fail(p, "more than %d axes", IR_RANK);
        else axes[(*n)++] = axis(p);
        if (!take(p, ",")) break;
    }
    want(p, close);
}

#define STMT_FN(word) static void stmt_##word(struct parser *p, struct ir_stmt *s)

STMT_FN(let)
{
    s->var = var(p);
    want(p, "=");
    s->expr = expr(p);
}

STMT_FN(bind)
{
    s->axis = axis(p);
    want(p, "at");
    s->expr = expr(p);
    want(p, "to");
    s->expr2 = expr(p);
}

static void assign(struct parser *p, struct ir_stmt *s)
{
    index_list(p, s);
    if (take(p, "+=")) s->mode = s->mode == MODE_atomic ? MODE_atomic : MODE_add;
    else want(p, "=");
    s->expr = expr(p);
}

static void atomic_word(struct parser *p, struct ir_stmt *s)
{
    if (!take(p, "atomic")) return;
    s->mode = MODE_atomic;
    s->num = word_of(p, reduce_names, RED_COUNT, "atomic operation");
}

STMT_FN(store)
{
    atomic_word(p, s);
    s->tensor = tensor_of(p, name(p));
    assign(p, s);
    s->mask = expr_after(p, "where");
    if (take(p, "boxes")) s->boxes = (int)number(p);
    s->flag = take(p, "ahead");
}

STMT_FN(put)
{
    atomic_word(p, s);
    s->shared = shared_of(p, name(p));
    assign(p, s);
    if (take(p, "into")) s->var = var(p);
}

STMT_FN(fetch)
{
    s->num = word_of(p, reduce_names, RED_COUNT, "atomic operation");
    s->tensor = tensor_of(p, name(p));
    s->mode = MODE_atomic;
    assign(p, s);
    want(p, "into");
    s->var = var(p);
}

STMT_FN(produce)
{
    s->pipe = pipe_of(p, name(p));
    block(p, &s->body);
}

STMT_FN(consume)
{
    s->pipe = pipe_of(p, name(p));
    block(p, &s->body);
}

STMT_FN(fill)
{
    s->field = field(p);
    want(p, "=");
    s->expr = expr(p);
}

STMT_FN(mma)
{
    s->var = var(p);
    s->flag = take(p, "+=");
    if (!s->flag) want(p, "=");
    s->expr = expr(p);
    want(p, ",");
    s->expr2 = expr(p);
    if (!take(p, "times")) return;
    do vec_push(p->a, &s->factors, expr(p));
    while (take(p, ","));
}

static void range(struct parser *p, struct ir_stmt *s)
{
    s->var = var(p);
    want(p, "=");
    s->expr = expr(p);
    want(p, "..");
    s->expr2 = expr(p);
}

STMT_FN(for)
{
    range(p, s);
    s->step = expr_after(p, "step");
    if (take(p, "walks")) s->axis = axis(p);
    if (take(p, "unroll")) s->num = number(p);
    if (take(p, "deal")) s->deal = (int)number(p);
    block(p, &s->body);
}

STMT_FN(while)
{
    s->expr = expr(p);
    block(p, &s->body);
}

STMT_FN(if)
{
    s->expr = expr(p);
    block(p, &s->body);
    if (take(p, "else")) block(p, &s->other);
}

STMT_FN(par)
{
    range(p, s);
    block(p, &s->body);
}

STMT_FN(scan)
{
    range(p, s);
    s->shared = shared_of(p, name(p));
    want(p, "=");
    s->expr3 = expr(p);
}

STMT_FN(each)
{
    struct ir_axis *axes[IR_RANK];
    int n = 0;
    axis_list(p, axes, &n, "(", ")");
    for (int i = 0; i < n; i++) vec_push(p->a, &s->axes, axes[i]);
    if (!is(p, "of")) s->var = var(p);
    want(p, "of");
    s->expr = expr(p);
    s->mask = expr_after(p, "where");
    block(p, &s->body);
}

STMT_FN(combine)
{
    s->axis = axis(p);
    want(p, "part");
    s->expr = expr(p);
    want(p, "of");
    s->expr2 = expr(p);
    want(p, "at");
    s->expr3 = expr(p);
    block(p, &s->body);
}

STMT_FN(body) { (void)p, (void)s; }

STMT_FN(assert)
{
    s->expr = expr(p);
    want(p, ",");
    s->text = string(p);
}

STMT_FN(print)
{
    s->text = string(p);
    while (take(p, ",")) vec_push(p->a, &s->index, expr(p));
}

static const struct {
    const char *word;
    enum ir_stmt_kind kind;
    void (*read)(struct parser *, struct ir_stmt *);
} statements[] = {
#define EXPR(name, nargs, meaning)
#define STMT(name, slots, meaning) {#name, S_##name, stmt_##name},
#include "compiler/ops.def"
};

static bool ends_in_block(const struct parser *p) { return is_at(p, -1, "}"); }

/* Which row of `statements` begins here. `let` and `store` have no word of their own. */
static int statement_at(const struct parser *p)
{
    const struct token *t = peek(p, 0);
    const char *word = t->text ? t->text : "";
    if (is(p, "atomic") || (t->kind == TOK_NAME && is_at(p, 1, "["))) word = "store";
    else if (t->quoted || t->twin || (t->kind == TOK_NAME && is_at(p, 1, "="))) word = "let";
    for (int i = 0; i < COUNT(statements); i++)
        if (!strcmp(word, statements[i].word)) return i;
    return -1;
}

static void statement(struct parser *p, ir_block *b)
{
    int row = statement_at(p);
    if (row < 0) {
        fail(p, "statement expected");
        return;
    }
    struct ir_stmt *s = new(p->a, struct ir_stmt);
    s->kind = statements[row].kind;
    s->span = here(p);
    if (s->kind != S_let && s->kind != S_store) p->at++;
    statements[row].read(p, s);
    if (!p->failed) vec_push(p->a, b, s);
    if (!ends_in_block(p)) want(p, ";");
    if (p->at > 0) s->span.hi = peek(p, -1)->span.hi;
}

static void block(struct parser *p, ir_block *b)
{
    want(p, "{");
    while (!is(p, "}") && !p->failed) statement(p, b);
    want(p, "}");
}

/* declarations */

#define DECL_FN(word) static void decl_##word(struct parser *p)

DECL_FN(kernel)
{
    p->fn->name = name(p).text;
    want(p, "for");
    p->fn->target = name(p).text;
}

DECL_FN(setting) { vec_push(p->a, &p->fn->settings, string(p)); }

DECL_FN(dim)
{
    struct ir_dim d = { .name = name(p).text, .value = -1, .multiple = 1 };
    if (take(p, "=")) d.value = number(p);
    if (take(p, "multiple")) d.multiple = (int)number(p);
    vec_push(p->a, &p->fn->dims, d);
}

DECL_FN(tensor)
{
    struct ir_tensor *t = new(p->a, struct ir_tensor);
    t->span = here(p);
    t->dir = word_of(p, dir_names, COUNT(dir_names), "in, out or inout");
    t->type = type(p);
    t->name = name(p).text;
    t->id = p->fn->tensors.n;
    vec_push(p->a, &p->fn->tensors, t);
    if (!take(p, "[")) return;
    while (!is(p, "]") && !p->failed && t->rank < IR_RANK) {
        t->dim[t->rank++] = expr(p);
        if (!take(p, ",")) break;
    }
    want(p, "]");
    for (int i = 0; i < t->rank && take(p, i ? "," : "("); i++) t->dim_text[i] = string(p);
    if (t->dim_text[0]) want(p, ")");
    want(p, "inner");
    t->inner = (int)number(p);
    want(p, "of");
    t->inner_choices = (int)number(p);
    t->align = take(p, "align") ? (int)number(p) : IR_ALIGN;
    if (take(p, "cache")) t->cache = word_of(p, cache_names, COUNT(cache_names), "normal, stream or keep");
}

/* The axis exists already: see declare_axes. */
DECL_FN(axis)
{
    name(p);
    struct ir_axis *x = p->fn->axes.at[p->axes_declared++];
    if (take(p, "of")) {
        x->of = axis(p);
        want(p, "div");
        x->div = (int)number(p);
    }
    if (take(p, "tile")) x->tile = (int)number(p);
    x->exact = take(p, "exact");
    x->clean = take(p, "clean");
    if (take(p, "align")) x->align = (int)number(p);
    x->lo = expr_after(p, "from");
    x->hi = expr_after(p, "to");
}

DECL_FN(var)
{
    struct ir_var *v = new(p->a, struct ir_var);
    v->span = here(p);
    v->type = type(p);
    v->name = name(p).text;
    v->id = p->fn->vars.n;
    v->slots = 1;
    vec_push(p->a, &p->fn->vars, v);
    if (is(p, "[")) axis_list(p, v->axes, &v->naxes, "[", "]");
    v->accum = take(p, "accum");
    if (take(p, "slots")) v->slots = (int)number(p);
    v->flip = take(p, "flip");
    if (take(p, "multiple")) v->multiple = number(p);
}

DECL_FN(shared)
{
    struct ir_shared *s = new(p->a, struct ir_shared);
    s->span = here(p);
    s->type = type(p);
    s->name = name(p).text;
    s->id = p->fn->shared.n;
    vec_push(p->a, &p->fn->shared, s);
    if (!take(p, "[")) return;
    while (!is(p, "]") && !p->failed && s->rank < IR_RANK) {
        s->dim[s->rank++] = expr(p);
        if (!take(p, ",")) break;
    }
    want(p, "]");
}

DECL_FN(pipe)
{
    struct ir_pipe *pipe = new(p->a, struct ir_pipe);
    pipe->span = here(p);
    pipe->name = name(p).text;
    pipe->id = p->fn->pipes.n;
    if (take(p, "of")) pipe->home = var_of(p, name(p));
    pipe->scales = take(p, "scales");
    if (take(p, "depth")) pipe->depth = (int)number(p);
    if (take(p, "most")) pipe->most = (int)number(p);
    vec_push(p->a, &p->fn->pipes, pipe);
}

DECL_FN(field)
{
    struct ir_field *f = new(p->a, struct ir_field);
    f->span = here(p);
    f->type = type(p);
    f->pipe = pipe_of(p, name(p));
    want(p, ".");
    f->name = name(p).text;
    for (int i = 0; i < p->fn->pipes.n; i++) f->id += p->fn->pipes.at[i]->fields.n;
    vec_push(p->a, &f->pipe->fields, f);
    axis_list(p, f->axes, &f->naxes, "[", "]");
}

DECL_FN(intrinsic)
{
    struct ir_intrinsic *x = new(p->a, struct ir_intrinsic);
    x->result = type(p);
    x->name = name(p).text;
    want(p, "(");
    while (!is(p, ")") && !p->failed && x->nargs < IR_RANK) {
        x->args[x->nargs++] = type(p);
        if (!take(p, ",")) break;
    }
    want(p, ")");
    x->effect = take(p, "effect");
    if (peek(p, 0)->kind == TOK_STRING) x->text = string(p);
    vec_push(p->a, &p->intrinsics, x);
}

DECL_FN(require)
{
    vec_push(p->a, &p->fn->require_span, here(p));
    vec_push(p->a, &p->fn->requires, expr(p));
    want(p, ",");
    vec_push(p->a, &p->fn->require_text, string(p));
}

DECL_FN(spec)
{
    struct ir_spec s = { .span = here(p) };
    s.left = expr(p);
    want(p, "=");
    s.value = expr(p);
    s.where = expr_after(p, "where");
    if (take(p, "else")) {
        s.other_any = take(p, "any");
        if (!s.other_any) s.other = expr(p);
    }
    s.exact = take(p, "exact");
    if (take(p, "tol")) {
        const struct token *t = peek(p, 0);
        s.tol = t->kind == TOK_INT ? (double)t->num : t->real;
        p->at++;
    }
    vec_push(p->a, &p->fn->specs, s);
}

DECL_FN(given)
{
    struct ir_given g = { .span = here(p) };
    g.tensor = tensor_of(p, name(p));
    if (take(p, "over")) {
        struct ir_axis *axes[IR_RANK];
        int n = 0;
        axis_list(p, axes, &n, "(", ")");
        for (int i = 0; i < n; i++) vec_push(p->a, &g.axes, axes[i]);
    }
    if (take(p, "=")) {
        g.value = expr(p);
    } else if (take(p, "run")) {
        g.kind = GIVEN_run;
        g.kernel = name(p).text;
        want(p, "(");
        while (!is(p, ")") && !p->failed) {
            vec_push(p->a, &g.args, name(p).text);
            if (!take(p, ",")) break;
        }
        want(p, ")");
    } else {
        static const char *const kinds[] = { "distinct", "sorted" };
        g.kind = word_of(p, kinds, 2, "'=', run, distinct or sorted") ? GIVEN_sorted : GIVEN_distinct;
        g.lo = expr(p);
        want(p, "..");
        g.hi = expr(p);
    }
    vec_push(p->a, &p->fn->givens, g);
}

DECL_FN(check) { block(p, &p->fn->check); }
DECL_FN(tasks) { p->fn->tasks = expr(p); }
DECL_FN(persistent) { p->fn->persistent = true; }
DECL_FN(order_dependent) { p->fn->order_dependent = true; }

DECL_FN(cluster)
{
    p->fn->cluster = (int)number(p);
    if (take(p, "over")) p->fn->cluster_axis = axis(p);
}

DECL_FN(task) { block(p, &p->fn->task); }

DECL_FN(role)
{
    struct ir_role *r = new(p->a, struct ir_role);
    r->span = here(p);
    r->name = name(p).text;
    r->id = p->fn->roles.n;
    if (take(p, "of")) r->drain = role_of(p, name(p));
    if (take(p, "warps")) {
        r->warps_m = (int)number(p);
        want(p, "by");
        r->warps_n = (int)number(p);
    }
    block(p, &r->body);
    vec_push(p->a, &p->fn->roles, r);
}

static const struct {
    const char *word;
    void (*read)(struct parser *);
} declarations[] = {
#define DECL(word) {#word, decl_##word},
    DECL(kernel) DECL(setting) DECL(dim) DECL(tensor) DECL(axis) DECL(var) DECL(shared) DECL(pipe) DECL(field)
    DECL(intrinsic) DECL(require) DECL(spec) DECL(given) DECL(check) DECL(tasks) DECL(persistent) DECL(order_dependent)
    DECL(cluster) DECL(task) DECL(role)
#undef DECL
};

static void declaration(struct parser *p)
{
    for (int i = 0; i < COUNT(declarations); i++) {
        if (!take(p, declarations[i].word)) continue;
        declarations[i].read(p);
        if (!ends_in_block(p)) want(p, ";");
        return;
    }
    fail(p, "declaration expected");
}

/* Axes may be named before their declaration (bounds, windows), and expressions sort by their numbers: number them first. */
static void declare_axes(struct parser *p)
{
    for (int i = 0; i + 1 < p->toks.n; i++) {
        p->at = i;
        if (!is(p, "axis") || !(i == 0 || is_at(p, -1, ";") || is_at(p, -1, "}"))) continue;
        struct ir_axis *x = new(p->a, struct ir_axis);
        x->name = p->toks.at[i + 1].text;
        x->id = p->fn->axes.n;
        x->align = 1;
        x->span = p->toks.at[i + 1].span;
        vec_push(p->a, &p->fn->axes, x);
    }
    p->at = 0;
}

struct ir_fn *ir_parse(struct arena *a, struct diag *d, const char *path, const char *text, size_t n)
{
    struct parser p = { .a = a, .d = d, .fn = new(a, struct ir_fn) };
    const char *copy = arena_strndup(a, text, n);
    p.fn->cluster = 1;
    lex(&p, copy, diag_add_file(d, path, text, n));
    p.fn->span = here(&p);
    declare_axes(&p);
    while (peek(&p, 0)->kind != TOK_END && !p.failed) declaration(&p);
    if (!p.failed && !p.fn->name) fail(&p, "the text has no 'kernel' line");
    return p.failed ? NULL : p.fn;
}
