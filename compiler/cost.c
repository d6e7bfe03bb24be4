/* cost - an analytic estimate of a kernel's time. See cost.h. */
#include "compiler/cost.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What the model assumes of every chip; fitted on an H200, where it ranks what was timed (tests/runtime/test_choose.c).
 *
 *   fill     tiles come from L2. One multiprocessor draws at most FILL_BYTES a cycle, all together what l2_widths says each.
 *   memory   every tensor crosses the memory's bus once, after RAMP_US in which the first bytes are on their way.
 *   overlap  fill, operand reads and products run side by side; of what is hidden, HIDDEN_SHARE shows all the same.
 *   waits    a product that registers need at once (scales to apply, a softmax) is waited for, WAIT_CYCLES each time, and
 *            nothing of its warps overlaps with it; a tile of several row blocks waits for each, later ones less.
 *   waves    tasks run in whole rounds of all multiprocessors; a round ends with its stores and its part of a combine.
 *   combine  a part is written, announced, and read again by the one that arrives last; of what lies inside the tensor.
 *            Inside a cluster all parts meet in shared memory at once, and each reads and stores a share. */
enum {
    OPERAND_BYTES = 128,  /* a cycle, shared memory to tensor cores */
    FILL_BYTES = 76,
    STORE_BYTES = 24,     /* a cycle, out of one multiprocessor */
    PART_BYTES = 44,      /* a cycle, parts of a sum read back */
    LANES = 128,          /* f32 operations a cycle */
    TASK_CYCLES = 900,    /* before the first product and after the last, where nothing overlaps */
    WAIT_CYCLES = 260,    /* issue, latency of the tensor cores, the slot's release */
    COMBINE_CYCLES = 2500, /* fence, counter, and waiting for the others' parts */
    MEET_CYCLES = 1000,   /* the same inside a cluster: arrivals at each other's barriers */
    NEAR_BYTES = 32,      /* a cycle, parts read from the cluster's shared memory */
    LAUNCH_CYCLES = 4000,
    GROUP_SMS = 18,       /* multiprocessors of one group (GPC), at most */
    UNKNOWN_TRIPS = 8     /* of a loop whose bounds are data */
};
#define RAMP_US 2.5
#define MEMORY_ADDS 6     /* times a plain store, where all multiprocessors have memory add */
#define HIDDEN_SHARE 0.04
#define LATER_WAITS 0.8   /* of WAIT_CYCLES, for each row block after the first */
#define SERIAL_ALU 0.7    /* operations on products are fused, two counted in about one and a half */

struct known {
    bool is;
    double v;
};

struct env {
    const struct ir_fn *fn;
    const struct target *t;
    const int64_t *dims;
    struct known *vars, *origin, *limit; /* by id */
    struct cost *c;
    double times;                        /* how often the statement at hand runs in one task */
    int role_warps;
    bool body;                           /* the prologue has reached S_body */
    bool guessed;                        /* some loop's trips are not known */
    bool waits;                          /* this role needs products while it goes on */
    double fill_bytes;                   /* of one task */
};

static struct known yes(double v) { return (struct known){ true, v }; }
static const struct known unknown = { false, 0 };

static struct known eval(const struct env *e, const struct ir_expr *x);

static struct known axis_at(const struct env *e, const struct known *table, const struct ir_axis *x, bool end)
{
    if (!x->of) return table[x->id];
    struct known k = axis_at(e, table, x->of, end);
    if (k.is) k.v = end ? (double)ceil_div((int64_t)k.v, x->div) : (double)floor_div((int64_t)k.v, x->div);
    return k;
}

