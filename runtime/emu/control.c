/* control - branches, exits, fences, and instructions that only matter to speed. */
#include "runtime/emu/parse.h"
#include "runtime/emu/sched.h"
#include "runtime/emu/tensormap.h"

/* ---- branches ---- */

static bool label_target(struct emu_decode *d, const struct emu_scope *scope, const char *name, uint32_t *target)
{
    const struct emu_name *n = emu_scope_find(scope, name);
    if (!n || n->label < 0)
        return emu_bad(d, "unknown label '%s'", name);
    *target = (uint32_t)n->label;
    return true;
}

bool emu_decode_bra(struct emu_decode *d, struct emu_insn *in)
{
    struct emu_raw *r = emu_operand(d, 0);
    emu_mod(d, "uni");
    in->run = emu_run_bra;
    in->u8[7] = 1;
    if (!r || r->kind != EMU_RAW_SYM)
        return emu_bad(d, "a label is wanted");
    return label_target(d, r->scope, r->name, &in->target);
}

bool emu_decode_brx(struct emu_decode *d, struct emu_insn *in)
{
    struct emu_raw *r = emu_operand(d, 1);
    emu_mod(d, "uni");
    in->run = emu_run_brx;
    in->u8[7] = 2;
    const struct emu_name *n = r && r->kind == EMU_RAW_SYM ? emu_scope_find(r->scope, r->name) : NULL;
    if (!n || !n->table)
        return emu_bad(d, "a table of branch targets is wanted");
    uint32_t *t = new_n(d->arena, uint32_t, n->table->n);
    for (int i = 0; i < n->table->n; i++)
        if (!label_target(d, n->table->scope, n->table->label[i], &t[i]))
            return false;
    in->x = t;
    in->b = (uint32_t)n->table->n;
    return emu_src(d, 0, EMU_T_U32, &in->a);
}

bool emu_decode_exit(struct emu_decode *d, struct emu_insn *in)
{
    emu_mod(d, "uni");
    in->run = emu_run_exit;
    return true;
}

static enum emu_next run_trap(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    return emu_fault(w, in, __builtin_ctz(mask), "trap");
}

bool emu_decode_trap(struct emu_decode *d, struct emu_insn *in)
{
    (void)d;
    in->run = run_trap;
    return true;
}

static enum emu_next run_assert(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    return emu_fault(w, in, __builtin_ctz(mask), "an assertion of the kernel's source failed");
}

/* Functions that no module defines: printf, and what a failed assertion calls, which is a fault. */
bool emu_decode_call(struct emu_decode *d, struct emu_insn *in)
{
    if (emu_mod(d, "vprintf"))
        return emu_decode_print(d, in);
    for (int i = 0; i < d->nop; i++)
        emu_operand(d, i);
    in->run = run_assert;
    return emu_mod(d, "__assertfail") || emu_bad(d, "the module does not define this function");
}

static emu_run_fn run_nothing;

/* ---- what has no effect here ---- */

static enum emu_next run_nothing(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    (void)in, (void)mask;
    if (in->u8[0])
        emu_race_strong(w);
    if (w->cta->cluster->grid->parallel)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return EMU_NEXT;
}

/* fence.proxy.async: what the thread wrote, or knows to be written, may now be read by asynchronous operations. */
static enum emu_next run_fence_async(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    FOR_LANES(l, mask)
        w->fenced[l] = w->cta->cluster->stats.warp_steps;
    w->init_fenced = w->cta->cluster->stats.warp_steps;
    return run_nothing(w, in, mask);
}

static enum emu_next run_fence_init(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    w->init_fenced = w->cta->cluster->stats.warp_steps;
    return run_nothing(w, in, mask);
}

/* Takes modifiers of the list until none fits. */
static bool only_mods(struct emu_decode *d, const char *const *names)
{
    while (emu_mod_one_of(d, names) >= 0)
        ;
    return true;
}

bool emu_decode_fence(struct emu_decode *d, struct emu_insn *in)
{
    static const char *const names[] = {"acq_rel",
                                        "sc",
                                        "acquire",
                                        "release",
                                        "cta",
                                        "cluster",
                                        "gpu",
                                        "sys",
                                        "gl",
                                        "proxy",
                                        "alias",
                                        "async",
                                        "async::generic",
                                        "global",
                                        "shared::cta",
                                        "shared::cluster",
                                        "mbarrier_init",
                                        "sync_restrict::shared::cluster",
                                        "sync_restrict::shared::cta",
                                        "tensormap::generic",
                                        NULL};
    struct emu_addr *a = new(d->arena, struct emu_addr);
    int64_t n;
    bool wants_90 = strstr(d->text, "async") || strstr(d->text, "mbarrier_init") || strstr(d->text, "tensormap") ||
                    strstr(d->text, "sync_restrict") || strstr(d->text, "cluster");
    if (wants_90 && !emu_need(d, EMU_NEED_90, "this fence"))
        return false;
    only_mods(d, names);
    in->u8[0] = !strstr(d->text, "proxy");
    in->run = strstr(d->text, "proxy.async") && !strstr(d->text, "proxy.async.global") ? run_fence_async
            : strstr(d->text, "mbarrier_init") ? run_fence_init : run_nothing;
    if (!d->nop)
        return true;
    in->x = a;
    in->run = emu_run_map_acquire;
    return emu_mem(d, 0, a) && emu_imm(d, 1, &n);
}

