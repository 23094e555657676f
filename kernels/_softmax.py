"""Pieces that every softmax kernel shares: logits, masks, the online softmax.

Logits are kept in units of log2, so that the exponential is one `exp2`: the factor
scale · log2(e) is folded into it. Functions of `tl.standard` are reached through
`tl.reduce`, because Triton's interpreter cannot call those that were compiled before
it was switched on (`kernels/_interpreter.py`).
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
# Where the running maximum starts: finite, so that a row that has seen nothing yet
# gives exp2(-inf + 1e30) = 0 and never inf - inf.
NO_MAXIMUM = tl.constexpr(-1.0e30)


@triton.jit
def load_tile(pointers, inside, in_head, GUARDED: tl.constexpr, PADDED: tl.constexpr):
    # A tile, 0 where it is outside. An unguarded load has no predicates, and is wide.
    if GUARDED and PADDED:
        tile = tl.load(pointers, inside & in_head, 0.0)
    elif GUARDED:
        tile = tl.load(pointers, inside, 0.0)
    elif PADDED:
        tile = tl.load(pointers, in_head, 0.0)
    else:
        tile = tl.load(pointers)
    return tile


@triton.jit
def visible(
    query_at, key_at, left, right, sinks,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
):  # fmt: skip
    # Which pairs are attended, from positions shaped to broadcast: query_at [M, 1] and
    # key_at [1, N], or the other way round.
    # Causal: key_at <= query_at. Window: query_at - left <= key_at <= query_at + right.
    # The first `sinks` keys are exempt from the window, never from causality.
    distance = query_at - key_at
    if WINDOW:
        seen = distance <= left
        if not CAUSAL:
            seen = seen & (distance >= -right)
        if SINKS:
            seen = seen | (key_at < sinks)
        if CAUSAL:
            seen = seen & (distance >= 0)
    else:
        seen = distance >= 0
    return seen


@triton.jit
def listed(MASKS, mask, held, streamed, HELD: tl.constexpr, STREAMED: tl.constexpr):
    # The bits of mask number `mask` for tokens held [HELD] (down) and streamed (across),
    # whose places inside their tiles these are. A word has the bits of 32 tokens streamed.
    WORDS: tl.constexpr = (STREAMED + 31) // 32
    base = MASKS + mask.to(tl.int64) * (HELD * WORDS)
    across = streamed[None, :]
    if WORDS == 1:
        words = tl.load(base + held)[:, None]
    elif WORDS == 2:  # two loads a row, whatever its tokens
        first, second = tl.load(base + held * 2), tl.load(base + held * 2 + 1)
        words = tl.where(across < 32, first[:, None], second[:, None])
    else:
        words = tl.load(base + held[:, None] * WORDS + across // 32)
    return ((words >> (across % 32)) & 1) != 0


@triton.jit
def soft_cap(logits, cap, SOFT_CAP: tl.constexpr):
    # cap · tanh(logits / cap), of natural logits, in log2 units. By exp2: the interpreter
    # has no libdevice. Alone (SOFT_CAP 1) exact to about cap · 2⁻²²: where x is small,
    # 1 - 2/(1 + e²ˣ) loses what lies below that. For a large x, e²ˣ overflows to inf, and
    # 2/inf is the 0 wanted. SOFT_CAP 2: to fp32's last bits, a small x by a polynomial.
    power = tl.exp2(logits * (2.0 * LOG2_E / cap))
    capped = (cap * LOG2_E) * (1.0 - 2.0 / (1.0 + power))
    if SOFT_CAP == 2:
        # cap · tanh(x) = cap · x · (1 + x² · P(x²)), as in Cephes' tanhf; P by minimax up to
        # 5/8 (Lawson's weights), 2⁻²⁷ off. Beyond, the difference from 1 costs under a bit.
        x = logits / cap
        square = x * x
        rest = 0.020639087005790056 + square * -0.005704986772088664
        rest = 0.13331442196830104 + square * (-0.05373971499616849 + square * rest)
        bend = square * (-0.33333281941947235 + square * rest)
        straight = logits * LOG2_E
        capped = tl.where(square < 0.390625, straight + straight * bend, capped)
    return capped


@triton.jit
def biased(logits, slope, query_at, key_at, CAUSAL: tl.constexpr):
    # ALiBi: logits less slope · |distance|; positions shaped to broadcast.
    # Press et al. 2022, arXiv:2108.12409.
    distance = (query_at - key_at).to(tl.float32)
    return logits - slope * (distance if CAUSAL else tl.abs(distance))


@triton.jit
def key_blocks(
    block, keys, offset, seq_q, left, right, sinks,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    # Which blocks of BLOCK_N keys the rows of `block` see; row i stands at i + offset.
    # Unmasked, every pair of them seen: from key `whole` up to `whole_stop`.
    # Masked: `sink_blocks` from key 0, `edge_blocks` from `start`, and `last_blocks` from
    # `whole_stop`; `masked_at` says where each is.
    # Answers start, whole, whole_stop, sink_blocks, edge_blocks, last_blocks.
    first_at = block * BLOCK_M + offset
    last_at = tl.minimum(block * BLOCK_M + BLOCK_M, seq_q) - 1 + offset
    start = 0 * block
    whole = start
    stop = keys
    whole_stop = keys // BLOCK_N * BLOCK_N
    if WINDOW:
        start = tl.maximum(first_at - left, 0) // BLOCK_N * BLOCK_N
        whole = (tl.maximum(last_at - left, 0) + BLOCK_N - 1) // BLOCK_N * BLOCK_N
    if CAUSAL:
        stop = tl.minimum(stop, last_at + 1)
        whole_stop = tl.minimum(whole_stop, tl.maximum(first_at + 1, 0) // BLOCK_N * BLOCK_N)
    elif WINDOW:
        stop = tl.minimum(stop, last_at + right + 1)
        whole_stop = tl.minimum(
            whole_stop, tl.maximum(first_at + right + 1, 0) // BLOCK_N * BLOCK_N
        )
        if SINKS:
            stop = tl.maximum(stop, tl.minimum(sinks, keys))
    whole_stop = tl.maximum(whole_stop, whole)
    sink_blocks = 0 * block
    edge_blocks = 0 * block
    if WINDOW:
        edge_blocks = tl.maximum(tl.minimum(whole, stop) - start + BLOCK_N - 1, 0) // BLOCK_N
    if SINKS:
        sink_blocks = (tl.minimum(start, sinks) + BLOCK_N - 1) // BLOCK_N
    last_blocks = tl.maximum(stop - whole_stop + BLOCK_N - 1, 0) // BLOCK_N
    return start, whole, whole_stop, sink_blocks, edge_blocks, last_blocks


@triton.jit
def row_blocks(
    block, keys, offset, seq_q, left, right, sinks,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    # Which blocks of BLOCK_M query rows see the keys of `block`; row i stands at i + offset.
    # Unmasked: from row `whole` up to `whole_stop`. Masked: `edge_blocks` from `start`, and
    # `last_blocks` from `whole_stop`. Keys past `keys` count as seen: nobody reads theirs.
    first_key = block * BLOCK_N
    last_key = first_key + BLOCK_N - 1
    start = 0 * block
    whole = start
    stop = seq_q
    whole_stop = seq_q
    if CAUSAL:
        start = first_key - offset
        whole = last_key - offset
    elif WINDOW:
        start = first_key - right - offset
        whole = last_key - right - offset
    if WINDOW:
        stop = tl.minimum(stop, last_key + left - offset + 1)
        whole_stop = tl.minimum(whole_stop, first_key + left - offset + 1)
    if SINKS:
        stop = tl.where(first_key < sinks, seq_q, stop)
        if not CAUSAL:
            start = tl.where(first_key < sinks, 0, start)
    hidden = first_key >= keys
    start = tl.maximum(start, 0) // BLOCK_M * BLOCK_M
    whole = (tl.maximum(whole, 0) + BLOCK_M - 1) // BLOCK_M * BLOCK_M
    stop = tl.where(hidden, 0, stop)
    whole_stop = tl.maximum(tl.where(hidden, 0, whole_stop) // BLOCK_M * BLOCK_M, whole)
    edge_blocks = tl.maximum(tl.minimum(whole, stop) - start + BLOCK_M - 1, 0) // BLOCK_M
    last_blocks = tl.maximum(stop - whole_stop + BLOCK_M - 1, 0) // BLOCK_M
    return start, whole, whole_stop, edge_blocks, last_blocks


@triton.jit
def masked_at(
    index, start, whole_stop, sink_blocks, edge_blocks,
    WINDOW: tl.constexpr, SINKS: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    # The first key of block `index` of the masked ones that `key_blocks` counts.
    at = whole_stop + index * BLOCK_N
    if WINDOW:
        past = index - sink_blocks - edge_blocks
        at = tl.where(
            past < 0, start + (index - sink_blocks) * BLOCK_N, whole_stop + past * BLOCK_N
        )
    if SINKS:
        at = tl.where(index < sink_blocks, index * BLOCK_N, at)
    return tl.multiple_of(at, BLOCK_N)


@triton.jit
def online_softmax(scores, factor, top, total):
    # One step over scores [M, N]; scores · factor are logits in log2 units.
    # Answers P = exp2(logits - max) [M, N], the rescale of what was summed before [M],
    # and the running maximum and sum [M].
    # Milakov & Gimelshein 2018, arXiv:1805.02867, algorithm 3. factor > 0.
    new_top = tl.maximum(top, tl.reduce(scores, 1, tl.standard._elementwise_max) * factor)
    weights = tl.exp2(scores * factor - new_top[:, None])
    rescale = tl.exp2(top - new_top)
    new_total = total * rescale + tl.reduce(weights, 1, tl.standard._sum_combine)
    return weights, rescale, new_top, new_total


@triton.jit
def weigh(
    products, top, total, query_at, key_at, keys, left, right, sinks, slope, factor, cap,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr, MASKED: tl.constexpr, RAGGED: tl.constexpr,
):  # fmt: skip
    # From products q·k of a tile [M, N] to what `online_softmax` answers of their logits.
    # MASKED: some pairs are not seen; RAGGED: some keys may lie past the last.
    scores = products
    if SOFT_CAP:
        scores = soft_cap(scores * factor, cap, SOFT_CAP)
    elif ALIBI:
        scores = scores * factor
    if ALIBI:
        scores = biased(scores, slope, query_at, key_at, CAUSAL)
    if MASKED and (CAUSAL or WINDOW):
        seen = visible(query_at, key_at, left, right, sinks, CAUSAL, WINDOW, SINKS)
        scores = tl.where(seen, scores, float("-inf"))
    if MASKED and RAGGED:
        scores = tl.where(key_at < keys, scores, float("-inf"))
    # Under a soft-cap or a bias the scores are logits already.
    return online_softmax(scores, 1.0 if SOFT_CAP or ALIBI else factor, top, total)


@triton.jit
def finish(acc, top, total):
    # O = acc / sum [M, D], and the natural-log LSE [M]. A row that saw nothing has
    # sum 0: it gives 0 and -inf.
    empty = total == 0.0
    divisor = tl.where(empty, 1.0, total)
    lse = tl.where(empty, float("-inf"), top * LN_2 + tl.log(divisor))
    return acc / divisor[:, None], lse


@triton.jit
def store_rows(
    O, LSE, acc, top, total, batch, head, block, heads, seq_q, head_dim,
    stride_ob, stride_oh, stride_ot, stride_od, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # Finishes the rows of `block` and writes them to O [B, H, T, D] and LSE [B, H, T].
    out, lse = finish(acc, top, total)
    row = block * BLOCK_M + tl.arange(0, BLOCK_M)
    in_block = tl.arange(0, BLOCK_M)[:, None]
    d = tl.arange(0, BLOCK_D)
    in_tile = (row[:, None] < seq_q) & (d[None, :] < head_dim)
    batch64, head64 = batch.to(tl.int64), head.to(tl.int64)
    base = O + batch64 * stride_ob + head64 * stride_oh + block.to(tl.int64) * BLOCK_M * stride_ot
    tile = base + (in_block * stride_ot + d[None, :] * stride_od)
    tl.store(tile, out.to(O.dtype.element_ty), in_tile)
    tl.store(LSE + (batch64 * heads + head) * seq_q + row, lse, row < seq_q)
