/* gen - plans roles, shared memory and parameters; emits the entry: setup, barrier init, role dispatch. */
#include "codegen/gen.h"

#include "codegen/codegen.h"

#include <string.h>

void gen_error(struct gen *g, struct span at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    diag_error(g->diag, at, "%s", arena_vprintf(g->arena, fmt, ap));
    va_end(ap);
    g->failed = true;
}

/* ---- host expressions ---- */

static const struct {
    enum ir_expr_kind ir;
    enum hexpr_op op;
} host_ops[] = {
    { E_add, HEX_ADD }, { E_sub, HEX_SUB }, { E_mul, HEX_MUL }, { E_div, HEX_DIV }, { E_mod, HEX_MOD },
    { E_min, HEX_MIN }, { E_max, HEX_MAX }, { E_eq, HEX_EQ },   { E_ne, HEX_NE },   { E_lt, HEX_LT },
    { E_le, HEX_LE },   { E_and, HEX_AND }, { E_or, HEX_OR },   { E_not, HEX_NOT }, { E_select, HEX_SELECT },
};

typedef VEC(struct hexpr_code) hexpr_vec;

static bool host_code(struct gen *g, const struct ir_expr *e, hexpr_vec *out)
{
    struct hexpr_code c = { 0 };
    for (int i = 0; i < e->nargs; i++)
        if (!host_code(g, e->args[i], out)) return false;
    if (e->kind == E_const) c = (struct hexpr_code){ HEX_CONST, e->num };
    else if (e->kind == E_dim) c = (struct hexpr_code){ HEX_DIM, e->num };
    else if (e->kind == E_arg) c = (struct hexpr_code){ HEX_SCALAR, e->tensor->id };
    else if (e->kind == E_units) c = (struct hexpr_code){ HEX_UNITS, 0 };
    else if (e->kind == E_cast && !type_is_float(e->type)) return true;
    else if (e->kind == E_neg) {
        vec_push(g->arena, out, ((struct hexpr_code){ HEX_CONST, -1 }));
        c.op = HEX_MUL;
    } else {
        int i = 0;
        while (i < COUNT(host_ops) && host_ops[i].ir != e->kind) i++;
        if (i == COUNT(host_ops)) return false;
        c.op = host_ops[i].op;
    }
    vec_push(g->arena, out, c);
    return true;
}

struct hexpr gen_host_expr(struct gen *g, const struct ir_expr *e, struct span at, const char *what)
{
    hexpr_vec v = { 0 };
    if (!e) vec_push(g->arena, &v, ((struct hexpr_code){ HEX_UNITS, 0 }));
    else if (!host_code(g, e, &v)) gen_error(g, at, "%s must be known before the launch: dimensions, constants and integer arguments only", what);
    return (struct hexpr){ v.at, v.n };
}

/* ---- the image: arguments, conditions, parameters ---- */

static int dim_named(const struct ir_fn *fn, const char *text)
{
    for (int i = 0; text && i < fn->dims.n; i++)
        if (!strcmp(fn->dims.at[i].name, text)) return i;
    return -1;
}

static void image_arguments(struct gen *g)
{
    struct image *im = g->image;
    for (int i = 0; i < g->fn->tensors.n; i++) {
        struct ir_tensor *t = g->fn->tensors.at[i];
        struct image_arg arg = { .name = t->name, .dir = (enum image_dir)t->dir, .type = t->type, .rank = t->rank, .inner = t->inner,
                                 .base_align = type_bits(t->type) < 8 ? 1 : type_bits(t->type) / 8, .span = t->span };
        for (int d = 0; d < t->rank; d++) {
            arg.dim[d] = gen_host_expr(g, t->dim[d], t->span, "a dimension");
            arg.dim_text[d] = t->dim_text[d] ? t->dim_text[d] : "?";
            arg.dim_symbol[d] = dim_named(g->fn, t->dim_text[d]);
            arg.align[d] = 1;
        }
        vec_push(g->arena, &im->args, arg);
    }
    for (int i = 0; i < g->fn->dims.n; i++) vec_push(g->arena, &im->dims, g->fn->dims.at[i].name);
}

