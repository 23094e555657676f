"""The questions turned round: the longest prompt, the most users, that the GPUs allow."""

import enum

import msgspec

from attnbench.calc.plan_answer import refusal
from attnbench.calc.plan_problem import Problem
from attnbench.calc.plan_search import search

_STEP = 256  # tokens that a longest prompt is rounded down to
_LONGEST = 1 << 22  # tokens, where a configuration states no longest context


class Solve(enum.StrEnum):
    """What `--solve` asks for."""

    MAX_CONTEXT = "max-context"
    MAX_USERS = "max-users"
    MIN_GPUS = "min-gpus"
    MIN_COST = "min-cost"


class Solved(msgspec.Struct, frozen=True, kw_only=True):
    """The problem whose answer is the solution; `value` users or prompt tokens found."""

    problem: Problem
    solve: Solve
    value: int | None = None
    note: str = ""


def solved(problem: Problem, solve: Solve) -> Solved:
    """The problem with what `solve` asks for filled in.

    Raises:
        AttnbenchError: not even the smallest keeps the limits.
    """
    if solve is Solve.MAX_USERS:
        return _max_users(problem)
    if solve is Solve.MAX_CONTEXT:
        return _max_context(problem)
    fewest = solve is Solve.MIN_GPUS
    return Solved(problem=msgspec.structs.replace(problem, fewest=fewest), solve=solve)


def _max_users(problem: Problem) -> Solved:
    alone = _with(problem, requests_per_s=None, users=None)
    found = search(alone)
    if not found.points:
        raise refusal(problem, found)
    most = max(
        point.batch * point.row.layout.ranks * (problem.limits.max_gpus // point.row.layout.gpus)
        for point in found.points
    )
    return Solved(
        problem=_with(problem, requests_per_s=None, users=most),
        solve=Solve.MAX_USERS,
        value=most,
        note=f"users at once: {most:,}, on at most {problem.limits.max_gpus} GPUs",
    )


def _max_context(problem: Problem) -> Solved:
    """The longest prompt, to 256 tokens: longer ones take more memory and more time."""
    output = problem.traffic.output_len
    cap = problem.model.max_position or _LONGEST
    most = max((cap - output) // _STEP, 1)
    low, high = 0, most + 1
    while high - low > 1:
        # Doubling first: a search that finds nothing costs more than one that does.
        middle = min((low + high) // 2, max(2 * low, 4))
        if search(_with(problem, input_len=middle * _STEP), first=True).points:
            low = middle
        else:
            high = middle
    if low == 0:
        shortest = _with(problem, input_len=_STEP)
        raise refusal(shortest, search(shortest))
    bound = ", the longest that the model's configuration states" if low == most else ""
    tokens = low * _STEP
    return Solved(
        problem=_with(problem, input_len=tokens),
        solve=Solve.MAX_CONTEXT,
        value=tokens,
        note=f"longest prompt: {tokens:,} tokens beside {output:,} of output{bound}",
    )


def _with(problem: Problem, **changes: int | float | None) -> Problem:
    traffic = msgspec.structs.replace(problem.traffic, **changes)
    traffic = msgspec.structs.replace(traffic, longest=max(traffic.tokens, traffic.longest))
    return msgspec.structs.replace(problem, traffic=traffic)
