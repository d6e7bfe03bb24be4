/* Random programs: element-wise arithmetic, masks, reductions and layouts drawn at random, every operation exactly rounded,
 * so that the emulator's result must have the very bits that the spec says. A program that fails is printed. */
#include "runtime/oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
enum { PROGRAMS = 12 };
#else
enum { PROGRAMS = 64 };
#endif

/* On the emulator, and on a Hopper GPU where $DGC_TEST_DEVICE says "cuda". */
static const char *const targets[] = { "sm_90a", "sm_80", "sm_89", "sm_120a", "sm_100a" };

struct maker {
    uint64_t seed;
    struct buf out;
    bool row; /* leaves over i alone */
};

static int pick(struct maker *m, int n) { return (int)(oracle_random(&m->seed) % (uint64_t)n); }

__attribute__((format(printf, 2, 3)))
static void put(struct maker *m, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_printf(&m->out, "%s", text);
}

static void integer(struct maker *m, int depth);
static void condition(struct maker *m, int depth);

static void float_leaf(struct maker *m)
{
    static const char *const leaves[] = { "R[i]", "f32(i)", "SCALE", "0.75", "-3.0", "X[i, j]", "f32(C[j])", "f32(j)", "X[i, j]" };
    put(m, "%s", leaves[pick(m, m->row ? 5 : COUNT(leaves))]);
}

static void real(struct maker *m, int depth)
{
    static const char *const binary[] = { "+", "-", "*", "/" };
    static const char *const calls[] = { "min", "max" };
    static const char *const casts[] = { "bf16", "f16", "e4m3", "e5m2" };
    if (depth <= 0) {
        float_leaf(m);
        return;
    }
    int k = pick(m, 12);
    if (k < 5) {
        put(m, "(");
        real(m, depth - 1);
        put(m, " %s ", binary[pick(m, COUNT(binary))]);
        real(m, depth - 1);
        put(m, ")");
    } else if (k < 7) {
        put(m, "%s(", calls[pick(m, COUNT(calls))]);
        real(m, depth - 1);
        put(m, ", ");
        real(m, depth - 1);
        put(m, ")");
    } else if (k == 7) {
        put(m, "f32(%s(", casts[pick(m, COUNT(casts))]);
        real(m, depth - 1);
        put(m, "))");
    } else if (k == 8) {
        put(m, "fma(");
        for (int i = 0; i < 3; i++) {
            real(m, depth - 1);
            put(m, i < 2 ? ", " : ")");
        }
    } else if (k == 9) {
        put(m, "sqrt(abs(");
        real(m, depth - 1);
        put(m, "))");
    } else if (k == 10) {
        put(m, "f32(");
        integer(m, depth - 1);
        put(m, ")");
    } else {
        put(m, "(");
        condition(m, depth - 1);
        put(m, " ? ");
        real(m, depth - 1);
        put(m, " : ");
        real(m, depth - 1);
        put(m, ")");
    }
}

static void integer_leaf(struct maker *m)
{
    static const char *const leaves[] = { "i", "Q[i]", "COUNT", "7", "-100", "j", "Y[i, j]", "i32(B[j])", "Y[i, j]" };
    put(m, "%s", leaves[pick(m, m->row ? 5 : COUNT(leaves))]);
}

static void integer(struct maker *m, int depth)
{
    static const char *const binary[] = { "+", "-", "*", "&", "|", "^" };
    static const char *const calls[] = { "min", "max" };
    if (depth <= 0) {
        integer_leaf(m);
        return;
    }
    int k = pick(m, 12);
    if (k < 4) {
        put(m, "(");
        integer(m, depth - 1);
        put(m, " %s ", binary[pick(m, COUNT(binary))]);
        integer(m, depth - 1);
        put(m, ")");
    } else if (k < 6) {
        put(m, "(");
        integer(m, depth - 1);
        put(m, pick(m, 2) ? " / %d)" : " %% %d)", 1 + pick(m, 40));
    } else if (k == 6) {
        put(m, "(");
        integer(m, depth - 1);
        put(m, pick(m, 2) ? " >> %d)" : " << %d)", pick(m, 32));
    } else if (k == 7) {
        put(m, "%s(", calls[pick(m, COUNT(calls))]);
        integer(m, depth - 1);
        put(m, ", ");
        integer(m, depth - 1);
        put(m, ")");
    } else if (k == 8) {
        put(m, pick(m, 2) ? "popc(" : "clz(");
        integer(m, depth - 1);
        put(m, ")");
    } else if (k == 9) {
        put(m, "i32(");
        real(m, depth - 1);
        put(m, ")");
    } else if (k == 10) {
        put(m, "i32(bits(");
        real(m, depth - 1);
        put(m, ") >> 3)");
    } else {
        put(m, "(");
        condition(m, depth - 1);
        put(m, " ? ");
        integer(m, depth - 1);
        put(m, " : ");
        integer(m, depth - 1);
        put(m, ")");
    }
}

