"""`attnbench patterns`: its figures against the counts, its words against its figures."""

import io
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

from attnbench.calc.pattern_bigbird import BigBird
from attnbench.calc.pattern_longformer import Longformer
from attnbench.calc.pattern_strided import Strided
from attnbench.calc.pattern_words import words_of
from attnbench.calc.patterns import Full, Pattern, SlidingWindow
from attnbench.calc.receptive import fields
from attnbench.report.png import Panel, colour, draw_png

Attnbench = Callable[..., Ran]
N, W, H, K, G = 1000, 96, 48, 40, 7


def longformer_extra(causal: bool) -> int:
    """Globals' pairs outside the windows, counted one by one."""
    reach = W - 1 if causal else H
    keys = sum(max(0, N - 1 - g - reach) for g in range(G))
    return keys if causal else 2 * keys


# What each pair formula says, computed as it says.
FORMULAS: list[tuple[Pattern, str, int]] = [
    (Full(causal=True), "n(n+1)/2", N * (N + 1) // 2),
    (Full(causal=False), "n²", N * N),
    (SlidingWindow(window=W, causal=True), "n·w − w(w−1)/2", N * W - W * (W - 1) // 2),
    (SlidingWindow(window=W, causal=False), "n(2h+1) − h(h+1)", N * (2 * H + 1) - H * (H + 1)),
    (
        Longformer(window=W, global_tokens=G, causal=True),
        "n·w − w(w−1)/2",
        N * W - W * (W - 1) // 2 + longformer_extra(causal=True),
    ),
    (
        Longformer(window=W, global_tokens=G, causal=False),
        "n(2h+1) − h(h+1)",
        N * (2 * H + 1) - H * (H + 1) + longformer_extra(causal=False),
    ),
    (
        Strided(window=W, stride=K, causal=True),
        "Σᵢ min(i+1, w) + ⌊i/k⌋ − ⌊min(i, w−1)/k⌋",
        sum(min(i + 1, W) + i // K - min(i, W - 1) // K for i in range(N)),
    ),
]


@pytest.mark.parametrize(("pattern", "text", "pairs"), FORMULAS)
def test_pair_formulas_give_the_counts(pattern: Pattern, text: str, pairs: int) -> None:
    assert words_of(pattern).pairs.startswith(text)
    assert pattern.pairs(N, N) == pairs


@pytest.mark.parametrize(("window", "stride"), [(5, 17), (9, 33), (2, 9), (64, 32)])
def test_layers_of_a_strided_pattern(window: int, stride: int) -> None:
    causal = Strided(window=window, stride=stride, causal=True)
    grown = list(fields(causal, tokens=N, token=N - 1))
    assert grown[-1].keys == N
    assert len(grown) == 1 + math.ceil((stride - 1) / (window - 1))
    both = Strided(window=window, stride=stride, causal=False)
    grown = list(fields(both, tokens=N, token=N - 1))
    assert len(grown) <= 1 + math.ceil((stride - 1) / (window // 2))


@pytest.mark.parametrize("causal", [True, False])
def test_bigbird_has_at_most_what_its_words_say(causal: bool) -> None:
    pattern = BigBird(
        block=16, window_blocks=3, global_blocks=2, random_blocks=3, seed=0,
        key_blocks=-(-N // 16), causal=causal,
    )  # fmt: skip
    pairs = pattern.pairs(N, N)
    most = (3 / 2 if causal else 3) + 2 + 3
    assert pairs <= most * 16 * N + (0 if causal else 2 * 16 * N)
    assert pairs > 0.8 * most * 16 * N
    assert ("L = 2" in words_of(pattern).field) is not causal


def test_the_table_in_json(attnbench: Attnbench) -> None:
    found = attnbench("patterns", "--json", "--seq-len", "2k", "--layers", "3", "--window", "256")
    assert found.code == 0
    data = found.json
    assert data["schema"] == "attnbench.patterns/1"
    by_name = {p["pattern"]: p for p in data["patterns"]}
    assert set(by_name) == {"bigbird", "longformer", "sliding_window", "strided"}
    window = by_name["sliding_window"]
    n, w = 2048, 256
    assert window["pairs"] == n * w - w * (w - 1) // 2
    assert window["density"] == window["pairs"] / n**2
    assert window["flops"] == 4 * window["pairs"] * 64 * 8
    assert window["bytes_min"] == 4 * n * 64 * 8 * 2
    assert [f["keys"] for f in window["fields"]] == [256, 511, 766]
    assert window["layers_to_all"] == math.ceil((n - 1) / (w - 1))
    assert by_name["bigbird"]["params"]["block"] == 64, "--window is for those that have one"


def test_a_picture_for_people(attnbench: Attnbench) -> None:
    shown = attnbench("patterns", "sliding_window", "--seq-len", "64", "--window", "2").out
    rows = [line for line in shown.splitlines() if line and set(line) <= set("·░▒▓█")]
    assert len(rows) == 32
    assert all(len(row) == 64 for row in rows)
    # Two queries a row, one key a column: 2i-1 | 2i, 2i | 2i, 2i+1.
    assert rows[10] == "·" * 19 + "▓█▓" + "·" * 42
    fenced = attnbench("patterns", "strided", "--format", "markdown").out
    assert fenced.count("```") == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["performer"], "no pattern"),
        (["slidng_window"], "Did you mean sliding_window"),
        (["longformer", "--params", "globals=3"], "Did you mean global_tokens"),
        (["longformer", "--params", "global_tokens=x"], "not a whole number"),
        (["bigbird", "--params", "block=0"], "under 1"),
        (["bigbird", "--window", "8"], "has none"),
        (["--params", "window=3"], "of which pattern"),
        (["strided", "--seq-len", "16", "--token", "16"], "0 to 15"),
    ],
)
def test_bad_input(attnbench: Attnbench, arguments: list[str], says: str) -> None:
    ran = attnbench("patterns", *arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert says in ran.err


def test_png(attnbench: Attnbench, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "patterns.png"
    assert attnbench("patterns", "--seq-len", "1k", "--png", path).code == 0
    with image.open(path) as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > 700
    one = draw_png([Panel(title="", grid=[[0.0, 1.0]])], title="", across=1, size=200)
    with image.open(io.BytesIO(one)) as drawn:
        colours = {c for _, c in drawn.getcolors(1 << 16)}
    assert {colour(0.0), colour(1.0)} <= colours


def test_png_without_pillow_says_what_to_install(
    attnbench: Attnbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    ran = attnbench("patterns", "--seq-len", "64", "--png", tmp_path / "x.png")
    assert ran.code == 3
    assert "pip install 'attnbench[report]'" in ran.err
    assert not (tmp_path / "x.png").exists()
