"""A document as one HTML page that needs nothing else: style and pictures stand in it."""

from html import escape

from attnbench.report.chart import svg_of
from attnbench.report.document import Document, Table, shown

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem;
  color: #1c2733; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #d8dee4; text-align: left;
  white-space: nowrap; }
th { background: #f4f6f8; position: sticky; top: 0; } .right { text-align: right; }
tbody tr:hover { background: #eef4fb; }
figure { display: inline-block; margin: 0 1rem 1rem 0; }
figure svg { max-width: 100%; height: auto; }
pre { overflow-x: auto; } .notes { color: #57636f; }
"""


def render(document: Document) -> str:
    """The page.

    Raises:
        MachineError: the document has charts, and what draws them is not installed.
    """
    title = escape(document.title or document.schema.partition("/")[0].replace(".", " "))
    parts = [f"<h1>{title}</h1>"]
    parts += [
        f"<h2>{escape(figure.title)}</h2>\n<pre>{escape(chr(10).join(figure.lines))}</pre>"
        for figure in document.figures
    ]
    parts += [f"<figure>{svg}</figure>" for svg in svg_of(document.charts)]
    parts += [_table(table) for table in document.tables]
    remarks = [*document.notes, *(f"Assumption: {each}" for each in document.assumptions)]
    parts += [f'<p class="notes">{escape(each)}</p>' for each in remarks]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    aligned = [' class="right"' if column.right else "" for column in table.columns]
    head = "".join(
        f"<th{side}>{escape(column.heading)}</th>"
        for side, column in zip(aligned, table.columns, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + "".join(
            f"<td{side}>{escape(shown(column, value))}</td>"
            for side, column, value in zip(aligned, table.columns, row, strict=True)
        )
        + "</tr>"
        for row in table.rows
    )
    title = f"<h2>{escape(table.title)}</h2>\n" if table.title else ""
    return (
        f'{title}<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )
