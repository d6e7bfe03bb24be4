/* A role split into sites computes what the whole role does. First in the interpreter, bit for bit. Then on a model in which
 * accumulators have as many places as their pipes have slots, and the tensor core works behind the issuer: every order in
 * which the sites can take turns is gone through, for loops of 0 to 3 trips and pipes of 1 to 3 slots, over two tasks. None
 * may get stuck, read a slot that was filled anew, or see another value than the whole role would. */
#include "runtime/oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;

static void check(bool ok, const char *name, const char *what)
{
    if (ok) passed++;
    else {
        failed++;
        printf("FAIL %s: %s\n", name, what);
    }
}

static const struct {
    const char *name, *text;
    const char *whole;        /* the target whose whole role does the same; NULL: sm_90a */
} kernels[] = {
    { .name = "gemm", .text = "kernel g(in bf16 A[M, K], in bf16 B[N, K], out f32 D[M, N]) require K % 8 == 0 && N % 8 == 0 {\n"
              "    axis i = M by 64, j = N by 16, k = K by 32; grid persistent (i, j);\n"
              "    pipe ab[auto] { bf16 a[i, k]; bf16 b[j, k]; }\n"
              "    role load { for k produce ab { a = A[i, k]; b = B[j, k]; } }\n"
              "    role math { accum f32 c[i, j] = 0; for k consume ab mma c[i, j] += a[i, k] * b[j, k]; D[i, j] = c[i, j]; }\n}\n" },
    { .name = "promotion", .text = "kernel g(in e4m3 A[M, K], in f32 S[M], in e4m3 B[N, K], out f32 D[M, N]) require K % 16 == 0 {\n"
                   "    axis i = M by 64, j = N by 16, k = K by 32; grid persistent (i, j);\n"
                   "    pipe sf[1] { f32 s[i]; } pipe ab[auto] { e4m3 a[i, k]; e4m3 b[j, k]; }\n"
                   "    role load { produce sf { s = S[i]; } for k produce ab { a = A[i, k]; b = B[j, k]; } }\n"
                   "    role math { accum f32 c[i, j] = 0; consume sf for k consume ab mma c[i, j] += a[i, k] * b[j, k] * s[i]; D[i, j] = c[i, j]; }\n}\n" },
    { .name = "attention", .text = "kernel g(in bf16 Q[M, 32], in bf16 K[T, 32], in bf16 V[T, 32], out f32 O[M, 32]) {\n"
                   "    axis m = M by 64, t = T by 32, d = 32, e = 32; grid persistent (m);\n"
                   "    pipe qs[1] { bf16 q[m, d]; } pipe kv[auto] { bf16 k[t, d]; bf16 v[t, e]; }\n"
                   "    role load { produce qs { q = Q[m, d]; } for t produce kv { k = K[t, d]; v = V[t, e]; } }\n"
                   "    role math {\n"
                   "        accum f32 o[m, e] = 0; f32 top[m] = -1e30; f32 l[m] = 0;\n"
                   "        consume qs for t consume kv {\n"
                   "            accum f32 z[m, t]; mma z[m, t] = q[m, d] * k[t, d];\n"
                   "            f32 new[m] = max(top[m], max(t: z[m, t])); f32 p[m, t] = exp2(z[m, t] - new[m]); f32 fix[m] = exp2(top[m] - new[m]);\n"
                   "            l[m] = l[m] * fix[m] + sum(t: p[m, t]); o[m, e] = o[m, e] * fix[m]; top[m] = new[m];\n"
                   "            mma o[m, e] += bf16(p[m, t]) * v[t, e];\n"
                   "        }\n"
                   "        O[m, e] = o[m, e] + l[m];\n    }\n}\n" },
    { .name = "sums and parts", .text = "kernel g(in bf16 A[M, K], in bf16 B[16, K], out f32 D[M, 16], out f32 Q[M]) require K % 8 == 0 {\n"
                        "    axis i = M by 64, j = 16, s = K split 2 by 32, k = s by 32; grid (i, s);\n"
                        "    pipe ab[auto] { bf16 a[i, k]; bf16 b[j, k]; }\n"
                        "    role load { for k produce ab { a = A[i, k]; b = B[j, k]; } }\n"
                        "    role math {\n"
                        "        accum f32 c[i, j] = 0; f32 q[i] = 0;\n"
                        "        for k consume ab { f32 x[i, k] = f32(a[i, k]); q[i] += sum(k: x[i, k] * x[i, k]); mma c[i, j] += bf16(x[i, k]) * b[j, k]; }\n"
                        "        combine s { D[i, j] = sum(s: c[i, j]); Q[i] = sum(s: q[i]); }\n    }\n}\n" },
    { .name = "two at a time", .text = "kernel g(in bf16 A[M, K], in bf16 B[N, K], out f32 D[M, N], out f32 E[M, N]) require K % 8 == 0 {\n"
                       "    axis i = M by 64, j = N by 16, k = K by 32; grid persistent (i, j);\n"
                       "    pipe ab[auto] { bf16 a[i, k]; bf16 b[j, k]; }\n"
                       "    role load { for k produce ab { a = A[i, k]; b = B[j, k]; } }\n"
                       "    role math {\n"
                       "        accum f32 c[i, j] = 0; accum f32 d[i, j] = 0;\n"
                       "        for k consume ab { mma c[i, j] += a[i, k] * b[j, k]; d[i, j] = d[i, j] + 1.0; mma d[i, j] += a[i, k] * b[j, k]; }\n"
                       "        E[i, j] = d[i, j]; D[i, j] = c[i, j];\n    }\n}\n" },
    { .name = "block scales", .text = "kernel g(in e4m3 A[M, K], in ue8m0 SA[M, K/32], in e4m3 B[N, K], in ue8m0 SB[N, K/32], out f32 D[M, N]) require K % 32 == 0 {\n"
                      "    axis i = M by 128, j = N by 16, k = K by 32; grid persistent (i, j);\n"
                      "    pipe ab[auto] { e4m3 a[i, k]; e4m3 b[j, k]; ue8m0 s[i, k/32]; }\n"
                      "    role load { for k produce ab { a = A[i, k]; b = B[j, k]; s = SA[i, k/32]; } }\n"
                      "    role math { accum f32 c[i, j] = 0; for k consume ab mma c[i, j] += a[i, k] * b[j, k] * s[i, k/32] * SB[j, k/32]; D[i, j] = c[i, j]; }\n}\n", "sm_120a" },
};

