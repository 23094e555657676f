"""The search of `plan`: every candidate, less those that a bound shows to break a limit.

Memory and the parts of a step that are not attention only grow with the batch, and so
does the wait for other prompts: the first batch that breaks a limit by those alone ends
its row. What is left is computed in full. Nothing that could win is dropped (a test
compares with the search that drops nothing).
"""

from collections.abc import Iterator
from typing import NamedTuple

from attnbench.calc.plan_load import Served, served
from attnbench.calc.plan_memory import Footprint, footprint, stored_by_stage
from attnbench.calc.plan_problem import Offer, Problem, Weights
from attnbench.calc.plan_space import Layout, chunks, layouts, size, slots
from attnbench.calc.plan_time import Clock, Prefill
from attnbench.calc.serving_time import waited_s
from attnbench.spec.dtype import Dtype

MEMORY, TTFT, ITL, STALL, GPUS = "memory", "TTFT", "ITL", "stall", "GPUs"
_NATIVE = (Dtype.FP8_E4M3, Dtype.FP8_E5M2, Dtype.NVFP4, Dtype.MXFP4)


class Row(NamedTuple):
    """A GPU with formats, a layout and a chunk; the batch is still open.

    `budget` bytes of a GPU may be used, which hold at most `most` sequences. `price` is
    what a GPU is ranked by: USD an hour, or 1 where GPUs are counted.
    """

    offer: Offer
    weights: Weights
    kv_dtype: Dtype
    layout: Layout
    chunk: int | None
    footprint: Footprint
    step_tokens: int
    clock: Clock
    budget: int
    most: int
    price: float


class Point(NamedTuple):
    """A candidate that keeps every limit, with its figures. `cost` is what it is ranked by."""

    row: Row
    batch: int
    itl_s: float
    stall_s: float
    served: Served
    cost: float


class Broken(NamedTuple):
    """The limit that a batch breaks, by the figure that broke it.

    `grows`: that figure only grows with the batch, so larger ones break the limit too.
    """

    limit: str
    value: float
    allowed: float
    grows: bool = False


class Found(NamedTuple):
    """All points, and how much was looked at.

    `closest`: for each GPU, the figure nearest to its limit among what was refused.
    """

    points: list[Point]
    closest: dict[str, Broken]
    considered: int
    computed: int


def rows(problem: Problem) -> Iterator[Row]:
    """Every row in a fixed order; formats that a GPU cannot compute with are left out."""
    kept: dict[tuple[int, Dtype, Layout], Footprint] = {}
    stored: dict[tuple[int, Layout], tuple[int, ...]] = {}
    seq_len = problem.traffic.tokens
    tried = chunks(problem)
    for offer in problem.offers:
        budget = offer.budget_bytes(problem.limits.utilization)
        price = (offer.price_per_hour or 1.0) if problem.by_cost else 1.0
        laid_out = list(layouts(problem.model, problem.limits.max_gpus, offer.links.node))
        for number, weights in enumerate(problem.weights):
            for kv_dtype in problem.kv_dtypes:
                if not computes(offer, weights, kv_dtype):
                    continue
                clock = Clock(problem, offer, weights, kv_dtype)
                for layout in laid_out:
                    key = number, kv_dtype, layout
                    if key not in kept:
                        held = stored.get((number, layout))
                        if held is None:
                            held = stored[number, layout] = stored_by_stage(weights, layout)
                        kept[key] = footprint(weights, held, kv_dtype, layout, seq_len=seq_len)
                    for chunk in tried:
                        tokens = chunk or problem.traffic.input_len
                        most = kept[key].most_sequences(budget, tokens)
                        yield Row(
                            offer, weights, kv_dtype, layout, chunk, kept[key], tokens, clock,
                            budget, most, price,
                        )  # fmt: skip


def computes(offer: Offer, weights: Weights, kv_dtype: Dtype) -> bool:
    """Whether a GPU has the formats: fp8 and fp4 on its matrix path, unless so published."""
    peaks = offer.chip.flops_per_s
    if weights.dtype in _NATIVE and not weights.own and weights.dtype not in peaks:
        return False
    return kv_dtype not in _NATIVE or Dtype.FP8_E4M3 in peaks


def search(problem: Problem, *, prune: bool = True, first: bool = False) -> Found:
    """Every candidate that keeps the limits. `first`: one is enough. `prune`: by bounds."""
    found = Found([], {}, size(problem), 0)
    computed = 0
    for row in rows(problem):
        stopped, tried = _row(problem, row, found.points, prune)
        computed += tried
        if stopped is not None:
            name = row.offer.gpu.name
            near = found.closest.get(name)
            if near is None or _excess(stopped) < _excess(near):
                found.closest[name] = stopped
        if first and found.points:
            break
    return found._replace(computed=computed)


def _excess(broken: Broken) -> float:
    return broken.value / broken.allowed


def _row(problem: Problem, row: Row, points: list[Point], prune: bool) -> tuple[Broken | None, int]:
    """Adds the row's points; why its first batch fails where it has none; batches computed."""
    if prune and row.most < 1:
        return _too_large(row, 1), 0
    prefill = row.clock.prefill(row.layout, row.chunk)
    before, tried = len(points), 0
    first: Broken | None = None
    for batch in slots(problem.traffic.users):
        tried += 1
        point = evaluate(problem, row, prefill, batch)
        if isinstance(point, Point):
            points.append(point)
            continue
        first = first or point
        if prune and point.grows:
            break
    return (first if len(points) == before else None), tried


def evaluate(problem: Problem, row: Row, prefill: Prefill, batch: int) -> Point | Broken:
    """The candidate, or the first limit it breaks; what only grows with the batch first."""
    limits, c, traffic = problem.limits, problem.serving, problem.traffic
    if batch > row.most:
        return _too_large(row, batch)
    others = prefill.occupied_s * (batch - 1)
    waited = prefill.latency_s + waited_s(prefill.occupied_s, c, batch=batch)
    if waited > limits.ttft_s:
        return Broken(TTFT, waited, limits.ttft_s, True)
    stalls = c.interference * others / traffic.output_len
    step = row.clock.step(row.layout, batch)
    if step.floor_s + stalls > limits.itl_s:
        return Broken(ITL, step.floor_s + stalls, limits.itl_s, True)
    step_s = row.clock.step_s(row.layout, step, batch)
    itl_s = step_s + stalls
    if itl_s > limits.itl_s:
        return Broken(ITL, itl_s, limits.itl_s)
    stall_s = step_s + prefill.chunk_s
    if limits.stall_s is not None and stall_s > limits.stall_s:
        return Broken(STALL, stall_s, limits.stall_s)
    ttft_s = waited + step_s
    if ttft_s > limits.ttft_s:
        return Broken(TTFT, ttft_s, limits.ttft_s)
    gpus = row.layout.gpus
    deployed = served(
        traffic, limits, gpus=gpus, slots=batch * row.layout.ranks, ttft_s=ttft_s, itl_s=itl_s
    )
    if deployed is None:
        return Broken(GPUS, limits.max_gpus + 1, limits.max_gpus)
    cost = row.price * deployed.replicas * gpus
    if not problem.loaded and not problem.fewest:
        cost /= deployed.tokens_per_s
    return Point(row, batch, itl_s, stall_s, deployed, cost)


def _too_large(row: Row, batch: int) -> Broken:
    held = row.footprint.per_gpu_bytes(batch, row.step_tokens)
    return Broken(MEMORY, held, row.budget, True)
