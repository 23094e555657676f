"""The output against the variant's own mathematics in float64, within a derived limit."""

from collections.abc import Iterator

from attnbench.measure.accuracy import misformed, relative_error
from attnbench.spec.dtype import Dtype
from attnbench.verification.case import Case, place
from attnbench.verification.finding import Reading

EVERY_DTYPE = True


def check(case: Case, dtype: Dtype) -> Iterator[Reading]:
    """‖out − ref‖ / ‖ref‖ at each scene; the limit is `measure.accuracy`'s."""
    for point in case.points(dtype, whole=dtype is Dtype.FP32):
        known = case.known(point)
        inputs = known.inputs
        out = case.forward(point, inputs.query, inputs.key, inputs.value)
        wrong = misformed(out, inputs.query)
        if wrong is not None:
            raise ValueError(f"{wrong} (at {place(point)})")
        yield Reading(value=relative_error(out, known.own), limit=known.limit, at=place(point))
