"""The same points of several runs side by side, each against the first run."""

from collections.abc import Sequence
from typing import Any

from attnbench.errors import NothingToDoError, UserError, missing_extra
from attnbench.gate import timing
from attnbench.gate.runs import Run, point_labels
from attnbench.gate.verdict import Key

FIGURES = ("status", "value", "ratio", "ratio_low", "ratio_high")


def side_by_side(runs: Sequence[Run], metric: str) -> list[dict[str, Any]]:
    """A dict a point: `point`, and for run i (from 1) `status_i, value_i, ratio_i, ...`.

    `value` is `metric`'s; ratios are to run 1, so that it has none. The interval is
    that of the rounds of both runs: what differs from run to run is not in it. A
    point that a run has not got has None there.

    Raises:
        UserError: fewer than two runs.
        NothingToDoError: no point is in the first run and another.
        MachineError: pandas is not installed.
    """
    if len(runs) < 2:
        raise UserError("compare takes two runs or more", hint="attnbench compare RUN RUN")
    try:
        import pandas as pd
    except ImportError:
        raise missing_extra("pandas", "bench") from None
    first = runs[0]
    if not any(first.rows.keys() & run.rows.keys() for run in runs[1:]):
        raise NothingToDoError(f"{first.label} shares no point with the other runs")
    labels = point_labels({key: row for run in runs for key, row in run.rows.items()})
    frames = []
    for number, run in enumerate(runs, start=1):
        rows = {labels[key]: _figures(run, first, key, metric) for key in run.rows}
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=FIGURES, dtype=object)
        frames.append(frame.drop(columns=list(FIGURES[2:]) if run is first else []).add_suffix(
            f"_{number}"
        ))  # fmt: skip
    joined = pd.concat(frames, axis="columns", sort=False).rename_axis("point").reset_index()
    plain = joined.astype(object).where(joined.notna(), None)
    return [{str(k): v for k, v in row.items()} for row in plain.to_dict(orient="records")]


def _figures(run: Run, first: Run, key: Key, metric: str) -> tuple[Any, ...]:
    row = run.rows[key]
    value = getattr(row, metric)
    before = getattr(first.rows[key], metric) if key in first.rows else None
    ratio = value / before if value is not None and before else None
    low = high = None
    if ratio is not None and metric == "time_ms":
        low, high = _interval(run, first, key)
    return row.status, value, ratio, low, high


def _interval(run: Run, first: Run, key: Key) -> tuple[float | None, float | None]:
    now, before = timing.series(run, key), timing.series(first, key)
    if now is None or before is None:
        return None, None
    ratio = timing.compare(now, [before], limit=0.0, own=None, common=None, same=False)
    ends = ratio.interval()
    return (timing.factor(ends[0]), timing.factor(ends[1])) if ends else (None, None)
