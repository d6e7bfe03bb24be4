/* print - the tile IR as text. Declarations are written last, as the body may name entities that no list holds. */
#include "compiler/ir_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[] = {
#define EXPR(name, nargs, meaning) [E_##name] = #name,
#define STMT(name, slots, meaning)
#include "compiler/ops.def"
};
static const char *const infix_token[E_COUNT] = {
#define INFIX(kind, token, binds) [E_##kind] = token,
#include "compiler/ir_text.def"
};
static const int infix_binds[E_COUNT] = {
#define INFIX(kind, token, binds) [E_##kind] = binds,
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

/* Words that may begin a statement or an expression, or end a list. */
static const char *const words[] = {
    "kernel", "for", "setting", "dim", "tensor", "axis", "var", "shared", "pipe", "field", "intrinsic", "require",
    "spec", "given", "check", "tasks", "persistent", "cluster", "order_dependent", "task", "role", "bind", "put",
    "fetch", "fill", "produce", "consume", "mma", "while", "if", "else", "par", "scan", "each", "combine", "body",
    "assert", "print", "atomic", "where", "any", "unit", "units", "rank", "thread", "true", "false", "inf", "nan",
    "step", "walks", "unroll", "times", "of", "into", "to", "part", "at", "tol", "exact", "over", "in", "out", "inout", "ahead", "boxes", "deal",
};

const char *ir_text_kind(enum ir_expr_kind k) { return kind_names[k]; }

bool ir_text_plain(const char *name)
{
    for (int i = 0; i < COUNT(words); i++)
        if (!strcmp(name, words[i])) return false;
    if (!*name || strchr("0123456789.", *name)) return false;
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] == 0;
}

/* Integer types of the width of a floating type's bits. */
static enum type bits_type(enum type t)
{
    switch (type_bits(t)) {
    case 8: return TY_u8;
    case 16: return TY_u16;
    case 32: return TY_u32;
    default: return TY_none;
    }
}

enum type ir_text_type(const struct ir_expr *e)
{
    switch (e->kind) {
    case E_const: return e->type == TY_bool || e->type == TY_f32 ? e->type : TY_i32;
    case E_dim: case E_unit: case E_units: case E_rank: case E_thread: case E_coord: case E_origin: case E_limit:
    case E_popc: case E_clz: return TY_i32;
    case E_arg: case E_read: return e->tensor->type;
    case E_get: return e->var->type;
    case E_slot: return e->field->type;
    case E_element: return e->shared->type;
    case E_lt: case E_le: case E_eq: case E_ne: return TY_bool;
    case E_select: return e->args[1]->type;
    case E_cast: return e->type;
    case E_bits: return bits_type(e->args[0]->type);
    case E_call: return e->intrinsic->result;
    default: return e->nargs ? e->args[0]->type : TY_none;
    }
}

struct printer {
    const struct ir_fn *fn;
    struct arena arena;
    struct buf out;       /* the part being written */
    VEC(const struct ir_axis *) axes;
    VEC(const struct ir_var *) vars;
    VEC(const struct ir_intrinsic *) intrinsics;
    int depth;
};

static void put_expr(struct printer *p, const struct ir_expr *e, int binds);

static void put(struct printer *p, const char *text) { buf_bytes(&p->out, text, strlen(text)); }

static void put_name(struct printer *p, const char *name, int twin)
{
    if (ir_text_plain(name)) buf_printf(&p->out, "%s", name);
    else buf_printf(&p->out, "'%s'", name);
    if (twin) buf_printf(&p->out, "#%d", twin);
}

static void put_text(struct printer *p, const char *text)
{
    put(p, "\"");
    for (const char *c = text ? text : ""; *c; c++) {
        if (*c == '"' || *c == '\\') buf_printf(&p->out, "\\%c", *c);
        else if (*c == '\n') put(p, "\\n");
        else buf_bytes(&p->out, c, 1);
    }
    put(p, "\"");
}

/* How many earlier entities bear the name of the one at `at`: told apart as name#number. */
#define TWINS(list, at, count) \
    do { \
        for (int i_ = 0; i_ < (at); i_++) (count) += !strcmp((list)->at[i_]->name, (list)->at[at]->name); \
    } while (0)

