"""Options that every command shares."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from attnbench.errors import UserError
from attnbench.report.document import Document
from attnbench.report.emit import Format, emit

FormatOption = Annotated[Format, typer.Option("--format", help="How to print the result.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Short for --format json.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", help="Write the result there, atomically.")
]


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
