"""Options that every command shares."""

import enum
import sys
from pathlib import Path
from typing import Annotated

import typer

from attnbench.errors import UserError
from attnbench.report.document import Document
from attnbench.report.emit import Format, emit


class DeviceType(enum.StrEnum):
    """What `--device` takes."""

    AUTO = "auto"
    CUDA = "cuda"
    CPU = "cpu"


DeviceOption = Annotated[DeviceType, typer.Option("--device", help="cuda is ROCm too.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the result.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Short for --format json.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", help="Write the result there, atomically.")
]
VariantOption = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE.py:NAME", help="A kernel of your own: docs/user_kernels.md."),
]


def split_names(text: str | None) -> list[str] | None:
    """The words of a comma list; None where the option is not given."""
    return None if text is None else [word.strip() for word in text.split(",")]


def write(document: Document, fmt: Format, json: bool, output: Path | None) -> None:
    """Emit `document` as the shared options ask.

    Raises:
        UserError: `--json` beside another `--format`, or `output` cannot be written.
    """
    if json and fmt not in (Format.TABLE, Format.JSON):
        raise UserError(f"--json and --format {fmt} ask for two formats")
    for warning in document.warnings:
        print(f"attnbench: warning: {warning}", file=sys.stderr)
    emit(document, Format.JSON if json else fmt, output)
