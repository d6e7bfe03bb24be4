/* tmem - tensor memory: allocation, tcgen05.ld, tcgen05.st, their waits and fences (PTX ISA, "Tensor Memory").
 *
 * Each block has 512 columns of its own. Fresh columns hold NaN patterns. Where operations take effect late, what they
 * read or write is counted from issue to effect, and touching it in between is a fault: the wait that is missing. */
#include "runtime/emu/tensor.h"
#include "runtime/emu/tmem.h"

#include <stdlib.h>

/* ---- state ---- */

struct tmem *tmem_of(struct emu_cta *cta)
{
    if (!cta->tmem) {
        struct tmem *t = calloc(1, sizeof *t);
        if (!t) base_oom(sizeof *t);
        cta->tmem = t;
    }
    return cta->tmem;
}

bool tmem_group(const struct emu_who *who, struct emu_cta *cta, int group)
{
    struct tmem *t = tmem_of(cta);
    if (group == 2 && cta->cluster->size % 2)
        return emu_fault_who(who, ".cta_group::2 in a cluster of %u blocks", cta->cluster->size);
    if (t->group && t->group != group)
        return emu_fault_who(who, ".cta_group::%d in a kernel that has used .cta_group::%d", group, t->group);
    t->group = group;
    return true;
}

bool tmem_allocated(const struct emu_who *who, struct emu_cta *cta, const struct tmem_region *r)
{
    const struct tmem *t = tmem_of(cta);
    for (int c = r->column; c < r->column + r->columns; c++) {
        bool found = false;
        for (int i = 0; i < t->n_allocations && !found; i++)
            found = c >= t->allocation[i].column && c < t->allocation[i].column + t->allocation[i].columns;
        if (!found)
            return emu_fault_who(who, "tensor memory columns %d to %d are accessed; column %d is not allocated",
                                 r->column, r->column + r->columns - 1, c);
    }
    return true;
}

void tmem_count(struct emu_cta *cta, const struct tmem_region *r, enum tmem_use use, int by)
{
    struct tmem *t = tmem_of(cta);
    for (int c = r->column; c < r->column + r->columns; c++)
        for (int h = 0; h < TMEM_HALVES; h++)
            if (r->halves >> h & 1) t->uses[use][c][h] = (uint16_t)(t->uses[use][c][h] + by);
}

bool tmem_busy(struct emu_cta *cta, const struct tmem_region *r, enum tmem_use use)
{
    const struct tmem *t = tmem_of(cta);
    for (int c = r->column; c < r->column + r->columns; c++)
        for (int h = 0; h < TMEM_HALVES; h++)
            if (r->halves >> h & 1 && t->uses[use][c][h]) return true;
    return false;
}

void emu_tcgen05_warp_end(struct emu_warp *w)
{
    w->tcgen05 = NULL;
}

bool emu_tcgen05_cta_end(struct emu_warp *w, struct emu_cta *cta)
{
    const struct tmem *t = cta->tmem;
    if (!t || !t->n_allocations) return true;
    const struct tmem_allocation *a = &t->allocation[0];
    emu_fault(w, a->in, -1, "the block ended with %d columns of tensor memory allocated here and not deallocated",
              a->columns);
    return false;
}

void emu_tcgen05_cta_free(struct emu_cta *cta)
{
    free(cta->tmem);
    cta->tmem = NULL;
}

/* ---- allocation ---- */

struct alloc {
    struct emu_addr to;
    uint32_t address, columns; /* rows */
    int group;
};

static bool columns_ok(struct emu_warp *w, const struct emu_insn *in, uint32_t n)
{
    if (n >= 32 && n <= TMEM_COLUMNS && !(n & (n - 1))) return true;
    emu_fault(w, in, -1, "%u columns; a power of two from 32 to 512 is wanted", n);
    return false;
}

/* The first gap of n columns; -1 when there is none now. */
static int find_gap(const struct tmem *t, int n)
{
    for (int c = 0; c + n <= TMEM_COLUMNS; c += 32) {
        bool is_free = true;
        for (int i = 0; i < t->n_allocations; i++)
            is_free &= c + n <= t->allocation[i].column || c >= t->allocation[i].column + t->allocation[i].columns;
        if (is_free) return c;
    }
    return -1;
}

static void poison(struct tmem *t, int column, int columns)
{
    for (int l = 0; l < TMEM_LANES; l++) memset(&t->cell[l][column], 0xFF, sizeof(uint32_t) * (size_t)columns);
}

