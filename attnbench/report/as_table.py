"""A document as tables in plain columns, for a pipe or a file.

A terminal gets `as_terminal`, by rich. Rich takes 50 ms to import, a quarter of what a
calculator takes in all, and a pipe would gain nothing from it.
"""

from attnbench.report.document import Document, Table, shown


def render(document: Document) -> str:
    """The tables, notes and assumptions."""
    lines: list[str] = []
    for figure in document.figures:
        lines += [figure.title, "", *figure.lines, ""]
    for table in document.tables:
        lines += [*_plain(table), ""]
    return "\n".join([*lines, *remarks(document)]).rstrip("\n") + "\n"


def remarks(document: Document) -> list[str]:
    """The lines under the tables: notes, then assumptions."""
    assumed = ["Assumptions:", *(f"  - {a}" for a in document.assumptions)]
    return [*document.notes, *(assumed if document.assumptions else [])]


def _plain(table: Table) -> list[str]:
    cells = [[column.heading for column in table.columns]]
    cells += [[shown(c, v) for c, v in zip(table.columns, row, strict=True)] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(row, widths, table.columns, strict=True)
        ]
        lines.append("   ".join(padded).rstrip())
    lines.insert(1, "─" * (sum(widths) + 3 * (len(widths) - 1)))
    return [table.title, "", *lines] if table.title else lines
