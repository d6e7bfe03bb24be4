/* core - what the emulator's files share: modules, decoded instructions, warps, CTAs, clusters, memory, asynchronous
 * operations, reports.
 *
 * A PTX text is parsed (parse.c) and decoded once (decode.c) to an array of struct emu_insn. A warp executes one record
 * at a time for up to 32 lanes. Every operand is a *row* of the warp's register file: 32 words of 4 bytes. A 64-bit
 * register is two adjacent rows read as uint64_t[32], a 128-bit one four (low words' rows first, then high). 8- and 16-bit
 * registers are the low bits of a row, upper bits zero. Immediates, symbols' addresses and special registers are rows
 * too, filled when the warp starts, so that handlers know one kind of source. `_` as destination is a row nobody reads.
 * A predicate is a 32-bit lane mask. */
#ifndef EMU_CORE_H
#define EMU_CORE_H

#include "dsl/base.h"
#include "runtime/emu/emu.h"
#include "runtime/emu/numerics.h"

#include <string.h>

struct emu_warp;
struct emu_cta;
struct emu_cluster;
struct emu_grid;
struct emu_insn;
struct emu_decode;
struct emu_async;

/* Register rows seen as 64-bit words and floats: the same bytes under another type. */
typedef uint32_t __attribute__((may_alias)) emu_u32;
typedef int32_t __attribute__((may_alias)) emu_s32;
typedef uint64_t __attribute__((may_alias)) emu_u64;
typedef int64_t __attribute__((may_alias)) emu_s64;
typedef float __attribute__((may_alias)) emu_f32;
typedef double __attribute__((may_alias)) emu_f64;

/* Hot loops over lanes are compiled for plain x86-64 and for AVX2 with FMA; the loader picks. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define EMU_HOT __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define EMU_HOT
#endif

/* Lanes do not depend on one another, even where a destination is a source, too. */
#if defined(__GNUC__) && !defined(__clang__)
#define EMU_IVDEP _Pragma("GCC ivdep")
#else
#define EMU_IVDEP
#endif

#define FOR_LANES(l, mask) for (uint32_t l##_m = (mask), l; l##_m && (l = (uint32_t)__builtin_ctz(l##_m), 1); l##_m &= l##_m - 1)

/* ---- types and targets ------------------------------------------------------------------------------------------ */

enum emu_type {
    EMU_T_NONE,
#define TYPE(name, text, bits, cls, elem) EMU_T_##name,
#include "runtime/emu/type.def"
    EMU_T_COUNT
};
enum emu_class { EMU_C_B, EMU_C_U, EMU_C_S, EMU_C_F, EMU_C_V, EMU_C_P };
struct emu_type_info {
    const char *name;
    int bits;
    enum emu_class cls;
    enum emu_type elem;
};
extern const struct emu_type_info emu_types[EMU_T_COUNT];

/* What an instruction needs of the module's .target (PTX ISA, "Target ISA Notes"). The chip must have it, too. */
enum emu_need {
    EMU_NEED_ANY,     /* sm_80 and up */
    EMU_NEED_89,      /* sm_89 and up */
    EMU_NEED_90,      /* sm_90 and up */
    EMU_NEED_100,     /* sm_100 and up */
    EMU_NEED_90A,     /* sm_90a alone: wgmma */
    EMU_NEED_A,       /* 90a, 10x, 11x, 12x with suffix: setmaxnreg, tensormap.replace */
    EMU_NEED_BLACK,   /* 10x, 11x, 12x with suffix: narrow cvt, ldmatrix b8 */
    EMU_NEED_TC5,     /* 10x, 11x with suffix: tcgen05 */
    EMU_NEED_12X,     /* 120a/f, 121a/f: block-scaled mma.sync */
};

/* ---- decoded instructions --------------------------------------------------------------------------------------- */

/* What a handler tells the scheduler.
 * NEXT   done, go on behind this instruction.
 * BLOCK  nothing was done and nothing may be done yet: the lanes of `mask` stay here and are asked again later (call
 *        emu_block first so that a deadlock report can say what for). Lanes whose guard was false go on.
 * JUMP   the handler has set the fragments' program counters itself.
 * FAULT  emu_fault was called. */
