/* A call binds dimensions from shapes, refuses what does not fit with both values named, and builds the parameters,
 * tensor maps and grid that the image asks for. The device here is a stand-in that only records. */
#include "runtime/launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;
static struct fault why;

static void check(bool ok, const char *what)
{
    if (!ok) printf("FAILED: %s (last message: %s)\n", what, why.text);
    ok ? passed++ : failed++;
}

/* ---- the stand-in -------------------------------------------------------------------------------------------- */

static struct record {
    struct device device;
    struct device_map map;
    struct device_launch launch;
    char params[1024];
    int live;
} record;

static uint64_t fake_alloc(struct device *d, size_t n, const char *name, struct fault *w)
{
    (void)d, (void)name, (void)w;
    record.live++;
    return (uint64_t)(uintptr_t)aligned_alloc(256, (n + 256) / 256 * 256);
}
static void fake_release(struct device *d, uint64_t p) { (void)d; record.live--; free((void *)(uintptr_t)p); }
static enum dgk_status fake_write(struct device *d, uint64_t to, const void *from, size_t n, struct fault *w)
{
    (void)d, (void)w;
    memcpy((void *)(uintptr_t)to, from, n);
    return DGK_OK;
}
static enum dgk_status fake_read(struct device *d, void *to, uint64_t from, size_t n, struct fault *w)
{
    (void)d, (void)w;
    memcpy(to, (void *)(uintptr_t)from, n);
    return DGK_OK;
}
static enum dgk_status fake_fill(struct device *d, uint64_t to, int byte, size_t n, struct fault *w)
{
    (void)d, (void)w;
    memset((void *)(uintptr_t)to, byte, n);
    return DGK_OK;
}
static enum dgk_status fake_map(struct device *d, void *out, const struct device_map *m, struct fault *w)
{
    (void)d, (void)w;
    record.map = *m;
    memset(out, 0x5a, 128);
    return DGK_OK;
}
static enum dgk_status fake_resident(struct device *d, const struct device_launch *l, int *n, struct fault *w)
{
    (void)w;
    *n = d->props.sms * 2 / (int)l->cluster * (int)l->cluster;
    return DGK_OK;
}
static enum dgk_status fake_launch(struct device *d, const struct device_launch *l, struct fault *w)
{
    (void)d, (void)w;
    record.launch = *l;
    memcpy(record.params, l->params, l->param_bytes);
    return DGK_OK;
}
static enum dgk_status fake_sync(struct device *d, struct fault *w) { (void)d, (void)w; return DGK_OK; }

static const struct device_ops fake = { .alloc = fake_alloc, .release = fake_release, .write = fake_write, .read = fake_read,
                                        .fill = fake_fill, .encode_map = fake_map, .resident = fake_resident,
                                        .launch = fake_launch, .sync = fake_sync };

/* ---- an image: in bf16 A[M, K], in f32 S[K / 128, M] inner(M), in i32 n, out f32 D[M, K], require K % 128 == 0 ---- */

#define HEX(...) { (struct hexpr_code[]){ __VA_ARGS__ }, COUNT(((struct hexpr_code[]){ __VA_ARGS__ })) }
#define M_ HEX({ HEX_DIM, 0 })
#define K_ HEX({ HEX_DIM, 1 })
#define K128 HEX({ HEX_DIM, 1 }, { HEX_CONST, 128 }, { HEX_DIV, 0 })

static const char *dims[] = { "M", "K" };
static struct image_arg args[4] = { /* file scope: so that the compound literals last */
    { .name = "A", .type = TY_bf16, .rank = 2, .dim = { M_, K_ }, .dim_text = { "M", "K" }, .dim_symbol = { 0, 1 }, .inner = 1, .align = { 8, 1 }, .base_align = 16 },
    { .name = "S", .type = TY_f32, .rank = 2, .dim = { K128, M_ }, .dim_text = { "K / 128", "M" }, .dim_symbol = { -1, 0 }, .inner = 1, .align = { 4, 1 }, .base_align = 16 },
    { .name = "n", .type = TY_i32 },
    { .name = "D", .dir = IMAGE_OUT, .type = TY_f32, .rank = 2, .dim = { M_, K_ }, .dim_text = { "M", "K" }, .dim_symbol = { 0, 1 }, .inner = 1, .align = { 4, 1 }, .base_align = 16 },
};
static struct image_map maps[1] = { { .arg = 0, .type = TY_bf16, .rank = 2, .offset = HEX({ HEX_CONST, 0 }), .size = { K_, M_ },
                                      .stride = { HEX({ HEX_CONST, 1 }), HEX({ HEX_STRIDE, 0 }) }, .box = { 64, 128 }, .swizzle = 128, .pack = 1 } };
