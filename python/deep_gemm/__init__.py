"""deep_gemm - the functions of the DeepGEMM library on dgk's kernels: same names, keywords and meanings.

What has no kernel raises NotImplementedError when it is called, with the nearest alternative."""

from . import testing, utils
from ._attention import (fp8_fp4_mqa_logits, fp8_fp4_paged_mqa_logits, fp8_mqa_logits, fp8_paged_mqa_logits, get_paged_mqa_logits_metadata)
from ._common import (get_compile_mode, get_k_alignment_for_contiguous_layout, get_m_alignment_for_contiguous_layout,
                      get_mk_alignment_for_contiguous_layout, get_num_sms, get_pdl, get_tc_util, get_theoretical_mk_alignment_for_contiguous_layout,
                      init, set_block_size_multiple_of, set_compile_mode, set_ignore_compile_dims, set_mk_alignment_for_contiguous_layout, set_num_sms,
                      set_pdl, set_tc_util)
from ._cublaslt import cublaslt_gemm_nn, cublaslt_gemm_nt, cublaslt_gemm_tn, cublaslt_gemm_tt
from ._gemm import *  # noqa: F401,F403
from ._layout import (get_k_grouped_mn_major_tma_aligned_packed_ue8m0_tensor, get_mn_major_tma_aligned_packed_ue8m0_tensor,
                      get_mn_major_tma_aligned_tensor, get_tma_aligned_size, transform_sf_into_required_layout)
from ._missing import SymmBuffer, functions as _functions
from .utils import *  # noqa: F401,F403

globals().update(_functions)
__version__ = "2.6.1"
