"""Progress of a sweep on stderr: a line a group, which a terminal and a CI log both take."""

from typing import TextIO

from attnbench.measure.plan import Group
from attnbench.spec.result import ResultRow


class Lines:
    """Writes a line when a group starts, and its end behind it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def start_group(self, number: int, total: int, group: Group, points: int) -> None:
        """Say which group begins."""
        self._out.write(f"[{number}/{total}] {group.label}, {points} points: ")
        self._out.flush()

    def end_group(self, rows: list[ResultRow], took_s: float) -> None:
        """Say how its points ended, and how long the group took."""
        ended = [row.status for row in rows]
        counts = ", ".join(f"{ended.count(status)} {status}" for status in dict.fromkeys(ended))
        self._out.write(f"{counts}; {took_s:.1f} s\n")
        self._out.flush()
