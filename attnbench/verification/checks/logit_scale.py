"""Why 1/√head_dim: without it softmax saturates as heads get wider, and stops learning.

Logits q·k of unit-variance vectors have variance head_dim; the scale makes that 1
(Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1). A backend's own weights are read
off its output with V = slices of the identity, and their entropy compared with float64.
"""

import math
from collections.abc import Iterator

import msgspec
import torch
from torch import Tensor

from attnbench.measure.inputs import Inputs
from attnbench.measure.plan import Point
from attnbench.spec.dtype import Dtype
from attnbench.verification.case import Case, place
from attnbench.verification.finding import NotApplicable, Reading
from attnbench.verification.scene import Scene
from attnbench.verification.truth import know

EVERY_DTYPE = False
HEAD_DIMS = (16, 32, 64, 128, 256)
_SCENE = Scene(seq_q=64, seq_kv=64, batch=1, heads=2, kv_heads=1)


def check(case: Case, dtype: Dtype) -> Iterator[Reading]:
    """The error of the weights' mean entropy, in nats, at each head_dim.

    Scaled: the backend on N(0, 1) inputs; unscaled: on queries times √head_dim, which
    undoes the scale. By Cauchy and Schwarz weights off by L·‖P‖ have a mean entropy off
    by at most L·‖P‖·‖1 + log P‖ / rows, L being the output's limit.
    """
    if not case.variant.exact:
        raise NotApplicable("shown on exact attention alone")
    read = 0
    for head_dim in HEAD_DIMS:
        try:
            point = case.points(dtype, (_SCENE,), head_dim=head_dim)[0]
        except NotApplicable:
            continue
        read += 1
        inputs = case.inputs(point)
        bare = msgspec.structs.replace(inputs, query=inputs.query * math.sqrt(head_dim))
        scaled, unscaled = (_weights(case, point, given) for given in (inputs, bare))
        figures = {
            "head_dim": float(head_dim),
            "entropy_scaled": entropy(scaled[0]),
            "entropy_unscaled": entropy(unscaled[0]),
            "gradient_norm_scaled": softmax_gradient_norm(scaled[0]),
            "gradient_norm_unscaled": softmax_gradient_norm(unscaled[0]),
        }
        for name, (found, exact, limit) in (("scaled", scaled), ("unscaled", unscaled)):
            rows = exact.shape[:-1].numel()
            slack = float(exact.norm() * _slope(exact).norm()) / rows
            yield Reading(
                value=abs(entropy(found) - entropy(exact)),
                limit=limit * slack,
                at=f"{name}, {place(point)}",
                figures=figures if name == "scaled" else {},
            )
    if not read:
        raise NotApplicable(f"it runs at none of head_dim {', '.join(map(str, HEAD_DIMS))}")


def entropy(weights: Tensor) -> float:
    """Mean over rows of −Σ p log p, in nats."""
    wide = weights.double()
    return float(torch.special.entr(wide.clamp_min(0)).sum(-1).mean())


def _slope(weights: Tensor) -> Tensor:
    """How fast −p log p changes: 1 + log p, and 0 of a hidden pair's."""
    return torch.where(weights > 0, 1 + weights.log(), 0.0)


def softmax_gradient_norm(weights: Tensor) -> float:
    """Mean over rows of the Frobenius norm of softmax's Jacobian, diag(p) − p pᵀ."""
    p = weights.double()
    two, three = p.square().sum(-1), p.pow(3).sum(-1)
    return float((two - 2 * three + two.square()).clamp_min(0).sqrt().mean())


def _weights(case: Case, point: Point, inputs: Inputs) -> tuple[Tensor, Tensor, float]:
    """Weights [1, heads, rows, keys] of the backend and of float64, and their limit."""
    keys, width = point.shape.seq_kv, point.shape.head_dim
    identity = torch.eye(keys, device=inputs.value.device, dtype=inputs.value.dtype)
    if keys % width:
        identity = torch.nn.functional.pad(identity, (0, width - keys % width))
    found, exact, limit = [], [], 0.0
    for columns in identity.split(width, 1):
        given = msgspec.structs.replace(inputs, value=columns.expand_as(inputs.value).contiguous())
        out = case.forward(point, given.query, given.key, given.value)
        known = know(point, given)
        limit = max(limit, known.limit)
        found.append(out)
        exact.append(known.own)
    return torch.cat(found, -1)[..., :keys], torch.cat(exact, -1)[..., :keys], limit
