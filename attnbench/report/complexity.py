"""What `complexity` shows: scores, then memory and time of each variant, by length."""

import msgspec

from attnbench.report.document import Column, Document, Table
from attnbench.units import format_count, format_gib, format_ms
from attnbench.variants._roofline import Roofline, RooflineRow


def document(found: Roofline) -> Document:
    """The rows as JSON and three tables: what a matrix of scores takes, memory, time."""
    rows = found.rows
    variants = list(dict.fromkeys(row.variant for row in rows))
    lengths = sorted({row.seq_kv for row in rows})
    by = {(row.variant, row.seq_kv): row for row in rows}
    first = {row.seq_kv: row for row in rows}
    wall = Table(
        columns=(
            Column(key="tokens", heading="tokens", show=lambda n: f"{n:,}", right=True),
            Column(key="scores", heading="scores", show=format_count, right=True),
            Column(key="bytes", heading="GiB (2^30)", show=format_gib, right=True),
        ),
        rows=[_wall(first[length]) for length in lengths],
        title="One matrix of scores, all heads",
    )
    if not rows:
        wall = Table(columns=wall.columns, rows=[], title=wall.title)
    held = [[n, *(_held(by.get((v, n))) for v in variants)] for n in lengths]
    times = [[n, *(_time(by.get((v, n))) for v in variants)] for n in lengths]
    return Document(
        schema="attnbench.complexity/1",
        data={"rows": [_plain(row) for row in rows], "left_out": found.left_out},
        tables=(
            wall,
            Table(
                columns=_by(variants, format_gib),
                rows=held,
                title="Memory beyond operands, GiB (2^30)",
            ),
            Table(columns=_by(variants, _ms), rows=times, title="Predicted time, ms"),
        ),
        notes=tuple(f"Left out: {why}" for why in found.left_out),
        assumptions=found.assumptions,
    )


def _wall(row: RooflineRow) -> list[object]:
    return [row.seq_kv, row.batch * row.heads * row.seq_q * row.seq_kv, row.score_bytes]


def _ms(seconds: float) -> str:
    return format_ms(seconds * 1e3)


def _by(variants: list[str], show: object) -> tuple[Column, ...]:
    tokens = Column(key="tokens", heading="tokens", show=lambda n: f"{n:,}", right=True)
    named = (Column(key=v, heading=v, show=show, right=True) for v in variants)  # type: ignore[arg-type]  # both take a number
    return (tokens, *named)


def _held(row: RooflineRow | None) -> int | None:
    return None if row is None else row.workspace_bytes


def _time(row: RooflineRow | None) -> float | None:
    return None if row is None else row.time_s


def _plain(row: RooflineRow) -> dict[str, object]:
    made: dict[str, object] = msgspec.to_builtins(row)
    return made
