"""What an engine makes of a GPU: the budget, the pool, the very line; and what would fit."""

import enum
from collections.abc import Callable

import msgspec

from attnbench.calc.engine_budget import Budget
from attnbench.calc.engine_pages import blocks_needed, longest
from attnbench.calc.quantization import Scheme
from attnbench.engines.launch import Launch, Pool, budget_of, pool
from attnbench.errors import UserError
from attnbench.spec.model import ModelSpec

_MOST_GPUS = 64
_STEPS = 1000


class Solve(enum.StrEnum):
    """What is asked for, the rest being as given."""

    MAX_CONTEXT = "max-context"
    MAX_USERS = "max-users"
    UTILIZATION = "utilization"
    GPUS = "gpus"


class EngineMemory(msgspec.Struct, frozen=True, kw_only=True):
    """The budget's terms, the pool at the middle of its band, and what was solved for.

    `blocks_low`, `blocks_high` bound the blocks as the budget's band does. `pinned` blocks
    are taken by a prompt of one token. `solved` is
    tokens, users, a utilization or GPUs; None where nothing does.
    """

    launch: Launch
    budget: Budget
    pool: Pool
    blocks_low: int
    blocks_high: int
    users: int
    pinned: int
    fits: bool
    asked: Solve | None = None
    solved: float | None = None


def answer(
    launch: Launch, model: ModelSpec, scheme: Scheme, *, batch: int, solve: Solve | None
) -> EngineMemory:
    """What vLLM makes of the GPU of `launch`, and whether `batch` requests fit at once.

    Raises:
        UserError: no GPU is named, or the split does not suit the model.
    """
    terms = budget_of(launch, model, scheme)
    if terms is None:
        raise UserError("--engine needs --gpu: its budget is a share of a GPU's memory")
    made, low, high = (
        pool(launch, max(0, int(size)))
        for size in (terms.cache.middle, terms.cache.low, terms.cache.high)
    )
    users = _users(made)
    found = EngineMemory(
        launch=launch,
        budget=terms,
        pool=made,
        blocks_low=low.blocks,
        blocks_high=high.blocks,
        users=users,
        pinned=blocks_needed(made.plan, 1, launch.load),
        fits=users >= batch,
        asked=solve,
    )
    if solve is None:
        return found
    solved = _SOLVERS[solve](launch, model, scheme, made, batch)
    return msgspec.structs.replace(found, solved=solved)


def _users(made: Pool) -> int:
    return made.blocks // made.blocks_of_request if made.blocks_of_request else 0


def _fits(launch: Launch, model: ModelSpec, scheme: Scheme, batch: int) -> bool:
    terms = budget_of(launch, model, scheme)
    return terms is not None and _users(pool(launch, max(0, int(terms.cache.middle)))) >= batch


def _context(
    launch: Launch, model: ModelSpec, scheme: Scheme, made: Pool, batch: int
) -> float | None:
    limit = model.max_position or 1 << 20
    found = longest(made.plan, made.blocks // batch, launch.load, limit)
    return float(found) if found else None


def _most_users(
    launch: Launch, model: ModelSpec, scheme: Scheme, made: Pool, batch: int
) -> float | None:
    assert launch.max_model_len is not None
    return float(made.blocks // blocks_needed(made.plan, launch.max_model_len, launch.load))


def _utilization(
    launch: Launch, model: ModelSpec, scheme: Scheme, made: Pool, batch: int
) -> float | None:
    def fits(step: int) -> bool:
        return _fits(_at(launch, step / _STEPS), model, scheme, batch)

    if not fits(_STEPS):
        return None
    low, high = 0, _STEPS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high / _STEPS


def _at(launch: Launch, utilization: float) -> Launch:
    return msgspec.structs.replace(launch, utilization=utilization)


def _gpus(launch: Launch, model: ModelSpec, scheme: Scheme, made: Pool, batch: int) -> float | None:
    tp = 1
    while tp <= _MOST_GPUS:
        wider = msgspec.structs.replace(launch, tp=tp)
        try:
            if _fits(wider, model, scheme, batch):
                return float(tp * launch.pp)
        except UserError:  # heads that do not go round
            return None
        tp *= 2
    return None


_Solver = Callable[[Launch, ModelSpec, Scheme, Pool, int], float | None]
_SOLVERS: dict[Solve, _Solver] = {
    Solve.MAX_CONTEXT: _context,
    Solve.MAX_USERS: _most_users,
    Solve.UTILIZATION: _utilization,
    Solve.GPUS: _gpus,
}
