/* early - what a wait for a barrier does not decide is worked out before it.
 *
 *   L: try_wait p, [full]; @!p bra L;  d = base >> 4; wgmma d   ->   d = base >> 4;  L: try_wait p, [full]; @!p bra L;  wgmma d
 *
 * Addresses and descriptors of a slot follow from its number. The assembler keeps instructions in their basic block, and the
 * wait is one: after it, the chain from the slot's address to the first product's descriptor is time that nobody uses. */
#include "codegen/eval.h"

#include <string.h>

enum { MOST_EARLY = 32 }; /* registers that live longer for it */

static bool begins(const struct lir_insn *in, const char *text) { return in->fmt && !strncmp(in->fmt, text, strlen(text)); }

/* A wait stands at i: its label, its question, its branch back. */
static bool is_wait(const struct lir *l, int i)
{
    const struct lir_insn *in = &l->code.at[i];
    return !in[0].fmt && (begins(&in[1], "mbarrier.try_wait") || begins(&in[1], "mbarrier.test_wait")) && begins(&in[2], "@!");
}

static bool touches(const struct lir_insn *in, const struct lir_insn *wait)
{
    for (int i = 0; i < in->nargs; i++)
        for (int k = 0; k < wait->nargs; k++)
            if (in->args[i].kind == OPD_REG && in->args[i].cls == wait->args[k].cls && in->args[i].id == wait->args[k].id && wait->args[k].kind == OPD_REG) return true;
    return false;
}

void early_role(struct gen *g, int from)
{
    enum { WAIT = 3 };
    struct lir *l = g->l;
    for (int i = from; i + WAIT < l->code.n; i++) {
        if (!is_wait(l, i)) continue;
        int to = i + WAIT;
        while (to < l->code.n && to - i - WAIT < MOST_EARLY && hoist_arithmetic(&l->code.at[to]) && !touches(&l->code.at[to], &l->code.at[i + 1])) to++;
        struct lir_insn wait[WAIT], *code = l->code.at + i;
        memcpy(wait, code, sizeof wait);
        memmove(code, code + WAIT, sizeof *code * (size_t)(to - i - WAIT));
        memcpy(l->code.at + to - WAIT, wait, sizeof wait);
        i = to - 1;
    }
}
