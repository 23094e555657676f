"""Fits an engine's serving constants to TPOT (and, loosely, TTFT) of whole models."""

from collections.abc import Sequence

import msgspec
import numpy as np
from scipy.optimize import least_squares

from attnbench.calc.serving_time import ServingTime, StepTerms, serving_time
from attnbench.calibration.points import held_back
from attnbench.calibration.vector import Array
from attnbench.catalog.serving_rows import ServingRow, engine_family
from attnbench.spec.calibration import ServingCalibration, ServingConstants
from attnbench.validation.serving import passes
from attnbench.validation.spread import sizes

START = ServingConstants(
    tensor_efficiency=0.6, bandwidth_efficiency=0.85, layer_s=4e-5, reduction_s=5e-6,
    step_s=2e-4, sequence_s=2e-5, interference=0.9, wait=1.0,
)  # fmt: skip
_SPREAD = np.array([0.3, 0.12, 0.7, 0.7, 1.0, 1.0, 0.3, 1.0])
_MOST = np.log([1, 1, np.inf, np.inf, np.inf, np.inf, 1.5, np.inf])
_TPOT_NOISE, _TTFT_NOISE = 0.1, 0.5  # a mean TTFT depends on how a benchmark's burst begins


class ServingPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement with what its passes ask."""

    row: ServingRow
    engine: str
    step: StepTerms
    prefill: StepTerms
    batch: int
    output_len: int

    @property
    def held_back(self) -> bool:
        """Whether the row is kept from fitting while the form is chosen."""
        return held_back(self.row.identity)

    def predicted(self, c: ServingConstants) -> ServingTime:
        """TTFT and TPOT with the constants `c`."""
        return serving_time(
            self.step, self.prefill, c, batch=self.batch, output_len=self.output_len
        )


def serving_points(rows: Sequence[ServingRow]) -> list[ServingPoint]:
    """The rows of dense models that say all that a prediction needs."""
    made = (serving_point(row) for row in rows if row.tpot_ms is not None and _dense(row))
    return [p for p in made if p is not None]


def _dense(row: ServingRow) -> bool:
    return row.model is not None and all(layer.experts is None for layer in row.model.layers)


def serving_point(row: ServingRow) -> ServingPoint | None:
    """A row with its terms; None where it lacks something."""
    asked = passes(row)
    if asked is None or row.batch is None or row.output_len is None:
        return None
    return ServingPoint(
        row=row,
        engine=engine_family(row.engine),
        step=asked[0],
        prefill=asked[1],
        batch=row.batch,
        output_len=row.output_len,
    )


def fit_serving(
    points: Sequence[ServingPoint], start: ServingConstants = START
) -> ServingConstants:
    """The constants that fit `points`, near `start`."""
    begin = np.log(np.array(list(msgspec.structs.asdict(start).values())))

    def residuals(x: Array) -> Array:
        c = _constants(x)
        told = [(p.predicted(c), p.row) for p in points]
        off = [_log(t.tpot_s, row.tpot_ms) / _TPOT_NOISE for t, row in told]
        late = [_log(t.ttft_s, row.ttft_ms) / _TTFT_NOISE for t, row in told]
        return np.concatenate([off, late, (x - begin) / _SPREAD])

    found = least_squares(  # type: ignore[operator]  # scipy has no types
        residuals,
        np.minimum(begin, _MOST - 1e-3),
        loss="soft_l1",
        max_nfev=40,
        bounds=(-np.inf, _MOST),
    )
    return _constants(found.x)


def fit_engines(points: Sequence[ServingPoint]) -> dict[str, ServingConstants]:
    """Constants of `any` engine, and of each that has rows."""
    made = {"any": fit_serving(points)}
    for engine in sorted({p.engine for p in points if p.engine}):
        mine = [p for p in points if p.engine == engine]
        made[engine] = fit_serving(mine, made["any"])
    return made


def tpot_errors(
    points: Sequence[ServingPoint], table: dict[str, ServingConstants]
) -> tuple[float, float]:
    """Median and 90th percentile of |error| of TPOT."""
    return sizes(
        [
            p.predicted(table.get(p.engine, table["any"])).tpot_s / (p.row.tpot_ms / 1e3) - 1
            for p in points
            if p.row.tpot_ms
        ]
    )


def ttft_errors(
    points: Sequence[ServingPoint], table: dict[str, ServingConstants]
) -> tuple[float, float]:
    """Median and 90th percentile of |error| of TTFT."""
    return sizes(
        [
            p.predicted(table.get(p.engine, table["any"])).ttft_s / (p.row.ttft_ms / 1e3) - 1
            for p in points
            if p.row.ttft_ms
        ]
    )


def as_engines(
    table: dict[str, ServingConstants],
    points: Sequence[ServingPoint],
    *,
    source: str,
    date: str,
) -> dict[str, ServingCalibration]:
    """The constants as profiles hold them, banded by how far they are from `points`."""
    made = {}
    for engine, constants in table.items():
        mine = [p for p in points if engine in ("any", p.engine)]
        _, p90 = tpot_errors(mine, {"any": constants})
        made[engine] = ServingCalibration(
            source=source,
            rows=len(mine),
            fitted=date,
            script="python -m attnbench.calibration",
            serving=constants,
            tpot_band=round(1 + p90, 2),
        )
    return made


def _constants(x: Array) -> ServingConstants:
    names = ServingConstants.__struct_fields__
    return ServingConstants(**dict(zip(names, map(float, np.exp(x)), strict=True)))


def _log(seconds: float, told_ms: float | None) -> float:
    return 0.0 if told_ms is None else float(np.log(seconds / (told_ms / 1e3)))
