"""How much a point's time varies between runs of one code on one machine.

A run's log time of a point is taken as its true value, plus a shift that the whole
run shares (clocks, neighbours), plus the point's own noise:
    y[point, run] = mu[point] + c[run] + e[point, run]
Both variances are estimated from the baseline's several runs. The point's own is
drawn towards that of all points, by as much as the points are seen to be alike
(moderated variance: Smyth 2004, "Linear models and empirical Bayes methods for
assessing differential expression", Stat. Appl. Genet. Mol. Biol. 3:1, section 6.2).
The shared shift has as many observations as there are runs, however many points; it
is drawn towards 2%, weighed as `PRIOR_DOF` degrees of freedom.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from attnbench.gate.student import digamma, trigamma
from attnbench.gate.verdict import Key

MIN_RUNS = 3  # two runs give one difference: too little to call a machine quiet
PRIOR_SD = 0.02
PRIOR_DOF = 4.0
_MANY_DOF = 1e6  # stands for infinity
_FEWEST_POINTS = 10  # below, how alike the points are cannot be estimated


class Part(NamedTuple):
    """A part of a variance, and the degrees of freedom that it is known with."""

    variance: float
    dof: float


class Between(msgspec.Struct, frozen=True, kw_only=True):
    """Variance between runs of log time: the shared shift, and each point's own."""

    source: str
    common: Part
    own: dict[Key, Part]

    @property
    def typical_sd(self) -> float:
        """Standard deviation between runs of the median point."""
        own = statistics.median(part.variance for part in self.own.values())
        return math.sqrt(self.common.variance + own)


def from_runs(logs: Mapping[Key, Mapping[int, float]]) -> Between | None:
    """The noise seen in `logs`: a point's log time in each run; None where runs are few."""
    logs = {key: values for key, values in logs.items() if len(values) >= MIN_RUNS}
    if not logs:
        return None
    deviations = {key: _centred(values) for key, values in logs.items()}
    runs = {number for values in deviations.values() for number in values}
    shift = {
        number: statistics.fmean(d[number] for d in deviations.values() if number in d)
        for number in runs
    }
    seen = sum(value**2 for value in shift.values())
    dof = PRIOR_DOF + len(runs) - 1
    own = {
        key: Part(
            sum((value - shift[number]) ** 2 for number, value in values.items())
            / (len(values) - 1),
            len(values) - 1.0,
        )
        for key, values in deviations.items()
    }
    return Between(
        source=f"{len(runs)} runs of the baseline",
        common=Part((PRIOR_DOF * PRIOR_SD**2 + seen) / dof, dof),
        own=dict(zip(own, moderate(list(own.values())), strict=True)),
    )


def moderate(parts: Sequence[Part]) -> list[Part]:
    """Each variance drawn towards their common value, as far as they are alike.

    The prior's value and weight are those that the spread of the log variances
    implies; few points have the prior of 2%, weighed as `PRIOR_DOF`.
    """
    tiny = 1e-12  # a clock that gives the same figure twice is no proof of no noise
    if len(parts) < _FEWEST_POINTS:
        prior = Part(PRIOR_SD**2, PRIOR_DOF)
    else:
        scaled = [
            math.log(max(p.variance, tiny)) - digamma(p.dof / 2) + math.log(p.dof / 2)
            for p in parts
        ]
        expected = statistics.fmean(trigamma(p.dof / 2) for p in parts)
        half = _inverse_trigamma(statistics.variance(scaled) - expected)
        log_prior = statistics.fmean(scaled) + digamma(half) - math.log(half)
        prior = Part(math.exp(log_prior), 2 * half)
    return [
        Part(
            (prior.dof * prior.variance + p.dof * p.variance) / (prior.dof + p.dof),
            prior.dof + p.dof,
        )
        for p in parts
    ]


def total(parts: Sequence[Part]) -> Part:
    """The sum of independent parts, its degrees of freedom after Welch and Satterthwaite."""
    whole = sum(part.variance for part in parts)
    shares = sum(part.variance**2 / part.dof for part in parts)
    return Part(whole, min(whole**2 / shares, _MANY_DOF) if shares > 0 else _MANY_DOF)


def _centred(values: Mapping[int, float]) -> dict[int, float]:
    mean = statistics.fmean(values.values())
    return {number: value - mean for number, value in values.items()}


def _inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value, at most half of `_MANY_DOF`, by bisection of log x."""
    low, high = math.log(1e-3), math.log(_MANY_DOF / 2)
    for _ in range(60):
        middle = (low + high) / 2
        if trigamma(math.exp(middle)) > value:
            low = middle
        else:
            high = middle
    return math.exp(high)
