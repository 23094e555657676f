"""A real model's heads, and every variant's error on its queries, keys and values."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from attnbench.calc.patterns import Full, Pattern
from attnbench.quality.approximations import Approximation, exact_output, output_of
from attnbench.quality.capture import Layer
from attnbench.quality.heads import HeadStats, head_stats
from attnbench.quality.windows import doubling_windows, mass_in_window, smallest_window
from attnbench.variants._protocol import Params

if TYPE_CHECKING:
    from torch import Tensor

SHARES = (0.9, 0.95, 0.99)


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """One query head of one layer. `windows`: mass kept by window; `smallest`: by share."""

    layer: int
    head: int
    causal: bool
    layer_window: int | None
    entropy: float
    sink_mass: float
    last_mass: float | None
    windows: dict[str, float]
    smallest: dict[str, int]
    patterns: dict[str, float]


class ModelError(msgspec.Struct, frozen=True, kw_only=True):
    """A variant's error over a model: by layer, and of the worst head in any layer.

    `rel_error` is the mean of the layers' ‖out − ref‖ / ‖ref‖; `mass_kept` the mean over
    heads and `density` the pattern's share of all pairs, None where the variant is none.
    """

    variant: str
    params: Params
    rel_error: float
    by_layer: tuple[float, ...]
    worst_head: float
    worst_layer: int
    mass_kept: float | None
    density: float | None


def heads_of(
    layers: Sequence[Layer], chosen: Sequence[Approximation], *, sinks: int
) -> Iterator[Head]:
    """Every head's statistics, layer by layer."""
    for layer in layers:
        causal, tokens = layer.own.causal, layer.query.shape[2]
        patterns = _patterns(layer, chosen)
        found = head_stats(layer.query, layer.key, layer.own, patterns, causal=causal, sinks=sinks)
        for number, stats in enumerate(found):
            yield _head(layer, number, stats, doubling_windows(tokens))


def model_errors(
    layers: Sequence[Layer], chosen: Sequence[Approximation], heads: Sequence[Head]
) -> Iterator[ModelError]:
    """Each variant's error on every layer, against the layer's own attention.

    A variant without the layers' form (causal or not) is left out. In a layer that has a
    window of its own a pattern is taken within it; a variant that is no pattern cannot be,
    so it is judged on layers without.
    """
    from attnbench.variants._support import shape_of

    for approximation in chosen:
        judged = [layer for layer in layers if _fits(approximation, layer)]
        if not judged:
            continue
        errors, worst = [], (0.0, 0)
        for layer in judged:
            tensors = layer.query, layer.key, layer.value
            within = None if isinstance(layer.own, Full) else layer.own
            exact = exact_output(*tensors, layer.own)
            difference = output_of(approximation, *tensors, own=within) - exact
            errors.append(float(difference.norm() / exact.norm()))
            by_head = _head_norms(difference) / _head_norms(exact)
            worst = max(worst, (float(by_head.max()), layer.number))
        kept = [h.patterns[approximation.name] for h in heads if approximation.name in h.patterns]
        yield ModelError(
            variant=approximation.name,
            params=approximation.params,
            rel_error=sum(errors) / len(errors),
            by_layer=tuple(errors),
            worst_head=worst[0],
            worst_layer=worst[1],
            mass_kept=sum(kept) / len(kept) if kept else None,
            density=approximation.density(shape_of(judged[0].query, judged[0].key)),
        )


def _head_norms(x: "Tensor") -> "Tensor":
    return x.square().sum((0, 2, 3)).sqrt()


def _fits(approximation: Approximation, layer: Layer) -> bool:
    if approximation.causal is not layer.own.causal:
        return False
    return isinstance(layer.own, Full) or approximation.variant.pattern is not None


def _patterns(layer: Layer, chosen: Sequence[Approximation]) -> dict[str, Pattern]:
    from attnbench.variants._support import shape_of

    shape = shape_of(layer.query, layer.key, causal=layer.own.causal)
    made = {a.name: a.pattern(shape) for a in chosen if a.causal is layer.own.causal}
    return {name: pattern for name, pattern in made.items() if pattern is not None}


def _head(layer: Layer, number: int, stats: HeadStats, windows: Sequence[int]) -> Head:
    causal = layer.own.causal
    mass = stats.by_distance
    return Head(
        layer=layer.number,
        head=number,
        causal=causal,
        layer_window=None if isinstance(layer.own, Full) else layer.own.window,
        entropy=stats.entropy,
        sink_mass=stats.sink_mass,
        last_mass=stats.last_mass,
        windows={str(w): mass_in_window(mass, w, causal=causal) for w in windows},
        smallest={f"{share:.0%}": smallest_window(mass, share, causal=causal) for share in SHARES},
        patterns=dict(stats.by_pattern),
    )