static struct image_param params[] = {
    { PARAM_MAP, 0, 0, 0, 128 }, { PARAM_POINTER, 3, 0, 128, 8 }, { PARAM_DIM, 1, 0, 136, 4 },
    { PARAM_SCALAR, 2, 0, 140, 4 }, { PARAM_STRIDE, 3, 0, 144, 8 }, { PARAM_COUNTERS, 0, 0, 152, 8 },
};
static struct image_require requires[1] = { { .cond = HEX({ HEX_DIM, 1 }, { HEX_CONST, 128 }, { HEX_MOD, 0 }, { HEX_CONST, 0 }, { HEX_EQ, 0 }), .text = "K % 128 == 0" } };
static struct image the_image = {
    .kernel = "k", .symbol = "k", .target = "sm_90a", .param_bytes = 160,
    .tasks = HEX({ HEX_DIM, 0 }, { HEX_CONST, 128 }, { HEX_CDIV, 0 }, { HEX_CONST, 2 }, { HEX_MUL, 0 }),
    .counter_bytes = HEX({ HEX_CONST, 16 }),
    .persistent = true, .ctas_per_sm = 1, .cluster = 2, .threads = 384, .smem_bytes = 65536,
};

static struct image *image(void)
{
    struct image *im = &the_image;
    im->dims.at = dims, im->dims.n = 2;
    im->args.at = args, im->args.n = COUNT(args);
    im->maps.at = maps, im->maps.n = 1;
    im->params.at = params, im->params.n = COUNT(params);
    im->requires.at = requires, im->requires.n = 1;
    return im;
}

/* A call with A and S as said (and n = 7); "" or the message. */
static const char *call_with(const char *a, const char *s, bool give_n, struct tensor *out)
{
    struct tensor ta = { 0 }, ts = { 0 };
    struct call_arg given[4] = { { .tensor = &ta }, { .tensor = &ts }, { .integer = 7, .given = give_n }, { .tensor = out } };
    why.text[0] = 0;
    tensor_load(&ta, a, TY_bf16, -1, NULL, &why);
    tensor_load(&ts, s, TY_f32, -1, NULL, &why);
    enum dgk_status st = launch_call(&record.device, NULL, image(), given, &why);
    tensor_free(&ta), tensor_free(&ts);
    return st ? why.text : "";
}

static void refused(const char *a, const char *s, bool give_n, const char *words)
{
    const char *got = call_with(a, s, give_n, NULL);
    check(strstr(got, words), words);
}

static void test_good(void)
{
    struct tensor d = { .type = TY_f32, .rank = 2, .shape = { 300, 256 } };
    tensor_row_major(&d);
    tensor_allocate(&d, &why);
    check(!*call_with("ones(300, 256)", "ones(2, 300)", true, &d), "a call that fits");
    int32_t k, n;
    int64_t stride;
    memcpy(&k, record.params + 136, 4), memcpy(&n, record.params + 140, 4), memcpy(&stride, record.params + 144, 8);
    check(k == 256 && n == 7 && stride == 256 && record.params[0] == 0x5a, "parameters at their places");
    check(record.launch.grid == 6 && record.launch.cluster == 2 && record.launch.threads == 384, "three tasks of two CTAs");
    struct device_map *m = &record.map;
    check(m->data_type == 9 && m->rank == 2 && m->dim[0] == 256 && m->dim[1] == 300 && m->stride[0] == 512 && m->box[0] == 64 && m->swizzle == 3,
          "the tensor map");
    check(tensor_value(&d, 0) != tensor_value(&d, 0), "an output that nobody wrote is NaN");
    check(record.live == 0, "device memory is given back");
    tensor_free(&d);
    struct tensor big = { .type = TY_f32, .rank = 2, .shape = { 2000, 128 } };
    tensor_row_major(&big);
    tensor_allocate(&big, &why);
    call_with("ones(2000, 128)", "ones(1, 2000)", true, &big);
    check(record.launch.grid == 8, "a persistent grid is what the device holds");
    tensor_free(&big);
}

