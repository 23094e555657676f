"""How many replicas a load takes, and what a request waits for a free slot."""

import math
from typing import NamedTuple

from attnbench.calc.plan_problem import Limits, Traffic


class Served(NamedTuple):
    """A deployment under its traffic. Tokens are output tokens, of all replicas.

    `tokens_per_s` is what it makes under the load asked for, `capacity_tokens_per_s`
    what it could at this batch; `ttft_s` has the wait for a slot in it.
    """

    replicas: int
    ttft_s: float
    tokens_per_s: float
    capacity_tokens_per_s: float


def slot_wait_s(*, slots: int, service_s: float, load: float) -> float:
    """Mean seconds that a request waits for one of `slots` that are each busy `service_s`.

        service_s · load^(sqrt(2 (slots + 1)) - 1) / (slots · (1 - load))

    M/M/c: Poisson arrivals, exponential service; exact for one slot, within a few per cent
    for more. Requests' lengths vary less than that, so it is on the safe side.

    Unit: seconds. Source: Sakasegawa 1977, doi:10.1007/BF02532775.

    >>> slot_wait_s(slots=1, service_s=2.0, load=0.5)
    2.0
    """
    return service_s * float(load ** (math.sqrt(2 * (slots + 1)) - 1)) / (slots * (1 - load))


def served(
    traffic: Traffic, limits: Limits, *, gpus: int, slots: int, ttft_s: float, itl_s: float
) -> Served | None:
    """The fewest replicas of `gpus` GPUs that carry the load; None where that is too many.

    A replica has `slots`; a request holds one for ttft_s + (output - 1) · itl_s.
    """
    service_s = ttft_s + (traffic.output_len - 1) * itl_s
    capacity = slots * traffic.output_len / service_s
    most = limits.max_gpus // gpus
    if most < 1:
        return None
    if traffic.users is not None:
        replicas = -(-traffic.users // slots)
        if replicas > most:
            return None
        made = traffic.users * traffic.output_len / service_s
        return Served(replicas, ttft_s, made, capacity * replicas)
    if traffic.requests_per_s is None:
        return Served(1, ttft_s, capacity, capacity)
    asked = traffic.requests_per_s * traffic.output_len
    replicas = max(1, math.ceil(asked / (capacity * limits.load) - 1e-9))
    while replicas <= most:
        load = asked / (capacity * replicas)
        waited = ttft_s + slot_wait_s(slots=slots, service_s=service_s, load=load)
        if waited <= limits.ttft_s:
            return Served(replicas, waited, asked, capacity * replicas)
        # A wait falls by more than the load does: the next count that could do.
        replicas += 1
    return None
