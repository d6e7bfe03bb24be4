/* dgk.h - libdgk: kernels written in .dgk files, compiled when they are first called, run on a GPU or on the emulator.
 *
 *     dgk_context *c;
 *     dgk_kernel *gemm;
 *     dgk_open(&c, "cuda:0");                                     // or "emu:sm_90a": no GPU needed
 *     dgk_load(c, "bf16_gemm.dgk", NULL, &gemm);
 *     dgk_value v[] = { dgk_of(&a), dgk_of(&b), dgk_of(&d) };     // in the order of the kernel's signature
 *     if (dgk_call(gemm, v, 3, stream)) fprintf(stderr, "%s\n", dgk_error());
 *
 * Every function may be called from any thread. Functions that return int return a dgk_status: 0 is success, and
 * dgk_error() has the whole text of the calling thread's last failure. */
#ifndef DGK_H
#define DGK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DGK_VERSION "0.1.0"
#define DGK_ABI 1 /* grows when a struct of this file changes */
int dgk_abi(void);
const char *dgk_version(void);

/* The text of this thread's last failure; "" when there was none. */
const char *dgk_error(void);
/* "BAD_SHAPE" */
const char *dgk_status_name(int status);

/* ---- contexts ------------------------------------------------------------------------------------------------ */

typedef struct dgk_context dgk_context;

/* device: "cuda", "cuda:1", "emu", "emu:sm_90a", "emu:sm_90a,sms=8,seed=7"; NULL: $DGC_DEVICE, else "cuda:0".
 * A context of a GPU uses the device's primary context, as the CUDA runtime does; pointers and streams are shared with it. */
int dgk_open(dgk_context **out, const char *device);
/* Waits for the device and frees everything; kernels of the context are gone with it. */
void dgk_close(dgk_context *c);

typedef struct dgk_device_info {
    char name[128], arch[16], target[16]; /* "NVIDIA H200", "sm_90", and what kernels are compiled for: "sm_90a" */
    int32_t sms, emulated;
    uint64_t memory_bytes, smem_bytes;
} dgk_device_info;
void dgk_info(dgk_context *c, dgk_device_info *out);

/* How many multiprocessors kernels with persistent grids may occupy; 0: all. */
int dgk_set_sms(dgk_context *c, int sms);
int dgk_get_sms(dgk_context *c);

/* Whether launches from now on may overlap with the kernel before them in their stream (programmatic dependent launch): a kernel then
 * sets itself up while that one still runs, and touches no memory of tensors until it has ended. Off at first; no effect before sm_90. */
int dgk_set_pdl(dgk_context *c, int on);
int dgk_get_pdl(dgk_context *c);

/* Memory of the device, for programs that have no other source of it. dgk_alloc: 0 when it fails. */
uint64_t dgk_alloc(dgk_context *c, size_t bytes);
void dgk_free(dgk_context *c, uint64_t address);
int dgk_write(dgk_context *c, uint64_t to, const void *from, size_t bytes);
int dgk_read(dgk_context *c, void *to, uint64_t from, size_t bytes);
int dgk_sync(dgk_context *c);

/* ---- tensors ------------------------------------------------------------------------------------------------- */

#define DGK_RANK 8
enum dgk_place { DGK_HOST, DGK_DEVICE };

/* Shapes and strides count elements. Two e2m1 share a byte; a tensor of u8 or i8 may be passed where a kernel takes e2m1,
 * it then counts bytes, and u8 or u16 where it takes a narrow float: they hold the bits. */
typedef struct dgk_tensor {
    uint64_t data;          /* where element [0, …, 0] is: an address of the device, or a pointer to host memory */
    int32_t type;           /* of dgk_type() */
    int32_t place;          /* DGK_HOST: copied to the device and back by the call, which then waits */
    int32_t rank, reserved;
    int64_t shape[DGK_RANK], stride[DGK_RANK];
} dgk_tensor;

/* The number of a type: "bf16", "e4m3", "f32", "i32"; 0 when there is none. Stable from release to release. */
int dgk_type(const char *name);
const char *dgk_type_name(int type);
/* Bits an element takes. */
int dgk_type_bits(int type);
/* Of a DLTensor (DLPack 1.x, dlpack.h); the memory stays the owner's. */
int dgk_from_dlpack(dgk_tensor *out, const void *dltensor);

/* ---- kernels ------------------------------------------------------------------------------------------------- */

typedef struct dgk_kernel dgk_kernel;

