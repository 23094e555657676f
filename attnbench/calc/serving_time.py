"""Time of a decoding step and of a prefill of a whole model, and what users see of them.

    step = products of all layers, or their weights' bytes + attention
         + layers · (small kernels + two all-reduces where tensor parallel) + the engine's own
         + layers of experts · routing
    TPOT = step of the running batch + the prefills that interrupt it, a share of each token
    TTFT = prefill of the prompt + its wait for the prompts before it, √(batch - 1) times `wait`

Source: Pope et al. 2022, arXiv:2211.05102 (decode reads weights once a step); Agrawal et
al. 2024, arXiv:2403.02310 (prefills stall decodes); docs/roofline.md.
"""

import msgspec

from attnbench.calc.attention_time import Constants, attention_time
from attnbench.calc.attention_work import Chip, Work
from attnbench.calc.model_cost import AttentionGroup, ModelCost
from attnbench.calc.patterns import SlidingWindow
from attnbench.spec.attention import Mode
from attnbench.spec.calibration import ServingConstants
from attnbench.spec.dtype import Dtype

_REDUCTIONS = 2  # all-reduces a layer: after attention, after the MLP
# What a layer of experts runs besides its products: router, top-k, sorting tokens by expert,
# gathering and quantising them, the second grouped product's launch, weighing and summing.
# Some ten kernels of six microseconds; 138 published rows lack 78 us a layer at the median.
_ROUTING_S = 6e-5
_LINK_SHARE = 0.7  # of a link's published rate, that an all-reduce reaches


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """How one replica is laid out, and its formats. `link_bytes_per_s`: one direction."""

    tp: int = 1
    pp: int = 1
    weight_dtype: Dtype = Dtype.BF16
    kv_dtype: Dtype = Dtype.BF16
    link_bytes_per_s: float | None = None


class StepTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass asks of a chip at its published peaks, and attention's time as fitted."""

    tensor_s: float
    weights_s: float
    attention_s: float
    cache_s: float
    link_s: float
    reductions: int
    layers: int
    expert_layers: int
    sequences: int


class ServingTime(msgspec.Struct, frozen=True, kw_only=True):
    """Predicted seconds of a request among `batch` others.

    `ideal_s` is TPOT at published peaks: products or weights, and cache at full rate.
    """

    ttft_s: float
    tpot_s: float
    step_s: float
    prefill_s: float
    ideal_s: float


def pass_terms(
    cost: ModelCost,
    *,
    new_tokens: int,
    context: int,
    batch: int,
    placement: Placement,
    chip: Chip,
    constants: Constants,
) -> StepTerms:
    """A pass of `batch` sequences of `new_tokens` each over `context` tokens in all."""
    tokens = new_tokens * batch
    gpus = placement.tp * placement.pp
    seen = 1 - (1 - cost.per_token / cost.experts) ** tokens
    stored = cost.dense + int(cost.routed * seen)
    visited = cost.dense + cost.routed * cost.per_token // cost.experts
    compute = placement.weight_dtype
    peak = chip.peak(compute if compute in chip.flops_per_s else Dtype.BF16)
    half_peak = chip.peak(Dtype.BF16)
    # The output layer keeps 16 bits, and is applied to one token a sequence.
    tensor_s = 2 * visited * tokens / peak + 2 * cost.output * batch / half_peak
    weights = compute.bytes_of(stored) + 2 * cost.output
    moved = 2 * tokens * cost.hidden * (placement.tp - 1) / placement.tp * 2
    link = placement.link_bytes_per_s or chip.bytes_per_s / 40
    works = [(g.layers, _work(g, new_tokens, context, batch, placement)) for g in cost.attention]
    return StepTerms(
        tensor_s=tensor_s / gpus,
        weights_s=weights / chip.bytes_per_s / gpus,
        attention_s=sum(n * attention_time(w, chip, constants).time_s for n, w in works),
        cache_s=sum(n * w.cache_bytes for n, w in works) / chip.bytes_per_s,
        link_s=_REDUCTIONS * cost.layers * moved / (link * _LINK_SHARE) if placement.tp > 1 else 0,
        reductions=_REDUCTIONS * cost.layers if placement.tp > 1 else 0,
        layers=cost.layers,
        expert_layers=cost.expert_layers,
        sequences=batch,
    )


def _work(
    group: AttentionGroup, new_tokens: int, context: int, batch: int, placement: Placement
) -> Work:
    decode = new_tokens == 1
    key_dim, value_dim = group.key_dim, group.value_dim
    latent = group.latent and decode
    kv_heads = group.kv_heads
    if group.prefill_dims and not decode:
        key_dim, value_dim = group.prefill_dims
        kv_heads = group.heads
    heads = max(group.heads // placement.tp, 1)
    kv_heads = max(kv_heads // placement.tp, 1)
    pattern = None
    if group.window is not None and group.window < context:
        pattern = SlidingWindow(causal=True, window=group.window)
    return Work(
        batch=batch,
        heads=heads,
        kv_heads=kv_heads if heads % kv_heads == 0 else 1,
        seq_q=new_tokens,
        seq_kv=context,
        head_dim=key_dim,
        value_dim=value_dim,
        kv_dtype=placement.kv_dtype,
        seen=pattern.pairs(new_tokens, context) if pattern else None,
        read=pattern.keys(new_tokens, context) if pattern else None,
        latent=latent,
        mode=Mode.DECODE if decode else Mode.FWD,
    )


def pass_s(terms: StepTerms, c: ServingConstants) -> float:
    """Seconds of a pass: products or weights, attention, and what stands around them."""
    tensor_s = terms.tensor_s / c.tensor_efficiency
    weights_s = terms.weights_s / c.bandwidth_efficiency
    longest = max(tensor_s, weights_s)
    shorter: float = min(tensor_s, weights_s) / longest
    products_s = longest * float((1 + shorter**3) ** (1 / 3))
    around_s = terms.layers * c.layer_s + terms.reductions * c.reduction_s
    around_s += terms.expert_layers * _ROUTING_S
    return (
        products_s + terms.attention_s + terms.link_s + around_s
        + c.step_s + c.sequence_s * terms.sequences
    )  # fmt: skip


def serving_time(
    step: StepTerms, prefill: StepTerms, c: ServingConstants, *, batch: int, output_len: int
) -> ServingTime:
    """What a request sees among `batch` that keep arriving as others end.

    `step` decodes the whole batch; `prefill` is that of one prompt. While a request makes
    `output_len` tokens, every other slot is refilled once: batch - 1 prefills.
    """
    step_s, prefill_s = pass_s(step, c), pass_s(prefill, c)
    stalls_s = c.interference * prefill_s * (batch - 1) / max(output_len, 1)
    wait_s = waited_s(prefill_s, c, batch=batch)
    return ServingTime(
        ttft_s=prefill_s + wait_s + step_s,
        tpot_s=step_s + stalls_s,
        step_s=step_s,
        prefill_s=prefill_s,
        ideal_s=max(step.tensor_s, step.weights_s) + step.cache_s,
    )


def waited_s(prefill_s: float, c: ServingConstants, *, batch: int) -> float:
    """Seconds that a prompt waits for those of `batch` - 1 others, `prefill_s` each.

    Slots free themselves when answers end, in clumps: as many prompts stand before one as
    a count of the others scatters, its root. In proportion to the others, held-back TTFT
    of dense models is 37% off at the median; with the root 29%.
    """
    return c.wait * prefill_s * float((batch - 1) ** 0.5)
