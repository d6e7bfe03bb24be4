/* hexpr - evaluates and prints the host expressions of an image. */
#include "codegen/image.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STACK = 64 };

/* What each operator does with its operands; b is the top of the stack. */
static int64_t apply(enum hexpr_op op, int64_t a, int64_t b)
{
    switch (op) {
    case HEX_ADD: return a + b;
    case HEX_SUB: return a - b;
    case HEX_MUL: return a * b;
    case HEX_DIV: return b ? floor_div(a, b) : 0;
    case HEX_MOD: return b ? floor_mod(a, b) : 0;
    case HEX_CDIV: return b ? ceil_div(a, b) : 0;
    case HEX_MIN: return a < b ? a : b;
    case HEX_MAX: return a > b ? a : b;
    case HEX_EQ: return a == b;
    case HEX_NE: return a != b;
    case HEX_LT: return a < b;
    case HEX_LE: return a <= b;
    case HEX_AND: return a && b;
    case HEX_OR: return a || b;
    default: assert(!"not a binary host operator"); return 0;
    }
}

struct hexpr hexpr_const(struct arena *a, int64_t v)
{
    struct hexpr_code *c = new(a, struct hexpr_code);
    *c = (struct hexpr_code){ HEX_CONST, v };
    return (struct hexpr){ c, 1 };
}

struct hexpr hexpr_then(struct arena *a, struct hexpr x, enum hexpr_op op, int64_t v)
{
    struct hexpr_code *c = new_n(a, struct hexpr_code, x.n + 2);
    if (x.n) memcpy(c, x.at, sizeof *c * (size_t)x.n);
    c[x.n] = (struct hexpr_code){ HEX_CONST, v };
    c[x.n + 1] = (struct hexpr_code){ op, 0 };
    return (struct hexpr){ c, x.n + 2 };
}

static int64_t leaf(const struct hexpr_code *c, const struct hexpr_env *env)
{
    switch (c->op) {
    case HEX_CONST: return c->v;
    case HEX_DIM: return env->dims[c->v];
    case HEX_STRIDE: return env->strides[c->v / 16][c->v % 16];
    case HEX_SCALAR: return env->scalars[c->v];
    case HEX_UNITS: return env->units;
    default: assert(!"not a host value"); return 0;
    }
}

int64_t hexpr_eval(const struct hexpr *e, const struct hexpr_env *env)
{
    int64_t s[STACK];
    int n = 0;
    for (int i = 0; i < e->n; i++) {
        const struct hexpr_code *c = &e->at[i];
        assert(n < STACK);
        if (c->op <= HEX_UNITS) {
            s[n++] = leaf(c, env);
        } else if (c->op == HEX_NOT) {
            s[n - 1] = !s[n - 1];
        } else if (c->op == HEX_SELECT) {
            n -= 2;
            s[n - 1] = s[n - 1] ? s[n] : s[n + 1];
        } else {
            n--;
            s[n - 1] = apply(c->op, s[n - 1], s[n]);
        }
    }
    return n ? s[n - 1] : 0;
}

/* Spelling and strength of each operator; functions have strength 0 and are printed f(a, b). */
static const struct {
    const char *text;
    int strength;
} spelled[] = {
    [HEX_ADD] = { "+", 5 },  [HEX_SUB] = { "-", 5 },  [HEX_MUL] = { "*", 6 },  [HEX_DIV] = { "/", 6 },
    [HEX_MOD] = { "%", 6 },  [HEX_CDIV] = { "cdiv", 0 }, [HEX_MIN] = { "min", 0 }, [HEX_MAX] = { "max", 0 },
    [HEX_EQ] = { "==", 3 },  [HEX_NE] = { "!=", 3 },  [HEX_LT] = { "<", 4 },   [HEX_LE] = { "<=", 4 },
    [HEX_AND] = { "&&", 2 }, [HEX_OR] = { "||", 1 },
};
enum { ATOM = 9 };

struct piece {
    struct buf text;
    int strength;
};

static void put_leaf(struct piece *p, const struct hexpr_code *c, const struct image *im)
{
    int64_t v = c->v;
    p->strength = ATOM;
    switch (c->op) {
    case HEX_CONST: buf_printf(&p->text, "%" PRId64, v); if (v < 0) p->strength = 5; break;
    case HEX_DIM: buf_printf(&p->text, "%s", v < im->dims.n ? im->dims.at[v] : "?"); break;
    case HEX_STRIDE: buf_printf(&p->text, "stride(%s, %d)", v / 16 < im->args.n ? im->args.at[v / 16].name : "?", (int)(v % 16)); break;
    case HEX_SCALAR: buf_printf(&p->text, "%s", v < im->args.n ? im->args.at[v].name : "?"); break;
    default: buf_printf(&p->text, "units"); break;
    }
}

static void put_operand(struct buf *out, struct piece *p, bool parens)
{
    buf_printf(out, parens ? "(%s)" : "%s", p->text.at);
    buf_free(&p->text);
}

static struct piece put_binary(enum hexpr_op op, struct piece *a, struct piece *b)
{
    struct piece r = { .strength = spelled[op].strength ? spelled[op].strength : ATOM };
    if (!spelled[op].strength) {
        buf_printf(&r.text, "%s(%s, %s)", spelled[op].text, a->text.at, b->text.at);
        buf_free(&a->text);
        buf_free(&b->text);
        return r;
    }
    put_operand(&r.text, a, a->strength < r.strength);
    buf_printf(&r.text, " %s ", spelled[op].text);
    put_operand(&r.text, b, b->strength <= r.strength);
    return r;
}

void hexpr_print(const struct hexpr *e, const struct image *im, struct buf *out)
{
    struct piece s[STACK] = { 0 };
    int n = 0;
    for (int i = 0; i < e->n; i++) {
        const struct hexpr_code *c = &e->at[i];
        struct piece r = { .strength = ATOM };
        assert(n < STACK);
        if (c->op <= HEX_UNITS) {
            put_leaf(&r, c, im);
        } else if (c->op == HEX_NOT) {
            n--;
            buf_printf(&r.text, "!");
            put_operand(&r.text, &s[n], s[n].strength < ATOM);
        } else if (c->op == HEX_SELECT) {
            n -= 3;
            buf_printf(&r.text, "(%s ? %s : %s)", s[n].text.at, s[n + 1].text.at, s[n + 2].text.at);
            for (int k = 0; k < 3; k++) buf_free(&s[n + k].text);
        } else {
            n -= 2;
            r = put_binary(c->op, &s[n], &s[n + 1]);
        }
        s[n++] = r;
    }
    if (n) put_operand(out, &s[n - 1], false);
}
