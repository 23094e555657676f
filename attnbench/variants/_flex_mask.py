"""A pattern compiled for FlexAttention: its predicate a `mask_mod`, its tiles a `BlockMask`.

Dong et al. 2024, arXiv:2412.05496. Packed documents are part of the mask, so that one
compiled call runs them all; tiles that lie in two documents are cut by it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from attnbench.calc.featured_cost import document_shapes
from attnbench.calc.patterns import ChoosingPattern, Pattern
from attnbench.spec.attention import AttentionShape
from attnbench.variants._score import places

TILE = 128


class Packed(NamedTuple):
    """Where tokens of packed documents stand: int32 [seq_q] and [seq_kv].

    `*_at`: the position in its own document (queries bottom-right); `*_of`: the document.
    """

    query_at: Tensor
    key_at: Tensor
    query_of: Tensor
    key_of: Tensor


class Layout(NamedTuple):
    """Which pairs a point attends: a pattern, documents (None: one), padding.

    `choices` of a pattern that chooses, int32 [seq_q] each, else none; `lens` [batch]:
    keys that each sequence has; None: all.
    """

    pattern: Pattern
    choices: tuple[Tensor, ...]
    packed: Packed | None
    lens: Tensor | None
    offset: int


def make_layout(
    shape: AttentionShape,
    pattern_of: Callable[[AttentionShape], Pattern],
    *,
    count: int,
    lens: Tensor | None,
    device: str,
) -> Layout:
    """The layout of `shape` with `count` documents (0: not packed) of `pattern_of` their shape."""
    alone = document_shapes(shape, count) if count else (shape,)
    patterns = [pattern_of(document) for document in alone]
    query_at, key_at = places(alone)

    def table(x: Tensor) -> Tensor:
        return x.to(device, torch.int32)

    def spread(lengths: list[int]) -> Tensor:
        return table(torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)))

    queries = [document.seq_q for document in alone]
    choices = [
        p.choices(at)
        for p, at in zip(patterns, query_at.split(queries), strict=True)
        if isinstance(p, ChoosingPattern)
    ]
    if not choices and any(pattern != patterns[0] for pattern in patterns):
        raise ValueError(f"{patterns[0]}: of documents of other lengths it is another pattern")
    packed = Packed(
        query_at=table(query_at),
        key_at=table(key_at),
        query_of=spread(queries),
        key_of=spread([document.seq_kv for document in alone]),
    )
    return Layout(
        pattern=patterns[0],
        choices=tuple(table(torch.cat(parts)) for parts in zip(*choices, strict=True)),
        packed=packed if count else None,
        lens=lens,
        offset=shape.offset,
    )


def positions(layout: Layout, row: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Where query `row` and key `key` stand in their documents."""
    if layout.packed is None:
        return row + layout.offset, key
    return layout.packed.query_at[row], layout.packed.key_at[key]


def mask_mod_of(layout: Layout) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Whether a pair is attended, of indices that broadcast: FlexAttention's `mask_mod`."""
    pattern, choices, packed, lens = layout.pattern, layout.choices, layout.packed, layout.lens
    chooser = pattern if isinstance(pattern, ChoosingPattern) else None

    def mask_mod(batch: Tensor, head: Tensor, row: Tensor, key: Tensor) -> Tensor:
        at, to = positions(layout, row, key)
        # int64: a pattern's arithmetic may pass 2³¹, and indices are int32 in a kernel.
        at, to = at.to(torch.int64), to.to(torch.int64)
        seen: Tensor
        if chooser is None:
            seen = pattern.allows(at, to)
        else:
            seen = chooser.allows_chosen(at, to, tuple(chosen[row] for chosen in choices))
        if packed is not None:
            seen = seen & (packed.query_of[row] == packed.key_of[key])
        return seen if lens is None else seen & (key < lens[batch])

    return mask_mod


def block_mask(shape: AttentionShape, layout: Layout, device: str) -> BlockMask:
    """Tiles of 128 × 128 that are attended whole or in part, a row of tiles at a time.

    Nothing seq × seq is made. Where sequences have lens, tiles of padding are left
    out, a sequence each.
    """
    mask_mod = mask_mod_of(layout)
    sequences = 1 if layout.lens is None else shape.batch
    batch = torch.arange(sequences, device=device)[:, None, None]
    columns = -(-shape.seq_kv // TILE)
    keys = torch.arange(columns * TILE, device=device)
    some, every = [], []
    for start in range(0, shape.seq_q, TILE):
        rows = torch.arange(start, min(start + TILE, shape.seq_q), device=device)[:, None]
        seen = mask_mod(batch, batch, rows, keys.clamp(max=shape.seq_kv - 1))
        tiles = (seen & (keys < shape.seq_kv)).expand(sequences, -1, -1)
        tiles = tiles.unflatten(2, (columns, TILE))
        some.append(tiles.any(3).any(1))
        # A tile past the last key or row is not whole: its mask is looked at.
        every.append(tiles.all(3).all(1) & (len(rows) == TILE))
    partly, wholly = torch.stack(some, 1)[:, None], torch.stack(every, 1)[:, None]
    return BlockMask.from_kv_blocks(
        *_listed(partly & ~wholly),
        *_listed(wholly),
        BLOCK_SIZE=TILE,
        mask_mod=mask_mod,
        seq_lengths=(shape.seq_q, shape.seq_kv),
    )


def _listed(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """How many tiles of each row are True, and the columns, those first: int32."""
    order = tiles.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return tiles.sum(-1, dtype=torch.int32), order.to(torch.int32)
