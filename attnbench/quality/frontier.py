"""Time × memory × error over a run's rows: which variants nothing else beats.

Rows are compared where they answer the same problem: one mode, dtype and shape, causal
or not. A row is dominated where another is no worse in all three and better in one.
"""

from collections.abc import Collection, Iterable

import msgspec

from attnbench.spec.result import ResultRow, Status

# Rounding differs between exact implementations; errors this near are one. The limit
# that `kernel_error` must keep is twice that of plain attention too (measure/accuracy).
_TIE = 2.0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One row among those of its problem; `dominated_by` names one that beats it."""

    row: ResultRow
    error: float
    exact: bool
    dominated_by: str | None

    @property
    def name(self) -> str:
        """Variant and backend."""
        return _name(self.row)


def frontier(rows: Iterable[ResultRow], exact: Collection[str]) -> list[list[Standing]]:
    """A list a problem, fastest first; `exact` are the names of exact variants.

    Rows that did not end ok, or lack a time, a peak of memory or an error, are left out:
    they stand nowhere. Of exact variants all errors up to twice the smallest are one.
    """
    groups: dict[tuple[object, ...], list[ResultRow]] = {}
    for row in rows:
        if row.status == Status.OK and None not in (
            row.time_ms, row.peak_memory_bytes, row.rel_error
        ):  # fmt: skip
            groups.setdefault(problem(row), []).append(row)
    return [_standings(group, exact) for group in groups.values()]


def problem(row: ResultRow) -> tuple[object, ...]:
    """What rows must share to be compared."""
    return (
        row.mode, row.dtype, row.batch, row.heads, row.kv_heads, row.head_dim, row.causal,
        row.seq_q, row.seq_kv,
    )  # fmt: skip


def _standings(group: list[ResultRow], exact: Collection[str]) -> list[Standing]:
    rounding = [_figure(row.rel_error) for row in group if row.variant in exact]
    floor = _TIE * min(rounding, default=0.0)
    figures = {
        id(row): (
            _figure(row.time_ms),
            _figure(row.peak_memory_bytes),
            max(_figure(row.rel_error), floor),
        )
        for row in group
    }
    made = []
    for row in sorted(group, key=lambda r: _figure(r.time_ms)):
        mine = figures[id(row)]
        better = [
            other for other in group
            if figures[id(other)] != mine
            and all(a <= b for a, b in zip(figures[id(other)], mine, strict=True))
        ]  # fmt: skip
        best = min(better, key=lambda r: figures[id(r)], default=None)
        made.append(
            Standing(
                row=row,
                error=_figure(row.rel_error),
                exact=row.variant in exact,
                dominated_by=None if best is None else _name(best),
            )
        )
    return made


def _figure(value: float | None) -> float:
    assert value is not None
    return float(value)


def _name(row: ResultRow) -> str:
    return f"{row.variant}/{row.backend}"
