"""What each layer of a model asks of an engine's cache, on one tensor-parallel rank."""

from collections.abc import Iterable

import msgspec

from attnbench.calc.engine_pages import Held, Kind
from attnbench.spec.model import (
    Attention,
    Chunked,
    Cross,
    Latent,
    Mixer,
    ModelSpec,
    Recurrent,
    Shared,
    Sliding,
    StateKind,
)

DS_MLA_TOKEN_BYTES = 656  # 512 fp8, four fp32 scales, 64 bf16 of the rope key
_INDEX_SCALE_BYTES, _INDEX_GROUP = 4, 128

Placed = tuple[Mixer, tuple[int, ...]]


class Widths(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of an element, and how the cache is split.

    `kv` of keys and values, `model` of convolution states, `state` of recurrent ones.
    `speculative` tokens widen a convolution's state.
    `windowed` False: the engine keeps windows and chunks at full length.
    """

    kv: float
    model: int = 2
    state: int = 2
    tp: int = 1
    block: int = 16
    speculative: int = 0
    windowed: bool = True
    ds_mla: bool = False


def placed(model: ModelSpec) -> tuple[Placed, ...]:
    """Each mixer of `model` that keeps something, and the layers that have it."""
    found: dict[Mixer, list[int]] = {}
    for layer in model.layers:
        for mixer in layer.mixers:
            if not isinstance(mixer, Shared):
                found.setdefault(mixer, []).extend(layer.indices)
    return tuple((mixer, tuple(sorted(indices))) for mixer, indices in found.items())


def kinds(layers: Iterable[Placed], w: Widths) -> tuple[Kind, ...]:
    """The kinds of layer of a model, full attention first.

    Attention keeps max(1, kv_heads // tp) · (key_dim + value_dim) numbers a token: heads
    are copied where there are more ranks. MLA keeps kv_rank + rope_dim on every rank, or
    656 bytes in the fp8_ds_mla format; a sparse indexer index_dim bytes and a scale.
    """
    made: list[Kind] = []
    for mixer, indices in layers:
        made += _kinds_of(mixer, indices, w)
    order = list(Held)
    return tuple(sorted(made, key=lambda kind: order.index(kind.held)))


def _kinds_of(mixer: Mixer, indices: tuple[int, ...], w: Widths) -> list[Kind]:
    if isinstance(mixer, Shared):
        return []
    if isinstance(mixer, Recurrent):
        size = state_bytes(mixer, w)
        kind = Kind(name=mixer.name, held=Held.STATE, indices=indices, state_bytes=size)
        return [msgspec.structs.replace(kind, block=w.block)]
    if isinstance(mixer, Latent):
        token = DS_MLA_TOKEN_BYTES if w.ds_mla else int((mixer.kv_rank + mixer.rope_dim) * w.kv)
        latent = Kind(name="mla", held=Held.FULL, indices=indices, token_bytes=token, block=w.block)
        if not mixer.index_dim:
            return [latent]
        index = mixer.index_dim + -(-mixer.index_dim // _INDEX_GROUP) * _INDEX_SCALE_BYTES
        return [latent, msgspec.structs.replace(latent, name="indexer", token_bytes=index)]
    held, window = Held.FULL, 0
    if isinstance(mixer, Cross):
        held = Held.CROSS
    elif isinstance(mixer, Sliding) and w.windowed:
        held, window = Held.SLIDING, mixer.window
    elif isinstance(mixer, Chunked) and w.windowed:
        held, window = Held.CHUNKED, mixer.chunk
    return [
        Kind(
            name=str(held),
            held=held,
            indices=indices,
            token_bytes=token_bytes(mixer, w),
            window=window,
            block=w.block,
        )
    ]


def token_bytes(mixer: Attention, w: Widths) -> int:
    """Bytes of one token's key and value in one layer on one rank."""
    return int(max(1, mixer.kv_heads // w.tp) * (mixer.key_dim + mixer.value_dim) * w.kv)


def state_bytes(mixer: Recurrent, w: Widths) -> int:
    """Bytes of one sequence's states in one layer on one rank.

    A convolution keeps kernel - 1 + speculative columns in the model's dtype.
    """
    total = 0
    for state in mixer.states:
        elements = state.elements
        if state.kind is StateKind.CONV:
            elements = elements // state.shape[-1] * (state.kernel - 1 + w.speculative)
        share = -(-elements // w.tp) if state.split else elements
        total += share * (w.model if state.kind is StateKind.CONV else w.state)
    return total
