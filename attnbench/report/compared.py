"""Runs side by side as a document: one table, a group of columns a run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attnbench.gate.baseline import machine
from attnbench.gate.exact import MEMORY
from attnbench.gate.runs import Run
from attnbench.report.document import Column, Document, Table
from attnbench.units import format_gib, format_ms


def compare_document(
    points: Sequence[dict[str, Any]], runs: Sequence[Run], metric: str, *, everything: bool
) -> Document:
    """The document; `everything` keeps each figure in a column of its own, as CSV wants it."""
    about = [
        {"run": Path(run.label), "device": machine(run), "started": run.started} for run in runs
    ]
    table = _raw(points) if everything else _for_people(points, len(runs), metric)
    notes = [f"{number}: {run.label} ({machine(run)})" for number, run in enumerate(runs, start=1)]
    if metric == "time_ms":
        notes.append("Intervals are 95%, over rounds; noise between runs is not in them.")
    if len({machine(run) for run in runs}) > 1:
        notes.append("The runs are of several devices.")
    return Document(
        schema="attnbench.compare/1",
        data={"metric": metric, "runs": about, "points": points},
        tables=(table,),
        notes=tuple(notes),
    )


def _raw(points: Sequence[dict[str, Any]]) -> Table:
    names = list(points[0])
    return Table(
        columns=tuple(Column(key=name, heading=name) for name in names),
        rows=[list(point.values()) for point in points],
    )


def _for_people(points: Sequence[dict[str, Any]], runs: int, metric: str) -> Table:
    columns = [Column(key="point", heading="point")]
    for number in range(1, runs + 1):
        heading = f"{number}: {metric}"
        columns.append(Column(key=f"value_{number}", heading=heading, right=True))
        if number > 1:
            ratio = f"{number} / 1"
            columns.append(Column(key=f"ratio_{number}", heading=ratio, right=True))
    rows = []
    for point in points:
        row = [point["point"]]
        for number in range(1, runs + 1):
            row.append(_value(point, number, _show(metric)))
            if number > 1:
                row.append(_ratio(point, number))
        rows.append(row)
    return Table(columns=tuple(columns), rows=rows)


def _show(metric: str) -> Callable[[Any], str]:
    if metric == "time_ms":
        return format_ms
    return format_gib if metric in MEMORY else "{:.2e}".format


def _value(point: dict[str, Any], number: int, show: Callable[[Any], str]) -> str | None:
    value = point[f"value_{number}"]
    status: str | None = point[f"status_{number}"]
    return status if value is None else show(value)


def _ratio(point: dict[str, Any], number: int) -> str | None:
    ratio, low, high = (point[f"{n}_{number}"] for n in ("ratio", "ratio_low", "ratio_high"))
    if ratio is None:
        return None
    return f"{ratio:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None else "")
