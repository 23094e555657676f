"""`attnbench plan MODEL`: which GPUs, how many, laid out how, at what speed and cost."""

from pathlib import Path
from typing import Annotated

import typer

from attnbench.calc.plan_answer import answer
from attnbench.calc.plan_solve import Solve, solved
from attnbench.catalog.plan_inputs import hub_id, stored_format
from attnbench.commands import _plan
from attnbench.commands._options import (
    FormatOption,
    JsonOption,
    OutputOption,
    split_names,
    write,
)
from attnbench.engines.serve_command import Engine, launch
from attnbench.report.deployment import document
from attnbench.report.emit import Format

app = typer.Typer(add_completion=False)


@app.command()
def plan(
    model: Annotated[str, typer.Argument(help="Profile, config.json, GGUF, safetensors, hub id.")],
    input_len: Annotated[str, typer.Option(help="Tokens of a prompt: 1k.")] = "1k",
    output_len: Annotated[str, typer.Option(help="Tokens that it asks for: 256.")] = "256",
    trace: Annotated[
        Path | None, typer.Option(help="Lengths of real requests: CSV or JSON lines.")
    ] = None,
    requests_per_s: Annotated[
        float | None, typer.Option(help="Requests that arrive a second.")
    ] = None,
    users: Annotated[
        str | None, typer.Option(help="Users that send one request after another.")
    ] = None,
    ttft_ms: Annotated[float, typer.Option(help="Longest time to the first token.")] = 500,
    itl_ms: Annotated[float, typer.Option(help="Longest mean time between tokens.")] = 50,
    stall_ms: Annotated[
        float | None, typer.Option(help="Longest gap between two tokens; any unless said.")
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(help="GPUs allowed, or all; those with constants and a price unless said."),
    ] = None,
    price: Annotated[
        str | None, typer.Option(help="USD a GPU and hour: h100-sxm=2.5,l40s=0.8.")
    ] = None,
    max_gpus: Annotated[int, typer.Option(help="GPUs at most, in all.")] = 256,
    weight_dtypes: Annotated[
        str | None, typer.Option("--weight-dtypes", "--weight-dtype", help="Formats to try.")
    ] = None,
    kv_dtypes: Annotated[
        str | None, typer.Option("--kv-dtypes", "--kv-dtype", help="Formats of cache to try.")
    ] = None,
    chunks: Annotated[
        str | None, typer.Option(help="Tokens of a prefill a step: none,8k,2k,512.")
    ] = None,
    max_load: Annotated[float, typer.Option(help="Share of capacity to use.")] = 0.8,
    utilization: Annotated[float, typer.Option(help="Share of a GPU's memory to use.")] = 0.9,
    node_gpus: Annotated[int, typer.Option(min=1, max=1024, help="GPUs of a node.")] = 8,
    network_gbps: Annotated[
        float, typer.Option(help="A GPU's share of the network between nodes, Gbit/s.")
    ] = 400,
    engine: Annotated[
        Engine, typer.Option(help="Whose constants, and command line.")
    ] = Engine.VLLM,
    solve: Annotated[
        Solve | None, typer.Option(help="max-context, max-users, min-gpus or min-cost.")
    ] = None,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """What to buy for a model and its traffic, what it will do, and why not something else."""
    asked = _plan.problem(
        model,
        asked=_plan.asked_traffic(input_len, output_len, trace, requests_per_s, users),
        limits=_plan.asked_limits(
            ttft_ms=ttft_ms,
            itl_ms=itl_ms,
            stall_ms=stall_ms,
            max_gpus=max_gpus,
            load=max_load,
            utilization=utilization,
        ),
        engine=engine,
        gpus=split_names(gpus),
        price=price,
        weight_dtypes=split_names(weight_dtypes),
        kv_dtypes=split_names(kv_dtypes),
        chunks=chunks,
        node=node_gpus,
        network_gbps=network_gbps,
    )
    turned = None if solve is None else solved(asked, solve)
    found = answer(asked if turned is None else turned.problem)
    traffic = found.problem.traffic
    started = launch(
        engine,
        found.recommended,
        model=hub_id(asked.model),
        stored_in=stored_format(asked.model),
        longest=traffic.longest,
        input_len=traffic.input_len,
        utilization=utilization,
    )
    write(document(found, started, turned), fmt, json, output)
