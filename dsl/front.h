/* front - what the lexer, the parser and the reader of imports share. Private to dsl/. */
#ifndef DSL_FRONT_H
#define DSL_FRONT_H

#include "dsl/ast.h"

/* One file being read. */
struct front {
    struct arena *arena;
    struct diag *diag;
    const char *text;     /* the file's text; position base + i is text[i] */
    uint32_t base, size, pos;
    void *scanner;
    struct span last;     /* the token before the lookahead, for "missing ';'" */
    struct span now;
    struct span opened;   /* the last '{' that was read */
    struct span torn;     /* an unclosed string or comment: what is missing after it is its fault */
    const nodes *params;  /* of the kernel being read: OUT(x) is a cast if OUT is a type parameter */
    struct node *file;
};

/* A type as written: a name of the table, or a type parameter's name. */
struct type_word {
    enum type type;
    const char *text;
};

/* A copy of n in the arena; without a span of its own the name stands where the node does. */
struct node *ast_make(struct arena *a, struct node n);
/* Adds x to the list; a carrier (several declarations of one statement) is added part by part. */
nodes ast_add(struct arena *a, nodes list, struct node *x);
nodes ast_one(struct arena *a, struct node *x);
/* What `let a = 1, b = 2;` gives its list of statements. */
struct node *ast_carrier(struct arena *a, struct span at, nodes list);
/* x | y | z as a list of three. */
nodes ast_split_or(struct arena *a, nodes list, struct node *x);
const char *front_text(struct front *f, struct span at);

/* lex.l */
void front_scan_begin(struct front *f);
void front_scan_end(struct front *f);
/* Reads on to the '}' that closes a '{' already read. */
void front_skip_block(struct front *f);

/* parse.y: fills f->file. */
void front_parse(struct front *f);
/* The token of a reserved word, or 0. */
int front_keyword(const char *word);
const char *front_token_name(int token);
/* The reserved word nearest to `word`, or NULL. */
const char *front_near_keyword(const char *word);

#endif