static struct known eval_binary(enum ir_expr_kind k, double a, double b)
{
    int64_t x = (int64_t)a, y = (int64_t)b;
    switch (k) {
    case E_add: return yes(a + b);
    case E_sub: return yes(a - b);
    case E_mul: return yes(a * b);
    case E_div: return y ? yes((double)floor_div(x, y)) : unknown;
    case E_mod: return y ? yes((double)floor_mod(x, y)) : unknown;
    case E_min: return yes(a < b ? a : b);
    case E_max: return yes(a > b ? a : b);
    case E_lt: return yes(a < b);
    case E_le: return yes(a <= b);
    case E_eq: return yes(a == b);
    case E_ne: return yes(a != b);
    case E_and: return yes((double)(x & y));
    case E_or: return yes((double)(x | y));
    case E_shl: return yes((double)(x << (y & 31)));
    case E_shr: return yes((double)(x >> (y & 31)));
    default: return unknown;
    }
}

static struct known eval(const struct env *e, const struct ir_expr *x)
{
    if (!x || x->naxes) return unknown;
    switch (x->kind) {
    case E_const: return yes(type_is_float(x->type) ? x->real : (double)x->num);
    case E_dim: return yes((double)e->dims[x->num]);
    case E_unit: case E_rank: return yes(0);
    case E_units: return yes(1);
    case E_get: return e->vars[x->var->id];
    case E_origin: return axis_at(e, e->origin, x->axis, false);
    case E_limit: return axis_at(e, e->limit, x->axis, true);
    case E_cast: return eval(e, x->args[0]);
    case E_select: {
        struct known c = eval(e, x->args[0]);
        return c.is ? eval(e, x->args[c.v ? 1 : 2]) : unknown;
    }
    default: break;
    }
    if (x->nargs != 2) return unknown;
    struct known a = eval(e, x->args[0]), b = eval(e, x->args[1]);
    return a.is && b.is ? eval_binary(x->kind, a.v, b.v) : unknown;
}

static double elements(struct ir_axis *const *axes, int n)
{
    double all = 1;
    for (int i = 0; i < n; i++) all *= axes[i]->tile > 0 ? axes[i]->tile : 1;
    return all;
}

/* Operations on registers that evaluating x takes, an element each. */
static double operations(const struct ir_expr *x)
{
    if (!x || !x->naxes) return 0;
    double n = x->kind > E_element && x->kind != E_cast ? elements(x->axes, x->naxes) : 0;
    if (x->kind == E_reduce) n = elements(x->args[0]->axes, x->args[0]->naxes);
    if (x->kind == E_exp2 || x->kind == E_log2 || x->kind == E_rcp || x->kind == E_rsqrt || x->kind == E_tanh) n *= 8; /* a quarter of the lanes, and more */
    for (int i = 0; i < x->nargs; i++) n += operations(x->args[i]);
    return n;
}

static bool var_has(const struct ir_var *v, const struct ir_axis *x)
{
    for (int i = 0; i < v->naxes; i++)
        if (v->axes[i] == x) return true;
    return false;
}

/* The role must have this product before it can go on: it is a fresh one, made anew by each turn of a loop, in registers.
 * With a second accumulator in flight it need not. */
static bool waited_for(const struct env *e, const struct ir_stmt *s)
{
    return !s->flag && e->times > 1 && s->var->slots < 2 && target_has(e->t, HAS_WGMMA);
}

static void count_wait(struct env *e, double rows)
{
    double blocks = rows / (16.0 * (e->role_warps ? e->role_warps : 4));
    e->waits = true;
    e->c->wait += e->times * WAIT_CYCLES * (blocks > 1 ? 1 + LATER_WAITS * (blocks - 1) : 1);
}

/* Of an axis' tiles, the share that lies inside of it: all tiles together, from the first on. */
static double inside(const struct env *e, const struct ir_axis *x)
{
    if (x->of || x->tile <= 0 || !e->origin[x->id].is || !e->limit[x->id].is) return 1;
    double all = e->limit[x->id].v - e->origin[x->id].v;
    return all > 0 ? all / ((double)ceil_div((int64_t)all, x->tile) * x->tile) : 1;
}