static void image_requires(struct gen *g)
{
    struct ir_fn *fn = g->fn;
    for (int i = 0; i < fn->requires.n; i++) {
        struct image_require r = { gen_host_expr(g, fn->requires.at[i], fn->require_span.at[i], "a condition of `require`"),
                                   fn->require_text.at[i], fn->require_span.at[i] };
        vec_push(g->arena, &g->image->requires, r);
    }
    for (int i = 0; i < fn->dims.n; i++) {
        if (fn->dims.at[i].value < 0) continue;
        struct hexpr_code *c = new_n(g->arena, struct hexpr_code, 3);
        c[0] = (struct hexpr_code){ HEX_DIM, i };
        c[1] = (struct hexpr_code){ HEX_CONST, fn->dims.at[i].value };
        c[2] = (struct hexpr_code){ HEX_EQ, 0 };
        struct image_require r = { { c, 3 }, arena_printf(g->arena, "%s == %lld (this variant was compiled for it)", fn->dims.at[i].name, (long long)fn->dims.at[i].value), fn->span };
        vec_push(g->arena, &g->image->requires, r);
    }
}

static void add_param(struct gen *g, enum image_param_kind kind, int arg, int dim, uint32_t bytes, uint32_t align)
{
    struct image *im = g->image;
    im->param_bytes = (im->param_bytes + align - 1) / align * align;
    struct image_param p = { kind, arg, dim, im->param_bytes, bytes };
    vec_push(g->arena, &im->params, p);
    im->param_bytes += bytes;
}

static void image_parameters(struct gen *g)
{
    for (int i = 0; i < g->fn->tensors.n; i++) {
        struct ir_tensor *t = g->fn->tensors.at[i];
        if (!t->rank) {
            add_param(g, PARAM_SCALAR, i, 0, type_bits(t->type) > 32 ? 8 : 4, type_bits(t->type) > 32 ? 8 : 4);
            continue;
        }
        add_param(g, PARAM_POINTER, i, 0, 8, 8);
        for (int d = 0; d < t->rank; d++)
            if (d != t->inner) add_param(g, PARAM_STRIDE, i, d, 8, 8);
    }
    for (int i = 0; i < g->fn->dims.n; i++) add_param(g, PARAM_DIM, i, 0, 4, 4);
    add_param(g, PARAM_SCRATCH, 0, 0, 8, 8);
    add_param(g, PARAM_COUNTERS, 0, 0, 8, 8);
}

/* Tensor maps come last: stores ask for theirs while roles are emitted. */
static void image_map_parameters(struct gen *g)
{
    for (int i = 0; i < g->image->maps.n; i++) add_param(g, PARAM_MAP, i, 0, 128, 128);
}

/* The declaration of each parameter, in order; names p0, p1, ... are what gen_parameter loads from. */
static const char **declare_parameters(struct gen *g)
{
    const char **decl = new_n(g->arena, const char *, g->image->params.n + 1);
    for (int i = 0; i < g->image->params.n; i++) {
        struct image_param *p = &g->image->params.at[i];
        if (p->kind == PARAM_MAP) decl[i] = arena_printf(g->arena, ".param .align 128 .b8 map%d[128]", p->arg);
        else decl[i] = arena_printf(g->arena, ".param .b%u p%d", p->bytes * 8, i);
    }
    return decl;
}

static void load_parameters(struct gen *g)
{
    struct lir *l = g->l;
    g->scalars = new_n(g->arena, struct opd, g->fn->tensors.n + 1);
    for (int i = 0; i < g->image->params.n; i++) {
        struct image_param *p = &g->image->params.at[i];
        if (p->kind == PARAM_MAP) continue;
        struct opd r = lir_reg(l, p->bytes == 8 ? RC_B64 : RC_B32);
        lir_emit(l, "ld.param.b%d %r, [p%d]", (int)p->bytes * 8, r, i);
        if (p->kind == PARAM_POINTER) {
            struct opd global = lir_reg(l, RC_B64);
            lir_emit(l, "cvta.to.global.u64 %r, %r", global, r);
            g->pointers[p->arg] = global;
        } else if (p->kind == PARAM_STRIDE) g->strides[p->arg][p->dim] = r;
        else if (p->kind == PARAM_DIM) g->dims[p->arg] = r;
        else if (p->kind == PARAM_SCALAR) g->scalars[p->arg] = r;
        else if (p->kind == PARAM_SCRATCH) g->scratch_memory = r;
        else if (p->kind == PARAM_COUNTERS) g->counter_memory = r;
    }
    for (int i = 0; i < g->fn->dims.n; i++)
        if (g->fn->dims.at[i].value >= 0) g->dims[i] = opd_imm(g->fn->dims.at[i].value);
}

