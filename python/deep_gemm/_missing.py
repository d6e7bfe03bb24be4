"""Names that callers look up and no kernel stands behind yet: each says so when called, and names the nearest alternative."""

import inspect

from ._common import arch_major, current_device

_MISSING = [
    # name, its parameters, the nearest alternative
    ("k_grouped_fp8_gemm_tn_contiguous", "a, b, d, ks_cpu=None, grouped_layout=None, c=None, recipe=(1, 1, 128), compiled_dims='mn', use_psum_layout=False",
     "k_grouped_fp8_gemm_nt_contiguous or k_grouped_bf16_gemm_tn_contiguous"),
    ("get_symm_buffer_for_mega_moe", "group, num_experts, num_max_tokens_per_rank, num_topk, hidden, intermediate_hidden, use_fp8_dispatch=None, "
     "mma_type='fp8xfp4', activation='swiglu'", "m_grouped_fp8_gemm_nt_masked with a dispatch of one's own"),
    ("transform_weights_for_mega_moe", "l1_weights, l2_weights, activation='swiglu'", "m_grouped_fp8_gemm_nt_masked"),
    ("fp8_fp4_mega_moe", "y, l1_weights, l2_weights, sym_buffer, cumulative_local_expert_recv_stats=None, recipe=(1, 1, 32), activation='swiglu', "
     "activation_clamp=None, fast_math=True", "m_grouped_fp8_gemm_nt_masked"),
    ("bf16_mega_moe", "y, l1_weights, l2_weights, sym_buffer, cumulative_local_expert_recv_stats=None, activation='swiglu', activation_clamp=None, "
     "fast_math=True", "m_grouped_fp8_gemm_nt_masked"),
    ("get_token_alignment_for_mega_moe", "", "get_mk_alignment_for_contiguous_layout"),
    ("get_ring_limit_for_mega_moe", "*args", "none"),
    ("get_symm_buffer_size_for_mega_moe", "*args", "none"),
]


def _missing(name, parameters, nearest):
    def function(*args, **kwargs):
        try:
            arch = f"sm_{arch_major(current_device())}x"
        except Exception:
            arch = "this machine"
        raise NotImplementedError(f"deep_gemm.{name} has no kernel here on {arch}; the nearest alternative is {nearest}. "
                                  "A kernel is a .dgk file: docs/language.md says how one is written")
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Not there yet; the nearest alternative is {nearest}."
    function.__signature__ = inspect.signature(eval(f"lambda {parameters}: 0"))
    return function


functions = {row[0]: _missing(*row) for row in _MISSING}


class SymmBuffer:
    """Not there yet: symmetric memory of several GPUs."""

    def __init__(self, *args, **kwargs):
        functions["get_symm_buffer_for_mega_moe"]()
