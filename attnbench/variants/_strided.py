"""Strided attention in two parts that share no pair, merged by their log-sum-exps.

The window is blocked as `_blocks` does it. For the stride, tokens are laid out by
residue modulo k, where each residue is a short dense attention of its own: n · n / k
pairs in all, and nothing seq × seq.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from attnbench.calc.pattern_strided import Strided
from attnbench.calc.patterns import SlidingWindow
from attnbench.spec.attention import AttentionShape
from attnbench.variants._blocks import Plan, attend, make_plan

_NONE = -1e30  # log-sum-exp of a row that sees nothing
_SCORES = 1 << 21  # scores held at once


class StridedState(NamedTuple):
    """The window's plan, and the stride's layout.

    Keys are padded by `front` so that query row 0 falls on residue 0; `mask`
    [residues, steps of queries, steps of keys] is True where the stride attends.
    """

    window: Plan
    stride: int
    front: int
    mask: Tensor


def prepare(shape: AttentionShape, pattern: Strided, device: str, rows: int) -> StridedState:
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
    return StridedState(make_plan(shape, window, device, rows), k, front, mask)


def forward(query: Tensor, key: Tensor, value: Tensor, state: StridedState) -> Tensor:
    """Softmax over both parts: [batch, heads, seq_q, head_dim]."""
    blank = torch.zeros(query.shape[3] + 1, dtype=_wide(query), device=query.device)
    blank[-1] = _NONE
    near = attend(query, key, value, state.window, _kernel, blank)
    far = _by_residue(query, key, value, state)
    top = torch.maximum(near[..., -1:], far[..., -1:]).detach()
    near_weight, far_weight = (near[..., -1:] - top).exp(), (far[..., -1:] - top).exp()
    out = near[..., :-1] * near_weight + far[..., :-1] * far_weight
    return (out / (near_weight + far_weight)).to(query.dtype)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _kernel(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Rows of [output, log-sum-exp], in fp32 or wider; a row that sees nothing: 0, `_NONE`."""
    scores = ((query * (1 / math.sqrt(query.shape[-1]))) @ key.transpose(-1, -2)).to(_wide(query))
    if mask is not None:
        scores.masked_fill_(~mask, -math.inf)
    top = scores.detach().amax(-1, keepdim=True).clamp_min(_NONE)
    weights = scores.sub_(top).exp_()  # in place: no product's gradient needs its output
    total = weights.sum(-1, keepdim=True)
    empty = total == 0
    total = total.masked_fill(empty, 1.0)
    out = (weights.to(value.dtype) @ value).to(total.dtype) / total
    return torch.cat([out, (top + total.log()).masked_fill(empty, _NONE)], -1)


def _by_residue(query: Tensor, key: Tensor, value: Tensor, state: StridedState) -> Tensor:
    """The stride's part: [batch, heads, seq_q, head_dim + 1], as `_kernel` gives rows."""
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
            part = _kernel(rows, keys[:, 0, at], values[:, 0, at], mask)
            parts.append(part.unflatten(2, (group, -1)))
        columns.append(torch.cat(parts, 3))
    out = torch.cat(columns, 1)  # [batch · kv_heads, residues, group, steps, width + 1]
    out = out.permute(0, 2, 3, 1, 4).reshape(batch, heads, steps * residues, width + 1)
    return out[:, :, :seq_q]
