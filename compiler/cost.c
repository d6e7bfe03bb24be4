/* cost - an analytic estimate of a kernel's time. See cost.h. */
#include "compiler/cost_env.h"

#include "compiler/slope.h"
#include "compiler/space.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool var_has(const struct ir_var *v, const struct ir_axis *x)
{
    for (int i = 0; i < v->naxes; i++)
        if (v->axes[i] == x) return true;
    return false;
}

/* The role must have this product before it can go on: it is a fresh one, made anew by each turn of a loop, in registers. */
static bool waited_for(const struct env *e, const struct ir_stmt *s) { return !s->flag && e->depth > 0 && target_has(e->t, HAS_WGMMA); }

static void count_wait(struct env *e, const struct ir_var *product)
{
    e->products += e->times;
    if (e->unread && e->unread != product) e->flying += e->times;
    e->unread = product;
    e->c->wait += e->times * WAIT_CYCLES;
}

static void note_read(void *ctx, struct ir_expr *x)
{
    struct env *e = ctx;
    if (x->kind == E_get && x->var == e->unread) e->unread = NULL;
}

/* Of an axis' tiles, the share that lies inside of it: all tiles together, from the first on. */
static double inside(const struct env *e, const struct ir_axis *x)
{
    if (x->of || x->tile <= 0 || !e->axes[x->id].origin.is || !e->axes[x->id].limit.is) return 1;
    double all = e->axes[x->id].limit.v - e->axes[x->id].origin.v;
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

static double larger(double a, double b) { return a > b ? a : b; }

static const struct ir_stmt *find_fill(const ir_block *b, const struct ir_field *f)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i], *in = s->kind == S_fill && s->field == f ? s : find_fill(&s->body, f);
        if (in) return in;
    }
    return NULL;
}

/* What a field is filled with, where that is read from a tensor as it stands. */
static const struct ir_expr *fill_of(const struct env *e, const struct ir_field *f)
{
    const struct ir_stmt *fill = NULL;
    for (int i = 0; i < e->fn->roles.n && !fill; i++) fill = find_fill(&e->fn->roles.at[i]->body, f);
    return fill && fill->expr->kind == E_read ? fill->expr : NULL;
}

/* A second operand that lies along its columns comes in panels of 64: instructions take parts of both, and narrow ones take
 * as long as wider. What that makes of the time. */
static double narrowed(const struct env *e, const struct ir_stmt *s, const struct ir_expr *b, double n)
{
    if (b->kind != E_slot || !target_has(e->t, HAS_WGMMA) || type_bits(b->type) != 16) return 1;
    const struct ir_expr *read = fill_of(e, b->field), *inner = read ? read->args[read->tensor->inner] : NULL;
    if (!inner || inner->naxes != 1 || !var_has(s->var, inner->axes[0])) return 1;
    int64_t part = 64;
    while ((int64_t)n % part) part /= 2;
    return 64.0 / part > 4 ? 4 : 64.0 / part;
}

/* Tensor-core work of one mma: M and N from the operands' free axes, K from the rest. */
static void count_mma(struct env *e, const struct ir_stmt *s)
{
    double m = 1, n = 1, k = 1;
    const struct ir_expr *a = s->var->flip ? s->expr2 : s->expr, *b = s->var->flip ? s->expr : s->expr2;
    for (int i = 0; i < a->naxes; i++) *(var_has(s->var, a->axes[i]) ? &m : &k) *= a->axes[i]->tile;
    for (int i = 0; i < b->naxes; i++)
        if (var_has(s->var, b->axes[i])) n *= b->axes[i]->tile;
    int bits = type_bits(a->type) < type_bits(b->type) ? type_bits(b->type) : type_bits(a->type);
    bool narrow = bits == 8 && target_has(e->t, HAS_MMA_SYNC) && (e->t->has & (HAS_WGMMA | HAS_TCGEN05 | HAS_MMA_FP8));
    double rate = e->t->tensor_flops * (bits == 4 ? 4 : narrow ? 2 : bits == 32 ? 0.5 : 1), bytes = k * bits / 8;
    bool blocks = e->t->has & (HAS_WGMMA | HAS_TCGEN05);
    double rows = blocks ? ceil_div((int64_t)m, 64) * 64.0 : m;
    e->c->mma += e->times * 2 * rows * n * k / rate * narrowed(e, s, b, n);
    double apart = e->role_warps * 16 / rows; /* warpgroups that share rows read them each */
    double reads = blocks ? rows * bytes * (apart > 1 ? apart : 1) + rows / 64 * n * bytes : 4 * m * bytes + 2 * n * bytes;
    e->c->operands += e->times * reads / OPERAND_BYTES;
    e->c->flops += e->times * useful(e, s);
    if (waited_for(e, s)) count_wait(e, s->var);
}

