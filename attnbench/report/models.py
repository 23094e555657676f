"""What `models` and `models show` print."""

from collections.abc import Mapping, Sequence
from typing import Any

from attnbench.calc.params import Params
from attnbench.report.document import Column, Document, Table
from attnbench.spec.model import Attention, Latent, ModelSpec, Recurrent, Shared
from attnbench.units import format_count

_LIST = (
    Column(key="name", heading="model"),
    Column(key="params", heading="parameters", show=format_count, right=True),
    Column(key="active", heading="active", show=format_count, right=True),
    Column(key="layers", heading="layers", right=True),
    Column(key="kv_heads", heading="KV heads", show=lambda v: ", ".join(map(str, v)), right=True),
    Column(
        key="kv_bytes_per_token", heading="KV bytes a token", show=lambda n: f"{n:,}", right=True
    ),
    Column(key="max_position", heading="context", show=lambda n: f"{n:,}", right=True),
)
_ROLES = (
    Column(key="role", heading="parameters of"),
    Column(key="parameters", heading="count", show=lambda n: f"{n:,}", right=True),
)
_KINDS = (
    Column(key="layers", heading="layers", right=True),
    Column(key="mixers", heading="mixers", show="; ".join),
    Column(key="inner", heading="MLP width", right=True),
    Column(key="experts", heading="experts", right=True),
)


def summary(spec: ModelSpec, counted: Params, kv_bytes_per_token: int) -> dict[str, object]:
    """The fields of one model in `attnbench models`; KV bytes are bf16's, short of any window."""
    mixers = [mixer for layer in spec.layers for mixer in layer.mixers]
    heads = {m.kv_heads for m in mixers if isinstance(m, Attention)}
    return {
        "name": spec.name,
        "model_type": spec.model_type,
        "params": counted.total,
        "active": counted.active,
        "layers": spec.num_layers,
        "kv_heads": sorted(heads | {1 for m in mixers if isinstance(m, Latent)}),
        "kv_bytes_per_token": kv_bytes_per_token,
        "max_position": spec.max_position,
        "source": spec.source,
    }


def list_document(rows: Sequence[Mapping[str, Any]]) -> Document:
    """Every model, a row each."""
    table = Table(columns=_LIST, rows=[[row[column.key] for column in _LIST] for row in rows])
    return Document(
        schema="attnbench.models/1",
        data={"models": list(rows)},
        tables=(table,),
        notes=("KV bytes a token: bf16, at the start of a sequence, all layers together.",),
    )


def show_document(spec: ModelSpec, row: Mapping[str, object], roles: Mapping[str, int]) -> Document:
    """One model: its row, its parameters by role, its layers by kind."""
    kinds = [
        {
            "layers": layer.count,
            "mixers": [_named(mixer) for mixer in layer.mixers],
            "inner": layer.inner or None,
            "experts": layer.experts.total if layer.experts else None,
        }
        for layer in spec.layers
    ]
    tables = (
        Table(columns=_LIST, rows=[[row[column.key] for column in _LIST]], title=spec.name),
        Table(columns=_KINDS, rows=[[kind[column.key] for column in _KINDS] for kind in kinds]),
        Table(columns=_ROLES, rows=[list(item) for item in roles.items()]),
    )
    notes = (f"Source: {spec.source}", *(f"Note: {warning}" for warning in spec.warnings))
    data = {**row, "layers_by_kind": kinds, "params_by_role": roles, "warnings": spec.warnings}
    return Document(schema="attnbench.models.show/1", data=data, tables=tables, notes=notes)


def _named(mixer: object) -> str:
    if isinstance(mixer, Shared):
        return f"shares the cache of a {_named(mixer.like)}"
    if isinstance(mixer, Latent):
        index = f", index keys of {mixer.index_dim}" if mixer.index_dim else ""
        return f"mla: {mixer.heads} heads, latent {mixer.kv_rank} + rope {mixer.rope_dim}{index}"
    if isinstance(mixer, Recurrent):
        states = ", ".join(f"{s.name} {' x '.join(map(str, s.shape))}" for s in mixer.states)
        return f"{mixer.name}: {states}"
    assert isinstance(mixer, Attention)
    window = getattr(mixer, "window", None) or getattr(mixer, "chunk", None)
    width = str(mixer.key_dim)
    if mixer.value_dim != mixer.key_dim:
        width += f"/{mixer.value_dim}"
    tail = f", window {window:,}" if window else ""
    kind = type(mixer).__name__.lower()
    return f"{kind}: {mixer.heads} heads over {mixer.kv_heads} KV heads of {width}{tail}"
