"""A sweep: groups in child processes, culprits apart, rows in the journal as they end."""

import importlib.util
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from attnbench import __version__
from attnbench.catalog.hardware import find_by_device_name
from attnbench.errors import MachineError, UserError, missing_extra
from attnbench.measure import environment, expect, rows, worker
from attnbench.measure.environment import Device
from attnbench.measure.isolation import run_isolated
from attnbench.measure.journal import Journal, open_journal
from attnbench.measure.plan import Group, predicted_bytes
from attnbench.measure.preset import Preset
from attnbench.measure.recipe import recipe
from attnbench.measure.rows import Bench, Roof
from attnbench.measure.settle import settle
from attnbench.spec.dtype import Dtype
from attnbench.spec.hardware import HardwareSpec
from attnbench.spec.result import ResultRow, Status
from attnbench.units import format_gib

_SHARE_OF_FREE = 0.8  # of the memory free at the start that one point may take


class Progress(Protocol):
    """What a sweep tells while it runs."""

    def start_group(self, number: int, total: int, group: Group, points: int) -> None:
        """A group of `points` begins."""
        ...

    def end_group(self, group: Group, rows: list[ResultRow], took_s: float) -> None:
        """Its rows are on disk."""
        ...


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A sweep before it runs: its groups, and the points that will not fit and why.

    `memory` is whether each point's memory is measured, in a pass of its own.
    """

    name: str
    preset: Preset
    device: Device
    groups: tuple[Group, ...]
    memory_limit_bytes: int
    memory: bool
    skipped: Mapping[tuple[str | int | bool, ...], str]

    def configuration(self) -> dict[str, Any]:
        """What a resumed run must share with this one."""
        users = {p.variant: p.user.record() for g in self.groups for p in g.points if p.user}
        return {
            "preset": self.name,
            "grids": msgspec.to_builtins(self.preset.grids),
            "timing": msgspec.to_builtins(self.preset.timing),
            "time_limit_s": self.preset.time_limit_s,
            "device": self.device.name,
            **({} if self.memory else {"memory": False}),
            **({"user_variants": list(users.values())} if users else {}),
        }


def find_device(wanted: str) -> Device:
    """The device to sweep on, described by a child process.

    Raises:
        MachineError: torch is not installed, or there is no such device.
    """
    if importlib.util.find_spec("torch") is None:
        raise missing_extra("torch", "bench")
    ended = run_isolated(worker.probe, wanted)
    if ended.failed:
        raise MachineError(
            f"--device {wanted}: {ended.reason.removeprefix('RuntimeError: ')}",
            hint="`attnbench doctor` shows what this machine has; --device cpu works anywhere.",
        )
    assert isinstance(ended.result, Device)
    return ended.result


def expected_s(plan: Plan) -> dict[str, float]:
    """Seconds that each group, by its label, should take at the rate that this device shows now.

    Raises:
        MachineError: the device cannot multiply two matrices.
    """
    ended = run_isolated(expect.probe_flops_per_s, plan.device.type)
    if ended.failed:
        raise MachineError(f"{plan.device.name}: {ended.reason}")
    return {
        group.label: expect.group_s(
            group, plan.preset.timing, device_type=plan.device.type, flops_per_s=ended.result
        )
        for group in plan.groups
    }


def make_plan(
    name: str,
    preset: Preset,
    groups: tuple[Group, ...],
    device: Device,
    memory_limit_bytes: int | None,
    *,
    memory: bool = True,
) -> Plan:
    """Decide, before anything runs, which points are predicted not to fit."""
    limit = memory_limit_bytes or int(_SHARE_OF_FREE * device.free_bytes)
    skipped = {}
    for point in (p for group in groups for p in group.points):
        needed = predicted_bytes(point)
        if needed > limit:
            skipped[point.key] = (
                f"predicted to need {format_gib(needed)}; {format_gib(limit)} may be used"
            )
    return Plan(
        name=name,
        preset=preset,
        device=device,
        groups=groups,
        memory_limit_bytes=limit,
        memory=memory,
        skipped=skipped,
    )


def run_sweep(plan: Plan, folder: Path, *, resume: bool, progress: Progress) -> list[ResultRow]:
    """Run every group of `plan` that the folder has no rows of; answer all rows.

    Raises:
        UserError: the folder cannot be used, see `open_journal`; or its points were timed
            with other code.
    """
    versions = environment.versions()
    gpu = _gpu(plan.device)
    bench = Bench(
        device=plan.device,
        timing=plan.preset.timing,
        versions=versions,
        roofs=_roofs(gpu),
        gpu=gpu,
    )
    with open_journal(folder, plan.configuration(), resume=resume) as journal:
        _require_same_code(plan, bench, journal)
        journal.write_run(
            attnbench_version=__version__,
            environment={
                "device": msgspec.to_builtins(plan.device),
                "versions": versions,
                "system": environment.system(),
            },
            memory_limit_bytes=plan.memory_limit_bytes,
            started=journal.run.get("started", _now()),
            ended=None,
        )
        for number, group in enumerate(plan.groups, start=1):
            _finish_group(plan, bench, journal, group, number, progress)
        journal.write_run(ended=_now())
        return journal.rows


def _require_same_code(plan: Plan, bench: Bench, journal: Journal) -> None:
    """One run is of one code: what it has timed and what is left must compare.

    Raises:
        UserError: a point was timed with another.
    """
    now = {
        point.key: recipe(point, bench.timing, bench.versions)
        for group in plan.groups
        for point in group.points
    }
    timed = [row for row in journal.rows if row.recipe is not None]
    others = [row for row in timed if row.recipe != now.get(row.key)]
    if others:
        raise UserError(
            f"run folder {journal.folder}: {len(others)} of {len(timed)} points were timed with"
            f" other code, or another torch, triton or Python; the first is {others[0].label}",
            hint="Name another folder with --run-dir, or resume with the code it was timed with.",
        )


def _finish_group(
    plan: Plan, bench: Bench, journal: Journal, group: Group, number: int, progress: Progress
) -> None:
    finished = journal.finished()
    left = tuple(point for point in group.points if point.key not in finished)
    if not left:
        return
    progress.start_group(number, len(plan.groups), group, len(left))
    start = time.monotonic()
    rest = msgspec.structs.replace(group, points=left)
    settled = settle(plan, rest)
    outcomes = settled.outcomes
    made = rows.group_rows(rest, outcomes, settled.timer, bench)
    journal.append(
        made,
        {
            point.key: outcomes[i].rounds_ms
            for i, point in enumerate(left)
            if outcomes[i].status is Status.OK
        },
    )
    took = time.monotonic() - start
    spent = {**settled.spent_s, "wall_s": took}
    seen = {"group": group.label, "before_and_after": msgspec.to_builtins(settled.readings)}
    journal.write_run(
        **{phase: journal.run.get(phase, 0.0) + seconds for phase, seconds in spent.items()},
        telemetry=[*journal.run.get("telemetry", []), seen],
    )
    progress.end_group(group, made, took)


def _gpu(device: Device) -> HardwareSpec | None:
    if device.type != "cuda":
        return None
    return find_by_device_name(device.name, device.memory_bytes)


def _roofs(spec: HardwareSpec | None) -> dict[str, Roof]:
    if spec is None:
        return {}
    return {
        dtype.value: Roof(
            flops_per_s=spec.peak_flops_per_s(dtype), bytes_per_s=spec.bandwidth_bytes_per_s
        )
        for dtype in Dtype
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
