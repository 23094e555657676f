"""Needles: what each variant must do with one, from its pattern alone."""

import math

import pytest
import torch

from attnbench.quality.approximations import approximations
from attnbench.quality.synthetic import (
    NEEDLE_MASS,
    gaussian_errors,
    needle_distances,
    needle_points,
    place_needle,
)
from attnbench.spec.attention import AttentionShape
from attnbench.spec.dtype import Dtype
from attnbench.variants._protocol import Params

N = 300


def shape(heads: int = 16) -> AttentionShape:
    return AttentionShape(
        batch=1, heads=heads, kv_heads=heads, seq_q=N, seq_kv=N, head_dim=32, causal=True,
        dtype=Dtype.FP32,
    )  # fmt: skip


def masses(name: str, params: Params, distances: list[int]) -> dict[int, tuple[float, float]]:
    chosen = approximations((name,), {name: params}, causal=True)
    return {p.distance: (p.mass, p.error) for p in needle_points(chosen, shape(), distances)}


def test_exact_attention_gives_a_needle_its_mass() -> None:
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(1, 5, 1, 16, generator=generator, dtype=torch.float64)
    keys = torch.randn(1, 5, 80, 16, generator=generator, dtype=torch.float64)
    key = place_needle(query, keys, 11, 0.75)
    weights = torch.softmax(query @ key.transpose(-1, -2) / 4, -1)
    torch.testing.assert_close(weights[..., 11], torch.full_like(weights[..., 11], 0.75))
    changed = (key != keys).any(-1)
    assert changed[:, :, 11].all()
    assert changed.sum() == 5, "another key was moved"


def test_a_window_loses_a_needle_outside_it_and_a_sink_keeps_it() -> None:
    window = {"window": 50, "dilation": 1, "sink": 0}
    found = masses("sliding_window", window, [0, 1, 49, 50, 200, N - 1])
    for distance in (1, 49):
        # Fewer others share the rest: the needle has more than in exact attention.
        mass, error = found[distance]
        others = (1 - NEEDLE_MASS) / NEEDLE_MASS * 50 / N  # about: 49 of 299 other keys
        assert mass == pytest.approx(1 / (1 + others), rel=0.02)
        assert error < 0.2
    for distance in (50, 200, N - 1):
        mass, error = found[distance]
        assert mass == 0
        # What exact attention answers is nearly the needle's value, and none of it is left.
        assert 0.8 < error < 1.2
    kept = masses("sliding_window", {**window, "sink": 1}, [200, N - 1])
    assert kept[200][0] == 0
    assert kept[N - 1][0] > NEEDLE_MASS


def test_globals_and_strides_keep_what_they_hold() -> None:
    longformer = masses("longformer", {"window": 20, "global_tokens": 4}, [100, N - 4, N - 5])
    assert longformer[100][0] == 0
    assert longformer[N - 4][0] > NEEDLE_MASS  # position 3: the last global token
    assert longformer[N - 5][0] == 0
    strided = masses("strided", {"window": 8, "stride": 30}, [30, 45, 60])
    assert strided[30][0] > NEEDLE_MASS
    assert strided[45][0] == 0
    assert strided[60][0] > NEEDLE_MASS


def test_a_feature_map_that_sees_no_distance_keeps_the_same_everywhere() -> None:
    found = masses("linear", {}, [1, 20, N - 1])
    spread = [mass for mass, _ in found.values()]
    assert max(spread) < 0.2, "elu + 1 cannot single out one key of 300"
    assert max(spread) / min(spread) < 1.2


def test_distances() -> None:
    assert needle_distances(2) == (1,)
    assert needle_distances(2048) == (1, 4, 16, 64, 256, 1024, 2047)


def test_gaussian_mass_is_the_density_where_attention_is_flat() -> None:
    # Scores are N(0, 1): mass kept is near the share of pairs, whatever the positions.
    chosen = approximations(("sliding_window",), {"sliding_window": {
        "window": 60, "dilation": 1, "sink": 0,
    }}, causal=True)  # fmt: skip
    (found,) = gaussian_errors(chosen, shape(heads=8))
    rows = [min(60, i + 1) / (i + 1) for i in range(N)]
    assert found.mass_kept == pytest.approx(sum(rows) / N, rel=0.02)
    assert found.rel_error > 0
    assert math.isfinite(found.row_error_p95)