/* Rows that lie as far apart as data say: bytes that each begins at a multiple of. 0: rows a dimension apart, which come as any tile. */
static int sloped_unit(const struct env *e, const struct ir_field *f, const struct ir_expr *read)
{
    struct arena scratch = { 0 };
    struct slopes s;
    int64_t by;
    int along = -1, unit = 0;
    bool sloped = false;
    if (read->args[read->tensor->inner]->naxes < 2) return 0; /* one axis walks the row, another goes from row to row */
    if (slopes_of(&scratch, f, read->args[read->tensor->inner], &s)) {
        for (int i = 0; i < f->naxes; i++) {
            bool one = s.by[i] && ir_const_int(s.by[i], &by) && by == 1;
            if (one) along = i;
            sloped |= s.by[i] && !one;
        }
        if (sloped && along >= 0) unit = slopes_unit(e->fn, f, &s, along, read->tensor);
    }
    arena_free(&scratch);
    return unit;
}

/* What that takes: nothing where the device makes tensor maps of them, or where cp.async is how all tiles come; else that of cp.async
 * for whole words, of loads and stores for elements. */
static double thread_cycles(const struct env *e, const struct ir_field *f, const struct ir_expr *read)
{
    int unit = sloped_unit(e, f, read);
    double n = space_elements(f->axes, f->naxes), bytes = n * type_bits(f->type) / 8;
    if (unit && unit < 4) return n * ELEMENT_CYCLES;
    bool usual = !target_has(e->t, HAS_TMA) || (unit == IR_ALIGN && target_has(e->t, HAS_TENSORMAP));
    return !unit || usual ? 0 : bytes / unit * UNIT_CYCLES;
}

/* What a fill brings to one CTA: where CTAs of a cluster hold the same tile, each fetches its share for all. */
static void count_fill(struct env *e, const struct ir_field *f)
{
    bool own = e->fn->cluster <= 1;
    for (int i = 0; i < f->naxes; i++) {
        const struct ir_axis *x = f->axes[i];
        while (x->of) x = x->of;
        own |= x == e->fn->cluster_axis || e->axes[x->id].origin.ranked;
    }
    double there = 1;
    for (int i = 0; i < f->naxes; i++) there *= inside(e, f->axes[i]);
    double bytes = e->times * space_elements(f->axes, f->naxes) * type_bits(f->type) / 8 / (own ? 1 : e->fn->cluster);
    e->fill_bytes += bytes * (there + (1 - there) * OUTSIDE);
    const struct ir_expr *read = fill_of(e, f);
    if (!read) return;
    e->drawn[read->tensor->id] += bytes * there;
    e->thread_cycles += e->times * thread_cycles(e, f, read);
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
    double n = space_elements(x->var->axes, x->var->naxes);
    for (int i = 0; i < x->var->naxes; i++) n *= inside(h->e, x->var->axes[i]);
    h->bytes += n * type_bits(x->var->type) / 8;
}

static void note_parts(void *ctx, struct ir_expr *x)
{
    if (x->kind == E_parts) ir_walk_expr(x, note_held, ctx);
}

static void count_block(struct env *e, const ir_block *b);

/* Memory sends whole lines: a part of a row that is shorter takes as long. */
static double lines_bytes(const struct env *e, const struct ir_field *f)
{
    const struct ir_expr *read = fill_of(e, f);
    double bytes = (double)space_elements(f->axes, f->naxes) * type_bits(f->type) / 8;
    if (!read || !f->naxes) return bytes;
    int tile = f->axes[f->naxes - 1]->tile;
    struct known row = cost_eval(e, read->tensor->dim[read->tensor->inner]);
    double part = tile * type_bits(f->type) / 8.0;
    return part < LINE_BYTES && row.is && row.v > tile ? bytes * LINE_BYTES / part : bytes;
}