static struct ir_fn *compile(struct arena *a, int k, const char *target)
{
    struct diag d;
    struct buf out = { 0 };
    diag_init(&d, a);
    struct node *file = dsl_parse_text(a, &d, kernels[k].name, kernels[k].text, strlen(kernels[k].text), NULL, 0);
    if (!d.errors) dsl_check(a, &d, file);
    struct compile_options o = { .target = target };
    struct ir_fn *fn = d.errors ? NULL : compiler_lower(a, &d, file, dsl_kernel(file, NULL), &o);
    if (fn) compiler_passes(a, &d, fn, target_find(target));
    diag_print(&d, &out, DIAG_PLAIN);
    if (d.errors) printf("%s", out.at);
    buf_free(&out);
    return d.errors ? NULL : fn;
}

static int issuer_of(const struct ir_fn *fn)
{
    for (int r = 0; r < fn->roles.n; r++)
        if (fn->roles.at[r]->drain) return r;
    return -1;
}

/* ---- the interpreter */

static bool run(struct arena *a, const struct ir_fn *fn, const struct oracle_case *c, struct interp_tensor **out)
{
    char *error = NULL;
    *out = oracle_copy(a, fn, c->before);
    bool ok = interp_run(fn, *out, fn->tensors.n, c->dims, 2, &error);
    if (!ok) printf("%s\n", error);
    free(error);
    return ok;
}