bool emu_decode_griddepcontrol(struct emu_decode *d, struct emu_insn *in)
{
    in->run = run_nothing;
    return emu_mod(d, "wait") || emu_mod(d, "launch_dependents") || emu_bad(d, ".wait or .launch_dependents is wanted");
}

bool emu_decode_nanosleep(struct emu_decode *d, struct emu_insn *in)
{
    uint32_t row;
    in->run = run_nothing;
    return (emu_mod(d, "u32") || emu_bad(d, ".u32 is wanted")) && emu_src(d, 0, EMU_T_U32, &row);
}

/* prefetch, prefetchu, discard, applypriority: hints about caches */
bool emu_decode_hint(struct emu_decode *d, struct emu_insn *in)
{
    static const char *const names[] = {"global",           "local",     "L1",    "L2",    "L2::evict_last",
                                        "L2::evict_normal", "tensormap", "param", "const", NULL};
    struct emu_addr a;
    int64_t n;
    in->run = run_nothing;
    only_mods(d, names);
    return emu_mem(d, 0, &a) && (d->nop < 2 || emu_imm(d, 1, &n));
}

/* createpolicy.fractional.L2::X[.L2::Y].b64 d [, fraction]: values as an H200 gives them for fraction 1. */
static enum emu_next run_policy(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    FOR_LANES(l, mask)
        emu_row64(w, in->d)[l] = (uint64_t)in->imm;
    return EMU_NEXT;
}

bool emu_decode_createpolicy(struct emu_decode *d, struct emu_insn *in)
{
    static const char *const names[] = {"L2::evict_first", "L2::evict_last", "L2::evict_normal", "L2::evict_unchanged",
                                        NULL};
    static const int64_t values[] = {0x12F0000000000000, 0x14F0000000000000, 0x16F0000000000000, 0x10F0000000000000};
    uint32_t row;
    struct emu_addr a;
    bool range = emu_mod(d, "range");
    if (range) {
        emu_mod(d, "global");
    } else if (!emu_mod(d, "fractional")) {
        return emu_bad(d, ".fractional or .range is wanted");
    }
    int i = emu_mod_one_of(d, names);
    emu_mod_one_of(d, names);
    if (i < 0 || !emu_mod(d, "b64"))
        return emu_bad(d, "a priority and .b64 are wanted");
    in->run = run_policy;
    in->imm = values[i];
    if (!emu_dst(d, 0, 64, &in->d))
        return false;
    if (range)
        return emu_mem(d, 1, &a) && emu_src(d, 2, EMU_T_B32, &row) && emu_src(d, 3, EMU_T_B32, &row);
    return d->nop < 2 || emu_src(d, 1, EMU_T_F32, &row);
}

/* ---- bar.warp.sync, setmaxnreg ---- */

bool emu_decode_warpsync(struct emu_decode *d, struct emu_insn *in)
{
    in->run = emu_run_warpsync;
    return emu_src(d, 0, EMU_T_B32, &in->a);
}

/* The block's registers beyond what its warps hold are a pool that .dec fills and .inc takes from. */
static enum emu_next run_setmaxnreg(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    uint32_t n = (uint32_t)in->imm;
    (void)mask;
    if (!w->maxnreg)
        return EMU_NEXT; /* the register count at entry is not known: the assembler drops the instruction */
    if (in->u8[0]) {
        if (w->maxnreg > n)
            return emu_fault(w, in, -1, "setmaxnreg.inc to %u, but the warp has %u registers", n, w->maxnreg);
        if (w->cta->pool_regs < n - w->maxnreg)
            return emu_block(w, "waits for registers (setmaxnreg.inc)");
        w->cta->pool_regs -= n - w->maxnreg;
    } else {
        if (w->maxnreg < n)
            return emu_fault(w, in, -1, "setmaxnreg.dec to %u, but the warp has %u registers", n, w->maxnreg);
        w->cta->pool_regs += w->maxnreg - n;
        emu_progress(w->cta->cluster);
    }
    w->maxnreg = n;
    return EMU_NEXT;
}

bool emu_decode_setmaxnreg(struct emu_decode *d, struct emu_insn *in)
{
    bool inc = emu_mod(d, "inc");
    in->aligned = true;
    in->run = run_setmaxnreg;
    in->u8[0] = inc;
    if ((!inc && !emu_mod(d, "dec")) || !emu_mod(d, "sync") || !emu_mod(d, "aligned") || !emu_mod(d, "u32"))
        return emu_bad(d, "setmaxnreg.inc|dec.sync.aligned.u32 is wanted");
    if (!emu_imm(d, 0, &in->imm))
        return false;
    if (in->imm < 24 || in->imm > 256 || in->imm % 8)
        return emu_bad(d, "%lld registers; a multiple of 8 from 24 to 256 is wanted", (long long)in->imm);
    return true;
}
