/* cache_image - one walk over an image serves both ways: it writes each field, or reads it. What is read is bounded by what
 * is there; a reader that fails stays failed. */
#include "runtime/cache_image.h"

#include <string.h>

struct walk {
    struct buf *out;       /* writing, or NULL: */
    struct arena *arena;   /* reading */
    const char *at, *end;
    bool failed;
};

static void bytes(struct walk *w, void *p, size_t n)
{
    if (w->out) {
        buf_bytes(w->out, p, n);
    } else if (w->failed || (size_t)(w->end - w->at) < n) {
        w->failed = true;
        memset(p, 0, n);
    } else {
        memcpy(p, w->at, n);
        w->at += n;
    }
}

#define FIELD(w, f) bytes((w), &(f), sizeof(f))

/* A count of things that take at least a byte each. */
static int count(struct walk *w, int n)
{
    FIELD(w, n);
    if (!w->out && (n < 0 || n > w->end - w->at)) {
        w->failed = true;
        return 0;
    }
    return n;
}

static void text(struct walk *w, const char **s)
{
    int n = count(w, *s ? (int)strlen(*s) + 1 : 0);
    if (w->out) {
        if (n) buf_bytes(w->out, *s, (size_t)n);
        return;
    }
    *s = n ? arena_strndup(w->arena, w->at, (size_t)n - 1) : NULL;
    w->at += n;
}

static void expression(struct walk *w, struct hexpr *e)
{
    e->n = count(w, e->n);
    if (!w->out) e->at = new_n(w->arena, struct hexpr_code, e->n + 1);
    for (int i = 0; i < e->n; i++) FIELD(w, e->at[i].op), FIELD(w, e->at[i].v);
}

static void argument(struct walk *w, struct image_arg *a)
{
    text(w, &a->name);
    FIELD(w, a->dir), FIELD(w, a->type), FIELD(w, a->rank), FIELD(w, a->dim_symbol), FIELD(w, a->inner), FIELD(w, a->align), FIELD(w, a->base_align);
    FIELD(w, a->span);
    if (a->rank < 0 || a->rank > IMAGE_RANK) w->failed = true, a->rank = 0;
    for (int d = 0; d < a->rank; d++) expression(w, &a->dim[d]), text(w, &a->dim_text[d]);
}

static void map(struct walk *w, struct image_map *m)
{
    FIELD(w, m->arg), FIELD(w, m->type), FIELD(w, m->rank), FIELD(w, m->box), FIELD(w, m->swizzle), FIELD(w, m->pack);
    expression(w, &m->offset);
    for (int d = 0; d < 5; d++) expression(w, &m->size[d]), expression(w, &m->stride[d]);
}

static void requirement(struct walk *w, struct image_require *r)
{
    expression(w, &r->cond);
    text(w, &r->text);
    FIELD(w, r->span);
}

static void parameter(struct walk *w, struct image_param *p) { FIELD(w, p->kind), FIELD(w, p->arg), FIELD(w, p->dim), FIELD(w, p->offset), FIELD(w, p->bytes); }

/* A growable array: its length, then its items. */
#define EACH(w, v, walk_item)                                                          \
    do {                                                                               \
        int n_ = count((w), (v).n);                                                    \
        if (!(w)->out) {                                                               \
            (v).at = arena_alloc((w)->arena, sizeof *(v).at * ((size_t)n_ + 1));       \
            (v).n = (v).cap = n_;                                                      \
        }                                                                              \
        for (int i_ = 0; i_ < n_ && !(w)->failed; i_++) walk_item((w), &(v).at[i_]);   \
    } while (0)

static void image(struct walk *w, struct image *im)
{
    int32_t form[] = { 1, sizeof(struct image), sizeof(struct image_arg), sizeof(struct image_map), sizeof(struct image_param) }, have[COUNT(form)];
    memcpy(have, form, sizeof have);
    FIELD(w, have);
    if (memcmp(have, form, sizeof form)) w->failed = true;
    text(w, &im->kernel), text(w, &im->symbol), text(w, &im->target), text(w, &im->ptx);
    FIELD(w, im->ptx_bytes), FIELD(w, im->param_bytes), FIELD(w, im->persistent), FIELD(w, im->ctas_per_sm), FIELD(w, im->cluster), FIELD(w, im->threads);
    FIELD(w, im->smem_bytes), FIELD(w, im->deterministic);
    EACH(w, im->dims, text);
    EACH(w, im->args, argument);
    EACH(w, im->params, parameter);
    EACH(w, im->maps, map);
    EACH(w, im->requires, requirement);
    expression(w, &im->tasks), expression(w, &im->scratch_bytes), expression(w, &im->counter_bytes);
}

void image_pack(const struct image *im, const void *code, size_t code_bytes, struct buf *out)
{
    struct walk w = { .out = out };
    struct image copy = *im;
    uint64_t n = code ? code_bytes : 0;
    image(&w, &copy);
    FIELD(&w, n);
    if (n) buf_bytes(out, code, n);
}

struct image *image_unpack(struct arena *a, const void *at, size_t n, const void **code, size_t *code_bytes)
{
    struct walk w = { .arena = a, .at = at, .end = (const char *)at + n };
    struct image *im = new(a, struct image);
    uint64_t rest = 0;
    image(&w, im);
    FIELD(&w, rest);
    if (w.failed || rest != (uint64_t)(w.end - w.at)) return NULL;
    *code = rest ? w.at : NULL;
    *code_bytes = rest;
    return im;
}
