"""What an accelerator is: published facts, measured ones, and where each was read.

Figures are SI base units with the unit in the key. Peaks are dense: a 2:4-sparse
figure never stands here. Published figures are for the whole package as it is sold;
the methods of `HardwareSpec` answer for one device as software sees it.
"""

import msgspec

from attnbench.spec.calibration import Calibration
from attnbench.spec.dtype import Dtype

_PEAK_OF = {
    Dtype.FP64: "fp64_tensor", Dtype.FP32: "fp32", Dtype.TF32: "tf32",
    Dtype.FP16: "fp16", Dtype.BF16: "bf16",
    Dtype.FP8_E4M3: "fp8", Dtype.FP8_E5M2: "fp8", Dtype.INT8: "int8",
    Dtype.MXFP4: "fp4", Dtype.NVFP4: "fp4",
}  # fmt: skip


class Peaks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dense peaks in FLOP/s (operations/s for int8), on the matrix path where there is one.

    fp16, bf16 and fp8 accumulate in fp32; where fp16 accumulation is faster
    (GeForce), that rate has a name of its own. `fp64` and `fp32` are the vector path.
    """

    fp64: float | None = None
    fp64_tensor: float | None = None
    fp32: float | None = None
    tf32: float | None = None
    fp16: float | None = None
    bf16: float | None = None
    fp8: float | None = None
    int8: float | None = None
    fp4: float | None = None
    fp16_fp16_accumulate: float | None = None
    fp8_fp16_accumulate: float | None = None


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the vendor or a page about the part says; None where no page said it.

    `memory_bytes` is the capacity as it is sold: for most parts the decimal figure
    of the name, which is a little under what is really there.
    `sm_count` counts SMs, CUs, Xe cores or TPCs. `link_bytes_per_s` is one direction,
    all links of one package together.
    """

    memory_bytes: int
    bandwidth_bytes_per_s: float
    peak_flops_per_s: Peaks
    sm_count: int | None = None
    boost_clock_hz: float | None = None
    shared_memory_per_sm_bytes: int | None = None
    shared_memory_per_block_bytes: int | None = None
    registers_per_sm: int | None = None
    exp2_per_clock_per_sm: int | None = None
    l2_bytes: int | None = None
    last_level_cache_bytes: int | None = None
    sram_bytes: int | None = None
    link: str | None = None
    link_bytes_per_s: float | None = None
    pcie: str | None = None
    tdp_w: float | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was seen on real parts, each with its page in `source`.

    `driver_memory_bytes` is the total that the driver's tool prints (nvidia-smi,
    rocm-smi), `usable_memory_bytes` the total that a program is told (cudaMemGetInfo,
    torch), which is what an inference engine takes its share of.
    `gemm_flops_per_s` is the best dense matrix product, `stream_bytes_per_s` the best
    rate at which attention read a cache too large for the L2.
    """

    source: tuple[str, ...]
    driver_memory_bytes: int | None = None
    usable_memory_bytes: int | None = None
    gemm_flops_per_s: Peaks | None = None
    stream_bytes_per_s: float | None = None


class HardwareSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One accelerator.

    `target` is what a compiler is asked for: `sm_90`, `gfx942`. `device_names` are the
    names a driver or torch gives it. `not_re_read` names the figures that were taken
    from memory and not read again. `devices` is how many devices software sees in one
    package (MI250X: 2). `unified_memory`: the CPU's and the GPU's are one. `note` is a
    trap that a reader should know. `calibration` has fitted constants by engine, and
    `default`.
    """

    name: str
    title: str
    vendor: str
    source: tuple[str, ...]
    published: Published
    architecture: str | None = None
    target: str | None = None
    device_names: tuple[str, ...] = ()
    devices: int = 1
    unified_memory: bool = False
    not_re_read: str | None = None
    note: str | None = None
    measured: Measured | None = None
    calibration: dict[str, Calibration] = {}

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory of one device: the best-known total that a program can use.

        The usable total where it is known, else the driver's, else the capacity as sold.
        """
        seen = self.measured
        total = seen and (seen.usable_memory_bytes or seen.driver_memory_bytes)
        return (total or self.published.memory_bytes) // self.devices

    @property
    def memory_meaning(self) -> str:
        """Which of the totals `memory_bytes` is, in words."""
        if self.measured and self.measured.usable_memory_bytes:
            return "the total that a program is told"
        if self.measured and self.measured.driver_memory_bytes:
            return "the total that the driver prints"
        return "the capacity as sold; what the driver shows is not known"

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """Published memory bandwidth of one device."""
        return self.published.bandwidth_bytes_per_s / self.devices

    @property
    def sm_count(self) -> int | None:
        """SMs, CUs or cores of one device."""
        count = self.published.sm_count
        return None if count is None else count // self.devices

    @property
    def last_level_cache_bytes(self) -> int | None:
        """Bytes of the last cache before memory, of one device."""
        size = self.published.last_level_cache_bytes or self.published.l2_bytes
        return None if size is None else size // self.devices

    def peak_flops_per_s(self, dtype: Dtype) -> float | None:
        """Dense peak of one device with operands in `dtype`, or None where it has none.

        Formats that are unpacked before they are multiplied (int4) have none.
        """
        name = _PEAK_OF.get(dtype)
        peaks = self.published.peak_flops_per_s
        peak = getattr(peaks, name) if name else None
        if peak is None and dtype is Dtype.FP64:
            peak = peaks.fp64
        return None if peak is None else peak / self.devices
