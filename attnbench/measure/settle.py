"""Brings a group to its outcomes: in child processes, a point that kills one apart."""

import time
from typing import TYPE_CHECKING

import msgspec

from attnbench.measure import memory, worker
from attnbench.measure.isolation import Ended, run_isolated
from attnbench.measure.plan import Group, Point
from attnbench.measure.telemetry import Reading, disturbance
from attnbench.measure.turns import Turns
from attnbench.measure.worker import GroupJob, GroupOutcome, Outcome
from attnbench.spec.result import Status
from attnbench.units import GIB

if TYPE_CHECKING:
    from attnbench.measure.sweep import Plan

_CHECK_MARGIN = GIB  # references and inputs that a group's process holds beside a point
_STATUS_OF_FAILURE = {
    "timeout": Status.TIMEOUT,
    "crash": Status.ERROR,
    "error": Status.ERROR,
}


class Settled(msgspec.Struct, kw_only=True):
    """A group's outcomes by index of point, and how they were come by.

    `spent_s` is where the time went: `check_s` references, `setup_s` preparation and
    first calls, `memory_s` the memory pass, `calls_s` timed and warm-up calls.
    `readings` are the device's before and after.
    """

    outcomes: dict[int, Outcome]
    timer: str = ""
    spent_s: dict[str, float]
    readings: tuple[Reading, ...] = ()


def settle(plan: "Plan", group: Group) -> Settled:
    """Run `group`; where its process dies, again without the point that it died at."""
    skipped = {
        i: Outcome(status=Status.SKIPPED, note=plan.skipped[point.key])
        for i, point in enumerate(group.points)
        if point.key in plan.skipped
    }
    phases = ("check_s", "setup_s", "memory_s", "calls_s")
    made = Settled(outcomes=skipped, spent_s=dict.fromkeys(phases, 0.0))
    while len(made.outcomes) < len(group.points):
        ended = _in_child(plan, group, frozenset(made.outcomes))
        if ended.failed is None:
            _take(made, ended.result)
            break
        Turns.of_environment().give()  # it died with it
        failure = Outcome(status=_STATUS_OF_FAILURE[ended.failed], note=ended.reason)
        if ended.at:
            made.outcomes[int(ended.at)] = failure
        else:  # before any point: the inputs themselves cannot be made
            missing = set(range(len(group.points))) - made.outcomes.keys()
            made.outcomes |= dict.fromkeys(missing, failure)
    if plan.memory and plan.device.type == "cpu":
        start = time.monotonic()
        for i, point in enumerate(group.points):
            if made.outcomes[i].status is Status.OK:
                _add_host_peak(plan, point, made.outcomes[i])
        made.spent_s["memory_s"] += time.monotonic() - start
    return made


def _take(made: Settled, result: GroupOutcome) -> None:
    made.outcomes |= result.outcomes
    made.timer, made.readings = result.timer, result.readings
    for phase in made.spent_s:
        made.spent_s[phase] += getattr(result, phase)
    disturbed = disturbance(*result.readings)
    for outcome in result.outcomes.values():
        if outcome.status is Status.OK:
            outcome.note = f"{outcome.note} {disturbed}".strip()


def _in_child(plan: "Plan", group: Group, skip: frozenset[int]) -> Ended:
    job = GroupJob(
        group=group, skip=skip, device=plan.device, timing=plan.preset.timing, memory=plan.memory
    )
    return run_isolated(
        worker.run_group,
        job,
        time_limit_s=plan.preset.time_limit_s,
        memory_limit_bytes=_limit_for_child(plan),
    )


def _add_host_peak(plan: "Plan", point: Point, outcome: Outcome) -> None:
    ended = run_isolated(
        memory.host_peak,
        point,
        time_limit_s=plan.preset.time_limit_s,
        memory_limit_bytes=_limit_for_child(plan),
    )
    if ended.failed:
        outcome.note = f"{outcome.note} memory not measured: {ended.reason}".strip()
    else:
        outcome.peak = ended.result


def _limit_for_child(plan: "Plan") -> int | None:
    if plan.device.type != "cpu":
        return None  # the device's allocator refuses by itself; host memory is not the point
    return plan.memory_limit_bytes + _CHECK_MARGIN
