/* combine_cluster - parts that are the CTAs of one cluster meet in shared memory.
 *
 *   combine s D = sum(s: c)   →   wait until all have read what this CTA held before
 *                                 st.shared c; arrive at every CTA's `ready`; wait for the own one
 *                                 this CTA's share of D = sum over the CTAs, in order, of ld.shared::cluster c
 *                                 arrive at every CTA's `free`
 *
 * The body runs as if the role had the warps of all CTAs, interleaved: each statement's tile is laid out anew over them, so
 * that few rows are shared out, too. Arrivals are those of mbarriers: roles that only copy go on meanwhile.
 * Needs: combine's axis is the cluster's and has a part a CTA; a body that stores element by element; room beside the slots. */
#include "codegen/eval.h"

#include <string.h>

struct combine {
    const struct ir_stmt *s;
    const struct gen_role *role;
    struct parts_at parts;
    int block;                /* offset in shared memory of what this CTA hands over */
    int ready, free;          /* barriers: all parts are there; all have been read */
    bool again;               /* a CTA may come here more than once */
    struct opd phase;         /* of both */
};

/* ---- whether it can be done */

static void find_combines(const ir_block *b, struct ir_stmt **found, int *n)
{
    for (int i = 0; i < b->n; i++) {
        if (b->at[i]->kind == S_combine) *found = b->at[i], ++*n;
        find_combines(&b->at[i]->body, found, n);
        find_combines(&b->at[i]->other, found, n);
    }
}

/* Every value comes from its own coordinates alone, and tiles from the parts alone. */
static bool by_element(const struct ir_expr *e, bool inside)
{
    if (!e) return true;
    if (e->kind == E_reduce || e->kind == E_slot || e->kind == E_element || e->kind == E_thread) return false;
    if (e->kind == E_get && e->naxes && !inside) return false;
    for (int i = 0; i < e->nargs; i++)
        if (!by_element(e->args[i], inside || e->kind == E_parts)) return false;
    return true;
}

static bool stores_by_element(const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        bool store = s->kind == S_store && type_bits(s->tensor->type) >= 8;
        if (!store && s->kind != S_if && !(s->kind == S_let && !s->var->naxes)) return false;
        for (int k = 0; k < s->index.n; k++)
            if (!by_element(s->index.at[k], false)) return false;
        if (!by_element(s->expr, false) || !by_element(s->mask, false)) return false;
        if (!stores_by_element(&s->body) || !stores_by_element(&s->other)) return false;
    }
    return true;
}

/* Rows along the last axis, 8 words apart modulo 16: fragments of eight rows meet different banks. */
static void place_words(struct parts_saved *s, int *bytes)
{
    struct tile_buffer *u = &s->words;
    int row = 1;
    *u = (struct tile_buffer){ .naxes = s->var->naxes, .bytes = 4, .elements = 1 };
    for (int i = u->naxes - 1; i >= 0; i--) {
        int tile = s->var->axes[i]->tile;
        u->axes[i] = s->var->axes[i];
        u->pitch[i] = u->elements;
        row = i == u->naxes - 1 ? (tile + 3) / 4 * 4 + (tile % 16 ? 0 : 8) : tile;
        u->elements *= row;
    }
    s->offset = *bytes;
    *bytes += (u->elements * u->bytes + 15) / 16 * 16;
}

enum { LEAST_SLOTS = 3, BARRIERS = 64 };

/* NULL: it can, and *bytes are asked for. */
static const char *why_not(struct gen *g, struct combine *c, int *bytes)
{
    int64_t parts;
    *bytes = 0;
    if (!ir_const_int(c->s->expr2, &parts) || parts != g->fn->cluster || c->s->expr->kind != E_rank)
        return arena_printf(g->arena, "the cluster's %d CTAs are not all parts", g->fn->cluster);
    if (!stores_by_element(&c->s->body)) return "its body does more than store element by element";
    combine_find(g, c->s, &c->parts);
    for (int i = 0; i < c->parts.saved.n; i++) place_words(&c->parts.saved.at[i], bytes);
    if (*bytes > pipe_room(g, LEAST_SLOTS) - BARRIERS)
        return arena_printf(g->arena, "beside %d slots there is no room for %d bytes of a part", LEAST_SLOTS, *bytes);
    return NULL;
}

void combine_plan(struct gen *g)
{
    for (int r = 0; r < g->roles.n; r++) {
        struct ir_stmt *s = NULL;
        int n = 0, bytes;
        find_combines(&g->roles.at[r].ir->body, &s, &n);
        if (n != 1 || g->fn->cluster <= 1 || s->axis != g->fn->cluster_axis) continue;
        struct combine *c = new (g->arena, struct combine);
        *c = (struct combine){ .s = s, .role = &g->roles.at[r], .again = g->fn->persistent || !g->fn->tasks };
        const char *why = why_not(g, c, &bytes);
        if (why) {
            gen_cost(g, s->span, "parts go through global memory: %s", why);
            continue;
        }
        c->parts.shares = g->fn->cluster;
        c->parts.count = g->fn->cluster;
        c->block = gen_smem(g, bytes, 16);
        c->ready = gen_barrier(g, g->fn->cluster);
        if (c->again) c->free = gen_barrier(g, g->fn->cluster);
        g->combine = c;
    }
}

void combine_begin_role(struct gen *g)
{
    struct combine *c = g->combine;
    if (!c || c->role != g->role) return;
    c->phase = c->again ? lir_reg(g->l, RC_B32) : opd_imm(0);
    if (c->again) lir_set(g->l, c->phase, opd_imm(0));
}

/* ---- elements in shared memory */