/* One slot of the pipe that is filled innermost, which gets what memory is left; all slots of the others. */
static void measure_slots(struct env *e)
{
    int deepest = 0;
    e->c->slot_bytes = e->c->other_bytes = 0;
    e->first_bytes = 0;
    for (int i = 0; i < e->fn->pipes.n; i++)
        if (e->consumed[e->fn->pipes.at[i]->id] > deepest) deepest = e->consumed[e->fn->pipes.at[i]->id];
    for (int i = 0; i < e->fn->pipes.n; i++) {
        const struct ir_pipe *p = e->fn->pipes.at[i];
        int bytes = 0, depth = e->consumed[p->id];
        for (int k = 0; !p->home && k < p->fields.n && depth == deepest; k++) e->first_bytes += lines_bytes(e, p->fields.at[k]);
        for (int k = 0; !p->home && k < p->fields.n; k++)
            bytes += (int)space_elements(p->fields.at[k]->axes, p->fields.at[k]->naxes) * type_bits(p->fields.at[k]->type) / 8;
        if (depth == deepest) e->c->slot_bytes += bytes;
        else e->c->other_bytes += bytes * (p->depth ? p->depth : depth > 0 ? 2 : 1);
    }
}

enum { MEETING_SLOTS = 3, ROW_PAD = 8, MEETING_RESERVE = 3072 };

/* What a part takes in shared memory: rows that meet different banks. */
static double part_bytes(const struct held *h)
{
    double all = 0;
    for (int i = 0; i < h->n; i++) {
        const struct ir_var *v = h->seen[i];
        int row = v->naxes ? v->axes[v->naxes - 1]->tile : 1;
        all += space_elements(v->axes, v->naxes) / row * (row % 16 ? row : row + ROW_PAD) * 4;
    }
    return all;
}

/* The parts are the CTAs of a cluster, and there is room for one beside the slots. */
static bool meets_in_cluster(struct env *e, const struct ir_stmt *s, const struct held *h)
{
    int64_t parts;
    if (e->fn->cluster <= 1 || e->fn->cluster_axis != s->axis || !ir_const_int(s->expr2, &parts) || parts != e->fn->cluster) return false;
    measure_slots(e);
    return part_bytes(h) + MEETING_SLOTS * e->c->slot_bytes + e->c->other_bytes + MEETING_RESERVE <= e->t->smem_bytes;
}

static void count_combine(struct env *e, const struct ir_stmt *s)
{
    struct known parts = cost_eval(e, s->expr2);
    struct held h = { .e = e };
    double before = e->times;
    ir_walk(&s->body, note_parts, &h);
    if (meets_in_cluster(e, s, &h)) {
        e->c->combine += MEET_CYCLES + h.bytes / OPERAND_BYTES + h.bytes / NEAR_BYTES;
        e->times /= e->fn->cluster;
    } else e->c->combine += COMBINE_CYCLES + h.bytes / STORE_BYTES + (parts.is ? parts.v : 4) * h.bytes / PART_BYTES;
    count_block(e, &s->body);
    e->times = before;
}

/* Ends lie anywhere within a tile: one turn more than the length is worth. */
static double guess_trips(struct env *e, struct known hi, double by)
{
    e->guessed = true;
    return hi.bounded ? hi.v / by * (hi.rows + OTHER_ROWS) / (hi.rows + OTHER_ROWS + 1) + TORN_ENDS : UNKNOWN_TRIPS;
}

static double trips(struct env *e, const struct ir_stmt *s)
{
    struct known lo = cost_eval(e, s->expr), hi = cost_eval(e, s->expr2), step = cost_eval(e, s->step);
    double by = step.is && step.v > 0 ? step.v : 1;
    if (!lo.is || !hi.is) return guess_trips(e, hi, by);
    return hi.v > lo.v ? (double)ceil_div((int64_t)(hi.v - lo.v), (int64_t)by) : 0;
}

/* All turns but the last are as long as the first; the last ends where the axis does. */
static void count_loop(struct env *e, const struct ir_stmt *s)
{
    double before = e->times, n = s->kind == S_while ? 1 : trips(e, s);
    struct known first = s->var ? cost_eval(e, s->expr) : unknown, step = s->step ? cost_eval(e, s->step) : known_as(1);
    if (!e->body && n > 1) n = 1; /* the prologue's loop over tasks: one task is what is counted */
    int depth = e->depth;
    e->depth += e->body;
    for (int last = 0; last < 2; last++) {
        e->times = before * (last ? 1 : n - 1);
        if (s->var) e->vars[s->var->id] = first;
        if (s->var && first.is && step.is) e->vars[s->var->id].v += last ? (n - 1) * step.v : 0;
        if (n > 0 && e->times > 0) count_block(e, &s->body);
    }
    e->depth = depth;
    e->times = before;
}