struct opd gen_tensor_pointer(struct gen *g, const struct ir_tensor *t) { return g->pointers[t->id]; }

struct opd gen_stride(struct gen *g, const struct ir_tensor *t, int dim)
{
    return dim == t->inner ? opd_imm(1) : g->strides[t->id][dim];
}

/* ---- roles ---- */

static void scan_block(struct gen_role *r, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        r->has_mma |= s->kind == S_mma;
        r->produces |= s->kind == S_produce;
        r->consumes |= s->kind == S_consume;
        scan_block(r, &s->body);
        scan_block(r, &s->other);
    }
}

enum { DEFAULT_WARPS = 8, COPY_WARPS = 4 };

static void plan_roles(struct gen *g)
{
    for (int i = 0; i < g->fn->roles.n; i++) {
        struct ir_role *ir = g->fn->roles.at[i];
        struct gen_role r = { .ir = ir, .warps = ir->warps_m * (ir->warps_n ? ir->warps_n : 1), .barrier = i + 1 };
        scan_block(&r, &ir->body);
        vec_push(g->arena, &g->roles, r);
    }
    if (g->roles.n > 15) gen_error(g, g->fn->span, "%d roles; a CTA has named barriers for 15", g->roles.n);
    for (int i = 0; i < g->roles.n; i++)
        if (g->roles.at[i].has_mma) g->family->plan(g, &g->roles.at[i]);
    for (int i = 0; i < g->roles.n; i++) {
        struct gen_role *r = &g->roles.at[i];
        if (!r->has_mma && !r->warps) r->warps = r->produces && !r->consumes ? COPY_WARPS : DEFAULT_WARPS;
    }
}

/* Holds accumulators, or what is read from them: its warps are whole warpgroups, aligned. */
static bool computes(const struct gen_role *r) { return r->drains || (r->has_mma && !r->ir->drain); }

static int place_warps(struct gen_role *r, int warp, int slot_warps)
{
    r->warp0 = warp;
    r->slot_warps = slot_warps;
    return warp + slot_warps;
}

/* Warps are numbered role by role, first those that compute. Beside them a producer gets whole warpgroups, so that
 * setmaxnreg may move its registers; several of one warp share the last warpgroup. */
static int number_warps(struct gen *g)
{
    int warp = 0;
    bool groups = false, share = false;
    struct gen_role *last = NULL;
    for (int i = 0, ones = 0; i < g->roles.n; i++) {
        struct gen_role *r = &g->roles.at[i];
        ones += !computes(r) && (r->single || r->warps == 1);
        share |= r->drains || (ones > 1 && g->family && g->family->async);
    }
    for (int pass = 0; pass < 3; pass++) {
        if (pass == 2) g->tail = warp;
        for (int i = 0; i < g->roles.n; i++) {
            struct gen_role *r = &g->roles.at[i];
            if (r->single) r->warps = 1;
            if (pass != (computes(r) ? 0 : share && r->warps == 1 ? 2 : 1)) continue;
            groups |= computes(r) && g->family->async;
            warp = place_warps(r, warp, groups && pass < 2 ? (r->warps + 3) / 4 * 4 : r->warps);
            last = pass == 2 ? r : NULL;
        }
    }
    for (; last && warp % 4; warp++) last->slot_warps++;
    if (warp > 32) gen_error(g, g->fn->span, "the roles of this kernel take %d warps; a CTA has at most 32", warp);
    return warp;
}

