"""`attnbench sweep`: times every variant at every point, writes a run folder."""

import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from attnbench.catalog import load_model
from attnbench.catalog.yaml_file import read_yaml
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
from attnbench.errors import MachineError, NothingToDoError
from attnbench.files import write_atomically
from attnbench.measure.journal import SUMMARY
from attnbench.measure.plan import make_groups
from attnbench.measure.preset import Preset, load_preset, override
from attnbench.measure.progress import shown_on
from attnbench.measure.rows import slopes
from attnbench.measure.sweep import expected_s, find_device, make_plan, run_sweep
from attnbench.measure.user_kernels import read_user_variants
from attnbench.report.emit import Format, render
from attnbench.report.plan_document import plan_document
from attnbench.report.sweep_document import sweep_document
from attnbench.spec.model import attention_shape
from attnbench.spec.result import ResultRow, Status
from attnbench.units import parse_bytes
from attnbench.variants._settings import parse_settings

app = typer.Typer(add_completion=False)


_FAILED = {Status.ERROR, Status.OOM, Status.TIMEOUT}


@app.command()
def sweep(
    preset: Annotated[str, typer.Option(help="A sweep under profiles/sweeps.")] = "default",
    config: Annotated[Path | None, typer.Option(help="A YAML file in a preset's form.")] = None,
    variants: Annotated[str | None, typer.Option(help="naive,flash,...")] = None,
    variant: VariantOption = None,
    backends: Annotated[str | None, typer.Option(help="eager,sdpa,flex,triton")] = None,
    modes: Annotated[str | None, typer.Option(help="fwd,bwd,fwd_bwd,decode")] = None,
    seq_lens: Annotated[str | None, typer.Option(help="1k,2k or 1k..64k")] = None,
    batches: Annotated[str | None, typer.Option(help="1,8")] = None,
    heads: Annotated[str | None, typer.Option(help="Query heads.")] = None,
    kv_heads: Annotated[str | None, typer.Option(help="KV heads; as heads unless given.")] = None,
    head_dims: Annotated[str | None, typer.Option(help="64,128")] = None,
    dtypes: Annotated[str | None, typer.Option(help="fp32,bf16,fp16")] = None,
    causal: Annotated[bool | None, typer.Option("--causal/--no-causal")] = None,
    params: Annotated[
        list[str] | None, typer.Option(help="VARIANT.SETTING=value,..; VARIANT may be all.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Heads and widths of this model.")] = None,
    device: DeviceOption = DeviceType.AUTO,
    run_dir: Annotated[Path | None, typer.Option(help="Folder for the run.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run there.")] = False,
    time_limit: Annotated[float | None, typer.Option(help="Seconds a step may take.")] = None,
    memory_limit: Annotated[str | None, typer.Option(help="Bytes a point may take: 6GiB.")] = None,
    memory: Annotated[bool, typer.Option(help="Measure each point's memory, untimed.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan only.")] = False,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Time every variant at every point on this machine and write a run folder.

    A flag overrides that field of every grid of the preset. A user's own kernel
    (--variant FILE.py:NAME) is timed beside the others at every point.
    """
    limit = None if memory_limit is None else parse_bytes(memory_limit, what="--memory-limit")
    changes = {
        "variants": split_names(variants),
        "backends": split_names(backends),
        "modes": split_names(modes),
        "dtypes": split_names(dtypes),
        "seq_lens": seq_lens,
        "batches": batches,
        "causal": None if causal is None else "yes" if causal else "no",
        "params": None if params is None else parse_settings(params),
        **_heads_of(model),
        **_given(heads=heads, kv_heads=kv_heads, head_dims=head_dims),
    }
    found = find_device(device)
    read = read_yaml(config, Preset) if config else load_preset(preset, found.type)
    chosen = override(read, _given(**changes), time_limit_s=time_limit)
    users = read_user_variants(variant or [], found.type)
    name = str(config) if config else preset
    plan = make_plan(name, chosen, make_groups(chosen, users), found, limit, memory=memory)
    if dry_run:
        write(plan_document(plan, expected_s(plan)), fmt, json, output)
        return
    folder = run_dir or _new_folder(name, found.name)
    with shown_on(sys.stderr, expected_s(plan)) as progress:
        rows = run_sweep(plan, folder, resume=resume, progress=progress)
    document = sweep_document(rows, folder, slopes=slopes(rows))
    write_atomically(folder / SUMMARY, render(document, Format.MARKDOWN))
    write(document, fmt, json, output)
    print(f"run folder: {folder}", file=sys.stderr)
    _require_something(rows)


def _given(**changes: object) -> dict[str, object]:
    return {key: value for key, value in changes.items() if value is not None}


def _heads_of(model: str | None) -> dict[str, object]:
    if model is None:
        return {}
    shape = attention_shape(load_model(model))
    return {"heads": shape.heads, "kv_heads": shape.kv_heads, "head_dims": shape.key_dim}


def _new_folder(name: str, device: str) -> Path:
    words = re.sub(r"[^a-z0-9]+", "-", f"{Path(name).stem}-{device}".lower()).strip("-")
    return Path("runs") / f"{words[:60]}-{datetime.now():%Y%m%d-%H%M%S}"


def _require_something(rows: list[ResultRow]) -> None:
    """Exit 3 where every point attempted failed, 5 where none was attempted."""
    attempted = [r for r in rows if r.status not in (Status.SKIPPED, Status.UNSUPPORTED)]
    if not attempted:
        raise NothingToDoError("every point was skipped or unsupported; `note` says why")
    if all(row.status in _FAILED for row in attempted):
        raise MachineError(f"every point failed; the first: {attempted[0].note}")
