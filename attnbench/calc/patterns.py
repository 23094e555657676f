"""Which query-key pairs an attention pattern attends: one definition, on positions.

Query row i stands at position i + seq_kv - seq_q (bottom-right alignment), key j at
j. A pattern is compiled from here: to a dense mask, or FlexAttention's `mask_mod`, by
calling `allows` on arrays; to blocks for an implementation that skips by `blocks`.
Counts are exact integers; of a padded sequence only the first `visible` keys count.
"""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import msgspec

from attnbench.calc.pattern_counts import column_pairs, comb_keys, comb_pairs

_ALIGN = 64


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Some query positions, and disjoint key ranges that hold every key they attend.

    Every pair with a `whole` range is attended; of a `partial` range `allows` says
    which, and that depends on the distances alone unless the range starts at key 0.
    """

    queries: range
    whole: tuple[range, ...] = ()
    partial: tuple[range, ...] = ()


class Pattern(Protocol):
    """A set of attended query-key pairs, over positions."""

    def allows(self, query: Any, key: Any) -> Any:
        """Whether the pair is attended: ints, or integer arrays that broadcast, alike."""
        ...

    def pairs(self, seq_q: int, seq_kv: int, visible: int | None = None) -> int:
        """Attended pairs of one head, exactly."""
        ...

    def keys(self, seq_q: int, seq_kv: int, visible: int | None = None) -> int:
        """Keys that at least one query attends, exactly."""
        ...


@runtime_checkable
class ChoosingPattern(Pattern, Protocol):
    """A pattern that chooses something for each query, in more steps than a pair is worth."""

    def choices(self, query: Any) -> tuple[Any, ...]:
        """What is chosen for each query position, arrays like `query`."""
        ...

    def allows_chosen(self, query: Any, key: Any, choices: tuple[Any, ...]) -> Any:
        """As `allows`, given the queries' `choices`; else the same at every length."""
        ...


@runtime_checkable
class ReachPattern(Pattern, Protocol):
    """A pattern that also lists the keys of a run of queries."""

    @property
    def causal(self) -> bool:
        """Whether no query attends a key after it."""
        ...

    @property
    def unit(self) -> int:
        """The step of its key ranges that are not of step 1; 1 where there are none."""
        ...

    def reach_of(self, queries: range, seq_kv: int) -> Iterator[range]:
        """Key ranges, of step 1 or `unit`, whose union is what `queries` attend.

        Queries are positions 0 and up, `unit` apart. Of a single query the ranges are
        disjoint. Ranges may be empty.
        """
        ...


class BlockedPattern(Pattern, Protocol):
    """A pattern that also says in which blocks its pairs lie."""

    def blocks(self, seq_q: int, seq_kv: int, rows: int) -> Iterator[Block]:
        """Blocks of at most `rows` queries; each query that attends a key is in one."""
        ...


class Full(msgspec.Struct, frozen=True, kw_only=True):
    """Every pair; causal: the keys up to the query's own position."""

    causal: bool

    @property
    def unit(self) -> int:
        """All key ranges are of step 1."""
        return 1

    def allows(self, query: Any, key: Any) -> Any:
        """Whether the pair is attended."""
        if self.causal:
            return key <= query
        return (key == key) & (query == query)

    def pairs(self, seq_q: int, seq_kv: int, visible: int | None = None) -> int:
        """Attended pairs: seq_q · seq_kv, less the causal triangle."""
        keys = seq_kv if visible is None else visible
        high = 0 if self.causal else seq_q + seq_kv
        return comb_pairs(seq_kv - seq_q, seq_kv - 1, keys, -seq_kv, high, 1)

    def keys(self, seq_q: int, seq_kv: int, visible: int | None = None) -> int:
        """All of them: the last query attends every key."""
        return seq_kv if visible is None else visible

    def reach_of(self, queries: range, seq_kv: int) -> Iterator[range]:
        """All keys; causal: those up to the last of the queries."""
        yield range(min(queries[-1] + 1, seq_kv) if self.causal else seq_kv)


def in_reach(query: Any, key: Any, reach: tuple[int, int], dilation: int = 1) -> Any:
    """Whether the distance key - query lies within `reach`, and is a multiple of `dilation`.

    Functions, because FlexAttention compiles `allows`, and can make no object in it.
    """
    distance = key - query
    seen = (distance >= reach[0]) & (distance <= reach[1])
    return seen & (distance % dilation == 0) if dilation > 1 else seen


def of_sinks(query: Any, key: Any, sinks: int, causal: bool) -> Any:
    """Whether the key is one of the first `sinks`, which all see (causal: once they are there)."""
    seen = key < sinks
    return seen & (key <= query) if causal else seen


