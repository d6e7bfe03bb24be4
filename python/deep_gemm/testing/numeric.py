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


def assert_bitwise_equal(x, y, label=""):
    """The same type, shape and bits; else says how many elements differ, and the first of them."""
    import torch
    name = f"{label}: " if label else ""
    assert x.dtype == y.dtype and x.shape == y.shape, f"{name}{x.dtype} {tuple(x.shape)} is not {y.dtype} {tuple(y.shape)}"
    bits = [t.contiguous().flatten().view(torch.uint8).view(-1, t.element_size()) for t in (x, y)]
    if torch.equal(*bits):
        return
    differ = (bits[0] != bits[1]).any(1).nonzero().flatten()
    first = int(differ[0])
    at = ", ".join(str(int(i)) for i in torch.unravel_index(torch.tensor(first), x.shape))
    raise AssertionError(f"{name}{differ.numel()} of {x.numel()} elements differ; the first is [{at}]: "
                         f"{x.flatten()[first].item()} is not {y.flatten()[first].item()}")
