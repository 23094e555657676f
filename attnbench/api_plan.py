"""The Python API's planner: `from attnbench import plan`. A module of its own beside `api`."""

from collections.abc import Mapping, Sequence

from attnbench.calc.plan_answer import Plan, answer
from attnbench.commands import _plan
from attnbench.engines.serve_command import Engine
from attnbench.errors import unknown_name


def plan(
    of: str,
    *,
    input_len: int = 1024,
    output_len: int = 256,
    requests_per_s: float | None = None,
    users: int | None = None,
    gpus: Sequence[str] | None = None,
    prices: Mapping[str, float] | None = None,
    ttft_ms: float = 500.0,
    itl_ms: float = 50.0,
    max_gpus: int = 256,
    weight_dtypes: Sequence[str] | None = None,
    kv_dtypes: Sequence[str] | None = None,
    engine: str = "vllm",
) -> Plan:
    """What to buy for the model called `of` and its traffic, as `attnbench plan` answers.

    `gpus`: names of hardware profiles, all that have a price unless given; `prices`: USD an
    hour of one. Neither `requests_per_s` nor `users`: one replica, as full as it may be.

    Raises:
        UserError: an unknown name, or a figure that makes no sense.
        AttnbenchError: nothing keeps the limits; it says what came nearest.

    >>> plan("llama-3-8b", gpus=["h100-sxm"], users=16).recommended.gpu
    'h100-sxm'
    """
    known = [each.value for each in Engine]
    if engine not in known:
        raise unknown_name("engine", engine, known)
    asked = _plan.problem(
        of,
        asked=_plan.asked_traffic(
            str(input_len),
            str(output_len),
            None,
            requests_per_s,
            None if users is None else str(users),
        ),
        limits=_plan.asked_limits(
            ttft_ms=ttft_ms, itl_ms=itl_ms, stall_ms=None, max_gpus=max_gpus, load=0.8,
            utilization=0.9,
        ),
        engine=Engine(engine),
        gpus=gpus,
        price=",".join(f"{name}={usd!r}" for name, usd in (prices or {}).items()) or None,
        weight_dtypes=weight_dtypes,
        kv_dtypes=kv_dtypes,
        chunks=None,
        node=8,
        network_gbps=400,
    )  # fmt: skip
    return answer(asked)