/* Operations that count: not those on padding. */
static double useful(const struct env *e, const struct ir_stmt *s)
{
    double n = 2;
    const struct ir_expr *a = s->expr, *b = s->expr2;
    for (int i = 0; i < a->naxes; i++) n *= a->axes[i]->tile * inside(e, a->axes[i]);
    for (int i = 0; i < b->naxes; i++)
        if (var_has(s->var, b->axes[i]) && !ir_has_axis(a, b->axes[i])) n *= b->axes[i]->tile * inside(e, b->axes[i]);
    return n;
}

/* Tensor-core work of one mma: M and N from the operands' free axes, K from the rest. */
static void count_mma(struct env *e, const struct ir_stmt *s)
{
    double m = 1, n = 1, k = 1;
    const struct ir_expr *a = s->expr, *b = s->expr2;
    for (int i = 0; i < a->naxes; i++) *(var_has(s->var, a->axes[i]) ? &m : &k) *= a->axes[i]->tile;
    for (int i = 0; i < b->naxes; i++)
        if (var_has(s->var, b->axes[i])) n *= b->axes[i]->tile;
    int bits = type_bits(a->type) < type_bits(b->type) ? type_bits(b->type) : type_bits(a->type);
    bool narrow = bits == 8 && target_has(e->t, HAS_MMA_SYNC) && (e->t->has & (HAS_WGMMA | HAS_TCGEN05 | HAS_MMA_FP8));
    double rate = e->t->tensor_flops * (bits == 4 ? 4 : narrow ? 2 : bits == 32 ? 0.5 : 1), bytes = k * bits / 8;
    bool blocks = e->t->has & (HAS_WGMMA | HAS_TCGEN05);
    double rows = blocks ? ceil_div((int64_t)m, 64) * 64.0 : m;
    e->c->mma += e->times * 2 * rows * n * k / rate;
    double reads = blocks ? rows * bytes + rows / 64 * n * bytes : 4 * m * bytes + 2 * n * bytes;
    e->c->operands += e->times * reads / OPERAND_BYTES;
    e->c->flops += e->times * useful(e, s);
    if (waited_for(e, s)) count_wait(e, rows);
}

/* What a fill brings to one CTA: where CTAs of a cluster hold the same tile, each fetches its share for all. */
static void count_fill(struct env *e, const struct ir_field *f)
{
    bool own = e->fn->cluster <= 1;
    for (int i = 0; i < f->naxes; i++) {
        const struct ir_axis *x = f->axes[i];
        while (x->of) x = x->of;
        own |= x == e->fn->cluster_axis;
    }
    e->fill_bytes += e->times * elements(f->axes, f->naxes) * type_bits(f->type) / 8 / (own ? 1 : e->fn->cluster);
}

/* Bytes of the variables whose parts a combine adds up. */
struct held {
    const struct env *e;
    const struct ir_var *seen[16];
    int n;
    double bytes;
};

static void note_held(void *ctx, struct ir_expr *x)
{
    struct held *h = ctx;
    if (x->kind != E_get || !x->var->naxes || h->n == COUNT(h->seen)) return;
    for (int i = 0; i < h->n; i++)
        if (h->seen[i] == x->var) return;
    h->seen[h->n++] = x->var;
    double n = elements(x->var->axes, x->var->naxes);
    for (int i = 0; i < x->var->naxes; i++) n *= inside(h->e, x->var->axes[i]);
    h->bytes += n * type_bits(x->var->type) / 8;
}

static void note_parts(void *ctx, struct ir_expr *x)
{
    if (x->kind == E_parts) ir_walk_expr(x, note_held, ctx);
}

static void count_block(struct env *e, const ir_block *b);

/* The parts are the CTAs of a cluster. */
static bool meets_in_cluster(const struct env *e, const struct ir_stmt *s)
{
    int64_t parts;
    return e->fn->cluster > 1 && e->fn->cluster_axis == s->axis && ir_const_int(s->expr2, &parts) && parts == e->fn->cluster;
}

