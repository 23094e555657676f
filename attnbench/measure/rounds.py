"""Interleaved rounds: each round times every point once, in a fresh random order."""

import random
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from attnbench.measure.preset import Timing
from attnbench.measure.statistics import log_interval
from attnbench.measure.timer import Call, Timer
from attnbench.measure.turns import Turns

WARM_CALL_MS = 50.0  # a call shorter than this is run once untimed when its turn comes
_STEADY = 0.05
_MAX_WARM_CALLS = 200
_MAX_SAMPLES = 200


class Candidate(msgspec.Struct, kw_only=True):
    """A point under time: its call, what a call takes, and its samples by round."""

    label: str
    call: Call
    call_ms: float = 0.0
    spent_ms: float = 0.0
    rounds_ms: list[list[float]] = []


def warm_up(candidate: Candidate, timer: Timer, timing: Timing) -> None:
    """Call until two calls in a row differ by under 5%, and for `warmup_ms` at least.

    A call longer than `warmup_ms` is warm after one: it has touched all it will use.
    """
    spent, last = 0.0, None
    for _ in range(_MAX_WARM_CALLS):
        took = timer.sample_ms(candidate.call)
        spent += took
        steady = last is not None and abs(took - last) <= _STEADY * max(took, last)
        if spent >= timing.warmup_ms and (steady or took >= timing.warmup_ms):
            break
        if spent >= 5 * timing.warmup_ms:
            break
        last = took
    candidate.call_ms = took


def time_rounds(
    candidates: Sequence[Candidate],
    timer: Timer,
    timing: Timing,
    say: Callable[[str], None],
    turns: Turns,
) -> None:
    """Fill `rounds_ms` of each candidate; after each, the other side of `turns` has its turn.

    Order is shuffled in every round from `timing.seed`, so that a drift of the
    machine falls on all alike. A candidate leaves when it is precise enough or has
    used its time, never before `timing.rounds` rounds.
    """
    order = random.Random(timing.seed)
    running = list(candidates)
    for done in range(1, timing.max_rounds + 1):
        order.shuffle(running)
        for candidate in running:
            say(candidate.label)
            _one_round(candidate, timer, timing)
            turns.pass_on(partial(say, candidate.label))
        if done >= timing.rounds:
            running = [c for c in running if not _finished(c, timing)]
        if not running:
            return


def _one_round(candidate: Candidate, timer: Timer, timing: Timing) -> None:
    count = max(1, min(_MAX_SAMPLES, round(timing.round_ms / max(candidate.call_ms, 1e-3))))
    start = time.perf_counter()
    if candidate.call_ms < WARM_CALL_MS:
        timer.sample_ms(candidate.call)
    candidate.rounds_ms.append([timer.sample_ms(candidate.call) for _ in range(count)])
    candidate.spent_ms += (time.perf_counter() - start) * 1e3


def _finished(candidate: Candidate, timing: Timing) -> bool:
    if candidate.spent_ms >= timing.point_s * 1e3:
        return True
    medians = [sorted(samples)[len(samples) // 2] for samples in candidate.rounds_ms]
    low, high = log_interval(medians)
    return high / low <= (1 + timing.target_ci) ** 2
