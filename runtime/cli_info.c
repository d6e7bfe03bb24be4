/* cli_info - dgc help, dgc targets and dgc doctor. */
#include "runtime/cli.h"
#include "runtime/cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    unsigned ability;
    const char *name;
} abilities[] = {
    { HAS_MMA_SYNC, "mma.sync" }, { HAS_MMA_FP8, "fp8" }, { HAS_MMA_BLOCK_SCALE, "block-scale" }, { HAS_WGMMA, "wgmma" },
    { HAS_TCGEN05, "tcgen05" },   { HAS_TMA, "tma" },     { HAS_CLUSTER, "clusters" },
};

int cli_verb_targets(struct cli *c)
{
    int n;
    const struct target *all = target_all(&n);
    (void)c;
    printf("%-8s %-5s %-12s %-22s %s\n", "target", "PTX", "shared bytes", "boards", "tensor cores and copies");
    for (int i = 0; i < n; i++) {
        printf("%-8s %-5s %-12d %-22s", all[i].name, all[i].ptx_version, all[i].smem_bytes, all[i].boards);
        for (int k = 0; k < COUNT(abilities); k++)
            if (target_has(&all[i], abilities[k].ability)) printf(" %s", abilities[k].name);
        printf("\n");
    }
    return 0;
}

/* Runs `see` on every GPU; how many there are, or -1 with why. */
static int each_gpu(void (*see)(const struct device_props *p, int i), struct fault *why)
{
    int n = 0;
    for (;; n++) {
        char spec[32];
        struct device *d;
        snprintf(spec, sizeof spec, "cuda:%d", n);
        if (device_open(&d, spec, NULL, why)) return n ? n : -1;
        if (see) see(&d->props, n);
        device_close(d);
    }
}

static void show_gpu(const struct device_props *p, int i)
{
    printf("gpu        cuda:%d %s, %s, %d multiprocessors, %.0f GiB, driver %s\n", i, p->name, p->arch, p->sms, (double)p->memory_bytes / (1 << 30),
           p->driver);
}

static int has(const struct cli *c)
{
    char path[4096], release[32];
    struct fault why;
    bool there;
    if (!strcmp(c->has, "ptxas")) there = assemble_find(c->ptxas, "8.8", path, sizeof path, release, sizeof release);
    else if (!strcmp(c->has, "gpu")) there = each_gpu(NULL, &why) > 0;
    else return cli_usage("--has=%s: ptxas or gpu is wanted", c->has);
    printf("%s: %s\n", c->has, there ? "yes" : "no");
    return there ? 0 : 3;
}

static void show_assemblers(const struct cli *c)
{
    char path[4096], release[32];
    struct buf list = { 0 };
    assemble_list(&list);
    if (assemble_find(c->ptxas, "8.8", path, sizeof path, release, sizeof release)) printf("assembler  %s, release %s\n", path, release);
    else printf("assembler  no ptxas for every target; install one with: pip install 'nvidia-cuda-nvcc>=13.0'\n");
    char *save = NULL;
    for (char *line = list.at ? strtok_r(list.at, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) printf("  found    %s\n", line);
    buf_free(&list);
}

int cli_verb_doctor(struct cli *c)
{
    if (c->has) return has(c);
    struct fault why = { 0 };
    char cache[4096];
    printf("dgc        %s\n", DGC_VERSION);
    show_assemblers(c);
    if (each_gpu(show_gpu, &why) < 0) printf("gpu        none: %s\n", why.text);
    struct device *d;
    if (!device_open(&d, "emu", NULL, &why)) {
        printf("emulator   %s, %d multiprocessors\n", d->props.name, d->props.sms);
        device_close(d);
    }
    printf("cache      %s\n", cache_folder(cache, sizeof cache) ? cache : "off");
    return 0;
}

int cli_verb_help(struct cli *c)
{
    struct buf out = { 0 };
    int rc = 0;
    if (c->version) buf_printf(&out, "dgc %s\n", DGC_VERSION);
    else rc = cli_help_named(c, &out);
    if (out.at) fputs(out.at, stdout);
    buf_free(&out);
    return rc;
}
