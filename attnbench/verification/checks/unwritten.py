"""Every element of output and gradients is written: fresh memory is poisoned with NaN."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from attnbench.measure.worker import build_call
from attnbench.spec.attention import Mode
from attnbench.spec.dtype import Dtype
from attnbench.verification.case import Case, place
from attnbench.verification.finding import Reading
from attnbench.verification.scene import LONG, SQUARE, WIDE

EVERY_DTYPE = False


def check(case: Case, dtype: Dtype) -> Iterator[Reading]:
    """Elements that are not finite while torch fills what `empty` gives with NaN."""
    backward = case.refusal(dtype, Mode.FWD_BWD) is None
    for point in case.points(dtype, (SQUARE, LONG, WIDE), mode=Mode.FWD_BWD if backward else None):
        inputs = case.inputs(point)
        with _poisoned():
            result = build_call(point, inputs, case.device)()
        parts = result if isinstance(result, tuple) else (result,)
        wild = sum(int((~part.isfinite()).sum()) for part in parts)
        yield Reading(value=float(wild), limit=0.0, at=place(point))


@contextmanager
def _poisoned() -> Iterator[None]:
    """Torch fills new memory in its deterministic mode, and only there."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