static void put_axis(struct printer *p, const struct ir_axis *x)
{
    int at = 0, twins = 0;
    while (at < p->axes.n && p->axes.at[at] != x) at++;
    if (at == p->axes.n) vec_push(&p->arena, &p->axes, x);
    TWINS(&p->axes, at, twins);
    put_name(p, x->name, twins);
}

static void put_var(struct printer *p, const struct ir_var *v)
{
    int at = 0, twins = 0;
    while (at < p->vars.n && p->vars.at[at] != v) at++;
    if (at == p->vars.n) vec_push(&p->arena, &p->vars, v);
    TWINS(&p->vars, at, twins);
    put_name(p, v->name, twins);
}

static void put_axes(struct printer *p, struct ir_axis *const *axes, int n)
{
    for (int i = 0; i < n; i++) {
        if (i) put(p, ", ");
        put_axis(p, axes[i]);
    }
}

static void put_field(struct printer *p, const struct ir_field *f)
{
    put_name(p, f->pipe->name, 0);
    put(p, ".");
    put_name(p, f->name, 0);
}

/* The fewest digits that read back as the same number, always with a mark of a float. */
static void put_real(struct printer *p, double v)
{
    char s[40];
    if (isnan(v)) { put(p, "nan"); return; }
    if (isinf(v)) { put(p, v < 0 ? "-inf" : "inf"); return; }
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, v);
        if (strtod(s, NULL) == v) break;
    }
    put(p, s);
    if (!strpbrk(s, ".e")) put(p, ".0");
}

static void put_list(struct printer *p, struct ir_expr *const *e, int n, const char *close)
{
    for (int i = 0; i < n; i++) {
        if (i) put(p, ", ");
        put_expr(p, e[i], 0);
    }
    put(p, close);
}

static void put_const(struct printer *p, const struct ir_expr *e)
{
    if (e->type == TY_bool) put(p, e->num ? "true" : "false");
    else if (type_is_float(e->type)) put_real(p, e->real);
    else buf_printf(&p->out, "%lld", (long long)e->num);
}

static void put_entity(struct printer *p, const struct ir_expr *e)
{
    switch (e->kind) {
    case E_read: put_name(p, e->tensor->name, 0); break;
    case E_slot: put_field(p, e->field); break;
    default: put_name(p, e->shared->name, 0); break;
    }
    put(p, "[");
    put_list(p, e->args, e->nargs, "]");
}

static void put_infix(struct printer *p, const struct ir_expr *e, int binds)
{
    int mine = infix_binds[e->kind];
    if (mine < binds) put(p, "(");
    put_expr(p, e->args[0], mine);
    buf_printf(&p->out, " %s ", infix_token[e->kind]);
    put_expr(p, e->args[1], mine + 1);
    if (mine < binds) put(p, ")");
}

static void put_call(struct printer *p, const struct ir_expr *e)
{
    int at = 0;
    while (at < p->intrinsics.n && p->intrinsics.at[at] != e->intrinsic) at++;
    if (at == p->intrinsics.n) vec_push(&p->arena, &p->intrinsics, e->intrinsic);
    put(p, "call ");
    put_name(p, e->intrinsic->name, 0);
    put(p, "(");
    put_list(p, e->args, e->nargs, ")");
}

static void put_over(struct printer *p, const char *what, const struct ir_expr *e)
{
    buf_printf(&p->out, "%s%s(", reduce_names[e->num], what);
    put_axis(p, e->axis);
    put(p, ": ");
    put_expr(p, e->args[0], 0);
    put(p, ")");
}

