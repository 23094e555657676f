"""Block-sparse attention, forward: the kernel. Pointer loads, for sm_80 and newer and gfx942.

`kernels/block_sparse.py` checks the arguments and launches it.
"""

import triton
import triton.language as tl

from ._softmax import LOG2_E, NO_MAXIMUM, finish, listed, load_tile, online_softmax, soft_cap


@triton.jit
def _attend(
    acc, top, total, query, key_base, value_base, ENTRIES, MASKS, first, stop,
    keys, query_at, slope, factor, cap,
    stride_kt, stride_kd, stride_vt, stride_vd, head_dim,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr, LENS: tl.constexpr, PARTIAL: tl.constexpr,
    STEPPED: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, TILE_N: tl.constexpr,
    BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # Attends the tiles of TILE_N keys that entries first..stop-1 name, BLOCK_N at a time.
    # PARTIAL: each with its mask, and it may pass the last key.
    PIECES: tl.constexpr = TILE_N // BLOCK_N
    row = tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    GUARDED: tl.constexpr = PARTIAL or LENS
    for index in range(first * PIECES, stop * PIECES):
        entry = ENTRIES + index // PIECES * 3
        place = index % PIECES * BLOCK_N + tl.arange(0, BLOCK_N)
        # 64 bits for the tile, 32 inside it, unless WIDE.
        start = tl.load(entry)
        lane = place
        if STEPPED:
            lane = place * tl.load(entry + 1)
        key_at = start + lane
        if WIDE:
            lane = lane.to(tl.int64)
        keys_at = key_base + start.to(tl.int64) * stride_kt
        values_at = value_base + start.to(tl.int64) * stride_vt
        inside = key_at < keys
        key = load_tile(
            keys_at + (lane[None, :] * stride_kt + d[:, None] * stride_kd),
            inside[None, :], d[:, None] < head_dim, GUARDED, PADDED,
        )  # fmt: skip
        scores = tl.dot(query, key, input_precision="ieee")
        if SOFT_CAP:
            scores = soft_cap(scores * factor, cap, SOFT_CAP)
        elif ALIBI:
            scores = scores * factor
        if ALIBI:
            scores = scores - slope * tl.abs(query_at[:, None] - key_at[None, :]).to(tl.float32)
        if PARTIAL:
            seen = listed(MASKS, tl.load(entry + 2), row, place, BLOCK_M, TILE_N)
            scores = tl.where(seen, scores, float("-inf"))
        if LENS:
            scores = tl.where(inside[None, :], scores, float("-inf"))
        # Under a soft-cap or a bias the scores are logits already.
        weights, rescale, top, total = online_softmax(
            scores, 1.0 if SOFT_CAP or ALIBI else factor, top, total
        )
        value = load_tile(
            values_at + (lane[:, None] * stride_vt + d[None, :] * stride_vd),
            inside[:, None], d[None, :] < head_dim, GUARDED, PADDED,
        )  # fmt: skip
        acc = tl.dot(weights.to(value.dtype), value, acc * rescale[:, None], input_precision="ieee")
    return acc, top, total


@triton.jit
def _block_sparse_fwd(
    Q, K, V, O, LSE, PARTS, PART_LSE, ITEMS, ENTRIES, MASKS, SLOPES, KV_LENS,
    stride_qb, stride_qh, stride_qt, stride_qd,
    stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    stride_ob, stride_oh, stride_ot, stride_od,
    items, slots, heads, group, seq_q, seq_kv, head_dim, factor, cap,
    SPLIT: tl.constexpr, STEPPED: tl.constexpr, WIDE: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr, LENS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, TILE_N: tl.constexpr,
    BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # O = softmax(logits over the pairs listed) V, and LSE = log Σ exp(logits). One program
    # holds up to BLOCK_M query rows of one head, `step` apart, and walks its list of tiles
    # of keys: those that are attended whole, then those with a mask (`_block_lists.py`).
    # Q, O [B, H, T, D]; K, V [B, Hkv, S, D], any strides; LSE [B, H, T] fp32, contiguous,
    # natural log. Query head h reads KV head h // group. D <= BLOCK_D, a power of two.
    # ITEMS, ENTRIES, MASKS int32, contiguous: `_block_lists.Side`. STEPPED: a tile's tokens
    # may lie more than one apart; WIDE: so far that a tile spans 2³¹ elements.
    #
    # Row i stands at p = i + S - T. A listed key j is seen where j < S, and j < KV_LENS[b]
    # (LENS). A logit is scale · q·k, or cap · tanh(scale · q·k / cap) (SOFT_CAP), less
    # slope · |p - j| (ALIBI); in log2 units, with `factor` as in `flash_fwd.py`.
    # Rows that several programs hold (SPLIT) go to slots of PARTS [B, H, slots, D] and
    # PART_LSE [B, H, slots], fp32, which `_combine` joins. A row that sees nothing gives
    # O = 0 and LSE = -inf.
    #
    # Scores, running maximum and sum in fp32; P is rounded to V's dtype before the second
    # dot; fp32 dots are IEEE, never tf32.
    # After Dao 2023, arXiv:2307.08691, algorithm 1; block lists after Dong et al. 2024,
    # arXiv:2412.05496 (FlexAttention). Offsets in int64: B·H·T·D passes 2³¹.
    program = tl.program_id(0)
    # Neighbours share a head's K and V in the cache; the longest lists go first.
    item = ITEMS + (program % items) * 7
    batch = (program // items) // heads
    head = (program // items) % heads
    batch64, head64, kv_head64 = batch.to(tl.int64), head.to(tl.int64), (head // group).to(tl.int64)

    lane = tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    row = tl.load(item) + tl.load(item + 1) * lane
    there = lane < tl.load(item + 2)
    row64 = row.to(tl.int64)
    in_tile = there[:, None] & (d[None, :] < head_dim)
    query_base = Q + batch64 * stride_qb + head64 * stride_qh
    key_base = K + batch64 * stride_kb + kv_head64 * stride_kh
    value_base = V + batch64 * stride_vb + kv_head64 * stride_vh
    query = tl.load(query_base + row64[:, None] * stride_qt + d[None, :] * stride_qd, in_tile, 0.0)

    keys = seq_kv
    if LENS:
        keys = tl.minimum(keys, tl.load(KV_LENS + batch).to(tl.int32))
    slope = 0.0
    if ALIBI:
        slope = tl.load(SLOPES + head) * LOG2_E
    query_at = row + (seq_kv - seq_q)

    acc = tl.full((BLOCK_M, BLOCK_D), 0.0, tl.float32)
    top = tl.full((BLOCK_M,), NO_MAXIMUM, tl.float32)
    total = tl.full((BLOCK_M,), 0.0, tl.float32)
    first, first_partial, stop = tl.load(item + 4), tl.load(item + 5), tl.load(item + 6)
    acc, top, total = _attend(
        acc, top, total, query, key_base, value_base, ENTRIES, MASKS, first, first_partial,
        keys, query_at, slope, factor, cap, stride_kt, stride_kd, stride_vt, stride_vd, head_dim,
        ALIBI, SOFT_CAP, LENS, False, STEPPED, WIDE, BLOCK_M, BLOCK_N, TILE_N, BLOCK_D, PADDED,
    )  # fmt: skip
    acc, top, total = _attend(
        acc, top, total, query, key_base, value_base, ENTRIES, MASKS, first_partial, stop,
        keys, query_at, slope, factor, cap, stride_kt, stride_kd, stride_vt, stride_vd, head_dim,
        ALIBI, SOFT_CAP, LENS, True, STEPPED, WIDE, BLOCK_M, BLOCK_N, TILE_N, BLOCK_D, PADDED,
    )  # fmt: skip

    out, lse = finish(acc, top, total)
    # What goes where: to the output, or to a slot.
    direct = there
    if SPLIT:
        slot = tl.load(item + 3)
        direct = there & (slot < 0)
        to_slot = there & (slot >= 0)
        at = (batch64 * heads + head) * slots + slot + lane
        part = PARTS + at[:, None] * head_dim + d[None, :]
        tl.store(part, out, in_tile & to_slot[:, None])
        tl.store(PART_LSE + at, lse, to_slot)
    out_tile = O + batch64 * stride_ob + head64 * stride_oh + row64[:, None] * stride_ot
    out_tile += d[None, :] * stride_od
    tl.store(out_tile, out.to(O.dtype.element_ty), in_tile & direct[:, None])
    tl.store(LSE + (batch64 * heads + head) * seq_q + row, lse, direct)
