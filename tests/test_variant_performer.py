"""FAVOR+ as Choromanski et al. 2021 (arXiv:2009.14794) promise it: unbiased, and how exact."""

import functools

import pytest
import torch
from torch import Tensor

from attnbench.spec.attention import AttentionShape
from attnbench.spec.dtype import Dtype
from attnbench.variants import load_variant
from attnbench.variants.performer import draw_features, log_features

WIDTH = 16
DRAWS = 20_000
# |q|, |k| in units of d^¼, and the cosine between them: q·k/√d is 0.5, -0.5, 0.5, 0, 0.25.
# Far enough from 0 that a wrong scale shows, short enough that the variance, which grows as
# e^|q+k|² does, leaves the mean known to a hundredth.
PAIRS = [(1.0, 1.0, 0.5), (1.0, 1.0, -0.5), (1.0, 0.5, 1.0), (0.8, 0.8, 0.0), (0.5, 0.5, 1.0)]


def pair(q_norm: float, k_norm: float, cosine: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    gauss = torch.randn(WIDTH, 2, generator=generator, dtype=torch.float64)
    one, other = torch.linalg.qr(gauss)[0].T * WIDTH**0.25
    return q_norm * one, k_norm * (cosine * one + (1 - cosine**2) ** 0.5 * other)


@functools.cache
def directions(seed: int) -> Tensor:
    return draw_features(WIDTH * DRAWS, WIDTH, seed)


def estimates(features: int, q: Tensor, k: Tensor, seed: int = 0) -> Tensor:
    """Estimates of exp(q·k/√d), each of `features` directions.

    Blocks of WIDTH directions are independent, so that one draw of many is many draws.
    """
    omega = directions(seed)
    terms = (log_features(q, omega) + log_features(k, omega)).exp()
    return terms.view(-1, features).mean(1) * len(omega)  # log φ has -½ log m of them all


def exactly(q: Tensor, k: Tensor) -> Tensor:
    return torch.exp(q @ k / WIDTH**0.5)


def independent_variance(features: int, q: Tensor, k: Tensor) -> Tensor:
    """Of an estimate by independent directions: lemma 2."""
    square = ((q + k) * WIDTH**-0.25).square().sum()
    return torch.exp(square) * exactly(q, k) ** 2 * (1 - torch.exp(-square)) / features


def orthogonal_gain(q: Tensor, k: Tensor) -> Tensor:
    """What WIDTH orthogonal directions take off that variance, at the least: theorem 2."""
    norms = (q.square().sum() + k.square().sum()) / WIDTH**0.5
    factor = 2 * (WIDTH - 1) / (WIDTH * (WIDTH + 2))
    return factor * (exactly(q, k) - torch.exp(-norms / 2)) ** 2


def squared_error(features: int, q: Tensor, k: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The mean squared error of estimates, and its standard error."""
    squares = (estimates(features, q, k, seed) - exactly(q, k)) ** 2
    return squares.mean(), squares.std() / len(squares) ** 0.5


@pytest.mark.parametrize("given", PAIRS)
def test_the_estimate_is_unbiased(given: tuple[float, float, float]) -> None:
    q, k = pair(*given)
    exact = exactly(q, k)
    # Five standard errors of the mean; orthogonal directions have no more than lemma 2's.
    limit = 5 * (independent_variance(WIDTH, q, k) / DRAWS) ** 0.5
    assert limit < 0.05 * exact, "too few draws to see a bias of a twentieth"
    assert abs(estimates(WIDTH, q, k).mean() - exact) < limit


def test_of_opposite_vectors_every_draw_is_exact() -> None:
    # Lemma 2's variance is 0 at q = -k: φ(q)φ(-q) = exp(-|q|²/√d), whatever ω is.
    q, _ = pair(1.3, 1.0, 0.0)
    found = estimates(WIDTH, q, -q)
    assert float((found / exactly(q, -q) - 1).abs().max()) < 1e-12


@pytest.mark.parametrize("given", PAIRS[3:])
def test_the_error_falls_with_the_number_of_features(given: tuple[float, float, float]) -> None:
    q, k = pair(*given)
    few, few_known = squared_error(WIDTH, q, k)
    for blocks in (4, 16):  # blocks are independent: the mean square falls as their number
        many, many_known = squared_error(blocks * WIDTH, q, k, seed=blocks)
        known = ((few_known / few) ** 2 + (many_known / many) ** 2) ** 0.5
        assert 5 * known < 0.6, "too few draws to tell 1/m from 1/√m"
        assert abs(blocks * many / few - 1) < 5 * known


@pytest.mark.parametrize("given", [(1.0, 1.0, -0.5), (0.8, 0.8, 0.0), (0.5, 0.5, 0.0)])
def test_the_error_is_under_that_of_independent_features(
    given: tuple[float, float, float],
) -> None:
    q, k = pair(*given)
    found, known = squared_error(WIDTH, q, k)
    independent = independent_variance(WIDTH, q, k)
    limit = independent - orthogonal_gain(q, k) + 3 * known
    assert limit < independent - 2 * known, "too few draws to refuse independent directions"
    assert found < limit


@pytest.mark.parametrize("causal", [True, False])
def test_attention_nears_softmax_as_features_grow(causal: bool) -> None:
    """The whole variant against torch's softmax: a wrong scale would leave an error."""
    variant = load_variant("performer")
    shape = AttentionShape(
        batch=1, heads=2, kv_heads=1, seq_q=100, seq_kv=100, head_dim=WIDTH, causal=causal,
        dtype=Dtype.FP64,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 100, WIDTH, generator=generator, dtype=torch.float64)
    # Short vectors: an estimate's own error is then small, and that of the quotient is of
    # first order.
    q, k, v = 0.3 * q, 0.3 * k[:, :1], v[:, :1]
    attention = torch.nn.functional.scaled_dot_product_attention
    exact = attention(q, k, v, is_causal=causal, enable_gqa=True)
    backend = variant.backends[0]

    def squares(features: int, draws: int) -> Tensor:
        found = []
        for seed in range(draws):
            params = {**variant.defaults, "features": features, "seed": seed}
            out = backend.forward(q, k, v, backend.prepare(shape, params, "cpu"))
            found.append(((out - exact).norm() / exact.norm()) ** 2)
        return torch.stack(found)

    few, many = squares(256, 24), squares(4096, 24)
    known = sum(x.var() / len(x) / x.mean() ** 2 for x in (few, many)) ** 0.5
    assert many.mean() < 0.02**2
    assert 5 * known < 0.75, "too few draws to tell 1/m from 1/√m"
    assert abs(16 * many.mean() / few.mean() - 1) < 5 * known


@pytest.mark.parametrize("features", [16, 40])
def test_directions_are_orthogonal_within_a_block(features: int) -> None:
    omega = draw_features(features, WIDTH, 3)
    assert omega.shape == (features, WIDTH)
    for block in omega.split(WIDTH):
        gram = block @ block.T
        off = gram - torch.diag(gram.diagonal())
        assert float(off.abs().max()) < 1e-12 * float(gram.max())


def test_lengths_are_those_of_gaussian_vectors() -> None:
    # |ω|² is chi-square with d degrees: mean d, variance 2d.
    squares = torch.cat([(draw_features(64, WIDTH, s) ** 2).sum(1) for s in range(50)])
    count = len(squares)
    assert abs(float(squares.mean()) - WIDTH) < 5 * (2 * WIDTH / count) ** 0.5
    assert abs(float(squares.var()) / (2 * WIDTH) - 1) < 5 * (12 / count) ** 0.5


def test_the_stabiliser_looks_at_no_later_key() -> None:
    """A later key of huge norm neither moves earlier rows by a bit nor drowns them."""
    variant = load_variant("performer")
    shape = AttentionShape(
        batch=1, heads=1, kv_heads=1, seq_q=200, seq_kv=200, head_dim=WIDTH, causal=True,
        dtype=Dtype.FP32,
    )  # fmt: skip
    backend = variant.backends[0]
    state = backend.prepare(shape, variant.defaults, "cpu")
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, 200, WIDTH, generator=generator)
    before = backend.forward(q, k, v, state)
    for row in (63, 64, 100):
        loud = k.clone()
        loud[:, :, row + 1 :] *= 40.0  # a sum shared by all rows would underflow to 0 here
        after = backend.forward(q, loud, v, state)
        assert torch.equal(before[:, :, : row + 1], after[:, :, : row + 1])
        assert bool(after.isfinite().all())
        assert bool(after[:, :, : row + 1].any(-1).all())


def test_another_seed_redraws() -> None:
    assert torch.equal(draw_features(32, WIDTH, 7), draw_features(32, WIDTH, 7))
    assert not torch.equal(draw_features(32, WIDTH, 7), draw_features(32, WIDTH, 8))
