"""Rows of published attention timings: each time predicted from what was run."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from attnbench.calc.attention_time import AttentionTime, Constants, attention_time
from attnbench.calc.attention_work import Chip, Work, chip_of
from attnbench.calc.variant_time import eager_time
from attnbench.catalog.calibration import constants_for
from attnbench.catalog.hardware import load_gpu
from attnbench.catalog.timing_rows import TimingRow, read_timings
from attnbench.engines.attention import AttentionEngine
from attnbench.spec.attention import Mode
from attnbench.spec.dtype import Dtype
from attnbench.validation.row import Limit, Row, Timing, compare

LIMITS = {"time_ms": Limit(band=True)}
PREFILL, SMALL_PREFILL, ENCODER = "prefill >= 50 us", "small prefill", "encoder"
STREAMING, DECODE, BACKWARD = "streaming decode", "all decode", "backward"
_LARGE_S = 50e-6
_STREAMING = 2  # times the L2
_HALF = (Dtype.FP16, Dtype.BF16)


def rows(path: Path) -> list[Row]:
    """Every row of the file at `path`, predicted; one that cannot be says why.

    Raises:
        UserError: it is not in the form of `attention_timings.csv`.
    """
    return [_row(row, path.name) for row in read_timings(path)]


def predict(row: TimingRow) -> tuple[AttentionTime, Chip] | None:
    """The predicted time of what a row ran, and its chip; None where it does not say."""
    if row.gpu is None or row.work is None:
        return None
    chip, constants = _chip(row.gpu.name, row.engine)
    if row.engine and row.engine.kernel == "naive":
        return eager_time(row.work, chip, constants), chip
    return attention_time(row.work, chip, constants), chip


@cache
def _chip(gpu: str, engine: AttentionEngine | None) -> tuple[Chip, Constants]:
    spec = load_gpu(gpu)
    return chip_of(spec), constants_for(spec, engine)


def regimes(work: Work, chip: Chip, phase: str) -> tuple[str, ...]:
    """The regimes that a run counts in; those of 16-bit forward passes have names."""
    if work.mode in (Mode.BWD, Mode.FWD_BWD):
        return (BACKWARD,)
    if work.dtype not in _HALF or work.kv_dtype not in _HALF:
        return (f"{'decode' if work.mode is Mode.DECODE else 'prefill'}, fp8",)
    if work.mode is Mode.DECODE:
        if work.latent:
            return ("latent decode",)
        return (STREAMING, DECODE) if work.cache_bytes > _STREAMING * chip.l2_bytes else (DECODE,)
    if phase == "encoder":
        return (ENCODER,)
    return (PREFILL,) if work.flops / chip.peak(work.dtype) >= _LARGE_S else (SMALL_PREFILL,)


def _row(row: TimingRow, corpus: str) -> Row:
    made = predict(row)
    engine = row.engine.key if row.engine else ""
    reported: Mapping[str, float | None] = {"time_ms": row.time_ms}
    if made is None or row.work is None:
        return Row(
            id=row.id, corpus=corpus, family=engine, predicted={"time_ms": None},
            reported=reported, relative_error={}, within={}, why=(row.why,),
        )  # fmt: skip
    time, chip = made
    predicted: Mapping[str, float | None] = {"time_ms": time.time_s * 1e3}
    low, high = {"time_ms": time.time_s_low * 1e3}, {"time_ms": time.time_s_high * 1e3}
    errors, within = compare(predicted, reported, LIMITS, low, high)
    ideal = None if row.time_ms is None else time.ideal_s * 1e3 / row.time_ms - 1
    return Row(
        id=row.id,
        corpus=corpus,
        family=engine,
        predicted=predicted,
        words={"bound": time.bound},
        reported=reported,
        relative_error=errors,
        within=within,
        low=low,
        high=high,
        timing=Timing(
            figure="time_ms",
            series=row.series,
            gpu=row.gpu.name if row.gpu else "",
            engine=engine or "any",
            regimes=regimes(row.work, chip, row.phase),
            ideal_error=ideal,
        ),
    )
