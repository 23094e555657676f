"""`attnbench check`: stops a run whose points got slower, hungrier or less exact."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from attnbench.commands import _ab
from attnbench.commands._gate import (
    bless_run,
    parse_factor,
    parse_metrics,
    require_alone,
    require_timed,
)
from attnbench.commands._options import (
    FormatOption,
    JsonOption,
    OutputOption,
    VariantOption,
    write,
)
from attnbench.errors import UserError
from attnbench.files import write_atomically
from attnbench.gate.baseline import Baseline, read_baseline
from attnbench.gate.check import check as judge
from attnbench.gate.check import of_variants
from attnbench.gate.runs import read_run
from attnbench.gate.verdict import Limits, Missing
from attnbench.report import github, junit
from attnbench.report.emit import Format, render
from attnbench.report.verdicts import check_document

app = typer.Typer(add_completion=False)
DEFAULT = Limits()


def _factor(what: str) -> Any:
    return typer.Option(help=f"{what} may grow by this factor.", callback=parse_factor)


@app.command()
def check(
    run: Annotated[
        Path | None, typer.Argument(help="The run folder to judge.", metavar="[RUN]")
    ] = None,
    baseline: Annotated[Path | None, typer.Option(help="A run folder or a baseline file.")] = None,
    metric: Annotated[
        str, typer.Option(help="Which figures to judge, beside status and the mathematics.")
    ] = ",".join(DEFAULT.metrics),
    max_slowdown: Annotated[float, _factor("Time")] = DEFAULT.max_slowdown,
    max_memory_growth: Annotated[float, _factor("Memory")] = DEFAULT.max_memory_growth,
    max_error_growth: Annotated[float, _factor("An error")] = DEFAULT.max_error_growth,
    relative_to: Annotated[
        str, typer.Option(help="Compare ratios to this variant; 'none': times as they are.")
    ] = "none",
    missing: Annotated[
        Missing, typer.Option(help="What a point or figure that is lost does.")
    ] = DEFAULT.missing,
    ab: Annotated[
        str | None,
        typer.Option(metavar="GITREF", help="Time that revision and this one, interleaved."),
    ] = None,
    preset: _ab.PresetOption = "smoke",
    config: _ab.ConfigOption = None,
    variants: _ab.VariantsOption = None,
    seq_lens: _ab.SeqLensOption = None,
    variant: VariantOption = None,
    device: _ab.DeviceOption = "auto",
    pairs: _ab.PairsOption = 10,
    run_dir: _ab.RunDirOption = None,
    update: Annotated[bool, typer.Option("--update", help="Bless RUN: add it to FILE.")] = False,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", help="Write JUnit XML there as well.")
    ] = None,
    github_job: Annotated[
        bool, typer.Option("--github", help="Add annotations and a step summary.")
    ] = False,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Judge RUN by a baseline, or this code by a revision: exit 1 where a point got worse.

    With --ab no RUN is given: both revisions are timed, pair after pair of fresh processes.
    With --variant FILE.py:NAME that kernel of your own alone is judged; RUN must have been
    timed with the file as it is now (exit 4).
    """
    limits = Limits(
        metrics=parse_metrics(metric),
        max_slowdown=max_slowdown,
        max_memory_growth=max_memory_growth,
        max_error_growth=max_error_growth,
        relative_to=None if relative_to == "none" else relative_to,
        missing=missing,
    )
    if ab is not None:
        require_alone(
            "--ab", run=run, baseline=baseline, update=update, relative_to=limits.relative_to
        )
        asked = _ab.Asked(
            preset=preset, config=config, variants=_ab.names(variants), seq_lens=seq_lens,
            own=tuple(variant or ()), device=device, pairs=pairs, run_dir=run_dir,
        )  # fmt: skip
        other, made, outcome = _ab.compare_revisions(ab, asked, limits)
        current, before = made[0][1], Baseline(label=other.name, runs=(made[0][0],))
    else:
        if run is None or baseline is None:
            raise UserError("check takes RUN and --baseline, or --ab GITREF")
        own = require_timed(variant or [], run, update=update)
        current = read_run(run)
        if update:
            write(bless_run(current, baseline), fmt, json, output)
            return
        before = read_baseline(baseline, current, any_device=limits.relative_to is not None)
        outcome = judge(current, before, limits)
        if own:
            outcome = of_variants(outcome, own, before.label)
    shown = [check_document(outcome, current, before, limits, everything=e) for e in (False, True)]
    if junit_file is not None:
        write_atomically(junit_file, junit.render(outcome.verdicts))
    if github_job:
        sys.stderr.writelines(f"{line}\n" for line in github.annotations(outcome.verdicts))
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            github.append_summary(Path(summary), render(shown[0], Format.MARKDOWN))
    write(shown[fmt is Format.CSV], fmt, json, output)
    raise typer.Exit(1 if outcome.failed else 0)
