"""Receptive fields and pictures of patterns, against boolean matrices in numpy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbench.calc.pattern_bigbird import BigBird
from attnbench.calc.pattern_longformer import Longformer
from attnbench.calc.pattern_picture import density_grid
from attnbench.calc.pattern_strided import Strided
from attnbench.calc.patterns import Full, SlidingWindow
from attnbench.calc.receptive import by_residue, fields


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, int]:
    tokens, causal, window = draw(st.integers(1, 48)), draw(st.booleans()), draw(st.integers(1, 12))
    block = draw(st.integers(1, 5))
    pattern = draw(
        st.sampled_from([
            Full(causal=causal),
            SlidingWindow(
                window=window, causal=causal, dilation=draw(st.integers(1, 4)),
                sink=draw(st.integers(0, 9)),
            ),
            Longformer(window=window, global_tokens=draw(st.integers(0, 9)), causal=causal),
            Strided(window=window, stride=draw(st.integers(1, 20)), causal=causal),
            BigBird(
                block=block, window_blocks=draw(st.sampled_from([1, 3])),
                global_blocks=draw(st.integers(0, 2)), random_blocks=draw(st.integers(0, 3)),
                seed=draw(st.integers(0, 9)), key_blocks=-(-tokens // block), causal=causal,
            ),
        ])
    )  # fmt: skip
    return pattern, tokens


def matrix(pattern: Any, tokens: int) -> np.ndarray[Any, Any]:
    rows = [[bool(pattern.allows(i, j)) for j in range(tokens)] for i in range(tokens)]
    return np.array(rows)


@settings(max_examples=300, deadline=None)
@given(cases(), st.data())
def test_a_run_of_queries_reaches_what_the_predicate_allows(
    case: tuple[Any, int], data: st.DataObject
) -> None:
    pattern, tokens = case
    start = data.draw(st.integers(0, tokens - 1))
    queries = range(start, data.draw(st.integers(start + 1, tokens)), pattern.unit)
    seen = matrix(pattern, tokens)
    found = [j for r in pattern.reach_of(queries, tokens) for j in r]
    assert set(found) == set(np.flatnonzero(seen[list(queries)].any(0)).tolist())
    if len(queries) == 1:
        assert len(found) == len(set(found)), "a key twice"


@settings(max_examples=200, deadline=None)
@given(cases(), st.data())
def test_fields_are_powers_of_the_boolean_matrix(
    case: tuple[Any, int], data: st.DataObject
) -> None:
    pattern, tokens = case
    token = data.draw(st.integers(0, tokens - 1))
    one = matrix(pattern, tokens) | np.eye(tokens, dtype=bool)
    power, before, layer = one, None, 0
    for layer, field in enumerate(fields(pattern, tokens=tokens, token=token), start=1):
        row = power[token]
        keys = np.flatnonzero(row)
        assert (field.layers, field.keys) == (layer, len(keys))
        assert (field.back, field.ahead) == (token - keys[0], keys[-1] - token)
        before, power = row, (power.astype(int) @ one.astype(int)) > 0
    assert layer >= 1
    assert np.array_equal(power[token], before), "it stopped while the field still grew"


def test_closed_forms() -> None:
    n, w = 4096, 512
    window = [f.keys for f in fields(SlidingWindow(window=w, causal=True), tokens=n, token=n - 1)]
    assert window == [min(n, 1 + layers * (w - 1)) for layers in range(1, 10)]
    dilated = fields(SlidingWindow(window=5, dilation=3, causal=True), tokens=n, token=n - 1)
    first = next(dilated)
    assert (first.keys, first.back) == (5, 12)
    both = fields(SlidingWindow(window=w, causal=False), tokens=n, token=n // 2)
    assert [(f.back, f.ahead) for f in both][:2] == [(256, 256), (512, 512)]
    glob = list(fields(Longformer(window=w, global_tokens=1, causal=False), tokens=n, token=9))
    assert [f.keys for f in glob][1:] == [n], "two layers through a global token see all"
    strided = list(fields(Strided(window=64, stride=64, causal=True), tokens=n, token=n - 1))
    assert strided[1].keys == n, "every stride-th token's window: all after two layers"


def test_a_window_of_one_never_sees_more() -> None:
    assert [f.keys for f in fields(SlidingWindow(window=1, causal=True), tokens=99, token=7)] == [1]


def test_a_million_tokens_are_composed() -> None:
    n = 1 << 20
    grown = list(fields(SlidingWindow(window=512, causal=True), tokens=n, token=n - 1))
    assert len(grown) == -(-(n - 1) // 511)
    assert grown[-1].keys == n


def test_positions_by_residue() -> None:
    assert by_residue([range(5, 5), range(2, 9, 3), range(3, 6)], 3) == {
        2: [(0, 3)], 0: [(1, 2)], 1: [(1, 2)]
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(cases(), st.integers(1, 20), st.integers(1, 20))
def test_a_grid_counts_each_cell(case: tuple[Any, int], rows: int, columns: int) -> None:
    pattern, tokens = case
    grid, exact = density_grid(pattern, tokens=tokens, rows=rows, columns=columns)
    rows, columns = min(rows, tokens), min(columns, tokens)
    seen = matrix(pattern, tokens)
    assert exact
    assert (len(grid), len(grid[0])) == (rows, columns)
    for r in range(rows):
        for c in range(columns):
            down = slice(tokens * r // rows, tokens * (r + 1) // rows)
            right = slice(tokens * c // columns, tokens * (c + 1) // columns)
            assert grid[r][c] == pytest.approx(seen[down, right].mean())


def test_a_long_pattern_is_sampled_and_says_so() -> None:
    grid, exact = density_grid(
        SlidingWindow(window=512, causal=True), tokens=1 << 17, rows=4, columns=4
    )
    assert not exact
    assert grid[3][0] == 0
    assert 0 < grid[3][3] < 0.1
