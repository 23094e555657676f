"""Everything that `kv-cache` answers about a model, in one value."""

from collections.abc import Mapping
from typing import Any

import msgspec

from attnbench.calc.kv_cache import (
    Rules,
    Semantics,
    bytes_per_token,
    kv_cache_bytes,
    per_gpu_bytes,
    with_kv_heads,
)
from attnbench.calc.kv_report import KindRow, assumptions, kind_rows
from attnbench.calc.parallel import Parallel, check, head_counts
from attnbench.errors import UserError
from attnbench.spec.model import ModelSpec


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the same model with a KV head a query head, as it is, and with one."""

    mha: int
    gqa: int
    mqa: int


class KvAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of the contract's `kv-cache` object, bytes throughout.

    `engine`: pages and groups behind an engine's bytes; None for the others.
    """

    model: str
    batch: int
    seq_len: int
    kv_dtype: str
    semantics: str
    total_bytes: int
    kv_bytes: int
    state_bytes: int
    cross_attention_bytes: int
    bytes_per_token: int
    per_gpu_bytes: int
    tp: int
    pp: int
    ideal_bytes: int
    steady_bytes: int | None
    admission_bytes: int | None
    layers: tuple[KindRow, ...]
    compare: Compared
    assumptions: tuple[str, ...]
    encoder_len: int | None
    source: str
    warnings: tuple[str, ...]
    engine: Mapping[str, Any] | None = None


def answer(
    model: ModelSpec,
    *,
    seq_len: int,
    batch: int,
    rules: Rules,
    tp: int = 1,
    pp: int = 1,
    encoder_len: int | None = None,
    kv_heads: int | None = None,
) -> KvAnswer:
    """Count the cache of `model` at one length and batch, and state every convention.

    `kv_heads` answers as if every attention had that many KV heads.

    Raises:
        UserError: `tp`, `pp` or `kv_heads` do not suit the model.
    """
    original = model
    if kv_heads is not None:
        _check_kv_heads(model, kv_heads)
        model = with_kv_heads(model, kv_heads)
    check(model, Parallel(tp=tp, pp=pp))
    length: dict[str, Any] = {"seq_len": seq_len, "encoder_len": encoder_len}
    held = kv_cache_bytes(model, batch=batch, rules=rules, **length)
    ideal = msgspec.structs.replace(rules, semantics=Semantics.IDEAL, window=None)

    def total(of: ModelSpec) -> int:
        return kv_cache_bytes(of, batch=batch, rules=rules, **length).total

    return KvAnswer(
        model=model.name,
        batch=batch,
        seq_len=seq_len,
        kv_dtype=rules.dtype.value,
        semantics=rules.semantics.value,
        total_bytes=held.total,
        kv_bytes=held.kv,
        state_bytes=held.state,
        cross_attention_bytes=held.cross,
        bytes_per_token=bytes_per_token(model, rules=rules, **length),
        per_gpu_bytes=per_gpu_bytes(model, batch=batch, rules=rules, tp=tp, pp=pp, **length),
        tp=tp,
        pp=pp,
        ideal_bytes=kv_cache_bytes(model, batch=batch, rules=ideal, **length).total,
        steady_bytes=None,
        admission_bytes=None,
        layers=kind_rows(model, batch=batch, rules=rules, **length),
        compare=Compared(
            mha=total(with_kv_heads(original, None)),
            gqa=total(original),
            mqa=total(with_kv_heads(original, 1)),
        ),
        assumptions=assumptions(model, rules, tp=tp, pp=pp),
        encoder_len=encoder_len,
        source=model.source,
        warnings=(*model.warnings, *_notes(model, seq_len, kv_heads)),
    )


def _notes(model: ModelSpec, seq_len: int, kv_heads: int | None) -> list[str]:
    notes = []
    limit = model.decoder_length or model.max_position
    if limit is not None and seq_len > limit:
        notes.append(
            f"{seq_len:,} tokens are beyond the {limit:,} that {model.name} states; "
            + ("the rest is not held." if model.decoder_length else "computed all the same.")
        )
    if kv_heads is not None:
        notes.append(f"Computed as if every attention had {kv_heads} KV heads.")
    return notes


def _check_kv_heads(model: ModelSpec, kv_heads: int) -> None:
    for heads in sorted(head_counts(model)):
        if heads % kv_heads:
            raise UserError(f"--kv-heads: {kv_heads} does not divide {heads} heads of {model.name}")
