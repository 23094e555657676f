"""Causal: what stands after a row changes nothing of it, bit for bit."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attnbench.measure.plan import Point
from attnbench.spec.attention import Mode
from attnbench.spec.dtype import Dtype
from attnbench.verification.case import Case, place
from attnbench.verification.finding import NotApplicable, Reading
from attnbench.verification.scene import SHORT, SQUARE, WIDE

if TYPE_CHECKING:
    from torch import Tensor

EVERY_DTYPE = False
_FEW_ROWS = 67


def check(case: Case, dtype: Dtype) -> Iterator[Reading]:
    """The largest change of rows up to i when keys and values after i are others.

    The limit is 0: a hidden pair's weight is exactly 0 in every precision. Gradients of
    rows up to i must not reach later keys either.
    """
    if case.forward_mode is Mode.DECODE:
        raise NotApplicable("a decoding query is the last token: nothing is later")
    if True not in case.variant.causal_forms:
        raise NotApplicable("it has no causal form")
    for point in case.points(dtype, (SQUARE, SHORT, WIDE), causal=True):
        inputs = case.inputs(point)
        before = case.forward(point, inputs.query, inputs.key, inputs.value)
        for row in _rows(point.shape.seq_q, every=not case.interpreted):
            later = row + point.shape.offset + 1
            key, value = inputs.key.clone(), inputs.value.clone()
            key[:, :, later:] = 7.0
            value[:, :, later:] = -1e4
            after = case.forward(point, inputs.query, key, value)
            moved = (before - after)[:, :, : row + 1].abs().max()
            yield Reading(value=float(moved), limit=0.0, at=f"{place(point)}, row {row}")
        if case.refusal(dtype, Mode.FWD_BWD) is None:
            yield _gradient(case, point, (inputs.query, inputs.key, inputs.value))


def _rows(seq_q: int, *, every: bool) -> list[int]:
    """Rows that something is later than: of few `every` one; else first, last, edges of blocks."""
    if every and seq_q <= _FEW_ROWS:
        return list(range(seq_q - 1))
    rows = (0, 15, 63, 127, seq_q // 2, seq_q - 2)
    return sorted({row for row in rows if 0 <= row < seq_q - 1})


def _gradient(case: Case, point: Point, qkv: "tuple[Tensor, Tensor, Tensor]") -> Reading:
    import torch

    row = point.shape.seq_q // 2
    leaves = [x.detach().requires_grad_() for x in qkv]
    out = case.backend.forward(leaves[0], leaves[1], leaves[2], case.prepare(point))
    grads = torch.autograd.grad(out[:, :, : row + 1].sum(), leaves[1:])
    later = row + point.shape.offset + 1
    reached = max(float(g[:, :, later:].abs().max()) for g in grads)
    return Reading(value=reached, limit=0.0, at=f"{place(point)}, gradients of row {row}")
