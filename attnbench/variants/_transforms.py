"""Features done around a backend: RoPE turns its inputs, packed documents call it one by one.

`featured` is how a backend says which of the score features it runs; it refuses the
others, so that none is ignored in silence.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from attnbench.calc.featured_cost import document_shapes
from attnbench.calc.score_features import documents, score_features
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._protocol import Backend, Learned, Params

if TYPE_CHECKING:
    from torch import Tensor


class _Part(NamedTuple):
    """One document: where its queries and keys stand, and its own state."""

    query: slice
    key: slice
    state: Any


class _Transformed(NamedTuple):
    """Angles of query and key (cos and sin, or None), then the documents in order."""

    query_turn: "tuple[Tensor, Tensor] | None"
    key_turn: "tuple[Tensor, Tensor] | None"
    parts: tuple[_Part, ...]


def featured(backend: Backend, *features: str, why: str = "") -> Backend:
    """`backend`, said to run `features` itself; RoPE and packed documents are added.

    Of these two nothing reaches `backend`: it sees rotated inputs, and each document as a
    shape of its own. A point with any other feature is refused, with `why` as the reason.
    """

    def supports(shape: AttentionShape, mode: Mode, params: Params, device_type: str) -> str | None:
        wanted = score_features(params)
        missing = sorted(wanted.on - {*features, "rope_theta", "varlen"})
        if missing:
            return f"the {backend.name} backend has no {', '.join(missing)}" + (why and f": {why}")
        if wanted.rope_theta and mode is Mode.DECODE:
            return "a cache holds keys already rotated: in mode decode RoPE has nothing to time"
        if wanted.rope_theta and shape.head_dim % 2:
            return f"RoPE turns pairs of channels: head_dim {shape.head_dim} is odd"
        if not wanted.varlen:
            return backend.supports(shape, mode, params, device_type)
        if min(shape.seq_q, shape.seq_kv) < wanted.varlen * (wanted.varlen + 1) // 2:
            return f"varlen: the shortest of {wanted.varlen} documents would have no token"
        alone = _without_transforms(params)
        reasons = (
            backend.supports(at, mode, alone, device_type)
            for at in document_shapes(shape, wanted.varlen)
        )
        return next((reason for reason in reasons if reason), None)

    return msgspec.structs.replace(
        backend,
        supports=supports,
        prepare=_prepared(backend),
        forward=_forwarded(backend),
        learn=_learned(backend),
    )


def _without_transforms(params: Params) -> Params:
    return {k: v for k, v in params.items() if k not in ("rope_theta", "varlen")}


def _prepared(backend: Backend) -> Callable[[AttentionShape, Params, str], Any]:
    def prepare(shape: AttentionShape, params: Params, device: str) -> Any:
        wanted = score_features(params)
        if not (wanted.rope_theta or wanted.varlen):
            return backend.prepare(shape, params, device)
        alone = _without_transforms(params)
        count = wanted.varlen or 1
        places = zip(
            document_shapes(shape, count),
            documents(shape.seq_q, count),
            documents(shape.seq_kv, count),
            strict=True,
        )
        parts = tuple(
            _Part(
                slice(q.start, q.stop), slice(k.start, k.stop), backend.prepare(at, alone, device)
            )
            for at, q, k in places
        )
        if not wanted.rope_theta:
            return _Transformed(None, None, parts)
        query_turn, key_turn = _turns(shape, parts, wanted.rope_theta, device)
        return _Transformed(query_turn, key_turn, parts)

    return prepare


def _turns(
    shape: AttentionShape, parts: tuple[_Part, ...], theta: float, device: str
) -> "tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]":
    """Angles of every query and key token: positions start anew with each document."""
    import torch

    from attnbench.variants._score import angles

    lengths = [(p.query.stop - p.query.start, p.key.stop - p.key.start) for p in parts]
    query_at = torch.cat([torch.arange(kv - q, kv) for q, kv in lengths])
    key_at = torch.cat([torch.arange(kv) for _, kv in lengths])
    wide = torch.float64 if shape.dtype == "fp64" else torch.float32

    def of(positions: "Tensor") -> "tuple[Tensor, Tensor]":
        cos, sin = angles(positions, shape.head_dim, theta, wide)
        return cos.to(device), sin.to(device)

    return of(query_at), of(key_at)


def _learned(backend: Backend) -> Callable[[Any, Learned], Any] | None:
    """Every document learns the same tensors."""
    learn_alone = backend.learn
    if learn_alone is None:
        return None

    def learn(state: Any, learned: Learned) -> Any:
        if not isinstance(state, _Transformed):
            return learn_alone(state, learned)
        parts = (part._replace(state=learn_alone(part.state, learned)) for part in state.parts)
        return state._replace(parts=tuple(parts))

    return learn


def _forwarded(backend: Backend) -> "Callable[[Tensor, Tensor, Tensor, Any], Tensor]":
    def forward(query: "Tensor", key: "Tensor", value: "Tensor", state: Any) -> "Tensor":
        if not isinstance(state, _Transformed):
            return backend.forward(query, key, value, state)
        import torch

        from attnbench.variants._score import turn

        if state.query_turn is not None and state.key_turn is not None:
            query, key = turn(query, *state.query_turn), turn(key, *state.key_turn)
        outputs = [
            backend.forward(
                query[:, :, part.query], key[:, :, part.key], value[:, :, part.key], part.state
            )
            for part in state.parts
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)

    return forward
