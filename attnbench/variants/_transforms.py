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

    Of RoPE nothing reaches `backend`, which sees rotated inputs. Unless it says that it runs
    "varlen" itself, it sees each document as a shape of its own. A point with any other
    feature is refused, with `why` as the reason.
    """
    one_by_one = "varlen" not in features

    def supports(shape: AttentionShape, mode: Mode, params: Params, device_type: str) -> str | None:
        wanted = score_features(params)
        missing = sorted(wanted.on - {*features, "rope_theta", "varlen"})
        if missing:
            return f"the {backend.name} backend has no {', '.join(missing)}" + (why and f": {why}")
        if wanted.rope_theta and mode is Mode.DECODE:
            return "a cache holds keys already rotated: in mode decode RoPE has nothing to time"
        if wanted.rope_theta and shape.head_dim % 2:
            return f"RoPE turns pairs of channels: head_dim {shape.head_dim} is odd"
        if min(shape.seq_q, shape.seq_kv) < wanted.varlen * (wanted.varlen + 1) // 2:
            return f"varlen: the shortest of {wanted.varlen} documents would have no token"
        shapes, own = _seen(shape, params, one_by_one)
        reasons = (backend.supports(at, mode, own, device_type) for at in shapes)
        return next((reason for reason in reasons if reason), None)

    return msgspec.structs.replace(
        backend,
        supports=supports,
        prepare=_prepared(backend, one_by_one),
        forward=_forwarded(backend),
        learn=_learned(backend),
    )


def _seen(
    shape: AttentionShape, params: Params, one_by_one: bool
) -> tuple[tuple[AttentionShape, ...], Params]:
    """What a backend is given of a point: the shapes, one after another, and the settings."""
    around = {"rope_theta", "varlen"} if one_by_one else {"rope_theta"}
    count = score_features(params).varlen if one_by_one else 0
    own = {name: value for name, value in params.items() if name not in around}
    return document_shapes(shape, count or 1), own


def _prepared(backend: Backend, one_by_one: bool) -> Callable[[AttentionShape, Params, str], Any]:
    def prepare(shape: AttentionShape, params: Params, device: str) -> Any:
        wanted = score_features(params)
        shapes, own = _seen(shape, params, one_by_one)
        if len(shapes) == 1 and not wanted.rope_theta:
            return backend.prepare(shapes[0], own, device)
        ranges = (documents(n, len(shapes)) for n in (shape.seq_q, shape.seq_kv))
        parts = tuple(
            _Part(slice(q.start, q.stop), slice(k.start, k.stop), backend.prepare(at, own, device))
            for at, q, k in zip(shapes, *ranges, strict=True)
        )
        if not wanted.rope_theta:
            return _Transformed(None, None, parts)
        alone = document_shapes(shape, wanted.varlen or 1)
        query_turn, key_turn = _turns(shape, alone, wanted.rope_theta, device)
        return _Transformed(query_turn, key_turn, parts)

    return prepare


def _turns(
    shape: AttentionShape, alone: tuple[AttentionShape, ...], theta: float, device: str
) -> "tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]":
    """Angles of every query and key token: positions start anew with each document."""
    import torch

    from attnbench.variants._score import angles, places

    query_at, key_at = places(alone)
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
