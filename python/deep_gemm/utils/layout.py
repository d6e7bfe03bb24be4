"""The scale transforms under the name callers import them by."""

from .._common import (get_k_alignment_for_contiguous_layout, get_m_alignment_for_contiguous_layout, get_mk_alignment_for_contiguous_layout,
                       get_theoretical_mk_alignment_for_contiguous_layout, set_mk_alignment_for_contiguous_layout)
from .._layout import (get_k_grouped_mn_major_tma_aligned_packed_ue8m0_tensor, get_mn_major_tma_aligned_packed_ue8m0_tensor,
                       get_mn_major_tma_aligned_tensor, get_tma_aligned_size, transform_sf_into_required_layout)

__all__ = [n for n in dir() if n.startswith(("get_", "set_", "transform_"))]
