"""`attnbench memory MODEL`: what serving or training a model holds, and whether it fits."""

import enum
from typing import Annotated, Any

import typer

from attnbench import api
from attnbench.calc.activations import Recompute
from attnbench.calc.memory_answer import refusal
from attnbench.calc.training import Optimizer
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.engines.options import Options, cache_format, refuse_without_engine
from attnbench.report.emit import Format
from attnbench.report.memory import document
from attnbench.units import parse_bytes, parse_count, parse_length

app = typer.Typer(add_completion=False)


class _Mode(enum.StrEnum):
    INFERENCE = "inference"
    TRAINING = "training"


def _engine(help_text: str, least: int | None = None, most: int | None = None) -> Any:
    return typer.Option(help=help_text, min=least, max=most, rich_help_panel="With --engine")


def _serving(help_text: str) -> Any:
    return typer.Option(help=help_text, rich_help_panel="With --mode inference")


def _training(help_text: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel="With --mode training")


@app.command()
def memory(
    model: Annotated[str, typer.Argument(help="Profile, config.json, GGUF, safetensors, hub id.")],
    mode: Annotated[_Mode, typer.Option(help="What the model is run for.")] = _Mode.INFERENCE,
    seq_len: Annotated[str, typer.Option(help="Tokens a sequence: 4096, 4k, 1m.")] = "4096",
    batch: Annotated[str, typer.Option(help="Sequences a replica (training: micro-batch).")] = "1",
    weight_dtype: Annotated[
        str, typer.Option(help="Dtype of weights, or nf4; auto: as the checkpoint has them.")
    ] = "auto",
    tp: Annotated[int, typer.Option(min=1, max=65536, help="Tensor-parallel GPUs.")] = 1,
    pp: Annotated[int, typer.Option(min=1, max=65536, help="Pipeline stages.")] = 1,
    ep: Annotated[int, typer.Option(min=1, max=65536, help="Ranks that experts go to.")] = 1,
    dp: Annotated[int, typer.Option(min=1, max=65536, help="Replicas.")] = 1,
    gpu: Annotated[str | None, typer.Option(help="Does it fit this GPU? Exit 1 if not.")] = None,
    utilization: Annotated[
        float | None, typer.Option(help="Share of its memory to use; 0.9, or the engine's own.")
    ] = None,
    engine: Annotated[
        str | None,
        _engine("vllm, sglang or llama.cpp, [@VERSION]: its budget, pool, log lines on --gpu."),
    ] = None,
    solve: Annotated[
        str | None, _engine("What fits: max-context, max-users, utilization or gpus.")
    ] = None,
    page_size: Annotated[
        int | None, _engine("Tokens of a page (vLLM, SGLang).", 1, 1 << 20)
    ] = None,
    dcp: Annotated[int, _engine("vLLM: ranks that share tokens.", 1, 65536)] = 1,
    speculative_tokens: Annotated[
        int, _engine("Tokens drafted a step (vLLM, SGLang).", 0, 1024)
    ] = 0,
    draft_layers: Annotated[
        int, _engine("Layers of an MTP module or a drafter (vLLM, SGLang).", 0, 1024)
    ] = 0,
    draft_model: Annotated[
        str | None, _engine("Model that drafts beside it (vLLM, SGLang).")
    ] = None,
    state_mode: Annotated[
        str | None, _engine("vLLM: states a sequence keeps: none, align or all (a block).")
    ] = None,
    kv_unified: Annotated[
        bool,
        typer.Option(
            "--kv-unified",
            help="llama.cpp: sequences share one stream of cells.",
            rich_help_panel="With --engine",
        ),
    ] = False,
    gpu_layers: Annotated[
        int | None, _engine("llama.cpp: layers on GPUs; all unless said.", 0, 1 << 20)
    ] = None,
    overhead: Annotated[
        str | None, typer.Option(help="A GPU's bytes beyond tensors, instead of the assumption.")
    ] = None,
    kv_dtype: Annotated[str | None, _serving("Dtype of keys and values; bf16 unless said.")] = None,
    max_num_seqs: Annotated[
        str | None, _serving("Sequences sampled in a step; the batch unless said.")
    ] = None,
    max_num_batched_tokens: Annotated[
        str | None, _serving("Tokens in a step; all, at most 8k, unless said.")
    ] = None,
    encoder_len: Annotated[str | None, _serving("Encoder's tokens.")] = None,
    zero: Annotated[int | None, _training("ZeRO stage, 0 to 3; 0 unless said.")] = None,
    optimizer: Annotated[Optimizer | None, _training("adamw unless said.")] = None,
    recompute: Annotated[
        Recompute | None, _training("Activation checkpointing; none unless said.")
    ] = None,
    master_weights: Annotated[
        bool | None,
        _training("fp32 copies of 16-bit weights.", "--master-weights/--no-master-weights"),
    ] = None,
    sequence_parallel: Annotated[
        bool | None, _training("Split norms and dropout over tp too.", "--sequence-parallel")
    ] = None,
    lora_rank: Annotated[int | None, _training("Train adapters of this rank alone.")] = None,
    lora_targets: Annotated[
        str | None, _training("all-linear (unless said), attention, or names: q_proj,v_proj.")
    ] = None,
    tokens: Annotated[
        str | None, _training("Tokens of the whole run: 300b, 1.5t; 20 a parameter.")
    ] = None,
    mfu: Annotated[
        float | None, _training("Share of the peak that the run uses; 0.4 unless said.")
    ] = None,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Weights, cache, activations and overhead of serving a model, or all that training holds."""
    plain_kv, ds_mla = cache_format(kv_dtype)
    found = api.memory(
        model,
        mode=mode.value,
        seq_len=parse_length(seq_len, what="--seq-len"),
        batch=parse_length(batch, what="--batch"),
        weight_dtype=weight_dtype,
        kv_dtype=plain_kv,
        tp=tp,
        pp=pp,
        ep=ep,
        dp=dp,
        gpu=gpu,
        utilization=0.9 if utilization is None else utilization,
        overhead_bytes=None if overhead is None else parse_bytes(overhead, what="--overhead"),
        max_num_seqs=_length(max_num_seqs, "--max-num-seqs"),
        max_num_batched_tokens=_length(max_num_batched_tokens, "--max-num-batched-tokens"),
        encoder_len=_length(encoder_len, "--encoder-len"),
        zero=zero,
        optimizer=optimizer,
        recompute=recompute,
        master_weights=master_weights,
        sequence_parallel=sequence_parallel,
        lora_rank=lora_rank,
        lora_targets=None if lora_targets is None else lora_targets.split(","),
        tokens=None if tokens is None else parse_count(tokens, what="--tokens"),
        mfu=mfu,
    )
    options = Options(
        utilization=utilization,
        page_size=page_size,
        dcp=dcp,
        speculative=speculative_tokens,
        drafts=draft_layers,
        draft_model=draft_model,
        ds_mla=ds_mla,
        state_mode=state_mode,
        unified=kv_unified,
        gpu_layers=gpu_layers,
    )
    if engine is not None:
        from attnbench.commands import _engine_memory

        made = _engine_memory.answer(found, engine, options, solve)
        write(_engine_memory.with_engine(document(found), made), fmt, json, output)
        _engine_memory.refuse(made)
        return
    refuse_without_engine(options, solve)
    write(document(found), fmt, json, output)
    problem = refusal(found)
    if problem is not None:
        raise problem


def _length(text: str | None, what: str) -> int | None:
    return None if text is None else parse_length(text, what=what)
