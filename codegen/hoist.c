/* hoist - reads of what does not change leave the loops they stand in.
 *
 *   consume q { for t consume k { use q.w, X[i] } }   ->   consume q { w = q.w; x = X[i]; for t consume k { use w, x } }
 *
 * A slot does not change while it is held, an input never; but a barrier or a store stands in the loop, so that the
 * assembler must read them again each time. Reads are marked as they are emitted; when a loop is complete, those that
 * depend on nothing the loop sets move in front of it, with the arithmetic they need. Loops are numbered as they begin:
 * what lies inside has the larger number. */
#include "codegen/eval.h"

#include <string.h>

/* Registers of values kept over a loop, at most, and where products are asynchronous at least; among them, of what addresses are made
 * of; of what a loop computes with, besides its sums: little where tensor cores read operands themselves, else their fragments, too. */
enum { MOST_HOISTED = 64, LEAST_HOISTED = 14, MOST_ADDRESS_REGS = 8, WORKING_REGS = 30, FRAGMENT_REGS = 80 - WORKING_REGS };

int hoist_room(struct gen *g)
{
    bool async = g->family && g->family->async;
    int warps = 0, all, least = async ? LEAST_HOISTED : 0;
    for (int i = 0; i < g->roles.n; i++) warps += g->roles.at[i].slot_warps;
    all = g->role->regs ? g->role->regs : 16384 / 32 / ((warps + 3) / 4 + !warps); /* a quarter of the registers to a quarter of the warps */
    if (all > 255) all = 255;
    all -= tile_registers(g) + WORKING_REGS + (async ? 0 : FRAGMENT_REGS);
    return all < least ? least : all > MOST_HOISTED ? MOST_HOISTED : all;
}

void hoist_consume(struct gen *g, const struct ir_pipe *p)
{
    struct eval *v = eval_of(g);
    struct hoist_scope s = { p, v->loops.n };
    vec_push(g->arena, &v->scopes, s);
}

void hoist_consume_end(struct gen *g)
{
    eval_of(g)->scopes.n--;
}

/* The outermost loop that a read may leave: inside the scope that holds the slot, or for an input (NULL) any; 0: none. */
static int loop_of(const struct eval *v, const struct ir_pipe *p)
{
    if (!p) return v->loops.n ? 1 : 0;
    for (int i = v->scopes.n - 1; i >= 0; i--)
        if (v->scopes.at[i].pipe == p) return v->scopes.at[i].loops < v->loops.n ? v->loops.at[v->scopes.at[i].loops].number : 0;
    return 0;
}

void hoist_mark(struct gen *g, const struct ir_pipe *p, int from)
{
    int loop = loop_of(eval_of(g), p);
    for (int i = from; loop && i < g->l->code.n; i++) g->l->code.at[i].hoist = loop;
}

/* ---- what an instruction does */

/* The text after the guard; NULL: a label or a comment. */
static const char *mnemonic(const struct lir_insn *in)
{
    const char *s = in->fmt;
    if (!s || !strncmp(s, "//", 2)) return NULL;
    if (*s == '@') s = strchr(s, ' ') + 1;
    return s;
}

static bool is_load(const struct lir_insn *in)
{
    const char *s = mnemonic(in);
    return s && !strncmp(s, "ld.", 3);
}

/* Arithmetic and loads: no effect, nothing but the operands matters (and, to loads, what hoist_mark says). */
static bool is_pure(const struct lir_insn *in)
{
    static const char *const names[] = { "add.", "sub.", "mul.", "mad.", "shl.", "shr.", "and.", "or.", "xor.", "mov.", "cvt.", "selp.",
                                         "setp.", "min.", "max.", "bfe.", "prmt.", "div.", "rem.", "ld.shared.", "ld.global." };
    const char *s = mnemonic(in);
    for (int i = 0; s && i < COUNT(names); i++)
        if (!strncmp(s, names[i], strlen(names[i]))) return true;
    return false;
}

bool hoist_arithmetic(const struct lir_insn *in) { return is_pure(in) && !is_load(in) && in->fmt[0] != '@'; }

/* The operands it writes: the first one of its text, or the list or pair that stands first. args[*first] .. of the count
 * returned. A guard comes before them. */
static int writes(const struct lir_insn *in, int *first)
{
    const char *s = mnemonic(in);
    *first = s && in->fmt[0] == '@';
    s = s ? strchr(s, ' ') : NULL;
    if (!s) return 0;
    while (*s == ' ') s++;
    int n = 0;
    bool list = *s == '{';
    for (; *s && *s != (list ? '}' : ','); s++) {
        if (*s == '[') return n;
        n += *s == LIR_HOLE;
    }
    return n;
}

