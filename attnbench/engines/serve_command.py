"""The command line that starts an engine as `plan` chose: vLLM's and SGLang's flags.

Flags as vLLM 0.33 and SGLang 0.5.23 have them. One line starts one replica; engines over
several nodes need each engine's own addresses besides, which a note says.
"""

import enum

import msgspec

from attnbench.calc.plan_explain import Candidate
from attnbench.spec.dtype import Dtype

# Formats that an engine makes of 16-bit weights while it loads them.
_WHILE_LOADING = {Dtype.FP8_E4M3: "fp8"}
_PLAIN = (Dtype.BF16, Dtype.FP16, Dtype.FP32)


class Engine(enum.StrEnum):
    """Engines whose command line can be written."""

    VLLM = "vllm"
    SGLANG = "sglang"


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A command line, and what it leaves to be done by hand."""

    engine: Engine
    command: str
    notes: tuple[str, ...]


def launch(
    engine: Engine,
    of: Candidate,
    *,
    model: str,
    stored_in: str,
    longest: int,
    input_len: int,
    utilization: float,
) -> Launch:
    """The command line of one replica of `of`, serving `model` (a hub id or a path).

    `stored_in` is the format of that checkpoint's weights.
    """
    ranks = of.dp // of.replicas
    words = (_vllm if engine is Engine.VLLM else _sglang)(
        of, ranks=ranks, longest=longest, input_len=input_len, utilization=utilization
    )
    converted = of.weight_dtype != stored_in
    if converted and of.weight_dtype in _WHILE_LOADING:
        words.append(f"--quantization {_WHILE_LOADING[Dtype(of.weight_dtype)]}")
    start = "vllm serve" if engine is Engine.VLLM else "python -m sglang.launch_server --model-path"
    return Launch(
        engine=engine,
        command=" ".join([start, model, *words]),
        notes=tuple(_notes(of, ranks, converted)),
    )


def _vllm(
    of: Candidate, *, ranks: int, longest: int, input_len: int, utilization: float
) -> list[str]:
    step = max(of.chunk_tokens or input_len + of.batch, of.batch)
    return [
        f"--tensor-parallel-size {of.tp}",
        *([f"--pipeline-parallel-size {of.pp}"] if of.pp > 1 else []),
        *([f"--data-parallel-size {ranks}"] if ranks > 1 else []),
        *(["--enable-expert-parallel"] if of.ep > 1 else []),
        *(["--kv-cache-dtype fp8"] if of.kv_dtype not in _PLAIN else []),
        f"--max-model-len {longest}",
        f"--max-num-seqs {of.batch}",
        f"--max-num-batched-tokens {step}",
        f"--gpu-memory-utilization {utilization:g}",
    ]


def _sglang(
    of: Candidate, *, ranks: int, longest: int, input_len: int, utilization: float
) -> list[str]:
    # Ranks of attention lie inside SGLang's tensor-parallel group.
    chunk = of.chunk_tokens or -1
    return [
        f"--tp-size {of.tp * ranks}",
        *([f"--pp-size {of.pp}"] if of.pp > 1 else []),
        *([f"--dp-size {ranks} --enable-dp-attention"] if ranks > 1 else []),
        *([f"--ep-size {of.ep}"] if of.ep > 1 else []),
        *(["--kv-cache-dtype fp8_e4m3"] if of.kv_dtype not in _PLAIN else []),
        f"--context-length {longest}",
        f"--max-running-requests {of.batch * ranks}",
        f"--chunked-prefill-size {chunk}",
        f"--mem-fraction-static {utilization:g}",
    ]


def _notes(of: Candidate, ranks: int, converted: bool) -> list[str]:
    notes = []
    if of.replicas > 1:
        notes.append(f"start it {of.replicas} times, behind a router that spreads requests")
    if converted and of.weight_dtype not in (*_PLAIN, *_WHILE_LOADING):
        notes.append(f"serve a checkpoint that is stored in {of.weight_dtype}")
    if of.tp * of.pp * ranks > 8:
        notes.append("over several nodes: add the engine's own flags for addresses (nodes, head)")
    return notes
