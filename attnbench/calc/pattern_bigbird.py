"""BigBird's pattern: blocks of a window, of global tokens, and of a random choice."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec

from attnbench.calc.pattern_counts import sum_clamped
from attnbench.calc.patterns import Block

_MASK = 0x7FFFFFFF


def _positive(value: Any) -> Any:
    """max(value, 0), for ints and integer arrays alike."""
    return value * (value > 0)


def _scramble(value: Any) -> Any:
    """A well mixed number in 0..2³¹-1 for any integer.

    Multiply and xor-shift, as in murmur's finaliser, kept under 2³¹ so that no
    product leaves 64 bits: Python ints and int64 arrays give the same numbers.
    """
    value = value & _MASK
    for factor in (0x45D9F3B, 0x119DE1F3):
        value = ((value ^ (value >> 16)) * factor) & _MASK
    return value ^ (value >> 15)


@cache
def _salt(seed: int, draw: int) -> int:
    """What tells the rows of one draw from those of another."""
    return int(_scramble(seed * 0x9E3779B1 + draw))


class BigBird(msgspec.Struct, frozen=True, kw_only=True):
    """Blocks of `block` tokens; a query block sees window, global and random key blocks.

    Window: the `window_blocks` blocks around its own (odd; own included). Global: the
    first `global_blocks` blocks are seen by all and, as queries, see all. Random:
    `random_blocks` of the blocks that are neither; they are cut into as many equal
    runs, and `seed` and the query block's number choose one block of each run. Causal
    keeps of all this the keys up to the query's own position (so window and random
    blocks lie before the query block, and its own block is a triangle).

    Source: Zaheer et al. 2020, arXiv:2007.14062, section 2 and appendix D.
    """

    block: int
    window_blocks: int
    global_blocks: int
    random_blocks: int
    seed: int
    key_blocks: int
    causal: bool

    @property
    def unit(self) -> int:
        """All key ranges are of step 1."""
        return 1

    def allows(self, query: Any, key: Any) -> Any:
        """Whether the pair is attended."""
        return self.allows_chosen(query, key, self.choices(query))

    def choices(self, query: Any) -> tuple[Any, ...]:
        """The random key blocks of each query."""
        return self.drawn_blocks(query // self.block)

    def allows_chosen(self, query: Any, key: Any, choices: tuple[Any, ...]) -> Any:
        """Whether the pair is attended, given the query's random key blocks."""
        row, column = query // self.block, key // self.block
        radius = self.window_blocks // 2
        seen = (column - row <= radius) & (row - column <= radius)
        seen = seen | (column < self.global_blocks)
        for chosen in choices:
            seen = seen | (column == chosen)
        if self.causal:
            return seen & (key <= query)
        return seen | ((row >= 0) & (row < self.global_blocks))

    def drawn_blocks(self, row: Any) -> tuple[Any, ...]:
        """Key block of each random choice of query block `row`; -1: none."""
        left, skip, count = self._candidates(row)
        picked = []
        for draw in range(self.random_blocks):
            run = count * draw // self.random_blocks
            length = count * (draw + 1) // self.random_blocks - run
            number = _scramble(_salt(self.seed, draw) + row)
            pick = run + number % (length + (length == 0))
            chosen = self.global_blocks + pick + skip * (pick >= left)
            picked.append((chosen + 1) * (length > 0) - 1)
        return tuple(picked)

    def _candidates(self, row: Any) -> tuple[Any, Any, Any]:
        """How many candidates stand left of the window, the gap there, and their number."""
        radius = self.window_blocks // 2
        left = _positive(row - radius - self.global_blocks)
        if self.causal:
            return left, 0, left
        after = self.global_blocks + _positive(row + radius + 1 - self.global_blocks)
        return left, after - self.global_blocks - left, left + _positive(self.key_blocks - after)

    def key_block_list(self, row: int) -> tuple[int, ...]:
        """Key blocks that query block `row` sees, ascending; causal: to its own."""
        radius = self.window_blocks // 2
        last = min(row, self.key_blocks - 1) if self.causal else self.key_blocks - 1
        if not self.causal and 0 <= row < self.global_blocks:
            return tuple(range(self.key_blocks))
        seen = set(range(min(self.global_blocks, last + 1)))
        seen |= set(range(max(0, row - radius), min(row + radius, last) + 1))
        seen |= {*self.drawn_blocks(row)} - {-1}
        return tuple(sorted(seen))

    def pairs(self, seq_q: int, seq_kv: int, visible: int | None = None) -> int:
        """Attended pairs: whole key blocks, and causal triangles, a query block at a time."""
        if visible is None or visible >= seq_kv:
            return _all_pairs(self, seq_q, seq_kv)
        return sum(self._visible_pairs(q, visible) for q in self._rows(seq_q, seq_kv))

    def all_pairs(self, seq_q: int, seq_kv: int) -> int:
        """As `pairs`, with every key visible."""
        total = 0
        for queries in self._rows(seq_q, seq_kv):
            row = queries[0] // self.block
            if self.causal:
                if row >= 0:
                    inside = queries[0] - row * self.block
                    own = (2 * inside + len(queries) + 1) * len(queries) // 2
                    total += len(queries) * self._seen_of(row, row) * self.block + own
            elif 0 <= row < self.global_blocks:
                total += len(queries) * seq_kv
            else:
                seen = self._seen_of(row, self.key_blocks) * self.block
                total += len(queries) * (seen - self._lacking(row, seq_kv))
        return total

    def _visible_pairs(self, queries: range, visible: int) -> int:
        """Attended pairs of one query block's `queries` with the first `visible` keys."""
        row, total = queries[0] // self.block, 0
        for column in self.key_block_list(row):
            start = column * self.block
            inside = min(max(visible - start, 0), self.block)
            if self.causal and column == row:
                total += sum_clamped(queries[0], queries[-1], 1 - start, inside)
            else:
                total += len(queries) * inside
        return total

    def _seen_of(self, row: int, columns: int) -> int:
        """How many of the first `columns` key blocks, all if no candidates, `row` sees."""
        candidates: int = self._candidates(row)[2]
        return columns - candidates + min(self.random_blocks, candidates)

    def _lacking(self, row: int, seq_kv: int) -> int:
        """Tokens that the last key block is short of, if `row` sees it."""
        short, last = -seq_kv % self.block, self.key_blocks - 1
        if short == 0:
            return 0
        near = last - row <= self.window_blocks // 2 or last < self.global_blocks
        return short if near or last in self.drawn_blocks(row) else 0

    def keys(self, seq_q: int, seq_kv: int, visible: int | None = None) -> int:
        """Attended keys: those of every key block that some query block sees."""
        keys = seq_kv if visible is None else visible
        if seq_q >= seq_kv:
            return keys
        first = (seq_kv - seq_q) // self.block
        seen: set[int] = set()
        for queries in self._rows(seq_q, seq_kv):
            seen.update(c for c in self.key_block_list(queries[0] // self.block) if c < first)
            if len(seen) == first:
                break
        # Blocks from `first` on are seen by their own queries, up to the last key.
        before = sum(min(max(keys - c * self.block, 0), self.block) for c in seen)
        return before + max(0, keys - first * self.block)

    def reach_of(self, queries: range, seq_kv: int) -> Iterator[range]:
        """The key blocks of each query block; causal: of its own up to the last query."""
        for row in range(queries[0] // self.block, queries[-1] // self.block + 1):
            last = min(queries[-1], (row + 1) * self.block - 1) + 1 if self.causal else seq_kv
            for column in self.key_block_list(row):
                yield range(column * self.block, min((column + 1) * self.block, last))

    def blocks(self, seq_q: int, seq_kv: int, rows: int) -> Iterator[Block]:
        """One block a query block (`rows` is not looked at), key blocks as ranges."""
        for queries in self._rows(seq_q, seq_kv):
            row = queries[0] // self.block
            columns = [c for c in self.key_block_list(row) if not (self.causal and c == row)]
            whole = [range(c * self.block, min((c + 1) * self.block, seq_kv)) for c in columns]
            own = range(row * self.block, queries[-1] + 1) if self.causal and row >= 0 else None
            yield Block(queries=queries, whole=tuple(whole), partial=(own,) if own else ())

    def _rows(self, seq_q: int, seq_kv: int) -> Iterator[range]:
        """Query positions, a query block at a time."""
        start = seq_kv - seq_q
        while start < seq_kv:
            stop = min(seq_kv, (start // self.block + 1) * self.block)
            yield range(start, stop)
            start = stop


@cache  # cost and time of one row ask for the same count, a loop over 16k blocks at 1m tokens
def _all_pairs(pattern: BigBird, seq_q: int, seq_kv: int) -> int:
    return pattern.all_pairs(seq_q, seq_kv)
