"""Gradients against float64 autograd of the same mathematics.

Of query, key and value, and of what a variant learns beside them: Linformer's projections.
(The sinks' logits are a feature: `features` has theirs.)
"""

from collections.abc import Iterator

from attnbench.spec.attention import Mode
from attnbench.spec.dtype import Dtype
from attnbench.verification.case import Case
from attnbench.verification.finding import Reading
from attnbench.verification.gradients import gradient_readings
from attnbench.verification.scene import LONG, NARROW, SHORT, SQUARE, WIDE

EVERY_DTYPE = True


def check(case: Case, dtype: Dtype) -> Iterator[Reading]:
    """Each gradient's error at each scene."""
    scenes = (SQUARE, SHORT, LONG, NARROW, WIDE)
    for point in case.points(dtype, scenes, mode=Mode.FWD_BWD, whole=dtype is Dtype.FP32):
        _, errors = gradient_readings(case, point)
        yield from errors
