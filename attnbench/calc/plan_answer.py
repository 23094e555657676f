"""Everything that `plan` answers: the recommendation, the front, who lost and why."""

import msgspec

from attnbench.calc.plan_explain import Candidate, candidate, usual_rule, why_lost, why_refused
from attnbench.calc.plan_front import front, rank
from attnbench.calc.plan_links import SHARE
from attnbench.calc.plan_problem import Problem
from attnbench.calc.plan_search import Found, Point, search
from attnbench.errors import AttnbenchError
from attnbench.spec.model import Recurrent

_MOST_SHOWN = 12


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """Who is not recommended and why; no candidate where nothing of a GPU keeps the limits."""

    why: str
    gpu: str
    candidate: Candidate | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `considered` candidates in the space, of which `computed` in full."""

    problem: Problem
    recommended: Candidate
    front: tuple[Candidate, ...]
    rejected: tuple[Rejected, ...]
    considered: int
    computed: int
    notes: tuple[str, ...]
    assumptions: tuple[str, ...]


def answer(problem: Problem) -> Plan:
    """The cheapest deployment that keeps every limit, and what else there is.

    Raises:
        AttnbenchError: nothing keeps the limits; it says what came nearest (exit 1).
    """
    found = search(problem)
    if not found.points:
        raise refusal(problem, found)
    best = min(found.points, key=rank)
    kept = front(found.points)
    return Plan(
        problem=problem,
        recommended=candidate(problem, best),
        front=tuple(candidate(problem, point) for point in _spread(kept)),
        rejected=tuple(_rejected(problem, found, best)),
        considered=found.considered,
        computed=found.computed,
        notes=tuple(_notes(problem, best, len(kept))),
        assumptions=tuple(assumptions(problem)),
    )


def refusal(problem: Problem, found: Found) -> AttnbenchError:
    """The error where no candidate keeps the limits: the nearest miss of any GPU."""
    if not found.closest:
        return AttnbenchError(
            f"{problem.model.name}: no GPU allowed computes with the formats asked for"
        )
    name, broken = min(found.closest.items(), key=lambda item: item[1].value / item[1].allowed)
    ways = {
        "memory": "Allow more GPUs (--max-gpus), larger ones (--gpus), or --weight-dtype fp8.",
        "TTFT": "Allow a longer --ttft-ms, more GPUs or faster ones.",
        "ITL": "Allow a longer --itl-ms, more GPUs or faster ones.",
        "stall": "Allow a longer --stall-ms, or smaller --chunks.",
        "GPUs": "Allow more of them: --max-gpus.",
    }
    return AttnbenchError(
        f"{problem.model.name}: nothing keeps the limits on at most {problem.limits.max_gpus} "
        f"GPUs; nearest is {name}: {why_refused(broken)}",
        hint=ways[broken.limit],
    )


def _spread(points: list[Point]) -> list[Point]:
    """At most a dozen of the front: its ends, and evenly between."""
    if len(points) <= _MOST_SHOWN:
        return points
    last = len(points) - 1
    return [points[round(n * last / (_MOST_SHOWN - 1))] for n in range(_MOST_SHOWN)]


def _rejected(problem: Problem, found: Found, best: Point) -> list[Rejected]:
    """The runner-up of another layout, the best of each other GPU, GPUs that keep nothing."""
    made: list[Rejected] = []

    def lost(point: Point) -> None:
        why = why_lost(problem, point, best)
        gpu = point.row.offer.gpu.name
        made.append(Rejected(why=why, gpu=gpu, candidate=candidate(problem, point)))

    def differs(point: Point) -> bool:
        one, other = point.row, best.row
        return (one.offer, one.layout, one.weights.label, one.kv_dtype) != (
            other.offer, other.layout, other.weights.label, other.kv_dtype,
        )  # fmt: skip

    others = [point for point in found.points if differs(point)]
    runner_up = min(others, key=rank, default=None)
    if runner_up is not None:
        lost(runner_up)
    for offer in problem.offers:
        name = offer.gpu.name
        mine = [point for point in others if point.row.offer is offer]
        if not mine:
            if offer is not best.row.offer and name in found.closest:
                made.append(Rejected(why=why_refused(found.closest[name]), gpu=name))
        elif offer is not best.row.offer:
            point = min(mine, key=rank)
            if point is not runner_up:
                lost(point)
    return made


def _notes(problem: Problem, best: Point, on_front: int) -> list[str]:
    name, size = usual_rule(problem.model)
    layout = best.row.layout
    kinds = [
        *(["tensor"] if layout.tp > 1 else []),
        *(["pipeline"] if layout.pp > 1 else []),
        *(["expert"] if layout.ep > 1 else []),
    ]
    chosen = " and ".join(kinds) + " parallel" if kinds else "one GPU a replica"
    stated, longest = problem.model.max_position, problem.traffic.longest
    too_long = []
    if stated is not None and longest > stated:
        too_long = [f"requests of {longest:,} tokens pass the {stated:,} of the configuration"]
    return [
        *too_long,
        f"sanity check: for {size} the usual rule is {name}; chosen: {chosen}",
        *([f"the front has {on_front} points, of which 12 stand here"] if on_front > 12 else []),
    ]


def assumptions(problem: Problem) -> list[str]:
    """What the figures rest on."""
    limits, traffic, c = problem.limits, problem.traffic, problem.serving
    said = [
        f"every request has {traffic.input_len:,} tokens and makes {traffic.output_len:,}; "
        "memory is kept for all of them at their end",
        f"memory: {limits.utilization:g} of a GPU's; weights, cache, activations and overhead as "
        "`memory` counts them",
        f"ITL is the mean time between tokens with {c.interference:.3g} of others' prefills in "
        f"it, TTFT has {c.wait:.3g} of one's, times the root of how many they are: fitted to "
        "published measurements, whose medians it misses by about 10% (ITL of dense models; of "
        "experts 22%) and 29% (TTFT of dense models)",
        f"collectives reach {SHARE:g} of a link's published rate; latencies after NCCL",
    ]
    if traffic.requests_per_s is not None:
        said.append(
            f"Poisson arrivals; replicas are used to {limits.load:g} of capacity at most, and "
            "the wait for a slot (M/M/c) is in TTFT"
        )
    elif traffic.users is not None:
        said.append("each user sends the next request when the last is answered")
    else:
        said.append("no load was given: one replica, as full as the limits allow")
    used = sorted({f"{o.gpu.name} {_rate(o.price_per_hour)}" for o in problem.offers})
    said.append(f"prices a GPU and hour: {', '.join(used)}")
    if any(offer.price_per_hour is None for offer in problem.offers):
        said.append("not every GPU has a price: ranked by GPUs; --price NAME=USD gives one")
    borrowed = [
        f"{offer.gpu.name} ({offer.constants.decode_origin})"
        for offer in problem.offers
        if not offer.gpu.calibration
    ]
    if borrowed:
        said.append(f"no timings were fitted for {', '.join(borrowed)}: constants of its family")
    if any(isinstance(m, Recurrent) for layer in problem.model.layers for m in layer.mixers):
        said.append("recurrent layers: their projections are timed, their scans are not")
    if problem.cost.routed:
        said.append(
            "a mixture of experts: published times between tokens are a tenth over the predicted "
            "at the median, and a quarter off either way, so leave room"
        )
    nodes = {offer.links.node for offer in problem.offers}
    said.append(f"nodes of {', '.join(map(str, sorted(nodes)))} GPUs; experts are evenly loaded")
    return said


def _rate(price: float | None) -> str:
    return "no price" if price is None else f"{price:g} USD"
