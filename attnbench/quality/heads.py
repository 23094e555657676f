"""What each head of an attention layer looks at: entropy, distances, sinks, patterns."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from attnbench.calc.patterns import Pattern

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK_ELEMENTS = 1 << 23  # weights held at once: 64 MiB in float64


class HeadStats(msgspec.Struct, frozen=True, kw_only=True):
    """Means over query rows and sequences of one head's attention weights.

    `entropy` -Σ p ln p in nats; its exponential is how many keys share the weight.
    `sink_mass`: on the first tokens, over the rows after them. `last_mass`: on the last
    token (a separator, in many encoders), over all rows that see it but its own; None
    where causal, as no other row sees it. `by_distance[d]`: on keys d away.
    `by_pattern`: mass kept by each pattern.
    """

    entropy: float
    sink_mass: float
    last_mass: float | None
    by_distance: tuple[float, ...]
    by_pattern: Mapping[str, float]


def head_stats(
    query: "Tensor",
    key: "Tensor",
    own: Pattern,
    patterns: Mapping[str, Pattern],
    *,
    causal: bool,
    sinks: int,
) -> list[HeadStats]:
    """One a query head, of softmax(QKᵀ/√d) over the pairs of `own`, in float64.

    Query [batch, heads, seq, head_dim], key [batch, kv_heads, seq, head_dim]:
    self-attention, seq_q = seq_kv. Nothing seq × seq is held at once.
    """
    import torch

    batch, heads, tokens, _ = query.shape
    entropy = query.new_zeros(heads, dtype=torch.float64)
    sink, last = entropy.clone(), entropy.clone()
    histogram = query.new_zeros(heads, tokens, dtype=torch.float64)
    kept = query.new_zeros(heads, len(patterns), dtype=torch.float64)
    at = torch.arange(tokens, device=query.device)
    for rows, weights in weights_by_rows(query, key, own):
        entropy += torch.special.entr(weights).sum((0, 2, 3))
        sink += weights[:, :, rows >= sinks, :sinks].sum((0, 2, 3))
        last += weights[:, :, rows < tokens - 1, -1].sum((0, 2))
        pairs = weights.sum(0).flatten(1)  # [heads, rows · keys]
        distance = (rows[:, None] - at[None, :]).abs()
        histogram.index_add_(1, distance.flatten(), pairs)
        for number, pattern in enumerate(patterns.values()):
            seen = pattern.allows(rows[:, None], at[None, :]).double()
            kept[:, number] += pairs @ seen.expand(len(rows), tokens).flatten()
    count = batch * tokens
    after_sinks = batch * max(1, tokens - sinks)
    return [
        HeadStats(
            entropy=float(entropy[head]) / count,
            sink_mass=float(sink[head]) / after_sinks,
            last_mass=None if causal else float(last[head]) / (batch * max(1, tokens - 1)),
            by_distance=tuple((histogram[head] / count).tolist()),
            by_pattern=dict(zip(patterns, (kept[head] / count).tolist(), strict=True)),
        )
        for head in range(heads)
    ]


def weights_by_rows(
    query: "Tensor", key: "Tensor", own: Pattern
) -> "Iterator[tuple[Tensor, Tensor]]":
    """Rows' positions and their weights [batch, heads, rows, seq], some rows at a time."""
    import torch

    batch, heads, tokens, width = query.shape
    k = key.double().repeat_interleave(heads // key.shape[1], 1).transpose(-1, -2)
    at = torch.arange(tokens, device=query.device)
    for rows in at.split(max(1, _CHUNK_ELEMENTS // (batch * heads * tokens))):
        scores = query[:, :, rows].double() @ k / math.sqrt(width)
        seen = own.allows(rows[:, None], at[None, :])
        yield rows, torch.softmax(scores.masked_fill(~seen, -math.inf), -1)


def mean_map(query: "Tensor", key: "Tensor", own: Pattern, cells: int) -> "Tensor":
    """Mean weights of each head as a picture: [heads, cells, cells], sums over a cell's keys.

    Each row of a head's picture sums to 1: the mass that its queries put on each run of keys.
    """
    import torch

    heads, tokens = query.shape[1:3]
    cells = min(cells, tokens)
    cell = torch.arange(tokens, device=query.device) * cells // tokens
    total = query.new_zeros(heads, cells, cells, dtype=torch.float64)
    for rows, weights in weights_by_rows(query, key, own):
        summed = query.new_zeros(heads, len(rows), cells, dtype=torch.float64)
        summed.index_add_(2, cell, weights.mean(0))
        total.index_add_(1, cell[rows], summed)
    return total / torch.bincount(cell, minlength=cells)[:, None]
