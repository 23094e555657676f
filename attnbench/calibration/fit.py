"""Least squares on the logarithm of time: constants of one set, near those of a wider one.

Every residual is log(predicted / measured) over 10%, under a soft-L1 loss, so that a
cliff in somebody's kernel does not bend the rest. A prior holds each constant near that
of the wider set (everyone's, a kernel's, a family's), which is what lets a set of
twenty rows have as many constants as one of two thousand.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from attnbench.calc.carry import CACHE_RATES, LATENCIES, factors
from attnbench.calibration.points import Point, by_series
from attnbench.calibration.vector import (
    DECODE,
    PREFILL,
    Array,
    Traits,
    columns,
    decode_s,
    prefill_s,
)
from attnbench.spec.calibration import DecodeConstants, PrefillConstants, Reference

_NOISE = 0.1
_USUAL_ROWS = 60  # a series counts in a pool as this many rows, however many it has
_FEW_ROWS = 15

PREFILL_START = PrefillConstants(
    launch_s=8e-6, tensor_efficiency=(0.7, 0.7, 0.7, 0.55), exp_share=0.5, prologue_tiles=0.5,
    block_s=1.5e-6, tail=0.3, bandwidth_efficiency=0.75, l2_speedup=2.5, cache_write=1.0,
    backward=1.3,
)  # fmt: skip
DECODE_START = DecodeConstants(
    launch_s=8e-6, wave_s=3e-6, single_wave_s=2e-6, bandwidth_efficiency=0.9, l2_speedup=2.0,
    block_share=2.0, combine_s=2e-6, regroup_s=3e-7, tensor_efficiency=0.5,
)  # fmt: skip
# Bandwidth is at most what is published. Products may show at over their peak, where a part
# of them hides under exponentials; most so where heads are narrow.
_PREFILL_MOST = np.array([np.inf] * 9 + [0.0] + [np.inf] * 3)
_DECODE_MOST = np.array([np.inf] * 3 + [0.0] + [np.inf] * 4 + [0.0])
# How far a constant may stray from where it starts, as a factor's logarithm.
_PREFILL_SPREAD = np.array([0.7, 0.2, 0.2, 0.2, 0.4, 0.5, 0.7, 0.7, 0.5, 0.15, 0.35, 0.4, 0.3])
_DECODE_SPREAD = np.array([0.7, 0.5, 0.5, 0.12, 0.35, 0.6, 0.7, 1.0, 0.35])
_TRAITS: tuple[Traits, ...] = ((1024, True, 2), (1024, False, 2), (47, True, 2), (47, False, 2))
_EARNED = 3.0


def fit_prefill(
    points: Sequence[Point],
    start: PrefillConstants,
    *,
    tightness: float = 1.0,
    at: Reference | None = None,
) -> PrefillConstants:
    """The constants that fit the prefills and encoders among `points`, near `start`.

    `at`: the chip that they are written for, where `points` are of many; None: their own.
    """
    used = [p for p in points if p.prefill is not None]
    terms = columns([p.prefill for p in used if p.prefill is not None])
    scale = _scale(used, PREFILL, at)
    begin = np.log(np.array(_prefill_values(start)))
    solved, _ = _solve(
        lambda x: prefill_s(terms, np.exp(x)[:, None] * scale),
        used,
        begin,
        _PREFILL_SPREAD,
        _PREFILL_MOST,
        tightness,
    )
    return _prefill_of(np.exp(solved))


def fit_decode(
    points: Sequence[Point],
    start: DecodeConstants,
    *,
    traits: bool = True,
    tightness: float = 1.0,
    at: Reference | None = None,
) -> DecodeConstants:
    """The constants that fit the decoding steps among `points`, near `start`.

    `traits`: whether how the kernel splits and packs is looked for too. `at`: as in
    `fit_prefill`.
    """
    used = [p for p in points if p.decode is not None]
    terms = columns([p.decode for p in used if p.decode is not None])
    scale = _scale(used, DECODE, at)
    begin = np.log(np.array(_decode_values(start)))
    held = (start.packs_at_most, start.splits_single, start.blocks_an_sm)

    def tried(each: Traits) -> tuple[float, Traits, Array]:
        solved, cost = _solve(
            lambda x: decode_s(terms, np.exp(x)[:, None] * scale, each),
            used,
            begin,
            _DECODE_SPREAD,
            _DECODE_MOST,
            tightness,
        )
        # A trait that differs from the wider set's must earn it.
        return cost + _EARNED * (each != held), each, solved

    if traits:
        best = min((tried(each) for each in _TRAITS), key=_cost)
        packs, splits, _ = best[1]
        best = min(best, tried((packs, splits, 1)), key=_cost)
    else:
        best = tried(held)
    return _decode_of(np.exp(best[2]), best[1])


def _cost(found: tuple[float, Traits, Array]) -> float:
    return found[0]


def _solve(
    predict: Any,
    points: Sequence[Point],
    begin: Array,
    spread: Array,
    most: Array,
    tightness: float,
) -> tuple[Array, float]:
    measured = np.log(np.array([p.time_s for p in points]))
    weights = _weights(points)

    def residuals(x: Array) -> Array:
        off = weights * (np.log(predict(x)) - measured) / _NOISE
        held: Array = np.concatenate([off, (x - begin) / spread * tightness])
        return held

    found = least_squares(  # type: ignore[operator]  # scipy has no types
        residuals,
        np.minimum(begin, most - 1e-3),
        loss="soft_l1",
        max_nfev=60,
        bounds=(-np.inf, most),
    )
    return np.asarray(found.x), float(found.cost)


def _scale(points: Sequence[Point], names: Sequence[str], at: Reference | None) -> Array:
    """What each constant of `names` is multiplied by on each point's chip: [names, points]."""
    made = np.ones((len(names), len(points)))
    if at is None:
        return made
    for column, p in enumerate(points):
        slower, faster = factors(p.chip, at)
        for row, name in enumerate(names):
            made[row, column] = (
                slower if name in LATENCIES else faster if name in CACHE_RATES else 1.0
            )
    return made