/* How many registers from r on are one vector of words: 4, 2 or 1. The first exists where any does. */
static int run_of(const struct parts_saved *s, const struct layout *lay, int r)
{
    int inner = s->words.naxes ? eval_index(lay, s->words.axes[s->words.naxes - 1]) : -1;
    for (int n = 4; n > 1 && inner >= 0; n /= 2) {
        bool run = r + n <= layout_regs(lay) && layout_reg_offset(lay, r, inner) % n == 0;
        run &= eval_lane_divisor(lay, inner) % n == 0 && lay->axes[inner]->tile % n == 0;
        for (int k = 1; k < n && run; k++) run = tile_buffer_offset(&s->words, lay, r + k) == tile_buffer_offset(&s->words, lay, r) + k * s->words.bytes;
        if (run) return n;
    }
    return 1;
}

static void save(struct gen *g, const struct combine *c, struct parts_saved *s)
{
    struct lir *l = g->l;
    struct inside in;
    s->lay = s->var->naxes ? gen_var_layout(g, s->var) : layout_blocked(g->arena, NULL, 0, 0, 1, g->role->warps);
    struct opd *x = combine_current(g, s), words[4], once = gen_first_copy(g, s->lay);
    struct opd at = tile_buffer_base(g, &s->words, s->lay, lir_add(l, g->smem, opd_imm(c->block + s->offset)));
    inside_start(g, &in, s->lay);
    for (int r = 0, n; r < layout_regs(s->lay); r += n) {
        n = run_of(s, s->lay, r);
        for (int i = 0; i < n; i++) words[i] = scalar_to_b32(g, s->var->type, x[r + i]);
        access_words_store(g, "shared", TY_u32, n, lir_pand(l, once, inside_all(g, &in, r)), at, tile_buffer_offset(&s->words, s->lay, r), words);
    }
}

/* The part whose block it is, as `want` holds it; what lies outside a limit is 0. */
struct opd *combine_remote(struct gen *g, struct parts_saved *s, struct opd block, const struct layout *want)
{
    struct opd *out, words[4], at = lir_add(g->l, block, opd_imm(s->offset));
    if (!want) want = layout_blocked(g->arena, NULL, 0, 0, 1, g->role->warps);
    if (!s->in || !layout_equal(s->in->lay, want)) {
        s->in = new (g->arena, struct inside);
        inside_start(g, s->in, want);
    }
    out = new_n(g->arena, struct opd, layout_regs(want));
    at = tile_buffer_base(g, &s->words, want, at);
    for (int r = 0, n; r < layout_regs(want); r += n) {
        n = run_of(s, want, r);
        access_words_load(g, "shared::cluster", TY_u32, n, inside_all(g, s->in, r), at, tile_buffer_offset(&s->words, want, r), words);
        for (int i = 0; i < n; i++) out[r + i] = scalar_from_b32(g, s->var->type, words[i]);
    }
    return out;
}

/* ---- the statement */

/* This CTA is done: one thread tells each CTA of the cluster. */
static void tell_all(struct gen *g, int barrier)
{
    struct lir *l = g->l;
    gen_role_sync(g);
    struct opd one = lir_cmp(l, "lt", g->role->thread, opd_imm(g->fn->cluster)), there = lir_reg(l, RC_B32);
    lir_emit(l, "@%r mapa.shared::cluster.u32 %r, %r, %r", one, there, lir_add(l, g->smem, opd_imm(barrier)), g->role->thread);
    lir_emit(l, "@%r mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r]", one, there);
}

static void wait_all(struct gen *g, int barrier, struct opd parity)
{
    struct lir *l = g->l;
    struct opd done = lir_reg(l, RC_PRED);
    int again = lir_label(l);
    lir_place(l, again);
    lir_emit(l, "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %r, [%r], %r", done, lir_add(l, g->smem, opd_imm(barrier)), parity);
    lir_emit(l, "@!%r bra %l", done, again);
}

/* The body, with the warps of all CTAs for the role's. */
static void run_share(struct gen *g, struct combine *c)
{
    struct eval *v = eval_of(g);
    struct gen_role *r = g->role;
    struct opd warp = r->warp;
    int warps = r->warps, from = v->lane_parts_from, mark = eval_mark(g);
    r->warp = lir_mad(g->l, warp, opd_imm(g->fn->cluster), g->cta_rank);
    r->warps *= g->fn->cluster;
    v->lane_parts_from = mark;
    v->parts = &c->parts;
    gen_block(g, &c->s->body);
    v->parts = NULL;
    eval_release(g, mark);
    v->lane_parts_from = from;
    r->warp = warp;
    r->warps = warps;
}

bool combine_over_cluster(struct gen *g, struct ir_stmt *s)
{
    struct combine *c = g->combine;
    struct lir *l = g->l;
    if (!c || c->s != s) return false;
    if (c->again) wait_all(g, c->free, lir_xor(l, c->phase, opd_imm(1)));
    for (int i = 0; i < c->parts.saved.n; i++) save(g, c, &c->parts.saved.at[i]);
    tell_all(g, c->ready);
    c->parts.first = lir_in_reg(l, lir_add(l, g->smem, opd_imm(c->block)), RC_B32);
    wait_all(g, c->ready, c->phase);
    run_share(g, c);
    if (!c->again) return true;
    tell_all(g, c->free);
    lir_set(l, c->phase, lir_xor(l, c->phase, opd_imm(1)));
    return true;
}

void combine_explain(const struct gen *g, struct buf *out)
{
    const struct combine *c = g->combine;
    if (!c) return;
    buf_printf(out, "  combine %s   %d CTAs of a cluster hand over", c->s->axis->name, g->fn->cluster);
    for (int i = 0; i < c->parts.saved.n; i++) buf_printf(out, "%s %s", i ? "," : "", c->parts.saved.at[i].var->name);
    buf_printf(out, " in shared memory at %d, each stores a share\n", c->block);
}