static void test_map_rules(void)
{
    struct device_map good = { .data_type = 9, .rank = 2, .swizzle = 3, .address = 256, .dim = { 64, 8 }, .stride = { 128 }, .box = { 64, 8 } }, m;
#define RULE(change, words) m = good, m.change, check(launch_check_map(&m, 2, "A", &why) && strstr(why.text, words), words)
    check(!launch_check_map(&good, 2, "A", &why), "a good map");
    RULE(address = 264, "not aligned to 16");
    RULE(box[1] = 257, "box of 257 in dimension 1");
    RULE(box[0] = 4, "rows of 8 bytes");
    RULE(box[0] = 128, "wider than the swizzle of 128");
    RULE(stride[0] = 120, "stride of 120 bytes in dimension 1");
    RULE(dim[1] = 0, "size 0 of dimension 1");
    RULE(rank = 6, "rank 6");
}

static void test_device_layout(void)
{
    struct tensor a = { .type = TY_bf16, .rank = 2, .shape = { 4, 128 }, .stride = { 132, 1 }, .address = 4096 }, s = a;
    s.type = TY_f32, s.shape[0] = 1, s.shape[1] = 4, s.stride[0] = 4;
    struct call_arg given[4] = { { .tensor = &a }, { .tensor = &s }, { .given = true } };
    struct call c;
    launch_open(&c, image(), &record.device);
    memcpy(c.args, given, sizeof given);
    check(launch_bind(&c, &why) == DGK_BAD_STRIDE && strstr(why.text, "'A': dimension 0 has stride 132, no multiple of 8"), "stride of a device tensor");
    a.stride[0] = 1, a.stride[1] = 8;
    check(launch_bind(&c, &why) == DGK_BAD_STRIDE && strstr(why.text, "compiled for stride 1"), "inner dimension of a device tensor");
    a.stride[0] = 136, a.stride[1] = 1, a.address = 4100;
    check(launch_bind(&c, &why) == DGK_BAD_ALIGNMENT, "address of a device tensor");
    a.address = 4096;
    check(launch_bind(&c, &why) == DGK_OK && c.strides[0][0] == 136, "a device tensor keeps its strides");
    int64_t shape[IMAGE_RANK];
    check(!launch_shape(&c, 3, shape, &why) && shape[0] == 4 && shape[1] == 128, "the shape of an output");
    launch_end(&c);
}

int main(void)
{
    record.device.ops = &fake;
    record.device.props.sms = 8;
    test_good();
    refused("ones(300, 256)", "ones(2, 301)", true, "argument 'S': dimension 1 is 301; M is 300 by argument 'A'");
    refused("ones(300, 256)", "ones(3, 300)", true, "argument 'S': dimension 0 is 3; K / 128 is 2");
    refused("ones(300, 256, 1)", "ones(2, 300)", true, "argument 'A' has 3 dimensions, [300, 256, 1]; the kernel takes 2");
    refused("ones(300, 256):f32", "ones(2, 300)", true, "argument 'A' is f32; the kernel takes bf16 (append \":bf16\" to convert)");
    refused("ones(300, 250)", "ones(1, 300)", true, "k requires K % 128 == 0; here K = 250");
    refused("ones(300, 256)", "ones(2, 300)", false, "argument 'n', a scalar i32, is missing");
    refused("ones(300, 256)", "ones(2, 300)", true, "argument 'D' has no memory");
    check(record.live == 0, "device memory is given back after failures");
    test_map_rules();
    test_device_layout();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
