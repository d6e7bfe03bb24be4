/* Tensors survive a round trip through .npy and .safetensors in every type, order and layout; every malformed file is
 * refused with its reason. */
#include "runtime/tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int passed, failed;
static char folder[] = "/tmp/dgc-tensor-XXXXXX";
static struct fault why;

static void check(bool ok, const char *what)
{
    if (!ok) printf("FAILED: %s (last message: %s)\n", what, why.text);
    ok ? passed++ : failed++;
}

static const char *in_folder(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static bool same(const struct tensor *a, const struct tensor *b)
{
    if (a->type != b->type || a->rank != b->rank || memcmp(a->shape, b->shape, sizeof *a->shape * (size_t)a->rank)) return false;
    int64_t ia[TENSOR_RANK] = { 0 }, ib[TENSOR_RANK] = { 0 }, oa = 0, ob = 0;
    if (!tensor_count(a)) return true;
    do
        if (tensor_bits(a, oa) != tensor_bits(b, ob)) return false;
    while (tensor_next(b, ib, &ob) && tensor_next(a, ia, &oa));
    return true;
}

static struct tensor make(const char *spec)
{
    struct tensor t = { 0 };
    if (tensor_load(&t, spec, TY_none, -1, NULL, &why)) printf("%s: %s\n", spec, why.text);
    return t;
}

static void round_trip(enum type type)
{
    char spec[128], what[64];
    snprintf(spec, sizeof spec, "randn(3, 5, 8, seed=%d):%s", type, type_name(type));
    struct tensor t = make(spec), npy = { 0 }, safe = { 0 };
    snprintf(what, sizeof what, "%s through .npy", type_name(type));
    check(!npy_write(&t, in_folder("a.npy"), &why) && !npy_read(&npy, in_folder("a.npy"), type, &why) && same(&t, &npy), what);
    struct named_tensor named[] = { { "other", &npy }, { "x \"y\"", &t } };
    snprintf(what, sizeof what, "%s through .safetensors", type_name(type));
    check(!safetensors_write(in_folder("a.safetensors"), named, 2, &why) &&
              !safetensors_read(&safe, in_folder("a.safetensors"), "x \"y\"", type, &why) && same(&t, &safe), what);
    tensor_free(&t), tensor_free(&npy), tensor_free(&safe);
}

static void test_layouts(void)
{
    struct tensor t = make("arange(6, 10):i32"), turned = { 0 }, back = { 0 };
    int align[] = { 4, 4 };
    check(!tensor_copy(&turned, &t, TY_none, 0, align, &why) && turned.stride[0] == 1 && turned.stride[1] == 8 && same(&t, &turned),
          "inner dimension 0, strides a multiple of 4");
    check(!tensor_copy(&back, &turned, TY_f32, -1, NULL, &why) && back.stride[0] == 10 && back.type == TY_f32 &&
              tensor_value(&back, 57) == 57, "back to rows, as f32");
    struct tensor cube = { .type = TY_f32, .rank = 3, .shape = { 2, 3, 5 } };
    tensor_layout(&cube, 1, NULL);
    check(cube.stride[1] == 1 && cube.stride[2] == 3 && cube.stride[0] == 15, "the others keep their order");
    tensor_free(&t), tensor_free(&turned), tensor_free(&back);
}

static void test_values(void)
{
    struct tensor t = { .type = TY_i8, .rank = 1, .shape = { 4 } }, wide = { 0 };
    tensor_row_major(&t);
    tensor_allocate(&t, &why);
    tensor_set_value(&t, 0, -300), tensor_set_value(&t, 1, 300), tensor_set_value(&t, 2, -1), tensor_set_value(&t, 3, 2.9);
    check(tensor_value(&t, 0) == -128 && tensor_value(&t, 1) == 127 && tensor_value(&t, 2) == -1 && tensor_value(&t, 3) == 2,
          "integers saturate and truncate");
    check(!tensor_copy(&wide, &t, TY_i64, -1, NULL, &why) && (int64_t)tensor_bits(&wide, 2) == -1, "sign extension");
    tensor_free(&t), tensor_free(&wide);
    struct tensor fp4 = make("arange(2, 4, lo=1):e2m1");
    check(((unsigned char *)fp4.data)[0] == 0x42 && tensor_value(&fp4, 1) == 2, "two e2m1 a byte, the even one low");
    tensor_free(&fp4);
    struct tensor a = make("rand(64, seed=1):f32"), b = make("rand(64, seed=1):f32"), c = make("rand(64, seed=2):f32");
    check(same(&a, &b) && !same(&a, &c), "a seed decides");
    tensor_free(&a), tensor_free(&b), tensor_free(&c);
}

/* Writes a file and expects it to be refused with `words`. */
static void refuse(const char *name, const void *bytes, size_t n, const char *suffix, const char *words)
{
    char spec[600], what[700];
    struct tensor t;
    write_file(in_folder(name), bytes, n);
    snprintf(spec, sizeof spec, "%s%s", in_folder(name), suffix);
    why.text[0] = 0;
    enum dgk_status s = tensor_load(&t, spec, TY_none, -1, NULL, &why);
    snprintf(what, sizeof what, "refused: %s", words);
    check(s && strstr(why.text, words), what);
    if (!s) tensor_free(&t);
}

static void refuse_npy(const char *dict, size_t data, const char *suffix, const char *words)
{
    struct buf b = { 0 };
    buf_bytes(&b, "\x93NUMPY\1\0", 8);
    buf_bytes(&b, &(unsigned char[]){ (unsigned char)strlen(dict), 0 }, 2);
    buf_printf(&b, "%s", dict);
    for (size_t i = 0; i < data; i++) buf_bytes(&b, "", 1);
    refuse("bad.npy", b.at, b.n, suffix, words);
    buf_free(&b);
}

static void refuse_safe(const char *json, size_t data, const char *words)
{
    struct buf b = { 0 };
    size_t n = strlen(json);
    for (int i = 0; i < 8; i++) buf_bytes(&b, &(unsigned char){ (unsigned char)(n >> 8 * i) }, 1);
    buf_printf(&b, "%s", json);
    for (size_t i = 0; i < data; i++) buf_bytes(&b, "", 1);
    refuse("bad.safetensors", b.at, b.n, ":a", words);
    buf_free(&b);
}

static void test_bad_npy(void)
{
    refuse("bad.npy", "PK\3\4 something else", 18, "", "is no .npy file");
    refuse("bad.npy", "\x93NUMPY\x9\0\0\0", 10, "", "format version 9");
    refuse("bad.npy", "\x93NUMPY\1\0\xff\0{", 11, "", "ends inside its header");
    refuse_npy("{'descr': '<f4', 'shape': (2,)}", 8, "", "malformed header");
    refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", 8, "", "malformed header");
    refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", 8, "", "malformed header");
    refuse_npy("{'descr': '>f4', 'fortran_order': False, 'shape': (2,)}", 8, "", "big-endian");
    refuse_npy("{'descr': '<c8', 'fortran_order': False, 'shape': (2,)}", 16, "", "numpy type '<c8'");
    refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", 23, "", "has 23 bytes of data; its shape and type need 24");
    refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 9999999999)}", 0, "", "overflows");
    refuse_npy("{'descr': '|V2', 'fortran_order': False, 'shape': (2,)}", 4, "", "raw 16-bit items without a type");
    refuse_npy("{'descr': '|V2', 'fortran_order': False, 'shape': (2,)}", 4, ":f32", "cannot be f32");
    refuse_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", 16, "", "holds f64");
}

