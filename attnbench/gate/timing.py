"""Time: the ratio of two runs of a point, its 95% interval, and what to call it.

All on logarithms. A run's centre is the row's `time_ms`; its spread that of the
rounds' medians. Rounds of two runs are no pairs, so the variance between runs is
added where it is known (`noise`). Where it is not, nothing under 1.25 is called.
"""

import math
import statistics
from collections.abc import Sequence

import msgspec

from attnbench.gate.noise import Part, total
from attnbench.gate.runs import Run
from attnbench.gate.student import quantile, upper_tail
from attnbench.gate.verdict import Key, Word

LARGE = 1.25  # what no quiet machine does between two runs: called even on one run each
FLOOR_MS = 0.002  # two readings of a clock that ticks in microseconds
FALSE_ALARMS = 0.05  # share of false ones among the changes called, at most
POWER = 0.8

_LARGEST_LOG = 700.0
_FEWEST_A_SIDE = 5  # gains and losses, to tell the noise of two runs from their points
_MEDIAN_FACTOR = math.pi / 2  # variance of a median over that of a mean, normal noise


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """A run's log time of one point, and its variance over rounds where there is one.

    `unit` is the log time of the point that it is relative to.
    """

    centre: float
    unit: float | None = None
    rounds: dict[int, float] = {}
    within: Part | None = None


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """Log of current over baseline: centre, standard error, degrees of freedom.

    `error` None: neither rounds nor runs tell it. `between` says whether the variance
    between runs is in it; where it is not, no change under `least` is called. `limit` is the
    log of the slowdown allowed.
    """

    centre: float
    error: float | None
    dof: float
    between: bool
    limit: float
    least: float = math.log(LARGE)

    def interval(self) -> tuple[float, float] | None:
        """Ends of the 95% interval, as logarithms."""
        if self.error is None:
            return None
        half = quantile(self.dof, 0.975) * self.error
        return self.centre - half, self.centre + half

    def chance(self, sign: int) -> float:
        """One-sided p-value of a slowdown (`sign` 1) or gain (-1) within the limit."""
        beyond = sign * self.centre - self.limit
        if self.error is None:
            return 1.0
        if self.error == 0:
            return 0.0 if beyond > 0 else 1.0
        return upper_tail(self.dof, beyond / self.error)

    def detectable(self, comparisons: int) -> float | None:
        """The slowdown that is called four times of five, were it the only one."""
        if self.error is None:
            return None
        needed = quantile(self.dof, 1 - FALSE_ALARMS / comparisons) + quantile(self.dof, POWER)
        found = self.limit + needed * self.error
        if not self.between:
            found = max(found, self.least)
        return math.exp(found) if found < math.log(1000) else None


def factor(log: float) -> float:
    """The ratio whose logarithm is `log`; what no float holds, as the largest that is.

    Two rounds that differ much put the end of an interval beyond any ratio.
    """
    return math.exp(min(log, _LARGEST_LOG))


def series(run: Run, key: Key) -> Series | None:
    """The time of the point `key` in `run`; None where it has none."""
    row = run.rows.get(key)
    if row is None or row.time_ms is None:
        return None
    rounds = {number: math.log(ms) for number, ms in run.rounds_ms.get(key, {}).items()}
    within = _spread(list(rounds.values()))
    if within is None and row.time_ms_ci_low and row.time_ms_ci_high and (row.rounds or 0) > 1:
        dof = (row.rounds or 0) - 1.0
        width = math.log(row.time_ms_ci_high / row.time_ms_ci_low)
        within = Part((width / 2 / quantile(dof, 0.975)) ** 2 * _MEDIAN_FACTOR, dof)
    return Series(centre=math.log(row.time_ms), rounds=rounds, within=within)


def relative(point: Series, unit: Series) -> Series:
    """`point` over `unit` of the same run: their rounds are interleaved, hence paired."""
    shared = point.rounds.keys() & unit.rounds.keys()
    rounds = {number: point.rounds[number] - unit.rounds[number] for number in sorted(shared)}
    within = _spread(list(rounds.values()))
    if within is None and point.within and unit.within:
        within = total([point.within, unit.within])
    centre = point.centre - unit.centre
    return Series(centre=centre, unit=unit.centre, rounds=rounds, within=within)


