"""Pairs the points of a run with those of its baseline, and judges each of them."""

from collections.abc import Iterator, Sequence

import msgspec

from attnbench.errors import NotComparableError, NothingToDoError
from attnbench.gate import exact, timing
from attnbench.gate.baseline import Baseline, same_machine
from attnbench.gate.runs import Run, point_labels
from attnbench.gate.times import Times, gather
from attnbench.gate.verdict import Key, Limits, Missing, Verdict, Word
from attnbench.spec.result import KEY_COLUMNS, ResultRow, Status

TIME = "time_ms"
METRICS = (TIME, *exact.MEMORY, *exact.ERRORS)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """All verdicts of a check, worst first, and how they were come by.

    `between` says where the variance between runs is from, None where unknown, and
    `between_sd` is that of the median point. `new_points` the baseline has not.
    """

    verdicts: tuple[Verdict, ...]
    between: str | None
    between_sd: float | None
    new_points: int
    same_device: bool

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """The verdicts that fail the check, worst first."""
        return tuple(verdict for verdict in self.verdicts if verdict.failed)

    @property
    def counts(self) -> dict[str, int]:
        """How many verdicts there are of each word, words with none left out."""
        words = [verdict.verdict for verdict in self.verdicts]
        return {word.value: words.count(word) for word in Word if word in words}


def check(current: Run, baseline: Baseline, limits: Limits) -> Outcome:
    """Judge every point of the baseline's newest run that `current` has or lacks.

    Raises:
        NothingToDoError: the two share no point.
        NotComparableError: times were asked for, and none can be compared.
        UserError: `limits.relative_to` names no variant of the run, or several backends.
    """
    before, now = baseline.newest.rows, current.rows
    if not before.keys() & now.keys():
        raise NothingToDoError(f"{current.label} and {baseline.label} share no point")
    same = same_machine(baseline.newest, current)
    times = gather(current, baseline, limits.relative_to, same=same)
    found: list[tuple[Key, str, exact.Found]] = []
    timed: dict[Key, timing.Ratio] = {}
    for key, row in before.items():
        if key not in now:
            found.append((key, "status", {"verdict": Word.MISSING, "baseline": row.status}))
            continue
        at = limits.at(key, baseline.tolerances)
        history = _history(baseline, key)
        found += [(key, *one) for one in exact_findings(history, now[key], at, same=same)]
        judged = _time(times, row, now[key], at) if TIME in limits.metrics else None
        if isinstance(judged, timing.Ratio):
            timed[key] = judged
        elif judged is not None:
            found.append((key, TIME, judged))
    timed = dict(zip(timed, timing.widen(list(timed.values())), strict=True))
    words = timing.call(list(timed.values()))
    found += [
        (key, TIME, times.shown(key, ratio, word, comparisons=len(timed)))
        for (key, ratio), word in zip(timed.items(), words, strict=True)
    ]
    labels = point_labels({**now, **before})
    outcome = Outcome(
        verdicts=as_verdicts(found, labels, limits),
        between=times.between.source if times.between else None,
        between_sd=times.between.typical_sd if times.between else None,
        new_points=len(now.keys() - before.keys()),
        same_device=same,
    )
    _require_times(outcome)
    return outcome


def of_variants(outcome: Outcome, names: Sequence[str], label: str) -> Outcome:
    """`outcome` with the verdicts on points of the variants `names` alone.

    The noise stays as all points told it.

    Raises:
        NothingToDoError: there is none; `label` names the baseline.
    """
    kept = tuple(verdict for verdict in outcome.verdicts if verdict.key["variant"] in names)
    if not kept:
        raise NothingToDoError(f"{label} has no point of {', '.join(names)}")
    return msgspec.structs.replace(outcome, verdicts=kept)


def as_verdicts(
    found: Sequence[tuple[Key, str, exact.Found]], labels: dict[Key, str], limits: Limits
) -> tuple[Verdict, ...]:
    """Verdicts from what was found, worst first; a missing one fails as `limits` say."""
    made = []
    for key, metric, fields in found:
        if fields["verdict"] is Word.MISSING:
            what = "the point" if metric == "status" else metric
            reason = f"{what} is missing from the run"
            fields = fields | {"reason": reason, "failed": limits.missing is Missing.FAIL}
        names = dict(zip(KEY_COLUMNS, key, strict=True))
        made.append(Verdict(point=labels[key], metric=metric, key=names, **fields))
    return worst_first(made)


def worst_first(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """The verdicts in the order in which people should read them."""
    return tuple(sorted(verdicts, key=_badness))


def _time(
    times: Times, before: ResultRow, now: ResultRow, limits: Limits
) -> timing.Ratio | exact.Found | None:
    """The ratio of times, or why there is none; None where neither was to be timed."""
    if before.status != Status.OK or now.status != Status.OK or before.time_ms is None:
        return None
    if now.time_ms is None:
        return {"verdict": Word.MISSING, "baseline": before.time_ms}
    if now.key in times.units:
        return None  # what the others are measured by
    changed = incomparable(before, now)
    if changed is not None:
        return {"verdict": Word.NOT_COMPARABLE, "reason": changed}
    floor = 1 + timing.FLOOR_MS / before.time_ms
    ratio = times.ratio(now.key, max(limits.max_slowdown, floor))
    if ratio is None:
        reason = f"{limits.relative_to} has no time at this shape in both runs"
        return {"verdict": Word.NOT_COMPARABLE, "reason": reason}
    return ratio


def incomparable(before: ResultRow, now: ResultRow) -> str | None:
    """Why the times of two rows of one point say nothing of each other, or None."""
    for name in ("pairs", "timer", "cache_regime"):
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            return f"{name} was {old}, is {new}"
    return None


def exact_findings(
    history: Sequence[ResultRow], now: ResultRow, limits: Limits, *, same: bool
) -> Iterator[tuple[str, exact.Found]]:
    """What is found of a point without statistics: status, counts, memory and error.

    `history` are its rows in the baseline, newest last; `same` is whether they are of
    this machine.
    """
    before = history[-1]
    yield "status", exact.judge_status(before, now, same_device=same)
    if before.status != Status.OK or now.status != Status.OK:
        return
    for name in exact.COUNTS:
        found = exact.judge_count(name, before, now)
        if found is not None:
            yield name, found
    for name in (*exact.MEMORY, *exact.ERRORS):
        found = exact.judge_growth(name, history, now, limits) if name in limits.metrics else None
        if found is not None and not same:
            found = {"verdict": Word.NOT_COMPARABLE, "reason": "another device"}
        if found is not None:
            yield name, found


def _history(baseline: Baseline, key: Key) -> list[ResultRow]:
    """The point's rows, oldest first: those that ended ok with the newest one's recipe."""
    rows = [run.rows[key] for run in baseline.runs if key in run.rows]
    newest = rows[-1]
    return [r for r in rows if r.recipe == newest.recipe and r.status == newest.status]


def _require_times(outcome: Outcome) -> None:
    times = [v for v in outcome.verdicts if v.metric == TIME]
    if not times or outcome.failed or any(v.verdict is not Word.NOT_COMPARABLE for v in times):
        return
    raise NotComparableError(f"no time can be compared: {times[0].reason}")


def _badness(verdict: Verdict) -> tuple[bool, int, float]:
    order = list(Word).index(verdict.verdict)
    return (not verdict.failed, order, -(verdict.ratio or 0.0))
