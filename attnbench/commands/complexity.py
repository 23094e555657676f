"""`attnbench complexity`: the quadratic wall, a variant at a time, over lengths."""

from typing import Annotated

import typer

from attnbench.catalog.hardware import load_gpu
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.report.complexity import document
from attnbench.report.emit import Format
from attnbench.spec.attention import Mode
from attnbench.spec.dtype import parse_dtype
from attnbench.units import parse_length, parse_lengths
from attnbench.variants import variant_names
from attnbench.variants._roofline import Ask, answer, parse_params

app = typer.Typer(add_completion=False)


@app.command()
def complexity(
    variant: Annotated[str, typer.Option(help="Variants, or all.")] = "all",
    seq_lens: Annotated[str, typer.Option(help="Lengths: 1k..1m doubles.")] = "1k..1m",
    batch: Annotated[str, typer.Option(help="Sequences.")] = "1",
    heads: Annotated[str, typer.Option(help="Query heads; scores are printed for all.")] = "1",
    kv_heads: Annotated[str, typer.Option(help="KV heads.")] = "1",
    head_dim: Annotated[str, typer.Option(help="Width of a head.")] = "128",
    dtype: Annotated[str, typer.Option(help="Dtype.")] = "fp16",
    params: Annotated[str, typer.Option(help="Settings of variants: window=256,sink=4.")] = "",
    gpu: Annotated[str, typer.Option(help="A hardware profile.")] = "h100-sxm",
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Scores, memory and predicted time of each variant as sequences grow."""
    ask = Ask(
        variants=variant_names() if variant == "all" else tuple(variant.split(",")),
        gpus=(load_gpu(gpu),),
        modes=(Mode.FWD,),
        seq_lens=parse_lengths(seq_lens, what="--seq-lens"),
        batch=parse_length(batch, what="--batch"),
        heads=parse_length(heads, what="--heads"),
        kv_heads=parse_length(kv_heads, what="--kv-heads"),
        head_dim=parse_length(head_dim, what="--head-dim"),
        dtype=parse_dtype(dtype),
        params=parse_params(params, None),
    )
    write(document(answer(ask)), fmt, json, output)
