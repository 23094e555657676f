"""The records of a document as CSV: keys as header, raw values, None as empty."""

import csv
import io

from attnbench.report.document import Document


def render(document: Document) -> str:
    """The CSV text; rows end in a newline."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    table = document.records or document.tables[0]
    writer.writerow([column.key for column in table.columns])
    writer.writerows(table.rows)
    return out.getvalue()
