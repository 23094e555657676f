"""The same call twice gives the same bits."""

from collections.abc import Iterator

import torch

from attnbench.spec.dtype import Dtype
from attnbench.verification.case import Case, place
from attnbench.verification.finding import Reading
from attnbench.verification.scene import SQUARE, WIDE

EVERY_DTYPE = False


def check(case: Case, dtype: Dtype) -> Iterator[Reading]:
    """Elements that differ between two forwards, each with a preparation of its own."""
    for point in case.points(dtype, (SQUARE, WIDE)):
        inputs = case.inputs(point)
        outs = []
        for _ in range(2):
            with torch.no_grad():
                state = case.prepare(point)
                outs.append(case.backend.forward(inputs.query, inputs.key, inputs.value, state))
        differ = int((outs[0] != outs[1]).sum())
        yield Reading(value=float(differ), limit=0.0, at=place(point))