static void same_results(struct arena *a, const char *name, struct ir_fn *whole, struct ir_fn *split)
{
    for (int trips = 0; trips < 4; trips++) {
        int64_t dims[8];
        for (int i = 0; i < whole->dims.n; i++) {
            const char *d = whole->dims.at[i].name;
            dims[i] = !strcmp(d, "M") ? 65 : !strcmp(d, "N") ? 24 : 32 * trips;
        }
        struct oracle_case c = { .dims = dims, .data = ORACLE_EXACT, .seed = (uint64_t)trips + 5 };
        struct interp_tensor *x, *y;
        char *error = NULL;
        bool ok = oracle_arguments(a, whole, &c, NULL, NULL, &error) && run(a, whole, &c, &x) && run(a, split, &c, &y);
        for (int i = 0; ok && i < whole->tensors.n; i++)
            if (whole->tensors.at[i]->dir) ok = !memcmp(x[i].data, y[i].data, oracle_bytes(&x[i]));
        if (error) printf("%s\n", error);
        free(error);
        check(ok, name, "the interpreter finds other results than those of the whole role");
    }
}

/* ---- the model: steps of every agent */

enum { MOST_PIPES = 8, MOST_AGENTS = 6, MOST_VARS = 4, MOST_DEPTH = 4 };
enum kind { ACQUIRE, COMMIT, WAIT, RELEASE, FILL, READ, PRODUCT, FLAG, TAKE, GIVE, SET, SEE };

struct step {
    enum kind kind;
    int pipe, n;              /* which slot, counted from the start */
    int agent;                /* releases: of which consumer */
    int var, place;
    bool on;                  /* products add; flags: there is a value; sets: to zero */
    unsigned id;
    int after;                /* the tensor core's: once the issuer has come this far */
};

struct trace {
    struct step *at;
    int n, cap;
};

struct model {
    struct arena *a;
    const struct ir_fn *fn;
    int trips, slots, issuer, tensor; /* tensor: the agent that is the tensor core */
    struct ir_var *vars[MOST_VARS];
    int nvars;
    struct trace trace[MOST_AGENTS];
    int counts[MOST_PIPES][MOST_AGENTS]; /* produces or consumes unfolded so far */
    bool keeps[MOST_VARS], takes[MOST_PIPES][MOST_AGENTS];
    int place[MOST_VARS];
};

static int depth_of(const struct model *m, const struct ir_pipe *p) { return p->depth ? p->depth : m->slots; }

static void put(struct model *m, int agent, struct step s)
{
    vec_push(m->a, &m->trace[agent], s);
}

/* Done by the tensor core, in the order of issue. */
static void put_late(struct model *m, struct step s)
{
    s.after = m->trace[m->issuer].n;
    put(m, m->tensor, s);
}

static int var_at(const struct model *m, const struct ir_var *v)
{
    for (int i = 0; i < m->nvars; i++)
        if (!strcmp(m->vars[i]->name, v->name)) return i;
    return -1;
}

static void find_vars(struct model *m, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        struct ir_stmt *s = b->at[i];
        if (s->kind == S_mma && var_at(m, s->var) < 0) m->vars[m->nvars++] = s->var;
        find_vars(m, &s->body);
        find_vars(m, &s->other);
    }
}

struct reads {
    struct model *m;
    int agent;
    unsigned id;
    bool late;                /* slots, by the tensor core */
};

static void read_one(void *ctx, struct ir_expr *e)
{
    struct reads *r = ctx;
    if (e->kind == E_get && var_at(r->m, e->var) >= 0) put(r->m, r->agent, (struct step){ .kind = SEE, .var = var_at(r->m, e->var), .id = r->id });
    if (e->kind != E_slot || e->field->pipe->home) return;
    int p = e->field->pipe->id;
    struct step s = { .kind = READ, .pipe = p, .n = r->m->counts[p][r->agent] };
    if (r->late) put_late(r->m, s);
    else put(r->m, r->agent, s);
}

static bool is_zero(const struct ir_stmt *s) { return s->expr->kind == E_const && s->expr->real == 0 && s->expr->num == 0; }

static void unfold(struct model *m, int agent, const ir_block *b);

