/* explain - what each role, pipe and tile of a kernel became on a target, as text. */
#include "codegen/pipe.h"
#include "compiler/scales.h"

#include <string.h>

void gen_cost(struct gen *g, struct span at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct diag_msg m = { DIAG_REMARK, at, arena_vprintf(g->arena, fmt, ap) };
    va_end(ap);
    for (int i = 0; i < g->costs.n; i++)
        if (g->costs.at[i].span.lo == at.lo && !strcmp(g->costs.at[i].text, m.text)) return;
    vec_push(g->arena, &g->costs, m);
}

static void axes_text(struct ir_axis *const *axes, int n, struct buf *out)
{
    buf_printf(out, "[");
    for (int i = 0; i < n; i++) buf_printf(out, "%s%s:%d", i ? ", " : "", axes[i]->name, axes[i]->tile);
    buf_printf(out, "]");
}

static void explain_settings(const struct gen *g, struct buf *out)
{
    buf_printf(out, "kernel %s on %s (%s)\n", g->fn->name, g->target->name, g->target->boards);
    buf_printf(out, "  values     ");
    for (int i = 0; i < g->fn->settings.n; i++) buf_printf(out, "%s%s", i ? ", " : "", g->fn->settings.at[i]);
    buf_printf(out, "%s\n  launch     ", g->fn->settings.n ? "" : "none");
    hexpr_print(&g->image->tasks, g->image, out);
    buf_printf(out, " CTAs wanted%s, %u threads", g->image->persistent ? ", as many as fit and a loop over tasks" : "", g->image->threads);
    if (g->fn->cluster > 1) buf_printf(out, ", clusters of %d along %s", g->fn->cluster, g->fn->cluster_axis ? g->fn->cluster_axis->name : "x");
    buf_printf(out, "\n  tensor cores: %s", g->family ? g->family->name : "not used");
    if (g->pair) buf_printf(out, ", pairs of CTAs: one product has the rows of both, each holds half of the second operand");
    if (g->no_pair) buf_printf(out, ", no pairs of CTAs: %s", g->no_pair);
    buf_printf(out, "\n");
}

static void explain_alignment(const struct gen *g, struct buf *out)
{
    for (int i = 0; i < g->fn->tensors.n; i++) {
        const struct ir_tensor *t = g->fn->tensors.at[i];
        if (t->rank && t->align < IR_ALIGN) buf_printf(out, "  alignment of '%s': %d byte%s and no more\n", t->name, t->align, t->align == 1 ? "" : "s");
    }
}

static void explain_roles(const struct gen *g, struct buf *out)
{
    for (int i = 0; i < g->roles.n; i++) {
        const struct gen_role *r = &g->roles.at[i];
        buf_printf(out, "  role %-8s warps %d to %d", r->ir->name, r->warp0, r->warp0 + r->warps - 1);
        if (r->single) buf_printf(out, ", one thread issues copies");
        if (r->regs) buf_printf(out, ", %d registers a thread", r->regs);
        if (r->scratch_bytes) buf_printf(out, ", exchange buffer %d bytes", r->scratch_bytes);
        if (r->ir->undealt) buf_printf(out, ", no teams: %s", r->ir->undealt);
        buf_printf(out, "\n");
    }
}

static void explain_field(const struct gen *g, const struct gen_field *f, struct buf *out)
{
    static const char *const fills[] = { "TMA", "cp.async", "computed" };
    buf_printf(out, "    %s %s", type_name(f->ir->type), f->ir->name);
    axes_text(f->ir->axes, f->ir->naxes, out);
    buf_printf(out, "  filled by %s", fills[f->plan->kind]);
    if (f->map >= 0) {
        const struct image_map *m = &g->image->maps.at[f->map];
        buf_printf(out, " (box");
        for (int i = 0; i < m->rank; i++) buf_printf(out, "%s%u", i ? " x " : " ", m->box[i]);
        buf_printf(out, ")");
    }
    if (f->plan->made) buf_printf(out, ", tensor map made on the device for each task whose rows lie otherwise than the last one's");
    if (f->plan->kind == FILL_CP_ASYNC && f->plan->unit < IR_ALIGN) buf_printf(out, " in pieces of %d bytes", f->plan->unit);
    buf_printf(out, ", contiguous along %s, %d rows of %d bytes", f->ir->axes[f->inner]->name, f->rows, f->span);
    if (f->panels > 1) buf_printf(out, " in %d panels", f->panels);
    if (f->woven) buf_printf(out, ", woven as %s/2, %s, %s%%2", f->ir->axes[1]->name, f->ir->axes[0]->name, f->ir->axes[1]->name);
    if (f->share > 1) buf_printf(out, ", a part loaded by each of %d CTAs and multicast", f->share);
    if (f->half >= 0) buf_printf(out, ", half of it in each CTA");
    if (f->swizzle) buf_printf(out, ", swizzle %dB", f->swizzle);
    else buf_printf(out, f->scales ? ", as tensor memory holds scales" : ", no swizzle");
    buf_printf(out, ", read by %s\n", f->async_read ? f->generic_read ? "tensor cores and loads" : "tensor cores" : "loads");
}

