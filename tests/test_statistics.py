import math
import random

import numpy as np
import pytest
from scipy import stats

from attnbench.measure.statistics import log_interval, log_log_slope, percentile, summarise


def test_the_interval_is_scipys_t_interval_of_the_logs() -> None:
    values = [1.0, 1.1, 0.9, 1.05, 1.2]
    logs = np.log(values)
    low, high = stats.t.interval(0.95, len(logs) - 1, loc=logs.mean(), scale=stats.sem(logs))
    assert log_interval(values) == pytest.approx((math.exp(low), math.exp(high)), rel=1e-12)


def test_the_interval_covers_the_true_median_19_times_in_20() -> None:
    draw = random.Random(1)
    covered = 0
    for _ in range(2000):
        low, high = log_interval([math.exp(draw.gauss(0.0, 0.05)) for _ in range(5)])
        covered += low <= 1.0 <= high
    # 95% of 2,000 with a standard deviation of 9.7: four of them each way.
    assert abs(covered - 1900) < 40


def test_percentiles_are_numpys() -> None:
    values = sorted(random.Random(2).random() for _ in range(37))
    for share in (0.0, 0.2, 0.5, 0.8, 1.0):
        assert percentile(values, share) == pytest.approx(np.quantile(values, share), rel=1e-12)


def test_nothing_is_trimmed_and_the_median_is_over_rounds() -> None:
    timed = summarise([[1.0, 1.0, 100.0], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0]])
    assert timed.time_ms == 2.0
    assert (timed.rounds, timed.samples) == (3, 9)
    assert timed.ci_low_ms <= timed.time_ms <= timed.ci_high_ms


def test_slope_is_the_power_of_growth() -> None:
    lengths = [2048, 4096, 8192, 16384]
    assert log_log_slope(lengths, [n**1.5 for n in lengths]) == pytest.approx(1.5)
    assert log_log_slope(lengths, [math.pi * n for n in lengths]) == pytest.approx(1.0)