static enum emu_next run_alloc(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct alloc *x = in->x;
    const struct emu_who who = {w, in, -1, false};
    struct tmem *t = tmem_of(w->cta);
    uint32_t n = emu_row(w, x->columns)[0], offset, at;
    struct emu_cta *cta;
    if (!tensor_whole_warp(w, in, mask) || !columns_ok(w, in, n) || !tmem_group(&who, w->cta, x->group))
        return EMU_FAULT;
    if (t->relinquished) return emu_fault(w, in, -1, "tcgen05.alloc after tcgen05.relinquish_alloc_permit");
    if (t->last_columns && (int)n > t->last_columns)
        return emu_fault(w, in, -1, "%u columns after an allocation of %d: a block's allocations may not grow", n,
                         t->last_columns);
    int column = find_gap(t, (int)n);
    if (column < 0) return emu_block(w, "tensor memory");
    t->last_columns = (int)n;
    t->allocation[t->n_allocations++] = (struct tmem_allocation){column, (int)n, w, in};
    poison(t, column, (int)n);
    at = (uint32_t)column;
    bool ok = emu_smem_at(&who, EMU_SHARED_CTA, emu_shared_address(w, &x->to, 0), 4, &cta, &offset) &&
              emu_smem_write(&who, cta, offset, &at, 4);
    return ok ? EMU_NEXT : EMU_FAULT;
}

static enum emu_next run_dealloc(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct alloc *x = in->x;
    const struct emu_who who = {w, in, -1, false};
    struct tmem *t = tmem_of(w->cta);
    uint32_t address = emu_row(w, x->address)[0], n = emu_row(w, x->columns)[0];
    if (!tensor_whole_warp(w, in, mask) || !columns_ok(w, in, n) || !tmem_group(&who, w->cta, x->group))
        return EMU_FAULT;
    for (int i = 0; i < t->n_allocations; i++) {
        struct tmem_allocation *a = &t->allocation[i];
        if ((uint32_t)a->column != address) continue;
        if (a->columns != (int)n)
            return emu_fault(w, in, -1, "%u columns are given back of an allocation of %d", n, a->columns);
        struct tmem_region r = {a->column, a->columns, 0xFF};
        if (tmem_busy(w->cta, &r, TMEM_WRITING) || tmem_busy(w->cta, &r, TMEM_STORING) ||
            tmem_busy(w->cta, &r, TMEM_LOADING))
            return emu_fault(w, in, -1, "tensor memory is given back while operations on it are in flight");
        *a = t->allocation[--t->n_allocations];
        emu_progress(w->cta->cluster);
        return EMU_NEXT;
    }
    return emu_fault(w, in, -1, "0x%x is no address that tcgen05.alloc gave", address);
}

static enum emu_next run_relinquish(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct emu_who who = {w, in, -1, false};
    if (!tensor_whole_warp(w, in, mask) || !tmem_group(&who, w->cta, (int)in->imm)) return EMU_FAULT;
    tmem_of(w->cta)->relinquished = true;
    return EMU_NEXT;
}

int tmem_take_group(struct emu_decode *d)
{
    static const char *const names[] = {"cta_group::1", "cta_group::2", NULL};
    int i = emu_mod_one_of(d, names);
    if (i < 0) emu_bad(d, "'.cta_group::1' or '.cta_group::2' is wanted here");
    return i + 1;
}

bool emu_decode_tcgen05_alloc(struct emu_decode *d, struct emu_insn *in)
{
    struct alloc *x = new(d->arena, struct alloc);
    in->x = x;
    in->aligned = true;
    in->run = run_alloc;
    if (!(x->group = tmem_take_group(d)) || !tensor_sync_aligned(d)) return false;
    emu_mod(d, "shared::cta");
    if (!emu_mod(d, "b32")) return emu_bad(d, "'.b32' is wanted here");
    if (emu_is_imm(d, 1)) {
        uint64_t n = d->op[1].bits;
        if (n < 32 || n > TMEM_COLUMNS || n & (n - 1))
            return emu_bad(d, "a power of two from 32 to 512 columns is wanted");
    }
    return emu_mem(d, 0, &x->to) && emu_src(d, 1, EMU_T_B32, &x->columns);
}

bool emu_decode_tcgen05_dealloc(struct emu_decode *d, struct emu_insn *in)
{
    struct alloc *x = new(d->arena, struct alloc);
    in->x = x;
    in->aligned = true;
    in->run = run_dealloc;
    if (!(x->group = tmem_take_group(d)) || !tensor_sync_aligned(d)) return false;
    if (!emu_mod(d, "b32")) return emu_bad(d, "'.b32' is wanted here");
    return emu_src(d, 0, EMU_T_B32, &x->address) && emu_src(d, 1, EMU_T_B32, &x->columns);
}

