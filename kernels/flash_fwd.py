"""Exact attention, forward: the kernel. Pointer loads, for sm_80 and newer and gfx942.

`kernels/flash.py` checks the arguments and launches it.
"""

import triton
import triton.language as tl

from ._softmax import (
    LOG2_E,
    NO_MAXIMUM,
    key_blocks,
    load_tile,
    masked_at,
    store_rows,
    weigh,
)


@triton.jit
def _products(
    query, key_base, at, keys, stride_kt, stride_kd, head_dim,
    GUARDED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # Q Kᵀ of the block of keys from `at`, [M, N].
    column = tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    # 64 bits for the block, 32 inside it: a head's keys may span over 2³¹ elements.
    tile = (column[None, :] * stride_kt + d[:, None] * stride_kd) + (
        key_base + at.to(tl.int64) * stride_kt
    )
    inside = (at + column)[None, :] < keys
    key = load_tile(tile, inside, d[:, None] < head_dim, GUARDED, PADDED)
    return tl.dot(query, key, input_precision="ieee")


@triton.jit
def _add_values(
    acc, top, total, products, value_base, at,
    keys, query_at, left, right, sinks, slope, factor, cap, stride_vt, stride_vd, head_dim,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr,
    MASKED: tl.constexpr, RAGGED: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # One step of the online softmax, over the products with the block of keys from `at`.
    column = tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    weights, rescale, top, total = weigh(
        products, top, total, query_at[:, None], (at + column)[None, :],
        keys, left, right, sinks, slope, factor, cap,
        CAUSAL, WINDOW, SINKS, ALIBI, SOFT_CAP, MASKED, RAGGED,
    )  # fmt: skip
    tile = (column[:, None] * stride_vt + d[None, :] * stride_vd) + (
        value_base + at.to(tl.int64) * stride_vt
    )
    inside = (at + column)[:, None] < keys
    value = load_tile(tile, inside, d[None, :] < head_dim, MASKED and RAGGED, PADDED)
    acc = tl.dot(weights.to(value.dtype), value, acc * rescale[:, None], input_precision="ieee")
    return acc, top, total


@triton.jit
def _attend(
    acc, top, total, query, key_base, value_base, count, first, start, sink_blocks, edge_blocks,
    keys, query_at, left, right, sinks, slope, factor, cap,
    stride_kt, stride_kd, stride_vt, stride_vd, head_dim,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr, CARRY: tl.constexpr,
    MASKED: tl.constexpr, RAGGED: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # Attends `count` blocks of keys, the first at key `first`. MASKED: some of their pairs
    # are not seen, and under a window they lie apart, as `masked_at` says. RAGGED: one may
    # pass the last key. CARRY, of unmasked blocks: the next block's products are begun
    # before this one's softmax, so that matrix units and exponentials work at once.
    if CARRY:
        if count > 0:
            at = first
            products = _products(
                query, key_base, at, keys, stride_kt, stride_kd, head_dim,
                MASKED and RAGGED, BLOCK_N, BLOCK_D, PADDED,
            )  # fmt: skip
            for index in range(1, count):
                next_at = first + index * BLOCK_N
                next_products = _products(
                    query, key_base, next_at, keys, stride_kt, stride_kd, head_dim,
                    MASKED and RAGGED, BLOCK_N, BLOCK_D, PADDED,
                )  # fmt: skip
                acc, top, total = _add_values(
                    acc, top, total, products, value_base, at,
                    keys, query_at, left, right, sinks, slope, factor, cap,
                    stride_vt, stride_vd, head_dim, CAUSAL, WINDOW, SINKS,
                    ALIBI, SOFT_CAP, MASKED, RAGGED, BLOCK_N, BLOCK_D, PADDED,
                )  # fmt: skip
                products = next_products
                at = next_at
            acc, top, total = _add_values(
                acc, top, total, products, value_base, at,
                keys, query_at, left, right, sinks, slope, factor, cap,
                stride_vt, stride_vd, head_dim, CAUSAL, WINDOW, SINKS,
                ALIBI, SOFT_CAP, MASKED, RAGGED, BLOCK_N, BLOCK_D, PADDED,
            )  # fmt: skip
    else:
        for index in range(0, count):
            at = first + index * BLOCK_N
            if MASKED:
                at = masked_at(
                    index, start, first, sink_blocks, edge_blocks, WINDOW, SINKS, BLOCK_N
                )
            products = _products(
                query, key_base, at, keys, stride_kt, stride_kd, head_dim,
                MASKED and RAGGED, BLOCK_N, BLOCK_D, PADDED,
            )  # fmt: skip
            acc, top, total = _add_values(
                acc, top, total, products, value_base, at,
                keys, query_at, left, right, sinks, slope, factor, cap,
                stride_vt, stride_vd, head_dim, CAUSAL, WINDOW, SINKS,
                ALIBI, SOFT_CAP, MASKED, RAGGED, BLOCK_N, BLOCK_D, PADDED,
            )  # fmt: skip
    return acc, top, total


@triton.jit
def _flash_fwd(
    Q, K, V, O, LSE, SLOPES, KV_LENS,
    stride_qb, stride_qh, stride_qt, stride_qd,
    stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    stride_ob, stride_oh, stride_ot, stride_od,
    heads, group, seq_q, seq_kv, head_dim,
    factor, cap, left, right, sinks,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr, LENS: tl.constexpr, RAGGED: tl.constexpr,
    CARRY: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # O = softmax(scale · Q Kᵀ + mask) V, one program per BLOCK_M query rows of one head.
    # Q, O [B, H, T, D]; K, V [B, Hkv, S, D], any strides; LSE [B, H, T] fp32, contiguous,
    # natural log. Query head h reads KV head h // group. D <= BLOCK_D, a power of two.
    #
    # Row i stands at p = i + S - T and sees key j where: j < S, and j < KV_LENS[b] (LENS);
    # j <= p (CAUSAL); p - left <= j <= p + right, or j < sinks (WINDOW, SINKS).
    # A logit is scale · q·k, or cap · tanh(scale · q·k / cap) (SOFT_CAP), less
    # slope · |p - j| (ALIBI). It is held in log2 units: `factor` is scale · log2(e), but
    # scale alone under a soft-cap, whose `cap` is in natural units.
    # A row that sees nothing gives O = 0 and LSE = -inf.
    #
    # Scores, running maximum and sum in fp32; P is rounded to V's dtype before the second
    # dot; fp32 dots are IEEE, never tf32. Two loops: the blocks at an edge (sinks, left edge
    # of the window, diagonal or right edge, last keys), masked; then those whose every pair
    # is seen, which pay for no mask.
    # After Dao 2023, arXiv:2307.08691, algorithm 1. Offsets in int64: B·H·T·D passes 2³¹.
    blocks = (seq_q + BLOCK_M - 1) // BLOCK_M
    program = tl.program_id(0)
    # Neighbours share a head's K and V in the cache; the longest causal rows go first.
    block = blocks - 1 - program % blocks
    batch = (program // blocks) // heads
    head = (program // blocks) % heads
    kv_head = head // group

    # A tile is a 64-bit scalar pointer and 32-bit offsets inside the tile.
    row = block * BLOCK_M + tl.arange(0, BLOCK_M)
    in_block = tl.arange(0, BLOCK_M)[:, None]
    d = tl.arange(0, BLOCK_D)
    in_tile = (row[:, None] < seq_q) & (d[None, :] < head_dim)
    batch64, head64, kv_head64 = batch.to(tl.int64), head.to(tl.int64), kv_head.to(tl.int64)
    first_row64 = block.to(tl.int64) * BLOCK_M
    query_base = Q + batch64 * stride_qb + head64 * stride_qh + first_row64 * stride_qt
    key_base = K + batch64 * stride_kb + kv_head64 * stride_kh
    value_base = V + batch64 * stride_vb + kv_head64 * stride_vh
    query = tl.load(query_base + (in_block * stride_qt + d[None, :] * stride_qd), in_tile, 0.0)

    keys = seq_kv
    if LENS:
        keys = tl.minimum(keys, tl.load(KV_LENS + batch).to(tl.int32))
    slope = 0.0
    if ALIBI:
        slope = tl.load(SLOPES + head) * LOG2_E

    query_at = row + (seq_kv - seq_q)
    start, whole, whole_stop, sink_blocks, edge_blocks, last_blocks = key_blocks(
        block, keys, seq_kv - seq_q, seq_q, left, right, sinks,
        CAUSAL, WINDOW, SINKS, BLOCK_M, BLOCK_N,
    )  # fmt: skip
    acc = tl.full((BLOCK_M, BLOCK_D), 0.0, tl.float32)
    top = tl.full((BLOCK_M,), NO_MAXIMUM, tl.float32)
    total = tl.full((BLOCK_M,), 0.0, tl.float32)
    if CAUSAL or WINDOW or RAGGED:
        acc, top, total = _attend(
            acc, top, total, query, key_base, value_base, sink_blocks + edge_blocks + last_blocks,
            whole_stop, start, sink_blocks, edge_blocks,
            keys, query_at, left, right, sinks, slope, factor, cap,
            stride_kt, stride_kd, stride_vt, stride_vd, head_dim, CAUSAL, WINDOW, SINKS,
            ALIBI, SOFT_CAP, False, True, RAGGED, BLOCK_N, BLOCK_D, PADDED,
        )  # fmt: skip
    acc, top, total = _attend(
        acc, top, total, query, key_base, value_base, (whole_stop - whole) // BLOCK_N,
        whole, start, 0, 0,
        keys, query_at, left, right, sinks, slope, factor, cap,
        stride_kt, stride_kd, stride_vt, stride_vd, head_dim, CAUSAL, WINDOW, SINKS,
        ALIBI, SOFT_CAP, CARRY, False, RAGGED, BLOCK_N, BLOCK_D, PADDED,
    )  # fmt: skip

    store_rows(
        O, LSE, acc, top, total, batch, head, block, heads, seq_q, head_dim,
        stride_ob, stride_oh, stride_ot, stride_od, BLOCK_M, BLOCK_D,
    )  # fmt: skip
