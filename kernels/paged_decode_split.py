"""Decoding over a paged KV cache: the kernel of one split. Pointer loads.

`kernels/paged_decode.py` checks the arguments, launches it, and joins the splits by
`_combine`.
"""

import triton
import triton.language as tl

from ._softmax import LOG2_E, NO_MAXIMUM, biased, finish, load_tile, online_softmax, soft_cap


@triton.jit
def _paged_decode(
    Q, K, V, O, LSE, PARTS, PART_LSE, TABLE, KV_LENS, SLOPES,
    stride_qb, stride_qh, stride_qt, stride_qd,
    stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    stride_ob, stride_oh, stride_ot, stride_od, stride_table,
    heads, group, seq_kv, head_dim, pages, factor, cap,
    IN_PLACE: tl.constexpr, SPLITS: tl.constexpr, PAGE: tl.constexpr,
    ALIBI: tl.constexpr, SOFT_CAP: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    # O = softmax(logits) V for one query a sequence, over the first KV_LENS[b] tokens of
    # its cache; token t is row TABLE[b, t // PAGE] · PAGE + t % PAGE of the pool.
    # Q, O [B, H, 1, D]; K, V [B, Hkv, rows, D], any strides (stride_kb 0: one pool for all);
    # TABLE [B, pages] and KV_LENS [B] int32; LSE [B, H, 1] fp32, natural log. Query head h
    # reads KV head h // group. D <= BLOCK_D, a power of two.
    #
    # One program a sequence, KV head, BLOCK_M of its query heads, and split: the heads of a
    # group are the rows of one matrix product, and K and V are read once for all of them.
    # A split takes an even share of the sequence's own blocks of BLOCK_N tokens. With more
    # than one the results go to PARTS [B, H, splits, D] and PART_LSE, fp32, and `_combine`
    # joins them.
    # The query stands at KV_LENS[b] - 1, so ALiBi's distance is KV_LENS[b] - 1 - t.
    # IN_PLACE: whatever order the table gives pages in, a row's number is its position, the
    # query stands at the last of seq_kv rows, and the rows under KV_LENS[b] are seen.
    # A sequence of no token gives O = 0 and LSE = -inf.
    #
    # Scores, running maximum and sum in fp32, P rounded to V's dtype; fp32 dots are IEEE.
    # After Kwon et al. 2023, arXiv:2309.06180 (paging) and Dao et al. 2023, Flash-Decoding.
    # Offsets in int64: a pool passes 2³¹ elements.
    packs = (group + BLOCK_M - 1) // BLOCK_M
    pack = tl.program_id(0)
    split = tl.program_id(1)
    kv_heads = heads // group
    batch = pack // (packs * kv_heads)
    kv_head = pack // packs % kv_heads
    member = pack % packs * BLOCK_M + tl.arange(0, BLOCK_M)
    there = member < group
    head = kv_head * group + member
    batch64, kv_head64, head64 = batch.to(tl.int64), kv_head.to(tl.int64), head.to(tl.int64)

    d = tl.arange(0, BLOCK_D)
    column = tl.arange(0, BLOCK_N)
    in_tile = there[:, None] & (d[None, :] < head_dim)
    query_tile = Q + batch64 * stride_qb + head64[:, None] * stride_qh + d[None, :] * stride_qd
    query = tl.load(query_tile, in_tile, 0.0)
    key_base = K + batch64 * stride_kb + kv_head64 * stride_kh
    value_base = V + batch64 * stride_vb + kv_head64 * stride_vh
    table = TABLE + batch64 * stride_table
    slope = tl.full((BLOCK_M,), 0.0, tl.float32)
    if ALIBI:
        slope = tl.load(SLOPES + head, there, 0.0) * LOG2_E

    keys = tl.load(KV_LENS + batch).to(tl.int32)
    tokens = keys
    last = keys - 1
    if IN_PLACE:
        tokens = pages * PAGE
        last = seq_kv - 1
    blocks = (tokens + BLOCK_N - 1) // BLOCK_N
    share = (blocks + SPLITS - 1) // SPLITS
    acc = tl.full((BLOCK_M, BLOCK_D), 0.0, tl.float32)
    top = tl.full((BLOCK_M,), NO_MAXIMUM, tl.float32)
    total = tl.full((BLOCK_M,), 0.0, tl.float32)
    for index in range(split * share, tl.minimum(split * share + share, blocks)):
        token = index * BLOCK_N + column
        inside = token < tokens
        page = tl.load(table + token // PAGE, inside, 0).to(tl.int64)
        row = page * PAGE + token % PAGE
        position = token
        if IN_PLACE:
            position = row.to(tl.int32)
            inside = inside & (position < keys)
        key = load_tile(
            key_base + row[None, :] * stride_kt + d[:, None] * stride_kd,
            inside[None, :], d[:, None] < head_dim, True, PADDED,
        )  # fmt: skip
        scores = tl.dot(query, key, input_precision="ieee") * factor
        if SOFT_CAP:
            scores = soft_cap(scores, cap, SOFT_CAP)
        if ALIBI:
            scores = biased(scores, slope[:, None], last, position[None, :], True)
        scores = tl.where(inside[None, :], scores, float("-inf"))
        weights, rescale, top, total = online_softmax(scores, 1.0, top, total)
        value = load_tile(
            value_base + row[:, None] * stride_vt + d[None, :] * stride_vd,
            inside[:, None], d[None, :] < head_dim, True, PADDED,
        )  # fmt: skip
        acc = tl.dot(weights.to(value.dtype), value, acc * rescale[:, None], input_precision="ieee")

    out, lse = finish(acc, top, total)
    at = batch64 * heads + head64
    if SPLITS > 1:
        at = at * SPLITS + split
        tl.store(PARTS + at[:, None] * head_dim + d[None, :], out, in_tile)
        tl.store(PART_LSE + at, lse, there)
    else:
        out_tile = O + batch64 * stride_ob + head64[:, None] * stride_oh + d[None, :] * stride_od
        tl.store(out_tile, out.to(O.dtype.element_ty), in_tile)
        tl.store(LSE + at, lse, there)
