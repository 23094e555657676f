"""Bytes of a model's weights on one rank, as an engine lays them out and its allocator counts.

Engines join matrices that read the same input (query, key and value; gate and up) and
stack experts into two tensors a layer; each joined tensor is one allocation. Tables of
cosines and sines are made when weights are loaded, whole on every rank.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from attnbench.calc import allocator
from attnbench.calc import parallel as split
from attnbench.calc.parallel import Parallel, Piece
from attnbench.calc.quantization import Scheme, plain_scheme
from attnbench.spec.model import ModelSpec, Role

_JOINED = {
    "q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "q_gate_proj": "qkv",
    "gate_proj": "gate_up", "up_proj": "gate_up",
    "q_a_proj": "qkv_a", "kv_a_proj_with_mqa": "qkv_a",
}  # fmt: skip


_Key = tuple[str, tuple[int, ...], bool]


class Pad(msgspec.Struct, frozen=True, kw_only=True):
    """Multiples that a kernel rounds experts' sizes up to: hidden, and inner a rank."""

    hidden: int = 1
    inner: int = 1

    def factor(self, model: ModelSpec, tp: int) -> float:
        """How much larger the routed experts become."""
        inner = next((layer.experts.inner for layer in model.layers if layer.experts), 0)
        share = -(-inner // tp)
        if not share:
            return 1.0
        hidden = -(-model.hidden_size // self.hidden) * self.hidden / model.hidden_size
        return hidden * (-(-share // self.inner) * self.inner / share)


class Loader(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine loads and counts weights.

    `pad` is what the experts' kernel rounds up to. `device_used`: the figure is what the
    device has in use, segments of the allocator and all, in place of what is allocated;
    `mapped_bytes` are then what the driver's own code takes besides. `transposed`: packed
    experts are turned round a layer at a time, and what that frees is not given back.
    """

    pad: Pad | None = None
    device_used: bool = False
    mapped_bytes: int = 0
    transposed: bool = False


PLAIN = Loader()


def weights_on_rank(
    model: ModelSpec,
    scheme: Scheme,
    parallel: Parallel,
    *,
    drafts: int = 0,
    loader: Loader = PLAIN,
) -> int:
    """Bytes of weights on the fullest rank.

    `drafts` multi-token-prediction modules: each a layer like the last, and a projection
    of two hidden states to one. They share embeddings and output with the model, and
    stand in the model's own dtype, routed experts apart where the scheme packs those.

    A GGUF file's weights count as it stores them, dealt out as the scheme's are.

    Raises:
        UserError: heads, layers or experts do not go round.
    """
    split.check(model, parallel)
    grown = 1.0 if loader.pad is None else loader.pad.factor(model, parallel.tp)
    size = allocator.taken if loader.device_used else allocator.counted

    def held(
        of: ModelSpec, on: Parallel, stage: int, routed: Scheme = scheme, rest: Scheme = scheme
    ) -> float:
        total = 0.0
        for bytes_each, times in allocations(of, on, stage, routed, rest, grown):
            total += size(bytes_each) * times
        return total

    rotary = sum(size(2 * elements) for elements in model.rotary)
    most = max(held(model, parallel, stage) for stage in range(parallel.pp))
    if model.stored_parts is not None:
        most *= sum(model.stored_parts.values()) / held(model, Parallel(), 0)
    most += rotary
    most += loader.mapped_bytes
    if loader.transposed:
        most += _left_over(model, parallel, scheme)
    if not drafts or not model.layers:
        return round(most)
    last = max(model.layers, key=lambda layer: layer.indices[-1])
    layer = msgspec.structs.replace(last, indices=(0,))
    alone = msgspec.structs.replace(model, layers=(layer,), encoder=(), outside=())
    joined = 2 * model.hidden_size * model.hidden_size * scheme.dtype.bits // 8
    single, own = msgspec.structs.replace(parallel, pp=1), plain_scheme(scheme.dtype, scheme.dtype)
    experts = scheme if scheme.drafts else own
    return round(most + drafts * (held(alone, single, 0, experts, own) + size(joined)))


def allocations(
    model: ModelSpec, parallel: Parallel, stage: int, scheme: Scheme, rest: Scheme, grown: float
) -> Iterator[tuple[int, int]]:
    """Each allocation of a rank of `stage` in bytes, and how many there are of it.

    Routed experts are stored as `scheme` says, `grown` times as large; all else as `rest`.
    """
    data: dict[_Key, float] = {}
    scales: dict[_Key, float] = {}
    times: dict[_Key, int] = {}
    for piece in split.pieces(model, parallel, stage):
        routed = piece.tensor.role is Role.ROUTED_EXPERT
        stored = scheme if routed else rest
        stack = piece.tensor.count if routed else 1
        share = piece.num / piece.den * stack * (grown if routed else 1.0)
        for part in _parts(piece, stored):
            key = (_joined_name(piece.tensor.name), piece.indices, part.scales > 0)
            data[key] = data.get(key, 0.0) + part.data * share
            scales[key] = scales.get(key, 0.0) + part.scales * share
            times[key] = part.layers * piece.tensor.count // stack
    for key, count in times.items():
        yield math.ceil(data[key]), count
        yield math.ceil(scales[key]), count


class _Part(NamedTuple):
    """Bytes of a tensor's numbers and of their scales in each of `layers` layers."""

    layers: int
    data: int
    scales: int


def _parts(piece: Piece, stored: Scheme) -> Iterator[_Part]:
    """The layers that hold the tensor packed, and those that hold it as it is."""
    shape = piece.tensor.shape
    packed = stored.packed_layers(piece.tensor, piece.indices)
    layout = stored.layout_of(piece.tensor)
    if packed and layout is not None:
        *stack, out, into = shape
        copies = math.prod(stack)
        data = math.ceil(out * into * layout.bits / 8)
        rest = layout.bytes_of(out, into) - data
        yield _Part(packed, copies * data, copies * rest)
    if packed < len(piece.indices):
        yield _Part(len(piece.indices) - packed, stored.dtype.bytes_of(math.prod(shape)), 0)


def _joined_name(name: str) -> str:
    module, _, kind = name.rpartition(".")
    parent, _, leaf = module.rpartition(".")
    return f"{parent}.{_JOINED.get(leaf, leaf)}.{kind}"


def _left_over(model: ModelSpec, parallel: Parallel, scheme: Scheme) -> float:
    """Bytes of one layer's packed experts that turning them round leaves: w13 once, w2 twice."""
    most = 0.0
    for layer in model.layers:
        for tensor in layer.tensors:
            routed = tensor.role is Role.ROUTED_EXPERT
            if routed and "down" in tensor.name and scheme.covers(tensor):
                size = scheme.bytes_of(tensor) / max(parallel.tp, parallel.ep)
                most = max(most, 4 * size)
    return most