static void condition(struct maker *m, int depth)
{
    static const char *const compare[] = { "<", "<=", ">", ">=", "==", "!=" };
    static const char *const join[] = { "&&", "||" };
    int k = pick(m, depth > 0 ? 4 : 2);
    if (k == 3) {
        put(m, "(");
        condition(m, depth - 1);
        put(m, " %s ", join[pick(m, 2)]);
        condition(m, depth - 1);
        put(m, ")");
        return;
    }
    put(m, "(");
    if (k == 1) real(m, depth - 1);
    else integer(m, depth - 1);
    put(m, " %s ", compare[pick(m, COUNT(compare))]);
    if (k == 1) real(m, depth - 1);
    else integer(m, depth - 1);
    put(m, ")");
}

static char *drawn(struct maker *m, void (*what)(struct maker *, int), int depth, bool row)
{
    struct buf keep = m->out;
    m->out = (struct buf){ 0 };
    m->row = row;
    what(m, depth);
    char *text = m->out.at;
    m->out = keep;
    return text;
}

/* A kernel that computes what its specs say, by a way drawn at random: straight from memory, through a pipe, or by tiles
 * that are kept. */
static void program(struct maker *m)
{
    char *f = drawn(m, real, 3, false), *g = drawn(m, integer, 3, false), *mask = drawn(m, condition, 1, false);
    char *part = drawn(m, integer, 2, false), *top = drawn(m, real, 2, false), *row = drawn(m, real, 2, true);
    int bm = 8 << pick(m, 3), bn = 8 << pick(m, 4), way = pick(m, 3);
    put(m, "kernel r(in f32 X[M, N], in i32 Y[M, N], in f32 R[M], in i32 Q[M], in bf16 C[N], in u8 B[N], in f32 SCALE, in i32 COUNT,\n"
           "         out f32 F[M, N], out i32 G[%s], out i32 S[M], out f32 T[M])\n{\n", way == 1 ? "N, M" : "M, N");
    buf_printf(&m->out, "    spec F[i, j] = %s where %s exact;\n", f, mask);
    buf_printf(&m->out, "    spec G[%s] = %s exact;\n", way == 1 ? "j, i" : "i, j", g);
    buf_printf(&m->out, "    spec S[i] = sum(j: %s + Y[i, j]) exact;\n", part);
    buf_printf(&m->out, "    spec T[i] = max(max(j: %s - X[i, j]), %s) exact;\n", top, row);
    put(m, "    axis i = M by %d, j = N by %d;\n    grid %s(i);\n", bm, bn, pick(m, 2) ? "persistent " : "");
    if (way == 2) put(m, "    pipe p[2] { f32 x[i, j]; i32 y[i, j]; }\n    role load { for j produce p { x = X[i, j]; y = Y[i, j]; } }\n");
    put(m, "    role work {\n        i32 s[i] = 0; f32 t[i] = -inf;\n        for j %s{\n", way == 2 ? "consume p " : "");
    if (way == 2) put(m, "            f32 v[i, j] = x[i, j]; i32 w[i, j] = y[i, j];\n");
    buf_printf(&m->out, "            F[i, j] = %s where %s;\n", f, mask);
    buf_printf(&m->out, "            G[%s] = %s;\n", way == 1 ? "j, i" : "i, j", g);
    buf_printf(&m->out, "            s[i] += sum(j: %s + Y[i, j]);\n            t[i] = max(t[i], max(j: %s - X[i, j]));\n", part, top);
    buf_printf(&m->out, "        }\n        S[i] = s[i];\n        T[i] = max(t[i], %s);\n    }\n}\n", row);
    free(f), free(g), free(mask), free(part), free(top), free(row);
}

/* In a kernel that consumes, X and Y of the body are the slots' tiles. */
static void use_slots(struct buf *b)
{
    char *body = strstr(b->at, "i32 w[i, j] = y[i, j];");
    if (!body) return;
    for (char *p = body; (p = strstr(p, "X[i, j]")); p++) *p = 'v';
    for (char *p = body; (p = strstr(p, "Y[i, j]")); p++) *p = 'w';
}

int main(void)
{
    int passed = 0, failed = 0;
    char path[] = "/tmp/dgc_random_XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) {
        printf("0 passed, 1 failed\n");
        return 1;
    }
    close(fd);
    const char *device = getenv("DGC_TEST_DEVICE") ? getenv("DGC_TEST_DEVICE") : "emu";
    int n_targets = strncmp(device, "emu", 3) ? 3 : COUNT(targets);
    for (int i = 0; i < PROGRAMS; i++) {
        struct maker m = { .seed = 1000 + (uint64_t)i };
        struct buf out = { 0 };
        program(&m);
        use_slots(&m.out);
        write_file(path, m.out.at, m.out.n);
        struct oracle_options o = { .path = path, .target = targets[i % n_targets], .device = device, .seed = (uint64_t)i, .cases = 2 };
        struct oracle_result r = oracle_test(&o, &out);
        bool ok = !r.failed && !r.skipped && r.cases;
        if (!ok && failed < 5) printf("program %d on %s:\n%s%s", i, o.target, m.out.at, out.at);
        passed += ok;
        failed += !ok;
        buf_free(&out);
        buf_free(&m.out);
    }
    unlink(path);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
