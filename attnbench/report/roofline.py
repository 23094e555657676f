"""What `roofline` shows: a row a variant, mode, length and GPU, ranked over GPUs."""

import msgspec

from attnbench.report.document import Column, Document, Table
from attnbench.units import format_count, format_gib, format_ms, format_rate
from attnbench.variants._roofline import Roofline, RooflineRow


def _ms(seconds: float) -> str:
    return format_ms(seconds * 1e3)


def _share(value: float) -> str:
    return f"{value:.0%}"


_COLUMNS = (
    Column(key="variant", heading="variant"),
    Column(key="gpu", heading="GPU"),
    Column(key="mode", heading="mode"),
    Column(key="seq_kv", heading="tokens", show=lambda n: f"{n:,}", right=True),
    Column(key="flops", heading="FLOPs", show=format_count, right=True),
    Column(key="bytes", heading="GiB (2^30) moved", show=format_gib, right=True),
    Column(key="intensity", heading="FLOP/byte", show=lambda v: f"{v:.4g}", right=True),
    Column(key="time_s", heading="time (ms)", show=_ms, right=True),
    Column(key="time_s_low", heading="low", show=_ms, right=True),
    Column(key="time_s_high", heading="high", show=_ms, right=True),
    Column(key="bound", heading="bound"),
    Column(key="fraction_of_peak", heading="of peak", show=_share, right=True),
    Column(
        key="achieved_flops_per_s",
        heading="reaches",
        show=lambda v: format_rate(v, "FLOP/s"),
        right=True,
    ),
    Column(key="constants", heading="constants"),
)


def document(found: Roofline) -> Document:
    """The rows as the contract's JSON object and one table, the fastest GPU first."""
    rows = list(found.rows)
    if len({row.gpu for row in rows}) > 1:
        rows.sort(key=lambda row: (row.variant, row.mode, row.seq_kv, row.time_s))
    table = Table(columns=_COLUMNS, rows=[_line(row) for row in rows], title=_title(rows))
    keys = RooflineRow.__struct_fields__
    records = Table(
        columns=tuple(Column(key=key, heading=key) for key in keys),
        rows=[[getattr(row, key) for key in keys] for row in rows],
    )
    return Document(
        schema="attnbench.roofline/1",
        data={"rows": [msgspec.to_builtins(row) for row in rows], "left_out": found.left_out},
        tables=(table,),
        records=records,
        notes=tuple(f"Left out: {why}" for why in found.left_out),
        assumptions=found.assumptions,
    )


def _line(row: RooflineRow) -> list[object]:
    return [getattr(row, column.key) for column in _COLUMNS]


def _title(rows: list[RooflineRow]) -> str:
    if not rows:
        return "nothing to predict"
    row = rows[0]
    heads = f"{row.heads}/{row.kv_heads}" if row.heads != row.kv_heads else str(row.heads)
    cache = f", {row.kv_dtype} cache" if row.kv_dtype != row.dtype else ""
    return f"batch {row.batch}, {heads} heads of {row.head_dim}, {row.dtype}{cache}"
