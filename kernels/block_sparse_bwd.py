"""Block-sparse attention, backward: the two kernels. Pointer loads.

`kernels/block_sparse.py` launches them, `_block_sparse_dq` first: it writes DELTA.

With P = exp(logits - LSE), dP = dO Vᵀ and δ = rowsum(dO ∘ O):
    dS = P ∘ (dP - δ)      dV = Pᵀ dO      dQ = scale · dS K      dK = scale · dSᵀ Q
and under a soft-cap dS is multiplied by 1 - tanh²(scale · q·k / cap); a gradient of the LSE
is taken from δ. The one kernel walks
the lists of query tiles, the other those of key tiles, each over all query heads of a KV
head: every sum has one owner and one order, there are no atomics, and a run gives the same
bits as the next. After Dao 2023, arXiv:2307.08691, algorithm 2.

Q, O, dO, dQ [B, H, T, D]; K, V, dK, dV [B, Hkv, S, D], any strides; LSE (natural log) and
DELTA [B, H, T] fp32, contiguous. Logits, features, lists and `factor` are as in
`block_sparse_fwd.py`. Tiles that several programs hold go to slots of PARTS, fp32.
P and dS are recomputed in fp32, and rounded to the inputs' dtype before their products;
all sums are fp32. Offsets in int64: B·H·T·D passes 2³¹.
"""

import triton
import triton.language as tl

from ._softmax import LN_2, LOG2_E, listed, load_tile, soft_cap


@triton.jit
def _logits(
    scores, distance, slope, factor, cap, ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr
):  # fmt: skip
    # Logits of scores q·k in log2 units, and what d(logit)/d(scale · q·k) is.
    logits = scores * factor
    steep = 1.0
    if SOFT_CAP:
        logits = soft_cap(logits, cap, SOFT_CAP)
        tanh = logits * (LN_2 / cap)
        steep = 1.0 - tanh * tanh
    if ALIBI:
        logits = logits - slope * tl.abs(distance).to(tl.float32)
    return logits, steep