static void put_plain(struct printer *p, const struct ir_expr *e, int binds)
{
    switch (e->kind) {
    case E_const: put_const(p, e); return;
    case E_dim: put(p, "$"); put_name(p, p->fn->dims.at[e->num].name, 0); return;
    case E_arg: put(p, "arg("); put_name(p, e->tensor->name, 0); put(p, ")"); return;
    case E_unit: case E_units: case E_rank: case E_thread: put(p, kind_names[e->kind]); return;
    case E_coord: put(p, "@"); put_axis(p, e->axis); return;
    case E_origin: case E_limit:
        buf_printf(&p->out, "%s(", kind_names[e->kind]);
        put_axis(p, e->axis);
        put(p, ")");
        return;
    case E_get: put_var(p, e->var); return;
    case E_read: case E_slot: case E_element: put_entity(p, e); return;
    case E_neg: case E_not:
        put(p, e->kind == E_neg ? "-(" : "!(");
        put_list(p, e->args, 1, ")");
        return;
    case E_select:
        put(p, "(");
        put_expr(p, e->args[0], 1);
        put(p, " ? ");
        put_expr(p, e->args[1], 1);
        put(p, " : ");
        put_expr(p, e->args[2], 1);
        put(p, ")");
        return;
    case E_cast:
        buf_printf(&p->out, "%s(", type_name(e->type));
        put_list(p, e->args, 1, ")");
        return;
    case E_call: put_call(p, e); return;
    case E_reduce: put_over(p, "", e); return;
    case E_parts: put_over(p, "_parts", e); return;
    default: break;
    }
    if (infix_token[e->kind]) { put_infix(p, e, binds); return; }
    buf_printf(&p->out, "%s(", kind_names[e->kind]);
    put_list(p, e->args, e->nargs, ")");
}

static void put_expr(struct printer *p, const struct ir_expr *e, int binds)
{
    bool typed = e->type != ir_text_type(e);
    if (typed && infix_token[e->kind]) put(p, "(");
    put_plain(p, e, typed ? 0 : binds);
    if (typed && infix_token[e->kind]) put(p, ")");
    if (typed) buf_printf(&p->out, "::%s", type_name(e->type));
}

static void put_block(struct printer *p, const ir_block *b);

static void put_where(struct printer *p, const char *word, const struct ir_expr *e)
{
    if (!e) return;
    buf_printf(&p->out, " %s ", word);
    put_expr(p, e, 0);
}

static void put_index(struct printer *p, const char *name, const struct ir_stmt *s)
{
    put_name(p, name, 0);
    put(p, "[");
    put_list(p, s->index.at, s->index.n, "]");
}

static void put_range(struct printer *p, const struct ir_stmt *s)
{
    buf_printf(&p->out, "%s ", s->kind == S_for ? "for" : s->kind == S_par ? "par" : "scan");
    put_var(p, s->var);
    put(p, " = ");
    put_expr(p, s->expr, 0);
    put(p, " .. ");
    put_expr(p, s->expr2, 0);
}

#define STMT_FN(name) static void stmt_##name(struct printer *p, const struct ir_stmt *s)

STMT_FN(let)
{
    put_var(p, s->var);
    put(p, " = ");
    put_expr(p, s->expr, 0);
}

STMT_FN(bind)
{
    put(p, "bind ");
    put_axis(p, s->axis);
    put_where(p, "at", s->expr);
    put_where(p, "to", s->expr2);
}

STMT_FN(store)
{
    if (s->mode == MODE_atomic) buf_printf(&p->out, "atomic %s ", reduce_names[s->num]);
    put_index(p, s->tensor->name, s);
    put(p, s->mode == MODE_set ? " = " : " += ");
    put_expr(p, s->expr, 0);
    put_where(p, "where", s->mask);
    if (s->boxes) buf_printf(&p->out, " boxes %d", s->boxes);
    if (s->flag) put(p, " ahead");
}

STMT_FN(put)
{
    put(p, "put ");
    if (s->mode == MODE_atomic) buf_printf(&p->out, "atomic %s ", reduce_names[s->num]);
    put_index(p, s->shared->name, s);
    put(p, s->mode == MODE_set ? " = " : " += ");
    put_expr(p, s->expr, 0);
    if (s->var) {
        put(p, " into ");
        put_var(p, s->var);
    }
}

STMT_FN(fetch)
{
    buf_printf(&p->out, "fetch %s ", reduce_names[s->num]);
    put_index(p, s->tensor->name, s);
    put(p, " += ");
    put_expr(p, s->expr, 0);
    put(p, " into ");
    put_var(p, s->var);
}

STMT_FN(produce)
{
    put(p, "produce ");
    put_name(p, s->pipe->name, 0);
    put_block(p, &s->body);
}

STMT_FN(consume)
{
    put(p, "consume ");
    put_name(p, s->pipe->name, 0);
    put_block(p, &s->body);
}

STMT_FN(fill)
{
    put(p, "fill ");
    put_field(p, s->field);
    put(p, " = ");
    put_expr(p, s->expr, 0);
}