bool emu_decode_tcgen05_relinquish(struct emu_decode *d, struct emu_insn *in)
{
    in->aligned = true;
    in->run = run_relinquish;
    return (in->imm = tmem_take_group(d)) && tensor_sync_aligned(d);
}

/* ---- loads and stores ---- */

enum shape { S_32x32b, S_16x64b, S_16x128b, S_16x256b, S_16x32bx2 };
static const struct { int regs, columns, most; } shapes[] = { /* for each of xN; the largest N */
    [S_32x32b] = {1, 1, 128}, [S_16x64b] = {1, 2, 128}, [S_16x128b] = {2, 4, 64}, [S_16x256b] = {4, 8, 32}, [S_16x32bx2] = {1, 1, 128},
};

struct move {
    enum shape shape;
    int n, regs, columns; /* xN; registers; columns that lie side by side */
    bool half;            /* .pack::16b, .unpack::16b */
    int64_t second;       /* 16x32bx2: columns to the second half */
    struct emu_addr address;
    const uint32_t *row;
};

/* Where register r of a lane lies, from the address's lane and column (PTX ISA, "Data movement shape"). */
static void place(enum shape s, int r, int lane, int64_t second, int *row, int *column)
{
    switch (s) {
    case S_32x32b: *row = lane, *column = r; break;
    case S_16x64b: *row = lane / 4 + 8 * (lane % 2), *column = 2 * r + lane / 2 % 2; break;
    case S_16x128b: *row = lane / 4 + 8 * (r % 2), *column = 4 * (r / 2) + lane % 4; break;
    case S_16x256b: *row = lane / 4 + 8 * (r / 2 % 2), *column = 8 * (r / 4) + 2 * (lane % 4) + r % 2; break;
    case S_16x32bx2: *row = lane % 16, *column = r + (lane < 16 ? 0 : (int)second); break;
    }
}

struct move_op {
    struct tmem_issue issue;
    int lane, column;
    uint32_t value[][32]; /* tcgen05.st: the registers at issue */
};

/* The address must be the same in all lanes, and lie in the 32 lanes of the warp (their number may be left out). */
static bool take_address(struct emu_warp *w, const struct emu_insn *in, int *lane, int *column)
{
    const struct move *x = in->x;
    uint32_t a = (uint32_t)emu_addr_of(w, &x->address, 0), own = 32 * ((uint32_t)w->id % 4), at = a >> 16;
    for (uint32_t l = 1; l < 32; l++)
        if ((uint32_t)emu_addr_of(w, &x->address, l) != a)
            return emu_fault(w, in, (int)l, "the tensor memory address differs among the warp's lanes"), false;
    uint32_t within = at & 31;
    if ((at & ~31u) != own && (at & ~31u) != 0)
        return emu_fault(w, in, -1, "lane %u of tensor memory; warp %d reaches lanes %u to %u", at, w->id, own,
                         own + 31),
               false;
    if (within && (within != 16 || x->shape == S_32x32b))
        return emu_fault(w, in, -1, "lane %u of tensor memory; this shape begins at a multiple of %d", at,
                         x->shape == S_32x32b ? 32 : 16),
               false;
    *lane = (int)(own + within);
    *column = (int)(a & 0xFFFF);
    return true;
}

/* One or two regions; returns how many. */
static int regions(const struct move *x, int lane, int column, struct tmem_region r[2])
{
    uint32_t halves = (x->shape == S_32x32b ? 3u : 1u) << lane / 16;
    r[0] = (struct tmem_region){column, x->columns, halves};
    r[1] = (struct tmem_region){column + (int)x->second, x->columns, halves};
    return x->shape == S_16x32bx2 ? 2 : 1;
}

