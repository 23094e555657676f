"""What an engine has left for its cache: the budget less weights, peak, and the rest.

    available = utilization · total − weights − activation peak − outside torch − graphs

Every term that cannot be computed is a band: low, middle, high.
"""

from collections.abc import Iterable

import msgspec

from attnbench.calc.activations import forward_peak
from attnbench.calc.parallel import Parallel
from attnbench.calc.stages import held_by, stage_ranges
from attnbench.spec.model import Latent, Layer, ModelSpec, Role
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


# A vision encoder is run on its largest picture too, unless pictures are off: 2 to 3 GiB
# where pictures have no fixed size, little where they have one.
VISION_ANY_SIZE = Band(low=0.0, middle=2.0 * GIB, high=3.0 * GIB)
VISION_FIXED = Band(low=0.0, middle=0.4 * GIB, high=1.4 * GIB)
# The forward pass of few tokens still needs workspaces: 0.17 to 0.25 GiB measured.
FORWARD_FLOOR = Band(low=0.15 * GIB, middle=0.2 * GIB, high=0.25 * GIB)
GRAPHS = Band(low=0.0, middle=0.4 * GIB, high=1.0 * GIB)
GRAPHS_SEVERAL = Band(low=0.0, middle=0.8 * GIB, high=2.4 * GIB)
# The band that is stated with every budget, GiB each way by GPUs of a replica: totals
# differ by driver, profilers by release, collectives by topology.
STATED_GIB = ((8, 3.0), (2, 2.0), (1, 1.5))


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
    gpus: int = 1,
) -> Budget:
    """What is left of `utilization` · `total` bytes, with the band that is stated."""
    requested = int(total * utilization)
    taken = activation + non_torch + graphs
    middle = requested - weights - taken.middle
    width = next(gib for least, gib in STATED_GIB if gpus >= least) * GIB
    return Budget(
        total=total,
        utilization=utilization,
        requested=requested,
        weights=weights,
        activation=activation,
        non_torch=non_torch,
        graphs=graphs,
        cache=Band(low=middle - width, middle=middle, high=middle + width),
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
    if not seen:
        return peak
    return peak + (VISION_ANY_SIZE if model.pictures_of_any_size else VISION_FIXED)


def sparse_workspace(model: ModelSpec, max_model_len: int | None) -> int:
    """Bytes that sparse attention over latents sets aside: five longest prompts, in 16 bits.

    5 · max_model_len · (kv_rank + rope_dim) · 2, where the model has an indexer.

    Source: vLLM, `v1/attention/backends/mla/indexer.py` and `flashmla_sparse.py`.
    """
    widths = [
        mixer.kv_rank + mixer.rope_dim
        for layer in model.layers
        for mixer in layer.mixers
        if isinstance(mixer, Latent) and mixer.index_dim
    ]
    return 5 * (max_model_len or model.max_position or 0) * max(widths, default=0) * 2


def _held(model: ModelSpec, stage: range) -> list[Layer]:
    return [layer for layer in model.layers if held_by(stage, layer.indices)]
