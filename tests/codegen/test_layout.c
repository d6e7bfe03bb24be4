/* Layouts hold the elements that the PTX ISA's fragment tables say, for every lane and register; blocked layouts cover
 * their tile once; projections agree with the layout they come from. */
#include "codegen/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;
#define CHECK(c) do { if (c) passed++; else failed++, printf("%s:%d: %s\n", __FILE__, __LINE__, #c); } while (0)

/* Coordinate on axis a of (register, lane, warp). */
static int coord(const struct layout *l, int r, int lane, int warp, int a)
{
    int n[3] = { r, lane, warp }, at = 0;
    for (int i = 0; i < l->n; i++) {
        const struct lay_digit *d = &l->digit[i];
        if (d->axis == a) at += n[d->place] % d->extent * d->stride;
        n[d->place] /= d->extent;
    }
    return at;
}

static struct ir_axis axis(const char *name, int tile)
{
    return (struct ir_axis){ .name = name, .tile = tile };
}

static void test_mma(struct arena *a)
{
    struct ir_axis i = axis("i", 128), j = axis("j", 64), *m[] = { &i }, *n[] = { &j };
    struct layout *l = layout_mma(a, m, 1, n, 1, 2, 2, 4, 4); /* warps of 64 x 32 */
    bool right = layout_regs(l) == 64 && layout_warps(l) == 4;
    for (int w = 0; w < 4; w++)
        for (int lane = 0; lane < 32; lane++)
            for (int r = 0; r < 64; r++) {
                int atom_n = r / 4 % 4, atom_m = r / 16, k = r % 4;
                right &= coord(l, r, lane, w, 0) == w % 2 * 64 + atom_m * 16 + lane / 4 + 8 * (k / 2);
                right &= coord(l, r, lane, w, 1) == w / 2 * 32 + atom_n * 8 + lane % 4 * 2 + k % 2;
            }
    CHECK(right);
    CHECK(l->extent[0] == 128 && l->extent[1] == 64);
    struct buf b = { 0 };
    layout_print(l, &b);
    CHECK(!strcmp(b.at, "reg (2:j*1 2:i*8 4:j*8 4:i*16) lane (4:j*2 8:i*1) warp (2:i*64 2:j*32)"));
    buf_free(&b);
}

static void test_wgmma(struct arena *a)
{
    struct ir_axis i = axis("i", 256), j = axis("j", 48), *m[] = { &i }, *n[] = { &j };
    struct layout *l = layout_wgmma(a, m, 1, n, 1, false, 2, 2);
    bool right = layout_regs(l) == 48 && layout_warps(l) == 8;
    for (int w = 0; w < 8; w++)
        for (int lane = 0; lane < 32; lane++)
            for (int r = 0; r < 48; r++) {
                int b = r / 24, k = r % 24, g = lane / 4, q = lane % 4;
                right &= coord(l, r, lane, w, 0) == (b * 2 + w / 4) * 64 + 16 * (w % 4) + g + 8 * (k / 2 % 2);
                right &= coord(l, r, lane, w, 1) == 8 * (k / 4) + 2 * q + k % 2;
            }
    CHECK(right);
}

static void test_tmem(struct arena *a)
{
    struct ir_axis i = axis("i", 256), j = axis("j", 64), *m[] = { &i }, *n[] = { &j };
    struct layout *l = layout_tmem(a, m, 1, n, 1, 8);
    bool right = layout_regs(l) == 64 && layout_warps(l) == 8;
    for (int w = 0; w < 8; w++)
        for (int lane = 0; lane < 32; lane++)
            for (int r = 0; r < 64; r++) {
                right &= coord(l, r, lane, w, 0) == lane + 32 * (w % 4) + 128 * (r / 32);
                right &= coord(l, r, lane, w, 1) == r % 32 + 32 * (w / 4);
            }
    CHECK(right);
    i.tile = 64;
    l = layout_tmem(a, m, 1, n, 1, 4);
    right = layout_replicated(l);
    for (int w = 0; w < 4; w++)
        for (int lane = 0; lane < 16; lane++) right &= coord(l, 0, lane, w, 0) == lane + 16 * w;
    CHECK(right);
    struct ir_axis q = axis("q", 3), h = axis("h", 16), *two[] = { &q, &h }; /* half of 48 is no whole number of 16 */
    l = layout_tmem(a, m, 1, two, 2, 8);
    right = layout_tmem_run(two, 2, 8) == 8 && layout_regs(l) == 24;
    for (int w = 0; w < 8; w++)
        for (int r = 0; r < 24; r++) {
            right &= coord(l, r, 0, w, 1) == r / 8;
            right &= coord(l, r, 0, w, 2) == r % 8 + 8 * (w / 4);
        }
    CHECK(right);
}