enum emu_next { EMU_NEXT, EMU_BLOCK, EMU_JUMP, EMU_FAULT };

/* Executes `in` for the lanes of `mask` (never 0), which are together at this instruction, guard already applied. */
typedef enum emu_next emu_run_fn(struct emu_warp *w, const struct emu_insn *in, uint32_t mask);

struct emu_insn {
    emu_run_fn *run;
    uint32_t d, a, b, c;  /* rows, or predicate numbers; what each means is between a decoder and its handler */
    int64_t imm;
    const void *x;        /* more, private to the instruction; in the module's arena */
    uint32_t target;      /* branches */
    uint16_t guard;       /* predicate number; EMU_P_TRUE without one */
    bool guard_neg;
    bool aligned;         /* all live lanes of the warp must be here: the scheduler gathers them first */
    uint8_t u8[8];        /* small private settings */
    uint32_t line, col;   /* in the PTX text */
    uint32_t src_file, src_line; /* of the latest .loc; 0: none */
};

/* Row and predicate numbers with a meaning of their own. */
enum { EMU_ROW_SINK = 0 /* 4 rows */, EMU_ROW_ZERO = 4 /* 4 rows */, EMU_ROW_FIRST = 8 };
enum { EMU_P_FALSE, EMU_P_TRUE, EMU_P_SINK, EMU_P_FIRST };

static inline uint32_t *emu_row(struct emu_warp *w, uint32_t row);

/* ---- decoding ---------------------------------------------------------------------------------------------------
 * One row of insn.def per opcode:  INSN("wgmma.mma_async", wgmma_mma, EMU_NEED_90A)  names the function
 *     bool emu_decode_wgmma_mma(struct emu_decode *d, struct emu_insn *in);
 * The opcode is the longest row that is a prefix of the instruction's dotted name; what follows are its modifiers, taken
 * one by one in order. The decoder sets in->run and the fields it likes. It returns false after emu_bad. Modifiers or
 * operands that it leaves untaken are errors raised by the caller. */

enum emu_raw_kind {
    EMU_RAW_REG,    /* register, special register */
    EMU_RAW_INT,    /* integer immediate */
    EMU_RAW_F32,    /* 0f3F800000 */
    EMU_RAW_F64,    /* 0d..., or a decimal literal */
    EMU_RAW_SYM,    /* variable, label, with offset */
    EMU_RAW_VEC,    /* {a, b, ...} */
    EMU_RAW_MEM,    /* [base+offset] or [base, {a, ...}] (n elements) or [base, {..}, {..}] */
    EMU_RAW_SINK,   /* _ */
};
struct emu_raw {
    enum emu_raw_kind kind;
    uint32_t line, col;
    const char *name;      /* interned: register, symbol; MEM: its base, NULL when absolute */
    bool neg;              /* !p, or -r */
    uint64_t bits;         /* immediates */
    int64_t offset;        /* SYM, MEM */
    struct emu_raw *elem;  /* VEC, MEM's coordinates */
    int n;
    struct emu_raw *pair;  /* p|q: the second */
    bool used;
    struct emu_register *reg;       /* REG: what it names; NULL for a special register */
    int sreg;                       /* its index, or -1 */
    const struct emu_scope *scope;  /* where a label is looked up */
};
struct emu_decode {
    struct emu_module *module;
    struct emu_entry *entry;
    struct arena *arena;   /* the module's: what in->x points to */
    const char *text;      /* the dotted name, for messages */
    const char *const *mod;
    int nmod, at;          /* modifiers; the next one */
    struct emu_raw *op;
    int nop;
    uint32_t line, col;
};

