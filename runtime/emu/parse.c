/* parse - reads PTX text: directives, declarations and statements. Strict: what is not known is an error.
 *
 * Errors leave through longjmp; all memory is the module's arena. PTX ISA, "Syntax" and "Directives". */
#include "runtime/emu/parse.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

enum tok_kind { TOK_END, TOK_WORD, TOK_INT, TOK_F32, TOK_F64, TOK_STRING, TOK_PUNCT };
struct tok {
    enum tok_kind kind;
    const char *at;
    uint32_t n, line, col;
    char punct;
    uint64_t bits;
};
/* A .func with a body: what the lexer was at behind the word, so that calls can read it again. */
struct place {
    const char *at, *line_at;
    uint32_t line;
    struct tok tok;
};
struct function {
    const char *name;
    struct place place;
};
struct parser {
    struct emu_module *m;
    struct arena *a;
    const char *at, *line_at;
    uint32_t line;
    struct tok tok;      /* the next token */
    jmp_buf fail;
    struct emu_scope *scope;
    struct emu_entry *entry;
    struct emu_body *body;
    uint32_t src_file, src_line;
    int depth; /* of braces and brackets */
    struct emu_scope *module_scope;
    VEC(struct function) functions;
    const char *ret_label; /* where ret goes in a function's body */
    int calls, call_depth;
};

enum { DEPTH_MAX = 200, CALL_DEPTH_MAX = 20, CALLS_MAX = 2000, ARGUMENTS_MAX = 32 };

/* ---- tokens ---- */

