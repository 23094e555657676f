"""Writes a document in the format asked for: to stdout, or to a file, atomically."""

import enum
import importlib
import sys
from pathlib import Path

from attnbench.files import cannot_write, write_atomically
from attnbench.report.document import Document


class Format(enum.StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    HTML = "html"


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
        MachineError: the disk that it, or stdout, goes to is full.
    """
    if output is not None:
        write_atomically(output, render(document, fmt))
        return
    if fmt is Format.TABLE and sys.stdout.isatty():
        from attnbench.report import as_terminal

        text = as_terminal.render(document)
    else:
        text = render(document, fmt)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write(Path("stdout"), error) from None
