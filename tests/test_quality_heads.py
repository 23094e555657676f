"""Heads' statistics against brute force in numpy; approximations against a masked softmax."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from attnbench.calc.pattern_longformer import Longformer
from attnbench.calc.pattern_strided import Strided
from attnbench.calc.patterns import Full, SlidingWindow
from attnbench.quality import heads as module
from attnbench.quality.approximations import Both, approximations, error_of, output_of
from attnbench.quality.heads import head_stats, mean_map
from attnbench.quality.windows import mass_in_window, smallest_window
from attnbench.variants import load_variant

BATCH, HEADS, KV_HEADS, TOKENS, WIDTH, SINKS = 2, 4, 2, 37, 8, 3


@pytest.fixture
def tensors() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(
        2 * torch.randn(BATCH, heads, TOKENS, WIDTH, generator=generator)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    )


def brute_weights(query: torch.Tensor, key: torch.Tensor, seen: Any) -> Any:
    """softmax(QKᵀ/√d) over `seen`, written with nothing of attnbench: [batch, head, i, j]."""
    q, k = query.numpy().astype(np.float64), key.numpy().astype(np.float64)
    weights = np.zeros((BATCH, HEADS, TOKENS, TOKENS))
    for b in range(BATCH):
        for h in range(HEADS):
            scores = q[b, h] @ k[b, h // (HEADS // KV_HEADS)].T / math.sqrt(WIDTH)
            raised = np.where(seen, np.exp(scores), 0.0)
            weights[b, h] = raised / raised.sum(1, keepdims=True)
    return weights


def square(pattern: Any) -> Any:
    at = np.arange(TOKENS)
    return np.broadcast_to(pattern.allows(at[:, None], at[None, :]), (TOKENS, TOKENS))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("chunk", [1 << 23, 700])
def test_head_statistics_are_those_of_the_whole_matrix(
    tensors: tuple[torch.Tensor, ...], causal: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", chunk)
    query, key, _ = tensors
    patterns = {
        "window": SlidingWindow(window=9, causal=causal),
        "strided": Strided(window=5, stride=6, causal=causal),
        "longformer": Longformer(window=4, global_tokens=2, causal=causal),
    }
    found = head_stats(query, key, Full(causal=causal), patterns, causal=causal, sinks=SINKS)
    whole = brute_weights(query, key, square(Full(causal=causal)))
    distance = np.abs(np.subtract.outer(np.arange(TOKENS), np.arange(TOKENS)))
    for head, stats in enumerate(found):
        w = whole[:, head]
        logs = np.log(np.where(w > 0, w, 1.0))
        assert stats.entropy == pytest.approx(-(w * logs).sum() / (BATCH * TOKENS), rel=1e-12)
        rows = w[:, SINKS:, :SINKS]
        assert stats.sink_mass == pytest.approx(rows.sum(-1).mean(), rel=1e-12)
        if causal:
            assert stats.last_mass is None
        else:
            assert stats.last_mass == pytest.approx(w[:, :-1, -1].mean(), rel=1e-12)
        for d in range(TOKENS):
            expected = w[:, distance == d].sum() / (BATCH * TOKENS)
            assert stats.by_distance[d] == pytest.approx(expected, rel=1e-12, abs=1e-15)
        for name, pattern in patterns.items():
            kept = (w * square(pattern)).sum(-1).mean()
            assert stats.by_pattern[name] == pytest.approx(kept, rel=1e-12)
        for window in (1, 2, 8, 9, TOKENS):
            kept = (w * square(SlidingWindow(window=window, causal=causal))).sum(-1).mean()
            mass = mass_in_window(stats.by_distance, window, causal=causal)
            assert mass == pytest.approx(kept, rel=1e-12)
        for share in (0.5, 0.9, 0.95, 0.99):
            window = smallest_window(stats.by_distance, share, causal=causal)
            assert window == brute_window(w, share, causal=causal)


def brute_window(weights: Any, share: float, *, causal: bool) -> int:
    for window in range(1, 2 * TOKENS):
        seen = square(SlidingWindow(window=window, causal=causal))
        if (weights * seen).sum(-1).mean() >= share:
            return window
    raise AssertionError("no window keeps it")


def test_entropy_of_what_is_known() -> None:
    # Equal logits: row i of a causal head spreads evenly over i + 1 keys, entropy ln(i + 1).
    query = torch.zeros(1, 1, 50, 4)
    (stats,) = head_stats(
        query, torch.ones(1, 1, 50, 4), Full(causal=True), {}, causal=True, sinks=1
    )
    assert stats.entropy == pytest.approx(sum(math.log(i + 1) for i in range(50)) / 50)
    assert stats.sink_mass == pytest.approx(sum(1 / (i + 1) for i in range(1, 50)) / 49)


def test_the_picture_of_a_head_holds_all_its_mass(tensors: tuple[torch.Tensor, ...]) -> None:
    query, key, _ = tensors
    picture = mean_map(query, key, Full(causal=True), cells=10)
    assert picture.shape == (HEADS, 10, 10)
    torch.testing.assert_close(picture.sum(-1), torch.ones(HEADS, 10, dtype=torch.float64))
    assert float(picture[:, 0, 4:].abs().max()) == 0, "a cell past the diagonal"
    fine = mean_map(query, key, Full(causal=True), cells=1000)
    whole = brute_weights(query, key, square(Full(causal=True))).mean(0)
    np.testing.assert_allclose(fine.numpy(), whole, rtol=1e-12, atol=1e-15)


def test_errors_are_norms_of_differences(tensors: tuple[torch.Tensor, ...]) -> None:
    query, key, value = tensors
    settings = {"sliding_window": {**load_variant("sliding_window").defaults, "window": 6}}
    (approximation,) = approximations(("sliding_window",), settings, causal=True)
    found = error_of(approximation, query, key, value, 0.5)
    v = value.numpy().astype(np.float64).repeat(HEADS // KV_HEADS, 1)
    exact = brute_weights(query, key, square(Full(causal=True))) @ v
    out = brute_weights(query, key, square(SlidingWindow(window=6, causal=True))) @ v
    rows = np.linalg.norm(out - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
    assert found.rel_error == pytest.approx(np.linalg.norm(out - exact) / np.linalg.norm(exact))
    assert found.row_error_median == pytest.approx(np.median(rows))
    assert found.row_error_p95 == pytest.approx(np.quantile(rows, 0.95))


def test_a_pattern_within_a_layers_own_window(tensors: tuple[torch.Tensor, ...]) -> None:
    query, key, value = tensors
    own = SlidingWindow(window=7, causal=True)
    (approximation,) = approximations(("longformer",), {}, causal=True)
    out = output_of(approximation, query, key, value, own=own)
    v = value.numpy().astype(np.float64).repeat(HEADS // KV_HEADS, 1)
    # Longformer's default window is wider than the sequence: the layer's own is what is left.
    np.testing.assert_allclose(out.numpy(), brute_weights(query, key, square(own)) @ v, rtol=1e-9)
    both = Both(first=own, second=SlidingWindow(window=3, causal=True))
    assert np.array_equal(square(both), square(SlidingWindow(window=3, causal=True)))


def test_all_that_are_not_exact_are_judged_in_a_form_they_have() -> None:
    forms = {a.name: a.causal for a in approximations(None, {}, causal=True)}
    assert forms["linformer"] is False
    assert forms["performer"] is True
    assert not {"naive", "flash", "paged_decode"} & set(forms)
    assert set(forms) >= {"sliding_window", "strided", "longformer", "bigbird", "linear"}
