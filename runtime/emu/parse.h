/* parse - PTX text to statements with resolved registers. Between parse.c and decode.c. */
#ifndef EMU_PARSE_H
#define EMU_PARSE_H

#include "runtime/emu/core.h"

/* Names declared between one pair of braces. Inner ones hide outer ones. */
struct emu_name {
    const char *name;
    struct emu_register *reg;   /* one of the three */
    struct emu_symbol *symbol;
    int label;                  /* statement number, or -1 */
    struct emu_branch_table *table;
};
struct emu_scope {
    const struct emu_scope *up;
    struct emu_name *slot; /* open addressing */
    uint32_t n, cap;
};
struct emu_branch_table {
    const char **label;
    int n;
    const struct emu_scope *scope;
};
struct emu_stmt {
    const char *text;     /* the dotted name */
    struct emu_raw *guard; /* NULL or a predicate */
    struct emu_raw *op;
    int nop;
    uint32_t line, col, src_file, src_line;
};
struct emu_body {
    VEC(struct emu_stmt) stmts;
    struct emu_scope *scope;
};

const struct emu_name *emu_scope_find(const struct emu_scope *s, const char *name); /* outwards; NULL */

/* Fills the module; calls emu_decode_entry for each body. False with the device's error set. */
bool emu_parse(struct emu_module *m);
bool emu_decode_entry(struct emu_module *m, struct emu_entry *e, struct emu_body *body);

/* Special registers: sreg.def. */
struct emu_sreg {
    const char *name;
    enum emu_type type;
    bool dynamic; /* read anew at each use */
};
extern const struct emu_sreg emu_sregs[];
int emu_sreg_find(const char *name); /* -1 */
/* Fills what the row of a special register holds; w is set up but for its registers. */
uint64_t emu_sreg_value(const struct emu_warp *w, int id, uint32_t lane);

enum emu_type emu_type_find(const char *name);

#endif
