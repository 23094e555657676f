"""`attnbench doctor`: what this machine has, what each variant would run on."""

import typer

from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.measure import environment
from attnbench.measure.isolation import run_isolated
from attnbench.measure.survey import survey
from attnbench.report.doctor_document import doctor_document
from attnbench.report.emit import Format

app = typer.Typer(add_completion=False)


@app.command()
def doctor(
    fmt: FormatOption = Format.TABLE, json: JsonOption = False, output: OutputOption = None
) -> None:
    """Show what this machine has, what each variant would run on, and what is missing."""
    missing = environment.missing_packages()
    ended = None if "torch" in missing else run_isolated(survey, "auto")
    document = doctor_document(
        survey=ended.result if ended else None,
        trouble=ended.reason if ended and ended.failed else None,
        versions=environment.versions(),
        system=environment.system(),
        cpu=environment.cpu_name(),
        missing=missing,
    )
    write(document, fmt, json, output)
