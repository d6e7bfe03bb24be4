/* memory - every load and store of the emulated machine passes here: bounds, alignment, initialisation.
 *
 * Each byte of shared and global memory has a bit that says whether it was ever written. */
#include "runtime/emu/core.h"

/* ---- init bits ---- */

static bool all_init(const uint64_t *init, uint64_t at, uint64_t n)
{
    while (n) {
        uint64_t k = 64 - at % 64 < n ? 64 - at % 64 : n;
        uint64_t mask = (k == 64 ? ~(uint64_t)0 : ((uint64_t)1 << k) - 1) << at % 64;
        if ((__atomic_load_n(&init[at / 64], __ATOMIC_RELAXED) & mask) != mask)
            return false;
        at += k;
        n -= k;
    }
    return true;
}

static void set_init(uint64_t *init, uint64_t at, uint64_t n)
{
    while (n) {
        uint64_t k = 64 - at % 64 < n ? 64 - at % 64 : n;
        uint64_t mask = (k == 64 ? ~(uint64_t)0 : ((uint64_t)1 << k) - 1) << at % 64;
        if ((__atomic_load_n(&init[at / 64], __ATOMIC_RELAXED) & mask) != mask)
            __atomic_fetch_or(&init[at / 64], mask, __ATOMIC_RELAXED);
        at += k;
        n -= k;
    }
}

/* ---- global memory ---- */

static bool out_of_bounds(const struct emu_who *who, uint64_t address, uint64_t n, const char *verb)
{
    const struct emu *e = who->w->cta->cluster->grid->emu;
    const struct emu_block *best = NULL;
    uint64_t best_gap = UINT64_MAX;
    for (int i = 0; i < e->n_block; i++) {
        const struct emu_block *b = e->block[i];
        uint64_t gap = address < b->address ? b->address - address : address - b->address;
        uint64_t behind = address - (b->address + b->bytes);
        if (address >= b->address + b->bytes)
            gap = behind;
        if (gap < best_gap) {
            best_gap = gap;
            best = b;
        }
    }
    if (!best)
        return emu_fault_who(who, "%s %llu bytes at 0x%llx, where there is no memory", verb, (unsigned long long)n,
                             (unsigned long long)address);
    long long at = (long long)(address - best->address);
    return emu_fault_who(who, "%s %llu bytes at 0x%llx, out of bounds: byte %lld of '%s', which has %llu", verb,
                         (unsigned long long)n, (unsigned long long)address, at, best->name,
                         (unsigned long long)best->bytes);
}

static bool in_block(const struct emu_block *b, uint64_t address, uint64_t n)
{
    uint64_t at = address - b->address;
    return at < b->bytes && n <= b->bytes - at;
}

static struct emu_block *global_block(const struct emu_who *who, uint64_t address, uint64_t n, const char *verb)
{
    struct emu_block *b = who->w->hit;
    if (b && in_block(b, address, n))
        return b;
    b = emu_find_block(who->w->cta->cluster->grid->emu, address);
    if (!b || !in_block(b, address, n)) {
        out_of_bounds(who, address, n, verb);
        return NULL;
    }
    who->w->hit = b;
    return b;
}

static uint8_t *global_at(const struct emu_who *who, uint64_t address, uint32_t n, unsigned use)
{
    struct emu_block *b = global_block(who, address, n, use & EMU_WRITE ? "writes" : "reads");
    if (!b)
        return NULL;
    uint64_t at = address - b->address;
    if (b->init) {
        if ((use & (EMU_READ | EMU_UNCHECKED)) == EMU_READ && emu_checked(who->w->cta->cluster) &&
            !all_init(b->init, at, n)) {
            emu_fault_who(who, "reads byte %llu of '%s', which was never written", (unsigned long long)at, b->name);
            return NULL;
        }
        if (use & EMU_WRITE)
            set_init(b->init, at, n);
    }
    return b->data + at;
}

bool emu_gmem_read(const struct emu_who *who, uint64_t address, void *to, uint32_t n)
{
    uint8_t *p = global_at(who, address, n, EMU_READ | EMU_UNCHECKED);
    if (p)
        memcpy(to, p, n);
    return p != NULL;
}

bool emu_gmem_write(const struct emu_who *who, uint64_t address, const void *from, uint32_t n)
{
    uint8_t *p = global_at(who, address, n, EMU_WRITE);
    if (p)
        memcpy(p, from, n);
    return p != NULL;
}

/* ---- shared memory ---- */

static bool shared_bounds(const struct emu_who *who, const struct emu_cta *cta, uint32_t offset, uint32_t n,
                          const char *verb)
{
    if (offset >= EMU_SMEM_FIRST && offset <= cta->smem_end && n <= cta->smem_end - offset)
        return true;
    const struct emu_entry *e = cta->cluster->grid->entry;
    const char *name = "shared memory";
    uint32_t base = EMU_SMEM_FIRST;
    for (int i = 0; i < e->symbols.n; i++) {
        const struct emu_symbol *s = &e->symbols.at[i];
        if (s->space == EMU_SHARED_CTA && s->address <= offset && s->address >= base) {
            base = (uint32_t)s->address;
            name = s->name;
        }
    }
    return emu_fault_who(
        who, "%s %u bytes at shared 0x%x, out of bounds: byte %lld of '%s'; the block's %u bytes end at 0x%x", verb, n,
        offset, (long long)offset - base, name, cta->smem_end - EMU_SMEM_FIRST, cta->smem_end);
}

