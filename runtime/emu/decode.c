/* decode - statements to records: finds the opcode's row, resolves operands to rows, places shared variables. */
#include "runtime/emu/parse.h"

#include <stdlib.h>

/* ---- tables ---- */

const struct emu_type_info emu_types[EMU_T_COUNT] = {
    [EMU_T_NONE] = {"?", 0, EMU_C_B, EMU_T_NONE},
#define TYPE(name, text, bits, cls, elem) [EMU_T_##name] = {text, bits, EMU_C_##cls, EMU_T_##elem},
#include "runtime/emu/type.def"
};

enum emu_type emu_type_find(const char *name)
{
    for (int t = 1; t < EMU_T_COUNT; t++)
        if (!strcmp(emu_types[t].name, name))
            return (enum emu_type)t;
    return EMU_T_NONE;
}

const struct emu_sreg emu_sregs[] = {
#define SREG(name, type, dynamic, value) {name, EMU_T_##type, dynamic},
#include "runtime/emu/sreg.def"
};

int emu_sreg_find(const char *name)
{
    for (int i = 0; name[0] == '%' && i < COUNT(emu_sregs); i++)
        if (!strcmp(emu_sregs[i].name, name))
            return i;
    return -1;
}

uint64_t emu_sreg_value(const struct emu_warp *w, int id, uint32_t lane)
{
    const struct emu_cta *c = w->cta;
    const struct emu_cluster *k = c->cluster;
    const struct emu_grid *g = k->grid;
    uint32_t t = (uint32_t)w->id * 32 + lane;
    int i = 0;
#define SREG(name, type, dynamic, value)                                                                                   \
    if (i++ == id)                                                                                                         \
        return (uint64_t)(value);
#include "runtime/emu/sreg.def"
    return 0;
}

typedef bool decode_fn(struct emu_decode *d, struct emu_insn *in);
#define INSN(name, decoder, need) bool emu_decode_##decoder(struct emu_decode *d, struct emu_insn *in);
#include "runtime/emu/insn.def"
static const struct opcode {
    const char *name;
    decode_fn *decode;
    enum emu_need need;
} opcodes[] = {
#define INSN(name, decoder, need) {name, emu_decode_##decoder, need},
#include "runtime/emu/insn.def"
};

/* ---- targets ---- */

static bool sm_has(int sm, char suffix, enum emu_need need)
{
    int family = sm / 10;
    switch (need) {
    case EMU_NEED_ANY: return true;
    case EMU_NEED_89: return sm >= 89;
    case EMU_NEED_90: return sm >= 90;
    case EMU_NEED_100: return sm >= 100;
    case EMU_NEED_90A: return sm == 90 && suffix;
    case EMU_NEED_A: return sm >= 90 && suffix;
    case EMU_NEED_BLACK: return sm >= 100 && suffix;
    case EMU_NEED_TC5: return (family == 10 || family == 11) && suffix;
    case EMU_NEED_12X: return family == 12 && suffix;
    }
    return false;
}

bool emu_target_has(const struct emu_module *m, enum emu_need need) { return sm_has(m->sm, m->suffix, need); }

bool emu_need(struct emu_decode *d, enum emu_need need, const char *what)
{
    if (emu_target_has(d->module, need))
        return true;
    char suffix[2] = {d->module->suffix, 0};
    return emu_bad(d, "%s is not available on target sm_%d%s", what, d->module->sm, suffix);
}

/* ---- errors and modifiers ---- */

bool emu_bad(struct emu_decode *d, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = arena_vprintf(d->arena, fmt, ap);
    va_end(ap);
    struct emu *e = d->module->emu;
    if (!e->error.n) {
        emu_set_error(e, "ptx:%u:%u: error: %s", d->line, d->col, s);
        if (d->text)
            buf_printf(&e->error, " (in '%s')", d->text);
    }
    return false;
}

const char *emu_mod_peek(const struct emu_decode *d) { return d->at < d->nmod ? d->mod[d->at] : NULL; }
const char *emu_mod_take(struct emu_decode *d) { return d->at < d->nmod ? d->mod[d->at++] : NULL; }

bool emu_mod(struct emu_decode *d, const char *name)
{
    if (d->at >= d->nmod || strcmp(d->mod[d->at], name))
        return false;
    d->at++;
    return true;
}

int emu_mod_one_of(struct emu_decode *d, const char *const *names)
{
    for (int i = 0; names[i]; i++)
        if (emu_mod(d, names[i]))
            return i;
    return -1;
}