static bool regions_ok(const struct emu_who *who, const struct tmem_region *r, int n, bool store)
{
    struct emu_cta *cta = who->w->cta;
    for (int i = 0; i < n; i++) {
        if (!tmem_allocated(who, cta, &r[i])) return false;
        if (tmem_busy(cta, &r[i], TMEM_WRITING))
            return emu_fault_who(who,
                                 "columns %d to %d are %s while tcgen05.mma or tcgen05.cp on them is in flight: its "
                                 "completion was not waited for",
                                 r[i].column, r[i].column + r[i].columns - 1, store ? "stored to" : "loaded");
        if (!store && tmem_busy(cta, &r[i], TMEM_STORING))
            return emu_fault_who(
                who, "columns %d to %d are loaded while tcgen05.st to them is in flight: tcgen05.wait::st is missing",
                r[i].column, r[i].column + r[i].columns - 1);
        if (store && tmem_busy(cta, &r[i], TMEM_LOADING))
            return emu_fault_who(
                who,
                "columns %d to %d are stored to while tcgen05.ld from them is in flight: tcgen05.wait::ld is missing",
                r[i].column, r[i].column + r[i].columns - 1);
    }
    return true;
}

static void load(struct emu_warp *w, const struct move *x, int lane, int column)
{
    struct tmem *t = tmem_of(w->cta);
    for (int r = 0; r < x->regs; r++)
        for (int l = 0; l < 32; l++) {
            int row, col;
            place(x->shape, r, l, x->second, &row, &col);
            const uint32_t *cell = &t->cell[lane + row][column + (x->half ? 2 * col : col)];
            emu_row(w, x->row[r])[l] = x->half ? (cell[0] & 0xFFFF) | cell[1] << 16 : cell[0];
        }
}

static void store(struct emu_warp *w, const struct move_op *op)
{
    const struct move *x = op->issue.in->x;
    struct tmem *t = tmem_of(w->cta);
    for (int r = 0; r < x->regs; r++)
        for (int l = 0; l < 32; l++) {
            int row, col;
            place(x->shape, r, l, x->second, &row, &col);
            uint32_t *cell = &t->cell[op->lane + row][op->column + (x->half ? 2 * col : col)], v = op->value[r][l];
            cell[0] = x->half ? v & 0xFFFF : v;
            if (x->half) cell[1] = v >> 16;
        }
}

static void count_move(struct move_op *op, enum tmem_use use, int by)
{
    struct tmem_region r[2];
    int n = regions(op->issue.in->x, op->lane, op->column, r);
    for (int i = 0; i < n; i++) tmem_count(op->issue.warp->cta, &r[i], use, by);
}

static bool still_there(const struct tmem_issue *i, const char *wait)
{
    if (i->warp->live) return true;
    emu_fault(i->warp, i->in, -1, "the warp ended without %s", wait);
    return false;
}

static bool ld_effect(struct emu_async *a)
{
    struct move_op *op = (struct move_op *)a->payload;
    const struct move *x = op->issue.in->x;
    struct emu_warp *w = op->issue.warp;
    if (!still_there(&op->issue, "tcgen05.wait::ld")) return false;
    for (int r = 0; r < x->regs; r++)
        for (int l = 0; l < 32; l++)
            if (emu_row(w, x->row[r])[l] != ~0u)
                return emu_fault(w, op->issue.in, l, "register %d was written before the wait for this tcgen05.ld", r),
                       false;
    load(w, x, op->lane, op->column);
    count_move(op, TMEM_LOADING, -1);
    return true;
}

static bool st_effect(struct emu_async *a)
{
    struct move_op *op = (struct move_op *)a->payload;
    store(op->issue.warp, op);
    if (op->issue.late) count_move(op, TMEM_STORING, -1);
    return true;
}

static enum emu_next run_ld(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct move *x = in->x;
    const struct emu_who who = {w, in, -1, false};
    struct tmem_region r[2];
    int lane, column;
    if (!tensor_whole_warp(w, in, mask) || !take_address(w, in, &lane, &column)) return EMU_FAULT;
    if (!regions_ok(&who, r, regions(x, lane, column, r), false)) return EMU_FAULT;
    if (!emu_async_is_late(w->cta->cluster)) {
        load(w, x, lane, column);
        return EMU_NEXT;
    }
    struct emu_async *a = emu_async_new(&who, EMU_ASYNC_TCGEN05, sizeof(struct move_op));
    struct move_op *op = (struct move_op *)a->payload;
    *op = (struct move_op){.issue = {TMEM_LD, w, in, true}, .lane = lane, .column = column};
    for (int i = 0; i < x->regs; i++) memset(emu_row(w, x->row[i]), 0xFF, 128);
    count_move(op, TMEM_LOADING, 1);
    a->write = ld_effect;
    return emu_async_issue(a) ? EMU_NEXT : EMU_FAULT;
}

