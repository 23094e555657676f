"""Plain attention: softmax(QKᵀ/√d)V with all seq_q × seq_kv scores in memory."""

import math
from typing import TYPE_CHECKING, NamedTuple

from attnbench.calc.attention_cost import naive_workspace
from attnbench.calc.score_features import PAIRWISE, score_features
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._protocol import Backend, Learned, Params, Variant
from attnbench.variants._support import (
    full,
    learned_sinks,
    pattern_cost_of,
    sinks_among,
    supports_dtype,
    torch_dtype,
    unchanged,
)
from attnbench.variants._transforms import featured

if TYPE_CHECKING:
    from torch import Tensor


class NaiveState(NamedTuple):
    """What plain attention needs beside its inputs; None: nothing.

    `blind`: leading rows that see nothing. `hidden` [.., group · rows, seq_kv], True where
    a row that sees something does not look; `padded` [batch, 1, seq_kv, 1], True at keys
    that a sequence does not have. `bias` [kv_heads, group · rows, seq_kv]: ALiBi's.
    `sinks` [heads]: the sinks' logits.
    """

    blind: int
    hidden: "Tensor | None"
    soft_cap: float | None
    bias: "Tensor | None"
    sinks: "Tensor | None"
    padded: "Tensor | None" = None


def _prepare(shape: AttentionShape, params: Params, device: str) -> NaiveState:
    import torch

    from attnbench.variants._score import make_score

    blind = max(0, -shape.offset) if shape.causal else 0
    rows = torch.arange(shape.offset + blind, shape.seq_kv, device=device)
    rows = rows.repeat(shape.group)[:, None]
    keys = torch.arange(shape.seq_kv, device=device)[None, :]
    hidden = keys > rows if shape.causal else None
    score = make_score(score_features(params), shape, device)
    if score is None:
        return NaiveState(blind, hidden, None, None, None)
    dtype = torch_dtype(shape.dtype)

    absent = None if score.lens is None else keys >= score.lens[:, None, None, None]
    if absent is not None:
        hidden = absent if hidden is None else hidden | absent
    bias = None
    if score.slopes is not None:
        slopes = _by_row(score.slopes, shape.kv_heads, len(rows) // shape.group)
        bias = -slopes * (keys - rows).abs()
    return NaiveState(
        blind=blind,
        hidden=hidden,
        soft_cap=score.soft_cap,
        bias=None if bias is None else bias.to(dtype),
        sinks=score.sinks,
        padded=None if absent is None else absent.transpose(2, 3),
    )


def _by_row(numbers: "Tensor", kv_heads: int, rows: int) -> "Tensor":
    """A number a head for each of its rows: [heads] to [kv_heads, group · rows, 1]."""
    return numbers.view(kv_heads, -1).repeat_interleave(rows, 1)[..., None]


def _learn(state: NaiveState, learned: Learned) -> NaiveState:
    return state._replace(sinks=sinks_among(learned, state.sinks))


def _forward(query: "Tensor", key: "Tensor", value: "Tensor", state: NaiveState) -> "Tensor":
    """Rows that see nothing, the first seq_q - seq_kv when causal, are zero."""
    import torch

    batch, heads, _, width = query.shape
    kv_heads, blind = key.shape[1], state.blind
    if state.padded is not None:
        # A weight of 0 times a NaN or an infinity that stands in padding is NaN.
        key, value = (x.masked_fill(state.padded, 0.0) for x in (key, value))
    seen = query[:, :, blind:] * (1 / math.sqrt(width))
    # The heads of a KV head stand one below the other: K and V are never repeated.
    scores = seen.reshape(batch, kv_heads, -1, width) @ key.transpose(-1, -2)
    if state.soft_cap is not None:
        scores = state.soft_cap * torch.tanh(scores / state.soft_cap)
    if state.bias is not None:
        scores = scores + state.bias
    if state.hidden is not None:
        # In place on the product itself: on a view of it, autograd would copy it twice.
        scores.masked_fill_(state.hidden, -math.inf)
    if state.sinks is not None:
        sinks = _by_row(state.sinks, kv_heads, seen.shape[2]).to(scores.dtype)
        scores = torch.cat([scores, sinks.expand(batch, -1, -1, -1)], -1)
    # Softmax sums in fp32 inside, whatever the dtype; at most two such matrices live.
    weights = torch.softmax(scores, -1)
    del scores
    out = (weights[..., : key.shape[2]] @ value).view(batch, heads, -1, width)
    if blind:
        out = torch.cat([out.new_zeros(batch, heads, blind, width), out], 2)
    return out


def _workspace(shape: AttentionShape, mode: Mode, params: Params) -> int:
    # A soft-cap, a bias and a sink's column each make the scores anew.
    features = score_features(params)
    steps = len(features.on & {"alibi", "soft_cap", "sink_logit"}) + bool(features.soft_cap)
    scores = shape.dtype.bytes_of(shape.batch * shape.heads * shape.seq_q * shape.seq_kv)
    rotated = shape.dtype.bytes_of(
        4 * shape.batch * shape.heads * max(shape.seq_q, shape.seq_kv) * shape.head_dim
    )
    extra = steps * scores + (4 * rotated if features.rope_theta else 0)
    return naive_workspace(shape, mode) + extra


VARIANT = Variant(
    name="naive",
    summary="softmax(QKᵀ/√d)V, the n × n scores in memory",
    paper="Vaswani et al. 2017, arXiv:1706.03762",
    exact=True,
    defaults={},
    resolve=unchanged,
    pattern=full,
    cost=pattern_cost_of(full),
    backends=(
        featured(
            Backend(
                name="eager",
                supports=supports_dtype,
                prepare=_prepare,
                forward=_forward,
                workspace_bytes=_workspace,
                learn=_learn,
            ),
            "alibi",
            "soft_cap",
            "sink_logit",
            "padding",
        ),
    ),
    features=PAIRWISE,
    learned=learned_sinks,
)
