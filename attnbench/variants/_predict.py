"""Predicted time of a variant on a GPU, whichever class of backend runs it."""

import enum

import msgspec

from attnbench.calc.attention_time import AttentionTime, Constants, attention_time
from attnbench.calc.attention_work import Chip, chip_of, work_of
from attnbench.calc.traffic import standard_traffic, tiled_traffic
from attnbench.calc.variant_time import eager_time, feature_time
from attnbench.catalog.calibration import constants_for
from attnbench.engines.attention import attention_engine
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.spec.hardware import HardwareSpec
from attnbench.variants._protocol import Params, Variant


class Class(enum.StrEnum):
    """How a backend goes about it: by tiles, or an operation at a time through memory."""

    TILED = "tiled"
    EAGER = "eager"


# The kernel whose constants speak for a backend; eager ones take the GPU's default.
_KERNELS = {
    "sdpa": "flash attention", "sdpa.flash": "fa2", "sdpa.efficient": "xformers",
    "sdpa.cudnn": "cudnn", "flex": "triton", "triton": "triton", "fa2": "fa2", "fa3": "fa3",
    "fa4": "fa4", "flashinfer": "flashinfer",
}  # fmt: skip


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """What a run costs and how long it should take.

    `bytes` is what the class of backend has to move: operands once, or, eager, the scores
    too. `bytes_ideal` moves operands once. `bytes_tiled` is FlashAttention's count with
    one core's SRAM and no L2, None for what is not softmax attention over all pairs.
    """

    flops: int
    bytes: int
    bytes_ideal: int
    bytes_tiled: int | None
    time: AttentionTime


def backend_time_s(
    variant: Variant,
    backend: str,
    shape: AttentionShape,
    mode: Mode,
    params: Params,
    *,
    gpu: HardwareSpec,
    cold: bool,
) -> float:
    """Seconds that `backend` of `variant` should take on `gpu`; `cold`: nothing in the L2."""
    kernel = kernel_of(backend)
    engine = attention_engine(kernel, architecture=gpu.architecture) if kernel else None
    chip = chip_of(gpu)
    if cold:
        chip = msgspec.structs.replace(chip, l2_bytes=1)
    found = predict(
        variant, shape, mode, params,
        chip=chip, constants=constants_for(gpu, engine), how=class_of(backend),
    )  # fmt: skip
    return found.time.time_s


def class_of(backend: str) -> Class:
    """The class of a backend by its name."""
    return Class.EAGER if backend == "eager" else Class.TILED


def kernel_of(backend: str) -> str:
    """An engine's name for the kernel that `backend` runs; empty where there is none."""
    return _KERNELS.get(backend, "")


def usual_class(variant: Variant) -> Class:
    """Tiled where the variant has a kernel, eager where it writes its scores out."""
    return Class.EAGER if variant.name == "naive" else Class.TILED


def predict(
    variant: Variant,
    shape: AttentionShape,
    mode: Mode,
    params: Params,
    *,
    chip: Chip,
    constants: Constants,
    how: Class,
    kv_dtype: Dtype | None = None,
    sram_bytes: int | None = None,
    cached: bool = False,
) -> Predicted:
    """`variant` at `shape` in `mode`, on `chip`.

    `cached`: an engine runs it, and copies keys and values into its cache besides.
    """
    cost = variant.cost(shape, mode, params)
    pattern = None
    if variant.pattern is not None and not variant.exact:
        pattern = variant.pattern(shape, params)
    work = work_of(shape, mode, pattern=pattern)
    moved = cost.bytes_min
    if kv_dtype is not None and kv_dtype is not shape.dtype:
        once = work.cache_bytes
        work = msgspec.structs.replace(work, kv_dtype=kv_dtype)
        moved -= (once - work.cache_bytes) * (1 if mode in (Mode.FWD, Mode.DECODE) else 3)
    work = msgspec.structs.replace(work, cached=cached)
    written = moved
    if variant.pattern is None:
        time = feature_time(cost, work, chip, constants)
    elif how is Class.EAGER:
        time = eager_time(work, chip, constants)
        written = standard_traffic(shape, mode) if variant.exact else moved
    else:
        time = attention_time(work, chip, constants)
    tiled = None
    if variant.exact and sram_bytes and mode is not Mode.DECODE:
        tiled = tiled_traffic(shape, mode, sram_bytes=sram_bytes)
    return Predicted(
        flops=cost.flops, bytes=written, bytes_ideal=moved, bytes_tiled=tiled, time=time
    )
