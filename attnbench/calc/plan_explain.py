"""What stands behind a point: what binds it, where a step's time goes, why others lost."""

import msgspec

from attnbench.calc.params import count
from attnbench.calc.plan_front import dominates
from attnbench.calc.plan_problem import Problem
from attnbench.calc.plan_search import (
    GPUS,
    ITL,
    MEMORY,
    STALL,
    TTFT,
    Broken,
    Point,
    evaluate,
)
from attnbench.calc.plan_space import slots
from attnbench.calc.plan_time import Pass
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import ModelSpec

THROUGHPUT = "throughput"
BANDWIDTH, COMPUTE, LINK, LATENCY = "bandwidth", "compute", "link", "latency"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A point as it is shown. `gpus` = tp · pp · dp, all replicas of an engine together.

    `batch` sequences on each data-parallel rank; `replicas` engines. `binds` is the limit
    that a larger batch would break, `bound` what most of a decoding step waits for.
    `tokens_per_s` are output tokens under the load, `capacity_tokens_per_s` at this batch.
    """

    gpu: str
    gpus: int
    tp: int
    pp: int
    ep: int
    dp: int
    replicas: int
    weight_dtype: str
    kv_dtype: Dtype
    batch: int
    chunk_tokens: int | None
    ttft_s: float
    itl_s: float
    stall_s: float
    tokens_per_s: float
    capacity_tokens_per_s: float
    cost_per_hour: float | None
    cost_per_million_tokens: float | None
    per_gpu_bytes: int
    binds: str
    bound: str


def candidate(problem: Problem, point: Point) -> Candidate:
    """The point with what binds it."""
    row, made = point.row, point.served
    layout, price = row.layout, row.offer.price_per_hour
    gpus = layout.gpus * made.replicas
    hourly = None if price is None else price * gpus
    return Candidate(
        gpu=row.offer.gpu.name,
        gpus=gpus,
        tp=layout.tp,
        pp=layout.pp,
        ep=layout.ep,
        dp=layout.ranks * made.replicas,
        replicas=made.replicas,
        weight_dtype=row.weights.label,
        kv_dtype=row.kv_dtype,
        batch=point.batch,
        chunk_tokens=row.chunk,
        ttft_s=made.ttft_s,
        itl_s=point.itl_s,
        stall_s=point.stall_s,
        tokens_per_s=made.tokens_per_s,
        capacity_tokens_per_s=made.capacity_tokens_per_s,
        cost_per_hour=hourly,
        cost_per_million_tokens=None if hourly is None else hourly / made.tokens_per_s / 3600 * 1e6,
        per_gpu_bytes=row.footprint.per_gpu_bytes(point.batch, row.step_tokens),
        binds=binds(problem, point),
        bound=bound(row.clock.step(layout, point.batch)),
    )


def binds(problem: Problem, point: Point) -> str:
    """The limit that the next larger batch breaks; `throughput` where none does.

    Then the load is carried, or a larger batch makes no more tokens for the money.
    """
    row = point.row
    larger = [batch for batch in slots(problem.traffic.users) if batch > point.batch]
    if not larger:
        return THROUGHPUT
    prefill = row.clock.prefill(row.layout, row.chunk)
    broken = evaluate(problem, row, prefill, larger[0])
    return broken.limit if isinstance(broken, Broken) else THROUGHPUT


def bound(step: Pass) -> str:
    """Where most of a decoding step goes: bytes, products, links, or neither (latency)."""
    bytes_s = step.attention_s + (step.weights_s if step.weights_s >= step.tensor_s else 0.0)
    causes = {
        BANDWIDTH: bytes_s,
        COMPUTE: step.tensor_s if step.tensor_s > step.weights_s else 0.0,
        LINK: step.link_s,
    }
    causes[LATENCY] = step.total_s - sum(causes.values())
    return max(causes, key=lambda name: causes[name])


def why_lost(problem: Problem, loser: Point, winner: Point) -> str:
    """Why `loser`, which keeps every limit, is not recommended."""
    what = "cost" if problem.by_cost else "GPUs"
    if loser.cost > winner.cost * 1.0005:
        worse = f"{what}: {loser.cost / winner.cost:.2f} times the recommended"
        if loser.itl_s < winner.itl_s:
            worse += f", for an ITL of {loser.itl_s * 1e3:.1f} ms instead of {_ms(winner)}"
        return worse
    if dominates(winner, loser):
        return f"the same {what}, and slower: ITL {loser.itl_s * 1e3:.1f} ms, not {_ms(winner)}"
    if loser.served.replicas * loser.row.layout.gpus > winner.served.replicas * (
        winner.row.layout.gpus
    ):
        return f"the same {what} on more GPUs"
    return f"the same {what}, a longer ITL: {loser.itl_s * 1e3:.1f} ms, not {_ms(winner)}"


def why_refused(broken: Broken) -> str:
    """A limit that nothing on a GPU keeps, by the figure that came nearest to it."""
    if broken.limit == MEMORY:
        value, allowed = broken.value / 1e9, broken.allowed / 1e9
        return f"memory: at least {value:,.1f} GB on a GPU, {allowed:,.1f} GB may be used"
    if broken.limit == GPUS:
        return f"throughput: the load takes more than {broken.allowed:,.0f} GPUs"
    names = {TTFT: "TTFT", ITL: "ITL", STALL: "longest gap between tokens"}
    value, allowed = broken.value * 1e3, broken.allowed * 1e3
    return f"{names[broken.limit]}: at best {value:,.1f} ms, {allowed:,.1f} ms allowed"


def usual_rule(model: ModelSpec) -> tuple[str, str]:
    """What rules of thumb would take for a model of this size: a name, and the rule.

    Under 15 billion parameters one GPU, to 70 tensor parallel in a node, to 200 pipeline
    stages too, beyond that all three kinds. A sanity check beside the search, no method.

    >>> from attnbench.catalog import load_model
    >>> usual_rule(load_model("llama-3-8b"))[0]
    'one GPU'
    """
    billions = count(model).total / 1e9
    for limit, name in ((15, "one GPU"), (71, "tensor parallel"), (200, "tensor and pipeline")):
        if billions < limit:
            return name, f"{billions:.3g}B parameters"
    return "tensor, pipeline and data or expert", f"{billions:.3g}B parameters"


def _ms(point: Point) -> str:
    return f"{point.itl_s * 1e3:.1f} ms"
