"""Turns outcomes of points into result rows: theory beside measurement."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from attnbench.calc.operands import held_bytes
from attnbench.calc.score_features import score_features
from attnbench.measure.environment import Device
from attnbench.measure.plan import Group, Point, params_text
from attnbench.measure.preset import Timing
from attnbench.measure.recipe import recipe
from attnbench.measure.statistics import Timed, log_log_slope, summarise
from attnbench.measure.timer import regime
from attnbench.measure.worker import Outcome
from attnbench.spec.hardware import HardwareSpec
from attnbench.spec.result import ResultRow, Status
from attnbench.variants import load_variant
from attnbench.variants._predict import backend_time_s

_OVER_ROOF = 1.05  # a figure this much over a roof is a bug in timer, formula or profile
_COLD_FOOTPRINT = 2  # times the last-level cache: less may be served from it after all


class Roof(msgspec.Struct, frozen=True, kw_only=True):
    """A device's published peaks for one dtype; None where no profile gives them."""

    flops_per_s: float | None = None
    bytes_per_s: float | None = None


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """What all rows of a sweep share; `gpu` is the device's profile, None where none is its."""

    device: Device
    timing: Timing
    versions: dict[str, str | None]
    roofs: Mapping[str, Roof]
    gpu: HardwareSpec | None = None

    def roof(self, dtype: str) -> Roof:
        """The peaks for `dtype`, unknown ones None."""
        return self.roofs.get(dtype, Roof())


def unfinished_row(point: Point, device: Device, status: Status, note: str) -> ResultRow:
    """The row of a point that did not end `ok`: its status and reason, no figures."""
    shape = point.shape
    return ResultRow(
        variant=point.variant,
        backend=point.backend,
        mode=point.mode.value,
        device=device.name,
        dtype=shape.dtype.value,
        batch=shape.batch,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        seq_q=shape.seq_q,
        seq_kv=shape.seq_kv,
        head_dim=shape.head_dim,
        causal=shape.causal,
        params=params_text(point.params),
        status=status.value,
        note=" ".join(note.split()),
    )


def group_rows(
    group: Group, outcomes: Mapping[int, Outcome], timer: str, bench: Bench
) -> list[ResultRow]:
    """The rows of a group, in the order of its points.

    A point's speedup is over plain attention with the same score features.
    """
    timed = {
        i: summarise(outcome.rounds_ms)
        for i, outcome in outcomes.items()
        if outcome.status is Status.OK and outcome.rounds_ms
    }
    naive_ms = {
        score_features(point.params): timed[i].time_ms
        for i, point in enumerate(group.points)
        if point.variant == "naive" and i in timed
    }
    return [
        _row(
            point, outcomes[i], timed.get(i), timer, bench,
            naive_ms.get(score_features(point.params)),
        )
        for i, point in enumerate(group.points)
    ]  # fmt: skip


def _row(
    point: Point,
    outcome: Outcome,
    timed: Timed | None,
    timer: str,
    bench: Bench,
    naive_ms: float | None,
) -> ResultRow:
    bare = unfinished_row(point, bench.device, outcome.status, outcome.note)
    if timed is None:
        return bare
    shape = point.shape
    variant, _ = point.implementation()
    cost = variant.cost(shape, point.mode, point.params)
    time_s = timed.time_ms / 1e3
    roof = bench.roof(shape.dtype.value)
    impossible = _over_the_roof(cost.flops, cost.bytes_min, time_s, roof, point, bench)
    if impossible:
        return unfinished_row(point, bench.device, Status.IMPOSSIBLE, impossible)
    predicted_s = None
    if bench.gpu is not None and roof.flops_per_s:
        predicted_s = backend_time_s(
            variant, point.backend, shape, point.mode, point.params,
            gpu=bench.gpu, cold=bench.timing.cache == "cold",
        )  # fmt: skip
    errors, peak = outcome.errors, outcome.peak
    every_pair = shape.batch * shape.heads * shape.seq_q * shape.seq_kv
    figures: dict[str, Any] = {
        "time_ms": timed.time_ms,
        "time_ms_p20": timed.p20_ms,
        "time_ms_p80": timed.p80_ms,
        "time_ms_ci_low": timed.ci_low_ms,
        "time_ms_ci_high": timed.ci_high_ms,
        "rounds": timed.rounds,
        "samples": timed.samples,
        "timer": timer,
        "cache_regime": regime(
            bench.timing.cache, held_bytes(shape, point.mode), bench.device.cache_bytes
        ),
        "setup_ms": outcome.setup_ms,
        "first_call_ms": outcome.first_call_ms,
        "pairs": cost.pairs,
        "density": cost.pairs / every_pair,
        "flops": cost.flops,
        "achieved_flops_per_s": cost.flops / time_s,
        "bytes_min": cost.bytes_min,
        "achieved_bytes_per_s": cost.bytes_min / time_s,
        "peak_memory_bytes": peak.peak_memory_bytes if peak else None,
        "workspace_bytes": peak.workspace_bytes if peak else None,
        "rel_error": errors.rel_error if errors else None,
        "kernel_error": errors.kernel_error if errors else None,
        "grad_error": errors.grad_error if errors else None,
        "speedup_vs_naive": naive_ms / timed.time_ms if naive_ms else None,
        "roofline_ms": None if predicted_s is None else predicted_s * 1e3,
        "roofline_fraction": None if predicted_s is None else predicted_s / time_s,
        "recipe": recipe(point, bench.timing, bench.versions),
    }
    return dataclasses.replace(bare, **figures)


def _over_the_roof(
    flops: int, bytes_min: int, time_s: float, roof: Roof, point: Point, bench: Bench
) -> str:
    if roof.flops_per_s and flops / time_s > _OVER_ROOF * roof.flops_per_s:
        return f"{flops / time_s:.3g} FLOP/s is over the device's {roof.flops_per_s:.3g}"
    footprint = held_bytes(point.shape, point.mode)
    cold = bench.timing.cache == "cold" and footprint > _COLD_FOOTPRINT * (
        bench.device.cache_bytes or footprint
    )
    if cold and roof.bytes_per_s and bytes_min / time_s > _OVER_ROOF * roof.bytes_per_s:
        return f"{bytes_min / time_s:.3g} B/s is over the device's {roof.bytes_per_s:.3g}"
    return ""


def settings_text(row: ResultRow) -> str:
    """What a row's settings are beside its variant's defaults: 'window=64'; '' for none.

    A user's kernel is held against the variant that it computes.
    """
    params = msgspec.json.decode(row.params, type=dict[str, Any])
    variant = load_variant(params.pop("computes", row.variant))
    plain = variant.resolve(row.shape, variant.defaults)
    return ", ".join(f"{k}={v}" for k, v in sorted(params.items()) if plain.get(k) != v)


def slopes(rows: Sequence[ResultRow]) -> dict[tuple[str | int | bool, ...], float]:
    """Log-log slope of time over length of each series: variant, settings, shape less length.

    Only where three lengths or more ended `ok`.
    """
    series: dict[tuple[str | int | bool, ...], dict[int, float]] = {}
    for row in rows:
        if row.time_ms is not None:
            key = (row.variant, row.backend, settings_text(row), row.causal, row.mode, row.dtype,
                   row.batch, row.heads, row.kv_heads, row.head_dim)  # fmt: skip
            series.setdefault(key, {})[row.seq_kv] = row.time_ms
    return {
        key: log_log_slope(list(times), list(times.values()))
        for key, times in series.items()
        if len(times) >= 3
    }
