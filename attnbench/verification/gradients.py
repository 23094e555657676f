"""A backend's gradients beside those of float64 autograd."""

from typing import TYPE_CHECKING

from attnbench.measure.accuracy import grad_limit, own_mathematics, relative_error
from attnbench.measure.plan import Point
from attnbench.spec.dtype import Dtype
from attnbench.variants._support import SINKS
from attnbench.verification.case import Case, place
from attnbench.verification.finding import Reading
from attnbench.verification.truth import Known

if TYPE_CHECKING:
    from torch import Tensor


def gradient_readings(case: Case, point: Point) -> "tuple[Tensor, list[Reading]]":
    """The output, and the error of each gradient: query's, key's, value's, and what it learns.

    A user's kernel, and a variant that learns nothing, have those of the inputs alone.
    """
    import torch

    known = case.known(point)
    inputs, state, learn = known.inputs, case.prepare(point), case.backend.learn
    initial = {} if learn is None else case.variant.learned(point.shape, point.params)
    # What is learned stays wide, as a model's own weights do.
    wide = torch.float64 if point.shape.dtype is Dtype.FP64 else torch.float32
    learned = {name: x.to(case.device, wide).requires_grad_() for name, x in initial.items()}
    if learn is not None and learned:
        state = learn(state, learned)
    q, k, v = (x.detach().requires_grad_() for x in (inputs.query, inputs.key, inputs.value))
    out = case.backend.forward(q, k, v, state)
    found = torch.autograd.grad(out, (q, k, v, *learned.values()), inputs.grad_output)
    exact = known.checker.own_gradients(point, learned)
    names = ("query", "key", "value", *learned)
    limit = grad_limit(known.limit, q)
    readings = []
    for name, ours, theirs in zip(names, found, exact, strict=True):
        slack = _cancelling(point, known, theirs) if name == SINKS else 1.0
        value = relative_error(ours, theirs)
        readings.append(Reading(value=value, limit=limit * slack, at=f"{name}, {place(point)}"))
    return out.detach(), readings


def _cancelling(point: Point, known: Known, gradient: "Tensor") -> float:
    """How much larger the terms of a sink's gradient are than their sum, -Σ p · (dO · O).

    p is a row's weight on the sink. A row of O that is off by L·|O| moves its term by up to
    L·p·|dO|·|O| (Cauchy and Schwarz); rows round independently.
    """
    inputs = known.inputs
    assert inputs.grad_output is not None
    ones = inputs.value.new_ones(inputs.value.shape)
    # Where every value is 1 the output is what the sink leaves of a row's weights.
    left = own_mathematics(point, inputs.query, inputs.key, ones).mean(-1)
    terms = (1 - left) * inputs.grad_output.double().norm(dim=-1) * known.own.norm(dim=-1)
    return max(1.0, float(terms.norm() / gradient.norm()))
