"""The strided pattern of sparse transformers: a local window, and every k-th token."""

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from attnbench.calc.pattern_counts import comb_keys, comb_pairs
from attnbench.calc.patterns import Block, SlidingWindow


def default_stride(seq_kv: int) -> int:
    """⌈√n⌉, which makes the pairs grow as n·√n.

    >>> default_stride(16384), default_stride(1000)
    (128, 32)
    """
    return math.isqrt(seq_kv - 1) + 1


class Strided(msgspec.Struct, frozen=True, kw_only=True):
    """A window, and the keys at every `stride`-th step from the query itself.

    Causal: i - window < j <= i, and the j <= i with (i - j) mod stride = 0.
    Otherwise |i - j| <= window // 2, and all j with (i - j) mod stride = 0.

    Source: Child et al. 2019, arXiv:1904.10509, section 4.3 (strided attention).
    """

    window: int
    stride: int
    causal: bool

    @property
    def unit(self) -> int:
        """The stride: its keys are as far apart."""
        return self.stride

    @property
    def reach(self) -> tuple[int, int]:
        """Lowest and highest distance key - query in the window."""
        half = self.window // 2
        return (1 - self.window, 0) if self.causal else (-half, half)

    def allows(self, query: Any, key: Any) -> Any:
        """Whether the pair is attended."""
        low, high = self.reach
        distance = key - query
        seen = ((distance >= low) & (distance <= high)) | (distance % self.stride == 0)
        return seen & (distance <= 0) if self.causal else seen

    @property
    def local(self) -> SlidingWindow:
        """The window alone."""
        return SlidingWindow(window=self.window, causal=self.causal)

    @property
    def comb(self) -> "Comb":
        """What the window leaves: with `local`, each attended pair once."""
        return Comb(of=self)

    def pairs(self, seq_q: int, seq_kv: int, visible: int | None = None) -> int:
        """Attended pairs: the window's, and the stride's before and after it."""
        keys = seq_kv if visible is None else visible
        first, last = seq_kv - seq_q, seq_kv - 1
        low, high = self.reach
        total = comb_pairs(first, last, keys, low, high, 1)
        total += comb_pairs(first, last, keys, -seq_kv, low - 1, self.stride)
        if not self.causal:
            total += comb_pairs(first, last, keys, high + 1, seq_q + seq_kv, self.stride)
        return total

    def keys(self, seq_q: int, seq_kv: int, visible: int | None = None) -> int:
        """Attended keys: each query's own, and what lies before the first query."""
        keys, first = seq_kv if visible is None else visible, seq_kv - seq_q
        if first <= 0:
            return keys
        local = min(max(0, first + self.reach[0]), keys)
        reached = comb_keys(first, seq_q, -seq_kv, self.stride, 0, local)
        return keys - local + reached

    def reach_of(self, queries: range, seq_kv: int) -> Iterator[range]:
        """The stride's keys before and after the window, and the windows."""
        (low, high), first, last = self.reach, queries[0], queries[-1]
        yield range(first % self.stride, min(seq_kv, max(0, last + low)), self.stride)
        if not self.causal:
            after = first + high + 1
            yield range(after + (first - after) % self.stride, seq_kv, self.stride)
        joined = high - low + 1 >= self.stride
        for query in (first,) if joined else queries:
            stop = last if joined else query
            yield range(max(0, query + low), min(seq_kv, stop + high + 1))


class Comb(msgspec.Struct, frozen=True, kw_only=True):
    """The pairs of a `Strided` pattern outside its window: those of every k-th token."""

    of: Strided

    def allows(self, query: Any, key: Any) -> Any:
        """Whether the pair is attended, and not in the window."""
        low, high = self.of.reach
        distance = key - query
        return self.of.allows(query, key) & ((distance < low) | (distance > high))

    def blocks(self, seq_q: int, seq_kv: int, rows: int) -> Iterator[Block]:
        """Runs of queries of one residue modulo the stride, with the keys of that residue."""
        step = self.of.stride
        queries = range(seq_kv - seq_q, seq_kv)
        for first in range(min(step, seq_q)):
            positions = queries[first::step]
            for start in range(0, len(positions), rows):
                run = positions[start : start + rows]
                stop = run[-1] + self.of.reach[0] if self.of.causal else seq_kv
                keys = range(run[0] % step, stop, step)
                yield Block(queries=run, partial=(keys,) if keys else ())
