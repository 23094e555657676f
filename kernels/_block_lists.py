"""Block lists: which tiles of keys a tile of queries meets, compiled from a pattern.

A pattern says in which blocks its pairs lie and which pair is attended
(`attnbench.calc.patterns`); nothing here knows a pattern by name. A tile is up to `tile`
positions `step` apart: the step is 1, but for dilated windows and for the comb of the
strided pattern, whose tokens are so gathered into tiles in which nearly every pair is
attended. A pair of tiles is dropped, *full*, or *partial* with a bit for each pair;
bits that are alike are kept once. Memory is that of the lists: linear in the length for
a pattern whose rows see a bounded number of keys.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from attnbench.calc.patterns import Block

WORD = 32  # bits of a mask's word
_AT_ONCE = 1 << 22  # pairs of tokens whose masks are made at once


class Listed(Protocol):
    """What lists are made from: blocks of pairs, and which of them are attended."""

    def allows(self, query: Any, key: Any) -> Any:
        """Whether the pair of positions is attended."""
        ...

    def blocks(self, seq_q: int, seq_kv: int, rows: int) -> Iterator[Block]:
        """Blocks of at most `rows` queries, and the keys that each attends."""
        ...


class Side(NamedTuple):
    """The lists as one kernel walks them: its programs hold a tile, and stream others.

    `items` [programs, 7], int32: start, step and count of the tile held; its first slot,
    or -1; where its entries start, where the partial ones do, and where they end.
    `entries` [entries, 3], int32: start and step of a tile streamed, and its mask or -1.
    `masks` [masks, tile held, words], int32: bit c of word w is streamed token 32·w + c.
    A position that several programs hold has a slot of each's partial result: `slots` in
    all; position `split[i]` has those of `split_slots` from `split_start[i]` on.
    Positions are indices of rows (query side) or of keys. `longest_step` is that of entries.
    """

    items: Tensor
    entries: Tensor
    masks: Tensor
    slots: int
    longest_step: int
    split: Tensor
    split_start: Tensor
    split_slots: Tensor


class BlockLists(NamedTuple):
    """A pattern's lists at one pair of lengths: `rows` for output and dQ, `keys` for dK, dV."""

    seq_q: int
    seq_kv: int
    tile_m: int
    tile_n: int
    rows: Side
    keys: Side


class _Met(NamedTuple):
    """Two tiles that meet: positions; attended keys lie in low..high-1 of the key tile."""

    queries: range
    keys: range
    low: int
    high: int
    full: bool


def make_lists(
    parts: Sequence[Listed],
    *,
    seq_q: int,
    seq_kv: int,
    tile_m: int,
    tile_n: int,
    limit: int,
    device: str | torch.device,
) -> BlockLists:
    """Lists of the pairs of `parts`, which share none, on `device`.

    A program holds tile_m queries (or tile_n keys) and walks at most `limit` entries:
    a tile with more of them is given to several programs.
    """
    full: list[tuple[range, range, int]] = []
    doubtful: list[tuple[Listed, _Met]] = []
    for part in parts:
        for met in _meetings(part, seq_q, seq_kv, tile_m, tile_n):
            if met.full:
                full.append((met.queries, met.keys, -1))
            else:
                doubtful.append((part, met))
    partial, masks, turned = _with_masks(doubtful, tile_m, tile_n, device)
    offset = seq_kv - seq_q
    met_rows = [(_moved(q, -offset), k, mask) for q, k, mask in full + partial]
    met_keys = [(k, q, mask) for q, k, mask in met_rows]
    return BlockLists(
        seq_q, seq_kv, tile_m, tile_n,
        _side(met_rows, masks, seq_q, tile_m, limit, device),
        _side(met_keys, turned, seq_kv, tile_n, limit, device),
    )  # fmt: skip


def _meetings(part: Listed, seq_q: int, seq_kv: int, tile_m: int, tile_n: int) -> Iterator[_Met]:
    for queries, blocks in _query_tiles(part.blocks(seq_q, seq_kv, tile_m), tile_m):
        reach: dict[range, tuple[int, int, int]] = {}
        for block in blocks:
            for keys in block.whole + block.partial:
                whole = keys in block.whole
                for tile in _grid(keys, seq_kv, tile_n):
                    low, high = max(tile.start, keys.start), min(tile.stop, keys.stop)
                    before = reach.get(tile, (low, high, 0))
                    covers = int(whole and low == tile.start and high == tile.stop)
                    reach[tile] = (
                        min(low, before[0]), max(high, before[1]), before[2] + covers,
                    )  # fmt: skip
        for tile, (low, high, covers) in reach.items():
            complete = len(queries) == tile_m and len(tile) == tile_n
            yield _Met(queries, tile, low, high, complete and covers == len(blocks))


def _query_tiles(blocks: Iterator[Block], tile: int) -> Iterator[tuple[range, list[Block]]]:
    """Queries a tile at a time, with the blocks that they come from.

    Blocks that follow one another share a tile, and one that is larger is cut.
    """
    held, over = range(0), list[Block]()
    for block in blocks:
        rest = block.queries
        while rest:
            if held and (rest[0] != held[-1] + held.step or rest.step != held.step):
                yield held, over
                held, over = range(0), []
            taken = rest[: tile - len(held)]
            rest = rest[len(taken) :]
            held = range(held.start, taken.stop, held.step) if held else taken
            over = [*over, block]
            if len(held) == tile:
                yield held, over
                held, over = range(0), []
    if held:
        yield held, over