enum { COPY_REGS = 40, LOOKUP_REGS = 56, TAIL_REGS = 64, COMPUTE_REGS = 96, MOST_REGS = 240 };

static void count_reads(void *ctx, struct ir_expr *e)
{
    *(int *)ctx += e->kind == E_read && e->tensor->rank > 0;
}

static int count_fills(const ir_block *b)
{
    int n = 0;
    for (int i = 0; i < b->n; i++) n += (b->at[i]->kind == S_fill) + count_fills(&b->at[i]->body) + count_fills(&b->at[i]->other);
    return n;
}

/* What a role beside the tensor-core ones needs: little where it only issues copies, more where it looks up what to copy. */
static int modest_regs(const struct gen_role *r, int at_entry)
{
    int reads = 0;
    ir_walk(&r->ir->body, count_reads, &reads);
    bool copies = r->single && reads <= count_fills(&r->ir->body);
    int want = copies ? COPY_REGS : r->single || r->warps == 1 ? LOOKUP_REGS : COMPUTE_REGS;
    return want < at_entry ? want : at_entry;
}

/* Registers move from other roles to those that compute where there are more than two warpgroups (with two, everyone has
 * 255 anyway). The pool is the CTA's own: the sum of what all end with may not exceed what it began with. */
static void plan_registers(struct gen *g, int warps)
{
    int groups = warps / 4, at_entry = 65536 / (warps * 32) / 8 * 8, math = 0, others = (warps - g->tail) / 4, spent = others * TAIL_REGS;
    g->tail_regs = 0;
    if (!target_has(g->target, HAS_SETMAXNREG) || !g->family || !g->family->async || groups < 3) return;
    for (int i = 0; i < g->roles.n; i++) {
        const struct gen_role *r = &g->roles.at[i];
        if (r->warp0 >= g->tail) continue;
        *(computes(r) ? &math : &others) += r->slot_warps / 4;
        if (!computes(r)) spent += r->slot_warps / 4 * modest_regs(r, at_entry);
    }
    if (!math || !others || math + others != groups) return;
    int each = (at_entry * groups - spent) / math / 8 * 8;
    if (each <= at_entry) return;
    if (g->tail < warps) g->tail_regs = TAIL_REGS;
    for (int i = 0; i < g->roles.n; i++) {
        struct gen_role *r = &g->roles.at[i];
        if (r->warp0 < g->tail) r->regs = !computes(r) ? modest_regs(r, at_entry) : each > MOST_REGS ? MOST_REGS : each;
    }
}

static int most_registers(const struct gen *g, int warps)
{
    int most = 65536 / (warps * 32) / 8 * 8;
    if (most > MOST_REGS) most = MOST_REGS;
    for (int i = 0; i < g->roles.n; i++)
        if (g->roles.at[i].regs > most) most = g->roles.at[i].regs;
    return most;
}

int gen_smem(struct gen *g, int bytes, int align)
{
    int at = (g->smem_used + align - 1) / align * align;
    g->smem_used = at + bytes;
    return at;
}

struct opd gen_scratch(struct gen *g, int bytes)
{
    if (bytes > g->role->scratch_bytes) g->role->scratch_bytes = bytes;
    return g->role->scratch;
}

void gen_role_sync(struct gen *g)
{
    if (g->role->warps == 1) lir_emit(g->l, "bar.warp.sync 0xffffffff");
    else lir_emit(g->l, "bar.sync %d, %d", g->role->barrier, g->role->warps * 32);
}

struct opd gen_elect(struct gen *g) { return lir_cmp(g->l, "eq", g->role->lane, opd_imm(0)); }

/* ---- the entry ---- */

struct place {
    struct opd tid, warp, lane;
};

