"""What an engine makes of a GPU: the budget, the pool, the very lines; and what would fit."""

import enum
from collections.abc import Callable, Iterator
from typing import Protocol, Self

import msgspec

from attnbench.calc.engine_budget import Band
from attnbench.errors import UserError

_MOST_GPUS = 64
_STEPS = 1000
_UNLIMITED = 1 << 20  # tokens, where a model states no longest context


class Solve(enum.StrEnum):
    """What is asked for, the rest being as given."""

    MAX_CONTEXT = "max-context"
    MAX_USERS = "max-users"
    UTILIZATION = "utilization"
    GPUS = "gpus"


class PoolPart(msgspec.Struct, frozen=True, kw_only=True):
    """One of several pools: how many tokens, cells or states it holds, and its bytes a GPU."""

    name: str
    holds: str
    count: int
    bytes: int


class EngineMemory(msgspec.Struct, frozen=True, kw_only=True):
    """The budget's terms on the GPU that decides, and the pool at the middle of its band.

    `requested` of `total` bytes are the engine's to use. A `block` is what the engine
    hands out at once: `block` tokens, `blocks` of them, `blocks_low` and `blocks_high` at
    the ends of the band. `users` requests of the length asked for fit at once, each taking
    `blocks_of_request`; `pinned` are taken by a prompt of one token. `longest` is the
    longest one request, up to the length asked for. `outside`: the activations and graphs
    live beside what was requested. `solved` is tokens, users, a utilization or GPUs; None
    where nothing does.
    """

    engine: str
    length: int
    total: int
    utilization: float
    requested: int
    weights: int
    activation: Band
    non_torch: Band
    graphs: Band
    cache: Band
    block: int
    blocks: int
    blocks_low: int
    blocks_high: int
    users: int
    lines: tuple[str, ...]
    unit: str = "blocks"
    tokens: int | None = None
    concurrency: float | None = None
    blocks_of_request: int | None = None
    longest: int | None = None
    pinned: int = 0
    groups: int = 1
    padding: int = 0
    pools: tuple[PoolPart, ...] = ()
    outside: bool = False
    said: tuple[str, ...] = ()
    fits: bool = True
    asked: Solve | None = None
    solved: float | None = None


class Start(Protocol):
    """One start of an engine, of which single settings can be changed."""

    @property
    def limit(self) -> int | None:
        """The longest context that the model states."""

    @property
    def gpus(self) -> int:
        """GPUs of the replica."""

    def made(self, batch: int) -> EngineMemory:
        """The budget and pool of this start, asked to serve `batch` requests.

        Raises:
            UserError: a split that the engine refuses.
        """

    def of_length(self, tokens: int) -> Self:
        """The same start for requests of `tokens`."""

    def at(self, utilization: float) -> Self:
        """The same start with another share of the GPU's memory."""

    def widened(self) -> Iterator[Self]:
        """The same start on one GPU, then on more, as the engine would be given them."""


def answer(start: Start, batch: int, solve: Solve | None) -> EngineMemory:
    """What the engine makes of `start`, and whether `batch` requests fit at once.

    Raises:
        UserError: a split that the engine refuses.
    """
    found = start.made(batch)
    found = msgspec.structs.replace(found, fits=found.users >= batch, asked=solve)
    if solve is None:
        return found
    return msgspec.structs.replace(found, solved=_SOLVERS[solve](start, batch))


def _fits(start: Start, batch: int) -> bool:
    return start.made(batch).users >= batch


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest whole number up to `most` that fits; 0 for none. Fitting ends once."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _context(start: Start, batch: int) -> float | None:
    limit = start.limit or _UNLIMITED
    found = _largest(limit, lambda tokens: _fits(start.of_length(tokens), batch))
    return float(found) if found else None


def _users(start: Start, batch: int) -> float | None:
    return float(start.made(batch).users)


def _utilization(start: Start, batch: int) -> float | None:
    if not _fits(start.at(1.0), batch):
        return None
    short = _largest(_STEPS - 1, lambda step: not _fits(start.at(step / _STEPS), batch))
    return (short + 1) / _STEPS


def _gpus(start: Start, batch: int) -> float | None:
    for wider in start.widened():
        if wider.gpus > _MOST_GPUS:
            break
        try:
            if _fits(wider, batch):
                return float(wider.gpus)
        except UserError:  # heads or layers that do not go round
            break
    return None


_SOLVERS: dict[Solve, Callable[[Start, int], float | None]] = {
    Solve.MAX_CONTEXT: _context,
    Solve.MAX_USERS: _users,
    Solve.UTILIZATION: _utilization,
    Solve.GPUS: _gpus,
}
