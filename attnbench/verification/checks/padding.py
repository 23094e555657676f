"""Keys that a sequence does not have are inert: whatever stands there changes nothing."""

import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import torch

from attnbench.calc.score_features import kv_lens
from attnbench.measure.inputs import Inputs
from attnbench.measure.plan import Point
from attnbench.spec.attention import Mode
from attnbench.spec.dtype import Dtype
from attnbench.verification.case import Case, place
from attnbench.verification.finding import NotApplicable, Reading
from attnbench.verification.scene import SHORT, SQUARE

if TYPE_CHECKING:
    from torch import Tensor

EVERY_DTYPE = False
SHARE = 0.6  # of the shortest sequence's keys
_GARBAGE = (1e4, math.inf, math.nan)  # padded keys and values by turns


def check(case: Case, dtype: Dtype) -> Iterator[Reading]:
    """The largest change of the output under garbage in padding, and padded keys' gradients.

    Both limits are 0. A NaN that reaches the output counts as an infinite change.
    """
    if "padding" not in case.variant.features:
        raise NotApplicable("its mathematics takes no padding")
    for point in case.points(dtype, (SQUARE, SHORT), features={"padding": SHARE}, whole=True):
        inputs = case.inputs(point)
        hidden = _hidden(point, inputs)
        clean = _with(inputs, hidden, 0.0)
        before = case.forward(point, clean.query, clean.key, clean.value)
        spoilt = _with(inputs, hidden, *_GARBAGE)
        with warnings.catch_warnings():  # an interpreter's numpy, of what it then throws away
            warnings.simplefilter("ignore", RuntimeWarning)
            after = case.forward(point, spoilt.query, spoilt.key, spoilt.value)
        moved = (before - after).abs().nan_to_num(math.inf).max()
        yield Reading(value=float(moved), limit=0.0, at=f"garbage in padding, {place(point)}")
        backward = msgspec.structs.replace(point, mode=Mode.FWD_BWD)
        if Mode.FWD_BWD in case.variant.modes and case.supports(backward) is None:
            yield _gradient(case, backward, hidden)


def _hidden(point: Point, inputs: Inputs) -> "Tensor":
    """True at padded keys: [batch, 1, seq_kv, 1]."""
    lens = kv_lens(point.shape.batch, point.shape.seq_kv, float(point.params["padding"]))
    keys = torch.arange(point.shape.seq_kv, device=inputs.key.device)
    return (keys >= torch.tensor(lens, device=keys.device)[:, None])[:, None, :, None]


def _with(inputs: Inputs, hidden: "Tensor", *garbage: float) -> Inputs:
    """The inputs with `garbage` in hidden keys and values, by turns from key to key."""
    turns = torch.tensor(garbage, device=hidden.device).repeat(-(-hidden.shape[2] // len(garbage)))
    spoilt = turns[: hidden.shape[2], None]
    key, value = (torch.where(hidden, spoilt.to(x.dtype), x) for x in (inputs.key, inputs.value))
    return msgspec.structs.replace(inputs, key=key, value=value)


def _gradient(case: Case, point: Point, hidden: "Tensor") -> Reading:
    """The largest gradient of a padded key or value; garbage there, too, is finite."""
    given = case.inputs(point)
    leaves = [x.detach().requires_grad_() for x in (given.query, given.key, given.value)]
    out = case.backend.forward(leaves[0], leaves[1], leaves[2], case.prepare(point))
    grads = torch.autograd.grad(out, leaves[1:], given.grad_output)
    reached = max(float(grad.masked_fill(~hidden, 0.0).abs().max()) for grad in grads)
    return Reading(value=reached, limit=0.0, at=f"gradients of padding, {place(point)}")
