"""What `roofline` and `complexity` answer: variants over GPUs, modes and lengths."""

from collections.abc import Mapping, Sequence
from itertools import product

import msgspec

from attnbench.calc.attention_work import chip_of
from attnbench.calc.traffic import score_bytes
from attnbench.catalog.calibration import constants_for
from attnbench.engines.attention import AttentionEngine, attention_engine
from attnbench.errors import UserError, unknown_name
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.spec.hardware import HardwareSpec
from attnbench.units import parse_length
from attnbench.variants import load_variant
from attnbench.variants._predict import Class, predict, usual_class
from attnbench.variants._protocol import Params, ParamValue, Variant


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: every variant in every mode at every length on every GPU.

    `seq_q` is the queries' length where it is not that of the keys. `how` None: tiled
    where the variant has kernels. `engine`: whose constants, None for any good kernel's.
    """

    variants: tuple[str, ...]
    gpus: tuple[HardwareSpec, ...]
    modes: tuple[Mode, ...]
    seq_lens: tuple[int, ...]
    batch: int = 1
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    dtype: Dtype = Dtype.BF16
    kv_dtype: Dtype | None = None
    causal: bool = True
    seq_q: int | None = None
    params: Mapping[str, ParamValue] = {}
    how: Class | None = None
    engine: str | None = None


class RooflineRow(msgspec.Struct, frozen=True, kw_only=True):
    """One variant at one shape on one GPU. Times in seconds; bytes and FLOPs exact.

    `intensity` is flops / bytes, `ridge` the intensity from which the GPU's peak binds.
    `fraction_of_peak`: ideal_s over time_s, ideal_s being the longer of FLOPs at the dense
    peak and bytes at full bandwidth. `score_bytes`: one matrix of scores, every head.
    """

    variant: str
    gpu: str
    mode: str
    backend: str
    dtype: str
    kv_dtype: str
    batch: int
    heads: int
    kv_heads: int
    seq_q: int
    seq_kv: int
    head_dim: int
    causal: bool
    params: dict[str, ParamValue]
    flops: int
    bytes: int
    bytes_ideal: int
    bytes_tiled: int | None
    score_bytes: int
    workspace_bytes: int | None
    intensity: float
    ridge: float
    time_s: float
    time_s_low: float
    time_s_high: float
    ideal_s: float
    bound: str
    fraction_of_peak: float
    achieved_flops_per_s: float
    achieved_bytes_per_s: float
    causes_s: dict[str, float]
    constants: str


class Roofline(msgspec.Struct, frozen=True, kw_only=True):
    """The rows asked for, what they rest on, and what was left out and why."""

    rows: tuple[RooflineRow, ...]
    assumptions: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def answer(ask: Ask) -> Roofline:
    """Every row asked for; variants without a mode or a causal form say so.

    Raises:
        UserError: an unknown variant or setting, an impossible shape, an engine not known.
    """
    variants = [load_variant(name) for name in ask.variants]
    _check_params(variants, ask.params)
    rows: list[RooflineRow] = []
    left: list[str] = []
    assumed: list[str] = []
    for gpu in ask.gpus:
        engine = _engine(ask.engine, gpu)
        chip = chip_of(gpu)
        assumed += [f"{gpu.name}: {text}" for text in chip.assumed]
        if ask.dtype not in chip.flops_per_s:
            assumed.append(f"{gpu.name} has no {ask.dtype} peak: that of 16 bits is taken")
        for variant, mode, seq_len in product(variants, ask.modes, ask.seq_lens):
            if mode not in variant.modes:
                left.append(f"{variant.name} has no {mode.value}")
                continue
            rows.append(_row(ask, variant, mode, seq_len, gpu, engine))
    notes = (
        "Times are predictions: published peaks with constants fitted to published timings; "
        "nine of ten measurements of calibrated engines fall into the band.",
        "CUDA-graph replays with a warm L2: what fits the L2 is read from it.",
    )
    return Roofline(
        rows=tuple(rows),
        assumptions=(*notes, *dict.fromkeys(assumed)),
        left_out=tuple(dict.fromkeys(left)),
    )


def _row(
    ask: Ask,
    variant: Variant,
    mode: Mode,
    seq_len: int,
    gpu: HardwareSpec,
    engine: AttentionEngine | None,
) -> RooflineRow:
    causal = ask.causal if ask.causal in variant.causal_forms else not ask.causal
    seq_q = 1 if mode is Mode.DECODE else ask.seq_q or seq_len
    shape = AttentionShape(
        batch=ask.batch, heads=ask.heads, kv_heads=ask.kv_heads, seq_q=seq_q, seq_kv=seq_len,
        head_dim=ask.head_dim, causal=causal, dtype=ask.dtype,
    )  # fmt: skip
    params = variant.resolve(shape, {**variant.defaults, **_of(variant, ask.params)})
    how = ask.how or usual_class(variant)
    chip = chip_of(gpu)
    found = predict(
        variant, shape, mode, params, chip=chip, constants=constants_for(gpu, engine), how=how,
        kv_dtype=ask.kv_dtype, sram_bytes=gpu.published.shared_memory_per_sm_bytes,
        cached=bool(engine and engine.framework),
    )  # fmt: skip
    time = found.time
    workspace = _workspace(variant, shape, mode, params, how)
    return RooflineRow(
        variant=variant.name, gpu=gpu.name, mode=mode.value, backend=how.value,
        dtype=ask.dtype.value, kv_dtype=(ask.kv_dtype or ask.dtype).value, batch=ask.batch,
        heads=ask.heads, kv_heads=ask.kv_heads, seq_q=seq_q, seq_kv=seq_len,
        head_dim=ask.head_dim, causal=causal, params=dict(params), flops=found.flops,
        bytes=found.bytes, bytes_ideal=found.bytes_ideal, bytes_tiled=found.bytes_tiled,
        score_bytes=score_bytes(shape), workspace_bytes=workspace,
        intensity=found.flops / found.bytes,
        ridge=chip.peak(ask.dtype) / chip.bytes_per_s,
        time_s=time.time_s, time_s_low=time.time_s_low, time_s_high=time.time_s_high,
        ideal_s=time.ideal_s, bound=time.bound, fraction_of_peak=time.fraction_of_peak,
        achieved_flops_per_s=found.flops / time.time_s,
        achieved_bytes_per_s=found.bytes_ideal / time.time_s,
        causes_s=time.causes_s, constants=time.origin,
    )  # fmt: skip


def _workspace(
    variant: Variant, shape: AttentionShape, mode: Mode, params: Params, how: Class
) -> int | None:
    for backend in variant.backends:
        if (backend.name == "eager") == (how is Class.EAGER):
            return backend.workspace_bytes(shape, mode, params)
    return variant.backends[0].workspace_bytes(shape, mode, params)


def parse_params(text: str, window: str | None) -> dict[str, ParamValue]:
    """Settings in 'window=256,sink=4', and `window` as a length of its own.

    Raises:
        UserError: a part that is no key=value.
    """
    made: dict[str, ParamValue] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise UserError(f"--params: {part!r} is not key=value", hint="Write window=256,sink=4.")
        if value in ("true", "false"):
            made[key.strip()] = value == "true"
        else:
            made[key.strip()] = parse_length(value, what=f"--params {key}", minimum=0)
    if window is not None:
        made["window"] = parse_length(window, what="--window")
    return made


def _of(variant: Variant, params: Mapping[str, ParamValue]) -> dict[str, ParamValue]:
    return {key: value for key, value in params.items() if key in variant.defaults}


def _check_params(variants: Sequence[Variant], params: Mapping[str, ParamValue]) -> None:
    known = {key for variant in variants for key in variant.defaults}
    for key in params:
        if key not in known:
            raise unknown_name("setting", key, sorted(known))


def _engine(name: str | None, gpu: HardwareSpec) -> AttentionEngine | None:
    if name is None:
        return None
    found = attention_engine(name, architecture=gpu.architecture)
    if found is None:
        raise UserError(
            f"--engine: {name!r} names no engine or kernel that is known",
            hint="Write vllm, sglang, trtllm, fa2, fa3, fa4, flashinfer, cudnn or triton.",
        )
    return found
