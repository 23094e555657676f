"""`attnbench compare`: the same points of several runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from attnbench.commands._gate import parse_metrics
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.errors import UserError
from attnbench.gate.runs import read_run
from attnbench.gate.side_by_side import side_by_side
from attnbench.report.compared import compare_document
from attnbench.report.emit import Format

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN RUN...")],
    metric: Annotated[str, typer.Option(help="The figure to compare.")] = "time_ms",
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Show the same points of several runs, with each ratio to the first run."""
    names = parse_metrics(metric)
    if len(names) > 1:
        raise UserError(f"--metric: {metric!r} names {len(names)}; compare shows one at a time")
    read = [read_run(run) for run in runs]
    points = side_by_side(read, names[0])
    document = compare_document(points, read, names[0], everything=fmt is Format.CSV)
    write(document, fmt, json, output)