def _weights(points: Sequence[Point]) -> Array:
    """Root weights: within a pool, every series counts alike."""
    series = by_series(points)
    if len(series) == 1:
        return np.ones(len(points))
    share = {
        name: (_USUAL_ROWS / max(len(rows), _FEW_ROWS) / len(series)) ** 0.5
        for name, rows in series.items()
    }
    return np.array([share[p.series] for p in points])


def _prefill_values(c: PrefillConstants) -> list[float]:
    return [
        c.launch_s, *c.tensor_efficiency, c.exp_share, c.prologue_tiles, c.block_s, c.tail,
        c.bandwidth_efficiency, c.l2_speedup, c.cache_write, c.backward,
    ]  # fmt: skip


def _prefill_of(values: Array) -> PrefillConstants:
    launch, *tensor, share, prologue, block, tail, bandwidth, l2, write, backward = map(
        float, values
    )
    return PrefillConstants(
        launch_s=launch, tensor_efficiency=(tensor[0], tensor[1], tensor[2], tensor[3]),
        exp_share=share, prologue_tiles=prologue, block_s=block, tail=tail,
        bandwidth_efficiency=bandwidth, l2_speedup=l2, cache_write=write, backward=backward,
    )  # fmt: skip


def _decode_values(c: DecodeConstants) -> list[float]:
    return [
        c.launch_s, c.wave_s, c.single_wave_s, c.bandwidth_efficiency, c.l2_speedup,
        c.block_share, c.combine_s, c.regroup_s, c.tensor_efficiency,
    ]  # fmt: skip


def _decode_of(values: Array, traits: Traits) -> DecodeConstants:
    made = dict(zip(DECODE, map(float, values), strict=True))
    packs, splits, blocks = traits
    return DecodeConstants(**made, packs_at_most=packs, splits_single=splits, blocks_an_sm=blocks)
