"""Bytes on the fullest GPU of a layout, at any batch: the parts once, then sums.

The parts are those of `memory.serving`, whose figure this must equal (a test sees to it);
taken apart, so that a batch more costs an addition.
"""

from functools import partial
from typing import NamedTuple

from attnbench.calc import parallel as split
from attnbench.calc.activations import forward_peak
from attnbench.calc.kv_cache import Rules, layer_bytes
from attnbench.calc.memory import overhead_per_gpu, weights_bytes
from attnbench.calc.plan_problem import Weights
from attnbench.calc.plan_space import Layout
from attnbench.calc.stages import held_by, stage_ranges
from attnbench.spec.dtype import Dtype


class Stage(NamedTuple):
    """One pipeline stage's rank: bytes of weights, a sequence's cache, a token's activations.

    `stream` a token of a step, and the larger of `inner` a token and `sampled` a sequence.
    """

    weights: int
    sequence: int
    stream: int
    inner: int
    sampled: int

    def at(self, batch: int, step_tokens: int) -> int:
        """Bytes with `batch` sequences and `step_tokens` tokens in a step, overhead apart."""
        largest = max(self.inner * step_tokens, self.sampled * batch)
        return self.weights + self.sequence * batch + self.stream * step_tokens + largest

    def most(self, budget: int, step_tokens: int) -> int:
        """The largest batch whose bytes are at most `budget`; under 1 where none is."""
        left = budget - self.weights - self.stream * step_tokens
        sampled = left // max(self.sequence + self.sampled, 1)
        return min((left - self.inner * step_tokens) // max(self.sequence, 1), sampled)


class Footprint(NamedTuple):
    """The stages of a layout that may be the fullest, and what stands on each GPU besides."""

    stages: tuple[Stage, ...]
    overhead: int

    def per_gpu_bytes(self, batch: int, step_tokens: int) -> int:
        """Bytes on the fullest GPU with `batch` sequences on each data-parallel rank."""
        return max(stage.at(batch, step_tokens) for stage in self.stages) + self.overhead

    def most_sequences(self, budget: int, step_tokens: int) -> int:
        """The largest batch that `budget` bytes of a GPU hold; 0 where not even one fits."""
        return max(0, min(stage.most(budget - self.overhead, step_tokens) for stage in self.stages))


def footprint(
    weights: Weights, stored: tuple[int, ...], kv_dtype: Dtype, layout: Layout, *, seq_len: int
) -> Footprint:
    """What a layout holds for sequences of `seq_len` tokens; `stored` as `stored_by_stage`."""
    model, scheme = weights.model, weights.scheme
    rules = Rules(dtype=kv_dtype)
    size = max(scheme.dtype.bits // 8, 2)
    cached = [
        (layer, layer_bytes(model, layer, seq_len, rules, tp=layout.tp).total)
        for layer in model.layers
    ]
    decoder = stage_ranges(model.num_layers, layout.pp)
    encoder = stage_ranges(sum(layer.count for layer in model.encoder), layout.pp)
    stages = []
    for number, held in enumerate(decoder):
        layers = [layer for layer in model.encoder if held_by(encoder[number], layer.indices)]
        layers += [layer for layer, _ in cached if held_by(held, layer.indices)]
        peak = partial(
            forward_peak, model, layers, tp=layout.tp, outermost=number == layout.pp - 1, size=size
        )
        stream = size * 2 * model.hidden_size
        stages.append(
            Stage(
                weights=stored[number],
                sequence=sum(each * len(held_by(held, layer.indices)) for layer, each in cached),
                stream=stream,
                inner=peak(tokens=1, sequences=0) - stream,
                sampled=peak(tokens=0, sequences=1),
            )
        )
    return Footprint(_fullest(stages), overhead_per_gpu(layout.parallel))


def _fullest(stages: list[Stage]) -> tuple[Stage, ...]:
    """The stages that no other exceeds in everything: one of them is the fullest."""
    different = list(dict.fromkeys(stages))

    def covered(stage: Stage) -> bool:
        return any(
            other is not stage and all(a <= b for a, b in zip(stage, other, strict=True))
            for other in different
        )

    return tuple(stage for stage in different if not covered(stage))


def stored_by_stage(weights: Weights, layout: Layout) -> tuple[int, ...]:
    """Bytes of weights on the fullest rank of each stage, as `memory.serving` deals them out."""
    model, scheme = weights.model, weights.scheme
    summed = [
        sum(
            piece.share(scheme.bytes_of(piece.tensor, piece.indices))
            for piece in split.pieces(model, layout.parallel, stage)
        )
        for stage in range(layout.pp)
    ]
    if model.stored_bytes is None:
        return tuple(summed)
    whole = weights_bytes(model, scheme)
    return tuple(-(-each * model.stored_bytes // whole) for each in summed)