/* A side over two axes: digits split where they pass from one to the other. */
static void test_flat(struct arena *a)
{
    struct ir_axis t = axis("t", 64), r = axis("r", 2), h = axis("h", 32), *m[] = { &t }, *n[] = { &r, &h };
    struct layout *l = layout_wgmma(a, m, 1, n, 2, false, 1, 1);
    bool right = l && layout_regs(l) == 32;
    for (int lane = 0; lane < 32 && right; lane++)
        for (int k = 0; k < 32; k++)
            right &= coord(l, k, lane, 0, 1) * 32 + coord(l, k, lane, 0, 2) == 8 * (k / 4) + lane % 4 * 2 + k % 2;
    CHECK(right);
    l = layout_wgmma(a, m, 1, n, 2, true, 1, 1); /* columns h/2, r, h%2 */
    right = l && layout_regs(l) == 32;
    for (int lane = 0; lane < 32 && right; lane++)
        for (int k = 0; k < 32; k++) {
            int column = 8 * (k / 4) + lane % 4 * 2 + k % 2;
            right &= coord(l, k, lane, 0, 1) == column / 2 % 2 && coord(l, k, lane, 0, 2) == column / 4 * 2 + column % 2;
        }
    CHECK(right);
    struct ir_axis g = axis("g", 10), *bad[] = { &r, &g };
    CHECK(!layout_wgmma(a, m, 1, bad, 2, false, 1, 1));
}

/* Every element of the tile is held, and by one thread only but for replicas. */
static bool covers(const struct layout *l, int warps)
{
    int size = 1;
    for (int a = 0; a < l->naxes; a++) size *= l->extent[a];
    int *seen = calloc((size_t)size, sizeof *seen), copies = 32 * warps * layout_regs(l) / size;
    for (int w = 0; w < warps; w++)
        for (int lane = 0; lane < 32; lane++)
            for (int r = 0; r < layout_regs(l); r++) {
                int at = 0;
                for (int a = 0; a < l->naxes; a++) at = at * l->extent[a] + coord(l, r, lane, w, a);
                seen[at]++;
            }
    bool good = layout_warps(l) == warps;
    for (int i = 0; i < size; i++) good &= seen[i] == copies;
    for (int a = 0; a < l->naxes; a++) good &= l->extent[a] >= l->axes[a]->tile;
    free(seen);
    return good;
}

static void test_blocked(struct arena *a)
{
    static const int shapes[][4] = { /* rows, columns, vec, warps */
        { 128, 64, 8, 4 }, { 1, 3, 4, 1 }, { 64, 96, 4, 8 }, { 5, 7, 1, 3 }, { 1, 4096, 4, 4 }, { 300, 1, 4, 6 }, { 2, 2, 2, 12 },
    };
    for (int s = 0; s < COUNT(shapes); s++)
        for (int inner = 0; inner < 2; inner++) {
            struct ir_axis i = axis("i", shapes[s][0]), j = axis("j", shapes[s][1]), *x[] = { &i, &j };
            CHECK(covers(layout_blocked(a, x, 2, inner, shapes[s][2], shapes[s][3]), shapes[s][3]));
        }
    struct ir_axis i = axis("i", 128), j = axis("j", 64), *x[] = { &i, &j };
    struct layout *l = layout_blocked(a, x, 2, 1, 8, 4);
    CHECK(coord(l, 1, 0, 0, 1) == 1 && coord(l, 0, 1, 0, 1) == 8 && coord(l, 0, 8, 0, 0) == 1);
    l = layout_blocked(a, x, 0, 0, 1, 4);
    CHECK(layout_regs(l) == 1 && layout_warps(l) == 4 && layout_replicated(l));
}

static void test_project(struct arena *a)
{
    struct ir_axis i = axis("i", 128), j = axis("j", 64), *m[] = { &i }, *n[] = { &j };
    struct layout *l = layout_mma(a, m, 1, n, 1, 2, 2, 4, 4);
    struct layout *rows = layout_project(a, l, m, 1), *cols = layout_project(a, l, n, 1), *none = layout_project(a, l, m, 0);
    CHECK(layout_regs(rows) == 8 && layout_regs(cols) == 8 && layout_regs(none) == 1);
    CHECK(layout_replicated(rows) && layout_warps(rows) == 4 && !layout_replicated(l));
    bool right = true;
    for (int w = 0; w < 4; w++)
        for (int lane = 0; lane < 32; lane++)
            for (int r = 0; r < 64; r++) {
                right &= coord(rows, layout_project_reg(l, rows, r), lane, w, 0) == coord(l, r, lane, w, 0);
                right &= coord(cols, layout_project_reg(l, cols, r), lane, w, 0) == coord(l, r, lane, w, 1);
                right &= layout_project_reg(l, none, r) == 0;
            }
    CHECK(right);
    struct ir_axis *swapped[] = { &j, &i };
    CHECK(layout_equal(l, layout_project(a, l, swapped, 2)));
    CHECK(!layout_equal(l, layout_mma(a, m, 1, n, 1, 1, 4, 4, 4)));
    CHECK(!layout_equal(rows, cols));
}

int main(void)
{
    struct arena a = { 0 };
    test_mma(&a);
    test_wgmma(&a);
    test_tmem(&a);
    test_flat(&a);
    test_blocked(&a);
    test_project(&a);
    arena_free(&a);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
