/* target - the table of GPUs. */
#include "compiler/target.h"

#include <string.h>

static const struct target table[] = {
#define TARGET(name, like, ptx, version, has, smem, sms, flops, mhz, gbs, boards) { #name, like, #ptx, version, has, smem, 255, sms, flops, mhz, gbs, boards },
#include "codegen/targets.def"
};

const struct target *target_all(int *n)
{
    *n = COUNT(table);
    return table;
}

const struct target *target_find(const char *name)
{
    for (int i = 0; i < COUNT(table); i++)
        if (!strcmp(table[i].name, name)) return &table[i];
    return NULL;
}

bool target_matches(const struct target *t, const char *name)
{
    return !strcmp(t->name, name) || (t->like && !strcmp(t->like, name));
}