/* Values that are worked out in registers. */
static void count_values(struct env *e, const struct ir_expr *x)
{
    e->c->alu += e->times * cost_operations(e, x) / LANES;
    e->c->shared += e->times * cost_slot_reads(e, x);
}

/* Of two branches each is as likely as the other, where that is not known. */
static void count_if(struct env *e, const struct ir_stmt *s)
{
    struct known k = cost_eval(e, s->expr);
    double before = e->times;
    if (!k.is && s->other.n) e->times /= 2;
    if (!k.is || k.v) count_block(e, &s->body);
    if (!k.is || !k.v) count_block(e, &s->other);
    e->times = before;
}

static int stores_to(const ir_block *b, const struct ir_tensor *t)
{
    int n = 0;
    for (int i = 0; i < b->n; i++) n += (b->at[i]->kind == S_store && b->at[i]->tensor == t) + stores_to(&b->at[i]->body, t) + stores_to(&b->at[i]->other, t);
    return n;
}

/* One statement's tiles are read ahead, where no other stores to the tensor: not those of a tile in strips. */
static bool read_ahead(const struct env *e, const struct ir_stmt *s)
{
    int n = 0;
    for (int i = 0; i < e->fn->roles.n; i++) n += stores_to(&e->fn->roles.at[i]->body, s->tensor);
    return s->flag && n == 1;
}

/* A cycle, of a tile on its way out: rows leave in boxes of 32 bytes or more; where they are not whole ones, each thread stores what
 * it holds. */
static double out_bytes(const struct env *e, const struct ir_stmt *s)
{
    const struct ir_expr *inner = s->tensor->rank ? s->index.at[s->tensor->inner] : NULL;
    if (!inner || inner->naxes != 1 || !target_has(e->t, HAS_TMA)) return STORE_BYTES;
    int tile = inner->axes[0]->tile;
    return tile * type_bits(s->tensor->type) % (8 * BOX_BYTES) ? DIRECT_BYTES : STORE_BYTES;
}

/* A tile that leaves at the end. What is added to D is added by memory, or to what was read ahead as far as buffers hold it. */
static void count_copy_out(struct env *e, const struct ir_stmt *s, double bytes)
{
    struct cost *c = e->c;
    if (s->mode == MODE_set || !target_has(e->t, HAS_TMA)) {
        c->store += e->times * bytes * (s->mode == MODE_set ? 1 : 1.5) / out_bytes(e, s);
        return;
    }
    measure_slots(e);
    double room = e->t->smem_bytes - MEETING_SLOTS * c->slot_bytes - c->other_bytes - MEETING_RESERVE;
    double ahead = read_ahead(e, s) ? larger(0, bytes < room ? bytes : room) : 0;
    c->store += e->times * ahead / AHEAD_BYTES;
    c->adds += e->times * (bytes - ahead) / ADD_BYTES;
}

static void count_stmt(struct env *e, const struct ir_stmt *s)
{
    struct cost *c = e->c;
    if (e->unread && s->expr) ir_walk_expr(s->expr, note_read, e);
    switch (s->kind) {
    case S_let:
        if (!s->var->naxes) e->vars[s->var->id] = cost_eval(e, s->expr);
        else count_values(e, s->expr);
        break;
    case S_bind:
        e->axes[s->axis->id] = (struct place){ cost_eval(e, s->expr), cost_eval(e, s->expr2), e->depth };
        break;
    case S_fill: count_fill(e, s->field); break;
    case S_store: {
        double n = space_elements(s->expr->axes, s->expr->naxes), bytes = n * type_bits(s->tensor->type) / 8;
        if (e->depth > 0) c->alu += e->times * n * LOOP_STORE_OPS / LANES, c->wait += e->times * n / (e->role_warps * 32) * STORE_WAIT;
        else count_copy_out(e, s, bytes);
        count_values(e, s->expr);
        break;
    }
    case S_mma: count_mma(e, s); break;
    case S_consume:
        if (e->depth > 0) e->slots += e->times;
        e->consumed[s->pipe->id] = e->depth;
        e->taken[s->pipe->id] += e->times;
        count_block(e, &s->body);
        break;
    case S_for: case S_while: case S_par: count_loop(e, s); break;
    case S_if: count_if(e, s); break;
    case S_combine: count_combine(e, s); break;
    case S_body: e->body = true; break;
    default: count_block(e, &s->body); break;
    }
}

static void count_block(struct env *e, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) count_stmt(e, b->at[i]);
}

/* What memory moves: every tensor once; one that is not to stay in L2 as often as it is read. A few clusters that read the same,
 * each part by part, do not meet in L2: some of what it cannot hold comes again. */
