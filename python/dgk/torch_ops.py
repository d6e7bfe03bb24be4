"""Kernels as torch operators, so that torch.compile and autograd's dispatcher know what they read and write.

    dgk.torch_ops.register("mine::scale", dgk.kernel("scale.dgk"))
    torch.ops.mine.scale(x, 3, y)
"""

import torch

from . import _native as N

_libraries = {}


def _library(namespace):
    if namespace not in _libraries:
        _libraries[namespace] = torch.library.Library(namespace, "FRAGMENT")
    return _libraries[namespace]


def schema_of(kernel, name):
    """The operator's schema: tensors that the kernel writes are mutated arguments; parameters and dimensions are optional ints."""
    k = kernel._of(kernel.device or "emu:sm_90a")
    parts, letter = [], ord("a")
    for slot, kind, writes, type_number, _ in k.slots:
        if kind == N.TENSOR:
            parts.append(f"Tensor({chr(letter)}!) {slot}" if writes else f"Tensor {slot}")
            letter += writes != 0
        elif kind == N.SCALAR:
            parts.append(f"{'float' if N.NAMES[type_number] in ('f32', 'f16', 'bf16') else 'int'} {slot}")
        elif kind == N.PARAM:
            parts.append(f"int? {slot}=None")
    return f"{name}({', '.join(parts)}) -> ()"


def register(qualified_name, kernel):
    """Defines torch.ops.NAMESPACE.NAME for a kernel and returns it."""
    namespace, _, name = qualified_name.partition("::")
    library = _library(namespace)
    names = [s[0] for s in kernel._of(kernel.device or "emu:sm_90a").slots if s[1] != N.DIM]

    def run(*args):
        kernel(**{n: a for n, a in zip(names, args) if a is not None})

    library.define(schema_of(kernel, name))
    for key in ("CUDA", "CPU"):
        library.impl(name, run, key)
    library.impl(name, lambda *args: None, "Meta")
    return getattr(getattr(torch.ops, namespace), name)


def _fake(library, name, function):
    library.impl(name, function, "Meta")


def register_deep_gemm():
    """torch.ops.dgk.bf16_gemm_nt, fp8_gemm_nt, fp8_mqa_logits, get_paged_mqa_logits_metadata and fp8_paged_mqa_logits."""
    import deep_gemm as dg
    library = _library("dgk")
    if hasattr(torch.ops.dgk, "bf16_gemm_nt"):
        return
    operators = {
        "bf16_gemm_nt(Tensor a, Tensor b, Tensor(a!) d, Tensor? c=None) -> ()":
            (dg.bf16_gemm_nt, lambda a, b, d, c=None: None),
        "fp8_gemm_nt(Tensor a, Tensor sfa, Tensor b, Tensor sfb, Tensor(a!) d, Tensor? c=None, int[]? recipe=None) -> ()":
            (lambda a, sfa, b, sfb, d, c=None, recipe=None: dg.fp8_gemm_nt((a, sfa), (b, sfb), d, c, recipe), lambda a, sfa, b, sfb, d, c=None, recipe=None: None),
        "fp8_mqa_logits(Tensor q, Tensor kv, Tensor kv_sf, Tensor weights, Tensor ks, Tensor ke, bool clean_logits=True, int max_seqlen_k=0) -> Tensor":
            (lambda q, kv, sf, w, ks, ke, clean_logits=True, max_seqlen_k=0: dg.fp8_mqa_logits(q, (kv, sf), w, ks, ke, clean_logits, max_seqlen_k),
             lambda q, kv, sf, w, ks, ke, clean_logits=True, max_seqlen_k=0: q.new_empty((q.shape[0], max_seqlen_k or kv.shape[0]), dtype=torch.float32)),
        "get_paged_mqa_logits_metadata(Tensor context_lens, int block_kv, int num_sms, Tensor? indices=None) -> Tensor":
            (dg.get_paged_mqa_logits_metadata, lambda lens, block_kv, num_sms, indices=None: lens.new_empty((num_sms + 1, 2))),
        "fp8_paged_mqa_logits(Tensor q, Tensor kv_cache, Tensor weights, Tensor context_lens, Tensor block_table, Tensor schedule_meta, "
        "int max_context_len, Tensor? indices=None) -> Tensor":
            (lambda q, kv, w, lens, table, meta, n, indices=None: dg.fp8_paged_mqa_logits(q, kv, w, lens, table, meta, n, indices=indices),
             lambda q, kv, w, lens, table, meta, n, indices=None: q.new_empty((q.shape[0] * q.shape[1], n), dtype=torch.float32)),
    }
    for schema, (run, fake) in operators.items():
        name = schema.partition("(")[0]
        library.define(schema)
        for key in ("CUDA", "CPU"):
            library.impl(name, run, key)
        _fake(library, name, fake)
