"""Gradients of query, key and value against float64 autograd of the same mathematics."""

from collections.abc import Iterator

from attnbench.measure.accuracy import Checker
from attnbench.measure.worker import build_call
from attnbench.spec.attention import Mode
from attnbench.spec.dtype import Dtype
from attnbench.verification.case import LONG, SHORT, SQUARE, WIDE, Case, place
from attnbench.verification.finding import Reading

EVERY_DTYPE = True


def check(case: Case, dtype: Dtype) -> Iterator[Reading]:
    """The worst of the three gradients' errors at each scene."""
    for point in case.points(dtype, (SQUARE, SHORT, LONG, WIDE), mode=Mode.FWD_BWD):
        inputs = case.inputs(point)
        result = build_call(point, inputs, case.device)()
        errors = Checker(inputs, point.shape, point.mode).check(point, result)
        assert errors.grad_error is not None
        yield Reading(value=errors.grad_error, limit=errors.grad_limit, at=place(point))