static _Noreturn void fail_at(struct parser *p, uint32_t line, uint32_t col, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static void fail_at(struct parser *p, uint32_t line, uint32_t col, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = arena_vprintf(p->a, fmt, ap);
    va_end(ap);
    emu_set_error(p->m->emu, "ptx:%u:%u: error: %s", line, col, s);
    longjmp(p->fail, 1);
}
#define fail(p, ...) fail_at((p), (p)->tok.line, (p)->tok.col, __VA_ARGS__)

static void skip_space(struct parser *p)
{
    for (;;) {
        char c = *p->at;
        if (c == '\n') {
            p->at++;
            p->line++;
            p->line_at = p->at;
        } else if (c == ' ' || c == '\t' || c == '\r') {
            p->at++;
        } else if (c == '/' && p->at[1] == '/') {
            while (*p->at && *p->at != '\n')
                p->at++;
        } else if (c == '/' && p->at[1] == '*') {
            for (p->at += 2; *p->at && !(p->at[0] == '*' && p->at[1] == '/'); p->at++)
                if (*p->at == '\n') {
                    p->line++;
                    p->line_at = p->at + 1;
                }
            if (!*p->at)
                fail_at(p, p->line, 1, "comment without end");
            p->at += 2;
        } else {
            return;
        }
    }
}

static bool word_char(char c) { return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%' || c == '.'; }

static void lex_word(struct parser *p)
{
    const char *s = p->at;
    while (word_char(*s) || (s[0] == ':' && s[1] == ':' && word_char(s[2])))
        s += *s == ':' ? 2 : 1;
    p->tok.kind = TOK_WORD;
    p->tok.n = (uint32_t)(s - p->at);
}

static void lex_hex_float(struct parser *p, int digits)
{
    uint64_t v = 0;
    for (int i = 0; i < digits; i++) {
        char c = p->at[2 + i];
        if (!isxdigit((unsigned char)c))
            fail(p, "floating literal needs %d hexadecimal digits", digits);
        v = v << 4 | (uint64_t)(isdigit((unsigned char)c) ? c - '0' : (c | 32) - 'a' + 10);
    }
    p->tok.kind = digits == 8 ? TOK_F32 : TOK_F64;
    p->tok.bits = v;
    p->tok.n = (uint32_t)digits + 2;
    if (isalnum((unsigned char)p->at[p->tok.n]))
        fail(p, "floating literal needs %d hexadecimal digits", digits);
}

static void lex_decimal_float(struct parser *p)
{
    char *end;
    double v = strtod(p->at, &end);
    p->tok.kind = TOK_F64;
    p->tok.bits = num_double_bits(v);
    p->tok.n = (uint32_t)(end - p->at);
}

static void lex_number(struct parser *p)
{
    const char *s = p->at;
    if (s[0] == '0' && (s[1] == 'f' || s[1] == 'F')) {
        lex_hex_float(p, 8);
        return;
    }
    if (s[0] == '0' && (s[1] == 'd' || s[1] == 'D')) {
        lex_hex_float(p, 16);
        return;
    }
    int base = 10;
    if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X'))
        base = 16, s += 2;
    else if (s[0] == '0' && (s[1] == 'b' || s[1] == 'B'))
        base = 2, s += 2;
    else if (s[0] == '0' && isdigit((unsigned char)s[1]))
        base = 8;
    const char *digits = s;
    uint64_t v = 0;
    for (; isalnum((unsigned char)*s) && *s != 'U'; s++) {
        int d = isdigit((unsigned char)*s) ? *s - '0' : (*s | 32) - 'a' + 10;
        if (d >= base) {
            if (base == 10 && (*s == 'e' || *s == 'E'))
                break;
            fail(p, "bad digit '%c' in a number", *s);
        }
        if (v > (UINT64_MAX - (uint64_t)d) / (uint64_t)base)
            fail(p, "number beyond 64 bits");
        v = v * (uint64_t)base + (uint64_t)d;
    }
    if (base == 10 && (*s == '.' || *s == 'e' || *s == 'E')) {
        lex_decimal_float(p);
        return;
    }
    if (s == digits)
        fail(p, "number without digits");
    if (*s == 'U')
        s++;
    p->tok.kind = TOK_INT;
    p->tok.bits = v;
    p->tok.n = (uint32_t)(s - p->at);
}

static void next(struct parser *p)
{
    skip_space(p);
    struct tok *t = &p->tok;
    *t = (struct tok){.at = p->at, .line = p->line, .col = (uint32_t)(p->at - p->line_at) + 1};
    char c = *p->at;
    if (!c) {
        t->kind = TOK_END;
        return;
    }
    if (isdigit((unsigned char)c)) {
        lex_number(p);
    } else if (word_char(c)) {
        lex_word(p);
    } else if (c == '"') {
        const char *s = p->at + 1;
        while (*s && *s != '"' && *s != '\n')
            s += *s == '\\' && s[1] ? 2 : 1;
        if (*s != '"')
            fail(p, "string without end");
        t->kind = TOK_STRING;
        t->n = (uint32_t)(s + 1 - p->at);
    } else {
        if (!strchr("{}[]()<>,;:=@!+-*/|&~^", c))
            fail(p, "unexpected character 0x%02x", (unsigned char)c);
        t->kind = TOK_PUNCT;
        t->punct = c;
        t->n = 1;
    }
    p->at += t->n;
}

static bool is_punct(struct parser *p, char c) { return p->tok.kind == TOK_PUNCT && p->tok.punct == c; }
static bool is_word(struct parser *p, const char *s)
{
    return p->tok.kind == TOK_WORD && strlen(s) == p->tok.n && !memcmp(p->tok.at, s, p->tok.n);
}
static bool take_punct(struct parser *p, char c)
{
    if (!is_punct(p, c))
        return false;
    next(p);
    return true;
}
static bool take_word(struct parser *p, const char *s)
{
    if (!is_word(p, s))
        return false;
    next(p);
    return true;
}
static void expect(struct parser *p, char c)
{
    if (!take_punct(p, c))
        fail(p, "expected '%c', found '%.*s'", c, p->tok.kind == TOK_END ? 3 : (int)p->tok.n,
             p->tok.kind == TOK_END ? "end" : p->tok.at);
}
static const char *word(struct parser *p, const char *what)
{
    if (p->tok.kind != TOK_WORD)
        fail(p, "expected %s, found '%.*s'", what, (int)p->tok.n, p->tok.at);
    const char *s = intern_n(p->tok.at, p->tok.n);
    next(p);
    return s;
}
static uint64_t integer(struct parser *p)
{
    if (p->tok.kind != TOK_INT)
        fail(p, "expected a number, found '%.*s'", (int)p->tok.n, p->tok.at);
    uint64_t v = p->tok.bits;
    next(p);
    return v;
}

/* ---- names ---- */

static uint32_t hash_name(const char *s) { return (uint32_t)(((uintptr_t)s >> 3) * 0x9E3779B97F4A7C15ull >> 32); }

static struct emu_name *scope_slot(const struct emu_scope *s, const char *name)
{
    if (!s->cap)
        return NULL;
    for (uint32_t i = hash_name(name);; i++) {
        struct emu_name *n = &s->slot[i & (s->cap - 1)];
        if (!n->name || n->name == name)
            return n;
    }
}

const struct emu_name *emu_scope_find(const struct emu_scope *s, const char *name)
{
    for (; s; s = s->up) {
        const struct emu_name *n = scope_slot(s, name);
        if (n && n->name)
            return n;
    }
    return NULL;
}

static struct emu_name *declare(struct parser *p, const char *name)
{
    struct emu_scope *s = p->scope;
    if (s->n * 2 >= s->cap) {
        struct emu_scope old = *s;
        s->cap = old.cap ? old.cap * 2 : 16;
        s->slot = new_n(p->a, struct emu_name, s->cap);
        for (uint32_t i = 0; i < old.cap; i++)
            if (old.slot[i].name)
                *scope_slot(s, old.slot[i].name) = old.slot[i];
    }
    struct emu_name *n = scope_slot(s, name);
    if (n->name)
        fail(p, "'%s' is declared twice", name);
    *n = (struct emu_name){.name = name, .label = -1};
    s->n++;
    return n;
}

static void open_scope(struct parser *p)
{
    struct emu_scope *s = new(p->a, struct emu_scope);
    s->up = p->scope;
    p->scope = s;
}

/* ---- operands ---- */

static struct emu_raw raw_new(struct parser *p, enum emu_raw_kind kind)
{
    return (struct emu_raw){.kind = kind, .line = p->tok.line, .col = p->tok.col, .sreg = -1, .scope = p->scope};
}

static uint64_t negated(enum emu_raw_kind kind, uint64_t v)
{
    if (kind == EMU_RAW_INT)
        return -v;
    return v ^ (kind == EMU_RAW_F32 ? 0x80000000ull : 0x8000000000000000ull);
}

static bool number(struct parser *p, struct emu_raw *r)
{
    if (p->tok.kind < TOK_INT || p->tok.kind > TOK_F64)
        return false;
    r->kind = p->tok.kind == TOK_INT ? EMU_RAW_INT : p->tok.kind == TOK_F32 ? EMU_RAW_F32 : EMU_RAW_F64;
    r->bits = p->tok.bits;
    next(p);
    return true;
}

static void resolve(struct parser *p, struct emu_raw *r, const char *name)
{
    r->name = name;
    const struct emu_name *n = emu_scope_find(p->scope, name);
    if (n && n->reg) {
        r->kind = EMU_RAW_REG;
        r->reg = n->reg;
    } else if ((r->sreg = emu_sreg_find(name)) >= 0) {
        r->kind = EMU_RAW_REG;
    } else if (name[0] == '%' && !n) {
        fail_at(p, r->line, r->col, "unknown register '%s'", name);
    } else {
        r->kind = EMU_RAW_SYM;
    }
}

/* name and, behind it, + or - offsets */
static void base_offset(struct parser *p, struct emu_raw *r)
{
    while (is_punct(p, '+') || is_punct(p, '-')) {
        bool minus = is_punct(p, '-');
        next(p);
        if (take_punct(p, '-'))
            minus = !minus;
        int64_t v = (int64_t)integer(p);
        r->offset += minus ? -v : v;
    }
}

static struct emu_raw operand(struct parser *p);

static void elements(struct parser *p, struct emu_raw *r, char close)
{
    VEC(struct emu_raw) v = {0};
    if (!is_punct(p, close))
        do {
            struct emu_raw e = operand(p);
            vec_push(p->a, &v, e);
        } while (take_punct(p, ','));
    expect(p, close);
    r->elem = v.at;
    r->n = v.n;
}

static struct emu_raw memory_operand(struct parser *p)
{
    struct emu_raw r = raw_new(p, EMU_RAW_MEM);
    next(p);
    struct emu_raw base = raw_new(p, EMU_RAW_INT);
    if (take_punct(p, '-')) {
        r.offset = -(int64_t)integer(p);
    } else if (p->tok.kind == TOK_INT) {
        r.offset = (int64_t)integer(p);
    } else {
        resolve(p, &base, word(p, "an address"));
        r.name = base.name;
        r.reg = base.reg;
        r.sreg = base.sreg;
        base_offset(p, &r);
    }
    if (take_punct(p, ',')) {
        VEC(struct emu_raw) v = {0};
        do {
            struct emu_raw e = operand(p);
            vec_push(p->a, &v, e);
        } while (take_punct(p, ','));
        r.elem = v.at;
        r.n = v.n;
    }
    expect(p, ']');
    return r;
}

static struct emu_raw name_operand(struct parser *p)
{
    struct emu_raw r = raw_new(p, EMU_RAW_SINK);
    if (is_word(p, "_")) {
        next(p);
    } else if (is_word(p, "WARP_SZ")) {
        next(p);
        r.kind = EMU_RAW_INT;
        r.bits = 32;
    } else {
        resolve(p, &r, word(p, "an operand"));
        if (r.kind == EMU_RAW_SYM)
            base_offset(p, &r);
    }
    return r;
}

static void enter(struct parser *p)
{
    if (++p->depth > DEPTH_MAX)
        fail(p, "nested more than %d deep", DEPTH_MAX);
}

static struct emu_raw operand(struct parser *p)
{
    enter(p);
    struct emu_raw r = raw_new(p, EMU_RAW_INT);
    if (is_punct(p, '[')) {
        r = memory_operand(p);
    } else if (is_punct(p, '{') || is_punct(p, '(')) {
        char close = is_punct(p, '{') ? '}' : ')';
        r.kind = EMU_RAW_VEC;
        next(p);
        elements(p, &r, close);
    } else if (take_punct(p, '-')) {
        if (number(p, &r)) {
            r.bits = negated(r.kind, r.bits);
        } else {
            fail(p, "only numbers may be negated");
        }
    } else if (take_punct(p, '!')) {
        r = name_operand(p);
        r.neg = true;
    } else if (!number(p, &r)) {
        r = name_operand(p);
    }
    if (take_punct(p, '|')) {
        r.pair = new(p->a, struct emu_raw);
        *r.pair = name_operand(p);
    }
    p->depth--;
    return r;
}

/* ---- declarations ---- */

static enum emu_type type_word(struct parser *p)
{
    if (p->tok.kind != TOK_WORD || p->tok.at[0] != '.')
        fail(p, "expected a type, found '%.*s'", (int)p->tok.n, p->tok.at);
    enum emu_type t = emu_type_find(intern_n(p->tok.at + 1, p->tok.n - 1));
    if (t == EMU_T_NONE)
        fail(p, "unknown type '%.*s'", (int)p->tok.n, p->tok.at);
    next(p);
    return t;
}

static void declare_register(struct parser *p, const char *name, enum emu_type t)
{
    struct emu_register *r = new(p->a, struct emu_register);
    r->name = name;
    r->type = t;
    declare(p, name)->reg = r;
}

static void reg_declaration(struct parser *p)
{
    enum emu_type t = type_word(p);
    do {
        const char *name = word(p, "a register's name");
        if (!take_punct(p, '<')) {
            declare_register(p, name, t);
            continue;
        }
        uint64_t n = integer(p);
        if (n > 1u << 20)
            fail(p, "%llu registers are too many", (unsigned long long)n);
        for (uint64_t i = 0; i < n; i++)
            declare_register(p, intern(arena_printf(p->a, "%s%llu", name, (unsigned long long)i)), t);
        expect(p, '>');
    } while (take_punct(p, ','));
    expect(p, ';');
}

/* .align, .ptr and the type of a variable or parameter; then its name and extent. */
struct variable {
    const char *name;
    enum emu_type type;
    uint64_t bytes;
    uint32_t align;
    bool open; /* [] */
    uint32_t vec;
};

static void variable_head(struct parser *p, struct variable *v)
{
    v->vec = 1;
    for (;;) {
        if (take_word(p, ".align")) {
            uint64_t a = integer(p);
            if (!a || (a & (a - 1)) || a > 1u << 20)
                fail(p, "alignment must be a power of two");
            v->align = (uint32_t)a;
        } else if (take_word(p, ".v2")) {
            v->vec = 2;
        } else if (take_word(p, ".v4")) {
            v->vec = 4;
        } else {
            break;
        }
    }
    v->type = type_word(p);
    if (take_word(p, ".ptr")) {
        static const char *const spaces[] = {".global", ".shared", ".const", ".local"};
        for (int i = 0; i < COUNT(spaces); i++)
            take_word(p, spaces[i]);
        if (take_word(p, ".align"))
            integer(p);
    }
}

static void variable_name(struct parser *p, struct variable *v)
{
    v->name = word(p, "a name");
    uint64_t n = v->vec;
    v->open = false;
    while (take_punct(p, '[')) {
        if (take_punct(p, ']')) {
            v->open = true;
            n = 0;
            continue;
        }
        n *= integer(p);
        expect(p, ']');
    }
    uint32_t size = (uint32_t)(emu_types[v->type].bits + 7) / 8;
    v->bytes = n * size;
    if (v->bytes > 1u << 28)
        fail(p, "'%s' is too large", v->name);
    if (v->align < size * v->vec)
        v->align = size * v->vec;
}

static struct emu_symbol *declare_symbol(struct parser *p, const struct variable *v, enum emu_space space)
{
    struct emu_symbol s = {.name = v->name, .space = space, .bytes = v->bytes, .align = v->align, .dynamic = v->open};
    struct emu_symbol *keep = new(p->a, struct emu_symbol);
    *keep = s;
    declare(p, v->name)->symbol = keep;
    return keep;
}

static uint64_t align_up(uint64_t x, uint64_t a) { return (x + a - 1) & ~(a - 1); }

/* Initial values of a module variable: nested braces of numbers, or addresses of other variables. */
static void initial_values(struct parser *p, const struct variable *v, uint8_t *out, uint64_t *at)
{
    uint32_t size = (uint32_t)(emu_types[v->type].bits + 7) / 8;
    if (take_punct(p, '{')) {
        enter(p);
        if (!is_punct(p, '}'))
            do
                initial_values(p, v, out, at);
            while (take_punct(p, ','));
        expect(p, '}');
        p->depth--;
        return;
    }
    bool minus = take_punct(p, '-');
    struct emu_raw r = raw_new(p, EMU_RAW_INT);
    if (!number(p, &r)) {
        const char *name = word(p, "an initial value");
        const struct emu_name *n = emu_scope_find(p->scope, name);
        if (!n || !n->symbol || n->symbol->space != EMU_GLOBAL)
            fail(p, "'%s' is no constant", name);
        r.bits = n->symbol->address;
        base_offset(p, &r);
        r.bits += (uint64_t)r.offset;
    }
    if (minus)
        r.bits = negated(r.kind, r.bits);
    if (r.kind == EMU_RAW_F64 && v->type == EMU_T_F32)
        r.bits = num_float_bits((float)num_double(r.bits));
    if (*at + size > v->bytes)
        fail(p, "too many initial values for '%s'", v->name);
    memcpy(out + *at, &r.bits, size);
    *at += size;
}

static void global_variable(struct parser *p, enum emu_space space, bool is_extern)
{
    struct variable v = {0};
    variable_head(p, &v);
    do {
        variable_name(p, &v);
        if (is_extern || v.open)
            fail(p, "'%s' has no size here", v.name);
        uint8_t *data = new_n(p->a, uint8_t, v.bytes + 1);
        uint64_t at = 0;
        bool init = take_punct(p, '=');
        if (init)
            initial_values(p, &v, data, &at);
        struct emu_symbol *s = declare_symbol(p, &v, space);
        s->address = emu_alloc(p->m->emu, v.bytes ? v.bytes : 1, v.name);
        if (!s->address)
            fail(p, "no memory for '%s'", v.name);
        emu_write(p->m->emu, s->address, data, v.bytes);
        vec_push(p->a, &p->m->allocations, s->address);
        vec_push(p->a, &p->m->symbols, *s);
    } while (take_punct(p, ','));
    expect(p, ';');
}

static void shared_variable(struct parser *p, bool is_extern)
{
    struct variable v = {0};
    variable_head(p, &v);
    do {
        variable_name(p, &v);
        if (v.open && !is_extern)
            fail(p, "only an .extern array may be without size");
        struct emu_symbol *s = declare_symbol(p, &v, EMU_SHARED_CTA);
        s->dynamic = is_extern;
        s->address = UINT64_MAX; /* placed when an entry first uses it */
    } while (take_punct(p, ','));
    expect(p, ';');
}

static void local_variable(struct parser *p)
{
    struct variable v = {0};
    variable_head(p, &v);
    variable_name(p, &v);
    struct emu_symbol *s = declare_symbol(p, &v, EMU_LOCAL);
    s->address = align_up(p->entry->local_bytes, v.align);
    p->entry->local_bytes = (uint32_t)(s->address + v.bytes);
    expect(p, ';');
}

/* ---- bodies ---- */

static void skip_line(struct parser *p, uint32_t line)
{
    while (p->tok.kind != TOK_END && p->tok.line == line)
        next(p);
}

/* .loc file line column [, function_name label, inlined_at file line column] */
static void loc_directive(struct parser *p, uint32_t line)
{
    p->src_file = (uint32_t)integer(p);
    p->src_line = (uint32_t)integer(p);
    skip_line(p, line);
}

/* .file index "path" [, time, size] */
static void file_directive(struct parser *p, uint32_t line)
{
    uint64_t i = integer(p);
    if (p->tok.kind != TOK_STRING)
        fail(p, "expected a path");
    if (i > 4096)
        fail(p, "file number beyond 4096");
    while (p->m->files.n <= (int)i)
        vec_push(p->a, &p->m->files, (const char *)NULL);
    p->m->files.at[i] = intern_n(p->tok.at + 1, p->tok.n - 2);
    skip_line(p, line);
}

static void branch_targets(struct parser *p, const char *label)
{
    struct emu_branch_table *t = new(p->a, struct emu_branch_table);
    VEC(const char *) v = {0};
    do {
        const char *l = word(p, "a label");
        vec_push(p->a, &v, l);
    } while (take_punct(p, ','));
    expect(p, ';');
    t->label = v.at;
    t->n = v.n;
    t->scope = p->scope;
    declare(p, label)->table = t;
}

static void call(struct parser *p, struct emu_raw *guard);

static void branch_to(struct parser *p, struct emu_raw *guard, const char *label)
{
    struct emu_stmt s = {.text = "bra", .guard = guard, .line = p->tok.line, .col = p->tok.col, .src_file = p->src_file,
                         .src_line = p->src_line, .nop = 1};
    s.op = new(p->a, struct emu_raw);
    *s.op = raw_new(p, EMU_RAW_SYM);
    s.op->name = label;
    vec_push(p->a, &p->body->stmts, s);
}

static void instruction(struct parser *p, struct emu_raw *guard)
{
    if (is_word(p, "call") || is_word(p, "call.uni")) {
        call(p, guard);
        return;
    }
    struct emu_stmt s = {.guard = guard, .line = p->tok.line, .col = p->tok.col, .src_file = p->src_file,
                         .src_line = p->src_line};
    s.text = word(p, "an instruction");
    if (s.text[0] == '.' || s.text[0] == '%')
        fail_at(p, s.line, s.col, "unknown directive '%s'", s.text);
    VEC(struct emu_raw) ops = {0};
    if (!is_punct(p, ';'))
        do {
            struct emu_raw r = operand(p);
            vec_push(p->a, &ops, r);
        } while (take_punct(p, ','));
    expect(p, ';');
    s.op = ops.at;
    s.nop = ops.n;
    if (p->ret_label && (!strcmp(s.text, "ret") || !strcmp(s.text, "ret.uni"))) {
        branch_to(p, guard, p->ret_label);
        return;
    }
    vec_push(p->a, &p->body->stmts, s);
}

static void block(struct parser *p);

static void body_directive(struct parser *p)
{
    uint32_t line = p->tok.line;
    if (take_word(p, ".reg"))
        reg_declaration(p);
    else if (take_word(p, ".shared"))
        shared_variable(p, false);
    else if (take_word(p, ".local") || take_word(p, ".param"))
        local_variable(p);
    else if (take_word(p, ".loc"))
        loc_directive(p, line);
    else if (take_word(p, ".pragma")) {
        while (!is_punct(p, ';') && p->tok.kind != TOK_END)
            next(p);
        expect(p, ';');
    } else
        fail(p, "unknown directive '%.*s'", (int)p->tok.n, p->tok.at);
}

static void statement(struct parser *p)
{
    if (is_punct(p, '{')) {
        block(p);
        return;
    }
    if (take_punct(p, '@')) {
        struct emu_raw *g = new(p->a, struct emu_raw);
        bool neg = take_punct(p, '!');
        *g = name_operand(p);
        g->neg = neg;
        instruction(p, g);
        return;
    }
    if (p->tok.kind != TOK_WORD)
        fail(p, "expected a statement, found '%.*s'", (int)p->tok.n, p->tok.at);
    if (p->tok.at[0] == '.') {
        body_directive(p);
        return;
    }
    const char *at = p->at;
    while (*at == ' ' || *at == '\t')
        at++;
    if (*at == ':' && at[1] != ':') {
        const char *name = word(p, "a label");
        expect(p, ':');
        if (take_word(p, ".branchtargets"))
            branch_targets(p, name);
        else
            declare(p, name)->label = p->body->stmts.n;
        return;
    }
    instruction(p, NULL);
}

static void block(struct parser *p)
{
    enter(p);
    expect(p, '{');
    open_scope(p);
    while (!is_punct(p, '}')) {
        if (p->tok.kind == TOK_END)
            fail(p, "'}' is missing");
        statement(p);
    }
    p->scope = (struct emu_scope *)p->scope->up;
    p->depth--;
    next(p);
}

/* ---- calls: a function's text is read anew at each call, its parameters being other names of the arguments ---- */

static struct place here(const struct parser *p) { return (struct place){p->at, p->line_at, p->line, p->tok}; }
static void go(struct parser *p, const struct place *q)
{
    p->at = q->at;
    p->line_at = q->line_at;
    p->line = q->line;
    p->tok = q->tok;
}

/* (a, b, ...): variables that lie in local memory */
static int arguments(struct parser *p, struct emu_symbol **out)
{
    int n = 0;
    expect(p, '(');
    while (!is_punct(p, ')')) {
        const char *name = word(p, "an argument");
        const struct emu_name *v = emu_scope_find(p->scope, name);
        if (!v || !v->symbol || v->symbol->space != EMU_LOCAL)
            fail(p, "'%s' is no .param variable", name);
        if (n == ARGUMENTS_MAX)
            fail(p, "more than %d arguments", ARGUMENTS_MAX);
        out[n++] = v->symbol;
        if (!take_punct(p, ','))
            break;
    }
    expect(p, ')');
    return n;
}

/* The head of a parameter of an entry or a function: ".param .b32 name". */
static struct variable parameter(struct parser *p)
{
    struct variable v = {0};
    if (!take_word(p, ".param"))
        fail(p, "expected .param");
    variable_head(p, &v);
    variable_name(p, &v);
    return v;
}

static void bind(struct parser *p, struct emu_symbol *const *arg, int n)
{
    int i = 0;
    if (!take_punct(p, '('))
        return;
    while (!is_punct(p, ')')) {
        struct variable v = parameter(p);
        if (i == n)
            fail(p, "a call of this function gives fewer arguments");
        declare(p, v.name)->symbol = arg[i++];
        if (!take_punct(p, ','))
            break;
    }
    expect(p, ')');
}

/* A function that the module does not define: what compilers call for printf and assert. Its operands are where its
 * arguments lie. */
static void external_call(struct parser *p, const char *name, struct emu_symbol *const *arg, int n)
{
    struct emu_stmt s = {.text = intern(arena_printf(p->a, "call.%s", name)), .line = p->tok.line, .col = p->tok.col,
                         .src_file = p->src_file, .src_line = p->src_line, .nop = n};
    s.op = new_n(p->a, struct emu_raw, n + 1);
    for (int i = 0; i < n; i++) {
        s.op[i] = raw_new(p, EMU_RAW_MEM);
        resolve(p, &s.op[i], arg[i]->name);
        s.op[i].kind = EMU_RAW_MEM;
    }
    vec_push(p->a, &p->body->stmts, s);
}

static void inline_body(struct parser *p, const struct function *f, struct emu_symbol **ret, int nret,
                        struct emu_symbol **arg, int narg)
{
    struct place back = here(p);
    struct emu_scope *scope = p->scope;
    const char *label = p->ret_label;
    if (++p->call_depth > CALL_DEPTH_MAX || ++p->calls > CALLS_MAX)
        fail(p, "calls of '%s' are nested too deeply, or too many", f->name);
    p->scope = p->module_scope;
    open_scope(p);
    p->ret_label = intern(arena_printf(p->a, "%%return%d", p->calls));
    go(p, &f->place);
    bind(p, ret, nret);
    word(p, "the function's name");
    bind(p, arg, narg);
    while (p->tok.kind == TOK_WORD)
        next(p);
    block(p);
    declare(p, p->ret_label)->label = p->body->stmts.n;
    p->scope = scope;
    p->ret_label = label;
    p->call_depth--;
    go(p, &back);
}

/* call[.uni] [(results),] name [, (arguments)]; */
static void call(struct parser *p, struct emu_raw *guard)
{
    struct emu_symbol *ret[ARGUMENTS_MAX], *arg[ARGUMENTS_MAX];
    int nret = 0, narg = 0;
    const char *over = NULL;
    next(p);
    if (is_punct(p, '(')) {
        nret = arguments(p, ret);
        expect(p, ',');
    }
    const char *name = word(p, "a function");
    if (take_punct(p, ',') && is_punct(p, '('))
        narg = arguments(p, arg);
    expect(p, ';');
    if (guard) {
        open_scope(p);
        over = intern("%over");
        guard->neg = !guard->neg;
        branch_to(p, guard, over);
    }
    const struct function *f = NULL;
    for (int i = 0; i < p->functions.n; i++)
        if (p->functions.at[i].name == name)
            f = &p->functions.at[i];
    if (f)
        inline_body(p, f, ret, nret, arg, narg);
    else
        external_call(p, name, arg, narg);
    if (guard) {
        declare(p, over)->label = p->body->stmts.n;
        p->scope = (struct emu_scope *)p->scope->up;
    }
}

/* Finds the functions with a body. */
static void find_functions(struct parser *p)
{
    struct place start = here(p);
    for (int depth = 0; p->tok.kind != TOK_END;) {
        if (is_punct(p, '{'))
            depth++;
        else if (is_punct(p, '}'))
            depth--;
        if (depth || !is_word(p, ".func")) {
            next(p);
            continue;
        }
        next(p);
        struct function f = {.place = here(p)};
        if (is_punct(p, '('))
            while (p->tok.kind != TOK_END && !take_punct(p, ')'))
                next(p);
        f.name = word(p, "the function's name");
        while (p->tok.kind != TOK_END && !is_punct(p, ';') && !is_punct(p, '{'))
            next(p);
        if (is_punct(p, '{'))
            vec_push(p->a, &p->functions, f);
    }
    go(p, &start);
}

/* ---- entries ---- */

static void parameters(struct parser *p)
{
    if (!take_punct(p, '('))
        return;
    while (!is_punct(p, ')')) {
        struct variable v = parameter(p);
        struct emu_symbol *s = declare_symbol(p, &v, EMU_PARAM);
        s->address = align_up(p->entry->param_bytes, v.align);
        p->entry->param_bytes = (uint32_t)(s->address + v.bytes);
        vec_push(p->a, &p->entry->symbols, *s);
        if (!take_punct(p, ','))
            break;
    }
    expect(p, ')');
    if (p->entry->param_bytes > 32764)
        fail(p, "%u bytes of parameters; at most 32764 are possible", p->entry->param_bytes);
}

static void triple(struct parser *p, uint32_t out[3])
{
    out[1] = out[2] = 1;
    for (int i = 0; i < 3; i++) {
        out[i] = (uint32_t)integer(p);
        if (!out[i])
            fail(p, "an extent of 0");
        if (i == 2 || !take_punct(p, ','))
            return;
    }
}

static bool entry_directive(struct parser *p, struct emu_entry *e)
{
    if (take_word(p, ".reqntid"))
        triple(p, e->reqntid), e->has_reqntid = true;
    else if (take_word(p, ".maxntid"))
        triple(p, e->maxntid), e->has_maxntid = true;
    else if (take_word(p, ".minnctapersm"))
        e->minnctapersm = (uint32_t)integer(p);
    else if (take_word(p, ".maxnreg"))
        e->maxnreg = (uint32_t)integer(p);
    else if (take_word(p, ".reqnctapercluster"))
        triple(p, e->reqcluster), e->has_reqcluster = true;
    else if (take_word(p, ".explicitcluster"))
        e->explicit_cluster = true;
    else if (take_word(p, ".maxclusterrank"))
        e->maxclusterrank = (uint32_t)integer(p);
    else if (take_word(p, ".blocksareclusters"))
        e->blocks_are_clusters = true;
    else if (take_word(p, ".pragma")) {
        while (!is_punct(p, ';') && p->tok.kind != TOK_END)
            next(p);
        expect(p, ';');
    } else
        return false;
    return true;
}

static void entry(struct parser *p)
{
    struct emu_entry *e = new(p->a, struct emu_entry);
    struct emu_body body = {0};
    e->name = word(p, "the entry's name");
    p->entry = e;
    p->body = &body;
    p->src_file = p->src_line = 0;
    open_scope(p);
    parameters(p);
    while (entry_directive(p, e))
        ;
    if (e->has_reqntid && e->has_maxntid)
        fail(p, ".reqntid and .maxntid exclude each other");
    if (e->has_reqcluster && e->maxclusterrank)
        fail(p, ".reqnctapercluster and .maxclusterrank exclude each other");
    if ((e->has_reqcluster || e->maxclusterrank || e->explicit_cluster || e->blocks_are_clusters) && p->m->sm < 90)
        fail(p, "clusters are available from sm_90 on");
    if (e->blocks_are_clusters && !(e->has_reqcluster && e->has_reqntid))
        fail(p, ".blocksareclusters needs .reqntid and .reqnctapercluster");
    body.scope = p->scope;
    if (!take_punct(p, ';')) {
        block(p);
        vec_push(p->a, &p->m->entries, e);
        if (!emu_decode_entry(p->m, e, &body))
            longjmp(p->fail, 1);
    }
    p->scope = (struct emu_scope *)p->scope->up;
}

/* ---- modules ---- */

static void version_directive(struct parser *p)
{
    int major = 0, minor = 0;
    if (p->tok.kind != TOK_F64 || sscanf(p->tok.at, "%d.%d", &major, &minor) != 2)
        fail(p, "expected a version like 8.0");
    p->m->version = 10 * major + minor;
    next(p);
}

static void target_directive(struct parser *p)
{
    static const int known[] = {80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};
    const char *t = word(p, "a target");
    int sm = 0, used = 0;
    if (sscanf(t, "sm_%d%n", &sm, &used) != 1 || strlen(t + used) > 1)
        fail(p, "unknown target '%s'", t);
    bool ok = false;
    for (int i = 0; i < COUNT(known); i++)
        ok |= known[i] == sm;
    if (!ok || (t[used] && t[used] != 'a' && t[used] != 'f') || (t[used] && sm < 90))
        fail(p, "unknown target '%s'", t);
    p->m->sm = sm;
    p->m->suffix = t[used];
    while (take_punct(p, ','))
        word(p, "a target option");
    static const int chip_sm[EMU_CHIPS] = {80, 89, 90, 100, 103, 120, 121};
    const struct emu_config *c = &p->m->emu->config;
    int chip = c->capability ? c->capability : chip_sm[c->chip];
    bool family = sm == chip || (sm / 10 == chip / 10 && sm <= chip);
    if (p->m->suffix == 'a' ? sm != chip : p->m->suffix == 'f' ? !family : sm > chip)
        fail(p, "PTX for %s does not run on an sm_%d chip", t, chip);
}

static void skip_function(struct parser *p)
{
    int depth = 0;
    for (;; next(p)) {
        if (p->tok.kind == TOK_END)
            fail(p, "function without end");
        if (is_punct(p, '{'))
            depth++;
        if (depth == 0 && take_punct(p, ';'))
            return;
        if (is_punct(p, '}') && --depth == 0) {
            next(p);
            return;
        }
    }
}

static void module_item(struct parser *p)
{
    bool is_extern = false;
    uint32_t line = p->tok.line;
    static const char *const linkage[] = {".visible", ".weak", ".common"};
    for (int i = 0; i < COUNT(linkage); i++)
        take_word(p, linkage[i]);
    is_extern = take_word(p, ".extern");
    if (take_word(p, ".entry"))
        entry(p);
    else if (take_word(p, ".func"))
        skip_function(p); /* read where it is called */
    else if (take_word(p, ".global"))
        global_variable(p, EMU_GLOBAL, is_extern);
    else if (take_word(p, ".const"))
        global_variable(p, EMU_GLOBAL, is_extern);
    else if (take_word(p, ".shared"))
        shared_variable(p, is_extern);
    else if (take_word(p, ".file"))
        file_directive(p, line);
    else if (take_word(p, ".loc"))
        loc_directive(p, line);
    else if (take_word(p, ".section"))
        skip_function(p);
    else if (take_word(p, ".pragma"))
        skip_function(p);
    else
        fail(p, "unknown directive '%.*s'", (int)p->tok.n, p->tok.at);
}

static void find_lines(struct emu_module *m)
{
    vec_push(&m->arena, &m->line_start, 0u);
    for (const char *s = m->text; *s; s++)
        if (*s == '\n')
            vec_push(&m->arena, &m->line_start, (uint32_t)(s + 1 - m->text));
}

bool emu_parse(struct emu_module *m)
{
    struct parser *p = new(&m->arena, struct parser);
    *p = (struct parser){.m = m, .a = &m->arena, .at = m->text, .line_at = m->text, .line = 1};
    find_lines(m);
    if (setjmp(p->fail))
        return false;
    open_scope(p);
    p->module_scope = p->scope;
    next(p);
    find_functions(p);
    if (!take_word(p, ".version"))
        fail(p, "expected .version");
    version_directive(p);
    if (!take_word(p, ".target"))
        fail(p, "expected .target");
    target_directive(p);
    if (take_word(p, ".address_size") && integer(p) != 64)
        fail(p, "only 64-bit addresses are supported");
    while (p->tok.kind != TOK_END)
        module_item(p);
    return true;
}
