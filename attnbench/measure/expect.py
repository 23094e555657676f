"""How long a sweep is expected to take: for `--dry-run`, and to share out the time left.

A rough model, right within a factor of two or so: calls at a share of the rate that a
matrix product reaches here, the calls that timing makes of them, references in float64,
a child process a group, and on a CPU one more a point for its memory.
"""

import time
from typing import Any

from attnbench.measure.isolation import Say
from attnbench.measure.plan import Group, Point
from attnbench.measure.preset import Timing

_SHARE = 0.25  # of a matrix product's rate, that attention reaches: eager and tiled code alike
_CALL_S = 2e-4
_GROUP_S = 0.5
_MEMORY_CHILD_S = 0.5
_INTERPRETED_PAIRS_PER_S = 1.3e7  # Triton's interpreter: docs/kernels.md
_SIZE = 1024


def probe_flops_per_s(device_type: str, say: Say) -> float:
    """Job: what a product of fp32 matrices reaches on this device, the best of three."""
    import torch

    a: Any = torch.ones(_SIZE, _SIZE, device=device_type)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        b = a @ a
        if device_type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    del b
    return 2 * _SIZE**3 / best


def group_s(group: Group, timing: Timing, *, device_type: str, flops_per_s: float) -> float:
    """Seconds that a group of points is expected to take."""
    each = (_point_s(point, timing, device_type, flops_per_s) for point in group.points)
    return _GROUP_S + sum(each)


def _point_s(point: Point, timing: Timing, device_type: str, flops_per_s: float) -> float:
    variant, backend = point.implementation()
    # A user's own kernel is asked by child processes alone: here its file is never run.
    if point.user is None and backend.supports(point.shape, point.mode, point.params, device_type):
        return 0.0
    cost = variant.cost(point.shape, point.mode, point.params)
    checked = 2 * 4 * cost.pairs * point.shape.head_dim / (_SHARE * flops_per_s)
    if device_type in backend.interpreted_on:
        return checked + cost.pairs / _INTERPRETED_PAIRS_PER_S
    call = _CALL_S + cost.flops / (_SHARE * flops_per_s)
    rounds = timing.rounds * max(timing.round_ms / 1e3, 2 * call)
    timed = max(timing.warmup_ms / 1e3, 2 * call) + min(rounds, max(timing.point_s, 5 * call))
    memory = _MEMORY_CHILD_S + 2 * call if device_type == "cpu" else 2 * call
    return checked + 2 * call + timed + memory
