"""Blocked attention: a pattern's blocks, alike ones batched, nothing seq × seq.

Blocks that follow one another with the same lengths and the same mask form a group,
and a group is one call of scaled_dot_product_attention, its blocks standing where
heads do. Keys that move with the queries are overlapping views, not copies.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from attnbench.calc.eager_memory import PIECE, ROWS_AT_ONCE
from attnbench.calc.patterns import Block, BlockedPattern
from attnbench.spec.attention import AttentionShape
from attnbench.variants._score import Score
from attnbench.variants._scored import NO_KEYS, Places, attend_block, make_bend, wide
from attnbench.variants._support import torch_dtype


class Source(NamedTuple):
    """Keys of a group, one range a block: rows start, start + step, ... (`length`).

    From block to block the start moves on by `shift`, or is `picked`, [blocks, length].
    """

    start: int
    length: int
    step: int
    shift: int
    picked: Tensor | None

    def take(self, x: Tensor, first: int, last: int) -> Tensor:
        """Rows of x [batch, seq, width] of blocks first..last-1: [batch, blocks, length, width]."""
        blocks = last - first
        if self.picked is not None:
            rows = x.index_select(1, self.picked[first:last].flatten())
            return rows.view(x.shape[0], blocks, self.length, x.shape[2])
        start = self.start + first * self.shift
        rows = x[:, start : start + (self.length - 1) * self.step + 1 : self.step]
        if blocks == 1 or self.shift == 0:
            return rows[:, None].expand(-1, blocks, -1, -1)
        stop = start + (blocks - 1) * self.shift + (self.length - 1) * self.step + 1
        rows = x[:, start : stop : self.step]
        return rows.unfold(1, self.length, self.shift // self.step).transpose(2, 3)


class Group(NamedTuple):
    """Blocks alike: `blocks` of `rows` query rows each, from row `start` on, by `step`."""

    start: int
    step: int
    rows: int
    blocks: int
    sources: tuple[Source, ...]
    mask: Tensor | None
    bias: Tensor | None
    empty: Tensor | None


class Piece(NamedTuple):
    """Blocks first..last-1 of a group, as a kernel is given them."""

    group: Group
    first: int
    last: int

    def places(self, shape: AttentionShape, device: torch.device) -> Places:
        """Positions of the piece's queries and keys."""
        group = self.group
        blocks = torch.arange(self.first, self.last, device=device)[:, None]
        row = torch.arange(group.rows, device=device)
        query = shape.offset + group.start + (blocks * group.rows + row) * group.step
        tokens = torch.arange(shape.seq_kv, device=device)[None, :, None]
        taken = [source.take(tokens, self.first, self.last) for source in group.sources]
        return Places(query, torch.cat(taken, 2)[0, :, :, 0])


# softmax(QKᵀ/√d)V of [batch · kv_heads, blocks, group · rows, head_dim] over [.., keys,
# head_dim], under the piece's mask [group · rows, keys]: True where attended, with at
# least one True a row (rows of `empty` are blanked afterwards).
Kernel = Callable[[Tensor, Tensor, Tensor, Piece], Tensor]


class Plan(NamedTuple):
    """Groups in order, and where their rows go (None: they are in order)."""

    groups: tuple[Group, ...]
    order: Tensor | None


def make_plan(shape: AttentionShape, pattern: BlockedPattern, device: str, rows: int) -> Plan:
    """The groups of `pattern` at `shape`, with the masks that they need."""
    masks = _Masks(pattern, shape, device)
    blocks = list(pattern.blocks(shape.seq_q, shape.seq_kv, rows))
    groups: list[Group] = []
    run: list[Block] = []
    run_key = None
    for block in blocks:
        key = masks.key(block)
        follows = run and block.queries[0] == run[-1].queries[-1] + block.queries.step
        if run and not (follows and key == run_key):
            groups.append(_group(run, masks, shape.offset, device))
            run = []
        run.append(block)
        run_key = key
    groups.append(_group(run, masks, shape.offset, device))
    return Plan(tuple(groups), _order(blocks, device))


