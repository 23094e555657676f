"""A document as tables on a terminal, drawn by rich."""

import io

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from attnbench.report.as_table import remarks
from attnbench.report.document import Document, Table, shown

_LEAST_WIDTH = 12  # that a column of words keeps on a narrow terminal


def render(document: Document) -> str:
    """The tables, notes and assumptions, as wide as the terminal; NO_COLOR is kept to."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, highlight=False)
    for figure in document.figures:
        console.print(Text("\n".join([figure.title, "", *figure.lines, ""])), soft_wrap=True)
    for table in document.tables:
        console.print(draw(table))
    for remark in remarks(document):
        console.print(Text(remark))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def draw(table: Table) -> RichTable:
    """`table` as rich draws it."""
    drawn = RichTable(
        title=table.title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False
    )
    rows = [[shown(c, v) for c, v in zip(table.columns, row, strict=True)] for row in table.rows]
    for number, column in enumerate(table.columns):
        widest = max([len(column.heading), *(len(row[number]) for row in rows)])
        drawn.add_column(
            Text(column.heading),
            justify="right" if column.right else "left",
            no_wrap=column.right,
            min_width=min(widest, _LEAST_WIDTH),
            overflow="fold",
        )
    for row in rows:
        drawn.add_row(*map(Text, row))
    return drawn
