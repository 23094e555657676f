"""Inputs that are made: Gaussian ones, and a needle: one key that matters, at a distance."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from attnbench.calc.patterns import Full
from attnbench.measure.inputs import SEED, make_inputs
from attnbench.quality.approximations import (
    Approximation,
    ErrorOf,
    error_of,
    exact_output,
    output_of,
)
from attnbench.quality.heads import head_stats
from attnbench.spec.attention import AttentionShape, Mode

if TYPE_CHECKING:
    from torch import Tensor

NEEDLE_MASS = 0.9  # of the query's exact attention


class NeedlePoint(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a needle `distance` keys before the query, mean over heads.

    `mass`: the weight that the variant puts on it, where exact attention puts
    NEEDLE_MASS. `error`: ‖out − exact‖ / ‖exact‖ of the query's output.
    """

    variant: str
    distance: int
    mass: float
    error: float


def gaussian_errors(chosen: Sequence[Approximation], shape: AttentionShape) -> Iterator[ErrorOf]:
    """Errors on standard normal query, key and value of `shape`, a variant at a time."""
    made = make_inputs(shape, Mode.FWD, "cpu")
    kept = {}
    for causal in sorted({a.causal for a in chosen}):
        patterns = {a.name: a.pattern(shape) for a in chosen if a.causal is causal}
        found = head_stats(
            made.query, made.key, Full(causal=causal),
            {name: pattern for name, pattern in patterns.items() if pattern is not None},
            causal=causal, sinks=1,
        )  # fmt: skip
        for name in found[0].by_pattern:
            kept[name] = sum(head.by_pattern[name] for head in found) / len(found)
    for approximation in chosen:
        yield error_of(
            approximation, made.query, made.key, made.value, kept.get(approximation.name)
        )


def needle_distances(tokens: int) -> tuple[int, ...]:
    """1, 4, 16, ... and the first token, seen from the last.

    >>> needle_distances(100)
    (1, 4, 16, 64, 99)
    """
    distances, distance = [], 1
    while distance < tokens - 1:
        distances.append(distance)
        distance *= 4
    return (*distances, tokens - 1)


def needle_points(
    chosen: Sequence[Approximation], shape: AttentionShape, distances: Sequence[int]
) -> Iterator[NeedlePoint]:
    """Each variant at each distance: the last token asks, its heads are trials.

    Keys, query and values are standard normal but for the needle's key, which lies along
    the query, as long as makes exact attention give it NEEDLE_MASS. A weight is read off
    a value channel that is 1 at the needle and 0 elsewhere: every variant is linear in V.
    One query that is the last token sees the same keys causal or not.
    """
    import torch

    generator = torch.Generator().manual_seed(SEED)
    size = (1, shape.heads, shape.seq_kv, shape.head_dim)
    keys = torch.randn(size, generator=generator, dtype=torch.float64)
    values = torch.randn(size, generator=generator, dtype=torch.float64)
    query = torch.randn((*size[:2], 1, size[3]), generator=generator, dtype=torch.float64)
    for distance in distances:
        at = shape.seq_kv - 1 - distance
        key = place_needle(query, keys, at, NEEDLE_MASS)
        marked = torch.cat([torch.zeros_like(values[..., :1]), values], -1)
        marked[:, :, at, 0] = 1.0
        exact = exact_output(query, key, marked, Full(causal=True))[..., 1:]
        for approximation in chosen:
            out = output_of(approximation, query, key, marked)
            error = (out[..., 1:] - exact).norm(dim=-1) / exact.norm(dim=-1)
            yield NeedlePoint(
                variant=approximation.name,
                distance=distance,
                mass=float(out[..., 0].mean()),
                error=float(error.mean()),
            )


def place_needle(query: "Tensor", keys: "Tensor", at: int, mass: float) -> "Tensor":
    """`keys` with the one at position `at` made to draw `mass` of a single query's attention.

    Query [batch, heads, 1, head_dim], keys [batch, heads, seq, head_dim]. Its logit is
    ln(mass / (1 − mass)) + ln Σ exp of the others' logits.
    """
    width = math.sqrt(query.shape[-1])
    logits = (query @ keys.transpose(-1, -2) / width).squeeze(-2)
    logits[..., at] = -math.inf
    wanted = math.log(mass / (1 - mass)) + logits.logsumexp(-1)
    key = keys.clone()
    direction = query[:, :, 0] / query[:, :, 0].square().sum(-1, keepdim=True)
    key[:, :, at] = direction * wanted[..., None] * width
    return key