bool emu_bad(struct emu_decode *d, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* always false */
bool emu_need(struct emu_decode *d, enum emu_need need, const char *what);
bool emu_mod(struct emu_decode *d, const char *name);    /* takes the next modifier if it is `name` */
const char *emu_mod_peek(const struct emu_decode *d);    /* NULL at the end */
const char *emu_mod_take(struct emu_decode *d);          /* any */
int emu_mod_one_of(struct emu_decode *d, const char *const *names); /* index in a NULL-ended list; -1: none taken */
enum emu_type emu_mod_type(struct emu_decode *d);        /* EMU_T_NONE when the next is no type */
bool emu_mods_done(struct emu_decode *d);                /* all taken, else error */
/* sem (.relaxed .acquire .release .acq_rel .weak .volatile .sc) and scope (.cta .cluster .gpu .sys), both optional */
void emu_mod_sem_scope(struct emu_decode *d);

/* Operands. i counts from 0. bits: 16 takes .b8 and .b16 registers, 32, 64, 128. All return false after an error. */
bool emu_dst(struct emu_decode *d, int i, int bits, uint32_t *row);
bool emu_src(struct emu_decode *d, int i, enum emu_type t, uint32_t *row); /* register, immediate or symbol address */
/* Where a register may be wider than the type (ld, st, cvt): *bits receives the register's width. */
bool emu_dst_wide(struct emu_decode *d, int i, int min_bits, uint32_t *row, int *bits);
bool emu_src_wide(struct emu_decode *d, int i, enum emu_type t, uint32_t *row, int *bits);
bool emu_dst_pred(struct emu_decode *d, int i, uint32_t *p);               /* a lone p; `_` gives EMU_P_SINK */
bool emu_src_pred(struct emu_decode *d, int i, uint32_t *p, bool *neg);    /* p, !p, or an immediate 0/1 */
bool emu_imm(struct emu_decode *d, int i, int64_t *v);                     /* an immediate it must be */
bool emu_is_imm(const struct emu_decode *d, int i);
/* {..} of exactly n registers (n <= 0: any number, stored in *got): rows in the module's arena. A single register counts as {r}. */
bool emu_dst_vec(struct emu_decode *d, int i, int n, int bits, const uint32_t **rows, int *got);
bool emu_src_vec(struct emu_decode *d, int i, int n, enum emu_type t, const uint32_t **rows, int *got);
/* [register or symbol + offset]. wide: the row holds 64-bit addresses. */
struct emu_addr {
    uint32_t row;
    bool wide, local; /* local: the base is a variable in local memory, as .param variables of a body are */
    int64_t offset;
};
bool emu_mem(struct emu_decode *d, int i, struct emu_addr *a);
/* The same pieces from a raw operand, for nested ones (tensor coordinates, pairs). */
struct emu_raw *emu_operand(struct emu_decode *d, int i); /* NULL after an error; marks it as used */
bool emu_raw_src(struct emu_decode *d, struct emu_raw *r, enum emu_type t, uint32_t *row);
bool emu_raw_dst(struct emu_decode *d, struct emu_raw *r, int bits, uint32_t *row);
bool emu_raw_mem(struct emu_decode *d, struct emu_raw *r, struct emu_addr *a);
bool emu_raw_dst_pred(struct emu_decode *d, struct emu_raw *r, uint32_t *p);

/* ---- modules ---------------------------------------------------------------------------------------------------- */

enum emu_space { EMU_GENERIC, EMU_GLOBAL, EMU_SHARED_CTA, EMU_SHARED_CLUSTER, EMU_PARAM, EMU_CONST, EMU_LOCAL };

struct emu_symbol {
    const char *name;
    enum emu_space space;
    uint64_t address;  /* global, const: device address; shared: offset in the block's window; param, local: offset */
    uint64_t bytes;
    uint32_t align;
    bool dynamic;      /* .extern .shared x[] */
};
struct emu_register {
    const char *name;
    enum emu_type type;
    uint32_t row; /* or predicate number; 0: not used so far */
};
/* A row that holds a constant: value, or that plus the block's place in the shared window. */
struct emu_constant {
    uint32_t row;
    uint8_t rows;
    bool shared;
    uint64_t lo, hi;
};
struct emu_sreg_use {
    uint32_t row;
    int id; /* index in the table of special registers */
};
struct emu_entry {
    const char *name;
    struct emu_insn *code;
    int n_code;
    uint32_t rows, preds;
    VEC(struct emu_constant) constants;
    VEC(struct emu_sreg_use) sregs;
    VEC(struct emu_symbol) symbols; /* parameters and the body's variables */
    uint32_t param_bytes, static_smem, dynamic_smem_at, local_bytes;
    uint32_t reqntid[3], maxntid[3], reqcluster[3], minnctapersm, maxnreg, maxclusterrank;
    bool blocks_are_clusters; /* the grid counts clusters */
    bool has_reqntid, has_maxntid, has_reqcluster, explicit_cluster, uses_dynamic;
};
struct emu_module {
    struct emu *emu;
    struct arena arena;
    int sm;      /* 80 .. 121 */
    char suffix; /* 0, 'a', 'f' */
    int version; /* 10 * major + minor */
    VEC(struct emu_entry *) entries;
    VEC(struct emu_symbol) symbols;
    VEC(const char *) files; /* .file index -> path */
    const char *text;        /* the PTX, NUL-terminated */
    VEC(uint32_t) line_start;
    VEC(uint64_t) allocations; /* module variables in global memory */
};
/* True when a module of this target may use what `need` names, and when the chip has it. */
bool emu_target_has(const struct emu_module *m, enum emu_need need);

/* ---- device memory ---------------------------------------------------------------------------------------------- */

struct emu_block {
    uint64_t address, bytes;
    uint8_t *data;
    uint64_t *init; /* one bit a byte; NULL: all initialised */
    char *name;
    bool read_only;
};
struct emu {
    struct emu_config config;
    struct buf error;
    struct emu_block **block; /* sorted by address */
    int n_block, cap_block;
    uint64_t next_address;
    uint64_t launches;
};
void emu_set_error(struct emu *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct emu_block *emu_find_block(const struct emu *e, uint64_t address); /* the block that holds it, or NULL */

/* Generic addresses: shared memory of the cluster and local memory live in windows of the 64-bit space. */
#define EMU_SHARED_WINDOW 0x0000740000000000ull
#define EMU_LOCAL_WINDOW 0x0000750000000000ull
#define EMU_PARAM_WINDOW 0x0000760000000000ull
#define EMU_WINDOW_BYTES 0x100000000ull
/* A shared address names the block by its rank: rank << 24 | offset. The first KiB of each block is the system's. */
#define EMU_RANK_SHIFT 24
#define EMU_SMEM_FIRST 1024u

/* ---- execution state -------------------------------------------------------------------------------------------- */

/* Who does something to memory: for reports. lane -1: the warp as a whole. */
struct emu_who {
    struct emu_warp *w;
    const struct emu_insn *in;
    int lane;
    bool async; /* through the async proxy: set in the operations of the queue but for cp.async */
};
#define EMU_WHO(w, in, lane) (&(const struct emu_who){(w), (in), (int)(lane), false})

enum emu_wait_kind { EMU_WAIT_NONE, EMU_WAIT_TEXT, EMU_WAIT_MBAR, EMU_WAIT_BAR, EMU_WAIT_CLUSTER, EMU_WAIT_LANES };
struct emu_wait {
    enum emu_wait_kind kind;
    const char *text;
    struct emu_cta *cta;
    uint32_t at;      /* barrier's offset or number */
    uint32_t parity;
};
/* Lanes that are together at one instruction. */
struct emu_frag {
    uint32_t mask, pc;
    bool parked;          /* blocked; asked again when the cluster's epoch has changed */
    bool expired;         /* the wait's time is up: try_wait returns false this once */
    uint64_t parked_epoch;
    uint32_t falses;      /* times a wait gave up since anything changed */
    uint64_t falses_epoch;
    struct emu_wait wait;
    bool armed;           /* the instruction has begun (arrived at a barrier) and is not to begin again */
    uint64_t ticket;      /* what an armed one waits to see change */
};
struct emu_warp {
    struct emu_cta *cta;
    int id;                 /* in the block */
    uint32_t lanes, live;   /* lanes that exist; that have not exited */
    emu_u32 *r;
    uint32_t *p;
    struct emu_frag frag[32];
    int nfrag, cur;         /* the one that runs now */
    uint8_t *local;
    uint32_t maxnreg;       /* as setmaxnreg left it */
    uint32_t cp_groups[32], bulk_groups[32]; /* groups committed so far, by lane */
    uint32_t cluster_arrived; /* lanes that have arrived at the cluster barrier and not waited */
    uint32_t cluster_ticket[32]; /* the phase they arrived in */
    struct emu_block *hit;    /* the allocation of the last global access */
    uint32_t *clock;          /* race.c: by warp of the cluster, how much of its past this warp has seen */
    uint64_t fenced[32];      /* warp step of the lane's last fence.proxy.async */
    uint64_t init_fenced;     /* of the warp's last fence that makes mbarrier.init known to the async proxy */
    void *wgmma, *tcgen05;   /* private to wgmma.c, tcgen05.c; freed through emu_warp_free hooks */
    uint32_t carry;          /* the condition code of add.cc and its kin, by lane */
    bool rotate;
};

/* mbarrier object (PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier"). */
struct emu_mbar {
    uint32_t offset;
    uint32_t expected, pending;
    int64_t tx;
    uint64_t phase;
    bool live, observed;
    uint64_t tx_done;           /* bytes completed in this phase, for reports */
    uint64_t arrived_warps, arrived_before; /* who arrived in this phase, in earlier ones: bit = warp */
    uint32_t *arrivals, *done;  /* clocks of those who arrived, in this phase and in completed ones */
    uint32_t maker, made;       /* who initialised it, and when by its clock */
    uint64_t made_step;         /* and by the cluster's warp steps */
    const struct emu_insn *init_at, *last_tx; /* where it was made; the last operation that signalled bytes */
};
struct emu_named_barrier {
    uint32_t expected, arrived; /* threads, whole warps; expected 0: every warp that is alive */
    uint64_t generation;
    uint32_t lanes[32];         /* by warp: lanes that have come while the warp is not complete */
    uint32_t *arrivals, *done;  /* clocks, as an mbarrier's */
    uint32_t popc, votes;       /* of .red: true predicates, threads */
    uint32_t result_popc, result_votes;
};
enum { EMU_MAPS = 32 };
struct emu_cta {
    struct emu_cluster *cluster;
    uint32_t rank, ctaid[3];
    uint32_t smem_end;          /* offsets EMU_SMEM_FIRST .. smem_end-1 are the block's */
    uint8_t *smem;              /* indexed by offset */
    uint64_t *smem_init;        /* one bit a byte */
    uint64_t *smem_writer;      /* by 16 bytes: who last wrote through the generic proxy: step << 16 | rank << 10 | thread; 0: nobody */
    struct emu_cell *cells;     /* race.c: one a word of shared memory */
    struct emu_warp *warp;
    int nwarps;
    uint32_t nthreads, live_threads;
    struct emu_named_barrier bar[16];
    struct emu_mbar *mbar;
    int n_mbar, cap_mbar;
    uint64_t pool_regs;         /* setmaxnreg's pool, in registers per warp */
    struct { uint32_t count; uint32_t pc; uint64_t generation; const struct emu_insn *in; } wgsync[8]; /* emu_warpgroup_sync */
    bool ended;
    struct { uint64_t address, made; } maps[EMU_MAPS]; /* tensor maps acquired by the block, as they were then (tensormap.c); */
    uint32_t n_maps;            /* how many ever were */
    void *tmem;                 /* private to tcgen05.c */
};
struct emu_cluster {
    struct emu_grid *grid;
    uint32_t id, size, id3[3];
    struct emu_cta *cta;        /* `size` of them, by rank */
    struct emu_async *head, **tail; /* outstanding asynchronous operations, oldest first */
    int n_async;
    uint64_t epoch;             /* grows whenever something happened that a blocked fragment may wait for */
    uint64_t rng;
    uint32_t barrier_phase, barrier_missing; /* cluster barrier: live threads that have not arrived */
    uint32_t *arrivals, *done;  /* clocks of the cluster barrier */
    uint32_t *strong;           /* clocks of all atomics, fences and strong stores so far */
    uint32_t live_threads;
    uint64_t quiet_since;       /* warp step of the last change */
    struct emu_stats stats;
    bool failed;
    uint32_t slot;              /* which place on the device it holds: %smid */
};
/* One launch. */
struct emu_grid {
    struct emu *emu;
    struct emu_module *module;
    struct emu_entry *entry;
    const struct emu_launch *launch;
    uint32_t ntid[3], nctaid[3], cluster[3], nclusters[3];
    uint32_t smem_end;
    const uint8_t *params;
    volatile bool failed;       /* set once, under a lock, with the first error */
    uint32_t next_cluster, n_clusters;
    bool parallel;              /* clusters run on several host threads: global atomics must be atomic */
};

static inline uint32_t *emu_row(struct emu_warp *w, uint32_t row) { return (uint32_t *)w->r + (size_t)row * 32; }
static inline emu_u64 *emu_row64(struct emu_warp *w, uint32_t row) { return (emu_u64 *)(w->r + (size_t)row * 32); }
static inline emu_f32 *emu_rowf(struct emu_warp *w, uint32_t row) { return (emu_f32 *)(w->r + (size_t)row * 32); }
static inline uint32_t emu_pred(const struct emu_warp *w, uint32_t p, bool neg) { return neg ? ~w->p[p] : w->p[p]; }
static inline void emu_set_pred(struct emu_warp *w, uint32_t p, uint32_t mask, uint32_t v)
{
    w->p[p] = (w->p[p] & ~mask) | (v & mask);
}
/* The address of one lane; 32-bit rows are zero-extended before the offset is added, the sum wraps at 32 bits. */
static inline uint64_t emu_addr_of(struct emu_warp *w, const struct emu_addr *a, uint32_t lane)
{
    if (a->wide)
        return emu_row64(w, a->row)[lane] + (uint64_t)a->offset;
    return (uint32_t)(emu_row(w, a->row)[lane] + (uint32_t)a->offset);
}

/* Remembers a write of the generic proxy, for the check of proxy fences. At most 16 bytes, or one cell's worth. */
static inline void emu_note_write(struct emu_cta *to, const struct emu_warp *w, uint32_t lane, uint32_t offset)
{
    to->smem_writer[offset / 16] = w->cta->cluster->stats.warp_steps << 16 | w->cta->rank << 10 | (uint32_t)w->id * 32 | lane;
}

/* ---- races: race.c ---- */

/* Notes an access of the generic proxy to shared memory and reports a race: another warp's access to the same bytes, one
 * of both a write, with no barrier between. `n` at most 32 bytes. */
bool emu_race_access(const struct emu_who *who, struct emu_cta *cta, uint32_t offset, uint32_t n, bool write);
/* What was noted is forgotten: the bytes were written by an asynchronous operation or atomically. */
void emu_race_forget(struct emu_cta *cta, uint32_t offset, uint32_t n);
/* The warp publishes its past: into the clocks at *to, made when NULL. It takes over what clocks hold (NULL: nothing). */
void emu_race_release(struct emu_warp *w, uint32_t **to);
void emu_race_acquire(struct emu_warp *w, const uint32_t *from);
/* The clocks of a barrier's arrivals become those of its completed phases. */
void emu_race_complete(struct emu_cluster *k, uint32_t **arrivals, uint32_t **done);
/* When, by whose clock, the warp does this; and whether another has seen it done. */
void emu_race_stamp(const struct emu_warp *w, uint32_t *maker, uint32_t *made);
bool emu_race_seen(const struct emu_warp *w, uint32_t maker, uint32_t made);
static inline bool emu_checked(const struct emu_cluster *k) { return !k->grid->emu->config.unchecked; }
/* An atomic, a fence, a strong access: whoever does one later may have seen it. */
static inline void emu_race_strong(struct emu_warp *w)
{
    emu_race_acquire(w, w->cta->cluster->strong);
    emu_race_release(w, &w->cta->cluster->strong);
}

/* ---- reports ---------------------------------------------------------------------------------------------------- */

/* Ends the launch with a report that names kernel, CTA, warp, lane, PTX line and source line. Always EMU_FAULT. */
enum emu_next emu_fault(struct emu_warp *w, const struct emu_insn *in, int lane, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* A deadlock or livelock: what every live warp of the cluster waits for. */
void emu_report_stuck(struct emu_cluster *k, const char *what);
bool emu_fault_who(const struct emu_who *who, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* always false */
/* What the current fragment waits for; then return EMU_BLOCK. `text` is static. Always EMU_BLOCK. */
enum emu_next emu_block(struct emu_warp *w, const char *text);
/* Something changed that others may wait for. Call it after anything that can unblock another fragment. */
static inline void emu_progress(struct emu_cluster *c)
{
    c->epoch++;
    c->quiet_since = c->stats.warp_steps;
}

/* ---- scheduling: sched.c ---- */

/* Lanes of the current fragment's `mask` have exited. */
/* Decoders that one file leaves to another. */
bool emu_decode_arith(struct emu_decode *d, struct emu_insn *in);
bool emu_decode_float(struct emu_decode *d, struct emu_insn *in);
bool emu_decode_print(struct emu_decode *d, struct emu_insn *in);

void emu_exit_lanes(struct emu_warp *w, uint32_t mask);
/* The members named by a mask that are alive are all in `mask`; otherwise emu_block has been called: return EMU_BLOCK. */
bool emu_gathered(struct emu_warp *w, const struct emu_insn *in, uint32_t members, uint32_t mask);
/* barrier.c: a thread's end may complete barriers. */
void emu_barrier_exit(struct emu_warp *w, uint32_t lanes);

/* ---- memory: the only functions that load and store ------------------------------------------------------------- */

/* Shared memory by block and offset (wgmma and tcgen05 descriptors, TMA destinations). n bytes, bounds checked, no
 * alignment asked. Reads of bytes never written are faults when `strict`. */
bool emu_smem_read(const struct emu_who *who, struct emu_cta *cta, uint32_t offset, void *to, uint32_t n);
bool emu_smem_write(const struct emu_who *who, struct emu_cta *cta, uint32_t offset, const void *from, uint32_t n);
/* As 0xFF bytes (a NaN in every float type) until the operation that owns the bytes writes them. */
bool emu_smem_poison(const struct emu_who *who, struct emu_cta *cta, uint32_t offset, uint32_t n);
/* A 32-bit shared address (rank << 24 | offset) to its block. align: power of two that the address must have. With
 * `space` EMU_SHARED_CTA the address must be the warp's own block's. */
bool emu_smem_at(const struct emu_who *who, enum emu_space space, uint32_t address, uint32_t align, struct emu_cta **cta,
                 uint32_t *offset);
/* Global memory by device address. */
bool emu_gmem_read(const struct emu_who *who, uint64_t address, void *to, uint32_t n);
bool emu_gmem_write(const struct emu_who *who, uint64_t address, const void *from, uint32_t n);
/* Any space; a generic address that points into a window goes there. */
bool emu_mem_load(const struct emu_who *who, enum emu_space space, uint64_t address, void *to, uint32_t n);
bool emu_mem_store(const struct emu_who *who, enum emu_space space, uint64_t address, const void *from, uint32_t n);
/* Where a lane's bytes lie on the host, checked: bounds, alignment (to n, at most 16; atomics and 32-byte accesses to
 * n), initialised when they are read. NULL after a fault. */
enum emu_use { EMU_READ = 1, EMU_WRITE = 2, EMU_UNCHECKED = 4 /* may read what was never written */,
               EMU_STRONG = 8 /* volatile, relaxed, acquire, release: races with nothing */,
               EMU_QUIET = 16 /* the caller looks for races itself */ };
uint8_t *emu_mem_at(const struct emu_who *who, enum emu_space space, uint64_t address, uint32_t n, uint32_t align,
                    unsigned use);
/* A shared-memory operand given as a 32- or 64-bit row: takes shared addresses of either width. */
uint32_t emu_shared_address(struct emu_warp *w, const struct emu_addr *a, uint32_t lane);

/* ---- mbarriers, warpgroups -------------------------------------------------------------------------------------- */

bool emu_mbar_arrive(const struct emu_who *who, struct emu_cta *cta, uint32_t offset, uint32_t n, uint64_t *token);
bool emu_mbar_expect_tx(const struct emu_who *who, struct emu_cta *cta, uint32_t offset, int64_t bytes);
bool emu_mbar_complete_tx(const struct emu_who *who, struct emu_cta *cta, uint32_t offset, int64_t bytes);

/* Gathers the four warps of a warpgroup (warp ids 4g .. 4g+3) at one `.sync.aligned` instruction. Call it first with
 * the handler's arguments: EMU_BLOCK until all four have come, then EMU_NEXT once in each warp; *last is true in exactly
 * one of them, the one that acts for all. A warp that is elsewhere at another such instruction is a fault. */
enum emu_next emu_warpgroup_sync(struct emu_warp *w, const struct emu_insn *in, uint32_t mask, bool *last);

/* ---- asynchronous operations ------------------------------------------------------------------------------------
 * An operation is made with emu_async_new, filled in, and given to emu_async_issue. EARLY: it takes effect there. LATE:
 * when a wait needs it, or when nothing else can run. SEEDED: at a random step. Taking effect means read(op), then
 * write(op), which also signals (mbarrier, group). Both return false after a fault. Poisoning destinations between issue
 * and effect is the maker's business, in issue order: emu_async_is_late says whether there is a between. */

enum emu_async_kind { EMU_ASYNC_CP, EMU_ASYNC_BULK_LOAD, EMU_ASYNC_BULK_STORE, EMU_ASYNC_WGMMA, EMU_ASYNC_TCGEN05 };
struct emu_async {
    struct emu_async *next;
    enum emu_async_kind kind;
    struct emu_who who;
    struct emu_cluster *cluster;
    bool (*read)(struct emu_async *op);  /* may be NULL */
    bool (*write)(struct emu_async *op);
    void (*drop)(struct emu_async *op);  /* frees what it owns; may be NULL */
    uint64_t order;  /* operations of one cluster with the same order (not 0) take effect in order of issue */
    uint32_t group;  /* number of the thread's or warpgroup's group it belongs to */
    uint32_t lanes;  /* lanes that issued it and are not done (cp.async) */
    uint32_t ctas;   /* loads: blocks of the cluster whose shared memory receives, a bit each */
    struct emu_cta *mbar_cta;  /* what it signals, if that is an mbarrier */
    uint32_t mbar;
    uint64_t issued_at;  /* warp step of the cluster */
    bool has_read;
    uint8_t payload[] __attribute__((aligned(16)));
};
struct emu_async *emu_async_new(const struct emu_who *who, enum emu_async_kind kind, size_t payload_bytes);
bool emu_async_issue(struct emu_async *op);
static inline bool emu_async_is_late(const struct emu_cluster *c) { return c->grid->emu->config.timing != EMU_EARLY; }
/* Makes every outstanding operation for which pick(op, arg) holds take effect (only its read when `read_only`). */
bool emu_async_force(struct emu_cluster *c, bool (*pick)(const struct emu_async *, const void *), const void *arg, bool read_only);
/* The order of a warp's cp.async and of its arrivals behind them. */
static inline uint64_t emu_cp_order(const struct emu_warp *w)
{
    return (uint64_t)1 << 60 | (uint64_t)w->cta->rank << 8 | (uint64_t)w->id;
}
/* Lets one operation take effect: one that a fragment waits for, else the oldest; a random one when `any`. */
bool emu_async_step(struct emu_cluster *c, bool any);
uint32_t emu_random(struct emu_cluster *c, uint32_t n); /* 0 .. n-1, from the launch's seed */

/* ---- hooks of the tensor-core files ------------------------------------------------------------------------------ */

/* Called when a warp or block is freed: release what its private pointers own. When every thread of a block has exited,
 * emu_tcgen05_cta_end may raise a fault through `w`: tensor memory not deallocated. */
void emu_wgmma_warp_end(struct emu_warp *w);
void emu_tcgen05_warp_end(struct emu_warp *w);
bool emu_tcgen05_cta_end(struct emu_warp *w, struct emu_cta *cta);
void emu_tcgen05_cta_free(struct emu_cta *cta);

#endif
