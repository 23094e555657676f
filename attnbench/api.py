"""The Python API: `from attnbench import kv_cache, memory, model` (`plan`: api_plan).

Each function takes plain values or the types of `attnbench.spec`, checks them as the
command line does, and raises `attnbench.errors.UserError` where they make no sense.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from attnbench.calc import memory_answer
from attnbench.calc.activations import Recompute
from attnbench.calc.kv_cache import Rules, Semantics
from attnbench.calc.memory import Serving, Training
from attnbench.calc.memory_answer import MemoryAnswer, Request
from attnbench.calc.parallel import Parallel
from attnbench.calc.quantization import Scheme, nf4_scheme, plain_scheme
from attnbench.calc.training import Lora, Optimizer
from attnbench.catalog import load_model
from attnbench.catalog.hardware import load_gpu
from attnbench.catalog.quantization_config import own_dtype, scheme_of
from attnbench.errors import UserError, unknown_name
from attnbench.spec.dtype import Dtype, parse_dtype
from attnbench.spec.hardware import HardwareSpec
from attnbench.spec.model import ModelSpec

if TYPE_CHECKING:
    from attnbench.calc.kv_answer import KvAnswer

E = TypeVar("E", bound=StrEnum)
_AT_MOST = 10**15


def model(reference: str) -> ModelSpec:
    """The model that `reference` names: a profile, a path, or a hub id.

    Raises:
        UserError: there is none of that name, or it cannot be read.

    >>> model("llama-3-8b").num_layers
    32
    """
    return load_model(reference)


def kv_cache(
    of: ModelSpec | str,
    *,
    seq_len: int = 4096,
    batch: int = 1,
    kv_dtype: Dtype | str = Dtype.BF16,
    semantics: Semantics | str = Semantics.IDEAL,
    tp: int = 1,
    pp: int = 1,
    encoder_len: int | None = None,
    page_size: int | None = None,
    max_num_batched_tokens: int | None = None,
    dcp: int = 1,
    speculative_tokens: int = 0,
    draft_layers: int = 0,
    draft_model: str | None = None,
    state_mode: str | None = None,
    kv_unified: bool = False,
) -> "KvAnswer":
    """Bytes of key-value cache and recurrent state; the fields of `kv-cache --json`.

    `semantics` may be an engine ("vllm@0.12.0"); settings from `page_size` on are an engine's.

    Raises:
        UserError: an unknown name, or a size that makes no sense.

    >>> kv_cache("llama-3-8b", seq_len=8192).total_bytes
    1073741824
    >>> kv_cache("gemma-3-1b", semantics="vllm@0.13.0").engine["padding_layers"]
    2
    """
    from attnbench.calc import kv_answer  # `memory` starts without it
    from attnbench.engines import options as engine_options

    _sizes(seq_len=seq_len, batch=batch, tp=tp, pp=pp, encoder_len=encoder_len, dcp=dcp)
    _sizes(page_size=page_size, max_num_batched_tokens=max_num_batched_tokens)
    plain, ds_mla = engine_options.cache_format(str(kv_dtype))
    options = engine_options.Options(
        page_size=page_size,
        dcp=dcp,
        speculative=speculative_tokens,
        drafts=draft_layers,
        draft_model=draft_model,
        ds_mla=ds_mla,
        state_mode=state_mode,
        unified=kv_unified,
    )
    known, ask = {str(kind): kind for kind in Semantics}, None
    asked, step = str(semantics), max_num_batched_tokens
    if asked not in known:
        from attnbench.engines import cache_ask

        ask = cache_ask.ask_of(asked, options, step, tuple(known))
    else:
        engine_options.refuse_without_semantics(options, step, asked)
    rules = Rules(
        dtype=parse_dtype(plain or "", what="kv_dtype"),
        semantics=known.get(asked, Semantics.IDEAL),
    )
    spec = _spec(of)
    split: dict[str, Any] = {"tp": tp, "pp": pp, "encoder_len": encoder_len}
    found = kv_answer.answer(spec, seq_len=seq_len, batch=batch, rules=rules, **split)
    if ask is not None:
        from attnbench.engines import cache_answer

        return cache_answer.answer(found, spec, ask)
    return found


def memory(
    of: ModelSpec | str,
    *,
    mode: Literal["inference", "training"] = "inference",
    seq_len: int = 4096,
    batch: int = 1,
    weight_dtype: Dtype | str = "auto",
    kv_dtype: Dtype | str | None = None,
    tp: int = 1,
    pp: int = 1,
    ep: int = 1,
    dp: int = 1,
    gpu: HardwareSpec | str | None = None,
    utilization: float = 0.9,
    overhead_bytes: int | None = None,
    max_num_seqs: int | None = None,
    max_num_batched_tokens: int | None = None,
    encoder_len: int | None = None,
    zero: int | None = None,
    optimizer: Optimizer | str | None = None,
    recompute: Recompute | str | None = None,
    master_weights: bool | None = None,
    sequence_parallel: bool | None = None,
    lora_rank: int | None = None,
    lora_targets: Sequence[str] | None = None,
    tokens: int | None = None,
    mfu: float | None = None,
) -> MemoryAnswer:
    """Memory that serving or training takes, on the whole and on the fullest GPU.

    `weight_dtype` "auto" stores weights as the configuration says (training: in 16
    bits). Settings of the other mode must be left at None. `batch` is a replica's.

    Raises:
        UserError: an unknown name, a size that makes no sense, a setting of the other
            mode, or a split that does not go round.

    >>> memory("llama-3-8b").memory.whole.weights_bytes
    16060522496
    >>> memory("llama-3-70b", gpu="h100-sxm").fits
    False
    """
    serving_only = {
        "kv_dtype": kv_dtype,
        "max_num_seqs": max_num_seqs,
        "max_num_batched_tokens": max_num_batched_tokens,
        "encoder_len": encoder_len,
    }
    training_only = {
        "zero": zero,
        "optimizer": optimizer,
        "recompute": recompute,
        "master_weights": master_weights,
        "sequence_parallel": sequence_parallel,
        "lora_rank": lora_rank,
        "lora_targets": lora_targets,
        "tokens": tokens,
        "mfu": mfu,
    }
    _mode(mode, serving_only, training_only)
    _sizes(seq_len=seq_len, batch=batch, tp=tp, pp=pp, ep=ep, dp=dp, encoder_len=encoder_len)
    _sizes(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        lora_rank=lora_rank,
        tokens=tokens,
    )
    if mfu is not None and not 0 < mfu <= 1:
        raise UserError(f"--mfu: {mfu:g} is not over 0 and at most 1")
    if not 0 < utilization <= 1:
        raise UserError(f"--utilization: {utilization:g} is not over 0 and at most 1")
    if overhead_bytes is not None and not 0 <= overhead_bytes <= _AT_MOST:
        raise UserError(f"--overhead: {overhead_bytes} is not a size")
    spec = _spec(of)
    work: Serving | Training
    if mode == "inference":
        work = Serving(
            seq_len=seq_len,
            batch=batch,
            cache=Rules(dtype=parse_dtype(str(kv_dtype or Dtype.BF16), what="--kv-dtype")),
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            encoder_len=encoder_len,
        )
    else:
        work = Training(
            seq_len=seq_len,
            batch=batch,
            optimizer=_choice(Optimizer, optimizer or Optimizer.ADAMW, "optimizer"),
            zero=_zero(zero),
            recompute=_choice(Recompute, recompute or Recompute.NONE, "recompute"),
            master_weights=master_weights is not False,
            sequence_parallel=sequence_parallel is True,
            lora=_lora(lora_rank, lora_targets),
            tokens=tokens,
            mfu=0.4 if mfu is None else mfu,
        )
    scheme, note = _scheme(spec, str(weight_dtype), work)
    if weight_dtype != "auto":  # then the file's own count of bytes says nothing
        spec = msgspec.structs.replace(spec, stored_bytes=None, stored_parts=None)
    request = Request(
        model=spec,
        scheme=scheme,
        work=work,
        parallel=Parallel(tp=tp, pp=pp, ep=ep, dp=dp),
        gpu=load_gpu(gpu) if isinstance(gpu, str) else gpu,
        utilization=utilization,
        overhead=overhead_bytes,
        weight_note=note,
    )
    return memory_answer.answer(request)


def _spec(of: ModelSpec | str) -> ModelSpec:
    return load_model(of) if isinstance(of, str) else of


def _scheme(spec: ModelSpec, text: str, work: Serving | Training) -> tuple[Scheme, str]:
    """How the weights are stored, and what chose that where the configuration did not."""
    note = ""
    if text == "nf4":
        scheme = nf4_scheme(own_dtype(spec))
    elif text != "auto":
        scheme = scheme_of(spec, parse_dtype(text, what="--weight-dtype"))
    elif isinstance(work, Training) and work.lora is None:
        own = own_dtype(spec)
        dtype = own if own.bits == 16 else Dtype.BF16
        scheme = plain_scheme(dtype, dtype)
    else:
        scheme = scheme_of(spec)
    if text == "auto" and spec.weight_dtype is None:
        note = f"the configuration names no dtype: {own_dtype(spec)} is assumed"
    if isinstance(work, Training) and scheme.layout is not None and work.lora is None:
        raise UserError(
            f"--weight-dtype: weights in {scheme.name} are not trained",
            hint="Freeze them and train adapters: --lora-rank 16. Or train in bf16.",
        )
    return scheme, note


def _lora(rank: int | None, targets: Sequence[str] | None) -> Lora | None:
    if rank is None:
        if targets is not None:
            raise UserError("--lora-targets needs --lora-rank")
        return None
    return Lora(rank=rank, targets=tuple(targets) if targets else ("all-linear",))


def _zero(zero: int | None) -> int:
    if zero is not None and zero not in range(4):
        raise UserError(f"--zero: {zero} is not one of 0, 1, 2, 3")
    return zero or 0


def _mode(mode: str, serving: Mapping[str, object], training: Mapping[str, object]) -> None:
    """Refuse what only the other mode has.

    Raises:
        UserError: an unknown mode, or a setting of the other one.
    """
    if mode not in ("inference", "training"):
        raise unknown_name("--mode", mode, ["inference", "training"])
    other, its = (training, "training") if mode == "inference" else (serving, "inference")
    for name, value in other.items():
        if value is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} is for --mode {its}; this is --mode {mode}")


def _sizes(**sizes: int | None) -> None:
    for name, value in sizes.items():
        if value is not None and not 1 <= value <= _AT_MOST:
            raise UserError(f"--{name.replace('_', '-')}: {value} is not a size of 1 or more")


def _choice(kind: type[E], value: str, what: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise unknown_name(f"--{what}", str(value), [str(member) for member in kind]) from None
