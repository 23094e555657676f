"""What `plan` is given, as the problem that it solves."""

from collections.abc import Sequence
from pathlib import Path

from attnbench.calc.model_cost import model_cost
from attnbench.calc.plan_problem import CHUNKS, Limits, Problem, Traffic
from attnbench.catalog import load_model
from attnbench.catalog.calibration import serving_constants
from attnbench.catalog.plan_inputs import (
    kv_formats,
    offers,
    traffic,
    weight_formats,
    weights,
)
from attnbench.catalog.trace import read_trace
from attnbench.engines.serve_command import Engine
from attnbench.errors import UserError
from attnbench.spec.dtype import parse_dtype
from attnbench.units import parse_length

_MOST_GPUS = 65_536
_MOST_USERS = 10_000_000


def asked_traffic(
    input_len: str, output_len: str, trace: Path | None, rate: float | None, users: str | None
) -> Traffic:
    """The traffic that the options describe.

    Raises:
        UserError: a length, rate or number of users that makes no sense, or both of them.
    """
    if rate is not None and users is not None:
        raise UserError("--requests-per-s and --users: one of the two, not both")
    if rate is not None and not 0 < rate < 1e9:
        raise UserError(f"--requests-per-s: {rate:g} is not a rate over 0")
    count = None if users is None else parse_length(users, what="--users")
    if count is not None and count > _MOST_USERS:
        raise UserError(f"--users: {count:,} is over {_MOST_USERS:,}")
    return traffic(
        parse_length(input_len, what="--input-len"),
        parse_length(output_len, what="--output-len"),
        None if trace is None else read_trace(trace),
        requests_per_s=rate,
        users=count,
    )


def asked_limits(
    *,
    ttft_ms: float,
    itl_ms: float,
    stall_ms: float | None,
    max_gpus: int,
    load: float,
    utilization: float,
) -> Limits:
    """The limits that the options describe.

    Raises:
        UserError: a time or a share that makes no sense.
    """
    for name, value in (("ttft", ttft_ms), ("itl", itl_ms), ("stall", stall_ms)):
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{name}-ms: {value:g} is not a time over 0")
    for name, share in (("max-load", load), ("utilization", utilization)):
        if not 0 < share <= 1 or (name == "max-load" and share == 1):
            raise UserError(f"--{name}: {share:g} is not a share over 0 and under 1")
    if not 1 <= max_gpus <= _MOST_GPUS:
        raise UserError(f"--max-gpus: {max_gpus} is not a number of GPUs, 1 to {_MOST_GPUS:,}")
    return Limits(
        ttft_s=ttft_ms / 1e3,
        itl_s=itl_ms / 1e3,
        stall_s=None if stall_ms is None else stall_ms / 1e3,
        max_gpus=max_gpus,
        load=load,
        utilization=utilization,
    )


def problem(
    model: str,
    *,
    asked: Traffic,
    limits: Limits,
    engine: Engine,
    gpus: Sequence[str] | None,
    price: str | None,
    weight_dtypes: Sequence[str] | None,
    kv_dtypes: Sequence[str] | None,
    chunks: str | None,
    node: int,
    network_gbps: float,
) -> Problem:
    """The problem that the options describe.

    Raises:
        UserError: an unknown model, GPU, format or engine, or a figure out of range.
    """
    if not 0 < network_gbps < 1e6:
        raise UserError(f"--network-gbps: {network_gbps:g} is not a rate over 0")
    spec = load_model(model)
    if spec.encoder:
        raise UserError(
            f"{spec.name}: an encoder-decoder, whose encoder's time is not modelled",
            hint="plan is for decoders; `attnbench memory` counts its bytes.",
        )
    kinds = kv_formats() if kv_dtypes is None else [parse_dtype(name) for name in kv_dtypes]
    return Problem(
        model=spec,
        cost=model_cost(spec),
        traffic=asked,
        limits=limits,
        offers=offers(
            gpus, _prices(price), engine=engine.value, node=node, network_gbps=network_gbps
        ),
        weights=weights(spec, weight_dtypes or weight_formats(spec)),
        kv_dtypes=tuple(dict.fromkeys(kinds)),
        serving=serving_constants(engine.value).serving,
        chunks=CHUNKS if chunks is None else tuple(_chunk(word) for word in chunks.split(",")),
    )


def _chunk(word: str) -> int | None:
    return None if word.strip() == "none" else parse_length(word, what="--chunks")


def _prices(text: str | None) -> dict[str, float]:
    made: dict[str, float] = {}
    for word in (text or "").split(",") if text else []:
        name, equals, value = word.partition("=")
        try:
            price = float(value)
        except ValueError:
            price = -1.0
        if not equals or not 0 < price < 1e6:
            raise UserError(
                f"--price: {word!r} is not a price", hint="Write h100-sxm=2.5,l40s=0.8 (USD/h)."
            )
        made[name.strip()] = price
    return made
