"""Time of attention of one query a sequence over its cache: bytes, blocks, waves.

A thread block takes the query heads of one KV head of one sequence; where that gives
fewer blocks than the SMs hold, sequences are split and their parts joined. The time is
that of the slowest of: the cache's bytes out of HBM or L2, the blocks one after another
on an SM, one block's own stream, and the products (tensor cores take 16 rows at least).

Source: Dao et al. 2023, "Flash-Decoding"; Kwon et al. 2023, arXiv:2309.06180 (paged
caches); docs/roofline.md.
"""

import msgspec

from attnbench.calc.attention_work import Chip, Work
from attnbench.calc.prefill_time import hot_part
from attnbench.spec.calibration import DecodeConstants

_ROWS = 16  # rows of the smallest matrix instruction
LEAST_PART = 256  # tokens below which splitting a sequence gains nothing
LAUNCH_NORM = 1.3  # how much of a launch hides under long work (1: nothing)
NORM = 2.0  # how sharply the slowest cause hides the others


class DecodeTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a decoding step asks of a chip at its published peaks.

    `units` pairs of sequence and KV head, `group` query heads in each. `read_s` is the
    cache and queries at full bandwidth, `cache_s` the cache alone; `tensor_s` the
    products at peak. `hot` is the part that a replay finds in the L2. `regroups`:
    whether grouped queries do not lie as the kernel wants them.
    """

    units: int
    group: int
    tokens: int
    sms: int
    read_s: float
    cache_s: float
    tensor_s: float
    hot: float
    regroups: bool


class DecodeParts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a decoding step by cause. `total_s` is what they come to, not their sum."""

    launch_s: float
    wave_s: float
    stream_s: float
    memory_s: float
    tensor_s: float
    extra_s: float
    hot: float
    total_s: float


def decode_terms(work: Work, chip: Chip) -> DecodeTerms:
    """What `work`, a decoding step, asks of `chip`."""
    units = work.batch * work.kv_heads
    group = work.heads // work.kv_heads
    rows = _ROWS * -(-group * work.seq_q // _ROWS)  # drafted tokens are queries too
    keys = work.seq_kv if work.read is None else work.read
    read = work.query_bytes + work.cache_bytes
    products = 2 * units * rows * keys * (work.head_dim + work.value_dim)
    return DecodeTerms(
        units=units,
        group=group,
        tokens=keys,
        sms=chip.sms,
        read_s=read / chip.bytes_per_s,
        cache_s=work.cache_bytes / chip.bytes_per_s,
        tensor_s=products / chip.peak(work.dtype),
        hot=hot_part(read, chip.l2_bytes),
        regroups=group > 1 and work.kv_heads > 1 and work.batch > 1,
    )


def decode_parts(terms: DecodeTerms, c: DecodeConstants) -> DecodeParts:
    """Seconds that `terms` take with the constants `c`."""
    alone = terms.group > c.packs_at_most
    repeats = terms.group if alone else 1
    units = terms.units * repeats
    parts = 1
    if terms.group > 1 or c.splits_single:
        most = -(-terms.tokens // LEAST_PART)
        parts = max(1, min(terms.sms * c.blocks_an_sm // units, most))
    blocks = units * parts
    hot = terms.hot
    slow = (1 - hot + hot / c.l2_speedup) / c.bandwidth_efficiency
    memory_s = terms.read_s * slow
    if alone:  # each head's keys again, out of the L2
        again_s = terms.cache_s * repeats / (c.l2_speedup * c.bandwidth_efficiency)
        memory_s = max(memory_s, again_s)
    one_s = terms.cache_s * repeats / blocks * terms.sms / c.block_share
    one_s *= 1 - hot + hot / c.l2_speedup**0.5
    stream_s = one_s * -(-blocks // (terms.sms * c.blocks_an_sm))
    wave_s = max(blocks / terms.sms - 1, 0.0)
    wave_s *= c.single_wave_s if terms.group == 1 or alone else c.wave_s
    tensor_s = terms.tensor_s / c.tensor_efficiency
    extra_s = (c.combine_s if parts > 1 else 0.0) + (c.regroup_s if terms.regroups else 0.0)
    return DecodeParts(
        launch_s=c.launch_s,
        wave_s=wave_s,
        stream_s=stream_s,
        memory_s=memory_s,
        tensor_s=tensor_s,
        extra_s=extra_s,
        hot=hot,
        total_s=overlapped_s(c.launch_s, _together(wave_s, memory_s, stream_s, tensor_s)) + extra_s,
    )


def overlapped_s(launch_s: float, work_s: float) -> float:
    """Seconds of a launch and the work after it, which hides a part of the launch."""
    return float((launch_s**LAUNCH_NORM + work_s**LAUNCH_NORM) ** (1 / LAUNCH_NORM))


def _together(*causes_s: float) -> float:
    """Seconds of causes that overlap: the longest, and a little of the others."""
    longest: float = max(causes_s)
    scaled: float = sum((cause / longest) ** NORM for cause in causes_s)
    return longest * float(scaled ** (1 / NORM))
