"""Progress of a sweep on stderr: lines for a CI log, a bar with the time left on a terminal."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from attnbench.measure.plan import Group
from attnbench.measure.sweep import Progress
from attnbench.spec.result import ResultRow
from attnbench.units import format_duration


class Lines:
    """Writes a line when a group starts, and its end behind it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def start_group(self, number: int, total: int, group: Group, points: int) -> None:
        """Say which group begins."""
        self._out.write(f"[{number}/{total}] {group.label}, {points} points: ")
        self._out.flush()

    def end_group(self, group: Group, rows: list[ResultRow], took_s: float) -> None:
        """Say how its points ended, and how long the group took."""
        self._out.write(f"{_endings(rows)}; {took_s:.1f} s\n")
        self._out.flush()


class Bar:
    """A bar by expected time, with what is left at the pace of the groups that have ended."""

    def __init__(
        self,
        bar: Any,
        task: Any,
        expected_s: dict[str, float],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bar = bar
        self._task = task
        self._left = dict(expected_s)
        self._now = now
        self._start = now()
        self._done = 0.0

    def start_group(self, number: int, total: int, group: Group, points: int) -> None:
        """Show which group is timed; those passed over were finished by an earlier run."""
        order = list(self._left)
        for label in order[: order.index(group.label)]:
            del self._left[label]
        self._bar.update(self._task, description=f"[{number}/{total}] {group.label}")

    def end_group(self, group: Group, rows: list[ResultRow], took_s: float) -> None:
        """Keep a line of how the group ended, and say how long the rest will take."""
        line = f"{group.label}: {_endings(rows)}; {took_s:.1f} s"
        self._bar.console.print(line, markup=False, highlight=False)
        self._done += self._left.pop(group.label, 0.0)
        pace = (self._now() - self._start) / self._done if self._done else 0.0
        left = format_duration(pace * sum(self._left.values()))
        self._bar.update(self._task, completed=self._done, left=f"about {left} left")


@contextlib.contextmanager
def shown_on(out: TextIO, expected_s: dict[str, float]) -> Iterator[Progress]:
    """The progress to hand to a sweep: a bar where `out` is a terminal, else lines."""
    if not out.isatty():
        yield Lines(out)
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    # Drawn seldom: a thread that draws is a load on what is timed.
    with RichProgress(
        *columns, console=Console(file=out), transient=True, refresh_per_second=1
    ) as bar:
        total = sum(expected_s.values())
        first = f"about {format_duration(total)} expected"
        yield Bar(bar, bar.add_task("starting", total=total, left=first), expected_s)


def _endings(rows: list[ResultRow]) -> str:
    ended = [row.status for row in rows]
    return ", ".join(f"{ended.count(status)} {status}" for status in dict.fromkeys(ended))