/* ---- one loop */

struct work {
    struct lir *l;
    int at, end, number;      /* the loop's code, and its number */
    int *defs[RC_COUNT];      /* by register: how often the loop sets it */
    int *where[RC_COUNT];     /* the instruction that does, the last where there are two */
    int *before[RC_COUNT];    /* the first of two */
    int *first[RC_COUNT];     /* the first of all */
    char *outside[RC_COUNT];  /* set before the loop, too: what the loop sets may be for the next trip */
    char *move;               /* by instruction from `at`: 0 not asked, 1 moves, 2 cannot, 3 being asked */
    int *twin;                /* by instruction from `at`: the first one that computes the same; NULL: not looked for */
    int values;
};

static void find_outside(struct gen *g, struct work *w)
{
    for (int i = eval_of(g)->role_start; i < w->at; i++) {
        const struct lir_insn *in = &w->l->code.at[i];
        int first, n = writes(in, &first);
        for (int k = first; k < first + n; k++)
            if (in->args[k].kind == OPD_REG) w->outside[in->args[k].cls][in->args[k].id] = 1;
    }
}

static void find_defs(struct gen *g, struct work *w)
{
    for (int c = 0; c < RC_COUNT; c++) {
        w->defs[c] = new_n(g->arena, int, w->l->nregs[c] + 1);
        w->where[c] = new_n(g->arena, int, w->l->nregs[c] + 1);
        w->before[c] = new_n(g->arena, int, w->l->nregs[c] + 1);
        w->first[c] = new_n(g->arena, int, w->l->nregs[c] + 1);
        w->outside[c] = new_n(g->arena, char, w->l->nregs[c] + 1);
    }
    find_outside(g, w);
    for (int i = w->at; i < w->end; i++) {
        const struct lir_insn *in = &w->l->code.at[i];
        int first, n = writes(in, &first);
        for (int k = first; k < first + n; k++) {
            if (in->args[k].kind != OPD_REG) continue;
            struct opd o = in->args[k];
            if (!w->defs[o.cls][o.id]++) w->first[o.cls][o.id] = i;
            w->before[o.cls][o.id] = w->where[o.cls][o.id];
            w->where[o.cls][o.id] = i;
        }
    }
}

static bool may_move(struct work *w, int i);

/* Set by one instruction; or to a constant and then by a load under a guard. */
static bool set_once(const struct work *w, struct opd o)
{
    int n = w->defs[o.cls][o.id];
    if (n != 2 || w->outside[o.cls][o.id]) return n == 1 && !w->outside[o.cls][o.id];
    const struct lir_insn *a = &w->l->code.at[w->before[o.cls][o.id]], *b = &w->l->code.at[w->where[o.cls][o.id]];
    return !strncmp(a->fmt, "mov.", 4) && a->nargs == 2 && a->args[1].kind == OPD_IMM && is_load(b) && b->fmt[0] == '@';
}

static bool stable(struct work *w, struct opd o)
{
    if (o.kind != OPD_REG || !w->defs[o.cls][o.id]) return true;
    return set_once(w, o) && may_move(w, w->where[o.cls][o.id]);
}

static bool may_move(struct work *w, int i)
{
    const struct lir_insn *in = &w->l->code.at[i];
    char *state = &w->move[i - w->at];
    if (*state) return *state == 1;
    *state = 3;
    int first, n = writes(in, &first);
    bool good = n > 0 && is_pure(in) && (in->fmt[0] != '@' || is_load(in)) && (!is_load(in) || (in->hoist && in->hoist <= w->number));
    for (int k = 0; k < in->nargs && good; k++) {
        bool written = k >= first && k < first + n;
        if (written) good = in->args[k].kind == OPD_REG && set_once(w, in->args[k]);
        else good = stable(w, in->args[k]);
    }
    *state = good ? 1 : 2;
    return good;
}

/* ---- what is computed several times, as by every strip of an unrolled loop */

static int twin_of(const struct work *w, int i)
{
    return w->twin ? w->twin[i - w->at] : i;
}

/* The register that holds o's value first. */
static struct opd first_of(const struct work *w, struct opd o)
{
    if (o.kind != OPD_REG || !w->defs[o.cls][o.id]) return o;
    int at = w->where[o.cls][o.id], k = 0, twin = twin_of(w, at);
    const struct opd *args = w->l->code.at[at].args;
    while (args[k].kind != OPD_REG || args[k].cls != o.cls || args[k].id != o.id) k++;
    return w->l->code.at[twin].args[k];
}

