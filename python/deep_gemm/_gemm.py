"""Dense GEMMs: D = A B^T (+ C) in bf16 and fp8, every layout by its strides; and the functions near them."""

from dgk._record import recorded

from ._common import arch_major, ceil_div, device_of, dtype_is, is_fp4, kernel, launch, require, settings, torch
from ._layout import get_mn_major_tma_aligned_packed_ue8m0_tensor, get_mn_major_tma_aligned_tensor, get_tma_aligned_size, is_in_boxes


def _accumulates(m, n, k, d, c):
    """None: D is done already; else 1 where the product is added to what D holds."""
    if m == 0 or n == 0:
        return None
    if c is not None:
        require(c.dtype == d.dtype and tuple(c.shape) == tuple(d.shape), "c has the type and shape of d")
        if c.data_ptr() != d.data_ptr():
            d.copy_(c)
    if k == 0:
        if c is None:
            d.zero_()
        return None
    return int(c is not None)


def _check_shapes(a, b, d):
    m, k = a.shape
    n, kb = b.shape
    require(k == kb, f"a has k = {k}, b has k = {kb}")
    require(tuple(d.shape) == (m, n), f"d is [{', '.join(map(str, d.shape))}], a b^T is [{m}, {n}]")
    require(0 in (m, n) or d.stride(-1) == 1 or n == 1, "d is row-major")
    return m, n, k


@recorded
def bf16_gemm_nt(a, b, d, c=None, compiled_dims="nk"):
    m, n, k = _check_shapes(a, b, d)
    require(dtype_is(a, "bfloat16") and dtype_is(b, "bfloat16"), "a and b are bf16")
    acc = _accumulates(m, n, k, d, c)
    if acc is not None:
        launch(kernel("bf16_gemm.dgk", symbol="dgk_bf16_gemm"), A=a, B=b, D=d, ACC=acc)


@recorded
def bf16_gemm_nn(a, b, d, c=None, compiled_dims="nk"):
    bf16_gemm_nt(a, b.transpose(0, 1), d, c, compiled_dims)


@recorded
def bf16_gemm_tn(a, b, d, c=None, compiled_dims="mn"):
    bf16_gemm_nt(a.transpose(0, 1), b.transpose(0, 1), d, c, compiled_dims)


@recorded
def bf16_gemm_tt(a, b, d, c=None, compiled_dims="mn"):
    bf16_gemm_nt(a.transpose(0, 1), b, d, c, compiled_dims)


# ---- fp8 ---------------------------------------------------------------------------------------------------------------

def recipes(sfb, recipe, recipe_a, recipe_b):
    """((gran_m, gran_k), (gran_n, gran_k))"""
    require((recipe_a is None) == (recipe_b is None), "recipe_a and recipe_b come together")
    require(recipe is None or recipe_a is None, "recipe, or recipe_a and recipe_b")
    if recipe_a is not None:
        return tuple(recipe_a), tuple(recipe_b)
    if recipe is None:
        recipe = (1, 1, 128) if dtype_is(sfb, "int32") else (1, 128, 128)
    return (recipe[0], recipe[2]), (recipe[1], recipe[2])


def _unpacked(sf, k, gran_k):
    """int32 words of four powers of two as fp32, [mn, k / gran_k], M-major."""
    t = torch()
    granules = ceil_div(k, gran_k)
    exponents = sf.contiguous().view(t.uint8)[..., :granules].to(t.int32) << 23
    return get_mn_major_tma_aligned_tensor(exponents.contiguous().view(t.float32))


def rows_scales(sf, k, gran_k):
    """A scale per row and granule as the kernels read it: [k / gran_k, mn], in whole 16 bytes along either; laid out anew only where it is neither."""
    if dtype_is(sf, "int32"):
        sf = _unpacked(sf, k, gran_k)
    elif not (dtype_is(sf, "float32") and is_in_boxes(sf)):
        sf = get_mn_major_tma_aligned_tensor(sf)
    return sf.transpose(-1, -2)


def block_scales(sf):
    """A scale per block of 128 x 128, contiguous either way, in rows of any length."""
    return sf if 1 in (sf.stride(-1), sf.stride(-2)) else get_mn_major_tma_aligned_tensor(sf)