static double memory_bytes(const struct env *e, double tasks)
{
    double all = 0;
    for (int i = 0; i < e->fn->tensors.n; i++) {
        const struct ir_tensor *t = e->fn->tensors.at[i];
        double n = t->rank ? 1 : 0;
        for (int d = 0; d < t->rank; d++) {
            struct known k = cost_eval(e, t->dim[d]);
            n *= k.is ? k.v : 1;
        }
        double bytes = n * type_bits(t->type) / 8, reads = bytes > 0 ? e->drawn[t->id] * tasks / bytes : 0;
        double again = e->fn->cluster > 1 && reads > 1 && reads <= FEW_READS ? (reads - 1) * AGAIN * larger(0, 1 - KEPT_BYTES / bytes) : 0;
        all += bytes * ((t->cache != CACHE_stream ? 1 : reads > FEW_READS ? reads : STREAMED) + again);
    }
    return all;
}

/* Two limits that are close to each other cost more than the larger one: little, where both go on all the time. */
static double both_felt(double a, double b) { return sqrt(a * a + b * b); }
static double hardly_felt(double a, double b) { return sqrt(both_felt(a * a, b * b)); }

/* How long `groups` warpgroups take that each multiply, then compute, then wait, over and over: tensor cores and lanes serve
 * one after the other, and who comes while another is served queues; a warpgroup with two products in flight counts as two, that
 * take every other turn each. Exact for a closed network of two queues and a delay: with
 * one more customer, each finds the queues as long as they are on the average without it (mean value analysis, Reiser and
 * Lavenberg, JACM 27, 1980). */
static double in_turns(double mma, double alu, double wait, int groups, int flight)
{
    double one = mma / groups, two = alu / groups, queue_one = 0, queue_two = 0, all = 0;
    for (int n = 1; n <= groups * flight; n++) {
        double first = one * (1 + queue_one), second = two * (1 + queue_two);
        all = first + second + wait;
        queue_one = n * first / all;
        queue_two = n * second / all;
    }
    return all / flight;
}

static void mark_axes(const struct ir_var *v, const struct ir_expr *operand, bool *marks)
{
    for (int i = 0; i < operand->naxes; i++) marks[operand->axes[i]->id] |= var_has(v, operand->axes[i]);
}

static void mark_products(struct env *e, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->kind == S_mma) {
            mark_axes(s->var, s->var->flip ? s->expr2 : s->expr, e->rows);
            mark_axes(s->var, s->var->flip ? s->expr : s->expr2, e->cols);
        }
        mark_products(e, &s->body);
        mark_products(e, &s->other);
    }
}

static void count_roles(struct env *e)
{
    struct cost *c = e->c;
    for (int r = 0; r < e->fn->roles.n; r++) mark_products(e, &e->fn->roles.at[r]->body);
    for (int r = 0; r < e->fn->roles.n; r++) {
        double mma = c->mma, operands = c->operands, alu = c->alu, wait = c->wait;
        e->slots = e->products = e->flying = 0;
        e->unread = NULL;
        e->role_warps = space_warps(e->fn->roles.at[r], e->fn, e->t);
        count_block(e, &e->fn->roles.at[r]->body);
        if (!e->products) continue;
        int groups = e->role_warps >= 8 ? e->role_warps / 4 : 1;
        c->wait += e->slots * (SLOT_CYCLES + (groups > 2 ? groups - 2 : 0) * CROWD_CYCLES);
        double tensor = larger(c->mma - mma, c->operands - operands), lanes = c->alu - alu, waits = c->wait - wait;
        double single = in_turns(tensor, lanes, waits, groups, 1), twice = in_turns(tensor, lanes, waits, groups, 2);
        c->serial = larger(c->serial, single + (twice - single) * e->flying / e->products);
    }
}

/* What L2 gives each multiprocessor a cycle when all draw: it is as wide as the tensor cores are fast. */
static const struct {
    int tensor_flops, bytes;
} l2_widths[] = { { 4096, 70 }, { 2048, 40 }, { 0, 16 } };

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
    return cluster <= 2 ? sms / (cluster > 1 ? cluster : 1) : groups * (sms / groups / cluster) - 1;
}

/* Slots of the innermost loop that are on their way at most: as many as shared memory has room for, and as those of loops around
 * it allow, each of which stands for several. */
