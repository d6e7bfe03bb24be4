"""Casts to fp8 and fp4 with scales, as the kernels take them."""

__all__ = ["align", "cast_back_from_fp4", "ceil_div", "ceil_to_ue8m0", "pack_ue8m0_to_int", "per_block_cast_to_fp8", "per_channel_cast_to_fp8",
           "per_custom_dims_cast_to_fp8", "per_token_cast_to_fp4", "per_token_cast_to_fp8", "transpose_packed_fp4", "unpack_ue8m0_from_int"]

E4M3_MAX, E2M1_MAX, SMALLEST = 448.0, 6.0, 1e-4
E2M1_MIDPOINTS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
E2M1_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def ceil_div(x, y):
    return -(-x // y)


def align(x, y):
    return ceil_div(x, y) * y


def ceil_to_ue8m0(x):
    """The next power of two, 2^-126 to 2^127."""
    import torch
    bits = x.abs().float().view(torch.int32)
    exponent = ((bits >> 23) & 0xff) + ((bits & 0x7fffff) != 0).int()
    return (exponent.clamp(1, 254) << 23).view(torch.float32)


def pack_ue8m0_to_int(x):
    """Powers of two [.., 4n] as int32 [.., n], the first in the lowest byte."""
    import torch
    return (x.contiguous().view(torch.int32) >> 23).to(torch.uint8).view(torch.int32)


def unpack_ue8m0_from_int(packed):
    import torch
    return (packed.contiguous().view(torch.uint8).to(torch.int32) << 23).view(torch.float32)


def _scale(amax, largest, use_ue8m0):
    sf = amax.clamp(SMALLEST) / largest
    return ceil_to_ue8m0(sf) if use_ue8m0 else sf


def _padded(x, rows, columns):
    import torch
    m, n = x.shape
    out = torch.zeros((align(m, rows), align(n, columns)), dtype=x.dtype, device=x.device)
    out[:m, :n] = x
    return out


def per_token_cast_to_fp8(x, use_ue8m0, gran_k=128, use_packed_ue8m0=False):
    """[m, n] as fp8 with a scale for each row and gran_k columns."""
    import torch
    m, n = x.shape
    tiles = _padded(x, 1, gran_k).view(m, -1, gran_k)
    sf = _scale(tiles.abs().float().amax(2), E4M3_MAX, use_ue8m0)
    values = (tiles * (1 / sf.unsqueeze(2))).to(torch.float8_e4m3fn).view(m, -1)[:, :n].contiguous()
    return values, pack_ue8m0_to_int(sf) if use_packed_ue8m0 else sf


def per_channel_cast_to_fp8(x, use_ue8m0, gran_k=128):
    """[m, n] as fp8 with a scale for each column and gran_k rows."""
    import torch
    m, n = x.shape
    tiles = x.view(m // gran_k, gran_k, n)
    sf = _scale(tiles.abs().float().amax(1), E4M3_MAX, use_ue8m0)
    return (tiles * (1 / sf.unsqueeze(1))).to(torch.float8_e4m3fn).view(m, n), sf


def per_block_cast_to_fp8(x, use_ue8m0, gran_k=128):
    """[m, n] as fp8 with a scale for each block of gran_k x gran_k."""
    import torch
    m, n = x.shape
    whole = _padded(x, gran_k, gran_k)
    tiles = whole.view(whole.shape[0] // gran_k, gran_k, whole.shape[1] // gran_k, gran_k)
    sf = _scale(tiles.abs().float().amax((1, 3)), E4M3_MAX, use_ue8m0)
    values = (tiles * (1 / sf[:, None, :, None])).to(torch.float8_e4m3fn)
    return values.view_as(whole)[:m, :n].contiguous(), sf


def per_custom_dims_cast_to_fp8(x, dims, use_ue8m0):
    """x as fp8 with a scale for each index of `dims`."""
    import torch
    others = tuple(i for i in range(x.dim()) if i not in set(dims))
    sf = _scale(x.abs().float().amax(others, keepdim=True), E4M3_MAX, use_ue8m0)
    return (x * (1 / sf)).to(torch.float8_e4m3fn), sf.squeeze()


def per_token_cast_to_fp4(x, use_ue8m0, gran_k=128, use_packed_ue8m0=False):
    """[m, n] as packed e2m1, two a byte with the even column low, and a scale for each row and gran_k columns."""
    import torch
    m, n = x.shape
    tiles = _padded(x, 1, max(gran_k, 2)).view(m, -1, gran_k)
    sf = _scale(tiles.abs().float().amax(2), E2M1_MAX, use_ue8m0)
    scaled = (tiles * (1 / sf.unsqueeze(2))).view(m, -1)[:, :n]
    size = torch.bucketize(scaled.abs().float().contiguous(), torch.tensor(E2M1_MIDPOINTS, device=x.device))
    code = (size | (((scaled < 0) & (size != 0)).to(size.dtype) << 3)).to(torch.uint8)
    packed = (code[:, 0::2] | code[:, 1::2] << 4).view(torch.int8).contiguous()
    if not use_packed_ue8m0:
        return packed, sf
    words = torch.ones((m, align(sf.shape[1], 4)), dtype=sf.dtype, device=sf.device)
    words[:, :sf.shape[1]] = sf
    return packed, pack_ue8m0_to_int(words)


def _codes(packed):
    import torch
    b = packed.view(torch.uint8)
    return torch.stack((b & 15, b >> 4), dim=-1).flatten(-2)


def transpose_packed_fp4(a):
    """[m, n / 2] as [n, m / 2]."""
    import torch
    c = _codes(a).transpose(0, 1)
    return (c[:, 0::2] | c[:, 1::2] << 4).contiguous().view(torch.int8)


def cast_back_from_fp4(packed, sf, gran_k=128, use_packed_ue8m0=False):
    import torch
    c = _codes(packed).long()
    values = torch.tensor(E2M1_VALUES + tuple(-v for v in E2M1_VALUES), device=packed.device)[c]
    sf = unpack_ue8m0_from_int(sf) if use_packed_ue8m0 else sf
    return values * sf.repeat_interleave(gran_k, dim=1)[:, :values.shape[1]]
