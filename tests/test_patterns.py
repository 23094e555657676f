"""Patterns: the predicate against the contract's words, counts and blocks against brute force."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbench.calc.pattern_bigbird import BigBird
from attnbench.calc.pattern_longformer import Longformer
from attnbench.calc.pattern_strided import Strided, default_stride
from attnbench.calc.patterns import Full, SlidingWindow

SIZES = st.integers(1, 40)
SMALL = st.integers(1, 20)
CAUSAL = st.booleans()


def bigbird(seq_kv: int, *, block: int = 64, seed: int = 0, causal: bool = True) -> BigBird:
    return BigBird(
        block=block, window_blocks=3, global_blocks=2, random_blocks=3, seed=seed,
        key_blocks=-(-seq_kv // block), causal=causal,
    )  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, int, int]:
    seq_q, seq_kv, causal = draw(SIZES), draw(SIZES), draw(CAUSAL)
    window, block = draw(SMALL), draw(st.integers(1, 4))
    pattern = draw(
        st.sampled_from([
            Full(causal=causal),
            SlidingWindow(
                window=window, causal=causal, dilation=draw(st.integers(1, 4)),
                sink=draw(st.integers(0, 50)),
            ),
            Longformer(window=window, global_tokens=draw(st.integers(0, 50)), causal=causal),
            Strided(window=window, stride=draw(st.integers(1, 50)), causal=causal),
            BigBird(
                block=block, window_blocks=draw(st.sampled_from([1, 3, 5])),
                global_blocks=draw(st.integers(0, 3)), random_blocks=draw(st.integers(0, 4)),
                seed=draw(st.integers(0, 9)), key_blocks=-(-seq_kv // block), causal=causal,
            ),
        ])
    )  # fmt: skip
    return pattern, seq_q, seq_kv


@settings(max_examples=400, deadline=None)
@given(cases())
def test_counts_and_blocks_are_those_of_the_predicate(case: tuple[Any, int, int]) -> None:
    pattern, seq_q, seq_kv = case
    queries = range(seq_kv - seq_q, seq_kv)
    seen = {(i, j) for i in queries for j in range(seq_kv) if pattern.allows(i, j)}
    assert pattern.pairs(seq_q, seq_kv) == len(seen)
    assert pattern.keys(seq_q, seq_kv) == len({j for _, j in seen})
    for visible in (1, seq_kv // 2, seq_kv):
        left = {(i, j) for i, j in seen if j < visible}
        assert pattern.pairs(seq_q, seq_kv, visible) == len(left)
        assert pattern.keys(seq_q, seq_kv, visible) == len({j for _, j in left})
    if not hasattr(pattern, "blocks"):
        return
    for rows in (1, 5):
        held: set[tuple[int, int]] = set()
        placed: list[int] = []
        for block in pattern.blocks(seq_q, seq_kv, rows):
            keys = [j for part in block.whole + block.partial for j in part]
            assert len(keys) == len(set(keys))
            assert all(part for part in block.whole + block.partial)
            assert all(0 <= j < seq_kv for j in keys)
            whole = [(i, j) for part in block.whole for j in part for i in block.queries]
            assert seen.issuperset(whole)
            held.update((i, j) for i in block.queries for j in keys)
            placed.extend(block.queries)
        assert seen <= held
        assert sorted(placed) == list(queries)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_arrays_and_ints_are_judged_alike(case: tuple[Any, int, int]) -> None:
    pattern, seq_q, seq_kv = case
    queries = torch.arange(seq_kv - seq_q, seq_kv)
    mask = pattern.allows(queries[:, None], torch.arange(seq_kv)[None, :])
    assert mask.dtype == torch.bool
    assert mask.shape == (seq_q, seq_kv)
    assert mask.tolist() == [
        [bool(pattern.allows(i, j)) for j in range(seq_kv)] for i in queries.tolist()
    ]


WORDS: list[tuple[Any, Callable[[int, int], bool]]] = [
    (Full(causal=True), lambda i, j: j <= i),
    (SlidingWindow(window=5, causal=True), lambda i, j: i - 5 < j <= i),
    (SlidingWindow(window=5, causal=False), lambda i, j: abs(i - j) <= 2.5),
    (SlidingWindow(window=6, causal=False), lambda i, j: abs(i - j) <= 3),
    (
        SlidingWindow(window=3, dilation=2, causal=True),
        lambda i, j: i - j in (0, 2, 4),
    ),
    (
        SlidingWindow(window=2, sink=3, causal=True),
        lambda i, j: j <= i and (i - j < 2 or j < 3),
    ),
    (
        Strided(window=3, stride=4, causal=True),
        lambda i, j: j <= i and (i - j < 3 or (i - j) % 4 == 0),
    ),
    (
        Longformer(window=4, global_tokens=2, causal=False),
        lambda i, j: abs(i - j) <= 2 or j < 2 or i < 2,
    ),
    (
        Longformer(window=4, global_tokens=2, causal=True),
        lambda i, j: j <= i and (i - j < 4 or j < 2),
    ),
]


@pytest.mark.parametrize(("pattern", "words"), WORDS)
def test_predicate_says_what_the_contract_says(
    pattern: Any, words: Callable[[int, int], bool]
) -> None:
    for i in range(30):
        for j in range(30):
            assert bool(pattern.allows(i, j)) == words(i, j), (i, j)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_bigbird_draws_distinct_blocks_that_are_neither_global_nor_window(
    causal: bool, seed: int
) -> None:
    pattern = bigbird(64 * 50, seed=seed, causal=causal)
    for row in range(2, 50):
        drawn = list(pattern.drawn_blocks(row))
        drawn = [block for block in drawn if block >= 0]
        blocks = range(2, row - 1) if causal else range(2, 50)
        candidates = [c for c in blocks if abs(c - row) > 1]
        assert len(set(drawn)) == len(drawn) == min(3, len(candidates))
        assert set(drawn) <= set(candidates)


def test_bigbird_draws_what_it_drew_yesterday() -> None:
    pattern = bigbird(64 * 50)
    drawn = [list(pattern.drawn_blocks(row)) for row in (4, 10, 49)]
    assert drawn == [[-1, -1, 2], [2, 5, 7], [8, 20, 34]]
    other = bigbird(64 * 50, seed=1)
    assert drawn != [list(other.drawn_blocks(row)) for row in (4, 10, 49)]


def test_bigbird_draws_evenly() -> None:
    # 4,000 query blocks of 40 candidates, in 3 runs: a block is drawn 1 time in 13.3.
    # Chi-square over the 13 blocks of the first run: mean 12, deviation √24.
    pattern = bigbird(64 * 44)
    counts = [0] * 44
    for seed in range(4000):
        other = BigBird(
            block=64, window_blocks=3, global_blocks=2, random_blocks=3, seed=seed,
            key_blocks=44, causal=True,
        )  # fmt: skip
        counts[other.drawn_blocks(43)[0]] += 1
    drawn = [count for count in counts if count]
    run = (43 - 1 - 2) // 3
    assert pattern.drawn_blocks(43)[0] >= 2
    assert len(drawn) == run
    expected = 4000 / run
    chi_square = sum((count - expected) ** 2 / expected for count in drawn)
    assert chi_square < (run - 1) + 5 * (2 * (run - 1)) ** 0.5


@pytest.mark.parametrize("causal", [True, False])
def test_a_million_tokens_are_counted(causal: bool) -> None:
    n = 1 << 20
    pairs = SlidingWindow(window=512, causal=causal).pairs(n, n)
    # Every row has its window but those near an end, who lack a triangle.
    lacking = 512 * 511 // 2 if causal else 256 * 257
    assert pairs == n * (512 if causal else 513) - lacking
    assert Full(causal=causal).pairs(n, n) == (n * (n + 1) // 2 if causal else n * n)
    # 8 blocks of 64 a row at most, and, not causal, all keys for 2 blocks of rows.
    assert bigbird(n, causal=causal).pairs(n, n) <= (8 + (0 if causal else 2)) * 64 * n


def test_default_stride_is_the_root_rounded_up() -> None:
    assert [default_stride(n) for n in (1, 2, 4, 5, 1000, 16384, 16385)] == [
        1, 2, 2, 3, 32, 128, 129,
    ]  # fmt: skip
