/* lower_mma - a product over a contracted axis: its two operands and its factors.
 *
 *   mma c[i, j] += a[i, k] * b[j, k] * s[k/32, i]
 *
 * k is contracted: some factor has it and c has not. The operands are the two factors that carry k undivided; the first is the
 * M side. Every other factor must be one number along k within one mma: where its granule (32) is finer than the tile of k, the
 * product is taken granule by granule, in a loop over an axis made here:
 *
 *   for k.1 = k by 32: mma c[i, j] += a[i, k.1] * b[j, k.1] * s[lo(k.1)/32, i] */
#include "compiler/lower.h"

#define MAX_FACTORS 16
#define LEAST_STEP 8 /* coordinates that the smallest product of any tensor core contracts */

struct product {
    const struct node *node[MAX_FACTORS];
    struct ir_expr *value[MAX_FACTORS];
    int n;
    int operand[2];
    struct laxis *contracted;
};

static void flatten(struct lower *L, const struct node *n, struct product *p)
{
    if (n->kind == N_binary && n->flag == OP_MUL) {
        flatten(L, n->a, p);
        flatten(L, n->b, p);
    } else if (p->n < MAX_FACTORS) p->node[p->n++] = n;
    else diag_error(L->d, n->span, "more than %d factors", MAX_FACTORS);
}

static bool lower_factors(struct lower *L, struct product *p)
{
    bool ok = true;
    for (int i = 0; i < p->n; i++) ok &= !is_bad(p->value[i] = lower_expr(L, p->node[i]));
    return ok;
}

static bool in_result(const struct ir_var *v, const struct ir_axis *x)
{
    for (int i = 0; i < v->naxes; i++)
        if (v->axes[i] == x) return true;
    return false;
}

/* Whether e differs from each coordinate of x to the next, not only from granule to granule. */
static bool undivided(const struct ir_expr *e, const struct ir_axis *x)
{
    if (e->kind == E_coord) return e->axis == x;
    if (e->kind == E_get) return ir_has_axis(e, x);
    if (e->kind == E_div || e->kind == E_reduce) return false;
    for (int i = 0; i < e->nargs; i++)
        if (undivided(e->args[i], x)) return true;
    return false;
}

static bool carries_contracted(const struct ir_expr *e, const struct ir_var *v)
{
    for (int i = 0; i < e->naxes; i++)
        if (!in_result(v, e->axes[i]) && undivided(e, e->axes[i])) return true;
    return false;
}

static bool find_operands(struct lower *L, const struct node *n, struct product *p, const struct ir_var *v)
{
    int found = 0;
    for (int i = 0; i < p->n; i++) {
        if (!carries_contracted(p->value[i], v)) continue;
        if (found < 2) p->operand[found] = i;
        found++;
    }
    if (found == 2) return true;
    diag_error(L->d, n->b->span, "mma contracts two operands; %d of the factors carry a contracted axis", found);
    diag_note(L->d, n->b->span, found < 2 ? "operands share an axis that '%s' lacks: c[i, j] += a[i, k] * b[j, k]"
                                          : "multiply the others into an operand of '%s' before: they differ along the contracted axis", v->name);
    return false;
}

static bool check_axes(struct lower *L, struct product *p, const struct ir_var *v)
{
    for (int k = 0; k < 2; k++) {
        const struct ir_expr *e = p->value[p->operand[k]], *other = p->value[p->operand[!k]];
        for (int i = 0; i < e->naxes; i++) {
            if (in_result(v, e->axes[i]) || ir_has_axis(other, e->axes[i])) continue;
            diag_error(L->d, p->node[p->operand[k]]->span, "'%s' is neither in '%s' nor in the other operand", e->axes[i]->name, v->name);
            diag_note(L->d, p->node[p->operand[k]]->span, "sum over it first, or give '%s' this axis", v->name);
            return false;
        }
    }
    return true;
}

struct granule {
    const struct ir_axis *axis;
    int64_t size;
};

static void find_granule(void *ctx, struct ir_expr *e)
{
    struct granule *g = ctx;
    int64_t c;
    if (e->kind != E_div || !ir_has_axis(e->args[0], g->axis) || !ir_const_int(e->args[1], &c) || c <= 0) return;
    while (c) {
        int64_t r = g->size % c;
        g->size = c;
        c = r;
    }
}