static struct place emit_setup(struct gen *g)
{
    struct lir *l = g->l;
    struct place p = { lir_reg(l, RC_B32), lir_reg(l, RC_B32), lir_reg(l, RC_B32) };
    struct opd w = lir_reg(l, RC_B32);
    g->smem = lir_reg(l, RC_B32);
    lir_emit(l, "mov.u32 %r, smem", g->smem);
    lir_emit(l, "mov.u32 %r, %%tid.x", p.tid);
    lir_emit(l, "shr.u32 %r, %r, 5", w, p.tid);
    lir_emit(l, "shfl.sync.idx.b32 %r, %r, 0, 31, 0xffffffff", p.warp, w); /* the same in all lanes, and ptxas knows it */
    lir_emit(l, "and.b32 %r, %r, 31", p.lane, p.tid);
    g->cta_rank = opd_imm(0);
    if (g->fn->cluster > 1) {
        g->cta_rank = lir_reg(l, RC_B32);
        lir_emit(l, "mov.u32 %r, %%cluster_ctarank", g->cta_rank);
    }
    return p;
}

static void emit_cta_barrier(struct gen *g)
{
    if (g->fn->cluster > 1) {
        lir_emit(g->l, "barrier.cluster.arrive.release");
        lir_emit(g->l, "barrier.cluster.wait.acquire");
    } else lir_emit(g->l, "barrier.sync 0");
}

/* Where launches overlap (CUDA programming guide, Programmatic Dependent Launch): what stands above is a CTA's own setup and may
 * run while the grid before still does; nothing of global memory is touched above. The next grid may come as soon as this one is set
 * up: it only sets itself up until this one has ended. No sooner: its CTAs could take the tensor memory that ours are yet to ask for.
 * No later: it is one instruction where every warp passes once. Both do nothing in launches that are not to overlap. */
static void emit_overlap(struct gen *g)
{
    if (!target_has(g->target, HAS_PDL)) return;
    lir_emit(g->l, "griddepcontrol.wait");
    lir_emit(g->l, "griddepcontrol.launch_dependents");
}

static void emit_init(struct gen *g, struct place p)
{
    struct lir *l = g->l;
    int skip = lir_label(l);
    struct opd not_first = lir_cmp(l, "ne", p.tid, opd_imm(0));
    lir_emit(l, "@%r bra %l", not_first, skip);
    pipe_init(g);
    lir_place(l, skip);
    g->role = NULL;
    if (g->family && g->family->setup) g->family->setup(g);
    emit_cta_barrier(g);
    emit_overlap(g);
}

static void emit_role(struct gen *g, struct gen_role *r, struct place p)
{
    struct lir *l = g->l;
    g->role = r;
    r->warp = lir_sub(l, p.warp, opd_imm(r->warp0));
    r->lane = p.lane;
    r->thread = lir_sub(l, p.tid, opd_imm(r->warp0 * 32));
    r->scratch = lir_reg(l, RC_B32);
    r->scratch_insn = l->code.n;
    lir_emit(l, "add.u32 %r, %r, %r", r->scratch, g->smem, opd_imm(0));
    if (r->regs) lir_emit(l, computes(r) ? "setmaxnreg.inc.sync.aligned.u32 %d" : "setmaxnreg.dec.sync.aligned.u32 %d", r->regs);
    int end = -1;
    bool half = g->pair && r->has_mma; /* the second CTA of a pair issues nothing */
    if (half || r->single || r->slot_warps > r->warps) end = lir_label(l);
    if (half) lir_emit(l, "@%r bra %l", lir_cmp(l, "ne", g->cta_rank, opd_imm(0)), end);
    if (r->single) lir_emit(l, "@%r bra %l", lir_cmp(l, "ne", r->thread, opd_imm(0)), end);
    else if (r->slot_warps > r->warps) lir_emit(l, "@%r bra %l", lir_cmp(l, "ge", r->warp, opd_imm(r->warps)), end);
    hint_begin_role(g);
    pipe_begin_role(g);
    made_begin_role(g);
    combine_begin_role(g);
    store_begin_role(g);
    if ((r->has_mma || r->drains) && g->family->begin_role) g->family->begin_role(g);
    int from = l->code.n;
    gen_block(g, &g->fn->task);
    store_finish(g);
    if (g->family && g->family->async) early_role(g, from);
    if (end >= 0) lir_place(l, end);
}

