"""`attnbench memory MODEL`: what serving or training a model holds, and whether it fits."""

import enum
from typing import Annotated

import typer

from attnbench import api
from attnbench.calc.activations import Recompute
from attnbench.calc.memory_answer import refusal
from attnbench.calc.training import Optimizer
from attnbench.commands._options import FormatOption, JsonOption, OutputOption, write
from attnbench.report.emit import Format
from attnbench.report.memory import document
from attnbench.units import parse_bytes, parse_length

app = typer.Typer()


class _Mode(enum.StrEnum):
    INFERENCE = "inference"
    TRAINING = "training"


@app.command()
def memory(
    model: Annotated[str, typer.Argument(help="Profile, config.json, GGUF, safetensors, hub id.")],
    mode: Annotated[_Mode, typer.Option(help="What the model is run for.")] = _Mode.INFERENCE,
    seq_len: Annotated[str, typer.Option(help="Tokens a sequence: 4096, 4k, 1m.")] = "4096",
    batch: Annotated[str, typer.Option(help="Sequences a replica (training: micro-batch).")] = "1",
    weight_dtype: Annotated[
        str, typer.Option(help="Dtype of weights, or nf4; auto: as the checkpoint has them.")
    ] = "auto",
    kv_dtype: Annotated[
        str | None, typer.Option(help="Dtype of keys and values [inference; default bf16].")
    ] = None,
    tp: Annotated[int, typer.Option(min=1, max=65536, help="Tensor-parallel GPUs.")] = 1,
    pp: Annotated[int, typer.Option(min=1, max=65536, help="Pipeline stages.")] = 1,
    ep: Annotated[int, typer.Option(min=1, max=65536, help="Ranks that experts go to.")] = 1,
    dp: Annotated[int, typer.Option(min=1, max=65536, help="Replicas.")] = 1,
    gpu: Annotated[str | None, typer.Option(help="Does it fit this GPU? Exit 1 if not.")] = None,
    utilization: Annotated[float, typer.Option(help="Share of its memory to use.")] = 0.9,
    overhead: Annotated[
        str | None, typer.Option(help="A GPU's bytes beyond tensors, instead of the assumption.")
    ] = None,
    max_num_seqs: Annotated[
        str | None, typer.Option(help="Sequences sampled in a step [inference; default batch].")
    ] = None,
    max_num_batched_tokens: Annotated[
        str | None, typer.Option(help="Tokens in a step [inference; default at most 8k].")
    ] = None,
    encoder_len: Annotated[str | None, typer.Option(help="Encoder's tokens [inference].")] = None,
    zero: Annotated[int | None, typer.Option(help="ZeRO stage, 0 to 3 [training].")] = None,
    optimizer: Annotated[Optimizer | None, typer.Option(help="[training; default adamw]")] = None,
    recompute: Annotated[
        Recompute | None, typer.Option(help="Activation checkpointing [training; default none].")
    ] = None,
    master_weights: Annotated[
        bool | None,
        typer.Option(
            "--master-weights/--no-master-weights", help="Keep fp32 copies [training; default]."
        ),
    ] = None,
    sequence_parallel: Annotated[
        bool | None,
        typer.Option("--sequence-parallel", help="Split norms and dropout over tp [training]."),
    ] = None,
    lora_rank: Annotated[
        int | None, typer.Option(help="Train adapters of this rank alone [training].")
    ] = None,
    lora_targets: Annotated[
        str | None,
        typer.Option(help="all-linear, attention, or names: q_proj,v_proj [training]."),
    ] = None,
    fmt: FormatOption = Format.TABLE,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Weights, cache, activations and overhead of serving a model, or all that training holds."""
    found = api.memory(
        model,
        mode=mode.value,
        seq_len=parse_length(seq_len, what="--seq-len"),
        batch=parse_length(batch, what="--batch"),
        weight_dtype=weight_dtype,
        kv_dtype=kv_dtype,
        tp=tp,
        pp=pp,
        ep=ep,
        dp=dp,
        gpu=gpu,
        utilization=utilization,
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
    )
    write(document(found), fmt, json, output)
    problem = refusal(found)
    if problem is not None:
        raise problem


def _length(text: str | None, what: str) -> int | None:
    return None if text is None else parse_length(text, what=what)
