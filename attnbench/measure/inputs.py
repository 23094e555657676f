"""Seeded inputs, the same for every variant at a shape."""

from typing import TYPE_CHECKING

import msgspec

from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._support import torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

SEED = 20260217


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """Standard normal query, key, value, and the output's gradient where one is needed.

    Query and `grad_output` [batch, heads, seq_q, head_dim]; key and value
    [batch, kv_heads, seq_kv, head_dim].
    """

    query: "Tensor"
    key: "Tensor"
    value: "Tensor"
    grad_output: "Tensor | None"


def clone(inputs: Inputs) -> Inputs:
    """The same values in memory of their own."""
    grad = inputs.grad_output
    return Inputs(
        query=inputs.query.clone(),
        key=inputs.key.clone(),
        value=inputs.value.clone(),
        grad_output=None if grad is None else grad.clone(),
    )


def make_inputs(shape: AttentionShape, mode: Mode, device_type: str) -> Inputs:
    """Inputs of `shape`: drawn in fp32 on the CPU, so that every device gets the same."""
    import torch

    generator = torch.Generator().manual_seed(SEED)

    def draw(heads: int, tokens: int) -> "Tensor":
        drawn = torch.randn(shape.batch, heads, tokens, shape.head_dim, generator=generator)
        return drawn.to(device_type, torch_dtype(shape.dtype))

    return Inputs(
        query=draw(shape.heads, shape.seq_q),
        key=draw(shape.kv_heads, shape.seq_kv),
        value=draw(shape.kv_heads, shape.seq_kv),
        grad_output=draw(shape.heads, shape.seq_q) if mode in (Mode.BWD, Mode.FWD_BWD) else None,
    )
