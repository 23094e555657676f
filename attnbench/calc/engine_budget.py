"""What an engine has left for its cache: the budget less weights, peak, and the rest.

    available = utilization · total − weights − activation peak − outside torch − graphs

Every term that cannot be computed is a band: low, middle, high.
"""

from collections.abc import Iterable

import msgspec

from attnbench.calc import parallel as split
from attnbench.calc.activations import forward_peak
from attnbench.calc.parallel import Parallel
from attnbench.calc.quantization import Scheme
from attnbench.calc.stages import held_by, stage_ranges
from attnbench.spec.model import Layer, ModelSpec, Role
from attnbench.units import GIB


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that is known only to lie between `low` and `high`."""

    low: float
    middle: float
    high: float

    def __add__(self, other: "Band") -> "Band":
        return Band(
            low=self.low + other.low,
            middle=self.middle + other.middle,
            high=self.high + other.high,
        )

    def times(self, factor: float) -> "Band":
        """The band of `factor` times the figure."""
        return Band(low=self.low * factor, middle=self.middle * factor, high=self.high * factor)


def exactly(value: float) -> Band:
    """A band of no width."""
    return Band(low=value, middle=value, high=value)


def largest(bands: Iterable[Band]) -> Band:
    """The band of the largest of several figures."""
    held = list(bands)
    return Band(
        low=max(b.low for b in held),
        middle=max(b.middle for b in held),
        high=max(b.high for b in held),
    )


# A vision encoder is run on its largest picture too. Measured 2 to 3 GiB.
VISION_PEAK = Band(low=1.0 * GIB, middle=2.5 * GIB, high=3.0 * GIB)
# The forward pass of few tokens still needs workspaces: 0.17 to 0.25 GiB measured.
FORWARD_FLOOR = Band(low=0.15 * GIB, middle=0.2 * GIB, high=0.25 * GIB)
GRAPHS = Band(low=0.0, middle=0.4 * GIB, high=1.0 * GIB)
GRAPHS_SEVERAL = Band(low=0.0, middle=0.8 * GIB, high=2.4 * GIB)
# The driver's total differs by driver, and the allocator rounds: stated with every budget.
SLACK = Band(low=-0.7 * GIB, middle=0.0, high=0.7 * GIB)


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """The terms of one GPU's budget in bytes; `cache` is what is left."""

    total: int
    utilization: float
    requested: int
    weights: int
    activation: Band
    non_torch: Band
    graphs: Band
    cache: Band


def budget(
    *,
    total: int,
    utilization: float,
    weights: int,
    activation: Band,
    non_torch: Band,
    graphs: Band,
) -> Budget:
    """What is left of `utilization` · `total` bytes, with the band of what is not known."""
    requested = int(total * utilization)
    taken = activation + non_torch + graphs + SLACK
    return Budget(
        total=total,
        utilization=utilization,
        requested=requested,
        weights=weights,
        activation=activation,
        non_torch=non_torch,
        graphs=graphs,
        cache=Band(
            low=requested - weights - taken.high,
            middle=requested - weights - taken.middle,
            high=requested - weights - taken.low,
        ),
    )


def weights_on_rank(
    model: ModelSpec, scheme: Scheme, parallel: Parallel, *, drafts: int = 0
) -> int:
    """Bytes of weights on the fullest rank.

    `drafts` multi-token-prediction modules: each a layer like the last, and a projection
    of two hidden states to one. They share embeddings and output with the model.
    """
    stages = range(parallel.pp)
    held = max(_on_rank(model, scheme, parallel, stage) for stage in stages)
    if not drafts or not model.layers:
        return held
    last = max(model.layers, key=lambda layer: layer.indices[-1])
    one = msgspec.structs.replace(last, indices=(last.indices[-1],))
    alone = msgspec.structs.replace(
        model, layers=(msgspec.structs.replace(one, indices=(0,)),), encoder=(), outside=()
    )
    joined = 2 * model.hidden_size * model.hidden_size * scheme.dtype.bits // 8
    single = msgspec.structs.replace(parallel, pp=1)
    return held + drafts * (_on_rank(alone, scheme, single, 0) + joined)


def _on_rank(model: ModelSpec, scheme: Scheme, parallel: Parallel, stage: int) -> int:
    return sum(
        piece.share(scheme.bytes_of(piece.tensor, piece.indices))
        for piece in split.pieces(model, parallel, stage)
    )


def activation_peak(
    model: ModelSpec, *, tokens: int, sequences: int, sampler_bytes: Band, parallel: Parallel
) -> Band:
    """The peak of the profiling run: the larger of the forward pass and the sampler's.

    The sampler's dummy run takes `sampler_bytes` · sequences · vocabulary on every rank,
    since logits are gathered. A vision tower's own run is added.
    """
    forward = max(
        forward_peak(
            model, _held(model, stage), tokens=tokens, sequences=0, tp=parallel.tp,
            outermost=False,
        )
        for stage in stage_ranges(model.num_layers, parallel.pp)
    )  # fmt: skip
    ran = Band(low=forward, middle=forward * 1.1, high=forward * 1.5)
    sampled = sampler_bytes.times(sequences * model.vocab_size)
    peak = largest([ran, sampled, FORWARD_FLOOR])
    seen = any(tensor.role is Role.VISION for tensor, _ in model.parameters())
    return peak + VISION_PEAK if seen else peak


def _held(model: ModelSpec, stage: range) -> list[Layer]:
    return [layer for layer in model.layers if held_by(stage, layer.indices)]