enum emu_type emu_mod_type(struct emu_decode *d)
{
    enum emu_type t = d->at < d->nmod ? emu_type_find(d->mod[d->at]) : EMU_T_NONE;
    if (t != EMU_T_NONE)
        d->at++;
    return t;
}

bool emu_mods_done(struct emu_decode *d)
{
    if (d->at < d->nmod)
        return emu_bad(d, "unknown or misplaced modifier '.%s'", d->mod[d->at]);
    return true;
}

void emu_mod_sem_scope(struct emu_decode *d)
{
    static const char *const sems[] = {"weak", "relaxed", "acquire", "release", "acq_rel", "volatile", "sc", NULL};
    static const char *const scopes[] = {"cta", "cluster", "gpu", "sys", NULL};
    emu_mod_one_of(d, sems);
    emu_mod_one_of(d, scopes);
}

/* ---- operands ---- */

static struct emu_raw *op_at(struct emu_decode *d, int i)
{
    if (i >= d->nop) {
        emu_bad(d, "operand %d is missing", i + 1);
        return NULL;
    }
    d->op[i].used = true;
    return &d->op[i];
}

struct emu_raw *emu_operand(struct emu_decode *d, int i) { return op_at(d, i); }

static uint32_t rows_of(int bits) { return bits <= 32 ? 1 : bits <= 64 ? 2 : 4; }

static uint32_t new_rows(struct emu_entry *e, uint32_t n)
{
    uint32_t row = e->rows;
    e->rows += n;
    return row;
}

static uint32_t register_row(struct emu_entry *e, struct emu_register *r)
{
    if (!r->row)
        r->row = r->type == EMU_T_PRED ? e->preds++ : new_rows(e, rows_of(emu_types[r->type].bits));
    return r->row;
}

static uint32_t constant_row(struct emu_decode *d, uint32_t rows, bool shared, uint64_t lo, uint64_t hi)
{
    struct emu_entry *e = d->entry;
    if (!lo && !hi && !shared)
        return EMU_ROW_ZERO;
    for (int i = e->constants.n - 1; i >= 0; i--) {
        const struct emu_constant *c = &e->constants.at[i];
        if (c->lo == lo && c->rows == rows && c->hi == hi && c->shared == shared)
            return c->row;
    }
    struct emu_constant c = {.row = new_rows(e, rows), .rows = (uint8_t)rows, .shared = shared, .lo = lo, .hi = hi};
    vec_push(d->arena, &e->constants, c);
    return c.row;
}

static uint32_t sreg_row(struct emu_decode *d, int id)
{
    struct emu_entry *e = d->entry;
    for (int i = 0; i < e->sregs.n; i++)
        if (e->sregs.at[i].id == id)
            return e->sregs.at[i].row;
    struct emu_sreg_use u = {.id = id};
    u.row = emu_sregs[id].type == EMU_T_PRED ? e->preds++ : new_rows(e, rows_of(emu_types[emu_sregs[id].type].bits));
    vec_push(d->arena, &e->sregs, u);
    return u.row;
}

/* The immediate as bits of type t. */
static bool immediate(struct emu_decode *d, const struct emu_raw *r, enum emu_type t, uint64_t *v)
{
    const struct emu_type_info *ti = &emu_types[t];
    uint64_t x = r->bits;
    if (r->kind == EMU_RAW_F64 && ti->bits == 32)
        x = num_float_bits((float)num_double(x));
    else if (r->kind == EMU_RAW_F32 && ti->bits == 64)
        x = num_double_bits((double)num_float((uint32_t)x));
    else if (r->kind != EMU_RAW_INT && ti->bits < 32)
        return emu_bad(d, "floating literal for a .%s operand", ti->name);
    if (r->kind == EMU_RAW_INT && ti->cls == EMU_C_F && ti->bits >= 32)
        return emu_bad(d, "integer for a .%s operand; write 0f or 0d and hexadecimal digits", ti->name);
    if (ti->bits < 64)
        x &= ((uint64_t)1 << ti->bits) - 1;
    *v = x;
    return true;
}

static const struct emu_symbol *find_shared(const struct emu_entry *e, const char *name, const struct emu_symbol *s)
{
    for (int i = 0; i < e->symbols.n; i++)
        if (e->symbols.at[i].name == name && e->symbols.at[i].space == s->space && e->symbols.at[i].bytes == s->bytes)
            return &e->symbols.at[i];
    return NULL;
}

