"""Scores of a sparse-attention indexer: over a row of keys, and over pages of a cache."""

from dgk._record import recorded

from ._common import align, arch_major, device_of, dtype_is, kernel, launch, require, torch


def _no_fp4(name, q, values):
    if dtype_is(values, "int8"):
        raise NotImplementedError(f"{name} with FP4 inputs on sm_{arch_major(device_of(values))}x; the nearest is the same function with FP8 inputs")


@recorded
def fp8_fp4_mqa_logits(q, kv, weights, cu_seq_len_k_start, cu_seq_len_k_end, clean_logits=True, max_seqlen_k=0, logits_dtype=None):
    t = torch()
    (q, _), (kv, sf) = q, kv
    logits_dtype = t.float32 if logits_dtype is None else logits_dtype
    _no_fp4("fp8_fp4_mqa_logits", q, q)
    seq, heads, dim = q.shape
    seq_kv = kv.shape[0]
    require(tuple(weights.shape) == (seq, heads) and weights.stride(1) == 1, "weights is [seq, heads], its rows contiguous")
    require(not (max_seqlen_k and clean_logits), "compressed logits are not cleaned")
    size = 2 if logits_dtype == t.bfloat16 else 4
    width = max_seqlen_k if max_seqlen_k else seq_kv
    stride = align(align(max_seqlen_k, 256) if max_seqlen_k else seq_kv + 256, 1024 // size)
    logits = t.empty_strided([seq, width], [stride, 1], dtype=logits_dtype, device=q.device)
    if seq and seq_kv:
        launch(kernel("mqa_logits.dgk", "mqa_logits", "dgk_mqa_logits"), Q=q, KV=kv, SK=sf, W=weights, KS=cu_seq_len_k_start, KE=cu_seq_len_k_end,
               L=logits, COMP=int(max_seqlen_k > 0), CLEAN=int(clean_logits))
    return logits


@recorded
def fp8_mqa_logits(q, kv, weights, cu_seq_len_k_start, cu_seq_len_k_end, clean_logits=True, max_seqlen_k=0):
    return fp8_fp4_mqa_logits((q, None), kv, weights, cu_seq_len_k_start, cu_seq_len_k_end, clean_logits, max_seqlen_k)


SPLIT = 256  # keys a share of the schedule is counted in


def _by_token(lens, indices):
    """The lens of tokens whose requests are runs of equal neighbours in indices."""
    require(lens.dim() == 2 and lens.shape[1] == 1, f"indices go with next_n = 1, a row for each token; context_lens is {list(lens.shape)}")
    tokens = lens.shape[0]
    fits = tuple(getattr(indices, "shape", ())) == (tokens,) and dtype_is(indices, "int32") and indices.is_contiguous()
    require(fits, f"indices is int32 [{tokens}], contiguous")
    return lens.view(tokens)


@recorded
def get_paged_mqa_logits_metadata(context_lens, block_kv, num_sms, indices=None):
    t = torch()
    require(dtype_is(context_lens, "int32") and context_lens.is_contiguous(), "context_lens is int32 and contiguous")
    lens = context_lens if context_lens.dim() == 2 else context_lens.unsqueeze(1)
    meta = t.empty([num_sms + 1, 2], dtype=t.int32, device=context_lens.device)
    if indices is None:
        launch(kernel("paged_mqa_logits.dgk", "paged_plan", "dgk_paged_schedule"), LEN=lens, META=meta)
    else:
        launch(kernel("paged_mqa_logits.dgk", "paged_plan_varlen", "dgk_paged_schedule_varlen"), LEN=_by_token(lens, indices), IDX=indices, META=meta)
    return meta


def _cache_views(kv_cache, dim, kind):
    """Values [blocks, block_kv, dim] and scales [blocks, block_kv]: a block holds the values of all its keys, then their scales."""
    blocks, block_kv = kv_cache.shape[:2]
    pitch, start = kv_cache.stride(0), kv_cache.storage_offset()
    values = kv_cache.as_strided([blocks, block_kv, dim], [pitch, dim, 1], start).view(kind)
    scales = kv_cache.as_strided([blocks, block_kv * 4], [pitch, 1], start + block_kv * dim).view(torch().float32)
    return values, scales


@recorded
def fp8_fp4_paged_mqa_logits(q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len, clean_logits=False, logits_dtype=None,
                             indices=None):
    t = torch()
    q = q[0] if isinstance(q, (tuple, list)) else q
    require(not clean_logits, "paged logits are not cleaned")
    _no_fp4("fp8_fp4_paged_mqa_logits", q, q)
    batch, next_n, heads, dim = q.shape
    blocks, block_kv, one, width = kv_cache.shape
    require(one == 1 and width == dim + 4 and kv_cache.stride(1) == dim + 4, "kv_cache is [blocks, block_kv, 1, dim + 4] of bytes")
    require(tuple(weights.shape) == (batch * next_n, heads), "weights is [batch * next_n, heads]")
    lens = context_lens if context_lens.dim() == 2 else context_lens.unsqueeze(1)
    require(tuple(lens.shape) == (batch, next_n) or lens.shape[1] == 1, "context_lens is [batch, next_n]")
    if lens.shape[1] != next_n:
        lens = lens.expand(batch, next_n).contiguous()
    if indices is not None:
        lens = _by_token(lens, indices)
    logits_dtype = t.float32 if logits_dtype is None else logits_dtype
    require(logits_dtype in (t.float32, t.bfloat16), "logits are fp32 or bf16")
    stride = align(align(max_context_len, 256), 1024 // (2 if logits_dtype == t.bfloat16 else 4))
    logits = t.empty_strided([batch * next_n, max_context_len], [stride, 1], dtype=logits_dtype, device=q.device)
    values, scales = _cache_views(kv_cache, dim, q.dtype)
    columns = min(max_context_len, block_table.shape[1] * block_kv)
    if batch and columns:
        if indices is None:
            launch(kernel("paged_mqa_logits.dgk", "paged_mqa_logits", "dgk_paged_mqa_logits"), Q=q, KV=values, SK=scales,
                   W=weights.view(batch, next_n, heads), LEN=lens, PT=block_table, META=schedule_meta,
                   L=logits.as_strided([batch, next_n, columns], [next_n * stride, stride, 1]), NN=next_n)
        else:
            launch(kernel("paged_mqa_logits.dgk", "paged_mqa_logits_varlen", "dgk_paged_mqa_logits_varlen"), Q=q.view(batch, heads, dim), KV=values,
                   SK=scales, W=weights, LEN=lens, IDX=indices, PT=block_table, META=schedule_meta,
                   L=logits.as_strided([batch, columns], [stride, 1]))
    return logits


@recorded
def fp8_paged_mqa_logits(q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len, clean_logits=False, indices=None):
    return fp8_fp4_paged_mqa_logits(q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len, clean_logits, indices=indices)
