"""Float64 references: what a variant's mathematics gives, straightforwardly.

Layout [batch, heads, seq, head_dim]; query head h reads KV head h // group. Rows are
done a chunk at a time, so that long sequences need little memory.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from attnbench.calc.patterns import Pattern

_CHUNK_ELEMENTS = 1 << 23  # scores held at once: 64 MiB in float64


def pattern_reference(
    query: Tensor, key: Tensor, value: Tensor, pattern: Pattern, *, rows: Tensor | None = None
) -> Tensor:
    """Softmax attention over a pattern's pairs, in float64: [batch, heads, rows, head_dim].

    `rows` are the query rows wanted (all where None). A row that sees nothing is 0.
    Differentiable.
    """
    keys = torch.arange(key.shape[2], device=key.device)
    offset = key.shape[2] - query.shape[2]

    def weigh(scores: Tensor, row: Tensor) -> Tensor:
        seen = pattern.allows((row + offset)[:, None], keys[None, :])
        scores = scores.masked_fill(~seen, -math.inf)
        empty = ~seen.any(-1, keepdim=True)
        return torch.softmax(scores.masked_fill(empty, 0.0), -1).masked_fill(empty, 0.0)

    scale = 1 / math.sqrt(query.shape[3])
    return _by_rows(query, key, value, rows, lambda q, k: scale * (q @ k), weigh)


def kernel_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_features: Callable[[Tensor], Tensor],
    *,
    causal: bool,
    rows: Tensor | None = None,
) -> Tensor:
    """Attention with weights φ(q)·φ(k) over their sum, in float64.

    `log_features` maps [..., head_dim] to log φ, [..., features].
    """
    keys = torch.arange(key.shape[2], device=key.device)
    offset = key.shape[2] - query.shape[2]

    def multiply(q: Tensor, k: Tensor) -> Tensor:
        lq, lk = log_features(q), log_features(k.transpose(-1, -2))
        # Constants a row of q and a head of k cancel in the quotient.
        lq = lq - lq.amax(-1, keepdim=True).detach()
        lk = lk - lk.amax((-1, -2), keepdim=True).detach()
        return lq.exp() @ lk.exp().transpose(-1, -2)

    def weigh(scores: Tensor, row: Tensor) -> Tensor:
        if causal:
            scores = scores * (keys[None, :] <= (row + offset)[:, None])
        total = scores.sum(-1, keepdim=True)
        return scores / total.masked_fill(total == 0, 1.0)

    return _by_rows(query, key, value, rows, multiply, weigh)


def _by_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rows: Tensor | None,
    multiply: Callable[[Tensor, Tensor], Tensor],
    weigh: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """weigh(multiply(Q, Kᵀ)) V, a chunk of query rows at a time, in float64."""
    batch, heads, seq_q, width = query.shape
    kv_heads, seq_kv = key.shape[1], key.shape[2]
    if rows is None:
        rows = torch.arange(seq_q, device=query.device)
    k = key.double().transpose(-1, -2)[:, :, None]
    v = value.double()[:, :, None]
    chunk = max(1, _CHUNK_ELEMENTS // (batch * heads * seq_kv))
    outputs = []
    for row in rows.split(chunk):
        q = query[:, :, row].double().view(batch, kv_heads, heads // kv_heads, len(row), width)
        out = weigh(multiply(q, k), row) @ v
        outputs.append(out.reshape(batch, heads, len(row), -1))
    return torch.cat(outputs, 2)
