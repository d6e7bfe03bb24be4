/* ast - the syntax tree. See ast.def for the kinds and what each slot holds. */
#ifndef DSL_AST_H
#define DSL_AST_H

#include "dsl/base.h"
#include "dsl/diag.h"
#include "dsl/types.h"

enum node_kind {
#define NODE(kind, slots) N_##kind,
#include "dsl/ast.def"
    N_COUNT
};

enum ast_op {
    OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_MOD, /* integers: floor division and its remainder */
    OP_SHL, OP_SHR, OP_AND, OP_OR, OP_XOR,
    OP_LT, OP_GT, OP_LE, OP_GE, OP_EQ, OP_NE,
    OP_LAND, OP_LOR,
    OP_COUNT
};

struct node;
typedef VEC(struct node *) nodes;

struct node {
    enum node_kind kind;
    int flag;
    enum type type;
    struct span span, name_span;
    const char *name, *text;
    int64_t num;
    double real;
    struct node *a, *b, *c, *d;
    nodes list, list2;
    struct node *decl;
};

const char *node_kind_name(enum node_kind k);
const char *ast_op_text(enum ast_op op);
/* Whether two expressions are written alike: same kinds, names, numbers and operators. NULL equals only NULL. */
bool ast_same(const struct node *x, const struct node *y);
/* The tree as indented text, for --emit=ast. */
void ast_print(const struct node *n, struct buf *out);

#endif
