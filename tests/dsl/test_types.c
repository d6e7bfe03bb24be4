/* Every bit pattern of every narrow type survives decoding and encoding; chosen values round as the formats say. */
#include "dsl/types.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int passed, failed;

static void claim(bool ok, const char *what, unsigned long long bits)
{
    if (ok) passed++;
    else failed++, printf("FAIL %s %#llx\n", what, bits);
}

static void round_trip(enum type t, int bits)
{
    int wrong = 0;
    for (uint64_t b = 0; b < 1ull << bits; b++) {
        double v = type_decode(t, b);
        bool kept = t == TY_e5m2 && isinf(v); /* e5m2 saturates: infinity is never produced */
        if (!isnan(v) && !kept && type_encode(t, v) != b) wrong++;
        if (isnan(v) && !isnan(type_decode(t, type_encode(t, v)))) wrong++;
    }
    claim(!wrong, type_name(t), (unsigned long long)wrong);
}

static const struct { enum type t; double v; uint64_t bits; } cases[] = {
    {TY_f32, 1.0, 0x3F800000},       {TY_f32, 1e300, 0x7F800000},     {TY_f32, 0x1p-149, 1},
    {TY_f32, 0x1p-150, 0},           {TY_f32, 0x1.8p-149, 2},         {TY_f32, 0x1.000001p0, 0x3F800000},
    {TY_f16, 65504, 0x7BFF},         {TY_f16, 65520, 0x7C00},         {TY_f16, -0x1p-25, 0x8000},
    {TY_f16, -0x1.8p-24, 0x8002},    {TY_bf16, 1.00390625, 0x3F80},   {TY_bf16, 1.01171875, 0x3F82},
    {TY_bf16, 3.4e38, 0x7F80},       {TY_e4m3, 448, 0x7E},            {TY_e4m3, 1e9, 0x7E},
    {TY_e4m3, -1e9, 0xFE},           {TY_e4m3, 464, 0x7E},            {TY_e4m3, 0x1p-10, 0},
    {TY_e5m2, INFINITY, 0x7B},       {TY_e5m2, -61440, 0xFB},         {TY_e2m1, 2.5, 4},
    {TY_e2m1, 5, 6},                 {TY_e2m1, 0.25, 0},              {TY_e2m1, 0.75, 2},
    {TY_e2m1, -100, 0xF},            {TY_ue8m0, 0, 0},                {TY_ue8m0, 1, 127},
    {TY_ue8m0, 1.5, 128},            {TY_ue8m0, 0x1p127, 0xFE},       {TY_ue8m0, 1e300, 0xFE},
    {TY_ue8m0, 0x1.8p-128, 0},       {TY_ue8m0, 0x1.8p-127, 1},       {TY_ue4m3, -3, 0},
    {TY_ue4m3, 448, 0x7E},           {TY_tf32, 1.0, 0x3F800000},      {TY_tf32, 1 + 0x1p-11, 0x3F800000},
    {TY_tf32, 1 + 0x3p-11, 0x3F804000},
};

int main(void)
{
    round_trip(TY_f16, 16);
    round_trip(TY_bf16, 16);
    round_trip(TY_e4m3, 8);
    round_trip(TY_e5m2, 8);
    round_trip(TY_e2m1, 4);
    round_trip(TY_ue8m0, 8);
    round_trip(TY_ue4m3, 7);
    for (int i = 0; i < COUNT(cases); i++) claim(type_encode(cases[i].t, cases[i].v) == cases[i].bits, "encode", (unsigned long long)i);
    for (uint64_t b = 0; b < 1ull << 32; b += 65521) {
        float f;
        uint32_t w = (uint32_t)b;
        memcpy(&f, &w, 4);
        if (isnan(f)) continue;
        if (type_encode(TY_f32, (double)f) != w || type_decode(TY_f32, w) != (double)f) claim(false, "f32", w);
    }
    for (int t = TY_none + 1; t < TY_COUNT; t++) claim(type_find(type_name((enum type)t)) == (enum type)t, "find", (unsigned long long)t);
    claim(type_find("f17") == TY_none, "find unknown", 0);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
