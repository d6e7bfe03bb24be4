/* dsl - source text to a checked tree. */
#ifndef DSL_DSL_H
#define DSL_DSL_H

#include "dsl/ast.h"

/* Parses `path` and what it imports (relative to the importing file, then to each of import_dirs; each file once).
 * Returns the file node; errors are in d. Never NULL; a tree with errors must not be compiled. */
struct node *dsl_parse_file(struct arena *a, struct diag *d, const char *path, const char *const *import_dirs, int n);
/* The same for text in memory; `path` names it in messages. */
struct node *dsl_parse_text(struct arena *a, struct diag *d, const char *path, const char *text, size_t size,
                            const char *const *import_dirs, int n);

/* Resolves names (sets node.decl), and checks everything that does not depend on parameter values: declarations used
 * and used once, arities, indices against ranks and slots, which axes a tile has, where statements may stand, pipes
 * produced and consumed by the right roles, types as far as they are known. Goes on after errors. */
void dsl_check(struct arena *a, struct diag *d, struct node *file);

/* The kernel called `name`, or the only (else the last) kernel of the main file when name is NULL. */
struct node *dsl_kernel(struct node *file, const char *name);

/* The tokens of a file, one a line, for --emit=tokens. */
void dsl_print_tokens(struct diag *d, const char *path, const char *text, size_t size, struct buf *out);

#endif