STMT_FN(mma)
{
    put(p, "mma ");
    put_var(p, s->var);
    put(p, s->flag ? " += " : " = ");
    put_expr(p, s->expr, 0);
    put(p, ", ");
    put_expr(p, s->expr2, 0);
    if (s->factors.n) put(p, " times ");
    put_list(p, s->factors.at, s->factors.n, "");
}

STMT_FN(for)
{
    put_range(p, s);
    put_where(p, "step", s->step);
    if (s->axis) {
        put(p, " walks ");
        put_axis(p, s->axis);
    }
    if (s->num) buf_printf(&p->out, " unroll %lld", (long long)s->num);
    if (s->deal > 1) buf_printf(&p->out, " deal %d", s->deal);
    put_block(p, &s->body);
}

STMT_FN(while)
{
    put(p, "while ");
    put_expr(p, s->expr, 0);
    put_block(p, &s->body);
}

STMT_FN(if)
{
    put(p, "if ");
    put_expr(p, s->expr, 0);
    put_block(p, &s->body);
    if (!s->other.n) return;
    put(p, " else");
    put_block(p, &s->other);
}

STMT_FN(par)
{
    put_range(p, s);
    put_block(p, &s->body);
}

STMT_FN(scan)
{
    put_range(p, s);
    put(p, " ");
    put_name(p, s->shared->name, 0);
    put(p, " = ");
    put_expr(p, s->expr3, 0);
}

STMT_FN(each)
{
    put(p, "each (");
    put_axes(p, s->axes.at, s->axes.n);
    put(p, ")");
    if (s->var) {
        put(p, " ");
        put_var(p, s->var);
    }
    put_where(p, "of", s->expr);
    put_where(p, "where", s->mask);
    put_block(p, &s->body);
}

STMT_FN(combine)
{
    put(p, "combine ");
    put_axis(p, s->axis);
    put_where(p, "part", s->expr);
    put_where(p, "of", s->expr2);
    put_where(p, "at", s->expr3);
    put_block(p, &s->body);
}

STMT_FN(body)
{
    (void)s;
    put(p, "body");
}

STMT_FN(assert)
{
    put(p, "assert ");
    put_expr(p, s->expr, 0);
    put(p, ", ");
    put_text(p, s->text);
}

STMT_FN(print)
{
    put(p, "print ");
    put_text(p, s->text);
    if (s->index.n) put(p, ", ");
    put_list(p, s->index.at, s->index.n, "");
}

static void (*const put_stmt[E_COUNT + S_COUNT])(struct printer *, const struct ir_stmt *) = {
#define EXPR(name, nargs, meaning)
#define STMT(name, slots, meaning) [S_##name] = stmt_##name,
#include "compiler/ops.def"
};

static bool ends_in_block(enum ir_stmt_kind k)
{
    return k == S_produce || k == S_consume || k == S_for || k == S_while || k == S_if || k == S_par || k == S_each ||
           k == S_combine;
}

static void indent(struct printer *p)
{
    for (int i = 0; i < p->depth; i++) put(p, "    ");
}

static void put_block(struct printer *p, const ir_block *b)
{
    put(p, " {\n");
    p->depth++;
    for (int i = 0; i < b->n; i++) {
        indent(p);
        put_stmt[b->at[i]->kind](p, b->at[i]);
        put(p, ends_in_block(b->at[i]->kind) ? "\n" : ";\n");
    }
    p->depth--;
    indent(p);
    put(p, "}");
}

static void put_spec(struct printer *p, const struct ir_spec *s)
{
    put(p, "spec ");
    put_expr(p, s->left, 0);
    put(p, " = ");
    put_expr(p, s->value, 0);
    put_where(p, "where", s->where);
    put_where(p, "else", s->other);
    if (s->other_any) put(p, " else any");
    if (s->exact) put(p, " exact");
    if (s->tol != 0) {
        put(p, " tol ");
        put_real(p, s->tol);
    }
    put(p, ";\n");
}