/* Address of a symbol in its space; *shared when the block's rank is to be added. */
static bool symbol_address(struct emu_decode *d, const struct emu_raw *r, uint64_t *v, bool *shared)
{
    const struct emu_name *n = emu_scope_find(r->scope, r->name);
    if (!n || !n->symbol)
        return emu_bad(d, "unknown name '%s'", r->name);
    const struct emu_symbol *s = n->symbol;
    *shared = s->space == EMU_SHARED_CTA;
    if (*shared)
        s = find_shared(d->entry, r->name, s);
    *v = s->address + (uint64_t)r->offset;
    return true;
}

static bool symbol_row(struct emu_decode *d, const struct emu_raw *r, uint32_t rows, uint32_t *row)
{
    uint64_t v = 0;
    bool shared = false;
    if (!symbol_address(d, r, &v, &shared))
        return false;
    *row = constant_row(d, rows, shared, rows == 1 ? (uint32_t)v : v, 0);
    return true;
}

static bool width_ok(struct emu_decode *d, const struct emu_raw *r, int want, int bits, bool wider)
{
    if (want == 8 && !wider)
        want = bits == 8 ? 8 : 16;
    if (bits == want || (wider && bits > want))
        return true;
    return emu_bad(d, "register '%s' has %d bits where %d are wanted", r->name, bits, want);
}

static bool src(struct emu_decode *d, struct emu_raw *r, enum emu_type t, uint32_t *row, int *got)
{
    r->used = true;
    int want = emu_types[t].bits, bits = want;
    if (r->neg)
        return emu_bad(d, "'!' in front of what is no predicate");
    switch (r->kind) {
    case EMU_RAW_REG: {
        enum emu_type rt = r->reg ? r->reg->type : emu_sregs[r->sreg].type;
        if (rt == EMU_T_PRED)
            return emu_bad(d, "predicate '%s' where a register is wanted", r->name);
        bits = emu_types[rt].bits;
        if (!width_ok(d, r, want, bits, got != NULL))
            return false;
        *row = r->reg ? register_row(d->entry, r->reg) : sreg_row(d, r->sreg);
        break;
    }
    case EMU_RAW_INT: case EMU_RAW_F32: case EMU_RAW_F64: {
        uint64_t v = 0;
        if (!immediate(d, r, t, &v))
            return false;
        *row = constant_row(d, rows_of(want), false, v, 0);
        break;
    }
    case EMU_RAW_SYM:
        if (want < 32 || !symbol_row(d, r, rows_of(want), row))
            return emu_bad(d, "address of '%s' does not fit", r->name);
        break;
    default:
        return emu_bad(d, "a register or number is wanted here");
    }
    if (got)
        *got = bits;
    return true;
}

static bool dst(struct emu_decode *d, struct emu_raw *r, int want, uint32_t *row, int *got)
{
    r->used = true;
    if (r->kind == EMU_RAW_SINK) {
        *row = EMU_ROW_SINK;
        if (got)
            *got = want < 32 ? 32 : want;
        return true;
    }
    if (r->kind != EMU_RAW_REG || !r->reg || r->reg->type == EMU_T_PRED || r->neg)
        return emu_bad(d, "a register is wanted as destination");
    int bits = emu_types[r->reg->type].bits;
    if (!width_ok(d, r, want, bits, got != NULL))
        return false;
    *row = register_row(d->entry, r->reg);
    if (got)
        *got = bits;
    return true;
}

bool emu_raw_src(struct emu_decode *d, struct emu_raw *r, enum emu_type t, uint32_t *row)
{
    return src(d, r, t, row, NULL);
}
bool emu_raw_dst(struct emu_decode *d, struct emu_raw *r, int bits, uint32_t *row)
{
    return dst(d, r, bits, row, NULL);
}

bool emu_dst(struct emu_decode *d, int i, int bits, uint32_t *row)
{
    struct emu_raw *r = op_at(d, i);
    return r && dst(d, r, bits, row, NULL);
}
bool emu_dst_wide(struct emu_decode *d, int i, int min_bits, uint32_t *row, int *bits)
{
    struct emu_raw *r = op_at(d, i);
    return r && dst(d, r, min_bits, row, bits);
}
bool emu_src(struct emu_decode *d, int i, enum emu_type t, uint32_t *row)
{
    struct emu_raw *r = op_at(d, i);
    return r && src(d, r, t, row, NULL);
}
bool emu_src_wide(struct emu_decode *d, int i, enum emu_type t, uint32_t *row, int *bits)
{
    struct emu_raw *r = op_at(d, i);
    return r && src(d, r, t, row, bits);
}

