"""How far predictions are from rows that were not fitted, by regime."""

import statistics
from collections.abc import Callable, Iterable, Sequence

import msgspec

from attnbench.calc.attention_time import Constants, attention_time
from attnbench.calibration.points import Point, by_series
from attnbench.calibration.table import Key, as_calibrations, fit_all, lookup
from attnbench.catalog.calibration import ANY, DEFAULT, constants_from
from attnbench.spec.calibration import Calibration
from attnbench.validation.spread import sizes

Table = dict[str, dict[str, Calibration]]
REGIMES = (
    "prefill >= 50 us", "small prefill", "encoder", "streaming decode", "all decode",
)  # fmt: skip


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Median over series of each series' median and 90th percentile of |error|.

    `ideal_median`, `ideal_p90`: the same of the time at both published peaks (efficiency
    1, no constants).
    """

    regime: str
    series: int
    rows: int
    median: float
    p90: float
    ideal_median: float
    ideal_p90: float


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """A row, its predicted time, and whose constants made it."""

    point: Point
    time_s: float
    ideal_s: float
    origin: str


def predicted(points: Iterable[Point], table: Table) -> list[Scored]:
    """Each of `points` predicted with the sets of `table`."""
    known: dict[tuple[str, str], Constants] = {}
    made = []
    for p in points:
        key = p.gpu.name, p.engine.key if p.engine else ""
        if key not in known:
            known[key] = constants_from(lookup(table, p.gpu, p.engine), p.engine)
        answer = attention_time(p.work, p.chip, known[key])
        made.append(
            Scored(point=p, time_s=answer.time_s, ideal_s=answer.ideal_s, origin=answer.origin)
        )
    return made


def regimes(point: Point) -> tuple[str, ...]:
    """The regimes that a row counts in."""
    if point.decode is not None:
        return (REGIMES[3], REGIMES[4]) if point.demanding else (REGIMES[4],)
    if not point.work.cached:
        return (REGIMES[2],)
    return (REGIMES[0],) if point.demanding else (REGIMES[1],)


def scores(rows: Sequence[Scored], *, least: int = 1) -> list[Score]:
    """The score of each regime, over series with at least `least` rows of it."""
    made = []
    for regime in REGIMES:
        off, ideal, count = [], [], 0
        mine = [r for r in rows if r.point.scored and regime in regimes(r.point)]
        kept = {id(r.point): r for r in mine}
        for series in by_series([r.point for r in mine]).values():
            if len(series) < least:
                continue
            count += len(series)
            off.append(sizes([kept[id(p)].time_s / p.time_s - 1 for p in series]))
            ideal.append(sizes([kept[id(p)].ideal_s / p.time_s - 1 for p in series]))
        if off:
            middle = [statistics.median(column) for column in zip(*off, strict=True)]
            bare = [statistics.median(column) for column in zip(*ideal, strict=True)]
            made.append(
                Score(
                    regime=regime, series=len(off), rows=count, median=middle[0], p90=middle[1],
                    ideal_median=bare[0], ideal_p90=bare[1],
                )
            )  # fmt: skip
    return made


def leave_out(points: Sequence[Point], same: Callable[[Point, Point], bool]) -> list[Scored]:
    """Every scored row predicted with sets fitted without the rows that are the `same`."""
    made: list[Scored] = []
    left: dict[tuple[str, str], list[Point]] = {}
    for p in points:
        if p.scored:
            left.setdefault((p.gpu.name, p.engine.key if p.engine else ""), []).append(p)
    for rows in left.values():
        one = rows[0]
        wanted = _chain(one)
        kept = [p for p in points if not same(p, one)]
        sets = fit_all(kept, lambda key, wanted=wanted: key in wanted)  # type: ignore[misc]  # mypy: a default that a Callable has no name for
        made += predicted(rows, as_calibrations(sets, source="", fitted="", script=""))
    return made


def _chain(p: Point) -> set[Key]:
    """The sets that may serve `p`."""
    chain = {(ANY, DEFAULT), (p.family, DEFAULT), (p.gpu.name, DEFAULT)}
    if p.engine:
        chain |= {(ANY, p.engine.kernel), (p.family, p.engine.kernel)}
        chain |= {(p.family, p.engine.key), (p.gpu.name, p.engine.key)}
        chain |= {(p.family, kernel) for kernel in p.engine.relatives}
    return chain
