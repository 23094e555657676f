"""`attnbench phases`: prefill and decode of a real model, timed here."""

from typing import Annotated

import msgspec
import typer

from attnbench.commands._options import (
    DeviceOption,
    DeviceType,
    FormatOption,
    JsonOption,
    OutputOption,
    write,
)
from attnbench.errors import UserError
from attnbench.report.emit import Format
from attnbench.spec.dtype import parse_dtype
from attnbench.units import parse_length

app = typer.Typer(add_completion=False)


@app.command()
def phases(
    model: Annotated[str, typer.Argument(help="Profile, config.json, folder or hub id.")],
    prompt_len: Annotated[str, typer.Option(help="Tokens of the prompt.")] = "512",
    new_tokens: Annotated[str, typer.Option(help="Tokens generated, two or more.")] = "32",
    batch: Annotated[str, typer.Option(help="Sequences at once.")] = "1",
    dtype: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "bf16",
    layers: Annotated[
        int | None, typer.Option(help="Keep the first N layers alone, weights drawn.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=2, help="Times that all is done, timed.")] = 5,
    uncached: Annotated[
        bool, typer.Option("--uncached/--no-uncached", help="Time steps without a cache too.")
    ] = True,
    device: DeviceOption = DeviceType.AUTO,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """TTFT, time between tokens and cache growth of a model, with and without a cache.

    Weights are read where MODEL is a folder that holds safetensors, else drawn.
    """
    from attnbench.measure.sweep import find_device
    from attnbench.phases.answer import answer_of, predicted_cache
    from attnbench.phases.model import build, find_source, torch_dtype, weight_bytes
    from attnbench.phases.run import Traffic, run_phases
    from attnbench.report.phases_document import phases_document

    kind = torch_dtype(parse_dtype(dtype))
    traffic = Traffic(
        prompt_len=parse_length(prompt_len, what="--prompt-len"),
        new_tokens=parse_length(new_tokens, what="--new-tokens", minimum=2),
        batch=parse_length(batch, what="--batch"),
        rounds=rounds,
    )
    source = find_source(model, layers=layers)
    spec = source.spec()
    longest = traffic.prompt_len + traffic.new_tokens
    if spec.max_position is not None and longest > spec.max_position:
        raise UserError(
            f"--prompt-len, --new-tokens: {longest} tokens; {model} takes {spec.max_position}"
        )
    found = find_device(device)
    needed = weight_bytes(spec, kind) + predicted_cache(
        spec, longest, batch=traffic.batch, dtype=kind
    )
    built = build(source, dtype=kind, device=found, needed_bytes=needed)
    timed = run_phases(built, traffic, uncached=uncached)
    answer = answer_of(
        timed, spec, dtype=kind, device=found, traffic=traffic, drawn=source.weights is None
    )
    write(phases_document(msgspec.structs.replace(answer, model=model)), fmt, json, output)
