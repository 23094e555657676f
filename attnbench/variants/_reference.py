"""Float64 references: what a variant's mathematics gives, straightforwardly.

Layout [batch, heads, seq, head_dim]; query head h reads KV head h // group. Rows are
done a chunk at a time, and keys that no row of a chunk sees are left out, so that long
sequences need little memory and a sparse pattern little time.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from attnbench.calc.patterns import Full, Pattern

_CHUNK_ELEMENTS = 1 << 23  # scores held at once: 64 MiB in float64


def pattern_reference(
    query: Tensor, key: Tensor, value: Tensor, pattern: Pattern, *, rows: Tensor | None = None
) -> Tensor:
    """Softmax attention over a pattern's pairs, in float64: [batch, heads, rows, head_dim].

    `rows` are the query rows wanted (all where None). A row that sees nothing is 0.
    Differentiable.
    """
    scaled = query.double() / math.sqrt(query.shape[3])

    def weigh(q: Tensor, k: Tensor, seen: Tensor) -> Tensor:
        scores = q @ k.transpose(-1, -2)
        if not seen.all():
            scores = scores.masked_fill(~seen, -math.inf)
        empty = ~seen.any(-1, keepdim=True)
        if not empty.any():
            return torch.softmax(scores, -1)
        return torch.softmax(scores.masked_fill(empty, 0.0), -1).masked_fill(empty, 0.0)

    return _by_rows(scaled, key.double(), value, pattern, rows, weigh)


def kernel_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_features: Callable[[Tensor], Tensor],
    *,
    causal: bool,
    rows: Tensor | None = None,
) -> Tensor:
    """Attention with weights φ(q)·φ(k) over their sum, in float64: no sum is shared.

    `log_features` maps [..., head_dim] to log φ, [..., features].
    """
    lq, lk = log_features(query.double()), log_features(key.double())
    # Constants a row of q and a head of k cancel in the quotient.
    fq = (lq - lq.amax(-1, keepdim=True).detach()).exp()
    fk = (lk - lk.amax((-1, -2), keepdim=True).detach()).exp()

    def weigh(q: Tensor, k: Tensor, seen: Tensor) -> Tensor:
        scores = (q @ k.transpose(-1, -2)) * seen
        total = scores.sum(-1, keepdim=True)
        return scores / total.masked_fill(total == 0, 1.0)

    return _by_rows(fq, fk, value, Full(causal=causal), rows, weigh)


def _by_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pattern: Pattern,
    rows: Tensor | None,
    weigh: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """weigh(Q, K, seen) V, a chunk of query rows at a time, over the keys that it sees."""
    batch, heads, seq_q, width = query.shape
    kv_heads, seq_kv = key.shape[1], key.shape[2]
    keys = torch.arange(seq_kv, device=key.device)
    if rows is None:
        rows = torch.arange(seq_q, device=query.device)
    k, v = key[:, :, None], value.double()[:, :, None]
    chunk = max(1, _CHUNK_ELEMENTS // (batch * heads * seq_kv))
    outputs = []
    for row in rows.split(chunk):
        seen = pattern.allows((row + (seq_kv - seq_q))[:, None], keys[None, :])
        q = query[:, :, row].view(batch, kv_heads, heads // kv_heads, len(row), width)
        used = seen.any(0)
        if used.all():
            out = weigh(q, k, seen) @ v
        else:
            some = used.nonzero().squeeze(-1)
            out = weigh(q, k[..., some, :], seen[:, some]) @ v[..., some, :]
        outputs.append(out.reshape(batch, heads, len(row), -1))
    return torch.cat(outputs, 2)
