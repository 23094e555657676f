"""The exact tier: status, the mathematics, memory and error, planted 100 of 100."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from _gate_runs import make_rows, make_run

from attnbench.errors import NothingToDoError
from attnbench.gate.baseline import Baseline
from attnbench.gate.check import check
from attnbench.gate.exact import UNIT_ROUNDOFF
from attnbench.gate.runs import build_run
from attnbench.gate.verdict import Limits, Missing, Verdict, Word
from attnbench.spec.dtype import Dtype
from attnbench.spec.result import ResultRow

ROWS = make_rows(100)
BEFORE = Baseline(label="b", runs=(make_run(ROWS, 1),))
Change = Callable[[ResultRow], ResultRow]


def judge(rows: list[ResultRow], limits: Limits | None = None, seed: int = 2) -> list[Verdict]:
    return list(check(make_run(rows, seed), BEFORE, limits or Limits()).verdicts)


def changed(number: int, **fields: object) -> list[ResultRow]:
    return [replace(r, **fields) if i == number else r for i, r in enumerate(ROWS)]  # type: ignore[arg-type]


def no_figures(row: ResultRow, status: str) -> dict[str, object]:
    names = ("time_ms", "pairs", "flops", "bytes_min", "peak_memory_bytes", "workspace_bytes",
             "rel_error", "kernel_error")  # fmt: skip
    return dict.fromkeys(names) | {"status": status, "note": "why"}


PLANTS: dict[str, Callable[[ResultRow], dict[str, object]]] = {
    "peak_memory_bytes": lambda r: {"peak_memory_bytes": int(r.peak_memory_bytes * 1.08)},
    "rel_error": lambda r: {"rel_error": r.rel_error * 2.1},
    "status": lambda r: no_figures(r, "error"),
}


@pytest.mark.parametrize("metric", PLANTS)
def test_planted_regressions_are_found_100_of_100(metric: str) -> None:
    for number, row in enumerate(ROWS):
        found = [v for v in judge(changed(number, **PLANTS[metric](row))) if v.failed]
        assert [(v.point, v.metric, v.verdict) for v in found] == [(row.label, metric, Word.SLOWER)]
        assert found[0].reason


def test_unchanged_runs_fail_nothing_and_say_same() -> None:
    words = {v.verdict for v in judge(ROWS) if v.metric != "time_ms"}
    assert words == {Word.SAME}


@pytest.mark.parametrize("name", ["pairs", "flops", "bytes_min"])
def test_changed_mathematics_fails_as_not_comparable(name: str) -> None:
    found = judge(changed(3, **{name: getattr(ROWS[3], name) + 1}))
    failed = [v for v in found if v.failed]
    assert [(v.metric, v.verdict) for v in failed] == [(name, Word.NOT_COMPARABLE)]
    assert "the mathematics changed" in failed[0].reason
    time = next(v for v in found if v.metric == "time_ms" and v.point == failed[0].point)
    assert (time.verdict is Word.NOT_COMPARABLE) == (name == "pairs")


@pytest.mark.parametrize(
    ("before", "now", "word", "failed"),
    [
        ("ok", "oom", Word.SLOWER, True),
        ("ok", "skipped", Word.SLOWER, True),
        ("ok", "interpreted", Word.SLOWER, True),
        ("ok", "impossible", Word.SLOWER, True),
        ("interpreted", "incorrect", Word.SLOWER, True),
        ("interpreted", "ok", Word.FASTER, False),
        ("error", "incorrect", Word.SLOWER, True),
        ("oom", "ok", Word.FASTER, False),
        ("oom", "timeout", Word.SAME, False),
        ("skipped", "skipped", Word.SAME, False),
    ],
)
def test_status(before: str, now: str, word: Word, failed: bool) -> None:
    def run(status: str, seed: int) -> list[ResultRow]:
        row = ROWS[0]
        return [replace(row, **({} if status == "ok" else no_figures(row, status))), ROWS[1]]  # type: ignore[arg-type]

    base = Baseline(label="b", runs=(make_run(run(before, 1), 1),))
    found = check(make_run(run(now, 2), 2), base, Limits()).verdicts
    status = next(v for v in found if v.metric == "status" and v.point == ROWS[0].label)
    assert (status.verdict, status.failed) == (word, failed)
    assert [v.point for v in found if v.failed] == [status.point] * failed


@pytest.mark.parametrize("missing", list(Missing))
def test_a_lost_point_and_a_lost_figure(missing: Missing) -> None:
    rows = [replace(ROWS[0], rel_error=None), *ROWS[2:]]
    found = [v for v in judge(rows, Limits(missing=missing)) if v.verdict is Word.MISSING]
    assert {(v.point, v.metric) for v in found} == {
        (ROWS[0].label, "rel_error"),
        (ROWS[1].label, "status"),
    }
    assert {v.failed for v in found} == {missing is Missing.FAIL}


def test_new_points_are_counted_and_nothing_shared_is_an_error() -> None:
    base = Baseline(label="b", runs=(make_run(ROWS[:10], 1),))
    assert check(make_run(ROWS[:13], 2), base, Limits()).new_points == 3
    with pytest.raises(NothingToDoError, match="share no point"):
        check(make_run(ROWS[20:30], 2), base, Limits())


@pytest.mark.parametrize("dtype", list(Dtype))
def test_an_error_within_the_last_rounding_is_noise(dtype: Dtype) -> None:
    roundoff = UNIT_ROUNDOFF[dtype]
    old = replace(ROWS[0], dtype=dtype.value, rel_error=roundoff / 8)
    base = Baseline(label="b", runs=(make_run([old], 1),))
    for error, fails in ((roundoff, False), (roundoff * 1.01, True), (roundoff / 9, False)):
        found = check(make_run([replace(old, rel_error=error)], 2), base, Limits())
        assert bool(found.failed) == fails


def test_unit_roundoff_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    for name in ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"):
        from attnbench.spec.dtype import parse_dtype

        assert UNIT_ROUNDOFF[parse_dtype(name)] == torch.finfo(getattr(torch, name)).eps / 2


def test_memory_of_the_host_has_a_floor_and_of_a_device_none() -> None:
    for timer, fails in (("host_clock", False), ("device_events", True)):
        old = replace(ROWS[0], timer=timer, peak_memory_bytes=1_000_000)
        base = Baseline(label="b", runs=(make_run([old], 1),))
        found = check(make_run([replace(old, peak_memory_bytes=1_250_000)], 2), base, Limits())
        assert bool(found.failed) == fails


def test_the_largest_of_several_blessed_figures_counts() -> None:
    runs = tuple(
        make_run([replace(r, peak_memory_bytes=m) for r in ROWS[:3]], m)
        for m in (4_000_000, 5_000_000, 4_000_000)
    )
    now = make_run([replace(r, peak_memory_bytes=5_200_000) for r in ROWS[:3]], 9)
    assert not check(now, Baseline(label="b", runs=runs), Limits()).failed


def test_another_device_compares_ratios_and_what_the_code_alone_decides() -> None:
    limits = Limits(relative_to="naive")
    base = Baseline(label="b", runs=(make_run(ROWS[:12], 1),))
    rows = [replace(r, device="GPU Y", peak_memory_bytes=9_000_000) for r in ROWS[:12]]
    rows[1] = replace(rows[1], **no_figures(rows[1], "oom"))  # type: ignore[arg-type]
    rows[2] = replace(rows[2], **no_figures(rows[2], "incorrect"))  # type: ignore[arg-type]
    found = check(make_run(rows, 2, slower=dict.fromkeys(range(12), 9.0)), base, limits)
    assert [(v.point, v.metric) for v in found.failed] == [(rows[2].label, "status")]
    memory = {v.verdict for v in found.verdicts if v.metric == "peak_memory_bytes"}
    assert memory == {Word.NOT_COMPARABLE}
    assert not found.same_device


def test_labels_tell_points_apart() -> None:
    rows = [replace(ROWS[0], params=p) for p in ('{"window":1}', '{"window":2}')]
    run = build_run(label="r", rows=rows, rounds_ms={})
    found = check(run, Baseline(label="b", runs=(run,)), Limits())
    assert len({v.point for v in found.verdicts}) == 2
