"""`attnbench kv-cache MODEL`: bytes of KV cache and recurrent state."""

import enum
from typing import Annotated

import typer

from attnbench.calc import kv_answer
from attnbench.calc.kv_cache import ConvWidth, Rules, Semantics, Window
from attnbench.catalog import load_model
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.engines.options import Options, cache_format, refuse_without_semantics
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
    semantics: Annotated[
        str,
        typer.Option(help="Whose bytes: ideal, transformers, vllm[@VERSION], sglang, llama.cpp."),
    ] = "ideal",
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
    page_size: Annotated[
        int | None, typer.Option(min=1, max=1 << 20, help="Tokens of an engine's page.")
    ] = None,
    max_num_batched_tokens: Annotated[
        str | None, typer.Option(help="Tokens of an engine's step; its default unless said.")
    ] = None,
    dcp: Annotated[int, typer.Option(min=1, max=65536, help="vLLM: ranks that share tokens.")] = 1,
    speculative_tokens: Annotated[
        int, typer.Option(min=0, max=1024, help="vLLM, SGLang: tokens drafted a step.")
    ] = 0,
    draft_layers: Annotated[
        int,
        typer.Option(min=0, max=1024, help="vLLM, SGLang: layers of an MTP module or a drafter."),
    ] = 0,
    draft_model: Annotated[
        str | None, typer.Option(help="vLLM, SGLang: model that drafts beside it.")
    ] = None,
    state_mode: Annotated[
        str | None,
        typer.Option(help="vLLM: states a sequence keeps: none, align or all (a block)."),
    ] = None,
    kv_unified: Annotated[
        bool, typer.Option("--kv-unified", help="llama.cpp: sequences share one stream of cells.")
    ] = False,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Bytes of key-value cache and recurrent state that a model's sequences hold."""
    known = {str(kind): kind for kind in Semantics}
    plain_kv, ds_mla = cache_format(kv_dtype)
    rules = Rules(
        dtype=parse_dtype(plain_kv or "", what="--kv-dtype"),
        semantics=known.get(semantics, Semantics.IDEAL),
        state_dtype=None if state_dtype == "auto" else parse_dtype(state_dtype),
        window=window,
        conv=conv_width,
        decompressed=mla is _Mla.DECOMPRESSED,
    )
    spec = load_model(model)
    step = None
    if max_num_batched_tokens is not None:
        step = parse_length(max_num_batched_tokens, what="--max-num-batched-tokens")
    options = Options(
        page_size=page_size,
        dcp=dcp,
        speculative=speculative_tokens,
        drafts=draft_layers,
        draft_model=draft_model,
        ds_mla=ds_mla,
        state_mode=state_mode,
        unified=kv_unified,
    )
    ask = None
    if semantics not in known:
        from attnbench.engines import cache_ask

        ask = cache_ask.ask_of(semantics, options, step, tuple(known))
    else:
        refuse_without_semantics(options, step, semantics)
    answer = kv_answer.answer(
        spec,
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
    if ask is not None:
        from attnbench.engines import cache_answer

        answer = cache_answer.answer(answer, spec, ask)
    write(document(answer), fmt, json, output)
