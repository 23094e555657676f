"""How far predicted times are, by regime, GPU and engine, beside the time at both peaks."""

import statistics
from collections.abc import Callable, Iterable, Sequence

import msgspec

from attnbench.validation.row import Row, Timing


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Size of relative errors: median and 90th percentile, and of the ideal (efficiency 1).

    For a regime each is the median over series; for a GPU or an engine it is over rows.
    """

    by: str
    name: str
    regime: str
    series: int
    rows: int
    median: float
    p90: float
    ideal_median: float
    ideal_p90: float


class _Line(msgspec.Struct, frozen=True):
    timing: Timing
    error: float
    ideal: float


def spreads(rows: Iterable[Row]) -> tuple[Spread, ...]:
    """The spreads of every regime, then of each GPU and of each engine within it."""
    lines = [
        _Line(row.timing, error, row.timing.ideal_error)
        for row in rows
        if row.timing is not None
        and row.timing.ideal_error is not None
        and (error := row.relative_error.get(row.timing.figure)) is not None
    ]
    regimes = list(dict.fromkeys(r for line in lines for r in line.timing.regimes))
    made = [_over_series(r, [e for e in lines if r in e.timing.regimes]) for r in sorted(regimes)]
    keys: dict[str, Callable[[Timing], str]] = {"GPU": _gpu, "engine": _engine}
    for by, key in keys.items():
        for regime in sorted(regimes):
            mine = [line for line in lines if regime in line.timing.regimes]
            for name in sorted({key(line.timing) for line in mine}):
                some = [line for line in mine if key(line.timing) == name]
                made.append(_over_rows(by, name, regime, some))
    return tuple(made)


def _gpu(timing: Timing) -> str:
    return timing.gpu


def _engine(timing: Timing) -> str:
    return timing.engine


def _over_rows(by: str, name: str, regime: str, lines: Sequence[_Line]) -> Spread:
    median, p90 = sizes([line.error for line in lines])
    ideal_median, ideal_p90 = sizes([line.ideal for line in lines])
    return Spread(
        by=by, name=name, regime=regime, series=len({line.timing.series for line in lines}),
        rows=len(lines), median=median, p90=p90, ideal_median=ideal_median, ideal_p90=ideal_p90,
    )  # fmt: skip


def _over_series(regime: str, lines: Sequence[_Line]) -> Spread:
    names = sorted({line.timing.series for line in lines})
    each = [
        _over_rows("series", name, regime, [e for e in lines if e.timing.series == name])
        for name in names
    ]
    return Spread(
        by="regime", name=regime, regime=regime, series=len(each), rows=len(lines),
        median=statistics.median(s.median for s in each),
        p90=statistics.median(s.p90 for s in each),
        ideal_median=statistics.median(s.ideal_median for s in each),
        ideal_p90=statistics.median(s.ideal_p90 for s in each),
    )  # fmt: skip


def sizes(errors: Sequence[float]) -> tuple[float, float]:
    """Median and 90th percentile (linear between ranks) of the sizes of `errors`.

    >>> sizes([-0.1, 0.2, 0.3])
    (0.2, 0.28)
    """
    ranked = sorted(map(abs, errors))
    place = 0.9 * (len(ranked) - 1)
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    p90 = ranked[low] + (ranked[high] - ranked[low]) * (place - low)
    return statistics.median(ranked), round(p90, 9)
