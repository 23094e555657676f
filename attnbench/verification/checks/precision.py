"""The precision ladder: what each number format costs, inputs' rounding included."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import torch

from attnbench.measure.accuracy import relative_error
from attnbench.measure.plan import Point
from attnbench.spec.dtype import Dtype
from attnbench.variants._support import DTYPES
from attnbench.verification.case import Case, place
from attnbench.verification.finding import NotApplicable, Reading
from attnbench.verification.scene import WIDE
from attnbench.verification.truth import Known, know

if TYPE_CHECKING:
    from torch import Tensor

EVERY_DTYPE = True
_FP8 = {Dtype.FP8_E4M3: torch.float8_e4m3fn, Dtype.FP8_E5M2: torch.float8_e5m2}
_CARRIERS = (Dtype.BF16, Dtype.FP16, Dtype.FP32)


def check(case: Case, dtype: Dtype) -> Iterator[Reading]:
    """‖out − ref‖ / ‖ref‖, ref being float64 on inputs that nothing has rounded.

    fp8: the inputs are rounded to fp8, which N(0, 1) needs no scale for, and attended in
    the first of bf16, fp16 and fp32 that runs. The limit is what rounding the inputs does
    to the float64 output, and the output's own limit on top (triangle inequality).
    """
    for point in case.points(_carrier(case, dtype), (WIDE,)):
        shape = msgspec.structs.replace(point.shape, dtype=Dtype.FP32)
        truth = case.known(msgspec.structs.replace(point, shape=shape)).own
        known = _rounded(case, point, dtype)
        given = known.inputs
        out = case.forward(point, given.query, given.key, given.value)
        growth = float(known.own.norm() / truth.norm())
        yield Reading(
            value=relative_error(out, truth),
            limit=relative_error(known.own, truth) + known.limit * growth,
            at=place(point),
        )


def _carrier(case: Case, dtype: Dtype) -> Dtype:
    if dtype in DTYPES:
        return dtype
    for wide in _CARRIERS:
        if case.refusal(wide, case.forward_mode) is None:
            return wide
    raise NotApplicable(f"it runs in none of {', '.join(_CARRIERS)}")


def _rounded(case: Case, point: Point, dtype: Dtype) -> Known:
    """What float64 says of the point on inputs rounded to `dtype`."""
    if dtype in DTYPES:
        return case.known(point)

    def cast(x: "Tensor") -> "Tensor":
        return x.to(_FP8[dtype]).to(x.dtype)

    inputs = case.inputs(point)
    inputs = msgspec.structs.replace(
        inputs, query=cast(inputs.query), key=cast(inputs.key), value=cast(inputs.value)
    )
    return know(point, inputs)
