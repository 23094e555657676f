"""FAVOR+ as Choromanski et al. 2021 (arXiv:2009.14794) promise it: unbiased, and how exact."""

import pytest
import torch
from torch import Tensor

from attnbench.spec.attention import AttentionShape
from attnbench.spec.dtype import Dtype
from attnbench.variants.performer import draw_features, log_features

WIDTH = 16


def estimates(features: int, draws: int, q: Tensor, k: Tensor) -> Tensor:
    """Estimates of exp(q·k/√d), one a draw."""
    found = []
    for seed in range(draws):
        omega = draw_features(features, WIDTH, seed)
        found.append((log_features(q, omega).exp() * log_features(k, omega).exp()).sum())
    return torch.stack(found)


def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    q, k = torch.randn(2, WIDTH, generator=generator, dtype=torch.float64)
    return q, k


def test_the_estimate_is_unbiased() -> None:
    q, k = pair()
    found = estimates(WIDTH, 4000, q, k)
    exact = torch.exp(q @ k / WIDTH**0.5)
    # Five standard errors of the mean.
    assert abs(found.mean() - exact) < 5 * found.std() / len(found) ** 0.5


def test_the_error_falls_with_the_number_of_features() -> None:
    q, k = pair()
    exact = torch.exp(q @ k / WIDTH**0.5)
    few, many = (((estimates(m, 800, q, k) - exact) ** 2).mean() for m in (WIDTH, 16 * WIDTH))
    # Variance falls as 1/m: 16 times; each mean of 800 squares is known to about 15%.
    assert 8 < few / many < 32


def test_the_error_is_under_that_of_independent_features() -> None:
    # Lemma 2's variance for independent features, theorem 2: orthogonal ones have less.
    q, k = pair()
    exact = torch.exp(q @ k / WIDTH**0.5)
    scaled = (q + k) * WIDTH**-0.25
    independent = torch.exp(scaled @ scaled) * exact**2 * (1 - torch.exp(-(scaled @ scaled)))
    variance = ((estimates(WIDTH, 4000, q, k) - exact) ** 2).mean()
    assert variance < 1.1 * independent / WIDTH


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
    from attnbench.variants import load_variant

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
