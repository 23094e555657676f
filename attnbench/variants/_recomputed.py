"""A forward without a backward, given that of another function of the same mathematics."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def recomputed(
    forward: Attention, mathematics: Attention, query: Tensor, key: Tensor, value: Tensor
) -> Tensor:
    """`forward` of query, key and value; its gradients are those of `mathematics`.

    The backward runs `mathematics` forward once more: nothing but the inputs is kept.
    """
    out: Tensor = _Recomputed.apply(  # type: ignore[no-untyped-call] # torch's has no types
        forward, mathematics, query, key, value
    )
    return out


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        forward: Attention,
        mathematics: Attention,
        query: Tensor,
        key: Tensor,
        value: Tensor,
    ) -> Tensor:
        context.mathematics = mathematics
        context.save_for_backward(query, key, value)
        return forward(query, key, value)

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in context.saved_tensors]
            out = context.mathematics(*leaves)
        return None, None, *torch.autograd.grad(out, leaves, grads[0])
