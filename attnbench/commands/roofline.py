"""`attnbench roofline`: FLOPs, bytes, intensity, predicted time and bound of a variant."""

from typing import Annotated

import typer

from attnbench.catalog import load_model
from attnbench.catalog.hardware import gpu_names, load_gpu
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.report.emit import Format
from attnbench.report.roofline import document
from attnbench.spec.attention import Mode
from attnbench.spec.dtype import parse_dtype
from attnbench.spec.model import attention_shape
from attnbench.units import parse_length, parse_lengths
from attnbench.variants import variant_names
from attnbench.variants._predict import Class
from attnbench.variants._roofline import Ask, answer, parse_params

app = typer.Typer(add_completion=False)


@app.command()
def roofline(
    variant: Annotated[str, typer.Option(help="Variants, or all.")] = "flash",
    seq_len: Annotated[str, typer.Option(help="Tokens of keys: 4096, 4k, 1k..64k.")] = "4k",
    seq_q: Annotated[
        str | None, typer.Option(help="Tokens of queries; as keys unless said.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Sequences.")] = "1",
    heads: Annotated[str, typer.Option(help="Query heads.")] = "32",
    kv_heads: Annotated[str | None, typer.Option(help="KV heads; 8, or as heads under 8.")] = None,
    head_dim: Annotated[str, typer.Option(help="Width of a head.")] = "128",
    model: Annotated[str | None, typer.Option(help="Heads and widths of this model.")] = None,
    mode: Annotated[str, typer.Option(help="fwd, bwd, fwd_bwd, decode; a list.")] = "fwd",
    dtype: Annotated[str, typer.Option(help="Dtype of queries, keys and values.")] = "bf16",
    kv_dtype: Annotated[str | None, typer.Option(help="Dtype of a cache, where not that.")] = None,
    causal: Annotated[bool, typer.Option(help="Causal, where the variant has that form.")] = True,
    window: Annotated[
        str | None, typer.Option(help="Window of the variants that have one.")
    ] = None,
    params: Annotated[str, typer.Option(help="Settings of variants: window=256,sink=4.")] = "",
    backend: Annotated[Class | None, typer.Option(help="Class of backend.")] = None,
    gpu: Annotated[str, typer.Option(help="A hardware profile, a list, or all.")] = "h100-sxm",
    engine: Annotated[
        str | None, typer.Option(help="Whose kernel: vllm, sglang, trtllm, fa3, cudnn, triton...")
    ] = None,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """What physics allows an attention variant on a GPU, and what a good kernel makes of it."""
    settings = parse_params(params, window)
    n_heads, width = parse_length(heads, what="--heads"), parse_length(head_dim, what="--head-dim")
    n_kv = parse_length(kv_heads, what="--kv-heads") if kv_heads else min(8, n_heads)
    if model is not None:
        shape = attention_shape(load_model(model))
        n_heads, n_kv, width = shape.heads, shape.kv_heads, shape.key_dim
    ask = Ask(
        variants=variant_names() if variant == "all" else tuple(variant.split(",")),
        gpus=tuple(load_gpu(name) for name in (gpu_names() if gpu == "all" else gpu.split(","))),
        modes=tuple(parse_mode(name) for name in mode.split(",")),
        seq_lens=parse_lengths(seq_len, what="--seq-len"),
        batch=parse_length(batch, what="--batch"),
        heads=n_heads,
        kv_heads=n_kv,
        head_dim=width,
        dtype=parse_dtype(dtype),
        kv_dtype=parse_dtype(kv_dtype, what="--kv-dtype") if kv_dtype else None,
        causal=causal,
        seq_q=parse_length(seq_q, what="--seq-q") if seq_q else None,
        params=settings,
        how=backend,
        engine=engine,
    )
    write(document(answer(ask)), fmt, json, output)


def parse_mode(name: str) -> Mode:
    """The mode called `name`.

    Raises:
        UserError: there is none of that name.
    """
    from attnbench.errors import unknown_name

    if name not in [mode.value for mode in Mode]:
        raise unknown_name("mode", name, [mode.value for mode in Mode])
    return Mode(name)