static void unfold_produce(struct model *m, int agent, const struct ir_stmt *s)
{
    int p = s->pipe->id, n = m->counts[p][agent], v = s->pipe->home ? var_at(m, s->pipe->home) : -1;
    bool products = v >= 0 && agent == m->issuer;
    put(m, agent, (struct step){ .kind = ACQUIRE, .pipe = p, .n = n });
    if (v >= 0) m->place[v] = n % depth_of(m, s->pipe);
    unfold(m, agent, &s->body);
    if (products) {
        put(m, agent, (struct step){ .kind = FLAG, .var = v, .place = m->place[v], .on = m->keeps[v] });
        put_late(m, (struct step){ .kind = COMMIT, .pipe = p });
    } else put(m, agent, (struct step){ .kind = COMMIT, .pipe = p });
    m->counts[p][agent]++;
}

static void unfold_consume(struct model *m, int agent, const struct ir_stmt *s)
{
    int p = s->pipe->id;
    struct step done = { .kind = RELEASE, .pipe = p, .agent = agent };
    put(m, agent, (struct step){ .kind = WAIT, .pipe = p, .n = m->counts[p][agent] });
    unfold(m, agent, &s->body);
    if (agent == m->issuer && !s->pipe->home) put_late(m, done);
    else put(m, agent, done);
    m->counts[p][agent]++;
}

static void unfold_fill(struct model *m, int agent, const struct ir_stmt *s)
{
    int p = s->field->pipe->id;
    struct reads r = { m, agent, s->span.lo, false };
    if (!s->field->pipe->home) {
        ir_walk_stmt(s, read_one, &r);
        put(m, agent, (struct step){ .kind = FILL, .pipe = p, .n = m->counts[p][agent] });
    } else if (agent != m->issuer) put(m, agent, (struct step){ .kind = GIVE, .var = var_at(m, s->field->pipe->home), .place = 0 });
}

static void unfold_let(struct model *m, int agent, const struct ir_stmt *s)
{
    int v = var_at(m, s->var);
    const struct ir_pipe *from = s->expr->kind == E_slot ? s->expr->field->pipe : NULL;
    struct reads r = { m, agent, s->span.lo, false };
    if (v >= 0 && agent == m->issuer) m->keeps[v] = from != NULL; /* adopted; or zero */
    else if (v >= 0 && from && from->home) put(m, agent, (struct step){ .kind = TAKE, .var = v, .place = m->counts[from->id][agent] % depth_of(m, from) });
    else {
        ir_walk_stmt(s, read_one, &r);
        if (v >= 0) put(m, agent, (struct step){ .kind = SET, .var = v, .id = s->span.lo, .on = is_zero(s) });
    }
}

static int trips_of(const struct model *m, const struct ir_stmt *s)
{
    int64_t lo, hi, step;
    if (!ir_const_int(s->expr, &lo) || !ir_const_int(s->expr2, &hi) || !ir_const_int(s->step, &step)) return m->trips;
    return (int)((hi - lo + step - 1) / step);
}

static void unfold_stmt(struct model *m, int agent, const struct ir_stmt *s)
{
    struct reads r = { m, agent, s->span.lo, agent == m->issuer };
    switch ((int)s->kind) {
    case S_produce: unfold_produce(m, agent, s); break;
    case S_consume: unfold_consume(m, agent, s); break;
    case S_fill: unfold_fill(m, agent, s); break;
    case S_let: unfold_let(m, agent, s); break;
    case S_for:
        for (int n = trips_of(m, s); n > 0; n--) unfold(m, agent, &s->body);
        break;
    case S_mma: {
        int v = var_at(m, s->var);
        ir_walk_stmt(s, read_one, &r);
        struct step x = { .kind = PRODUCT, .var = v, .place = m->place[v], .on = s->flag && (m->keeps[v] || agent != m->issuer), .id = s->span.lo };
        if (agent == m->issuer) put_late(m, x);
        else put(m, agent, x);
        m->keeps[v] = true;
        break;
    }
    case S_bind: break;
    default:
        ir_walk_stmt(s, read_one, &r);
        ir_walk(&s->body, read_one, &r);
    }
}