static void put_given(struct printer *p, const struct ir_given *g)
{
    put(p, "given ");
    put_name(p, g->tensor->name, 0);
    if (g->axes.n) {
        put(p, " over (");
        put_axes(p, g->axes.at, g->axes.n);
        put(p, ")");
    }
    if (g->kind == GIVEN_expr) {
        put(p, " = ");
        put_expr(p, g->value, 0);
    } else if (g->kind == GIVEN_run) {
        put(p, " run ");
        put_name(p, g->kernel, 0);
        put(p, "(");
        for (int i = 0; i < g->args.n; i++) {
            if (i) put(p, ", ");
            put_name(p, g->args.at[i], 0);
        }
        put(p, ")");
    } else {
        put(p, g->kind == GIVEN_distinct ? " distinct " : " sorted ");
        put_expr(p, g->lo, 0);
        put(p, " .. ");
        put_expr(p, g->hi, 0);
    }
    put(p, ";\n");
}

static void put_role(struct printer *p, const struct ir_role *r)
{
    put(p, "role ");
    put_name(p, r->name, 0);
    if (r->drain) {
        put(p, " of ");
        put_name(p, r->drain->name, 0);
    }
    if (r->warps_m || r->warps_n) buf_printf(&p->out, " warps %d by %d", r->warps_m, r->warps_n);
    put_block(p, &r->body);
    put(p, "\n");
}

/* What follows the declarations of axes, variables and intrinsics. */
static void put_rest(struct printer *p)
{
    const struct ir_fn *fn = p->fn;
    for (int i = 0; i < fn->requires.n; i++) {
        put(p, "require ");
        put_expr(p, fn->requires.at[i], 0);
        put(p, ", ");
        put_text(p, i < fn->require_text.n ? fn->require_text.at[i] : "");
        put(p, ";\n");
    }
    for (int i = 0; i < fn->specs.n; i++) put_spec(p, &fn->specs.at[i]);
    for (int i = 0; i < fn->givens.n; i++) put_given(p, &fn->givens.at[i]);
    if (fn->check.n) {
        put(p, "check");
        put_block(p, &fn->check);
        put(p, "\n");
    }
    if (fn->tasks) {
        put(p, "tasks ");
        put_expr(p, fn->tasks, 0);
        put(p, ";\n");
    }
    put(p, "task");
    put_block(p, &fn->task);
    put(p, "\n");
    for (int i = 0; i < fn->roles.n; i++) put_role(p, fn->roles.at[i]);
}

static void put_tensor(struct printer *p, const struct ir_tensor *t)
{
    buf_printf(&p->out, "tensor %s %s ", dir_names[t->dir], type_name(t->type));
    put_name(p, t->name, 0);
    if (t->rank) {
        put(p, "[");
        put_list(p, t->dim, t->rank, "]");
        if (t->dim_text[0]) {
            put(p, " (");
            for (int i = 0; i < t->rank; i++) {
                if (i) put(p, ", ");
                put_text(p, t->dim_text[i]);
            }
            put(p, ")");
        }
        buf_printf(&p->out, " inner %d of %d", t->inner, t->inner_choices);
        if (t->align != IR_ALIGN) buf_printf(&p->out, " align %d", t->align);
        if (t->cache) buf_printf(&p->out, " cache %s", cache_names[t->cache]);
    }
    put(p, ";\n");
}

static void put_axis_line(struct printer *p, const struct ir_axis *x)
{
    put(p, "axis ");
    put_axis(p, x);
    if (x->of) {
        put(p, " of ");
        put_axis(p, x->of);
        buf_printf(&p->out, " div %d", x->div);
    }
    if (x->tile) buf_printf(&p->out, " tile %d", x->tile);
    if (x->exact) put(p, " exact");
    if (x->clean) put(p, " clean");
    if (x->align > 1) buf_printf(&p->out, " align %d", x->align);
    put_where(p, "from", x->lo);
    put_where(p, "to", x->hi);
    put(p, ";\n");
}

static void put_var_line(struct printer *p, const struct ir_var *v)
{
    buf_printf(&p->out, "var %s ", type_name(v->type));
    put_var(p, v);
    if (v->naxes) {
        put(p, "[");
        put_axes(p, v->axes, v->naxes);
        put(p, "]");
    }
    if (v->accum) put(p, " accum");
    if (v->slots > 1) buf_printf(&p->out, " slots %d", v->slots);
    if (v->flip) put(p, " flip");
    if (v->multiple) buf_printf(&p->out, " multiple %lld", (long long)v->multiple);
    put(p, ";\n");
}