static bool same_opd(struct opd a, struct opd b)
{
    return a.kind == b.kind && a.cls == b.cls && a.id == b.id && (a.kind == OPD_REG || a.imm == b.imm);
}

/* What sets o to a constant before a load does; NULL: o is set once. */
static const struct lir_insn *set_before(const struct work *w, struct opd o)
{
    return w->defs[o.cls][o.id] == 2 ? &w->l->code.at[w->before[o.cls][o.id]] : NULL;
}

/* Of instructions that may move and set the last values of their registers. */
static bool same_value(const struct work *w, const struct lir_insn *a, const struct lir_insn *b)
{
    int first, n = writes(a, &first);
    if (a->nargs != b->nargs || strcmp(a->fmt, b->fmt)) return false;
    for (int k = 0; k < a->nargs; k++) {
        bool written = k >= first && k < first + n;
        if (!written && !same_opd(first_of(w, a->args[k]), first_of(w, b->args[k]))) return false;
        if (!written) continue;
        const struct lir_insn *x = set_before(w, a->args[k]), *y = set_before(w, b->args[k]);
        if (!x != !y || (x && !same_opd(x->args[1], y->args[1]))) return false;
    }
    return true;
}

static unsigned hash_of(const struct work *w, const struct lir_insn *in)
{
    int first, n = writes(in, &first);
    unsigned h = 5381;
    for (const char *s = in->fmt; *s; s++) h = h * 33 + (unsigned char)*s;
    for (int k = 0; k < in->nargs; k++) {
        struct opd o = first_of(w, in->args[k]);
        if (k < first || k >= first + n) h = h * 33 + (unsigned)o.id * 4 + (o.kind == OPD_IMM ? (unsigned)o.imm : o.cls);
    }
    return h;
}

/* And not the first of two values. */
static bool sets_last(const struct work *w, int i)
{
    int first, n = writes(&w->l->code.at[i], &first);
    for (int k = first; k < first + n; k++) {
        struct opd o = w->l->code.at[i].args[k];
        if (w->where[o.cls][o.id] != i) return false;
    }
    return true;
}

static void find_twins(struct gen *g, struct work *w)
{
    enum { BUCKETS = 256 };
    int head[BUCKETS], *next = new_n(g->arena, int, w->end - w->at + 1);
    w->twin = new_n(g->arena, int, w->end - w->at + 1);
    for (int i = 0; i < BUCKETS; i++) head[i] = -1;
    for (int i = w->at; i < w->end; i++) w->twin[i - w->at] = i;
    for (int i = w->at; i < w->end; i++) {
        if (!may_move(w, i) || !sets_last(w, i)) continue;
        int *list = &head[hash_of(w, &w->l->code.at[i]) % BUCKETS], j = *list;
        while (j >= 0 && !same_value(w, &w->l->code.at[j], &w->l->code.at[i])) j = next[j - w->at];
        if (j >= 0) w->twin[i - w->at] = j;
        else next[i - w->at] = *list, *list = i;
    }
}

/* ---- moving */

/* Only what a moved read needs goes along: marks the arithmetic behind it. Of twins the first is computed, the others are copies. */
static void keep_chain(struct work *w, int i, char *keep)
{
    int twin = twin_of(w, i);
    const struct lir_insn *in = &w->l->code.at[i];
    if (keep[i - w->at]) return;
    keep[i - w->at] = 1;
    if (twin != i) keep_chain(w, twin, keep);
    for (int k = 0; k < in->nargs; k++) {
        struct opd o = in->args[k];
        if (o.kind != OPD_REG || !w->defs[o.cls][o.id]) continue;
        if (twin == i) keep_chain(w, w->where[o.cls][o.id], keep);
        if (w->defs[o.cls][o.id] == 2 && (twin == i || w->where[o.cls][o.id] == i)) keep[w->before[o.cls][o.id] - w->at] = 1;
    }
}

/* What i sets, from what its twin has set. */
static void copy_twin(struct work *w, const struct lir_insn *in, const struct lir_insn *twin)
{
    int first, n = writes(in, &first);
    for (int k = first; k < first + n; k++) lir_set(w->l, in->args[k], twin->args[k]);
}

