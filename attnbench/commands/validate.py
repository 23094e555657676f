"""`attnbench validate`: attnbench against corpora of real models and engines' logs."""

from pathlib import Path
from typing import Annotated

import typer

from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.report.emit import Format
from attnbench.report.validation import document
from attnbench.validation import corpora

app = typer.Typer(add_completion=False)


@app.command()
def validate(
    corpus: Annotated[
        Path | None,
        typer.Option(help="A YAML of engine logs, or a folder of models; default: all shipped."),
    ] = None,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Predict every row of a corpus from its inputs, and compare with what was reported."""
    write(document(corpora.rows(corpus), corpus), fmt, json, output)
