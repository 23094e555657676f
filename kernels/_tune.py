"""Chooses among a few configurations by running each on the device at hand."""

import statistics
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from triton.runtime.errors import OutOfResources

_WARM_UPS, _ROUNDS = 2, 5

T = TypeVar("T")


def fastest(
    candidates: Sequence[T],
    run: Callable[[T], object],
    *,
    time_ms: Callable[[Callable[[], object]], float] | None = None,
) -> T:
    """The candidate whose `run` takes the least, by the median of interleaved rounds.

    The first, which is the one shipped, where there is no other, or where none is
    faster. Another that asks for more than the device has is left out. `time_ms` times
    one call; by device events unless given.
    """
    if len(candidates) == 1:
        return candidates[0]
    clock = time_ms or _device_ms
    able = [candidates[0]]
    for _ in range(_WARM_UPS):
        run(candidates[0])
    for candidate in candidates[1:]:
        try:
            for _ in range(_WARM_UPS):
                run(candidate)
        except OutOfResources:
            continue
        able.append(candidate)
    times: list[list[float]] = [[] for _ in able]
    for _ in range(_ROUNDS):
        for candidate, spent in zip(able, times, strict=True):
            spent.append(clock(lambda candidate=candidate: run(candidate)))  # type: ignore[misc]
    medians = [statistics.median(spent) for spent in times]
    return able[medians.index(min(medians))]


def _device_ms(call: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds
