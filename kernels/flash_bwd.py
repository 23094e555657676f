"""The gradient of exact attention: two kernels, deterministic, no atomics.

`kernels/flash_grad.py` checks the arguments and launches them, dQ's first: it leaves
the row sums that dK's and dV's reads.

With P = exp(L - LSE), L the logits and O = P V, given dO:
    delta = rowsum(dO ∘ O)              dV = Pᵀ dO
    dL = P ∘ (dO Vᵀ - delta)            dZ = dL, or dL ∘ (1 - (L/cap)²) under a soft-cap
    dQ = scale · dZ K                   dK = scale · dZᵀ Q
Where the LSE has a gradient too, delta is less by it.
P is recomputed from Q, K and LSE a tile at a time, as exp2 of logits in log2 units.
After Dao 2023, arXiv:2307.08691, algorithm 2, with its column and row loops apart, so
that each output has one writer.
"""

import triton
import triton.language as tl

from ._softmax import (
    LOG2_E,
    biased,
    key_blocks,
    load_tile,
    masked_at,
    row_blocks,
    soft_cap,
    visible,
)


@triton.jit
def _weigh(
    products, grad_weights, lse, delta, query_at, key_at, inside,
    slope, factor, cap, left, right, sinks,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr, MASKED: tl.constexpr, HIDDEN: tl.constexpr,
):  # fmt: skip
    # P and dZ of a tile from q·k and dO·v. `lse` is in log2 units, +inf where P is 0.
    # Rows and columns are shaped to broadcast, so that the tile may be [M, N] or [N, M].
    # HIDDEN: keys that are not `inside` are not seen.
    logits = products * factor
    if SOFT_CAP:
        logits = soft_cap(logits, cap, SOFT_CAP)
        tanh = logits * (1.0 / (cap * LOG2_E))
    if ALIBI:
        logits = biased(logits, slope, query_at, key_at, CAUSAL)
    # Before exp2: the logit of a pair that is not seen may be any above the LSE.
    if MASKED and (CAUSAL or WINDOW):
        seen = visible(query_at, key_at, left, right, sinks, CAUSAL, WINDOW, SINKS)
        logits = tl.where(seen, logits, float("-inf"))
    if HIDDEN:
        logits = tl.where(inside, logits, float("-inf"))
    weights = tl.exp2(logits - lse)
    grads = weights * (grad_weights - delta)
    if SOFT_CAP:
        grads = grads * (1.0 - tanh * tanh)
    return weights, grads


@triton.jit
def _dq_blocks(
    acc, query, grad_out, lse, delta, key_base, value_base,
    count, first, start, sink_blocks, edge_blocks,
    keys, query_at, left, right, sinks, slope, factor, cap,
    stride_kt, stride_kd, stride_vt, stride_vd, head_dim,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr,
    MASKED: tl.constexpr, RAGGED: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # Adds dZ K of `count` blocks of keys, which lie as in the forward's `_attend`.
    column = tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    in_head = d[:, None] < head_dim
    key_tile = column[None, :] * stride_kt + d[:, None] * stride_kd
    value_tile = column[None, :] * stride_vt + d[:, None] * stride_vd
    for index in range(0, count):
        at = first + index * BLOCK_N
        if MASKED:
            at = masked_at(index, start, first, sink_blocks, edge_blocks, WINDOW, SINKS, BLOCK_N)
        keys_at = key_base + at.to(tl.int64) * stride_kt
        values_at = value_base + at.to(tl.int64) * stride_vt
        key_at = (at + column)[None, :]
        inside = key_at < keys
        key = load_tile(keys_at + key_tile, inside, in_head, MASKED and RAGGED, PADDED)
        value = load_tile(values_at + value_tile, inside, in_head, MASKED and RAGGED, PADDED)
        products = tl.dot(query, key, input_precision="ieee")
        grad_weights = tl.dot(grad_out, value, input_precision="ieee")
        _, grads = _weigh(
            products, grad_weights, lse, delta, query_at, key_at, inside,
            slope, factor, cap, left, right, sinks,
            CAUSAL, WINDOW, SINKS, ALIBI, SOFT_CAP, MASKED, MASKED and RAGGED,
        )  # fmt: skip
        acc = tl.dot(grads.to(key.dtype), tl.trans(key), acc, input_precision="ieee")
    return acc


@triton.jit
def _flash_bwd_dq(
    Q, K, V, O, GRAD_O, LSE, GRAD_LSE, DELTA, GRAD_Q, SLOPES, KV_LENS,
    stride_qb, stride_qh, stride_qt, stride_qd,
    stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    stride_ob, stride_oh, stride_ot, stride_od,
    stride_gb, stride_gh, stride_gt, stride_gd,
    heads, group, seq_q, seq_kv, head_dim,
    scale, factor, cap, left, right, sinks,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr, LENS: tl.constexpr, RAGGED: tl.constexpr,
    LSE_USED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # GRAD_Q = scale · dZ K, one program per BLOCK_M query rows of one head; it also writes
    # DELTA = rowsum(GRAD_O ∘ O), less GRAD_LSE [B, H, T] fp32 where LSE_USED.
    # Q, O, GRAD_O [B, H, T, D] and K, V [B, Hkv, S, D], any strides; GRAD_Q [B, H, T, D],
    # LSE and DELTA [B, H, T] fp32 contiguous, LSE the forward's. Features, masks and block
    # ranges are the forward's (`flash_fwd.py`); a row that saw nothing has LSE -inf and
    # gets the gradient 0.
    # Products and sums in fp32; dZ is rounded to K's dtype before the last dot.
    blocks = (seq_q + BLOCK_M - 1) // BLOCK_M
    program = tl.program_id(0)
    block = blocks - 1 - program % blocks
    batch = (program // blocks) // heads
    head = (program // blocks) % heads
    kv_head = head // group

    row = block * BLOCK_M + tl.arange(0, BLOCK_M)
    in_rows = row < seq_q
    in_block = tl.arange(0, BLOCK_M)[:, None]
    d = tl.arange(0, BLOCK_D)
    in_tile = in_rows[:, None] & (d[None, :] < head_dim)
    batch64, head64, kv_head64 = batch.to(tl.int64), head.to(tl.int64), kv_head.to(tl.int64)
    first_row64 = block.to(tl.int64) * BLOCK_M
    query_base = Q + batch64 * stride_qb + head64 * stride_qh + first_row64 * stride_qt
    out_base = O + batch64 * stride_ob + head64 * stride_oh + first_row64 * stride_ot
    grad_base = GRAD_O + batch64 * stride_gb + head64 * stride_gh + first_row64 * stride_gt
    key_base = K + batch64 * stride_kb + kv_head64 * stride_kh
    value_base = V + batch64 * stride_vb + kv_head64 * stride_vh
    rows64 = (batch64 * heads + head) * seq_q
    query = tl.load(query_base + (in_block * stride_qt + d[None, :] * stride_qd), in_tile, 0.0)
    out = tl.load(out_base + (in_block * stride_ot + d[None, :] * stride_od), in_tile, 0.0)
    grad_out = tl.load(grad_base + (in_block * stride_gt + d[None, :] * stride_gd), in_tile, 0.0)
    delta = tl.reduce(out.to(tl.float32) * grad_out.to(tl.float32), 1, tl.standard._sum_combine)
    if LSE_USED:
        delta = delta - tl.load(GRAD_LSE + rows64 + row, in_rows, 0.0)
    tl.store(DELTA + rows64 + row, delta, in_rows)
    lse = tl.load(LSE + rows64 + row, in_rows, float("-inf"))
    lse = tl.where(lse == float("-inf"), float("inf"), lse * LOG2_E)

    keys = seq_kv
    if LENS:
        keys = tl.minimum(keys, tl.load(KV_LENS + batch).to(tl.int32))
    slope = 0.0
    if ALIBI:
        slope = tl.load(SLOPES + head) * LOG2_E
    query_at = (row + (seq_kv - seq_q))[:, None]
    start, whole, whole_stop, sink_blocks, edge_blocks, last_blocks = key_blocks(
        block, keys, seq_kv - seq_q, seq_q, left, right, sinks,
        CAUSAL, WINDOW, SINKS, BLOCK_M, BLOCK_N,
    )  # fmt: skip
    acc = tl.full((BLOCK_M, BLOCK_D), 0.0, tl.float32)
    if CAUSAL or WINDOW or RAGGED:
        acc = _dq_blocks(
            acc, query, grad_out, lse[:, None], delta[:, None], key_base, value_base,
            sink_blocks + edge_blocks + last_blocks, whole_stop, start, sink_blocks, edge_blocks,
            keys, query_at, left, right, sinks, slope, factor, cap,
            stride_kt, stride_kd, stride_vt, stride_vd, head_dim, CAUSAL, WINDOW, SINKS,
            ALIBI, SOFT_CAP, True, RAGGED, BLOCK_N, BLOCK_D, PADDED,
        )  # fmt: skip
    acc = _dq_blocks(
        acc, query, grad_out, lse[:, None], delta[:, None], key_base, value_base,
        (whole_stop - whole) // BLOCK_N, whole, start, 0, 0,
        keys, query_at, left, right, sinks, slope, factor, cap,
        stride_kt, stride_kd, stride_vt, stride_vd, head_dim, CAUSAL, WINDOW, SINKS,
        ALIBI, SOFT_CAP, False, RAGGED, BLOCK_N, BLOCK_D, PADDED,
    )  # fmt: skip
    tile = GRAD_Q + (rows64 + first_row64) * head_dim + (in_block * head_dim + d[None, :])
    tl.store(tile, (acc * scale).to(GRAD_Q.dtype.element_ty), in_tile)


@triton.jit
def _dkdv_rows(
    grad_key, grad_value, key, value, Q, GRAD_O, LSE, DELTA, SLOPES, batch, first_head,
    group, count, first, start, edge_blocks,
    key_at, keys, heads, seq_q, seq_kv, left, right, sinks, factor, cap,
    stride_qb, stride_qh, stride_qt, stride_qd, stride_gb, stride_gh, stride_gt, stride_gd,
    head_dim,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr,
    LENS: tl.constexpr, MASKED: tl.constexpr, RAGGED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # Adds dZᵀ Q and Pᵀ dO of `count` blocks of query rows in each of the group's heads.
    # MASKED: `edge_blocks` from row `start`, the rest from row `first`.
    # Tiles stand as [N, M], so that Pᵀ and dZᵀ are first operands as they are.
    column = tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    query_tile = column[:, None] * stride_qt + d[None, :] * stride_qd
    grad_tile = column[:, None] * stride_gt + d[None, :] * stride_gd
    query_base = Q + batch.to(tl.int64) * stride_qb
    grad_base = GRAD_O + batch.to(tl.int64) * stride_gb
    in_head = d[None, :] < head_dim
    for index in range(0, group * count):
        head = first_head + index // count
        place = index % count
        at = first + place * BLOCK_M
        if MASKED:
            at = tl.where(place < edge_blocks, start + place * BLOCK_M, at - edge_blocks * BLOCK_M)
        at = tl.multiple_of(at, BLOCK_M)
        at64, head64 = at.to(tl.int64), head.to(tl.int64)
        row = at + column
        in_rows = row < seq_q
        queries_at = query_base + head64 * stride_qh + at64 * stride_qt
        grads_at = grad_base + head64 * stride_gh + at64 * stride_gt
        query = load_tile(
            queries_at + query_tile, in_rows[:, None], in_head, MASKED and RAGGED, PADDED
        )
        grad_out = load_tile(
            grads_at + grad_tile, in_rows[:, None], in_head, MASKED and RAGGED, PADDED
        )
        rows_at = (batch.to(tl.int64) * heads + head) * seq_q + row
        if MASKED and RAGGED:
            lse = tl.load(LSE + rows_at, in_rows, float("-inf"))
            delta = tl.load(DELTA + rows_at, in_rows, 0.0)
        else:
            lse = tl.load(LSE + rows_at)
            delta = tl.load(DELTA + rows_at)
        lse = tl.where(lse == float("-inf"), float("inf"), lse * LOG2_E)
        slope = 0.0
        if ALIBI:
            slope = tl.load(SLOPES + head) * LOG2_E
        query_at = (row + (seq_kv - seq_q))[None, :]
        products = tl.dot(key, tl.trans(query), input_precision="ieee")
        grad_weights = tl.dot(value, tl.trans(grad_out), input_precision="ieee")
        weights, grads = _weigh(
            products, grad_weights, lse[None, :], delta[None, :], query_at, key_at, key_at < keys,
            slope, factor, cap, left, right, sinks,
            CAUSAL, WINDOW, SINKS, ALIBI, SOFT_CAP, MASKED, LENS,
        )  # fmt: skip
        grad_value = tl.dot(
            weights.to(grad_out.dtype), grad_out, grad_value, input_precision="ieee"
        )
        grad_key = tl.dot(grads.to(query.dtype), query, grad_key, input_precision="ieee")
    return grad_key, grad_value


@triton.jit
def _flash_bwd_dkdv(
    Q, K, V, GRAD_O, LSE, DELTA, GRAD_K, GRAD_V, SLOPES, KV_LENS,
    stride_qb, stride_qh, stride_qt, stride_qd,
    stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    stride_gb, stride_gh, stride_gt, stride_gd,
    heads, group, seq_q, seq_kv, head_dim,
    scale, factor, cap, left, right, sinks,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr, LENS: tl.constexpr, RAGGED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # GRAD_K = scale · dZᵀ Q and GRAD_V = Pᵀ dO, one program per BLOCK_N keys of one KV
    # head, summed over the query heads that read it. Operands as in `_flash_bwd_dq`, DELTA
    # as that wrote it; GRAD_K, GRAD_V [B, Hkv, S, D] contiguous. RAGGED: the last block of
    # query rows may pass the end. Keys past theirs need no mask: they are rows of these
    # products, which nothing else reads and nobody stores. Keys that LENS hides get 0.
    blocks = (seq_kv + BLOCK_N - 1) // BLOCK_N
    program = tl.program_id(0)
    block = program % blocks  # the longest causal columns go first
    kv_heads = heads // group
    batch = (program // blocks) // kv_heads
    kv_head = (program // blocks) % kv_heads

    column = block * BLOCK_N + tl.arange(0, BLOCK_N)
    in_block = tl.arange(0, BLOCK_N)[:, None]
    d = tl.arange(0, BLOCK_D)
    keys = seq_kv
    if LENS:
        keys = tl.minimum(keys, tl.load(KV_LENS + batch).to(tl.int32))
    in_tile = (column[:, None] < seq_kv) & (d[None, :] < head_dim)
    batch64, kv_head64 = batch.to(tl.int64), kv_head.to(tl.int64)
    first64 = block.to(tl.int64) * BLOCK_N
    key_base = K + batch64 * stride_kb + kv_head64 * stride_kh + first64 * stride_kt
    value_base = V + batch64 * stride_vb + kv_head64 * stride_vh + first64 * stride_vt
    key = tl.load(key_base + (in_block * stride_kt + d[None, :] * stride_kd), in_tile, 0.0)
    value = tl.load(value_base + (in_block * stride_vt + d[None, :] * stride_vd), in_tile, 0.0)

    start, whole, whole_stop, edge_blocks, last_blocks = row_blocks(
        block, keys, seq_kv - seq_q, seq_q, left, right, sinks,
        CAUSAL, WINDOW, SINKS, BLOCK_M, BLOCK_N,
    )  # fmt: skip
    grad_key = tl.full((BLOCK_N, BLOCK_D), 0.0, tl.float32)
    grad_value = tl.full((BLOCK_N, BLOCK_D), 0.0, tl.float32)
    if CAUSAL or WINDOW or RAGGED:
        grad_key, grad_value = _dkdv_rows(
            grad_key, grad_value, key, value, Q, GRAD_O, LSE, DELTA, SLOPES, batch, kv_head * group,
            group, edge_blocks + last_blocks, whole_stop, start, edge_blocks,
            column[:, None], keys, heads, seq_q, seq_kv, left, right, sinks, factor, cap,
            stride_qb, stride_qh, stride_qt, stride_qd, stride_gb, stride_gh, stride_gt, stride_gd,
            head_dim, CAUSAL, WINDOW, SINKS, ALIBI, SOFT_CAP, LENS, True, RAGGED,
            BLOCK_M, BLOCK_D, PADDED,
        )  # fmt: skip
    grad_key, grad_value = _dkdv_rows(
        grad_key, grad_value, key, value, Q, GRAD_O, LSE, DELTA, SLOPES, batch, kv_head * group,
        group, (whole_stop - whole) // BLOCK_M, whole, start, 0,
        column[:, None], keys, heads, seq_q, seq_kv, left, right, sinks, factor, cap,
        stride_qb, stride_qh, stride_qt, stride_qd, stride_gb, stride_gh, stride_gt, stride_gd,
        head_dim, CAUSAL, WINDOW, SINKS, ALIBI, SOFT_CAP, LENS, False, RAGGED,
        BLOCK_M, BLOCK_D, PADDED,
    )  # fmt: skip
    first = ((batch64 * kv_heads + kv_head) * seq_kv + first64) * head_dim
    tile = first + (in_block * head_dim + d[None, :])
    tl.store(GRAD_K + tile, (grad_key * scale).to(GRAD_K.dtype.element_ty), in_tile)
    tl.store(GRAD_V + tile, grad_value.to(GRAD_V.dtype.element_ty), in_tile)