bool emu_raw_dst_pred(struct emu_decode *d, struct emu_raw *r, uint32_t *p)
{
    r->used = true;
    if (r->kind == EMU_RAW_SINK) {
        *p = EMU_P_SINK;
        return true;
    }
    if (r->kind != EMU_RAW_REG || !r->reg || r->reg->type != EMU_T_PRED || r->neg)
        return emu_bad(d, "a predicate is wanted as destination");
    *p = register_row(d->entry, r->reg);
    return true;
}

static bool src_pred(struct emu_decode *d, struct emu_raw *r, uint32_t *p, bool *neg)
{
    r->used = true;
    *neg = r->neg;
    if (r->kind == EMU_RAW_INT) {
        *p = r->bits ? EMU_P_TRUE : EMU_P_FALSE;
        return true;
    }
    if (r->kind != EMU_RAW_REG)
        return emu_bad(d, "a predicate is wanted");
    enum emu_type t = r->reg ? r->reg->type : emu_sregs[r->sreg].type;
    if (t != EMU_T_PRED)
        return emu_bad(d, "'%s' is no predicate", r->name);
    *p = r->reg ? register_row(d->entry, r->reg) : sreg_row(d, r->sreg);
    return true;
}

bool emu_dst_pred(struct emu_decode *d, int i, uint32_t *p)
{
    struct emu_raw *r = op_at(d, i);
    return r && emu_raw_dst_pred(d, r, p);
}
bool emu_src_pred(struct emu_decode *d, int i, uint32_t *p, bool *neg)
{
    struct emu_raw *r = op_at(d, i);
    return r && src_pred(d, r, p, neg);
}
bool emu_is_imm(const struct emu_decode *d, int i) { return i < d->nop && d->op[i].kind == EMU_RAW_INT; }

bool emu_imm(struct emu_decode *d, int i, int64_t *v)
{
    struct emu_raw *r = op_at(d, i);
    if (!r)
        return false;
    if (r->kind != EMU_RAW_INT)
        return emu_bad(d, "operand %d must be an integer constant", i + 1);
    *v = (int64_t)r->bits;
    return true;
}

/* A vector operand, or a single one counted as a vector of one. */
static bool vec_elements(struct emu_decode *d, int i, int n, struct emu_raw **elem, int *count)
{
    struct emu_raw *r = op_at(d, i);
    if (!r)
        return false;
    *elem = r->kind == EMU_RAW_VEC ? r->elem : r;
    *count = r->kind == EMU_RAW_VEC ? r->n : 1;
    if (n > 0 && *count != n)
        return emu_bad(d, "operand %d has %d elements where %d are wanted", i + 1, *count, n);
    return true;
}

bool emu_dst_vec(struct emu_decode *d, int i, int n, int bits, const uint32_t **rows, int *got)
{
    struct emu_raw *elem;
    int count;
    if (!vec_elements(d, i, n, &elem, &count))
        return false;
    uint32_t *out = new_n(d->arena, uint32_t, count);
    for (int k = 0; k < count; k++)
        if (!dst(d, &elem[k], bits, &out[k], NULL))
            return false;
    *rows = out;
    if (got)
        *got = count;
    return true;
}

bool emu_src_vec(struct emu_decode *d, int i, int n, enum emu_type t, const uint32_t **rows, int *got)
{
    struct emu_raw *elem;
    int count;
    if (!vec_elements(d, i, n, &elem, &count))
        return false;
    uint32_t *out = new_n(d->arena, uint32_t, count);
    for (int k = 0; k < count; k++)
        if (!src(d, &elem[k], t, &out[k], NULL))
            return false;
    *rows = out;
    if (got)
        *got = count;
    return true;
}

bool emu_raw_mem(struct emu_decode *d, struct emu_raw *r, struct emu_addr *a)
{
    r->used = true;
    if (r->kind != EMU_RAW_MEM)
        return emu_bad(d, "an address in brackets is wanted");
    *a = (struct emu_addr){.row = EMU_ROW_ZERO, .wide = true, .offset = r->offset};
    if (!r->name)
        return true;
    if (r->reg || r->sreg >= 0) {
        int bits = emu_types[r->reg ? r->reg->type : emu_sregs[r->sreg].type].bits;
        if (bits != 32 && bits != 64)
            return emu_bad(d, "register '%s' holds no address", r->name);
        a->wide = bits == 64;
        a->row = r->reg ? register_row(d->entry, r->reg) : sreg_row(d, r->sreg);
        return true;
    }
    a->offset = 0;
    const struct emu_name *n = emu_scope_find(r->scope, r->name);
    a->local = n && n->symbol && n->symbol->space == EMU_LOCAL;
    return symbol_row(d, r, 2, &a->row);
}

