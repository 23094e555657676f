"""`attnbench kv-cache MODEL`: bytes of KV cache and recurrent state."""

import enum
from typing import Annotated

import typer

from attnbench.calc import kv_answer
from attnbench.calc.kv_cache import ConvWidth, Rules, Semantics, Window
from attnbench.catalog import load_model
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.report.emit import Format
from attnbench.report.kv_cache import document
from attnbench.spec.dtype import parse_dtype
from attnbench.units import parse_length

app = typer.Typer(add_completion=False)


class _Mla(enum.StrEnum):
    LATENT = "latent"
    DECOMPRESSED = "decompressed"


@app.command()
def kv_cache(
    model: Annotated[str, typer.Argument(help="Profile, config.json, GGUF, safetensors, hub id.")],
    seq_len: Annotated[str, typer.Option(help="Tokens a sequence: 4096, 4k, 1m.")] = "4096",
    batch: Annotated[str, typer.Option(help="Sequences.")] = "1",
    kv_dtype: Annotated[str, typer.Option(help="Dtype of keys and values.")] = "bf16",
    semantics: Annotated[Semantics, typer.Option(help="Whose bytes.")] = Semantics.IDEAL,
    tp: Annotated[int, typer.Option(min=1, max=65536, help="Tensor-parallel GPUs.")] = 1,
    pp: Annotated[int, typer.Option(min=1, max=65536, help="Pipeline stages.")] = 1,
    encoder_len: Annotated[str | None, typer.Option(help="Encoder's tokens.")] = None,
    kv_heads: Annotated[
        int | None, typer.Option(min=1, help="As if the model had this many KV heads.")
    ] = None,
    state_dtype: Annotated[
        str, typer.Option(help="Dtype of recurrent states; auto: as transformers keeps them.")
    ] = "auto",
    conv_width: Annotated[
        ConvWidth, typer.Option(help="Columns of a convolution's state.")
    ] = ConvWidth.KERNEL,
    window: Annotated[
        Window | None, typer.Option(help="Tokens that a layer with a window of w holds.")
    ] = None,
    mla: Annotated[_Mla, typer.Option(help="What an MLA layer holds.")] = _Mla.LATENT,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Bytes of key-value cache and recurrent state that a model's sequences hold."""
    rules = Rules(
        dtype=parse_dtype(kv_dtype, what="--kv-dtype"),
        semantics=semantics,
        state_dtype=None if state_dtype == "auto" else parse_dtype(state_dtype),
        window=window,
        conv=conv_width,
        decompressed=mla is _Mla.DECOMPRESSED,
    )
    answer = kv_answer.answer(
        load_model(model),
        seq_len=parse_length(seq_len, what="--seq-len"),
        batch=parse_length(batch, what="--batch"),
        rules=rules,
        tp=tp,
        pp=pp,
        encoder_len=None
        if encoder_len is None
        else parse_length(encoder_len, what="--encoder-len"),
        kv_heads=kv_heads,
    )
    write(document(answer), fmt, json, output)
