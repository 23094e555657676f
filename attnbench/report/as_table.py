"""A document as tables for people, drawn by rich."""

import io
import os
import sys

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from attnbench.report.document import Document, Table, shown

_WIDE = 1000  # where the output is no terminal a line is as long as it needs to be


def render(document: Document, width: int | None = None) -> str:
    """The tables, notes and assumptions; coloured only where stdout is a terminal."""
    terminal = width is None and sys.stdout.isatty()
    out = io.StringIO()
    console = Console(
        file=out,
        width=None if terminal else _WIDE,
        force_terminal=terminal,
        color_system="auto" if terminal and "NO_COLOR" not in os.environ else None,
        highlight=False,
    )
    for table in document.tables:
        console.print(draw(table))
    for note in document.notes:
        console.print(Text(note))
    if document.assumptions:
        console.print(Text("Assumptions:", style="dim"))
        for assumption in document.assumptions:
            console.print(Text(f"  - {assumption}", style="dim"))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def draw(table: Table) -> RichTable:
    """`table` as rich draws it."""
    drawn = RichTable(
        title=table.title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False
    )
    for column in table.columns:
        drawn.add_column(
            Text(column.heading), justify="right" if column.right else "left", no_wrap=column.right
        )
    for row in table.rows:
        drawn.add_row(*(Text(shown(c, v)) for c, v in zip(table.columns, row, strict=True)))
    return drawn
