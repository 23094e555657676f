"""Strided attention in two parts that share no pair, merged by their log-sum-exps.

The window is blocked as `_blocks` does it. For the stride, tokens are laid out by
residue modulo k, where each residue is a short dense attention of its own: n · n / k
pairs in all, and nothing seq × seq.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from attnbench.calc.pattern_strided import Strided
from attnbench.calc.patterns import SlidingWindow
from attnbench.calc.score_features import ScoreFeatures
from attnbench.spec.attention import AttentionShape
from attnbench.variants._blocks import Plan, attend_scored, make_plan
from attnbench.variants._score import Score, add_sinks, make_score, without_padding
from attnbench.variants._scored import Places, attend_block, make_bend

_SCORES = 1 << 21  # scores held at once


class StridedState(NamedTuple):
    """The window's plan, and the stride's layout.

    Keys are padded by `front` so that query row 0 falls on residue 0; `mask`
    [residues, steps of queries, steps of keys] is True where the stride attends;
    `places` are the positions of its queries and keys by residue.
    """

    window: Plan
    stride: int
    front: int
    mask: Tensor
    places: Places
    shape: AttentionShape
    score: Score | None


def prepare(
    shape: AttentionShape, pattern: Strided, device: str, rows: int, features: ScoreFeatures
) -> StridedState:
    """Window plan and stride mask of `pattern` at `shape`."""
    window = SlidingWindow(window=pattern.window, causal=pattern.causal)
    k = pattern.stride
    front = -shape.offset % k
    residue = torch.arange(min(k, shape.seq_q), device=device)[:, None, None]
    steps = -(-shape.seq_q // k)
    query = shape.offset + residue + k * torch.arange(steps, device=device)[None, :, None]
    key_steps = -(-(front + shape.seq_kv) // k)
    key = residue - front + k * torch.arange(key_steps, device=device)[None, None, :]
    # Distances are the same for every residue; only which keys exist is not.
    mask = pattern.allows(query[:1], key[:1]) & ~window.allows(query[:1], key[:1])
    mask = mask & ((key >= 0) & (key < shape.seq_kv))
    places = Places(query[:, :, 0].expand(len(residue), -1), key[:, 0])
    plan = make_plan(shape, window, device, rows)
    score = make_score(features, shape, device)
    return StridedState(plan, k, front, mask, places, shape, score)


def forward(query: Tensor, key: Tensor, value: Tensor, state: StridedState) -> Tensor:
    """Softmax over both parts: [batch, heads, seq_q, head_dim]."""
    if state.score is not None:
        key, value = (without_padding(x, state.score.lens) for x in (key, value))
    near, near_lse = attend_scored(query, key, value, state.window, state.shape, state.score)
    far, far_lse = _by_residue(query, key, value, state)
    top = torch.maximum(near_lse, far_lse).detach()
    near_weight, far_weight = (near_lse - top).exp(), (far_lse - top).exp()
    total = near_weight + far_weight
    out = (near * near_weight[..., None] + far * far_weight[..., None]) / total[..., None]
    if state.score is not None and state.score.sinks is not None:
        out = add_sinks(out, top + total.log(), state.score.sinks)
    return out.to(query.dtype)


def _by_residue(
    query: Tensor, key: Tensor, value: Tensor, state: StridedState
) -> tuple[Tensor, Tensor]:
    """The stride's part: output and LSE, as `attend_scored` answers them."""
    batch, heads, seq_q, width = query.shape
    kv_heads = key.shape[1]
    group, k = heads // kv_heads, state.stride
    residues, steps, key_steps = state.mask.shape

    def lay_out(x: Tensor, length: int, before: int) -> Tensor:
        x = pad(x, (0, 0, before, length * k - before - x.shape[2]))
        laid: Tensor = x.unflatten(2, (length, k))[:, :, :, :residues].transpose(2, 3)
        return laid

    q = lay_out(query.flatten(0, 1)[:, None], steps, 0) if steps > 1 else None
    if q is None:
        q = query.flatten(0, 1)[:, None, :, None]
    q = q.view(batch * kv_heads, group, residues, steps, width)
    keys = lay_out(key.flatten(0, 1)[:, None], key_steps, state.front)
    values = lay_out(value.flatten(0, 1)[:, None], key_steps, state.front)
    bend = None if state.score is None else make_bend(state.score, state.shape)
    row = batch * heads * key_steps
    step_size = min(steps, max(1, _SCORES // row))
    residue_size = min(residues, max(1, _SCORES // (row * step_size)))
    columns = []
    for r in range(0, residues, residue_size):
        at = slice(r, r + residue_size)
        parts = []
        for s in range(0, steps, step_size):
            rows = q[:, :, at, s : s + step_size].transpose(1, 2).flatten(2, 3)
            mask = state.mask[at, s : s + step_size].repeat(1, group, 1)
            bent = None
            if bend is not None:
                query_at = state.places.query[at, s : s + step_size]
                bent = bend, Places(query_at, state.places.key[at])
            part = attend_block(rows, keys[:, 0, at], values[:, 0, at], mask, bent)
            parts.append(part.unflatten(2, (group, -1)))
        columns.append(torch.cat(parts, 3))
    out = torch.cat(columns, 1)  # [batch · kv_heads, residues, group, steps, width + 1]
    out = out.permute(0, 2, 3, 1, 4).reshape(batch, heads, steps * residues, width + 1)
    return out[:, :, :seq_q, :-1], out[:, :, :seq_q, -1]
