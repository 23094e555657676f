"""Writes a document in the format asked for: to stdout, or to a file, atomically."""

import enum
import importlib
import os
import sys
import tempfile
from pathlib import Path

from attnbench.errors import UserError
from attnbench.report.document import Document


class Format(enum.StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


def render(document: Document, fmt: Format, *, width: int | None = None) -> str:
    """`document` as text that ends in a newline."""
    module = importlib.import_module(f"attnbench.report.as_{fmt.value}")
    text = module.render(document, width) if fmt is Format.TABLE else module.render(document)
    assert isinstance(text, str)
    return text


def emit(document: Document, fmt: Format, output: Path | None) -> None:
    """Write `document` to `output`, else to stdout.

    Raises:
        UserError: `output` cannot be written; nothing is left half-written.
    """
    if output is not None:
        write_atomically(output, render(document, fmt, width=120))
        return
    sys.stdout.write(render(document, fmt))
    sys.stdout.flush()


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` whole or not at all: a temporary file, then a rename.

    Raises:
        UserError: the folder is missing or cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise UserError(f"{path}: {error.strerror}") from None
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
