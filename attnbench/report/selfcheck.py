"""What `selfcheck` shows: the noise of this machine, and what a gate can see through it."""

from pathlib import Path

import msgspec

from attnbench.gate.baseline import machine
from attnbench.gate.runs import Run
from attnbench.gate.selfcheck import NoiseFloor, typical_width, worst_points
from attnbench.gate.verdict import Limits
from attnbench.report.document import Column, Document, Table
from attnbench.report.verdicts import summary_line

_WORST = 5


def _factor(value: float) -> str:
    return f"{value:.3f}"


def selfcheck_document(
    floor: NoiseFloor, run: Run, limits: Limits, record: Path | None
) -> Document:
    """The noise floor as JSON and two tables."""
    plans = Table(
        columns=(
            Column(key="pairs", heading="pairs", right=True),
            Column(key="detectable", heading="slowdown seen", show=_factor, right=True),
        ),
        rows=[[pairs, factor] for pairs, factor in floor.detectable.items()],
        title="What check --ab would see at the median point, four times of five",
    )
    worst = Table(
        columns=(
            Column(key="point", heading="point"),
            Column(key="width", heading="95% within", show=lambda w: f"±{w - 1:.1%}", right=True),
        ),
        rows=worst_points(floor, _WORST),
        title="The noisiest points",
    )
    return Document(
        schema="attnbench.selfcheck/1",
        data={
            "device": machine(run),
            "log_sd": floor.record.log_sd,
            "dof": floor.record.dof,
            "pair_log_sd": floor.pair_log_sd,
            "detectable": {str(pairs): factor for pairs, factor in floor.detectable.items()},
            "counts": floor.outcome.counts,
            "false_alarms": len(floor.outcome.failed),
            "limits": msgspec.to_builtins(limits),
            "recorded_in": record,
            "verdicts": [msgspec.to_builtins(v) for v in floor.outcome.verdicts],
        },
        tables=(plans, worst),
        notes=tuple(_notes(floor, run, record)),
    )


def _notes(floor: NoiseFloor, run: Run, record: Path | None) -> list[str]:
    notes = [f"{machine(run)}: one code against itself: {summary_line(floor.outcome)}"]
    notes.append(
        f"Noise between separate runs: {floor.record.log_sd:.1%} at the median point "
        f"({floor.record.dof + 1} processes); within a pair of processes: {floor.pair_log_sd:.1%}."
    )
    width = typical_width(floor)
    if width is not None:
        notes.append(f"Half of the points are known within ±{width - 1:.1%} by these pairs.")
    if record is not None:
        notes.append(f"Recorded in {record}: `check` takes this noise for that run.")
    return notes