static double slots_ahead(const struct env *e, double slot)
{
    double most = fmin(MOST_SLOTS, floor(SLOTS_BYTES / slot)), inner = 0;
    for (int i = 0; i < e->fn->pipes.n; i++) inner = fmax(inner, e->taken[e->fn->pipes.at[i]->id]);
    for (int i = 0; i < e->fn->pipes.n; i++) {
        const struct ir_pipe *p = e->fn->pipes.at[i];
        int own = p->depth ? p->depth : p->most;
        if (own > 0 && e->taken[p->id] > 0) most = fmin(most, own * inner / e->taken[p->id]);
    }
    return most;
}

/* Cycles to bring in one task's tiles while `active` multiprocessors do the same. */
static double fill_cycles(const struct env *e, double active, int sms)
{
    double rate = active > 0 ? l2_bytes(e->t) * (double)sms / active : FILL_BYTES, slot = e->c->slot_bytes > 0 ? e->c->slot_bytes : SLOTS_BYTES;
    double flight = slot * slots_ahead(e, slot) / LATENCY_CYCLES;
    return e->fill_bytes / fmin(rate, fmin(FILL_BYTES, flight > 0 ? flight : FILL_BYTES));
}

/* One multiprocessor's tasks, one after the other, but the last one's end. What takes longest, and a little of what that hides;
 * tiles come in for the next task while products of this one start and end. */
static double tasks_cycles(const struct cost *c)
{
    double work = larger(c->mma, larger(c->alu, c->serial)), coming = larger(c->shared, c->fill), longest = larger(work, coming);
    double all = c->serial > 0 ? c->operands + c->fill + c->serial : c->mma + c->operands + c->fill + c->alu;
    double hidden = HIDDEN_SHARE * (all - fmin(longest, all)), last = both_felt(longest + hidden + TASK_CYCLES, c->adds);
    double other = both_felt(larger(work + TASK_CYCLES + c->store + c->combine, coming) + hidden, c->adds);
    return (c->waves - 1) * other + last;
}

struct cost cost_estimate(const struct ir_fn *fn, const struct target *t, const int64_t *dims, int sms)
{
    struct cost c = { 0 };
    int vars = 1, axes = 1;
    for (int i = 0; i < fn->vars.n; i++) vars = fn->vars.at[i]->id >= vars ? fn->vars.at[i]->id + 1 : vars;
    for (int i = 0; i < fn->axes.n; i++) axes = fn->axes.at[i]->id >= axes ? fn->axes.at[i]->id + 1 : axes;
    struct arena scratch = { 0 };
    struct env e = { .fn = fn, .t = t, .dims = dims, .c = &c, .times = 1 };
    e.vars = new_n(&scratch, struct known, vars);
    e.axes = new_n(&scratch, struct place, axes);
    e.consumed = new_n(&scratch, int, fn->pipes.n + 1);
    e.taken = new_n(&scratch, double, fn->pipes.n + 1);
    e.drawn = new_n(&scratch, double, fn->tensors.n + 1);
    e.rows = new_n(&scratch, bool, axes);
    e.cols = new_n(&scratch, bool, axes);

    count_block(&e, &fn->task);
    e.body = true;
    count_roles(&e);
    measure_slots(&e);
    space_measure(fn, t, e.rows, &c);

    struct known tasks = cost_eval(&e, fn->tasks);
    int clusters = clusters_at_once(sms, fn->cluster);
    c.tasks = tasks.is ? tasks.v : clusters;
    c.flops *= tasks.is && !e.guessed ? c.tasks * (fn->cluster > 1 ? fn->cluster : 1) : 0;
    c.waves = (double)ceil_div((int64_t)c.tasks, clusters > 0 ? clusters : 1);
    double units = clusters > 0 ? clusters : 1, end = c.store + c.combine;
    c.adds *= c.tasks < units ? c.tasks / units : 1;
    c.shared += c.operands + e.fill_bytes / WRITE_BYTES;
    c.fill = larger(fill_cycles(&e, (c.tasks < units ? c.tasks : units) * (fn->cluster > 1 ? fn->cluster : 1), sms), e.thread_cycles);
    c.memory_us = memory_bytes(&e, c.tasks * (fn->cluster > 1 ? fn->cluster : 1)) / (t->gbs * 1e3 * MEMORY_SHARE) + RAMP_US;
    double busy_us = tasks_cycles(&c) / t->mhz;
    c.us = hardly_felt(busy_us, c.memory_us) + (e.first_bytes / FIRST_BYTES + end + LAUNCH_CYCLES) / t->mhz;
    arena_free(&scratch);
    return c;
}
