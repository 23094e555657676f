"""A block's attention with its log-sum-exps, so that parts of a row can be merged.

Everything that score features do to blocked attention is here: soft-cap, ALiBi from the
positions of a block's queries and keys, keys that a padded sequence lacks.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from attnbench.spec.attention import AttentionShape
from attnbench.variants._score import Score, bend

NO_KEYS = -1e30  # log-sum-exp of a row that sees nothing


class Bend(NamedTuple):
    """Score features by KV head: `slopes` [batch · kv_heads, group], `lens` [batch · kv_heads]."""

    soft_cap: float | None
    slopes: Tensor | None
    lens: Tensor | None


class Places(NamedTuple):
    """Positions of a block's queries [blocks, rows] and keys [blocks, keys]."""

    query: Tensor
    key: Tensor


def make_bend(score: Score, shape: AttentionShape) -> Bend:
    """`score` laid out for blocks, whose first axis is batch · kv_heads."""
    slopes = score.slopes
    if slopes is not None:
        slopes = slopes.view(shape.kv_heads, shape.group).repeat(shape.batch, 1)
    lens = score.lens
    if lens is not None:
        lens = lens.repeat_interleave(shape.kv_heads)
    return Bend(score.soft_cap, slopes, lens)


def wide(x: Tensor) -> torch.dtype:
    """The dtype of sums over x: fp32, or fp64 for fp64."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def attend_block(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bent: tuple[Bend, Places] | None = None,
) -> Tensor:
    """Rows of [output, log-sum-exp], in fp32 or wider; a row that sees nothing: 0, `NO_KEYS`.

    Query [batch · kv_heads, blocks, group · rows, head_dim] over key and value [..,
    blocks, keys, head_dim]; `mask` broadcasts to [.., group · rows, keys] and is True
    where attended.
    """
    fast = bent is None and not torch.is_grad_enabled() and query.device.type == "cpu"
    if fast and value.shape[-2]:
        return _fused(query, key, value, mask)
    scores = ((query * (1 / math.sqrt(query.shape[-1]))) @ key.transpose(-1, -2)).to(wide(query))
    if bent is not None:
        scores = _bend(scores, *bent)
    if mask is not None:
        scores = scores.masked_fill_(~mask, -math.inf)
    top = scores.detach().amax(-1, keepdim=True).clamp_min(NO_KEYS)
    weights = scores.sub_(top).exp_()  # in place: no gradient needs what was there
    total = weights.sum(-1, keepdim=True)
    empty = total == 0
    total = total.masked_fill(empty, 1.0)
    out = (weights.to(value.dtype) @ value).to(total.dtype) / total
    return torch.cat([out, (top + total.log()).masked_fill(empty, NO_KEYS)], -1)


def _bend(scores: Tensor, bend_by: Bend, places: Places) -> Tensor:
    """Scores [batch · kv_heads, blocks, group · rows, keys] under soft-cap, ALiBi and lens."""
    slopes, distance = bend_by.slopes, None
    if slopes is not None:
        rows = places.query.shape[1]
        copies = scores.shape[2] // rows
        distance = (places.key[:, None, :] - places.query[:, :, None]).repeat(1, copies, 1)
        slopes = slopes.repeat_interleave(rows, 1)[:, None, :, None]
    scores = bend(scores, bend_by.soft_cap, slopes, distance)
    if bend_by.lens is not None:
        lacking = places.key >= bend_by.lens[:, None, None]
        scores = scores.masked_fill(lacking[:, :, None, :], -math.inf)
    return scores


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """The same by torch's tiled CPU kernel, which answers log-sum-exps but no gradient of them."""
    empty = None
    if mask is not None:
        empty = ~mask.any(-1, keepdim=True)
        hidden = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~(mask | empty), -math.inf)
        mask = hidden.expand(*query.shape[:-1], key.shape[-2])
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, attn_mask=mask, scale=1 / math.sqrt(query.shape[-1])
    )
    rows = torch.cat([out.to(wide(query)), lse.to(wide(query))[..., None]], -1)
    if empty is None:
        return rows
    blank = rows.new_zeros(rows.shape[-1])
    blank[-1] = NO_KEYS
    return torch.where(empty, blank, rows)
