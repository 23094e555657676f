"""Two sweeps that run at once and take turns, so that each round of one follows the other's.

A machine's speed drifts: on a shared one the same kernel is a tenth slower half a minute
later, and a twenty-fifth a moment later. Two revisions are told apart by rounds that lie
beside each other. Whoever holds the turn works, the other waits without using the device;
the turn is a byte in a named pipe, one for each side.

    take, prove the group, pass, time a round of a point, pass, ..., give
"""

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

VARIABLE = "ATTNBENCH_TURNS"  # the pipe that this side reads, and the one it writes
_TURN, _ALONE = b"t", b"a"
_PATIENCE_S = 600.0  # then the other side is taken for dead, and timing goes on alone
_WORD_S = 1.0  # how often one who waits says so, lest it be taken for dead
# Threads of OpenMP spin for 15 ms after a call, unless told: on the other side's cores.
# A millisecond still bridges the gaps between the calls of a round.
_QUIET = {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}
_SETTLE_S = 0.004


class Turns:
    """One side. Without another side nothing here waits."""

    def __init__(self, mine: Path | None = None, theirs: Path | None = None) -> None:
        self._mine = None if mine is None else os.open(mine, os.O_RDWR)
        self._theirs = None if theirs is None else os.open(theirs, os.O_RDWR)

    @classmethod
    def of_environment(cls) -> "Turns":
        """The side that `VARIABLE` names; alone where it names none."""
        both = os.environ.get(VARIABLE)
        return cls(*map(Path, both.split(os.pathsep))) if both else cls()

    def take(self, say: Callable[[], None]) -> None:
        """Wait for the turn; `say` is called meanwhile, every second."""
        if self._mine is None:
            return
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            if select.select([self._mine], [], [], _WORD_S)[0]:
                if os.read(self._mine, 1) == _ALONE:
                    os.write(self._mine, _ALONE)  # for this sweep's next process
                    self._mine = None
                return
            say()
        self._mine = None

    def give(self) -> None:
        """Let the other side work, once this one's threads are asleep."""
        if self._mine is not None and self._theirs is not None:
            if os.environ.get("OMP_NUM_THREADS") != "1":
                time.sleep(_SETTLE_S)
            os.write(self._theirs, _TURN)

    def pass_on(self, say: Callable[[], None]) -> None:
        """Let the other side work, and wait until it has."""
        self.give()
        self.take(say)


@contextlib.contextmanager
def two_sides(folder: Path) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """What the environments of two sweeps must hold, the first having the turn."""
    pipes = folder / "first.turn", folder / "second.turn"
    for pipe in pipes:
        os.mkfifo(pipe)
    held = [os.open(pipe, os.O_RDWR) for pipe in pipes]  # what is written outlives a writer
    os.write(held[0], _TURN)
    first, second = (os.pathsep.join(map(str, order)) for order in (pipes, pipes[::-1]))
    try:
        yield {**_QUIET, VARIABLE: first}, {**_QUIET, VARIABLE: second}
    finally:
        for handle, pipe in zip(held, pipes, strict=True):
            os.close(handle)
            pipe.unlink()


@contextlib.contextmanager
def same_cores() -> Iterator[None]:
    """Hold this thread, and what it starts, to as many cores as OMP_NUM_THREADS says.

    Cores of a shared machine are not alike for the length of a pair: a thread that stays
    where it began makes its side slower by a fifth. Linux alone; elsewhere, or where no
    number is said, nothing is done.
    """
    threads = os.environ.get("OMP_NUM_THREADS", "")
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if not threads.isdecimal() or not 0 < int(threads) < len(cores):
        yield
        return
    os.sched_setaffinity(0, sorted(cores)[-int(threads) :])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def leave(environment: dict[str, str]) -> None:
    """Tell the other side of `environment` that it is alone from now on."""
    theirs = os.open(environment[VARIABLE].split(os.pathsep)[1], os.O_RDWR)
    try:
        os.write(theirs, _ALONE)
    finally:
        os.close(theirs)
