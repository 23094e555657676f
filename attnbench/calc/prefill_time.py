"""Time of tiled attention over many queries: tiles, waves, exponentials, bytes.

A thread block takes up to 128 query rows of one head past tiles of 128 keys. A tile costs
its products on the tensor cores and the part of its exponentials that does not hide under
them; a block costs its tiles, a prologue and a constant. Blocks go round the SMs in
waves. Beside that run the bytes of the operands; after it, where an engine writes keys
and values into a cache, that copy.

Source: Dao 2023, arXiv:2307.08691 (tiles, work partition); Shah et al. 2024,
arXiv:2407.08608 (exponentials at 16 a clock and SM beside the products); docs/roofline.md.
"""

import msgspec

from attnbench.calc.attention_work import Chip, Work
from attnbench.spec.attention import Mode
from attnbench.spec.calibration import PrefillConstants

TILE = 128
_STEP = 16  # rows that one matrix instruction takes; a tile is cut no finer
_HOT, _COLD = 1.0, 1.4  # footprint over L2: below, replays find all of it there; above, none


class PrefillTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a prefill asks of a chip at its published peaks, without any fitted constant.

    `blocks` thread blocks with `tiles` tiles in all, the longest with `longest`. A tile
    takes `tensor_s` and `exp_s` of one SM. `operand_s`, `cache_s`: reading queries, keys
    and values and writing results, and copying keys and values, at full bandwidth.
    `hot` is the part of the bytes that a replay finds in the L2. `backward`: whether
    tensor work is that of a backward pass.
    """

    blocks: int
    tiles: float
    longest: float
    sms: int
    tensor_s: float
    exp_s: float
    width: int
    operand_s: float
    cache_s: float
    hot: float
    backward: bool = False


class PrefillParts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a prefill by cause. `total_s` is what they come to, not their sum."""

    launch_s: float
    tensor_s: float
    exp_s: float
    block_s: float
    memory_s: float
    cache_s: float
    hot: float
    total_s: float


def hot_part(footprint_bytes: float, l2_bytes: int) -> float:
    """The part of a footprint that stays in an L2 from one replay to the next."""
    part = (_COLD - footprint_bytes / l2_bytes) / (_COLD - _HOT)
    return min(1.0, max(0.0, part))


def padded(width: int, step: int) -> int:
    """A head's width as a kernel computes it: a multiple of `step`; 0: a power of two.

    >>> padded(80, 32), padded(80, 0)
    (96, 128)
    """
    return step * -(-width // step) if step else 1 << (width - 1).bit_length()


def prefill_terms(work: Work, chip: Chip, *, step: int = 32) -> PrefillTerms:
    """What `work` (not a decode, not both directions at once) asks of `chip`.

    `step`: widths of heads that the kernel has been compiled for, as in `padded`.
    """
    rows = min(TILE, _STEP * -(-work.seq_q // _STEP))
    columns = min(TILE, _STEP * -(-work.seq_kv // _STEP))
    row_blocks = -(-work.seq_q // rows)
    tiles, longest = _tiles(work, rows, columns, row_blocks)
    heads = work.batch * work.heads
    backward = work.mode is Mode.BWD
    width = padded(work.head_dim, step) + padded(work.value_dim, step)
    flops = 2 * rows * columns * width * (2.5 if backward else 1)
    operands = work.query_bytes + work.cache_bytes
    return PrefillTerms(
        blocks=heads * row_blocks,
        tiles=heads * tiles,
        longest=longest,
        sms=chip.sms,
        tensor_s=flops / (chip.peak(work.dtype) / chip.sms),
        exp_s=rows * columns / (chip.exp2_per_clock * chip.clock_hz),
        width=(work.head_dim > 96) + (work.head_dim > 160) + (work.head_dim > 300),
        operand_s=operands * (2 if backward else 1) / chip.bytes_per_s,
        cache_s=2 * work.cache_bytes / chip.bytes_per_s if work.cached and not backward else 0.0,
        hot=hot_part(operands + work.cache_bytes, chip.l2_bytes),
        backward=backward,
    )


def _tiles(work: Work, rows: int, columns: int, row_blocks: int) -> tuple[float, float]:
    """Tiles of one head that hold an attended pair, and those of its longest row block."""
    across = -(-work.seq_kv // columns)
    if work.seen is not None:
        # Each row block meets its pairs' edge in one tile more.
        dense = min(work.seen / (rows * columns) + row_blocks, row_blocks * across)
        return dense, dense / row_blocks
    if not work.causal or row_blocks == 1:
        return row_blocks * across, across
    # rows = columns = TILE here: row block i ends at key offset + (i + 1) · TILE.
    before = -(-max(work.seq_kv - work.seq_q, 0) // columns)
    whole = row_blocks - 1
    return whole * before + whole * (whole + 1) // 2 + across, across


def prefill_parts(terms: PrefillTerms, c: PrefillConstants) -> PrefillParts:
    """Seconds that `terms` take with the constants `c`."""
    tensor_s = terms.tensor_s / c.tensor_efficiency[terms.width]
    if terms.backward:
        tensor_s *= c.backward
    exp_s = c.exp_share * terms.exp_s
    tile_s = tensor_s + exp_s
    fixed_s = c.prologue_tiles * tile_s + c.block_s
    spread_s = (terms.tiles * tile_s + terms.blocks * fixed_s) / terms.sms
    longest_s = terms.longest * tile_s + fixed_s
    compute_s = max(spread_s, longest_s)
    if terms.blocks > terms.sms:
        compute_s += c.tail * longest_s
    slow = (1 - terms.hot + terms.hot / c.l2_speedup) / c.bandwidth_efficiency
    memory_s = terms.operand_s * slow
    cache_s = c.cache_write * terms.cache_s * slow
    tiled = terms.tiles * tile_s / (terms.tiles * tile_s + terms.blocks * fixed_s)
    return PrefillParts(
        launch_s=c.launch_s,
        tensor_s=compute_s * tiled * tensor_s / tile_s,
        exp_s=compute_s * tiled * exp_s / tile_s,
        block_s=compute_s * (1 - tiled),
        memory_s=memory_s,
        cache_s=cache_s,
        hot=terms.hot,
        total_s=c.launch_s + max(compute_s, memory_s) + cache_s,
    )
