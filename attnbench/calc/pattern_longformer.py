"""Longformer's pattern: a local window, and a few global tokens."""

from collections.abc import Iterator
from typing import Any

import msgspec

from attnbench.calc.patterns import Block, SlidingWindow, in_reach, of_sinks, window_reach


class Longformer(msgspec.Struct, frozen=True, kw_only=True):
    """A window, and the first `global_tokens` tokens, which all see and which see all.

    Causal leaves of it what does not look ahead: every query sees the global keys
    before it, and a global query sees nothing more than that.

    Source: Beltagy et al. 2020, arXiv:2004.05150, section 3.1.
    """

    window: int
    global_tokens: int
    causal: bool

    @property
    def unit(self) -> int:
        """All key ranges are of step 1."""
        return 1

    @property
    def local(self) -> SlidingWindow:
        """The window and the global keys: every row but those of global queries."""
        return SlidingWindow(window=self.window, causal=self.causal, sink=self.global_tokens)

    def allows(self, query: Any, key: Any) -> Any:
        """Whether the pair is attended."""
        seen = in_reach(query, key, window_reach(self.window, self.causal))
        seen = seen | of_sinks(query, key, self.global_tokens, self.causal)
        if self.causal:
            return seen
        return seen | ((query >= 0) & (query < self.global_tokens))

    def pairs(self, seq_q: int, seq_kv: int, visible: int | None = None) -> int:
        """Attended pairs: all keys for a global query, local ones for the others."""
        keys = seq_kv if visible is None else visible
        before, rows, after = self._split(seq_q, seq_kv)
        local = self.local.pairs_of(before, keys) + self.local.pairs_of(after, keys)
        return local + len(rows) * keys

    def keys(self, seq_q: int, seq_kv: int, visible: int | None = None) -> int:
        """Attended keys: all where a global query is among the rows."""
        if self._split(seq_q, seq_kv)[1]:
            return seq_kv if visible is None else visible
        return self.local.keys(seq_q, seq_kv, visible)

    def reach_of(self, queries: range, seq_kv: int) -> Iterator[range]:
        """All keys where a global query is among them, else those of the local pattern."""
        if not self.causal and queries[0] < self.global_tokens:
            yield range(seq_kv)
        else:
            yield from self.local.reach_of(queries, seq_kv)

    def blocks(self, seq_q: int, seq_kv: int, rows: int) -> Iterator[Block]:
        """Blocks of global queries with every key, and the local ones."""
        before, global_rows, after = self._split(seq_q, seq_kv)
        for start in range(0, len(global_rows), rows):
            yield Block(queries=global_rows[start : start + rows], whole=(range(seq_kv),))
        yield from self.local.blocks_of(before, seq_kv, rows)
        yield from self.local.blocks_of(after, seq_kv, rows)

    def _split(self, seq_q: int, seq_kv: int) -> tuple[range, range, range]:
        """Positions before the first token, of global queries, and the others."""
        first = seq_kv - seq_q
        start = min(max(first, 0), seq_kv)
        stop = start if self.causal else max(start, min(self.global_tokens, seq_kv))
        return range(first, start), range(start, stop), range(stop, seq_kv)