def _order(blocks: list[Block], device: str) -> Tensor | None:
    """Where each query row stands among the blocks' rows; None: they are in order."""
    rows = [block.queries for block in blocks]
    if all(r.step == 1 for r in rows) and all(
        a.stop == b.start for a, b in itertools.pairwise(rows)
    ):
        return None
    return torch.cat([_positions(r, device) for r in rows]).argsort()


# A mask, the same as a bias of 0 and -inf, and its empty rows; None: all see all.
_Mask = tuple[Tensor | None, Tensor | None, Tensor | None]


class _Masks:
    """Masks by what they depend on, so that each is made once."""

    def __init__(self, pattern: BlockedPattern, shape: AttentionShape, device: str) -> None:
        self.pattern, self.copies, self.device = pattern, shape.group, device
        self.dtype = torch_dtype(shape.dtype)
        self.made: dict[object, _Mask] = {}

    def key(self, block: Block) -> tuple[object, ...]:
        origin = block.queries[0]
        anchored = any(keys[0] == 0 for keys in block.partial)
        return (
            len(block.queries),
            block.queries.step,
            tuple((len(keys), keys.step) for keys in block.whole),
            tuple((keys[0] - origin, len(keys), keys.step) for keys in block.partial),
            origin if anchored else None,
        )

    def get(self, block: Block) -> _Mask:
        """Mask [rows · copies, keys], as a bias too, and its rows that see nothing."""
        if not block.partial:
            return None, None, None
        key = self.key(block)
        if key not in self.made:
            self.made[key] = self._make(block)
        return self.made[key]

    def _make(self, block: Block) -> _Mask:
        # Distances of 32 bits: making a mask is touching memory.
        query = _positions(block.queries, self.device).int()[:, None]
        whole = sum(len(keys) for keys in block.whole)
        parts = [torch.ones(len(block.queries), whole, dtype=torch.bool, device=self.device)]
        for keys in block.partial:
            parts.append(self.pattern.allows(query, _positions(keys, self.device).int()[None, :]))
        mask = torch.cat(parts, 1).repeat(self.copies, 1)
        empty = ~mask.any(1, keepdim=True)
        mask = mask | empty
        # The fused kernel would make a bias of a mask at each call.
        bias = torch.zeros(mask.shape, dtype=self.dtype, device=self.device)
        bias.masked_fill_(~mask, -math.inf)
        return mask, bias, empty if empty.any() else None


def _positions(positions: range, device: str) -> Tensor:
    return torch.arange(positions.start, positions.stop, positions.step, device=device)


def _group(run: list[Block], masks: _Masks, offset: int, device: str) -> Group:
    first = run[0]
    moved = len(first.queries) * first.queries.step
    sources = []
    for i, keys in enumerate(first.whole + first.partial):
        ranges = [(block.whole + block.partial)[i] for block in run]
        shift = ranges[1][0] - keys[0] if len(run) > 1 else 0
        even = all(r[0] == keys[0] + n * shift for n, r in enumerate(ranges))
        index = None
        if not even or shift not in (0, moved):
            starts = torch.tensor([r[0] for r in ranges], device=device)
            index = starts[:, None] + _positions(range(0, len(keys) * keys.step, keys.step), device)
        sources.append(Source(keys[0], len(keys), keys.step, shift, index))
    return Group(
        first.queries[0] - offset, first.queries.step, len(first.queries), len(run),
        tuple(sources), *masks.get(first),
    )  # fmt: skip


def sdpa(query: Tensor, key: Tensor, value: Tensor, piece: Piece) -> Tensor:
    """Torch's own fused attention."""
    scale = 1 / math.sqrt(query.shape[3])
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=piece.group.bias, scale=scale
    )