def compare(
    current: Series,
    runs: Sequence[Series],
    *,
    limit: float,
    own: Part | None,
    common: Part | None,
    same: bool,
) -> Ratio:
    """The log ratio of `current` to the mean of the baseline's `runs`.

    `own` and `common` are the parts of the variance between runs. `own` holds the
    spread over rounds of the baseline's runs already, so that is taken off, and the
    current run's is added. `same` is whether the runs are of one machine: what a unit moved
    there is no other machine's speed but this one's noise, and only what is larger by
    `LARGE` is called a change where noise is not known.
    """
    count = len(runs)
    centre = current.centre - statistics.fmean(run.centre for run in runs)
    within = [run.within for run in runs if run.within is not None]
    parts = [Part(part.variance / count**2, part.dof) for part in within]
    if own is None or common is None:
        known = current.within is not None and len(within) == count
        parts += [current.within] if current.within is not None else []
    else:
        known = True
        rounds = statistics.fmean(p.variance for p in within) if within else 0.0
        now, rounds = (current.within, rounds) if current.within else (Part(0.0, 1.0), 0.0)
        beyond = max(own.variance - rounds, 0.0)
        # The baseline's mean has all of `own` over its runs, the current run what of it
        # lies between runs, and its own rounds.
        parts = [
            Part(beyond + own.variance / count, own.dof),
            Part(common.variance * (1 + 1 / count), common.dof),
            now,
        ]
    whole = total(parts)
    return Ratio(
        centre=centre,
        error=math.sqrt(whole.variance) if known else None,
        dof=whole.dof,
        between=own is not None,
        limit=limit,
        least=math.log(LARGE) + (_moved(current, runs) if same else 0.0),
    )


def _moved(current: Series, runs: Sequence[Series]) -> float:
    units = [run.unit for run in runs if run.unit is not None]
    return (
        abs(current.unit - statistics.fmean(units)) if units and current.unit is not None else 0.0
    )


def widen(ratios: Sequence[Ratio]) -> list[Ratio]:
    """`ratios` with the noise that they show among themselves, where none is known.

    Noise moves as many points up as down; a change of the code moves them one way. So
    the side that moved less, gains or losses, tells the noise of the pair of runs: its
    median distance, as the standard deviation of a normal. A shift that all points
    share is not seen by it.
    """
    unknown = [r.centre for r in ratios if not r.between and r.error is not None]
    sides = [[abs(c) for c in unknown if sign * c > 0] for sign in (1, -1)]
    fewest = min(len(side) for side in sides)
    if fewest < _FEWEST_A_SIDE:
        return list(ratios)
    seen = min(statistics.median(side) for side in sides) / quantile(math.inf, 0.75)
    return [_widened(r, Part(seen**2, float(fewest))) for r in ratios]


def _widened(ratio: Ratio, seen: Part) -> Ratio:
    if ratio.between or ratio.error is None:
        return ratio
    whole = total([Part(ratio.error**2, ratio.dof), seen])
    return msgspec.structs.replace(ratio, error=math.sqrt(whole.variance), dof=whole.dof)


def call(ratios: Sequence[Ratio]) -> list[Word]:
    """SAME, FASTER, SLOWER or UNSURE for each ratio of one check.

    A change is called where its 95% interval is beyond the limit, also after Benjamini
    and Hochberg's control of false alarms over all points; and where the variance
    between runs is not known, only if it is 1.25 at least.
    """
    slower = _discoveries([r.chance(1) for r in ratios])
    faster = _discoveries([r.chance(-1) for r in ratios])
    return [_word(*found) for found in zip(ratios, slower, faster, strict=True)]


def _word(ratio: Ratio, slower: bool, faster: bool) -> Word:
    interval = ratio.interval()
    if interval is None:
        return Word.UNSURE
    low, high = interval
    # A hair under, so that a ratio of exactly 1.25 counts as large.
    bold = ratio.between or abs(ratio.centre) >= ratio.least - 1e-12
    if low > ratio.limit and slower and bold:
        return Word.SLOWER
    if high < -ratio.limit and faster and bold:
        return Word.FASTER
    widest = max(math.log(LARGE), ratio.limit)
    within = abs(ratio.centre) <= ratio.limit and -widest < low and high < widest
    return Word.SAME if within else Word.UNSURE


def _discoveries(chances: Sequence[float]) -> list[bool]:
    """Benjamini and Hochberg 1995: which to call, a share `FALSE_ALARMS` false at most."""
    ordered = sorted(chances)
    cut = -1.0
    for rank, chance in enumerate(ordered, start=1):
        if chance <= FALSE_ALARMS * rank / len(ordered):
            cut = chance
    return [chance <= cut for chance in chances]


def _spread(logs: Sequence[float]) -> Part | None:
    """Variance of the median of `logs`, after that of a mean; None for fewer than two."""
    if len(logs) < 2:
        return None
    variance = statistics.variance(logs) / len(logs) * _MEDIAN_FACTOR
    return Part(variance, len(logs) - 1.0)