def _grid(keys: range, seq_kv: int, tile: int) -> Iterator[range]:
    """The tiles that hold `keys`, cut the same way for every query."""
    step = keys.step
    first, span = keys.start % step, step * tile
    for start in range(first + (keys.start - first) // span * span, keys[-1] + 1, span):
        yield range(start, min(start + span, seq_kv), step)


def _with_masks(
    doubtful: list[tuple[Listed, _Met]], tile_m: int, tile_n: int, device: str | torch.device
) -> tuple[list[tuple[range, range, int]], Tensor, Tensor]:
    """Meetings with the number of their mask, -1 for full; masks by query, and by key."""
    found: list[tuple[range, range, int]] = []
    numbers: dict[bytes, int] = {}
    by_query, by_key = list[Tensor](), list[Tensor]()
    at_once = max(1, _AT_ONCE // (tile_m * tile_n))
    start = 0
    while start < len(doubtful):
        part = doubtful[start][0]
        stop = start
        while stop < min(start + at_once, len(doubtful)) and doubtful[stop][0] is part:
            stop += 1
        some = [met for _, met in doubtful[start:stop]]
        start = stop
        seen = _seen(part, some, tile_m, tile_n, device)
        words, turned = _packed(seen).cpu(), _packed(seen.mT).cpu()
        for i, (met, count) in enumerate(zip(some, seen.sum((1, 2)).tolist(), strict=True)):
            if count == tile_m * tile_n:
                found.append((met.queries, met.keys, -1))
            elif count:
                number = numbers.setdefault(words[i].numpy().tobytes(), len(numbers))
                if number == len(by_query):
                    by_query.append(words[i])
                    by_key.append(turned[i])
                found.append((met.queries, met.keys, number))
    if not by_query:
        by_query.append(_packed(torch.zeros(tile_m, tile_n, dtype=torch.bool)))
        by_key.append(_packed(torch.zeros(tile_n, tile_m, dtype=torch.bool)))
    return found, torch.stack(by_query), torch.stack(by_key)


def _seen(
    part: Listed, some: list[_Met], tile_m: int, tile_n: int, device: str | torch.device
) -> Tensor:
    """Which pairs are attended: [meetings, tile_m, tile_n]."""
    numbers = [
        (m.queries.start, m.queries.step, len(m.queries), m.keys.start, m.keys.step, m.low, m.high)
        for m in some
    ]
    columns = torch.tensor(numbers, dtype=torch.int64, device=device)[:, :, None].unbind(1)
    first, step, count, key_first, key_step, low, high = columns
    row = torch.arange(tile_m, device=device)
    key = key_first + key_step * torch.arange(tile_n, device=device)
    seen: Tensor = part.allows((first + step * row)[:, :, None], key[:, None, :])
    seen = seen & (row < count)[:, :, None]
    return seen & ((key >= low) & (key < high))[:, None, :]


def _packed(seen: Tensor) -> Tensor:
    """Bits [..., n] as words [..., ceil(n / 32)] of int32."""
    seen = torch.nn.functional.pad(seen, (0, -seen.shape[-1] % WORD))
    bits = seen.unflatten(-1, (-1, WORD)).long()
    words: Tensor = (bits << torch.arange(WORD, device=seen.device)).sum(-1)
    return (words - ((words >> (WORD - 1)) << WORD)).int()  # the top bit is the sign


def _side(
    met: list[tuple[range, range, int]],
    masks: Tensor,
    positions: int,
    tile: int,
    limit: int,
    device: str | torch.device,
) -> Side:
    lists: dict[range, list[tuple[int, int, int]]] = {}
    for held, streamed, mask in met:
        lists.setdefault(held, []).append((streamed.start, streamed.step, mask))
    pieces = []
    for held, entries in lists.items():
        entries.sort(key=lambda entry: (entry[2] >= 0, entry[1], entry[0]))
        pieces += [(held, entries[at : at + limit]) for at in range(0, len(entries), limit)]
    times = torch.zeros(positions, dtype=torch.int64)
    for held, _ in pieces:
        times[held.start : held.stop : held.step] += 1
    pieces += [(held, []) for held in _runs(times == 0, tile)]
    pieces.sort(key=lambda piece: -len(piece[1]))  # the longest first; sort is stable

    items: list[tuple[int, ...]] = []
    entries = []
    split: list[Tensor] = []
    slots = 0
    for held, some in pieces:
        slot = -1
        if int(times[held.start : held.stop : held.step].max()) > 1:
            slot, slots = slots, slots + len(held)
            split.append(torch.arange(held.start, held.stop, held.step))
        full = sum(mask < 0 for _, _, mask in some)
        at = len(entries)
        items.append((held.start, held.step, len(held), slot, at, at + full, at + len(some)))
        entries += some
    at_slot = torch.cat(split) if split else torch.zeros(0, dtype=torch.int64)
    order = at_slot.argsort(stable=True)
    where, counts = at_slot[order].unique_consecutive(return_counts=True)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Side(
        items=_int32(items, 7).to(device),
        entries=_int32(entries, 3).to(device),
        masks=masks.contiguous().to(device),
        slots=slots,
        longest_step=max((step for _, step, _ in entries), default=1),
        split=where.int().to(device),
        split_start=starts.int().to(device),
        split_slots=order.int().to(device),
    )


def _runs(wanted: Tensor, tile: int) -> Iterator[range]:
    """The positions wanted, as runs of at most `tile`."""
    position = wanted.nonzero().flatten().tolist()
    start = 0
    for at in range(1, len(position) + 1):
        ended = at == len(position) or position[at] != position[at - 1] + 1
        if ended or at - start == tile:
            yield range(position[start], position[at - 1] + 1)
            start = at


def _int32(rows: Sequence[tuple[int, ...]], width: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.int32).view(-1, width)


def _moved(positions: range, by: int) -> range:
    return range(positions.start + by, positions.stop + by, positions.step)