static void emit_roles(struct gen *g, struct place p)
{
    struct lir *l = g->l;
    int done = lir_label(l), not_tail = lir_label(l);
    if (g->tail_regs) { /* by the whole warpgroup, before its roles part */
        lir_emit(l, "@%r bra %l", lir_cmp(l, "lt", p.warp, opd_imm(g->tail)), not_tail);
        lir_emit(l, "setmaxnreg.dec.sync.aligned.u32 %d", g->tail_regs);
        lir_place(l, not_tail);
    }
    for (int i = 0; i < g->roles.n; i++) {
        struct gen_role *r = &g->roles.at[i];
        int next = lir_label(l);
        l->span = r->ir->span;
        if (g->roles.n > 1) {
            struct opd below = lir_cmp(l, "lt", p.warp, opd_imm(r->warp0)), above = lir_cmp(l, "ge", p.warp, opd_imm(r->warp0 + r->slot_warps));
            lir_emit(l, "@%r bra %l", lir_por(l, below, above), next);
        }
        lir_comment(l, "role %s: warps %d to %d", r->ir->name, r->warp0, r->warp0 + r->warps - 1);
        emit_role(g, r, p);
        if (g->roles.n > 1) lir_emit(l, "bra %l", done);
        lir_place(l, next);
    }
    lir_place(l, done);
}

/* Exchange buffers follow everything else; their sizes are known now. */
static void place_scratch(struct gen *g)
{
    for (int i = 0; i < g->roles.n; i++) {
        struct gen_role *r = &g->roles.at[i];
        if (r->scratch_bytes) g->l->code.at[r->scratch_insn].args[2] = opd_imm(gen_smem(g, r->scratch_bytes, 128));
    }
}

static void gen_start(struct gen *g)
{
    struct ir_fn *fn = g->fn;
    int axes = 0, vars = 0;
    for (int i = 0; i < fn->axes.n; i++) axes = fn->axes.at[i]->id >= axes ? fn->axes.at[i]->id + 1 : axes;
    for (int i = 0; i < fn->vars.n; i++) {
        vars = fn->vars.at[i]->id >= vars ? fn->vars.at[i]->id + 1 : vars;
        fn->vars.at[i]->cg = NULL;
    }
    g->l = new(g->arena, struct lir);
    g->l->arena = g->arena;
    g->image = new(g->arena, struct image);
    g->dims = new_n(g->arena, struct opd, fn->dims.n + 1);
    g->origin = new_n(g->arena, struct opd, axes + 1);
    g->limit = new_n(g->arena, struct opd, axes + 1);
    g->vars = new_n(g->arena, struct opd, vars + 1);
    g->pointers = new_n(g->arena, struct opd, fn->tensors.n + 1);
    g->strides = arena_alloc(g->arena, sizeof *g->strides * (size_t)(fn->tensors.n + 1));
    g->smem_used = 0;
    g->roles.n = g->barriers.n = g->costs.n = g->module.n = 0;
    g->combine = NULL;
}

static void image_finish(struct gen *g, int warps)
{
    struct image *im = g->image;
    im->kernel = g->fn->name;
    im->target = g->target->name;
    im->tasks = gen_host_expr(g, g->fn->tasks, g->fn->span, "the number of tasks");
    if (g->fn->cluster > 1 && g->fn->tasks) im->tasks = hexpr_then(g->arena, im->tasks, HEX_MUL, g->fn->cluster);
    im->persistent = g->fn->persistent || !g->fn->tasks;
    im->cluster = (uint32_t)(g->fn->cluster > 1 ? g->fn->cluster : 1);
    im->threads = (uint32_t)warps * 32;
    im->smem_bytes = (uint32_t)g->smem_used;
    im->deterministic = !g->fn->order_dependent;
    int by_smem = (g->target->smem_bytes + 1024) / (g->smem_used + 1024), by_threads = 1536 / (warps * 32);
    im->ctas_per_sm = by_smem < by_threads ? by_smem : by_threads;
    if (im->ctas_per_sm < 1 || g->family) im->ctas_per_sm = 1;
    if (!im->scratch_bytes.n) im->scratch_bytes = hexpr_const(g->arena, 0);
    if (!im->counter_bytes.n) im->counter_bytes = hexpr_const(g->arena, 0);
}

