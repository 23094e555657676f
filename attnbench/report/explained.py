"""What `explain-log` shows: a table a server, then what is easily misread."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from attnbench.engines.explained import Explained
from attnbench.report.document import Column, Document, Table

_FIGURES = (
    Column(key="name", heading="figure"),
    Column(key="printed", heading="printed", show=lambda v: f"{v:,.10g}", right=True),
    Column(key="rebuilt", heading="rebuilt", show=lambda v: f"{v:,.10g}", right=True),
    Column(key="relative_error", heading="error", show=lambda v: f"{v:+.2%}", right=True),
    Column(key="agrees", heading="agrees", show=lambda v: "yes" if v else "no"),
    Column(key="term", heading="term that differs"),
)


def document(servers: Sequence[Explained], notes: Sequence[str], file: str) -> Document:
    """The servers as one JSON object and tables."""
    tables, said = [], []
    for number, server in enumerate(servers, 1):
        title = f"{number}. {server.engine} {server.version or '(version not printed)'}"
        title += f": {server.model or 'model not named'} (line {server.line})"
        rows = [[getattr(figure, column.key) for column in _FIGURES] for figure in server.figures]
        tables.append(Table(columns=_FIGURES, rows=rows, title=title))
        said += [f"{number}. {text}" for text in server.warnings]
        said += [f"{number}. Missing: {text}" for text in server.missing]
    return Document(
        schema="attnbench.explain-log/1",
        data={
            "file": file if file == "-" else Path(file),
            "servers": [msgspec.to_builtins(server) for server in servers],
            "notes": list(notes),
        },
        tables=tuple(tables),
        notes=(*said, *notes),
    )