bool emu_mem(struct emu_decode *d, int i, struct emu_addr *a)
{
    struct emu_raw *r = op_at(d, i);
    return r && emu_raw_mem(d, r, a);
}

/* ---- instructions ---- */

/* Splits "a.b.c::d" behind `skip` characters at its dots. */
static void split_modifiers(struct emu_decode *d, size_t skip)
{
    VEC(const char *) v = {0};
    const char *s = d->text + skip;
    while (*s == '.') {
        const char *end = strchr(s + 1, '.');
        size_t n = end ? (size_t)(end - s - 1) : strlen(s + 1);
        vec_push(d->arena, &v, intern_n(s + 1, n));
        s += n + 1;
    }
    d->mod = v.at;
    d->nmod = v.n;
}

static const struct opcode *find_opcode(const char *text, size_t *skip)
{
    for (size_t n = strlen(text);; n--) {
        if (text[n] == 0 || text[n] == '.') {
            for (int i = 0; i < COUNT(opcodes); i++)
                if (!strncmp(opcodes[i].name, text, n) && !opcodes[i].name[n]) {
                    *skip = n;
                    return &opcodes[i];
                }
        }
        if (!n)
            return NULL;
    }
}

static enum emu_next run_sreg(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    bool wide = emu_types[emu_sregs[in->a].type].bits == 64;
    FOR_LANES(l, mask) {
        uint64_t v = emu_sreg_value(w, (int)in->a, l);
        if (wide)
            emu_row64(w, in->d)[l] = v;
        else
            emu_row(w, in->d)[l] = (uint32_t)v;
    }
    return EMU_NEXT;
}

/* Special registers that move are read into their rows in front of the instruction that uses them. */
static void read_dynamic(struct emu_decode *d, const struct emu_stmt *s, struct emu_insn *code, int *n)
{
    for (int i = 0; i < s->nop; i++) {
        const struct emu_raw *r = &s->op[i];
        if (r->kind == EMU_RAW_REG && !r->reg && emu_sregs[r->sreg].dynamic)
            code[(*n)++] = (struct emu_insn){.run = run_sreg, .d = sreg_row(d, r->sreg), .a = (uint32_t)r->sreg,
                                             .guard = EMU_P_TRUE, .line = s->line, .col = s->col};
    }
}

static bool decode_guard(struct emu_decode *d, const struct emu_stmt *s, struct emu_insn *in)
{
    in->guard = EMU_P_TRUE;
    if (!s->guard)
        return true;
    uint32_t p;
    if (!src_pred(d, s->guard, &p, &in->guard_neg))
        return false;
    if (p > UINT16_MAX)
        return emu_bad(d, "too many predicates");
    in->guard = (uint16_t)p;
    return true;
}

static bool decode_one(struct emu_decode *d, const struct emu_stmt *s, struct emu_insn *in)
{
    size_t skip;
    const struct opcode *op = find_opcode(s->text, &skip);
    if (!op)
        return emu_bad(d, "unknown instruction");
    if (!op->decode)
        return emu_bad(d, "'%s' is not emulated", op->name);
    if (!emu_need(d, op->need, op->name) || !decode_guard(d, s, in))
        return false;
    split_modifiers(d, skip);
    if (!op->decode(d, in) || !emu_mods_done(d))
        return emu_bad(d, "cannot be decoded");
    for (int i = 0; i < d->nop; i++)
        if (!d->op[i].used)
            return emu_bad(d, "operand %d is one too many", i + 1);
    return true;
}

/* ---- shared variables ---- */

static void place(struct emu_module *m, struct emu_entry *e, const struct emu_symbol *s, bool dynamic)
{
    if (s->space != EMU_SHARED_CTA || s->dynamic != dynamic || find_shared(e, s->name, s))
        return;
    struct emu_symbol copy = *s;
    uint32_t *end = dynamic ? &e->dynamic_smem_at : &e->static_smem;
    if (!dynamic) {
        *end = (uint32_t)floor_div((int64_t)*end + s->align - 1, s->align) * s->align;
        copy.address = *end;
        *end += (uint32_t)s->bytes;
    } else {
        /* every dynamic array starts at the same place, at the strictest alignment of them all */
        *end = (uint32_t)floor_div((int64_t)*end + s->align - 1, s->align) * s->align;
        copy.address = *end;
        e->uses_dynamic = true;
    }
    vec_push(&m->arena, &e->symbols, copy);
}