@triton.jit
def _add_dq(
    acc, query, upward, lse, delta, key_base, value_base, ENTRIES, MASKS, first, stop,
    keys, query_at, slope, factor, cap,
    stride_kt, stride_kd, stride_vt, stride_vd, head_dim,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr, LENS: tl.constexpr, PARTIAL: tl.constexpr,
    STEPPED: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, TILE_N: tl.constexpr,
    BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    PIECES: tl.constexpr = TILE_N // BLOCK_N
    row = tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    GUARDED: tl.constexpr = PARTIAL or LENS
    for index in range(first * PIECES, stop * PIECES):
        entry = ENTRIES + index // PIECES * 3
        place = index % PIECES * BLOCK_N + tl.arange(0, BLOCK_N)
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
        value = load_tile(
            values_at + (lane[None, :] * stride_vt + d[:, None] * stride_vd),
            inside[None, :], d[:, None] < head_dim, GUARDED, PADDED,
        )  # fmt: skip
        scores = tl.dot(query, key, input_precision="ieee")
        distance = query_at[:, None] - key_at[None, :]
        logits, steep = _logits(scores, distance, slope, factor, cap, ALIBI, SOFT_CAP)
        weights = tl.exp2(logits - lse[:, None])
        if PARTIAL:
            seen = listed(MASKS, tl.load(entry + 2), row, place, BLOCK_M, TILE_N)
            weights = tl.where(seen, weights, 0.0)
        if LENS:
            weights = tl.where(inside[None, :], weights, 0.0)
        grad = weights * (tl.dot(upward, value, input_precision="ieee") - delta[:, None])
        if SOFT_CAP:
            grad = grad * steep
        acc = tl.dot(grad.to(key.dtype), tl.trans(key), acc, input_precision="ieee")
    return acc


@triton.jit
def _block_sparse_dq(
    Q, K, V, O, DO, DQ, LSE, DLSE, DELTA, PARTS, ITEMS, ENTRIES, MASKS, SLOPES, KV_LENS,
    stride_qb, stride_qh, stride_qt, stride_qd,
    stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    stride_ob, stride_oh, stride_ot, stride_od,
    stride_dob, stride_doh, stride_dot, stride_dod,
    stride_dqb, stride_dqh, stride_dqt, stride_dqd,
    items, slots, heads, group, seq_q, seq_kv, head_dim, factor, cap, scale,
    LSE_GRAD: tl.constexpr, SPLIT: tl.constexpr, STEPPED: tl.constexpr, WIDE: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr, LENS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, TILE_N: tl.constexpr,
    BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # dQ and DELTA, one program a tile of queries. Programs that share a row write the same
    # DELTA to it.
    program = tl.program_id(0)
    item = ITEMS + (program % items) * 7
    batch = (program // items) // heads
    head = (program // items) % heads
    batch64, head64, kv_head64 = batch.to(tl.int64), head.to(tl.int64), (head // group).to(tl.int64)

    lane = tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    row = tl.load(item) + tl.load(item + 1) * lane
    there = lane < tl.load(item + 2)
    row64 = row.to(tl.int64)[:, None]
    in_tile = there[:, None] & (d[None, :] < head_dim)
    query_base = Q + batch64 * stride_qb + head64 * stride_qh
    query = tl.load(query_base + row64 * stride_qt + d[None, :] * stride_qd, in_tile, 0.0)
    upward_base = DO + batch64 * stride_dob + head64 * stride_doh
    upward = tl.load(upward_base + row64 * stride_dot + d[None, :] * stride_dod, in_tile, 0.0)
    out_base = O + batch64 * stride_ob + head64 * stride_oh
    out = tl.load(out_base + row64 * stride_ot + d[None, :] * stride_od, in_tile, 0.0)
    products = out.to(tl.float32) * upward.to(tl.float32)
    delta = tl.reduce(products, 1, tl.standard._sum_combine)
    rows_at = (batch64 * heads + head) * seq_q + row
    if LSE_GRAD:
        delta -= tl.load(DLSE + rows_at, there, 0.0)
    tl.store(DELTA + rows_at, delta, there)
    # An empty row has LSE -inf, and no pair: any finite number serves.
    lse = tl.load(LSE + rows_at, there, 0.0)
    lse = tl.where(lse == float("-inf"), 0.0, lse * LOG2_E)

    keys = seq_kv
    if LENS:
        keys = tl.minimum(keys, tl.load(KV_LENS + batch).to(tl.int32))
    slope = 0.0
    if ALIBI:
        slope = tl.load(SLOPES + head) * LOG2_E
    query_at = row + (seq_kv - seq_q)
    key_base = K + batch64 * stride_kb + kv_head64 * stride_kh
    value_base = V + batch64 * stride_vb + kv_head64 * stride_vh

    acc = tl.full((BLOCK_M, BLOCK_D), 0.0, tl.float32)
    first, first_partial, stop = tl.load(item + 4), tl.load(item + 5), tl.load(item + 6)
    acc = _add_dq(
        acc, query, upward, lse, delta, key_base, value_base, ENTRIES, MASKS, first,
        first_partial, keys, query_at, slope, factor, cap,
        stride_kt, stride_kd, stride_vt, stride_vd, head_dim,
        ALIBI, SOFT_CAP, LENS, False, STEPPED, WIDE, BLOCK_M, BLOCK_N, TILE_N, BLOCK_D, PADDED,
    )  # fmt: skip
    acc = _add_dq(
        acc, query, upward, lse, delta, key_base, value_base, ENTRIES, MASKS, first_partial,
        stop, keys, query_at, slope, factor, cap,
        stride_kt, stride_kd, stride_vt, stride_vd, head_dim,
        ALIBI, SOFT_CAP, LENS, True, STEPPED, WIDE, BLOCK_M, BLOCK_N, TILE_N, BLOCK_D, PADDED,
    )  # fmt: skip
    acc *= scale
    if SPLIT:
        slot = tl.load(item + 3)
        at = (batch64 * heads + head) * slots + slot + lane
        part = PARTS + at[:, None] * head_dim + d[None, :]
        tl.store(part, acc, in_tile & (slot >= 0))
        in_tile = in_tile & (slot < 0)
    made = DQ + batch64 * stride_dqb + head64 * stride_dqh + row64 * stride_dqt
    tl.store(made + d[None, :] * stride_dqd, acc.to(DQ.dtype.element_ty), in_tile)


@triton.jit
def _add_dkdv(
    key_acc, value_acc, key, value, query_base, upward_base, lse_base, delta_base, slope_base,
    ENTRIES, MASKS, first, stop, group, seq_q, seq_kv, key_at, factor, cap,
    stride_qh, stride_qt, stride_qd, stride_doh, stride_dot, stride_dod, head_dim,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr, PARTIAL: tl.constexpr,
    STEPPED: tl.constexpr, WIDE: tl.constexpr,
    TILE_M: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # A listed tile of TILE_M queries is streamed BLOCK_M at a time, by each query head of
    # the group in turn. Scores are transposed.
    PIECES: tl.constexpr = TILE_M // BLOCK_M
    column = tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    count = (stop - first) * PIECES
    for turn in range(0, group * count):
        member = turn // count
        index = first * PIECES + turn % count
        entry = ENTRIES + index // PIECES * 3
        slope = 0.0
        if ALIBI:
            slope = tl.load(slope_base + member) * LOG2_E
        place = index % PIECES * BLOCK_M + tl.arange(0, BLOCK_M)
        start = tl.load(entry)
        lane = place
        if STEPPED:
            lane = place * tl.load(entry + 1)
        row = start + lane
        if WIDE:
            lane = lane.to(tl.int64)
        member64, start64 = member.to(tl.int64), start.to(tl.int64)
        queries_at = query_base + member64 * stride_qh + start64 * stride_qt
        upwards_at = upward_base + member64 * stride_doh + start64 * stride_dot
        rows_at = member64 * seq_q + row
        there = row < seq_q
        query = load_tile(
            queries_at + (lane[None, :] * stride_qt + d[:, None] * stride_qd),
            there[None, :], d[:, None] < head_dim, PARTIAL, PADDED,
        )  # fmt: skip
        if PARTIAL:
            lse = tl.load(lse_base + rows_at, there, 0.0)
            delta = tl.load(delta_base + rows_at, there, 0.0)
        else:
            lse = tl.load(lse_base + rows_at)
            delta = tl.load(delta_base + rows_at)
        lse = tl.where(lse == float("-inf"), 0.0, lse * LOG2_E)
        scores = tl.dot(key, query, input_precision="ieee")
        distance = row[None, :] + (seq_kv - seq_q) - key_at[:, None]
        logits, steep = _logits(scores, distance, slope, factor, cap, ALIBI, SOFT_CAP)
        weights = tl.exp2(logits - lse[None, :])
        if PARTIAL:
            seen = listed(MASKS, tl.load(entry + 2), column, place, BLOCK_N, TILE_M)
            weights = tl.where(seen, weights, 0.0)
        upward = load_tile(
            upwards_at + (lane[:, None] * stride_dot + d[None, :] * stride_dod),
            there[:, None], d[None, :] < head_dim, PARTIAL, PADDED,
        )  # fmt: skip
        value_acc = tl.dot(weights.to(upward.dtype), upward, value_acc, input_precision="ieee")
        grad = tl.dot(value, tl.trans(upward), input_precision="ieee") - delta[None, :]
        grad = grad * weights
        if SOFT_CAP:
            grad = grad * steep
        key_acc = tl.dot(grad.to(query.dtype), tl.trans(query), key_acc, input_precision="ieee")
    return key_acc, value_acc


@triton.jit
def _block_sparse_dkdv(
    Q, K, V, DO, DK, DV, LSE, DELTA, PARTS, ITEMS, ENTRIES, MASKS, SLOPES, KV_LENS,
    stride_qb, stride_qh, stride_qt, stride_qd,
    stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    stride_dob, stride_doh, stride_dot, stride_dod,
    stride_dkb, stride_dkh, stride_dkt, stride_dkd,
    stride_dvb, stride_dvh, stride_dvt, stride_dvd,
    items, slots, heads, group, seq_q, seq_kv, head_dim, factor, cap, scale,
    SPLIT: tl.constexpr, STEPPED: tl.constexpr, WIDE: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr, LENS: tl.constexpr,
    TILE_M: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # dK and dV, one program a tile of keys of a KV head. PARTS [2, B, Hkv, slots, D].
    program = tl.program_id(0)
    kv_heads = heads // group
    item = ITEMS + (program % items) * 7
    batch = (program // items) // kv_heads
    kv_head = (program // items) % kv_heads
    batch64, kv_head64 = batch.to(tl.int64), kv_head.to(tl.int64)

    lane = tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    key_at = tl.load(item) + tl.load(item + 1) * lane
    there = lane < tl.load(item + 2)
    key64 = key_at.to(tl.int64)[:, None]
    in_tile = there[:, None] & (d[None, :] < head_dim)
    key_base = K + batch64 * stride_kb + kv_head64 * stride_kh
    key = tl.load(key_base + key64 * stride_kt + d[None, :] * stride_kd, in_tile, 0.0)
    value_base = V + batch64 * stride_vb + kv_head64 * stride_vh
    value = tl.load(value_base + key64 * stride_vt + d[None, :] * stride_vd, in_tile, 0.0)

    key_acc = tl.full((BLOCK_N, BLOCK_D), 0.0, tl.float32)
    value_acc = tl.full((BLOCK_N, BLOCK_D), 0.0, tl.float32)
    first, first_partial, stop = tl.load(item + 4), tl.load(item + 5), tl.load(item + 6)
    head = kv_head * group  # the group's first
    query_base = Q + batch64 * stride_qb + head.to(tl.int64) * stride_qh
    upward_base = DO + batch64 * stride_dob + head.to(tl.int64) * stride_doh
    rows = (batch64 * heads + head) * seq_q
    key_acc, value_acc = _add_dkdv(
        key_acc, value_acc, key, value, query_base, upward_base, LSE + rows, DELTA + rows,
        SLOPES + head, ENTRIES, MASKS, first, first_partial, group, seq_q, seq_kv, key_at,
        factor, cap, stride_qh, stride_qt, stride_qd, stride_doh, stride_dot, stride_dod, head_dim,
        ALIBI, SOFT_CAP, False, STEPPED, WIDE, TILE_M, BLOCK_M, BLOCK_N, BLOCK_D, PADDED,
    )  # fmt: skip
    key_acc, value_acc = _add_dkdv(
        key_acc, value_acc, key, value, query_base, upward_base, LSE + rows, DELTA + rows,
        SLOPES + head, ENTRIES, MASKS, first_partial, stop, group, seq_q, seq_kv, key_at,
        factor, cap, stride_qh, stride_qt, stride_qd, stride_doh, stride_dot, stride_dod, head_dim,
        ALIBI, SOFT_CAP, True, STEPPED, WIDE, TILE_M, BLOCK_M, BLOCK_N, BLOCK_D, PADDED,
    )  # fmt: skip
    key_acc *= scale
    if LENS:
        inside = there & (key_at < tl.load(KV_LENS + batch).to(tl.int32))
        key_acc = tl.where(inside[:, None], key_acc, 0.0)
        value_acc = tl.where(inside[:, None], value_acc, 0.0)
    slot = -1
    if SPLIT:
        slot = tl.load(item + 3)
    if slot >= 0:
        at = (batch64 * kv_heads + kv_head) * slots + slot
        part = PARTS + at * head_dim + (lane[:, None] * head_dim + d[None, :])
        tl.store(part, key_acc, in_tile)
        part += (tl.num_programs(0) // items).to(tl.int64) * slots * head_dim
        tl.store(part, value_acc, in_tile)
    else:
        made = DK + batch64 * stride_dkb + kv_head64 * stride_dkh + key64 * stride_dkt
        tl.store(made + d[None, :] * stride_dkd, key_acc.to(DK.dtype.element_ty), in_tile)
        made = DV + batch64 * stride_dvb + kv_head64 * stride_dvh + key64 * stride_dvt
        tl.store(made + d[None, :] * stride_dvd, value_acc.to(DV.dtype.element_ty), in_tile)
