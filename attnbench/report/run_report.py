"""Run folders as one page: what was run where, what came out, what did not, and charts."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from attnbench.gate.baseline import machine
from attnbench.gate.runs import Run, point_labels
from attnbench.gate.side_by_side import side_by_side
from attnbench.measure.rows import slopes
from attnbench.quality.answer import Joined
from attnbench.report.compared import compare_document
from attnbench.report.document import Column, Document, Table
from attnbench.report.frontier import joined_data, joined_notes, joined_tables
from attnbench.report.run_charts import run_charts
from attnbench.report.sweep_document import sweep_document
from attnbench.spec.result import COLUMNS, Status
from attnbench.units import format_duration

_FINE = {Status.OK, Status.INTERPRETED}


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A run folder as read: its run.json, its rows, its frontier where a point ended ok."""

    about: Mapping[str, Any]
    run: Run
    joined: Joined | None


def report_document(readings: Sequence[Reading]) -> Document:
    """The document of one run, or of several beside each other, the first the base.

    Raises:
        NothingToDoError: several runs, and the first shares no point with the others.
    """
    labels = _labels(readings)
    tables = [_runs_table(readings, labels)]
    notes: list[str] = []
    if len(readings) > 1:
        runs = [reading.run for reading in readings]
        points = side_by_side(runs, "time_ms")
        compared = compare_document(points, runs, "time_ms", everything=False)
        tables += [
            msgspec.structs.replace(table, title="Time, run by run") for table in compared.tables
        ]
        notes += compared.notes
    for label, reading in zip(labels, readings, strict=True):
        of_run = f" ({label})" if len(readings) > 1 else ""
        found, said = _of_one(reading)
        tables += [msgspec.structs.replace(t, title=t.title + of_run) for t in found]
        notes += [note for note in said if note not in notes]
    rows = [
        (label, row)
        for label, reading in zip(labels, readings, strict=True)
        for row in reading.run.rows.values()
    ]
    return Document(
        schema="attnbench.report/1",
        title="attnbench: " + ", ".join(labels),
        data={"runs": [_data(reading) for reading in readings]},
        tables=tuple(tables),
        records=Table(
            columns=(
                Column(key="run", heading="run"),
                *(Column(key=name, heading=name) for name in COLUMNS),
            ),
            rows=[[label, *(getattr(row, name) for name in COLUMNS)] for label, row in rows],
        ),
        notes=tuple(notes),
        charts=run_charts(
            {
                label: list(reading.run.rows.values())
                for label, reading in zip(labels, readings, strict=True)
            }
        ),
    )


def _labels(readings: Sequence[Reading]) -> list[str]:
    """Folder names, or whole paths where two share a name."""
    names = [Path(reading.run.label).absolute().name for reading in readings]
    if len(set(names)) == len(names):
        return names
    return [reading.run.label for reading in readings]


def _of_one(reading: Reading) -> tuple[list[Table], list[str]]:
    """Times over length, the frontier and crossovers, and the points that have no figures."""
    rows = list(reading.run.rows.values())
    times = sweep_document(rows, Path(reading.run.label), slopes=slopes(rows))
    tables, notes = list(times.tables), list(times.notes)
    if reading.joined is not None:
        tables += joined_tables(reading.joined)
        notes += joined_notes(reading.joined)
    labels = point_labels(reading.run.rows)
    failed = [(key, row) for key, row in reading.run.rows.items() if row.status not in _FINE]
    if failed:
        tables.append(
            Table(
                title="Points without figures",
                columns=tuple(Column(key=k, heading=k) for k in ("point", "status", "note")),
                rows=[[labels[key], row.status, row.note] for key, row in failed],
            )
        )
    return tables, notes


def _runs_table(readings: Sequence[Reading], labels: Sequence[str]) -> Table:
    heads = ("run", "device", "started", "took", "points", "ok", "attnbench", "with")
    rows = []
    for label, reading in zip(labels, readings, strict=True):
        about = reading.about
        statuses = [row.status for row in reading.run.rows.values()]
        versions = about.get("environment", {}).get("versions", {})
        rows.append(
            [
                label, machine(reading.run), about.get("started"), _took(about), len(statuses),
                statuses.count(Status.OK), about.get("attnbench_version"),
                ", ".join(f"{name} {version}" for name, version in versions.items()),
            ]
        )  # fmt: skip
    right = {"points", "ok"}
    columns = tuple(Column(key=key, heading=key, right=key in right) for key in heads)
    return Table(title="What was run", columns=columns, rows=rows)


def _took(about: Mapping[str, Any]) -> str | None:
    """From start to end; None for a run that has not ended."""
    if not (about.get("started") and about.get("ended")):
        return None
    began, ended = (datetime.fromisoformat(about[name]) for name in ("started", "ended"))
    return format_duration((ended - began).total_seconds())


def _data(reading: Reading) -> dict[str, Any]:
    joined = joined_data(reading.joined)
    return {
        "run": Path(reading.run.label),
        "device": reading.run.device,
        "started": reading.about.get("started"),
        "ended": reading.about.get("ended"),
        "environment": reading.about.get("environment"),
        "configuration": reading.about.get("configuration"),
        "rows": [
            {name: getattr(row, name) for name in COLUMNS} for row in reading.run.rows.values()
        ],
        "frontier": joined["frontier"],
        "crossovers": joined["crossovers"],
    }
