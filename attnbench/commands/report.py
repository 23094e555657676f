"""`attnbench report`: run folders as one page, with charts."""

import re
from pathlib import Path
from typing import Annotated

import typer

from attnbench.commands._options import JsonOption, OutputOption, write
from attnbench.errors import NothingToDoError, UserError
from attnbench.files import cannot_write, write_atomically
from attnbench.gate.runs import read_run
from attnbench.measure.journal import read_run as read_about
from attnbench.quality.answer import joined
from attnbench.report.chart import png_of
from attnbench.report.document import Document
from attnbench.report.emit import Format
from attnbench.report.run_report import Reading, report_document
from attnbench.spec.result import Status

app = typer.Typer(add_completion=False)

_ENDINGS = {
    ".html": Format.HTML, ".htm": Format.HTML, ".md": Format.MARKDOWN, ".json": Format.JSON,
    ".csv": Format.CSV, ".txt": Format.TABLE,
}  # fmt: skip


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN...")],
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw each chart there, as PNG.")
    ] = None,
    fmt: Annotated[
        Format | None,
        typer.Option("--format", help="By --output's ending unless said; else a table."),
    ] = None,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Tables and charts of one run, or of several beside the first.

    `--output page.html` makes one page that needs nothing else.
    """
    document = report_document([_read(run) for run in runs])
    if plots is not None:
        _draw(document, plots)
    if fmt is None:
        fmt = _ENDINGS.get(output.suffix.lower()) if output else Format.TABLE
        if fmt is None:
            raise UserError(
                f"--output {output}: no format ends so",
                hint=f"End it in one of {', '.join(_ENDINGS)}, or name a --format.",
            )
    write(document, fmt, json, output)


def _read(folder: Path) -> Reading:
    run = read_run(folder)
    rows = list(run.rows.values())
    timed = any(row.status == Status.OK for row in rows)
    about = read_about(folder)
    return Reading(about=about, run=run, joined=joined(folder, rows) if timed else None)


def _draw(document: Document, folder: Path) -> None:
    """Write the charts as FOLDER/NAME.png, named by their titles."""
    if not document.charts:
        raise NothingToDoError("no point has a time; there is nothing to draw")
    drawn = png_of(document.charts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    for chart, picture in zip(document.charts, drawn, strict=True):
        name = re.sub(r"[^a-z0-9]+", "-", chart.title.lower()).strip("-")
        write_atomically(folder / f"{name}.png", picture)
