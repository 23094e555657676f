"""`attnbench quality`: each variant's error, and what attention looks at."""

from pathlib import Path
from typing import Annotated

import typer

from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.commands._quality import Asked, find
from attnbench.files import write_atomically
from attnbench.report.emit import Format
from attnbench.report.png import draw_png
from attnbench.report.quality import document, picture
from attnbench.units import parse_length

app = typer.Typer(add_completion=False)


@app.command()
def quality(
    variants: Annotated[str | None, typer.Option(help="sliding_window,performer,...")] = None,
    inputs: Annotated[
        str | None,
        typer.Option(help="gaussian,needle,model; the first two unless --model or --run."),
    ] = None,
    seq_len: Annotated[str, typer.Option(help="Tokens of made inputs.")] = "2k",
    heads: Annotated[int, typer.Option(min=1, help="Heads of made inputs.")] = 4,
    head_dim: Annotated[int, typer.Option(min=1, help="Width of made inputs' heads.")] = 64,
    causal: Annotated[
        bool, typer.Option("--causal/--no-causal", help="Made inputs; a model has its own form.")
    ] = True,
    window: Annotated[int | None, typer.Option(min=1, help="Window of those with one.")] = None,
    params: Annotated[
        list[str] | None, typer.Option(help="NAME:key=value,...; may be given again.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="`minilm`, or a folder with a safetensors checkpoint.")
    ] = None,
    text: Annotated[Path | None, typer.Option(help="UTF-8 text for the model.")] = None,
    tokens: Annotated[str, typer.Option(help="Tokens of each sequence of the text.")] = "512",
    sinks: Annotated[int, typer.Option(min=1, help="First tokens that count as sinks.")] = 4,
    run: Annotated[Path | None, typer.Option(help="A run folder: frontier and crossovers.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw heads, or needles, there.")] = None,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Each variant's error against exact attention, beside its speed in a run.

    On Gaussian inputs, on needles, and on a real model's queries, keys and values.
    """
    found = find(
        Asked(
            variants=variants, inputs=inputs, heads=heads, head_dim=head_dim, causal=causal,
            seq_len=parse_length(seq_len, what="--seq-len", minimum=2),
            tokens=parse_length(tokens, what="--tokens", minimum=2),
            window=window, params=tuple(params or ()), model=model, text=text, sinks=sinks,
            run=run, drawn=png is not None,
        )
    )  # fmt: skip
    if png is not None:
        drawn = picture(found)
        write_atomically(
            png,
            draw_png(drawn.panels, title=drawn.title, across=drawn.across, size=drawn.size),
        )
    write(document(found), fmt, json, output)