static void unfold(struct model *m, int agent, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) unfold_stmt(m, agent, b->at[i]);
}

static void find_takers(struct model *m, int agent, const ir_block *b)
{
    for (int i = 0; i < b->n; i++) {
        if (b->at[i]->kind == S_consume) m->takes[b->at[i]->pipe->id][agent] = true;
        find_takers(m, agent, &b->at[i]->body);
    }
}

/* ---- the model: the world, and every order of steps */

struct world {
    int at[MOST_AGENTS];
    int produced[MOST_PIPES], released[MOST_PIPES][MOST_AGENTS], content[MOST_PIPES][MOST_DEPTH];
    unsigned memory[MOST_VARS][MOST_DEPTH], held[MOST_VARS], seen;
    bool flag[MOST_VARS][MOST_DEPTH];
};

static unsigned mix(unsigned x, unsigned y) { return (x ^ (y + 0x9e3779b9u + (x << 6) + (x >> 2))) * 2654435761u; }

static bool can_step(const struct model *m, const struct world *w, int agent)
{
    if (w->at[agent] >= m->trace[agent].n) return false;
    const struct step *s = &m->trace[agent].at[w->at[agent]];
    if (agent == m->tensor && w->at[m->issuer] < s->after) return false;
    if (s->kind == WAIT) return w->produced[s->pipe] > s->n;
    for (int r = 0; s->kind == ACQUIRE && r < m->fn->roles.n; r++)
        if (m->takes[s->pipe][r] && s->n - w->released[s->pipe][r] >= depth_of(m, m->fn->pipes.at[s->pipe])) return false;
    return true;
}

static const char *take_step(const struct model *m, struct world *w, int agent)
{
    const struct step *s = &m->trace[agent].at[w->at[agent]++];
    int depth = depth_of(m, m->fn->pipes.at[s->pipe]);
    unsigned *held = &w->held[s->var], *memory = &w->memory[s->var][s->place];
    switch (s->kind) {
    case ACQUIRE: case WAIT: break;
    case COMMIT: w->produced[s->pipe]++; break;
    case RELEASE: w->released[s->pipe][s->agent]++; break;
    case FILL: w->content[s->pipe][s->n % depth] = s->n + 1; break;
    case READ: return w->content[s->pipe][s->n % depth] == s->n + 1 ? NULL : "a slot is read that holds another filling";
    case PRODUCT: *memory = mix(s->on ? *memory : 0, s->id); break;
    case FLAG: w->flag[s->var][s->place] = s->on; break;
    case TAKE: *held = w->flag[s->var][s->place] ? *memory : 0; break;
    case GIVE: *memory = *held; break;
    case SET: *held = s->on ? 0 : mix(*held, s->id); break;
    case SEE: w->seen = mix(w->seen, mix(*held, s->id)); break;
    }
    return NULL;
}

struct visited {
    uint64_t *key;
    unsigned *digest;
    size_t room, n;
};

/* Whether the state is new; *differs: it was met with other contents. */
static bool visit(struct visited *v, uint64_t key, unsigned digest, bool *differs)
{
    size_t i = (key * 0x9E3779B97F4A7C15ull >> 20) & (v->room - 1);
    for (; v->key[i]; i = (i + 1) & (v->room - 1)) {
        if (v->key[i] != key) continue;
        *differs = v->digest[i] != digest;
        return false;
    }
    v->key[i] = key;
    v->digest[i] = digest;
    v->n++;
    return true;
}

static unsigned digest_of(const struct world *w)
{
    unsigned d = w->seen;
    const unsigned *p = &w->memory[0][0];
    for (int i = 0; i < MOST_VARS * MOST_DEPTH; i++) d = mix(d, p[i]);
    for (int i = 0; i < MOST_VARS; i++) d = mix(d, w->held[i]);
    return d;
}