static void place_operand(struct emu_module *m, struct emu_entry *e, const struct emu_raw *r, bool dynamic)
{
    if ((r->kind == EMU_RAW_SYM || r->kind == EMU_RAW_MEM) && r->name && !r->reg && r->sreg < 0) {
        const struct emu_name *n = emu_scope_find(r->scope, r->name);
        if (n && n->symbol)
            place(m, e, n->symbol, dynamic);
    }
    for (int i = 0; i < r->n; i++)
        place_operand(m, e, &r->elem[i], dynamic);
}

static void place_shared(struct emu_module *m, struct emu_entry *e, const struct emu_body *b)
{
    e->static_smem = EMU_SMEM_FIRST;
    for (int dynamic = 0; dynamic < 2; dynamic++) {
        if (dynamic)
            e->dynamic_smem_at = e->static_smem;
        for (int i = 0; i < b->stmts.n; i++)
            for (int k = 0; k < b->stmts.at[i].nop; k++)
                place_operand(m, e, &b->stmts.at[i].op[k], dynamic);
    }
    for (int i = 0; i < e->symbols.n; i++)
        if (e->symbols.at[i].space == EMU_SHARED_CTA && e->symbols.at[i].dynamic)
            e->symbols.at[i].address = e->dynamic_smem_at;
}

/* Static shared memory: 48 KiB, more only for exactly one chip. */
static bool check_static(struct emu_module *m, struct emu_entry *e)
{
    uint32_t limit = m->suffix != 'a' ? 48 : m->sm >= 120 ? 99 : 227;
    if (e->static_smem - EMU_SMEM_FIRST <= limit * 1024)
        return true;
    emu_set_error(m->emu, "ptx: error: '%s' has %u bytes of static shared memory; %u are possible", e->name,
                  e->static_smem - EMU_SMEM_FIRST, limit * 1024);
    return false;
}

/* ---- branches ---- */

/* bra, brx.idx: the decoder leaves the label's statement number; now all statements have their place. */
static void fix_branches(struct emu_entry *e, const uint32_t *first)
{
    for (int i = 0; i < e->n_code; i++) {
        struct emu_insn *in = &e->code[i];
        if (in->u8[7] == 1)
            in->target = first[in->target];
        else if (in->u8[7] == 2)
            for (uint32_t k = 0; k < in->b; k++)
                ((uint32_t *)(uintptr_t)in->x)[k] = first[((const uint32_t *)in->x)[k]];
    }
}

bool emu_decode_entry(struct emu_module *m, struct emu_entry *e, struct emu_body *body)
{
    int n = body->stmts.n, extra = 0;
    e->rows = EMU_ROW_FIRST;
    e->preds = EMU_P_FIRST;
    place_shared(m, e, body);
    if (!check_static(m, e))
        return false;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < body->stmts.at[i].nop; k++)
            extra += body->stmts.at[i].op[k].kind == EMU_RAW_REG && !body->stmts.at[i].op[k].reg;
    e->code = new_n(&m->arena, struct emu_insn, n + extra + 1);
    uint32_t *first = new_n(&m->arena, uint32_t, n + 1);
    for (int i = 0; i < n; i++) {
        const struct emu_stmt *s = &body->stmts.at[i];
        struct emu_decode d = {.module = m, .entry = e, .arena = &m->arena, .text = s->text, .op = s->op, .nop = s->nop,
                               .line = s->line, .col = s->col};
        first[i] = (uint32_t)e->n_code;
        read_dynamic(&d, s, e->code, &e->n_code);
        struct emu_insn *in = &e->code[e->n_code];
        *in = (struct emu_insn){.line = s->line, .col = s->col, .src_file = s->src_file, .src_line = s->src_line};
        if (!decode_one(&d, s, in))
            return false;
        e->n_code++;
    }
    first[n] = (uint32_t)e->n_code;
    /* falling off the end returns */
    struct emu_decode d = {.module = m, .entry = e, .arena = &m->arena, .text = "ret"};
    struct emu_insn *in = &e->code[e->n_code++];
    in->line = n ? body->stmts.at[n - 1].line : 0;
    if (!decode_one(&d, &(struct emu_stmt){.text = "ret"}, in))
        return false;
    fix_branches(e, first);
    return true;
}
