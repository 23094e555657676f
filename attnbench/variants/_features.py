"""Attention through feature maps: φ(q)·φ(k) in place of exp(q·k), linear in length.

Features are given as φ = exp(log scale) · φ', so that no exponential overflows: keys
carry a scale each, whose running maximum stabilises the causal form without a look
ahead. A query's own scale cancels in the quotient and is never kept.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Maps [..., tokens, head_dim] to features φ' [..., tokens, features] in fp32 (fp64 for
# fp64), and the log scale [..., tokens] that each was divided by, or None where it is 0.
FeatureMap = Callable[[Tensor], tuple[Tensor, Tensor | None]]

_CHUNK = 64  # causal: tokens whose pairs are multiplied out
_NO_SCALE = -1e30  # log scale of a key that weighs nothing
_SEGMENT = 1024  # tokens whose features are held at once


class _Sums(NamedTuple):
    """Sums over the keys so far: Σ φ(k) [v 1], over exp(scale)."""

    values: Tensor  # [batch, kv_heads, features, head_dim + 1]
    scale: Tensor  # [batch, kv_heads]


class _Keys(NamedTuple):
    """Some keys: features [batch, kv_heads, tokens, .], log scales or None, and [V 1]."""

    features: Tensor
    scale: Tensor | None
    values: Tensor


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    feature_map: FeatureMap,
    *,
    causal: bool,
    lens: Tensor | None = None,
) -> Tensor:
    """Normalised φ(Q)(φ(K)ᵀV): [batch, heads, seq_q, head_dim], in the inputs' dtype.

    Query [batch, heads, seq_q, head_dim]; key, value [batch, kv_heads, seq_kv,
    head_dim]. Causal is aligned bottom-right; a row that sees nothing is 0. `lens`
    [batch]: keys that each sequence has; a key past them weighs nothing.
    """
    batch, heads, seq_q, width = query.shape
    kv_heads, seq_kv = key.shape[1], key.shape[2]
    offset = seq_kv - seq_q
    q = query.view(batch, kv_heads, heads // kv_heads, seq_q, width)
    # Causal: the keys before the first query come first; non-causal: all keys do.
    before = max(0, offset) if causal else seq_kv
    blind = max(0, -offset) if causal else 0
    outputs = [q.new_zeros(*q.shape[:3], blind, width)] if blind else []
    sums: _Sums | None = None

    def taken(start: int, stop: int) -> _Keys:
        return _keys(key[:, :, start:stop], value[:, :, start:stop], start, feature_map, lens)

    for start in range(0, before, _SEGMENT):
        sums = _add(sums, taken(start, min(before, start + _SEGMENT)))
    for start in range(blind, seq_q, _SEGMENT):
        rows = q[:, :, :, start : start + _SEGMENT]
        if causal:
            keys = taken(start + offset, start + offset + rows.shape[3])
            out, sums = _causal(sums, feature_map(rows)[0], keys)
        else:
            assert sums is not None
            features, _ = feature_map(rows)
            out = _divide(features @ sums.values[:, :, None])
        outputs.append(out.to(query.dtype))
    return torch.cat(outputs, 3).view(batch, heads, seq_q, width)


def _keys(
    key: Tensor, value: Tensor, start: int, feature_map: FeatureMap, lens: Tensor | None
) -> _Keys:
    """Keys from token `start` on; of those that a sequence lacks nothing is left."""
    if lens is None:
        features, scale = feature_map(key)
    else:
        token = torch.arange(start, start + key.shape[2], device=key.device)
        lacking = (token >= lens[:, None])[:, None]
        # Cleared first: what stands in padding must not reach a stabiliser either.
        features, scale = feature_map(key.masked_fill(lacking[..., None], 0.0))
        features = features.masked_fill(lacking[..., None], 0.0)
        value = value.masked_fill(lacking[..., None], 0.0)
        scale = None if scale is None else scale.masked_fill(lacking, _NO_SCALE)
    return _Keys(features, scale, _with_ones(value, features.dtype))


def _with_ones(value: Tensor, dtype: torch.dtype) -> Tensor:
    """[V 1]: the last column sums the weights."""
    return torch.cat([value.to(dtype), value.new_ones(*value.shape[:-1], 1, dtype=dtype)], -1)


def _divide(sums: Tensor) -> Tensor:
    total = sums[..., -1:]
    return sums[..., :-1] / total.masked_fill(total == 0, 1.0)


def _add(sums: _Sums | None, keys: _Keys) -> _Sums:
    features, scale, weighted = keys
    if scale is None:
        made = features.transpose(-1, -2) @ weighted
        top = made.new_zeros(made.shape[:2])
        return _Sums(made if sums is None else sums.values + made, top)
    top = scale.amax(-1).detach()
    if sums is not None:
        top = torch.maximum(top, sums.scale)
    made = features.transpose(-1, -2) @ (weighted * (scale - top[..., None]).exp()[..., None])
    if sums is not None:
        made = made + sums.values * (sums.scale - top).exp()[..., None, None]
    return _Sums(made, top)


def _causal(sums: _Sums | None, fq: Tensor, keys: _Keys) -> tuple[Tensor, _Sums]:
    """Outputs of a square segment [batch, kv_heads, group, tokens, head_dim], and new sums.

    `fq` are the queries' features, [batch, kv_heads, group, tokens, features].

    Chunks of tokens are done at once: inside a chunk pair by pair, between chunks by
    running sums. Token i's numbers are relative to the largest scale of keys up to i.
    """
    batch, kv_heads, group, tokens, _ = fq.shape
    pad = -tokens % min(_CHUNK, tokens)
    size = min(_CHUNK, tokens)
    fk, scale, v = keys
    if pad:
        fq, fk, v = (torch.nn.functional.pad(x, (0, 0, 0, pad)) for x in (fq, fk, v))
        scale = None if scale is None else torch.nn.functional.pad(scale, (0, pad), value=_NO_SCALE)
    fq = fq.unflatten(3, (-1, size)).transpose(2, 3).flatten(3, 4)  # [b, h, chunks, g·size, m]
    fk, v = fk.unflatten(2, (-1, size)), v.unflatten(2, (-1, size))  # [b, h, chunks, size, .]
    ones = torch.ones(size, size, dtype=torch.bool, device=fk.device)
    if scale is None:
        pairs = ones.tril().to(fk.dtype)  # [size, size]
        running = (fk.transpose(-1, -2) @ v).cumsum(2)
        start = running.new_zeros(batch, kv_heads, *running.shape[3:]) if sums is None else sums[0]
        carried = torch.cat([start[:, :, None], running[:, :, :-1] + start[:, :, None]], 2)
        last = _Sums(running[:, :, -1] + start, running.new_zeros(batch, kv_heads))
        within = (fq @ fk.transpose(-1, -2)).unflatten(3, (group, size)) * pairs
        out = within.flatten(3, 4) @ v + fq @ carried
    else:
        scale = scale.unflatten(2, (-1, size))
        out, last = _stabilised(sums, fq, fk, v, scale, ones)
    out = _divide(out.unflatten(3, (group, size))).transpose(2, 3).flatten(3, 4)
    return out[:, :, :, :tokens], last


def _stabilised(
    sums: _Sums | None, fq: Tensor, fk: Tensor, v: Tensor, scale: Tensor, ones: Tensor
) -> tuple[Tensor, _Sums]:
    """The causal products where keys carry log scales [batch, kv_heads, chunks, size]."""
    batch, kv_heads, chunks, size = scale.shape
    floor = scale.new_full((batch, kv_heads), _NO_SCALE) if sums is None else sums.scale
    top = torch.cat([floor[..., None], scale.detach().flatten(2)], 2).cummax(2).values
    running = top[..., 1:].unflatten(2, (chunks, size))  # largest scale up to each token
    entry = torch.cat([floor[..., None], running[:, :, :-1, -1]], 2)  # ... before each chunk
    leave = running[..., -1]
    weights = (scale[..., None, :] - running[..., None]).masked_fill(~ones.tril(), -torch.inf)
    group = fq.shape[3] // size
    within = (fq @ fk.transpose(-1, -2)).unflatten(3, (group, size)) * weights.exp()[:, :, :, None]
    made = fk.transpose(-1, -2) @ (v * (scale - leave[..., None]).exp()[..., None])
    state = made.new_zeros(batch, kv_heads, *made.shape[3:]) if sums is None else sums.values
    decay = (entry - leave).exp()[..., None, None]
    carried = []
    for chunk in range(chunks):
        carried.append(state)
        state = state * decay[:, :, chunk] + made[:, :, chunk]
    faded = (entry[..., None] - running).exp()[:, :, :, None, :, None]
    between = (fq @ torch.stack(carried, 2)).unflatten(3, (group, size)) * faded
    return within.flatten(3, 4) @ v + between.flatten(3, 4), _Sums(state, leave[..., -1])