/* What is fixed for every call. Entries of `fixed` read NAME=VALUE: a parameter ("ACC=1", "OUT=f32"), a dimension
 * ("N=4096"), a tune value ("BM=128", "slots(c)=2"), or which dimension has stride 1 ("inner(A)=0"). What is not fixed
 * follows from each call: types from the tensors' types, the inner dimension from strides, dimensions from shapes,
 * tune values from the shapes and the device. */
typedef struct dgk_options {
    const char *kernel;             /* NULL: the only kernel of the file, else the last */
    const char *const *fixed;
    int n_fixed;
    const char *const *import_dirs; /* where imports are looked up after the importing file's folder */
    int n_import_dirs;
    const char *specialize;         /* dimensions compiled in as constants, "N,K"; NULL: those that must be */
    const char *symbol;             /* the entry's name, as profilers show it; NULL: the kernel's */
} dgk_options;

/* Parses and checks; nothing is compiled yet. options may be NULL. */
int dgk_load(dgk_context *c, const char *path, const dgk_options *options, dgk_kernel **out);
/* The same for text in memory; `name` stands for a path in messages. */
int dgk_load_text(dgk_context *c, const char *name, const char *text, size_t bytes, const dgk_options *options, dgk_kernel **out);
/* Waits for nothing: no call of the kernel may be in flight. */
void dgk_unload(dgk_kernel *k);

/* A kernel's slots: its arguments in the order of the source, then its parameters, then its dimensions. */
enum dgk_slot_kind { DGK_SLOT_TENSOR, DGK_SLOT_SCALAR, DGK_SLOT_PARAM, DGK_SLOT_DIM };
typedef struct dgk_slot {
    const char *name;
    int32_t kind, writes; /* writes: 0 in, 1 out, 2 inout */
    int32_t type, rank;   /* type: 0 where a parameter decides it */
} dgk_slot;
int dgk_slots(dgk_kernel *k);
int dgk_slot_at(dgk_kernel *k, int i, dgk_slot *out);
int dgk_slot_find(dgk_kernel *k, const char *name); /* -1: there is none */

/* What a call passes in a slot: a tensor, or a number for scalars, integer parameters and dimensions. */
typedef struct dgk_value {
    const dgk_tensor *tensor;
    int64_t integer;
    double real;
    int32_t given, reserved; /* numbers: 1 when passed */
} dgk_value;
static inline dgk_value dgk_of(const dgk_tensor *t) { dgk_value v = { t, 0, 0, t != NULL, 0 }; return v; }
static inline dgk_value dgk_int(int64_t i) { dgk_value v = { NULL, i, (double)i, 1, 0 }; return v; }
static inline dgk_value dgk_real(double r) { dgk_value v = { NULL, (int64_t)r, r, 1, 0 }; return v; }

/* One launch on `stream` (a CUstream or cudaStream_t; NULL: the legacy default stream). values[i] belongs to slot i; slots
 * from n on are not given. Returns when the launch is queued; with host tensors, when results have arrived.
 * The first call with new types, layouts or compiled-in sizes compiles; later ones only launch. While `stream` is being
 * captured nothing is compiled: a kernel that was not called before is an error that says so. */
int dgk_call(dgk_kernel *k, const dgk_value *values, int n, void *stream);
/* Compiles and prepares what such a call needs, and launches nothing. */
int dgk_prepare(dgk_kernel *k, const dgk_value *values, int n);
/* The shape an output must have in such a call (its own slot not given); rank numbers. */
int dgk_shape(dgk_kernel *k, const dgk_value *values, int n, int slot, int64_t *shape);

/* What the kernel became for such a call, as `dgc explain` shows it. The text is the caller's to dgk_release. */
int dgk_explain(dgk_kernel *k, const dgk_value *values, int n, char **text);
/* Runs such a call on copies in host memory and compares with the kernel's spec: values must be host tensors. *text, which
 * may be NULL, gets a line a spec. Returns MISMATCH where it differs. */
int dgk_check(dgk_kernel *k, const dgk_value *values, int n, char **text);
/* `dgc test`: random shapes and data against the spec, on the kernel's device. */
int dgk_test(dgk_kernel *k, int cases, uint64_t seed, char **text);
void dgk_release(char *text);

/* Counts since the kernel was loaded, so that tests can prove which way a call went. */
typedef struct dgk_counts {
    uint64_t calls, prepared, compiled, from_cache, encoded_maps;
} dgk_counts;
void dgk_count(dgk_kernel *k, dgk_counts *out);

/* ---- plans --------------------------------------------------------------------------------------------------- */

/* A call with everything decided but the addresses: it owns its scratch memory and counters, so several plans may run at
 * once. dgk_run allocates nothing, compiles nothing and waits for nothing; it may be captured into a CUDA graph. */
