"""Constants of a kernel on one chip, carried to another.

What a launch, a block or a wave takes is latency, which goes with the clock; what the L2
hands out goes with clock and SMs. On six GPUs from 0.9 to 8 TB/s the same kernels' fitted
launches lie within a fifth in clocks (FlashInfer 13,000, TensorRT-LLM 22,000), and twofold
apart in seconds. Efficiencies, parts and tiles are carried as they are.

Source: docs/roofline.md, "Whose constants".
"""

import msgspec

from attnbench.calc.attention_work import Chip
from attnbench.spec.calibration import DecodeConstants, PrefillConstants, Reference

LATENCIES = frozenset(["launch_s", "block_s", "wave_s", "single_wave_s", "combine_s", "regroup_s"])
CACHE_RATES = frozenset(["l2_speedup", "block_share"])  # over bandwidth, or bandwidth / SMs


def factors(chip: Chip, at: Reference) -> tuple[float, float]:
    """What `LATENCIES` and `CACHE_RATES` at the reference `at` are multiplied by on `chip`."""
    slower = at.clock_hz / chip.clock_hz
    wider = chip.bytes_per_s / chip.sms / chip.clock_hz
    return slower, at.bytes_per_s_per_sm / at.clock_hz / wider


def carried_prefill(c: PrefillConstants, chip: Chip, at: Reference) -> PrefillConstants:
    """Constants of prefill that hold at `at`, on `chip`."""
    slower, faster = factors(chip, at)
    return msgspec.structs.replace(
        c,
        launch_s=c.launch_s * slower,
        block_s=c.block_s * slower,
        l2_speedup=c.l2_speedup * faster,
    )


def carried_decode(c: DecodeConstants, chip: Chip, at: Reference) -> DecodeConstants:
    """Constants of decode that hold at `at`, on `chip`."""
    slower, faster = factors(chip, at)
    return msgspec.structs.replace(
        c,
        launch_s=c.launch_s * slower,
        wave_s=c.wave_s * slower,
        single_wave_s=c.single_wave_s * slower,
        combine_s=c.combine_s * slower,
        regroup_s=c.regroup_s * slower,
        l2_speedup=c.l2_speedup * faster,
        block_share=c.block_share * faster,
    )
