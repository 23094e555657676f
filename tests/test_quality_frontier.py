"""Frontier and crossover on rows made by hand."""

import pytest

from attnbench.quality.crossover import Reached, crossing, crossovers
from attnbench.quality.frontier import frontier
from attnbench.spec.result import ResultRow

EXACT = {"naive", "flash"}


def row(
    variant: str, ms: float | None, memory: int | None = 10, error: float | None = 1e-7,
    *, n: int = 4096, status: str = "ok", backend: str = "eager", params: str = "{}",
    causal: bool = True,
) -> ResultRow:  # fmt: skip
    return ResultRow(
        variant=variant, backend=backend, mode="fwd", device="d", dtype="fp32", batch=1, heads=2,
        kv_heads=2, seq_q=n, seq_kv=n, head_dim=64, causal=causal, params=params, status=status,
        time_ms=ms, peak_memory_bytes=memory, rel_error=error,
    )  # fmt: skip


def test_dominated_rows_are_marked_with_what_beats_them() -> None:
    rows = [
        row("naive", 100, 1000, 1.2e-7),
        row("flash", 40, 10, 1.0e-7),
        row("sliding_window", 5, 12, 0.3),
        row("strided", 9, 12, 0.1),
        row("bigbird", 9, 13, 0.1),
        row("longformer", 5, 11, 0.4),
    ]
    (group,) = frontier(rows, EXACT)
    assert [s.row.variant for s in group] == [
        "sliding_window", "longformer", "strided", "bigbird", "flash", "naive"
    ]  # fmt: skip
    beaten = {s.row.variant: s.dominated_by for s in group}
    assert beaten == {
        "naive": "flash/eager", "flash": None, "sliding_window": None, "longformer": None,
        "strided": None, "bigbird": "strided/eager",
    }  # fmt: skip


def test_rounding_of_exact_variants_is_one_error() -> None:
    # naive's rounding is the smaller one: that alone must not keep it on the frontier.
    (group,) = frontier([row("naive", 100, 1000, 1.0e-7), row("flash", 40, 10, 1.9e-7)], EXACT)
    assert {s.row.variant: s.dominated_by for s in group}["naive"] == "flash/eager"
    (group,) = frontier([row("naive", 100, 1000, 1.0e-7), row("flash", 40, 10, 2.1e-7)], EXACT)
    assert {s.row.variant: s.dominated_by for s in group}["naive"] is None
    # An approximation with twice an exact variant's error is no exact variant.
    (group,) = frontier([row("performer", 9, 9, 0.2), row("linear", 9, 9, 0.1)], EXACT)
    assert {s.row.variant: s.dominated_by for s in group}["performer"] == "linear/eager"


def test_equal_rows_do_not_dominate_each_other() -> None:
    (group,) = frontier([row("strided", 9), row("bigbird", 9)], EXACT)
    assert [s.dominated_by for s in group] == [None, None]


def test_only_one_problem_is_compared() -> None:
    rows = [row("flash", 1), row("linformer", 2, causal=False), row("strided", 3, n=8192)]
    rows += [row("bigbird", 1, None), row("naive", None, status="oom")]
    groups = frontier(rows, EXACT)
    assert [[s.row.variant for s in group] for group in groups] == [
        ["flash"], ["linformer"], ["strided"]
    ]  # fmt: skip


def test_a_crossing_is_on_the_line_between_two_lengths() -> None:
    # Times c·n and a·n²: equal at n = c/a exactly, and both are lines on log-log.
    linear, square = 3.0, 0.001
    ratios = {n: linear * n / (square * n * n) for n in (1000, 2000, 4000, 8000)}
    reached, tokens = crossing(ratios)
    assert reached is Reached.CROSSED
    assert tokens == pytest.approx(3000)


@pytest.mark.parametrize(
    ("ratios", "reached"),
    [
        ({}, Reached.NOT_MEASURED),
        ({1024: 2.0, 4096: 1.5}, Reached.NOT_REACHED),
        ({1024: 2.0, 4096: 1.0}, Reached.NOT_REACHED),
        ({1024: 0.9, 4096: 0.5}, Reached.FASTER_THROUGHOUT),
        ({1024: 0.9, 2048: 0.5, 4096: 1.1}, Reached.NOT_REACHED),
    ],
)
def test_no_crossing_is_made_up(ratios: dict[int, float], reached: Reached) -> None:
    assert crossing(ratios) == (reached, None)


def test_the_last_crossing_counts() -> None:
    _, tokens = crossing({1024: 0.5, 2048: 2.0, 8192: 0.5})
    assert tokens == pytest.approx(4096)


def test_crossovers_of_a_run() -> None:
    rows = []
    for n in (1024, 2048, 4096):
        rows.append(row("flash", 2e-6 * n * n, n=n, backend="slow"))
        rows.append(row("flash", 1e-6 * n * n, n=n, backend="fast"))
        rows.append(row("naive", 9e-6 * n * n, n=n))
        rows.append(row("strided", 2e-3 * n, n=n, params=f'{{"stride":{n // 32}}}'))
        for window in (64, 512):
            params = f'{{"window":{window}}}'
            rows.append(row("sliding_window", 1e-5 * window * n, n=n, params=params))
    rows.append(row("linformer", 1.0, causal=False))
    rows.append(row("strided", None, n=8192, status="error"))
    found = {(c.variant, c.params): c for c in crossovers(rows, EXACT)}
    assert len(found) == 4
    strided = found["strided", '{"stride":32}']
    assert list(strided.ratios) == [1024, 2048, 4096], "a stride of √n is one series"
    assert strided.tokens == pytest.approx(2000)  # against the faster of the two backends
    assert found["sliding_window", '{"window":64}'].reached is Reached.FASTER_THROUGHOUT
    assert found["sliding_window", '{"window":512}'].reached is Reached.NOT_REACHED
    assert found["linformer", "{}"].reached is Reached.NOT_MEASURED