static void explain_pipes(const struct gen *g, struct buf *out)
{
    for (int i = 0; i < g->fn->pipes.n; i++) {
        const struct gen_pipe *p = g->fn->pipes.at[i]->cg;
        buf_printf(out, "  pipe %-8s %d slots", p->ir->name, p->depth);
        if (p->ir->home) buf_printf(out, " in tensor memory, where '%s' lies; full barrier: %d arrivals", p->ir->home->name, p->full_count);
        else buf_printf(out, " of %d bytes at %d; full barrier: %d arrivals", p->slot_bytes, p->offset, p->full_count);
        if (p->tx_bytes) buf_printf(out, " and %d bytes", p->tx_bytes);
        buf_printf(out, ", empty: %d%s\n", p->empty_count, p->commit_releases ? " (commit)" : "");
        for (int k = 0; !p->ir->home && k < p->ir->fields.n; k++) explain_field(g, p->ir->fields.at[k]->cg, out);
    }
}

struct mention {
    const struct ir_var *of;
    bool found;
};

static void note_mention(void *ctx, struct ir_expr *e)
{
    struct mention *m = ctx;
    m->found |= e->var == m->of;
}

static void explain_tiles(const struct gen *g, struct buf *out)
{
    for (int i = 0; i < g->fn->vars.n; i++) {
        struct ir_var *v = g->fn->vars.at[i];
        struct mention m = { .of = v };
        if (!v->accum) continue;
        ir_walk_fn(g->fn, note_mention, &m);
        if (!m.found) continue; /* strips of it took its place */
        buf_printf(out, "  accumulator %s %s", type_name(v->type), v->name);
        axes_text(v->axes, v->naxes, out);
        const struct layout *lay = g->family->layout((struct gen *)g, v);
        if (lay) {
            buf_printf(out, "  ");
            layout_print(lay, out);
        }
        buf_printf(out, "\n");
    }
}

static const char *read_name(const struct ir_expr *e)
{
    return e->kind == E_slot ? e->field->name : e->kind == E_read ? e->tensor->name : "a computed tile";
}

/* Where scales are applied: those that the instruction takes. Others are products of their own, c.part. */
static void explain_scales(const struct gen *g, const ir_block *b, struct buf *out)
{
    struct scales sc;
    for (int i = 0; i < b->n; i++) {
        const struct ir_stmt *s = b->at[i];
        if (s->kind == S_mma && scales_applied(g->target, s, &sc)) {
            buf_printf(out, "  scales      applied by the tensor core, in the product into %s:", s->var->name);
            if (sc.first) buf_printf(out, " %s of %s%s", read_name(sc.first), read_name(s->expr), sc.second ? "," : "");
            if (sc.second) buf_printf(out, " %s of %s", read_name(sc.second), read_name(s->expr2));
            buf_printf(out, "\n");
        }
        explain_scales(g, &s->body, out);
        explain_scales(g, &s->other, out);
    }
}

void gen_explain(const struct gen *g, struct buf *out)
{
    explain_settings(g, out);
    explain_alignment(g, out);
    explain_roles(g, out);
    explain_pipes(g, out);
    explain_tiles(g, out);
    combine_explain(g, out);
    store_explain(g, out);
    for (int i = 0; i < g->roles.n; i++) explain_scales(g, &g->roles.at[i].ir->body, out);
    buf_printf(out, "  shared memory: %d of %d bytes\n", g->smem_used, g->target->smem_bytes);
    for (int i = 0; i < g->costs.n; i++) {
        int line, col;
        const struct source_file *f = diag_where(g->diag, g->costs.at[i].span.lo, &line, &col);
        if (f) buf_printf(out, "  cost: %s:%d:%d: %s\n", f->path, line, col, g->costs.at[i].text);
        else buf_printf(out, "  cost: %s\n", g->costs.at[i].text);
    }
}
