"""How tensor, pipeline, expert and data parallelism deal a model's tensors out to GPUs.

Sources: Shoeybi et al. 2019, arXiv:1909.08053 (tensor parallelism); vLLM's
`get_pp_indices` (stages); Lepikhin et al. 2020, arXiv:2006.16668 (expert parallelism).
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from attnbench.calc.stages import held_by, stage_ranges
from attnbench.errors import UserError
from attnbench.spec.model import (
    Attention,
    Latent,
    Layer,
    Mixer,
    ModelSpec,
    Place,
    Role,
    Shard,
    Shared,
    Tensor,
)


class Parallel(msgspec.Struct, frozen=True, kw_only=True):
    """Ranks of each kind. GPUs = tp · pp · dp; experts are dealt to `ep` of tp · dp ranks.

    With ep under tp, each expert is besides split over tp / ep ranks; with ep = 1 it is
    split over all tp like any other layer.
    """

    tp: int = 1
    pp: int = 1
    ep: int = 1
    dp: int = 1

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return self.tp * self.pp * self.dp

    @property
    def expert_tp(self) -> int:
        """Ranks that one expert is split over."""
        return max(1, self.tp // self.ep)

    @property
    def expert_copies(self) -> int:
        """Ranks that hold the same piece of an expert."""
        return self.tp * self.dp // (self.ep * self.expert_tp)


class Piece(NamedTuple):
    """What one rank holds of a group of tensors: `num` / `den` of it, in layers `indices`.

    `copies` ranks hold the same piece, which is what ZeRO divides by.
    """

    tensor: Tensor
    indices: tuple[int, ...]
    num: int
    den: int
    copies: int

    def share(self, whole_bytes: int) -> int:
        """The rank's part of `whole_bytes`, rounded up."""
        return -(-whole_bytes * self.num // self.den)


def check(model: ModelSpec, parallel: Parallel) -> None:
    """Refuse a split that no engine can make.

    Raises:
        UserError: heads, layers or experts do not go round.
    """
    tp, pp, ep, dp = parallel.tp, parallel.pp, parallel.ep, parallel.dp
    for heads in sorted(head_counts(model)):
        if heads % tp:
            raise UserError(
                f"--tp: {tp} does not divide the {heads} heads of {model.name}",
                hint="Tensor parallelism deals whole query heads to GPUs.",
            )
    if pp > max(model.num_layers, 1):
        raise UserError(f"--pp: {pp} stages, and {model.name} has only {model.num_layers} layers")
    if ep == 1:
        return
    experts = [layer.experts.total for layer in model.layers if layer.experts]
    if not experts:
        raise UserError(f"--ep: {ep}: {model.name} has no routed experts")
    if ep > min(experts):
        raise UserError(f"--ep: {ep} is over the {min(experts)} experts of {model.name}")
    if tp * dp % ep:
        raise UserError(
            f"--ep: {ep} does not divide --tp {tp} times --dp {dp}",
            hint="Expert parallelism deals experts out to the tensor and data parallel ranks.",
        )
    if ep % tp and tp % ep:
        raise UserError(f"--ep: {ep} and --tp {tp}: neither divides the other")


def pieces(model: ModelSpec, parallel: Parallel, stage: int) -> Iterator[Piece]:
    """What the fullest rank of pipeline stage `stage` holds of every tensor group.

    An encoder is dealt out to the stages as the decoder is.
    """
    for layers in (model.encoder, model.layers):
        held = stage_ranges(sum(layer.count for layer in layers), parallel.pp)[stage]
        for layer in layers:
            indices = held_by(held, layer.indices)
            if indices:
                for tensor in layer.tensors:
                    yield _piece(tensor, indices, layer, parallel)
    for tensor in model.outside:
        if _on_stage(tensor, model, parallel.pp, stage):
            yield _piece(tensor, (0,), None, parallel)


def _on_stage(tensor: Tensor, model: ModelSpec, pp: int, stage: int) -> bool:
    if tensor.place is Place.EVERY:
        return True
    if tensor.place is Place.LAST:
        return stage == pp - 1
    # Tied embeddings are the output's weights too: the last stage keeps a copy.
    tied = model.tied_embeddings and tensor.role is Role.EMBEDDING
    return stage == 0 or (tied and stage == pp - 1 and tensor.shape[0] == model.vocab_size)


def _piece(
    tensor: Tensor, indices: tuple[int, ...], layer: Layer | None, parallel: Parallel
) -> Piece:
    tp = parallel.tp
    if tensor.shard is Shard.EXPERT and layer is not None and layer.experts is not None:
        total = layer.experts.total
        num, den = -(-total // parallel.ep), total * parallel.expert_tp
        return Piece(tensor, indices, num, den, parallel.expert_copies)
    if tensor.shard is Shard.REPLICATED:
        return Piece(tensor, indices, 1, 1, parallel.dp)
    units = _units(tensor, layer)
    return Piece(tensor, indices, -(-units // tp), units, parallel.dp)


def _units(tensor: Tensor, layer: Layer | None) -> int:
    """What is dealt out one by one: KV heads, or output or input features."""
    if tensor.shard is Shard.KV and layer is not None:
        return max(kv_heads(layer), 1)
    if tensor.shard is Shard.ROW or len(tensor.shape) == 1:
        return tensor.shape[-1]
    return tensor.shape[0] if tensor.shard is Shard.VOCAB else tensor.shape[-2]


def kv_heads(layer: Layer) -> int:
    """KV heads of the layer's attention; 0 where it has none."""
    return max((m.kv_heads for m in _mixers(layer) if isinstance(m, Attention)), default=0)


def head_counts(model: ModelSpec) -> set[int]:
    """The numbers of query heads that the model's attention has, each once."""
    mixers = (m for layer in (*model.encoder, *model.layers) for m in _mixers(layer))
    return {m.heads for m in mixers if isinstance(m, Attention | Latent)}


def _mixers(layer: Layer) -> Iterator[Mixer]:
    """The layer's mixers; one that reads another layer's cache as what that is."""
    for mixer in layer.mixers:
        yield mixer.like if isinstance(mixer, Shared) else mixer