def _scales(sfa, sfb, a_recipe, b_recipe, m, n, k):
    require(a_recipe[0] == 1 and a_recipe[1] == b_recipe[1] and a_recipe[1] in (32, 128) and b_recipe[0] in (1, 128),
            f"recipes {a_recipe}, {b_recipe}: (1, 128) with (1, 128) or (128, 128), and (1, 32) with (1, 32), are what the kernel knows")
    g = a_recipe[1]
    require(sfa.shape[-2] == m, f"sfa has {sfa.shape[-2]} rows, a has {m}")
    require(sfb.shape[-2] == ceil_div(n, b_recipe[0]), f"sfb has {sfb.shape[-2]} rows, {ceil_div(n, b_recipe[0])} are needed")
    sb = block_scales(sfb) if b_recipe[0] == 128 else rows_scales(sfb, k, g).transpose(-1, -2)
    return rows_scales(sfa, k, g), sb, b_recipe[0], g


def _packed(sf, rows, k, recipe):
    """Scales as bytes of exponents, four granules of k together: [words, rows, 4]."""
    gran_mn, gran_k = recipe
    if not dtype_is(sf, "int32"):
        require(tuple(sf.shape) == (ceil_div(rows, gran_mn), ceil_div(k, gran_k)), f"scales are {tuple(sf.shape)} for {rows} x {k} in blocks of {tuple(recipe)}")
        if gran_mn > 1:
            sf = sf.index_select(0, torch().arange(rows, device=sf.device) // gran_mn)
        sf = get_mn_major_tma_aligned_packed_ue8m0_tensor(sf)
    require(tuple(sf.shape) == (rows, ceil_div(k, 4 * gran_k)), f"packed scales are {tuple(sf.shape)} for {rows} x {k} in granules of {gran_k}")
    return sf.transpose(0, 1).unsqueeze(-1).view(torch().uint8)


def _fp4_gemm(a, sfa, b, sfb, d, c, recipe):
    """Two FP4 numbers a byte, the even one low, along k."""
    (m, ka), (n, kb) = a.shape, b.shape
    k = ka * 2 if is_fp4(a) else ka
    require(k == (kb * 2 if is_fp4(b) else kb), f"a has k = {k}, b has {kb} bytes a row")
    require(tuple(d.shape) == (m, n), f"d is [{', '.join(map(str, d.shape))}], a b^T is [{m}, {n}]")
    if c is not None:
        raise NotImplementedError(f"fp8_fp4_gemm_nt with FP4 operands and c on sm_{arch_major(device_of(a))}x; the nearest is the same without c, or FP8 operands")
    if m and n:
        launch(kernel("fp4_gemm.dgk", symbol="dgk_fp8_fp4_gemm_"), A=a, SA=_packed(sfa, m, k, recipe[0]), B=b, SB=_packed(sfb, n, k, recipe[1]), D=d,
               GA=recipe[0][1], GB=recipe[1][1], TA="e2m1" if is_fp4(a) else "e4m3", TB="e2m1" if is_fp4(b) else "e4m3")


@recorded
def fp8_fp4_gemm_nt(a, b, d, c=None, recipe=None, recipe_a=None, recipe_b=None, compiled_dims="nk", disable_ue8m0_cast=False):
    (a, sfa), (b, sfb) = a, b
    if is_fp4(a) or is_fp4(b):
        return _fp4_gemm(a, sfa, b, sfb, d, c, recipes(sfb, recipe, recipe_a, recipe_b))
    m, n, k = _check_shapes(a, b, d)
    acc = _accumulates(m, n, k, d, c)
    if acc is None:
        return
    a_recipe, b_recipe = recipes(sfb, recipe, recipe_a, recipe_b)
    sa, sb, gn, g = _scales(sfa, sfb, a_recipe, b_recipe, m, n, k)
    symbol = "dgk_fp8_gemm_1d1d" if gn == 1 else "dgk_fp8_gemm_1d2d"
    launch(kernel("fp8_gemm.dgk", symbol=symbol), A=a, SA=sa, B=b, SB=sb, D=d, GN=gn, G=g, ACC=acc)


def _turned(pair):
    x, sf = pair
    if is_fp4(x):
        raise NotImplementedError(f"FP4 operands that are not K-major on sm_{arch_major(device_of(x))}x; the nearest is fp8_fp4_gemm_nt")
    return x.transpose(0, 1), sf.transpose(0, 1)


@recorded
def fp8_fp4_gemm_nn(a, b, d, c=None, recipe=None, recipe_a=None, recipe_b=None, compiled_dims="nk", disable_ue8m0_cast=False):
    fp8_fp4_gemm_nt(a, _turned(b), d, c, recipe, recipe_a, recipe_b, compiled_dims, disable_ue8m0_cast)


@recorded
def fp8_fp4_gemm_tn(a, b, d, c=None, recipe=None, recipe_a=None, recipe_b=None, compiled_dims="mn", disable_ue8m0_cast=False):
    fp8_fp4_gemm_nt(_turned(a), _turned(b), d, c, recipe, recipe_a, recipe_b, compiled_dims, disable_ue8m0_cast)


@recorded
def fp8_fp4_gemm_tt(a, b, d, c=None, recipe=None, recipe_a=None, recipe_b=None, compiled_dims="mn", disable_ue8m0_cast=False):
    fp8_fp4_gemm_nt(_turned(a), b, d, c, recipe, recipe_a, recipe_b, compiled_dims, disable_ue8m0_cast)


fp8_gemm_nt, fp8_gemm_nn, fp8_gemm_tn, fp8_gemm_tt = fp8_fp4_gemm_nt, fp8_fp4_gemm_nn, fp8_fp4_gemm_tn, fp8_fp4_gemm_tt
gemm_fp8_fp8_bf16_nt = fp8_gemm_nt


@recorded
def fp8_gemm_nt_skip_head_mid(a, b, d, head_splits, recipe=None, compiled_dims="nk", disable_ue8m0_cast=False):
    (a, sfa), (b, sfb) = a, b
    left, mid, right = head_splits
    (m, k), n = a.shape, b.shape[0]
    require(n % (left + right) == 0 and d.shape[1] == n + n // (left + right) * mid, "d has mid columns more for every head")
    if m == 0:
        return
    launch(kernel("skip_head_mid.dgk", symbol="dgk_fp8_gemm_skip_head_mid"), A=a, SA=rows_scales(sfa, k, 128), B=b, SB=block_scales(sfb), D=d,
           LW=left, X=mid, RW=right)


@recorded
def tf32_hc_prenorm_gemm(a, b, d, sqr_sum, num_splits=None):
    m, k = a.shape
    n = b.shape[0]
    require(dtype_is(a, "bfloat16") and dtype_is(b, "float32") and dtype_is(d, "float32"), "a is bf16, b and d are fp32")
    shape = (m, n) if num_splits is None else (num_splits, m, n)
    require(tuple(d.shape) == shape and tuple(sqr_sum.shape) == shape[:-1], f"d is {shape}, sqr_sum {shape[:-1]}")
    if m == 0:
        return
    if num_splits is None:
        d, sqr_sum = d.unsqueeze(0), sqr_sum.unsqueeze(0)
    launch(kernel("hc_prenorm.dgk", symbol="dgk_tf32_hc_prenorm_gemm"), A=a, B=b, D=d, Q=sqr_sum, SPLIT=int(num_splits is not None))


@recorded
def einsum(expr, a, b, d, c=None, use_cublaslt=False):
    require(not use_cublaslt or expr != "bmk,bnk->mn", "bmk,bnk->mn has no cuBLASLt path")
    if expr == "bmk,bnk->mn":
        out = d
        if dtype_is(d, "bfloat16"):
            require(c is None, "a bf16 d takes no c")
            out = torch().zeros(tuple(d.shape), dtype=torch().float32, device=d.device)
        elif c is None:
            d.zero_()
        else:
            require(c.data_ptr() == d.data_ptr(), "c is d")
        launch(kernel("einsum.dgk", "bmk_bnk_mn", "dgk_bmn_bnk_mn_gemm_impl"), A=a, B=b, D=out)
        if out is not d:
            d.copy_(out)
        return
    require(c is None, f"{expr} takes no c")
    require(expr in ("bhr,hdr->bhd", "bhd,hdr->bhr"), f"unknown expression {expr!r}; there are bmk,bnk->mn, bhr,hdr->bhd and bhd,hdr->bhr")
    if expr == "bhd,hdr->bhr":
        b = b.transpose(1, 2)
    if use_cublaslt:
        torch().bmm(a.transpose(0, 1), b.transpose(1, 2), out=d.transpose(0, 1))
        return
    launch(kernel("einsum.dgk", "bhr_hdr_bhd", "dgk_einsum_gemm"), A=a, W=b, O=d)


@recorded
def fp8_einsum(expr, a, b, d, c=None, recipe=(1, 128, 128)):
    (a, sfa), (b, sfb) = a, b
    if expr != "bhr,hdr->bhd" or tuple(recipe) != (1, 128, 128) or dtype_is(sfa, "int32"):
        raise NotImplementedError(f"fp8_einsum({expr!r}, recipe={tuple(recipe)}) on sm_{arch_major(device_of(a))}x; the nearest is 'bhr,hdr->bhd' with fp32 "
                                  "scales of (1, 128, 128), or einsum in bf16")
    require(c is None, f"{expr} takes no c")
    if a.shape[0]:
        launch(kernel("fp8_einsum.dgk", symbol="dgk_fp8_einsum_gemm_"), A=a, SA=rows_scales(sfa.transpose(0, 1), a.shape[-1], 128), W=b,
               SW=block_scales(sfb), O=d)


# ---- grouped -----------------------------------------------------------------------------------------------------------

def _grouped(a, b, d, who, pitch, layout):
    (a, sfa), (b, sfb) = a, b
    sa = rows_scales(sfa if sfa.dim() == 3 else sfa.unsqueeze(0), a.shape[-1], 128)
    launch(kernel("m_grouped.dgk", symbol="dgk_m_grouped_fp8_gemm_"), A=a, SA=sa, B=b, SB=block_scales(sfb), WHO=who,
           PITCH=pitch, D=d, LAYOUT=layout)


@recorded
def m_grouped_fp8_fp4_gemm_nt_contiguous(a, b, d, grouped_layout, recipe=None, recipe_a=None, recipe_b=None, compiled_dims="nk",
                                         disable_ue8m0_cast=False, use_psum_layout=False, ensure_zero_padding=True, expected_m_for_psum_layout=None):
    if is_fp4(a[0]) or is_fp4(b[0]):
        raise NotImplementedError("m_grouped_fp8_fp4_gemm_nt_contiguous with FP4 operands: FP8 operands work")
    if a[0].shape[0] == 0:
        return
    _grouped(a, b, d, grouped_layout, settings.mk_alignment, "psum" if use_psum_layout else "contiguous")


@recorded
def m_grouped_fp8_fp4_gemm_nn_contiguous(a, b, d, grouped_layout, recipe=None, recipe_a=None, recipe_b=None, compiled_dims="nk",
                                         disable_ue8m0_cast=False, use_psum_layout=False, ensure_zero_padding=True):
    b = (b[0].transpose(1, 2), b[1].transpose(1, 2))
    m_grouped_fp8_fp4_gemm_nt_contiguous(a, b, d, grouped_layout, recipe, recipe_a, recipe_b, compiled_dims, disable_ue8m0_cast, use_psum_layout)


@recorded
def m_grouped_fp8_fp4_gemm_nt_masked(a, b, d, masked_m, expected_m, recipe=None, recipe_a=None, recipe_b=None, compiled_dims="nk",
                                     disable_ue8m0_cast=False):
    (a, sfa), (b, sfb) = a, b
    if is_fp4(a) or is_fp4(b):
        raise NotImplementedError("m_grouped_fp8_fp4_gemm_nt_masked with FP4 operands: FP8 operands work")
    groups, rows, k = a.shape
    require(sfa.dim() == 3 and tuple(sfa.shape[:2]) == (groups, rows), "sfa has a row of scales for each row of a")
    require(tuple(d.shape) == (groups, rows, b.shape[1]), f"d is [{', '.join(map(str, d.shape))}], [{groups}, {rows}, {b.shape[1]}] is wanted")
    _grouped((a.reshape(groups * rows, k), sfa), (b, sfb), d.view(groups * rows, -1), masked_m, rows, "masked")


m_grouped_fp8_gemm_nt_contiguous = m_grouped_fp8_fp4_gemm_nt_contiguous
m_grouped_fp8_gemm_nn_contiguous = m_grouped_fp8_fp4_gemm_nn_contiguous
m_grouped_fp8_gemm_nt_masked = fp8_m_grouped_gemm_nt_masked = m_grouped_fp8_fp4_gemm_nt_masked
m_grouped_gemm_fp8_fp8_bf16_nt_contiguous, m_grouped_gemm_fp8_fp8_bf16_nt_masked = m_grouped_fp8_gemm_nt_contiguous, m_grouped_fp8_gemm_nt_masked


@recorded
def m_grouped_bf16_gemm_nt_contiguous(a, b, d, grouped_layout, compiled_dims="nk", use_psum_layout=False, ensure_zero_padding=True,
                                      expected_m_for_psum_layout=None):
    if a.shape[0]:
        launch(kernel("m_grouped_bf16.dgk", symbol="dgk_m_grouped_bf16_gemm"), A=a, B=b, WHO=grouped_layout, PITCH=settings.mk_alignment, D=d,
               LAYOUT="psum" if use_psum_layout else "contiguous")


@recorded
def m_grouped_bf16_gemm_nn_contiguous(a, b, d, grouped_layout, compiled_dims="nk", use_psum_layout=False, ensure_zero_padding=True):
    m_grouped_bf16_gemm_nt_contiguous(a, b.transpose(1, 2), d, grouped_layout, compiled_dims, use_psum_layout, ensure_zero_padding)


@recorded
def m_grouped_bf16_gemm_nt_masked(a, b, d, masked_m, expected_m, compiled_dims="nk"):
    groups, rows, k = a.shape
    require(tuple(d.shape) == (groups, rows, b.shape[1]), f"d is [{', '.join(map(str, d.shape))}], [{groups}, {rows}, {b.shape[1]}] is wanted")
    launch(kernel("m_grouped_bf16.dgk", symbol="dgk_m_grouped_bf16_gemm"), A=a.view(groups * rows, k), B=b, WHO=masked_m, PITCH=rows,
           D=d.view(groups * rows, -1), LAYOUT="masked")


bf16_m_grouped_gemm_nt_masked = m_grouped_bf16_gemm_nt_masked


@recorded
def k_grouped_bf16_gemm_tn_contiguous(a, b, d, ks_cpu=None, grouped_layout=None, c=None, compiled_dims="mn", use_psum_layout=False, *, ks=None,
                                      ks_tensor=None):
    sizes = grouped_layout if grouped_layout is not None else ks_tensor
    require(c is not None, "c must be given")
    if use_psum_layout:
        raise NotImplementedError("k_grouped_bf16_gemm_tn_contiguous with use_psum_layout; without it works")
    if c.data_ptr() != d.data_ptr():
        d.copy_(c)
    launch(kernel("k_grouped.dgk", "k_grouped_bf16_tn", "dgk_k_grouped_bf16_gemm"), A=a, B=b, KS=sizes, D=d)


@recorded
def k_grouped_fp8_gemm_nt_contiguous(a, b, d, ks_cpu=None, grouped_layout=None, c=None, recipe=(1, 1, 128), compiled_dims="mn", use_psum_layout=False, *,
                                     ks=None, ks_tensor=None):
    (a, sfa), (b, sfb) = a, b
    sizes = grouped_layout if grouped_layout is not None else ks_tensor
    require(c is not None and tuple(recipe) == (1, 1, 128), "c must be given, and the recipe is (1, 1, 128)")
    if c.data_ptr() != d.data_ptr():
        d.copy_(c)
    launch(kernel("k_grouped.dgk", "k_grouped_fp8_nt", "dgk_k_grouped_fp8_gemm_"), A=a, SA=sfa.transpose(0, 1), B=b, SB=sfb.transpose(0, 1), KS=sizes, D=d)


__all__ = [n for n in dir() if n[0] != "_" and n not in
           ("arch_major", "ceil_div", "device_of", "dtype_is", "is_fp4", "kernel", "launch", "require", "settings", "torch", "rows_scales", "block_scales",
            "recipes", "recorded", "get_mn_major_tma_aligned_packed_ue8m0_tensor", "get_mn_major_tma_aligned_tensor", "get_tma_aligned_size", "is_in_boxes")]