/* Depth first over all interleavings; equal positions must mean equal contents. */
static const char *explore(const struct model *m, struct visited *v, const struct world *w, unsigned wanted)
{
    bool moved = false, differs = false;
    uint64_t key = 1;
    for (int a = 0; a <= m->tensor; a++) key = key << 12 | (uint64_t)w->at[a];
    if (!visit(v, key, digest_of(w), &differs)) return differs ? "what is in memory depends on who was first" : NULL;
    if (v->n > v->room / 2) return "too many states";
    for (int a = 0; a <= m->tensor; a++) {
        if (!can_step(m, w, a)) continue;
        struct world next = *w;
        const char *wrong = take_step(m, &next, a);
        for (moved = true; !wrong && can_step(m, &next, a);) { /* what no one else can see goes along */
            enum kind k = m->trace[a].at[next.at[a]].kind;
            if (k != SET && k != SEE) break;
            wrong = take_step(m, &next, a);
        }
        if (!wrong) wrong = explore(m, v, &next, wanted);
        if (wrong) return wrong;
    }
    for (int a = 0; !moved && a <= m->tensor; a++)
        if (w->at[a] < m->trace[a].n) return "stuck";
    return moved || w->seen == wanted ? NULL : "the drain sees other values than the whole role";
}

/* What the whole role sees, one statement after another. */
static unsigned sequential(struct arena *a, const struct ir_fn *fn, int trips)
{
    struct model m = { .a = a, .fn = fn, .trips = trips, .slots = 1, .issuer = -1, .tensor = -1 };
    struct world w = { 0 };
    for (int r = 0; r < fn->roles.n; r++) find_vars(&m, &fn->roles.at[r]->body);
    for (int r = 0; r < fn->roles.n; r++)
        for (int task = 0; task < 2; task++) unfold(&m, r, &fn->roles.at[r]->body);
    for (int r = 0; r < fn->roles.n; r++)
        for (int i = 0; i < m.trace[r].n; i++) {
            struct step *s = &m.trace[r].at[i];
            if (s->kind == SET) w.held[s->var] = s->on ? 0 : mix(w.held[s->var], s->id);
            if (s->kind == SEE) w.seen = mix(w.seen, mix(w.held[s->var], s->id));
            if (s->kind == PRODUCT) w.held[s->var] = mix(s->on ? w.held[s->var] : 0, s->id);
        }
    return w.seen;
}

static void every_order(const char *name, struct ir_fn *whole, struct ir_fn *split)
{
    struct visited v = { .room = 1 << 22 };
    v.key = calloc(v.room, sizeof *v.key);
    v.digest = calloc(v.room, sizeof *v.digest);
    for (int trips = 0; trips < 4; trips++)
        for (int slots = 1; slots < 4; slots++) {
            struct arena a = { 0 };
            struct model m = { .a = &a, .fn = split, .trips = trips, .slots = slots, .issuer = issuer_of(split), .tensor = split->roles.n };
            struct world w = { 0 };
            for (int r = 0; r < split->roles.n; r++) find_vars(&m, &split->roles.at[r]->body);
            for (int r = 0; r < split->roles.n; r++) {
                find_takers(&m, r, &split->roles.at[r]->body);
                for (int task = 0; task < 2; task++) unfold(&m, r, &split->roles.at[r]->body);
            }
            if (v.n) memset(v.key, 0, sizeof *v.key * v.room);
            v.n = 0;
            const char *wrong = explore(&m, &v, &w, sequential(&a, whole, trips));
            check(!wrong, name, wrong ? arena_printf(&a, "%d trips, %d slots: %s", trips, slots, wrong) : "");
            arena_free(&a);
        }
    free(v.key);
    free(v.digest);
}

int main(void)
{
    for (int k = 0; k < COUNT(kernels); k++) {
        struct arena a = { 0 };
        struct ir_fn *whole = compile(&a, k, kernels[k].whole ? kernels[k].whole : "sm_90a"), *split = compile(&a, k, "sm_100a");
        check(whole && split && issuer_of(whole) < 0 && issuer_of(split) >= 0, kernels[k].name, "is not split");
        if (whole && split && issuer_of(split) >= 0) {
            same_results(&a, kernels[k].name, whole, split);
            every_order(kernels[k].name, whole, split);
        }
        arena_free(&a);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
