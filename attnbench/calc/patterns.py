"""The arithmetic of attention patterns: which query-key pairs are attended."""

from typing import Any, Protocol


class Pattern(Protocol):
    """A set of attended query-key pairs, over positions.

    Query row i stands at position i + seq_kv - seq_q; `allows` takes positions.
    """

    def allows(self, query: Any, key: Any) -> Any:
        """Whether the pair is attended: ints, or arrays that broadcast, alike."""
        ...

    def pairs(self, seq_q: int, seq_kv: int) -> int:
        """Attended pairs of one head, exactly."""
        ...