/* The axis along which some factor is not one number, and the extent within which all are. */
static struct ir_axis *uneven(const struct product *p, const struct ir_var *v, int64_t *size)
{
    for (int i = 0; i < p->n; i++) {
        if (i == p->operand[0] || i == p->operand[1]) continue;
        for (int k = 0; k < p->value[i]->naxes; k++) {
            struct ir_axis *x = p->value[i]->axes[k];
            if (in_result(v, x)) continue;
            struct granule g = {x, x->tile};
            for (int j = 0; j < p->n; j++)
                if (j != p->operand[0] && j != p->operand[1]) ir_walk_expr(p->value[j], find_granule, &g);
            *size = g.size;
            return x;
        }
    }
    return NULL;
}

static struct sym *axis_sym(struct lower *L, const struct ir_axis *x)
{
    for (struct sym *s = L->scope; s; s = s->next)
        if (s->kind == SYM_axis && s->axis->ir == x) return s;
    return NULL;
}

static struct ir_expr *as_factor(struct lower *L, struct ir_expr *e)
{
    return e->kind == E_const && !type_is_float(e->type) ? ir_real(L->a, TY_f32, (double)e->num) : e;
}

static void emit(struct lower *L, const struct node *n, const struct product *p, struct ir_var *v, bool accumulate)
{
    struct ir_stmt *s = lower_emit(L, S_mma, n->span);
    s->var = v;
    s->expr = p->value[p->operand[0]];
    s->expr2 = p->value[p->operand[1]];
    s->flag = accumulate;
    for (int i = 0; i < p->n; i++)
        if (i != p->operand[0] && i != p->operand[1]) vec_push(L->a, &s->factors, as_factor(L, p->value[i]));
}

static void by_granules(struct lower *L, const struct node *n, struct product *p, struct ir_var *v, struct ir_axis *x, int64_t size)
{
    struct sym *s = axis_sym(L, x), *keep = L->scope;
    if (!s || size < LEAST_STEP || size >= x->tile || x->tile % size) {
        diag_error(L->d, n->b->span, "a factor differs along '%s' within one mma", x->name);
        diag_note(L->d, n->b->span, "a factor may depend on %s through a granule that divides its tile of %d: %s/32", x->name, x->tile, x->name);
        return;
    }
    struct laxis *sub = axis_sub(L, s->axis, (int)size, n->span);
    const char *name = s->name;
    if (!n->flag) lower_let(L, v, ir_real(L->a, v->type, 0), n->span);
    struct ir_stmt *loop = lower_emit(L, S_for, n->span);
    loop->var = ir_new_var(L->a, L->fn, arena_printf(L->a, "%s.at", sub->name), TY_i32);
    loop->axis = sub->ir;
    loop->expr = axis_origin(L, s->axis);
    loop->expr2 = axis_end(L, s->axis);
    loop->step = ir_int(L->a, size);
    loop->num = x->tile / size;
    ir_block *outer = L->block;
    L->block = &loop->body;
    struct ir_expr *limit = s->axis->limit ? s->axis->limit : ir_leaf(L->a, E_limit, s->axis->ir);
    axis_bind(L, sub, ir_get(L->a, loop->var), limit, NULL);
    lower_name(L, name, SYM_axis, s->span)->axis = sub;
    int64_t again;
    if (lower_factors(L, p)) {
        if (uneven(p, v, &again)) diag_error(L->d, n->b->span, "a factor differs along '%s' within %d coordinates", x->name, (int)size);
        else emit(L, n, p, v, true);
    }
    L->scope = keep;
    L->block = outer;
}

void lower_mma(struct lower *L, const struct node *n)
{
    struct product p = {0};
    int64_t size;
    struct sym *s = lower_find(L, n->a->name);
    if (!s || s->kind != SYM_var || !s->var->accum) {
        diag_error(L->d, n->a->span, "mma adds into an accumulator; '%s' is none", n->a->name);
        diag_note(L->d, n->a->span, "declare it: accum f32 %s", lower_text(L, n->a->span));
        return;
    }
    if (n->a->kind == N_index && is_bad(lower_expr(L, n->a))) return;
    flatten(L, n->b, &p);
    if (!lower_factors(L, &p) || !find_operands(L, n, &p, s->var) || !check_axes(L, &p, s->var)) return;
    struct ir_axis *x = uneven(&p, s->var, &size);
    if (x) by_granules(L, n, &p, s->var, x, size);
    else emit(L, n, &p, s->var, n->flag);
}