static void count_combine(struct env *e, const struct ir_stmt *s)
{
    struct known parts = eval(e, s->expr2);
    struct held h = { .e = e };
    double before = e->times;
    ir_walk(&s->body, note_parts, &h);
    if (meets_in_cluster(e, s)) {
        e->c->combine += MEET_CYCLES + h.bytes / OPERAND_BYTES + h.bytes / NEAR_BYTES;
        e->times /= e->fn->cluster;
    } else e->c->combine += COMBINE_CYCLES + h.bytes / STORE_BYTES + (parts.is ? parts.v : 4) * h.bytes / PART_BYTES;
    count_block(e, &s->body);
    e->times = before;
}

static double trips(struct env *e, const struct ir_stmt *s)
{
    struct known lo = eval(e, s->expr), hi = eval(e, s->expr2), step = eval(e, s->step);
    double by = step.is && step.v > 0 ? step.v : 1;
    if (!lo.is || !hi.is) e->guessed = true;
    if (!lo.is || !hi.is) return UNKNOWN_TRIPS;
    return hi.v > lo.v ? (double)ceil_div((int64_t)(hi.v - lo.v), (int64_t)by) : 0;
}

static void count_loop(struct env *e, const struct ir_stmt *s)
{
    double before = e->times, n = s->kind == S_while ? 1 : trips(e, s);
    if (!e->body && n > 1) n = 1; /* the prologue's loop over tasks: one task is what is counted */
    e->times *= n;
    if (s->var) e->vars[s->var->id] = eval(e, s->expr);
    if (n > 0) count_block(e, &s->body);
    e->times = before;
}

static void count_stmt(struct env *e, const struct ir_stmt *s)
{
    struct cost *c = e->c;
    switch (s->kind) {
    case S_let:
        if (!s->var->naxes) e->vars[s->var->id] = eval(e, s->expr);
        else c->alu += e->times * operations(s->expr) / LANES;
        break;
    case S_bind:
        e->origin[s->axis->id] = eval(e, s->expr);
        e->limit[s->axis->id] = eval(e, s->expr2);
        break;
    case S_fill: count_fill(e, s->field); break;
    case S_store: {
        double bytes = elements(s->expr->axes, s->expr->naxes) * type_bits(s->tensor->type) / 8;
        bool memory_adds = s->mode != MODE_set && !s->flag && target_has(e->t, HAS_TMA);
        c->store += e->times * bytes * (s->mode == MODE_set ? 1 : memory_adds ? MEMORY_ADDS : 1.5) / STORE_BYTES;
        c->alu += e->times * operations(s->expr) / LANES;
        break;
    }
    case S_mma: count_mma(e, s); break;
    case S_for: case S_while: case S_par: count_loop(e, s); break;
    case S_if: {
        struct known k = eval(e, s->expr);
        if (!k.is || k.v) count_block(e, &s->body);
        if (!k.is || !k.v) count_block(e, &s->other);
        break;
    }
    case S_combine: count_combine(e, s); break;
    case S_body: e->body = true; break;
    default: count_block(e, &s->body); break;
    }
}

static void count_block(struct env *e, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) count_stmt(e, b->at[i]);
}

static int role_warps(const struct ir_role *r, const struct ir_fn *fn, const struct target *t)
{
    int warps = r->warps_m * (r->warps_n ? r->warps_n : 1), rows = 0;
    if (warps) return warps;
    for (int i = 0; i < fn->vars.n; i++)
        if (fn->vars.at[i]->accum && fn->vars.at[i]->naxes && fn->vars.at[i]->axes[0]->tile > rows) rows = fn->vars.at[i]->axes[0]->tile;
    return t->has & HAS_WGMMA && rows < 128 ? 4 : 8;
}

