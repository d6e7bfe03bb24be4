"""What the families of dense GEMMs share: DeepGEMM's shapes, a case of one shape, with its peers."""

from lab import difference

NK = [(2112, 7168), (576, 7168), (24576, 1536), (32768, 512), (7168, 16384), (4096, 7168), (7168, 2048)]  # of DeepGEMM's own tests
NK_F32 = [(256, 7168), (129280, 7168)]                                                                      # fp32 results, bf16 only
MS = [1, 64, 128, 512, 4096]
BACKWARD_M = 4096


def shape(layout, m, n, k, out="bf16", acc=0):
    return {"layout": layout, "m": m, "n": n, "k": k, "out": out, "acc": acc}


class Case:
    """One shape: its sides, each with a result of its own, and what they must come to.
    calls: {side: function of the result}; unchecked: sides that compute something else, for their rate."""

    def __init__(self, lab, s, want, operands, calls, tolerance, unchecked=()):
        t = lab.torch
        kind = t.float32 if s["out"] == "f32" else t.bfloat16
        size = s["m"] * s["n"] * kind.itemsize
        self.flop = 2 * s["m"] * s["n"] * s["k"]
        self.bytes = sum(x.numel() * x.element_size() for x in operands) + size * (1 + s["acc"])
        self.tolerance = tolerance
        self._c = t.randn((s["m"], s["n"]), device=lab.device, dtype=kind) * 32 if s["acc"] else None
        self._want = want.add_(self._c) if s["acc"] else want
        self._unchecked = unchecked
        self._calls, self._d = calls, {side: lab.empty(s["m"], s["n"]).to(kind) for side in calls}
        self.sides = {side: lambda f=f, d=self._d[side]: f(d) for side, f in calls.items()}

    def check(self, side):
        """The distance of the side's result from what is wanted; None where there is nothing to hold it to."""
        d = self._d[side]
        d.copy_(self._c) if self._c is not None else d.fill_(float("nan"))
        self.sides[side]()
        return None if side in self._unchecked else difference(d, self._want)


def operands(lab, s):
    """bf16 a [m, k] and b [n, k]."""
    return lab.randn(s["m"], s["k"]), lab.randn(s["n"], s["k"])


def m_up_to_128(m):
    return m is not None and m <= 128