static void move_kept(struct gen *g, struct work *w, const char *keep)
{
    int n = w->end - w->at;
    struct lir_insn *old = new_n(g->arena, struct lir_insn, n);
    memcpy(old, w->l->code.at + w->at, sizeof *old * (size_t)n);
    w->l->code.n = w->at;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n; i++) {
            if ((keep[i] != 0) != (pass == 0)) continue;
            int twin = twin_of(w, w->at + i) - w->at;
            if (pass == 0 && twin != i) copy_twin(w, &old[i], &old[twin]);
            else vec_push(w->l->arena, &w->l->code, old[i]);
        }
    w->end = w->l->code.n;
}

/* ---- what varies from trip to trip, but not with the slots waited for ---- */

/* Whether o has at the head of the loop the value that instruction i reads: set before only, or later in the trip, or by what
 * may stand at the head, too. */
static bool known_at_head(struct work *w, struct opd o, int i);

static bool may_lift(struct work *w, int i)
{
    const struct lir_insn *in = &w->l->code.at[i];
    char *state = &w->move[i - w->at];
    if (*state) return *state == 1;
    *state = 3;
    int first, n = writes(in, &first);
    bool good = n > 0 && is_pure(in) && in->fmt[0] != '@' && (!is_load(in) || (in->hoist && in->hoist <= w->number));
    for (int k = 0; k < in->nargs && good; k++) {
        bool written = k >= first && k < first + n;
        if (written) good = in->args[k].kind == OPD_REG && w->defs[in->args[k].cls][in->args[k].id] == 1;
        else good = known_at_head(w, in->args[k], i);
    }
    *state = good ? 1 : 2;
    return good;
}

static bool known_at_head(struct work *w, struct opd o, int i)
{
    if (o.kind != OPD_REG || !w->defs[o.cls][o.id]) return true;
    int at = w->where[o.cls][o.id];
    if (w->defs[o.cls][o.id] > 1) return w->first[o.cls][o.id] > i;
    return at > i || (at < i && !w->outside[o.cls][o.id] && may_lift(w, at));
}

static void lift_chain(struct work *w, int i, char *keep)
{
    const struct lir_insn *in = &w->l->code.at[i];
    if (keep[i - w->at]) return;
    keep[i - w->at] = 1;
    for (int k = 0; k < in->nargs; k++) {
        struct opd o = in->args[k];
        if (o.kind == OPD_REG && w->defs[o.cls][o.id] && w->where[o.cls][o.id] < i) lift_chain(w, w->where[o.cls][o.id], keep);
    }
}

/* Whether the code in between waits for a barrier, and does nothing else that may skip what follows. */
static bool waits_between(const struct work *w, int from, int to)
{
    bool waits = false, spins = false; /* spins: at a wait's own label or branch */
    for (int i = from; i < to; i++) {
        const char *s = mnemonic(&w->l->code.at[i]), *next = i + 1 < w->end ? mnemonic(&w->l->code.at[i + 1]) : NULL;
        bool branch = s && !strncmp(s, "bra", 3);
        if (!w->l->code.at[i].fmt ? !next || strncmp(next, "mbarrier.try_wait", 17) : branch && !spins) return false;
        spins = s && !strncmp(s, "mbarrier.try_wait", 17);
        waits |= spins;
    }
    return waits;
}

/* Reads of a slot that is held over the whole loop, after a wait for another pipe's: they go to the head of the loop, so that
 * what they bring is there when the wait is over. The loop's label stands right at its begin. */
static void lift_loads(struct gen *g, struct work *w)
{
    enum { MOST_LIFTED = 12 };
    int n = w->end - w->at, lifted = 0, body = w->at;
    char *keep = new_n(g->arena, char, n + 1);
    w->move = new_n(g->arena, char, n + 1);
    while (body < w->end && w->l->code.at[body].fmt) body++; /* what left the loop stands before its label */
    for (int i = body + 1; i < w->end; i++) {
        const struct lir_insn *in = &w->l->code.at[i];
        int first, values = writes(in, &first);
        if (!in->hoist || in->hoist > w->number || !is_load(in) || strncmp(mnemonic(in), "ld.shared.", 10)) continue;
        if (lifted + values > MOST_LIFTED || !waits_between(w, body + 1, i) || !may_lift(w, i)) continue;
        lifted += values;
        lift_chain(w, i, keep);
    }
    if (!lifted) return;
    struct work tail = *w;
    tail.at = body + 1;
    move_kept(g, &tail, keep + (body + 1 - w->at));
}

