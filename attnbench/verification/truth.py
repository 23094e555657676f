"""What float64 says of a point: made once, and shared by the checks."""

from typing import TYPE_CHECKING

import msgspec

from attnbench.measure.accuracy import Checker
from attnbench.measure.inputs import Inputs
from attnbench.measure.plan import Point

if TYPE_CHECKING:
    from torch import Tensor


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A point's inputs, the output of its mathematics in float64, and the error allowed."""

    inputs: Inputs
    checker: Checker
    own: "Tensor"
    limit: float


def know(point: Point, inputs: Inputs) -> Known:
    """What float64 says of `point` on `inputs`."""
    checker = Checker(inputs, point.shape, point.mode)
    own = checker.own(point)
    return Known(inputs=inputs, checker=checker, own=own, limit=checker.limit(point, own))
