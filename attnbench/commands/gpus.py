"""`attnbench gpus`: the accelerators there are, and `gpus show NAME`: one with its sources."""

import msgspec
import typer

from attnbench.catalog.hardware import gpu_names, load_gpu
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.report.document import Column, Document, Table
from attnbench.report.emit import Format
from attnbench.spec.hardware import HardwareSpec
from attnbench.units import format_figure, format_gb, format_rate

app = typer.Typer(add_completion=False)


def _flops(value: float) -> str:
    return format_rate(value, "FLOP/s")


_COLUMNS = (
    Column(key="name", heading="GPU"),
    Column(key="title", heading="is"),
    Column(key="memory_bytes", heading="memory (GB = 10^9)", show=format_gb, right=True),
    Column(
        key="bandwidth_bytes_per_s",
        heading="bandwidth",
        show=lambda value: format_rate(value, "B/s"),
        right=True,
    ),
    Column(key="fp16", heading="fp16, dense", show=_flops, right=True),
    Column(key="bf16", heading="bf16, dense", show=_flops, right=True),
    Column(key="fp8", heading="fp8, dense", show=_flops, right=True),
    Column(key="sm_count", heading="SMs", right=True),
    Column(key="target", heading="target"),
)


@app.callback(invoke_without_command=True)
def gpus(
    context: typer.Context,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """List the accelerators there are; `gpus show NAME` prints one with its sources."""
    if context.invoked_subcommand is not None:
        return
    rows = [_row(load_gpu(name)) for name in gpu_names()]
    table = Table(columns=_COLUMNS, rows=[[row[c.key] for c in _COLUMNS] for row in rows])
    notes = ("Memory is what a program can use where that is known, else the capacity as sold.",)
    document = Document(
        schema="attnbench.gpus/1", data={"gpus": rows}, tables=(table,), notes=notes
    )
    write(document, fmt, json, output)


@app.command()
def show(
    name: str,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Print one accelerator: every figure, what was measured, and where each was read."""
    spec = load_gpu(name)
    whole = msgspec.to_builtins(spec)
    data = {
        **whole,
        "memory_bytes": spec.memory_bytes,
        "bandwidth_bytes_per_s": spec.bandwidth_bytes_per_s,
    }
    columns = (
        Column(key="figure", heading="figure"),
        Column(key="value", heading="value"),
        Column(key="reads", heading="that is"),
    )
    rows = [
        (f"{part}.{key}", value, format_figure(key, value))
        for part in ("published", "measured")
        for key, value in _leaves(whole[part] or {})
    ]
    rows.append(("memory_bytes", spec.memory_bytes, f"{format_gb(spec.memory_bytes)}, counted on"))
    notes = [
        f"{spec.name}: {spec.title}",
        f"Memory counted on: {spec.memory_meaning}.",
        *([f"Note: {spec.note}"] if spec.note else []),
        *([f"Not read again: {spec.not_re_read}"] if spec.not_re_read else []),
        f"Known to drivers as: {', '.join(spec.device_names)}",
        *(f"Source: {source}" for source in spec.source),
        *(f"Measured, {source}" for source in (spec.measured.source if spec.measured else ())),
    ]
    table = Table(columns=columns, rows=rows)
    document = Document(
        schema="attnbench.gpus.show/1", data=data, tables=(table,), notes=tuple(notes)
    )
    write(document, fmt, json, output)


def _row(spec: HardwareSpec) -> dict[str, object]:
    peaks = msgspec.to_builtins(spec.published.peak_flops_per_s)
    return {
        "name": spec.name,
        "title": spec.title,
        "vendor": spec.vendor,
        "architecture": spec.architecture,
        "target": spec.target,
        "memory_bytes": spec.memory_bytes,
        "bandwidth_bytes_per_s": spec.bandwidth_bytes_per_s,
        **{key: peaks[key] and peaks[key] / spec.devices for key in ("fp16", "bf16", "fp8")},
        "sm_count": spec.sm_count,
        "source": spec.source,
    }


def _leaves(tree: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    """Each figure of `tree` under its dotted key; what no page said is left out."""
    found: list[tuple[str, object]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            found += _leaves(value, f"{prefix}{key}.")
        elif value is not None and key != "source":
            found.append((prefix + key, value))
    return found
