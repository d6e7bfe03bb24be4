"""Names of older functions; none has a kernel here."""


def _missing(name):
    def function(*args, **kwargs):
        raise NotImplementedError(f"deep_gemm.legacy.{name} has no kernel here; the nearest alternatives are m_grouped_fp8_gemm_nt_contiguous "
                                  "and k_grouped_bf16_gemm_tn_contiguous")
    function.__name__ = function.__qualname__ = name
    return function


for _name in ("m_grouped_bf16_gemm_nt_contiguous_tl", "m_grouped_bf16_gemm_nn_contiguous_tl", "a_fused_m_grouped_bf16_gemm_nt_contiguous_tl",
              "a_fused_m_grouped_bf16_gemm_nn_contiguous_tl", "a_fused_k_grouped_bf16_gemm_tn_contiguous_tl", "b_fused_k_grouped_bf16_gemm_tn_contiguous_tl"):
    globals()[_name] = _missing(_name)
