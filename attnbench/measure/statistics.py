"""The figures of a timed point, from its samples over rounds. Nothing is trimmed."""

import math
import statistics

import msgspec


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """Median, percentiles and 95% interval of a point, in milliseconds."""

    time_ms: float
    p20_ms: float
    p80_ms: float
    ci_low_ms: float
    ci_high_ms: float
    rounds: int
    samples: int


def summarise(rounds_ms: list[list[float]]) -> Timed:
    """The figures of a point whose round r gave the samples `rounds_ms[r]`.

    `time_ms` is the median of the rounds' medians. The interval is Student's t over
    the logarithms of the rounds' medians: samples within a round share its drift, so
    rounds are what repeats independently. Percentiles are over all samples.

    Source: Georges, Buytaert, Eeckhout 2007, "Statistically rigorous Java
    performance evaluation", OOPSLA, section 3.2.
    """
    medians = [statistics.median(samples) for samples in rounds_ms]
    time_ms = statistics.median(medians)
    every = sorted(sample for samples in rounds_ms for sample in samples)
    low, high = log_interval(medians)
    return Timed(
        time_ms=time_ms,
        p20_ms=percentile(every, 0.2),
        p80_ms=percentile(every, 0.8),
        ci_low_ms=min(low, time_ms),
        ci_high_ms=max(high, time_ms),
        rounds=len(rounds_ms),
        samples=len(every),
    )


def log_interval(values: list[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the geometric mean of positive `values`."""
    if len(values) < 2:
        return 0.0, math.inf
    from scipy.special import stdtrit

    logs = [math.log(value) for value in values]
    centre = statistics.fmean(logs)
    quantile = float(stdtrit(len(logs) - 1, (1 + confidence) / 2))
    half = quantile * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(centre - half), math.exp(centre + half)


def percentile(ordered: list[float], share: float) -> float:
    """The `share` quantile of an ordered list, by linear interpolation."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def log_log_slope(lengths: list[int], times: list[float]) -> float:
    """Least-squares slope of log(time) over log(length): 2 where time grows as n².

    >>> round(log_log_slope([1024, 2048, 4096], [1.0, 4.0, 16.0]), 6)
    2.0
    """
    return statistics.linear_regression(
        [math.log(n) for n in lengths], [math.log(t) for t in times]
    ).slope