static enum emu_next run_st(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct move *x = in->x;
    const struct emu_who who = {w, in, -1, false};
    struct tmem_region r[2];
    int lane, column;
    if (!tensor_whole_warp(w, in, mask) || !take_address(w, in, &lane, &column)) return EMU_FAULT;
    if (!regions_ok(&who, r, regions(x, lane, column, r), true)) return EMU_FAULT;
    struct emu_async *a = emu_async_new(&who, EMU_ASYNC_TCGEN05, sizeof(struct move_op) + 128 * (size_t)x->regs);
    struct move_op *op = (struct move_op *)a->payload;
    op->issue = (struct tmem_issue){TMEM_ST, w, in, emu_async_is_late(w->cta->cluster)};
    op->lane = lane;
    op->column = column;
    for (int i = 0; i < x->regs; i++) memcpy(op->value[i], emu_row(w, x->row[i]), 128);
    if (op->issue.late) count_move(op, TMEM_STORING, 1);
    a->write = st_effect;
    a->order = 1 + (uint64_t)(uintptr_t)&w->tcgen05; /* stores of a warp, one after another */
    return emu_async_issue(a) ? EMU_NEXT : EMU_FAULT;
}

/* ---- waits, fences ---- */

static bool is_mine(const struct emu_async *a, const void *arg)
{
    const struct tmem_issue *i = (const struct tmem_issue *)a->payload, *want = arg;
    return a->kind == EMU_ASYNC_TCGEN05 && i->op == want->op && i->warp == want->warp;
}

static enum emu_next run_wait(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    struct tmem_issue want = {.op = (enum tmem_op)in->imm, .warp = w};
    if (!tensor_whole_warp(w, in, mask)) return EMU_FAULT;
    return emu_async_force(w->cta->cluster, is_mine, &want, false) ? EMU_NEXT : EMU_FAULT;
}

static enum emu_next run_fence(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    (void)w, (void)in, (void)mask;
    return EMU_NEXT;
}

bool emu_decode_tcgen05_wait(struct emu_decode *d, struct emu_insn *in)
{
    const char *what = strstr(d->text, "::");
    in->imm = what && !strncmp(what, "::st", 4) ? TMEM_ST : TMEM_LD;
    in->aligned = true;
    in->run = run_wait;
    return tensor_sync_aligned(d);
}

bool emu_decode_tcgen05_fence(struct emu_decode *d, struct emu_insn *in)
{
    (void)d;
    in->run = run_fence;
    return true;
}

/* ---- decoding of loads and stores ---- */

static bool decode_move(struct emu_decode *d, struct move *x, const char *half)
{
    static const char *const names[] = {"32x32b", "16x64b", "16x128b", "16x256b", "16x32bx2", NULL};
    if (!tensor_sync_aligned(d)) return false;
    int s = emu_mod_one_of(d, names);
    const char *times = emu_mod_take(d);
    if (s < 0 || !times || times[0] != 'x') return emu_bad(d, "a shape and '.xN' are wanted here");
    x->shape = (enum shape)s;
    x->n = atoi(times + 1);
    if (x->n < 1 || x->n > shapes[s].most || x->n & (x->n - 1))
        return emu_bad(d, "'.%s' is not possible with this shape", times);
    x->half = emu_mod(d, half);
    if (!emu_mod(d, "b32")) return emu_bad(d, "'.b32' is wanted here");
    x->regs = x->n * shapes[s].regs;
    x->columns = x->n * shapes[s].columns * (x->half ? 2 : 1);
    return true;
}

bool emu_decode_tcgen05_ld(struct emu_decode *d, struct emu_insn *in)
{
    struct move *x = new(d->arena, struct move);
    in->x = x;
    in->aligned = true;
    in->run = run_ld;
    if (emu_mod_peek(d) && !strcmp(emu_mod_peek(d), "red")) return emu_bad(d, "tcgen05.ld.red is not emulated");
    return decode_move(d, x, "pack::16b") && emu_dst_vec(d, 0, x->regs, 32, &x->row, NULL) &&
           emu_mem(d, 1, &x->address) && (x->shape != S_16x32bx2 || emu_imm(d, 2, &x->second));
}

bool emu_decode_tcgen05_st(struct emu_decode *d, struct emu_insn *in)
{
    struct move *x = new(d->arena, struct move);
    in->x = x;
    in->aligned = true;
    in->run = run_st;
    if (!decode_move(d, x, "unpack::16b") || !emu_mem(d, 0, &x->address)) return false;
    if (x->shape == S_16x32bx2 && !emu_imm(d, 1, &x->second)) return false;
    return emu_src_vec(d, x->shape == S_16x32bx2 ? 2 : 1, x->regs, EMU_T_B32, &x->row, NULL);
}
