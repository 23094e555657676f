"""A run's frontier and crossovers for people: marks, times, memory, errors."""

from typing import Any

import msgspec

from attnbench.quality.answer import Joined
from attnbench.quality.crossover import Crossover, Reached
from attnbench.quality.frontier import Standing
from attnbench.report.document import Column, Table
from attnbench.spec.result import ResultRow
from attnbench.units import format_gib, format_ms

_FRONTIER = (
    Column(key="mark", heading=""),
    Column(key="variant", heading="variant"),
    Column(key="time_ms", heading="ms", show=format_ms, right=True),
    Column(key="peak_memory_bytes", heading="memory", show=format_gib, right=True),
    Column(key="rel_error", heading="rel_error", show="{:.1e}".format, right=True),
    Column(key="dominated_by", heading="dominated by"),
)


def joined_tables(part: Joined) -> list[Table]:
    """The frontier at the longest length of each problem, then the crossovers."""
    longest: dict[tuple[object, ...], tuple[Standing, ...]] = {}
    for group in part.frontiers:
        row = group[0].row
        key = (row.mode, row.dtype, row.batch, row.heads, row.kv_heads, row.head_dim, row.causal)
        if key not in longest or row.seq_kv > longest[key][0].row.seq_kv:
            longest[key] = group
    tables = [
        Table(
            title=f"Time × memory × error, {group[0].row.mode} {group[0].row.shape.label}",
            columns=_FRONTIER,
            rows=[_row(standing) for standing in group],
        )
        for group in longest.values()
    ]
    if part.crossovers:
        tables.append(_crossover_table(part))
    return tables


def joined_notes(part: Joined) -> list[str]:
    """What the marks mean, and what was left out."""
    notes = [
        "●: nothing is as fast, as small and as exact; exact variants' rounding counts as one"
        " error.",
        "Crossover: length from which on it is faster than the fastest flash, interpolated"
        " on log-log between lengths measured, never beyond.",
    ]
    if part.without_error:
        notes.append(f"{part.without_error} ok points lack memory or error and stand nowhere.")
    return notes


def joined_data(part: Joined | None) -> dict[str, Any]:
    """The JSON of both; null where no run was named."""
    if part is None:
        return {"run": None, "frontier": None, "crossovers": None}
    return {
        "run": part.run,
        "device": part.device,
        "frontier": [_standing(s) for group in part.frontiers for s in group],
        "crossovers": [
            msgspec.to_builtins(c) | {"ratios": {str(n): ratio for n, ratio in c.ratios.items()}}
            for c in part.crossovers
        ],
    }


def _row(standing: Standing) -> list[Any]:
    row = standing.row
    mark = "●" if standing.dominated_by is None else " "
    return [
        mark, standing.name, row.time_ms, row.peak_memory_bytes, standing.error,
        standing.dominated_by,
    ]  # fmt: skip


def _standing(standing: Standing) -> dict[str, Any]:
    row: ResultRow = standing.row
    names = (
        "variant", "backend", "mode", "dtype", "batch", "heads", "kv_heads", "seq_q", "seq_kv",
        "head_dim", "causal", "params", "time_ms", "peak_memory_bytes", "rel_error",
    )  # fmt: skip
    return {
        **{name: getattr(row, name) for name in names},
        "exact": standing.exact,
        "dominated_by": standing.dominated_by,
    }


def _crossover_table(part: Joined) -> Table:
    lengths = sorted({n for c in part.crossovers for n in c.ratios})
    return Table(
        title="Faster than exact flash from",
        columns=(
            Column(key="problem", heading="problem"),
            Column(key="variant", heading="variant"),
            Column(key="from", heading="tokens"),
            *(
                Column(key=str(n), heading=f"{n:,}", show="{:.2f}".format, right=True)
                for n in lengths
            ),
        ),
        rows=[
            [
                c.problem, f"{c.variant}/{c.backend}", _from(c),
                *(c.ratios.get(n) for n in lengths),
            ]
            for c in part.crossovers
        ],
    )  # fmt: skip


def _from(crossover: Crossover) -> str:
    if crossover.reached is Reached.CROSSED and crossover.tokens is not None:
        return f"{crossover.tokens:,.0f}"
    return str(crossover.reached)
