"""Scale factors: transposed to M-major rows of whole 16 bytes, or packed as four powers of two a word."""

from dgk._record import recorded

from ._common import align, arch_major, ceil_div, device_of, dtype_is, kernel, launch, require, torch


def get_tma_aligned_size(x, element_size):
    require(16 % element_size == 0, "16 % element_size == 0")
    return align(x, 16 // element_size)


def _mn_major_strides(shape):
    """Strides of [(G,) mn, k], M-major with columns of whole 16 bytes, groups one after another."""
    rows = get_tma_aligned_size(shape[-2], 4)
    return (rows * shape[-1], 1, rows)[-len(shape):]


def _is_mn_major(sf, strides):
    """Whether sf lies so already; strides of dimensions of size 1 do not matter."""
    return sf.data_ptr() % 16 == 0 and all(n == 1 or have == want for n, have, want in zip(sf.shape, sf.stride(), strides))


def is_in_boxes(sf):
    """Whether sf lies in rows of whole 16 bytes."""
    return sf.stride(-1) == 1 and sf.data_ptr() % 16 == 0 and all(s % 4 == 0 for s in sf.stride()[:-1])


def _empty_mn_major(sf, columns, dtype):
    """An uninitialised [(G,) mn, columns], M-major with padded columns."""
    shape = (*sf.shape[:-1], columns)
    return torch().empty_strided(shape, _mn_major_strides(shape), dtype=dtype, device=sf.device)


def _three(sf):
    return sf if sf.dim() == 3 else sf.unsqueeze(0)


@recorded
def get_mn_major_tma_aligned_tensor(sf):
    require(dtype_is(sf, "float32") and sf.dim() in (2, 3), "sf is fp32 with 2 or 3 dimensions")
    strides = _mn_major_strides(sf.shape)
    if _is_mn_major(sf, strides):
        return sf if sf.stride() == strides else sf.as_strided(sf.shape, strides)
    out = _empty_mn_major(sf, sf.shape[-1], sf.dtype)
    boxes = sf.is_contiguous() and sf.shape[-1] % 4 == 0 and sf.data_ptr() % 16 == 0
    if 1 not in sf.stride()[-2:]:
        out.copy_(sf)
    elif sf.numel():
        launch(kernel("scales.dgk", "transpose_sf" if boxes else "lay_out_sf", "dgk_transpose_fp32"), S=_three(sf), T=_three(out).transpose(1, 2))
    return out


@recorded
def get_mn_major_tma_aligned_packed_ue8m0_tensor(sf, psum_layout=None):
    require(dtype_is(sf, "float32") and sf.dim() in (2, 3), "sf is fp32 with 2 or 3 dimensions")
    t = torch()
    mn, sf_k = sf.shape[-2:]
    words = ceil_div(sf_k, 4)
    out = _empty_mn_major(sf, words, t.int32)
    if psum_layout is not None:
        sf = _zero_gaps(sf, psum_layout)
    rows = get_tma_aligned_size(mn, 4)
    groups = sf.shape[0] if sf.dim() == 3 else 1
    as_bytes = out.as_strided([groups, words, mn, 1], [rows * words, rows, 1, 1]).view(t.uint8)
    source = _three(sf)
    if sf_k % 4 or not sf.is_contiguous():
        padded = t.ones([groups, mn, align(sf_k, 4)], dtype=t.float32, device=sf.device)[:, :, :sf_k]
        padded.copy_(source)
        source = padded
    launch(kernel("scales.dgk", "pack_ue8m0", "dgk_pack_fp32_into_ue8m0"), S=source, P=as_bytes)
    return out


def _zero_gaps(sf, ends):
    """Rows between the end of a group and the next aligned start become zero."""
    from ._common import settings
    t = torch()
    row = t.arange(sf.shape[-2], device=sf.device)
    used, start = t.zeros_like(row, dtype=t.bool), 0
    for end in ends.tolist():
        used |= (row >= start) & (row < end)
        start = align(end, settings.mk_alignment)
    return t.where(used.unsqueeze(-1), sf, t.zeros_like(sf))


@recorded
def get_k_grouped_mn_major_tma_aligned_packed_ue8m0_tensor(sf, grouped_layout, ks_cpu=None, gran_k=128, k_alignment=None, use_psum_layout=False):
    """[sum(ceil(k_g / gran_k)), mn] -> [sum(ceil(k_g / (4 gran_k))), mn]: words hold granules of one group only."""
    require(dtype_is(sf, "float32") and sf.dim() == 2 and gran_k in (32, 128), "sf is fp32 with 2 dimensions, gran_k 32 or 128")
    groups, granules, mn = grouped_layout.shape[0], *sf.shape
    words = sum(ceil_div(k, 4 * gran_k) for k in ks_cpu) if ks_cpu else (granules + 3 * groups) // 4
    out = torch().empty([words, mn], dtype=torch().int32, device=sf.device)
    if words and mn:
        launch(kernel("scales.dgk", "pack_ue8m0_k_grouped", "dgk_k_grouped_pack_fp32_into_ue8m0"), S=sf.contiguous(), KS=grouped_layout,
               PITCH=k_alignment or 128, P=out.view(torch().uint8).view(words, mn, 4), GRAN=gran_k, PSUM=int(use_psum_layout))
    return out


@recorded
def transform_sf_into_required_layout(sf, mn, k, recipe, num_groups=None, is_sfa=None, disable_ue8m0_cast=False, psum_layout=None):
    if len(recipe) == 3:
        require(is_sfa is not None, "is_sfa says which of a recipe's granularities is meant")
        gran_mn, gran_k = recipe[0 if is_sfa else 1], recipe[2]
    else:
        require(is_sfa is None, "a pair is one operand's: is_sfa is not given")
        gran_mn, gran_k = recipe
    major = arch_major(device_of(sf))
    words = ceil_div(k, gran_k * (4 if dtype_is(sf, "int32") else 1))
    require(sf.shape[-2] == ceil_div(mn, 1 if dtype_is(sf, "int32") else gran_mn) and sf.shape[-1] == words,
            f"sf is [{', '.join(map(str, sf.shape))}] for mn = {mn}, k = {k}, recipe {tuple(recipe)}")
    require(num_groups is None or (sf.dim() == 3 and sf.shape[0] == num_groups), "sf has a row of scales for each group")
    promoted = major < 10 or disable_ue8m0_cast
    if dtype_is(sf, "float32") and gran_mn == 1 and gran_k == 128 and promoted:
        return get_mn_major_tma_aligned_tensor(sf)
    if dtype_is(sf, "float32") and gran_mn == 128 and gran_k == 128 and promoted:
        return sf
    if dtype_is(sf, "float32") and gran_k in (32, 128) and major >= 10:
        if gran_mn > 1:
            index = torch().arange(mn, device=sf.device) // gran_mn
            sf = sf.index_select(-2, index)
        return get_mn_major_tma_aligned_packed_ue8m0_tensor(sf, psum_layout)
    if dtype_is(sf, "int32") and gran_mn == 1 and gran_k in (32, 128) and major >= 10:
        require(_is_mn_major(sf, _mn_major_strides(sf.shape)), "packed scales are M-major with columns of whole 16 bytes")
        return sf
    raise NotImplementedError(f"transform_sf_into_required_layout: {sf.dtype} scales with recipe {tuple(recipe)} on sm_{major}x; "
                              "fp32 scales of (1, 128) or (128, 128) work everywhere")
