"""`attnbench kernels inspect`: what the compiler made of our kernels, with no GPU."""

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.errors import MachineError, missing_extra
from attnbench.report.document import Column, Document, Table
from attnbench.report.emit import Format
from attnbench.units import format_gib, parse_lengths

app = typer.Typer(add_completion=False)

_COLUMNS = (
    Column(key="entry", heading="kernel"),
    Column(key="target", heading="target"),
    Column(key="head_dim", heading="D", right=True),
    Column(key="features", heading="features"),
    Column(key="config", heading="tile, warps, stages", show=lambda c: _shown_config(c)),
    Column(key="registers", heading="registers", right=True),
    Column(key="spill_bytes", heading="spill", show=format_gib, right=True),
    Column(key="shared_bytes", heading="shared", show=format_gib, right=True),
    Column(key="ctas_per_sm", heading="CTAs/SM", right=True),
    Column(key="ctas_limit", heading="limited by"),
    Column(key="mma", heading="MMA"),
    Column(key="mma_redundancy", heading="redundancy", show="{:.2f}".format, right=True),
    Column(key="load_bits", heading="load bits", right=True),
    Column(key="exp2_overlap", heading="exp2 overlap", show="{:.2f}".format, right=True),
    Column(key="loop_instructions", heading="loop instr.", right=True),
)
_NOTES = (
    "Read from the machine code of the compiler installed; nothing was run on a GPU.",
    "spill: bytes a thread; redundancy: FLOPs executed over FLOPs wanted, in the main loop.",
)


@app.callback()
def kernels() -> None:
    """Judge the Triton kernels with no GPU."""


@app.command()
def inspect(
    kernel: Annotated[str, typer.Option(help="Families, comma-separated. Default: all.")] = "",
    target: Annotated[str, typer.Option(help="GPU targets.")] = "sm_80,sm_90,sm_100,gfx942",
    head_dims: Annotated[str, typer.Option(help="Widths of a head.")] = "64,128",
    features: Annotated[str, typer.Option(help="Sets of features.")] = "plain,causal",
    dtype: Annotated[str, typer.Option(help="fp16, bf16 or fp32.")] = "bf16",
    save: Annotated[Path | None, typer.Option(help="Keep binary, assembly and IR there.")] = None,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Compile the shipped kernels for GPUs that are not here; show what came out."""
    for package in ("torch", "triton"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, "bench")
    from attnbench.aot.survey import Failed, jobs_for, survey

    jobs = jobs_for(
        kernels=kernel.split(",") if kernel else None,
        targets=target.split(","),
        head_dims=parse_lengths(head_dims, what="--head-dims"),
        features=features.split(","),
        dtype=dtype,
    )
    results = list(survey(jobs, save=save, tell=_tell))
    failed = [msgspec.to_builtins(r) for r in results if isinstance(r, Failed)]
    rows = [msgspec.to_builtins(r) for r in results if not isinstance(r, Failed)]
    document = Document(
        schema="attnbench.kernels-inspect/1",
        data={"kernels": rows, "failed": failed},
        tables=(Table(columns=_COLUMNS, rows=[[r[c.key] for c in _COLUMNS] for r in rows]),),
        notes=(*_NOTES, *(row["why"] for row in failed)),
    )
    write(document, fmt, json, output)
    if not rows:
        raise MachineError("no kernel could be compiled", hint=failed[0]["why"])


def _tell(job: object) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[Kcompiling {job}", end="", file=sys.stderr)


def _shown_config(config: dict[str, int]) -> str:
    sizes = [str(size) for name, size in config.items() if name.startswith("block_")]
    counts = [f"{name[4]}{n}" for name, n in config.items() if name.startswith("num_")]
    known = ("block_", "num_")
    others = [f"{name}={n}" for name, n in config.items() if n and not name.startswith(known)]
    return " ".join(["×".join(sizes), *counts, *others])
