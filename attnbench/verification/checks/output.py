"""The output against the variant's own mathematics in float64, within a derived limit."""

from collections.abc import Iterator

from attnbench.measure.accuracy import Checker, misformed
from attnbench.spec.dtype import Dtype
from attnbench.verification.case import Case, place
from attnbench.verification.finding import Reading

EVERY_DTYPE = True


def check(case: Case, dtype: Dtype) -> Iterator[Reading]:
    """‖out − ref‖ / ‖ref‖ at each scene; the limit is `measure.accuracy`'s."""
    for point in case.points(dtype):
        inputs = case.inputs(point)
        out = case.forward(point, inputs.query, inputs.key, inputs.value)
        wrong = misformed(out, inputs.query)
        if wrong is not None:
            raise ValueError(f"{wrong} (at {place(point)})")
        errors = Checker(inputs, point.shape, point.mode).check(point, out)
        yield Reading(value=errors.kernel_error, limit=errors.limit, at=place(point))
