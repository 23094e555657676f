"""Score features, window sinks, packed documents, RoPE: each that a backend says it takes.

Output and gradients, the sinks' logits' too, against float64 under the same feature: alone
and all at once. What a backend refuses is no failure: it says so (docs/variants.md).
"""

from collections.abc import Iterator

from attnbench.measure.accuracy import relative_error
from attnbench.measure.plan import Point
from attnbench.spec.attention import Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants._protocol import Params
from attnbench.verification.case import Case, place
from attnbench.verification.finding import NotApplicable, Reading
from attnbench.verification.gradients import gradient_readings
from attnbench.verification.scene import SHORT, SQUARE

EVERY_DTYPE = False
# Window sinks are a setting, and the sliding window's alone; the others are features.
ALONE: tuple[Params, ...] = (
    {"alibi": True},
    {"soft_cap": 1.5},  # of logits of order 1: most are bent
    {"sink_logit": True},
    {"sink": 4},
    {"padding": 0.6},
    {"varlen": 3},
    {"rope_theta": 10000.0},
)
# A cap as models have it: where it bends little, a tanh must not lose what lies below its 1.
_SCORES: Params = {"alibi": True, "soft_cap": 30.0, "sink_logit": True, "rope_theta": 500.0}
TOGETHER: tuple[Params, ...] = ({**_SCORES, "padding": 0.4}, {**_SCORES, "varlen": 2})


def check(case: Case, dtype: Dtype) -> Iterator[Reading]:
    """Errors of output and gradients under each feature that the backend takes."""
    taken = []
    for wanted in ALONE:
        points = _points(case, dtype, wanted)
        taken += [name for name in wanted if points]
        for point in points:
            yield from _readings(case, point)
    for wanted in TOGETHER:
        both = {name: value for name, value in wanted.items() if name in taken}
        if len(both) > 1:
            for point in _points(case, dtype, both):
                yield from _readings(case, point)
    if not taken:
        raise NotApplicable("it takes no score feature")


def _points(case: Case, dtype: Dtype, wanted: Params) -> list[Point]:
    """Points under `wanted`; none where the variant or the backend does not take it."""
    known = {*case.variant.features}
    if case.subject.user is None:  # a user's kernel has but its own settings
        known |= case.variant.defaults.keys()
    if not wanted.keys() <= known:
        return []
    backward = case.refusal(dtype, Mode.FWD_BWD) is None
    mode = Mode.FWD_BWD if backward else None
    try:
        found = case.points(dtype, (SQUARE, SHORT), features=wanted, mode=mode)
    except NotApplicable:
        return []
    if case.interpreted:  # slow: one causal form, and two lengths of query in the other checks
        found = found[-1:]
    return found


def _readings(case: Case, point: Point) -> Iterator[Reading]:
    known = case.known(point)
    if point.mode is Mode.FWD_BWD:
        out, errors = gradient_readings(case, point)
        yield from errors
    else:
        given = known.inputs
        out = case.forward(point, given.query, given.key, given.value)
    yield Reading(value=relative_error(out, known.own), limit=known.limit, at=place(point))
