"""What `paging` shows: one piece against pages, and a row a block size."""

import msgspec

from attnbench.calc.paging_answer import PagingAnswer
from attnbench.report.document import Column, Document, Table
from attnbench.units import format_gib


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"


_LAYOUTS = (
    Column(key="layout", heading=""),
    Column(key="bytes", heading="GiB (2^30)", show=format_gib, right=True),
    Column(key="waste_fraction", heading="holds no token", show=_percent, right=True),
)
_SWEEP = (
    Column(key="block", heading="tokens a block", right=True),
    Column(key="paged_bytes", heading="GiB (2^30)", show=format_gib, right=True),
    Column(key="waste_fraction", heading="holds no token", show=_percent, right=True),
    Column(key="shared_bytes", heading="not held twice", show=format_gib, right=True),
    Column(key="blocks", heading="blocks", show=lambda n: f"{n:,}", right=True),
    Column(key="table_bytes", heading="block tables", show=format_gib, right=True),
)


def document(found: PagingAnswer) -> Document:
    """The answer as the contract's JSON object and two tables."""
    page = f"pages of {found.page.block}"
    layouts = [
        ["one piece each", found.contiguous_bytes, found.contiguous_waste_fraction],
        [page, found.paged_bytes, found.waste_fraction],
    ]
    sweep = [[getattr(row, column.key) for column in _SWEEP] for row in found.sweep]
    title = f"{found.model}: {found.sequences:,} sequences, {found.tokens:,} tokens"
    data = msgspec.to_builtins(found)
    return Document(
        schema="attnbench.paging/1",
        data=data,
        tables=(
            Table(columns=_LAYOUTS, rows=layouts, title=title),
            Table(columns=_SWEEP, rows=sweep, title="block sizes"),
        ),
        notes=tuple(_notes(found)),
        assumptions=found.assumptions,
        warnings=found.warnings,
    )


def _notes(found: PagingAnswer) -> list[str]:
    notes = []
    if found.state_bytes:
        notes.append(f"Recurrent states, beside either: {format_gib(found.state_bytes)}")
    if found.pool_bytes is not None:
        notes.append(
            f"A pool of {format_gib(found.pool_bytes)} holds {found.contiguous_pool_sequences:,} "
            f"such sequences in one piece each, {found.paged_pool_sequences:,} in pages of "
            f"{found.page.block}"
        )
    return notes
