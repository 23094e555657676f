"""The timing tier: no alarm on unchanged runs, every large slowdown, right intervals."""

import math

import numpy as np
import pytest
from _gate_runs import make_rows, make_run
from scipy import stats

from attnbench.gate import noise, student, timing
from attnbench.gate.baseline import Baseline
from attnbench.gate.check import Outcome, check
from attnbench.gate.noise import Part
from attnbench.gate.runs import Run, Selfcheck
from attnbench.gate.verdict import Limits, Tolerance, Verdict, Word

TIME = Limits(metrics=("time_ms",))
PLANTED = {7: 1.5, 100: 1.5, 299: 1.5}


def times(outcome: Outcome) -> dict[str, Verdict]:
    return {v.point: v for v in outcome.verdicts if v.metric == "time_ms"}


def baseline(rows: list, seed: int, runs: int, **noise_of: float) -> Baseline:
    made = [make_run(rows, 100 * seed + k, **noise_of) for k in range(runs)]
    return Baseline(label="baseline", runs=tuple(made))


@pytest.mark.parametrize("runs", [1, 3, 5])
@pytest.mark.parametrize("shared", [0.0, 0.02])
def test_no_alarm_on_unchanged_runs_and_every_large_slowdown(runs: int, shared: float) -> None:
    # 300 points, 2% noise between runs for each point, and 2% that a run's points share.
    rows = make_rows(300)
    for seed in range(4):
        before = baseline(rows, seed, runs, shared=shared)
        same = check(make_run(rows, 100 * seed + 98, shared=shared), before, TIME)
        assert Word.SLOWER not in same.counts, (seed, same.failed[0])
        planted = make_run(rows, 100 * seed + 99, shared=shared, slower=PLANTED)
        slow = check(planted, before, TIME)
        assert {v.point for v in slow.failed} == {rows[i].label for i in PLANTED}


def test_a_gain_is_faster_and_never_fails() -> None:
    rows = make_rows(60)
    found = check(make_run(rows, 9, slower={5: 0.5}), baseline(rows, 1, 5), TIME)
    assert times(found)[rows[5].label].verdict is Word.FASTER
    assert not found.failed


def test_several_runs_see_what_one_run_cannot() -> None:
    rows = make_rows(120)
    point = rows[50].label
    one, many = baseline(rows, 1, 1, between=0.005), baseline(rows, 1, 5, between=0.005)
    slow = make_run(rows, 999, between=0.005, slower={50: 1.2})
    unsure, slower = (times(check(slow, b, TIME))[point] for b in (one, many))
    assert unsure.verdict is Word.UNSURE
    assert unsure.minimum_detectable == timing.LARGE
    assert slower.verdict is Word.SLOWER
    assert slower.ratio == pytest.approx(1.2, abs=0.03)
    assert slower.ratio_low > 1.05
    assert slower.minimum_detectable < 1.2


def test_a_selfcheck_stands_for_several_runs() -> None:
    rows = make_rows(120)
    before = make_run(rows, 1, between=0.005, selfcheck=Selfcheck(log_sd=0.007, dof=100))
    slow = make_run(rows, 2, between=0.005, slower={50: 1.2})
    found = check(slow, Baseline(label="b", runs=(before,)), TIME)
    assert found.between == "a selfcheck"
    assert [v.point for v in found.failed] == [rows[50].label]


def test_runs_of_an_older_recipe_are_no_measure() -> None:
    from dataclasses import replace

    rows = make_rows(12)
    old = [replace(row, recipe="old", time_ms=(row.time_ms or 0) / 2) for row in rows]
    runs = (*baseline(old, 1, 3).runs, make_run(rows, 5))
    found = check(make_run(rows, 6), Baseline(label="b", runs=runs), TIME)
    assert found.between is None
    assert not found.failed


def test_relative_to_cancels_the_machine() -> None:
    rows = make_rows(60)
    before = baseline(rows, 1, 5)
    twice = make_run(rows, 77, slower=dict.fromkeys(range(60), 2.0) | {7: 3.0})
    assert len(check(twice, before, TIME).failed) == 60
    ratios = check(twice, before, Limits(metrics=("time_ms",), relative_to="naive"))
    assert [v.point for v in ratios.failed] == [rows[7].label]
    assert len(times(ratios)) == 50  # ten points are the unit itself


def test_a_unit_that_moved_on_one_machine_is_noise_where_none_is_known() -> None:
    """One run each: of what a busy machine did to the unit no other point is to be accused."""
    rows = make_rows(60)
    units = [n for n, row in enumerate(rows) if row.variant == "naive"]
    before = Baseline(label="b", runs=(make_run(rows, 1),))
    relative = Limits(metrics=("time_ms",), relative_to="naive")
    slow = make_run(rows, 2, slower={7: 3.0})
    assert rows[7].variant != "naive"
    assert [v.point for v in check(slow, before, relative).failed] == [rows[7].label]
    moved = make_run(rows, 2, slower=dict.fromkeys(units, 1 / 30) | {7: 3.0})
    assert [v.point for v in check(moved, before, relative).failed] == [rows[7].label]


def test_a_tolerance_of_the_baseline_widens_a_points_limit() -> None:
    rows = make_rows(24)
    before = baseline(rows, 1, 3)
    slow = make_run(rows, 50, slower={1: 1.4, 3: 1.4})
    assert len(check(slow, before, TIME).failed) == 2
    wide = Tolerance(match={"variant": rows[1].variant}, max_slowdown=2.0)
    found = check(slow, Baseline(label="b", runs=before.runs, tolerances=(wide,)), TIME)
    assert [v.key["variant"] for v in found.failed] == [rows[3].variant]


