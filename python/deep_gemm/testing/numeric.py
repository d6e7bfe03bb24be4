"""How far two results are apart."""


def calc_diff(x, y):
    """1 - 2<x,y> / (<x,x> + <y,y>) in double precision; 0 for two zero tensors."""
    x, y = x.double(), y.double()
    norm = (x * x + y * y).sum()
    return 1 - 2 * (x * y).sum() / norm if float(norm) else 0.0


def count_bytes(*tensors):
    """Bytes of tensors, also inside tuples and lists; None counts nothing."""
    total = 0
    for t in tensors:
        if isinstance(t, (tuple, list)):
            total += count_bytes(*t)
        elif t is not None:
            total += t.numel() * t.element_size()
    return total


def assert_bitwise_equal(x, y):
    import torch
    assert x.dtype == y.dtype and x.shape == y.shape, f"{x.dtype} {tuple(x.shape)} is not {y.dtype} {tuple(y.shape)}"
    same = torch.equal(x.contiguous().view(torch.uint8), y.contiguous().view(torch.uint8))
    assert same, "the bits differ"