/* Words that the loop takes apart: out of it, they take registers thrice, as the assembler keeps both halves, too. */
static bool taken_apart(const struct work *w, struct opd word)
{
    for (int i = w->at; i < w->end; i++) {
        const struct lir_insn *in = &w->l->code.at[i];
        if (!in->fmt || strncmp(in->fmt, "mov.b32 {", 9)) continue;
        for (int k = 0; k < in->nargs; k++)
            if (in->args[k].kind == OPD_REG && in->args[k].cls == word.cls && in->args[k].id == word.id) return true;
    }
    return false;
}

/* Loads of a kind that may leave the loop, as long as there is room for their values. */
static void keep_loads(struct gen *g, struct work *w, const char *kind, char *keep)
{
    int most = hoist_room(g);
    for (int i = w->at; i < w->end; i++) {
        const struct lir_insn *in = &w->l->code.at[i];
        int first, n = writes(in, &first);
        if (keep[i - w->at] || !in->hoist || in->hoist > w->number || !is_load(in) || strncmp(mnemonic(in), kind, strlen(kind))) continue;
        if (!may_move(w, i)) continue;
        if (keep[twin_of(w, i) - w->at]) n = 0; /* it has its registers */
        if (w->values + n > (n && taken_apart(w, in->args[first]) ? LEAST_HOISTED / 3 : most)) continue;
        w->values += n;
        keep_chain(w, i, keep);
    }
}

/* Arithmetic that the instruction at i uses and that is the same in every trip. Constants stay: they cost nothing where they are. */
static void keep_operands(struct work *w, int i, int most, char *keep)
{
    const struct lir_insn *in = &w->l->code.at[i];
    int first, n = writes(in, &first);
    for (int k = 0; k < in->nargs; k++) {
        struct opd o = in->args[k];
        if ((k >= first && k < first + n) || o.kind != OPD_REG || o.cls == RC_PRED || w->defs[o.cls][o.id] != 1) continue;
        int at = w->where[o.cls][o.id], size = o.cls == RC_B64 ? 2 : 1;
        const struct lir_insn *from = &w->l->code.at[at];
        if (keep[at - w->at] || is_load(from) || !strncmp(from->fmt, "mov.", 4) || !may_move(w, at)) continue;
        if (w->values + size > most) continue;
        w->values += size;
        keep_chain(w, at, keep);
    }
}

static void keep_arithmetic(struct work *w, int most, char *keep)
{
    for (int i = w->at; i < w->end; i++)
        if (!keep[i - w->at] && w->l->code.at[i].fmt && !may_move(w, i)) keep_operands(w, i, most, keep);
}

/* ---- what addresses are made of */

/* The operand is part of the address in brackets. */
static bool in_address(const struct lir_insn *in, int k)
{
    const char *s = in->fmt;
    for (int hole = 0; *s; s++) {
        if (*s != LIR_HOLE) continue;
        if (hole++ == k) return s > in->fmt && s[-1] == '[';
    }
    return false;
}

/* Loads and stores by the thread itself; what asynchronous copies and barriers take is uniform, and costs no such registers. */
static bool is_access(const struct lir_insn *in)
{
    static const char *const names[] = { "ld.shared.", "ld.global.", "st.shared.", "st.global.", "red.relaxed." };
    const char *s = mnemonic(in);
    for (int i = 0; s && i < COUNT(names); i++)
        if (!strncmp(s, names[i], strlen(names[i]))) return true;
    return false;
}

/* By instruction: addresses of accesses in the loop depend on it. */
static char *find_feeds(struct gen *g, const struct work *w)
{
    char *feeds = new_n(g->arena, char, w->end - w->at + 1);
    for (int i = w->end - 1; i >= w->at; i--) {
        const struct lir_insn *in = &w->l->code.at[i];
        int first, n = writes(in, &first);
        for (int k = 0; k < in->nargs; k++) {
            struct opd o = in->args[k];
            bool read = feeds[i - w->at] ? k < first || k >= first + n : is_access(in) && in_address(in, k);
            if (read && o.kind == OPD_REG && o.cls != RC_PRED && w->defs[o.cls][o.id]) feeds[w->where[o.cls][o.id] - w->at] = 1;
        }
    }
    return feeds;
}

