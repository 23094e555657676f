"""A sweep's rows for people: a table a shape, time over length, beside memory and error."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attnbench.measure.rows import settings_text
from attnbench.measure.telemetry import is_suspect
from attnbench.report.document import Column, Document, Table
from attnbench.spec.attention import Mode
from attnbench.spec.result import COLUMNS, ResultRow, Status
from attnbench.units import format_gib, format_ms

# A status in place of a time, where its word is too wide for a column.
_SHORT = {Status.INTERPRETED.value: "checked", Status.UNSUPPORTED.value: "n/a"}
_SHAPE = ["mode", "dtype", "batch", "heads", "kv_heads", "head_dim"]


def sweep_document(
    rows: Sequence[ResultRow],
    folder: Path,
    *,
    slopes: dict[tuple[str | int | bool, ...], float],
) -> Document:
    """The document of a run: every row in JSON and CSV, pivots of time for people.

    `slopes` gives the log-log slope of time over length by (variant, backend, settings,
    causal, then the shape's fields less length).
    """
    import pandas as pd

    frame = pd.DataFrame([asdict(row) for row in rows], columns=list(COLUMNS)).astype(object)
    frame = frame.where(frame.notna(), None)
    frame["settings"] = [settings_text(row) for row in rows]
    tables = tuple(
        _pivot(dict(zip(_SHAPE, key, strict=True)), part, slopes)
        for key, part in frame.groupby(_SHAPE, sort=False)
    )
    return Document(
        schema="attnbench.sweep/1",
        data={"run_dir": folder, "rows": [asdict(row) for row in rows]},
        tables=tables,
        records=Table(
            columns=tuple(Column(key=name, heading=name) for name in COLUMNS),
            rows=[[getattr(row, name) for name in COLUMNS] for row in rows],
        ),
        notes=(_legend(rows),),
        warnings=_suspect(rows),
    )


def _suspect(rows: Sequence[ResultRow]) -> tuple[str, ...]:
    timed = [row for row in rows if row.status == Status.OK]
    suspect = sum(is_suspect(row.note) for row in timed)
    if not suspect:
        return ()
    return (
        f"{suspect} of {len(timed)} times were taken while other work had the machine, or it was"
        " throttled: `note` says how much; time them again on a quiet one.",
    )


def _pivot(shape: dict[str, Any], part: Any, slopes: dict[Any, float]) -> Table:
    lengths = sorted(set(part["seq_kv"]))
    cells = part.assign(cell=[_cell(r.status, r.time_ms) for r in part.itertuples()])
    by_length = cells.pivot_table(
        index=["causal", "variant", "backend", "settings"],
        columns="seq_kv",
        values="cell",
        aggfunc="first",
        sort=False,
    )
    decode = shape["mode"] == Mode.DECODE.value
    records = []
    for (causal, variant, backend, settings), times in by_length.iterrows():
        mine = part[
            (part["causal"] == causal)
            & (part["variant"] == variant)
            & (part["backend"] == backend)
            & (part["settings"] == settings)
        ].sort_values("seq_kv")
        last = mine[mine["status"] == Status.OK.value].tail(1).to_dict("records")
        figures = last[0] if last else {}
        records.append(
            [
                f"{variant}/{backend}"
                + (settings and f" [{settings}]")
                + ("" if causal or decode else " (not causal)"),
                *(times.dropna().get(n) for n in lengths),
                slopes.get((variant, backend, settings, causal, *shape.values())),
                figures.get("speedup_vs_naive"),
                figures.get("workspace_bytes"),
                figures.get("rel_error"),
            ]
        )
    heads = f"{shape['heads']}/{shape['kv_heads']}"
    return Table(
        title=(
            f"{shape['mode']}, {shape['dtype']}, batch {shape['batch']}, heads {heads},"
            f" head_dim {shape['head_dim']}: time in ms over tokens"
        ),
        columns=(
            Column(key="variant", heading="variant"),
            *(Column(key=str(n), heading=_tokens(n), right=True) for n in lengths),
            Column(key="slope", heading="slope", show="{:.2f}".format, right=True),
            Column(key="speedup", heading="x naive", show="{:.1f}".format, right=True),
            Column(key="workspace", heading="workspace", show=format_gib, right=True),
            Column(key="rel_error", heading="rel_error", show="{:.1e}".format, right=True),
        ),
        rows=records,
    )


def _cell(status: str, time_ms: float | None) -> str:
    return format_ms(time_ms) if time_ms is not None else _SHORT.get(status, status)


def _tokens(n: int) -> str:
    return f"{n >> 10}k" if n % 1024 == 0 else str(n)


def _legend(rows: Sequence[ResultRow]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status] = counts.get(row.status, 0) + 1
    ended = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return (
        f"{len(rows)} points: {ended}. Medians; slope: of log time over log tokens; the columns"
        " after it are at the longest length that ended ok; rel_error: against exact attention in"
        " float64. checked: interpreted, right, not timed; n/a: unsupported, `note` says why."
    )