static double memory_bytes(const struct env *e)
{
    double all = 0;
    for (int i = 0; i < e->fn->tensors.n; i++) {
        const struct ir_tensor *t = e->fn->tensors.at[i];
        double n = t->rank ? 1 : 0;
        for (int d = 0; d < t->rank; d++) {
            struct known k = eval(e, t->dim[d]);
            n *= k.is ? k.v : 1;
        }
        all += n * type_bits(t->type) / 8;
    }
    return all;
}

enum {
    REGS_A_LANE = 2048,        /* a multiprocessor's registers over 32 lanes, */
    SPENT_REGS = 160,          /* those of four warps that only copy, */
    TWO_WARPGROUPS_REGS = 236  /* and what eight warps have of the rest; what more warps lack counts as held */
};

/* What a role's warps hold in registers: variables, and the largest of the products that are made anew by each turn of a
 * loop, of which there are one at a time or as many as asked for. */
struct space {
    char *seen;              /* by the variable's id */
    bool apart;              /* products lie in tensor memory: one slot's at a time comes to registers */
    double held, fresh;
};

static double var_elements(const struct ir_var *v) { return v->naxes > 1 ? elements(v->axes, v->naxes) : 0; }

static void see_fresh(struct space *s, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *m = b->at[i];
        if (m->kind == S_mma && !m->flag) {
            s->seen[m->var->id] = 1;
            s->fresh = fmax(s->fresh, var_elements(m->var) * (m->var->slots > 1 && !s->apart ? m->var->slots : 1));
        }
        see_fresh(s, &m->body);
        see_fresh(s, &m->other);
    }
}

static void see_held(void *ctx, struct ir_expr *e)
{
    struct space *s = ctx;
    if (e->kind != E_get || s->seen[e->var->id]) return;
    s->seen[e->var->id] = 1;
    s->held += var_elements(e->var);
}

static void measure_space(struct env *e)
{
    struct cost *c = e->c;
    for (int i = 0; i < e->fn->pipes.n; i++)
        for (int k = 0; !e->fn->pipes.at[i]->home && k < e->fn->pipes.at[i]->fields.n; k++) {
            const struct ir_field *f = e->fn->pipes.at[i]->fields.at[k];
            c->slot_bytes += (int)elements(f->axes, f->naxes) * type_bits(f->type) / 8;
        }
    char *seen = malloc((size_t)e->fn->vars.n + 1);
    if (!seen) base_oom((size_t)e->fn->vars.n + 1);
    for (int r = 0; r < e->fn->roles.n; r++) {
        if (e->fn->roles.at[r]->drain) continue; /* it only issues them */
        struct space s = { .apart = e->t->has & HAS_TCGEN05, .seen = memset(seen, 0, (size_t)e->fn->vars.n + 1) };
        see_fresh(&s, &e->fn->roles.at[r]->body);
        ir_walk(&e->fn->roles.at[r]->body, see_held, &s);
        int warps = role_warps(e->fn->roles.at[r], e->fn, e->t), has = (REGS_A_LANE - SPENT_REGS) / (warps > 8 ? warps : 8);
        double regs = (s.held + s.fresh) / (warps * 32) + (TWO_WARPGROUPS_REGS - has);
        if (regs > c->accum_regs) c->accum_regs = (int)regs;
    }
    free(seen);
}

static double larger(double a, double b) { return a > b ? a : b; }

/* Two limits that are close to each other cost more than the larger one. */
static double smooth_larger(double a, double b) { return pow(pow(a, 6) + pow(b, 6), 1.0 / 6); }

static void count_roles(struct env *e)
{
    struct cost *c = e->c;
    for (int r = 0; r < e->fn->roles.n; r++) {
        double mma = c->mma, alu = c->alu, wait = c->wait;
        e->waits = false;
        e->role_warps = role_warps(e->fn->roles.at[r], e->fn, e->t);
        count_block(e, &e->fn->roles.at[r]->body);
        if (e->waits) c->serial = larger(c->serial, c->mma - mma + SERIAL_ALU * (c->alu - alu) + c->wait - wait);
    }
}

