"""Each point's time in a run and in its baseline's runs, and the noise between them."""

import math
import statistics
from collections.abc import Mapping

import msgspec

from attnbench.errors import UserError, unknown_name
from attnbench.gate import noise, timing
from attnbench.gate.baseline import Baseline
from attnbench.gate.exact import Found
from attnbench.gate.runs import Run
from attnbench.gate.verdict import Key, Word
from attnbench.spec.result import KEY_COLUMNS

_NO_SHAPE = ("variant", "backend", "params")


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Log times by point: now, and in the runs of the baseline that count, by number.

    `units` are the points that the others are measured by, none without a unit; `same` is
    whether the runs are of one machine.
    """

    current: dict[Key, timing.Series]
    before: dict[Key, dict[int, timing.Series]]
    between: noise.Between | None
    units: frozenset[Key]
    same: bool

    def ratio(self, key: Key, max_slowdown: float) -> timing.Ratio | None:
        """Current over baseline of the point `key`; None where either has no time."""
        if key not in self.current or not self.before.get(key):
            return None
        return timing.compare(
            self.current[key],
            list(self.before[key].values()),
            limit=math.log(max_slowdown),
            own=self.between.own.get(key) if self.between else None,
            common=self.between.common if self.between else None,
            same=self.same,
        )

    def shown(self, key: Key, ratio: timing.Ratio, word: Word, *, comparisons: int) -> Found:
        """The fields of the verdict `word` on `ratio`."""
        runs = self.before[key].values()
        return judged(ratio, word, comparisons=comparisons) | {
            "baseline": math.exp(statistics.fmean(series.centre for series in runs)),
            "current": math.exp(self.current[key].centre),
        }


def judged(ratio: timing.Ratio, word: Word, *, comparisons: int) -> Found:
    """The fields of the verdict `word` that follow from its ratio alone."""
    interval = ratio.interval()
    low, high = (timing.factor(end) for end in interval) if interval else (None, None)
    return {
        "verdict": word,
        "failed": word is Word.SLOWER,
        "ratio": timing.factor(ratio.centre),
        "ratio_low": low,
        "ratio_high": high,
        "minimum_detectable": ratio.detectable(comparisons),
        "reason": _reason(ratio, word, low),
    }


def gather(current: Run, baseline: Baseline, unit: str | None, *, same: bool) -> Times:
    """The times of `current` and of `baseline`, in units of variant `unit` if given.

    `same` is whether the two are of one machine.

    Raises:
        UserError: `unit` names no variant of the run, or one with several backends.
    """
    _check_unit(current, unit)
    newest = baseline.newest.rows
    series = [_all_series(run, unit) for run in baseline.runs]
    before = {
        key: {
            number: series[number][key]
            for number, run in enumerate(baseline.runs)
            if key in series[number] and run.rows[key].recipe == row.recipe
        }
        for key, row in newest.items()
    }
    return Times(
        current=_all_series(current, unit),
        before=before,
        between=_between(before, current, baseline, ratios=unit is not None),
        units=frozenset(_unit_by_shape(current, unit).values()),
        same=same,
    )


def _between(
    before: Mapping[Key, Mapping[int, timing.Series]],
    current: Run,
    baseline: Baseline,
    *,
    ratios: bool,
) -> noise.Between | None:
    """The variance between runs: from the baseline's several, else from a selfcheck."""
    found = noise.from_runs(
        {key: {number: s.centre for number, s in runs.items()} for key, runs in before.items()}
    )
    records = [r.selfcheck for r in (current, *baseline.runs) if r.selfcheck is not None]
    if found is not None or not records:
        return found
    record = max(records, key=lambda r: r.log_sd)
    # A ratio to another point varies by the noise of both.
    own = noise.Part(record.log_sd**2 * (2 if ratios else 1), float(record.dof))
    return noise.Between(
        source="a selfcheck", common=noise.Part(0.0, 1.0), own=dict.fromkeys(before, own)
    )


def _all_series(run: Run, unit: str | None) -> dict[Key, timing.Series]:
    plain = {key: found for key in run.rows if (found := timing.series(run, key)) is not None}
    if unit is None:
        return plain
    units = _unit_by_shape(run, unit)
    by_shape = {shape: plain[key] for shape, key in units.items() if key in plain}
    return {
        key: timing.relative(found, by_shape[_shape(key)])
        for key, found in plain.items()
        if _shape(key) in by_shape
    }


def _unit_by_shape(run: Run, unit: str | None) -> dict[Key, Key]:
    """The point of variant `unit` at each shape of `run`."""
    if unit is None:
        return {}
    variant, _, backend = unit.partition("/")
    return {
        _shape(key): key
        for key, row in run.rows.items()
        if row.variant == variant and backend in ("", row.backend)
    }


def _shape(key: Key) -> Key:
    return tuple(v for n, v in zip(KEY_COLUMNS, key, strict=True) if n not in _NO_SHAPE)


def _check_unit(run: Run, unit: str | None) -> None:
    if unit is None:
        return
    known = {row.variant for row in run.rows.values()}
    known |= {f"{row.variant}/{row.backend}" for row in run.rows.values()}
    if unit not in known:
        raise unknown_name("variant in --relative-to", unit, known)
    if "/" not in unit:
        backends = sorted({r.backend for r in run.rows.values() if r.variant == unit})
        if len(backends) > 1:
            raise UserError(
                f"--relative-to {unit}: the run has it on {', '.join(backends)}",
                hint=f"Write --relative-to {unit}/{backends[0]}.",
            )


def _reason(ratio: timing.Ratio, word: Word, low: float | None) -> str:
    if word is Word.SLOWER and low is not None:
        return f"at least {low:.3g} times the time; {math.exp(ratio.limit):.3g} is allowed"
    if word is not Word.UNSURE:
        return ""
    if low is None:
        return "too few rounds or pairs: no interval"
    if not ratio.between:
        return "one run each: the noise between runs is not known"
    return "within the noise between runs"