def test_microseconds_have_an_absolute_floor() -> None:
    from dataclasses import replace

    rows = [replace(row, time_ms=0.004) for row in make_rows(6)]
    slow = make_run(rows, 2, slower=dict.fromkeys(range(6), 1.4))  # 1.6 microseconds more
    assert not check(slow, baseline(rows, 1, 5), TIME).failed


def test_one_round_alone_is_unsure() -> None:
    rows = make_rows(6)
    run = make_run(rows, 1, slower=dict.fromkeys(range(6), 3.0))
    bare = Run(label="r", device=run.device, rows=run.rows, rounds_ms={})
    found = check(bare, baseline(rows, 2, 1), TIME)
    assert {v.verdict for v in found.verdicts if v.metric == "time_ms"} == {Word.UNSURE}


def test_the_interval_of_a_row_stands_in_for_lost_samples() -> None:
    from dataclasses import replace

    half = float(stats.t.ppf(0.975, 4)) * 0.01
    row = replace(
        make_rows(1)[0], time_ms_ci_low=math.exp(-half), time_ms_ci_high=math.exp(half), time_ms=1.0
    )
    bare = Run(label="r", device=row.device, rows={row.key: row}, rounds_ms={})
    found = timing.series(bare, row.key)
    assert found is not None
    assert found.within is not None
    assert math.sqrt(found.within.variance) == pytest.approx(0.01 * math.sqrt(math.pi / 2))


def test_intervals_of_unchanged_points_hold_their_95_percent() -> None:
    # Over whole simulated histories: coverage at least 95%, less four binomial errors.
    rows = make_rows(30)
    inside = total = 0
    for seed in range(20):
        found = check(make_run(rows, 7000 + seed), baseline(rows, 500 + seed, 5), TIME)
        for v in times(found).values():
            inside += v.ratio_low <= 1.0 <= v.ratio_high
            total += 1
    assert inside / total > 0.95 - 4 * math.sqrt(0.95 * 0.05 / total)


def test_benjamini_hochberg_is_scipys() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        chances = np.concatenate([rng.uniform(size=50), rng.uniform(high=0.003, size=5)])
        wanted = stats.false_discovery_control(chances) <= timing.FALSE_ALARMS
        assert timing._discoveries(list(chances)) == list(wanted)


def test_welch_satterthwaite_is_scipys() -> None:
    a, b = [0.1, 0.3, 0.2, 0.6], [1.0, 1.5, 1.1, 0.2, 0.9, 1.3]
    parts = [Part(np.var(x, ddof=1) / len(x), len(x) - 1.0) for x in (a, b)]
    whole = noise.total(parts)
    test = stats.ttest_ind(a, b, equal_var=False)
    assert whole.dof == pytest.approx(test.df)
    p = 2 * student.upper_tail(whole.dof, abs(np.mean(a) - np.mean(b)) / math.sqrt(whole.variance))
    assert p == pytest.approx(test.pvalue)


def test_moderated_variances_find_the_prior_they_were_drawn_from() -> None:
    # Smyth's model: 1/variance ~ chi-square(d0) / (d0 s0²), with d0 = 8 and s0 = 3%.
    rng = np.random.default_rng(2)
    true = 8 * 0.03**2 / rng.chisquare(8, size=20_000)
    seen = [Part(v * c / 4, 4.0) for v, c in zip(true, rng.chisquare(4, 20_000), strict=True)]
    made = noise.moderate(seen)
    assert made[0].dof == pytest.approx(8 + 4, rel=0.1)
    before, after = (
        np.mean(
            [(math.log(p.variance) - math.log(t)) ** 2 for p, t in zip(parts, true, strict=True)]
        )
        for parts in (seen, made)
    )
    assert after < before / 2


def test_equal_variances_are_pooled_whole() -> None:
    rng = np.random.default_rng(3)
    made = noise.moderate([Part(0.02**2 * c / 4, 4.0) for c in rng.chisquare(4, 5000)])
    assert made[0].variance == pytest.approx(0.02**2, rel=0.1)
    assert made[0].dof > 100


def test_trigamma_inverts() -> None:
    for x in (0.05, 0.5, 3.0, 1000.0):
        assert noise._inverse_trigamma(student.trigamma(x)) == pytest.approx(x, rel=1e-6)


def test_two_single_runs_show_their_own_noise() -> None:
    # 10% noise between runs: 1.25 is no rare ratio of 300, yet none is called.
    rows = make_rows(300)
    for seed in range(4):
        before = baseline(rows, seed, 1, between=0.1)
        same = check(make_run(rows, 100 * seed + 98, between=0.1), before, TIME)
        assert max(v.ratio for v in times(same).values()) > timing.LARGE
        assert Word.SLOWER not in same.counts
        assert min(v.minimum_detectable for v in times(same).values()) > 1.4


def test_many_slow_points_do_not_hide_each_other() -> None:
    rows = make_rows(60)
    half = dict.fromkeys(range(0, 60, 2), 1.5)
    found = check(make_run(rows, 3, slower=half), baseline(rows, 1, 1), TIME)
    assert {v.point for v in found.failed} == {rows[i].label for i in half}
