"""What `quality` answers, part by part; a part that was not asked for is None."""

from pathlib import Path

import msgspec

from attnbench.calc.pattern_picture import Grid
from attnbench.errors import MachineError, NothingToDoError
from attnbench.quality.approximations import Approximation, ErrorOf
from attnbench.quality.crossover import Crossover, crossovers
from attnbench.quality.frontier import Standing, frontier
from attnbench.quality.model import Head, ModelError, heads_of, model_errors
from attnbench.quality.synthetic import (
    NeedlePoint,
    gaussian_errors,
    needle_distances,
    needle_points,
)
from attnbench.spec.attention import AttentionShape
from attnbench.spec.result import ResultRow
from attnbench.variants import load_variant, variant_names


class Gaussian(msgspec.Struct, frozen=True, kw_only=True):
    """Errors on Gaussian inputs of one shape."""

    shape: AttentionShape
    errors: tuple[ErrorOf, ...]


class Needle(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a needle, by variant and distance."""

    shape: AttentionShape
    distances: tuple[int, ...]
    points: tuple[NeedlePoint, ...]


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """Errors and heads of a real model. `maps`: a picture a layer and head, where wanted."""

    name: str
    layers: int
    sequences: int
    tokens: int
    causal: bool
    sinks: int
    errors: tuple[ModelError, ...]
    heads: tuple[Head, ...]
    left_out: tuple[str, ...]
    maps: tuple[tuple[str, Grid], ...] = ()


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """A run's rows as frontier and crossovers."""

    run: Path
    device: str
    frontiers: tuple[tuple[Standing, ...], ...]
    crossovers: tuple[Crossover, ...]
    without_error: int


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """All parts."""

    gaussian: Gaussian | None = None
    needle: Needle | None = None
    model: Model | None = None
    joined: Joined | None = None


def gaussian(chosen: list[Approximation], shape: AttentionShape) -> Gaussian:
    """Errors on Gaussian inputs."""
    return Gaussian(shape=shape, errors=tuple(gaussian_errors(chosen, shape)))


def needle(chosen: list[Approximation], shape: AttentionShape) -> Needle:
    """Needles at 1, 4, 16, ... and at the first token."""
    distances = needle_distances(shape.seq_kv)
    points = tuple(needle_points(chosen, shape, distances))
    return Needle(shape=shape, distances=distances, points=points)


def real_model(
    name: str, text: Path | None, tokens: int, chosen: dict[bool, list[Approximation]],
    *, sinks: int, cells: int,
) -> Model:  # fmt: skip
    """A model's heads and errors; `chosen` are the approximations by form, causal or not.

    `cells` is the side of each head's picture; 0: none.

    Raises:
        MachineError: transformers or the packaged model is not installed.
        UserError: the model or the text cannot be used.
        NothingToDoError: no variant has the model's form.
    """
    from attnbench.quality import capture, texts
    from attnbench.quality.heads import mean_map

    model, tokenizer = capture.load_checkpoint(texts.find_model(name))
    ids = texts.token_sequences(tokenizer, model.config, texts.read_text(text), tokens)
    layers = capture.capture(model, ids)
    causal = layers[0].own.causal
    usable = [a for a in chosen[causal] if a.causal is causal]
    if not usable:
        raise NothingToDoError(f"{name}: no variant asked for has its form (causal: {causal})")
    heads = tuple(heads_of(layers, usable, sinks=sinks))
    maps = []
    for layer in layers if cells else ():
        for number, picture in enumerate(mean_map(layer.query, layer.key, layer.own, cells)):
            maps.append((f"layer {layer.number} head {number}", picture.tolist()))
    return Model(
        name=name,
        layers=len(layers),
        sequences=ids.shape[0],
        tokens=tokens,
        causal=causal,
        sinks=sinks,
        errors=tuple(model_errors(layers, usable, heads)),
        heads=heads,
        left_out=tuple(a.name for a in chosen[causal] if a.causal is not causal),
        maps=tuple(maps),
    )


def joined(run: Path, rows: list[ResultRow]) -> Joined:
    """The frontier and the crossovers of a run's rows.

    Raises:
        NothingToDoError: no row ended ok.
    """
    ok = [row for row in rows if row.status == "ok"]
    if not ok:
        raise NothingToDoError(f"{run}: no point ended ok; there is nothing to compare")
    exact = {name for name in variant_names() if load_variant(name).exact}
    frontiers = tuple(tuple(group) for group in frontier(ok, exact))
    return Joined(
        run=run,
        device=ok[0].device,
        frontiers=frontiers,
        crossovers=tuple(crossovers(ok, exact)),
        without_error=len(ok) - sum(len(group) for group in frontiers),
    )


def require_torch() -> None:
    """Raise where torch is not installed.

    Raises:
        MachineError: it is not.
    """
    import importlib.util

    from attnbench.errors import missing_extra

    if importlib.util.find_spec("torch") is None:
        error: MachineError = missing_extra("torch", "bench")
        raise error
