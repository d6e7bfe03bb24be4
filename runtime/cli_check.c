/* cli_check - the results of one call held to the kernel's spec. */
#include "runtime/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/oracle.h"

static struct interp_tensor of_tensor(const struct tensor *t)
{
    struct interp_tensor r = { .type = t->type, .rank = t->rank, .data = t->data };
    for (int d = 0; d < t->rank; d++) r.shape[d] = t->shape[d], r.stride[d] = t->stride[d];
    return r;
}

static struct interp_tensor of_scalar(struct arena *a, enum type type, const struct call_arg *arg)
{
    uint64_t *bits = new(a, uint64_t);
    *bits = type_is_float(type) ? type_encode(type, arg->real) : (uint64_t)arg->integer;
    return (struct interp_tensor){ .type = type, .data = bits };
}

bool cli_check(const struct unit *u, const struct call *call, const struct tensor *before, const struct tensor *after, struct buf *out)
{
    const struct ir_fn *fn = u->fn;
    struct arena scratch = { 0 };
    int n = fn->tensors.n;
    struct interp_tensor *was = new_n(&scratch, struct interp_tensor, n + 1), *is = new_n(&scratch, struct interp_tensor, n + 1);
    bool ok = true;
    for (int i = 0; i < n; i++) {
        bool scalar = fn->tensors.at[i]->rank == 0;
        was[i] = scalar ? of_scalar(&scratch, fn->tensors.at[i]->type, &call->args[i]) : of_tensor(&before[i]);
        is[i] = scalar ? was[i] : of_tensor(&after[i]);
    }
    for (int i = 0; i < fn->specs.n; i++) {
        struct oracle_verdict v = oracle_check_spec(fn, i, was, is, call->dims, NULL);
        oracle_print_verdict(&v, out);
        buf_printf(out, v.ok ? ": as the spec says\n" : ": NOT as the spec says\n");
        ok &= v.ok;
        free(v.error);
    }
    if (!fn->specs.n) buf_printf(out, "%s has no spec to check\n", fn->name);
    arena_free(&scratch);
    return ok;
}