def attend_scored(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: Plan,
    shape: AttentionShape,
    score: Score | None,
) -> tuple[Tensor, Tensor]:
    """Output [batch, heads, seq_q, head_dim] and LSE [batch, heads, seq_q], fp32 or wider.

    Of `score` all but the sinks. A row that sees nothing: 0, and `NO_KEYS`.
    """
    bend = None if score is None else make_bend(score, shape)

    def kernel(q: Tensor, k: Tensor, v: Tensor, piece: Piece) -> Tensor:
        bent = None if bend is None else (bend, piece.places(shape, q.device))
        return attend_block(q, k, v, piece.group.mask, bent)

    blank = torch.zeros(query.shape[3] + 1, dtype=wide(query), device=query.device)
    blank[-1] = NO_KEYS
    rows = attend(query, key, value, plan, kernel, blank)
    return rows[..., :-1], rows[..., -1]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: Plan,
    kernel: Kernel = sdpa,
    blank: Tensor | None = None,
) -> Tensor:
    """Attention over the plan's blocks: [batch, heads, seq_q, what `kernel` gives a row].

    Query [batch, heads, seq_q, head_dim]; key, value [batch, kv_heads, seq_kv, head_dim].
    `blank` is what a row that sees nothing gives (zero where None).
    """
    batch, heads, _, width = query.shape
    kv_heads = key.shape[1]
    q = query.reshape(batch * kv_heads, heads // kv_heads, -1, width)
    k, v = key.flatten(0, 1), value.flatten(0, 1)
    blank = query.new_zeros(width) if blank is None else blank
    parts = (part for group in plan.groups for part in _run(q, k, v, group, kernel, blank))
    out = _join(parts, sum(group.blocks * group.rows for group in plan.groups))
    if plan.order is not None:
        out = out.index_select(2, plan.order)
    return out.view(batch, heads, *out.shape[2:])


def _join(parts: Iterator[Tensor], rows: int) -> Tensor:
    """The parts one below another; each let go at once where no gradient holds it."""
    if torch.is_grad_enabled():
        return torch.cat(list(parts), 2)
    first = next(parts)
    if first.shape[2] == rows:
        return first
    out = first.new_empty(*first.shape[:2], rows, first.shape[3])
    at = 0
    for part in itertools.chain([first], parts):
        out[:, :, at : at + part.shape[2]] = part
        at += part.shape[2]
    return out


def _run(
    q: Tensor, k: Tensor, v: Tensor, group: Group, kernel: Kernel, blank: Tensor
) -> Iterator[Tensor]:
    """Outputs [batch · kv_heads, heads a KV head, rows, ...] of a group, in order."""
    heads, copies, _, width = q.shape
    keys = sum(source.length for source in group.sources)
    if not keys:
        yield blank.expand(heads, copies, group.blocks * group.rows, -1)
        return
    viewed = len(group.sources) == 1 and group.sources[0].picked is None and kernel is sdpa
    if viewed:
        at_once = max(1, ROWS_AT_ONCE // (copies * group.rows))
    else:
        at_once = max(1, PIECE // (heads * keys * max(width, copies * group.rows)))
    for first in range(0, group.blocks, at_once):
        last = min(group.blocks, first + at_once)
        start = group.start + first * group.rows * group.step
        stop = start + ((last - first) * group.rows - 1) * group.step + 1
        rows = q[:, :, start : stop : group.step].unflatten(2, (last - first, group.rows))
        rows = rows.transpose(1, 2).reshape(heads, last - first, copies * group.rows, width)
        k_parts = [source.take(k, first, last) for source in group.sources]
        v_parts = [source.take(v, first, last) for source in group.sources]
        out = kernel(
            rows,
            k_parts[0] if len(k_parts) == 1 else torch.cat(k_parts, 2),
            v_parts[0] if len(v_parts) == 1 else torch.cat(v_parts, 2),
            Piece(group, first, last),
        )
        if group.empty is not None:
            out = torch.where(group.empty, blank, out)
        out = out.unflatten(2, (copies, group.rows)).transpose(1, 2)
        yield out.flatten(2, 3)
