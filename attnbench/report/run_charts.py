"""What is drawn of runs: time, rate, workspace over length, and time against error."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from attnbench.measure.rows import settings_text
from attnbench.report.chart import Chart, Mark
from attnbench.spec.attention import Mode
from attnbench.spec.result import ResultRow, Status

Figure = Callable[[ResultRow], float | None]
_MIN_ERROR = 1e-17  # an error of exactly 0 has no place on a logarithmic axis


def run_charts(runs: Mapping[str, Sequence[ResultRow]]) -> tuple[Chart, ...]:
    """The charts of `runs`, rows by a run's label, which series bear where there are several.

    A chart over length is left out where there is one length alone, and a shape that
    nothing was timed at altogether.
    """
    groups: dict[tuple[object, ...], list[tuple[str, ResultRow]]] = {}
    for label, rows in runs.items():
        for row in rows:
            if row.status == Status.OK:
                of_run = f", {label}" if len(runs) > 1 else ""
                groups.setdefault(_shape(row), []).append((_series(row) + of_run, row))
    return tuple(chart for rows in groups.values() for chart in _charts(rows))


def _shape(row: ResultRow) -> tuple[object, ...]:
    return row.mode, row.dtype, row.batch, row.heads, row.kv_heads, row.head_dim


def _series(row: ResultRow) -> str:
    settings = settings_text(row)
    plain = row.causal or row.mode == Mode.DECODE
    return (
        f"{row.variant}/{row.backend}"
        + (settings and f" [{settings}]")
        + ("" if plain else " (not causal)")
    )


def _charts(rows: Sequence[tuple[str, ResultRow]]) -> Iterable[Chart]:
    first = rows[0][1]
    at = (
        f"{first.mode}, {first.dtype}, batch {first.batch}, heads {first.heads}/{first.kv_heads},"
        f" head_dim {first.head_dim}"
    )
    decode = first.mode == Mode.DECODE
    if len({row.seq_kv for _, row in rows}) > 1:
        predicted = _marks(rows, lambda row: row.roofline_ms, predicted=True)
        measured = _marks(rows, lambda row: row.time_ms, interval=True)
        rate: Figure = _bytes_rate if decode else _flops_rate
        for what, unit, marks in (
            ("Time", "ms", (*predicted, *measured)),
            ("Rate", "GB/s" if decode else "TFLOP/s", _marks(rows, rate)),
            ("Workspace", "MiB", _marks(rows, _workspace)),
        ):
            if marks:
                yield Chart(title=f"{what}: {at}", x="tokens", y=unit, marks=marks)
    longest = max(row.seq_kv for _, row in rows)
    dots = tuple(
        Mark(series=name, x=row.time_ms, y=max(row.rel_error, _MIN_ERROR))
        for name, row in rows
        if row.seq_kv == longest and row.time_ms and row.rel_error is not None
    )
    if dots:
        yield Chart(
            title=f"Time against error at {longest:,} tokens: {at}", x="ms",
            y="error against exact attention", marks=dots, joined=False, doubling=False,
        )  # fmt: skip


def _marks(
    rows: Sequence[tuple[str, ResultRow]],
    figure: Figure,
    *,
    interval: bool = False,
    predicted: bool = False,
) -> tuple[Mark, ...]:
    """A mark a row that has the figure, and one over 0."""
    return tuple(
        Mark(
            series=name,
            x=row.seq_kv,
            y=value,
            low=row.time_ms_ci_low if interval else None,
            high=row.time_ms_ci_high if interval else None,
            predicted=predicted,
        )
        for name, row in rows
        if (value := figure(row))
    )


def _flops_rate(row: ResultRow) -> float | None:
    return row.achieved_flops_per_s and row.achieved_flops_per_s / 1e12


def _bytes_rate(row: ResultRow) -> float | None:
    return row.achieved_bytes_per_s and row.achieved_bytes_per_s / 1e9


def _workspace(row: ResultRow) -> float | None:
    return row.workspace_bytes and row.workspace_bytes / 2**20
