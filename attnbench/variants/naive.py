"""Plain attention: softmax(QKᵀ/√d)V with all seq_q × seq_kv scores in memory."""

import math
from typing import TYPE_CHECKING

from attnbench.calc.attention_cost import Cost, naive_workspace, pattern_cost
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._protocol import Backend, Params, Variant
from attnbench.variants._support import full, supports_dtype, unchanged

if TYPE_CHECKING:
    from torch import Tensor


def _prepare(shape: AttentionShape, params: Params, device: str) -> "Tensor | None":
    """Hidden pairs of the rows that see something: bool [group · rows, seq_kv]; or None."""
    import torch

    if not shape.causal:
        return None
    rows = torch.arange(max(0, shape.offset), shape.seq_kv, device=device)
    return torch.arange(shape.seq_kv, device=device)[None, :] > rows.repeat(shape.group)[:, None]


def _forward(query: "Tensor", key: "Tensor", value: "Tensor", hidden: "Tensor | None") -> "Tensor":
    """Rows that see nothing, the first seq_q - seq_kv when causal, are zero."""
    import torch

    batch, heads, seq_q, width = query.shape
    kv_heads, seq_kv = key.shape[1], key.shape[2]
    blind = max(0, seq_q - seq_kv) if hidden is not None else 0
    seen = query[:, :, blind:] * (1 / math.sqrt(width))
    # The heads of a KV head stand one below the other: K and V are never repeated.
    scores = seen.reshape(batch, kv_heads, -1, width) @ key.transpose(-1, -2)
    if hidden is not None:
        # In place on the product itself: on a view of it, autograd would copy it twice.
        scores.masked_fill_(hidden, -math.inf)
    # Softmax sums in fp32 inside, whatever the dtype; at most two such matrices live.
    weights = torch.softmax(scores, -1)
    del scores
    out = (weights @ value).view(batch, heads, -1, width)
    if blind:
        out = torch.cat([out.new_zeros(batch, heads, blind, width), out], 2)
    return out


def _cost(shape: AttentionShape, mode: Mode, params: Params) -> Cost:
    return pattern_cost(shape, mode, full(shape, params))


def _workspace(shape: AttentionShape, mode: Mode, params: Params) -> int:
    return naive_workspace(shape, mode)


VARIANT = Variant(
    name="naive",
    summary="softmax(QKᵀ/√d)V, the n × n scores in memory",
    paper="Vaswani et al. 2017, arXiv:1706.03762",
    exact=True,
    defaults={},
    resolve=unchanged,
    pattern=full,
    cost=_cost,
    backends=(
        Backend(
            name="eager",
            supports=supports_dtype,
            prepare=_prepare,
            forward=_forward,
            workspace_bytes=_workspace,
        ),
    ),
)