static void test_bad_safetensors(void)
{
    refuse("bad.safetensors", "abc", 3, "", "it has 3 bytes");
    refuse("bad.safetensors", "\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10, "", "a header of");
    refuse("bad.safetensors", "\x40\0\0\0\0\0\0\0{}", 10, "", "ends inside its header");
    refuse_safe(" {}", 0, "'{' wanted");
    refuse_safe("{", 0, "'\"' wanted");
    refuse_safe("{}x", 0, "text after the end");
    refuse_safe("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},}", 8, "'\"' wanted");
    refuse_safe("{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, "whole number wanted");
    refuse_safe("{\"a\":{\"dtype\":\"F32\",\"shape\":[02],\"data_offsets\":[0,8]}}", 8, "leading zero");
    refuse_safe("{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "whole number wanted");
    refuse_safe("{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,8]}}", 8, "number too large");
    refuse_safe("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "without dtype, shape or two data_offsets");
    refuse_safe("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"dtype\":\"F16\"}}", 8, "unknown or repeated key");
    refuse_safe("{\"a\":{\"dtype\":\"Q7\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "unknown type 'Q7'");
    refuse_safe("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, "of 8 bytes; its shape and type need 12");
    refuse_safe("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "outside its 7 bytes");
    refuse_safe("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, "a gap or an overlap before tensor 'a'");
    refuse_safe("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, "1 bytes of data after its last tensor");
    refuse_safe("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "overlap");
    refuse_safe("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "two tensors 'a'");
    refuse_safe("{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "has no tensor 'a'; it has b");
    refuse_safe("{\"__metadata__\":{\"k\":1}}", 0, "'\"' wanted");
    refuse_safe("{\"\\ud800\":{}}", 0, "half a surrogate pair");
    refuse_safe("{\"\xff\":{}}", 0, "bad UTF-8");
    refuse_safe("{\"a", 0, "string without end");
    refuse_safe("{\"a\\", 0, "string without end");
}

static void test_npy_forms(void)
{
    static const char fortran[] = "{'descr': '<i2', 'fortran_order': True, 'shape': (2, 3), }";
    struct buf b = { 0 };
    buf_bytes(&b, "\x93NUMPY\2\0", 8);
    buf_bytes(&b, &(unsigned char[]){ sizeof fortran - 1, 0, 0, 0 }, 4);
    buf_printf(&b, "%s", fortran);
    for (short i = 0; i < 6; i++) buf_bytes(&b, &i, 2);
    write_file(in_folder("f.npy"), b.at, b.n);
    buf_free(&b);
    struct tensor t = make(in_folder("f.npy"));
    check(t.rank == 2 && t.stride[0] == 1 && t.stride[1] == 2 && tensor_value(&t, t.stride[1] * 2) == 4, "Fortran order by strides");
    tensor_free(&t);
    struct tensor u = make("arange(2, 4, lo=16256):u16"), w = { 0 };
    npy_write(&u, in_folder("u.npy"), &why);
    char spec[600];
    snprintf(spec, sizeof spec, "%s:bf16", in_folder("u.npy"));
    check(!tensor_load(&w, spec, TY_none, -1, NULL, &why) && w.type == TY_bf16 && tensor_value(&w, 0) == 1, "u16 as the bits of bf16");
    tensor_free(&u), tensor_free(&w);
}

static void refuse_spec(const char *spec, const char *words)
{
    struct tensor t;
    why.text[0] = 0;
    enum dgk_status s = tensor_load(&t, spec, TY_f32, -1, NULL, &why);
    check(s && strstr(why.text, words), spec);
    if (!s) tensor_free(&t);
}

int main(void)
{
    if (!mkdtemp(folder)) return 1;
    for (enum type t = TY_none + 1; t < TY_COUNT; t++) round_trip(t);
    test_layouts();
    test_values();
    test_npy_forms();
    test_bad_npy();
    test_bad_safetensors();
    refuse_spec("nothing.npy", "cannot read 'nothing.npy'");
    refuse_spec("what.bin", "names no tensor");
    refuse_spec("rand()", "needs a shape");
    refuse_spec("rand(4, x)", "'x' is no number");
    refuse_spec("rand(4, sed=2)", "is none of seed=");
    refuse_spec("rand(1,1,1,1,1,1,1,1,1)", "more than 8 dimensions");
    refuse_spec("rand(2.5)", "is no size");
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    if (system(command)) failed++;
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
