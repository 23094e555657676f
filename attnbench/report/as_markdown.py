"""A document as GitHub-flavoured markdown tables."""

from attnbench.report.document import Document, shown


def render(document: Document) -> str:
    """The markdown text."""
    parts = [
        "\n".join([f"### {figure.title}", "", "```", *figure.lines, "```"])
        for figure in document.figures
    ]
    for table in document.tables:
        lines = [f"### {table.title}", ""] if table.title else []
        lines.append(_row([column.heading for column in table.columns]))
        lines.append(_row(["---:" if column.right else "---" for column in table.columns]))
        lines += [
            _row([shown(c, v) for c, v in zip(table.columns, row, strict=True)])
            for row in table.rows
        ]
        parts.append("\n".join(lines))
    if document.notes:
        parts.append("\n".join(document.notes))
    if document.assumptions:
        parts.append("Assumptions:\n\n" + "\n".join(f"- {a}" for a in document.assumptions))
    return "\n\n".join(parts) + "\n"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
