"""`attnbench verify`: proves each variant on this device."""

import sys
from typing import Annotated

import typer

from attnbench.commands._options import (
    DeviceOption,
    DeviceType,
    FormatOption,
    JsonOption,
    OutputOption,
    VariantOption,
    split_names,
    write,
)
from attnbench.errors import NothingToDoError
from attnbench.measure.sweep import find_device
from attnbench.measure.user_kernels import read_user_variants
from attnbench.report.emit import Format
from attnbench.report.verification import verify_document
from attnbench.verification.finding import Finding, Skip, Subject
from attnbench.verification.suite import find_subjects, parse_dtypes, share_imports
from attnbench.verification.suite import verify as run_checks

app = typer.Typer(add_completion=False)


@app.command()
def verify(
    device: DeviceOption = DeviceType.AUTO,
    variants: Annotated[str | None, typer.Option(help="naive,flash,... Default: all.")] = None,
    backends: Annotated[str | None, typer.Option(help="eager,sdpa,flex,triton")] = None,
    variant: VariantOption = None,
    dtypes: Annotated[
        str | None, typer.Option(help="fp32,bf16,fp16,fp8,... Default: that ladder.")
    ] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds without a reading.", min=1.0)] = 120.0,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Prove each variant on this device: exit 1 where a check fails.

    With --variant FILE.py:NAME alone, that kernel of your own is verified alone.
    """
    wanted = parse_dtypes(split_names(dtypes))
    share_imports()
    found = find_device(device)
    users = read_user_variants(variant or [], found.type)
    subjects = find_subjects(split_names(variants), split_names(backends), users)
    results = run_checks(
        subjects, device_type=found.type, dtypes=wanted, time_limit_s=time_limit, progress=_tell
    )
    findings = [r for r in results if isinstance(r, Finding)]
    write(verify_document(results, found.name), fmt, json, output)
    if not findings:
        raise NothingToDoError("no variant asked for runs on this device; `skipped` says why")
    raise typer.Exit(0 if all(f.passed for f in findings) else 1)


def _tell(subject: Subject, results: list[Finding | Skip]) -> None:
    checks = [r for r in results if isinstance(r, Finding)]
    failed = sorted({r.check for r in checks if not r.passed})
    ended = f"FAILED: {', '.join(failed)}" if failed else "ok" if checks else "skipped"
    print(f"{subject.label}: {len(checks)} checks, {ended}", file=sys.stderr)
