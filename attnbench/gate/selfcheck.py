"""A machine's noise floor: one code timed against itself, in pairs of fresh processes."""

import math
import statistics
from collections.abc import Sequence

import msgspec

from attnbench.gate import noise, timing
from attnbench.gate.check import Outcome
from attnbench.gate.paired import Pairs
from attnbench.gate.runs import Selfcheck
from attnbench.gate.verdict import Limits

_PLANS = (3, 5, 10, 20)


class NoiseFloor(msgspec.Struct, frozen=True, kw_only=True):
    """What the pairs of one code say of the machine.

    `record` is the noise between separate runs: the standard deviation of log time of the
    median point, with the shift that a whole run shares. `pair_log_sd` is that of one
    pair's log ratio, which such a shift does not reach. `detectable` is the slowdown that
    is called in four cases of five at the median point, by number of pairs; None where
    no slowdown is.
    """

    outcome: Outcome
    record: Selfcheck
    pair_log_sd: float
    detectable: dict[int, float | None]


def noise_floor(pairs: Pairs, outcome: Outcome, limits: Limits) -> NoiseFloor:
    """The noise floor that `pairs` of runs of one code show, judged as `outcome`."""
    runs = [run for pair in pairs for run in pair]
    logs = {
        key: {
            number: math.log(row.time_ms)
            for number, run in enumerate(runs)
            if (row := run.rows.get(key)) is not None and row.time_ms
        }
        for key in pairs[0][0].rows
    }
    between = noise.from_runs(logs)
    spread = outcome.between_sd or 0.0
    points = sum(verdict.metric == "time_ms" for verdict in outcome.verdicts)
    return NoiseFloor(
        outcome=outcome,
        record=Selfcheck(log_sd=between.typical_sd if between else 0.0, dof=len(runs) - 1),
        pair_log_sd=spread,
        detectable=_detectable(spread, points, limits, _PLANS),
    )


def _detectable(
    spread: float, points: int, limits: Limits, plans: Sequence[int]
) -> dict[int, float | None]:
    made = {}
    for pairs in plans:
        ratio = timing.Ratio(
            centre=0.0,
            error=spread / math.sqrt(pairs),
            dof=pairs - 1.0,
            between=True,
            limit=math.log(limits.max_slowdown),
        )
        made[pairs] = ratio.detectable(max(points, 1))
    return made


def worst_points(floor: NoiseFloor, count: int) -> list[tuple[str, float]]:
    """The points of the widest 95% interval, and that interval's half width as a factor."""
    widths = [
        (v.point, math.sqrt(v.ratio_high / v.ratio_low))
        for v in floor.outcome.verdicts
        if v.ratio_high is not None and v.ratio_low
    ]
    return sorted(widths, key=lambda w: -w[1])[:count]


def typical_width(floor: NoiseFloor) -> float | None:
    """The median half width of the points' 95% intervals, as a factor."""
    widths = [width for _, width in worst_points(floor, len(floor.outcome.verdicts))]
    return statistics.median(widths) if widths else None