def window_reach(window: int, causal: bool, dilation: int = 1) -> tuple[int, int]:
    """Lowest and highest distance key - query in a window."""
    half = window // 2 * dilation
    return (-(window - 1) * dilation, 0) if causal else (-half, half)


class SlidingWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A local window, self included, and the first `sink` tokens.

    Causal: the window is the `window` keys i, i - d, i - 2d, ... of dilation d, so
    i - window·d < j <= i. Otherwise |i - j| <= (window // 2)·d. A sink key is
    attended by every query (causal: by those not before it).

    Source: Beltagy et al. 2020, arXiv:2004.05150, section 3.1 (window, dilation);
    Xiao et al. 2023, arXiv:2309.17453 (sinks).
    """

    window: int
    causal: bool
    dilation: int = 1
    sink: int = 0

    @property
    def unit(self) -> int:
        """The dilation: a window's keys are as far apart."""
        return self.dilation

    @property
    def reach(self) -> tuple[int, int]:
        """Lowest and highest distance key - query in the window."""
        return window_reach(self.window, self.causal, self.dilation)

    def allows(self, query: Any, key: Any) -> Any:
        """Whether the pair is attended."""
        seen = in_reach(query, key, self.reach, self.dilation)
        return seen | of_sinks(query, key, self.sink, self.causal) if self.sink else seen

    def pairs(self, seq_q: int, seq_kv: int, visible: int | None = None) -> int:
        """Attended pairs: the window's, and each sink's outside the window."""
        keys = seq_kv if visible is None else visible
        return self.pairs_of(range(seq_kv - seq_q, seq_kv), keys)

    def pairs_of(self, queries: range, keys: int) -> int:
        """Attended pairs of the consecutive positions `queries` with the first `keys` keys."""
        if not queries:
            return 0
        first, last = queries[0], queries[-1]
        comb = (*self.reach, self.dilation)
        window = comb_pairs(first, last, keys, *comb)
        sinks = min(self.sink, keys)
        return window + column_pairs(sinks, first, last, *comb, causal=self.causal)

    def keys(self, seq_q: int, seq_kv: int, visible: int | None = None) -> int:
        """Attended keys: each query's own, and what lies before the first query."""
        keys, first = seq_kv if visible is None else visible, seq_kv - seq_q
        if first <= 0:
            return keys
        before = min(first, keys)
        sinks = min(self.sink, before)
        low, _ = self.reach
        reached = comb_keys(first, seq_q, low, self.dilation, sinks, before)
        return keys - before + sinks + reached

    def reach_of(self, queries: range, seq_kv: int) -> Iterator[range]:
        """The sinks, and the queries' windows, which join as they are a dilation apart."""
        low, high = self.reach
        sinks = min(self.sink, queries[-1] + 1 if self.causal else self.sink, seq_kv)
        yield range(sinks)
        lowest = max(sinks, queries[0] + low)
        lowest += (queries[0] - lowest) % self.dilation
        yield range(lowest, min(seq_kv, queries[-1] + high + 1), self.dilation)

    def blocks(self, seq_q: int, seq_kv: int, rows: int) -> Iterator[Block]:
        """Runs of queries of one residue modulo the dilation, with their window and sinks."""
        return self.blocks_of(range(seq_kv - seq_q, seq_kv), seq_kv, rows)

    def blocks_of(self, queries: range, seq_kv: int, rows: int) -> Iterator[Block]:
        """Blocks of the consecutive positions `queries` alone."""
        low, high = self.reach
        unit = _ALIGN * self.dilation  # odd lengths cost matrix units more than a few keys
        low = low // unit * unit
        for residue in range(self.dilation):
            positions = queries[residue :: self.dilation]
            for start in range(0, len(positions), rows):
                run = positions[start : start + rows]
                sinks = min(self.sink, run[-1] + 1 if self.causal else seq_kv)
                lowest, stop = max(0, run[0] + low), min(seq_kv, run[-1] + high + 1)
                yield self._block(run, lowest, stop, max(0, sinks))

    def _block(self, queries: range, lowest: int, stop: int, sinks: int) -> Block:
        if self.dilation == 1 and sinks and lowest <= sinks:  # they touch: one range
            lowest, stop, sinks = 0, max(stop, sinks), 0
        lowest = max(lowest, sinks)
        lowest += (queries[0] - lowest) % self.dilation
        window = tuple(r for r in (range(lowest, stop, self.dilation),) if r)
        first = tuple(r for r in (range(sinks),) if r)
        if self.causal and queries[0] < sinks - 1:
            return Block(queries=queries, partial=first + window)
        return Block(queries=queries, whole=first, partial=window)
