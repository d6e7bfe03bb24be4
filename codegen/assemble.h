/* assemble - PTX to a cubin: ptxas as a process, nvJitLink in this one, or the driver as the last resort. */
#ifndef CODEGEN_ASSEMBLE_H
#define CODEGEN_ASSEMBLE_H

#include "dsl/base.h"

/* What the assembler reports about the code it made; numbers are -1 where it does not say. */
struct assemble_report {
    int registers, stack_bytes, spill_store_bytes, spill_load_bytes, smem_bytes, barriers;
    double ms;
    char by[512]; /* "/usr/local/cuda/bin/ptxas (13.0)" */
};

enum assemble_result {
    ASSEMBLE_OK,
    ASSEMBLE_REFUSED,  /* the PTX is not accepted: a fault of the compiler, or of the one who wrote the PTX */
    ASSEMBLE_BAD_CODE, /* accepted, but it spills, or tensor-core instructions were serialised (C75xx); cubin is filled */
    ASSEMBLE_NONE,     /* no assembler for this PTX here */
    ASSEMBLE_BROKEN    /* an assembler could not be run, or did not end */
};

struct assemble_options {
    const char *target;        /* NULL: what .target says. A member of a family may be named instead: sm_121a for sm_120f */
    const char *ptxas;         /* use this one only ("nvjitlink" and "driver" name those); NULL: $DGC_PTXAS, else look */
    const char *extra;         /* more options, separated by blanks; NULL: none */
    bool line_info;
    bool accept_bad_code;      /* ASSEMBLE_OK where it would be ASSEMBLE_BAD_CODE */
    int timeout_ms;            /* 0: 120 s */
    const char *save_ptx;      /* also leave the PTX here */
    /* The driver's assembler, if this program has one: fills *cubin (malloc), appends to log; false when it cannot. */
    bool (*driver)(const char *ptx, size_t n, const char *target, bool line_info, void **cubin, size_t *bytes, struct buf *log);
};

/* *cubin is malloc'ed. `log` receives what the assembler said, or what to install. */
enum assemble_result assemble(const char *ptx, size_t n, const struct assemble_options *o, void **cubin, size_t *bytes,
                              struct assemble_report *report, struct buf *log);

/* The ptxas that would be taken for PTX of this ISA version ("8.8"; NULL: any): path and release, as in "13.0".
 * False when there is none. Looked for in this order, the first that is new enough wins: `forced` (an option), $DGC_PTXAS,
 * $CUDA_HOME and $CUDA_PATH, $PATH, packages of python3, $CONDA_PREFIX, /usr/local/cuda*. */
bool assemble_find(const char *forced, const char *isa, char *path, size_t room, char *release, size_t release_room);
/* Every ptxas on this machine with its release, a line each, in that order. */
void assemble_list(struct buf *out);

/* Reads `ptxas -v` output; true when it reports spills or C75xx. */
bool assemble_read_report(const char *text, struct assemble_report *r);
/* "8.8" -> 1209: the CUDA release that came with a PTX ISA version, 100 * major + minor. */
int assemble_release_for(const char *isa);

/* Runs argv (found through PATH) with stdout and stderr to `out`. The exit status; -1 it could not start, -2 it was
 * stopped after timeout_ms. */
int assemble_spawn(char *const argv[], int timeout_ms, struct buf *out);

#endif
