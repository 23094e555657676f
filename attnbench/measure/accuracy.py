"""Is the output right? Errors against float64, and the limit that they must keep.

`rel_error` compares with exact attention, `kernel_error` with the variant's own
mathematics: the first tells how good an approximation is, the second whether the
code computes what it says.
"""

from typing import TYPE_CHECKING

import msgspec

from attnbench.measure.plan import Point

if TYPE_CHECKING:
    from torch import Tensor

_SAMPLED_ROWS = 256
_CONDITIONING_FACTOR = 4.0


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of an output, and the limit of `kernel_error` (and of `grad_error`)."""

    rel_error: float
    kernel_error: float
    grad_error: float | None
    limit: float

    @property
    def passed(self) -> bool:
        """Whether output and gradients are as near as the arithmetic allows."""
        return self.kernel_error <= self.limit and (self.grad_error or 0.0) <= self.limit


def relative_error(value: "Tensor", reference: "Tensor") -> float:
    """‖value − reference‖ / ‖reference‖ in float64; the norm itself where that is 0."""
    error = (value.double() - reference).norm()
    norm = reference.norm()
    return float(error / norm if norm > 0 else error)
