"""`attnbench calibrate RUN`: the roofline's constants from one's own sweep."""

from pathlib import Path
from typing import Annotated

import typer

from attnbench.calibration.own import calibrate as fit
from attnbench.calibration.write import profile_yaml
from attnbench.catalog.hardware import load_gpu
from attnbench.commands._options import FormatOption, JsonOption, write
from attnbench.files import write_atomically
from attnbench.report.calibrated import document
from attnbench.report.emit import Format

app = typer.Typer(add_completion=False)


@app.command()
def calibrate(
    run: Annotated[Path, typer.Argument(help="A run folder of `attnbench sweep`.")],
    gpu: Annotated[
        str | None, typer.Option(help="Hardware profile, where the run's device has none.")
    ] = None,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Write the GPU's profile with the constants there, as YAML."),
    ] = None,
) -> None:
    """Fit the roofline's constants to a run, and write a profile that --gpu takes."""
    made = fit(run, load_gpu(gpu) if gpu else None)
    if output is not None:
        write_atomically(output, profile_yaml(made.gpu))
    write(document(made, output), fmt, json, None)
