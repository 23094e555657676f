"""`attnbench kernels`: what the compiler makes of Triton kernels, and a gate on it; no GPU."""

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from attnbench.commands import _kernels
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.errors import MachineError, NothingToDoError, UserError
from attnbench.files import write_atomically
from attnbench.report import github, junit, kernels
from attnbench.report.emit import Format, render

app = typer.Typer(add_completion=False)
_TITLE = "attnbench kernels check"


@app.callback()
def main() -> None:
    """Judge Triton kernels with no GPU: ours, or one of your own."""


@app.command()
def inspect(
    kernel: _kernels.KernelOption = "",
    target: _kernels.TargetOption = "sm_80,sm_90,sm_100,gfx942",
    head_dims: _kernels.HeadDimsOption = "64,128",
    features: _kernels.FeaturesOption = "plain,causal",
    dtype: _kernels.DtypeOption = "bf16",
    config: _kernels.ConfigOption = "",
    peer: _kernels.PeerOption = "",
    peer_call: _kernels.PeerCallOption = None,
    time_limit: _kernels.TimeLimitOption = 180.0,
    save: Annotated[Path | None, typer.Option(help="Keep binary, assembly and IR there.")] = None,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Compile the shipped kernels, or your own, for GPUs that are not here; show what came out."""
    asked = _kernels.Asked(
        kernel, target, head_dims, features, dtype, config, peer, peer_call, time_limit
    )
    found = _kernels.compiled(asked, save)
    from attnbench.aot import model
    from attnbench.aot.survey import Failed

    failed = [msgspec.to_builtins(r) for r in found if isinstance(r, Failed)]
    rows = [msgspec.to_builtins(r) for r in found if not isinstance(r, Failed)]
    document = kernels.inspect_document(
        rows, failed, triton=_kernels.triton_version(), label=model.LABEL, gpus=model.GPUS
    )
    write(document, fmt, json, output)
    if not found:
        raise NothingToDoError("no kernel has those features")
    if not rows:
        raise MachineError("no kernel could be compiled", hint=failed[0]["why"])


@app.command()
def check(
    budgets: Annotated[
        Path | None, typer.Option(help="The budget file. Default: the shipped one.")
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Write what is so now there.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Every target and set of features.")] = False,
    kernel: _kernels.KernelOption = "",
    target: _kernels.TargetOption = "",
    head_dims: _kernels.HeadDimsOption = "64,128",
    features: _kernels.FeaturesOption = "",
    dtype: _kernels.DtypeOption = "bf16",
    config: _kernels.ConfigOption = "",
    peer: _kernels.PeerOption = "",
    peer_call: _kernels.PeerCallOption = None,
    time_limit: _kernels.TimeLimitOption = 180.0,
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
    """Hold what the compiler makes of each kernel against its budget: exit 1 where one breaks it.

    Without --full: sm_80, sm_90 and gfx942, plain and causal.
    """
    if peer and budgets is None:
        raise UserError("--peer takes --budgets FILE", hint="With --update it is made.")
    asked = _kernels.Asked(
        kernel, target or _kernels.check_targets(full), head_dims,
        features or _kernels.check_features(full), dtype, config, peer, peer_call, time_limit,
    )  # fmt: skip
    from attnbench.aot.budgets import SHIPPED, judge, read_budgets, require_triton, spills
    from attnbench.aot.budgets import update as updated

    path, triton = budgets or SHIPPED, _kernels.triton_version()
    known = None if update and not path.exists() else read_budgets(path)
    if not update:
        assert known is not None
        require_triton(known, triton, path)
    found = _kernels.compiled(asked)
    if not found:
        raise NothingToDoError("no kernel has those features")
    if update:
        text, count = updated(known, found, triton)
        write_atomically(path, text)
        document = kernels.updated_document(
            path, kernels=count, triton=triton, spills=spills(found)
        )
        write(document, fmt, json, output)
        return
    assert known is not None
    verdicts = judge(found, known.kernels)
    shown = [
        kernels.check_document(
            verdicts, kernels=len(found), triton=triton, budgets=path, everything=everything
        )
        for everything in (False, True)
    ]
    if junit_file is not None:
        write_atomically(junit_file, junit.render(verdicts, _TITLE))
    if github_job:
        sys.stderr.writelines(f"{line}\n" for line in github.annotations(verdicts))
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            github.append_summary(Path(summary), render(shown[0], Format.MARKDOWN), _TITLE)
    write(shown[fmt is Format.CSV], fmt, json, output)
    raise typer.Exit(1 if any(verdict.failed for verdict in verdicts) else 0)
