"""Constants carried from the reference chip to others: what scales, and what stays."""

import msgspec
import pytest

from attnbench.calc.attention_work import chip_of
from attnbench.calc.carry import CACHE_RATES, LATENCIES, carried_decode, carried_prefill
from attnbench.catalog.calibration import constants_for, families, family_of
from attnbench.catalog.hardware import gpu_names, load_gpu
from attnbench.engines.attention import attention_engine
from attnbench.spec.calibration import REFERENCE, DecodeConstants, PrefillConstants

PREFILL = PrefillConstants(
    launch_s=8e-6, tensor_efficiency=(0.7, 0.8, 0.9, 0.5), exp_share=0.5, prologue_tiles=0.5,
    block_s=1.5e-6, tail=0.3, bandwidth_efficiency=0.75, l2_speedup=2.5, cache_write=1.0,
)  # fmt: skip
DECODE = DecodeConstants(
    launch_s=8e-6, wave_s=3e-6, single_wave_s=2e-6, bandwidth_efficiency=0.9, l2_speedup=2.0,
    block_share=2.0, combine_s=2e-6, regroup_s=3e-7, tensor_efficiency=0.5,
)  # fmt: skip


def test_every_latency_and_rate_is_a_constant_of_some_kind() -> None:
    fields = {*PREFILL.__struct_fields__, *DECODE.__struct_fields__}
    assert fields >= LATENCIES | CACHE_RATES
    assert {name for name in fields if name.endswith("_s")} == LATENCIES


@pytest.mark.parametrize("name", ["h100-sxm", "l40s", "b200", "a100-80gb-sxm"])
@pytest.mark.parametrize("carry", [carried_prefill, carried_decode])
def test_latency_keeps_its_clocks_and_the_cache_its_bytes_a_clock(name: str, carry: object) -> None:
    chip = chip_of(load_gpu(name))
    told = PREFILL if carry is carried_prefill else DECODE
    made = carry(told, chip, REFERENCE)  # type: ignore[operator]  # two functions of one form
    share = chip.bytes_per_s / chip.sms / chip.clock_hz  # bytes a clock and SM out of memory
    there = REFERENCE.bytes_per_s_per_sm / REFERENCE.clock_hz
    for key in told.__struct_fields__:
        before, after = getattr(told, key), getattr(made, key)
        if key in LATENCIES:
            assert after * chip.clock_hz == pytest.approx(before * REFERENCE.clock_hz, rel=1e-12)
        elif key in CACHE_RATES:
            assert after * share == pytest.approx(before * there, rel=1e-12)
        else:
            assert after == before


def test_a_chip_like_the_reference_takes_constants_as_they_are() -> None:
    chip = chip_of(load_gpu("h100-sxm"))
    alike = msgspec.structs.replace(
        chip, clock_hz=REFERENCE.clock_hz, bytes_per_s=REFERENCE.bytes_per_s_per_sm * chip.sms
    )
    assert carried_decode(DECODE, alike, REFERENCE) == DECODE


def test_a_gpu_without_its_own_set_answers_with_the_familys_carried() -> None:
    gpu = msgspec.structs.replace(load_gpu("l4"), calibration={})
    engine = attention_engine("sglang flashinfer")
    assert engine is not None
    found = constants_for(gpu, engine)
    assert found.decode_origin == f"{family_of(gpu)}.sglang-flashinfer"
    told = families()["gddr"]["sglang-flashinfer"].decode
    assert told is not None
    assert found.decode == carried_decode(told, chip_of(gpu), REFERENCE)
    assert found.decode.launch_s < told.launch_s  # an L4 clocks higher than an H100


@pytest.mark.parametrize("name", [n for n in gpu_names() if n.startswith(("mi", "arc", "gaudi"))])
def test_another_makers_part_takes_no_cuda_kernels_constants(name: str) -> None:
    gpu = msgspec.structs.replace(load_gpu(name), calibration={})
    found = constants_for(gpu, attention_engine("vllm fa2"))
    assert not found.prefill_origin.startswith("any.fa2")