/* Memory that nothing took is worth another attempt, once: stores get more buffers. */
static bool spare_found(struct gen *g)
{
    int left = g->target->smem_bytes - g->smem_used;
    bool staged = false;
    for (int i = 0; i < g->roles.n; i++) staged |= g->roles.at[i].stage_bytes && left >= g->roles.at[i].warps * g->roles.at[i].stage_bytes / 2;
    if (!staged || g->stage_spare || g->fn->persistent == false) return false;
    g->stage_spare = left;
    return true;
}

/* One attempt. False when another is to be made: shared memory does not suffice for what was found to be needed (smem_reserve then
 * says more), or there is some left. */
static bool gen_attempt(struct gen *g, int *warps)
{
    gen_start(g);
    g->family = NULL;
    const struct mma_family *family = mma_choose(g->target, g->fn);
    for (int i = 0; i < g->fn->roles.n; i++) {
        struct gen_role probe = { 0 };
        scan_block(&probe, &g->fn->roles.at[i]->body);
        if (probe.has_mma) g->family = family;
    }
    image_arguments(g);
    image_requires(g);
    plan_roles(g);
    if (g->failed) return true;
    gen_plan_shared(g);
    pipe_plan(g);
    *warps = number_warps(g);
    if (g->failed) return true;
    pipe_counts(g);
    plan_registers(g, *warps);
    image_parameters(g);

    int planned = g->smem_used;
    struct place p = emit_setup(g);
    load_parameters(g);
    emit_init(g, p);
    emit_roles(g, p);
    g->role = NULL;
    if (g->family && g->family->teardown) {
        emit_cta_barrier(g);
        g->family->teardown(g);
    } else if (g->fn->cluster > 1) emit_cta_barrier(g); /* a CTA must not leave while others may reach its memory */
    lir_emit(g->l, "ret");
    place_scratch(g);
    image_map_parameters(g);
    if (g->failed) return true;
    if (g->smem_used <= g->target->smem_bytes) return !spare_found(g);
    if (g->stage_spare > 0) {
        g->stage_spare = -1;
        return false;
    }
    int need = g->smem_used - planned + 1024;
    if (need <= g->smem_reserve) {
        gen_error(g, g->fn->span, "the kernel needs %d bytes of shared memory; %s has %d a CTA", g->smem_used, g->target->name, g->target->smem_bytes);
        pipe_note_budget(g);
        diag_note(g->diag, g->fn->span, "exchange and store buffers of the roles: %d bytes; smaller tiles or fewer slots fit", g->smem_used - planned);
        return true;
    }
    g->smem_reserve = need;
    return false;
}

struct image *codegen_kernel(struct arena *a, struct diag *d, struct ir_fn *fn, const struct codegen_options *o)
{
    const struct target *t = target_find(fn->target);
    if (!t) {
        diag_error(d, (struct span){ 0, 0 }, "unknown target '%s'", fn->target);
        return NULL;
    }
    struct gen g = { .arena = a, .diag = d, .fn = fn, .target = t };
    int warps = 0;
    while (!gen_attempt(&g, &warps)) {}
    if (g.failed || d->errors) return NULL;
    image_finish(&g, warps);
    g.image->symbol = o && o->symbol ? o->symbol : fn->name;

    struct lir_entry e = { .symbol = g.image->symbol, .ptx_version = t->ptx_version, .ptx_target = t->ptx_target,
                           .param_decl = declare_parameters(&g), .nparams = g.image->params.n, .threads = warps * 32,
                           .min_ctas = 1, .cluster = fn->cluster, .line_info = o && o->line_info,
                           .globals = g.module.at, .nglobals = g.module.n };
    struct buf ptx = { 0 };
    lir_print(g.l, &e, d, &ptx);
    g.image->ptx = arena_strndup(a, ptx.at, ptx.n);
    g.image->ptx_bytes = ptx.n;
    buf_free(&ptx);
    if (o && o->registers) *o->registers = most_registers(&g, warps);
    if (o && o->explain) gen_explain(&g, o->explain);
    return d->errors ? NULL : g.image;
}
