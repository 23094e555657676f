"""Judges two revisions by pairs of fresh processes that were timed in turn.

A pair gives one log ratio a point, of the medians of the two processes' rounds. What a
machine did meanwhile fell on both, so the ratios are independent, and their spread holds
all the noise there is: of rounds, of processes, of memory layout. The variance of each
point is drawn towards that of all, as between runs (`noise`).
"""

import math
import statistics
from collections.abc import Iterator, Sequence

import msgspec

from attnbench.errors import NothingToDoError
from attnbench.gate import exact, timing
from attnbench.gate.check import (
    TIME,
    Outcome,
    as_verdicts,
    exact_findings,
    incomparable,
    worst_first,
)
from attnbench.gate.noise import Part, moderate
from attnbench.gate.runs import Run, point_labels
from attnbench.gate.times import judged
from attnbench.gate.verdict import Key, Limits, Verdict, Word
from attnbench.spec.result import ResultRow, Status

MIN_PAIRS = 3

Pairs = Sequence[tuple[Run, Run]]


def check_pairs(pairs: Pairs, limits: Limits, *, timed_from: int = 0) -> Outcome:
    """Judge every point of the first run of `pairs`; a pair is a run before, and one now.

    What is exact is the first pair's to say, time that of the pairs from `timed_from` on.

    Raises:
        NothingToDoError: the two share no point.
    """
    before, now = (run.rows for run in pairs[0])
    if not before.keys() & now.keys():
        raise NothingToDoError("the two revisions share no point")
    found: list[tuple[Key, str, exact.Found]] = []
    timed: dict[Key, list[float]] = {}
    for key, row in before.items():
        if key not in now:
            found.append((key, "status", {"verdict": Word.MISSING, "baseline": row.status}))
            continue
        found += [(key, *one) for one in exact_findings([row], now[key], limits, same=True)]
        found += [(key, "status", one) for one in _later_statuses(pairs, key)]
        if TIME not in limits.metrics or row.status != Status.OK or now[key].status != Status.OK:
            continue
        reason = incomparable(row, now[key])
        if reason is not None:
            found.append((key, TIME, {"verdict": Word.NOT_COMPARABLE, "reason": reason}))
        else:
            timed[key] = _log_ratios(pairs[timed_from:], key)
    ratios = _ratios(timed, before, limits)
    words = timing.call(list(ratios.values()))
    found += [
        (key, TIME, _shown(pairs[timed_from:], key, ratio, word, comparisons=len(ratios)))
        for (key, ratio), word in zip(ratios.items(), words, strict=True)
    ]
    errors = [r.error * math.sqrt(len(timed[k])) for k, r in ratios.items() if r.error is not None]
    return Outcome(
        verdicts=as_verdicts(found, point_labels({**now, **before}), limits),
        between=f"{len(pairs) - timed_from} interleaved pairs of fresh processes",
        between_sd=statistics.median(errors) if errors else None,
        new_points=len(now.keys() - before.keys()),
        same_device=True,
    )


def confirm(first: Outcome, pairs: Pairs, further: Pairs, limits: Limits) -> Outcome:
    """`first`, which judged `pairs`, with what it calls slower so only if `further` agree.

    The further pairs alone must show the point surely slower (their 95% interval is above
    1), and by more than is allowed; and all pairs together that it surely is by more.
    What is as fast as before thus passes one time in forty of those that the first pairs
    called; a true slowdown is not asked to prove its size twice.
    """
    alone = {v.point: v for v in check_pairs(further, limits).verdicts if v.metric == TIME}
    together = check_pairs([*pairs, *further], limits)
    sure = {v.point for v in together.verdicts if v.metric == TIME and v.failed}
    verdicts = []
    for verdict in first.verdicts:
        if verdict.metric == TIME and verdict.failed:
            then = alone.get(verdict.point)
            if verdict.point in sure and then is not None and _slower(then, limits):
                reason = f"{verdict.reason}; {len(further)} further pairs: {then.ratio:.3g} times"
                verdict = msgspec.structs.replace(verdict, reason=reason)
            else:
                verdict = msgspec.structs.replace(
                    verdict,
                    verdict=Word.UNSURE,
                    failed=False,
                    reason=f"slower at first, and not surely so in {len(further)} further pairs",
                )
        verdicts.append(verdict)
    return msgspec.structs.replace(first, verdicts=worst_first(verdicts))


def _slower(verdict: Verdict, limits: Limits) -> bool:
    low, ratio = verdict.ratio_low, verdict.ratio
    return low is not None and ratio is not None and low > 1 and ratio > limits.max_slowdown


def slower_variants(outcome: Outcome) -> frozenset[str]:
    """The variants whose time is called slower at some point."""
    slow = [v for v in outcome.verdicts if v.metric == TIME and v.failed]
    return frozenset(str(v.key["variant"]) for v in slow)


def _later_statuses(pairs: Pairs, key: Key) -> Iterator[exact.Found]:
    """A point that was ok on both sides of the first pair, and in a later one no more."""
    for before, now in pairs[1:]:
        if key in before.rows and key in now.rows:
            found = exact.judge_status(before.rows[key], now.rows[key], same_device=True)
            if found["verdict"] is Word.SLOWER and found["current"] == Status.INCORRECT:
                yield found
                return


def _log_ratios(pairs: Pairs, key: Key) -> list[float]:
    """Log of now over before, a pair; pairs in which either has no time are left out."""
    return [ratio for before, now in pairs if (ratio := _log_ratio(before, now, key)) is not None]


def _log_ratio(before: Run, now: Run, key: Key) -> float | None:
    """The median over rounds where both sides have them: a round lies beside the other's."""
    first, second = before.rounds_ms.get(key, {}), now.rounds_ms.get(key, {})
    if first and first.keys() == second.keys():
        return statistics.median(math.log(second[n] / first[n]) for n in first)
    times = [run.rows[key].time_ms if key in run.rows else None for run in (before, now)]
    return math.log(times[1] / times[0]) if times[0] and times[1] else None


def _ratios(
    timed: dict[Key, list[float]], before: dict[Key, ResultRow], limits: Limits
) -> dict[Key, timing.Ratio]:
    enough = {key: logs for key, logs in timed.items() if len(logs) >= MIN_PAIRS}
    spread = moderate([Part(statistics.variance(x), len(x) - 1.0) for x in enough.values()])
    made = {}
    for (key, logs), part in zip(enough.items(), spread, strict=True):
        time_ms = before[key].time_ms or math.inf
        made[key] = timing.Ratio(
            centre=statistics.fmean(logs),
            error=math.sqrt(part.variance / len(logs)),
            dof=part.dof,
            between=True,
            limit=math.log(max(limits.max_slowdown, 1 + timing.FLOOR_MS / time_ms)),
        )
    for key in timed.keys() - enough.keys():
        made[key] = timing.Ratio(
            centre=statistics.fmean(timed[key]) if timed[key] else 0.0,
            error=None,
            dof=1.0,
            between=False,
            limit=math.log(limits.max_slowdown),
        )
    return made


def _shown(
    pairs: Pairs, key: Key, ratio: timing.Ratio, word: Word, *, comparisons: int
) -> exact.Found:
    def median(side: int) -> float | None:
        times = [pair[side].rows[key].time_ms for pair in pairs if key in pair[side].rows]
        known = [ms for ms in times if ms is not None]
        return statistics.median(known) if known else None

    return {
        **judged(ratio, word, comparisons=comparisons),
        "baseline": median(0),
        "current": median(1),
    }
