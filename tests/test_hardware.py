"""Hardware profiles: complete, dense, sourced, and found from a device's name."""

from pathlib import Path

import msgspec
import pytest

from attnbench.catalog.hardware import find_by_device_name, gpu_names, load_gpu
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype

CONTRACT = (
    "a100-40gb-sxm", "a100-80gb-sxm", "h100-sxm", "h200-sxm", "b200", "l4", "l40s", "rtx-4090",
    "mi300x",
)  # fmt: skip
GIB = 1 << 30


def test_the_contracts_names_and_all_48_are_there() -> None:
    assert set(CONTRACT) <= set(gpu_names())
    assert len(gpu_names()) >= 49


@pytest.mark.parametrize("name", gpu_names())
def test_every_profile_is_sound(name: str) -> None:
    spec = load_gpu(name)
    assert spec.source
    assert all(len(source) > 5 for source in spec.source)
    assert spec.device_names
    # Units: nothing sold has under 10 GB or over 400 GB, 0.2 to 10 TB/s, 10 TFLOP/s to 20 PFLOP/s.
    assert 10e9 < spec.published.memory_bytes < 400e9
    assert 0.2e12 < spec.published.bandwidth_bytes_per_s < 10e12
    peaks = msgspec.to_builtins(spec.published.peak_flops_per_s)
    best = max(value for value in peaks.values() if value)
    assert 10e12 < best < 20e15
    # Dense: 8-bit is at most 4 times 16-bit (GeForce int8), a sparse figure would double that.
    sixteen_bit = max(peaks["fp16"] or 0, peaks["bf16"] or 0)
    assert (peaks["fp8"] or 0) <= 2.05 * sixteen_bit
    assert (peaks["int8"] or 0) <= 4.05 * sixteen_bit
    assert (peaks["fp4"] or 0) <= 4.05 * (peaks["fp8"] or 0)
    # What a driver shows is within 10% of what is sold as GB = 10^9.
    assert 0.98 < spec.memory_bytes * spec.devices / spec.published.memory_bytes < 1.08
    measured = spec.measured
    if measured and measured.gemm_flops_per_s:
        for key, value in msgspec.to_builtins(measured.gemm_flops_per_s).items():
            assert value is None or value < peaks[key]
    if measured and measured.stream_bytes_per_s:
        assert measured.stream_bytes_per_s < spec.published.bandwidth_bytes_per_s


@pytest.mark.parametrize(
    ("name", "bf16", "bandwidth", "sms"),
    [
        # NVIDIA's and AMD's data sheets: dense, HBM bandwidth, multiprocessors.
        ("a100-80gb-sxm", 312e12, 2.039e12, 108),
        ("h100-sxm", 989.4e12, 3.35e12, 132),
        ("h200-sxm", 989.4e12, 4.8e12, 132),
        ("b200", 2250e12, 8e12, 148),
        ("l4", 121e12, 300e9, 58),
        ("mi300x", 1307.4e12, 5.3e12, 304),
    ],
)
def test_published_figures(name: str, bf16: float, bandwidth: float, sms: int) -> None:
    spec = load_gpu(name)
    assert spec.peak_flops_per_s(Dtype.BF16) == bf16
    assert spec.bandwidth_bytes_per_s == bandwidth
    assert spec.sm_count == sms


def test_the_sparse_peak_is_not_taken_for_the_dense_one() -> None:
    assert load_gpu("h100-sxm").peak_flops_per_s(Dtype.FP8_E4M3) == 1978.9e12


def test_a_format_without_a_path_of_its_own_has_no_peak() -> None:
    assert load_gpu("a100-80gb-sxm").peak_flops_per_s(Dtype.FP8_E4M3) is None
    assert load_gpu("h100-sxm").peak_flops_per_s(Dtype.INT4) is None
    assert load_gpu("t4").peak_flops_per_s(Dtype.BF16) is None


def test_two_devices_in_one_package_are_counted_as_software_sees_them() -> None:
    spec = load_gpu("mi250x")
    assert (spec.memory_bytes, spec.sm_count) == (64 * GIB, 110)
    assert spec.peak_flops_per_s(Dtype.BF16) == 191.5e12
    assert spec.published.memory_bytes == 128 * GIB


def test_memory_that_a_program_is_told_goes_before_the_figure_as_sold() -> None:
    # vLLM's logs: H100 79.18 GiB, A100-80 79.25, T4 14.74.
    for name, gib in (("h100-sxm", 79.18), ("a100-80gb-sxm", 79.25), ("t4", 14.74)):
        assert load_gpu(name).memory_bytes == int(gib * GIB)
    assert "told" in load_gpu("h100-sxm").memory_meaning
    assert "driver" in load_gpu("h20").memory_meaning
    assert "sold" in load_gpu("b100").memory_meaning


@pytest.mark.parametrize(
    ("device", "memory", "profile"),
    [
        ("NVIDIA H100 80GB HBM3", 85_017_755_648, "h100-sxm"),
        ("NVIDIA H200", 150_000_000_000, "h200-sxm"),
        ("NVIDIA A100-SXM4-40GB", 42_300_000_000, "a100-40gb-sxm"),
        ("A100-SXM4-80GB", 85_100_000_000, "a100-80gb-sxm"),
        ("nvidia geforce rtx 4090", 25_250_000_000, "rtx-4090"),
        ("Tesla T4", 15_800_000_000, "t4"),
        ("AMD Instinct MI300X", 206_000_000_000, "mi300x"),
        ("AMD Instinct MI250X", 68_700_000_000, "mi250x"),
    ],
)
def test_a_measured_run_finds_its_profile(device: str, memory: int, profile: str) -> None:
    found = find_by_device_name(device, memory)
    assert found is not None
    assert found.name == profile


@pytest.mark.parametrize(
    ("device", "memory"),
    [
        ("NVIDIA GeForce RTX 9999", 24 * GIB),
        ("NVIDIA H100 80GB HBM3", 10 * GIB),  # a MIG slice
        ("NVIDIA H100 80GB HBM3", 0),
        ("", 80 * GIB),
    ],
)
def test_an_unknown_device_finds_none(device: str, memory: int) -> None:
    assert find_by_device_name(device, memory) is None


def test_no_two_profiles_share_a_device_name() -> None:
    names = [name.lower() for gpu in gpu_names() for name in load_gpu(gpu).device_names]
    assert len(names) == len(set(names))


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        load_gpu("h100-smx")
    assert caught.value.hint is not None
    assert "h100-sxm" in caught.value.hint


@pytest.mark.parametrize("name", ["../hardware/l4", "/etc/passwd", "", "L4/"])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(UserError, match="unknown GPU"):
        load_gpu(name)


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ntitle: My card\nvendor: me\nsource: [its box]\npublished:\n"
        "  memory_bytes: 24000000000\n  bandwidth_bytes_per_s: 1e12\n  peak_flops_per_s:\n"
        "    bf16: 100e12\n"
    )
    assert load_gpu(str(path)).memory_bytes == 24_000_000_000
    path.write_text(path.read_text().replace("source: [its box]\n", ""))
    with pytest.raises(UserError, match=r"mine.yaml:1: .*missing required field `source`"):
        load_gpu(str(path))
    path.write_text(path.read_text().replace("bandwidth", "bandwith"))
    with pytest.raises(UserError, match=r"mine.yaml:6: unknown key .*'bandwidth_bytes_per_s'"):
        load_gpu(str(path))
