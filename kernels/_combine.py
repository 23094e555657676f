"""Joining the partial results of programs that shared a position: the kernel.

Split keys leave several softmaxes over disjoint sets for one query, or several sums for
one gradient. `_combine` joins them in the order of their slots, whatever program ended
first, so that a run gives the same bits as the next.
"""

import triton
import triton.language as tl

from ._softmax import LOG2_E, NO_MAXIMUM, finish, online_softmax


@triton.jit
def _combine(
    PARTS, PART_LSE, OUT, LSE, SPLIT, SPLIT_START, SPLIT_SLOTS,
    stride_ob, stride_oh, stride_ot, stride_od,
    splits, heads, tokens, slots, head_dim,
    SOFTMAX: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
    PADDED: tl.constexpr,
):  # fmt: skip
    # SOFTMAX: O = Σ exp(LSE_s - LSE) O_s and LSE = log Σ exp(LSE_s) over a position's slots;
    # LSE_s = -inf where a part saw nothing, and O = 0, LSE = -inf where all did.
    # Else O = Σ O_s. One program BLOCK_R positions of a head, BLOCK_S slots of each at a time.
    # PARTS [B, H, slots, D] and PART_LSE [B, H, slots], fp32, contiguous, LSE natural;
    # O [B, H, T, D], any strides; LSE [B, H, T] fp32, contiguous. All sums in fp32.
    # SPLIT [splits], SPLIT_START [splits + 1], SPLIT_SLOTS: see `_block_lists.Side`.
    # After Dao et al. 2023, Flash-Decoding. Offsets in int64.
    blocks = (splits + BLOCK_R - 1) // BLOCK_R
    program = tl.program_id(0)
    head64 = (program // blocks).to(tl.int64)  # of all sequences'
    which = program % blocks * BLOCK_R + tl.arange(0, BLOCK_R)
    there = which < splits
    at = tl.load(SPLIT + which, there, 0).to(tl.int64)
    first = tl.load(SPLIT_START + which, there, 0)
    count = tl.load(SPLIT_START + which + 1, there, 0) - first

    d = tl.arange(0, BLOCK_D)
    acc = tl.full((BLOCK_R, BLOCK_D), 0.0, tl.float32)
    top = tl.full((BLOCK_R,), NO_MAXIMUM, tl.float32)
    total = tl.full((BLOCK_R,), 0.0, tl.float32)
    for index in range(0, tl.reduce(count, 0, tl.standard._elementwise_max), BLOCK_S):
        place = index + tl.arange(0, BLOCK_S)
        used = place[None, :] < count[:, None]
        slot = head64 * slots + tl.load(SPLIT_SLOTS + first[:, None] + place[None, :], used, 0)
        inside = used[:, :, None]
        if PADDED:
            inside = inside & (d[None, None, :] < head_dim)
        part = tl.load(PARTS + slot[:, :, None] * head_dim + d[None, None, :], inside, 0.0)
        if SOFTMAX:
            lse = tl.load(PART_LSE + slot, used, float("-inf"))
            weights, rescale, top, total = online_softmax(lse, LOG2_E, top, total)
            part = part * weights[:, :, None]
            acc = acc * rescale[:, None]
        acc += tl.reduce(part, 1, tl.standard._sum_combine)
    if SOFTMAX:
        acc, lse = finish(acc, top, total)
        tl.store(LSE + head64 * tokens + at, lse, there)
    base = OUT + (head64 // heads) * stride_ob + (head64 % heads) * stride_oh
    tile = base + at[:, None] * stride_ot + d[None, :] * stride_od
    tl.store(tile, acc.to(OUT.dtype.element_ty), there[:, None] & (d[None, :] < head_dim))
