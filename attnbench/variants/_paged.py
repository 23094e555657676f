"""Paged decoding: K and V are read page by page through a block table.

The key and value tensors are the page pool: sequence b's memory is cut into pages of
`page_size` tokens, and the block table gives them in a shuffled order, as a cache
that has been in use for a while would. A single query sees every token, so the order
of the pages changes nothing but where they are read from.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from attnbench.calc.score_features import PLAIN, ScoreFeatures
from attnbench.spec.attention import AttentionShape
from attnbench.variants._score import Score, bend, make_score
from attnbench.variants._scored import NO_KEYS


class PagedState(NamedTuple):
    """The block table [batch, pages], page numbers in the order they are read.

    The last page of the memory may be short; the table then ends with it.
    """

    table: Tensor
    page_size: int
    splits: int
    score: Score | None = None


def prepare(
    shape: AttentionShape,
    *,
    page_size: int,
    splits: int,
    seed: int,
    device: str,
    features: ScoreFeatures = PLAIN,
) -> PagedState:
    """A block table for each sequence, shuffled by `seed`."""
    generator = torch.Generator().manual_seed(seed)
    whole = shape.seq_kv // page_size
    rows = [torch.randperm(whole, generator=generator) for _ in range(shape.batch)]
    table = torch.stack(rows)
    if shape.seq_kv % page_size:
        table = torch.cat([table, torch.full((shape.batch, 1), whole)], 1)
    score = make_score(features, shape, device)
    return PagedState(table.to(device), page_size, min(splits, table.shape[1]), score)


def forward(query: Tensor, key: Tensor, value: Tensor, state: PagedState) -> Tensor:
    """Output [batch, heads, 1, head_dim], partial results joined by their log-sum-exps.

    Query [batch, heads, 1, head_dim]; key, value [batch, kv_heads, seq_kv, head_dim].
    """
    batch, heads, _, width = query.shape
    kv_heads, seq_kv = key.shape[1], key.shape[2]
    q = query.view(batch, kv_heads, heads // kv_heads, width) * (1 / math.sqrt(width))
    inside = torch.arange(state.page_size, device=key.device)
    outs, sums = [], []
    for pages in state.table.tensor_split(state.splits, 1):
        slots = (pages[:, :, None] * state.page_size + inside).flatten(1)
        at = slots.clamp(max=seq_kv - 1)[:, None, :, None].expand(-1, kv_heads, -1, width)
        keys, values = key.gather(2, at), value.gather(2, at)
        hidden = slots >= seq_kv
        if state.score is not None and state.score.lens is not None:
            hidden = hidden | (slots >= state.score.lens[:, None])
            keys, values = (x.masked_fill(hidden[:, None, :, None], 0.0) for x in (keys, values))
        scores = (q @ keys.transpose(-1, -2)).to(_wide(query))
        if state.score is not None:
            slopes = state.score.slopes
            distance = (slots - (seq_kv - 1))[:, None, None, :]
            slopes = None if slopes is None else slopes.view(kv_heads, -1, 1)
            scores = bend(scores, state.score.soft_cap, slopes, distance)
        # Finite: a split may lie in the padding whole, and then weighs nothing.
        scores = scores.masked_fill(hidden[:, None, None, :], NO_KEYS)
        sums.append(scores.logsumexp(-1, keepdim=True))
        weights = torch.softmax(scores, -1).to(value.dtype)
        outs.append((weights @ values).to(scores.dtype))
    if state.score is not None and state.score.sinks is not None:
        sums.append(state.score.sinks.to(sums[0]).view(kv_heads, -1, 1).expand_as(sums[0]))
    share = torch.softmax(torch.cat(sums, -1), -1)[..., : len(outs)]
    out = (torch.stack(outs, -1) * share[..., None, :]).sum(-1)
    return out.to(query.dtype).view(batch, heads, 1, width)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
