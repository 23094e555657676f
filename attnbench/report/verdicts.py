"""The outcome of a check as a document: everything for programs, the worst first for people."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from attnbench.gate.baseline import Baseline, machine
from attnbench.gate.check import TIME, Outcome
from attnbench.gate.exact import COUNTS, MEMORY
from attnbench.gate.runs import Run
from attnbench.gate.verdict import Limits, Verdict, Word
from attnbench.report.document import Column, Document, Table
from attnbench.units import format_gib, format_ms

SCHEMA = "attnbench.check/1"
_ALL_SHOWN = 40  # more times than these, and people see those that are not SAME


def check_document(
    outcome: Outcome, run: Run, baseline: Baseline, limits: Limits, *, everything: bool
) -> Document:
    """The document; `everything` makes one table of every verdict, raw, as CSV wants it."""
    data = {
        "run": Path(run.label),
        "baseline": Path(baseline.label),
        "device": machine(run),
        "baseline_device": machine(baseline.newest),
        "passed": not outcome.failed,
        "counts": outcome.counts,
        "failed": len(outcome.failed),
        "new_points": outcome.new_points,
        "limits": msgspec.to_builtins(limits),
        "noise": {"source": outcome.between, "log_sd": outcome.between_sd},
        "verdicts": [msgspec.to_builtins(verdict) for verdict in outcome.verdicts],
    }
    tables = (_raw(outcome.verdicts),) if everything else _for_people(outcome, limits)
    return Document(
        schema=SCHEMA, data=data, tables=tables, notes=tuple(_notes(outcome, run, baseline, limits))
    )


def summary_line(outcome: Outcome) -> str:
    """One line: how many points, how many verdicts failed, how many of each word."""
    points = len({verdict.point for verdict in outcome.verdicts})
    result = f"{len(outcome.failed)} FAILED" if outcome.failed else "passed"
    counts = ", ".join(f"{count:,} {word}" for word, count in outcome.counts.items())
    return f"{result}: {points:,} points; {counts}"


def _notes(outcome: Outcome, run: Run, baseline: Baseline, limits: Limits) -> list[str]:
    notes = [summary_line(outcome)]
    if not outcome.same_device:
        notes.append(
            f"The run is of {machine(run)}, the baseline of {machine(baseline.newest)}: "
            "memory and error are not compared."
        )
    if outcome.new_points:
        notes.append(f"{outcome.new_points} points are new: the baseline has not got them.")
    if TIME not in limits.metrics:
        return notes
    if outcome.between is not None and outcome.between_sd is not None:
        sd = f"{outcome.between_sd:.1%}"
        notes.append(f"Noise between runs: {sd} at the median point, from {outcome.between}.")
    else:
        notes.append(
            "Noise between runs: not known (one run each), so no change under 1.25 is called; "
            "a baseline of 3 or more runs, or a selfcheck, tells it."
        )
    seen = [v for v in outcome.verdicts if v.minimum_detectable is not None]
    if seen:
        worst = max(seen, key=lambda v: v.minimum_detectable or 0.0)
        middle = statistics.median(v.minimum_detectable or 0.0 for v in seen)
        notes.append(
            f"Smallest slowdown that would have been called: {middle:.3g} times at the median "
            f"point, {worst.minimum_detectable:.3g} at the worst ({worst.point})."
        )
    return notes


def _raw(verdicts: Sequence[Verdict]) -> Table:
    names = [name for name in Verdict.__struct_fields__ if name != "key"]
    return Table(
        columns=tuple(Column(key=name, heading=name) for name in names),
        rows=[[_plain(getattr(verdict, name)) for name in names] for verdict in verdicts],
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.value if isinstance(value, Word) else value


def _for_people(outcome: Outcome, limits: Limits) -> tuple[Table, ...]:
    times = [v for v in outcome.verdicts if v.metric == TIME]
    if len(times) > _ALL_SHOWN:
        times = [v for v in times if v.verdict is not Word.SAME]
    rest = [v for v in outcome.verdicts if v.metric != TIME and v.verdict is not Word.SAME]
    tables = []
    if rest:
        tables.append(_exact_table(rest))
    if times:
        tables.append(_time_table(times, limits))
    return tuple(tables)


def _exact_table(verdicts: Sequence[Verdict]) -> Table:
    columns = (
        Column(key="verdict", heading="verdict"),
        Column(key="point", heading="point"),
        Column(key="metric", heading="metric"),
        Column(key="baseline", heading="baseline", right=True),
        Column(key="current", heading="now", right=True),
        Column(key="reason", heading="why"),
    )
    rows = [
        [
            _word(v), v.point, v.metric,
            _shown(v.metric, v.baseline), _shown(v.metric, v.current), v.reason,
        ]
        for v in verdicts
    ]  # fmt: skip
    return Table(columns=columns, rows=rows, title="Status, mathematics, memory and error")


def _time_table(verdicts: Sequence[Verdict], limits: Limits) -> Table:
    unit = f"× {limits.relative_to}" if limits.relative_to else "ms"
    columns = (
        Column(key="verdict", heading="verdict"),
        Column(key="point", heading="point"),
        Column(key="baseline", heading=f"baseline ({unit})", show=format_ms, right=True),
        Column(key="current", heading=f"now ({unit})", show=format_ms, right=True),
        Column(key="ratio", heading="ratio", show="{:.3f}".format, right=True),
        Column(key="interval", heading="95% interval", right=True),
        Column(key="minimum_detectable", heading="seen from", show="{:.2f}".format, right=True),
        Column(key="reason", heading="why"),
    )
    rows = [
        [
            _word(v), v.point, v.baseline, v.current, v.ratio,
            _interval(v.ratio_low, v.ratio_high), v.minimum_detectable, v.reason,
        ]
        for v in verdicts
    ]  # fmt: skip
    return Table(columns=columns, rows=rows, title="Time")


def _word(verdict: Verdict) -> str:
    return f"{verdict.verdict} (failed)" if verdict.failed else verdict.verdict.value


def _interval(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _shown(metric: str, value: float | str | None) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if metric in MEMORY or metric == "bytes_min":
        return format_gib(int(value))
    return f"{value:,}" if metric in COUNTS else f"{value:.2e}"
