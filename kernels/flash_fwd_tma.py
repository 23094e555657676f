"""Exact attention, forward: the kernel for sm_90 and newer, whose tiles TMA copies.

`kernels/flash.py` checks the arguments, makes the descriptors and launches it;
`flash_fwd.py` is the same mathematics by pointers.
"""

import triton
import triton.language as tl

from ._softmax import LOG2_E, NO_MAXIMUM, key_blocks, masked_at, store_rows, weigh


@triton.jit
def _tile(descriptor, batch, head, at, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr):
    # Rows from `at` of one head, [BLOCK, BLOCK_D]: 0 past the tensor's last row and column.
    return tl.reshape(descriptor.load([batch, head, at, 0]), (BLOCK, BLOCK_D))


@triton.jit
def _attend(
    acc, top, total, query, K, V, batch, kv_head, count, first, start, sink_blocks, edge_blocks,
    keys, query_at, left, right, sinks, slope, factor, cap,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr,
    MASKED: tl.constexpr, RAGGED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # Attends `count` blocks of keys, which lie as in the pointer path's `_attend`.
    column = tl.arange(0, BLOCK_N)
    for at in range(first, first + count * BLOCK_N, BLOCK_N):  # one counter for all
        if MASKED:
            index = (at - first) // BLOCK_N
            at = masked_at(index, start, first, sink_blocks, edge_blocks, WINDOW, SINKS, BLOCK_N)
        # Both copies before either is used: they share a barrier.
        key = _tile(K, batch, kv_head, at, BLOCK_N, BLOCK_D)
        value = _tile(V, batch, kv_head, at, BLOCK_N, BLOCK_D)
        products = tl.dot(query, tl.trans(key), input_precision="ieee")
        weights, rescale, top, total = weigh(
            products, top, total, query_at[:, None], (at + column)[None, :],
            keys, left, right, sinks, slope, factor, cap,
            CAUSAL, WINDOW, SINKS, ALIBI, SOFT_CAP, MASKED, RAGGED,
        )  # fmt: skip
        acc = tl.dot(weights.to(value.dtype), value, acc * rescale[:, None], input_precision="ieee")
    return acc, top, total


@triton.jit
def _flash_fwd_tma(
    Q, K, V, O, LSE, SLOPES, KV_LENS,
    stride_ob, stride_oh, stride_ot, stride_od,
    heads, group, seq_q, seq_kv, head_dim,
    factor, cap, left, right, sinks,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr, LENS: tl.constexpr, RAGGED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # O = softmax(scale · Q Kᵀ + mask) V and its LSE, as `_flash_fwd` states them. Q, K, V are
    # descriptors of [B, H, T, D] and [B, Hkv, S, D] in blocks of [1, 1, BLOCK_M, BLOCK_D] and
    # [1, 1, BLOCK_N, BLOCK_D]: the hardware fills with 0 what lies outside, so no load has a
    # guard, and a head_dim under BLOCK_D needs none either (PADDED is not used). Offsets into
    # Q, K and V are the hardware's, those into O 64-bit.
    blocks = (seq_q + BLOCK_M - 1) // BLOCK_M
    program = tl.program_id(0)
    # Neighbours share a head's K and V in the cache; the longest causal rows go first.
    block = blocks - 1 - program % blocks
    batch = (program // blocks) // heads
    head = (program // blocks) % heads
    kv_head = head // group

    query = _tile(Q, batch, head, block * BLOCK_M, BLOCK_M, BLOCK_D)
    keys = seq_kv
    if LENS:
        keys = tl.minimum(keys, tl.load(KV_LENS + batch).to(tl.int32))
    slope = 0.0
    if ALIBI:
        slope = tl.load(SLOPES + head) * LOG2_E
    query_at = block * BLOCK_M + tl.arange(0, BLOCK_M) + (seq_kv - seq_q)
    start, whole, whole_stop, sink_blocks, edge_blocks, last_blocks = key_blocks(
        block, keys, seq_kv - seq_q, seq_q, left, right, sinks,
        CAUSAL, WINDOW, SINKS, BLOCK_M, BLOCK_N,
    )  # fmt: skip
    acc = tl.full((BLOCK_M, BLOCK_D), 0.0, tl.float32)
    top = tl.full((BLOCK_M,), NO_MAXIMUM, tl.float32)
    total = tl.full((BLOCK_M,), 0.0, tl.float32)
    if CAUSAL or WINDOW or RAGGED:
        acc, top, total = _attend(
            acc, top, total, query, K, V, batch, kv_head,
            sink_blocks + edge_blocks + last_blocks, whole_stop, start, sink_blocks, edge_blocks,
            keys, query_at, left, right, sinks, slope, factor, cap,
            CAUSAL, WINDOW, SINKS, ALIBI, SOFT_CAP, True, RAGGED, BLOCK_N, BLOCK_D,
        )  # fmt: skip
    acc, top, total = _attend(
        acc, top, total, query, K, V, batch, kv_head,
        (whole_stop - whole) // BLOCK_N, whole, start, 0, 0,
        keys, query_at, left, right, sinks, slope, factor, cap,
        CAUSAL, WINDOW, SINKS, ALIBI, SOFT_CAP, False, RAGGED, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    store_rows(
        O, LSE, acc, top, total, batch, head, block, heads, seq_q, head_dim,
        stride_ob, stride_oh, stride_ot, stride_od, BLOCK_M, BLOCK_D,
    )  # fmt: skip