/* The async proxy sees what the generic proxy wrote only behind a fence.proxy.async: by the writing thread after its
 * write, or by the issuing one. PTX ISA, "Async proxy". */
static bool fenced(const struct emu_who *who, const struct emu_cta *cta, uint32_t offset, uint32_t n)
{
    if (!emu_checked(cta->cluster))
        return true;
    for (uint32_t cell = offset / 16; cell <= (offset + n - 1) / 16; cell++) {
        uint64_t v = cta->smem_writer[cell], step = v >> 16;
        if (!v)
            continue;
        const struct emu_cta *from = &cta->cluster->cta[v >> 10 & 15];
        const struct emu_warp *w = &from->warp[v >> 5 & 31];
        uint64_t last = w->fenced[v & 31];
        for (int l = 0; l < 32; l++)
            if (who->w->fenced[l] > last)
                last = who->w->fenced[l];
        if (last <= step)
            return emu_fault_who(
                who,
                "the asynchronous operation reads shared 0x%x, which warp %d lane %u of cta (%u,%u,%u) wrote "
                "without a fence.proxy.async between",
                cell * 16, w->id, (uint32_t)v & 31, from->ctaid[0], from->ctaid[1], from->ctaid[2]);
    }
    return true;
}

static void note_writes(const struct emu_who *who, struct emu_cta *cta, uint32_t offset, uint32_t n)
{
    if (who->async)
        emu_race_forget(cta, offset, n);
    for (uint32_t cell = offset / 16; cell <= (offset + n - 1) / 16; cell++)
        if (who->async)
            cta->smem_writer[cell] = 0;
        else
            emu_note_write(cta, who->w, who->lane < 0 ? 0 : (uint32_t)who->lane, cell * 16);
}

/* Read and written at once: an atomic, which races with nothing. */
static bool race_ok(const struct emu_who *who, struct emu_cta *cta, uint32_t offset, uint32_t n, unsigned use)
{
    if (use & EMU_QUIET)
        return true;
    if (((use & EMU_READ) && (use & EMU_WRITE)) || (use & EMU_STRONG)) {
        emu_race_forget(cta, offset, n);
        return true;
    }
    return emu_race_access(who, cta, offset, n, use & EMU_WRITE);
}

static uint8_t *shared_at(const struct emu_who *who, struct emu_cta *cta, uint32_t offset, uint32_t n, unsigned use)
{
    if (!shared_bounds(who, cta, offset, n, use & EMU_WRITE ? "writes" : "reads"))
        return NULL;
    if ((use & (EMU_READ | EMU_UNCHECKED)) == EMU_READ && emu_checked(cta->cluster) &&
        !all_init(cta->smem_init, offset, n)) {
        for (int i = 0; i < cta->n_mbar; i++)
            if (cta->mbar[i].live && cta->mbar[i].offset < offset + n && offset < cta->mbar[i].offset + 8) {
                emu_fault_who(who, "reads shared 0x%x, which holds a live mbarrier", offset);
                return NULL;
            }
        emu_fault_who(who, "reads shared 0x%x, which was never written", offset);
        return NULL;
    }
    if (n && (use & EMU_READ) && who->async && !fenced(who, cta, offset, n))
        return NULL;
    if (n && !who->async && !race_ok(who, cta, offset, n, use))
        return NULL;
    if (n && (use & EMU_WRITE)) {
        set_init(cta->smem_init, offset, n);
        note_writes(who, cta, offset, n);
    }
    return cta->smem + offset;
}

bool emu_smem_read(const struct emu_who *who, struct emu_cta *cta, uint32_t offset, void *to, uint32_t n)
{
    uint8_t *p = shared_at(who, cta, offset, n, EMU_READ | EMU_UNCHECKED);
    if (p)
        memcpy(to, p, n);
    return p != NULL;
}

bool emu_smem_write(const struct emu_who *who, struct emu_cta *cta, uint32_t offset, const void *from, uint32_t n)
{
    /* what is stored a second time by another thread races with nothing */
    bool same = offset <= cta->smem_end && n <= cta->smem_end - offset && !memcmp(cta->smem + offset, from, n);
    uint8_t *p = shared_at(who, cta, offset, n, EMU_WRITE | (same ? EMU_QUIET : 0));
    if (p)
        memcpy(p, from, n);
    return p != NULL;
}

bool emu_smem_poison(const struct emu_who *who, struct emu_cta *cta, uint32_t offset, uint32_t n)
{
    struct emu_who owner = *who;
    owner.async = true;
    uint8_t *p = shared_at(&owner, cta, offset, n, EMU_WRITE);
    if (p)
        memset(p, 0xFF, n);
    return p != NULL;
}

