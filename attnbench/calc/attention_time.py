"""Predicted time of attention on a GPU: seconds with a band, and what they go into.

    attention_time(work_of(shape, Mode.FWD), chip_of(gpu), constants)

`constants` come from `catalog.calibration`, which knows whose serve a GPU and engine.
"""

import msgspec

from attnbench.calc.attention_work import Chip, Work
from attnbench.calc.decode_time import decode_parts, decode_terms
from attnbench.calc.prefill_time import PrefillParts, prefill_parts, prefill_terms
from attnbench.spec.attention import Mode
from attnbench.spec.calibration import DecodeConstants, PrefillConstants

TENSOR, EXP, HBM, L2, LATENCY = "tensor", "exp", "HBM", "L2", "latency"
_WARM = 0.5  # from this part on out of the L2, bytes are the L2's


class Constants(msgspec.Struct, frozen=True, kw_only=True):
    """The constants that serve a GPU and engine, the factors that band them, whose they are.

    `decode_fp8`: of decode over an 8-bit cache, None where no engine was timed so.
    `step` is that of the kernel's head widths, as `prefill_time.padded` takes it.
    """

    prefill: PrefillConstants
    decode: DecodeConstants
    prefill_band: float
    decode_band: float
    prefill_origin: str
    decode_origin: str
    decode_fp8: DecodeConstants | None = None
    step: int = 32


class AttentionTime(msgspec.Struct, frozen=True, kw_only=True):
    """Predicted seconds, and the band that nine of ten measurements fall into.

    `bound` is the cause that most of the time goes into: tensor, exp, HBM, L2 or latency;
    `causes_s` has the seconds of each, which overlap. `fraction_of_peak` is that of the
    dense peak, or of memory bandwidth where bytes bind the ideal. `ideal_s` is the time
    at both peaks, nothing else counted.
    """

    time_s: float
    time_s_low: float
    time_s_high: float
    bound: str
    causes_s: dict[str, float]
    ideal_s: float
    fraction_of_peak: float
    origin: str


def attention_time(work: Work, chip: Chip, constants: Constants) -> AttentionTime:
    """The time of `work` on `chip`; docs/roofline.md says what each term is."""
    if work.mode is Mode.DECODE:
        eight = work.kv_dtype.bits == 8 and work.dtype.bits == 16
        own = constants.decode_fp8 if eight else None
        parts = decode_parts(decode_terms(work, chip), own or constants.decode)
        reading = L2 if parts.hot > _WARM else HBM
        latency = parts.launch_s + parts.extra_s + parts.wave_s
        causes = {TENSOR: parts.tensor_s, reading: parts.memory_s, LATENCY: latency}
        # One block's stream is bound by latency in flight, not by the memory behind it.
        causes[LATENCY] = max(latency, parts.stream_s)
        return _answer(
            work, chip, parts.total_s, causes, constants.decode_band, constants.decode_origin
        )
    total, causes = 0.0, {TENSOR: 0.0, EXP: 0.0, LATENCY: 0.0}
    for mode in (Mode.FWD, Mode.BWD):
        if work.mode in (mode, Mode.FWD_BWD):
            one = msgspec.structs.replace(work, mode=mode)
            part = prefill_parts(prefill_terms(one, chip, step=constants.step), constants.prefill)
            total += part.total_s
            _add(causes, part)
    return _answer(work, chip, total, causes, constants.prefill_band, constants.prefill_origin)


def _add(causes: dict[str, float], part: PrefillParts) -> None:
    reading = L2 if part.hot > _WARM else HBM
    causes[TENSOR] += part.tensor_s
    causes[EXP] += part.exp_s
    causes[LATENCY] += part.launch_s + part.block_s
    causes[reading] = causes.get(reading, 0.0) + part.memory_s + part.cache_s


def _answer(
    work: Work, chip: Chip, total_s: float, causes: dict[str, float], band: float, origin: str
) -> AttentionTime:
    ideal_s = max(work.flops / chip.peak(work.dtype), work.bytes_min / chip.bytes_per_s)
    return AttentionTime(
        time_s=total_s,
        time_s_low=total_s / band,
        time_s_high=total_s * band,
        bound=max(causes, key=lambda name: causes[name]),
        causes_s=causes,
        ideal_s=ideal_s,
        fraction_of_peak=ideal_s / total_s,
        origin=origin,
    )
