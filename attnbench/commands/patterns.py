"""`attnbench patterns`: draws each sparse pattern; its density, field and cost."""

from pathlib import Path
from typing import Annotated

import typer

from attnbench.calc.pattern_answer import PatternAnswer
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.commands._patterns import answer_of, patterns_of
from attnbench.files import write_atomically
from attnbench.report.emit import Format
from attnbench.report.patterns import document, panels
from attnbench.report.png import draw_png
from attnbench.spec.attention import AttentionShape
from attnbench.spec.dtype import parse_dtype
from attnbench.units import parse_length

app = typer.Typer(add_completion=False)
_GRIDS = {True: (32, 64), False: (16, 32)}  # of characters, for one pattern and for several
_PIXELS = 240


@app.command()
def patterns(
    name: Annotated[str | None, typer.Argument(help="A pattern; all unless named.")] = None,
    seq_len: Annotated[str, typer.Option(help="Tokens: 4096, 4k, 1m.")] = "4k",
    window: Annotated[
        int | None, typer.Option(min=1, help="Window of those that have one.")
    ] = None,
    params: Annotated[str | None, typer.Option(help="NAME's settings: window=256,sink=4.")] = None,
    causal: Annotated[bool, typer.Option("--causal/--no-causal")] = True,
    layers: Annotated[
        int, typer.Option(min=1, max=1000, help="Layers to show the receptive field of.")
    ] = 4,
    token: Annotated[
        int | None, typer.Option(help="Position whose receptive field is shown; the last.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Sequences, for the cost.")] = 1,
    heads: Annotated[int, typer.Option(min=1, help="Query heads, for the cost.")] = 8,
    kv_heads: Annotated[int | None, typer.Option(min=1, help="KV heads; as heads.")] = None,
    head_dim: Annotated[int, typer.Option(min=1, help="Width of a head, for the cost.")] = 64,
    dtype: Annotated[str, typer.Option(help="For the bytes.")] = "bf16",
    png: Annotated[Path | None, typer.Option(help="Draw a PNG there as well.")] = None,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Draw each sparse pattern: density, receptive field through layers, cost terms."""
    tokens = parse_length(seq_len, what="--seq-len")
    shape = AttentionShape(
        batch=batch, heads=heads, kv_heads=kv_heads or heads, seq_q=tokens, seq_kv=tokens,
        head_dim=head_dim, causal=causal, dtype=parse_dtype(dtype),
    )  # fmt: skip
    chosen = patterns_of(name, params, window)

    def answers(grid: tuple[int, int]) -> dict[str, PatternAnswer]:
        return {
            variant: answer_of(variant, settings, shape, layers=layers, token=token, grid=grid)
            for variant, settings in chosen.items()
        }

    if png is not None:
        drawn = draw_png(
            panels(answers((_PIXELS, _PIXELS))), title=shape.label, across=3, size=2 * _PIXELS
        )
        write_atomically(png, drawn)
    write(document(answers(_GRIDS[name is not None]), shape, chosen), fmt, json, output)