/* Instructions that leave the loop with i: beyond those that do anyway, and constants. */
static int chain_length(const struct work *w, int i, const char *keep, char *seen)
{
    i = twin_of(w, i);
    const struct lir_insn *in = &w->l->code.at[i];
    int first, n = writes(in, &first), length = strncmp(in->fmt, "mov.", 4) != 0;
    if (keep[i - w->at] || seen[i - w->at]) return 0;
    seen[i - w->at] = 1;
    for (int k = 0; k < in->nargs; k++) {
        struct opd o = in->args[k];
        if ((k < first || k >= first + n) && o.kind == OPD_REG && w->defs[o.cls][o.id]) length += chain_length(w, w->where[o.cls][o.id], keep, seen);
    }
    return length;
}

static int size_of(struct opd o) { return o.cls == RC_B64 ? 2 : 1; }

/* Of the arithmetic that addresses use in code that stays, the one that saves most a register: its instruction, -1: none saves enough. */
static int best_chain(struct gen *g, struct work *w, const char *feeds, int most, const char *keep)
{
    int best = -1, saved = 1, size = 1;
    char *seen = new_n(g->arena, char, w->end - w->at + 1);
    for (int i = w->at; i < w->end; i++) {
        const struct lir_insn *in = &w->l->code.at[i];
        if (!in->fmt || (!feeds[i - w->at] && !is_access(in)) || may_move(w, i)) continue;
        for (int k = 0; k < in->nargs; k++) {
            struct opd o = in->args[k];
            if (o.kind != OPD_REG || o.cls == RC_PRED || w->defs[o.cls][o.id] != 1 || !(feeds[i - w->at] || in_address(in, k))) continue;
            int at = w->where[o.cls][o.id];
            if (at == i || keep[at - w->at] || is_load(&w->l->code.at[at]) || !may_move(w, at) || w->values + size_of(o) > most) continue;
            memset(seen, 0, (size_t)(w->end - w->at));
            int length = chain_length(w, at, keep, seen);
            if (length * size > saved * size_of(o)) best = at, saved = length, size = size_of(o);
        }
    }
    return best;
}

/* A loop that stores its results carries no accumulators to the next trip: those it has make room as they are reduced. */
static bool stores_results(const struct work *w)
{
    bool any = false;
    for (int i = w->at; i < w->end; i++) {
        const char *s = mnemonic(&w->l->code.at[i]);
        any |= s && (!strncmp(s, "st.global.", 10) || !strncmp(s, "red.relaxed.gpu.", 16));
    }
    return any;
}

static void keep_addresses(struct gen *g, struct work *w, int most, char *keep)
{
    if (!stores_results(w)) return;
    const char *feeds = find_feeds(g, w);
    for (int i; (i = best_chain(g, w, feeds, most, keep)) >= 0;) {
        w->values += size_of(w->l->code.at[i].args[0]);
        keep_chain(w, i, keep);
    }
}

/* Around mma.sync the assembler works out addresses of fragments anew; descriptors of asynchronous products it keeps out of the loop,
 * but not what its other addresses are made of. */
static bool moves_arithmetic(const struct gen *g) { return g->family && !g->family->async && g->role->has_mma; }
static bool moves_addresses(const struct gen *g) { return g->family && g->family->async && g->role->has_mma; }

void hoist_loop(struct gen *g)
{
    struct eval *v = eval_of(g);
    struct loop_at loop = { ++v->loop_numbers, g->l->code.n };
    vec_push(g->arena, &v->loops, loop);
}

void hoist_loop_end(struct gen *g)
{
    struct eval *v = eval_of(g);
    struct loop_at loop = v->loops.at[--v->loops.n];
    struct work w = { .l = g->l, .at = loop.at, .end = g->l->code.n, .number = loop.number };
    bool any = false;
    for (int i = w.at; i < w.end; i++) any |= w.l->code.at[i].hoist && w.l->code.at[i].hoist <= loop.number;
    if (!any && !moves_arithmetic(g) && !moves_addresses(g)) return;
    char *keep = new_n(g->arena, char, w.end - w.at + 1);
    w.move = new_n(g->arena, char, w.end - w.at + 1);
    find_defs(g, &w);
    if (moves_addresses(g)) find_twins(g, &w);
    keep_loads(g, &w, "ld.global.", keep); /* what takes longest to read goes first */
    if (moves_addresses(g)) keep_addresses(g, &w, w.values + MOST_ADDRESS_REGS, keep);
    keep_loads(g, &w, "ld.", keep);
    if (moves_arithmetic(g)) keep_arithmetic(&w, hoist_room(g) / 2, keep); /* products overlap with the next loads: leave room */
    if (w.values) move_kept(g, &w, keep);
    w.twin = NULL;
    find_defs(g, &w);
    lift_loads(g, &w);
}