/* What L2 gives each multiprocessor a cycle when all draw: it is as wide as the tensor cores are fast. */
static const struct {
    int tensor_flops, bytes;
} l2_widths[] = { { 4096, 60 }, { 2048, 40 }, { 0, 16 } };

static int l2_bytes(const struct target *t)
{
    int i = 0;
    while (t->tensor_flops < l2_widths[i].tensor_flops) i++;
    return l2_widths[i].bytes;
}

/* Clusters that run at once: each lies in one group of at most GROUP_SMS multiprocessors, and what is left of a group idles.
 * Pairs always find their places. */
static int clusters_at_once(int sms, int cluster)
{
    int groups = (sms + GROUP_SMS - 1) / GROUP_SMS;
    return cluster <= 2 ? sms / (cluster > 1 ? cluster : 1) : groups * (sms / groups / cluster);
}

/* Cycles to bring in one task's tiles while `active` multiprocessors do the same. */
static double fill_cycles(const struct env *e, double active, int sms)
{
    double rate = active > 0 ? l2_bytes(e->t) * (double)sms / active : FILL_BYTES;
    return e->fill_bytes / (rate < FILL_BYTES ? rate : FILL_BYTES);
}

/* One task without its end: what takes longest, and a little of what that hides. */
static double steady_cycles(const struct cost *c)
{
    double longest = larger(larger(c->mma, c->operands), larger(c->fill, larger(c->alu, c->serial)));
    double all = c->serial > 0 ? c->operands + c->fill + c->serial : c->mma + c->operands + c->fill + c->alu;
    return longest + HIDDEN_SHARE * (all - (longest < all ? longest : all)) + TASK_CYCLES;
}

struct cost cost_estimate(const struct ir_fn *fn, const struct target *t, const int64_t *dims, int sms)
{
    struct cost c = { 0 };
    int vars = 1, axes = 1;
    for (int i = 0; i < fn->vars.n; i++) vars = fn->vars.at[i]->id >= vars ? fn->vars.at[i]->id + 1 : vars;
    for (int i = 0; i < fn->axes.n; i++) axes = fn->axes.at[i]->id >= axes ? fn->axes.at[i]->id + 1 : axes;
    struct known *memory = calloc((size_t)(vars + 2 * axes), sizeof *memory);
    if (!memory) base_oom((size_t)(vars + 2 * axes) * sizeof *memory);
    struct env e = { .fn = fn, .t = t, .dims = dims, .vars = memory, .origin = memory + vars, .limit = memory + vars + axes, .c = &c, .times = 1 };

    count_block(&e, &fn->task);
    e.body = true;
    count_roles(&e);
    measure_space(&e);

    struct known tasks = eval(&e, fn->tasks);
    int clusters = clusters_at_once(sms, fn->cluster);
    c.tasks = tasks.is ? tasks.v : clusters;
    c.flops *= tasks.is && !e.guessed ? c.tasks * (fn->cluster > 1 ? fn->cluster : 1) : 0;
    c.waves = (double)ceil_div((int64_t)c.tasks, clusters > 0 ? clusters : 1);
    double units = clusters > 0 ? clusters : 1, end = c.store + c.combine;
    c.fill = fill_cycles(&e, (c.tasks < units ? c.tasks : units) * (fn->cluster > 1 ? fn->cluster : 1), sms);
    c.memory_us = memory_bytes(&e) / (t->gbs * 1e3) + RAMP_US;
    double busy_us = (c.waves * (steady_cycles(&c) + end) - end) / t->mhz;
    c.us = smooth_larger(busy_us, c.memory_us) + (end + LAUNCH_CYCLES) / t->mhz;
    free(memory);
    return c;
}
