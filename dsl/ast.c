/* ast - makes nodes and prints the tree. */
#include "dsl/ast.h"

#include <string.h>

#include "dsl/front.h"

struct node *ast_make(struct arena *a, struct node n)
{
    struct node *p = new(a, struct node);
    *p = n;
    if (!n.name_span.hi) p->name_span = n.span;
    return p;
}

struct node *ast_carrier(struct arena *a, struct span at, nodes list)
{
    return ast_make(a, (struct node){ .kind = N_block, .span = at, .list = list, .flag = 1 });
}

nodes ast_add(struct arena *a, nodes list, struct node *x)
{
    bool carrier = x && x->kind == N_block && x->flag;
    for (int i = 0; carrier && i < x->list.n; i++) vec_push(a, &list, x->list.at[i]);
    if (!carrier && x) vec_push(a, &list, x);
    return list;
}

nodes ast_one(struct arena *a, struct node *x)
{
    nodes list = { 0 };
    if (x) vec_push(a, &list, x);
    return list;
}

nodes ast_split_or(struct arena *a, nodes list, struct node *x)
{
    if (x->kind != N_binary || x->flag != OP_OR) return ast_add(a, list, x);
    return ast_add(a, ast_split_or(a, list, x->a), x->b);
}

const char *front_text(struct front *f, struct span at)
{
    if (at.lo < f->base || at.hi > f->base + f->size || at.hi < at.lo) return "";
    return arena_strndup(f->arena, f->text + (at.lo - f->base), at.hi - at.lo);
}

const char *node_kind_name(enum node_kind k)
{
    static const char *const names[] = {
#define NODE(kind, slots) #kind,
#include "dsl/ast.def"
    };
    return names[k];
}

const char *ast_op_text(enum ast_op op)
{
    static const char *const text[OP_COUNT] = {
        [OP_ADD] = "+",  [OP_SUB] = "-",  [OP_MUL] = "*",  [OP_DIV] = "/",   [OP_MOD] = "%",   [OP_SHL] = "<<",
        [OP_SHR] = ">>", [OP_AND] = "&",  [OP_OR] = "|",   [OP_XOR] = "^",   [OP_LT] = "<",    [OP_GT] = ">",
        [OP_LE] = "<=",  [OP_GE] = ">=",  [OP_EQ] = "==",  [OP_NE] = "!=",   [OP_LAND] = "&&", [OP_LOR] = "||",
    };
    return text[op];
}

/* Text in quotes, so that a tree stays one node a line whatever a string holds. */
static void quote(struct buf *out, const char *s)
{
    buf_printf(out, " \"");
    for (; *s; s++) {
        if (*s == '\n') buf_printf(out, "\\n");
        else if (*s == '\t') buf_printf(out, "\\t");
        else buf_printf(out, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
    }
    buf_printf(out, "\"");
}

static void print_head(const struct node *n, struct buf *out)
{
    buf_printf(out, "%s", node_kind_name(n->kind));
    if (n->kind == N_binary) buf_printf(out, " %s", ast_op_text((enum ast_op)n->flag));
    else if (n->kind == N_unary) buf_printf(out, " %c", n->flag);
    else if (n->flag) buf_printf(out, " flag=%d", n->flag);
    if (n->type) buf_printf(out, " %s", type_name(n->type));
    if (n->name) buf_printf(out, " %s", n->name);
    if (n->text) quote(out, n->text);
    if (n->kind == N_int) buf_printf(out, " %lld", (long long)n->num);
    if (n->kind == N_shape) buf_printf(out, " %lldx%d", (long long)n->num, (int)n->real);
    if (n->kind == N_float || (n->kind == N_spec && n->real != 0)) buf_printf(out, " %.17g", n->real);
    buf_printf(out, "\n");
}

enum { DEEPEST = 4000 }; /* the checker refuses deeper trees; printing one must not overflow the stack either */

static void print(const struct node *n, const char *slot, int depth, struct buf *out);

static void print_list(const nodes *list, const char *slot, int depth, struct buf *out)
{
    for (int i = 0; i < list->n; i++) print(list->at[i], slot, depth, out);
}

static void print(const struct node *n, const char *slot, int depth, struct buf *out)
{
    if (!n) return;
    buf_printf(out, "%*s%s", depth * 2 % 256, "", slot);
    if (depth > DEEPEST) {
        buf_printf(out, "...\n");
        return;
    }
    print_head(n, out);
    print(n->a, "a: ", depth + 1, out);
    print(n->b, "b: ", depth + 1, out);
    print(n->c, "c: ", depth + 1, out);
    print(n->d, "d: ", depth + 1, out);
    print_list(&n->list, "", depth + 1, out);
    print_list(&n->list2, "2: ", depth + 1, out);
}

void ast_print(const struct node *n, struct buf *out)
{
    print(n, "", 0, out);
}

bool ast_same(const struct node *x, const struct node *y)
{
    if (!x || !y) return x == y;
    if (x->kind != y->kind || x->name != y->name || x->num != y->num || x->flag != y->flag || x->list.n != y->list.n) return false;
    for (int i = 0; i < x->list.n; i++)
        if (!ast_same(x->list.at[i], y->list.at[i])) return false;
    return ast_same(x->a, y->a) && ast_same(x->b, y->b) && ast_same(x->c, y->c);
}
