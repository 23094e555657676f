"""The time formulas of `calc` over arrays of rows at once, for fitting.

Tests hold these to `calc.prefill_time` and `calc.decode_time`, which say what they mean.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnbench.calc.decode_time import LAUNCH_NORM, LEAST_PART, NORM, DecodeTerms
from attnbench.calc.prefill_time import PrefillTerms

Array = NDArray[np.float64]
PREFILL = (
    "launch_s", "tensor_64", "tensor_128", "tensor_256", "tensor_512", "exp_share",
    "prologue_tiles", "block_s", "tail", "bandwidth_efficiency", "l2_speedup", "cache_write",
    "backward",
)  # fmt: skip
DECODE = (
    "launch_s", "wave_s", "single_wave_s", "bandwidth_efficiency", "l2_speedup", "block_share",
    "combine_s", "regroup_s", "tensor_efficiency",
)  # fmt: skip

Traits = tuple[int, bool, int]  # packs_at_most, splits_single, blocks_an_sm


def columns(terms: Sequence[PrefillTerms] | Sequence[DecodeTerms]) -> dict[str, Any]:
    """Each field of `terms` as an array."""
    names = terms[0].__struct_fields__
    return {name: np.array([getattr(t, name) for t in terms], dtype=float) for name in names}


def prefill_s(t: dict[str, Any], c: Array) -> Array:
    """Seconds of each row; `c` has the constants of `PREFILL`, in that order; a
    constant is one number or one a row.
    """
    launch, *tensor, share, prologue, block, tail, bandwidth, l2, write, backward = c
    tensor_s = t["tensor_s"] / np.choose(t["width"].astype(int), tensor)
    tensor_s = tensor_s * np.where(t["backward"] > 0, backward, 1.0)
    tile_s = tensor_s + share * t["exp_s"]
    fixed_s = prologue * tile_s + block
    spread_s = (t["tiles"] * tile_s + t["blocks"] * fixed_s) / t["sms"]
    longest_s = t["longest"] * tile_s + fixed_s
    compute_s = np.maximum(spread_s, longest_s)
    compute_s = compute_s + np.where(t["blocks"] > t["sms"], tail * longest_s, 0.0)
    slow = (1 - t["hot"] + t["hot"] / l2) / bandwidth
    together: Array = launch + np.maximum(compute_s, t["operand_s"] * slow)
    total: Array = together + write * t["cache_s"] * slow
    return total


def decode_s(t: dict[str, Any], c: Array, traits: Traits) -> Array:
    """Seconds of each row; `c` has the constants of `DECODE`, in that order; a
    constant is one number or one a row.
    """
    launch, wave, single, bandwidth, l2, block_share, combine, regroup, tensor = c
    packs_at_most, splits_single, blocks_an_sm = traits
    slots = t["sms"] * blocks_an_sm
    alone = t["group"] > packs_at_most
    repeats = np.where(alone, t["group"], 1.0)
    units = t["units"] * repeats
    most = np.ceil(t["tokens"] / LEAST_PART)
    parts = np.maximum(1, np.minimum(slots // units, most))
    parts = np.where((t["group"] > 1) | splits_single, parts, 1)
    blocks = units * parts
    slow = (1 - t["hot"] + t["hot"] / l2) / bandwidth
    memory_s = t["read_s"] * slow
    again_s = t["cache_s"] * repeats / (l2 * bandwidth)
    memory_s = np.where(alone, np.maximum(memory_s, again_s), memory_s)
    one_s = t["cache_s"] * repeats / blocks * t["sms"] / block_share
    one_s = one_s * (1 - t["hot"] + t["hot"] / np.sqrt(l2))
    stream_s = one_s * np.ceil(blocks / slots)
    wave_s = np.maximum(blocks / t["sms"] - 1, 0.0)
    wave_s = wave_s * np.where((t["group"] == 1) | alone, single, wave)
    tensor_s = t["tensor_s"] / tensor
    extra_s = np.where(parts > 1, combine, 0.0) + regroup * t["regroups"]
    causes = np.stack([wave_s, memory_s, stream_s, tensor_s])
    longest = causes.max(axis=0)
    together: Array = longest * ((causes / longest) ** NORM).sum(axis=0) ** (1 / NORM)
    total: Array = (launch**LAUNCH_NORM + together**LAUNCH_NORM) ** (1 / LAUNCH_NORM) + extra_s
    return total
