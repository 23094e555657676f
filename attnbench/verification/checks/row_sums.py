"""Rows of attention weights sum to one: where every value is 1, so is the output."""

from collections.abc import Iterator

import msgspec
import torch

from attnbench.measure.accuracy import Checker, relative_error
from attnbench.spec.dtype import Dtype
from attnbench.verification.case import Case, place
from attnbench.verification.finding import NotApplicable, Reading
from attnbench.verification.scene import LONG, SHORT, SQUARE, WIDE

EVERY_DTYPE = False
_EXACT = 1e-9  # float64: sums of under 1,000 weights


def check(case: Case, dtype: Dtype) -> Iterator[Reading]:
    """‖out − 1‖ / ‖1‖ with V = 1 (rows that see nothing: 0), within the output's limit."""
    kept = 0
    for point in case.points(dtype, (SQUARE, SHORT, LONG, WIDE)):
        inputs = case.inputs(point)
        ones = msgspec.structs.replace(inputs, value=torch.ones_like(inputs.value))
        checker = Checker(ones, point.shape, point.mode)
        own = checker.own(point)
        if not bool(((own - 1).abs() < _EXACT).logical_or(own == 0).all()):
            continue
        kept += 1
        out = case.forward(point, ones.query, ones.key, ones.value)
        limit = checker.limit(point, own)
        yield Reading(value=relative_error(out, own), limit=limit, at=place(point))
    if not kept:
        raise NotApplicable("its mathematics mixes values before the weights: V = 1 gives no 1")
