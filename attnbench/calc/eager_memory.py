"""What the eager backends of sparse and linear variants hold, from the blocks that they run.

Bytes beyond operands and results, what `prepare` makes included: tensors alone, not what a
kernel's threads keep for themselves. Upper bounds, at most twice what is held (tested by
counting every tensor that lives, tests/test_linear_memory.py, which the factors are from).
"""

import msgspec

from attnbench.calc.operands import result_bytes
from attnbench.calc.patterns import BlockedPattern
from attnbench.calc.score_features import ScoreFeatures
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype

PIECE = 1 << 21  # elements of keys copied, or of scores, at once: stays in cache and heap
ROWS_AT_ONCE = 384  # queries a call where keys need no copy: what is packed stays in the cache
_SAMPLED = 1 << 15  # rows whose blocks are looked at: the rest are like them
_COPIES = 3  # of keys and values: theirs, and the parts of one before they are joined
_SEGMENT = 1024  # tokens whose features are held at once
_CHUNK = 64  # tokens whose pairs are multiplied out


class Blocks(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over a pattern's blocks of one head, whose ranges hold so many queries and keys.

    `scores` are rows times keys; `copied` keys of blocks with more than one range, which
    must be copied together; `masks` elements of masks, each distinct one once; `piece` the
    scores of the largest run of like blocks that is done at once, `height` its rows a block,
    `together` all its rows. `in_order` is whether each block's rows follow the last one's.
    """

    scores: int
    copied: int
    masks: int
    piece: int
    height: int
    together: int
    in_order: bool


def count_blocks(shape: AttentionShape, pattern: BlockedPattern, rows: int) -> Blocks:
    """The blocks of `pattern` at `shape`; of long sequences the first ones, scaled."""
    seq_q = min(shape.seq_q, _SAMPLED)
    seq_kv = max(1, shape.seq_kv - (shape.seq_q - seq_q))
    scores = copied = piece = run = 0
    height, together, before = 1, 0, None
    in_order, stop = True, 0
    masks: dict[object, int] = {}
    for block in pattern.blocks(seq_q, seq_kv, rows):
        ranges, height_here = block.whole + block.partial, len(block.queries)
        keys = sum(len(r) for r in ranges)
        here = height_here * keys
        scores += here
        copied += keys if len(ranges) > 1 else 0
        origin = block.queries[0]
        in_order = in_order and block.queries.step == 1 and origin == stop
        stop = block.queries.stop
        at = tuple((r[0] - origin, len(r), r[0] == 0) for r in block.partial)
        alike = height_here, sum(len(r) for r in block.whole), at
        if block.partial:
            masks[alike] = here
        run = run + 1 if alike == before else 1
        before = alike
        wide = shape.batch * shape.kv_heads * keys * max(shape.head_dim, shape.group * height_here)
        at_once = min(run, max(1, PIECE // max(1, wide)))
        if here * at_once >= piece:
            piece, height, together = here * at_once, height_here, height_here * at_once
    scale = -(-shape.seq_q // seq_q)
    return Blocks(
        scores=scores * scale, copied=copied * scale, masks=sum(masks.values()),
        piece=piece, height=height, together=together, in_order=in_order,
    )  # fmt: skip


def blocked_workspace(
    shape: AttentionShape,
    mode: Mode,
    pattern: BlockedPattern,
    features: ScoreFeatures,
    *,
    rows: int,
) -> int:
    """What blocked attention holds: masks, copies of keys, and under features its scores.

    A forward holds a piece at a time, and under features the output in fp32. A backward
    keeps what the forward copied, the parts of the output, and gradients of keys and values
    twice as parts are added; under features every weight, in fp32 and in the dtype of the
    values.
    """
    found = count_blocks(shape, pattern, rows)
    masks = _masks(shape, found)
    if features.changes_scores or features.padding:
        backward = mode in (Mode.BWD, Mode.FWD_BWD)
        scores = _scored(shape, mode, features, found, found.scores)
        if not backward:
            return masks + _scored_forward(shape, features, found, scores)
        return masks + scores + 6 * _parts(shape) + _keys(shape, 6 if features.padding else 4)
    heads = shape.batch * shape.kv_heads
    copies = found.copied * heads * shape.head_dim
    at_once = min(copies, heads * found.piece // found.height * shape.head_dim)
    out = shape.batch * shape.heads * shape.seq_q * shape.head_dim
    keys = heads * shape.seq_kv * shape.head_dim
    if mode in (Mode.BWD, Mode.FWD_BWD):
        outs = 3 if shape.group > 1 else 1  # of one head a KV head the rows are views
        return masks + shape.dtype.bytes_of(2 * copies + 2 * at_once + outs * out + 4 * keys)
    viewed = max(ROWS_AT_ONCE, found.height * shape.group)
    together = found.together * shape.group if copies else viewed
    views = min(2 * out + 2 * keys, 6 * heads * together * shape.head_dim)
    return masks + shape.dtype.bytes_of(_COPIES * at_once + views)


def _scored_forward(
    shape: AttentionShape, features: ScoreFeatures, found: Blocks, scores: int
) -> int:
    """A forward under features, masks apart: the most while a piece runs, and at the end.

    The output and its log-sum-exps are written in fp32, piece by piece; at the end they are
    put in order, sinks are added, and it is rounded to its dtype: of the result itself, which
    is no workspace, fp32 is a view. A piece has its queries, and its output beside the first
    piece's. Where keys are picked their places are kept; padding has copies of keys and values.
    """
    whole, heads = _parts(shape), shape.batch * shape.heads
    result = shape.dtype.bytes_of(heads * shape.seq_q * shape.head_dim)
    rounded = result if shape.dtype.bytes_of(1) < _wide(shape) else 0
    part = heads * found.together * (shape.head_dim + 1)
    sums = _wide(shape) * heads * shape.seq_q
    ended = whole if found.in_order else 2 * whole
    ended += whole + 4 * sums if features.sink_logit else 0
    kept = 8 * found.copied + (_keys(shape, 2) if features.padding else 0)
    running = scores + shape.dtype.bytes_of(part) + 2 * _wide(shape) * part
    return kept + max(running + whole - result, ended + rounded - result)


def strided_workspace(
    shape: AttentionShape,
    mode: Mode,
    window: BlockedPattern,
    features: ScoreFeatures,
    *,
    stride: int,
    rows: int,
) -> int:
    """What strided attention holds: the window's masks, two parts of the output, the merge.

    Parts are in fp32, with their log-sum-exps. A backward, and a forward under features,
    has scores besides; a backward keeps their weights.
    """
    found = count_blocks(shape, window, rows)
    steps = -(-shape.seq_kv // stride) + 1
    masks = _masks(shape, found) + min(stride, shape.seq_q) * steps * steps
    if mode not in (Mode.BWD, Mode.FWD_BWD) and not (features.changes_scores or features.padding):
        laid_out = 2 * shape.batch * shape.kv_heads * shape.seq_kv * shape.head_dim
        return masks + 6 * _parts(shape) + shape.dtype.bytes_of(laid_out)
    scores = found.scores + shape.seq_q * steps
    if mode in (Mode.BWD, Mode.FWD_BWD):  # keys and values by residue, and gradients of both
        parts = 12 * _parts(shape) + _keys(shape, 9 if features.padding else 7)
    else:
        parts = 6 * _parts(shape)
    return masks + _scored(shape, mode, features, found, scores) + parts


def _masks(shape: AttentionShape, found: Blocks) -> int:
    """Masks [group · rows, keys] as booleans, and as the kernel's bias."""
    return found.masks * shape.group * (1 + shape.dtype.bytes_of(1))


def _parts(shape: AttentionShape) -> int:
    """Bytes of outputs and log-sum-exps in fp32 (fp64 for fp64)."""
    return _wide(shape) * shape.batch * shape.heads * shape.seq_q * (shape.head_dim + 1)


def _keys(shape: AttentionShape, tensors: int) -> int:
    """Bytes of so many tensors of the size and dtype of the keys."""
    return shape.dtype.bytes_of(
        tensors * shape.batch * shape.kv_heads * shape.seq_kv * shape.head_dim
    )


def _scored(
    shape: AttentionShape, mode: Mode, features: ScoreFeatures, found: Blocks, scores: int
) -> int:
    """What attention by matrix products holds beside the parts of its output.

    Distances of a piece's queries and keys, which no head shares out, are int64.
    """
    wide, narrow = _wide(shape), shape.dtype.bytes_of(1)
    narrow_beside = narrow if narrow < wide else 0
    heads, kv_heads = shape.batch * shape.heads, shape.batch * shape.kv_heads
    distances = 16 * shape.group * found.piece if features.alibi else 0
    copied = kv_heads * found.piece // found.height * shape.head_dim
    if mode in (Mode.BWD, Mode.FWD_BWD):
        each = wide + narrow_beside + (wide if features.soft_cap else 0)
        kept = 2 * narrow * kv_heads * found.copied * shape.head_dim
        hidden = shape.group * scores * found.height // found.together  # a mask a piece
        gradients = 2 * wide * found.piece  # of a weight, and of the score below it
        return heads * (scores * each + gradients) + distances + kept + hidden
    # A tanh has what it is of and what it makes beside the logits.
    bent = 2 if features.soft_cap else bool(features.padding)
    each = wide * (1 + bent + features.alibi) + narrow_beside
    return heads * found.piece * each + distances + narrow * (_COPIES + 1) * copied


def feature_workspace(shape: AttentionShape, mode: Mode, *, features: int, projected: bool) -> int:
    """What chunked feature attention holds: a segment, and, backward, every segment's.

    A segment: the features of its queries and keys, its pairs within chunks, and the sums
    [features, head_dim + 1] a chunk.
    """
    wide, heads, kv_heads = _wide(shape), shape.batch * shape.heads, shape.batch * shape.kv_heads
    tokens = min(_SEGMENT, max(shape.seq_q, shape.seq_kv))
    sums = features * (shape.head_dim + 1) // _CHUNK
    a_query = features + 5 * _CHUNK // 2 + 5 * shape.head_dim // 4
    a_key = features + 3 * sums + 2 * shape.head_dim + _CHUNK
    segment = wide * tokens * (heads * a_query + kv_heads * a_key)
    rows = shape.dtype.bytes_of(heads * shape.seq_q * shape.head_dim)
    if mode not in (Mode.BWD, Mode.FWD_BWD):
        # Parts of the output, then joined; the last segment is copied to fill its chunks.
        return max(segment, rows) + rows // 2 + segment // 16
    pairs = (3 if projected else 2) * _CHUNK
    a_head = features + pairs + (3 if projected else 1) * shape.head_dim
    kept = heads * a_head + kv_heads * (features + 2 * sums)
    # Queries widened and gradients of their parts; keys and values widened.
    kept += 2 * heads * shape.head_dim
    if shape.dtype.bytes_of(1) < wide:
        kept += 2 * kv_heads * shape.head_dim
    return wide * max(shape.seq_q, shape.seq_kv) * kept + segment // (1 if projected else 2)


def projection_workspace(
    shape: AttentionShape, mode: Mode, features: ScoreFeatures, *, rank: int
) -> int:
    """What Linformer holds: E and F, drawn in fp32 and then in its dtype, or a call's.

    A call has the projected keys and values, which are few; its backward the gradient of
    keys or values by heads, before they are one tensor. Padding has copies of keys and
    values, let go before a backward has more. What `prepare` let go before
    there were results weighs only as far as it was more than they are.
    """
    projections = 2 * rank * shape.seq_kv
    drawn = 4 * projections
    held = shape.dtype.bytes_of(projections)
    backward = mode in (Mode.BWD, Mode.FWD_BWD)
    made = 2 * shape.batch * shape.kv_heads * rank * shape.head_dim * (2 if backward else 1)
    sums = _wide(shape) * shape.batch * shape.heads * shape.seq_q
    copied = 0 if shape.dtype is Dtype.FP32 else held
    by_heads = shape.batch * shape.kv_heads * shape.seq_kv * shape.head_dim if backward else 0
    padded = 0 if backward or not features.padding else _keys(shape, 2)
    running = held + shape.dtype.bytes_of(made + by_heads) + sums + padded
    return max(drawn + copied - result_bytes(shape, mode), running)


def _wide(shape: AttentionShape) -> int:
    return 8 if shape.dtype is Dtype.FP64 else 4
