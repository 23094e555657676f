"""`attnbench selfcheck`: times the same code against itself: this machine's noise floor."""

from pathlib import Path
from typing import Annotated

import typer

from attnbench.commands import _ab
from attnbench.commands._gate import parse_factor
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.gate.selfcheck import noise_floor
from attnbench.gate.verdict import Limits
from attnbench.measure.journal import record_selfcheck, require_run
from attnbench.report.emit import Format
from attnbench.report.selfcheck import selfcheck_document

app = typer.Typer(add_completion=False)


@app.command()
def selfcheck(
    preset: _ab.PresetOption = "selfcheck",
    config: _ab.ConfigOption = None,
    variants: _ab.VariantsOption = None,
    seq_lens: _ab.SeqLensOption = None,
    device: _ab.DeviceOption = "auto",
    pairs: _ab.PairsOption = 5,
    max_slowdown: Annotated[
        float, typer.Option(help="Time may grow by this factor.", callback=parse_factor)
    ] = Limits().max_slowdown,
    record: Annotated[
        Path | None, typer.Option(help="A run folder of this machine to write the noise into.")
    ] = None,
    run_dir: _ab.RunDirOption = None,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Time this code against itself: exit 1 where an unchanged point is called SLOWER."""
    if record is not None:
        require_run(record)
    asked = _ab.Asked(
        preset=preset,
        config=config,
        variants=_ab.names(variants),
        seq_lens=seq_lens,
        device=device,
        pairs=pairs,
        run_dir=run_dir,
    )
    limits = Limits(metrics=("time_ms",), max_slowdown=max_slowdown)
    found, outcome = _ab.repeat(asked, limits)
    floor = noise_floor(found, outcome, limits)
    if record is not None:
        record_selfcheck(record, log_sd=floor.record.log_sd, dof=floor.record.dof)
    write(selfcheck_document(floor, found[0][0], limits, record), fmt, json, output)
    raise typer.Exit(1 if floor.outcome.failed else 0)