bool emu_smem_at(const struct emu_who *who, enum emu_space space, uint32_t address, uint32_t align,
                 struct emu_cta **cta, uint32_t *offset)
{
    struct emu_cluster *k = who->w->cta->cluster;
    uint32_t rank = address >> EMU_RANK_SHIFT;
    *offset = address & ((1u << EMU_RANK_SHIFT) - 1);
    if (rank >= k->size)
        return emu_fault_who(who, "shared address 0x%x is of block %u of a cluster of %u", address, rank, k->size);
    if (space == EMU_SHARED_CTA && rank != who->w->cta->rank)
        return emu_fault_who(who, "shared address 0x%x is of block %u of the cluster; .shared::cta is the own one, %u",
                             address, rank, who->w->cta->rank);
    if (*offset & (align - 1))
        return emu_fault_who(who, "shared address 0x%x is not a multiple of %u", address, align);
    *cta = &k->cta[rank];
    if ((*cta)->live_threads == 0 && *cta != who->w->cta)
        return emu_fault_who(who, "shared address 0x%x is of block %u of the cluster, which has already ended", address,
                             rank);
    return true;
}

uint32_t emu_shared_address(struct emu_warp *w, const struct emu_addr *a, uint32_t lane)
{
    return (uint32_t)emu_addr_of(w, a, lane);
}

/* ---- any space ---- */

static uint8_t *param_at(const struct emu_who *who, uint64_t at, uint32_t n, unsigned use)
{
    const struct emu_grid *g = who->w->cta->cluster->grid;
    if (use & EMU_WRITE) {
        emu_fault_who(who, "writes to the kernel's parameters");
        return NULL;
    }
    if (at > g->entry->param_bytes || n > g->entry->param_bytes - at) {
        emu_fault_who(who, "reads %u bytes at byte %llu of the parameters, which have %u", n, (unsigned long long)at,
                      g->entry->param_bytes);
        return NULL;
    }
    return (uint8_t *)(uintptr_t)g->params + at;
}

static uint8_t *local_at(const struct emu_who *who, uint64_t at, uint32_t n)
{
    uint32_t bytes = who->w->cta->cluster->grid->entry->local_bytes;
    if (at > bytes || n > bytes - at) {
        emu_fault_who(who, "accesses %u bytes at byte %llu of local memory, which has %u", n, (unsigned long long)at,
                      bytes);
        return NULL;
    }
    return who->w->local + (size_t)who->lane * bytes + at;
}

static uint8_t *generic_at(const struct emu_who *who, uint64_t a, uint32_t n, uint32_t align, unsigned use)
{
    if (a - EMU_SHARED_WINDOW < EMU_WINDOW_BYTES)
        return emu_mem_at(who, EMU_SHARED_CLUSTER, a - EMU_SHARED_WINDOW, n, align, use);
    if (a - EMU_LOCAL_WINDOW < EMU_WINDOW_BYTES)
        return local_at(who, a - EMU_LOCAL_WINDOW, n);
    if (a - EMU_PARAM_WINDOW < EMU_WINDOW_BYTES)
        return param_at(who, a - EMU_PARAM_WINDOW, n, use);
    return global_at(who, a, n, use);
}

uint8_t *emu_mem_at(const struct emu_who *who, enum emu_space space, uint64_t a, uint32_t n, uint32_t align,
                    unsigned use)
{
    struct emu_cta *cta;
    uint32_t offset;
    if (a & (align - 1)) {
        emu_fault_who(who, "misaligned: address 0x%llx is not a multiple of %u", (unsigned long long)a, align);
        return NULL;
    }
    switch (space) {
    case EMU_GENERIC:
        return generic_at(who, a, n, align, use);
    case EMU_GLOBAL: case EMU_CONST:
        return global_at(who, a, n, use);
    case EMU_SHARED_CTA: case EMU_SHARED_CLUSTER:
        if (a > UINT32_MAX) {
            emu_fault_who(who, "0x%llx is no shared address", (unsigned long long)a);
            return NULL;
        }
        return emu_smem_at(who, space, (uint32_t)a, 1, &cta, &offset) ? shared_at(who, cta, offset, n, use) : NULL;
    case EMU_PARAM:
        return param_at(who, a, n, use);
    case EMU_LOCAL:
        return local_at(who, a, n);
    }
    return NULL;
}

bool emu_mem_load(const struct emu_who *who, enum emu_space space, uint64_t address, void *to, uint32_t n)
{
    uint8_t *p = emu_mem_at(who, space, address, n, 1, EMU_READ | EMU_UNCHECKED);
    if (p)
        memcpy(to, p, n);
    return p != NULL;
}

bool emu_mem_store(const struct emu_who *who, enum emu_space space, uint64_t address, const void *from, uint32_t n)
{
    uint8_t *p = emu_mem_at(who, space, address, n, 1, EMU_WRITE);
    if (p)
        memcpy(p, from, n);
    return p != NULL;
}
