"""Writes a document in the format asked for: to stdout, or to a file, atomically."""

import enum
import importlib
import sys
from pathlib import Path

from attnbench.files import write_atomically
from attnbench.report.document import Document


class Format(enum.StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


def render(document: Document, fmt: Format) -> str:
    """`document` as text that ends in a newline."""
    module = importlib.import_module(f"attnbench.report.as_{fmt.value}")
    text = module.render(document)
    assert isinstance(text, str)
    return text


def emit(document: Document, fmt: Format, output: Path | None) -> None:
    """Write `document` to `output`, else to stdout.

    Raises:
        UserError: `output` cannot be written; nothing is left half-written.
    """
    if output is not None:
        write_atomically(output, render(document, fmt))
        return
    if fmt is Format.TABLE and sys.stdout.isatty():
        from attnbench.report import as_terminal

        sys.stdout.write(as_terminal.render(document))
    else:
        sys.stdout.write(render(document, fmt))
    sys.stdout.flush()
