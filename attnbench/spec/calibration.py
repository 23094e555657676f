"""What was fitted to measured timings of one GPU and one engine, and from which rows.

Efficiencies are the part of a published peak that was reached; seconds are constants of
a launch, a thread block or a wave. `docs/roofline.md` says what each multiplies.
"""

import msgspec


class PrefillConstants(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Constants of tiled attention over many queries.

    `tensor_efficiency`: the dense peak that products show at, head_dim up to 96, 160, 300
    and beyond; over 1 where a part of them hides under the exponentials.
    `exp_share`: the part of the exponentials' time that does not hide under products.
    `prologue_tiles`, `block_s`: what a thread block spends before and after its tiles, in
    tiles and in seconds. `tail`: how much of the longest block the last wave waits for.
    `l2_speedup`: rate out of the L2 over `bandwidth_efficiency` of memory's.
    `cache_write`: how often keys and values are copied into a cache (0: never).
    `backward`: time a FLOP of a backward pass over a forward's.
    """

    launch_s: float
    tensor_efficiency: tuple[float, float, float, float]
    exp_share: float
    prologue_tiles: float
    block_s: float
    tail: float
    bandwidth_efficiency: float
    l2_speedup: float
    cache_write: float
    backward: float = 1.3


class DecodeConstants(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Constants of attention of one query a sequence over its cache.

    `wave_s`, `single_wave_s`: what one more block an SM costs, where query heads share a
    KV head and where they do not. `block_share`: the rate that one block can draw, over
    bandwidth / SMs. `combine_s`: joining the parts of split sequences. `regroup_s`:
    laying grouped queries out again, where an engine does. `packs_at_most`: query heads
    that one block serves; beyond, each head reads its keys for itself.
    `splits_single`: whether sequences are split where no heads share. `blocks_an_sm`:
    how many blocks draw at once.
    """

    launch_s: float
    wave_s: float
    single_wave_s: float
    bandwidth_efficiency: float
    l2_speedup: float
    block_share: float
    combine_s: float
    regroup_s: float
    tensor_efficiency: float
    packs_at_most: int = 1024
    splits_single: bool = True
    blocks_an_sm: int = 2


class Reference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The chip that constants of a whole family are written for: see `calc.carry`."""

    clock_hz: float
    bytes_per_s_per_sm: float


# An H100: 1.83 GHz, 3.35 TB/s over 132 SMs.
REFERENCE = Reference(clock_hz=1.83e9, bytes_per_s_per_sm=25.4e9)


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One set of constants with its provenance.

    `decode_fp8` are those of decode over an 8-bit cache, where an engine was timed so.
    `prefill_band`, `decode_band`: the factor that holds nine of ten rows not fitted.
    `rows` were fitted, on `fitted` (a date), by `script`, from `source`.
    """

    source: str
    rows: int
    fitted: str
    script: str
    prefill: PrefillConstants | None = None
    decode: DecodeConstants | None = None
    decode_fp8: DecodeConstants | None = None
    prefill_band: float = 2.0
    decode_band: float = 2.0


class ServingConstants(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Constants of an engine that serves a whole model.

    Efficiencies of the layers' products and of reading their weights. `layer_s`: the
    small kernels of a layer; `reduction_s`: an all-reduce without its bytes; `step_s`,
    `sequence_s`: scheduling and sampling, a step and a sequence. `interference`: the part
    of others' prefills that a token waits for; `wait`: how much of one
    prefill a prompt waits for, times the root of the others' number.
    """

    tensor_efficiency: float
    bandwidth_efficiency: float
    layer_s: float
    reduction_s: float
    step_s: float
    sequence_s: float
    interference: float
    wait: float


class ServingCalibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An engine's serving constants with their provenance, as in `Calibration`."""

    source: str
    rows: int
    fitted: str
    script: str
    serving: ServingConstants
    tpot_band: float = 2.0