typedef struct dgk_plan dgk_plan;
int dgk_plan_call(dgk_kernel *k, const dgk_value *values, int n, dgk_plan **out);
/* addresses[i] belongs to slot i; NULL: the addresses the plan was made with. */
int dgk_run(dgk_plan *p, const uint64_t *addresses, int n, void *stream);
void dgk_plan_free(dgk_plan *p);

/* ---- operators ----------------------------------------------------------------------------------------------- *
 * The kernels that come with dgk, as plans: tensors lie on the device, dgk_run's addresses are in the order of the arguments
 * here. A plan of an empty result runs nothing. Layouts follow from strides. The kernels are looked for in $DGK_KERNELS, beside
 * the library, in ../share/dgc/kernels_dsl and ../kernels_dsl. */

/* d [m, n] = a [m, k] b [n, k]^T, plus d where accumulate: bf16, d bf16 or f32. k and n are multiples of 8. */
int dgk_gemm(dgk_context *c, const dgk_tensor *a, const dgk_tensor *b, const dgk_tensor *d, int accumulate, dgk_plan **out);
/* The same in e4m3 with scales of f32 or ue8m0: sa [k / gran_k, m], sb [ceil(n / gran_n), k / gran_k]; gran_n is 1 or 128,
 * gran_k 32 or 128. k is a multiple of 128; scales lie in rows of whole 16 bytes, either dimension contiguous. */
int dgk_fp8_gemm(dgk_context *c, const dgk_tensor *a, const dgk_tensor *sa, const dgk_tensor *b, const dgk_tensor *sb, const dgk_tensor *d, int gran_n,
                 int gran_k, int accumulate, dgk_plan **out);
/* logits [s, t] = sf[t] * sum over h of weights[s, h] * max(0, q[s, h] . kv[t]) where start[s] <= t < end[s].
 * compressed: row s begins at its start. clean: -inf outside; else what is there stays. */
int dgk_mqa_logits(dgk_context *c, const dgk_tensor *q, const dgk_tensor *kv, const dgk_tensor *sf, const dgk_tensor *weights, const dgk_tensor *start,
                   const dgk_tensor *end, const dgk_tensor *logits, int compressed, int clean, dgk_plan **out);
/* The schedule of a paged batch: lens [batch, next_n] to metadata [shares + 1, 2]. */
int dgk_paged_mqa_metadata(dgk_context *c, const dgk_tensor *lens, const dgk_tensor *metadata, dgk_plan **out);
/* q [batch, next_n, h, dim], kv [pages, page, dim], sf [pages, page], weights [batch, next_n, h], table [batch, most pages],
 * logits [batch, next_n, t]: columns below the last of a request's lens are written. */
int dgk_paged_mqa_logits(dgk_context *c, const dgk_tensor *q, const dgk_tensor *kv, const dgk_tensor *sf, const dgk_tensor *weights, const dgk_tensor *lens,
                         const dgk_tensor *table, const dgk_tensor *metadata, const dgk_tensor *logits, dgk_plan **out);
/* The same for requests of any number of tokens each: a run of equal neighbours in indices [tokens], any numbers, is one request.
 * Its keys are as many as the len of its last token says, in the pages of its first token's row; all its tokens get them all. */
int dgk_paged_mqa_metadata_varlen(dgk_context *c, const dgk_tensor *lens, const dgk_tensor *indices, const dgk_tensor *metadata, dgk_plan **out);
/* q [tokens, h, dim], weights [tokens, h], lens and indices [tokens], table [tokens, most pages], logits [tokens, t]. */
int dgk_paged_mqa_logits_varlen(dgk_context *c, const dgk_tensor *q, const dgk_tensor *kv, const dgk_tensor *sf, const dgk_tensor *weights,
                                const dgk_tensor *lens, const dgk_tensor *indices, const dgk_tensor *table, const dgk_tensor *metadata,
                                const dgk_tensor *logits, dgk_plan **out);
/* scales [g, m, q] of f32 to [g, q, m]. */
int dgk_transpose_scales(dgk_context *c, const dgk_tensor *scales, const dgk_tensor *to, dgk_plan **out);
/* scales [g, m, q] of f32, powers of two, to the bytes of their exponents, packed [g, ceil(q / 4), m, 4] of u8. */
int dgk_pack_ue8m0(dgk_context *c, const dgk_tensor *scales, const dgk_tensor *packed, dgk_plan **out);

#ifdef __cplusplus
}
#endif
#endif