static void put_pipe_lines(struct printer *p, const struct ir_pipe *pipe)
{
    put(p, "pipe ");
    put_name(p, pipe->name, 0);
    if (pipe->home) {
        put(p, " of ");
        put_var(p, pipe->home);
    }
    if (pipe->scales) put(p, " scales");
    if (pipe->depth) buf_printf(&p->out, " depth %d", pipe->depth);
    if (pipe->most) buf_printf(&p->out, " most %d", pipe->most);
    put(p, ";\n");
    for (int i = 0; i < pipe->fields.n; i++) {
        const struct ir_field *f = pipe->fields.at[i];
        buf_printf(&p->out, "field %s ", type_name(f->type));
        put_field(p, f);
        put(p, "[");
        put_axes(p, f->axes, f->naxes);
        put(p, "];\n");
    }
}

static void put_intrinsic_line(struct printer *p, const struct ir_intrinsic *x)
{
    buf_printf(&p->out, "intrinsic %s ", type_name(x->result));
    put_name(p, x->name, 0);
    put(p, "(");
    for (int i = 0; i < x->nargs; i++) buf_printf(&p->out, "%s%s", i ? ", " : "", type_name(x->args[i]));
    put(p, ")");
    if (x->effect) put(p, " effect");
    if (x->text) {
        put(p, " ");
        put_text(p, x->text);
    }
    put(p, ";\n");
}

static void put_head(struct printer *p)
{
    const struct ir_fn *fn = p->fn;
    put(p, "kernel ");
    put_name(p, fn->name, 0);
    buf_printf(&p->out, " for %s;\n", fn->target);
    for (int i = 0; i < fn->settings.n; i++) {
        put(p, "setting ");
        put_text(p, fn->settings.at[i]);
        put(p, ";\n");
    }
    for (int i = 0; i < fn->dims.n; i++) {
        const struct ir_dim *d = &fn->dims.at[i];
        put(p, "dim ");
        put_name(p, d->name, 0);
        if (d->value >= 0) buf_printf(&p->out, " = %lld", (long long)d->value);
        if (d->multiple > 1) buf_printf(&p->out, " multiple %d", d->multiple);
        put(p, ";\n");
    }
    for (int i = 0; i < fn->tensors.n; i++) put_tensor(p, fn->tensors.at[i]);
    for (int i = 0; i < p->axes.n; i++) put_axis_line(p, p->axes.at[i]);
    for (int i = 0; i < p->vars.n; i++) put_var_line(p, p->vars.at[i]);
    for (int i = 0; i < fn->shared.n; i++) {
        buf_printf(&p->out, "shared %s ", type_name(fn->shared.at[i]->type));
        put_name(p, fn->shared.at[i]->name, 0);
        if (fn->shared.at[i]->rank) {
            put(p, "[");
            put_list(p, fn->shared.at[i]->dim, fn->shared.at[i]->rank, "]");
        }
        put(p, ";\n");
    }
    for (int i = 0; i < fn->pipes.n; i++) put_pipe_lines(p, fn->pipes.at[i]);
    if (fn->persistent) put(p, "persistent;\n");
    if (fn->order_dependent) put(p, "order_dependent;\n");
    if (fn->cluster > 1 || fn->cluster_axis) {
        buf_printf(&p->out, "cluster %d", fn->cluster);
        if (fn->cluster_axis) {
            put(p, " over ");
            put_axis(p, fn->cluster_axis);
        }
        put(p, ";\n");
    }
    for (int i = 0; i < p->intrinsics.n; i++) put_intrinsic_line(p, p->intrinsics.at[i]);
}

void ir_print(const struct ir_fn *fn, struct buf *out)
{
    struct printer p = { .fn = fn };
    for (int i = 0; i < fn->axes.n; i++) vec_push(&p.arena, &p.axes, fn->axes.at[i]);
    for (int i = 0; i < fn->vars.n; i++) vec_push(&p.arena, &p.vars, fn->vars.at[i]);
    put_rest(&p);
    struct buf rest = p.out;
    p.out = (struct buf){ 0 };
    /* Axes and intrinsics may turn up in the head, too: the second writing has seen them all. */
    put_head(&p);
    p.out.n = 0;
    put_head(&p);
    buf_bytes(out, p.out.at, p.out.n);
    buf_bytes(out, rest.at, rest.n);
    buf_free(&p.out);
    buf_free(&rest);
    arena_free(&p.arena);
}
